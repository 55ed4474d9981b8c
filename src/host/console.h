/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Consoles: the serial lines of machines, each for any number of clients (console.c). */
#ifndef HOST_CONSOLE_H
#define HOST_CONSOLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct buf;
struct console;
struct consoles;

/* What the guest said on its serial line, without what a terminal would obey; for free. NULL: there
 * is none. `path` is that of the file; FILE.old is what was said before. */
char *console_log_read(const char *path);
/* The same of bytes in place: how many are left. */
size_t console_log_clean(uint8_t *p, size_t n);

/* That of a machine's serial port, from 1 on, connected to it. NULL with a sentence: there is none
 * now (-EBUSY: there are too many clients). console_add must follow. */
struct console *console_open(struct consoles *all, const char *id, unsigned port,
                             struct error *err);
/* One more client, by a descriptor, which is taken; negative: it has left already. `early` is what
 * it typed already, NULL: nothing. */
void console_add(struct console *c, int fd, const struct buf *early);

#endif
