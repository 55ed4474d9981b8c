/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Media of optical drives, and what is booted from. */
#include <errno.h>

#include "block/block.h"
#include "machine/machine.h"
#include "vm/attach.h"
#include "vm/cdrom.h"
#include "vm/control.h"
#include "vm/options.h"

static int do_cdrom_change(struct control_call *call, struct error *err) {
    uint64_t drive = (uint64_t)json_integer_value(json_object_get(call->args, "drive"));
    const char *path = json_string_value(json_object_get(call->args, "file"));
    bool force = json_is_true(json_object_get(call->args, "force"));
    const struct control_vm *vm = call->vm;
    struct block *medium = NULL, *old;

    if (drive >= vm->options->cdroms)
        return error_set(err, -EINVAL, "there is no optical drive %llu: give --cdrom at the start",
                         (unsigned long long)drive);
    if (!force && machine_medium_locked(vm->machine, (unsigned)drive))
        return error_set(err, -EBUSY,
                         "the guest has locked the drive's tray, as it uses the medium: unmount it "
                         "there, or say force");
    if (path) {
        medium = cdrom_open(vm->loop, path, err);
        if (!medium)
            return err->code;
    }
    old = vm->cdrom[drive];
    machine_change_medium(vm->machine, (unsigned)drive, medium);
    vm->cdrom[drive] = medium;
    block_close(old);
    return 0;
}

static int do_boot_order_set(struct control_call *call, struct error *err) {
    struct options *o = call->vm->attach->options;
    const char *text = json_string_value(json_object_get(call->args, "order"));
    const char *disk = json_string_value(json_object_get(call->args, "first"));
    const char *old = o->boot_order, *old_first = o->boot_first;
    char *order = options_keep(o, text), *first = disk ? options_keep(o, disk) : NULL;
    int r;

    if (!order || (disk && !first))
        return error_set(err, -ENOMEM, "out of memory");
    r = options_set_boot_order(o, order, err);
    if (r == 0)
        r = machine_set_boot_order(call->vm->machine, order, first, err);
    o->boot_order = r == 0 ? order : old;
    o->boot_first = r == 0 ? first : old_first;
    options_drop(o, r == 0 ? old : order);
    options_drop(o, r == 0 ? old_first : first);
    return r;
}

const struct control_handler control_cdrom_handlers[] = {
    {"boot-order-set", do_boot_order_set},
    {"cdrom-change", do_cdrom_change},
    {NULL, NULL},
};
