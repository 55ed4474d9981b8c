/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands about how much memory and how many processors the guest has. */
#include <errno.h>

#include "devices/virtio/virtio_balloon.h"
#include "devices/virtio/virtio_mem.h"
#include "machine/plug.h"
#include "vm/attach.h"
#include "vm/control.h"
#include "vm/options.h"

/* What the guest has without a balloon. */
static uint64_t present(const struct control_vm *vm, uint64_t *ret_wanted) {
    struct device *more = machine_vmem(vm->machine);
    struct virtio_mem_status s = {0};

    if (more)
        virtio_mem_status(more, &s);
    *ret_wanted = vm->options->memory + s.wanted;
    return vm->options->memory + s.plugged;
}

static json_int_t usable(const struct control_vm *vm, uint64_t in_balloon) {
    uint64_t wanted, all = present(vm, &wanted);

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
    uint64_t wanted, has = present(vm, &wanted), max = vm->options->memory_max;

    json_object_set_new(status, "memory_bytes", json_integer((json_int_t)wanted));
    json_object_set_new(status, "memory_plugged_bytes", json_integer((json_int_t)has));
    json_object_set_new(status, "memory_max_bytes",
                        json_integer((json_int_t)(max ? max : vm->options->memory)));
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

static int do_memory_set(struct control_call *call, struct error *err) {
    struct device *more = machine_vmem(call->vm->machine);
    uint64_t bytes = (uint64_t)json_integer_value(json_object_get(call->args, "bytes"));
    uint64_t min = call->vm->options->memory, max = call->vm->options->memory_max, wanted, has;

    if (!more)
        return error_set(
            err, -EBUSY,
            "the machine's memory stays as it is: start it with --memory SIZE,max=SIZE");
    if (bytes < min || bytes > max)
        return error_set(
            err, -EINVAL, "the machine may have %llu to %llu bytes of memory, not %llu",
            (unsigned long long)min, (unsigned long long)max, (unsigned long long)bytes);
    virtio_mem_set(more, bytes - min);
    has = present(call->vm, &wanted);
    return json_object_set_new(call->result, "memory_bytes", json_integer((json_int_t)wanted)) <
                       0 ||
                   json_object_set_new(call->result, "memory_plugged_bytes",
                                       json_integer((json_int_t)has)) < 0
               ? -ENOMEM
               : 0;
}

static int do_balloon_set(struct control_call *call, struct error *err) {
    struct device *balloon = machine_balloon(call->vm->machine);
    uint64_t bytes = (uint64_t)json_integer_value(json_object_get(call->args, "bytes"));
    uint64_t wanted, all = present(call->vm, &wanted);
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
    {"memory-set", do_memory_set},
    {"balloon-set", do_balloon_set},
    {NULL, NULL},
};
