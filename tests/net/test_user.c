/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of user-mode NAT: a tiny guest stack on one side, real loopback sockets on the other. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "net/guest.h"
#include "net/net.h"
#include "support/test.h"

enum { INBOX = 4096 };

static struct loop *loop;
static struct net_port *port;
static uint8_t frame[GUEST_FRAME_MAX];

static struct { /* frames that the guest has received and not yet looked at */
    struct {
        uint8_t *data;
        size_t len;
    } frame[INBOX];
    unsigned first, count;
    bool full; /* the guest takes nothing */
    bool sending;
    unsigned bursts;
} inbox;

static bool receive(void *opaque, const uint8_t *data, size_t len) {
    unsigned i = (inbox.first + inbox.count) % INBOX;

    assert_false(inbox.sending); /* never from inside net_send */
    if (inbox.full || inbox.count == INBOX)
        return false;
    inbox.frame[i].data = malloc(len);
    memcpy(inbox.frame[i].data, data, len);
    inbox.frame[i].len = len;
    inbox.count++;
    return true;
}

static void received(void *opaque) { inbox.bursts++; }

static void empty_inbox(void) {
    for (; inbox.count; inbox.count--, inbox.first = (inbox.first + 1) % INBOX)
        free(inbox.frame[inbox.first].data);
}

static void send_only(size_t len) {
    struct iovec iov[2] = {{frame, len / 3}, {frame + len / 3, len - len / 3}};

    inbox.sending = true;
    net_send(port, iov, 2);
    inbox.sending = false;
}

static void send_frame(size_t len) {
    send_only(len);
    net_flush(port);
}

static void open_port(const struct net_forward *f, unsigned count) {
    struct error err = {0};

    port = net_user_open(loop, f, count, &err);
    if (!port)
        fail_msg("%s", err.text);
    port->receive = receive;
    port->received = received;
    send_frame(guest_arp(frame, GATEWAY_IP)); /* libslirp learns where the guest is */
    empty_inbox();
}

static int make(void **state) {
    loop = loop_new(NULL, NULL);
    memset(&inbox, 0, sizeof(inbox));
    return loop ? 0 : -1;
}

static int unmake(void **state) {
    empty_inbox();
    net_close(port);
    port = NULL;
    loop_free(loop);
    return 0;
}

/* The next frame of the protocol for the guest's port (0: any), looked for up to 10 s. Valid until
 * the next call. */
static bool next_packet(uint8_t proto, uint16_t to, struct packet *p) {
    static uint8_t copy[GUEST_FRAME_MAX];
    time_t end = time(NULL) + 10;

    while (time(NULL) <= end) {
        for (; inbox.count; inbox.count--) {
            size_t len = inbox.frame[inbox.first].len;

            memcpy(copy, inbox.frame[inbox.first].data, len);
            free(inbox.frame[inbox.first].data);
            inbox.first = (inbox.first + 1) % INBOX;
            if (guest_parse(copy, len, p) && p->proto == proto && (!to || p->dst_port == to)) {
                inbox.count--;
                return true;
            }
        }
        loop_step(loop, 100);
    }
    return false;
}

/* ------------------------------------------------------------------ host side */

static int host_socket(int type, uint16_t *ret_port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    if (type == SOCK_STREAM)
        assert_int_equal(listen(fd, 5), 0);
    getsockname(fd, (struct sockaddr *)&a, &len);
    *ret_port = ntohs(a.sin_port);
    return fd;
}

static uint16_t free_port(int type) {
    uint16_t number;

    close(host_socket(type, &number));
    return number;
}

static bool readable(int fd) {
    char c;

    for (int i = 0; i < 500; i++) {
        if (recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) >= 0)
            return true;
        loop_step(loop, 20);
    }
    return false;
}

static int accept_soon(int listener) {
    int fd = -1;

    fcntl(listener, F_SETFL, O_NONBLOCK);
    for (int i = 0; i < 500 && fd < 0; i++) {
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            loop_step(loop, 20);
    }
    assert_true(fd >= 0);
    return fd;
}

/* ------------------------------------------------------------------ a guest's TCP */

static void tcp_send(struct tcp *t, uint8_t flags, const void *data, size_t len) {
    send_frame(guest_tcp(frame, t, flags, data, len));
}

static void tcp_connect(struct tcp *t) {
    struct packet p;

    tcp_send(t, TCP_SYN, NULL, 0);
    assert_true(next_packet(PROTO_TCP, t->port, &p));
    assert_int_equal(p.flags, TCP_SYN | TCP_ACK);
    assert_int_equal(p.ack, t->seq);
    t->ack = p.seq + 1;
    tcp_send(t, TCP_ACK, NULL, 0);
}

struct feed { /* what the host has still to write while the guest receives */
    int fd;
    const uint8_t *data;
    size_t left;
};

static void feed_some(struct feed *f) {
    ssize_t n = f && f->left ? send(f->fd, f->data, f->left, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

    if (n <= 0)
        return;
    f->data += n;
    f->left -= (size_t)n;
}

/* Takes `want` bytes, acknowledging each segment; returns the largest segment. */
static size_t tcp_receive(struct tcp *t, uint8_t *ret, size_t want, struct feed *feed) {
    size_t got = 0, largest = 0;
    struct packet p;

    while (got < want) {
        feed_some(feed);
        if (!next_packet(PROTO_TCP, t->port, &p))
            fail_msg("only %zu of %zu bytes came", got, want);
        if (!p.len || p.seq != t->ack)
            continue;
        assert_true(p.len <= want - got);
        memcpy(ret + got, p.data, p.len);
        got += p.len;
        largest = p.len > largest ? p.len : largest;
        t->ack += (uint32_t)p.len;
        tcp_send(t, TCP_ACK, NULL, 0);
    }
    return largest;
}

/* Reads `want` bytes on the host's side. */
static void host_read(int fd, uint8_t *ret, size_t want) {
    size_t got = 0;

    while (got < want) {
        ssize_t n;

        assert_true(readable(fd));
        n = read(fd, ret + got, want - got);
        assert_true(n > 0);
        got += (size_t)n;
    }
}

static void fill(uint8_t *p, size_t n, uint64_t seed) {
    struct rng r = rng_seed(seed);

    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(rng_next(&r) >> 32);
}

/* ------------------------------------------------------------------ tests */

static void the_gateway_answers_arp(void **state) {
    struct packet p;

    open_port(NULL, 0);
    send_frame(guest_arp(frame, GATEWAY_IP));
    assert_int_equal(inbox.count, 1); /* within net_flush */
    assert_int_equal(inbox.bursts, 2);
    assert_true(next_packet(0, 0, &p));
    assert_int_equal(p.ethertype, 0x0806);
    assert_int_equal(load_be16(p.data + 6), 2);
    assert_int_equal(load_be32(p.data + 14), GATEWAY_IP);
    assert_memory_equal(p.data + 18, guest_mac, 6);
}

static void dhcp_offers_the_first_address(void **state) {
    struct packet p;

    open_port(NULL, 0);
    send_frame(guest_dhcp_discover(frame));
    assert_true(next_packet(PROTO_UDP, 68, &p));
    assert_int_equal(p.src, GATEWAY_IP);
    assert_true(p.len >= 240);
    assert_int_equal(p.data[0], 2);
    assert_int_equal(load_be32(p.data + 4), 0x12345678);
    assert_int_equal(load_be32(p.data + 16), GUEST_IP);
}

static void the_gateway_answers_pings(void **state) {
    struct packet p;

    open_port(NULL, 0);
    for (uint16_t i = 0; i < 50; i++) {
        send_frame(guest_ping(frame, GATEWAY_IP, i));
        assert_true(next_packet(PROTO_ICMP, 0, &p));
        assert_int_equal(p.data[0], 0);
        assert_int_equal(load_be16(p.data + 6), i);
    }
}

static void a_host_server_is_reached_at_the_gateway(void **state) {
    struct tcp t = {.port = 40000, .seq = 1000};
    int listener = host_socket(SOCK_STREAM, &t.peer_port), fd;
    char buf[64];
    uint8_t back[64];
    struct packet p;

    open_port(NULL, 0);
    tcp_connect(&t);
    fd = accept_soon(listener);
    tcp_send(&t, TCP_ACK | TCP_PSH, "hello host", 10);
    assert_true(readable(fd));
    assert_int_equal(read(fd, buf, sizeof(buf)), 10);
    assert_memory_equal(buf, "hello host", 10);
    assert_int_equal(write(fd, "hello guest", 11), 11);
    tcp_receive(&t, back, 11, NULL);
    assert_memory_equal(back, "hello guest", 11);
    close(fd);
    do
        assert_true(next_packet(PROTO_TCP, t.port, &p));
    while (!(p.flags & TCP_FIN));
    close(listener);
}

static void a_refused_connection_is_reset(void **state) {
    struct tcp t = {.port = 40001, .peer_port = free_port(SOCK_STREAM), .seq = 1};
    struct packet p;

    open_port(NULL, 0);
    tcp_send(&t, TCP_SYN, NULL, 0);
    assert_true(next_packet(PROTO_TCP, t.port, &p));
    assert_true(p.flags & TCP_RST);
}

static void udp_goes_both_ways(void **state) {
    uint16_t number;
    int fd = host_socket(SOCK_DGRAM, &number);
    struct sockaddr_in from;
    socklen_t len = sizeof(from);
    char buf[64];
    struct packet p;

    open_port(NULL, 0);
    for (int i = 0; i < 3; i++) {
        send_frame(guest_udp(frame, GATEWAY_IP, 5000, number, "ask", 3));
        assert_true(readable(fd));
        assert_int_equal(recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len), 3);
        assert_int_equal(sendto(fd, "answer", 6, 0, (struct sockaddr *)&from, len), 6);
        assert_true(next_packet(PROTO_UDP, 5000, &p));
        assert_int_equal(p.len, 6);
        assert_memory_equal(p.data, "answer", 6);
    }
    close(fd);
}

static size_t receive_much(uint16_t guest_mtu, uint16_t mss) {
    enum { SIZE = 2 << 20 };
    struct tcp t = {.port = 40002, .seq = 7, .mss = mss};
    int listener = host_socket(SOCK_STREAM, &t.peer_port);
    uint8_t *data = malloc(SIZE), *back = malloc(SIZE);
    struct feed feed = {.data = data, .left = SIZE};
    size_t largest;

    open_port(NULL, 0);
    port->guest_mtu = guest_mtu;
    fill(data, SIZE, mss);
    tcp_connect(&t);
    feed.fd = accept_soon(listener);
    largest = tcp_receive(&t, back, SIZE, &feed);
    assert_memory_equal(back, data, SIZE);
    assert_true(port->mtu > 60000);
    net_close(port);
    port = NULL;
    close(feed.fd);
    close(listener);
    free(data);
    free(back);
    return largest;
}

static void segments_to_the_guest_are_as_large_as_it_takes(void **state) {
    assert_in_range(receive_much(0, 1460), 1000, 1460);
    assert_in_range(receive_much(0, 9000), 1000, 1460);     /* the link takes less than the guest */
    assert_in_range(receive_much(65520, 1300), 1000, 1300); /* the other end of a tunnel, say */
    assert_in_range(receive_much(65520, 65480), 16000, 65480);
}

static void a_large_datagram_reaches_a_guest_with_a_small_mtu_in_fragments(void **state) {
    uint16_t number;
    int fd = host_socket(SOCK_DGRAM, &number);
    struct sockaddr_in from;
    socklen_t len = sizeof(from);
    static uint8_t big[9000], back[9100];
    size_t got = 0;
    char c;

    open_port(NULL, 0);
    fill(big, sizeof(big), 3);
    send_frame(guest_udp(frame, GATEWAY_IP, 5002, number, "x", 1));
    assert_true(readable(fd));
    recvfrom(fd, &c, 1, 0, (struct sockaddr *)&from, &len);
    assert_int_equal(sendto(fd, big, sizeof(big), 0, (struct sockaddr *)&from, len), sizeof(big));
    while (got < 8 + sizeof(big)) {
        const uint8_t *f;
        size_t n;

        while (!inbox.count)
            assert_true(loop_step(loop, 10000));
        f = inbox.frame[inbox.first].data;
        n = load_be16(f + 16) - 20u;
        assert_int_equal(load_be16(f + 12), 0x0800);
        assert_int_equal(guest_checksum(0, f + 14, 20), 0);
        assert_true(n + 20 <= 1500);
        assert_int_equal(load_be16(f + 20) & 0x1fff, got / 8);
        assert_int_equal(!(load_be16(f + 20) & 0x2000), got + n == 8 + sizeof(big));
        memcpy(back + got, f + 34, n);
        got += n;
        free(inbox.frame[inbox.first].data);
        inbox.first = (inbox.first + 1) % INBOX;
        inbox.count--;
    }
    assert_memory_equal(back + 8, big, sizeof(big));
    close(fd);
}

/* One piece of a datagram of `total` bytes of IP payload. */
static void send_fragment(const uint8_t *whole, size_t total, size_t at, size_t n) {
    uint8_t *h = frame + 14;
    size_t len = guest_ip(frame, PROTO_UDP, GATEWAY_IP, whole + at, n);

    store_be16(h + 4, 77);
    store_be16(h + 6, (uint16_t)((at / 8) | (at + n < total ? 0x2000 : 0)));
    store_be16(h + 10, 0);
    store_be16(h + 10, guest_checksum(0, h, 20));
    send_frame(len);
}

static void fragments_from_the_guest_arrive_as_one_datagram(void **state) {
    enum { SIZE = 5000 };
    static uint8_t data[SIZE], back[SIZE + 100], whole[SIZE + 8];
    uint16_t number;
    int fd = host_socket(SOCK_DGRAM, &number);

    open_port(NULL, 0);
    fill(data, SIZE, 11);
    guest_udp(frame, GATEWAY_IP, 5003, number, data, SIZE);
    memcpy(whole, frame + 34, sizeof(whole));
    send_fragment(whole, sizeof(whole), 1480, sizeof(whole) - 1480); /* a last one alone: nothing */
    for (int round = 0; round < 3; round++) {
        for (size_t at = 0; at < sizeof(whole); at += 1480)
            send_fragment(whole, sizeof(whole), at,
                          sizeof(whole) - at < 1480 ? sizeof(whole) - at : 1480);
        assert_true(readable(fd));
        assert_int_equal(recv(fd, back, sizeof(back), 0), SIZE);
        assert_memory_equal(back, data, SIZE);
    }
    close(fd);
}

static void segments_larger_than_the_mtu_reach_the_host(void **state) {
    enum { SEGMENT = 60000, COUNT = 20 };
    struct tcp t = {.port = 40003, .seq = 3};
    int listener = host_socket(SOCK_STREAM, &t.peer_port), fd;
    static uint8_t data[SEGMENT], back[SEGMENT];
    struct packet p;

    open_port(NULL, 0);
    assert_true(port->big_tcp);
    tcp_connect(&t);
    fd = accept_soon(listener);
    for (int i = 0; i < COUNT; i++) {
        fill(data, SEGMENT, (uint64_t)i);
        tcp_send(&t, TCP_ACK | TCP_PSH, data, SEGMENT);
        host_read(fd, back, SEGMENT);
        assert_memory_equal(back, data, SEGMENT);
        do
            assert_true(next_packet(PROTO_TCP, t.port, &p));
        while (p.ack != t.seq);
    }
    close(fd);
    close(listener);
}

static void frames_wait_in_order_for_a_guest_without_room(void **state) {
    enum { SIZE = 60000 };
    struct tcp t = {.port = 40004, .seq = 9};
    int listener = host_socket(SOCK_STREAM, &t.peer_port), fd;
    static uint8_t data[SIZE];
    uint32_t expected;
    size_t got = 0;
    struct packet p;

    open_port(NULL, 0);
    tcp_connect(&t);
    fd = accept_soon(listener);
    fill(data, SIZE, 5);
    inbox.full = true;
    assert_int_equal(write(fd, data, SIZE), SIZE);
    while (loop_step(loop, 50))
        ;
    assert_int_equal(inbox.count, 0);
    inbox.full = false;
    net_resume(port);
    assert_true(inbox.count > 0);
    expected = t.ack;
    while (inbox.count && next_packet(PROTO_TCP, t.port, &p)) {
        assert_int_equal(p.seq, expected);
        assert_memory_equal(p.data, data + got, p.len);
        expected += (uint32_t)p.len;
        got += p.len;
    }
    assert_true(got > 0);
    close(fd);
    close(listener);
}

static void a_flood_to_a_guest_without_room_is_bounded(void **state) {
    uint16_t number;
    int fd = host_socket(SOCK_DGRAM, &number);
    struct sockaddr_in from;
    socklen_t len = sizeof(from);
    static char big[1400];
    unsigned delivered;

    open_port(NULL, 0);
    send_frame(guest_udp(frame, GATEWAY_IP, 5001, number, "x", 1));
    assert_true(readable(fd));
    recvfrom(fd, big, sizeof(big), 0, (struct sockaddr *)&from, &len);
    inbox.full = true;
    for (int i = 0; i < 3000; i++) {
        sendto(fd, big, sizeof(big), 0, (struct sockaddr *)&from, len);
        loop_step(loop, 0);
    }
    inbox.full = false;
    net_resume(port);
    delivered = inbox.count;
    assert_in_range(delivered, 500, 1024);
    close(fd);
}

static void a_forwarded_port_reaches_the_guest(void **state) {
    struct net_forward f = {
        .host = "127.0.0.1", .host_port = free_port(SOCK_STREAM), .guest_port = 22};
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(f.host_port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct tcp t = {.port = 22, .seq = 500};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    uint8_t buf[16];
    struct packet p;

    open_port(&f, 1);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_true(next_packet(PROTO_TCP, 22, &p));
    assert_int_equal(p.flags, TCP_SYN);
    assert_int_equal(p.dst, GUEST_IP);
    assert_int_equal(p.src, GATEWAY_IP);
    t.peer_port = p.src_port;
    t.ack = p.seq + 1;
    tcp_send(&t, TCP_SYN | TCP_ACK, NULL, 0);
    assert_int_equal(write(fd, "login", 5), 5);
    tcp_receive(&t, buf, 5, NULL);
    assert_memory_equal(buf, "login", 5);
    tcp_send(&t, TCP_ACK | TCP_PSH, "welcome", 7);
    host_read(fd, buf, 7);
    assert_memory_equal(buf, "welcome", 7);
    close(fd);
}

static void a_forwarded_udp_port_reaches_the_guest(void **state) {
    struct net_forward f = {.udp = true, .host_port = free_port(SOCK_DGRAM), .guest_port = 53};
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(f.host_port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    uint8_t buf[16];
    struct packet p;

    open_port(&f, 1);
    assert_int_equal(sendto(fd, "query", 5, 0, (struct sockaddr *)&a, sizeof(a)), 5);
    assert_true(next_packet(PROTO_UDP, 53, &p));
    assert_memory_equal(p.data, "query", 5);
    send_frame(guest_udp(frame, p.src, 53, p.src_port, "reply", 5));
    host_read(fd, buf, 5);
    assert_memory_equal(buf, "reply", 5);
    close(fd);
}

static void expect_refusal(const struct net_forward *f, int code, const char *words) {
    struct error err = {0};

    assert_null(net_user_open(loop, f, 1, &err));
    assert_int_equal(err.code, code);
    if (!strstr(err.text, words))
        fail_msg("'%s' does not say '%s'", err.text, words);
}

static void forwards_that_cannot_be_are_refused_with_a_remedy(void **state) {
    struct net_forward f = {.host = "127.0.0.1", .guest_port = 22};
    int taken = host_socket(SOCK_STREAM, &f.host_port), udp;

    expect_refusal(&f, -EADDRINUSE, "choose another host port");
    close(taken);
    strcpy(f.host, "localhost");
    expect_refusal(&f, -EINVAL, "'localhost' is no IPv4 address");
    strcpy(f.host, "192.0.2.1"); /* TEST-NET: nobody's address */
    expect_refusal(&f, -EADDRNOTAVAIL, "an address of this host");
    strcpy(f.host, "127.0.0.1");
    f.guest_port = 0;
    expect_refusal(&f, -EINVAL, "ports are 1 to 65535");
    f.guest_port = 53;
    f.udp = true;
    udp = host_socket(SOCK_DGRAM, &f.host_port);
    expect_refusal(&f, -EADDRINUSE, "choose another host port");
    close(udp);
}

static void an_idle_network_wakes_nobody(void **state) {
    struct net_forward f = {.host_port = free_port(SOCK_STREAM), .guest_port = 22};
    struct packet p;

    open_port(&f, 1);
    send_frame(guest_ping(frame, GATEWAY_IP, 1));
    assert_true(next_packet(PROTO_ICMP, 0, &p));
    while (loop_step(loop, 600)) /* what is still armed from the start */
        ;
    assert_false(loop_step(loop, 1500));
}

static void a_peer_that_has_gone_does_not_kill_us(void **state) {
    struct tcp t = {.port = 40005, .seq = 9};
    int listener = host_socket(SOCK_STREAM, &t.peer_port), fd;
    struct linger hard = {1, 0};
    struct packet p;

    signal(SIGPIPE, SIG_DFL);
    open_port(NULL, 0);
    tcp_connect(&t);
    fd = accept_soon(listener);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(fd);
    close(listener);
    for (int i = 0; i < 5; i++)
        send_only(guest_tcp(frame, &t, TCP_ACK | TCP_PSH, "data", 4));
    net_flush(port);
    do
        assert_true(next_packet(PROTO_TCP, t.port, &p));
    while (!(p.flags & (TCP_RST | TCP_FIN)));
}

/* Valid frames with bytes turned over. Only the gateway is addressed, so nothing leaves this host.
 */
static void garbage_from_the_guest_is_survived(void **state) {
    struct tcp t = {.port = 40006, .seq = 1, .peer_port = free_port(SOCK_STREAM)};
    struct rng r = rng_seed(2024);
    struct packet p;

    open_port(NULL, 0);
    for (int i = 0; i < 20000; i++) {
        size_t len;

        switch (rng_below(&r, 4)) {
        case 0:
            len = guest_arp(frame, GATEWAY_IP);
            break;
        case 1:
            len = guest_dhcp_discover(frame);
            break;
        case 2:
            len = guest_ping(frame, GATEWAY_IP, 1);
            break;
        default:
            len = guest_tcp(frame, &t, (uint8_t)rng_next(&r), "abc", 3);
        }
        for (uint64_t n = rng_below(&r, 4); n; n--) {
            size_t at = rng_below(&r, len);

            if (at < 12 || at >= 34 || (at >= 14 && at < 26)) /* not the type, not the addresses */
                frame[at] = (uint8_t)rng_next(&r);
        }
        if (rng_next(&r) & 1 && len > 34)
            store_be16(frame + 24, 0), store_be16(frame + 24, guest_checksum(0, frame + 14, 20));
        send_only(rng_below(&r, 8) ? len : rng_below(&r, len));
        if (i % 16 == 0) {
            net_flush(port);
            loop_step(loop, 0);
            empty_inbox();
        }
    }
    net_flush(port);
    empty_inbox();
    send_frame(guest_ping(frame, GATEWAY_IP, 4242));
    do
        assert_true(next_packet(PROTO_ICMP, 0, &p));
    while (p.data[0] != 0 || load_be16(p.data + 6) != 4242);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, make, unmake)
        T(the_gateway_answers_arp),
        T(dhcp_offers_the_first_address),
        T(the_gateway_answers_pings),
        T(a_host_server_is_reached_at_the_gateway),
        T(a_refused_connection_is_reset),
        T(udp_goes_both_ways),
        T(segments_to_the_guest_are_as_large_as_it_takes),
        T(a_large_datagram_reaches_a_guest_with_a_small_mtu_in_fragments),
        T(fragments_from_the_guest_arrive_as_one_datagram),
        T(segments_larger_than_the_mtu_reach_the_host),
        T(frames_wait_in_order_for_a_guest_without_room),
        T(a_flood_to_a_guest_without_room_is_bounded),
        T(a_forwarded_port_reaches_the_guest),
        T(a_forwarded_udp_port_reaches_the_guest),
        T(forwards_that_cannot_be_are_refused_with_a_remedy),
        T(an_idle_network_wakes_nobody),
        T(a_peer_that_has_gone_does_not_kill_us),
        T(garbage_from_the_guest_is_survived),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
