/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What of the host's hardware a machine could be given: PCI devices with their IOMMU groups,
 * virtual functions and mediated device types, and NUMA nodes with their huge pages.
 */
#ifndef VFIO_HOST_DEVICES_H
#define VFIO_HOST_DEVICES_H

#include <jansson.h>

enum { HOST_DEVICES_MAX = 4096 };

/*
 * Reads sysfs below `root` ("/sys"), which is not trusted: files of any content and size, links
 * to anywhere. Any thread, some microseconds a device; never waits. An object with `devices`,
 * `iommu_groups` and `numa_nodes`; NULL: out of memory. What is missing is left out.
 */
json_t *host_devices_read(const char *root);

#endif
