/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * OVA: archives with a descriptor (ovf.h), checksums and the disks of a machine.
 *
 * Contract: functions block; for workers.
 */
#ifndef HOST_OVA_H
#define HOST_OVA_H

#include <stdbool.h>

#include "host/ovf.h"
#include "host/transfer.h"

struct ova_disk {
    char name[OVF_NAME];
    uint64_t offset, size; /* in the archive */
    bool gzip;
};

/* The disk called `wanted`, or with "" the only one; of several the sentence has the names. Its
 * checksum is compared if the archive has one by SHA-256. */
int ova_find(struct transfer *t, const char *wanted, struct ova_disk *ret, struct error *err);
/* Of the transfer's disk, into `path`. */
int ova_write(struct transfer *t, const char *path, struct error *err);

#endif
