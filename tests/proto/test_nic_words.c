/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Network interfaces as people write them: what fits the pattern is read and written again. */
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "proto/nic_words.h"
#include "support/test.h"

static void check(const char *text, const char *network, const char *model, const char *mac) {
    const char *at = text;
    struct nic_words w;
    char again[NIC_TEXT];

    assert_true(nic_words_next(&at, &w));
    assert_string_equal(at, "");
    assert_string_equal(w.network, network);
    assert_string_equal(w.model, model);
    assert_string_equal(w.mac, mac);
    nic_words_print(&w, again);
    assert_int_equal(strcasecmp(again, text), 0);
}

static void words_are_read(void **state) {
    check("user", "user", "", "");
    check("lan-1.x/e1000e", "lan-1.x", "e1000e", "");
    check("lan/52:54:00:AB:cd:ef", "lan", "", "52:54:00:ab:cd:ef");
    check("lan/virtio/52:54:00:ab:cd:ef", "lan", "virtio", "52:54:00:ab:cd:ef");
}

static void lists_are_walked(void **state) {
    static const char list[] = "user,lan/e1000e,dmz/02:00:00:00:00:01";
    struct nic_words w;

    assert_true(nic_words_at(list, 0, &w));
    assert_string_equal(w.network, "user");
    assert_true(nic_words_at(list, 2, &w));
    assert_string_equal(w.mac, "02:00:00:00:00:01");
    assert_false(nic_words_at(list, 3, &w));
    assert_false(nic_words_at("", 0, &w));
    assert_true(nic_words_find(list, "lan", &w));
    assert_string_equal(w.model, "e1000e");
    assert_false(nic_words_find(list, "la", &w));
    assert_false(nic_words_find(list, "e1000e", &w));
}

static void addresses_are_of_one_interface(void **state) {
    struct error e = {0};

    assert_int_equal(nic_mac_check("02:00:00:00:00:01", &e), 0);
    assert_true(nic_mac_check("03:00:00:00:00:01", &e) < 0);
    assert_true(nic_mac_check("ff:ff:ff:ff:ff:ff", &e) < 0);
    assert_true(nic_mac_check("00:00:00:00:00:00", &e) < 0);
}

/* Whatever the pattern lets through, and most of what it does not. */
static void anything_is_read_without_harm(void **state) {
    static const char letters[] = "ab0:/,-.e1";
    regex_t re;

    srand(1);
    assert_int_equal(regcomp(&re, "^" NIC_WORD "(," NIC_WORD "){0,7}$", REG_EXTENDED | REG_NOSUB),
                     0);
    for (int n = 0; n < 20000; n++) {
        char text[400];
        size_t len = (size_t)rand() % (sizeof(text) - 1);
        const char *at = text;
        struct nic_words w;
        unsigned words = 0;

        for (size_t i = 0; i < len; i++)
            text[i] = letters[(size_t)rand() % (sizeof(letters) - 1)];
        text[len] = 0;
        while (nic_words_next(&at, &w))
            words++;
        if (regexec(&re, text, 0, NULL, 0) == 0)
            assert_true(words > 0 && !*at);
    }
    regfree(&re);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_read),
        cmocka_unit_test(lists_are_walked),
        cmocka_unit_test(addresses_are_of_one_interface),
        cmocka_unit_test(anything_is_read_without_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
