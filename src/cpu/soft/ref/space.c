/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Address spaces that are not in force but keep what was cached of them.
 * Source: Intel SDM vol. 3A 4.10.1 (process-context identifiers), 4.10.4 (invalidation).
 *
 * Theory of operation: the TLB itself holds translations of one PCID and global ones. A load of CR3
 * with bit 63 puts away what the old PCID has there and brings back what the new one had, some
 * nanoseconds an entry where a miss costs a hundred; and the number (generation) that is part of
 * all cached addresses of user code is the space's own, so that these revive as well. What may have
 * changed meanwhile, which is whether a page holds decoded code, is asked again at the return.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/trace.h"
#include "base/zero.h"
#include "cpu/soft/jit/jit_internal.h"
#include "cpu/soft/ref/ref.h"

enum { SPACE_ENTRIES = 512 };
enum { SAVED_USER = 1, SAVED_WRITE = 2 }; /* in the low bits of page */

struct ref_space {
    bool used;
    uint16_t pcid;
    uint16_t count;
    uint32_t generation; /* of its user code; 0: nothing is left */
    uint64_t put_away;   /* when: the oldest gives its place */
    struct {
        uint64_t page;
        const struct mem_range *range;
        uint64_t host;
    } entry[SPACE_ENTRIES];
};

int ref_space_new(struct ref *c, struct error *err) {
    c->space = zero_alloc(REF_SPACES * sizeof(*c->space));
    return c->space ? 0 : error_set(err, -ENOMEM, "the processor's address spaces: out of memory");
}

void ref_space_free(struct ref *c) { zero_free(c->space, REF_SPACES * sizeof(*c->space)); }

static struct ref_space *find(struct ref *c, unsigned pcid) {
    for (unsigned i = 0; i < REF_SPACES; i++)
        if (c->space[i].used && c->space[i].pcid == pcid)
            return &c->space[i];
    return NULL;
}

void ref_space_drop(struct ref *c, unsigned pcid) {
    struct ref_space *s = find(c, pcid);

    if (s)
        s->used = false;
}

void ref_space_drop_all(struct ref *c) {
    if (!c->space_switches) /* none is used, and their memory never was */
        return;
    for (unsigned i = 0; i < REF_SPACES; i++)
        c->space[i].used = false;
}

void ref_space_drop_code(struct ref *c) {
    if (!c->space_switches)
        return;
    for (unsigned i = 0; i < REF_SPACES; i++)
        c->space[i].generation = 0;
}

/* The entry leaves the TLB for its space, if there is room. */
static void put_away(struct ref *c, struct ref_space *s, unsigned bank, unsigned i) {
    const struct jit_tlb_entry *t = &c->jit.tlb[bank][i];
    uint64_t page = t->tag_r, host = t->host;
    const struct mem *m = c->mem;
    const struct mem_range *r = &m->range[m->big[0]];

    if (ref_tlb_index(page) != i || c->jit.global[bank][i])
        return; /* listed twice, or another's now */
    if (s->count < SPACE_ENTRIES && host - (uintptr_t)r->host < r->size) {
        s->entry[s->count].page =
            page | (bank ? SAVED_USER : 0) | (t->tag_w == page ? SAVED_WRITE : 0);
        s->entry[s->count].range = r;
        s->entry[s->count++].host = host;
    }
    ref_tlb_invalidate(c, bank, i);
}

static void save(struct ref *c, unsigned pcid) {
    struct ref_space *s = find(c, pcid);

    for (unsigned i = 0; !s && i < REF_SPACES; i++)
        if (!c->space[i].used)
            s = &c->space[i];
    if (!s) {
        s = c->space;
        for (unsigned i = 1; i < REF_SPACES; i++)
            if (c->space[i].put_away < s->put_away)
                s = &c->space[i];
    }
    s->used = true;
    s->pcid = (uint16_t)pcid;
    s->count = 0;
    s->generation = c->user_generation;
    s->put_away = ++c->space_switches;
    for (unsigned n = 0; n < c->fill_count; n++)
        put_away(c, s, c->filled[n] / JIT_TLB_SIZE, c->filled[n] % JIT_TLB_SIZE);
    c->fill_count = 0;
}

static void restore(struct ref *c, struct ref_space *s) {
    for (unsigned n = 0; n < s->count; n++) {
        uint64_t page = s->entry[n].page;
        unsigned bank = page & SAVED_USER ? 1 : 0, i = ref_tlb_index(page);

        ref_tlb_set(c, bank, i, page & ~4095ull, s->entry[n].host);
        c->jit.global[bank][i] = false;
        ref_tlb_note_fill(c, bank, i);
        if (page & SAVED_WRITE)
            ref_tlb_allow_write(c, bank, i, s->entry[n].range);
    }
    s->used = false;
}

void ref_space_switch(struct ref *c, unsigned from, unsigned to, bool keep) {
    struct ref_space *s;

    if (from == to) {
        if (!keep)
            ref_tlb_flush_local(c);
        return;
    }
    if (c->kernel_local)
        ref_jc_flush(c);
    if (c->fill_count > REF_FILLED) { /* too many to know them */
        ref_space_drop(c, from);
        ref_tlb_flush_local(c);
    } else {
        save(c, from);
    }
    s = find(c, to);
    if (s && keep && s->generation)
        c->user_generation = s->generation;
    else
        c->user_generation = ref_new_generation(c);
    c->next = NULL;
    if (c->jit.enabled)
        sites_flush_local(c);
    if (s && keep)
        restore(c, s);
    else
        ref_space_drop(c, to);
    jit_set_key(c);
    stat_inc(ref_space_switches);
}
