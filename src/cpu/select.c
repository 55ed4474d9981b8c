/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which processor backend runs the machine, and for "auto" the reason in one sentence. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "cpu/cpu.h"

static const struct cpu_ops *const backends[] = {&cpu_ref_ops};

/* What /dev/kvm says: opened, never used, because a node that opens may still be an emulation. */
static const char *kvm_state(void) {
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    if (fd >= 0) {
        close(fd);
        return "the host has a usable /dev/kvm, but this build has no KVM backend";
    }
    if (errno == ENOENT)
        return "the host has no /dev/kvm, and this build has no KVM backend";
    return "the host's /dev/kvm cannot be opened, and this build has no KVM backend";
}

const struct cpu_ops *cpu_select(const char *name, char *why, unsigned why_size,
                                 struct error *err) {
    if (why_size)
        why[0] = '\0';
    for (unsigned i = 0; i < sizeof(backends) / sizeof(backends[0]); i++)
        if (!strcmp(name, backends[i]->name))
            return backends[i];
    if (!strcmp(name, "auto")) {
        if (why_size)
            snprintf(why, why_size, "%s: %s", backends[0]->name, kvm_state());
        return backends[0];
    }
    error_set(err, -EINVAL, "processor backend '%s' is not known; use auto or ref", name);
    return NULL;
}
