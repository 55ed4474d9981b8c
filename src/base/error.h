/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Errors for humans: library code fills one sentence, programs print it.
 *
 * Contract: functions that can fail take `struct error *err` (may be NULL) and return 0 or a
 * negative errno. The text names the thing, the reason and the remedy. The first error set wins the
 * text.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

struct error {
    int code;       /* negative errno, 0 = none */
    char text[500]; /* one sentence, no newline */
};

/* Stores the sentence and returns `code` (a negative errno), so that callers can `return
 * error_set(...)`. */
int error_set(struct error *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " in front of the sentence; returns err->code. */
int error_prefix(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
