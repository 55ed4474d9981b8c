/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control and debug registers, XCR0, translation caches.
 * Source: Intel SDM vol. 2 (MOV CR, MOV DR, LMSW, SMSW, CLTS, INVLPG, INVPCID, XSETBV), vol.
 * 3A 2.5, 4.1 (paging modes), 4.10.4 (invalidation), 9.8.5 (long mode), 17.2 (debug registers).
 *
 * The TLB holds translations of the current PCID and global ones; what others had is put away by
 * space.c.
 */
#include "cpu/cpuid.h"
#include "cpu/soft/ref/sys.h"

enum { SRC_MEM = 0x80 };

static _Noreturn void fault_gp(struct ref *c, const struct ref_op *o) {
    ref_raise_error(c, o, X86_GP, 0);
}

static void flush(struct ref *c) {
    memset(c->large_seen, 0, sizeof(c->large_seen));
    ref_tlb_flush(c);
}

/* ------------------------------------------------------------------ CR0 */

static void check_cr0(struct ref *c, const struct ref_op *o, uint64_t v) {
    if (v >> 32 || ((v & X86_CR0_PG) && !(v & X86_CR0_PE)) ||
        ((v & X86_CR0_NW) && !(v & X86_CR0_CD)))
        fault_gp(c, o);
    if (v & X86_CR0_PG) {
        if (!(c->s.cr0 & X86_CR0_PG) && (c->s.efer & X86_EFER_LME) &&
            (!(c->s.cr4 & X86_CR4_PAE) || (c->s.seg[SEG_CS].attr & X86_ATTR_L)))
            fault_gp(c, o);
    } else if ((c->s.cr4 & X86_CR4_PCIDE) || sys_code64(c)) {
        fault_gp(c, o);
    }
}

static void set_cr0(struct ref *c, const struct ref_op *o, uint64_t v) {
    const uint64_t known = X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_NE |
                           X86_CR0_WP | X86_CR0_AM | X86_CR0_NW | X86_CR0_CD | X86_CR0_PG;
    uint64_t changed = v ^ c->s.cr0;

    check_cr0(c, o, v);
    if ((v & X86_CR0_PG) && (c->s.cr4 & X86_CR4_PAE) && !(c->s.efer & X86_EFER_LME) &&
        (changed & (X86_CR0_PG | X86_CR0_CD | X86_CR0_NW)) && !ref_load_pdptes(c, c->s.cr3))
        fault_gp(c, o);
    c->s.cr0 = (v & known) | X86_CR0_ET;
    if ((v & X86_CR0_PG) && (c->s.efer & X86_EFER_LME))
        c->s.efer |= X86_EFER_LMA;
    else
        c->s.efer &= ~X86_EFER_LMA;
    if ((changed & X86_CR0_PE) && (v & X86_CR0_PE)) {
        c->cpl = 0;
        c->s.seg[SEG_SS].attr &= ~(3u << 5); /* SS's DPL is where CPL is kept */
    }
    if (changed & (X86_CR0_PG | X86_CR0_WP))
        flush(c);
    ref_update_mode(c);
}

/* ------------------------------------------------------------------ CR3, CR4 */

static void set_cr3(struct ref *c, const struct ref_op *o, uint64_t v) {
    bool pcide = c->s.cr4 & X86_CR4_PCIDE, keep = pcide && v >> 63;
    unsigned from = c->s.cr3 & 0xfff;

    if (pcide)
        v &= ~(1ull << 63);
    if (sys_long(c) && (v & CPUID_PHYS_RESERVED))
        fault_gp(c, o);
    if ((c->s.cr0 & X86_CR0_PG) && (c->s.cr4 & X86_CR4_PAE) && !sys_long(c) &&
        !ref_load_pdptes(c, v))
        fault_gp(c, o);
    c->s.cr3 = v & ~CPUID_PHYS_RESERVED;
    if (pcide)
        ref_space_switch(c, from, v & 0xfff, keep);
    else
        ref_tlb_flush_local(c);
}

static uint64_t cr4_known(const struct ref *c) {
    uint64_t known = X86_CR4_TSD | X86_CR4_DE | X86_CR4_PSE | X86_CR4_PAE | X86_CR4_MCE |
                     X86_CR4_PGE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_UMIP |
                     X86_CR4_FSGSBASE | X86_CR4_PCIDE | X86_CR4_SMEP;

    if (ref_has(c, FEAT_XSAVE))
        known |= X86_CR4_OSXSAVE;
    return known;
}

static void set_cr4(struct ref *c, const struct ref_op *o, uint64_t v) {
    const uint64_t paging = X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PCIDE | X86_CR4_SMEP;
    uint64_t changed = v ^ c->s.cr4;

    if (v & ~cr4_known(c))
        fault_gp(c, o);
    if (sys_long(c) && !(v & X86_CR4_PAE))
        fault_gp(c, o);
    if ((changed & v & X86_CR4_PCIDE) && (!sys_long(c) || (c->s.cr3 & 0xfff)))
        fault_gp(c, o);
    if ((c->s.cr0 & X86_CR0_PG) && !sys_long(c) && (v & X86_CR4_PAE) &&
        (changed & (X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_SMEP)) &&
        !ref_load_pdptes(c, c->s.cr3))
        fault_gp(c, o);
    c->s.cr4 = v;
    if (changed & paging)
        flush(c);
    ref_update_mode(c);
}

/* ------------------------------------------------------------------ MOV CR */

static void mov_from_cr(struct ref *c, const struct ref_op *o) {
    struct cpu_bus *bus = &c->cpu.config.bus;
    uint64_t v = 0;

    switch (o->aux) {
    case 0:
        v = c->s.cr0;
        break;
    case 2:
        v = c->s.cr2;
        break;
    case 3:
        v = c->s.cr3;
        break;
    case 4:
        v = c->s.cr4;
        break;
    case 8:
        ref_bus_begin(c);
        v = bus->get_tpr(bus->opaque);
        ref_bus_end(c);
        break;
    }
    ref_set_reg(c, o->dst, o->size, v);
    REF_NEXT(c, o);
}

static void mov_to_cr(struct ref *c, const struct ref_op *o) {
    struct cpu_bus *bus = &c->cpu.config.bus;
    uint64_t v = o->size == 8 ? c->r[o->src] : (uint32_t)c->r[o->src];

    sys_serialize(c);
    switch (o->aux) {
    case 0:
        set_cr0(c, o, v);
        break;
    case 2:
        c->s.cr2 = v;
        break;
    case 3:
        set_cr3(c, o, v);
        break;
    case 4:
        set_cr4(c, o, v);
        break;
    case 8:
        if (v >> 4)
            fault_gp(c, o);
        ref_bus_begin(c);
        bus->set_tpr(bus->opaque, (uint8_t)v);
        ref_bus_end(c);
        break;
    }
    ref_end(c, o);
}

static void lmsw(struct ref *c, const struct ref_op *o) {
    uint16_t v =
        o->aux & SRC_MEM ? ref_load16(c, o, ref_lin(c, o, 2, false)) : (uint16_t)c->r[o->src];

    /* PE can be set, not cleared. */
    set_cr0(c, o, (c->s.cr0 & ~0xeull) | (v & 0xf));
    ref_end(c, o);
}

static void smsw(struct ref *c, const struct ref_op *o) {
    if (c->cpl && (c->s.cr4 & X86_CR4_UMIP))
        fault_gp(c, o);
    if (o->aux & SRC_MEM)
        ref_store16(c, o, ref_lin(c, o, 2, true), (uint16_t)c->s.cr0);
    else
        ref_set_reg(c, o->src, o->size, c->s.cr0);
    REF_NEXT(c, o);
}

static void clts(struct ref *c, const struct ref_op *o) {
    c->s.cr0 &= ~X86_CR0_TS;
    ref_update_mode(c);
    ref_end(c, o);
}

/* ------------------------------------------------------------------ MOV DR */

/* DR4 and DR5 are DR6 and DR7 unless CR4.DE; any access is a #DB under DR7.GD. */
static unsigned dr_number(struct ref *c, const struct ref_op *o) {
    unsigned n = o->aux;

    if (n == 4 || n == 5) {
        if (c->s.cr4 & X86_CR4_DE)
            ref_raise(c, o, X86_UD);
        n += 2;
    }
    if (c->s.dr7 & 1 << 13) {
        c->s.dr6 |= 1 << 13; /* BD */
        ref_raise(c, o, X86_DB);
    }
    return n;
}

static void mov_from_dr(struct ref *c, const struct ref_op *o) {
    unsigned n = dr_number(c, o);

    ref_set_reg(c, o->dst, o->size, n == 6 ? c->s.dr6 : n == 7 ? c->s.dr7 : c->s.dr[n]);
    REF_NEXT(c, o);
}

static void mov_to_dr(struct ref *c, const struct ref_op *o) {
    unsigned n = dr_number(c, o);
    uint64_t v = o->size == 8 ? c->r[o->src] : (uint32_t)c->r[o->src];

    if (n >= 6 && v >> 32)
        fault_gp(c, o);
    if (n == 6) {
        c->s.dr6 = x86_legal_dr6(v);
    } else if (n == 7) {
        c->s.dr7 = x86_legal_dr7(v);
    } else {
        c->s.dr[n] = v;
    }
    if (n != 6 && (c->s.dr7 & 0xff)) /* watched pages must not be fast hits */
        ref_tlb_flush(c);
    ref_update_mode(c);
    ref_end(c, o);
}

/* ------------------------------------------------------------------ XCR0 */

static void xgetbv(struct ref *c, const struct ref_op *o) {
    uint32_t index = (uint32_t)c->r[X86_RCX];
    uint64_t v = c->s.xcr0;

    if (!(c->s.cr4 & X86_CR4_OSXSAVE))
        ref_raise(c, o, X86_UD);
    if (index > 1)
        fault_gp(c, o);
    if (index == 1) { /* XINUSE: the upper halves are in their initial state if all are zero */
        uint64_t upper = 0;
        for (unsigned i = 0; i < 16; i++)
            for (unsigned k = 16; k < 32; k += 8) {
                uint64_t part;
                memcpy(&part, &c->s.fpu.vec[i][k], 8);
                upper |= part;
            }
        if (!upper)
            v &= ~4ull;
    }
    c->r[X86_RAX] = (uint32_t)v;
    c->r[X86_RDX] = v >> 32;
    REF_NEXT(c, o);
}

static void xsetbv(struct ref *c, const struct ref_op *o) {
    uint64_t v = (uint32_t)c->r[X86_RAX] | c->r[X86_RDX] << 32;

    if (!(c->s.cr4 & X86_CR4_OSXSAVE))
        ref_raise(c, o, X86_UD);
    if ((uint32_t)c->r[X86_RCX] || !(v & 1) || (v & ~cpuid_xcr0(&c->cpu.config)) || (v & 6) == 4)
        fault_gp(c, o);
    c->s.xcr0 = v;
    ref_update_mode(c);
    ref_end(c, o);
}

/* ------------------------------------------------------------------ invalidation */

static void invalidate(struct ref *c, uint64_t lin) {
    /* A large page may have left any number of 4 KiB entries. */
    if (c->large_seen[lin >> 36 & 7] >> (lin >> 30 & 63) & 1)
        flush(c);
    else
        ref_tlb_flush_page(c, lin);
}

static void invlpg(struct ref *c, const struct ref_op *o) {
    uint64_t ea = ref_ea(c, o);

    sys_serialize(c);
    if (o->eaf & REF_EA_32)
        ea = (uint32_t)ea;
    else if (o->eaf & REF_EA_16)
        ea = (uint16_t)ea;
    if (o->eaf & REF_EA_LEGACY)
        ea = (uint32_t)(ea + c->s.seg[o->seg].base);
    else if (o->eaf & REF_EA_SEG)
        ea += c->s.seg[o->seg].base;
    if (sys_canonical(ea))
        invalidate(c, ea);
    ref_end(c, o);
}

static void invpcid(struct ref *c, const struct ref_op *o) {
    uint64_t type = o->size == 8 ? c->r[o->dst] : (uint32_t)c->r[o->dst],
             lin = ref_lin(c, o, 16, false);
    uint64_t pcid = ref_load64(c, o, lin), address = ref_load64(c, o, lin + 8);
    bool pcide = c->s.cr4 & X86_CR4_PCIDE, current = pcid == (pcide ? c->s.cr3 & 0xfff : 0);

    if (type > 3 || pcid >> 12 || (type < 2 && !pcide && pcid) ||
        (type == 0 && !sys_canonical(address)))
        fault_gp(c, o);
    if (type >= 2)
        flush(c);
    else if (!current)
        ref_space_drop(c, (unsigned)pcid);
    else if (type == 0)
        invalidate(c, address);
    else
        flush(c);
    ref_end(c, o);
}

/* ------------------------------------------------------------------ binding */

static bool bind_mov(const struct insn *in, struct ref_op *o) {
    bool control = in->row->id == INSN_MOV_CR;
    struct operand first;
    bool load;

    insn_operand(in, 0, &first);
    load = first.kind != OPK_GPR;
    o->aux = in->reg;
    o->dst = o->src = in->rm;
    o->size = in->mode == 8 ? 8 : 4;
    if (control ? in->reg > 8 || !(1u << in->reg & 0x11d) : in->reg > 7)
        o->fn = ref_op_ud;
    else if (control)
        o->fn = load ? mov_to_cr : mov_from_cr;
    else
        o->fn = load ? mov_to_dr : mov_from_dr;
    return true;
}

bool sys_bind_control(struct ref *c, const struct insn *in, struct ref_op *o) {
    switch (in->row->id) {
    case INSN_MOV_CR:
    case INSN_MOV_DR:
        return bind_mov(in, o);
    case INSN_LMSW:
        o->fn = lmsw;
        return true;
    case INSN_SMSW:
        o->fn = smsw;
        return true;
    case INSN_CLTS:
        o->fn = clts;
        return true;
    case INSN_XGETBV:
        o->fn = xgetbv;
        return true;
    case INSN_XSETBV:
        o->fn = xsetbv;
        return true;
    case INSN_INVLPG:
        o->fn = invlpg;
        return true;
    case INSN_INVPCID:
        o->dst = in->reg;
        o->size = in->mode == 8 ? 8 : 4;
        o->fn = invpcid;
        return true;
    default:
        return false;
    }
}
