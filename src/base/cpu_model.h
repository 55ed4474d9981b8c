/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The words that say what a processor offers: a model, and features that it has more or less than
 * that. For all who take them from a person; what they mean on a host is the processors' to know
 * (cpu/cpuid.h).
 *
 *   MODEL[,+FEATURE|,-FEATURE]...      x86-64-v2,+aes,-pcid
 *
 * Contract: pure functions of tables (cpu_features.def), any thread.
 */
#ifndef BASE_CPU_MODEL_H
#define BASE_CPU_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Words of feature bits. Their numbers are in snapshots: new ones come last. */
enum cpuid_word {
    CPUID_1_ECX,
    CPUID_1_EDX,
    CPUID_6_EAX,
    CPUID_7_EBX,
    CPUID_7_ECX,
    CPUID_7_EDX,
    CPUID_7_1_EAX,
    CPUID_7_2_EDX,
    CPUID_D_1_EAX,
    CPUID_81_ECX,
    CPUID_81_EDX,
    CPUID_87_EDX,
    CPUID_KVM, /* 40000001 EAX: KVM's interface */
    CPUID_WORDS,
};

/* The first model that has a feature. Of models the last one means all features that KVM gives. */
enum cpu_level { CPU_LEVEL_V1, CPU_LEVEL_V2, CPU_LEVEL_V3, CPU_LEVEL_HOST, CPU_LEVEL_NEVER };

struct cpu_feature {
    const char *name;   /* as in /proc/cpuinfo */
    const char *opcode; /* as in the opcode table; "": in no row */
    uint8_t word, bit;
    uint8_t level;
    bool host; /* the host's CPU executes it */
};

extern const struct cpu_feature cpu_features[];
extern const unsigned cpu_feature_count;

enum { CPU_MODELS = 5, CPU_MODEL_TEXT = 512 };
extern const struct cpu_model_name {
    const char *name, *brand;
    uint8_t level;
} cpu_models[CPU_MODELS];

struct cpu_model {
    unsigned model; /* of cpu_models */
    /* Bits on top of the model's, and bits that it has not: those that were named, and what cannot
     * be without them. */
    uint32_t more[CPUID_WORDS], less[CPUID_WORDS];
};

/* NULL: no such feature. */
const struct cpu_feature *cpu_feature_at(unsigned word, unsigned bit);

/* 0, or -EINVAL with a sentence: a name is not known or there twice, or an added feature needs
 * another that is not there (of the model host that is not known here). */
int cpu_model_parse(const char *text, struct cpu_model *ret, struct error *err);

/* The first feature in `words` that needs one which is not there, and that one; NULL: none. */
const struct cpu_feature *cpu_model_incomplete(const uint32_t words[CPUID_WORDS],
                                               const struct cpu_feature **ret_needs);

#endif
