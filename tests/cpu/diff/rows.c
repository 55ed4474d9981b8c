/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Encodings of every row of the instruction table, found by decoding all opcodes, and the rows that
 * the differential test has to leave out.
 */
#include "cpu/diff/rows.h"

#include <stdlib.h>
#include <string.h>

enum { TEMPLATES_PER_ROW = 24 };

struct row_set {
    struct row_template template[TEMPLATES_PER_ROW];
    uint32_t seen;
};

struct row_book {
    struct row_set *set[DIFF_MODES];
};

static const uint8_t vex_pp[4] = {0, 0x66, 0xf3, 0xf2};

unsigned row_encode_start(const struct row_template *t, const uint8_t prefixes[4], uint8_t rex,
                          uint8_t *out) {
    unsigned n = 0;

    for (unsigned i = 0; i < 4 && prefixes[i]; i++)
        out[n++] = prefixes[i];
    if (t->vex) {
        out[n++] = 0xc4;
        out[n++] = (uint8_t)((~rex & 7) << 5 | t->map);
        out[n++] = (uint8_t)(t->w << 7 | (~t->vvvv & 15) << 3 | t->l << 2 | t->pp);
        out[n++] = t->opcode;
        return n;
    }
    if (t->pp)
        out[n++] = vex_pp[t->pp];
    if (rex)
        out[n++] = rex;
    if (t->map)
        out[n++] = 0x0f;
    if (t->map >= 2)
        out[n++] = t->map == 2 ? 0x38 : 0x3a;
    out[n++] = t->opcode;
    return n;
}

static void note(struct row_book *book, const struct row_template *t, unsigned mode,
                 struct rng *r) {
    static const uint8_t none[4];
    uint8_t bytes[32] = {0}, rex = 0;
    struct insn in;
    struct row_set *set;
    unsigned n;

    if (t->vex)
        rex = 0;
    else if (mode == 8 && (t->w || t->rexb))
        rex = (uint8_t)(0x40 | t->w << 3 | t->rexb);
    n = row_encode_start(t, none, rex, bytes);
    bytes[n] = t->modrm;
    if (insn_decode(&in, bytes, 15, mode) <= 0)
        return;
    set = &book->set[diff_mode_index(mode)][in.row - insn_rows];
    set->seen++;
    if (set->seen <= TEMPLATES_PER_ROW)
        set->template[set->seen - 1] = *t;
    else if (rng_below(r, set->seen) < TEMPLATES_PER_ROW)
        set->template[rng_below(r, TEMPLATES_PER_ROW)] = *t;
}

/* rm 4 with mod 0 so that VSIB rows are met too; mod 3 with every rm. */
static void note_modrms(struct row_book *book, struct row_template *t, unsigned mode,
                        struct rng *r) {
    for (unsigned reg = 0; reg < 8; reg++) {
        t->modrm = (uint8_t)(reg << 3 | 4);
        note(book, t, mode, r);
        for (unsigned rm = 0; rm < 8; rm++) {
            t->modrm = (uint8_t)(0xc0 | reg << 3 | rm);
            note(book, t, mode, r);
        }
    }
}

static void note_map(struct row_book *book, unsigned mode, bool vex, unsigned map, struct rng *r) {
    for (unsigned opcode = 0; opcode < 256; opcode++)
        for (unsigned v = 0; v < 64; v++) {
            struct row_template t = {.vex = vex,
                                     .map = (uint8_t)map,
                                     .opcode = (uint8_t)opcode,
                                     .pp = v & 3,
                                     .w = v >> 2 & 1,
                                     .l = v >> 3 & 1,
                                     .rexb = v >> 4 & 1,
                                     .vvvv = v & 32 ? 3 : 0};
            bool escape = !map && (opcode == 0x0f || (opcode & 0xfe) == 0xc4) && mode == 8;
            if (escape || (vex ? t.rexb : t.l || t.vvvv) || (!vex && mode != 8 && (t.w || t.rexb)))
                continue;
            note_modrms(book, &t, mode, r);
        }
}

struct row_book *row_book_new(void) {
    struct row_book *book = calloc(1, sizeof(*book));
    struct rng r = rng_seed(1);

    for (unsigned m = 0; m < DIFF_MODES; m++) {
        unsigned mode = 8u >> m;
        book->set[m] = calloc(insn_row_count, sizeof(*book->set[m]));
        for (unsigned map = 0; map < 4; map++)
            note_map(book, mode, false, map, &r);
        for (unsigned map = 1; map < 4; map++)
            note_map(book, mode, true, map, &r);
    }
    return book;
}

void row_book_free(struct row_book *book) {
    for (unsigned m = 0; m < DIFF_MODES; m++)
        free(book->set[m]);
    free(book);
}

bool row_exists(const struct row_book *book, unsigned row, unsigned mode) {
    return book->set[diff_mode_index(mode)][row].seen > 0;
}

const struct row_template *row_pick(const struct row_book *book, unsigned row, unsigned mode,
                                    struct rng *r) {
    const struct row_set *set = &book->set[diff_mode_index(mode)][row];

    return &set->template[rng_below(r,
                                    set->seen < TEMPLATES_PER_ROW ? set->seen : TEMPLATES_PER_ROW)];
}

const char *diff_row_excluded(const struct insn_row *row) {
    switch (row->id) {
    case INSN_INVALID:
        return "is no instruction";
    case INSN_SYSCALL:
    case INSN_SYSENTER:
        return "enters the host's kernel";
    case INSN_VMCALL:
    case INSN_VMMCALL:
        return "calls the host's hypervisor";
    case INSN_CPUID:
    case INSN_XGETBV:
    case INSN_RDPID:
        return "tells the host's configuration";
    case INSN_RDTSC:
    case INSN_RDTSCP:
    case INSN_RDPMC:
    case INSN_RDRAND:
    case INSN_RDSEED:
        return "never gives the same twice";
    case INSN_RDPKRU:
    case INSN_WRPKRU:
        return "protection keys are not in the model";
    case INSN_SGDT:
    case INSN_SIDT:
    case INSN_SLDT:
    case INSN_STR:
    case INSN_SMSW:
        return "is emulated by the host's kernel (UMIP)";
    default:
        return NULL;
    }
}
