/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names of OCI images: where the path ends, and what is no name. */
#include "proto/oci_ref.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/test.h"

#define DIGITS "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define DIGEST "sha256:" DIGITS

static int set_up(void **state) {
    static char folder[] = "/tmp/viv-ref-XXXXXX";

    *state = mkdtemp(folder);
    if (!*state || chdir(folder) < 0 || mkdir("layout", 0700) < 0)
        return -1;
    close(creat("image.tar", 0600));
    close(creat("with:colon.tar", 0600));
    close(creat("at@home", 0600));
    return 0;
}

static int tear_down(void **state) {
    unlink("image.tar");
    unlink("with:colon.tar");
    unlink("at@home");
    rmdir("layout");
    return chdir("/") < 0 ? -1 : rmdir(*state);
}

static void expect(const char *word, const char *path, const char *tag) {
    struct error e = {0};
    struct oci_ref r;

    assert_int_equal(oci_ref_parse(word, &r, &e), 0);
    assert_string_equal(r.path, path);
    assert_string_equal(r.tag, tag);
}

static void refuse(const char *word, const char *why) {
    struct error e = {0};
    struct oci_ref r;

    assert_int_equal(oci_ref_parse(word, &r, &e), -EINVAL);
    assert_int_equal(e.code, -EINVAL);
    assert_non_null(strstr(e.text, why));
}

static void a_word_is_one_by_its_prefix(void **state) {
    (void)state;
    assert_true(oci_ref_is("oci:x"));
    assert_true(oci_ref_is("oci-archive:x"));
    assert_true(oci_ref_is("docker-archive:x"));
    assert_false(oci_ref_is("oci"));
    assert_false(oci_ref_is("debian"));
    assert_false(oci_ref_is(""));
    assert_false(oci_ref_is("OCI:x"));
}

static void the_path_ends_where_there_is_a_file(void **state) {
    (void)state;
    expect("oci:image.tar", "image.tar", "");
    expect("image.tar", "image.tar", "");
    expect("oci:layout:v1", "layout", "v1");
    expect("docker-archive:image.tar:alpine:3.20", "image.tar", "alpine:3.20");
    expect("oci-archive:image.tar:registry.example:5000/a/b:1", "image.tar",
           "registry.example:5000/a/b:1");
    expect("oci:image.tar@" DIGEST, "image.tar", DIGEST);
    expect("oci:image.tar:v1@" DIGEST, "image.tar", DIGEST);
}

static void a_colon_or_an_at_may_be_of_the_path(void **state) {
    (void)state;
    expect("oci:with:colon.tar", "with:colon.tar", "");
    expect("oci:with:colon.tar:v1", "with:colon.tar", "v1");
    expect("oci:at@home", "at@home", "");
    expect("oci:at@home@" DIGEST, "at@home", DIGEST);
}

/* Whoever opens it then says what is missing, by its name. */
static void what_is_not_there_is_a_path_as_a_whole(void **state) {
    (void)state;
    expect("oci:missing.tar", "missing.tar", "");
    expect("oci:missing.tar:v1", "missing.tar:v1", "");
    expect("oci::", ":", "");
    expect("oci:@", "@", "");
}

static void what_is_no_name_is_refused(void **state) {
    static const char *const tags[] = {"",         " ",  "a b",  "a\nb", "a;b",
                                       "\xc3\xa4", "$x", "\x7f", "a\\b"};
    char word[100];

    (void)state;
    refuse("", "names no file");
    refuse("oci:", "names no file");
    refuse("docker-archive:", "names no file");
    for (unsigned i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
        snprintf(word, sizeof(word), "oci:image.tar:%s", tags[i]);
        refuse(word, "is no tag");
    }
}

static void what_is_no_digest_is_refused(void **state) {
    static const char *const words[] = {
        "",
        "sha256",
        "sha256:",
        "sha256:"
        "abc",
        DIGITS,
        DIGEST "0",
        "sha512:" DIGITS,
        "SHA256:" DIGITS,
        "sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
        "sha256:g123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        DIGEST "@" DIGEST,
    };
    char word[300];

    (void)state;
    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        assert_false(oci_is_digest(words[i]));
        snprintf(word, sizeof(word), "oci:image.tar@%s", words[i]);
        refuse(word, "is no digest");
    }
    assert_true(oci_is_digest(DIGEST));
}

static void lengths_are_bounded(void **state) {
    size_t n = PATH_MAX + 100;
    char *word = malloc(n + 1);

    (void)state;
    assert_non_null(word);
    memset(word, 'a', n);
    word[n] = 0;
    refuse(word, "names no file");
    memset(word, ':', n);
    refuse(word, "names no file");
    word[PATH_MAX - 1] = 0; /* the longest there is, and a colon each */
    expect(word, word, "");
    memset(word, 'a', n);
    memcpy(word, "image.tar:", 10);
    word[10 + OCI_TAG] = 0;
    refuse(word, "is no tag");
    word[10 + OCI_TAG - 1] = 0;
    expect(word, "image.tar", word + 10);
    free(word);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_word_is_one_by_its_prefix),
        cmocka_unit_test(the_path_ends_where_there_is_a_file),
        cmocka_unit_test(a_colon_or_an_at_may_be_of_the_path),
        cmocka_unit_test(what_is_not_there_is_a_path_as_a_whole),
        cmocka_unit_test(what_is_no_name_is_refused),
        cmocka_unit_test(what_is_no_digest_is_refused),
        cmocka_unit_test(lengths_are_bounded),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
