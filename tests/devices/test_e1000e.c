/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The 82574L, driven by its registers and descriptors: sums, segments, tags, filters, formats of
 * descriptors, causes of interrupts, the transceiver and the configuration memory. Expectations
 * from the datasheet's chapters 7 and 10.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "devices/chip.h"
#include "devices/e1000e.h"
#include "devices/pci.h"
#include "net/checksum.h"
#include "net/net.h"

// clang-format off
enum { CTRL = 0, STATUS = 8, EERD = 0x14, CTRL_EXT = 0x18, MDIC = 0x20, ICR = 0xc0, ICS = 0xc8, IMS = 0xd0, IMC = 0xd8, EIAC = 0xdc, IVAR = 0xe4,
       RCTL = 0x100, TCTL = 0x400, PSRCTL = 0x2170, RDBAL = 0x2800, RDLEN = 0x2808, RDH = 0x2810, RDT = 0x2818, TDBAL = 0x3800,
       TDLEN = 0x3808, TDH = 0x3810, TDT = 0x3818, GPRC = 0x4074, GPTC = 0x4080, GOTCL = 0x4090, RFCTL = 0x5008, MTA = 0x5200, VFTA = 0x5600 };
enum { RX_RING = 0x1000, TX_RING = 0x2000, RX_BUFFER = 0x10000, TX_BUFFER = 0x80000, RING = 8, SENT = 64 };
// clang-format on

struct wire {             /* the network */
    struct net_port port; /* first */
    unsigned frames, resumed;
    size_t size[SENT];
    uint8_t frame[SENT][2048];
};

static struct wire wire;
static struct mem mem;
static struct io_space pio, mmio;
static struct pci_bus *bus;
static struct device *dev;
static struct clock *clk;
static unsigned messages;
static uint32_t data;
static bool line;
static const uint8_t mac[6] = {0x52, 0x54, 0, 1, 2, 3};

static void wire_send(struct net_port *p, const struct iovec *iov, unsigned count) {
    struct wire *w = (struct wire *)p;

    assert_int_equal(count, 1);
    assert_true(w->frames < SENT && iov->iov_len <= sizeof(w->frame[0]));
    w->size[w->frames] = iov->iov_len;
    memcpy(w->frame[w->frames++], iov->iov_base, iov->iov_len);
}

static void wire_resume(struct net_port *p) { ((struct wire *)p)->resumed++; }

static const struct net_ops wire_ops = {.send = wire_send, .resume = wire_resume};

static void message(void *opaque, uint64_t addr, uint32_t d) {
    messages++;
    data = d;
}

static void irq(void *opaque, unsigned n, bool level) { line = level; }

static uint32_t get(unsigned reg) {
    return (uint32_t)((struct pci_device *)dev)->bar[0].region.ops->read(dev, reg, 4);
}
static void set(unsigned reg, uint32_t v) {
    ((struct pci_device *)dev)->bar[0].region.ops->write(dev, reg, 4, v);
}

static int setup(void **state) {
    struct e1000e_config config = {.port = &wire.port};
    struct device_env env = {.config = &config, .mem = &mem, .msi = {message, NULL}};
    struct irq wires[4] = {{irq, NULL, 0}, {irq, NULL, 0}, {irq, NULL, 0}, {irq, NULL, 0}};
    struct error err = {0};

    memset(&wire, 0, sizeof(wire));
    wire.port.ops = &wire_ops;
    wire.port.checked = true;
    memcpy(config.mac, mac, 6);
    assert_int_equal(mem_init(&mem, &err), 0);
    assert_int_equal(mem_add(&mem, 0, 1 << 20, false, &err), 0);
    clk = env.clock = clock_new_stepped();
    bus = pci_bus_new(&pio, &mmio);
    pci_bus_set_intx(bus, wires);
    dev = device_new(device_class_find("e1000e"), "e1000e0", &env, &err);
    assert_non_null(dev);
    assert_int_equal(pci_bus_attach(bus, (struct pci_device *)dev, 8, &err), 0);
    pci_config_write(bus, 8, PCI_COMMAND, 2, PCI_COMMAND_MASTER | PCI_COMMAND_MEM);
    messages = 0;
    line = false;
    set(TDBAL, TX_RING);
    set(TDLEN, RING * 16);
    set(TCTL, 2);
    set(RDBAL, RX_RING);
    set(RDLEN, RING * 16);
    set(RCTL, 2 | 1 << 26); /* no CRC */
    return 0;
}

static int teardown(void **state) {
    pci_bus_detach((struct pci_device *)dev);
    device_free(dev);
    pci_bus_free(bus);
    io_space_done(&pio);
    io_space_done(&mmio);
    clock_free(clk);
    mem_done(&mem);
    return 0;
}

/* ---- sending ---- */

static unsigned tail;

static void put_tx(uint64_t first, uint32_t low, uint32_t high) {
    uint8_t desc[16];

    store_le64(desc, first);
    store_le32(desc + 8, low);
    store_le32(desc + 12, high);
    mem_write(&mem, TX_RING + 16 * tail, desc, 16);
    tail = (tail + 1) % RING;
}

static void start_tx(void) { tail = get(TDH); }

/* IPv4 and TCP with `n` bytes of payload; the sum of the pseudo header in its field. */
static unsigned make_tcp(uint8_t *p, unsigned n, bool with_length) {
    static const uint8_t head[54] = {2,    0,  0,  0, 0,    9,    0x52, 0x54, 0,  1, 2, 3, 8,  0,
                                     0x45, 0,  0,  0, 0x12, 0x34, 0x40, 0,    64, 6, 0, 0, 10, 0,
                                     2,    15, 10, 0, 2,    2,    1,    1,    2,  2, 0, 0, 1,  0,
                                     0,    0,  0,  5, 0x50, 0x19, 4,    0,    0,  0, 0, 0};
    uint8_t pseudo[12] = {10, 0, 2, 15, 10, 0, 2, 2, 0, 6, 0, 0};

    memcpy(p, head, 54);
    for (unsigned i = 0; i < n; i++)
        p[54 + i] = (uint8_t)(i * 7 + 1);
    if (with_length) {
        store_be16(p + 16, (uint16_t)(40 + n));
        store_be16(pseudo + 10, (uint16_t)(20 + n));
    }
    store_le16(p + 50, (uint16_t)~checksum_end(checksum_add(0, pseudo, 12)));
    return 54 + n;
}

static void sums_are_right(const uint8_t *f, size_t len, size_t tag) {
    uint8_t pseudo[12] = {10, 0, 2, 15, 10, 0, 2, 2, 0, 6, 0, 0};
    size_t total = load_be16(f + tag + 16);

    assert_int_equal(total, len - tag - 14);
    assert_int_equal(checksum_end(checksum_add(0, f + tag + 14, 20)), 0);
    store_be16(pseudo + 10, (uint16_t)(total - 20));
    assert_int_equal(
        checksum_end(checksum_add(checksum_add(0, pseudo, 12), f + tag + 34, total - 20)), 0);
}

static void a_legacy_descriptor_sends_and_reports(void **state) {
    uint8_t frame[100], desc[16];

    for (unsigned i = 0; i < 100; i++)
        frame[i] = (uint8_t)i;
    mem_write(&mem, TX_BUFFER, frame, 100);
    set(IMS, 1);
    start_tx();
    put_tx(TX_BUFFER, 60, 0);
    put_tx(TX_BUFFER + 60, 40 | 9u << 24, 0);
    set(TDT, 1); /* half of it */
    assert_int_equal(wire.frames, 0);
    set(TDT, 2);
    assert_int_equal(wire.frames, 1);
    assert_int_equal(wire.size[0], 100);
    assert_memory_equal(wire.frame[0], frame, 100);
    assert_int_equal(get(TDH), 2);
    mem_read(&mem, TX_RING + 16, desc, 16);
    assert_int_equal(desc[12] & 1, 1);
    assert_true(line);
    assert_int_equal(get(ICR) & 0x80000001, 0x80000001);
    assert_false(line);
    assert_int_equal(get(GPTC), 1);
    assert_int_equal(get(GPTC), 0);
    assert_int_equal(get(GOTCL), 104);
}

static void checksums_are_filled_in(void **state) {
    uint8_t frame[400];
    unsigned n = make_tcp(frame, 201, true);

    mem_write(&mem, TX_BUFFER, frame, n);
    start_tx();
    put_tx(14 | 24 << 8 | 33 << 16 | (uint64_t)(34 | 50 << 8) << 32, 0x23u << 24, 0);
    put_tx(TX_BUFFER, n | 1 << 20 | 0x23u << 24, 3 << 8);
    set(TDT, tail);
    assert_int_equal(wire.frames, 1);
    sums_are_right(wire.frame[0], wire.size[0], 0);
    assert_memory_equal(wire.frame[0] + 54, frame + 54, 201);
}

static void large_segments_are_cut(void **state) {
    uint8_t frame[4000];
    unsigned n = make_tcp(frame, 2500, false), at = 54;

    mem_write(&mem, TX_BUFFER, frame, n);
    set(CTRL, 1 << 30);
    start_tx();
    put_tx(14 | 24 << 8 | 33 << 16 | (uint64_t)(34 | 50 << 8) << 32, 0x27u << 24,
           54 << 8 | 1000 << 16);
    put_tx(TX_BUFFER, 1000 | 1 << 20 | 0x24u << 24, 3 << 8);
    put_tx(TX_BUFFER + 1000, (n - 1000) | 1 << 20 | 0x65u << 24, 0x123 << 16); /* tagged */
    set(TDT, tail);
    assert_int_equal(wire.frames, 3);
    for (unsigned i = 0; i < 3; i++) {
        const uint8_t *f = wire.frame[i];
        size_t payload = i < 2 ? 1000 : 500;

        assert_int_equal(wire.size[i], 4 + 54 + payload);
        assert_int_equal(load_be32(f + 12), 0x81000123);
        sums_are_right(f, wire.size[i], 4);
        assert_int_equal(load_be16(f + 22), 0x1234 + i);
        assert_int_equal(load_be32(f + 42), load_be32(frame + 38) + i * 1000);
        assert_int_equal(f[51], i < 2 ? 0x10 : 0x19); /* FIN, PSH in the last */
        assert_memory_equal(f + 58, frame + at, payload);
        at += (unsigned)payload;
    }
}

static void nonsense_sends_nothing(void **state) {
    start_tx();
    put_tx(0, 0x27u << 24, 0xffffffff);
    put_tx(TX_BUFFER, 1000 | 1 << 20 | 0x25u << 24, 3 << 8);
    put_tx(0xfffffff0, 0xfffff | 1 << 20 | 0x2bu << 24, 0);
    set(TDT, tail);
    assert_int_equal(wire.frames, 0);
    assert_int_equal(get(TDH), tail);
    set(TDT, RING); /* outside of the ring */
    assert_int_equal(get(TDH), tail);
}

/* ---- receiving ---- */

static void give_buffers(unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        uint8_t desc[16] = {0};

        store_le64(desc, RX_BUFFER + 0x1000 * i);
        mem_write(&mem, RX_RING + 16 * i, desc, 16);
    }
    set(RDT, n);
}

static bool offer(const uint8_t *frame, size_t n) {
    bool took = wire.port.receive(wire.port.opaque, frame, n);

    wire.port.received(wire.port.opaque);
    return took;
}

static void legacy_descriptors_are_filled(void **state) {
    uint8_t frame[300], desc[16], got[300];
    unsigned n = make_tcp(frame, 200, true);

    memcpy(frame, mac, 6);
    give_buffers(4);
    set(IMS, 0x80);
    assert_true(offer(frame, n));
    mem_read(&mem, RX_RING, desc, 16);
    mem_read(&mem, RX_BUFFER, got, n);
    assert_memory_equal(got, frame, n);
    assert_int_equal(load_le16(desc + 8), n);
    assert_int_equal(desc[12], 0x63); /* done, end, sums of IP and TCP */
    assert_true(line);
    assert_int_equal(get(GPRC), 1);
    assert_true(offer(frame, 20)); /* padded */
    mem_read(&mem, RX_RING + 16, desc, 16);
    assert_int_equal(load_le16(desc + 8), 60);
}

static void without_descriptors_the_network_waits(void **state) {
    uint8_t frame[100] = {0};

    memcpy(frame, mac, 6);
    give_buffers(1);
    assert_true(offer(frame, 100));
    assert_false(offer(frame, 100));
    assert_int_equal(wire.resumed, 0);
    set(RDT, 2);
    assert_int_equal(wire.resumed, 1);
    assert_true(offer(frame, 100));
}

static void long_frames_span_descriptors(void **state) {
    uint8_t frame[3000] = {0}, desc[16];

    memcpy(frame, mac, 6);
    give_buffers(4);
    assert_true(offer(frame, 3000));
    assert_int_equal(get(RDH), 0); /* too long without LPE */
    set(RCTL, 2 | 1 << 26 | 1 << 5);
    assert_true(offer(frame, 3000));
    assert_int_equal(get(RDH), 2);
    mem_read(&mem, RX_RING, desc, 16);
    assert_int_equal(desc[12] & 3, 1);
    mem_read(&mem, RX_RING + 16, desc, 16);
    assert_int_equal(desc[12] & 3, 3);
    assert_int_equal(load_le16(desc + 8), 3000 - 2048);
}

static void extended_descriptors_carry_the_tag(void **state) {
    uint8_t frame[100] = {0}, desc[16], got[60];

    memcpy(frame, mac, 6);
    store_be32(frame + 12, 0x81000123);
    frame[18] = 0x77;
    set(RFCTL, 1 << 15);
    set(CTRL, 1 << 30);
    give_buffers(4);
    assert_true(offer(frame, 100));
    mem_read(&mem, RX_RING, desc, 16);
    assert_int_equal(load_le32(desc + 8) & 0xf, 0xf); /* done, end, no sums, tag */
    assert_int_equal(load_le16(desc + 12), 96);
    assert_int_equal(load_le16(desc + 14), 0x123);
    mem_read(&mem, RX_BUFFER, got, sizeof(got));
    assert_int_equal(got[14], 0x77);
    set(RCTL, get(RCTL) | 1 << 18); /* only the tags of VFTA */
    assert_true(offer(frame, 100));
    assert_int_equal(get(RDH), 1);
    set(VFTA + 4 * (0x123 >> 5), 1u << (0x123 & 31));
    assert_true(offer(frame, 100));
    assert_int_equal(get(RDH), 2);
}

static void split_descriptors_are_filled_in_order(void **state) {
    uint8_t frame[1000] = {0}, desc[32] = {0};

    memcpy(frame, mac, 6);
    store_le64(desc, RX_BUFFER);
    store_le64(desc + 8, RX_BUFFER + 0x1000);
    mem_write(&mem, RX_RING, desc, 32);
    set(RFCTL, 1 << 15);
    set(RCTL, get(RCTL) | 1 << 10);
    set(PSRCTL, 2 | 1 << 8);
    set(RDT, 1);
    assert_true(offer(frame, 1000));
    mem_read(&mem, RX_RING, desc, 32);
    assert_int_equal(load_le16(desc + 12), 256);
    assert_int_equal(load_le16(desc + 18), 744);
    assert_int_equal(load_le32(desc + 8) & 3, 3);
}

static void filters_choose(void **state) {
    uint8_t frame[60] = {0};
    static const uint8_t group[6] = {1, 0, 0x5e, 0, 0, 0x40};
    unsigned hash = (0x4000 >> 4) & 0xfff;

    give_buffers(7);
    memcpy(frame, "\x52\x54\0\1\2\4", 6); /* another's */
    assert_true(offer(frame, 60));
    memset(frame, 0xff, 6);
    assert_true(offer(frame, 60));
    memcpy(frame, group, 6);
    assert_true(offer(frame, 60));
    assert_int_equal(get(RDH), 0);
    set(MTA + 4 * (hash >> 5), 1u << (hash & 31));
    assert_true(offer(frame, 60));
    assert_int_equal(get(RDH), 1);
    set(RCTL, get(RCTL) | 1 << 15);
    memset(frame, 0xff, 6);
    assert_true(offer(frame, 60));
    set(RCTL, get(RCTL) | 1 << 3);
    memcpy(frame, "\x52\x54\0\1\2\4", 6);
    assert_true(offer(frame, 60));
    assert_int_equal(get(RDH), 3);
}

/* ---- the rest ---- */

static void msix_vectors_are_chosen_by_ivar(void **state) {
    struct pci_device *d = (struct pci_device *)dev;
    const struct io_region *table = &d->bar[3].region;

    for (unsigned i = 0; i < 5; i++) {
        table->ops->write(dev, 16 * i, 4, 0xfee00000);
        table->ops->write(dev, 16 * i + 8, 4, 0x40 + i);
        table->ops->write(dev, 16 * i + 12, 4, 0);
    }
    pci_config_write(bus, 8, d->msix_cap + 2u, 2, 0x8000);
    set(IVAR, 8 | 0x9 << 8 | 0xa << 16);
    set(EIAC, 0x01f00000);
    set(IMS, 0x01500004);
    set(ICS, 1 << 20);
    assert_int_equal(messages, 1);
    assert_int_equal(data, 0x40);
    assert_int_equal(get(IMS) & 1 << 20, 0); /* masked by itself */
    set(ICS, 1 << 20);
    assert_int_equal(messages, 1);
    set(IMS, 1 << 20);
    assert_int_equal(messages, 2);
    e1000e_replug(dev);
    assert_int_equal(messages, 3);
    assert_int_equal(data, 0x42);
    assert_int_equal(get(STATUS) & 2, 0);
    set(IMS, 0x01000004);
    clock_step(clk, 3000000000);
    assert_int_equal(get(STATUS) & 2, 2);
    assert_int_equal(data, 0x42);
    assert_false(line);
}

static uint32_t mdic(uint32_t v) {
    set(MDIC, v);
    return get(MDIC);
}

static void the_transceiver_and_the_memory_answer(void **state) {
    uint16_t sum = 0;

    assert_int_equal(mdic(2 << 26 | 1 << 21 | 2 << 16) & 0x5000ffff, 0x10000141);
    assert_int_equal(mdic(2 << 26 | 1 << 21 | 3 << 16) & 0xffff, 0x0cb1);
    assert_int_equal(mdic(2 << 26 | 1 << 21 | 1 << 16) & 0x24, 0x24);
    assert_true(mdic(2 << 26 | 2 << 21) & 1 << 30); /* nobody there */
    mdic(1 << 26 | 1 << 21 | 4 << 16 | 0x1e1);
    assert_int_equal(mdic(2 << 26 | 1 << 21 | 4 << 16) & 0xffff, 0x1e1);
    for (unsigned i = 0; i < 64; i++) {
        set(EERD, i << 2 | 1);
        assert_int_equal(get(EERD) & 2, 2);
        sum = (uint16_t)(sum + (get(EERD) >> 16));
        if (i < 3)
            assert_int_equal(get(EERD) >> 16, load_le16(mac + 2 * (size_t)i));
    }
    assert_int_equal(sum, 0xbaba);
    assert_int_equal(get(0x5400), load_le32(mac));
    set(0x5400, 0);
    set(CTRL, 1 << 26);
    assert_int_equal(get(0x5400), load_le32(mac));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(a_legacy_descriptor_sends_and_reports),
        T(checksums_are_filled_in),
        T(large_segments_are_cut),
        T(nonsense_sends_nothing),
        T(legacy_descriptors_are_filled),
        T(without_descriptors_the_network_waits),
        T(long_frames_span_descriptors),
        T(extended_descriptors_carry_the_tag),
        T(split_descriptors_are_filled_in_order),
        T(filters_choose),
        T(msix_vectors_are_chosen_by_ivar),
        T(the_transceiver_and_the_memory_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
