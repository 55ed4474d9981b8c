/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vivd in the background: a session of its own, its words in a log, a pipe that tells when it
 * answers. */
#include "cli/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READY_MS = 30000, READY_FD = 3, LOG_MOST = 4 << 20, EXIT_BUSY = 3 };

static void make_folders(const char *path) {
    char part[PATH_MAX];

    for (const char *p = path + 1;; p++) {
        if (*p && *p != '/')
            continue;
        snprintf(part, sizeof(part), "%.*s", (int)(p - path), path);
        if (mkdir(part, 0700) < 0 && errno != EEXIST)
            return; /* what comes next says why */
        if (!*p)
            return;
    }
}

static int open_log(const char *path) {
    struct stat st;

    if (stat(path, &st) == 0 && st.st_size > LOG_MOST) {
        char old[PATH_MAX + 32];

        snprintf(old, sizeof(old), "%s.old", path);
        rename(path, old);
    }
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void become(const char *program, int ready, int log) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    setsid();
    ready = fcntl(ready, F_DUPFD, READY_FD + 1);
    if (chdir("/") == 0 && dup2(null, 0) >= 0 && dup2(null, 1) >= 0 && dup2(log, 2) >= 0 &&
        dup2(ready, READY_FD) >= 0) {
        close(ready);
        execlp(program, program, "--ready-fd", "3", (char *)NULL);
        dprintf(2, "vivd cannot be executed as '%s': %s\n", program, strerror(errno));
    }
    _exit(127);
}

/* The last line of the log: why it ended. */
static void last_line(const char *path, char *out, size_t size) {
    char text[1024];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    ssize_t n = fd < 0 ? 0
                       : pread(fd, text, sizeof(text) - 1,
                               end >= (off_t)sizeof(text) ? end - (off_t)sizeof(text) + 1 : 0);
    char *line;

    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    while (n > 0 && text[n - 1] == '\n')
        text[--n] = 0;
    line = strrchr(text, '\n');
    snprintf(out, size, "%s", line ? line + 1 : text);
}

/* 1: it answers. 0: it has ended. -1: neither, for too long. */
static int wait_ready(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char word[8];

    if (poll(&p, 1, READY_MS) != 1)
        return -1;
    return read(fd, word, sizeof(word)) > 0;
}

int launch_manager(const struct place *p, struct error *err) {
    char program[PATH_MAX], log_path[PATH_MAX + 16], why[600];
    int ends[2], log, status = 0, ready = 0;
    pid_t pid;

    place_program("vivd", program);
    make_folders(p->runtime);
    snprintf(log_path, sizeof(log_path), "%s/vivd.log", p->runtime);
    log = open_log(log_path);
    if (log < 0)
        return error_set(err, -errno, "'%s' cannot be written: %s; set VIV_HOME to another folder",
                         log_path, strerror(errno));
    if (pipe2(ends, O_CLOEXEC) < 0) {
        close(log);
        return error_set(err, -errno, "no pipe: %s", strerror(errno));
    }
    pid = fork();
    if (pid == 0)
        become(program, ends[1], log);
    close(ends[1]);
    close(log);
    if (pid > 0)
        ready = wait_ready(ends[0]);
    close(ends[0]);
    if (ready == 1)
        return 0;
    if (pid > 0 && ready == 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
        WEXITSTATUS(status) == EXIT_BUSY)
        return 0; /* another one is there, or has not ended entirely: to be tried again */
    last_line(log_path, why, sizeof(why));
    return error_set(err, -EIO, "the manager could not be started: %s (its log: %s)", why,
                     log_path);
}
