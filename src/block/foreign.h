/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Image formats that are not ours: by which bytes they are known, and what lies in an OVA. */
#ifndef BLOCK_FOREIGN_H
#define BLOCK_FOREIGN_H

#include <stdint.h>

/* "vmdk", "vhdx", "vpc", "vdi", "luks", "qed", "ova": what qemu-img calls it, by its first bytes.
 * NULL: none of these. */
const char *foreign_format(const char *path);

/* Where the first disk lies in an OVA, which is a tar archive; 0: there is none. */
uint64_t foreign_ova_disk(const char *path, uint64_t *ret_size);
/* That disk as qemu-img takes it instead of a path; for free. NULL: there is none. */
char *foreign_ova_source(const char *path);

#endif
