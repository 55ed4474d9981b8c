/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Log lines to stderr, each in one write so that lines of several threads and processes do not mix.
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static char log_prefix[64] = "viv";
static enum log_level log_max = LOG_LEVEL_NOTICE;
static const char *line_end = "\n";

void log_init(const char *prefix, enum log_level max) {
    snprintf(log_prefix, sizeof(log_prefix), "%s", prefix);
    log_max = max;
}

void log_raw_terminal(bool raw) {
    __atomic_store_n(&line_end, raw ? "\r\n" : "\n", __ATOMIC_RELAXED);
}

const char *log_line_end(void) { return __atomic_load_n(&line_end, __ATOMIC_RELAXED); }

void log_line(enum log_level level, const char *fmt, ...) {
    static const char *const names[] = {"error", "warning", "notice", "info", "debug"};
    char line[1024];
    size_t room = sizeof(line) - 2; /* two bytes are kept for the end of line */
    size_t len;
    va_list ap;
    int n;

    if (level > log_max)
        return;
    n = snprintf(line, room, "%s: %s: ", log_prefix, names[level]);
    len = n < 0 ? 0 : (size_t)n;
    va_start(ap, fmt);
    n = vsnprintf(line + len, room - len, fmt, ap);
    va_end(ap);
    if (n > 0)
        len += (size_t)n < room - len ? (size_t)n : room - len - 1;
    for (const char *end = log_line_end(); *end; end++)
        line[len++] = *end;
    /* A closed stderr is no reason to stop a machine. */
    if (write(STDERR_FILENO, line, len) < 0)
        return;
}
