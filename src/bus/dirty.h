/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which pages of guest memory were written since a point in time: one bitmap for the writes of
 * processors, of devices and of the host's side alike.
 *
 * Who writes tells: mem_written (bus/mem.h) does for every write of a device or of ours, buffers
 * that a device was given to write are noted when it gets and when it returns them, and processors
 * note pages when they get the right to write them (software), or are asked for them
 * (cpu_ops.collect). Memory of devices (moving ranges) and ROM are never relied on: all of their
 * pages count as written.
 *
 * Nothing is noted until somebody wants to know (dirty_begin): one switch for a memory and all its
 * views, which is looked at after the write, as the notes are made.
 *
 * Contract: noting from any thread, after the write or while it cannot be asked for; taking with
 * the machine at rest: no processor runs, no device writes.
 */
#ifndef BUS_DIRTY_H
#define BUS_DIRTY_H

#include "bus/mem.h"

/* How a machine knows what its processors write. */
enum dirty_way {
    DIRTY_OFF,  /* increments compare everything */
    DIRTY_AUTO, /* where it costs nothing, or when it has been wanted once */
    DIRTY_LOG,
    DIRTY_RING, /* of KVM: a ring a processor, read while the guest runs */
};

/* A page of a range, by number. */
static inline void dirty_note_page(const struct mem_range *r, uint64_t page) {
    uint64_t *word = &r->dirty[page / 64], bit = 1ull << page % 64;

    if (!(__atomic_load_n(word, __ATOMIC_RELAXED) & bit))
        __atomic_fetch_or(word, bit, __ATOMIC_RELAXED);
}

/* Whether anybody wants to know; for who has more to do for his notes than to make them. */
static inline bool dirty_noted(const struct mem *m) {
    return __atomic_load_n(m->of ? &m->of->noted : &m->noted, __ATOMIC_RELAXED);
}

/* From now on all is noted; what was written before counts as written. From any thread, whatever
 * runs, the memory itself or a view of it; again: nothing happens. There is no way back. */
void dirty_begin(struct mem *m);

/* What of it is no memory is passed over. */
void dirty_note(const struct mem *m, gpa addr, uint64_t len);
void dirty_note_all(const struct mem *m);

/* What has been taken: a bit a page of a snapshot's `memory`. */
struct dirty_log {
    uint64_t pages;
    uint64_t bits[];
};

/* Notes begin anew. NULL: out of memory, and they stay. Freed with free. */
struct dirty_log *dirty_take(const struct mem *m);
void dirty_forget(const struct mem *m); /* the same, and nobody wants to know */
/* As if it had never been taken. */
void dirty_give_back(const struct mem *m, const struct dirty_log *log);

/* Is any of `count` pages written? */
bool dirty_has(const struct dirty_log *log, uint64_t page, uint64_t count);
uint64_t dirty_count(const struct dirty_log *log);

#endif
