/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Comparison of the two results of a case, and the report when they differ. */
#include <cpuid.h>
#include <stdio.h>
#include <string.h>

#include "cpu/backend.h"
#include "cpu/diff/diff.h"
#include "cpu/x86.h"

/* RF, IF and IOPL depend on who looks and when. */
#define FLAGS_COMPARED (X86_FLAGS_ARITH | X86_FLAG_DF | X86_FLAG_NT | X86_FLAG_AC | X86_FLAG_ID)

/* Processors keep as much of x87's pointers as they have linear addresses. */
#define POINTER_BITS ((1ull << 48) - 1)

enum {
    X87_SUMMARY = 0x80, /* of the status word: an unmasked exception is pending */
    X87_MASKS = 0x3f    /* of the control word */
};

static const char gpr_name[16][4] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                     "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
static const char seg_name[6][3] = {"es", "cs", "ss", "ds", "fs", "gs"};

struct report {
    bool on, differs;
};

static void number(struct report *r, const char *what, unsigned index, uint64_t native,
                   uint64_t guest) {
    if (native == guest)
        return;
    r->differs = true;
    if (r->on)
        printf("  %s", what);
    if (r->on && index < 16)
        printf("%u", index);
    if (r->on)
        printf(": host %#llx, ours %#llx\n", (unsigned long long)native, (unsigned long long)guest);
}

static void hex(const uint8_t *p, unsigned n) {
    while (n--)
        printf("%02x", p[n]);
}

static void bytes(struct report *r, const char *what, unsigned index, const uint8_t *in,
                  const uint8_t *native, const uint8_t *guest, unsigned n) {
    if (!memcmp(native, guest, n))
        return;
    r->differs = true;
    if (!r->on)
        return;
    printf("  %s%u: before ", what, index);
    hex(in, n);
    printf("\n        host ");
    hex(native, n);
    printf("\n        ours ");
    hex(guest, n);
    printf("\n");
}

static bool keeps_pointers(void) {
    static int kept = -1;

    if (kept < 0)
        kept = native_keeps_pointers();
    return kept;
}

static void compare_fpu(struct report *r, const struct diff_xsave *in, const struct diff_xsave *n,
                        const struct diff_xsave *g) {
    number(r, "fcw", 16, n->fcw, g->fcw);
    number(r, "fsw", 16, n->fsw, g->fsw);
    number(r, "ftw", 16, n->ftw & 0xff, g->ftw & 0xff);
    /* Pending exceptions are what they are for: with one, every processor tells the instruction. */
    if (keeps_pointers() || (n->fsw & X87_SUMMARY)) {
        number(r, "fop", 16, n->fop, g->fop);
        number(r, "fip", 16, n->fip & POINTER_BITS, g->fip & POINTER_BITS);
    }
    if (keeps_pointers())
        number(r, "fdp", 16, n->fdp & POINTER_BITS, g->fdp & POINTER_BITS);
    number(r, "mxcsr", 16, n->mxcsr, g->mxcsr);
    for (unsigned i = 0; i < 8; i++)
        bytes(r, "st", i, in->st[i], n->st[i], g->st[i], 10);
    for (unsigned i = 0; i < 16; i++) {
        bytes(r, "xmm", i, in->xmm[i], n->xmm[i], g->xmm[i], 16);
        bytes(r, "upper of ymm", i, in->ymm[i], n->ymm[i], g->ymm[i], 16);
    }
}

static void compare_memory(struct report *r, const struct diff_batch *b, const struct diff_case *k,
                           const struct diff_result *n, const struct diff_result *g) {
    static const enum diff_page pages[DIFF_RW_PAGES] = {DATA_RW0, DATA_RW1, DATA_RW2};
    unsigned shown = 0;

    for (unsigned p = 0; p < DIFF_RW_PAGES; p++) {
        if (!memcmp(n->data[p], g->data[p], DIFF_PAGE))
            continue;
        for (unsigned i = 0; i < DIFF_PAGE; i++) {
            uint64_t addr = DIFF_DATA + (uint64_t)pages[p] * DIFF_PAGE + i;
            if (n->data[p][i] == g->data[p][i] || (k->xstate_bv && addr - k->xstate_bv < 8))
                continue;
            r->differs = true;
            if (r->on && shown++ < 24)
                printf("  memory %#llx: before %02x, host %02x, ours %02x\n",
                       (unsigned long long)addr, b->data[p][i], n->data[p][i], g->data[p][i]);
        }
    }
}

static const struct insn_row *faulting_row(const struct diff_case *k, uint64_t rip) {
    for (unsigned i = 0; i < k->insns; i++)
        if (k->in.rip + k->offset[i] == rip)
            return &insn_rows[k->row[i]];
    return &insn_rows[0];
}

/* Which bits of CR2 are the processor's own choice: nothing in the manual says which byte of a
 * masked operand faults, nor in which order IRET reads its frame. */
static uint64_t vague_address(const struct diff_case *k, uint64_t rip) {
    switch (faulting_row(k, rip)->id) {
    case INSN_MASKMOVQ:
    case INSN_MASKMOVDQU:
    case INSN_VMASKMOVDQU:
        return ~0ull;
    case INSN_VMASKMOVPS:
    case INSN_VMASKMOVPD:
    case INSN_VPMASKMOVD:
    case INSN_VPMASKMOVQ:
        return DIFF_PAGE - 1;
    case INSN_IRET:
    case INSN_RETF:
        return ~0ull;
    default:
        return 0;
    }
}

static bool is_far_return(const struct diff_case *k, const struct diff_result *n) {
    enum insn_id id = faulting_row(k, n->out.rip)->id;

    return id == INSN_IRET || id == INSN_RETF;
}

/* Far returns may read CS before IP: of a frame that is misaligned and reaches into an absent page
 * either is noticed first. */
static bool either_fault(const struct diff_case *k, const struct diff_result *n,
                         const struct diff_result *g) {
    return is_far_return(k, n) && ((n->vector == X86_PF && g->vector == X86_AC) ||
                                   (n->vector == X86_AC && g->vector == X86_PF));
}

static void compare_end(struct report *r, const struct diff_case *k, const struct diff_result *n,
                        const struct diff_result *g) {
    uint64_t ignored = 0;

    if (either_fault(k, n, g))
        return;
    number(r, "exception (255 none)", 16, n->vector, g->vector);
    if (n->vector != g->vector || n->vector == DIFF_COMPLETED)
        return;
    if (n->vector == X86_PF) {
        uint64_t vague = vague_address(k, n->out.rip);
        number(r, "cr2", 16, n->cr2 & ~vague, g->cr2 & ~vague);
        ignored = n->cr2 >= 0x7ffffffff000 || vague == ~0ull
                      ? 1
                      : 0; /* Linux hides whether a kernel page is present */
    }
    if (n->vector == X86_PF || (n->vector >= X86_TS && n->vector <= X86_GP))
        number(r, "error code", 16, n->error & ~ignored, g->error & ~ignored);
}

static void print_case(const struct diff_case *k, const struct diff_result *native,
                       const struct diff_result *guest) {
    char text[160];
    struct insn in;

    printf("differs, %u-bit mode, code at %#llx:\n", k->mode * 8u,
           (unsigned long long)k->code_addr);
    for (unsigned i = 0; i < k->insns; i++) {
        unsigned at = k->offset[i], end = i + 1u < k->insns ? k->offset[i + 1] : k->insns_len;
        text[0] = 0;
        if (insn_decode(&in, k->code + at, end - at, k->mode) > 0)
            insn_format(&in, k->code_addr + at, text, sizeof(text));
        printf("  %#llx: ", (unsigned long long)k->code_addr + at);
        for (unsigned j = at; j < end; j++)
            printf("%02x ", k->code[j]);
        printf(" %s\n", text);
    }
    printf("  registers before:");
    for (unsigned i = 0; i < 16; i++)
        printf(" %s=%llx", gpr_name[i], (unsigned long long)k->in.gpr[i]);
    printf(" flags=%llx fs=%llx gs=%llx\n", (unsigned long long)k->in.rflags,
           (unsigned long long)k->in.fs_base, (unsigned long long)k->in.gs_base);
    printf("  fcw=%x fsw=%x ftw=%x mxcsr=%x; ended: host %u at %#llx (%llx, %llx), ours %u at "
           "%#llx (%llx, %llx)\n",
           k->in.x.fcw, k->in.x.fsw, k->in.x.ftw, k->in.x.mxcsr, native->vector,
           (unsigned long long)native->out.rip, (unsigned long long)native->error,
           (unsigned long long)native->cr2, guest->vector, (unsigned long long)guest->out.rip,
           (unsigned long long)guest->error, (unsigned long long)guest->cr2);
    for (unsigned i = 0; i < k->patches; i++) {
        printf("  memory before at %#llx (%u bytes): ", (unsigned long long)k->patch[i].addr,
               k->patch[i].len);
        hex(k->patch[i].bytes, k->patch[i].len);
        printf("\n");
    }
}

/* Every interrupt of the host ends with an IRET that makes null selectors 0. */
static uint16_t visible_selector(uint16_t sel) { return sel <= 3 ? 0 : sel; }

/* Which of several faults comes first, and what an instruction has done before it, is not in the
 * manual. Ours does it as Intel's processors do; on others it is enough that both fault. */
static bool order_is_known(void) {
    static int known = -1;
    unsigned a, b, c, d;

    if (known < 0)
        known = __get_cpuid(0, &a, &b, &c, &d) && b == signature_INTEL_ebx;
    return known;
}

/* Where an interrupt returns to a 16-bit stack, IRET leaves all of RSP but its lowest 16 bits;
 * Linux has put an address of its own (espfix) there, and mends no more than bits 31:16. */
static uint64_t known_bits(const struct diff_case *k, unsigned reg, uint64_t value) {
    return reg == X86_RSP && k->mode == 2 ? (uint32_t)value : value;
}

static void compare_all(struct report *r, const struct diff_batch *b, const struct diff_case *k,
                        const struct diff_result *n, const struct diff_result *g) {
    uint64_t flags = FLAGS_COMPARED & ~(uint64_t)k->flags_ignored;

    if (backend_ops()->lazy_flags && n->vector < 32)
        flags &= ~(uint64_t)X86_FLAGS_ARITH;

    if (!order_is_known() && n->vector < 32 && g->vector < 32) {
        number(r, "rip", 16, n->out.rip, g->out.rip);
        return;
    }
    compare_end(r, k, n, g);
    number(r, "rip", 16, n->out.rip, g->out.rip);
    for (unsigned i = 0; i < 16; i++)
        number(r, gpr_name[i], 16, known_bits(k, i, n->out.gpr[i]),
               known_bits(k, i, g->out.gpr[i]));
    number(r, "flags", 16, n->out.rflags & flags, g->out.rflags & flags);
    for (unsigned i = 0; i < 6; i++)
        number(r, seg_name[i], 16, visible_selector(n->out.sel[i]),
               visible_selector(g->out.sel[i]));
    number(r, "fs base", 16, n->out.fs_base, g->out.fs_base);
    number(r, "gs base", 16, n->out.gs_base, g->out.gs_base);
    compare_fpu(r, &k->in.x, &n->out.x, &g->out.x);
    compare_memory(r, b, k, n, g);
}

bool diff_in_machinery(const struct diff_result *guest) {
    uint64_t addr = guest->cr2;

    return addr - DIFF_STUB < DIFF_STUB_PAGES * DIFF_PAGE ||
           (DIFF_SANITIZED && addr >= 0x7fff7000 && addr < 0x10007fff8000);
}

static bool is_locked_at(const struct diff_case *k, uint64_t rip) {
    struct insn in;

    for (unsigned i = 0; i < k->insns; i++)
        if (k->in.rip + k->offset[i] == rip &&
            insn_decode(&in, k->code + k->offset[i], (unsigned)k->insns_len - k->offset[i],
                        k->mode) > 0)
            return (in.prefixes & PFX_LOCK) || (in.mem && in.row->id == INSN_XCHG);
    return false;
}

static bool loads_mxcsr(const struct insn *in) {
    switch (in->row->id) {
    case INSN_LDMXCSR:
    case INSN_VLDMXCSR:
    case INSN_FXRSTOR:
    case INSN_XRSTOR:
        return true;
    default:
        return false;
    }
}

static bool stores_fpu(const struct insn *in) {
    switch (in->row->id) {
    case INSN_FNSTENV:
    case INSN_FNSAVE:
    case INSN_FXSAVE:
    case INSN_XSAVE:
    case INSN_XSAVEC:
    case INSN_XSAVEOPT:
        return true;
    default:
        return false;
    }
}

static bool is_far_load(const struct insn *in) {
    switch (in->row->id) {
    case INSN_CALLF:
    case INSN_JMPF:
    case INSN_LSS:
    case INSN_LFS:
    case INSN_LGS:
        return true;
    default:
        return false;
    }
}

static bool is_sha(const struct insn *in) {
    return (in->map == 2 && in->opcode >= 0xc8 && in->opcode <= 0xcd) ||
           (in->map == 3 && in->opcode == 0xcc);
}

/* PUSH and POP of segment registers (0x0f would be CS, and is the escape). */
static bool is_selector_on_stack(const struct insn *in) {
    if (in->map == 0)
        return (in->opcode & 0xe6) == 0x06;
    return in->map == 1 && (in->opcode & 0xf6) == 0xa0;
}

/* What AMD's processors make of an encoding otherwise than Intel's and ours: with operand size 16
 * near branches truncate RIP, REP changes LOOPcc, REX.B makes XCHG of PAUSE, far pointers have no
 * 64-bit offset, POP to FS and GS reads all of the stack's slot, string instructions that do
 * nothing leave the upper halves of their 32-bit addresses alone, prefetches of registers are
 * undefined, PUSH of a selector in 32 bits writes zeros above it and POP reads them, and outside
 * 64-bit mode the W of VPEXTRD and VPINSRD is refused. */
static bool has_other_meaning(const struct diff_case *k, const struct insn *in) {
    if (k->mode == 8 && (in->row->attr & INSN_BRANCH) && (in->prefixes & PFX_OPSIZE))
        return true;
    if (in->map == 0 && (in->opcode & 0xfe) == 0xe0 && (in->prefixes & (PFX_REP | PFX_REPNE)))
        return true;
    if (in->map == 0 && in->opcode == 0x90 && (in->rex & 1))
        return true;
    if (in->map == 1 && (in->opcode == 0xa1 || in->opcode == 0xa9))
        return true;
    if ((in->row->attr & INSN_STRING) && (in->prefixes & PFX_ADSIZE))
        return true;
    if (in->opsize == 4 && is_selector_on_stack(in))
        return true;
    if (k->mode != 8 && in->vex_w && in->map == 3 && (in->opcode == 0x16 || in->opcode == 0x22))
        return true;
    if (in->row->id == INSN_MOVSXD && in->opsize == 2)
        return true; /* of 32 bits */
    if (in->map == 1 && in->opcode == 0 && (in->prefixes & PFX_LOCK))
        return true; /* not refused */
    if (in->row->id == INSN_INT && !native_has_mode(4))
        return true; /* a kernel without 32-bit code is a paravirtual one: INT calls its hypervisor
                      */
    return ((in->rex & 8) && is_far_load(in)) || (in->map == 1 && in->opcode == 0x0d && !in->mem);
}

/* VMASKMOVPS and its kin. */
static bool is_masked_move(const struct insn *in) {
    return in->map == 2 &&
           ((in->opcode >= 0x2c && in->opcode <= 0x2f) || (in->opcode & 0xfd) == 0x8c);
}

/* ... alignment checks see the operands of SSE and AVX, and SHA needs no alignment; a store of x87
 * faults before it notices an unmasked exception; what a masked move leaves out may lie past a
 * segment's limit; and all images of the FPU tell less of x87's last
 * instruction, and MXCSR has one more bit. */
static bool has_other_faults(const struct insn *in, bool aligned, bool unmasked) {
    const uint32_t vector = INSN_SSE | INSN_AVX | INSN_FPU;

    if (!in->mem)
        return false;
    if ((aligned && (in->row->attr & vector)) || (unmasked && (in->row->attr & INSN_FPU)))
        return true;
    if (in->mode != 8 && is_masked_move(in))
        return true;
    return is_sha(in) || stores_fpu(in) || loads_mxcsr(in);
}

static bool vendors_differ(const struct diff_case *k, const struct diff_result *n) {
    struct insn in;
    bool aligned = (k->in.rflags | n->out.rflags) & X86_FLAG_AC,
         unmasked = (k->in.x.fcw & n->out.x.fcw & X87_MASKS) != X87_MASKS;

    if (order_is_known())
        return false;
    if (n->vector == X86_PF && is_far_return(k, n)) /* reads all of the slots of selectors */
        return true;
    for (unsigned i = 0; i < k->insns; i++)
        if (insn_decode(&in, k->code + k->offset[i], (unsigned)k->insns_len - k->offset[i],
                        k->mode) > 0 &&
            (has_other_meaning(k, &in) || has_other_faults(&in, aligned, unmasked)))
            return true;
    return false;
}

/* Where a case was when the timer ended it says nothing if both run in a circle. Hosts that detect
 * split locks may hold one up for longer than the timer waits. */
static bool timeout_is_fine(const struct diff_case *k, const struct diff_result *native,
                            const struct diff_result *guest) {
    return native->vector == DIFF_TIMEOUT &&
           (guest->vector == DIFF_TIMEOUT || is_locked_at(k, native->out.rip));
}

bool diff_compare(const struct diff_batch *b, const struct diff_case *k,
                  const struct diff_result *native, const struct diff_result *guest, bool report) {
    struct report r = {.on = false};

    if (diff_in_machinery(guest) || timeout_is_fine(k, native, guest) || vendors_differ(k, native))
        return true;
    compare_all(&r, b, k, native, guest);
    if (r.differs && report) {
        print_case(k, native, guest);
        r.on = true;
        compare_all(&r, b, k, native, guest);
    }
    return !r.differs;
}
