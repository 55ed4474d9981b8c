/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which of the host's processors a thread may run on, and with which priority.
 *
 * Contract: a thread can lower itself at any time, and raise itself only before the jail, which
 * takes the right to. So the main thread takes the highest priority that any thread is to have
 * (place_threads) before it enters the jail, each new thread inherits that and lowers itself first
 * (place_vcpu, or by jail_thread), and the main thread does so last (place_io). What a thread was
 * given it keeps. place_threads once, while there are no processors' threads.
 */
#ifndef BASE_THREAD_PLACE_H
#define BASE_THREAD_PLACE_H

#include <sched.h>
#include <stdbool.h>

#include "base/error.h"

enum { PLACE_VCPUS = 32, PLACE_PRIORITY_MAX = 99 };

enum place_policy { PLACE_INHERIT, PLACE_NICE, PLACE_FIFO, PLACE_RR };

struct thread_place {
    bool pinned;
    cpu_set_t cpus; /* if pinned; else those that the process had */
    enum place_policy policy;
    int level; /* nice from -20 to 19, or a real-time priority from 1 to 99 */
};

struct thread_places {
    struct thread_place vcpu[PLACE_VCPUS];
    struct thread_place io; /* of all others: the loop, disks, jobs */
};

/* Rights that are asked for while the process still may: limits. Before jail_prepare. */
void place_raise_limits(const struct thread_places *p);
/* -EINVAL with the sentence: the host has no such processor, or forbids the priority. */
int place_threads(const struct thread_places *p, unsigned vcpus, struct error *err);
/* In the thread, before its filter; nothing if there are no places. */
void place_vcpu(unsigned i);
void place_io(void);

#endif
