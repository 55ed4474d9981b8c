/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The seam to networks: a frame port. Whole Ethernet frames without FCS, at most NET_FRAME_MAX
 * bytes.
 *
 * Contract: machine lock held, loop's or vCPU's thread. net_send gives a frame from the guest to
 * the network; it is copied before it returns. After the last frame of a burst comes net_flush:
 * replies may wait for it. The backend delivers frames for the guest by port->receive (from the
 * loop, net_resume or net_flush, never from inside net_send), which returns false when the guest
 * has no room: the backend keeps the frame (bounded queue, then drops and counts) until net_resume
 * says there is room again. After a burst it calls port->received, so that the NIC interrupts once.
 * The port outlives its NIC, which sets receive back to NULL.
 */
#ifndef NET_NET_H
#define NET_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/bytes.h"
#include "base/error.h"

enum { NET_FRAME_MAX = 65536 };

struct loop;
struct net_port;

struct net_ops {
    void (*send)(struct net_port *p, const struct iovec *iov, unsigned count);
    void (*flush)(struct net_port *p); /* optional */
    void (*resume)(struct net_port *p);
    /* Optional, of a paused machine: what the guest would miss after a restore. `load` checks
     * everything first. */
    void (*save)(struct net_port *p, struct buf *out);
    int (*load)(struct net_port *p, const void *bytes, size_t n, struct error *err);
    void (*close)(struct net_port *p);
};

struct net_port {
    const struct net_ops *ops;
    bool (*receive)(void *opaque, const uint8_t *frame, size_t len); /* set by the NIC, or NULL */
    void (*received)(void *opaque);                                  /* set by the NIC, or NULL */
    void *opaque;
    uint16_t mtu;       /* of the link, for guests that ask; 0 = default 1500 */
    uint16_t guest_mtu; /* set by the NIC: what the guest's driver goes by; 0 = 1500 */
    bool big_tcp;       /* takes TCP segments larger than the MTU (a NIC may offer TSO) */
    bool checked;       /* frames to the guest have correct checksums that need no second look */
};

struct net_forward { /* host address:port -> guest port */
    bool udp;
    char host[64]; /* numeric IPv4 address; empty = 127.0.0.1 */
    uint16_t host_port, guest_port;
    uint32_t guest; /* its IPv4 address, host's byte order; 0: the first that DHCP gives */
};

/* User-mode NAT (user.h): 10.0.2.0/24, gateway 10.0.2.2 (the host), DNS 10.0.2.3, DHCP from .15;
 * fd00::/64 likewise. */
struct net_port *net_user_open(struct loop *loop, const struct net_forward *fwd, unsigned count,
                               struct error *err);

static inline void net_send(struct net_port *p, const struct iovec *iov, unsigned count) {
    p->ops->send(p, iov, count);
}
static inline void net_flush(struct net_port *p) {
    if (p->ops->flush)
        p->ops->flush(p);
}
static inline void net_resume(struct net_port *p) { p->ops->resume(p); }
static inline void net_save(struct net_port *p, struct buf *out) {
    if (p->ops->save)
        p->ops->save(p, out);
}
static inline int net_load(struct net_port *p, const void *bytes, size_t n, struct error *err) {
    return p->ops->load ? p->ops->load(p, bytes, n, err) : 0;
}
void net_close(struct net_port *p); /* accepts NULL */

#endif
