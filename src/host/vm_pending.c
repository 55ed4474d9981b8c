/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/vm_pending.h"

#include <string.h>

#include "host/manager.h"
#include "host/vm.h"
#include "proto/resource.h"

bool pending_note(struct store_row *row, const char *member, const char *key, const char *text) {
    json_t *all = json_object_get(row->status, member);

    if (!strcmp(row_text(all, key), text ? text : ""))
        return false;
    if (!all) {
        all = json_object();
        json_object_set_new(row->status, member, all);
    }
    row_set_text(all, key, text);
    if (!json_object_size(all))
        row_unset(row->status, member);
    return true;
}

static void change_start(struct store_row *row, const char *field, json_t *to) {
    json_t *started = json_object_get(row->wanted, "started");
    json_t *had = json_object_get(started, field);

    if (!had)
        had = json_object_get(row->spec, field);
    if (json_equal(had, to)) {
        json_object_del(started, field);
        if (!json_object_size(started))
            row_unset(row->wanted, "started");
        pending_note(row, "pending", field, NULL);
        return;
    }
    if (!started) {
        started = json_object();
        json_object_set_new(row->wanted, "started", started);
    }
    json_object_set(started, field, had ? had : json_null());
    pending_note(row, "pending", field, PENDING_START);
}

void pending_change(struct store_row *row, const json_t *patch) {
    const struct resource *r = resource_find("vm");
    bool off = !strcmp(row_text(row->spec, "power"), "off");

    if (off && vm_settled(row_text(row->status, "state")))
        return;
    for (const struct field *f = r->fields; f->type != FIELD_END; f++) {
        json_t *to = json_object_get(patch, f->name);

        if (!to || f->place != FIELD_SPEC)
            continue;
        if (f->flags & FIELD_START)
            change_start(row, f->name, to);
        else if (f->flags & FIELD_LIVE && !json_equal(to, json_object_get(row->spec, f->name)))
            pending_note(row, "pending", f->name, PENDING_SOON);
    }
}

void pending_done(struct store_row *row) {
    row_unset(row->status, "pending");
    row_unset(row->wanted, "started");
}
