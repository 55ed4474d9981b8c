/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Machines: the limit of processor time of one that runs, which its control group holds. */
#include <stdio.h>
#include <string.h>

#include "host/cgroup.h"
#include "host/vm_impl.h"
#include "host/vm_pending.h"

/* A manager does not know what another one has set: it is set once by each. */
void machine_step_limits(struct machine *v, struct store_row *row) {
    int64_t want = row_number(row->spec, "cpu_limit");
    const char *why = NULL;

    if (v->limited_cycle == v->process.cycle && v->limited == want)
        return;
    if (!cgroup_limit_cpu(v->folder, (unsigned)want) && want)
        why = "this host gives the manager no control group that limits processor time "
              "(docs/jail.md)";
    v->limited = want;
    v->limited_cycle = v->process.cycle;
    if (pending_note(row, "pending", "cpu_limit", why))
        machine_save_row(v, row, STORE_NOTE, NULL, NULL);
}
