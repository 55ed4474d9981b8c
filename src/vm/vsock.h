/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's end of the guest's vsock device: unix sockets.
 *
 * A program of the host connects to PATH and says "CONNECT <port>\n"; when the guest accepts on
 * that port it is answered "OK <number>\n" and has a stream to the guest. A guest that connects to
 * port N of the host (CID 2) reaches whoever listens on the socket PATH_N. Firecracker and Cloud
 * Hypervisor speak the same.
 *
 * Contract: on the loop's thread, with its lock.
 */
#ifndef VM_VSOCK_H
#define VM_VSOCK_H

#include "devices/virtio/virtio_vsock.h"

struct loop;
struct vsock;

/* Listens on the path. NULL with the sentence. */
struct vsock *vsock_open(struct loop *loop, const char *path, struct error *err);
struct vsock_host vsock_host(struct vsock *v);          /* for the device's config */
void vsock_attach(struct vsock *v, struct device *dev); /* before the loop runs */
void vsock_close(struct vsock *v); /* after the device; accepts NULL. Unlinks the path. */

#endif
