/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the VGA: what guests write in each kind of mode, and the dots that must come of it. */
#include "devices/vga.h"

#include <stdlib.h>

#include "devices/chip.h"
#include "devices/edid.h"
#include "devices/vga_internal.h"

extern const struct device_class vga_class;

enum { PORTS, DISPI, WINDOW };

static struct chip c;
static struct screen *s;
static uint8_t *memory;

static void out(unsigned port, uint8_t v) { chip_out(&c, PORTS, port - 0x3b0, v); }
static uint8_t in(unsigned port) { return chip_in(&c, PORTS, port - 0x3b0); }
static void indexed(unsigned port, uint8_t index, uint8_t v) {
    out(port, index);
    out(port + 1, v);
}
static void dispi(unsigned index, uint16_t v) {
    chip_write(&c, DISPI, 0, 2, index);
    chip_write(&c, DISPI, 1, 2, v);
}
static uint16_t get_dispi(unsigned index) {
    chip_write(&c, DISPI, 0, 2, index);
    return (uint16_t)chip_read(&c, DISPI, 1, 2);
}
static void poke(uint32_t at, uint8_t v) { chip_out(&c, WINDOW, at, v); }
static uint8_t peek(uint32_t at) { return chip_in(&c, WINDOW, at); }

static int set_up(void **state) {
    struct vga_config config;

    s = screen_new();
    memory = calloc(1, VGA_MEMORY);
    config = (struct vga_config){.memory = memory, .screen = s};
    chip_open(&c, &vga_class, &config);
    return 0;
}

static int tear_down(void **state) {
    chip_close(&c);
    screen_free(s);
    free(memory);
    return 0;
}

static uint32_t dot(unsigned x, unsigned y) {
    assert_true(x < s->width && y < s->height);
    return s->pixels[(size_t)y * s->width + x] & 0xffffff;
}

static void size_is(unsigned w, unsigned h) {
    screen_refresh(s);
    assert_int_equal(s->width, w);
    assert_int_equal(s->height, h);
}

/* The dots of a cell of 9x16 as a string, '#' for one colour. */
static void cell_is(unsigned col, unsigned row, uint32_t fg, uint32_t bg, const uint8_t glyph[16]) {
    for (unsigned y = 0; y < 16; y++)
        for (unsigned x = 0; x < 9; x++)
            assert_int_equal(dot(9 * col + x, 16 * row + y),
                             x < 8 && (glyph[y] >> (7 - x) & 1) ? fg : bg);
}

/* ------------------------------------------------------------------ text */

static void text_is_drawn_with_the_font_in_plane_2(void **state) {
    static const uint8_t mine[16] = {0x81, 0x42, 0x24, 0x18, [15] = 0xff};
    uint8_t font[256 * 16];

    vga_boot_text(c.dev);
    vga_font_make(font);
    poke(0x18000 + 2 * (80 + 3), 'A'); /* row 1, column 3 */
    poke(0x18000 + 2 * (80 + 3) + 1, 0x1e);
    size_is(720, 400);
    cell_is(3, 1, 0xffff55, 0x0000aa, font + 'A' * 16);
    cell_is(4, 1, 0xaaaaaa, 0, font + ' ' * 16);
    /* As a BIOS loads a font: plane 2 at a0000, then back. */
    indexed(0x3c4, 2, 4);
    indexed(0x3c4, 4, 6);
    indexed(0x3ce, 5, 0);
    indexed(0x3ce, 6, 4);
    for (unsigned i = 0; i < 16; i++)
        poke('A' * 32 + i, mine[i]);
    indexed(0x3c4, 2, 3);
    indexed(0x3c4, 4, 2);
    indexed(0x3ce, 5, 0x10);
    indexed(0x3ce, 6, 0xe);
    screen_refresh(s);
    cell_is(3, 1, 0xffff55, 0x0000aa, mine);
    assert_int_equal(peek(0x18000 + 2 * 83), 'A');
}

static void the_cursor_is_where_its_registers_say(void **state) {
    vga_boot_text(c.dev);
    indexed(0x3d4, 0xe, 0);
    indexed(0x3d4, 0xf, 81);
    screen_refresh(s);
    assert_int_equal(dot(9, 16 + 13), 0xaaaaaa);
    assert_int_equal(dot(9, 16 + 12), 0);
    indexed(0x3d4, 0xa, 0x20);
    screen_refresh(s);
    assert_int_equal(dot(9, 16 + 13), 0);
}

static void lines_reach_into_the_ninth_column(void **state) {
    vga_boot_text(c.dev);
    poke(0x18000, 0xc4);
    poke(0x18002, 'A');
    screen_refresh(s);
    assert_int_equal(dot(8, 7), 0xaaaaaa);
    for (unsigned y = 0; y < 16; y++)
        assert_int_equal(dot(17, y), 0);
}

static void a_changed_palette_shows_at_once(void **state) {
    vga_boot_text(c.dev);
    poke(0x18000, 0xdb);
    screen_refresh(s);
    assert_int_equal(dot(0, 0), 0xaaaaaa);
    out(0x3c8, 7);
    out(0x3c9, 63);
    out(0x3c9, 0);
    out(0x3c9, 32);
    screen_refresh(s);
    assert_int_equal(dot(0, 0), 0xff0082);
    out(0x3c7, 7);
    assert_int_equal(in(0x3c9), 63);
    assert_int_equal(in(0x3c9), 0);
    assert_int_equal(in(0x3c9), 32);
}

static void the_start_address_scrolls(void **state) {
    vga_boot_text(c.dev);
    poke(0x18000 + 2 * 80, 0xdb);
    indexed(0x3d4, 0xd, 80);
    screen_refresh(s);
    assert_int_equal(dot(0, 0), 0xaaaaaa);
}

static void a_screen_that_is_off_is_black(void **state) {
    vga_boot_text(c.dev);
    poke(0x18000, 0xdb);
    (void)in(0x3da);
    out(0x3c0, 0);
    screen_refresh(s);
    assert_int_equal(dot(0, 0), 0);
}

/* What a refresh without changes must not do. */
static void nothing_is_dirty_when_nothing_changes(void **state) {
    struct screen_watch w;

    vga_boot_text(c.dev);
    screen_refresh(s);
    screen_watch_add(s, &w);
    memset(w.dirty, 0, w.columns * w.rows);
    w.any = false;
    assert_false(screen_refresh(s));
    poke(0x18000 + 2 * (80 * 2 + 40), 'x');
    assert_true(screen_refresh(s));
    for (unsigned i = 0; i < w.columns * w.rows; i++) /* 360,32: one tile */
        assert_int_equal(w.dirty[i], i == w.columns * 2 + 360 / SCREEN_TILE_W);
    screen_watch_remove(s, &w);
}

/* ------------------------------------------------------------------ planes */

static void set_mode(uint8_t crtc_end, uint8_t offset, uint8_t max_scan, uint8_t mode,
                     uint8_t gmode, uint8_t gmisc, uint8_t smode) {
    vga_boot_text(c.dev);
    indexed(0x3d4, 0x11, 0x0c);
    indexed(0x3d4, 1, crtc_end);
    indexed(0x3d4, 7, 0x3e);
    indexed(0x3d4, 9, max_scan);
    indexed(0x3d4, 0x12, 0xdf);
    indexed(0x3d4, 0x13, offset);
    indexed(0x3d4, 0x17, mode);
    indexed(0x3d4, 0x18, 0xff);
    indexed(0x3ce, 5, gmode);
    indexed(0x3ce, 6, gmisc);
    indexed(0x3ce, 7, 0xf);
    indexed(0x3ce, 8, 0xff);
    indexed(0x3c4, 1, 1);
    indexed(0x3c4, 2, 0xf);
    indexed(0x3c4, 4, smode);
    memset(memory, 0, 1 << 18);
}

static void sixteen_colours_in_planes(void **state) { /* mode 12h */
    set_mode(0x4f, 0x28, 0x40, 0xe3, 0, 5, 6);
    indexed(0x3c4, 2, 0x5); /* planes 0 and 2 */
    poke(80 * 10 + 2, 0x81);
    size_is(640, 480);
    assert_int_equal(dot(16, 10), 0xaa00aa);
    assert_int_equal(dot(17, 10), 0);
    assert_int_equal(dot(23, 10), 0xaa00aa);
}

static void write_modes_of_the_planes(void **state) {
    set_mode(0x4f, 0x28, 0x40, 0xe3, 0, 5, 6);
    indexed(0x3ce, 1, 0xf); /* set/reset: colour 9 in the bits of the mask */
    indexed(0x3ce, 0, 9);
    indexed(0x3ce, 8, 0xf0);
    (void)peek(5);
    poke(5, 0);
    indexed(0x3ce, 1, 0);
    indexed(0x3ce, 8, 0x0f); /* write mode 2: colour 6 in the others */
    indexed(0x3ce, 5, 2);
    (void)peek(5);
    poke(5, 6);
    for (unsigned p = 0; p < 4; p++)
        assert_int_equal(memory[5 * 4 + p], (9 >> p & 1 ? 0xf0 : 0) | (6 >> p & 1 ? 0x0f : 0));
    indexed(0x3ce, 5, 1); /* write mode 1 copies all planes */
    (void)peek(5);
    poke(6, 0);
    assert_memory_equal(memory + 24, memory + 20, 4);
    indexed(0x3ce, 5, 8); /* read mode 1: where is colour 9? */
    indexed(0x3ce, 2, 9);
    assert_int_equal(peek(6), 0xf0);
    indexed(0x3ce, 5, 3); /* write mode 3: set/reset through the data as a mask, XOR */
    indexed(0x3ce, 3, 0x18);
    indexed(0x3ce, 8, 0xff);
    indexed(0x3ce, 0, 0xf);
    (void)peek(6);
    poke(6, 0x3c);
    for (unsigned p = 0; p < 4; p++)
        assert_int_equal(memory[24 + p], memory[20 + p] ^ 0x3c);
    indexed(0x3ce, 5, 0); /* rotation */
    indexed(0x3ce, 3, 1);
    poke(7, 0x81);
    assert_int_equal(memory[28], 0xc0);
}

static void two_hundred_fifty_six_colours(void **state) { /* mode 13h */
    set_mode(0x4f, 0x28, 0x41, 0xa3, 0x40, 5, 0xe);
    indexed(0x3d4, 7, 0x1f);
    indexed(0x3d4, 0x12, 0x8f);
    out(0x3c8, 200);
    out(0x3c9, 63);
    out(0x3c9, 63);
    out(0x3c9, 0);
    poke(320 * 7 + 11, 200);
    size_is(640, 400);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(dot(22 + i % 2, 14 + i / 2), 0xffff00);
    assert_int_equal(dot(24, 14), 0);
    assert_int_equal(dot(22, 16), 0);
    out(0x3c6, 0x7f); /* the pixel mask */
    screen_refresh(s);
    assert_int_equal(dot(22, 14), 0);
}

static void four_colours_of_the_old_adapter(void **state) { /* mode 4: even and odd lines apart */
    static const uint32_t colour[4] = {0, 0x0000aa, 0x00aa00, 0x00aaaa};

    set_mode(0x27, 0x14, 0xc1, 0xa2, 0x30, 0xf, 2);
    indexed(0x3d4, 7, 0x1f);
    indexed(0x3d4, 0x12, 0x8f);
    indexed(0x3c4, 1, 9);
    indexed(0x3c4, 2, 3);
    poke(0x18000 + 1, 0x1b);           /* line 0, dots 4 to 7: colours 0 1 2 3 */
    poke(0x18000 + 0x2000 + 80, 0xc0); /* line 3, dot 0 */
    size_is(640, 400);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(dot(8 + 2 * i, 0), colour[i]);
    assert_int_equal(dot(0, 6), 0x00aaaa);
    assert_int_equal(dot(0, 7), 0x00aaaa);
    assert_int_equal(dot(0, 4), 0);
}

static void the_split_screen_begins_at_address_0(void **state) {
    set_mode(0x4f, 0x28, 0x40, 0xe3, 0, 5, 6);
    poke(0, 0x80);
    indexed(0x3d4, 0xd, 80);
    screen_refresh(s);
    assert_int_equal(dot(0, 0), 0);
    indexed(0x3d4, 0x18, 99);
    indexed(0x3d4, 7, 0x2e);
    indexed(0x3d4, 9, 0);
    screen_refresh(s);
    assert_int_equal(dot(0, 99), 0);
    assert_int_equal(dot(0, 100), 0xffffff);
}

/* ------------------------------------------------------------------ the display interface */

static void enter(unsigned w, unsigned h, unsigned bpp) {
    vga_boot_text(c.dev);
    dispi(4, 0);
    dispi(1, (uint16_t)w);
    dispi(2, (uint16_t)h);
    dispi(3, (uint16_t)bpp);
    dispi(4, 0x41);
}

static void direct_colours_of_all_depths(void **state) {
    static const struct {
        unsigned bpp, bytes;
        uint32_t value, rgb;
    } depth[] = {{32, 4, 0x12345678, 0x345678},
                 {24, 3, 0x123456, 0x123456},
                 {16, 2, 0xf81f, 0xff00ff},
                 {15, 2, 0x03e0, 0x00ff00}};

    for (unsigned i = 0; i < 4; i++) {
        enter(800, 600, depth[i].bpp);
        memcpy(memory + (800 * 5 + 7) * depth[i].bytes, &depth[i].value, depth[i].bytes);
        size_is(800, 600);
        assert_int_equal(dot(7, 5), depth[i].rgb);
        assert_int_equal(dot(8, 5), 0);
    }
}

static void banks_reach_all_of_the_memory(void **state) {
    enter(1024, 768, 8);
    dispi(5, 3);
    poke(0x1234, 0x5a);
    assert_int_equal(memory[0x31234], 0x5a);
    assert_int_equal(peek(0x1234), 0x5a);
    dispi(5, 0);
    assert_int_equal(peek(0x1234), 0);
}

static void the_screen_moves_over_a_larger_one(void **state) {
    enter(640, 480, 32);
    dispi(6, 1024);
    dispi(8, 10);
    dispi(9, 20);
    memory[(1024 * 20 + 10) * 4] = 0xff;
    size_is(640, 480);
    assert_int_equal(dot(0, 0), 0xff);
}

static void what_does_not_fit_is_made_to(void **state) {
    enter(2560, 65535, 32);
    assert_int_equal(get_dispi(2), 1600);
    dispi(6, 60000);
    assert_true((uint32_t)get_dispi(6) * 4 * get_dispi(2) <= VGA_MEMORY);
    dispi(9, 65535);
    assert_int_equal(get_dispi(9), 0);
    enter(3, 0, 77);
    assert_int_equal(get_dispi(1), 8);
    assert_int_equal(get_dispi(3), 8);
    dispi(4, 3);
    assert_int_equal(get_dispi(1), 2560);
    assert_int_equal(get_dispi(3), 32);
    assert_int_equal(get_dispi(10), VGA_MEMORY >> 16);
}

static void memory_is_cleared_unless_it_is_to_stay(void **state) {
    enter(640, 480, 32);
    memory[0] = 1;
    dispi(4, 0);
    dispi(4, 0xc1);
    assert_int_equal(memory[0], 1);
    dispi(4, 0);
    dispi(4, 0x41);
    assert_int_equal(memory[0], 0);
    dispi(0, 0xb0c4);
    assert_int_equal(get_dispi(0), 0xb0c4);
    dispi(0, 0xb0c9);
    assert_int_equal(get_dispi(0), 0xb0c4);
}

static void the_monitor_describes_itself(void **state) {
    const struct io_ops *mmio = ((struct vga *)c.dev)->pci.bar[2].region.ops;
    uint8_t sum = 0;

    for (unsigned i = 0; i < EDID_SIZE; i++)
        sum = (uint8_t)(sum + mmio->read(c.dev, i, 1));
    assert_int_equal(sum, 0);
    assert_int_equal(mmio->read(c.dev, 0, 2), 0xff00);
    assert_int_equal(mmio->read(c.dev, 0x500, 2), 0xb0c5);
    mmio->write(c.dev, 0x502, 2, 640);
    assert_int_equal(get_dispi(1), 640);
    mmio->write(c.dev, 0x404, 1, 2); /* sequencer index by its other way */
    assert_int_equal(in(0x3c4), 2);
}

static void the_retrace_comes_sixty_times_a_second(void **state) {
    unsigned edges = 0;
    bool was = false;

    for (unsigned i = 0; i < 10000; i++) {
        bool is = in(0x3da) & 8;

        edges += is && !was;
        was = is;
        chip_step(&c, 100000);
    }
    assert_in_range(edges, 59, 61);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(text_is_drawn_with_the_font_in_plane_2),
        T(the_cursor_is_where_its_registers_say),
        T(lines_reach_into_the_ninth_column),
        T(a_changed_palette_shows_at_once),
        T(the_start_address_scrolls),
        T(a_screen_that_is_off_is_black),
        T(nothing_is_dirty_when_nothing_changes),
        T(sixteen_colours_in_planes),
        T(write_modes_of_the_planes),
        T(two_hundred_fifty_six_colours),
        T(four_colours_of_the_old_adapter),
        T(the_split_screen_begins_at_address_0),
        T(direct_colours_of_all_depths),
        T(banks_reach_all_of_the_memory),
        T(the_screen_moves_over_a_larger_one),
        T(what_does_not_fit_is_made_to),
        T(memory_is_cleared_unless_it_is_to_stay),
        T(the_monitor_describes_itself),
        T(the_retrace_comes_sixty_times_a_second),
    };

    return chip_run(tests);
}
