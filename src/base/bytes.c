/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The growable buffer and the range-checked reader. */
#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { SHORT = 64 };

static void reserve(struct buf *b, size_t n) {
    size_t cap = b->cap ? b->cap : 64;

    if (n > SIZE_MAX / 2 - b->len)
        abort();
    while (cap < b->len + n)
        cap *= 2;
    if (cap == b->cap)
        return;
    b->data = realloc(b->data, cap);
    if (!b->data)
        abort();
    b->cap = cap;
}

void buf_done(struct buf *b) {
    free(b->data);
    *b = (struct buf){0};
}

void *buf_grow(struct buf *b, size_t n) {
    void *p;

    reserve(b, n);
    p = b->data + b->len;
    memset(p, 0, n);
    b->len += n;
    return p;
}

void buf_put(struct buf *b, const void *p, size_t n) {
    reserve(b, n);
    if (n)
        memcpy(b->data + b->len, p, n);
    b->len += n;
}

void buf_put_le16(struct buf *b, uint16_t v) { store_le16(buf_grow(b, sizeof(v)), v); }

void buf_put_le32(struct buf *b, uint32_t v) { store_le32(buf_grow(b, sizeof(v)), v); }

void buf_put_le64(struct buf *b, uint64_t v) { store_le64(buf_grow(b, sizeof(v)), v); }

void buf_printf(struct buf *b, const char *fmt, ...) {
    va_list ap, again;
    int n;

    va_start(ap, fmt);
    va_copy(again, ap);
    reserve(b, SHORT); /* printed twice only if that is too little */
    n = vsnprintf((char *)b->data + b->len, b->cap - b->len, fmt, ap);
    va_end(ap);
    if (n > 0 && (size_t)n >= b->cap - b->len) {
        reserve(b, (size_t)n + 1); /* the terminating zero is written but not counted */
        vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, again);
    }
    if (n > 0)
        b->len += (size_t)n;
    va_end(again);
}

const void *reader_take(struct reader *r, size_t n) {
    const void *p = r->p;

    if (r->bad || n > r->left) {
        r->bad = true;
        return NULL;
    }
    r->p += n;
    r->left -= n;
    return p;
}

uint8_t reader_u8(struct reader *r) {
    const uint8_t *p = reader_take(r, 1);

    return p ? *p : 0;
}

uint16_t reader_le16(struct reader *r) {
    const void *p = reader_take(r, 2);

    return p ? load_le16(p) : 0;
}

uint32_t reader_le32(struct reader *r) {
    const void *p = reader_take(r, 4);

    return p ? load_le32(p) : 0;
}

uint64_t reader_le64(struct reader *r) {
    const void *p = reader_take(r, 8);

    return p ? load_le64(p) : 0;
}
