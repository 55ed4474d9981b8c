/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What viv-vm can change of a machine that runs by a command each: brought to what its row wants.
 *
 * Each field is looked at by itself: it is as wanted, or viv-vm is told, or it is said in
 * status.pending when it will be. What was told once in a connection is not told again, whatever
 * the answer was.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/vm_control.h"
#include "host/vm_hardware.h"
#include "host/vm_impl.h"
#include "host/vm_pending.h"
#include "proto/units.h"

enum { AGAIN_MS = 3000, TEXT = 400, BALLOON_GRAIN = 4096, MEMORY_GRAIN = 2 << 20, WORD = 20 };
#define EVERYTHING (INT64_MAX / 2)

enum verdict {
    SAME,  /* as wanted */
    TELL,  /* viv-vm can make it so */
    WAIT,  /* it was told, and the guest takes its time: `text` */
    LATER, /* `text` says when */
};

struct live {
    const char *field, *command, *argument; /* NULL: its value is all of them */
    enum verdict (*look)(const struct machine *v, const struct store_row *row, bool told,
                         char text[TEXT]);
    json_t *(*value)(const struct store_row *row);
};

static bool near(int64_t a, int64_t b, int64_t grain) { return llabs(a - b) < grain; }

/* ------------------------------------------------------------------ balloon */

/* Of an older viv-vm, which does not change it. */
static int64_t or_all(const struct machine *v, const char *name) {
    int64_t n = row_number(v->live, name);

    return n ? n : row_number(v->live, "memory");
}

static json_t *balloon_value(const struct store_row *row) {
    int64_t want = row_number(row->spec, "balloon");

    return json_integer(want ? want : EVERYTHING);
}

static enum verdict look_at_balloon(const struct machine *v, const struct store_row *row, bool told,
                                    char text[TEXT]) {
    int64_t want = row_number(row->spec, "balloon"), all = or_all(v, "memory_plugged_bytes");
    const json_t *balloon = json_object_get(v->live, "balloon");

    if (!balloon && want && want < all) {
        snprintf(text, TEXT, PENDING_START ": it was started without a balloon");
        return LATER;
    }
    if (!want || want > all)
        want = all;
    return !balloon || told || near(row_number(balloon, "target"), want, BALLOON_GRAIN) ? SAME
                                                                                        : TELL;
}

/* ------------------------------------------------------------------ processors and memory */

static json_t *cpus_value(const struct store_row *row) {
    return json_integer(row_number(row->spec, "cpus"));
}

static enum verdict look_at_cpus(const struct machine *v, const struct store_row *row, bool told,
                                 char text[TEXT]) {
    int64_t want = row_number(row->spec, "cpus"), has = row_number(v->live, "cpus");
    int64_t max = row_number(v->live, "cpus_max");

    if (want == has)
        return SAME;
    if (want > (max ? max : has)) {
        snprintf(text, TEXT,
                 "%lld processors " PENDING_START ": it was started with at most %lld (cpus_max)",
                 (long long)want, (long long)(max ? max : has));
        return LATER;
    }
    snprintf(text, TEXT, "the guest has %lld processors so far", (long long)has);
    return told ? WAIT : TELL;
}

static json_t *memory_value(const struct store_row *row) {
    return json_integer(row_number(row->spec, "memory"));
}

static enum verdict look_at_memory(const struct machine *v, const struct store_row *row, bool told,
                                   char text[TEXT]) {
    int64_t want = row_number(row->spec, "memory"), start = row_number(v->live, "memory");
    int64_t has = or_all(v, "memory_plugged_bytes"), max = or_all(v, "memory_max_bytes");
    char wanted[WORD], other[WORD];

    units_put_size(want, wanted, sizeof(wanted));
    units_put_size(want > max ? max : want < start ? start : has, other, sizeof(other));
    if (near(has, want, MEMORY_GRAIN))
        return near(or_all(v, "memory_bytes"), want, MEMORY_GRAIN) || told ? SAME : TELL;
    if (want > max || want < start) {
        snprintf(text, TEXT, "%s " PENDING_START ": it was started with %s %s%s", wanted,
                 want > max ? "at most" : "no less than", other,
                 want > max ? " (memory_max)" : "; a balloon takes some of it at once");
        return LATER;
    }
    snprintf(text, TEXT, "the guest has %s of memory so far", other);
    return told ? WAIT : TELL;
}

/* ------------------------------------------------------------------ boot order */

static json_t *boot_value(const struct store_row *row) { return hardware_boot_args(row->spec); }

/* viv-vm does not tell the order: only what was changed is told to it. */
static enum verdict look_at_boot(const struct machine *v, const struct store_row *row, bool told,
                                 char text[TEXT]) {
    const char *by = row_text(row->status, "boots_by");
    bool changed = json_object_get(json_object_get(row->status, "pending"), "boot");

    return !changed || told || !strcmp(by, "kernel") ? SAME : TELL;
}

/* ------------------------------------------------------------------ the table */

static const struct live lives[] = {
    {"cpus", "cpus-set", "cpus", look_at_cpus, cpus_value},
    {"memory", "memory-set", "bytes", look_at_memory, memory_value},
    {"balloon", "balloon-set", "bytes", look_at_balloon, balloon_value},
    {"boot", "boot-order-set", NULL, look_at_boot, boot_value},
};
enum { LIVES = sizeof(lives) / sizeof(lives[0]) };

/* ------------------------------------------------------------------ told by viv-vm */

bool machine_live_is(const char *command) {
    for (unsigned i = 0; i < LIVES; i++)
        if (!strcmp(lives[i].command, command))
            return true;
    return false;
}

void machine_live_seen(struct machine *v, const json_t *status) {
    json_decref(v->live);
    v->live = json_incref((json_t *)status);
    v->live_asked = NULL;
    machine_kick(v);
}

void machine_live_lost(struct machine *v) {
    json_decref(v->live);
    json_decref(v->live_told);
    json_decref(v->live_refused);
    v->live = v->live_told = v->live_refused = NULL;
    v->live_asked = NULL;
    v->live_again = 0;
}

void machine_live_answered(struct machine *v, const char *why) {
    if (v->live_asked)
        row_set_text(v->live_refused, v->live_asked, why);
    v->live_asked = NULL;
    if (v->control)
        vm_control_send(v->control, "status"); /* which says what there is now */
}

/* ------------------------------------------------------------------ steps */

static void tell(struct machine *v, const struct live *l, json_t *value) {
    if (!v->live_told) {
        v->live_told = json_object();
        v->live_refused = json_object();
    }
    json_object_set(v->live_told, l->field, value);
    v->live_asked = l->field;
    vm_control_send_args(v->control, l->command,
                         l->argument ? json_pack("{s:O}", l->argument, value) : json_incref(value));
}

/* True: viv-vm was asked. */
static bool step(struct machine *v, const struct live *l, struct store_row *row, bool *news,
                 bool *waits) {
    json_t *value = l->value(row);
    bool told = json_equal(value, json_object_get(v->live_told, l->field));
    const char *refused = row_text(v->live_refused, l->field);
    char text[TEXT] = "";
    enum verdict is;

    if (told && *refused) {
        snprintf(text, sizeof(text), PENDING_START ": %.300s", refused);
        is = LATER;
    } else {
        is = l->look(v, row, told, text);
    }
    if (is == TELL)
        tell(v, l, value);
    else
        *news |= pending_note(row, "pending", l->field, is == SAME ? NULL : text);
    *waits |= is == WAIT;
    json_decref(value);
    return is == TELL;
}

/* What executes the guest: chosen at its start, and software after KVM has failed. */
static bool note_cpu(const struct machine *v, struct store_row *row) {
    const char *used = row_text(v->live, "cpu"), *why = row_text(v->live, "cpu_why");

    if (!*used || strlen(why) > 400 ||
        (!strcmp(used, row_text(row->status, "cpu_used")) &&
         !strcmp(why, row_text(row->status, "cpu_why"))))
        return false;
    row_set_text(row->status, "cpu_used", used);
    row_set_text(row->status, "cpu_why", *why ? why : NULL);
    return true;
}

void machine_step_live(struct machine *v, struct store_row *row) {
    int64_t now = timer_now_ms();
    bool news = v->live && note_cpu(v, row), waits = false;

    if (!v->live || v->live_asked || v->paused) {
        if (news && row_number(row->wanted, "launched") == v->process.cycle)
            machine_save_row(v, row, STORE_NOTE, NULL, NULL);
        return;
    }
    for (unsigned i = 0; i < LIVES; i++)
        if (step(v, &lives[i], row, &news, &waits))
            break;
    if (news && row_number(row->wanted, "launched") ==
                    v->process.cycle) /* who follows the events looks at the row again */
        machine_save_row(v, row, STORE_NOTE, "changed", "what it has of its spec has changed");
    /* What the guest does by itself is looked at again while somebody waits for it. */
    if (!waits || v->live_asked)
        return;
    machine_again_in(v, AGAIN_MS);
    if (now - v->live_again < AGAIN_MS)
        return;
    v->live_again = now;
    vm_control_send(v->control, "status");
}
