/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The answering end of a control socket (docs/control.md has the protocol), for programs other
 * than viv-vm, whose clients share its lock with a guest (vm/control.c).
 *
 * Contract: the loop's thread. No client can make the loop wait: lines are limited, a few commands
 * are done in a round, one who does not read his answers is not heard until he does, and events
 * that find many bytes unread are left out for him.
 */
#ifndef PROTO_SERVER_H
#define PROTO_SERVER_H

#include "proto/command.h"

struct loop;
struct server;

struct server_call {
    void *opaque;
    const json_t *args; /* checked against the declaration */
    json_t *result;     /* an empty object to be filled */
};

struct server_handler {
    const char *name; /* NULL ends a table */
    /* 0, or a negative errno with a sentence; as in vm/control.h. Must not wait. */
    int (*fn)(struct server_call *call, struct error *err);
};

struct server_config {
    const char *program, *name; /* of the greeting */
    const struct command *commands;
    const struct server_handler *handlers; /* of every command but `events` */
    void *opaque;
    /* Of a process in a jail; NULL: clients are accepted as ever. What to watch in the listener's
     * place, and how a client is taken from there. */
    int (*adopt)(void *opaque, int listener);
    int (*accept)(int fd);
};

/* Listens there; NULL with a sentence. The config's pointers must outlive it. */
struct server *server_new(struct loop *loop, const char *path, const struct server_config *c,
                          struct error *err);
/* To all who asked for events; takes the reference. */
void server_event(struct server *s, const char *name, json_t *data);
unsigned server_clients(const struct server *s); /* connected now; 0 for NULL */
/* When the loop runs no more: sends what is taken at once, unlinks the socket. Accepts NULL. */
void server_free(struct server *s);

#endif
