/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * FXSAVE, FXRSTOR and the XSAVE family for x87, SSE and AVX state.
 * Source: SDM vol. 1 10.5 (FXSAVE image), chapter 13 (XSAVE: formats, XINUSE, checks of XRSTOR).
 */
#include "cpu/soft/ref/host.h"

enum { COMP_X87 = 1, COMP_SSE = 2, COMP_AVX = 4 };
enum {
    AREA_MXCSR = 24,
    AREA_ST = 32,
    AREA_XMM = 160,
    AREA_FXSAVE_END = 416, /* what follows up to 512 belongs to software */
    AREA_LEGACY = 512,
    AREA_HEADER = 512, /* XSTATE_BV, XCOMP_BV, 48 bytes of zeros */
    AREA_YMM = 576,    /* in the compacted format too: AVX is the first extended component */
    AREA_SIZE = 832,
};
#define XCOMP_COMPACT (1ull << 63)
#define MXCSR_MASK    0xffffu

/* o->aux */
enum { AUX_REX_W = 1, AUX_MODE64 = 2 };

/* ---- images and memory ---- */

static unsigned vector_count(const struct ref_op *o) { return o->aux & AUX_MODE64 ? 16 : 8; }

/* Bytes 0 to 23: control words and the pointers to the last instruction and operand. */
static void put_x87(const struct x86_fpu *f, uint8_t *area, bool wide) {
    uint32_t fip = (uint32_t)f->fip, fdp = (uint32_t)f->fdp;

    memset(area, 0, AREA_MXCSR);
    memcpy(area, &f->fcw, 2);
    memcpy(area + 2, &f->fsw, 2);
    area[4] = f->ftw;
    memcpy(area + 6, &f->fop, 2);
    memcpy(area + 8, wide ? (const void *)&f->fip : &fip, wide ? 8 : 4);
    memcpy(area + 16, wide ? (const void *)&f->fdp : &fdp, wide ? 8 : 4);
    for (unsigned i = 0; i < 8; i++) {
        memcpy(area + AREA_ST + 16 * i, f->st[i], 10);
        memset(area + AREA_ST + 16 * i + 10, 0, 6);
    }
}

static void get_x87(struct x86_fpu *f, const uint8_t *area, bool wide) {
    uint16_t fcw;

    memcpy(&fcw, area, 2);
    memcpy(&f->fsw, area + 2, 2);
    memcpy(&f->fop, area + 6, 2);
    f->fcw = (fcw & 0x1f3f) | 0x40;
    f->ftw = area[4];
    f->fop &= 0x7ff;
    f->fip = f->fdp = 0;
    memcpy(&f->fip, area + 8, wide ? 8 : 4);
    memcpy(&f->fdp, area + 16, wide ? 8 : 4);
    for (unsigned i = 0; i < 8; i++)
        memcpy(f->st[i], area + AREA_ST + 16 * i, 10);
    host_update_pending(f);
}

static void put_mxcsr(const struct x86_fpu *f, uint8_t *area) {
    const uint32_t both[2] = {f->mxcsr, MXCSR_MASK};

    memcpy(area + AREA_MXCSR, both, 8);
}

static void put_vectors(const struct x86_fpu *f, uint8_t *to, unsigned half, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        memcpy(to + 16 * i, f->vec[i] + 16 * half, 16);
}

static void get_vectors(struct x86_fpu *f, const uint8_t *from, unsigned half, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        memcpy(f->vec[i] + 16 * half, from + 16 * i, 16);
}

static uint32_t area_mxcsr(const uint8_t *area) {
    uint32_t value;

    memcpy(&value, area + AREA_MXCSR, 4);
    return value;
}

static void check_mxcsr(struct ref *c, const struct ref_op *o, uint32_t value) {
    if (value & ~MXCSR_MASK)
        ref_raise_error(c, o, X86_GP, 0);
}

/* Bytes of the area from `offset` on. */
static void store_bytes(struct ref *c, const struct ref_op *o, unsigned offset, const uint8_t *from,
                        unsigned n) {
    for (unsigned i = 0; i < n; i += 8) {
        uint64_t value;
        memcpy(&value, from + i, 8);
        ref_store64(c, o, fpu_area_at(c, o, offset + i, 8, true), value);
    }
}

static void load_bytes(struct ref *c, const struct ref_op *o, unsigned offset, uint8_t *to,
                       unsigned n) {
    for (unsigned i = 0; i < n; i += 8) {
        uint64_t value = ref_load64(c, o, fpu_area_at(c, o, offset + i, 8, false));
        memcpy(to + i, &value, 8);
    }
}

/* A part of the area that will be written: faults before anything is. */
static void probe_part(struct ref *c, const struct ref_op *o, unsigned offset, unsigned size) {
    ref_probe_write(c, o, fpu_area_at(c, o, offset, 1, true), size, c->cpl == 3);
}

/* Unlike for other aligned operands the beginning of the area is held against the segment (or found
 * not to be canonical) before its alignment counts. EFLAGS.AC wants it to be a doubleword that can
 * be read, whatever the instruction will do. */
static void check_beginning(struct ref *c, const struct ref_op *o, unsigned align, bool write) {
    uint64_t lin;
    bool canonical;

    if (c->mode & REF_MODE_AC)
        ref_check_alignment(c, o, fpu_area_at(c, o, 0, 4, false), 4);
    lin = fpu_area_at(c, o, 0, align == 16 && write ? 4 : 1, write);
    canonical = (int64_t)(lin << 16) >> 16 == (int64_t)lin;
    if (lin & (align - 1))
        ref_raise_error(c, o, !canonical && o->seg == SEG_SS ? X86_SS : X86_GP, 0);
}

/* ---- FXSAVE, FXRSTOR ---- */

static void fxsave(struct ref *c, const struct ref_op *o) {
    unsigned count = vector_count(o), end = AREA_XMM + 16 * count;
    uint8_t area[AREA_LEGACY];

    check_beginning(c, o, 16, true);
    probe_part(c, o, AREA_LEGACY - 1, 1); /* the end first, as processors do */
    probe_part(c, o, 0, AREA_LEGACY);
    put_x87(&c->s.fpu, area, o->aux & AUX_REX_W);
    put_mxcsr(&c->s.fpu, area);
    put_vectors(&c->s.fpu, area + AREA_XMM, 0, count);
    store_bytes(c, o, 0, area, end);
    REF_NEXT(c, o);
}

static void fxrstor(struct ref *c, const struct ref_op *o) {
    uint8_t area[AREA_LEGACY];

    check_beginning(c, o, 16, false);
    ref_load8(c, o, fpu_area_at(c, o, AREA_LEGACY - 1, 1, false));
    load_bytes(c, o, 0, area, AREA_LEGACY);
    check_mxcsr(c, o, area_mxcsr(area));
    get_x87(&c->s.fpu, area, o->aux & AUX_REX_W);
    c->s.fpu.mxcsr = area_mxcsr(area);
    get_vectors(&c->s.fpu, area + AREA_XMM, 0, vector_count(o));
    REF_NEXT(c, o);
}

/* ---- XSAVE ---- */

static bool all_zero(const uint8_t *p, unsigned n) {
    uint8_t any = 0;

    for (unsigned i = 0; i < n; i++)
        any |= p[i];
    return !any;
}

static bool half_in_use(const struct x86_fpu *f, unsigned half) {
    for (unsigned i = 0; i < 16; i++)
        if (!all_zero(f->vec[i] + 16 * half, 16))
            return true;
    return false;
}

uint64_t fpu_xinuse(const struct x86_fpu *f) {
    bool x87 = f->fcw != FCW_DEFAULT || f->fsw || f->ftw || f->fop || f->fip || f->fdp ||
               !all_zero(f->st[0], sizeof(f->st));

    return (x87 ? COMP_X87 : 0) | (half_in_use(f, 0) ? COMP_SSE : 0) |
           (half_in_use(f, 1) ? COMP_AVX : 0);
}

static uint64_t requested(struct ref *c) {
    return c->s.xcr0 & ((c->r[X86_RDX] << 32) | (uint32_t)c->r[X86_RAX]);
}

/* What all of them check first. */
static void open_area(struct ref *c, const struct ref_op *o, bool write) {
    if (!(c->s.cr4 & X86_CR4_OSXSAVE))
        ref_raise(c, o, X86_UD);
    if (c->s.cr0 & X86_CR0_TS)
        ref_raise(c, o, X86_NM);
    check_beginning(c, o, 64, write);
}

/* Writes the components in `comps`; MXCSR if `mxcsr`. */
static void store_components(struct ref *c, const struct ref_op *o, uint64_t comps, bool mxcsr) {
    const struct x86_fpu *f = &c->s.fpu;
    unsigned count = vector_count(o);
    uint8_t area[AREA_SIZE];

    if (comps & COMP_X87) {
        put_x87(f, area, o->aux & AUX_REX_W);
        store_bytes(c, o, 0, area, AREA_MXCSR);
        store_bytes(c, o, AREA_ST, area + AREA_ST, AREA_XMM - AREA_ST);
    }
    if (mxcsr) {
        put_mxcsr(f, area);
        store_bytes(c, o, AREA_MXCSR, area + AREA_MXCSR, 8);
    }
    if (comps & COMP_SSE) {
        put_vectors(f, area + AREA_XMM, 0, count);
        store_bytes(c, o, AREA_XMM, area + AREA_XMM, 16 * count);
    }
    if (comps & COMP_AVX) {
        put_vectors(f, area + AREA_YMM, 1, count);
        store_bytes(c, o, AREA_YMM, area + AREA_YMM, 16 * count);
    }
}

/* Faults unless everything that will be written can be: at the end of the area first, as processors
 * do. */
static void probe_area(struct ref *c, const struct ref_op *o, uint64_t rfbm, uint64_t comps,
                       bool mxcsr) {
    unsigned count = vector_count(o);

    probe_part(c, o, (rfbm & COMP_AVX ? AREA_SIZE : AREA_YMM) - 1, 1);
    if (comps & COMP_X87)
        probe_part(c, o, 0, AREA_XMM);
    else if (mxcsr)
        probe_part(c, o, AREA_MXCSR, 8);
    if (comps & COMP_SSE)
        probe_part(c, o, AREA_XMM, 16 * count);
    probe_part(c, o, AREA_HEADER, 16);
    if (comps & COMP_AVX)
        probe_part(c, o, AREA_YMM, 16 * count);
}

/* o->imm: XSAVEOPT leaves out what is in its initial state. */
static void xsave(struct ref *c, const struct ref_op *o) {
    uint64_t rfbm = requested(c), in_use = fpu_xinuse(&c->s.fpu), bv;
    uint64_t comps = o->imm ? rfbm & in_use : rfbm;
    bool mxcsr = rfbm & (COMP_SSE | COMP_AVX);

    open_area(c, o, true);
    probe_area(c, o, rfbm, comps, mxcsr);
    bv = ref_load64(c, o, fpu_area_at(c, o, AREA_HEADER, 8, false));
    store_components(c, o, comps, mxcsr);
    ref_store64(c, o, fpu_area_at(c, o, AREA_HEADER, 8, true), (bv & ~rfbm) | (in_use & rfbm));
    REF_NEXT(c, o);
}

/* XSAVEC, XSAVES: there are no supervisor components (IA32_XSS is 0). */
static void xsavec(struct ref *c, const struct ref_op *o) {
    uint64_t rfbm = requested(c), in_use = fpu_xinuse(&c->s.fpu);

    open_area(c, o, true);
    if (c->s.fpu.mxcsr != MXCSR_DEFAULT)
        in_use |= COMP_SSE;
    probe_area(c, o, rfbm, rfbm & in_use, rfbm & in_use & COMP_SSE);
    store_components(c, o, rfbm & in_use, rfbm & in_use & COMP_SSE);
    ref_store64(c, o, fpu_area_at(c, o, AREA_HEADER, 8, true), rfbm & in_use);
    ref_store64(c, o, fpu_area_at(c, o, AREA_HEADER + 8, 8, true), rfbm | XCOMP_COMPACT);
    REF_NEXT(c, o);
}

/* ---- XRSTOR ---- */

static void clear_vectors(struct x86_fpu *f, unsigned half, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        memset(f->vec[i] + 16 * half, 0, 16);
}

static void load_x87(struct ref *c, const struct ref_op *o, const uint8_t *area, uint64_t rfbm,
                     uint64_t bv) {
    struct x86_fpu *f = &c->s.fpu;

    if (rfbm & bv & COMP_X87) {
        get_x87(f, area, o->aux & AUX_REX_W);
    } else if (rfbm & COMP_X87) {
        fpu_init(f);
        memset(f->st, 0, sizeof(f->st));
    }
}

static void load_sse(struct ref *c, const struct ref_op *o, const uint8_t *area, uint64_t rfbm,
                     uint64_t bv) {
    if (rfbm & bv & COMP_SSE)
        get_vectors(&c->s.fpu, area + AREA_XMM, 0, vector_count(o));
    else if (rfbm & COMP_SSE)
        clear_vectors(&c->s.fpu, 0, vector_count(o));
}

static void load_avx(struct ref *c, const struct ref_op *o, const uint8_t *area, uint64_t rfbm,
                     uint64_t bv) {
    if (rfbm & bv & COMP_AVX)
        get_vectors(&c->s.fpu, area + AREA_YMM, 1, vector_count(o));
    else if (rfbm & COMP_AVX)
        clear_vectors(&c->s.fpu, 1, vector_count(o));
}

/* SDM vol. 1 13.8, 13.12. */
static bool header_valid(struct ref *c, const uint64_t header[8], bool must_be_compact) {
    uint64_t bv = header[0], comp = header[1];
    bool compact = comp & XCOMP_COMPACT;

    if (compact ? !ref_has(c, FEAT_XSAVEC) : must_be_compact)
        return false;
    if (compact) {
        if ((comp & ~XCOMP_COMPACT & ~c->s.xcr0) || (bv & ~comp))
            return false;
        for (unsigned i = 2; i < 8; i++)
            if (header[i])
                return false;
        return true;
    }
    return !comp && !header[2] && !(bv & ~c->s.xcr0);
}

/* Faults in the order of processors: the format, the end of the area, then its beginning. Returns
 * false if nothing of the legacy region is wanted. */
static bool look_at_area(struct ref *c, const struct ref_op *o, uint64_t rfbm) {
    uint64_t comp = ref_load64(c, o, fpu_area_at(c, o, AREA_HEADER + 8, 8, false));
    uint64_t there = comp & XCOMP_COMPACT ? rfbm & comp : rfbm; /* the rest is initialised */

    ref_load8(c, o, fpu_area_at(c, o, (there & COMP_AVX ? AREA_SIZE : AREA_YMM) - 1, 1, false));
    if (there & COMP_X87)
        ref_load8(c, o, fpu_area_at(c, o, 0, 1, false));
    else if (there & COMP_SSE || (there && !(comp & XCOMP_COMPACT)))
        ref_load8(c, o, fpu_area_at(c, o, AREA_MXCSR, 1, false));
    return there & (COMP_X87 | COMP_SSE) || !(comp & XCOMP_COMPACT);
}

/* o->imm: XRSTORS. */
static void xrstor(struct ref *c, const struct ref_op *o) {
    uint64_t rfbm = requested(c), header[8], bv;
    uint8_t area[AREA_SIZE] = {0}; /* the guest may change the header under us */
    uint32_t mxcsr = c->s.fpu.mxcsr;
    bool legacy;

    open_area(c, o, false);
    legacy = look_at_area(c, o, rfbm);
    load_bytes(c, o, AREA_HEADER, (uint8_t *)header, sizeof(header));
    if (!header_valid(c, header, o->imm))
        ref_raise_error(c, o, X86_GP, 0);
    bv = header[0];
    if (legacy && rfbm)
        load_bytes(c, o, 0, area, AREA_LEGACY);
    if (rfbm & bv & COMP_AVX)
        load_bytes(c, o, AREA_YMM, area + AREA_YMM, 16 * vector_count(o));
    if (header[1] & XCOMP_COMPACT) {
        if (rfbm & COMP_SSE)
            mxcsr = bv & COMP_SSE ? area_mxcsr(area) : MXCSR_DEFAULT;
    } else if (rfbm & (COMP_SSE | COMP_AVX)) {
        mxcsr = area_mxcsr(area);
    }
    if (!(header[1] & XCOMP_COMPACT))
        check_mxcsr(c, o, mxcsr);
    load_x87(c, o, area, rfbm, bv);
    load_sse(c, o, area, rfbm, bv);
    load_avx(c, o, area, rfbm & ~bv, 0);
    check_mxcsr(c, o, mxcsr); /* in the compacted format processors look this late */
    load_avx(c, o, area, rfbm & bv, bv);
    c->s.fpu.mxcsr = mxcsr;
    REF_NEXT(c, o);
}

static void not_available(struct ref *c, const struct ref_op *o) { ref_raise(c, o, X86_NM); }

static void not_privileged(struct ref *c, const struct ref_op *o) {
    ref_raise_error(c, o, X86_GP, 0);
}

bool fpu_bind_xsave(struct ref *c, const struct insn *in, struct ref_op *o) {
    ref_fn *fn;
    bool variant = false, privileged = false;

    switch (in->row->id) {
    case INSN_FXSAVE:
        fn = c->mode & REF_MODE_FPU_NM ? not_available : fxsave;
        break;
    case INSN_FXRSTOR:
        fn = c->mode & REF_MODE_FPU_NM ? not_available : fxrstor;
        break;
    case INSN_XSAVEOPT:
        variant = true;
        fn = xsave;
        break;
    case INSN_XSAVE:
        fn = xsave;
        break;
    case INSN_XSAVES:
        privileged = true;
        fn = xsavec;
        break;
    case INSN_XSAVEC:
        fn = xsavec;
        break;
    case INSN_XRSTORS:
        privileged = variant = true;
        fn = xrstor;
        break;
    case INSN_XRSTOR:
        fn = xrstor;
        break;
    default:
        return false;
    }
    ref_set_mem(c, in, o);
    o->fn = privileged && c->cpl ? not_privileged : fn;
    o->imm = variant;
    o->aux = (uint8_t)((in->rex & 8 ? AUX_REX_W : 0) | (in->mode == 8 ? AUX_MODE64 : 0));
    return true;
}
