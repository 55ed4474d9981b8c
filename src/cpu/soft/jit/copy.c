/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Instructions that run as they are, with their memory operand redirected. Source: SDM vol. 2A 2.
 */
#include "cpu/soft/jit/translate.h"

struct uses {                   /* where general registers are named */
    bool reg, rm, vvvv, opcode; /* field holds a general register */
    bool high_byte, vec, mem;
    unsigned mem_size, mem_access;
    uint16_t named, read, written; /* sets of R14, R15 */
};

static void find_uses(const struct insn *in, struct uses *u) {
    /* Vector instructions without vector operands exist: VZEROUPPER, CVTSS2SI from memory (MXCSR).
     */
    *u = (struct uses){.vec = in->row->attr & (INSN_SSE | INSN_AVX)};
    for (unsigned i = 0; i < in->row->nops; i++) {
        struct operand op;
        insn_operand(in, i, &op);
        if (op.kind == OPK_MEM) {
            u->mem = true;
            u->mem_size = op.size;
            u->mem_access = op.access;
        }
        u->vec |= op.kind == OPK_VEC;
        if (op.kind != OPK_GPR)
            continue;
        u->high_byte |= op.high_byte;
        switch (insn_operand_method(in, i)) {
        case 'G':
            u->reg = true;
            break;
        case 'E':
        case 'R':
            u->rm = true;
            break;
        case 'B':
            u->vvvv = true;
            break;
        case 'Z':
            u->opcode = true;
            break;
        default:
            break;
        }
        if (is_evicted(op.reg)) {
            u->named |= (uint16_t)(1u << op.reg);
            if ((op.access & 1) || op.size < 4) /* small results leave the rest as it is */
                u->read |= (uint16_t)(1u << op.reg);
            if (op.access & 2)
                u->written |= (uint16_t)(1u << op.reg);
        }
    }
}

static void load_evicted(struct trans *t, unsigned set) {
    if (set >> 14 & 1)
        e_load(&t->e, 14, OFF_R(14));
    if (set >> 15 & 1)
        e_load(&t->e, 15, OFF_R(15));
}

static void store_evicted(struct trans *t, unsigned set) {
    if (set >> 14 & 1)
        e_store(&t->e, 14, OFF_R(14));
    if (set >> 15 & 1)
        e_store(&t->e, 15, OFF_R(15));
}

/* The instruction with its memory operand at t->place and a data register renamed to R14. */
static void put_memory_form(struct trans *t, const struct insn *in, unsigned renamed) {
    struct emit *e = &t->e;
    unsigned reg = in->reg, vvvv = in->vvvv;
    unsigned xb = e_rex_xb(t->place);

    if (renamed != H_NONE && reg == renamed)
        reg = 14;
    if (renamed != H_NONE && (in->prefixes & PFX_VEX) && vvvv == renamed)
        vvvv = 14;
    if (in->prefixes & PFX_VEX) {
        e8(e, 0xc4);
        e8(e, (reg & 8 ? 0 : 0x80) | (xb & 2 ? 0 : 0x40) | (xb & 1 ? 0 : 0x20) | in->map);
        e8(e, (in->vex_w ? 0x80 : 0) | (~vvvv & 15) << 3 | (in->vl == 32 ? 4 : 0) | in->pp);
    } else {
        if (in->prefixes & PFX_LOCK)
            e8(e, 0xf0);
        if ((in->map && in->pp == 1) || (!(in->row->attr & INSN_SSE) && in->opsize == 2) ||
            (in->map && (in->row->attr & INSN_SSE) && in->pp == 1))
            e8(e, 0x66);
        if (in->map && in->pp >= 2)
            e8(e, in->pp == 2 ? 0xf3 : 0xf2);
        e8(e, 0x40 | (in->rex & 8) | (reg & 8) >> 1 | xb);
        if (in->map)
            e8(e, 0x0f);
        if (in->map >= 2)
            e8(e, in->map == 2 ? 0x38 : 0x3a);
    }
    e8(e, in->opcode);
    e_place(e, reg, t->place);
    e_bytes(e, &in->imm, in->imm_len);
}

static void vec_entry(struct trans *t, uint32_t off) {
    struct stub *s;

    if (t->vec_checked)
        return;
    /* At the first use in the block; EFLAGS were saved by the caller. */
    e_gs_cmp8(&t->e, OFF(jit.vec_live), 0);
    s = stub_add(t, STUB_VEC, e_jcc(&t->e, 4), off);
    s->retry = t->e.n;
    t->vec_checked = true;
}

/* Misaligned ones are the interpreter's, which knows how not to lock across a cache line. */
static bool is_locked(const struct insn *in) {
    return (in->prefixes & PFX_LOCK) || in->row->id == INSN_XCHG;
}

static bool copy_with_memory(struct trans *t, const struct line *l, const struct uses *u) {
    struct emit *e = &t->e;
    unsigned renamed = H_NONE;
    bool align = (l->in.row->attr & INSN_ALIGN) || is_locked(&l->in);
    bool quiet = groups_follows(t) && !align && (!u->vec || t->vec_checked); /* EFLAGS stay */

    if (u->high_byte || !u->mem_size || !u->mem_access || u->mem_size > 64 || u->named == 0xc000)
        return false;
    if (quiet)
        flags_need(t, l);
    else
        flags_keep(t, l);
    if (u->vec)
        vec_entry(t, l->off);
    if (!access_address(t, l))
        return false;
    access_check(t, l->off, u->mem_size, u->mem_access & 2, align);
    if (u->named) {
        renamed = u->named & 0x4000 ? 14 : 15;
        access_collapse(t);
        if (u->read)
            e_load(e, 14, OFF_R(renamed));
    }
    if (!quiet && (flags_read_by(&l->in) || ((l->in.row->flags_written & ALL_FLAGS) &&
                                             (l->live & ~l->in.row->flags_written & ALL_FLAGS)))) {
        /* Both scratch registers hold something, so RAX waits in its slot. */
        e_store(e, H_RAX, OFF_R(0));
        e8(e, 0x65);
        e_bytes(e, "\x0f\xb7\x04\x25", 4);
        e32(e, (uint32_t)OFF(af));
        e_bytes(e, "\x04\x7f\x9e", 3);
        e_load(e, H_RAX, OFF_R(0));
        t->flags = FLAGS_BOTH;
    }
    put_memory_form(t, &l->in, renamed);
    if (u->written) {
        e_store(e, 14, OFF_R(renamed));
    }
    flags_wrote(t, l);
    return true;
}

static const uint8_t *bytes_of(struct trans *t, const struct line *l) { return l->bytes; }

bool copy_can_repeat(const struct line *l) {
    const struct insn *in = &l->in;

    return (in->row->id == INSN_CMP || in->row->id == INSN_TEST) && !in->mem &&
           !is_evicted(in->reg) && !is_evicted(in->rm);
}

void copy_repeat(struct trans *t, struct emit *e, const struct line *l) {
    e_bytes(e, bytes_of(t, l), l->in.len);
}

static bool copy_registers(struct trans *t, const struct line *l, const struct uses *u) {
    if (u->vec && !t->vec_checked) {
        flags_keep(t, l);
        vec_entry(t, l->off);
    }
    flags_need(t, l);
    load_evicted(t, u->named);
    e_bytes(&t->e, bytes_of(t, l), l->in.len);
    store_evicted(t, u->written);
    flags_wrote(t, l);
    return true;
}

bool copy_lea(struct trans *t, const struct line *l) {
    const struct insn *in = &l->in;
    struct emit *e = &t->e;
    bool absolute = in->base == REG_NONE && !in->sib_at; /* what 64-bit code has relative to RIP */
    unsigned named = 0;

    if (!in->rip_relative && (wide(t) || (in->adsize == 4 && !absolute))) {
        if (in->base != REG_NONE)
            named |= 1u << in->base;
        if (in->index != REG_NONE)
            named |= 1u << in->index;
        if (in->opsize == 2)
            named |= 1u << in->reg;
        load_evicted(t, named);
        e_bytes(e, bytes_of(t, l), l->in.len);
        store_evicted(t, 1u << in->reg);
        return true;
    }
    if (in->opsize == 2 || in->seg >= SEG_FS || !access_address(t, l))
        return false;
    if (in->opsize == 4)
        e_bytes(e, "\x45\x89\xff", 3); /* mov r15d, r15d */
    if (is_evicted(in->reg))
        e_store(e, H_A, OFF_R(in->reg));
    else
        e_mov(e, in->reg, H_A);
    return true;
}

/* STMXCSR and LDMXCSR: math libraries execute them in pairs around every call. */
bool copy_mxcsr(struct trans *t, const struct line *l, bool load) {
    struct emit *e = &t->e;

    flags_keep(t, l);
    vec_entry(t, l->off);
    if (!access_address(t, l))
        return false;
    access_check(t, l->off, 4, !load, false);
    if (!load) {
        access_collapse(t);
        e_bytes(e, "\x41\x0f\xae\x1f", 4); /* stmxcsr [r15] */
        return true;
    }
    access_collapse(t);
    e_bytes(e, "\x45\x8b\x3f", 3);                 /* mov r15d, [r15] */
    e_bytes(e, "\x45\x89\xfe", 3);                 /* mov r14d, r15d */
    e_bytes(e, "\x41\x81\xf6\x80\x1f\x00\x00", 7); /* xor r14d, exception masks: 0 where masked */
    e_bytes(e, "\x41\xf7\xc6\x80\x1f\xff\xff", 7); /* test r14d, masks | reserved */
    stub_add(t, STUB_BAIL, e_jcc(e, 5), l->off);
    e_gs(e, 0, 0x89, H_A, OFF(jit.target));
    e_bytes(e, "\x65\x0f\xae\x14\x25", 5); /* ldmxcsr gs:[target] */
    e32(e, (uint32_t)OFF(jit.target));
    return true;
}

/* VEX bits that 32-bit code may set and processors ignore there: SDM vol. 2A 2.3.5, 2.3.6. */
static bool vex_means_more(struct trans *t, const struct line *l) {
    const uint8_t *p = bytes_of(t, l);
    unsigned at = l->in.opcode_at;
    struct operand op;

    if (wide(t) || !(l->in.prefixes & PFX_VEX))
        return false;
    for (unsigned i = 0; i < l->in.row->nops; i++) {
        char method = insn_operand_method(&l->in, i);
        insn_operand(&l->in, i, &op);
        if (((op.kind == OPK_GPR || method == 'E') && l->in.vex_w) ||
            (method == 'L' && (l->in.imm & 0x80)))
            return true;
    }
    /* Of the form with three bytes: B, and the top bit of vvvv. */
    return at >= 3 && p[at - 3] == 0xc4 && (!(p[at - 2] & 0x20) || !(p[at - 1] & 0x40));
}

/* INC and DEC in one byte, which are REX prefixes in 64-bit code. */
static bool copy_short_inc(struct trans *t, const struct line *l) {
    struct emit *e = &t->e;

    flags_need(t, l);
    if (l->in.opsize == 2)
        e8(e, 0x66);
    e8(e, 0xff);
    e8(e, 0xc0 | (l->in.opcode & 15));
    flags_wrote(t, l);
    return true;
}

/* MOV between the accumulator and an absolute address, as the same MOV with a ModRM byte. */
static bool copy_moffs(struct trans *t, const struct line *l) {
    static const uint8_t opcode[4] = {0x8a, 0x8b, 0x88, 0x89};
    struct line plain = *l;
    struct uses u;

    plain.in.opcode = opcode[l->in.opcode & 3];
    find_uses(&l->in, &u);
    return copy_with_memory(t, &plain, &u);
}

/* One-byte opcodes that 64-bit code has in another form; false: none of them. */
static bool copy_legacy(struct trans *t, const struct line *l, bool *ret_done) {
    const struct insn *in = &l->in;

    if (wide(t) || in->map)
        return false;
    if ((in->opcode & 0xf0) == 0x40)
        *ret_done = copy_short_inc(t, l);
    else if ((in->opcode & 0xfc) == 0xa0)
        *ret_done = copy_moffs(t, l);
    else
        return false;
    return true;
}

static bool copyable(const struct insn *in) {
    if (!(in->row->attr & INSN_HOST) || (in->row->attr & (INSN_FPU | INSN_MMX)))
        return false;
    if (in->mem && in->adsize == 2)
        return false;
    return in->row->id != INSN_DIV && in->row->id != INSN_IDIV;
}

bool copy_insn(struct trans *t, const struct line *l) {
    struct uses u;
    bool done;

    if (copy_legacy(t, l, &done))
        return done;
    if (!wide(t) && (l->in.row->id == INSN_VZEROUPPER || l->in.row->id == INSN_VZEROALL))
        return false; /* eight registers of sixteen */
    if (!copyable(&l->in) || vex_means_more(t, l))
        return false;
    find_uses(&l->in, &u);
    return u.mem ? copy_with_memory(t, l, &u) : copy_registers(t, l, &u);
}
