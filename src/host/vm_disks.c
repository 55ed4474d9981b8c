/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Volumes of a machine that runs: plugged in as its row wants, and let go of.
 *
 * Member of the row's `wanted`: unplug {NAME: force}: volumes that it has and that the guest is to
 * let go of. One is taken out of spec.volumes when viv-vm has it no more, or the process is gone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/vm_control.h"
#include "host/vm_impl.h"
#include "host/volume.h"

enum { AGAIN_MS = 5000, TEXT = 400 };

static const char *base_of(const char *path) {
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* The file is called by the volume's id, which no other file is. */
static int find_disk(const json_t *disks, const char *text) {
    const char *file = base_of(text);
    size_t n = strcspn(file, ","), i;
    const json_t *one;

    json_array_foreach(disks, i, one) {
        const char *base = base_of(row_text(one, "path"));

        if (strlen(base) == n && !memcmp(base, file, n))
            return (int)row_number(one, "index");
    }
    return -1;
}

/* What could not be done, by the name of the volume; NULL: all is well with it. */
static void tell(struct machine *v, const char *name, const char *error) {
    struct store_row row = {0};
    json_t *errors;

    if (store_get(v->all->m->store, "vm", v->id, &row) == 0) {
        errors = json_object_get(row.status, "volume_errors");
        if (error && strcmp(row_text(errors, name), error) != 0) {
            if (!errors) {
                errors = json_object();
                json_object_set_new(row.status, "volume_errors", errors);
            }
            row_set_text(errors, name, error);
            machine_save_row(v, &row, STORE_NOTE, NULL, NULL);
        } else if (!error && json_object_get(errors, name)) {
            json_object_del(errors, name);
            if (!json_object_size(errors))
                row_unset(row.status, "volume_errors");
            machine_save_row(v, &row, STORE_NOTE, NULL, NULL);
        }
    }
    store_row_done(&row);
}

/* ------------------------------------------------------------------ told by viv-vm */

void machine_disks_seen(struct machine *v, const json_t *status) {
    json_decref(v->disks);
    v->disks = json_incref(json_object_get(status, "disks"));
    *v->disk_asked = 0;
    machine_kick(v);
}

void machine_disks_lost(struct machine *v) {
    json_decref(v->disks);
    v->disks = NULL;
    *v->disk_asked = 0;
    v->disk_again = 0;
}

void machine_disks_answered(struct machine *v, const char *why) {
    char name[STORE_WORD];

    snprintf(name, sizeof(name), "%s", v->disk_asked);
    v->disk_again = timer_now_ms() + AGAIN_MS;
    if (why) {
        *v->disk_asked = 0;
        tell(v, name, why);
        machine_again_in(v, AGAIN_MS);
    } else if (v->control) {
        vm_control_send(v->control, "status"); /* which says what there is now */
    }
}

void machine_disks_event(struct machine *v, const json_t *data) {
    if (!strcmp(row_text(data, "what"), "refused") && *row_text(data, "id"))
        tell(v, row_text(data, "id"),
             "the guest does not let go of it: unmount it there, or say --force");
    if (v->control)
        vm_control_send(v->control, "status");
}

/* ------------------------------------------------------------------ steps */

static void remove_name(json_t *list, const char *name) {
    const json_t *one;
    size_t i;

    json_array_foreach(list, i, one)
        if (!strcmp(json_string_value(one), name)) {
            json_array_remove(list, i);
            return;
        }
}

static int give_back(struct machine *v, const struct store_row *vm, const char *name,
                     struct error *err) {
    struct manager *m = v->all->m;
    struct store_row row = {0};
    int r = store_find(m->store, "volume", vm->tenant, name, &row);

    if (r == 0 && !strcmp(row_text(row.status, "vm_id"), vm->id)) {
        row_unset(row.status, "vm");
        row_unset(row.status, "vm_id");
        r = manager_event(m, &row, "detached", err, "it is taken from '%s'", vm->name);
        if (r == 0)
            r = store_update(m->store, &row, err);
    }
    store_row_done(&row);
    return r == -ENOENT ? 0 : r;
}

/* Machine and volume say so in one transaction. */
static void finish(struct machine *v, struct store_row *row, const char *name) {
    struct manager *m = v->all->m;
    struct error e = {0};
    json_t *unplug = json_object_get(row->wanted, "unplug");
    json_t *errors = json_object_get(row->status, "volume_errors");
    char own[STORE_WORD];

    snprintf(own, sizeof(own), "%s", name);
    remove_name(json_object_get(row->spec, "volumes"), own);
    json_object_del(errors, own);
    if (!json_object_size(errors))
        row_unset(row->status, "volume_errors");
    json_object_del(unplug, own);
    if (!json_object_size(unplug))
        row_unset(row->wanted, "unplug");
    if (store_begin(m->store, STORE_PROMISE, &e) == 0) {
        if (give_back(v, row, own, &e) < 0 || store_update(m->store, row, &e) < 0)
            store_rollback(m->store);
        else if (store_commit(m->store, &e) == 0)
            return;
    }
    machine_save_row_failed(v, &e);
}

bool machine_drop_unplugged(struct machine *v, struct store_row *row) {
    json_t *unplug = json_object_get(row->wanted, "unplug");
    void *first = unplug ? json_object_iter(unplug) : NULL;

    if (first)
        finish(v, row, json_object_iter_key(first));
    return first;
}

static void ask(struct machine *v, const char *name, const char *command, json_t *args) {
    snprintf(v->disk_asked, sizeof(v->disk_asked), "%s", name);
    vm_control_send_args(v->control, command, args);
}

/* True: something is under way. */
static bool step_unplug(struct machine *v, struct store_row *row) {
    json_t *force;
    const char *name;

    json_object_foreach(json_object_get(row->wanted, "unplug"), name, force) {
        char text[TEXT];
        int disk = volume_disk(v->all->m, row, name, text, sizeof(text), NULL) == 0
                       ? find_disk(v->disks, text)
                       : -1;

        if (disk < 0)
            finish(v, row, name);
        else
            ask(v, name, "disk-remove",
                json_pack("{s:i, s:b}", "disk", disk, "force", json_is_true(force)));
        return true;
    }
    return false;
}

static void step_plug(struct machine *v, const struct store_row *row) {
    const json_t *one;
    size_t i;

    json_array_foreach(json_object_get(row->spec, "volumes"), i, one) {
        const char *name = json_string_value(one);
        char text[TEXT];

        if (json_object_get(json_object_get(row->wanted, "unplug"), name) ||
            volume_disk(v->all->m, row, name, text, sizeof(text), NULL) < 0)
            continue;
        if (find_disk(v->disks, text) < 0) {
            ask(v, name, "disk-add", json_pack("{s:s, s:s}", "disk", text, "id", name));
            return;
        }
        if (json_object_get(json_object_get(row->status, "volume_errors"), name))
            tell(v, name, NULL);
    }
}

void machine_step_disks(struct machine *v, struct store_row *row) {
    int64_t left = v->disk_again - timer_now_ms();
    struct error e = {0};

    if (!v->disks || *v->disk_asked || v->paused)
        return;
    if (v->disk_again && left > 0 && row_number(row->status, "pid")) {
        bool news = row->revision != v->disk_revision;

        v->disk_revision = row->revision;
        if (!news) {
            machine_again_in(v, left);
            return;
        }
    }
    if (volumes_ready(v->all->m, row, &e) == 0 && !step_unplug(v, row))
        step_plug(v, row);
}
