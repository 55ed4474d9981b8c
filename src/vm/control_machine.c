/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands about the machine as a whole: its state, its buttons, its insides, its jobs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/process.h"
#include "base/trace.h"
#include "base/version.h"
#include "block/blockjob.h"
#include "block/latency.h"
#include "cpu/x86.h"
#include "devices/device.h"
#include "jail/jail.h"
#include "machine/plug.h"
#include "net/link.h"
#include "proto/lines.h"
#include "vm/control.h"
#include "vm/nics.h"
#include "vm/options.h"

static int put(struct control_call *call, const char *key, json_t *value) {
    return json_object_set_new(call->result, key, value) < 0 ? -ENOMEM : 0;
}

static int put_state(struct control_call *call) {
    json_t *state = control_state(call->control);
    int r = json_object_update(call->result, state);

    json_decref(state);
    return r < 0 ? -ENOMEM : 0;
}

/* ------------------------------------------------------------------ what it is */

static json_t *disks(const struct control_vm *vm) {
    json_t *list = json_array();

    for (unsigned i = 0; i < vm->options->disks; i++) {
        const struct block_info *info;

        if (!vm->disk[i])
            continue;
        info = block_info(vm->disk[i]);
        json_array_append_new(
            list, json_pack("{s:i, s:o, s:s, s:I, s:b, s:s?, s:s*, s:s*, s:b}", "index", (int)i,
                            "path", message_text(info->path), "format", info->format, "size",
                            (json_int_t)info->size, "readonly", (int)info->readonly, "job",
                            blockjob_running(vm->disk[i]), "id", vm->options->disk_id[i], "serial",
                            vm->options->disk_serial[i], "removing",
                            (int)machine_unplugging(vm->machine, MACHINE_DISK, i)));
    }
    return list;
}

/* A drive without a medium has no path. */
static json_t *cdroms(const struct control_vm *vm) {
    json_t *list = json_array();

    for (unsigned i = 0; i < vm->options->cdroms; i++)
        json_array_append_new(
            list, json_pack("{s:i, s:b, s:o*}", "index", (int)i, "locked",
                            (int)machine_medium_locked(vm->machine, i), "path",
                            vm->cdrom[i] ? message_text(block_info(vm->cdrom[i])->path) : NULL));
    return list;
}

static json_t *nics(const struct control_vm *vm) {
    json_t *list = json_array();
    char mac[MAC_TEXT];

    for (unsigned i = 0; i < vm->options->nics; i++) {
        const struct options_nic *n = &vm->options->nic[i];

        if (n->absent)
            continue;
        mac_print(n->mac, mac);
        json_array_append_new(
            list, json_pack("{s:i, s:s, s:s, s:s, s:o, s:s*, s:b}", "index", (int)i, "mac", mac,
                            "model", nics_model_name(n->model), "network",
                            n->link ? "link" : "user", "forwards", control_forwards(n), "id", n->id,
                            "removing", (int)machine_unplugging(vm->machine, MACHINE_NIC, i)));
    }
    return list;
}

static json_t *devices(const struct control_vm *vm) {
    json_t *list = json_array();

    for (unsigned i = 0; i < vm->options->passed_count; i++)
        if (vm->options->passed[i])
            json_array_append_new(
                list, json_pack("{s:i, s:s, s:s*, s:b}", "index", (int)i, "vfio",
                                vm->options->passed[i], "id", vm->options->passed_id[i], "removing",
                                (int)machine_unplugging(vm->machine, MACHINE_PASSED, i)));
    return list;
}

static void put_jail(struct control_call *call) {
    const struct jail_facts *f = jail_facts(call->vm->jail);

    put(call, "jail",
        json_pack("{s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:i, s:i, s:s*}",
                  "in", (int)f->in, "filter", (int)f->filter, "helper", (int)f->helper,
                  "empty_root", (int)f->empty_root, "no_capabilities", (int)f->capabilities,
                  "user_namespace", (int)f->user_namespace, "mount_namespace",
                  (int)f->mount_namespace, "network_namespace", (int)f->network_namespace,
                  "ipc_namespace", (int)f->ipc_namespace, "uts_namespace", (int)f->uts_namespace,
                  "signals_kept_in", (int)f->signals, "cgroup", (int)f->cgroup, "uid", (int)f->uid,
                  "calls", (int)f->calls, "missing", *f->missing ? f->missing : NULL));
}

static int do_status(struct control_call *call, struct error *err) {
    const struct control_vm *vm = call->vm;
    const char *why, *backend = machine_cpu_backend(vm->machine, &why);
    json_t *v = json_pack(
        "{s:o, s:s, s:i, s:i, s:i, s:I, s:s, s:s, s:I, s:i, s:i, s:i, s:o, s:o, s:o}", "name",
        message_text(vm->options->name), "version", VIVARIUM_VERSION, "pid", (int)getpid(), "cpus",
        (int)machine_cpus(vm->machine), "cpus_max", (int)options_all_cpus(vm->options), "memory",
        (json_int_t)vm->options->memory, "cpu", backend, "cpu_why", why, "clock",
        (json_int_t)machine_now(vm->machine), "resets", (int)control_count(call->control, "reset"),
        "crashes", (int)control_count(call->control, "crash"), "jobs",
        (int)jobs_running(control_jobs(call->control)), "disks", disks(vm), "nics", nics(vm),
        "cdroms", cdroms(vm));
    int r = v ? json_object_update(call->result, v) : -1;

    control_put_memory(vm, call->result);
    put_jail(call);
    if (vm->options->passed_count)
        put(call, "devices", devices(vm));
    json_decref(v);
    return r < 0 ? -ENOMEM : put_state(call);
}

struct wanted {
    json_t *counters;
    const char *names; /* NULL: all, with help */
};

static bool is_named(const char *names, const char *name) {
    size_t n = strlen(name);

    for (const char *p = names; (p = strstr(p, name)); p += n)
        if ((p == names || p[-1] == ',') && (!p[n] || p[n] == ','))
            return true;
    return false;
}

static void add_counter(void *opaque, const char *name, const char *help, uint64_t value) {
    const struct wanted *w = opaque;

    if (w->names && !is_named(w->names, name))
        return;
    json_array_append_new(w->counters,
                          json_pack("{s:s, s:I, s:s*}", "name", name, "value", (json_int_t)value,
                                    "help", w->names ? NULL : help));
}

static json_t *latencies(void) {
    static const char *const names[] = {[LATENCY_READ] = "disk_read",
                                        [LATENCY_WRITE] = "disk_write",
                                        [LATENCY_FLUSH] = "disk_flush"};
    json_t *all = json_object();

    for (enum latency_kind k = 0; k < LATENCY_KINDS; k++) {
        json_t *counts = json_array();
        struct latency l;

        latency_get(k, &l);
        for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
            json_array_append_new(counts, json_integer((json_int_t)l.count[i]));
        json_object_set_new(all, names[k],
                            json_pack("{s:i, s:I, s:o}", "first", LATENCY_FIRST, "sum_us",
                                      (json_int_t)l.sum_us, "counts", counts));
    }
    return all;
}

static int do_stats(struct control_call *call, struct error *err) {
    struct wanted w = {json_array(), json_string_value(json_object_get(call->args, "names"))};
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    put(call, "cpu_seconds",
        json_real((double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                  (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6));
    put(call, "resident_bytes", json_integer((json_int_t)process_resident()));
    control_put_memory(call->vm, call->result);
    stats_each(add_counter, &w);
    put(call, "latency", latencies());
    return put(call, "counters", w.counters);
}

/* ------------------------------------------------------------------ its buttons */

static int do_pause(struct control_call *call, struct error *err) {
    control_pause(call->control, "asked");
    return put_state(call);
}

static int do_resume(struct control_call *call, struct error *err) {
    control_resume(call->control);
    return put_state(call);
}

static int do_powerdown(struct control_call *call, struct error *err) {
    machine_power_button(call->vm->machine);
    if (machine_is_paused(call->vm->machine))
        put(call, "note", json_string("the guest is paused and sees it when it is resumed"));
    return put_state(call);
}

static int do_reset(struct control_call *call, struct error *err) {
    machine_reset(call->vm->machine);
    return put_state(call);
}

static int do_quit(struct control_call *call, struct error *err) {
    call->vm->quit(call->vm->opaque);
    return 0;
}

/* ------------------------------------------------------------------ its insides */

static int do_devices(struct control_call *call, struct error *err) {
    json_t *list = json_array();
    const struct device *d;
    char name[16];

    for (unsigned i = 0; i < options_all_cpus(call->vm->options); i++) {
        snprintf(name, sizeof(name), "cpu%u", i);
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s}", "name", name, "kind", "cpu", "help", "processor"));
    }
    for (unsigned i = 0; (d = machine_device(call->vm->machine, i)); i++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "name", d->name, "kind",
                                              d->cls->name, "help", d->cls->help));
    return put(call, "devices", list);
}

/* One step of a path: a name in an object, a number in an array. */
static json_t *step(json_t *v, const char *name) {
    char *end;
    unsigned long i;

    if (json_is_object(v))
        return json_object_get(v, name);
    i = strtoul(name, &end, 10);
    return *name && !*end && json_is_array(v) ? json_array_get(v, i) : NULL;
}

static json_t *find_field(json_t *state, const char *device, const char *path, struct error *err) {
    char copy[256], *rest = copy, *name;

    snprintf(copy, sizeof(copy), "%s", path);
    while (state && (name = strsep(&rest, ".")))
        state = step(state, name);
    if (!state)
        error_set(err, -EINVAL, "%s has no field '%s': without --field all of its state is shown",
                  device, path);
    return state;
}

static json_t *view(const struct state_desc *desc, const void *obj) {
    struct buf text = {0};
    json_t *v;

    state_json(desc, obj, &text);
    v = json_loadb((const char *)text.data, text.len, 0, NULL);
    buf_done(&text);
    return v;
}

static json_t *cpu_view(struct machine *m, unsigned i) {
    struct x86_state *s = calloc(1, sizeof(*s));
    json_t *v = NULL;

    if (s) {
        machine_cpu_state(m, i, s);
        v = view(&x86_state_desc, s);
    }
    free(s);
    return v;
}

static json_t *view_by_name(const struct control_vm *vm, const char *name, struct error *err) {
    const struct device *d;
    unsigned cpu;
    char again[16];

    for (unsigned i = 0; (d = machine_device(vm->machine, i)); i++)
        if (!strcmp(d->name, name))
            return view(d->cls->state, d);
    if (sscanf(name, "cpu%u", &cpu) == 1 && cpu < options_all_cpus(vm->options)) {
        snprintf(again, sizeof(again), "cpu%u", cpu);
        if (!strcmp(again, name))
            return cpu_view(vm->machine, cpu);
    }
    error_set(err, -EINVAL, "there is no device '%s': 'devices' lists them", name);
    return NULL;
}

static int do_inspect(struct control_call *call, struct error *err) {
    const char *name = json_string_value(json_object_get(call->args, "device"));
    const char *field = json_string_value(json_object_get(call->args, "field"));
    json_t *state = view_by_name(call->vm, name, err), *part = state;

    if (!state)
        return err->code ? err->code : -ENOMEM;
    if (field)
        part = find_field(state, name, field, err);
    if (part) {
        put(call, "device", json_string(name));
        json_object_set(call->result, "state", part);
    }
    json_decref(state);
    return err->code;
}

/* ------------------------------------------------------------------ its jobs */

static int do_jobs(struct control_call *call, struct error *err) {
    return put(call, "jobs", jobs_list(control_jobs(call->control)));
}

static unsigned job_number(const struct control_call *call) {
    return (unsigned)json_integer_value(json_object_get(call->args, "id"));
}

static int do_job_cancel(struct control_call *call, struct error *err) {
    return jobs_cancel(control_jobs(call->control), job_number(call), err);
}

static int do_job_speed(struct control_call *call, struct error *err) {
    json_int_t speed = json_integer_value(json_object_get(call->args, "bytes"));

    return jobs_set_speed(control_jobs(call->control), job_number(call), (uint64_t)speed, err);
}

static int do_job_complete(struct control_call *call, struct error *err) {
    return jobs_complete(control_jobs(call->control), job_number(call), err);
}

const struct control_handler control_machine_handlers[] = {
    {"status", do_status},         {"pause", do_pause},
    {"resume", do_resume},         {"powerdown", do_powerdown},
    {"reset", do_reset},           {"quit", do_quit},
    {"stats", do_stats},           {"devices", do_devices},
    {"inspect", do_inspect},       {"jobs", do_jobs},
    {"job-cancel", do_job_cancel}, {"job-complete", do_job_complete},
    {"job-speed", do_job_speed},   {NULL, NULL},
};
