/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A PCI device of the host, as a function on the guest's bus (class vfio_pci). */
#ifndef DEVICES_VFIO_PCI_H
#define DEVICES_VFIO_PCI_H

struct vfio_function;

struct vfio_pci_config {
    struct vfio_function *function; /* the caller's, outlives the device or its `abandon` */
};

#endif
