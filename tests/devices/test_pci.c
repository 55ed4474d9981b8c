/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of PCI functions, the bus, MSI-X, the host bridge and the LPC bridge, by guest accesses. */
#include "devices/pci.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "bus/wires.h"
#include "devices/lpc.h"
#include "devices/pci_host.h"
#include "devices/virtio_driver.h"
#include "support/test.h"

/* ---- a function with one BAR of each kind ---- */

enum { SLOT3 = 0x18, SLOT7 = 0x38, MSIX_BAR = 2, TABLE = 0x1000, PBA = 0x1800, VECTORS = 5 };

struct toy {
    struct pci_device pci;
    uint64_t last_offset, last_value;
    unsigned last_size, writes;
};

static uint64_t toy_read(void *dev, uint64_t offset, unsigned size) {
    struct toy *t = dev;
    uint64_t value;

    return pci_msix_read(&t->pci, MSIX_BAR, offset, size, &value) ? value : 0x50 + offset;
}

static void toy_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct toy *t = dev;

    if (pci_msix_write(&t->pci, MSIX_BAR, offset, size, value))
        return;
    t->last_offset = offset;
    t->last_value = value;
    t->last_size = size;
    t->writes++;
}

static const struct io_ops toy_ops = {toy_read, toy_write, 0, 0};

static int toy_init(struct device *dev, struct error *err) {
    struct toy *t = (struct toy *)dev;

    pci_init_header(&t->pci, 0x1234, 0x5678, 0x02000003, 0x1234, 1);
    t->pci.config[PCI_INT_PIN] = 1;
    pci_init_bar(&t->pci, 0, 0x1000, false, false, &toy_ops, "toy-mem");
    pci_init_bar(&t->pci, 1, 0x20, true, false, &toy_ops, "toy-io");
    pci_init_bar(&t->pci, 2, 0x4000, false, true, &toy_ops, "toy-mem64");
    return pci_init_msix(&t->pci, VECTORS, MSIX_BAR, TABLE, PBA);
}

static void toy_reset(struct device *dev) { pci_reset((struct pci_device *)dev); }
static void toy_done(struct device *dev) { pci_bus_detach((struct pci_device *)dev); }
static void toy_post_load(void *obj) { pci_post_load(obj); }

static const struct state_desc toy_state = {
    .name = "toy",
    .version = 1,
    .struct_size = sizeof(struct toy),
    .post_load = toy_post_load,
    .fields =
        (const struct state_field[]){STATE_SUB(struct toy, pci, &pci_device_state), STATE_END},
};

static const struct device_class toy_class = {
    .name = "toy",
    .size = sizeof(struct toy),
    .state = &toy_state,
    .init = toy_init,
    .reset = toy_reset,
    .done = toy_done,
    .pci = true,
};

static struct board b;

static struct toy *toy_new(unsigned devfn) {
    struct device_env env = board_env(&b, NULL);
    struct toy *t = (struct toy *)device_new(&toy_class, "toy", &env, NULL);

    assert_non_null(t);
    assert_int_equal(pci_bus_attach(b.bus, &t->pci, devfn, NULL), 0);
    return t;
}

static void toy_free(struct toy *t) { device_free(&t->pci.dev); }

static uint32_t cfg(unsigned devfn, unsigned offset, unsigned size) {
    return pci_config_read(b.bus, devfn, offset, size);
}

static void cfg_write(unsigned devfn, unsigned offset, unsigned size, uint32_t value) {
    pci_config_write(b.bus, devfn, offset, size, value);
}

static uint64_t peek(uint64_t addr) { return io_read(&b.mmio, addr, 4); }

static int make(void **state) {
    test_board_init(&b, 1 << 20);
    return 0;
}

static int drop(void **state) {
    test_board_done(&b);
    return 0;
}

/* ---- configuration space ---- */

static void an_absent_function_reads_as_ones_and_drops_writes(void **state) {
    assert_int_equal(cfg(0x20, 0, 4), 0xffffffff);
    assert_int_equal(cfg(0x20, 2, 2), 0xffff);
    assert_int_equal(cfg(0x20, 0xe, 1), 0xff);
    assert_int_equal(cfg(0x100, 0, 4), 0xffffffff); /* bus 1 */
    cfg_write(0x20, 4, 2, 7);
    cfg_write(0xffff, 4, 2, 7);
}

static void a_rom_of_any_size_is_read_to_its_end(void **state) {
    static uint8_t rom[2600] = {0x55, 0xaa, 6, [24] = 28, [28] = 'P', 'C', 'I', 'R', [2599] = 7};
    struct pci_device d = {0};
    const struct io_region *r = &d.bar[PCI_ROM].region;

    pci_use_rom(&d, rom, 0);
    assert_int_equal(d.bar[PCI_ROM].size, 0);
    pci_use_rom(&d, rom, sizeof(rom));
    assert_int_equal(r->size, 4096);
    assert_int_equal(load_le32(d.wmask + PCI_ROM_BASE), 0xfffff001);
    assert_int_equal(r->ops->read(&d, 0, 2) & 0xffff, 0xaa55);
    assert_int_equal(r->ops->read(&d, 2599, 1) & 0xff, 7);
    assert_int_equal(r->ops->read(&d, 2600, 8), UINT64_MAX);
    assert_true(pci_rom_valid(rom, sizeof(rom)));
    assert_false(pci_rom_valid(rom, 30));
    rom[24] = 0xff;
    rom[25] = 0xff;
    assert_false(pci_rom_valid(rom, sizeof(rom)));
}

static void read_only_bytes_of_the_header_do_not_change(void **state) {
    struct toy *t = toy_new(SLOT3);

    for (unsigned at = 0; at < 256; at += 4)
        if (at != PCI_COMMAND)
            cfg_write(SLOT3, at, 4, 0xffffffff);
    assert_int_equal(cfg(SLOT3, 0, 4), 0x56781234);
    assert_int_equal(cfg(SLOT3, 8, 4), 0x02000003);
    assert_int_equal(cfg(SLOT3, PCI_SUBSYS_VENDOR, 4), 0x00011234);
    assert_int_equal(cfg(SLOT3, PCI_HEADER_TYPE, 1), 0);
    assert_int_equal(cfg(SLOT3, PCI_CAP_PTR, 1), 0x40);
    assert_int_equal(cfg(SLOT3, PCI_INT_PIN, 1), 1);
    assert_int_equal(cfg(SLOT3, PCI_INT_LINE, 1), 0xff);
    assert_int_equal(cfg(SLOT3, PCI_CACHE_LINE, 2), 0xffff);
    assert_int_equal(cfg(SLOT3, 0x40, 4), 0x80000011 | 0x40000000 | (VECTORS - 1) << 16);
    assert_int_equal(cfg(SLOT3, 0x30, 4), 0); /* no ROM */
    assert_int_equal(cfg(SLOT3, 0x100, 4), 0);
    assert_int_equal(cfg(SLOT3, 0xfff, 4), 0xffffffff); /* past the end */
    assert_int_equal(cfg(SLOT3, 0xfff, 1), 0);
    toy_free(t);
}

static void the_command_register_keeps_only_bits_that_exist(void **state) {
    struct toy *t = toy_new(SLOT3);

    cfg_write(SLOT3, PCI_COMMAND, 4, 0xffffffff);
    assert_int_equal(cfg(SLOT3, PCI_COMMAND, 2), 0x0547);
    assert_int_equal(cfg(SLOT3, PCI_STATUS, 2), PCI_STATUS_CAPS);
    cfg_write(SLOT3, PCI_COMMAND + 1, 1, 0);
    assert_int_equal(cfg(SLOT3, PCI_COMMAND, 2), 0x0047);
    toy_free(t);
}

static void functions_beyond_the_first_mark_the_slot(void **state) {
    struct toy *second = toy_new(SLOT3 + 2), *first = toy_new(SLOT3), *alone = toy_new(SLOT7);

    assert_int_equal(cfg(SLOT3, PCI_HEADER_TYPE, 1), 0x80);
    assert_int_equal(cfg(SLOT7, PCI_HEADER_TYPE, 1), 0);
    toy_free(first);
    toy_free(second);
    toy_free(alone);
}

static void a_place_can_be_taken_only_once(void **state) {
    struct toy *t = toy_new(SLOT3);
    struct device_env env = board_env(&b, NULL);
    struct device *late = device_new(&toy_class, "late", &env, NULL);
    struct error err = {0};

    assert_int_equal(pci_bus_attach(b.bus, (struct pci_device *)late, SLOT3, &err), -EBUSY);
    assert_non_null(strstr(err.text, "taken by 'toy'"));
    err = (struct error){0};
    assert_int_equal(pci_bus_attach(b.bus, (struct pci_device *)late, 256, &err), -EINVAL);
    assert_true(pci_bus_find(b.bus, SLOT3) == &t->pci);
    assert_null(pci_bus_find(b.bus, SLOT7));
    assert_null(pci_bus_find(b.bus, 4000));
    device_free(late);
    toy_free(t);
}

/* ---- BARs ---- */

static void bars_tell_their_size_when_written_with_ones(void **state) {
    struct toy *t = toy_new(SLOT3);

    for (unsigned i = 0; i < PCI_BARS; i++)
        cfg_write(SLOT3, PCI_BAR0 + 4 * i, 4, 0xffffffff);
    assert_int_equal(cfg(SLOT3, 0x10, 4), 0xfffff000);
    assert_int_equal(cfg(SLOT3, 0x14, 4), 0xffffffe1);
    assert_int_equal(cfg(SLOT3, 0x18, 4), 0xffffc004);
    assert_int_equal(cfg(SLOT3, 0x1c, 4), 0xffffffff);
    assert_int_equal(cfg(SLOT3, 0x20, 4), 0);
    assert_int_equal(cfg(SLOT3, 0x24, 4), 0);
    toy_free(t);
}

static void bars_are_decoded_only_while_the_command_register_says_so(void **state) {
    struct toy *t = toy_new(SLOT3);

    cfg_write(SLOT3, 0x10, 4, 0xc0000000);
    cfg_write(SLOT3, 0x14, 4, 0x6000);
    assert_int_equal(peek(0xc0000004), 0xffffffff);
    cfg_write(SLOT3, PCI_COMMAND, 2, PCI_COMMAND_MEM);
    assert_int_equal(peek(0xc0000004), 0x54);
    assert_int_equal(io_read(&b.pio, 0x6008, 1), 0xff);
    cfg_write(SLOT3, PCI_COMMAND, 2, PCI_COMMAND_IO);
    assert_int_equal(peek(0xc0000004), 0xffffffff);
    assert_int_equal(io_read(&b.pio, 0x6008, 1), 0x58);
    cfg_write(SLOT3, PCI_COMMAND, 2, 0);
    assert_int_equal(io_read(&b.pio, 0x6008, 1), 0xff);
    toy_free(t);
}

static void bars_move_when_the_guest_rewrites_them(void **state) {
    struct toy *t = toy_new(SLOT3);

    cfg_write(SLOT3, PCI_COMMAND, 2, PCI_COMMAND_MEM | PCI_COMMAND_IO);
    cfg_write(SLOT3, 0x10, 4, 0xc0000000);
    cfg_write(SLOT3, 0x10, 4, 0xd0000000);
    assert_int_equal(peek(0xc0000000), 0xffffffff);
    assert_int_equal(peek(0xd0000000), 0x50);
    cfg_write(SLOT3, 0x13, 1, 0xc1); /* one byte is enough */
    assert_int_equal(peek(0xc1000000), 0x50);
    assert_int_equal(peek(0xd0000000), 0xffffffff);
    toy_free(t);
    assert_int_equal(peek(0xc1000000), 0xffffffff);
}

static void a_64_bit_bar_works_above_4_gib(void **state) {
    struct toy *t = toy_new(SLOT3);

    cfg_write(SLOT3, PCI_COMMAND, 2, PCI_COMMAND_MEM);
    cfg_write(SLOT3, 0x18, 4, 0xc0000000);
    cfg_write(SLOT3, 0x1c, 4, 0x12);
    assert_int_equal(peek(0x12c0000004), 0x54);
    assert_int_equal(peek(0xc0000004), 0xffffffff);
    io_write(&b.mmio, 0x12c0000010, 8, 0x1122334455667788);
    assert_true(t->last_value == 0x1122334455667788 && t->last_size == 8 && t->last_offset == 0x10);
    toy_free(t);
}

static void sizing_with_decoding_on_disturbs_nobody(void **state) {
    struct toy *t = toy_new(SLOT3);

    cfg_write(SLOT3, PCI_COMMAND, 2, PCI_COMMAND_MEM | PCI_COMMAND_IO);
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < PCI_BARS; i++)
            cfg_write(SLOT3, PCI_BAR0 + 4 * i, 4, round ? 0 : 0xffffffff);
    assert_int_equal(b.mmio.count, 0);
    assert_int_equal(b.pio.count, 0);
    cfg_write(SLOT3, 0x10, 4, 0xc0000000);
    assert_int_equal(peek(0xc0000000), 0x50);
    toy_free(t);
}

static void a_bar_whose_place_is_taken_waits_until_it_is_free(void **state) {
    struct toy *one = toy_new(SLOT3), *two = toy_new(SLOT7);
    struct io_region fixed = {.base = 0xfec00000, .size = 0x1000, .ops = &toy_ops, .dev = one};

    assert_int_equal(io_map(&b.mmio, &fixed, NULL), 0);
    cfg_write(SLOT3, PCI_COMMAND, 2, PCI_COMMAND_MEM);
    cfg_write(SLOT7, PCI_COMMAND, 2, PCI_COMMAND_MEM);
    cfg_write(SLOT3, 0x10, 4, 0xc0000000);
    cfg_write(SLOT7, 0x10, 4, 0xc0000000);
    cfg_write(SLOT7, 0x18, 4, 0xfec00000);
    io_write(&b.mmio, 0xc0000000, 4, 1);
    assert_int_equal(one->writes, 1);
    cfg_write(SLOT3, 0x10, 4, 0xc0100000);
    io_write(&b.mmio, 0xc0000000, 4, 1);
    assert_int_equal(two->writes, 1);
    io_write(&b.mmio, 0xc0100000, 4, 1);
    assert_int_equal(one->writes, 2);
    cfg_write(SLOT3, 0x10, 4, 0xc0000000);
    toy_free(two); /* leaving makes room, too */
    io_write(&b.mmio, 0xc0000000, 4, 1);
    assert_int_equal(one->writes, 3);
    toy_free(one);
    io_unmap(&b.mmio, &fixed);
    assert_int_equal(b.mmio.count, 0);
}

static void reset_takes_addresses_and_decoding_away(void **state) {
    struct toy *t = toy_new(SLOT3);

    cfg_write(SLOT3, PCI_COMMAND, 2, PCI_COMMAND_MEM);
    cfg_write(SLOT3, 0x10, 4, 0xc0000000);
    device_reset(&t->pci.dev);
    assert_int_equal(peek(0xc0000000), 0xffffffff);
    assert_int_equal(cfg(SLOT3, 0x10, 4), 0);
    assert_int_equal(cfg(SLOT3, 0x18, 4), 4);
    assert_int_equal(cfg(SLOT3, PCI_COMMAND, 2), 0);
    toy_free(t);
}

static void assignment_gives_every_bar_its_own_aligned_place(void **state) {
    struct toy *one = toy_new(SLOT3), *two = toy_new(SLOT7);
    const unsigned devfn[2] = {SLOT3, SLOT7};

    assert_int_equal(pci_bus_assign(b.bus, 0xc0000000, 0xfe000000, 0x6000, NULL), 0);
    assert_int_equal(b.mmio.count, 4); /* nothing was refused, so nothing overlaps */
    assert_int_equal(b.pio.count, 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(cfg(devfn[i], PCI_COMMAND, 2), PCI_COMMAND_IO | PCI_COMMAND_MEM);
        assert_in_range(cfg(devfn[i], 0x10, 4), 0xc0000000, 0xfdffffff);
        assert_int_equal(cfg(devfn[i], 0x18, 4) & 0x3fff, 4);
        assert_in_range(cfg(devfn[i], 0x14, 4), 0x6001, 0xffe1);
    }
    toy_free(one);
    toy_free(two);
}

static void assignment_says_which_window_is_too_small(void **state) {
    struct toy *t = toy_new(SLOT3);
    struct error err = {0};

    assert_int_equal(pci_bus_assign(b.bus, 0xc0000000, 0xc0004000, 0x6000, &err), -ENOSPC);
    assert_non_null(strstr(err.text, "memory window"));
    err = (struct error){0};
    assert_int_equal(pci_bus_assign(b.bus, 0xc0000000, 0xfe000000, 0xfff0, &err), -ENOSPC);
    assert_non_null(strstr(err.text, "port window"));
    toy_free(t);
}

/* ---- INTx ---- */

static void intx_wires_are_swizzled_and_shared(void **state) {
    struct toy *one = toy_new(SLOT3), *two = toy_new(SLOT7); /* slots 3 and 7: both wire D */

    pci_set_intx(&one->pci, true);
    assert_true(b.intx[3]);
    pci_set_intx(&two->pci, true);
    pci_set_intx(&two->pci, true);
    pci_set_intx(&one->pci, false);
    assert_true(b.intx[3]);
    pci_set_intx(&two->pci, false);
    assert_false(b.intx[3]);
    assert_int_equal(b.intx_edges, 1);
    pci_set_intx(&two->pci, true);
    toy_free(two); /* a function that leaves lets go of its wire */
    assert_false(b.intx[3]);
    toy_free(one);
}

static void intx_can_be_held_back_by_the_command_register(void **state) {
    struct toy *t = toy_new(SLOT3);

    pci_set_intx(&t->pci, true);
    assert_int_equal(cfg(SLOT3, PCI_STATUS, 2), PCI_STATUS_CAPS | PCI_STATUS_INTX);
    cfg_write(SLOT3, PCI_COMMAND, 2, PCI_COMMAND_INTX_OFF);
    assert_false(b.intx[3]);
    assert_int_equal(cfg(SLOT3, PCI_STATUS, 1), PCI_STATUS_CAPS | PCI_STATUS_INTX);
    cfg_write(SLOT3, PCI_COMMAND, 2, 0);
    assert_true(b.intx[3]);
    cfg_write(SLOT3, 0x42, 2, 0x8000); /* MSI-X takes its place */
    assert_false(b.intx[3]);
    cfg_write(SLOT3, 0x42, 2, 0);
    assert_true(b.intx[3]);
    device_reset(&t->pci.dev);
    assert_false(b.intx[3]);
    assert_int_equal(cfg(SLOT3, PCI_STATUS, 1), PCI_STATUS_CAPS);
    toy_free(t);
}

/* ---- MSI-X ---- */

static const uint64_t table = 0xc0000000 + TABLE, pba = 0xc0000000 + PBA;

static struct toy *msix_toy(void) {
    struct toy *t = toy_new(SLOT3);

    cfg_write(SLOT3, 0x18, 4, 0xc0000000);
    cfg_write(SLOT3, PCI_COMMAND, 2, PCI_COMMAND_MEM | PCI_COMMAND_MASTER);
    for (unsigned i = 0; i < VECTORS; i++) {
        io_write(&b.mmio, table + 16 * i, 4, 0xfee00000 | i << 12);
        io_write(&b.mmio, table + 16 * i + 8, 4, 0x30 + i);
    }
    return t;
}

static void msix_messages_carry_what_the_guest_wrote(void **state) {
    struct toy *t = msix_toy();

    io_write(&b.mmio, table + 16 * 3 + 4, 4, 0x7);
    io_write(&b.mmio, table + 16 * 3 + 12, 4, 0);
    pci_msix_notify(&t->pci, 3);
    assert_int_equal(b.msi_count, 0); /* not enabled */
    cfg_write(SLOT3, 0x42, 2, 0x8000);
    pci_msix_notify(&t->pci, 3);
    assert_int_equal(b.msi_count, 1);
    assert_true(b.msi[0].addr == 0x7fee03000 && b.msi[0].data == 0x33);
    pci_msix_notify(&t->pci, VECTORS);
    pci_msix_notify(&t->pci, 0xffff);
    assert_int_equal(b.msi_count, 1);
    assert_int_equal(peek(pba), 0);
    toy_free(t);
}

static void a_masked_vector_waits_as_a_pending_bit(void **state) {
    struct toy *t = msix_toy();

    cfg_write(SLOT3, 0x42, 2, 0x8000);
    pci_msix_notify(&t->pci, 2);
    pci_msix_notify(&t->pci, 2);
    assert_int_equal(b.msi_count, 0);
    assert_int_equal(peek(pba), 1 << 2);
    assert_int_equal(io_read(&b.mmio, pba, 8), 1 << 2);
    io_write(&b.mmio, pba, 4, 0); /* read-only */
    assert_int_equal(peek(pba), 1 << 2);
    io_write(&b.mmio, table + 16 * 2 + 12, 4, 0);
    assert_int_equal(b.msi_count, 1);
    assert_int_equal(b.msi[0].data, 0x32);
    assert_int_equal(peek(pba), 0);
    toy_free(t);
}

static void the_function_mask_holds_all_vectors_back(void **state) {
    struct toy *t = msix_toy();

    for (unsigned i = 0; i < VECTORS; i++)
        io_write(&b.mmio, table + 16 * i + 12, 4, i == 1);
    cfg_write(SLOT3, 0x42, 2, 0xc000);
    for (unsigned i = 0; i < VECTORS; i++)
        pci_msix_notify(&t->pci, i);
    assert_int_equal(b.msi_count, 0);
    assert_int_equal(peek(pba), 0x1f);
    cfg_write(SLOT3, 0x43, 1, 0x80);
    assert_int_equal(b.msi_count, VECTORS - 1);
    assert_int_equal(peek(pba), 1 << 1);
    toy_free(t);
}

static void a_message_waits_for_bus_mastering(void **state) {
    struct toy *t = msix_toy();

    io_write(&b.mmio, table + 12, 4, 0);
    cfg_write(SLOT3, 0x42, 2, 0x8000);
    cfg_write(SLOT3, PCI_COMMAND, 2, PCI_COMMAND_MEM);
    pci_msix_notify(&t->pci, 0);
    assert_int_equal(b.msi_count, 0);
    cfg_write(SLOT3, PCI_COMMAND, 2, PCI_COMMAND_MEM | PCI_COMMAND_MASTER);
    assert_int_equal(b.msi_count, 1);
    toy_free(t);
}

static void signals_from_outside_go_as_the_table_says(void **state) {
    struct loop *loop = loop_new(NULL, NULL);
    struct wires *wires = wires_new(loop, NULL, NULL);
    struct toy *t = msix_toy();
    const uint64_t one = 1;
    int fd;

    assert_true(pci_msix_fd(&t->pci, 1) < 0); /* nobody has given it wires */
    pci_bus_set_wires(b.bus, wires);
    assert_true(pci_msix_fd(&t->pci, VECTORS) < 0);
    fd = pci_msix_fd(&t->pci, 1);
    assert_true(fd >= 0);
    assert_int_equal(pci_msix_fd(&t->pci, 1), fd);
    for (unsigned step = 0; step < 3; step++) { /* off, masked, no bus master */
        assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
        while (loop_step(loop, 0))
            ;
        assert_int_equal(b.msi_count, 0);
        assert_int_equal(peek(pba), 1 << 1);
        if (step == 0)
            cfg_write(SLOT3, 0x42, 2, 0x8000);
        if (step == 1)
            cfg_write(SLOT3, PCI_COMMAND, 2, PCI_COMMAND_MEM);
        if (step == 1)
            io_write(&b.mmio, table + 16 + 12, 4, 0);
    }
    cfg_write(SLOT3, PCI_COMMAND, 2, PCI_COMMAND_MEM | PCI_COMMAND_MASTER);
    while (loop_step(loop, 0))
        ;
    assert_int_equal(b.msi_count, 1);
    assert_int_equal(b.msi[0].data, 0x31);
    assert_int_equal(peek(pba), 0);
    toy_free(t);
    wires_free(wires);
    loop_free(loop);
    pci_bus_set_wires(b.bus, NULL);
}

static void the_table_takes_every_width(void **state) {
    struct toy *t = msix_toy();

    io_write(&b.mmio, table, 8, 0x1122334455667788);
    io_write(&b.mmio, table + 8, 8, 0xffffffffffffffff);
    assert_true(io_read(&b.mmio, table, 8) == 0x1122334455667788);
    assert_true(io_read(&b.mmio, table + 8, 8) == 0x1ffffffff);
    io_write(&b.mmio, table + 2, 2, 0xabcd);
    io_write(&b.mmio, table + 9, 1, 0x12);
    assert_int_equal(peek(table), 0xabcd7788);
    assert_int_equal(peek(table + 8), 0xffff12ff);
    assert_int_equal(io_read(&b.mmio, table + 10, 1), 0xff);
    io_write(&b.mmio, table, 1, 0x8b); /* the low two address bits are reserved */
    assert_int_equal(peek(table), 0xabcd7788);
    io_write(&b.mmio, table + 16 * VECTORS - 4, 8, 0); /* over the end: the rest goes nowhere */
    assert_int_equal(peek(table + 16 * VECTORS - 4), 0);
    toy_free(t);
}

/* ---- state ---- */

static void state_goes_over_with_bars_interrupts_and_vectors(void **state) {
    struct toy *from = msix_toy(), *to = toy_new(SLOT7);
    struct buf saved = {0};
    struct error err = {0};

    pci_set_intx(&from->pci, true);
    pci_msix_notify(&from->pci, 1);
    state_save(&toy_state, from, &saved);
    toy_free(from);
    assert_int_equal(state_load(&toy_state, to, saved.data, saved.len, &err), 0);
    assert_int_equal(peek(0xc0000000), 0x50);
    assert_int_equal(peek(table + 16 + 8), 0x31);
    assert_true(b.intx[3]);
    for (size_t n = 0; n < saved.len; n++) /* also shows that a refused load changes nothing */
        assert_true(state_load(&toy_state, to, saved.data, n, NULL) < 0);
    assert_int_equal(peek(0xc0000000), 0x50);
    buf_done(&saved);
    toy_free(to);
}

static void state_of_another_device_is_refused(void **state) {
    struct toy *t = toy_new(SLOT3);
    struct toy *copy = malloc(sizeof(*copy));
    struct buf saved = {0};
    struct error err = {0};

    *copy = *t;
    store_le16(copy->pci.config + PCI_DEVICE, 0x9999);
    state_save(&toy_state, copy, &saved);
    assert_int_equal(state_load(&toy_state, t, saved.data, saved.len, &err), -EINVAL);
    assert_non_null(strstr(err.text, "offset 0x2"));
    saved.len = 0;
    *copy = *t;
    copy->pci.msix_pending = 1u << VECTORS;
    state_save(&toy_state, copy, &saved);
    assert_int_equal(state_load(&toy_state, t, saved.data, saved.len, NULL), -EINVAL);
    assert_int_equal(cfg(SLOT3, PCI_DEVICE, 2), 0x5678);
    buf_done(&saved);
    free(copy);
    toy_free(t);
}

/* ---- host bridge ---- */

static struct device *host;
static struct pci_host_smram smram;

static void note_smram(void *opaque, const struct pci_host_smram *now) { smram = *now; }

static int make_host_with(const struct pci_host_config *config) {
    test_board_init(&b, 1 << 20);
    host = board_add(&b, "pci_host", config, 0);
    assert_int_equal(device_mount(host, 0, &b.pio, 0xcf8, NULL), 0);
    assert_int_equal(device_mount(host, 1, &b.pio, 0xcfc, NULL), 0);
    return 0;
}

static int make_host(void **state) { return make_host_with(NULL); }

static int make_host_with_smram(void **state) {
    static const struct pci_host_config config = {.smram = note_smram};

    return make_host_with(&config);
}

static int drop_host(void **state) {
    io_unmap(&b.pio, &host->region[0]);
    io_unmap(&b.pio, &host->region[1]);
    device_free(host);
    assert_int_equal(b.mmio.count, 0);
    test_board_done(&b);
    return 0;
}

static uint32_t port_cfg(unsigned devfn, unsigned offset, unsigned size) {
    io_write(&b.pio, 0xcf8, 4, 0x80000000 | devfn << 8 | (offset & 0xfc));
    return (uint32_t)io_read(&b.pio, 0xcfc + (offset & 3), size);
}

static void ports_and_ecam_reach_the_same_registers(void **state) {
    struct toy *t = toy_new(SLOT3);

    assert_int_equal(port_cfg(0, 0, 4), 0x29c08086);
    assert_int_equal(port_cfg(0, 2, 2), 0x29c0);
    assert_int_equal(port_cfg(SLOT3, 3, 1), 0x56);
    assert_int_equal(port_cfg(0x20, 0, 2), 0xffff);
    assert_int_equal(peek(0xb0000000), 0x29c08086);
    assert_int_equal(peek(0xb0000000 + (SLOT3 << 12)), 0x56781234);
    assert_int_equal(peek(0xb0000000 + (0x20 << 12)), 0xffffffff);
    assert_int_equal(peek(0xb0100000), 0xffffffff); /* bus 1 */
    assert_int_equal(peek(0xbffffffc), 0xffffffff);
    io_write(&b.mmio, 0xb0000000 + (SLOT3 << 12) + PCI_INT_LINE, 1, 0x42);
    assert_int_equal(port_cfg(SLOT3, PCI_INT_LINE, 1), 0x42);
    io_write(&b.pio, 0xcfc, 1, 0x24);
    assert_int_equal(io_read(&b.mmio, 0xb0000000 + (SLOT3 << 12) + PCI_INT_LINE, 1), 0x24);
    assert_int_equal(peek(0xb0000000 + (SLOT3 << 12) + 0x100), 0);
    toy_free(t);
}

static void the_address_port_is_a_dword_that_reads_back(void **state) {
    io_write(&b.pio, 0xcfb, 1, 1); /* Linux's probe of mechanism 1 */
    assert_int_equal(io_read(&b.pio, 0xcf8, 4), 0);
    io_write(&b.pio, 0xcf8, 4, 0x80000000);
    assert_int_equal(io_read(&b.pio, 0xcf8, 4), 0x80000000);
    io_write(&b.pio, 0xcf8, 4, 0xffffffff);
    assert_int_equal(io_read(&b.pio, 0xcf8, 4), 0x80fffffc);
    assert_int_equal(io_read(&b.pio, 0xcf8, 1), 0xff);
    assert_int_equal(io_read(&b.pio, 0xcf9, 1), 0xff); /* nobody was given for it */
    io_write(&b.pio, 0xcf9, 1, 6);
    io_write(&b.pio, 0xcf8, 4, 0); /* disabled */
    assert_int_equal(io_read(&b.pio, 0xcfc, 4), 0xffffffff);
    io_write(&b.pio, 0xcfc, 4, 0);
    assert_int_equal(io_read(&b.pio, 0xcfe, 4), 0xffffffff);
}

static void ecam_stands_where_pciexbar_says(void **state) {
    port_cfg(0, 0x60, 4);
    assert_int_equal(io_read(&b.pio, 0xcfc, 4), 0xb0000001);
    cfg_write(0, 0x60, 4, 0xe0000001); /* OVMF writes 64, then 60 */
    assert_int_equal(peek(0xb0000000), 0xffffffff);
    assert_int_equal(peek(0xe0000000), 0x29c08086);
    cfg_write(0, 0x60, 4, 0xd4000005); /* 64 MiB */
    assert_int_equal(peek(0xd4000000), 0x29c08086);
    assert_int_equal(peek(0xd8000000), 0xffffffff);
    cfg_write(0, 0x64, 4, 0x1);
    assert_int_equal(peek(0x1d4000000), 0x29c08086);
    cfg_write(0, 0x60, 4, 0xd4000007); /* a length that does not exist */
    assert_int_equal(b.mmio.count, 0);
    cfg_write(0, 0x60, 4, 0xd4000000);
    assert_int_equal(b.mmio.count, 0);
    device_reset(host);
    assert_int_equal(peek(0xb0000000), 0x29c08086);
    assert_int_equal(cfg(0, 0x64, 4), 0);
}

static void ecam_over_a_bar_waits_for_nobody_and_crashes_nobody(void **state) {
    struct toy *t = toy_new(SLOT3);

    cfg_write(SLOT3, PCI_COMMAND, 2, PCI_COMMAND_MEM);
    cfg_write(SLOT3, 0x10, 4, 0xb0001000); /* inside the window: refused */
    assert_int_equal(b.mmio.count, 1);
    cfg_write(0, 0x60, 4, 0xc0000001); /* the window goes away, the BAR appears */
    assert_int_equal(peek(0xb0001000), 0x50);
    cfg_write(0, 0x60, 4, 0xb0000001); /* and now it is in the way of the window */
    assert_int_equal(b.mmio.count, 1);
    assert_int_equal(peek(0xb0001000), 0x50);
    cfg_write(SLOT3, PCI_COMMAND, 2, 0);
    cfg_write(0, 0x60, 4, 0xb0000001);
    assert_int_equal(peek(0xb0000000), 0x29c08086);
    toy_free(t);
}

static void memory_control_registers_keep_their_bits(void **state) {
    for (unsigned i = 0x90; i < 0x97; i++)
        cfg_write(0, i, 1, 0xff);
    assert_int_equal(cfg(0, 0x90, 4), 0x33333330);
    assert_int_equal(cfg(0, 0x94, 2), 0x3333);
    assert_int_equal(cfg(0, 0x9d, 1), 0x02);
    cfg_write(0, 0x9d, 1, 0x4a); /* SeaBIOS opens SMRAM, later locks it */
    assert_int_equal(cfg(0, 0x9d, 1), 0x4a);
    cfg_write(0, 0x9d, 1, 0x5a);
    assert_int_equal(cfg(0, 0x9d, 1), 0x1a);
    cfg_write(0, 0x9d, 1, 0x4a);
    cfg_write(0, 0x9e, 1, 0x01);
    assert_int_equal(cfg(0, 0x9d, 1), 0x1a);
    assert_int_equal(cfg(0, 0x9e, 1), 0x38);
    device_reset(host);
    assert_int_equal(cfg(0, 0x9d, 1), 0x02);
    assert_int_equal(cfg(0, 0x90, 1), 0);
    cfg_write(0, 0x9d, 1, 0x4a);
    assert_int_equal(cfg(0, 0x9d, 1), 0x4a);
}

static bool smram_is(bool legacy, bool open, uint64_t mib) {
    return smram.legacy == legacy && smram.open == open && smram.tseg == mib << 20;
}

static void smram_is_where_its_registers_say_until_they_are_locked(void **state) {
    struct buf saved = {0};
    struct error err = {0};

    device_reset(host);
    assert_true(smram_is(false, false, 0));
    cfg_write(0, 0x50, 2, 0xffff);
    assert_int_equal(cfg(0, 0x50, 2), 16); /* MiB of size 3 */
    cfg_write(0, 0x9e, 1, 0x07);
    assert_true(smram_is(false, false, 0)); /* nothing without G_SMRAME */
    cfg_write(0, 0x9d, 1, 0x4a);
    assert_true(smram_is(true, true, 16));
    cfg_write(0, 0x9e, 1, 0x03);
    assert_true(smram_is(true, true, 2));
    cfg_write(0, 0xac, 4, 0x7fe00000);
    cfg_write(0, 0x9d, 1, 0x1a);
    assert_true(smram_is(true, false, 2));
    cfg_write(0, 0x9d, 1, 0x42);
    cfg_write(0, 0x9e, 1, 0);
    cfg_write(0, 0xac, 4, 0);
    assert_true(smram_is(true, false, 2));
    assert_int_equal(cfg(0, 0xac, 4), 0x7fe00000);
    state_save(host->cls->state, host, &saved);
    device_reset(host);
    assert_true(smram_is(false, false, 0));
    assert_int_equal(cfg(0, 0xac, 4), 0);
    assert_int_equal(state_load(host->cls->state, host, saved.data, saved.len, &err), 0);
    assert_true(smram_is(true, false, 2));
    buf_done(&saved);
}

static void a_loaded_host_bridge_moves_its_window(void **state) {
    struct buf saved = {0};
    struct error err = {0};

    cfg_write(0, 0x60, 4, 0xe0000001);
    cfg_write(0, 0x9d, 1, 0x1a); /* locked in the snapshot */
    state_save(host->cls->state, host, &saved);
    device_reset(host);
    assert_int_equal(state_load(host->cls->state, host, saved.data, saved.len, &err), 0);
    assert_int_equal(peek(0xe0000000), 0x29c08086);
    assert_int_equal(b.mmio.count, 1);
    cfg_write(0, 0x9d, 1, 0x4a);
    assert_int_equal(cfg(0, 0x9d, 1), 0x1a);
    buf_done(&saved);
}

/* ---- LPC ---- */

static bool isa[24];

static void note_isa(void *opaque, unsigned n, bool level) { isa[n] = level; }

static struct device *lpc_new(void) {
    struct device_env env = board_env(&b, NULL);
    struct device *lpc;

    memset(isa, 0, sizeof(isa));
    for (unsigned i = 0; i < 24; i++)
        env.irq[i] = (struct irq){note_isa, NULL, i};
    lpc = device_new(device_class_find("lpc"), "lpc", &env, NULL);
    assert_non_null(lpc);
    assert_int_equal(pci_bus_attach(b.bus, (struct pci_device *)lpc, 0xf8, NULL), 0);
    return lpc;
}

static void the_lpc_bridge_has_its_registers(void **state) {
    struct device *lpc = lpc_new();

    assert_int_equal(cfg(0xf8, 0, 4), 0x29188086);
    assert_int_equal(cfg(0xf8, 8, 4), 0x06010002);
    assert_int_equal(cfg(0xf8, 0x60, 4), 0x80808080);
    assert_int_equal(cfg(0xf8, 0x40, 4), 1);
    cfg_write(0xf8, 0x40, 4, 0x601);
    cfg_write(0xf8, 0x44, 1, 0x80);
    cfg_write(0xf8, 0xf0, 4, 0xfed1c001);
    assert_int_equal(cfg(0xf8, 0x40, 4), 0x601);
    assert_int_equal(cfg(0xf8, 0x44, 1), 0x80);
    assert_int_equal(cfg(0xf8, 0xf0, 4), 0xfed1c001);
    cfg_write(0xf8, 0xa0, 1, 0x10); /* SMI_LOCK cannot be taken back */
    cfg_write(0xf8, 0xa0, 1, 0x00);
    assert_int_equal(cfg(0xf8, 0xa0, 1), 0x10);
    device_reset(lpc);
    assert_int_equal(cfg(0xf8, 0xa0, 1), 0);
    assert_int_equal(cfg(0xf8, 0x40, 4), 1);
    assert_int_equal(cfg(0xf8, 0xd8, 2), 0xffcf);
    device_free(lpc);
}

static void pirqs_go_to_the_ioapic_and_where_the_guest_routes_them(void **state) {
    struct device *lpc = lpc_new();
    struct irq a = lpc_pirq_wire(lpc, 0), f = lpc_pirq_wire(lpc, 5);

    irq_raise(&a);
    irq_raise(&f);
    assert_true(isa[16] && isa[21] && !isa[11]);
    cfg_write(0xf8, 0x60, 1, 11);
    assert_true(isa[11]);
    cfg_write(0xf8, 0x69, 1, 11); /* shared */
    irq_lower(&a);
    assert_true(isa[11] && !isa[16]);
    cfg_write(0xf8, 0x69, 1, 10);
    assert_true(isa[10] && !isa[11]);
    cfg_write(0xf8, 0x69, 1, 8); /* reserved: goes nowhere */
    assert_true(!isa[10] && !isa[8]);
    cfg_write(0xf8, 0x69, 1, 10);
    irq_lower(&f);
    assert_true(!isa[10] && !isa[21]);
    device_free(lpc);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, make, drop)
#define H(f) cmocka_unit_test_setup_teardown(f, make_host, drop_host)
    const struct CMUnitTest tests[] = {
        T(an_absent_function_reads_as_ones_and_drops_writes),
        T(a_rom_of_any_size_is_read_to_its_end),
        T(read_only_bytes_of_the_header_do_not_change),
        T(the_command_register_keeps_only_bits_that_exist),
        T(functions_beyond_the_first_mark_the_slot),
        T(a_place_can_be_taken_only_once),
        T(bars_tell_their_size_when_written_with_ones),
        T(bars_are_decoded_only_while_the_command_register_says_so),
        T(bars_move_when_the_guest_rewrites_them),
        T(a_64_bit_bar_works_above_4_gib),
        T(sizing_with_decoding_on_disturbs_nobody),
        T(a_bar_whose_place_is_taken_waits_until_it_is_free),
        T(reset_takes_addresses_and_decoding_away),
        T(assignment_gives_every_bar_its_own_aligned_place),
        T(assignment_says_which_window_is_too_small),
        T(intx_wires_are_swizzled_and_shared),
        T(intx_can_be_held_back_by_the_command_register),
        T(msix_messages_carry_what_the_guest_wrote),
        T(a_masked_vector_waits_as_a_pending_bit),
        T(the_function_mask_holds_all_vectors_back),
        T(a_message_waits_for_bus_mastering),
        T(signals_from_outside_go_as_the_table_says),
        T(the_table_takes_every_width),
        T(state_goes_over_with_bars_interrupts_and_vectors),
        T(state_of_another_device_is_refused),
        H(ports_and_ecam_reach_the_same_registers),
        H(the_address_port_is_a_dword_that_reads_back),
        H(ecam_stands_where_pciexbar_says),
        H(ecam_over_a_bar_waits_for_nobody_and_crashes_nobody),
        H(memory_control_registers_keep_their_bits),
        cmocka_unit_test_setup_teardown(smram_is_where_its_registers_say_until_they_are_locked,
                                        make_host_with_smram, drop_host),
        H(a_loaded_host_bridge_moves_its_window),
        T(the_lpc_bridge_has_its_registers),
        T(pirqs_go_to_the_ioapic_and_where_the_guest_routes_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
