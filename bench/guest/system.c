/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Kernels that ask the operating system: calls, faults, processes, switches, signals. */
#include "bench.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int syscalls(uint64_t n, const char *arg, uint64_t *sum) {
    long parent = getppid();
    uint64_t right = 0;

    for (uint64_t i = 0; i < n; i++)
        right += syscall(SYS_getppid) == parent;
    *sum = right;
    return 0;
}

/* n pages, 256 in one mapping: each is touched once and given back. */
static int faults(uint64_t n, const char *arg, uint64_t *sum) {
    enum { PAGES = 256, PAGE = 4096 };
    uint64_t s = 0;

    for (uint64_t done = 0; done < n; done += PAGES) {
        uint8_t *p =
            mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED)
            return -errno;
        madvise(p, PAGES * PAGE,
                MADV_NOHUGEPAGE); /* fails where there are none, which is as good */
        for (size_t i = 0; i < PAGES; i++) {
            s += 1 + p[i * PAGE];
            p[i * PAGE] = 1;
        }
        munmap(p, PAGES * PAGE);
    }
    *sum = s;
    return 0;
}

/* Waits for a child of ours; its exit status, or a negative errno if it ended otherwise. */
static int wait_child(pid_t pid) {
    int status;

    if (waitpid(pid, &status, 0) != pid)
        return -errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -ECHILD;
}

static int forkexec(uint64_t n, const char *arg, uint64_t *sum) {
    char *argv[] = {"bench", CHILD_ARG, NULL}, *env[] = {NULL};
    uint64_t s = 0;

    for (uint64_t i = 0; i < n; i++) {
        pid_t pid = fork();
        int r;

        if (pid < 0)
            return -errno;
        if (pid == 0) {
            execve("/proc/self/exe", argv, env);
            _exit(127);
        }
        r = wait_child(pid);
        if (r != CHILD_STATUS)
            return r < 0 ? r : -ENOEXEC;
        s = mix(s, (uint64_t)r);
    }
    *sum = s;
    return 0;
}

/* Two processes that take turns would run at the same time where there are two processors, and one
 * of them would mostly measure how it wakes up: both stay on one. */
static cpu_set_t stay_on_one_cpu(void) {
    cpu_set_t before, one;
    int cpu = 0;

    CPU_ZERO(&before);
    sched_getaffinity(0, sizeof(before), &before);
    while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, &before))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof(one), &one);
    return before;
}

static int ping(int to, int from, uint64_t n, uint64_t *sum) {
    uint64_t s = 0;

    for (uint64_t i = 0; i < n; i++) {
        uint8_t byte = (uint8_t)i;

        if (write(to, &byte, 1) != 1 || read(from, &byte, 1) != 1)
            return errno ? -errno : -EPIPE;
        s = mix(s, byte);
    }
    *sum = s;
    return 0;
}

static _Noreturn void pong(int from, int to) {
    uint8_t byte;

    while (read(from, &byte, 1) == 1) {
        byte = (uint8_t)~byte;
        if (write(to, &byte, 1) != 1)
            break;
    }
    _exit(0);
}

static int pipes(uint64_t n, const char *arg, uint64_t *sum) {
    int there[2], back[2], r = 0;
    cpu_set_t before;
    pid_t pid;

    if (pipe(there) < 0)
        return -errno;
    if (pipe(back) < 0) {
        r = -errno;
        close(there[0]), close(there[1]);
        return r;
    }
    before = stay_on_one_cpu();
    pid = fork();
    if (pid == 0) {
        close(there[1]);
        pong(there[0], back[1]);
    }
    if (pid < 0)
        r = -errno;
    close(there[0]), close(back[1]);
    errno = 0;
    if (r == 0)
        r = ping(there[1], back[0], n, sum);
    close(there[1]), close(back[0]);
    if (pid > 0) {
        int status = wait_child(pid);

        if (r == 0 && status != 0)
            r = status < 0 ? status : -EPIPE;
    }
    sched_setaffinity(0, sizeof(before), &before);
    return r;
}

/* ---- handing a token over between two processes: a switch each time ---- */

static void take_turns(uint32_t *token, uint32_t mine, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        uint32_t now;

        while ((now = __atomic_load_n(token, __ATOMIC_ACQUIRE)) % 2 != mine)
            syscall(SYS_futex, token, FUTEX_WAIT, now, NULL, NULL, 0);
        __atomic_store_n(token, now + 1, __ATOMIC_RELEASE);
        syscall(SYS_futex, token, FUTEX_WAKE, 1, NULL, NULL, 0);
    }
}

static int switches(uint64_t n, const char *arg, uint64_t *sum) {
    uint32_t *token = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cpu_set_t before;
    pid_t pid;
    int r;

    if (token == MAP_FAILED)
        return -errno;
    before = stay_on_one_cpu();
    pid = fork();
    if (pid == 0) {
        take_turns(token, 1, n);
        _exit(0);
    }
    if (pid > 0) {
        take_turns(token, 0, n);
        r = wait_child(pid);
    } else {
        r = -errno;
    }
    *sum = *token;
    munmap(token, 4096);
    sched_setaffinity(0, sizeof(before), &before);
    return r > 0 ? -ECHILD : r;
}

static volatile sig_atomic_t signal_count;

static void on_signal(int number) { signal_count++; }

static int signals(uint64_t n, const char *arg, uint64_t *sum) {
    struct sigaction action = {.sa_handler = on_signal}, before;
    pid_t self = getpid();
    int r = 0;

    signal_count = 0;
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGUSR1, &action, &before) < 0)
        return -errno;
    for (uint64_t i = 0; i < n && r == 0; i++)
        r = kill(self, SIGUSR1) < 0 ? -errno : 0;
    sigaction(SIGUSR1, &before, NULL);
    *sum = (uint64_t)signal_count;
    return r;
}

const struct kernel system_kernels[] = {
    {"syscall", syscalls}, {"fault", faults},   {"forkexec", forkexec}, {"pipe", pipes},
    {"switch", switches},  {"signal", signals}, {NULL, NULL},
};
