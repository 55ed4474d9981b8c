/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The medium in a machine's optical drive, while it runs: brought to what its row wants. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "host/vm_control.h"
#include "host/vm_hardware.h"
#include "host/vm_impl.h"

enum { RETRY_MS = 3000 }; /* the guest may let go of it */

static char *copy(const char *s) {
    char *c = strdup(s);

    if (!c)
        abort();
    return c;
}

/* A restored machine names its media by what links lead to. */
static bool same_file(const char *a, const char *b) {
    char real[PATH_MAX];

    return !strcmp(a, b) || (*b && realpath(b, real) && !strcmp(a, real));
}

static void tell(struct machine *v, const char *error) {
    struct manager *m = v->all->m;
    struct store_row row = {0};

    if (store_get(m->store, "vm", v->id, &row) == 0) {
        const char *medium = v->medium && *v->medium ? v->medium : NULL;
        bool same = !strcmp(row_text(row.status, "medium"), medium ? medium : "") &&
                    !strcmp(row_text(row.status, "medium_error"), error ? error : "");

        row_set_text(row.status, "medium", medium);
        row_set_text(row.status, "medium_error", error);
        if (!error)
            same &= json_object_del(row.wanted, "force_tray") < 0;
        if (!same)
            machine_save_row(v, &row, STORE_NOTE, NULL, NULL);
    }
    store_row_done(&row);
}

void machine_medium_seen(struct machine *v, const json_t *status) {
    const json_t *drive = json_array_get(json_object_get(status, "cdroms"), 0);

    free(v->medium);
    v->medium = drive ? copy(row_text(drive, "path")) : NULL;
    v->medium_asked = false;
    tell(v, NULL);
    machine_kick(v);
}

void machine_medium_refused(struct machine *v, const char *text) {
    v->medium_asked = false;
    v->medium_failed = timer_now_ms();
    tell(v, text);
    machine_again_in(v, RETRY_MS);
}

void machine_medium_lost(struct machine *v) {
    free(v->medium);
    free(v->medium_wanted);
    v->medium = v->medium_wanted = NULL;
    v->medium_asked = false;
    v->medium_failed = 0;
}

void machine_step_medium(struct machine *v, const struct store_row *row) {
    const char *cdrom = row_text(row->spec, "cdrom");
    const char *wanted = *cdrom == '/' ? cdrom : "";
    bool force = row_flag(row->wanted, "force_tray"), news;

    if (!v->medium || v->medium_asked) /* no drive, or on its way */
        return;
    news = force || !v->medium_wanted || strcmp(v->medium_wanted, wanted) != 0;
    if (same_file(v->medium, wanted)) {
        if (*row_text(row->status, "medium_error"))
            tell(v, NULL);
        return;
    }
    if (!news && v->medium_failed && timer_now_ms() - v->medium_failed < RETRY_MS) {
        machine_again_in(v, RETRY_MS);
        return;
    }
    free(v->medium_wanted);
    v->medium_wanted = copy(wanted);
    v->medium_asked = true;
    vm_control_send_args(v->control, "cdrom-change",
                         json_pack("{s:i, s:s*, s:b}", "drive", 0, "file", *wanted ? wanted : NULL,
                                   "force", (int)force));
}

void machine_medium_changed(struct machine *v) {
    free(v->medium);
    v->medium = v->medium_wanted ? copy(v->medium_wanted) : NULL;
    v->medium_asked = false;
    v->medium_failed = 0;
    tell(v, NULL);
    machine_kick(v);
}
