/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Accesses of one block off the same value of a register share one check, over all of their bytes.
 *
 * The first of a group checks that the whole range lies in one page that allows what all of them
 * do, and leaves in jit.group what leads from there to the host's addresses; the others need no
 * check. Where the range does not (it crosses a page, or is not writable) the first is left to the
 * interpreter, and a group to which that happens often is given up (jit.c). Nothing that runs
 * between the members takes translations away: instructions that might end a group.
 */
#include "cpu/soft/jit/translate.h"

enum { GROUP_SPAN = 240 }; /* bytes: the size of an access has 8 bits */

struct reg_state {
    int32_t delta; /* what was added to the register since its value became unknown */
    int8_t group;  /* that is open for this value, -1: none */
};

/* The access that an instruction makes by [base + disp] alone. */
struct access {
    unsigned base, size;
    int32_t disp;
    bool write;
};

static bool stack_access(const struct insn *in, struct access *a) {
    switch (in->row->id) {
    case INSN_PUSH:
        *a = (struct access){H_RSP, 8, -8, true};
        return !in->mem;
    case INSN_CALL:
        *a = (struct access){H_RSP, 8, -8, true};
        return !in->mem;
    case INSN_POP:
    case INSN_RET:
        *a = (struct access){H_RSP, 8, 0, false};
        return !in->mem;
    case INSN_LEAVE:
        *a = (struct access){H_RBP, 8, 0, false};
        return true;
    default:
        return false;
    }
}

static bool find_access(const struct insn *in, struct access *a) {
    struct operand op;

    if (in->row->attr & INSN_BRANCH || in->row->id == INSN_PUSH || in->row->id == INSN_POP ||
        in->row->id == INSN_LEAVE)
        return stack_access(in, a);
    if (!in->mem || in->rip_relative || in->adsize != 8 || in->seg >= SEG_FS ||
        in->base == REG_NONE || in->index != REG_NONE || is_evicted(in->base))
        return false;
    for (unsigned i = 0; i < in->row->nops; i++) {
        insn_operand(in, i, &op);
        if (op.kind == OPK_MEM && op.access && op.size && op.size <= 64) {
            *a = (struct access){in->base, op.size, (int32_t)in->disp, op.access & 2};
            return true;
        }
    }
    return false;
}

/* What the instruction adds to the one register that it changes so; false if it is no such one. */
static bool find_step(const struct insn *in, unsigned *ret_reg, int32_t *ret_step) {
    bool imm = in->imm_len && (int64_t)in->imm >= -4096 && (int64_t)in->imm <= 4096;

    *ret_reg = H_RSP;
    switch (in->row->id) {
    case INSN_PUSH:
    case INSN_CALL:
        *ret_step = -8;
        return true;
    case INSN_ADD:
    case INSN_SUB:
        *ret_reg = in->rm;
        *ret_step = (int32_t)(in->row->id == INSN_ADD ? in->imm : -in->imm);
        return imm && !in->mem && in->opsize == 8 && in->modrm_at;
    case INSN_LEA:
        *ret_reg = in->reg;
        *ret_step = (int32_t)in->disp;
        return in->opsize == 8 && in->adsize == 8 && in->base == in->reg && in->index == REG_NONE &&
               in->disp >= -4096 && in->disp <= 4096;
    default:
        return false;
    }
}

static void apply(struct reg_state *regs, const struct insn *in) {
    unsigned reg;
    int32_t step;

    if (find_step(in, &reg, &step)) {
        regs[reg].delta += step;
        return;
    }
    for (unsigned i = 0; i < in->row->nops; i++) {
        struct operand op;
        insn_operand(in, i, &op);
        if (op.kind == OPK_GPR && (op.access & 2) && !(in->row->id == INSN_POP && i > 0))
            regs[op.reg] = (struct reg_state){.group = -1};
    }
    if (in->row->id == INSN_POP)
        regs[H_RSP].delta += 8;
    if (in->row->id == INSN_LEAVE)
        regs[H_RSP] = regs[H_RBP] = (struct reg_state){.group = -1};
}

static void join(struct trans *t, unsigned line, const struct access *a, struct reg_state *r) {
    int32_t from = a->disp + r->delta, to = from + (int32_t)a->size;
    bool plain = t->b->plain_groups >> line & 1;

    if (r->group >= 0 && !plain) {
        struct group *g = &t->group[r->group];
        int32_t min = from < g->min ? from : g->min, max = to > g->max ? to : g->max;
        if (max - min <= GROUP_SPAN) {
            g->min = min;
            g->max = max;
            g->write |= a->write;
            g->members++;
            g->lines |= 1ull << line;
            t->group_of[line] = r->group;
            return;
        }
    }
    if (plain)
        return;
    r->group = -1;
    if (t->groups == JIT_GROUPS)
        return;
    t->group[t->groups] = (struct group){.head = (uint8_t)line,
                                         .members = 1,
                                         .lines = 1ull << line,
                                         .min = from,
                                         .max = to,
                                         .own = from,
                                         .write = a->write,
                                         .head_write = a->write};
    t->group_of[line] = r->group = (int8_t)t->groups++;
}

void groups_find(struct trans *t) {
    struct reg_state regs[16];

    t->groups = 0;
    memset(t->group_of, -1, sizeof(t->group_of));
    if (!wide(t) || (t->c->jit.off & JIT_NO_COALESCE))
        return;
    for (unsigned r = 0; r < 16; r++)
        regs[r] = (struct reg_state){.group = -1};
    for (unsigned i = 0; i < t->lines; i++) {
        struct access a;
        if (!(t->native >> i & 1)) { /* a handler, which may do anything */
            for (unsigned r = 0; r < 16; r++)
                regs[r] = (struct reg_state){.group = -1};
            continue;
        }
        if (find_access(&t->line[i].in, &a))
            join(t, i, &a, &regs[a.base]);
        apply(regs, &t->line[i].in);
    }
    for (unsigned i = 0; i < t->lines; i++) /* alone: an ordinary site */
        if (t->group_of[i] >= 0 && t->group[t->group_of[i]].members == 1)
            t->group_of[i] = -1;
}

struct group *groups_of(struct trans *t) {
    int g = t->group_of[t->current];

    return t->tier >= 2 && g >= 0 ? &t->group[g] : NULL;
}

bool groups_follows(struct trans *t) {
    struct group *g = groups_of(t);

    return g && g->slot && g->head != t->current;
}
