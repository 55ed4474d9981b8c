/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The way from threads to the jail, and the calls that the C library makes for everybody. */
#include "base/jail.h"

#include <stddef.h>

#include "base/thread_place.h"

/*
 * Threads, memory, time and ends, by the C library and by compiled code. Of some a run of all tests
 * sees nothing (scripts/jail-calls.py); they are here for: a clock that the kernel does not tell
 * without a call (clock_gettime gettimeofday time), what asks how big the host is before it sorts
 * (sysinfo uname sched_getaffinity), large blocks of memory that grow (mremap), a stop in the
 * middle of a wait (restart_syscall rt_sigreturn), abort and its last words (gettid tgkill writev).
 * The library's locks, conditions and joins are all that is asked of futexes: no priorities are
 * inherited, which is where the kernel's part of them is hard to get right. The advice is what the
 * library gives about stacks (the last two are of version 2.42) and heaps.
 *
 * Calls (all): futex:FUTEX_WAIT futex:FUTEX_WAIT_PRIVATE futex:FUTEX_WAKE futex:FUTEX_WAKE_PRIVATE
 *     futex:FUTEX_WAIT_BITSET futex:FUTEX_WAIT_BITSET_PRIVATE futex:FUTEX_WAIT_BITSET_REALTIME
 *     futex:FUTEX_WAIT_BITSET_PRIVATE_REALTIME futex:FUTEX_WAKE_BITSET
 *     futex:FUTEX_WAKE_BITSET_PRIVATE futex:FUTEX_REQUEUE futex:FUTEX_REQUEUE_PRIVATE
 *     futex:FUTEX_CMP_REQUEUE futex:FUTEX_CMP_REQUEUE_PRIVATE futex:FUTEX_WAKE_OP
 *     futex:FUTEX_WAKE_OP_PRIVATE
 * Calls (all): madvise:MADV_DONTNEED madvise:MADV_FREE madvise:MADV_HUGEPAGE
 *     madvise:MADV_GUARD_INSTALL madvise:MADV_GUARD_REMOVE
 * Calls (all): set_robust_list rseq rt_sigreturn
 *     rt_sigaction rt_sigprocmask sigaltstack exit exit_group sched_yield restart_syscall
 *     clock_gettime clock_nanosleep nanosleep gettimeofday time getpid gettid
 *     getrandom brk mmap munmap mremap mprotect tgkill
 * sched_getaffinity:self sysinfo uname getrusage prlimit64:read prctl:PR_SET_NAME prctl:PR_SET_VMA
 *
 * Who it is, by libraries of programs that have some:
 *
 * Calls (main, net): getuid geteuid getgid getegid
 *
 * Descriptors that are there, by everybody who has one:
 *
 * Calls (all): read write writev pread64 pwrite64 lseek close fstat newfstatat:empty statx:empty
 *     poll ppoll fcntl:F_GETFL fcntl:F_SETFL fcntl:F_GETFD fcntl:F_SETFD fcntl:F_DUPFD_CLOEXEC
 *
 * Files that are open, by those who work on them, and names of files, which go to the helper
 * whichever of the calls the library takes:
 *
 * Calls (main, vcpu, disk, job, share): preadv pwritev
 * Calls (main, vcpu, disk, job): preadv2 pwritev2
 * Calls (main, vcpu, disk, job): fdatasync ftruncate fallocate
 * Calls (main, job): fsync
 * Calls (main, job, net): open openat stat lstat newfstatat statx unlink unlinkat
 * Calls (main, job): access faccessat faccessat2 readlink readlinkat getcwd flock getdents64
 * Calls (main): rename renameat renameat2 mkdir mkdirat rmdir link linkat dup2
 *
 * New threads (the flags are looked at: namespaces are none of them):
 *
 * Calls (main, vcpu, job): clone:thread clone3 set_tid_address
 * Calls (main, job): dup3
 * Calls (main): pipe2 eventfd2
 */

static struct jail_hooks hooks;

void jail_set_hooks(const struct jail_hooks *h) { hooks = *h; }

bool jail_is_there(void) { return hooks.thread; }

void jail_thread(enum jail_thread kind) {
    if (kind != JAIL_VCPU) /* each of these has its own */
        place_io();
    if (hooks.thread)
        hooks.thread(kind);
}

void jail_forked(void) {
    if (hooks.forked)
        hooks.forked();
}
