/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What host.c (container, groups, memory) and host_function.c (devices) share. */
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

struct vfio_group *vfio_group_get(struct vfio_host *h, int number, struct error *err);
void vfio_group_put(struct vfio_host *h, struct vfio_group *g);

#endif
