/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Signing in and out: a token or a one-time code becomes the cookie of a session. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/auth_internal.h"
#include "proto/lines.h"
#include "proto/role.h"
#include "proto/units.h"

bool auth_code_new(struct auth *a, const struct caller *who, char out[AUTH_TEXT],
                   int64_t *ret_expires) {
    int64_t now = units_now_ms();

    for (unsigned i = 0; i < CODES_MAX; i++) {
        struct code *c = &a->code[i];

        if (c->expires > now)
            continue;
        secret_new("", out);
        out[AUTH_SECRET] = 0; /* 128 bits are enough for ten minutes */
        secret_hash(out, c->hash);
        c->who = *who;
        c->expires = *ret_expires = now + AUTH_CODE_MS;
        return true;
    }
    return false;
}

/* A code is good once. */
static bool take_code(struct auth *a, const char *code, struct caller *ret) {
    char hash[SHA256_TEXT];

    secret_hash(code, hash);
    for (unsigned i = 0; i < CODES_MAX; i++) {
        struct code *c = &a->code[i];

        if (c->expires <= units_now_ms() || !secret_same(c->hash, hash))
            continue;
        *ret = c->who;
        *c = (struct code){.expires = 0};
        return true;
    }
    return false;
}

static bool take_token(struct auth *a, const char *token, struct caller *ret) {
    const struct credential *c = auth_find(a, token, false);

    if (!c || (c->who.expires && c->who.expires <= units_now_ms()))
        return false;
    *ret = c->who;
    return true;
}

/* ------------------------------------------------------------------ rows */

/* Room for one more: the one that ends first goes. */
static void make_room(struct auth *a, struct error *err) {
    const struct credential *first = NULL;
    unsigned count = 0;

    for (const struct credential *c = a->first; c; c = c->next)
        if (c->session) {
            count++;
            if (!first || c->who.expires < first->who.expires)
                first = c;
        }
    if (count >= SESSIONS_MAX)
        store_delete(a->m->store, "session", first->who.id, err);
}

/* The session of somebody who was let in; the cookie's value into out. */
static int begin(struct auth *a, struct caller *who, const char *from, char out[AUTH_TEXT],
                 struct error *err) {
    struct store *s = a->m->store;
    struct store_row row = {
        .kind = "session", .spec = json_object(), .status = json_object(), .wanted = json_object()};
    int64_t end = units_now_ms() + AUTH_SESSION_MS;
    char hash[SHA256_TEXT];
    int r;

    if (!who->expires || who->expires > end)
        who->expires = end;
    secret_new("", out);
    secret_hash(out, hash);
    snprintf(row.tenant, sizeof(row.tenant), "%s", who->tenant);
    row_set_text(row.spec, "caller", who->name);
    row_set_text(row.spec, "role", role_word(who->role));
    row_set_text(row.spec, "token", who->id);
    row_set_time(row.spec, "expires", who->expires);
    row_set_text(row.wanted, "hash", hash);
    r = store_begin(s, STORE_PROMISE, err);
    if (r == 0) {
        make_room(a, err);
        r = store_insert(s, &row, err);
        if (r == 0)
            r = manager_event(a->m, &row, "signed-in", err, "%s signed in from %s, as %s",
                              who->name, from, role_word(who->role));
        if (r < 0)
            store_rollback(s);
        else
            r = store_commit(s, err);
    }
    store_row_done(&row);
    return r;
}

static int end(struct auth *a, const char *id, struct error *err) {
    struct store *s = a->m->store;
    int r = store_begin(s, STORE_PROMISE, err);

    if (r < 0)
        return r;
    r = store_delete(s, "session", id, err);
    if (r < 0)
        store_rollback(s);
    else
        r = store_commit(s, err);
    return r;
}

/* ------------------------------------------------------------------ requests */

static void put_cookie(struct http_exchange *x, const char *value, int64_t seconds) {
    http_add_header(x,
                    "Set-Cookie: viv_session=%s; HttpOnly; Secure; SameSite=Strict; Path=/; "
                    "Max-Age=%lld",
                    value, (long long)seconds);
}

/* What this caller may do, so that a client offers nothing else: permissions, each once. */
static json_t *permissions_of(const struct caller *who) {
    json_t *seen = json_object(), *list = json_array();
    const char *permission;
    json_t *one;

    for (const struct resource *const *r = resources; *r; r++)
        for (const struct operation *o = (*r)->ops; o->name; o++)
            if (role_may(who->role, o->permission))
                json_object_set_new(seen, o->permission, json_true());
    json_object_foreach(seen, permission, one)
        json_array_append_new(list, json_string(permission));
    json_decref(seen);
    return list;
}

static void send_session(struct http_exchange *x, int status, const struct caller *who) {
    json_t *o = json_pack("{s:s, s:s, s:s, s:o}", "caller", who->name, "role", role_word(who->role),
                          "tenant", who->tenant, "may", permissions_of(who));
    char *text;

    if (who->expires)
        row_set_time(o, "expires", who->expires);
    text = json_dumps(o, JSON_COMPACT);
    http_add_header(x, "Cache-Control: no-store");
    http_answer(x, status, "application/json", text, text ? strlen(text) : 0);
    free(text);
    json_decref(o);
}

/* {"token": ...} or {"code": ...}, and nothing else. */
static int read_body(const struct http_request *r, json_t **ret, const char **ret_kind,
                     struct api_failure *f) {
    struct error e = {0};
    const char *key;
    json_t *v;

    *ret = message_parse(r->body, r->body_len, &e);
    if (!*ret)
        return auth_fail(f, FAILURE_INVALID, "", "send {\"token\": ...} or {\"code\": ...}", "%s",
                         e.text);
    json_object_foreach(*ret, key, v) {
        *ret_kind = strcmp(key, "token") ? "code" : "token"; /* outlives the body */
        if (json_object_size(*ret) == 1 && json_is_string(v) &&
            (!strcmp(key, "token") || !strcmp(key, "code")))
            return 0;
    }
    return auth_fail(f, FAILURE_INVALID, "", "send {\"token\": ...} or {\"code\": ...}",
                     "the body must hold a token or a code, as a string");
}

static int sign_in(struct auth *a, struct http_exchange *x, struct api_failure *f) {
    const struct peer *peer = http_peer(x)->address;
    const char *kind = "";
    char cookie[AUTH_TEXT];
    struct caller who;
    struct error e = {0};
    json_t *body = NULL;
    bool good;
    int r = auth_check_origin(x, false, f);

    if (r == 0)
        r = auth_admit(a, x, f);
    if (r == 0)
        r = auth_try(x, f);
    if (r == 0)
        r = read_body(http_request(x), &body, &kind, f);
    if (r < 0) {
        json_decref(body);
        return r;
    }
    good = !strcmp(kind, "token") ? take_token(a, row_text(body, kind), &who)
                                  : take_code(a, row_text(body, kind), &who);
    json_decref(body);
    if (!good) {
        auth_tried_wrongly(x);
        http_add_header(x, "WWW-Authenticate: Bearer realm=\"vivarium\"");
        return auth_fail(f, FAILURE_UNAUTHORIZED, "",
                         "ask 'viv portal' or 'viv token create' for a new one",
                         "the sign-in failed: this %s is wrong, has expired or was used", kind);
    }
    if (begin(a, &who, peer ? peer->text : "this host", cookie, &e) < 0)
        return auth_fail(f, FAILURE_FAILED, "", "look at vivd.log", "%s", e.text);
    put_cookie(x, cookie, (who.expires - units_now_ms()) / 1000);
    send_session(x, 201, &who);
    return 0;
}

static int sign_out(struct auth *a, struct http_exchange *x, struct api_failure *f) {
    struct caller who;
    struct error e = {0};
    int r = auth_check(a, x, &who, f);

    if (r < 0)
        return r;
    if (!strncmp(who.id, "session-", 8) && end(a, who.id, &e) < 0)
        return auth_fail(f, FAILURE_FAILED, "", "look at vivd.log", "%s", e.text);
    put_cookie(x, "", 0);
    http_answer(x, 204, NULL, NULL, 0);
    return 0;
}

void auth_session(struct auth *a, struct http_exchange *x) {
    const char *method = http_request(x)->method;
    struct api_failure f = {.kind = FAILURE_NONE};
    struct caller who;
    int r;

    if (!strcmp(method, "POST"))
        r = sign_in(a, x, &f);
    else if (!strcmp(method, "DELETE"))
        r = sign_out(a, x, &f);
    else if (strcmp(method, "GET") != 0)
        r = auth_fail(&f, FAILURE_NOT_ALLOWED, "", "use POST, GET or DELETE",
                      "this path does not take %s", method);
    else if ((r = auth_check(a, x, &who, &f)) == 0)
        send_session(x, 200, &who);
    if (r < 0)
        api_send_failure(x, &f);
}
