/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random programs on the interpreter and on the translator must end alike.
 *
 * usage: test_cpu_twin [PROGRAMS [SEED]]    (or VIV_TWIN_PROGRAMS, VIV_TWIN_SEED in the
 * environment) A program is a loop over random instructions, hot from the first rounds on: memory
 * operands around page ends, pages that vanish, become read-only or move, stores into its own code,
 * calls, strings, vectors, MMIO, interrupts from another thread at any time. Half of the programs
 * run at level 3. The same seed gives the same programs; a failure prints the seed of its own
 * program.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/trace.h"
#include "cpu/twin.h"
#include "support/test.h"

enum {
    CODE = 0x140000,       /* three pages */
    CODE_ALIAS = 0x1c0000, /* the same ones, to write through */
    DATA = 0x100000,       /* sixteen pages */
    STACK = 0x1a0000,      /* of the program, four pages below */
    CONSTANTS = 0x160000,  /* values for LDMXCSR */
    END_RSP = 0x162000,
    MMIO = 0x1f0000,
    HANDLERS = 0x71000,
    FRAMES = 0x3e000, /* stack of all handlers: frames hold stale flags, so they are not compared */
    DONE = 0x42,
    CODE_MAX = 3 * 4096 - 256,
    IMMEDIATES = 64,
    FUNCTIONS = 3,
};

struct program {
    struct rng r;
    bool user;
    uint8_t code[CODE_MAX + 256];
    unsigned n, start;                          /* bytes so far; offset in CODE */
    unsigned immediate[IMMEDIATES], immediates; /* offsets of bytes that may be overwritten */
    unsigned function[FUNCTIONS];
    unsigned depth;
};

static unsigned below(struct program *p, unsigned n) { return (unsigned)rng_below(&p->r, n); }
static bool chance(struct program *p, unsigned in) { return below(p, in) == 0; }

static void put(struct program *p, uint64_t v, unsigned size) {
    if (p->n + size < sizeof(p->code))
        memcpy(p->code + p->n, &v, size);
    p->n += size;
}
static void put1(struct program *p, unsigned v) { put(p, v, 1); }

/* Registers: RBX, RBP, RDI and R14 point to data, RSI is a small index, R13 counts, RSP is the
 * stack; the others are free. */
static unsigned free_reg(struct program *p) {
    static const uint8_t reg[] = {0, 1, 2, 8, 9, 10, 11, 12, 15, 15};

    return reg[below(p, sizeof(reg))];
}
static unsigned any_reg(struct program *p) { return below(p, 16); }

/* ---- operands ---- */

struct form {
    unsigned rex; /* W and what `reg` needs */
    bool memory;  /* not a register in rm */
    unsigned rm, reg;
    bool index15; /* R15 is the index: set before */
    unsigned kind;
    unsigned scale, prefix;
    int32_t disp;
};

/* Chooses a memory operand; some need an instruction in front. */
static void choose_memory(struct program *p, struct form *f) {
    static const uint8_t base[] = {3, 5, 7, 14, 14, 3};

    f->memory = true;
    f->kind = below(p, 12); /* 0, 1 index; 2 absolute; 3 RIP; 4 FS; 5 RSP; 6 address size 32 */
    f->rm = base[below(p, sizeof(base))];
    f->scale = below(p, 4);
    f->disp = chance(p, 3) ? (int32_t)below(p, 8400) - 4200 : (int32_t)below(p, 64) - 32;
    if (f->kind == 1) {
        put1(p, 0x41); /* mov $small, %r15d */
        put1(p, 0xbf);
        put(p, below(p, 80), 4);
    }
}

static void put_prefixes(struct program *p, const struct form *f, unsigned opsize,
                         unsigned mandatory) {
    if (f->memory && f->kind == 4)
        put1(p, 0x64);
    if (f->memory && f->kind == 6)
        put1(p, 0x67);
    if (opsize == 2)
        put1(p, 0x66);
    if (mandatory)
        put1(p, mandatory);
}

static unsigned rex_of(const struct form *f, unsigned opsize) {
    unsigned rex = 0x40 | (opsize == 8) << 3 | (f->reg >> 3) << 2;

    if (!f->memory)
        return rex | f->rm >> 3;
    if (f->kind == 1)
        rex |= 2;
    if (f->kind != 2 && f->kind != 3 && f->kind != 4 && f->kind != 5)
        rex |= f->rm >> 3;
    return rex;
}

/* ModRM and what follows; `after`: bytes of immediate behind it. */
static void put_modrm(struct program *p, const struct form *f, unsigned after) {
    unsigned reg = (f->reg & 7) << 3;

    if (!f->memory) {
        put1(p, 0xc0 | reg | (f->rm & 7));
        return;
    }
    switch (f->kind) {
    case 0: /* RSI as index */
    case 1:
        put1(p, 0x84 | reg);
        put1(p, f->scale << 6 | (f->kind ? 7 : 6) << 3 | (f->rm & 7));
        put(p, (uint32_t)f->disp, 4);
        break;
    case 2:
    case 4: /* [disp32]; FS has a base */
        put1(p, 4 | reg);
        put1(p, 0x25);
        put(p, (f->kind == 2 ? DATA : 0) + 0x3000 + (uint32_t)(f->disp & 0x1fff), 4);
        break;
    case 3:
        put1(p, 5 | reg);
        put(p, DATA + 0x5000 + (uint32_t)(f->disp & 0x1fff) - (CODE + p->start + p->n + 4 + after),
            4);
        break;
    case 5:
        put1(p, 0x84 | reg);
        put1(p, 0x24);
        put(p, (uint32_t)(-40 - (f->disp & 127)), 4); /* not what the program has pushed */
        break;
    default:
        if (f->disp >= -128 && f->disp < 128) {
            put1(p, 0x40 | reg | (f->rm & 7));
            put1(p, (uint8_t)f->disp);
        } else {
            put1(p, 0x80 | reg | (f->rm & 7));
            put(p, (uint32_t)f->disp, 4);
        }
    }
}

static unsigned choose_opsize(struct program *p) {
    static const uint8_t size[] = {1, 2, 4, 8, 8, 4};

    return size[below(p, sizeof(size))];
}

/* One instruction of the form opcode /r. to_rm: rm is the destination; writes: it changes it. */
static void put_rm(struct program *p, unsigned map, unsigned opcode, unsigned opsize,
                   bool reg_written, bool rm_written, int digit, unsigned imm, bool lockable,
                   unsigned mandatory) {
    struct form f = {0};

    if (chance(p, 2)) {
        choose_memory(p, &f);
    } else {
        f.rm = rm_written ? free_reg(p) : any_reg(p);
        lockable = false;
    }
    f.reg = digit >= 0 ? (unsigned)digit : reg_written ? free_reg(p) : any_reg(p);
    if (lockable && chance(p, 4))
        put1(p, 0xf0);
    put_prefixes(p, &f, opsize, mandatory);
    put1(p, rex_of(&f, opsize));
    if (map)
        put1(p, 0x0f);
    put1(p, opcode);
    put_modrm(p, &f, imm);
    if (imm)
        put(p, rng_next(&p->r), imm);
}

/* ---- integer instructions ---- */

static void item_alu(struct program *p) {
    unsigned op = below(p, 8), form = below(p, 4), opsize = form & 1 ? choose_opsize(p) : 1;

    if (opsize == 1)
        form &= 2;
    put_rm(p, 0, op * 8 + form, opsize, form >= 2 && op != 7, form < 2 && op != 7, -1, 0,
           form < 2 && op != 7, 0);
}

static void item_alu_imm(struct program *p) {
    unsigned op = below(p, 8), opsize = choose_opsize(p);

    if (opsize == 1)
        put_rm(p, 0, 0x80, 1, false, op != 7, (int)op, 1, op != 7, 0);
    else if (chance(p, 2))
        put_rm(p, 0, 0x83, opsize, false, op != 7, (int)op, 1, op != 7, 0);
    else
        put_rm(p, 0, 0x81, opsize, false, op != 7, (int)op, opsize == 2 ? 2 : 4, op != 7, 0);
}

static void item_mov(struct program *p) {
    unsigned form = below(p, 4), opsize = form & 1 ? choose_opsize(p) : 1;

    if (opsize == 1)
        form &= 2;
    put_rm(p, 0, 0x88 + form, opsize, form >= 2, form < 2, -1, 0, false, 0);
}

/* ADC %eax, %eax: takes CF and defines the rest, of which processors make what they like. */
static void define_flags(struct program *p) { put(p, 0xc011, 2); }

static void item_unary(struct program *p) {
    static const uint8_t digits[] = {2, 3, 4, 5};
    unsigned opsize = choose_opsize(p), kind = below(p, 3);

    if (kind == 0) /* INC, DEC */
        put_rm(p, 0, opsize == 1 ? 0xfe : 0xff, opsize, false, true, (int)below(p, 2), 0, true, 0);
    else { /* NOT NEG MUL IMUL */
        unsigned digit = digits[below(p, 4)];
        put_rm(p, 0, opsize == 1 ? 0xf6 : 0xf7, opsize, false, digit < 4, (int)digit, 0, digit < 4,
               0);
        if (digit >= 4)
            define_flags(p);
    }
}

static void item_shift(struct program *p) {
    static const uint8_t digits[] = {0, 1, 2, 3, 4, 5, 7};
    unsigned opsize = choose_opsize(p), digit = digits[below(p, 7)], form = below(p, 3);
    bool defined = form == 2; /* OF, by one bit alone */

    if (form == 1 && chance(p, 3)) { /* mov $0 or 64, %cl: nothing is shifted, no flag changes */
        defined = true;
        put1(p, 0xb1);
        put1(p, below(p, 2) * 64);
    }
    put_rm(p, 0,
           (form == 0   ? 0xc0
            : form == 1 ? 0xd2
                        : 0xd0) +
               (opsize != 1),
           opsize, false, true, (int)digit, form == 0 ? 1 : 0, false, 0);
    if (!defined)
        define_flags(p);
}

static void item_two_byte(struct program *p) {
    unsigned opsize = 4u << below(p, 2);

    switch (below(p, 12)) {
    case 0:
        put_rm(p, 1, 0x40 + below(p, 16), opsize, true, false, -1, 0, false, 0); /* CMOVcc */
        break;
    case 1:
        put_rm(p, 1, 0x90 + below(p, 16), 1, false, true, 0, 0, false, 0); /* SETcc */
        break;
    case 2: {
        static const uint8_t opcode[] = {0xb6, 0xb7, 0xbe, 0xbf};
        put_rm(p, 1, opcode[below(p, 4)], opsize, true, false, -1, 0, false, 0);
        break;
    }
    case 3:
        put_rm(p, 1, 0xaf, opsize, true, false, -1, 0, false, 0); /* IMUL */
        define_flags(p);
        break;
    case 4:
        put_rm(p, 1, 0xba, opsize, false, true, 4 + (int)below(p, 4), 1, false, 0); /* BT.. */
        put(p, 0xc019, 2); /* sbb %eax, %eax: takes CF and defines the rest, which BT may lose */
        break;
    case 5: /* XADD, CMPXCHG */
        put_rm(p, 1, 0xc1, opsize, true, true, -1, 0, true, 0);
        break;
    case 6:
        put_rm(p, 1, 0xb1, opsize, false, true, -1, 0, true, 0);
        break;
    case 7:
        put_rm(p, 0, opsize == 4 ? 0x87 : 0x86, opsize == 4 ? 4 : 1, true, true, -1, 0, false, 0);
        break;
    case 8: /* SHLD, SHRD */
        put_rm(p, 1, chance(p, 2) ? 0xa4 : 0xac, opsize, false, true, -1, 1, false, 0);
        define_flags(p);
        break;
    case 9: /* POPCNT, TZCNT, LZCNT */
        put_rm(p, 1, chance(p, 2) ? 0xb8 : 0xbc + below(p, 2), opsize, true, false, -1, 0, false,
               0xf3);
        define_flags(p);
        break;
    case 10: { /* BSWAP */
        unsigned reg = free_reg(p);
        put1(p, 0x40 | (opsize == 8) << 3 | reg >> 3);
        put1(p, 0x0f);
        put1(p, 0xc8 | (reg & 7));
        break;
    }
    default: { /* LEA */
        struct form f = {.reg = free_reg(p)};
        choose_memory(p, &f);
        if (f.kind == 4)
            f.kind = 7;
        put_prefixes(p, &f, opsize, 0);
        put1(p, rex_of(&f, opsize));
        put1(p, 0x8d);
        put_modrm(p, &f, 0);
    }
    }
}

/* An addition whose immediate other instructions overwrite. */
static void item_immediate(struct program *p) {
    unsigned reg = free_reg(p);

    put1(p, 0x48 | reg >> 3);
    put1(p, 0x81);
    put1(p, 0xc0 | (reg & 7));
    if (p->immediates < IMMEDIATES)
        p->immediate[p->immediates++] = p->n + below(p, 3);
    put(p, below(p, 0x10000), 4);
}

static void item_smc(struct program *p) {
    uint32_t at = CODE + p->start;

    if (!p->immediates)
        return;
    at += p->immediate[below(p, p->immediates)];
    if (chance(p, 2))
        at += CODE_ALIAS - CODE;
    if (!chance(p, 4)) { /* once in a while: cmp $x, %r13b; jne over it */
        static const uint8_t over[] = {0x41, 0x80, 0xfd, 0x05, 0x75, 8};
        put(p, *(const uint32_t *)over, 4);
        put(p, over[4] | over[5] << 8, 2);
    }
    if (chance(p, 3)) { /* add to it, set it */
        put(p, 0x250480, 3);
        put(p, at, 4);
        put1(p, 1);
    } else {
        put(p, 0x2504c6, 3);
        put(p, at, 4);
        put1(p, below(p, 128));
    }
}

/* ---- stack, control flow ---- */

static void item_stack(struct program *p) {
    unsigned reg = any_reg(p), to = free_reg(p);

    put1(p, 0x40 | reg >> 3);
    put1(p, 0x50 | (reg & 7));
    switch (below(p, 5)) {
    case 0: /* pushfq; popfq */
        put(p, 0x9d9c, 2);
        break;
    case 1: /* push $imm; pop %rax */
        put1(p, 0x68);
        put(p, rng_next(&p->r), 4);
        put1(p, 0x58);
        break;
    case 2: { /* push memory, pop memory */
        struct form f = {.reg = 6};
        choose_memory(p, &f);
        put_prefixes(p, &f, 4, 0);
        put1(p, rex_of(&f, 4));
        put1(p, 0xff);
        put_modrm(p, &f, 0);
        f.reg = 0;
        put_prefixes(p, &f, 4, 0);
        put1(p, rex_of(&f, 4));
        put1(p, 0x8f);
        put_modrm(p, &f, 0);
        break;
    }
    case 3: /* push %rbp; mov %rsp, %rbp; leave */
        put(p, 0xe5894855, 4);
        put1(p, 0xc9);
        break;
    }
    put1(p, 0x40 | to >> 3);
    put1(p, 0x58 | (to & 7));
}

static void item(struct program *p);

static void items(struct program *p, unsigned n) {
    for (unsigned i = 0; i < n && p->n < CODE_MAX - 400; i++)
        item(p);
}

static void item_jump(struct program *p) {
    unsigned at, kind = below(p, 5);

    if (p->depth >= 2)
        return;
    p->depth++;
    switch (kind) {
    case 0:
    case 1: /* Jcc over some items */
        put1(p, 0x0f);
        put1(p, 0x80 | below(p, 16));
        put(p, 0, 4);
        at = p->n;
        items(p, 1 + below(p, 4));
        memcpy(p->code + at - 4, &(uint32_t){p->n - at}, 4);
        break;
    case 2: /* a short loop */
        put1(p, 0xb9);
        put(p, 1 + below(p, 4), 4);
        at = p->n;
        put1(p, 0x51); /* push %rcx */
        items(p, 1 + below(p, 2));
        put1(p, 0x59);
        if (p->n - at < 100 && chance(p, 2)) {
            put1(p, 0xe2); /* LOOP */
            put1(p, (uint8_t)(at - (p->n + 1)));
        } else {
            put(p, 0xe983, 2);
            put1(p, 1);
            put(p, 0x850f, 2);
            put(p, at - (p->n + 4), 4);
        }
        break;
    case 3: /* lea over(%rip), %r15; push %r15; ret, or jmp *%r15 */
        put(p, 0x3d8d4c, 3);
        put(p, 0, 4);
        at = p->n;
        if (chance(p, 2))
            put(p, 0xc35741, 3);
        else
            put(p, 0xe7ff41, 3);
        put1(p, 0xcc);
        memcpy(p->code + at - 4, &(uint32_t){p->n - at}, 4);
        break;
    default: { /* call a function, directly or through R15 */
        unsigned f = p->function[below(p, FUNCTIONS)];
        if (!f)
            break;
        if (chance(p, 2)) {
            put1(p, 0xe8);
            put(p, f - (p->n + 4), 4);
        } else {
            put(p, 0x3d8d4c, 3);
            put(p, f - (p->n + 4), 4);
            put(p, 0xd7ff41, 3);
        }
    }
    }
    p->depth--;
}

/* ---- vectors, x87 ---- */

static void put_vex(struct program *p, struct form *f, unsigned pp, unsigned opcode, unsigned l,
                    unsigned vvvv) {
    unsigned rex = rex_of(f, 4);

    put_prefixes(p, f, 4, 0);
    put1(p, 0xc4);
    put1(p, (~rex & 7) << 5 | 1);
    put1(p, (~vvvv & 15) << 3 | l << 2 | pp);
    put1(p, opcode);
    put_modrm(p, f, 0);
}

static void item_vector(struct program *p) {
    static const uint8_t vex[][2] = {{0, 0x58}, {0, 0x59}, {0, 0x5c}, {1, 0x58},
                                     {1, 0xfe}, {1, 0xef}, {1, 0xd4}, {0, 0x5d},
                                     {1, 0x60}, {0, 0x14}, {1, 0x76}};
    static const uint8_t move[][2] = {{0, 0x10}, {0, 0x11}, {2, 0x6f},
                                      {2, 0x7f}, {1, 0x10}, {1, 0x11}};
    struct form f = {.reg = below(p, 16)};
    unsigned kind = below(p, 7), pick;

    if (kind != 1 && kind != 4 && chance(p, 2))
        choose_memory(p, &f);
    else
        f.rm = below(p, 16);
    switch (kind) {
    case 0: /* VEX arithmetic */
        pick = below(p, sizeof(vex) / sizeof(vex[0]));
        put_vex(p, &f, vex[pick][0], vex[pick][1], below(p, 2), below(p, 16));
        break;
    case 1: /* legacy arithmetic between registers */
        pick = below(p, sizeof(vex) / sizeof(vex[0]));
        put_prefixes(p, &f, vex[pick][0] ? 2 : 4, 0);
        put1(p, rex_of(&f, 4));
        put(p, 0x0f | vex[pick][1] << 8, 2);
        put_modrm(p, &f, 0);
        break;
    case 2: /* moves */
        pick = below(p, sizeof(move) / sizeof(move[0]));
        put_vex(p, &f, move[pick][0], move[pick][1], below(p, 2), 0);
        break;
    case 3: /* legacy moves, scalar arithmetic */
        pick = below(p, 4);
        put_prefixes(p, &f, 4, pick == 0 ? 0 : pick == 1 ? 0xf3 : 0xf2);
        put1(p, rex_of(&f, 4));
        put(p, 0x0f | (pick == 0 ? 0x10 + below(p, 2) : 0x58 + below(p, 2)) << 8, 2);
        put_modrm(p, &f, 0);
        break;
    case 4: /* MOVQ between vectors and general registers */
        f.rm = chance(p, 2) ? free_reg(p) : any_reg(p);
        pick = f.rm < 3 || (f.rm > 7 && f.rm < 13) || f.rm == 15;
        put1(p, 0x66);
        put1(p, rex_of(&f, 8));
        put(p, 0x0f | (pick && chance(p, 2) ? 0x7e : 0x6e) << 8, 2);
        put_modrm(p, &f, 0);
        break;
    case 5: /* UCOMISD: flags */
        put_prefixes(p, &f, 2, 0);
        put1(p, rex_of(&f, 4));
        put(p, 0x2e0f, 2);
        put_modrm(p, &f, 0);
        break;
    default: /* CVTTSD2SI */
        f.reg = free_reg(p);
        put_prefixes(p, &f, 4, 0xf2);
        put1(p, rex_of(&f, 8));
        put(p, 0x2c0f, 2);
        put_modrm(p, &f, 0);
    }
}

static void item_x87(struct program *p) {
    static const uint8_t op[] = {0, 1, 4, 6};
    struct form f = {0};

    put(p, 0xe3db, 2); /* fninit; fldl; an operation; fstpl */
    for (unsigned i = 0; i < 3; i++) {
        choose_memory(p, &f);
        f.reg = i == 1 ? op[below(p, 4)] : i == 2 ? 3 : 0;
        put_prefixes(p, &f, 4, 0);
        put1(p, rex_of(&f, 4));
        put1(p, i == 1 ? 0xdc : 0xdd);
        put_modrm(p, &f, 0);
    }
}

static void item_mxcsr(struct program *p) {
    if (chance(p, 2)) {
        put(p, 0x2514ae0f, 4);
        put(p, CONSTANTS + 4 * below(p, 8), 4);
    } else {
        struct form f = {.reg = 3};
        choose_memory(p, &f);
        put_prefixes(p, &f, 4, 0);
        put1(p, rex_of(&f, 4));
        put(p, 0xae0f, 2);
        put_modrm(p, &f, 0);
    }
}

/* ---- strings, pages, the rest ---- */

static uint32_t pointer(struct program *p) {
    return DATA + (2 + below(p, 12)) * 0x1000 + below(p, 80) - 40;
}

static void put_pointers(struct program *p) {
    put1(p, 0xbe); /* RSI */
    put(p, below(p, 64), 4);
    put1(p, 0xbf);
    put(p, pointer(p), 4);
}

static void item_string(struct program *p) {
    static const uint8_t op[] = {0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0xa6, 0xa7};
    bool down = chance(p, 6);

    put1(p, 0xb9);
    put(p, chance(p, 4) ? below(p, 3000) / 4 : below(p, 40), 4);
    put1(p, 0xbe);
    put(p, pointer(p), 4);
    put1(p, 0xbf);
    put(p, pointer(p), 4);
    if (down)
        put1(p, 0xfd);
    if (!chance(p, 4))
        put1(p, chance(p, 2) ? 0xf3 : 0xf2);
    if (chance(p, 2))
        put1(p, 0x48);
    put1(p, op[below(p, sizeof(op))]);
    if (down)
        put1(p, 0xfc);
    put_pointers(p);
}

/* A page of data vanishes, becomes read-only, or another one takes its place. */
static void item_page(struct program *p) {
    unsigned page = below(p, 16);
    uint32_t at = DATA + page * 0x1000, entry;

    if (p->user)
        return;
    switch (below(p, 3)) {
    case 0:
        entry = 0;
        break;
    case 1:
        entry = at | 0x65;
        break;
    default:
        entry = (DATA + below(p, 16) * 0x1000) | 7;
    }
    put(p, 0x2504c748, 4); /* movq $entry, pte; invlpg */
    put(p, TWIN_PTES + (at >> 12) * 8, 4);
    put(p, entry, 4);
    put(p, 0x253c010f, 4);
    put(p, at, 4);
}

static void item_other(struct program *p) {
    switch (below(p, 6)) {
    case 0: /* MMIO, written and read */
        put(p, 0x250489, 3);
        put(p, MMIO + 8 * below(p, 8), 4);
        put(p, 0x250c8b, 3);
        put(p, MMIO + 8 * below(p, 8), 4);
        break;
    case 1:
        put1(p, 0x9f); /* lahf; sahf */
        put1(p, 0x9e);
        break;
    case 2:
        put(p, 0x41cd, 2); /* int $0x41 */
        break;
    case 3:
        put(p, 0xf5, 1); /* cmc */
        break;
    case 4: /* xor %eax, %eax; cpuid; mov $pointer, %ebx */
        put(p, 0xa20fc031, 4);
        put1(p, 0xbb);
        put(p, pointer(p), 4);
        break;
    default: /* stc, clc */
        put1(p, 0xf8 + below(p, 2));
    }
}

static void item(struct program *p) {
    static void (*const kind[])(struct program *) = {
        item_alu,       item_alu,    item_alu,    item_alu_imm, item_alu_imm,  item_mov,
        item_mov,       item_unary,  item_shift,  item_jump,    item_two_byte, item_two_byte,
        item_stack,     item_vector, item_vector, item_x87,     item_mxcsr,    item_string,
        item_immediate, item_smc,    item_page,   item_other,   item_jump};

    kind[below(p, sizeof(kind) / sizeof(kind[0]))](p);
}

/* Functions, then the loop, then the end. */
static void generate(struct program *p, uint64_t seed, uint32_t *ret_entry) {
    unsigned top;

    *p = (struct program){.r = rng_seed(seed)};
    p->user = chance(p, 2);
    p->start = chance(p, 2) ? below(p, 4096) : 4096 - below(p, 300);
    if (p->start + 3000 > CODE_MAX)
        p->start = 0;
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        unsigned at = p->n;
        items(p, 1 + below(p, 5));
        put1(p, 0xc3);
        p->function[i] = i ? at : 0; /* the first one begins at 0: nobody calls it */
    }
    top = p->n;
    put1(p, 0xbb);
    put(p, pointer(p), 4);
    put1(p, 0xbd);
    put(p, DATA + 0x4000 + below(p, 0x8000), 4);
    put(p, 0xbe41, 2);
    put(p, pointer(p), 4);
    put_pointers(p);
    while (p->n < top + 60 + below(p, 700) && p->n + p->start < CODE_MAX - 900)
        item(p);
    put(p, 0x01ed8349, 4); /* sub $1, %r13; jne top */
    put(p, 0x850f, 2);
    put(p, top - (p->n + 4), 4);
    put(p, 0x25248948, 4); /* mov %rsp, END_RSP; int $DONE */
    put(p, END_RSP, 4);
    put(p, 0xcd | DONE << 8, 2);
    *ret_entry = CODE + p->start + top;
}

/* ---- running ---- */

/* Puts the page back and tries again; an address elsewhere ends the program. */
GUEST(page_fault, ".code64",
      "push %rax\n push %rcx\n mov %cr2, %rax\n mov %rax, %rcx\n and $~0xfff, %rcx\n or $7, %rcx\n"
      "shr $12, %rax\n cmp $0x100, %rax\n jb 1f\n cmp $0x110, %rax\n jae 1f\n mov %rcx, "
      "0x4000(,%rax,8)\n"
      "mov %cr2, %rax\n invlpg (%rax)\n pop %rcx\n pop %rax\n add $8, %rsp\n iretq\n 1: hlt");
GUEST(interrupt, ".code64",
      "push %rax\n mov %cr3, %rax\n testb $1, 0x162010\n jz 1f\n mov %rax, %cr3\n 1: pop %rax\n "
      "iretq");
GUEST(nothing, ".code64", "iretq");

struct disturber {
    struct box *box;
    pthread_t thread;
    atomic_bool stop;
};

static void *disturb(void *opaque) {
    struct disturber *d = opaque;

    while (!atomic_load(&d->stop)) {
        d->box->vector = 0x40;
        d->box->cpu->ops->signal(d->box->cpu, CPU_SIGNAL_INTR_ON, 0);
        for (unsigned i = 0; i < 300; i++)
            __builtin_ia32_pause();
    }
    return NULL;
}

static void prepare(struct twin *t, struct program *p) {
    static const uint32_t mxcsr[8] = {0x1f80, 0x9f80, 0x1fc0, 0x9fc0,
                                      0x3f80, 0x5f80, 0x7f80, 0xffff};
    uint8_t bytes[4096];

    for (unsigned i = 0; i < 32; i++) {
        for (unsigned k = 0; k < sizeof(bytes); k += 8) {
            uint64_t v = rng_next(&p->r);
            memcpy(bytes + k, &v, 8);
        }
        if (i < 16)
            twin_put(t, DATA + i * 0x1000, bytes, sizeof(bytes));
        else if (i < 20)
            twin_put(t, STACK - (i - 15) * 0x1000, bytes, sizeof(bytes));
    }
    for (unsigned i = 0; i < 16; i++)
        twin_pte(t, DATA + i * 0x1000, (DATA + i * 0x1000) | 7);
    for (unsigned i = 0; i < 4; i++)
        twin_pte(t, CODE_ALIAS + i * 0x1000, (CODE + i * 0x1000) | 7);
    twin_pte(t, MMIO, 0x1000000 | 7);
    twin_pte(t, HANDLERS, HANDLERS | 0x67); /* as if interrupts had come: there may be none */
    twin_pte(t, END_RSP, END_RSP | 0x67);
    twin_pte(t, BOX_IDT, BOX_IDT | 0x67);
    twin_pte(t, BOX_IST1 - 0x1000, (BOX_IST1 - 0x1000) | 0x67);
    twin_put(t, CONSTANTS, mxcsr, sizeof(mxcsr));
    twin_put(t, HANDLERS, page_fault, (size_t)(page_fault_end - page_fault));
    twin_put(t, HANDLERS + 0x100, interrupt, (size_t)(interrupt_end - interrupt));
    twin_put(t, HANDLERS + 0x200, nothing, 2);
    twin_set(t, 0x162010, 8, chance(p, 4));
    twin_put(t, CODE + p->start, p->code, p->n);
    for (unsigned i = 0; i < 2; i++) {
        box_gate(&t->box[i], X86_PF, BOX_CS64, HANDLERS, 14, 0, 1);
        box_gate(&t->box[i], 0x40, BOX_CS64, HANDLERS + 0x100, 14, 0, 1);
        box_gate(&t->box[i], 0x41, BOX_CS64, HANDLERS + 0x200, 14, 3, 1);
        box_gate(&t->box[i], DONE, BOX_CS64, BOX_STUBS + DONE * 16, 14, 3, 1);
    }
}

static void set_state(struct box *b, struct program *p, uint32_t entry, unsigned rounds) {
    struct rng r = p->r;

    x86_reset(&b->s, false);
    box_long(b);
    b->s.cr4 |= X86_CR4_OSXSAVE;
    b->s.xcr0 = 7;
    b->s.fpu.fcw = 0x37f;
    if (p->user)
        box_ring3(b);
    for (unsigned i = 0; i < 16; i++) {
        b->s.gpr[i] = rng_next(&r);
        for (unsigned k = 0; k < 32; k += 8) {
            uint64_t v = rng_next(&r);
            memcpy(&b->s.fpu.vec[i][k], &v, 8);
        }
    }
    b->s.gpr[X86_RSP] = STACK - 0x800;
    b->s.gpr[13] = rounds;
    b->s.seg[SEG_FS].base = DATA;
    b->s.rflags |= X86_FLAG_IF;
    b->s.rip = entry;
    b->io_count = 0;
    memset(b->io, 0, sizeof(b->io));
}

static bool run_one(struct box *b, bool interrupts) {
    struct disturber d = {.box = b};
    enum cpu_exit exit;

    if (interrupts && pthread_create(&d.thread, NULL, disturb, &d) != 0)
        interrupts = false;
    exit = box_run(b);
    if (interrupts) {
        atomic_store(&d.stop, true);
        pthread_join(d.thread, NULL);
        b->cpu->ops->signal(b->cpu, CPU_SIGNAL_INTR_OFF, 0);
    }
    return exit == CPU_EXIT_HALT;
}

static void dump(const struct program *p, uint32_t entry) {
    printf("code at %#x, entry %#x:\n", CODE + p->start, entry);
    for (unsigned i = 0; i < p->n; i++)
        printf("%02x%s", p->code[i], i % 32 == 31 || i + 1 == p->n ? "\n" : " ");
}

static bool same_memory(struct twin *t) {
    uint8_t *a = mem_ptr(&t->box[0].mem, 0, BOX_MEM, true);
    uint8_t *b = mem_ptr(&t->box[1].mem, 0, BOX_MEM, true);

    memset(a + FRAMES, 0, BOX_IST1 - FRAMES);
    memset(b + FRAMES, 0, BOX_IST1 - FRAMES);
    if (memcmp(a, b, BOX_MEM) == 0)
        return true;
    for (unsigned i = 0, n = 0; i < BOX_MEM && n < 16; i++)
        if (a[i] != b[i]) {
            printf("memory at %#x: interpreter %02x, translator %02x\n", i, a[i], b[i]);
            n++;
        }
    return false;
}

static bool compare(struct twin *t) {
    struct buf text = {0};
    bool same;
    unsigned vector = (unsigned)box_get(&t->box[0], t->box[0].s.gpr[X86_RSP], 1);

    if (vector != DONE) /* an exception ended it, with flags in front that nobody reads */
        for (unsigned i = 0; i < 2; i++)
            t->box[i].s.rflags &= ~(uint64_t)0x8d5;
    same = !state_diff(&x86_state_desc, &t->box[0].s, &t->box[1].s, &text);
    if (!same)
        printf("interpreter != translator:\n%.*s", (int)text.len, (const char *)text.data);
    buf_done(&text);
    if (t->box[0].io_count != t->box[1].io_count ||
        memcmp(t->box[0].io, t->box[1].io, sizeof(t->box[0].io)) != 0) {
        printf("accesses to devices differ\n");
        same = false;
    }
    return same_memory(t) && same;
}

static bool run_program(struct twin *t, uint64_t seed, unsigned *ret_vector) {
    static const unsigned rounds[] = {20, 100, 100, 500, 12000};
    static struct program p;
    unsigned n;
    bool interrupts;
    uint32_t entry;

    generate(&p, seed, &entry);
    if (p.start + p.n > CODE_MAX)
        return true;
    n = rounds[below(&p, 5)];
    interrupts = chance(&p, 3);
    for (unsigned i = 0; i < 2; i++)
        set_state(&t->box[i], &p, entry, n);
    prepare(t, &p);
    if (getenv("VIV_TWIN_VERBOSE"))
        printf("seed %" PRIu64 "\n", seed);
    for (unsigned i = 0; i < 2; i++)
        if (!run_one(&t->box[i], interrupts))
            return false;
    *ret_vector = (unsigned)box_get(&t->box[1], t->box[1].s.gpr[X86_RSP], 1);
    if (compare(t))
        return true;
    printf("seed %" PRIu64 ": level %u, %u rounds%s\n", seed, p.user ? 3 : 0, n,
           interrupts ? ", interrupts" : "");
    dump(&p, entry);
    return false;
}

static uint64_t setting(int argc, char **argv, int arg, const char *name, uint64_t otherwise) {
    const char *text = argc > arg ? argv[arg] : getenv(name);

    return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

int main(int argc, char **argv) {
    uint64_t programs =
        setting(argc, argv, 1, "VIV_TWIN_PROGRAMS", getenv("VIV_SANITIZED") ? 40 : 300);
    uint64_t seed = setting(argc, argv, 2, "VIV_TWIN_SEED", 1);
    uint64_t failed = 0, ended = 0;
    static struct twin t;

    setvbuf(stdout, NULL, _IOLBF, 0);
    twin_new(&t, false);
    for (uint64_t i = 0; i < programs; i++) {
        unsigned vector = 0;
        failed += !run_program(&t, seed + i, &vector);
        ended += vector == DONE;
    }
    printf("seeds %" PRIu64 " to %" PRIu64 ": %" PRIu64 " programs came to their end; %" PRIu64
           " blocks translated, %" PRIu64 " again\n",
           seed, seed + programs - 1, ended, stat_counts[STAT_jit_blocks],
           stat_counts[STAT_jit_promotions]);
    if (ended * 2 < programs || (programs > 100 && !stat_counts[STAT_jit_promotions])) {
        printf("too few programs come to their end, or get hot\n");
        failed++;
    }
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", programs - failed, failed);
    twin_done(&t);
    return failed != 0;
}
