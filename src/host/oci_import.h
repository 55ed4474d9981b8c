/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * OCI images into the library, by viv-oci as a child process: the disk, and the initramfs that runs
 * what the image wants to be run.
 *
 * Contract: functions block; for workers.
 */
#ifndef HOST_OCI_IMPORT_H
#define HOST_OCI_IMPORT_H

#include <stdbool.h>

#include "host/transfer.h"

enum { OCI_NAME = 256 };

struct oci_import {
    const char *reference;           /* tag or digest, "": the only one */
    const char *modules;             /* the initramfs that modules are taken from */
    const char *initrd;              /* where the new one goes */
    char digest[80], name[OCI_NAME]; /* get what it is */
};

/* Is that a folder or an archive with an OCI image, or one of docker's? */
bool oci_import_is(const char *path);
/* The disk of `t` and the initramfs. */
int oci_import(struct transfer *t, struct oci_import *o, struct error *err);

#endif
