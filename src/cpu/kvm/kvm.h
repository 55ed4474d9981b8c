/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Processors that are the host's, by KVM: the parts of the backend that see each other.
 *
 * The LAPICs are KVM's, which makes its paravirtual interface the kernel's own; the 8259s and the
 * I/O APIC stay ours ("split irqchip"). Guest memory is mapped as the board's map says, and mapped
 * anew when a range moves.
 *
 * Source: Linux Documentation/virt/kvm/api.rst; numbers behind the names below are its sections.
 */
#ifndef CPU_KVM_KVM_H
#define CPU_KVM_KVM_H

#include <linux/kvm.h>
#include <pthread.h>

#include "cpu/cpuid.h"

/* One pin for each vector that there can be. KVM keeps the number in 8 bits without saying so, and
 * with 256 would report no end at all. */
enum { KVM_VECTORS = 256, KVM_PINS = 240, KVM_LEAVES = 128, KVM_CPUS = 64 };

struct kvm_carrier;
struct msi_message;

struct kvm_slot { /* what KVM was told of a range */
    gpa base;
    uint64_t size; /* 0: nothing */
};

struct kvm_vm { /* shared by the processors of one machine; the last one frees it */
    int fd;
    unsigned users;
    size_t run_size;
    struct mem *mem;
    struct kvm_slot slot[MEM_MAX_RANGES]; /* the windows' follow them */
    pthread_mutex_t lock;                 /* innermost: slots and routes */
    /* Level-triggered vectors whose end KVM reports (4.52, 7.5 KVM_CAP_SPLIT_IRQCHIP). */
    bool level[KVM_VECTORS];
    struct kvm_carrier *carrier; /* routes.c's */
    unsigned carriers, max_routes;
    bool rings_any_length;
    struct {
        bool can, done; /* the host's processors scale the TSC; the offset is of `generation` */
        unsigned generation;
        uint64_t offset;
    } scaled; /* guarded by `lock` */
    struct {
        bool on, ring, manual;
    } dirty;                       /* dirty.c's */
    struct kvm_cpu *cpu[KVM_CPUS]; /* those that there are */
    unsigned cpus;
    struct kvm_cpuid2 *supported;
    uint32_t less[CPUID_WORDS]; /* cpu_config.less */
};

struct kvm_cpu {
    struct cpu cpu;
    struct kvm_vm *vm;
    int fd;
    struct kvm_run *run;
    pthread_t thread;
    bool has_thread; /* atomic: `thread` is valid */
    bool kicked;     /* atomic */
    bool ext_int;    /* atomic: LINT0 */
    bool nmi;        /* atomic: one to inject */
    /* For tests: it gives up when it has entered the guest so often; 0: never. */
    uint64_t fail_after;
    bool failing;
    struct kvm_dirty_gfn *ring; /* of written pages; NULL: there is none */
    uint32_t ring_at;
    bool clocked;          /* KVM has been told the clock that it runs on now */
    uint64_t clock_offset; /* with a scaled TSC: the clock's generation */
    uint64_t deadline;     /* of the LAPIC's timer, to be set again with that clock; 0: no */
    struct {
        uint64_t io, mmio, eoi, windows, kicks, rings;
    } count;
};

/* ioctl on behalf of a processor; a failure is this processor's error. */
int kvm_call(struct kvm_cpu *c, const char *what, unsigned long request, void *arg);
/* KVM_GET_MSRS and KVM_SET_MSRS of one register: 1, or 0 if KVM refuses it, or negative. */
enum { KVM_MSR_TSC_DEADLINE = 0x6e0 };
int kvm_one_msr(struct kvm_cpu *c, unsigned long request, uint32_t msr, uint64_t *value);

/* The processor comes back from the guest soon, and looks what there is to do. Any thread. */
void kvm_leave_guest(struct kvm_cpu *c);

/* NULL with a sentence. The first processor makes it, the others join. */
struct kvm_vm *kvm_vm_join(const struct cpu_config *config, struct error *err);
void kvm_vm_leave(struct kvm_vm *vm);
/* Tells KVM where guest memory is now. */
int kvm_vm_map(struct kvm_vm *vm, struct error *err);
/* As window_fn (bus/windows.h). */
int kvm_vm_window(struct kvm_vm *vm, unsigned n, gpa at, void *memory, uint64_t size);
/* What there is once more, with or without a log. */
int kvm_vm_remap(struct kvm_vm *vm);

/* Which pages are written, and how that is found out: before there are slots and processors. */
int kvm_dirty_choose(struct kvm_vm *vm, bool ring, struct error *err);
int kvm_dirty_map_ring(struct kvm_cpu *c);
void kvm_dirty_unmap_ring(struct kvm_cpu *c);
int kvm_dirty_ring_full(struct kvm_cpu *c);
int kvm_dirty_slot_goes(struct kvm_vm *vm, unsigned i);
int kvm_dirty_track(struct cpu *cpu, bool on, struct error *err); /* struct cpu_ops */
int kvm_dirty_collect(struct cpu *cpu, struct error *err);

void kvm_vm_init_routes(struct kvm_vm *vm); /* its descriptor is there */
void kvm_vm_free_routes(struct kvm_vm *vm);
void kvm_vm_message(struct kvm_vm *vm, uint64_t addr, uint32_t data);
/* The end of level-triggered interrupts by this vector is reported from now on. */
void kvm_vm_expect_level(struct kvm_vm *vm, uint8_t vector);
/* As struct wires_ops (bus/wires.h). */
int kvm_vm_ring(struct kvm_vm *vm, uint64_t addr, int fd, bool on);
int kvm_vm_carry(struct kvm_vm *vm, int fd, const struct msi_message *message);

/* The host's, as a descriptor; negative with a clause that says why not. */
int kvm_open(struct error *err);
int kvm_check_capabilities(int kvm, struct error *err);
const char *kvm_missing(void); /* of this host; NULL: nothing */

int kvm_filter_msrs(int vm, struct error *err);
void kvm_answer_msr(struct kvm_run *run); /* after an exit for a filtered register */
/* What `supported` has not, of all that a model can have. */
void kvm_find_lacks(struct kvm_vm *vm);
int kvm_set_cpuid(struct kvm_cpu *c, struct error *err);

void kvm_get_state(struct cpu *cpu, struct x86_state *ret_state);
int kvm_set_state(struct cpu *cpu, const struct x86_state *state, struct error *err);
/* Before the processor runs: its TSC and KVM's clock follow the machine's. */
int kvm_follow_clock(struct kvm_cpu *c);

extern const struct cpu_apic_ops kvm_apic_ops;

#endif
