/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bitmap of written pages. It lies behind each range's page flags, and so is the same for all
 * views of a memory (mem_view).
 */
#include "bus/dirty.h"

#include <stdlib.h>

/* Who looked at the switch before it was on has no note of his own: so all pages have one, made
 * after it. Taking waits for a machine at rest, and so for who was about to write. */
void dirty_begin(struct mem *m) {
    struct mem *all = m->of ? (struct mem *)m->of : m;

    if (!__atomic_exchange_n(&all->noted, true, __ATOMIC_SEQ_CST))
        dirty_note_all(all);
}

void dirty_note(const struct mem *m, gpa addr, uint64_t len) {
    if (!dirty_noted(m))
        return;
    while (len) {
        const struct mem_range *r = mem_find(m, addr);
        uint64_t part, last;

        if (!r)
            return;
        part = r->size - (addr - r->base);
        if (part > len)
            part = len;
        last = (addr - r->base + part - 1) >> MEM_PAGE_SHIFT;
        for (uint64_t page = (addr - r->base) >> MEM_PAGE_SHIFT; page <= last; page++)
            dirty_note_page(r, page);
        addr += part;
        len -= part;
    }
}

static uint64_t words_of(const struct mem_range *r) {
    return ((r->whole >> MEM_PAGE_SHIFT) + 63) / 64;
}

void dirty_note_all(const struct mem *m) {
    for (unsigned i = 0; i < m->count; i++)
        for (uint64_t w = 0; w < words_of(&m->range[i]); w++)
            __atomic_store_n(&m->range[i].dirty[w], ~0ull, __ATOMIC_RELAXED);
}

static void set(struct dirty_log *log, uint64_t page) {
    if (page < log->pages)
        log->bits[page / 64] |= 1ull << page % 64;
}

static void take_range(struct mem_range *r, struct dirty_log *log) {
    uint64_t first = r->offset >> MEM_PAGE_SHIFT, pages = r->whole >> MEM_PAGE_SHIFT;

    for (uint64_t w = 0; w < words_of(r); w++) {
        uint64_t bits = r->readonly || r->moving ? ~0ull : 0;

        if (__atomic_load_n(&r->dirty[w],
                            __ATOMIC_RELAXED)) /* what was never touched costs nothing */
            bits |= __atomic_exchange_n(&r->dirty[w], 0, __ATOMIC_RELAXED);
        if (bits == ~0ull && !(first % 64) && first + 64 * w + 64 <= log->pages &&
            64 * w + 64 <= pages) { /* of all that is written, see dirty_begin */
            log->bits[first / 64 + w] = bits;
            continue;
        }
        for (; bits; bits &= bits - 1) {
            uint64_t page = 64 * w + (uint64_t)__builtin_ctzll(bits);

            if (page < pages)
                set(log, first + page);
        }
    }
}

struct dirty_log *dirty_take(const struct mem *m) {
    uint64_t pages = m->file_size >> MEM_PAGE_SHIFT;
    struct dirty_log *log = calloc(1, sizeof(*log) + (pages + 63) / 64 * 8);

    if (!log)
        return NULL;
    log->pages = pages;
    for (unsigned i = 0; i < m->count; i++)
        take_range((struct mem_range *)&m->range[i], log);
    return log;
}

void dirty_forget(const struct mem *m) {
    for (unsigned i = 0; i < m->count; i++)
        for (uint64_t w = 0; w < words_of(&m->range[i]); w++)
            if (__atomic_load_n(&m->range[i].dirty[w], __ATOMIC_RELAXED))
                __atomic_store_n(&m->range[i].dirty[w], 0, __ATOMIC_RELAXED);
}

void dirty_give_back(const struct mem *m, const struct dirty_log *log) {
    for (unsigned i = 0; i < m->count; i++) {
        const struct mem_range *r = &m->range[i];
        uint64_t first = r->offset >> MEM_PAGE_SHIFT;

        for (uint64_t page = 0; page < r->whole >> MEM_PAGE_SHIFT; page++)
            if (dirty_has(log, first + page, 1))
                dirty_note_page(r, page);
    }
}

bool dirty_has(const struct dirty_log *log, uint64_t page, uint64_t count) {
    for (uint64_t end = page + count; page < end; page++) {
        if (page >= log->pages)
            return true;
        if (!(log->bits[page / 64] >> page % 64)) {
            page |= 63; /* nothing more in this word */
            continue;
        }
        if (log->bits[page / 64] >> page % 64 & 1)
            return true;
    }
    return false;
}

uint64_t dirty_count(const struct dirty_log *log) {
    uint64_t n = 0;

    for (uint64_t w = 0; w < (log->pages + 63) / 64; w++)
        n += (uint64_t)__builtin_popcountll(log->bits[w]);
    return n;
}
