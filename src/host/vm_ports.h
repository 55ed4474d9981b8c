/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * By what machines are reached besides their networks: serial ports and a place for VNC viewers
 * (proto/resource_ports.h). The manager's own way to the screen, the socket `vnc`, is there as
 * well.
 */
#ifndef HOST_VM_PORTS_H
#define HOST_VM_PORTS_H

#include <jansson.h>

#include "host/api.h"
#include "host/words.h"

/* The socket of serial port `port`, from 1 on, in the machine's folder. */
const char *ports_socket(unsigned port);
/* Of a whole spec: what the declaration cannot say. */
int ports_check(struct api_call *call, const json_t *spec);
/* The failure of who asks for a port that a running machine has not. */
int ports_fail(struct api_call *call, unsigned port);
/* The options of viv-vm for it; `memory`: its machine.json, if it goes on from one, else NULL. */
void ports_words(struct words *w, const json_t *spec, const json_t *memory);
/* A copy of the machine: places of the host belong to one. */
void ports_forget(json_t *spec);

#endif
