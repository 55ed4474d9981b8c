/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Folders over a connection: what arrives is what was there, and a hostile end gets nowhere. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "proto/tree.h"
#include "support/test.h"

struct box {
    char path[64];
    int pair[2], from, to;
    struct agent_reader reader;
    struct tree_count count;
    struct error err, sent;
    int result;
};

static int open_folder(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static void shell(const struct box *b, const char *script) {
    char line[4096];

    snprintf(line, sizeof(line), "cd %s && { %s; }", b->path, script);
    assert_int_equal(system(line), 0);
}

static int begin(void **state) {
    struct box *b = calloc(1, sizeof(*b));
    char path[80];

    snprintf(b->path, sizeof(b->path), "/tmp/viv-tree-XXXXXX");
    assert_non_null(mkdtemp(b->path));
    shell(b, "mkdir from to outside");
    snprintf(path, sizeof(path), "%s/from", b->path);
    b->from = open_folder(path);
    snprintf(path, sizeof(path), "%s/to", b->path);
    b->to = open_folder(path);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b->pair), 0);
    b->reader.fd = b->pair[1];
    *state = b;
    return 0;
}

static int end(void **state) {
    struct box *b = *state;

    shell(b, "chmod -R u+rwx .; rm -rf from to outside");
    rmdir(b->path);
    close(b->from);
    close(b->to);
    if (b->pair[0] >= 0)
        close(b->pair[0]);
    close(b->pair[1]);
    free(b);
    return 0;
}

static void *receive(void *opaque) {
    struct box *b = opaque;

    b->result = tree_receive(&b->reader, 10000, b->to, "to", &b->count, &b->err);
    shutdown(b->pair[1], SHUT_RDWR);
    return NULL;
}

static int copy(struct box *b) {
    pthread_t thread;
    int r;

    assert_int_equal(pthread_create(&thread, NULL, receive, b), 0);
    r = tree_send(b->pair[0], b->from, "from", &b->sent);
    if (r < 0)
        shutdown(b->pair[0], SHUT_RDWR);
    pthread_join(thread, NULL);
    return r;
}

static void all_arrives(void **state) {
    struct box *b = *state;

    shell(b, "cd from; mkdir -p a/b/c empty; head -c 100000 /dev/urandom > a/b/big; : > a/none; "
             "printf x > \"$(printf 'a/\\377 \\n')\"; ln -s nowhere a/link; ln -s / a/b/c/root; "
             "chmod 4750 a/none; chmod 500 a/b; mkfifo pipe; touch -d 2001-02-03 a/b/big a/b; "
             "mkdir -p ../to/a; echo old > ../to/a/none; echo mine > ../to/a/kept");
    assert_int_equal(copy(b), 0);
    assert_int_equal(b->result, 0);
    assert_int_equal(b->count.left_out, 1);
    assert_int_equal(b->count.files, 9);
    assert_int_equal(b->count.bytes, 100001);
    shell(b,
          "rm from/pipe; [ $(cat to/a/kept) = mine ]; rm to/a/kept; chmod 750 from/a/none; "
          "diff -r --no-dereference from to; "
          "list='find . -printf \"%p %m %l %s\\n\"'; "
          "[ \"$(cd from; eval $list | sed 's/ [0-9]*$//' | sort)\" = \"$(cd to; eval $list | "
          "sed 's/ [0-9]*$//' | sort)\" ]; "
          "[ $(stat -c %Y to/a/b) = $(stat -c %Y from/a/b) ]; "
          "[ $(stat -c %Y to/a/b/big) = $(date -d 2001-02-03 +%s) ]; ! ls -A to | grep -q '^.viv'");
}

static void times_are_kept_as_far_as_they_can_be_said(void **state) {
    struct box *b = *state;

    shell(b, "cd from; touch -d '1931-02-03 04:05:06.7' early; touch -d 2300-01-01 late");
    assert_int_equal(copy(b), 0);
    assert_int_equal(b->result, 0);
    shell(b, "[ \"$(stat -c %y to/early)\" = \"$(stat -c %y from/early)\" ]; "
             "[ $(stat -c %Y to/late) = $(((1 << 63) / -1000000000)) ]");
}

static void deep_trees_are_refused_with_the_remedy(void **state) {
    struct box *b = *state;

    shell(b, "cd from; for i in $(seq 199); do mkdir d; cd d; done");
    assert_int_equal(copy(b), 0);
    assert_int_equal(b->result, 0);
    shell(b, "cd from; for i in $(seq 199); do cd d; done; mkdir -p d/d");
    close(b->pair[0]);
    close(b->pair[1]);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b->pair), 0);
    b->reader = (struct agent_reader){.fd = b->pair[1]};
    assert_true(copy(b) < 0);
    assert_non_null(strstr(b->sent.text, "archive"));
    assert_true(b->result < 0);
}

/* ------------------------------------------------------------------ a hostile end */

static void entry(struct box *b, enum tree_kind kind, const void *name, size_t n, const char *to) {
    uint8_t bytes[1024] = {(uint8_t)kind};

    store_le32(bytes + 1, 07777);
    store_le16(bytes + 13, (uint16_t)n);
    memcpy(bytes + TREE_HEAD, name, n);
    memcpy(bytes + TREE_HEAD + n, to, strlen(to));
    assert_int_equal(agent_send(b->pair[0], AGENT_ENTRY, bytes, TREE_HEAD + n + strlen(to), NULL),
                     0);
}

static void text_entry(struct box *b, enum tree_kind kind, const char *name, const char *to) {
    entry(b, kind, name, strlen(name), to);
}

static void file_entry(struct box *b, const char *name) {
    text_entry(b, TREE_FILE, name, "");
    agent_send(b->pair[0], AGENT_DATA, "evil", 4, NULL);
    agent_send(b->pair[0], AGENT_DATA, NULL, 0, NULL);
}

static void refused(struct box *b) {
    shutdown(b->pair[0], SHUT_WR);
    receive(b);
    assert_true(b->result < 0);
    assert_true(b->err.text[0]);
    shell(b, "[ -z \"$(ls -A outside)\" ]; ! ls -A to | grep -q '^.viv'");
}

static void names_stay_in_the_folder(void **state) {
    static const struct {
        const char *name;
        size_t n;
    } names[] = {{"..", 2},     {".", 1},   {"", 0},    {"../outside/x", 12},
                 {"/tmp/x", 6}, {"a/b", 3}, {"a\0b", 3}};

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        for (unsigned kind = TREE_FOLDER; kind <= TREE_OTHER; kind++) {
            end(state);
            begin(state);
            entry(*state, kind, names[i].name, names[i].n, kind == TREE_LINK ? "x" : "");
            refused(*state);
        }
}

static void links_are_never_followed(void **state) {
    struct box *b = *state;

    text_entry(b, TREE_LINK, "way", "../outside");
    text_entry(b, TREE_FOLDER, "way", "");
    file_entry(b, "x");
    refused(b);
    assert_non_null(strstr(b->err.text, "to/way"));
}

static void a_file_replaces_a_link_and_not_what_it_leads_to(void **state) {
    struct box *b = *state;

    shell(b, "echo kept > outside/x");
    text_entry(b, TREE_LINK, "way", "../outside/x");
    file_entry(b, "way");
    text_entry(b, TREE_UP, "", "");
    receive(b);
    assert_int_equal(b->result, 0);
    shell(b, "[ $(cat outside/x) = kept ]; [ ! -L to/way ]; [ $(cat to/way) = evil ]; "
             "[ $(stat -c %a to/way) = 777 ]"); /* no set-user-ID bit */
}

static void damaged_entries_are_refused(void **state) {
    struct box *b = *state;
    static const uint8_t shorter[TREE_HEAD - 1] = {TREE_FILE};
    uint8_t longer[TREE_HEAD] = {TREE_FILE, [13] = 1};

    agent_send(b->pair[0], AGENT_ENTRY, shorter, sizeof(shorter), NULL);
    refused(b);
    end(state);
    begin(state);
    b = *state;
    agent_send(b->pair[0], AGENT_ENTRY, longer, sizeof(longer), NULL);
    refused(b);
    end(state);
    begin(state);
    b = *state;
    entry(b, TREE_OTHER + 1, "x", 1, "");
    refused(b);
    end(state);
    begin(state);
    b = *state;
    text_entry(b, TREE_FILE, "x", "target");
    refused(b);
    end(state);
    begin(state);
    text_entry(*state, TREE_LINK, "x", "");
    refused(*state);
}

static void a_copy_that_breaks_off_leaves_no_half_file(void **state) {
    struct box *b = *state;

    file_entry(b, "whole");
    text_entry(b, TREE_FOLDER, "sub", "");
    text_entry(b, TREE_FILE, "half", "");
    agent_send(b->pair[0], AGENT_DATA, "ev", 2, NULL);
    refused(b);
    shell(b, "[ $(cat to/whole) = evil ]; [ -z \"$(ls -A to/sub)\" ]");
}

static void the_failure_of_the_other_end_is_told(void **state) {
    struct box *b = *state;

    agent_send_json(b->pair[0], AGENT_RESULT, json_pack("{s:s}", "error", "it is Monday"), NULL);
    refused(b);
    assert_string_equal(b->err.text, "it is Monday");
}

static void the_name_of_a_copy(void **state) {
    struct error err = {0};
    char name[256];

    assert_string_equal(tree_last("/a/b", name, &err), "b");
    assert_string_equal(tree_last("b//", name, &err), "b");
    assert_string_equal(tree_last("/", name, &err), "");
    assert_string_equal(tree_last("a/.", name, &err), ".");
    assert_null(tree_last("a/..", name, &err));
    assert_null(tree_last("..", name, &err));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_arrives, begin, end),
        cmocka_unit_test_setup_teardown(times_are_kept_as_far_as_they_can_be_said, begin, end),
        cmocka_unit_test_setup_teardown(deep_trees_are_refused_with_the_remedy, begin, end),
        cmocka_unit_test_setup_teardown(names_stay_in_the_folder, begin, end),
        cmocka_unit_test_setup_teardown(links_are_never_followed, begin, end),
        cmocka_unit_test_setup_teardown(a_file_replaces_a_link_and_not_what_it_leads_to, begin,
                                        end),
        cmocka_unit_test_setup_teardown(damaged_entries_are_refused, begin, end),
        cmocka_unit_test_setup_teardown(a_copy_that_breaks_off_leaves_no_half_file, begin, end),
        cmocka_unit_test_setup_teardown(the_failure_of_the_other_end_is_told, begin, end),
        cmocka_unit_test(the_name_of_a_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
