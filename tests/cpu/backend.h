/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which backend the processor tests run: the interpreter, or VIV_TEST_CPU from the environment
 * (ref, soft, or check: soft in lock-step with ref). */
#ifndef TESTS_CPU_BACKEND_H
#define TESTS_CPU_BACKEND_H

#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"

static inline bool backend_checks(void) {
    const char *name = getenv("VIV_TEST_CPU");

    return name && !strcmp(name, "check");
}

static inline struct cpu_debug backend_debug(void) {
    return (struct cpu_debug){.check = backend_checks(), .check_all = backend_checks()};
}

static inline const struct cpu_ops *backend_ops(void) {
    const char *name = backend_checks() ? "soft" : getenv("VIV_TEST_CPU");
    struct error err = {0};
    const struct cpu_ops *ops = cpu_select(name && *name ? name : "ref", NULL, NULL, 0, &err);

    if (!ops) {
        fprintf(stderr, "VIV_TEST_CPU: %s\n", err.text);
        abort();
    }
    return ops;
}

#endif
