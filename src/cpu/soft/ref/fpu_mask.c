/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Vector accesses that touch memory element by element: masked moves and gathers. VMASKMOV and
 * gathers fault only for elements that are accessed, and a gather keeps what it had done before the
 * fault. Source: SDM vol. 2, MASKMOVDQU, MASKMOVQ, VMASKMOV, VPMASKMOV, VGATHER, VPGATHER.
 */
#include "cpu/soft/ref/host.h"

static inline uint64_t element(const uint8_t *from, unsigned i, unsigned size) {
    uint64_t value = 0;

    memcpy(&value, from + i * size, size);
    return value;
}

static inline bool selected(const uint8_t *mask, unsigned i, unsigned size) {
    return mask[(i + 1) * size - 1] & 0x80;
}

/* Elements need no alignment, whatever EFLAGS.AC says. */
static uint64_t load_element(struct ref *c, const struct ref_op *o, uint64_t lin, unsigned size) {
    uint64_t value = 0;

    if (REF_LIKELY(!(c->mode & REF_MODE_AC)))
        return size == 4 ? ref_load32(c, o, lin) : ref_load64(c, o, lin);
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)ref_load8(c, o, lin + i) << (8 * i);
    return value;
}

/* It has been probed. */
static void store_element(struct ref *c, const struct ref_op *o, uint64_t lin, uint64_t value) {
    if (REF_UNLIKELY(c->mode & REF_MODE_AC))
        for (unsigned i = 0; i < o->size; i++)
            ref_store8(c, o, lin + i, (uint8_t)(value >> (8 * i)));
    else if (o->size == 4)
        ref_store32(c, o, lin, (uint32_t)value);
    else
        ref_store64(c, o, lin, value);
}

/* ---- VMASKMOV, VPMASKMOV: o->src mask, o->size element, o->aux vector length ---- */

/* Addresses of the selected elements: each is held against the segment by itself, and before any is
 * accessed. The effective address is cut to the address size once, not for each. */
static void element_addresses(struct ref *c, const struct ref_op *o, bool write, uint64_t lin[8]) {
    const uint8_t *mask = c->s.fpu.vec[o->src];
    uint64_t offset = host_offset(c, o);

    for (unsigned i = 0; i < o->aux / o->size; i++, offset += o->size)
        if (selected(mask, i, o->size))
            lin[i] = o->eaf ? ref_seg_lin(c, o, o->seg, offset, o->size, write) : offset;
}

static void masked_load(struct ref *c, const struct ref_op *o) {
    const uint8_t *mask = c->s.fpu.vec[o->src];
    uint8_t result[32] = {0};
    uint64_t lin[8];

    element_addresses(c, o, false, lin);
    for (unsigned i = 0; i < o->aux / o->size; i++) {
        uint64_t value;
        if (!selected(mask, i, o->size))
            continue;
        value = load_element(c, o, lin[i], o->size);
        memcpy(result + i * o->size, &value, o->size);
    }
    memcpy(c->s.fpu.vec[o->dst], result, 32);
    REF_NEXT(c, o);
}

static void masked_store(struct ref *c, const struct ref_op *o) {
    const uint8_t *mask = c->s.fpu.vec[o->src], *from = c->s.fpu.vec[o->dst];
    unsigned count = o->aux / o->size;
    uint64_t lin[8];

    element_addresses(c, o, true, lin);
    for (unsigned i = 0; i < count; i++)
        if (selected(mask, i, o->size))
            ref_probe_write(c, o, lin[i], o->size, c->cpl == 3);
    for (unsigned i = 0; i < count; i++)
        if (selected(mask, i, o->size))
            store_element(c, o, lin[i], element(from, i, o->size));
    REF_NEXT(c, o);
}

/* ---- MASKMOVDQU, MASKMOVQ: bytes to [rDI]; o->size bytes, o->aux address size ---- */

static void store_selected(struct ref *c, const struct ref_op *o, const uint8_t *from,
                           const uint8_t *mask) {
    uint64_t offset = c->r[X86_RDI], lin;

    if (o->aux == 2)
        offset = (uint16_t)offset;
    else if (o->aux == 4)
        offset = (uint32_t)offset;
    lin = ref_seg_lin(c, o, o->seg, offset, o->size, true);
    ref_check_alignment(c, o, lin, 8);
    ref_probe_write(c, o, lin + o->size - 1, 1,
                    c->cpl == 3); /* selected or not, as processors do */
    ref_probe_write(c, o, lin, 1, c->cpl == 3);
    for (unsigned i = 0; i < o->size; i++)
        if (mask[i] & 0x80)
            ref_store8(c, o, lin + i, from[i]);
}

static void maskmovdqu(struct ref *c, const struct ref_op *o) {
    store_selected(c, o, c->s.fpu.vec[o->dst], c->s.fpu.vec[o->src]);
    REF_NEXT(c, o);
}

static void maskmovq(struct ref *c, const struct ref_op *o) {
    host_check_pending(c, o);
    host_enter_mmx(c); /* even if the store faults, as processors do */
    store_selected(c, o, c->s.fpu.st[o->dst], c->s.fpu.st[o->src]);
    REF_NEXT(c, o);
}

/* ---- gathers: o->ptr the instruction, o->size element, o->aux size of an index ---- */

static uint64_t gather_address(struct ref *c, const struct ref_op *o, const struct insn *in,
                               unsigned i) {
    uint64_t index = element(c->s.fpu.vec[in->index], i, o->aux), ea;

    if (o->aux == 4)
        index = (uint64_t)(int32_t)index;
    ea = ref_ea(c, o) + (index << in->scale);
    if (in->adsize == 4)
        ea = (uint32_t)ea;
    return ref_seg_lin(c, o, o->seg, ea, o->size, false);
}

static void gather(struct ref *c, const struct ref_op *o) {
    const struct insn *in = o->ptr;
    uint8_t *to = c->s.fpu.vec[o->dst], *mask = c->s.fpu.vec[o->src];
    unsigned indexes = in->vl / o->aux, elements = in->vl / o->size;
    unsigned count = indexes < elements ? indexes : elements;

    for (unsigned i = 0; i < elements; i++) /* a fault leaves the rest of the mask like this */
        memset(mask + i * o->size, selected(mask, i, o->size) ? 0xff : 0, o->size);
    memset(mask + in->vl, 0, 32u - in->vl);
    for (unsigned i = 0; i < count; i++) {
        uint64_t value;
        if (!selected(mask, i, o->size))
            continue;
        value = load_element(c, o, gather_address(c, o, in, i), o->size);
        memcpy(to + i * o->size, &value, o->size);
        memset(to + in->vl, 0, 32u - in->vl);
        memset(mask + i * o->size, 0, o->size);
    }
    memset(mask, 0, 32);
    memset(to + count * o->size, 0, 32 - count * o->size);
    REF_NEXT(c, o);
}

/* ---- binding ---- */

static void bind_gather(struct ref *c, const struct insn *in, struct ref_op *o, unsigned index,
                        unsigned size) {
    ref_set_mem(c, in, o);
    o->index = REF_ZERO;
    o->scale = 0;
    o->ptr = ref_keep_insn(c, in);
    o->dst = in->reg;
    o->src = in->vvvv;
    o->aux = (uint8_t)index;
    o->size = (uint8_t)size;
    o->fn = gather;
}

static void bind_masked(struct ref *c, const struct insn *in, struct ref_op *o, unsigned size) {
    struct operand first;

    insn_operand(in, 0, &first);
    ref_set_mem(c, in, o);
    o->dst = in->reg;
    o->src = in->vvvv;
    o->aux = in->vl;
    o->size = (uint8_t)size;
    o->fn = first.kind == OPK_MEM ? masked_store : masked_load;
}

static void bind_maskmov(const struct insn *in, struct ref_op *o, ref_fn *fn, unsigned size) {
    struct operand data, mask;

    insn_operand(in, 0, &data);
    insn_operand(in, 1, &mask);
    o->dst = data.reg;
    o->src = mask.reg;
    o->seg = in->seg;
    o->aux = in->adsize;
    o->size = (uint8_t)size;
    o->fn = fn;
}

bool fpu_bind_mask(struct ref *c, const struct insn *in, struct ref_op *o) {
    /* Sizes of index and element, or element and element. */
    struct {
        unsigned index, size;
    } shape = {0, 0};

    switch (in->row->id) {
    case INSN_VPGATHERDD:
    case INSN_VGATHERDPS:
        shape.index = shape.size = 4;
        break;
    case INSN_VPGATHERDQ:
    case INSN_VGATHERDPD:
        shape.index = 4;
        shape.size = 8;
        break;
    case INSN_VPGATHERQD:
    case INSN_VGATHERQPS:
        shape.index = 8;
        shape.size = 4;
        break;
    case INSN_VPGATHERQQ:
    case INSN_VGATHERQPD:
        shape.index = shape.size = 8;
        break;
    case INSN_VMASKMOVPS:
    case INSN_VPMASKMOVD:
        shape.size = 4;
        break;
    case INSN_VMASKMOVPD:
    case INSN_VPMASKMOVQ:
        shape.size = 8;
        break;
    case INSN_MASKMOVQ:
    case INSN_MASKMOVDQU:
    case INSN_VMASKMOVDQU:
        break;
    default:
        return false;
    }
    if (host_bind_unavailable(c, in, o))
        return true;
    if (shape.index)
        bind_gather(c, in, o, shape.index, shape.size);
    else if (shape.size)
        bind_masked(c, in, o, shape.size);
    else if (in->row->id == INSN_MASKMOVQ)
        bind_maskmov(in, o, maskmovq, 8);
    else
        bind_maskmov(in, o, maskmovdqu, 16);
    return true;
}
