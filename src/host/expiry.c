/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The controller of machines that expire: knows when the next thing is due of each that has such a
 * time, looks at the clocks once a minute while there are any, and writes into the rows what comes
 * next. What that means for a process its own controller does.
 */
#include "host/expiry.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "host/vm.h"
#include "proto/units.h"

enum { LOOK_MS = 60000, BUSY_MS = 2000, FRESH_MS = 60000, STOP_S = 60 };

struct entry {
    struct entry *next;
    char id[STORE_WORD];
    int64_t due; /* by the wall clock */
};

struct expiries {
    struct manager *m;
    struct entry *first;
    struct timer timer;
    struct expiry_clock clock; /* at the last look; kept in the store */
    char clock_id[STORE_WORD];
};

/* ------------------------------------------------------------------ clocks */

static struct expiry_clock read_clock(void) {
    struct expiry_clock c = {.wall = units_now_ms()};
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    struct timespec t;

    if (f && !fgets(c.boot, sizeof(c.boot), f))
        *c.boot = 0;
    if (f)
        fclose(f);
    c.boot[strcspn(c.boot, "\n")] = 0;
    clock_gettime(CLOCK_BOOTTIME, &t);
    c.since = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
    return c;
}

static bool take_clock(void *opaque, const struct store_text *t) {
    struct expiries *e = opaque;
    struct store_row row = {0};

    if (store_get(e->m->store, "clock", t->id, &row) == 0) {
        snprintf(e->clock_id, sizeof(e->clock_id), "%s", t->id);
        snprintf(e->clock.boot, sizeof(e->clock.boot), "%s", row_text(row.status, "boot"));
        e->clock.since = row_number(row.status, "since");
        e->clock.wall = row_number(row.status, "wall");
    }
    store_row_done(&row);
    return false;
}

static int put_clock(struct expiries *e, struct error *err) {
    struct store_row row = {.kind = "clock", .name = "clock"};
    int r = *e->clock_id ? store_get(e->m->store, "clock", e->clock_id, &row) : -ENOENT;
    bool fresh = r < 0;

    if (fresh) {
        row.spec = json_object();
        row.status = json_object();
        row.wanted = json_object();
    }
    row_set_text(row.status, "boot", e->clock.boot);
    row_set_number(row.status, "since", e->clock.since);
    row_set_number(row.status, "wall", e->clock.wall);
    r = fresh ? store_insert(e->m->store, &row, err) : store_update(e->m->store, &row, err);
    if (r == 0)
        snprintf(e->clock_id, sizeof(e->clock_id), "%s", row.id);
    store_row_done(&row);
    return r;
}

/* ------------------------------------------------------------------ rows */

static int say(struct expiries *e, struct store_row *row, enum expiry_step step,
               struct error *err) {
    const char *at = row_text(row->status, "expires"), *end = row_text(row->status, "deleted_at");

    switch (step) {
    case EXPIRY_WARN:
        return manager_event(e->m, row, "expiring", err,
                             "it is going to be stopped and archived at %s; 'viv edit %s --expire' "
                             "or '--expire-unused' extends it",
                             at, row->name);
    case EXPIRY_ARCHIVE:
        return manager_event(e->m, row, "archived", err,
                             "it has expired, and is going to be deleted at %s; 'viv edit %s "
                             "--expire' or '--expire-unused' brings it back",
                             end, row->name);
    case EXPIRY_KEEP:
        return manager_event(e->m, row, "extended", err, "it expires %s%s", *at ? "at " : "no more",
                             at);
    case EXPIRY_DELETE:
        return manager_event(e->m, row, "deleting", err, "it had expired, and its time is over");
    default:
        return 0;
    }
}

static void want_off(struct store_row *row, int64_t now) {
    if (!strcmp(row_text(row->spec, "power"), "off"))
        return;
    row_set_text(row->spec, "power", "off");
    row_set_number(row->wanted, "stop_by", now + STOP_S * 1000);
    row_set_number(row->wanted, "stop_ms", STOP_S * 1000);
    row_set_state(row, "stopping", NULL);
}

static int write_row(struct expiries *e, struct store_row *row, enum expiry_step step,
                     int64_t now) {
    struct error err = {0};
    int r = store_begin(e->m->store, STORE_PROMISE, &err);

    if (r == 0) {
        r = say(e, row, step, &err);
        if (step == EXPIRY_ARCHIVE)
            want_off(row, now);
        if (step == EXPIRY_DELETE) {
            json_object_set_new(row->wanted, "deleting", json_true());
            row_set_text(row->spec, "power", "off");
            row_set_state(row, "deleting", NULL);
        }
        if (r == 0)
            r = store_update(e->m->store, row, &err);
        if (r < 0)
            store_rollback(e->m->store);
        else
            r = store_commit(e->m->store, &err);
    }
    if (r < 0)
        log_error("%s: %s", row->id, err.text);
    return r;
}

/* Something is going on with it that comes to its end first. */
static bool is_busy(const struct store_row *row) {
    return json_object_get(row->wanted, "task") || !vm_settled(row_text(row->status, "state"));
}

/* When to look at it again, by the wall clock; 0: never. */
static int64_t step(struct expiries *e, struct store_row *row, int64_t now) {
    const char *shown = row_text(row->status, "expires");
    char before[UNITS_TIME_SIZE];
    int64_t due = 0;
    enum expiry_step what;

    if (row_flag(row->wanted, "deleting"))
        return 0;
    snprintf(before, sizeof(before), "%s", shown);
    what = expiry_decide(row, now, &due);
    if (what == EXPIRY_NEVER && !*before)
        return 0;
    if ((what == EXPIRY_ARCHIVE || what == EXPIRY_DELETE) && is_busy(row))
        return now + BUSY_MS; /* nothing of it was saved */
    if (what == EXPIRY_LATER && !strcmp(before, row_text(row->status, "expires")))
        return due;
    /* The commit brings us back, with what is due then. */
    return write_row(e, row, what, now) < 0 ? now + BUSY_MS : what == EXPIRY_LATER ? due : now;
}

/* ------------------------------------------------------------------ the list of them */

static struct entry **find(struct expiries *e, const char *id) {
    struct entry **at = &e->first;

    while (*at && strcmp((*at)->id, id) != 0)
        at = &(*at)->next;
    return at;
}

static void drop(struct entry **at) {
    struct entry *gone = *at;

    if (gone) {
        *at = gone->next;
        free(gone);
    }
}

static void tick(void *opaque);

static void arm(struct expiries *e) {
    int64_t now = units_now_ms(), wait = LOOK_MS;

    for (const struct entry *n = e->first; n; n = n->next)
        if (n->due - now < wait)
            wait = n->due - now;
    if (e->first)
        timer_start(e->m->timers, &e->timer, wait < 1 ? 1 : wait, tick, e);
    else
        timer_stop(&e->timer);
}

static void note_due(struct expiries *e, const char *id, int64_t due) {
    struct entry **at = find(e, id);

    if (!due) {
        drop(at);
        return;
    }
    if (!*at) {
        *at = calloc(1, sizeof(**at));
        if (!*at)
            abort();
        snprintf((*at)->id, sizeof((*at)->id), "%s", id);
    }
    (*at)->due = due;
}

static void look(struct expiries *e, const char *id) {
    struct store_row row = {0};
    int r = store_get(e->m->store, "vm", id, &row);

    if (r == 0)
        note_due(e, id, step(e, &row, units_now_ms()));
    else if (r == -ENOENT)
        drop(find(e, id));
    store_row_done(&row);
}

void expiries_look(struct expiries *e, const char *id) {
    look(e, id);
    arm(e);
}

static void shift_one(struct expiries *e, const char *id, int64_t jump) {
    struct store_row row = {0};
    struct error err = {0};

    if (store_get(e->m->store, "vm", id, &row) == 0) {
        expiry_shift(&row, jump);
        if (manager_event(e->m, &row, "clock", &err,
                          "the host's clock was set by %lld s: when it expires moves along",
                          (long long)jump / 1000) < 0 ||
            store_update(e->m->store, &row, &err) < 0)
            log_error("%s: %s", id, err.text);
    }
    store_row_done(&row);
}

/* Moves all times if the clock was set, in one transaction with the new clock. */
static bool look_at_clock(struct expiries *e) {
    struct expiry_clock now = read_clock(), before = e->clock;
    int64_t jump = expiry_jump(&before, &now);
    struct error err = {0};

    if (!jump && now.wall - before.wall < LOOK_MS / 2 && !strcmp(now.boot, before.boot))
        return true;
    if (store_begin(e->m->store, jump ? STORE_PROMISE : STORE_NOTE, &err) < 0)
        return false;
    for (const struct entry *n = e->first; n && jump; n = n->next)
        shift_one(e, n->id, jump);
    e->clock = now;
    if (put_clock(e, &err) < 0)
        store_rollback(e->m->store);
    else if (store_commit(e->m->store, &err) == 0)
        return true;
    e->clock = before;
    log_error("expiring machines: %s", err.text);
    return false;
}

static void tick(void *opaque) {
    struct expiries *e = opaque;
    int64_t now = units_now_ms();
    char id[STORE_WORD];

    if (!look_at_clock(e)) {
        timer_start(e->m->timers, &e->timer, BUSY_MS, tick, e);
        return;
    }
    for (struct entry *n = e->first; n;) {
        struct entry *next = n->next;

        snprintf(id, sizeof(id), "%s", n->id);
        if (n->due <= now)
            look(e, id); /* may free n, but no other */
        n = next;
    }
    arm(e);
}

/* ------------------------------------------------------------------ use */

void expiries_used(struct expiries *e, const struct store_row *vm) {
    int64_t now = units_now_ms(), at = row_number(vm->wanted, "used_at");
    struct store_row row = {0};
    struct error err = {0};

    if (!at || llabs(now - at) < FRESH_MS || store_get(e->m->store, "vm", vm->id, &row) < 0)
        return;
    expiry_used(&row, now);
    if (store_begin(e->m->store, STORE_NOTE, &err) == 0) {
        if (store_update(e->m->store, &row, &err) < 0)
            store_rollback(e->m->store);
        else
            store_commit(e->m->store, &err);
    }
    store_row_done(&row);
}

/* ------------------------------------------------------------------ beginning and end */

struct expiries *expiries_new(struct manager *m) {
    struct expiries *e = calloc(1, sizeof(*e));

    if (e)
        e->m = m;
    return e;
}

static bool note_row(void *opaque, const struct store_text *t) {
    struct expiries *e = opaque;

    if (strstr(t->spec, "\"expire"))
        note_due(e, t->id, 1); /* all are looked at, once the clock was */
    return true;
}

void expiries_load(struct expiries *e) {
    struct store_query clock = {.kind = "clock", .limit = 1}, all = {.kind = "vm"};

    store_list(e->m->store, &clock, take_clock, e);
    store_list(e->m->store, &all, note_row, e);
    arm(e);
}

void expiries_free(struct expiries *e) {
    if (!e)
        return;
    timer_stop(&e->timer);
    while (e->first)
        drop(&e->first);
    free(e);
}
