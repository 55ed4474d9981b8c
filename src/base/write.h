/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writing all of something to a descriptor that blocks. */
#ifndef BASE_WRITE_H
#define BASE_WRITE_H

#include <stddef.h>

/* 0, or a negative errno; how much was written then is not told. */
int write_all(int fd, const void *p, size_t n);

#endif
