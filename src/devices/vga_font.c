/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A font of 8x16 dots for text modes without firmware: the 256 characters of code page 437.
 *
 * A letter is drawn as 12 rows of 5 dots, one digit to the base of 32 each; the strokes are made
 * two dots wide. Lines and blocks are computed, accents are put over their letters.
 */
#include "devices/vga_internal.h"

#include <string.h>

enum { ROWS = 12, TOP = 2 };

// clang-format off
static const char glyph[256][ROWS + 1] = {
    [0x01] = "0vhrhhlrhv00", [0x02] = "0vvlvvrlvv00", [0x03] = "000avvve4000",
    [0x04] = "0004evvve400", [0x05] = "004e4lvl4e00", [0x06] = "004evvv4e000",
    [0x07] = "0000eee00000", [0x08] = "vvvvhhhvvvvv", [0x09] = "0000ehhhe000",
    [0x0a] = "vvvvhrrrhvvv", [0x0b] = "7135ehhhe000", [0x0c] = "ehhhe4e44000",
    [0x0d] = "755744csso00", [0x0e] = "f99f999bqo00", [0x0f] = "004lerel4000",
    [0x10] = "00gosusog000", [0x11] = "00137f731000", [0x12] = "04el444le400",
    [0x13] = "aaaaaaa0aa00", [0x14] = "fttttd555500", [0x15] = "eh8ehhe2he00",
    [0x16] = "00000000vvv0", [0x17] = "04el44le4v00", [0x18] = "04el44444400",
    [0x19] = "0444444le400", [0x1a] = "000042v24000", [0x1b] = "000048v84000",
    [0x1c] = "00000ggggv00", [0x1d] = "00000ava0000", [0x1e] = "00044eevv000",
    [0x1f] = "000vvee44000", [' '] = "000000000000", ['!'] = "444444404400",
    ['"'] = "aaa000000000", ['#'] = "0aavaavaa000", ['$'] = "4fkke555u400",
    ['%'] = "op12448gj300", ['&'] = "ciik8kliid00", ['\''] = "444000000000",
    ['('] = "248888884200", [')'] = "842222224800", ['*'] = "004leel40000",
    ['+'] = "00044v440000", [','] = "000000004448", ['-'] = "00000v000000",
    ['.'] = "000000004400", ['/'] = "11224488gg00", ['0'] = "ehhjllphhe00",
    ['1'] = "4c4444444e00", ['2'] = "eh11248ggv00", ['3'] = "eh116111he00",
    ['4'] = "26aaiiv22200", ['5'] = "vggu1111he00", ['6'] = "68gguhhhhe00",
    ['7'] = "v11224488800", ['8'] = "ehhhehhhhe00", ['9'] = "ehhhhf112c00",
    [':'] = "000440004400", [';'] = "000440004448", ['<'] = "01248g842100",
    ['='] = "000v00v00000", ['>'] = "0g8421248g00", ['?'] = "eh1124404400",
    ['@'] = "ehhjlllnge00", ['A'] = "4aahhvhhhh00", ['B'] = "uhhhuhhhhu00",
    ['C'] = "ehgggggghe00", ['D'] = "uhhhhhhhhu00", ['E'] = "vggguggggv00",
    ['F'] = "vggguggggg00", ['G'] = "ehgggnhhhf00", ['H'] = "hhhhvhhhhh00",
    ['I'] = "e44444444e00", ['J'] = "72222222ic00", ['K'] = "hhikookihh00",
    ['L'] = "gggggggggv00", ['M'] = "hrrllhhhhh00", ['N'] = "hhpplljjhh00",
    ['O'] = "ehhhhhhhhe00", ['P'] = "uhhhhugggg00", ['Q'] = "ehhhhhhlid00",
    ['R'] = "uhhhhukihh00", ['S'] = "ehgge111he00", ['T'] = "v44444444400",
    ['U'] = "hhhhhhhhhe00", ['V'] = "hhhhhaaa4400", ['W'] = "hhhhhllrrh00",
    ['X'] = "hhaa44aahh00", ['Y'] = "hhaa44444400", ['Z'] = "v112448ggv00",
    ['['] = "e88888888e00", ['\\'] = "gg8844221100", [']'] = "e22222222e00",
    ['^'] = "4ah000000000", ['_'] = "00000000000v", ['`'] = "842000000000",
    ['a'] = "000e1fhhhf00", ['b'] = "ggguhhhhhu00", ['c'] = "000ehggghe00",
    ['d'] = "111fhhhhhf00", ['e'] = "000ehhvghe00", ['f'] = "6988u8888800",
    ['g'] = "000fhhhhhf1e", ['h'] = "ggguhhhhhh00", ['i'] = "040c44444e00",
    ['j'] = "0206222222ic", ['k'] = "ggghikokih00", ['l'] = "c44444444e00",
    ['m'] = "000qllllll00", ['n'] = "000uhhhhhh00", ['o'] = "000ehhhhhe00",
    ['p'] = "000uhhhhhugg", ['q'] = "000fhhhhhf11", ['r'] = "000mpggggg00",
    ['s'] = "000fgge11u00", ['t'] = "088u88889600", ['u'] = "000hhhhhhf00",
    ['v'] = "000hhhaa4400", ['w'] = "000hhhllla00", ['x'] = "000hha4ahh00",
    ['y'] = "000hhhhhhf1e", ['z'] = "000v1248gv00", ['{'] = "344484444300",
    ['|'] = "444444444400", ['}'] = "o44424444o00", ['~'] = "00009li00000",
    [0x7f] = "0004ahhhhv00", [0x91] = "000a5fkkkb00", [0x92] = "7kkkukkkkn00",
    [0x9b] = "004fkkkkf400", [0x9c] = "69888u888v00", [0x9d] = "hhaa4v4v4400",
    [0x9e] = "uhhilqiiih00", [0x9f] = "0254e4444480", [0xa6] = "e1fhf0v00000",
    [0xa7] = "ehhhe0v00000", [0xa8] = "4404488ghe00", [0xa9] = "0000vggg0000",
    [0xaa] = "0000v1110000", [0xab] = "gghi48m12470", [0xac] = "gghi4a6af220",
    [0xad] = "440444444400", [0xae] = "00005aka5000", [0xaf] = "0000ka5ak000",
    [0xe0] = "0000diiiid00", [0xe1] = "ehhiihhhuggg", [0xe2] = "vggggggggg00",
    [0xe3] = "0000vaaaaa00", [0xe4] = "vg842248gv00", [0xe5] = "0000fiiiic00",
    [0xe6] = "000hhhhhuggg", [0xe7] = "0000v4444200", [0xe8] = "4elllllle400",
    [0xe9] = "ehhhvhhhhe00", [0xea] = "ehhhhhaaar00", [0xeb] = "68846hhhhe00",
    [0xec] = "0000allla000", [0xed] = "0004ellle400", [0xee] = "000688e88600",
    [0xef] = "000ehhhhhh00", [0xf0] = "000v00v00v00", [0xf1] = "0044v4400v00",
    [0xf2] = "g84248g00v00", [0xf3] = "124842100v00", [0xf4] = "654444444444",
    [0xf5] = "44444444kc00", [0xf6] = "000440v04400", [0xf7] = "0009li9li000",
    [0xf8] = "699600000000", [0xf9] = "00000cc00000", [0xfa] = "000000400000",
    [0xfb] = "744444kkc400", [0xfc] = "uhhh00000000", [0xfd] = "e12cv0000000",
    [0xfe] = "000vvvvvv000",
};

static const struct {
    uint8_t ch, letter, above, above2; /* two rows of an accent */
} accented[] = {
    {0x81, 'u', 10, 0}, {0x82, 'e', 2, 4}, {0x83, 'a', 4, 10}, {0x84, 'a', 10, 0}, {0x85, 'a', 8, 4},
    {0x86, 'a', 4, 4}, {0x88, 'e', 4, 10}, {0x89, 'e', 10, 0}, {0x8a, 'e', 8, 4}, {0x8b, 'i', 10, 0},
    {0x8c, 'i', 4, 10}, {0x8d, 'i', 8, 4}, {0x8e, 'A', 10, 0}, {0x8f, 'A', 4, 4}, {0x90, 'E', 2, 4},
    {0x93, 'o', 4, 10}, {0x94, 'o', 10, 0}, {0x95, 'o', 8, 4}, {0x96, 'u', 4, 10}, {0x97, 'u', 8, 4},
    {0x98, 'y', 10, 0}, {0x99, 'O', 10, 0}, {0x9a, 'U', 10, 0}, {0xa0, 'a', 2, 4}, {0xa1, 'i', 2, 4},
    {0xa2, 'o', 2, 4}, {0xa3, 'u', 2, 4}, {0xa4, 'n', 13, 22}, {0xa5, 'N', 13, 22},
};

/* From 0xb3 on: lines to the left, right, up, down: 0 none, 1 single, 2 double. */
static const char line[][5] = {
    "0011", "1011", "2011", "1022", "1002", "2001", "2022", "0022", "2002", "2020", "1020", "2010",
    "1001", "0110", "1110", "1101", "0111", "1100", "1111", "0211", "0122", "0220", "0202", "2220",
    "2202", "0222", "2200", "2222", "2210", "1120", "2201", "1102", "0120", "0210", "0201", "0102",
    "1122", "2211", "1010", "0101",
};
// clang-format on

static unsigned digit(char c) { return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a') + 10; }

static uint8_t row_of(unsigned bits) { return (uint8_t)(bits << 3 | bits << 2); }

static void draw_letter(uint8_t *out, const char *rows) {
    for (unsigned i = 0; i < ROWS && rows[i]; i++)
        out[TOP + i] |= row_of(digit(rows[i]));
}

static void draw_line(uint8_t *out, const char *way) {
    enum { LEFT, RIGHT, UP, DOWN };
    static const uint8_t dots[3] = {0, 0x18, 0x66};
    bool two_rows = way[LEFT] == '2' || way[RIGHT] == '2',
         two_columns = way[UP] == '2' || way[DOWN] == '2';

    for (unsigned y = 0; y < 16; y++) {
        if (y <= (two_rows ? 8u : 7u))
            out[y] |= dots[way[UP] - '0'];
        if (y >= (two_rows ? 6u : 7u))
            out[y] |= dots[way[DOWN] - '0'];
        if (y == 7 || (two_rows && (y == 6 || y == 8))) {
            bool single = y == 7;

            if (way[LEFT] == (single ? '1' : '2'))
                out[y] |= two_columns ? 0xfe : 0xf8;
            if (way[RIGHT] == (single ? '1' : '2'))
                out[y] |= two_columns ? 0x7f : 0x1f;
        }
    }
}

static void draw_block(uint8_t *out, unsigned ch) {
    static const uint8_t shade[3][2] = {{0x22, 0x88}, {0x55, 0xaa}, {0xdd, 0x77}};

    for (unsigned y = 0; y < 16; y++)
        switch (ch) {
        case 0xdb:
            out[y] = 0xff;
            break;
        case 0xdc:
            out[y] = y >= 8 ? 0xff : 0;
            break;
        case 0xdd:
            out[y] = 0xf0;
            break;
        case 0xde:
            out[y] = 0x0f;
            break;
        case 0xdf:
            out[y] = y < 8 ? 0xff : 0;
            break;
        default:
            out[y] = shade[ch - 0xb0][y & 1];
            break;
        }
}

static void draw_accented(uint8_t *out, unsigned i) {
    unsigned letter = accented[i].letter, top = letter < 'a' ? 0 : TOP;

    draw_letter(out, glyph[letter]);
    if (letter == 'i')
        out[TOP + 1] = 0; /* its dot */
    out[top] |= row_of(accented[i].above);
    out[top + 1] |= row_of(accented[i].above2);
}

void vga_font_make(uint8_t out[256 * 16]) {
    memset(out, 0, 256 * 16);
    for (unsigned ch = 0; ch < 256; ch++) {
        if (ch >= 0xb3 && ch - 0xb3 < sizeof(line) / sizeof(line[0]))
            draw_line(out + 16 * (size_t)ch, line[ch - 0xb3]);
        else if ((ch >= 0xb0 && ch <= 0xb2) || (ch >= 0xdb && ch <= 0xdf))
            draw_block(out + 16 * (size_t)ch, ch);
        else
            draw_letter(out + 16 * (size_t)ch, glyph[ch]);
    }
    for (unsigned i = 0; i < sizeof(accented) / sizeof(accented[0]); i++)
        draw_accented(out + 16 * (size_t)accented[i].ch, i);
    draw_letter(out + 16 * (size_t)0x80, glyph['C']); /* with a cedilla */
    draw_letter(out + 16 * (size_t)0x87, glyph['c']);
    for (unsigned ch = 0x80; ch <= 0x87; ch += 7) {
        out[16 * (size_t)ch + 12] = row_of(4);
        out[16 * (size_t)ch + 13] = row_of(12);
    }
}
