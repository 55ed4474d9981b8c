/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One device of the host: its regions by pread and pwrite, its interrupts by eventfds in the loop.
 * Source: Linux include/uapi/linux/vfio.h.
 *
 * Of the kinds of interrupts one at most is on. The kernel masks INTx as it fires and leaves it
 * masked until it is told that somebody has looked.
 *
 * Calls (main): ioctl:VFIO_DEVICE_GET_INFO ioctl:VFIO_DEVICE_GET_REGION_INFO
 *     ioctl:VFIO_DEVICE_GET_IRQ_INFO
 * Calls (main, vcpu): ioctl:VFIO_DEVICE_SET_IRQS ioctl:VFIO_DEVICE_RESET
 */
#include <errno.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/trace.h"
#include "vfio/host_internal.h"

struct listener { /* one vector's */
    struct host_function *owner;
    unsigned n;
    int fd;
    struct loop_watch *watch;
};

struct host_function {
    struct vfio_function f; /* first */
    struct vfio_host *host;
    struct vfio_group *group;
    int fd;
    uint64_t at[VFIO_REGIONS]; /* of the regions, in the file */
    bool resets;
    enum vfio_interrupt kind; /* that is on, if any is */
    unsigned listeners;
    struct listener listener[VFIO_VECTORS];
};

static int call(const struct host_function *d, unsigned long request, void *argument) {
    return d->host->calls->ioctl(d->fd, request, argument) < 0 ? -errno : 0;
}

/* ------------------------------------------------------------------ regions */

static int host_read(struct vfio_function *f, unsigned region, uint64_t offset, void *buf,
                     unsigned size) {
    struct host_function *d = (struct host_function *)f;
    ssize_t n = d->host->calls->pread(d->fd, buf, size, (off_t)(d->at[region] + offset));

    return n == (ssize_t)size ? 0 : n < 0 ? -errno : -EIO;
}

static int host_write(struct vfio_function *f, unsigned region, uint64_t offset, const void *buf,
                      unsigned size) {
    struct host_function *d = (struct host_function *)f;
    ssize_t n = d->host->calls->pwrite(d->fd, buf, size, (off_t)(d->at[region] + offset));

    return n == (ssize_t)size ? 0 : n < 0 ? -errno : -EIO;
}

/* ------------------------------------------------------------------ interrupts */

static void interrupt(void *opaque, int fd, uint32_t events) {
    struct listener *l = opaque;
    struct host_function *d = l->owner;
    uint64_t count;

    if (read(fd, &count, sizeof(count)) != sizeof(count))
        return;
    trace(vfio_interrupt, d->f.name, d->kind, l->n, count);
    if (d->f.fired)
        d->f.fired(d->f.opaque, d->kind, l->n);
}

static void drop_listeners(struct host_function *d) {
    while (d->listeners) {
        struct listener *l = &d->listener[--d->listeners];

        loop_remove(l->watch);
        close(l->fd);
    }
}

static bool add_listener(struct host_function *d) {
    struct listener *l = &d->listener[d->listeners];

    *l = (struct listener){
        .owner = d, .n = d->listeners, .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (l->fd < 0)
        return false;
    l->watch = loop_add(d->host->loop, l->fd, EPOLLIN, interrupt, l);
    if (!l->watch) {
        close(l->fd);
        return false;
    }
    d->listeners++;
    return true;
}

static int set_irqs(struct host_function *d, enum vfio_interrupt kind, uint32_t flags,
                    unsigned count) {
    _Alignas(struct vfio_irq_set)
        uint8_t room[sizeof(struct vfio_irq_set) + VFIO_VECTORS * sizeof(int32_t)];
    struct vfio_irq_set *set = (struct vfio_irq_set *)room;

    *set =
        (struct vfio_irq_set){.argsz = sizeof(*set), .flags = flags, .index = kind, .count = count};
    if (flags & VFIO_IRQ_SET_DATA_EVENTFD) {
        set->argsz += (uint32_t)(count * sizeof(int32_t));
        for (unsigned i = 0; i < count; i++)
            memcpy(set->data + i * sizeof(int32_t), &d->listener[i].fd, sizeof(int32_t));
    }
    return d->host->calls->ioctl(d->fd, VFIO_DEVICE_SET_IRQS, set);
}

static void listen_no_more(struct host_function *d) {
    if (!d->listeners)
        return;
    set_irqs(d, d->kind, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, 0);
    drop_listeners(d);
}

static int host_listen(struct vfio_function *f, enum vfio_interrupt kind, unsigned count) {
    struct host_function *d = (struct host_function *)f;
    int r;

    listen_no_more(d);
    if (count > f->interrupts[kind])
        count = f->interrupts[kind];
    if (!count)
        return 0;
    d->kind = kind;
    while (d->listeners < count && add_listener(d))
        ;
    r = d->listeners == count
            ? set_irqs(d, kind, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, count)
            : (errno = EMFILE, -1);
    if (r > 0 && (unsigned)r < count) { /* the host has only so many left */
        count = (unsigned)r;
        r = set_irqs(d, kind, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, count);
    }
    trace(vfio_listen, f->name, kind, count, r);
    if (r == 0)
        return (int)count;
    r = r < 0 ? -errno : -ENOSPC;
    drop_listeners(d);
    return r;
}

static int host_unmask(struct vfio_function *f) {
    struct host_function *d = (struct host_function *)f;

    return set_irqs(d, VFIO_INTX, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, 1) < 0
               ? -errno
               : 0;
}

static int host_reset(struct vfio_function *f) {
    struct host_function *d = (struct host_function *)f;

    return d->resets ? call(d, VFIO_DEVICE_RESET, NULL) : -ENOTSUP;
}

static const struct vfio_function_ops ops = {.read = host_read,
                                             .write = host_write,
                                             .listen = host_listen,
                                             .unmask = host_unmask,
                                             .reset = host_reset};

/* ------------------------------------------------------------------ opening */

static void look_at_regions(struct host_function *d, unsigned count) {
    for (unsigned i = 0; i < VFIO_REGIONS && i < count; i++) {
        struct vfio_region_info info = {.argsz = sizeof(info), .index = i};

        if (call(d, VFIO_DEVICE_GET_REGION_INFO, &info) < 0)
            continue; /* there is none of this number */
        d->at[i] = info.offset;
        d->f.region[i] = (struct vfio_region){.size = info.size,
                                              .read = info.flags & VFIO_REGION_INFO_FLAG_READ,
                                              .write = info.flags & VFIO_REGION_INFO_FLAG_WRITE};
    }
}

static void look_at_interrupts(struct host_function *d, unsigned count) {
    for (unsigned i = 0; i < VFIO_INTERRUPTS && i < count; i++) {
        struct vfio_irq_info info = {.argsz = sizeof(info), .index = i};

        if (call(d, VFIO_DEVICE_GET_IRQ_INFO, &info) < 0 || !(info.flags & VFIO_IRQ_INFO_EVENTFD))
            continue;
        d->f.interrupts[i] = info.count < VFIO_VECTORS ? info.count : VFIO_VECTORS;
    }
}

static int look(struct host_function *d, struct error *err) {
    struct vfio_device_info info = {.argsz = sizeof(info)};

    if (call(d, VFIO_DEVICE_GET_INFO, &info) < 0)
        return error_set(err, -errno, "device %s: %s; look into the kernel's log", d->f.name,
                         strerror(errno));
    if (!(info.flags & VFIO_DEVICE_FLAGS_PCI))
        return error_set(err, -ENOTSUP,
                         "device %s: it does not appear as a PCI device, and no other kind can be "
                         "given to a machine",
                         d->f.name);
    d->resets = info.flags & VFIO_DEVICE_FLAGS_RESET;
    look_at_regions(d, info.num_regions);
    look_at_interrupts(d, info.num_irqs);
    if (d->f.region[VFIO_CONFIG].size < 256)
        return error_set(err, -EIO, "device %s: VFIO shows no configuration space of it",
                         d->f.name);
    return 0;
}

static int open_device(struct host_function *d, struct error *err) {
    d->fd = d->host->calls->ioctl(d->group->fd, VFIO_GROUP_GET_DEVICE_FD, d->f.name);
    if (d->fd < 0)
        return error_set(err, -errno,
                         "device %s: VFIO does not hand it out: %s; is it bound to vfio-pci, and "
                         "did it wake up? the kernel's log says more",
                         d->f.name, strerror(errno));
    return look(d, err);
}

struct vfio_function *vfio_open(struct vfio_host *h, const struct vfio_place *place,
                                struct error *err) {
    struct host_function *d = calloc(1, sizeof(*d));

    if (!d) {
        error_set(err, -ENOMEM, "device %s: out of memory", place->name);
        return NULL;
    }
    d->f.ops = &ops;
    memcpy(d->f.name, place->name, sizeof(d->f.name));
    d->host = h;
    d->fd = -1;
    d->group = vfio_group_get(h, place->group, err);
    if (!d->group)
        error_prefix(err, "device %s", place->name);
    if (!d->group || open_device(d, err) < 0) {
        vfio_close(&d->f);
        return NULL;
    }
    trace(vfio_open, place->name, place->group);
    return &d->f;
}

void vfio_close(struct vfio_function *f) {
    struct host_function *d = (struct host_function *)f;

    if (!d)
        return;
    listen_no_more(d);
    if (d->fd >= 0)
        close(d->fd);
    if (d->group)
        vfio_group_put(d->host, d->group);
    free(d);
}
