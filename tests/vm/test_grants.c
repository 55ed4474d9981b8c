/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a machine may open after requests of clients: what they name, and of what lies below an
 * image as much as the machine, or its guest, could not have written there itself.
 */
#include "vm/grants.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/chain.h"
#include "jail/jail_internal.h"
#include "support/test.h"

static char folder[] = "/tmp/viv-grants-XXXXXX";
static struct grants *grants;

static const char *in(const char *name) {
    static char path[4][80];
    static unsigned next;
    char *p = path[next++ % 4];

    snprintf(p, sizeof(path[0]), "%s/%s", folder, name);
    return p;
}

static const char *in_folder(const char *name) {
    static char path[100];

    snprintf(path, sizeof(path), "%s/memory.index", in(name));
    return path;
}

static void make(const char *name, const char *format, const char *below,
                 const char *below_format) {
    const struct chain_create c = {.path = in(name),
                                   .format = format,
                                   .size = 1 << 20,
                                   .backing = below,
                                   .backing_format = below_format};
    struct error e = {0};

    unlink(c.path);
    if (chain_create(&c, &e) < 0)
        fail_msg("%s", e.text);
}

static void ask(const char *command, const char *format, ...) {
    char line[500];
    va_list list;
    json_t *m;
    char *text;

    va_start(list, format);
    vsnprintf(line, sizeof(line), format, list);
    va_end(list);
    m = json_pack("{s:s, s:o}", "command", command, "arguments", json_loads(line, 0, NULL));
    text = json_dumps(m, 0);
    grants_of_request(text, strlen(text), grants_add, grants);
    free(text);
    json_decref(m);
}

static unsigned may(const char *name) {
    return grants_find(grants, in(name)) & (JAIL_READ | JAIL_WRITE);
}

static int setup(void **state) {
    assert_non_null(mkdtemp(folder));
    make("secret", "raw", NULL, NULL);
    make("base", "raw", NULL, NULL);
    return 0;
}

static int teardown(void **state) {
    static const char *const names[] = {"secret", "base", "disk", "layer", "cd"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(in(names[i]));
    return rmdir(folder);
}

static int begin(void **state) {
    grants = grants_new();
    return grants ? 0 : -1;
}

static int end(void **state) {
    grants_free(grants);
    return 0;
}

static void a_disk_may_be_written_and_what_lies_below_it_read(void **state) {
    make("layer", "qcow2", "base", "raw");
    make("disk", "qcow2", "layer", "qcow2");
    ask("disk-add", "{\"disk\": \"%s,format=qcow2\"}", in("disk"));
    assert_int_equal(may("disk"), JAIL_READ | JAIL_WRITE);
    assert_int_equal(may("layer"), JAIL_READ);
    assert_int_equal(may("base"), JAIL_READ);
    assert_int_equal(may("secret"), 0);
}

static void what_a_guest_wrote_to_a_raw_disk_names_no_file(void **state) {
    make("disk", "qcow2", "secret", "raw"); /* the guest's first sectors */
    ask("disk-add", "{\"disk\": \"%s,format=raw\"}", in("disk"));
    ask("cdrom-change", "{\"drive\": 0, \"file\": \"%s\"}", in("disk"));
    ask("disk-mirror", "{\"disk\": 0, \"file\": \"%s\", \"format\": \"raw\"}", in("disk"));
    assert_int_equal(may("disk"), JAIL_READ | JAIL_WRITE);
    assert_int_equal(may("secret"), 0);
}

static void nor_does_a_raw_disk_below_a_layer(void **state) {
    make("layer", "qcow2", "secret", "raw");
    make("disk", "qcow2", "layer", "raw");
    ask("disk-add", "{\"disk\": \"%s,format=qcow2\"}", in("disk"));
    assert_int_equal(may("layer"), JAIL_READ);
    assert_int_equal(may("secret"), 0);
}

static void the_name_in_a_header_that_the_machine_could_write_is_not_believed(void **state) {
    make("disk", "qcow2", "base", "raw");
    ask("disk-add", "{\"disk\": \"%s,format=qcow2\"}", in("disk"));
    make("disk", "qcow2", "secret", "raw"); /* by code in the machine */
    ask("disk-add", "{\"disk\": \"%s,format=qcow2\"}", in("disk"));
    ask("disk-commit", "{\"disk\": 0, \"top\": \"%s\"}", in("disk"));
    ask("disk-snapshot", "{\"disk\": 0, \"file\": \"%s\"}", in("disk"));
    make("layer", "qcow2", "disk", "qcow2");
    ask("disk-add", "{\"disk\": \"%s,format=qcow2\"}", in("layer"));
    assert_int_equal(may("layer"), JAIL_READ | JAIL_WRITE);
    assert_int_equal(may("secret"), 0);
}

static void a_new_layer_that_the_machine_made_is_not_believed_either(void **state) {
    unlink(in("layer"));
    ask("disk-snapshot", "{\"disk\": 0, \"file\": \"%s\"}", in("layer"));
    make("layer", "qcow2", "secret", "raw");
    ask("disk-stream", "{\"disk\": 0, \"base\": \"%s\"}", in("layer"));
    assert_int_equal(may("layer"), JAIL_READ | JAIL_WRITE);
    assert_int_equal(may("secret"), 0);
}

static void a_commit_makes_layers_of_disks_writable_and_nothing_else(void **state) {
    make("cd", "raw", NULL, NULL);
    make("layer", "qcow2", "base", "raw");
    make("disk", "qcow2", "layer", "qcow2");
    ask("disk-add", "{\"disk\": \"%s,format=qcow2\"}", in("disk"));
    ask("disk-add", "{\"disk\": \"%s,format=raw,readonly\"}", in("secret"));
    ask("cdrom-change", "{\"drive\": 0, \"file\": \"%s\"}", in("cd"));
    ask("disk-commit", "{\"disk\": 0}");
    assert_int_equal(may("layer"), JAIL_READ | JAIL_WRITE);
    assert_int_equal(may("cd"), JAIL_READ);
    assert_int_equal(may("secret"), JAIL_READ);
}

static void a_commit_that_names_its_base_leaves_what_is_below_alone(void **state) {
    make("base", "qcow2", "secret", "raw");
    make("layer", "qcow2", "base", "qcow2");
    make("disk", "qcow2", "layer", "qcow2");
    ask("disk-add", "{\"disk\": \"%s,format=qcow2\"}", in("disk"));
    ask("disk-commit", "{\"disk\": 0, \"base\": \"%s\"}", in("layer"));
    assert_int_equal(may("layer"), JAIL_READ | JAIL_WRITE);
    assert_int_equal(may("base"), JAIL_READ);
    ask("disk-commit", "{\"disk\": 0, \"base\": \"%s\"}", in("base"));
    assert_int_equal(may("base"), JAIL_READ | JAIL_WRITE);
    assert_int_equal(may("secret"), JAIL_READ);
    ask("disk-commit", "{\"disk\": 0, \"base\": \"/etc/passwd\"}");
    assert_int_equal(grants_find(grants, "/etc/passwd") & JAIL_WRITE, 0);
}

static void what_is_open_is_known_by_what_it_is(void **state) {
    char other[600];
    int fd, secret;

    make("disk", "raw", NULL, NULL);
    snprintf(other, sizeof(other), "%s", in("other"));
    assert_int_equal(link(in("disk"), other), 0);
    ask("disk-add", "{\"disk\": \"%s,format=raw\"}", in("disk"));
    fd = open(other, O_RDONLY | O_CLOEXEC);
    secret = open(in("secret"), O_RDONLY | O_CLOEXEC);
    assert_int_equal(grants_find_open(grants, fd) & (JAIL_READ | JAIL_WRITE),
                     JAIL_READ | JAIL_WRITE);
    assert_int_equal(grants_find_open(grants, secret), 0);
    /* Another file has the name now. */
    assert_int_equal(rename(in("base"), in("disk")), 0);
    assert_int_equal(grants_find_open(grants, fd), 0);
    make("base", "raw", NULL, NULL);
    assert_int_equal(unlink(other), 0);
    close(fd);
    close(secret);
}

/* Only what the helper looks at: the head of an index, and the path behind it. */
static void make_snapshot(const char *name, uint8_t id, const char *parent, uint8_t parent_id) {
    uint8_t head[56 + 200] = "VIVMEMIX";
    size_t n = strlen(parent);
    FILE *f;

    mkdir(in(name), 0700);
    store_le32(head + 8, 1);
    store_le32(head + 12, (uint32_t)n);
    memset(head + 24, id, 16);
    memset(head + 40, parent_id, 16);
    memcpy(head + 56, parent, n);
    f = fopen(in_folder(name), "w");
    assert_non_null(f);
    assert_int_equal(fwrite(head, 1, 56 + n, f), 56 + n);
    fclose(f);
}

static void forget_snapshots(void) {
    static const char *const names[] = {"s0", "s1", "s2", "elsewhere"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        unlink(in_folder(names[i]));
        rmdir(in(names[i]));
    }
}

static void an_increment_is_compared_with_the_whole_chain(void **state) {
    make_snapshot("s0", 1, "", 0);
    make_snapshot("s1", 2, "s0", 1);
    make_snapshot("s2", 3, in("s1"), 2);
    make_snapshot("elsewhere", 4, "", 0);
    ask("snapshot", "{\"folder\": \"%s\", \"parent\": \"%s\"}", in("new"), in("s2"));
    assert_int_equal(may("s2/memory"), JAIL_READ);
    assert_int_equal(may("s1/memory"), JAIL_READ);
    assert_int_equal(may("s0/memory"), JAIL_READ);
    assert_int_equal(may("elsewhere/memory"), 0);
    assert_int_equal(may("new/memory"), JAIL_READ | JAIL_WRITE);
    forget_snapshots();
}

static void a_parent_is_none_whose_identity_the_child_does_not_know(void **state) {
    make_snapshot("elsewhere", 4, "", 0);
    make_snapshot("s1", 2, "elsewhere", 5);
    make_snapshot("s2", 3, "../../../../../../etc", 0);
    ask("snapshot", "{\"folder\": \"%s\", \"parent\": \"%s\"}", in("new"), in("s1"));
    ask("snapshot", "{\"folder\": \"%s\", \"parent\": \"%s\"}", in("new"), in("s2"));
    assert_int_equal(may("s1/memory"), JAIL_READ);
    assert_int_equal(may("elsewhere/memory"), 0);
    assert_int_equal(grants_find(grants, "/etc/passwd"), 0);
    forget_snapshots();
}

static void nor_is_one_that_a_machine_named_in_its_own_snapshot(void **state) {
    make_snapshot("elsewhere", 4, "", 0);
    ask("snapshot", "{\"folder\": \"%s\"}", in("s1"));
    make_snapshot("s1", 2, "elsewhere", 4);
    ask("snapshot", "{\"folder\": \"%s\", \"parent\": \"%s\"}", in("s2"), in("s1"));
    assert_int_equal(may("elsewhere/memory"), 0);
    forget_snapshots();
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        CASE(a_disk_may_be_written_and_what_lies_below_it_read),
        CASE(what_a_guest_wrote_to_a_raw_disk_names_no_file),
        CASE(nor_does_a_raw_disk_below_a_layer),
        CASE(the_name_in_a_header_that_the_machine_could_write_is_not_believed),
        CASE(a_new_layer_that_the_machine_made_is_not_believed_either),
        CASE(a_commit_makes_layers_of_disks_writable_and_nothing_else),
        CASE(a_commit_that_names_its_base_leaves_what_is_below_alone),
        CASE(what_is_open_is_known_by_what_it_is),
        CASE(an_increment_is_compared_with_the_whole_chain),
        CASE(a_parent_is_none_whose_identity_the_child_does_not_know),
        CASE(nor_is_one_that_a_machine_named_in_its_own_snapshot),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
