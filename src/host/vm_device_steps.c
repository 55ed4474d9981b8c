/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices of the host for a machine: taken from their drivers before it starts or one is plugged
 * in, and given back when it has them no more (vm_devices.h).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/log.h"
#include "host/lend.h"
#include "host/vm_control.h"
#include "host/vm_devices.h"
#include "host/vm_impl.h"
#include "host/vm_pending.h"

enum { AGAIN_MS = 5000, TEXT = 400, SLACK_MB = 1024 };

/* What a worker does with one of them; kept until the machine's controller has seen its end. */
struct lending {
    struct lend_host host;
    char name[VFIO_NAME], driver[LEND_DRIVER];
    bool back, over;
};

static const char *name_of(const json_t *one) { return row_text(one, "vfio"); }

static const json_t *find(const json_t *list, const char *name) {
    const json_t *one;
    size_t i;

    json_array_foreach(list, i, one)
        if (!strcmp(name_of(one), name))
            return one;
    return NULL;
}

/* What could not be done, by device; NULL: all is well with it. */
static void tell(struct machine *v, const char *name, const char *error) {
    struct store_row row = {0};

    if (store_get(v->all->m->store, "vm", v->id, &row) == 0 &&
        pending_note(&row, "device_errors", name, error))
        machine_save_row(v, &row, STORE_NOTE, NULL, NULL);
    store_row_done(&row);
}

/* ------------------------------------------------------------------ drivers */

static void lending_work(void *opaque) {
    struct machine *v = opaque;
    struct lending *l = v->lending;

    if (l->back)
        lend_give_back(&l->host, l->name, l->driver, &v->work_error);
    else
        lend_take(&l->host, l->name, &v->work_error);
    l->over = true;
}

static void begin(struct machine *v, const char *name, const char *driver, bool back) {
    if (!v->lending)
        v->lending = calloc(1, sizeof(*v->lending));
    if (!v->lending)
        abort();
    *v->lending = (struct lending){.host = lend_host(), .back = back};
    snprintf(v->lending->name, VFIO_NAME, "%s", name);
    snprintf(v->lending->driver, LEND_DRIVER, "%s", driver);
    machine_begin_work(v, lending_work);
}

/* Has that just been tried? Then it is told how it went, once. */
static bool is_over(struct machine *v, const char *name, bool back, struct error *err) {
    struct lending *l = v->lending;

    if (!l || !l->over || l->back != back || strcmp(l->name, name) != 0)
        return false;
    l->over = false;
    *err = v->work_error;
    return true;
}

/* -EAGAIN: it is under way, and a step follows. */
static int lend_one(struct machine *v, struct store_row *row, const char *name, struct error *err) {
    const struct lend_host h = lend_host();
    json_t *lent = json_object_get(row->status, "lent");
    char driver[LEND_DRIVER];

    if (is_over(v, name, false, err) && err->code)
        return err->code;
    if (!lend_allowed() || !lend_wanted(&h, name, driver))
        return 0; /* else viv-vm says what must be done */
    if (json_object_get(lent, name)) {
        begin(v, name, row_text(lent, name), false);
        return -EAGAIN;
    }
    if (!lent) {
        lent = json_object();
        json_object_set_new(row->status, "lent", lent);
    }
    json_object_set_new(lent, name,
                        json_string(driver)); /* whatever happens, who had it is known */
    machine_save_row(v, row, STORE_PROMISE, NULL, NULL);
    return -EAGAIN;
}

int machine_lend(struct machine *v, struct store_row *row, struct error *err) {
    char name[VFIO_NAME];
    const json_t *one;
    size_t i;
    int r = 0;

    json_array_foreach(json_object_get(row->spec, "devices"), i, one)
        if (r == 0 && lend_name(json_string_value(one), name))
            r = lend_one(v, row, name, err);
    return r;
}

/* While the machine has another one of its group, the kernel lets no driver of the host have it. */
static bool is_held(const struct machine *v, const char *name) {
    const struct lend_host h = lend_host();
    struct error e = {0};
    int group, other;
    const json_t *one;
    size_t i;

    if (!v->process.pid)
        return false;
    if (!v->passed || find(v->passed, name))
        return true;
    if (lend_check(&h, name, &group, &e) < 0)
        return false;
    json_array_foreach(v->passed, i, one)
        if (lend_check(&h, name_of(one), &other, &e) == 0 && other == group)
            return true;
    return false;
}

static void forget(struct machine *v, struct store_row *row, const char *name,
                   const struct error *e) {
    json_t *lent = json_object_get(row->status, "lent");
    char text[TEXT], own[VFIO_NAME];

    snprintf(own, sizeof(own), "%s", name); /* `name` is the key that goes */
    if (e->code)
        snprintf(text, sizeof(text), "%.380s", e->text);
    else
        snprintf(text, sizeof(text), "the host has its device %s back", own);
    json_object_del(lent, own);
    if (!json_object_size(lent))
        row_unset(row->status, "lent");
    pending_note(row, "device_errors", own, NULL);
    machine_save_row(v, row, STORE_PROMISE, e->code ? "device-kept" : "device-back", text);
}

bool machine_give_back(struct machine *v, struct store_row *row, bool all) {
    const char *name;
    json_t *driver;

    json_object_foreach(json_object_get(row->status, "lent"), name, driver) {
        struct error e = {0};

        if ((!all && devices_wants(row->spec, name)) || is_held(v, name))
            continue;
        if (is_over(v, name, true, &e))
            forget(v, row, name, &e);
        else
            begin(v, name, json_string_value(driver), true);
        return true;
    }
    return false;
}

/* ------------------------------------------------------------------ memory that may be locked */

/* A device reaches all of the guest's memory, which is pinned for that, and counted. */
static rlim_t lock_limit(const json_t *spec) {
    int64_t memory = row_number(spec, "memory"), most = row_number(spec, "memory_max");

    return (rlim_t)(2 * (most > memory ? most : memory) + ((int64_t)SLACK_MB << 20));
}

uint64_t machine_lock_limit(const struct store_row *row) {
    return json_array_size(json_object_get(row->spec, "devices")) ? lock_limit(row->spec) : 0;
}

/* Of one that was started without a device. Who may not is told by viv-vm what to do. */
static void raise_limit(const struct machine *v, const json_t *spec) {
    struct rlimit has, most = {lock_limit(spec), lock_limit(spec)};

    if (prlimit(v->process.pid, RLIMIT_MEMLOCK, NULL, &has) == 0 && has.rlim_cur < most.rlim_cur &&
        prlimit(v->process.pid, RLIMIT_MEMLOCK, &most, NULL) < 0)
        log_line_about(LOG_LEVEL_NOTICE, "vm", v->id, "its process may not lock more memory: %s",
                       strerror(errno));
}

/* ------------------------------------------------------------------ told by viv-vm */

void machine_devices_seen(struct machine *v, const json_t *status) {
    json_t *list = json_object_get(status, "devices");

    json_decref(v->passed);
    v->passed = list ? json_incref(list) : json_array();
    *v->device_asked = 0;
    machine_kick(v);
}

void machine_devices_lost(struct machine *v) {
    json_decref(v->passed);
    v->passed = NULL;
    *v->device_asked = 0;
    v->device_again = 0;
}

void machine_devices_answered(struct machine *v, const char *why) {
    char name[VFIO_NAME];

    snprintf(name, sizeof(name), "%s", v->device_asked);
    v->device_again = timer_now_ms() + AGAIN_MS;
    if (why) {
        *v->device_asked = 0;
        tell(v, name, why);
        machine_again_in(v, AGAIN_MS);
    } else if (v->control) {
        vm_control_send(v->control, "status"); /* which says what there is now */
    }
}

void machine_devices_event(struct machine *v, const json_t *data) {
    bool refused = !strcmp(row_text(data, "what"), "refused");
    char device[20];
    const json_t *one;
    size_t i;

    json_array_foreach(v->passed, i, one) {
        snprintf(device, sizeof(device), "device%d", (int)row_number(one, "index"));
        if (refused && !strcmp(device, row_text(data, "device")))
            tell(v, name_of(one), "the guest does not let go of it: say --force");
    }
    v->device_again = refused ? timer_now_ms() + AGAIN_MS : 0;
    if (v->control)
        vm_control_send(v->control, "status");
}

/* ------------------------------------------------------------------ steps */

static void ask(struct machine *v, const char *name, const char *command, json_t *args) {
    snprintf(v->device_asked, sizeof(v->device_asked), "%s", name);
    vm_control_send_args(v->control, command, args);
}

/* True: something is under way. */
static bool step_unplug(struct machine *v, struct store_row *row) {
    bool waits = false;
    char text[TEXT];
    const json_t *one;
    size_t i;

    json_array_foreach(v->passed, i, one) {
        const char *name = name_of(one);
        bool force = row_flag(json_object_get(row->wanted, "device_force"), name);

        if (devices_wants(row->spec, name))
            continue;
        if (row_flag(one, "removing") && !force) {
            waits = true;
            snprintf(text, sizeof(text), "the guest has not let go of the device %s yet", name);
            continue;
        }
        ask(v, name, "device-remove",
            json_pack("{s:i, s:b}", "device", (int)row_number(one, "index"), "force", (int)force));
        return true;
    }
    if (waits && pending_note(row, "pending", "devices", text))
        machine_save_row(v, row, STORE_NOTE, NULL, NULL);
    return waits;
}

static void cannot_plug(struct machine *v, const char *name, const struct error *e) {
    v->device_again = timer_now_ms() + AGAIN_MS;
    machine_again_in(v, AGAIN_MS);
    tell(v, name, e->text);
}

static bool step_plug(struct machine *v, struct store_row *row) {
    char name[VFIO_NAME], word[VFIO_NAME + 5];
    const json_t *one;
    size_t i;

    json_array_foreach(json_object_get(row->spec, "devices"), i, one) {
        struct error e = {0};
        int r;

        if (!lend_name(json_string_value(one), name) || find(v->passed, name))
            continue;
        r = lend_one(v, row, name, &e);
        if (r < 0 && r != -EAGAIN)
            cannot_plug(v, name, &e);
        if (r < 0)
            return true;
        raise_limit(v, row->spec);
        snprintf(word, sizeof(word), "vfio=%s", name);
        ask(v, name, "device-add", json_pack("{s:s, s:s}", "device", word, "id", name));
        return true;
    }
    return false;
}

static json_t *list_of(const struct machine *v) {
    json_t *list = json_array();
    const json_t *one;
    size_t i;

    json_array_foreach(v->passed, i, one)
        json_array_append_new(list, json_string(name_of(one)));
    return list;
}

/* What there is by now. True: that was news. */
static bool note_list(struct machine *v, struct store_row *row) {
    json_t *list = list_of(v), *old = json_object_get(row->status, "host_devices");
    bool none = !json_array_size(list), same = none ? !old : json_equal(list, old);
    char text[TEXT];

    snprintf(text, sizeof(text), "its devices of the host: %d", (int)json_array_size(list));
    if (!same && none)
        row_unset(row->status, "host_devices");
    else if (!same)
        json_object_set(row->status, "host_devices", list);
    json_decref(list);
    if (same)
        return false;
    machine_save_row(v, row, STORE_NOTE, "devices", text);
    return true;
}

/* All that is wanted is there, and nothing else. */
static void note(struct machine *v, struct store_row *row) {
    bool news = pending_note(row, "pending", "devices", NULL);

    news |= json_object_get(row->status, "device_errors") != NULL;
    news |= json_object_get(row->wanted, "device_force") != NULL;
    row_unset(row->status, "device_errors");
    row_unset(row->wanted, "device_force");
    if (news)
        machine_save_row(v, row, STORE_NOTE, NULL, NULL);
}

void machine_step_devices(struct machine *v, struct store_row *row) {
    int64_t left = v->device_again - timer_now_ms();

    if (!v->passed || *v->device_asked || v->paused || v->busy)
        return;
    if (v->device_again && left > 0 && row->revision == v->device_revision) {
        machine_again_in(v, left);
        return;
    }
    v->device_revision = row->revision;
    if (note_list(v, row))
        return;
    if (step_unplug(v, row)) {
        machine_again_in(v, AGAIN_MS);
        return;
    }
    if (!step_plug(v, row) && !machine_give_back(v, row, false))
        note(v, row);
}

void machine_unset_devices(struct store_row *row) {
    row_unset(row->status, "host_devices");
    row_unset(row->status, "device_errors");
    row_unset(row->wanted, "device_force");
}
