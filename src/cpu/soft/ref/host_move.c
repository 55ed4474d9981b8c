/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Vector moves in C: most of the vector instructions that guests execute, cheaper so than through a
 * thunk. Source: SDM vol. 2, MOVUPS, MOVD, MOVSS and their kin.
 */
#include "cpu/soft/ref/host.h"

/* o->aux */
enum { MOVE_ALIGNED = 1, MOVE_CLEAR_UPPER = 2 };

static inline uint8_t *vec(struct ref *c, unsigned n) { return c->s.fpu.vec[n]; }

static inline void clear_upper(struct ref *c, const struct ref_op *o) {
    if (o->aux & MOVE_CLEAR_UPPER)
        memset(vec(c, o->dst) + 16, 0, 16);
}

/* ---- whole registers ---- */

static void copy16(struct ref *c, const struct ref_op *o) {
    memcpy(vec(c, o->dst), vec(c, o->src), 16);
    clear_upper(c, o);
    REF_NEXT(c, o);
}

static void copy32(struct ref *c, const struct ref_op *o) {
    memcpy(vec(c, o->dst), vec(c, o->src), 32);
    REF_NEXT(c, o);
}

static inline uint64_t address(struct ref *c, const struct ref_op *o, unsigned size, bool write) {
    if (o->aux & MOVE_ALIGNED)
        host_check_aligned(c, o, size);
    return ref_lin(c, o, size, write);
}

static void load16(struct ref *c, const struct ref_op *o) {
    memcpy(vec(c, o->dst), ref_read_ptr(c, o, address(c, o, 16, false), 16), 16);
    clear_upper(c, o);
    REF_NEXT(c, o);
}

static void load32(struct ref *c, const struct ref_op *o) {
    memcpy(vec(c, o->dst), ref_read_ptr(c, o, address(c, o, 32, false), 32), 32);
    REF_NEXT(c, o);
}

static void store16(struct ref *c, const struct ref_op *o) {
    void *p = ref_write_ptr(c, o, address(c, o, 16, true), 16, false);

    memcpy(p, vec(c, o->src), 16);
    ref_write_done(c, o, p);
    REF_NEXT(c, o);
}

static void store32(struct ref *c, const struct ref_op *o) {
    void *p = ref_write_ptr(c, o, address(c, o, 32, true), 32, false);

    memcpy(p, vec(c, o->src), 32);
    ref_write_done(c, o, p);
    REF_NEXT(c, o);
}

static void zero16(struct ref *c, const struct ref_op *o) {
    memset(vec(c, o->dst), 0, 16);
    clear_upper(c, o);
    REF_NEXT(c, o);
}

static void zero32(struct ref *c, const struct ref_op *o) {
    memset(vec(c, o->dst), 0, 32);
    REF_NEXT(c, o);
}

/* ---- the low element; what is above it in the XMM register becomes zero ---- */

static inline void set_low(struct ref *c, const struct ref_op *o, uint64_t value) {
    const uint64_t both[2] = {value, 0};

    memcpy(vec(c, o->dst), both, 16);
    clear_upper(c, o);
}

static inline uint64_t get64(struct ref *c, unsigned n, unsigned offset) {
    uint64_t value;

    memcpy(&value, vec(c, n) + offset, 8);
    return value;
}

static inline uint32_t get32(struct ref *c, unsigned n) {
    uint32_t value;

    memcpy(&value, vec(c, n), 4);
    return value;
}

static void load_low4(struct ref *c, const struct ref_op *o) {
    set_low(c, o, ref_load32(c, o, ref_lin(c, o, 4, false)));
    REF_NEXT(c, o);
}

static void load_low8(struct ref *c, const struct ref_op *o) {
    set_low(c, o, ref_load64(c, o, ref_lin(c, o, 8, false)));
    REF_NEXT(c, o);
}

static void copy_low8(struct ref *c, const struct ref_op *o) {
    set_low(c, o, get64(c, o->src, 0));
    REF_NEXT(c, o);
}

static void gpr_to_low4(struct ref *c, const struct ref_op *o) {
    set_low(c, o, (uint32_t)c->r[o->src]);
    REF_NEXT(c, o);
}

static void gpr_to_low8(struct ref *c, const struct ref_op *o) {
    set_low(c, o, c->r[o->src]);
    REF_NEXT(c, o);
}

static void low4_to_gpr(struct ref *c, const struct ref_op *o) {
    c->r[o->dst] = get32(c, o->src);
    REF_NEXT(c, o);
}

static void low8_to_gpr(struct ref *c, const struct ref_op *o) {
    c->r[o->dst] = get64(c, o->src, 0);
    REF_NEXT(c, o);
}

static void store_low4(struct ref *c, const struct ref_op *o) {
    ref_store32(c, o, ref_lin(c, o, 4, true), get32(c, o->src));
    REF_NEXT(c, o);
}

static void store_low8(struct ref *c, const struct ref_op *o) {
    ref_store64(c, o, ref_lin(c, o, 8, true), get64(c, o->src, 0));
    REF_NEXT(c, o);
}

/* ---- one half of an XMM register, the other stays ---- */

static void load_half0(struct ref *c, const struct ref_op *o) {
    uint64_t value = ref_load64(c, o, ref_lin(c, o, 8, false));

    memcpy(vec(c, o->dst), &value, 8);
    REF_NEXT(c, o);
}

static void load_half1(struct ref *c, const struct ref_op *o) {
    uint64_t value = ref_load64(c, o, ref_lin(c, o, 8, false));

    memcpy(vec(c, o->dst) + 8, &value, 8);
    REF_NEXT(c, o);
}

static void store_half1(struct ref *c, const struct ref_op *o) {
    ref_store64(c, o, ref_lin(c, o, 8, true), get64(c, o->src, 8));
    REF_NEXT(c, o);
}

/* ---- binding ---- */

/* Operand shapes: destination, source. */
enum shape { SHAPE_OTHER, VEC_VEC, VEC_MEM, MEM_VEC, VEC_GPR, GPR_VEC };

static enum shape shape_of(const struct operand *d, const struct operand *s) {
    if (d->kind == OPK_VEC)
        return s->kind == OPK_VEC   ? VEC_VEC
               : s->kind == OPK_MEM ? VEC_MEM
               : s->kind == OPK_GPR ? VEC_GPR
                                    : SHAPE_OTHER;
    if (s->kind != OPK_VEC)
        return SHAPE_OTHER;
    return d->kind == OPK_MEM ? MEM_VEC : d->kind == OPK_GPR ? GPR_VEC : SHAPE_OTHER;
}

static ref_fn *whole_move(enum shape shape, bool wide) {
    switch (shape) {
    case VEC_VEC:
        return wide ? copy32 : copy16;
    case VEC_MEM:
        return wide ? load32 : load16;
    case MEM_VEC:
        return wide ? store32 : store16;
    default:
        return NULL;
    }
}

static ref_fn *low_move(enum shape shape, unsigned size) {
    switch (shape) {
    case VEC_VEC: /* MOVQ; MOVSS and MOVSD between registers merge and are not for here */
        return copy_low8;
    case VEC_MEM:
        return size == 8 ? load_low8 : load_low4;
    case MEM_VEC:
        return size == 8 ? store_low8 : store_low4;
    case VEC_GPR:
        return size == 8 ? gpr_to_low8 : gpr_to_low4;
    case GPR_VEC:
        return size == 8 ? low8_to_gpr : low4_to_gpr;
    default:
        return NULL;
    }
}

static ref_fn *two_operands(const struct insn *in, const struct operand *d,
                            const struct operand *s) {
    enum shape shape = shape_of(d, s);
    unsigned scalar = shape == VEC_MEM || shape == VEC_GPR || shape == VEC_VEC ? s->size : d->size;

    switch (in->row->id) {
    case INSN_MOVUPS:
    case INSN_MOVUPD:
    case INSN_MOVAPS:
    case INSN_MOVAPD:
    case INSN_MOVDQA:
    case INSN_MOVDQU:
    case INSN_LDDQU:
    case INSN_MOVNTPS:
    case INSN_MOVNTPD:
    case INSN_MOVNTDQ:
    case INSN_MOVNTDQA:
    case INSN_VMOVUPS:
    case INSN_VMOVUPD:
    case INSN_VMOVAPS:
    case INSN_VMOVAPD:
    case INSN_VMOVDQA:
    case INSN_VMOVDQU:
    case INSN_VLDDQU:
    case INSN_VMOVNTPS:
    case INSN_VMOVNTPD:
    case INSN_VMOVNTDQ:
    case INSN_VMOVNTDQA:
        return whole_move(shape, in->vl == 32);
    case INSN_MOVD:
    case INSN_MOVQ:
    case INSN_VMOVD:
    case INSN_VMOVQ:
        return low_move(shape, scalar);
    case INSN_MOVSS:
    case INSN_MOVSD_SSE:
    case INSN_VMOVSS:
    case INSN_VMOVSD:
        return in->mem ? low_move(shape, scalar) : NULL;
    case INSN_MOVLPS:
    case INSN_MOVLPD:
        return shape == VEC_MEM ? load_half0 : shape == MEM_VEC ? store_low8 : NULL;
    case INSN_VMOVLPS:
    case INSN_VMOVLPD:
        return shape == MEM_VEC ? store_low8 : NULL;
    case INSN_MOVHPS:
    case INSN_MOVHPD:
        return shape == VEC_MEM ? load_half1 : shape == MEM_VEC ? store_half1 : NULL;
    case INSN_VMOVHPS:
    case INSN_VMOVHPD:
        return shape == MEM_VEC ? store_half1 : NULL;
    default:
        return NULL;
    }
}

/* x XOR x, the way to clear a register. */
static ref_fn *clearing(const struct insn *in) {
    struct operand a, b;
    unsigned last = in->row->nops - 1u;

    switch (in->row->id) {
    case INSN_PXOR:
    case INSN_XORPS:
    case INSN_XORPD:
    case INSN_VPXOR:
    case INSN_VXORPS:
    case INSN_VXORPD:
        break;
    default:
        return NULL;
    }
    insn_operand(in, last - 1, &a);
    insn_operand(in, last, &b);
    if (a.kind != OPK_VEC || b.kind != OPK_VEC || a.reg != b.reg)
        return NULL;
    return in->vl == 32 ? zero32 : zero16;
}

bool host_bind_move(struct ref *c, const struct insn *in, struct ref_op *o) {
    struct operand d, s;
    ref_fn *fn;

    if (in->row->attr & INSN_MMX || in->row->nops < 2)
        return false;
    insn_operand(in, 0, &d);
    insn_operand(in, 1, &s);
    fn = in->row->nops == 2 ? two_operands(in, &d, &s) : NULL;
    if (!fn)
        fn = clearing(in);
    if (!fn)
        return false;
    o->fn = fn;
    o->dst = d.reg;
    o->src = s.reg;
    o->aux = (uint8_t)((in->row->attr & INSN_ALIGN ? MOVE_ALIGNED : 0) |
                       (in->vl ? MOVE_CLEAR_UPPER : 0));
    return true;
}
