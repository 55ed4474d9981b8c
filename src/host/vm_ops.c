/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Operations of machines: each writes what is wanted, and vm.c does it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/api.h"
#include "host/cloud.h"
#include "host/console.h"
#include "host/expiry.h"
#include "host/forward.h"
#include "host/history.h"
#include "host/image.h"
#include "host/ticket.h"
#include "host/vm.h"
#include "host/vm_agent.h"
#include "host/vm_ask.h"
#include "host/vm_clone.h"
#include "host/vm_devices.h"
#include "host/vm_hardware.h"
#include "host/vm_nics.h"
#include "host/vm_pending.h"
#include "host/vm_process.h"
#include "host/vnet.h"
#include "host/volume.h"
#include "proto/units.h"

static int update_row(struct api_call *call) {
    struct error e = {0};

    return store_update(call->m->store, &call->row, &e) < 0 ? api_fail_error(call, &e) : 0;
}

/* Whoever does something with a machine uses it. */
static int event(struct api_call *call, const char *what, const char *text) {
    struct error e = {0};

    expiry_used(&call->row, units_now_ms());
    return manager_event(call->m, &call->row, what, &e, "%s (asked by %s)", text, call->caller) < 0
               ? api_fail_error(call, &e)
               : 0;
}

static const char *power_of(const struct api_call *call) {
    return row_text(call->row.spec, "power");
}

static const char *state_of(const struct api_call *call) {
    return row_text(call->row.status, "state");
}

static int check_not_deleting(struct api_call *call) {
    if (!row_flag(call->row.wanted, "deleting"))
        return 0;
    return api_fail(call, FAILURE_CONFLICT, "status.state", "", "'%s' is being deleted",
                    call->row.name);
}

/* ------------------------------------------------------------------ what is wanted */

/* The next process of the machine; it goes on with the memory that there is. Whether the guest has
 * run by then nobody may know after a crash, so the memory is used up now. */
static void want_start(struct api_call *call) {
    struct store_row *row = &call->row;
    bool prepared = row_flag(row->wanted, "prepared");
    const char *memory = row_text(row->wanted, "suspended");

    if (*memory) {
        row_set_text(row->wanted, "restore", memory);
        row_set_number(row->wanted, "restore_cycle", row_number(row->wanted, "cycle") + 1);
        json_object_set_new(row->wanted, "resuming", json_true());
        row_unset(row->wanted, "suspended");
    }

    row_set_text(row->spec, "power", "on");
    row_set_number(row->wanted, "cycle", row_number(row->wanted, "cycle") + 1);
    row_unset(row->wanted, "next_start");
    row_unset(row->wanted, "failures");
    row_unset(row->status, "next_start");
    row_unset(row->status, "restarts");
    row_set_state(row, prepared ? "starting" : "creating", NULL);
}

/* The process is to go by then; without one nothing needs it. */
static void want_end(struct api_call *call, int64_t seconds, bool force) {
    struct store_row *row = &call->row;

    row_set_number(row->wanted, "stop_by", units_now_ms() + seconds * 1000);
    row_set_number(row->wanted, "stop_ms", seconds * 1000);
    if (force)
        json_object_set_new(row->wanted, "force", json_true());
}

static void want_off(struct api_call *call, int64_t seconds, bool force) {
    struct store_row *row = &call->row;

    row_set_text(row->spec, "power", "off");
    want_end(call, seconds, force);
    if (row_flag(row->wanted, "prepared"))
        row_set_state(row, "stopping", NULL);
}

/* Nothing else is done while its memory is written. */
static int check_not_suspending(struct api_call *call) {
    if (strcmp(row_text(call->row.status, "work"), "suspend") != 0)
        return check_not_deleting(call);
    return api_fail(call, FAILURE_CONFLICT, "status.state", "wait until it is suspended",
                    "the memory of '%s' is being written", call->row.name);
}

static int check_not_archived(struct api_call *call) {
    if (!expiry_archived(&call->row))
        return 0;
    return api_fail(call, FAILURE_CONFLICT, "status.archived",
                    "extend it first: viv edit NAME --expire 7d, or --expire never",
                    "'%s' has expired and is archived", call->row.name);
}

/* Its memory is not lost by accident. */
static int check_not_suspended(struct api_call *call) {
    if (!*row_text(call->row.wanted, "suspended"))
        return 0;
    return api_fail(call, FAILURE_CONFLICT, "status.state",
                    "start it, so that it goes on; kill it, to forget its memory",
                    "'%s' is suspended", call->row.name);
}

/* ------------------------------------------------------------------ operations */

static int start(struct api_call *call) {
    if (check_not_suspending(call) < 0 || check_not_archived(call) < 0)
        return -EINVAL;
    if (!strcmp(power_of(call), "paused"))
        return api_fail(call, FAILURE_CONFLICT, "spec.power", "resume it", "'%s' is paused",
                        call->row.name);
    if (!strcmp(power_of(call), "on") && strcmp(state_of(call), "restarting") != 0)
        return 0;
    want_start(call);
    return event(call, "starting", "it is to start") < 0 ? -EINVAL : update_row(call);
}

static int forget_memory(struct api_call *call) {
    row_unset(call->row.wanted, "suspended");
    json_object_set_new(call->row.wanted, "tidy", json_true());
    row_set_text(call->row.status, "work", "tidy");
    row_set_state(&call->row, "stopped", NULL);
    return event(call, "stopped", "its memory is forgotten") < 0 ? -EINVAL : update_row(call);
}

static int end(struct api_call *call, int64_t seconds, bool force) {
    if (check_not_suspending(call) < 0 || (!force && check_not_suspended(call) < 0))
        return -EINVAL;
    if (*row_text(call->row.wanted, "suspended"))
        return forget_memory(call);
    if (!strcmp(power_of(call), "off") && vm_settled(state_of(call)))
        return 0;
    want_off(call, seconds, force);
    return event(call, "stopping", force ? "it is to be ended by force" : "it is to shut down") < 0
               ? -EINVAL
               : update_row(call);
}

static int stop(struct api_call *call) {
    return end(call, row_number(call->args, "timeout"), false);
}

static int kill_it(struct api_call *call) { return end(call, 0, true); }

static int restart(struct api_call *call) {
    if (check_not_suspending(call) < 0 || check_not_suspended(call) < 0 ||
        check_not_archived(call) < 0)
        return -EINVAL;
    if (strcmp(power_of(call), "off") != 0)
        want_end(call, row_number(call->args, "timeout"), false);
    want_start(call);
    return event(call, "starting", "it is to start anew") < 0 ? -EINVAL : update_row(call);
}

static int pause_it(struct api_call *call) {
    if (check_not_suspending(call) < 0)
        return -EINVAL;
    if (!strcmp(power_of(call), "paused"))
        return 0;
    if (strcmp(state_of(call), "running") != 0)
        return api_fail(call, FAILURE_CONFLICT, "status.state", "start it first",
                        "'%s' is %s: only a machine that runs can be paused", call->row.name,
                        state_of(call));
    row_set_text(call->row.spec, "power", "paused");
    row_set_state(&call->row, "pausing", NULL);
    return update_row(call);
}

static int resume(struct api_call *call) {
    bool paused = !strcmp(power_of(call), "paused") || !strcmp(state_of(call), "paused");

    if (check_not_suspending(call) < 0)
        return -EINVAL;
    if (!paused && !strcmp(power_of(call), "on"))
        return 0;
    if (!paused)
        return api_fail(call, FAILURE_CONFLICT, "status.state", "start it",
                        "'%s' is %s, not paused", call->row.name, state_of(call));
    row_set_text(call->row.spec, "power", "on");
    row_set_state(&call->row, "resuming", NULL);
    return update_row(call);
}

static int delete_it(struct api_call *call) {
    bool runs = strcmp(power_of(call), "off") != 0 || !vm_settled(state_of(call));

    if (row_flag(call->row.wanted, "deleting"))
        return 0;
    if (!strcmp(row_text(call->row.status, "work"), "clone"))
        return api_fail(call, FAILURE_CONFLICT, "status.work", "wait a moment",
                        "a copy of '%s' is being made", call->row.name);
    if (runs && !row_flag(call->args, "force"))
        return api_fail(call, FAILURE_CONFLICT, "status.state",
                        "stop it first, or delete it with force (viv rm --force)", "'%s' is %s",
                        call->row.name, state_of(call));
    json_object_set_new(call->row.wanted, "deleting", json_true());
    row_set_text(call->row.spec, "power", "off");
    row_set_state(&call->row, "deleting", NULL);
    return event(call, "deleting", "it is to be deleted") < 0 ? -EINVAL : update_row(call);
}

/* ------------------------------------------------------------------ creation and changes */

/* What the declaration cannot say. */
static int check_spec(struct api_call *call, const json_t *spec) {
    const char *field = "";
    struct error e = {0};

    if (cloud_check(spec, &field, &e) < 0)
        return api_fail(call, FAILURE_INVALID, field, "", "%s", e.text);
    if (forward_check(call, spec) < 0 || nics_check(call, spec, &call->row) < 0 ||
        hardware_check(call, spec) < 0 || devices_check(call, spec, &call->row) < 0)
        return -EINVAL;
    return 0;
}

static int fail_no_image(struct api_call *call, const char *name) {
    char remedy[120];

    snprintf(remedy, sizeof(remedy), "make it first: viv image build %.80s", name);
    return api_fail(call, FAILURE_CONFLICT, "spec.image", remedy, "there is no image '%s'", name);
}

static int check_image(struct api_call *call, const char *name, char id[STORE_WORD]) {
    struct store_row image = {0};
    struct image_files files;
    struct error e = {0};
    int64_t disk = row_number(call->row.spec, "disk");
    int r;

    *id = 0;
    if (!strcmp(name, VM_NO_IMAGE)) {
        vm_files(call->m, &call->row, &files, NULL);
        return disk % 512 ? api_fail(call, FAILURE_INVALID, "spec.disk", "use whole megabytes",
                                     "the disk must be a multiple of 512 bytes")
                          : hardware_check_boot(call, call->row.spec, &files);
    }
    r = store_find(call->m->store, "image", call->tenant, name, &image);
    if (r < 0)
        return fail_no_image(call, name);
    if (image_files(call->m, image.id, &files, &e) < 0)
        r = api_fail(call, FAILURE_CONFLICT, "spec.image", "wait for its job", "%s", e.text);
    else if (disk && !*files.disk)
        r = api_fail(call, FAILURE_INVALID, "spec.disk", "leave it out",
                     "the image '%s' has no disk", name);
    else if (disk && (disk < files.size || disk % 512))
        r = api_fail(call, FAILURE_INVALID, "spec.disk", "use its size or more",
                     "the disk must not be smaller than that of the image (%lld bytes), and a "
                     "multiple of 512",
                     (long long)files.size);
    else
        r = hardware_check_boot(call, call->row.spec, &files);
    snprintf(id, STORE_WORD, "%s", image.id);
    store_row_done(&image);
    return r;
}

static int create(struct api_call *call) {
    const json_t *spec = json_object_get(call->body, "spec");
    char image[STORE_WORD];
    struct error e = {0};
    bool on;

    call->row = (struct store_row){.kind = "vm",
                                   .spec = json_deep_copy(spec),
                                   .status = json_object(),
                                   .wanted = json_object()};
    snprintf(call->row.name, sizeof(call->row.name), "%s", row_text(call->body, "name"));
    snprintf(call->row.tenant, sizeof(call->row.tenant), "%s", call->tenant);
    resource_fill(call->resource, call->row.spec);
    if (check_spec(call, call->row.spec) < 0 ||
        check_image(call, row_text(call->row.spec, "image"), image) < 0)
        return -EINVAL;
    on = strcmp(power_of(call), "off") != 0;
    row_set_number(call->row.wanted, "cycle", on);
    json_object_set_new(call->row.wanted, "introduce", json_true());
    row_set_text(call->row.status, "image_id", *image ? image : NULL);
    row_set_state(&call->row, "creating", NULL);
    expiry_begin(&call->row, units_now_ms());
    if (store_insert(call->m->store, &call->row, &e) < 0)
        return api_fail_error(call, &e);
    if (vnet_assign(call->m, &call->row, &e) < 0)
        return api_fail(call, FAILURE_CONFLICT, "spec.network", "", "%s", e.text);
    if (json_object_get(call->row.status, "networks") && update_row(call) < 0)
        return -EINVAL;
    if (volume_claim(call, &call->row, NULL) < 0)
        return -EINVAL;
    return event(call, "created", "it is to be made");
}

/* A change of power is the operation of that name. */
static int change_power(struct api_call *call, const char *power) {
    bool was_off = !strcmp(power_of(call), "off");

    if (!strcmp(power, power_of(call)))
        return 0;
    if (!strcmp(power, "off"))
        want_off(call, 60, false);
    else if (was_off) {
        want_start(call);
        row_set_text(call->row.spec, "power", power);
    } else {
        row_set_text(call->row.spec, "power", power);
        row_set_state(&call->row, strcmp(power, "on") ? "pausing" : "resuming", NULL);
    }
    return event(call, "changed", "its power is to change");
}

/* A change is a use, and one of its time is a new one, which brings an archived machine back. */
static int extend(struct api_call *call, const json_t *patch) {
    int64_t now = units_now_ms(), due;

    if (json_object_get(patch, "expire"))
        expiry_begin(&call->row, now);
    else
        expiry_used(&call->row, now);
    if (!expiry_archived(&call->row) || expiry_decide(&call->row, now, &due) != EXPIRY_KEEP)
        return 0;
    return event(call, "extended", "it is not archived any more");
}

/* What it would boot after a change. */
static int check_boot(struct api_call *call, const json_t *patch) {
    json_t *spec = json_deep_copy(call->row.spec);
    struct image_files files;
    struct error e = {0};
    int r = 0;

    json_object_update(spec, (json_t *)patch);
    if (vm_files(call->m, &call->row, &files, &e) < 0)
        r = api_fail_error(call, &e);
    else
        r = hardware_check_boot(call, spec, &files);
    json_decref(spec);
    return r;
}

static int update(struct api_call *call) {
    json_t *patch = json_object_get(call->body, "spec"), *before, *v;
    const char *key;
    int r;

    if ((json_object_get(patch, "volumes") || hardware_changes(patch)) &&
        check_not_suspended(call) < 0)
        return -EINVAL; /* its memory knows what it has */
    if ((json_object_get(patch, "power") ? check_not_suspending(call) : check_not_deleting(call)) <
            0 ||
        check_spec(call, patch) < 0)
        return -EINVAL;
    if (hardware_changes(patch) && check_boot(call, patch) < 0)
        return -EINVAL;
    before = json_deep_copy(json_object_get(call->row.spec, "volumes"));
    pending_change(&call->row, patch);
    json_object_foreach(patch, key, v)
        if (strcmp(key, "power") != 0)
            json_object_set(call->row.spec, key, v);
    r = json_object_get(patch, "volumes") ? volume_claim(call, &call->row, before) : 0;
    json_decref(before);
    if (r < 0 || extend(call, patch) < 0)
        return -EINVAL;
    if (strcmp(row_text(patch, "power"), "on") == 0 && check_not_archived(call) < 0)
        return -EINVAL;
    if (json_object_get(patch, "power") && change_power(call, row_text(patch, "power")) < 0)
        return -EINVAL;
    return update_row(call);
}

/* ------------------------------------------------------------------ waiting and the console */

static enum wait_result over(const struct store_row *row, const char *word, int64_t unused) {
    const char *state = row ? row_text(row->status, "state") : "";
    bool yes;

    if (!row)
        return strcmp(word, "deleted") ? WAIT_MORE : WAIT_OVER;
    if (!strcmp(word, "settled"))
        yes = vm_settled(state);
    else if (!strcmp(word, "ready"))
        yes =
            !strcmp(state, "running") && *row_text(row->status, "agent") && machine_is_itself(row);
    else if (!strcmp(word, "stopped"))
        yes = !strcmp(state, "stopped") || !strcmp(state, "failed");
    else
        yes = !strcmp(state, word);
    return yes ? WAIT_OVER : WAIT_MORE;
}

static int wait_for(struct api_call *call) {
    if (!strcmp(row_text(call->args, "for"), "ready"))
        machines_want_agent(call->m->machines, call->row.id, row_number(call->args, "timeout"));
    return wait_begin(call, over, row_text(call->args, "for"), 0,
                      row_number(call->args, "timeout"));
}

/* What the guest says of itself is asked for again, for the next who looks. */
static int get(struct api_call *call) {
    machines_want_agent(call->m->machines, call->row.id, 0);
    return api_answer_unchanged(call);
}

static int agent(struct api_call *call) {
    if (!http_header_has(http_request(call->x), "Upgrade", "agent"))
        return api_fail(call, FAILURE_INVALID, "Upgrade",
                        "send 'Connection: Upgrade' and 'Upgrade: agent'",
                        "what is said with an agent is a stream of bytes");
    expiries_used(call->m->expiries, &call->row);
    return agent_attach(call);
}

static int log_text(struct api_call *call) {
    char path[160], *text;

    machine_path(call->m, call->row.id, row_flag(call->args, "old") ? "log.old" : "log", path,
                 sizeof(path));
    text = vm_log_read(path);
    http_answer(call->x, 200, "text/plain; charset=utf-8", text ? text : "",
                text ? strlen(text) : 0);
    free(text);
    return 1;
}

static int output(struct api_call *call) {
    char path[160], *text;

    machine_path(call->m, call->row.id, VM_SERIAL_LOG, path, sizeof(path));
    text = console_log_read(path);
    http_answer(call->x, 200, "text/plain; charset=utf-8", text ? text : "",
                text ? strlen(text) : 0);
    free(text);
    return 1;
}

static int console(struct api_call *call) {
    if (!http_header_has(http_request(call->x), "Upgrade", "serial"))
        return api_fail(call, FAILURE_INVALID, "Upgrade",
                        "send 'Connection: Upgrade' and 'Upgrade: serial'",
                        "the console is a stream of bytes");
    expiries_used(call->m->expiries, &call->row);
    return console_attach(call);
}

const struct api_handler vm_handlers[] = {
    {"create", create},
    {"update", update},
    {"delete", delete_it},
    {"start", start},
    {"stop", stop},
    {"kill", kill_it},
    {"restart", restart},
    {"pause", pause_it},
    {"resume", resume},
    {"wait", wait_for},
    {"console", console},
    {"agent", agent},
    {"log", log_text},
    {"output", output},
    {"history", history_of_vm},
    {"get", get},
    {"clone", vm_clone},
    {"suspend", vm_suspend},
    {"screen", ticket_screen},
    {"ticket", ticket_create},
    {"forward", forward_add},
    {"unforward", forward_remove},
    {"nic-add", nics_add},
    {"nic-remove", nics_remove},
    {"device-add", devices_add},
    {"device-remove", devices_remove},
    {"insert", hardware_insert},
    {"screenshot", screen_picture},
    {"send-key", screen_keys},
    {"type", screen_text},
    {"pointer", screen_pointer},
    {"eject", hardware_eject},
    {NULL, NULL},
};
