/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The learning switch: ports and the table of addresses, a hash of chains out of a fixed pool.
 *
 * When the pool or a port's share of it is used up nothing new is learned (the frames of such an
 * address still pass, and those for it are flooded) until older addresses have aged. So a port that
 * invents addresses takes none from the others.
 */
#include "switch/switch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 1024, OWNED = -1, SWEEP_MS = 1000 };

struct entry {
    struct entry *next;
    struct switch_port *port;
    int64_t seen; /* OWNED: never ages, moves nowhere */
    uint16_t vlan;
    uint8_t mac[6];
};

struct switch_core {
    struct switch_port *ports;
    switch_tap *tap;
    void *tap_opaque;
    struct entry *bucket[BUCKETS], *unused;
    int64_t swept;
    struct entry pool[SWITCH_MACS];
};

/* ------------------------------------------------------------------ the table */

static struct entry **bucket_of(struct switch_core *s, const uint8_t mac[6], uint16_t vlan) {
    uint32_t h = 0x811c9dc5u ^ vlan;

    for (unsigned i = 0; i < 6; i++)
        h = (h ^ mac[i]) * 0x01000193u; /* FNV-1a */
    return &s->bucket[(h ^ h >> 16) % BUCKETS];
}

static struct entry **find(struct switch_core *s, const uint8_t mac[6], uint16_t vlan) {
    struct entry **link = bucket_of(s, mac, vlan);

    while (*link && ((*link)->vlan != vlan || memcmp((*link)->mac, mac, 6) != 0))
        link = &(*link)->next;
    return link;
}

static void drop_entry(struct switch_core *s, struct entry **link) {
    struct entry *e = *link;

    if (e->seen != OWNED)
        e->port->learned--;
    *link = e->next;
    e->next = s->unused;
    s->unused = e;
}

static bool aged(const struct entry *e, int64_t now) {
    return e->seen != OWNED && now - e->seen >= SWITCH_AGE_MS;
}

/* Those of a port, or, with NULL, those that have aged. */
static void sweep(struct switch_core *s, const struct switch_port *p, int64_t now) {
    for (unsigned i = 0; i < BUCKETS; i++)
        for (struct entry **link = &s->bucket[i]; *link;) {
            if (p ? (*link)->port == p : aged(*link, now))
                drop_entry(s, link);
            else
                link = &(*link)->next;
        }
}

static void add_entry(struct switch_core *s, struct switch_port *p, const uint8_t mac[6],
                      int64_t seen) {
    struct entry **link = bucket_of(s, mac, p->vlan), *e = s->unused;

    s->unused = e->next;
    *e = (struct entry){.next = *link, .port = p, .seen = seen, .vlan = p->vlan};
    memcpy(e->mac, mac, 6);
    *link = e;
    if (seen != OWNED)
        p->learned++;
}

/* False: the address is another port's own. */
static bool learn(struct switch_core *s, struct switch_port *p, const uint8_t mac[6], int64_t now) {
    struct entry **link = find(s, mac, p->vlan), *e = *link;

    if (e && e->port == p) {
        if (e->seen != OWNED)
            e->seen = now;
        return true;
    }
    if (e && e->seen == OWNED)
        return false;
    if (e)
        drop_entry(s, link); /* it has moved here */
    if ((!s->unused || p->learned >= SWITCH_PORT_MACS) && now - s->swept >= SWEEP_MS) {
        sweep(s, NULL, now); /* not more often: it looks at everything */
        s->swept = now;
    }
    if (s->unused && p->learned < SWITCH_PORT_MACS)
        add_entry(s, p, mac, now);
    return true;
}

/* ------------------------------------------------------------------ ports */

struct switch_core *switch_new(void) {
    struct switch_core *s = calloc(1, sizeof(*s));

    if (s)
        s->swept = INT64_MIN / 2;
    for (unsigned i = 0; s && i < SWITCH_MACS; i++) {
        s->pool[i].next = s->unused;
        s->unused = &s->pool[i];
    }
    return s;
}

void switch_free(struct switch_core *s) { free(s); }

int switch_reserve(struct switch_port *p, const uint8_t mac[6]) {
    struct entry **link = find(p->core, mac, p->vlan);

    if (*link && (*link)->seen == OWNED)
        return (*link)->port == p ? 0 : -EEXIST;
    if (*link)
        drop_entry(p->core, link);
    if (!p->core->unused) { /* rather one that was learned less */
        for (unsigned i = 0; i < BUCKETS && !p->core->unused; i++)
            for (link = &p->core->bucket[i]; *link && !p->core->unused;) {
                if ((*link)->seen != OWNED)
                    drop_entry(p->core, link);
                else
                    link = &(*link)->next;
            }
    }
    if (!p->core->unused)
        return -ENOSPC;
    add_entry(p->core, p, mac, OWNED);
    return 0;
}

int switch_add(struct switch_core *s, struct switch_port *p) {
    struct switch_port **link = &s->ports;
    int r = 0;

    p->core = s;
    p->learned = 0;
    p->next = NULL;
    if (p->owned)
        r = switch_reserve(p, p->mac);
    if (r < 0)
        return r;
    while (*link)
        link = &(*link)->next;
    *link = p;
    return 0;
}

void switch_remove(struct switch_port *p) {
    struct switch_port **link = &p->core->ports;

    while (*link && *link != p)
        link = &(*link)->next;
    if (*link)
        *link = p->next;
    sweep(p->core, p, 0);
}

/* ------------------------------------------------------------------ frames */

static void give(struct switch_port *from, struct switch_port *to, const uint8_t *frame,
                 size_t len) {
    struct switch_core *s = to->core;

    if (s->tap)
        s->tap(s->tap_opaque, from, to, frame, len);
    if (!to->deliver(to, frame, len)) {
        to->counters.dropped++;
        return;
    }
    to->counters.frames_out++;
    to->counters.bytes_out += len;
}

static void flood(struct switch_port *from, const uint8_t *frame, size_t len, bool group) {
    for (struct switch_port *to = from->core->ports; to; to = to->next)
        if (to != from && to->vlan == from->vlan && (group || !(to->owned || to->reserved)))
            give(from, to, frame, len);
}

static bool stays_here(const uint8_t *dst) {
    static const uint8_t link_local[5] = {0x01, 0x80, 0xc2, 0x00, 0x00};

    return !memcmp(dst, link_local, 5) && (dst[5] & 0xf0) == 0;
}

static bool acceptable(struct switch_port *p, const uint8_t *frame, size_t len, int64_t now) {
    static const uint8_t none[6];
    const uint8_t *src = frame + 6;

    if (len < SWITCH_FRAME_MIN || len > SWITCH_FRAME_MAX || (src[0] & 1) || !memcmp(src, none, 6))
        return false;
    if (p->owned && memcmp(src, p->mac, 6) != 0)
        return false;
    if (p->allows && !p->allows(p, frame, len))
        return false;
    return learn(p->core, p, src, now);
}

void switch_input(struct switch_port *p, const uint8_t *frame, size_t len, int64_t now) {
    struct switch_core *s = p->core;
    bool group;
    struct entry *e;

    if (!acceptable(p, frame, len, now)) {
        p->counters.refused++;
        return;
    }
    p->counters.frames_in++;
    p->counters.bytes_in += len;
    if (s->tap)
        s->tap(s->tap_opaque, p, NULL, frame, len);
    if (stays_here(frame))
        return;
    group = frame[0] & 1;
    e = group ? NULL : *find(s, frame, p->vlan);
    if (e && !aged(e, now)) {
        if (e->port != p)
            give(p, e->port, frame, len);
        return;
    }
    flood(p, frame, len, group);
}

/* ------------------------------------------------------------------ looking at it */

void switch_set_tap(struct switch_core *s, switch_tap *tap, void *opaque) {
    s->tap = tap;
    s->tap_opaque = opaque;
}

void switch_each_mac(const struct switch_core *s, int64_t now,
                     void (*fn)(void *opaque, const uint8_t mac[6], uint16_t vlan,
                                const struct switch_port *p, int64_t age),
                     void *opaque) {
    for (unsigned i = 0; i < BUCKETS; i++)
        for (const struct entry *e = s->bucket[i]; e; e = e->next)
            if (!aged(e, now))
                fn(opaque, e->mac, e->vlan, e->port, e->seen == OWNED ? -1 : now - e->seen);
}
