/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of cutting frames for a guest: every piece is a right frame, together they are what came
 * in. */
#include "net/segment.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "net/guest.h"
#include "support/test.h"

enum { ETH = 14, PIECES = 1024 };

static struct segment *cutter;
static uint8_t frame[GUEST_FRAME_MAX], payload[GUEST_FRAME_MAX];

static struct { /* what segment_cut has emitted */
    unsigned count;
    struct {
        uint8_t *data;
        size_t len;
    } piece[PIECES];
} out;

static void keep(void *opaque, const uint8_t *data, size_t len) {
    assert_true(out.count < PIECES);
    out.piece[out.count].data = malloc(len);
    memcpy(out.piece[out.count].data, data, len);
    out.piece[out.count++].len = len;
}

static void forget(void) {
    while (out.count)
        free(out.piece[--out.count].data);
}

static int make(void **state) {
    struct rng r = rng_seed(12);

    cutter = calloc(1, sizeof(*cutter));
    for (size_t i = 0; i < sizeof(payload); i++)
        payload[i] = (uint8_t)(rng_next(&r) >> 24);
    return 0;
}

static int drop(void **state) {
    forget();
    free(cutter);
    return 0;
}

static void cut(size_t len, uint16_t mtu) {
    forget();
    segment_cut(cutter, frame, len, mtu, keep, NULL);
}

/* A segment from the peer to the guest: as guest_tcp makes one, with the ends changed over. */
static size_t from_peer(struct tcp *t, uint8_t flags, size_t len) {
    struct tcp peer = {.port = t->peer_port, .peer_port = t->port, .seq = t->ack, .ack = t->seq};
    size_t n = guest_tcp(frame, &peer, flags, payload, len);

    store_be32(frame + ETH + 12, GATEWAY_IP);
    store_be32(frame + ETH + 16, GUEST_IP);
    guest_fix(frame, n);
    return n;
}

static void connect_with_mss(struct tcp *t, uint16_t mss) {
    t->mss = mss;
    segment_learn(cutter, frame, guest_tcp(frame, t, TCP_SYN, NULL, 0));
}

/* Checks that the pieces are a TCP stream of `len` bytes from seq on, none larger than `most`. */
static void check_stream(uint32_t seq, size_t len, size_t most, uint8_t last_flags) {
    size_t got = 0;
    struct packet p;

    for (unsigned i = 0; i < out.count; i++) {
        bool last = i + 1 == out.count;

        assert_true(guest_parse(out.piece[i].data, out.piece[i].len, &p)); /* checksums too */
        assert_int_equal(p.proto, PROTO_TCP);
        assert_int_equal(p.seq, (uint32_t)(seq + got));
        assert_in_range(p.len, 1, most);
        assert_memory_equal(p.data, payload + got, p.len);
        assert_int_equal(p.flags, last ? last_flags : last_flags & ~(TCP_FIN | TCP_PSH));
        got += p.len;
    }
    assert_int_equal(got, len);
}

static void what_fits_passes_unchanged(void **state) {
    struct tcp t = {.port = 1000, .peer_port = 80};
    size_t len = from_peer(&t, TCP_ACK, 1460);

    cut(len, 1500);
    assert_int_equal(out.count, 1);
    assert_int_equal(out.piece[0].len, len);
    assert_memory_equal(out.piece[0].data, frame, len);
    len = guest_arp(frame, GUEST_IP);
    cut(len, 1500);
    assert_memory_equal(out.piece[0].data, frame, len);
}

static void large_segments_are_cut_to_the_mtu(void **state) {
    static const size_t lens[] = {1461, 2920, 2921, 32768, 60000};
    struct tcp t = {.port = 1000, .peer_port = 80, .ack = 0xfffffff0u}; /* the numbers wrap */

    for (unsigned i = 0; i < 5; i++) {
        cut(from_peer(&t, TCP_ACK | TCP_PSH | TCP_FIN, lens[i]), 1500);
        assert_int_equal(out.count, (lens[i] + 1459) / 1460);
        check_stream(t.ack, lens[i], 1460, TCP_ACK | TCP_PSH | TCP_FIN);
    }
}

static void large_segments_are_cut_to_what_the_connection_announced(void **state) {
    struct tcp a = {.port = 1000, .peer_port = 80}, c = {.port = 1001, .peer_port = 80};

    connect_with_mss(&a, 1200);
    connect_with_mss(&c, 65480);
    cut(from_peer(&a, TCP_ACK, 10000), 65520);
    check_stream(a.ack, 10000, 1200, TCP_ACK);
    assert_int_equal(out.count, 9);
    cut(from_peer(&c, TCP_ACK, 10000), 65520);
    assert_int_equal(out.count, 1);
    connect_with_mss(&a, 1300); /* the port is used again */
    cut(from_peer(&a, TCP_ACK, 10000), 65520);
    assert_int_equal(out.count, 8);
    connect_with_mss(&a, 1); /* absurd: not one frame a byte */
    cut(from_peer(&a, TCP_ACK, 10000), 65520);
    check_stream(a.ack, 10000, 64, TCP_ACK);
}

static void a_connection_that_announces_nothing_gets_the_default(void **state) {
    struct tcp t = {.port = 1000, .peer_port = 80};
    size_t len = guest_tcp(frame, &t, TCP_SYN, NULL, 0);

    memset(frame + 54, 1, 4); /* no options but padding */
    guest_fix(frame, len);
    segment_learn(cutter, frame, len);
    cut(from_peer(&t, TCP_ACK, 5360), 65520);
    assert_int_equal(out.count, 10);
    check_stream(t.ack, 5360, 536, TCP_ACK);
}

static void datagrams_are_cut_into_fragments(void **state) {
    static const size_t lens[] = {1473, 2960, 9000, 60000};

    for (unsigned i = 0; i < 4; i++) {
        size_t got = 0, total = lens[i] + 8;

        cut(guest_udp(frame, GUEST_IP, 53, 2000, payload, lens[i]), 1500);
        assert_true(out.count > 1);
        for (unsigned k = 0; k < out.count; k++) {
            const uint8_t *h = out.piece[k].data + ETH;
            size_t n = out.piece[k].len - ETH - 20;

            assert_int_equal(guest_checksum(0, h, 20), 0);
            assert_int_equal(load_be16(h + 2), n + 20);
            assert_true(n + 20 <= 1500);
            assert_int_equal((load_be16(h + 6) & 0x1fff) * 8u, got);
            assert_int_equal(!!(load_be16(h + 6) & 0x2000), k + 1 < out.count);
            assert_memory_equal(h + 20, frame + ETH + 20 + got, n);
            got += n;
        }
        assert_int_equal(got, total);
    }
}

/* The checksum of a TCP segment in IPv6, byte by byte. */
static bool right_v6(const uint8_t *f, size_t len) {
    uint8_t pseudo[40] = {0};
    uint32_t sum;

    memcpy(pseudo, f + ETH + 8, 32);
    store_be32(pseudo + 32, (uint32_t)(len - ETH - 40));
    pseudo[39] = PROTO_TCP;
    sum = (uint16_t)~guest_checksum(0, pseudo, sizeof(pseudo));
    return guest_checksum(sum, f + ETH + 40, len - ETH - 40) == 0 &&
           load_be16(f + ETH + 4) == len - ETH - 40;
}

static void ipv6_segments_are_cut_too(void **state) {
    enum { LEN = 20000 };
    uint8_t *h = frame + ETH, *tcp = h + 40;
    size_t got = 0;

    memset(frame, 0, 200);
    store_be16(frame + 12, 0x86dd);
    h[0] = 0x60;
    store_be16(h + 4, 20 + LEN);
    h[6] = PROTO_TCP;
    h[7] = 64;
    h[8] = 0xfd;
    h[24] = 0xfd;
    tcp[12] = 0x50;
    tcp[13] = TCP_ACK;
    memcpy(tcp + 20, payload, LEN);
    cut(ETH + 60 + LEN, 1500);
    assert_int_equal(out.count, (LEN + 1439) / 1440);
    for (unsigned i = 0; i < out.count; i++) {
        const uint8_t *f = out.piece[i].data;

        assert_true(right_v6(f, out.piece[i].len));
        assert_int_equal(load_be32(f + ETH + 44), got);
        assert_memory_equal(f + ETH + 60, payload + got, out.piece[i].len - ETH - 60);
        got += out.piece[i].len - ETH - 60;
    }
    assert_int_equal(got, LEN);
}

static void urgent_data_stays_where_it_is(void **state) {
    struct tcp t = {.port = 1000, .peer_port = 80};
    size_t len = from_peer(&t, TCP_ACK | 0x20, 4000);
    unsigned urgent = 0;

    store_be16(frame + ETH + 20 + 18, 2000);
    guest_fix(frame, len);
    cut(len, 1500);
    for (unsigned i = 0; i < out.count; i++) {
        const uint8_t *h = out.piece[i].data + ETH + 20;

        if (h[13] & 0x20) {
            assert_int_equal(load_be32(h + 4) + load_be16(h + 18), 2000);
            urgent++;
        }
    }
    assert_int_equal(urgent, 2); /* both pieces up to byte 2000 say so, the third does not */
}

static void lengths_that_lie_pass_unchanged(void **state) {
    struct tcp t = {.port = 1000, .peer_port = 80};
    size_t len = from_peer(&t, TCP_ACK, 5000);

    store_be16(frame + ETH + 2, 0xffff); /* longer than the frame */
    cut(len, 1500);
    assert_int_equal(out.count, 1);
    from_peer(&t, TCP_ACK, 5000);
    frame[ETH] = 0x4f; /* a header of 60 bytes */
    frame[ETH + 60 + 12] = 0xf0;
    cut(len, 1500);
    assert_true(out.count >= 1);
    from_peer(&t, TCP_ACK, 5000);
    frame[ETH] = 0x42;
    cut(len, 1500);
    assert_int_equal(out.count, 1);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, make, drop)
    const struct CMUnitTest tests[] = {
        T(what_fits_passes_unchanged),
        T(large_segments_are_cut_to_the_mtu),
        T(large_segments_are_cut_to_what_the_connection_announced),
        T(a_connection_that_announces_nothing_gets_the_default),
        T(datagrams_are_cut_into_fragments),
        T(ipv6_segments_are_cut_too),
        T(urgent_data_stays_where_it_is),
        T(lengths_that_lie_pass_unchanged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
