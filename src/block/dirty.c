/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which parts of a disk were written. */
#include "block/dirty.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t words_of(uint64_t parts) { return (parts + 63) / 64; }

static uint64_t parts_of(uint64_t size, unsigned shift) {
    return (size >> shift) + ((size & ((1ull << shift) - 1)) != 0);
}

int dirty_init(struct dirty *d, uint64_t size, unsigned shift) {
    uint64_t parts = parts_of(size, shift);
    uint64_t *words = calloc(words_of(parts) + 1, sizeof(*words));

    if (!words)
        return -ENOMEM;
    *d = (struct dirty){.words = words, .size = size, .parts = parts, .shift = shift};
    return 0;
}

void dirty_done(struct dirty *d) {
    free(d->words);
    d->words = NULL;
}

int dirty_resize(struct dirty *d, uint64_t size) {
    struct dirty now;
    uint64_t common;

    if (dirty_init(&now, size, d->shift) < 0)
        return -ENOMEM;
    common = size < d->size ? size : d->size;
    for (uint64_t at = 0, n, from; (n = dirty_next(d, at, UINT64_MAX, &from)) && from < common;
         at = from + n)
        dirty_set(&now, from, from + n < common ? n : common - from);
    if (size > d->size)
        dirty_set(&now, d->size, size - d->size);
    dirty_done(d);
    *d = now;
    return 0;
}

/* The first part and behind the last; false: none. */
static bool range(const struct dirty *d, uint64_t offset, uint64_t length, uint64_t *first,
                  uint64_t *end) {
    if (!length || offset >= d->size)
        return false;
    if (length > d->size - offset)
        length = d->size - offset;
    *first = offset >> d->shift;
    *end = ((offset + length - 1) >> d->shift) + 1;
    return true;
}

static uint64_t mask_of(uint64_t *i, uint64_t end) {
    uint64_t from = *i % 64, n = 64 - from < end - *i ? 64 - from : end - *i;

    *i += n;
    return (n == 64 ? ~0ull : (1ull << n) - 1) << from;
}

static void change(struct dirty *d, uint64_t offset, uint64_t length, bool set) {
    uint64_t i, end;

    if (!range(d, offset, length, &i, &end))
        return;
    while (i < end) {
        uint64_t *word = &d->words[i / 64], mask = mask_of(&i, end), old;

        if (set) {
            if ((__atomic_load_n(word, __ATOMIC_RELAXED) & mask) == mask)
                continue; /* the usual case of a write that follows another */
            old = __atomic_fetch_or(word, mask, __ATOMIC_ACQ_REL);
            __atomic_fetch_add(&d->count, (uint64_t)__builtin_popcountll(mask & ~old),
                               __ATOMIC_RELAXED);
        } else {
            old = __atomic_fetch_and(word, ~mask, __ATOMIC_ACQ_REL);
            __atomic_fetch_sub(&d->count, (uint64_t)__builtin_popcountll(mask & old),
                               __ATOMIC_RELAXED);
        }
    }
}

void dirty_set(struct dirty *d, uint64_t offset, uint64_t length) {
    change(d, offset, length, true);
}

void dirty_clear(struct dirty *d, uint64_t offset, uint64_t length) {
    change(d, offset, length, false);
}

bool dirty_any(const struct dirty *d, uint64_t offset, uint64_t length) {
    uint64_t i, end;

    if (!range(d, offset, length, &i, &end))
        return false;
    while (i < end) {
        const uint64_t *word = &d->words[i / 64];

        if (__atomic_load_n(word, __ATOMIC_ACQUIRE) & mask_of(&i, end))
            return true;
    }
    return false;
}

uint64_t dirty_bytes(const struct dirty *d) {
    return __atomic_load_n(&d->count, __ATOMIC_RELAXED) << d->shift;
}

/* The first part from i on that is set, or is not. */
static uint64_t find(const struct dirty *d, uint64_t i, bool set) {
    while (i < d->parts) {
        uint64_t word = __atomic_load_n(&d->words[i / 64], __ATOMIC_ACQUIRE);

        word = (set ? word : ~word) & ~0ull << (i % 64);
        if (word) {
            i = i / 64 * 64 + (unsigned)__builtin_ctzll(word);
            return i < d->parts ? i : d->parts;
        }
        i = (i / 64 + 1) * 64;
    }
    return d->parts;
}

uint64_t dirty_next(const struct dirty *d, uint64_t offset, uint64_t max, uint64_t *ret_offset) {
    uint64_t first = offset >= d->size ? d->parts : find(d, offset >> d->shift, true), end, from;

    if (first == d->parts)
        return 0;
    from = first << d->shift;
    if (from < offset)
        from = offset;
    end = find(d, first, false) << d->shift;
    if (end > d->size)
        end = d->size;
    *ret_offset = from;
    return end - from < max ? end - from : max;
}

void dirty_merge(struct dirty *to, const struct dirty *from) {
    for (uint64_t at = 0, n, begin; (n = dirty_next(from, at, UINT64_MAX, &begin)); at = begin + n)
        dirty_set(to, begin, n);
}
