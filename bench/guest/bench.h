/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kernels of the guest-side benchmark: one function a question, all with the same shape. */
#ifndef BENCH_GUEST_BENCH_H
#define BENCH_GUEST_BENCH_H

#include <stdint.h>

/*
 * Does n units of work and stores in *sum a value that depends on all of it, so that a machine that
 * computes wrongly is found out. The same n gives the same sum on every machine. arg is what the
 * table of rows on the host's side says (a path, an address), "-" for most.
 * Returns 0 or a negative errno; -ENOTSUP where the processor lacks what is measured.
 */
typedef int kernel_fn(uint64_t n, const char *arg, uint64_t *sum);

struct kernel {
    const char *name;
    kernel_fn *run;
};

/* Each array ends with a null name. */
extern const struct kernel integer_kernels[];
extern const struct kernel vector_kernels[];
extern const struct kernel system_kernels[];
extern const struct kernel disk_kernels[];
extern const struct kernel io_kernels[];

/* Fills a file of that many MiB with random blocks. 0 or negative errno. */
int io_make_disk(const char *path, uint64_t mib);
/* Prints what reads and writes through the page cache cost; the file is written. The same. */
int io_cached(const char *path);
uint64_t cpu_ns(void); /* of this process and its children so far */

/* The argument with which system_kernels start this program again as the child of fork+exec. */
#define CHILD_ARG    "child"
#define CHILD_STATUS 7

/* xorshift64*: the one source of input data. */
static inline uint64_t next_random(uint64_t *state) {
    uint64_t x = *state;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545f4914f6cdd1dull;
}

static inline uint64_t mix(uint64_t sum, uint64_t value) {
    sum = (sum ^ value) * 0x9e3779b97f4a7c15ull;
    return sum ^ sum >> 29;
}

#endif
