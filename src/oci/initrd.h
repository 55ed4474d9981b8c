/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The initramfs that a machine made of an OCI image boots with: our agent as /init, the modules
 * that it loads (in the order of /viv/modules), and the image's configuration /viv/config.json.
 */
#ifndef OCI_INITRD_H
#define OCI_INITRD_H

#include <jansson.h>

#include "base/error.h"

/* `modules` is an initramfs of that kernel with modules.dep (tiny.cpio.gz of scripts/guest.sh). */
int oci_initrd_write(const char *path, const char *modules, const char *agent, const json_t *config,
                     struct error *err);

#endif
