/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The store in SQLite 3.35 or later, in WAL mode: readers of other processes (sqlite3, a backup)
 * never wait for us. synchronous is FULL for promises and NORMAL for the rest, which saves an fsync
 * for each thing that was only seen.
 */
#include "host/store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/bytes.h"
#include "host/backup.h"
#include "proto/units.h"

enum { BUSY_MS = 10000, KEEP_EVENTS = 20000, PRUNE_EVERY = 500, ANSWER_MS = 24 * 3600 * 1000 };

/* Each runs once, in order, and is never changed once released. */
static const char *const migrations[] = {
    "CREATE TABLE resource (kind TEXT NOT NULL, id TEXT NOT NULL, tenant TEXT NOT NULL,"
    " name TEXT NOT NULL, revision INTEGER NOT NULL, created INTEGER NOT NULL,"
    " spec TEXT NOT NULL, status TEXT NOT NULL, wanted TEXT NOT NULL,"
    " PRIMARY KEY (kind, tenant, name)) WITHOUT ROWID;" /* lists read it from end to end */
    "CREATE UNIQUE INDEX resource_id ON resource (kind, id);"
    "CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL);"
    "INSERT INTO counter VALUES ('revision', 0);"
    "CREATE TABLE event (seq INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL,"
    " tenant TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL,"
    " what TEXT NOT NULL, text TEXT NOT NULL);"
    "CREATE TABLE answer (caller TEXT NOT NULL, key TEXT NOT NULL, request INTEGER NOT NULL,"
    " status INTEGER NOT NULL, body TEXT NOT NULL, time INTEGER NOT NULL,"
    " PRIMARY KEY (caller, key)) WITHOUT ROWID;",
};
enum { MIGRATIONS = sizeof(migrations) / sizeof(migrations[0]) };

/* Statements that are prepared once. */
#define COLUMNS "kind, id, tenant, name, revision, created, spec, status, wanted"
#define STATEMENTS(X)                                                                              \
    X(BEGIN, "BEGIN IMMEDIATE")                                                                    \
    X(COMMIT, "COMMIT")                                                                            \
    X(ROLLBACK, "ROLLBACK")                                                                        \
    X(REVISION, "UPDATE counter SET value = value + 1 WHERE name = 'revision' RETURNING value")    \
    X(INSERT, "INSERT INTO resource (" COLUMNS ") VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9)")            \
    X(UPDATE, "UPDATE resource SET revision=?3, spec=?4, status=?5, wanted=?6"                     \
              " WHERE kind=?1 AND id=?2")                                                          \
    X(DELETE, "DELETE FROM resource WHERE kind=?1 AND id=?2")                                      \
    X(GET, "SELECT " COLUMNS " FROM resource WHERE kind=?1 AND id=?2")                             \
    X(BY_NAME, "SELECT " COLUMNS " FROM resource WHERE kind=?1 AND tenant=?2 AND name=?3")         \
    X(EVENT, "INSERT INTO event (time,tenant,kind,id,name,what,text) VALUES (?1,?2,?3,?4,?5,"      \
             "?6,?7)")                                                                             \
    X(PRUNE, "DELETE FROM event WHERE seq <= ?1")                                                  \
    X(LAST_EVENT, "SELECT coalesce(max(seq), 0) FROM event")                                       \
    X(ANSWER_GET, "SELECT request, status, body FROM answer WHERE caller=?1 AND key=?2 AND "       \
                  "time > ?3")                                                                     \
    X(ANSWER_PUT, "INSERT OR REPLACE INTO answer VALUES (?1,?2,?3,?4,?5,?6)")                      \
    X(ANSWER_PRUNE, "DELETE FROM answer WHERE time <= ?1")

enum statement {
#define X(name, sql) Q_##name,
    STATEMENTS(X)
#undef X
        Q_COUNT
};
static const char *const sql_of[] = {
#define X(name, sql) sql,
    STATEMENTS(X)
#undef X
};

struct change {
    char kind[STORE_WORD], id[STORE_WORD];
};

struct store {
    sqlite3 *db;
    sqlite3_stmt *statement[Q_COUNT];
    struct store_hooks hooks;
    struct change *changes; /* of this transaction */
    size_t change_count, change_room;
    bool events, inside;
    enum store_durability durability;
};

/* ------------------------------------------------------------------ calls of SQLite */

static int failed(struct store *s, const char *what, struct error *err) {
    int code = sqlite3_errcode(s->db) & 0xff;

    if (code == SQLITE_FULL)
        return error_set(err, -ENOSPC, "the store: %s: the disk is full; make room", what);
    if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB)
        return error_set(err, -EUCLEAN, "the store is damaged: %s; restore it from a backup",
                         sqlite3_errmsg(s->db));
    return error_set(err, -EIO, "the store: %s: %s", what, sqlite3_errmsg(s->db));
}

static sqlite3_stmt *query(struct store *s, enum statement q) {
    sqlite3_stmt **p = &s->statement[q];

    if (!*p && sqlite3_prepare_v3(s->db, sql_of[q], -1, SQLITE_PREPARE_PERSISTENT, p, NULL))
        return NULL; /* steps of NULL fail as misuse */
    return *p;
}

static void text(sqlite3_stmt *q, int at, const char *s) {
    sqlite3_bind_text(q, at, s, -1, SQLITE_STATIC);
}

/* Runs what gives no rows; *ret_number the first column if it gives one. */
static int run(struct store *s, sqlite3_stmt *q, int64_t *ret_number) {
    int r = sqlite3_step(q);

    if (r == SQLITE_ROW && ret_number) {
        *ret_number = sqlite3_column_int64(q, 0);
        while ((r = sqlite3_step(q)) == SQLITE_ROW)
            continue;
    }
    sqlite3_reset(q);
    return r == SQLITE_DONE ? 0 : (r & 0xff) == SQLITE_CONSTRAINT ? -EEXIST : -EIO;
}

static int execute(struct store *s, const char *sql, const char *what, struct error *err) {
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : failed(s, what, err);
}

/* ------------------------------------------------------------------ opening */

static int number_of(struct store *s, const char *sql, int64_t *ret) {
    sqlite3_stmt *q = NULL;
    int r = -EIO;

    if (sqlite3_prepare_v2(s->db, sql, -1, &q, NULL) == SQLITE_OK &&
        sqlite3_step(q) == SQLITE_ROW) {
        *ret = sqlite3_column_int64(q, 0);
        r = 0;
    }
    sqlite3_finalize(q);
    return r;
}

static int check_sound(struct store *s, const char *path, const char *remedy, struct error *err) {
    sqlite3_stmt *q = NULL;
    const char *word = NULL;
    bool good = sqlite3_prepare_v2(s->db, "PRAGMA quick_check(1)", -1, &q, NULL) == SQLITE_OK &&
                sqlite3_step(q) == SQLITE_ROW && (word = (const char *)sqlite3_column_text(q, 0)) &&
                !strcmp(word, "ok");

    if (!good)
        error_set(err, -EUCLEAN, "the store '%s' is damaged (%s)%s", path,
                  word ? word : sqlite3_errmsg(s->db), remedy);
    sqlite3_finalize(q);
    return good ? 0 : -EUCLEAN;
}

/* What to do about a damaged store. */
static void find_remedy(const char *path, char *out, size_t size) {
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX], name[80];

    snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    backup_newest(folder, name, sizeof(name));
    if (*name)
        snprintf(out, size,
                 ": 'vivd --restore latest' puts the backup '%s' in its place; the machines' disks "
                 "are not in it",
                 name);
    else
        snprintf(out, size,
                 ", and there is no backup of it: move it away to begin anew; the machines' disks "
                 "are not in it and are set aside then");
}

static int migrate(struct store *s, int64_t from, struct error *err) {
    char sql[160];

    for (int64_t v = from; v < MIGRATIONS; v++) {
        if (execute(s, "BEGIN IMMEDIATE", "a migration", err) < 0)
            return err->code;
        snprintf(sql, sizeof(sql),
                 "INSERT INTO migration VALUES (%" PRId64 ", unixepoch()); COMMIT", v + 1);
        if (execute(s, migrations[v], "a migration", err) < 0 ||
            execute(s, sql, "a migration", err) < 0) {
            sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
            return err->code;
        }
    }
    return 0;
}

/* What the file was before a migration stays beside it. */
static int keep_old(struct store *s, const char *path, int64_t version, struct error *err) {
    char *sql = sqlite3_mprintf("VACUUM INTO '%q.version%lld'", path, (long long)version);
    int r = sql ? execute(s, sql, "a copy before the migration", err) : -ENOMEM;

    sqlite3_free(sql);
    return r;
}

static int prepare(struct store *s, const char *path, struct error *err) {
    int64_t version = 0;
    char remedy[300];

    find_remedy(path, remedy, sizeof(remedy));
    sqlite3_busy_timeout(s->db, BUSY_MS);
    if (check_sound(s, path, remedy, err) < 0 ||
        execute(s, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-2000",
                "opening it", err) < 0 ||
        execute(s,
                "CREATE TABLE IF NOT EXISTS migration (version INTEGER PRIMARY KEY,"
                " applied INTEGER NOT NULL)",
                "opening it", err) < 0)
        return err->code;
    if (number_of(s, "SELECT coalesce(max(version), 0) FROM migration", &version) < 0)
        return failed(s, "reading its version", err);
    if (version > MIGRATIONS)
        return error_set(err, -EPROTO,
                         "the store '%s' was written by a newer version (%lld, this one knows %d): "
                         "use that one",
                         path, (long long)version, MIGRATIONS);
    if (version && version < MIGRATIONS && keep_old(s, path, version, err) < 0)
        return err->code;
    return migrate(s, version, err);
}

struct store *store_open(const char *path, struct error *err) {
    struct store *s = calloc(1, sizeof(*s));
    struct error e = {0};

    if (!s) {
        error_set(err, -ENOMEM, "the store: out of memory");
        return NULL;
    }
    s->durability = STORE_PROMISE;
    if (sqlite3_open_v2(path, &s->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK)
        error_set(&e, -EIO, "the store '%s' cannot be opened: %s", path,
                  s->db ? sqlite3_errmsg(s->db) : "out of memory");
    else
        prepare(s, path, &e);
    if (!e.code)
        return s;
    error_set(err, e.code, "%s", e.text);
    store_close(s);
    return NULL;
}

static int sync_file(const char *path, struct error *err) {
    int fd = open(path, O_RDWR | O_CLOEXEC), r = fd < 0 ? -errno : 0;

    if (fd >= 0 && fsync(fd) < 0)
        r = -errno;
    if (fd >= 0)
        close(fd);
    return r < 0 ? error_set(err, r, "'%s' cannot be written: %s", path, strerror(-r)) : 0;
}

int store_copy(const char *from, const char *to, struct error *err) {
    struct store s = {0};
    struct error e = {0};
    char *sql = sqlite3_mprintf("VACUUM INTO '%q'", to);

    if (!sql || sqlite3_open_v2(from, &s.db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK)
        error_set(&e, -EIO, "the store '%s' cannot be opened: %s", from,
                  s.db ? sqlite3_errmsg(s.db) : "out of memory");
    else
        sqlite3_busy_timeout(s.db, BUSY_MS);
    if (!e.code && check_sound(&s, from, "", &e) == 0 && execute(&s, sql, "a copy of it", &e) == 0)
        sync_file(to, &e);
    sqlite3_free(sql);
    sqlite3_close(s.db);
    return e.code ? error_set(err, e.code, "%s", e.text) : 0;
}

void store_close(struct store *s) {
    if (!s)
        return;
    for (unsigned i = 0; i < Q_COUNT; i++)
        sqlite3_finalize(s->statement[i]);
    sqlite3_close(s->db);
    free(s->changes);
    free(s);
}

void store_set_hooks(struct store *s, const struct store_hooks *hooks) { s->hooks = *hooks; }

/* ------------------------------------------------------------------ transactions */

bool store_in_transaction(const struct store *s) { return s->inside; }

int store_begin(struct store *s, enum store_durability durability, struct error *err) {
    assert(!s->inside);
    if (s->durability != durability) {
        if (execute(s,
                    durability == STORE_PROMISE ? "PRAGMA synchronous=FULL"
                                                : "PRAGMA synchronous=NORMAL",
                    "beginning", err) < 0)
            return err ? err->code : -EIO;
        s->durability = durability;
    }
    if (run(s, query(s, Q_BEGIN), NULL) < 0)
        return failed(s, "beginning", err);
    s->inside = true;
    s->events = false;
    s->change_count = 0;
    return 0;
}

void store_rollback(struct store *s) {
    if (s->inside)
        run(s, query(s, Q_ROLLBACK), NULL);
    s->inside = false;
}

int store_commit(struct store *s, struct error *err) {
    struct change *changes = s->changes;
    size_t n = s->change_count;
    bool events = s->events;

    assert(s->inside);
    if (run(s, query(s, Q_COMMIT), NULL) < 0) {
        int r = failed(s, "writing", err);

        store_rollback(s);
        return r;
    }
    s->inside = false;
    s->changes = NULL; /* a hook may begin the next transaction */
    s->change_room = s->change_count = 0;
    for (size_t i = 0; i < n && s->hooks.changed; i++)
        s->hooks.changed(s->hooks.opaque, changes[i].kind, changes[i].id);
    if (events && s->hooks.events)
        s->hooks.events(s->hooks.opaque);
    free(changes);
    return 0;
}

static void note_change(struct store *s, const char *kind, const char *id) {
    struct change *c;

    if (s->change_count == s->change_room) {
        s->change_room = s->change_room ? 2 * s->change_room : 4;
        s->changes = realloc(s->changes, s->change_room * sizeof(*s->changes));
        if (!s->changes)
            abort();
    }
    c = &s->changes[s->change_count++];
    snprintf(c->kind, sizeof(c->kind), "%s", kind);
    snprintf(c->id, sizeof(c->id), "%s", id);
}

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
    return run(s, query(s, Q_REVISION), ret) < 0 ? failed(s, "counting", err) : 0;
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
    sqlite3_stmt *q = query(s, Q_INSERT);
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
        text(q, 1, row->kind);
        text(q, 2, row->id);
        text(q, 3, row->tenant);
        text(q, 4, row->name);
        sqlite3_bind_int64(q, 5, row->revision);
        sqlite3_bind_int64(q, 6, row->created);
        text(q, 7, t.spec);
        text(q, 8, t.status);
        text(q, 9, t.wanted);
        r = run(s, q, NULL);
        if (r == -EEXIST)
            error_set(err, r, "the name '%s' is taken: choose another one", row->name);
        else if (r < 0)
            r = failed(s, "writing", err);
        else
            note_change(s, row->kind, row->id);
    }
    texts_done(&t);
    return r;
}

int store_update(struct store *s, struct store_row *row, struct error *err) {
    sqlite3_stmt *q = query(s, Q_UPDATE);
    struct texts t = {0};
    int r = -ENOMEM;

    assert(s->inside);
    if (!dump(row, &t))
        error_set(err, r, "the store: out of memory");
    else if ((r = next_revision(s, &row->revision, err)) == 0) {
        text(q, 1, row->kind);
        text(q, 2, row->id);
        sqlite3_bind_int64(q, 3, row->revision);
        text(q, 4, t.spec);
        text(q, 5, t.status);
        text(q, 6, t.wanted);
        r = run(s, q, NULL) < 0 ? failed(s, "writing", err) : 0;
        if (r == 0)
            note_change(s, row->kind, row->id);
    }
    texts_done(&t);
    return r;
}

int store_delete(struct store *s, const char *kind, const char *id, struct error *err) {
    sqlite3_stmt *q = query(s, Q_DELETE);

    assert(s->inside);
    text(q, 1, kind);
    text(q, 2, id);
    if (run(s, q, NULL) < 0)
        return failed(s, "writing", err);
    note_change(s, kind, id);
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
    sqlite3_stmt *q = query(s, Q_GET);

    text(q, 1, kind);
    text(q, 2, id);
    return read_row(s, q, ret);
}

int store_find(struct store *s, const char *kind, const char *tenant, const char *name,
               struct store_row *ret) {
    sqlite3_stmt *q = query(s, Q_BY_NAME);
    int r;

    text(q, 1, kind);
    text(q, 2, tenant);
    text(q, 3, name);
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

static void bind_value(sqlite3_stmt *q, int at, const json_t *v) {
    if (json_is_string(v))
        text(q, at, json_string_value(v));
    else if (json_is_boolean(v))
        sqlite3_bind_int(q, at, json_is_true(v));
    else
        sqlite3_bind_int64(q, at, json_integer_value(v));
}

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
        text(stmt, 1, q->kind);
        if (q->tenant || q->after_tenant)
            text(stmt, 2, q->tenant ? q->tenant : q->after_tenant);
        text(stmt, 3, q->after ? q->after : "");
        sqlite3_bind_int64(stmt, 4, q->limit ? (int64_t)q->limit : -1);
        for (unsigned i = 0; i < q->filters; i++)
            bind_value(stmt, 5 + (int)i, q->filter[i].value);
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

/* ------------------------------------------------------------------ events */

int store_event_add(struct store *s, const struct store_event *e, struct error *err) {
    sqlite3_stmt *q = query(s, Q_EVENT);
    int64_t seq;

    assert(s->inside);
    sqlite3_bind_int64(q, 1, units_now_ms());
    text(q, 2, e->tenant);
    text(q, 3, e->kind);
    text(q, 4, e->id);
    text(q, 5, e->name);
    text(q, 6, e->what);
    text(q, 7, e->text);
    if (run(s, q, NULL) < 0)
        return failed(s, "writing an event", err);
    s->events = true;
    seq = sqlite3_last_insert_rowid(s->db);
    if (seq % PRUNE_EVERY == 0 && seq > KEEP_EVENTS) {
        q = query(s, Q_PRUNE);
        sqlite3_bind_int64(q, 1, seq - KEEP_EVENTS);
        if (run(s, q, NULL) < 0)
            return failed(s, "forgetting old events", err);
    }
    return 0;
}

int64_t store_event_last(struct store *s) {
    int64_t n = 0;

    run(s, query(s, Q_LAST_EVENT), &n);
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
        text(stmt, 2, q->tenant);
        sqlite3_bind_int64(stmt, 3, q->limit ? (int64_t)q->limit : -1);
        for (unsigned i = 0; i < q->filters; i++)
            bind_value(stmt, 4 + (int)i, q->filter[i].value);
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
    sqlite3_stmt *q = query(s, Q_ANSWER_GET);
    int r;

    text(q, 1, caller);
    text(q, 2, key);
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
    sqlite3_stmt *q = query(s, Q_ANSWER_PUT), *prune = query(s, Q_ANSWER_PRUNE);
    int64_t now = units_now_ms();

    assert(s->inside);
    text(q, 1, caller);
    text(q, 2, key);
    sqlite3_bind_int64(q, 3, (int64_t)request);
    sqlite3_bind_int(q, 4, status);
    text(q, 5, body);
    sqlite3_bind_int64(q, 6, now);
    sqlite3_bind_int64(prune, 1, now - ANSWER_MS);
    if (run(s, q, NULL) < 0 || run(s, prune, NULL) < 0)
        return failed(s, "writing an answer", err);
    return 0;
}
