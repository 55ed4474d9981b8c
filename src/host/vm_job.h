/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands to a machine's control socket that are waited for, and jobs that go on until they are
 * done. May block: for workers. */
#ifndef HOST_VM_JOB_H
#define HOST_VM_JOB_H

#include <jansson.h>
#include <stdint.h>

#include "base/error.h"

struct client;

/* Takes `args`; *ret (may be NULL) is for json_decref. */
int vm_job_call(struct client *c, const char *command, json_t *args, json_t **ret,
                struct error *err);
/* The same of a command that answers with a job, to its end. */
int vm_job_run(struct client *c, const char *command, json_t *args, struct error *err);
/* That in two parts. */
int vm_job_start(struct client *c, const char *command, json_t *args, json_int_t *ret_id,
                 struct error *err);
int vm_job_wait(struct client *c, json_int_t id, struct error *err);
/* `stop` is looked at (atomic): not 0 gives the job up, and the result is -ECANCELED unless it was
 * done before. */
int vm_job_wait_or_stop(struct client *c, json_int_t id, const int *stop, struct error *err);

/* Makes the disk of a machine larger that lies in the file of this name, whatever its folder. */
int vm_resize_disk(const char *control, const char *file, int64_t size, struct error *err);

#endif
