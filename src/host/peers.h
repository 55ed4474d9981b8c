/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is known of network addresses: how many connections each has, and how much it has asked for
 * lately. An IPv6 address stands for its /64, which is what one caller has.
 *
 * Contract: the loop's thread. The table is bounded; what is forgotten first is what was heard of
 * longest ago and has no connection.
 */
#ifndef HOST_PEERS_H
#define HOST_PEERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* A bucket that leaks: `burst` at once, and `rate` a second in the long run. */
struct bucket {
    double level;
    int64_t at; /* ms */
};
struct bucket_limit {
    double rate, burst;
};

/* Takes one; false if there is none, with the seconds after which there is. */
bool bucket_take(struct bucket *b, const struct bucket_limit *l, int64_t now, unsigned *ret_wait);
/* The same without taking. */
bool bucket_has(struct bucket *b, const struct bucket_limit *l, int64_t now, unsigned *ret_wait);

enum { PEER_TEXT = 64, PEERS_MAX = 4096 };

struct peer {
    char text[PEER_TEXT]; /* "192.0.2.1", "2001:db8::/64" */
    unsigned connections;
    struct bucket requests; /* of callers who have not said who they are */
    struct bucket failures; /* sign-ins that went wrong */
    int64_t seen;
    struct peer *next;
};

struct peers *peers_new(void);
void peers_free(struct peers *p); /* accepts NULL */
/* Counts a connection. NULL: the table is full of addresses that have some. */
struct peer *peers_get(struct peers *p, const struct sockaddr *address, int64_t now);
/* One connection less; accepts NULL. */
void peer_put(struct peer *p);

#endif
