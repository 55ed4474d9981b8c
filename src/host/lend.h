/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lending devices of the host: a PCI device goes from its driver to vfio-pci, so that a machine can
 * have it, and afterwards back.
 * Source: Linux Documentation/ABI/testing/sysfs-bus-pci, driver-api/vfio.rst.
 *
 * Contract: nothing is remembered here. Who has one taken writes the driver down before, and gives
 * it back with that name after any crash: both do nothing where there is nothing to be done.
 */
#ifndef HOST_LEND_H
#define HOST_LEND_H

#include <stdbool.h>

#include "base/error.h"
#include "vfio/group.h"

enum { LEND_DRIVER = 64 };

struct lend_host {     /* where it looks and how it writes; a test has its own */
    const char *sysfs; /* "/sys" */
    const char *routes, *routes6;
    bool (*write)(const char *path, const char *text); /* false: errno */
    bool (*disk_used)(const char *name);               /* by a file system, a swap area, a RAID */
    int (*load)(void);                                 /* the module vfio-pci */
    unsigned wait_ms; /* for a driver that takes a device a moment after it was offered */
};

struct lend_host lend_host(void); /* this one; the environment's VIV_SYSFS is another tree */
bool lend_allowed(void);          /* may this process change drivers? */

/* The device as the kernel calls it, of what people write ("vfio=03:00.0"); false: it is none. */
bool lend_name(const char *text, char ret[VFIO_NAME]);
/* Is there such a device, and could any machine have it? Whoever uses it now. */
int lend_check(const struct lend_host *h, const char *name, int *ret_group, struct error *err);
/* Its driver, "" if it has none; false: nothing has to be taken away for a machine (it is with
 * vfio-pci, is a mediated device, or is not there). Some microseconds. */
bool lend_wanted(const struct lend_host *h, const char *name, char ret_driver[LEND_DRIVER]);

/* To vfio-pci; refused while the host depends on it. Both block, for seconds: for workers. */
int lend_take(const struct lend_host *h, const char *name, struct error *err);
/* From vfio-pci to this driver ("": to none). What another has taken meanwhile is left to it. */
int lend_give_back(const struct lend_host *h, const char *name, const char *driver,
                   struct error *err);

#endif
