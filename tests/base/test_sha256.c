/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SHA-256: the examples of FIPS 180-4, and lengths around a block against coreutils' sha256sum. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "support/test.h"

static void expect(const char *text, size_t n, const char *sum) {
    char out[SHA256_TEXT];
    struct sha256 s;

    sha256_begin(&s);
    sha256_put(&s, text, n);
    sha256_end_text(&s, out);
    assert_string_equal(out, sum);
}

static void the_examples_of_the_standard(void **state) {
    static const char two[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";

    expect("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect(two, strlen(two), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

static void any_length_in_pieces_as_sha256sum_has_it(void **state) {
    char text[301];

    memset(text, 'a', sizeof(text));
    for (size_t n = 1; n < sizeof(text); n += 7) {
        char command[100], theirs[SHA256_TEXT] = {0}, ours[SHA256_TEXT];
        struct sha256 s;
        FILE *f;

        snprintf(command, sizeof(command), "head -c %zu /dev/zero | tr '\\0' a | sha256sum", n);
        f = popen(command, "r");
        assert_non_null(f);
        assert_non_null(fgets(theirs, sizeof(theirs), f));
        pclose(f);
        sha256_begin(&s);
        for (size_t at = 0; at < n; at += 50)
            sha256_put(&s, text + at, n - at < 50 ? n - at : 50);
        sha256_end_text(&s, ours);
        assert_string_equal(ours, theirs);
    }
}

static void both_ways_are_one(void **state) {
    enum { SIZE = 10000 };
    uint8_t *data = malloc(SIZE);

    for (unsigned i = 0; i < SIZE; i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
    for (size_t n = 0; n < SIZE; n = n * 2 + 37) {
        char sum[2][SHA256_TEXT];

        for (unsigned plain = 0; plain < 2; plain++) {
            struct sha256 s;

            sha256_plain = plain;
            sha256_begin(&s);
            sha256_put(&s, data, n / 3);
            sha256_put(&s, data + n / 3, n - n / 3);
            sha256_end_text(&s, sum[plain]);
        }
        assert_string_equal(sum[0], sum[1]);
    }
    sha256_plain = false;
    free(data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_examples_of_the_standard),
        cmocka_unit_test(any_length_in_pieces_as_sha256sum_has_it),
        cmocka_unit_test(both_ways_are_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
