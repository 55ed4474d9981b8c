/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which instructions a translation covers, in which order.
 *
 * The first translation of a block covers what the interpreter's block does. The second goes on
 * behind branches within the page, on the side that runs more often, as long as that is forward: a
 * superblock, with one way in and a way out at each branch. Forward only, because backward branches
 * are where translated code looks for kicks. What it takes in are blocks that the interpreter
 * knows, so that their bytes are watched already, and all of a page's blocks are dropped together.
 */
#include "base/trace.h"
#include "cpu/soft/jit/translate.h"

enum {
    OFTEN = JIT_HOT / 3, /* runs of a block that make it worth being taken in */
    SHORT = 6,           /* instructions of one that may be translated twice */
};

/* One look at the guest's bytes: devices may write to them at any time, and what is copied to the
 * host's processor must be what was decoded. */
static bool decode_block(struct trans *t, struct ref_block *b) {
    uint32_t page_off = b->addr & 4095, off = 0;
    uint8_t *bytes = t->bytes + t->used;
    unsigned first = t->lines;

    if (!ref_block_ready(t->c, b) || t->lines + b->n > REF_BLOCK_OPS ||
        t->used + b->bytes > sizeof(t->bytes) || !ref_block_bytes(t->c, b, bytes))
        return false;
    for (unsigned i = 0; i < b->n; i++) {
        const struct ref_op *o = &b->op[i];
        struct line *l = &t->line[t->lines];
        if (insn_decode(&l->in, bytes + off, b->bytes - off, t->code) <= 0) {
            t->faults = true;
            break;
        }
        if (o->off != off) { /* they have changed; the block is about to be dropped */
            t->lines = first;
            return false;
        }
        if (o->fn == ref_op_ud || o->fn == ref_op_gp0 || o->fn == ref_op_nm) {
            t->faults = true; /* the interpreter raises it, with all flags in the frame */
            break;
        }
        l->op = *o; /* they may have to make room */
        l->bytes = bytes + off;
        l->off = page_off + off;
        l->start = page_off;
        l->follow = FOLLOW_NOT;
        off += l->in.len;
        t->lines++;
    }
    t->used += off;
    return t->lines != first;
}

/* How often it ran, as far as anybody counts. */
static int runs(const struct trans *t, const struct ref_block *b) {
    const struct jit *j = &t->c->jit;

    if (!b->code)
        return b->heat;
    if (b->tier >= 2)
        return JIT_HOT;
    return JIT_HOT -
           *(const int32_t *)((const uint8_t *)t->c +
                              jit_heat_slot((size_t)((const uint8_t *)b->code - j->cache->rx)));
}

/* The block at that offset of the page if it is worth to be taken in, with its runs. */
static struct ref_block *candidate(const struct trans *t, uint32_t from, int64_t target,
                                   int *ret_runs) {
    struct ref_block *b;

    *ret_runs = 0;
    if (!in_page(target) || target <= from)
        return NULL;
    for (unsigned i = 0; i < t->lines; i++) /* it ends there: jumps into the middle are ways out */
        if (t->line[i].off == target)
            return NULL;
    b = ref_cache_at(t->c, (t->b->addr & ~(gpa)4095) + (gpa)target, t->b->mode);
    if (!b || b->crosses || b->dead || (b->tier >= 2 && b->n > SHORT))
        return NULL;
    *ret_runs = runs(t, b);
    return *ret_runs >= OFTEN ? b : NULL;
}

/* Takes in what follows the last line, if that is known and often run. */
static bool extend(struct trans *t) {
    struct line *last = &t->line[t->lines - 1];
    const struct insn *in = &last->in;
    struct ref_block *next = NULL, *taken;
    int next_runs = 0, taken_runs;

    if (t->faults || in->opsize != t->code || !in->imm_len || t->sides == SIDES ||
        (in->row->id != INSN_JCC && in->row->id != INSN_JMP))
        return false;
    taken = candidate(t, last->off, branch_target(last), &taken_runs);
    if (in->row->id == INSN_JCC)
        next = candidate(t, last->off, (int64_t)last->off + in->len, &next_runs);
    if (!next || (taken && taken_runs > next_runs))
        next = taken;
    if (!next || !decode_block(t, next))
        return false;
    stat_inc(jit_taken_in);
    last->follow = next == taken ? FOLLOW_TAKEN : FOLLOW_NEXT;
    t->sides += in->row->id == INSN_JCC;
    return true;
}

bool lines_find(struct trans *t) {
    if (!decode_block(t, t->b))
        return false;
    if (t->tier >= 2 && wide(t) && !t->c->jit.check && !(t->c->jit.off & JIT_NO_SUPER))
        while (extend(t))
            ;
    return true;
}
