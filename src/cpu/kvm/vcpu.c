/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Running a processor by KVM, and what it comes back for.
 *
 * A kick sets immediate_exit and sends a signal that is blocked everywhere but inside of KVM_RUN,
 * where it ends the call (4.40 KVM_SET_SIGNAL_MASK). An access to a device is over for the
 * processor only when KVM_RUN is called again: so run returns to its caller only from a KVM_RUN
 * that was interrupted, never from an access, and its state is always that between instructions.
 *
 * Calls (vcpu): ioctl:KVM_RUN ioctl:KVM_GET_REGS ioctl:KVM_INTERRUPT ioctl:KVM_NMI
 *     ioctl:KVM_GET_VCPU_EVENTS ioctl:KVM_SET_VCPU_EVENTS
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/trace.h"
#include "cpu/kvm/inside.h"
#include "cpu/kvm/kvm.h"

static int kick_signal(void) { return SIGRTMIN; }

int kvm_call(struct kvm_cpu *c, const char *what, unsigned long request, void *arg) {
    int r = ioctl(c->fd, request, arg);

    if (r >= 0)
        return r;
    r = -errno;
    return error_set(&c->cpu.error, r, "processor %u: KVM: %s: %s", c->cpu.config.index, what,
                     strerror(-r));
}

int kvm_one_msr(struct kvm_cpu *c, unsigned long request, uint32_t msr, uint64_t *value) {
    uint64_t space[(sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)) / 8] = {0};
    struct kvm_msrs *m = (struct kvm_msrs *)space;
    int r;

    m->nmsrs = 1;
    m->entries[0] = (struct kvm_msr_entry){.index = msr, .data = *value};
    r = kvm_call(c, "an MSR", request, m);
    *value = m->entries[0].data;
    return r;
}

/* ------------------------------------------------------------------ exits */

static void port_access(struct kvm_cpu *c) {
    const struct cpu_bus *bus = &c->cpu.config.bus;
    const unsigned size = c->run->io.size, port = c->run->io.port;
    uint8_t *data = (uint8_t *)c->run + c->run->io.data_offset;

    c->count.io++;
    for (unsigned i = 0; i < c->run->io.count; i++, data += size) {
        uint64_t v = 0;

        if (c->run->io.direction == KVM_EXIT_IO_IN) {
            v = bus->io_read(bus->opaque, true, port, size);
            memcpy(data, &v, size);
        } else {
            memcpy(&v, data, size);
            bus->io_write(bus->opaque, true, port, size, v);
        }
    }
}

/* A piece of an access that memory ends in the middle of, as the board takes it. */
static unsigned piece(uint64_t addr, unsigned left) {
    unsigned size = 8;

    while (size > left || (addr & (size - 1)))
        size /= 2;
    return size;
}

static void memory_access(struct kvm_cpu *c) {
    const struct cpu_bus *bus = &c->cpu.config.bus;
    uint64_t addr = c->run->mmio.phys_addr;
    uint8_t *data = c->run->mmio.data;
    unsigned size;

    c->count.mmio++;
    for (unsigned left = c->run->mmio.len; left; left -= size, addr += size, data += size) {
        uint64_t v = 0;
        void *ram = mem_ptr(bus->mem, addr, 1, false);

        size = piece(addr, left);
        if (c->run->mmio.is_write) {
            memcpy(&v, data, size);
            if (mem_ptr(bus->mem, addr, 1, true)) /* KVM does not map it: see is_free in vm.c */
                mem_write(bus->mem, addr, data, size);
            else if (!ram) /* else it is ROM */
                bus->io_write(bus->opaque, false, addr, size, v);
        } else if (ram) {
            mem_read(bus->mem, addr, data, size);
        } else {
            v = bus->io_read(bus->opaque, false, addr, size);
            memcpy(data, &v, size);
        }
    }
}

/* KVM has the guest take an undefined instruction when it cannot emulate one, but asks us first;
 * whoever goes on from here can execute it. */
static void take_fault_back(struct kvm_cpu *c) {
    struct kvm_vcpu_events e = {0};

    if (ioctl(c->fd, KVM_GET_VCPU_EVENTS, &e) < 0 || e.exception.nr != 6 ||
        !(e.exception.injected || e.exception.pending))
        return;
    memset(&e.exception, 0, sizeof(e.exception));
    ioctl(c->fd, KVM_SET_VCPU_EVENTS, &e);
}

static enum cpu_exit failed(struct kvm_cpu *c, const char *what, uint64_t code) {
    struct kvm_regs regs = {0};

    ioctl(c->fd, KVM_GET_REGS, &regs);
    error_set(&c->cpu.error, -EIO, "processor %u: KVM %s (0x%llx) at rip 0x%llx; --cpu soft can",
              c->cpu.config.index, what, (unsigned long long)code, (unsigned long long)regs.rip);
    return CPU_EXIT_ERROR;
}

enum { GO_ON = -1 };

static int answer(struct kvm_cpu *c) {
    const struct cpu_bus *bus = &c->cpu.config.bus;

    trace(kvm_exit, c->run->exit_reason);
    switch (c->run->exit_reason) {
    case KVM_EXIT_IO:
        port_access(c);
        return GO_ON;
    case KVM_EXIT_MMIO:
        memory_access(c);
        return GO_ON;
    case KVM_EXIT_IOAPIC_EOI:
        c->count.eoi++;
        bus->eoi(bus->opaque, c->run->eoi.vector);
        return GO_ON;
    case KVM_EXIT_X86_RDMSR:
    case KVM_EXIT_X86_WRMSR:
        kvm_answer_msr(c->run);
        return GO_ON;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        c->count.windows++;
        return GO_ON;
    case KVM_EXIT_INTR:
        return GO_ON;
    case KVM_EXIT_DIRTY_RING_FULL:
        if (kvm_dirty_ring_full(c) < 0)
            return failed(c, "takes no ring of written pages back", 0);
        return GO_ON;
    case KVM_EXIT_SHUTDOWN:
        return CPU_EXIT_SHUTDOWN;
    case KVM_EXIT_FAIL_ENTRY:
        return failed(c, "cannot enter the guest",
                      c->run->fail_entry.hardware_entry_failure_reason);
    case KVM_EXIT_INTERNAL_ERROR:
        if (c->run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
            take_fault_back(c);
        return failed(c, "cannot go on", c->run->internal.suberror);
    default:
        return failed(c, "came back for an unknown reason", c->run->exit_reason);
    }
}

/* ------------------------------------------------------------------ interrupts from outside */

static int inject(struct kvm_cpu *c) {
    const struct cpu_bus *bus = &c->cpu.config.bus;

    if (__atomic_exchange_n(&c->nmi, false, __ATOMIC_ACQ_REL) &&
        kvm_call(c, "an NMI", KVM_NMI, NULL) < 0)
        return -EIO;
    c->run->request_interrupt_window = 0;
    if (!__atomic_load_n(&c->ext_int, __ATOMIC_ACQUIRE))
        return 0;
    if (c->run->ready_for_interrupt_injection) {
        int vector = bus->ext_ack(bus->opaque);
        struct kvm_interrupt irq = {.irq = (uint32_t)vector};

        if (vector >= 0 && kvm_call(c, "an interrupt", KVM_INTERRUPT, &irq) < 0)
            return -EIO;
    }
    c->run->request_interrupt_window = __atomic_load_n(&c->ext_int, __ATOMIC_ACQUIRE);
    return 0;
}

static int begin(struct kvm_cpu *c) {
    sigset_t set;
    int r;

    if (c->has_thread && pthread_equal(c->thread, pthread_self()))
        return 0;
    sigemptyset(&set);
    sigaddset(&set, kick_signal());
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    c->thread = pthread_self();
    __atomic_store_n(&c->has_thread, true, __ATOMIC_SEQ_CST);
    r = kvm_unblock_inside(c->fd, kick_signal());
    return r < 0 ? error_set(&c->cpu.error, r, "processor %u: KVM: its signals: %s",
                             c->cpu.config.index, strerror(-r))
                 : 0;
}

static enum cpu_exit run(struct cpu *cpu) {
    struct kvm_cpu *c = (struct kvm_cpu *)cpu;
    int exit;

    if (begin(c) < 0 || kvm_follow_clock(c) < 0)
        return CPU_EXIT_ERROR;
    for (;;) {
        if (inject(c) < 0)
            return CPU_EXIT_ERROR;
        if (c->fail_after && !--c->fail_after) {
            c->failing = true;
            kvm_leave_guest(c); /* what the guest has begun is done at the next entrance */
        }
        if (ioctl(c->fd, KVM_RUN, 0) == 0) {
            exit = answer(c);
            if (exit != GO_ON)
                return (enum cpu_exit)exit;
            continue;
        }
        if (errno == EAGAIN) /* it waits for SIPI, and something has happened */
            continue;
        if (errno != EINTR)
            return failed(c, "does not run the processor", (uint64_t)errno);
        kvm_eat_signals(kick_signal());
        __atomic_store_n(&c->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
        if (c->failing)
            return failed(c, "fails as it was asked to", 0);
        if (__atomic_exchange_n(&c->kicked, false, __ATOMIC_SEQ_CST)) {
            c->count.kicks++;
            return CPU_EXIT_KICK;
        }
    }
}

/* ------------------------------------------------------------------ from other threads */

void kvm_leave_guest(struct kvm_cpu *c) {
    __atomic_store_n(&c->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&c->has_thread, __ATOMIC_SEQ_CST))
        pthread_kill(c->thread, kick_signal());
}

static void kick(struct cpu *cpu) {
    struct kvm_cpu *c = (struct kvm_cpu *)cpu;

    __atomic_store_n(&c->kicked, true, __ATOMIC_SEQ_CST);
    kvm_leave_guest(c);
}

/* All but NMIs come from KVM's own LAPICs. */
static void signal_cpu(struct cpu *cpu, enum cpu_signal_kind kind, uint8_t vector) {
    struct kvm_cpu *c = (struct kvm_cpu *)cpu;

    if (kind != CPU_SIGNAL_NMI)
        return;
    __atomic_store_n(&c->nmi, true, __ATOMIC_RELEASE);
    kvm_leave_guest(c);
}

static bool runnable(struct cpu *cpu) { return true; }

static void code_written(struct cpu *cpu, gpa page) {
    struct kvm_cpu *c = (struct kvm_cpu *)cpu;

    if (page == MEM_MOVED && kvm_vm_map(c->vm, &c->cpu.error) < 0)
        kick(cpu);
}

/* ------------------------------------------------------------------ life */

static void destroy(struct cpu *cpu) {
    struct kvm_cpu *c = (struct kvm_cpu *)cpu;

    struct kvm_vm *vm = c->vm; /* NULL: there never was one */

    kvm_dirty_unmap_ring(c);
    for (unsigned i = 0; vm && i < vm->cpus; i++)
        if (vm->cpu[i] == c)
            vm->cpu[i] = vm->cpu[--vm->cpus];
    if (vm && c->run)
        munmap(c->run, vm->run_size);
    if (c->fd >= 0)
        close(c->fd);
    kvm_vm_leave(vm);
    free(c);
}

static int make(struct kvm_cpu *c, struct error *err) {
    const struct cpu_config *config = &c->cpu.config;
    struct x86_state power_on;
    const char *fail_after = getenv("VIV_KVM_FAIL_AFTER");
    void *run;
    int r;

    c->cpu.config.less = c->vm->less;
    if (cpuid_check_model(config->model, err) < 0 ||
        cpuid_check_added(config, c->vm->less, err) < 0)
        return -EINVAL;
    c->fd = ioctl(c->vm->fd, KVM_CREATE_VCPU, config->index);
    if (c->fd < 0)
        return error_set(err, -errno, "KVM makes no processor %u: %s", config->index,
                         strerror(errno));
    run = mmap(NULL, c->vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
    if (run == MAP_FAILED)
        return error_set(err, -errno, "KVM's processor %u cannot be mapped: %s", config->index,
                         strerror(errno));
    c->run = run;
    r = kvm_dirty_map_ring(c);
    if (r < 0 || c->vm->cpus == KVM_CPUS)
        return error_set(err, -ENOTSUP, "KVM's ring of processor %u cannot be mapped: %s",
                         config->index, strerror(-r));
    c->vm->cpu[c->vm->cpus++] = c;
    if (kvm_set_cpuid(c, err) < 0)
        return -EINVAL;
    if (fail_after)
        c->fail_after = strtoull(fail_after, NULL, 10);
    x86_reset(&power_on, false);
    if (config->index)
        power_on.activity = X86_WAIT_SIPI;
    return kvm_set_state(&c->cpu, &power_on, err);
}

static int create(const struct cpu_config *config, struct cpu **ret_cpu, struct error *err) {
    struct kvm_cpu *c = calloc(1, sizeof(*c));

    if (!c)
        return error_set(err, -ENOMEM, "processor %u: out of memory", config->index);
    c->cpu.ops = &cpu_kvm_ops;
    c->cpu.config = *config;
    c->fd = -1;
    c->vm = kvm_vm_join(config, err);
    if (!c->vm || make(c, err) < 0) {
        destroy(&c->cpu);
        return -EINVAL;
    }
    if (config->peers)
        config->peers[config->index] = &c->cpu;
    *ret_cpu = &c->cpu;
    return 0;
}

static int window(struct cpu *cpu, unsigned n, gpa at, void *memory, uint64_t size) {
    return kvm_vm_window(((struct kvm_cpu *)cpu)->vm, n, at, memory, size);
}

static int tell(struct cpu *cpu, struct error *err) {
    return kvm_set_cpuid((struct kvm_cpu *)cpu, err);
}

static void stats(struct cpu *cpu, FILE *f) {
    const struct kvm_cpu *c = (const struct kvm_cpu *)cpu;

    fprintf(f, "%12llu  port accesses\n%12llu  memory accesses of devices\n",
            (unsigned long long)c->count.io, (unsigned long long)c->count.mmio);
    if (c->count.rings)
        fprintf(f, "%12llu  full rings of written pages\n", (unsigned long long)c->count.rings);
    fprintf(f, "%12llu  ends of level interrupts\n%12llu  interrupt windows\n%12llu  kicks\n",
            (unsigned long long)c->count.eoi, (unsigned long long)c->count.windows,
            (unsigned long long)c->count.kicks);
}

const struct cpu_ops cpu_kvm_ops = {
    .name = "kvm",
    .help = "the host's processors, by KVM",
    .missing = kvm_missing,
    .create = create,
    .destroy = destroy,
    .run = run,
    .kick = kick,
    .signal = signal_cpu,
    .runnable = runnable,
    .get_state = kvm_get_state,
    .set_state = kvm_set_state,
    .code_written = code_written,
    .stats = stats,
    .apic = &kvm_apic_ops,
    .window = window,
    .tell = tell,
    .track = kvm_dirty_track,
    .collect = kvm_dirty_collect,
};
