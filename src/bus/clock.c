/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtual clock: CLOCK_MONOTONIC and the host's TSC, each with an offset, and timers in a heap.
 * TSC facts: Intel SDM volume 3B, 18.17 (invariant TSC: CPUID 80000007h EDX bit 8).
 *
 * The offsets are read under a sequence counter, because clock_now is called from vCPU threads
 * without the machine lock; the writer takes the host's time while the counter is odd, so that
 * nobody can have read a later one. One timerfd wakes the loop. It is set anew only for a deadline
 * earlier than the one it holds: guests push their timer to a later time thousands of times a
 * second, and a wake-up too early costs less than a system call each time.
 *
 * An idle guest sets a timer and halts, some ten times a second: the timerfd is not set when the
 * processor promises to halt soon, and a halted processor borrows the clock and sleeps until the
 * deadline itself. Who arms an earlier timer meanwhile sets the timerfd as ever.
 */
#include "bus/clock.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/loop.h"
#include "base/trace.h"
#include "bus/clock_tsc.h"

/*
 * Calls (main, vcpu): timerfd_create timerfd_settime
 */

/* After this many timers in a row other descriptors and the vCPU get their turn. */
enum { TIMERS_PER_ROUND = 64 };
/* A guest notices no difference in rates below this; its own time source drifts more. */
enum { TSC_SAME_PPM = 250 };
enum { INSTANT_TRIES = 8, INSTANT_CYCLES = 2000 };

#define NS_PER_SEC 1000000000ull
#define NEVER      UINT64_MAX

struct clock {
    unsigned seq; /* odd while the next three change */
    bool running;
    uint64_t base;     /* running: virtual minus host time; else the virtual time */
    uint64_t tsc_base; /* the same for the TSC */

    bool stepped;
    bool host_tsc; /* the guest's TSC is the host's, moved */
    uint64_t tsc_hz;
    uint64_t tsc_moved; /* otherwise: the TSC at time 0, after a restore */

    struct clock_timer **heap; /* heap[1] is the earliest; [0] unused */
    unsigned count, cap;
    uint64_t armed_so_far; /* gives clock_timer.order */

    bool (*promise)(void *opaque);
    void *promise_opaque;
    bool put_off;         /* the timerfd may have to be set: whoever promised will see to it */
    const void *borrower; /* NULL: nobody */
    uint64_t borrowed_until;

    int timerfd;
    uint64_t programmed; /* virtual time for which the timerfd is set */
    struct loop_watch *watch;
};

static uint64_t host_now(void) {
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts); /* vdso: no system call */
    return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

static uint64_t ns_to_tsc(const struct clock *c, uint64_t ns) {
    if (c->tsc_hz == NS_PER_SEC)
        return ns;
    return (uint64_t)((unsigned __int128)ns * c->tsc_hz / NS_PER_SEC);
}

/* One instant on both of the host's clocks: if the host takes the processor away between the two
 * readings, once in a pause, the guest's clocks would differ by that for ever. */
static void host_instant(uint64_t *ret_ns, uint64_t *ret_tsc) {
    uint64_t best = UINT64_MAX;

    for (unsigned i = 0; i < INSTANT_TRIES && best > INSTANT_CYCLES; i++) {
        uint64_t before = __rdtsc(), ns = host_now(), took = __rdtsc() - before;

        if (took >= best)
            continue;
        best = took;
        *ret_ns = ns;
        *ret_tsc = before + took / 2;
    }
}

/* ------------------------------------------------------------------ reading and moving the time */

static unsigned read_begin(const struct clock *c) {
    return __atomic_load_n(&c->seq, __ATOMIC_ACQUIRE);
}

/* RDTSC is not ordered with loads by itself (SDM volume 2, RDTSC); here it must lie between two of
 * them. */
static bool read_again(const struct clock *c, unsigned seq) {
    _mm_lfence();
    return (seq & 1) || __atomic_load_n(&c->seq, __ATOMIC_ACQUIRE) != seq;
}

/* The full fence makes the odd number visible before the host's time is read. */
static void write_begin(struct clock *c) {
    __atomic_store_n(&c->seq, c->seq + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void write_point(struct clock *c, bool running, uint64_t base, uint64_t tsc_base) {
    __atomic_store_n(&c->running, running, __ATOMIC_RELAXED);
    __atomic_store_n(&c->base, base, __ATOMIC_RELAXED);
    __atomic_store_n(&c->tsc_base, tsc_base, __ATOMIC_RELAXED);
    __atomic_store_n(&c->seq, c->seq + 1, __ATOMIC_RELEASE);
}

static void set_point(struct clock *c, bool running, uint64_t base, uint64_t tsc_base) {
    write_begin(c);
    write_point(c, running, base, tsc_base);
}

/* The host's time is read inside the sequence: taken outside, it could lie after a pause already in
 * force. */
uint64_t clock_now(const struct clock *c) {
    uint64_t now;
    unsigned seq;

    do {
        seq = read_begin(c);
        now = __atomic_load_n(&c->base, __ATOMIC_RELAXED);
        if (__atomic_load_n(&c->running, __ATOMIC_RELAXED) && !c->stepped)
            now += host_now();
    } while (read_again(c, seq));
    return now;
}

bool clock_running(const struct clock *c) { return c->running; }

unsigned clock_generation(const struct clock *c) {
    return __atomic_load_n(&c->seq, __ATOMIC_ACQUIRE);
}

uint64_t clock_tsc_hz(const struct clock *c) { return c->tsc_hz; }

uint64_t clock_tsc(const struct clock *c) {
    uint64_t tsc;
    unsigned seq;

    if (!c->host_tsc)
        return ns_to_tsc(c, clock_now(c)) + c->tsc_moved;
    do {
        seq = read_begin(c);
        tsc = __atomic_load_n(&c->tsc_base, __ATOMIC_RELAXED);
        if (__atomic_load_n(&c->running, __ATOMIC_RELAXED)) {
            _mm_lfence();
            tsc += __rdtsc();
        }
    } while (read_again(c, seq));
    return tsc;
}

bool clock_tsc_offset(const struct clock *c, uint64_t *ret_offset) {
    uint64_t offset;
    bool running;
    unsigned seq;

    if (!c->host_tsc)
        return false;
    do {
        seq = read_begin(c);
        running = __atomic_load_n(&c->running, __ATOMIC_RELAXED);
        offset = __atomic_load_n(&c->tsc_base, __ATOMIC_RELAXED);
    } while (read_again(c, seq));
    if (running)
        *ret_offset = offset;
    return running;
}

/* ------------------------------------------------------------------ the heap */

static bool earlier(const struct clock_timer *a, const struct clock_timer *b) {
    return a->deadline != b->deadline ? a->deadline < b->deadline : a->order < b->order;
}

static void put_at(struct clock *c, unsigned i, struct clock_timer *t) {
    c->heap[i] = t;
    t->heap_index = i;
}

/* Lets t sink or rise from the free place i to where it belongs. */
static void settle(struct clock *c, unsigned i, struct clock_timer *t) {
    for (; i > 1 && earlier(t, c->heap[i / 2]); i /= 2)
        put_at(c, i, c->heap[i / 2]);
    for (unsigned child; (child = 2 * i) <= c->count; i = child) {
        if (child < c->count && earlier(c->heap[child + 1], c->heap[child]))
            child++;
        if (!earlier(c->heap[child], t))
            break;
        put_at(c, i, c->heap[child]);
    }
    put_at(c, i, t);
}

static void heap_insert(struct clock *c, struct clock_timer *t) {
    if (c->count + 2 > c->cap) {
        c->cap = c->cap ? c->cap * 2 : 64;
        c->heap = realloc(c->heap, c->cap * sizeof(*c->heap));
        if (!c->heap)
            abort(); /* as many timers as devices, a few dozens */
    }
    c->count++;
    settle(c, c->count, t);
}

static void heap_delete(struct clock *c, struct clock_timer *t) {
    unsigned i = t->heap_index;
    struct clock_timer *last = c->heap[c->count--];

    t->heap_index = 0;
    if (last != t)
        settle(c, i, last);
}

static void fire_first(struct clock *c) {
    struct clock_timer *t = c->heap[1];

    heap_delete(c, t);
    stat_inc(clock_fired);
    t->fn(t->opaque);
}

/* ------------------------------------------------------------------ the timerfd */

static uint64_t earliest(const struct clock *c) { return c->count ? c->heap[1]->deadline : NEVER; }

/* CLOCK_MONOTONIC of a virtual time, never 0, which would switch a timer off. */
static uint64_t host_time(const struct clock *c, uint64_t deadline) {
    __int128 host = (__int128)deadline - (int64_t)c->base;

    if (host < 1)
        return 1; /* before the host started: due now */
    return host > INT64_MAX ? INT64_MAX : (uint64_t)host;
}

static void set_timerfd(struct clock *c) {
    uint64_t deadline = earliest(c), host;
    struct itimerspec its = {0};

    c->put_off = false;
    if (deadline >= c->programmed)
        return;
    c->programmed = deadline;
    host = host_time(c, deadline);
    its.it_value.tv_sec = (time_t)(host / NS_PER_SEC);
    its.it_value.tv_nsec = (long)(host % NS_PER_SEC);
    if (timerfd_settime(c->timerfd, TFD_TIMER_ABSTIME, &its, NULL) < 0)
        abort(); /* cannot fail for a valid time */
    stat_inc(clock_programmed);
}

static void program(struct clock *c) {
    uint64_t deadline = earliest(c);

    if (c->stepped || !c->running || deadline >= c->programmed || c->put_off ||
        (c->borrower && deadline >= c->borrowed_until))
        return;
    if (c->promise && c->promise(c->promise_opaque))
        c->put_off = true;
    else
        set_timerfd(c);
}

static void fire_due(struct clock *c, uint64_t now) {
    for (unsigned i = 0; i < TIMERS_PER_ROUND && c->running; i++) {
        if (earliest(c) > now)
            break;
        fire_first(c);
    }
}

static void timerfd_ready(void *opaque, int fd, uint32_t events) {
    struct clock *c = opaque;
    uint64_t expirations, now;

    if (read(fd, &expirations, sizeof(expirations)) != sizeof(expirations))
        return;        /* was set anew meanwhile */
    c->programmed = 0; /* what callbacks arm needs no system call: program() below sees it */
    now = clock_now(c);
    if (c->running && c->count && earliest(c) > now)
        stat_inc(clock_early);
    fire_due(c, now);
    c->programmed = NEVER;
    program(c);
}

/* ------------------------------------------------------------------ waiting for the clock */

void clock_set_promise(struct clock *c, bool (*promise)(void *opaque), void *opaque) {
    c->promise = promise;
    c->promise_opaque = opaque;
}

void clock_settle(struct clock *c) {
    if (c->put_off)
        set_timerfd(c);
}

uint64_t clock_borrow(struct clock *c, const void *who) {
    uint64_t deadline = earliest(c);

    if (c->stepped || !c->running || c->borrower || deadline >= c->programmed) {
        clock_settle(c);
        return NEVER;
    }
    c->put_off = false;
    c->borrower = who;
    c->borrowed_until = deadline;
    stat_inc(clock_borrowed);
    return host_time(c, deadline);
}

void clock_return(struct clock *c, const void *who) {
    if (c->borrower != who)
        return; /* the clock was paused since */
    c->borrower = NULL;
    fire_due(c, clock_now(c));
    program(c);
}

/* ------------------------------------------------------------------ making and running it */

static void find_rate(struct clock *c, uint64_t known) {
    c->tsc_hz = clock_tsc_measure(known);
    c->host_tsc = c->tsc_hz != 0;
    if (!c->host_tsc)
        c->tsc_hz = NS_PER_SEC;
}

struct clock *clock_new(struct loop *loop, struct error *err) {
    struct clock *c = clock_new_restored(loop, err);

    if (c)
        find_rate(c, 0);
    return c;
}

struct clock *clock_new_restored(struct loop *loop, struct error *err) {
    struct clock *c = calloc(1, sizeof(*c));

    if (!c) {
        error_set(err, -ENOMEM, "clock: out of memory");
        return NULL;
    }
    c->programmed = NEVER;
    c->timerfd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (c->timerfd >= 0)
        c->watch = loop_add(loop, c->timerfd, EPOLLIN, timerfd_ready, c);
    if (!c->watch) {
        error_set(err, errno ? -errno : -ENOMEM,
                  "clock: no timer from the host: %s; raise the limit of open files",
                  strerror(errno));
        clock_free(c);
        return NULL;
    }
    return c;
}

struct clock *clock_new_stepped(void) {
    struct clock *c = calloc(1, sizeof(*c));

    if (!c)
        abort(); /* only tests and tools make one */
    c->stepped = true;
    c->running = true;
    c->tsc_hz = NS_PER_SEC;
    c->programmed = NEVER;
    c->timerfd = -1;
    return c;
}

void clock_free(struct clock *c) {
    if (!c)
        return;
    loop_remove(c->watch);
    if (c->timerfd >= 0)
        close(c->timerfd);
    free(c->heap);
    free(c);
}

void clock_start(struct clock *c) {
    uint64_t ns = 0, tsc = 0;

    if (c->running)
        return;
    write_begin(c);
    if (!c->stepped)
        host_instant(&ns, &tsc);
    write_point(c, true, c->base - ns, c->tsc_base - tsc);
    c->programmed = NEVER; /* virtual deadlines have new host times */
    program(c);
}

void clock_pause(struct clock *c) {
    uint64_t ns = 0, tsc = 0;

    if (!c->running)
        return;
    c->borrower = NULL;
    c->put_off = false;
    write_begin(c);
    if (!c->stepped)
        host_instant(&ns, &tsc);
    write_point(c, false, c->base + ns, c->tsc_base + tsc);
}

void clock_set(struct clock *c, uint64_t now) {
    assert(!c->running || c->stepped);
    set_point(c, c->running, now, ns_to_tsc(c, now));
}

void clock_restore(struct clock *c, uint64_t now, uint64_t tsc, uint64_t tsc_hz) {
    uint64_t diff;

    assert(!c->running || c->stepped);
    if (!c->tsc_hz)
        find_rate(c, tsc_hz);
    diff = c->tsc_hz > tsc_hz ? c->tsc_hz - tsc_hz : tsc_hz - c->tsc_hz;
    if (diff > tsc_hz / 1000000 * TSC_SAME_PPM) {
        c->host_tsc = false;
        c->tsc_hz = tsc_hz;
    }
    c->tsc_moved = tsc - ns_to_tsc(c, now);
    set_point(c, c->running, now, tsc);
}

void clock_step(struct clock *c, uint64_t ns) {
    uint64_t target = ns > NEVER - c->base ? NEVER : c->base + ns;

    assert(c->stepped);
    while (c->running && c->count && c->heap[1]->deadline <= target) {
        if (c->heap[1]->deadline > c->base)
            set_point(c, true, c->heap[1]->deadline, 0);
        fire_first(c);
    }
    if (c->running && target > c->base)
        set_point(c, true, target, 0);
}

/* ------------------------------------------------------------------ timers */

void clock_timer_init(struct clock_timer *t, struct clock *clock, void (*fn)(void *),
                      void *opaque) {
    *t = (struct clock_timer){.clock = clock, .fn = fn, .opaque = opaque};
}

void clock_timer_arm(struct clock_timer *t, uint64_t deadline) {
    struct clock *c = t->clock;

    t->deadline = deadline;
    t->order = c->armed_so_far++;
    if (t->heap_index)
        settle(c, t->heap_index, t);
    else
        heap_insert(c, t);
    program(c);
}

void clock_timer_disarm(struct clock_timer *t) {
    if (t->heap_index)
        heap_delete(t->clock, t);
}

bool clock_timer_armed(const struct clock_timer *t) { return t->heap_index != 0; }
