/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the virtio console. */
#include "devices/virtio/virtio_console.h"

#include <string.h>

#include "devices/virtio_driver.h"
#include "support/test.h"

enum { DEVFN = 0x08, RX = 0, TX = 1, NEEDS_RESET = 0x40 };

/* The host's side: keeps what it gets, as far as it has room. */
static struct {
    char text[1 << 20];
    size_t len, room, calls;
    unsigned can_receive;
} host;

static size_t host_write(void *opaque, const uint8_t *p, size_t n) {
    host.calls++;
    if (n > host.room)
        n = host.room;
    if (n > sizeof(host.text) - host.len)
        n = sizeof(host.text) - host.len;
    memcpy(host.text + host.len, p, n);
    host.len += n;
    host.room -= n;
    return n;
}

static void host_can_receive(void *opaque) { host.can_receive++; }

static struct board b;
static struct device *dev;
static struct driver d;

static int make(void **state) {
    const struct virtio_console_config config = {
        .port = {host_write, host_can_receive, NULL}, .cols = 80, .rows = 25};

    memset(&host, 0, sizeof(host));
    host.room = SIZE_MAX;
    test_board_init(&b, 4 << 20);
    dev = board_add(&b, "virtio_console", &config, DEVFN);
    driver_start(&d, &b, DEVFN, VIRTIO_F_INDIRECT_DESC | 1 | 4, 2, true);
    return 0;
}

static int drop(void **state) {
    test_board_done(&b);
    device_free(dev);
    return 0;
}

static void print(const char *text) {
    const struct driver_buf buf = {board_alloc(&b, strlen(text), 1), (uint32_t)strlen(text), false};

    mem_write(&b.mem, buf.addr, text, buf.len);
    driver_add(&d, TX, &buf, 1);
    driver_kick(&d, TX);
}

static void expect_output(const char *text) {
    assert_int_equal(host.len, strlen(text));
    assert_memory_equal(host.text, text, host.len);
}

static unsigned used(unsigned queue) {
    unsigned n = 0;
    uint16_t head;
    uint32_t len;

    while (driver_used(&d, queue, &head, &len))
        n++;
    return n;
}

static void output_goes_to_the_host(void **state) {
    print("Hello ");
    print("world\n");
    expect_output("Hello world\n");
    assert_int_equal(used(TX), 2);
    assert_int_equal(b.msi_count, 2);
    assert_int_equal(b.msi[0].data, DRIVER_VECTOR_BASE + 1 + TX);
}

static void output_waits_while_the_host_is_full(void **state) {
    host.room = 3;
    print("abcdef");
    print("gh");
    expect_output("abc");
    assert_int_equal(used(TX), 0);
    host.room = 2;
    driver_kick(&d, TX); /* kicks do not push it */
    expect_output("abc");
    virtio_console_writable(dev);
    clock_step(b.clock, 1000000);
    expect_output("abcde");
    host.room = 100;
    virtio_console_writable(dev);
    clock_step(b.clock, 1000000);
    expect_output("abcdefgh"); /* nothing twice, nothing lost */
    assert_int_equal(used(TX), 2);
    virtio_console_writable(dev); /* nothing waits: nothing happens */
    clock_step(b.clock, 1000000);
    expect_output("abcdefgh");
}

static void half_written_output_survives_a_snapshot(void **state) {
    const struct virtio_console_config config = {
        .port = {host_write, host_can_receive, NULL}, .cols = 80, .rows = 25};
    struct device *old = dev;
    struct buf saved = {0};

    host.room = 3;
    print("abcdef");
    state_save(dev->cls->state, dev, &saved);
    pci_bus_detach((struct pci_device *)old);
    dev = board_add(&b, "virtio_console", &config, DEVFN);
    host.room = 100;
    assert_int_equal(state_load(dev->cls->state, dev, saved.data, saved.len, NULL), 0);
    clock_step(b.clock, 1000000);
    expect_output("abcdef");
    assert_int_equal(used(TX), 1);
    device_free(old);
    buf_done(&saved);
}

static void a_gigantic_write_is_done_in_turns(void **state) {
    const struct driver_buf bufs[] = {{0x100000, 0x80000, false}, {0x100000, 0x40000, false}};

    driver_add(&d, TX, bufs, 2);
    driver_kick(&d, TX);
    assert_int_equal(host.len, 0x40000);
    assert_int_equal(used(TX), 0);
    clock_step(b.clock, 1000000);
    assert_int_equal(host.len, 0xc0000);
    assert_int_equal(used(TX), 1);
}

static void a_reset_forgets_what_was_half_written(void **state) {
    host.room = 3;
    print("abcdef");
    driver_start(&d, &b, DEVFN, 0, 2, true);
    host.room = 100;
    virtio_console_writable(dev);
    print("xyz");
    clock_step(b.clock, 1000000);
    expect_output("abcxyz");
}

static void input_fills_the_buffers_that_the_driver_gave(void **state) {
    const struct driver_buf small = {0x8000, 4, true}, big = {0x9000, 64, true};
    char text[8] = {0};
    uint16_t head;
    uint32_t len;

    driver_add(&d, RX, &small, 1);
    driver_add(&d, RX, &big, 1);
    assert_int_equal(virtio_console_receive(dev, (const uint8_t *)"hello!", 6), 6);
    assert_true(driver_used(&d, RX, &head, &len));
    assert_int_equal(len, 4);
    assert_true(driver_used(&d, RX, &head, &len));
    assert_int_equal(len, 2);
    mem_read(&b.mem, 0x8000, text, 4);
    mem_read(&b.mem, 0x9000, text + 4, 2);
    assert_string_equal(text, "hello!");
    assert_int_equal(b.msi_count, 1); /* one for both */
    assert_int_equal(host.can_receive, 0);
}

static void the_host_hears_when_there_is_room_for_input(void **state) {
    const struct driver_buf buf = {0x8000, 4, true};

    driver_add(&d, RX, &buf, 1);
    assert_int_equal(virtio_console_receive(dev, (const uint8_t *)"123456", 6), 4);
    assert_int_equal(virtio_console_receive(dev, (const uint8_t *)"56", 2), 0);
    assert_int_equal(host.can_receive, 0);
    driver_add(&d, RX, &buf, 1);
    driver_kick(&d, RX);
    assert_int_equal(host.can_receive, 1);
    assert_int_equal(virtio_console_receive(dev, (const uint8_t *)"56", 2), 2);
    driver_kick(&d, RX); /* nothing waits any more */
    assert_int_equal(host.can_receive, 1);
}

static void without_a_driver_input_is_not_taken(void **state) {
    driver_write(&d, 0x14, 1, 0);
    assert_int_equal(virtio_console_receive(dev, (const uint8_t *)"x", 1), 0);
    driver_start(&d, &b, DEVFN, 0, 2, true);
    driver_kick(&d, RX);
    assert_int_equal(host.can_receive, 1);
}

static void an_input_buffer_must_be_writable(void **state) {
    const struct driver_buf buf = {0x8000, 4, false};

    driver_add(&d, RX, &buf, 1);
    assert_int_equal(virtio_console_receive(dev, (const uint8_t *)"x", 1), 0);
    assert_int_equal(driver_status(&d), 15 | NEEDS_RESET);
    assert_int_equal(virtio_console_receive(dev, (const uint8_t *)"x", 1), 0);
}

static void the_size_is_told_and_changes(void **state) {
    assert_int_equal(driver_config(&d, 0, 4), 25 << 16 | 80);
    assert_int_equal(driver_config(&d, 4, 4), 0);
    virtio_console_resize(dev, 132, 50);
    assert_int_equal(driver_config(&d, 0, 2), 132);
    assert_int_equal(driver_config(&d, 2, 2), 50);
    assert_int_equal(driver_read(&d, 0x15, 1), 1);
    assert_int_equal(b.msi_count, 1);
    assert_int_equal(b.msi[0].data, DRIVER_VECTOR_BASE);
    virtio_console_resize(dev, 132, 50);
    assert_int_equal(b.msi_count, 1);
    driver_config_write(&d, 0, 2, 10); /* not the driver's */
    assert_int_equal(driver_config(&d, 0, 2), 132);
}

static void emergency_output_needs_no_driver(void **state) {
    driver_write(&d, 0x14, 1, 0);
    driver_config_write(&d, 8, 4, 'E');
    driver_config_write(&d, 8, 1, '!');
    expect_output("E!");
    assert_int_equal(driver_config(&d, 8, 4), 0);
}

static void a_console_without_config_drops_output(void **state) {
    struct device *bare = board_add(&b, "virtio_console", NULL, 0x10);
    const struct driver_buf buf = {0x8000, 4, false};
    struct driver other;
    uint16_t head;
    uint32_t len;

    driver_start(&other, &b, 0x10, 0, 2, false);
    assert_int_equal(driver_offered(&other) & 1, 0); /* no size to tell */
    driver_add(&other, TX, &buf, 1);
    driver_kick(&other, TX);
    assert_true(driver_used(&other, TX, &head, &len));
    virtio_console_receive(bare, (const uint8_t *)"x", 1);
    driver_kick(&other, RX);
    virtio_console_resize(bare, 1, 1);
    assert_int_equal(driver_read(&other, 0x15, 1), 0);
    pci_bus_detach((struct pci_device *)bare);
    device_free(bare);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, make, drop)
    const struct CMUnitTest tests[] = {
        T(output_goes_to_the_host),
        T(output_waits_while_the_host_is_full),
        T(half_written_output_survives_a_snapshot),
        T(a_gigantic_write_is_done_in_turns),
        T(a_reset_forgets_what_was_half_written),
        T(input_fills_the_buffers_that_the_driver_gave),
        T(the_host_hears_when_there_is_room_for_input),
        T(without_a_driver_input_is_not_taken),
        T(an_input_buffer_must_be_writable),
        T(the_size_is_told_and_changes),
        T(emergency_output_needs_no_driver),
        T(a_console_without_config_drops_output),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
