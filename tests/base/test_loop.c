/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the event loop. */
#include "base/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support/test.h"

struct end { /* one end of a socket pair under watch */
    struct loop_watch *watch, *victim;
    int fd[2];
    unsigned calls;
    uint32_t events;
};

static void open_end(struct end *e) {
    *e = (struct end){0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, e->fd), 0);
}

static void close_end(struct end *e) {
    loop_remove(e->watch);
    close(e->fd[0]);
    if (e->fd[1] >= 0)
        close(e->fd[1]);
}

static void note(void *opaque, int fd, uint32_t events) {
    struct end *e = opaque;

    assert_int_equal(fd, e->fd[0]);
    e->calls++;
    e->events = events;
    loop_remove(e->victim);
    e->victim = NULL;
}

static void count(void *opaque) { ++*(unsigned *)opaque; }

static struct loop *new_loop(pthread_mutex_t *lock) {
    struct error err = {0};
    struct loop *loop = loop_new(lock, &err);

    assert_non_null(loop);
    return loop;
}

static void a_readable_descriptor_is_reported_as_long_as_it_is_one(void **state) {
    struct loop *loop = new_loop(NULL);
    struct end e;
    char c;

    open_end(&e);
    e.watch = loop_add(loop, e.fd[0], EPOLLIN, note, &e);
    assert_non_null(e.watch);
    assert_false(loop_step(loop, 0));
    assert_int_equal(write(e.fd[1], "x", 1), 1);
    assert_true(loop_step(loop, 0));
    assert_true(loop_step(loop, 0));
    assert_int_equal(e.calls, 2);
    assert_int_equal(e.events, EPOLLIN);
    assert_int_equal(read(e.fd[0], &c, 1), 1);
    assert_false(loop_step(loop, 0));
    close_end(&e);
    loop_free(loop);
}

static void a_watch_removed_in_the_same_round_is_not_called(void **state) {
    struct loop *loop = new_loop(NULL);
    struct end a, b;

    open_end(&a);
    open_end(&b);
    a.watch = loop_add(loop, a.fd[0], EPOLLIN, note, &a);
    b.watch = loop_add(loop, b.fd[0], EPOLLIN, note, &b);
    a.victim = b.watch;
    b.victim = a.watch;
    assert_int_equal(write(a.fd[1], "x", 1), 1);
    assert_int_equal(write(b.fd[1], "x", 1), 1);
    assert_true(loop_step(loop, 0));
    /* Whichever came first removed the other. */
    assert_int_equal(a.calls + b.calls, 1);
    if (a.calls)
        b.watch = NULL;
    else
        a.watch = NULL;
    close_end(&a);
    close_end(&b);
    loop_free(loop);
}

static void a_watch_may_remove_itself(void **state) {
    struct loop *loop = new_loop(NULL);
    struct end e;

    open_end(&e);
    e.victim = loop_add(loop, e.fd[0], EPOLLIN, note, &e);
    assert_int_equal(write(e.fd[1], "x", 1), 1);
    assert_true(loop_step(loop, 0));
    assert_false(loop_step(loop, 0));
    assert_int_equal(e.calls, 1);
    close_end(&e);
    loop_free(loop);
}

static void a_hung_up_descriptor_that_is_not_wanted_does_not_spin(void **state) {
    struct loop *loop = new_loop(NULL);
    struct end e;

    open_end(&e);
    e.watch = loop_add(loop, e.fd[0], 0, note, &e);
    close(e.fd[1]);
    e.fd[1] = -1;
    assert_false(loop_step(loop, 0));
    loop_modify(e.watch, EPOLLIN);
    assert_true(loop_step(loop, 0));
    assert_true(e.events & EPOLLHUP);
    loop_modify(e.watch, 0);
    assert_false(loop_step(loop, 0));
    loop_modify(e.watch, 0);
    loop_modify(e.watch, EPOLLOUT);
    assert_true(loop_step(loop, 0));
    assert_int_equal(e.calls, 2);
    close_end(&e);
    loop_free(loop);
}

static void regular_files_are_refused(void **state) {
    struct loop *loop = new_loop(NULL);
    FILE *f = tmpfile();

    assert_null(loop_add(loop, fileno(f), EPOLLIN, note, NULL));
    assert_null(loop_add(loop, -1, EPOLLIN, note, NULL));
    fclose(f);
    loop_free(loop);
}

struct order {
    struct loop *loop;
    char text[8];
    unsigned len;
};

static void put_a(void *opaque) {
    struct order *o = opaque;

    o->text[o->len++] = 'a';
}

static void put_b_and_post_a(void *opaque) {
    struct order *o = opaque;

    o->text[o->len++] = 'b';
    loop_post(o->loop, put_a, o);
}

static void posted_calls_run_once_in_order(void **state) {
    struct order o = {.loop = new_loop(NULL)};

    loop_post(o.loop, put_a, &o);
    loop_post(o.loop, put_b_and_post_a, &o);
    assert_true(loop_step(o.loop, 0));
    assert_string_equal(o.text, "ab");
    assert_true(loop_step(o.loop, 0));
    assert_string_equal(o.text, "aba");
    assert_false(loop_step(o.loop, 0));
    loop_post(o.loop, put_a, &o); /* left over when the loop is freed */
    loop_free(o.loop);
    assert_string_equal(o.text, "aba");
}

static void a_signal_is_delivered_as_a_call(void **state) {
    struct loop *loop = new_loop(NULL);
    struct error err = {0};
    unsigned calls = 0;

    assert_int_equal(loop_signal(loop, SIGUSR1, count, &calls, &err), 0);
    assert_false(loop_step(loop, 0));
    kill(getpid(), SIGUSR1);
    assert_true(loop_step(loop, 1000));
    assert_int_equal(calls, 1);
    assert_false(loop_step(loop, 0));
    loop_free(loop);
}

enum { POSTS = 20000 };

struct thread {
    struct loop *loop;
    pthread_mutex_t *lock;
    unsigned calls; /* under the lock, not atomic */
    unsigned posted;
};

static void count_and_stop_at_the_end(void *opaque) {
    struct thread *t = opaque;

    if (++t->calls == POSTS)
        loop_stop(t->loop);
}

static void *post_and_take_the_lock(void *opaque) {
    struct thread *t = opaque;

    for (t->posted = 0; t->posted < POSTS; t->posted++) {
        loop_post(t->loop, count_and_stop_at_the_end, t);
        if (t->posted % 16)
            continue;
        pthread_mutex_lock(t->lock);
        t->calls += 0;
        pthread_mutex_unlock(t->lock);
    }
    return NULL;
}

static void no_call_of_another_thread_is_lost_and_all_run_under_the_lock(void **state) {
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct thread t = {.lock = &lock};
    pthread_t id;

    t.loop = new_loop(&lock);
    pthread_create(&id, NULL, post_and_take_the_lock, &t);
    loop_run(t.loop);
    pthread_join(id, NULL);
    assert_int_equal(t.calls, POSTS);
    loop_free(t.loop);
}

static void a_stop_before_the_run_is_not_lost_and_the_loop_runs_again(void **state) {
    struct loop *loop = new_loop(NULL);
    struct thread t = {.loop = loop, .calls = POSTS - 1};

    loop_stop(loop);
    loop_run(loop);
    loop_post(loop, count_and_stop_at_the_end, &t);
    loop_run(loop);
    assert_int_equal(t.calls, POSTS);
    loop_free(loop);
}

struct lent { /* one descriptor, or none */
    struct loop *loop;
    struct loop_lender lender, *victim;
    int fd;
    unsigned returned;
};

static unsigned lend_one(void *opaque, struct pollfd *fds, unsigned max) {
    struct lent *l = opaque;

    assert_true(max > 0);
    if (l->fd < 0)
        return 0;
    fds[0] = (struct pollfd){.fd = l->fd, .events = POLLIN};
    return 1;
}

static void take_one_back(void *opaque) {
    struct lent *l = opaque;

    l->returned++;
    if (l->victim)
        loop_remove_lender(l->loop, l->victim);
}

static void add_lent(struct loop *loop, struct lent *l, int fd) {
    *l = (struct lent){.loop = loop, .fd = fd};
    l->lender = (struct loop_lender){.lend = lend_one, .take_back = take_one_back, .opaque = l};
    loop_add_lender(loop, &l->lender);
}

static void what_is_lent_goes_to_one_thread_and_comes_back_once(void **state) {
    struct loop *loop = new_loop(NULL);
    struct lent none, one, two;
    struct pollfd fds[8];

    assert_int_equal(loop_lend(loop, fds, 8), 0);
    loop_take_back(loop);
    add_lent(loop, &none, -1);
    assert_int_equal(loop_lend(loop, fds, 8), 0);
    add_lent(loop, &one, 100);
    add_lent(loop, &two, 101);
    assert_int_equal(loop_lend(loop, fds, 8), 2);
    assert_int_equal(fds[0].fd + fds[1].fd, 201);
    assert_int_equal(loop_lend(loop, fds, 8), 0);
    loop_take_back(loop);
    loop_take_back(loop);
    assert_int_equal(one.returned, 1);
    assert_int_equal(two.returned, 1);
    assert_int_equal(none.returned, 0);
    assert_int_equal(loop_lend(loop, fds, 1), 1); /* for no more there is room */
    loop_take_back(loop);
    assert_int_equal(one.returned + two.returned, 3);
    loop_free(loop);
}

static void a_lender_may_be_taken_away_while_it_is_lent(void **state) {
    struct loop *loop = new_loop(NULL);
    struct lent one, two;
    struct pollfd fds[8];

    add_lent(loop, &one, 100);
    add_lent(loop, &two, 101);
    one.victim = &two.lender;
    two.victim = &one.lender;
    assert_int_equal(loop_lend(loop, fds, 8), 2);
    loop_take_back(loop);
    assert_int_equal(one.returned + two.returned, 1);
    assert_int_equal(loop_lend(loop, fds, 8), 1);
    loop_remove_lender(loop, &one.lender);
    loop_remove_lender(loop, &two.lender);
    loop_take_back(loop);
    assert_int_equal(one.returned + two.returned, 1);
    assert_int_equal(loop_lend(loop, fds, 8), 0);
    loop_free(loop);
}

static void a_null_watch_and_a_null_loop_are_accepted(void **state) {
    loop_remove(NULL);
    loop_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_readable_descriptor_is_reported_as_long_as_it_is_one),
        cmocka_unit_test(a_watch_removed_in_the_same_round_is_not_called),
        cmocka_unit_test(a_watch_may_remove_itself),
        cmocka_unit_test(a_hung_up_descriptor_that_is_not_wanted_does_not_spin),
        cmocka_unit_test(regular_files_are_refused),
        cmocka_unit_test(posted_calls_run_once_in_order),
        cmocka_unit_test(a_signal_is_delivered_as_a_call),
        cmocka_unit_test(no_call_of_another_thread_is_lost_and_all_run_under_the_lock),
        cmocka_unit_test(a_stop_before_the_run_is_not_lost_and_the_loop_runs_again),
        cmocka_unit_test(what_is_lent_goes_to_one_thread_and_comes_back_once),
        cmocka_unit_test(a_lender_may_be_taken_away_while_it_is_lent),
        cmocka_unit_test(a_null_watch_and_a_null_loop_are_accepted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
