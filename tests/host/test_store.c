/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The store: what is committed stays, what is not does not, and sentences for what cannot be. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/store.h"
#include "support/test.h"

static struct {
    char folder[64], path[96];
    struct store *store;
    unsigned changed, events;
    char last[STORE_WORD];
} t;

static void on_change(void *opaque, const char *kind, const char *id) {
    t.changed++;
    snprintf(t.last, sizeof(t.last), "%s", id);
    assert_false(store_in_transaction(t.store));
}

static void on_events(void *opaque) { t.events++; }

static void open_it(void) {
    const struct store_hooks hooks = {on_change, on_events, NULL};
    struct error err = {0};

    t.store = store_open(t.path, &err);
    if (!t.store)
        fail_msg("%s", err.text);
    store_set_hooks(t.store, &hooks);
    t.changed = t.events = 0;
}

static int setup(void **state) {
    snprintf(t.folder, sizeof(t.folder), "%s/viv-store.XXXXXX", getenv("TMPDIR") ?: "/tmp");
    assert_non_null(mkdtemp(t.folder));
    snprintf(t.path, sizeof(t.path), "%s/store.db", t.folder);
    open_it();
    return 0;
}

static int teardown(void **state) {
    char command[160];

    store_close(t.store);
    snprintf(command, sizeof(command), "rm -rf '%s'", t.folder);
    return system(command);
}

static int insert(const char *name, int memory, struct store_row *ret) {
    struct error err = {0};

    *ret = (struct store_row){.kind = "vm",
                              .tenant = "default",
                              .spec = json_pack("{s:i, s:s}", "memory", memory, "image", "tiny"),
                              .status = json_pack("{s:s}", "state", "stopped"),
                              .wanted = json_object()};
    snprintf(ret->name, sizeof(ret->name), "%s", name);
    return store_insert(t.store, ret, &err);
}

static void begin(void) { assert_int_equal(store_begin(t.store, STORE_PROMISE, NULL), 0); }

static void commit(void) { assert_int_equal(store_commit(t.store, NULL), 0); }

static void add(const char *name, int memory) {
    struct store_row row;

    begin();
    assert_int_equal(insert(name, memory, &row), 0);
    commit();
    store_row_done(&row);
}

static void rows_are_found_by_name_and_by_id_in_their_tenant(void **state) {
    struct store_row row, found;

    begin();
    assert_int_equal(insert("web", 5, &row), 0);
    commit();
    assert_int_equal(store_find(t.store, "vm", "default", "web", &found), 0);
    assert_string_equal(found.id, row.id);
    assert_int_equal(found.revision, row.revision);
    assert_int_equal(json_integer_value(json_object_get(found.spec, "memory")), 5);
    store_row_done(&found);
    assert_int_equal(store_find(t.store, "vm", "default", row.id, &found), 0);
    store_row_done(&found);
    assert_int_equal(store_find(t.store, "vm", "other", "web", &found), -ENOENT);
    assert_int_equal(store_find(t.store, "vm", "other", row.id, &found), -ENOENT);
    assert_int_equal(store_find(t.store, "image", "default", "web", &found), -ENOENT);
    store_row_done(&row);
}

static void a_name_is_taken_once(void **state) {
    struct store_row row;

    add("web", 1);
    begin();
    assert_int_equal(insert("web", 2, &row), -EEXIST);
    store_rollback(t.store);
    store_row_done(&row);
}

static void what_is_rolled_back_never_was(void **state) {
    struct store_row row, found;

    begin();
    assert_int_equal(insert("web", 1, &row), 0);
    store_rollback(t.store);
    assert_int_equal(store_get(t.store, "vm", row.id, &found), -ENOENT);
    assert_int_equal(t.changed, 0);
    store_row_done(&row);
}

static void revisions_grow_and_hooks_tell_after_the_commit(void **state) {
    struct store_row row;
    int64_t first;

    begin();
    assert_int_equal(insert("web", 1, &row), 0);
    assert_int_equal(t.changed, 0);
    commit();
    assert_int_equal(t.changed, 1);
    assert_string_equal(t.last, row.id);
    first = row.revision;
    begin();
    assert_int_equal(store_update(t.store, &row, NULL), 0);
    assert_int_equal(store_event_add(t.store,
                                     &(struct store_event){.tenant = "default",
                                                           .kind = "vm",
                                                           .id = "x",
                                                           .name = "web",
                                                           .what = "w",
                                                           .text = "t"},
                                     NULL),
                     0);
    assert_int_equal(t.events, 0);
    commit();
    assert_true(row.revision > first);
    assert_int_equal(t.events, 1);
    begin();
    assert_int_equal(store_delete(t.store, "vm", row.id, NULL), 0);
    commit();
    assert_int_equal(t.changed, 3);
    store_row_done(&row);
}

struct names {
    char text[400];
    unsigned count;
};

static bool note_name(void *opaque, const struct store_text *x) {
    struct names *n = opaque;

    strcat(n->text, x->name);
    strcat(n->text, " ");
    n->count++;
    return true;
}

static void lists_are_ordered_cut_and_filtered(void **state) {
    json_t *five = json_integer(5), *odd = json_string("' OR 1=1 --");
    struct store_query q = {.kind = "vm", .tenant = "default", .limit = 2};
    struct names n = {0};

    add("c", 5);
    add("a", 5);
    add("b", 6);
    assert_int_equal(store_list(t.store, &q, note_name, &n), 0);
    assert_string_equal(n.text, "a b ");
    q.after = "b";
    n = (struct names){0};
    assert_int_equal(store_list(t.store, &q, note_name, &n), 0);
    assert_string_equal(n.text, "c ");
    q = (struct store_query){.kind = "vm", .filter = {{"spec", "memory", five}}, .filters = 1};
    n = (struct names){0};
    assert_int_equal(store_list(t.store, &q, note_name, &n), 0);
    assert_string_equal(n.text, "a c ");
    assert_int_equal(store_count(t.store, &q), 2);
    q.filter[0] = (struct store_filter){"spec", "image", odd};
    assert_int_equal(store_count(t.store, &q), 0);
    json_decref(five);
    json_decref(odd);
}

static bool note_event(void *opaque, const struct store_event *e) {
    strcat(opaque, e->text);
    return true;
}

static void events_keep_their_order_and_old_ones_go(void **state) {
    struct store_query q = {.limit = 3};
    char text[200] = "", number[20];

    begin();
    for (int i = 1; i <= 21000; i++) {
        snprintf(number, sizeof(number), "%d ", i);
        assert_int_equal(store_event_add(t.store,
                                         &(struct store_event){.tenant = "default",
                                                               .kind = "vm",
                                                               .id = "x",
                                                               .name = "n",
                                                               .what = "w",
                                                               .text = number},
                                         NULL),
                         0);
    }
    commit();
    assert_int_equal(store_event_last(t.store), 21000);
    q.after_seq = 20990;
    assert_int_equal(store_event_list(t.store, &q, note_event, text), 0);
    assert_string_equal(text, "20991 20992 20993 ");
    q.after_seq = 0;
    q.limit = 1;
    *text = 0;
    assert_int_equal(store_event_list(t.store, &q, note_event, text), 0);
    assert_string_equal(text, "1001 "); /* the newest 20000 are kept */
    q.limit = 3;
    q.newest = true;
    *text = 0;
    assert_int_equal(store_event_list(t.store, &q, note_event, text), 0);
    assert_string_equal(text, "20998 20999 21000 ");
}

static void answers_are_found_by_caller_and_key(void **state) {
    uint64_t request = 0;
    int status = 0;
    char *body = NULL;

    begin();
    assert_int_equal(store_answer_put(t.store, "uid:1", "k", 77, 201, "{}", NULL), 0);
    commit();
    assert_int_equal(store_answer_find(t.store, "uid:2", "k", &request, &status, &body), -ENOENT);
    assert_int_equal(store_answer_find(t.store, "uid:1", "k", &request, &status, &body), 0);
    assert_int_equal(request, 77);
    assert_int_equal(status, 201);
    assert_string_equal(body, "{}");
    free(body);
}

/* A child commits row after row and tells each one through a pipe, until it is killed. */
static void what_was_committed_survives_a_kill_at_any_moment(void **state) {
    for (unsigned round = 0; round < 20; round++) {
        int ends[2], told = -1, n;
        struct store_query q = {.kind = "vm"};
        pid_t pid;

        store_close(t.store);
        t.store = NULL;
        unlink(t.path);
        assert_int_equal(pipe(ends), 0);
        pid = fork();
        if (pid == 0) {
            close(ends[0]);
            open_it();
            for (n = 0;; n++) {
                char name[20];

                snprintf(name, sizeof(name), "m%d", n);
                add(name, n);
                if (write(ends[1], &n, sizeof(n)) != sizeof(n))
                    _exit(1);
            }
        }
        close(ends[1]);
        assert_int_equal(read(ends[0], &told, sizeof(told)), sizeof(told));
        usleep(round * 500); /* any moment will do */
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        while (read(ends[0], &n, sizeof(n)) == sizeof(n))
            told = n;
        close(ends[0]);
        open_it();
        /* One more may have been committed and not told. */
        n = (int)store_count(t.store, &q);
        assert_in_range(n, told + 1, told + 2);
    }
}

static void expect_refusal(const char *word) {
    struct error err = {0};

    assert_null(store_open(t.path, &err));
    if (!strstr(err.text, word))
        fail_msg("'%s' does not say '%s'", err.text, word);
}

static void a_damaged_store_is_refused_and_left_alone(void **state) {
    char noise[4096];
    int fd;

    for (int i = 0; i < 50; i++) {
        char name[20];

        snprintf(name, sizeof(name), "m%d", i);
        add(name, i);
    }
    store_close(t.store);
    memset(noise, 0x5a, sizeof(noise));
    fd = open(t.path, O_RDWR);
    assert_int_equal(pwrite(fd, noise, sizeof(noise), 4096), sizeof(noise));
    expect_refusal("damaged");
    assert_int_equal(pwrite(fd, noise, sizeof(noise), 0), sizeof(noise));
    expect_refusal("damaged");
    assert_int_equal(ftruncate(fd, 0), 0);
    close(fd);
    open_it(); /* an empty file is a new store */
}

static void a_store_of_a_newer_version_is_refused(void **state) {
    sqlite3 *db;

    store_close(t.store);
    assert_int_equal(sqlite3_open(t.path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "INSERT INTO migration VALUES (99, 0)", NULL, NULL, NULL), 0);
    sqlite3_close(db);
    expect_refusal("newer version");
    unlink(t.path);
    open_it();
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(rows_are_found_by_name_and_by_id_in_their_tenant),
        T(a_name_is_taken_once),
        T(what_is_rolled_back_never_was),
        T(revisions_grow_and_hooks_tell_after_the_commit),
        T(lists_are_ordered_cut_and_filtered),
        T(events_keep_their_order_and_old_ones_go),
        T(answers_are_found_by_caller_and_key),
        T(what_was_committed_survives_a_kill_at_any_moment),
        T(a_damaged_store_is_refused_and_left_alone),
        T(a_store_of_a_newer_version_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
