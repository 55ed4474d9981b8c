/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Backups of a running disk. */
#include <errno.h>

#include "block/blockjob_internal.h"

int blockjob_run_backup(struct blockjob *j, struct error *err) {
    return error_set(err, -ENOTSUP, "backups are not supported yet");
}
