/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Log lines to stderr, each in one write so that lines of several threads and processes do not mix.
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TEXT = 1024, LINE = 8192 /* every byte of a text may become six */ };

static char log_prefix[64] = "viv";
static enum log_level log_max = LOG_LEVEL_NOTICE;
static bool log_json;
static const char *line_end = "\n";

void log_init(const char *prefix, enum log_level max) {
    snprintf(log_prefix, sizeof(log_prefix), "%s", prefix);
    log_max = max;
}

void log_set_json(bool json) { log_json = json; }

bool log_format_read(const char *word, bool *ret_json) {
    *ret_json = !strcmp(word, "json");
    return *ret_json || !strcmp(word, "text");
}

void log_raw_terminal(bool raw) {
    __atomic_store_n(&line_end, raw ? "\r\n" : "\n", __ATOMIC_RELAXED);
}

const char *log_line_end(void) { return __atomic_load_n(&line_end, __ATOMIC_RELAXED); }

/* ------------------------------------------------------------------ JSON */

struct out {
    char text[LINE];
    size_t len;
};

static void put(struct out *o, const char *s, size_t n) {
    size_t room = sizeof(o->text) - 8 - o->len; /* for the end */

    n = n < room ? n : room;
    memcpy(o->text + o->len, s, n);
    o->len += n;
}

/* The length of the UTF-8 sequence that begins here (RFC 3629), 0: there is none. */
static size_t utf8_length(const unsigned char *s) {
    size_t n = *s < 0x80 ? 1 : *s >= 0xc2 && *s < 0xe0 ? 2 : (*s & 0xf0) == 0xe0 ? 3 : 4;

    if (n == 4 && (*s < 0xf0 || *s > 0xf4))
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) /* also the end of the string */
            return 0;
    if ((*s == 0xe0 && s[1] < 0xa0) || (*s == 0xed && s[1] > 0x9f) || (*s == 0xf0 && s[1] < 0x90) ||
        (*s == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

static void put_string(struct out *o, const char *name, const char *value, size_t len) {
    put(o, o->len ? ",\"" : "{\"", 2);
    put(o, name, strlen(name));
    put(o, "\":\"", 3);
    for (size_t i = 0; i < len && value[i];) {
        size_t n = utf8_length((const unsigned char *)value + i);
        char escaped[8];

        if (n > 1)
            put(o, value + i, n);
        else if (!n)
            put(o, "?", 1);
        else if (value[i] == '"' || value[i] == '\\')
            put(o, escaped, (size_t)snprintf(escaped, sizeof(escaped), "\\%c", value[i]));
        else if ((unsigned char)value[i] < 0x20 || value[i] == 0x7f)
            put(o, escaped, (size_t)snprintf(escaped, sizeof(escaped), "\\u%04x", value[i]));
        else
            put(o, value + i, 1);
        i += n ? n : 1;
    }
    put(o, "\"", 1);
}

static void put_time(struct out *o) {
    struct timespec now;
    struct tm tm = {0};
    char text[80];

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ", tm.tm_year + 1900,
             tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, now.tv_nsec / 1000000);
    put_string(o, "time", text, strlen(text));
}

/* "viv-vm/web" is the component viv-vm of the machine web. */
static void make_json(struct out *o, const char *level, const char *what, const char *about,
                      const char *text) {
    size_t n = strcspn(log_prefix, "/");

    put_time(o);
    put_string(o, "level", level, strlen(level));
    put_string(o, "component", log_prefix, n);
    if (log_prefix[n])
        put_string(o, "name", log_prefix + n + 1, strlen(log_prefix + n + 1));
    if (what)
        put_string(o, what, about, strlen(about));
    put_string(o, "message", text, strlen(text));
    o->text[o->len++] = '}';
}

/* ------------------------------------------------------------------ lines */

static void line(enum log_level level, const char *what, const char *about, const char *fmt,
                 va_list ap) {
    static const char *const names[] = {"error", "warning", "notice", "info", "debug"};
    struct out o = {.len = 0};
    char text[TEXT];

    if (level > log_max)
        return;
    vsnprintf(text, sizeof(text), fmt, ap);
    if (log_json)
        make_json(&o, names[level], what, about, text);
    else
        o.len = (size_t)snprintf(o.text, TEXT - 2, "%s: %s: %s%s%s", log_prefix, names[level],
                                 what ? about : "", what ? ": " : "", text);
    if (!log_json && o.len > TEXT - 3)
        o.len = TEXT - 3;
    for (const char *end = log_line_end(); *end; end++)
        o.text[o.len++] = *end;
    /* A closed stderr is no reason to stop a machine. */
    if (write(STDERR_FILENO, o.text, o.len) < 0)
        return;
}

void log_line(enum log_level level, const char *fmt, ...) {
    va_list ap;

    va_start(ap, fmt);
    line(level, NULL, NULL, fmt, ap);
    va_end(ap);
}

void log_line_about(enum log_level level, const char *what, const char *about, const char *fmt,
                    ...) {
    va_list ap;

    va_start(ap, fmt);
    line(level, what, about, fmt, ap);
    va_end(ap);
}
