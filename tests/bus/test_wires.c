/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of doorbells and message wires, with a backend that notes what it is asked for. */
#include "bus/wires.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"
#include "support/test.h"

enum { PLACES = 8 };

struct kernel { /* what KVM would hold */
    struct {
        int fd;
        uint64_t addr;
    } bell[PLACES];
    struct {
        int fd;
        struct msi_message message;
    } wire[PLACES];
    unsigned rings, carries; /* requests */
    bool refuses;
};

struct bench {
    struct kernel kernel;
    struct loop *loop;
    struct wires *wires;
    unsigned rung[PLACES], messages;
    struct msi_message last;
    struct msi_sink sink;
};

static int ring(void *opaque, uint64_t addr, int fd, bool on) {
    struct kernel *k = opaque;

    k->rings++;
    if (k->refuses)
        return -ENOSPC;
    for (unsigned i = 0; i < PLACES; i++)
        if (on ? !k->bell[i].fd : k->bell[i].fd == fd && k->bell[i].addr == addr) {
            k->bell[i].fd = on ? fd : 0;
            k->bell[i].addr = addr;
            return 0;
        }
    fail_msg("%s", on ? "too many" : "it was not there");
    return -EINVAL;
}

static int carry(void *opaque, int fd, const struct msi_message *message) {
    struct kernel *k = opaque;
    unsigned at = PLACES;

    k->carries++;
    if (k->refuses)
        return -ENOSPC;
    for (unsigned i = 0; i < PLACES; i++)
        if (k->wire[i].fd == fd || (message && at == PLACES && !k->wire[i].fd))
            at = i;
    assert_true(at < PLACES);
    k->wire[at].fd = message ? fd : 0;
    if (message)
        k->wire[at].message = *message;
    return 0;
}

static const struct wires_ops ops = {ring, carry};

static void rung(void *opaque, unsigned n) { ((struct bench *)opaque)->rung[n]++; }

static void sent(void *opaque, uint64_t addr, uint32_t data) {
    struct bench *b = opaque;

    b->messages++;
    b->last = (struct msi_message){addr, data};
}

static void open_bench(struct bench *b, bool direct) {
    memset(b, 0, sizeof(*b));
    b->loop = loop_new(NULL, NULL);
    assert_non_null(b->loop);
    b->sink = (struct msi_sink){sent, b};
    b->wires = wires_new(b->loop, direct ? &ops : NULL, &b->kernel);
    assert_non_null(b->wires);
}

static void close_bench(struct bench *b) {
    for (unsigned i = 0; i < PLACES; i++)
        assert_true(!b->kernel.bell[i].fd && !b->kernel.wire[i].fd);
    wires_free(b->wires);
    loop_free(b->loop);
}

static void settle(struct bench *b) {
    while (loop_step(b->loop, 0))
        ;
}

static void signal_fd(int fd) {
    const uint64_t one = 1;

    assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

/* The guest writes: the kernel finds the descriptor by the address. */
static bool guest_writes(struct bench *b, uint64_t addr) {
    for (unsigned i = 0; i < PLACES; i++)
        if (b->kernel.bell[i].fd && b->kernel.bell[i].addr == addr) {
            signal_fd(b->kernel.bell[i].fd);
            return true;
        }
    return false;
}

static bool is_signalled(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, 0) == 1;
}

static void test_a_doorbell_rings_where_it_is(void **state) {
    struct doorbell *one, *two;
    struct bench b;

    open_bench(&b, true);
    one = doorbell_new(b.wires, rung, &b, 1);
    two = doorbell_new(b.wires, rung, &b, 2);
    assert_false(guest_writes(&b, 0x1000));
    doorbell_move(one, 0x1000);
    doorbell_move(two, 0x1004);
    assert_true(guest_writes(&b, 0x1004));
    assert_true(guest_writes(&b, 0x1004));
    assert_int_equal(b.rung[2], 0); /* not on the thread that writes */
    settle(&b);
    assert_int_equal(b.rung[1], 0);
    assert_int_equal(b.rung[2], 1); /* both writes at once */
    doorbell_move(two, 0x2004);
    assert_false(guest_writes(&b, 0x1004));
    assert_true(guest_writes(&b, 0x2004));
    settle(&b);
    assert_int_equal(b.rung[2], 2);
    doorbell_move(one, DOORBELL_NOWHERE);
    assert_false(guest_writes(&b, 0x1000));
    doorbell_free(two);
    doorbell_free(one);
    assert_int_equal(b.kernel.rings, 6);
    close_bench(&b);
}

static void test_what_was_rung_before_a_pause_is_answered_in_it(void **state) {
    struct doorbell *one;
    struct bench b;

    open_bench(&b, true);
    one = doorbell_new(b.wires, rung, &b, 1);
    doorbell_move(one, 0x1000);
    guest_writes(&b, 0x1000);
    wires_answer(b.wires);
    assert_int_equal(b.rung[1], 1);
    wires_answer(b.wires);
    settle(&b);
    assert_int_equal(b.rung[1], 1); /* and only once */
    doorbell_free(one);
    close_bench(&b);
}

static void test_without_a_backend_there_are_no_doorbells(void **state) {
    struct doorbell *one;
    struct bench b;

    assert_null(doorbell_new(NULL, rung, &b, 1));
    open_bench(&b, false);
    assert_false(wires_direct(b.wires));
    assert_null(doorbell_new(b.wires, rung, &b, 1));
    doorbell_free(NULL);
    close_bench(&b);
    open_bench(&b, true);
    b.kernel.refuses = true;
    one = doorbell_new(b.wires, rung, &b, 1);
    doorbell_move(one, 0x1000); /* the write comes to the board */
    b.kernel.refuses = false;
    doorbell_move(one, 0x2000);
    assert_true(guest_writes(&b, 0x2000));
    doorbell_free(one);
    close_bench(&b);
}

static void test_a_backend_that_goes_leaves_what_was_rung(void **state) {
    struct doorbell *one;
    struct bench b;

    open_bench(&b, true);
    one = doorbell_new(b.wires, rung, &b, 1);
    doorbell_move(one, 0x1000);
    guest_writes(&b, 0x1000);
    wires_come_home(b.wires);
    memset(&b.kernel, 0, sizeof(b.kernel));
    assert_false(wires_direct(b.wires));
    settle(&b);
    assert_int_equal(b.rung[1], 1);
    doorbell_move(one, 0x2000);
    doorbell_free(one);
    assert_int_equal(b.kernel.rings, 0); /* it is not asked any more */
    close_bench(&b);
}

static void test_the_backend_carries_a_message_that_changes(void **state) {
    struct msi_wire *m;
    struct bench b;

    open_bench(&b, true);
    m = msi_wire_new(b.wires, &b.sink);
    assert_false(msi_wire_raise(m)); /* it is off */
    msi_wire_set(m, true, 0xfee00000, 0x31);
    assert_int_equal(b.kernel.wire[0].message.data, 0x31);
    assert_true(msi_wire_raise(m));
    assert_true(is_signalled(b.kernel.wire[0].fd));
    msi_wire_set(m, true, 0xfee00000, 0x31);
    assert_int_equal(b.kernel.carries, 1); /* nothing new */
    msi_wire_set(m, true, 0xfee01000, 0x31);
    assert_true(b.kernel.wire[0].message.addr == 0xfee01000);
    settle(&b);
    assert_int_equal(b.messages, 0); /* it is the kernel's to raise */
    wires_hold(b.wires);
    assert_false(msi_wire_raise(m)); /* a machine at rest: the board keeps it */
    wires_let_go(b.wires);
    assert_true(msi_wire_raise(m));
    msi_wire_set(m, false, 0, 0);
    assert_int_equal(b.kernel.wire[0].fd, 0);
    b.kernel.refuses = true;
    msi_wire_set(m, true, 0xfee00000, 0x32);
    assert_false(msi_wire_raise(m));
    b.kernel.refuses = false;
    msi_wire_free(m);
    close_bench(&b);
}

static void signals_of_others(bool direct) {
    struct msi_wire *m;
    struct bench b;
    int fd;

    open_bench(&b, direct);
    m = msi_wire_new(b.wires, &b.sink);
    fd = msi_wire_fd(m);
    signal_fd(fd); /* off: it waits */
    settle(&b);
    assert_int_equal(b.messages, 0);
    assert_true(msi_wire_pending(m));
    msi_wire_set(m, true, 0xfee00000, 0x41);
    settle(&b);
    if (direct) {
        assert_int_equal(b.kernel.wire[0].fd, fd); /* which looks at the count */
        assert_false(msi_wire_pending(m));
        wires_hold(b.wires);
        assert_int_equal(b.kernel.wire[0].fd, 0);
        wires_let_go(b.wires);
        assert_int_equal(b.kernel.wire[0].fd, fd);
        wires_hold(b.wires);
        wires_come_home(b.wires);
        settle(&b);
    }
    assert_int_equal(b.messages, 1);
    assert_int_equal(b.last.data, 0x41);
    assert_false(msi_wire_pending(m));
    wires_hold(b.wires);
    signal_fd(fd);
    settle(&b);
    assert_int_equal(b.messages, 1);
    wires_let_go(b.wires);
    settle(&b);
    assert_int_equal(b.messages, 2);
    msi_wire_set(m, true, 0xfee00000, 0x42);
    signal_fd(fd);
    settle(&b);
    assert_int_equal(b.last.data, 0x42);
    msi_wire_free(m);
    close_bench(&b);
}

static void test_signals_of_others_are_raised_by_the_loop(void **state) {
    signals_of_others(false);
}

static void test_signals_of_others_are_raised_by_the_backend_while_there_is_one(void **state) {
    signals_of_others(true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_doorbell_rings_where_it_is),
        cmocka_unit_test(test_what_was_rung_before_a_pause_is_answered_in_it),
        cmocka_unit_test(test_without_a_backend_there_are_no_doorbells),
        cmocka_unit_test(test_a_backend_that_goes_leaves_what_was_rung),
        cmocka_unit_test(test_the_backend_carries_a_message_that_changes),
        cmocka_unit_test(test_signals_of_others_are_raised_by_the_loop),
        cmocka_unit_test(test_signals_of_others_are_raised_by_the_backend_while_there_is_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
