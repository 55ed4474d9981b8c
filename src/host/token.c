/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Operations of tokens. The secret is in one answer, and nowhere else. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "host/auth.h"
#include "proto/units.h"

enum { TOKENS_MAX = 1000 };

static int check_expiry(struct api_call *call, const json_t *spec) {
    const char *text = row_text(spec, "expires");
    int64_t ms = 0;

    if (!*text || (units_read_time(text, &ms, NULL) == 0 && ms > units_now_ms()))
        return 0;
    return api_fail(call, FAILURE_INVALID, "spec.expires", "choose a time to come",
                    "the token would have expired already, at %s", text);
}

static int create(struct api_call *call) {
    const json_t *spec = json_object_get(call->body, "spec");
    const struct store_query all = {.kind = "token"};
    struct store *s = call->m->store;
    char secret[AUTH_TEXT], hash[SHA256_TEXT];
    struct error e = {0};

    if (check_expiry(call, spec) < 0)
        return -EINVAL;
    if (store_count(s, &all) >= TOKENS_MAX)
        return api_fail(call, FAILURE_LIMIT, "", "remove some that nobody uses: viv token list",
                        "there are %d tokens already", TOKENS_MAX);
    call->row = (struct store_row){.kind = "token",
                                   .spec = spec ? json_deep_copy(spec) : json_object(),
                                   .status = json_object(),
                                   .wanted = json_object()};
    snprintf(call->row.name, sizeof(call->row.name), "%s", row_text(call->body, "name"));
    snprintf(call->row.tenant, sizeof(call->row.tenant), "%s", call->tenant);
    resource_fill(call->resource, call->row.spec);
    secret_new("viv_", secret);
    secret_hash(secret, hash);
    row_set_text(call->row.wanted, "hash", hash);
    if (store_insert(s, &call->row, &e) < 0 ||
        manager_event(call->m, &call->row, "created", &e, "a token of role %s (asked by %s)",
                      row_text(call->row.spec, "role"), call->caller) < 0)
        return api_fail_error(call, &e);
    call->once = json_pack("{s:s}", "secret", secret);
    return 0;
}

struct sessions {
    const char *token;
    char id[64][STORE_WORD];
    unsigned count;
};

static bool add_session(void *opaque, const struct store_text *t) {
    struct sessions *of = opaque;
    json_t *spec = json_loads(t->spec, 0, NULL);

    if (!strcmp(row_text(spec, "token"), of->token))
        snprintf(of->id[of->count++], STORE_WORD, "%s", t->id);
    json_decref(spec);
    return of->count < sizeof(of->id) / sizeof(of->id[0]);
}

/* The sessions that it began end with it. */
static int end_sessions(struct api_call *call, struct error *err) {
    const struct store_query q = {.kind = "session", .limit = 100000};
    struct sessions of;

    do {
        of = (struct sessions){.token = call->row.id};
        if (store_list(call->m->store, &q, add_session, &of) < 0)
            return error_set(err, -EIO, "the store cannot be read");
        for (unsigned i = 0; i < of.count; i++)
            if (store_delete(call->m->store, "session", of.id[i], err) < 0)
                return -EIO;
    } while (of.count == sizeof(of.id) / sizeof(of.id[0]));
    return 0;
}

static int delete_it(struct api_call *call) {
    struct error e = {0};

    if (end_sessions(call, &e) < 0 ||
        manager_event(call->m, &call->row, "deleted", &e, "the token is good no more (asked by %s)",
                      call->caller) < 0 ||
        store_delete(call->m->store, "token", call->row.id, &e) < 0)
        return api_fail_error(call, &e);
    return 0;
}

const struct api_handler token_handlers[] = {
    {"create", create}, {"delete", delete_it}, {NULL, NULL}};
