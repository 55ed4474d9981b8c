/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the virtio disk, driven as a guest's driver would, on real image files. */
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
#include "devices/virtio/virtio_blk.h"
#include "devices/virtio_driver.h"
#include "support/test.h"

enum { DEVFN = 0x10, MIB = 1 << 20, DISK = MIB, RAM = 32 * MIB };
enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, WRITE_ZEROES = 13 };
enum { OK = 0, IOERR = 1, UNSUPP = 2, UNTOUCHED = 0xee };
enum { NEEDS_RESET = 0x40 };
#define F_RO           (1ull << 5)
#define F_FLUSH        (1ull << 9)
#define F_CONFIG_WCE   (1ull << 11)
#define F_MQ           (1ull << 12)
#define F_DISCARD      (1ull << 13)
#define F_WRITE_ZEROES (1ull << 14)
#define F_ALL          (F_FLUSH | F_CONFIG_WCE | F_DISCARD | F_WRITE_ZEROES | VIRTIO_F_INDIRECT_DESC)

static struct loop *loop;
static enum block_on_error on_error;
static unsigned queues = 1;
static struct block *image;
static struct board b;
static struct device *dev;
static struct driver d;
static gpa header, data, status;

static void start_with(uint64_t features, bool readonly) {
    struct virtio_blk_config config = {.queues = queues, .serial = "SN-0123456789abcdefgh"};
    struct block_options o = {.path = image_path("disk.raw"),
                              .readonly = readonly,
                              .ops = &fault_block_ops,
                              .on_error = on_error};
    struct error err = {0};

    image = block_open(loop, &o, &err);
    if (!image)
        fail_msg("%s", err.text);
    config.block = image;
    test_board_init(&b, RAM);
    dev = board_add(&b, "virtio_blk", &config, DEVFN);
    driver_start(&d, &b, DEVFN, features, queues, true);
    header = board_alloc(&b, 16, 16);
    status = board_alloc(&b, 1, 16);
    data = board_alloc(&b, DISK + 4096, 4096);
}

static int make(void **state) {
    loop = loop_new(NULL, NULL);
    image_make(image_path("disk.raw"), DISK);
    start_with(F_ALL, false);
    return 0;
}

static void stop(void) {
    test_board_done(&b);
    device_free(dev);
    block_close(image);
    dev = NULL;
    image = NULL;
}

static int drop(void **state) {
    fault_clear();
    on_error = BLOCK_ON_ERROR_ENOSPC;
    queues = 1;
    stop();
    loop_free(loop);
    block_help_clean();
    return 0;
}

static void restart(uint64_t features, bool readonly) {
    stop();
    start_with(features, readonly);
}

/* ------------------------------------------------------------------ requests */

static void put_header(gpa at, uint32_t type, uint64_t sector) {
    board_store32(&b, at, type);
    board_store32(&b, at + 4, 0);
    board_store64(&b, at + 8, sector);
}

static void put_status(gpa at, uint8_t value) { mem_write(&b.mem, at, &value, 1); }

static uint8_t get_status(gpa at) {
    uint8_t value = 0;

    mem_read(&b.mem, at, &value, 1);
    return value;
}

static void add(uint32_t type, uint64_t sector, uint32_t len) {
    const struct driver_buf bufs[3] = {
        {header, 16, false}, {data, len, type == IN || type == GET_ID}, {status, 1, true}};
    const struct driver_buf bare[2] = {bufs[0], bufs[2]};

    put_header(header, type, sector);
    put_status(status, UNTOUCHED);
    driver_add(&d, 0, len ? bufs : bare, len ? 3 : 2);
}

static bool wait_used(uint32_t *ret_len) {
    uint16_t head;

    for (int i = 0; i < 1000; i++) {
        if (driver_used(&d, 0, &head, ret_len))
            return true;
        loop_step(loop, 10);
    }
    return false;
}

/* One whole request; the status that came, the length in *ret_len. */
static uint8_t request_len(uint32_t type, uint64_t sector, uint32_t len, uint32_t *ret_len) {
    add(type, sector, len);
    driver_kick(&d, 0);
    assert_true(wait_used(ret_len));
    return get_status(status);
}

static uint8_t request(uint32_t type, uint64_t sector, uint32_t len) {
    uint32_t used;

    return request_len(type, sector, len, &used);
}

static void fill_data(uint8_t value, uint32_t len) {
    memset(mem_ptr(&b.mem, data, len, true), value, len);
}

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

/* ------------------------------------------------------------------ what it does */

static void its_configuration_describes_the_disk(void **state) {
    assert_int_equal(driver_config(&d, 0, 4), DISK / 512);
    assert_int_equal(driver_config(&d, 4, 4), 0);
    assert_int_equal(driver_config(&d, 12, 4), 256);
    assert_int_equal(driver_config(&d, 20, 4), 512);
    assert_int_equal(driver_config(&d, 24, 1), 3);
    assert_int_equal(driver_config(&d, 32, 1), 1);
    assert_int_equal(driver_config(&d, 34, 2), 1);
    assert_int_equal(pci_config_read(b.bus, DEVFN, PCI_DEVICE, 2), 0x1042);
    assert_false(driver_offered(&d) & F_RO);
    assert_int_equal(d.features & F_ALL, F_ALL);
}

static void sectors_are_written_and_read(void **state) {
    uint32_t used;

    fill_data(0x5a, 8192);
    assert_int_equal(request_len(OUT, 3, 8192, &used), OK);
    assert_int_equal(used, 1);
    assert_int_equal(request(FLUSH, 0, 0), OK);
    assert_true(disk_is(3 * 512, 0x5a, 8192));
    assert_true(disk_is(0, 0, 3 * 512));
    fill_data(0, 8192);
    assert_int_equal(request_len(IN, 3, 8192, &used), OK);
    assert_int_equal(used, 8193);
    assert_true(data_is(0x5a, 8192));
    assert_int_equal(request(IN, DISK / 512 - 1, 512), OK);
    assert_true(data_is(0, 512));
}

static void requests_outside_the_disk_fail_and_touch_nothing(void **state) {
    static const struct {
        uint64_t sector;
        uint32_t len;
    } bad[] = {
        {DISK / 512, 512}, {DISK / 512 - 1, 1024}, {UINT64_MAX, 512}, {UINT64_MAX / 512, 1024},
        {1ull << 55, 512}, {0, DISK + 512},        {0, 511},          {0, 513},
        {UINT64_MAX, 1024}};

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        fill_data(0x11, 4096);
        assert_int_equal(request(IN, bad[i].sector, bad[i].len), IOERR);
        assert_true(data_is(0x11, 4096));
        assert_int_equal(request(OUT, bad[i].sector, bad[i].len), IOERR);
    }
    assert_true(disk_is(0, 0, DISK));
    assert_int_equal(request(IN, DISK / 512, 0), OK); /* nothing, at the end */
    assert_int_equal(request(IN, DISK / 512 + 1, 0), IOERR);
}

static void unknown_requests_are_unsupported(void **state) {
    static const uint32_t types[] = {2, 3, 5, 7, 9, 10, 12, 14, 15, 99, 0x80000000, UINT32_MAX};

    for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        assert_int_equal(request(types[i], 0, 512), UNSUPP);
}

static void the_serial_number_is_twenty_bytes(void **state) {
    uint32_t used;

    fill_data(0xff, 64);
    assert_int_equal(request_len(GET_ID, 0, 20, &used), OK);
    assert_int_equal(used, 21);
    assert_memory_equal(mem_ptr(&b.mem, data, 20, false), "SN-0123456789abcdefg", 20);
    fill_data(0xff, 64);
    assert_int_equal(request(GET_ID, 0, 4), OK);
    assert_memory_equal(mem_ptr(&b.mem, data, 8, false), "SN-0\xff\xff\xff\xff", 8);
    assert_int_equal(request(GET_ID, 0, 0), OK);
}

static void a_readonly_disk_says_so_and_refuses_writes(void **state) {
    restart(F_FLUSH | F_RO, true);
    assert_true(driver_offered(&d) & F_RO);
    assert_false(driver_offered(&d) & (F_DISCARD | F_WRITE_ZEROES));
    fill_data(1, 512);
    assert_int_equal(request(OUT, 0, 512), IOERR);
    assert_int_equal(request(DISCARD, 0, 16), UNSUPP);
    assert_int_equal(request(IN, 0, 512), OK);
    assert_true(data_is(0, 512));
    assert_int_equal(request(FLUSH, 0, 0), OK);
}

/* ------------------------------------------------------------------ ranges */

static void put_segment(unsigned i, uint64_t sector, uint32_t count, uint32_t flags) {
    board_store64(&b, data + 16 * i, sector);
    board_store32(&b, data + 16 * i + 8, count);
    board_store32(&b, data + 16 * i + 12, flags);
}

static void ranges_are_zeroed_one_after_the_other(void **state) {
    fill_data(0x99, DISK);
    assert_int_equal(request(OUT, 0, DISK), OK);
    put_segment(0, 8, 8, 0);
    put_segment(1, 100, 3, 0);
    put_segment(2, DISK / 512 - 1, 1, 0);
    assert_int_equal(request(WRITE_ZEROES, 0, 48), OK);
    assert_true(disk_is(0, 0x99, 8 * 512));
    assert_true(disk_is(8 * 512, 0, 8 * 512));
    assert_true(disk_is(16 * 512, 0x99, 84 * 512));
    assert_true(disk_is(100 * 512, 0, 3 * 512));
    assert_true(disk_is(DISK - 512, 0, 512));
    put_segment(0, 200, 100, 1); /* may unmap */
    assert_int_equal(request(WRITE_ZEROES, 0, 16), OK);
    assert_true(disk_is(200 * 512, 0, 100 * 512));
    put_segment(0, 400, 100, 0);
    assert_int_equal(request(DISCARD, 0, 16), OK);
    assert_true(disk_is(500 * 512, 0x99, 512));
}

static void a_bad_range_stops_the_request_before_it_begins(void **state) {
    fill_data(0x77, DISK);
    assert_int_equal(request(OUT, 0, DISK), OK);
    put_segment(0, 0, 8, 0);
    put_segment(1, DISK / 512, 1, 0);
    assert_int_equal(request(WRITE_ZEROES, 0, 32), IOERR);
    put_segment(1, UINT64_MAX, UINT32_MAX, 0);
    assert_int_equal(request(WRITE_ZEROES, 0, 32), IOERR);
    put_segment(1, 8, 8, 2);
    assert_int_equal(request(WRITE_ZEROES, 0, 32), UNSUPP);
    put_segment(1, 8, 8, 1);
    assert_int_equal(request(DISCARD, 0, 32), UNSUPP); /* unmap is no flag of a discard */
    assert_int_equal(request(WRITE_ZEROES, 0, 15), IOERR);
    assert_int_equal(request(WRITE_ZEROES, 0, 0), IOERR);
    for (unsigned i = 0; i < 17; i++)
        put_segment(i, i, 1, 0);
    assert_int_equal(request(WRITE_ZEROES, 0, 17 * 16), IOERR);
    assert_true(disk_is(0, 0x77, DISK));
    assert_int_equal(request(WRITE_ZEROES, 0, 16 * 16), OK);
    assert_true(disk_is(0, 0, 16 * 512));
    assert_true(disk_is(16 * 512, 0x77, 512));
}

/* ------------------------------------------------------------------ any cut, any order */

enum { SLOTS = 6, SLOT_SECTORS = 40, PIECES = 12 };

struct slot { /* one request in flight, on its own part of the disk */
    gpa header, data, status;
    uint16_t head;
    uint32_t type;
    uint64_t offset, len;
    bool waiting;
};

/* Cuts [at, at+len) into random pieces. */
static unsigned cut(struct driver_buf *bufs, gpa at, uint32_t len, bool write, unsigned max,
                    struct rng *r) {
    unsigned n = 0;

    while (len) {
        uint32_t part = n + 1 < max ? 1 + (uint32_t)rng_below(r, len) : len;

        bufs[n++] = (struct driver_buf){at, part, write};
        at += part;
        len -= part;
    }
    return n;
}

static void start_random(struct slot *s, unsigned number, struct rng *r, uint8_t *model) {
    struct driver_buf bufs[3 * PIECES];
    uint64_t first = rng_below(r, SLOT_SECTORS), count = 1 + rng_below(r, SLOT_SECTORS - first);
    unsigned n;

    s->type = rng_next(r) & 1 ? IN : OUT;
    s->offset = (number * SLOT_SECTORS + first) * 512;
    s->len = count * 512;
    /* Header before the data of a write and status behind the data of a read, so that cuts may
     * cross. */
    s->data = s->header + 16;
    s->status = s->data + s->len;
    put_header(s->header, s->type, s->offset / 512);
    put_status(s->status, UNTOUCHED);
    if (s->type == OUT) {
        uint8_t *p = mem_ptr(&b.mem, s->data, s->len, true);

        for (uint64_t i = 0; i < s->len; i++)
            p[i] = (uint8_t)(rng_next(r) >> 48);
        memcpy(model + s->offset, p, s->len);
        n = cut(bufs, s->header, (uint32_t)(16 + s->len), false, PIECES, r);
        bufs[n++] = (struct driver_buf){s->status, 1, true};
    } else {
        memset(mem_ptr(&b.mem, s->data, s->len, true), 0xcd, s->len);
        n = cut(bufs, s->header, 16, false, 1 + (unsigned)rng_below(r, 3), r);
        n += cut(bufs + n, s->data, (uint32_t)(s->len + 1), true, PIECES, r);
    }
    s->head = rng_next(r) & 1 ? driver_add_indirect(&d, 0, bufs, n) : driver_add(&d, 0, bufs, n);
    s->waiting = true;
}

static void finish_random(struct slot *slots, const uint8_t *model) {
    uint16_t head;
    uint32_t used;

    while (driver_used(&d, 0, &head, &used)) {
        struct slot *s = slots;

        while (s < slots + SLOTS && !(s->waiting && s->head == head))
            s++;
        assert_true(s < slots + SLOTS);
        assert_int_equal(get_status(s->status), OK);
        assert_int_equal(used, s->type == IN ? s->len + 1 : 1);
        if (s->type == IN)
            assert_memory_equal(mem_ptr(&b.mem, s->data, s->len, false), model + s->offset, s->len);
        s->waiting = false;
    }
}

static bool any_waiting(const struct slot *slots) {
    for (unsigned i = 0; i < SLOTS; i++)
        if (slots[i].waiting)
            return true;
    return false;
}

static void random_requests_cut_anywhere_agree_with_a_model(void **state) {
    struct slot slots[SLOTS] = {0};
    uint8_t *model = calloc(1, DISK);
    struct rng r = rng_seed(31337);

    for (unsigned i = 0; i < SLOTS; i++)
        slots[i].header = board_alloc(&b, 16 + SLOT_SECTORS * 512 + 1, 64);
    for (int round = 0; round < 3000; round++) {
        unsigned i = (unsigned)rng_below(&r, SLOTS);
        gpa keep = b.next;

        if (!slots[i].waiting)
            start_random(&slots[i], i, &r, model);
        if (rng_below(&r, 3))
            driver_kick(&d, 0);
        if (!rng_below(&r, 2))
            loop_step(loop, 0);
        finish_random(slots, model);
        if (!any_waiting(slots))
            b.next = keep; /* indirect tables are no longer used */
    }
    driver_kick(&d, 0);
    for (int i = 0; i < 1000 && any_waiting(slots); i++) {
        loop_step(loop, 10);
        finish_random(slots, model);
    }
    assert_false(any_waiting(slots));
    assert_int_equal(
        do_request(loop, image, BLOCK_READ, 0, mem_ptr(&b.mem, data, DISK, true), DISK), 0);
    assert_memory_equal(mem_ptr(&b.mem, data, DISK, false), model, DISK);
    free(model);
}

/* ------------------------------------------------------------------ failures */

static void failures_of_the_host_reach_the_guest(void **state) {
    fault_inject(BLOCK_READ, 0, 1, -EIO);
    assert_int_equal(request(IN, 0, 512), IOERR);
    assert_int_equal(request(IN, 0, 512), OK);
    fault_inject(BLOCK_WRITE, 1, 2, -ENOSPC);
    assert_int_equal(request(OUT, 0, 512), OK);
    assert_int_equal(request(OUT, 0, 512), IOERR);
    assert_int_equal(request(OUT, 0, 512), IOERR);
    assert_int_equal(request(OUT, 0, 512), OK);
    fault_inject(BLOCK_FLUSH, 0, 1, -EIO);
    assert_int_equal(request(FLUSH, 0, 0), IOERR);
    fault_inject(BLOCK_WRITE_ZEROES, 1, 1, -EIO);
    put_segment(0, 0, 1, 0);
    put_segment(1, 1, 1, 0);
    put_segment(2, 2, 1, 0);
    assert_int_equal(request(WRITE_ZEROES, 0, 48), IOERR);
}

static unsigned pauses, reports;
static struct error said;

static void note_pause(void *opaque, const struct error *e) {
    pauses++;
    said = *e;
}

static void note_report(void *opaque, const struct error *e) { reports++; }

static void start_pausing(enum block_on_error policy) {
    on_error = policy;
    restart(F_ALL, false);
    pauses = reports = 0;
    block_set_pause_fn(image, note_pause, NULL);
    block_set_error_fn(image, note_report, NULL);
}

/* Starts a request that must be kept: no answer. */
static void kept(uint32_t type, uint64_t sector, uint32_t len) {
    uint16_t head;
    uint32_t used;
    unsigned before = pauses;

    add(type, sector, len);
    driver_kick(&d, 0);
    block_drain(image);
    assert_false(driver_used(&d, 0, &head, &used));
    assert_int_equal(get_status(status), UNTOUCHED);
    assert_int_equal(pauses, before + 1);
    assert_true(block_wants_pause(image));
}

static uint8_t resumed(void) {
    uint32_t used;

    block_resume(image);
    assert_true(wait_used(&used));
    return get_status(status);
}

static void a_full_disk_pauses_and_the_request_is_done_again(void **state) {
    start_pausing(BLOCK_ON_ERROR_ENOSPC);
    fill_data(0x31, 4096);
    fault_inject(BLOCK_WRITE, 0, 1, -ENOSPC);
    kept(OUT, 8, 4096);
    assert_non_null(strstr(said.text, "the machine is paused and nothing is lost: make room"));
    assert_true(disk_is(8 * 512, 0, 4096));
    fault_inject(BLOCK_WRITE, 0, 2, -EDQUOT); /* still full */
    block_resume(image);
    block_drain(image);
    assert_int_equal(pauses, 2);
    block_resume(image);
    block_drain(image);
    assert_int_equal(pauses, 3);
    assert_int_equal(resumed(), OK);
    assert_false(block_wants_pause(image));
    assert_true(disk_is(8 * 512, 0x31, 4096));
    assert_int_equal(reports, 0);
    fault_inject(BLOCK_WRITE, 0, 1, -EIO);
    assert_int_equal(request(OUT, 0, 512), IOERR);
    fault_inject(BLOCK_READ, 0, 1, -EIO);
    assert_int_equal(request(IN, 0, 512), IOERR);
    assert_int_equal(pauses, 3);
    assert_int_equal(reports, 2);
}

static void every_failure_but_a_flush_pauses_if_asked_for(void **state) {
    start_pausing(BLOCK_ON_ERROR_PAUSE);
    fault_inject(BLOCK_READ, 0, 1, -EIO);
    kept(IN, 0, 4096);
    assert_int_equal(resumed(), OK);
    fault_inject(BLOCK_WRITE, 0, 1, -ESTALE);
    kept(OUT, 0, 4096);
    assert_int_equal(resumed(), OK);
    put_segment(0, 0, 8, 0);
    put_segment(1, 16, 8, 0);
    fault_inject(BLOCK_DISCARD, 1, 1, -EIO);
    kept(DISCARD, 0, 32);
    assert_int_equal(resumed(), OK);
    fault_inject(BLOCK_WRITE_ZEROES, 1, 1, -EIO);
    kept(WRITE_ZEROES, 0, 32);
    assert_int_equal(resumed(), OK);
    assert_true(disk_is(16 * 512, 0, 8 * 512));
    fault_inject(BLOCK_FLUSH, 0, 1, -EIO);
    assert_int_equal(request(FLUSH, 0, 0), IOERR);
    assert_int_equal(reports, 1);
    fault_inject(BLOCK_READ, 0, 1, -EOPNOTSUPP);
    assert_int_equal(request(IN, 0, 512), UNSUPP);
}

static void no_failure_pauses_if_all_are_to_be_reported(void **state) {
    start_pausing(BLOCK_ON_ERROR_REPORT);
    fault_inject(BLOCK_WRITE, 0, 1, -ENOSPC);
    assert_int_equal(request(OUT, 0, 512), IOERR);
    assert_int_equal(pauses, 0);
    assert_int_equal(reports, 1);
}

static void a_reset_forgets_what_was_kept(void **state) {
    uint16_t head;
    uint32_t used;

    start_pausing(BLOCK_ON_ERROR_ENOSPC);
    fill_data(0x41, 4096);
    fault_inject(BLOCK_WRITE, 0, 1, -ENOSPC);
    kept(OUT, 0, 4096);
    driver_start(&d, &b, DEVFN, F_ALL, 1, true);
    block_resume(image);
    block_drain(image);
    assert_false(driver_used(&d, 0, &head, &used));
    assert_true(disk_is(0, 0, 4096));
    fill_data(0x42, 512);
    assert_int_equal(request(OUT, 0, 512), OK);
}

static void what_was_kept_is_part_of_the_state(void **state) {
    const struct state_desc *desc = dev->cls->state;
    struct buf saved = {0};
    struct error err = {0};

    start_pausing(BLOCK_ON_ERROR_ENOSPC);
    fill_data(0x51, 8192);
    fault_inject(BLOCK_WRITE, 0, 1, -ENOSPC);
    kept(OUT, 32, 8192);
    state_save(desc, dev, &saved);
    device_reset(dev);
    assert_int_equal(state_load(desc, dev, saved.data, saved.len, &err), 0);
    assert_int_equal(resumed(), OK);
    assert_true(disk_is(32 * 512, 0x51, 8192));
    clock_step(b.clock, 1000000); /* loaded queues are notified */
    buf_done(&saved);
}

/* Any chain a hostile driver or snapshot names is checked like one from the ring. */
static void a_kept_request_that_the_driver_spoils_breaks_only_its_device(void **state) {
    start_pausing(BLOCK_ON_ERROR_ENOSPC);
    fault_inject(BLOCK_WRITE, 0, 1, -ENOSPC);
    kept(OUT, 0, 4096);
    memset(mem_ptr(&b.mem, d.q[0].desc, 16ull * d.q[0].size, true), 0xff, 16ull * d.q[0].size);
    block_resume(image);
    block_drain(image);
    assert_true(driver_status(&d) & NEEDS_RESET);
}

/* A write reports the failure of a flush only if it waits for one. */
static uint8_t write_with_failing_flush(void) {
    uint8_t result;

    fault_inject(BLOCK_FLUSH, 0, 1, -EIO);
    result = request(OUT, 0, 512);
    fault_clear();
    return result;
}

static void a_write_is_flushed_when_there_is_no_write_cache(void **state) {
    assert_int_equal(write_with_failing_flush(), OK);
    driver_config_write(&d, 32, 1, 0);
    assert_int_equal(driver_config(&d, 32, 1), 0);
    assert_int_equal(write_with_failing_flush(), IOERR);
    driver_config_write(&d, 32, 1, 1);
    assert_int_equal(write_with_failing_flush(), OK);
    driver_config_write(&d, 0, 4, 0); /* read-only fields stay */
    assert_int_equal(driver_config(&d, 0, 4), DISK / 512);
    restart(0, false); /* a driver that knows no flush */
    assert_int_equal(write_with_failing_flush(), IOERR);
    restart(F_FLUSH, false);
    driver_config_write(&d, 32, 1, 0); /* not negotiated: no effect */
    assert_int_equal(write_with_failing_flush(), OK);
}

static void requests_without_header_or_status_break_the_device(void **state) {
    const struct driver_buf no_status[] = {{header, 16, false}};
    const struct driver_buf no_header[] = {{header, 15, false}, {status, 1, true}};
    const struct driver_buf only_status[] = {{status, 1, true}};
    const struct {
        const struct driver_buf *bufs;
        unsigned count;
    } bad[] = {{no_status, 1}, {no_header, 2}, {only_status, 1}};
    uint16_t head;
    uint32_t used;

    for (unsigned i = 0; i < 3; i++) {
        put_header(header, FLUSH, 0);
        driver_add(&d, 0, bad[i].bufs, bad[i].count);
        driver_kick(&d, 0);
        assert_true(driver_status(&d) & NEEDS_RESET);
        assert_false(driver_used(&d, 0, &head, &used));
        driver_start(&d, &b, DEVFN, F_ALL, 1, true);
        assert_int_equal(request(IN, 0, 512), OK);
    }
}

/* ------------------------------------------------------------------ in flight */

static void *release(void *opaque) {
    fault_release();
    return NULL;
}

static void a_reset_waits_for_requests_and_forgets_them(void **state) {
    pthread_t thread;
    uint16_t head;
    uint32_t used;

    fill_data(0x21, 4096);
    assert_int_equal(request(OUT, 0, 4096), OK);
    fill_data(0, 4096);
    fault_hold(true);
    add(IN, 0, 4096);
    driver_kick(&d, 0);
    add(FLUSH, 0, 0);
    driver_kick(&d, 0);
    assert_int_equal(fault_held(), 2);
    fault_hold(false);
    pthread_create(&thread, NULL, release, NULL);
    driver_write(&d, 0x14, 1, 0);
    pthread_join(thread, NULL);
    assert_int_equal(driver_status(&d), 0);
    assert_false(driver_used(&d, 0, &head, &used));
    assert_int_equal(get_status(status), UNTOUCHED);
    fill_data(0x55, 4096); /* the guest uses the memory for something else */
    while (loop_step(loop, 20))
        ;
    assert_true(data_is(0x55, 4096));
    driver_start(&d, &b, DEVFN, F_ALL, 1, true);
    assert_int_equal(request(IN, 0, 4096), OK);
    assert_true(data_is(0x21, 4096));
}

static void a_device_may_go_with_requests_in_flight(void **state) {
    pthread_t thread;

    fault_hold(true);
    for (int i = 0; i < 5; i++) {
        add(IN, 0, 4096);
        driver_kick(&d, 0);
    }
    assert_int_equal(fault_held(), 5);
    fault_hold(false);
    pthread_create(&thread, NULL, release, NULL);
    pci_bus_detach((struct pci_device *)dev);
    device_free(dev);
    pthread_join(thread, NULL);
    dev = NULL;
    assert_int_equal(do_request(loop, image, BLOCK_FLUSH, 0, NULL, 0), 0);
}

static void what_completes_together_interrupts_once(void **state) {
    unsigned before = b.msi_count;
    uint32_t used;

    for (int i = 0; i < 10; i++)
        add(GET_ID, 0, 20); /* answered within the kick */
    driver_kick(&d, 0);
    for (int i = 0; i < 10; i++)
        assert_true(wait_used(&used));
    assert_int_equal(b.msi_count, before + 1);
    fault_inject(BLOCK_READ, 0, 10, -EIO); /* finished at once, reported by the loop */
    for (int i = 0; i < 10; i++)
        add(IN, 0, 512);
    driver_kick(&d, 0);
    assert_int_equal(b.msi_count, before + 1);
    assert_true(loop_step(loop, 1000));
    assert_int_equal(b.msi_count, before + 2);
    for (int i = 0; i < 10; i++)
        assert_true(wait_used(&used));
}

static void what_the_host_has_cached_is_answered_within_the_kick(void **state) {
    struct virtio_blk_config config = {0};
    uint16_t head;
    uint32_t used;

    assert_int_equal(request(OUT, 0, 4096), OK);
    stop();
    image = image_open(loop, image_path("disk.raw"), false); /* no faults in between */
    config.block = image;
    test_board_init(&b, RAM);
    dev = board_add(&b, "virtio_blk", &config, DEVFN);
    driver_start(&d, &b, DEVFN, F_ALL, 1, true);
    add(IN, 0, 4096);
    driver_kick(&d, 0);
    if (!driver_used(&d, 0, &head, &used)) {
        print_message("this filesystem does not say what is cached\n");
        assert_true(wait_used(&used));
    }
    assert_int_equal(used, 4097);
    assert_int_equal(get_status(status), OK);
}

/* ------------------------------------------------------------------ several queues */

enum { QUEUES = 4 };

static void start_queues(enum block_on_error policy) {
    queues = QUEUES;
    on_error = policy;
    restart(F_ALL | F_MQ, false);
    pauses = 0;
    block_set_pause_fn(image, note_pause, NULL);
}

/* A write of one sector, filled with `value`, from memory of its own. */
static void add_write(unsigned queue, unsigned slot, uint8_t value) {
    gpa at = data + slot * 4096;
    const struct driver_buf bufs[3] = {
        {at, 16, false}, {at + 512, 512, false}, {at + 2048, 1, true}};

    put_header(at, OUT, slot);
    put_status(at + 2048, UNTOUCHED);
    memset(mem_ptr(&b.mem, at + 512, 512, true), value, 512);
    driver_add(&d, queue, bufs, 3);
}

static void each_queue_answers_for_itself(void **state) {
    uint16_t head;
    uint32_t used;

    assert_false(driver_offered(&d) & F_MQ);
    assert_int_equal(driver_config(&d, 34, 2), 1);
    start_queues(BLOCK_ON_ERROR_ENOSPC);
    assert_true(driver_offered(&d) & F_MQ);
    assert_int_equal(driver_config(&d, 34, 2), QUEUES);
    assert_int_equal(driver_read(&d, 0x12, 2), QUEUES);
    for (unsigned q = 0; q < QUEUES; q++) {
        unsigned before = b.msi_count;

        add_write(q, q, (uint8_t)(0x60 + q));
        driver_kick(&d, q);
        block_drain(image);
        for (unsigned other = 0; other < QUEUES; other++)
            assert_int_equal(driver_used(&d, other, &head, &used), other == q);
        assert_int_equal(get_status(data + q * 4096 + 2048), OK);
        assert_true(disk_is(q * 512, (uint8_t)(0x60 + q), 512));
        assert_int_equal(b.msi_count, before + 1);
        assert_int_equal(b.msi[before].data, DRIVER_VECTOR_BASE + q + 1);
    }
}

static void a_driver_may_use_fewer_queues_than_there_are(void **state) {
    start_queues(BLOCK_ON_ERROR_ENOSPC);
    driver_start(&d, &b, DEVFN, F_ALL, 1, true); /* it knows of one only */
    fill_data(0x21, 512);
    assert_int_equal(request(OUT, 7, 512), OK);
    assert_true(disk_is(7 * 512, 0x21, 512));
    driver_kick(&d, 3); /* of a queue that is not enabled */
    assert_int_equal(driver_status(&d) & NEEDS_RESET, 0);
}

/* Two of each queue fail and are kept; saved, loaded and done again each answers in its own. */
static void what_was_kept_goes_back_to_its_own_queue(void **state) {
    const struct state_desc *desc = dev->cls->state;
    struct buf saved = {0};
    struct error err = {0};
    uint16_t head;
    uint32_t used;

    start_queues(BLOCK_ON_ERROR_ENOSPC);
    fault_inject(BLOCK_WRITE, 0, 2 * QUEUES, -ENOSPC);
    for (unsigned i = 0; i < 2 * QUEUES; i++) {
        add_write(i % QUEUES, i, (uint8_t)(0x70 + i));
        driver_kick(&d, i % QUEUES);
    }
    block_drain(image);
    assert_int_equal(pauses, 1);
    state_save(desc, dev, &saved);
    device_reset(dev);
    assert_int_equal(state_load(desc, dev, saved.data, saved.len, &err), 0);
    block_resume(image);
    block_drain(image);
    for (unsigned q = 0; q < QUEUES; q++) {
        assert_true(driver_used(&d, q, &head, &used));
        assert_true(driver_used(&d, q, &head, &used));
        assert_false(driver_used(&d, q, &head, &used));
    }
    for (unsigned i = 0; i < 2 * QUEUES; i++)
        assert_true(disk_is(i * 512, (uint8_t)(0x70 + i), 512));
    clock_step(b.clock, 1000000); /* loaded queues are notified */
    buf_done(&saved);
}

static void *field_of(const struct state_desc *desc, const char *name, unsigned *ret_at) {
    for (unsigned i = 0; desc->fields[i].name; i++)
        if (!strcmp(desc->fields[i].name, name)) {
            *ret_at = i;
            return (uint8_t *)dev + desc->fields[i].offset;
        }
    fail_msg("there is no field %s", name);
    return NULL;
}

/* Version 2 of the state kept a list of heads. */
static void what_an_older_state_kept_is_done_again(void **state) {
    struct state_field fields[16] = {0};
    struct state_desc old = *dev->cls->state;
    struct buf saved = {0};
    struct error err = {0};
    uint64_t *bits;
    uint16_t *heads, *count;
    unsigned at;

    start_pausing(BLOCK_ON_ERROR_ENOSPC);
    fill_data(0x52, 4096);
    fault_inject(BLOCK_WRITE, 0, 1, -ENOSPC);
    kept(OUT, 8, 4096);
    heads = field_of(&old, "kept", &at);
    count = field_of(&old, "kept_count", &at);
    bits = field_of(&old, "kept_heads", &at);
    assert_int_equal(*count, 0);
    assert_true(bits[0] && !(bits[0] & (bits[0] - 1)));
    heads[0] = (uint16_t)__builtin_ctzll(bits[0]);
    *count = 1;
    memcpy(fields, old.fields, at * sizeof(fields[0])); /* those before kept_heads */
    old.fields = fields;
    old.version = 2;
    state_save(&old, dev, &saved);
    device_reset(dev);
    assert_int_equal(state_load(dev->cls->state, dev, saved.data, saved.len, &err), 0);
    assert_int_equal(resumed(), OK);
    assert_true(disk_is(8 * 512, 0x52, 4096));
    clock_step(b.clock, 1000000);
    buf_done(&saved);
}

static void a_disk_without_an_image_is_empty(void **state) {
    struct device *empty = board_add(&b, "virtio_blk", NULL, 0x18);

    driver_start(&d, &b, 0x18, F_FLUSH | F_RO, 1, true);
    assert_int_equal(driver_config(&d, 0, 4), 0);
    assert_int_equal(request(IN, 0, 512), IOERR);
    assert_int_equal(request(OUT, 0, 512), IOERR);
    assert_int_equal(request(FLUSH, 0, 0), OK);
    pci_bus_detach((struct pci_device *)empty);
    device_free(empty);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, make, drop)
    const struct CMUnitTest tests[] = {
        T(its_configuration_describes_the_disk),
        T(sectors_are_written_and_read),
        T(requests_outside_the_disk_fail_and_touch_nothing),
        T(unknown_requests_are_unsupported),
        T(the_serial_number_is_twenty_bytes),
        T(a_readonly_disk_says_so_and_refuses_writes),
        T(ranges_are_zeroed_one_after_the_other),
        T(a_bad_range_stops_the_request_before_it_begins),
        T(random_requests_cut_anywhere_agree_with_a_model),
        T(failures_of_the_host_reach_the_guest),
        T(a_full_disk_pauses_and_the_request_is_done_again),
        T(every_failure_but_a_flush_pauses_if_asked_for),
        T(no_failure_pauses_if_all_are_to_be_reported),
        T(a_reset_forgets_what_was_kept),
        T(what_was_kept_is_part_of_the_state),
        T(a_kept_request_that_the_driver_spoils_breaks_only_its_device),
        T(a_write_is_flushed_when_there_is_no_write_cache),
        T(requests_without_header_or_status_break_the_device),
        T(a_reset_waits_for_requests_and_forgets_them),
        T(a_device_may_go_with_requests_in_flight),
        T(what_completes_together_interrupts_once),
        T(what_the_host_has_cached_is_answered_within_the_kick),
        T(each_queue_answers_for_itself),
        T(a_driver_may_use_fewer_queues_than_there_are),
        T(what_was_kept_goes_back_to_its_own_queue),
        T(what_an_older_state_kept_is_done_again),
        T(a_disk_without_an_image_is_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
