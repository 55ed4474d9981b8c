/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: frames from a hostile guest to the user-mode network, and frames of any content to
 * what cuts them for a guest. The network runs in a namespace of its own with nothing but a
 * loopback device, so that whatever is addressed, nothing leaves. Where the host gives no namespace
 * only the cutting and putting together is fuzzed.
 */
#include <arpa/inet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "net/guest.h"
#include "net/net.h"
#include "net/reassemble.h"
#include "net/segment.h"

enum { TCP_SERVER = 7, UDP_SERVER = 9 };

static bool contained;
static int server = -1;
static bool full;
static uint8_t frame[GUEST_FRAME_MAX];

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* libslirp forgets, when it ends, frames that wait behind another one of the same connection. All
 * that it allocates comes from GLib; nothing of ours does. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:libglib-2.0\nleak:libslirp\n"; }

static void start_servers(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int udp = socket(AF_INET, SOCK_DGRAM, 0);

    server = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    a.sin_port = htons(TCP_SERVER);
    if (bind(server, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(server, 16) < 0)
        abort();
    a.sin_port = htons(UDP_SERVER);
    if (bind(udp, (struct sockaddr *)&a, sizeof(a)) < 0)
        abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd;

    contained = unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0;
    if (!contained) {
        fprintf(stderr, "fuzz_net: no network namespace here: libslirp is left out\n");
        return 0;
    }
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &lo) < 0)
        abort();
    close(fd);
    start_servers();
    return 0;
}

/* ------------------------------------------------------------------ input */

struct input {
    const uint8_t *p;
    size_t left;
};

static uint32_t take(struct input *in, unsigned bytes) {
    uint32_t v = 0;

    for (unsigned i = 0; i < bytes && in->left; i++, in->p++, in->left--)
        v |= (uint32_t)*in->p << 8 * i;
    return v;
}

static size_t take_bytes(struct input *in, uint8_t *to, size_t n) {
    n = n < in->left ? n : in->left;
    memcpy(to, in->p, n);
    in->p += n;
    in->left -= n;
    return n;
}

static size_t draw_frame(struct input *in, struct tcp *t, uint32_t kind) {
    static uint8_t payload[4096];
    size_t n;

    switch (kind & 7) {
    case 0:
        return take_bytes(in, frame, take(in, 1));
    case 1:
        return guest_arp(frame, GATEWAY_IP + (take(in, 1) & 3));
    case 2:
        return guest_dhcp_discover(frame);
    case 3:
        return guest_ping(frame, GATEWAY_IP, 1);
    case 4:
        n = take(in, 2) % sizeof(payload);
        return guest_ip(frame, (uint8_t)take(in, 1), GATEWAY_IP, payload, n);
    case 5:
        n = take(in, 2) % sizeof(payload);
        return guest_udp(frame, GATEWAY_IP + (take(in, 1) & 1), 1000, (uint16_t)take(in, 1),
                         payload, n);
    default:
        n = kind & 8 ? take(in, 2) % sizeof(payload) : 0;
        t->seq += take(in, 1) & 1 ? take(in, 2) : 0;
        return guest_tcp(frame, t, (uint8_t)take(in, 1), payload, n);
    }
}

static void spoil(struct input *in, size_t len, uint32_t how) {
    for (uint32_t n = how & 3; n && len; n--) {
        size_t at = take(in, 1) % len;

        frame[at] = (uint8_t)take(in, 1);
    }
    if (how & 4)
        guest_fix(frame, len);
}

/* ------------------------------------------------------------------ targets */

static struct tcp
    *talk; /* follows the acknowledgements so that connections get beyond the handshake */

static bool receive(void *opaque, const uint8_t *data, size_t len) {
    struct packet p;

    if (full)
        return false;
    if (guest_parse(data, len, &p) && p.proto == PROTO_TCP && p.dst_port == talk->port)
        talk->ack = p.seq + (uint32_t)p.len + !!(p.flags & (TCP_SYN | TCP_FIN));
    return true;
}

static void serve(void) {
    int fd = accept(server, NULL, NULL);

    if (fd < 0)
        return;
    send(fd, "hello", 5, MSG_DONTWAIT | MSG_NOSIGNAL);
    close(fd);
}

static void fuzz_network(struct input in) {
    struct tcp t = {.port = 1000, .peer_port = TCP_SERVER, .seq = 1};
    struct loop *loop = loop_new(NULL, NULL);
    struct net_port *port = net_user_open(loop, NULL, 0, NULL);

    if (!port)
        abort();
    talk = &t;
    full = false;
    port->receive = receive;
    while (in.left) {
        uint32_t kind = take(&in, 1), how = take(&in, 1);
        size_t len = draw_frame(&in, &t, kind);
        struct iovec iov = {frame, len};

        spoil(&in, len, how);
        net_send(port, &iov, 1);
        if (how & 0x10)
            net_flush(port);
        if (how & 0x20)
            loop_step(loop, 0);
        if (how & 0x40)
            serve();
        full = how & 0x80;
        if (kind & 0x80)
            port->guest_mtu = (uint16_t)take(&in, 2);
    }
    net_close(port);
    loop_free(loop);
}

static size_t cut_bytes;

static void count_piece(void *opaque, const uint8_t *piece, size_t len) {
    if (len > NET_FRAME_MAX)
        abort();
    cut_bytes += len + piece[len - 1]; /* the last byte must be there */
}

static void fuzz_cutting(struct input in) {
    struct segment *s = calloc(1, sizeof(*s));
    struct reassemble r = {0};
    struct tcp t = {.port = 1000, .peer_port = TCP_SERVER, .seq = 1, .mss = 100};

    while (in.left) {
        uint32_t kind = take(&in, 1), how = take(&in, 1);
        size_t len = draw_frame(&in, &t, kind), whole;
        const uint8_t *f;
        uint8_t *exact;

        spoil(&in, len, how);
        exact = malloc(len ? len : 1); /* so that the sanitizer sees the end */
        memcpy(exact, frame, len);
        f = reassemble_add(&r, exact, len, &whole);
        if (f) {
            segment_learn(s, f, whole);
            if (whole && whole <= NET_FRAME_MAX)
                segment_cut(s, f, whole, (uint16_t)take(&in, 2), count_piece, NULL);
        }
        free(exact);
    }
    reassemble_done(&r);
    free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};

    fuzz_cutting(in);
    if (contained)
        fuzz_network(in);
    return 0;
}
