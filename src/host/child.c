/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Programs that read images (qemu-img, viv-oci) as child processes of a worker's thread. They end
 * with the thread (PR_SET_PDEATHSIG), and may not take more memory than a converter needs, since
 * images come from anywhere.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "host/transfer.h"

enum { LOOK_MS = 200, MOST_OUTPUT = 1 << 20, NOT_FOUND = 127 };

static const struct rlimit memory = {4ll << 30, 4ll << 30};

/* In the child, which has one thread: only what is safe there. */
static void become(char *const argv[], int out, pid_t parent) {
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    sigset_t none;

    sigemptyset(&none);
    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setrlimit(RLIMIT_AS, &memory);
    if (getppid() == parent && null >= 0 && dup2(null, 0) == 0 && dup2(out, 1) == 1 &&
        dup2(out, 2) == 2)
        execvp(argv[0], argv);
    _exit(NOT_FOUND);
}

/* "    (12.34/100%)\r" */
static void read_progress(struct transfer *t, const struct buf *b) {
    for (size_t i = b->len; i-- > 0;)
        if (b->data[i] == '(') {
            char number[16] = {0};

            memcpy(number, b->data + i + 1, b->len - i - 1 < 15 ? b->len - i - 1 : 15);
            if (!strchr(number, '/'))
                continue;
            __atomic_store_n(t->of, 10000, __ATOMIC_RELAXED);
            __atomic_store_n(t->done, (int64_t)(strtod(number, NULL) * 100), __ATOMIC_RELAXED);
            return;
        }
}

/* Until the end of its output; false: it is to be stopped. */
static bool listen_to(struct transfer *t, int fd, bool progress, struct buf *out) {
    struct pollfd p = {fd, POLLIN, 0};
    char data[4096];
    ssize_t n = 1;

    while (n > 0) {
        if (__atomic_load_n(t->stop, __ATOMIC_RELAXED))
            return false;
        if (poll(&p, 1, LOOK_MS) <= 0)
            continue;
        n = read(fd, data, sizeof(data));
        if (n > 0 && progress && out->len > sizeof(data))
            out->len = 0;
        if (n > 0 && out->len < MOST_OUTPUT)
            buf_put(out, data, (size_t)n);
        if (n > 0 && progress)
            read_progress(t, out);
    }
    return true;
}

/* The last line, for people. */
static const char *last_line(struct buf *b, const char *program) {
    size_t len = strlen(program);
    char *s, *last;

    buf_put(b, "", 1);
    s = (char *)b->data;
    for (size_t n = strlen(s); n && strchr("\r\n ", s[n - 1]); n--)
        s[n - 1] = 0;
    for (char *p = s; *p; p++)
        if (*p == '\r')
            *p = '\n';
    last = strrchr(s, '\n');
    last = last ? last + 1 : s;
    return strncmp(last, program, len) || strncmp(last + len, ": ", 2) ? last : last + len + 2;
}

static int not_found(const char *program, struct error *err) {
    if (!strcmp(program, "qemu-img"))
        return error_set(
            err, -ENOENT,
            "this format is read and written by qemu-img, which is not installed here: "
            "install the package qemu-utils");
    return error_set(err, -ENOENT, "%s is not there: install it beside vivd", program);
}

static int result_of(int status, bool stopped, const char *program, struct buf *out,
                     struct error *err) {
    if (stopped)
        return error_set(err, -ECANCELED, "it was cancelled");
    if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_FOUND)
        return not_found(program, err);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (WIFSIGNALED(status))
        return error_set(err, -EIO, "%s was ended by signal %d", program, WTERMSIG(status));
    /* What we say ourselves is told as it is. */
    return strncmp(program, "viv-", 4)
               ? error_set(err, -EIO, "%s: %s", program, last_line(out, program))
               : error_set(err, -EIO, "%s", last_line(out, program));
}

int child_run(struct transfer *t, char *const argv[], char **ret_output, struct error *err) {
    const char *slash = strrchr(argv[0], '/'), *program = slash ? slash + 1 : argv[0];
    struct buf out = {0};
    pid_t parent = getpid(), pid;
    int ends[2], status = 0, r;
    bool stopped;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set(err, -errno, "%s: %s", program, strerror(errno));
    pid = fork();
    if (pid == 0)
        become(argv, ends[1], parent);
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return error_set(err, -EAGAIN, "%s cannot be started: %s", program, strerror(errno));
    }
    stopped = !listen_to(t, ends[0], !ret_output, &out);
    close(ends[0]);
    if (stopped)
        kill(pid, SIGKILL); /* not reaped yet: it is that process */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    r = result_of(status, stopped, program, &out, err);
    if (r == 0 && ret_output) {
        buf_put(&out, "", 1);
        *ret_output = (char *)out.data;
        return 0;
    }
    buf_done(&out);
    return r;
}
