/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starting, finding and burying processes of machines: flock(2), pidfd_open(2), proc(5). */
#include "host/vm_process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/console.h"

enum { LOCK_FD = 3, NO_EXEC = 127, LOG_MOST = 1 << 20, WORDS = 2000 };

struct run { /* the file `run`: one line of numbers */
    int64_t cycle, pid;
    uint64_t start; /* field 22 of /proc/PID/stat */
};

/* Only what may be called between fork and exec of a program with threads. */
static uint64_t start_time(pid_t pid) {
    char path[40], text[1024], *p;
    uint64_t start = 0;
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    p = strrchr(text, ')'); /* the name before it may hold anything */
    for (unsigned field = 2; p && field < 22; field++)
        p = strchr(p + 1, ' ');
    for (p = p ? p + 1 : text + strlen(text); *p >= '0' && *p <= '9'; p++)
        start = start * 10 + (uint64_t)(*p - '0');
    return start;
}

static bool write_run(int folder, const struct run *r) {
    char line[80];
    int n = snprintf(line, sizeof(line), "%" PRId64 " %" PRId64 " %" PRIu64 "\n", r->cycle, r->pid,
                     r->start);
    int fd = openat(folder, "run.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good = fd >= 0 && write(fd, line, (size_t)n) == n;

    if (fd >= 0)
        close(fd);
    return good && renameat(folder, "run.new", folder, "run") == 0;
}

static bool read_run(int folder, struct run *r) {
    int fd = openat(folder, "run", O_RDONLY | O_CLOEXEC);
    char line[80];
    ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);

    if (fd >= 0)
        close(fd);
    line[n > 0 ? n : 0] = 0;
    return sscanf(line, "%" SCNd64 " %" SCNd64 " %" SCNu64, &r->cycle, &r->pid, &r->start) == 3 &&
           r->pid > 0 && r->pid <= INT32_MAX;
}

/* ------------------------------------------------------------------ starting */

/* Who may not goes on with what there is; viv-vm says when that does not suffice. */
static void raise_lock_limit(uint64_t bytes) {
    struct rlimit has, most = {bytes, bytes};

    if (bytes && getrlimit(RLIMIT_MEMLOCK, &has) == 0 && has.rlim_max < bytes)
        setrlimit(RLIMIT_MEMLOCK, &most);
}

/* In the child. What it holds of the manager's ends here. */
static void become(int folder, int lock, int log, int64_t cycle,
                   const struct vm_process_limits *limits, char *const argv[]) {
    struct run r = {.cycle = cycle, .pid = getpid(), .start = start_time(getpid())};
    static const char sorry[] = "viv-vm cannot be executed: is it installed beside vivd?\n";
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    sigset_t none;

    sigemptyset(&none);
    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    if (fchdir(folder) < 0 || !write_run(folder, &r) || null < 0)
        _exit(NO_EXEC);
    /* Out of the way of the numbers that are given out below. */
    lock = fcntl(lock, F_DUPFD_CLOEXEC, LOCK_FD + 1);
    log = fcntl(log, F_DUPFD_CLOEXEC, LOCK_FD + 1);
    if (lock < 0 || log < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(log, 2) < 0 ||
        dup2(lock, LOCK_FD) < 0)
        _exit(NO_EXEC);
    if (limits->base && *limits->base)
        cgroup_enter(folder, limits->base, &limits->group);
    raise_lock_limit(limits->lock);
    execvp(argv[0], argv);
    if (write(2, sorry, sizeof(sorry) - 1) < 0)
        _exit(NO_EXEC);
    _exit(NO_EXEC);
}

static int take_lock(int folder) {
    int fd = openat(folder, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int r = fd < 0 ? -errno : 0;

    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
        r = errno == EWOULDBLOCK ? -EBUSY : -errno;
        close(fd);
    }
    return r < 0 ? r : fd;
}

int vm_process_start(int folder, int64_t cycle, char *const argv[],
                     const struct vm_process_limits *limits, struct vm_process *ret,
                     struct error *err) {
    int lock = take_lock(folder), log = -1, r = 0;
    pid_t pid = -1;

    if (lock == -EBUSY)
        return error_set(err, lock, "a process of this machine is still there");
    if (lock < 0)
        return error_set(err, lock, "the machine's folder cannot be locked: %s", strerror(-lock));
    renameat(folder, "log", folder, "log.old");
    log = openat(folder, "log", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (log < 0)
        r = error_set(err, -errno, "the machine's log cannot be written: %s", strerror(errno));
    cgroup_clean(folder);
    unlinkat(folder, "cgroup", 0);
    unlinkat(folder, "control", 0); /* of an earlier process: nobody is to connect to it */
    if (r == 0 && (pid = fork()) < 0)
        r = error_set(err, -errno, "no process can be started: %s", strerror(errno));
    if (pid == 0)
        become(folder, lock, log, cycle, limits, argv);
    close(lock); /* the child has it */
    if (log >= 0)
        close(log);
    if (r < 0)
        return r;
    *ret = (struct vm_process){.pid = pid, .cycle = cycle, .child = true};
    ret->pidfd = pidfd_open(pid, 0); /* close-on-exec by itself */
    if (ret->pidfd >= 0)
        return 0;
    r = error_set(err, -errno, "the new process cannot be watched: %s", strerror(errno));
    kill(pid, SIGKILL); /* ours and not reaped yet: the number is its own */
    waitpid(pid, NULL, 0);
    return r;
}

/* ------------------------------------------------------------------ finding */

int vm_process_find(int folder, struct vm_process *ret) {
    struct run run = {0};
    int lock = take_lock(folder);

    *ret = (struct vm_process){.pidfd = -1};
    if (lock >= 0) {
        ret->cycle = read_run(folder, &run) ? run.cycle : 0;
        cgroup_clean(folder); /* it ended while there was no manager */
        close(lock);
        return 0;
    }
    if (lock != -EBUSY)
        return lock == -ENOENT ? 0 : lock;
    if (!read_run(folder, &run))
        return -EAGAIN;
    ret->pidfd = pidfd_open((pid_t)run.pid, 0);
    /* In this order: the number belongs to whoever the descriptor belongs to. */
    if (ret->pidfd < 0 || start_time((pid_t)run.pid) != run.start) {
        vm_process_close(ret);
        return -EAGAIN;
    }
    ret->pid = (pid_t)run.pid;
    ret->cycle = run.cycle;
    return 1;
}

void vm_process_signal(const struct vm_process *p, int signo) {
    if (p->pidfd >= 0)
        pidfd_send_signal(p->pidfd, signo, NULL, 0);
}

struct vm_process_end vm_process_reap(struct vm_process *p, int folder) {
    struct vm_process_end end = {0};
    siginfo_t info = {0};

    if (p->child && waitid(P_PIDFD, (id_t)p->pidfd, &info, WEXITED) == 0) {
        end.known = true;
        if (info.si_code == CLD_EXITED)
            end.code = info.si_status;
        else
            end.signal = info.si_status;
    }
    vm_process_close(p);
    cgroup_clean(folder);
    return end;
}

void vm_process_close(struct vm_process *p) {
    if (p->pidfd >= 0)
        close(p->pidfd);
    p->pidfd = -1;
    p->pid = 0;
}

/* The end of a file, for free, without what a terminal would obey: a guest chose some of it, and
 * one that has broken into its machine all of it. The first line is left out if it is cut. */
static char *read_end(int fd, size_t most) {
    char *text = fd < 0 ? NULL : calloc(1, most + 1), *start;
    off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    ssize_t n = 0;

    if (text)
        n = pread(fd, text, most, size > (off_t)most ? size - (off_t)most : 0);
    if (fd >= 0)
        close(fd);
    if (n <= 0) {
        free(text);
        return NULL;
    }
    text[console_log_clean((uint8_t *)text, (size_t)n)] = 0;
    start = size > (off_t)most ? strchr(text, '\n') : NULL;
    if (start)
        memmove(text, start + 1, strlen(start));
    return text;
}

char *vm_log_read(const char *path) { return read_end(open(path, O_RDONLY | O_CLOEXEC), LOG_MOST); }

char *vm_process_last_words(int folder) {
    char *text = read_end(openat(folder, "log", O_RDONLY | O_CLOEXEC), WORDS);

    for (size_t n = text ? strlen(text) : 0; n > 0 && text[n - 1] == '\n'; n--)
        text[n - 1] = 0;
    return text;
}
