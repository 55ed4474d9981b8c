/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the queues (virtio.c) and the PCI transport (virtio_pci.c) share. */
#ifndef DEVICES_VIRTIO_VIRTIO_INTERNAL_H
#define DEVICES_VIRTIO_VIRTIO_INTERNAL_H

#include "devices/virtio/virtio.h"

enum { VIRTIO_NO_VECTOR = 0xffff };
// clang-format off
enum { /* device status (2.1) */
    VIRTIO_STATUS_ACKNOWLEDGE = 1, VIRTIO_STATUS_DRIVER = 2, VIRTIO_STATUS_DRIVER_OK = 4,
    VIRTIO_STATUS_FEATURES_OK = 8, VIRTIO_STATUS_NEEDS_RESET = 0x40, VIRTIO_STATUS_FAILED = 0x80,
};
// clang-format on
enum { VIRTIO_ISR_QUEUE = 1, VIRTIO_ISR_CONFIG = 2 };

/* virtio.c */
extern const struct state_desc virtqueue_state;
void virtqueue_reset(struct virtqueue *q, uint16_t size);
void virtqueue_loaded(struct virtqueue *q);         /* derived fields after a state load */
void virtio_kick(struct virtio *v, unsigned queue); /* the type's notify, with its budget */
void virtio_kick_all(struct virtio *v);             /* every enabled queue, from the loop */
void virtio_again_fired(void *opaque);
void virtio_again_stop(struct virtio *v);

/* virtio_pci.c */
void virtio_signal(struct virtio *v, uint16_t vector, uint8_t isr);

#endif
