/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Disks, network interfaces and devices of the host that come and go. */
#include <errno.h>

#include "block/blockjob.h"
#include "machine/plug.h"
#include "vm/attach.h"
#include "vm/control.h"
#include "vm/options.h"

static const char *text(const struct control_call *call, const char *name) {
    return json_string_value(json_object_get(call->args, name));
}

static int add(struct control_call *call, enum machine_part part, const char *name,
               struct error *err) {
    struct attach *a = call->vm->attach;
    int i = attach_add(a, part, text(call, name), text(call, "id"), err);

    if (i < 0)
        return i;
    control_event(call->control, "device", attach_event(a, part, (unsigned)i, "added"));
    return json_object_set_new(call->result, name, json_integer(i)) < 0 ? -ENOMEM : 0;
}

static int take(struct control_call *call, enum machine_part part, unsigned i, struct error *err) {
    if (json_is_true(json_object_get(call->args, "force")))
        return machine_pull(call->vm->machine, part, i, err);
    return machine_unplug(call->vm->machine, part, i, err);
}

static int do_disk_add(struct control_call *call, struct error *err) {
    return add(call, MACHINE_DISK, "disk", err);
}

static int do_disk_remove(struct control_call *call, struct error *err) {
    struct block *disk = control_find_disk(call, err);

    if (!disk)
        return err->code;
    if (blockjob_running(disk))
        return error_set(err, -EBUSY,
                         "the disk has a job (%s): wait for its end or cancel it, then remove it",
                         blockjob_running(disk));
    return take(call, MACHINE_DISK,
                (unsigned)json_integer_value(json_object_get(call->args, "disk")), err);
}

static int do_nic_add(struct control_call *call, struct error *err) {
    return add(call, MACHINE_NIC, "nic", err);
}

static int do_nic_remove(struct control_call *call, struct error *err) {
    unsigned i = (unsigned)json_integer_value(json_object_get(call->args, "nic"));

    if (i >= call->vm->options->nics || call->vm->options->nic[i].absent)
        return error_set(err, -EINVAL, "there is no interface %u: 'status' lists them", i);
    return take(call, MACHINE_NIC, i, err);
}

static int do_device_add(struct control_call *call, struct error *err) {
    return add(call, MACHINE_PASSED, "device", err);
}

static int do_device_remove(struct control_call *call, struct error *err) {
    unsigned i = (unsigned)json_integer_value(json_object_get(call->args, "device"));

    if (i >= call->vm->options->passed_count || !call->vm->options->passed[i])
        return error_set(err, -EINVAL, "there is no device %u of the host: 'status' lists them", i);
    return take(call, MACHINE_PASSED, i, err);
}

const struct control_handler control_plug_handlers[] = {
    {"device-add", do_device_add},
    {"device-remove", do_device_remove},
    {"disk-add", do_disk_add},
    {"disk-remove", do_disk_remove},
    {"nic-add", do_nic_add},
    {"nic-remove", do_nic_remove},
    {NULL, NULL},
};
