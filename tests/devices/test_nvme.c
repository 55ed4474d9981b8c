/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the NVMe controller, driven as a guest's driver would, on real image files. */
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
#include "devices/nvme.h"
#include "devices/virtio_driver.h"
#include "support/test.h"

enum { DEVFN = 0x18, MIB = 1 << 20, DISK = MIB, RAM = 32 * MIB, BAR = 0xd0000000, ENTRIES = 16 };
enum { CC = 0x14, CSTS = 0x1c, AQA = 0x24, ASQ = 0x28, ACQ = 0x30, ENABLE = 0x00460001 };
enum { FLUSH = 0, WRITE = 1, READ = 2, ZEROES = 8, DSM = 9 };
enum {
    OK = 0,
    BAD_OPCODE = 0x4001,
    BAD_FIELD = 0x4002,
    TRANSFER = 4,
    ABORTED = 7,
    SQ_DELETED = 8,
    BAD_NAMESPACE = 0x400b,
    BAD_SEQUENCE = 0x400c,
    BAD_PRP = 0x4013,
    LBA_RANGE = 0x4080,
    FULL = 0x4081,
    BAD_CQ = 0x4100,
    BAD_QUEUE = 0x4101,
    BAD_SIZE = 0x4102,
    TOO_MANY = 0x4105,
    BAD_VECTOR = 0x4108,
    BAD_LOG = 0x4109,
    BAD_DELETION = 0x410c,
    NOT_SAVEABLE = 0x410d,
    READONLY = 0x4182,
    WRITE_FAULT = 0x280,
    READ_ERROR = 0x281,
    NOTHING = 0xffff
};

static struct loop *loop;
static enum block_on_error on_error;
static struct block *image;
static struct board b;
static struct device *dev;
static gpa data, list, shadow;

struct queue {
    gpa sq, cq;
    uint32_t tail, head, entries;
    bool phase;
    uint16_t cid;
} q[4];

static void put(unsigned reg, uint32_t v) { io_write(&b.mmio, BAR + reg, 4, v); }

static uint32_t get(unsigned reg) { return (uint32_t)io_read(&b.mmio, BAR + reg, 4); }

static void make_queue(unsigned id, uint32_t entries) {
    q[id] = (struct queue){.sq = board_alloc(&b, 64ull * entries, 4096),
                           .cq = board_alloc(&b, 16ull * entries, 4096),
                           .entries = entries,
                           .phase = true};
}

/* ------------------------------------------------------------------ commands */

struct command {
    uint8_t op, flags;
    uint32_t ns, dw10, dw11, dw12, dw13;
    uint64_t prp1, prp2;
};

static uint16_t add(unsigned id, const struct command *c) {
    uint8_t e[64] = {c->op, c->flags};

    store_le16(e + 2, ++q[id].cid);
    store_le32(e + 4, c->ns);
    store_le64(e + 24, c->prp1);
    store_le64(e + 32, c->prp2);
    store_le32(e + 40, c->dw10);
    store_le32(e + 44, c->dw11);
    store_le32(e + 48, c->dw12);
    store_le32(e + 52, c->dw13);
    mem_write(&b.mem, q[id].sq + 64ull * q[id].tail, e, sizeof(e));
    q[id].tail = (q[id].tail + 1) % q[id].entries;
    return q[id].cid;
}

static void ring_tail(unsigned id) { put(0x1000 + 8 * id, q[id].tail); }

/* The next completion: its status, NOTHING if there is none. */
static unsigned completion(unsigned id, uint16_t *ret_cid, uint32_t *ret_value) {
    const uint8_t *e = mem_ptr(&b.mem, q[id].cq + 16ull * q[id].head, 16, false);

    if ((e[14] & 1) != q[id].phase)
        return NOTHING;
    *ret_cid = load_le16(e + 12);
    *ret_value = load_le32(e);
    if (++q[id].head == q[id].entries) {
        q[id].head = 0;
        q[id].phase = !q[id].phase;
    }
    return load_le16(e + 14) >> 1;
}

static void ring_head(unsigned id) { put(0x1004 + 8 * id, q[id].head); }

static unsigned wait_value(unsigned id, uint32_t *ret_value) {
    unsigned status = NOTHING;
    uint16_t cid;

    for (int i = 0; i < 1000 && status == NOTHING; i++) {
        status = completion(id, &cid, ret_value);
        if (status == NOTHING)
            loop_step(loop, 10);
    }
    ring_head(id);
    return status;
}

static unsigned run_value(unsigned id, const struct command *c, uint32_t *ret_value) {
    add(id, c);
    ring_tail(id);
    return wait_value(id, ret_value);
}

static unsigned run(unsigned id, const struct command *c) {
    uint32_t value;

    return run_value(id, c, &value);
}

#define admin(...) run(0, &(struct command){__VA_ARGS__})
#define io(...)    run(1, &(struct command){.ns = 1, __VA_ARGS__})

static unsigned feature(uint32_t id, uint32_t *ret_value) {
    return run_value(0, &(struct command){.op = 0x0a, .dw10 = id}, ret_value);
}

/* ------------------------------------------------------------------ start */

static void enable(void) {
    make_queue(0, ENTRIES);
    put(AQA, (ENTRIES - 1) | (ENTRIES - 1) << 16);
    put(ASQ, (uint32_t)q[0].sq);
    put(ASQ + 4, 0);
    put(ACQ, (uint32_t)q[0].cq);
    put(ACQ + 4, 0);
    put(CC, ENABLE);
    assert_int_equal(get(CSTS), 1);
}

static void create_queues(unsigned id, uint32_t entries) {
    make_queue(id, entries);
    assert_int_equal(
        admin(.op = 5, .prp1 = q[id].cq, .dw10 = id | (entries - 1) << 16, .dw11 = 3 | id << 16),
        OK);
    assert_int_equal(
        admin(.op = 1, .prp1 = q[id].sq, .dw10 = id | (entries - 1) << 16, .dw11 = 1 | id << 16),
        OK);
}

static void start_with(bool readonly) {
    struct nvme_config config = {.queues = 3, .serial = "SN-1"};
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
    dev = board_add(&b, "nvme", &config, DEVFN);
    pci_config_write(b.bus, DEVFN, PCI_BAR0, 4, BAR);
    pci_config_write(b.bus, DEVFN, PCI_COMMAND, 2, 6);
    pci_config_write(b.bus, DEVFN, ((struct pci_device *)dev)->msix_cap + 2u, 2, 0x8000);
    for (unsigned i = 0; i < 4; i++) {
        put(0x2000 + 16 * i, 0xfee00000);
        put(0x2008 + 16 * i, 0x40 + i);
        put(0x200c + 16 * i, 0);
    }
    data = board_alloc(&b, DISK + 8192, 4096);
    list = board_alloc(&b, 8192, 4096);
    shadow = board_alloc(&b, 8192, 4096);
    enable();
    create_queues(1, ENTRIES);
}

static void stop(void) {
    test_board_done(&b);
    device_free(dev);
    block_close(image);
    dev = NULL;
}

static int make(void **state) {
    loop = loop_new(NULL, NULL);
    image_make(image_path("disk.raw"), DISK);
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

static void fill_data(uint8_t value, uint32_t len) {
    memset(mem_ptr(&b.mem, data, len, true), value, len);
}

static const uint8_t *bytes(void) { return mem_ptr(&b.mem, data, 4096, false); }

static bool data_is(uint64_t at, uint8_t value, uint32_t len) {
    const uint8_t *p = mem_ptr(&b.mem, data + at, len, false);

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

/* ------------------------------------------------------------------ registers */

static void registers_say_what_the_controller_can(void **state) {
    uint64_t cap = io_read(&b.mmio, BAR, 8);

    assert_int_equal(cap & 0xffff, 1023);
    assert_int_equal(cap >> 16 & 1, 1);
    assert_int_equal(cap >> 37 & 1, 1);
    assert_int_equal(get(8), 0x00010400);
    assert_int_equal(pci_config_read(b.bus, DEVFN, PCI_CLASS_REV + 1, 2), 0x0802);
    put(CC, 0);
    assert_int_equal(get(CSTS), 0);
    put(ASQ, 0x1000);
    put(CC, ENABLE | 9 << 7); /* pages larger than it can */
    assert_int_equal(get(CSTS) & 3, 2);
    put(CC, 0);
    put(AQA, 0); /* queues of one entry */
    put(CC, ENABLE);
    assert_int_equal(get(CSTS) & 3, 2);
    put(CC, 0);
    enable();
}

static void it_describes_itself_and_its_namespace(void **state) {
    uint32_t value;

    assert_int_equal(admin(.op = 6, .dw10 = 1, .prp1 = data), OK);
    assert_memory_equal(bytes() + 4, "SN-1 ", 5);
    assert_int_equal(load_le32(bytes() + 80), 0x00010400);
    assert_int_equal(load_le32(bytes() + 516), 1);
    assert_int_equal(bytes()[77], 8);
    assert_int_equal(admin(.op = 6, .dw10 = 0, .ns = 1, .prp1 = data), OK);
    assert_int_equal(load_le64(bytes()), DISK / 512);
    assert_int_equal(bytes()[130], 9);
    assert_int_equal(bytes()[99], 0);
    assert_int_equal(admin(.op = 6, .dw10 = 2, .prp1 = data), OK);
    assert_int_equal(load_le32(bytes()), 1);
    assert_int_equal(load_le32(bytes() + 4), 0);
    assert_int_equal(admin(.op = 6, .dw10 = 2, .ns = 1, .prp1 = data), OK);
    assert_int_equal(load_le32(bytes()), 0);
    assert_int_equal(admin(.op = 6, .dw10 = 3, .ns = 1, .prp1 = data), OK);
    assert_memory_equal(bytes(), "\3\x10\0", 3);
    assert_int_equal(admin(.op = 6, .dw10 = 0, .ns = 2, .prp1 = data), BAD_NAMESPACE);
    assert_int_equal(admin(.op = 6, .dw10 = 0x55, .ns = 1, .prp1 = data), BAD_FIELD);
    assert_int_equal(admin(.op = 0x77), BAD_OPCODE);
    assert_int_equal(feature(7, &value), OK);
    assert_int_equal(value, 0x20002);
}

/* ------------------------------------------------------------------ transfers */

static void sectors_are_written_and_read(void **state) {
    fill_data(0x5a, 8192);
    assert_int_equal(io(.op = WRITE, .dw10 = 3, .dw12 = 15, .prp1 = data, .prp2 = data + 4096), OK);
    assert_true(disk_is(3 * 512, 0x5a, 8192));
    assert_true(disk_is(0, 0, 3 * 512));
    assert_int_equal(io(.op = FLUSH), OK);
    fill_data(0, 8192);
    assert_int_equal(io(.op = READ, .dw10 = 3, .dw12 = 15, .prp1 = data, .prp2 = data + 4096), OK);
    assert_true(data_is(0, 0x5a, 8192));
    /* An odd start: two pages for one, and three for two by a list. */
    fill_data(0x11, 16384);
    assert_int_equal(io(.op = READ, .dw10 = 3, .dw12 = 7, .prp1 = data + 512, .prp2 = data + 4096),
                     OK);
    assert_true(data_is(0, 0x11, 512));
    assert_true(data_is(512, 0x5a, 4096));
    assert_true(data_is(4608, 0x11, 512));
}

/* A list of pages that goes on in another page of the list. */
static void lists_of_pages_are_followed(void **state) {
    for (unsigned i = 0; i < DISK / 512; i++)
        memset(mem_ptr(&b.mem, data + 512 * i, 512, true), (int)(i / 8 + 1), 512);
    /* Pages 1, 2 .. in the reverse order: 255 of them, 3 in the first piece of the list. */
    for (unsigned i = 0; i < 255; i++)
        board_store64(&b, i < 3 ? list + 4096 - 32 + 8 * i : list + 4096 + 8 * (i - 3),
                      data + 4096ull * (255 - i));
    board_store64(&b, list + 4096 - 8, list + 4096);
    assert_int_equal(
        io(.op = WRITE, .dw10 = 0, .dw12 = DISK / 512 - 1, .prp1 = data, .prp2 = list + 4096 - 32),
        OK);
    assert_true(disk_is(0, 1, 4096));
    for (unsigned i = 1; i < 256; i++)
        assert_true(disk_is(4096 * i, (uint8_t)(257 - i), 4096));
    fill_data(0, DISK);
    assert_int_equal(
        io(.op = READ, .dw10 = 0, .dw12 = DISK / 512 - 1, .prp1 = data, .prp2 = list + 4096 - 32),
        OK);
    for (unsigned i = 0; i < 256; i++)
        assert_true(data_is(4096 * i, (uint8_t)(i + 1), 4096));
}

static void bad_addresses_are_refused(void **state) {
    fill_data(0x33, 8192);
    assert_int_equal(io(.op = WRITE, .dw12 = 0, .prp1 = data + 2), BAD_PRP);
    assert_int_equal(io(.op = WRITE, .dw12 = 15, .prp1 = data, .prp2 = data + 4100), BAD_PRP);
    assert_int_equal(io(.op = WRITE, .dw12 = 0, .prp1 = 1ull << 40), TRANSFER);
    assert_int_equal(io(.op = WRITE, .dw12 = 15, .prp1 = data, .prp2 = 1ull << 40), TRANSFER);
    assert_int_equal(io(.op = WRITE, .dw12 = 31, .prp1 = data, .prp2 = 1ull << 40), TRANSFER);
    board_store64(&b, list + 4088, list + 4088); /* a list that names itself */
    assert_int_equal(io(.op = WRITE, .dw12 = 31, .prp1 = data, .prp2 = list + 4088), BAD_PRP);
    assert_int_equal(io(.op = WRITE, .flags = 0x40, .prp1 = data), BAD_FIELD); /* SGL */
    assert_int_equal(io(.op = WRITE, .flags = 1, .prp1 = data), BAD_FIELD);    /* fused */
    assert_int_equal(io(.op = WRITE, .dw12 = 0xffff, .prp1 = data), BAD_FIELD);
    assert_int_equal(io(.op = WRITE, .dw10 = DISK / 512, .prp1 = data), LBA_RANGE);
    assert_int_equal(io(.op = WRITE, .dw10 = ~0u, .dw11 = ~0u, .prp1 = data), LBA_RANGE);
    assert_int_equal(io(.op = READ, .dw10 = DISK / 512 - 1, .dw12 = 1, .prp1 = data), LBA_RANGE);
    assert_int_equal(run(1, &(struct command){.op = READ, .ns = 2, .prp1 = data}), BAD_NAMESPACE);
    assert_int_equal(io(.op = 0x55, .prp1 = data), BAD_OPCODE);
    assert_true(disk_is(0, 0, DISK));
}

static void ranges_are_zeroed_and_deallocated(void **state) {
    fill_data(0x77, DISK);
    for (unsigned i = 0; i < DISK; i += 8192)
        assert_int_equal(
            io(.op = WRITE, .dw10 = i / 512, .dw12 = 15, .prp1 = data, .prp2 = data + 4096), OK);
    assert_int_equal(io(.op = ZEROES, .dw10 = 8, .dw12 = 7), OK);
    assert_true(disk_is(0, 0x77, 4096));
    assert_true(disk_is(4096, 0, 4096));
    assert_int_equal(io(.op = ZEROES, .dw10 = 512, .dw12 = 255 | 1 << 25), OK);
    assert_true(disk_is(512 * 512, 0, 256 * 512));
    memset(mem_ptr(&b.mem, data, 64, true), 0, 64);
    board_store32(&b, data + 4, 64); /* 64 at 64 */
    board_store64(&b, data + 8, 64);
    board_store64(&b, data + 24, 5); /* none */
    board_store32(&b, data + 36, 8); /* 8 at 1024 */
    board_store64(&b, data + 40, 1024);
    assert_int_equal(io(.op = DSM, .dw10 = 2, .dw11 = 4, .prp1 = data), OK);
    assert_true(disk_is(64 * 512, 0, 64 * 512));
    assert_true(disk_is(128 * 512, 0x77, 512));
    assert_true(disk_is(1024 * 512, 0, 8 * 512));
    board_store64(&b, data + 40, DISK / 512); /* bad: nothing is done */
    board_store64(&b, data + 8, 256);
    assert_int_equal(io(.op = DSM, .dw10 = 2, .dw11 = 4, .prp1 = data), LBA_RANGE);
    assert_true(disk_is(256 * 512, 0x77, 64 * 512));
    assert_int_equal(io(.op = DSM, .dw10 = 2, .dw11 = 1, .prp1 = data), OK); /* a hint */
    assert_int_equal(io(.op = ZEROES, .dw10 = DISK / 512 - 1, .dw12 = 1), LBA_RANGE);
}

static void a_readonly_disk_says_so_and_refuses_writes(void **state) {
    stop();
    start_with(true);
    assert_int_equal(admin(.op = 6, .dw10 = 0, .ns = 1, .prp1 = data), OK);
    assert_int_equal(bytes()[99], 1);
    assert_int_equal(io(.op = WRITE, .prp1 = data), READONLY);
    assert_int_equal(io(.op = ZEROES), READONLY);
    assert_int_equal(io(.op = DSM, .dw11 = 4, .prp1 = data), READONLY);
    assert_int_equal(io(.op = READ, .prp1 = data), OK);
    assert_int_equal(io(.op = FLUSH), OK);
}

static void a_write_is_flushed_if_asked_for_or_without_a_cache(void **state) {
    uint32_t value;

    fault_inject(BLOCK_FLUSH, 0, 3, -EIO);
    assert_int_equal(io(.op = WRITE, .prp1 = data), OK);
    assert_int_equal(io(.op = WRITE, .dw12 = 1u << 30, .prp1 = data), WRITE_FAULT);
    assert_int_equal(io(.op = FLUSH), WRITE_FAULT);
    assert_int_equal(admin(.op = 9, .dw10 = 6, .dw11 = 0), OK);
    assert_int_equal(feature(6, &value), OK);
    assert_int_equal(value, 0);
    assert_int_equal(feature(6 | 1 << 8, &value), OK); /* by default */
    assert_int_equal(value, 1);
    assert_int_equal(io(.op = WRITE, .prp1 = data), WRITE_FAULT);
    assert_int_equal(io(.op = WRITE, .prp1 = data), OK);
}

/* ------------------------------------------------------------------ queues */

static void queues_are_made_and_deleted_in_order(void **state) {
    const uint32_t size = (ENTRIES - 1) << 16;

    make_queue(2, ENTRIES);
    assert_int_equal(admin(.op = 9, .dw10 = 7, .dw11 = 0x20002), BAD_SEQUENCE);
    assert_int_equal(admin(.op = 5, .prp1 = q[2].cq, .dw10 = 0 | size, .dw11 = 3), BAD_QUEUE);
    assert_int_equal(admin(.op = 5, .prp1 = q[2].cq, .dw10 = 1 | size, .dw11 = 3), BAD_QUEUE);
    assert_int_equal(admin(.op = 5, .prp1 = q[2].cq, .dw10 = 4 | size, .dw11 = 3), BAD_QUEUE);
    assert_int_equal(admin(.op = 5, .prp1 = q[2].cq, .dw10 = 2, .dw11 = 3), BAD_SIZE);
    assert_int_equal(admin(.op = 5, .prp1 = q[2].cq, .dw10 = 2 | 1024 << 16, .dw11 = 3), BAD_SIZE);
    assert_int_equal(admin(.op = 5, .prp1 = q[2].cq, .dw10 = 2 | size, .dw11 = 2), BAD_FIELD);
    assert_int_equal(admin(.op = 5, .prp1 = q[2].cq + 64, .dw10 = 2 | size, .dw11 = 3), BAD_PRP);
    assert_int_equal(admin(.op = 5, .prp1 = q[2].cq, .dw10 = 2 | size, .dw11 = 3 | 9 << 16),
                     BAD_VECTOR);
    assert_int_equal(admin(.op = 1, .prp1 = q[2].sq, .dw10 = 2 | size, .dw11 = 1 | 2 << 16),
                     BAD_CQ);
    create_queues(2, ENTRIES);
    assert_int_equal(run(2, &(struct command){.op = READ, .ns = 1, .prp1 = data}), OK);
    assert_int_equal(admin(.op = 4, .dw10 = 2), BAD_DELETION);
    assert_int_equal(admin(.op = 0, .dw10 = 2), OK);
    assert_int_equal(admin(.op = 0, .dw10 = 2), BAD_QUEUE);
    assert_int_equal(admin(.op = 4, .dw10 = 2), OK);
    create_queues(2, 4);
    for (unsigned i = 0; i < 10; i++) /* round and round */
        assert_int_equal(run(2, &(struct command){.op = READ, .ns = 1, .prp1 = data}), OK);
}

/* The driver does not take completions away: commands wait until it does. */
static void a_full_completion_queue_holds_commands_back(void **state) {
    uint16_t cid;
    uint32_t value;
    unsigned n = 0;

    make_queue(2, 8);
    q[2].cq = board_alloc(&b, 4096, 4096);
    assert_int_equal(admin(.op = 5, .prp1 = q[2].cq, .dw10 = 2 | 2 << 16, .dw11 = 3 | 2 << 16), OK);
    assert_int_equal(admin(.op = 1, .prp1 = q[2].sq, .dw10 = 2 | 7 << 16, .dw11 = 1 | 2 << 16), OK);
    q[2].entries = 8;
    for (unsigned i = 0; i < 6; i++)
        add(2, &(struct command){.op = FLUSH, .ns = 1});
    ring_tail(2);
    q[2].entries = 3; /* from here on the completion queue */
    for (unsigned round = 0; round < 3; round++) {
        for (int i = 0; i < 20; i++)
            loop_step(loop, 5);
        for (unsigned i = 0; i < 2; i++, n++) {
            assert_int_equal(completion(2, &cid, &value), OK);
        }
        assert_int_equal(completion(2, &cid, &value), NOTHING);
        ring_head(2);
    }
    assert_int_equal(n, 6);
}

static void interrupts_come_by_vector_once_a_batch(void **state) {
    unsigned before = b.msi_count;
    uint16_t cid;
    uint32_t value;

    for (unsigned i = 0; i < 5; i++)
        add(1, &(struct command){.op = 0x55, .ns = 1}); /* answered at once */
    ring_tail(1);
    assert_int_equal(b.msi_count, before + 1);
    assert_int_equal(b.msi[before].data, 0x41);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(completion(1, &cid, &value), BAD_OPCODE);
    ring_head(1);
    /* By INTx as long as there is something to see. */
    pci_config_write(b.bus, DEVFN, ((struct pci_device *)dev)->msix_cap + 2u, 2, 0);
    add(0, &(struct command){.op = 0x77});
    ring_tail(0);
    assert_true(b.intx[(DEVFN >> 3) % 4]);
    put(0x0c, 1); /* masked */
    assert_false(b.intx[(DEVFN >> 3) % 4]);
    put(0x10, 1);
    assert_true(b.intx[(DEVFN >> 3) % 4]);
    assert_int_equal(wait_value(0, &value), BAD_OPCODE);
    assert_false(b.intx[(DEVFN >> 3) % 4]);
}

static void shadow_doorbells_are_looked_at(void **state) {
    uint32_t value;
    uint16_t cid;

    assert_int_equal(admin(.op = 0x7c, .prp1 = shadow, .prp2 = shadow + 64), BAD_PRP);
    assert_int_equal(admin(.op = 0x7c, .prp1 = shadow, .prp2 = shadow + 4096), OK);
    for (unsigned i = 0; i < 3 * ENTRIES; i++) {
        uint32_t old = q[1].tail;

        add(1, &(struct command){.op = READ, .ns = 1, .prp1 = data});
        board_store32(&b, shadow + 8, q[1].tail);
        if (i == 0 || board_load32(&b, shadow + 4096 + 8) == old)
            ring_tail(1);
        else
            fail_msg("the controller does not ask for a word at the next command");
        for (int k = 0; k < 1000; k++) {
            value = completion(1, &cid, &value);
            if (value != NOTHING)
                break;
            loop_step(loop, 10);
        }
        assert_int_equal(value, OK);
        board_store32(&b, shadow + 12, q[1].head); /* and no doorbell */
    }
}

/* ------------------------------------------------------------------ events and logs */

static void events_are_told_once_until_their_page_was_read(void **state) {
    uint32_t value;
    uint16_t cid;

    for (unsigned i = 0; i < 4; i++)
        add(0, &(struct command){.op = 0x0c});
    ring_tail(0);
    assert_int_equal(completion(0, &cid, &value), NOTHING);
    assert_int_equal(admin(.op = 0x0c), TOO_MANY);
    put(0x1000 + 8 * 3, 1); /* a queue that is not there */
    assert_int_equal(wait_value(0, &value), OK);
    assert_int_equal(value, 0x010000);
    put(0x1000 + 8 * 1, 99); /* an index that cannot be */
    assert_int_equal(completion(0, &cid, &value), NOTHING);
    assert_int_equal(
        run_value(0, &(struct command){.op = 2, .dw10 = 1 | 0xf << 16, .prp1 = data}, &value), OK);
    assert_int_equal(wait_value(0, &value), OK); /* now that the first was seen */
    assert_int_equal(value, 0x010100);
    /* A new size, if the driver wants to know. */
    assert_int_equal(admin(.op = 9, .dw10 = 0x0b, .dw11 = 0x100), OK);
    assert_int_equal(admin(.op = 2, .dw10 = 0x55, .prp1 = data), BAD_LOG);
}

static void logs_tell_of_errors_and_work(void **state) {
    assert_int_equal(io(.op = 0x55), BAD_OPCODE);
    assert_int_equal(io(.op = READ, .dw10 = DISK / 512, .prp1 = data), LBA_RANGE);
    assert_int_equal(admin(.op = 2, .dw10 = 1 | 0x1f << 16, .prp1 = data), OK);
    assert_int_equal(load_le64(bytes()), 2);
    assert_int_equal(load_le16(bytes() + 8), 1);
    assert_int_equal(load_le16(bytes() + 12), LBA_RANGE << 1 & 0xffff);
    assert_int_equal(load_le64(bytes() + 16), DISK / 512);
    assert_int_equal(load_le64(bytes() + 64), 1);
    assert_int_equal(io(.op = READ, .prp1 = data), OK);
    assert_int_equal(admin(.op = 2, .dw10 = 2 | 0x7f << 16, .prp1 = data), OK);
    assert_int_equal(load_le64(bytes() + 64), 1); /* reads */
    assert_int_equal(load_le64(bytes() + 176), 2);
    assert_int_equal(admin(.op = 2, .dw10 = 3 | 0x7f << 16, .prp1 = data), OK);
    assert_int_equal(bytes()[0], 1);
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
}

static void failures_of_the_host_reach_the_guest(void **state) {
    on_error = BLOCK_ON_ERROR_REPORT;
    stop();
    start_with(false);
    fault_inject(BLOCK_READ, 0, 1, -EIO);
    assert_int_equal(io(.op = READ, .prp1 = data), READ_ERROR);
    fault_inject(BLOCK_WRITE, 0, 1, -ENOSPC);
    assert_int_equal(io(.op = WRITE, .prp1 = data), FULL);
    fault_inject(BLOCK_WRITE, 0, 1, -EIO);
    assert_int_equal(io(.op = WRITE, .prp1 = data), WRITE_FAULT);
    assert_int_equal(io(.op = WRITE, .prp1 = data), OK);
}

static uint16_t kept(void) {
    uint16_t cid, other;
    uint32_t value;

    fault_inject(BLOCK_WRITE, 0, 1, -ENOSPC);
    cid = add(1, &(struct command){.op = WRITE, .ns = 1, .dw10 = 8, .dw12 = 7, .prp1 = data});
    ring_tail(1);
    block_drain(image);
    assert_int_equal(completion(1, &other, &value), NOTHING);
    assert_true(block_wants_pause(image));
    return cid;
}

static void a_full_disk_pauses_and_the_command_is_done_again(void **state) {
    uint32_t value;

    start_pausing(BLOCK_ON_ERROR_ENOSPC);
    fill_data(0x31, 4096);
    kept();
    memset(mem_ptr(&b.mem, q[1].sq, 64 * ENTRIES, true), 0xff,
           64 * ENTRIES); /* the entry is free */
    fault_inject(BLOCK_WRITE, 0, 1, -ENOSPC);
    block_resume(image);
    block_drain(image);
    assert_int_equal(pauses, 2);
    block_resume(image);
    assert_int_equal(wait_value(1, &value), OK);
    assert_true(disk_is(8 * 512, 0x31, 4096));
    assert_int_equal(io(.op = READ, .prp1 = data), OK);
}

static void what_was_kept_is_part_of_the_state(void **state) {
    const struct state_desc *desc = dev->cls->state;
    struct buf saved = {0};
    struct error err = {0};
    uint32_t value;

    start_pausing(BLOCK_ON_ERROR_ENOSPC);
    fill_data(0x51, 4096);
    kept();
    state_save(desc, dev, &saved);
    device_reset(dev);
    assert_int_equal(state_load(desc, dev, saved.data, saved.len, &err), 0);
    buf_done(&saved);
    block_resume(image);
    assert_int_equal(wait_value(1, &value), OK);
    assert_true(disk_is(8 * 512, 0x51, 4096));
    clock_step(b.clock, 1000000);
    assert_int_equal(io(.op = READ, .prp1 = data), OK);
}

static void what_was_kept_can_be_aborted(void **state) {
    uint32_t value;
    uint16_t cid;

    start_pausing(BLOCK_ON_ERROR_ENOSPC);
    fill_data(0x61, 4096);
    cid = kept();
    assert_int_equal(
        run_value(0, &(struct command){.op = 8, .dw10 = 1 | (uint32_t)(cid + 1) << 16}, &value),
        OK);
    assert_int_equal(value, 1); /* not that one */
    assert_int_equal(
        run_value(0, &(struct command){.op = 8, .dw10 = 1 | (uint32_t)cid << 16}, &value), OK);
    assert_int_equal(value, 0);
    assert_int_equal(wait_value(1, &value), ABORTED);
    kept();
    assert_int_equal(admin(.op = 0, .dw10 = 1), OK); /* with its queue */
    assert_int_equal(wait_value(1, &value), SQ_DELETED);
    block_resume(image);
    block_drain(image);
    assert_true(disk_is(0, 0, DISK));
}

/* ------------------------------------------------------------------ in flight */

static void *release(void *opaque) {
    fault_release();
    return NULL;
}

static void a_reset_waits_for_commands_and_forgets_them(void **state) {
    pthread_t thread;
    uint16_t cid;
    uint32_t value;

    fill_data(0x12, 4096);
    fault_hold(true);
    add(1, &(struct command){.op = READ, .ns = 1, .dw12 = 7, .prp1 = data});
    ring_tail(1);
    assert_int_equal(fault_held(), 1);
    fault_hold(false);
    pthread_create(&thread, NULL, release, NULL);
    put(CC, 0);
    pthread_join(thread, NULL);
    assert_int_equal(get(CSTS), 0);
    assert_int_equal(completion(1, &cid, &value), NOTHING);
    fill_data(0x55, 4096);
    while (loop_step(loop, 20))
        ;
    assert_true(data_is(0, 0x55, 4096));
    enable();
    create_queues(1, ENTRIES);
    assert_int_equal(io(.op = READ, .dw12 = 7, .prp1 = data), OK);
}

static void a_device_may_go_with_commands_in_flight(void **state) {
    pthread_t thread;

    fault_hold(true);
    for (unsigned i = 0; i < 5; i++)
        add(1, &(struct command){.op = READ, .ns = 1, .dw12 = 7, .prp1 = data});
    ring_tail(1);
    assert_int_equal(fault_held(), 5);
    fault_hold(false);
    pthread_create(&thread, NULL, release, NULL);
    pci_bus_detach((struct pci_device *)dev);
    device_free(dev);
    pthread_join(thread, NULL);
    dev = NULL;
    assert_int_equal(do_request(loop, image, BLOCK_FLUSH, 0, NULL, 0), 0);
}

static void a_shutdown_flushes(void **state) {
    fault_hold(true);
    put(CC, ENABLE | 1 << 14);
    assert_int_equal(fault_held(), 1);
    assert_int_equal(get(CSTS) >> 2 & 3, 1); /* under way */
    fault_hold(false);
    fault_release();
    for (int i = 0; i < 1000 && (get(CSTS) >> 2 & 3) != 2; i++)
        loop_step(loop, 10);
    assert_int_equal(get(CSTS) >> 2 & 3, 2);
    put(CC, 0);
    assert_int_equal(get(CSTS), 0);
    enable();
}

/* Many in flight, on several queues, against a model. */
static void random_commands_agree_with_a_model(void **state) {
    uint8_t *model = calloc(1, DISK);
    struct rng r = rng_seed(4711);
    uint16_t cid;
    uint32_t value;

    create_queues(2, ENTRIES);
    create_queues(3, ENTRIES);
    for (int round = 0; round < 600; round++) {
        unsigned count = 1 + (unsigned)rng_below(&r, 8), left[4] = {0};

        for (unsigned i = 0; i < count; i++) { /* each on a part of the disk of its own */
            unsigned id = 1 + (unsigned)rng_below(&r, 3),
                     at = i * 128 + (unsigned)rng_below(&r, 64);
            unsigned n = 1 + (unsigned)rng_below(&r, 16);
            gpa where = data + i * 16384ull + 512 * rng_below(&r, 8);
            bool write = rng_below(&r, 2);
            struct command c = {.op = write ? WRITE : READ,
                                .ns = 1,
                                .dw10 = at,
                                .dw12 = n - 1,
                                .prp1 = where,
                                .prp2 = (where & ~0xfffull) + 4096};
            uint64_t pages = ((where & 0xfff) + n * 512 + 4095) / 4096;

            if (write) {
                memset(mem_ptr(&b.mem, where, n * 512, true), (int)rng_next(&r), n * 512);
                memcpy(model + at * 512, mem_ptr(&b.mem, where, n * 512, false), n * 512);
            }
            if (pages > 2) {
                gpa l = list + 64 * i;

                for (unsigned k = 1; k < pages; k++)
                    board_store64(&b, l + 8 * (k - 1), (where & ~0xfffull) + 4096ull * k);
                c.prp2 = l;
            }
            add(id, &c);
            left[id]++;
        }
        for (unsigned id = 1; id < 4; id++)
            ring_tail(id);
        for (unsigned id = 1; id < 4; id++)
            while (left[id]--)
                assert_int_equal(wait_value(id, &value), OK);
        assert_int_equal(completion(1, &cid, &value), NOTHING);
    }
    assert_int_equal(
        do_request(loop, image, BLOCK_READ, 0, mem_ptr(&b.mem, data, DISK, true), DISK), 0);
    assert_memory_equal(mem_ptr(&b.mem, data, DISK, false), model, DISK);
    free(model);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, make, drop)
    const struct CMUnitTest tests[] = {
        T(registers_say_what_the_controller_can),
        T(it_describes_itself_and_its_namespace),
        T(sectors_are_written_and_read),
        T(lists_of_pages_are_followed),
        T(bad_addresses_are_refused),
        T(ranges_are_zeroed_and_deallocated),
        T(a_readonly_disk_says_so_and_refuses_writes),
        T(a_write_is_flushed_if_asked_for_or_without_a_cache),
        T(queues_are_made_and_deleted_in_order),
        T(a_full_completion_queue_holds_commands_back),
        T(interrupts_come_by_vector_once_a_batch),
        T(shadow_doorbells_are_looked_at),
        T(events_are_told_once_until_their_page_was_read),
        T(logs_tell_of_errors_and_work),
        T(failures_of_the_host_reach_the_guest),
        T(a_full_disk_pauses_and_the_command_is_done_again),
        T(what_was_kept_is_part_of_the_state),
        T(what_was_kept_can_be_aborted),
        T(a_reset_waits_for_commands_and_forgets_them),
        T(a_device_may_go_with_commands_in_flight),
        T(a_shutdown_flushes),
        T(random_commands_agree_with_a_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
