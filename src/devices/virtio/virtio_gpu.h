/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Display adapter without a third dimension: class `virtio_gpu`. */
#ifndef DEVICES_VIRTIO_VIRTIO_GPU_H
#define DEVICES_VIRTIO_VIRTIO_GPU_H

#include "devices/virtio/virtio.h"
#include "display/screen.h"

enum { VIRTIO_GPU_MEMORY = 128 << 20 };

struct virtio_gpu_config {
    uint8_t *memory; /* VIRTIO_GPU_MEMORY bytes, zeros that cost nothing; NULL: the device's own */
    struct screen *screen; /* NULL: nobody ever looks */
};

#endif
