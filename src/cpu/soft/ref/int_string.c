/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * String instructions with and without REP, and port input and output.
 * Source: SDM vol. 2 (MOVS STOS LODS SCAS CMPS INS OUTS IN OUT), vol. 1 7.3.9.
 *
 * Theory of operation: registers are updated after every element, so a fault or an interrupt in the
 * middle restarts exactly. Forward REP MOVS and REP STOS work on whole runs inside one page when
 * the TLB has both pages (16 % of all REP iterations of a Debian boot are such); everything else
 * goes by elements.
 */
#include "cpu/soft/ref/int_ops.h"
#include "cpu/soft/ref/sys.h"

enum { ITERATIONS_BETWEEN_LOOKS = 4096 };
enum { REP_NONE, REP_E, REP_NE }; /* o->aux */

/* One element of one instruction; false when REP must end (SCAS, CMPS). */
typedef bool element_fn(struct ref *c, const struct ref_op *o);

static uint64_t address_mask(const struct ref_op *o) {
    return o->eaf & REF_EA_16 ? 0xffff : o->eaf & REF_EA_32 ? 0xffffffff : ~0ull;
}

static unsigned address_size(const struct ref_op *o) {
    return o->eaf & REF_EA_16 ? 2 : o->eaf & REF_EA_32 ? 4 : 8;
}

static uint64_t source(struct ref *c, const struct ref_op *o) {
    return ref_seg_lin(c, o, o->seg, c->r[X86_RSI] & address_mask(o), o->size, false);
}

static uint64_t destination(struct ref *c, const struct ref_op *o, bool write) {
    return ref_seg_lin(c, o, SEG_ES, c->r[X86_RDI] & address_mask(o), o->size, write);
}

static void advance(struct ref *c, const struct ref_op *o, unsigned reg, uint64_t elements) {
    uint64_t by = elements * o->size;

    ref_set_reg(c, reg, address_size(o), c->fl & X86_FLAG_DF ? c->r[reg] - by : c->r[reg] + by);
}

static uint64_t load_element(struct ref *c, const struct ref_op *o, uint64_t lin) {
    switch (o->size) {
    case 1:
        return ref_load8(c, o, lin);
    case 2:
        return ref_load16(c, o, lin);
    case 4:
        return ref_load32(c, o, lin);
    default:
        return ref_load64(c, o, lin);
    }
}

static void store_element(struct ref *c, const struct ref_op *o, uint64_t lin, uint64_t v) {
    switch (o->size) {
    case 1:
        ref_store8(c, o, lin, (uint8_t)v);
        break;
    case 2:
        ref_store16(c, o, lin, (uint16_t)v);
        break;
    case 4:
        ref_store32(c, o, lin, (uint32_t)v);
        break;
    default:
        ref_store64(c, o, lin, v);
        break;
    }
}

static void compare_flags(struct ref *c, unsigned size, uint64_t a, uint64_t b) {
    uint32_t f;

    if (size == 8)
        __asm__("cmpq %[b], %[a]\n\t" INT_TAKE_FLAGS : "=&a"(f) : [a] "r"(a), [b] "r"(b) : "cc");
    else if (size == 4)
        __asm__("cmpl %k[b], %k[a]\n\t" INT_TAKE_FLAGS : "=&a"(f) : [a] "r"(a), [b] "r"(b) : "cc");
    else if (size == 2)
        __asm__("cmpw %w[b], %w[a]\n\t" INT_TAKE_FLAGS : "=&a"(f) : [a] "r"(a), [b] "r"(b) : "cc");
    else
        __asm__("cmpb %b[b], %b[a]\n\t" INT_TAKE_FLAGS : "=&a"(f) : [a] "q"(a), [b] "q"(b) : "cc");
    INT_SET_FLAGS(c, f);
}

/* ---- elements ---- */

static bool movs_one(struct ref *c, const struct ref_op *o) {
    uint64_t v = load_element(c, o, source(c, o));

    store_element(c, o, destination(c, o, true), v);
    advance(c, o, X86_RSI, 1);
    advance(c, o, X86_RDI, 1);
    return true;
}

static bool stos_one(struct ref *c, const struct ref_op *o) {
    store_element(c, o, destination(c, o, true), c->r[X86_RAX]);
    advance(c, o, X86_RDI, 1);
    return true;
}

static bool lods_one(struct ref *c, const struct ref_op *o) {
    uint64_t v = load_element(c, o, source(c, o));

    if (o->size == 1)
        REF_R8(c, 0) = (uint8_t)v;
    else
        ref_set_reg(c, X86_RAX, o->size, v);
    advance(c, o, X86_RSI, 1);
    return true;
}

static bool repeats(const struct ref *c, const struct ref_op *o) {
    bool zf = c->af & 0x4000;

    return o->aux == REP_NE ? !zf : zf;
}

static bool scas_one(struct ref *c, const struct ref_op *o) {
    uint64_t v = load_element(c, o, destination(c, o, false));

    compare_flags(c, o->size, c->r[X86_RAX], v);
    advance(c, o, X86_RDI, 1);
    return repeats(c, o);
}

static bool cmps_one(struct ref *c, const struct ref_op *o) {
    uint64_t b =
        load_element(c, o, destination(c, o, false)); /* first: it tells which operand faults */
    uint64_t a = load_element(c, o, source(c, o));

    compare_flags(c, o->size, a, b);
    advance(c, o, X86_RSI, 1);
    advance(c, o, X86_RDI, 1);
    return repeats(c, o);
}

static uint64_t port_in(struct ref *c, const struct ref_op *o, uint16_t port, unsigned size) {
    struct cpu_bus *bus = &c->cpu.config.bus;
    uint64_t v;

    ref_check_io(c, o, port, size);
    ref_bus_begin(c);
    v = bus->io_read(bus->opaque, true, port, size);
    ref_bus_end(c);
    return v;
}

static void port_out(struct ref *c, const struct ref_op *o, uint16_t port, unsigned size,
                     uint64_t v) {
    struct cpu_bus *bus = &c->cpu.config.bus;

    ref_check_io(c, o, port, size);
    ref_bus_begin(c);
    bus->io_write(bus->opaque, true, port, size, v);
    ref_bus_end(c);
}

static bool ins_one(struct ref *c, const struct ref_op *o) {
    uint16_t port = (uint16_t)c->r[X86_RDX];
    uint64_t lin;

    ref_check_io(c, o, port, o->size); /* both checks come before the device notices anything */
    lin = destination(c, o, true);
    ref_probe_write(c, o, lin, o->size, c->cpl == 3);
    store_element(c, o, lin, port_in(c, o, port, o->size));
    advance(c, o, X86_RDI, 1);
    return true;
}

static bool outs_one(struct ref *c, const struct ref_op *o) {
    uint16_t port = (uint16_t)c->r[X86_RDX];
    uint64_t v;

    ref_check_io(c, o, port, o->size);
    v = load_element(c, o, source(c, o));
    port_out(c, o, port, o->size, v);
    advance(c, o, X86_RSI, 1);
    return true;
}

/* ---- whole runs inside one page ---- */

/* Elements from `reg`'s address to the end of its page and segment, with the host pointer; 0 if not
 * at hand. */
static uint64_t run_at(struct ref *c, const struct ref_op *o, unsigned seg, unsigned reg,
                       bool write, uint8_t **ret_p) {
    uint64_t offset = c->r[reg] & address_mask(o), lin = offset, bytes;
    const struct x86_segment *g = &c->s.seg[seg];
    void *p;

    if ((c->mode & REF_MODE_CODE) != 2) {
        if ((g->attr & 0xc) == 4 || offset > g->limit)
            return 0;
        lin = (uint32_t)(offset + g->base);
    } else if (seg >= SEG_FS) {
        lin += g->base;
    }
    bytes = 4096 - (lin & 4095);
    if ((c->mode & REF_MODE_CODE) != 2 && bytes > (uint64_t)g->limit - offset + 1)
        bytes = (uint64_t)g->limit - offset + 1;
    if (bytes > address_mask(o) - offset)
        bytes = address_mask(o) - offset;
    if (!(write ? ref_tlb_write(c, c->tlb, lin, 1, &p) : ref_tlb_read(c, c->tlb, lin, 1, &p)))
        return 0;
    *ret_p = p;
    return bytes / o->size;
}

static uint64_t movs_run(struct ref *c, const struct ref_op *o, uint64_t n) {
    uint8_t *s, *d;
    uint64_t k = run_at(c, o, o->seg, X86_RSI, false, &s), m;

    if (!k || !(m = run_at(c, o, SEG_ES, X86_RDI, true, &d)))
        return 0;
    k = k < m ? k : m;
    k = k < n ? k : n;
    if (d > s && d < s + k * o->size) /* the copy feeds on itself */
        return 0;
    memmove(d, s, k * o->size);
    advance(c, o, X86_RSI, k);
    advance(c, o, X86_RDI, k);
    return k;
}

static uint64_t stos_run(struct ref *c, const struct ref_op *o, uint64_t n) {
    uint8_t *d;
    uint64_t k = run_at(c, o, SEG_ES, X86_RDI, true, &d), v = c->r[X86_RAX];

    if (!k)
        return 0;
    k = k < n ? k : n;
    if (o->size == 1 || !v)
        memset(d, (int)v, k * o->size);
    else
        for (uint64_t i = 0; i < k; i++)
            memcpy(d + i * o->size, &v, o->size);
    advance(c, o, X86_RDI, k);
    return k;
}

/* ---- the loop around them ---- */

static bool interrupted(const struct ref *c) {
    return atomic_load_explicit(&c->attention, memory_order_relaxed) & c->att_mask;
}

/* Single-stepping traps after every iteration; dropped blocks and interrupts are looked at now and
 * then. */
static bool must_leave(const struct ref *c, bool look) {
    return (c->mode & REF_MODE_STEP) || (look && (interrupted(c) || c->block->dead));
}

/* REP with 32-bit addresses in 64-bit mode cuts RCX before anything else happens; the fast ones cut
 * the addresses too, even for a count of 0. */
static void cut_registers(struct ref *c, element_fn *one, uint64_t n) {
    c->r[X86_RCX] = n;
    if (one == movs_one)
        c->r[X86_RSI] = (uint32_t)c->r[X86_RSI];
    if (one == movs_one || one == stos_one)
        c->r[X86_RDI] = (uint32_t)c->r[X86_RDI];
}

static void repeat(struct ref *c, const struct ref_op *o, element_fn *one,
                   uint64_t (*run)(struct ref *, const struct ref_op *, uint64_t)) {
    uint64_t n = c->r[X86_RCX] & address_mask(o);
    unsigned steps = 0;
    uint32_t before = c->af;
    bool more = true;

    if (one == ins_one || one == outs_one) /* even for a count of 0 */
        ref_check_io(c, o, (uint16_t)c->r[X86_RDX], o->size);
    else if ((c->mode & REF_MODE_CODE) == 2 && (o->eaf & REF_EA_32))
        cut_registers(c, one, n);
    while (n && more) {
        uint64_t done = run && !(c->fl & X86_FLAG_DF) && steps ? run(c, o, n) : 0;
        if (!done) {
            c->af = before; /* a fault leaves the old flags, however many elements were compared */
            more = one(c, o);
            done = 1;
        }
        n -= done;
        ref_set_reg(c, X86_RCX, address_size(o), n);
        steps++;
        if (n && more && must_leave(c, done > 1 || steps % ITERATIONS_BETWEEN_LOOKS == 0)) {
            ref_goto(c, ref_op_rip(c, o));
            return;
        }
    }
    REF_NEXT(c, o);
}

#define STRING_HANDLERS(name, run)                                                                 \
    INT_HANDLER(name) {                                                                            \
        name##_one(c, o);                                                                          \
        REF_NEXT(c, o);                                                                            \
    }                                                                                              \
    INT_HANDLER(rep_##name) { repeat(c, o, name##_one, run); }
STRING_HANDLERS(movs, movs_run)
STRING_HANDLERS(stos, stos_run)
STRING_HANDLERS(lods, NULL)
STRING_HANDLERS(scas, NULL)
STRING_HANDLERS(cmps, NULL)
STRING_HANDLERS(ins, NULL)
STRING_HANDLERS(outs, NULL)

/* ---- IN, OUT: o->imm is the port, or o->aux says DX ---- */

static uint16_t port_of(const struct ref *c, const struct ref_op *o) {
    return (uint16_t)(o->aux ? c->r[X86_RDX] : o->imm);
}

INT_HANDLER(in_port) {
    uint64_t v = port_in(c, o, port_of(c, o), o->size);

    if (o->size == 1)
        REF_R8(c, 0) = (uint8_t)v;
    else
        ref_set_reg(c, X86_RAX, o->size, v);
    REF_NEXT(c, o);
}

/* Software that asks for an SMI by a port finds it done behind the instruction. */
static bool smi_asked(const struct ref *c) {
    return atomic_load_explicit(&c->attention, memory_order_relaxed) & REF_ATT_SMI;
}

INT_HANDLER(out_port) {
    port_out(c, o, port_of(c, o), o->size,
             o->size == 4   ? (uint32_t)c->r[X86_RAX]
             : o->size == 2 ? (uint16_t)c->r[X86_RAX]
                            : REF_R8(c, 0));
    if (REF_UNLIKELY(smi_asked(c))) {
        ref_end(c, o);
        return;
    }
    REF_NEXT(c, o);
}

static bool bind_port(const struct insn *in, struct ref_op *o, ref_fn *fn) {
    unsigned word = in->opsize == 2 ? 2 : 4;

    o->size = in->opcode & 1 ? (uint8_t)word : 1;
    o->aux = in->opcode >= 0xec;
    o->imm = (uint8_t)in->imm;
    o->fn = fn;
    return true;
}

static bool bind_string(const struct insn *in, struct ref_op *o, ref_fn *one, ref_fn *rep) {
    bool io = in->row->id == INSN_INS || in->row->id == INSN_OUTS;
    unsigned word = io && in->opsize == 8 ? 4 : in->opsize;

    o->size = in->opcode & 1 ? (uint8_t)word : 1;
    o->seg = in->prefixes & PFX_SEG ? in->seg : SEG_DS;
    o->eaf = in->adsize == 2 ? REF_EA_16 : in->adsize == 4 ? REF_EA_32 : 0;
    o->aux = in->prefixes & PFX_REP ? REP_E : in->prefixes & PFX_REPNE ? REP_NE : REP_NONE;
    o->fn = o->aux ? rep : one;
    return true;
}

bool int_bind_string(struct ref *c, const struct insn *in, struct ref_op *o) {
    switch (in->row->id) {
    case INSN_MOVS:
        return bind_string(in, o, movs, rep_movs);
    case INSN_STOS:
        return bind_string(in, o, stos, rep_stos);
    case INSN_LODS:
        return bind_string(in, o, lods, rep_lods);
    case INSN_SCAS:
        return bind_string(in, o, scas, rep_scas);
    case INSN_CMPS:
        return bind_string(in, o, cmps, rep_cmps);
    case INSN_INS:
        return bind_string(in, o, ins, rep_ins);
    case INSN_OUTS:
        return bind_string(in, o, outs, rep_outs);
    case INSN_IN:
        return bind_port(in, o, in_port);
    case INSN_OUT:
        return bind_port(in, o, out_port);
    default:
        return false;
    }
}
