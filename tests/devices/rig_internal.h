/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parts of the stub machine: backends by class (rig_kits.c) and a careless virtio driver
 * (rig_virtio.c). */
#ifndef TESTS_DEVICES_RIG_INTERNAL_H
#define TESTS_DEVICES_RIG_INTERNAL_H

#include "devices/rig.h"

struct rig_kit {
    const char *name;                                     /* of the class; NULL ends the table */
    const void *(*config)(struct rig *r);                 /* valid until the device is made */
    void (*done)(struct rig *r);                          /* after the device is freed */
    void (*copy)(struct rig *to, const struct rig *from); /* what the host's side remembers */
    void (*drive)(struct rig *r, uint64_t seed); /* brings the chip to work, as a system would */
    /* A deed of the host or of other chips, chosen by `what`; returns what it answered. */
    uint64_t (*poke)(struct rig *r, unsigned what, uint64_t value);
};
extern const struct rig_kit rig_kits[];

/* Sets up the virtio device (others: nothing) with queues of half-valid descriptors; all by `seed`.
 */
void rig_drive(struct rig *r, uint64_t seed);
/* New descriptors in the queues that rig_drive has set up, and a kick. */
void rig_kick(struct rig *r, uint64_t seed);

#endif
