/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Port and MMIO dispatch: address -> device region.
 *
 * Contract: called with the machine lock held. Reads of nothing give all ones, writes to nothing
 * are dropped (PC convention; OVMF relies on it). Accesses are 1, 2, 4 or 8 bytes; a region that
 * takes only some sizes gets wider ones split and narrower ones as declared by its limits (else all
 * ones/dropped).
 */
#ifndef BUS_IO_H
#define BUS_IO_H

#include <stdint.h>

#include "base/error.h"

struct io_ops {
    uint64_t (*read)(void *dev, uint64_t offset, unsigned size);
    void (*write)(void *dev, uint64_t offset, unsigned size, uint64_t value);
    uint8_t min_size, max_size; /* 0: 1 and 8 */
};

struct io_region {
    uint64_t base, size;
    const struct io_ops *ops;
    void *dev;
    const char *name;
};

struct io_space {
    struct io_region **region; /* sorted by base */
    unsigned count, cap;
    const struct io_region *last; /* cache of the last hit */
};

void io_space_done(struct io_space *s);
/* The region is owned by the caller, must outlive its mapping, and must not overlap another one. */
int io_map(struct io_space *s, struct io_region *r, struct error *err);
void io_unmap(struct io_space *s, struct io_region *r); /* no-op if not mapped */
const struct io_region *io_find(struct io_space *s, uint64_t addr);
uint64_t io_read(struct io_space *s, uint64_t addr, unsigned size);
void io_write(struct io_space *s, uint64_t addr, unsigned size, uint64_t value);

#endif
