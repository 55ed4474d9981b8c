/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Declarations of resources: they are sound, and values are held against them. */
#include <errno.h>
#include <regex.h>
#include <string.h>

#include "proto/failure.h"
#include "proto/resource.h"
#include "proto/units.h"
#include "support/test.h"

static void check_field(const char *where, const struct field *f) {
    struct error err = {0};
    regex_t re;

    assert_non_null(f->help);
    if (f->help[strlen(f->help) - 1] == '.')
        fail_msg("%s.%s: the help of a field has no full stop", where, f->name);
    if (f->type != FIELD_STRING) /* which offers some */
        assert_int_equal(f->type == FIELD_CHOICE, f->choices != NULL);
    if (f->pattern) {
        assert_int_equal(regcomp(&re, f->pattern, REG_EXTENDED | REG_NOSUB), 0);
        regfree(&re);
    }
    if (f->standard) {
        json_t *v = json_loads(f->standard, JSON_DECODE_ANY, NULL);

        assert_non_null(v);
        if (field_check(f, v, &err) < 0)
            fail_msg("%s.%s: its standard value: %s", where, f->name, err.text);
        json_decref(v);
    }
}

static void declarations_are_sound(void **state) {
    for (const struct resource *const *p = resources; *p; p++) {
        const struct resource *r = *p;

        assert_ptr_equal(resource_find(r->name), r);
        assert_ptr_equal(resource_by_plural(r->plural), r);
        for (const struct field *f = r->fields; f->type != FIELD_END; f++) {
            check_field(r->name, f);
            assert_ptr_equal(field_find(r->fields, f->name), f); /* no two of a name */
            if (!r->plain)
                assert_true(f->place != FIELD_META);
        }
        for (const struct operation *o = r->ops; o->shape != OP_END; o++) {
            assert_ptr_equal(resource_op(r, o->name), o);
            assert_true(o->status >= 100 && o->status < 300);
            /* every permission is of its resource */
            assert_memory_equal(o->permission, r->name, strlen(r->name));
            assert_int_equal(o->permission[strlen(r->name)], '.');
            for (const struct field *f = o->args; f->type != FIELD_END; f++)
                check_field(o->name, f);
        }
    }
    assert_null(resource_find("nonsense"));
    assert_null(resource_by_plural("vm"));
}

static int create(const char *text, char *field, char *why) {
    json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);
    struct error err = {0};
    int r;

    assert_non_null(v);
    r = resource_check_create(resource_find("vm"), v, field, &err);
    strcpy(why, err.text);
    json_decref(v);
    return r;
}

static void creations_are_held_against_the_declaration(void **state) {
    static const struct {
        const char *text, *field, *why;
    } bad[] = {
        {"[]", "", "must be a JSON object"},
        {"{}", "name", "missing"},
        {"{\"name\":\"Web\"}", "name", "small letters"},
        {"{\"name\":\"-a\"}", "name", "small letters"},
        {"{\"name\":7}", "name", "must be a string"},
        {"{\"name\":\"a\",\"spec\":{\"firmware\":\"coreboot\"}}", "spec.firmware", "what boots it"},
        {"{\"name\":\"a\",\"spec\":7}", "spec", "an object"},
        {"{\"name\":\"a\",\"tenant\":\"x\",\"spec\":{}}", "tenant", "cannot be set"},
        {"{\"name\":\"a\",\"spec\":{\"image\":\"x\",\"nonsense\":1}}", "spec.nonsense", "no field"},
        {"{\"name\":\"a\",\"spec\":{\"image\":\"x\",\"state\":\"running\"}}", "spec.state",
         "no field"},
        {"{\"name\":\"a\",\"spec\":{\"image\":\"x\",\"memory\":3}}", "spec.memory", "16M to 128G"},
        {"{\"name\":\"a\",\"spec\":{\"image\":\"x\",\"memory\":\"1G\"}}", "spec.memory",
         "number of bytes"},
        {"{\"name\":\"a\",\"spec\":{\"image\":\"x\",\"cpus\":1.5}}", "spec.cpus", "1 to 32"},
        {"{\"name\":\"a\",\"spec\":{\"image\":\"x\",\"cpu\":\"warp\"}}", "spec.cpu", "one of"},
        {"{\"name\":\"a\",\"spec\":{\"image\":\"x\",\"forward\":[\"80\"]}}", "spec.forward",
         "HOSTPORT"},
        {"{\"name\":\"a\",\"spec\":{\"image\":\"x\",\"forward\":\"80:80\"}}", "spec.forward",
         "array"},
    };
    char field[FIELD_PATH_MAX], why[600];

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(create(bad[i].text, field, why), -EINVAL);
        assert_string_equal(field, bad[i].field);
        if (!strstr(why, bad[i].why))
            fail_msg("%s: '%s' does not say '%s'", bad[i].text, why, bad[i].why);
    }
    assert_int_equal(create("{\"name\":\"a.b-2\",\"spec\":{\"image\":\"x\",\"memory\":67108864,"
                            "\"forward\":[\"8080:80\",\"udp:0.0.0.0:53:53\"]}}",
                            field, why),
                     0);
}

static void what_is_required_is_missed(void **state) {
    json_t *v = json_pack("{s:s}", "name", "a");
    char field[FIELD_PATH_MAX];
    struct error err = {0};

    assert_int_equal(resource_check_create(resource_find("volume"), v, field, &err), -EINVAL);
    assert_string_equal(field, "spec.size");
    assert_non_null(strstr(err.text, "missing"));
    json_decref(v);
}

static void a_word_is_not_taken_for_the_path_of_a_file(void **state) {
    const struct field *f = field_find(resource_find("vm")->fields, "firmware");

    assert_true(field_is_host_file(f));
    assert_true(field_is_word(f, "bios"));
    assert_false(field_is_word(f, "bios.bin"));
    assert_false(field_is_word(f, "/bios"));
    f = field_find(resource_find("image")->fields, "kernel");
    assert_true(field_is_host_file(f));
    assert_false(field_is_word(f, "none"));
}

static void updates_change_only_what_may_change(void **state) {
    const struct resource *vm = resource_find("vm");
    json_t *good = json_pack("{s:{s:I}}", "spec", "memory", (json_int_t)1 << 30);
    json_t *fixed = json_pack("{s:{s:s}}", "spec", "image", "other");
    json_t *more = json_pack("{s:{}, s:s}", "spec", "name", "x");
    char field[FIELD_PATH_MAX];
    struct error err = {0};

    assert_int_equal(resource_check_update(vm, good, field, &err), 0);
    assert_int_equal(resource_check_update(vm, fixed, field, &err), -EINVAL);
    assert_string_equal(field, "spec.image");
    assert_non_null(strstr(err.text, "changed later"));
    assert_int_equal(resource_check_update(vm, more, field, NULL), -EINVAL);
    json_decref(good);
    json_decref(fixed);
    json_decref(more);
}

static void what_is_not_given_gets_its_standard_value(void **state) {
    json_t *spec = json_pack("{s:i}", "memory", 5);

    resource_fill(resource_find("vm"), spec);
    assert_int_equal(json_integer_value(json_object_get(spec, "memory")), 5);
    assert_int_equal(json_integer_value(json_object_get(spec, "cpus")), 1);
    assert_string_equal(json_string_value(json_object_get(spec, "power")), "off");
    assert_null(json_object_get(spec, "disk"));
    json_decref(spec);
}

static void words_become_values_of_their_type(void **state) {
    const struct resource *vm = resource_find("vm");
    json_t *v = field_read(field_find(vm->fields, "memory"), "1.5G", NULL);

    assert_int_equal(json_integer_value(v), 3ll << 29);
    json_decref(v);
    v = field_read(field_find(vm->fields, "forward"), "1:2,udp:3:4", NULL);
    assert_int_equal(json_array_size(v), 2);
    json_decref(v);
    assert_null(field_read(field_find(vm->fields, "memory"), "lots", NULL));
    assert_null(field_read(field_find(vm->fields, "cpus"), "0x2", NULL));
    assert_null(field_read(field_find(vm->fields, "forward"), "1:2,,3:4", NULL));
}

static void sizes_are_read_and_written_as_people_do(void **state) {
    static const struct {
        const char *text;
        int64_t bytes;
    } good[] = {{"0", 0},
                {"4096", 4096},
                {"1k", 1024},
                {"512M", 512 << 20},
                {"1.5G", 3ll << 29},
                {"2GiB", 2ll << 30},
                {"1TB", 1ll << 40}};
    static const char *const bad[] = {"",   "x",   "-1",        "1e9", "0x10",
                                      "1X", "1GG", "99999999P", "nan"};
    char out[32];
    int64_t n;

    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(units_read_size(good[i].text, &n, NULL), 0);
        assert_int_equal(n, good[i].bytes);
    }
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(units_read_size(bad[i], &n, NULL), -EINVAL);
    units_put_size(3ll << 29, out, sizeof(out));
    assert_string_equal(out, "1.5G");
    units_put_size(512 << 20, out, sizeof(out));
    assert_string_equal(out, "512M");
    units_put_size(1023, out, sizeof(out));
    assert_string_equal(out, "1023");
}

static void times_go_there_and_back(void **state) {
    char text[UNITS_TIME_SIZE], ago[40];
    int64_t ms;

    units_put_time(1796000000123, text);
    assert_string_equal(text, "2026-11-30T00:53:20.123Z");
    assert_int_equal(units_read_time(text, &ms, NULL), 0);
    assert_int_equal(ms, 1796000000123);
    assert_int_equal(units_read_time("2026-11-29", &ms, NULL), -EINVAL);
    assert_int_equal(units_read_time("2026-11-30T00:53:20.123Zx", &ms, NULL), -EINVAL);
    units_put_ago(0, 90 * 60000, ago, sizeof(ago));
    assert_string_equal(ago, "90 min ago");
    units_put_ago(5000, 0, ago, sizeof(ago));
    assert_string_equal(ago, "in 5 s");
    units_put_ago(0, 999, ago, sizeof(ago));
    assert_string_equal(ago, "just now");
}

static void a_time_on_a_command_line_may_be_a_span_from_now(void **state) {
    static const struct {
        const char *text;
        int64_t seconds;
    } good[] = {{"0s", 0},      {"45s", 45},         {"30m", 1800},        {"30min", 1800},
                {"12h", 43200}, {"30d", 30 * 86400}, {"4w", 4 * 7 * 86400}};
    static const char *const bad[] = {"", "30", "d", "-1d", "1.5h", "1y", "30dd", "99999999s"};
    const struct field *expires = field_find(resource_find("token")->fields, "expires");
    int64_t ms, now = units_now_ms();
    json_t *v;

    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(units_read_span(good[i].text, &ms, NULL), 0);
        assert_int_equal(ms, good[i].seconds * 1000);
        v = field_read(expires, good[i].text, NULL);
        assert_int_equal(units_read_time(json_string_value(v), &ms, NULL), 0);
        assert_in_range(ms, now + good[i].seconds * 1000, now + good[i].seconds * 1000 + 60000);
        json_decref(v);
    }
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(units_read_span(bad[i], &ms, NULL), -EINVAL);
        assert_null(field_read(expires, bad[i], NULL));
    }
    v = field_read(expires, "2036-11-30T00:53:20.123Z", NULL);
    assert_string_equal(json_string_value(v), "2036-11-30T00:53:20.123Z");
    json_decref(v);
}

static void failures_are_found_by_their_word(void **state) {
    for (enum failure f = FAILURE_INVALID; f <= FAILURE_TIMEOUT; f++) {
        assert_int_equal(failure_find(failure_word(f)), f);
        assert_in_range(failure_status(f), 400, 599);
        assert_in_range(failure_exit_code(f), 1, 7);
    }
    assert_int_equal(failure_find("nonsense"), FAILURE_FAILED);
    assert_int_equal(failure_find(NULL), FAILURE_FAILED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(declarations_are_sound),
        cmocka_unit_test(creations_are_held_against_the_declaration),
        cmocka_unit_test(what_is_required_is_missed),
        cmocka_unit_test(a_word_is_not_taken_for_the_path_of_a_file),
        cmocka_unit_test(updates_change_only_what_may_change),
        cmocka_unit_test(what_is_not_given_gets_its_standard_value),
        cmocka_unit_test(words_become_values_of_their_type),
        cmocka_unit_test(sizes_are_read_and_written_as_people_do),
        cmocka_unit_test(times_go_there_and_back),
        cmocka_unit_test(a_time_on_a_command_line_may_be_a_span_from_now),
        cmocka_unit_test(failures_are_found_by_their_word),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
