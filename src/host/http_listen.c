/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where connections come from, and how many may. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "host/http_internal.h"
#include "host/peers.h"

enum {
    TURNED_AWAY_MAX = 32, /* that are told why, under TLS; more are closed without a word */
    REST_MS = 200,
    KEEP_IDLE = 60, /* seconds without a word after which a peer is asked whether it is there */
    KEEP_EVERY = 20,
    KEEP_TRIES = 4,
};

static const char too_many[] = "too many connections are open; close some or try later";
static const char too_many_of_one[] =
    "too many connections of this address are open; close some or try later";

/* It may be answered before it has asked: whoever it is learns why. */
static void turn_away(struct http_server *s, int fd) {
    char *body = s->error_body ? s->error_body(429, too_many) : NULL;
    char answer[1024];
    int n = snprintf(answer, sizeof(answer),
                     "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\n"
                     "Retry-After: 1\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
                     body ? strlen(body) : 0, body ? body : "");

    if (n > 0 && n < (int)sizeof(answer) &&
        send(fd, answer, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        log_debug("a client left before it was refused");
    free(body);
    close(fd);
}

static void came_local(struct http_listener *l, int fd) {
    struct http_peer peer = {.uid = (uid_t)-1};
    struct ucred cred = {0};
    socklen_t len = sizeof(cred);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0)
        peer = (struct http_peer){NULL, cred.uid, cred.pid};
    if (l->count >= HTTP_MAX_CONNECTIONS || !http_exchange_new(l, fd, &peer))
        turn_away(l->server, fd);
}

static void set_option(int fd, int level, int option, int value) {
    if (setsockopt(fd, level, option, &value, sizeof(value)) < 0)
        log_debug("socket option %d: %s", option, strerror(errno));
}

/* Answers are written in one piece; a peer whose host is gone must not stay for ever. */
static void set_options(int fd) {
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEP_IDLE);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEP_EVERY);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEP_TRIES);
}

static void came_by_network(struct http_listener *l, int fd, const struct sockaddr *from) {
    struct http_peer peer = {.uid = (uid_t)-1,
                             .address = peers_get(l->server->peers, from, timer_now_ms())};
    struct http_exchange *x = NULL;
    const char *why = NULL;

    if (peer.address && peer.address->connections > HTTP_MAX_OF_ADDRESS)
        why = too_many_of_one;
    else if (l->count - l->turned_away >= HTTP_MAX_CONNECTIONS)
        why = too_many;
    set_options(fd);
    if (peer.address && (!why || l->turned_away < TURNED_AWAY_MAX))
        x = http_exchange_new(l, fd, &peer);
    if (!x) {
        peer_put(peer.address);
        close(fd);
        return;
    }
    x->turned_away = why;
    l->turned_away += why != NULL;
}

static void accept_again(void *opaque) {
    struct http_listener *l = opaque;

    loop_modify(l->watch, EPOLLIN);
}

static void client_came(void *opaque, int fd, uint32_t events) {
    struct http_listener *l = opaque;
    struct sockaddr_storage from = {0};
    socklen_t len = sizeof(from);
    int client = accept4(fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (client < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) { /* it stays in the queue */
            loop_modify(l->watch, 0);
            timer_start(l->server->timers, &l->rest, REST_MS, accept_again, l);
        }
        return;
    }
    if (l->tls)
        came_by_network(l, client, (struct sockaddr *)&from);
    else
        came_local(l, client);
}

struct http_listener *http_server_listen(struct http_server *s, int fd, struct tls *tls,
                                         struct error *err) {
    struct http_listener *l = calloc(1, sizeof(*l));

    if (l) {
        *l = (struct http_listener){
            .server = s, .fd = fd, .tls = tls, .next = s->listeners, .link = &s->listeners};
        l->watch = loop_add(s->loop, fd, EPOLLIN, client_came, l);
    }
    if (!l || !l->watch) {
        free(l);
        error_set(err, -ENOMEM, "the API's socket cannot be watched: out of memory");
        return NULL;
    }
    if (l->next)
        l->next->link = &l->next;
    s->listeners = l;
    return l;
}

void http_listener_set_tls(struct http_listener *l, struct tls *tls) { l->tls = tls; }

void http_listener_close(struct http_listener *l) {
    if (!l)
        return;
    for (struct http_exchange *x = l->server->all; x; x = x->next)
        if (x->listener == l)
            x->listener = NULL;
    *l->link = l->next;
    if (l->next)
        l->next->link = l->link;
    timer_stop(&l->rest);
    loop_remove(l->watch);
    close(l->fd);
    free(l);
}
