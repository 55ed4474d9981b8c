/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The process of a machine, as the host knows it. A process holds the lock of its machine's folder
 * (an flock on the file `lock`, inherited at its start) as long as it lives, so that two can never
 * be, and that none is lost when the manager is killed in between. The file `run` says which one it
 * is: the process writes it itself before it becomes viv-vm, with its start time, so that a number
 * that is used again by another process is never taken for it.
 *
 * Contract: the loop's thread.
 */
#ifndef HOST_VM_PROCESS_H
#define HOST_VM_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "host/cgroup.h"

struct vm_process_limits {
    const char *base; /* the manager's control group (cgroup.h); NULL or "": it has none */
    struct cgroup_limits group;
    uint64_t lock; /* bytes of memory that it must be able to lock; 0: what it has is enough */
};

struct vm_process {
    pid_t pid;
    int pidfd;
    int64_t cycle; /* which start of the machine it is */
    bool child;    /* of this manager: its end will be known in full */
};

struct vm_process_end {
    bool known;
    int code, signal; /* signal 0: it left with code */
};

/* Starts argv[0] in `folder`, as the cycle-th process of the machine; its standard error goes to
 * the file `log` there. -EBUSY: there is one. */
int vm_process_start(int folder, int64_t cycle, char *const argv[],
                     const struct vm_process_limits *limits, struct vm_process *ret,
                     struct error *err);
/* 1: one lives, *ret is filled. 0: none does; ret->cycle is the last one that was started, 0 if
 * none ever was. -EAGAIN: one is just beginning, or ending: look again. */
int vm_process_find(int folder, struct vm_process *ret);
void vm_process_signal(const struct vm_process *p, int signo);
/* After its pidfd became readable. */
struct vm_process_end vm_process_reap(struct vm_process *p, int folder);
void vm_process_close(struct vm_process *p);
/* The last lines of the log, for free; NULL if there are none. */
char *vm_process_last_words(int folder);
/* The newest MiB of a log, without what a terminal would obey; the same. */
char *vm_log_read(const char *path);

#endif
