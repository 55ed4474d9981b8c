/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tokens and sessions in memory, and the checks of each request from the network. */
#include "host/auth.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/log.h"
#include "host/auth_internal.h"
#include "proto/units.h"

enum {
    NOTE_MS = 60000,  /* between two notes of a last use */
    SWEEP_MS = 20000, /* between two looks for what has expired */
    RATE = 200,       /* requests a second of a caller */
    BURST_SECONDS = 5,
};

/* Of one address: ten tries at once, then one in five seconds. */
static const struct bucket_limit of_failures = {0.2, 10};

int auth_fail(struct api_failure *f, enum failure kind, const char *field, const char *remedy,
              const char *fmt, ...) {
    va_list ap;

    f->kind = kind;
    snprintf(f->field, sizeof(f->field), "%s", field);
    snprintf(f->remedy, sizeof(f->remedy), "%s", remedy);
    va_start(ap, fmt);
    vsnprintf(f->reason, sizeof(f->reason), fmt, ap);
    va_end(ap);
    return -EINVAL;
}

/* ------------------------------------------------------------------ the copy of the store */

static int64_t time_of(const json_t *object, const char *name) {
    int64_t ms = 0;

    return units_read_time(row_text(object, name), &ms, NULL) == 0 ? ms : 0;
}

static struct credential *find_id(struct auth *a, const char *id) {
    for (struct credential *c = a->first; c; c = c->next)
        if (!strcmp(c->who.id, id))
            return c;
    return NULL;
}

static void take_row(struct auth *a, const struct store_row *row, bool session) {
    struct credential *c = find_id(a, row->id);

    if (!c) {
        c = calloc(1, sizeof(*c));
        if (!c)
            abort();
        c->next = a->first;
        a->first = c;
    }
    c->known = true;
    c->session = session;
    snprintf(c->hash, sizeof(c->hash), "%s", row_text(row->wanted, "hash"));
    snprintf(c->who.id, sizeof(c->who.id), "%s", row->id);
    snprintf(c->who.tenant, sizeof(c->who.tenant), "%s", row->tenant);
    if (session)
        snprintf(c->who.name, sizeof(c->who.name), "%s", row_text(row->spec, "caller"));
    else
        snprintf(c->who.name, sizeof(c->who.name), "token:%.50s", row->name);
    c->who.role = role_find(row_text(row->spec, "role"));
    c->who.expires = time_of(row->spec, "expires");
}

struct reading {
    struct auth *a;
    bool session;
};

static bool read_one(void *opaque, const struct store_text *t) {
    const struct reading *r = opaque;
    struct store_row row = {0};

    if (store_get(r->a->m->store, t->kind, t->id, &row) == 0)
        take_row(r->a, &row, r->session);
    store_row_done(&row);
    return true;
}

/* Who is gone loses its connections as well. */
static void forget_unknown(struct auth *a) {
    for (struct credential **at = &a->first, *c; (c = *at);) {
        if (c->known) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        if (a->m->http)
            http_server_drop_caller(a->m->http, c->who.id);
        free(c);
    }
}

static int read_all(struct auth *a) {
    struct reading tokens = {a, false}, sessions = {a, true};
    struct store_query q = {.kind = "token", .limit = 100000};
    int r;

    for (struct credential *c = a->first; c; c = c->next)
        c->known = false;
    r = store_list(a->m->store, &q, read_one, &tokens);
    q.kind = "session";
    if (r == 0)
        r = store_list(a->m->store, &q, read_one, &sessions);
    if (r == 0)
        forget_unknown(a);
    a->stale = r != 0;
    return r;
}

void auth_changed(struct auth *a) {
    a->stale = true;
    if (read_all(a) != 0)
        log_warning("tokens cannot be read from the store");
}

/* What has expired is refused at once; this ends connections that were begun before. */
static void sweep(void *opaque) {
    struct auth *a = opaque;
    int64_t now = units_now_ms();
    struct error e = {0};
    bool any = false;

    for (struct credential *c = a->first; c; c = c->next)
        if (c->who.expires && c->who.expires <= now) {
            any |= c->session;
            http_server_drop_caller(a->m->http, c->who.id);
        }
    if (any && store_begin(a->m->store, STORE_NOTE, &e) == 0) {
        for (struct credential *c = a->first; c; c = c->next)
            if (c->session && c->who.expires <= now)
                store_delete(a->m->store, "session", c->who.id, &e);
        if (store_commit(a->m->store, &e) < 0)
            log_warning("%s", e.text);
    }
    timer_start(a->m->timers, &a->sweep, SWEEP_MS, sweep, a);
}

struct auth *auth_new(struct manager *m, struct error *err) {
    struct auth *a = calloc(1, sizeof(*a));

    if (!a) {
        error_set(err, -ENOMEM, "the manager: out of memory");
        return NULL;
    }
    a->m = m;
    auth_set_rate(a, RATE);
    if (read_all(a) != 0) {
        error_set(err, -EIO, "the tokens cannot be read from the store");
        auth_free(a);
        return NULL;
    }
    timer_start(m->timers, &a->sweep, SWEEP_MS, sweep, a);
    return a;
}

void auth_set_rate(struct auth *a, double rate) {
    a->of_caller = (struct bucket_limit){rate, rate * BURST_SECONDS};
    a->of_address = a->of_caller;
}

void auth_free(struct auth *a) {
    struct credential *next;

    if (!a)
        return;
    for (struct credential *c = a->first; c; c = next) {
        next = c->next;
        free(c);
    }
    timer_stop(&a->sweep);
    free(a);
}

bool auth_knows(struct auth *a, const char *id) {
    const struct credential *c = *id ? find_id(a, id) : NULL;

    return !*id || (c && (!c->who.expires || c->who.expires > units_now_ms()));
}

struct credential *auth_find(struct auth *a, const char *secret, bool session) {
    char hash[SHA256_TEXT];

    if (a->stale)
        read_all(a);
    secret_hash(secret, hash);
    for (struct credential *c = a->first; c; c = c->next)
        if (c->session == session && *c->hash && secret_same(c->hash, hash))
            return c;
    return NULL;
}

/* ------------------------------------------------------------------ limits */

static int too_often(struct http_exchange *x, struct api_failure *f, unsigned wait,
                     const char *what) {
    http_add_header(x, "Retry-After: %u", wait);
    return auth_fail(f, FAILURE_LIMIT, "", "wait, and ask less often", "%s: try again in %u s",
                     what, wait);
}

int auth_try(struct http_exchange *x, struct api_failure *f) {
    struct peer *p = http_peer(x)->address;
    unsigned wait = 0;

    if (!p || bucket_has(&p->failures, &of_failures, timer_now_ms(), &wait))
        return 0;
    return too_often(x, f, wait, "too many sign-ins from this address went wrong");
}

void auth_tried_wrongly(struct http_exchange *x) {
    struct peer *p = http_peer(x)->address;
    unsigned unused;

    if (!p)
        return;
    if (bucket_take(&p->failures, &of_failures, timer_now_ms(), &unused) && p->failures.level < 1)
        log_warning("too many sign-ins from %s went wrong: it has to wait", p->text);
}

int auth_admit(struct auth *a, struct http_exchange *x, struct api_failure *f) {
    struct peer *p = http_peer(x)->address;
    unsigned wait = 0;

    if (!p || bucket_take(&p->requests, &a->of_address, timer_now_ms(), &wait))
        return 0;
    return too_often(x, f, wait, "too many requests came from this address");
}

/* ------------------------------------------------------------------ a request */

static int unauthorized(struct http_exchange *x, struct api_failure *f, const char *error,
                        const char *reason) {
    http_add_header(x, "WWW-Authenticate: Bearer realm=\"vivarium\"%s%s%s",
                    *error ? ", error=\"" : "", error, *error ? "\"" : "");
    return auth_fail(f, FAILURE_UNAUTHORIZED, "Authorization",
                     "send 'Authorization: Bearer' with a token: 'viv token create' on the "
                     "manager's host makes one",
                     "%s", reason);
}

void auth_cookie(const struct http_request *r, char out[AUTH_TEXT]) {
    static const char name[] = "viv_session=";
    size_t n;

    *out = 0;
    for (unsigned i = 0; i < r->headers; i++) {
        if (strcasecmp(r->header[i].name, "Cookie") != 0)
            continue;
        for (const char *p = r->header[i].value; *p; p += n) {
            p += strspn(p, "; ");
            n = strcspn(p, ";");
            if (n > strlen(name) && n - strlen(name) < AUTH_TEXT - 1 &&
                !strncmp(p, name, strlen(name)))
                snprintf(out, AUTH_TEXT, "%.*s", (int)(n - strlen(name)), p + strlen(name));
        }
    }
}

int auth_check_origin(struct http_exchange *x, bool header, struct api_failure *f) {
    const struct http_request *r = http_request(x);
    const char *origin = http_find_header(r, "Origin"), *host = http_find_header(r, "Host");
    const char *own = http_find_header(r, "X-Viv-Portal");

    if (origin && http_peer(x)->address &&
        (strncmp(origin, "https://", 8) != 0 || !host || strcasecmp(origin + 8, host) != 0))
        return auth_fail(f, FAILURE_FORBIDDEN, "Origin", "open the portal at the manager's address",
                         "the page at '%.100s' may not use this manager", origin);
    if (header && (!own || strcmp(own, "1") != 0))
        return auth_fail(f, FAILURE_FORBIDDEN, "X-Viv-Portal", "send 'X-Viv-Portal: 1'",
                         "a change by a cookie needs the header X-Viv-Portal, which other sites "
                         "cannot send");
    return 0;
}

/* The last use is no promise: a note a minute. */
static void note_use(struct auth *a, struct credential *c, const char *address) {
    int64_t now = units_now_ms();
    struct store_row row = {0};
    struct error e = {0};

    if (c->session || (c->noted && now - c->noted < NOTE_MS))
        return;
    c->noted = now;
    if (store_get(a->m->store, "token", c->who.id, &row) == 0) {
        row_set_time(row.status, "last_used", now);
        row_set_text(row.status, "last_address", address);
        if (store_begin(a->m->store, STORE_NOTE, &e) == 0 &&
            (store_update(a->m->store, &row, &e) < 0 || store_commit(a->m->store, &e) < 0)) {
            if (store_in_transaction(a->m->store))
                store_rollback(a->m->store);
            log_warning("%s", e.text);
        }
    }
    store_row_done(&row);
}

/* Each of these gives who it is, or NULL with f filled. */
static struct credential *by_token(struct auth *a, struct http_exchange *x, const char *header,
                                   struct api_failure *f) {
    size_t word = strlen("Bearer ");
    struct credential *c;

    if (auth_try(x, f) < 0)
        return NULL;
    if (strncasecmp(header, "Bearer ", word) != 0) {
        unauthorized(x, f, "invalid_request", "the only way to sign in is a bearer token");
        return NULL;
    }
    c = auth_find(a, header + word + strspn(header + word, " "), false);
    if (!c) {
        auth_tried_wrongly(x);
        unauthorized(x, f, "invalid_token", "there is no such token");
    } else if (c->who.expires && c->who.expires <= units_now_ms()) {
        unauthorized(x, f, "invalid_token", "the token has expired");
        c = NULL;
    }
    return c;
}

static struct credential *by_cookie(struct auth *a, struct http_exchange *x, const char *cookie,
                                    struct api_failure *f) {
    const char *method = http_request(x)->method;
    struct credential *c = auth_find(a, cookie, true);

    if (!c || c->who.expires <= units_now_ms()) {
        if (auth_admit(a, x, f) == 0)
            unauthorized(x, f, "invalid_token", "the session is over: sign in again");
        return NULL;
    }
    if (auth_check_origin(x, strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0, f) < 0)
        return NULL;
    return c;
}

static struct credential *by_nothing(struct auth *a, struct http_exchange *x,
                                     struct api_failure *f) {
    if (auth_admit(a, x, f) == 0)
        unauthorized(x, f, "", "who calls from the network must say who it is");
    return NULL;
}

static int check_network(struct auth *a, struct http_exchange *x, struct caller *ret,
                         struct api_failure *f) {
    const struct http_request *r = http_request(x);
    const char *header = http_find_header(r, "Authorization");
    struct credential *c;
    char cookie[AUTH_TEXT];
    unsigned wait = 0;

    auth_cookie(r, cookie);
    c = header    ? by_token(a, x, header, f)
        : *cookie ? by_cookie(a, x, cookie, f)
                  : by_nothing(a, x, f);
    if (!c)
        return -EINVAL;
    if (!bucket_take(&c->requests, &a->of_caller, timer_now_ms(), &wait))
        return too_often(x, f, wait, "this caller asks too often");
    *ret = c->who;
    http_set_caller(x, c->who.id);
    note_use(a, c, http_peer(x)->address->text); /* c may have been read anew */
    return 0;
}

/* The owner of the manager and root may do everything. */
static int check_local(struct http_exchange *x, struct caller *ret, struct api_failure *f) {
    uid_t uid = http_peer(x)->uid;

    *ret = (struct caller){.role = ROLE_ADMIN, .tenant = "default"};
    snprintf(ret->name, sizeof(ret->name), "uid:%u", (unsigned)uid);
    if (uid == geteuid() || uid == 0)
        return 0;
    return auth_fail(f, FAILURE_FORBIDDEN, "", "use a manager of your own: viv starts one",
                     "user %u may not use the manager of user %u", (unsigned)uid,
                     (unsigned)geteuid());
}

int auth_check(struct auth *a, struct http_exchange *x, struct caller *ret, struct api_failure *f) {
    return http_peer(x)->address ? check_network(a, x, ret, f) : check_local(x, ret, f);
}
