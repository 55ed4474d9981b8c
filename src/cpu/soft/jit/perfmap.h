/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /tmp/perf-PID.map, from which `perf report` takes names of code that no file holds: a line each
 * of start, size (hexadecimal), name. Source: tools/perf/Documentation/jit-interface.txt of Linux.
 *
 * Contract: opened when the translator is made, before anything runs; then the vCPU's thread.
 */
#ifndef CPU_SOFT_JIT_PERFMAP_H
#define CPU_SOFT_JIT_PERFMAP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

struct jit_cache;

FILE *perfmap_open(struct error *err); /* NULL with the sentence */
void perfmap_put_common(FILE *f, const struct jit_cache *k);
void perfmap_put(FILE *f, const void *code, size_t size, uint64_t rip, bool user, unsigned tier);

#endif
