/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VFIO: container, groups and the memory that devices reach. Source: Linux
 * include/uapi/linux/vfio.h, Documentation/driver-api/vfio.rst; type 1 IOMMU, version 2.
 *
 * The container learns its kind of IOMMU with its first group and forgets everything with its last
 * one. So the table of memory is kept here, and told to the kernel whenever the first group comes.
 *
 * Calls (main): openat
 * Calls (main): ioctl:VFIO_GET_API_VERSION ioctl:VFIO_CHECK_EXTENSION ioctl:VFIO_SET_IOMMU
 *     ioctl:VFIO_GROUP_GET_STATUS ioctl:VFIO_GROUP_SET_CONTAINER ioctl:VFIO_GROUP_UNSET_CONTAINER
 *     ioctl:VFIO_GROUP_GET_DEVICE_FD
 * Calls (main, vcpu): ioctl:VFIO_IOMMU_MAP_DMA ioctl:VFIO_IOMMU_UNMAP_DMA
 */
#include "vfio/host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "vfio/host_internal.h"

static int real_open(const char *path, int flags) { return open(path, flags); }

static int real_ioctl(int fd, unsigned long request, void *argument) {
    return ioctl(fd, request, argument);
}

static const struct vfio_calls kernel = {real_open, real_ioctl, pread, pwrite, mmap, munmap};

/* An eventfd for each vector, of which there may be more than the usual 1024 descriptors. */
static void raise_limit(__rlimit_resource_t what) {
    struct rlimit l;

    if (getrlimit(what, &l) == 0 && l.rlim_cur < l.rlim_max) {
        l.rlim_cur = l.rlim_max;
        setrlimit(what, &l);
    }
}

struct vfio_host *vfio_host_new(struct loop *loop, const char *dev,
                                const struct vfio_calls *calls) {
    struct vfio_host *h = calloc(1, sizeof(*h));

    if (h)
        *h = (struct vfio_host){
            .loop = loop, .dev = dev, .calls = calls ? calls : &kernel, .container = -1};
    return h;
}

void vfio_host_free(struct vfio_host *h) {
    if (!h)
        return;
    free(h->piece);
    free(h);
}

bool vfio_used(const struct vfio_host *h) { return h->groups; }

/* ------------------------------------------------------------------ memory */

static int refused(const struct vfio_piece *p, int code, struct error *err) {
    struct rlimit l = {0};

    getrlimit(RLIMIT_MEMLOCK, &l);
    if (code == ENOMEM && l.rlim_cur != RLIM_INFINITY)
        return error_set(err, -EPERM,
                         "guest memory of %llu MiB at 0x%llx cannot be given to a device of the "
                         "host, for which it is locked: this process may lock %llu KiB; raise that "
                         "with 'ulimit -l unlimited' or, in a service, LimitMEMLOCK=infinity",
                         (unsigned long long)p->size >> 20, (unsigned long long)p->at,
                         (unsigned long long)l.rlim_cur / 1024);
    return error_set(err, -code,
                     "guest memory of %llu MiB at 0x%llx cannot be given to a device of the host: "
                     "%s; %s",
                     (unsigned long long)p->size >> 20, (unsigned long long)p->at, strerror(code),
                     code == EINVAL ? "the IOMMU does not reach that address: give the machine "
                                      "less memory"
                                    : "give the machine less memory, or leave the device out");
}

static int tell_kernel(struct vfio_host *h, const struct vfio_piece *p, struct error *err) {
    struct vfio_iommu_type1_dma_map map = {
        .argsz = sizeof(map),
        .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        .vaddr = (uint64_t)(uintptr_t)p->memory,
        .iova = p->at,
        .size = p->size,
    };

    return h->calls->ioctl(h->container, VFIO_IOMMU_MAP_DMA, &map) < 0 ? refused(p, errno, err) : 0;
}

static void take_from_kernel(struct vfio_host *h, const struct vfio_piece *p) {
    struct vfio_iommu_type1_dma_unmap unmap = {
        .argsz = sizeof(unmap), .iova = p->at, .size = p->size};

    h->calls->ioctl(h->container, VFIO_IOMMU_UNMAP_DMA, &unmap);
}

int vfio_map(struct vfio_host *h, uint64_t at, void *memory, uint64_t size, struct error *err) {
    struct vfio_piece p = {at, size, memory};
    int r;

    if (h->pieces == h->room) {
        unsigned room = h->room * 2 + 16;
        void *more = realloc(h->piece, room * sizeof(*h->piece));

        if (!more)
            return error_set(err, -ENOMEM, "the memory of the host's devices: out of memory");
        h->piece = more;
        h->room = room;
    }
    r = h->groups ? tell_kernel(h, &p, err) : 0;
    if (r == 0)
        h->piece[h->pieces++] = p;
    return r;
}

void vfio_unmap(struct vfio_host *h, uint64_t at, uint64_t size) {
    for (unsigned i = h->pieces; i-- > 0;)
        if (h->piece[i].at == at && h->piece[i].size == size) {
            if (h->groups)
                take_from_kernel(h, &h->piece[i]);
            h->piece[i] = h->piece[--h->pieces];
            return;
        }
}

/* ------------------------------------------------------------------ the container */

static int open_container(struct vfio_host *h, struct error *err) {
    char path[64];

    snprintf(path, sizeof(path), "%s/vfio/vfio", h->dev);
    h->container = h->calls->open(path, O_RDWR | O_CLOEXEC);
    if (h->container < 0)
        return error_set(err, -errno,
                         "'%s' cannot be opened: %s; it belongs to root, or to whom udev gives it",
                         path, strerror(errno));
    if (h->calls->ioctl(h->container, VFIO_GET_API_VERSION, NULL) != VFIO_API_VERSION ||
        h->calls->ioctl(h->container, VFIO_CHECK_EXTENSION, (void *)VFIO_TYPE1v2_IOMMU) <= 0) {
        close(h->container);
        h->container = -1;
        return error_set(err, -ENODEV,
                         "the host's VFIO has no IOMMU of type 1: load the module "
                         "vfio_iommu_type1, and switch the IOMMU on");
    }
    return 0;
}

/* With the first group. */
static int set_iommu(struct vfio_host *h, struct error *err) {
    int r = 0;
    unsigned i = 0;

    raise_limit(RLIMIT_MEMLOCK);
    raise_limit(RLIMIT_NOFILE);
    if (h->calls->ioctl(h->container, VFIO_SET_IOMMU, (void *)VFIO_TYPE1v2_IOMMU) < 0)
        return error_set(err, -errno,
                         "the host's IOMMU cannot be used: %s; without interrupt remapping it "
                         "wants vfio_iommu_type1.allow_unsafe_interrupts=1, the kernel's log says",
                         strerror(errno));
    while (r == 0 && i < h->pieces)
        r = tell_kernel(h, &h->piece[i++], err);
    return r;
}

static int check_group(struct vfio_host *h, int fd, int number, struct error *err) {
    struct vfio_group_status status = {.argsz = sizeof(status)};

    if (h->calls->ioctl(fd, VFIO_GROUP_GET_STATUS, &status) < 0)
        return error_set(err, -errno, "IOMMU group %d: %s; look into the kernel's log", number,
                         strerror(errno));
    if (status.flags & VFIO_GROUP_FLAGS_VIABLE)
        return 0;
    return error_set(err, -EBUSY,
                     "IOMMU group %d: the host still uses a device of it: bind all of them to "
                     "vfio-pci ('viv host devices' lists them)",
                     number);
}

static int open_group(struct vfio_host *h, struct vfio_group *g, struct error *err) {
    char path[64];

    snprintf(path, sizeof(path), "%s/vfio/%d", h->dev, g->number);
    g->fd = h->calls->open(path, O_RDWR | O_CLOEXEC);
    if (g->fd < 0)
        return error_set(err, -errno, "'%s' cannot be opened: %s; %s", path, strerror(errno),
                         errno == EBUSY ? "another program or machine has the group"
                                        : "give it to the user of the machine (chown, or udev)");
    return check_group(h, g->fd, g->number, err);
}

static int add_group(struct vfio_host *h, struct vfio_group *g, struct error *err) {
    int r = open_group(h, g, err);

    if (r == 0 && h->container < 0)
        r = open_container(h, err);
    if (r < 0)
        return r;
    if (h->calls->ioctl(g->fd, VFIO_GROUP_SET_CONTAINER, &h->container) < 0)
        return error_set(err, -errno, "IOMMU group %d cannot be taken: %s", g->number,
                         strerror(errno));
    r = h->groups ? 0 : set_iommu(h, err);
    if (r < 0)
        h->calls->ioctl(g->fd, VFIO_GROUP_UNSET_CONTAINER, NULL);
    return r;
}

struct vfio_group *vfio_group_get(struct vfio_host *h, int number, struct error *err) {
    struct vfio_group *free_one = NULL;

    for (unsigned i = 0; i < VFIO_GROUPS; i++) {
        struct vfio_group *g = &h->group[i];

        if (g->users && g->number == number) {
            g->users++;
            return g;
        }
        if (!g->users && !free_one)
            free_one = g;
    }
    if (!free_one) {
        error_set(err, -E2BIG, "a machine has devices of at most %d IOMMU groups", VFIO_GROUPS);
        return NULL;
    }
    *free_one = (struct vfio_group){.number = number, .fd = -1};
    if (add_group(h, free_one, err) < 0) {
        if (free_one->fd >= 0)
            close(free_one->fd);
        if (!h->groups && h->container >= 0) {
            close(h->container);
            h->container = -1;
        }
        return NULL;
    }
    free_one->users = 1;
    h->groups++;
    return free_one;
}

void vfio_group_put(struct vfio_host *h, struct vfio_group *g) {
    if (--g->users)
        return;
    h->calls->ioctl(g->fd, VFIO_GROUP_UNSET_CONTAINER, NULL);
    close(g->fd);
    if (--h->groups)
        return;
    close(h->container);
    h->container = -1;
}
