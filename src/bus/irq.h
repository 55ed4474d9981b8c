/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Interrupt wires: a device raises and lowers a level, or sends a message (MSI); the board decides
 * where it goes. Called with the machine lock held. An unconnected wire (fn NULL) is legal and does
 * nothing. */
#ifndef BUS_IRQ_H
#define BUS_IRQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct irq {
    void (*fn)(void *opaque, unsigned n, bool level);
    void *opaque;
    unsigned n;
};

static inline void irq_set(const struct irq *irq, bool level) {
    if (irq && irq->fn)
        irq->fn(irq->opaque, irq->n, level);
}
static inline void irq_raise(const struct irq *irq) { irq_set(irq, true); }
static inline void irq_lower(const struct irq *irq) { irq_set(irq, false); }

/* Message-signalled interrupt: a write of data to an address in the fee00000 window. */
struct msi_sink {
    void (*send)(void *opaque, uint64_t addr, uint32_t data);
    void *opaque;
};

static inline void msi_send(const struct msi_sink *s, uint64_t addr, uint32_t data) {
    if (s && s->send)
        s->send(s->opaque, addr, data);
}

#endif
