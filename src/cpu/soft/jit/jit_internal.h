/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the two halves of the translator share: jit.c (run time) and translate.c. */
#ifndef CPU_SOFT_JIT_JIT_INTERNAL_H
#define CPU_SOFT_JIT_JIT_INTERNAL_H

#include "cpu/soft/jit/emit.h"
#include "cpu/soft/jit/jit.h"
#include "cpu/soft/ref/ref.h"

enum {
    JIT_BLOCK_MAX = 65536,
    JIT_HEAD = 8, /* bytes at the beginning of a block that jit_promote replaces */
    JIT_KEYS = 64,
    JIT_RETURNS_SIZE = 65536,
    JIT_HOT = 1500,     /* times a block runs before its second translation */
    JIT_MEASURED = 256, /* ... and how often it runs while its speed is looked at */
    JIT_TIGHT = 100     /* units of time (1024 cycles) in which it does so if it is a loop's */
};

enum { /* jit.slow_info */
       JIT_SLOW_WRITE = 0x100,
       JIT_SLOW_ALIGN = 0x200,  /* must not cross a page */
       JIT_SLOW_SITE = 0x400,   /* the check of a site */
       JIT_SLOW_DIRECT = 0x800, /* the operand is the guest's own + B, not [A + B] */
       JIT_SLOW_GROUP = 0x1000, /* several accesses: what is not in one page is the interpreter's */
       JIT_SLOW_LATER = 0x2000, /* the write is not the first of them */
};

enum { /* bytes of a check without alignment, of the three kinds */
       JIT_CHECK_TLB = 42,
       JIT_CHECK_SITE = 34,
       JIT_CHECK_DIRECT = 31,
};

enum { JIT_KEY_VALUES = 1 << 12 };

#define JIT_POISON    (0x8000ull << 48) /* a key that no entry of the jump cache has */
#define JIT_UNREACHED (0x4000ull << 48) /* see jc_empty */

struct jit_link {  /* lies in the code cache, next to its exit */
    uint32_t at;   /* offset of the jump's displacement */
    uint32_t page; /* number of the physical page it lies in */
    uint32_t next; /* offset of the next link to the same block, 0: none */
};

enum { SITE_WINDOW = 1024, SITE_STALES = 64 };

/* Of functions that translated code calls while vector registers are the guest's. Sanitizers would
 * have them call memset and memcpy, which use vectors. */
#define JIT_GENERAL_REGS                                                                           \
    __attribute__((target("general-regs-only"), no_sanitize("address"), no_sanitize("undefined")))

struct jit_slow_record { /* lies in the code cache, behind the stub of an access */
    uint32_t retry;      /* offset of its check */
    uint32_t info;       /* offset of the instruction in its page << 16 | size | JIT_SLOW_* */
};

struct jit_group_record { /* the same of a group */
    struct jit_slow_record slow;
    struct ref_block *block;
    uint64_t lines; /* its members, as a set */
    uint64_t fails; /* not forgotten yet, the last of them at this time stamp */
    uint64_t when;
};

struct jit_site_info {
    struct ref_block *block;
    uint32_t back;   /* offset in the code cache of the check */
    uint16_t off;    /* of the instruction in its page */
    uint16_t slow;   /* size | JIT_SLOW_* */
    uint16_t misses; /* in this window */
    uint8_t line;
};

struct jit_site_link {
    uint32_t prev, next;
    uint16_t chain;
    bool linked;
};

struct jit_far_info {
    struct ref_block *to;               /* that it leads to; NULL: nowhere yet */
    uint32_t next;                      /* of those that lead there */
    uint32_t jump, detour, detour_jump; /* offsets in the code cache; of displacements: jumps */
    uint32_t last;                      /* the jump of the two that leads to the successor */
    bool bare;                          /* flags are not saved, but by the detour */
};

struct jit_cache {
    uint8_t *rw, *rx;
    /* Shared code, then blocks from `start` to `used`; their stubs from `cold_start` to `cold`. */
    size_t size, start, used, cold_start, cold;
    bool huge;                /* the mappings are aligned to huge pages */
    size_t ready, cold_ready; /* up to here they are on such pages, as far as the host has them */
    void (*enter)(struct ref *c, const void *code);
    size_t leave, bail, slow, slow_record, site, helper, vec_load, far,
        resume;                 /* offsets of the shared code */
    uint32_t key_for[JIT_KEYS]; /* ref_jc_key; 0: none */
    uint16_t key_value[JIT_KEYS];
    unsigned next_key;
    uint8_t *returns; /* JIT_RETURNS_SIZE bytes, aligned to that */
    unsigned sites;   /* in use; sites.c */
    struct jit_site_info *site_info;
    uint8_t *site_page; /* where accesses by empty sites would go */
    unsigned fars;      /* in use; far.c */
    struct jit_far_info *far_info;
    uint64_t secret;    /* no guest knows it */
    uint64_t site_none; /* tag of an empty site */
    uint16_t site_filled[JIT_SITES_FILLED];
    unsigned site_fills; /* since the last flush; above the array: many */
    /* Chains of the sites that have a page (sites.c); numbers are one more than the site's. */
    uint32_t site_head[2][JIT_TLB_SIZE];
    struct jit_site_link *site_link[2];
    uint16_t site_window[SITE_WINDOW]; /* the last misses, since a time stamp */
    unsigned site_window_used;
    uint64_t site_window_began;
    struct trans *trans;                  /* at work on a block: translate.c */
    struct ref_block *stale[SITE_STALES]; /* to be translated again: their sites were no good */
    unsigned stales;
};

/* Offset in struct ref of the counter of the block whose code begins at `used`. */
static inline size_t jit_heat_slot(size_t used) {
    return offsetof(struct ref, jit.heat) + 4 * ((used >> 4) % JIT_HEAT_SIZE);
}

/* ---- sites.c ---- */
int sites_new(struct ref *c, struct error *err);
void sites_free(struct ref *c);
void sites_forget(struct ref *c); /* all of them: the code that used them is gone */
int sites_add(struct ref *c,
              const struct jit_site_info *info); /* its number, -1 when all are used */
size_t sites_tag(int site);                      /* offset in struct ref */
size_t sites_addend(int site);
void sites_flush(struct ref *c);
void sites_flush_local(struct ref *c);
void sites_flush_page(struct ref *c, uint64_t lin);
void sites_forbid_write(struct ref *c, const uint8_t *host_page);
void sites_emit_common(struct ref *c, struct emit *e); /* after `slow` */
/* The range of a group, whose record this is, is not in one page that allows all it does. */
void sites_group_failed(struct ref *c, const struct jit_group_record *r);
void sites_renew(
    struct ref *c); /* translates again what had bad sites; while no generated code runs */

/* ---- far.c ---- */
int far_new(struct ref *c, struct error *err);
void far_free(struct ref *c);
void far_forget(struct ref *c);        /* all: their code is gone */
void far_forget_guards(struct ref *c); /* keys are used again */
unsigned far_add(struct ref *c);       /* its number; 0: no more */
/* The exit that was taken leads to b, at c->rip. */
void far_link(struct ref *c, unsigned i, struct ref_block *b);
void far_promoted(struct ref *c, const struct ref_block *b, const uint8_t *code);
void far_emit_common(struct ref *c, struct emit *e); /* after `leave` */

void jit_emit_common(struct ref *c);
void jit_prepare(struct ref *c);     /* before a translation */
void jit_set_key(struct ref *c);     /* after c->mode or a generation changed */
void jit_forget_keys(struct ref *c); /* generations begin anew */

#endif
