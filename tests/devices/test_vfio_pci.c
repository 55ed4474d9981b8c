/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A device of the host as the guest sees it: configuration, BARs, interrupts; on one that is made
 * up. Source of what is expected: PCI Local Bus Specification 3.0, PCIe 3.0. */
#include "base/loop.h"
#include "bus/windows.h"
#include "bus/wires.h"
#include "devices/fake_vfio.h"
#include "support/test.h"

enum { DEVFN = 3 << 3, MMIO_BASE = 0xc0000000, IO_BASE = 0xc000 };

struct board {
    struct fake_vfio host;
    struct device *dev;
    struct io_space pio, mmio;
    struct pci_bus *bus;
    struct loop *loop;
    struct wires *wires;
    struct windows *windows;
    struct {
        uint64_t at, size;
        void *memory;
    } window[WINDOWS_MOST];
    uint64_t high; /* where addresses above 4 GiB begin, 0: none */
    bool level;
    unsigned messages;
    uint64_t address;
    uint32_t data;
};

static void message(void *opaque, uint64_t address, uint32_t data) {
    struct board *b = opaque;

    b->messages++;
    b->address = address;
    b->data = data;
}

static void wire(void *opaque, unsigned n, bool level) { ((struct board *)opaque)->level = level; }

static int show(void *opaque, unsigned n, uint64_t at, void *memory, uint64_t size) {
    struct board *b = opaque;

    assert_true(!size != !b->window[n].size); /* one opened is closed before it is opened anew */
    b->window[n].at = at;
    b->window[n].size = size;
    b->window[n].memory = memory;
    return 0;
}

static struct device *make(struct board *b, struct error *err) {
    struct vfio_pci_config config = {&b->host.f};
    struct device_env env = {.msi = {message, b}, .config = &config};

    return device_new(device_class_find("vfio_pci"), "vfio0", &env, err);
}

static void mount(struct board *b) {
    struct error err = {0};
    struct irq wires[4];

    for (unsigned i = 0; i < 4; i++)
        wires[i] = (struct irq){wire, b, i};
    b->dev = make(b, &err);
    if (!b->dev)
        fail_msg("%s", err.text);
    b->bus = pci_bus_new(&b->pio, &b->mmio);
    pci_bus_set_intx(b->bus, wires);
    if (b->high)
        pci_bus_set_high(b->bus, b->high, 1ull << 39);
    pci_bus_set_wires(b->bus, b->wires);
    pci_bus_set_windows(b->bus, b->windows);
    assert_int_equal(pci_bus_attach(b->bus, (struct pci_device *)b->dev, DEVFN, NULL), 0);
    assert_int_equal(pci_bus_assign(b->bus, MMIO_BASE, MMIO_BASE + (1 << 24), IO_BASE, NULL), 0);
}

static int setup(void **state) {
    struct board *b = calloc(1, sizeof(*b));

    fake_init(&b->host);
    b->loop = loop_new(NULL, NULL);
    b->wires = wires_new(b->loop, NULL, NULL);
    b->windows = windows_new(show, b);
    *state = b;
    return 0;
}

static int teardown(void **state) {
    struct board *b = *state;

    pci_bus_free(b->bus);
    device_free(b->dev);
    for (unsigned i = 0; i < WINDOWS_MOST; i++)
        assert_int_equal(b->window[i].size, 0);
    wires_free(b->wires);
    windows_free(b->windows);
    loop_free(b->loop);
    io_space_done(&b->pio);
    io_space_done(&b->mmio);
    free(b);
    return 0;
}

static uint32_t in(struct board *b, unsigned offset, unsigned size) {
    return pci_config_read(b->bus, DEVFN, offset, size);
}

static void out(struct board *b, unsigned offset, unsigned size, uint32_t value) {
    pci_config_write(b->bus, DEVFN, offset, size, value);
}

/* It sends, and the loop passes on what it has to. */
static void fire(struct board *b, enum vfio_interrupt kind, unsigned n) {
    fake_fire(&b->host, kind, n);
    while (loop_step(b->loop, 0))
        ;
}

static void settle(struct board *b) {
    while (loop_step(b->loop, 0))
        ;
}

static void set_master(struct board *b) {
    out(b, PCI_COMMAND, 2, in(b, PCI_COMMAND, 2) | PCI_COMMAND_MASTER);
}

/* The offset of a capability in the guest's list, 0: it is not there. */
static unsigned find(struct board *b, uint8_t id) {
    unsigned at = in(b, PCI_CAP_PTR, 1);

    for (unsigned n = 0; at && n < 48; n++) {
        if (in(b, at, 1) == id)
            return at;
        at = in(b, at + 1, 1);
    }
    return 0;
}

/* ------------------------------------------------------------------ configuration */

static void the_header_is_the_devices_and_the_addresses_are_the_guests(void **state) {
    struct board *b = *state;

    mount(b);
    assert_int_equal(in(b, PCI_VENDOR, 4), 0x00101b36);
    assert_int_equal(in(b, PCI_CLASS_REV, 4), 0x01080202);
    assert_int_equal(in(b, PCI_SUBSYS_VENDOR, 4), 0x11001af4);
    assert_int_equal(in(b, PCI_HEADER_TYPE, 1), 0); /* it is alone in its slot */
    assert_int_equal(in(b, PCI_INT_PIN, 1), 1);
    out(b, PCI_BAR0, 4, 0xffffffff);
    assert_int_equal(in(b, PCI_BAR0, 4), 0xffffc00c);
    out(b, PCI_BAR0 + 8, 4, 0xffffffff);
    assert_int_equal(in(b, PCI_BAR0 + 8, 4), 0xffffffe1);
    out(b, PCI_ROM_BASE, 4, 0xfffffffe);
    assert_int_equal(in(b, PCI_ROM_BASE, 4), 0xfffff800);
    assert_int_equal(load_le32(b->host.config + PCI_BAR0), 0xfe00000c);
    out(b, PCI_VENDOR, 4, 0);
    assert_int_equal(in(b, PCI_VENDOR, 4), 0x00101b36);
}

static void of_the_command_the_device_hears_what_concerns_it(void **state) {
    struct board *b = *state;

    mount(b);
    out(b, PCI_COMMAND, 2, 0xffff);
    assert_int_equal(in(b, PCI_COMMAND, 2), 0x0547);
    assert_int_equal(load_le16(b->host.config + PCI_COMMAND),
                     0x0147); /* INTx is ours to hold back */
    store_le16(b->host.config + PCI_STATUS, 0x2018);
    assert_int_equal(in(b, PCI_STATUS, 2), 0x2010); /* and so is whether there is one */
}

static void what_is_no_business_of_ours_is_read_and_written_there(void **state) {
    struct board *b = *state;

    mount(b);
    store_le32(b->host.config + 0xe0, 0x12345678);
    assert_int_equal(in(b, 0xe0, 4), 0x12345678);
    assert_int_equal(in(b, 0xe2, 1), 0x34);
    out(b, 0xe1, 1, 0xab);
    assert_int_equal(load_le32(b->host.config + 0xe0), 0x1234ab78);
    out(b, FAKE_PM + 4, 2, 3);
    assert_int_equal(load_le16(b->host.config + FAKE_PM + 4), 3);
}

static void capabilities_that_a_guest_cannot_have_are_not_in_its_list(void **state) {
    struct board *b = *state;

    mount(b);
    assert_int_equal(find(b, 0x14), 0);
    assert_int_equal(find(b, 0x01), FAKE_PM);
    assert_int_equal(find(b, PCI_CAP_MSI), FAKE_MSI);
    assert_int_equal(find(b, 0x10), FAKE_PCIE);
    assert_int_equal(find(b, PCI_CAP_MSIX), FAKE_MSIX);
    assert_int_equal(in(b, FAKE_MSI + 1, 1), FAKE_PCIE);
    assert_int_equal(in(b, 0x100, 4), 0x1200ffff);
    assert_int_equal(in(b, 0x120, 4), 0x1a020001);
    assert_int_equal(in(b, 0x1a0, 4), 0x00010003);
}

static void an_endpoint_is_one_of_the_root_complex(void **state) {
    struct board *b = *state;

    mount(b);
    assert_int_equal(in(b, FAKE_PCIE + 2, 2), 0x0092);
    assert_int_equal(in(b, FAKE_PCIE + 0x0c, 4), 0); /* which has no link */
    out(b, FAKE_PCIE + 8, 2, 0x2810);
    assert_int_equal(load_le16(b->host.config + FAKE_PCIE + 8), 0x2810);
}

static void lists_that_lead_in_circles_end(void **state) {
    struct board *b = *state;

    b->host.config[FAKE_MSIX + 1] = FAKE_PM;
    b->host.config[FAKE_EA + 1] = FAKE_EA;
    store_le32(b->host.config + 0x1a0, 0x10010003);
    mount(b);
    assert_int_equal(find(b, 0x01), FAKE_PM);
    assert_int_equal(find(b, PCI_CAP_MSIX), 0); /* behind the one that is its own next */
}

static void without_a_table_of_interrupts_the_others_serve(void **state) {
    struct board *b = *state;

    store_le32(b->host.config + FAKE_MSIX + 4, 0x3fe0); /* beyond the end of the BAR */
    mount(b);
    assert_int_equal(find(b, PCI_CAP_MSIX), 0);
    assert_int_equal(find(b, PCI_CAP_MSI), FAKE_MSI);
}

static void expect_refused(struct board *b, const char *words) {
    struct error err = {0};

    assert_null(make(b, &err));
    assert_non_null(strstr(err.text, "0000:03:00.0"));
    if (!strstr(err.text, words))
        fail_msg("'%s' is not in: %s", words, err.text);
}

static void what_a_guest_cannot_have_is_refused_by_name(void **state) {
    struct board *b = *state;

    b->host.config[PCI_HEADER_TYPE] = 1;
    expect_refused(b, "bridge");
    fake_init(&b->host);
    b->host.f.region[0].size = 1ull << 39;
    expect_refused(b, "524288 MiB");
    fake_init(&b->host);
    store_le32(b->host.config + PCI_BAR0 + 16, 0); /* 32 bits */
    b->host.f.region[4].size = 1ull << 32;
    expect_refused(b, "4096 MiB");
    fake_init(&b->host);
    b->host.broken = true;
    expect_refused(b, "cannot be read");
    fake_init(&b->host);
    store_le32(b->host.config + FAKE_MSIX + 4, FAKE_TABLE | 5);
    b->host.f.interrupts[VFIO_MSI] = b->host.f.interrupts[VFIO_INTX] = 0;
    expect_refused(b, "MSI-X");
}

/* ------------------------------------------------------------------ BARs */

static void bars_are_read_and_written_there(void **state) {
    struct board *b = *state;

    mount(b);
    store_le32(b->host.bar[0] + 0x10, 0xcafe0001);
    assert_int_equal(io_read(&b->mmio, MMIO_BASE + 0x10, 4), 0xcafe0001);
    io_write(&b->mmio, MMIO_BASE + 0x1008, 4, 7);
    assert_int_equal(load_le32(b->host.bar[0] + 0x1008), 7);
    io_write(&b->pio, IO_BASE + 4, 2, 0x55aa);
    assert_int_equal(load_le16(b->host.bar[2] + 4), 0x55aa);
    store_le16(b->host.bar[VFIO_ROM], 0xaa55);
    out(b, PCI_ROM_BASE, 4, in(b, PCI_ROM_BASE, 4) | 1);
    assert_int_equal(io_read(&b->mmio, in(b, PCI_ROM_BASE, 4) & ~1u, 2), 0xaa55);
    b->host.broken = true;
    assert_int_equal(io_read(&b->mmio, MMIO_BASE + 0x10, 4), 0xffffffff);
}

static void a_bar_of_gigabytes_is_above_four_of_them(void **state) {
    struct board *b = *state;
    uint64_t base = 0;

    b->host.f.region[4] = (struct vfio_region){.size = 8ull << 30, .read = true, .write = true};
    store_le32(b->host.config + PCI_BAR0 + 16, 0xc);
    b->high = 0x140000000;
    mount(b);
    base = (uint64_t)in(b, PCI_BAR0 + 20, 4) << 32 | (in(b, PCI_BAR0 + 16, 4) & ~15u);
    assert_int_equal(base, 0x200000000);
    assert_int_equal(in(b, PCI_BAR0, 4) & ~15u, MMIO_BASE);
    assert_int_equal(pci_bus_large(b->bus), 8ull << 30);
    out(b, PCI_BAR0 + 16, 4, 0xffffffff);
    out(b, PCI_BAR0 + 20, 4, 0xffffffff);
    assert_int_equal(in(b, PCI_BAR0 + 16, 4), 0xc);
    assert_int_equal(in(b, PCI_BAR0 + 20, 4), 0xfffffffe);
    out(b, PCI_BAR0 + 20, 4, 0x12);
    assert_non_null(io_find(&b->mmio, 0x1200000000));
    assert_non_null(io_find(&b->mmio, 0x13ffffffff));
    assert_null(io_find(&b->mmio, 0x1400000000));
    assert_int_equal(io_read(&b->mmio, 0x1200000000 + FAKE_BAR / 2, 4), 0);
}

static void without_a_place_above_a_large_bar_is_refused(void **state) {
    struct board *b = *state;
    struct error err = {0};

    b->host.f.region[4] = (struct vfio_region){.size = 8ull << 30, .read = true, .write = true};
    store_le32(b->host.config + PCI_BAR0 + 16, 0xc);
    b->high = 0x140000000;
    mount(b);
    pci_bus_set_high(b->bus, 0x200000000, 0x3ffffffff);
    assert_int_equal(pci_bus_assign(b->bus, MMIO_BASE, MMIO_BASE + (1 << 24), IO_BASE, &err),
                     -ENOSPC);
    assert_non_null(strstr(err.text, "8589934592 bytes"));
}

static void the_guests_table_does_not_reach_the_device(void **state) {
    struct board *b = *state;

    mount(b);
    io_write(&b->mmio, MMIO_BASE + FAKE_TABLE + 16, 4, 0xfee01003);
    assert_int_equal(io_read(&b->mmio, MMIO_BASE + FAKE_TABLE + 16, 4), 0xfee01000);
    assert_int_equal(load_le32(b->host.bar[0] + FAKE_TABLE + 16), 0);
    assert_int_equal(io_read(&b->mmio, MMIO_BASE + FAKE_TABLE + 28, 4), 1); /* masked at first */
}

/* ------------------------------------------------------------------ interrupts */

static void set_entry(struct board *b, unsigned n, uint32_t data, bool masked) {
    uint64_t at = MMIO_BASE + FAKE_TABLE + 16 * n;

    io_write(&b->mmio, at, 8, 0xfee00000);
    io_write(&b->mmio, at + 8, 4, data);
    io_write(&b->mmio, at + 12, 4, masked);
}

static void messages_go_where_the_guests_table_says(void **state) {
    struct board *b = *state;

    mount(b);
    set_master(b);
    set_entry(b, 69, 0x41, false);
    out(b, FAKE_MSIX + 2, 2, 0x8000);
    assert_int_equal(b->host.kind, VFIO_MSIX);
    assert_int_equal(b->host.count, FAKE_VECTORS);
    fire(b, VFIO_MSIX, 69);
    assert_int_equal(b->messages, 1);
    assert_int_equal(b->address, 0xfee00000);
    assert_int_equal(b->data, 0x41);
    fire(b, VFIO_MSIX, 70); /* there is none */
    fire(b, VFIO_MSI, 0);   /* from before */
    assert_int_equal(b->messages, 1);
}

static void what_is_masked_is_pending(void **state) {
    struct board *b = *state;

    mount(b);
    set_master(b);
    set_entry(b, 1, 0x30, true);
    set_entry(b, 66, 0x31, false);
    out(b, FAKE_MSIX + 2, 2, 0xc000);
    fire(b, VFIO_MSIX, 1);
    fire(b, VFIO_MSIX, 66);
    assert_int_equal(b->messages, 0);
    assert_int_equal(io_read(&b->mmio, MMIO_BASE + FAKE_PBA, 8), 2);
    assert_int_equal(io_read(&b->mmio, MMIO_BASE + FAKE_PBA + 8, 4), 4);
    out(b, FAKE_MSIX + 2, 2, 0x8000);
    settle(b);
    assert_int_equal(b->messages, 1);
    assert_int_equal(b->data, 0x31);
    set_entry(b, 1, 0x32, false);
    settle(b);
    assert_int_equal(b->messages, 2);
    assert_int_equal(b->data, 0x32);
    assert_int_equal(io_read(&b->mmio, MMIO_BASE + FAKE_PBA, 8), 0);
}

static void a_vector_that_was_used_is_pending_while_it_is_masked_again(void **state) {
    struct board *b = *state;

    mount(b);
    set_master(b);
    set_entry(b, 69, 0x30, false);
    out(b, FAKE_MSIX + 2, 2, 0x8000);
    io_write(&b->mmio, MMIO_BASE + FAKE_TABLE + 16 * 69 + 12, 4, 1);
    fire(b, VFIO_MSIX, 69);
    assert_int_equal(b->messages, 0);
    assert_int_equal(load_le64(b->host.bar[0] + FAKE_PBA + 8), 0);
    assert_int_equal(io_read(&b->mmio, MMIO_BASE + FAKE_PBA + 8, 8), 1 << 5);
    assert_int_equal(io_read(&b->mmio, MMIO_BASE + FAKE_PBA + 8, 1), 1 << 5);
    set_entry(b, 69, 0x31, false);
    settle(b);
    assert_int_equal(b->messages, 1);
    assert_int_equal(b->data, 0x31);
    assert_int_equal(io_read(&b->mmio, MMIO_BASE + FAKE_PBA + 8, 8), 0);
}

static void only_vectors_that_the_guest_uses_have_a_descriptor(void **state) {
    struct board *b = *state;

    mount(b);
    set_master(b);
    set_entry(b, 3, 0x30, false);
    out(b, FAKE_MSIX + 2, 2, 0x8000);
    for (unsigned i = 0; i < FAKE_VECTORS; i++)
        assert_int_equal(b->host.fd[i] >= 0, i == 3);
}

static void a_machine_that_stands_still_is_not_interrupted(void **state) {
    struct board *b = *state;

    mount(b);
    set_master(b);
    set_entry(b, 3, 0x30, false);
    out(b, FAKE_MSIX + 2, 2, 0x8000);
    wires_hold(b->wires);
    fire(b, VFIO_MSIX, 3);
    assert_int_equal(b->messages, 0);
    wires_let_go(b->wires);
    settle(b);
    assert_int_equal(b->messages, 1);
}

static void there_may_be_as_many_vectors_as_the_specification_allows(void **state) {
    struct board *b = *state;
    static uint8_t bar[0x10000];

    b->host.f.interrupts[VFIO_MSIX] = VFIO_VECTORS;
    b->host.f.region[0].size = FAKE_BAR; /* the table has its own, of which nothing is asked */
    b->host.f.region[4] = (struct vfio_region){.size = sizeof(bar), .read = true, .write = true};
    store_le16(b->host.config + FAKE_MSIX + 2, VFIO_VECTORS - 1);
    store_le32(b->host.config + FAKE_MSIX + 4, 4);
    store_le32(b->host.config + FAKE_MSIX + 8, 0x8000 | 4);
    mount(b);
    set_master(b);
    assert_int_equal(in(b, FAKE_MSIX + 2, 2), VFIO_VECTORS - 1);
    out(b, FAKE_MSIX + 2, 2, 0x8000);
    assert_int_equal(b->host.count, VFIO_VECTORS);
    for (unsigned i = 0; i < 4; i++)
        io_write(&b->mmio, (in(b, PCI_BAR0 + 16, 4) & ~15u) + 16 * 2047 + 4 * i, 4,
                 i == 0   ? 0xfee00000
                 : i == 2 ? 0x99
                          : 0);
    fire(b, VFIO_MSIX, 2047);
    assert_int_equal(b->messages, 1);
    assert_int_equal(b->data, 0x99);
}

static void without_bus_mastering_messages_wait(void **state) {
    struct board *b = *state;

    mount(b);
    set_entry(b, 0, 0x30, false);
    out(b, FAKE_MSIX + 2, 2, 0x8000);
    fire(b, VFIO_MSIX, 0);
    assert_int_equal(b->messages, 0);
    set_master(b);
    settle(b);
    assert_int_equal(b->messages, 1);
}

static void msi_has_as_many_messages_as_the_host_gives(void **state) {
    struct board *b = *state;

    mount(b);
    set_master(b);
    assert_int_equal(in(b, FAKE_MSI + 2, 2), 0x0184); /* four */
    out(b, FAKE_MSI + 4, 4, 0xfee02000);
    out(b, FAKE_MSI + 12, 2, 0x50);
    out(b, FAKE_MSI + 2, 2, 0x21);
    assert_int_equal(b->host.kind, VFIO_MSI);
    assert_int_equal(b->host.count, 4);
    fire(b, VFIO_MSI, 3);
    assert_int_equal(b->address, 0xfee02000);
    assert_int_equal(b->data, 0x53);
    out(b, FAKE_MSI + 16, 4, 2);
    fire(b, VFIO_MSI, 1);
    assert_int_equal(b->messages, 1);
    assert_int_equal(in(b, FAKE_MSI + 20, 4), 2);
    out(b, FAKE_MSI + 16, 4, 0);
    settle(b);
    assert_int_equal(b->messages, 2);
    assert_int_equal(b->data, 0x51);
    out(b, FAKE_MSI + 2, 2, 0x71); /* more than there are */
    assert_int_equal(b->host.count, 4);
}

static void a_level_falls_when_the_guest_has_looked(void **state) {
    struct board *b = *state;

    mount(b);
    assert_int_equal(b->host.kind, VFIO_INTX);
    assert_int_equal(b->host.count, 1);
    fire(b, VFIO_INTX, 0);
    assert_true(b->level);
    assert_int_equal(in(b, PCI_STATUS, 2) & PCI_STATUS_INTX, PCI_STATUS_INTX);
    assert_int_equal(b->host.unmasks, 0);
    (void)io_read(&b->mmio, MMIO_BASE, 4);
    assert_false(b->level);
    assert_int_equal(b->host.unmasks, 1);
    (void)io_read(&b->mmio, MMIO_BASE, 4);
    assert_int_equal(b->host.unmasks, 1);
    fire(b, VFIO_INTX, 0);
    out(b, PCI_COMMAND, 2, in(b, PCI_COMMAND, 2) | PCI_COMMAND_INTX_OFF);
    assert_false(b->level);
}

static void with_messages_the_level_is_no_more(void **state) {
    struct board *b = *state;

    mount(b);
    fire(b, VFIO_INTX, 0);
    out(b, FAKE_MSIX + 2, 2, 0x8000);
    assert_false(b->level);
    out(b, FAKE_MSIX + 2, 2, 0);
    assert_int_equal(b->host.kind, VFIO_INTX);
    assert_int_equal(b->host.count, 1);
}

static void a_host_without_interrupts_left_does_no_harm(void **state) {
    struct board *b = *state;

    mount(b);
    set_master(b);
    set_entry(b, 3, 0x30, false);
    b->host.most = 5;
    out(b, FAKE_MSIX + 2, 2, 0x8000);
    fire(b, VFIO_MSIX, 3);
    assert_int_equal(b->messages, 1);
    b->host.most = -ENOSPC;
    out(b, FAKE_MSIX + 2, 2, 0);
    out(b, FAKE_MSIX + 2, 2, 0x8000);
}

/* ------------------------------------------------------------------ windows */

static unsigned count_windows(const struct board *b) {
    unsigned n = 0;

    for (unsigned i = 0; i < WINDOWS_MOST; i++)
        n += b->window[i].size != 0;
    return n;
}

static void processors_reach_all_of_a_bar_but_its_table(void **state) {
    struct board *b = *state;

    mount(b);
    assert_int_equal(count_windows(b), 1);
    assert_int_equal(b->window[0].at, MMIO_BASE);
    assert_int_equal(b->window[0].size, FAKE_TABLE);
    assert_ptr_equal(b->window[0].memory, b->host.bar[0]);
    out(b, PCI_COMMAND, 2, 0);
    assert_int_equal(count_windows(b), 0);
    out(b, PCI_BAR0, 4, 0xd0000000);
    out(b, PCI_COMMAND, 2, PCI_COMMAND_MEM);
    assert_int_equal(b->window[0].at, 0xd0000000);
    out(b, PCI_BAR0, 4, 0xe0000000); /* it moves while it is decoded */
    assert_int_equal(count_windows(b), 1);
    assert_int_equal(b->window[0].at, 0xe0000000);
}

static void windows_are_around_table_and_pending_bits(void **state) {
    struct board *b = *state;

    store_le32(b->host.config + FAKE_MSIX + 4, 0x0);
    store_le32(b->host.config + FAKE_MSIX + 8, 0x2000);
    mount(b);
    assert_int_equal(count_windows(b), 2);
    assert_int_equal(b->window[0].at, MMIO_BASE + 0x1000);
    assert_int_equal(b->window[0].size, 0x1000);
    assert_int_equal(b->window[1].at, MMIO_BASE + 0x3000);
    assert_ptr_equal(b->window[1].memory, b->host.bar[0] + 0x3000);
}

static void what_does_not_answer_has_no_windows(void **state) {
    struct board *b = *state;

    mount(b);
    out(b, FAKE_PM + 4, 2, 3);
    assert_int_equal(count_windows(b), 0);
    out(b, FAKE_PM + 4, 2, 0);
    assert_int_equal(count_windows(b), 1);
    device_reset(b->dev);
    assert_int_equal(count_windows(b), 0);
    assert_int_equal(pci_bus_assign(b->bus, MMIO_BASE, MMIO_BASE + (1 << 24), IO_BASE, NULL), 0);
    assert_int_equal(count_windows(b), 1);
    b->dev->cls->abandon(b->dev);
    assert_int_equal(count_windows(b), 0);
}

static void while_a_level_is_used_accesses_are_seen(void **state) {
    struct board *b = *state;

    mount(b);
    fire(b, VFIO_INTX, 0);
    assert_int_equal(count_windows(b), 0);
    (void)io_read(&b->mmio, MMIO_BASE, 4);
    assert_int_equal(count_windows(b), 0); /* there will be more of them */
    out(b, FAKE_MSIX + 2, 2, 0x8000);
    assert_int_equal(count_windows(b), 1);
}

/* ------------------------------------------------------------------ life */

static void a_reset_makes_it_quiet_awake_and_new(void **state) {
    struct board *b = *state;
    unsigned before;

    mount(b);
    set_master(b);
    out(b, FAKE_PM + 4, 2, 3);
    out(b, FAKE_MSIX + 2, 2, 0x8000);
    set_entry(b, 2, 9, false);
    before = b->host.reset_count;
    device_reset(b->dev);
    assert_int_equal(b->host.reset_count, before + 1);
    assert_int_equal(load_le16(b->host.config + PCI_COMMAND), 0);
    assert_int_equal(load_le16(b->host.config + FAKE_PM + 4), 0);
    assert_int_equal(b->host.kind, VFIO_INTX);
    assert_int_equal(in(b, FAKE_MSIX + 2, 2), FAKE_VECTORS - 1);
    assert_int_equal(pci_bus_assign(b->bus, MMIO_BASE, MMIO_BASE + (1 << 24), IO_BASE, NULL), 0);
    assert_int_equal(io_read(&b->mmio, MMIO_BASE + FAKE_TABLE + 16 * 2 + 8, 4), 0);
}

static void after_it_was_pulled_out_nothing_answers(void **state) {
    struct board *b = *state;

    mount(b);
    set_master(b);
    fire(b, VFIO_INTX, 0);
    b->dev->cls->abandon(b->dev);
    assert_false(b->level);
    assert_int_equal(b->host.count, 0);
    assert_int_equal(load_le16(b->host.config + PCI_COMMAND), 0);
    assert_int_equal(io_read(&b->mmio, MMIO_BASE, 4), 0xffffffff);
    io_write(&b->mmio, MMIO_BASE, 4, 1);
    out(b, PCI_COMMAND, 2, 7);
    (void)in(b, 0xe0, 4);
    assert_int_equal(load_le16(b->host.config + PCI_COMMAND), 0);
    device_reset(b->dev);
    fire(b, VFIO_INTX, 0);
    assert_false(b->level);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(the_header_is_the_devices_and_the_addresses_are_the_guests),
        T(of_the_command_the_device_hears_what_concerns_it),
        T(what_is_no_business_of_ours_is_read_and_written_there),
        T(capabilities_that_a_guest_cannot_have_are_not_in_its_list),
        T(an_endpoint_is_one_of_the_root_complex),
        T(lists_that_lead_in_circles_end),
        T(without_a_table_of_interrupts_the_others_serve),
        T(what_a_guest_cannot_have_is_refused_by_name),
        T(bars_are_read_and_written_there),
        T(a_bar_of_gigabytes_is_above_four_of_them),
        T(without_a_place_above_a_large_bar_is_refused),
        T(the_guests_table_does_not_reach_the_device),
        T(messages_go_where_the_guests_table_says),
        T(what_is_masked_is_pending),
        T(a_vector_that_was_used_is_pending_while_it_is_masked_again),
        T(only_vectors_that_the_guest_uses_have_a_descriptor),
        T(a_machine_that_stands_still_is_not_interrupted),
        T(there_may_be_as_many_vectors_as_the_specification_allows),
        T(without_bus_mastering_messages_wait),
        T(msi_has_as_many_messages_as_the_host_gives),
        T(a_level_falls_when_the_guest_has_looked),
        T(with_messages_the_level_is_no_more),
        T(a_host_without_interrupts_left_does_no_harm),
        T(processors_reach_all_of_a_bar_but_its_table),
        T(windows_are_around_table_and_pending_bits),
        T(what_does_not_answer_has_no_windows),
        T(while_a_level_is_used_accesses_are_seen),
        T(a_reset_makes_it_quiet_awake_and_new),
        T(after_it_was_pulled_out_nothing_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
