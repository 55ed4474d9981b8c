/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the lock-step's trial (check.c) and its report (check_report.c) share. */
#ifndef CPU_SOFT_JIT_CHECK_INTERNAL_H
#define CPU_SOFT_JIT_CHECK_INTERNAL_H

#include "cpu/soft/jit/check.h"
#include "cpu/soft/ref/ref.h"

/* SF ZF AF PF CF and OF: in RFLAGS, and in the layout of ref.af. */
enum { CHECK_FLAGS = 0x8d5, CHECK_AF = 0xd501 };

enum check_outcome { CHECK_RAN, CHECK_FAULTED, CHECK_FAILED, CHECK_ESCAPED };

struct check_image {    /* a processor between two instructions */
    struct x86_state s; /* without arithmetic flags and shadow */
    uint32_t af, fl, mode, att_mask;
    uint8_t cpl, shadow;
    bool halted, stop_block;
    enum check_outcome outcome;
    uint8_t vector; /* of the fault */
    bool has_error;
    uint32_t error;
};

struct check_page {
    uint8_t *host;
    bool soft;                         /* translated code wrote to it */
    uint8_t before[4096], after[4096]; /* after: what translated code left */
};

struct check_tag {
    uint64_t *tag, page, none; /* none: a value that no address matches */
};

struct jit_check {
    bool armed;
    struct cpu_bus bus; /* the real one */
    struct check_page *page;
    unsigned pages, page_room;
    struct check_tag *tag; /* entries that allow writes */
    unsigned tags;
    uintptr_t *walk; /* page table entries in which a walk set bits */
    unsigned walks;
    uint32_t *runs;          /* of translations, by their address */
    uint32_t stale;          /* flags in which translated code differs, layout of ref.af */
    uint64_t stale_rip;      /* of the block that left them */
    uint64_t next_rip;       /* where the last run ended: else an event came between */
    uint64_t trials, rested; /* when, in ns */
    struct check_image before, soft, ref;
};

/* The interpreter's contents of a page against what they should be: offset of the first byte that
 * differs, or -1. */
int check_page_differs(const struct jit_check *k, const struct check_page *p);
/* Flags in the layout of ref.af as RFLAGS. */
static inline uint64_t check_rflags(uint32_t af) { return (af >> 8 & 0xd5) | (af & 1) << 11; }

struct check_finding {
    const char *what;
    uint64_t rip;     /* of the block */
    gpa addr;         /* the same in memory */
    const void *code; /* NULL: not translated */
    unsigned steps;   /* of the interpreter */
};
/* Prints both states, the guest's code and where its translation is; memory is as the interpreter
 * left it. */
void check_report(struct ref *c, const struct check_finding *f);

#endif
