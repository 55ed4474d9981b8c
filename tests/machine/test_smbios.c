/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the SMBIOS tables: they can be walked, and say what was set. */
#include "machine/smbios.h"

#include "machine/map.h"
#include "support/test.h"

/* The n-th structure of a type, NULL if there is none; the walk must end exactly at the end. */
static const uint8_t *find(const struct buf *b, unsigned type, unsigned n) {
    const uint8_t *found = NULL;
    size_t at = 0;

    while (at < b->len) {
        const uint8_t *s = b->data + at;

        if (s[0] == type && n-- == 0)
            found = s;
        at += s[1];
        while (b->data[at] || b->data[at + 1])
            at++;
        at += 2;
        assert_true(at <= b->len);
    }
    assert_int_equal(at, b->len);
    return found;
}

static const char *text(const uint8_t *s, unsigned field) {
    const char *p = (const char *)s + s[1];

    for (unsigned n = s[field]; n > 1; n--)
        p += strlen(p) + 1;
    return s[field] ? p : NULL;
}

static void settings_are_where_the_standard_says(void **state) {
    struct smbios_config c = {.cpus = 3, .memory = 40ull << 30};
    uint8_t anchor[SMBIOS_ANCHOR_SIZE];
    struct buf b = {0};

    c.setting[c.settings++] = (struct smbios_setting){1, "serial", "A-17"};
    c.setting[c.settings++] =
        (struct smbios_setting){1, "uuid", "00112233-4455-6677-8899-aabbccddeeff"};
    c.setting[c.settings++] = (struct smbios_setting){11, "value", "one"};
    c.setting[c.settings++] = (struct smbios_setting){11, "value", "two"};
    smbios_build(&c, &b, anchor);
    assert_string_equal(text(find(&b, 1, 0), 0x07), "A-17");
    assert_string_equal(text(find(&b, 1, 0), 0x05), "Virtual Machine");
    assert_memory_equal(find(&b, 1, 0) + 8, "\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99", 10);
    assert_int_equal(find(&b, 11, 0)[4], 2);
    assert_string_equal(text(find(&b, 11, 0), 4), "two");
    assert_non_null(find(&b, 4, 2));
    assert_null(find(&b, 4, 3));
    assert_int_equal(load_le32(find(&b, 17, 2) + 0x0c) & 0xffff,
                     8 << 10); /* MiB of the last module */
    assert_non_null(find(&b, 127, 0));
    assert_memory_equal(anchor, "_SM3_", 5);
    assert_int_equal(load_le32(anchor + 12), b.len);
    buf_done(&b);
}

static void bad_settings_are_named(void **state) {
    struct error err = {0};

    assert_int_equal(smbios_check(1, "serial", "x", &err), 0);
    assert_true(smbios_check(1, "colour", "x", &err) < 0);
    assert_non_null(strstr(err.text, "manufacturer"));
    err = (struct error){0};
    assert_true(smbios_check(9, "serial", "x", &err) < 0);
    assert_non_null(strstr(err.text, "cannot be set"));
    err = (struct error){0};
    assert_true(smbios_check(1, "uuid", "00112233-4455-6677-8899-aabbccddeefg", &err) < 0);
    assert_true(smbios_check(1, "uuid", "0011", &err) < 0);
    assert_non_null(strstr(err.text, "no UUID"));
}

static void the_anchor_in_memory_sums_to_zero(void **state) {
    struct smbios_config c = {.cpus = 32, .memory = 128ull << 30};
    uint8_t anchor[SMBIOS_ANCHOR_SIZE], sum = 0;
    struct error err = {0};
    struct mem mem;

    assert_int_equal(mem_init(&mem, &err), 0);
    assert_int_equal(mem_add(&mem, 0xc0000, 0x40000, false, &err), 0);
    assert_int_equal(smbios_write(&mem, &c, MAP_SMBIOS, MAP_1M - MAP_SMBIOS, &err), 0);
    mem_read(&mem, MAP_SMBIOS, anchor, sizeof(anchor));
    for (unsigned i = 0; i < sizeof(anchor); i++)
        sum = (uint8_t)(sum + anchor[i]);
    assert_int_equal(sum, 0);
    assert_int_equal(load_le64(anchor + 16), MAP_SMBIOS + 32);
    assert_true(smbios_write(&mem, &c, MAP_SMBIOS, 100, &err) < 0);
    mem_done(&mem);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_are_where_the_standard_says),
        cmocka_unit_test(bad_settings_are_named),
        cmocka_unit_test(the_anchor_in_memory_sums_to_zero),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
