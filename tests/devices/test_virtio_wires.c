/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of a virtio device whose kicks and interrupts go by descriptors, as with KVM. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"
#include "bus/wires.h"
#include "devices/virtio_driver.h"
#include "support/test.h"

enum { DEVFN = 0x18, LEN = 64, QUEUE = 0, ITS_VECTOR = QUEUE + 1, BAR0 = 0x10 };

static struct { /* what KVM would hold: one doorbell, one message */
    int bell;
    uint64_t addr;
    int wire;
    struct msi_message message;
} kernel;

static struct board b;
static struct loop *loop;
static struct wires *wires;
static struct device *dev;
static struct driver d;

static int ring(void *opaque, uint64_t addr, int fd, bool on) {
    if (!on && (kernel.addr != addr || kernel.bell != fd))
        return -ENOENT;
    kernel.bell = on ? fd : -1;
    kernel.addr = addr;
    return 0;
}

static int carry(void *opaque, int fd, const struct msi_message *message) {
    kernel.wire = message ? fd : -1;
    if (message)
        kernel.message = *message;
    return 0;
}

static const struct wires_ops ops = {ring, carry};

static int make(void **state) {
    kernel.bell = kernel.wire = -1;
    test_board_init(&b, 1 << 20);
    loop = loop_new(NULL, NULL);
    wires = wires_new(loop, &ops, NULL);
    pci_bus_set_wires(b.bus, wires);
    dev = board_add(&b, "virtio_rng", NULL, DEVFN);
    driver_start(&d, &b, DEVFN, 0, 1, true);
    return 0;
}

static int drop(void **state) {
    test_board_done(&b);
    device_free(dev);
    assert_int_equal(kernel.bell, -1);
    assert_int_equal(kernel.wire, -1);
    wires_free(wires);
    loop_free(loop);
    return 0;
}

static bool is_signalled(int fd) {
    uint64_t n;

    return read(fd, &n, sizeof(n)) == sizeof(n);
}

static void settle(void) {
    while (loop_step(loop, 0))
        ;
}

/* The guest's write, which KVM does not let through where it has a doorbell. */
static void kick(void) {
    const uint64_t one = 1;

    if (kernel.bell >= 0 && kernel.addr == d.q[QUEUE].notify)
        assert_int_equal(write(kernel.bell, &one, sizeof(one)), sizeof(one));
    else
        driver_kick(&d, QUEUE);
}

static void ask(void) {
    const struct driver_buf buf = {board_alloc(&b, LEN, 16), LEN, true};

    driver_add(&d, QUEUE, &buf, 1);
    kick();
}

static bool answered(void) {
    uint16_t head;
    uint32_t len;

    return driver_used(&d, QUEUE, &head, &len);
}

static void a_kick_is_served_by_the_loop_and_interrupts_by_a_wire(void **state) {
    assert_true(kernel.bell >= 0 && kernel.addr == d.q[QUEUE].notify);
    ask();
    assert_false(answered()); /* the processor goes on */
    settle();
    assert_true(answered());
    assert_int_equal(b.msi_count, 0);
    assert_true(is_signalled(kernel.wire));
    assert_int_equal(kernel.message.data, DRIVER_VECTOR_BASE + ITS_VECTOR);
    io_write(&b.mmio, d.msix_table + 16 * ITS_VECTOR + 8, 4, 0x77); /* another processor's turn */
    ask();
    settle();
    assert_int_equal(kernel.message.data, 0x77);
    assert_true(is_signalled(kernel.wire));
}

static void the_doorbell_goes_where_the_bar_goes(void **state) {
    gpa offset = d.q[QUEUE].notify - (pci_config_read(b.bus, DEVFN, BAR0, 4) & ~15u);

    pci_config_write(b.bus, DEVFN, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
    assert_int_equal(kernel.bell, -1);
    pci_config_write(b.bus, DEVFN, BAR0, 4, 0xd0000000);
    pci_config_write(b.bus, DEVFN, PCI_COMMAND, 2, PCI_COMMAND_MEM | PCI_COMMAND_MASTER);
    assert_true(kernel.addr == 0xd0000000 + offset);
    d.q[QUEUE].notify = kernel.addr;
    ask();
    settle();
    assert_true(answered());
}

static void a_kick_before_a_reset_does_nothing_after_it(void **state) {
    ask();
    driver_write(&d, 0x14, 1, 0);
    settle();
    assert_false(answered());
    assert_false(kernel.wire >= 0 && is_signalled(kernel.wire));
}

static void at_rest_what_was_kicked_is_served_and_interrupts_stay_with_the_board(void **state) {
    ask();
    wires_hold(wires);
    wires_answer(wires);
    assert_true(answered());
    assert_int_equal(b.msi_count, 1);
    assert_int_equal(b.msi[0].data, DRIVER_VECTOR_BASE + ITS_VECTOR);
    wires_let_go(wires);
    ask();
    settle();
    assert_int_equal(b.msi_count, 1);
    assert_true(is_signalled(kernel.wire));
}

static void without_the_backend_all_is_as_ever(void **state) {
    ask();
    wires_come_home(wires);
    kernel.bell = kernel.wire = -1;
    settle();
    assert_true(answered()); /* what was rung before */
    ask();
    assert_true(answered());
    assert_int_equal(b.msi_count, 2);
}

#define WIRED(test) cmocka_unit_test_setup_teardown(test, make, drop)

int main(void) {
    const struct CMUnitTest tests[] = {
        WIRED(a_kick_is_served_by_the_loop_and_interrupts_by_a_wire),
        WIRED(the_doorbell_goes_where_the_bar_goes),
        WIRED(a_kick_before_a_reset_does_nothing_after_it),
        WIRED(at_rest_what_was_kicked_is_served_and_interrupts_stay_with_the_board),
        WIRED(without_the_backend_all_is_as_ever),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
