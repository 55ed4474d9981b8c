/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's VFIO, made up: one container, groups, one device, whose answers a test sets. What is
 * asked of it in a way that the kernel would refuse is refused, and calls are noted.
 */
#ifndef TESTS_VFIO_FAKE_KERNEL_H
#define TESTS_VFIO_FAKE_KERNEL_H

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vfio/host.h"

enum { KERNEL_REGIONS = 9, KERNEL_INFO = 512, KERNEL_MAPS = 16, KERNEL_VECTORS = 4096 };

struct fake_kernel {
    int api, viable, type1; /* what it says */
    int fail;               /* the request that fails, with... */
    int error;
    int container, device;
    bool iommu_set;
    unsigned groups_in; /* in the container */
    struct vfio_device_info info;
    struct {
        _Alignas(8) uint8_t bytes[KERNEL_INFO]; /* struct vfio_region_info and what follows it */
        uint32_t size;                          /* of that; 0: there is no such region */
    } region[KERNEL_REGIONS];
    struct vfio_irq_info irq[3];
    unsigned vectors_left; /* more of them it does not give */
    uint32_t irq_kind;
    unsigned irq_count;
    int fd[KERNEL_VECTORS];
    unsigned resets, unmasks;
    struct {
        uint64_t at, size;
    } map[KERNEL_MAPS];
    unsigned maps, mapped_areas;
    bool short_transfers;
};

static struct fake_kernel fake;

static inline int kernel_refuse(int error) {
    errno = error;
    return -1;
}

static inline int kernel_open(const char *path, int flags) {
    int fd;

    if (fake.fail == -1)
        return kernel_refuse(fake.error);
    fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (strstr(path, "/vfio/vfio"))
        fake.container = fd;
    return fd;
}

static inline int kernel_map(const struct vfio_iommu_type1_dma_map *m) {
    if (!fake.iommu_set || fake.maps == KERNEL_MAPS)
        return kernel_refuse(EINVAL);
    for (unsigned i = 0; i < fake.maps; i++)
        if (m->iova < fake.map[i].at + fake.map[i].size && fake.map[i].at < m->iova + m->size)
            return kernel_refuse(EEXIST);
    fake.map[fake.maps].at = m->iova;
    fake.map[fake.maps++].size = m->size;
    return 0;
}

static inline int kernel_unmap(const struct vfio_iommu_type1_dma_unmap *u) {
    for (unsigned i = 0; i < fake.maps; i++)
        if (fake.map[i].at == u->iova && fake.map[i].size == u->size) {
            fake.map[i] = fake.map[--fake.maps];
            return 0;
        }
    return kernel_refuse(EINVAL);
}

static inline int kernel_region(struct vfio_region_info *info) {
    uint32_t room = info->argsz, index = info->index, size;

    if (index >= KERNEL_REGIONS || !fake.region[index].size)
        return kernel_refuse(EINVAL);
    size = fake.region[index].size;
    memcpy(info, fake.region[index].bytes, room < size ? room : size);
    info->index = index;
    return 0;
}

static inline int kernel_irqs(const struct vfio_irq_set *set) {
    bool fds = set->flags & VFIO_IRQ_SET_DATA_EVENTFD;

    if (set->flags & VFIO_IRQ_SET_ACTION_UNMASK) {
        fake.unmasks++;
        return 0;
    }
    if (!fds) {
        if (set->count || set->index != fake.irq_kind)
            return kernel_refuse(EINVAL);
        fake.irq_count = 0;
        return 0;
    }
    if (set->argsz < sizeof(*set) + set->count * sizeof(int32_t) ||
        set->start + set->count > fake.irq[set->index].count)
        return kernel_refuse(EINVAL);
    if (!fake.irq_count) { /* it is switched on */
        if (set->start + set->count > fake.vectors_left)
            return fake.vectors_left ? (int)fake.vectors_left : kernel_refuse(ENOSPC);
        fake.irq_kind = set->index;
        fake.irq_count = set->start + set->count;
        memset(fake.fd, 0xff, sizeof(fake.fd));
    }
    if (set->index != fake.irq_kind || set->start + set->count > fake.irq_count)
        return kernel_refuse(EINVAL);
    memcpy(fake.fd + set->start, set->data, set->count * sizeof(int32_t));
    return 0;
}

static inline int kernel_group_status(struct vfio_group_status *s) {
    s->flags = fake.viable ? VFIO_GROUP_FLAGS_VIABLE : 0;
    return 0;
}

static inline int kernel_set_iommu(void) {
    if (!fake.groups_in || fake.iommu_set)
        return kernel_refuse(EINVAL);
    fake.iommu_set = true;
    return 0;
}

static inline int kernel_leave(void) {
    if (--fake.groups_in == 0) {
        fake.iommu_set = false;
        fake.maps = 0;
    }
    return 0;
}

static inline int kernel_ioctl(int fd, unsigned long request, void *argument) {
    if (fake.fail == (int)request)
        return kernel_refuse(fake.error);
    switch (request) {
    case VFIO_GET_API_VERSION:
        return fake.api;
    case VFIO_CHECK_EXTENSION:
        return fake.type1;
    case VFIO_SET_IOMMU:
        return kernel_set_iommu();
    case VFIO_GROUP_GET_STATUS:
        return kernel_group_status(argument);
    case VFIO_GROUP_SET_CONTAINER:
        fake.groups_in++;
        return 0;
    case VFIO_GROUP_UNSET_CONTAINER:
        return kernel_leave();
    case VFIO_GROUP_GET_DEVICE_FD:
        return fake.device = open("/dev/null", O_RDWR | O_CLOEXEC);
    case VFIO_IOMMU_MAP_DMA:
        return kernel_map(argument);
    case VFIO_IOMMU_UNMAP_DMA:
        return kernel_unmap(argument);
    case VFIO_DEVICE_GET_INFO:
        *(struct vfio_device_info *)argument = fake.info;
        return 0;
    case VFIO_DEVICE_GET_REGION_INFO:
        return kernel_region(argument);
    case VFIO_DEVICE_GET_IRQ_INFO:
        *(struct vfio_irq_info *)argument = fake.irq[((struct vfio_irq_info *)argument)->index];
        return 0;
    case VFIO_DEVICE_SET_IRQS:
        return kernel_irqs(argument);
    case VFIO_DEVICE_RESET:
        fake.resets++;
        return 0;
    default:
        return kernel_refuse(ENOTTY);
    }
}

static inline ssize_t kernel_pread(int fd, void *buf, size_t n, off_t at) {
    memset(buf, 0x5a, n);
    return (ssize_t)(fake.short_transfers ? n / 2 : n);
}

static inline ssize_t kernel_pwrite(int fd, const void *buf, size_t n, off_t at) {
    return (ssize_t)(fake.short_transfers ? n / 2 : n);
}

static inline void *kernel_mmap(void *at, size_t n, int protection, int flags, int fd, off_t from) {
    if (fd != fake.device || !n || n % 4096)
        abort();
    if (fake.fail == -2 || from % 4096 || from < 0 || n > 1ull << 46) {
        errno = fake.fail == -2 ? fake.error : EINVAL;
        return MAP_FAILED;
    }
    fake.mapped_areas++;
    return (void *)(uintptr_t)(0x1000000 + from);
}

static inline int kernel_munmap(void *at, size_t n) {
    fake.mapped_areas--;
    return 0;
}

static const struct vfio_calls fake_calls = {kernel_open,   kernel_ioctl, kernel_pread,
                                             kernel_pwrite, kernel_mmap,  kernel_munmap};

static inline struct vfio_region_info *kernel_region_at(unsigned i) {
    return (struct vfio_region_info *)fake.region[i].bytes;
}

/* An NVMe drive, say: BAR 0 of 16 KiB, configuration, 33 vectors. */
static inline void kernel_init(void) {
    memset(&fake, 0, sizeof(fake));
    fake.viable = fake.type1 = 1;
    fake.container = fake.device = -2;
    fake.vectors_left = KERNEL_VECTORS;
    fake.info = (struct vfio_device_info){.argsz = sizeof(fake.info),
                                          .flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET,
                                          .num_regions = KERNEL_REGIONS,
                                          .num_irqs = 5};
    for (unsigned i = 0; i < 8; i += 7) {
        fake.region[i].size = sizeof(struct vfio_region_info);
        *kernel_region_at(i) = (struct vfio_region_info){.argsz = sizeof(struct vfio_region_info),
                                                         .flags = VFIO_REGION_INFO_FLAG_READ |
                                                                  VFIO_REGION_INFO_FLAG_WRITE,
                                                         .size = i ? 4096 : 0x4000,
                                                         .offset = (uint64_t)i << 40};
    }
    kernel_region_at(0)->flags |= VFIO_REGION_INFO_FLAG_MMAP;
    for (unsigned i = 0; i < 3; i++)
        fake.irq[i] = (struct vfio_irq_info){.argsz = sizeof(fake.irq[0]),
                                             .flags = VFIO_IRQ_INFO_EVENTFD,
                                             .index = i,
                                             .count = i == 2 ? 33 : 1};
}

#endif
