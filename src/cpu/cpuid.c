/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPUID: one table of features, four models, and the leaves made from them.
 * Source: Intel SDM vol. 2A, CPUID; x86-64 psABI section 3.1.1 (the levels v1 to v3); the KVM
 * paravirtual leaves as Linux documents them (Documentation/virt/kvm/x86/cpuid.rst).
 *
 * A level of the psABI is a promise about user instructions only. What the system side of this
 * processor implements by itself (PCID, SMEP, x2APIC, RDRAND ...) is in every model, and user
 * features above the level are not. A feature that runs on the host's own CPU is advertised only if
 * the host has it.
 *
 * Departures: no leaf 2 TLB details; leaf 1 EDX.APIC stays set when the guest disables its APIC.
 */
#include "cpu/cpuid.h"

#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "cpu/soft/decode.h"

enum { ECX_OSXSAVE = 1 << 27, ECX_HYPERVISOR = 1u << 31, EDX_HTT = 1 << 28 };
enum { MAX_BASIC = 0x16, MAX_EXTENDED = 0x80000008, KVM_BASE = 0x40000000, KVM_MAX = 0x40000010 };
#define KVM_FEATURES                                                                               \
    (1u << 0 | 1u << 1 | 1u << 3 | 1u << 5 | 1u << 6 | 1u << 9 | CPUID_KVM_CALLS | 1u << 24)
enum { APIC_TIMER_KHZ = 1000000, BUS_MHZ = 100 };

/* ------------------------------------------------------------------ the table */

enum level { ALL, V2, V3, HOST, NEVER };

/* First column: the name in the opcode table's feature column (lower-case names stand in no opcode
 * row). */
struct feature {
    const char *name;
    uint8_t word, bit;
    uint8_t level; /* first model that has it */
    bool host;     /* runs on the host's CPU, which therefore must have it */
};

static const struct feature features[] = {
    {"FPU", CPUID_1_EDX, 0, ALL, false},
    {"de", CPUID_1_EDX, 2, ALL, false},
    {"pse", CPUID_1_EDX, 3, ALL, false},
    {"TSC", CPUID_1_EDX, 4, ALL, false},
    {"MSR", CPUID_1_EDX, 5, ALL, false},
    {"pae", CPUID_1_EDX, 6, ALL, false},
    {"mce", CPUID_1_EDX, 7, ALL, false},
    {"CX8", CPUID_1_EDX, 8, ALL, false},
    {"apic", CPUID_1_EDX, 9, ALL, false},
    {"SEP", CPUID_1_EDX, 11, ALL, false},
    {"mtrr", CPUID_1_EDX, 12, ALL, false},
    {"pge", CPUID_1_EDX, 13, ALL, false},
    {"mca", CPUID_1_EDX, 14, ALL, false},
    {"CMOV", CPUID_1_EDX, 15, ALL, false},
    {"pat", CPUID_1_EDX, 16, ALL, false},
    {"pse36", CPUID_1_EDX, 17, ALL, false},
    {"CLFSH", CPUID_1_EDX, 19, ALL, false},
    {"MMX", CPUID_1_EDX, 23, ALL, true},
    {"FXSR", CPUID_1_EDX, 24, ALL, false},
    {"SSE", CPUID_1_EDX, 25, ALL, true},
    {"SSE2", CPUID_1_EDX, 26, ALL, true},
    {"ss", CPUID_1_EDX, 27, ALL, false},
    {"SSE3", CPUID_1_ECX, 0, V2, true},
    {"PCLMUL", CPUID_1_ECX, 1, HOST, true},
    {"MONITOR", CPUID_1_ECX, 3, NEVER, false},
    {"SSSE3", CPUID_1_ECX, 9, V2, true},
    {"FMA", CPUID_1_ECX, 12, V3, true},
    {"CX16", CPUID_1_ECX, 13, ALL, true},
    {"pcid", CPUID_1_ECX, 17, ALL, false},
    {"SSE41", CPUID_1_ECX, 19, V2, true},
    {"SSE42", CPUID_1_ECX, 20, V2, true},
    {"x2apic", CPUID_1_ECX, 21, ALL, false},
    {"MOVBE", CPUID_1_ECX, 22, V3, true},
    {"POPCNT", CPUID_1_ECX, 23, V2, true},
    {"tsc-deadline", CPUID_1_ECX, 24, ALL, false},
    {"AES", CPUID_1_ECX, 25, HOST, true},
    {"XSAVE", CPUID_1_ECX, 26, V3, false},
    {"AVX", CPUID_1_ECX, 28, V3, true},
    {"F16C", CPUID_1_ECX, 29, V3, true},
    {"RDRAND", CPUID_1_ECX, 30, ALL, false},
    {"arat", CPUID_6_EAX, 2, ALL, false},
    {"FSGSBASE", CPUID_7_EBX, 0, ALL, false},
    {"tsc-adjust", CPUID_7_EBX, 1, ALL, false},
    {"BMI1", CPUID_7_EBX, 3, V3, true},
    {"AVX2", CPUID_7_EBX, 5, V3, true},
    {"fdp-excptn-only", CPUID_7_EBX, 6, ALL, true},
    {"smep", CPUID_7_EBX, 7, ALL, false},
    {"BMI2", CPUID_7_EBX, 8, V3, true},
    {"erms", CPUID_7_EBX, 9, ALL, false},
    {"INVPCID", CPUID_7_EBX, 10, ALL, false},
    {"zero-fcs-fds", CPUID_7_EBX, 13, ALL, true},
    {"RDSEED", CPUID_7_EBX, 18, ALL, false},
    {"ADX", CPUID_7_EBX, 19, HOST, true},
    {"SMAP", CPUID_7_EBX, 20, NEVER, false},
    {"CLFLUSHOPT", CPUID_7_EBX, 23, ALL, false},
    {"CLWB", CPUID_7_EBX, 24, ALL, false},
    {"SHA", CPUID_7_EBX, 29, HOST, true},
    {"umip", CPUID_7_ECX, 2, ALL, false},
    {"PKU", CPUID_7_ECX, 3, NEVER, false},
    {"GFNI", CPUID_7_ECX, 8, HOST, true},
    {"VAES", CPUID_7_ECX, 9, HOST, true},
    {"VPCLMUL", CPUID_7_ECX, 10, HOST, true},
    {"RDPID", CPUID_7_ECX, 22, ALL, false},
    {"fsrm", CPUID_7_EDX, 4, ALL, false},
    {"ibrs", CPUID_7_EDX, 26, ALL, false}, /* and IBPB */
    {"stibp", CPUID_7_EDX, 27, ALL, false},
    {"arch-capabilities", CPUID_7_EDX, 29, ALL, false},
    {"ssbd", CPUID_7_EDX, 31, ALL, false},
    {"AVX_VNNI", CPUID_7_1_EAX, 4, NEVER, true},
    {"bhi-ctrl", CPUID_7_2_EDX, 4, ALL,
     false}, /* Linux clears the branch history by hand without it */
    {"mcdt-no", CPUID_7_2_EDX, 5, ALL, false},
    {"XSAVEOPT", CPUID_D_1_EAX, 0, V3, false},
    {"XSAVEC", CPUID_D_1_EAX, 1, V3, false},
    {"xgetbv1", CPUID_D_1_EAX, 2, V3, false},
    {"XSAVES", CPUID_D_1_EAX, 3, V3, false},
    {"LAHF_LM", CPUID_81_ECX, 0, ALL, false},
    {"LZCNT", CPUID_81_ECX, 5, V3, true},
    {"PREFETCHW", CPUID_81_ECX, 8, ALL, false},
    {"SYSCALL", CPUID_81_EDX, 11, ALL, false},
    {"nx", CPUID_81_EDX, 20, ALL, false},
    {"pdpe1gb", CPUID_81_EDX, 26, ALL, false},
    {"RDTSCP", CPUID_81_EDX, 27, ALL, false},
    {"lm", CPUID_81_EDX, 29, ALL, false},
    {"invariant-tsc", CPUID_87_EDX, 8, ALL, false},
};

enum { FEATURES = sizeof(features) / sizeof(features[0]), MODELS = 4 };

static const struct {
    const char *name, *brand;
    uint8_t level;
} models[MODELS] = {
    {"x86-64-v1", "Vivarium x86-64-v1 virtual processor", ALL},
    {"x86-64-v2", "Vivarium x86-64-v2 virtual processor", V2},
    {"x86-64-v3", "Vivarium x86-64-v3 virtual processor", V3},
    {"host", "Vivarium virtual processor", HOST},
};

/* Worked out once: what each model advertises on this host, and which models the host can execute.
 */
static struct {
    uint32_t word[MODELS][CPUID_WORDS];
    const char *missing[MODELS]; /* a feature of the level that the host lacks, else NULL */
    unsigned preferred;
} known;
static pthread_once_t known_once = PTHREAD_ONCE_INIT;

/* ------------------------------------------------------------------ the host */

static uint64_t host_xcr0(void) {
    uint32_t low, high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low | (uint64_t)high << 32;
}

static void read_host(uint32_t word[CPUID_WORDS]) {
    uint32_t a, b, c, d;

    memset(word, 0, CPUID_WORDS * sizeof(word[0]));
    if (__get_cpuid(1, &a, &b, &c, &d)) {
        word[CPUID_1_ECX] = c;
        word[CPUID_1_EDX] = d;
    }
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        word[CPUID_7_EBX] = b;
        word[CPUID_7_ECX] = c;
        word[CPUID_7_EDX] = d;
        if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d))
            word[CPUID_7_1_EAX] = a;
    }
    if (__get_cpuid(0x80000001, &a, &b, &c, &d)) {
        word[CPUID_81_ECX] = c;
        word[CPUID_81_EDX] = d;
    }
    /* The host's kernel may leave the wide registers off. */
    if (!(word[CPUID_1_ECX] & ECX_OSXSAVE) || (host_xcr0() & 6) != 6) {
        word[CPUID_1_ECX] &= ~(1u << 28 | 1u << 29 | 1u << 12); /* AVX F16C FMA */
        word[CPUID_7_EBX] &= ~(1u << 5);                        /* AVX2 */
        word[CPUID_7_ECX] &= ~(1u << 9 | 1u << 10);             /* VAES VPCLMULQDQ */
    }
}

/* Features that the psABI levels promise; the rest of a level is ours to leave out. */
static bool promised(const struct feature *f) {
    return f->level <= V3 && f->name[0] >= 'A' && f->name[0] <= 'Z';
}

static void learn(void) {
    uint32_t host[CPUID_WORDS];

    read_host(host);
    for (unsigned m = 0; m < MODELS; m++) {
        for (unsigned i = 0; i < FEATURES; i++) {
            const struct feature *f = &features[i];

            if (f->level > models[m].level)
                continue;
            if (!f->host || (host[f->word] >> f->bit & 1))
                known.word[m][f->word] |= 1u << f->bit;
            else if (promised(f) && models[m].level != HOST)
                known.missing[m] = f->name;
        }
        if (models[m].level != HOST && !known.missing[m])
            known.preferred = m;
    }
    /* XSAVE without AVX would only make guests save registers the hard way. */
    if (!(known.word[MODELS - 1][CPUID_1_ECX] >> 28 & 1)) {
        known.word[MODELS - 1][CPUID_1_ECX] &= ~(1u << 26);
        known.word[MODELS - 1][CPUID_D_1_EAX] = 0;
    }
}

/* ------------------------------------------------------------------ models */

static unsigned find_model(const char *name) {
    pthread_once(&known_once, learn);
    if (!name)
        return known.preferred;
    for (unsigned m = 0; m < MODELS; m++)
        if (!strcmp(models[m].name, name))
            return m;
    return MODELS;
}

/* A config whose model was never checked gets the default one. */
static unsigned model_of(const struct cpu_config *config) {
    unsigned m = find_model(config->model);

    return m < MODELS ? m : known.preferred;
}

int cpuid_check_model(const char *name, struct error *err) {
    unsigned m = find_model(name);

    if (m == MODELS)
        return error_set(
            err, -EINVAL,
            "processor model '%s' is not known; use x86-64-v1, x86-64-v2, x86-64-v3 or host", name);
    if (known.missing[m])
        return error_set(err, -EINVAL,
                         "processor model '%s' needs %s, which the host does not have; use %s",
                         name, known.missing[m], models[known.preferred].name);
    return 0;
}

const char *cpuid_model_name(const struct cpu_config *config) {
    return models[model_of(config)].name;
}

uint32_t cpuid_word(const struct cpu_config *config, enum cpuid_word word) {
    uint32_t v = known.word[model_of(config)][word];

    if (word == CPUID_KVM && !config->no_hypervisor)
        v = KVM_FEATURES;
    if (config->less)
        v &= ~config->less[word];
    if (word == CPUID_1_ECX && !config->no_hypervisor)
        v |= ECX_HYPERVISOR;
    if (word == CPUID_1_EDX && config->count > 1)
        v |= EDX_HTT;
    return v;
}

static const char *name_of(enum cpuid_word word, unsigned bit) {
    static const char *const kvm[32] = {
        [0] = "kvmclock-old", [3] = "kvmclock",   [5] = "kvm-steal-time",
        [6] = "kvm-eoi",      [7] = "kvm-kick",   [9] = "kvm-flush",
        [11] = "kvm-ipi",     [13] = "kvm-yield", [24] = "kvmclock-stable"};

    for (unsigned i = 0; i < FEATURES; i++)
        if (features[i].word == word && features[i].bit == bit)
            return features[i].name;
    return word == CPUID_KVM ? kvm[bit] : NULL;
}

void cpuid_print(enum cpuid_word word, uint32_t bits, char *text, size_t size) {
    size_t n = 0;

    if (size)
        *text = '\0';
    for (unsigned bit = 0; bit < 32 && n < size; bit++) {
        const char *name = name_of(word, bit);
        char number[24];

        if (!(bits >> bit & 1))
            continue;
        snprintf(number, sizeof(number), "bit %u of word %u", bit, word);
        n += (size_t)snprintf(text + n, size - n, "%s%s", n ? ", " : "", name ? name : number);
    }
}

static const struct feature *find_feature(const char *name) {
    for (unsigned i = 0; i < FEATURES; i++)
        if (!strcmp(features[i].name, name))
            return &features[i];
    return NULL;
}

bool cpuid_knows(const char *name) { return !strcmp(name, "BASE") || find_feature(name); }

int cpuid_features(const struct cpu_config *config, uint64_t bits[4], struct error *err) {
    int code = cpuid_check_model(config->model, err);

    if (code < 0)
        return code;
    memset(bits, 0, 4 * sizeof(bits[0]));
    bits[FEAT_BASE / 64] |= 1ull << FEAT_BASE % 64;
    for (unsigned i = 0; i < FEAT_COUNT && i < 256; i++) {
        const struct feature *f = find_feature(insn_feature_name(i));

        if (f && (cpuid_word(config, f->word) >> f->bit & 1))
            bits[i / 64] |= 1ull << i % 64;
    }
    return 0;
}

uint64_t cpuid_xcr0(const struct cpu_config *config) {
    uint32_t ecx = cpuid_word(config, CPUID_1_ECX);

    if (!(ecx >> 26 & 1))
        return 1;
    return ecx >> 28 & 1 ? 7 : 3;
}

/* ------------------------------------------------------------------ leaves */

static unsigned log2_up(unsigned n) {
    unsigned bits = 0;

    while (n > 1u << bits && bits < 31)
        bits++;
    return bits;
}

static void leaf_1(const struct cpu *cpu, const struct x86_state *s, uint32_t out[4]) {
    const struct cpu_config *config = &cpu->config;

    out[0] = CPUID_SIGNATURE;
    out[1] = config->index << 24 | (config->count < 255 ? config->count : 255) << 16 | 8 << 8;
    out[2] = cpuid_word(config, CPUID_1_ECX);
    out[3] = cpuid_word(config, CPUID_1_EDX);
    if (s->cr4 & X86_CR4_OSXSAVE)
        out[2] |= ECX_OSXSAVE;
}

/* Caches: fixed, so that a guest does not see them change when it moves. Each processor is a core.
 */
static void leaf_4(const struct cpu_config *config, uint32_t subleaf, uint32_t out[4]) {
    static const struct {
        uint8_t type, level, ways;
        uint16_t sets;
        bool shared;
    } cache[] = {{1, 1, 8, 64, false},
                 {2, 1, 8, 64, false},
                 {3, 2, 16, 2048, false},
                 {3, 3, 16, 32768, true}};
    unsigned cores = (1u << log2_up(config->count ? config->count : 1)) - 1;

    if (subleaf >= sizeof(cache) / sizeof(cache[0]))
        return;
    out[0] = cache[subleaf].type | (uint32_t)cache[subleaf].level << 5 | 1 << 8 |
             (cache[subleaf].shared ? cores & 0xfff : 0) << 14 | (cores & 63) << 26;
    out[1] = 63 | (uint32_t)(cache[subleaf].ways - 1) << 22;
    out[2] = cache[subleaf].sets - 1u;
    out[3] = cache[subleaf].shared ? 4 : 0;
}

static void leaf_7(const struct cpu_config *config, uint32_t subleaf, uint32_t out[4]) {
    if (subleaf == 0) {
        out[0] = 2; /* last subleaf */
        out[1] = cpuid_word(config, CPUID_7_EBX);
        out[2] = cpuid_word(config, CPUID_7_ECX);
        out[3] = cpuid_word(config, CPUID_7_EDX);
    } else if (subleaf == 1) {
        out[0] = cpuid_word(config, CPUID_7_1_EAX);
    } else if (subleaf == 2) {
        out[3] = cpuid_word(config, CPUID_7_2_EDX);
    }
}

/* Topology: one thread a core, all cores in one package. */
static void leaf_b(const struct cpu_config *config, uint32_t subleaf, uint32_t out[4]) {
    unsigned count = config->count ? config->count : 1;

    out[2] = subleaf & 0xff;
    out[3] = config->index;
    if (subleaf == 0) {
        out[1] = 1;
        out[2] |= 1 << 8;
    } else if (subleaf == 1) {
        out[0] = log2_up(count);
        out[1] = count;
        out[2] |= 2 << 8;
    }
}

static void leaf_d(const struct cpu *cpu, const struct x86_state *s, uint32_t subleaf,
                   uint32_t out[4]) {
    enum { LEGACY_AND_HEADER = 576, YMM_SIZE = 256 };
    uint64_t xcr0 = cpuid_xcr0(&cpu->config);

    if (xcr0 == 1)
        return;
    if (subleaf == 0) {
        out[0] = (uint32_t)xcr0;
        out[1] = LEGACY_AND_HEADER + (s->xcr0 & 4 ? YMM_SIZE : 0);
        out[2] = LEGACY_AND_HEADER + (xcr0 & 4 ? YMM_SIZE : 0);
    } else if (subleaf == 1) {
        out[0] = cpuid_word(&cpu->config, CPUID_D_1_EAX);
        out[1] = LEGACY_AND_HEADER + (s->xcr0 & 4 ? YMM_SIZE : 0);
    } else if (subleaf == 2 && (xcr0 & 4)) {
        out[0] = YMM_SIZE;
        out[1] = LEGACY_AND_HEADER;
    }
}

static uint64_t tsc_khz(const struct cpu *cpu) {
    return cpu->config.bus.clock ? (clock_tsc_hz(cpu->config.bus.clock) + 500) / 1000 : 1000000;
}

/*
 * TSC = crystal * EBX / EAX, and guests take the crystal for the APIC timer's clock, here 1 GHz.
 * Linux multiplies kHz by EBX in 32 bits, which bounds EBX; the best fraction within that is good
 * to 0.1 ppm.
 */
static void leaf_15(const struct cpu *cpu, uint32_t out[4]) {
    enum { MAX_NUMERATOR = 4294 };
    uint64_t khz = tsc_khz(cpu), best = UINT64_MAX;

    for (uint64_t den = 1;; den++) {
        uint64_t num = (khz * den + APIC_TIMER_KHZ / 2) / APIC_TIMER_KHZ;
        uint64_t got, wanted = khz * 1000, error;

        if (num > MAX_NUMERATOR || den > MAX_NUMERATOR)
            break;
        got = num * APIC_TIMER_KHZ * 1000 / den;
        error = got > wanted ? got - wanted : wanted - got;
        if (num && error < best) {
            best = error;
            out[0] = (uint32_t)den;
            out[1] = (uint32_t)num;
        }
    }
    if (out[1])
        out[2] = APIC_TIMER_KHZ * 1000u;
}

static void leaf_16(const struct cpu *cpu, uint32_t out[4]) {
    out[0] = out[1] = (uint32_t)((tsc_khz(cpu) + 500) / 1000) & 0xffff;
    out[2] = BUS_MHZ;
}

static void put_text(uint32_t *out, const char *text, size_t at, size_t size) {
    size_t len = strlen(text);

    if (at < len)
        memcpy(out, text + at, len - at < size ? len - at : size);
}

static void leaf_basic(const struct cpu *cpu, const struct x86_state *s, uint32_t leaf,
                       uint32_t subleaf, uint32_t out[4]) {
    switch (leaf) {
    case 0:
        out[0] = MAX_BASIC;
        put_text(&out[1], "Genu", 0, 4);
        put_text(&out[3], "ineI", 0, 4);
        put_text(&out[2], "ntel", 0, 4);
        return;
    case 1:
        leaf_1(cpu, s, out);
        return;
    case 2: /* descriptors: TLBs, "see leaf 4", 64-byte prefetch */
        out[0] = 0x03ffb001;
        out[1] = 0xf0;
        return;
    case 4:
        leaf_4(&cpu->config, subleaf, out);
        return;
    case 6:
        out[0] = cpuid_word(&cpu->config, CPUID_6_EAX);
        return;
    case 7:
        leaf_7(&cpu->config, subleaf, out);
        return;
    case 0xb:
        leaf_b(&cpu->config, subleaf, out);
        return;
    case 0xd:
        leaf_d(cpu, s, subleaf, out);
        return;
    case 0x15:
        leaf_15(cpu, out);
        return;
    case 0x16:
        leaf_16(cpu, out);
        return;
    }
}

/* KVM's interface: the clock pair in MSRs 4b564d00/01, its TSC stable, no delays after port
 * accesses; steal time, EOI in memory, and what processors do for each other: TLB flushes of those
 * that sleep, kicks, interrupts to many, yields (machine/paravirt.c, cpu/soft/ref/pv.c). */
static void leaf_kvm(const struct cpu *cpu, uint32_t leaf, uint32_t out[4]) {
    if (leaf == KVM_BASE) {
        out[0] = KVM_MAX;
        put_text(&out[1], "KVMKVMKVM", 0, 12);
    } else if (leaf == KVM_BASE + 1) {
        out[0] = cpuid_word(&cpu->config, CPUID_KVM);
    } else if (leaf == KVM_MAX) {
        out[0] = (uint32_t)tsc_khz(cpu);
        out[1] = APIC_TIMER_KHZ;
    }
}

static void leaf_extended(const struct cpu *cpu, uint32_t leaf, uint32_t out[4]) {
    switch (leaf) {
    case 0x80000000:
        out[0] = MAX_EXTENDED;
        return;
    case 0x80000001:
        out[2] = cpuid_word(&cpu->config, CPUID_81_ECX);
        out[3] = cpuid_word(&cpu->config, CPUID_81_EDX);
        return;
    case 0x80000002 ... 0x80000004:
        put_text(out, models[model_of(&cpu->config)].brand, (leaf - 0x80000002) * 16, 16);
        return;
    case 0x80000006: /* L2 as in leaf 4 */
        out[2] = 2048u << 16 | 8 << 12 | 64;
        return;
    case 0x80000007:
        out[3] = cpuid_word(&cpu->config, CPUID_87_EDX);
        return;
    case 0x80000008:
        out[0] = CPUID_VIRT_BITS << 8 | CPUID_PHYS_BITS;
        return;
    }
}

void cpu_cpuid(const struct cpu *cpu, const struct x86_state *s, uint32_t leaf, uint32_t subleaf,
               uint32_t out[4]) {
    memset(out, 0, 4 * sizeof(out[0]));
    if (leaf >= 0x80000000 && leaf <= MAX_EXTENDED)
        leaf_extended(cpu, leaf, out);
    else if (leaf >> 28 == KVM_BASE >> 28 && !cpu->config.no_hypervisor)
        leaf_kvm(cpu, leaf, out);
    else if (leaf <= MAX_BASIC)
        leaf_basic(cpu, s, leaf, subleaf, out);
    else /* the manual: as the highest basic leaf */
        leaf_basic(cpu, s, MAX_BASIC, subleaf, out);
}
