/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processor threads. A halted processor sleeps on a condition of its own, so that interrupts wake
 * one thread only. */
#include "machine/vcpu.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/jail.h"
#include "base/loop.h"
#include "base/thread_place.h"
#include "base/trace.h"

/*
 * Calls (vcpu): openat
 */

struct vcpu {
    const struct cpu_ops *ops;
    struct cpu *cpu;
    struct vcpu_owner owner;
    pthread_t thread;
    bool started;
    unsigned index;
    /* Under the machine lock. */
    bool want_run, quit, parked, dead;
    pthread_cond_t changed;
    /* Sleep of a halted processor. */
    pthread_mutex_t sleep_lock;
    pthread_cond_t wake;
    bool kicked;
    bool polling; /* it waits for wake_fd, not for the condition */
    int wake_fd;
    int schedstat; /* its own thread's */
    /* Its own thread's. */
    bool promised;    /* the host's timer is not set */
    unsigned luck;    /* halts that followed promises, less what did not, up to LUCK_MAX */
    unsigned unlucky; /* promises not given since */
};

enum { LENT_MAX = 16 }; /* descriptors that a sleeping processor waits for */

/* A guest that is busy sets timers as well, and does not halt: then a promise only costs time. */
enum { LUCK_MAX = 8, LUCK_LOST = 4, TRY_AGAIN = 32 };

#define NS_PER_SEC 1000000000ull

static _Thread_local struct vcpu *this_vcpu;

struct cpu *vcpu_cpu(struct vcpu *v) {
    return v->cpu;
}

struct cpu *vcpu_change(struct vcpu *v, struct cpu *cpu) {
    struct cpu *old = v->cpu;

    v->ops = cpu->ops;
    v->cpu = cpu;
    return old;
}

static void wake(struct vcpu *v, bool kick) {
    uint64_t one = 1;
    ssize_t n;

    pthread_mutex_lock(&v->sleep_lock);
    if (kick)
        v->kicked = true;
    if (v->polling) {
        n = write(v->wake_fd, &one, sizeof(one));
        assert(n == sizeof(one) || errno == EAGAIN); /* full: awake anyway */
        (void)n;
    } else {
        pthread_cond_signal(&v->wake);
    }
    pthread_mutex_unlock(&v->sleep_lock);
}

void vcpu_signal(struct vcpu *v, enum cpu_signal_kind kind, uint8_t vector) {
    v->ops->signal(v->cpu, kind, vector);
    if (kind != CPU_SIGNAL_INTR_OFF && !(v->started && pthread_equal(v->thread, pthread_self())))
        wake(v, false);
}

void vcpu_kick(struct vcpu *v) {
    v->ops->kick(v->cpu);
    wake(v, true);
}

bool vcpu_promise(void *opaque) {
    struct vcpu *v = this_vcpu;

    if (!v || v->quit || !v->want_run || !v->ops->soon)
        return false;
    if (!v->luck && ++v->unlucky % TRY_AGAIN)
        return false;
    v->promised = v->ops->soon(v->cpu);
    return v->promised;
}

void vcpu_settle(struct vcpu *v) {
    if (!v->promised)
        return;
    v->promised = false;
    v->luck = v->luck > LUCK_LOST ? v->luck - LUCK_LOST : 0;
    pthread_mutex_lock(v->owner.lock);
    clock_settle(v->owner.clock);
    pthread_mutex_unlock(v->owner.lock);
}

/* Until there is something to do, or the time has come. True: there is something to do. */
static bool sleep_until(struct vcpu *v, uint64_t until) {
    struct timespec ts = {.tv_sec = (time_t)(until / NS_PER_SEC),
                          .tv_nsec = (long)(until % NS_PER_SEC)};
    bool awake;
    int r = 0;

    pthread_mutex_lock(&v->sleep_lock);
    while (!(awake = v->kicked || v->ops->runnable(v->cpu)) && r != ETIMEDOUT) {
        if (until == UINT64_MAX)
            pthread_cond_wait(&v->wake, &v->sleep_lock);
        else
            r = pthread_cond_clockwait(&v->wake, &v->sleep_lock, CLOCK_MONOTONIC, &ts);
    }
    v->kicked = false;
    pthread_mutex_unlock(&v->sleep_lock);
    return awake;
}

static struct timespec time_left(uint64_t until) {
    struct timespec t;
    uint64_t now;

    clock_gettime(CLOCK_MONOTONIC, &t);
    now = (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
    until = until > now ? until - now : 0;
    return (struct timespec){.tv_sec = (time_t)(until / NS_PER_SEC),
                             .tv_nsec = (long)(until % NS_PER_SEC)};
}

/* The same, or until one of the descriptors behind the first is readable. */
static bool poll_until(struct vcpu *v, struct pollfd *fds, unsigned count, uint64_t until) {
    struct timespec ts = {0};
    uint64_t one;
    bool awake;

    fds[0] = (struct pollfd){.fd = v->wake_fd, .events = POLLIN};
    pthread_mutex_lock(&v->sleep_lock);
    awake = v->kicked || v->ops->runnable(v->cpu);
    v->polling = !awake;
    pthread_mutex_unlock(&v->sleep_lock);
    if (!awake) {
        if (until != UINT64_MAX)
            ts = time_left(until);
        if (ppoll(fds, count, until == UINT64_MAX ? NULL : &ts, NULL) > 0 &&
            (fds[0].revents & POLLIN) && read(v->wake_fd, &one, sizeof(one)) < 0)
            assert(errno == EAGAIN);
    }
    pthread_mutex_lock(&v->sleep_lock);
    v->polling = false;
    awake = v->kicked || v->ops->runnable(v->cpu);
    v->kicked = false;
    pthread_mutex_unlock(&v->sleep_lock);
    return awake;
}

/*
 * Whoever halts has nothing better to do: it takes the next timer and the disks' completions from
 * the loop and waits for them itself. An interrupt of its own then costs one wake-up, not two, and
 * no quarrel about the machine lock.
 */
static void sleep_halted(struct vcpu *v) {
    struct pollfd fds[1 + LENT_MAX];
    unsigned lent;
    bool awake = false;

    if (v->promised && v->luck < LUCK_MAX)
        v->luck++;
    v->promised = false;
    while (!awake) {
        uint64_t until;

        pthread_mutex_lock(v->owner.lock);
        until = clock_borrow(v->owner.clock, v);
        lent = loop_lend(v->owner.loop, fds + 1, LENT_MAX);
        pthread_mutex_unlock(v->owner.lock);
        awake = lent ? poll_until(v, fds, 1 + lent, until) : sleep_until(v, until);
        if (until == UINT64_MAX && !lent)
            continue;
        pthread_mutex_lock(v->owner.lock);
        if (lent)
            loop_take_back(v->owner.loop);
        if (until != UINT64_MAX)
            clock_return(v->owner.clock, v);
        pthread_mutex_unlock(v->owner.lock);
        awake |= v->ops->runnable(v->cpu);
    }
}

/* The second number of the thread's schedstat: time on a run queue (Linux
 * Documentation/scheduler/sched-stats.rst). */
static int open_schedstat(void) {
    return open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
}

uint64_t vcpu_stolen(struct vcpu *v) {
    unsigned long long ran, waited;
    char text[96];
    ssize_t n = v->schedstat >= 0 ? pread(v->schedstat, text, sizeof(text) - 1, 0) : -1;

    if (n <= 0)
        return 0;
    text[n] = 0;
    return sscanf(text, "%llu %llu", &ran, &waited) == 2 ? waited : 0;
}

/* Waits until the machine runs. False: the thread must end. */
static bool park(struct vcpu *v) {
    pthread_mutex_lock(v->owner.lock);
    while (!v->quit && (!v->want_run || v->dead)) {
        v->parked = true;
        v->luck = LUCK_MAX;
        pthread_cond_broadcast(&v->changed);
        pthread_cond_wait(&v->changed, v->owner.lock);
    }
    v->parked = false;
    pthread_mutex_unlock(v->owner.lock);
    return !v->quit;
}

static void stopped(struct vcpu *v, const struct error *failure) {
    pthread_mutex_lock(v->owner.lock);
    v->dead = true;
    v->owner.stopped(v->owner.opaque, v->index, failure);
    pthread_mutex_unlock(v->owner.lock);
}

static void *thread_main(void *opaque) {
    struct vcpu *v = opaque;
    char name[16];
    enum cpu_exit why;

    this_vcpu = v;
    snprintf(name, sizeof(name), "vcpu%u", v->index);
    pthread_setname_np(pthread_self(), name);
    v->schedstat = open_schedstat();
    place_vcpu(v->index);
    jail_thread(JAIL_VCPU);
    while (park(v)) {
        why = v->ops->run(v->cpu);
        if (why == CPU_EXIT_HALT) {
            stat_inc(vcpu_halts);
            sleep_halted(v);
            continue;
        }
        vcpu_settle(v);
        if (why != CPU_EXIT_KICK)
            stopped(v, why == CPU_EXIT_ERROR ? &v->cpu->error : NULL);
    }
    if (v->schedstat >= 0)
        close(v->schedstat);
    return NULL;
}

struct vcpu *vcpu_new(const struct cpu_ops *ops, const struct cpu_config *config,
                      const struct vcpu_owner *owner, struct error *err) {
    struct vcpu *v = calloc(1, sizeof(*v));

    if (!v) {
        error_set(err, -ENOMEM, "processor %u: out of memory", config->index);
        return NULL;
    }
    v->ops = ops;
    v->owner = *owner;
    v->index = config->index;
    v->parked = true;
    pthread_cond_init(&v->changed, NULL);
    pthread_mutex_init(&v->sleep_lock, NULL);
    pthread_cond_init(&v->wake, NULL);
    v->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (v->wake_fd < 0) {
        error_set(err, -errno, "processor %u: %s; raise the limit of open files (ulimit -n)",
                  config->index, strerror(errno));
        vcpu_free(v);
        return NULL;
    }
    if (ops->create(config, &v->cpu, err) < 0) {
        vcpu_free(v);
        return NULL;
    }
    return v;
}

void vcpu_free(struct vcpu *v) {
    if (!v)
        return;
    if (v->started) {
        pthread_mutex_lock(v->owner.lock);
        v->quit = true;
        vcpu_kick(v);
        pthread_cond_broadcast(&v->changed);
        pthread_mutex_unlock(v->owner.lock);
        pthread_join(v->thread, NULL);
    }
    if (v->cpu)
        v->ops->destroy(v->cpu);
    pthread_cond_destroy(&v->changed);
    pthread_mutex_destroy(&v->sleep_lock);
    pthread_cond_destroy(&v->wake);
    if (v->wake_fd >= 0)
        close(v->wake_fd);
    free(v);
}

int vcpu_start(struct vcpu *v, struct error *err) {
    sigset_t all, old;
    int r;

    /* Signals are the main thread's: generated code has the guest's stack pointer. What a thread
     * does to itself cannot be blocked. */
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    sigdelset(&all, SIGTRAP);
    sigdelset(&all, SIGSYS);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    r = pthread_create(&v->thread, NULL, thread_main, v);
    pthread_sigmask(SIG_SETMASK, &old, NULL);

    if (r)
        return error_set(err, -r, "processor %u: its thread cannot be made: %s", v->index,
                         strerror(r));
    v->started = true;
    return 0;
}

void vcpu_resume(struct vcpu *v) {
    v->want_run = true;
    v->dead = false;
    pthread_cond_broadcast(&v->changed);
}

void vcpu_pause(struct vcpu *v) {
    v->want_run = false;
    vcpu_kick(v);
    while (v->started && !v->parked)
        pthread_cond_wait(&v->changed, v->owner.lock);
}
