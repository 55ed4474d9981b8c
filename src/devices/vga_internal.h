/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the VGA share: its registers, and the way from them to memory and picture. */
#ifndef DEVICES_VGA_INTERNAL_H
#define DEVICES_VGA_INTERNAL_H

#include "devices/vga.h"

// clang-format off
enum { /* sequencer, 3c4 */
    SEQ_RESET, SEQ_CLOCK, SEQ_MAP_MASK, SEQ_FONT, SEQ_MODE, SEQ_COUNT = 8,
    SEQ_CLOCK_8DOTS = 1, SEQ_CLOCK_HALF = 8, SEQ_CLOCK_OFF = 0x20, SEQ_MODE_NO_ODD_EVEN = 4, SEQ_MODE_CHAIN4 = 8,
};
enum { /* graphics controller, 3ce */
    GR_SET_RESET, GR_ENABLE_SET_RESET, GR_COMPARE, GR_ROTATE, GR_READ_MAP, GR_MODE, GR_MISC, GR_DONT_CARE, GR_BIT_MASK, GR_COUNT = 16,
    GR_MODE_READ1 = 8, GR_MODE_ODD_EVEN = 0x10, GR_MISC_GRAPHICS = 1,
};
enum { /* CRT controller, 3d4 */
    CR_H_DISPLAY_END = 1, CR_OVERFLOW = 7, CR_PRESET_ROW = 8, CR_MAX_SCAN = 9, CR_CURSOR_START, CR_CURSOR_END,
    CR_START_HIGH, CR_START_LOW, CR_CURSOR_HIGH, CR_CURSOR_LOW, CR_V_RETRACE_END = 0x11, CR_V_DISPLAY_END = 0x12, CR_OFFSET = 0x13,
    CR_MODE = 0x17, CR_LINE_COMPARE = 0x18, CR_COUNT = 0x20,
};
enum { /* attribute controller, 3c0 */
    AR_MODE = 0x10, AR_OVERSCAN, AR_PLANES, AR_PANNING, AR_COLOUR, AR_COUNT = 0x15,
    AR_MODE_GRAPHICS = 1, AR_MODE_LINE_GRAPHICS = 4, AR_MODE_BLINK = 8, AR_MODE_8BIT = 0x40, AR_MODE_P54 = 0x80, AR_VIDEO_ON = 0x20,
};
enum { /* Bochs' display interface */
    DISPI_ID, DISPI_XRES, DISPI_YRES, DISPI_BPP, DISPI_ENABLE, DISPI_BANK, DISPI_VIRT_WIDTH, DISPI_VIRT_HEIGHT,
    DISPI_X_OFFSET, DISPI_Y_OFFSET, DISPI_MEMORY_64K, DISPI_COUNT,
    DISPI_ENABLED = 1, DISPI_GETCAPS = 2, DISPI_8BIT_DAC = 0x20, DISPI_LFB = 0x40, DISPI_NO_CLEAR = 0x80,
    DISPI_ID0 = 0xb0c0, DISPI_ID5 = 0xb0c5, DISPI_MAX_X = 2560, DISPI_MAX_Y = 1600,
};
enum { MISC_COLOUR = 1, MISC_RAM = 2 };
// clang-format on

enum { VGA_MAX_CELLS = 256 * 128 };

struct vga {
    struct pci_device pci; /* first */
    uint8_t *memory;       /* plane p of address a is byte 4a + p */
    bool own_memory;
    struct vga_config config;
    uint8_t *rom;
    uint8_t edid[256];

    uint8_t misc, feature, seq_index, gr_index, cr_index, ar_index;
    bool ar_data; /* the next write to 3c0 is data */
    uint8_t seq[SEQ_COUNT], gr[GR_COUNT], cr[CR_COUNT], ar[AR_COUNT];
    uint8_t dac_mask, dac_state, dac_read, dac_write, dac_sub, dac_cache[3], dac[768];
    uint8_t latch[4];
    uint16_t dispi_index, dispi[DISPI_COUNT];

    /* What was drawn last, to know what need not be drawn again. */
    uint32_t drawn_sign;
    bool font_dirty, drawn_text;
    uint32_t cell[VGA_MAX_CELLS];
    uint32_t line[SCREEN_MAX_SIDE];
};

static inline bool vga_dispi_on(const struct vga *v) {
    return v->dispi[DISPI_ENABLE] & DISPI_ENABLED;
}
/* Bytes from a line to the next in a mode of the display interface. */
static inline uint32_t vga_dispi_stride(const struct vga *v) {
    uint32_t width = v->dispi[DISPI_VIRT_WIDTH];

    return v->dispi[DISPI_BPP] == 4 ? width / 2 : width * ((v->dispi[DISPI_BPP] + 7u) / 8);
}

/* vga_memory.c: the window at a0000. */
extern const struct io_ops vga_window_ops, vga_lfb_ops;

/* vga_draw.c */
void vga_draw(void *opaque, struct screen *s, bool all);

/* vga_font.c: 8x16, character c at 16c. */
void vga_font_make(uint8_t out[256 * 16]);

/* vga.c */
uint64_t vga_port_read(struct vga *v, unsigned port);
void vga_port_write(struct vga *v, unsigned port, uint8_t value);

#endif
