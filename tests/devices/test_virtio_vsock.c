/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the vsock device: the test is the guest's driver and the host's side. */
#include "devices/virtio/virtio_vsock.h"

#include <string.h>

#include "base/bytes.h"
#include "devices/virtio_driver.h"
#include "support/test.h"

enum { DEVFN = 0x08, RX = 0, TX = 1, EVENT = 2, CID = 7, HOST = 2, HEADER = 44 };
enum { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };
enum { PORT = 80, GUEST_PORT = 5000, CREDIT = 64 << 10, RX_SIZE = 4096 };

static struct board b;
static struct device *dev;
static struct driver d;

/* The host's side of one connection. */
static struct {
    struct vsock_conn *conn;
    char in[1 << 18]; /* from the guest */
    size_t len, room;
    const char *out; /* for the guest; NULL: none now */
    bool ended, refuses, broken;
    unsigned connects, connected, finished, gone;
} host;

static void *host_connect(void *opaque, struct vsock_conn *c, uint32_t port) {
    host.connects++;
    assert_int_equal(port, PORT);
    host.conn = c;
    return host.refuses ? NULL : &host;
}

static void host_connected(void *end, uint32_t port) { host.connected++; }

static ssize_t host_write(void *end, const void *p, size_t n) {
    if (host.broken)
        return -1;
    n = n < host.room ? n : host.room;
    assert_true(host.len + n <= sizeof(host.in));
    memcpy(host.in + host.len, p, n);
    host.len += n;
    host.room -= n;
    return (ssize_t)n;
}

static ssize_t host_read(void *end, void *p, size_t n) {
    size_t left = host.out ? strlen(host.out) : 0;

    if (!left)
        return host.ended ? 0 : -1;
    n = n < left ? n : left;
    memcpy(p, host.out, n);
    host.out += n;
    return (ssize_t)n;
}

static void host_finished(void *end) { host.finished++; }

static void host_gone(void *end) { host.gone++; }

static const struct virtio_vsock_config config = {.cid = CID,
                                                  .host = {.connect = host_connect,
                                                           .connected = host_connected,
                                                           .write = host_write,
                                                           .read = host_read,
                                                           .finished = host_finished,
                                                           .gone = host_gone}};

/* ---- the driver ---- */

struct packet {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port, len, type, op, flags, buf_alloc, fwd_cnt;
    char data[RX_SIZE];
};

static gpa rx_page[256];
static uint16_t rx_given, rx_taken;

static void give_buffers(unsigned n) {
    for (; n; n--) {
        const struct driver_buf buf = {board_alloc(&b, RX_SIZE, 4096), RX_SIZE, true};

        rx_page[rx_given++ % 256] = buf.addr;
        driver_add(&d, RX, &buf, 1);
    }
    driver_kick(&d, RX);
}

/* The next packet for the guest. */
static bool receive(struct packet *p) {
    uint8_t h[HEADER];
    uint16_t head;
    uint32_t len;
    gpa at;

    if (!driver_used(&d, RX, &head, &len))
        return false;
    at = rx_page[rx_taken++ % 256];
    assert_true(len >= HEADER);
    mem_read(&b.mem, at, h, HEADER);
    memset(p, 0, sizeof(*p));
    p->src_cid = load_le64(h);
    p->dst_cid = load_le64(h + 8);
    p->src_port = load_le32(h + 16);
    p->dst_port = load_le32(h + 20);
    p->len = load_le32(h + 24);
    p->type = load_le16(h + 28);
    p->op = load_le16(h + 30);
    p->flags = load_le32(h + 32);
    p->buf_alloc = load_le32(h + 36);
    p->fwd_cnt = load_le32(h + 40);
    assert_int_equal(len, HEADER + p->len);
    mem_read(&b.mem, at + HEADER, p->data, p->len);
    assert_int_equal(p->src_cid, HOST);
    assert_int_equal(p->dst_cid, CID);
    return true;
}

static struct packet expect(unsigned op) {
    struct packet p;

    assert_true(receive(&p));
    assert_int_equal(p.op, op);
    assert_int_equal(p.type, 1);
    return p;
}

static void expect_nothing(void) {
    struct packet p;

    assert_false(receive(&p));
}

static struct packet packet(unsigned op) {
    return (struct packet){.src_cid = CID,
                           .dst_cid = HOST,
                           .src_port = GUEST_PORT,
                           .dst_port = PORT,
                           .type = 1,
                           .op = op,
                           .buf_alloc = 1 << 20};
}

static void send_packet(const struct packet *p, const char *data) {
    uint8_t h[HEADER];
    gpa at = board_alloc(&b, HEADER + p->len + 1, 8);
    struct driver_buf buf[2] = {{at, HEADER, false}, {at + HEADER, p->len, false}};

    store_le64(h, p->src_cid);
    store_le64(h + 8, p->dst_cid);
    store_le32(h + 16, p->src_port);
    store_le32(h + 20, p->dst_port);
    store_le32(h + 24, p->len);
    store_le16(h + 28, (uint16_t)p->type);
    store_le16(h + 30, (uint16_t)p->op);
    store_le32(h + 32, p->flags);
    store_le32(h + 36, p->buf_alloc);
    store_le32(h + 40, p->fwd_cnt);
    mem_write(&b.mem, at, h, HEADER);
    if (data)
        mem_write(&b.mem, at + HEADER, data, p->len);
    driver_add(&d, TX, buf, p->len ? 2 : 1);
    driver_kick(&d, TX);
}

static void say(unsigned op, unsigned flags) {
    struct packet p = packet(op);

    p.flags = flags;
    send_packet(&p, NULL);
}

static void send_text(const char *text) {
    struct packet p = packet(RW);

    p.len = (uint32_t)strlen(text);
    send_packet(&p, text);
}

static int make(void **state) {
    memset(&host, 0, sizeof(host));
    host.room = SIZE_MAX;
    rx_given = rx_taken = 0;
    test_board_init(&b, 8 << 20);
    dev = board_add(&b, "virtio_vsock", &config, DEVFN);
    driver_start(&d, &b, DEVFN, VIRTIO_F_INDIRECT_DESC, 3, true);
    give_buffers(16);
    return 0;
}

static int drop(void **state) {
    test_board_done(&b);
    device_free(dev);
    return 0;
}

static void open_from_guest(void) {
    say(REQUEST, 0);
    expect(RESPONSE);
}

/* ---- the tests ---- */

static void the_guest_learns_its_address(void **state) {
    assert_int_equal(driver_config(&d, 0, 4), CID);
    assert_int_equal(driver_config(&d, 4, 4), 0);
}

static void bytes_go_both_ways_on_a_connection_of_the_guests(void **state) {
    struct packet p;

    say(REQUEST, 0);
    p = expect(RESPONSE);
    assert_int_equal(p.src_port, PORT);
    assert_int_equal(p.dst_port, GUEST_PORT);
    assert_int_equal(p.buf_alloc, CREDIT);
    send_text("question");
    assert_int_equal(host.len, 8);
    assert_memory_equal(host.in, "question", 8);
    host.out = "answer";
    virtio_vsock_readable(host.conn);
    p = expect(RW);
    assert_int_equal(p.len, 6);
    assert_string_equal(p.data, "answer");
    assert_int_equal(p.fwd_cnt, 8); /* told along the way */
    expect_nothing();
}

static void what_the_host_refuses_is_reset(void **state) {
    host.refuses = true;
    say(REQUEST, 0);
    expect(RST);
    assert_int_equal(host.connects, 1);
    send_text("to nobody");
    expect(RST);
    say(RST, 0); /* a reset is not answered */
    expect_nothing();
}

static void other_types_and_addresses_reach_nobody(void **state) {
    struct packet p = packet(REQUEST);

    p.type = 2;
    send_packet(&p, NULL);
    assert_true(receive(&p));
    assert_int_equal(p.op, RST);
    assert_int_equal(p.type, 2);
    p = packet(REQUEST);
    p.dst_cid = 5;
    send_packet(&p, NULL);
    p = packet(REQUEST);
    p.src_cid = 9;
    send_packet(&p, NULL);
    expect_nothing();
    assert_int_equal(host.connects, 0);
}

static void the_host_reaches_a_port_of_the_guest(void **state) {
    struct packet p, answer;

    host.conn = virtio_vsock_connect(dev, &host, 22);
    assert_non_null(host.conn);
    p = expect(REQUEST);
    assert_int_equal(p.dst_port, 22);
    assert_int_equal(host.connected, 0);
    host.out = "early";
    virtio_vsock_readable(host.conn);
    expect_nothing(); /* before the guest has answered */
    answer = packet(RESPONSE);
    answer.src_port = 22;
    answer.dst_port = p.src_port;
    send_packet(&answer, NULL);
    assert_int_equal(host.connected, 1);
    assert_string_equal(expect(RW).data, "early");
    answer.op = RST;
    send_packet(&answer, NULL);
    assert_int_equal(host.gone, 1);
}

static void a_guest_that_refuses_ends_the_connection(void **state) {
    struct packet p, answer = packet(RST);

    host.conn = virtio_vsock_connect(dev, &host, 22);
    p = expect(REQUEST);
    answer.src_port = 22;
    answer.dst_port = p.src_port;
    send_packet(&answer, NULL);
    assert_int_equal(host.gone, 1);
    assert_int_equal(host.connected, 0);
}

static void bytes_that_the_host_does_not_take_wait(void **state) {
    open_from_guest();
    host.room = 3;
    send_text("abcdef");
    send_text("gh");
    assert_int_equal(host.len, 3);
    host.room = 100;
    virtio_vsock_writable(host.conn);
    assert_int_equal(host.len, 8);
    assert_memory_equal(host.in, "abcdefgh", 8);
}

static void who_exceeds_the_credit_is_cut_off(void **state) {
    static char text[16385];

    memset(text, 'x', 16384);
    open_from_guest();
    host.room = 0;
    for (unsigned i = 0; i < 4; i++)
        send_text(text);
    assert_int_equal(host.gone, 0);
    send_text("y");
    expect(RST);
    assert_int_equal(host.gone, 1);
    send_text("z"); /* there is nothing any more */
    expect(RST);
}

static void credit_comes_back_when_the_host_has_taken_half(void **state) {
    static char text[16385];
    struct packet p;

    memset(text, 'x', 16384);
    open_from_guest();
    host.room = 0;
    for (unsigned i = 0; i < 4; i++)
        send_text(text);
    expect_nothing();
    host.room = 40000;
    virtio_vsock_writable(host.conn);
    p = expect(CREDIT_UPDATE);
    assert_int_equal(p.fwd_cnt, 40000);
    say(CREDIT_REQUEST, 0);
    expect(CREDIT_UPDATE);
    host.room = SIZE_MAX;
    virtio_vsock_writable(host.conn); /* around the end of the buffer */
    send_text("end");
    assert_int_equal(host.len, 65536 + 3);
    assert_memory_equal(host.in + 65536, "end", 3);
}

static void the_guests_credit_is_respected(void **state) {
    struct packet p = packet(REQUEST);

    p.buf_alloc = 4;
    send_packet(&p, NULL);
    expect(RESPONSE);
    host.out = "abcdefgh";
    virtio_vsock_readable(host.conn);
    p = expect(RW);
    assert_string_equal(p.data, "abcd");
    expect(CREDIT_REQUEST); /* once */
    virtio_vsock_readable(host.conn);
    expect_nothing();
    p = packet(CREDIT_UPDATE);
    p.buf_alloc = 4;
    p.fwd_cnt = 3;
    send_packet(&p, NULL);
    assert_string_equal(expect(RW).data, "efg");
    p.fwd_cnt = 700; /* more than was ever sent: no credit, and no harm */
    send_packet(&p, NULL);
    expect(CREDIT_REQUEST);
    expect_nothing();
}

static void either_side_may_end_first(void **state) {
    struct packet p;

    open_from_guest();
    host.ended = true;
    virtio_vsock_readable(host.conn);
    p = expect(SHUTDOWN);
    assert_int_equal(p.flags, 2);
    send_text("still here");
    assert_int_equal(host.len, 10);
    say(SHUTDOWN, 2);
    assert_int_equal(host.finished, 1);
    assert_int_equal(host.gone, 0);
    say(SHUTDOWN, 3);
    expect(RST);
    assert_int_equal(host.gone, 1);
}

static void what_a_closing_guest_sent_is_written_out(void **state) {
    open_from_guest();
    host.room = 2;
    send_text("abcdef");
    say(SHUTDOWN, 3);
    expect(RST); /* the guest need not wait for it */
    assert_int_equal(host.gone, 0);
    say(REQUEST, 0); /* the same ports again, meanwhile */
    expect(RESPONSE);
    assert_int_equal(host.connects, 2);
}

static void a_lingering_connection_ends_with_its_buffer(void **state) {
    struct vsock_conn *c;

    open_from_guest();
    c = host.conn;
    host.room = 2;
    send_text("abcdef");
    say(SHUTDOWN, 3);
    expect(RST);
    host.room = 100;
    virtio_vsock_writable(c);
    assert_int_equal(host.len, 6);
    assert_int_equal(host.finished, 1);
    assert_int_equal(host.gone, 1);
}

static void a_host_that_is_gone_resets(void **state) {
    open_from_guest();
    host.broken = true;
    send_text("x");
    expect(RST);
    assert_int_equal(host.gone, 1);
    host.broken = false;
    open_from_guest();
    virtio_vsock_drop(host.conn);
    expect(RST);
    assert_int_equal(host.gone, 1);
}

static void resets_wait_for_buffers_and_hold_the_guest_back(void **state) {
    unsigned resets = 0, taken = 0;
    struct packet p;
    uint16_t head;
    uint32_t len;

    host.refuses = true;
    for (unsigned i = 0; i < 100; i++)
        say(REQUEST, 0);
    while (driver_used(&d, TX, &head, &len))
        taken++;
    assert_int_equal(taken, 16 + 64); /* went out, and wait */
    for (unsigned i = 0; i < 10; i++) {
        give_buffers(16);
        clock_step(b.clock, 1000000);
        while (receive(&p)) {
            assert_int_equal(p.op, RST);
            resets++;
        }
    }
    assert_int_equal(resets, 100);
}

static void broken_packets_are_dropped(void **state) {
    struct packet p = packet(RW);
    struct driver_buf small = {board_alloc(&b, 64, 8), 20, false};

    driver_add(&d, TX, &small, 1);
    driver_kick(&d, TX);
    p.len = 0;
    open_from_guest();
    p.op = 99;
    send_packet(&p, NULL);
    expect(RST);
    assert_int_equal(host.gone, 1);
}

static void a_load_ends_connections_and_says_so(void **state) {
    const struct driver_buf event = {board_alloc(&b, 8, 8), 8, true};
    struct buf saved = {0};
    uint16_t head;
    uint32_t len;

    open_from_guest();
    driver_add(&d, EVENT, &event, 1);
    driver_kick(&d, EVENT);
    assert_false(driver_used(&d, EVENT, &head, &len));
    state_save(dev->cls->state, dev, &saved);
    assert_int_equal(state_load(dev->cls->state, dev, saved.data, saved.len, NULL), 0);
    assert_int_equal(host.gone, 1);
    clock_step(b.clock, 1000000);
    assert_true(driver_used(&d, EVENT, &head, &len));
    assert_int_equal(len, 4);
    assert_int_equal(board_load32(&b, event.addr), 0);
    send_text("x"); /* as if it did not know yet */
    expect(RST);
    buf_done(&saved);
}

static void without_a_driver_nobody_connects(void **state) {
    driver_write(&d, 0x14, 1, 0);
    assert_null(virtio_vsock_connect(dev, &host, 22));
}

static void a_reset_ends_connections(void **state) {
    open_from_guest();
    driver_write(&d, 0x14, 1, 0);
    assert_int_equal(host.gone, 1);
}

static void there_is_an_end_to_connections(void **state) {
    struct packet p = packet(REQUEST);
    unsigned opened = 0;

    for (unsigned i = 0; i < 600; i++) {
        p.src_port = 10000 + i;
        send_packet(&p, NULL);
        give_buffers(1);
        struct packet answer;

        while (receive(&answer))
            opened += answer.op == RESPONSE;
    }
    assert_int_equal(opened, 512);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, make, drop)
    const struct CMUnitTest tests[] = {
        T(the_guest_learns_its_address),
        T(bytes_go_both_ways_on_a_connection_of_the_guests),
        T(what_the_host_refuses_is_reset),
        T(other_types_and_addresses_reach_nobody),
        T(the_host_reaches_a_port_of_the_guest),
        T(a_guest_that_refuses_ends_the_connection),
        T(bytes_that_the_host_does_not_take_wait),
        T(who_exceeds_the_credit_is_cut_off),
        T(credit_comes_back_when_the_host_has_taken_half),
        T(the_guests_credit_is_respected),
        T(either_side_may_end_first),
        T(what_a_closing_guest_sent_is_written_out),
        T(a_lingering_connection_ends_with_its_buffer),
        T(a_host_that_is_gone_resets),
        T(resets_wait_for_buffers_and_hold_the_guest_back),
        T(broken_packets_are_dropped),
        T(a_load_ends_connections_and_says_so),
        T(without_a_driver_nobody_connects),
        T(a_reset_ends_connections),
        T(there_is_an_end_to_connections),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
