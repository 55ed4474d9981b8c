/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files of what is wanted: what they may say, and where the mistakes in them are. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "proto/document.h"
#include "proto/manifest.h"
#include "support/test.h"

static struct manifest read_text(const char *text) {
    struct manifest m;

    manifest_init(&m);
    manifest_read(&m, "web.yaml", text, strlen(text));
    return m;
}

static json_t *spec_of(const char *text) {
    struct manifest m = read_text(text);
    json_t *spec;

    if (m.count != 1 || json_array_size(m.mistakes))
        fail_msg("%s: %s", text, json_string_value(json_array_get(m.mistakes, 0)));
    spec = json_incref(m.item[0].spec);
    manifest_done(&m);
    return spec;
}

static void check_spec(const char *text, const char *wanted) {
    json_t *spec = spec_of(text), *v = json_loads(wanted, 0, NULL);

    assert_non_null(v);
    if (!json_equal(spec, v))
        fail_msg("%s: %s instead of %s", text, json_dumps(spec, 0), wanted);
    json_decref(spec);
    json_decref(v);
}

static void check_mistake(const char *text, const char *sentence) {
    struct manifest m = read_text(text);
    const char *first = json_string_value(json_array_get(m.mistakes, 0));

    if (!first || !strstr(first, sentence))
        fail_msg("%s: '%s' instead of '%s'", text, first ? first : "no mistake", sentence);
    manifest_done(&m);
}

static void values_are_what_their_fields_say(void **state) {
    check_spec("kind: vm\nname: web\nspec:\n  memory: 512M\n  power: on\n  append: 1.10\n",
               "{\"memory\": 536870912, \"power\": \"on\", \"append\": \"1.10\"}");
    check_spec("kind: vm\nname: web\nspec: {forward: [8080:80, 'udp:53:53'], memory: 536870912}\n",
               "{\"memory\": 536870912, \"forward\": [\"8080:80\", \"udp:53:53\"]}");
    check_spec("kind: vm\nname: web\nspec:\n  user_data: |\n    #cloud-config\n    a: 1\n",
               "{\"user_data\": \"#cloud-config\\na: 1\\n\"}");
    check_spec("kind: snapshot\nname: web.a\nspec: {vm: web, memory: False}\n",
               "{\"vm\": \"web\", \"memory\": false}");
    check_spec("kind: vm\nname: '123'\nspec:\n", "{}");
    check_spec("kind: image\nname: own\nspec: {source: /srv/x}", "{\"source\": \"/srv/x\"}");
}

static void json_is_taken_as_it_is(void **state) {
    struct manifest m = read_text(
        "{\"kind\": \"vm\",\n\t\"name\": \"web\",\n\"spec\": {\"append\": "
        "\"\\ud83d\\ude00\\u00e9\\/\"}}\n"
        "{\"kind\":\"vm\",\"name\":\"b\"} {\"kind\":\"image\",\"name\":\"c\"}\n"
        "[{\"kind\":\"vm\",\"name\":\"d\",\"id\":\"vm-1\",\"status\":{\"state\":\"running\"}}]");

    if (json_array_size(m.mistakes))
        fail_msg("%s", json_string_value(json_array_get(m.mistakes, 0)));
    assert_int_equal(m.count, 4);
    assert_string_equal(json_string_value(json_object_get(m.item[0].spec, "append")),
                        "\xf0\x9f\x98\x80\xc3\xa9/");
    assert_string_equal(m.item[3].name, "d");
    manifest_done(&m);
}

static void mistakes_have_their_place_and_all_are_told(void **state) {
    struct manifest m =
        read_text("kind: vm\nname: web\nspec:\n  memory: 1\n  power: yes\n  memry: 2\n"
                  "---\nkind: nonsense\nname: x\n");

    assert_int_equal(json_array_size(m.mistakes), 4);
    assert_non_null(
        strstr(json_string_value(json_array_get(m.mistakes, 0)), "web.yaml:4: 'memory' c"));
    assert_non_null(
        strstr(json_string_value(json_array_get(m.mistakes, 1)), "web.yaml:5: 'power' m"));
    assert_non_null(
        strstr(json_string_value(json_array_get(m.mistakes, 2)), "web.yaml:6: a machine has"));
    assert_non_null(
        strstr(json_string_value(json_array_get(m.mistakes, 3)), "web.yaml:8: 'nonsense'"));
    manifest_done(&m);
    check_mistake("kind: vm\nspec: {}\n", "web.yaml:1: 'name' is missing");
    check_mistake("name: web\n", "web.yaml:1: 'kind' is missing: one of vm");
    check_mistake("kind: vm\nname: Web\n", "web.yaml:2: 'Web' cannot be");
    check_mistake("kind: vm\nname: web\nspec:\n  forward: 80\n", "web.yaml:4: 'forward'");
    check_mistake("kind: vm\nname: web\nspec:\n  append:\n", "web.yaml:4: 'append' has no value");
    check_mistake("kind: vm\nname: web\nspec: {memory: 1G, memory: 2G}\n",
                  "web.yaml:3: 'memory' stands twice");
    check_mistake("kind: vm\nname: web\n---\nkind: vm\nname: web\n",
                  "web.yaml:4: the machine 'web' stands in web.yaml:1");
    check_mistake("kind: vm\nname: web\nmetadata: {}\n", "web.yaml:3: there is no 'metadata'");
    check_mistake("kind: vm\n name: web\n", "web.yaml:2: it is no valid YAML");
    check_mistake("kind: vm\nname: web\nspec: {cpus: !!python/object:os.system x}\n",
                  "web.yaml:3: tags");
    check_mistake("kind: job\nname: x\n", "web.yaml:1: 'job' is no kind");
    check_mistake("just words", "web.yaml:1: a document must be a map");
    check_mistake("kind: vm\nname: \"a\\0b\"\n", "web.yaml:2: a text holds a zero byte");
}

static void nothing_is_no_document(void **state) {
    static const char *const texts[] = {"", "\n# words\n", "---\n---\n", "null", "[]"};

    for (unsigned i = 0; i < 5; i++) {
        struct manifest m = read_text(texts[i]);

        assert_int_equal(m.count, 0);
        assert_int_equal(json_array_size(m.mistakes), 0);
        manifest_done(&m);
    }
}

static void aliases_and_merges_say_what_they_stand_for(void **state) {
    struct manifest m =
        read_text("- kind: vm\n  name: a\n  spec: &base\n    memory: 1G\n    cpus: 1\n"
                  "- kind: vm\n  name: b\n  spec:\n    <<: *base\n    memory: 2G\n"
                  "- kind: vm\n  name: c\n  spec: *base\n");

    assert_int_equal(m.count, 3);
    assert_int_equal(json_array_size(m.mistakes), 0);
    assert_int_equal(json_integer_value(json_object_get(m.item[1].spec, "memory")), 2ll << 30);
    assert_int_equal(json_integer_value(json_object_get(m.item[1].spec, "cpus")), 1);
    assert_true(json_equal(m.item[0].spec, m.item[2].spec));
    manifest_done(&m);
    check_mistake("kind: vm\nname: web\nspec: &a {x: *a}\n", "web.yaml:3: an alias stands in what");
    check_mistake("kind: vm\nname: web\nspec: *b\n", "web.yaml:3: an alias has no anchor");
}

static void small_files_do_not_become_large(void **state) {
    struct buf bomb = {0}, deep = {0}, wide = {0};

    buf_printf(&bomb, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 9; i++) {
        buf_printf(&bomb, "a%d: &a%d [", i, i);
        for (int k = 0; k < 10; k++)
            buf_printf(&bomb, "%s*a%d", k ? "," : "", i - 1);
        buf_printf(&bomb, "]\n");
    }
    buf_put(&bomb, "", 1);
    check_mistake((const char *)bomb.data, "aliases included");
    for (int i = 0; i < 10000; i++)
        buf_printf(&deep, "[");
    buf_put(&deep, "", 1);
    check_mistake((const char *)deep.data, "nested too deep");
    for (int i = 0; i < 5000; i++)
        buf_printf(&wide, "a%d: 1\n", i);
    buf_put(&wide, "", 1);
    check_mistake((const char *)wide.data, "more members than are taken");
    buf_done(&bomb);
    buf_done(&deep);
    buf_done(&wide);
}

static void a_file_may_be_too_large(void **state) {
    char *text = malloc(DOCUMENT_BYTES + 2);
    struct manifest m;

    memset(text, ' ', DOCUMENT_BYTES + 2);
    manifest_init(&m);
    manifest_read(&m, "x", text, DOCUMENT_BYTES + 1);
    assert_non_null(strstr(json_string_value(json_array_get(m.mistakes, 0)), "larger than"));
    manifest_done(&m);
    free(text);
}

static void what_others_need_comes_first(void **state) {
    struct manifest m = read_text("- {kind: snapshot, name: web.a, spec: {vm: web}}\n"
                                  "- {kind: vm, name: web}\n- {kind: vm, name: db}\n"
                                  "- {kind: image, name: tiny}\n");

    manifest_order(&m);
    assert_int_equal(m.count, 4);
    assert_string_equal(m.item[0].name, "tiny");
    assert_string_equal(m.item[1].name, "web");
    assert_string_equal(m.item[2].name, "db");
    assert_string_equal(m.item[3].name, "web.a");
    assert_ptr_equal(manifest_find(&m, "vm", "db"), &m.item[2]);
    manifest_done(&m);
}

static void paths_are_seen_from_the_file(void **state) {
    struct manifest m;
    const char *text = "{kind: image, name: own, spec: {file: disk.raw, kernel: /boot/k}}";

    manifest_init(&m);
    manifest_read(&m, "/srv/files/own.yaml", text, strlen(text));
    assert_int_equal(m.count, 1);
    assert_string_equal(json_string_value(json_object_get(m.item[0].spec, "file")),
                        "/srv/files/disk.raw");
    assert_string_equal(json_string_value(json_object_get(m.item[0].spec, "kernel")), "/boot/k");
    manifest_done(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_what_their_fields_say),
        cmocka_unit_test(json_is_taken_as_it_is),
        cmocka_unit_test(mistakes_have_their_place_and_all_are_told),
        cmocka_unit_test(nothing_is_no_document),
        cmocka_unit_test(aliases_and_merges_say_what_they_stand_for),
        cmocka_unit_test(small_files_do_not_become_large),
        cmocka_unit_test(a_file_may_be_too_large),
        cmocka_unit_test(what_others_need_comes_first),
        cmocka_unit_test(paths_are_seen_from_the_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
