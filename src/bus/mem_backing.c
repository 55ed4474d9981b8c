/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Huge pages of the host's pools, NUMA nodes, locked memory: mmap(2), mbind(2), mlock2(2),
 * Linux Documentation/admin-guide/mm/hugetlbpage.rst.
 *
 * Theory of operation: RAM on huge pages is one mapping, of which the map's ranges are parts: they
 * begin where no huge page does, and the hole below 1 MiB would cost one. The pool reserves pages
 * for the whole host, not for a node, so that a page may be missing at its first access although
 * it was promised: all are taken at once, by MADV_POPULATE_WRITE, which says so.
 */
#include "bus/mem_backing.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bus/mem.h"

/*
 * Memory that is plugged in later:
 *
 * Calls (main, vcpu): madvise:MADV_POPULATE_WRITE
 */

#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; the C library's headers may be older */
#endif

enum { SHIFT_4K = 12, SHIFT_2M = 21, SHIFT_1G = 30 };

static unsigned page_shift(enum mem_pages pages) {
    return pages == MEM_PAGES_1G ? SHIFT_1G : pages == MEM_PAGES_2M ? SHIFT_2M : SHIFT_4K;
}

uint64_t mem_page_bytes(enum mem_pages pages) { return 1ull << page_shift(pages); }

static bool of_pool(const struct mem *m) { return m->backing.pages >= MEM_PAGES_2M; }

/* ------------------------------------------------------------------ NUMA nodes */

/* Bit i: node i. */
static void print_nodes(uint64_t nodes, char *text, size_t size) {
    size_t n = 0;

    *text = 0;
    for (unsigned i = 0; i < MEM_MAX_HOST_NODES && n < size; i++)
        if (nodes >> i & 1)
            n += (size_t)snprintf(text + n, size - n, "%s%u", n ? "," : "", i);
}

static int bind_piece(const struct mem_node *node, uint8_t *host, uint64_t size,
                      struct error *err) {
    static const int modes[] = {MPOL_BIND, MPOL_PREFERRED_MANY, MPOL_INTERLEAVE};
    int mode = modes[node->policy];
    unsigned long mask = node->host_nodes;
    char list[200];

    if (!mask || !size)
        return 0;
    if (mode == MPOL_PREFERRED_MANY && !(mask & (mask - 1)))
        mode = MPOL_PREFERRED; /* also before Linux 5.15 */
    if (syscall(SYS_mbind, host, size, mode, &mask, MEM_MAX_HOST_NODES + 1, MPOL_MF_MOVE) == 0)
        return 0;
    print_nodes(mask, list, sizeof(list));
    if (errno == EINVAL)
        return error_set(err, -EINVAL,
                         "the host has no memory on its NUMA node %s, or this process may not use "
                         "it: 'viv host devices' lists the nodes",
                         list);
    return error_set(err, -errno, "guest memory cannot be bound to the host's NUMA node %s: %s",
                     list, strerror(errno));
}

/* The nodes' pieces of [offset, offset + size) of RAM, which is at `host`. */
static int bind_ram(const struct mem *m, uint64_t offset, uint64_t size, uint8_t *host,
                    struct error *err) {
    uint64_t start = 0;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < m->backing.nodes; i++) {
        uint64_t end = start + m->backing.node[i].size;
        uint64_t from = start > offset ? start : offset;
        uint64_t to = end < offset + size ? end : offset + size;

        if (from < to)
            r = bind_piece(&m->backing.node[i], host + (from - offset), to - from, err);
        start = end;
    }
    return r;
}

/* Where in RAM an address is; UINT64_MAX: in memory that comes later. */
static uint64_t ram_offset(const struct mem_backing *b, uint64_t addr) {
    if (addr < b->low)
        return addr;
    return addr >= b->high && addr - b->high < b->ram - b->low ? b->low + (addr - b->high)
                                                               : UINT64_MAX;
}

static int bind_range(const struct mem *m, const struct mem_range *r, struct error *err) {
    uint64_t offset = ram_offset(&m->backing, r->base);

    if (!m->backing.nodes)
        return 0;
    if (offset == UINT64_MAX)
        return bind_piece(&m->backing.node[0], r->host, r->whole, err);
    return bind_ram(m, offset, r->whole, r->host, err);
}

/* ------------------------------------------------------------------ huge pages */

static long pool_figure(enum mem_pages pages, const char *what) {
    char path[96];
    long n = -1;
    FILE *f;

    snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/%s",
             mem_page_bytes(pages) / 1024, what);
    f = fopen(path, "re");
    if (!f)
        return -1;
    if (fscanf(f, "%ld", &n) != 1)
        n = -1;
    fclose(f);
    return n;
}

static int too_small(const struct mem *m, uint64_t size, bool node, struct error *err) {
    enum mem_pages pages = m->backing.pages;
    const char *unit = pages == MEM_PAGES_1G ? "1 GiB" : "2 MiB";
    long total = pool_figure(pages, "nr_hugepages"), open = pool_figure(pages, "free_hugepages"),
         promised = pool_figure(pages, "resv_hugepages");
    long need = (long)(size / mem_page_bytes(pages)), left = open - promised;

    if (total < 0)
        return error_set(err, -ENOTSUP,
                         "guest memory: this host has no pages of %s%s; use hugepages=thp", unit,
                         pages == MEM_PAGES_1G ? " (its processor or kernel lacks them), try 2M"
                                               : " (its kernel lacks hugetlbfs)");
    if (node)
        return error_set(
            err, -ENOMEM,
            "guest memory: the machine needs %ld pages of %s, and the pools of the NUMA nodes "
            "that it is bound to have too few: write more to "
            "/sys/devices/system/node/nodeN/hugepages/hugepages-%" PRIu64 "kB/nr_hugepages",
            need, unit, mem_page_bytes(pages) / 1024);
    return error_set(
        err, -ENOMEM,
        "guest memory: the machine needs %ld pages of %s, and of the host's pool of %ld are %ld "
        "free: make it larger with 'echo %ld >/sys/kernel/mm/hugepages/hugepages-%" PRIu64
        "kB/nr_hugepages'%s, or use hugepages=thp",
        need, unit, total, left > 0 ? left : 0, total + need - (left > 0 ? left : 0),
        mem_page_bytes(pages) / 1024,
        pages == MEM_PAGES_1G ? " (best while the host boots: hugepagesz=1G hugepages=N)" : "");
}

static uint8_t *map_pool(const struct mem *m, uint64_t size, struct error *err) {
    unsigned shift = page_shift(m->backing.pages);
    uint8_t *p =
        mmap(NULL, size, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | (int)(shift << MAP_HUGE_SHIFT), -1, 0);

    if (p == MAP_FAILED) {
        too_small(m, size, false, err);
        return NULL;
    }
    madvise(p, size, MADV_DONTDUMP);
    return p;
}

/* Takes the pages, where the nodes say. */
static int take_pages(const struct mem *m, uint8_t *p, uint64_t size, struct error *err) {
    if (madvise(p, size, MADV_POPULATE_WRITE) == 0)
        return 0;
    if (errno == EINVAL) { /* before Linux 5.14 */
        for (uint64_t at = 0; at < size; at += mem_page_bytes(m->backing.pages))
            *(volatile uint8_t *)(p + at) = 0;
        return 0;
    }
    return too_small(m, size, m->backing.nodes, err);
}

uint8_t *mem_backing_find(const struct mem *m, uint64_t base, uint64_t size) {
    uint64_t offset = ram_offset(&m->backing, base);

    return m->area && offset <= m->area_size && size <= m->area_size - offset ? m->area + offset
                                                                              : NULL;
}

uint8_t *mem_backing_map(const struct mem *m, uint64_t size, struct error *err) {
    uint8_t *p = map_pool(m, size, err);
    int r = 0;

    if (p && m->backing.nodes)
        r = bind_piece(&m->backing.node[0], p, size, err);
    if (p && (r < 0 || take_pages(m, p, size, err) < 0)) {
        munmap(p, size);
        return NULL;
    }
    return p;
}

int mem_back(struct mem *m, const struct mem_backing *b, struct error *err) {
    uint64_t size = b->ram;

    m->backing = *b;
    m->kept = b->lock || of_pool(m);
    if (!of_pool(m))
        return 0;
    m->area = map_pool(m, size, err);
    if (!m->area)
        return err ? err->code : -ENOMEM;
    m->area_size = size;
    if (bind_ram(m, 0, size, m->area, err) < 0 || take_pages(m, m->area, size, err) < 0)
        return -ENOMEM;
    return 0;
}

/* ------------------------------------------------------------------ locked memory */

static int lock_range(const struct mem *m, const struct mem_range *r, struct error *err) {
    struct rlimit l;
    int code;

    /* What may come later is locked as it comes. */
    if (r->room ? mlock2(r->host, r->whole, MLOCK_ONFAULT) == 0 : mlock(r->host, r->whole) == 0)
        return 0;
    code = errno;
    if ((code == ENOMEM || code == EPERM) && getrlimit(RLIMIT_MEMLOCK, &l) == 0 &&
        l.rlim_cur != RLIM_INFINITY)
        return error_set(err, -EPERM,
                         "guest memory of %" PRIu64 " MiB cannot be locked: this process may lock "
                         "%llu KiB; raise that with 'ulimit -l unlimited' or, in a service, "
                         "LimitMEMLOCK=infinity, or leave lock=on out",
                         m->backing.ram >> 20, (unsigned long long)l.rlim_cur / 1024);
    return error_set(err, -code,
                     "guest memory of %" PRIu64 " MiB cannot be locked: %s; give the machine less, "
                     "or leave lock=on out",
                     m->backing.ram >> 20, strerror(code));
}

static void raise_limit(void) {
    struct rlimit l;

    if (getrlimit(RLIMIT_MEMLOCK, &l) == 0 && l.rlim_cur < l.rlim_max) {
        l.rlim_cur = l.rlim_max;
        setrlimit(RLIMIT_MEMLOCK, &l);
    }
}

int mem_settle(struct mem *m, struct error *err) {
    int r = 0;

    if (m->backing.lock)
        raise_limit();
    for (unsigned i = 0; r == 0 && i < m->count; i++) {
        const struct mem_range *range = &m->range[i];

        if (range->moving || range->readonly)
            continue;
        if (!of_pool(m))
            r = bind_range(m, range, err);
        if (r == 0 && m->backing.lock)
            r = lock_range(m, range, err);
    }
    return r;
}
