/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Eventfds between the guest and the process: doorbells, which the guest's writes to an address
 * signal, and message wires, whose signals raise an MSI. With KVM the kernel does both by itself
 * (ioeventfd, irqfd), without a processor's coming back to us; without it doorbells do not exist,
 * since a write comes to the board anyhow, and the loop raises the messages of wires.
 *
 * Contract: machine lock held. Whoever has a wire's descriptor signals it from any thread, process
 * or kernel, without the lock: write 8 bytes, value 1. What was signalled while a wire was off, or
 * the machine was at rest, is raised once when it is on again. Nothing here is saved: after a load
 * devices set their wires anew, and look for themselves what there is to do.
 *
 * Who makes more of both than a host allows open descriptors gets NULL, and does without.
 */
#ifndef BUS_WIRES_H
#define BUS_WIRES_H

#include <stdbool.h>
#include <stdint.h>

#include "bus/irq.h"

struct loop;
struct wires; /* of one machine */
struct doorbell;
struct msi_wire;

struct msi_message {
    uint64_t addr;
    uint32_t data;
};

struct wires_ops { /* what the processors' backend can do; 0, or a negative errno if it cannot */
    /* A write of any width to addr signals fd from now on, and does not come to the board; or, `on`
     * false, is as any other again. */
    int (*ring)(void *opaque, uint64_t addr, int fd, bool on);
    /* A signal of fd raises the message from now on, NULL: no longer. Again: another message. */
    int (*carry)(void *opaque, int fd, const struct msi_message *message);
};

/* NULL if out of memory. The loop outlives it. `ops` NULL: a backend that can do neither. */
struct wires *wires_new(struct loop *loop, const struct wires_ops *ops, void *opaque);
void wires_free(struct wires *w); /* accepts NULL; after all that it made */
/* The backend does it, as far as it can. NULL: no. */
bool wires_direct(const struct wires *w);
/* For a machine at rest. Doorbells that have been rung are answered now; nothing is raised by wires
 * between wires_hold and wires_let_go. */
void wires_answer(struct wires *w);
void wires_hold(struct wires *w);
void wires_let_go(struct wires *w);
/* The backend is going, and is not asked any more: from now on all is as without one. */
void wires_come_home(struct wires *w);

/* `rung(opaque, n)` on the loop's thread, once or more after each ring. NULL also where there are
 * none: the write then comes to the board, as it does while the doorbell is nowhere, and if the
 * backend refuses the place. */
struct doorbell *doorbell_new(struct wires *w, void (*rung)(void *opaque, unsigned n), void *opaque,
                              unsigned n);
void doorbell_free(struct doorbell *b); /* accepts NULL */
#define DOORBELL_NOWHERE UINT64_MAX
void doorbell_move(struct doorbell *b, uint64_t addr);

/* Off at first. The sink, which outlives it, takes the messages that the loop has to raise. */
struct msi_wire *msi_wire_new(struct wires *w, const struct msi_sink *sink);
void msi_wire_free(struct msi_wire *m); /* accepts NULL */
/* Another message, or none for now. Asking for what is so already costs nothing; KVM takes a
 * millisecond for a change. */
void msi_wire_set(struct msi_wire *m, bool on, uint64_t addr, uint32_t data);
/* For somebody else to signal. It stays the wire's. */
int msi_wire_fd(struct msi_wire *m);
/* Signalled, and not raised yet since it is off. */
bool msi_wire_pending(const struct msi_wire *m);
/* Signals a wire that the backend carries now; false: it does not, send the message yourself. */
bool msi_wire_raise(struct msi_wire *m);

#endif
