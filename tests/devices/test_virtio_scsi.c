/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the virtio SCSI host, driven as a guest's driver would, on real image files. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "block/block_help.h"
#include "block/fault_block.h"
#include "devices/virtio/virtio_scsi.h"
#include "devices/virtio_driver.h"
#include "support/test.h"

enum { DEVFN = 0x10, MIB = 1 << 20, DISK = MIB, RAM = 32 * MIB, QUEUE = 2 };
enum { CONTROL = 0, EVENT = 1 };
enum {
    OK = 0,
    OVERRUN = 1,
    ABORTED = 2,
    BAD_TARGET = 3,
    RESET = 4,
    FAILURE = 9,
    SUCCEEDED = 10,
    REJECTED = 11,
    INCORRECT_LUN = 12,
    UNTOUCHED = 0xee
};
enum { GOOD = 0, CHECK = 2, NEEDS_RESET = 0x40 };
enum { REQUEST_SIZE = 51, ANSWER_SIZE = 108 };
enum {
    ATTENTION = 0x062900,
    ILLEGAL_FIELD = 0x052400,
    ILLEGAL_ADDRESS = 0x052100,
    ILLEGAL_OPCODE = 0x052000,
    ILLEGAL_UNIT = 0x052500,
    ILLEGAL_LIST = 0x052600,
    PROTECTED = 0x072700,
    WRITE_FAILED = 0x030c00,
    READ_FAILED = 0x031100,
    FULL = 0x072707,
    RESIZED = 0x062a09,
    NO_MEDIUM = 0x023a00,
    NEW_MEDIUM = 0x062800
};
#define F_ALL (6ull | VIRTIO_F_INDIRECT_DESC)

static struct loop *loop;
static enum block_on_error on_error;
static struct block *image, *second;
static struct board b;
static struct device *dev;
static struct driver d;
static gpa request, answer, data;
static uint8_t target, lun;

static void start_with(bool readonly) {
    struct virtio_scsi_config config = {
        .queues = 2,
        .unit = {{.present = true, .target = 3, .lun = 0, .serial = "SN-0"},
                 {.present = true, .target = 3, .lun = 5, .serial = "SN-5"},
                 {.present = true, .target = 4, .lun = 0, .cdrom = true, .serial = "CD"}}};
    struct block_options o = {.path = image_path("disk.raw"),
                              .readonly = readonly,
                              .ops = &fault_block_ops,
                              .on_error = on_error};
    struct error err = {0};

    image = block_open(loop, &o, &err);
    if (!image)
        fail_msg("%s", err.text);
    second = image_open(loop, image_path("second.raw"), false);
    config.unit[0].block = image;
    config.unit[1].block = second;
    test_board_init(&b, RAM);
    dev = board_add(&b, "virtio_scsi", &config, DEVFN);
    driver_start(&d, &b, DEVFN, F_ALL, 4, true);
    request = board_alloc(&b, 512, 64);
    answer = board_alloc(&b, 512, 64);
    data = board_alloc(&b, DISK + 4096, 4096);
    target = 3;
    lun = 0;
}

static void stop(void) {
    test_board_done(&b);
    device_free(dev);
    block_close(image);
    block_close(second);
    dev = NULL;
}

static int make(void **state) {
    loop = loop_new(NULL, NULL);
    image_make(image_path("disk.raw"), DISK);
    image_make(image_path("second.raw"), DISK);
    start_with(false);
    return 0;
}

static int drop(void **state) {
    fault_clear();
    on_error = BLOCK_ON_ERROR_ENOSPC;
    stop();
    loop_free(loop);
    block_help_clean();
    return 0;
}

/* ------------------------------------------------------------------ requests */

struct result {
    uint8_t response, status;
    uint32_t sense; /* key, code, qualifier */
    uint32_t residual;
};

static void put_address(uint8_t *p) {
    p[0] = 1;
    p[1] = target;
    p[2] = 0x40;
    p[3] = lun;
}

/* Adds a request with a command of up to 16 bytes; `out` and `in` bytes of data at `data`. */
static void add_id(const char *cdb, unsigned n, uint32_t out, uint32_t in, uint64_t id) {
    uint8_t r[REQUEST_SIZE] = {0}, a[ANSWER_SIZE];
    struct driver_buf buf[4];
    unsigned count = 0;

    put_address(r);
    store_le64(r + 8, id);
    memcpy(r + 19, cdb, n);
    mem_write(&b.mem, request, r, sizeof(r));
    memset(a, UNTOUCHED, sizeof(a));
    mem_write(&b.mem, answer, a, sizeof(a));
    buf[count++] = (struct driver_buf){request, REQUEST_SIZE, false};
    if (out)
        buf[count++] = (struct driver_buf){data, out, false};
    buf[count++] = (struct driver_buf){answer, ANSWER_SIZE, true};
    if (in)
        buf[count++] = (struct driver_buf){data, in, true};
    driver_add(&d, QUEUE, buf, count);
}

static struct result get_result(void) {
    const uint8_t *a = mem_ptr(&b.mem, answer, ANSWER_SIZE, false);
    struct result r = {.response = a[11], .status = a[10], .residual = load_le32(a + 4)};

    if (a[10] == CHECK) {
        assert_int_equal(load_le32(a), 18);
        assert_int_equal(a[12], 0x70);
        r.sense = (uint32_t)a[14] << 16 | (uint32_t)a[24] << 8 | a[25];
    } else if (a[11] != UNTOUCHED) {
        assert_int_equal(load_le32(a), 0);
    }
    return r;
}

static bool wait_used(unsigned queue, uint32_t *ret_len) {
    uint16_t head;

    for (int i = 0; i < 1000; i++) {
        if (driver_used(&d, queue, &head, ret_len))
            return true;
        loop_step(loop, 10);
    }
    return false;
}

static struct result run(const char *cdb, unsigned n, uint32_t out, uint32_t in) {
    uint32_t used;

    add_id(cdb, n, out, in, 1);
    driver_kick(&d, QUEUE);
    assert_true(wait_used(QUEUE, &used));
    return get_result();
}

/* A command whose bytes are given as a string. */
#define command(cdb, out, in) run(cdb, sizeof(cdb) - 1, out, in)
#define expect_good(cdb, out, in)                                                                  \
    do {                                                                                           \
        struct result r_ = command(cdb, out, in);                                                  \
        assert_int_equal(r_.response, OK);                                                         \
        assert_int_equal(r_.sense, 0);                                                             \
        assert_int_equal(r_.status, GOOD);                                                         \
    } while (0)
#define expect_sense(cdb, out, in, what)                                                           \
    do {                                                                                           \
        struct result r_ = command(cdb, out, in);                                                  \
        assert_int_equal(r_.response, OK);                                                         \
        assert_int_equal(r_.status, CHECK);                                                        \
        assert_int_equal(r_.sense, what);                                                          \
    } while (0)
#define TEST_READY "\0\0\0\0\0\0"

static void ready(void) { expect_sense(TEST_READY, 0, 0, ATTENTION); }

static void fill_data(uint8_t value, uint32_t len) {
    memset(mem_ptr(&b.mem, data, len, true), value, len);
}

static const uint8_t *bytes(void) { return mem_ptr(&b.mem, data, 4096, false); }

static bool data_is(uint8_t value, uint32_t len) {
    const uint8_t *p = mem_ptr(&b.mem, data, len, false);

    for (uint32_t i = 0; i < len; i++)
        if (p[i] != value)
            return false;
    return true;
}

static bool disk_is(uint64_t offset, uint8_t value, uint64_t len) {
    int fd = open(image_path("disk.raw"), O_RDONLY | O_CLOEXEC);
    uint8_t *p = malloc(len);
    bool same = pread(fd, p, len, (off_t)offset) == (ssize_t)len;

    for (uint64_t i = 0; same && i < len; i++)
        same = p[i] == value;
    free(p);
    close(fd);
    return same;
}

/* ------------------------------------------------------------------ what is there */

static void the_configuration_describes_the_adapter(void **state) {
    assert_int_equal(pci_config_read(b.bus, DEVFN, PCI_DEVICE, 2), 0x1048);
    assert_int_equal(driver_config(&d, 0, 4), 2); /* request queues */
    assert_int_equal(driver_config(&d, 16, 4), 16);
    assert_int_equal(driver_config(&d, 20, 4), 96);
    assert_int_equal(driver_config(&d, 24, 4), 32);
    assert_int_equal(driver_config(&d, 28, 2), 0);
    assert_int_equal(driver_config(&d, 30, 2), 31);
    assert_int_equal(driver_config(&d, 32, 4), 7);
    driver_config_write(&d, 20, 4, 1000); /* more than there can be */
    assert_int_equal(driver_config(&d, 20, 4), 96);
    driver_config_write(&d, 0, 4, 1);
    assert_int_equal(driver_config(&d, 0, 4), 2);
}

static void units_are_found_at_their_addresses(void **state) {
    struct result r;

    expect_good("\xa0\0\0\0\0\0\0\0\0\xff\0\0", 0, 255);
    assert_int_equal(load_be32(bytes()), 16);
    assert_int_equal(bytes()[9], 0);
    assert_int_equal(bytes()[17], 5);
    lun = 1; /* not there, in a target that is */
    expect_good("\x12\0\0\0\xff\0", 0, 255);
    assert_int_equal(bytes()[0], 0x7f);
    expect_sense(TEST_READY, 0, 0, ILLEGAL_UNIT);
    expect_good("\xa0\0\0\0\0\0\0\0\0\xff\0\0", 0, 255); /* any unit knows the others */
    assert_int_equal(load_be32(bytes()), 16);
    target = 7;
    r = command(TEST_READY, 0, 0);
    assert_int_equal(r.response, BAD_TARGET);
    target = 4;
    lun = 0;
    expect_good("\x12\0\0\0\xff\0", 0, 255);
    assert_int_equal(bytes()[0], 5);
}

static void inquiry_tells_what_a_disk_is(void **state) {
    struct result r = command("\x12\0\0\0\xff\0", 0, 255);

    assert_int_equal(r.residual, 255 - 36);
    assert_int_equal(bytes()[0], 0);
    assert_memory_equal(bytes() + 8, "VIVARIUMDISK", 12);
    expect_good("\x12\1\0\0\xff\0", 0, 255);
    assert_memory_equal(bytes() + 3, "\6\0\x80\x83\xb0\xb1\xb2", 7);
    expect_good("\x12\1\x80\0\xff\0", 0, 255);
    assert_memory_equal(bytes() + 3, "\4SN-0", 5);
    expect_good("\x12\1\xb0\0\xff\0", 0, 255);
    assert_int_not_equal(load_be32(bytes() + 20), 0); /* UNMAP */
    expect_good("\x12\1\xb1\0\xff\0", 0, 255);
    assert_int_equal(load_be16(bytes() + 4), 1);
    expect_good("\x12\1\xb2\0\xff\0", 0, 255);
    assert_int_equal(bytes()[5] & 0x80, 0x80);
    expect_sense("\x12\1\x99\0\xff\0", 0, 255, ILLEGAL_FIELD);
    lun = 5;
    expect_good("\x12\1\x80\0\xff\0", 0, 255);
    assert_memory_equal(bytes() + 3, "\4SN-5", 5);
    lun = 0;
    ready();
    expect_good("\x25\0\0\0\0\0\0\0\0\0", 0, 8);
    assert_int_equal(load_be32(bytes()), DISK / 512 - 1);
    assert_int_equal(load_be32(bytes() + 4), 512);
    expect_good("\x9e\x10\0\0\0\0\0\0\0\0\0\0\0\x20\0\0", 0, 32);
    assert_int_equal(load_be64(bytes()), DISK / 512 - 1);
    expect_sense("\x3c\0\0\0\0\0\0\0\0\0", 0, 0, ILLEGAL_OPCODE);
}

/* ------------------------------------------------------------------ transfers */

static void sectors_are_written_and_read_by_commands_of_all_sizes(void **state) {
    ready();
    fill_data(0x5a, 8192);
    expect_good("\x2a\0\0\0\0\3\0\0\x10\0", 8192, 0);
    assert_true(disk_is(3 * 512, 0x5a, 8192));
    assert_true(disk_is(0, 0, 3 * 512));
    fill_data(0, 8192);
    expect_good("\x28\0\0\0\0\3\0\0\x10\0", 0, 8192);
    assert_true(data_is(0x5a, 8192));
    fill_data(1, 512);
    expect_good("\x0a\0\0\x20\1\0", 512, 0);
    fill_data(2, 512);
    expect_good("\xaa\0\0\0\0\x21\0\0\0\1\0\0", 512, 0);
    fill_data(3, 512);
    expect_good("\x8a\0\0\0\0\0\0\0\0\x22\0\0\0\1\0\0", 512, 0);
    for (unsigned i = 0; i < 3; i++)
        assert_true(disk_is((0x20 + i) * 512, (uint8_t)(i + 1), 512));
    expect_good("\x08\0\0\x22\1\0", 0, 512);
    assert_true(data_is(3, 512));
    expect_good("\xa8\0\0\0\0\x21\0\0\0\1\0\0", 0, 512);
    assert_true(data_is(2, 512));
    expect_good("\x88\0\0\0\0\0\0\0\0\x20\0\0\0\1\0\0", 0, 512);
    assert_true(data_is(1, 512));
    lun = 5; /* another disk */
    ready();
    expect_good("\x28\0\0\0\0\3\0\0\x10\0", 0, 8192);
    assert_true(data_is(0, 8192));
}

static void what_does_not_fit_is_refused_and_touches_nothing(void **state) {
    struct result r;

    ready();
    fill_data(0x11, 4096);
    expect_sense("\x28\0\0\0\x08\0\0\0\1\0", 0, 512, ILLEGAL_ADDRESS);
    expect_sense("\x2a\0\0\0\x07\xff\0\0\2\0", 1024, 0, ILLEGAL_ADDRESS);
    expect_sense("\x8a\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\1\0\0", 512, 0, ILLEGAL_ADDRESS);
    r = command("\x28\0\0\0\0\0\0\0\2\0", 0, 512); /* room for half of it */
    assert_int_equal(r.response, OVERRUN);
    r = command("\x2a\0\0\0\0\0\0\0\2\0", 512, 0);
    assert_int_equal(r.response, OVERRUN);
    r = command("\x2a\0\0\0\0\0\0\0\1\0", 512, 512); /* both directions */
    assert_int_equal(r.response, FAILURE);
    assert_true(disk_is(0, 0, DISK));
    r = command("\x28\0\0\0\0\0\0\0\1\0", 0, 2048);
    assert_int_equal(r.response, OK);
    assert_int_equal(r.residual, 1536);
}

static void a_readonly_disk_refuses_writes(void **state) {
    stop();
    start_with(true);
    ready();
    expect_sense("\x2a\0\0\0\0\0\0\0\1\0", 512, 0, PROTECTED);
    expect_sense("\x42\0\0\0\0\0\0\0\x18\0", 24, 0, PROTECTED);
    expect_sense("\x93\1\0\0\0\0\0\0\0\0\0\0\0\1\0\0", 0, 0, PROTECTED);
    expect_good("\x1a\0\x08\0\xff\0", 0, 255);
    assert_int_equal(bytes()[2] & 0x80, 0x80);
    expect_good("\x28\0\0\0\0\0\0\0\1\0", 0, 512);
}

static void put_unmap(unsigned i, uint64_t at, uint32_t count) {
    uint8_t *p = mem_ptr(&b.mem, data, 4096, true);

    if (!i)
        memset(p, 0, 4096);
    store_be16(p, (uint16_t)(6 + 16 * (i + 1)));
    store_be16(p + 2, (uint16_t)(16 * (i + 1)));
    store_be64(p + 8 + 16 * (size_t)i, at);
    store_be32(p + 16 + 16 * (size_t)i, count);
}

static void ranges_are_unmapped(void **state) {
    ready();
    fill_data(0x77, DISK);
    expect_good("\x2a\0\0\0\0\0\0\x08\0\0", DISK, 0);
    put_unmap(0, 0, 64);
    put_unmap(1, 256, 128);
    expect_good("\x42\0\0\0\0\0\0\0\x28\0", 40, 0);
    assert_true(disk_is(0, 0, 64 * 512));
    assert_true(disk_is(64 * 512, 0x77, 192 * 512));
    assert_true(disk_is(256 * 512, 0, 128 * 512));
    assert_true(disk_is(384 * 512, 0x77, 512));
    put_unmap(0, 512, 8);
    put_unmap(1, DISK / 512, 1); /* the second is bad: nothing is done */
    expect_sense("\x42\0\0\0\0\0\0\0\x28\0", 40, 0, ILLEGAL_ADDRESS);
    assert_true(disk_is(512 * 512, 0x77, 8 * 512));
    put_unmap(1, 0, 1);
    expect_sense("\x42\0\0\0\0\0\0\0\x18\0", 24, 0, ILLEGAL_LIST); /* cut short */
    expect_good("\x42\0\0\0\0\0\0\0\0\0", 0, 0);
}

static void the_same_block_is_written_again_and_again(void **state) {
    ready();
    fill_data(0x77, DISK);
    expect_good("\x2a\0\0\0\0\0\0\x08\0\0", DISK, 0);
    fill_data(0, 512);
    expect_good("\x41\0\0\0\0\x10\0\0\x10\0", 512, 0); /* zeros */
    assert_true(disk_is(0, 0x77, 16 * 512));
    assert_true(disk_is(16 * 512, 0, 16 * 512));
    expect_good("\x93\x08\0\0\0\0\0\0\1\0\0\0\0\x80\0\0", 512, 0); /* may unmap */
    assert_true(disk_is(256 * 512, 0, 128 * 512));
    expect_good("\x93\1\0\0\0\0\0\0\3\0\0\0\0\1\0\0", 0, 0); /* no data */
    assert_true(disk_is(0x300 * 512, 0, 512));
    assert_true(disk_is(0x301 * 512, 0x77, 512));
    fill_data(0x42, 512);
    *(uint8_t *)mem_ptr(&b.mem, data + 511, 1, true) = 0x43;
    expect_good("\x93\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 512, 0); /* all of the disk */
    expect_good("\x28\0\0\0\x07\xff\0\0\1\0", 0, 512);
    assert_true(data_is(0x42, 511));
    assert_int_equal(bytes()[511], 0x43);
    expect_good("\x28\0\0\0\0\0\0\0\1\0", 0, 512);
    assert_int_equal(bytes()[511], 0x43);
    expect_sense("\x93\0\0\0\0\0\0\0\x08\0\0\0\0\1\0\0", 512, 0, ILLEGAL_ADDRESS);
}

static void a_write_is_flushed_if_asked_for_or_without_a_cache(void **state) {
    ready();
    fault_inject(BLOCK_FLUSH, 0, 3, -EIO);
    expect_good("\x2a\0\0\0\0\0\0\0\1\0", 512, 0);
    expect_sense("\x2a\x08\0\0\0\0\0\0\1\0", 512, 0, WRITE_FAILED); /* FUA */
    expect_sense("\x35\0\0\0\0\0\0\0\0\0", 0, 0, WRITE_FAILED);
    expect_good("\x1a\0\x08\0\xff\0", 0, 255);
    assert_int_equal(bytes()[4 + 2] & 4, 4);
    mem_write(&b.mem, data, (uint8_t[4]){0}, 4);
    *(uint8_t *)mem_ptr(&b.mem, data + 6, 1, true) = 0; /* no write cache */
    expect_good("\x15\x10\0\0\x18\0", 24, 0);
    expect_sense("\x2a\0\0\0\0\0\0\0\1\0", 512, 0, WRITE_FAILED);
    expect_good("\x2a\0\0\0\0\0\0\0\1\0", 512, 0); /* the host can again */
    expect_good("\x1a\0\x48\0\xff\0", 0, 255);
    assert_int_equal(bytes()[4 + 2], 4); /* what can be changed */
    expect_good("\x1a\0\x08\0\xff\0", 0, 255);
    assert_int_equal(bytes()[4 + 2], 0);
    *(uint8_t *)mem_ptr(&b.mem, data + 7, 1, true) = 1; /* what cannot */
    expect_sense("\x15\x10\0\0\x18\0", 24, 0, ILLEGAL_LIST);
}

/* ------------------------------------------------------------------ failures */

static unsigned pauses;

static void note_pause(void *opaque, const struct error *e) { pauses++; }

static void start_pausing(enum block_on_error policy) {
    on_error = policy;
    stop();
    start_with(false);
    pauses = 0;
    block_set_pause_fn(image, note_pause, NULL);
    ready();
}

static void failures_of_the_host_reach_the_guest(void **state) {
    on_error = BLOCK_ON_ERROR_REPORT;
    stop();
    start_with(false);
    ready();
    fault_inject(BLOCK_READ, 0, 1, -EIO);
    expect_sense("\x28\0\0\0\0\0\0\0\1\0", 0, 512, READ_FAILED);
    expect_good("\x28\0\0\0\0\0\0\0\1\0", 0, 512);
    fault_inject(BLOCK_WRITE, 0, 1, -ENOSPC);
    expect_sense("\x2a\0\0\0\0\0\0\0\1\0", 512, 0, FULL);
    expect_good("\x2a\0\0\0\0\0\0\0\1\0", 512, 0);
}

static void kept(const char *cdb, unsigned n, uint32_t out, uint64_t id) {
    uint32_t used;
    uint16_t head;

    add_id(cdb, n, out, 0, id);
    driver_kick(&d, QUEUE);
    block_drain(image);
    assert_false(driver_used(&d, QUEUE, &head, &used));
    assert_int_equal(get_result().response, UNTOUCHED);
    assert_true(block_wants_pause(image));
}

static void a_full_disk_pauses_and_the_request_is_done_again(void **state) {
    uint32_t used;

    start_pausing(BLOCK_ON_ERROR_ENOSPC);
    fill_data(0x31, 4096);
    fault_inject(BLOCK_WRITE, 0, 2, -ENOSPC);
    kept("\x2a\0\0\0\0\x08\0\0\x08\0", 10, 4096, 1);
    assert_int_equal(pauses, 1);
    block_resume(image);
    block_drain(image);
    assert_int_equal(pauses, 2); /* still full */
    block_resume(image);
    assert_true(wait_used(QUEUE, &used));
    assert_int_equal(get_result().status, GOOD);
    assert_true(disk_is(8 * 512, 0x31, 4096));
}

static void what_was_kept_is_part_of_the_state(void **state) {
    const struct state_desc *desc = dev->cls->state;
    struct buf saved = {0};
    struct error err = {0};
    uint32_t used;

    start_pausing(BLOCK_ON_ERROR_ENOSPC);
    fill_data(0x51, 4096);
    fault_inject(BLOCK_WRITE, 0, 1, -ENOSPC);
    kept("\x2a\0\0\0\0\x08\0\0\x08\0", 10, 4096, 1);
    state_save(desc, dev, &saved);
    device_reset(dev);
    assert_int_equal(state_load(desc, dev, saved.data, saved.len, &err), 0);
    buf_done(&saved);
    block_resume(image);
    assert_true(wait_used(QUEUE, &used));
    assert_int_equal(get_result().response, OK);
    assert_int_equal(get_result().status, GOOD); /* the attention was taken before */
    assert_true(disk_is(8 * 512, 0x51, 4096));
    clock_step(b.clock, 1000000);
}

/* ------------------------------------------------------------------ control */

static uint8_t manage(uint32_t function, uint64_t id) {
    gpa at = board_alloc(&b, 64, 64);
    const struct driver_buf buf[2] = {{at, 24, false}, {at + 32, 1, true}};
    uint8_t r[33] = {0};
    uint32_t used;

    store_le32(r + 4, function);
    put_address(r + 8);
    store_le64(r + 16, id);
    r[32] = UNTOUCHED;
    mem_write(&b.mem, at, r, sizeof(r));
    driver_add(&d, CONTROL, buf, 2);
    driver_kick(&d, CONTROL);
    assert_true(wait_used(CONTROL, &used));
    assert_int_equal(used, 1);
    mem_read(&b.mem, at + 32, r, 1);
    return r[0];
}

static void *release(void *opaque) {
    fault_release();
    return NULL;
}

static void tasks_are_waited_for_before_their_abortion_is_answered(void **state) {
    pthread_t thread;
    uint32_t used;
    uint16_t head;

    ready();
    fault_hold(true);
    add_id("\x28\0\0\0\0\0\0\0\1\0", 10, 0, 512, 77);
    driver_kick(&d, QUEUE);
    assert_int_equal(fault_held(), 1);
    assert_int_equal(manage(6, 77), SUCCEEDED); /* it is there */
    assert_int_equal(manage(6, 78), OK);
    assert_int_equal(manage(7, 0), SUCCEEDED);
    assert_int_equal(manage(0, 78), OK); /* abort another one */
    assert_int_equal(fault_held(), 1);
    fault_hold(false);
    pthread_create(&thread, NULL, release, NULL);
    assert_int_equal(manage(0, 77), OK);
    pthread_join(thread, NULL);
    assert_true(driver_used(&d, QUEUE, &head, &used));
    assert_int_equal(get_result().response, OK);
    assert_int_equal(manage(6, 77), OK);
}

static void what_was_kept_can_be_aborted(void **state) {
    uint32_t used;

    start_pausing(BLOCK_ON_ERROR_ENOSPC);
    fill_data(0x31, 4096);
    fault_inject(BLOCK_WRITE, 0, 1, -ENOSPC);
    kept("\x2a\0\0\0\0\x08\0\0\x08\0", 10, 4096, 9);
    assert_int_equal(manage(0, 10), OK); /* not this one */
    assert_int_equal(get_result().response, UNTOUCHED);
    assert_int_equal(manage(0, 9), OK);
    assert_true(wait_used(QUEUE, &used));
    assert_int_equal(get_result().response, ABORTED);
    block_resume(image);
    block_drain(image);
    assert_true(disk_is(0, 0, DISK));
}

static void units_and_targets_are_reset(void **state) {
    ready();
    expect_good(TEST_READY, 0, 0);
    assert_int_equal(manage(5, 0), OK);
    expect_sense(TEST_READY, 0, 0, ATTENTION);
    lun = 5;
    ready();
    lun = 0;
    assert_int_equal(manage(4, 0), OK); /* the whole target */
    expect_sense(TEST_READY, 0, 0, ATTENTION);
    lun = 5;
    expect_sense(TEST_READY, 0, 0, ATTENTION);
    assert_int_equal(manage(2, 0), REJECTED);
    assert_int_equal(manage(99, 0), REJECTED);
    lun = 6;
    assert_int_equal(manage(5, 0), INCORRECT_LUN);
    target = 9;
    assert_int_equal(manage(5, 0), BAD_TARGET);
}

static void short_requests_break_the_device(void **state) {
    const struct driver_buf no_answer[] = {{request, REQUEST_SIZE, false}};
    const struct driver_buf no_header[] = {{request, REQUEST_SIZE - 1, false},
                                           {answer, ANSWER_SIZE, true}};
    const struct driver_buf small[] = {{request, REQUEST_SIZE, false},
                                       {answer, ANSWER_SIZE - 1, true}};
    const struct {
        unsigned queue;
        const struct driver_buf *buf;
        unsigned count;
    } bad[] = {
        {QUEUE, no_answer, 1}, {QUEUE, no_header, 2}, {QUEUE, small, 2}, {CONTROL, no_answer, 1}};
    uint16_t head;
    uint32_t used;

    for (unsigned i = 0; i < 4; i++) {
        driver_add(&d, bad[i].queue, bad[i].buf, bad[i].count);
        driver_kick(&d, bad[i].queue);
        assert_true(driver_status(&d) & NEEDS_RESET);
        assert_false(driver_used(&d, bad[i].queue, &head, &used));
        driver_start(&d, &b, DEVFN, F_ALL, 4, true);
        ready();
    }
}

/* ------------------------------------------------------------------ events */

static gpa put_event_buffer(void) {
    gpa at = board_alloc(&b, 16, 16);
    const struct driver_buf buf = {at, 16, true};

    driver_add(&d, EVENT, &buf, 1);
    driver_kick(&d, EVENT);
    return at;
}

static void expect_event(gpa at, uint32_t event, unsigned where, uint32_t reason) {
    const uint8_t *e = mem_ptr(&b.mem, at, 16, false);
    uint32_t used;

    assert_true(wait_used(EVENT, &used));
    assert_int_equal(used, 16);
    assert_int_equal(load_le32(e), event);
    if (event & 0xff) {
        assert_int_equal(e[4], 1);
        assert_int_equal(e[5], where >> 4);
        assert_int_equal(load_be16(e + 6) & 0x3fff, where & 15);
    }
    assert_int_equal(load_le32(e + 12), reason);
}

static void units_come_and_go(void **state) {
    struct virtio_scsi_unit_config c = {.present = true, .target = 3, .lun = 2, .serial = "NEW"};
    gpa one = put_event_buffer(), two = put_event_buffer();
    struct error err = {0};
    unsigned unit = 0;

    image_make(image_path("third.raw"), DISK);
    c.block = image_open(loop, image_path("third.raw"), false);
    assert_int_equal(virtio_scsi_add(dev, &c, &unit, &err), 0);
    expect_event(one, 1, 0x32, 1);
    lun = 2;
    ready();
    expect_good("\x28\0\0\0\0\0\0\0\1\0", 0, 512);
    assert_int_equal(virtio_scsi_add(dev, &c, &unit, &err), -EEXIST);
    c.lun = 9;
    assert_int_equal(virtio_scsi_add(dev, &c, &unit, &err), -EINVAL);
    virtio_scsi_remove(dev, unit);
    expect_event(two, 1, 0x32, 2);
    expect_sense(TEST_READY, 0, 0, ILLEGAL_UNIT);
    block_close(c.block);
    lun = 0;
    ready();
    virtio_scsi_remove(dev, 0); /* nobody listens: it is told when somebody does */
    one = put_event_buffer();
    expect_event(one, 0x80000000, 0, 0);
}

static void a_drive_takes_media(void **state) {
    struct block *medium;

    target = 4;
    ready();
    expect_sense(TEST_READY, 0, 0, NO_MEDIUM);
    image_make(image_path("cd.iso"), 64 << 10);
    medium = image_open(loop, image_path("cd.iso"), true);
    virtio_scsi_change_medium(dev, 2, medium);
    expect_sense(TEST_READY, 0, 0, NEW_MEDIUM);
    expect_good("\x28\0\0\0\0\x10\0\0\1\0", 0, 2048);
    expect_good("\x1e\0\0\0\1\0", 0, 0);
    assert_true(virtio_scsi_medium_locked(dev, 2));
    virtio_scsi_change_medium(dev, 2, NULL);
    expect_sense(TEST_READY, 0, 0, NO_MEDIUM);
    block_close(medium);
}

/* ------------------------------------------------------------------ in flight */

static void a_reset_waits_for_requests_and_forgets_them(void **state) {
    pthread_t thread;
    uint16_t head;
    uint32_t used;

    ready();
    fault_hold(true);
    fill_data(0x12, 4096);
    add_id("\x28\0\0\0\0\0\0\0\x08\0", 10, 0, 4096, 1);
    driver_kick(&d, QUEUE);
    assert_int_equal(fault_held(), 1);
    fault_hold(false);
    pthread_create(&thread, NULL, release, NULL);
    driver_write(&d, 0x14, 1, 0);
    pthread_join(thread, NULL);
    assert_false(driver_used(&d, QUEUE, &head, &used));
    assert_int_equal(get_result().response, UNTOUCHED);
    fill_data(0x55, 4096);
    while (loop_step(loop, 20))
        ;
    assert_true(data_is(0x55, 4096));
    driver_start(&d, &b, DEVFN, F_ALL, 4, true);
    ready();
    expect_good("\x28\0\0\0\0\0\0\0\x08\0", 0, 4096);
}

static void a_device_may_go_with_requests_in_flight(void **state) {
    pthread_t thread;

    ready();
    fault_hold(true);
    add_id("\x28\0\0\0\0\0\0\0\x08\0", 10, 0, 4096, 1);
    driver_kick(&d, QUEUE);
    assert_int_equal(fault_held(), 1);
    fault_hold(false);
    pthread_create(&thread, NULL, release, NULL);
    pci_bus_detach((struct pci_device *)dev);
    device_free(dev);
    pthread_join(thread, NULL);
    dev = NULL;
    assert_int_equal(do_request(loop, image, BLOCK_FLUSH, 0, NULL, 0), 0);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, make, drop)
    const struct CMUnitTest tests[] = {
        T(the_configuration_describes_the_adapter),
        T(units_are_found_at_their_addresses),
        T(inquiry_tells_what_a_disk_is),
        T(sectors_are_written_and_read_by_commands_of_all_sizes),
        T(what_does_not_fit_is_refused_and_touches_nothing),
        T(a_readonly_disk_refuses_writes),
        T(ranges_are_unmapped),
        T(the_same_block_is_written_again_and_again),
        T(a_write_is_flushed_if_asked_for_or_without_a_cache),
        T(failures_of_the_host_reach_the_guest),
        T(a_full_disk_pauses_and_the_request_is_done_again),
        T(what_was_kept_is_part_of_the_state),
        T(tasks_are_waited_for_before_their_abortion_is_answered),
        T(what_was_kept_can_be_aborted),
        T(units_and_targets_are_reset),
        T(short_requests_break_the_device),
        T(units_come_and_go),
        T(a_drive_takes_media),
        T(a_reset_waits_for_requests_and_forgets_them),
        T(a_device_may_go_with_requests_in_flight),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
