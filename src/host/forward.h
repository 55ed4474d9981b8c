/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Forwards of machines: ports of the host that lead into guests. They stand in a machine's
 * spec.forward; its viv-vm or the viv-net of its first network opens them, and is told whenever
 * they change. What cannot be opened stands in status.forward_errors, and is tried again.
 */
#ifndef HOST_FORWARD_H
#define HOST_FORWARD_H

#include <stdint.h>

#include "host/manager.h"
#include "proto/subnet.h"

struct api_call;

enum { FORWARD_TEXT = 96 };

struct forward_words {
    bool udp;
    char address[ADDRESS_TEXT]; /* 127.0.0.1 if none was given */
    uint16_t host_port, guest_port;
};

/* "[udp:][ADDRESS:]PORT:GUESTPORT[/udp]"; a sentence says what cannot be. */
int forward_parse(const char *s, struct forward_words *ret, struct error *err);
/* As viv-vm and viv-net take it: tcp:127.0.0.1:8080:80. */
void forward_print(const struct forward_words *f, char out[FORWARD_TEXT]);
/* All of a machine, as an array of that form. */
json_t *forward_list(const json_t *spec);

/* Of an operation: spec.forward of a machine is possible. api_fail. */
int forward_check(struct api_call *call, const json_t *spec);
int forward_add(struct api_call *call);
int forward_remove(struct api_call *call);

/* What could not be opened, as viv-vm and viv-net answer: [{"forward", "error"}]. */
void forward_seen(struct manager *m, const char *vm_id, const json_t *failed);

#endif
