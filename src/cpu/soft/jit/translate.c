/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One block of guest code to host code. */
#include "cpu/soft/jit/translate.h"

#include <stdlib.h>

#include "base/trace.h"
#include "cpu/soft/jit/check.h"
#include "cpu/soft/jit/dump.h"

static void handler_completed(struct ref *c, const struct ref_op *o) { c->jit.completed = 1; }

/* True for handlers that may be called in the middle of a block. Branches name successors of
 * blocks. */
static bool may_call(const struct line *l) {
    return !(l->in.row->attr & INSN_BRANCH) && l->in.row->id != INSN_INVALID;
}

static void put_helper(struct trans *t, const struct line *l) {
    struct ref_op *pair = ref_arena_alloc(t->c, 2 * sizeof(*pair));
    struct emit *e = &t->e;
    size_t lea;

    pair[0] = l->op;
    pair[1] = (struct ref_op){.fn = handler_completed};
    /* Handlers read and write c->af: all that is live, or that they might leave alone. */
    if ((l->live | flags_read_by(&l->in)) & ALL_FLAGS)
        flags_save(t);
    e_load(e, H_A, OFF(jit.page));
    e_lea(e, H_A, H_A, (int32_t)l->start);
    e_store(e, H_A, OFF_R(REF_PC));
    e_bytes(e, "\x49\xbf", 2); /* mov r15, imm64 */
    e64(e, (uint64_t)(uintptr_t)pair);
    e_store(e, H_A, OFF(jit.helper_op));
    e_gs_set32(e, OFF(jit.slow_off), l->off + l->in.len);
    e_bytes(e, "\x4c\x8d\x3d", 3); /* lea r15, [rip + ...] */
    lea = e->n;
    e32(e, 0);
    e_store(e, H_A, OFF(jit.slow_return));
    stub_jump_common(t, t->k->helper);
    e_patch(e, lea);
    t->flags = FLAGS_SLOT;
}

/* Branches that only the interpreter knows: IRET, SYSCALL, SYSRET, far ones. Their handlers end the
 * block; what is emitted behind them is never reached. */
static void put_far(struct trans *t, const struct line *l) {
    put_helper(t, l);
    stub_add(t, STUB_EXIT, e_jmp(&t->e), 0)->target = l->off + l->in.len;
}

/* CLI and STI in ring 0. With an interrupt waiting STI is the interpreter's, who knows its shadow.
 */
static bool put_interrupt_flag(struct trans *t, const struct line *l, bool on) {
    struct emit *e = &t->e;

    if (t->b->mode & (REF_MODE_USER | REF_MODE_RING12))
        return false;
    flags_keep(t, l);
    if (on) {
        e_gs_cmp32(e, OFF(attention), 0);
        stub_add(t, STUB_BAIL, e_jcc(e, 5), l->off);
    }
    e_gs(e, 0, 0x81, on ? 1 : 4, OFF(fl)); /* or, and */
    e32(e, on ? X86_FLAG_IF : ~X86_FLAG_IF);
    e_gs(e, 0, 0x83, on ? 1 : 4, OFF(att_mask));
    e8(e, on ? 0xff : 0xff & ~REF_ATT_INTR);
    if (on) /* ends its block: an interrupt may come before the next one has begun */
        e_gs_set8(e, OFF(jit.sti), 1);
    return true;
}

/* SWAPGS: every way into the kernel and out of it. */
static bool put_swapgs(struct trans *t) {
    struct emit *e = &t->e;

    e_load(e, H_A, OFF(s.seg[SEG_GS].base));
    e_load(e, H_B, OFF(s.kernel_gs_base));
    e_store(e, H_A, OFF(s.kernel_gs_base));
    e_store(e, H_B, OFF(s.seg[SEG_GS].base));
    return true;
}

/* Instructions after which MXCSR may unmask exceptions, which translated code must not meet: leave
 * and look. */
static bool sets_mxcsr(unsigned id) {
    switch (id) {
    case INSN_LDMXCSR:
    case INSN_VLDMXCSR:
    case INSN_FXRSTOR:
    case INSN_XRSTOR:
    case INSN_XRSTORS:
        return true;
    default:
        return false;
    }
}

static bool put_if_native(struct trans *t, const struct line *l) {
    switch (l->in.row->id) {
    case INSN_LEA:
        return copy_lea(t, l);
    case INSN_PUSH:
        return stack_push(t, l);
    case INSN_POP:
        return stack_pop(t, l);
    case INSN_DIV:
    case INSN_IDIV:
        return divide(t, l);
    case INSN_LEAVE:
        return stack_leave(t, l);
    case INSN_CLI:
        return put_interrupt_flag(t, l, false);
    case INSN_STI:
        return put_interrupt_flag(t, l, true);
    case INSN_SWAPGS: /* with privilege: else its block ends before it */
        return put_swapgs(t);
    case INSN_STMXCSR:
    case INSN_VSTMXCSR:
        return copy_mxcsr(t, l, false);
    case INSN_LDMXCSR:
    case INSN_VLDMXCSR:
        return copy_mxcsr(t, l, true);
    case INSN_NOP:
    case INSN_PREFETCH:
    case INSN_PREFETCHW:
    case INSN_PREFETCHNTA:
    case INSN_PREFETCHT0:
    case INSN_PREFETCHT1:
    case INSN_PREFETCHT2:
        return true;
    case INSN_TZCNT:
    case INSN_LZCNT: /* BSF, BSR where the guest does not have them */
        if (!ref_has(t->c, l->in.row->feature))
            return false;
        break;
    default:
        break;
    }
    return copy_insn(t, l);
}

/* The instruction without a handler; nothing is emitted where there is no such translation. */
static bool put_native(struct trans *t, const struct line *l) {
    size_t before = t->e.n;
    unsigned stubs = t->stubs, sites = t->k->sites;
    enum flags_place flags = t->flags;
    bool checked = t->vec_checked;

    if (put_if_native(t, l))
        return true;
    t->e.n = before;
    t->stubs = stubs;
    t->k->sites = sites;
    t->flags = flags;
    t->vec_checked = checked;
    return false;
}

/* Counts down; a block that has run often is worth a second translation. A counter that nobody has
 * used yet is zero. */
static void put_heat(struct trans *t) {
    int32_t *heat = (int32_t *)((uint8_t *)t->c + jit_heat_slot(t->k->used));

    if (!*heat)
        *heat = JIT_HOT;
    e_gs(&t->e, 0, 0x83, 5, jit_heat_slot(t->k->used)); /* sub dword, 1 */
    e8(&t->e, 1);
    stub_add(t, STUB_PROMOTE, e_jcc(&t->e, 8), t->line[0].off);
}

static bool fits(const struct trans *t) {
    return t->e.n <= t->e.cap && t->cold.n <= t->cold.cap && t->stubs < STUBS;
}

static bool finish(struct trans *t) {
    exit_put_sides(t);
    stub_put_all(t);
    return fits(t);
}

static bool emit_block(struct trans *t) {
    bool done = false, any = false;
    unsigned i;

    t->e.n = t->k->used;
    t->cold.n = t->k->cold;
    t->stubs = t->sides = 0;
    memset(t->accesses, 0, sizeof(t->accesses));
    t->vec_checked = false;
    t->flags = FLAGS_SLOT;
    if (t->c->jit.dump)
        dump_begin(t);
    if (t->tier == 1)
        put_heat(t);
    for (i = 0; i < t->lines && !done; i++) {
        struct line *l = &t->line[i];
        t->current = i;
        l->at = (uint32_t)(t->e.n - t->k->used);
        if (t->c->jit.check && check_leaves(&l->in))
            break;
        if (l->follow != FOLLOW_NOT) {
            exit_side(t, l);
            t->native |= 1ull << i;
            any = true;
        } else if (l->in.row->attr & INSN_BRANCH) {
            if (exit_branch(t, l))
                t->native |= 1ull << i;
            else if ((l->in.row->attr & INSN_SYSTEM) && !t->c->jit.check)
                put_far(t, l);
            else
                break;
            done = any = true;
        } else if (put_native(t, l)) {
            t->native |= 1ull << i;
            any = true;
        } else if (may_call(l)) {
            put_helper(t, l);
            any = true;
            if (sets_mxcsr(l->in.row->id)) {
                stub_add(t, STUB_EXIT, e_jmp(&t->e), 0)->target = l->off + l->in.len;
                return finish(t);
            }
        } else {
            break;
        }
    }
    if (!any)
        return false;
    if (!done) { /* straight on: the rest of the block, or the next one */
        int64_t next =
            i < t->lines ? t->line[i].off : (int64_t)t->line[i - 1].off + t->line[i - 1].in.len;
        if (t->line[i ? i - 1 : 0].live)
            flags_save(t);
        exit_direct(t, next, false);
    }
    return finish(t);
}

/* Of what can be translated: 64-bit code, and 32-bit code in segments that need no checks; else 0.
 */
static unsigned code_size(uint32_t mode) {
    if ((mode & (REF_MODE_CODE | REF_MODE_STACK)) == (2 | 2 << 2))
        return 8;
    return mode & REF_MODE_FLAT ? 4 : 0;
}

static bool put_block(struct trans *t) {
    unsigned sites = t->k->sites, fars = t->k->fars;

    memset(t->group_of, -1, sizeof(t->group_of));
    if (!emit_block(t))
        return false;
    if (t->tier == 1)
        return true;
    /* Groups end at instructions that call a handler; the first run has told which these are. */
    t->k->sites = sites;
    t->k->fars = fars;
    groups_find(t);
    return emit_block(t);
}

/* Not when it runs: with some stack pointers some hosts do not come back from a fault (jit_resume).
 */
static void fault_in(const struct jit_cache *k, size_t from, size_t to) {
    for (size_t at = from; at < to; at = (at | 4095) + 1)
        (void)*(const volatile uint8_t *)(k->rx + at);
}

const void *jit_translate(struct ref *c, struct ref_block *b, unsigned tier) {
    struct jit_cache *k = c->jit.cache;
    struct trans *t = k->trans ? k->trans : (k->trans = malloc(sizeof(*t)));
    const void *code = NULL;
    unsigned sites = k->sites, fars = k->fars;

    if (!t || !code_size(b->mode) || (b->mode & (REF_MODE_STEP | REF_MODE_AC)) || ref_cache_full(c))
        return NULL;
    jit_prepare(c);
    memset(t, 0, offsetof(struct trans, bytes));
    t->c = c;
    t->b = b;
    t->k = k;
    t->tier = tier;
    t->code = code_size(b->mode);
    t->bank = (b->mode & REF_MODE_USER) != 0;
    /* Positions are offsets in the code cache. */
    t->e = (struct emit){.p = k->rw, .cap = k->used + JIT_BLOCK_MAX};
    t->cold = (struct emit){.p = k->rw, .cap = k->cold + JIT_BLOCK_MAX};
    if (lines_find(t)) {
        flags_find_live(t);
        if (put_block(t)) {
            code = k->rx + k->used;
            stat_inc(jit_blocks);
            if (!wide(t))
                stat_inc(jit_blocks32);
            stat_add(jit_bytes, t->e.n - k->used + t->cold.n - k->cold);
            if (c->jit.dump)
                dump_end(t, code);
            fault_in(k, k->used, t->e.n);
            fault_in(k, k->cold, t->cold.n);
            k->used = (t->e.n + 15) & ~(size_t)15;
            k->cold = t->cold.n;
        } else {
            k->sites = sites;
            k->fars = fars;
        }
    }
    return code;
}
