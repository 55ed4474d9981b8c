/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What auth.c (who calls) and session.c (signing in and out) share. */
#ifndef HOST_AUTH_INTERNAL_H
#define HOST_AUTH_INTERNAL_H

#include "host/auth.h"
#include "host/peers.h"

enum { CODES_MAX = 32, SESSIONS_MAX = 500 };

struct credential { /* a token or a session */
    struct credential *next;
    struct caller who;
    char hash[SHA256_TEXT];
    bool session;
    bool known;    /* it is in the store; for reading it again */
    int64_t noted; /* when its last use was written down */
    struct bucket requests;
};

struct code {
    struct caller who;
    char hash[SHA256_TEXT];
    int64_t expires; /* 0: the place is free */
};

struct auth {
    struct manager *m;
    struct credential *first;
    struct code code[CODES_MAX];
    struct bucket_limit of_caller, of_address;
    struct timer sweep;
    bool stale; /* the store has changed */
};

/* That of the secret, or NULL. */
struct credential *auth_find(struct auth *a, const char *secret, bool session);
/* The value of our cookie, "" if there is none. */
void auth_cookie(const struct http_request *r, char out[AUTH_TEXT]);
/* May this address try to sign in? A failure costs it a try. */
int auth_try(struct http_exchange *x, struct api_failure *f);
void auth_tried_wrongly(struct http_exchange *x);
/* What keeps other sites from using a browser's cookie: 0 or a failure. */
int auth_check_origin(struct http_exchange *x, bool header, struct api_failure *f);
int auth_fail(struct api_failure *f, enum failure kind, const char *field, const char *remedy,
              const char *fmt, ...) __attribute__((format(printf, 5, 6)));

#endif
