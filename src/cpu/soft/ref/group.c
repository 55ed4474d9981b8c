/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the processors of one machine, and devices, ask of each other.
 *
 * Theory of operation: each processor has decoded blocks and a TLB of its own, which only its own
 * thread touches. So a processor that writes to a page of which others hold blocks, or decodes one
 * that others may write to by a fast hit (the page's flags tell: bus/mem.h), posts a request to
 * each of them and waits until it is served. Requests are served where no instruction is under way
 * that relies on what they take back: in the loop, and by those that wait themselves, which is why
 * two that wait for each other go on. What serves one inside of translated code leaves that code
 * after the instruction (jit.dropped).
 *
 * A processor that is outside (halted, parked, in a call of the board, standing still) is not
 * waited for: it says so before it looks at the requests, and whoever posts looks after posting, so
 * that one of the two always sees the other.
 */
#include <sched.h>

#include "base/trace.h"
#include "cpu/soft/jit/jit_internal.h"
#include "cpu/soft/ref/ref.h"

enum { SPINS = 200 }; /* then others may want the host's processor */

enum {
    REQUESTS =
        sizeof(((struct ref_group *)0)->request) / sizeof(((struct ref_group *)0)->request[0])
};

static struct ref *peer(const struct ref *c, unsigned i) {
    return (struct ref *)c->cpu.config.peers[i];
}

void ref_group_init(struct ref *c) {
    pthread_mutex_init(&c->group.lock, NULL);
    c->group.several = c->cpu.config.peers && c->cpu.config.count > 1;
    atomic_init(&c->group.outside, true);
    if (c->cpu.config.peers)
        c->cpu.config.peers[c->cpu.config.index] = &c->cpu;
}

void ref_group_done(struct ref *c) {
    if (c->cpu.config.peers && c->cpu.config.peers[c->cpu.config.index] == &c->cpu)
        c->cpu.config.peers[c->cpu.config.index] = NULL;
    pthread_mutex_destroy(&c->group.lock);
}

/* ---- asking ---- */

/* Returns the number to wait for. */
static uint64_t post(struct ref *c, gpa page, enum ref_request_kind kind) {
    struct ref_group *g = &c->group;
    uint64_t number;
    unsigned i = 0;

    pthread_mutex_lock(&g->lock);
    while (i < g->count && i < REQUESTS &&
           (g->request[i].page != page || g->request[i].kind != kind))
        i++;
    if (i == g->count && i < REQUESTS) {
        g->request[i].page = page;
        g->request[i].kind = kind;
    }
    if (i == g->count)
        g->count++;
    number = ++g->posted;
    pthread_mutex_unlock(&g->lock);
    atomic_fetch_or(&c->attention, REF_ATT_CODE);
    jit_kick(c);
    return number;
}

static void pause_or_yield(unsigned *spins) {
    if (++*spins < SPINS)
        __builtin_ia32_pause();
    else
        sched_yield();
}

/* While it waits for others it does what they ask for. */
static void serve_if_asked(struct ref *c) {
    if (atomic_load(&c->attention) & REF_ATT_CODE)
        ref_group_serve(c);
}

static void ask(struct ref *c, uint32_t who, gpa page, enum ref_request_kind kind) {
    uint64_t number[32];

    who &= ~(1u << c->cpu.config.index);
    for (uint32_t left = who; left; left &= left - 1)
        number[__builtin_ctz(left)] = post(peer(c, (unsigned)__builtin_ctz(left)), page, kind);
    for (uint32_t left = who; left; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctz(left), spins = 0;
        struct ref *p = peer(c, i);

        while (atomic_load(&p->group.served) < number[i] && !atomic_load(&p->group.outside)) {
            serve_if_asked(c);
            pause_or_yield(&spins);
        }
        stat_inc(ref_group_requests);
    }
}

void ref_group_written(struct ref *c, gpa page, uint64_t flags) {
    ask(c, (uint32_t)flags, page, REF_REQUEST_DROP);
}

void ref_group_forbid(struct ref *c, gpa page, uint64_t flags) {
    ask(c, (uint32_t)(flags >> 32), page, REF_REQUEST_FORBID);
}

void ref_group_code_written(struct ref *c, gpa page) {
    const struct mem_range *r = mem_find(ref_all_mem(c), page);

    if (c->group.several && r &&
        !(__atomic_load_n(&r->page_flags[(page - r->base) >> MEM_PAGE_SHIFT], __ATOMIC_SEQ_CST) &
          MEM_PAGE_CODE(c->cpu.config.index)))
        return;
    post(c, page, REF_REQUEST_DROP);
}

/* ---- standing still ---- */

static _Atomic(struct ref *) *holder(struct ref *c) { return &peer(c, 0)->group.holder; }

void ref_group_exclude(struct ref *c) {
    struct ref *none = NULL;
    unsigned spins = 0;

    if (!c->group.several || c->group.exclusive)
        return;
    while (!atomic_compare_exchange_strong(holder(c), &none, c)) {
        none = NULL;
        serve_if_asked(c);
        pause_or_yield(&spins);
    }
    c->group.exclusive = true;
    ask(c, (uint32_t)((1ull << c->cpu.config.count) - 1), 0, REF_REQUEST_HOLD);
    stat_inc(ref_group_exclusive);
}

void ref_group_include(struct ref *c) {
    if (!c->group.exclusive)
        return;
    c->group.exclusive = false;
    atomic_store(holder(c), NULL);
}

static bool held(struct ref *c) {
    struct ref *by = c->group.several ? atomic_load(holder(c)) : NULL;

    return by && by != c;
}

static void stand_still(struct ref *c) {
    unsigned spins = 0;

    atomic_store(&c->group.outside, true);
    while (held(c))
        pause_or_yield(&spins);
    atomic_store(&c->group.outside, false);
}

/* ---- serving ---- */

static uint8_t *host_page(struct ref *c, gpa page) {
    return mem_ptr(ref_all_mem(c), page, MEM_PAGE_SIZE, false);
}

static void forbid(struct ref *c, gpa page) {
    const struct mem_range *r = mem_find(ref_all_mem(c), page);

    ref_tlb_forbid_write(c, host_page(c, page));
    if (r) /* from here on it must ask before it writes by a fast hit again */
        __atomic_fetch_and(&r->page_flags[(page - r->base) >> MEM_PAGE_SHIFT],
                           ~MEM_PAGE_WRITER(c->cpu.config.index), __ATOMIC_SEQ_CST);
}

static void drop_everything(struct ref *c) {
    ref_cache_drop_all(c);
    ref_tlb_flush(c);
}

static void serve_one(struct ref *c, gpa page, enum ref_request_kind kind) {
    if (kind == REF_REQUEST_FORBID)
        forbid(c, page);
    else if (kind == REF_REQUEST_DROP && page == MEM_MOVED)
        drop_everything(c);
    else if (kind == REF_REQUEST_DROP)
        ref_cache_drop_page(c, page & ~(gpa)4095);
}

void ref_group_serve(struct ref *c) {
    struct ref_group *g = &c->group;

    do {
        uint64_t number;

        pthread_mutex_lock(&g->lock);
        atomic_fetch_and(&c->attention, ~(uint32_t)REF_ATT_CODE);
        number = g->posted;
        if (g->count > REQUESTS)
            drop_everything(c);
        for (unsigned i = 0; i < g->count && i < REQUESTS; i++)
            serve_one(c, g->request[i].page, g->request[i].kind);
        g->count = 0;
        pthread_mutex_unlock(&g->lock);
        c->jit.dropped = 1;
        atomic_store(&g->served, number);
        if (held(c))
            stand_still(c);
    } while (atomic_load(&c->attention) & REF_ATT_CODE);
}

void ref_group_enter(struct ref *c) {
    if (!c->group.several)
        return;
    atomic_store(&c->group.outside, false);
    if (held(c)) /* its request may have been served before this processor left */
        stand_still(c);
}

void ref_group_leave(struct ref *c) {
    if (c->group.several)
        atomic_store(&c->group.outside, true);
}

void ref_bus_end(struct ref *c) {
    if (!c->group.several)
        return;
    ref_group_enter(c);
    serve_if_asked(c);
}
