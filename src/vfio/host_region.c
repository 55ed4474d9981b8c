/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel says of a device's regions, and those parts of BARs that can be mapped.
 * Source: Linux include/uapi/linux/vfio.h (VFIO_DEVICE_GET_REGION_INFO and its capabilities).
 *
 * Capabilities are a list of offsets in the answer. A driver of a mediated device may say anything:
 * each one is looked at only where it is whole, and there are at most so many.
 *
 * Calls (main): mmap munmap
 * Calls (main): ioctl:VFIO_DEVICE_GET_REGION_INFO
 */
#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/trace.h"
#include "vfio/host_internal.h"

enum { PAGE = 4096, BARS = VFIO_ROM, CAPS_MOST = 16, INFO_MOST = 64 << 10 };

/* The answer with its capabilities, for free; NULL: there is none of this number. */
static struct vfio_region_info *ask(const struct host_function *d, unsigned i) {
    struct vfio_region_info info = {.argsz = sizeof(info), .index = i}, *all;
    uint32_t size;

    if (vfio_call(d, VFIO_DEVICE_GET_REGION_INFO, &info) < 0)
        return NULL;
    size = info.argsz > sizeof(info) && info.argsz <= INFO_MOST ? info.argsz : sizeof(info);
    all = calloc(1, size);
    if (!all)
        return NULL;
    *all = info;
    all->argsz = size;
    if (size > sizeof(info) && vfio_call(d, VFIO_DEVICE_GET_REGION_INFO, all) < 0)
        *all = info;
    if (all->argsz > size || !(info.flags & VFIO_REGION_INFO_FLAG_CAPS)) {
        all->cap_offset = 0; /* it wants still more, so this is not all of it */
        all->argsz = size;
    }
    return all;
}

/* The capability of this kind with at least `need` bytes, and how many bytes there are of it. */
static const struct vfio_info_cap_header *find(const struct vfio_region_info *info, unsigned id,
                                               size_t need, size_t *ret_size) {
    uint32_t at = info->cap_offset;

    for (unsigned n = 0; n < CAPS_MOST && at >= sizeof(*info) && !(at & 7) && at < info->argsz;
         n++) {
        const struct vfio_info_cap_header *c = (const void *)((const uint8_t *)info + at);

        if (info->argsz - at < sizeof(*c))
            return NULL;
        *ret_size = info->argsz - at;
        if (c->id == id)
            return *ret_size >= need ? c : NULL;
        at = c->next;
    }
    return NULL;
}

static void map_area(struct host_function *d, unsigned i, uint64_t offset, uint64_t size) {
    struct vfio_region *r = &d->f.region[i];
    uint64_t end = r->areas ? r->area[r->areas - 1].offset + r->area[r->areas - 1].size : 0;
    void *memory;

    if (!size || (offset | size) % PAGE || offset < end || offset > r->size ||
        size > r->size - offset || size > SIZE_MAX || r->areas == VFIO_AREAS)
        return;
    memory = d->host->calls->mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, d->fd,
                                  (off_t)(d->at[i] + offset));
    trace(vfio_area, d->f.name, i, offset, size, memory == MAP_FAILED ? errno : 0);
    if (memory != MAP_FAILED)
        r->area[r->areas++] = (struct vfio_area){offset, size, memory};
}

static void map_region(struct host_function *d, unsigned i, const struct vfio_region_info *info) {
    const struct vfio_region_info_cap_sparse_mmap *sparse;
    const struct vfio_info_cap_header *c;
    size_t room = 0;

    c = find(info, VFIO_REGION_INFO_CAP_SPARSE_MMAP, sizeof(*sparse), &room);
    if (!c) {
        map_area(d, i, 0, info->size);
        return;
    }
    sparse = (const void *)c;
    for (unsigned k = 0;
         k < sparse->nr_areas && k < (room - sizeof(*sparse)) / sizeof(sparse->areas[0]); k++)
        map_area(d, i, sparse->areas[k].offset, sparse->areas[k].size);
}

void vfio_look_at_regions(struct host_function *d, unsigned count) {
    for (unsigned i = 0; i < VFIO_REGIONS && i < count; i++) {
        struct vfio_region_info *info = ask(d, i);

        if (!info)
            continue;
        d->at[i] = info->offset;
        d->f.region[i] = (struct vfio_region){.size = info->size,
                                              .read = info->flags & VFIO_REGION_INFO_FLAG_READ,
                                              .write = info->flags & VFIO_REGION_INFO_FLAG_WRITE};
        if (i < BARS && info->flags & VFIO_REGION_INFO_FLAG_MMAP && d->f.region[i].read &&
            d->f.region[i].write)
            map_region(d, i, info);
        free(info);
    }
}

void vfio_forget_regions(struct host_function *d) {
    for (unsigned i = 0; i < VFIO_REGIONS; i++)
        while (d->f.region[i].areas) {
            const struct vfio_area *a = &d->f.region[i].area[--d->f.region[i].areas];

            d->host->calls->munmap(a->memory, (size_t)a->size);
        }
}
