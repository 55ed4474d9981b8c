/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which backend the processor tests run: the interpreter, or VIV_TEST_CPU from the environment
 * (ref, soft). */
#ifndef TESTS_CPU_BACKEND_H
#define TESTS_CPU_BACKEND_H

#include <stdlib.h>

#include "cpu/cpu.h"

static inline const struct cpu_ops *backend_ops(void) {
    const char *name = getenv("VIV_TEST_CPU");
    struct error err = {0};
    const struct cpu_ops *ops = cpu_select(name && *name ? name : "ref", NULL, 0, &err);

    if (!ops) {
        fprintf(stderr, "VIV_TEST_CPU: %s\n", err.text);
        abort();
    }
    return ops;
}

#endif
