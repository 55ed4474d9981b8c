/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A cable to a switch: connecting, and frames as packets (unix(7), SOCK_SEQPACKET).
 *
 * Frames for the guest are cut to what it takes (segment.h): another machine of the network may
 * send larger ones.
 */
#include "net/link.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/timer.h"
#include "base/trace.h"
#include "base/unix_socket.h"
#include "net/queue.h"
#include "net/segment.h"

/*
 * Calls (main, vcpu): sendmsg sendto recvmsg recvfrom shutdown epoll_ctl timerfd_settime
 *     setsockopt:SOL_SOCKET/SO_SNDBUF
 * Calls (main): socket connect timerfd_create
 */

enum {
    RETRY_MS = 20,
    RETRY_MOST_MS = 320,
    QUEUE_FRAMES = 1024,
    QUEUE_BYTES = 4 << 20,
    ROUND = 64,       /* frames in a round of the loop */
    STALE_MS = 3000,  /* what waited longer for a switch is not worth sending any more */
    BUFFER = 4 << 20, /* asked of the socket; the host gives what it allows */
    GUEST_MTU = 1500, /* of a guest whose NIC does not say */
};

struct net_link {
    struct net_port port; /* first */
    struct loop *loop;
    struct timers *timers;
    struct timer retry;
    int64_t retry_ms, down_since;
    char *path, *name;
    uint8_t mac[6];
    int fd; /* -1: no switch */
    struct loop_watch *watch;
    uint32_t watched;
    bool greeted, broken;
    char why[500]; /* that it is not up */
    struct net_queue out, in;
    bool received;
    struct segment segment;
    uint8_t frame[NET_FRAME_MAX];
};

static void connect_later(struct net_link *l);

/* ------------------------------------------------------------------ words */

void mac_print(const uint8_t m[6], char out[MAC_TEXT]) {
    snprintf(out, MAC_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
}

int mac_parse(const char *s, uint8_t mac[6], struct error *err) {
    static const uint8_t none[6];
    uint8_t m[6];
    bool good = strlen(s) == 17;

    for (unsigned i = 0; good && i < 17; i++)
        good = i % 3 == 2 ? s[i] == ':' : isxdigit((unsigned char)s[i]) != 0;
    if (!good)
        return error_set(
            err, -EINVAL,
            "'%.40s' is no MAC address: write six pairs of hex digits, as in 52:54:00:12:34:56", s);
    for (unsigned i = 0; i < 6; i++)
        m[i] = (uint8_t)strtoul(s + 3 * i, NULL, 16); /* ends at the colon */
    if (m[0] & 1)
        return error_set(err, -EINVAL,
                         "the MAC address '%s' is a multicast address: its first byte must be even",
                         s);
    if (!memcmp(m, none, sizeof(none)))
        return error_set(err, -EINVAL,
                         "the MAC address '%s' is nobody's: take one such as 52:54:00:12:34:56", s);
    memcpy(mac, m, sizeof(m));
    return 0;
}

/* ------------------------------------------------------------------ the connection */

static void watch_for(struct net_link *l) {
    bool read = !l->in.head, write = l->out.head && l->greeted;

    if (l->watch)
        loop_modify(l->watch, (read ? EPOLLIN : 0u) | (write ? EPOLLOUT : 0u) | EPOLLRDHUP);
}

static void hang_up(struct net_link *l, const char *why) {
    trace(net_link_down, l->path, why);
    loop_remove(l->watch);
    l->watch = NULL;
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
    l->greeted = l->broken = false;
    snprintf(l->why, sizeof(l->why), "%s", why);
    l->down_since = timer_now_ms();
    connect_later(l);
}

/* From a processor's thread: the loop does the rest. */
static void broken(struct net_link *l) {
    l->broken = true;
    shutdown(l->fd, SHUT_RDWR);
}

/* False: not now. */
static bool send_packet(struct net_link *l, const struct iovec *iov, unsigned count) {
    struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = count};

    if (sendmsg(l->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return true;
    if (errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM)
        return false;
    if (errno != EMSGSIZE)
        broken(l);
    return true; /* it is gone */
}

static void send_queued(struct net_link *l) {
    while (l->out.head && l->greeted && !l->broken) {
        struct iovec iov = {l->out.head->data, l->out.head->len};

        if (!send_packet(l, &iov, 1))
            return;
        net_queue_pop(&l->out);
    }
}

static bool greet(struct net_link *l) {
    json_t *hello;
    struct iovec iov;
    char mac[MAC_TEXT], *text;
    bool good;

    mac_print(l->mac, mac);
    hello = json_pack("{s:s, s:s, s:i}", "port", l->name, "mac", mac, "protocol", LINK_PROTOCOL);
    text = hello ? json_dumps(hello, JSON_COMPACT) : NULL;
    json_decref(hello);
    if (!text)
        return false;
    iov = (struct iovec){text, strlen(text)};
    good = send_packet(l, &iov, 1) && !l->broken;
    free(text);
    return good;
}

/* The switch's first packet. False: it does not want us; why says so. */
static bool welcomed(struct net_link *l, const uint8_t *packet, size_t n, char why[200]) {
    json_t *m = json_loadb((const char *)packet, n, 0, NULL);
    const char *error = json_string_value(json_object_get(m, "error"));
    bool good = !error && json_integer_value(json_object_get(m, "protocol")) == LINK_PROTOCOL;

    if (!good)
        snprintf(why, 200, "%s", error ? error : "it is no switch of this version");
    json_decref(m);
    return good;
}

/* ------------------------------------------------------------------ frames to the guest */

static bool offer(struct net_link *l, const uint8_t *frame, size_t len) {
    if (l->port.receive && !l->port.receive(l->port.opaque, frame, len))
        return false;
    stat_inc(net_link_frames_in);
    stat_add(net_link_bytes_in, len);
    l->received = true;
    return true;
}

static void end_burst(struct net_link *l) {
    if (l->received && l->port.received)
        l->port.received(l->port.opaque);
    l->received = false;
}

static void put(void *opaque, const uint8_t *frame, size_t len) {
    struct net_link *l = opaque;

    if ((l->in.head || !offer(l, frame, len)) && !net_queue_put(&l->in, frame, len))
        stat_inc(net_link_dropped);
}

static void deliver(struct net_link *l) {
    while (l->in.head && offer(l, l->in.head->data, l->in.head->len))
        net_queue_pop(&l->in);
    end_burst(l);
    watch_for(l);
}

static void take_packet(struct net_link *l, size_t n) {
    char why[200];

    if (l->greeted) {
        segment_cut(&l->segment, l->frame, n, l->port.guest_mtu ? l->port.guest_mtu : GUEST_MTU,
                    put, l);
    } else if (welcomed(l, l->frame, n, why)) {
        trace(net_link_up, l->path);
        l->greeted = true;
        l->retry_ms = RETRY_MS;
        *l->why = 0;
        send_queued(l);
    } else {
        hang_up(l, why);
    }
}

static void ready(void *opaque, int fd, uint32_t events) {
    struct net_link *l = opaque;

    for (unsigned i = 0; i < ROUND && !l->in.head && l->fd >= 0; i++) {
        ssize_t n = recv(l->fd, l->frame, sizeof(l->frame), MSG_DONTWAIT);

        if (n > 0) {
            take_packet(l, (size_t)n);
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        hang_up(l, "the switch has ended the connection");
    }
    if (l->fd < 0)
        return;
    if (l->in.head && (events & (EPOLLHUP | EPOLLERR))) {
        hang_up(l, "the switch has ended the connection");
        return;
    }
    end_burst(l);
    send_queued(l);
    watch_for(l);
}

/* ------------------------------------------------------------------ connecting */

static void try_connect(void *opaque) {
    struct net_link *l = opaque;
    int size = BUFFER;
    struct error e = {0};

    if (timer_now_ms() - l->down_since > STALE_MS)
        net_queue_done(&l->out);
    l->fd = unix_socket_connect_packets(l->path, &e);
    if (l->fd < 0) {
        snprintf(l->why, sizeof(l->why), "%s", e.text);
        connect_later(l);
        return;
    }
    setsockopt(l->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    l->watch = loop_add(l->loop, l->fd, EPOLLIN | EPOLLRDHUP, ready, l);
    if (!l->watch || !greet(l))
        hang_up(l, "the switch takes no greeting");
}

static void connect_later(struct net_link *l) {
    timer_start(l->timers, &l->retry, l->retry_ms, try_connect, l);
    l->retry_ms = l->retry_ms * 2 < RETRY_MOST_MS ? l->retry_ms * 2 : RETRY_MOST_MS;
}

/* ------------------------------------------------------------------ the port */

static void link_send(struct net_port *p, const struct iovec *iov, unsigned count) {
    struct net_link *l = (struct net_link *)p;
    size_t len = 0;

    for (unsigned i = 0; i < count; i++)
        len += iov[i].iov_len;
    if (len > NET_FRAME_MAX || !len)
        return;
    stat_inc(net_link_frames_out);
    stat_add(net_link_bytes_out, len);
    if (count == 1)
        segment_learn(&l->segment, iov->iov_base, len);
    if (l->greeted && !l->broken && !l->out.head && send_packet(l, iov, count))
        return;
    if (!net_queue_put_iov(&l->out, iov, count))
        stat_inc(net_link_dropped);
    watch_for(l);
}

static void link_resume(struct net_port *p) { deliver((struct net_link *)p); }

static void link_close(struct net_port *p) {
    struct net_link *l = (struct net_link *)p;

    loop_remove(l->watch);
    if (l->fd >= 0)
        close(l->fd);
    timer_stop(&l->retry);
    timers_free(l->timers);
    net_queue_done(&l->out);
    net_queue_done(&l->in);
    free(l->path);
    free(l->name);
    free(l);
}

static const struct net_ops link_ops = {
    .send = link_send, .resume = link_resume, .close = link_close};

bool net_link_up(const struct net_port *p, const char **ret_why) {
    const struct net_link *l = (const struct net_link *)p;

    assert(p->ops == &link_ops);
    *ret_why = l->why;
    return l->greeted;
}

struct net_port *net_link_open(struct loop *loop, const struct net_link_config *c,
                               struct error *err) {
    struct net_link *l = calloc(1, sizeof(*l));

    if (!l)
        goto no_memory;
    l->port = (struct net_port){.ops = &link_ops, .mtu = c->mtu, .big_tcp = true, .checked = true};
    l->loop = loop;
    l->fd = -1;
    l->retry_ms = RETRY_MS;
    l->down_since = timer_now_ms();
    memcpy(l->mac, c->mac, sizeof(l->mac));
    net_queue_init(&l->out, QUEUE_FRAMES, QUEUE_BYTES);
    net_queue_init(&l->in, QUEUE_FRAMES, QUEUE_BYTES);
    l->path = strdup(c->path);
    l->name = strdup(c->name);
    l->timers = timers_new(loop, err);
    if (!l->path || !l->name || !l->timers) {
        link_close(&l->port);
        goto no_memory;
    }
    try_connect(l);
    return &l->port;
no_memory:
    error_set(err, -ENOMEM, "the cable to '%s': out of memory", c->path);
    return NULL;
}
