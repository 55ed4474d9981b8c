/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Filters of system calls, run as the kernel runs them: Documentation/networking/filter.rst. */
#include <asm/unistd.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/jail.h"
#include "jail/jail_internal.h"

enum { NUMBERS = 1024, X32 = 0x40000000, MAX_STEPS = 120 };

static struct filter filter;
static const struct filter *running = &filter;

/* Every step is one that the kernel would take; no call takes many, which is what a tree is for. */
static uint32_t run(const struct seccomp_data *d) {
    unsigned at = 0, steps = 0;
    uint32_t a = 0;

    for (;;) {
        const struct sock_filter *i = &running->code[at];

        assert_in_range(at, 0, running->len - 1);
        assert_in_range(++steps, 1, MAX_STEPS);
        at++;
        switch (i->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            assert_in_range(i->k, 0, sizeof(*d) - 4);
            memcpy(&a, (const char *)d + i->k, 4);
            break;
        case BPF_JMP | BPF_JA:
            at += i->k;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            at += a == i->k ? i->jt : i->jf;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            at += a >= i->k ? i->jt : i->jf;
            break;
        case BPF_JMP | BPF_JSET | BPF_K:
            at += a & i->k ? i->jt : i->jf;
            break;
        case BPF_RET | BPF_K:
            return i->k;
        default:
            fail_msg("instruction %u: %x", at - 1, i->code);
        }
    }
}

static uint32_t answer(unsigned number, uint64_t first, uint64_t second, uint64_t third) {
    const struct seccomp_data d = {
        .nr = (int)number, .arch = AUDIT_ARCH_X86_64, .args = {first, second, third}};

    return run(&d);
}

static void the_process_has_what_was_declared_and_its_helper_the_rest(void **state) {
    const uint32_t trap = SECCOMP_RET_TRAP, yes = SECCOMP_RET_ALLOW, ask = SECCOMP_RET_USER_NOTIF;

    filter_make(&filter, filter_kinds(false), true, true);
    assert_int_equal(answer(__NR_read, 0, 0, 0), yes);
    assert_int_equal(answer(__NR_exit_group, 0, 0, 0), yes);
    assert_int_equal(answer(__NR_openat, 0, 0, 0), ask);
    assert_int_equal(answer(__NR_socket, 0, 0, 0), ask);
    assert_int_equal(answer(__NR_kill, 1, SIGKILL, 0), ask);
    assert_int_equal(answer(__NR_ptrace, 0, 0, 0), trap);
    assert_int_equal(answer(__NR_execve, 0, 0, 0), trap);
    assert_int_equal(answer(__NR_mount, 0, 0, 0), trap);
    assert_int_equal(answer(__NR_clone3, 0, 0, 0), SECCOMP_RET_ERRNO | ENOSYS);
    filter_make(&filter, filter_kinds(false), true, false);
    assert_int_equal(answer(__NR_openat, 0, 0, 0), yes);
}

static void arguments_decide_where_they_were_declared(void **state) {
    const uint32_t trap = SECCOMP_RET_TRAP, yes = SECCOMP_RET_ALLOW;
    const uint64_t high = 1ull << 40;

    filter_make(&filter, filter_kinds(false), true, true);
    assert_int_equal(answer(__NR_mmap, 0, 0, PROT_READ | PROT_WRITE), yes);
    assert_int_equal(answer(__NR_mmap, 0, 0, PROT_READ | PROT_EXEC), trap);
    assert_int_equal(answer(__NR_mprotect, 0, 0, PROT_EXEC), trap);
    assert_int_equal(answer(__NR_ioctl, 0, TCSETS, 0), yes);
    assert_int_equal(answer(__NR_ioctl, 0, TIOCSTI, 0), trap);
    assert_int_equal(answer(__NR_prctl, PR_SET_NAME, 0, 0), yes);
    assert_int_equal(answer(__NR_prctl, PR_SET_SECCOMP, 0, 0), trap);
    assert_int_equal(answer(__NR_tgkill, (uint64_t)getpid(), 1, SIGUSR1), yes);
    assert_int_equal(answer(__NR_tgkill, 1, 1, SIGUSR1), trap);
    assert_int_equal(answer(__NR_prlimit64, 0, 1, 0), yes);
    assert_int_equal(answer(__NR_prlimit64, 0, 1, 4096), trap);
    assert_int_equal(answer(__NR_prlimit64, 0, 1, high), trap);
    assert_int_equal(answer(__NR_prlimit64, 1, 1, 0), trap);
    assert_int_equal(answer(__NR_clone, CLONE_VM | CLONE_THREAD, 0, 0), yes);
    assert_int_equal(answer(__NR_clone, CLONE_VM | CLONE_THREAD | CLONE_IO, 0, 0), trap);
    assert_int_equal(answer(__NR_clone, CLONE_VM | CLONE_THREAD | CLONE_PIDFD, 0, 0), trap);
    assert_int_equal(answer(__NR_clone, CLONE_THREAD | CLONE_PTRACE, 0, 0), trap);
    assert_int_equal(answer(__NR_clone, CLONE_THREAD | CLONE_NEWUSER, 0, 0), trap);
    assert_int_equal(answer(__NR_clone, CLONE_VM, 0, 0), trap);
    assert_int_equal(answer(__NR_sched_getaffinity, 1, 0, 0), trap);
}

/* Those of which a library may try others are answered as an older kernel would. */
static void other_advice_options_and_futexes_are_as_if_unknown(void **state) {
    const uint32_t yes = SECCOMP_RET_ALLOW, error = SECCOMP_RET_ERRNO;

    filter_make(&filter, filter_kinds(false), true, true);
    assert_int_equal(answer(__NR_madvise, 0, 0, MADV_DONTNEED), yes);
    assert_int_equal(answer(__NR_madvise, 0, 0, MADV_MERGEABLE), error | EINVAL);
    assert_int_equal(answer(__NR_madvise, 0, 0, MADV_HWPOISON), error | EINVAL);
    assert_int_equal(answer(__NR_futex, 0, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0), yes);
    assert_int_equal(answer(__NR_futex, 0, FUTEX_WAKE_PRIVATE, 0), yes);
    assert_int_equal(answer(__NR_futex, 0, FUTEX_LOCK_PI_PRIVATE, 0), error | ENOSYS);
    assert_int_equal(answer(__NR_futex, 0, FUTEX_CMP_REQUEUE_PI, 0), error | ENOSYS);
    assert_int_equal(answer(__NR_setsockopt, 3, SOL_SOCKET, SO_SNDBUF), yes);
    assert_int_equal(answer(__NR_setsockopt, 3, IPPROTO_TCP, TCP_NODELAY), yes);
    assert_int_equal(answer(__NR_setsockopt, 3, IPPROTO_TCP, SO_SNDBUF), error | ENOPROTOOPT);
    assert_int_equal(answer(__NR_setsockopt, 3, IPPROTO_TCP, TCP_ULP), error | ENOPROTOOPT);
    assert_int_equal(answer(__NR_setsockopt, 3, SOL_SOCKET, SO_ATTACH_FILTER), error | ENOPROTOOPT);
    filter_make(&filter, 1u << JAIL_DISK, false, false);
    assert_int_equal(answer(__NR_setsockopt, 3, SOL_SOCKET, SO_SNDBUF), SECCOMP_RET_TRAP);
}

/* Whether any arguments at all let the call through: where one is looked at both ways are taken. */
static bool may_pass(unsigned number, unsigned at, bool known, uint32_t a) {
    const struct sock_filter *i = &filter.code[at];
    bool yes;

    assert_in_range(at, 0, filter.len - 1);
    if (i->code == (BPF_RET | BPF_K))
        return i->k != SECCOMP_RET_TRAP && i->k != SECCOMP_RET_KILL_PROCESS;
    if (i->code == (BPF_LD | BPF_W | BPF_ABS)) {
        known = i->k < offsetof(struct seccomp_data, args);
        return may_pass(number, at + 1, known,
                        i->k == offsetof(struct seccomp_data, nr) ? number : AUDIT_ARCH_X86_64);
    }
    if (i->code == (BPF_JMP | BPF_JA))
        return may_pass(number, at + 1 + i->k, known, a);
    if (!known)
        return may_pass(number, at + 1 + i->jt, known, a) ||
               may_pass(number, at + 1 + i->jf, known, a);
    yes = i->code == (BPF_JMP | BPF_JEQ | BPF_K) ? a == i->k : a >= i->k;
    return may_pass(number, at + 1 + (yes ? i->jt : i->jf), known, a);
}

static void as_many_numbers_pass_as_were_declared_and_none_of_another_abi(void **state) {
    const struct {
        unsigned kinds;
        bool outer;
    } filters[] = {
        {filter_kinds(false), true}, {filter_kinds(true), true},    {1u << JAIL_VCPU, false},
        {1u << JAIL_DISK, false},    {filter_helper_kind(), false}, {filter_share_kind(), false},
    };

    for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
        unsigned allowed = 0;

        filter_make(&filter, filters[i].kinds, filters[i].outer, filters[i].outer);
        for (unsigned n = 0; n < NUMBERS; n++) {
            allowed += may_pass(n, 0, false, 0);
            assert_int_equal(answer(n | X32, 0, 0, 0), SECCOMP_RET_TRAP);
        }
        assert_int_equal(allowed, filter.calls);
        assert_int_equal(answer(UINT32_MAX, 0, 0, 0), SECCOMP_RET_TRAP);
    }
}

static void kinds_of_threads_have_what_they_do_alone(void **state) {
    static const unsigned makers[] = {__NR_mkdir, __NR_rmdir,      __NR_link,
                                      __NR_dup2,  __NR_getdents64, __NR_rename};
    const unsigned kinds[] = {filter_kinds(true), 1u << JAIL_VCPU, 1u << JAIL_DISK, 1u << JAIL_AUX};

    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        filter_make(&filter, kinds[k], true, true);
        for (size_t i = 0; i < sizeof(makers) / sizeof(makers[0]); i++)
            assert_false(may_pass(makers[i], 0, false, 0));
        assert_false(may_pass(__NR_membarrier, 0, false, 0));
        assert_int_equal(may_pass(__NR_getuid, 0, false, 0), k == 0);
    }
}

static uint32_t stricter(uint32_t a, uint32_t b) { return (int32_t)a < (int32_t)b ? a : b; }

static uint32_t answer_of(const struct filter *f, unsigned nr, const uint64_t args[3]) {
    uint32_t r;

    running = f;
    r = answer(nr, args[0], args[1], args[2]);
    running = &filter;
    return r;
}

/* Of two filters of a thread, under the same one of the process. */
static void assert_same_under(const struct filter *outer, const struct filter *a,
                              const struct filter *b, unsigned nr, const uint64_t args[3]) {
    uint32_t one = answer_of(a, nr, args), other = answer_of(b, nr, args), first;

    if (one == other)
        return;
    first = answer_of(outer, nr, args);
    assert_int_equal(stricter(one, first), stricter(other, first));
}

static bool compares(const struct sock_filter *i) {
    return i->code == (BPF_JMP | BPF_JEQ | BPF_K) || i->code == (BPF_JMP | BPF_JSET | BPF_K);
}

/* Every value that the process's filter knows, in every place, and in two for options. */
static void
a_thread_within_the_process_may_no_more_than_with_all_questions_of_its_own(void **state) {
    static struct filter outer, full, within;
    const unsigned kinds[] = {1u << JAIL_VCPU | 1u << JAIL_DISK, 1u << JAIL_DISK,
                              1u << JAIL_JOB | 1u << JAIL_DISK, 1u << JAIL_AUX};

    filter_make(&outer, filter_kinds(false), true, true);
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        filter_make(&full, kinds[k], false, false);
        filter_make_within(&within, kinds[k], filter_kinds(false));
        assert_true(within.len < full.len);
        assert_int_equal(within.calls, full.calls);
        for (unsigned nr = 0; nr < NUMBERS; nr++)
            for (unsigned i = 0; i < outer.len; i++)
                for (unsigned place = 0; place < 4 && compares(&outer.code[i]); place++) {
                    uint64_t v = outer.code[i].k, args[3] = {0};

                    args[place % 3] = v;
                    if (place == 3) { /* a thread's flags, and two at once */
                        args[0] = CLONE_VM | CLONE_THREAD | v;
                        args[1] = SOL_SOCKET;
                        args[2] = v;
                    }
                    assert_same_under(&outer, &within, &full, nr, args);
                }
    }
}

static void other_architectures_end_at_once(void **state) {
    const struct seccomp_data d = {.nr = 3, .arch = AUDIT_ARCH_I386};

    filter_make(&filter, filter_kinds(false), true, true);
    assert_int_equal(run(&d), SECCOMP_RET_KILL_PROCESS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_process_has_what_was_declared_and_its_helper_the_rest),
        cmocka_unit_test(arguments_decide_where_they_were_declared),
        cmocka_unit_test(other_advice_options_and_futexes_are_as_if_unknown),
        cmocka_unit_test(as_many_numbers_pass_as_were_declared_and_none_of_another_abi),
        cmocka_unit_test(kinds_of_threads_have_what_they_do_alone),
        cmocka_unit_test(
            a_thread_within_the_process_may_no_more_than_with_all_questions_of_its_own),
        cmocka_unit_test(other_architectures_end_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
