/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Large allocations are mappings of their own. */
#include "base/zero.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#ifndef __has_feature /* clang's way to say it */
#define __has_feature(x) 0
#endif

/* The sanitizer knows the ends and the life of what lies in its heap only. */
static bool is_large(size_t size) {
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
    return false;
#else
    return size >= 16384;
#endif
}

void *zero_alloc(size_t size) {
    void *p;

    if (!is_large(size))
        return calloc(1, size);
    p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void zero_free(void *p, size_t size) {
    if (p && is_large(size))
        munmap(p, size);
    else
        free(p);
}
