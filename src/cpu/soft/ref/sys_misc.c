/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rest of the system instructions: CPUID, time stamps, random numbers, FS and GS bases,
 * hypercalls, cache control, rights to ports; and the binder that tries all groups. Source: Intel
 * SDM vol. 2; vol. 1 18.5.2 (I/O permission bitmap); hypercalls: Linux
 * Documentation/virt/kvm/x86/hypercalls.rst.
 */
#include <errno.h>
#include <sys/random.h>

#include "cpu/soft/ref/pv.h"
#include "cpu/soft/ref/sys.h"

enum { SRC_MEM = 0x80 };

static void cpuid(struct ref *c, const struct ref_op *o) {
    uint32_t out[4];

    sys_serialize(c);
    cpu_cpuid(&c->cpu, &c->s, (uint32_t)c->r[X86_RAX], (uint32_t)c->r[X86_RCX], out);
    c->r[X86_RAX] = out[0];
    c->r[X86_RBX] = out[1];
    c->r[X86_RCX] = out[2];
    c->r[X86_RDX] = out[3];
    ref_end_linked(c, o);
}

/* ------------------------------------------------------------------ time stamps */

static void rdtsc(struct ref *c, const struct ref_op *o) {
    uint64_t tsc;

    if (REF_UNLIKELY((c->s.cr4 & X86_CR4_TSD) && c->cpl))
        ref_raise_error(c, o, X86_GP, 0);
    tsc = sys_tsc(c);
    c->r[X86_RAX] = (uint32_t)tsc;
    c->r[X86_RDX] = tsc >> 32;
    REF_NEXT(c, o);
}

static void rdtscp(struct ref *c, const struct ref_op *o) {
    uint64_t tsc;

    if (REF_UNLIKELY((c->s.cr4 & X86_CR4_TSD) && c->cpl))
        ref_raise_error(c, o, X86_GP, 0);
    tsc = sys_tsc(c);
    c->r[X86_RAX] = (uint32_t)tsc;
    c->r[X86_RDX] = tsc >> 32;
    c->r[X86_RCX] = (uint32_t)c->s.tsc_aux;
    REF_NEXT(c, o);
}

static void rdpid(struct ref *c, const struct ref_op *o) {
    c->r[o->dst] = (uint32_t)c->s.tsc_aux;
    REF_NEXT(c, o);
}

/* ------------------------------------------------------------------ random numbers */

static void rdrand(struct ref *c, const struct ref_op *o) {
    uint64_t v = 0;
    bool ok;

    do {
        ok = getrandom(&v, sizeof(v), 0) == (ssize_t)sizeof(v);
    } while (!ok && errno == EINTR);
    ref_set_reg(c, o->dst, o->size, ok ? v : 0);
    c->af = ok ? 0x100 : 0; /* CF tells success, the others are 0 */
    REF_NEXT(c, o);
}

/* ------------------------------------------------------------------ FS and GS bases */

static void check_fsgsbase(struct ref *c, const struct ref_op *o) {
    if (!(c->s.cr4 & X86_CR4_FSGSBASE))
        ref_raise(c, o, X86_UD);
}

static void rd_base(struct ref *c, const struct ref_op *o) {
    check_fsgsbase(c, o);
    ref_set_reg(c, o->dst, o->size, c->s.seg[o->aux].base);
    REF_NEXT(c, o);
}

static void wr_base(struct ref *c, const struct ref_op *o) {
    uint64_t v = o->size == 8 ? c->r[o->dst] : (uint32_t)c->r[o->dst];

    check_fsgsbase(c, o);
    if (!sys_canonical(v))
        ref_raise_error(c, o, X86_GP, 0);
    c->s.seg[o->aux].base = v;
    REF_NEXT(c, o);
}

/* ------------------------------------------------------------------ hypercalls */

/* Number in RAX, arguments in RBX, RCX, RDX and RSI, result in RAX. */
static void hypercall(struct ref *c, const struct ref_op *o) {
    enum { KVM_ENOSYS = 1000, KVM_EPERM = EPERM };
    static const uint8_t in[4] = {X86_RBX, X86_RCX, X86_RDX, X86_RSI};
    struct cpu_bus *bus = &c->cpu.config.bus;
    uint64_t nr = c->r[X86_RAX], arg[4];
    bool code64 = sys_code64(c);
    int64_t result;

    if (c->cpu.config.no_hypervisor)
        ref_raise(c, o, X86_UD);
    for (unsigned i = 0; i < 4; i++)
        arg[i] = code64 ? c->r[in[i]] : (uint32_t)c->r[in[i]];
    if (c->cpl) {
        result = -KVM_EPERM;
    } else if (!bus->hypercall) {
        result = -KVM_ENOSYS;
    } else {
        ref_pv_settle(c);
        ref_bus_begin(c);
        result = bus->hypercall(bus->opaque, code64 ? nr : (uint32_t)nr, arg, code64);
        ref_bus_end(c);
    }
    c->r[X86_RAX] = code64 ? (uint64_t)result : (uint32_t)result;
    ref_end_linked(c, o);
}

/* ------------------------------------------------------------------ caches */

/* Memory is coherent with everything: only the access rights matter. */
static void flush_line(struct ref *c, const struct ref_op *o) {
    ref_load8(c, o, ref_lin(c, o, 1, false));
    REF_NEXT(c, o);
}

static void flush_caches(struct ref *c, const struct ref_op *o) { ref_end_linked(c, o); }

static void prefetch(struct ref *c, const struct ref_op *o) { REF_NEXT(c, o); }

/* No performance counters: neither CR4.PCE nor an index makes one. */
static void rdpmc(struct ref *c, const struct ref_op *o) { ref_raise_error(c, o, X86_GP, 0); }

/* ------------------------------------------------------------------ rights to ports */

void ref_check_io(struct ref *c, const struct ref_op *o, uint16_t port, unsigned size) {
    const struct x86_segment *tr = &c->s.tr;
    unsigned type = DESC_TYPE(tr->attr);
    uint32_t at, bits;

    if (REF_UNLIKELY((c->mode & REF_MODE_STEP) && (c->s.cr4 & X86_CR4_DE)))
        ref_watch_io(c, port, size);
    if (!(c->s.cr0 & X86_CR0_PE) || (c->cpl <= sys_iopl(c) && !sys_v86(c)))
        return;
    if ((tr->attr & X86_ATTR_UNUSABLE) || (type != DESC_TSS32 && type != DESC_TSS32_BUSY) ||
        tr->limit < 0x67)
        ref_raise_error(c, o, X86_GP, 0);
    at = (uint32_t)ref_load_sys(c, o, tr->base + 0x66, 2) + port / 8;
    if (at + 1 > tr->limit) /* two bytes are read always */
        ref_raise_error(c, o, X86_GP, 0);
    bits = (uint32_t)ref_load_sys(c, o, tr->base + at, 2) >> (port & 7);
    if (bits & ((1u << size) - 1))
        ref_raise_error(c, o, X86_GP, 0);
}

/* ------------------------------------------------------------------ binding */

static void bind_base(const struct insn *in, struct ref_op *o, unsigned seg, bool write) {
    o->dst = in->rm;
    o->aux = (uint8_t)seg;
    o->size = in->opsize == 8 ? 8 : 4;
    o->fn = write ? wr_base : rd_base;
}

bool sys_bind_misc(struct ref *c, const struct insn *in, struct ref_op *o) {
    switch (in->row->id) {
    case INSN_CPUID:
        o->fn = cpuid;
        return true;
    case INSN_RDTSC:
        o->fn = rdtsc;
        return true;
    case INSN_RDTSCP:
        o->fn = rdtscp;
        return true;
    case INSN_RDPID:
        o->fn = rdpid;
        return true;
    case INSN_RDRAND:
    case INSN_RDSEED:
        o->fn = rdrand;
        return true;
    case INSN_RDFSBASE:
        bind_base(in, o, SEG_FS, false);
        return true;
    case INSN_RDGSBASE:
        bind_base(in, o, SEG_GS, false);
        return true;
    case INSN_WRFSBASE:
        bind_base(in, o, SEG_FS, true);
        return true;
    case INSN_WRGSBASE:
        bind_base(in, o, SEG_GS, true);
        return true;
    case INSN_VMCALL:
    case INSN_VMMCALL:
        o->fn = hypercall;
        return true;
    case INSN_CLFLUSH:
    case INSN_CLFLUSHOPT:
    case INSN_CLWB:
        o->fn = flush_line;
        return true;
    case INSN_WBINVD:
    case INSN_INVD:
        o->fn = flush_caches;
        return true;
    case INSN_PREFETCH:
    case INSN_PREFETCHW:
    case INSN_PREFETCHWT1:
    case INSN_PREFETCHNTA:
    case INSN_PREFETCHT0:
    case INSN_PREFETCHT1:
    case INSN_PREFETCHT2:
        o->fn = prefetch;
        return true;
    case INSN_RDPMC:
        o->fn = rdpmc;
        return true;
    case INSN_UD0:
    case INSN_UD1:
    case INSN_UD2:
        o->fn = ref_op_ud;
        return true;
    case INSN_RSM:
        o->fn = ref_op_rsm;
        return true;
    default:
        return false;
    }
}

bool ref_bind_sys(struct ref *c, const struct insn *in, struct ref_op *o) {
    struct ref_op before = *o;

    o->aux = in->mem ? SRC_MEM : 0;
    o->size = in->opsize;
    o->dst = in->reg;
    o->src = in->rm;
    o->imm = in->imm;
    if (in->mem)
        ref_set_mem(c, in, o);
    if (in->row->id == INSN_RDRAND || in->row->id == INSN_RDSEED || in->row->id == INSN_RDPID)
        o->dst = in->rm;
    if (sys_bind_flags(c, in, o) || sys_bind_misc(c, in, o) || sys_bind_msr(c, in, o) ||
        sys_bind_control(c, in, o) || sys_bind_seg(c, in, o))
        return true;
    *o = before;
    return false;
}
