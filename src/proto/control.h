/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The words of a machine's control socket: its commands and events, declared once. The program that
 * answers is vm/control.c, the one that asks tools/ctl; docs/control.md is for people.
 */
#ifndef PROTO_CONTROL_H
#define PROTO_CONTROL_H

#include "proto/command.h"

enum {
    CONTROL_PROTOCOL = 1,            /* grows when something is changed or taken away */
    CONTROL_REQUEST_MAX = 64 * 1024, /* bytes of a line */
    CONTROL_ANSWER_MAX = 16 * 1024 * 1024,
};

/* What kind of failure an error is: "kind" of an answer's "error". */
#define CONTROL_INVALID "invalid" /* the message is wrong: the same one will always be refused */
#define CONTROL_REFUSED "refused" /* not in this state of the machine */
#define CONTROL_FAILED  "failed"  /* it was tried and did not work */

/* The choices of the argument `events`, and the names of control_events. */
#define CONTROL_EVENTS "state|reset|crash|end|disk-error|device|job|lost"

extern const struct command control_commands[];
extern const struct event control_events[];

#endif
