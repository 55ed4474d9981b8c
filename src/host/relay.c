/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bytes from one descriptor to another and back, with their ends. */
#include "host/relay.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"

enum { CLIENT, OTHER, SIDES, ROUNDS = 16 };

struct side {
    struct relay *relay;
    int fd;
    struct loop_watch *watch; /* NULL: it has hung up, and what is left can be read at any time */
    bool ended;               /* no more comes from it */
    bool shut;                /* no more goes to it */
    size_t start, len;        /* of what goes to it */
    uint8_t bytes[RELAY_CHUNK];
};

struct relay {
    struct relays *all;
    struct relay *next, **link;
    struct side side[SIDES];
};

struct relays {
    struct loop *loop;
    struct relay *first;
    unsigned count;
};

struct relays *relays_new(struct loop *loop) {
    struct relays *all = calloc(1, sizeof(*all));

    if (all)
        all->loop = loop;
    return all;
}

unsigned relays_count(const struct relays *all) { return all->count; }

static void drop(struct relay *r) {
    *r->link = r->next;
    if (r->next)
        r->next->link = r->link;
    r->all->count--;
    for (int i = 0; i < SIDES; i++) {
        loop_remove(r->side[i].watch);
        close(r->side[i].fd);
    }
    free(r);
}

void relays_free(struct relays *all) {
    struct relay *r;

    while (all && (r = all->first)) {
        all->first = r->next;
        drop(r);
    }
    free(all);
}

/* Who takes no more may have left something to say: only its direction ends. */
static void deaf(struct side *to) {
    to->len = 0;
    to->shut = true;
}

/* One piece at a time is on its way. */
static void move(struct side *from, struct side *to) {
    for (int round = 0; round < ROUNDS && !to->shut; round++) {
        ssize_t n;

        if (!to->len && !from->ended) {
            n = recv(from->fd, to->bytes, sizeof(to->bytes), MSG_DONTWAIT);
            if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
            from->ended = n <= 0;
            to->start = 0;
            to->len = n > 0 ? (size_t)n : 0;
        }
        if (!to->len)
            break;
        n = send(to->fd, to->bytes + to->start, to->len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0) {
            deaf(to);
            return;
        }
        to->start += (size_t)n;
        to->len -= (size_t)n;
    }
    if (from->ended && !to->len && !to->shut) {
        shutdown(to->fd, SHUT_WR);
        to->shut = true;
    }
}

static void watch(struct side *s, const struct side *peer) {
    bool wants = !peer->len && !peer->shut && !s->ended;
    uint32_t events = (s->len ? EPOLLOUT : 0) | (wants ? EPOLLIN : 0);

    if (s->watch)
        loop_modify(s->watch, events);
}

static void pump(struct relay *r) {
    struct side *client = &r->side[CLIENT], *other = &r->side[OTHER];

    move(client, other);
    move(other, client);
    if (client->shut && (other->shut || !other->watch)) {
        drop(r);
        return;
    }
    watch(client, other);
    watch(other, client);
}

static void ready(void *opaque, int fd, uint32_t events) {
    struct side *s = opaque;
    struct relay *r = s->relay;

    if (events & (EPOLLHUP | EPOLLERR)) {
        if (s == &r->side[CLIENT]) {
            move(s, &r->side[OTHER]); /* its last words */
            drop(r);
            return;
        }
        loop_remove(s->watch); /* or it would be told again and again */
        s->watch = NULL;
    }
    pump(r);
}

void relays_join(struct relays *all, int client, int other, const void *early, size_t n) {
    struct relay *r = n <= RELAY_CHUNK ? calloc(1, sizeof(*r)) : NULL;

    if (!r) {
        close(client);
        close(other);
        return;
    }
    r->all = all;
    r->next = all->first;
    r->link = &all->first;
    if (r->next)
        r->next->link = &r->next;
    all->first = r;
    all->count++;
    r->side[CLIENT].fd = client;
    r->side[OTHER].fd = other;
    for (int i = 0; i < SIDES; i++) {
        r->side[i].relay = r;
        r->side[i].watch = loop_add(all->loop, r->side[i].fd, EPOLLIN, ready, &r->side[i]);
    }
    if (!r->side[CLIENT].watch || !r->side[OTHER].watch) {
        drop(r);
        return;
    }
    if (n)
        memcpy(r->side[OTHER].bytes, early, n);
    r->side[OTHER].len = n;
    pump(r);
}
