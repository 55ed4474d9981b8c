/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A command of the guest with our input and output. */
#include "proto/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

enum { SLICE = 32 * 1024 };

static struct termios before;
static bool raw;

static void restore_terminal(void) {
    if (raw)
        tcsetattr(STDIN_FILENO, TCSANOW, &before);
}

static void make_raw(void) {
    struct termios t;

    if (tcgetattr(STDIN_FILENO, &before) < 0)
        return;
    t = before;
    cfmakeraw(&t);
    raw = tcsetattr(STDIN_FILENO, TCSANOW, &t) == 0;
    atexit(restore_terminal);
}

static json_t *request(const struct guest *g, int argc, char **argv) {
    json_t *list = json_array(), *v;
    struct winsize w = {.ws_col = 80, .ws_row = 24};

    for (int i = 0; i < argc; i++)
        json_array_append_new(list, json_string(argv[i]));
    v = json_pack("{s:s, s:o}", "do", "exec", "argv", list);
    if (g->user)
        json_object_set_new(v, "user", json_string(g->user));
    if (g->cwd)
        json_object_set_new(v, "cwd", json_string(g->cwd));
    if (g->image)
        json_object_set_new(v, "image", json_true());
    if (g->env)
        json_object_set(v, "env", g->env);
    if (g->tty) {
        if (ioctl(STDIN_FILENO, TIOCGWINSZ, &w) < 0 || !w.ws_col || !w.ws_row)
            w = (struct winsize){.ws_col = 80, .ws_row = 24};
        json_object_set_new(v, "tty", json_true());
        json_object_set_new(v, "columns", json_integer(w.ws_col));
        json_object_set_new(v, "rows", json_integer(w.ws_row));
    }
    return v;
}

static int print(int fd, const uint8_t *p, size_t n) {
    while (n) {
        ssize_t done = write(fd, p, n);

        if (done < 0 && errno == EAGAIN) {
            struct pollfd w = {.fd = fd, .events = POLLOUT};

            poll(&w, 1, -1);
        } else if (done < 0 && errno != EINTR) {
            return -errno; /* nobody reads any more */
        } else if (done > 0) {
            p += done;
            n -= (size_t)done;
        }
    }
    return 0;
}

static int exit_code(const uint8_t *p, size_t n) {
    json_t *v = agent_json(p, n, NULL);
    const json_t *signal = json_object_get(v, "signal");
    int code = signal ? 128 + (int)json_integer_value(signal)
                      : (int)json_integer_value(json_object_get(v, "code"));

    json_decref(v);
    return code & 0xff;
}

/* The exit code that a shell would have for it. Older agents say it in words alone. */
static json_int_t why_not_run(const json_t *v, const char *text) {
    const char *code = json_string_value(json_object_get(v, "code"));
    const json_t *own = json_object_get(v, "exit");

    if (own)
        return json_integer_value(own);
    if (!text || !code || !strstr(text, "' cannot be run: "))
        return GUEST_FAILED;
    return strcmp(code, "ENOENT") ? GUEST_NOT_RUN : GUEST_NOT_FOUND;
}

/* Frames that are there. -1: go on; else the exit code. */
static int take_frames(struct guest *g, struct error *err) {
    enum agent_frame type;
    const uint8_t *p;
    size_t n;
    int r;

    while ((r = agent_receive(&g->reader, 0, &type, &p, &n, err)) > 0) {
        if (type == AGENT_EXIT)
            return exit_code(p, n);
        if (type == AGENT_RESULT) { /* it could not be started */
            json_t *v = agent_json(p, n, err);
            const char *text = json_string_value(json_object_get(v, "error"));

            json_int_t code = why_not_run(v, text);

            error_set(err, -ENOEXEC, "%s", text ? text : "the command was not started");
            json_decref(v);
            return code == GUEST_NOT_FOUND || code == GUEST_NOT_RUN ? (int)code : GUEST_FAILED;
        }
        if ((type == AGENT_STDOUT && print(STDOUT_FILENO, p, n) < 0) ||
            (type == AGENT_STDERR && print(STDERR_FILENO, p, n) < 0))
            return GUEST_FAILED;
    }
    return r < 0 ? GUEST_LOST : -1;
}

/* One frame of input, waiting to be sent without blocking: the guest may wait for us meanwhile. */
struct input {
    uint8_t bytes[AGENT_HEADER + SLICE];
    size_t start, len;
    bool ended;
};

static void read_input(struct input *in) {
    ssize_t n = read(STDIN_FILENO, in->bytes + AGENT_HEADER, SLICE);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    n = n < 0 ? 0 : n;
    in->ended = n == 0;
    in->bytes[0] = (uint8_t)n;
    in->bytes[1] = (uint8_t)(n >> 8);
    in->bytes[2] = (uint8_t)(n >> 16);
    in->bytes[3] = 0;
    in->bytes[4] = AGENT_STDIN;
    in->start = 0;
    in->len = AGENT_HEADER + (size_t)n;
}

static void send_input(struct input *in, int fd) {
    ssize_t n = send(fd, in->bytes + in->start, in->len, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n > 0) {
        in->start += (size_t)n;
        in->len -= (size_t)n;
    }
}

/* Signals and sizes are small and rare enough to be sent at once, between frames of input. */
static void pass_signal(struct guest *g, int signals) {
    struct signalfd_siginfo info;
    struct winsize w;

    if (read(signals, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo != SIGWINCH)
        agent_send_json(g->reader.fd, AGENT_SIGNAL,
                        json_pack("{s:i}", "signal", (int)info.ssi_signo), NULL);
    else if (ioctl(STDIN_FILENO, TIOCGWINSZ, &w) == 0)
        agent_send_json(g->reader.fd, AGENT_RESIZE,
                        json_pack("{s:i, s:i}", "columns", (int)w.ws_col, "rows", (int)w.ws_row),
                        NULL);
}

static int watch_signals(void) {
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGWINCH);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int tend(struct guest *g, struct error *err) {
    static struct input in;
    int signals = watch_signals(), code;

    for (;;) {
        struct pollfd p[3] = {
            {.fd = g->reader.fd, .events = POLLIN | (in.len ? POLLOUT : 0)},
            {.fd = in.len || in.ended ? -1 : STDIN_FILENO, .events = POLLIN},
            {.fd = in.len ? -1 : signals, .events = POLLIN},
        };

        code = take_frames(g, err);
        if (code >= 0)
            return code;
        if (poll(p, 3, -1) < 0 && errno != EINTR)
            return GUEST_FAILED;
        if (p[2].revents)
            pass_signal(g, signals);
        else if (p[1].revents)
            read_input(&in);
        if (in.len)
            send_input(&in, g->reader.fd);
    }
}

int guest_exec(struct guest *g, int argc, char **argv, struct error *err) {
    int fd = guest_connect(g, err);

    if (fd < 0)
        return GUEST_NO_AGENT;
    if (agent_send_json(fd, AGENT_REQUEST, request(g, argc, argv), err) < 0)
        return GUEST_LOST;
    if (g->tty)
        make_raw();
    return tend(g, err);
}
