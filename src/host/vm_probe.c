/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is there an agent in a guest, and what are the guest's addresses?
 *
 * It is asked when it knocks (vm_knock.c). One that does not is asked after a start at times that
 * double, for some minutes or until it has answered; then only when somebody asks, so that an idle
 * guest stays idle.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "host/vm_agent.h"

enum {
    FIRST_MS = 500, /* doubled up to the next */
    SLOW_MS = 16000,
    PATIENCE_MS = 5 * 60 * 1000,
    ANSWER_MS = 3000,
    FRESH_MS = 5000, /* what is younger is not asked for again */
    WANTED_MS = 20,  /* while somebody waits for it: that, or a share of the time since the start */
    WANTED_MOST_MS = 500,
    WANTED_SHARE = 16,
    FOREVER_MS = INT32_MAX,
    MOST_ADDRESSES = 32,
};

struct vm_probe {
    struct manager *m;
    char id[STORE_WORD];
    struct timer timer;
    struct vm_agent *ask;
    struct vm_agent *command; /* asked for the exit code of the guest's command */
    struct vm_knock *knock;
    bool knocked;                                             /* while it was being asked */
    int64_t interval, started, until, wanted_until, answered; /* by the monotonic clock */
};

static void ask(void *opaque);

static int64_t soon(const struct vm_probe *p, int64_t now) {
    int64_t ms = (now - p->started) / WANTED_SHARE;

    return ms < WANTED_MS ? WANTED_MS : ms > WANTED_MOST_MS ? WANTED_MOST_MS : ms;
}

static void next(struct vm_probe *p) {
    int64_t now = timer_now_ms();
    bool wanted = now < p->wanted_until;

    if (p->answered || p->ask || (now > p->until && !wanted))
        return;
    timer_start(p->m->timers, &p->timer, wanted ? soon(p, now) : p->interval, ask, p);
    if (!wanted)
        p->interval = p->interval * 2 < SLOW_MS ? p->interval * 2 : SLOW_MS;
}

/* Addresses that others can reach, as one array of words; all that a guest says is checked. */
static json_t *addresses_of(const json_t *answer) {
    const json_t *interfaces = json_object_get(answer, "interfaces"), *one, *list, *word;
    json_t *out = json_array();
    size_t i, k;

    json_array_foreach(interfaces, i, one) {
        list = json_object_get(one, "addresses");
        if (!strcmp(row_text(one, "name"), "lo"))
            continue;
        json_array_foreach(list, k, word) {
            const char *s = json_string_value(word);

            if (s && *s && strlen(s) < 46 && strspn(s, "0123456789abcdef.:") == strlen(s) &&
                json_array_size(out) < MOST_ADDRESSES)
                json_array_append_new(out, json_string(s));
        }
    }
    return out;
}

static void set_words(json_t *status, const char *name, const json_t *answer, const char *member) {
    const char *s = row_text(answer, member);

    row_set_text(status, name, *s && strlen(s) <= 200 ? s : NULL);
}

/* True if that is news. */
static bool put(struct store_row *row, const json_t *answer) {
    json_t *before = json_copy(row->status);
    bool same;

    set_words(row->status, "agent", answer, "agent");
    if (!*row_text(row->status, "agent"))
        row_set_text(row->status, "agent", "unknown");
    set_words(row->status, "system", answer, "system");
    set_words(row->status, "calls_itself", answer, "hostname");
    json_object_set_new(row->status, "addresses", addresses_of(answer));
    same = json_equal(before, row->status);
    json_decref(before);
    return !same;
}

void vm_probe_unset(struct store_row *row) {
    row_unset(row->status, "agent");
    row_unset(row->status, "system");
    row_unset(row->status, "calls_itself");
    row_unset(row->status, "addresses");
}

static void save(struct vm_probe *p, const json_t *answer) {
    struct store *s = p->m->store;
    struct store_row row = {0};
    struct error e = {0};
    bool first;

    if (store_get(s, "vm", p->id, &row) < 0)
        return;
    first = !*row_text(row.status, "agent");
    if (put(&row, answer) && store_begin(s, STORE_NOTE, &e) == 0) {
        if ((first && manager_event(p->m, &row, "ready", &e, "its agent answers") < 0) ||
            store_update(s, &row, &e) < 0)
            store_rollback(s);
        else
            store_commit(s, &e);
    }
    if (e.code)
        log_line_about(LOG_LEVEL_ERROR, "vm", p->id, "%s", e.text);
    store_row_done(&row);
}

/* The command that an OCI image is there for has ended. */
static void command_ended(void *opaque, int fd, const json_t *answer, const struct error *err) {
    struct vm_probe *p = opaque;
    struct store *s = p->m->store;
    struct store_row row = {0};
    struct error e = {0};
    int64_t code = row_number(answer, "code");

    p->command = NULL;
    if (!answer || code < 0 || code > 255 || store_get(s, "vm", p->id, &row) < 0)
        return;
    row_set_number(row.status, "command_exit", code);
    if (store_begin(s, STORE_NOTE, &e) == 0) {
        if (manager_event(p->m, &row, "command-ended", &e,
                          "its command has ended with exit code %lld", (long long)code) < 0 ||
            store_update(s, &row, &e) < 0)
            store_rollback(s);
        else
            store_commit(s, &e);
    }
    if (e.code)
        log_error("%s: %s", p->id, e.text);
    store_row_done(&row);
}

static void answered(void *opaque, int fd, const json_t *answer, const struct error *err) {
    struct vm_probe *p = opaque;

    bool again = p->knocked && !answer;

    p->ask = NULL;
    p->knocked = false;
    if (again) {
        ask(p);
    } else if (answer) {
        p->answered = timer_now_ms();
        save(p, answer);
        if (row_flag(answer, "command") && !p->command)
            p->command = vm_agent_ask(p->m, p->id, json_pack("{s:s}", "do", "main"), FOREVER_MS,
                                      command_ended, p, NULL);
    } else {
        next(p);
    }
}

static void ask(void *opaque) {
    struct vm_probe *p = opaque;

    if (p->ask)
        return;
    p->ask =
        vm_agent_ask(p->m, p->id, json_pack("{s:s}", "do", "info"), ANSWER_MS, answered, p, NULL);
    if (!p->ask)
        next(p);
}

static void knocked(void *opaque) {
    struct vm_probe *p = opaque;

    p->knocked = p->ask != NULL;
    ask(p);
}

struct vm_probe *vm_probe_new(struct manager *m, const char *id) {
    struct vm_probe *p = calloc(1, sizeof(*p));

    if (!p)
        abort();
    p->m = m;
    snprintf(p->id, sizeof(p->id), "%s", id);
    p->knock = vm_knock_new(m, id, knocked, p);
    vm_probe_rebooted(p);
    return p;
}

void vm_probe_free(struct vm_probe *p) {
    if (!p)
        return;
    timer_stop(&p->timer);
    vm_knock_free(p->knock);
    vm_agent_cancel(p->ask);
    vm_agent_cancel(p->command);
    free(p);
}

void vm_probe_wanted(struct vm_probe *p, int64_t seconds) {
    int64_t now = timer_now_ms();

    if (p->answered && now - p->answered < FRESH_MS)
        return;
    if (now + seconds * 1000 > p->wanted_until)
        p->wanted_until = now + seconds * 1000;
    ask(p);
}

void vm_probe_rebooted(struct vm_probe *p) {
    p->answered = 0;
    p->interval = FIRST_MS;
    p->started = timer_now_ms();
    p->until = p->started + PATIENCE_MS;
    next(p);
}
