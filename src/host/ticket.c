/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tickets, and the WebSockets (RFC 6455, 4.2) that they open. */
#include "host/ticket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/unix_socket.h"
#include "host/auth_internal.h"
#include "host/console.h"
#include "host/relay.h"
#include "host/vm.h"
#include "host/vm_ports.h"
#include "host/ws.h"
#include "proto/units.h"

enum { TICKETS_MAX = 128, TICKET_MS = 30000, SCREENS_MAX = 64 };

struct ticket {
    char hash[SHA256_TEXT], vm[STORE_WORD], name[STORE_WORD], caller[STORE_WORD];
    bool screen;
    unsigned port;   /* else: of its serial ports */
    int64_t expires; /* by the monotonic clock; 0: the place is free */
};

struct tickets {
    struct manager *m;
    struct relays *screens;
    struct ticket ticket[TICKETS_MAX];
};

struct tickets *tickets_new(struct manager *m) {
    struct tickets *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->m = m;
    t->screens = relays_new(m->loop);
    if (t->screens)
        return t;
    free(t);
    return NULL;
}

void tickets_free(struct tickets *t) {
    if (t)
        relays_free(t->screens);
    free(t);
}

unsigned tickets_count(const struct tickets *t) { return relays_count(t->screens); }

/* ------------------------------------------------------------------ making */

static int check_there(struct api_call *call, bool screen, unsigned port) {
    char path[160];

    machine_path(call->m, call->row.id, screen ? "vnc" : ports_socket(port), path, sizeof(path));
    if (access(path, F_OK) == 0)
        return 0;
    if (screen && !strcmp(row_text(call->row.status, "state"), "running"))
        return api_fail(call, FAILURE_CONFLICT, "what",
                        "give it one: viv edit NAME --vga std, and start it anew",
                        "this machine has no screen");
    if (!screen && port > 1 && !strcmp(row_text(call->row.status, "state"), "running"))
        return ports_fail(call, port);
    return api_fail(call, FAILURE_CONFLICT, "status.state", "start it first",
                    "'%s' has no %s now, it is %s", call->row.name,
                    screen ? "screen" : "serial line", row_text(call->row.status, "state"));
}

int ticket_create(struct api_call *call) {
    struct tickets *t = call->m->tickets;
    bool screen = !strcmp(row_text(call->args, "what"), "vnc");
    unsigned port = (unsigned)row_number(call->args, "port");
    int64_t now = timer_now_ms();
    struct ticket *free_one = NULL;
    char text[AUTH_TEXT];

    if (check_there(call, screen, port) < 0)
        return -EINVAL;
    for (unsigned i = 0; i < TICKETS_MAX && !free_one; i++)
        if (t->ticket[i].expires <= now)
            free_one = &t->ticket[i];
    if (!free_one)
        return api_fail(call, FAILURE_LIMIT, "", "try again in half a minute",
                        "%d tickets wait to be used", TICKETS_MAX);
    *free_one = (struct ticket){.screen = screen, .port = port, .expires = now + TICKET_MS};
    secret_new("", text);
    secret_hash(text, free_one->hash);
    snprintf(free_one->vm, sizeof(free_one->vm), "%s", call->row.id);
    snprintf(free_one->name, sizeof(free_one->name), "%s", call->row.name);
    snprintf(free_one->caller, sizeof(free_one->caller), "%s", call->caller_id);
    call->result = json_object();
    row_set_time(call->result, "expires", units_now_ms() + TICKET_MS);
    call->once = json_pack("{s:s, s:o}", "ticket", text, "url", json_sprintf("/v1/ws/%s", text));
    return 0;
}

int ticket_screen(struct api_call *call) {
    struct tickets *t = call->m->tickets;
    struct buf early = {0};
    struct error e = {0};
    char path[160];
    int screen, fd;

    if (!http_header_has(http_request(call->x), "Upgrade", "rfb"))
        return api_fail(call, FAILURE_INVALID, "Upgrade",
                        "send 'Connection: Upgrade' and 'Upgrade: rfb'",
                        "a screen is a stream of bytes");
    if (check_there(call, true, 0) < 0)
        return -EINVAL;
    if (relays_count(t->screens) >= SCREENS_MAX)
        return api_fail(call, FAILURE_LIMIT, "", "close some", "%d screens are open already",
                        SCREENS_MAX);
    machine_path(call->m, call->row.id, "vnc", path, sizeof(path));
    screen = unix_socket_connect(path, 0, &e);
    if (screen < 0)
        return api_fail(call, FAILURE_CONFLICT, "status.state", "look at the machine",
                        "'%s' cannot be reached: %s", call->row.name, e.text);
    fd = http_upgrade(call->x, "rfb", &early);
    if (fd < 0)
        close(screen);
    else
        relays_join(t->screens, fd, screen, early.data, early.len);
    buf_done(&early);
    return 1;
}

/* ------------------------------------------------------------------ using */

static struct ticket *find(struct tickets *t, const char *text) {
    char hash[SHA256_TEXT];

    secret_hash(text, hash);
    for (unsigned i = 0; i < TICKETS_MAX; i++)
        if (t->ticket[i].expires > timer_now_ms() && secret_same(t->ticket[i].hash, hash))
            return &t->ticket[i];
    return NULL;
}

/* Is the request the opening of a WebSocket? */
static int check_handshake(struct http_exchange *x, char accept[WS_ACCEPT_SIZE],
                           struct api_failure *f) {
    const struct http_request *r = http_request(x);
    const char *version = http_find_header(r, "Sec-WebSocket-Version");
    const char *key = http_find_header(r, "Sec-WebSocket-Key");
    unsigned keys = 0;

    for (unsigned i = 0; i < r->headers; i++)
        keys += !strcasecmp(r->header[i].name, "Sec-WebSocket-Key");
    if (strcmp(r->method, "GET") != 0)
        return auth_fail(f, FAILURE_NOT_ALLOWED, "", "use GET", "this path does not take %s",
                         r->method);
    if (!http_header_has(r, "Upgrade", "websocket") || !http_header_has(r, "Connection", "Upgrade"))
        return auth_fail(f, FAILURE_INVALID, "Upgrade", "open it as a WebSocket",
                         "this address is that of a WebSocket");
    if (!version || strcmp(version, "13") != 0) {
        http_add_header(x, "Sec-WebSocket-Version: 13");
        return auth_fail(f, FAILURE_UPGRADE, "Sec-WebSocket-Version", "speak version 13",
                         "only version 13 of WebSocket is spoken here");
    }
    if (keys != 1 || !ws_accept(key, accept))
        return auth_fail(f, FAILURE_INVALID, "Sec-WebSocket-Key", "send 16 random bytes in base64",
                         "the Sec-WebSocket-Key is none");
    return auth_check_origin(x, false, f);
}

static int no_place(struct api_failure *f, const struct ticket *k, const struct error *err) {
    return auth_fail(f, FAILURE_CONFLICT, "status.state", "look at the machine",
                     "'%s' cannot be reached: %s", k->name, err->text);
}

static int open_screen(struct tickets *t, struct http_exchange *x, const struct ticket *k,
                       const char *accept, const char *protocol, struct api_failure *f) {
    struct error e = {0};
    char path[160];
    int screen, fd;

    if (relays_count(t->screens) >= SCREENS_MAX)
        return auth_fail(f, FAILURE_LIMIT, "", "close some", "%d screens are open already",
                         SCREENS_MAX);
    machine_path(t->m, k->vm, "vnc", path, sizeof(path));
    screen = unix_socket_connect(path, 0, &e);
    if (screen < 0)
        return no_place(f, k, &e);
    fd = http_websocket(x, accept, protocol);
    if (fd < 0)
        close(screen);
    else
        relays_join(t->screens, fd, screen, NULL, 0);
    return 0;
}

static int open_serial(struct tickets *t, struct http_exchange *x, const struct ticket *k,
                       const char *accept, const char *protocol, struct api_failure *f) {
    struct error e = {0};
    struct console *c = console_open(t->m->consoles, k->vm, k->port, &e);

    if (!c)
        return e.code == -EBUSY ? auth_fail(f, FAILURE_LIMIT, "", "detach some", "%s", e.text)
                                : no_place(f, k, &e);
    console_add(c, http_websocket(x, accept, protocol), NULL);
    return 0;
}

void ticket_use(struct tickets *t, struct http_exchange *x) {
    const struct http_request *r = http_request(x);
    struct ticket *found = find(t, r->path + strlen("/v1/ws/")), k;
    struct api_failure f = {.kind = FAILURE_NONE};
    char accept[WS_ACCEPT_SIZE];
    const char *protocol;
    int code = auth_admit(t->m->auth, x, &f);

    if (code == 0 && (!found || !auth_knows(t->m->auth, found->caller)))
        code = auth_fail(&f, FAILURE_FORBIDDEN, "", "ask for a new one",
                         "the ticket is unknown, was used or has expired");
    if (code == 0)
        code = check_handshake(x, accept, &f);
    if (code == 0 && found) {
        k = *found;
        *found = (struct ticket){.expires = 0};
        protocol = http_header_has(r, "Sec-WebSocket-Protocol", "binary") ? "binary" : NULL;
        http_set_caller(x, k.caller);
        code = k.screen ? open_screen(t, x, &k, accept, protocol, &f)
                        : open_serial(t, x, &k, accept, protocol, &f);
    }
    if (code < 0)
        api_send_failure(x, &f);
}
