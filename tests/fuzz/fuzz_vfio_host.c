/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: answers of the kernel, or of the driver of a mediated device, about a device's
 * regions and interrupts. Whatever they are, what is mapped lies in its BAR, in whole pages, piece
 * behind piece, and is given back.
 */
#include "base/log.h"
#include "base/loop.h"
#include "vfio/fake_kernel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fill(void *to, size_t n, const uint8_t **data, size_t *size) {
    size_t some = n < *size ? n : *size;

    if (!some) /* as it was */
        return;
    memcpy(to, *data, some);
    *data += some;
    *size -= some;
}

static void check(const struct vfio_region *r) {
    uint64_t end = 0;

    for (unsigned i = 0; i < r->areas; i++) {
        const struct vfio_area *a = &r->area[i];

        if ((a->offset | a->size) % 4096 || !a->size || a->offset < end || a->offset > r->size ||
            a->size > r->size - a->offset)
            abort();
        end = a->offset + a->size;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct vfio_place place = {.name = "0000:03:00.0", .group = 7};
    struct loop *loop = loop_new(NULL, NULL);
    struct vfio_host *host = vfio_host_new(loop, "/dev", &fake_calls);
    struct vfio_function *f;
    struct error err = {0};

    log_init("fuzz", LOG_LEVEL_ERROR);
    kernel_init();
    for (unsigned i = 0; i < 3; i++)
        fill(&fake.irq[i].count, sizeof(fake.irq[i].count), &data, &size);
    for (unsigned i = 0; i < 6 && size; i++) {
        uint8_t length = 0;

        fill(&length, 1, &data, &size);
        fake.region[i].size = (uint32_t)sizeof(struct vfio_region_info) + length;
        fill(fake.region[i].bytes, fake.region[i].size, &data, &size);
    }
    f = vfio_open(host, &place, &err);
    for (unsigned i = 0; f && i < VFIO_REGIONS; i++)
        check(&f->region[i]);
    vfio_close(f);
    if (fake.mapped_areas || fake.groups_in || (!f && !err.text[0]))
        abort();
    vfio_host_free(host);
    loop_free(loop);
    return 0;
}
