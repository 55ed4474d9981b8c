/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/vm_devices.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "host/lend.h"
#include "host/vm_impl.h"
#include "host/vm_pending.h"
#include "proto/resource_devices.h"

/* ------------------------------------------------------------------ lists of them */

static bool has_name(const json_t *list, const char *name) {
    char own[VFIO_NAME];
    const json_t *one;
    size_t i;

    json_array_foreach(list, i, one)
        if (lend_name(json_string_value(one), own) && !strcmp(own, name))
            return true;
    return false;
}

bool devices_wants(const json_t *spec, const char *name) {
    return has_name(json_object_get(spec, "devices"), name);
}

bool devices_any(const struct store_row *vm) {
    return json_array_size(json_object_get(vm->spec, "devices")) ||
           json_array_size(json_object_get(vm->status, "host_devices"));
}

int devices_refuse(struct api_call *call, const struct store_row *vm, const char *field,
                   const char *what) {
    if (!devices_any(vm))
        return 0;
    return api_fail(call, FAILURE_CONFLICT, field, "take them away first: viv device rm",
                    "'%s' has devices of the host, whose state nobody can save: %s", vm->name,
                    what);
}

void devices_words(struct words *w, const struct store_row *row) {
    char name[VFIO_NAME];
    const json_t *one;
    size_t i;

    json_array_foreach(json_object_get(row->spec, "devices"), i, one)
        if (lend_name(json_string_value(one), name)) {
            words_add(w, "--device");
            words_add(w, "vfio=%s", name);
        }
}

/* ------------------------------------------------------------------ checks */

struct search {
    const struct lend_host *host;
    const char *name, *own; /* the device, and the id of the machine that asks; "" a new one */
    int group;
    char vm[STORE_WORD], device[VFIO_NAME]; /* who has it, or what of its group */
};

static bool look(struct search *s, const char *vm, const json_t *list) {
    struct error e = {0};
    char name[VFIO_NAME];
    const json_t *one;
    size_t i;
    int group;

    json_array_foreach(list, i, one) {
        bool same = lend_name(json_string_value(one), name) && !strcmp(name, s->name);

        if (!same && (lend_check(s->host, name, &group, &e) < 0 || group != s->group))
            continue;
        snprintf(s->vm, sizeof(s->vm), "%s", vm);
        snprintf(s->device, sizeof(s->device), "%s", name);
        return true;
    }
    return false;
}

static bool look_at_row(void *opaque, const struct store_text *t) {
    struct search *s = opaque;
    json_t *spec, *status;
    bool found;

    /* What is compact JSON of ours may be looked at as text. */
    if (!strcmp(t->id, s->own) ||
        (!strstr(t->spec, "\"devices\":[\"") && !strstr(t->status, "\"host_devices\":[\"")))
        return true;
    spec = json_loads(t->spec, 0, NULL);
    status = json_loads(t->status, 0, NULL);
    found = look(s, t->name, json_object_get(spec, "devices")) ||
            look(s, t->name, json_object_get(status, "host_devices"));
    json_decref(spec);
    json_decref(status);
    return !found;
}

static int check_free(struct api_call *call, const struct lend_host *h, const char *name, int group,
                      const char *own) {
    struct store_query q = {.kind = "vm"};
    struct search s = {.host = h, .name = name, .own = own, .group = group};

    store_list(call->m->store, &q, look_at_row, &s);
    if (!*s.vm)
        return 0;
    if (!strcmp(s.device, name))
        return api_fail(call, FAILURE_CONFLICT, "spec.devices", "take it from that one first",
                        "the machine '%s' has the device %s", s.vm, name);
    return api_fail(call, FAILURE_CONFLICT, "spec.devices",
                    "give both to one machine, or put one into another slot",
                    "%s shares the IOMMU group %d with %s, which the machine '%s' has", name, group,
                    s.device, s.vm);
}

static int check_one(struct api_call *call, const struct lend_host *h, const char *text,
                     const char *own) {
    char name[VFIO_NAME];
    struct error e = {0};
    int group;

    if (!lend_name(text, name))
        return api_fail(call, FAILURE_INVALID, "spec.devices", "write 0000:03:00.0, or a UUID",
                        "'%.60s' is no device", text);
    if (lend_check(h, name, &group, &e) < 0)
        return api_fail(call, FAILURE_INVALID, "spec.devices", "look at 'viv host devices'", "%s",
                        e.text);
    return check_free(call, h, name, group, own);
}

int devices_check(struct api_call *call, const json_t *spec, const struct store_row *vm) {
    const json_t *list = json_object_get(spec, "devices"), *one, *other;
    struct lend_host h = lend_host();
    char name[VFIO_NAME], before[VFIO_NAME];
    size_t i, k;

    json_array_foreach(list, i, one) {
        if (check_one(call, &h, json_string_value(one), vm->id) < 0)
            return -EINVAL;
        lend_name(json_string_value(one), name);
        json_array_foreach(list, k, other)
            if (k < i && lend_name(json_string_value(other), before) && !strcmp(before, name))
                return api_fail(call, FAILURE_INVALID, "spec.devices", "name each once",
                                "the device %s is named twice", name);
    }
    return 0;
}

/* ------------------------------------------------------------------ operations */

static int change(struct api_call *call, json_t *list, const char *text) {
    json_t *patch = json_pack("{s:o}", "devices", list);
    struct store_row *row = &call->row;
    struct error e = {0};
    int r = 0;

    if (row_flag(row->wanted, "deleting"))
        r = api_fail(call, FAILURE_CONFLICT, "status.state", "", "'%s' is being deleted",
                     row->name);
    if (r == 0 && devices_check(call, patch, row) < 0)
        r = -EINVAL;
    if (r == 0) {
        pending_change(row, patch);
        json_object_set(row->spec, "devices", list);
        if (manager_event(call->m, row, "changed", &e, "%s (asked by %s)", text, call->caller) <
                0 ||
            store_update(call->m->store, row, &e) < 0)
            r = api_fail_error(call, &e);
    }
    json_decref(patch);
    return r;
}

static int read_name(struct api_call *call, char name[VFIO_NAME]) {
    const char *text = row_text(call->args, "device");

    return lend_name(text, name)
               ? 0
               : api_fail(call, FAILURE_INVALID, "device", "write 0000:03:00.0, or a UUID",
                          "'%.60s' is no device", text);
}

int devices_add(struct api_call *call) {
    json_t *list = json_object_get(call->row.spec, "devices");
    char name[VFIO_NAME], text[100];

    if (read_name(call, name) < 0)
        return -EINVAL;
    if (has_name(list, name))
        return api_fail(call, FAILURE_CONFLICT, "spec.devices", "",
                        "'%s' has the device %s already", call->row.name, name);
    if (json_array_size(list) >= DEVICES_MOST)
        return api_fail(call, FAILURE_CONFLICT, "spec.devices", "take another one away",
                        "a machine has at most %d devices of the host", DEVICES_MOST);
    list = list ? json_deep_copy(list) : json_array();
    json_array_append_new(list, json_string(name));
    snprintf(text, sizeof(text), "it gets the device %s of the host", name);
    return change(call, list, text);
}

int devices_remove(struct api_call *call) {
    const json_t *list = json_object_get(call->row.spec, "devices");
    json_t *forced = json_object_get(call->row.wanted, "device_force"), *kept, *one;
    char name[VFIO_NAME], own[VFIO_NAME], text[100];
    size_t i;

    if (read_name(call, name) < 0)
        return -EINVAL;
    if (!has_name(list, name) && !has_name(json_object_get(call->row.status, "host_devices"), name))
        return api_fail(call, FAILURE_CONFLICT, "spec.devices", "look at 'viv device list'",
                        "'%s' has no device %s", call->row.name, name);
    if (row_flag(call->args, "force")) {
        if (!forced) {
            forced = json_object();
            json_object_set_new(call->row.wanted, "device_force", forced);
        }
        json_object_set_new(forced, name, json_true());
    }
    pending_note(&call->row, "device_errors", name, NULL); /* why it did not come */
    kept = json_array();
    json_array_foreach(list, i, one)
        if (!lend_name(json_string_value(one), own) || strcmp(own, name) != 0)
            json_array_append(kept, one);
    snprintf(text, sizeof(text), "its device %s goes back to the host", name);
    return change(call, kept, text);
}
