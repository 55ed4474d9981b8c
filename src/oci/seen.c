/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A set by open addressing; FNV-1a over folder and name. */
#include "oci/seen.h"

#include <stdlib.h>

static uint64_t hash_of(uint32_t folder, const char *name, size_t n) {
    uint64_t h = 0xcbf29ce484222325u;

    for (unsigned i = 0; i < 4; i++)
        h = (h ^ (folder >> 8 * i & 0xff)) * 0x100000001b3u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)name[i]) * 0x100000001b3u;
    return h ? h : 1; /* 0 is an empty slot */
}

static uint64_t *place(const struct seen *s, uint64_t h) {
    size_t i = h & (s->slots - 1);

    while (s->slot[i] && s->slot[i] != h)
        i = (i + 1) & (s->slots - 1);
    return &s->slot[i];
}

static void grow(struct seen *s) {
    struct seen bigger = {.slots = s->slots ? 2 * s->slots : 256};

    bigger.slot = calloc(bigger.slots, sizeof(*bigger.slot));
    if (!bigger.slot)
        abort();
    for (size_t i = 0; i < s->slots; i++)
        if (s->slot[i])
            *place(&bigger, s->slot[i]) = s->slot[i];
    bigger.count = s->count;
    free(s->slot);
    *s = bigger;
}

void seen_add(struct seen *s, uint32_t folder, const char *name, size_t n) {
    uint64_t h = hash_of(folder, name, n), *p;

    if (2 * (s->count + 1) > s->slots)
        grow(s);
    p = place(s, h);
    s->count += !*p;
    *p = h;
}

bool seen_has(const struct seen *s, uint32_t folder, const char *name, size_t n) {
    return s->slots && *place(s, hash_of(folder, name, n));
}

void seen_done(struct seen *s) {
    free(s->slot);
    *s = (struct seen){0};
}
