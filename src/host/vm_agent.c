/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A connection to the agent of a guest through the vsock of its machine: greeting, question,
 * answer. */
#include "host/vm_agent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/unix_socket.h"
#include "host/vm.h"
#include "proto/agent.h"

enum { LINE = 32 };

struct vm_agent {
    struct loop_watch *watch;
    struct timer timer;
    json_t *request;
    vm_agent_fn *fn;
    void *opaque;
    bool asked;
    char line[LINE]; /* of the answer to the greeting */
    size_t len;
    struct agent_reader reader;
};

static void done(struct vm_agent *a) {
    timer_stop(&a->timer);
    loop_remove(a->watch);
    if (a->reader.fd >= 0)
        close(a->reader.fd);
    json_decref(a->request);
    free(a);
}

void vm_agent_cancel(struct vm_agent *a) {
    if (a)
        done(a);
}

static void tell(struct vm_agent *a, int fd, const json_t *answer, const struct error *e) {
    vm_agent_fn *fn = a->fn;
    void *opaque = a->opaque;

    if (fd >= 0)
        a->reader.fd = -1;
    done(a);
    fn(opaque, fd, answer, e);
}

static void fail(struct vm_agent *a, int code, const char *text) {
    struct error e = {0};

    error_set(&e, code, "%s", text);
    tell(a, -1, NULL, &e);
}

static void time_over(void *opaque) {
    struct vm_agent *a = opaque;

    fail(a, -ETIMEDOUT, "the guest does not answer: is it still booting, paused or stopped?");
}

/* Byte by byte, so that nothing of what follows is taken. 1: the line is complete, 0: more is to
 * come, negative: it is the end. */
static int read_line(struct vm_agent *a) {
    while (a->len < LINE - 1) {
        ssize_t n = recv(a->reader.fd, a->line + a->len, 1, MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return 0;
        if (n <= 0)
            return -ECONNREFUSED;
        if (a->line[a->len++] == '\n')
            return strncmp(a->line, "OK ", 3) ? -EPROTO : 1;
    }
    return -EPROTO;
}

static void read_answer(struct vm_agent *a) {
    enum agent_frame type;
    struct error e = {0};
    const uint8_t *p;
    json_t *v;
    size_t n;
    int r = agent_receive(&a->reader, 0, &type, &p, &n, &e);

    if (r == 0)
        return;
    v = r > 0 && type == AGENT_RESULT ? agent_json(p, n, &e) : NULL;
    if (v && json_object_get(v, "error")) {
        error_set(&e, -EIO, "%s", row_text(v, "error"));
        tell(a, -1, NULL, &e);
    } else if (v) {
        tell(a, -1, v, NULL);
    } else {
        fail(a, -EPROTO, e.code ? e.text : "the guest's agent answered something else");
    }
    json_decref(v);
}

static void ready(void *opaque, int fd, uint32_t events) {
    struct vm_agent *a = opaque;
    struct error e = {0};
    json_t *request;
    int r;

    if (a->asked) {
        read_answer(a);
        return;
    }
    r = read_line(a);
    if (r == 0)
        return;
    if (r < 0) {
        fail(a, r,
             "no agent answers in the guest: it is still booting, or viv-agent is not installed "
             "there (docs/agent.md says how)");
        return;
    }
    if (!a->request) {
        loop_remove(a->watch);
        a->watch = NULL;
        tell(a, a->reader.fd, NULL, NULL);
        return;
    }
    request = a->request;
    a->request = NULL;
    a->asked = true;
    if (agent_send_json(fd, AGENT_REQUEST, request, &e) < 0)
        fail(a, e.code, e.text);
}

struct vm_agent *vm_agent_ask(struct manager *m, const char *id, json_t *request, int64_t ms,
                              vm_agent_fn *fn, void *opaque, struct error *err) {
    struct vm_agent *a = calloc(1, sizeof(*a));
    char path[160], greeting[LINE];
    size_t n = (size_t)snprintf(greeting, sizeof(greeting), "CONNECT %d\n", AGENT_PORT);

    if (!a)
        abort();
    a->request = request;
    a->fn = fn;
    a->opaque = opaque;
    machine_path(m, id, "vsock", path, sizeof(path));
    a->reader.fd = unix_socket_connect(path, 0, err);
    if (a->reader.fd >= 0 &&
        send(a->reader.fd, greeting, n, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)n)
        a->watch = loop_add(m->loop, a->reader.fd, EPOLLIN, ready, a);
    if (!a->watch) {
        error_set(err, -ENOTCONN,
                  "there is no way to the guest's agent: the machine does not run, or it was "
                  "started by an older version; 'viv restart' gives it one");
        done(a);
        return NULL;
    }
    timer_start(m->timers, &a->timer, ms, time_over, a);
    return a;
}
