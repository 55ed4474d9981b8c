/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The asking end of a control socket, for tools and the manager.
 *
 * Contract: one thread at a time. client_call waits for the answer; events that come meanwhile go
 * to the function of client_open. Who must not wait watches client_fd, sends with client_send and
 * reads with client_receive and a timeout of 0. After a failure other than client_call's
 * CLIENT_REFUSAL the connection is of no use.
 */
#ifndef PROTO_CLIENT_H
#define PROTO_CLIENT_H

#include <jansson.h>

#include "base/error.h"

struct client;

/* err->code of a call that the machine itself answered with an error; *ret_result is then the
 * object with kind and text. All other codes are of the connection. */
enum { CLIENT_REFUSAL = -1000 };

typedef void client_event_fn(void *opaque, const char *name, const json_t *data);

struct client *client_open(const char *path, client_event_fn *event, void *opaque,
                           struct error *err);
/* The same for those who must not wait: the greeting comes as the first message of client_receive,
 * and is not checked. */
struct client *client_begin(const char *path, client_event_fn *event, void *opaque, int timeout_ms,
                            struct error *err);
void client_close(struct client *c); /* accepts NULL */
int client_fd(const struct client *c);
const json_t *client_greeting(const struct client *c); /* vivarium, version, protocol, name */

/* `args` may be NULL and is taken. timeout_ms -1: for ever. */
int client_call(struct client *c, const char *command, json_t *args, int timeout_ms,
                json_t **ret_result, struct error *err);
/* Sends and returns at once; the answer has the returned number as its id. Negative: failed. */
int client_send(struct client *c, const char *command, json_t *args, int timeout_ms,
                struct error *err);
/* The next message, events as well: 1 with *ret_message, 0 when the time is over, or negative. */
int client_receive(struct client *c, int timeout_ms, json_t **ret_message, struct error *err);

#endif
