/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The store's resources: rows by id, by name and in lists. */
#include "host/store_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/bytes.h"
#include "proto/units.h"

/* ------------------------------------------------------------------ resources */

static void make_id(struct store_row *row) {
    static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz"; /* no i, l, o, u */
    uint8_t random[12];
    size_t at = (size_t)snprintf(row->id, sizeof(row->id), "%.40s-", row->kind);

    if (getrandom(random, sizeof(random), 0) != sizeof(random))
        abort(); /* 12 bytes are never refused once the host has started */
    for (unsigned i = 0; i < sizeof(random); i++)
        row->id[at++] = digits[random[i] % 32];
    row->id[at] = 0;
}

static int next_revision(struct store *s, int64_t *ret, struct error *err) {
    return store_run(s, store_query_for(s, Q_REVISION), ret) < 0 ? store_failed(s, "counting", err)
                                                                 : 0;
}

struct texts {
    char *spec, *status, *wanted;
};

static bool dump(const struct store_row *row, struct texts *t) {
    t->spec = json_dumps(row->spec, JSON_COMPACT);
    t->status = json_dumps(row->status, JSON_COMPACT);
    t->wanted = json_dumps(row->wanted, JSON_COMPACT);
    return t->spec && t->status && t->wanted;
}

static void texts_done(struct texts *t) {
    free(t->spec);
    free(t->status);
    free(t->wanted);
}

int store_insert(struct store *s, struct store_row *row, struct error *err) {
    sqlite3_stmt *q = store_query_for(s, Q_INSERT);
    struct texts t = {0};
    int r = -ENOMEM;

    assert(s->inside);
    make_id(row);
    if (!*row->name)
        snprintf(row->name, sizeof(row->name), "%s", row->id);
    row->created = units_now_ms();
    if (!dump(row, &t))
        error_set(err, r, "the store: out of memory");
    else if ((r = next_revision(s, &row->revision, err)) == 0) {
        store_bind_text(q, 1, row->kind);
        store_bind_text(q, 2, row->id);
        store_bind_text(q, 3, row->tenant);
        store_bind_text(q, 4, row->name);
        sqlite3_bind_int64(q, 5, row->revision);
        sqlite3_bind_int64(q, 6, row->created);
        store_bind_text(q, 7, t.spec);
        store_bind_text(q, 8, t.status);
        store_bind_text(q, 9, t.wanted);
        r = store_run(s, q, NULL);
        if (r == -EEXIST)
            error_set(err, r, "the name '%s' is taken: choose another one", row->name);
        else if (r < 0)
            r = store_failed(s, "writing", err);
        else
            store_note_change(s, row->kind, row->id);
    }
    texts_done(&t);
    return r;
}

int store_update(struct store *s, struct store_row *row, struct error *err) {
    sqlite3_stmt *q = store_query_for(s, Q_UPDATE);
    struct texts t = {0};
    int r = -ENOMEM;

    assert(s->inside);
    if (!dump(row, &t))
        error_set(err, r, "the store: out of memory");
    else if ((r = next_revision(s, &row->revision, err)) == 0) {
        store_bind_text(q, 1, row->kind);
        store_bind_text(q, 2, row->id);
        sqlite3_bind_int64(q, 3, row->revision);
        store_bind_text(q, 4, t.spec);
        store_bind_text(q, 5, t.status);
        store_bind_text(q, 6, t.wanted);
        r = store_run(s, q, NULL) < 0 ? store_failed(s, "writing", err) : 0;
        if (r == 0)
            store_note_change(s, row->kind, row->id);
    }
    texts_done(&t);
    return r;
}

int store_delete(struct store *s, const char *kind, const char *id, struct error *err) {
    sqlite3_stmt *q = store_query_for(s, Q_DELETE);

    assert(s->inside);
    store_bind_text(q, 1, kind);
    store_bind_text(q, 2, id);
    if (store_run(s, q, NULL) < 0)
        return store_failed(s, "writing", err);
    store_note_change(s, kind, id);
    return 0;
}

static void copy(char to[STORE_WORD], sqlite3_stmt *q, int column) {
    const char *s = (const char *)sqlite3_column_text(q, column);

    snprintf(to, STORE_WORD, "%s", s ? s : "");
}

static json_t *object(sqlite3_stmt *q, int column) {
    const char *s = (const char *)sqlite3_column_text(q, column);
    json_t *v = s ? json_loads(s, 0, NULL) : NULL;

    return v ? v : json_object();
}

static int read_row(struct store *s, sqlite3_stmt *q, struct store_row *ret) {
    int r = sqlite3_step(q);

    if (r == SQLITE_ROW) {
        copy(ret->kind, q, 0);
        copy(ret->id, q, 1);
        copy(ret->tenant, q, 2);
        copy(ret->name, q, 3);
        ret->revision = sqlite3_column_int64(q, 4);
        ret->created = sqlite3_column_int64(q, 5);
        ret->spec = object(q, 6);
        ret->status = object(q, 7);
        ret->wanted = object(q, 8);
    }
    sqlite3_reset(q);
    return r == SQLITE_ROW ? 0 : r == SQLITE_DONE ? -ENOENT : -EIO;
}

int store_get(struct store *s, const char *kind, const char *id, struct store_row *ret) {
    sqlite3_stmt *q = store_query_for(s, Q_GET);

    store_bind_text(q, 1, kind);
    store_bind_text(q, 2, id);
    return read_row(s, q, ret);
}

int store_find(struct store *s, const char *kind, const char *tenant, const char *name,
               struct store_row *ret) {
    sqlite3_stmt *q = store_query_for(s, Q_BY_NAME);
    int r;

    store_bind_text(q, 1, kind);
    store_bind_text(q, 2, tenant);
    store_bind_text(q, 3, name);
    r = read_row(s, q, ret);
    if (r != -ENOENT)
        return r;
    r = store_get(s, kind, name, ret);
    if (r == 0 && strcmp(ret->tenant, tenant) != 0) { /* another tenant's does not exist */
        store_row_done(ret);
        return -ENOENT;
    }
    return r;
}

void store_row_done(struct store_row *row) {
    json_decref(row->spec);
    json_decref(row->status);
    json_decref(row->wanted);
    row->spec = row->status = row->wanted = NULL;
}

/* ------------------------------------------------------------------ lists */

/*
 * Names of fields come from the declarations, never from a caller. The condition on the tenant is
 * left out if there is none, so that the index of names gives the order: with "?2 IS NULL OR" all
 * rows would be sorted with their texts.
 */
static sqlite3_stmt *list_query(struct store *s, const struct store_query *q, const char *what) {
    struct buf sql = {0};
    sqlite3_stmt *stmt = NULL;

    buf_printf(&sql, "SELECT %s FROM resource WHERE kind=?1 AND %s", what,
               q->tenant         ? "tenant=?2 AND name > ?3" /* in the index's order */
               : q->after_tenant ? "(tenant, name) > (?2, ?3)"
                                 : "?2 IS NULL AND name > ?3");
    for (unsigned i = 0; i < q->filters; i++)
        buf_printf(&sql, " AND json_extract(%s, '$.%s') = ?%u", q->filter[i].part,
                   q->filter[i].field, 5 + i);
    buf_printf(&sql, " ORDER BY tenant, name LIMIT ?4");
    buf_put(&sql, "", 1);
    if (sqlite3_prepare_v2(s->db, (const char *)sql.data, -1, &stmt, NULL) == SQLITE_OK) {
        store_bind_text(stmt, 1, q->kind);
        if (q->tenant || q->after_tenant)
            store_bind_text(stmt, 2, q->tenant ? q->tenant : q->after_tenant);
        store_bind_text(stmt, 3, q->after ? q->after : "");
        sqlite3_bind_int64(stmt, 4, q->limit ? (int64_t)q->limit : -1);
        for (unsigned i = 0; i < q->filters; i++)
            store_bind_value(stmt, 5 + (int)i, q->filter[i].value);
    }
    buf_done(&sql);
    return stmt;
}

int store_list(struct store *s, const struct store_query *q,
               bool (*fn)(void *opaque, const struct store_text *t), void *opaque) {
    sqlite3_stmt *stmt =
        list_query(s, q, "kind, id, tenant, name, revision, created, spec, status");
    int r = SQLITE_ERROR;

    while (stmt && (r = sqlite3_step(stmt)) == SQLITE_ROW) {
        struct store_text t = {
            .kind = (const char *)sqlite3_column_text(stmt, 0),
            .id = (const char *)sqlite3_column_text(stmt, 1),
            .tenant = (const char *)sqlite3_column_text(stmt, 2),
            .name = (const char *)sqlite3_column_text(stmt, 3),
            .revision = sqlite3_column_int64(stmt, 4),
            .created = sqlite3_column_int64(stmt, 5),
            .spec = (const char *)sqlite3_column_text(stmt, 6),
            .status = (const char *)sqlite3_column_text(stmt, 7),
        };

        if (!fn(opaque, &t)) {
            r = SQLITE_DONE;
            break;
        }
    }
    sqlite3_finalize(stmt);
    return r == SQLITE_DONE ? 0 : -EIO;
}

int64_t store_count(struct store *s, const struct store_query *q) {
    sqlite3_stmt *stmt = list_query(s, q, "count(*)");
    int64_t n = stmt && sqlite3_step(stmt) == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : -1;

    sqlite3_finalize(stmt);
    return n;
}
