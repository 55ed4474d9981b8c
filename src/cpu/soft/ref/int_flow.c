/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Near control flow: Jcc JMP CALL RET LOOPcc JrCXZ. Source: SDM vol. 2.
 *
 * Direct branches name their successor through the block's links; the loop fills a link the first
 * time and only inside one page. o->imm is the target relative to the start of the block.
 */
#include "cpu/soft/ref/int_ops.h"

static inline void go(struct ref *c, uint64_t rip, unsigned taken) {
    c->rip = rip;
    ref_follow_link(c, taken);
}

/* 16- and 32-bit code: the instruction pointer wraps at the operand size, and must stay in the
 * limit. */
static uint64_t narrow(struct ref *c, const struct ref_op *o, uint64_t rip) {
    rip = o->size == 2 ? (uint16_t)rip : (uint32_t)rip;
    if (rip > c->s.seg[SEG_CS].limit)
        ref_raise_error(c, o, X86_GP, 0);
    return rip;
}

/* Past the instruction, in code of any size. */
static uint64_t after(const struct ref *c, const struct ref_op *o) {
    uint64_t rip = ref_next_rip(c, o);

    return (c->mode & REF_MODE_CODE) == 2 ? rip : (uint32_t)rip;
}

static void check_target(struct ref *c, const struct ref_op *o, uint64_t rip) {
    if ((int64_t)(rip << 16) >> 16 != (int64_t)rip)
        ref_raise_error(c, o, X86_GP, 0);
}

#define JCC(cc, expr)                                                                              \
    INT_HANDLER(j_##cc) {                                                                          \
        uint32_t f = c->af;                                                                        \
        bool t = expr;                                                                             \
        go(c, c->r[REF_PC] + (t ? o->imm : o->off + (uint64_t)o->len), t);                         \
    }                                                                                              \
    INT_HANDLER(jn_##cc) {                                                                         \
        uint32_t f = c->af;                                                                        \
        bool t = !(expr);                                                                          \
        go(c, c->r[REF_PC] + (t ? o->imm : o->off + (uint64_t)o->len), t);                         \
    }                                                                                              \
    INT_HANDLER(legacy_j##cc) {                                                                    \
        uint32_t f = c->af;                                                                        \
        bool t = (expr) != 0;                                                                      \
        t ^= o->aux & 1;                                                                           \
        go(c, t ? narrow(c, o, c->r[REF_PC] + o->imm) : after(c, o), t);                           \
    }
INT_CONDITIONS(JCC)

static ref_fn *const jcc_fn[16] = {j_0, jn_0, j_2,  jn_2,  j_4,  jn_4,  j_6,  jn_6,
                                   j_8, jn_8, j_10, jn_10, j_12, jn_12, j_14, jn_14};
static ref_fn *const legacy_jcc_fn[8] = {legacy_j0, legacy_j2,  legacy_j4,  legacy_j6,
                                         legacy_j8, legacy_j10, legacy_j12, legacy_j14};

INT_HANDLER(jmp_direct) { go(c, c->r[REF_PC] + o->imm, 1); }
INT_HANDLER(legacy_jmp_direct) { go(c, narrow(c, o, c->r[REF_PC] + o->imm), 1); }

/* Operand of an indirect branch: register o->dst, or memory when o->aux is set. */
static uint64_t indirect_operand(struct ref *c, const struct ref_op *o) {
    uint64_t t;

    if (!o->aux)
        t = c->r[o->dst];
    else if (o->size == 8)
        t = ref_load64(c, o, ref_lin(c, o, 8, false));
    else if (o->size == 4)
        t = ref_load32(c, o, ref_lin(c, o, 4, false));
    else
        t = ref_load16(c, o, ref_lin(c, o, 2, false));
    return t;
}

static uint64_t indirect_target(struct ref *c, const struct ref_op *o) {
    uint64_t t = indirect_operand(c, o);

    if ((c->mode & REF_MODE_CODE) != 2)
        return narrow(c, o, t);
    check_target(c, o, t);
    return t;
}

INT_HANDLER(jmp_indirect) { ref_goto(c, indirect_target(c, o)); }

INT_HANDLER(call_direct) {
    uint64_t sp = c->r[X86_RSP] - 8;

    ref_store64(c, o, sp,
                c->r[REF_PC] + o->off +
                    o->len); /* before the target is looked at, as processors do */
    check_target(c, o, c->r[REF_PC] + o->imm);
    c->r[X86_RSP] = sp;
    go(c, c->r[REF_PC] + o->imm, 1);
}
INT_HANDLER(call_indirect) {
    uint64_t t = indirect_operand(c, o), sp = c->r[X86_RSP] - 8;

    int_check_stack(c, o, sp);
    ref_store64(c, o, sp, c->r[REF_PC] + o->off + o->len);
    check_target(c, o, t);
    c->r[X86_RSP] = sp;
    ref_goto(c, t);
}
/* Pushes, then looks at the target, as processors do; a fault leaves the stack pointer alone. */
static uint64_t legacy_call(struct ref *c, const struct ref_op *o, uint64_t target) {
    uint64_t before = c->r[X86_RSP], pushed;

    int_push(c, o, o->size, after(c, o));
    pushed = c->r[X86_RSP];
    c->r[X86_RSP] = before;
    target = narrow(c, o, target);
    c->r[X86_RSP] = pushed;
    return target;
}
INT_HANDLER(legacy_call_direct) { go(c, legacy_call(c, o, c->r[REF_PC] + o->imm), 1); }
INT_HANDLER(legacy_call_indirect) { ref_goto(c, legacy_call(c, o, indirect_operand(c, o))); }

INT_HANDLER(ret) {
    uint64_t t = ref_load64(c, o, c->r[X86_RSP]);

    check_target(c, o, t);
    c->r[X86_RSP] += 8 + o->imm;
    ref_goto(c, t);
}
INT_HANDLER(legacy_ret) {
    uint64_t sp = int_stack_pointer(c);
    uint64_t lin = ref_seg_lin(c, o, SEG_SS, sp, o->size, false);
    uint64_t t = narrow(c, o, o->size == 2 ? ref_load16(c, o, lin) : ref_load32(c, o, lin));

    int_set_stack_pointer(c, sp + o->size + o->imm);
    ref_goto(c, t);
}

/* LOOP, LOOPE, LOOPNE, JrCXZ: counter of address size. o->aux: 0 LOOPNE, 1 LOOPE, 2 LOOP, 3 JrCXZ.
 */
INT_HANDLER(loop) {
    unsigned width = o->eaf & REF_EA_16 ? 2 : o->eaf & REF_EA_32 ? 4 : 8;
    uint64_t mask = width == 8 ? ~0ull : width == 4 ? 0xffffffff : 0xffff;
    uint64_t n = (c->r[X86_RCX] - (o->aux != 3)) & mask, target = c->r[REF_PC] + o->imm;
    bool zf = c->af & 0x4000, t;

    t = o->aux == 3 ? !n : n && (o->aux == 2 || zf == (o->aux == 1));
    if (t && (c->mode & REF_MODE_CODE) != 2)
        target = narrow(c, o, target);
    if (o->aux != 3)
        ref_set_reg(c, X86_RCX, width, n);
    go(c, t ? target : after(c, o), t);
}

static bool bind_loop(const struct insn *in, struct ref_op *o) {
    o->aux = in->opcode & 3;
    o->eaf = in->adsize == 2 ? REF_EA_16 : in->adsize == 4 ? REF_EA_32 : 0;
    o->fn = loop;
    return true;
}

static bool bind_indirect(struct ref *c, const struct insn *in, struct ref_op *o, ref_fn *fn) {
    o->aux = in->mem;
    o->dst = in->rm;
    o->seg = SEG_SS; /* of a CALL's push */
    if (in->mem)
        ref_set_mem(c, in, o);
    o->fn = fn;
    return true;
}

bool int_bind_flow(struct ref *c, const struct insn *in, struct ref_op *o) {
    bool wide = in->mode == 8, direct = in->row->id == INSN_JCC || in->imm_len;

    o->size = in->opsize;
    o->imm = in->imm + o->off + o->len;
    switch (in->row->id) {
    case INSN_JCC:
        o->aux = in->opcode & 1;
        o->fn = wide ? jcc_fn[in->opcode & 15] : legacy_jcc_fn[in->opcode >> 1 & 7];
        return true;
    case INSN_JMP:
        if (!direct)
            return bind_indirect(c, in, o, jmp_indirect);
        o->fn = wide ? jmp_direct : legacy_jmp_direct;
        return true;
    case INSN_CALL:
        if (!direct)
            return bind_indirect(c, in, o, wide ? call_indirect : legacy_call_indirect);
        o->fn = wide ? call_direct : legacy_call_direct;
        o->seg = SEG_SS;
        return true;
    case INSN_RET:
        o->imm = in->imm_len ? (uint16_t)in->imm : 0;
        o->fn = wide ? ret : legacy_ret;
        o->seg = SEG_SS;
        return true;
    case INSN_LOOP:
    case INSN_LOOPE:
    case INSN_LOOPNE:
    case INSN_JCXZ:
        return bind_loop(in, o);
    default:
        o->size = 0;
        o->imm = 0;
        return false;
    }
}
