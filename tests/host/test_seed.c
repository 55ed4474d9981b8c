/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Seed disks: fsck.vfat finds nothing to say, mtools reads back what went in; and the texts for
 * cloud-init. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/cloud.h"
#include "host/seed.h"
#include "support/test.h"

static char folder[64];
static int folder_fd;

static int set_up(void **state) {
    snprintf(folder, sizeof(folder), "/tmp/viv-seed-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    folder_fd = open(folder, O_RDONLY | O_DIRECTORY);
    return folder_fd < 0 ? -1 : 0;
}

static int tear_down(void **state) {
    char command[100];

    close(folder_fd);
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

/* The output of a program, which must succeed. */
static size_t output_of(const char *command, uint8_t *out, size_t size) {
    FILE *f = popen(command, "r");
    size_t n;

    assert_non_null(f);
    n = fread(out, 1, size, f);
    assert_int_equal(pclose(f), 0);
    return n;
}

static void expect_same(const struct seed_file *f) {
    uint8_t *data = malloc(f->len + 1);
    char command[400];

    snprintf(command, sizeof(command), "mtype -i %s/disk ::%s", folder, f->name);
    assert_int_equal(output_of(command, data, f->len + 1), f->len);
    assert_memory_equal(data, f->data, f->len);
    free(data);
}

static void expect_good(const struct seed_file *files, unsigned n) {
    char command[200];
    uint8_t out[2000] = {0};
    struct error e = {0};

    assert_int_equal(seed_write(folder_fd, "disk", files, n, &e), 0);
    snprintf(command, sizeof(command), "fsck.vfat -n %s/disk", folder);
    output_of(command, out, sizeof(out) - 1);
    assert_null(strstr((char *)out, "irty"));
    for (unsigned i = 0; i < n; i++)
        expect_same(&files[i]);
}

static void files_of_many_sizes_are_read_back(void **state) {
    static const size_t sizes[] = {0, 1, 511, 512, 513, 5000, 70000};
    static const char *const names[] = {"user-data",     "meta-data",  "network-config",
                                        "thirteen-char", "a.b.c.JSON", "x",
                                        "fourteen-chars"};
    struct rng rng = rng_seed(1);
    uint8_t *data = malloc(70000);

    for (size_t i = 0; i < 70000; i++)
        data[i] = (uint8_t)rng_next(&rng);
    for (unsigned round = 0; round < 20; round++) {
        struct seed_file f[7];
        unsigned n = (unsigned)rng_below(&rng, 8);

        for (unsigned i = 0; i < n; i++)
            f[i] = (struct seed_file){names[i], data, sizes[rng_below(&rng, 7)]};
        expect_good(f, n);
    }
    free(data);
}

static void the_largest_disk_is_good_and_a_larger_one_refused(void **state) {
    char names[SEED_FILES][SEED_NAME + 1];
    uint8_t *data = calloc(1, SEED_BYTES + 1);
    struct seed_file f[SEED_FILES + 1] = {0}, one = {"x", data, SEED_BYTES + 1};
    struct error e = {0};

    for (unsigned i = 0; i < SEED_FILES; i++) {
        memset(names[i], 'a', SEED_NAME);
        names[i][SEED_NAME] = 0;
        names[i][7] = (char)('a' + i);
        f[i] = (struct seed_file){names[i], data, SEED_BYTES / SEED_FILES};
    }
    expect_good(f, SEED_FILES);
    assert_int_equal(seed_write(folder_fd, "large", &one, 1, &e), -EFBIG);
    assert_non_null(strstr(e.text, "shorter"));
    assert_int_equal(faccessat(folder_fd, "large", F_OK, 0), -1);
    free(data);
}

static void names_that_cannot_be_are_refused(void **state) {
    static const char *const bad[] = {"", "a/b", "..", ".x", "x.", "a b", "\xc3\xa4", "a\\b"};
    const struct seed_file twins[] = {{"Name", "x", 1}, {"name", "y", 1}};
    struct buf out = {0};

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct seed_file f = {bad[i], "x", 1};

        assert_int_equal(seed_make(&f, 1, &out, NULL), -EINVAL);
    }
    assert_int_equal(seed_make(twins, 2, &out, NULL), -EINVAL);
    assert_int_equal(out.len, 0);
}

static void the_label_is_the_one_that_is_looked_for(void **state) {
    const struct seed_file f = {"user-data", "x", 1};
    char command[200];
    uint8_t out[200] = {0};

    expect_good(&f, 1);
    snprintf(command, sizeof(command), "blkid -p -o value -s LABEL -s TYPE %s/disk", folder);
    output_of(command, out, sizeof(out) - 1);
    assert_string_equal((char *)out, "CIDATA\nvfat\n");
}

/* ------------------------------------------------------------------ texts */

static char *text_of(struct buf *b) {
    buf_put(b, "", 1);
    return (char *)b->data;
}

static void values_are_escaped(void **state) {
    static const char key[] = "# mine\n\n  ssh-ed25519 AAAA \"q\": '\\' #x \r\nssh-rsa BBBB y\n";
    json_t *spec = json_pack("{s:s, s:s, s:s}", "ssh_key", key, "user", "ann", "hostname", "web");
    struct cloud_texts t;
    json_t *config, *meta;
    const char *one, *two, *name;
    char *s;

    assert_true(cloud_wanted(spec));
    cloud_make(spec, "vm-1", "machine", &t);
    s = text_of(&t.user_data);
    assert_memory_equal(s, "#cloud-config\n", 14);
    config = json_loads(s + 14, 0, NULL);
    assert_non_null(config);
    assert_int_equal(json_unpack(config, "{s:[{s:s, s:[s, s]}]}", "users", "name", &name,
                                 "ssh_authorized_keys", &one, &two),
                     0);
    assert_string_equal(name, "ann");
    assert_string_equal(one, "ssh-ed25519 AAAA \"q\": '\\' #x");
    assert_string_equal(two, "ssh-rsa BBBB y");
    meta = json_loads(text_of(&t.meta_data), 0, NULL);
    assert_int_equal(json_unpack(meta, "{s:s, s:s}", "instance-id", &one, "local-hostname", &two),
                     0);
    assert_string_equal(one, "vm-1");
    assert_string_equal(two, "web");
    json_decref(meta);
    json_decref(config);
    json_decref(spec);
    cloud_done(&t);
}

static void user_data_alone_stays_as_it_is(void **state) {
    json_t *spec = json_pack("{s:s}", "user_data", "#!/bin/sh\necho \"hi\"\n");
    struct cloud_texts t;

    cloud_make(spec, "vm-1", "machine", &t);
    assert_string_equal(text_of(&t.user_data), "#!/bin/sh\necho \"hi\"\n");
    cloud_done(&t);
    json_decref(spec);
}

static void user_data_beside_flags_is_a_part_that_cannot_be_broken_out_of(void **state) {
    json_t *spec = json_pack("{s:s, s:s}", "user", "ann", "user_data",
                             "#cloud-config\n{}\n--====viv-part-1====--\n");
    struct cloud_texts t;
    char *s;

    cloud_make(spec, "vm-1", "machine", &t);
    s = text_of(&t.user_data);
    assert_non_null(strstr(s, "boundary=\"====viv-part-2====\""));
    assert_non_null(strstr(s, "\n#cloud-config\n{}\n--====viv-part-1====--\n"));
    assert_non_null(strstr(s, "\n--====viv-part-2====--\n"));
    cloud_done(&t);
    json_decref(spec);
}

static void expect_refused(json_t *spec, const char *field, const char *word) {
    const char *got = "";
    struct error e = {0};

    assert_int_equal(cloud_check(spec, &got, &e), -EINVAL);
    assert_string_equal(got, field);
    assert_non_null(strstr(e.text, word));
    json_decref(spec);
}

static void what_cannot_work_is_refused(void **state) {
    json_t *good = json_pack("{s:s}", "ssh_key", "ecdsa-sha2-nistp256 AAAA\n");
    const char *field;

    assert_int_equal(cloud_check(good, &field, NULL), 0);
    json_decref(good);
    expect_refused(json_pack("{s:s}", "ssh_key", "hello world"), "spec.ssh_key", "no public key");
    expect_refused(json_pack("{s:s}", "ssh_key", "# nothing\n"), "spec.ssh_key", "no key");
    expect_refused(json_pack("{s:s}", "ssh_key", "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n"),
                   "spec.ssh_key", ".pub");
    expect_refused(json_pack("{s:s, s:s}", "user", "a", "user_data", "MIME-Version: 1.0\n"),
                   "spec.user_data", "MIME");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_of_many_sizes_are_read_back),
        cmocka_unit_test(the_largest_disk_is_good_and_a_larger_one_refused),
        cmocka_unit_test(names_that_cannot_be_are_refused),
        cmocka_unit_test(the_label_is_the_one_that_is_looked_for),
        cmocka_unit_test(values_are_escaped),
        cmocka_unit_test(user_data_alone_stays_as_it_is),
        cmocka_unit_test(user_data_beside_flags_is_a_part_that_cannot_be_broken_out_of),
        cmocka_unit_test(what_cannot_work_is_refused),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
