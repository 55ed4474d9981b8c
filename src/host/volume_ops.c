/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Operations of volumes, and who has which: a volume's machine and a machine's volumes change in
 * the same transaction. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host/api.h"
#include "host/vm.h"
#include "host/volume.h"

static int update_row(struct api_call *call, struct store_row *row) {
    struct error e = {0};

    return store_update(call->m->store, row, &e) < 0 ? api_fail_error(call, &e) : 0;
}

static int event(struct api_call *call, const struct store_row *row, const char *what,
                 const char *text) {
    struct error e = {0};

    return manager_event(call->m, row, what, &e, "%s (asked by %s)", text, call->caller) < 0
               ? api_fail_error(call, &e)
               : 0;
}

static int check_size(struct api_call *call, int64_t size) {
    if (size % 512 == 0)
        return 0;
    return api_fail(call, FAILURE_INVALID, "spec.size", "round it up",
                    "the size of a volume is a multiple of 512 bytes");
}

static int check_not_deleting(struct api_call *call, const struct store_row *row) {
    if (!row_flag(row->wanted, "deleting"))
        return 0;
    return api_fail(call, FAILURE_CONFLICT, "status.state", "", "'%s' is being deleted", row->name);
}

static int create(struct api_call *call) {
    struct error e = {0};

    call->row = (struct store_row){.kind = "volume",
                                   .spec = json_deep_copy(json_object_get(call->body, "spec")),
                                   .status = json_object(),
                                   .wanted = json_object()};
    snprintf(call->row.name, sizeof(call->row.name), "%s", row_text(call->body, "name"));
    snprintf(call->row.tenant, sizeof(call->row.tenant), "%s", call->tenant);
    resource_fill(call->resource, call->row.spec);
    if (strlen(call->row.name) > VOLUME_NAME)
        return api_fail(call, FAILURE_INVALID, "name", "choose a shorter one",
                        "the name of a volume has at most %d characters, as the serial number of a "
                        "disk has",
                        VOLUME_NAME);
    if (check_size(call, row_number(call->row.spec, "size")) < 0)
        return -EINVAL;
    row_set_state(&call->row, "creating", NULL);
    if (store_insert(call->m->store, &call->row, &e) < 0)
        return api_fail_error(call, &e);
    return event(call, &call->row, "created", "it is to be made");
}

/* Memory that was kept knows the volume, and its size. */
static int check_awake(struct api_call *call, const struct store_row *vm,
                       const struct store_row *volume) {
    if (strcmp(row_text(vm->status, "state"), "suspended") != 0)
        return 0;
    return api_fail(call, FAILURE_CONFLICT, "status.state",
                    "start it first, or forget its memory: viv kill",
                    "the machine '%s' is suspended, and its memory knows the volume '%s'", vm->name,
                    volume->name);
}

/* True: they are others than before. They hold when it is opened the next time. */
static bool change_limits(struct api_call *call) {
    static const char *const fields[] = {"iops", "bps"};
    const json_t *spec = json_object_get(call->body, "spec");
    bool news = false;

    for (unsigned i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        json_t *to = json_object_get(spec, fields[i]);

        if (!to || json_equal(to, json_object_get(call->row.spec, fields[i])))
            continue;
        json_object_set(call->row.spec, fields[i], to);
        news = true;
    }
    return news;
}

static int grow(struct api_call *call, json_t *size) {
    int64_t old = row_number(call->row.spec, "size"), want = json_integer_value(size);
    struct store_row vm = {0};
    int r = 0;

    if (check_size(call, want) < 0)
        return -EINVAL;
    if (want < old)
        return api_fail(call, FAILURE_INVALID, "spec.size", "make another volume, and copy",
                        "a volume can only grow: what lies at its end would be lost");
    if (*row_text(call->row.status, "vm_id") &&
        store_get(call->m->store, "vm", row_text(call->row.status, "vm_id"), &vm) == 0)
        r = check_awake(call, &vm, &call->row);
    store_row_done(&vm);
    if (r < 0)
        return r;
    json_object_set(call->row.spec, "size", size);
    row_unset(call->row.wanted, "gave_up");
    row_unset(call->row.wanted, "later");
    if (row_flag(call->row.wanted, "prepared"))
        row_set_state(&call->row, "resizing", NULL);
    return 0;
}

static int update(struct api_call *call) {
    json_t *size = json_object_get(json_object_get(call->body, "spec"), "size");
    bool grows = size && json_integer_value(size) != row_number(call->row.spec, "size");
    bool news;

    if (check_not_deleting(call, &call->row) < 0)
        return -EINVAL;
    news = change_limits(call);
    if (grows && grow(call, size) < 0)
        return -EINVAL;
    return grows || news ? update_row(call, &call->row) : 0;
}

static int delete_it(struct api_call *call) {
    if (row_flag(call->row.wanted, "deleting"))
        return 0;
    if (*row_text(call->row.status, "vm"))
        return api_fail(call, FAILURE_CONFLICT, "status.vm", "detach it first",
                        "the volume '%s' is attached to the machine '%s'", call->row.name,
                        row_text(call->row.status, "vm"));
    json_object_set_new(call->row.wanted, "deleting", json_true());
    row_set_state(&call->row, "deleting", NULL);
    return event(call, &call->row, "deleting", "it is to be deleted") < 0
               ? -EINVAL
               : update_row(call, &call->row);
}

/* ------------------------------------------------------------------ who has which */

static bool has_name(const json_t *list, const char *name) {
    const json_t *one;
    size_t i;

    json_array_foreach(list, i, one)
        if (!strcmp(json_string_value(one), name))
            return true;
    return false;
}

static int take(struct api_call *call, const struct store_row *vm, struct store_row *volume) {
    const char *id = row_text(volume->status, "vm_id");
    char text[120];

    if (check_not_deleting(call, volume) < 0)
        return -EINVAL;
    if (!strcmp(id, vm->id))
        return 0;
    if (*id)
        return api_fail(call, FAILURE_CONFLICT, "spec.volumes", "detach it there first",
                        "the volume '%s' is attached to the machine '%s', and can have one only",
                        volume->name, row_text(volume->status, "vm"));
    row_set_text(volume->status, "vm", vm->name);
    row_set_text(volume->status, "vm_id", vm->id);
    snprintf(text, sizeof(text), "it is attached to '%s'", vm->name);
    return event(call, volume, "attached", text) < 0 ? -EINVAL : update_row(call, volume);
}

static int give_back(struct api_call *call, const struct store_row *vm, struct store_row *volume) {
    const char *state = row_text(vm->status, "state");
    char text[120];

    if (!vm_settled(state))
        return api_fail(call, FAILURE_CONFLICT, "status.state", "wait until it has settled",
                        "'%s' is %s", vm->name, state);
    if (check_awake(call, vm, volume) < 0)
        return -EINVAL;
    if (volume_in_use(call->m, volume))
        return api_fail(call, FAILURE_CONFLICT, "status.state", "stop it first",
                        "the machine '%s' uses the volume '%s'", vm->name, volume->name);
    row_unset(volume->status, "vm");
    row_unset(volume->status, "vm_id");
    snprintf(text, sizeof(text), "it is taken from '%s'", vm->name);
    return event(call, volume, "detached", text) < 0 ? -EINVAL : update_row(call, volume);
}

static int with_each(struct api_call *call, const struct store_row *vm, const json_t *these,
                     const json_t *but_not,
                     int (*fn)(struct api_call *call, const struct store_row *vm,
                               struct store_row *volume)) {
    const json_t *one;
    size_t i;

    json_array_foreach(these, i, one) {
        const char *name = json_string_value(one);
        struct store_row row = {0};
        int r;

        if (has_name(but_not, name))
            continue;
        r = store_find(call->m->store, "volume", vm->tenant, name, &row);
        r = r < 0 ? api_fail(call, FAILURE_CONFLICT, "spec.volumes",
                             "make it first: viv volume create", "there is no volume '%s'", name)
                  : fn(call, vm, &row);
        store_row_done(&row);
        if (r < 0)
            return r;
    }
    return 0;
}

int volume_claim(struct api_call *call, const struct store_row *vm, const json_t *before) {
    const json_t *after = json_object_get(vm->spec, "volumes"), *one;
    size_t i;

    json_array_foreach(after, i, one)
        for (size_t k = 0; k < i; k++)
            if (json_equal(one, json_array_get(after, k)))
                return api_fail(call, FAILURE_INVALID, "spec.volumes", "name it once",
                                "the volume '%s' stands there twice", json_string_value(one));
    return with_each(call, vm, before, after, give_back) < 0 ||
                   with_each(call, vm, after, before, take) < 0
               ? -EINVAL
               : 0;
}

int volume_forget_all(struct manager *m, const struct store_row *vm, struct error *err) {
    const json_t *one;
    size_t i;
    int r = 0;

    json_array_foreach(json_object_get(vm->spec, "volumes"), i, one) {
        struct store_row row = {0};

        if (store_find(m->store, "volume", vm->tenant, json_string_value(one), &row) == 0 &&
            !strcmp(row_text(row.status, "vm_id"), vm->id)) {
            row_unset(row.status, "vm");
            row_unset(row.status, "vm_id");
            r = store_update(m->store, &row, err);
        }
        store_row_done(&row);
        if (r < 0)
            return r;
    }
    return 0;
}

bool volume_any(const struct store_row *vm) {
    return json_array_size(json_object_get(vm->spec, "volumes"));
}

/* ------------------------------------------------------------------ attach and detach */

/* The machine with its volumes as they will be. */
static int change_machine(struct api_call *call, struct store_row *vm, json_t *after) {
    json_t *before = json_deep_copy(json_object_get(vm->spec, "volumes"));
    int r;

    json_object_set_new(vm->spec, "volumes", after);
    r = check_not_deleting(call, vm);
    if (r == 0)
        r = volume_claim(call, vm, before);
    if (r == 0)
        r = update_row(call, vm);
    json_decref(before);
    if (r == 0) { /* it was written by the claim */
        store_row_done(&call->row);
        call->row = (struct store_row){0};
        if (store_find(call->m->store, "volume", call->tenant, call->name, &call->row) < 0)
            r = api_fail(call, FAILURE_FAILED, "", "look at vivd.log", "the store cannot be read");
    }
    return r;
}

static int attach(struct api_call *call) {
    const struct field *f = field_find(resource_find("vm")->fields, "volumes");
    const char *name = row_text(call->args, "vm");
    struct store_row vm = {0};
    json_t *list;
    int r;

    if (store_find(call->m->store, "vm", call->tenant, name, &vm) < 0)
        return api_fail(call, FAILURE_NOT_FOUND, "vm", "look at the list of machines",
                        "there is no machine '%s'", name);
    list = json_deep_copy(json_object_get(vm.spec, "volumes"));
    if (!list)
        list = json_array();
    if (has_name(list, call->row.name)) {
        json_decref(list);
        r = 0;
    } else if ((int64_t)json_array_size(list) >= f->max) {
        json_decref(list);
        r = api_fail(call, FAILURE_CONFLICT, "vm", "detach another one",
                     "a machine has at most %lld volumes", (long long)f->max);
    } else {
        json_array_append_new(list, json_string(call->row.name));
        r = change_machine(call, &vm, list);
    }
    store_row_done(&vm);
    return r;
}

/* The guest may be asked for it. */
static bool can_unplug(const struct api_call *call, const struct store_row *vm) {
    const char *state = row_text(vm->status, "state");

    return !strcmp(state, "running") && volume_in_use(call->m, &call->row);
}

/* The machine's controller goes on with it (vm_disks.c). */
static int begin_unplug(struct api_call *call, struct store_row *vm) {
    json_t *unplug = json_object_get(vm->wanted, "unplug");
    json_t *errors = json_object_get(vm->status, "volume_errors");
    struct error e = {0};

    if (row_flag(vm->wanted, "deleting"))
        return 0; /* it is given back with its machine */
    if (!unplug) {
        unplug = json_object();
        json_object_set_new(vm->wanted, "unplug", unplug);
    }
    json_object_set_new(unplug, call->row.name, json_boolean(row_flag(call->args, "force")));
    json_object_del(errors, call->row.name);
    if (errors && !json_object_size(errors))
        row_unset(vm->status, "volume_errors");
    return store_update(call->m->store, vm, &e) < 0 ? api_fail_error(call, &e) : 0;
}

static int detach(struct api_call *call) {
    const char *id = row_text(call->row.status, "vm_id");
    struct store_row vm = {0};
    json_t *list, *one;
    size_t i;
    int r;

    if (!*id)
        return 0;
    if (store_get(call->m->store, "vm", id, &vm) < 0)
        return api_fail(call, FAILURE_CONFLICT, "status.vm", "try again", "its machine is gone");
    if (can_unplug(call, &vm)) {
        r = begin_unplug(call, &vm);
        store_row_done(&vm);
        return r;
    }
    list = json_array();
    json_array_foreach(json_object_get(vm.spec, "volumes"), i, one)
        if (strcmp(json_string_value(one), call->row.name) != 0)
            json_array_append(list, one);
    r = change_machine(call, &vm, list);
    store_row_done(&vm);
    return r;
}

/* ------------------------------------------------------------------ looking */

static int get(struct api_call *call) {
    char path[300];
    struct stat st;

    snprintf(path, sizeof(path), "/proc/self/fd/%d/%s.%s", call->m->home.volumes, call->row.id,
             row_text(call->row.spec, "format"));
    if (stat(path, &st) == 0)
        row_set_number(call->row.status, "used", (int64_t)st.st_blocks * 512);
    return api_answer_unchanged(call);
}

static enum wait_result over(const struct store_row *row, const char *word, int64_t unused) {
    const char *state = row ? row_text(row->status, "state") : "";

    return !row || !strcmp(state, "ready") || !strcmp(state, "failed") ? WAIT_OVER : WAIT_MORE;
}

static int wait_for(struct api_call *call) {
    return wait_begin(call, over, "", 0, row_number(call->args, "timeout"));
}

const struct api_handler volume_handlers[] = {
    {"create", create}, {"update", update}, {"delete", delete_it}, {"attach", attach},
    {"detach", detach}, {"get", get},       {"wait", wait_for},    {NULL, NULL},
};
