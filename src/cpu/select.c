/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which processor backend runs the machine, and for "auto" the reason in one sentence. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "cpu/kvm/probe.h"

/* auto takes the first that this host can run. */
static const struct cpu_ops *const backends[] = {&cpu_soft_ops, &cpu_ref_ops};

/* What /dev/kvm says: opened, never used, because a node that opens may still be an emulation. */
static const char *kvm_state(void) {
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    if (fd >= 0) {
        close(fd);
        return "the host has a usable /dev/kvm, which only --cpu kvm takes";
    }
    if (errno == ENOENT)
        return "the host has no /dev/kvm";
    return "the host's /dev/kvm cannot be opened";
}

enum { BACKENDS = sizeof(backends) / sizeof(backends[0]) };

static const struct cpu_ops *best(const char **ret_lacks) {
    for (unsigned i = 0; i < BACKENDS; i++) {
        const char *lacks = backends[i]->missing ? backends[i]->missing() : NULL;

        if (!lacks)
            return backends[i];
        *ret_lacks = lacks;
    }
    return backends[BACKENDS - 1];
}

const struct cpu_ops *cpu_select(const char *name, char *why, unsigned why_size,
                                 struct error *err) {
    const char *lacks = NULL;
    struct kvm_verdict kvm;

    if (why_size)
        why[0] = '\0';
    for (unsigned i = 0; i < BACKENDS; i++)
        if (!strcmp(name, backends[i]->name))
            return backends[i];
    if (!strcmp(name, cpu_kvm_ops.name)) {
        lacks = cpu_kvm_ops.missing();
        if (!lacks) {
            kvm_probe_cached(&kvm);
            if (why_size)
                snprintf(why, why_size, "as asked for; %s", kvm.text);
            return &cpu_kvm_ops;
        }
        error_set(err, -ENODEV, "processor backend 'kvm': %s; use auto or soft", lacks);
        return NULL;
    }
    if (!strcmp(name, "auto")) {
        const struct cpu_ops *ops = best(&lacks);

        if (why_size)
            snprintf(why, why_size, "auto: %s%s%s", kvm_state(),
                     lacks ? "; the translator needs " : "", lacks ? lacks : "");
        return ops;
    }
    error_set(err, -EINVAL, "processor backend '%s' is not known; use auto, kvm, soft or ref",
              name);
    return NULL;
}
