/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log of a serial line as text. A guest chose what is in it, and whoever reads it has a
 * terminal: control characters and escape sequences (ECMA-48) are left out, what is not UTF-8
 * becomes '?'.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/console.h"

enum { MOST = 512 * 1024, ESC = 0x1b, BEL = 7, STRING_MOST = 4096 };

/* The newest of a file. */
static size_t read_newest(const char *path, uint8_t *out) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    ssize_t n = fd < 0 ? -1 : pread(fd, out, MOST, size > MOST ? size - MOST : 0);

    if (fd >= 0)
        close(fd);
    return n > 0 ? (size_t)n : 0;
}

/* A string up to BEL or ESC \, such as a window's title. */
static size_t escape_string(const uint8_t *p, size_t n) {
    size_t i = 2;

    while (i < n && i < STRING_MOST && p[i] != BEL && p[i] != ESC)
        i++;
    if (i < n && p[i] == BEL)
        return i + 1;
    return i + 1 < n && p[i] == ESC && p[i + 1] == '\\' ? i + 2 : i;
}

/* How long the escape sequence at p is. */
static size_t escape(const uint8_t *p, size_t n) {
    size_t i = 1;

    if (n < 2)
        return n;
    if (memchr("]PX^_", p[1], 5))
        return escape_string(p, n);
    if (p[1] == '[') { /* parameters, then a letter */
        i = 2;
        while (i < n && p[i] >= 0x20 && p[i] < 0x40)
            i++;
    } else { /* intermediates, then one, as in ESC ( B */
        while (i < n && p[i] >= 0x20 && p[i] < 0x30)
            i++;
    }
    return i < n && p[i] >= 0x30 && p[i] < 0x7f ? i + 1 : i;
}

static bool is_too_long_or_beyond(const uint8_t *p) {
    return (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90) ||
           (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf4 && p[1] > 0x8f);
}

/* How long the character at p is; 0: it is none of UTF-8 (RFC 3629), or a control of C1. */
static size_t character(const uint8_t *p, size_t n) {
    size_t length = p[0] < 0x80   ? 1
                    : p[0] < 0xc2 ? 0
                    : p[0] < 0xe0 ? 2
                    : p[0] < 0xf0 ? 3
                    : p[0] < 0xf5 ? 4
                                  : 0;

    if (length > n)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if (length > 1 && (is_too_long_or_beyond(p) || (p[0] == 0xc2 && p[1] < 0xa0)))
        return 0;
    return length;
}

static bool is_control(uint8_t c) { return (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f; }

size_t console_log_clean(uint8_t *p, size_t n) {
    size_t to = 0, length;

    for (size_t i = 0; i < n; i += length) {
        if (p[i] == ESC) {
            length = escape(p + i, n - i);
            continue;
        }
        length = character(p + i, n - i);
        if (!length) {
            p[to++] = '?';
            length = 1;
        } else if (!is_control(p[i])) {
            memmove(p + to, p + i, length);
            to += length;
        }
    }
    return to;
}

char *console_log_read(const char *path) {
    uint8_t *text = malloc(2 * MOST + 1);
    char old[PATH_MAX];
    size_t n;

    if (!text)
        return NULL;
    snprintf(old, sizeof(old), "%s.old", path);
    n = read_newest(old, text);
    n += read_newest(path, text + n);
    text[console_log_clean(text, n)] = 0;
    return (char *)text;
}
