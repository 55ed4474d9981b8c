/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One command to the control socket of a machine (docs/control.md), for a caller who gets what
 * comes of it. Not for what is wanted of a machine: that is the controller's (vm_impl.h).
 *
 * Contract: the loop's thread; nothing waits. A question ends with its answer, after ten seconds,
 * or when its caller goes. Questions that are open when the manager ends are forgotten.
 */
#ifndef HOST_VM_ASK_H
#define HOST_VM_ASK_H

#include "host/api.h"

struct vm_asks;

struct vm_asks *vm_asks_new(struct manager *m);
void vm_asks_free(struct vm_asks *all); /* accepts NULL */

/* Answers the exchange with the result of the command. */
typedef void vm_answer_fn(struct http_exchange *x, const json_t *result);
/* For an operation on call->row: takes `args`, and the exchange (1), or fails. */
int vm_ask(struct api_call *call, const char *command, json_t *args, vm_answer_fn *answer);

/* Operations: pictures of the screen, and input to it. */
int screen_picture(struct api_call *call);
int screen_keys(struct api_call *call);
int screen_text(struct api_call *call);
int screen_pointer(struct api_call *call);

#endif
