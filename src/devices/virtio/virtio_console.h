/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Console with one port: class `virtio_console`. Machine lock held in every call and callback. */
#ifndef DEVICES_VIRTIO_VIRTIO_CONSOLE_H
#define DEVICES_VIRTIO_VIRTIO_CONSOLE_H

#include "devices/virtio/virtio.h"

/* The host's side of the console. Callbacks may be NULL and must not block. */
struct console_port {
    /* The guest's output: returns how many bytes it took (NULL: takes all and drops them). After
     * less than n the console waits for virtio_console_writable. */
    size_t (*write)(void *opaque, const uint8_t *p, size_t n);
    /* The guest has given buffers after virtio_console_receive took less than it was offered. Must
     * not call virtio_console_receive from inside. */
    void (*can_receive)(void *opaque);
    void *opaque;
};

struct virtio_console_config { /* NULL: nothing attached */
    struct console_port port;
    uint16_t cols, rows; /* 0: the size is not told to the guest */
};

/* Bytes for the guest: returns how many fitted into its buffers (0 while there is no driver). */
size_t virtio_console_receive(struct device *dev, const uint8_t *p, size_t n);
void virtio_console_writable(struct device *dev); /* the host's side has room again */
void virtio_console_resize(struct device *dev, uint16_t cols,
                           uint16_t rows); /* only if made with a size */

#endif
