/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 16550A serial port: class `uart16550`.
 *
 * Regions: 0 = 8 ports (0x3f8 for COM1). Output: irq[0] (IRQ4 for COM1).
 * The baud rate is not emulated: a byte leaves as soon as the backend takes it.
 */
#ifndef DEVICES_UART16550_H
#define DEVICES_UART16550_H

#include "devices/device.h"

/* The host's side of the cable. Callbacks may be NULL; they run with the machine lock held and must
 * not block. */
struct serial_port {
    /* Takes all n bytes; called only while can_write said yes. */
    void (*write)(void *opaque, const uint8_t *p, size_t n);
    /* False while the host's side is full: the UART keeps up to a FIFO of bytes and holds THRE at 0
     * until uart_writable is called. NULL: always true. */
    bool (*can_write)(void *opaque);
    /* The guest has made room after uart_receive took less than it was offered. Must not call
     * uart_receive from inside; post it to the loop or call later. */
    void (*can_receive)(void *opaque);
    void *opaque;
};

struct uart_config { /* NULL: nothing on the cable, output is dropped */
    struct serial_port port;
};

/* Bytes that came in from the host: returns how many fit (0..n); can_receive is called when there
 * is room for the rest. In loopback nothing is taken, so that a probing driver loses no input. */
size_t uart_receive(struct device *dev, const uint8_t *p, size_t n);
bool uart_wants_irq(const struct device *dev); /* what its wire says */
void uart_break(struct device *dev);           /* a break condition on the line */
void uart_writable(struct device *dev);        /* the backend has room again */

#endif
