/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sockets between guest and host: class `virtio_vsock`.
 *
 * Contract: machine lock held in every call and callback. The device speaks the protocol (credit,
 * half-closes, resets); the host's side supplies streams of bytes. A connection is the device's;
 * the host's side of it, `end`, is the backend's. After `gone` neither names the other again.
 */
#ifndef DEVICES_VIRTIO_VIRTIO_VSOCK_H
#define DEVICES_VIRTIO_VIRTIO_VSOCK_H

#include <sys/types.h>

#include "devices/virtio/virtio.h"

enum { VSOCK_CID_HOST = 2, VSOCK_CID_DEFAULT = 3 };

struct vsock_conn;

/* The host's side. No callback may block or call back into the device for the same connection,
 * except where it says so. */
struct vsock_host {
    /* The guest wants to reach `port` of the host. NULL refuses. */
    void *(*connect)(void *opaque, struct vsock_conn *c, uint32_t port);
    /* The guest took the connection that virtio_vsock_connect asked for; its number of the host's
     * port. */
    void (*connected)(void *end, uint32_t host_port);
    /* Bytes from the guest: how many were taken; less than n: virtio_vsock_writable will be called;
     * -1: nobody takes them any more. */
    ssize_t (*write)(void *end, const void *p, size_t n);
    /* Bytes for the guest: how many; 0: the host sends no more; -1: none now, virtio_vsock_readable
     * will be called. */
    ssize_t (*read)(void *end, void *p, size_t n);
    void (*finished)(void *end); /* the guest sends no more, all of it was written */
    void (*gone)(void *end);     /* the connection is no more, or was refused */
    void *opaque;
};

struct virtio_vsock_config { /* NULL: VSOCK_CID_DEFAULT, and every connection is refused */
    uint64_t cid;            /* the guest's address */
    struct vsock_host host;
};

/* Asks the guest for a connection to its `port`. NULL without a driver or with too many of them. */
struct vsock_conn *virtio_vsock_connect(struct device *dev, void *end, uint32_t port);
void virtio_vsock_readable(struct vsock_conn *c);
void virtio_vsock_writable(struct vsock_conn *c);
/* The host's side gives up: the guest sees a reset. `gone` is not called. */
void virtio_vsock_drop(struct vsock_conn *c);
/* Goes on after the machine was paused. */
void virtio_vsock_resume(struct device *dev);

#endif
