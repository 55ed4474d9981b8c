/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reference interpreter as a CPU backend: the loop, attention to interrupts, exceptions, debug
 * traps, and the copies of architectural state that it keeps hot. Source: SDM vol. 3A chapters 6
 * (interrupts and exceptions), 17 (debug).
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

#include "base/huge.h"
#include "base/trace.h"
#include "cpu/cpuid.h"
#include "cpu/soft/jit/check.h"
#include "cpu/soft/jit/jit_internal.h"
#include "cpu/soft/jit/profile.h"
#include "cpu/soft/ref/pv.h"
#include "cpu/soft/ref/ref.h"

enum jump { JUMP_FAULT = 1, JUMP_FAIL };

/* ---- faults ---- */

static _Noreturn void leave(struct ref *c, const struct ref_op *o, unsigned vector, bool has_error,
                            uint32_t error) {
    ref_group_include(c);
    if (o) {
        c->rip = ref_op_rip(c, o);
        if ((c->mode & REF_MODE_CODE) != 2)
            c->rip = (uint32_t)c->rip;
    }
    c->exc_vector = (uint8_t)vector;
    c->exc_has_error = has_error;
    c->exc_error = error;
    longjmp(*c->jb, JUMP_FAULT);
}

void ref_raise(struct ref *c, const struct ref_op *o, unsigned vector) {
    leave(c, o, vector, false, 0);
}

void ref_raise_error(struct ref *c, const struct ref_op *o, unsigned vector, uint32_t error) {
    leave(c, o, vector, true, error);
}

void ref_page_fault(struct ref *c, const struct ref_op *o, uint64_t lin, uint32_t error) {
    c->s.cr2 = lin;
    trace(ref_page_fault, lin, error, o ? ref_op_rip(c, o) : c->rip);
    leave(c, o, X86_PF, true, error);
}

void ref_fail(struct ref *c, const char *fmt, ...) {
    va_list ap;
    char text[300];

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    ref_group_include(c);
    error_set(&c->cpu.error, -EIO, "processor %u: %s (at rip %#llx)", c->cpu.config.index, text,
              (unsigned long long)c->rip);
    longjmp(*c->jb, JUMP_FAIL);
}

void ref_op_ud(struct ref *c, const struct ref_op *o) { ref_raise(c, o, X86_UD); }

void ref_op_nm(struct ref *c, const struct ref_op *o) { ref_raise(c, o, X86_NM); }

void ref_op_gp0(struct ref *c, const struct ref_op *o) { ref_raise_error(c, o, X86_GP, 0); }

/* Straight-line code goes on in another block. */
void ref_op_end(struct ref *c, const struct ref_op *o) {
    c->rip = ref_op_rip(c, o);
    if ((c->mode & REF_MODE_CODE) != 2)
        c->rip = (uint32_t)c->rip; /* in 16-bit code too: what is past 64 KiB the limit decides */
    ref_follow_link(c, 0);
}

/* ---- flags and modes ---- */

uint64_t ref_rflags(const struct ref *c) {
    return c->fl | (c->af >> 8 & 0xd5) | (c->af & 1) << 11 | X86_FLAG_FIXED;
}

static void update_attention_mask(struct ref *c) {
    c->att_mask = c->fl & X86_FLAG_IF ? ~0u : ~(uint32_t)REF_ATT_INTR;
}

void ref_set_rflags(struct ref *c, uint64_t flags) {
    uint32_t old = c->fl;

    c->af = (uint32_t)(flags & 0xd5) << 8 | (flags >> 11 & 1);
    c->fl = (uint32_t)flags & 0x3ff700 & ~(uint32_t)(X86_FLAG_OF | 1u << 15);
    update_attention_mask(c);
    if ((old ^ c->fl) & (X86_FLAG_TF | X86_FLAG_VM | X86_FLAG_AC))
        ref_update_mode(c);
    if (!(c->mode & REF_MODE_STEP))
        c->fl &= ~X86_FLAG_RF; /* only debug exceptions look at it */
}

static uint32_t fpu_mode(const struct ref *c) {
    uint64_t cr0 = c->s.cr0, cr4 = c->s.cr4;
    uint32_t mode = 0;

    if (cr0 & (X86_CR0_EM | X86_CR0_TS))
        mode |= REF_MODE_FPU_NM;
    if (cr0 & X86_CR0_EM)
        mode |= REF_MODE_MMX_UD;
    if ((cr0 & X86_CR0_EM) || !(cr4 & X86_CR4_OSFXSR))
        mode |= REF_MODE_SSE_UD;
    if (cr0 & X86_CR0_TS)
        mode |= REF_MODE_SSE_NM;
    if (!(cr4 & X86_CR4_OSXSAVE) || (c->s.xcr0 & 6) != 6 || !(cr0 & X86_CR0_PE) ||
        (c->fl & X86_FLAG_VM))
        mode |= REF_MODE_AVX_UD;
    return mode;
}

/* Data segments that may be read and written anywhere in 4 GiB. */
static uint8_t open_segments(const struct ref *c) {
    const uint32_t kind = X86_ATTR_UNUSABLE | X86_ATTR_P | X86_ATTR_S | 8 | 4 | 2;
    uint8_t open = 0;

    for (unsigned i = 0; i < 6; i++)
        if ((c->s.seg[i].attr & kind) == (X86_ATTR_P | X86_ATTR_S | 2) &&
            c->s.seg[i].limit == 0xffffffff)
            open |= (uint8_t)(1u << i);
    return open;
}

static uint32_t flat_mode(const struct ref *c, uint32_t mode) {
    const unsigned wanted = 1u << SEG_ES | 1u << SEG_SS | 1u << SEG_DS;
    const struct x86_segment *g = c->s.seg;

    if ((mode & (REF_MODE_CODE | REF_MODE_STACK | REF_MODE_REAL)) != (1 | 1 << 2) ||
        (c->open_segs & wanted) != wanted || g[SEG_CS].limit != 0xffffffff ||
        (g[SEG_CS].base | g[SEG_SS].base | g[SEG_DS].base | g[SEG_ES].base))
        return 0;
    return REF_MODE_FLAT;
}

void ref_update_flat(struct ref *c) {
    if ((c->mode & REF_MODE_CODE) != 1)
        return;
    c->open_segs = open_segments(c);
    if ((c->mode & REF_MODE_FLAT) != flat_mode(c, c->mode))
        ref_update_mode(c);
}

void ref_update_mode(struct ref *c) {
    const struct x86_segment *cs = &c->s.seg[SEG_CS];
    bool real = !(c->s.cr0 & X86_CR0_PE), v86 = c->fl & X86_FLAG_VM;
    uint32_t code = cs->attr & X86_ATTR_DB ? 1 : 0,
             stack = c->s.seg[SEG_SS].attr & X86_ATTR_DB ? 1 : 0;
    uint32_t mode = fpu_mode(c);

    if ((c->s.efer & X86_EFER_LMA) && (cs->attr & X86_ATTR_L))
        code = stack = 2;
    if (real)
        c->cpl = 0;
    if (v86)
        c->cpl = 3;
    mode |= code | stack << 2 | (real || v86 ? REF_MODE_REAL : 0);
    mode |= c->s.smm ? REF_MODE_SMM : 0;
    if (c->cpl == 3)
        mode |= REF_MODE_USER;
    else if (c->cpl)
        mode |= REF_MODE_RING12;
    if ((c->fl & X86_FLAG_TF) || (c->s.dr7 & 0xff))
        mode |= REF_MODE_STEP;
    if (c->cpl == 3 && (c->fl & X86_FLAG_AC) && (c->s.cr0 & X86_CR0_AM))
        mode |= REF_MODE_AC;
    if (code == 1) {
        c->open_segs = open_segments(c);
        mode |= flat_mode(c, mode);
    }
    c->mode = mode;
    /* In lock-step the interpreter walks at every access, and sees what the TLB should not have. */
    c->tlb = (mode & REF_MODE_AC) || c->jit.check ? 2 : c->cpl == 3;
    if (code != 2 && c->cs_base != cs->base)
        ref_jc_flush(c);
    c->cs_base = code == 2 ? 0 : cs->base;
    c->bounded_cs = code != 2 && (cs->limit != 0xffffffff || (cs->base & 4095));
    c->next = NULL;
    c->link = NULL;
    jit_set_key(c);
    update_attention_mask(c);
}

void ref_sync(struct ref *c) {
    memcpy(c->s.gpr, c->r, sizeof(c->s.gpr));
    c->s.rip = c->rip;
    c->s.rflags = ref_rflags(c);
    if (c->s.activity != X86_SHUTDOWN && c->s.activity != X86_WAIT_SIPI)
        c->s.activity = c->halted ? X86_HALTED : X86_RUNNING;
}

void ref_unsync(struct ref *c) {
    memcpy(c->r, c->s.gpr, sizeof(c->s.gpr));
    c->r[REF_ZERO] = 0;
    c->rip = c->s.rip;
    c->halted = c->s.activity == X86_HALTED;
    c->ext = false;
    c->stop_block = true; /* look at what the state has pending */
    ref_smm_view(c);
    c->cpl = c->s.cr0 & X86_CR0_PE ? X86_ATTR_DPL(c->s.seg[SEG_SS].attr) : 0;
    c->fl = (uint32_t)c->s.rflags & X86_FLAG_VM;
    ref_set_rflags(c, c->s.rflags);
    ref_update_mode(c);
    ref_tlb_flush(c);
}

/* ---- debug traps, single steps ---- */

static void debug_trap(struct ref *c, uint64_t dr6_bits, enum ref_event_kind kind) {
    c->s.dr6 |= dr6_bits;
    c->s.dr7 &= ~(1ull << 13); /* GD */
    c->delivering = true;
    c->delivering_vector = X86_DB;
    ref_deliver(c, kind, X86_DB, false, 0);
    c->delivering = false;
}

static void take_debug_traps(struct ref *c) {
    uint64_t bits = c->s.debug_pending;

    c->s.debug_pending = 0;
    debug_trap(c, bits, REF_EVENT_EXCEPTION);
}

static uint64_t instruction_breakpoints(const struct ref *c) {
    uint64_t lin = c->cs_base + c->rip, hits = 0;

    if ((c->mode & REF_MODE_CODE) != 2)
        lin = (uint32_t)lin;
    for (unsigned i = 0; i < 4; i++)
        if ((c->s.dr7 >> (2 * i) & 3) && !(c->s.dr7 >> (16 + 4 * i) & 3) && c->s.dr[i] == lin)
            hits |= 1u << i;
    return hits;
}

static void run_block(struct ref *c, struct ref_block *b) {
    c->block = b;
    c->r[REF_PC] = c->rip;
    c->insns += b->n;
    b->op[0].fn(c, b->op);
}

/* One instruction with TF or DR7 in force (SDM vol. 3A 17.3.1). Debug exceptions of a load of SS,
 * and breakpoints at the next instruction, wait until that has been executed, or lead into its
 * handler (6.8.3). */
static void step(struct ref *c) {
    bool tf = c->fl & X86_FLAG_TF, held = c->s.debug_hold;
    uint64_t hits = 0;

    c->s.debug_hold = false;
    if (!held && !(c->fl & X86_FLAG_RF) && (hits = instruction_breakpoints(c))) {
        c->fl |= X86_FLAG_RF; /* in the saved image, so that the handler's IRET makes progress */
        debug_trap(c, hits, REF_EVENT_EXCEPTION);
        return;
    }
    c->fl &= ~X86_FLAG_RF;
    c->db_hits = 0;
    c->entered = false;
    run_block(c, ref_cache_one(c));
    c->next = NULL;
    c->link = NULL;
    if (c->entered) /* a handler that clears TF is not stepped into */
        tf = tf && (c->fl & X86_FLAG_TF);
    c->s.debug_pending |= (uint16_t)(c->db_hits | (tf ? X86_DR6_BS : 0));
    c->db_hits = 0;
    if (c->s.debug_hold)
        c->s.debug_pending &= 15;
    else if (c->s.debug_pending)
        take_debug_traps(c);
}

/* ---- the loop ---- */

static void deliver_interrupt(struct ref *c) {
    int vector;

    ref_bus_begin(c);
    vector = ref_pv_ack(c);
    ref_bus_end(c);
    if (vector < 0)
        return;
    stat_inc(ref_interrupts);
    trace(ref_interrupt, (unsigned)vector, c->rip);
    c->halted = false;
    ref_deliver(c, REF_EVENT_EXTERNAL, (unsigned)vector, false, 0);
}

static void deliver_nmi(struct ref *c) {
    c->halted = false;
    c->s.nmi_blocked = true;
    c->s.nmi_pending = false;
    ref_deliver(c, REF_EVENT_NMI, X86_NMI, false, 0);
}

void ref_halt(struct ref *c) {
    c->halted = !c->s.unhalted;
    c->s.unhalted = false;
}

static void take_init(struct ref *c) {
    ref_sync(c);
    x86_reset(&c->s, true);
    if (c->cpu.config.index)
        c->s.activity = X86_WAIT_SIPI;
    ref_unsync(c);
}

static void take_sipi(struct ref *c) {
    uint8_t vector = (uint8_t)atomic_load(&c->sipi_vector);

    if (c->s.activity != X86_WAIT_SIPI)
        return;
    c->s.activity = X86_RUNNING;
    c->s.seg[SEG_CS].sel = (uint16_t)(vector << 8);
    c->s.seg[SEG_CS].base = (uint64_t)vector << 12;
    c->rip = 0;
    ref_update_mode(c);
}

/* Looks at everything that is not straight execution. Returns false with *ret when the loop must
 * end. */
static bool attend(struct ref *c, enum cpu_exit *ret) {
    uint32_t att = atomic_load(&c->attention);

    c->stop_block = false;
    c->jit.link = NULL; /* what runs next need not be that exit's successor */
    if (att & REF_ATT_CODE)
        ref_group_serve(c);
    if (att & REF_ATT_INIT) {
        atomic_fetch_and(&c->attention, ~(uint32_t)REF_ATT_INIT);
        c->s.init_pending = true;
    }
    if (c->s.init_pending && !c->s.smm)
        take_init(c);
    if (att & REF_ATT_SMI) {
        atomic_fetch_and(&c->attention, ~(uint32_t)REF_ATT_SMI);
        c->s.smi_pending = c->cpu.config.bus.smm_mem;
    }
    if (att & REF_ATT_SIPI) {
        atomic_fetch_and(&c->attention, ~(uint32_t)REF_ATT_SIPI);
        take_sipi(c);
    }
    if (att & REF_ATT_NMI) {
        atomic_fetch_and(&c->attention, ~(uint32_t)REF_ATT_NMI);
        c->s.nmi_pending = true;
    }
    if (c->s.activity == X86_SHUTDOWN) {
        *ret = CPU_EXIT_SHUTDOWN;
        return false;
    }
    if (att & REF_ATT_UNHALT) {
        atomic_fetch_and(&c->attention, ~(uint32_t)REF_ATT_UNHALT);
        c->s.unhalted = true;
        if (c->halted)
            ref_halt(c);
    }
    if (att & REF_ATT_KICK) {
        atomic_fetch_and(&c->attention, ~(uint32_t)REF_ATT_KICK);
        *ret = CPU_EXIT_KICK;
        return false;
    }
    if (c->s.shadow) { /* one instruction first */
        c->s.shadow = 0;
        if (c->mode & REF_MODE_STEP) {
            step(c);
        } else {
            c->s.debug_hold = false;
            run_block(c, ref_cache_one(c));
            c->next = NULL;
            c->link = NULL;
        }
        c->stop_block = true; /* what waited for it */
        return true;
    }
    if (c->s.debug_pending && c->s.activity != X86_WAIT_SIPI) {
        take_debug_traps(c);
        c->stop_block = true;
        return true;
    }
    if (c->s.smi_pending && !c->s.smm && c->s.activity != X86_WAIT_SIPI)
        ref_smm_enter(c);
    if (c->s.nmi_pending && !c->s.nmi_blocked && c->s.activity != X86_WAIT_SIPI)
        deliver_nmi(c);
    else if ((att & REF_ATT_INTR) && (c->fl & X86_FLAG_IF) && c->s.activity != X86_WAIT_SIPI)
        deliver_interrupt(c);
    if (c->halted || c->s.activity == X86_WAIT_SIPI) {
        *ret = CPU_EXIT_HALT;
        return false;
    }
    if (c->mode & REF_MODE_STEP) {
        step(c);
        c->stop_block = true;
    }
    return true;
}

/* Remembers the successor of the block just run, where it is sure to stay the successor: in the
 * same page, and not only at an address of it, for the mapping may have changed in between. */
static void link_blocks(struct ref *c, uint64_t from, struct ref_block *to) {
    if (c->link && !c->bounded_cs && (from ^ c->rip) >> 12 == 0 &&
        (c->block->addr ^ to->addr) >> 12 == 0 && !to->crosses && !to->dead)
        *c->link = (uint32_t)(to - c->blocks);
}

/* ---- hot blocks, translated ---- */

enum { JIT_HEAT = 8, JIT_NEVER = 255 };

static bool translated(struct ref *c, struct ref_block *b) {
    /* Tests that want translations at once want both kinds. */
    unsigned tier = c->cpu.config.eager ? 1 + (unsigned)((b->addr >> 4) % 3) : 1;

    if (b->code)
        return true;
    if (b->heat == JIT_NEVER || (++b->heat < JIT_HEAT && !c->cpu.config.eager) || jit_full(c))
        return false;
    b->code = jit_translate(c, b, tier);
    b->tier = (uint8_t)tier;
    if (!b->code)
        b->heat = JIT_NEVER;
    return b->code != NULL;
}

static void interpret(struct ref *c, struct ref_block *b) {
    if (c->jit.check)
        check_interpret(c, b);
    run_block(c, b);
}

/* Runs a block by the translator if it is hot; leaves to the interpreter what the translation
 * cannot do. False if that needs a flush first. */
static bool run_soft(struct ref *c, struct ref_block *b) {
    if (jit_full(c) || ref_cache_full(c) || (!b->code && !ref_block_ready(c, b)))
        return false;
    if (!translated(c, b)) {
        c->jit.link = NULL;
        if (c->jit.profile)
            profile_interpret(c, b);
        interpret(c, b);
        return true;
    }
    if (c->jit.promote) {
        if (c->jit.promote == c->rip + 1)
            jit_promote(c, b);
        c->jit.promote = 0;
    }
    if (c->jit.link)
        jit_link(c, b);
    jit_jc_add(c, c->rip, b->code);
    c->block = b;
    c->jit.dropped = 0;
    if (c->jit.check)
        check_enter(c, b);
    else
        jit_enter(c, b);
    if (c->jit.bail) {
        c->jit.bail = 0;
        interpret(c, ref_cache_one(c));
    }
    c->next = NULL;
    c->link = NULL;
    return true;
}

/* The same by the interpreter alone. */
static bool run_ref(struct ref *c, struct ref_block *b) {
    if (REF_UNLIKELY(!b->op) && !ref_block_ready(c, b))
        return false;
    run_block(c, b);
    return true;
}

/* Somebody wants the loop's attention: chains may be followed again once it has looked. */
static void take_poll(struct ref *c) {
    __atomic_store_n(&c->jit.poll, 0, __ATOMIC_SEQ_CST);
    jit_set_key(c);
    sites_renew(c);
}

/* The guest has set a timer and may halt next: until it does, or for so many rounds, the poll stays
 * and the loop sees every jump. */
static bool lingers(struct ref *c) {
    if (!c->linger)
        return false;
    if (--c->linger)
        return true;
    ref_bus_begin(c);
    c->cpu.config.bus.settle(c->cpu.config.bus.opaque);
    ref_bus_end(c);
    return false;
}

/* Translated code left not before STI: what follows may be its shadow, as in STI; HLT. The poll
 * stays, so that what runs next comes back soon. */
static bool in_sti_shadow(struct ref *c) {
    c->jit.sti = 0;
    return !(c->halted | c->stop_block | c->s.shadow) && !(c->mode & REF_MODE_STEP);
}

static enum cpu_exit loop(struct ref *c) {
    enum cpu_exit exit;

    c->jit.vec_live = 0; /* a fault may have left C code that translated code had called */
    c->jit.bail = 0;
    c->jit.sti = 0;
    c->jit.link = NULL; /* the fault came between an exit and its successor */
    for (;;) {
        struct ref_block *b;

        if (REF_UNLIKELY(c->jit.sti) && in_sti_shadow(c))
            goto run;
        if (REF_UNLIKELY(c->jit.poll) && !lingers(c))
            take_poll(c);
        while (REF_UNLIKELY(ref_wants_attention(c)))
            if (!attend(c, &exit)) {
                c->linger = 0;
                return exit;
            }
    run:
        b = c->next;
        if (!b) {
            uint64_t from = c->r[REF_PC];
            b = ref_cache_lookup(c);
            link_blocks(c, from, b);
        }
        if (REF_UNLIKELY(!(c->jit.enabled ? run_soft(c, b) : run_ref(c, b)))) {
            ref_cache_flush(c);
            goto run; /* an STI's shadow lasts */
        }
    }
}

static void deliver_fault(struct ref *c) {
    int vector = c->exc_vector;

    c->next = NULL;
    c->link = NULL;
    if (c->delivering) {
        vector = ref_combine(c, c->delivering_vector, c->exc_vector);
        if (vector < 0) {
            trace(ref_triple_fault, c->rip, c->delivering_vector, c->exc_vector, c->exc_error);
            c->s.activity = X86_SHUTDOWN;
            c->stop_block = true;
            c->delivering = false;
            return;
        }
        if (vector == X86_DF) {
            c->exc_has_error = true;
            c->exc_error = 0;
        }
    }
    stat_inc(ref_exceptions);
    trace(ref_exception, (unsigned)vector, c->exc_has_error ? c->exc_error : 0, c->rip);
    c->delivering = true;
    c->delivering_vector = (uint8_t)vector;
    ref_deliver(c, REF_EVENT_EXCEPTION, (unsigned)vector, c->exc_has_error, c->exc_error);
    c->delivering = false;
}

static enum cpu_exit run(struct ref *c) {
    jmp_buf jb;

    c->jb = &jb;
    switch (_setjmp(jb)) {
    case JUMP_FAIL:
        return CPU_EXIT_ERROR;
    case JUMP_FAULT:
        deliver_fault(c);
        break;
    default:
        if (c->s.exception_pending) {
            c->s.exception_pending = false;
            c->exc_vector = c->s.exception_vector;
            c->exc_has_error = c->s.exception_has_error;
            c->exc_error = c->s.exception_error;
            deliver_fault(c);
        }
    }
    return loop(c);
}

static enum cpu_exit ref_run(struct cpu *cpu) {
    struct ref *c = (struct ref *)cpu;
    enum cpu_exit why;

    if (c->jit.enabled && jit_thread_init(c, &cpu->error) < 0)
        return CPU_EXIT_ERROR;
    ref_group_enter(c);
    if (atomic_load(&c->attention) & REF_ATT_CODE)
        ref_group_serve(c);
    ref_pv_enter(c);
    why = run(c);
    ref_pv_leave(c, why);
    ref_group_leave(c);
    return why;
}

/* ---- from other threads ---- */

static void ref_kick(struct cpu *cpu) {
    atomic_fetch_or(&((struct ref *)cpu)->attention, REF_ATT_KICK);
    jit_kick((struct ref *)cpu);
}

/* Linux needs 140 rounds from the last write of its timer to HLT, seldom more than 700. */
enum { LINGER_ROUNDS = 1000 };

static bool soft_soon(struct cpu *cpu) {
    struct ref *c = (struct ref *)cpu;

    if (!c->jit.enabled || c->jit.check)
        return false;
    c->linger = LINGER_ROUNDS;
    jit_kick(c);
    return true;
}

static void ref_signal(struct cpu *cpu, enum cpu_signal_kind kind, uint8_t vector) {
    struct ref *c = (struct ref *)cpu;

    switch (kind) {
    case CPU_SIGNAL_INTR_ON:
        atomic_fetch_or(&c->attention, REF_ATT_INTR);
        break;
    case CPU_SIGNAL_INTR_OFF:
        atomic_fetch_and(&c->attention, ~(uint32_t)REF_ATT_INTR);
        break;
    case CPU_SIGNAL_NMI:
        atomic_fetch_or(&c->attention, REF_ATT_NMI);
        break;
    case CPU_SIGNAL_INIT:
        atomic_fetch_or(&c->attention, REF_ATT_INIT);
        break;
    case CPU_SIGNAL_SIPI:
        atomic_store(&c->sipi_vector, vector);
        atomic_fetch_or(&c->attention, REF_ATT_SIPI);
        break;
    case CPU_SIGNAL_SMI:
        atomic_fetch_or(&c->attention, REF_ATT_SMI);
        break;
    case CPU_SIGNAL_UNHALT:
        atomic_fetch_or(&c->attention, REF_ATT_UNHALT);
        break;
    }
    if (kind != CPU_SIGNAL_INTR_OFF)
        jit_kick(c);
}

static bool ref_runnable(struct cpu *cpu) {
    struct ref *c = (struct ref *)cpu;

    return atomic_load(&c->attention) & c->att_mask;
}

static void ref_code_written(struct cpu *cpu, gpa page) {
    ref_group_code_written((struct ref *)cpu, page);
}

/* ---- life ---- */

static void ref_destroy(struct cpu *cpu) {
    struct ref *c = (struct ref *)cpu;

    if (!c)
        return;
    jit_free(c);
    ref_host_free(c);
    ref_cache_free(c);
    ref_space_free(c);
    ref_group_done(c);
    huge_free(c, sizeof(*c));
}

static int ref_create(const struct cpu_config *config, struct cpu **ret_cpu, struct error *err) {
    struct ref *c = huge_alloc(sizeof(*c));

    if (!c)
        return error_set(err, -ENOMEM, "processor %u: out of memory", config->index);
    c->cpu.ops = &cpu_ref_ops;
    c->cpu.config = *config;
    ref_group_init(c);
    ref_tlb_init(c);
    if (cpuid_features(config, c->features, err) < 0 || ref_cache_new(c, err) < 0 ||
        ref_space_new(c, err) < 0 || ref_host_new(c, err) < 0) {
        ref_destroy(&c->cpu);
        return err ? err->code : -ENOMEM;
    }
    x86_reset(&c->s, false);
    if (config->index)
        c->s.activity = X86_WAIT_SIPI;
    ref_unsync(c);
    *ret_cpu = &c->cpu;
    return 0;
}

static void ref_get_state(struct cpu *cpu, struct x86_state *ret_state) {
    struct ref *c = (struct ref *)cpu;

    ref_sync(c);
    *ret_state = c->s;
    if (atomic_load(&c->attention) & REF_ATT_NMI)
        ret_state->nmi_pending = true;
    if (atomic_load(&c->attention) & REF_ATT_INIT)
        ret_state->init_pending = true;
    if (atomic_load(&c->attention) & REF_ATT_SMI)
        ret_state->smi_pending = c->cpu.config.bus.smm_mem;
    if (atomic_load(&c->attention) & REF_ATT_UNHALT)
        ret_state->unhalted = true;
}

static int ref_set_state(struct cpu *cpu, const struct x86_state *state, struct error *err) {
    struct ref *c = (struct ref *)cpu;

    c->s = *state;
    c->delivering = false;
    /* What was signalled to the old state is not the new one's. The INTR pin is the LAPIC's. */
    atomic_fetch_and(&c->attention, ~(uint32_t)(REF_ATT_NMI | REF_ATT_INIT | REF_ATT_SIPI |
                                                REF_ATT_UNHALT | REF_ATT_SMI));
    if (c->s.unhalted && c->s.activity == X86_HALTED) {
        c->s.unhalted = false;
        c->s.activity = X86_RUNNING;
    }
    c->pv.offered = false;
    c->pv.first = c->pv.asleep = true; /* as its pages may say */
    ref_unsync(c);
    return 0;
}

static void ref_stats(struct cpu *cpu, FILE *f) {
    struct ref *c = (struct ref *)cpu;

    fprintf(f, "%20llu  guest instructions executed (REP counted once)\n",
            (unsigned long long)c->insns);
    if (c->jit.profile)
        profile_print(c, f);
}

static int soft_create(const struct cpu_config *config, struct cpu **ret_cpu, struct error *err) {
    struct cpu *cpu = NULL;
    int r = ref_create(config, &cpu, err);

    if (!cpu)
        return r;
    cpu->ops = &cpu_soft_ops;
    r = jit_new((struct ref *)cpu, err);
    if (r < 0)
        ref_destroy(cpu);
    else
        *ret_cpu = cpu;
    return r;
}

/* It notes a page when it gets the right to write to it, which it loses here. */
static int collect(struct cpu *cpu, struct error *err) {
    ref_tlb_flush((struct ref *)cpu);
    return 0;
}

const struct cpu_ops cpu_soft_ops = {
    .name = "soft",
    .lazy_flags = true,
    .missing = jit_missing,
    .help = "translator: the guest's own instructions on the host's processor, memory through a "
            "software TLB",
    .create = soft_create,
    .destroy = ref_destroy,
    .run = ref_run,
    .kick = ref_kick,
    .signal = ref_signal,
    .runnable = ref_runnable,
    .get_state = ref_get_state,
    .set_state = ref_set_state,
    .code_written = ref_code_written,
    .collect = collect,
    .soon = soft_soon,
    .stats = ref_stats,
};

const struct cpu_ops cpu_ref_ops = {
    .name = "ref",
    .help = "reference interpreter: complete and exact, the oracle of the faster backends",
    .create = ref_create,
    .destroy = ref_destroy,
    .run = ref_run,
    .kick = ref_kick,
    .signal = ref_signal,
    .runnable = ref_runnable,
    .get_state = ref_get_state,
    .set_state = ref_set_state,
    .code_written = ref_code_written,
    .collect = collect,
    .stats = ref_stats,
};
