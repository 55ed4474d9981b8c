/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random cases for the differential test: encodings of a row with random prefixes, addressing forms
 * and immediates, registers set so that memory operands lie where it is interesting, and values at
 * the edges.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpuid.h"
#include "cpu/diff/rows.h"
#include "cpu/x86.h"

#define PICK(r, array) (array)[rng_below(r, sizeof(array) / sizeof((array)[0]))]

struct diff_gen {
    struct rng rng;
    struct row_book *book;
    const char *only;
    uint64_t features[4];
    uint32_t *covered[DIFF_MODES]; /* cases by mode and row */
    uint16_t *list[DIFF_MODES];    /* rows that may be chosen */
    unsigned list_count[DIFF_MODES];
    bool no_mode[DIFF_MODES];
};

/* A case under construction. */
struct build {
    struct diff_gen *g;
    struct rng *r;
    struct diff_case *k;
    struct insn in;
    uint8_t *bytes;   /* of the instruction in hand */
    uint64_t ip;      /* its address */
    uint32_t fixed;   /* registers whose value is already meant for something */
    uint32_t written; /* by earlier instructions */
    uint32_t flags_undefined;
    bool ends; /* the instruction may jump: it is the last */
};

/* ---- rows ---- */

static bool feature_missing(const struct diff_gen *g, const struct insn_row *row) {
    return !(g->features[row->feature / 64] >> (row->feature % 64) & 1);
}

/* Is there code of a mode that the host runs in which the row exists? */
static bool is_in_mode(const struct diff_gen *g, unsigned row) {
    bool found = false;

    for (unsigned m = 0; m < DIFF_MODES; m++)
        found |= !g->no_mode[m] && row_exists(g->book, row, 8u >> m);
    return found;
}

static void list_rows(struct diff_gen *g, unsigned m) {
    g->list_count[m] = 0;
    for (unsigned i = 0; i < insn_row_count && !g->no_mode[m]; i++)
        if (row_exists(g->book, i, 8u >> m) && !diff_row_excluded(&insn_rows[i]) &&
            !feature_missing(g, &insn_rows[i]) &&
            (!g->only || !strcmp(g->only, insn_rows[i].mnemonic)))
            g->list[m][g->list_count[m]++] = (uint16_t)i;
}

struct diff_gen *diff_gen_new(uint64_t seed) {
    struct cpu_config config = {.count = 1, .model = "host", .no_hypervisor = true};
    struct diff_gen *g = calloc(1, sizeof(*g));

    g->rng = rng_seed(seed);
    g->book = row_book_new();
    cpuid_features(&config, g->features, NULL);
    for (unsigned m = 0; m < DIFF_MODES; m++) {
        g->covered[m] = calloc(insn_row_count, sizeof(uint32_t));
        g->list[m] = calloc(insn_row_count, sizeof(uint16_t));
        list_rows(g, m);
    }
    return g;
}

void diff_gen_free(struct diff_gen *g) {
    for (unsigned m = 0; m < DIFF_MODES; m++) {
        free(g->covered[m]);
        free(g->list[m]);
    }
    row_book_free(g->book);
    free(g);
}

void diff_gen_only(struct diff_gen *g, const char *mnemonic) {
    g->only = mnemonic;
    for (unsigned m = 0; m < DIFF_MODES; m++)
        list_rows(g, m);
}

void diff_gen_without(struct diff_gen *g, unsigned mode) {
    g->no_mode[diff_mode_index(mode)] = true;
    list_rows(g, diff_mode_index(mode));
}

bool diff_gen_has_rows(const struct diff_gen *g, unsigned mode) {
    return g->list_count[diff_mode_index(mode)] > 0;
}

void diff_gen_report(const struct diff_gen *g, unsigned *ret_covered, unsigned *ret_left_out) {
    *ret_covered = *ret_left_out = 0;
    for (unsigned i = 1; i < insn_row_count; i++) {
        const struct insn_row *row = &insn_rows[i];
        const char *why = diff_row_excluded(row);
        if (g->covered[0][i] + g->covered[1][i] + g->covered[2][i]) {
            ++*ret_covered;
            continue;
        }
        if (!why && feature_missing(g, row))
            why = "is not in this host's CPU model";
        if (!why && !is_in_mode(g, i))
            why = "needs code of a kind that this host does not run";
        ++*ret_left_out;
        printf("# row %u, %s (%s): %s\n", i, row->mnemonic, insn_feature_name(row->feature),
               why ? why : "was not drawn in this run");
    }
}

/* ---- memory ---- */

void diff_gen_data(struct diff_gen *g, struct diff_batch *b) {
    for (unsigned p = 0; p < 4; p++)
        for (unsigned i = 0; i < DIFF_PAGE; i += 16)
            value_vector(&g->rng, &b->data[p][i], 16);
}

static void patch(struct build *b, uint64_t addr, const void *bytes, unsigned n) {
    struct diff_patch *p;

    if (b->k->patches == DIFF_PATCHES)
        return;
    p = &b->k->patch[b->k->patches++];
    p->addr = addr;
    p->len = (uint8_t)n;
    memcpy(p->bytes, bytes, n);
}

static void patch_value(struct build *b, uint64_t addr, unsigned size) {
    uint32_t attr = b->in.row->attr;
    uint8_t bytes[64];

    if (size > 64 || !size)
        size = 64;
    value_vector(b->r, bytes, size);
    if (size == 10)
        value_st(b->r, bytes);
    else if (!(attr & (INSN_FPU | INSN_SSE | INSN_AVX)) && size <= 8) {
        uint64_t v = value_int(b->r);
        memcpy(bytes, &v, size);
    }
    patch(b, addr, bytes, size);
}

static uint64_t page_addr(enum diff_page page) { return DIFF_DATA + (uint64_t)page * DIFF_PAGE; }

/* An address across the beginning of a page: the operand's last byte is in it, or its first. */
static uint64_t across(struct build *b, enum diff_page page, unsigned size) {
    return page_addr(page) - rng_below(b->r, size ? size + 1 : 2);
}

static uint64_t inside(struct build *b, enum diff_page page, unsigned size, unsigned align) {
    uint64_t room = DIFF_PAGE - (size < 1024 ? size : 1024);

    return (page_addr(page) + rng_below(b->r, room)) & ~(uint64_t)(align - 1);
}

/* Where a memory operand of `size` bytes goes. */
static uint64_t choose_target(struct build *b, unsigned size, unsigned align) {
    static const enum diff_page writable[] = {DATA_RW0, DATA_RW1, DATA_RW2};
    static const uint64_t outside[] = {0x7ffffffff000, 0x800000000000,     0xffff800000000000,
                                       ~0ull,          0x8000000000000000, 0};
    unsigned lottery = (unsigned)rng_below(b->r, 64);

    if (rng_below(b->r, 12) == 0)
        align = 1;
    if (lottery < 44)
        return inside(b, PICK(b->r, writable), size, align);
    if (lottery < 50)
        return across(b, DATA_RW1, size) & ~(uint64_t)(align - 1);
    switch (lottery) {
    case 50:
    case 51:
        return across(b, DATA_HOLE, size);
    case 52:
        return across(b, DATA_RW2, size);
    case 53:
    case 54:
        return across(b, DATA_RO, size);
    case 55:
        return across(b, DATA_HOLE2, size);
    case 56:
        return inside(b, DATA_HOLE, size, align);
    case 57:
        return PICK(b->r, outside);
    case 58:
        return DIFF_CODE + rng_below(b->r, 0x1000);
    default:
        return inside(b, DATA_RO, size, align);
    }
}

/* ---- registers ---- */

static bool is_free(const struct build *b, unsigned reg) {
    return !((b->fixed | b->written) >> reg & 1);
}

static void set_reg(struct build *b, unsigned reg, uint64_t value) {
    if (!is_free(b, reg))
        return;
    b->k->in.gpr[reg] = b->k->mode == 8 ? value : (uint32_t)value;
    b->fixed |= 1u << reg;
}

/* Truncated addresses may have anything above. */
static uint64_t address_value(struct build *b, uint64_t v) {
    if (b->in.adsize == 4 && b->k->mode == 8)
        return (uint32_t)v | (rng_below(b->r, 2) ? rng_next(b->r) << 32 : 0);
    if (b->in.adsize == 2)
        return (uint16_t)v | (rng_below(b->r, 2) ? rng_next(b->r) << 16 : 0);
    return v;
}

static void write_disp(struct build *b, uint64_t value) {
    memcpy(b->bytes + b->in.disp_at, &value, b->in.disp_len);
}

static void place_index(struct build *b, uint64_t rest) {
    struct insn *in = &b->in;
    uint64_t index = rng_below(b->r, 2) ? rng_below(b->r, 4096) : value_int(b->r);

    if (in->base == REG_NONE) {
        set_reg(b, in->index, address_value(b, rest >> in->scale));
        return;
    }
    if (in->base == in->index) {
        set_reg(b, in->base, address_value(b, rest / (1 + (1u << in->scale))));
        return;
    }
    set_reg(b, in->index, index);
    index = b->k->in.gpr[in->index];
    set_reg(b, in->base, address_value(b, rest - (index << in->scale)));
}

static void place_vsib(struct build *b, uint64_t rest, unsigned index_size) {
    struct insn *in = &b->in;
    struct diff_xsave *x = &b->k->in.x;

    for (unsigned i = 0; i < 32 / index_size; i++) {
        uint64_t v = rng_below(b->r, 8) ? rng_below(b->r, 512) - 256 : value_int(b->r);
        uint8_t *to = i * index_size < 16 ? &x->xmm[in->index][i * index_size]
                                          : &x->ymm[in->index][i * index_size - 16];
        memcpy(to, &v, index_size);
    }
    if (in->base != REG_NONE)
        set_reg(b, in->base, address_value(b, rest));
}

static bool by_quadwords(const struct insn *in) { return in->opcode & 1; }

static uint64_t segment_base(const struct build *b, unsigned seg) {
    if (b->k->mode == 8)
        return seg == SEG_FS ? b->k->in.fs_base : seg == SEG_GS ? b->k->in.gs_base : 0;
    if (b->k->mode == 4)
        return 0;
    return seg == SEG_CS ? DIFF_CODE : DIFF_DATA;
}

/* Makes the memory operand lie at `target`, as far as registers are free. */
static void place(struct build *b, uint64_t target) {
    struct insn *in = &b->in;
    uint64_t offset = target - segment_base(b, in->seg), rest;

    rest = offset - (uint64_t)in->disp;
    if (in->rip_relative)
        write_disp(b, offset - (b->ip + in->len));
    else if (in->row->attr & INSN_VSIB)
        place_vsib(b, rest, by_quadwords(in) ? 8 : 4);
    else if (in->base == REG_NONE && in->index == REG_NONE)
        write_disp(b, offset);
    else if (in->index != REG_NONE)
        place_index(b, rest);
    else
        set_reg(b, in->base, address_value(b, rest));
}

/* ---- operands ---- */

static const uint16_t selectors[] = {0,          3,          SEL_DATA,   0x28,       SEL_DATA,
                                     SEL_CODE64, SEL_CODE32, SEL_CODE16, SEL_DATA16, SEL_STACK16,
                                     SEL_DOWN16, 0x10,       0x18,       0x40,       0x60,
                                     0x2f,       0x7ff8,     0xffff};

static uint64_t good_target(const struct build *b) {
    return b->k->code_addr + DIFF_SECOND_END - diff_code_base(b->k->mode);
}

/* Code of another mode, in which the end of the case would make no sense. */
static bool is_foreign(const struct build *b, uint16_t sel) {
    return sel != diff_code_selector(b->k->mode) &&
           (sel == SEL_CODE64 || sel == SEL_CODE32 || sel == SEL_CODE16);
}

/* Where a branch may go: the second end of the case, or somewhere that faults. */
static uint64_t branch_target(struct build *b) {
    switch (rng_below(b->r, 12)) {
    case 0:
        return page_addr(DATA_RW0) + 16;
    case 1:
        return page_addr(DATA_HOLE);
    case 2:
        return b->k->mode == 8 ? 0x800000000000 : b->k->mode == 4 ? 0xfffffff0 : 0x8000;
    default:
        return good_target(b);
    }
}

static void patch_far(struct build *b, uint64_t addr, unsigned size) {
    uint64_t ip = branch_target(b);
    uint16_t sel = diff_code_selector(b->k->mode);

    if (!rng_below(b->r, 4))
        sel = PICK(b->r, selectors);
    if (is_foreign(b, sel))
        sel = 0;
    patch(b, addr, &ip, size);
    patch(b, addr + size, &sel, 2);
}

static void patch_near(struct build *b, uint64_t addr) {
    uint64_t ip = branch_target(b);
    patch(b, addr, &ip, 8);
}

static void patch_flags(struct build *b, uint64_t addr, unsigned size, uint64_t without) {
    uint64_t v = rng_next(b->r) & ~(without | X86_FLAG_TF | X86_FLAG_VM);
    if (size == 8)
        v &= 0xffffffff;
    patch(b, addr, &v, size);
}

/* Where IRET reads the rest of a misaligned frame after flags with AC, it raises #AC with AC clear
 * in the flags on the stack. Linux, as kernel or hypervisor, takes that for a split lock, resumes
 * at the IRET, and so on for ever: only an aligned frame gets AC. */
static void patch_iret(struct build *b, uint64_t addr, unsigned size) {
    uint64_t sp = inside(b, DATA_RW1, 64, 8);
    uint16_t ss = rng_below(b->r, 8) ? SEL_DATA : PICK(b->r, selectors);

    patch_far(b, addr, size);
    patch_flags(b, addr + 2 * size, size, addr & (size - 1) ? X86_FLAG_AC : 0);
    patch(b, addr + 3 * size, &sp, size);
    patch(b, addr + 4 * size, &ss, 2);
}

static void patch_selector(struct build *b, uint64_t addr) {
    uint16_t sel = PICK(b->r, selectors);
    patch(b, addr, &sel, 2);
}

/* Image of FXSAVE or XSAVE: good enough to be loaded most of the time. */
static void patch_xsave(struct build *b, uint64_t addr, bool extended) {
    struct diff_xsave x = {0};
    uint64_t header[8] = {rng_next(b->r) & 7};

    value_x87_control(b->r, &x);
    x.mxcsr = value_mxcsr(b->r);
    if (!rng_below(b->r, 16))
        x.mxcsr |= 0x10000;
    patch(b, addr, &x, 32);
    if (!extended)
        return;
    if (rng_below(b->r, 2))
        header[1] = 1ull << 63 | header[0] | (rng_next(b->r) & 7);
    if (!rng_below(b->r, 12))
        header[rng_below(b->r, 8)] ^= 1ull << (rng_below(b->r, 2) ? 62 : rng_below(b->r, 3));
    patch(b, addr + 512, header, 64);
}

static bool is_xsave(const struct insn *in) {
    switch (in->row->id) {
    case INSN_XSAVE:
    case INSN_XSAVEC:
    case INSN_XSAVEOPT:
    case INSN_XSAVES:
    case INSN_XRSTOR:
    case INSN_XRSTORS:
        return true;
    default:
        return false;
    }
}

static bool is_fxsave(const struct insn *in) {
    return in->row->id == INSN_FXSAVE || in->row->id == INSN_FXRSTOR;
}

/* Contents of the memory operand. */
static void fill_memory(struct build *b, uint64_t target, unsigned size) {
    const struct insn *in = &b->in;

    switch (in->row->id) {
    case INSN_CALLF:
    case INSN_JMPF:
    case INSN_LES:
    case INSN_LDS:
    case INSN_LSS:
    case INSN_LFS:
    case INSN_LGS:
        if (in->row->attr & INSN_BRANCH)
            patch_far(b, target, in->opsize);
        else
            patch_selector(b, target + in->opsize);
        return;
    case INSN_CALL:
    case INSN_JMP:
        patch_near(b, target);
        return;
    case INSN_MOV_SREG:
    case INSN_LAR:
    case INSN_LSL:
    case INSN_VERR:
    case INSN_VERW:
    case INSN_ARPL:
        patch_selector(b, target);
        return;
    case INSN_LDMXCSR:
    case INSN_VLDMXCSR: {
        uint32_t v = value_mxcsr(b->r) | (rng_below(b->r, 8) ? 0 : 0x10000);
        patch(b, target, &v, 4);
        return;
    }
    default:
        break;
    }
    if (is_xsave(in) || is_fxsave(in))
        patch_xsave(b, target, is_xsave(in));
    else if (rng_below(b->r, 4))
        patch_value(b, target, size);
}

static unsigned wanted_alignment(const struct insn *in, unsigned size) {
    if (is_xsave(in))
        return 64;
    if (is_fxsave(in))
        return 16;
    if (in->row->attr & INSN_ALIGN)
        return size;
    switch (in->row->id) {
    case INSN_XCHG:
    case INSN_XADD:
    case INSN_CMPXCHG:
    case INSN_CMPXCHG8B:
        return 16; /* a split lock costs the host dearly */
    default:
        return in->prefixes & PFX_LOCK ? 16 : 1;
    }
}

static void prepare_memory(struct build *b) {
    struct insn *in = &b->in;
    unsigned size = 1, align;
    uint64_t target;

    for (unsigned i = 0; i < in->row->nops; i++) {
        struct operand op;
        insn_operand(in, i, &op);
        if (op.kind == OPK_MEM && op.size)
            size = op.size;
    }
    if (is_xsave(in))
        size = 832;
    else if (is_fxsave(in))
        size = 512;
    align = wanted_alignment(in, size);
    target = choose_target(b, size, align & (align - 1) ? 1 : align);
    place(b, target);
    fill_memory(b, target, size);
    if (is_xsave(in) && !(target & 63))
        b->k->xstate_bv = target + 512;
}

/* Operands of string instructions: [rSI], [rDI]. */
static void prepare_string(struct build *b) {
    const struct insn *in = &b->in;

    for (unsigned i = 0; i < in->row->nops; i++) {
        char method = insn_operand_method(in, i);
        unsigned reg = method == 'X' ? X86_RSI : X86_RDI;
        struct operand op;
        uint64_t target;
        if (method != 'X' && method != 'Y')
            continue;
        insn_operand(in, i, &op);
        target = choose_target(b, op.size, 1);
        patch_value(b, target, op.size * (1 + (unsigned)rng_below(b->r, 4)));
        target -= segment_base(b, method == 'X' ? in->seg : SEG_ES);
        set_reg(b, reg, address_value(b, target));
    }
    if (in->prefixes & (PFX_REP | PFX_REPNE))
        set_reg(b, X86_RCX,
                address_value(b, rng_below(b->r, 8) ? rng_below(b->r, 20) : rng_next(b->r)));
}

static void prepare_stack(struct build *b) {
    const struct insn *in = &b->in;
    unsigned size = in->opsize;
    uint64_t sp = choose_target(b, size, rng_below(b->r, 4) ? size : 1);

    if (sp - DIFF_CODE < 2 * DIFF_PAGE ||
        (b->k->mode == 2 &&
         sp - DIFF_DATA >=
             DATA_PAGES * DIFF_PAGE)) /* cannot be patched, and POPF must get what it may get */
        sp = inside(b, DATA_RW0, size, 1);

    switch (in->row->id) {
    case INSN_PUSH:
    case INSN_PUSHF:
    case INSN_PUSHA:
    case INSN_CALL:
    case INSN_CALLF:
        break;
    case INSN_POP:
        if (in->row->op[0] && !in->modrm_at && (in->row->attr & INSN_SYSTEM))
            patch_selector(b, sp);
        else
            patch_value(b, sp, size);
        break;
    case INSN_POPF:
        patch_flags(b, sp, size, 0);
        break;
    case INSN_POPA:
        break;
    case INSN_RET:
        patch_near(b, sp);
        break;
    case INSN_RETF:
        patch_far(b, sp, size);
        break;
    case INSN_IRET:
        if (b->k->insns) /* its flags may be what an earlier instruction wants in memory */
            sp &= ~(uint64_t)(size - 1);
        patch_iret(b, sp, size);
        break;
    case INSN_ENTER:
        set_reg(b, X86_RBP, choose_target(b, size, size) - segment_base(b, SEG_SS));
        break;
    case INSN_LEAVE:
        set_reg(b, X86_RBP, sp - segment_base(b, SEG_SS));
        return;
    default:
        return;
    }
    set_reg(b, X86_RSP, sp - segment_base(b, SEG_SS));
}

static void prepare_fixed_registers(struct build *b) {
    const struct insn *in = &b->in;

    switch (in->row->id) {
    case INSN_XLAT:
        set_reg(b, X86_RBX,
                choose_target(b, 1, 1) - segment_base(b, in->seg) - (uint8_t)b->k->in.gpr[X86_RAX]);
        break;
    case INSN_MASKMOVQ:
    case INSN_MASKMOVDQU:
    case INSN_VMASKMOVDQU:
        set_reg(b, X86_RDI, address_value(b, choose_target(b, 16, 1) - segment_base(b, in->seg)));
        break;
    case INSN_DIV:
    case INSN_IDIV:
        if (rng_below(b->r, 3))
            set_reg(b, X86_RDX,
                    in->row->id == INSN_IDIV ? (uint64_t)((int64_t)b->k->in.gpr[X86_RAX] >> 63)
                                             : rng_below(b->r, 3));
        break;
    case INSN_LOOP:
    case INSN_LOOPE:
    case INSN_LOOPNE:
    case INSN_JCXZ:
        set_reg(b, X86_RCX, rng_below(b->r, 3) | (rng_below(b->r, 2) ? rng_next(b->r) << 32 : 0));
        break;
    case INSN_BT:
    case INSN_BTS:
    case INSN_BTR:
    case INSN_BTC:
        if (in->mem && rng_below(b->r, 8))
            set_reg(b, in->reg, rng_below(b->r, 4096) - 2048);
        break;
    default:
        if (is_xsave(in)) { /* of what the host has, only components that the guest has too */
            b->fixed &= ~5u;
            set_reg(b, X86_RAX, rng_next(b->r) & 7);
            set_reg(b, X86_RDX, 0);
        }
        break;
    }
}

/* Registers that name a branch target or a selector. */
static void prepare_register_operand(struct build *b) {
    const struct insn *in = &b->in;

    if (!in->modrm_at || in->mem)
        return;
    switch (in->row->id) {
    case INSN_CALL:
    case INSN_JMP:
        set_reg(b, in->rm, branch_target(b));
        break;
    case INSN_MOV_SREG:
    case INSN_LAR:
    case INSN_LSL:
    case INSN_VERR:
    case INSN_VERW:
    case INSN_ARPL:
        set_reg(b, in->rm, PICK(b->r, selectors) | (rng_next(b->r) << 16));
        break;
    default:
        break;
    }
}

static void prepare_branch(struct build *b) {
    struct insn *in = &b->in;
    uint64_t next = b->ip + in->len, to = in->imm_len == 1
                                              ? (rng_below(b->r, 8) ? good_target(b) : next)
                                              : branch_target(b);

    if (in->row->nops && insn_operand_method(in, 0) == 'J') {
        to -= next - diff_code_base(b->k->mode);
        memcpy(b->bytes + in->imm_at, &to, in->imm_len);
    } else if (in->row->nops && insn_operand_method(in, 0) == 'A') {
        uint16_t sel = rng_below(b->r, 4) ? diff_code_selector(b->k->mode) : PICK(b->r, selectors);
        if (is_foreign(b, sel))
            sel = 0;
        memcpy(b->bytes + in->imm_at, &to, in->imm_len - 2u);
        memcpy(b->bytes + in->imm_at + in->imm_len - 2, &sel, 2);
    }
}

/* ---- one instruction ---- */

static void choose_prefixes(struct build *b, const struct row_template *t, uint8_t prefixes[4]) {
    static const uint8_t segments[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x64, 0x65};
    unsigned n = 0;

    memset(prefixes, 0, 4);
    if (!rng_below(b->r, 8))
        prefixes[n++] = PICK(b->r, segments);
    if (!rng_below(b->r, 10))
        prefixes[n++] = 0x67;
    if (!t->vex && !rng_below(b->r, 24))
        prefixes[n++] = 0xf0;
    if (!t->vex && t->pp >= 2 && !rng_below(b->r, 8))
        prefixes[n++] = 0x66;
    if (n >= 2 && rng_below(b->r, 2)) {
        uint8_t swap = prefixes[0];
        prefixes[0] = prefixes[1];
        prefixes[1] = swap;
    }
}

static uint8_t choose_rex(struct build *b, const struct row_template *t) {
    uint8_t bits = (uint8_t)(rng_below(b->r, 8) & 7);

    if (b->k->mode != 8)
        return 0;
    if (t->vex)
        return bits; /* R X B as REX has them: bit 2 R, 1 X, 0 B */
    bits = (uint8_t)((bits & 6) | t->rexb);
    if (t->map || t->opcode != 0x90)
        bits = (uint8_t)((bits & 6) | (rng_next(b->r) & 1));
    if (!t->w && (bits == 0 || rng_below(b->r, 2)))
        return rng_below(b->r, 5) ? 0 : 0x40;
    return (uint8_t)(0x40 | t->w << 3 | bits);
}

/* Random bytes of the row; false if this draw is another row or no instruction. */
static bool draw(struct build *b, unsigned row, const struct row_template *t) {
    struct row_template mine = *t;
    uint8_t prefixes[4];
    unsigned n, modrm = (unsigned)rng_next(b->r) & 255;

    choose_prefixes(b, t, prefixes);
    mine.vvvv = t->vex && rng_below(b->r, 4) ? (uint8_t)rng_below(b->r, 16) : t->vvvv;
    for (unsigned i = 0; i < 32; i++)
        b->bytes[i] = (uint8_t)rng_next(b->r);
    n = row_encode_start(&mine, prefixes, choose_rex(b, t), b->bytes);
    if (t->modrm >= 0xc0)
        modrm |= 0xc0;
    else if (modrm >= 0xc0)
        modrm &= 0x7f;
    if (rng_below(b->r, 3) == 0) /* opcode extensions */
        modrm = (modrm & 0xc7) | (t->modrm & 0x38);
    if (t->modrm >= 0xc0 && rng_below(b->r, 4) == 0)
        modrm = t->modrm;
    b->bytes[n] = (uint8_t)modrm;
    return insn_decode(&b->in, b->bytes, 15, b->k->mode) > 0 && b->in.row == &insn_rows[row];
}

/* The template itself, with random bytes behind it. */
static bool draw_plain(struct build *b, unsigned row, const struct row_template *t) {
    static const uint8_t none[4];
    uint8_t rex =
        !t->vex && b->k->mode == 8 && (t->w || t->rexb) ? (uint8_t)(0x40 | t->w << 3 | t->rexb) : 0;
    unsigned n = row_encode_start(t, none, rex, b->bytes);

    b->bytes[n] = t->modrm;
    return insn_decode(&b->in, b->bytes, 15, b->k->mode) > 0 && b->in.row == &insn_rows[row];
}

static unsigned shift_count(const struct build *b, unsigned operand) {
    const struct insn *in = &b->in;
    struct operand op;
    unsigned mask = in->opsize == 8 ? 63 : 31;

    insn_operand(in, operand, &op);
    if (op.kind == OPK_IMM)
        return in->imm & mask;
    return b->written >> X86_RCX & 1 ? ~0u : (unsigned)b->k->in.gpr[X86_RCX] & mask;
}

/* Results that the manual leaves open, and what must not run natively. */
static bool acceptable(const struct build *b) {
    const struct insn *in = &b->in;

    if (in->row->flags_read & b->flags_undefined)
        return false;
    switch (in->row->id) {
    case INSN_INT:
        return in->imm != 0x80;
    case INSN_SHLD:
    case INSN_SHRD:
        return in->opsize != 2 || shift_count(b, 2) <= 16;
    case INSN_BSWAP:
        return in->opsize != 2;
    case INSN_POPF: /* not TF, of which both halves know nothing */
    case INSN_IRET:
    case INSN_RETF:
        return is_free(b, X86_RSP);
    case INSN_CALL: /* to where the case says, not into the middle of an instruction */
    case INSN_JMP:
        return !in->modrm_at || in->mem ||
               (is_free(b, in->rm) && (in->row->id == INSN_JMP || in->rm != X86_RSP));
    default:
        return !is_xsave(in) || b->k->insns == 0;
    }
}

static uint32_t undefined_flags(const struct build *b) {
    const struct insn *in = &b->in;

    switch (in->row->id) {
    case INSN_SHL:
    case INSN_SHR:
    case INSN_SAR:
    case INSN_ROL:
    case INSN_ROR:
    case INSN_RCL:
    case INSN_RCR:
        return shift_count(b, 1) == 0   ? 0
               : shift_count(b, 1) == 1 ? in->row->flags_undefined & ~(uint32_t)FL_OF
                                        : in->row->flags_undefined;
    case INSN_SHLD:
    case INSN_SHRD:
        return shift_count(b, 2) == 0   ? 0
               : shift_count(b, 2) == 1 ? in->row->flags_undefined & ~(uint32_t)FL_OF
                                        : in->row->flags_undefined;
    default:
        return in->row->flags_undefined;
    }
}

static bool moves_stack(const struct insn *in) {
    switch (in->row->id) {
    case INSN_PUSH:
    case INSN_PUSHF:
    case INSN_PUSHA:
    case INSN_POP:
    case INSN_POPF:
    case INSN_POPA:
    case INSN_ENTER:
    case INSN_LEAVE:
        return true;
    default:
        return false;
    }
}

static void note_effects(struct build *b) {
    const struct insn *in = &b->in;
    uint32_t undefined = undefined_flags(b);

    b->flags_undefined =
        (b->flags_undefined & ~(uint32_t)(in->row->flags_written & ~in->row->flags_read)) |
        undefined;
    b->k->flags_ignored |= undefined;
    for (unsigned i = 0; i < in->row->nops; i++) {
        struct operand op;
        insn_operand(in, i, &op);
        if (op.kind == OPK_GPR && op.access & 2)
            b->written |= 1u << op.reg;
    }
    if (in->row->attr & INSN_STRING)
        b->written |= 1u << X86_RSI | 1u << X86_RDI | 1u << X86_RCX;
    if (in->row->id == INSN_LEAVE || in->row->id == INSN_ENTER || in->row->id == INSN_POPA)
        b->written |= 0xff;
    if (moves_stack(in))
        b->written |= 1u << X86_RSP;
    b->fixed &= ~b->written;
}

static void refine_immediate(struct build *b) {
    struct insn *in = &b->in;
    uint64_t v = value_int(b->r);

    if (!in->imm_len || in->row->attr & INSN_BRANCH)
        return;
    if (in->row->id == INSN_ENTER) {
        v = rng_below(b->r, 8) ? rng_below(b->r, 64) : rng_next(b->r);
        memcpy(b->bytes + in->imm_at, &v, 2);
        b->bytes[in->imm_at + 2] =
            (uint8_t)(rng_below(b->r, 4) ? rng_below(b->r, 4) : rng_next(b->r));
        return;
    }
    if (rng_below(b->r, 2) && insn_operand_method(in, 3) != 'L')
        memcpy(b->bytes + in->imm_at, &v, in->imm_len);
}

static void refine_disp(struct build *b) {
    int32_t v = (int32_t)rng_below(b->r, 8192) - 4096;

    if (b->in.disp_len == 4 && rng_below(b->r, 4))
        memcpy(b->bytes + b->in.disp_at, &v, 4);
}

static bool add_instruction(struct build *b, unsigned row) {
    struct diff_case *k = b->k;
    bool ok = false;

    b->bytes = k->code + k->insns_len;
    b->ip = k->code_addr + k->insns_len;
    for (unsigned attempt = 0; attempt < 12 && !ok; attempt++) {
        const struct row_template *t = row_pick(b->g->book, row, k->mode, b->r);
        ok = attempt < 8 ? draw(b, row, t) : draw_plain(b, row, t);
        if (!ok)
            continue;
        refine_immediate(b);
        refine_disp(b);
        ok = insn_decode(&b->in, b->bytes, 15, k->mode) > 0 && acceptable(b);
    }
    if (!ok)
        return false;
    prepare_stack(b);
    prepare_string(b);
    prepare_fixed_registers(b);
    prepare_register_operand(b);
    if (b->in.mem)
        prepare_memory(b);
    if (b->in.row->attr & INSN_BRANCH)
        prepare_branch(b);
    insn_decode(&b->in, b->bytes, 15, k->mode);
    note_effects(b);
    b->ends = b->in.row->attr & INSN_BRANCH;
    k->row[k->insns] = (uint16_t)row;
    k->offset[k->insns++] = k->insns_len;
    k->insns_len = (uint8_t)(k->insns_len + b->in.len);
    return true;
}

/* ---- the case ---- */

static void random_state(struct build *b) {
    struct diff_regs *in = &b->k->in;
    struct rng *r = b->r;
    static const uint64_t bases[] = {0, 0x1000, 0x7fffff000, DIFF_DATA + 0x123, 0x7fffffffe000};

    for (unsigned i = 0; i < 16; i++) {
        in->gpr[i] = value_int(r);
        if (b->k->mode != 8)
            in->gpr[i] = (uint32_t)in->gpr[i];
    }
    in->gpr[X86_RSP] = page_addr(DATA_RW1) + 0x800 - 8 * rng_below(r, 32) - segment_base(b, SEG_SS);
    in->rflags = X86_FLAG_FIXED | X86_FLAG_IF | (rng_next(r) & X86_FLAGS_ARITH) |
                 (rng_below(r, 6) ? 0 : X86_FLAG_DF) | (rng_below(r, 8) ? 0 : X86_FLAG_ID) |
                 (rng_below(r, 8) ? 0 : X86_FLAG_AC);
    in->fs_base = PICK(r, bases);
    in->gs_base = PICK(r, bases);
    in->sel[SEG_DS] = in->sel[SEG_ES] = in->sel[SEG_SS] = SEL_DATA;
    in->sel[SEG_FS] = in->sel[SEG_GS] = 0;
    if (b->k->mode == 2) {
        in->sel[SEG_DS] = in->sel[SEG_ES] = SEL_DATA16;
        in->sel[SEG_SS] = SEL_STACK16;
        in->sel[SEG_FS] = SEL_DOWN16;
        in->fs_base = DIFF_DATA;
    }
    memset(&in->x, 0, sizeof(in->x));
    value_x87_control(r, &in->x);
    in->x.mxcsr = value_mxcsr(r);
    in->x.header[0] = 7;
    for (unsigned i = 0; i < 8; i++)
        value_st(r, in->x.st[i]);
    if (!rng_below(r, 4)) /* what MMX left */
        for (unsigned i = 0; i < 8; i++) {
            value_vector(r, in->x.st[i], 8);
            memset(in->x.st[i] + 8, 0xff, 2);
        }
    for (unsigned i = 0; i < 16; i++) {
        value_vector(r, in->x.xmm[i], 16);
        value_vector(r, in->x.ymm[i], 16);
    }
}

static uint64_t choose_code_addr(struct rng *r) {
    switch (rng_below(r, 16)) {
    case 0:
        return DIFF_CODE + DIFF_PAGE - rng_below(r, 16);
    case 1:
        return DIFF_CODE + 2 * DIFF_PAGE - 1 - rng_below(r, 15);
    default:
        return DIFF_CODE + 0x40 + rng_below(r, DIFF_PAGE - 0x140);
    }
}

void diff_generate(struct diff_gen *g, struct diff_case *k, unsigned mode, unsigned max_insns) {
    unsigned m = diff_mode_index(mode), wanted = 1 + (unsigned)rng_below(&g->rng, max_insns),
             first = ~0u;
    struct build b = {.g = g, .r = &g->rng, .k = k};

    k->patches = k->insns = k->insns_len = k->code_len = 0;
    k->mode = (uint8_t)mode;
    k->flags_ignored = 0;
    k->xstate_bv = 0;
    k->code_addr = choose_code_addr(b.r);
    random_state(&b);
    k->in.rip = k->code_addr - diff_code_base(mode);
    for (unsigned tries = 0; k->insns < wanted && tries < 64 && !b.ends && k->insns_len < 90;
         tries++) {
        unsigned row = g->list[m][rng_below(b.r, g->list_count[m])];
        if (add_instruction(&b, row) && first == ~0u)
            first = row;
    }
    if (first != ~0u)
        g->covered[m][first]++;
    diff_finish_code(k);
}
