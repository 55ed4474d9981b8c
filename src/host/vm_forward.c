/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Machines: forwards through their own user-mode network. Those of other networks are told to their
 * viv-net (vnet.c). */
#include <stdlib.h>
#include <string.h>

#include "host/forward.h"
#include "host/vm_control.h"
#include "host/vm_impl.h"
#include "host/vnet.h"

enum { AGAIN_MS = 3000 };

void machine_forwards_lost(struct machine *v) {
    free(v->forwards_told);
    v->forwards_told = NULL;
    v->forwards_failed = 0;
}

/* What could not be opened is tried again. */
static bool is_news(struct machine *v, const char *text) {
    int64_t left = v->forwards_failed + AGAIN_MS - timer_now_ms();

    if (!v->forwards_told || strcmp(v->forwards_told, text) != 0)
        return true;
    if (!v->forwards_failed)
        return false;
    if (left > 0)
        machine_again_in(v, left);
    return left <= 0;
}

void machine_step_forwards(struct machine *v, const struct store_row *row) {
    int nic = machine_user_nic(v, row);
    char first[STORE_WORD], *text;
    json_t *list;

    if (nic < 0)
        return;
    if (vnet_name(row->spec, 0, first) && !strcmp(first, "user"))
        list = forward_list(row->spec);
    else
        list = json_array();
    text = json_dumps(list, JSON_COMPACT);
    if (text && is_news(v, text)) {
        free(v->forwards_told);
        v->forwards_told = text;
        v->forwards_failed = 0;
        vm_control_send_args(v->control, "forward-set",
                             json_pack("{s:O, s:i}", "forwards", list, "nic", nic));
        text = NULL;
    }
    free(text);
    json_decref(list);
}

void machine_forwards_answered(struct machine *v, const json_t *result) {
    const json_t *failed = json_object_get(result, "failed");

    v->forwards_failed = json_array_size(failed) ? timer_now_ms() : 0;
    forward_seen(v->all->m, v->id, failed);
    if (v->forwards_failed)
        machine_again_in(v, AGAIN_MS);
}
