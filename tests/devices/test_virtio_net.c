/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the virtio network device: on a port that remembers frames, and on the real user-mode
 * network. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "devices/virtio/virtio_net.h"
#include "devices/virtio_driver.h"
#include "net/guest.h"
#include "net/net.h"
#include "support/test.h"

enum { DEVFN = 0x18, RAM = 8 << 20, HEADER = 12, RX = 0, TX = 1 };
enum { NEEDS_CSUM = 1, DATA_VALID = 2, TCPV4 = 1, NEEDS_RESET = 0x40 };
#define F_CSUM       (1ull << 0)
#define F_GUEST_CSUM (1ull << 1)
#define F_MTU        (1ull << 3)
#define F_MAC        (1ull << 5)
#define F_HOST_TSO4  (1ull << 11)
#define F_MRG_RXBUF  (1ull << 15)
#define F_STATUS     (1ull << 16)

static const struct virtio_net_config *no_config;

/* A port that keeps what the guest sends. */
static struct wire {
    struct net_port port; /* first */
    uint8_t last[NET_FRAME_MAX];
    size_t last_len;
    unsigned sent, flushes, resumes;
} wire;

static void wire_send(struct net_port *p, const struct iovec *iov, unsigned count) {
    wire.last_len = iov_read(iov, count, 0, wire.last, sizeof(wire.last));
    wire.sent++;
}

static void wire_flush(struct net_port *p) { wire.flushes++; }
static void wire_resume(struct net_port *p) { wire.resumes++; }
static void wire_close(struct net_port *p) {}

static const struct net_ops wire_ops = {
    .send = wire_send, .flush = wire_flush, .resume = wire_resume, .close = wire_close};

static struct board b;
static struct device *dev;
static struct driver d;
static gpa tx_header, tx_frame;
static const uint8_t mac[6] = {0x52, 0x54, 0, 1, 2, 3};

static void start(struct net_port *port, uint64_t features) {
    struct virtio_net_config config = {.port = port};

    memcpy(config.mac, mac, 6);
    test_board_init(&b, RAM);
    dev = board_add(&b, "virtio_net", no_config ? no_config : &config, DEVFN);
    driver_start(&d, &b, DEVFN, features, 2, true);
    tx_header = board_alloc(&b, HEADER, 16);
    tx_frame = board_alloc(&b, NET_FRAME_MAX + 16, 16);
}

static void stop(void) {
    test_board_done(&b);
    device_free(dev);
}

static int make(void **state) {
    wire =
        (struct wire){.port = {.ops = &wire_ops, .mtu = 65520, .big_tcp = true, .checked = true}};
    start(&wire.port, F_CSUM | F_GUEST_CSUM | F_MTU | F_MAC | F_HOST_TSO4 | F_MRG_RXBUF | F_STATUS |
                          VIRTIO_F_INDIRECT_DESC);
    return 0;
}

static int drop(void **state) {
    stop();
    return 0;
}

static void restart(uint64_t features) {
    stop();
    start(&wire.port, features);
}

static void random_bytes(uint8_t *p, size_t n, struct rng *r) {
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(rng_next(r) >> 40);
}

/* ------------------------------------------------------------------ sending */

static void put_header(uint8_t flags, uint8_t gso, uint16_t start_at, uint16_t offset) {
    uint8_t h[HEADER] = {flags, gso};

    store_le16(h + 6, start_at);
    store_le16(h + 8, offset);
    mem_write(&b.mem, tx_header, h, HEADER);
}

static void add_tx(size_t len) {
    const struct driver_buf bufs[2] = {{tx_header, HEADER, false},
                                       {tx_frame, (uint32_t)len, false}};

    driver_add(&d, TX, bufs, 2);
}

/* Sends and checks that the chain came back; true if the frame went out. */
static bool send_frame(size_t len) {
    unsigned before = wire.sent;
    uint16_t head;
    uint32_t used;

    add_tx(len);
    driver_kick(&d, TX);
    assert_true(driver_used(&d, TX, &head, &used));
    assert_int_equal(used, 0);
    return wire.sent == before + 1;
}

static uint8_t *frame_ptr(void) { return mem_ptr(&b.mem, tx_frame, NET_FRAME_MAX, true); }

static void its_configuration_tells_address_link_and_mtu(void **state) {
    uint8_t got[6];

    for (unsigned i = 0; i < 6; i++)
        got[i] = (uint8_t)driver_config(&d, i, 1);
    assert_memory_equal(got, mac, 6);
    assert_int_equal(driver_config(&d, 6, 2), 1);
    assert_int_equal(driver_config(&d, 8, 2), 1);
    assert_int_equal(driver_config(&d, 10, 2), 65520);
    assert_int_equal(wire.port.guest_mtu, 65520);
    restart(F_MAC);
    assert_int_equal(wire.port.guest_mtu, 0);
    assert_int_equal(pci_config_read(b.bus, DEVFN, PCI_DEVICE, 2), 0x1041);
}

static void frames_leave_without_their_header_however_they_are_cut(void **state) {
    struct rng r = rng_seed(8);
    uint8_t whole[HEADER + 3000] = {0};
    gpa at = board_alloc(&b, sizeof(whole), 16);

    for (int round = 0; round < 300; round++) {
        size_t len = 14 + rng_below(&r, 2900), left = HEADER + len;
        struct driver_buf bufs[12];
        unsigned n = 0;
        uint16_t head;
        uint32_t used;

        random_bytes(whole + HEADER, len, &r);
        mem_write(&b.mem, at, whole, HEADER + len);
        for (gpa p = at; left; n++) {
            uint32_t part = n < 11 ? 1 + (uint32_t)rng_below(&r, left) : (uint32_t)left;

            bufs[n] = (struct driver_buf){p, part, false};
            p += part;
            left -= part;
        }
        driver_add(&d, TX, bufs, n);
        driver_kick(&d, TX);
        assert_true(driver_used(&d, TX, &head, &used));
        assert_int_equal(wire.last_len, len);
        assert_memory_equal(wire.last, whole + HEADER, len);
    }
    assert_int_equal(wire.sent, 300);
}

static void a_burst_is_flushed_and_interrupts_once(void **state) {
    unsigned before = b.msi_count;

    put_header(0, 0, 0, 0);
    for (int i = 0; i < 20; i++)
        add_tx(60);
    driver_kick(&d, TX);
    assert_int_equal(wire.sent, 20);
    assert_int_equal(wire.flushes, 1);
    assert_int_equal(b.msi_count, before + 1);
}

static void checksums_left_to_the_device_are_completed(void **state) {
    struct rng r = rng_seed(77);

    for (int round = 0; round < 2000; round++) {
        size_t len = 60 + rng_below(&r, round % 10 ? 1500 : 60000), at = rng_below(&r, len - 2);
        size_t field = rng_below(&r, len - at - 1);
        uint8_t *f = frame_ptr(), want[2];
        uint16_t sum;

        random_bytes(f, len, &r);
        sum = guest_checksum(0, f + at, len - at);
        store_be16(want, sum ? sum : 0xffff);
        put_header(NEEDS_CSUM, 0, (uint16_t)at, (uint16_t)field);
        assert_true(send_frame(len));
        assert_memory_equal(wire.last + at + field, want, 2);
        assert_memory_equal(wire.last, f, at + field);
        assert_memory_equal(wire.last + at + field + 2, f + at + field + 2, len - at - field - 2);
    }
}

static void a_checksum_of_zero_is_sent_as_ffff(void **state) {
    uint8_t *f = frame_ptr();

    memset(f, 0, 60);
    store_be16(f + 50, 0xffff); /* the sum of the rest is ffff, its complement 0 */
    put_header(NEEDS_CSUM, 0, 34, 6);
    assert_true(send_frame(60));
    assert_int_equal(load_be16(wire.last + 40), 0xffff);
}

static void malformed_frames_are_dropped_and_given_back(void **state) {
    uint8_t *f = frame_ptr();

    memset(f, 0, 2000);
    put_header(0, 0, 0, 0);
    assert_false(send_frame(13));
    assert_false(send_frame(NET_FRAME_MAX + 1));
    assert_true(send_frame(NET_FRAME_MAX - 2));
    put_header(NEEDS_CSUM, 0, 59, 0);
    assert_false(send_frame(60));
    put_header(NEEDS_CSUM, 0, 60, 0);
    assert_false(send_frame(60));
    put_header(NEEDS_CSUM, 0, 0xffff, 0xffff);
    assert_false(send_frame(60));
    put_header(NEEDS_CSUM, 0, 0, 58);
    assert_true(send_frame(60));
    put_header(0, 3, 0, 0); /* UDP fragmentation was not offered */
    assert_false(send_frame(60));
    put_header(0, 4, 0, 0); /* offered, not negotiated */
    assert_false(send_frame(60));
    put_header(0, 0x80, 0, 0);
    assert_false(send_frame(60));
    assert_false(driver_status(&d) & NEEDS_RESET);
    restart(F_MAC);
    put_header(NEEDS_CSUM, 0, 20, 0);
    assert_false(send_frame(60));
    put_header(0, TCPV4, 0, 0);
    assert_false(send_frame(60));
    put_header(0, 0, 0, 0);
    assert_true(send_frame(60));
}

static void a_header_alone_and_a_short_header_are_survived(void **state) {
    const struct driver_buf bufs[] = {
        {tx_header, HEADER, false}, {tx_header, 5, false}, {tx_frame, 100, true}};
    uint16_t head;
    uint32_t used;

    for (unsigned i = 0; i < 3; i++) {
        driver_add(&d, TX, &bufs[i], 1);
        driver_kick(&d, TX);
        assert_true(driver_used(&d, TX, &head, &used));
    }
    assert_int_equal(wire.sent, 0);
    put_header(0, 0, 0, 0);
    assert_true(send_frame(60));
}

static void large_tcp_segments_pass_when_negotiated(void **state) {
    random_bytes(frame_ptr(), 64000, &(struct rng){5});
    put_header(0, TCPV4, 0, 0);
    assert_true(send_frame(64000));
    assert_int_equal(wire.last_len, 64000);
}

static void a_port_that_takes_no_large_segments_offers_none(void **state) {
    wire.port.big_tcp = false;
    wire.port.mtu = 0;
    restart(F_MAC);
    assert_false(driver_offered(&d) & (F_HOST_TSO4 | F_MTU));
    put_header(0, 0, 0, 0);
    assert_true(send_frame(1518)); /* with a VLAN tag */
    assert_false(send_frame(1519));
}

/* ------------------------------------------------------------------ receiving */

static gpa add_rx(uint32_t len) {
    gpa at = board_alloc(&b, len, 16);
    const struct driver_buf buf = {at, len, true};

    memset(mem_ptr(&b.mem, at, len, true), 0xaa, len);
    driver_add(&d, RX, &buf, 1);
    return at;
}

static bool deliver(const uint8_t *f, size_t len) {
    return wire.port.receive(wire.port.opaque, f, len);
}

static void a_frame_arrives_with_a_header(void **state) {
    uint8_t f[100];
    gpa at = add_rx(2000);
    const uint8_t *got = mem_ptr(&b.mem, at, 2000, false);
    unsigned before = b.msi_count;
    uint16_t head;
    uint32_t used;

    random_bytes(f, sizeof(f), &(struct rng){9});
    assert_true(deliver(f, sizeof(f)));
    assert_int_equal(b.msi_count, before);
    wire.port.received(wire.port.opaque);
    assert_int_equal(b.msi_count, before + 1);
    wire.port.received(wire.port.opaque); /* nothing new */
    assert_int_equal(b.msi_count, before + 1);
    assert_true(driver_used(&d, RX, &head, &used));
    assert_int_equal(used, HEADER + sizeof(f));
    assert_int_equal(got[0], DATA_VALID);
    assert_int_equal(load_le16(got + 10), 1);
    assert_memory_equal(got + HEADER, f, sizeof(f));
    assert_int_equal(got[HEADER + sizeof(f)], 0xaa);
}

static void a_driver_that_knows_no_checksum_flag_sees_none(void **state) {
    uint8_t f[60] = {0};
    gpa at;

    restart(F_MAC);
    at = add_rx(2000);
    assert_true(deliver(f, sizeof(f)));
    assert_int_equal(*(uint8_t *)mem_ptr(&b.mem, at, 1, false), 0);
    assert_int_equal(board_load16(&b, at + 10), 1);
}

static void a_large_frame_takes_several_buffers_that_appear_together(void **state) {
    enum { LEN = 30000, BUFFER = 1536, COUNT = (HEADER + LEN + BUFFER - 1) / BUFFER };
    static uint8_t f[LEN], back[LEN];
    gpa at[COUNT + 1];
    uint16_t head;
    uint32_t used;
    size_t got = 0;

    random_bytes(f, LEN, &(struct rng){10});
    for (unsigned i = 0; i < COUNT - 1; i++)
        at[i] = add_rx(BUFFER);
    assert_false(deliver(f, LEN)); /* one too few */
    assert_int_equal(board_load16(&b, d.q[RX].used + 2), 0);
    at[COUNT - 1] = add_rx(BUFFER);
    at[COUNT] = add_rx(BUFFER);
    driver_kick(&d, RX);
    assert_int_equal(wire.resumes, 1);
    assert_true(deliver(f, LEN));
    for (unsigned i = 0; i < COUNT; i++) {
        size_t skip = i ? 0 : HEADER;

        assert_true(driver_used(&d, RX, &head, &used));
        memcpy(back + got, mem_ptr(&b.mem, at[i] + skip, used - skip, false), used - skip);
        got += used - skip;
    }
    assert_false(driver_used(&d, RX, &head, &used));
    assert_int_equal(board_load16(&b, at[0] + 10), COUNT);
    assert_int_equal(got, LEN);
    assert_memory_equal(back, f, LEN);
    assert_true(deliver(f, 60)); /* the one that is left */
}

static void a_guest_without_room_is_asked_to_kick_only_then(void **state) {
    uint8_t f[60] = {0};

    add_rx(2000);
    driver_kick(&d, RX);
    assert_int_equal(board_load16(&b, d.q[RX].used), 1); /* no kicks, please */
    assert_true(deliver(f, sizeof(f)));
    assert_int_equal(board_load16(&b, d.q[RX].used), 1);
    assert_false(deliver(f, sizeof(f)));
    assert_int_equal(board_load16(&b, d.q[RX].used), 0);
    add_rx(2000);
    driver_kick(&d, RX);
    assert_int_equal(wire.resumes, 2);
    assert_true(deliver(f, sizeof(f)));
}

static void a_paused_machine_takes_no_frame_and_loses_none(void **state) {
    uint8_t f[60] = {0};

    add_rx(2000);
    clock_pause(b.clock);
    assert_false(deliver(f, sizeof(f)));
    assert_int_equal(board_load16(&b, d.q[RX].used + 2), 0); /* its index */
    clock_start(b.clock);
    assert_true(deliver(f, sizeof(f)));
    assert_int_equal(board_load16(&b, d.q[RX].used + 2), 1);
}

static void a_frame_too_large_for_the_driver_is_dropped(void **state) {
    static uint8_t f[NET_FRAME_MAX];

    restart(F_MAC);
    add_rx(1526);
    assert_true(deliver(f, 1515)); /* taken, and gone */
    assert_int_equal(board_load16(&b, d.q[RX].used + 2), 0);
    assert_true(deliver(f, 1514));
    assert_int_equal(board_load16(&b, d.q[RX].used + 2), 1);
    assert_true(deliver(f, 13));
    assert_int_equal(board_load16(&b, d.q[RX].used + 2), 1);
    assert_false(driver_status(&d) & NEEDS_RESET);
}

static void a_frame_larger_than_the_whole_queue_is_dropped(void **state) {
    static uint8_t f[NET_FRAME_MAX];

    assert_true(driver_negotiate(&d, F_MRG_RXBUF | F_MTU | VIRTIO_F_VERSION_1));
    driver_queue(&d, RX, 4);
    driver_queue(&d, TX, 4);
    driver_ready(&d);
    for (int i = 0; i < 4; i++)
        add_rx(1526);
    assert_true(deliver(f, 20000));
    assert_int_equal(board_load16(&b, d.q[RX].used + 2), 0);
    assert_true(deliver(f, 4000));
    assert_int_equal(board_load16(&b, d.q[RX].used + 2), 3);
    assert_false(driver_status(&d) & NEEDS_RESET);
}

static void a_buffer_smaller_than_promised_breaks_the_device(void **state) {
    uint8_t f[1000] = {0};

    restart(F_MAC);
    add_rx(500);
    assert_true(deliver(f, sizeof(f)));
    assert_true(driver_status(&d) & NEEDS_RESET);
    assert_true(deliver(f, sizeof(f))); /* dropped from now on */
    driver_start(&d, &b, DEVFN, F_MRG_RXBUF, 2, true);
    add_rx(11);
    assert_true(deliver(f, sizeof(f)));
    assert_true(driver_status(&d) & NEEDS_RESET);
}

static void a_device_that_is_not_ready_drops_frames(void **state) {
    uint8_t f[60] = {0};

    add_rx(2000);
    driver_write(&d, 0x14, 1, 0);
    assert_true(deliver(f, sizeof(f)));
    wire.port.received(wire.port.opaque);
    assert_int_equal(board_load16(&b, d.q[RX].used + 2), 0);
    assert_int_equal(wire.port.guest_mtu, 0);
}

static void many_frames_fill_many_buffers(void **state) {
    uint8_t f[600];
    struct rng r = rng_seed(4);
    uint16_t head;
    uint32_t used;

    random_bytes(f, sizeof(f), &r);
    for (int i = 0; i < 2000; i++) { /* round the ring eight times */
        size_t len = 14 + rng_below(&r, sizeof(f) - 14);
        gpa keep = b.next, at = add_rx(700);

        f[0] = (uint8_t)i;
        assert_true(deliver(f, len));
        assert_true(driver_used(&d, RX, &head, &used));
        assert_int_equal(used, HEADER + len);
        assert_memory_equal(mem_ptr(&b.mem, at + HEADER, len, false), f, len);
        b.next = keep;
    }
}

/* ------------------------------------------------------------------ all together */

static void without_a_port_the_link_is_down(void **state) {
    static const struct virtio_net_config none;

    stop();
    no_config = &none;
    start(NULL, F_STATUS);
    no_config = NULL;
    assert_int_equal(driver_config(&d, 6, 2), 0);
    put_header(0, 0, 0, 0);
    assert_false(send_frame(60));
}

/* ------------------------------------------------------------------ the cable */

static unsigned link_is_up(void) { return (unsigned)driver_config(&d, 6, 2) & 1; }

static void seconds(double s) { clock_step(dev->env.clock, (uint64_t)(s * 1e9)); }

static void a_cable_that_was_pulled_out_comes_back_once_the_driver_has_seen_it(void **state) {
    uint8_t frame[60] = {2};
    unsigned told = b.msi_count;

    virtio_net_replug(dev);
    assert_int_equal(b.msi_count, told + 1); /* to the vector of the configuration */
    seconds(5);                              /* nobody has looked */
    assert_false(link_is_up());
    seconds(4.5);
    assert_false(link_is_up()); /* to look again makes it no longer */
    told = b.msi_count;
    seconds(0.6);
    assert_int_equal(b.msi_count, told + 1);
    assert_true(link_is_up());
    add_rx(2000);
    assert_true(wire.port.receive(wire.port.opaque, frame, sizeof(frame)));
    wire.port.received(wire.port.opaque);
    assert_true(driver_used(&d, RX, &(uint16_t){0}, &(uint32_t){0}));
}

static void without_a_cable_no_frame_comes_or_goes(void **state) {
    uint8_t frame[60] = {2};
    uint16_t head;
    uint32_t used;

    add_rx(2000);
    put_header(0, 0, 0, 0);
    virtio_net_replug(dev);
    assert_false(send_frame(60));
    assert_true(wire.port.receive(wire.port.opaque, frame, sizeof(frame))); /* and is gone */
    assert_false(driver_used(&d, RX, &head, &used));
    seconds(11); /* a driver that never looks */
    assert_true(send_frame(60));
}

static void a_cable_that_is_out_is_saved_and_a_reset_puts_it_in(void **state) {
    struct buf saved = {0};
    struct error err = {0};

    virtio_net_replug(dev);
    assert_false(link_is_up());
    state_save(dev->cls->state, dev, &saved);
    device_reset(dev);
    assert_int_equal(state_load(dev->cls->state, dev, saved.data, saved.len, &err), 0);
    assert_false(link_is_up());
    seconds(5.1);
    assert_true(link_is_up());
    assert_int_equal(state_load(dev->cls->state, dev, saved.data, saved.len, &err), 0);
    device_reset(dev);
    driver_start(&d, &b, DEVFN, F_MAC | F_STATUS, 2, true);
    assert_true(link_is_up());
    buf_done(&saved);
}

static void a_guest_gets_its_address_from_the_user_mode_network(void **state) {
    struct loop *loop = loop_new(NULL, NULL);
    struct net_port *port = net_user_open(loop, NULL, 0, NULL);
    const uint8_t *got;
    struct packet p;
    uint16_t head;
    uint32_t used;
    gpa at;

    assert_non_null(port);
    stop();
    start(port, F_CSUM | F_GUEST_CSUM | F_MTU | F_MRG_RXBUF);
    at = add_rx(2000);
    put_header(0, 0, 0, 0);
    add_tx(guest_dhcp_discover(frame_ptr()));
    driver_kick(&d, TX);
    assert_true(driver_used(&d, TX, &head, &used));
    assert_true(driver_used(&d, RX, &head, &used)); /* the offer came within the kick */
    got = mem_ptr(&b.mem, at, used, false);
    assert_true(guest_parse(got + HEADER, used - HEADER, &p));
    assert_int_equal(p.dst_port, 68);
    assert_int_equal(load_be32(p.data + 16), GUEST_IP);
    stop();
    net_close(port);
    loop_free(loop);
    start(&wire.port, 0); /* for the teardown */
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, make, drop)
    const struct CMUnitTest tests[] = {
        T(its_configuration_tells_address_link_and_mtu),
        T(frames_leave_without_their_header_however_they_are_cut),
        T(a_burst_is_flushed_and_interrupts_once),
        T(checksums_left_to_the_device_are_completed),
        T(a_checksum_of_zero_is_sent_as_ffff),
        T(malformed_frames_are_dropped_and_given_back),
        T(a_header_alone_and_a_short_header_are_survived),
        T(large_tcp_segments_pass_when_negotiated),
        T(a_port_that_takes_no_large_segments_offers_none),
        T(a_frame_arrives_with_a_header),
        T(a_driver_that_knows_no_checksum_flag_sees_none),
        T(a_large_frame_takes_several_buffers_that_appear_together),
        T(a_guest_without_room_is_asked_to_kick_only_then),
        T(a_paused_machine_takes_no_frame_and_loses_none),
        T(a_frame_too_large_for_the_driver_is_dropped),
        T(a_frame_larger_than_the_whole_queue_is_dropped),
        T(a_buffer_smaller_than_promised_breaks_the_device),
        T(a_device_that_is_not_ready_drops_frames),
        T(many_frames_fill_many_buffers),
        T(without_a_port_the_link_is_down),
        T(a_cable_that_was_pulled_out_comes_back_once_the_driver_has_seen_it),
        T(without_a_cable_no_frame_comes_or_goes),
        T(a_cable_that_is_out_is_saved_and_a_reset_puts_it_in),
        T(a_guest_gets_its_address_from_the_user_mode_network),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
