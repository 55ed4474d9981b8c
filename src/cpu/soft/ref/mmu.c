/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Page walks: 32-bit, PAE and 4-level paging, with accessed and dirty bits and exact #PF error
 * codes. Source: Intel SDM vol. 3A chapter 4 (4.3 32-bit, 4.4 PAE, 4.5 4-level, 4.6 rights, 4.7
 * error codes, 4.8 A/D).
 *
 * Runs on every TLB miss. An entry is read through the host mapping of guest RAM; a table outside
 * RAM reads as zero, so its pages are not present (the manual leaves it open). Accessed and dirty
 * bits are set, by compare and exchange, only after the whole walk and the rights check have
 * succeeded; if an entry has changed meanwhile the walk starts again. Tables in ROM keep their bits
 * as they are.
 */
#include "cpu/cpuid.h"
#include "cpu/soft/jit/check.h"
#include "cpu/soft/ref/sys.h"

#define PTE_P    (1ull << 0)
#define PTE_W    (1ull << 1)
#define PTE_U    (1ull << 2)
#define PTE_A    (1ull << 5)
#define PTE_D    (1ull << 6)
#define PTE_PS   (1ull << 7)
#define PTE_G    (1ull << 8)
#define PTE_NX   (1ull << 63)
#define PTE_ADDR 0x000ffffffffff000ull

enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_ID = 16 };

/* Bits 51:46 of any 64-bit entry that points somewhere. */
#define PHYS_RESERVED (PTE_ADDR & CPUID_PHYS_RESERVED)

struct walk {
    struct ref *c;
    uint8_t *entry[4]; /* host address of each entry used, NULL if outside RAM */
    uint64_t value[4];
    unsigned depth;
    bool readonly;   /* some table is in ROM */
    uint64_t rights; /* W and U: and of all levels; NX: or */
    gpa base;        /* of the page */
    uint64_t offset_mask;
};

enum { WALK_OK, WALK_ABSENT, WALK_RESERVED };

/* The entry at a physical address, noted for the accessed bit. */
static uint64_t read_entry(struct walk *w, gpa addr, unsigned size) {
    const struct mem *m = w->c->mem;
    const struct mem_range *r = &m->range[m->big[0]];
    uint64_t v = 0;
    uint8_t *p;

    if (REF_UNLIKELY(addr - r->base >= r->size)) {
        r = mem_find(m, addr);
        if (!r)
            return 0;
    }
    p = r->host + (addr - r->base); /* aligned, so it does not cross the end of the range */
    w->readonly |= r->readonly;
    if (size == 8)
        v = __atomic_load_n((uint64_t *)p, __ATOMIC_RELAXED);
    else
        v = __atomic_load_n((uint32_t *)p, __ATOMIC_RELAXED);
    w->entry[w->depth] = p;
    w->value[w->depth++] = v;
    return v;
}

/* ------------------------------------------------------------------ the three formats */

static int walk_long(struct walk *w, uint64_t lin, uint64_t nx_reserved) {
    uint64_t rights = PTE_W | PTE_U | PTE_NX, e = w->c->s.cr3;

    for (int shift = 39;; shift -= 9) {
        e = read_entry(w, (e & PTE_ADDR) + (lin >> shift & 511) * 8, 8);
        if (!(e & PTE_P))
            return WALK_ABSENT;
        if (e & (PHYS_RESERVED | nx_reserved))
            return WALK_RESERVED;
        rights &= e ^ PTE_NX; /* NX is collected inverted */
        if (shift == 12)
            break;
        if (!(e & PTE_PS))
            continue;
        if (shift == 39) /* 1 GiB pages are in every model */
            return WALK_RESERVED;
        if (e & ((1ull << shift) - 1) & 0x3fffe000)
            return WALK_RESERVED;
        w->offset_mask = (1ull << shift) - 1;
        break;
    }
    w->rights = rights ^ PTE_NX;
    w->base = e & PTE_ADDR & ~w->offset_mask;
    return WALK_OK;
}

static int walk_pae(struct walk *w, uint64_t lin, uint64_t nx_reserved) {
    uint64_t reserved = PHYS_RESERVED | 0x7ff0000000000000ull | nx_reserved;
    uint64_t rights = PTE_W | PTE_U | PTE_NX;
    uint64_t e = w->c->s.pdpte[lin >> 30 & 3];

    if (!(e & PTE_P))
        return WALK_ABSENT;
    for (int shift = 21;; shift = 12) {
        e = read_entry(w, (e & PTE_ADDR) + (lin >> shift & 511) * 8, 8);
        if (!(e & PTE_P))
            return WALK_ABSENT;
        if (e & reserved)
            return WALK_RESERVED;
        rights &= e ^ PTE_NX;
        if (shift == 12)
            break;
        if (e & PTE_PS) {
            if (e & 0x1fe000)
                return WALK_RESERVED;
            w->offset_mask = 0x1fffff;
            break;
        }
    }
    w->rights = rights ^ PTE_NX;
    w->base = e & PTE_ADDR & ~w->offset_mask;
    return WALK_OK;
}

static int walk_32(struct walk *w, uint64_t lin) {
    uint64_t e = read_entry(w, (w->c->s.cr3 & 0xfffff000) + (lin >> 22 & 1023) * 4, 4);
    uint64_t rights = e;

    if (!(e & PTE_P))
        return WALK_ABSENT;
    if ((e & PTE_PS) && (w->c->s.cr4 & X86_CR4_PSE)) {
        if (e & 1 << 21)
            return WALK_RESERVED;
        w->offset_mask = 0x3fffff;
        w->base = (e & 0xffc00000) | (e & 0x1fe000) << 19; /* PSE-36: address bits 39:32 */
    } else {
        e = read_entry(w, (e & 0xfffff000) + (lin >> 12 & 1023) * 4, 4);
        if (!(e & PTE_P))
            return WALK_ABSENT;
        rights &= e;
        w->base = e & 0xfffff000;
    }
    w->rights = rights & (PTE_W | PTE_U);
    return WALK_OK;
}

/* ------------------------------------------------------------------ rights, accessed and dirty */

static bool writable(const struct ref *c, uint64_t rights, bool user) {
    return (rights & PTE_W) || (!user && !(c->s.cr0 & X86_CR0_WP));
}

static bool allowed(const struct ref *c, uint64_t rights, enum ref_access access, bool user) {
    if (user && !(rights & PTE_U))
        return false;
    if (access == REF_WRITE)
        return writable(c, rights, user);
    if (access == REF_FETCH) {
        if ((rights & PTE_NX))
            return false;
        if (!user && (rights & PTE_U) && (c->s.cr4 & X86_CR4_SMEP))
            return false;
    }
    return true;
}

/* Sets bits in the entry of level i. False if somebody else changed it first. */
static bool set_bits(struct walk *w, unsigned i, uint64_t bits, unsigned size) {
    struct mem *m = w->c->mem;
    uint64_t old = w->value[i];
    uint32_t old32 = (uint32_t)old;
    bool done;

    if (w->c->jit.check)
        check_walk(w->c, w->entry[i]);
    if (size == 8)
        done = __atomic_compare_exchange_n((uint64_t *)w->entry[i], &old, old | bits, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    else
        done = __atomic_compare_exchange_n((uint32_t *)w->entry[i], &old32, old32 | (uint32_t)bits,
                                           false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    if (done) /* rare enough to look whether the table also holds decoded code */
        for (unsigned k = 0; k < m->count; k++)
            if ((uint64_t)(w->entry[i] - m->range[k].host) < m->range[k].size) {
                mem_written(m, m->range[k].base + (uint64_t)(w->entry[i] - m->range[k].host), size);
                break;
            }
    w->value[i] |= bits;
    return done;
}

static bool set_accessed(struct walk *w, bool write, unsigned size) {
    for (unsigned i = 0; i < w->depth; i++) {
        uint64_t bits = PTE_A | (write && i + 1 == w->depth ? PTE_D : 0);

        if ((w->value[i] & bits) != bits && !set_bits(w, i, bits, size))
            return false;
    }
    return true;
}

static uint32_t error_code(const struct ref *c, enum ref_access access, bool user, int outcome) {
    bool nx = (c->s.cr4 & X86_CR4_PAE) && (c->s.efer & X86_EFER_NXE);
    uint32_t e = (access == REF_WRITE ? PF_W : 0) | (user ? PF_U : 0);

    if (access == REF_FETCH && (nx || (c->s.cr4 & X86_CR4_SMEP)))
        e |= PF_ID;
    if (outcome == WALK_RESERVED)
        e |= PF_RSVD;
    return outcome == WALK_ABSENT ? e : e | PF_P;
}

int ref_mmu_translate(struct ref *c, uint64_t lin, enum ref_access access, bool user,
                      struct ref_xlat *ret, uint32_t *ret_error) {
    uint64_t nx_reserved = c->s.efer & X86_EFER_NXE ? 0 : PTE_NX;
    bool wide = c->s.cr4 & X86_CR4_PAE;
    struct walk w;
    int outcome;

    if (!(c->s.cr0 & X86_CR0_PG)) {
        *ret = (struct ref_xlat){.pa = (uint32_t)lin, .writable = true};
        return 0;
    }
    do {
        w.c = c;
        w.depth = 0;
        w.readonly = false;
        w.offset_mask = 0xfff;
        if (c->s.efer & X86_EFER_LMA)
            outcome = walk_long(&w, lin, nx_reserved);
        else if (wide)
            outcome = walk_pae(&w, (uint32_t)lin, nx_reserved);
        else
            outcome = walk_32(&w, (uint32_t)lin);
        if (outcome != WALK_OK || !allowed(c, w.rights, access, user)) {
            *ret_error = error_code(c, access, user, outcome);
            return -1;
        }
    } while (!w.readonly && !set_accessed(&w, access == REF_WRITE, wide ? 8 : 4));
    ret->pa = w.base | (lin & w.offset_mask);
    ret->writable = writable(c, w.rights, user) && (w.readonly || (w.value[w.depth - 1] & PTE_D));
    ret->large = w.offset_mask != 0xfff;
    ret->global = (w.value[w.depth - 1] & PTE_G) && (c->s.cr4 & X86_CR4_PGE);
    if (ret->large)
        c->large_seen[lin >> 36 & 7] |= 1ull << (lin >> 30 & 63);
    return 0;
}

bool ref_load_pdptes(struct ref *c, uint64_t cr3) {
    uint64_t entry[4] = {0};
    gpa base = cr3 & 0xffffffe0;

    for (unsigned i = 0; i < 4; i++) {
        struct walk w = {.c = c};

        entry[i] = read_entry(&w, base + i * 8, 8);
        if ((entry[i] & PTE_P) && (entry[i] & (CPUID_PHYS_RESERVED | 0x1e6)))
            return false;
    }
    memcpy(c->s.pdpte, entry, sizeof(entry));
    return true;
}
