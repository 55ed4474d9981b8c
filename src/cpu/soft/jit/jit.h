/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The same-ISA translator: hot blocks of the interpreter become host code that keeps the guest's
 * registers in the host's.
 *
 * Theory of operation: guest RAX..R13 and RSP live in the same host registers, R14 and R15 in
 * struct ref and serve as scratch; GS points at struct ref. Arithmetic flags are the host's inside
 * a block and lie in c->af between blocks if anybody may read them. XMM/YMM registers are the
 * host's while jit.vec_live is set. A memory operand goes through jit.tlb, one compare for tag and
 * page crossing; whatever that misses is filled by C and retried, or, if it can never be fast
 * (MMIO, page crossing, pages with code, faults), the instruction is left to the interpreter: all
 * guest state is exact at that point, because an instruction changes nothing before its last
 * lookup. Instructions without a translation call the interpreter's handler. 64-bit code and flat
 * 32-bit code (REF_MODE_FLAT) are translated; of the latter addresses, stack slots and the
 * instruction pointer have 32 bits, and registers from R8 on are just kept.
 *
 * Contract: vCPU thread only, but for jit_kick. The code cache is mapped twice (RW and RX), never
 * both.
 */
#ifndef CPU_SOFT_JIT_JIT_H
#define CPU_SOFT_JIT_JIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct ref;
struct ref_block;
struct jit_cache;
struct jit_check;
struct jit_dump;
struct jit_profile;

enum {
    JIT_TLB_SIZE = 4096,
    JIT_TLB_SHIFT = 5, /* entries have 32 bytes */
    JIT_JC_SIZE = 16384,
    JIT_GROUPS = 24, /* of a block */
    JIT_SITES = 65536,
    JIT_FARS = 32768,
    JIT_SITES_FILLED = 2048,
    JIT_HEAT_SIZE = 8192
};

enum jit_access { /* how an access finds its page: each is counted apart */
                  JIT_BY_TLB,
                  JIT_BY_TLB_GROUP, /* for all of a group at once (groups.c) */
                  JIT_BY_SITE,
                  JIT_BY_SITE_GROUP,
                  JIT_BY_GROUP, /* its group's first has looked */
                  JIT_ACCESSES
};

struct jit_jc_entry { /* jump cache: guest address (xor key) -> host code */
    uint64_t key;
    const void *code;
};

/* Half a cache line, so that an access touches one. A tag is a page, or an address of another index
 * when invalid. */
struct jit_tlb_entry {
    uint64_t tag_r, tag_w;
    uint64_t host, addend; /* where the page lies; that minus its linear address */
};

struct jit_site {         /* one access of hot code: the page that it found last */
    uint64_t tag, addend; /* linear address of the page; host address minus linear address */
};

struct jit_far {    /* a direct branch into another page: far.c */
    uint64_t guard; /* target's page xor key where it leads to `code` */
    const void *code;
};

struct jit {       /* member of struct ref, reached through GS by generated code */
    uint64_t page; /* guest address of the page that runs: rip minus offset in its physical page */
    uint64_t
        jc_key; /* xored into addresses looked up; another thread may poison it to break chains */
    uint32_t poll;     /* non-zero: leave at the next backward branch; atomic */
    uint8_t vec_live;  /* guest vector registers and MXCSR are in the host's */
    uint8_t dropped;   /* blocks were dropped: leave after this instruction */
    uint8_t completed; /* an interpreter handler ran to its end */
    uint8_t sti;       /* STI was executed: the loop runs one more block before interrupts */
    uint8_t bail;      /* the interpreter must execute the instruction at c->rip */
    uint64_t host_rsp;
    uint64_t lost_rsp, lost_rip; /* of generated code that the host's kernel could not return to */
    uint32_t lost_times;         /* ... at this lost_rip, one after the other */
    uint64_t slow_lin, slow_return, target;
    uint64_t slow_a, slow_b;                   /* what the scratch registers hold at slow_return */
    uint8_t bounce[64];                        /* operand of a read that crosses pages */
    const struct jit_slow_record *slow_record; /* has the rest, or NULL */
    uint32_t slow_info;                        /* size | JIT_SLOW_* */
    uint32_t slow_off;                         /* offset in jit.page of the instruction */
    const void *helper_op;
    void *link; /* record of the exit taken, to be patched, or twice a number in `far`; or NULL */
    uint32_t host_mxcsr;
    uint64_t true_key; /* what jc_key is when nobody poisoned it */
    uint32_t off;      /* parts to do without: JIT_NO_* of cpu/debug.h */
    bool enabled;
    struct jit_cache *cache;
    struct jit_check *check;     /* NULL without --check */
    struct jit_profile *profile; /* NULL without --stats */
    uint64_t misses[JIT_ACCESSES];
    struct jit_dump *dump;         /* NULL if nobody asks what was translated */
    uint64_t return_key;           /* xored into addresses on that stack: one for each jc_key */
    uint64_t returns, returns_top; /* stack of return addresses (exits.c): its pointer, its end */
    uint64_t promote;              /* guest address + 1 of a block that has run often; 0: none */
    uint64_t group[JIT_GROUPS];    /* addends of the running block (groups.c) */
    uint32_t far_patience;
    struct jit_far far[JIT_FARS]; /* the first is none */
    struct jit_site site[JIT_SITES];
    int32_t heat[JIT_HEAT_SIZE];     /* of blocks, by where their code lies */
    uint8_t global[2][JIT_TLB_SIZE]; /* the entry survives CR3 writes */
    struct jit_jc_entry jc[JIT_JC_SIZE];
    /* The TLB, which the interpreter uses too (tlb.c): supervisor, user, always empty. */
    struct jit_tlb_entry tlb[3][JIT_TLB_SIZE] __attribute__((aligned(64)));
};

const char *jit_missing(void); /* what this host lacks, NULL if nothing */
int jit_new(struct ref *c, struct error *err);
void jit_free(struct ref *c);
int jit_thread_init(struct ref *c,
                    struct error *err); /* on the vCPU thread before it runs code: GS base */
/* In a signal handler: true if the fault of this ucontext_t is none of the code's own, and it goes
 * on when the handler returns. */
bool jit_resume(void *ucontext);

/* Translates; NULL if nothing of the block can be. The code stays until jit_flush. Tier 1 counts
 * how often it runs, tier 2 is for hot blocks: quicker accesses, for more memory; tier 3 for those
 * that run all the time: each access remembers its page. */
const void *jit_translate(struct ref *c, struct ref_block *b, unsigned tier);
/* Translates a block that has code once more, and leads those who enter the old code to the new. */
void jit_promote(struct ref *c, struct ref_block *b);
void jit_flush(struct ref *c); /* every translation; only while none runs */
bool jit_full(const struct ref *c);

/* Runs from c->rip, whose block has `code`; returns with all state in struct ref. */
void jit_enter(struct ref *c, const struct ref_block *b);
/* The exit that was taken last leads to b, which has code: jump there directly from now on. */
void jit_link(struct ref *c, struct ref_block *b);

void jit_jc_add(struct ref *c, uint64_t rip, const void *code);
void jit_kick(struct ref *c); /* any thread: leave generated code soon */

#endif
