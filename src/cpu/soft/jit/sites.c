/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sites: an access of a loop, or the first of a group, that remembers the page it found last.
 *
 * The check of a site compares with a tag at a fixed place instead of looking the address up, which
 * keeps two loads out of the way between an address and its data. A miss comes here. Accesses that
 * change their page all the time do better with the TLB: whenever misses come quickly, the sites
 * that miss most are given up, and their blocks translated once more.
 *
 * An empty site must not match any address. No value does that for all of 64 bits, so its tag is a
 * page that is not canonical and that nobody knows, and an access there would go to a page of ours.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/trace.h"
#include "base/zero.h"
#include "cpu/soft/jit/check.h"
#include "cpu/soft/jit/jit_internal.h"

enum {
    SITE_QUICK = 4000, /* ns from miss to miss: more than that costs nothing much */
    SITE_BAIL = 16,    /* misses that one access by the interpreter counts for */
    GROUP_FAILS = 32,
    GROUP_FORGETS = 1 << 17 /* one failure in so many cycles of the time stamp costs nothing much */
};

/* ---- which sites have a page: chains by TLB index, and of those that write by host page ---- */

enum { BY_INDEX, BY_HOST };

JIT_GENERAL_REGS static unsigned chain_of(const struct jit_site *s, unsigned which) {
    uint64_t page = which == BY_INDEX ? s->tag : (s->tag + s->addend) * 0x9e3779b97f4a7c15ull >> 20;

    return page >> 12 & (JIT_TLB_SIZE - 1);
}

JIT_GENERAL_REGS static unsigned chains(const struct jit_cache *k, unsigned site) {
    return k->site_info[site].slow & JIT_SLOW_WRITE ? 2 : 1;
}

JIT_GENERAL_REGS static void enchain(struct ref *c, unsigned site) {
    struct jit_cache *k = c->jit.cache;

    for (unsigned w = 0; w < chains(k, site); w++) {
        unsigned chain = chain_of(&c->jit.site[site], w);
        uint32_t *head = &k->site_head[w][chain];
        k->site_link[w][site] =
            (struct jit_site_link){.next = *head, .chain = (uint16_t)chain, .linked = true};
        if (*head)
            k->site_link[w][*head - 1].prev = site + 1;
        *head = site + 1;
    }
}

JIT_GENERAL_REGS static void unchain(struct ref *c, unsigned site) {
    struct jit_cache *k = c->jit.cache;

    for (unsigned w = 0; w < chains(k, site); w++) {
        struct jit_site_link *l = &k->site_link[w][site];
        if (!l->linked)
            continue;
        if (l->prev)
            k->site_link[w][l->prev - 1].next = l->next;
        else
            k->site_head[w][l->chain] = l->next;
        if (l->next)
            k->site_link[w][l->next - 1].prev = l->prev;
        l->linked = false;
    }
}

static void set_none(struct jit *j, unsigned i) {
    j->site[i].tag = j->cache->site_none;
    j->site[i].addend = (uintptr_t)j->cache->site_page - j->cache->site_none;
}

static void empty(struct ref *c, unsigned site) {
    unchain(c, site);
    set_none(&c->jit, site);
}

int sites_new(struct ref *c, struct error *err) {
    struct jit_cache *k = c->jit.cache;

    k->site_info = zero_alloc(JIT_SITES * sizeof(*k->site_info));
    k->site_page = aligned_alloc(4096, 8192);
    for (unsigned w = 0; w < 2; w++)
        k->site_link[w] = zero_alloc(JIT_SITES * sizeof(*k->site_link[w]));
    if (!k->site_link[0] || !k->site_link[1] || !k->site_info || !k->site_page)
        return error_set(err, -ENOMEM, "the translator: out of memory");
    memset(k->site_page, 0, 8192);
    k->site_none = (k->secret & 0x0fffffffffffffffull & ~4095ull) | 0x4000000000000000ull;
    return 0;
}

void sites_free(struct ref *c) {
    struct jit_cache *k = c->jit.cache;

    zero_free(k->site_info, JIT_SITES * sizeof(*k->site_info));
    free(k->site_page);
    for (unsigned w = 0; w < 2; w++)
        zero_free(k->site_link[w], JIT_SITES * sizeof(*k->site_link[w]));
}

void sites_forget(struct ref *c) {
    struct jit_cache *k = c->jit.cache;

    sites_flush(c);
    k->sites = 0;
    k->stales = 0;
    k->site_window_used = 0;
}

int sites_add(struct ref *c, const struct jit_site_info *info) {
    struct jit_cache *k = c->jit.cache;

    if (k->sites == JIT_SITES || (c->jit.off & JIT_NO_SITES))
        return -1;
    k->site_info[k->sites] = *info;
    set_none(&c->jit, k->sites);
    return (int)k->sites++;
}

size_t sites_tag(int site) {
    return offsetof(struct ref, jit.site) + (size_t)site * sizeof(struct jit_site);
}

size_t sites_addend(int site) { return sites_tag(site) + offsetof(struct jit_site, addend); }

void sites_flush(struct ref *c) {
    struct jit_cache *k = c->jit.cache;

    for (unsigned i = 0; i < k->sites; i++) {
        set_none(&c->jit, i);
        k->site_link[BY_INDEX][i].linked = k->site_link[BY_HOST][i].linked = false;
    }
    k->site_fills = 0;
    if (k->sites) /* else no chain has begun */
        memset(k->site_head, 0, sizeof(k->site_head));
}

void sites_flush_local(struct ref *c) {
    struct jit_cache *k = c->jit.cache;

    if (k->site_fills > JIT_SITES_FILLED) {
        sites_flush(c);
        return;
    }
    for (unsigned i = 0; i < k->site_fills; i++)
        empty(c, k->site_filled[i]);
    k->site_fills = 0;
}

void sites_flush_page(struct ref *c, uint64_t lin) {
    struct jit_cache *k = c->jit.cache;
    const uint32_t *head = &k->site_head[BY_INDEX][lin >> 12 & (JIT_TLB_SIZE - 1)];

    while (*head)
        empty(c, *head - 1);
}

void sites_forbid_write(struct ref *c, const uint8_t *host_page) {
    struct jit_cache *k = c->jit.cache;
    const struct jit_site s = {.addend = (uintptr_t)host_page};
    uint32_t next = k->site_head[BY_HOST][chain_of(&s, BY_HOST)];

    while (next) {
        unsigned site = next - 1;
        next = k->site_link[BY_HOST][site].next;
        if (c->jit.site[site].tag + c->jit.site[site].addend == (uintptr_t)host_page)
            empty(c, site);
    }
}

/* ---- misses ---- */

/* How many of the window's misses would be left without the sites that have `limit` or more. */
JIT_GENERAL_REGS static unsigned misses_below(const struct jit_cache *k, unsigned limit) {
    unsigned n = 0;

    for (unsigned i = 0; i < SITE_WINDOW; i++)
        n += k->site_info[k->site_window[i]].misses < limit;
    return n;
}

/* Misses come so quickly that they matter: gives up the sites that miss most, and no more of them
 * than need be. */
JIT_GENERAL_REGS static void drop_worst(struct ref *c, uint64_t elapsed) {
    struct jit_cache *k = c->jit.cache;
    unsigned limit = SITE_WINDOW;

    while (limit > 2 && misses_below(k, limit) * (uint64_t)SITE_QUICK > elapsed)
        limit /= 2;
    for (unsigned i = 0; i < SITE_WINDOW && k->stales < SITE_STALES; i++) {
        struct jit_site_info *info = &k->site_info[k->site_window[i]];
        if (info->misses < limit)
            continue;
        info->misses = 0;
        if (!(info->block->plain_sites >> info->line & 1)) {
            info->block->plain_sites |= 1ull << info->line;
            k->stale[k->stales++] = info->block;
        }
    }
    if (k->stales)
        jit_kick(c);
}

/* CPU time of this thread in ns: on a busy host the wall's clock goes on while the guest does not.
 * A system call of its own, because C libraries may use vector registers. */
JIT_GENERAL_REGS static uint64_t cpu_time(void) {
    struct timespec t = {0};
    long r = SYS_clock_gettime;

    __asm__ volatile("syscall"
                     : "+a"(r)
                     : "D"((long)CLOCK_THREAD_CPUTIME_ID), "S"(&t)
                     : "rcx", "r11", "memory");
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

JIT_GENERAL_REGS static void count_miss(struct ref *c, unsigned site) {
    struct jit_cache *k = c->jit.cache;
    uint64_t now;

    k->site_info[site].misses++;
    k->site_window[k->site_window_used++] = (uint16_t)site;
    if (k->site_window_used < SITE_WINDOW)
        return;
    now = cpu_time();
    if (now - k->site_window_began < (uint64_t)SITE_WINDOW * SITE_QUICK)
        drop_worst(c, now - k->site_window_began);
    for (unsigned i = 0; i < SITE_WINDOW; i++)
        k->site_info[k->site_window[i]].misses = 0;
    k->site_window_used = 0;
    k->site_window_began = now;
}

/* Called from generated code. Where to go on: the check again, or NULL if the TLB misses, too. */
JIT_GENERAL_REGS static const void *site_miss(struct ref *c, uint64_t lin, unsigned site) {
    struct jit *j = &c->jit;
    struct jit_cache *k = j->cache;
    struct jit_site_info *info = &k->site_info[site];
    unsigned i = lin >> 12 & (JIT_TLB_SIZE - 1), bank = c->cpl == 3;
    const struct jit_tlb_entry *t = &j->tlb[bank][i];
    bool write = info->slow & JIT_SLOW_WRITE;
    bool wraps = (c->mode & REF_MODE_FLAT) && lin >> 32; /* not an address of 32-bit code */
    uint64_t page = lin & ~4095ull, tag = write ? t->tag_w : t->tag_r;

    j->slow_lin = lin;
    j->slow_return = (uintptr_t)(k->rx + info->back);
    j->slow_info = info->slow;
    j->slow_off = info->off;
    j->misses[info->slow & JIT_SLOW_GROUP ? JIT_BY_SITE_GROUP : JIT_BY_SITE]++;

    if (tag != page || wraps || (lin & 4095) + (info->slow & 0xff) > 4096) {
        if ((info->slow & JIT_SLOW_GROUP && t->tag_r == page) ||
            wraps) /* the interpreter is dear */
            for (unsigned n = 0; n < SITE_BAIL; n++)
                count_miss(c, site);
        return NULL;
    }
    count_miss(c, site);
    if (j->check && write)
        check_grant_again(c, &j->site[site].tag, page, k->site_none);
    unchain(c, site);
    j->site[site].tag = page;
    j->site[site].addend = t->addend;
    enchain(c, site);
    if (!j->global[bank][i]) {
        if (k->site_fills < JIT_SITES_FILLED)
            k->site_filled[k->site_fills] = (uint16_t)site;
        k->site_fills++;
    }
    return (const void *)j->slow_return;
}

/* R15 = address, R14 = site. Only what C may change is saved; R12 to R15, RBX and RBP it keeps. */
void sites_emit_common(struct ref *c, struct emit *e) {
    static const uint8_t saved[] = {H_RAX, H_RCX, H_RDX, H_RSP, H_RSI, H_RDI, 8, 9, 10, 11};
    struct jit_cache *k = c->jit.cache;
    size_t slow;

    k->site = e->n;
    for (unsigned i = 0; i < sizeof(saved); i++)
        e_store(e, saved[i], offsetof(struct ref, r) + 8u * saved[i]);
    e_load(e, H_RSP, offsetof(struct ref, jit.host_rsp));
    e_bytes(e, "\x48\xbf", 2); /* mov rdi, c */
    e64(e, (uint64_t)(uintptr_t)c);
    e_mov(e, H_RSI, H_A);
    e_mov(e, H_RDX, H_B);
    e_bytes(e, "\x48\xb8", 2); /* mov rax, site_miss */
    e64(e, (uint64_t)(uintptr_t)site_miss);
    e_bytes(e, "\xff\xd0", 2); /* call rax */
    e_mov(e, H_B, H_RAX);
    for (unsigned i = 0; i < sizeof(saved); i++)
        e_load(e, saved[i], offsetof(struct ref, r) + 8u * saved[i]);
    e_bytes(e, "\x4d\x85\xf6", 3); /* test r14, r14 */
    slow = e_jcc(e, 4);
    e_bytes(e, "\x41\xff\xe6", 3); /* jmp r14 */
    e_patch_to(e, slow, k->slow);
}

void sites_group_failed(struct ref *c, const struct jit_group_record *r) {
    struct jit_cache *k = c->jit.cache;
    struct jit_group_record *g = (void *)(k->rw + ((const uint8_t *)r - k->rx));
    uint64_t now = __builtin_ia32_rdtsc(), forgotten = (now - g->when) / GROUP_FORGETS;

    g->fails = (g->fails > forgotten ? g->fails - forgotten : 0) + 1;
    g->when = now;
    if (g->fails < GROUP_FAILS || k->stales == SITE_STALES || !(g->lines & ~g->block->plain_groups))
        return;
    g->fails = 0;
    g->block->plain_groups |= g->lines;
    k->stale[k->stales++] = g->block;
    jit_kick(c);
}

void sites_renew(struct ref *c) {
    struct jit_cache *k = c->jit.cache;

    for (unsigned i = 0; i < k->stales; i++)
        if (!k->stale[i]->dead)
            jit_promote(c, k->stale[i]);
    k->stales = 0;
}
