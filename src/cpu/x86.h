/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Architectural state of one x86-64 processor, common to all backends, and its constants.
 * Source: Intel SDM vol. 3A chapters 2-6, vol. 4 (MSRs).
 */
#ifndef CPU_X86_H
#define CPU_X86_H

#include <stdbool.h>
#include <stdint.h>

#include "state/state.h"

enum { X86_RAX, X86_RCX, X86_RDX, X86_RBX, X86_RSP, X86_RBP, X86_RSI, X86_RDI };

enum x86_vector {
    X86_DE = 0,
    X86_DB = 1,
    X86_NMI = 2,
    X86_BP = 3,
    X86_OF = 4,
    X86_BR = 5,
    X86_UD = 6,
    X86_NM = 7,
    X86_DF = 8,
    X86_TS = 10,
    X86_NP = 11,
    X86_SS = 12,
    X86_GP = 13,
    X86_PF = 14,
    X86_MF = 16,
    X86_AC = 17,
    X86_MC = 18,
    X86_XM = 19,
};

#define X86_FLAG_CF     (1u << 0)
#define X86_FLAG_FIXED  (1u << 1)
#define X86_FLAG_PF     (1u << 2)
#define X86_FLAG_AF     (1u << 4)
#define X86_FLAG_ZF     (1u << 6)
#define X86_FLAG_SF     (1u << 7)
#define X86_FLAG_TF     (1u << 8)
#define X86_FLAG_IF     (1u << 9)
#define X86_FLAG_DF     (1u << 10)
#define X86_FLAG_OF     (1u << 11)
#define X86_FLAG_IOPL   (3u << 12)
#define X86_FLAG_NT     (1u << 14)
#define X86_FLAG_RF     (1u << 16)
#define X86_FLAG_VM     (1u << 17)
#define X86_FLAG_AC     (1u << 18)
#define X86_FLAG_VIF    (1u << 19)
#define X86_FLAG_VIP    (1u << 20)
#define X86_FLAG_ID     (1u << 21)
#define X86_FLAGS_ARITH 0x8d5u

#define X86_CR0_PE (1ull << 0)
#define X86_CR0_MP (1ull << 1)
#define X86_CR0_EM (1ull << 2)
#define X86_CR0_TS (1ull << 3)
#define X86_CR0_ET (1ull << 4)
#define X86_CR0_NE (1ull << 5)
#define X86_CR0_WP (1ull << 16)
#define X86_CR0_AM (1ull << 18)
#define X86_CR0_NW (1ull << 29)
#define X86_CR0_CD (1ull << 30)
#define X86_CR0_PG (1ull << 31)

#define X86_CR4_VME        (1ull << 0)
#define X86_CR4_PVI        (1ull << 1)
#define X86_CR4_TSD        (1ull << 2)
#define X86_CR4_DE         (1ull << 3)
#define X86_CR4_PSE        (1ull << 4)
#define X86_CR4_PAE        (1ull << 5)
#define X86_CR4_MCE        (1ull << 6)
#define X86_CR4_PGE        (1ull << 7)
#define X86_CR4_PCE        (1ull << 8)
#define X86_CR4_OSFXSR     (1ull << 9)
#define X86_CR4_OSXMMEXCPT (1ull << 10)
#define X86_CR4_UMIP       (1ull << 11)
#define X86_CR4_LA57       (1ull << 12)
#define X86_CR4_FSGSBASE   (1ull << 16)
#define X86_CR4_PCIDE      (1ull << 17)
#define X86_CR4_OSXSAVE    (1ull << 18)
#define X86_CR4_SMEP       (1ull << 20)
#define X86_CR4_SMAP       (1ull << 21)

#define X86_DR6_BS (1u << 14)

#define X86_EFER_SCE (1ull << 0)
#define X86_EFER_LME (1ull << 8)
#define X86_EFER_LMA (1ull << 10)
#define X86_EFER_NXE (1ull << 11)

/* Segment attributes as in the VMCS access-rights format (SDM vol. 3C 24.4.1): type 3:0, S 4, DPL
 * 6:5, P 7, AVL 12, L 13, D/B 14, G 15, unusable 16. The limit is in bytes, granularity applied. */
#define X86_ATTR_TYPE     0xfu
#define X86_ATTR_S        (1u << 4)
#define X86_ATTR_DPL(a)   (((a) >> 5) & 3)
#define X86_ATTR_P        (1u << 7)
#define X86_ATTR_L        (1u << 13)
#define X86_ATTR_DB       (1u << 14)
#define X86_ATTR_G        (1u << 15)
#define X86_ATTR_UNUSABLE (1u << 16)

struct x86_segment {
    uint16_t sel;
    uint32_t attr;
    uint32_t limit;
    uint64_t base;
};

struct x86_table { /* GDTR, IDTR */
    uint64_t base;
    uint16_t limit;
};

/* x87 image as FXSAVE64 lays out its first 32+128 bytes, MXCSR apart, full vector registers. */
struct x86_fpu {
    uint16_t fcw, fsw;
    uint8_t ftw; /* abridged: 1 = valid */
    uint16_t fop;
    uint64_t fip, fdp;
    uint8_t st[8][16]; /* ST(i), 10 bytes each, in ST order */
    uint32_t mxcsr;
    uint8_t vec[16][32]; /* YMM; low 16 bytes are XMM */
};

enum x86_activity { X86_RUNNING, X86_HALTED, X86_WAIT_SIPI, X86_SHUTDOWN };

struct x86_state {
    uint64_t gpr[16], rip, rflags;
    struct x86_segment seg[6], ldtr, tr; /* seg[] in enum x86_seg order */
    struct x86_table gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4, efer; /* CR8 is the LAPIC's TPR */
    uint64_t dr[4], dr6, dr7;
    uint64_t pdpte[4]; /* legacy PAE paging only */
    struct x86_fpu fpu;
    uint64_t xcr0, xss;
    uint64_t star, lstar, cstar, sfmask, kernel_gs_base, tsc_aux;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat, mtrr_def_type, mtrr_fixed[11], mtrr_base[8], mtrr_mask[8];
    uint64_t misc_enable, spec_ctrl;
    uint64_t tsc_adjust; /* guest TSC = clock_tsc() + tsc_adjust */
    uint64_t kvmclock_system, kvmclock_wall, kvm_async_pf, kvm_steal,
        kvm_eoi;      /* paravirtual MSRs as written */
    uint8_t activity; /* enum x86_activity */
    uint8_t shadow;   /* 1: interrupts held for one instruction (STI, MOV SS) */
    bool nmi_blocked, nmi_pending;
    bool exception_pending; /* to be delivered before the next instruction */
    uint8_t exception_vector;
    bool exception_has_error;
    uint32_t exception_error;
    /* Debug exceptions that are still to come (DR6 bits): at once, or, if SS was loaded, behind the
     * next instruction, which breakpoints do not stop either (SDM vol. 3A 6.8.3). */
    uint16_t debug_pending;
    bool debug_hold;
    bool unhalted; /* KVM's paravirtual kick: the next HLT does not halt */
    /* System management mode: in it, what waits for its end, and whether NMIs were blocked outside
     * of it. */
    bool smm, smi_pending, init_pending, nmi_blocked_outside;
    uint32_t smbase;
};

extern const struct state_desc x86_state_desc;

/* Why no processor can be in this state, NULL if one can. */
const char *x86_impossible(const struct x86_state *s);
/* What RFLAGS, DR6 and DR7 may hold, with the bits that are always set. */
uint64_t x86_legal_flags(uint64_t flags);
uint32_t x86_legal_dr6(uint64_t v);
uint32_t x86_legal_dr7(uint64_t v);
#define X86_SMBASE_RESET 0x30000u

/* State after power-on or INIT (SDM vol. 3A table 9-1); INIT keeps FPU, MSRs, CR0.CD/NW. */
void x86_reset(struct x86_state *s, bool init);

#endif
