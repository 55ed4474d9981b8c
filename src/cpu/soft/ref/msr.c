/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Model-specific registers, and the clock page of the paravirtual interface.
 * Source: Intel SDM vol. 4 chapter 2; vol. 3A 11.11 (MTRRs), 11.12 (PAT), 17.17 (TSC); the KVM MSRs
 * as Linux documents them (Documentation/virt/kvm/x86/msr.rst).
 *
 * One table. What is not in it raises #GP, which guests expect of registers they probe.
 *
 * Departures: IA32_DEBUGCTL accepts LBR and BTF and forgets them (a debugger then steps by
 * instruction instead of by branch). SPEC_CTRL and PRED_CMD have nothing to act on: no ring of the
 * guest leaves traces in predictors that another can read.
 */
#include <stddef.h>
#include <time.h>

#include "base/trace.h"
#include "cpu/cpuid.h"
#include "cpu/msr.h"
#include "cpu/soft/ref/pv.h"
#include "cpu/soft/ref/sys.h"

enum {
    MSR_TSC = 0x10,
    MSR_TSC_ADJUST = 0x3b,
    MSR_TSC_DEADLINE = 0x6e0,
    MSR_X2APIC = 0x800,
    MSR_EFER = 0xc0000080u,
    MSR_FS_BASE = 0xc0000100u,
    MSR_GS_BASE = 0xc0000101u,
    MSR_KERNEL_GS_BASE = 0xc0000102u,
};

uint64_t sys_tsc(struct ref *c) {
    struct clock *clock = c->cpu.config.bus.clock;

    return (clock ? clock_tsc(clock) : c->insns) + c->s.tsc_adjust;
}

/* ------------------------------------------------------------------ pvclock */

struct scale {
    uint32_t mul;
    int8_t shift;
};

/* ns = (ticks << shift) * mul >> 32 with the greatest mul that fits. */
static struct scale scale_of(uint64_t hz) {
    uint64_t ns = 1000000000, ticks = hz ? hz : 1000000000;
    struct scale s = {0, 0};

    while (ticks > ns * 2) {
        ticks >>= 1;
        s.shift--;
    }
    while (ticks <= ns) {
        ticks <<= 1;
        s.shift++;
    }
    s.mul = (uint32_t)((ns << 32) / ticks);
    return s;
}

static uint64_t to_ns(const struct scale *s, uint64_t ticks) {
    ticks = s->shift < 0 ? ticks >> -s->shift : ticks << s->shift;
    return (uint64_t)((unsigned __int128)ticks * s->mul >> 32);
}

struct pvclock {
    uint32_t version, pad0;
    uint64_t tsc_timestamp, system_time;
    uint32_t mul;
    int8_t shift;
    uint8_t flags, pad[2];
};

/*
 * The time is a function of the TSC alone, so that the pages of all processors describe one line
 * and the guest may rely on the "stable" flag.
 */
void ref_pvclock_update(struct ref *c) {
    struct mem *mem = c->cpu.config.bus.mem;
    struct clock *clock = c->cpu.config.bus.clock;
    gpa addr = c->s.kvmclock_system & ~1ull;
    struct pvclock page = {0};
    struct scale s;

    if (!(c->s.kvmclock_system & 1) || !clock || mem_read(mem, addr, &page, sizeof(page)) < 0)
        return;
    s = scale_of(clock_tsc_hz(clock));
    page.version = (page.version + 1) | 1; /* odd: being written */
    mem_write(mem, addr, &page.version, sizeof(page.version));
    page.tsc_timestamp = clock_tsc(clock);
    page.system_time = to_ns(&s, page.tsc_timestamp);
    page.tsc_timestamp += c->s.tsc_adjust;
    page.mul = s.mul;
    page.shift = s.shift;
    page.flags = 1; /* TSC_STABLE */
    mem_write(mem, addr + 4, &page.pad0, sizeof(page) - 4);
    page.version++;
    mem_write(mem, addr, &page.version, sizeof(page.version));
}

/* The wall-clock time at which the system time was 0. */
static void write_wall_clock(struct ref *c) {
    struct {
        uint32_t version, sec, nsec;
    } page = {0};
    struct mem *mem = c->cpu.config.bus.mem;
    struct clock *clock = c->cpu.config.bus.clock;
    gpa addr = c->s.kvmclock_wall & ~3ull;
    struct timespec now;
    struct scale s;
    uint64_t at;

    if (!addr || !clock || mem_read(mem, addr, &page, 4) < 0)
        return;
    s = scale_of(clock_tsc_hz(clock));
    clock_gettime(CLOCK_REALTIME, &now);
    at = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec - to_ns(&s, clock_tsc(clock));
    page.version = (page.version + 1) | 1;
    mem_write(mem, addr, &page.version, 4);
    page.sec = (uint32_t)(at / 1000000000);
    page.nsec = (uint32_t)(at % 1000000000);
    mem_write(mem, addr + 4, &page.sec, 8);
    page.version++;
    mem_write(mem, addr, &page.version, 4);
}

/* ------------------------------------------------------------------ registers with behaviour */

static bool read_zero(struct ref *c, uint32_t msr, uint64_t *v) {
    *v = 0;
    return true;
}

static bool write_ignored(struct ref *c, uint32_t msr, uint64_t v) { return true; }

static bool never_write(struct ref *c, uint32_t msr, uint64_t v) { return false; }

static bool never_read(struct ref *c, uint32_t msr, uint64_t *v) { return false; }

static bool write_zero_only(struct ref *c, uint32_t msr, uint64_t v) { return v == 0; }

static bool write_pred_cmd(struct ref *c, uint32_t msr, uint64_t v) {
    return v <= 1; /* IBPB: nothing to forget */
}

static bool read_tsc(struct ref *c, uint32_t msr, uint64_t *v) {
    *v = sys_tsc(c);
    return true;
}

/* A write moves TSC_ADJUST by as much as the TSC (SDM vol. 3A 17.17.3). */
static bool write_tsc(struct ref *c, uint32_t msr, uint64_t v) {
    c->s.tsc_adjust += v - sys_tsc(c);
    ref_pvclock_update(c);
    return true;
}

static bool write_tsc_adjust(struct ref *c, uint32_t msr, uint64_t v) {
    c->s.tsc_adjust = v;
    ref_pvclock_update(c);
    return true;
}

static bool read_bus(struct ref *c, uint32_t msr, uint64_t *v) {
    struct cpu_bus *bus = &c->cpu.config.bus;

    int r;

    if (!bus->msr_read)
        return false;
    ref_pv_settle(c);
    ref_bus_begin(c);
    r = bus->msr_read(bus->opaque, msr, v);
    ref_bus_end(c);
    return r == 0;
}

static bool write_bus(struct ref *c, uint32_t msr, uint64_t v) {
    struct cpu_bus *bus = &c->cpu.config.bus;

    int r;

    if (!bus->msr_write)
        return false;
    ref_pv_settle(c);
    ref_bus_begin(c);
    r = bus->msr_write(bus->opaque, msr, v);
    ref_bus_end(c);
    return r == 0;
}

static bool read_feature_control(struct ref *c, uint32_t msr, uint64_t *v) {
    *v = 1; /* locked, VMX off */
    return true;
}

static bool read_microcode(struct ref *c, uint32_t msr, uint64_t *v) {
    *v = 0x100000000; /* revision 1, as hypervisors report */
    return true;
}

/* Base and maximum ratio in units of 100 MHz; no programmable limits. */
static bool read_platform_info(struct ref *c, uint32_t msr, uint64_t *v) {
    struct clock *clock = c->cpu.config.bus.clock;
    uint64_t ratio = (clock ? clock_tsc_hz(clock) : 1000000000) / 100000000 & 0xff;

    *v = ratio << 8 | ratio << 40;
    return true;
}

static bool read_perf_status(struct ref *c, uint32_t msr, uint64_t *v) {
    uint64_t info;

    read_platform_info(c, msr, &info);
    *v = info & 0xff00;
    return true;
}

static bool read_mtrrcap(struct ref *c, uint32_t msr, uint64_t *v) {
    *v = 0x508; /* 8 variable ranges, fixed ranges, write-combining */
    return true;
}

/*
 * RDCL_NO IBRS_ALL SKIP_L1DFL_VMENTRY SSB_NO MDS_NO PSCHANGE_MC_NO TAA_NO SBDR_SSDP_NO FBSDP_NO
 * PSDP_NO BHI_NO PBRSB_NO GDS_NO RFDS_NO ITS_NO: all true of a processor that does not speculate
 * across guest rings, and they spare the guest page-table isolation, retpolines and buffer flushes.
 */
static bool read_arch_capabilities(struct ref *c, uint32_t msr, uint64_t *v) {
    *v = 1ull << 0 | 1ull << 1 | 1ull << 3 | 1ull << 4 | 1ull << 5 | 1ull << 6 | 1ull << 8 |
         1ull << 13 | 1ull << 14 | 1ull << 15 | 1ull << 20 | 1ull << 24 | 1ull << 26 | 1ull << 27 |
         1ull << 62;
    return true;
}

static bool memory_type(uint64_t t) { return t == 0 || t == 1 || t == 4 || t == 5 || t == 6; }

static bool write_pat(struct ref *c, uint32_t msr, uint64_t v) {
    for (unsigned i = 0; i < 64; i += 8)
        if (!memory_type(v >> i & 0xff) && (v >> i & 0xff) != 7)
            return false;
    c->s.pat = v;
    return true;
}

static bool write_mtrr_def(struct ref *c, uint32_t msr, uint64_t v) {
    if ((v & ~0xcffull) || !memory_type(v & 0xff))
        return false;
    c->s.mtrr_def_type = v;
    return true;
}

static bool read_mtrr_var(struct ref *c, uint32_t msr, uint64_t *v) {
    unsigned i = (msr - 0x200) / 2;

    *v = msr & 1 ? c->s.mtrr_mask[i] : c->s.mtrr_base[i];
    return true;
}

static bool write_mtrr_var(struct ref *c, uint32_t msr, uint64_t v) {
    unsigned i = (msr - 0x200) / 2;

    if (msr & 1) {
        if (v & (CPUID_PHYS_RESERVED | 0x7ff))
            return false;
        c->s.mtrr_mask[i] = v;
    } else {
        if ((v & (CPUID_PHYS_RESERVED | 0xf00)) || !memory_type(v & 0xff))
            return false;
        c->s.mtrr_base[i] = v;
    }
    return true;
}

static unsigned mtrr_fixed_index(uint32_t msr) {
    return msr == 0x250 ? 0 : msr < 0x268 ? msr - 0x258 + 1 : msr - 0x268 + 3;
}

static bool read_mtrr_fixed(struct ref *c, uint32_t msr, uint64_t *v) {
    *v = c->s.mtrr_fixed[mtrr_fixed_index(msr)];
    return true;
}

static bool write_mtrr_fixed(struct ref *c, uint32_t msr, uint64_t v) {
    for (unsigned i = 0; i < 64; i += 8)
        if (!memory_type(v >> i & 0xff))
            return false;
    c->s.mtrr_fixed[mtrr_fixed_index(msr)] = v;
    return true;
}

static bool write_efer(struct ref *c, uint32_t msr, uint64_t v) {
    const uint64_t settable = X86_EFER_SCE | X86_EFER_LME | X86_EFER_NXE;
    uint64_t changed = v ^ c->s.efer;

    if (v & ~(settable | X86_EFER_LMA))
        return false;
    if ((changed & X86_EFER_LME) && (c->s.cr0 & X86_CR0_PG))
        return false;
    c->s.efer = (v & settable) | (c->s.efer & X86_EFER_LMA);
    if (changed & X86_EFER_NXE)
        ref_tlb_flush(c);
    ref_update_mode(c);
    return true;
}

static bool write_kvm_system(struct ref *c, uint32_t msr, uint64_t v) {
    if (c->cpu.config.no_hypervisor)
        return false;
    c->s.kvmclock_system = v;
    ref_pvclock_update(c);
    return true;
}

static bool write_kvm_wall(struct ref *c, uint32_t msr, uint64_t v) {
    if (c->cpu.config.no_hypervisor)
        return false;
    c->s.kvmclock_wall = v;
    write_wall_clock(c);
    return true;
}

/* ------------------------------------------------------------------ the table */

struct msr {
    uint32_t first, last;
    bool (*read)(struct ref *c, uint32_t msr, uint64_t *v); /* NULL: the field */
    bool (*write)(struct ref *c, uint32_t msr, uint64_t v); /* NULL: the field, after the checks */
    uint16_t field;                                         /* in struct x86_state */
    uint64_t reserved; /* bits that must be 0 in a write to the field */
    bool canonical;
};

#define FIELD(n, m, res)                                                                           \
    { .first = n, .last = n, .field = offsetof(struct x86_state, m), .reserved = res }
#define LINEAR(n, m)                                                                               \
    { .first = n, .last = n, .field = offsetof(struct x86_state, m), .canonical = true }
#define BOTH(n, r, w)                                                                              \
    { .first = n, .last = n, .read = r, .write = w }
/* A field that is read as it is; w does the write. */
#define WRITTEN(n, w, m)                                                                           \
    { .first = n, .last = n, .write = w, .field = offsetof(struct x86_state, m) }
#define RANGE(n, n2, r, w)                                                                         \
    { .first = n, .last = n2, .read = r, .write = w }
#define HIGH32 0xffffffff00000000ull

static const struct msr msrs[] = {
    LINEAR(MSR_FS_BASE, seg[SEG_FS].base),
    LINEAR(MSR_GS_BASE, seg[SEG_GS].base),
    LINEAR(MSR_KERNEL_GS_BASE, kernel_gs_base),
    BOTH(MSR_TSC_DEADLINE, read_bus, write_bus),
    RANGE(MSR_X2APIC, 0x8ff, read_bus, write_bus),
    RANGE(0x0, 0x1, read_zero, write_ignored), /* P5_MC_ADDR, P5_MC_TYPE */
    BOTH(MSR_TSC, read_tsc, write_tsc),
    BOTH(0x11, NULL, write_kvm_wall), /* old numbers of the KVM clock */
    BOTH(0x12, NULL, write_kvm_system),
    BOTH(0x17, read_zero, never_write), /* PLATFORM_ID */
    BOTH(0x1b, read_bus, write_bus),    /* APIC_BASE */
    BOTH(0x34, read_zero, never_write), /* SMI_COUNT */
    BOTH(0x3a, read_feature_control, never_write),
    WRITTEN(MSR_TSC_ADJUST, write_tsc_adjust, tsc_adjust),
    FIELD(0x48, spec_ctrl, ~0x407ull), /* IBRS STIBP SSBD BHI_DIS_S */
    BOTH(0x49, never_read, write_pred_cmd),
    BOTH(0x79, never_read, write_ignored), /* BIOS_UPDT_TRIG */
    BOTH(0x8b, read_microcode, write_ignored),
    BOTH(0xce, read_platform_info, never_write),
    BOTH(0xfe, read_mtrrcap, never_write),
    BOTH(0x10a, read_arch_capabilities, never_write),
    BOTH(0x140, read_zero, write_zero_only), /* MISC_FEATURES_ENABLES */
    FIELD(0x174, sysenter_cs, HIGH32),
    LINEAR(0x175, sysenter_esp),
    LINEAR(0x176, sysenter_eip),
    BOTH(0x179, read_zero, never_write),     /* MCG_CAP: no banks */
    BOTH(0x17a, read_zero, write_zero_only), /* MCG_STATUS */
    BOTH(0x198, read_perf_status, never_write),
    BOTH(0x199, read_zero, write_ignored), /* PERF_CTL */
    FIELD(0x1a0, misc_enable, ~0x11889ull),
    RANGE(0x1d9, 0x1d9, read_zero, write_ignored), /* DEBUGCTL */
    RANGE(0x200, 0x20f, read_mtrr_var, write_mtrr_var),
    BOTH(0x250, read_mtrr_fixed, write_mtrr_fixed),
    RANGE(0x258, 0x259, read_mtrr_fixed, write_mtrr_fixed),
    RANGE(0x268, 0x26f, read_mtrr_fixed, write_mtrr_fixed),
    WRITTEN(0x277, write_pat, pat),
    WRITTEN(0x2ff, write_mtrr_def, mtrr_def_type),
    FIELD(0xda0, xss, ~0ull),
    WRITTEN(0x4b564d00, write_kvm_wall, kvmclock_wall),
    WRITTEN(0x4b564d01, write_kvm_system, kvmclock_system),
    WRITTEN(0x4b564d03, ref_pv_write_steal, kvm_steal),
    WRITTEN(0x4b564d04, ref_pv_write_eoi, kvm_eoi),
    WRITTEN(MSR_EFER, write_efer, efer),
    FIELD(0xc0000081u, star, 0),
    LINEAR(0xc0000082u, lstar),
    LINEAR(0xc0000083u, cstar),
    FIELD(0xc0000084u, sfmask, HIGH32),
    FIELD(0xc0000103u, tsc_aux, HIGH32),
};

static const struct msr *find_msr(uint32_t n) {
    for (unsigned i = 0; i < sizeof(msrs) / sizeof(msrs[0]); i++)
        if (n >= msrs[i].first && n <= msrs[i].last)
            return &msrs[i];
    return NULL;
}

bool cpu_has_msr(uint32_t n) { return find_msr(n); }

bool sys_read_msr(struct ref *c, uint32_t n, uint64_t *ret_value) {
    const struct msr *m = find_msr(n);

    if (!m)
        return false;
    if (m->read)
        return m->read(c, n, ret_value);
    memcpy(ret_value, (const uint8_t *)&c->s + m->field, 8);
    return true;
}

bool sys_write_msr(struct ref *c, uint32_t n, uint64_t value) {
    const struct msr *m = find_msr(n);

    if (!m)
        return false;
    if (m->write)
        return m->write(c, n, value);
    if ((value & m->reserved) || (m->canonical && !sys_canonical(value)))
        return false;
    memcpy((uint8_t *)&c->s + m->field, &value, 8);
    return true;
}

/* ------------------------------------------------------------------ RDMSR, WRMSR */

static void rdmsr(struct ref *c, const struct ref_op *o) {
    uint32_t n = (uint32_t)c->r[X86_RCX];
    uint64_t v = 0;

    if (!sys_read_msr(c, n, &v)) {
        trace(ref_rdmsr_unknown, n);
        ref_raise_error(c, o, X86_GP, 0);
    }
    trace(ref_rdmsr, n, v);
    c->r[X86_RAX] = (uint32_t)v;
    c->r[X86_RDX] = v >> 32;
    REF_NEXT(c, o);
}

static void wrmsr(struct ref *c, const struct ref_op *o) {
    uint32_t n = (uint32_t)c->r[X86_RCX];
    uint64_t v = (uint32_t)c->r[X86_RAX] | c->r[X86_RDX] << 32;

    trace(ref_wrmsr, n, v);
    sys_serialize(c);
    if (!sys_write_msr(c, n, v)) {
        trace(ref_wrmsr_refused, n, v);
        ref_raise_error(c, o, X86_GP, 0);
    }
    if (n == MSR_EFER)
        ref_end(c, o);
    else
        ref_end_linked(c, o);
}

bool sys_bind_msr(struct ref *c, const struct insn *in, struct ref_op *o) {
    switch (in->row->id) {
    case INSN_RDMSR:
        o->fn = rdmsr;
        return true;
    case INSN_WRMSR:
        o->fn = wrmsr;
        return true;
    default:
        return false;
    }
}
