/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VGA with Bochs' display interface over PCI.
 * Source: IBM PS/2 Hardware Interface Technical Reference (1992), "Video Subsystem" (registers);
 * Bochs VBE display interface (index and data ports 1ce, 1cf); QEMU docs/specs/standard-vga (PCI
 * function 1234:1111, layout of BAR 2).
 *
 *   BAR 2   000 EDID   400 VGA ports 3c0-3df   500 display interface, a word an index
 *           600 size of what follows, 604 byte order of the framebuffer
 *
 * Theory of operation. Registers are bytes that guests write and read back; what they mean is
 * worked out when somebody accesses the window (vga_memory.c) or looks at the picture
 * (vga_draw.c). The retrace bits follow the machine's clock, 60 Hz.
 *
 * Departures: no interrupt at the retrace, no light pen; the sync polarities, the CRT
 * controller's timings and pixel clocks have no effect but on sizes.
 */
#include "devices/vga.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/trace.h"
#include "base/zero.h"
#include "devices/edid.h"
#include "devices/vga_internal.h"

enum { MMIO_SIZE = 4096, MMIO_VGA = 0x400, MMIO_DISPI = 0x500, MMIO_EXT = 0x600 };
enum { EXT_SIZE = 8, EXT_LITTLE = 0x1e1e1e1e };
enum { FRAME_NS = 16666667, LINES = 525, VISIBLE = 480 };
enum { STATUS_OFF = 1, STATUS_RETRACE = 8 };
enum { BLACK_XRES = 1024, BLACK_YRES = 768 };

/* ------------------------------------------------------------------ VGA registers */

static uint8_t input_status(struct vga *v) {
    uint64_t in_frame = clock_now(v->pci.dev.env.clock) % FRAME_NS;
    uint64_t line_ns = FRAME_NS / LINES;
    uint8_t value = 0;

    v->ar_data = false;
    if (in_frame / line_ns >= VISIBLE)
        value |= STATUS_RETRACE | STATUS_OFF;
    if (in_frame % line_ns >= line_ns * 4 / 5)
        value |= STATUS_OFF;
    return value;
}

static uint8_t read_dac(struct vga *v) {
    uint8_t value = v->dac[(3 * v->dac_read + v->dac_sub) % sizeof(v->dac)];

    if (++v->dac_sub == 3) {
        v->dac_sub = 0;
        v->dac_read++;
    }
    return value;
}

static void write_dac(struct vga *v, uint8_t value) {
    v->dac_cache[v->dac_sub % 3] = v->dispi[DISPI_ENABLE] & DISPI_8BIT_DAC ? value : value & 0x3f;
    if (++v->dac_sub < 3)
        return;
    memcpy(v->dac + (size_t)3 * v->dac_write, v->dac_cache, 3);
    v->dac_sub = 0;
    v->dac_write++;
}

/* Palette entries are locked while bit 5 of the index shows the picture; guests that write them
 * clear it first, but not all do, and no chip minds. */
static void write_ar(struct vga *v, uint8_t value) {
    static const uint8_t mask[AR_COUNT] = {
        [0 ... 15] = 0x3f, [AR_MODE] = 0xef, 0xff, 0x3f, 0x0f, 0x0f};
    unsigned i = v->ar_index & 0x1f;

    v->ar_data = !v->ar_data;
    if (v->ar_data)
        v->ar_index = value & 0x3f;
    else if (i < AR_COUNT)
        v->ar[i] = value & mask[i];
}

static void write_cr(struct vga *v, uint8_t value) {
    unsigned i = v->cr_index;

    if (i >= CR_COUNT)
        return;
    if ((v->cr[CR_V_RETRACE_END] & 0x80) && i <= CR_OVERFLOW) { /* protected, but for one bit */
        if (i == CR_OVERFLOW)
            v->cr[i] = (uint8_t)((v->cr[i] & ~0x10) | (value & 0x10));
        return;
    }
    v->cr[i] = value;
}

/* Some registers answer at 3bx in monochrome modes and at 3dx in others. */
static bool is_mine(const struct vga *v, unsigned *port) {
    bool colour = v->misc & MISC_COLOUR;

    if (*port >= 0x3b0 && *port <= 0x3bf) {
        *port += 0x20;
        return !colour;
    }
    return *port < 0x3d0 || colour;
}

uint64_t vga_port_read(struct vga *v, unsigned port) {
    if (!is_mine(v, &port))
        return 0xff;
    switch (port) {
    case 0x3c0:
        return v->ar_data ? 0 : v->ar_index;
    case 0x3c1:
        return (v->ar_index & 0x1f) < AR_COUNT ? v->ar[v->ar_index & 0x1f] : 0;
    case 0x3c2: /* switch sense: a colour monitor is there */
        return 0x10;
    case 0x3c4:
        return v->seq_index;
    case 0x3c5:
        return v->seq[v->seq_index & 7];
    case 0x3c6:
        return v->dac_mask;
    case 0x3c7:
        return v->dac_state;
    case 0x3c8:
        return v->dac_write;
    case 0x3c9:
        return read_dac(v);
    case 0x3ca:
        return v->feature;
    case 0x3cc:
        return v->misc;
    case 0x3ce:
        return v->gr_index;
    case 0x3cf:
        return v->gr[v->gr_index & 15];
    case 0x3d4:
        return v->cr_index;
    case 0x3d5:
        return v->cr_index < CR_COUNT ? v->cr[v->cr_index] : 0;
    case 0x3da:
        return input_status(v);
    default:
        return 0xff;
    }
}

void vga_port_write(struct vga *v, unsigned port, uint8_t value) {
    static const uint8_t seq_mask[SEQ_COUNT] = {0x03, 0x3d, 0x0f, 0x3f, 0x0e};
    static const uint8_t gr_mask[GR_COUNT] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};

    trace(vga_port_write, port, value);
    if (!is_mine(v, &port))
        return;
    switch (port) {
    case 0x3c0:
        write_ar(v, value);
        break;
    case 0x3c2:
        v->misc = value & 0xef;
        break;
    case 0x3c4:
        v->seq_index = value & 7;
        break;
    case 0x3c5:
        v->seq[v->seq_index] = value & seq_mask[v->seq_index];
        break;
    case 0x3c6:
        v->dac_mask = value;
        break;
    case 0x3c7:
        v->dac_read = value;
        v->dac_sub = 0;
        v->dac_state = 3;
        break;
    case 0x3c8:
        v->dac_write = value;
        v->dac_sub = 0;
        v->dac_state = 0;
        break;
    case 0x3c9:
        write_dac(v, value);
        break;
    case 0x3ce:
        v->gr_index = value & 15;
        break;
    case 0x3cf:
        v->gr[v->gr_index] = value & gr_mask[v->gr_index];
        break;
    case 0x3d4:
        v->cr_index = value;
        break;
    case 0x3d5:
        write_cr(v, value);
        break;
    case 0x3da:
        v->feature = value & 0x10;
        break;
    default:
        break;
    }
}

/* ------------------------------------------------------------------ display interface */

static bool is_depth(unsigned bpp) {
    return bpp == 4 || bpp == 8 || bpp == 15 || bpp == 16 || bpp == 24 || bpp == 32;
}

/* Keeps the registers such that the picture lies in memory. */
static void fit_dispi(struct vga *v) {
    uint16_t *r = v->dispi;
    uint32_t lines, bytes, stride;

    if (!is_depth(r[DISPI_BPP]))
        r[DISPI_BPP] = 8;
    r[DISPI_XRES] &= (uint16_t)~7u;
    if (!r[DISPI_XRES])
        r[DISPI_XRES] = 8;
    if (r[DISPI_XRES] > DISPI_MAX_X)
        r[DISPI_XRES] = DISPI_MAX_X;
    r[DISPI_VIRT_WIDTH] &= (uint16_t)~7u;
    if (r[DISPI_VIRT_WIDTH] < r[DISPI_XRES])
        r[DISPI_VIRT_WIDTH] = r[DISPI_XRES];
    stride = vga_dispi_stride(v);
    lines = VGA_MEMORY / stride;
    if (!r[DISPI_YRES])
        r[DISPI_YRES] = 1;
    if (r[DISPI_YRES] > DISPI_MAX_Y)
        r[DISPI_YRES] = DISPI_MAX_Y;
    if (r[DISPI_YRES] > lines)
        r[DISPI_YRES] = (uint16_t)lines;
    r[DISPI_VIRT_HEIGHT] = (uint16_t)(lines > 0xffff ? 0xffff : lines);
    bytes = r[DISPI_Y_OFFSET] * stride + r[DISPI_X_OFFSET] * (stride / r[DISPI_VIRT_WIDTH] + 1);
    if (bytes + r[DISPI_YRES] * stride > VGA_MEMORY)
        r[DISPI_X_OFFSET] = r[DISPI_Y_OFFSET] = 0;
}

/* What is planar or text otherwise is set up as the chip's own modes are, for guests that look. */
static void enter_dispi(struct vga *v, uint16_t value) {
    bool was_on = vga_dispi_on(v);

    v->dispi[DISPI_ENABLE] = value & (DISPI_ENABLED | DISPI_GETCAPS | DISPI_8BIT_DAC | DISPI_LFB);
    if (!vga_dispi_on(v)) {
        v->dispi[DISPI_BANK] = 0;
        v->font_dirty = true; /* its plane may have held a picture meanwhile */
        return;
    }
    if (was_on)
        return;
    v->dispi[DISPI_VIRT_WIDTH] = v->dispi[DISPI_XRES];
    v->dispi[DISPI_X_OFFSET] = v->dispi[DISPI_Y_OFFSET] = 0;
    fit_dispi(v);
    if (!(value & DISPI_NO_CLEAR))
        memset(v->memory, 0, (size_t)v->dispi[DISPI_YRES] * vga_dispi_stride(v));
    trace(vga_mode, v->dispi[DISPI_XRES], v->dispi[DISPI_YRES], v->dispi[DISPI_BPP]);
}

static uint16_t read_dispi(const struct vga *v, unsigned index) {
    bool caps = v->dispi[DISPI_ENABLE] & DISPI_GETCAPS;

    switch (index) {
    case DISPI_XRES:
        return caps ? DISPI_MAX_X : v->dispi[index];
    case DISPI_YRES:
        return caps ? DISPI_MAX_Y : v->dispi[index];
    case DISPI_BPP:
        return caps ? 32 : v->dispi[index];
    case DISPI_MEMORY_64K:
        return VGA_MEMORY >> 16;
    default:
        return index < DISPI_COUNT ? v->dispi[index] : 0;
    }
}

static void write_dispi(struct vga *v, unsigned index, uint16_t value) {
    trace(vga_dispi_write, index, value);
    switch (index) {
    case DISPI_ID:
        if (value >= DISPI_ID0 && value <= DISPI_ID5)
            v->dispi[index] = value;
        break;
    case DISPI_XRES:
    case DISPI_YRES:
    case DISPI_BPP: /* take effect with ENABLE; at once where it is on, as some drivers do */
    case DISPI_VIRT_WIDTH:
    case DISPI_X_OFFSET:
    case DISPI_Y_OFFSET:
        v->dispi[index] = value;
        if (vga_dispi_on(v))
            fit_dispi(v);
        break;
    case DISPI_ENABLE:
        enter_dispi(v, value);
        break;
    case DISPI_BANK:
        v->dispi[index] = value & (VGA_MEMORY / 0x10000 - 1);
        break;
    default: /* read-only: memory size, virtual height */
        break;
    }
}

/* ------------------------------------------------------------------ regions */

static uint64_t ports_read(void *dev, uint64_t offset, unsigned size) {
    return vga_port_read(dev, 0x3b0 + (unsigned)offset);
}

static void ports_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    vga_port_write(dev, 0x3b0 + (unsigned)offset, (uint8_t)value);
}

static const struct io_ops ports_ops = {ports_read, ports_write, 1, 1};

/* 1ce index, 1cf data; also 1d0, where machines without unaligned ports have it. */
static uint64_t dispi_read(void *dev, uint64_t offset, unsigned size) {
    struct vga *v = dev;

    return offset ? read_dispi(v, v->dispi_index) : v->dispi_index;
}

static void dispi_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct vga *v = dev;

    if (offset)
        write_dispi(v, v->dispi_index, (uint16_t)value);
    else
        v->dispi_index = (uint16_t)value;
}

static const struct io_ops dispi_ops = {dispi_read, dispi_write, 1, 2};

static uint64_t mmio_read(void *dev, uint64_t offset, unsigned size) {
    struct vga *v = dev;

    if (offset < MMIO_VGA)
        return size == 1 && offset < sizeof(v->edid) ? v->edid[offset] : 0;
    if (offset < MMIO_VGA + 0x20)
        return size == 1 ? vga_port_read(v, 0x3c0 + (unsigned)offset - MMIO_VGA) : 0xffff;
    if (offset >= MMIO_DISPI && offset < MMIO_DISPI + 2 * DISPI_COUNT)
        return read_dispi(v, (unsigned)(offset - MMIO_DISPI) / 2) >> (offset & 1 ? 8 : 0);
    if (offset >= MMIO_EXT && offset < MMIO_EXT + EXT_SIZE)
        return (offset & 4 ? (uint32_t)EXT_LITTLE : EXT_SIZE) >> (8 * (offset & 3));
    return 0;
}

static void mmio_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct vga *v = dev;

    if (offset >= MMIO_VGA && offset < MMIO_VGA + 0x20)
        for (unsigned i = 0; i < size; i++)
            vga_port_write(v, 0x3c0 + (unsigned)offset - MMIO_VGA + i, (uint8_t)(value >> (8 * i)));
    else if (size == 2 && offset >= MMIO_DISPI && offset < MMIO_DISPI + 2 * DISPI_COUNT)
        write_dispi(v, (unsigned)(offset - MMIO_DISPI) / 2, (uint16_t)value);
}

/* Bytes of the EDID and of registers come one at a time, words of the display interface whole. */
static uint64_t mmio_read_any(void *dev, uint64_t offset, unsigned size) {
    if (size == 1 || offset >= MMIO_DISPI)
        return mmio_read(dev, offset, size);
    return mmio_read(dev, offset, 1) | mmio_read(dev, offset + 1, 1) << 8;
}

static const struct io_ops mmio_ops = {mmio_read_any, mmio_write, 1, 2};

static uint64_t rom_read(void *dev, uint64_t offset, unsigned size) {
    struct vga *v = dev;
    uint64_t value = 0;

    memcpy(&value, v->rom + offset, size);
    return value;
}

static const struct io_ops rom_ops = {rom_read, NULL, 1, 8};

/* ------------------------------------------------------------------ life */

static void bar_moved(struct pci_device *d, unsigned bar) {
    struct vga *v = (struct vga *)d;

    if (bar == 0 && v->config.place)
        v->config.place(v->config.opaque, d->bar[0].mapped ? d->bar[0].region.base : MEM_NOWHERE);
}

static int init(struct device *dev, struct error *err) {
    struct vga *v = (struct vga *)dev;

    if (dev->env.config)
        v->config = *(const struct vga_config *)dev->env.config;
    v->memory = v->config.memory;
    if (!v->memory) {
        v->memory = zero_alloc(VGA_MEMORY);
        v->own_memory = true;
    }
    if (!v->memory)
        return error_set(err, -ENOMEM, "device '%s': out of memory", dev->name);
    pci_init_header(&v->pci, 0x1234, 0x1111, 0x03000002, 0x1af4, 0x1100);
    pci_init_bar(&v->pci, 0, VGA_MEMORY, false, false, &vga_lfb_ops, "vga-memory");
    v->pci.config[PCI_BAR0] |= 8; /* prefetchable */
    pci_init_bar(&v->pci, 2, MMIO_SIZE, false, false, &mmio_ops, "vga-mmio");
    v->pci.bar_moved = bar_moved;
    edid_make(v->edid, sizeof(v->edid), BLACK_XRES, BLACK_YRES);
    if (v->config.rom_size) {
        v->rom = malloc(v->config.rom_size);
        if (!v->rom)
            return error_set(err, -ENOMEM, "device '%s': out of memory", dev->name);
        memcpy(v->rom, v->config.rom, v->config.rom_size);
        pci_init_rom(&v->pci, v->config.rom_size, &rom_ops, "vga-rom");
    }
    if (v->config.screen) {
        struct screen_source source = {.draw = vga_draw, .opaque = v};

        screen_set_source(v->config.screen, 0, &source);
    }
    return 0;
}

static void done(struct device *dev) {
    struct vga *v = (struct vga *)dev;

    pci_bus_detach(&v->pci);
    if (v->config.screen)
        screen_set_source(v->config.screen, 0, NULL);
    if (v->own_memory)
        zero_free(v->memory, VGA_MEMORY);
    free(v->rom);
}

static void reset(struct device *dev) {
    struct vga *v = (struct vga *)dev;

    pci_reset(&v->pci);
    v->misc = v->feature = v->seq_index = v->gr_index = v->cr_index = v->ar_index = 0;
    v->misc = MISC_COLOUR | MISC_RAM; /* colour monitors answer at 3dx from the start */
    v->ar_data = false;
    memset(v->seq, 0, sizeof(v->seq));
    memset(v->gr, 0, sizeof(v->gr));
    memset(v->cr, 0, sizeof(v->cr));
    memset(v->ar, 0, sizeof(v->ar));
    v->dac_mask = 0xff;
    v->dac_state = v->dac_read = v->dac_write = v->dac_sub = 0;
    memset(v->dac_cache, 0, sizeof(v->dac_cache));
    memset(v->dac, 0, sizeof(v->dac));
    memset(v->latch, 0, sizeof(v->latch));
    v->dispi_index = 0;
    memset(v->dispi, 0, sizeof(v->dispi));
    v->dispi[DISPI_ID] = DISPI_ID5;
    v->dispi[DISPI_BPP] = 8;
    v->font_dirty = true;
}

static void post_load(void *obj) {
    struct vga *v = obj;

    v->font_dirty = true;
    v->drawn_sign = 0;
    pci_post_load(&v->pci);
}

// clang-format off
static const struct state_desc vga_state = {
    .name = "vga",
    .version = 1,
    .struct_size = sizeof(struct vga),
    .post_load = post_load,
    .fields = (const struct state_field[]){
        STATE_SUB(struct vga, pci, &pci_device_state),
        STATE(struct vga, misc),
        STATE(struct vga, feature),
        STATE_MAX(struct vga, seq_index, 7),
        STATE_MAX(struct vga, gr_index, 15),
        STATE(struct vga, cr_index),
        STATE_MAX(struct vga, ar_index, 0x3f),
        STATE(struct vga, ar_data),
        STATE_BYTES(struct vga, seq),
        STATE_BYTES(struct vga, gr),
        STATE_BYTES(struct vga, cr),
        STATE_BYTES(struct vga, ar),
        STATE(struct vga, dac_mask),
        STATE_MAX(struct vga, dac_state, 3),
        STATE(struct vga, dac_read),
        STATE(struct vga, dac_write),
        STATE_MAX(struct vga, dac_sub, 2),
        STATE_BYTES(struct vga, dac_cache),
        STATE_BYTES(struct vga, dac),
        STATE_BYTES(struct vga, latch),
        STATE(struct vga, dispi_index),
        STATE_ARRAY(struct vga, dispi),
        STATE_END,
    },
};
// clang-format on

static const struct device_region regions[] = {
    {"vga-ports", DEVICE_PIO, 0x30, &ports_ops},
    {"vga-dispi", DEVICE_PIO, 4, &dispi_ops},
    {"vga-window", DEVICE_MMIO, 0x20000, &vga_window_ops},
    {0}};

const struct device_class vga_class = {
    .name = "vga",
    .help = "VGA with a linear framebuffer (Bochs' display interface)",
    .size = sizeof(struct vga),
    .state = &vga_state,
    .regions = regions,
    .init = init,
    .reset = reset,
    .done = done,
    .pci = true,
};
