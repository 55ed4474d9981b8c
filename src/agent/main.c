/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * viv-agent: runs in a guest and does what its host asks over vsock: commands, files, freezing of
 * file systems, time, shutdown (docs/agent.md).
 *
 * Only the host (CID 2) is listened to; programs of the guest cannot reach it. It is one static
 * program, so that it runs on any Linux.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/agent.h"

enum { SERVERS_MAX = 64, BACKLOG = 16, REQUEST_MS = 30000, RETRY_SECONDS = 1 };

static const struct {
    const char *name;
    agent_fn *fn;
} requests[] = {
    {"exec", agent_exec},         {"get", agent_get},   {"put", agent_put},
    {"freeze", agent_freeze},     {"info", agent_info}, {"time", agent_time},
    {"shutdown", agent_shutdown}, {"main", agent_main},
};

int agent_answer(struct agent_call *call, json_t *result, struct error *err) {
    return agent_send_json(call->fd, AGENT_RESULT, result, err);
}

const char *agent_text(const struct agent_call *call, const char *key) {
    return json_string_value(json_object_get(call->request, key));
}

int agent_number(const struct agent_call *call, const char *key, int64_t min, int64_t max,
                 int64_t otherwise, int64_t *ret, struct error *err) {
    const json_t *v = json_object_get(call->request, key);

    *ret = json_is_integer(v) ? json_integer_value(v) : otherwise;
    if ((v && !json_is_integer(v)) || *ret < min || *ret > max)
        return error_set(err, -EINVAL, "'%s' must be a number from %lld to %lld", key,
                         (long long)min, (long long)max);
    return 0;
}

static int serve_request(struct agent_call *call, struct error *err) {
    const char *name = agent_text(call, "do");

    for (unsigned i = 0; name && i < sizeof(requests) / sizeof(requests[0]); i++)
        if (!strcmp(name, requests[i].name))
            return requests[i].fn(call, err);
    return error_set(err, -EOPNOTSUPP,
                     "this agent (version %s) does not know '%.40s': install the one that belongs "
                     "to the host's Vivarium",
                     AGENT_VERSION, name ? name : "");
}

static void serve(int fd, const struct agent_box *box) {
    static struct agent_reader reader;
    struct agent_call call = {
        .fd = fd, .reader = &reader, .box = box, .image = box ? box->image : NULL};
    struct error err = {0};
    enum agent_frame type;
    const uint8_t *p;
    size_t n;
    int r;

    reader.fd = fd;
    r = agent_receive(&reader, REQUEST_MS, &type, &p, &n, &err);
    if (r <= 0)
        return;
    call.request = type == AGENT_REQUEST ? agent_json(p, n, &err) : NULL;
    r = call.request ? serve_request(&call, &err)
                     : error_set(&err, -EPROTO, "the first message is no request");
    if (r < 0 && err.text[0])
        agent_send_json(
            fd, AGENT_RESULT,
            json_pack("{s:s, s:s}", "error", err.text, "code", strerrorname_np(-err.code)), NULL);
}

static int listen_for_host(void) {
    struct sockaddr_vm a = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = AGENT_PORT};
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* The module of the driver may still be on its way when the agent starts. */
static int listen_patiently(void) {
    int fd = listen_for_host();

    if (fd < 0)
        fprintf(stderr, "viv-agent: no vsock to listen on: %s; waiting for it\n", strerror(errno));
    while (fd < 0) {
        sleep(RETRY_SECONDS);
        fd = listen_for_host();
    }
    return fd;
}

bool agent_knock(void) {
    const struct sockaddr_vm a = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = AGENT_KNOCK_PORT};
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool heard = fd >= 0 && connect(fd, (const struct sockaddr *)&a, sizeof(a)) == 0;

    if (fd >= 0)
        close(fd);
    return heard;
}

static void accept_one(int listener, unsigned *servers, const struct agent_box *box) {
    struct sockaddr_vm from = {0};
    socklen_t len = sizeof(from);
    int fd = accept4(listener, (struct sockaddr *)&from, &len, SOCK_CLOEXEC);
    pid_t pid;

    if (fd < 0) {
        if (errno != EINTR && errno != ECONNABORTED)
            sleep(RETRY_SECONDS); /* no memory or descriptor: better later */
        return;
    }
    if (from.svm_cid == VMADDR_CID_HOST && *servers < SERVERS_MAX) {
        pid = fork();
        if (pid == 0) {
            close(listener);
            serve(fd, box);
            shutdown(fd, SHUT_RDWR);
            _exit(0);
        }
        *servers += pid > 0;
    }
    close(fd);
}

static void child_ended(int signo) {}

void agent_serve(const struct agent_box *box) {
    struct sigaction act = {.sa_handler = child_ended};
    unsigned servers = 0;
    int listener;

    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGCHLD, &act, NULL); /* interrupts accept */
    listener = listen_patiently();
    agent_knock();
    for (;;) {
        accept_one(listener, &servers, box);
        while (servers && waitpid(-1, NULL, WNOHANG) > 0)
            servers--;
    }
}

int main(int argc, char **argv) {
    if (getpid() == 1)
        init_main();
    if (argc > 1) {
        puts("viv-agent " AGENT_VERSION
             ": serves the host of this virtual machine over vsock; takes no arguments");
        return strcmp(argv[1], "--version") && strcmp(argv[1], "--help") ? 2 : 0;
    }
    agent_serve(NULL);
}
