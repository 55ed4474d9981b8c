/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is left out of a serial line's log. */
#include <stdlib.h>
#include <string.h>

#include "host/console.h"
#include "support/test.h"

static void shows(const char *in, size_t n, const char *out) {
    uint8_t *text = malloc(n ? n : 1); /* of its own, so that reading beyond its end is seen */
    size_t left;

    memcpy(text, in, n);
    left = console_log_clean(text, n);
    assert_int_equal(left, strlen(out));
    assert_memory_equal(text, out, left);
    free(text);
}

#define SHOWS(in, out) shows(in, sizeof(in) - 1, out)

static void text_stays_and_controls_go(void **state) {
    SHOWS("", "");
    SHOWS("one\r\ntwo\tthree\n", "one\ntwo\tthree\n");
    SHOWS("a\bb\0c\x7f\x07", "abc");
    SHOWS("gr\xc3\xbc\xc3\x9f \xe2\x9c\x93 \xf0\x9f\x90\x84",
          "gr\xc3\xbc\xc3\x9f \xe2\x9c\x93 \xf0\x9f\x90\x84");
}

static void escape_sequences_go(void **state) {
    SHOWS("\x1b[0;32m OK \x1b[0m done", " OK  done");
    SHOWS("\x1b[?25lhidden\x1b[2J", "hidden");
    SHOWS("\x1b]0;title\x07text", "text");
    SHOWS("\x1b]52;c;c2VjcmV0\x1b\\text", "text");
    SHOWS("\x1bPq#0\x1b\\text", "text");
    SHOWS("\x1b(Btext\x1b=x", "textx");
    SHOWS("cut\x1b[0;3", "cut");
    SHOWS("cut\x1b", "cut");
    SHOWS("cut\x1b]0;never ends", "cut");
    SHOWS("new line\x1b[\ngoes on", "new line\ngoes on");
}

static void what_is_no_utf8_is_shown_as_such(void **state) {
    SHOWS("a\xff-", "a?-");
    SHOWS("\xc3", "?");
    SHOWS("\xe2\x9c", "??");
    SHOWS("\xc0\xaf", "??");
    SHOWS("\xed\xa0\x80", "???");
    SHOWS("\xc2\x9b;31m", "??;31m"); /* the CSI of C1 */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_stays_and_controls_go),
        cmocka_unit_test(escape_sequences_go),
        cmocka_unit_test(what_is_no_utf8_is_shown_as_such),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
