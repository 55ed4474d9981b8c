/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * x87 control instructions, MXCSR, EMMS, VZEROUPPER: what is simpler in C than on the host.
 * Source: SDM vol. 1 8.1 (x87 environment, figures 8-9 to 8-12), 10.2.3 (MXCSR); vol. 2.
 */
#include "cpu/soft/ref/host.h"

/* Reserved bits of FCW read as 0, bit 6 as 1. */
enum {
    FCW_BITS = 0x1f3f,
    FCW_ONE = 0x40,
    MXCSR_VALID = 0xffff,
    TAG_VALID = 0,
    TAG_ZERO,
    TAG_SPECIAL,
    TAG_EMPTY
};

static unsigned top_of(const struct x86_fpu *f) { return (f->fsw & FSW_TOP) >> 11; }

void fpu_set_top(struct x86_fpu *f, unsigned top) {
    unsigned by = (top - top_of(f)) & 7;
    uint8_t st[8][16];

    if (!by)
        return;
    memcpy(st, f->st, sizeof(st));
    for (unsigned i = 0; i < 8; i++)
        memcpy(f->st[i], st[(i + by) & 7], 16);
    f->fsw = (uint16_t)((f->fsw & ~FSW_TOP) | top << 11);
}

void host_enter_mmx(struct ref *c) {
    fpu_set_top(&c->s.fpu, 0);
    c->s.fpu.ftw = 0xff;
}

void fpu_init(struct x86_fpu *f) {
    fpu_set_top(f, 0);
    f->fcw = FCW_DEFAULT;
    f->fsw = 0;
    f->ftw = 0;
    f->fop = 0;
    f->fip = f->fdp = 0;
}

static unsigned tag_of(const uint8_t *st) {
    uint64_t mantissa;
    unsigned exponent;

    memcpy(&mantissa, st, 8);
    exponent = (st[8] | st[9] << 8) & 0x7fff;
    if (!exponent && !mantissa)
        return TAG_ZERO;
    return exponent && exponent != 0x7fff && mantissa >> 63 ? TAG_VALID : TAG_SPECIAL;
}

/* The tag word of two bits a register, in physical order. */
static uint16_t full_tags(const struct x86_fpu *f) {
    unsigned tags = 0;

    for (unsigned i = 0; i < 8; i++) {
        unsigned tag = f->ftw >> i & 1 ? tag_of(f->st[(i - top_of(f)) & 7]) : TAG_EMPTY;
        tags |= tag << (2 * i);
    }
    return (uint16_t)tags;
}

static uint8_t short_tags(uint16_t tags) {
    uint8_t ftw = 0;

    for (unsigned i = 0; i < 8; i++)
        if ((tags >> (2 * i) & 3) != TAG_EMPTY)
            ftw |= (uint8_t)(1u << i);
    return ftw;
}

/* ---- the environment in memory: seven fields of 2 or 4 bytes ---- */

enum { ENV_FCW, ENV_FSW, ENV_FTW, ENV_FIP, ENV_FCS, ENV_FDP, ENV_FDS, ENV_COUNT };

static bool real_format(const struct ref *c) { return c->mode & REF_MODE_REAL; }

static void env_from_state(const struct ref *c, uint32_t env[ENV_COUNT]) {
    const struct x86_fpu *f = &c->s.fpu;

    env[ENV_FCW] = f->fcw | 0xffff0000u;
    env[ENV_FSW] = f->fsw | 0xffff0000u;
    env[ENV_FTW] = full_tags(f) | 0xffff0000u;
    env[ENV_FIP] = (uint32_t)f->fip;
    env[ENV_FDP] = (uint32_t)f->fdp;
    env[ENV_FCS] = (uint32_t)f->fop << 16; /* the selectors are no longer kept: CPUID.7.EBX[13] */
    env[ENV_FDS] = 0xffff0000u;
}

/* Real mode and v86: 20- or 32-bit linear addresses, FOP beside FIP. */
static void env_from_state_real(const struct ref *c, uint32_t env[ENV_COUNT], bool wide) {
    const struct x86_fpu *f = &c->s.fpu;
    uint32_t mask = wide ? 0xffff : 0xf;

    env_from_state(c, env);
    env[ENV_FIP] = (uint32_t)(f->fip & 0xffff) | 0xffff0000u;
    env[ENV_FDP] = (uint32_t)(f->fdp & 0xffff) | 0xffff0000u;
    env[ENV_FCS] = (uint32_t)(f->fip >> 16 & mask) << 12 | f->fop;
    env[ENV_FDS] = (uint32_t)(f->fdp >> 16 & mask) << 12;
}

static void env_to_state(struct ref *c, const uint32_t env[ENV_COUNT], bool wide) {
    struct x86_fpu *f = &c->s.fpu;
    uint32_t mask = wide ? 0xffff : 0xf;

    f->fcw = (uint16_t)((env[ENV_FCW] & FCW_BITS) | FCW_ONE);
    fpu_set_top(f, env[ENV_FSW] >> 11 & 7);
    f->fsw = (uint16_t)env[ENV_FSW];
    f->ftw = short_tags((uint16_t)env[ENV_FTW]);
    host_update_pending(f);
    if (real_format(c)) {
        f->fip = (env[ENV_FIP] & 0xffff) | (env[ENV_FCS] >> 12 & mask) << 16;
        f->fdp = (env[ENV_FDP] & 0xffff) | (env[ENV_FDS] >> 12 & mask) << 16;
        f->fop = env[ENV_FCS] & 0x7ff;
    } else {
        f->fip = env[ENV_FIP];
        f->fdp = env[ENV_FDP];
        f->fop = wide ? env[ENV_FCS] >> 16 & 0x7ff : 0;
    }
}

static unsigned env_size(const struct ref_op *o) {
    return o->size == 2 ? 2 * ENV_COUNT : 4 * ENV_COUNT;
}

static unsigned field_size(const struct ref_op *o) { return o->size == 2 ? 2 : 4; }

static void store16(struct ref *c, const struct ref_op *o, unsigned offset, uint16_t value) {
    ref_store16(c, o, fpu_area_at(c, o, offset, 2, true), value);
}

static uint16_t load16(struct ref *c, const struct ref_op *o, unsigned offset) {
    return ref_load16(c, o, fpu_area_at(c, o, offset, 2, false));
}

/* The area has been probed. */
static void store_env(struct ref *c, const struct ref_op *o) {
    uint32_t env[ENV_COUNT];

    if (real_format(c))
        env_from_state_real(c, env, o->size != 2);
    else
        env_from_state(c, env);
    for (unsigned i = 0; i < ENV_COUNT; i++)
        if (o->size == 2)
            store16(c, o, 2 * i, (uint16_t)env[i]);
        else
            ref_store32(c, o, fpu_area_at(c, o, 4 * i, 4, true), env[i]);
}

static void load_env(struct ref *c, const struct ref_op *o, uint32_t env[ENV_COUNT]) {
    for (unsigned i = 0; i < ENV_COUNT; i++)
        env[i] = o->size == 2 ? load16(c, o, 2 * i)
                              : ref_load32(c, o, fpu_area_at(c, o, 4 * i, 4, false));
}

/* Faults unless the area can be written: in its first field, then at its last byte, as processors
 * do. It is shorter than a page. */
static void probe_ends(struct ref *c, const struct ref_op *o, unsigned size) {
    unsigned first = field_size(o);
    uint64_t lin = fpu_area_at(c, o, 0, first, true);

    ref_check_alignment(c, o, lin, first);
    ref_probe_write(c, o, lin, first, c->cpl == 3);
    ref_probe_write(c, o, fpu_area_at(c, o, size - 1, 1, true), 1, c->cpl == 3);
}

static void look_at_ends(struct ref *c, const struct ref_op *o, unsigned size) {
    uint64_t lin = fpu_area_at(c, o, 0, field_size(o), false);

    if (o->size == 2)
        ref_load16(c, o, lin);
    else
        ref_load32(c, o, lin);
    ref_load8(c, o, fpu_area_at(c, o, size - 1, 1, false));
}

/* 64 bits of a register, where only words need to be aligned. */
static void store_mantissa(struct ref *c, const struct ref_op *o, unsigned offset,
                           const uint8_t *st) {
    for (unsigned i = 0; i < 8; i += 2)
        store16(c, o, offset + i, (uint16_t)(st[i] | st[i + 1] << 8));
}

static uint64_t load_mantissa(struct ref *c, const struct ref_op *o, unsigned offset) {
    uint64_t value = 0;

    for (unsigned i = 0; i < 4; i++)
        value |= (uint64_t)load16(c, o, offset + 2 * i) << (16 * i);
    return value;
}

static void fnstenv(struct ref *c, const struct ref_op *o) {
    probe_ends(c, o, env_size(o));
    store_env(c, o);
    c->s.fpu.fcw |= FSW_EXCEPTIONS;
    host_update_pending(&c->s.fpu);
    REF_NEXT(c, o);
}

static void fldenv(struct ref *c, const struct ref_op *o) {
    uint32_t env[ENV_COUNT];

    host_check_pending(c, o);
    look_at_ends(c, o, env_size(o));
    load_env(c, o, env);
    env_to_state(c, env, o->size != 2);
    REF_NEXT(c, o);
}

static void fnsave(struct ref *c, const struct ref_op *o) {
    unsigned at = env_size(o);

    probe_ends(c, o, at + 80);
    store_env(c, o);
    for (unsigned i = 0; i < 8; i++, at += 10) {
        const uint8_t *st = c->s.fpu.st[i];
        store_mantissa(c, o, at, st);
        store16(c, o, at + 8, (uint16_t)(st[8] | st[9] << 8));
    }
    fpu_init(&c->s.fpu);
    REF_NEXT(c, o);
}

static void frstor(struct ref *c, const struct ref_op *o) {
    unsigned at = env_size(o);
    uint32_t env[ENV_COUNT];
    uint64_t mantissa[8];
    uint16_t exponent[8];

    host_check_pending(c, o);
    look_at_ends(c, o, at + 80);
    load_env(c, o, env);
    for (unsigned i = 0; i < 8; i++, at += 10) {
        mantissa[i] = load_mantissa(c, o, at);
        exponent[i] = load16(c, o, at + 8);
    }
    env_to_state(c, env, o->size != 2);
    for (unsigned i = 0; i < 8; i++) {
        memcpy(c->s.fpu.st[i], &mantissa[i], 8);
        memcpy(c->s.fpu.st[i] + 8, &exponent[i], 2);
    }
    REF_NEXT(c, o);
}

/* ---- control and status ---- */

static void fninit(struct ref *c, const struct ref_op *o) {
    fpu_init(&c->s.fpu);
    REF_NEXT(c, o);
}

static void fnclex(struct ref *c, const struct ref_op *o) {
    c->s.fpu.fsw &= 0x7f00;
    REF_NEXT(c, o);
}

static void fnstcw(struct ref *c, const struct ref_op *o) {
    ref_store16(c, o, ref_lin(c, o, 2, true), c->s.fpu.fcw);
    REF_NEXT(c, o);
}

static void fldcw(struct ref *c, const struct ref_op *o) {
    uint16_t value;

    host_check_pending(c, o);
    value = ref_load16(c, o, ref_lin(c, o, 2, false));
    c->s.fpu.fcw = (value & FCW_BITS) | FCW_ONE;
    host_update_pending(&c->s.fpu);
    REF_NEXT(c, o);
}

static void fnstsw(struct ref *c, const struct ref_op *o) {
    ref_store16(c, o, ref_lin(c, o, 2, true), c->s.fpu.fsw);
    REF_NEXT(c, o);
}

static void fnstsw_ax(struct ref *c, const struct ref_op *o) {
    REF_R16(c, X86_RAX) = c->s.fpu.fsw;
    REF_NEXT(c, o);
}

static void nothing(struct ref *c, const struct ref_op *o) { REF_NEXT(c, o); }

/* Unlike other x87 instructions it looks at CR0.MP and not at EM. */
static void fwait(struct ref *c, const struct ref_op *o) {
    const uint64_t both = X86_CR0_MP | X86_CR0_TS;

    if ((c->s.cr0 & both) == both)
        ref_raise(c, o, X86_NM);
    host_check_pending(c, o);
    REF_NEXT(c, o);
}

static void emms(struct ref *c, const struct ref_op *o) {
    host_check_pending(c, o);
    c->s.fpu.ftw = 0;
    fpu_set_top(&c->s.fpu, 0);
    REF_NEXT(c, o);
}

/* ---- MXCSR, upper halves ---- */

static void ldmxcsr(struct ref *c, const struct ref_op *o) {
    uint32_t value = ref_load32(c, o, ref_lin(c, o, 4, false));

    if (value & ~(uint32_t)MXCSR_VALID)
        ref_raise_error(c, o, X86_GP, 0);
    c->s.fpu.mxcsr = value;
    REF_NEXT(c, o);
}

static void stmxcsr(struct ref *c, const struct ref_op *o) {
    ref_store32(c, o, ref_lin(c, o, 4, true), c->s.fpu.mxcsr);
    REF_NEXT(c, o);
}

/* o->aux: how many registers this mode has. o->dst: bytes that stay. */
static void clear_vectors(struct ref *c, const struct ref_op *o) {
    for (unsigned i = 0; i < o->aux; i++)
        memset(c->s.fpu.vec[i] + o->dst, 0, 32u - o->dst);
    REF_NEXT(c, o);
}

/* ---- binding ---- */

static ref_fn *control_handler(const struct insn *in) {
    switch (in->row->id) {
    case INSN_FLDENV:
        return fldenv;
    case INSN_FNSTENV:
        return fnstenv;
    case INSN_FRSTOR:
        return frstor;
    case INSN_FNSAVE:
        return fnsave;
    case INSN_FNINIT:
        return fninit;
    case INSN_FNCLEX:
        return fnclex;
    case INSN_FNSTCW:
        return fnstcw;
    case INSN_FLDCW:
        return fldcw;
    case INSN_FNSTSW:
        return in->mem ? fnstsw : fnstsw_ax;
    case INSN_FENI8087_NOP:
    case INSN_FDISI8087_NOP:
    case INSN_FSETPM287_NOP:
        return nothing;
    case INSN_EMMS:
        return emms;
    case INSN_LDMXCSR:
    case INSN_VLDMXCSR:
        return ldmxcsr;
    case INSN_STMXCSR:
    case INSN_VSTMXCSR:
        return stmxcsr;
    case INSN_VZEROUPPER:
    case INSN_VZEROALL:
        return clear_vectors;
    default:
        return NULL;
    }
}

bool ref_bind_fpu(struct ref *c, const struct insn *in, struct ref_op *o) {
    ref_fn *fn = control_handler(in);

    if (in->row->id == INSN_FWAIT) {
        o->fn = fwait;
        return true;
    }
    if (!fn)
        return fpu_bind_xsave(c, in, o) || fpu_bind_mask(c, in, o);
    if (host_bind_unavailable(c, in, o))
        return true;
    if (in->mem)
        ref_set_mem(c, in, o);
    o->fn = fn;
    o->size = in->opsize;
    o->aux = in->mode == 8 ? 16 : 8;
    o->dst = in->row->id == INSN_VZEROALL ? 0 : 16;
    return true;
}
