/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Filters of system calls: seccomp(2), Linux Documentation/userspace-api/seccomp_filter.rst.
 *
 * Theory of operation: the table is made from declarations beside the code (base/jail.h). The outer
 * filter is the process's and holds for all its threads: what any of them needs, with conditions on
 * arguments. A thread adds one with the calls of its kind alone; of two filters the stricter answer
 * counts. What is in neither raises SIGSYS. Calls with path names, and those that make what the
 * filter could not look into later, go to the helper.
 *
 * Most calls are allowed whatever their arguments, and for those the kernel keeps a bit map (since
 * 5.11), so that they cost nothing.
 */
#include <asm/prctl.h>
#include <asm/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/vfio.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "base/jail.h"
#include "jail/jail_internal.h"

/* Newer than some headers. */
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE  103
#endif

/* Without names of their own. */
#define FUTEX_WAIT_BITSET_REALTIME         (FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME)
#define FUTEX_WAIT_BITSET_PRIVATE_REALTIME (FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME)

#define KIND_MAIN   (1u << JAIL_MAIN)
#define KIND_VCPU   (1u << JAIL_VCPU)
#define KIND_DISK   (1u << JAIL_DISK)
#define KIND_JOB    (1u << JAIL_JOB)
#define KIND_AUX    (1u << JAIL_AUX)
#define KIND_NET    (1u << JAIL_THREADS)
#define KIND_HELPER (2u << JAIL_THREADS)
#define KIND_SHARE  (4u << JAIL_THREADS)

enum condition {
    CALL_ANY,
    CALL_VALUE,
    CALL_TWO_VALUES,
    CALL_READ,
    CALL_EMPTY,
    CALL_THREAD,
    CALL_FORK,
    CALL_CHILD,
    CALL_SELF
};

static const struct call {
    unsigned number;
    enum condition condition;
    unsigned argument; /* of CALL_VALUE; CALL_TWO_VALUES: this one and the next */
    uint32_t value, second;
    unsigned kinds;
} calls[] = {
#include "jail_calls.inc"
};
enum { CALLS = sizeof(calls) / sizeof(calls[0]) };

static const struct {
    unsigned number;
    const char *name;
} names[] = {
#include "jail_names.inc"
};

/* Done by the helper, wherever they are declared. */
static const unsigned helped[] = {
    __NR_open,   __NR_openat,     __NR_creat,      __NR_stat,       __NR_lstat,
    __NR_access, __NR_faccessat,  __NR_faccessat2, __NR_readlink,   __NR_readlinkat,
    __NR_rename, __NR_renameat,   __NR_renameat2,  __NR_unlink,     __NR_unlinkat,
    __NR_rmdir,  __NR_mkdir,      __NR_mkdirat,    __NR_link,       __NR_linkat,
    __NR_getcwd, __NR_socket,     __NR_connect,    __NR_bind,       __NR_io_uring_setup,
    __NR_kill,   __NR_newfstatat, __NR_statx,      __NR_getdents64,
};

/* Those of clone that the C library takes; namespaces are none of them, nor a tracer's child. */
#define CLONE_OF_THREAD                                                                            \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |            \
     CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | CLONE_DETACHED)
#define CLONE_OF_FORK (CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | 0xffu /* the signal */)

unsigned filter_kinds(bool network) { return network ? KIND_NET : KIND_NET - 1; }

unsigned filter_helper_kind(void) { return KIND_HELPER; }

unsigned filter_share_kind(void) { return KIND_SHARE; }

const char *filter_call_name(unsigned number) {
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (names[i].number == number)
            return names[i].name;
    return "unknown";
}

static bool is_helped(unsigned number) {
    for (size_t i = 0; i < sizeof(helped) / sizeof(helped[0]); i++)
        if (helped[i] == number)
            return true;
    return false;
}

/* ------------------------------------------------------------------ code */

static void put(struct filter *f, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf) {
    if (f->len < FILTER_MAX) /* a test makes all that there are */
        f->code[f->len++] = (struct sock_filter){code, jt, jf, k};
}

static void put_load(struct filter *f, uint32_t offset) {
    put(f, BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
}

/* Arguments are looked at as the kernel takes them: these are all of 32 bits but for pointers. */
static void put_load_argument(struct filter *f, unsigned i, bool high) {
    put_load(f, (uint32_t)(offsetof(struct seccomp_data, args) + i * 8 + (high ? 4 : 0)));
}

static void put_return(struct filter *f, uint32_t action) { put(f, BPF_RET | BPF_K, action, 0, 0); }

/* If (a == k) return action */
static void put_if_equal(struct filter *f, uint32_t k, uint32_t action) {
    put(f, BPF_JMP | BPF_JEQ | BPF_K, k, 0, 1);
    put_return(f, action);
}

static void put_if_bits(struct filter *f, uint32_t bits, uint32_t action) {
    put(f, BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1);
    put_return(f, action);
}

static void put_unless_bits(struct filter *f, uint32_t bits, uint32_t action) {
    put(f, BPF_JMP | BPF_JSET | BPF_K, bits, 1, 0);
    put_return(f, action);
}

/* ------------------------------------------------------------------ one call */

/* Memory that is executed after the jail was entered was there before. */
static void put_memory(struct filter *f) {
    put_load_argument(f, 2, false);
    put_if_bits(f, PROT_EXEC, SECCOMP_RET_TRAP);
    put_return(f, SECCOMP_RET_ALLOW);
}

static void put_condition(struct filter *f, const struct call *c, uint32_t helper) {
    switch (c->condition) {
    case CALL_ANY:
    case CALL_VALUE: /* see put_values */
        break;
    case CALL_TWO_VALUES:
        put_load_argument(f, c->argument, false);
        put(f, BPF_JMP | BPF_JEQ | BPF_K, c->value, 0, 3);
        put_load_argument(f, c->argument + 1, false);
        put_if_equal(f, c->second, SECCOMP_RET_ALLOW);
        break;
    case CALL_READ: /* prlimit64 of the caller, without a new limit */
        put_load_argument(f, 0, false);
        put(f, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 5);
        put_load_argument(f, 2, false);
        put(f, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3);
        put_load_argument(f, 2, true);
        put_if_equal(f, 0, SECCOMP_RET_ALLOW);
        break;
    case CALL_EMPTY:
        put_load_argument(f, c->number == __NR_statx ? 2 : 3, false);
        put(f, BPF_JMP | BPF_JSET | BPF_K, AT_EMPTY_PATH, 0, 1);
        put_return(f, SECCOMP_RET_ALLOW);
        break;
    case CALL_THREAD:
        put_load_argument(f, 0, false);
        put(f, BPF_JMP | BPF_JSET | BPF_K, ~(uint32_t)CLONE_OF_THREAD, 2, 0);
        put(f, BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 0, 1);
        put_return(f, SECCOMP_RET_ALLOW);
        break;
    case CALL_FORK:
        put_load_argument(f, 0, false);
        put_unless_bits(f, ~(uint32_t)CLONE_OF_FORK, SECCOMP_RET_ALLOW);
        break;
    case CALL_CHILD: /* the helper looks whose child it is, and its own filter at the signal */
        if (helper == SECCOMP_RET_ALLOW) {
            put_load_argument(f, 1, false);
            put_if_equal(f, SIGKILL, SECCOMP_RET_ALLOW);
        } else {
            put_return(f, helper);
        }
        break;
    case CALL_SELF:
        put_load_argument(f, 0, false);
        put_if_equal(f, 0, SECCOMP_RET_ALLOW);
        break;
    }
}

/* Those of `n` declarations of one call that name values of its deciding argument. */
static void put_values(struct filter *f, const struct call *c, unsigned n, unsigned kinds) {
    unsigned left = 0;

    for (unsigned i = 0; i < n; i++)
        left += c[i].condition == CALL_VALUE && (c[i].kinds & kinds);
    if (!left)
        return;
    put_load_argument(f, c->argument, false);
    for (unsigned i = 0; i < n; i++)
        if (c[i].condition == CALL_VALUE && (c[i].kinds & kinds)) {
            left--;
            put(f, BPF_JMP | BPF_JEQ | BPF_K, c[i].value, (uint8_t)left, left ? 0 : 1);
        }
    put_return(f, SECCOMP_RET_ALLOW);
}

/* Of a call that is declared with other arguments. Which options a library sets, and which advice
 * it gives, differs with its version, and it lives with a kernel that has not heard of one. */
static uint32_t refusal(unsigned number) {
    return number == __NR_setsockopt ? SECCOMP_RET_ERRNO | ENOPROTOOPT
           : number == __NR_madvise  ? SECCOMP_RET_ERRNO | EINVAL
           : number == __NR_futex    ? SECCOMP_RET_ERRNO | ENOSYS
                                     : SECCOMP_RET_TRAP;
}

/* What is asked of the arguments of one call comes before what is asked of none. */
static void put_call(struct filter *f, const struct call *c, unsigned n, unsigned kinds, bool any,
                     uint32_t helper) {
    put_values(f, c, n, kinds);
    for (unsigned i = 0; i < n; i++)
        if (c[i].kinds & kinds)
            put_condition(f, &c[i], helper);
    if (any && (c->number == __NR_mmap || c->number == __NR_mprotect)) {
        put_memory(f);
    } else if (any && c->number == __NR_tgkill) {
        put_load_argument(f, 0, false);
        put_if_equal(f, (uint32_t)getpid(), SECCOMP_RET_ALLOW);
        put_return(f, SECCOMP_RET_TRAP);
    } else {
        put_return(f, !any                   ? refusal(c->number)
                      : is_helped(c->number) ? helper
                                             : SECCOMP_RET_ALLOW);
    }
}

/* ------------------------------------------------------------------ all of them */

/*
 * Numbers from `first` up to the next range have one answer, or are one call whose arguments decide
 * (count > 0). The ranges are found by halves: the kernel tries every number when it takes a
 * filter, which was a third of what the jail cost at the start when they were compared one after
 * another.
 */
struct range {
    uint16_t first, count;
    bool any;
    uint32_t action;
    const struct call *call;
};
enum { MAX_RANGES = 2 * CALLS + 2 };

struct ranges {
    struct range range[MAX_RANGES];
    unsigned count;
};

static void add_range(struct ranges *s, const struct range *r) {
    const struct range *last = s->count ? &s->range[s->count - 1] : NULL;

    if (!last || last->count || r->count || last->action != r->action)
        s->range[s->count++] = *r;
}

/* A thread's filter has nothing to ask of arguments of which the process's filter asks the same: of
 * two answers the stricter one counts, and what is not asked need not be checked and translated for
 * each processor. But a signal for a child is looked at here alone, as there the helper is asked.
 */
static bool asked_already(const struct call *c, unsigned n, unsigned kinds, unsigned process) {
    for (unsigned i = 0; i < n; i++)
        if (c[i].condition == CALL_CHILD || (c[i].kinds & process && !(c[i].kinds & kinds)))
            return false;
    return process != 0;
}

/* The declarations of one call, from the first; false: of other kinds alone. */
static bool look_at_call(const struct call *c, unsigned n, unsigned kinds, unsigned process,
                         uint32_t helper, struct range *ret) {
    bool conditions = false, any = false;

    for (unsigned i = 0; i < n; i++)
        if (c[i].kinds & kinds) {
            any |= c[i].condition == CALL_ANY;
            conditions |= c[i].condition != CALL_ANY;
        }
    *ret = (struct range){.first = (uint16_t)c->number, .any = any};
    if ((any || conditions) && asked_already(c, n, kinds, process))
        ret->action = SECCOMP_RET_ALLOW;
    else if (any &&
             c->number == __NR_clone3) /* its flags lie in memory: the library asks clone then */
        ret->action = SECCOMP_RET_ERRNO | ENOSYS;
    else if (conditions || c->number == __NR_mmap || c->number == __NR_mprotect ||
             c->number == __NR_tgkill) {
        ret->call = c;
        ret->count = (uint16_t)n;
    } else {
        ret->action = is_helped(c->number) ? helper : SECCOMP_RET_ALLOW;
    }
    return any || conditions;
}

static void find_ranges(struct ranges *s, struct filter *f, unsigned kinds, unsigned process,
                        uint32_t helper) {
    unsigned next = 0, n;
    struct range r;

    s->count = 0;
    for (unsigned i = 0; i < CALLS; i += n) {
        for (n = 1; i + n < CALLS && calls[i + n].number == calls[i].number;)
            n++;
        if (!look_at_call(&calls[i], n, kinds, process, helper, &r))
            continue;
        if (r.first > next)
            add_range(s, &(struct range){.first = (uint16_t)next, .action = SECCOMP_RET_TRAP});
        add_range(s, &r);
        next = r.first + 1;
        f->calls++;
    }
    /* x32's numbers are none of ours either */
    add_range(s, &(struct range){.first = (uint16_t)next, .action = SECCOMP_RET_TRAP});
}

/* A jump on a condition reaches 255 instructions. */
static void put_ranges(struct filter *f, const struct range *r, unsigned n, unsigned kinds,
                       uint32_t helper) {
    unsigned half = n / 2, start = f->len, left;

    if (n == 1 && r->count) {
        put_call(f, r->call, r->count, kinds, r->any, helper);
    } else if (n == 1) {
        put_return(f, r->action);
    } else {
        put(f, BPF_JMP | BPF_JGE | BPF_K, r[half].first, 0, 0);
        put_ranges(f, r, half, kinds, helper);
        left = f->len - start - 1;
        if (left <= UINT8_MAX) {
            f->code[start].jt = (uint8_t)left;
        } else {
            f->len = start;
            put(f, BPF_JMP | BPF_JGE | BPF_K, r[half].first, 0, 1);
            put(f, BPF_JMP | BPF_JA, left, 0, 0);
            put_ranges(f, r, half, kinds, helper);
        }
        put_ranges(f, r + half, n - half, kinds, helper);
    }
}

static void make(struct filter *f, unsigned kinds, unsigned process, uint32_t helper) {
    struct ranges s;

    f->len = f->calls = 0;
    find_ranges(&s, f, kinds, process, helper);
    put_load(f, offsetof(struct seccomp_data, arch));
    put(f, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    put_return(f, SECCOMP_RET_KILL_PROCESS);
    put_load(f, offsetof(struct seccomp_data, nr));
    put_ranges(f, s.range, s.count, kinds, helper);
}

void filter_make(struct filter *f, unsigned kinds, bool outer, bool helper) {
    make(f, kinds, 0, outer && helper ? SECCOMP_RET_USER_NOTIF : SECCOMP_RET_ALLOW);
}

void filter_make_within(struct filter *f, unsigned kinds, unsigned process) {
    make(f, kinds, process, SECCOMP_RET_ALLOW);
}

int filter_install(const struct filter *f, unsigned flags) {
    struct sock_fprog program = {(unsigned short)f->len, (struct sock_filter *)(uintptr_t)f->code};
    long r;

    if (f->len >= FILTER_MAX)
        return -E2BIG;
    r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    return r < 0 ? -errno : (int)r;
}
