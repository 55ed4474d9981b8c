/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * THE seam to processors: create, run, kick, state, interrupts. Backends: soft/ref (interpreter),
 * soft/jit (translator), kvm.
 *
 * Contract: cpu_run, cpu_get_state and cpu_set_state on the vCPU's own thread (or while it does not
 * run). cpu_kick, cpu_signal from any thread. The calls in struct cpu_bus come on the vCPU's thread
 * without any lock held; the board takes the machine lock itself.
 */
#ifndef CPU_CPU_H
#define CPU_CPU_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "bus/clock.h"
#include "bus/mem.h"
#include "cpu/debug.h"
#include "cpu/x86.h"

struct cpu;
struct msi_message;

/* KVM's paravirtual EOI: the guest may end an interrupt by clearing a bit in its memory. */
enum cpu_eoi {
    CPU_EOI_ENDED = 1,     /* in: it did so with the one before */
    CPU_EOI_WITHDRAWN = 2, /* in: it has not yet, and must write to the LAPIC now */
    CPU_EOI_ASK = 4,       /* in: may it do so with this one? */
    CPU_EOI_OFFERED = 8,   /* out: it may */
};

struct cpu_bus { /* what a processor asks of the board */
    void *opaque;
    struct mem *mem;
    struct mem *smm_mem; /* what it sees in system management mode; NULL: SMIs do nothing */
    struct clock *clock;
    uint64_t (*io_read)(void *opaque, bool port, uint64_t addr, unsigned size);
    void (*io_write)(void *opaque, bool port, uint64_t addr, unsigned size, uint64_t value);
    /* The vector to deliver, -1 if the request has gone. `eoi`: enum cpu_eoi, in and out. */
    int (*intr_ack)(void *opaque, unsigned *eoi);
    /* What became of the offer, when there is no next interrupt to say it with. */
    void (*eoi_settle)(void *opaque, bool ended);
    uint8_t (*get_tpr)(void *opaque); /* CR8: bits 7:4 of the TPR */
    void (*set_tpr)(void *opaque, uint8_t cr8);
    /* MSRs of the APIC (APIC_BASE 1b, 800-8ff, TSC_DEADLINE 6e0): 0, or -1 for #GP. */
    int (*msr_read)(void *opaque, uint32_t msr, uint64_t *ret_value);
    int (*msr_write)(void *opaque, uint32_t msr, uint64_t value);
    /* Devices stand still, and nothing of the above is called, until they are let go. NULL: nothing
     * else runs. */
    void (*freeze)(void *opaque, bool on);
    /* KVM's hypercalls, but those that concern only the caller (machine/paravirt.h). */
    int64_t (*hypercall)(void *opaque, uint64_t nr, const uint64_t arg[4], bool code64);
    uint64_t (*stolen)(void *opaque); /* ns for which the host let this processor wait */
    void (*settle)(void *opaque);     /* see cpu_ops.soon */
    /* Of backends with LAPICs of their own (cpu_ops.apic): the vector of the 8259s, -1 if the
     * request has gone, and the end of a level-triggered interrupt. */
    int (*ext_ack)(void *opaque);
    void (*eoi)(void *opaque, uint8_t vector);
};

struct cpu_config {
    unsigned index;    /* APIC id */
    unsigned count;    /* processors in the machine */
    const char *model; /* CPUID model: "host", "x86-64-v2", ...; NULL = default */
    /* `count` of them, filled by create, and complete before any runs: the processors of one
     * machine, which must be of one backend. NULL: it is the only one. */
    struct cpu **peers;
    struct cpu_bus bus;
    struct cpu_debug debug;
    const uint32_t *less; /* words of CPUID (cpu/cpuid.h): features that it lacks; NULL: none */
    bool eager;           /* for tests: a translator translates at first sight */
    size_t cache_size;    /* for tests: bytes of each cache of code, 0: as usual */
    /* For tests of user code: no paravirtual leaves. */
    bool no_hypervisor;
    bool dirty_ring; /* what it writes is noted in a ring (bus/dirty.h, DIRTY_RING) */
};

enum cpu_exit {
    CPU_EXIT_KICK,     /* somebody called cpu_kick; run again when ready */
    CPU_EXIT_HALT,     /* HLT and nothing pending; run again after a signal or kick */
    CPU_EXIT_SHUTDOWN, /* triple fault */
    CPU_EXIT_ERROR,    /* our own failure; cpu->error says what */
};

enum cpu_signal_kind {
    CPU_SIGNAL_INTR_ON,
    CPU_SIGNAL_INTR_OFF,
    CPU_SIGNAL_NMI,
    CPU_SIGNAL_INIT,
    CPU_SIGNAL_SIPI,
    CPU_SIGNAL_SMI,
    CPU_SIGNAL_UNHALT, /* HLT ends, now or at the next one, whatever IF is */
};

/* What a LAPIC holds, as KVM and the manual lay it out (SDM vol. 3A table 11-1). */
struct cpu_apic {
    uint64_t base;         /* IA32_APIC_BASE */
    uint64_t tsc_deadline; /* IA32_TSC_DEADLINE */
    uint32_t reg[64];      /* register n is at offset 16 n of the page; in x2APIC mode, too */
};

/* For a backend whose processors bring their LAPICs: intr_ack and the like of struct cpu_bus are
 * never called then, and a halted processor waits inside of run. */
struct cpu_apic_ops {
    /* While the processor does not run. */
    void (*get)(struct cpu *cpu, struct cpu_apic *ret_apic);
    int (*set)(struct cpu *cpu, const struct cpu_apic *apic, struct error *err);
    /* An MSI, or what the I/O APIC sends in that form: to any processor of the machine, any thread.
     */
    void (*message)(struct cpu *cpu, uint64_t addr, uint32_t data);
    void (*ext_int)(struct cpu *cpu, bool level); /* LINT0, from the 8259s; any thread */
    /* As struct wires_ops (bus/wires.h), for any processor of the machine; any thread. */
    int (*ring)(struct cpu *cpu, uint64_t addr, int fd, bool on);
    int (*carry)(struct cpu *cpu, int fd, const struct msi_message *message);
};

struct cpu_ops {
    const char *name, *help;
    /* Arithmetic flags that later instructions overwrite unread may be stale in the frame of a
     * fault between. */
    bool lazy_flags;
    /* NULL if this host can run the backend, else what it lacks, for a person. A missing function:
     * any host can. */
    const char *(*missing)(void);
    int (*create)(const struct cpu_config *config, struct cpu **ret_cpu, struct error *err);
    void (*destroy)(struct cpu *cpu);
    enum cpu_exit (*run)(struct cpu *cpu);
    void (*kick)(struct cpu *cpu);
    void (*signal)(struct cpu *cpu, enum cpu_signal_kind kind, uint8_t vector);
    bool (*runnable)(struct cpu *cpu); /* a halted processor has something to do (any thread) */
    void (*get_state)(struct cpu *cpu, struct x86_state *ret_state);
    int (*set_state)(struct cpu *cpu, const struct x86_state *state, struct error *err);
    /* Somebody wrote to guest code, or MEM_MOVED (any thread; from mem.code_written). */
    void (*code_written)(struct cpu *cpu, gpa page);
    /* On the vCPU's thread: whether the processor will call bus.settle within a few hundred
     * instructions, unless run returns before. NULL: never. */
    bool (*soon)(struct cpu *cpu);
    void (*stats)(struct cpu *cpu, FILE *f); /* NULL allowed */
    const struct cpu_apic_ops *apic;         /* NULL: the LAPICs are the board's */
    /* As window_fn (bus/windows.h), for all processors of the machine; any thread. NULL: cannot. */
    int (*window)(struct cpu *cpu, unsigned n, gpa at, void *memory, uint64_t size);
    /* Which pages it writes (bus/dirty.h), with no processor running. `track`: from now on, or no
     * longer; once for the machine; NULL: always. `collect`: notes those since the last time. */
    int (*track)(struct cpu *cpu, bool on, struct error *err);
    int (*collect)(struct cpu *cpu, struct error *err);
    /* config.less has changed, before the processor has run. NULL: it is asked each time. */
    int (*tell)(struct cpu *cpu, struct error *err);
};

struct cpu { /* first member of every backend's struct */
    const struct cpu_ops *ops;
    struct cpu_config config;
    struct error error;
    bool smm; /* it is in system management mode; for calls of the bus, on its own thread */
};

extern const struct cpu_ops cpu_ref_ops, cpu_soft_ops, cpu_kvm_ops;

/* "ref", "auto": the backend, and for auto one sentence why. NULL with a sentence if unknown or
 * unusable. `not_kvm`: why auto must not take KVM for this machine, or NULL. */
const struct cpu_ops *cpu_select(const char *name, const char *not_kvm, char *why,
                                 unsigned why_size, struct error *err);
/* Any host can run it: what auto takes where there is no KVM. */
const struct cpu_ops *cpu_software(void);

/* CPUID as the model gives it (leaf, subleaf -> eax..edx), with the parts that depend on state. */
void cpu_cpuid(const struct cpu *cpu, const struct x86_state *s, uint32_t leaf, uint32_t subleaf,
               uint32_t out[4]);

#endif
