/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who calls: by the local socket the owner, who is an admin; by the network who shows a token, or
 * the cookie of a session that a token or a one-time code began. Tokens and sessions are rows of
 * the store, with the SHA-256 of their secrets in `wanted`, so that they outlive the manager; what
 * is asked at each request is a copy of them in memory, which follows the store.
 */
#ifndef HOST_AUTH_H
#define HOST_AUTH_H

#include "base/sha256.h"
#include "host/api.h"
#include "proto/role.h"

struct auth;

enum {
    AUTH_SECRET = 32,                    /* bytes of a secret */
    AUTH_TEXT = 4 + 2 * AUTH_SECRET + 1, /* "viv_" and digits */
    AUTH_SESSION_MS = 12 * 3600 * 1000,
    AUTH_CODE_MS = 10 * 60 * 1000,
};

struct caller {
    char name[STORE_WORD], tenant[STORE_WORD]; /* "uid:1000", "token:ci" */
    char id[STORE_WORD];                       /* of its token or session; "" locally */
    enum role role;
    int64_t expires; /* 0: never */
};

struct auth *auth_new(struct manager *m, struct error *err);
void auth_free(struct auth *a); /* accepts NULL */
/* Requests a second that one caller from the network may make in the long run. */
void auth_set_rate(struct auth *a, double rate);
/* After a change of a row of kind "token" or "session". */
void auth_changed(struct auth *a);

/* Who made this request? -EINVAL: f is filled, and headers of the answer are there. */
int auth_check(struct auth *a, struct http_exchange *x, struct caller *ret, struct api_failure *f);
/* May somebody who has not said who it is go on? 0 or as above. */
int auth_admit(struct auth *a, struct http_exchange *x, struct api_failure *f);

/* Is there still such a token or session? "" is the local caller, who always is. */
bool auth_knows(struct auth *a, const char *id);

/* A code for one sign-in with the rights of `who`; false: there are too many. */
bool auth_code_new(struct auth *a, const struct caller *who, char out[AUTH_TEXT],
                   int64_t *ret_expires);

/* The session at /v1/session: POST signs in, GET tells who it is, DELETE signs out. */
void auth_session(struct auth *a, struct http_exchange *x);

/* ---- secrets (secret.c) ---- */

void secret_new(const char *prefix, char out[AUTH_TEXT]);
void secret_hash(const char *secret, char out[SHA256_TEXT]);
/* In a time that does not tell how much is equal. */
bool secret_same(const char *a, const char *b);

#endif
