/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What CPUID says under KVM: the model's leaves (cpu/cpuid.h), less the features that this KVM
 * cannot give (4.46 KVM_GET_SUPPORTED_CPUID).
 *
 * Calls (main): ioctl:KVM_SET_CPUID2
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "cpu/cpuid.h"
#include "cpu/kvm/kvm.h"

enum { EAX, EBX, ECX, EDX };

/* Where the words of features are (enum cpuid_word); the bits in `ours` are there whatever KVM says
 * of them. */
static const struct {
    uint32_t leaf, subleaf, reg, ours;
} words[CPUID_WORDS] = {
    /* TSC deadline: by KVM's LAPIC; OSXSAVE; guest */
    [CPUID_1_ECX] = {1, 0, ECX, 1u << 24 | 1u << 27 | 1u << 31},
    [CPUID_1_EDX] = {1, 0, EDX, 1u << 28}, /* HTT: the number of processors is ours */
    [CPUID_6_EAX] = {6, 0, EAX, 1u << 2},  /* ARAT: the LAPIC's timer never stops */
    [CPUID_7_EBX] = {7, 0, EBX, 0},
    [CPUID_7_ECX] = {7, 0, ECX, 0},
    [CPUID_7_EDX] = {7, 0, EDX, 0},
    [CPUID_7_1_EAX] = {7, 1, EAX, 0},
    [CPUID_7_2_EDX] = {7, 2, EDX, 0},
    [CPUID_D_1_EAX] = {0xd, 1, EAX, 0},
    [CPUID_81_ECX] = {0x80000001, 0, ECX, 0},
    [CPUID_81_EDX] = {0x80000001, 0, EDX, 0},
    [CPUID_87_EDX] = {0x80000007, 0, EDX, 1u << 8}, /* invariant TSC: our clock checks the host's */
    [CPUID_KVM] = {0x40000001, 0, EAX, 0},
};

/* What has registers that our states do not hold: XSAVE's components from 3 on, their XCR0 and XSS,
 * nested virtualization, and what needs MSRs that the model has not. */
static const struct {
    enum cpuid_word word;
    uint32_t bits;
} uncarried[] = {
    {CPUID_1_ECX, 1u << 5},                                   /* vmx */
    {CPUID_7_EBX, 1u << 16 | 1u << 17 | 1u << 21 | 1u << 28}, /* avx512f dq ifma cd */
    {CPUID_7_EBX, 1u << 30 | 1u << 31},                       /* avx512bw vl */
    {CPUID_7_EBX, 1u << 4 | 1u << 11},                        /* hle rtm: TSX_CTRL */
    {CPUID_7_ECX, 1u << 1 | 1u << 3 | 1u << 5 | 1u << 6},     /* avx512vbmi pku waitpkg vbmi2 */
    {CPUID_7_ECX, 1u << 7 | 1u << 11 | 1u << 12 | 1u << 14},  /* user_shstk, avx512 */
    {CPUID_7_EDX, 1u << 8 | 1u << 20 | 1u << 23},             /* vp2intersect ibt avx512_fp16 */
    {CPUID_7_EDX, 1u << 22 | 1u << 24 | 1u << 25},            /* amx */
    {CPUID_7_1_EAX, 1u << 5 | 1u << 21},                      /* avx512_bf16 amx_fp16 */
    {CPUID_D_1_EAX, 1u << 4},                                 /* xfd */
    {CPUID_81_ECX, 1u << 2},                                  /* svm */
};

static const struct kvm_cpuid_entry2 *supported(const struct kvm_vm *vm, uint32_t leaf,
                                                uint32_t subleaf) {
    for (unsigned i = 0; i < vm->supported->nent; i++) {
        const struct kvm_cpuid_entry2 *e = &vm->supported->entries[i];

        if (e->function == leaf &&
            (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == subleaf))
            return e;
    }
    return NULL;
}

/*
 * Our models are Intel's, so guests call with VMCALL. On other hosts, where that is another
 * instruction, KVM would write theirs over it, which a guest that protects its code takes for a
 * fault of its own (KVM_X86_QUIRK_FIX_HYPERCALL_INSN): there it has no calls.
 */
static bool is_intel(const struct kvm_vm *vm) {
    const struct kvm_cpuid_entry2 *s = supported(vm, 0, 0);

    return s && s->ebx == 0x756e6547 && s->edx == 0x49656e69 && s->ecx == 0x6c65746e;
}

void kvm_find_lacks(struct kvm_vm *vm) {
    for (unsigned i = 0; i < CPUID_WORDS; i++) {
        const struct kvm_cpuid_entry2 *s = supported(vm, words[i].leaf, words[i].subleaf);
        uint32_t can = s ? (const uint32_t[]){s->eax, s->ebx, s->ecx, s->edx}[words[i].reg] : 0;

        vm->less[i] = ~(can | words[i].ours);
    }
    for (unsigned i = 0; i < sizeof(uncarried) / sizeof(uncarried[0]); i++)
        vm->less[uncarried[i].word] |= uncarried[i].bits;
    if (!is_intel(vm))
        vm->less[CPUID_KVM] |= CPUID_KVM_CALLS;
}

static void add(struct kvm_cpu *c, struct kvm_cpuid2 *table, uint32_t leaf, uint32_t subleaf,
                bool indexed) {
    struct kvm_cpuid_entry2 *e = &table->entries[table->nent];
    struct x86_state s = {0};
    uint32_t out[4];

    if (table->nent == KVM_LEAVES)
        return;
    cpu_cpuid(&c->cpu, &s, leaf, subleaf, out);
    *e = (struct kvm_cpuid_entry2){.function = leaf,
                                   .index = subleaf,
                                   .flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
                                   .eax = out[EAX],
                                   .ebx = out[EBX],
                                   .ecx = out[ECX],
                                   .edx = out[EDX]};
    table->nent++;
}

static unsigned subleaves(uint32_t leaf) {
    switch (leaf) {
    case 4:
        return 5;
    case 7:
        return 3;
    case 0xb:
        return 3;
    case 0xd:
        return 9; /* KVM_GET_XSAVE's components, and the two first ones */
    default:
        return 0;
    }
}

static void add_range(struct kvm_cpu *c, struct kvm_cpuid2 *table, uint32_t first) {
    struct x86_state s = {0};
    uint32_t out[4];

    cpu_cpuid(&c->cpu, &s, first, 0, out);
    for (uint32_t leaf = first; leaf <= out[EAX]; leaf++) {
        add(c, table, leaf, 0, subleaves(leaf));
        for (unsigned i = 1; i < subleaves(leaf); i++)
            add(c, table, leaf, i, true);
    }
}

int kvm_set_cpuid(struct kvm_cpu *c, struct error *err) {
    struct kvm_cpuid2 *table =
        calloc(1, sizeof(*table) + KVM_LEAVES * sizeof(struct kvm_cpuid_entry2));
    int r;

    if (!table)
        return error_set(err, -ENOMEM, "KVM: out of memory");
    add_range(c, table, 0);
    if (!c->cpu.config.no_hypervisor)
        add_range(c, table, 0x40000000);
    add_range(c, table, 0x80000000);
    r = ioctl(c->fd, KVM_SET_CPUID2, table) < 0 ? -errno : 0;
    free(table);
    return r < 0 ? error_set(err, r,
                             "KVM refuses the processor model '%s': %s; choose another one "
                             "(--cpu-model), or use --cpu soft",
                             cpuid_model_name(&c->cpu.config), strerror(-r))
                 : 0;
}
