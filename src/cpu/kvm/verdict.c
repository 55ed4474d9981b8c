/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the probe found: told by a child, so that nothing can hang, and kept until the host boots
 * again, in one line: boot id, 1 if usable, rate, text.
 *
 * What the file says decides what runs guests, so it counts only if nobody but this user (or root)
 * can have written it, and if it could be a line of ours.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/timer.h"
#include "cpu/kvm/kvm.h"
#include "cpu/kvm/probe.h"

enum { BOOT_ID = 36, LINE = 256, LIMIT_MS = 800, GRACE_MS = 100 };

/* ------------------------------------------------------------------ apart */

static _Noreturn void child(void (*probe)(struct kvm_verdict *), int to, pid_t parent) {
    struct kvm_verdict v = {0};

    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent)
        _exit(1);
    probe(&v);
    v.text[sizeof(v.text) - 1] = 0;
    _exit(write(to, &v, sizeof(v)) != sizeof(v));
}

/* True: it has said something, all at once as it is shorter than PIPE_BUF. */
static bool hear(int from, unsigned ms, struct kvm_verdict *v) {
    int64_t begin = timer_now_ms(), passed = 0;
    struct pollfd p = {.fd = from, .events = POLLIN};
    int r;

    do {
        r = poll(&p, 1, (int)(ms - passed));
        passed = timer_now_ms() - begin;
    } while (r < 0 && errno == EINTR && passed < ms);
    return r > 0 && read(from, v, sizeof(*v)) == sizeof(*v);
}

/* One that hangs in the kernel cannot be killed: it is left then, and nothing waits for it. */
static bool bury(pid_t pid, int *ret_status) {
    for (unsigned i = 0; i < GRACE_MS; i++) {
        const struct timespec ms = {.tv_nsec = 1000000};
        pid_t r = waitpid(pid, ret_status, WNOHANG);

        if (r == pid || (r < 0 && errno != EINTR))
            return r == pid;
        nanosleep(&ms, NULL);
    }
    return false;
}

void kvm_probe_apart(void (*probe)(struct kvm_verdict *), unsigned ms, struct kvm_verdict *ret) {
    int fds[2], status = 0;
    struct kvm_verdict v;
    bool heard = false;
    pid_t pid, self = getpid();

    *ret = (struct kvm_verdict){.passing = true};
    snprintf(ret->text, sizeof(ret->text), "the host's KVM cannot be tried: no process for that");
    if (pipe2(fds, O_CLOEXEC) < 0)
        return;
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        child(probe, fds[1], self);
    }
    close(fds[1]);
    if (pid > 0) {
        heard = hear(fds[0], ms, &v);
        if (!heard)
            snprintf(ret->text, sizeof(ret->text),
                     "the host's KVM did not run a tiny guest in %u ms: it hangs, or the host is "
                     "very busy",
                     ms);
        kill(pid, SIGKILL);
        if (bury(pid, &status) && !heard && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
            snprintf(ret->text, sizeof(ret->text), "the host's KVM ended who tried it");
    }
    close(fds[0]);
    if (heard)
        *ret = v;
}

/* ------------------------------------------------------------------ once a boot */

static bool read_boot_id(char id[BOOT_ID + 1]) {
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    bool good = fd >= 0 && read(fd, id, BOOT_ID) == BOOT_ID;

    if (fd >= 0)
        close(fd);
    id[BOOT_ID] = 0;
    return good;
}

static bool only_ours(const struct stat *st) {
    return (st->st_uid == geteuid() || st->st_uid == 0) && !(st->st_mode & 022);
}

/* A folder in which nobody else makes or renames anything. */
static bool place(char *path, size_t size) {
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    struct stat st;

    if (!runtime || *runtime != '/') {
        if (geteuid() != 0)
            return false;
        runtime = "/run";
    }
    return lstat(runtime, &st) == 0 && S_ISDIR(st.st_mode) && only_ours(&st) &&
           snprintf(path, size, "%s/vivarium-kvm", runtime) < (int)size;
}

static bool is_sentence(const char *s) {
    for (const char *p = s; *p; p++)
        if (*p < ' ' || *p > '~')
            return false;
    return *s;
}

static bool parse(char *line, const char *boot, struct kvm_verdict *v) {
    char *end = strchr(line, '\n'), *rest;
    size_t id = strlen(boot);

    if (!end || end[1])
        return false;
    *end = 0;
    if (strncmp(line, boot, id) != 0 || line[id] != ' ' || (line[id + 1] | 1) != '1' ||
        line[id + 2] != ' ' || line[id + 3] < '0' || line[id + 3] > '9')
        return false;
    v->usable = line[id + 1] == '1';
    errno = 0;
    v->rate = strtoull(line + id + 3, &rest, 10);
    if (errno || *rest != ' ' || v->usable != (v->rate >= KVM_SLOWEST_REAL) ||
        !is_sentence(rest + 1))
        return false;
    return snprintf(v->text, sizeof(v->text), "%s", rest + 1) < (int)sizeof(v->text);
}

bool kvm_verdict_load(const char *path, const char *boot, struct kvm_verdict *ret) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    struct kvm_verdict v = {0};
    char line[LINE + 1];
    struct stat st;
    ssize_t n = -1;

    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && only_ours(&st))
        n = read(fd, line, LINE);
    if (fd >= 0)
        close(fd);
    if (n <= 0 || n == LINE || memchr(line, 0, (size_t)n))
        return false;
    line[n] = 0;
    if (!parse(line, boot, &v))
        return false;
    *ret = v;
    return true;
}

void kvm_verdict_keep(const char *path, const char *boot, const struct kvm_verdict *v) {
    char fresh[300], line[LINE];
    int n = snprintf(line, sizeof(line), "%s %d %llu %s\n", boot, v->usable,
                     (unsigned long long)v->rate, v->text),
        fd;

    if (n >= (int)sizeof(line) ||
        snprintf(fresh, sizeof(fresh), "%s.%d", path, getpid()) >= (int)sizeof(fresh))
        return;
    fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return;
    if (write(fd, line, (size_t)n) != n || rename(fresh, path) < 0)
        unlink(fresh);
    close(fd);
}

/* That the device is not there, not ours to open or none of KVM's is found fast, and may change. */
void kvm_probe_cached(struct kvm_verdict *v) {
    char path[256], boot[BOOT_ID + 1];
    bool kept = read_boot_id(boot) && place(path, sizeof(path));
    struct error err = {0};
    int fd = kvm_open(&err);

    *v = (struct kvm_verdict){0};
    if (fd < 0) {
        snprintf(v->text, sizeof(v->text), "%.150s", err.text);
        return;
    }
    close(fd);
    if (kept && kvm_verdict_load(path, boot, v))
        return;
    kvm_probe_apart(kvm_probe, LIMIT_MS, v);
    if (kept && !v->passing)
        kvm_verdict_keep(path, boot, v);
}
