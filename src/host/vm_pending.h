/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a machine that runs does not have yet of its spec: status.pending {FIELD: when, and why}.
 *
 * Of a field with FIELD_START the old value is kept in wanted.started, so that one that is changed
 * back is no difference any more. One with FIELD_LIVE is "on its way" until its controller
 * (vm_nics.c, vm_live.c) finds that it is so, or says why it is not.
 */
#ifndef HOST_VM_PENDING_H
#define HOST_VM_PENDING_H

#include "host/store.h"

#define PENDING_SOON  "it is on its way"
#define PENDING_START "after the next restart"

/* Before the patch goes into the spec of a machine that has, or is to get, a process. */
void pending_change(struct store_row *row, const json_t *patch);
/* Its next process has everything. */
void pending_done(struct store_row *row);
/* status[member][key] = text (NULL: takes it away); true: that was news. */
bool pending_note(struct store_row *row, const char *member, const char *key, const char *text);

#endif
