/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest physical memory: RAM and ROM ranges, safe access for devices, and the notice to CPUs that
 * somebody else wrote to a page from which they have decoded instructions.
 *
 * Contract: the map is built before CPUs run. Accesses from any thread. A range outside RAM fails
 * with -EFAULT and touches nothing; writes to ROM succeed and change nothing. A CPU that decodes a
 * page sets its flag with a locked instruction first and reads the bytes after it, mem_written
 * fences between the write and its look at the flag: so one of the two always sees the other.
 * Where several CPUs share the memory, one that may write to a page without looking has its own
 * flag set, with the same kind of instruction: who decodes the page sees it, and asks that one
 * first.
 */
#ifndef BUS_MEM_H
#define BUS_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "bus/mem_backing.h"

typedef uint64_t gpa;

enum { MEM_PAGE_SIZE = 4096, MEM_PAGE_SHIFT = 12, MEM_MAX_RANGES = 16, MEM_HIDDEN = 2 };

/* A page's flags: CPU i holds decoded instructions of it; CPU i may write to it without looking. */
#define MEM_PAGE_CODE(i)   (1ull << (i))
#define MEM_PAGE_WRITER(i) (1ull << (32 + (i)))
#define MEM_PAGE_ANY_CODE  0xffffffffull

struct mem_range {
    gpa base;
    uint64_t size;        /* as it is seen: mem_hide may have cut it */
    uint64_t whole;       /* as it was added */
    uint64_t shown;       /* of it, from the base on: all, but for a room (mem_show) */
    uint64_t offset;      /* in a snapshot's `memory` */
    uint8_t *host;        /* private mapping: a forked child keeps it as it was */
    uint64_t *page_flags; /* one word a page, atomic access */
    uint64_t *dirty;      /* a bit a page, atomic access: written (bus/dirty.h) */
    bool readonly;        /* ROM: guest writes are dropped */
    bool room;            /* it comes and goes: no RAM that firmware or a kernel is told of */
    bool moving;          /* memory of a device: no RAM, and mem_place says where it is */
    bool pooled;          /* huge pages of the host's pool */
    bool part;            /* of `area` */
};

#define MEM_NOWHERE (1ull << 52) /* the base of a moving range that is not mapped: no address */
#define MEM_MOVED   UINT64_MAX   /* to code_written: some range has moved, forget translations */

struct mem {
    struct mem_range range[MEM_MAX_RANGES]; /* sorted by base, disjoint */
    unsigned count;
    unsigned big[2]; /* indexes of the largest ranges: nearly every access is there */
    uint64_t ram_size;
    uint64_t file_size; /* of a snapshot's `memory` */
    /* Called (any thread) after a device wrote to a page of which some CPU holds instructions, or
     * with MEM_MOVED. */
    void (*code_written)(void *opaque, gpa page);
    void *code_opaque;
    struct {
        gpa base;
        uint64_t size; /* 0: nothing */
    } hidden[MEM_HIDDEN];
    struct mem_backing backing;
    uint8_t *area; /* RAM on huge pages, or NULL */
    uint64_t area_size;
    bool kept;            /* mem_release does nothing */
    bool noted;           /* atomic: bus/dirty.h. Of the memory itself, for all its views */
    const struct mem *of; /* of a view: the memory itself */
};

int mem_init(struct mem *m, struct error *err);
void mem_done(struct mem *m);
/* Adds zeroed memory; overlapping or unaligned ranges are refused. */
int mem_add(struct mem *m, gpa base, uint64_t size, bool readonly, struct error *err);

/* Adds a range of which nothing is mapped yet, and no RAM that firmware or a kernel is told of. */
int mem_add_room(struct mem *m, gpa base, uint64_t room, struct error *err);
/* Maps the first `size` bytes of the room at `base`, whole pages, or of less than before the rest
 * no longer, which keeps what it holds. Machine lock held, and for less no processor runs. Without
 * such a room nothing happens. Of views each is to be told. */
void mem_show(struct mem *m, gpa base, uint64_t size);

/* Adds memory of a device, after all others: mapped nowhere yet, zeroed. Its index. RAM hides it
 * where they overlap.
 */
int mem_add_moving(struct mem *m, uint64_t size, struct error *err);
/* Maps it at `base`, or MEM_NOWHERE. Machine lock held; the host's address stays the same. */
void mem_place(struct mem *m, unsigned index, gpa base);

/*
 * A second map of the memory of `m`, for those who may not see all of it. It owns nothing: `m`
 * outlives it and gets no more ranges; what is placed in one is to be placed in the other.
 */
void mem_view(struct mem *view, const struct mem *m);
/* In a view, in place of what hidden[i] was: nothing is there. Of memory that does not move only
 * the end of a range can be hidden. Machine lock held. */
void mem_hide(struct mem *view, unsigned i, gpa base, uint64_t size);

/* Puts the bytes [offset, offset + size) of a file, whole pages, in the place of the memory that
 * has this offset in a snapshot; fd -1: zeros. Only before processors run. */
int mem_map(struct mem *m, uint64_t offset, uint64_t size, int fd, struct error *err);

/* Host pointer by offset in a snapshot, NULL if that is not all in one range. */
uint8_t *mem_at_offset(const struct mem *m, uint64_t offset, uint64_t size);

/* All of that part of a snapshot is room of which nothing is mapped: zeros. */
bool mem_is_hidden(const struct mem *m, uint64_t offset, uint64_t size);

const struct mem_range *mem_find(const struct mem *m, gpa addr);
/* Host pointer to [addr, addr+len) if it lies wholly in one range (writable one for `write`), else
 * NULL. After writing through it call mem_written. */
void *mem_ptr(const struct mem *m, gpa addr, uint64_t len, bool write);
void mem_written(struct mem *m, gpa addr, uint64_t len);

int mem_read(const struct mem *m, gpa addr, void *buf, uint64_t len);
int mem_write(struct mem *m, gpa addr, const void *buf, uint64_t len);
/* mem_write that may fill ROM. */
int mem_load(struct mem *m, gpa addr, const void *buf, uint64_t len);

#endif
