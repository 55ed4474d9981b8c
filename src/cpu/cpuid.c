/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPUID: what the models with their changes (base/cpu_model.h) have here, and the leaves made from
 * it. Source: Intel SDM vol. 2A, CPUID; x86-64 psABI section 3.1.1 (the levels v1 to v3); the KVM
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

/* Worked out once: what each model advertises on this host, and which models the host can execute.
 */
static struct {
    uint32_t word[CPU_MODELS][CPUID_WORDS];
    const char *missing[CPU_MODELS]; /* a feature of the level that the host lacks, else NULL */
    uint32_t lacks[CPUID_WORDS];     /* features that software does not have here */
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
static bool promised(const struct cpu_feature *f) {
    return f->level <= CPU_LEVEL_V3 && f->opcode[0];
}

static void learn_model(unsigned m) {
    uint8_t level = cpu_models[m].level;

    for (unsigned i = 0; i < cpu_feature_count; i++) {
        const struct cpu_feature *f = &cpu_features[i];
        uint32_t bit = 1u << f->bit;

        if (f->level > level)
            continue;
        /* What KVM cannot give it takes away itself (cpu_config.less). */
        if (level == CPU_LEVEL_NEVER || !(known.lacks[f->word] & bit))
            known.word[m][f->word] |= bit;
        else if (promised(f) && level < CPU_LEVEL_HOST)
            known.missing[m] = f->name;
    }
    if (level < CPU_LEVEL_HOST && !known.missing[m])
        known.preferred = m;
    /* XSAVE without AVX would only make guests save registers the hard way. */
    if (level == CPU_LEVEL_HOST && !(known.word[m][CPUID_1_ECX] >> 28 & 1)) {
        known.word[m][CPUID_1_ECX] &= ~(1u << 26);
        known.word[m][CPUID_D_1_EAX] = 0;
    }
}

static void learn(void) {
    uint32_t host[CPUID_WORDS];

    read_host(host);
    for (unsigned i = 0; i < cpu_feature_count; i++) {
        const struct cpu_feature *f = &cpu_features[i];

        if (f->level == CPU_LEVEL_NEVER || (f->host && !(host[f->word] >> f->bit & 1)))
            known.lacks[f->word] |= 1u << f->bit;
    }
    for (unsigned m = 0; m < CPU_MODELS; m++)
        learn_model(m);
}

/* ------------------------------------------------------------------ models */

/* A config whose model was never checked gets the default one. */
static void find_model(const struct cpu_config *config, struct cpu_model *ret) {
    pthread_once(&known_once, learn);
    if (!config->model || cpu_model_parse(config->model, ret, NULL) < 0)
        *ret = (struct cpu_model){.model = known.preferred};
}

/* The features of a model with its changes, if the backend has them. */
static void words_of(const struct cpu_model *m, uint32_t ret[CPUID_WORDS]) {
    for (unsigned w = 0; w < CPUID_WORDS; w++)
        ret[w] = (known.word[m->model][w] & ~m->less[w]) | m->more[w];
}

int cpuid_check_model(const char *text, struct error *err) {
    const struct cpu_feature *f, *needs = NULL;
    uint32_t words[CPUID_WORDS];
    struct cpu_model m;
    int r;

    pthread_once(&known_once, learn);
    if (!text)
        return 0;
    r = cpu_model_parse(text, &m, err);
    if (r < 0)
        return r;
    if (known.missing[m.model])
        return error_set(
            err, -EINVAL, "processor model '%s' needs %s, which the host does not have; use %s",
            cpu_models[m.model].name, known.missing[m.model], cpu_models[known.preferred].name);
    words_of(&m, words);
    f = strchr(text, ',') ? cpu_model_incomplete(words, &needs) : NULL;
    return f ? error_set(err, -EINVAL,
                         "processor model: the feature '%s' needs '%s', which this host has not; "
                         "leave out %s, too (-%s)",
                         f->name, needs->name, f->name, f->name)
             : 0;
}

int cpuid_check_added(const struct cpu_config *config, const uint32_t *lacks, struct error *err) {
    struct cpu_model m;

    find_model(config, &m);
    if (!lacks && cpu_models[m.model].level == CPU_LEVEL_NEVER)
        return error_set(err, -ENOTSUP,
                         "processor model '%s' is what the host's KVM gives, which the software "
                         "processor has not; use host, or --cpu kvm where there is KVM",
                         cpu_models[m.model].name);
    for (unsigned i = 0; i < cpu_feature_count; i++) {
        const struct cpu_feature *f = &cpu_features[i];
        uint32_t bit = 1u << f->bit;

        if (!(m.more[f->word] & bit & (lacks ? lacks : known.lacks)[f->word]))
            continue;
        if (lacks)
            return error_set(err, -ENOTSUP,
                             "processor model: this host's KVM cannot give the feature '%s'; leave "
                             "it out",
                             f->name);
        return error_set(err, -ENOTSUP,
                         "processor model: the software processor has no feature '%s'%s; leave it "
                         "out%s",
                         f->name, f->level == CPU_LEVEL_NEVER ? "" : " on this host",
                         f->level == CPU_LEVEL_NEVER ? ", or use --cpu kvm where there is KVM"
                                                     : "");
    }
    return 0;
}

const char *cpuid_model_name(const struct cpu_config *config) {
    struct cpu_model m;

    find_model(config, &m);
    return cpu_models[m.model].name;
}

uint32_t cpuid_word(const struct cpu_config *config, enum cpuid_word word) {
    struct cpu_model m;
    uint32_t v;

    find_model(config, &m);
    v = (known.word[m.model][word] & ~m.less[word]) | m.more[word];
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
    const struct cpu_feature *f = cpu_feature_at(word, bit);

    return f ? f->name : word == CPUID_KVM ? kvm[bit] : NULL;
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

static const struct cpu_feature *find_feature(const char *opcode) {
    for (unsigned i = 0; i < cpu_feature_count; i++)
        if (!strcmp(cpu_features[i].opcode, opcode))
            return &cpu_features[i];
    return NULL;
}

bool cpuid_knows(const char *name) { return !strcmp(name, "BASE") || find_feature(name); }

int cpuid_features(const struct cpu_config *config, uint64_t bits[4], struct error *err) {
    int code = cpuid_check_model(config->model, err);

    if (code == 0)
        code = cpuid_check_added(config, NULL, err);
    if (code < 0)
        return code;
    memset(bits, 0, 4 * sizeof(bits[0]));
    bits[FEAT_BASE / 64] |= 1ull << FEAT_BASE % 64;
    for (unsigned i = 0; i < FEAT_COUNT && i < 256; i++) {
        const struct cpu_feature *f = find_feature(insn_feature_name(i));

        if (f && (cpuid_word(config, f->word) >> f->bit & 1))
            bits[i / 64] |= 1ull << i % 64;
    }
    return 0;
}

/* What not every processor has, and which no saved state of another one may switch on. */
int cpuid_check_state(const struct cpu_config *config, const struct x86_state *s,
                      struct error *err) {
    static const struct {
        uint64_t cr4;
        enum cpuid_word word;
        unsigned bit;
    } needs[] = {{X86_CR4_VME | X86_CR4_PVI, CPUID_1_EDX, 1}, {X86_CR4_SMAP, CPUID_7_EBX, 20}};

    for (unsigned i = 0; i < sizeof(needs) / sizeof(needs[0]); i++)
        if ((s->cr4 & needs[i].cr4) && !(cpuid_word(config, needs[i].word) >> needs[i].bit & 1))
            return error_set(err, -EINVAL,
                             "saved processor state: it uses the feature '%s', which this "
                             "processor does not have",
                             cpu_feature_at(needs[i].word, needs[i].bit)->name);
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

static void put_brand(const struct cpu *cpu, uint32_t part, uint32_t out[4]) {
    struct cpu_model m;

    find_model(&cpu->config, &m);
    put_text(out, cpu_models[m.model].brand, part * 16, 16);
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
        put_brand(cpu, leaf - 0x80000002, out);
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
