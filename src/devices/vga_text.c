/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text mode 3 as a video BIOS leaves it, for guests that start without firmware.
 * Source: IBM PS/2 Hardware Interface Technical Reference (1992), "Video Subsystem", BIOS initial
 * values of mode 3+.
 */
#include <string.h>

#include "devices/vga_internal.h"

enum { CELLS = 0x4000, FONT_SLOT = 32, FONT_ROWS = 16 };

static const uint8_t seq[5] = {0x03, 0x00, 0x03, 0x00, 0x02};
static const uint8_t gr[9] = {0, 0, 0, 0, 0, 0x10, 0x0e, 0x0f, 0xff};
static const uint8_t cr[25] = {0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00,
                               0x4f, 0x0d, 0x0e, 0x00, 0x00, 0x00, 0x00, 0x9c, 0x8e,
                               0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff};
static const uint8_t ar[AR_COUNT] = {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14,
                                     0x07, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d,
                                     0x3e, 0x3f, 0x0c, 0x00, 0x0f, 0x08, 0x00};

/* Of six bits: a third of the brightness by the upper ones, two thirds by the lower ones. */
static void set_palette(struct vga *v) {
    for (unsigned i = 0; i < 64; i++)
        for (unsigned c = 0; c < 3; c++)
            v->dac[3 * i + c] = (uint8_t)((i >> (2 - c) & 1) * 0x2a + (i >> (5 - c) & 1) * 0x15);
}

void vga_boot_text(struct device *dev) {
    struct vga *v = (struct vga *)dev;
    uint8_t font[256 * FONT_ROWS];

    v->misc = 0x67;
    memcpy(v->seq, seq, sizeof(seq));
    memcpy(v->gr, gr, sizeof(gr));
    memcpy(v->cr, cr, sizeof(cr));
    memcpy(v->ar, ar, sizeof(ar));
    v->ar_index = AR_VIDEO_ON;
    set_palette(v);
    vga_font_make(font);
    memset(v->memory, 0, 4 * (size_t)0x10000);
    for (unsigned i = 0; i < CELLS; i++) {
        v->memory[4 * i] = ' ';
        v->memory[4 * i + 1] = 0x07;
    }
    for (unsigned ch = 0; ch < 256; ch++)
        for (unsigned y = 0; y < FONT_ROWS; y++)
            v->memory[4 * (ch * FONT_SLOT + y) + 2] = font[ch * FONT_ROWS + y];
    v->font_dirty = true;
}
