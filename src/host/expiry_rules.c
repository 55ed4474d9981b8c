/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When machines expire, and what comes next. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/expiry.h"
#include "proto/units.h"

#define DAY_MS (24 * 3600 * 1000ll)
enum { LEAD_PART = 4, JUMP_MS = 5000 };

/* 0: never. */
static int64_t span(const struct store_row *vm, const char *field) {
    int64_t ms = 0;

    return units_read_span(row_text(vm->spec, field), &ms, NULL) < 0 ? 0 : ms;
}

static void set_or_unset(json_t *object, const char *name, int64_t value) {
    if (value)
        row_set_number(object, name, value);
    else
        row_unset(object, name);
}

void expiry_begin(struct store_row *vm, int64_t now) {
    int64_t ms = span(vm, "expire");

    set_or_unset(vm->wanted, "expire_at", ms ? now + ms : 0);
    expiry_used(vm, now);
}

void expiry_used(struct store_row *vm, int64_t now) {
    set_or_unset(vm->wanted, "used_at", span(vm, "expire_unused") ? now : 0);
}

bool expiry_archived(const struct store_row *vm) { return row_flag(vm->status, "archived"); }

/* When it expires, by the field that comes first; *ret_span is its length. 0: never. */
static int64_t deadline(const struct store_row *vm, int64_t *ret_span) {
    int64_t at = row_number(vm->wanted, "expire_at"), unused = span(vm, "expire_unused");
    int64_t other = unused ? row_number(vm->wanted, "used_at") + unused : 0;

    *ret_span = span(vm, "expire");
    if (!at || (other && other < at)) {
        *ret_span = unused;
        at = other;
    }
    return at;
}

static int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }

static bool forget(struct store_row *vm) {
    bool any = row_number(vm->wanted, "warned_at") || row_number(vm->wanted, "archived_at");

    row_unset(vm->wanted, "warned_at");
    row_unset(vm->wanted, "archived_at");
    row_unset(vm->status, "archived");
    row_unset(vm->status, "deleted_at");
    return any;
}

static enum expiry_step decide_archived(const struct store_row *vm, int64_t length, int64_t now,
                                        int64_t *ret_due) {
    *ret_due = row_number(vm->wanted, "archived_at") + at_most(length, 7 * DAY_MS);
    return now >= *ret_due ? EXPIRY_DELETE : EXPIRY_LATER;
}

static enum expiry_step archive(struct store_row *vm, int64_t length, int64_t now) {
    row_set_number(vm->wanted, "archived_at", now);
    json_object_set_new(vm->status, "archived", json_true());
    row_set_time(vm->status, "deleted_at", now + at_most(length, 7 * DAY_MS));
    return EXPIRY_ARCHIVE;
}

enum expiry_step expiry_decide(struct store_row *vm, int64_t now, int64_t *ret_due) {
    int64_t length = 0, at = deadline(vm, &length), lead = at_most(length / LEAD_PART, DAY_MS);
    int64_t warned = row_number(vm->wanted, "warned_at"), stop;

    if (!at || now < at - lead) { /* not yet, or not any more */
        *ret_due = at - lead;
        row_set_text(vm->status, "expires", NULL);
        if (at)
            row_set_time(vm->status, "expires", at);
        return forget(vm) ? EXPIRY_KEEP : at ? EXPIRY_LATER : EXPIRY_NEVER;
    }
    if (row_number(vm->wanted, "archived_at"))
        return decide_archived(vm, length, now, ret_due);
    if (!warned) {
        row_set_number(vm->wanted, "warned_at", now);
        row_set_time(vm->status, "expires", at > now + lead / 2 ? at : now + lead / 2);
        return EXPIRY_WARN;
    }
    stop = at > warned + lead / 2 ? at : warned + lead / 2; /* there was time to read it */
    *ret_due = stop;
    return now < stop ? EXPIRY_LATER : archive(vm, length, now);
}

void expiry_shift(struct store_row *vm, int64_t ms) {
    static const char *const times[] = {"expire_at", "used_at", "warned_at", "archived_at"};
    static const char *const shown[] = {"expires", "deleted_at"};

    for (unsigned i = 0; i < sizeof(times) / sizeof(times[0]); i++)
        if (row_number(vm->wanted, times[i]))
            row_set_number(vm->wanted, times[i], row_number(vm->wanted, times[i]) + ms);
    for (unsigned i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
        int64_t at;

        if (units_read_time(row_text(vm->status, shown[i]), &at, NULL) == 0)
            row_set_time(vm->status, shown[i], at + ms);
    }
}

int64_t expiry_jump(const struct expiry_clock *before, const struct expiry_clock *now) {
    int64_t jump = now->wall - before->wall;

    if (!*before->boot)
        return 0;
    if (!strcmp(before->boot, now->boot))
        jump -= now->since - before->since;
    else if (jump > 0) /* the host was off for so long, as far as anybody knows */
        jump = 0;
    return llabs(jump) > JUMP_MS ? jump : 0;
}
