/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The seam between a device of the host and the function that a guest sees of it.
 *
 * Contract: machine lock held, on the loop's or a processor's thread; calls wait for the host's
 * driver at most, which takes microseconds (a reset: up to seconds). The owner (host.h, or a test's
 * fake) makes it; the device (devices/vfio_pci.c) sets `fired`, and is gone before it.
 *
 * Messages go to descriptors (eventfds) that the device names, past this process if it can be
 * (bus/wires.h); only INTx, whose level ends with a look, is told by a call.
 */
#ifndef VFIO_FUNCTION_H
#define VFIO_FUNCTION_H

#include <stdbool.h>
#include <stdint.h>

#include "vfio/group.h"

/* The kernel's numbers of regions: BARs 0 to 5, then these. */
enum { VFIO_ROM = 6, VFIO_CONFIG = 7, VFIO_REGIONS };
enum vfio_interrupt { VFIO_INTX, VFIO_MSI, VFIO_MSIX, VFIO_INTERRUPTS };

enum { VFIO_VECTORS = 2048, /* as MSI-X has at most */ VFIO_AREAS = 8 };

struct vfio_area { /* of a region, in whole pages, that lies in this process's memory */
    uint64_t offset, size;
    uint8_t *memory;
};

struct vfio_region {
    uint64_t size; /* 0: there is none */
    bool read, write;
    unsigned areas; /* in the order of offsets, disjoint; touched only by processors of guests */
    struct vfio_area area[VFIO_AREAS];
};

struct vfio_function;

struct vfio_function_ops {
    /* 0, or a negative errno: it is not to be reached now. */
    int (*read)(struct vfio_function *f, unsigned region, uint64_t offset, void *buf,
                unsigned size);
    int (*write)(struct vfio_function *f, unsigned region, uint64_t offset, const void *buf,
                 unsigned size);
    /* From now on interrupts of this kind, numbers 0 to count - 1, may come, and of no other kind;
     * 0: none of it. How many there will be, or a negative errno. `fired` tells of INTx. Messages
     * signal fds[]; NULL: none yet, the device holds them back. What is signalled stays open until
     * the next `listen`. */
    int (*listen)(struct vfio_function *f, enum vfio_interrupt kind, unsigned count,
                  const int *fds);
    /* Message n of that kind signals fd from now on. */
    int (*signal)(struct vfio_function *f, unsigned n, int fd);
    int (*unmask)(struct vfio_function *f); /* INTx, which is masked when it has fired */
    int (*reset)(struct vfio_function *f);  /* -ENOTSUP: it has none */
};

struct vfio_function {
    const struct vfio_function_ops *ops;
    char name[VFIO_NAME];
    struct vfio_region region[VFIO_REGIONS];
    unsigned interrupts[VFIO_INTERRUPTS]; /* how many it can send of each kind */
    void (*fired)(void *opaque);          /* INTx; NULL: nobody wants to know */
    void *opaque;
};

#endif
