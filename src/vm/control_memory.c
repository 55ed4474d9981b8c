/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands about how much memory and how many processors the guest has. */
#include <errno.h>

#include "devices/virtio/virtio_balloon.h"
#include "machine/plug.h"
#include "vm/attach.h"
#include "vm/control.h"
#include "vm/options.h"

static json_int_t usable(const struct control_vm *vm, uint64_t in_balloon) {
    uint64_t all = vm->options->memory;

    return (json_int_t)(in_balloon < all ? all - in_balloon : 0);
}

static json_t *statistics(const struct virtio_balloon_status *s) {
    json_t *all = json_object();

    for (unsigned i = 0; i < VIRTIO_BALLOON_STATS; i++)
        if (s->stats >> i & 1)
            json_object_set_new(all, virtio_balloon_stat_name(i),
                                json_integer((json_int_t)s->stat[i]));
    return all;
}

void control_put_memory(const struct control_vm *vm, json_t *status) {
    struct device *balloon = machine_balloon(vm->machine);
    struct virtio_balloon_status s;

    if (!balloon)
        return;
    virtio_balloon_status(balloon, &s);
    json_object_set_new(status, "balloon_bytes", json_integer(usable(vm, s.actual)));
    json_object_set_new(status, "balloon",
                        json_pack("{s:b, s:I, s:I, s:o}", "driver", (int)s.driver, "target",
                                  usable(vm, s.target), "returned", (json_int_t)s.returned, "guest",
                                  statistics(&s)));
}

static int do_cpus_set(struct control_call *call, struct error *err) {
    unsigned n = (unsigned)json_integer_value(json_object_get(call->args, "cpus"));
    bool had[MACHINE_MAX_CPUS];
    int r;

    for (unsigned i = 0; i < MACHINE_MAX_CPUS; i++)
        had[i] = machine_has_cpu(call->vm->machine, i);
    r = machine_set_cpus(call->vm->machine, n, err);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < MACHINE_MAX_CPUS; i++)
        if (!had[i] && machine_has_cpu(call->vm->machine, i))
            control_event(call->control, "device",
                          attach_event(call->vm->attach, MACHINE_CPU, i, "added"));
    json_object_set_new(call->result, "cpus", json_integer(machine_cpus(call->vm->machine)));
    return 0;
}

static int do_balloon_set(struct control_call *call, struct error *err) {
    struct device *balloon = machine_balloon(call->vm->machine);
    uint64_t bytes = (uint64_t)json_integer_value(json_object_get(call->args, "bytes"));
    uint64_t all = call->vm->options->memory;
    struct virtio_balloon_status s;

    if (!balloon)
        return error_set(err, -EBUSY, "the machine has no balloon: start it with --balloon");
    virtio_balloon_set(balloon, bytes < all ? all - bytes : 0);
    virtio_balloon_status(balloon, &s);
    return json_object_set_new(call->result, "balloon_bytes",
                               json_integer(usable(call->vm, s.actual))) < 0
               ? -ENOMEM
               : 0;
}

const struct control_handler control_memory_handlers[] = {
    {"cpus-set", do_cpus_set},
    {"balloon-set", do_balloon_set},
    {NULL, NULL},
};
