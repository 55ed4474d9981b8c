/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From video memory to the picture.
 * Source: IBM PS/2 Hardware Interface Technical Reference (1992), "Video Subsystem": CRT
 * controller (addresses, row scans, split screen), attribute controller (palette, panning).
 *
 * Theory of operation. Registers hold whatever the guest wrote, so every address is cut to the
 * size of the memory and every row of direct colour is checked against its end. Text is drawn
 * where a cell differs from what was drawn last; all cells are, when something changed that all
 * depend on (palette, font, geometry), which a checksum tells.
 *
 * Departures: cursor and blinking attributes are drawn steady, so that a picture at rest stays the
 * same. Text does not scroll by single lines or dots.
 */
#include <string.h>

#include "base/bytes.h"
#include "devices/vga_internal.h"

enum { MAX_DOTS = 4096 };

/* ------------------------------------------------------------------ colours */

static uint32_t dac_colour(const struct vga *v, unsigned i) {
    const uint8_t *c = v->dac + (size_t)3 * (i & v->dac_mask);
    uint32_t rgb = 0;

    for (unsigned k = 0; k < 3; k++) {
        uint8_t level = c[k];

        if (!(v->dispi[DISPI_ENABLE] & DISPI_8BIT_DAC))
            level = (uint8_t)((level & 0x3f) << 2 | (level & 0x3f) >> 4);
        rgb = rgb << 8 | level;
    }
    return rgb;
}

/* Of the 16 colours of text and planes: the attribute controller's palette, then the DAC. */
static uint32_t attr_colour(const struct vga *v, unsigned i) {
    unsigned n = v->ar[i & v->ar[AR_PLANES] & 15] & 0x3f;

    if (v->ar[AR_MODE] & AR_MODE_P54)
        n = (n & 0xf) | (v->ar[AR_COLOUR] & 3u) << 4;
    return dac_colour(v, n | (v->ar[AR_COLOUR] & 0xcu) << 4);
}

static uint8_t plane_byte(const struct vga *v, uint32_t address, unsigned plane) {
    return v->memory[(address * 4 + plane) & (VGA_MEMORY - 1)];
}

/* ------------------------------------------------------------------ what the CRT controller says
 */

struct geometry {
    unsigned chars, lines; /* per row: 8 or 9 dots each; of the whole picture */
    unsigned scans;        /* row scans of a row */
    bool doubled;          /* each is shown twice */
    uint32_t start, offset, split;
};

static struct geometry geometry(const struct vga *v) {
    const uint8_t *cr = v->cr;

    return (struct geometry){
        .chars = cr[CR_H_DISPLAY_END] + 1u,
        .lines =
            (cr[CR_V_DISPLAY_END] | (cr[CR_OVERFLOW] & 2u) << 7 | (cr[CR_OVERFLOW] & 0x40u) << 3) +
            1,
        .scans = (cr[CR_MAX_SCAN] & 0x1fu) + 1,
        .doubled = cr[CR_MAX_SCAN] & 0x80,
        .start = (uint32_t)cr[CR_START_HIGH] << 8 | cr[CR_START_LOW],
        .offset = cr[CR_OFFSET] * 2u,
        .split =
            cr[CR_LINE_COMPARE] | (cr[CR_OVERFLOW] & 0x10u) << 4 | (cr[CR_MAX_SCAN] & 0x40u) << 3,
    };
}

static uint32_t checksum(uint32_t sum, const void *p, size_t n) {
    const uint8_t *b = p;

    for (size_t i = 0; i < n; i++)
        sum = (sum ^ b[i]) * 0x01000193u;
    return sum;
}

/* ------------------------------------------------------------------ text */

struct text {
    struct geometry g;
    unsigned dots, wide; /* of a character; each dot is so wide */
    unsigned rows, row_lines;
    uint32_t font[2]; /* address in plane 2, by bit 3 of the attribute */
    uint32_t palette[16];
    uint32_t cursor;
    unsigned cursor_first, cursor_last;
    bool cursor_on;
};

static uint32_t font_address(unsigned map) { return (map & 3) << 14 | (map & 4) << 11; }

static struct text text_mode(const struct vga *v) {
    struct text t = {.g = geometry(v)};
    unsigned fonts = v->seq[SEQ_FONT];

    t.dots = v->seq[SEQ_CLOCK] & SEQ_CLOCK_8DOTS ? 8 : 9;
    t.wide = v->seq[SEQ_CLOCK] & SEQ_CLOCK_HALF ? 2 : 1;
    t.row_lines = t.g.scans << t.g.doubled;
    t.rows = t.g.lines / t.row_lines;
    t.font[0] = font_address((fonts & 3) | (fonts >> 2 & 4));
    t.font[1] = font_address((fonts >> 2 & 3) | (fonts >> 3 & 4));
    for (unsigned i = 0; i < 16; i++)
        t.palette[i] = attr_colour(v, i);
    t.cursor = (uint32_t)v->cr[CR_CURSOR_HIGH] << 8 | v->cr[CR_CURSOR_LOW];
    t.cursor_first = v->cr[CR_CURSOR_START] & 0x1f;
    t.cursor_last = v->cr[CR_CURSOR_END] & 0x1f;
    t.cursor_on = !(v->cr[CR_CURSOR_START] & 0x20) && t.cursor_first <= t.cursor_last;
    return t;
}

static void draw_cell(struct vga *v, struct screen *s, const struct text *t, unsigned x, unsigned y,
                      uint8_t ch, uint8_t attr, bool cursor) {
    uint32_t fg = t->palette[attr & 15];
    uint32_t bg = t->palette[attr >> 4 & (v->ar[AR_MODE] & AR_MODE_BLINK ? 7 : 15)];
    uint32_t glyph = t->font[attr >> 3 & 1] + ch * 32u, dots[18];
    bool nine = (v->ar[AR_MODE] & AR_MODE_LINE_GRAPHICS) && ch >= 0xc0 && ch <= 0xdf;

    for (unsigned line = 0; line < t->row_lines; line++) {
        unsigned scan = line >> t->g.doubled;
        unsigned bits = (unsigned)plane_byte(v, glyph + scan, 2) << 1;

        if (nine)
            bits |= bits >> 1 & 1;
        if (cursor && scan >= t->cursor_first && scan <= t->cursor_last)
            bits = 0x1ff;
        for (unsigned i = 0; i < t->dots * t->wide; i++)
            dots[i] = bits >> (8 - i / t->wide) & 1 ? fg : bg;
        screen_put(s, x, y + line, dots, t->dots * t->wide);
    }
}

static void draw_text(struct vga *v, struct screen *s, bool all) {
    struct text t = text_mode(v);
    unsigned width = t.dots * t.wide;

    if (!t.rows || !screen_resize(s, t.g.chars * width, t.rows * t.row_lines))
        return;
    for (unsigned row = 0, from_split = 0; row < t.rows; row++) {
        bool below = row * t.row_lines > t.g.split;
        uint32_t at = below ? t.g.offset * from_split++ : t.g.start + t.g.offset * row;

        for (unsigned col = 0; col < t.g.chars; col++, at++) {
            unsigned n = row * t.g.chars + col;
            uint8_t ch = plane_byte(v, at, 0), attr = plane_byte(v, at, 1);
            bool cursor = t.cursor_on && at == t.cursor;
            uint32_t now = ch | (uint32_t)attr << 8 |
                           (cursor ? 1u << 31 | t.cursor_first << 16 | t.cursor_last << 21 : 0);

            if (n < VGA_MAX_CELLS && !all && v->cell[n] == now)
                continue;
            if (n < VGA_MAX_CELLS)
                v->cell[n] = now;
            draw_cell(v, s, &t, col * width, row * t.row_lines, ch, attr, cursor);
        }
    }
}

/* ------------------------------------------------------------------ the chip's graphics */

/* The dots of one plane address: 8, or 4 of 256 colours. */
static void planar_dots(const struct vga *v, uint32_t at, uint8_t *out) {
    uint8_t b[4];

    for (unsigned p = 0; p < 4; p++)
        b[p] = plane_byte(v, at, p);
    for (unsigned i = 0; i < 8; i++) {
        unsigned shift = 7 - i;

        out[i] = (uint8_t)((b[0] >> shift & 1) | (b[1] >> shift & 1) << 1 |
                           (b[2] >> shift & 1) << 2 | (b[3] >> shift & 1) << 3);
    }
}

static void interleaved_dots(const struct vga *v, uint32_t at, uint8_t *out) {
    for (unsigned i = 0; i < 8; i++) {
        unsigned low = i / 4, shift = 6 - 2 * (i % 4);

        out[i] = (uint8_t)((plane_byte(v, at, low) >> shift & 3) |
                           (plane_byte(v, at, low + 2) >> shift & 3) << 2);
    }
}

static void packed_dots(const struct vga *v, uint32_t at, uint8_t *out) {
    for (unsigned i = 0; i < 8; i++)
        out[i] = plane_byte(v, at, i / 2); /* each is two dots wide */
}

struct graphics {
    void (*dots)(const struct vga *v, uint32_t at, uint8_t *out);
    unsigned chars, wide, pan;
    const uint32_t *palette;
};

static void graphics_row(struct vga *v, struct screen *s, const struct graphics *g, unsigned y,
                         uint32_t at) {
    unsigned x = 0, skip = g->pan;
    uint8_t dots[8];

    for (unsigned c = 0; c <= g->chars && x < g->chars * 8 * g->wide; c++, skip = 0) {
        g->dots(v, at + c, dots);
        for (unsigned i = skip; i < 8; i++)
            for (unsigned k = 0; k < g->wide && x < g->chars * 8 * g->wide; k++)
                v->line[x++] = g->palette[dots[i]];
    }
    screen_put(s, 0, y, v->line, x);
}

/* The address of a row scan: in the modes of older adapters its low bits come in as high ones. */
static uint32_t scan_address(const struct vga *v, uint32_t at, unsigned scan) {
    unsigned mode = v->cr[CR_MODE];

    if (!(mode & 1))
        at = (at & ~(1u << (mode & 0x40 ? 13 : 12))) | (scan & 1) << (mode & 0x40 ? 13 : 12);
    if (!(mode & 2))
        at = (at & ~(1u << 13)) | (scan >> 1 & 1) << 13;
    return at;
}

static void draw_graphics(struct vga *v, struct screen *s) {
    struct geometry m = geometry(v);
    unsigned kind = v->gr[GR_MODE] >> 5 & 3;
    bool half = v->seq[SEQ_CLOCK] & SEQ_CLOCK_HALF;
    uint32_t palette[256];
    struct graphics g = {.chars = m.chars, .wide = half ? 2 : 1, .palette = palette};
    uint32_t at = m.start;
    unsigned scan = 0;

    g.dots = kind == 0 ? planar_dots : kind == 1 ? interleaved_dots : packed_dots;
    if (kind >= 2)
        g.wide = 1; /* the mode halves the clock by itself */
    g.pan = kind >= 2 ? v->ar[AR_PANNING] & 6 : v->ar[AR_PANNING] & 7;
    for (unsigned i = 0; i < 256; i++)
        palette[i] = kind >= 2 ? dac_colour(v, i) : attr_colour(v, i & 15);
    if (!screen_resize(s, m.chars * 8 * g.wide, m.lines))
        return;
    for (unsigned y = 0; y < m.lines; y++) {
        graphics_row(v, s, &g, y, scan_address(v, at, scan));
        if (y == m.split) {
            at = 0;
            scan = 0;
            g.pan = v->ar[AR_MODE] & 0x20 ? 0 : g.pan;
        } else if (!(m.doubled && !(y & 1)) && ++scan == m.scans) {
            scan = 0;
            at += m.offset;
        }
    }
}

/* ------------------------------------------------------------------ modes of the display interface
 */

/* Makes 32 bits of each pixel of a row; the row lies in memory. */
static const uint32_t *direct_row(struct vga *v, const uint8_t *p, unsigned bpp, unsigned width,
                                  const uint32_t *palette) {
    switch (bpp) {
    case 32:
        return (const uint32_t *)(const void *)p;
    case 24:
        for (unsigned x = 0; x < width; x++)
            v->line[x] = p[3 * x] | (uint32_t)p[3 * x + 1] << 8 | (uint32_t)p[3 * x + 2] << 16;
        break;
    case 16:
    case 15:
        for (unsigned x = 0; x < width; x++) {
            unsigned w = load_le16(p + 2 * (size_t)x);
            unsigned r = bpp == 16 ? w >> 11 : w >> 10 & 31, b = w & 31;
            unsigned green = bpp == 16 ? w >> 5 & 63 : (w >> 5 & 31) << 1 | (w >> 9 & 1);

            v->line[x] =
                (r << 3 | r >> 2) << 16 | (green << 2 | green >> 4) << 8 | (b << 3 | b >> 2);
        }
        break;
    default:
        for (unsigned x = 0; x < width; x++)
            v->line[x] = palette[p[x]];
        break;
    }
    return v->line;
}

static void draw_dispi(struct vga *v, struct screen *s) {
    const uint16_t *r = v->dispi;
    unsigned bpp = r[DISPI_BPP], width = r[DISPI_XRES], bytes = bpp > 8 ? (bpp + 7) / 8 : 1;
    uint32_t stride = vga_dispi_stride(v), palette[256];
    struct graphics g = {planar_dots, width / 8, 1, 0, palette};
    uint64_t at = (uint64_t)r[DISPI_Y_OFFSET] * stride;

    for (unsigned i = 0; i < 256; i++)
        palette[i] = bpp == 4 ? attr_colour(v, i & 15) : dac_colour(v, i);
    if (width > SCREEN_MAX_SIDE || !screen_resize(s, width, r[DISPI_YRES]))
        return;
    at += bpp == 4 ? r[DISPI_X_OFFSET] / 2 : (uint64_t)r[DISPI_X_OFFSET] * bytes;
    for (unsigned y = 0; y < r[DISPI_YRES]; y++, at += stride) {
        if (bpp == 4)
            graphics_row(v, s, &g, y, (uint32_t)(at / 4));
        else if (bytes <= 4 && at + (uint64_t)width * bytes <= VGA_MEMORY)
            screen_put(s, 0, y, direct_row(v, v->memory + at, bpp, width, palette), width);
    }
}

/* ------------------------------------------------------------------ all of it */

static bool is_blank(const struct vga *v) {
    return !(v->ar_index & AR_VIDEO_ON) || (v->seq[SEQ_CLOCK] & SEQ_CLOCK_OFF);
}

/* What every cell of text depends on. */
static uint32_t sign(const struct vga *v) {
    uint32_t sum = 0x811c9dc5u;

    sum = checksum(sum, v->ar, sizeof(v->ar));
    sum = checksum(sum, v->seq, sizeof(v->seq));
    sum = checksum(sum, v->cr, CR_CURSOR_START);
    sum = checksum(sum, v->cr + CR_V_RETRACE_END, sizeof(v->cr) - CR_V_RETRACE_END);
    sum = checksum(sum, v->dac, sizeof(v->dac));
    return checksum(sum, &v->dac_mask, 1);
}

void vga_draw(void *opaque, struct screen *s, bool all) {
    struct vga *v = opaque;
    bool text = !vga_dispi_on(v) && !(v->gr[GR_MISC] & GR_MISC_GRAPHICS);
    uint32_t now = sign(v);

    all |= !text || !v->drawn_text || v->font_dirty || now != v->drawn_sign;
    v->drawn_text = false;
    if (is_blank(v)) {
        screen_fill(s, 0);
    } else if (vga_dispi_on(v)) {
        draw_dispi(v, s);
    } else if (text) {
        draw_text(v, s, all);
        v->drawn_text = true;
        v->font_dirty = false;
        v->drawn_sign = now;
    } else {
        draw_graphics(v, s);
    }
}
