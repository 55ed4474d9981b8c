/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What code below the jail (src/jail/) says to it: which thread it is, and which system calls it
 * needs.
 *
 * The calls are declared in comments beside the code that makes them,
 *
 *     Calls (main, vcpu): timerfd_settime ioctl:TCSETS
 *
 * one line for the kinds of threads that come there; `ioctl:X` is that request alone. The build
 * makes the filters of them (scripts/gen-jail.py). Path names, sockets and io_uring go to the
 * helper outside in any case (jail/helper.h), so they are declared like all others. docs/jail.md
 * says what is done with what is not declared.
 */
#ifndef BASE_JAIL_H
#define BASE_JAIL_H

#include <stdbool.h>

enum jail_thread {
    JAIL_MAIN,
    JAIL_VCPU,
    JAIL_DISK, /* does a disk's requests */
    JAIL_JOB,  /* copies a disk */
    JAIL_AUX,  /* loads pages, flushes files */
    JAIL_THREADS
};

/* At the beginning of a thread: from here on it makes the calls of its kind only. Nothing without a
 * jail; in a process that will be in one, the thread has no capability from here on. */
void jail_thread(enum jail_thread kind);

/* Whether the process is in a jail, or will be: then no memory becomes executable any more. */
bool jail_is_there(void);

/* In a child of a process in the jail, which makes the calls of the main thread. */
void jail_forked(void);

/* What src/jail/ does for them; set once, before there are threads. */
struct jail_hooks {
    void (*thread)(enum jail_thread kind);
    void (*forked)(void);
};
void jail_set_hooks(const struct jail_hooks *hooks);

#endif
