/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The words of the control socket of viv-net, in the protocol of a machine's (proto/control.h).
 * switch/control.c answers; docs/networks.md is for people. */
#ifndef PROTO_NETWORK_H
#define PROTO_NETWORK_H

#include "proto/command.h"

extern const struct command network_commands[];
extern const struct event network_events[];

#endif
