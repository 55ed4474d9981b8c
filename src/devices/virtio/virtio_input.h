/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Input devices: classes `virtio_keyboard` and `virtio_tablet`, a pointer with absolute places. */
#ifndef DEVICES_VIRTIO_VIRTIO_INPUT_H
#define DEVICES_VIRTIO_VIRTIO_INPUT_H

#include "devices/virtio/virtio.h"
#include "display/input.h"

bool virtio_input_ready(const struct device *dev); /* the guest has a driver for it */
/* A key by its Linux code; false: no room, try again later. */
bool virtio_keyboard_key(struct device *dev, unsigned code, bool down);
/* What finds no room is lost but for buttons, which go with the next event. */
void virtio_tablet_pointer(struct device *dev, const struct input_pointer *p);

#endif
