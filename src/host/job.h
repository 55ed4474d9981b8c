/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Jobs: rows of the store that tell how far long work is. Who does the work calls these. */
#ifndef HOST_JOB_H
#define HOST_JOB_H

#include "host/manager.h"

/* Within a transaction. */
int job_new(struct manager *m, const char *tenant, const char *action, const char *object,
            struct store_row *ret, struct error *err);
int job_end(struct manager *m, const char *id, const char *state, const char *reason,
            struct error *err);

/* In a transaction of its own; nothing happens if that is known already. */
void job_note(struct manager *m, const char *id, int percent, const char *stage);
bool job_cancelling(struct manager *m, const char *id);

#endif
