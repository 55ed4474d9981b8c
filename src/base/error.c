/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Filling struct error: the first sentence wins, later ones can only be put in front of it. */
#include "base/error.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A sentence is one line whatever a file name or a peer put into it. */
static void make_one_line(char *s) {
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            *s = '?';
}

int error_set(struct error *err, int code, const char *fmt, ...) {
    va_list ap;

    assert(code < 0);
    if (!err || err->code)
        return code;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    make_one_line(err->text);
    err->code = code;
    return code;
}

/* Appends as much of s as fits. */
static void append(struct error *err, const char *s) {
    size_t at = strlen(err->text), n = strlen(s), room = sizeof(err->text) - 1 - at;

    if (n > room)
        n = room;
    memcpy(err->text + at, s, n);
    err->text[at + n] = 0;
}

int error_prefix(struct error *err, const char *fmt, ...) {
    char old[sizeof(err->text)];
    va_list ap;

    if (!err)
        return 0;
    memcpy(old, err->text, sizeof(old));
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    append(err, ": ");
    append(err, old);
    make_one_line(err->text);
    return err->code;
}
