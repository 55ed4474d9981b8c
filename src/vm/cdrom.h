/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Images of optical media. */
#ifndef VM_CDROM_H
#define VM_CDROM_H

#include "base/error.h"

struct block;
struct loop;

/* Read-only. An image that is shorter than its own contents say is opened with a warning. */
struct block *cdrom_open(struct loop *loop, const char *path, struct error *err);

#endif
