/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Firmware debug console: class `debugcon`. Region 0 = 1 port (0x402): reads 0xe9, writes go to the
 * sink. */
#ifndef DEVICES_DEBUGCON_H
#define DEVICES_DEBUGCON_H

#include "devices/device.h"

struct debugcon_config { /* NULL: bytes are dropped (and traced) */
    void (*write)(void *opaque, uint8_t byte);
    void *opaque;
};

#endif
