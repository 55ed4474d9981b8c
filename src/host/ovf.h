/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Descriptors of virtual machines in the Open Virtualization Format (DMTF DSP0243, 1.1 and 2.x):
 * which disks there are and in which files, and one of our own.
 */
#ifndef HOST_OVF_H
#define HOST_OVF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

enum { OVF_NAME = 256, OVF_FILES = 64 };

struct ovf_disk {
    char file[OVF_NAME]; /* that it is in, as the descriptor calls it */
    bool gzip;           /* that file is compressed */
    bool parts, delta;   /* it is in several files; it is only what differs from another disk */
};

struct ovf {
    struct ovf_disk disk[OVF_FILES]; /* in the order of the descriptor; without those of no file */
    unsigned disks;
};

/* -EINVAL with a sentence if that is no such descriptor. */
int ovf_read(const char *text, size_t n, struct ovf *ret, struct error *err);
/* Of a machine with one disk: `size` is what a guest sees, `stored` what its file takes. */
void ovf_write(struct buf *out, const char *name, const char *file, uint64_t size, uint64_t stored);

#endif
