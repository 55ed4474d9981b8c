/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random 32-bit programs under everything at once must end alike on interpreter and translator.
 *
 * usage: test_cpu_storm [PROGRAMS [SEED]]    (or VIV_STORM_PROGRAMS, VIV_STORM_SEED in the
 * environment)
 *
 * Two copies of a program's three pages differ in the immediates of some instructions. While it
 * runs, hot from the first rounds on, its pages are mapped to the one or the other, or to none;
 * data pages vanish, become read-only or the supervisor's, or change places; immediates are
 * overwritten by its own stores, through other addresses and by a device; interrupts come at any
 * time, and their handler writes to the code and flushes. Page tables are written where they lie
 * and through an alias. Programs run at level 0 or 3 of protected mode, or as 32-bit code of a
 * 64-bit kernel. The same seed gives the same programs; a failure prints the seed of its own.
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
    CODE = 0x140000, /* three pages, which are in force where they are linear */
    OTHER = 0x148000,
    ALIAS = 0x1c0000, /* of CODE, to write through; behind it at ALIAS_OTHER, of OTHER */
    ALIAS_OTHER = 0x1c8000,
    DATA = 0x100000,    /* sixteen pages */
    STACK = 0x1a0000,   /* of the program, four pages below */
    END_ESP = 0x162000, /* where ESP is left; then the counter of rounds; a device's orders */
    COUNTER = 0x162004,
    MAILBOX = 0x162010,
    TABLE_ALIAS = 0x1d0000,
    MMIO = 0x1f0000,
    HANDLERS = 0x71000, /* 0x100 bytes each */
    FRAMES = 0x1f000,   /* the kernel's stack: frames hold stale flags, so they are not compared */
    DONE = 0x42,
    CHANGE = 0x43, /* writes EDX to the page table entry at EAX, invalidates ECX or, if 0, all */
    CODE_MAX = 3 * 4096 - 512,
    IMMEDIATES = 48,
    FUNCTIONS = 4,
};

enum kind { RING0, RING3, COMPATIBILITY, KINDS };

struct program {
    struct rng r;
    enum kind kind;
    uint8_t code[CODE_MAX + 1024];
    unsigned n, start;                          /* bytes so far; offset in CODE */
    unsigned immediate[IMMEDIATES], immediates; /* offsets of bytes that may change */
    unsigned function[FUNCTIONS], functions;
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

/* EBX, EBP and EDI point to data, ESI is a small index; the others are free. */
static unsigned free_reg(struct program *p) { return below(p, 3); }

static uint32_t pointer(struct program *p) {
    return DATA + (2 + below(p, 12)) * 0x1000 + below(p, 80) - 40;
}

static void put_pointers(struct program *p) {
    put1(p, 0xbe);
    put(p, below(p, 64), 4);
    put1(p, 0xbf);
    put(p, pointer(p), 4);
}

/* ---- operands ---- */

static int32_t displacement(struct program *p) {
    return chance(p, 3) ? (int32_t)below(p, 8400) - 4200 : (int32_t)below(p, 64) - 32;
}

/* ModRM and what follows, of a memory operand with `reg` beside it. */
static void put_memory(struct program *p, unsigned reg) {
    static const uint8_t base[] = {3, 5, 7};

    reg <<= 3;
    switch (below(p, 6)) {
    case 0: /* absolute */
        put1(p, 5 | reg);
        put(p, DATA + 0x3000 + below(p, 0x8000), 4);
        break;
    case 1: /* base and ESI */
        put1(p, 0x84 | reg);
        put1(p, below(p, 4) << 6 | 6 << 3 | base[below(p, 3)]);
        put(p, (uint32_t)displacement(p), 4);
        break;
    case 2: /* above what the program may have pushed */
        put1(p, 0x84 | reg);
        put1(p, 0x24);
        put(p, 80 + below(p, 100), 4);
        break;
    default:
        put1(p, 0x80 | reg | base[below(p, 3)]);
        put(p, (uint32_t)displacement(p), 4);
    }
}

static void put_modrm(struct program *p, unsigned reg, unsigned rm, bool memory) {
    if (memory)
        put_memory(p, reg);
    else
        put1(p, 0xc0 | reg << 3 | rm);
}

/* ADC %eax, %eax: takes CF and defines the rest, of which processors make what they like. */
static void define_flags(struct program *p) { put(p, 0xc011, 2); }

/* ---- instructions ---- */

static void item_alu(struct program *p) {
    unsigned op = below(p, 8), form = below(p, 4);
    bool memory = !chance(p, 3);

    if (memory && form < 2 && op != 7 && chance(p, 6))
        put1(p, 0xf0); /* LOCK */
    put1(p, op * 8 + form);
    put_modrm(p, form & 1 ? below(p, 8) & (form == 3 ? 3 : 7) : free_reg(p), free_reg(p), memory);
    if (form == 3 && op != 7) { /* it may have hit EBX */
        put1(p, 0xbb);
        put(p, pointer(p), 4);
    }
}

static void item_mov(struct program *p) {
    static const uint8_t opcode[] = {0x88, 0x89, 0x8a, 0x8b};

    if (chance(p, 5)) { /* the accumulator and an absolute address */
        put1(p, 0xa0 + below(p, 4));
        put(p, DATA + 0x3000 + below(p, 0x8000), 4);
        return;
    }
    put1(p, opcode[below(p, 4)]);
    put_modrm(p, free_reg(p), free_reg(p), !chance(p, 4));
}

static void item_unary(struct program *p) {
    switch (below(p, 4)) {
    case 0: /* INC, DEC in one byte, and PUSHA; POPA */
        put1(p, 0x40 + free_reg(p));
        put1(p, 0x48 + free_reg(p));
        break;
    case 1:
        put1(p, 0xff); /* INC, DEC */
        put_modrm(p, below(p, 2), free_reg(p), !chance(p, 3));
        break;
    case 2:
        put1(p, 0xf7); /* NOT, NEG */
        put_modrm(p, 2 + below(p, 2), free_reg(p), !chance(p, 3));
        break;
    default:
        put1(p, 0xc1); /* a shift by a constant */
        put_modrm(p, 4 + below(p, 2), free_reg(p), !chance(p, 3));
        put1(p, below(p, 34));
        define_flags(p);
    }
}

static void item_two_byte(struct program *p) {
    bool memory = !chance(p, 3);

    switch (below(p, 6)) {
    case 0:
        put(p, 0x400f | below(p, 16) << 8, 2); /* CMOVcc */
        break;
    case 1:
        put(p, 0x900f | below(p, 16) << 8, 2); /* SETcc */
        break;
    case 2:
        put(p, (chance(p, 2) ? 0xb60f : 0xbf0f), 2); /* MOVZX, MOVSX */
        break;
    case 3:
        put(p, 0xc10f, 2); /* XADD */
        break;
    case 4:
        put(p, 0xb10f, 2); /* CMPXCHG */
        break;
    default:
        put(p, 0xaf0f, 2); /* IMUL */
        put_modrm(p, free_reg(p), free_reg(p), memory);
        define_flags(p);
        return;
    }
    put_modrm(p, free_reg(p), free_reg(p), memory);
}

static void item_vector(struct program *p) {
    static const uint16_t opcode[] = {0x100f, 0x110f, 0x580f, 0x590f, 0x540f, 0x570f};
    unsigned pick = below(p, 6);

    put(p, opcode[pick], 2); /* MOVUPS; ADDPS, MULPS, ANDPS, XORPS between registers */
    put_modrm(p, below(p, 8), below(p, 8), pick < 2);
}

static void item_stack(struct program *p) {
    switch (below(p, 6)) {
    case 0: /* pushf; popf */
        put(p, 0x9d9c, 2);
        break;
    case 1: /* pusha; popa */
        put(p, 0x6160, 2);
        break;
    case 2: /* push %ebp; mov %esp, %ebp; leave */
        put(p, 0xc9e58955, 4);
        break;
    case 3: /* push memory; pop %eax */
        put1(p, 0xff);
        put_memory(p, 6);
        put1(p, 0x58);
        break;
    case 4: /* push $imm; pop memory */
        put1(p, 0x68);
        put(p, rng_next(&p->r), 4);
        put1(p, 0x8f);
        put_memory(p, 0);
        break;
    default:
        put1(p, 0x50 + below(p, 8));
        put1(p, 0x58 + free_reg(p));
    }
}

static void item_string(struct program *p) {
    static const uint8_t op[] = {0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad};

    put1(p, 0xb9);
    put(p, below(p, chance(p, 4) ? 1200 : 40), 4);
    put1(p, 0xbe);
    put(p, pointer(p), 4);
    put1(p, 0xbf);
    put(p, pointer(p), 4);
    put1(p, 0xf3);
    put1(p, op[below(p, sizeof(op))]);
    put_pointers(p);
}

static void item_other(struct program *p) {
    switch (below(p, 5)) {
    case 0: /* through FS, which has a base */
        put(p, 0x058b64 | free_reg(p) << 19, 3);
        put(p, 0x3000 + below(p, 0x8000), 4);
        break;
    case 1:
        put(p, 0x058964 | free_reg(p) << 19, 3);
        put(p, 0x3000 + below(p, 0x8000), 4);
        break;
    case 2: /* mov %ds, %eax; mov %eax, %es */
        put(p, 0xc08ed88c, 4);
        break;
    case 3: /* push %ss; pop %ds */
        put(p, 0x1f16, 2);
        break;
    default: /* a device's registers */
        put1(p, 0xa3);
        put(p, MMIO + 4 * below(p, 8), 4);
        put(p, 0x0d8b, 2);
        put(p, MMIO + 4 * below(p, 8), 4);
    }
}

/* ---- code that changes ---- */

/* An addition whose immediate is another one in the other copy, and may be overwritten. */
static void item_immediate(struct program *p) {
    put(p, 0xc081 | free_reg(p) << 8, 2);
    if (p->immediates < IMMEDIATES)
        p->immediate[p->immediates++] = p->n + below(p, 3);
    put(p, below(p, 0x10000), 4);
}

/* Every so many rounds only, or nothing gets hot: testb $mask, COUNTER; jnz over what follows. */
static unsigned seldom(struct program *p) {
    put(p, 0x05f6, 2);
    put(p, COUNTER, 4);
    put1(p, chance(p, 3) ? 0 : chance(p, 2) ? 7 : 63);
    put(p, 0x850f, 2);
    put(p, 0, 4);
    return p->n;
}

static void end_seldom(struct program *p, unsigned from) {
    uint32_t by = p->n - from;

    if (p->n < sizeof(p->code))
        memcpy(p->code + from - 4, &by, 4);
}

static void item_smc(struct program *p) {
    static const uint32_t through[] = {CODE, ALIAS, ALIAS_OTHER};
    unsigned from;
    uint32_t at;

    if (!p->immediates)
        return;
    from = seldom(p);
    at = p->start + p->immediate[below(p, p->immediates)];
    /* A device: movl $address, MAILBOX; movl $value, MAILBOX + 4; out. What it wrote is sure to
     * be seen behind a serializing instruction: push %ebx; xor %eax, %eax; cpuid; pop %ebx. */
    if (chance(p, 3)) {
        put(p, 0x05c7, 2);
        put(p, MAILBOX, 4);
        put(p, at + (chance(p, 2) ? CODE : OTHER), 4);
        put(p, 0x05c7, 2);
        put(p, MAILBOX + 4, 4);
        put(p, below(p, 128), 4);
        put(p, 0x80e6, 2);
        put(p, 0x5ba20fc03153, 6);
    } else if (chance(p, 2)) { /* incb, movb */
        put(p, 0x05fe, 2);
        put(p, at + through[below(p, 3)], 4);
    } else {
        put(p, 0x05c6, 2);
        put(p, at + through[below(p, 3)], 4);
        put1(p, below(p, 128));
    }
    end_seldom(p, from);
}

/* ---- page tables ---- */

static gpa table(const struct program *p) { return p->kind == COMPATIBILITY ? 0x4000 : 0x2000; }

static unsigned entry_size(const struct program *p) { return p->kind == COMPATIBILITY ? 8 : 4; }

static void put_change(struct program *p, uint32_t lin, uint32_t entry) {
    uint32_t at = (lin >> 12) * entry_size(p);

    put1(p, 0xb8);
    put(p, at + (chance(p, 2) ? (uint32_t)table(p) : TABLE_ALIAS), 4);
    put1(p, 0xba);
    put(p, entry, 4);
    put1(p, 0xb9);
    put(p, chance(p, 3) ? 0 : lin, 4);
    put(p, 0xcd | CHANGE << 8, 2);
}

static void item_page(struct program *p) {
    unsigned from = seldom(p), page = below(p, 16);
    uint32_t lin = DATA + page * 0x1000, entry;

    switch (below(p, 4)) {
    case 0:
        entry = 0;
        break;
    case 1:
        entry = lin | 0x65;
        break;
    case 2:
        entry = lin | 0x63;
        break;
    default:
        entry = (DATA + below(p, 16) * 0x1000) | 7;
    }
    if (chance(p, 3)) { /* a page of code */
        page = below(p, 3);
        lin = CODE + page * 0x1000;
        entry = chance(p, 6) ? 0 : ((chance(p, 2) ? CODE : OTHER) + page * 0x1000) | 7;
    }
    put_change(p, lin, entry);
    end_seldom(p, from);
}

/* ---- control flow ---- */

static void item(struct program *p);

static void items(struct program *p, unsigned n) {
    for (unsigned i = 0; i < n && p->n < CODE_MAX - 400; i++)
        item(p);
}

static void item_jump(struct program *p) {
    unsigned at;

    if (p->depth >= 2)
        return;
    p->depth++;
    switch (below(p, 5)) {
    case 0:
    case 1: /* Jcc over some items */
        put(p, 0x800f | below(p, 16) << 8, 2);
        put(p, 0, 4);
        at = p->n;
        items(p, 1 + below(p, 4));
        end_seldom(p, at);
        break;
    case 2: /* a short loop */
        put1(p, 0xb9);
        put(p, 1 + below(p, 5), 4);
        at = p->n;
        put1(p, 0x51);
        items(p, 1 + below(p, 2));
        put1(p, 0x59);
        put1(p, 0x49); /* dec %ecx; jnz */
        put(p, 0x850f, 2);
        put(p, at - (p->n + 4), 4);
        break;
    case 3: /* push $over; ret */
        put1(p, 0x68);
        put(p, CODE + p->start + p->n + 4 + 2, 4);
        put(p, 0xccc3, 2);
        break;
    default: /* a call, directly or through EAX */
        if (!p->functions)
            break;
        at = p->function[below(p, p->functions)];
        if (chance(p, 2)) {
            put1(p, 0xe8);
            put(p, at - (p->n + 4), 4);
        } else {
            put1(p, 0xb8);
            put(p, CODE + p->start + at, 4);
            put(p, 0xd0ff, 2);
        }
    }
    p->depth--;
}

static void item(struct program *p) {
    static void (*const kind[])(struct program *) = {
        item_alu,    item_alu,   item_alu,       item_alu,  item_mov,      item_mov,  item_mov,
        item_unary,  item_unary, item_jump,      item_jump, item_two_byte, item_page, item_vector,
        item_string, item_other, item_immediate, item_smc,  item_stack};

    kind[below(p, sizeof(kind) / sizeof(kind[0]))](p);
}

/* Functions, which may lie in any of the pages, then the loop, then the end. */
static void generate(struct program *p, uint64_t seed, uint32_t *ret_entry) {
    unsigned top;

    *p = (struct program){.r = rng_seed(seed)};
    p->kind = below(p, KINDS);
    p->start = chance(p, 2) ? below(p, 4096) : 4096 - below(p, 300);
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        unsigned at = p->n;
        items(p, 1 + below(p, 6));
        put1(p, 0xc3);
        p->function[p->functions++] = at;
        if (chance(p, 2)) /* the next one near the end of a page, as likely as not */
            while ((p->start + p->n) % 4096 < 4090 && p->n < 4096)
                put1(p, 0x90);
    }
    top = p->n;
    put1(p, 0xbb);
    put(p, pointer(p), 4);
    put1(p, 0xbd);
    put(p, pointer(p), 4);
    put_pointers(p);
    while (p->n < top + 60 + below(p, 700) && p->n + p->start < CODE_MAX - 900)
        item(p);
    put(p, 0x0dff, 2); /* decl COUNTER; jne top */
    put(p, COUNTER, 4);
    put(p, 0x850f, 2);
    put(p, top - (p->n + 4), 4);
    put(p, 0x2589, 2); /* mov %esp, END_ESP; int $DONE */
    put(p, END_ESP, 4);
    put(p, 0xcd | DONE << 8, 2);
    *ret_entry = CODE + p->start + top;
}

/* ---- running ---- */

/* Puts a page of data or code back and tries again; an address elsewhere ends the program. */
GUEST(fault_32, ".code32",
      "push %eax\n push %ecx\n mov %cr2, %eax\n mov %eax, %ecx\n and $~0xfff, %ecx\n"
      "or $7, %ecx\n shr $12, %eax\n cmp $0x100, %eax\n jb 1f\n cmp $0x110, %eax\n jb 2f\n"
      "cmp $0x140, %eax\n jb 1f\n cmp $0x143, %eax\n jae 1f\n 2: mov %ecx, 0x2000(,%eax,4)\n"
      "mov %cr2, %eax\n invlpg (%eax)\n pop %ecx\n pop %eax\n add $4, %esp\n iret\n 1: hlt");
GUEST(fault_64, ".code64",
      "push %rax\n push %rcx\n mov %cr2, %rax\n mov %rax, %rcx\n and $~0xfff, %rcx\n or $7, %rcx\n"
      "shr $12, %rax\n cmp $0x100, %rax\n jb 1f\n cmp $0x110, %rax\n jb 2f\n"
      "cmp $0x140, %rax\n jb 1f\n cmp $0x143, %rax\n jae 1f\n 2: mov %rcx, 0x4000(,%rax,8)\n"
      "mov %cr2, %rax\n invlpg (%rax)\n pop %rcx\n pop %rax\n add $8, %rsp\n iretq\n 1: hlt");
GUEST(change_32, ".code32",
      "mov %edx, (%eax)\n test %ecx, %ecx\n jz 1f\n invlpg (%ecx)\n iret\n"
      "1: mov %cr3, %ecx\n mov %ecx, %cr3\n xor %ecx, %ecx\n iret");
GUEST(change_64, ".code64",
      "mov %edx, (%rax)\n test %ecx, %ecx\n jz 1f\n invlpg (%rcx)\n iretq\n"
      "1: mov %cr3, %rcx\n mov %rcx, %cr3\n xor %ecx, %ecx\n iretq");
/* Nothing that a program could see: a byte of code is written as it is, all is flushed. */
GUEST(interrupt_32, ".code32",
      "push %eax\n mov 0x1c0800, %al\n mov %al, 0x1c0800\n testb $1, 0x162020\n jz 1f\n"
      "mov %cr3, %eax\n mov %eax, %cr3\n 1: pop %eax\n iret");
GUEST(interrupt_64, ".code64",
      "push %rax\n mov 0x1c0800, %al\n mov %al, 0x1c0800\n testb $1, 0x162020\n jz 1f\n"
      "mov %cr3, %rax\n mov %rax, %cr3\n 1: pop %rax\n iretq");

/* A device that writes to memory as it is told. */
static void obey(struct box *b) {
    gpa at = box_get(b, MAILBOX, 4);
    uint8_t value = (uint8_t)box_get(b, MAILBOX + 4, 1);

    if (at < CODE || at >= OTHER + 0x3000)
        return;
    mem_write(&b->mem, at, &value, 1);
    mem_written(&b->mem, at, 1);
}

static void set_entry(struct twin *t, const struct program *p, uint32_t lin, uint32_t entry) {
    twin_set(t, table(p) + (lin >> 12) * entry_size(p), entry_size(p), entry);
}

static void map_pages(struct twin *t, const struct program *p) {
    for (uint32_t page = 0; page < 0x200000; page += 0x1000) /* accessed: handlers do not tell */
        set_entry(t, p, page, page | 0x67);
    for (uint32_t i = 0; i < 4; i++) {
        set_entry(t, p, ALIAS + i * 0x1000, (CODE + i * 0x1000) | 0x67);
        set_entry(t, p, ALIAS_OTHER + i * 0x1000, (OTHER + i * 0x1000) | 0x67);
    }
    set_entry(t, p, TABLE_ALIAS, (uint32_t)table(p) | 0x67);
    set_entry(t, p, MMIO, 0x1000000 | 0x67);
}

static void put_code(struct twin *t, struct program *p) {
    twin_put(t, CODE + p->start, p->code, p->n);
    for (unsigned i = 0; i < p->immediates; i++)
        p->code[p->immediate[i]] ^= (uint8_t)(1 + below(p, 127));
    twin_put(t, OTHER + p->start, p->code, p->n);
}

static void put_handlers(struct twin *t, const struct program *p) {
    bool wide = p->kind == COMPATIBILITY;
    const struct {
        const uint8_t *start, *end;
        unsigned vector;
    } handler[] = {
        {wide ? fault_64 : fault_32, wide ? fault_64_end : fault_32_end, X86_PF},
        {wide ? interrupt_64 : interrupt_32, wide ? interrupt_64_end : interrupt_32_end, 0x40},
        {wide ? change_64 : change_32, wide ? change_64_end : change_32_end, CHANGE}};

    for (unsigned i = 0; i < sizeof(handler) / sizeof(handler[0]); i++) {
        gpa at = HANDLERS + i * 0x100;

        twin_put(t, at, handler[i].start, (size_t)(handler[i].end - handler[i].start));
        for (unsigned k = 0; k < 2; k++)
            box_gate(&t->box[k], handler[i].vector, wide ? BOX_CS64 : BOX_CS32, at, 14, 3, 0);
    }
    for (unsigned k = 0; k < 2; k++)
        box_gate(&t->box[k], DONE, wide ? BOX_CS64 : BOX_CS32, BOX_STUBS + DONE * 16, 14, 3, 0);
}

static void set_state(struct box *b, struct program *p, uint32_t entry) {
    struct rng r = p->r;

    if (p->kind == COMPATIBILITY)
        box_long(b);
    else
        box_protected(b, true);
    b->s.cr4 |= X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
    if (p->kind != RING0)
        box_ring3(b);
    if (p->kind == COMPATIBILITY)
        b->s.seg[SEG_CS] =
            (struct x86_segment){.sel = BOX_CS32_3 | 3, .attr = 0xc0fb, .limit = 0xffffffff};
    for (unsigned i = 0; i < 8; i++) {
        b->s.gpr[i] = (uint32_t)rng_next(&r);
        for (unsigned k = 0; k < 16; k += 4) { /* numbers of moderate size */
            uint32_t v = 0x3f800000 + (uint32_t)rng_below(&r, 0x100000);
            memcpy(&b->s.fpu.vec[i][k], &v, 4);
        }
    }
    b->s.gpr[X86_RSP] = STACK - 0x800;
    b->s.seg[SEG_FS].base = DATA;
    b->s.rflags |= X86_FLAG_IF | X86_FLAG_IOPL;
    b->s.rip = entry;
    b->on_io = obey;
    b->io_count = 0;
}

static void prepare(struct twin *t, struct program *p, uint32_t entry, unsigned rounds) {
    for (unsigned i = 0; i < 2; i++)
        set_state(&t->box[i], p, entry);
    map_pages(t, p);
    for (unsigned i = 0; i < 16 * 4096; i += 8)
        twin_set(t, DATA + i, 8, rng_next(&p->r));
    for (unsigned i = 0; i < 4 * 4096; i += 8)
        twin_set(t, STACK - 0x4000 + i, 8, i);
    put_code(t, p);
    put_handlers(t, p);
    twin_set(t, COUNTER, 4, rounds);
    twin_set(t, MAILBOX, 8, 0);
    twin_set(t, 0x162020, 8, chance(p, 3));
}

struct disturber {
    struct box *box;
    pthread_t thread;
    atomic_bool stop;
    unsigned pause;
};

static void *disturb(void *opaque) {
    struct disturber *d = opaque;

    while (!atomic_load(&d->stop)) {
        d->box->vector = 0x40;
        d->box->cpu->ops->signal(d->box->cpu, CPU_SIGNAL_INTR_ON, 0);
        for (unsigned i = 0; i < d->pause; i++)
            __builtin_ia32_pause();
    }
    return NULL;
}

static bool run_one(struct box *b, unsigned pause) {
    struct disturber d = {.box = b, .pause = pause};
    enum cpu_exit exit;

    if (pause && pthread_create(&d.thread, NULL, disturb, &d) != 0)
        pause = 0;
    exit = box_run(b);
    if (pause) {
        atomic_store(&d.stop, true);
        pthread_join(d.thread, NULL);
        b->cpu->ops->signal(b->cpu, CPU_SIGNAL_INTR_OFF, 0);
    }
    return exit == CPU_EXIT_HALT;
}

static void dump(const struct program *p, uint32_t entry) {
    printf("code at %#x, entry %#x:\n", CODE + p->start, entry);
    for (unsigned i = 0; i < p->n && i < sizeof(p->code); i++)
        printf("%02x%s", p->code[i], i % 32 == 31 || i + 1 == p->n ? "\n" : " ");
}

/* What lies below the stack pointers is left of frames, with flags that nobody reads. */
static void forget_frames(struct box *b, const struct program *p) {
    uint8_t *m = mem_ptr(&b->mem, 0, BOX_MEM, true);

    memset(m + FRAMES, 0, BOX_STACK0 - FRAMES);
    if (p->kind == RING0) {
        uint64_t sp = box_get(b, END_ESP, 4);
        if (sp <= STACK - 0x4000 || sp > STACK)
            sp = STACK;
        memset(m + STACK - 0x4000, 0, sp - (STACK - 0x4000));
    }
}

static bool same_memory(struct twin *t, const struct program *p) {
    const uint8_t *a = mem_ptr(&t->box[0].mem, 0, BOX_MEM, false);
    const uint8_t *b = mem_ptr(&t->box[1].mem, 0, BOX_MEM, false);

    for (unsigned i = 0; i < 2; i++)
        forget_frames(&t->box[i], p);
    if (memcmp(a, b, BOX_MEM) == 0)
        return true;
    for (unsigned i = 0, n = 0; i < BOX_MEM && n < 16; i++)
        if (a[i] != b[i]) {
            printf("memory at %#x: interpreter %02x, translator %02x\n", i, a[i], b[i]);
            n++;
        }
    return false;
}

static unsigned vector_of(struct box *b) {
    return (unsigned)box_get(b, b->s.gpr[X86_RSP] & 0xffffffff, 1);
}

static bool compare(struct twin *t, const struct program *p) {
    struct buf text = {0};
    bool same;

    if (vector_of(&t->box[0]) != DONE) /* flags in front of an exception may be stale */
        for (unsigned i = 0; i < 2; i++)
            t->box[i].s.rflags &= ~(uint64_t)0x8d5;
    same = !state_diff(&x86_state_desc, &t->box[0].s, &t->box[1].s, &text);
    if (!same)
        printf("interpreter != translator:\n%.*s", (int)text.len, (const char *)text.data);
    buf_done(&text);
    return same_memory(t, p) && same;
}

static bool run_program(struct twin *t, uint64_t seed, unsigned *ret_vector) {
    static const unsigned rounds[] = {50, 300, 300, 2000, 8000};
    static const unsigned pauses[] = {0, 0, 50, 300, 2000};
    static struct program p;
    unsigned n, pause;
    uint32_t entry;

    generate(&p, seed, &entry);
    if (p.start + p.n > CODE_MAX)
        return true;
    n = rounds[below(&p, 5)];
    pause = pauses[below(&p, 5)];
    prepare(t, &p, entry, n);
    if (getenv("VIV_STORM_VERBOSE"))
        printf("seed %" PRIu64 "\n", seed);
    for (unsigned i = 0; i < 2; i++)
        if (!run_one(&t->box[i], pause))
            return false;
    *ret_vector = vector_of(&t->box[1]);
    if (compare(t, &p))
        return true;
    printf("seed %" PRIu64 ": kind %u, %u rounds%s\n", seed, (unsigned)p.kind, n,
           pause ? ", interrupts" : "");
    dump(&p, entry);
    return false;
}

static uint64_t setting(int argc, char **argv, int arg, const char *name, uint64_t otherwise) {
    const char *text = argc > arg ? argv[arg] : getenv(name);

    return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

int main(int argc, char **argv) {
    uint64_t programs =
        setting(argc, argv, 1, "VIV_STORM_PROGRAMS", getenv("VIV_SANITIZED") ? 30 : 200);
    uint64_t seed = setting(argc, argv, 2, "VIV_STORM_SEED", 1);
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
           seed, seed + programs - 1, ended, stat_counts[STAT_jit_blocks32],
           stat_counts[STAT_jit_promotions]);
    if (ended * 2 < programs || (programs > 100 && !stat_counts[STAT_jit_promotions])) {
        printf("too few programs come to their end, or get hot\n");
        failed++;
    }
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", programs - failed, failed);
    twin_done(&t);
    return failed != 0;
}
