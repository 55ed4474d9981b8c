/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Forwards of machines: ports of the host that lead into guests. They stand in a machine's
 * spec.forward; its viv-vm or the viv-net of its first network opens them, and is told whenever
 * they change. What cannot be opened stands in status.forward_errors, and is tried again.
 */
#ifndef HOST_FORWARD_H
#define HOST_FORWARD_H

#include "host/manager.h"
#include "proto/forward_words.h"

struct api_call;

/* All of a machine, as an array of that form. */
json_t *forward_list(const json_t *spec);

/* Of an operation: spec.forward of a machine is possible. api_fail. */
int forward_check(struct api_call *call, const json_t *spec);
int forward_add(struct api_call *call);
int forward_remove(struct api_call *call);

/* What could not be opened, as viv-vm and viv-net answer: [{"forward", "error"}]. */
void forward_seen(struct manager *m, const char *vm_id, const json_t *failed);

#endif
