/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Operations that copy machines, and the one that suspends them: each writes what is wanted. */
#include "host/vm_clone.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "host/expiry.h"
#include "host/job.h"
#include "host/layers.h"
#include "host/vm.h"
#include "host/vm_devices.h"
#include "host/vm_hardware.h"
#include "host/vm_nics.h"
#include "host/vm_ports.h"
#include "proto/units.h"

static bool has_process(const struct store_row *vm) {
    const char *state = row_text(vm->status, "state");

    return !strcmp(state, "running") || !strcmp(state, "paused");
}

static int check_free(struct api_call *call, const struct store_row *vm) {
    const char *state = row_text(vm->status, "state");

    if (row_flag(vm->wanted, "deleting"))
        return api_fail(call, FAILURE_CONFLICT, "status.state", "", "'%s' is being deleted",
                        vm->name);
    if (json_object_get(vm->wanted, "task"))
        return api_fail(call, FAILURE_CONFLICT, "status.work", "wait until it is done",
                        "something is being done with the disk of '%s' (%s)", vm->name,
                        row_text(vm->status, "work"));
    if (!row_flag(vm->wanted, "prepared") || !vm_settled(state))
        return api_fail(call, FAILURE_CONFLICT, "status.state", "wait until it has settled",
                        "'%s' is %s", vm->name, state);
    return 0;
}

int clone_begin(struct api_call *call, struct store_row *vm, const char *kind, const char *to,
                bool memory) {
    int64_t layer = row_number(vm->wanted, "layer") + 1;
    char file[LAYER_NAME];
    struct error e = {0};
    int r = check_free(call, vm);

    if (r < 0)
        return r;
    layers_name(layer, file);
    row_set_number(vm->wanted, "layer", layer);
    json_object_set_new(vm->wanted, "task",
                        json_pack("{s:s, s:s, s:s, s:s, s:b}", "do", "clone", "kind", kind, "to",
                                  to, "disk", file, "memory", (int)memory));
    row_set_text(vm->status, "work", "clone");
    expiry_used(vm, units_now_ms());
    return store_update(call->m->store, vm, &e) < 0 ? api_fail_error(call, &e) : 0;
}

/* ------------------------------------------------------------------ clones */

/* Locally administered, not a group's. */
static void choose_mac(char out[18]) {
    unsigned char b[4] = {0};

    if (getrandom(b, sizeof(b), 0) != (ssize_t)sizeof(b))
        b[0] = 1;
    snprintf(out, 18, "52:54:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3]);
}

static void fill_clone(struct api_call *call, const char *mode, struct store_row *clone) {
    const char *name = row_text(call->args, "name");
    bool live = !strcmp(mode, "live"), on = live || row_flag(call->args, "start");
    char mac[18];

    *clone = (struct store_row){.kind = "vm",
                                .spec = json_deep_copy(call->row.spec),
                                .status = json_object(),
                                .wanted = json_object()};
    snprintf(clone->name, sizeof(clone->name), "%s", name);
    snprintf(clone->tenant, sizeof(clone->tenant), "%s", call->tenant);
    /* Ports of the host belong to one machine. */
    json_object_set_new(clone->spec, "forward", json_array());
    json_object_set_new(clone->spec, "volumes", json_array()); /* and so do volumes */
    if (json_object_get(clone->spec, "devices"))
        json_object_set_new(clone->spec, "devices", json_array());
    if (live && json_object_get(call->row.wanted, "nics"))
        json_object_set_new(clone->wanted, "nics",
                            json_deep_copy(json_object_get(call->row.wanted, "nics")));
    nics_forget_addresses(clone);
    ports_forget(clone->spec);
    hardware_forget_volume(clone->spec);
    hardware_forget_nodes(call, clone->spec);
    api_forget_forbidden(call, clone->spec);
    if (*row_text(clone->spec, "hostname"))
        row_set_text(clone->spec, "hostname", name);
    row_set_text(clone->spec, "power", on ? "on" : "off");
    row_set_text(clone->status, "image_id", row_text(call->row.status, "image_id"));
    row_set_text(clone->status, "cloned_from", call->row.id);
    row_set_number(clone->wanted, "cycle", on);
    json_object_set_new(clone->wanted, "renew", json_true());
    json_object_set_new(clone->wanted, "introduce",
                        json_true()); /* its source never was, perhaps */
    choose_mac(mac);
    row_set_text(clone->wanted, "mac", mac);
    json_object_set_new(clone->wanted, "clone",
                        json_pack("{s:s, s:s}", "from", call->row.id, "mode", mode));
    row_set_state(clone, "creating", NULL);
    expiry_begin(clone, units_now_ms());
}

static int insert_clone(struct api_call *call, const char *mode, struct store_row *clone) {
    struct store *s = call->m->store;
    struct store_row job = {0};
    struct error e = {0};

    if (!strcmp(mode, "full")) {
        if (job_new(call->m, call->tenant, "clone", clone->name, &job, &e) < 0)
            return api_fail_error(call, &e);
        row_set_text(clone->status, "job", job.id);
        store_row_done(&job);
    }
    if (store_insert(s, clone, &e) < 0)
        return api_fail_error(call, &e);
    if (!strcmp(mode, "live")) { /* its memory is called by its id */
        row_set_text(clone->wanted, "restore", clone->id);
        row_set_number(clone->wanted, "restore_cycle", 1);
        if (store_update(s, clone, &e) < 0)
            return api_fail_error(call, &e);
    }
    if (manager_event(call->m, clone, "created", &e,
                      "it is to be a clone of '%s', %s (asked by %s)", call->row.name, mode,
                      call->caller) < 0)
        return api_fail_error(call, &e);
    return 0;
}

int vm_clone(struct api_call *call) {
    const char *mode = row_text(call->args, "mode");
    bool live = !strcmp(mode, "live");
    struct store_row clone;
    int r;

    if (check_free(call, &call->row) < 0)
        return -EINVAL;
    if (live && !has_process(&call->row))
        return api_fail(call, FAILURE_CONFLICT, "mode", "start it, or make a linked clone",
                        "'%s' is %s: only a machine that runs has a memory to go on from",
                        call->row.name, row_text(call->row.status, "state"));
    if (live && json_array_size(json_object_get(call->row.spec, "volumes")))
        return api_fail(call, FAILURE_CONFLICT, "mode", "make a linked clone, which has none",
                        "'%s' has volumes, which belong to one machine", call->row.name);
    if (live &&
        devices_refuse(call, &call->row, "mode", "a linked clone, which has none, goes") < 0)
        return -EINVAL;
    if (live && !api_is_local_admin(call) &&
        json_array_size(json_object_get(call->row.spec, "share")))
        return api_fail(call, FAILURE_FORBIDDEN, "mode", "make a linked clone, which has none",
                        "the memory of '%s' knows folders of the host, which %s may not hand out",
                        call->row.name, call->caller);
    fill_clone(call, mode, &clone);
    r = insert_clone(call, mode, &clone);
    if (r == 0)
        r = clone_begin(call, &call->row, "vm", clone.id, live);
    if (r < 0) {
        store_row_done(&clone);
        return r;
    }
    store_row_done(&call->row);
    call->row = clone; /* the answer */
    return 0;
}

/* ------------------------------------------------------------------ suspend */

int vm_suspend(struct api_call *call) {
    struct store_row *row = &call->row;
    char memory[32];
    struct error e = {0};

    if (!strcmp(row_text(row->status, "state"), "suspended"))
        return 0;
    if (check_free(call, row) < 0)
        return -EINVAL;
    if (!has_process(row))
        return api_fail(call, FAILURE_CONFLICT, "status.state", "start it first",
                        "'%s' is %s: only a machine that runs can be suspended", row->name,
                        row_text(row->status, "state"));
    if (devices_refuse(call, row, "spec.devices", "it cannot be suspended") < 0)
        return -EINVAL;
    /* A name that no other process of it has. */
    snprintf(memory, sizeof(memory), "s%lld", (long long)row_number(row->wanted, "cycle"));
    json_object_set_new(row->wanted, "task",
                        json_pack("{s:s, s:s, s:s}", "do", "suspend", "memory", memory, "was",
                                  row_text(row->spec, "power")));
    row_set_text(row->status, "work", "suspend");
    row_set_text(row->spec, "power", "off");
    row_set_state(row, "suspending", NULL);
    if (manager_event(call->m, row, "suspending", &e, "its memory is to be written (asked by %s)",
                      call->caller) < 0 ||
        store_update(call->m->store, row, &e) < 0)
        return api_fail_error(call, &e);
    return 0;
}
