/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the file system device: what its queues carry, with a share behind it. */
#include <errno.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/virtio/virtio_fs.h"
#include "devices/virtio_driver.h"
#include "share/share.h"
#include "support/test.h"

enum { DEVFN = 0x08, HIGH = 0, REQUESTS = 1 };

static struct board b;
static struct device *dev;
static struct driver d;
static struct share *share;
static char folder[64];

static void start(void) { driver_start(&d, &b, DEVFN, 0, 2, true); }

static int make(void **state) {
    struct virtio_fs_config config = {.tag = "work"};
    struct share_options o = {.path = folder};

    snprintf(folder, sizeof(folder), "/tmp/viv-fs-XXXXXX");
    assert_non_null(mkdtemp(folder));
    share = share_open(NULL, &o, NULL);
    assert_non_null(share);
    config.share = share;
    test_board_init(&b, 4 << 20);
    dev = board_add(&b, "virtio_fs", &config, DEVFN);
    start();
    return 0;
}

static int drop(void **state) {
    test_board_done(&b);
    device_free(dev);
    share_close(share);
    return rmdir(folder);
}

/* One request; the answer's error, or 1 if there is none. */
static int ask(unsigned queue, unsigned opcode, uint64_t node, const void *args, size_t n,
               size_t room) {
    gpa out = board_alloc(&b, 4096, 16), in = board_alloc(&b, 4096, 16);
    struct fuse_in_header h = {
        .len = (uint32_t)(sizeof(h) + n), .opcode = opcode, .unique = 77, .nodeid = node};
    struct driver_buf bufs[] = {
        {out, sizeof(h), false}, {out + sizeof(h), (uint32_t)n, false}, {in, (uint32_t)room, true}};
    struct fuse_out_header answer;
    uint16_t head;
    uint32_t len;

    mem_write(&b.mem, out, &h, sizeof(h));
    mem_write(&b.mem, out + sizeof(h), args, n);
    driver_add(&d, queue, bufs, room ? 3 : 2);
    driver_kick(&d, queue);
    share_drain(share);
    assert_true(driver_used(&d, queue, &head, &len));
    if (!len)
        return 1;
    mem_read(&b.mem, in, &answer, sizeof(answer));
    assert_int_equal(answer.len, len);
    assert_int_equal(answer.unique, 77);
    return answer.error;
}

static int hello(void) {
    struct fuse_init_in in = {.major = 7, .minor = 36, .flags = ~0u};

    return ask(REQUESTS, FUSE_INIT, 0, &in, sizeof(in), 200);
}

static void the_guest_reads_the_tag_and_the_number_of_queues(void **state) {
    assert_int_equal(pci_config_read(b.bus, DEVFN, PCI_DEVICE, 2), 0x105a);
    assert_int_equal(driver_config(&d, 0, 4), 0x6b726f77); /* "work" */
    assert_int_equal(driver_config(&d, 4, 4), 0);
    assert_int_equal(driver_config(&d, 36, 4), 1);
}

static void requests_are_answered_with_an_interrupt(void **state) {
    unsigned before;

    assert_int_equal(hello(), 0);
    before = b.msi_count;
    assert_int_equal(ask(REQUESTS, FUSE_LOOKUP, 1, "none", 5, 200), -ENOENT);
    assert_int_equal(b.msi_count, before + 1);
    assert_int_equal(b.msi[before].data, DRIVER_VECTOR_BASE + 1 + REQUESTS);
}

static void what_wants_no_answer_is_given_back_empty(void **state) {
    struct fuse_forget_in in = {5};

    assert_int_equal(hello(), 0);
    assert_int_equal(ask(HIGH, FUSE_FORGET, 9, &in, sizeof(in), 0), 1);
    assert_int_equal(driver_status(&d) & 0x40, 0);
}

static void a_reset_ends_the_session(void **state) {
    assert_int_equal(hello(), 0);
    assert_int_equal(ask(REQUESTS, FUSE_LOOKUP, 1, "none", 5, 200), -ENOENT);
    start();
    assert_int_equal(ask(REQUESTS, FUSE_LOOKUP, 1, "none", 5, 200), -EIO);
    assert_int_equal(hello(), 0);
    assert_int_equal(ask(REQUESTS, FUSE_LOOKUP, 1, "none", 5, 200), -ENOENT);
}

static void a_request_without_a_header_breaks_the_device(void **state) {
    const struct driver_buf buf = {0x8000, 39, false};

    driver_add(&d, REQUESTS, &buf, 1);
    driver_kick(&d, REQUESTS);
    assert_int_equal(driver_status(&d) & 0x40, 0x40);
}

static void a_device_without_a_share_says_so(void **state) {
    struct device *plain = board_add(&b, "virtio_fs", NULL, 0x10);

    driver_start(&d, &b, 0x10, 0, 2, false);
    assert_int_equal(hello(), -EIO);
    pci_bus_detach((struct pci_device *)plain);
    device_free(plain);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, make, drop)
    const struct CMUnitTest tests[] = {
        T(the_guest_reads_the_tag_and_the_number_of_queues),
        T(requests_are_answered_with_an_interrupt),
        T(what_wants_no_answer_is_given_back_empty),
        T(a_reset_ends_the_session),
        T(a_request_without_a_header_breaks_the_device),
        T(a_device_without_a_share_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
