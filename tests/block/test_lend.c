/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of completions that another thread than the loop's waits for. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"
#include "block/block.h"
#include "support/test.h"

enum { SIZE = 1024 * 1024, PIECE = 4096, REQUESTS = 8, FDS = 4 };

struct io {
    struct block_request req;
    struct iovec iov;
    uint8_t data[PIECE];
    unsigned *left;
};

struct rig {
    struct loop *loop;
    struct block *b;
    struct io io[REQUESTS];
    unsigned left;
    char path[64];
};

static void io_done(struct block_request *req, int result) {
    struct io *io = req->opaque;

    assert_int_equal(result, 0);
    for (unsigned i = 0; i < PIECE; i++)
        assert_int_equal(io->data[i], (uint8_t)(req->offset / PIECE + 1));
    --*io->left;
}

/* An image whose pieces hold their number plus one. */
static void set_up(struct rig *r) {
    struct block_options o = {.path = r->path, .format = "raw"};
    struct error e = {0};
    uint8_t piece[PIECE];
    int fd;

    memset(r, 0, sizeof(*r));
    snprintf(r->path, sizeof(r->path), "/tmp/viv-lend-XXXXXX");
    fd = mkstemp(r->path);
    assert_true(fd >= 0);
    for (unsigned i = 0; i < SIZE / PIECE; i++) {
        memset(piece, (int)(i + 1), PIECE);
        assert_int_equal(write(fd, piece, PIECE), PIECE);
    }
    close(fd);
    r->loop = loop_new(NULL, &e);
    assert_non_null(r->loop);
    r->b = block_open(r->loop, &o, &e);
    assert_non_null(r->b);
}

static void tear_down(struct rig *r) {
    block_close(r->b);
    loop_free(r->loop);
    unlink(r->path);
}

static void submit(struct rig *r, unsigned i) {
    struct io *io = &r->io[i];

    r->left++;
    io->left = &r->left;
    io->iov = (struct iovec){io->data, PIECE};
    io->req = (struct block_request){.op = BLOCK_READ,
                                     .offset = i * 7ull * PIECE,
                                     .length = PIECE,
                                     .iov = &io->iov,
                                     .iov_count = 1,
                                     .done = io_done,
                                     .opaque = io};
    block_submit(r->b, &io->req);
}

/* One request under way that the kernel has not been told of, so that it cannot be complete; lent.
 * 0: this host has no io_uring, and there is nothing to lend. */
static unsigned lend_first(struct rig *r, struct pollfd *fds) {
    unsigned n;

    block_plug(r->b);
    submit(r, 0);
    n = loop_lend(r->loop, fds, FDS);
    block_unplug(r->b);
    return n;
}

static void a_lent_completion_does_not_wake_the_loop(void **state) {
    struct pollfd fds[FDS];
    struct rig r;
    unsigned n;

    set_up(&r);
    assert_int_equal(loop_lend(r.loop, fds, FDS), 0); /* nothing is under way */
    n = lend_first(&r, fds);
    if (n) {
        assert_true(poll(fds, n, 10000) > 0);
        assert_false(loop_step(r.loop, 0));
        assert_int_equal(r.left, 1);
        loop_take_back(r.loop);
        assert_int_equal(r.left, 0);
        assert_int_equal(loop_lend(r.loop, fds, FDS), 0);
        submit(&r, 1); /* and now it wakes again */
        for (int i = 0; i < 1000 && r.left; i++)
            loop_step(r.loop, 10);
    }
    tear_down(&r);
    if (!n)
        skip();
}

static void a_drain_does_not_wait_for_who_has_borrowed(void **state) {
    struct pollfd fds[FDS];
    struct rig r;
    unsigned n;

    set_up(&r);
    n = lend_first(&r, fds);
    for (unsigned i = 1; i < REQUESTS; i++)
        submit(&r, i);
    block_drain(r.b);
    assert_int_equal(r.left, 0);
    loop_take_back(r.loop);
    tear_down(&r);
    if (!n)
        skip();
}

static void an_image_may_be_closed_while_it_is_lent(void **state) {
    struct pollfd fds[FDS];
    struct rig r;

    set_up(&r);
    lend_first(&r, fds);
    block_close(r.b);
    assert_int_equal(r.left, 0);
    r.b = NULL;
    loop_take_back(r.loop);
    assert_int_equal(loop_lend(r.loop, fds, FDS), 0);
    tear_down(&r);
}

struct sleeper {
    struct rig *rig;
    pthread_mutex_t lock;
    unsigned rounds;
    bool stop;
};

/* What a halted processor does. */
static void *borrow(void *opaque) {
    struct sleeper *s = opaque;
    struct pollfd fds[FDS];
    unsigned n;

    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        n = loop_lend(s->rig->loop, fds, FDS);
        pthread_mutex_unlock(&s->lock);
        poll(fds, n, 1);
        pthread_mutex_lock(&s->lock);
        loop_take_back(s->rig->loop);
        s->rounds += n > 0;
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static void nothing_is_lost_between_a_borrower_and_the_loop(void **state) {
    struct sleeper s = {.lock = PTHREAD_MUTEX_INITIALIZER};
    unsigned long submitted = 0;
    pthread_t id;
    struct rig r;

    set_up(&r);
    s.rig = &r;
    assert_int_equal(pthread_create(&id, NULL, borrow, &s), 0);
    for (unsigned round = 0; round < 2000; round++) {
        pthread_mutex_lock(&s.lock);
        for (unsigned i = 0; r.left == 0 && i < REQUESTS; i++, submitted++)
            submit(&r, i);
        pthread_mutex_unlock(&s.lock);
        if (round % 3 == 0)
            usleep(50);
        pthread_mutex_lock(&s.lock); /* the rig's loop has no lock of its own */
        loop_step(r.loop, 0);
        pthread_mutex_unlock(&s.lock);
    }
    for (int i = 0; i < 5000 && r.left; i++) {
        pthread_mutex_lock(&s.lock);
        loop_step(r.loop, 0);
        pthread_mutex_unlock(&s.lock);
        usleep(1000);
    }
    pthread_mutex_lock(&s.lock);
    assert_int_equal(r.left, 0);
    s.stop = true;
    pthread_mutex_unlock(&s.lock);
    pthread_join(id, NULL);
    assert_true(submitted >= REQUESTS);
    tear_down(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lent_completion_does_not_wake_the_loop),
        cmocka_unit_test(a_drain_does_not_wait_for_who_has_borrowed),
        cmocka_unit_test(an_image_may_be_closed_while_it_is_lent),
        cmocka_unit_test(nothing_is_lost_between_a_borrower_and_the_loop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
