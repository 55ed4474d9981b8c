/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Compressed files (gzip, zstd, xz, bzip2) become files with holes. */
#ifndef TOOLS_OCI_EXPAND_H
#define TOOLS_OCI_EXPAND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Of `size` bytes at `offset` of a file (0: all), to a new file of at most `most` bytes. */
int expand(const char *from, uint64_t offset, uint64_t size, const char *to, uint64_t most,
           bool progress, struct error *err);

#endif
