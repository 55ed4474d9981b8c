/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the entropy device. */
#include <string.h>

#include "devices/virtio/virtio_rng.h"
#include "devices/virtio_driver.h"
#include "support/test.h"

enum { DEVFN = 0x08 };

/* A source that counts up and may run dry. */
struct source {
    uint8_t next;
    size_t left, asked;
};

static size_t count_up(void *opaque, void *buf, size_t len) {
    struct source *s = opaque;
    uint8_t *p = buf;

    s->asked += len;
    if (len > s->left)
        len = s->left;
    for (size_t i = 0; i < len; i++)
        p[i] = s->next++;
    s->left -= len;
    return len;
}

static struct board b;
static struct device *dev;
static struct driver d;
static struct source source;

static int make(void **state) {
    const struct virtio_rng_config config = {count_up, &source};

    source = (struct source){.next = 1, .left = SIZE_MAX};
    test_board_init(&b, 1 << 20);
    dev = board_add(&b, "virtio_rng", &config, DEVFN);
    driver_start(&d, &b, DEVFN, 0, 1, false);
    return 0;
}

static int drop(void **state) {
    test_board_done(&b);
    device_free(dev);
    return 0;
}

static void it_fills_all_writable_buffers_of_a_chain(void **state) {
    gpa at = board_alloc(&b, 64, 16);
    const struct driver_buf bufs[] = {{at, 5, true}, {at + 32, 3, true}};
    const uint8_t want[40] = {1, 2, 3, 4, 5, [32] = 6, 7, 8};
    uint8_t got[40];
    uint16_t head;
    uint32_t len;

    driver_add(&d, 0, bufs, 2);
    driver_kick(&d, 0);
    assert_true(driver_used(&d, 0, &head, &len));
    assert_int_equal(len, 8);
    mem_read(&b.mem, at, got, sizeof(got));
    assert_memory_equal(got, want, sizeof(got));
    assert_true(b.intx[1]); /* slot 1, pin A */
    assert_int_equal(driver_isr(&d), 1);
    assert_false(b.intx[1]);
}

static void a_huge_request_is_answered_in_part(void **state) {
    const struct driver_buf bufs[] = {{0x10000, 0xf0000, true}, {0x10000, 0xf0000, true}};
    uint16_t head;
    uint32_t len;

    driver_add(&d, 0, bufs, 2);
    driver_kick(&d, 0);
    assert_true(driver_used(&d, 0, &head, &len));
    assert_int_equal(len, 4096);
    assert_int_equal(source.asked, 4096);
}

static void a_request_without_room_is_given_back_empty(void **state) {
    const struct driver_buf buf = {0x8000, 16, false};
    uint16_t head;
    uint32_t len;

    driver_add(&d, 0, &buf, 1);
    driver_kick(&d, 0);
    assert_true(driver_used(&d, 0, &head, &len));
    assert_int_equal(len, 0);
}

static void a_source_that_runs_dry_gives_what_it_has(void **state) {
    const struct driver_buf buf = {0x8000, 16, true};
    uint16_t head;
    uint32_t len;

    source.left = 10;
    for (int i = 0; i < 2; i++)
        driver_add(&d, 0, &buf, 1);
    driver_kick(&d, 0);
    assert_true(driver_used(&d, 0, &head, &len));
    assert_int_equal(len, 10);
    assert_true(driver_used(&d, 0, &head, &len));
    assert_int_equal(len, 0);
}

static void the_host_gives_different_bytes_each_time(void **state) {
    struct device *plain = board_add(&b, "virtio_rng", NULL, 0x10);
    const struct driver_buf bufs[] = {{0x8000, 32, true}, {0x9000, 32, true}};
    uint8_t bytes[2][32], zero[32] = {0};
    struct driver other;

    driver_start(&other, &b, 0x10, VIRTIO_F_EVENT_IDX, 1, true);
    driver_add(&other, 0, &bufs[0], 1);
    driver_add(&other, 0, &bufs[1], 1);
    driver_kick(&other, 0);
    mem_read(&b.mem, 0x8000, bytes[0], 32);
    mem_read(&b.mem, 0x9000, bytes[1], 32);
    assert_memory_not_equal(bytes[0], bytes[1], 32);
    assert_memory_not_equal(bytes[0], zero, 32);
    pci_bus_detach((struct pci_device *)plain);
    device_free(plain);
}

static void it_has_no_configuration_of_its_own(void **state) {
    assert_int_equal(d.device, 0);
    assert_int_equal(pci_config_read(b.bus, DEVFN, PCI_DEVICE, 2), 0x1044);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, make, drop)
    const struct CMUnitTest tests[] = {
        T(it_fills_all_writable_buffers_of_a_chain),   T(a_huge_request_is_answered_in_part),
        T(a_request_without_room_is_given_back_empty), T(a_source_that_runs_dry_gives_what_it_has),
        T(the_host_gives_different_bytes_each_time),   T(it_has_no_configuration_of_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
