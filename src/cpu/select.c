/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which processor backend runs the machine, and for "auto" the reason in one sentence.
 *
 * auto takes KVM where it is the processor's own, which it tries (cpu/kvm/probe.h), and where the
 * machine needs nothing that KVM lacks; else the translator, or the interpreter on hosts that the
 * translator cannot use.
 */
#include <errno.h>
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/kvm/probe.h"

static const struct cpu_ops *const software[] = {&cpu_soft_ops, &cpu_ref_ops};

enum { SOFTWARE = sizeof(software) / sizeof(software[0]) };

static const struct cpu_ops *best(const char **ret_lacks) {
    for (unsigned i = 0; i < SOFTWARE; i++) {
        const char *lacks = software[i]->missing ? software[i]->missing() : NULL;

        if (!lacks)
            return software[i];
        *ret_lacks = lacks;
    }
    return software[SOFTWARE - 1];
}

const struct cpu_ops *cpu_software(void) {
    const char *lacks = NULL;

    return best(&lacks);
}

static const struct cpu_ops *automatic(const char *not_kvm, char *why, unsigned size) {
    const char *lacks = cpu_kvm_ops.missing(), *soft_lacks = NULL;
    const struct cpu_ops *ops;
    struct kvm_verdict kvm;

    if (!lacks && !not_kvm) {
        kvm_probe_cached(&kvm);
        if (kvm.usable) {
            snprintf(why, size, "auto: %s", kvm.text);
            return &cpu_kvm_ops;
        }
        lacks = kvm.text;
    }
    ops = best(&soft_lacks);
    snprintf(why, size, "auto: %s%s%s", lacks ? lacks : not_kvm,
             soft_lacks ? "; the translator needs " : "", soft_lacks ? soft_lacks : "");
    return ops;
}

static const struct cpu_ops *kvm(char *why, unsigned size, struct error *err) {
    const char *lacks = cpu_kvm_ops.missing();
    struct kvm_verdict verdict;

    if (lacks) {
        error_set(err, -ENODEV, "processor backend 'kvm': %s; use auto or soft", lacks);
        return NULL;
    }
    if (size > 1) {
        kvm_probe_cached(&verdict);
        snprintf(why, size, "as asked for; %s", verdict.text);
    }
    return &cpu_kvm_ops;
}

const struct cpu_ops *cpu_select(const char *name, const char *not_kvm, char *why,
                                 unsigned why_size, struct error *err) {
    char nobody[1];

    if (!why_size) {
        why = nobody;
        why_size = sizeof(nobody);
    }
    why[0] = '\0';
    for (unsigned i = 0; i < SOFTWARE; i++)
        if (!strcmp(name, software[i]->name))
            return software[i];
    if (!strcmp(name, cpu_kvm_ops.name))
        return kvm(why, why_size, err);
    if (!strcmp(name, "auto"))
        return automatic(not_kvm, why, why_size);
    error_set(err, -EINVAL, "processor backend '%s' is not known; use auto, kvm, soft or ref",
              name);
    return NULL;
}
