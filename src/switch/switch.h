/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The core of a virtual network: a learning switch between frame ports. It knows no sockets; what
 * a port leads to is behind `deliver`.
 *
 * Rules, by IEEE 802.1Q-2018 where it says something: a frame goes to the port where its
 * destination was seen last, to nobody if that is where it came from, and to all others if it is
 * for a group or unknown. Frames for 01-80-c2-00-00-0x stay here (8.6.3). Ports of different VLANs
 * never meet. A port with an address of its own (`owned`) sends from that one alone and gets no
 * frames for unknown others; an address that a port owns is learned nowhere else.
 *
 * Contract: one thread. `deliver` may call switch_input again for another port, but adds and
 * removes none.
 */
#ifndef SWITCH_SWITCH_H
#define SWITCH_SWITCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SWITCH_MACS = 4096,     /* addresses known at most */
    SWITCH_PORT_MACS = 512, /* learned of one port */
    SWITCH_AGE_MS = 300 * 1000,
    SWITCH_FRAME_MIN = 14,
    SWITCH_FRAME_MAX = 65536,
};

struct switch_core;

struct switch_counters {
    uint64_t frames_in, bytes_in, frames_out, bytes_out;
    uint64_t dropped; /* for it, which it had no room for */
    uint64_t refused; /* from it, against the rules */
};

struct switch_port {
    /* False: there is no room, and the frame is dropped. */
    bool (*deliver)(struct switch_port *p, const uint8_t *frame, size_t len);
    /* NULL, or more rules for what it may send: false refuses the frame. */
    bool (*allows)(struct switch_port *p, const uint8_t *frame, size_t len);
    bool owned; /* `mac` is its own: see above */
    bool
        reserved; /* it gets frames for addresses that it owns or reserved, and for groups, alone */
    uint8_t mac[6];
    uint16_t vlan;
    struct switch_counters counters;
    struct switch_core *core; /* these three are the switch's */
    struct switch_port *next;
    unsigned learned;
};

/* Sees every frame that was let in, with the port that it came from and the port that it goes to;
 * `to` is NULL once for each frame. */
typedef void switch_tap(void *opaque, const struct switch_port *from, const struct switch_port *to,
                        const uint8_t *frame, size_t len);

struct switch_core *switch_new(void);    /* NULL: out of memory */
void switch_free(struct switch_core *s); /* accepts NULL; ports are their owners' */

/* -EEXIST: another port owns the address. */
int switch_add(struct switch_core *s, struct switch_port *p);
void switch_remove(struct switch_port *p); /* and forgets what was learned of it */
/* Another address that the port owns, without being bound to send from it. */
int switch_reserve(struct switch_port *p, const uint8_t mac[6]);

/* A frame from a port; `now` in ms by any clock that only goes forward. */
void switch_input(struct switch_port *p, const uint8_t *frame, size_t len, int64_t now);

void switch_set_tap(struct switch_core *s, switch_tap *tap /* NULL: none */, void *opaque);

/* Every known address; age in ms, -1 of one that is owned. */
void switch_each_mac(const struct switch_core *s, int64_t now,
                     void (*fn)(void *opaque, const uint8_t mac[6], uint16_t vlan,
                                const struct switch_port *p, int64_t age),
                     void *opaque);

#endif
