/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writing all of something to a descriptor that blocks, or to a file of the kernel's. */
#ifndef BASE_WRITE_H
#define BASE_WRITE_H

#include <stdbool.h>
#include <stddef.h>

/* 0, or a negative errno; how much was written then is not told. */
int write_all(int fd, const void *p, size_t n);
/* One that is there, such as those of /proc and of control groups, which take a text in one piece;
 * false: errno. */
bool write_setting(const char *path, const char *text);

#endif
