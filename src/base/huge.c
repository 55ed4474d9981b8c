/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory on huge pages: madvise(2), MADV_HUGEPAGE and MADV_COLLAPSE. */
#include "base/huge.h"

#include <stdint.h>
#include <sys/mman.h>

/*
 * Calls (main, vcpu): madvise:MADV_HUGEPAGE madvise:MADV_NOHUGEPAGE madvise:MADV_COLLAPSE
 */

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1; the C library's headers may be older */
#endif

#ifndef __has_feature /* clang's way to say it */
#define __has_feature(x) 0
#endif
/* The leak detector looks for pointers only in what the allocator knows, unless it is told. */
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
void __lsan_register_root_region(const void *p, size_t size);
void __lsan_unregister_root_region(const void *p, size_t size);
static void watch(const void *p, size_t size) { __lsan_register_root_region(p, size); }
static void unwatch(const void *p, size_t size) { __lsan_unregister_root_region(p, size); }
#else
static void watch(const void *p, size_t size) {}
static void unwatch(const void *p, size_t size) {}
#endif

void *huge_reserve(size_t size) {
    uint8_t *all, *p;

    size = (size + 4095) & ~(size_t)4095;
    all =
        mmap(NULL, size + HUGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED)
        return NULL;
    p = (uint8_t *)(((uintptr_t)all + HUGE_SIZE - 1) & ~(uintptr_t)(HUGE_SIZE - 1));
    if (p > all)
        munmap(all, (size_t)(p - all));
    if (p < all + HUGE_SIZE)
        munmap(p + size, (size_t)(all + HUGE_SIZE - p));
    return p;
}

void *huge_alloc(size_t size) {
    void *p = huge_reserve(size);

    if (!p)
        return NULL;
    if (mprotect(p, size, PROT_READ | PROT_WRITE) < 0) {
        munmap(p, size);
        return NULL;
    }
    watch(p, size);
    madvise(p, size, MADV_NOHUGEPAGE);
    return p;
}

void huge_warm(void *p, size_t size) {
    madvise(p, size, MADV_HUGEPAGE);
    for (size_t at = 0; at + HUGE_SIZE <= size; at += HUGE_SIZE)
        madvise((uint8_t *)p + at, HUGE_SIZE, MADV_COLLAPSE); /* a hole stays one */
}

void huge_free(void *p, size_t size) {
    if (!p)
        return;
    unwatch(p, size);
    munmap(p, size);
}

void huge_collapse(void *rw, void *also) {
    volatile uint8_t *first = rw;

    *first = *first; /* a hole is not collapsed; one page of it in place is enough */
    if (madvise(rw, HUGE_SIZE, MADV_COLLAPSE) == 0)
        madvise(also, HUGE_SIZE, MADV_COLLAPSE);
}
