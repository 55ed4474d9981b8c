/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lines of JSON: cutting a stream into them, reading and writing one. */
#include "proto/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { STEP = 16384, REAL_DIGITS = 12 };

static size_t waiting(const struct lines *l) { return l->bytes.len - l->start; }

static void compact(struct lines *l) {
    if (!l->start)
        return;
    memmove(l->bytes.data, l->bytes.data + l->start, waiting(l));
    l->bytes.len -= l->start;
    l->seen -= l->start;
    l->start = 0;
}

void *lines_room(struct lines *l, size_t *ret_n) {
    size_t n = STEP;
    void *room;

    compact(l);
    if (l->bytes.len > l->max)
        return NULL;
    if (n > l->max + 1 - l->bytes.len)
        n = l->max + 1 - l->bytes.len;
    room = buf_grow(&l->bytes, n);
    l->bytes.len -= n;
    *ret_n = n;
    return room;
}

void lines_came(struct lines *l, size_t n) { l->bytes.len += n; }

char *lines_next(struct lines *l, size_t *ret_len) {
    char *line, *end;

    if (l->seen == l->bytes.len)
        return NULL;
    line = (char *)l->bytes.data + l->start;
    end = memchr(l->bytes.data + l->seen, '\n', l->bytes.len - l->seen);
    if (!end) {
        l->seen = l->bytes.len;
        return NULL;
    }
    *end = 0;
    *ret_len = (size_t)(end - line);
    l->start = l->seen = (size_t)((uint8_t *)end - l->bytes.data) + 1;
    return line;
}

bool lines_too_long(const struct lines *l) {
    return waiting(l) > l->max && l->seen == l->bytes.len;
}

void lines_done(struct lines *l) {
    buf_done(&l->bytes);
    l->start = l->seen = 0;
}

json_t *message_parse(const char *line, size_t len, struct error *err) {
    json_error_t e;
    json_t *message = json_loadb(line, len, JSON_REJECT_DUPLICATES, &e);

    if (message && !json_is_object(message)) {
        json_decref(message);
        error_set(err, -EINVAL, "a message is a JSON object, not another kind of value");
        return NULL;
    }
    if (!message) /* its text quotes what it found, which may be of any length and have newlines */
        error_set(err, -EINVAL, "the message is no JSON object, it goes wrong at byte %d",
                  e.position > 0 ? e.position : 0);
    return message;
}

json_t *message_text(const char *s) {
    json_t *v = json_string(s);
    char *copy;

    if (v || !(copy = strdup(s)))
        return v;
    for (char *p = copy; *p; p++)
        if (*p & 0x80)
            *p = '?';
    v = json_string(copy);
    free(copy);
    return v;
}

bool message_put(struct buf *out, const json_t *message) {
    char *text = json_dumps(message, JSON_COMPACT | JSON_REAL_PRECISION(REAL_DIGITS));

    if (!text)
        return false;
    buf_put(out, text, strlen(text));
    buf_put(out, "\n", 1);
    free(text);
    return true;
}
