/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PNG writer: 8 bits a colour, no alpha. Source: W3C PNG Specification, second edition. */
#include "display/png.h"

#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

enum { RGB = 2, FILTER_UP = 2, LEVEL = 3 };

static void put_be32(struct buf *out, uint32_t v) { store_be32(buf_grow(out, 4), v); }

/* Length, type, data, checksum of the last two. */
static void put_chunk(struct buf *out, const char *type, const void *data, size_t n) {
    size_t at;

    put_be32(out, (uint32_t)n);
    at = out->len;
    buf_put(out, type, 4);
    if (n)
        buf_put(out, data, n);
    put_be32(out, (uint32_t)crc32(0, out->data + at, (uInt)(out->len - at)));
}

/* Differences to the row above: what is the same becomes zeros. */
static void filter_row(uint8_t *out, const uint32_t *row, const uint32_t *above, unsigned width) {
    *out++ = FILTER_UP;
    for (unsigned x = 0; x < width; x++)
        for (int shift = 16; shift >= 0; shift -= 8)
            *out++ = (uint8_t)((row[x] >> shift) - (above ? above[x] >> shift : 0));
}

static int compress_rows(z_stream *z, const uint32_t *pixels, unsigned width, unsigned height) {
    size_t row_bytes = 1 + 3 * (size_t)width;
    uint8_t *row = malloc(row_bytes);
    int r = row ? Z_OK : Z_MEM_ERROR;

    for (unsigned y = 0; y < height && r == Z_OK; y++) {
        filter_row(row, pixels + (size_t)y * width, y ? pixels + (size_t)(y - 1) * width : NULL,
                   width);
        z->next_in = row;
        z->avail_in = (uInt)row_bytes;
        r = deflate(z, y + 1 == height ? Z_FINISH : Z_NO_FLUSH);
    }
    free(row);
    return r == Z_STREAM_END ? 0 : -ENOMEM;
}

int png_make(const uint32_t *pixels, unsigned width, unsigned height, struct buf *out,
             struct error *err) {
    static const uint8_t magic[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    uint8_t head[13] = {[8] = 8, [9] = RGB};
    z_stream z = {0};
    uint8_t *data;
    size_t bound;
    int r = -ENOMEM;

    if (deflateInit(&z, LEVEL) != Z_OK)
        return error_set(err, -ENOMEM, "the picture: out of memory");
    bound = deflateBound(&z, (uLong)((1 + 3 * (size_t)width) * height));
    data = malloc(bound);
    if (data) {
        z.next_out = data;
        z.avail_out = (uInt)bound;
        r = compress_rows(&z, pixels, width, height);
    }
    if (r == 0) {
        buf_put(out, magic, sizeof(magic));
        store_be32(head, width);
        store_be32(head + 4, height);
        put_chunk(out, "IHDR", head, sizeof(head));
        put_chunk(out, "IDAT", data, bound - z.avail_out);
        put_chunk(out, "IEND", NULL, 0);
    }
    deflateEnd(&z);
    free(data);
    return r < 0 ? error_set(err, r, "the picture: out of memory") : 0;
}
