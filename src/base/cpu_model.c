/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Models of processors and their features by name.
 * Source: Intel SDM vol. 1, 12 to 18 (what a feature's software must look for first); Linux
 * arch/x86/kernel/cpu/cpuid-deps.c has the same relations.
 */
#include "base/cpu_model.h"

#include <errno.h>
#include <string.h>

#define ALL                                           CPU_LEVEL_V1
#define V2                                            CPU_LEVEL_V2
#define V3                                            CPU_LEVEL_V3
#define HOST                                          CPU_LEVEL_HOST
#define NEVER                                         CPU_LEVEL_NEVER
#define FEATURE(name, opcode, word, bit, level, host) {#name, opcode, word, bit, level, host},
const struct cpu_feature cpu_features[] = {
#include "base/cpu_features.def"
};
#undef FEATURE

/* Their numbers in that table. */
#define FEATURE(name, opcode, word, bit, level, host) CPU_##name,
enum feature {
#include "base/cpu_features.def"
    FEATURES
};
#undef FEATURE

const unsigned cpu_feature_count = FEATURES;

const struct cpu_model_name cpu_models[CPU_MODELS] = {
    {"x86-64-v1", "Vivarium x86-64-v1 virtual processor", CPU_LEVEL_V1},
    {"x86-64-v2", "Vivarium x86-64-v2 virtual processor", CPU_LEVEL_V2},
    {"x86-64-v3", "Vivarium x86-64-v3 virtual processor", CPU_LEVEL_V3},
    {"host", "Vivarium virtual processor", CPU_LEVEL_HOST},
    {"native", "Vivarium virtual processor", CPU_LEVEL_NEVER},
};

/* What cannot be without what, each line after those of what it needs. */
static const uint8_t needs[][2] = {
    {CPU_sse, CPU_fxsr},
    {CPU_sse2, CPU_sse},
    {CPU_pni, CPU_sse2},
    {CPU_ssse3, CPU_pni},
    {CPU_sse4_1, CPU_ssse3},
    {CPU_sse4_2, CPU_sse4_1},
    {CPU_aes, CPU_sse2},
    {CPU_pclmulqdq, CPU_sse2},
    {CPU_sha_ni, CPU_sse2},
    {CPU_gfni, CPU_sse2},
    {CPU_xsaveopt, CPU_xsave},
    {CPU_xsavec, CPU_xsave},
    {CPU_xgetbv1, CPU_xsave},
    {CPU_xsaves, CPU_xsavec},
    {CPU_xfd, CPU_xsave},
    {CPU_avx, CPU_xsave},
    {CPU_avx, CPU_sse4_2},
    {CPU_f16c, CPU_avx},
    {CPU_fma, CPU_avx},
    {CPU_avx2, CPU_avx},
    {CPU_vaes, CPU_avx},
    {CPU_vpclmulqdq, CPU_avx},
    {CPU_avx_vnni, CPU_avx2},
    {CPU_avx_ifma, CPU_avx2},
    {CPU_avx512f, CPU_avx2},
    {CPU_avx512f, CPU_fma},
    {CPU_avx512dq, CPU_avx512f},
    {CPU_avx512cd, CPU_avx512f},
    {CPU_avx512bw, CPU_avx512f},
    {CPU_avx512vl, CPU_avx512f},
    {CPU_avx512ifma, CPU_avx512f},
    {CPU_avx512_vnni, CPU_avx512f},
    {CPU_avx512_vpopcntdq, CPU_avx512f},
    {CPU_avx512_vp2intersect, CPU_avx512f},
    {CPU_avx512vbmi, CPU_avx512bw},
    {CPU_avx512_vbmi2, CPU_avx512bw},
    {CPU_avx512_bitalg, CPU_avx512bw},
    {CPU_avx512_bf16, CPU_avx512bw},
    {CPU_avx512_fp16, CPU_avx512bw},
    {CPU_pku, CPU_xsave},
    {CPU_user_shstk, CPU_xsaves},
    {CPU_ibt, CPU_xsaves},
    {CPU_amx_tile, CPU_xfd},
    {CPU_amx_bf16, CPU_amx_tile},
    {CPU_amx_int8, CPU_amx_tile},
    {CPU_amx_fp16, CPU_amx_tile},
    {CPU_x2apic, CPU_apic},
    {CPU_tsc_deadline_timer, CPU_apic},
    {CPU_nonstop_tsc, CPU_tsc},
    {CPU_rdtscp, CPU_tsc},
    {CPU_tsc_adjust, CPU_tsc},
    {CPU_pcid, CPU_lm},
};
enum { NEEDS = sizeof(needs) / sizeof(needs[0]) };

const struct cpu_feature *cpu_feature_at(unsigned word, unsigned bit) {
    for (unsigned i = 0; i < FEATURES; i++)
        if (cpu_features[i].word == word && cpu_features[i].bit == bit)
            return &cpu_features[i];
    return NULL;
}

static const struct cpu_feature *find(const char *name, size_t n) {
    for (unsigned i = 0; i < FEATURES; i++)
        if (!strncmp(cpu_features[i].name, name, n) && !cpu_features[i].name[n])
            return &cpu_features[i];
    return NULL;
}

static bool has(const uint32_t *words, const struct cpu_feature *f) {
    return words[f->word] >> f->bit & 1;
}

static void set(uint32_t *words, const struct cpu_feature *f) { words[f->word] |= 1u << f->bit; }

const struct cpu_feature *cpu_model_incomplete(const uint32_t words[CPUID_WORDS],
                                               const struct cpu_feature **ret_needs) {
    for (unsigned i = 0; i < NEEDS; i++)
        if (has(words, &cpu_features[needs[i][0]]) && !has(words, &cpu_features[needs[i][1]])) {
            *ret_needs = &cpu_features[needs[i][1]];
            return &cpu_features[needs[i][0]];
        }
    return NULL;
}

static int take_model(const char *text, size_t n, struct cpu_model *ret, struct error *err) {
    for (unsigned m = 0; m < CPU_MODELS; m++)
        if (strlen(cpu_models[m].name) == n && !strncmp(cpu_models[m].name, text, n)) {
            ret->model = m;
            return 0;
        }
    return error_set(err, -EINVAL,
                     "processor model '%.*s' is not known; use x86-64-v1, x86-64-v2, x86-64-v3, "
                     "host or native",
                     n < 80 ? (int)n : 80, text);
}

static int take_change(const char *text, size_t n, struct cpu_model *ret, struct error *err) {
    const struct cpu_feature *f = n ? find(text + 1, n - 1) : NULL;

    if (!n || (*text != '+' && *text != '-'))
        return error_set(err, -EINVAL,
                         "processor model: '%.*s' is no feature to be added or left out; write "
                         "+NAME or -NAME",
                         n < 80 ? (int)n : 80, text);
    if (!f)
        return error_set(err, -EINVAL,
                         "processor model: the feature '%.*s' is not known; names are those of "
                         "/proc/cpuinfo",
                         n < 80 ? (int)n - 1 : 80, text + 1);
    if (has(ret->more, f) || has(ret->less, f))
        return error_set(err, -EINVAL, "processor model: the feature '%s' is there twice", f->name);
    set(*text == '+' ? ret->more : ret->less, f);
    return 0;
}

/* What was asked for must not go with what was left out. */
static int leave_out(struct cpu_model *m, struct error *err) {
    for (unsigned i = 0; i < NEEDS; i++) {
        const struct cpu_feature *f = &cpu_features[needs[i][0]],
                                 *base = &cpu_features[needs[i][1]];

        if (!has(m->less, base))
            continue;
        if (has(m->more, f))
            return error_set(err, -EINVAL,
                             "processor model: the feature '%s' cannot be without '%s'; leave out "
                             "both or none",
                             f->name, base->name);
        set(m->less, f);
    }
    return 0;
}

/* Named models have the same features on every host. */
static int check_needs(const struct cpu_model *m, struct error *err) {
    uint32_t words[CPUID_WORDS] = {0};
    const struct cpu_feature *f, *base = NULL;

    if (cpu_models[m->model].level >= CPU_LEVEL_HOST)
        return 0;
    for (unsigned i = 0; i < FEATURES; i++)
        if (cpu_features[i].level <= cpu_models[m->model].level)
            set(words, &cpu_features[i]);
    for (unsigned w = 0; w < CPUID_WORDS; w++)
        words[w] = (words[w] & ~m->less[w]) | m->more[w];
    f = cpu_model_incomplete(words, &base);
    return f ? error_set(err, -EINVAL,
                         "processor model: the feature '%s' needs '%s', which %s has not; add "
                         "+%s, too",
                         f->name, base->name, cpu_models[m->model].name, base->name)
             : 0;
}

int cpu_model_parse(const char *text, struct cpu_model *ret, struct error *err) {
    struct cpu_model m = {0};
    size_t n = strcspn(text, ",");
    bool plain;
    int r;

    if (strlen(text) >= CPU_MODEL_TEXT)
        return error_set(err, -EINVAL, "processor model: more than %d characters",
                         CPU_MODEL_TEXT - 1);
    r = take_model(text, n, &m, err);
    plain = !text[n];
    while (r == 0 && text[n]) {
        text += n + 1;
        n = strcspn(text, ",");
        r = take_change(text, n, &m, err);
    }
    if (r == 0 && !plain)
        r = leave_out(&m, err);
    if (r == 0 && !plain)
        r = check_needs(&m, err);
    if (r == 0)
        *ret = m;
    return r;
}
