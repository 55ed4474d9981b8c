/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What store.c (opening, transactions), store_rows.c (resources) and store_log.c (events, answers)
 * share. */
#ifndef HOST_STORE_INTERNAL_H
#define HOST_STORE_INTERNAL_H

#include <sqlite3.h>

#include "host/store.h"

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

/* The sentence for what SQLite says of its last call. */
int store_failed(struct store *s, const char *what, struct error *err);
/* A statement that is prepared once; NULL (steps of which fail) if it cannot be. */
sqlite3_stmt *store_query_for(struct store *s, enum statement q);
/* The text stays the caller's until the statement has run. */
void store_bind_text(sqlite3_stmt *q, int at, const char *s);
void store_bind_value(sqlite3_stmt *q, int at, const json_t *v);
/* Runs what gives no rows; *ret_number the first column if it gives one. -EEXIST: what must be
 * there once is there. */
int store_run(struct store *s, sqlite3_stmt *q, int64_t *ret_number);
/* To be told when the transaction is through. */
void store_note_change(struct store *s, const char *kind, const char *id);

#endif
