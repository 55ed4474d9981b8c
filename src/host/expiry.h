/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Machines that expire: some time after they were made or last extended (spec.expire), or after
 * they were last used (spec.expire_unused). One that does is told of in an event, then stopped and
 * archived: its disk stays for a grace time. Then it is deleted. An edit of either extends it, also
 * when it is archived.
 *
 * Members of a machine's `wanted`, all ms since 1970:
 *   expire_at, used_at   when it expires; when it was last used
 *   warned_at            when it was told of
 *   archived_at          when it was archived
 *
 * Times are those of the wall clock, which may be set. expiry_jump finds that out by the clock that
 * counts from the host's boot, and all times are moved along, so that what is left stays the same.
 * What a host says that has just begun, with a clock that is wrong, is believed; but between the
 * warning, the archive and the end there are always the times that there should be.
 *
 * Contract: the loop's thread; the rules touch nothing but their arguments.
 */
#ifndef HOST_EXPIRY_H
#define HOST_EXPIRY_H

#include "host/manager.h"

/* ---- rules ---- */

enum expiry_step {
    EXPIRY_NEVER,   /* nothing is ever due; the row is as it should be */
    EXPIRY_LATER,   /* at *ret_due */
    EXPIRY_WARN,    /* the row says so now; it is to be saved, with an event */
    EXPIRY_ARCHIVE, /* the same; its process is to be stopped */
    EXPIRY_KEEP,    /* it was extended: the row has lost what was said of its end */
    EXPIRY_DELETE,
};

/* It was made, or its fields were changed: its time begins anew. */
void expiry_begin(struct store_row *vm, int64_t now);
void expiry_used(struct store_row *vm, int64_t now);
bool expiry_archived(const struct store_row *vm);
/* What is to be done; the row's status and wanted are changed accordingly. */
enum expiry_step expiry_decide(struct store_row *vm, int64_t now, int64_t *ret_due);
/* The clock was set forward by so many ms. */
void expiry_shift(struct store_row *vm, int64_t ms);

struct expiry_clock {
    char boot[40]; /* names the time since the host began, in which `since` counts */
    int64_t since, wall;
};

/* By how much the wall clock was set between the two, 0: not worth a word. */
int64_t expiry_jump(const struct expiry_clock *before, const struct expiry_clock *now);

/* ---- the controller ---- */

struct expiries;

struct expiries *expiries_new(struct manager *m);
void expiries_load(struct expiries *e);
void expiries_free(struct expiries *e); /* accepts NULL */
/* The row has changed. */
void expiries_look(struct expiries *e, const char *id);
/* Somebody uses a machine without changing it. */
void expiries_used(struct expiries *e, const struct store_row *vm);

#endif
