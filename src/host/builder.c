/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Running the script: its lines "... 12%  stage" are its progress, its last lines say what failed.
 */
#include "host/builder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/loop.h"

enum { LINE = 1024, WORDS = 400 };

struct builder {
    struct loop *loop;
    struct loop_watch *out_watch, *end_watch;
    int out, pidfd;
    void (*ended)(void *opaque, const struct error *err);
    void *opaque;
    char line[LINE];
    size_t len;
    int percent;
    char stage[120];
    char words[WORDS]; /* its last lines */
};

int builder_percent(const struct builder *b) { return b->percent; }

const char *builder_stage(const struct builder *b) { return b->stage; }

/* In the tree of sources, or as it is installed. */
static bool find_script(char out[PATH_MAX]) {
    static const char *const places[] = {"../../scripts/guest.sh", "../share/vivarium/guest.sh"};
    const char *given = getenv("VIV_IMAGE_SCRIPT");
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    if (given && *given == '/')
        return snprintf(out, PATH_MAX, "%s", given) < PATH_MAX && access(out, X_OK) == 0;
    self[n > 0 ? n : 0] = 0;
    slash = strrchr(self, '/');
    if (slash)
        *slash = 0;
    for (unsigned i = 0; i < 2; i++)
        if (snprintf(out, PATH_MAX, "%s/%s", self, places[i]) < PATH_MAX && access(out, X_OK) == 0)
            return true;
    return false;
}

/* ------------------------------------------------------------------ what it says */

static void take_line(struct builder *b) {
    const char *percent;

    b->line[b->len] = 0;
    percent = strchr(b->line, '%');
    if (percent && percent > b->line && percent[-1] >= '0' && percent[-1] <= '9') {
        const char *digits = percent - 1;

        while (digits > b->line && digits[-1] >= '0' && digits[-1] <= '9')
            digits--;
        b->percent = atoi(digits);
        if (b->percent > 100)
            b->percent = 100;
        snprintf(b->stage, sizeof(b->stage), "%s", percent + 1 + strspn(percent + 1, " "));
    } else if (b->len) { /* keep the newest that fit */
        size_t n = b->len < WORDS - 2 ? b->len : WORDS - 2, old = strlen(b->words);

        if (old + n + 2 > WORDS) {
            size_t cut = old + n + 2 - WORDS;

            cut = cut < old ? cut : old;
            memmove(b->words, b->words + cut, old - cut + 1);
            old -= cut;
        }
        snprintf(b->words + old, WORDS - old, "%s%.*s", old ? " " : "", (int)n, b->line);
    }
    b->len = 0;
}

static void drain(struct builder *b) {
    char data[512];
    ssize_t n;

    while ((n = read(b->out, data, sizeof(data))) > 0)
        for (ssize_t i = 0; i < n; i++) {
            if (data[i] == '\n' || b->len == LINE - 1)
                take_line(b);
            if (data[i] != '\n')
                b->line[b->len++] = data[i];
        }
    if (n == 0) {
        loop_remove(b->out_watch);
        b->out_watch = NULL;
    }
}

static void out_ready(void *opaque, int fd, uint32_t events) { drain(opaque); }

static void process_ended(void *opaque, int fd, uint32_t events) {
    struct builder *b = opaque;
    struct error e = {0};
    siginfo_t info = {0};

    drain(b);
    take_line(b);
    waitid(P_PIDFD, (id_t)b->pidfd, &info, WEXITED);
    close(b->pidfd);
    loop_remove(b->end_watch);
    b->end_watch = NULL;
    b->pidfd = -1;
    if (info.si_code == CLD_EXITED && info.si_status == 0)
        b->ended(b->opaque, NULL);
    else {
        error_set(&e, -EIO, "the script that builds images failed (%s %d): %s",
                  info.si_code == CLD_EXITED ? "exit code" : "signal", info.si_status, b->words);
        b->ended(b->opaque, &e);
    }
}

/* ------------------------------------------------------------------ start and end */

static void become(const char *script, const char *folder, const struct builder_order *order,
                   int lock, int out, pid_t parent) {
    const char *argv[10] = {script, "--output", folder, "--suite", order->suite};
    unsigned n = 5;
    sigset_t none;

    if (*order->packages) {
        argv[n++] = "--packages";
        argv[n++] = order->packages;
    }
    if (*order->mirror) {
        argv[n++] = "--mirror";
        argv[n++] = order->mirror;
    }

    sigemptyset(&none);
    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) /* it died before it could be asked */
        _exit(1);
    if (dup2(out, 1) >= 0 && dup2(out, 2) >= 0 && fcntl(lock, F_SETFD, 0) == 0) {
        int null = open("/dev/null", O_RDONLY);

        if (null >= 0 && dup2(null, 0) == 0)
            execv(script, (char *const *)argv);
    }
    _exit(127);
}

static int start(struct builder *b, const char *script, const char *folder, int folder_fd,
                 const struct builder_order *order, struct error *err) {
    int lock = openat(folder_fd, "lock.build", O_RDWR | O_CREAT | O_CLOEXEC, 0600), ends[2];
    pid_t parent = getpid(), pid;

    if (lock < 0 || flock(lock, LOCK_EX | LOCK_NB) < 0) {
        if (lock >= 0)
            close(lock);
        return error_set(err, -EBUSY, "a script that builds this image is still running");
    }
    if (pipe2(ends, O_CLOEXEC) < 0) {
        close(lock);
        return error_set(err, -errno, "the script that builds images: %s", strerror(errno));
    }
    pid = fork();
    if (pid == 0)
        become(script, folder, order, lock, ends[1], parent);
    close(lock);
    close(ends[1]);
    b->out = ends[0];
    fcntl(b->out, F_SETFL, O_NONBLOCK);
    if (pid < 0)
        return error_set(err, -errno, "the script that builds images: %s", strerror(errno));
    b->pidfd = pidfd_open(pid, 0);
    b->out_watch = loop_add(b->loop, b->out, EPOLLIN, out_ready, b);
    b->end_watch = b->pidfd < 0 ? NULL : loop_add(b->loop, b->pidfd, EPOLLIN, process_ended, b);
    if (b->out_watch && b->end_watch)
        return 0;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return error_set(err, -EMFILE, "the script that builds images cannot be watched");
}

struct builder *builder_start(struct loop *loop, const char *folder, int folder_fd,
                              const struct builder_order *order,
                              void (*ended)(void *opaque, const struct error *err), void *opaque,
                              struct error *err) {
    struct builder *b = calloc(1, sizeof(*b));
    char script[PATH_MAX];

    if (!b) {
        error_set(err, -ENOMEM, "the script that builds images: out of memory");
        return NULL;
    }
    *b = (struct builder){.loop = loop,
                          .out = -1,
                          .pidfd = -1,
                          .ended = ended,
                          .opaque = opaque,
                          .stage = "starting"};
    if (!find_script(script))
        error_set(err, -ENOENT,
                  "the script that builds images (guest.sh) is not there: install it, or set "
                  "VIV_IMAGE_SCRIPT to its path");
    else if (start(b, script, folder, folder_fd, order, err) == 0)
        return b;
    builder_free(b);
    return NULL;
}

void builder_stop(struct builder *b) {
    if (b && b->pidfd >= 0)
        pidfd_send_signal(b->pidfd, SIGTERM, NULL, 0);
}

void builder_free(struct builder *b) {
    if (!b)
        return;
    builder_stop(b);
    loop_remove(b->out_watch);
    loop_remove(b->end_watch);
    if (b->out >= 0)
        close(b->out);
    if (b->pidfd >= 0)
        close(b->pidfd);
    free(b);
}
