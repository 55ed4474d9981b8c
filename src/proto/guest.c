/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Asking the agent, and copies. */
#include "proto/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/write.h"

enum { SLICE = 32 * 1024 };

/* Of failures that the agent itself told of; others are the connection's. */
enum { REFUSED = -1000 };

/* ---- asking ---- */

int guest_connect(struct guest *g, struct error *err) {
    int fd = g->connect ? g->connect(g, err) : agent_connect(g->path, g->timeout_ms, err);

    g->reader = (struct agent_reader){.fd = fd};
    return fd;
}

json_t *guest_result(struct guest *g, struct error *err) {
    enum agent_frame type;
    const uint8_t *p;
    json_t *v, *text;
    size_t n;
    int r = agent_receive(&g->reader, g->timeout_ms, &type, &p, &n, err);

    if (r == 0)
        error_set(err, -ETIMEDOUT, "the guest's agent did not answer in time: see --timeout");
    if (r <= 0)
        return NULL;
    if (type != AGENT_RESULT) {
        error_set(err, -EPROTO, "the guest's agent answered with a frame of type %u", type);
        return NULL;
    }
    v = agent_json(p, n, err);
    text = json_object_get(v, "error");
    if (!text)
        return v;
    error_set(err, REFUSED, "%s", json_is_string(text) ? json_string_value(text) : "unknown error");
    json_decref(v);
    return NULL;
}

static int begin(struct guest *g, json_t *request, struct error *err) {
    int fd = guest_connect(g, err);

    if (fd < 0) {
        json_decref(request);
        if (err)
            err->code = -ENOTCONN;
        return fd;
    }
    return agent_send_json(fd, AGENT_REQUEST, request, err);
}

json_t *guest_ask(struct guest *g, json_t *request, struct error *err) {
    return begin(g, request, err) < 0 ? NULL : guest_result(g, err);
}

int guest_code(const struct error *err) {
    return err->code == REFUSED     ? GUEST_FAILED
           : err->code == -ENOTCONN ? GUEST_NO_AGENT
                                    : GUEST_LOST;
}

/* The agent thaws when we send no more, and says so. */
int guest_thaw(struct guest *g, struct error *err) {
    json_t *v;

    shutdown(g->reader.fd, SHUT_WR);
    v = guest_result(g, err);
    if (!v)
        return error_prefix(err, "the guest may have thawed before the command ended");
    json_decref(v);
    return 0;
}

void guest_setenv(struct guest *g, const char *assignment) {
    const char *equals = strchr(assignment, '=');
    char *name = strndup(assignment, (size_t)(equals - assignment));

    if (!g->env)
        g->env = json_object();
    if (name)
        json_object_set_new(g->env, name, json_string(equals + 1));
    free(name);
}

void guest_done(struct guest *g) {
    json_decref(g->env);
    if (g->reader.fd >= 0)
        close(g->reader.fd);
}

/* ---- copies ---- */

static int receive_data(struct guest *g, int fd, const char *to, struct error *err) {
    enum agent_frame type;
    const uint8_t *p;
    size_t n;
    int r;

    while ((r = agent_receive(&g->reader, g->timeout_ms, &type, &p, &n, err)) > 0) {
        if (type == AGENT_RESULT) { /* reading failed in the middle */
            json_t *v = agent_json(p, n, err);

            error_set(err, REFUSED, "%s", json_string_value(json_object_get(v, "error")));
            json_decref(v);
            return -EIO;
        }
        if (type != AGENT_DATA)
            return error_set(err, -EPROTO, "the guest's agent sent a frame of type %u", type);
        if (!n)
            return 0;
        r = write_all(fd, p, n);
        if (r < 0)
            return error_set(err, REFUSED, "'%s' cannot be written: %s", to, strerror(-r));
    }
    return r < 0 ? r : error_set(err, -ETIMEDOUT, "the guest's agent sent no more in time");
}

/* The file appears when it is complete. */
int guest_copy_out(struct guest *g, const char *from, const char *to, struct error *err) {
    json_t *head = guest_ask(g, json_pack("{s:s, s:s}", "do", "get", "path", from), err);
    bool to_output = !strcmp(to, "-");
    char *temporary = NULL;
    int fd = STDOUT_FILENO, r;
    mode_t mode;

    if (!head)
        return guest_code(err);
    mode = (mode_t)json_integer_value(json_object_get(head, "mode")) & 0777;
    json_decref(head);
    if (!to_output) {
        fd = asprintf(&temporary, "%s.viv-XXXXXX", to) < 0 ? -1 : mkostemp(temporary, O_CLOEXEC);
        if (fd < 0) {
            free(temporary);
            error_set(err, -errno, "'%s' cannot be made: %s", to, strerror(errno));
            return GUEST_FAILED;
        }
    }
    r = receive_data(g, fd, to, err);
    if (!to_output) {
        if (r == 0 && (fchmod(fd, mode) < 0 || fsync(fd) < 0 || rename(temporary, to) < 0))
            r = error_set(err, REFUSED, "'%s' cannot be put in place: %s", to, strerror(errno));
        if (r < 0)
            unlink(temporary);
        close(fd);
        free(temporary);
    }
    return r < 0 ? guest_code(err) : 0;
}

int guest_copy_in(struct guest *g, const char *from, const char *to, struct error *err) {
    int fd = strcmp(from, "-") ? open(from, O_RDONLY | O_CLOEXEC) : STDIN_FILENO, r;
    static uint8_t bytes[SLICE];
    struct stat st = {.st_mode = 0644};
    json_t *v;
    ssize_t n;

    if (fd < 0 || fstat(fd, &st) < 0 || S_ISDIR(st.st_mode)) {
        error_set(err, -EINVAL, "'%s' cannot be read: %s", from,
                  fd >= 0 ? "it is no file" : strerror(errno));
        return GUEST_FAILED;
    }
    r = begin(g,
              json_pack("{s:s, s:s, s:i}", "do", "put", "path", to, "mode",
                        S_ISREG(st.st_mode) ? (int)(st.st_mode & 0777) : 0644),
              err);
    while (r == 0 && (n = read(fd, bytes, sizeof(bytes))) > 0)
        r = agent_send(g->reader.fd, AGENT_DATA, bytes, (size_t)n, err);
    if (r == 0 && n < 0)
        r = error_set(err, REFUSED, "'%s' cannot be read: %s", from, strerror(errno));
    if (fd != STDIN_FILENO)
        close(fd);
    if (r == 0)
        r = agent_send(g->reader.fd, AGENT_DATA, NULL, 0, err);
    if (r < 0 && err->code != REFUSED && g->reader.fd >= 0)
        err->code = 0; /* it may have said why */
    v = r < 0 && err->code ? NULL : guest_result(g, err);
    json_decref(v);
    return v ? 0 : guest_code(err);
}
