/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Code out of the way of a block: TLB misses, exits, and what leaves a block early. */
#include "cpu/soft/jit/translate.h"

struct stub *stub_add(struct trans *t, enum stub_kind kind, size_t from, uint32_t off) {
    struct stub *s = &t->stub[t->stubs < STUBS ? t->stubs++ : STUBS - 1];

    *s = (struct stub){.kind = kind, .from = from, .off = off};
    return s;
}

static void jump_common(struct emit *e, size_t target) { e_patch_to(e, e_jmp(e), target); }

void stub_jump_common(struct trans *t, size_t target) { jump_common(&t->e, target); }

/* slow_return = the code at `target`: lea r15, [rip + ...] and a store. */
static void put_return(struct emit *e, size_t target) {
    e_bytes(e, "\x4c\x8d\x3d", 3);
    e32(e, 0);
    e_patch_to(e, e->n - 4, target);
    e_store(e, H_A, OFF(jit.slow_return));
}

/* A = where a branch leads that undoes itself if that is not canonical. */
static void put_undo(struct trans *t, struct emit *e, const struct stub *s) {
    size_t canonical;

    e_mov(e, H_B, H_A);
    e_bytes(e, "\x49\xc1\xfe\x2f\x49\xff\xc6\x49\x83\xfe\x01", 11);
    canonical = e_jcc(e, 6);
    if (s->info)
        e_lea(e, H_RSP, H_RSP, -(int32_t)s->info);
    if (s->kind == STUB_FAR) {
        e_lea(e, H_A, H_A, -(int32_t)(s->target & ~4095));
        e_store(e, H_A, OFF(jit.page));
    }
    e_gs_set32(e, OFF(jit.slow_off), s->off);
    jump_common(e, t->k->bail);
    e_patch(e, canonical);
}

static void put_again(struct trans *t, struct emit *e, const struct stub *s) {
    if (s->again) {
        copy_repeat(t, e, s->again);
        flags_put_save(e);
    }
}

/* The guard of a link into another page did not match, or was not made yet. */
static void put_far(struct trans *t, struct emit *e, const struct stub *s) {
    struct jit_far_info *f = &t->k->far_info[s->far];

    e_patch(e, f->jump);
    put_again(t, e, s);
    if (s->undo) {
        e_load(e, H_A, OFF(jit.page));
        put_undo(t, e, s);
    }
    e_bytes(e, "\x41\xbe", 2); /* mov r14d, */
    e32(e, 2 * s->far);
    e_bytes(e, "\x41\xbf", 2); /* mov r15d, */
    e32(e, s->target & 4095);
    jump_common(e, t->k->far);
    if (s->again) {
        f->bare = true;
        f->detour = (uint32_t)e->n;
        put_again(t, e, s);
        e_nop(e, -(e->n + 1) & 3);
        f->detour_jump = (uint32_t)e_jmp(e);
        e_patch_to(e, f->detour_jump, f->detour); /* nothing leads here yet */
    }
}

void stub_put_all(struct trans *t) {
    struct emit *e = &t->cold;

    for (unsigned i = 0; i < t->stubs; i++) {
        struct stub *s = &t->stub[i];
        e_patch(e, s->from);
        switch (s->kind) {
        case STUB_SLOW: /* lin = A + tag; info; return */
            e_gs_base(e, 0x03, H_A, H_B,
                      access_tlb(t, s->info & JIT_SLOW_WRITE
                                        ? offsetof(struct jit_tlb_entry, tag_w)
                                        : offsetof(struct jit_tlb_entry, tag_r)));
            e_bytes(e, "\x4c\x8d\x35", 3); /* lea r14, [rip + 5]: behind the jump */
            e32(e, 5);
            jump_common(e, t->k->slow_record);
            e32(e, (uint32_t)s->retry); /* struct jit_slow_record */
            e32(e, s->off << 16 | s->info);
            if (s->info & JIT_SLOW_GROUP) { /* struct jit_group_record */
                e64(e, (uintptr_t)t->b);
                e64(e, s->lines);
                e64(e, 0);
                e64(e, 0);
            }
            break;
        case STUB_SITE_DIRECT: /* A is what is left of the address */
            e_gs(e, 1, 0x03, H_A, sites_tag((int)s->info));
            __attribute__((fallthrough));
        case STUB_SITE:
            e_bytes(e, "\x41\xbe", 2); /* mov r14d, site */
            e32(e, s->info);
            jump_common(e, t->k->site);
            break;
        case STUB_FAR:
            put_far(t, e, s);
            break;
        case STUB_PROMOTE:
            e_load(e, H_A, OFF(jit.page));
            e_lea(e, H_A, H_A, (int32_t)s->off);
            e_store(e, H_A, OFF(rip));
            e_lea(e, H_A, H_A, 1);
            e_store(e, H_A, OFF(jit.promote));
            jump_common(e, t->k->leave);
            break;
        case STUB_RETURNS: /* full: begin anew */
            e_load(e, H_RSP, OFF(jit.returns_top));
            e_patch_to(e, e_jmp(e), s->retry);
            break;
        case STUB_VEC:
            e_gs_set32(e, OFF(jit.slow_off), s->off);
            put_return(e, s->retry);
            jump_common(e, t->k->vec_load);
            break;
        case STUB_BAIL:
            e_gs_set32(e, OFF(jit.slow_off), s->off);
            jump_common(e, t->k->bail);
            break;
        case STUB_LEAVE:
            if (s->undo) {
                e_load(e, H_A, OFF(rip));
                put_undo(t, e, s);
            }
            jump_common(e, t->k->leave);
            break;
        case STUB_EXIT:
            e_load(e, H_A, OFF(jit.page));
            e_lea_w(e, wide(t), H_A, H_A, (int32_t)s->target);
            e_store(e, H_A, OFF(rip));
            if (s->linkable) { /* link = this record */
                e_bytes(e, "\x4c\x8d\x3d", 3);
                e32(e, 9 + 5); /* past the store (9 bytes) and the jump (5) */
                e_store(e, H_A, OFF(jit.link));
            }
            jump_common(e, t->k->leave);
            if (s->linkable) { /* struct jit_link */
                e32(e, (uint32_t)s->from);
                e32(e, (uint32_t)(t->b->addr >> 12));
                e32(e, 0);
            }
            break;
        }
    }
}
