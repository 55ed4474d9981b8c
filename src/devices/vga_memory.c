/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The processor's window into video memory at a0000: planes, write modes, latches, banks.
 * Source: IBM PS/2 Hardware Interface Technical Reference (1992), "Video Subsystem", graphics
 * controller and sequencer registers; Bochs VBE display interface, bank register.
 *
 * Departure: with odd/even and with chain-4 addressing the two low address bits choose the plane
 * and the others go to the plane without a hole, where the chip leaves holes that only a change of
 * the addressing mode would show. Emulations that guests meet elsewhere do the same.
 */
#include <string.h>

#include "base/bytes.h"
#include "devices/vga_internal.h"

enum { BANK = 0x10000 };
#define NOT_OURS UINT32_MAX

/* Where a byte of the window is, relative to the part that is mapped (memory map select). */
static uint32_t window_offset(const struct vga *v, uint64_t at) {
    static const struct {
        uint32_t start, size;
    } map[4] = {{0, 0x20000}, {0, 0x10000}, {0x10000, 0x8000}, {0x18000, 0x8000}};
    unsigned which = v->gr[GR_MISC] >> 2 & 3;

    if (!(v->misc & MISC_RAM) || at - map[which].start >= map[which].size)
        return NOT_OURS;
    return (uint32_t)at - map[which].start;
}

static bool is_linear(const struct vga *v) { return vga_dispi_on(v) && v->dispi[DISPI_BPP] != 4; }

static uint32_t banked(const struct vga *v, uint32_t offset) {
    return ((v->dispi[DISPI_BANK] * (uint32_t)BANK) + offset) & (VGA_MEMORY - 1);
}

/* The byte of one plane. */
static uint8_t *cell(struct vga *v, uint32_t offset, unsigned plane) {
    return v->memory + ((offset * 4u + plane) & (VGA_MEMORY - 1));
}

/* ---- reading ---- */

static uint8_t read_planes(struct vga *v, uint32_t offset) {
    uint8_t equal = 0xff;

    for (unsigned p = 0; p < 4; p++)
        v->latch[p] = *cell(v, offset, p);
    if (!(v->gr[GR_MODE] & GR_MODE_READ1))
        return v->latch[v->gr[GR_READ_MAP] & 3];
    for (unsigned p = 0; p < 4; p++)
        if (v->gr[GR_DONT_CARE] >> p & 1)
            equal &= (v->gr[GR_COMPARE] >> p & 1) ? v->latch[p] : (uint8_t)~v->latch[p];
    return equal;
}

static uint8_t read_byte(struct vga *v, uint64_t at) {
    uint32_t offset;

    if (is_linear(v))
        return at < BANK ? v->memory[banked(v, (uint32_t)at)] : 0xff;
    offset = window_offset(v, at);
    if (offset == NOT_OURS)
        return 0xff;
    if (vga_dispi_on(v))
        offset += v->dispi[DISPI_BANK] * (uint32_t)BANK;
    if (v->seq[SEQ_MODE] & SEQ_MODE_CHAIN4)
        return v->memory[offset & (VGA_MEMORY - 1)];
    if (v->gr[GR_MODE] & GR_MODE_ODD_EVEN)
        return *cell(v, offset >> 1, (v->gr[GR_READ_MAP] & 2) | (offset & 1));
    return read_planes(v, offset);
}

/* ---- writing ---- */

static uint8_t rotate(const struct vga *v, uint8_t value) {
    unsigned n = v->gr[GR_ROTATE] & 7;

    return (uint8_t)(value >> n | value << (8 - n));
}

static uint8_t combine(const struct vga *v, uint8_t value, uint8_t latch, uint8_t mask) {
    switch (v->gr[GR_ROTATE] >> 3 & 3) {
    case 1:
        value &= latch;
        break;
    case 2:
        value |= latch;
        break;
    case 3:
        value ^= latch;
        break;
    default:
        break;
    }
    return (uint8_t)((value & mask) | (latch & ~mask));
}

/* What one plane gets in the present write mode. */
static uint8_t plane_value(const struct vga *v, unsigned p, uint8_t value) {
    uint8_t set = v->gr[GR_SET_RESET] >> p & 1 ? 0xff : 0, mask = v->gr[GR_BIT_MASK];

    switch (v->gr[GR_MODE] & 3) {
    case 0:
        return combine(v, v->gr[GR_ENABLE_SET_RESET] >> p & 1 ? set : rotate(v, value), v->latch[p],
                       mask);
    case 1:
        return v->latch[p];
    case 2:
        return combine(v, value >> p & 1 ? 0xff : 0, v->latch[p], mask);
    default:
        return combine(v, set, v->latch[p], mask & rotate(v, value));
    }
}

static void write_planes(struct vga *v, uint32_t offset, uint8_t value) {
    for (unsigned p = 0; p < 4; p++)
        if (v->seq[SEQ_MAP_MASK] >> p & 1)
            *cell(v, offset, p) = plane_value(v, p, value);
    if (v->seq[SEQ_MAP_MASK] & 4)
        v->font_dirty = true;
}

static void write_byte(struct vga *v, uint64_t at, uint8_t value) {
    uint32_t offset;
    unsigned p;

    if (is_linear(v)) {
        if (at < BANK)
            v->memory[banked(v, (uint32_t)at)] = value;
        return;
    }
    offset = window_offset(v, at);
    if (offset == NOT_OURS)
        return;
    if (vga_dispi_on(v))
        offset += v->dispi[DISPI_BANK] * (uint32_t)BANK;
    if (v->seq[SEQ_MODE] & SEQ_MODE_CHAIN4) {
        if (v->seq[SEQ_MAP_MASK] >> (offset & 3) & 1)
            v->memory[offset & (VGA_MEMORY - 1)] = value;
    } else if (v->gr[GR_MODE] & GR_MODE_ODD_EVEN) {
        p = (v->gr[GR_READ_MAP] & 2) | (offset & 1);
        if (v->seq[SEQ_MAP_MASK] >> p & 1)
            *cell(v, offset >> 1, p) = value;
        if (p == 2)
            v->font_dirty = true;
    } else {
        write_planes(v, offset, value);
    }
}

static uint64_t window_read(void *dev, uint64_t offset, unsigned size) {
    uint64_t value = 0;

    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)read_byte(dev, offset + i) << (8 * i);
    return value;
}

static void window_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    for (unsigned i = 0; i < size; i++)
        write_byte(dev, offset + i, (uint8_t)(value >> (8 * i)));
}

const struct io_ops vga_window_ops = {window_read, window_write, 1, 8};

/* ---- BAR 0, where the board does not map it as memory ---- */

static uint64_t lfb_read(void *dev, uint64_t offset, unsigned size) {
    struct vga *v = dev;
    uint8_t bytes[8] = {0};

    memcpy(bytes, v->memory + offset, size);
    return load_le64(bytes);
}

static void lfb_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct vga *v = dev;
    uint8_t bytes[8];

    store_le64(bytes, value);
    memcpy(v->memory + offset, bytes, size);
}

const struct io_ops vga_lfb_ops = {lfb_read, lfb_write, 1, 8};
