/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Affinity and priority of threads: sched_setaffinity(2), sched_setattr(2), sched(7). */
#include "base/thread_place.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"

/*
 * Of the thread itself alone:
 *
 * Calls (main, vcpu, disk, job, aux): sched_setaffinity:self sched_setattr:self
 */

struct attr { /* the kernel's struct sched_attr, which libraries have or have not */
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

/* Of the process; set once, before there are other threads. */
static struct thread_places places;
static struct thread_place usual; /* as the process was started */
static bool placed, prioritized;

static struct thread_place resolve(const struct thread_place *p) {
    struct thread_place r = *p;

    if (!r.pinned)
        r.cpus = usual.cpus;
    if (r.policy == PLACE_INHERIT) {
        r.policy = usual.policy;
        r.level = usual.level;
    }
    return r;
}

static int set_priority(enum place_policy policy, int level) {
    struct attr a = {.size = sizeof(a)};

    a.policy = policy == PLACE_FIFO ? SCHED_FIFO : policy == PLACE_RR ? SCHED_RR : SCHED_OTHER;
    if (policy == PLACE_NICE)
        a.nice = level;
    else
        a.priority = (uint32_t)level;
    return syscall(SYS_sched_setattr, 0, &a, 0) == 0 ? 0 : -errno;
}

static int set_cpus(const cpu_set_t *cpus) {
    return sched_setaffinity(0, sizeof(*cpus), cpus) == 0 ? 0 : -errno;
}

static void settle(const struct thread_place *p, const char *what) {
    struct thread_place r = resolve(p);
    int cpus = set_cpus(&r.cpus), priority = prioritized ? set_priority(r.policy, r.level) : 0;

    if (cpus < 0)
        log_warning("the thread of %s cannot be pinned: %s; the host has taken the processors away "
                    "that it was to run on",
                    what, strerror(-cpus));
    if (priority < 0)
        log_warning("the thread of %s does not get its priority: %s", what, strerror(-priority));
}

void place_vcpu(unsigned i) {
    if (placed && i < PLACE_VCPUS)
        settle(&places.vcpu[i], "a processor");
}

void place_io(void) {
    if (placed)
        settle(&places.io, "input and output");
}

static bool is_real_time(const struct thread_place *p) {
    return p->policy == PLACE_FIFO || p->policy == PLACE_RR;
}

void place_raise_limits(const struct thread_places *p) {
    struct rlimit l;
    int most = 0, nice = 0;

    for (unsigned i = 0; i <= PLACE_VCPUS; i++) {
        const struct thread_place *t = i < PLACE_VCPUS ? &p->vcpu[i] : &p->io;

        if (is_real_time(t) && t->level > most)
            most = t->level;
        if (t->policy == PLACE_NICE && -t->level > nice)
            nice = -t->level;
    }
    l = (struct rlimit){(rlim_t)most, (rlim_t)most};
    if (most)
        setrlimit(RLIMIT_RTPRIO, &l); /* who may not has what he has */
    l = (struct rlimit){(rlim_t)(20 + nice), (rlim_t)(20 + nice)};
    if (nice)
        setrlimit(RLIMIT_NICE, &l);
}

static int read_usual(struct error *err) {
    struct attr a = {.size = sizeof(a)};

    usual = (struct thread_place){.pinned = true, .policy = PLACE_NICE};
    if (sched_getaffinity(0, sizeof(usual.cpus), &usual.cpus) < 0 ||
        syscall(SYS_sched_getattr, 0, &a, sizeof(a), 0) < 0)
        return error_set(err, -errno, "the processors of this host cannot be asked for: %s",
                         strerror(errno));
    usual.level = a.nice;
    if (a.policy == SCHED_FIFO || a.policy == SCHED_RR) {
        usual.policy = a.policy == SCHED_FIFO ? PLACE_FIFO : PLACE_RR;
        usual.level = (int)a.priority;
    }
    return 0;
}

/* The kernel would take what is left of a set without those that it lacks. */
static int check_cpus(const struct thread_place *p, struct error *err) {
    cpu_set_t got;

    if (!p->pinned)
        return 0;
    if (set_cpus(&p->cpus) == 0 && sched_getaffinity(0, sizeof(got), &got) == 0 &&
        CPU_EQUAL(&got, &p->cpus)) {
        set_cpus(&usual.cpus);
        return 0;
    }
    set_cpus(&usual.cpus);
    for (unsigned i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &p->cpus) && !CPU_ISSET(i, &usual.cpus))
            return error_set(err, -EINVAL,
                             "--pin: the host has no processor %u, or this process may not run on "
                             "it: /sys/devices/system/cpu/online and 'taskset -p $$' say which "
                             "there are",
                             i);
    return error_set(err, -EINVAL, "--pin: the host refuses these processors");
}

static int refused(const struct thread_place *p, struct error *err) {
    if (is_real_time(p))
        return error_set(err, -EINVAL,
                         "--priority: this user may not have the real-time priority %d: start the "
                         "machine as root, or allow it with 'ulimit -r %d' (LimitRTPRIO=%d in a "
                         "service)",
                         p->level, p->level, p->level);
    return error_set(err, -EINVAL,
                     "--priority: this user may not have the nice value %d: start the machine as "
                     "root, or allow it with 'ulimit -e %d' (LimitNICE=%d in a service)",
                     p->level, 20 - p->level, p->level);
}

/* A thread keeps its nice value while it is a real-time one: the way back from there is free. */
static int raise_main(const struct thread_place *nicest, const struct thread_place *top,
                      struct error *err) {
    if (nicest->policy == PLACE_NICE && set_priority(PLACE_NICE, nicest->level) < 0)
        return refused(nicest, err);
    if (is_real_time(top) && set_priority(top->policy, top->level) < 0)
        return refused(top, err);
    return 0;
}

int place_threads(const struct thread_places *p, unsigned vcpus, struct error *err) {
    struct thread_place nicest, top;
    int r = read_usual(err);

    if (r < 0)
        return r;
    nicest = top = usual;
    if (is_real_time(&usual))
        nicest.level = 0;
    for (unsigned i = 0; r == 0 && i <= vcpus && i <= PLACE_VCPUS; i++) {
        const struct thread_place *t = i < vcpus ? &p->vcpu[i] : &p->io;

        r = check_cpus(t, err);
        prioritized |= t->policy != PLACE_INHERIT;
        if (is_real_time(t) && (!is_real_time(&top) || t->level > top.level))
            top = *t;
        if (t->policy == PLACE_NICE && t->level < nicest.level)
            nicest = *t;
    }
    if (r < 0)
        return r;
    places = *p;
    r = prioritized ? raise_main(&nicest, &top, err) : 0;
    if (r < 0)
        return r;
    if (p->io.pinned)
        set_cpus(&p->io.cpus);
    placed = true;
    return 0;
}
