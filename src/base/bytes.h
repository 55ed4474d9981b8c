/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Little-endian and big-endian loads and stores on byte arrays, a growable buffer, and a
 * range-checked reader. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BYTES_LOAD(bits, name, conv)                                                               \
    static inline uint##bits##_t load_##name(const void *p) {                                      \
        uint##bits##_t v;                                                                          \
        memcpy(&v, p, sizeof(v));                                                                  \
        return conv##toh(v);                                                                       \
    }
#define BYTES_STORE(bits, name, conv)                                                              \
    static inline void store_##name(void *p, uint##bits##_t v) {                                   \
        v = hto##conv(v);                                                                          \
        memcpy(p, &v, sizeof(v));                                                                  \
    }
// clang-format off
BYTES_LOAD(16, le16, le16)
BYTES_LOAD(32, le32, le32)
BYTES_LOAD(64, le64, le64)
BYTES_LOAD(16, be16, be16)
BYTES_LOAD(32, be32, be32)
BYTES_LOAD(64, be64, be64)
BYTES_STORE(16, le16, le16)
BYTES_STORE(32, le32, le32)
BYTES_STORE(64, le64, le64)
BYTES_STORE(16, be16, be16)
BYTES_STORE(32, be32, be32)
BYTES_STORE(64, be64, be64)
// clang-format on

struct buf; /* for the formatter, which takes the lines above for the start of a declaration */

/* Growable output. Allocation failure aborts the process (sizes here are ours, never a guest's). */
struct buf {
    uint8_t *data;
    size_t len, cap;
};
void buf_done(struct buf *b);
void *buf_grow(struct buf *b, size_t n); /* returns the n new, zeroed bytes */
void buf_put(struct buf *b, const void *p, size_t n);
void buf_put_le16(struct buf *b, uint16_t v);
void buf_put_le32(struct buf *b, uint32_t v);
void buf_put_le64(struct buf *b, uint64_t v);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Range-checked reading of untrusted bytes: after a failed get, `bad` stays set and gets return
 * 0/NULL. */
struct reader {
    const uint8_t *p;
    size_t left;
    bool bad;
};
const void *reader_take(struct reader *r, size_t n);
uint8_t reader_u8(struct reader *r);
uint16_t reader_le16(struct reader *r);
uint32_t reader_le32(struct reader *r);
uint64_t reader_le64(struct reader *r);

#endif
