/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pixels in the encodings of RFB: raw, ZRLE, Tight.
 * Source: RFC 6143, 7.7.1 and 7.7.6; rfbproto "Tight Encoding" (without JPEG).
 *
 * Each tile is looked at once for its colours; what is smallest by a guess is taken: one colour, a
 * palette, runs, or the pixels.
 */
#include <stdlib.h>

#include "display/vnc_internal.h"

enum { TILE = 64, PALETTE_MAX = 127, HASH = 512, TIGHT_MIN = 12, CHUNK = 16384 };

/* ------------------------------------------------------------------ pixels */

/* A row of the picture; what is outside of it is black. */
static void fetch(const struct vnc_client *c, unsigned x, unsigned y, unsigned n, uint32_t *out) {
    const struct screen *s = c->vnc->screen;
    unsigned have = x < s->width && y < s->height ? s->width - x : 0;

    if (have > n)
        have = n;
    for (unsigned i = 0; i < have; i++)
        out[i] = s->pixels[(size_t)y * s->width + x + i] & 0xffffff;
    memset(out + have, 0, (n - have) * sizeof(*out));
}

static uint32_t convert(const struct vnc_format *f, uint32_t rgb) {
    uint32_t v = 0;

    for (unsigned i = 0; i < 3; i++)
        v |= ((rgb >> (16 - 8 * i) & 0xff) * f->max[i] + 127) / 255 << f->shift[i];
    return v;
}

/* A pixel in the client's format; returns its bytes. */
static unsigned put_pixel(const struct vnc_client *c, uint32_t rgb, uint8_t *out) {
    uint32_t v = c->plain ? rgb : convert(&c->format, rgb);

    switch (c->format.bpp) {
    case 8:
        *out = (uint8_t)v;
        return 1;
    case 16:
        if (c->format.big_endian)
            store_be16(out, (uint16_t)v);
        else
            store_le16(out, (uint16_t)v);
        return 2;
    default:
        if (c->format.big_endian)
            store_be32(out, v);
        else
            store_le32(out, v);
        return 4;
    }
}

/* ZRLE leaves out the byte of a 32-bit pixel that has no colour (7.7.5). */
static unsigned put_cpixel(const struct vnc_client *c, uint32_t rgb, uint8_t *out) {
    const struct vnc_format *f = &c->format;
    uint32_t used = (uint32_t)f->max[0] << f->shift[0] | (uint32_t)f->max[1] << f->shift[1] |
                    (uint32_t)f->max[2] << f->shift[2];
    uint8_t b[4];
    unsigned n = put_pixel(c, rgb, b);

    if (n < 4 || f->depth > 24 || ((used >> 24) && (used & 0xff))) {
        memcpy(out, b, n);
        return n;
    }
    memcpy(out, !(used >> 24) == !f->big_endian ? b : b + 1, 3);
    return 3;
}

/* Tight sends colours of 8 bits each as three bytes. */
static unsigned put_tpixel(const struct vnc_client *c, uint32_t rgb, uint8_t *out) {
    const struct vnc_format *f = &c->format;

    if (f->bpp != 32 || f->depth != 24 || f->max[0] != 255 || f->max[1] != 255 || f->max[2] != 255)
        return put_pixel(c, rgb, out);
    out[0] = (uint8_t)(rgb >> 16);
    out[1] = (uint8_t)(rgb >> 8);
    out[2] = (uint8_t)rgb;
    return 3;
}

/* ------------------------------------------------------------------ what a tile consists of */

struct palette {
    uint32_t colour[PALETTE_MAX];
    uint16_t slot[HASH]; /* 1 + index */
    unsigned n;          /* PALETTE_MAX + 1: more than fit */
};

static unsigned slot_of(uint32_t rgb) { return (rgb * 0x9e3779b1u) >> 23; }

static int find(const struct palette *p, uint32_t rgb) {
    for (unsigned i = slot_of(rgb);; i = (i + 1) % HASH) {
        if (!p->slot[i])
            return -1;
        if (p->colour[p->slot[i] - 1] == rgb)
            return p->slot[i] - 1;
    }
}

static void add(struct palette *p, uint32_t rgb) {
    unsigned i = slot_of(rgb);

    if (p->n > PALETTE_MAX || find(p, rgb) >= 0)
        return;
    if (p->n == PALETTE_MAX) {
        p->n++;
        return;
    }
    while (p->slot[i])
        i = (i + 1) % HASH;
    p->colour[p->n++] = rgb;
    p->slot[i] = (uint16_t)p->n;
}

struct tile {
    uint32_t px[TILE * TILE];
    unsigned w, h, n;
    struct palette palette;
    unsigned runs, singles; /* runs of two or more, and pixels alone */
};

static void read_tile(const struct vnc_client *c, unsigned x, unsigned y, struct tile *t) {
    t->n = t->w * t->h;
    memset(t->palette.slot, 0, sizeof(t->palette.slot));
    t->palette.n = t->runs = t->singles = 0;
    for (unsigned row = 0; row < t->h; row++)
        fetch(c, x, y + row, t->w, t->px + (size_t)row * t->w);
    for (unsigned i = 0, len; i < t->n; i += len) {
        for (len = 1; i + len < t->n && t->px[i + len] == t->px[i];)
            len++;
        if (len == 1)
            t->singles++;
        else
            t->runs++;
        add(&t->palette, t->px[i]);
    }
}

/* ------------------------------------------------------------------ zlib */

static bool ready(struct vnc_client *c, z_stream *z, bool *on) {
    if (!*on) {
        memset(z, 0, sizeof(*z));
        *on = deflateInit(z, c->level) == Z_OK;
    }
    if (!*on)
        vnc_drop(c);
    return *on;
}

/* Appends to `out`; everything is out after `last`. */
static void squeeze(z_stream *z, const uint8_t *p, size_t n, bool last, struct buf *out) {
    uint8_t chunk[CHUNK];

    z->next_in = (Bytef *)p;
    z->avail_in = (uInt)n;
    do {
        z->next_out = chunk;
        z->avail_out = sizeof(chunk);
        deflate(z, last ? Z_SYNC_FLUSH : Z_NO_FLUSH);
        buf_put(out, chunk, sizeof(chunk) - z->avail_out);
    } while (!z->avail_out);
}

/* ------------------------------------------------------------------ raw */

static void encode_raw(struct vnc_client *c, const struct vnc_rect *r) {
    uint32_t px[TILE];
    uint8_t bytes[TILE * 4];

    for (unsigned y = 0; y < r->h; y++)
        for (unsigned x = 0; x < r->w; x += TILE) {
            unsigned n = r->w - x < TILE ? r->w - x : TILE, at = 0;

            fetch(c, r->x + x, r->y + y, n, px);
            for (unsigned i = 0; i < n; i++)
                at += put_pixel(c, px[i], bytes + at);
            vnc_put(c, bytes, at);
        }
}

/* ------------------------------------------------------------------ ZRLE */

enum { ZRLE_RAW = 0, ZRLE_SOLID = 1, ZRLE_RLE = 128 };

static unsigned index_bits(unsigned colours) {
    return colours <= 2 ? 1 : colours <= 4 ? 2 : colours <= 16 ? 4 : 8;
}

static uint8_t *put_length(uint8_t *out, unsigned len) {
    for (len--; len >= 255; len -= 255)
        *out++ = 255;
    *out++ = (uint8_t)len;
    return out;
}

static uint8_t *put_runs(const struct vnc_client *c, const struct tile *t, bool palette,
                         uint8_t *out) {
    for (unsigned i = 0, len; i < t->n; i += len) {
        for (len = 1; i + len < t->n && t->px[i + len] == t->px[i];)
            len++;
        if (!palette) {
            out += put_cpixel(c, t->px[i], out);
            out = put_length(out, len);
            continue;
        }
        *out++ = (uint8_t)(find(&t->palette, t->px[i]) | (len > 1 ? 128 : 0));
        if (len > 1)
            out = put_length(out, len);
    }
    return out;
}

/* Rows begin at whole bytes. */
static uint8_t *put_packed(const struct tile *t, uint8_t *out) {
    unsigned bits = index_bits(t->palette.n);

    for (unsigned y = 0; y < t->h; y++) {
        unsigned byte = 0, have = 0;

        for (unsigned x = 0; x < t->w; x++) {
            byte = byte << bits | (unsigned)find(&t->palette, t->px[y * t->w + x]);
            have += bits;
            if (have == 8) {
                *out++ = (uint8_t)byte;
                byte = have = 0;
            }
        }
        if (have)
            *out++ = (uint8_t)(byte << (8 - have));
    }
    return out;
}

static uint8_t *put_palette(const struct vnc_client *c, const struct tile *t, uint8_t *out) {
    for (unsigned i = 0; i < t->palette.n; i++)
        out += put_cpixel(c, t->palette.colour[i], out);
    return out;
}

/* The tile into `out`, which has room for five bytes a pixel and more. */
static size_t zrle_tile(const struct vnc_client *c, const struct tile *t, uint8_t *out) {
    const struct palette *p = &t->palette;
    uint8_t *start = out, b[4];
    unsigned pixel = put_cpixel(c, 0, b), raw = pixel * t->n;
    unsigned rle = (pixel + 1) * (t->runs + t->singles);
    unsigned prle = p->n > PALETTE_MAX ? ~0u : pixel * p->n + 2 * t->runs + t->singles;
    unsigned packed = p->n > 16 ? ~0u : pixel * p->n + (t->w * index_bits(p->n) + 7) / 8 * t->h;

    if (p->n == 1) {
        *out++ = ZRLE_SOLID;
        out += put_cpixel(c, p->colour[0], out);
    } else if (packed <= prle && packed <= rle && packed <= raw) {
        *out++ = (uint8_t)p->n;
        out = put_packed(t, put_palette(c, t, out));
    } else if (prle <= rle && prle <= raw) {
        *out++ = (uint8_t)(ZRLE_RLE | p->n);
        out = put_runs(c, t, true, put_palette(c, t, out));
    } else if (rle <= raw) {
        *out++ = ZRLE_RLE;
        out = put_runs(c, t, false, out);
    } else {
        *out++ = ZRLE_RAW;
        for (unsigned i = 0; i < t->n; i++)
            out += put_cpixel(c, t->px[i], out);
    }
    return (size_t)(out - start);
}

static void encode_zrle(struct vnc_client *c, const struct vnc_rect *r) {
    struct tile *t = malloc(sizeof(*t));
    uint8_t *bytes = malloc(TILE * TILE * 6 + 1024);
    struct buf out = {0};
    uint8_t length[4];

    if (!t || !bytes || !ready(c, &c->zlib, &c->zlib_on)) {
        vnc_drop(c); /* what has been promised cannot be sent */
        goto out;
    }
    for (unsigned y = 0; y < r->h; y += TILE)
        for (unsigned x = 0; x < r->w; x += TILE) {
            t->w = r->w - x < TILE ? r->w - x : TILE;
            t->h = r->h - y < TILE ? r->h - y : TILE;
            read_tile(c, r->x + x, r->y + y, t);
            squeeze(&c->zlib, bytes, zrle_tile(c, t, bytes), x + TILE >= r->w && y + TILE >= r->h,
                    &out);
        }
    store_be32(length, (uint32_t)out.len);
    vnc_put(c, length, sizeof(length));
    vnc_put(c, out.data, out.len);
out:
    buf_done(&out);
    free(bytes);
    free(t);
}

/* ------------------------------------------------------------------ Tight */

enum {
    TIGHT_FILL = 0x80,
    TIGHT_FILTER = 0x40,
    TIGHT_PALETTE = 1,
    STREAM_COPY = 0,
    STREAM_PALETTE = 1
};

static void put_compact(struct vnc_client *c, size_t n) {
    uint8_t b[3];
    unsigned i = 0;

    for (; i < 2 && n >= 0x80; i++, n >>= 7)
        b[i] = (uint8_t)(n | 0x80);
    b[i++] = (uint8_t)n;
    vnc_put(c, b, i);
}

static void put_squeezed(struct vnc_client *c, unsigned stream, const uint8_t *p, size_t n) {
    struct buf out = {0};

    if (n < TIGHT_MIN) {
        vnc_put(c, p, n);
        return;
    }
    if (!ready(c, &c->tight[stream], &c->tight_on[stream]))
        return;
    squeeze(&c->tight[stream], p, n, true, &out);
    put_compact(c, out.len);
    vnc_put(c, out.data, out.len);
    buf_done(&out);
}

static void tight_palette(struct vnc_client *c, const struct tile *t, uint8_t *bytes) {
    const struct palette *p = &t->palette;
    uint8_t head[3 + PALETTE_MAX * 4] = {STREAM_PALETTE << 4 | TIGHT_FILTER, TIGHT_PALETTE,
                                         (uint8_t)(p->n - 1)};
    unsigned at = 3;
    uint8_t *end = bytes;

    for (unsigned i = 0; i < p->n; i++)
        at += put_tpixel(c, p->colour[i], head + at);
    vnc_put(c, head, at);
    if (p->n == 2)
        end = put_packed(t, bytes);
    else
        for (unsigned i = 0; i < t->n; i++)
            *end++ = (uint8_t)find(p, t->px[i]);
    put_squeezed(c, STREAM_PALETTE, bytes, (size_t)(end - bytes));
}

static void tight_tile(struct vnc_client *c, const struct tile *t, uint8_t *bytes) {
    uint8_t head[5] = {TIGHT_FILL};
    size_t at = 0;

    if (t->palette.n == 1) {
        vnc_put(c, head, 1 + put_tpixel(c, t->palette.colour[0], head + 1));
    } else if (t->palette.n <= PALETTE_MAX) {
        tight_palette(c, t, bytes);
    } else {
        head[0] = STREAM_COPY << 4;
        vnc_put(c, head, 1);
        for (unsigned i = 0; i < t->n; i++)
            at += put_tpixel(c, t->px[i], bytes + at);
        put_squeezed(c, STREAM_COPY, bytes, at);
    }
}

/* Its rectangles are no larger than a tile: vnc_update.c sees to that. */
static void encode_tight(struct vnc_client *c, const struct vnc_rect *r) {
    struct tile *t = malloc(sizeof(*t));
    uint8_t *bytes = malloc(TILE * TILE * 4);

    if (!t || !bytes) {
        vnc_drop(c);
    } else {
        t->w = r->w;
        t->h = r->h;
        read_tile(c, r->x, r->y, t);
        tight_tile(c, t, bytes);
    }
    free(bytes);
    free(t);
}

/* ------------------------------------------------------------------ */

void vnc_encode(struct vnc_client *c, const struct vnc_rect *r) {
    switch (c->sending) {
    case VNC_ZRLE:
        encode_zrle(c, r);
        break;
    case VNC_TIGHT:
        encode_tight(c, r);
        break;
    default:
        encode_raw(c, r);
        break;
    }
}

void vnc_encode_done(struct vnc_client *c) {
    if (c->zlib_on)
        deflateEnd(&c->zlib);
    for (unsigned i = 0; i < 2; i++)
        if (c->tight_on[i])
            deflateEnd(&c->tight[i]);
    c->zlib_on = c->tight_on[0] = c->tight_on[1] = false;
}
