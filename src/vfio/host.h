/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices of the host, opened through VFIO, and the guest memory that they may reach.
 *
 * Contract: machine lock held or before there are threads. All of a machine's devices share one
 * container, so one table of memory. What is mapped stays pinned: nobody may give these pages back
 * to the host meanwhile. Interrupts are told on the loop's thread.
 */
#ifndef VFIO_HOST_H
#define VFIO_HOST_H

#include <sys/types.h>

#include "vfio/function.h"

struct loop;
struct vfio_host;

struct vfio_calls { /* what is asked of the kernel; as the calls of that name */
    int (*open)(const char *path, int flags);
    int (*ioctl)(int fd, unsigned long request, void *argument);
    ssize_t (*pread)(int fd, void *buf, size_t n, off_t at);
    ssize_t (*pwrite)(int fd, const void *buf, size_t n, off_t at);
    void *(*mmap)(void *at, size_t n, int protection, int flags, int fd, off_t offset);
    int (*munmap)(void *at, size_t n);
};

/* `dev` is "/dev"; `calls` NULL: the kernel's. Both outlive it. NULL: out of memory. */
struct vfio_host *vfio_host_new(struct loop *loop, const char *dev, const struct vfio_calls *calls);
void vfio_host_free(struct vfio_host *h); /* accepts NULL; after its functions */

/* Takes the group of the device if the machine does not have it yet, and opens the device. */
struct vfio_function *vfio_open(struct vfio_host *h, const struct vfio_place *place,
                                struct error *err);
/* Interrupts off, and back to the host. Accepts NULL. */
void vfio_close(struct vfio_function *f);

/* Memory of the guest at an address, whole pages, for all devices, those that come later too. */
int vfio_map(struct vfio_host *h, uint64_t at, void *memory, uint64_t size, struct error *err);
/* What was mapped at this address, with this size; nothing if it was not. */
void vfio_unmap(struct vfio_host *h, uint64_t at, uint64_t size);
bool vfio_used(const struct vfio_host *h); /* has a device */

#endif
