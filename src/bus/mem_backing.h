/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the host gives for guest memory: pages of which size, whether they stay in RAM, and on which
 * of its NUMA nodes.
 *
 * Contract: mem_back after mem_init and before the first mem_add; mem_settle once, when the map is
 * built and a snapshot loaded, and before the jail is entered, whose limits forbid it. Huge pages
 * of a pool and locked memory are taken as a whole at once, and nothing of them is given back while
 * the machine lives (mem_release does nothing).
 */
#ifndef BUS_MEM_BACKING_H
#define BUS_MEM_BACKING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct mem;

enum mem_pages {
    MEM_PAGES_THP,   /* small ones, and huge ones where the kernel has them */
    MEM_PAGES_SMALL, /* never huge */
    MEM_PAGES_2M,    /* of the host's pools */
    MEM_PAGES_1G
};

enum { MEM_MAX_NODES = 8, MEM_MAX_HOST_NODES = 64 };

enum mem_policy { MEM_BIND, MEM_PREFERRED, MEM_INTERLEAVE };

struct mem_node { /* a piece of RAM, one behind the other */
    uint64_t size;
    uint64_t host_nodes; /* a bit each; 0: anywhere */
    enum mem_policy policy;
};

struct mem_backing {
    enum mem_pages pages;
    bool lock;
    uint64_t ram;  /* bytes, of which the first `low` begin at address 0, */
    uint64_t low;  /* and the others at `high` */
    uint64_t high; /* what lies further up belongs to the first node */
    unsigned nodes;
    struct mem_node node[MEM_MAX_NODES];
};

uint64_t mem_page_bytes(enum mem_pages pages); /* 4096 for those that are not of a pool */

int mem_back(struct mem *m, const struct mem_backing *b, struct error *err);
int mem_settle(struct mem *m, struct error *err);

/* For mem.c. The part of the huge pages that stands for this RAM, or NULL. */
uint8_t *mem_backing_find(const struct mem *m, uint64_t base, uint64_t size);
/* RAM of its own on huge pages of the pool; NULL with the sentence. */
uint8_t *mem_backing_map(const struct mem *m, uint64_t size, struct error *err);

#endif
