/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of network addresses, and buckets. */
#include "host/peers.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHAINS = 256 };

struct peers {
    struct peer *chain[CHAINS];
    unsigned count;
};

static void refill(struct bucket *b, const struct bucket_limit *l, int64_t now) {
    double more = (double)(now - b->at) / 1000 * l->rate;

    b->level = !b->at || b->level + more > l->burst ? l->burst : b->level + more;
    b->at = now;
}

bool bucket_has(struct bucket *b, const struct bucket_limit *l, int64_t now, unsigned *ret_wait) {
    refill(b, l, now);
    if (b->level >= 1)
        return true;
    *ret_wait = (unsigned)((1 - b->level) / l->rate) + 1;
    return false;
}

bool bucket_take(struct bucket *b, const struct bucket_limit *l, int64_t now, unsigned *ret_wait) {
    if (!bucket_has(b, l, now, ret_wait))
        return false;
    b->level--;
    return true;
}

struct peers *peers_new(void) {
    return calloc(1, sizeof(struct peers));
}

void peers_free(struct peers *p) {
    for (unsigned i = 0; p && i < CHAINS; i++)
        for (struct peer *one = p->chain[i], *next; one; one = next) {
            next = one->next;
            free(one);
        }
    free(p);
}

static void put_text(const struct sockaddr *address, char out[PEER_TEXT]) {
    char text[INET6_ADDRSTRLEN] = "?";

    if (address->sa_family == AF_INET) {
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, text, sizeof(text));
        snprintf(out, PEER_TEXT, "%s", text);
        return;
    }
    if (address->sa_family == AF_INET6) {
        struct in6_addr a = ((const struct sockaddr_in6 *)address)->sin6_addr;

        if (IN6_IS_ADDR_V4MAPPED(&a)) {
            inet_ntop(AF_INET, &a.s6_addr[12], text, sizeof(text));
            snprintf(out, PEER_TEXT, "%s", text);
            return;
        }
        memset(&a.s6_addr[8], 0, 8);
        inet_ntop(AF_INET6, &a, text, sizeof(text));
    }
    snprintf(out, PEER_TEXT, "%s/64", text);
}

static unsigned chain_of(const char *text) {
    unsigned h = 2166136261u;

    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 16777619u;
    return h % CHAINS;
}

/* Forgets who was heard of longest ago; false if all have connections. */
static bool forget_one(struct peers *p) {
    struct peer **oldest = NULL, *gone;

    for (unsigned i = 0; i < CHAINS; i++)
        for (struct peer **at = &p->chain[i]; *at; at = &(*at)->next)
            if (!(*at)->connections && (!oldest || (*at)->seen < (*oldest)->seen))
                oldest = at;
    if (!oldest)
        return false;
    gone = *oldest;
    *oldest = gone->next;
    free(gone);
    p->count--;
    return true;
}

struct peer *peers_get(struct peers *p, const struct sockaddr *address, int64_t now) {
    char text[PEER_TEXT];
    struct peer **chain, *one;

    put_text(address, text);
    chain = &p->chain[chain_of(text)];
    for (one = *chain; one && strcmp(one->text, text) != 0; one = one->next)
        ;
    if (!one) {
        if (p->count >= PEERS_MAX && !forget_one(p))
            return NULL;
        one = calloc(1, sizeof(*one));
        if (!one)
            return NULL;
        snprintf(one->text, sizeof(one->text), "%s", text);
        one->next = *chain;
        *chain = one;
        p->count++;
    }
    one->connections++;
    one->seen = now;
    return one;
}

void peer_put(struct peer *p) {
    if (p)
        p->connections--;
}
