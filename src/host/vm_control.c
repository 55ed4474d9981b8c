/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A client of a control socket in an event loop: greeting, then events and status are asked for. */
#include "host/vm_control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/loop.h"
#include "proto/client.h"
#include "proto/control.h"

enum { MOST_AT_ONCE = 10000, COMMANDS = 32 };

struct vm_control {
    struct loop *loop;
    struct client *client;
    struct loop_watch *watch;
    struct vm_control_user user;
    bool greeted, broken;
    const char *asked[COMMANDS]; /* by id modulo COMMANDS */
};

static const char *text_of(const json_t *o, const char *name) {
    const char *s = json_string_value(json_object_get(o, name));

    return s ? s : "";
}

void vm_control_send(struct vm_control *c, const char *command) {
    vm_control_send_args(c, command, NULL);
}

void vm_control_send_args(struct vm_control *c, const char *command, json_t *args) {
    struct error e = {0};
    int id;

    if (c->broken) {
        json_decref(args);
        return;
    }
    id = client_send(c->client, command, args, 0, &e);
    if (id >= 0) {
        c->asked[id % COMMANDS] = command;
        return;
    }
    c->broken = true;
    shutdown(client_fd(c->client), SHUT_RDWR); /* the loop comes to `ready` by that */
}

static void tell_state(struct vm_control *c, const json_t *o) {
    c->user.seen(c->user.opaque, !strcmp(text_of(o, "state"), "paused"), text_of(o, "reason"));
}

static void take_answer(struct vm_control *c, const json_t *m) {
    const char *command =
        c->asked[(unsigned long long)json_integer_value(json_object_get(m, "id")) % COMMANDS];
    json_t *result = json_object_get(m, "result"), *error = json_object_get(m, "error");

    if (error)
        c->user.refused(c->user.opaque, command ? command : "", text_of(error, "text"));
    else if (command && !strcmp(command, "status")) {
        tell_state(c, result);
        c->user.answered(c->user.opaque, command, result);
    } else if (command && strcmp(command, "events") != 0)
        c->user.answered(c->user.opaque, command, result);
}

/* False: what is at the other end is no machine of this version. */
static bool take_message(struct vm_control *c, const json_t *m) {
    const char *event = json_string_value(json_object_get(m, "event"));
    const json_t *data = json_object_get(m, "data");

    if (!c->greeted) {
        c->greeted = json_integer_value(json_object_get(m, "protocol")) == CONTROL_PROTOCOL;
        if (c->greeted) {
            vm_control_send(c, "events"); /* before the status, so that no change is missed */
            vm_control_send(c, "status");
        }
        return c->greeted;
    }
    if (!event)
        take_answer(c, m);
    else if (!strcmp(event, "state"))
        tell_state(c, data);
    else
        c->user.event(c->user.opaque, event, data);
    return true;
}

static void ready(void *opaque, int fd, uint32_t events) {
    struct vm_control *c = opaque;
    const char *why = "it does not speak this version of the control protocol";
    struct error e = {0};
    bool good = true;
    int r = 1;

    for (unsigned i = 0; r > 0 && good && !c->broken; i++) {
        json_t *m = NULL;

        r = client_receive(c->client, 0, &m, &e);
        if (r <= 0)
            break;
        good = i < MOST_AT_ONCE && take_message(c, m);
        json_decref(m);
    }
    if (!c->broken && good && r >= 0)
        return;
    if (good)
        why = c->broken ? "the machine takes no commands" : "the machine closed the control socket";
    c->broken = true;
    loop_remove(c->watch);
    c->watch = NULL;
    c->user.closed(c->user.opaque, why);
}

void vm_control_drain(struct vm_control *c) {
    if (!c->broken)
        ready(c, client_fd(c->client), EPOLLIN);
}

struct vm_control *vm_control_open(struct loop *loop, const char *path,
                                   const struct vm_control_user *user, struct error *err) {
    struct vm_control *c = calloc(1, sizeof(*c));

    if (!c) {
        error_set(err, -ENOMEM, "a machine's control: out of memory");
        return NULL;
    }
    c->loop = loop;
    c->user = *user;
    c->client = client_begin(path, NULL, NULL, 0, err);
    if (c->client)
        c->watch = loop_add(loop, client_fd(c->client), EPOLLIN, ready, c);
    if (c->watch)
        return c;
    error_set(err, -ENOMEM, "a machine's control: out of memory");
    client_close(c->client);
    free(c);
    return NULL;
}

void vm_control_close(struct vm_control *c) {
    if (!c)
        return;
    loop_remove(c->watch);
    client_close(c->client);
    free(c);
}
