/* SPDX-License-Identifier: GPL-2.0-or-later */
/* EDID base block. Source: VESA Enhanced EDID Standard, release A, revision 2 (EDID 1.4). */
#include "devices/edid.h"

#include <string.h>

#include "base/bytes.h"

// clang-format off
enum { MAKER = 8, PRODUCT = 10, SERIAL = 12, WEEK = 16, YEAR = 17, VERSION = 18, INPUT = 20, SIZE_CM = 21, GAMMA = 23,
       FEATURES = 24, CHROMA = 25, ESTABLISHED = 35, STANDARD = 38, DESCRIPTORS = 54, DESCRIPTOR = 18, SUM = 127 };
// clang-format on
enum { DPI = 96, REFRESH = 60 };

static unsigned mm(unsigned pixels) { return pixels * 254 / 10 / DPI; }

/* Standard timings: width / 8 - 31, shape and rate. */
static void add_standard(uint8_t *at, unsigned width, unsigned shape) {
    at[0] = (uint8_t)(width / 8 - 31);
    at[1] = (uint8_t)(shape << 6 | (REFRESH - 60));
}

/* A detailed timing (3.10.2) with blanking of a flat panel. */
static void put_timing(uint8_t *d, unsigned w, unsigned h) {
    unsigned hblank = 160, vblank = 35, hsync = 48, hwidth = 32, vsync = 3, vwidth = 6;
    unsigned long clock = (unsigned long)(w + hblank) * (h + vblank) * REFRESH / 10000;

    store_le16(d, (uint16_t)(clock > 0xffff ? 0xffff : clock)); /* by 10 kHz */
    d[2] = (uint8_t)w;
    d[3] = (uint8_t)hblank;
    d[4] = (uint8_t)((w >> 8) << 4 | hblank >> 8);
    d[5] = (uint8_t)h;
    d[6] = (uint8_t)vblank;
    d[7] = (uint8_t)((h >> 8) << 4 | vblank >> 8);
    d[8] = (uint8_t)hsync;
    d[9] = (uint8_t)hwidth;
    d[10] = (uint8_t)(vsync << 4 | vwidth);
    d[12] = (uint8_t)mm(w);
    d[13] = (uint8_t)mm(h);
    d[14] = (uint8_t)((mm(w) >> 8) << 4 | mm(h) >> 8);
    d[17] = 0x18; /* separate syncs */
}

static void put_text(uint8_t *d, uint8_t tag, const char *text) {
    size_t n = strlen(text);

    d[3] = tag;
    memset(d + 5, ' ', 13);
    memcpy(d + 5, text, n);
    if (n < 13)
        d[5 + n] = '\n';
}

void edid_make(uint8_t *out, size_t size, unsigned width, unsigned height) {
    static const uint8_t head[8] = {0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0};
    /* sRGB's primaries. */
    static const uint8_t chroma[10] = {0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54};
    uint8_t *d = out + DESCRIPTORS, sum = 0;

    if (width > 4095)
        width = 4095;
    if (height > 4095)
        height = 4095;
    memset(out, 0, size);
    memcpy(out, head, sizeof(head));
    store_be16(out + MAKER, ('V' - '@') << 10 | ('I' - '@') << 5 | ('V' - '@'));
    store_le16(out + PRODUCT, 1);
    store_le32(out + SERIAL, 1);
    out[WEEK] = 1;
    out[YEAR] = 2024 - 1990;
    out[VERSION] = 1;
    out[VERSION + 1] = 4;
    out[INPUT] = 0xa5; /* digital, 8 bits a colour, DisplayPort */
    out[SIZE_CM] = (uint8_t)(mm(width) / 10);
    out[SIZE_CM + 1] = (uint8_t)(mm(height) / 10);
    out[GAMMA] = 220 - 100;
    out[FEATURES] = 0x06; /* sRGB, the first timing is the preferred one */
    memcpy(out + CHROMA, chroma, sizeof(chroma));
    out[ESTABLISHED] = 0x21;     /* 640x480, 800x600 at 60 Hz */
    out[ESTABLISHED + 1] = 0x08; /* 1024x768 */
    memset(out + STANDARD, 1, 16);
    add_standard(out + STANDARD, 1920, 3);
    add_standard(out + STANDARD + 2, 1680, 0);
    add_standard(out + STANDARD + 4, 1600, 1);
    add_standard(out + STANDARD + 6, 1440, 0);
    add_standard(out + STANDARD + 8, 1280, 2);
    add_standard(out + STANDARD + 10, 1280, 0);
    put_timing(d, width, height);
    put_text(d + DESCRIPTOR, 0xfc, "Vivarium");
    put_text(d + 2 * DESCRIPTOR, 0xff, "1");
    d[3 * DESCRIPTOR + 3] = 0xfd; /* limits: vertical Hz, horizontal kHz, clock by 10 MHz */
    memcpy(d + 3 * DESCRIPTOR + 5, (const uint8_t[]){50, 125, 30, 160, 60, 1, '\n'}, 7);
    memset(d + 3 * DESCRIPTOR + 12, ' ', 6);
    for (unsigned i = 0; i < SUM; i++)
        sum = (uint8_t)(sum + out[i]);
    out[SUM] = (uint8_t)-sum;
}
