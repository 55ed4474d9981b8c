/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A processor's state between KVM's structures and struct x86_state, and its clocks.
 *
 * The order of setting matters: CPUID is there before (kvm_set_cpuid), special registers before
 * MSRs that they allow, XCR0 before what it enables, events last.
 *
 * Not carried over: an interrupt of the 8259s that KVM holds but has not delivered (the LAPIC's go
 * back, see apic.c), which guests that use them see as a spurious one less; and a kick that a halt
 * would use up.
 *
 * Calls (main): ioctl:KVM_GET_REGS ioctl:KVM_SET_REGS ioctl:KVM_GET_SREGS ioctl:KVM_SET_SREGS
 *     ioctl:KVM_GET_SREGS2 ioctl:KVM_SET_SREGS2
 *     ioctl:KVM_GET_DEBUGREGS ioctl:KVM_SET_DEBUGREGS ioctl:KVM_GET_MSRS ioctl:KVM_SET_MSRS
 *     ioctl:KVM_GET_XSAVE ioctl:KVM_SET_XSAVE ioctl:KVM_GET_XCRS ioctl:KVM_SET_XCRS
 *     ioctl:KVM_GET_VCPU_EVENTS ioctl:KVM_SET_VCPU_EVENTS ioctl:KVM_GET_MP_STATE
 *     ioctl:KVM_SET_MP_STATE
 * Calls (vcpu): ioctl:KVM_GET_MSRS ioctl:KVM_SET_MSRS ioctl:KVM_SET_DEVICE_ATTR
 *     ioctl:KVM_SET_CLOCK ioctl:KVM_SET_TSC_KHZ
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "cpu/kvm/kvm.h"

/* ------------------------------------------------------------------ general registers */

static const uint8_t gpr_at[16] = {
    offsetof(struct kvm_regs, rax), offsetof(struct kvm_regs, rcx), offsetof(struct kvm_regs, rdx),
    offsetof(struct kvm_regs, rbx), offsetof(struct kvm_regs, rsp), offsetof(struct kvm_regs, rbp),
    offsetof(struct kvm_regs, rsi), offsetof(struct kvm_regs, rdi), offsetof(struct kvm_regs, r8),
    offsetof(struct kvm_regs, r9),  offsetof(struct kvm_regs, r10), offsetof(struct kvm_regs, r11),
    offsetof(struct kvm_regs, r12), offsetof(struct kvm_regs, r13), offsetof(struct kvm_regs, r14),
    offsetof(struct kvm_regs, r15)};

static void get_regs(struct kvm_cpu *c, struct x86_state *s) {
    struct kvm_regs regs = {0};

    kvm_call(c, "its registers", KVM_GET_REGS, &regs);
    for (unsigned i = 0; i < 16; i++)
        memcpy(&s->gpr[i], (uint8_t *)&regs + gpr_at[i], 8);
    s->rip = regs.rip;
    s->rflags = regs.rflags;
}

static int set_regs(struct kvm_cpu *c, const struct x86_state *s) {
    struct kvm_regs regs = {.rip = s->rip, .rflags = s->rflags};

    for (unsigned i = 0; i < 16; i++)
        memcpy((uint8_t *)&regs + gpr_at[i], &s->gpr[i], 8);
    return kvm_call(c, "its registers", KVM_SET_REGS, &regs);
}

/* ------------------------------------------------------------------ special registers */

static struct x86_segment from_kvm(const struct kvm_segment *k) {
    return (struct x86_segment){.sel = k->selector,
                                .base = k->base,
                                .limit = k->limit,
                                .attr = (k->type & 15u) | (k->s & 1u) << 4 | (k->dpl & 3u) << 5 |
                                        (k->present & 1u) << 7 | (k->avl & 1u) << 12 |
                                        (k->l & 1u) << 13 | (k->db & 1u) << 14 | (k->g & 1u) << 15 |
                                        (k->unusable ? X86_ATTR_UNUSABLE : 0)};
}

static struct kvm_segment to_kvm(const struct x86_segment *s) {
    return (struct kvm_segment){.selector = s->sel,
                                .base = s->base,
                                .limit = s->limit,
                                .type = s->attr & X86_ATTR_TYPE,
                                .s = s->attr >> 4 & 1,
                                .dpl = X86_ATTR_DPL(s->attr),
                                .present = s->attr >> 7 & 1,
                                .avl = s->attr >> 12 & 1,
                                .l = s->attr >> 13 & 1,
                                .db = s->attr >> 14 & 1,
                                .g = s->attr >> 15 & 1,
                                .unusable = (s->attr & X86_ATTR_UNUSABLE) != 0};
}

/* In the order of enum x86_seg: ES CS SS DS FS GS. */
static struct kvm_segment *segment_of(struct kvm_sregs *k, unsigned i) {
    struct kvm_segment *const all[] = {&k->es, &k->cs, &k->ss, &k->ds, &k->fs, &k->gs};

    return all[i];
}

/*
 * With PAE paging of 32-bit code, a processor keeps the four entries that CR3 points to from the
 * time when it was loaded. Older kernels do not tell them; then they are what memory holds, as far
 * as one can know.
 */
static bool keeps_pdptes(const struct x86_state *s) {
    return (s->cr0 & X86_CR0_PG) && (s->cr4 & X86_CR4_PAE) && !(s->efer & X86_EFER_LMA);
}

static void get_pdptes(struct kvm_cpu *c, struct x86_state *s) {
    struct kvm_sregs2 k = {0};
    uint8_t entries[sizeof(s->pdpte)];

    if (!keeps_pdptes(s))
        return;
    if (ioctl(c->fd, KVM_GET_SREGS2, &k) == 0 && (k.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID))
        memcpy(s->pdpte, k.pdptrs, sizeof(s->pdpte));
    else if (mem_read(c->cpu.config.bus.mem, s->cr3 & 0xffffffe0, entries, sizeof(entries)) == 0)
        for (unsigned i = 0; i < 4; i++)
            s->pdpte[i] = load_le64(entries + 8 * i);
}

/* The special registers have been set, which reads them from memory. */
static void set_pdptes(struct kvm_cpu *c, const struct x86_state *s) {
    struct kvm_sregs2 k = {0};

    if (!keeps_pdptes(s) || ioctl(c->fd, KVM_GET_SREGS2, &k) < 0)
        return;
    memcpy(k.pdptrs, s->pdpte, sizeof(k.pdptrs));
    k.flags |= KVM_SREGS2_FLAGS_PDPTRS_VALID;
    if (ioctl(c->fd, KVM_SET_SREGS2, &k) < 0)
        trace(kvm_refused, errno);
}

static void get_sregs(struct kvm_cpu *c, struct x86_state *s) {
    struct kvm_sregs k = {0};

    kvm_call(c, "its special registers", KVM_GET_SREGS, &k);
    for (unsigned i = 0; i < 6; i++)
        s->seg[i] = from_kvm(segment_of(&k, i));
    s->ldtr = from_kvm(&k.ldt);
    s->tr = from_kvm(&k.tr);
    s->gdtr = (struct x86_table){k.gdt.base, k.gdt.limit};
    s->idtr = (struct x86_table){k.idt.base, k.idt.limit};
    s->cr0 = k.cr0;
    s->cr2 = k.cr2;
    s->cr3 = k.cr3;
    s->cr4 = k.cr4;
    s->efer = k.efer;
    get_pdptes(c, s);
}

static int set_sregs(struct kvm_cpu *c, const struct x86_state *s) {
    struct kvm_sregs k = {0};

    if (kvm_call(c, "its special registers", KVM_GET_SREGS, &k) < 0) /* APIC base, CR8 */
        return -EIO;
    for (unsigned i = 0; i < 6; i++)
        *segment_of(&k, i) = to_kvm(&s->seg[i]);
    k.ldt = to_kvm(&s->ldtr);
    k.tr = to_kvm(&s->tr);
    k.gdt = (struct kvm_dtable){.base = s->gdtr.base, .limit = s->gdtr.limit};
    k.idt = (struct kvm_dtable){.base = s->idtr.base, .limit = s->idtr.limit};
    k.cr0 = s->cr0;
    k.cr2 = s->cr2;
    k.cr3 = s->cr3;
    k.cr4 = s->cr4;
    k.efer = s->efer;
    memset(k.interrupt_bitmap, 0, sizeof(k.interrupt_bitmap));
    if (kvm_call(c, "its special registers", KVM_SET_SREGS, &k) < 0)
        return -EIO;
    set_pdptes(c, s);
    return 0;
}

static void get_debug(struct kvm_cpu *c, struct x86_state *s) {
    struct kvm_debugregs k = {0};

    kvm_call(c, "its debug registers", KVM_GET_DEBUGREGS, &k);
    memcpy(s->dr, k.db, sizeof(s->dr));
    s->dr6 = k.dr6;
    s->dr7 = k.dr7;
}

static int set_debug(struct kvm_cpu *c, const struct x86_state *s) {
    struct kvm_debugregs k = {.dr6 = s->dr6, .dr7 = s->dr7};

    memcpy(k.db, s->dr, sizeof(k.db));
    return kvm_call(c, "its debug registers", KVM_SET_DEBUGREGS, &k);
}

/* ------------------------------------------------------------------ MSRs */

#define AT(field) offsetof(struct x86_state, field)
#define MTRR_FIXED_MSRS                                                                            \
    {0x250, AT(mtrr_fixed[0])}, {0x258, AT(mtrr_fixed[1])}, {0x259, AT(mtrr_fixed[2])},            \
        {0x268, AT(mtrr_fixed[3])}, {0x269, AT(mtrr_fixed[4])}, {0x26a, AT(mtrr_fixed[5])},        \
        {0x26b, AT(mtrr_fixed[6])}, {0x26c, AT(mtrr_fixed[7])}, {0x26d, AT(mtrr_fixed[8])},        \
        {0x26e, AT(mtrr_fixed[9])}, {                                                              \
        0x26f, AT(mtrr_fixed[10])                                                                  \
    }
#define MTRR_PAIR(i)                                                                               \
    {0x200 + 2 * (i), AT(mtrr_base[i])}, { 0x201 + 2 * (i), AT(mtrr_mask[i]) }

/* 0x3b, TSC_ADJUST, has to be set after the offset of the TSC, which it does not move then. */
static const struct {
    uint32_t msr;
    uint16_t at;
} msrs[] = {
    {0x174, AT(sysenter_cs)},
    {0x175, AT(sysenter_esp)},
    {0x176, AT(sysenter_eip)},
    {0x1a0, AT(misc_enable)},
    {0x277, AT(pat)},
    {0x2ff, AT(mtrr_def_type)},
    MTRR_FIXED_MSRS,
    MTRR_PAIR(0),
    MTRR_PAIR(1),
    MTRR_PAIR(2),
    MTRR_PAIR(3),
    MTRR_PAIR(4),
    MTRR_PAIR(5),
    MTRR_PAIR(6),
    MTRR_PAIR(7),
    {0x3b, AT(tsc_adjust)},
    {0x48, AT(spec_ctrl)},
    {0xda0, AT(xss)},
    {0xc0000081, AT(star)},
    {0xc0000082, AT(lstar)},
    {0xc0000083, AT(cstar)},
    {0xc0000084, AT(sfmask)},
    {0xc0000102, AT(kernel_gs_base)},
    {0xc0000103, AT(tsc_aux)},
    {0x4b564d00, AT(kvmclock_wall)},
    {0x4b564d01, AT(kvmclock_system)},
    {0x4b564d02, AT(kvm_async_pf)},
    {0x4b564d03, AT(kvm_steal)},
    {0x4b564d04, AT(kvm_eoi)},
};
enum { MSRS = sizeof(msrs) / sizeof(msrs[0]), MSR_TSC = 0x10, MSR_TSC_ADJUST = 0x3b };

struct msr_list { /* struct kvm_msrs, whose entries have no number of their own */
    uint32_t nmsrs, pad;
    struct kvm_msr_entry entry[MSRS];
};

/* KVM stops at the first that it does not know, which then is 0, or cannot be set. */
static void get_msrs(struct kvm_cpu *c, struct x86_state *s) {
    for (unsigned i = 0; i < MSRS;) {
        struct msr_list list = {.nmsrs = MSRS - i};
        int n;

        for (unsigned k = i; k < MSRS; k++)
            list.entry[k - i].index = msrs[k].msr;
        n = kvm_call(c, "its MSRs", KVM_GET_MSRS, &list);
        if (n < 0)
            return;
        for (int k = 0; k < n; k++)
            memcpy((uint8_t *)s + msrs[i + (unsigned)k].at, &list.entry[k].data, 8);
        i += (unsigned)n;
        if (i < MSRS)
            memset((uint8_t *)s + msrs[i++].at, 0, 8);
    }
}

static int set_msrs(struct kvm_cpu *c, const struct x86_state *s) {
    for (unsigned i = 0; i < MSRS;) {
        struct msr_list list = {.nmsrs = MSRS - i};
        uint64_t value;
        int n;

        for (unsigned k = i; k < MSRS; k++) {
            list.entry[k - i].index = msrs[k].msr;
            memcpy(&list.entry[k - i].data, (const uint8_t *)s + msrs[k].at, 8);
        }
        n = kvm_call(c, "its MSRs", KVM_SET_MSRS, &list);
        if (n < 0)
            return n;
        i += (unsigned)n;
        if (i == MSRS)
            break;
        memcpy(&value, (const uint8_t *)s + msrs[i].at, 8);
        trace(kvm_msr_refused, msrs[i].msr, value);
        i++;
    }
    return 0;
}

/* ------------------------------------------------------------------ FPU */

/* The XSAVE area in its standard format (SDM vol. 1, 13.4): legacy region, header, upper halves of
 * YMM. */
enum { AT_ST = 32, AT_XMM = 160, AT_MXCSR = 24, AT_XSTATE_BV = 512, AT_YMM = 576 };

static uint16_t load16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }

static void get_fpu(struct kvm_cpu *c, struct x86_state *s) {
    struct kvm_xsave area = {0};
    struct kvm_xcrs xcrs = {0};
    const uint8_t *p = (const uint8_t *)area.region;
    struct x86_fpu *f = &s->fpu;

    kvm_call(c, "its FPU", KVM_GET_XSAVE, &area);
    kvm_call(c, "its XCR0", KVM_GET_XCRS, &xcrs);
    s->xcr0 = xcrs.nr_xcrs ? xcrs.xcrs[0].value : 1;
    memset(f, 0, sizeof(*f));
    f->fcw = load16(p);
    f->fsw = load16(p + 2);
    f->ftw = p[4];
    f->fop = load16(p + 6);
    memcpy(&f->fip, p + 8, 8);
    memcpy(&f->fdp, p + 16, 8);
    memcpy(&f->mxcsr, p + AT_MXCSR, 4);
    for (unsigned i = 0; i < 8; i++)
        memcpy(f->st[i], p + AT_ST + 16 * i, 10);
    for (unsigned i = 0; i < 16; i++) {
        memcpy(f->vec[i], p + AT_XMM + 16 * i, 16);
        if (p[AT_XSTATE_BV] & 4)
            memcpy(f->vec[i] + 16, p + AT_YMM + 16 * i, 16);
    }
}

static int set_fpu(struct kvm_cpu *c, const struct x86_state *s) {
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = s->xcr0}}};
    struct kvm_xsave area = {0};
    uint8_t *p = (uint8_t *)area.region;
    const struct x86_fpu *f = &s->fpu;

    memcpy(p, &f->fcw, 2);
    memcpy(p + 2, &f->fsw, 2);
    p[4] = f->ftw;
    memcpy(p + 6, &f->fop, 2);
    memcpy(p + 8, &f->fip, 8);
    memcpy(p + 16, &f->fdp, 8);
    memcpy(p + AT_MXCSR, &f->mxcsr, 4);
    for (unsigned i = 0; i < 8; i++)
        memcpy(p + AT_ST + 16 * i, f->st[i], 10);
    for (unsigned i = 0; i < 16; i++) {
        memcpy(p + AT_XMM + 16 * i, f->vec[i], 16);
        memcpy(p + AT_YMM + 16 * i, f->vec[i] + 16, 16);
    }
    p[AT_XSTATE_BV] = s->xcr0 & 4 ? 7 : 3;
    if (kvm_call(c, "its XCR0", KVM_SET_XCRS, &xcrs) < 0)
        return -EIO;
    return kvm_call(c, "its FPU", KVM_SET_XSAVE, &area);
}

/* ------------------------------------------------------------------ events */

static void get_events(struct kvm_cpu *c, struct x86_state *s) {
    struct kvm_vcpu_events e = {0};
    struct kvm_mp_state mp = {0};

    kvm_call(c, "its events", KVM_GET_VCPU_EVENTS, &e);
    kvm_call(c, "its activity", KVM_GET_MP_STATE, &mp);
    s->shadow = e.interrupt.shadow != 0;
    s->nmi_blocked = e.nmi.masked;
    s->nmi_pending = e.nmi.pending || e.nmi.injected || __atomic_load_n(&c->nmi, __ATOMIC_ACQUIRE);
    s->exception_pending = e.exception.injected || e.exception.pending;
    s->exception_vector = s->exception_pending ? e.exception.nr & 31 : 0;
    s->exception_has_error = s->exception_pending && e.exception.has_error_code;
    s->exception_error = s->exception_has_error ? e.exception.error_code & 0xffff : 0;
    s->activity = mp.mp_state == KVM_MP_STATE_HALTED     ? X86_HALTED
                  : mp.mp_state == KVM_MP_STATE_RUNNABLE ? X86_RUNNING
                                                         : X86_WAIT_SIPI;
}

static int set_events(struct kvm_cpu *c, const struct x86_state *s) {
    static const uint32_t activity[] = {[X86_RUNNING] = KVM_MP_STATE_RUNNABLE,
                                        [X86_HALTED] = KVM_MP_STATE_HALTED,
                                        [X86_WAIT_SIPI] = KVM_MP_STATE_INIT_RECEIVED,
                                        [X86_SHUTDOWN] = KVM_MP_STATE_RUNNABLE};
    struct kvm_mp_state mp = {activity[s->activity]};
    struct kvm_vcpu_events e = {
        .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
        .exception = {.injected = s->exception_pending,
                      .nr = s->exception_vector,
                      .has_error_code = s->exception_has_error,
                      .error_code = s->exception_error},
        .interrupt.shadow = s->shadow ? KVM_X86_SHADOW_INT_STI : 0,
        .nmi = {.pending = s->nmi_pending, .masked = s->nmi_blocked},
    };

    __atomic_store_n(&c->nmi, false, __ATOMIC_RELEASE);
    if (kvm_call(c, "its activity", KVM_SET_MP_STATE, &mp) < 0)
        return -EIO;
    return kvm_call(c, "its events", KVM_SET_VCPU_EVENTS, &e);
}

/* ------------------------------------------------------------------ all of it */

void kvm_get_state(struct cpu *cpu, struct x86_state *s) {
    struct kvm_cpu *c = (struct kvm_cpu *)cpu;

    memset(s, 0, sizeof(*s));
    get_regs(c, s);
    get_sregs(c, s);
    get_debug(c, s);
    get_msrs(c, s);
    get_fpu(c, s);
    get_events(c, s);
}

int kvm_set_state(struct cpu *cpu, const struct x86_state *s, struct error *err) {
    struct kvm_cpu *c = (struct kvm_cpu *)cpu;
    bool done = set_sregs(c, s) >= 0 && set_msrs(c, s) >= 0 && set_regs(c, s) >= 0 &&
                set_fpu(c, s) >= 0 && set_debug(c, s) >= 0 && set_events(c, s) >= 0;

    c->clocked = false;
    if (done)
        return 0;
    *err = c->cpu.error;
    return err->code;
}

/* ------------------------------------------------------------------ clocks */

static int set_offset(struct kvm_cpu *c, uint64_t offset) {
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&offset};

    return ioctl(c->fd, KVM_SET_DEVICE_ATTR, &attr) < 0 ? -errno : 0;
}

static uint64_t get_adjust(struct kvm_cpu *c) {
    uint64_t value = 0;

    return kvm_one_msr(c, KVM_GET_MSRS, MSR_TSC_ADJUST, &value) == 1 ? value : 0;
}

/* Older kernels: as near as one can get with a value. */
static int set_tsc(struct kvm_cpu *c, uint64_t value) {
    return kvm_one_msr(c, KVM_SET_MSRS, MSR_TSC, &value);
}

/* KVM takes a deadline for a time of the host's when it is set, by the TSC that the processor has
 * then: of a machine that has just been restored, one that begins at 0. */
static int set_deadline(struct kvm_cpu *c) {
    uint64_t value = c->deadline;

    c->deadline = 0;
    return !value || kvm_one_msr(c, KVM_SET_MSRS, KVM_MSR_TSC_DEADLINE, &value) >= 0 ? 0 : -EIO;
}

/*
 * The guest's TSC runs at another rate than the host's, which the host's processors do by
 * multiplication (4.55 KVM_SET_TSC_KHZ); how exactly only they know. So the sum that is still to be
 * added is found by reading it, once for all processors: between them there is no difference at
 * all.
 */
static int find_scaled_offset(struct kvm_cpu *c, struct clock *clock, uint64_t *ret_offset) {
    unsigned generation = clock_generation(clock);
    struct kvm_vm *vm = c->vm;
    int r = 0;

    pthread_mutex_lock(&vm->lock);
    if (!vm->scaled.done || vm->scaled.generation != generation) {
        uint64_t before, host = 0;

        r = set_offset(c, 0);
        before = clock_tsc(clock);
        if (r == 0 && kvm_one_msr(c, KVM_GET_MSRS, MSR_TSC, &host) != 1)
            r = -EIO;
        if (r == 0) {
            vm->scaled.offset = before + (clock_tsc(clock) - before) / 2 - host;
            vm->scaled.generation = generation;
            vm->scaled.done = true;
        }
    }
    *ret_offset = vm->scaled.offset;
    pthread_mutex_unlock(&vm->lock);
    return r;
}

static int follow_scaled(struct kvm_cpu *c, struct clock *clock) {
    unsigned long khz = (unsigned long)((clock_tsc_hz(clock) + 500) / 1000);
    uint64_t offset;

    if (!c->vm->scaled.can || ioctl(c->fd, KVM_SET_TSC_KHZ, khz) < 0 ||
        find_scaled_offset(c, clock, &offset) < 0 || set_offset(c, offset + get_adjust(c)) < 0)
        return error_set(&c->cpu.error, -ENOTSUP,
                         "processor %u: the guest's TSC does not run at the rate of this host's, "
                         "which KVM cannot change; use --cpu soft",
                         c->cpu.config.index);
    return 0;
}

static int follow_host(struct kvm_cpu *c, struct clock *clock, uint64_t offset) {
    if (set_offset(c, offset + get_adjust(c)) < 0 &&
        set_tsc(c, clock_tsc(clock) + get_adjust(c)) < 0)
        return -EIO;
    return 0;
}

int kvm_follow_clock(struct kvm_cpu *c) {
    struct clock *clock = c->cpu.config.bus.clock;
    struct kvm_clock_data now = {0};
    uint64_t offset;
    bool scaled;

    if (!clock)
        return 0;
    scaled = !clock_tsc_offset(clock, &offset);
    if (scaled)
        offset = clock_generation(clock);
    if (c->clocked && c->clock_offset == offset)
        return set_deadline(c);
    if ((scaled ? follow_scaled(c, clock) : follow_host(c, clock, offset)) < 0)
        return -EIO;
    now.clock = clock_now(clock);
    if (c->cpu.config.index == 0 && ioctl(c->vm->fd, KVM_SET_CLOCK, &now) < 0)
        return error_set(&c->cpu.error, -errno, "KVM refuses the machine's clock: %s",
                         strerror(errno));
    c->clocked = true;
    c->clock_offset = offset;
    return set_deadline(c);
}
