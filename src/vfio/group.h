/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which of the host's devices a machine may be given, and where it is: by PCI address, or by the
 * UUID of a mediated device. Only looks; src/vfio/host.h opens.
 */
#ifndef VFIO_GROUP_H
#define VFIO_GROUP_H

#include <stdbool.h>

#include "base/error.h"

enum { VFIO_NAME = 40 };

struct vfio_place {
    char name[VFIO_NAME]; /* as the kernel has it: 0000:03:00.0, or a UUID */
    bool mediated;
    int group;
};

/* 03:00.0 and 0000:03:00.0, in any case of letters, or a UUID: as the kernel writes it. False: it
 * is neither. */
bool vfio_name(const char *text, char ret[VFIO_NAME]);

/* The IOMMU group of a device of that name, as the links of the host say now, -1: none. Any thread;
 * one system call. */
int vfio_group_of(const char *sysfs, const char *name);

/* What the host has, read once for several devices (some milliseconds); NULL: out of memory. */
struct vfio_inventory;
struct vfio_inventory *vfio_inventory_read(const char *sysfs);
void vfio_inventory_free(struct vfio_inventory *inventory); /* accepts NULL */

/*
 * Refuses with the name, the reason and the remedy what cannot be given away: a device that is not
 * there, has no IOMMU group, is used by a driver of the host, or shares its group with one that is.
 * The inventory and `dev` ("/dev") are not trusted. Any thread.
 */
int vfio_find(const struct vfio_inventory *inventory, const char *dev, const char *name,
              struct vfio_place *ret, struct error *err);

#endif
