/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the SATA adapter, driven as a guest's driver would, on real image files. */
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
#include "devices/ahci.h"
#include "devices/virtio_driver.h"
#include "support/test.h"

enum { DEVFN = 0xfa, MIB = 1 << 20, DISK = MIB, RAM = 16 * MIB, ABAR = 0xd0000000 };
enum {
    LIST = 0x10000,
    FIS = 0x11000,
    TABLES = 0x12000,
    DATA = 0x100000,
    PORT = 0x100,
    DRIVE = 0x180
};
enum {
    IS = 0x10,
    IE = 0x14,
    CMD = 0x18,
    TFD = 0x20,
    SIG = 0x24,
    SSTS = 0x28,
    SCTL = 0x2c,
    SERR = 0x30,
    SACT = 0x34,
    CI = 0x38
};
enum { DHR = 1, PIO = 2, SDB = 8, TFE = 0x40000000, GOOD = 0x50, BAD = 0x51 };

static struct loop *loop;
static enum block_on_error on_error;
static struct block *image;
static struct board b;
static struct device *dev;
static unsigned code_writes;

static void put(unsigned reg, uint32_t v) { io_write(&b.mmio, ABAR + reg, 4, v); }

static uint32_t get(unsigned reg) { return (uint32_t)io_read(&b.mmio, ABAR + reg, 4); }

static void start_port(unsigned port) {
    put(port + 0, LIST + 0x8000 * (port / DRIVE));
    put(port + 4, 0);
    put(port + 8, FIS + 0x8000 * (port / DRIVE));
    put(port + 12, 0);
    put(port + SERR, ~0u);
    put(port + IS, ~0u);
    put(port + IE, ~0u);
    put(port + CMD, 0x16);
    put(port + CMD, 0x17);
}

static void start_with(bool readonly) {
    struct ahci_config config = {.port = {{.present = true, .serial = "SN-SATA"},
                                          {.present = true, .cdrom = true, .serial = "CD"}}};
    struct block_options o = {.path = image_path("disk.raw"),
                              .readonly = readonly,
                              .ops = &fault_block_ops,
                              .on_error = on_error};
    struct error err = {0};

    image = block_open(loop, &o, &err);
    if (!image)
        fail_msg("%s", err.text);
    config.port[0].block = image;
    test_board_init(&b, RAM);
    dev = board_add(&b, "ahci", &config, DEVFN);
    pci_config_write(b.bus, DEVFN, PCI_BAR0 + 20, 4, ABAR);
    pci_config_write(b.bus, DEVFN, PCI_COMMAND, 2, 6);
    put(4, 0x80000002);
    start_port(PORT);
    start_port(DRIVE);
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

/* ------------------------------------------------------------------ commands */

/* Puts a command with `n` bytes of data at DATA + 0x10000 * tag into a slot; registers as in a
 * frame. */
static void prepare(unsigned port, unsigned tag, uint8_t cmd, uint64_t lba, unsigned count,
                    uint32_t n, bool write) {
    gpa side = 0x8000 * (port / DRIVE), table = TABLES + side + 0x100 * tag;
    uint8_t header[32] = {(uint8_t)(5 | (write ? 0x40 : 0) | (cmd == 0xa0 ? 0x20 : 0))};
    uint8_t fis[20] = {0x27, 0x80, cmd};
    bool queued = cmd == 0x60 || cmd == 0x61;

    store_le16(header + 2, n ? 1 : 0);
    store_le64(header + 8, table);
    mem_write(&b.mem, LIST + side + 32 * tag, header, sizeof(header));
    for (unsigned i = 0; i < 3; i++) {
        fis[4 + i] = (uint8_t)(lba >> (8 * i));
        fis[8 + i] = (uint8_t)(lba >> (24 + 8 * i));
    }
    fis[7] = 0x40;
    if (cmd == 0x06 || cmd == 0xa0)
        fis[3] = 1; /* trim; by DMA */
    if (queued) {
        fis[3] = (uint8_t)count;
        fis[11] = (uint8_t)(count >> 8);
        fis[12] = (uint8_t)(tag << 3);
    } else {
        store_le16(fis + 12, (uint16_t)count);
    }
    mem_write(&b.mem, table, fis, sizeof(fis));
    board_store64(&b, table + 0x80, DATA + 0x10000ull * tag);
    board_store32(&b, table + 0x88, 0);
    board_store32(&b, table + 0x8c, n - 1);
}

static bool wait_idle(unsigned port, uint32_t mask) {
    for (int i = 0; i < 1000; i++) {
        if (!((get(port + CI) | get(port + SACT)) & mask) || get(port + IS) & TFE)
            return true;
        loop_step(loop, 10);
    }
    return false;
}

/* One command in slot 0; the low byte of the task file. */
static uint8_t run(unsigned port, uint8_t cmd, uint64_t lba, unsigned count, uint32_t n,
                   bool write) {
    prepare(port, 0, cmd, lba, count, n, write);
    put(port + CI, 1);
    assert_true(wait_idle(port, 1));
    return (uint8_t)get(port + TFD);
}

/* As a driver does it after an error. */
static void recover(unsigned port) {
    put(port + CMD, 0x16);
    put(port + SERR, ~0u);
    put(port + IS, ~0u);
    put(port + CMD, 0x17);
}

static uint8_t *data(unsigned tag) {
    return mem_ptr(&b.mem, DATA + 0x10000ull * tag, 0x10000, true);
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

static void ports_tell_what_is_connected(void **state) {
    assert_int_equal(get(0x0c), 0x3f);
    assert_int_equal(get(PORT + SSTS), 0x133);
    assert_int_equal(get(PORT + SIG), 0x00000101);
    assert_int_equal(get(DRIVE + SIG), 0xeb140101);
    assert_int_equal(get(0x200 + SSTS), 0);
    assert_int_equal(run(PORT, 0xec, 0, 0, 512, false), GOOD);
    assert_memory_equal(data(0) + 20, "NSS-TA A", 6);
    assert_int_equal(load_le32(data(0) + 120), DISK / 512);
    assert_int_equal(load_le16(data(0) + 2 * 75), 31);
    assert_int_equal(run(PORT, 0xa1, 0, 0, 512, false), BAD);
    recover(PORT);
    assert_int_equal(run(DRIVE, 0xa1, 0, 0, 512, false), GOOD);
}

static void sectors_are_written_and_read(void **state) {
    memset(data(0), 0x5a, 8192);
    assert_int_equal(run(PORT, 0x35, 3, 16, 8192, true), GOOD);
    assert_int_equal(board_load32(&b, LIST + 4), 8192); /* bytes moved */
    assert_true(get(PORT + IS) & DHR);
    assert_true(disk_is(3 * 512, 0x5a, 8192));
    memset(data(0), 0, 8192);
    assert_int_equal(run(PORT, 0x25, 3, 16, 8192, false), GOOD);
    assert_int_equal(data(0)[8191], 0x5a);
    assert_int_equal(run(PORT, 0x25, DISK / 512, 1, 512, false), BAD);
    assert_int_equal(get(PORT + TFD) >> 8 & 0xff, 0x10);
    assert_true(get(PORT + IS) & TFE);
    prepare(PORT, 0, 0x25, 0, 1, 512, false);
    put(PORT + CI, 1); /* nothing goes on before the driver has seen to it */
    assert_int_equal(get(PORT + CI) & 1, 1);
    recover(PORT);
    assert_int_equal(get(PORT + CI), 0);
    assert_int_equal(run(PORT, 0x25, 0, 1, 512, false), GOOD);
    assert_int_equal(run(PORT, 0x25, 0, 2, 512, false), BAD); /* too few buffers */
}

static void queued_commands_run_side_by_side(void **state) {
    fault_hold(true);
    for (unsigned tag = 0; tag < 4; tag++) {
        memset(data(tag), (int)tag + 1, 4096);
        prepare(PORT, tag, 0x61, 8 * tag, 8, 4096, true);
    }
    put(PORT + SACT, 15);
    put(PORT + CI, 15);
    assert_int_equal(fault_held(), 4);
    assert_int_equal(get(PORT + CI), 0);
    assert_int_equal(get(PORT + SACT), 15);
    fault_hold(false);
    fault_release();
    assert_true(wait_idle(PORT, 15));
    assert_int_equal(get(PORT + SACT), 0);
    assert_true(get(PORT + IS) & SDB);
    for (unsigned tag = 0; tag < 4; tag++)
        assert_true(disk_is(4096ull * tag, (uint8_t)(tag + 1), 4096));
}

static void ranges_are_trimmed_and_flushes_reported(void **state) {
    memset(data(0), 0x77, 8192);
    assert_int_equal(run(PORT, 0x35, 0, 16, 8192, true), GOOD);
    memset(data(0), 0, 512);
    store_le64(data(0), 8 | 8ull << 48);
    assert_int_equal(run(PORT, 0x06, 0, 1, 512, true), GOOD);
    assert_true(disk_is(0, 0x77, 4096));
    assert_true(disk_is(4096, 0, 4096));
    fault_inject(BLOCK_FLUSH, 0, 1, -EIO);
    assert_int_equal(run(PORT, 0xea, 0, 0, 0, false), BAD);
    recover(PORT);
    assert_int_equal(run(PORT, 0xea, 0, 0, 0, false), GOOD);
}

static void a_readonly_disk_refuses_writes(void **state) {
    stop();
    start_with(true);
    assert_int_equal(run(PORT, 0x35, 0, 1, 512, true), BAD);
    recover(PORT);
    assert_int_equal(run(PORT, 0x25, 0, 1, 512, false), GOOD);
}

static void note_pause(void *opaque, const struct error *e) {}

static void a_full_disk_pauses_and_the_command_is_done_again(void **state) {
    struct buf saved = {0};
    struct error err = {0};

    block_set_pause_fn(image, note_pause, NULL);
    fault_inject(BLOCK_WRITE, 0, 1, -ENOSPC);
    memset(data(0), 0x31, 4096);
    prepare(PORT, 0, 0x35, 8, 8, 4096, true);
    put(PORT + CI, 1);
    block_drain(image);
    assert_int_equal(get(PORT + CI), 1);
    assert_true(block_wants_pause(image));
    state_save(dev->cls->state, dev, &saved);
    device_reset(dev);
    assert_int_equal(state_load(dev->cls->state, dev, saved.data, saved.len, &err), 0);
    buf_done(&saved);
    block_resume(image);
    assert_true(wait_idle(PORT, 1));
    assert_int_equal(get(PORT + TFD) & 0xff, GOOD);
    assert_true(disk_is(4096, 0x31, 4096));
}

static void *release(void *opaque) {
    fault_release();
    return NULL;
}

static void a_stopped_port_waits_for_its_commands_and_forgets_them(void **state) {
    pthread_t thread;

    fault_hold(true);
    prepare(PORT, 0, 0x25, 0, 8, 4096, false);
    put(PORT + CI, 1);
    assert_int_equal(fault_held(), 1);
    fault_hold(false);
    pthread_create(&thread, NULL, release, NULL);
    put(PORT + CMD, 0x16);
    pthread_join(thread, NULL);
    assert_int_equal(get(PORT + CI), 0);
    memset(data(0), 0x55, 4096);
    while (loop_step(loop, 20))
        ;
    assert_int_equal(data(0)[0], 0x55);
    recover(PORT);
    assert_int_equal(run(PORT, 0x25, 0, 8, 4096, false), GOOD);
}

/* Pulled out with a command on its way: it stays unanswered, and another disk comes to the port. */
static void a_disk_is_pulled_out_and_another_one_comes(void **state) {
    struct ahci_port_config c = {.present = true, .block = image, .serial = "NEW"};

    memset(data(0), 0x5a, 512);
    fault_hold(true);
    prepare(PORT, 0, 0x61, 0, 1, 512, true);
    put(PORT + SACT, 1);
    put(PORT + CI, 1);
    assert_int_equal(fault_held(), 1);
    fault_hold(false);
    fault_release();
    assert_true(ahci_is_used(dev, 0));
    ahci_remove(dev, 0);
    assert_false(ahci_is_used(dev, 0));
    assert_int_equal(get(PORT + SSTS), 0);
    assert_int_equal(get(PORT + SACT), 1);
    assert_int_equal(get(PORT + IS) & 0x400040, 0x400040);
    assert_int_equal(get(8) & 1, 1); /* and the interrupt */
    put(PORT + SERR, ~0u);
    put(PORT + IS, ~0u);
    assert_int_equal(get(PORT + IS) & 0x400040, 0);
    recover(PORT);
    assert_int_equal(get(PORT + SACT), 0);
    prepare(PORT, 0, 0x25, 0, 1, 512, false);
    put(PORT + CI, 1); /* nobody is there */
    assert_int_equal(get(PORT + CI), 1);
    put(PORT + CMD, 0x16);
    ahci_add(dev, 0, &c);
    assert_int_equal(get(PORT + SSTS), 0x133);
    assert_int_equal(get(PORT + SIG), 0x00000101);
    assert_int_equal(get(PORT + IS) & 0x400040, 0x400040);
    recover(PORT);
    assert_int_equal(run(PORT, 0xec, 0, 0, 512, false), GOOD);
    assert_memory_equal(data(0) + 20, "EN W", 4);
    assert_int_equal(run(PORT, 0x25, 0, 1, 512, false), GOOD);
    assert_int_equal(data(0)[511], 0x5a); /* it had reached the disk */
}

static void note_code(void *opaque, gpa page) { code_writes += page == DATA; }

/* Processors that have decoded a page must know when the disk writes to it. */
static void what_is_read_over_code_is_told(void **state) {
    const struct mem_range *r = mem_find(&b.mem, DATA);

    b.mem.code_written = note_code;
    r->page_flags[(DATA - r->base) >> MEM_PAGE_SHIFT] |= MEM_PAGE_CODE(0);
    code_writes = 0;
    assert_int_equal(run(PORT, 0x35, 0, 8, 4096, true), GOOD);
    assert_int_equal(code_writes, 0);
    assert_int_equal(run(PORT, 0x25, 0, 8, 4096, false), GOOD);
    assert_int_equal(code_writes, 1);
    b.mem.code_written = NULL;
}

static void interrupts_are_messages_where_the_guest_wants_them(void **state) {
    unsigned cap = pci_config_read(b.bus, DEVFN, PCI_CAP_PTR, 1), before;
    bool *wire = &b.intx[(DEVFN >> 3) % 4];

    assert_int_equal(pci_config_read(b.bus, DEVFN, cap, 1), PCI_CAP_MSI);
    assert_int_equal(pci_config_read(b.bus, DEVFN, cap + 2, 2), 0x80);
    put(PORT + IS, ~0u);
    assert_int_equal(run(PORT, 0x25, 0, 8, 4096, false), GOOD);
    assert_true(*wire);
    assert_int_equal(b.msi_count, 0);
    pci_config_write(b.bus, DEVFN, cap + 4, 4, 0xfee01003);
    pci_config_write(b.bus, DEVFN, cap + 8, 4, 2);
    pci_config_write(b.bus, DEVFN, cap + 12, 2, 0x4041);
    pci_config_write(b.bus, DEVFN, cap + 2, 2, 0xffff);
    assert_int_equal(pci_config_read(b.bus, DEVFN, cap + 2, 2), 0x81); /* one message, no masks */
    assert_false(*wire);
    put(PORT + IS, ~0u);
    assert_int_equal(b.msi_count, 0); /* nothing is left to tell */
    assert_int_equal(run(PORT, 0x25, 0, 8, 4096, false), GOOD);
    assert_true(b.msi_count > 0);
    assert_true(b.msi[0].addr == 0x2fee01000 && b.msi[0].data == 0x4041);
    /* What comes while the guest looks at another port's bits is told again. */
    assert_int_equal(run(DRIVE, 0xa1, 0, 0, 512, false), GOOD);
    before = b.msi_count;
    put(PORT + IS, ~0u);
    assert_int_equal(b.msi_count, before + 1);
    put(DRIVE + IS, ~0u);
    assert_int_equal(b.msi_count, before + 1);
    put(4, 0x80000000); /* interrupts off */
    assert_int_equal(run(PORT, 0x25, 0, 8, 4096, false), GOOD);
    assert_int_equal(b.msi_count, before + 1);
    put(4, 0x80000002);
    assert_int_equal(b.msi_count, before + 2);
    pci_config_write(b.bus, DEVFN, PCI_COMMAND, 2, 2); /* no bus mastering: no messages */
    put(PORT + IE, ~0u);
    assert_int_equal(b.msi_count, before + 2);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, make, drop)
    const struct CMUnitTest tests[] = {
        T(ports_tell_what_is_connected),
        T(sectors_are_written_and_read),
        T(queued_commands_run_side_by_side),
        T(ranges_are_trimmed_and_flushes_reported),
        T(a_readonly_disk_refuses_writes),
        T(a_full_disk_pauses_and_the_command_is_done_again),
        T(a_stopped_port_waits_for_its_commands_and_forgets_them),
        T(a_disk_is_pulled_out_and_another_one_comes),
        T(what_is_read_over_code_is_told),
        T(interrupts_are_messages_where_the_guest_wants_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
