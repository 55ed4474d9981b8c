/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks into the library and out of it. In the library a disk is a raw file. Raw and qcow2 are read
 * and written here; other formats by qemu-img, a child process, where it is installed.
 *
 * Contract: functions block; for workers. 0 or a negative errno with a sentence; after a failure
 * nothing is left of what they wrote.
 */
#ifndef HOST_TRANSFER_H
#define HOST_TRANSFER_H

#include <limits.h>
#include <stdint.h>

#include "base/error.h"
#include "base/sha256.h"

struct transfer {
    const char *file;      /* outside, absolute */
    const char *format;    /* raw, qcow2, vmdk, vhd, vhdx, vdi, ova; "": by its first bytes */
    const char *reference; /* the disk of an OVA that is meant; "": the only one */
    const char *disk;      /* in the library */
    int64_t *done, *of;    /* atomic: how far it is, in any unit */
    const int *stop;       /* atomic: not 0 ends it with -ECANCELED */
    const char *found;     /* gets the format that it had */
    int64_t size;          /* gets the size of the disk */
};

int transfer_import(struct transfer *t, struct error *err);
/* In place of a file that is there; it appears when it is complete and safe. */
int transfer_export(struct transfer *t, struct error *err);
/* Of the disk as a guest sees it; what sha256sum says of a raw copy. */
int transfer_checksum(struct transfer *t, char out[SHA256_TEXT], struct error *err);

/* Runs a program, with progress if `t` says where to; the output (not with progress) is for free.
 * (child.c) */
int child_run(struct transfer *t, char *const argv[], char **ret_output, struct error *err);

#endif
