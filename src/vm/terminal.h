/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The controlling terminal in raw mode, restored however the process ends (but for SIGKILL). */
#ifndef VM_TERMINAL_H
#define VM_TERMINAL_H

void terminal_raw(void);     /* no-op if standard input is no terminal; idempotent */
void terminal_restore(void); /* async-signal-safe, idempotent */

#endif
