/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Callers that wait for a state of a resource: looked at again after each change of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/api.h"

enum { MOST = 200 };

struct wait {
    struct waits *all;
    struct wait *next, **link;
    struct http_exchange *x;
    char kind[STORE_WORD], id[STORE_WORD], name[STORE_WORD], word[STORE_WORD];
    int64_t number, seconds;
    enum wait_result (*over)(const struct store_row *row, const char *word, int64_t number);
    struct store_row last; /* what is answered when it is gone and that was waited for */
    struct timer timer;
};

struct waits {
    struct manager *m;
    struct wait *first;
    unsigned count;
};

struct waits *waits_new(struct manager *m) {
    struct waits *w = calloc(1, sizeof(*w));

    if (w)
        w->m = m;
    return w;
}

unsigned waits_count(const struct waits *w) { return w->count; }

static void free_wait(struct wait *w) {
    timer_stop(&w->timer);
    store_row_done(&w->last);
    free(w);
}

static void forget(struct wait *w) {
    *w->link = w->next;
    if (w->next)
        w->next->link = w->link;
    w->all->count--;
    free_wait(w);
}

void waits_free(struct waits *all) {
    struct wait *next;

    for (struct wait *w = all ? all->first : NULL; w; w = next) {
        next = w->next;
        free_wait(w);
    }
    free(all);
}

static void gone(void *opaque) { forget(opaque); }

static void fail(struct wait *w, enum failure kind, const char *reason, const char *remedy) {
    struct api_failure f = {.kind = kind};

    snprintf(f.reason, sizeof(f.reason), "%s", reason);
    snprintf(f.remedy, sizeof(f.remedy), "%s", remedy);
    api_send_failure(w->x, &f);
    forget(w);
}

static void time_over(void *opaque) {
    struct wait *w = opaque;
    struct store_row row = {0};
    char reason[400];

    if (store_get(w->all->m->store, w->kind, w->id, &row) == 0)
        snprintf(reason, sizeof(reason), "'%s' is still %s after %lld s", w->name,
                 row_text(row.status, "state"), (long long)w->seconds);
    else
        snprintf(reason, sizeof(reason), "'%s' is gone", w->name);
    store_row_done(&row);
    fail(w, FAILURE_TIMEOUT, reason, "wait longer with timeout=");
}

/* Answers if there is something to say. */
static void look(struct wait *w) {
    struct store_row row = {0};
    char reason[200];
    int r = store_get(w->all->m->store, w->kind, w->id, &row);

    if (r < 0) {
        snprintf(reason, sizeof(reason), "'%s' was deleted", w->name);
        if (w->over(NULL, w->word, w->number) == WAIT_MORE) {
            fail(w, FAILURE_NOT_FOUND, reason, "");
            return;
        }
        api_send_row(w->x, 200, &w->last);
        forget(w);
        return;
    }
    if (w->over(&row, w->word, w->number) == WAIT_OVER) {
        api_send_row(w->x, 200, &row);
        forget(w);
    }
    store_row_done(&row);
}

int wait_begin(struct api_call *call,
               enum wait_result (*over)(const struct store_row *row, const char *word,
                                        int64_t number),
               const char *word, int64_t number, int64_t seconds) {
    struct waits *all = call->m->waits;
    struct wait *w;

    if (over(&call->row, word, number) == WAIT_OVER)
        return 0;
    if (all->count >= MOST)
        return api_fail(call, FAILURE_LIMIT, "", "follow the events instead",
                        "%d callers wait already", MOST);
    w = calloc(1, sizeof(*w));
    if (!w)
        return api_fail(call, FAILURE_FAILED, "", "", "out of memory");
    *w = (struct wait){.all = all,
                       .next = all->first,
                       .link = &all->first,
                       .x = call->x,
                       .number = number,
                       .seconds = seconds,
                       .over = over};
    snprintf(w->kind, sizeof(w->kind), "%s", call->row.kind);
    snprintf(w->id, sizeof(w->id), "%s", call->row.id);
    snprintf(w->name, sizeof(w->name), "%s", call->row.name);
    snprintf(w->word, sizeof(w->word), "%s", word);
    w->last = call->row; /* its objects are ours now */
    call->row = (struct store_row){0};
    if (w->next)
        w->next->link = &w->next;
    all->first = w;
    all->count++;
    http_set_gone(w->x, gone, w);
    timer_start(call->m->timers, &w->timer, seconds * 1000, time_over, w);
    return 1;
}

void waits_look(struct waits *all, const char *kind, const char *id) {
    struct wait *next;

    for (struct wait *w = all->first; w; w = next) {
        next = w->next;
        if (!strcmp(w->kind, kind) && !strcmp(w->id, id))
            look(w);
    }
}
