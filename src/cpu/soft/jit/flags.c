/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Arithmetic flags in translated code.
 *
 * A backward pass says after each instruction which flags anybody may still read. In front of a
 * memory access, whose check overwrites EFLAGS, live ones go to c->af once; they come back before
 * an instruction that reads them or that leaves some of them alone.
 */
#include "cpu/soft/jit/translate.h"

/* mov r14, rax; lahf; seto al; mov gs:[af], ax; mov rax, r14 */
void flags_put_save(struct emit *e) {
    e_mov(e, H_B, H_RAX);
    e_bytes(e, "\x9f\x0f\x90\xc0", 4);
    e8(e, 0x65);
    e_bytes(e, "\x66\x89\x04\x25", 4);
    e32(e, (uint32_t)OFF(af));
    e_mov(e, H_RAX, H_B);
}

void flags_save(struct trans *t) {
    if (t->flags != FLAGS_HOST)
        return;
    flags_put_save(&t->e);
    t->flags = FLAGS_BOTH;
}

/* mov r14, rax; movzx eax, word gs:[af]; add al, 127; sahf; mov rax, r14 */
void flags_restore(struct trans *t) {
    struct emit *e = &t->e;

    if (t->flags != FLAGS_SLOT)
        return;
    e_mov(e, H_B, H_RAX);
    e8(e, 0x65);
    e_bytes(e, "\x0f\xb7\x04\x25", 4);
    e32(e, (uint32_t)OFF(af));
    e_bytes(e, "\x04\x7f\x9e", 3);
    e_mov(e, H_RAX, H_B);
    t->flags = FLAGS_BOTH;
}

/* A shift by a constant that is not 0: it keeps no flag, whatever its row says of shifts. (A
 * rotation through carry may go round to where it was.) */
static bool shifts_for_sure(const struct insn *in) {
    switch (in->row->id) {
    case INSN_SHLD:
    case INSN_SHRD:
        if (in->opsize == 2)
            return false;
        break;
    case INSN_ROL:
    case INSN_ROR:
    case INSN_SHL:
    case INSN_SHR:
    case INSN_SAR:
        break;
    default:
        return false;
    }
    /* c0: of a byte, whatever REX.W says */
    return in->imm_len && (in->imm & (in->opsize == 8 && in->opcode != 0xc0 ? 63 : 31));
}

uint16_t flags_read_by(const struct insn *in) {
    return shifts_for_sure(in) ? 0 : in->row->flags_read & ALL_FLAGS;
}

/* Flags that the instruction surely writes. Those of a division are undefined; here as in the
 * interpreter it leaves them alone. */
static uint16_t flags_sure(const struct insn *in) {
    if (in->row->id == INSN_DIV || in->row->id == INSN_IDIV)
        return 0;
    return in->row->flags_written & (uint16_t)~flags_read_by(in);
}

/* For whoever suspects what is below: then all frames of exceptions have all flags, too. */
static bool keeps_all(const struct trans *t) { return t->c->jit.off & JIT_NO_LIVENESS; }

static uint16_t flags_in(const struct trans *t, const struct line *l) {
    if (keeps_all(t))
        return ALL_FLAGS;
    if (l->in.row->id == INSN_CLI || l->in.row->id == INSN_STI)
        return l->live;
    if (l->in.row->attr & INSN_SYSTEM) /* IRET, POPF, SYSRET may fault before they load flags */
        return ALL_FLAGS;
    return (uint16_t)((flags_read_by(&l->in) | (l->live & ~flags_sure(&l->in))) & ALL_FLAGS);
}

/* EFLAGS are about to be lost: keep what is live into this instruction. */
void flags_keep(struct trans *t, const struct line *l) {
    if (flags_in(t, l))
        flags_save(t);
    t->flags = FLAGS_SLOT;
}

/* Before the instruction proper: what it reads, or leaves alone, must be in EFLAGS. */
void flags_need(struct trans *t, const struct line *l) {
    uint16_t written = l->in.row->flags_written & ALL_FLAGS;

    if (flags_read_by(&l->in) || (written && (l->live & ~written & ALL_FLAGS)))
        flags_restore(t);
}

void flags_wrote(struct trans *t, const struct line *l) {
    if (l->in.row->flags_written & ALL_FLAGS)
        t->flags = FLAGS_HOST;
}

/* Flags that code at `off` of the page may read before writing them. A few instructions far. */
static uint16_t flags_wanted(struct trans *t, int64_t off, unsigned depth) {
    const uint8_t *page = mem_ptr(t->c->mem, t->b->addr & ~(gpa)4095, 4096, false);
    uint16_t open = ALL_FLAGS, wanted = 0;
    struct insn in;

    if (keeps_all(t))
        return ALL_FLAGS;
    for (unsigned n = 0; n < 12 && open && in_page(off); n++) {
        if (insn_decode(&in, page + off, (size_t)(4096 - off), t->code) <= 0)
            break;
        ref_cache_depend(t->c, (t->b->addr & ~(gpa)4095) + (gpa)off, in.len);
        wanted |= flags_read_by(&in) & open;
        open &= (uint16_t)~flags_sure(&in);
        off += in.len;
        if ((in.row->attr & INSN_BRANCH) && in.opsize != t->code) /* cuts the address to 16 bits */
            break;
        if (in.row->id == INSN_JMP && in.imm_len) {
            off += (int64_t)in.imm;
        } else if (in.row->id == INSN_CALL && in.imm_len) {
            off += (int64_t)in.imm;
        } else if (in.row->id == INSN_JCC && depth) {
            return wanted | (open & (flags_wanted(t, off, depth - 1) |
                                     flags_wanted(t, off + (int64_t)in.imm, depth - 1)));
        } else if (in.row->attr & (INSN_BRANCH | INSN_SYSTEM)) {
            break;
        }
    }
    return wanted | open;
}

void flags_find_live(struct trans *t) {
    struct line *last = &t->line[t->lines - 1];
    int64_t next = (int64_t)last->off + last->in.len;
    uint16_t live = ALL_FLAGS;

    if (t->faults || ((last->in.row->attr & INSN_BRANCH) && last->in.opsize != t->code))
        live = ALL_FLAGS;
    else if (last->in.row->id == INSN_JCC)
        live = (t->live_next = flags_wanted(t, next, 2)) |
               (t->live_taken = flags_wanted(t, branch_target(last), 2));
    else if ((last->in.row->id == INSN_JMP || last->in.row->id == INSN_CALL) && last->in.imm_len)
        live = flags_wanted(t, branch_target(last), 2);
    else if (!(last->in.row->attr & (INSN_BRANCH | INSN_SYSTEM)))
        live = flags_wanted(t, next, 2);
    for (unsigned i = t->lines; i-- > 0;) {
        struct line *l = &t->line[i];
        if (l->follow != FOLLOW_NOT && l->in.row->id == INSN_JCC) {
            int64_t out =
                l->follow == FOLLOW_TAKEN ? (int64_t)l->off + l->in.len : branch_target(l);
            l->leaving = flags_wanted(t, out, 2);
            live |= l->leaving;
        }
        l->live = keeps_all(t) ? ALL_FLAGS : live & ALL_FLAGS;
        live = flags_in(t, l);
    }
    t->b->reads_flags = live != 0;
}

void flags_keep_for_access(struct trans *t, const struct line *l) {
    if (!groups_follows(t))
        flags_keep(t, l);
}
