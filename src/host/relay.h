/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pairs of descriptors that are joined: what comes from one goes to the other, and so does its end.
 * Nothing is lost and little is kept: who does not read holds the other up.
 *
 * Contract: the loop's thread. Descriptors of stream sockets, which belong to the relay.
 */
#ifndef HOST_RELAY_H
#define HOST_RELAY_H

#include <stddef.h>

struct loop;
struct relays;

enum { RELAY_CHUNK = 64 * 1024 };

struct relays *relays_new(struct loop *loop);
void relays_free(struct relays *all); /* accepts NULL */
unsigned relays_count(const struct relays *all);
/* `early` (up to RELAY_CHUNK) goes to `other`. When the client has left altogether, so is what the
 * other still says. A failure closes both. */
void relays_join(struct relays *all, int client, int other, const void *early, size_t n);

#endif
