/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The terminal as that of a machine: raw, with Ctrl-] as the escape key (q detaches, a second
 * Ctrl-] sends one). When the manager goes away the console waits for it and goes on.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

enum { ESCAPE = 0x1d, CHUNK = 16 * 1024, AGAIN_MS = 100, PATIENCE = 20 };

static struct termios before;
static volatile sig_atomic_t raw;

/* Also from a signal: tcsetattr may be called there. */
static void restore(void) {
    if (raw)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    raw = 0;
}

static void die(int signo) {
    restore();
    signal(signo, SIG_DFL);
    raise(signo);
}

static void make_raw(void) {
    struct termios t;

    if (raw || !isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &before) < 0)
        return;
    t = before;
    cfmakeraw(&t);
    raw = tcsetattr(STDIN_FILENO, TCSAFLUSH, &t) == 0;
    signal(SIGTERM, die);
    signal(SIGHUP, die);
    signal(SIGINT, die);
}

struct session {
    int fd;
    bool escaped, input_over;
};

static bool put_all(int fd, const char *p, size_t n) {
    while (n) {
        ssize_t w = write(fd, p, n);

        if (w < 0 && errno == EAGAIN) {
            struct pollfd f = {.fd = fd, .events = POLLOUT};

            poll(&f, 1, -1);
        } else if (w < 0 && errno != EINTR)
            return false;
        else if (w > 0) {
            p += w;
            n -= (size_t)w;
        }
    }
    return true;
}

/* Takes the escape sequences out; true if the user wants to leave. */
static bool filter(struct session *s, char *p, size_t n, size_t *ret_n) {
    size_t to = 0;

    for (size_t i = 0; i < n; i++) {
        if (!s->escaped && p[i] == ESCAPE && raw) {
            s->escaped = true;
            continue;
        }
        if (s->escaped && p[i] == 'q')
            return true;
        s->escaped = false;
        p[to++] = p[i];
    }
    *ret_n = to;
    return false;
}

enum outcome { GO_ON, DETACHED, CLOSED };

static enum outcome from_user(struct session *s) {
    char data[CHUNK];
    ssize_t n = read(STDIN_FILENO, data, sizeof(data));
    size_t left;

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return GO_ON;
    if (n <= 0) {
        s->input_over = true; /* output goes on */
        return GO_ON;
    }
    if (filter(s, data, (size_t)n, &left))
        return DETACHED;
    return put_all(s->fd, data, left) ? GO_ON : CLOSED;
}

static enum outcome from_machine(struct session *s) {
    char data[CHUNK];
    ssize_t n = recv(s->fd, data, sizeof(data), MSG_DONTWAIT);

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return GO_ON;
    if (n <= 0)
        return CLOSED;
    return put_all(STDOUT_FILENO, data, (size_t)n) ? GO_ON : DETACHED;
}

static enum outcome shuttle(struct session *s) {
    enum outcome o = GO_ON;

    while (o == GO_ON) {
        struct pollfd p[2] = {{.fd = s->fd, .events = POLLIN},
                              {.fd = s->input_over ? -1 : STDIN_FILENO, .events = POLLIN}};

        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return CLOSED;
        if (p[0].revents)
            o = from_machine(s);
        if (o == GO_ON && p[1].revents)
            o = from_user(s);
    }
    return o;
}

/* Does the machine go on, so that a new connection makes sense? */
static bool still_there(struct cli *c, const char *name) {
    json_t *vm = NULL;
    const char *state;
    bool yes;

    if (remote_call(c->remote, "GET", NULL, &vm, &c->failure, "/v1/vms/%s", name) < 0)
        return false;
    state = item_text(vm, "status", "state");
    yes = !strcmp(state, "running") || !strcmp(state, "paused") || !strcmp(state, "stopping") ||
          !strcmp(state, "pausing") || !strcmp(state, "resuming") || !strcmp(state, "starting") ||
          !strcmp(state, "restarting");
    json_decref(vm);
    return yes;
}

static int connect_console(struct cli *c, const char *name) {
    struct buf early = {0};
    int fd = remote_upgrade(c->remote, "serial", &early, &c->failure, "/v1/vms/%s/console?port=%d",
                            name, (int)cli_number(c, "port", 1));

    if (fd >= 0)
        put_all(STDOUT_FILENO, (const char *)early.data, early.len);
    buf_done(&early);
    return fd;
}

int cli_console(struct cli *c, const char *name) {
    static const struct timespec again = {.tv_nsec = AGAIN_MS * 1000000L};
    struct session s = {.fd = connect_console(c, name)};
    enum outcome o;
    unsigned naps = 0;

    if (s.fd < 0)
        return -1;
    for (;;) {
        make_raw();
        o = shuttle(&s);
        close(s.fd);
        restore();
        if (o == DETACHED) {
            fputs("\n", stderr);
            return 0;
        }
        /* The machine has ended, or the manager has, which then is started again. */
        while ((s.fd = still_there(c, name) ? connect_console(c, name) : -1) < 0) {
            if (!still_there(c, name)) {
                c->failure = (struct remote_failure){0};
                return 1;
            }
            if (++naps == PATIENCE)
                show_note(c, "viv: waiting for the console of '%s'", name);
            nanosleep(&again, NULL);
        }
    }
}
