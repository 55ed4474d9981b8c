/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Counting of connections: RFC 791 (IPv4), 8200 (IPv6), 9293 (TCP), 768 (UDP), 792 (ICMP). */
#include "net/limit.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

enum {
    ETHERNET = 14,
    IP4 = 0x0800,
    IP6 = 0x86dd,
    ICMP = 1,
    TCP = 6,
    UDP = 17,
    TCP_SYN = 2,
    TCP_ACK = 16,
    ECHO = 8,
    KEY = 40,
    FLOWS = 2048,
    FRESH_MS = 8000, /* libslirp keeps what was used within ten seconds */
    MACHINES = 2048,
    ADDRESSES = 8192,
    RECOUNT_MS = 200,
};

struct flow {
    uint8_t key[KEY];
    int64_t last; /* 0: none */
};

struct machine {
    bool used;
    uint8_t mac[6];
    unsigned count;
};

struct address {
    uint32_t ip; /* 0: none */
    unsigned machine, count;
};

struct net_limit {
    unsigned total, each, count;
    uint32_t network, mask;
    net_limit_list *list;
    void *opaque;
    int64_t counted; /* 0: never */
    struct flow flow[FLOWS];
    struct machine machine[MACHINES]; /* [0]: all for which there was no room */
    struct address address[ADDRESSES];
};

struct packet {
    uint8_t key[KEY]; /* protocol, ports, addresses */
    const uint8_t *mac;
    uint32_t ip;      /* 0: not IPv4 */
    bool each_counts; /* it is one by itself */
};

static uint32_t hash(const uint8_t *p, size_t n) { /* FNV-1a */
    uint32_t h = 2166136261u;

    while (n--)
        h = (h ^ *p++) * 16777619u;
    return h ^ h >> 15;
}

/* ------------------------------------------------------------------ what begins a connection */

static bool begins(uint8_t proto, const uint8_t *p, size_t n, struct packet *ret) {
    if (proto == TCP && n >= ETHERNET) {
        if ((p[13] & (TCP_SYN | TCP_ACK)) != TCP_SYN)
            return false;
    } else if (proto == ICMP && n >= 1) {
        ret->each_counts = true; /* a socket until its answer is there */
        return p[0] == ECHO;
    } else if (proto != UDP || n < 8) {
        return false;
    }
    memcpy(ret->key + 1, p, 4);
    return true;
}

static bool parse4(const uint8_t *p, size_t n, struct packet *ret) {
    size_t header = n >= 20 ? (size_t)(p[0] & 15) * 4 : 0;

    if (header < 20 || header > n || load_be16(p + 6) & 0x1fff)
        return false;
    ret->ip = load_be32(p + 12);
    ret->key[0] = p[9];
    memcpy(ret->key + 5, p + 12, 8);
    return begins(p[9], p + header, n - header, ret);
}

static bool parse6(const uint8_t *p, size_t n, struct packet *ret) {
    if (n < 40)
        return false;
    ret->key[0] = p[6];
    memcpy(ret->key + 5, p + 8, 32);
    return begins(p[6] == ICMP ? 0 : p[6], p + 40, n - 40, ret);
}

/* Does the frame begin a connection, or does it look so? */
static bool parse(const uint8_t *frame, size_t len, struct packet *ret) {
    *ret = (struct packet){.mac = frame + 6};
    if (len < ETHERNET)
        return false;
    switch (load_be16(frame + 12)) {
    case IP4:
        return parse4(frame + ETHERNET, len - ETHERNET, ret);
    case IP6:
        return parse6(frame + ETHERNET, len - ETHERNET, ret);
    default:
        return false;
    }
}

/* ------------------------------------------------------------------ tables */

static struct machine *find_machine(struct net_limit *l, const uint8_t *mac) {
    uint32_t at = hash(mac, 6);

    for (unsigned i = 0; i < 16; i++) {
        struct machine *m = &l->machine[1 + (at + i) % (MACHINES - 1)];

        if (!m->used) {
            m->used = true;
            memcpy(m->mac, mac, 6);
        }
        if (!memcmp(m->mac, mac, 6))
            return m;
    }
    return &l->machine[0];
}

/* With `make` an entry without connections is given away, if there is no free one. */
static struct address *find_address(struct net_limit *l, uint32_t ip, bool make) {
    uint8_t bytes[4];
    struct address *free_one = NULL;
    uint32_t at;

    store_be32(bytes, ip);
    at = hash(bytes, 4);
    for (unsigned i = 0; i < 32; i++) {
        struct address *a = &l->address[(at + i) % ADDRESSES];

        if (a->ip == ip)
            return a;
        if (!free_one && (!a->ip || !a->count))
            free_one = a;
    }
    if (!make || !free_one)
        return NULL;
    *free_one = (struct address){.ip = ip};
    return free_one;
}

/* ------------------------------------------------------------------ libslirp's list */

/* "  TCP[ESTABLISHED]   9  10.0.2.15 4711  93.184.216.34  80 ...": which of the two is a guest?
 * Echoes have "-" for ports. */
static bool guest_of(const struct net_limit *l, const char *line, uint32_t *ret) {
    const char *words = strchr(line, ']');
    char one[20], other[20];
    struct in_addr a;

    if (!words || sscanf(words + 1, "%*d %19s %*s %19s", one, other) != 2)
        return false;
    if (inet_pton(AF_INET, one, &a) == 1 && (ntohl(a.s_addr) & l->mask) == l->network) {
        *ret = ntohl(a.s_addr);
        return true;
    }
    if (inet_pton(AF_INET, other, &a) != 1 || (ntohl(a.s_addr) & l->mask) != l->network)
        return false;
    *ret = ntohl(a.s_addr);
    return true;
}

static void count_line(struct net_limit *l, const char *line) {
    struct address *a;
    uint32_t ip;

    if (!strncmp(line + strcspn(line, "[\n"), "[HOST_FORWARD]", 14) ||
        line[strcspn(line, "[\n")] != '[')
        return; /* a port that listens; no connection */
    l->count++;
    a = guest_of(l, line, &ip) ? find_address(l, ip, false) : NULL;
    if (!a)
        return;
    a->count++;
    l->machine[a->machine].count++;
}

static void recount(struct net_limit *l) {
    char *list = l->list(l->opaque), *line = list ? strchr(list, '\n') : NULL;

    l->count = 0;
    for (unsigned i = 0; i < MACHINES; i++)
        l->machine[i].count = 0;
    for (unsigned i = 0; i < ADDRESSES; i++)
        l->address[i].count = 0;
    for (; line && line[1]; line = strchr(line + 1, '\n')) /* the first line is a heading */
        count_line(l, line + 1);
    free(list);
}

/* ------------------------------------------------------------------ the gate */

static bool is_known(struct net_limit *l, const struct packet *p, int64_t now) {
    struct flow *f = &l->flow[hash(p->key, KEY) % FLOWS];

    if (p->each_counts)
        return false;
    if (f->last && now - f->last < FRESH_MS && !memcmp(f->key, p->key, KEY)) {
        f->last = now;
        return true;
    }
    return false;
}

static void remember(struct net_limit *l, const struct packet *p, int64_t now) {
    struct flow *f = &l->flow[hash(p->key, KEY) % FLOWS];

    if (p->each_counts)
        return;
    memcpy(f->key, p->key, KEY);
    f->last = now;
}

bool net_limit_allows(struct net_limit *l, const uint8_t *frame, size_t len, int64_t now_ms) {
    struct address *a = NULL;
    struct machine *m;
    struct packet p;

    if (!parse(frame, len, &p) || is_known(l, &p, now_ms))
        return true;
    m = find_machine(l, p.mac);
    if ((l->count >= l->total || m->count >= l->each) &&
        (!l->counted || now_ms - l->counted >= RECOUNT_MS)) {
        l->counted = now_ms;
        recount(l);
    }
    if (l->count >= l->total || m->count >= l->each)
        return false;
    if (p.ip && !(a = find_address(l, p.ip, true)))
        return false; /* so many addresses have connections that this one could not be counted */
    if (a) {
        a->machine = (unsigned)(m - l->machine);
        a->count++;
    }
    l->count++;
    m->count++;
    remember(l, &p, now_ms);
    return true;
}

/* ------------------------------------------------------------------ life */

struct net_limit *net_limit_new(unsigned total, unsigned each, uint32_t network, uint32_t mask,
                                net_limit_list *list, void *opaque) {
    struct net_limit *l = calloc(1, sizeof(*l)); /* pages that nobody touches cost nothing */

    if (!l)
        return NULL;
    l->total = total;
    l->each = each;
    l->network = network;
    l->mask = mask;
    l->list = list;
    l->opaque = opaque;
    return l;
}

void net_limit_set_each(struct net_limit *l, unsigned each) { l->each = each; }

void net_limit_free(struct net_limit *l) { free(l); }
