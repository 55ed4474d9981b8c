/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sets graphics modes as a boot loader would, through the registers of Bochs' display interface. */
#include "machine/boot_screen.h"

#include "devices/vga.h"
#include "machine/board.h"

enum { PORT_INDEX = 0x1ce, PORT_DATA = 0x1cf };
enum { XRES = 1, YRES, BPP, ENABLE, ENABLED = 1, LINEAR = 0x40, CAPS = 2 };
enum { USUAL_WIDTH = 1024, USUAL_HEIGHT = 768 };

static unsigned get(struct board *b, unsigned index) {
    io_write(&b->pio, PORT_INDEX, 2, index);
    return (unsigned)io_read(&b->pio, PORT_DATA, 2);
}

static void set(struct board *b, unsigned index, unsigned value) {
    io_write(&b->pio, PORT_INDEX, 2, index);
    io_write(&b->pio, PORT_DATA, 2, value);
}

static unsigned at_most(uint32_t wish, unsigned usual, unsigned most) {
    return !wish ? usual : wish > most ? most : wish;
}

bool boot_screen_set(void *board, uint32_t width, uint32_t height, uint32_t depth,
                     struct boot_framebuffer *ret) {
    struct board *b = board;
    unsigned x, y;

    if (!b->vga)
        return false;
    set(b, ENABLE, CAPS);
    x = at_most(width, USUAL_WIDTH, get(b, XRES));
    y = at_most(height, USUAL_HEIGHT, get(b, YRES));
    set(b, ENABLE, 0);
    set(b, XRES, x);
    set(b, YRES, y);
    set(b, BPP, depth == 16 || depth == 24 ? depth : 32);
    set(b, ENABLE, ENABLED | LINEAR);
    *ret = (struct boot_framebuffer){.width = get(b, XRES), .height = get(b, YRES)};
    ret->depth = get(b, BPP);
    ret->pitch = ret->width * (ret->depth / 8);
    ret->address = ((const struct pci_device *)b->vga)->bar[0].region.base;
    return true;
}
