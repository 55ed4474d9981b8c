/* SPDX-License-Identifier: GPL-2.0-or-later */
/* DHCP: reading a client's message, and the one answer to it. */
#include "switch/dhcp.h"

#include <string.h>

#include "base/bytes.h"
#include "switch/dns.h"

/*
 *   0 op, 1 htype, 2 hlen, 3 hops, 4 xid, 8 secs, 10 flags, 12 ciaddr, 16 yiaddr, 20 siaddr,
 *   24 giaddr, 28 chaddr (16), 44 sname (64), 108 file (128), 236 cookie, 240 options
 */
enum {
    REQUEST = 1,
    REPLY = 2,
    ETHERNET = 1,
    OPTIONS = 240,
    COOKIE = 0x63825363,
    BROADCAST = 0x8000
};
enum { BOOTP_MIN = 300 }; /* RFC 1542 2.1: some clients drop less */

enum option {
    PAD = 0,
    MASK = 1,
    ROUTER = 3,
    NAME_SERVER = 6,
    HOST_NAME = 12,
    DOMAIN_NAME = 15,
    REQUESTED = 50,
    LEASE = 51,
    OVERLOAD = 52,
    TYPE = 53,
    SERVER = 54,
    SEARCH = 119,
    END = 255
};

enum { DISCOVER = 1, OFFER = 2, WANT = 3, ACK = 5, NAK = 6, INFORM = 8 };

struct request {
    uint8_t type;
    uint32_t ciaddr, requested, server;
    uint16_t flags;
};

static bool take_option(struct request *r, uint8_t code, const uint8_t *p, size_t n) {
    if (code == TYPE && n == 1)
        r->type = *p;
    else if (code == REQUESTED && n == 4)
        r->requested = load_be32(p);
    else if (code == SERVER && n == 4)
        r->server = load_be32(p);
    else
        return code != TYPE && code != REQUESTED && code != SERVER;
    return true;
}

/* Options are not looked for in sname and file: what a client asks for there nobody needs. */
static bool parse(const uint8_t *data, size_t len, const uint8_t mac[6], struct request *r) {
    const uint8_t *p = data + OPTIONS, *end = data + len;

    if (len < OPTIONS || data[0] != REQUEST || data[1] != ETHERNET || data[2] != 6 ||
        load_be32(data + 236) != COOKIE || memcmp(data + 28, mac, 6) != 0)
        return false;
    *r = (struct request){.ciaddr = load_be32(data + 12), .flags = load_be16(data + 10)};
    while (p < end && *p != END) {
        if (*p == PAD) {
            p++;
            continue;
        }
        if (end - p < 2 || p[1] > end - p - 2 || !take_option(r, p[0], p + 2, p[1]))
            return false;
        p += 2 + p[1];
    }
    return r->type;
}

/* ------------------------------------------------------------------ the answer */

static void put(struct dhcp_reply *a, uint8_t code, const void *p, size_t n) {
    if (n > 255 || a->len + 2 + n > sizeof(a->data) - 1)
        return; /* none of ours is that long */
    a->data[a->len] = code;
    a->data[a->len + 1] = (uint8_t)n;
    memcpy(a->data + a->len + 2, p, n);
    a->len += 2 + n;
}

static void put_address(struct dhcp_reply *a, uint8_t code, uint32_t address) {
    uint8_t b[4];

    store_be32(b, address);
    put(a, code, b, sizeof(b));
}

static void put_network(struct dhcp_reply *a, const struct directory *d, bool route,
                        const struct member *m) {
    uint8_t search[DNS_NAME_MAX];

    put_address(a, MASK, subnet_mask(&d->subnet));
    if (route)
        put_address(a, ROUTER, directory_gateway(d));
    put_address(a, NAME_SERVER, directory_dns(d));
    put(a, DOMAIN_NAME, DNS_DOMAIN, strlen(DNS_DOMAIN));
    put(a, SEARCH, search, dns_encode_name(DNS_DOMAIN, search));
    if (*m->name)
        put(a, HOST_NAME, m->name, strlen(m->name));
}

static void begin(struct dhcp_reply *a, const uint8_t *request, uint8_t type, uint32_t server) {
    memset(a, 0, sizeof(*a));
    memcpy(a->data, request, 44); /* what identifies the client, and its addresses */
    a->data[0] = REPLY;
    a->data[3] = 0;
    memset(a->data + 8, 0, 2);
    memset(a->data + 16, 0, 8);
    store_be32(a->data + 236, COOKIE);
    a->len = OPTIONS;
    a->type = type;
    put(a, TYPE, &type, 1);
    put_address(a, SERVER, server);
}

static void end(struct dhcp_reply *a) {
    a->data[a->len++] = END;
    if (a->len < BOOTP_MIN)
        a->len = BOOTP_MIN;
}

/* 0: none. */
static uint8_t answer_to(const struct request *r, const struct directory *d,
                         const struct member *m) {
    uint32_t wanted = r->requested ? r->requested : r->ciaddr;

    if (!m || !m->address)
        return 0;
    switch (r->type) {
    case DISCOVER:
        return OFFER;
    case INFORM:
        return ACK;
    case WANT:
        return wanted == m->address && (!r->server || r->server == directory_gateway(d)) ? ACK
                                                                                         : NAK;
    default: /* DECLINE, RELEASE: the address stays the machine's */
        return 0;
    }
}

void dhcp_answer(const struct directory *d, bool route, const uint8_t mac[6], const uint8_t *data,
                 size_t len, struct dhcp_reply *ret) {
    const struct member *m = directory_by_mac(d, mac);
    struct request r;
    uint8_t type;

    ret->len = 0;
    if (!parse(data, len, mac, &r))
        return;
    type = answer_to(&r, d, m);
    if (!type)
        return;
    begin(ret, data, type, directory_gateway(d));
    ret->to = UINT32_MAX;
    if (type == NAK) { /* RFC 2131 table 3: to everybody, with nothing in it */
        memset(ret->data + 12, 0, 4);
        end(ret);
        return;
    }
    if (r.type == INFORM) {
        ret->to = r.ciaddr ? r.ciaddr : UINT32_MAX;
    } else {
        store_be32(ret->data + 16, m->address);
        if (type == OFFER)
            memset(ret->data + 12, 0, 4);
        put_address(ret, LEASE, DHCP_LEASE);
        if (!(r.flags & BROADCAST))
            ret->to = m->address;
    }
    put_network(ret, d, route, m);
    end(ret);
}
