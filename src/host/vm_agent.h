/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The agent in a guest (docs/agent.md), without waiting: connections to it, one question, and
 * callers of the API that become its clients.
 *
 * Contract: the loop's thread. The function of a question is called once, from the loop, unless it
 * was cancelled before; the question is of no use then.
 */
#ifndef HOST_VM_AGENT_H
#define HOST_VM_AGENT_H

#include "host/manager.h"

struct vm_agent;

/* One of three: a connection (the caller's from now on), an answer (the agent's), a failure. */
typedef void vm_agent_fn(void *opaque, int fd, const json_t *answer, const struct error *err);

/* NULL with a sentence: there is no way to it. `request` is taken; NULL: only connect. */
struct vm_agent *vm_agent_ask(struct manager *m, const char *id, json_t *request, int64_t ms,
                              vm_agent_fn *fn, void *opaque, struct error *err);
void vm_agent_cancel(struct vm_agent *a); /* accepts NULL */

/* ---- is it there? (vm_probe.c) ---- */

struct vm_probe;

/* Looks for the agent of a guest that has started, at a pace that slows down, and writes into
 * status what it says. A guest that has none is left alone after some minutes. */
struct vm_probe *vm_probe_new(struct manager *m, const char *id);
void vm_probe_free(struct vm_probe *p); /* accepts NULL */
/* Somebody wants to know now, and for so long. */
void vm_probe_wanted(struct vm_probe *p, int64_t seconds);
void vm_probe_rebooted(struct vm_probe *p);
/* Takes what it said out of the row. */
void vm_probe_unset(struct store_row *row);

/* ---- it wants to be asked (vm_knock.c) ---- */

struct vm_knock;

/* Calls fn when an agent has knocked at AGENT_KNOCK_PORT, ten times a second at most. NULL: nobody
 * will be heard. */
struct vm_knock *vm_knock_new(struct manager *m, const char *id, void (*fn)(void *opaque),
                              void *opaque);
void vm_knock_free(struct vm_knock *k); /* accepts NULL */

/* ---- clients ---- */

struct api_call;
struct agent_clients *agent_clients_new(struct manager *m);
void agent_clients_free(struct agent_clients *c); /* accepts NULL */
unsigned agent_clients_count(const struct agent_clients *c);
/* The call's client becomes one of the agent of call->row; as an operation (api.h). */
int agent_attach(struct api_call *call);

#endif
