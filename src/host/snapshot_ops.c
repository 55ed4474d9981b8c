/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Operations of snapshots: each writes what is wanted, and the machine's controller does it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "host/api.h"
#include "host/image.h"
#include "host/snapshot.h"
#include "host/vm.h"
#include "host/vm_devices.h"
#include "host/volume.h"
#include "proto/units.h"

static int find_vm(struct api_call *call, struct store_row *vm) {
    const char *id = row_text(call->row.status, "vm_id");

    if (store_get(call->m->store, "vm", id, vm) == 0)
        return 0;
    return api_fail(call, FAILURE_NOT_FOUND, "spec.vm", "", "there is no machine '%s'",
                    row_text(call->row.spec, "vm"));
}

static int check_free(struct api_call *call, const struct store_row *vm) {
    const char *state = row_text(vm->status, "state");

    if (row_flag(vm->wanted, "deleting"))
        return api_fail(call, FAILURE_CONFLICT, "status.state", "", "'%s' is being deleted",
                        vm->name);
    if (json_object_get(vm->wanted, "task"))
        return api_fail(call, FAILURE_CONFLICT, "status.state", "wait until it is done",
                        "another snapshot of '%s' is being made or gone back to", vm->name);
    if (!row_flag(vm->wanted, "prepared") || !vm_settled(state))
        return api_fail(call, FAILURE_CONFLICT, "status.state", "wait until it has settled",
                        "'%s' is %s", vm->name, state);
    return 0;
}

/* The next file is thought of now, so that its name is known after any crash. */
static void put_task(struct store_row *vm, const char *what, const char *snapshot) {
    int64_t layer = row_number(vm->wanted, "layer") + 1;
    json_t *task = json_object();
    char file[40];

    snprintf(file, sizeof(file), "disk.%lld.qcow2", (long long)layer);
    row_set_number(vm->wanted, "layer", layer);
    row_set_text(task, "do", what);
    row_set_text(task, "snapshot", snapshot);
    row_set_text(task, "disk", file);
    json_object_set_new(vm->wanted, "task", task);
    row_set_text(vm->status, "work", what);
}

static int save_both(struct api_call *call, struct store_row *vm, const char *what,
                     const char *text) {
    struct store *s = call->m->store;
    struct error e = {0};

    if (store_update(s, vm, &e) < 0 || store_update(s, &call->row, &e) < 0 ||
        manager_event(call->m, &call->row, what, &e, "%s (asked by %s)", text, call->caller) < 0)
        return api_fail_error(call, &e);
    return 0;
}

static int check_content(struct api_call *call, const struct store_row *vm) {
    bool runs = !strcmp(row_text(vm->status, "state"), "running") ||
                !strcmp(row_text(vm->status, "state"), "paused");
    struct image_files files;
    struct error e = {0};

    if (vm_files(call->m, vm, &files, &e) < 0)
        return api_fail_error(call, &e);
    if (files.has_disk || (runs && row_flag(call->row.spec, "memory")))
        return 0;
    return api_fail(call, FAILURE_CONFLICT, "spec.vm", "start it, and keep its memory",
                    "'%s' has no disk: there is nothing to keep", vm->name);
}

/* What is on volumes is no part of a snapshot: they outlive machines. Memory knows what is on them,
 * and would not fit it any more; so it is left out, unless somebody has asked for it. */
static int leave_volumes(struct api_call *call, const struct store_row *vm) {
    struct store_row *row = &call->row;

    if (!volume_any(vm))
        return 0;
    if (row_flag(json_object_get(call->body, "spec"), "memory"))
        return api_fail(call, FAILURE_CONFLICT, "spec.memory",
                        "leave the memory out, or detach the volumes first",
                        "'%s' has volumes, which a snapshot does not keep: its memory would not "
                        "fit what is on them later",
                        vm->name);
    json_object_set_new(row->spec, "memory", json_false());
    row_set_text(row->status, "note",
                 "the volumes of the machine are no part of it, and so neither is its memory");
    return 0;
}

/* Nor is what a device of the host does known to anybody. */
static int leave_devices(struct api_call *call, const struct store_row *vm) {
    bool asked = row_flag(json_object_get(call->body, "spec"), "memory");

    if (!devices_any(vm))
        return 0;
    if (asked && devices_refuse(call, vm, "spec.memory", "a snapshot has the disk alone") < 0)
        return -EINVAL;
    json_object_set_new(call->row.spec, "memory", json_false());
    row_set_text(call->row.status, "note",
                 "the machine has devices of the host, so its memory is no part of it");
    return 0;
}

/* The memory that was kept knows no volumes. */
static int check_volumes(struct api_call *call, const struct store_row *vm) {
    return volume_any(vm)
               ? api_fail(call, FAILURE_CONFLICT, "spec.vm", "detach them first",
                          "'%s' has volumes, which the memory of this snapshot does not know",
                          vm->name)
               : 0;
}

static int create_row(struct api_call *call, struct store_row *vm) {
    struct error e = {0};

    if (check_free(call, vm) < 0 || leave_volumes(call, vm) < 0 || leave_devices(call, vm) < 0 ||
        check_content(call, vm) < 0)
        return -EINVAL;
    row_set_text(call->row.status, "vm_id", vm->id);
    if (json_object_get(vm->wanted, "nics")) /* that its memory will know */
        json_object_set(call->row.wanted, "nics", json_object_get(vm->wanted, "nics"));
    if (*row_text(vm->wanted, "base"))
        row_set_text(call->row.status, "parent", row_text(vm->wanted, "base"));
    row_set_state(&call->row, "creating", NULL);
    if (store_insert(call->m->store, &call->row, &e) < 0)
        return api_fail_error(call, &e);
    put_task(vm, "snapshot", call->row.id);
    return save_both(call, vm, "created", "it is to be made");
}

static int create(struct api_call *call) {
    const json_t *spec = json_object_get(call->body, "spec");
    const char *name = row_text(spec, "vm");
    struct store_row vm = {0};
    int r;

    call->row = (struct store_row){.kind = "snapshot",
                                   .spec = json_deep_copy(spec),
                                   .status = json_object(),
                                   .wanted = json_object()};
    snprintf(call->row.name, sizeof(call->row.name), "%s", row_text(call->body, "name"));
    snprintf(call->row.tenant, sizeof(call->row.tenant), "%s", call->tenant);
    resource_fill(call->resource, call->row.spec);
    if (store_find(call->m->store, "vm", call->tenant, name, &vm) < 0)
        return api_fail(call, FAILURE_NOT_FOUND, "spec.vm", "look at the list of machines",
                        "there is no machine '%s'", name);
    r = create_row(call, &vm);
    store_row_done(&vm);
    return r;
}

static int check_ready(struct api_call *call) {
    const char *state = row_text(call->row.status, "state");

    if (!strcmp(state, "ready"))
        return 0;
    return api_fail(call, FAILURE_CONFLICT, "status.state", "", "the snapshot '%s' is %s",
                    call->row.name, state);
}

static int revert(struct api_call *call) {
    struct store_row vm = {0};
    int r = check_ready(call);

    if (r == 0)
        r = find_vm(call, &vm);
    if (r == 0)
        r = check_free(call, &vm);
    if (r == 0 && row_flag(call->row.status, "live"))
        r = check_volumes(call, &vm);
    if (r == 0) {
        if (strcmp(row_text(vm.spec, "power"), "off") != 0) {
            row_set_text(vm.spec, "power", "off");
            row_set_number(vm.wanted, "stop_by", units_now_ms());
            json_object_set_new(vm.wanted, "force", json_true());
            row_set_state(&vm, "stopping", NULL);
        }
        json_object_set_new(vm.wanted, "introduce", json_true()); /* it never was then, perhaps */
        put_task(&vm, "revert", call->row.id);
        row_set_state(&call->row, "reverting", NULL);
        r = save_both(call, &vm, "reverting", "its machine is to go back to it");
    }
    store_row_done(&vm);
    return r;
}

static int delete_it(struct api_call *call) {
    const char *state = row_text(call->row.status, "state");
    struct store_row vm = {0};
    struct error e = {0};
    int r = find_vm(call, &vm);

    if (r == 0 && strcmp(state, "ready") != 0 && strcmp(state, "failed") != 0)
        r = check_ready(call);
    if (r == 0) {
        json_object_set_new(vm.wanted, "tidy", json_true());
        if (!*row_text(vm.status, "work"))
            row_set_text(vm.status, "work", "tidy");
        if (store_update(call->m->store, &vm, &e) < 0 ||
            manager_event(call->m, &call->row, "deleted", &e, "it is forgotten (asked by %s)",
                          call->caller) < 0 ||
            store_delete(call->m->store, "snapshot", call->row.id, &e) < 0)
            r = api_fail_error(call, &e);
    }
    store_row_done(&vm);
    return r;
}

static enum wait_result over(const struct store_row *row, const char *word, int64_t unused) {
    const char *state = row ? row_text(row->status, "state") : "";

    return !strcmp(state, "ready") || !strcmp(state, "failed") ? WAIT_OVER : WAIT_MORE;
}

static int wait_for(struct api_call *call) {
    return wait_begin(call, over, "ready", 0, row_number(call->args, "timeout"));
}

const struct api_handler snapshot_handlers[] = {
    {"create", create}, {"delete", delete_it}, {"revert", revert}, {"wait", wait_for}, {NULL, NULL},
};
