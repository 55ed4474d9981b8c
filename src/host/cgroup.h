/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A control group for the processes of each machine (itself, its helper, the servers of its
 * folders), which bounds them and counts what they use together (docs/jail.md); where this host
 * gives the manager none, machines stay in the manager's own.
 */
#ifndef HOST_CGROUP_H
#define HOST_CGROUP_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

struct cgroup_limits { /* where the host's controllers reach; 0: none */
    uint64_t memory;   /* bytes, above which its memory is taken back (memory.high) */
    unsigned cpu;      /* percent of one processor that it may take at most (cpu.max) */
    unsigned weight;   /* of its processor time among others', 100 is usual (cpu.weight) */
};

struct cgroup_usage { /* 0: the host does not count it */
    int64_t memory;   /* bytes, with the pages of files that are kept for it */
    int64_t cpu_ms;
};

/* The folder of the manager's group, in which others can be made; removes what is left there.
 * False, and "": there is none. Once for a manager: it stays where it is. */
bool cgroup_find(char ret[PATH_MAX]);
/* Between fork and exec: makes a group there, goes in, and writes down in `folder` which one it
 * is. Where one cannot be made, it stays where it is. */
void cgroup_enter(int folder, const char *base, const struct cgroup_limits *l);
/* Of the group that is written down in `folder`; false: there is none. */
bool cgroup_read(int folder, struct cgroup_usage *ret);
/* Changes the limit of processor time of that group, 0: none any more; false: it has no such
 * controller. */
bool cgroup_limit_cpu(int folder, unsigned percent);
/* No process of the machine is there any more: removes the group of the last one, which may take
 * until what it left behind has ended. Does not wait. The loop's thread. */
void cgroup_clean(int folder);

#endif
