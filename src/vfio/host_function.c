/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One device of the host: its regions by pread and pwrite, its messages by eventfds that others
 * name, INTx by one in the loop.
 * Source: Linux include/uapi/linux/vfio.h.
 *
 * A message without an eventfd is one that the kernel has not asked the device for: it is masked
 * there, and waits in its pending bits. So vectors that a guest never uses cost no descriptor.
 *
 * Of the kinds of interrupts one at most is on. The kernel masks INTx as it fires and leaves it
 * masked until it is told that somebody has looked.
 *
 * Calls (main): ioctl:VFIO_DEVICE_GET_INFO ioctl:VFIO_DEVICE_GET_IRQ_INFO
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

int vfio_call(const struct host_function *d, unsigned long request, void *argument) {
    int r = d->host->calls->ioctl(d->fd, request, argument);

    return r < 0 ? -errno : r;
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
    struct host_function *d = opaque;
    uint64_t count;

    if (read(fd, &count, sizeof(count)) != sizeof(count))
        return;
    trace(vfio_interrupt, d->f.name, count);
    if (d->f.fired)
        d->f.fired(d->f.opaque);
}

static void drop_intx(struct host_function *d) {
    loop_remove(d->watch);
    d->watch = NULL;
    if (d->intx >= 0)
        close(d->intx);
    d->intx = -1;
}

static int take_intx(struct host_function *d) {
    d->intx = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (d->intx >= 0)
        d->watch = loop_add(d->host->loop, d->intx, EPOLLIN, interrupt, d);
    return d->watch ? 0 : -EMFILE;
}

/* Descriptors for the interrupts from `start` on; NULL: none yet. */
static int set_fds(struct host_function *d, enum vfio_interrupt kind, unsigned start,
                   unsigned count, const int *fds) {
    size_t size = sizeof(struct vfio_irq_set) + count * sizeof(int32_t);
    struct vfio_irq_set *set = calloc(1, size);
    int32_t fd;
    int r;

    if (!set)
        return -ENOMEM;
    *set = (struct vfio_irq_set){.argsz = (uint32_t)size,
                                 .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
                                 .index = kind,
                                 .start = start,
                                 .count = count};
    for (unsigned i = 0; i < count; i++) {
        fd = fds ? fds[i] : -1;
        memcpy(set->data + i * sizeof(fd), &fd, sizeof(fd));
    }
    r = vfio_call(d, VFIO_DEVICE_SET_IRQS, set);
    free(set);
    return r;
}

static int set_nothing(const struct host_function *d, enum vfio_interrupt kind, uint32_t action,
                       unsigned count) {
    struct vfio_irq_set set = {.argsz = sizeof(set),
                               .flags = VFIO_IRQ_SET_DATA_NONE | action,
                               .index = kind,
                               .count = count};

    return vfio_call(d, VFIO_DEVICE_SET_IRQS, &set);
}

static void listen_no_more(struct host_function *d) {
    if (d->listening)
        set_nothing(d, d->kind, VFIO_IRQ_SET_ACTION_TRIGGER, 0);
    d->listening = false;
    drop_intx(d);
}

/* How many it gives of `count`. */
static int switch_on(struct host_function *d, enum vfio_interrupt kind, unsigned count,
                     const int *fds) {
    int r = set_fds(d, kind, 0, count, fds);

    if (r > 0 && (unsigned)r < count) { /* the host has only so many left */
        count = (unsigned)r;
        r = set_fds(d, kind, 0, count, fds);
    }
    return r == 0 ? (int)count : r < 0 ? r : -ENOSPC;
}

static int host_listen(struct vfio_function *f, enum vfio_interrupt kind, unsigned count,
                       const int *fds) {
    struct host_function *d = (struct host_function *)f;
    int r;

    listen_no_more(d);
    if (count > f->interrupts[kind])
        count = f->interrupts[kind];
    if (!count)
        return 0;
    r = kind == VFIO_INTX ? take_intx(d) : 0;
    if (r == 0)
        r = switch_on(d, kind, count, kind == VFIO_INTX ? &d->intx : fds);
    trace(vfio_listen, f->name, kind, count, r);
    if (r < 0) {
        drop_intx(d);
        return r;
    }
    d->listening = true;
    d->kind = kind;
    d->count = (unsigned)r;
    return r;
}

static int host_signal(struct vfio_function *f, unsigned n, int fd) {
    struct host_function *d = (struct host_function *)f;
    int r = d->listening && d->kind != VFIO_INTX && n < d->count ? set_fds(d, d->kind, n, 1, &fd)
                                                                 : -EINVAL;

    trace(vfio_signal, f->name, d->kind, n, fd, r);
    return r < 0 ? r : 0;
}

static int host_unmask(struct vfio_function *f) {
    struct host_function *d = (struct host_function *)f;

    return set_nothing(d, VFIO_INTX, VFIO_IRQ_SET_ACTION_UNMASK, 1);
}

static int host_reset(struct vfio_function *f) {
    struct host_function *d = (struct host_function *)f;

    return d->resets ? vfio_call(d, VFIO_DEVICE_RESET, NULL) : -ENOTSUP;
}

static const struct vfio_function_ops ops = {.read = host_read,
                                             .write = host_write,
                                             .listen = host_listen,
                                             .signal = host_signal,
                                             .unmask = host_unmask,
                                             .reset = host_reset};

/* ------------------------------------------------------------------ opening */

static void look_at_interrupts(struct host_function *d, unsigned count) {
    for (unsigned i = 0; i < VFIO_INTERRUPTS && i < count; i++) {
        struct vfio_irq_info info = {.argsz = sizeof(info), .index = i};

        if (vfio_call(d, VFIO_DEVICE_GET_IRQ_INFO, &info) < 0 ||
            !(info.flags & VFIO_IRQ_INFO_EVENTFD))
            continue;
        d->f.interrupts[i] = info.count < VFIO_VECTORS ? info.count : VFIO_VECTORS;
    }
}

static int look(struct host_function *d, struct error *err) {
    struct vfio_device_info info = {.argsz = sizeof(info)};
    int r;

    r = vfio_call(d, VFIO_DEVICE_GET_INFO, &info);
    if (r < 0)
        return error_set(err, r, "device %s: %s; look into the kernel's log", d->f.name,
                         strerror(-r));
    if (!(info.flags & VFIO_DEVICE_FLAGS_PCI))
        return error_set(err, -ENOTSUP,
                         "device %s: it does not appear as a PCI device, and no other kind can be "
                         "given to a machine",
                         d->f.name);
    d->resets = info.flags & VFIO_DEVICE_FLAGS_RESET;
    vfio_look_at_regions(d, info.num_regions);
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
    d->fd = d->intx = -1;
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
    vfio_forget_regions(d);
    if (d->fd >= 0)
        close(d->fd);
    if (d->group)
        vfio_group_put(d->host, d->group);
    free(d);
}
