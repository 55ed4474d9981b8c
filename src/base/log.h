/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Log lines of programs, to stderr: "<program>[/<name>]: level: text", or a JSON object a line:
 * time, level, component, name (if there is one), message, and what the line is about (`vm`: an
 * id). Any thread. Libraries return errors instead.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

enum log_level {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_NOTICE,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG
};

void log_init(const char *prefix, enum log_level max);
void log_set_json(bool json);
/* The value of --log-format: false if it is none. */
bool log_format_read(const char *word, bool *ret_json);
/* Lines on stderr end with "\r\n" from now on, or with "\n" again: for a terminal in raw mode.
 * Async-signal-safe. */
void log_raw_terminal(bool raw);
const char *log_line_end(void);
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The same about a thing of the kind `what`. */
void log_line_about(enum log_level level, const char *what, const char *about, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#define log_error(...)   log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)  log_line(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)    log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
