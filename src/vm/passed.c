/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening and closing of the host's devices.
 *
 * Calls (main): openat getdents64 readlinkat readlink stat newfstatat
 */
#include "vm/passed.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "vfio/host.h"
#include "vm/options.h"

enum { SOME_MORE = 64 << 20 };

/* ------------------------------------------------------------------ options */

static int parse(struct options *o, const char *text, const char **ret, struct error *err) {
    char name[VFIO_NAME];

    if (strncmp(text, "vfio=", 5) != 0 || !vfio_name(text + 5, name))
        return error_set(err, -EINVAL,
                         "'%.80s': write vfio=ADDRESS, as vfio=0000:03:00.0, or vfio=UUID of a "
                         "mediated device; 'viv host devices' lists what there is",
                         text);
    for (unsigned i = 0; i < o->passed_count; i++)
        if (o->passed[i] && !strcmp(o->passed[i], name))
            return error_set(err, -EINVAL, "the machine has the device %s already", name);
    *ret = options_keep(o, name);
    return *ret ? 0 : error_set(err, -ENOMEM, "out of memory");
}

static int too_many(struct error *err) {
    return error_set(err, -EINVAL, "a machine has at most %d devices of the host",
                     MACHINE_MAX_PASSED);
}

int options_add_device(struct options *o, const char *text, struct error *err) {
    int r = o->passed_count == MACHINE_MAX_PASSED
                ? too_many(err)
                : parse(o, text, &o->passed[o->passed_count], err);

    o->passed_count += r == 0;
    return r;
}

int options_plug_device(struct options *o, const char *text, const char *id, struct error *err) {
    unsigned i = 0;
    int r;

    while (i < o->passed_count && o->passed[i])
        i++;
    r = i == MACHINE_MAX_PASSED ? too_many(err) : parse(o, text, &o->passed[i], err);
    if (r < 0)
        return r;
    if (i == o->passed_count)
        o->passed_count++;
    if (id && !(o->passed_id[i] = options_keep(o, id))) {
        options_unplug_device(o, i);
        return error_set(err, -ENOMEM, "out of memory");
    }
    return (int)i;
}

void options_unplug_device(struct options *o, unsigned i) {
    options_drop(o, o->passed[i]);
    options_drop(o, o->passed_id[i]);
    o->passed[i] = o->passed_id[i] = NULL;
}

int options_refuse_devices(const struct options *o, const char *what, struct error *err) {
    for (unsigned i = 0; i < o->passed_count; i++)
        if (o->passed[i])
            return error_set(
                err, -EBUSY,
                "%s: the machine has the device %s of the host, whose state nobody "
                "can save or move: remove it first (device-remove %u), or leave it out",
                what, o->passed[i], i);
    return 0;
}

/* ------------------------------------------------------------------ opening */

int passed_open(struct passed *p, struct loop *loop, const struct options *o, unsigned i,
                struct machine_config *m, struct error *err) {
    struct vfio_place place;

    if (!p->seen)
        p->seen = vfio_inventory_read("/sys");
    if (!p->host)
        p->host = vfio_host_new(loop, "/dev", NULL);
    if (!p->host || !p->seen)
        return error_set(err, -ENOMEM, "device %s: out of memory", o->passed[i]);
    if (vfio_find(p->seen, "/dev", o->passed[i], &place, err) < 0)
        return -EINVAL;
    p->function[i] = vfio_open(p->host, &place, err);
    if (!p->function[i])
        return -EINVAL;
    m->passed[i] = p->function[i];
    m->vfio = p->host;
    return 0;
}

/* What is locked for other reasons counts in the same sum: guest memory itself, and some for rings
 * of the disks. */
void passed_allow(const struct options *o) {
    uint64_t memory = o->memory_max > o->memory ? o->memory_max : o->memory;
    rlim_t most = 2 * memory + SOME_MORE;
    struct rlimit l;

    if (!o->control || getrlimit(RLIMIT_MEMLOCK, &l) < 0 || l.rlim_max >= most)
        return;
    l = (struct rlimit){most, most};
    setrlimit(RLIMIT_MEMLOCK, &l); /* who may not is told when a device comes */
}

void passed_opened(struct passed *p) {
    vfio_inventory_free(p->seen);
    p->seen = NULL;
}

void passed_close(struct passed *p, unsigned i) {
    vfio_close(p->function[i]);
    p->function[i] = NULL;
}

void passed_done(struct passed *p) {
    for (unsigned i = 0; i < MACHINE_MAX_PASSED; i++)
        passed_close(p, i);
    passed_opened(p);
    vfio_host_free(p->host);
    p->host = NULL;
}
