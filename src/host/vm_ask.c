/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/vm_ask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/loop.h"
#include "host/vm.h"
#include "proto/client.h"
#include "proto/control.h"

enum { MOST = 64, PATIENCE_MS = 10000 };

struct ask {
    struct vm_asks *all;
    struct ask *next, **link;
    struct http_exchange *x;
    struct client *client;
    struct loop_watch *watch;
    struct timer timer;
    const char *command;
    json_t *args;
    vm_answer_fn *answer;
    bool greeted;
    char name[STORE_WORD];
};

struct vm_asks {
    struct manager *m;
    struct ask *first;
    unsigned count;
};

struct vm_asks *vm_asks_new(struct manager *m) {
    struct vm_asks *all = calloc(1, sizeof(*all));

    if (all)
        all->m = m;
    return all;
}

static void forget(struct ask *a) {
    *a->link = a->next;
    if (a->next)
        a->next->link = a->link;
    a->all->count--;
    timer_stop(&a->timer);
    loop_remove(a->watch);
    client_close(a->client);
    json_decref(a->args);
    free(a);
}

void vm_asks_free(struct vm_asks *all) {
    struct ask *a;

    while (all && (a = all->first)) {
        all->first = a->next;
        forget(a);
    }
    free(all);
}

static void gone(void *opaque) { forget(opaque); }

static void fail(struct ask *a, enum failure kind, const char *field, const char *why) {
    struct http_exchange *x = a->x;
    struct api_failure f = {.kind = kind};

    snprintf(f.field, sizeof(f.field), "%s", field);
    snprintf(f.reason, sizeof(f.reason), "'%s': %.500s", a->name, why);
    forget(a);
    api_send_failure(x, &f);
}

static void time_over(void *opaque) {
    fail(opaque, FAILURE_TIMEOUT, "", "its process does not answer");
}

static void take_answer(struct ask *a, const json_t *m) {
    const json_t *error = json_object_get(m, "error"), *result = json_object_get(m, "result");
    const char *kind = row_text(error, "kind");
    struct http_exchange *x = a->x;
    vm_answer_fn *answer = a->answer;

    if (error) {
        fail(a,
             !strcmp(kind, "invalid")   ? FAILURE_INVALID
             : !strcmp(kind, "refused") ? FAILURE_CONFLICT
                                        : FAILURE_FAILED,
             "", row_text(error, "text"));
        return;
    }
    forget(a);
    answer(x, result);
}

/* True: it goes on. */
static bool take_message(struct ask *a, const json_t *m) {
    struct error e = {0};
    json_t *args;

    if (a->greeted && json_object_get(m, "event"))
        return true;
    if (a->greeted) {
        take_answer(a, m);
        return false;
    }
    a->greeted = json_integer_value(json_object_get(m, "protocol")) == CONTROL_PROTOCOL;
    args = a->args;
    a->args = NULL;
    if (a->greeted && client_send(a->client, a->command, args, 0, &e) >= 0)
        return true;
    fail(a, FAILURE_CONFLICT, "status.state", *e.text ? e.text : "it is of another version");
    return false;
}

static void ready(void *opaque, int fd, uint32_t events) {
    struct ask *a = opaque;
    struct error e = {0};
    bool more = true;

    while (more) {
        json_t *m = NULL;
        int r = client_receive(a->client, 0, &m, &e);

        if (r < 0)
            fail(a, FAILURE_CONFLICT, "status.state", "it has just ended");
        more = r > 0 && take_message(a, m);
        json_decref(m);
    }
}

static struct ask *open_ask(struct api_call *call, struct error *err) {
    struct ask *a = calloc(1, sizeof(*a));
    char path[160];

    if (!a)
        abort();
    machine_path(call->m, call->row.id, "control", path, sizeof(path));
    a->client = client_begin(path, NULL, NULL, 0, err);
    if (a->client)
        a->watch = loop_add(call->m->loop, client_fd(a->client), EPOLLIN, ready, a);
    if (a->watch)
        return a;
    client_close(a->client);
    free(a);
    return NULL;
}

int vm_ask(struct api_call *call, const char *command, json_t *args, vm_answer_fn *answer) {
    struct vm_asks *all = call->m->asks;
    struct error e = {0};
    struct ask *a = all->count < MOST ? open_ask(call, &e) : NULL;

    if (!a) {
        json_decref(args);
        if (all->count >= MOST)
            return api_fail(call, FAILURE_LIMIT, "", "wait for some of them",
                            "%d questions to machines are open already", MOST);
        return api_fail(call, FAILURE_CONFLICT, "status.state", "start it first",
                        "'%s' is %s and cannot be asked", call->row.name,
                        row_text(call->row.status, "state"));
    }
    a->all = all;
    a->x = call->x;
    a->command = command;
    a->args = args;
    a->answer = answer;
    snprintf(a->name, sizeof(a->name), "%s", call->row.name);
    a->next = all->first;
    a->link = &all->first;
    if (a->next)
        a->next->link = &a->next;
    all->first = a;
    all->count++;
    http_set_gone(call->x, gone, a);
    timer_start(call->m->timers, &a->timer, PATIENCE_MS, time_over, a);
    return 1;
}
