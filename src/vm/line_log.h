/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file with the newest that was said on a line: up to LINE_LOG_HALF bytes in FILE, and as many
 * that were said before them in FILE.old. What earlier processes wrote stays in front.
 *
 * Contract: one thread. Bytes are kept until line_log_flush, or until there are many. Names are
 * looked at by line_log_open alone. What cannot be written is lost, with one warning.
 */
#ifndef VM_LINE_LOG_H
#define VM_LINE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { LINE_LOG_HALF = 512 * 1024 };

struct line_log;

struct line_log *line_log_open(const char *path, struct error *err);
/* True: there is something to flush now, and was not before. */
bool line_log_put(struct line_log *l, const uint8_t *p, size_t n);
void line_log_flush(struct line_log *l);
void line_log_close(struct line_log *l); /* accepts NULL */

#endif
