/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the IDE adapter, driven by its ports as a guest's driver would, on real image files. */
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
#include "devices/ide.h"
#include "devices/virtio_driver.h"
#include "support/test.h"

enum {
    DEVFN = 0xf9,
    MIB = 1 << 20,
    DISK = MIB,
    RAM = 16 * MIB,
    MASTER = 0xc000,
    TABLE = 0x2000,
    DATA = 0x10000,
    CD = 128 << 10
};
enum { ERR = 1, DRQ = 8, READY = 0x50, BUSY = 0x80 };

static struct loop *loop;
static enum block_on_error on_error;
static struct block *image, *medium;
static struct board b;
static struct device *dev;
static bool wire[2];
static unsigned rises[2];

static void note_irq(void *opaque, unsigned n, bool level) {
    rises[n] += level && !wire[n];
    wire[n] = level;
}

static void start_with(bool readonly) {
    static const uint16_t ports[] = {0x1f0, 0x3f6, 0x170, 0x376};
    struct ide_config config = {.drive = {{.present = true, .serial = "SN-IDE"},
                                          {0},
                                          {.present = true, .cdrom = true, .serial = "CD"}}};
    struct block_options o = {.path = image_path("disk.raw"),
                              .readonly = readonly,
                              .ops = &fault_block_ops,
                              .on_error = on_error};
    struct error err = {0};
    struct device_env env;

    image = block_open(loop, &o, &err);
    medium = image_open(loop, image_path("cd.iso"), true);
    if (!image)
        fail_msg("%s", err.text);
    config.drive[0].block = image;
    config.drive[2].block = medium;
    test_board_init(&b, RAM);
    env = board_env(&b, &config);
    for (unsigned i = 0; i < 2; i++)
        env.irq[i] = (struct irq){note_irq, NULL, i};
    dev = device_new(device_class_find("ide"), "ide", &env, &err);
    assert_non_null(dev);
    assert_int_equal(pci_bus_attach(b.bus, (struct pci_device *)dev, DEVFN, &err), 0);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(device_mount(dev, i, &b.pio, ports[i], &err), 0);
    pci_config_write(b.bus, DEVFN, PCI_BAR0 + 16, 4, MASTER);
    pci_config_write(b.bus, DEVFN, PCI_COMMAND, 2, 5);
    rises[0] = rises[1] = 0;
}

static void stop(void) {
    for (unsigned i = 0; dev && i < 4; i++)
        io_unmap(&b.pio, &dev->region[i]);
    test_board_done(&b);
    device_free(dev);
    block_close(image);
    block_close(medium);
    dev = NULL;
}

static int make(void **state) {
    uint8_t sector[2048];
    int fd;

    loop = loop_new(NULL, NULL);
    image_make(image_path("disk.raw"), DISK);
    image_make(image_path("cd.iso"), CD);
    fd = open(image_path("cd.iso"), O_WRONLY | O_CLOEXEC);
    for (unsigned i = 0; i < CD / 2048; i++) {
        memset(sector, (int)i + 1, sizeof(sector));
        assert_int_equal(pwrite(fd, sector, sizeof(sector), i * 2048), 2048);
    }
    close(fd);
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

/* ------------------------------------------------------------------ the driver */

static void out(unsigned port, uint8_t v) { io_write(&b.pio, port, 1, v); }

static uint8_t in(unsigned port) { return (uint8_t)io_read(&b.pio, port, 1); }

static uint8_t wait_status(unsigned base) {
    for (int i = 0; i < 1000 && (in(base + 0x206) & BUSY); i++)
        loop_step(loop, 10);
    return in(base + 7);
}

static void command48(unsigned base, uint8_t cmd, uint64_t lba, unsigned count) {
    out(base + 6, 0x40);
    for (int high = 1; high >= 0; high--) {
        out(base + 2, (uint8_t)(count >> (8 * high)));
        for (unsigned i = 0; i < 3; i++)
            out(base + 3 + i, (uint8_t)(lba >> (8 * i + 24 * (unsigned)high)));
    }
    out(base + 7, cmd);
}

static void command28(unsigned base, uint8_t cmd, uint32_t lba, uint8_t count) {
    out(base + 2, count);
    for (unsigned i = 0; i < 3; i++)
        out(base + 3 + i, (uint8_t)(lba >> (8 * i)));
    out(base + 6, (uint8_t)(0x40 | lba >> 24));
    out(base + 7, cmd);
}

static void take_words(unsigned base, void *to, unsigned bytes) {
    for (unsigned i = 0; i < bytes / 2; i++)
        store_le16((uint8_t *)to + 2 * (size_t)i, (uint16_t)io_read(&b.pio, base, 2));
}

static void give(unsigned base, uint8_t v, unsigned bytes) {
    for (unsigned i = 0; i < bytes / 2; i++)
        io_write(&b.pio, base, 2, (uint16_t)(v | v << 8));
}

static void table(unsigned i, uint32_t at, uint32_t n, bool last) {
    board_store32(&b, TABLE + 8 * i, at);
    board_store32(&b, TABLE + 8 * i + 4, (n & 0xffff) | (last ? 0x80000000 : 0));
}

static void engine(unsigned channel, uint8_t v) {
    io_write(&b.pio, MASTER + 8 * channel + 4, 4, TABLE);
    io_write(&b.pio, MASTER + 8 * channel + 2, 1, 6);
    io_write(&b.pio, MASTER + 8 * channel, 1, v);
}

static uint8_t engine_status(unsigned channel) {
    return (uint8_t)io_read(&b.pio, MASTER + 8 * channel + 2, 1);
}

static void fill(uint8_t v, uint32_t n) { memset(mem_ptr(&b.mem, DATA, n, true), v, n); }

static bool data_is(uint8_t v, uint32_t n) {
    const uint8_t *p = mem_ptr(&b.mem, DATA, n, false);

    for (uint32_t i = 0; i < n; i++)
        if (p[i] != v)
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

/* ------------------------------------------------------------------ tests */

static void drives_identify_themselves(void **state) {
    uint8_t id[512];

    assert_int_equal(in(0x1f7), READY);
    out(0x1f7, 0xec);
    assert_int_equal(wait_status(0x1f0), READY | DRQ);
    assert_int_equal(rises[0], 1);
    take_words(0x1f0, id, 512);
    assert_int_equal(in(0x1f7), READY);
    assert_memory_equal(id + 20, "NSI-ED", 6);
    assert_int_equal(load_le32(id + 120), DISK / 512);
    assert_int_equal(load_le16(id + 2 * 76), 0); /* no Serial ATA */
    out(0x1f6, 0x10);                            /* nothing there */
    assert_int_equal(in(0x1f7), 0);
    out(0x1f7, 0xec);
    assert_int_equal(in(0x1f7), 0);
    out(0x177, 0xec); /* not for packet devices, whose signature is shown */
    assert_int_equal(wait_status(0x170), READY | ERR);
    assert_int_equal(in(0x174), 0x14);
    assert_int_equal(in(0x175), 0xeb);
    out(0x177, 0xa1);
    assert_int_equal(wait_status(0x170), READY | DRQ);
    take_words(0x170, id, 512);
    assert_int_equal(id[1], 0x85);
    assert_int_equal(in(0x177), READY);
}

static void sectors_go_through_the_data_port(void **state) {
    uint8_t got[4 * 512];

    command28(0x1f0, 0x30, 5, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(wait_status(0x1f0), READY | DRQ);
        give(0x1f0, (uint8_t)(0x11 * (i + 1)), 512);
    }
    assert_int_equal(wait_status(0x1f0), READY);
    assert_int_equal(rises[0], 3); /* not for the first block */
    for (unsigned i = 0; i < 3; i++)
        assert_true(disk_is((5 + i) * 512, (uint8_t)(0x11 * (i + 1)), 512));
    command48(0x1f0, 0x24, 4, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(wait_status(0x1f0), READY | DRQ);
        take_words(0x1f0, got + 512 * (size_t)i, 512);
    }
    assert_int_equal(in(0x1f7), READY);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(got[512 * i + 100], 0x11 * i);
    /* Several sectors an interrupt, and the rest. */
    out(0x1f2, 4);
    out(0x1f7, 0xc6);
    assert_int_equal(wait_status(0x1f0), READY);
    rises[0] = 0;
    command28(0x1f0, 0xc4, 4, 6);
    assert_int_equal(wait_status(0x1f0), READY | DRQ);
    take_words(0x1f0, got, 2048);
    assert_int_equal(got[2047], 0x33);
    assert_int_equal(wait_status(0x1f0), READY | DRQ);
    take_words(0x1f0, got, 1024);
    assert_int_equal(in(0x1f7), READY);
    assert_int_equal(rises[0], 2);
    command28(0x1f0, 0x20, DISK / 512, 1);
    assert_int_equal(wait_status(0x1f0), READY | ERR);
    assert_int_equal(in(0x1f1), 0x10);
}

static void the_bus_master_moves_sectors(void **state) {
    fill(0x5a, 8192);
    table(0, DATA, 512, false);
    table(1, DATA + 512, 7680, true);
    engine(0, 0);
    command28(0x1f0, 0xca, 8, 16);
    assert_int_equal(rises[0], 0); /* it waits for the engine */
    engine(0, 1);
    assert_int_equal(wait_status(0x1f0), READY);
    assert_int_equal(engine_status(0) & 7, 4);
    assert_int_equal(rises[0], 1);
    assert_true(disk_is(8 * 512, 0x5a, 8192));
    engine(0, 0);
    fill(0, 8192);
    engine(0, 9); /* the engine first */
    command48(0x1f0, 0x25, 8, 16);
    assert_int_equal(wait_status(0x1f0), READY);
    assert_true(data_is(0x5a, 8192));
    engine(0, 0);
    engine(0, 9);
    command48(0x1f0, 0x25, 8, 17); /* more than the buffers take */
    assert_int_equal(wait_status(0x1f0), READY | ERR);
    engine(0, 0);
    board_store64(&b, DATA, 8 | 16ull << 48);
    memset(mem_ptr(&b.mem, DATA + 8, 504, true), 0, 504);
    out(0x1f1, 1);
    command48(0x1f0, 0x06, 0, 1); /* trim */
    engine(0, 1);
    assert_int_equal(wait_status(0x1f0), READY);
    assert_true(disk_is(8 * 512, 0, 8192));
}

static void tables_outside_of_memory_fail(void **state) {
    table(0, 0xf0000000, 512, true);
    command28(0x1f0, 0xc8, 0, 1);
    engine(0, 9);
    assert_int_equal(wait_status(0x1f0), READY | ERR);
    assert_int_equal(engine_status(0) & 3, 2);
    engine(0, 0);
    io_write(&b.pio, MASTER + 4, 4, 0xfffffff0);
    command28(0x1f0, 0xc8, 0, 1);
    io_write(&b.pio, MASTER, 1, 9);
    assert_int_equal(wait_status(0x1f0), READY | ERR);
}

static void packet(const char *cdb, uint8_t dma, unsigned limit) {
    out(0x171, dma);
    out(0x174, (uint8_t)limit);
    out(0x175, (uint8_t)(limit >> 8));
    out(0x177, 0xa0);
    assert_int_equal(in(0x177), READY | DRQ);
    assert_int_equal(in(0x172), 1);
    for (unsigned i = 0; i < 6; i++)
        io_write(&b.pio, 0x170, 2, load_le16((const uint8_t *)cdb + 2 * (size_t)i));
}

/* What is saved at any moment can be loaded. */
static void save_and_load(void) {
    struct buf saved = {0};
    struct error err = {0};

    state_save(dev->cls->state, dev, &saved);
    if (state_load(dev->cls->state, dev, saved.data, saved.len, &err) < 0)
        fail_msg("%s", err.text);
    buf_done(&saved);
}

static void a_drive_reads_by_packets(void **state) {
    uint8_t got[2048];

    packet("\0\0\0\0\0\0\0\0\0\0\0\0", 0, 0);
    assert_int_equal(wait_status(0x170), READY | ERR); /* it was reset */
    packet("\0\0\0\0\0\0\0\0\0\0\0\0", 0, 0);
    assert_int_equal(wait_status(0x170), READY);
    assert_int_equal(in(0x172), 3);
    save_and_load();
    /* Ten sectors in pieces of one, though the adapter reads four at once. */
    packet("\x28\0\0\0\0\3\0\0\x0a\0\0\0", 0, 2048);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(wait_status(0x170), READY | DRQ);
        assert_int_equal(in(0x172), 2);
        assert_int_equal(in(0x174) | in(0x175) << 8, 2048);
        take_words(0x170, got, 2048);
        assert_int_equal(got[0], 4 + i);
        assert_int_equal(got[2047], 4 + i);
    }
    assert_int_equal(wait_status(0x170), READY);
    assert_int_equal(in(0x172), 3);
    packet("\x28\0\0\0\0\x3f\0\0\2\0\0\0", 0, 2048); /* the second is not there */
    assert_int_equal(wait_status(0x170), READY | ERR);
    packet("\0\0\0\0\0\0\0\0\0\0\0\0", 0, 0);
    wait_status(0x170);
    table(0, DATA, 4096, true);
    packet("\x28\0\0\0\0\x10\0\0\2\0\0\0", 1, 0);
    engine(1, 9);
    assert_int_equal(wait_status(0x170), READY);
    assert_int_equal(((uint8_t *)mem_ptr(&b.mem, DATA, 1, false))[0], 0x11);
    assert_int_equal(((uint8_t *)mem_ptr(&b.mem, DATA + 4095, 1, false))[0], 0x12);
    assert_true(wire[0] == false);
}

static void resets_and_masks_work(void **state) {
    out(0x3f6, 2); /* no interrupts */
    out(0x1f7, 0xec);
    wait_status(0x1f0);
    assert_int_equal(rises[0], 0);
    out(0x3f6, 6);
    assert_int_equal(in(0x3f6), BUSY);
    out(0x3f6, 0);
    assert_int_equal(in(0x3f6), READY);
    assert_int_equal(in(0x1f1), 1);
    assert_int_equal(in(0x1f4), 0);
    out(0x376, 4);
    out(0x376, 0);
    assert_int_equal(in(0x174), 0x14);
    assert_int_equal(in(0x175), 0xeb);
}

static void a_readonly_disk_refuses_writes(void **state) {
    stop();
    start_with(true);
    command28(0x1f0, 0x30, 0, 1);
    wait_status(0x1f0);
    give(0x1f0, 1, 512);
    assert_int_equal(wait_status(0x1f0), READY | ERR);
    assert_int_equal(in(0x1f1), 4);
}

static void note_pause(void *opaque, const struct error *e) {}

/* A failed programmed write, and a bus master one: both are kept, also in the state. */
static void a_full_disk_pauses_and_the_command_is_done_again(void **state) {
    struct buf saved = {0};
    struct error err = {0};

    block_set_pause_fn(image, note_pause, NULL);
    for (unsigned master = 0; master < 2; master++) {
        fault_inject(BLOCK_WRITE, 0, 1, -ENOSPC);
        fill(0x30, 512);
        table(0, DATA, 512, true);
        command28(0x1f0, master ? 0xca : 0x30, 4 + master, 1);
        if (master)
            engine(0, 1);
        else
            give(0x1f0, 0x30, 512);
        block_drain(image);
        assert_true(in(0x3f6) & BUSY);
        assert_true(block_wants_pause(image));
        state_save(dev->cls->state, dev, &saved);
        device_reset(dev);
        assert_int_equal(state_load(dev->cls->state, dev, saved.data, saved.len, &err), 0);
        buf_done(&saved);
        block_resume(image);
        assert_int_equal(wait_status(0x1f0), READY);
        assert_true(disk_is((4 + master) * 512, 0x30, 512));
    }
    block_set_pause_fn(image, NULL, NULL);
    fault_inject(BLOCK_READ, 0, 1, -EIO);
    command28(0x1f0, 0x20, 0, 1);
    assert_int_equal(wait_status(0x1f0), READY | ERR);
    assert_int_equal(in(0x1f1), 0x40);
}

static void *release(void *opaque) {
    fault_release();
    return NULL;
}

static void a_reset_waits_for_a_command_and_forgets_it(void **state) {
    pthread_t thread;

    table(0, DATA, 512, true);
    fault_hold(true);
    command28(0x1f0, 0xc8, 0, 1);
    engine(0, 9);
    assert_int_equal(fault_held(), 1);
    fault_hold(false);
    pthread_create(&thread, NULL, release, NULL);
    out(0x3f6, 4);
    pthread_join(thread, NULL);
    out(0x3f6, 0);
    assert_int_equal(rises[0], 0);
    fill(0x55, 512);
    while (loop_step(loop, 20))
        ;
    assert_true(data_is(0x55, 512));
    out(0x1f7, 0xec);
    assert_int_equal(wait_status(0x1f0), READY | DRQ);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, make, drop)
    const struct CMUnitTest tests[] = {
        T(drives_identify_themselves),
        T(sectors_go_through_the_data_port),
        T(the_bus_master_moves_sectors),
        T(tables_outside_of_memory_fail),
        T(a_drive_reads_by_packets),
        T(resets_and_masks_work),
        T(a_readonly_disk_refuses_writes),
        T(a_full_disk_pauses_and_the_command_is_done_again),
        T(a_reset_waits_for_a_command_and_forgets_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
