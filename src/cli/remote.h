/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The manager as viv sees it: requests over its socket, or under TLS to another host (far.h),
 * waiting for answers. A manager of this host that does not run is started. Who calls gets answers
 * even if the manager is ended and started again meanwhile: requests are repeated, those that
 * change something with the same Idempotency-Key.
 */
#ifndef CLI_REMOTE_H
#define CLI_REMOTE_H

#include <jansson.h>
#include <stdbool.h>

#include "base/bytes.h"
#include "base/error.h"
#include "proto/failure.h"

struct remote;

struct remote_failure { /* the body of an answer that is one, or what we say ourselves */
    enum failure kind;
    char field[100], reason[700], remedy[300];
};

struct remote *remote_new(bool system);
void remote_free(struct remote *r); /* accepts NULL */
/* Is it on another host, as far as viv knows? */
bool remote_is_far(const struct remote *r);

/* 0 with *ret_answer (may be NULL for no interest), or -1 with f filled. `body` is taken. */
int remote_call(struct remote *r, const char *method, json_t *body, json_t **ret_answer,
                struct remote_failure *f, const char *path, ...)
    __attribute__((format(printf, 6, 7)));

/* The same for an answer that is text. */
int remote_get_text(struct remote *r, struct buf *ret, struct remote_failure *f, const char *path,
                    ...) __attribute__((format(printf, 4, 5)));

/* Server-sent events: the next `data`, or NULL with f filled. `after` as Last-Event-ID, "" none. */
int remote_follow(struct remote *r, const char *path, const char *after, struct remote_failure *f);
json_t *remote_next(struct remote *r, struct remote_failure *f);

/* A stream of bytes: the descriptor is the caller's; `early` gets what came already. */
int remote_upgrade(struct remote *r, const char *protocol, struct buf *early,
                   struct remote_failure *f, const char *path, ...)
    __attribute__((format(printf, 5, 6)));

/* Fills f; returns -1. */
int remote_fail(struct remote_failure *f, enum failure kind, const char *remedy, const char *fmt,
                ...) __attribute__((format(printf, 4, 5)));

#endif
