/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tickets: a browser cannot send a header with a WebSocket, so a call that was let in gets the
 * address of one, good once and for half a minute. Whoever comes there is joined to the serial line
 * or to the screen of a machine.
 */
#ifndef HOST_TICKET_H
#define HOST_TICKET_H

#include "host/api.h"

struct tickets;

struct tickets *tickets_new(struct manager *m);
void tickets_free(struct tickets *t);            /* accepts NULL */
unsigned tickets_count(const struct tickets *t); /* screens that are looked at */

/* The operation of a machine. */
int ticket_create(struct api_call *call);
/* The operation `screen`: the connection becomes one to the machine's screen. */
int ticket_screen(struct api_call *call);
/* A request to /v1/ws/TICKET. */
void ticket_use(struct tickets *t, struct http_exchange *x);

#endif
