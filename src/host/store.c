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
#include <unistd.h>

#include "host/backup.h"
#include "host/store_internal.h"

enum { BUSY_MS = 10000 };

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

static const char *const sql_of[] = {
#define X(name, sql) sql,
    STATEMENTS(X)
#undef X
};

/* ------------------------------------------------------------------ calls of SQLite */

int store_failed(struct store *s, const char *what, struct error *err) {
    int code = sqlite3_errcode(s->db) & 0xff;

    if (code == SQLITE_FULL)
        return error_set(err, -ENOSPC, "the store: %s: the disk is full; make room", what);
    if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB)
        return error_set(err, -EUCLEAN, "the store is damaged: %s; restore it from a backup",
                         sqlite3_errmsg(s->db));
    return error_set(err, -EIO, "the store: %s: %s", what, sqlite3_errmsg(s->db));
}

sqlite3_stmt *store_query_for(struct store *s, enum statement q) {
    sqlite3_stmt **p = &s->statement[q];

    if (!*p && sqlite3_prepare_v3(s->db, sql_of[q], -1, SQLITE_PREPARE_PERSISTENT, p, NULL))
        return NULL; /* steps of NULL fail as misuse */
    return *p;
}

void store_bind_text(sqlite3_stmt *q, int at, const char *s) {
    sqlite3_bind_text(q, at, s, -1, SQLITE_STATIC);
}

/* Runs what gives no rows; *ret_number the first column if it gives one. */
int store_run(struct store *s, sqlite3_stmt *q, int64_t *ret_number) {
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
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : store_failed(s, what, err);
}

void store_bind_value(sqlite3_stmt *q, int at, const json_t *v) {
    if (json_is_string(v))
        store_bind_text(q, at, json_string_value(v));
    else if (json_is_boolean(v))
        sqlite3_bind_int(q, at, json_is_true(v));
    else
        sqlite3_bind_int64(q, at, json_integer_value(v));
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
        return store_failed(s, "reading its version", err);
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
    if (store_run(s, store_query_for(s, Q_BEGIN), NULL) < 0)
        return store_failed(s, "beginning", err);
    s->inside = true;
    s->events = false;
    s->change_count = 0;
    return 0;
}

void store_rollback(struct store *s) {
    if (s->inside)
        store_run(s, store_query_for(s, Q_ROLLBACK), NULL);
    s->inside = false;
}

int store_commit(struct store *s, struct error *err) {
    struct change *changes = s->changes;
    size_t n = s->change_count;
    bool events = s->events;

    assert(s->inside);
    if (store_run(s, store_query_for(s, Q_COMMIT), NULL) < 0) {
        int r = store_failed(s, "writing", err);

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

void store_note_change(struct store *s, const char *kind, const char *id) {
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
