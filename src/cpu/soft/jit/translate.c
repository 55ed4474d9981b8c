/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One block of 64-bit guest code to host code. Source: SDM vol. 2A chapter 2 (encodings).
 *
 * Flags: a backward pass says after each instruction which arithmetic flags anybody may still read.
 * In front of a memory access, whose check overwrites EFLAGS, live ones go to c->af once; they come
 * back before an instruction that reads them or that leaves some of them alone.
 */
#include <stdlib.h>

#include "base/trace.h"
#include "cpu/soft/jit/emit.h"
#include "cpu/soft/jit/jit_internal.h"
#include "cpu/soft/ref/ref.h"

#define OFF(m)   offsetof(struct ref, m)
#define OFF_R(n) (offsetof(struct ref, r) + 8 * (n))

enum { ALL_FLAGS = FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF, STUBS = 4 * REF_BLOCK_OPS + 8 };
enum flags_place { FLAGS_SLOT, FLAGS_HOST, FLAGS_BOTH };

enum stub_kind { STUB_SLOW, STUB_BAIL, STUB_EXIT, STUB_LEAVE, STUB_VEC };

struct stub {
    enum stub_kind kind;
    size_t from;  /* displacement of the jump that leads here */
    size_t retry; /* STUB_SLOW, STUB_VEC: where to go on */
    uint32_t info, off;
    int64_t target; /* STUB_EXIT: offset in the page of the successor */
    bool linkable;
    bool undo; /* STUB_LEAVE: with info = bytes popped */
};

struct line { /* one decoded instruction */
    struct insn in;
    uint16_t live; /* flags live after it */
    uint32_t off;  /* offset in the page */
    bool native;
};

struct trans {
    struct ref *c;
    const struct ref_block *b;
    struct emit e;
    struct line *line;
    unsigned lines;
    struct stub stub[STUBS];
    unsigned stubs;
    enum flags_place flags;
    unsigned bank;
    bool vec_checked;
    bool faults; /* the block ends in front of an instruction that raises an exception for sure */
    struct jit_cache *k;
};

static struct stub *add_stub(struct trans *t, enum stub_kind kind, size_t from, uint32_t off) {
    struct stub *s = &t->stub[t->stubs < STUBS ? t->stubs++ : STUBS - 1];

    *s = (struct stub){.kind = kind, .from = from, .off = off};
    return s;
}

static void jump_common(struct trans *t, size_t target) {
    size_t at = e_jmp(&t->e);

    /* Shared code stands at the start of the cache; the block is written at k->used. */
    uint32_t d = (uint32_t)(target - (t->k->used + at + 4));
    if (at + 4 <= t->e.cap)
        memcpy(t->e.p + at, &d, 4);
}

/* ---- flags ---- */

/* mov r14, rax; lahf; seto al; mov gs:[af], ax; mov rax, r14 */
static void save_flags(struct trans *t) {
    struct emit *e = &t->e;

    if (t->flags != FLAGS_HOST)
        return;
    e_mov(e, H_B, H_RAX);
    e_bytes(e, "\x9f\x0f\x90\xc0", 4);
    e8(e, 0x65);
    e_bytes(e, "\x66\x89\x04\x25", 4);
    e32(e, (uint32_t)OFF(af));
    e_mov(e, H_RAX, H_B);
    t->flags = FLAGS_BOTH;
}

/* mov r14, rax; movzx eax, word gs:[af]; add al, 127; sahf; mov rax, r14 */
static void restore_flags(struct trans *t) {
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

static uint16_t flags_in(const struct line *l) {
    uint16_t sure = l->in.row->flags_written & (uint16_t)~l->in.row->flags_read;

    if (l->in.row->id == INSN_CLI || l->in.row->id == INSN_STI)
        return l->live;
    if (l->in.row->attr & INSN_SYSTEM) /* IRET, POPF, SYSRET may fault before they load flags */
        return ALL_FLAGS;
    return (uint16_t)((l->in.row->flags_read | (l->live & ~sure)) & ALL_FLAGS);
}

/* EFLAGS are about to be lost: keep what is live into this instruction. */
static void keep_flags(struct trans *t, const struct line *l) {
    if (flags_in(l))
        save_flags(t);
    t->flags = FLAGS_SLOT;
}

/* Before the instruction proper: what it reads, or leaves alone, must be in EFLAGS. */
static void need_flags(struct trans *t, const struct line *l) {
    uint16_t written = l->in.row->flags_written & ALL_FLAGS;

    if ((l->in.row->flags_read & ALL_FLAGS) || (written && (l->live & ~written & ALL_FLAGS)))
        restore_flags(t);
}

static void wrote_flags(struct trans *t, const struct line *l) {
    if (l->in.row->flags_written & ALL_FLAGS)
        t->flags = FLAGS_HOST;
}

/* ---- addresses and checks ---- */

static bool is_evicted(unsigned reg) { return reg == 14 || reg == 15; }

/* A = linear address of the memory operand. EFLAGS are free. */
static bool put_address(struct trans *t, const struct line *l) {
    const struct insn *in = &l->in;
    struct emit *e = &t->e;
    unsigned base = in->base, index = in->index, w = in->adsize == 8 ? 8 : 0;

    if (in->rip_relative) {
        int64_t d = (int64_t)l->off + in->len + in->disp;
        if (d != (int32_t)d || in->adsize != 8)
            return false;
        e_load(e, H_A, OFF(jit.page));
        e_lea(e, H_A, H_A, (int32_t)d);
    } else {
        if (base != REG_NONE && is_evicted(base)) {
            e_load(e, H_A, OFF_R(base));
            if (index == base)
                index = H_A;
            base = H_A;
        }
        if (index != REG_NONE && is_evicted(index) &&
            !(index == H_A && base == H_A && in->index == in->base)) {
            e_load(e, H_B, OFF_R(index));
            index = H_B;
        }
        e8(e, 0x40 | w | 4 | (index != REG_NONE && index >= 8 ? 2 : 0) |
                  (base != REG_NONE && base >= 8));
        e8(e, 0x8d);
        if (base == REG_NONE) { /* [index*s + disp32] or [disp32] */
            e8(e, (H_A & 7) << 3 | 4);
            e8(e, in->scale << 6 | (index == REG_NONE ? 4 : index & 7) << 3 | 5);
        } else if (index != REG_NONE || (base & 7) == 4) {
            e8(e, 0x80 | (H_A & 7) << 3 | 4);
            e8(e, in->scale << 6 | (index == REG_NONE ? 4 : index & 7) << 3 | (base & 7));
        } else {
            e8(e, 0x80 | (H_A & 7) << 3 | (base & 7));
        }
        e32(e, (uint32_t)(int32_t)in->disp);
    }
    if (in->seg >= SEG_FS)
        e_gs(e, 1, 0x03, H_A,
             OFF(s.seg) + in->seg * sizeof(struct x86_segment) +
                 offsetof(struct x86_segment, base));
    return true;
}

/* Linear address in A -> offset in the page in A, host page in B. */
static void put_check(struct trans *t, uint32_t off, unsigned size, bool write, bool align) {
    struct emit *e = &t->e;
    size_t tag = write ? offsetof(struct ref, jit.tag_w) : offsetof(struct ref, jit.tag_r),
           retry = e->n;
    struct stub *s;

    tag += t->bank * sizeof(t->c->jit.tag_r[0]);
    e_bytes(e, "\x65\xc4\x62\x82\xf5\x34\x25", 7); /* pext r14, r15, gs:[index_mask] */
    e32(e, (uint32_t)OFF(jit.index_mask));
    e_gs_index(e, 0x2b, H_A, H_B, tag); /* sub r15, gs:[r14*8 + tag] */
    e_bytes(e, "\x49\x81\xff", 3);      /* cmp r15, 4096 - size */
    e32(e, 4096 - size);
    s = add_stub(t, STUB_SLOW, e_jcc(e, 7), off);
    s->retry = retry;
    s->info = size | (write ? 0x100 : 0);
    if (align) { /* test r15d, size - 1 */
        e_bytes(e, "\x41\xf7\xc7", 3);
        e32(e, size - 1);
        add_stub(t, STUB_BAIL, e_jcc(e, 5), off);
    }
    e_gs_index(e, 0x8b, H_B, H_B,
               offsetof(struct ref, jit.host) + t->bank * sizeof(t->c->jit.host[0]));
}

/* ---- instructions copied with their registers ---- */

struct uses {                   /* where general registers are named */
    bool reg, rm, vvvv, opcode; /* field holds a general register */
    bool high_byte, vec, mem;
    unsigned mem_size, mem_access;
    uint16_t named, written; /* sets of R14, R15 */
};

static void find_uses(const struct insn *in, struct uses *u) {
    /* Vector instructions without vector operands exist: VZEROUPPER, CVTSS2SI from memory (MXCSR).
     */
    *u = (struct uses){.vec = in->row->attr & (INSN_SSE | INSN_AVX)};
    for (unsigned i = 0; i < in->row->nops; i++) {
        struct operand op;
        insn_operand(in, i, &op);
        if (op.kind == OPK_MEM) {
            u->mem = true;
            u->mem_size = op.size;
            u->mem_access = op.access;
        }
        u->vec |= op.kind == OPK_VEC;
        if (op.kind != OPK_GPR)
            continue;
        u->high_byte |= op.high_byte;
        switch (insn_operand_method(in, i)) {
        case 'G':
            u->reg = true;
            break;
        case 'E':
        case 'R':
            u->rm = true;
            break;
        case 'B':
            u->vvvv = true;
            break;
        case 'Z':
            u->opcode = true;
            break;
        default:
            break;
        }
        if (is_evicted(op.reg)) {
            u->named |= (uint16_t)(1u << op.reg);
            if (op.access & 2)
                u->written |= (uint16_t)(1u << op.reg);
        }
    }
}

static void load_evicted(struct trans *t, unsigned set) {
    if (set >> 14 & 1)
        e_load(&t->e, 14, OFF_R(14));
    if (set >> 15 & 1)
        e_load(&t->e, 15, OFF_R(15));
}

static void store_evicted(struct trans *t, unsigned set) {
    if (set >> 14 & 1)
        e_store(&t->e, 14, OFF_R(14));
    if (set >> 15 & 1)
        e_store(&t->e, 15, OFF_R(15));
}

/* The instruction with its memory operand as [A + B], or [A] and a data register renamed to R14. */
static void put_memory_form(struct trans *t, const struct insn *in, unsigned renamed) {
    struct emit *e = &t->e;
    unsigned reg = in->reg, vvvv = in->vvvv;
    bool plain = renamed != H_NONE; /* [r15] */

    if (plain && reg == renamed)
        reg = 14;
    if (plain && (in->prefixes & PFX_VEX) && vvvv == renamed)
        vvvv = 14;
    if (in->prefixes & PFX_VEX) {
        e8(e, 0xc4);
        e8(e, (reg & 8 ? 0 : 0x80) | (plain ? 0x40 : 0) |
                  in->map); /* X set (inverted) if no index; B of r15 */
        e8(e, (in->vex_w ? 0x80 : 0) | (~vvvv & 15) << 3 | (in->vl == 32 ? 4 : 0) | in->pp);
    } else {
        if (in->prefixes & PFX_LOCK)
            e8(e, 0xf0);
        if ((in->map && in->pp == 1) || (!(in->row->attr & INSN_SSE) && in->opsize == 2) ||
            (in->map && (in->row->attr & INSN_SSE) && in->pp == 1))
            e8(e, 0x66);
        if (in->map && in->pp >= 2)
            e8(e, in->pp == 2 ? 0xf3 : 0xf2);
        e8(e, 0x41 | (in->rex & 8) | (reg & 8) >> 1 | (plain ? 0 : 2));
        if (in->map)
            e8(e, 0x0f);
        if (in->map >= 2)
            e8(e, in->map == 2 ? 0x38 : 0x3a);
    }
    e8(e, in->opcode);
    if (plain) {
        e8(e, (reg & 7) << 3 | 7); /* [r15] */
    } else {
        e8(e, (reg & 7) << 3 | 4);
        e8(e, (H_B & 7) << 3 | (H_A & 7));
    }
    e_bytes(e, &in->imm, in->imm_len);
}

static void vec_entry(struct trans *t, uint32_t off) {
    struct stub *s;

    if (t->vec_checked)
        return;
    /* At the first use in the block; EFLAGS were saved by the caller. */
    e_gs_cmp8(&t->e, OFF(jit.vec_live), 0);
    s = add_stub(t, STUB_VEC, e_jcc(&t->e, 4), off);
    s->retry = t->e.n;
    t->vec_checked = true;
}

/* Misaligned ones are the interpreter's, which knows how not to lock across a cache line. */
static bool is_locked(const struct insn *in) {
    return (in->prefixes & PFX_LOCK) || in->row->id == INSN_XCHG;
}

static bool copy_with_memory(struct trans *t, const struct line *l, const struct uses *u) {
    struct emit *e = &t->e;
    unsigned renamed = H_NONE;
    size_t before = e->n;
    unsigned stubs = t->stubs;
    enum flags_place flags = t->flags;
    bool checked = t->vec_checked;

    if (u->high_byte || !u->mem_size || !u->mem_access || u->mem_size > 64 || u->named == 0xc000)
        return false;
    keep_flags(t, l);
    if (u->vec)
        vec_entry(t, l->off);
    if (!put_address(t, l)) {
        e->n = before;
        t->stubs = stubs;
        t->flags = flags;
        t->vec_checked = checked;
        return false;
    }
    put_check(t, l->off, u->mem_size, u->mem_access & 2,
              (l->in.row->attr & INSN_ALIGN) || is_locked(&l->in));
    if (u->named) {
        renamed = u->named & 0x4000 ? 14 : 15;
        e_bytes(e, "\x4f\x8d\x3c\x37", 4); /* lea r15, [r15 + r14] */
        e_load(e, 14, OFF_R(renamed));
    }
    if ((l->in.row->flags_read & ALL_FLAGS) ||
        ((l->in.row->flags_written & ALL_FLAGS) &&
         (l->live & ~l->in.row->flags_written & ALL_FLAGS))) {
        /* Both scratch registers hold something, so RAX waits in its slot. */
        e_store(e, H_RAX, OFF_R(0));
        e8(e, 0x65);
        e_bytes(e, "\x0f\xb7\x04\x25", 4);
        e32(e, (uint32_t)OFF(af));
        e_bytes(e, "\x04\x7f\x9e", 3);
        e_load(e, H_RAX, OFF_R(0));
        t->flags = FLAGS_BOTH;
    }
    put_memory_form(t, &l->in, renamed);
    if (u->written) {
        e_store(e, 14, OFF_R(renamed));
    }
    wrote_flags(t, l);
    return true;
}

static void copy_bytes(struct trans *t, const struct line *l) {
    const uint8_t *p =
        mem_ptr(t->c->cpu.config.bus.mem, (t->b->addr & ~(gpa)4095) + l->off, l->in.len, false);

    e_bytes(&t->e, p, l->in.len);
}

static bool copy_registers(struct trans *t, const struct line *l, const struct uses *u) {
    if (u->vec && !t->vec_checked) {
        keep_flags(t, l);
        vec_entry(t, l->off);
    }
    need_flags(t, l);
    load_evicted(t, u->named);
    copy_bytes(t, l);
    store_evicted(t, u->written);
    wrote_flags(t, l);
    return true;
}

static bool put_lea(struct trans *t, const struct line *l) {
    const struct insn *in = &l->in;
    struct emit *e = &t->e;

    /* Address size below the operand size, or 16-bit results: rare, left to the interpreter. */
    if (in->opsize == 2 || in->seg >= SEG_FS)
        return false;
    {
        struct line plain = *l;
        plain.in.seg = SEG_DS;
        if (!put_address(t, &plain))
            return false;
    }
    if (is_evicted(in->reg)) {
        if (in->opsize == 4)
            e_bytes(e, "\x45\x89\xff", 3); /* mov r15d, r15d */
        e_store(e, H_A, OFF_R(in->reg));
    } else if (in->opsize == 8) {
        e_mov(e, in->reg, H_A);
    } else { /* mov reg32, r15d */
        e8(e, 0x44 | (in->reg >> 3));
        e8(e, 0x89);
        e8(e, 0xc0 | (H_A & 7) << 3 | (in->reg & 7));
    }
    return true;
}

/* ---- stack ---- */

static bool put_push(struct trans *t, const struct line *l) {
    struct emit *e = &t->e;
    struct operand s;

    insn_operand(&l->in, 0, &s);
    if (l->in.opsize != 8 || (s.kind != OPK_GPR && s.kind != OPK_IMM))
        return false;
    keep_flags(t, l);
    e_lea(e, H_A, H_RSP, -8);
    put_check(t, l->off, 8, true, false);
    if (s.kind == OPK_IMM) {
        e_bytes(e, "\x4b\xc7\x04\x37", 4); /* mov qword [r15 + r14], imm32 */
        e32(e, (uint32_t)l->in.imm);
    } else if (is_evicted(s.reg)) {
        e_bytes(e, "\x4f\x8d\x3c\x37", 4); /* lea r15, [r15 + r14] */
        e_load(e, H_B, OFF_R(s.reg));
        e_bytes(e, "\x4d\x89\x37", 3); /* mov [r15], r14 */
    } else {
        e_ab(e, 0x89, s.reg);
    }
    e_lea(e, H_RSP, H_RSP, -8);
    return true;
}

static bool put_pop(struct trans *t, const struct line *l) {
    struct emit *e = &t->e;
    struct operand d;

    insn_operand(&l->in, 0, &d);
    if (l->in.opsize != 8 || d.kind != OPK_GPR || d.reg == H_RSP)
        return false;
    keep_flags(t, l);
    e_mov(e, H_A, H_RSP);
    put_check(t, l->off, 8, false, false);
    if (is_evicted(d.reg)) {
        e_ab(e, 0x8b, H_B);
        e_store(e, H_B, OFF_R(d.reg));
    } else {
        e_ab(e, 0x8b, d.reg);
    }
    e_lea(e, H_RSP, H_RSP, 8);
    return true;
}

static bool put_leave(struct trans *t, const struct line *l) {
    struct emit *e = &t->e;

    if (l->in.opsize != 8)
        return false;
    keep_flags(t, l);
    e_mov(e, H_A, H_RBP);
    put_check(t, l->off, 8, false, false);
    e_lea(e, H_RSP, H_RBP, 8);
    e_ab(e, 0x8b, H_RBP);
    return true;
}

/* ---- exits ---- */

static bool in_page(int64_t off) { return off >= 0 && off < 4096; }

/* A = guest address: through the jump cache, or back to C. EFLAGS are free. */
static struct stub *put_jump_cache(struct trans *t) {
    struct emit *e = &t->e;
    size_t miss;

    e_store(e, H_A, OFF(rip));
    e_bytes(e, "\x45\x31\xf6", 3);             /* xor r14d, r14d */
    e_bytes(e, "\xf2\x4d\x0f\x38\xf1\xf7", 6); /* crc32 r14, r15 */
    e_bytes(e, "\x41\x81\xe6", 3);             /* and r14d, JIT_JC_SIZE - 1 */
    e32(e, JIT_JC_SIZE - 1);
    e_bytes(e, "\x4d\x01\xf6", 3); /* add r14, r14: entries are 16 bytes, the scale is 8 */
    e_gs(e, 1, 0x33, H_A, OFF(jit.jc_key));
    e_gs_index(e, 0x3b, H_A, H_B, OFF(jit.jc));
    miss = e_jcc(e, 5);
    e_load(e, H_A, OFF(rip));
    e_bytes(e, "\x49\x81\xe7\x00\xf0\xff\xff", 7); /* and r15, ~4095 */
    e_store(e, H_A, OFF(jit.page));
    e8(e, 0x65); /* jmp gs:[r14*8 + code] */
    e_bytes(e, "\x42\xff\x24\xf5", 4);
    e32(e, (uint32_t)(OFF(jit.jc) + offsetof(struct jit_jc_entry, code)));
    return add_stub(t, STUB_LEAVE, miss, 0);
}

/* RET and JMP to an address that is not canonical fault themselves: their stub takes rSP's change
 * back. */
static void undo_unless_canonical(struct stub *s, const struct line *l, uint32_t popped) {
    s->undo = true;
    s->info = popped;
    s->off = l->off;
}

/* To the instruction at offset `target` of this page (or another one). */
static void put_direct(struct trans *t, int64_t target, bool backward) {
    struct emit *e = &t->e;
    struct stub *s;

    if (!in_page(target)) {
        e_load(e, H_A, OFF(jit.page));
        e_lea(e, H_A, H_A, (int32_t)target);
        put_jump_cache(t);
        return;
    }
    if (backward) {
        e_gs_cmp32(e, OFF(jit.poll), 0);
        s = add_stub(t, STUB_EXIT, e_jcc(e, 5), 0);
        s->target = target;
    }
    while ((t->k->used + e->n + 1) % 4) /* the displacement is patched with one aligned store */
        e8(e, 0x90);
    s = add_stub(t, STUB_EXIT, e_jmp(e), 0);
    s->target = target;
    s->linkable = true;
}

static int64_t branch_target(const struct line *l) {
    return (int64_t)l->off + l->in.len + (int64_t)l->in.imm;
}

/* Flags that code at `off` of the page may read before writing them. A few instructions far. */
static uint16_t flags_wanted(struct trans *t, int64_t off, unsigned depth) {
    const uint8_t *page = mem_ptr(t->c->cpu.config.bus.mem, t->b->addr & ~(gpa)4095, 4096, false);
    uint16_t open = ALL_FLAGS, wanted = 0;
    struct insn in;

    for (unsigned n = 0; n < 12 && open && in_page(off); n++) {
        if (insn_decode(&in, page + off, (size_t)(4096 - off), 8) <= 0)
            break;
        ref_cache_depend(t->c, (t->b->addr & ~(gpa)4095) + (gpa)off, in.len);
        wanted |= in.row->flags_read & open;
        open &= (uint16_t) ~(in.row->flags_written & ~in.row->flags_read);
        off += in.len;
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

static void put_ending(struct trans *t, const struct line *l, bool *ret_done) {
    struct emit *e = &t->e;
    const struct insn *in = &l->in;
    bool direct = in->imm_len != 0;
    size_t taken;

    *ret_done = true;
    switch (in->row->id) {
    case INSN_JCC:
        restore_flags(t);
        if (l->live)
            save_flags(t);
        taken = e_jcc(e, in->opcode & 15);
        t->flags = FLAGS_SLOT;
        put_direct(t, l->off + in->len, false);
        e_patch(e, taken);
        put_direct(t, branch_target(l), branch_target(l) <= l->off);
        return;
    case INSN_JMP:
        if (direct) {
            if (l->live)
                save_flags(t);
            put_direct(t, branch_target(l), branch_target(l) <= l->off);
            return;
        }
        break;
    case INSN_CALL:
        if (!direct)
            break;
        keep_flags(t, l);
        e_lea(e, H_A, H_RSP, -8);
        put_check(t, l->off, 8, true, false);
        e_bytes(e, "\x4f\x8d\x3c\x37", 4); /* lea r15, [r15 + r14] */
        e_load(e, H_B, OFF(jit.page));
        e_lea(e, H_B, H_B, (int32_t)(l->off + in->len));
        e_bytes(e, "\x4d\x89\x37", 3); /* mov [r15], r14 */
        e_lea(e, H_RSP, H_RSP, -8);
        put_direct(t, branch_target(l), branch_target(l) <= l->off);
        return;
    case INSN_RET:
        keep_flags(t, l);
        e_mov(e, H_A, H_RSP);
        put_check(t, l->off, 8, false, false);
        e_ab(e, 0x8b, H_A);
        e_lea(e, H_RSP, H_RSP, 8 + (in->imm_len ? (uint16_t)in->imm : 0));
        undo_unless_canonical(put_jump_cache(t), l, 8 + (in->imm_len ? (uint16_t)in->imm : 0));
        return;
    default:
        *ret_done = false;
        return;
    }
    /* Indirect JMP or CALL: the target first (it may fault), then the push. */
    keep_flags(t, l);
    if (in->mem) {
        if (!put_address(t, l)) {
            *ret_done = false;
            return;
        }
        put_check(t, l->off, 8, false, false);
        e_ab(e, 0x8b, H_A);
    } else if (is_evicted(in->rm)) {
        e_load(e, H_A, OFF_R(in->rm));
    } else {
        e_mov(e, H_A, in->rm);
    }
    if (in->row->id == INSN_CALL) { /* the target is looked at before anything is pushed */
        e_mov(e, H_B, H_A);
        e_bytes(e, "\x49\xc1\xfe\x2f", 4); /* sar r14, 47: 0 or -1 if canonical */
        e_bytes(e, "\x49\xff\xc6", 3);     /* inc r14 */
        e_bytes(e, "\x49\x83\xfe\x01", 4); /* cmp r14, 1 */
        add_stub(t, STUB_BAIL, e_jcc(e, 7), l->off);
        e_store(e, H_A, OFF(jit.target));
        e_lea(e, H_A, H_RSP, -8);
        put_check(t, l->off, 8, true, false);
        e_bytes(e, "\x4f\x8d\x3c\x37", 4);
        e_load(e, H_B, OFF(jit.page));
        e_lea(e, H_B, H_B, (int32_t)(l->off + in->len));
        e_bytes(e, "\x4d\x89\x37", 3);
        e_lea(e, H_RSP, H_RSP, -8);
        e_load(e, H_A, OFF(jit.target));
        put_jump_cache(t);
        return;
    }
    undo_unless_canonical(put_jump_cache(t), l, 0);
}

/* ---- the interpreter's handler ---- */

static void handler_completed(struct ref *c, const struct ref_op *o) { c->jit.completed = 1; }

/* True for handlers that may be called in the middle of a block. Branches name successors of
 * blocks. */
static bool may_call(const struct line *l) {
    return !(l->in.row->attr & INSN_BRANCH) && l->in.row->id != INSN_INVALID;
}

static void put_helper(struct trans *t, const struct line *l, const struct ref_op *o) {
    struct ref_op *pair = ref_arena_alloc(t->c, 2 * sizeof(*pair));
    struct emit *e = &t->e;
    size_t lea;

    pair[0] = *o;
    pair[1] = (struct ref_op){.fn = handler_completed};
    /* Handlers read and write c->af: all that is live, or that they might leave alone. */
    if ((l->live | l->in.row->flags_read) & ALL_FLAGS)
        save_flags(t);
    e_load(e, H_A, OFF(jit.page));
    e_lea(e, H_A, H_A, (int32_t)(t->b->addr & 4095));
    e_store(e, H_A, OFF_R(REF_PC));
    e_bytes(e, "\x49\xbf", 2); /* mov r15, imm64 */
    e64(e, (uint64_t)(uintptr_t)pair);
    e_store(e, H_A, OFF(jit.helper_op));
    e_gs_set32(e, OFF(jit.slow_off), l->off + l->in.len);
    e_bytes(e, "\x4c\x8d\x3d", 3); /* lea r15, [rip + ...] */
    lea = e->n;
    e32(e, 0);
    e_store(e, H_A, OFF(jit.slow_return));
    jump_common(t, t->k->helper);
    e_patch(e, lea);
    t->flags = FLAGS_SLOT;
}

/* ---- a block ---- */

static bool copyable(const struct insn *in) {
    if (!(in->row->attr & INSN_HOST) || (in->row->attr & (INSN_FPU | INSN_MMX)))
        return false;
    if (in->adsize != 8 && in->mem && in->adsize != 4)
        return false;
    return in->row->id != INSN_DIV && in->row->id != INSN_IDIV;
}

/* STMXCSR and LDMXCSR: math libraries execute them in pairs around every call. */
static bool put_mxcsr(struct trans *t, const struct line *l, bool load) {
    struct emit *e = &t->e;
    size_t before = e->n;
    unsigned stubs = t->stubs;
    enum flags_place flags = t->flags;
    bool checked = t->vec_checked;

    keep_flags(t, l);
    vec_entry(t, l->off);
    if (!put_address(t, l)) {
        e->n = before;
        t->stubs = stubs;
        t->flags = flags;
        t->vec_checked = checked;
        return false;
    }
    put_check(t, l->off, 4, !load, false);
    if (!load) {
        e_bytes(e, "\x43\x0f\xae\x1c\x37", 5); /* stmxcsr [r15 + r14] */
        return true;
    }
    e_bytes(e, "\x47\x8b\x3c\x37", 4);             /* mov r15d, [r15 + r14] */
    e_bytes(e, "\x45\x89\xfe", 3);                 /* mov r14d, r15d */
    e_bytes(e, "\x41\x81\xf6\x80\x1f\x00\x00", 7); /* xor r14d, exception masks: 0 where masked */
    e_bytes(e, "\x41\xf7\xc6\x80\x1f\xff\xff", 7); /* test r14d, masks | reserved */
    add_stub(t, STUB_BAIL, e_jcc(e, 5), l->off);
    e_gs(e, 0, 0x89, H_A, OFF(jit.target));
    e_bytes(e, "\x65\x0f\xae\x14\x25", 5); /* ldmxcsr gs:[target] */
    e32(e, (uint32_t)OFF(jit.target));
    return true;
}

/* CLI and STI in ring 0. With an interrupt waiting STI is the interpreter's, who knows its shadow.
 */
static bool put_interrupt_flag(struct trans *t, const struct line *l, bool on) {
    struct emit *e = &t->e;

    if (t->b->mode & (REF_MODE_USER | REF_MODE_RING12))
        return false;
    keep_flags(t, l);
    if (on) {
        e_gs_cmp32(e, OFF(attention), 0);
        add_stub(t, STUB_BAIL, e_jcc(e, 5), l->off);
    }
    e_gs(e, 0, 0x81, on ? 1 : 4, OFF(fl)); /* or, and */
    e32(e, on ? X86_FLAG_IF : ~X86_FLAG_IF);
    e_gs(e, 0, 0x83, on ? 1 : 4, OFF(att_mask));
    e8(e, on ? 0xff : 0xff & ~REF_ATT_INTR);
    return true;
}

/* Instructions after which MXCSR may unmask exceptions, which translated code must not meet: leave
 * and look. */
static bool sets_mxcsr(unsigned id) {
    switch (id) {
    case INSN_FXRSTOR:
    case INSN_XRSTOR:
    case INSN_XRSTORS:
        return true;
    default:
        return false;
    }
}

static bool put_native(struct trans *t, struct line *l) {
    struct uses u;

    switch (l->in.row->id) {
    case INSN_LEA:
        return put_lea(t, l);
    case INSN_PUSH:
        return put_push(t, l);
    case INSN_POP:
        return put_pop(t, l);
    case INSN_LEAVE:
        return put_leave(t, l);
    case INSN_CLI:
        return put_interrupt_flag(t, l, false);
    case INSN_STI:
        return put_interrupt_flag(t, l, true);
    case INSN_STMXCSR:
    case INSN_VSTMXCSR:
        return put_mxcsr(t, l, false);
    case INSN_LDMXCSR:
    case INSN_VLDMXCSR:
        return put_mxcsr(t, l, true);
    case INSN_NOP:
    case INSN_PREFETCH:
    case INSN_PREFETCHW:
    case INSN_PREFETCHNTA:
    case INSN_PREFETCHT0:
    case INSN_PREFETCHT1:
    case INSN_PREFETCHT2:
        return true;
    case INSN_TZCNT:
    case INSN_LZCNT: /* BSF, BSR where the guest does not have them */
        if (!ref_has(t->c, l->in.row->feature))
            return false;
        break;
    default:
        break;
    }
    if (!copyable(&l->in))
        return false;
    find_uses(&l->in, &u);
    return u.mem ? copy_with_memory(t, l, &u) : copy_registers(t, l, &u);
}

static bool decode_lines(struct trans *t) {
    const uint8_t *p = mem_ptr(t->c->cpu.config.bus.mem, t->b->addr, t->b->bytes, false);
    uint32_t page_off = t->b->addr & 4095, off = 0;

    if (!p)
        return false;
    for (unsigned i = 0; i < t->b->n; i++) {
        struct line *l = &t->line[t->lines];
        if (insn_decode(&l->in, p + off, t->b->bytes - off, 8) <= 0) {
            t->faults = true;
            break;
        }
        if (t->b->op[i].fn == ref_op_ud || t->b->op[i].fn == ref_op_gp0 ||
            t->b->op[i].fn == ref_op_nm) {
            t->faults = true; /* the interpreter raises it, with all flags in the frame */
            break;
        }
        l->off = page_off + off;
        off += l->in.len;
        t->lines++;
    }
    return t->lines != 0;
}

static void find_live(struct trans *t) {
    struct line *last = &t->line[t->lines - 1];
    int64_t next = (int64_t)last->off + last->in.len;
    uint16_t live = ALL_FLAGS;

    if (t->faults)
        live = ALL_FLAGS;
    else if (last->in.row->id == INSN_JCC)
        live = flags_wanted(t, next, 2) | flags_wanted(t, branch_target(last), 2);
    else if ((last->in.row->id == INSN_JMP || last->in.row->id == INSN_CALL) && last->in.imm_len)
        live = flags_wanted(t, branch_target(last), 2);
    else if (!(last->in.row->attr & (INSN_BRANCH | INSN_SYSTEM)))
        live = flags_wanted(t, next, 2);
    for (unsigned i = t->lines; i-- > 0;) {
        t->line[i].live = live & ALL_FLAGS;
        live = flags_in(&t->line[i]);
    }
}

/* slow_return = the code at `target`: lea r15, [rip + ...] and a store. */
static void put_return(struct emit *e, size_t target) {
    e_bytes(e, "\x4c\x8d\x3d", 3);
    e32(e, 0);
    e_patch_to(e, e->n - 4, target);
    e_store(e, H_A, OFF(jit.slow_return));
}

static void put_stubs(struct trans *t) {
    struct emit *e = &t->e;

    for (unsigned i = 0; i < t->stubs; i++) {
        struct stub *s = &t->stub[i];
        size_t lea;
        e_patch(e, s->from);
        switch (s->kind) {
        case STUB_SLOW: /* lin = A + tag; info; return */
            e_gs_index(e, 0x03, H_A, H_B,
                       (s->info & 0x100 ? offsetof(struct ref, jit.tag_w)
                                        : offsetof(struct ref, jit.tag_r)) +
                           t->bank * sizeof(t->c->jit.tag_r[0]));
            e_store(e, H_A, OFF(jit.slow_lin));
            e_gs_set32(e, OFF(jit.slow_info), s->info);
            e_gs_set32(e, OFF(jit.slow_off), s->off);
            put_return(e, s->retry);
            jump_common(t, t->k->slow);
            break;
        case STUB_VEC:
            e_gs_set32(e, OFF(jit.slow_off), s->off);
            put_return(e, s->retry);
            jump_common(t, t->k->vec_load);
            break;
        case STUB_BAIL:
            e_gs_set32(e, OFF(jit.slow_off), s->off);
            jump_common(t, t->k->bail);
            break;
        case STUB_LEAVE:
            if (s->undo) {
                e_load(e, H_A, OFF(rip));
                e_mov(e, H_B, H_A);
                e_bytes(e, "\x49\xc1\xfe\x2f\x49\xff\xc6\x49\x83\xfe\x01", 11);
                lea = e_jcc(e, 6); /* canonical: leave */
                if (s->info)
                    e_lea(e, H_RSP, H_RSP, -(int32_t)s->info);
                e_gs_set32(e, OFF(jit.slow_off), s->off);
                jump_common(t, t->k->bail);
                e_patch(e, lea);
            }
            jump_common(t, t->k->leave);
            break;
        case STUB_EXIT:
            e_load(e, H_A, OFF(jit.page));
            e_lea(e, H_A, H_A, (int32_t)s->target);
            e_store(e, H_A, OFF(rip));
            if (s->linkable) { /* link = this record */
                e_bytes(e, "\x4c\x8d\x3d", 3);
                e32(e, 9 + 5); /* past the store (9 bytes) and the jump (5) */
                e_store(e, H_A, OFF(jit.link));
            }
            jump_common(t, t->k->leave);
            if (s->linkable)
                e32(e, (uint32_t)(t->k->used + s->from));
            break;
        }
    }
}

static bool put_block(struct trans *t) {
    bool done = false, any = false;
    unsigned i;

    t->flags = FLAGS_SLOT;
    for (i = 0; i < t->lines && !done; i++) {
        struct line *l = &t->line[i];
        if (l->in.row->attr & INSN_BRANCH) {
            put_ending(t, l, &done);
            if (!done)
                break;
            any = true;
        } else if (put_native(t, l)) {
            any = true;
        } else if (may_call(l)) {
            put_helper(t, l, &t->b->op[i]);
            if (sets_mxcsr(l->in.row->id)) {
                add_stub(t, STUB_EXIT, e_jmp(&t->e), 0)->target = l->off + l->in.len;
                put_stubs(t);
                return t->e.n <= t->e.cap && t->stubs < STUBS;
            }
        } else {
            break;
        }
    }
    if (!any)
        return false;
    if (!done) { /* straight on: the rest of the block, or the next one */
        int64_t next =
            i < t->lines ? t->line[i].off : (int64_t)t->line[i - 1].off + t->line[i - 1].in.len;
        if (t->line[i ? i - 1 : 0].live)
            save_flags(t);
        put_direct(t, next, false);
    }
    put_stubs(t);
    return t->e.n <= t->e.cap && t->stubs < STUBS;
}

const void *jit_translate(struct ref *c, const struct ref_block *b) {
    struct jit_cache *k = c->jit.cache;
    struct trans *t;
    const void *code = NULL;

    if (b->page2 != ~(gpa)0 || (b->mode & 15) != 10 || (b->mode & REF_MODE_STEP))
        return NULL;
    t = calloc(1, sizeof(*t));
    if (!t)
        return NULL;
    t->line = calloc(b->n ? b->n : 1, sizeof(*t->line));
    t->c = c;
    t->b = b;
    t->k = k;
    t->bank = (b->mode & REF_MODE_USER) != 0;
    t->e = (struct emit){.p = k->rw + k->used, .cap = JIT_BLOCK_MAX};
    if (t->line && decode_lines(t)) {
        find_live(t);
        if (put_block(t)) {
            code = k->rx + k->used;
            k->used = (k->used + t->e.n + 15) & ~(size_t)15;
            stat_inc(jit_blocks);
            stat_add(jit_bytes, t->e.n);
        }
    }
    free(t->line);
    free(t);
    return code;
}
