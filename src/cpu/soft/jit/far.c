/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Direct branches of hot code into another page.
 *
 * Where such a branch leads depends on how its target's page is mapped. It adds the way to the
 * target to jit.page, compares that and jit.jc_key with what they were when the link was made (its
 * guard), and jumps. A key stands for a mode and a generation of mappings, and another thread
 * poisons it to be heard: so a guard that matches proves what an entry of the jump cache would, and
 * loops over several pages look for kicks. Where it does not match, the jump cache is asked; if
 * that has the code that the link leads to (another process that runs the same library), the guard
 * is renewed, else the loop in C makes the link anew, if it has not done so just before.
 *
 * A guard overwrites EFLAGS. An exit in front of which nothing has saved them, because the
 * instruction that made them can be executed again (`bare`), goes by a detour that does so where
 * the successor reads them or where the guard does not match.
 */
#include "cpu/soft/jit/jit_internal.h"

#include <errno.h>

#include "base/trace.h"
#include "base/zero.h"

#define OFF(m) offsetof(struct ref, m)
#define NEVER  (0x4000ull << 48) /* no page and key make this guard */

enum { PATIENCE = 256 }; /* links that led elsewhere, from one that is made anew to the next */

int far_new(struct ref *c, struct error *err) {
    struct jit_cache *k = c->jit.cache;

    k->far_info = zero_alloc(JIT_FARS * sizeof(*k->far_info));
    if (!k->far_info)
        return error_set(err, -ENOMEM, "the translator: out of memory");
    k->fars = 1;
    return 0;
}

void far_free(struct ref *c) {
    zero_free(c->jit.cache->far_info, JIT_FARS * sizeof(*c->jit.cache->far_info));
}

void far_forget(struct ref *c) { c->jit.cache->fars = 1; }

void far_forget_guards(struct ref *c) {
    for (unsigned i = 1; i < c->jit.cache->fars; i++)
        c->jit.far[i].guard = NEVER;
}

unsigned far_add(struct ref *c) {
    struct jit_cache *k = c->jit.cache;
    unsigned i = k->fars;

    if (i == JIT_FARS || (c->jit.off & (JIT_NO_CHAIN | JIT_NO_FAR)))
        return 0;
    k->fars++;
    k->far_info[i] = (struct jit_far_info){0};
    c->jit.far[i] = (struct jit_far){.guard = NEVER};
    return i;
}

static void lead(struct jit_cache *k, uint32_t at, const uint8_t *code) {
    __atomic_store_n((int32_t *)(void *)(k->rw + at), (int32_t)(code - (k->rx + at + 4)),
                     __ATOMIC_RELEASE);
}

static void unlist(struct jit_cache *k, unsigned i) {
    uint32_t *p = &k->far_info[i].to->fars;

    while (*p && *p != i)
        p = &k->far_info[*p].next;
    if (*p)
        *p = k->far_info[i].next;
}

void far_link(struct ref *c, unsigned i, struct ref_block *b) {
    struct jit_cache *k = c->jit.cache;
    struct jit_far_info *f = &k->far_info[i];
    bool detour = f->bare && b->reads_flags;

    c->jit.far_patience = PATIENCE;
    if (b->crosses) /* as in jit_link */
        return;
    if (f->to != b) {
        if (f->to)
            unlist(k, i);
        f->to = b;
        f->next = b->fars;
        b->fars = i;
        f->last = detour ? f->detour_jump : f->jump;
        if (detour)
            lead(k, f->jump, k->rx + f->detour);
        lead(k, f->last, b->code);
        c->jit.far[i].code = b->code;
        stat_inc(jit_links);
    }
    c->jit.far[i].guard = (c->rip & ~4095ull) ^ c->jit.true_key;
}

void far_promoted(struct ref *c, const struct ref_block *b, const uint8_t *code) {
    struct jit_cache *k = c->jit.cache;

    for (unsigned i = b->fars; i; i = k->far_info[i].next) {
        lead(k, k->far_info[i].last, code);
        c->jit.far[i].code = code;
    }
}

/* A = offset of the target in its page, which jit.page is already; B = twice the exit's number;
 * EFLAGS are free. */
void far_emit_common(struct ref *c, struct emit *e) {
    struct jit_cache *k = c->jit.cache;
    size_t miss, other, new;

    k->far = e->n;
    e_gs(e, 1, 0x03, H_A, OFF(jit.page));
    e_store(e, H_A, OFF(rip));
    e_store(e, H_B, OFF(jit.slow_lin));
    e_bytes(e, "\x45\x31\xf6", 3);             /* xor r14d, r14d */
    e_bytes(e, "\xf2\x4d\x0f\x38\xf1\xf7", 6); /* crc32 r14, r15 */
    e_bytes(e, "\x41\x81\xe6", 3);             /* and r14d, JIT_JC_SIZE - 1 */
    e32(e, JIT_JC_SIZE - 1);
    e_bytes(e, "\x4d\x01\xf6", 3); /* add r14, r14 */
    e_gs(e, 1, 0x33, H_A, OFF(jit.jc_key));
    e_gs_index(e, 0x3b, H_A, H_B, OFF(jit.jc));
    miss = e_jcc(e, 5);
    e_gs_index(e, 0x8b, H_A, H_B, OFF(jit.jc) + offsetof(struct jit_jc_entry, code));
    e_load(e, H_B, OFF(jit.slow_lin));
    e_gs_index(e, 0x3b, H_A, H_B, OFF(jit.far) + offsetof(struct jit_far, code));
    other = e_jcc(e, 5);
    e_load(e, H_A, OFF(jit.page));
    e_gs(e, 1, 0x33, H_A, OFF(jit.true_key));
    e_gs_index(e, 0x89, H_A, H_B, OFF(jit.far) + offsetof(struct jit_far, guard));
    e8(e, 0x65); /* jmp gs:[r14*8 + code] */
    e_bytes(e, "\x42\xff\x24\xf5", 4);
    e32(e, (uint32_t)(OFF(jit.far) + offsetof(struct jit_far, code)));
    e_patch(e, other);
    e_gs(e, 0, 0x83, 5, OFF(jit.far_patience)); /* sub dword, 1 */
    e8(e, 1);
    new = e_jcc(e, 8);
    e_bytes(e, "\x41\xff\xe7", 3); /* jmp r15 */
    e_patch(e, miss);
    e_patch(e, new);
    e_load(e, H_B, OFF(jit.slow_lin));
    e_store(e, H_B, OFF(jit.link));
    e_patch_to(e, e_jmp(e), k->leave);
}
