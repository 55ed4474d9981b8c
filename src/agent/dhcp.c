/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * RFC 2131 and 2132. Answers are asked for as broadcasts, so that an ordinary UDP socket without an
 * address hears them.
 *
 * Departures: an address is not probed for by ARP before it is used, and a lease that runs out is
 * kept when no server answers: a machine with an old address is of more use than one with none.
 */
#include "agent/dhcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    SERVER_PORT = 67,
    CLIENT_PORT = 68,
    HEAD = 236, /* of BOOTP, before the cookie */
    PACKET = 1500,
    DISCOVER = 1,
    OFFER = 2,
    REQUEST = 3,
    ACK = 5,
    NAK = 6,
    FIRST_MS = 200, /* of waiting for an answer; doubled up to the next */
    MOST_MS = 4000,
    TRIES = 9,
    SHORTEST_LEASE = 60,
};
#define COOKIE 0x63825363u

struct client {
    const char *name;
    int fd;
    uint8_t mac[6];
    uint32_t xid;
};

/* ---- messages ---- */

static uint8_t *option(uint8_t *p, uint8_t code, const void *data, uint8_t n) {
    p[0] = code;
    p[1] = n;
    memcpy(p + 2, data, n);
    return p + 2 + n;
}

/* A request for what was offered, or, with `renew`, for what is used. */
static void ask(const struct client *c, uint8_t type, const struct dhcp_lease *l, bool renew) {
    static const uint8_t wanted[] = {1, 3, 6, 15, 51, 54};
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(SERVER_PORT),
                             .sin_addr.s_addr = htonl(INADDR_BROADCAST)};
    uint8_t packet[PACKET] = {1, 1, 6, 0}, *p = packet + HEAD;
    const uint32_t cookie = htonl(COOKIE);

    memcpy(packet + 4, &c->xid, 4);
    packet[10] = 0x80; /* broadcast, please */
    if (renew)
        memcpy(packet + 12, &l->address, 4);
    memcpy(packet + 28, c->mac, 6);
    memcpy(p, &cookie, 4);
    p = option(p + 4, 53, &type, 1);
    if (type == REQUEST && !renew) {
        p = option(p, 50, &l->address, 4);
        p = option(p, 54, &l->server, 4);
    }
    p = option(p, 55, wanted, sizeof(wanted));
    *p++ = 255;
    sendto(c->fd, packet, (size_t)(p - packet) < 300 ? 300 : (size_t)(p - packet), 0,
           (struct sockaddr *)&to, sizeof(to));
}

static void take_option(struct dhcp_lease *l, uint8_t code, const uint8_t *p, unsigned n,
                        int *type) {
    if (code == 53 && n == 1)
        *type = *p;
    else if (code == 1 && n == 4)
        memcpy(&l->mask, p, 4);
    else if (code == 3 && n >= 4)
        memcpy(&l->router, p, 4);
    else if (code == 6)
        memcpy(l->dns, p, (n < 4 * DHCP_SERVERS ? n : 4 * DHCP_SERVERS) & ~3u);
    else if (code == 54 && n == 4)
        memcpy(&l->server, p, 4);
    else if (code == 51 && n == 4)
        l->seconds = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    else if (code == 15 && n < sizeof(l->domain)) {
        memcpy(l->domain, p, n);
        l->domain[n] = 0;
        /* It goes into a file: one word. */
        if (strspn(l->domain, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") !=
            strlen(l->domain))
            *l->domain = 0;
    }
}

int dhcp_read(const uint8_t *p, unsigned n, uint32_t xid, struct dhcp_lease *ret) {
    const uint32_t cookie = htonl(COOKIE);
    struct dhcp_lease l = {0};
    int type = 0;

    if (n < HEAD + 4 || p[0] != 2 || memcmp(p + 4, &xid, 4) != 0 ||
        memcmp(p + HEAD, &cookie, 4) != 0)
        return 0;
    memcpy(&l.address, p + 16, 4);
    for (unsigned i = HEAD + 4; i < n && p[i] != 255;) {
        if (!p[i]) {
            i++;
            continue;
        }
        if (i + 2 > n || i + 2 + p[i + 1] > n)
            return 0;
        take_option(&l, p[i], p + i + 2, p[i + 1], &type);
        i += 2u + p[i + 1];
    }
    *ret = l;
    return type;
}

/* ---- the conversation ---- */

static int64_t now_ms(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000ll + t.tv_nsec / 1000000;
}

/* An answer of that type, within so many milliseconds. */
static bool hear(const struct client *c, int type, int ms, struct dhcp_lease *ret) {
    int64_t end = now_ms() + ms;
    uint8_t packet[PACKET];

    for (int64_t left = ms; left > 0; left = end - now_ms()) {
        struct pollfd p = {c->fd, POLLIN, 0};
        int got;
        ssize_t n;

        if (poll(&p, 1, (int)left) <= 0)
            continue;
        n = recv(c->fd, packet, sizeof(packet), MSG_DONTWAIT);
        got = n > 0 ? dhcp_read(packet, (unsigned)n, c->xid, ret) : 0;
        if (got == type)
            return true;
        if (got == NAK)
            return false;
    }
    return false;
}

static bool get_lease(const struct client *c, struct dhcp_lease *ret) {
    int ms = FIRST_MS;

    for (unsigned i = 0; i < TRIES; i++) {
        struct dhcp_lease offer;

        ask(c, DISCOVER, NULL, false);
        if (hear(c, OFFER, ms, &offer) && offer.address) {
            ask(c, REQUEST, &offer, false);
            if (hear(c, ACK, ms, ret) && ret->address)
                return true;
        }
        ms = 2 * ms < MOST_MS ? 2 * ms : MOST_MS;
    }
    return false;
}

/* ---- the interface ---- */

static int set_address(const char *name, unsigned long what, uint32_t address) {
    struct ifreq r = {0};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = address};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), code;

    snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
    memcpy(&r.ifr_addr, &a, sizeof(a));
    code = ioctl(fd, what, &r);
    close(fd);
    return code;
}

static void set_route(const char *name, uint32_t router) {
    struct sockaddr_in any = {.sin_family = AF_INET},
                       via = {.sin_family = AF_INET, .sin_addr.s_addr = router};
    struct rtentry r = {.rt_flags = RTF_UP | RTF_GATEWAY, .rt_dev = (char *)(uintptr_t)name};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    memcpy(&r.rt_dst, &any, sizeof(any));
    memcpy(&r.rt_genmask, &any, sizeof(any));
    memcpy(&r.rt_gateway, &via, sizeof(via));
    ioctl(fd, SIOCADDRT, &r);
    close(fd);
}

static void use(const char *name, const struct dhcp_lease *l) {
    set_address(name, SIOCSIFADDR, l->address);
    if (l->mask)
        set_address(name, SIOCSIFNETMASK, l->mask);
    if (l->router)
        set_route(name, l->router);
}

static int open_client(struct client *c, const char *name) {
    struct sockaddr_in me = {.sin_family = AF_INET, .sin_port = htons(CLIENT_PORT)};
    struct ifreq r = {0};
    int one = 1;

    c->name = name;
    c->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
    if (c->fd < 0 || ioctl(c->fd, SIOCGIFHWADDR, &r) < 0)
        return -1;
    memcpy(c->mac, r.ifr_hwaddr.sa_data, 6);
    if (ioctl(c->fd, SIOCGIFFLAGS, &r) < 0)
        return -1;
    r.ifr_flags |= IFF_UP | IFF_RUNNING;
    if (ioctl(c->fd, SIOCSIFFLAGS, &r) < 0 ||
        setsockopt(c->fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof(one)) < 0 ||
        setsockopt(c->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        setsockopt(c->fd, SOL_SOCKET, SO_BINDTODEVICE, name, (socklen_t)strlen(name) + 1) < 0)
        return -1;
    return bind(c->fd, (struct sockaddr *)&me, sizeof(me));
}

/* For ever: half of a lease is slept away, then it is asked for again. */
static _Noreturn void keep(struct client *c, struct dhcp_lease *l) {
    for (;;) {
        struct dhcp_lease next;
        bool good = false;

        sleep((l->seconds < SHORTEST_LEASE ? SHORTEST_LEASE : l->seconds) / 2);
        while (recv(c->fd, &next, sizeof(next), MSG_DONTWAIT) > 0)
            ;
        c->xid++;
        for (int ms = FIRST_MS; ms <= MOST_MS && !good; ms *= 2) {
            ask(c, REQUEST, l, true);
            good = hear(c, ACK, ms, &next);
        }
        if (!good && get_lease(c, &next)) {
            good = true;
            use(c->name, &next);
        }
        if (good)
            *l = next;
    }
}

int dhcp_start(const char *name) {
    struct client c = {0};
    struct dhcp_lease l = {0};
    int ends[2];
    pid_t pid;

    if (open_client(&c, name) < 0 || pipe2(ends, O_CLOEXEC) < 0) {
        if (c.fd >= 0)
            close(c.fd);
        return -1;
    }
    if (getrandom(&c.xid, sizeof(c.xid), GRND_NONBLOCK) !=
        sizeof(c.xid)) /* so early there is none */
        c.xid = (uint32_t)now_ms() ^ (uint32_t)c.mac[5] << 24 ^ (uint32_t)c.mac[4] << 16;
    pid = fork();
    if (pid == 0) {
        close(ends[0]);
        if (!get_lease(&c, &l))
            _exit(1);
        use(name, &l);
        if (write(ends[1], &l, sizeof(l)) != sizeof(l))
            _exit(1);
        close(ends[1]);
        keep(&c, &l);
    }
    close(ends[1]);
    close(c.fd);
    return ends[0];
}
