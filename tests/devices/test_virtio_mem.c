/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the memory device: what a driver may plug, and what becomes of what it unplugs. */
#include "devices/virtio/virtio_mem.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "devices/virtio_driver.h"
#include "support/test.h"

enum { DEVFN = 0x08, MIB = 1 << 20, BLOCK = 2 * MIB };
enum { PLUG, UNPLUG, UNPLUG_ALL, STATE };
enum { ACK, NACK, BUSY, ERROR };
enum { PLUGGED, UNPLUGGED, MIXED };
enum { C_BLOCK = 0, C_ADDR = 16, C_REGION = 24, C_USABLE = 32, C_PLUGGED = 40, C_REQUESTED = 48 };
#define BASE (1ull << 32)
#define ROOM (1024ull * MIB)

static struct board b;
static struct device *dev;
static struct driver d;

static void show(void *opaque, uint64_t bytes) { mem_show(&b.mem, BASE, bytes); }

static struct device *add(void) {
    static const struct virtio_mem_config config = {.base = BASE, .size = ROOM, .show = show};

    return board_add(&b, "virtio_mem", &config, DEVFN);
}

static int make(void **state) {
    struct error err = {0};

    test_board_init(&b, 8 * MIB);
    assert_int_equal(mem_add_room(&b.mem, BASE, ROOM, &err), 0);
    dev = add();
    driver_start(&d, &b, DEVFN, 0, 1, false);
    return 0;
}

static int drop(void **state) {
    clock_step(b.clock, 1000000000); /* what is to be done soon */
    test_board_done(&b);
    device_free(dev);
    return 0;
}

/* The answer, and in the upper half what it says of a state. */
static unsigned ask(unsigned type, gpa addr, unsigned blocks) {
    gpa at = board_alloc(&b, 40, 8);
    const struct driver_buf buf[] = {{at, 24, false}, {at + 24, 10, true}};
    uint16_t head;
    uint32_t len;

    board_store32(&b, at, type);
    board_store64(&b, at + 8, addr);
    board_store64(&b, at + 16, blocks);
    board_store32(&b, at + 24, 0xffffffff);
    driver_add(&d, 0, buf, 2);
    driver_kick(&d, 0);
    assert_true(driver_used(&d, 0, &head, &len));
    assert_int_equal(len, 10);
    return board_load16(&b, at + 24) | (unsigned)board_load16(&b, at + 32) << 16;
}

static uint64_t config(unsigned offset) {
    return driver_config(&d, offset, 4) | driver_config(&d, offset + 4, 4) << 32;
}

static struct virtio_mem_status look(void) {
    struct virtio_mem_status s;

    virtio_mem_status(dev, &s);
    return s;
}

static void nothing_is_there_before_it_is_wanted(void **state) {
    uint8_t byte;

    assert_int_equal(config(C_BLOCK), BLOCK);
    assert_true(config(C_ADDR) == BASE);
    assert_true(config(C_REGION) == ROOM);
    assert_int_equal(config(C_USABLE) | config(C_PLUGGED) | config(C_REQUESTED), 0);
    assert_int_equal(ask(PLUG, BASE, 1), ERROR); /* behind the usable region */
    assert_int_equal(mem_read(&b.mem, BASE, &byte, 1), -EFAULT);
    assert_int_equal(mem_write(&b.mem, BASE, &byte, 1), -EFAULT);
    assert_int_equal(b.mem.ram_size, 8 * MIB);
}

static void as_much_is_plugged_as_is_wanted(void **state) {
    driver_isr(&d);
    virtio_mem_set(dev, 3 * MIB); /* whole blocks */
    assert_int_equal(driver_isr(&d), 2);
    assert_int_equal(config(C_REQUESTED), 2 * BLOCK);
    assert_int_equal(config(C_USABLE), 2 * BLOCK + 256 * MIB);
    assert_int_equal(ask(PLUG, BASE + 10 * BLOCK, 3), NACK);
    assert_int_equal(ask(PLUG, BASE + 10 * BLOCK, 1), ACK);
    assert_int_equal(config(C_PLUGGED), BLOCK);
    assert_int_equal(ask(PLUG, BASE + 9 * BLOCK, 2), ERROR); /* one is there */
    assert_int_equal(ask(PLUG, BASE + 9 * BLOCK, 1), ACK);
    assert_int_equal(ask(PLUG, BASE, 1), NACK);
    assert_int_equal(ask(STATE, BASE + 9 * BLOCK, 2), ACK | PLUGGED << 16);
    assert_int_equal(ask(STATE, BASE + 8 * BLOCK, 2), ACK | MIXED << 16);
    assert_int_equal(ask(STATE, BASE, 9), ACK | UNPLUGGED << 16);
    assert_int_equal(look().plugged, 2 * BLOCK);
    assert_true(look().driver);
    virtio_mem_set(dev, 100 * ROOM);
    assert_true(look().wanted == ROOM);
    assert_true(config(C_USABLE) == ROOM);
}

static void what_breaks_the_rules_is_an_error(void **state) {
    virtio_mem_set(dev, 64 * MIB);
    assert_int_equal(ask(PLUG, BASE, 0), ERROR);
    assert_int_equal(ask(PLUG, BASE + 4096, 1), ERROR);
    assert_int_equal(ask(PLUG, BASE - BLOCK, 1), ERROR);
    assert_int_equal(ask(PLUG, 0, 1), ERROR);
    assert_int_equal(ask(PLUG, UINT64_MAX - BLOCK + 1, 2), ERROR);
    assert_int_equal(ask(PLUG, BASE + 318 * MIB, 2), ERROR); /* the second is behind the end */
    assert_int_equal(ask(PLUG, BASE + 318 * MIB, 1), ACK);
    assert_int_equal(ask(UNPLUG, BASE, 1), ERROR); /* is not there */
    assert_int_equal(ask(UNPLUG, BASE + 316 * MIB, 2), ERROR);
    assert_int_equal(ask(STATE, BASE + 320 * MIB, 1), ERROR);
    assert_int_equal(ask(7, BASE, 1), ERROR);
    assert_int_equal(look().plugged, BLOCK);
}

static void a_request_that_is_too_short_is_answered_too(void **state) {
    gpa at = board_alloc(&b, 40, 8);
    const struct driver_buf buf[] = {{at, 3, false}, {at + 24, 1, true}};
    uint16_t head;
    uint32_t len;

    driver_add(&d, 0, buf, 2);
    driver_kick(&d, 0);
    assert_true(driver_used(&d, 0, &head, &len));
    assert_int_equal(len, 1);
    driver_add(&d, 0, buf, 1);
    driver_kick(&d, 0);
    assert_true(driver_used(&d, 0, &head, &len));
    assert_int_equal(len, 0);
    assert_true(look().driver);
}

static void what_is_unplugged_reads_as_zeros(void **state) {
    virtio_mem_set(dev, 64 * MIB);
    assert_int_equal(ask(PLUG, BASE, 4), ACK);
    for (unsigned i = 0; i < 4; i++)
        board_store32(&b, BASE + i * BLOCK + 4096, 0x55555555);
    assert_int_equal(ask(UNPLUG, BASE + BLOCK, 2), ACK);
    assert_int_equal(board_load32(&b, BASE + 4096), 0x55555555);
    assert_int_equal(board_load32(&b, BASE + BLOCK + 4096), 0);
    assert_int_equal(board_load32(&b, BASE + 2 * BLOCK + 4096), 0);
    assert_int_equal(board_load32(&b, BASE + 3 * BLOCK + 4096), 0x55555555);
    assert_int_equal(look().plugged, 2 * BLOCK);
    assert_int_equal(ask(UNPLUG_ALL, 0, 0), ACK);
    assert_int_equal(board_load32(&b, BASE + 4096), 0);
    assert_int_equal(board_load32(&b, BASE + 3 * BLOCK + 4096), 0);
    assert_int_equal(look().plugged, 0);
    assert_int_equal(look().wanted, 64 * MIB);
}

static void a_driver_that_begins_anew_finds_what_was_there(void **state) {
    virtio_mem_set(dev, 64 * MIB);
    assert_int_equal(ask(PLUG, BASE + 2 * BLOCK, 1), ACK);
    board_store32(&b, BASE + 2 * BLOCK, 0x55555555);
    driver_start(&d, &b, DEVFN, 0, 1, false);
    assert_int_equal(ask(STATE, BASE + 2 * BLOCK, 1), ACK | PLUGGED << 16);
    assert_int_equal(board_load32(&b, BASE + 2 * BLOCK), 0x55555555);
}

/* Also what was written where nothing was plugged, as a driver must not do. */
static void a_machine_that_begins_anew_has_none_and_finds_zeros(void **state) {
    uint8_t byte;

    virtio_mem_set(dev, 512 * MIB);
    assert_int_equal(ask(PLUG, BASE, 1), ACK);
    board_store32(&b, BASE, 0x55555555);
    board_store32(&b, BASE + 600 * MIB, 0x55555555);
    virtio_mem_set(dev, 2 * MIB);
    assert_int_equal(mem_read(&b.mem, BASE + 600 * MIB, &byte, 1), 0); /* still usable */
    device_reset(dev);
    assert_int_equal(look().plugged, 0);
    assert_int_equal(look().wanted, 2 * MIB);
    assert_int_equal(mem_read(&b.mem, BASE + 258 * MIB, &byte, 1), -EFAULT);
    virtio_mem_set(dev, 512 * MIB);
    assert_int_equal(board_load32(&b, BASE), 0);
    assert_int_equal(board_load32(&b, BASE + 600 * MIB), 0);
}

static void a_copy_has_the_same_blocks(void **state) {
    struct buf stream = {0};
    struct device *copy;
    struct error err = {0};
    uint8_t byte;

    virtio_mem_set(dev, 64 * MIB);
    assert_int_equal(ask(PLUG, BASE + 3 * BLOCK, 2), ACK);
    state_save(dev->cls->state, dev, &stream);
    pci_bus_detach((struct pci_device *)dev);
    copy = dev;
    mem_show(&b.mem, BASE, 0);
    dev = add();
    assert_int_equal(mem_read(&b.mem, BASE, &byte, 1), -EFAULT);
    assert_int_equal(state_load(dev->cls->state, dev, stream.data, stream.len, &err), 0);
    assert_int_equal(mem_read(&b.mem, BASE, &byte, 1), 0);
    assert_int_equal(look().plugged, 2 * BLOCK);
    assert_int_equal(look().wanted, 64 * MIB);
    assert_int_equal(ask(STATE, BASE + 3 * BLOCK, 2), ACK | PLUGGED << 16);
    assert_int_equal(ask(STATE, BASE + 2 * BLOCK, 4), ACK | MIXED << 16);
    buf_done(&stream);
    device_free(copy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_there_before_it_is_wanted, make, drop),
        cmocka_unit_test_setup_teardown(as_much_is_plugged_as_is_wanted, make, drop),
        cmocka_unit_test_setup_teardown(what_breaks_the_rules_is_an_error, make, drop),
        cmocka_unit_test_setup_teardown(a_request_that_is_too_short_is_answered_too, make, drop),
        cmocka_unit_test_setup_teardown(what_is_unplugged_reads_as_zeros, make, drop),
        cmocka_unit_test_setup_teardown(a_driver_that_begins_anew_finds_what_was_there, make, drop),
        cmocka_unit_test_setup_teardown(a_machine_that_begins_anew_has_none_and_finds_zeros, make,
                                        drop),
        cmocka_unit_test_setup_teardown(a_copy_has_the_same_blocks, make, drop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
