/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Port and MMIO dispatch.
 *
 * An access inside one region goes to it as it is, if the region takes its size. A wider one, and
 * one that crosses the edge of a region, is halved until the pieces fit; what belongs to nobody
 * reads as ones. A callback may map and unmap regions, its own included, so nothing is remembered
 * across one.
 */
#include "bus/io.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/trace.h"

void io_space_done(struct io_space *s) {
    free(s->region);
    *s = (struct io_space){0};
}

/* Index of the first region that ends at or after addr. */
static unsigned lower_bound(const struct io_space *s, uint64_t addr) {
    unsigned low = 0, high = s->count;

    while (low < high) {
        unsigned mid = low + (high - low) / 2;
        const struct io_region *r = s->region[mid];

        if (r->base + (r->size - 1) < addr)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

int io_map(struct io_space *s, struct io_region *r, struct error *err) {
    uint64_t last = r->base + (r->size - 1);
    unsigned i;

    if (r->size == 0 || last < r->base)
        return error_set(err, -EINVAL,
                         "region '%s' at 0x%" PRIx64 ", size 0x%" PRIx64
                         ": it must have a size and end in the address space",
                         r->name, r->base, r->size);
    i = lower_bound(s, r->base);
    if (i < s->count && s->region[i]->base <= last)
        return error_set(err, -EEXIST,
                         "region '%s' at 0x%" PRIx64 " overlaps region '%s' at 0x%" PRIx64
                         "; move one of them",
                         r->name, r->base, s->region[i]->name, s->region[i]->base);
    if (s->count == s->cap) {
        unsigned cap = s->cap ? s->cap * 2 : 32;
        struct io_region **more = realloc(s->region, cap * sizeof(*more));

        if (!more)
            return error_set(err, -ENOMEM, "region '%s': out of memory", r->name);
        s->region = more;
        s->cap = cap;
    }
    memmove(&s->region[i + 1], &s->region[i], (s->count - i) * sizeof(*s->region));
    s->region[i] = r;
    s->count++;
    return 0;
}

void io_unmap(struct io_space *s, struct io_region *r) {
    for (unsigned i = 0; i < s->count; i++) {
        if (s->region[i] != r)
            continue;
        s->count--;
        memmove(&s->region[i], &s->region[i + 1], (s->count - i) * sizeof(*s->region));
        s->last = NULL;
        return;
    }
}

const struct io_region *io_find(struct io_space *s, uint64_t addr) {
    unsigned i;

    if (s->last && addr - s->last->base < s->last->size)
        return s->last;
    i = lower_bound(s, addr);
    if (i == s->count || addr < s->region[i]->base)
        return NULL;
    s->last = s->region[i];
    return s->last;
}

static uint64_t ones(unsigned size) { return UINT64_MAX >> (64 - 8 * size); }

static unsigned max_size(const struct io_region *r) {
    return r->ops->max_size ? r->ops->max_size : 8;
}

/* How an access is done: by the region *ret_region, in halves, or (neither) by nobody. */
enum way { NOBODY, WHOLE, HALVES };

static enum way find_way(struct io_space *s, uint64_t addr, unsigned size,
                         const struct io_region **ret_region) {
    const struct io_region *r = io_find(s, addr);

    if (r && size - 1 <= r->size - 1 - (addr - r->base)) {
        *ret_region = r;
        if (size > max_size(r))
            return HALVES;
        return size < r->ops->min_size ? NOBODY : WHOLE;
    }
    if (size == 1)
        return NOBODY;
    if (!r) {
        /* Nobody at the first byte: is there somebody further on? (Past the end of addresses:
         * nobody.) */
        unsigned i = lower_bound(s, addr);

        if (i == s->count || s->region[i]->base - addr >= size)
            return NOBODY;
    }
    return HALVES;
}

uint64_t io_read(struct io_space *s, uint64_t addr, unsigned size) {
    const struct io_region *r = NULL;
    unsigned half = size / 2;
    uint64_t low;

    assert(size == 1 || size == 2 || size == 4 || size == 8);
    switch (find_way(s, addr, size, &r)) {
    case WHOLE:
        stat_inc(io_accesses);
        return r->ops->read ? r->ops->read(r->dev, addr - r->base, size) & ones(size) : ones(size);
    case HALVES:
        low = io_read(s, addr, half);
        if (addr + half < addr) /* the upper half would wrap to address 0 */
            return low | ones(half) << (8 * half);
        return low | io_read(s, addr + half, half) << (8 * half);
    default:
        trace(io_read_nobody, addr, size);
        return ones(size);
    }
}

void io_write(struct io_space *s, uint64_t addr, unsigned size, uint64_t value) {
    const struct io_region *r = NULL;
    unsigned half = size / 2;

    assert(size == 1 || size == 2 || size == 4 || size == 8);
    switch (find_way(s, addr, size, &r)) {
    case WHOLE:
        stat_inc(io_accesses);
        if (r->ops->write)
            r->ops->write(r->dev, addr - r->base, size, value & ones(size));
        break;
    case HALVES:
        io_write(s, addr, half, value);
        if (addr + half >= addr)
            io_write(s, addr + half, half, value >> (8 * half));
        break;
    default:
        trace(io_write_nobody, addr, size, value & ones(size));
        break;
    }
}
