/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Architectural state: its table for snapshots, what makes a saved state impossible, and reset.
 * Source: Intel SDM vol. 3A table 9-1 (reset, INIT), sections 2.5 (control registers), 4.1 (paging
 * modes), 5.8 (segments); vol. 3C 26.3.1 (checks on guest state) gave the list of what must agree.
 */
#include "cpu/x86.h"

#include <errno.h>
#include <string.h>

#include "cpu/cpuid.h"
#include "cpu/soft/decode.h"

static const struct state_desc segment_desc = {
    .name = "x86-segment",
    .version = 1,
    .struct_size = sizeof(struct x86_segment),
    .fields =
        (const struct state_field[]){
            STATE(struct x86_segment, sel),
            STATE_MAX(struct x86_segment, attr, 0x1f0ff),
            STATE(struct x86_segment, limit),
            STATE(struct x86_segment, base),
            STATE_END,
        },
};

static const struct state_desc table_desc = {
    .name = "x86-table",
    .version = 1,
    .struct_size = sizeof(struct x86_table),
    .fields =
        (const struct state_field[]){
            STATE(struct x86_table, base),
            STATE(struct x86_table, limit),
            STATE_END,
        },
};

static const struct state_desc fpu_desc = {
    .name = "x86-fpu",
    .version = 1,
    .struct_size = sizeof(struct x86_fpu),
    .fields =
        (const struct state_field[]){
            STATE(struct x86_fpu, fcw),
            STATE(struct x86_fpu, fsw),
            STATE(struct x86_fpu, ftw),
            STATE_MAX(struct x86_fpu, fop, 0x7ff),
            STATE(struct x86_fpu, fip),
            STATE(struct x86_fpu, fdp),
            STATE_BYTES(struct x86_fpu, st),
            STATE_MAX(struct x86_fpu, mxcsr,
                      0xffff), /* a reserved bit would fault in the host's FXRSTOR */
            STATE_BYTES(struct x86_fpu, vec),
            STATE_END,
        },
};

/* ------------------------------------------------------------------ what cannot be */

#define CR0_KNOWN                                                                                  \
    (X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP |    \
     X86_CR0_AM | X86_CR0_NW | X86_CR0_CD | X86_CR0_PG)
#define CR4_KNOWN                                                                                  \
    (X86_CR4_TSD | X86_CR4_DE | X86_CR4_PSE | X86_CR4_PAE | X86_CR4_MCE | X86_CR4_PGE |            \
     X86_CR4_PCE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_UMIP | X86_CR4_FSGSBASE |         \
     X86_CR4_PCIDE | X86_CR4_OSXSAVE | X86_CR4_SMEP | X86_CR4_VME | X86_CR4_PVI | X86_CR4_SMAP)
#define EFER_KNOWN  (X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE)
#define FLAGS_KNOWN 0x3f7fd7u

static bool canonical(uint64_t v) {
    return (uint64_t)((int64_t)(v << (64 - CPUID_VIRT_BITS)) >> (64 - CPUID_VIRT_BITS)) == v;
}

static bool memory_type(uint64_t t) { return t == 0 || t == 1 || t == 4 || t == 5 || t == 6; }

static bool memory_types(uint64_t v, bool pat) {
    for (unsigned i = 0; i < 64; i += 8) {
        uint64_t t = v >> i & 0xff;

        if (!memory_type(t) && !(pat && t == 7))
            return false;
    }
    return true;
}

/* One reason a time; NULL if all is well. Each function looks at one subject. */
static const char *wrong_control(const struct x86_state *s) {
    bool pg = s->cr0 & X86_CR0_PG, lma = s->efer & X86_EFER_LMA;

    if (s->cr0 & ~CR0_KNOWN)
        return "CR0 has reserved bits set";
    if (pg && !(s->cr0 & X86_CR0_PE))
        return "CR0.PG is set without CR0.PE";
    if ((s->cr0 & X86_CR0_NW) && !(s->cr0 & X86_CR0_CD))
        return "CR0.NW is set without CR0.CD";
    if (s->cr4 & ~CR4_KNOWN)
        return "CR4 has bits set that this processor does not have";
    if (s->efer & ~EFER_KNOWN)
        return "EFER has bits set that this processor does not have";
    if (lma != (pg && (s->efer & X86_EFER_LME)))
        return "EFER.LMA disagrees with EFER.LME and CR0.PG";
    if (lma && !(s->cr4 & X86_CR4_PAE))
        return "long mode is active without CR4.PAE";
    if (!lma && (s->cr4 & X86_CR4_PCIDE))
        return "CR4.PCIDE is set outside long mode";
    if (s->cr3 & CPUID_PHYS_RESERVED)
        return "CR3 points past the physical address space";
    for (unsigned i = 0; i < 4; i++)
        if ((s->pdpte[i] & 1) && (s->pdpte[i] & (CPUID_PHYS_RESERVED | 0x1e6)))
            return "a PDPTE register has reserved bits set";
    return NULL;
}

static const char *wrong_modes(const struct x86_state *s) {
    const struct x86_segment *cs = &s->seg[SEG_CS];
    bool pe = s->cr0 & X86_CR0_PE, lma = s->efer & X86_EFER_LMA, vm = s->rflags & X86_FLAG_VM;
    bool code64 = lma && (cs->attr & X86_ATTR_L);

    if (!(s->rflags & X86_FLAG_FIXED) || (s->rflags & ~(uint64_t)FLAGS_KNOWN))
        return "RFLAGS has reserved bits changed";
    if (vm && (!pe || lma))
        return "RFLAGS.VM is set outside 32-bit protected mode";
    for (unsigned i = 0; i < 6; i++)
        if (s->seg[i].attr & ~0x1f0ffu)
            return "a segment has attributes that do not exist";
    if (cs->attr & X86_ATTR_UNUSABLE)
        return "CS is unusable";
    if (code64 && (cs->attr & X86_ATTR_DB))
        return "CS has both L and D set";
    if (!code64 && s->rip >> 32)
        return "RIP is wider than the code segment";
    if (code64 && !canonical(s->rip))
        return "RIP is not canonical";
    return NULL;
}

static const char *wrong_addresses(const struct x86_state *s) {
    const uint64_t linear[] = {
        s->gdtr.base,        s->idtr.base,        s->tr.base,     s->ldtr.base,
        s->seg[SEG_FS].base, s->seg[SEG_GS].base, s->lstar,       s->cstar,
        s->kernel_gs_base,   s->sysenter_esp,     s->sysenter_eip};

    for (unsigned i = 0; i < sizeof(linear) / sizeof(linear[0]); i++)
        if (!canonical(linear[i]))
            return "a base register or entry point is not canonical";
    for (unsigned i = SEG_ES; i <= SEG_DS; i++)
        if (s->seg[i].base >> 32)
            return "the base of ES, CS, SS or DS is wider than 32 bits";
    return NULL;
}

static const char *wrong_msrs(const struct x86_state *s) {
    if (!(s->xcr0 & 1) || (s->xcr0 & ~7ull) || ((s->xcr0 & 4) && !(s->xcr0 & 2)) || s->xss)
        return "XCR0 or XSS enables state that this processor does not have";
    if (s->debug_pending & ~0x400f)
        return "a debug exception is pending that does not exist";
    if (s->dr6 >> 32 || s->dr7 >> 32)
        return "DR6 or DR7 has reserved bits set";
    if (s->sfmask >> 32 || s->tsc_aux >> 32 || (s->spec_ctrl & ~0x407ull) || s->sysenter_cs >> 32)
        return "an MSR has reserved bits set";
    if (!memory_types(s->pat, true))
        return "PAT has an impossible memory type";
    if ((s->mtrr_def_type & ~0xcffull) || !memory_type(s->mtrr_def_type & 0xff))
        return "the default MTRR is impossible";
    for (unsigned i = 0; i < 11; i++)
        if (!memory_types(s->mtrr_fixed[i], false))
            return "a fixed-range MTRR has an impossible memory type";
    for (unsigned i = 0; i < 8; i++)
        if ((s->mtrr_base[i] & (CPUID_PHYS_RESERVED | 0xf00)) ||
            !memory_type(s->mtrr_base[i] & 0xff) ||
            (s->mtrr_mask[i] & (CPUID_PHYS_RESERVED | 0x7ff)))
            return "a variable-range MTRR is impossible";
    return NULL;
}

const char *x86_impossible(const struct x86_state *s) {
    const char *why = wrong_control(s);

    if (!why)
        why = wrong_modes(s);
    if (!why)
        why = wrong_addresses(s);
    return why ? why : wrong_msrs(s);
}

uint64_t x86_legal_flags(uint64_t flags) { return (flags & FLAGS_KNOWN) | X86_FLAG_FIXED; }

uint32_t x86_legal_dr6(uint64_t v) { return ((uint32_t)v & 0xe00f) | 0xffff0ff0; }

uint32_t x86_legal_dr7(uint64_t v) { return ((uint32_t)v & 0xffff2bff) | 0x400; }

static int x86_validate(const void *obj, struct error *err) {
    const char *why = x86_impossible(obj);

    if (!why)
        return 0;
    return error_set(err, -EINVAL,
                     "saved processor state: %s; it was damaged or made by something else", why);
}

const struct state_desc x86_state_desc = {
    .name = "x86",
    .version = 4,
    .struct_size = sizeof(struct x86_state),
    .validate = x86_validate,
    .fields =
        (const struct state_field[]){
            STATE_ARRAY(struct x86_state, gpr),
            STATE(struct x86_state, rip),
            STATE(struct x86_state, rflags),
            STATE_SUB_ARRAY(struct x86_state, seg, &segment_desc),
            STATE_SUB(struct x86_state, ldtr, &segment_desc),
            STATE_SUB(struct x86_state, tr, &segment_desc),
            STATE_SUB(struct x86_state, gdtr, &table_desc),
            STATE_SUB(struct x86_state, idtr, &table_desc),
            STATE(struct x86_state, cr0),
            STATE(struct x86_state, cr2),
            STATE(struct x86_state, cr3),
            STATE(struct x86_state, cr4),
            STATE(struct x86_state, efer),
            STATE_ARRAY(struct x86_state, dr),
            STATE(struct x86_state, dr6),
            STATE(struct x86_state, dr7),
            STATE_ARRAY(struct x86_state, pdpte),
            STATE_SUB(struct x86_state, fpu, &fpu_desc),
            STATE(struct x86_state, xcr0),
            STATE(struct x86_state, xss),
            STATE(struct x86_state, star),
            STATE(struct x86_state, lstar),
            STATE(struct x86_state, cstar),
            STATE(struct x86_state, sfmask),
            STATE(struct x86_state, kernel_gs_base),
            STATE(struct x86_state, tsc_aux),
            STATE(struct x86_state, sysenter_cs),
            STATE(struct x86_state, sysenter_esp),
            STATE(struct x86_state, sysenter_eip),
            STATE(struct x86_state, pat),
            STATE(struct x86_state, mtrr_def_type),
            STATE_ARRAY(struct x86_state, mtrr_fixed),
            STATE_ARRAY(struct x86_state, mtrr_base),
            STATE_ARRAY(struct x86_state, mtrr_mask),
            STATE(struct x86_state, misc_enable),
            STATE(struct x86_state, spec_ctrl),
            STATE(struct x86_state, tsc_adjust),
            STATE(struct x86_state, kvmclock_system),
            STATE(struct x86_state, kvmclock_wall),
            STATE(struct x86_state, kvm_async_pf),
            STATE(struct x86_state, kvm_steal),
            STATE(struct x86_state, kvm_eoi),
            STATE_MAX(struct x86_state, activity, X86_SHUTDOWN),
            STATE_MAX(struct x86_state, shadow, 1),
            STATE(struct x86_state, nmi_blocked),
            STATE(struct x86_state, nmi_pending),
            STATE(struct x86_state, exception_pending),
            STATE_MAX(struct x86_state, exception_vector, 31),
            STATE(struct x86_state, exception_has_error),
            STATE_MAX(struct x86_state, exception_error, 0xffff),
            STATE_SINCE(struct x86_state, debug_pending, 2),
            STATE_SINCE(struct x86_state, debug_hold, 2),
            STATE_SINCE(struct x86_state, unhalted, 3),
            STATE_SINCE(struct x86_state, smm, 4),
            STATE_SINCE(struct x86_state, smi_pending, 4),
            STATE_SINCE(struct x86_state, init_pending, 4),
            STATE_SINCE(struct x86_state, nmi_blocked_outside, 4),
            STATE_SINCE(struct x86_state, smbase, 4),
            STATE_END,
        },
};

/* ------------------------------------------------------------------ reset */

static void reset_fpu(struct x86_fpu *f) {
    memset(f, 0, sizeof(*f));
    f->fcw = 0x40;
    f->ftw = 0xff; /* tag word 5555h: every register holds +0.0 and is valid */
    f->mxcsr = 0x1f80;
}

static void reset_power_on(struct x86_state *s) {
    memset(s, 0, sizeof(*s));
    reset_fpu(&s->fpu);
    s->xcr0 = 1;
    s->pat = 0x0007040600070406;
    s->misc_enable = 0x1801; /* fast strings; no BTS, no PEBS */
    s->cr0 = X86_CR0_CD | X86_CR0_NW;
    s->smbase = X86_SMBASE_RESET;
}

static void reset_segments(struct x86_state *s) {
    for (unsigned i = 0; i < 6; i++)
        s->seg[i] = (struct x86_segment){.attr = 0x93, .limit = 0xffff};
    s->seg[SEG_CS] =
        (struct x86_segment){.sel = 0xf000, .attr = 0x9b, .limit = 0xffff, .base = 0xffff0000};
    s->ldtr = (struct x86_segment){.attr = 0x82, .limit = 0xffff};
    s->tr = (struct x86_segment){.attr = 0x8b, .limit = 0xffff};
    s->gdtr = s->idtr = (struct x86_table){.limit = 0xffff};
}

void x86_reset(struct x86_state *s, bool init) {
    if (!init)
        reset_power_on(s);
    memset(s->gpr, 0, sizeof(s->gpr));
    s->gpr[X86_RDX] = CPUID_SIGNATURE;
    s->rip = 0xfff0;
    s->rflags = X86_FLAG_FIXED;
    reset_segments(s);
    s->cr0 = (s->cr0 & (X86_CR0_CD | X86_CR0_NW)) | X86_CR0_ET;
    s->cr2 = s->cr3 = s->cr4 = s->efer = 0;
    memset(s->pdpte, 0, sizeof(s->pdpte));
    memset(s->dr, 0, sizeof(s->dr));
    s->dr6 = 0xffff0ff0;
    s->dr7 = 0x400;
    s->kvm_steal = s->kvm_eoi = 0; /* nobody writes to the memory of what was before */
    s->unhalted = false;
    s->activity = X86_RUNNING;
    s->shadow = 0;
    s->nmi_blocked = s->nmi_pending = s->nmi_blocked_outside = false;
    s->init_pending = false; /* an SMI waits on */
    s->exception_pending = s->exception_has_error = false;
    s->exception_vector = 0;
    s->exception_error = 0;
    s->debug_pending = 0;
    s->debug_hold = false;
}
