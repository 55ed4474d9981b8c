/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Consoles: the serial lines of machines, each for any number of clients (console.c). */
#ifndef HOST_CONSOLE_H
#define HOST_CONSOLE_H

#include "base/error.h"

struct buf;
struct console;
struct consoles;

/* That of a machine, connected to it. NULL with a sentence: there is none now (-EBUSY: there are
 * too many clients). console_add must follow. */
struct console *console_open(struct consoles *all, const char *id, struct error *err);
/* One more client, by a descriptor, which is taken; negative: it has left already. `early` is what
 * it typed already, NULL: nothing. */
void console_add(struct console *c, int fd, const struct buf *early);

#endif
