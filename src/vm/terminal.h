/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The controlling terminal in raw mode, restored however the process ends or stops (but for
 * SIGKILL, SIGSTOP). */
#ifndef VM_TERMINAL_H
#define VM_TERMINAL_H

/* Installs what restores the terminal when a signal ends the process. Call it before anything else
 * takes SIGSEGV and its like, so that those find it as the handler to hand on to. */
void terminal_guard(void);
void terminal_raw(void);     /* no-op if standard input is no terminal; idempotent */
void terminal_restore(void); /* async-signal-safe, idempotent */

#endif
