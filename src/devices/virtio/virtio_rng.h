/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Entropy device: class `virtio_rng`. */
#ifndef DEVICES_VIRTIO_VIRTIO_RNG_H
#define DEVICES_VIRTIO_VIRTIO_RNG_H

#include "devices/virtio/virtio.h"

struct virtio_rng_config { /* NULL: the host kernel's random generator */
    size_t (*fill)(void *opaque, void *buf, size_t len); /* returns how many bytes it had */
    void *opaque;
};

#endif
