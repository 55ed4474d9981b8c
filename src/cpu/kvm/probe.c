/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The probe guest: 64-bit kernel mode from its first instruction, on one page of code and three of
 * page tables. First instructions that kernels use and that emulations of KVM's lack, then a loop
 * whose speed tells the processor from an emulation: some thousand million iterations a second
 * from a few million. Its time is processor time, so that a busy host does not look slow.
 */
#include "cpu/kvm/probe.h"

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "cpu/kvm/inside.h"
#include "cpu/kvm/kvm.h"
#include "cpu/x86.h"

enum {
    MEMORY = 64 * 1024,
    CODE = 0x1000,
    PML4 = 0x2000,
    PDPT = 0x3000,
    PD = 0x4000,
    DATA = 0x6000,
    STACK = 0x8000,
    LOOPS = 20000000,
    LIMIT_MS = 300, /* of processor time */
    TICK_MS = 20,
    FITS_PORT = 0x80,
    DONE_PORT = 0x81,
};
#define TIMER_SIGNAL (SIGRTMIN + 1)

__asm__(".pushsection .rodata\n"
        "kvm_probe_code:\n"
        "  mov $0x6000, %ebx\n"
        "  movups %xmm0, (%rbx)\n"
        "  pxor %xmm1, %xmm1\n"
        "  paddq %xmm0, %xmm1\n"
        "  fldpi\n"
        "  fxsave64 0x100(%rbx)\n"
        "  xor %eax, %eax\n"
        "  xor %edx, %edx\n"
        "  lock cmpxchg16b 0x40(%rbx)\n"
        "  out %al, $0x80\n"
        "  mov $20000000, %ecx\n"
        "0: dec %ecx\n"
        "  jnz 0b\n"
        "  out %al, $0x81\n"
        "1: hlt\n"
        "  jmp 1b\n"
        "kvm_probe_end:\n"
        ".popsection\n");
extern const uint8_t kvm_probe_code[], kvm_probe_end[];

struct probe {
    int kvm, vm, cpu;
    uint8_t *memory;
    struct kvm_run *run;
    size_t run_size;
};

/* ------------------------------------------------------------------ the guest */

static void fill_memory(uint8_t *m) {
    const uint64_t present_writable = 3, large = 0x80;
    const uint64_t entries[][2] = {{PML4, PDPT | present_writable},
                                   {PDPT, PD | present_writable},
                                   {PD, present_writable | large}};

    memcpy(m + CODE, kvm_probe_code, (size_t)(kvm_probe_end - kvm_probe_code));
    for (unsigned i = 0; i < 3; i++)
        memcpy(m + entries[i][0], &entries[i][1], 8);
}

static int set_registers(const struct probe *p) {
    struct kvm_regs regs = {.rip = CODE, .rsp = STACK, .rflags = X86_FLAG_FIXED};
    struct kvm_segment code = {.limit = 0xffffffff,
                               .selector = 8,
                               .type = 11,
                               .present = 1,
                               .s = 1,
                               .l = 1,
                               .g = 1},
                       data = code;
    struct kvm_sregs s;

    if (ioctl(p->cpu, KVM_GET_SREGS, &s) < 0)
        return -errno;
    data.selector = 16;
    data.type = 3;
    data.l = 0;
    data.db = 1;
    s.cs = code;
    s.ds = s.es = s.ss = s.fs = s.gs = data;
    s.cr0 = X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_PG;
    s.cr3 = PML4;
    s.cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
    s.efer = X86_EFER_LME | X86_EFER_LMA;
    if (ioctl(p->cpu, KVM_SET_SREGS, &s) < 0 || ioctl(p->cpu, KVM_SET_REGS, &regs) < 0)
        return -errno;
    return 0;
}

/* What the host supports: CMPXCHG16B is refused otherwise. */
static int set_cpuid(const struct probe *p) {
    struct { /* struct kvm_cpuid2, whose entries have no number of their own */
        uint32_t nent, pad;
        struct kvm_cpuid_entry2 entry[128];
    } c = {.nent = 128};

    return ioctl(p->kvm, KVM_GET_SUPPORTED_CPUID, &c) < 0 || ioctl(p->cpu, KVM_SET_CPUID2, &c) < 0
               ? -errno
               : 0;
}

static int make_guest(struct probe *p) {
    struct kvm_userspace_memory_region region = {.memory_size = MEMORY};
    int size = ioctl(p->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    void *m;

    if (size <= 0) /* or nothing is mapped below */
        return size < 0 ? -errno : -EIO;
    p->vm = ioctl(p->kvm, KVM_CREATE_VM, 0);
    if (p->vm < 0)
        return -errno;
    m = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED)
        return -errno;
    p->memory = m;
    fill_memory(p->memory);
    region.userspace_addr = (uintptr_t)p->memory;
    ioctl(p->vm, KVM_SET_TSS_ADDR, 0xfeffd000);
    if (ioctl(p->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
        return -errno;
    p->cpu = ioctl(p->vm, KVM_CREATE_VCPU, 0);
    if (p->cpu < 0)
        return -errno;
    p->run_size = (size_t)size;
    m = mmap(NULL, p->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, p->cpu, 0);
    if (m == MAP_FAILED)
        return -errno;
    p->run = m;
    size = set_cpuid(p);
    return size < 0 ? size : set_registers(p);
}

static void done(struct probe *p) {
    if (p->run)
        munmap(p->run, p->run_size);
    if (p->memory)
        munmap(p->memory, MEMORY);
    if (p->cpu >= 0)
        close(p->cpu);
    if (p->vm >= 0)
        close(p->vm);
    if (p->kvm >= 0)
        close(p->kvm);
}

/* ------------------------------------------------------------------ running it */

static uint64_t cpu_ns(void) {
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The port that it came to, or what ended it, negative. */
static int run_to_port(const struct probe *p) {
    uint64_t begin = cpu_ns();

    while (ioctl(p->cpu, KVM_RUN, 0) < 0) {
        int r = -errno;

        kvm_eat_signals(TIMER_SIGNAL);
        if (r != -EINTR || cpu_ns() - begin >= LIMIT_MS * 1000000ull)
            return r == -EINTR ? -ETIME : r;
    }
    return p->run->exit_reason == KVM_EXIT_IO ? p->run->io.port : -ENOEXEC;
}

static void judge(const struct probe *p, struct kvm_verdict *v) {
    uint64_t begin, ns, loops = LOOPS;
    struct kvm_regs regs;
    int r = run_to_port(p);

    if (r != FITS_PORT) {
        snprintf(v->text, sizeof(v->text),
                 "the host's KVM cannot execute what kernels do (%s): it is an emulation",
                 r == -ETIME ? "it hung" : "it gave up");
        return;
    }
    begin = cpu_ns();
    r = run_to_port(p);
    ns = cpu_ns() - begin;
    if (r == -ETIME && ioctl(p->cpu, KVM_GET_REGS, &regs) == 0)
        loops -= regs.rcx & 0xffffffff;
    else if (r != DONE_PORT)
        loops = 0;
    v->rate = (uint64_t)((double)loops * 2 * 1e9 / (double)(ns ? ns : 1));
    v->usable = v->rate >= KVM_SLOWEST_REAL;
    snprintf(v->text, sizeof(v->text), "the host's KVM runs %llu million instructions a second%s",
             (unsigned long long)(v->rate / 1000000),
             v->usable ? "" : ": it emulates kernels, slower than we do");
}

/* With a timer that ends whatever does not end by itself, and uses the processor. */
static int run_guarded(const struct probe *p, struct kvm_verdict *v) {
    const int sig = TIMER_SIGNAL;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = sig};
    struct itimerspec limit = {.it_value.tv_nsec = TICK_MS * 1000000l,
                               .it_interval.tv_nsec = TICK_MS * 1000000l};
    sigset_t set, old;
    timer_t timer;
    int r;

    sigemptyset(&set);
    sigaddset(&set, sig);
    pthread_sigmask(SIG_BLOCK, &set, &old);
    r = kvm_unblock_inside(p->cpu, sig);
    event._sigev_un._tid = gettid();
    if (r == 0 && timer_create(CLOCK_MONOTONIC, &event, &timer) < 0)
        r = -errno;
    if (r == 0) {
        timer_settime(timer, 0, &limit, NULL);
        judge(p, v);
        timer_delete(timer);
    }
    kvm_eat_signals(sig);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return r;
}

void kvm_probe(struct kvm_verdict *v) {
    struct error err = {0};
    struct probe p = {.kvm = kvm_open(&err), .vm = -1, .cpu = -1};
    int r;

    *v = (struct kvm_verdict){0};
    if (p.kvm < 0) {
        snprintf(v->text, sizeof(v->text), "%.150s", err.text);
        return;
    }
    r = make_guest(&p);
    if (r == 0 && p.run)
        r = run_guarded(&p, v);
    done(&p);
    if (r < 0)
        snprintf(v->text, sizeof(v->text), "the host's KVM cannot be used: %s", strerror(-r));
}
