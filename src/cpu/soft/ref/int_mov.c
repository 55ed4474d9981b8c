/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Moves: MOV MOVZX MOVSX MOVSXD LEA CMOVcc SETcc CBW CWD BSWAP MOVBE MOVNTI LAHF SAHF, flag bits.
 * Source: SDM vol. 2. */
#include <sched.h>

#include "cpu/soft/ref/int_ops.h"

#define MOV_HANDLERS(bits)                                                                         \
    INT_HANDLER(mov_rr##bits) {                                                                    \
        INT_SET_##bits(c, o->dst, INT_GET_##bits(c, o->src));                                      \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(mov_ri##bits) {                                                                    \
        INT_SET_##bits(c, o->dst, (INT_TYPE(bits))o->imm);                                         \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(mov_rm##bits) {                                                                    \
        INT_SET_##bits(c, o->dst, ref_load##bits(c, o, ref_lin(c, o, bits / 8, false)));           \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(mov_mr##bits) {                                                                    \
        ref_store##bits(c, o, ref_lin(c, o, bits / 8, true), INT_GET_##bits(c, o->src));           \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(mov_mi##bits) {                                                                    \
        ref_store##bits(c, o, ref_lin(c, o, bits / 8, true), (INT_TYPE(bits))o->imm);              \
        REF_NEXT(c, o);                                                                            \
    }
INT_EACH_SIZE(MOV_HANDLERS)

static ref_fn *const mov_fn[5][4] = {
    {mov_rr8, mov_rr16, mov_rr32, mov_rr64}, {mov_ri8, mov_ri16, mov_ri32, mov_ri64},
    {mov_rm8, mov_rm16, mov_rm32, mov_rm64}, {mov_mr8, mov_mr16, mov_mr32, mov_mr64},
    {mov_mi8, mov_mi16, mov_mi32, mov_mi64},
};

/* MOV AL/rAX with a 64-bit absolute offset, which does not fit a ref_op's displacement: o->imm
 * holds it. */
static uint64_t moffs_lin(struct ref *c, const struct ref_op *o, bool write) {
    return ref_seg_lin(c, o, o->seg, o->imm, o->size, write);
}

#define MOFFS_HANDLERS(bits)                                                                       \
    INT_HANDLER(moffs_load##bits) {                                                                \
        INT_SET_##bits(c, X86_RAX, ref_load##bits(c, o, moffs_lin(c, o, false)));                  \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(moffs_store##bits) {                                                               \
        ref_store##bits(c, o, moffs_lin(c, o, true), INT_GET_##bits(c, X86_RAX));                  \
        REF_NEXT(c, o);                                                                            \
    }
INT_EACH_SIZE(MOFFS_HANDLERS)

static bool bind_moffs(struct ref *c, const struct insn *in, struct ref_op *o) {
    static ref_fn *const load[4] = {moffs_load8, moffs_load16, moffs_load32, moffs_load64};
    static ref_fn *const store[4] = {moffs_store8, moffs_store16, moffs_store32, moffs_store64};
    unsigned size = in->opcode & 1 ? in->opsize : 1;

    o->imm = (uint64_t)in->disp;
    o->seg = in->seg;
    o->size = (uint8_t)size;
    o->fn = (in->opcode & 2 ? store : load)[int_log2(size)];
    return true;
}

/* ---- widening: destination size in the name, source size first ---- */

#define EXTEND(name, to, from, stype)                                                              \
    INT_HANDLER(name##_r##from##_##to) {                                                           \
        INT_SET_##to(c, o->dst, (INT_TYPE(to))(stype)INT_GET_##from(c, o->src));                   \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(name##_m##from##_##to) {                                                           \
        INT_SET_##to(c, o->dst,                                                                    \
                     (INT_TYPE(to))(stype)ref_load##from(c, o, ref_lin(c, o, from / 8, false)));   \
        REF_NEXT(c, o);                                                                            \
    }
#define EXTEND_ALL(name, sign)                                                                     \
    EXTEND(name, 16, 8, sign##int8_t)                                                              \
    EXTEND(name, 32, 8, sign##int8_t)                                                              \
    EXTEND(name, 64, 8, sign##int8_t)                                                              \
    EXTEND(name, 16, 16, sign##int16_t)                                                            \
    EXTEND(name, 32, 16, sign##int16_t)                                                            \
    EXTEND(name, 64, 16, sign##int16_t)                                                            \
    EXTEND(name, 16, 32, sign##int32_t)                                                            \
    EXTEND(name, 32, 32, sign##int32_t)                                                            \
    EXTEND(name, 64, 32, sign##int32_t)
#define EXTEND_TABLE(name, p)                                                                      \
    {                                                                                              \
        {name##_##p##8_16, name##_##p##8_32, name##_##p##8_64},                                    \
            {name##_##p##16_16, name##_##p##16_32, name##_##p##16_64},                             \
            {name##_##p##32_16, name##_##p##32_32, name##_##p##32_64},                             \
    }
EXTEND_ALL(zx, u)
EXTEND_ALL(sx, )

static bool bind_extend(struct ref *c, const struct insn *in, struct ref_op *o, bool sign) {
    static ref_fn *const fns[2][2][3][3] = {
        {EXTEND_TABLE(zx, r), EXTEND_TABLE(zx, m)},
        {EXTEND_TABLE(sx, r), EXTEND_TABLE(sx, m)},
    };
    struct operand d, s;

    insn_operand(in, 0, &d);
    insn_operand(in, 1, &s);
    o->dst = d.reg;
    o->src = s.kind == OPK_GPR ? int_slot(&s) : 0;
    if (s.kind == OPK_MEM)
        ref_set_mem(c, in, o);
    o->fn = fns[sign][s.kind == OPK_MEM][int_log2(s.size)][int_log2(d.size) - 1];
    return true;
}

/* ---- LEA: the offset, no segment ---- */

INT_HANDLER(lea16) {
    REF_R16(c, o->dst) = (uint16_t)ref_ea(c, o);
    REF_NEXT(c, o);
}
INT_HANDLER(lea32) {
    c->r[o->dst] = (uint32_t)ref_ea(c, o);
    REF_NEXT(c, o);
}
INT_HANDLER(lea64) {
    c->r[o->dst] = ref_ea(c, o);
    REF_NEXT(c, o);
}
INT_HANDLER(lea_short) /* address size below the operand size */
{
    uint64_t ea = ref_ea(c, o);

    ref_set_reg(c, o->dst, o->size, o->eaf & REF_EA_16 ? (uint16_t)ea : (uint32_t)ea);
    REF_NEXT(c, o);
}

static bool bind_lea(struct ref *c, const struct insn *in, struct ref_op *o) {
    ref_set_mem(c, in, o);
    o->dst = in->reg;
    o->size = in->opsize;
    if (in->adsize < in->opsize)
        o->fn = lea_short;
    else
        o->fn = in->opsize == 8 ? lea64 : in->opsize == 4 ? lea32 : lea16;
    return true;
}

/* ---- conditions ---- */

static bool condition(uint32_t f, unsigned cc) {
    bool t = false;

    switch (cc & 14) {
#define CASE(n, expr)                                                                              \
    case n:                                                                                        \
        t = (expr) != 0;                                                                           \
        break;
        INT_CONDITIONS(CASE)
#undef CASE
    }
    return t ^ (cc & 1);
}

INT_HANDLER(cmov_r) {
    uint64_t v = condition(c->af, o->aux) ? c->r[o->src] : c->r[o->dst];

    ref_set_reg(c, o->dst, o->size, v); /* a 32-bit destination is zero-extended either way */
    REF_NEXT(c, o);
}

#define CMOV_M(bits)                                                                               \
    INT_HANDLER(cmov_m##bits) {                                                                    \
        INT_TYPE(bits) v = ref_load##bits(c, o, ref_lin(c, o, bits / 8, false));                   \
        INT_SET_##bits(c, o->dst, condition(c->af, o->aux) ? v : INT_GET_##bits(c, o->dst));       \
        REF_NEXT(c, o);                                                                            \
    }
INT_EACH_WIDE(CMOV_M)

static bool bind_cmov(struct ref *c, const struct insn *in, struct ref_op *o) {
    o->aux = in->opcode & 15;
    o->size = in->opsize;
    o->dst = in->reg;
    o->src = in->rm;
    o->fn = cmov_r;
    if (in->mem) {
        ref_set_mem(c, in, o);
        o->fn = in->opsize == 8 ? cmov_m64 : in->opsize == 4 ? cmov_m32 : cmov_m16;
    }
    return true;
}

INT_HANDLER(setcc_r) {
    REF_R8(c, o->dst) = condition(c->af, o->aux);
    REF_NEXT(c, o);
}
INT_HANDLER(setcc_m) {
    ref_store8(c, o, ref_lin(c, o, 1, true), condition(c->af, o->aux));
    REF_NEXT(c, o);
}

static bool bind_setcc(struct ref *c, const struct insn *in, struct ref_op *o) {
    struct operand d;

    insn_operand(in, 0, &d);
    o->aux = in->opcode & 15;
    o->fn = in->mem ? setcc_m : setcc_r;
    if (in->mem)
        ref_set_mem(c, in, o);
    else
        o->dst = int_slot(&d);
    return true;
}

/* ---- sign of the accumulator ---- */

INT_HANDLER(cbw) {
    REF_R16(c, X86_RAX) = (uint16_t)(int8_t)c->r[X86_RAX];
    REF_NEXT(c, o);
}
INT_HANDLER(cwde) {
    c->r[X86_RAX] = (uint32_t)(int16_t)c->r[X86_RAX];
    REF_NEXT(c, o);
}
INT_HANDLER(cdqe) {
    c->r[X86_RAX] = (uint64_t)(int64_t)(int32_t)c->r[X86_RAX];
    REF_NEXT(c, o);
}
INT_HANDLER(cwd) {
    REF_R16(c, X86_RDX) = (uint16_t)((int16_t)c->r[X86_RAX] >> 15);
    REF_NEXT(c, o);
}
INT_HANDLER(cdq) {
    c->r[X86_RDX] = (uint32_t)((int32_t)c->r[X86_RAX] >> 31);
    REF_NEXT(c, o);
}
INT_HANDLER(cqo) {
    c->r[X86_RDX] = (uint64_t)((int64_t)c->r[X86_RAX] >> 63);
    REF_NEXT(c, o);
}

static ref_fn *by_size(unsigned size, ref_fn *w, ref_fn *d, ref_fn *q) {
    return size == 8 ? q : size == 4 ? d : w;
}

/* ---- bytes turned round ---- */

INT_HANDLER(bswap16) /* undefined by the manual; what the host does */
{
    uint64_t v = c->r[o->dst];

    __asm__(".byte 0x66\n\tbswapl %k0" : "+a"(v));
    c->r[o->dst] = v;
    REF_NEXT(c, o);
}
INT_HANDLER(bswap32) {
    c->r[o->dst] = __builtin_bswap32((uint32_t)c->r[o->dst]);
    REF_NEXT(c, o);
}
INT_HANDLER(bswap64) {
    c->r[o->dst] = __builtin_bswap64(c->r[o->dst]);
    REF_NEXT(c, o);
}

INT_HANDLER(nop) { REF_NEXT(c, o); }

/* Loads and stores are the host's own, and so is their order. */
INT_HANDLER(fence) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    REF_NEXT(c, o);
}

enum { PATIENCE = 1024 };

/* A guest that waits for another processor this long may keep that one from running. */
INT_HANDLER(pause_op) {
    if (c->group.several && ++c->group.pauses % PATIENCE == 0)
        sched_yield();
    else
        __builtin_ia32_pause();
    REF_NEXT(c, o);
}

/* ---- flag bits and AH ---- */

INT_HANDLER(clc) {
    c->af &= ~0x100u;
    REF_NEXT(c, o);
}
INT_HANDLER(stc) {
    c->af |= 0x100u;
    REF_NEXT(c, o);
}
INT_HANDLER(cmc) {
    c->af ^= 0x100u;
    REF_NEXT(c, o);
}
INT_HANDLER(cld) {
    c->fl &= ~X86_FLAG_DF;
    REF_NEXT(c, o);
}
INT_HANDLER(std) {
    c->fl |= X86_FLAG_DF;
    REF_NEXT(c, o);
}
INT_HANDLER(lahf) {
    REF_R8(c, 1) = (uint8_t)((c->af >> 8 & 0xd5) | 2);
    REF_NEXT(c, o);
}
INT_HANDLER(sahf) {
    c->af = (c->af & 1) | (REF_R8(c, 1) & 0xd5u) << 8;
    REF_NEXT(c, o);
}
INT_HANDLER(salc) {
    REF_R8(c, 0) = c->af & 0x100 ? 0xff : 0;
    REF_NEXT(c, o);
}

/* The table is in the segment of a data operand; AL is not sign-extended. */
INT_HANDLER(xlat) {
    uint64_t offset = (c->r[X86_RBX] + REF_R8(c, 0)) & o->imm;

    REF_R8(c, 0) = ref_load8(c, o, ref_seg_lin(c, o, o->seg, offset, 1, false));
    REF_NEXT(c, o);
}

bool int_bind_mov(struct ref *c, const struct insn *in, struct ref_op *o) {
    switch (in->row->id) {
    case INSN_MOV:
    case INSN_MOVNTI:
        if (in->map == 0 && in->opcode >= 0xa0 && in->opcode <= 0xa3)
            return bind_moffs(c, in, o);
        o->fn = NULL;
        {
            int form = int_bind_form(c, in, o);
            o->fn = mov_fn[form][int_log2(o->size)];
        }
        return true;
    case INSN_MOVZX:
        return bind_extend(c, in, o, false);
    case INSN_MOVSX:
        return bind_extend(c, in, o, true);
    case INSN_MOVSXD:
        return bind_extend(c, in, o, true);
    case INSN_LEA:
        return bind_lea(c, in, o);
    case INSN_CMOVCC:
        return bind_cmov(c, in, o);
    case INSN_SETCC:
        return bind_setcc(c, in, o);
    case INSN_CBW:
        o->fn = by_size(in->opsize, cbw, cwde, cdqe);
        return true;
    case INSN_CWD:
        o->fn = by_size(in->opsize, cwd, cdq, cqo);
        return true;
    case INSN_BSWAP:
        o->dst = (uint8_t)((in->opcode & 7) | (in->rex & 1) << 3);
        o->fn = by_size(in->opsize, bswap16, bswap32, bswap64);
        return true;
    default:
        return false;
    }
}

bool int_bind_misc(struct ref *c, const struct insn *in, struct ref_op *o) {
    switch (in->row->id) {
    case INSN_PAUSE:
        o->fn = pause_op;
        return true;
    case INSN_NOP:
    case INSN_PREFETCH:
    case INSN_PREFETCHW:
    case INSN_PREFETCHWT1:
    case INSN_PREFETCHNTA:
    case INSN_PREFETCHT0:
    case INSN_PREFETCHT1:
    case INSN_PREFETCHT2:
        o->fn = nop;
        return true;
    case INSN_LFENCE:
    case INSN_MFENCE:
    case INSN_SFENCE:
        o->fn = fence;
        return true;
    case INSN_CLC:
        o->fn = clc;
        return true;
    case INSN_STC:
        o->fn = stc;
        return true;
    case INSN_CMC:
        o->fn = cmc;
        return true;
    case INSN_CLD:
        o->fn = cld;
        return true;
    case INSN_STD:
        o->fn = std;
        return true;
    case INSN_LAHF:
        o->fn = lahf;
        return true;
    case INSN_SAHF:
        o->fn = sahf;
        return true;
    case INSN_SALC:
        o->fn = salc;
        return true;
    case INSN_XLAT:
        o->seg = in->seg;
        o->imm = in->adsize == 8 ? ~0ull : in->adsize == 4 ? 0xffffffff : 0xffff;
        o->fn = xlat;
        return true;
    default:
        return false;
    }
}
