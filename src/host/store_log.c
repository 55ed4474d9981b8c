/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the store remembers for a while: events, and answers that may be asked for again. */
#include "host/store_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "proto/units.h"

enum { KEEP_EVENTS = 20000, PRUNE_EVERY = 500, ANSWER_MS = 24 * 3600 * 1000 };

/* ------------------------------------------------------------------ events */

int store_event_add(struct store *s, const struct store_event *e, struct error *err) {
    sqlite3_stmt *q = store_query_for(s, Q_EVENT);
    int64_t seq;

    assert(s->inside);
    sqlite3_bind_int64(q, 1, units_now_ms());
    store_bind_text(q, 2, e->tenant);
    store_bind_text(q, 3, e->kind);
    store_bind_text(q, 4, e->id);
    store_bind_text(q, 5, e->name);
    store_bind_text(q, 6, e->what);
    store_bind_text(q, 7, e->text);
    if (store_run(s, q, NULL) < 0)
        return store_failed(s, "writing an event", err);
    s->events = true;
    seq = sqlite3_last_insert_rowid(s->db);
    if (seq % PRUNE_EVERY == 0 && seq > KEEP_EVENTS) {
        q = store_query_for(s, Q_PRUNE);
        sqlite3_bind_int64(q, 1, seq - KEEP_EVENTS);
        if (store_run(s, q, NULL) < 0)
            return store_failed(s, "forgetting old events", err);
    }
    return 0;
}

int64_t store_event_last(struct store *s) {
    int64_t n = 0;

    store_run(s, store_query_for(s, Q_LAST_EVENT), &n);
    return n;
}

int store_event_list(struct store *s, const struct store_query *q,
                     bool (*fn)(void *opaque, const struct store_event *e), void *opaque) {
    struct buf sql = {0};
    sqlite3_stmt *stmt = NULL;
    int r = SQLITE_ERROR;

    buf_printf(&sql,
               "%sSELECT seq, time, tenant, kind, id, name, what, text FROM event"
               " WHERE seq > ?1 AND (?2 IS NULL OR tenant=?2)",
               q->newest ? "SELECT * FROM (" : "");
    for (unsigned i = 0; i < q->filters; i++)
        buf_printf(&sql, " AND %s = ?%u", q->filter[i].field, 4 + i);
    buf_printf(&sql,
               q->newest ? " ORDER BY seq DESC LIMIT ?3) ORDER BY seq" : " ORDER BY seq LIMIT ?3");
    buf_put(&sql, "", 1);
    if (sqlite3_prepare_v2(s->db, (const char *)sql.data, -1, &stmt, NULL) == SQLITE_OK) {
        sqlite3_bind_int64(stmt, 1, q->after_seq);
        store_bind_text(stmt, 2, q->tenant);
        sqlite3_bind_int64(stmt, 3, q->limit ? (int64_t)q->limit : -1);
        for (unsigned i = 0; i < q->filters; i++)
            store_bind_value(stmt, 4 + (int)i, q->filter[i].value);
    }
    buf_done(&sql);
    while (stmt && (r = sqlite3_step(stmt)) == SQLITE_ROW) {
        struct store_event e = {sqlite3_column_int64(stmt, 0),
                                sqlite3_column_int64(stmt, 1),
                                (const char *)sqlite3_column_text(stmt, 2),
                                (const char *)sqlite3_column_text(stmt, 3),
                                (const char *)sqlite3_column_text(stmt, 4),
                                (const char *)sqlite3_column_text(stmt, 5),
                                (const char *)sqlite3_column_text(stmt, 6),
                                (const char *)sqlite3_column_text(stmt, 7)};

        if (!fn(opaque, &e)) {
            r = SQLITE_DONE;
            break;
        }
    }
    sqlite3_finalize(stmt);
    return r == SQLITE_DONE ? 0 : -EIO;
}

/* ------------------------------------------------------------------ answers */

int store_answer_find(struct store *s, const char *caller, const char *key, uint64_t *ret_request,
                      int *ret_status, char **ret_body) {
    sqlite3_stmt *q = store_query_for(s, Q_ANSWER_GET);
    int r;

    store_bind_text(q, 1, caller);
    store_bind_text(q, 2, key);
    sqlite3_bind_int64(q, 3, units_now_ms() - ANSWER_MS);
    r = sqlite3_step(q);
    if (r == SQLITE_ROW) {
        *ret_request = (uint64_t)sqlite3_column_int64(q, 0);
        *ret_status = sqlite3_column_int(q, 1);
        *ret_body = strdup((const char *)sqlite3_column_text(q, 2));
    }
    sqlite3_reset(q);
    return r == SQLITE_ROW ? (*ret_body ? 0 : -ENOMEM) : r == SQLITE_DONE ? -ENOENT : -EIO;
}

int store_answer_put(struct store *s, const char *caller, const char *key, uint64_t request,
                     int status, const char *body, struct error *err) {
    sqlite3_stmt *q = store_query_for(s, Q_ANSWER_PUT), *prune = store_query_for(s, Q_ANSWER_PRUNE);
    int64_t now = units_now_ms();

    assert(s->inside);
    store_bind_text(q, 1, caller);
    store_bind_text(q, 2, key);
    sqlite3_bind_int64(q, 3, (int64_t)request);
    sqlite3_bind_int(q, 4, status);
    store_bind_text(q, 5, body);
    sqlite3_bind_int64(q, 6, now);
    sqlite3_bind_int64(prune, 1, now - ANSWER_MS);
    if (store_run(s, q, NULL) < 0 || store_run(s, prune, NULL) < 0)
        return store_failed(s, "writing an answer", err);
    return 0;
}
