/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The API: from a request to an operation of a resource, and back.
 *
 * Contract of an operation: it is called with arguments and body checked against the declaration,
 * after the caller's permission was. For one that changes something a transaction is open, which is
 * committed if it succeeds, together with the answer for repeats (Idempotency-Key), and rolled back
 * if it fails; it must not wait. It returns 0 with call->row or call->result set, 1 if it takes
 * the exchange and answers later, or api_fail(...).
 */
#ifndef HOST_API_H
#define HOST_API_H

#include "host/http_server.h"
#include "host/manager.h"
#include "proto/failure.h"
#include "proto/resource.h"
#include "proto/role.h"

struct api_failure {
    enum failure kind;
    char field[FIELD_PATH_MAX], reason[600], remedy[300];
};

struct api_call {
    struct manager *m;
    const struct resource *resource;
    const struct operation *op;
    struct http_exchange *x;
    char tenant[STORE_WORD], caller[STORE_WORD]; /* "uid:1000", "token:ci" */
    char caller_id[STORE_WORD];                  /* of the token or session; "" locally */
    enum role role;
    char name[STORE_WORD * 2]; /* of the item, from the path */
    json_t *args;              /* what is not given has its standard value */
    json_t *body;              /* of a creation or an update */
    struct store_row row;      /* the item, found already; a creation fills it */
    json_t *result;            /* the answer of a plain resource */
    json_t *once; /* secrets that this answer has (in `status` of an item), and no repeat of it */
    struct api_failure failure;
};

typedef int api_fn(struct api_call *call);

struct api_handler {
    const char *op; /* NULL ends a table */
    api_fn *fn;
};

/* NAME_handlers of each resource; lists and gets that only read the store need none. */
#define RESOURCE(name) extern const struct api_handler name##_handlers[];
#include "proto/resources.def"
#undef RESOURCE

int api_fail(struct api_call *call, enum failure kind, const char *field, const char *remedy,
             const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* What the store or another part says. */
int api_fail_error(struct api_call *call, const struct error *err);

void api_handle(void *opaque /* struct manager */, struct http_exchange *x);

/* ---- answers, for operations that give them later ---- */

/* {"code": ...} as in proto/failure.h; for free. */
char *api_failure_body(const struct api_failure *f);
char *api_parse_failure_body(int status, const char *why);
void api_send_failure(struct http_exchange *x, const struct api_failure *f);
void api_send_row(struct http_exchange *x, int status, const struct store_row *row);
void api_put_text(struct buf *out, const struct store_text *t);

/* An admin, and by the local socket. */
bool api_is_local_admin(const struct api_call *call);
/* Of a spec that others made: what the caller could not have asked for becomes what is standard. */
void api_forget_forbidden(const struct api_call *call, json_t *spec);
/* For a get: 1 if the caller knows it already (If-None-Match) and was told so, 0: answer it. */
int api_answer_unchanged(struct api_call *call);

/* The OpenAPI document as text; made once. */
const char *api_openapi(size_t *ret_len);

/* ---- waiting for a state of a resource (wait.c) ---- */

enum wait_result { WAIT_MORE, WAIT_OVER };

struct waits *waits_new(struct manager *m);
void waits_free(struct waits *w);
/* Takes the exchange. `word` is for `over`, which looks at the row: NULL when it was deleted. */
int wait_begin(struct api_call *call,
               enum wait_result (*over)(const struct store_row *row, const char *word,
                                        int64_t number),
               const char *word, int64_t number, int64_t seconds);
void waits_look(struct waits *w, const char *kind, const char *id);
unsigned waits_count(const struct waits *w);

/* ---- events as they happen (event.c) ---- */

struct follows *follows_new(struct manager *m);
void follows_free(struct follows *f);
void follows_look(struct follows *f);
unsigned follows_count(const struct follows *f);
/* Reads filters, `after` and `limit` of a list's query into q. The strings and values are args'. */
void api_list_query(const struct api_call *call, struct store_query *q);

#endif
