/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Asking the agent. */
#include "proto/guest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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
    error_set(err, GUEST_REFUSED, "%s",
              json_is_string(text) ? json_string_value(text) : "unknown error");
    json_decref(v);
    return NULL;
}

int guest_begin(struct guest *g, json_t *request, struct error *err) {
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
    return guest_begin(g, request, err) < 0 ? NULL : guest_result(g, err);
}

int guest_code(const struct error *err) {
    return err->code == GUEST_REFUSED ? GUEST_FAILED
           : err->code == -ENOTCONN   ? GUEST_NO_AGENT
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
