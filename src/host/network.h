/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The manager's door to the network: the listener for HTTPS and its certificate. Where to listen is
 * kept in the store (a row of kind "portal"), so that the next manager does the same; an option of
 * vivd comes before that.
 */
#ifndef HOST_NETWORK_H
#define HOST_NETWORK_H

#include <stdbool.h>

#include "base/error.h"

struct manager;
struct network;

struct network_settings {
    const char *listen;     /* ADDRESS:PORT; NULL: what the store says */
    const char *cert, *key; /* files; NULL: one of our own */
};

/* Listens if that is wanted. What an option asks for must work; what the store says is tried, and
 * tried again. */
struct network *network_new(struct manager *m, const struct network_settings *s, struct error *err);
void network_free(struct network *n); /* accepts NULL */
bool network_is_open(const struct network *n);

/* "127.0.0.1:8443", "[::1]:0", "*:8443": a descriptor that listens, or a negative errno. (dial.c)
 */
int network_listen(const char *address, struct error *err);
/* Where a socket is bound, in the same form. */
void network_address(int fd, char *out, unsigned size);

#endif
