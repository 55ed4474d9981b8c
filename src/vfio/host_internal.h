/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What host.c (container, groups, memory), host_function.c (devices) and host_region.c share. */
#ifndef VFIO_HOST_INTERNAL_H
#define VFIO_HOST_INTERNAL_H

#include "vfio/host.h"

enum { VFIO_GROUPS = 16 };

struct vfio_piece { /* of guest memory */
    uint64_t at, size;
    void *memory;
};

struct vfio_group {
    int number, fd;
    unsigned users; /* devices of it that are open; 0: the place is free */
};

struct vfio_host {
    struct loop *loop;
    const char *dev;
    const struct vfio_calls *calls;
    int container; /* -1: there is none, as there is no group */
    struct vfio_group group[VFIO_GROUPS];
    unsigned groups;
    struct vfio_piece *piece;
    unsigned pieces, room;
};

struct loop_watch;

struct host_function {
    struct vfio_function f; /* first */
    struct vfio_host *host;
    struct vfio_group *group;
    int fd;
    uint64_t at[VFIO_REGIONS]; /* of the regions, in the file */
    bool resets;
    bool listening; /* to this kind */
    enum vfio_interrupt kind;
    unsigned count;
    int intx; /* -1: nobody listens to it */
    struct loop_watch *watch;
};

/* ioctl on the device: 0 or more, or a negative errno. */
int vfio_call(const struct host_function *d, unsigned long request, void *argument);
/* Fills f.region[], of which the kernel has `count`. */
void vfio_look_at_regions(struct host_function *d, unsigned count);
void vfio_forget_regions(struct host_function *d);

struct vfio_group *vfio_group_get(struct vfio_host *h, int number, struct error *err);
void vfio_group_put(struct vfio_host *h, struct vfio_group *g);

#endif
