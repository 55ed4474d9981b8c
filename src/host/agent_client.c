/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Callers of the API that become clients of a guest's agent: permission was checked once, then the
 * bytes go to and fro. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "host/api.h"
#include "host/relay.h"
#include "host/vm_agent.h"

enum { MOST_CLIENTS = 64, CONNECT_MS = 5000 };

struct arrival { /* a call whose connection to the agent is being made */
    struct agent_clients *all;
    struct arrival *next, **link;
    struct http_exchange *x;
    struct vm_agent *agent;
};

struct agent_clients {
    struct manager *m;
    struct relays *relays;
    struct arrival *first;
    unsigned arrivals;
};

struct agent_clients *agent_clients_new(struct manager *m) {
    struct agent_clients *c = calloc(1, sizeof(*c));

    if (!c)
        return NULL;
    c->m = m;
    c->relays = relays_new(m->loop);
    if (c->relays)
        return c;
    free(c);
    return NULL;
}

unsigned agent_clients_count(const struct agent_clients *c) {
    return relays_count(c->relays) + c->arrivals;
}

static void forget(struct arrival *a) {
    *a->link = a->next;
    if (a->next)
        a->next->link = a->link;
    a->all->arrivals--;
    vm_agent_cancel(a->agent);
    free(a);
}

void agent_clients_free(struct agent_clients *c) {
    struct arrival *a;

    while (c && (a = c->first)) {
        c->first = a->next;
        forget(a);
    }
    if (c)
        relays_free(c->relays);
    free(c);
}

static void gone(void *opaque) { forget(opaque); }

static void connected(void *opaque, int fd, const json_t *unused, const struct error *err) {
    struct arrival *a = opaque;
    struct relays *relays = a->all->relays;
    struct http_exchange *x = a->x;
    struct api_failure f = {.kind = FAILURE_CONFLICT, .field = "status.agent"};
    struct buf early = {0};
    int client;

    a->agent = NULL;
    if (fd < 0) {
        snprintf(f.reason, sizeof(f.reason), "%s", err->text);
        forget(a);
        api_send_failure(x, &f);
        return;
    }
    client = http_upgrade(x, "agent", &early);
    forget(a);
    if (client < 0 || early.len > RELAY_CHUNK) {
        close(fd);
        if (client >= 0)
            close(client);
    } else {
        relays_join(relays, client, fd, early.data, early.len);
    }
    buf_done(&early);
}

int agent_attach(struct api_call *call) {
    struct agent_clients *all = call->m->agents;
    struct error e = {0};
    struct arrival *a;

    if (!strcmp(row_text(call->row.status, "state"), "paused"))
        return api_fail(call, FAILURE_CONFLICT, "status.agent", "resume it first",
                        "'%s' is paused: nothing in it answers", call->row.name);
    if (agent_clients_count(all) >= MOST_CLIENTS)
        return api_fail(call, FAILURE_LIMIT, "", "end some of them",
                        "%d connections to agents are open already", MOST_CLIENTS);
    a = calloc(1, sizeof(*a));
    if (!a)
        return api_fail(call, FAILURE_FAILED, "", "", "out of memory");
    a->agent = vm_agent_ask(call->m, call->row.id, NULL, CONNECT_MS, connected, a, &e);
    if (!a->agent) {
        free(a);
        return api_fail(call, FAILURE_CONFLICT, "status.agent", "", "'%s' is %s: %s",
                        call->row.name, row_text(call->row.status, "state"), e.text);
    }
    a->all = all;
    a->x = call->x;
    a->next = all->first;
    a->link = &all->first;
    if (a->next)
        a->next->link = &a->next;
    all->first = a;
    all->arrivals++;
    http_set_gone(call->x, gone, a);
    return 1;
}
