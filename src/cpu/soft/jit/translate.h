/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The translator at work on one block: what its parts share. Only jit_translate (translate.c) makes
 * a struct trans; everything here runs on the vCPU's thread.
 *
 * Scratch registers are A (R15) and B (R14); every function says what it leaves in them. A function
 * that returns bool says false where it has no translation; what it had emitted is taken back.
 */
#ifndef CPU_SOFT_JIT_TRANSLATE_H
#define CPU_SOFT_JIT_TRANSLATE_H

#include "cpu/soft/jit/emit.h"
#include "cpu/soft/jit/jit_internal.h"
#include "cpu/soft/ref/ref.h"

#define OFF(m)   offsetof(struct ref, m)
#define OFF_R(n) (offsetof(struct ref, r) + 8 * (n))

enum { ALL_FLAGS = FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF, STUBS = 4 * REF_BLOCK_OPS + 8 };
enum flags_place { FLAGS_SLOT, FLAGS_HOST, FLAGS_BOTH }; /* slot: c->af */

enum stub_kind {
    STUB_SLOW,
    STUB_SITE,
    STUB_SITE_DIRECT,
    STUB_BAIL,
    STUB_EXIT,
    STUB_LEAVE,
    STUB_VEC,
    STUB_PROMOTE,
    STUB_FAR,
    STUB_RETURNS
};

struct stub {
    enum stub_kind kind;
    size_t from;        /* displacement of the jump that leads here */
    size_t retry;       /* STUB_SLOW, STUB_VEC: where to go on */
    uint32_t info, off; /* STUB_SITE: info is the site */
    int64_t target;     /* STUB_EXIT: offset in the page of the successor */
    bool linkable;
    uint64_t lines;           /* STUB_SLOW of a group: its members */
    bool undo;                /* STUB_LEAVE, STUB_FAR: with info = bytes popped */
    unsigned far;             /* STUB_FAR: its number */
    const struct line *again; /* what makes the flags once more; NULL: they are saved */
};

/* Where a superblock goes on behind a branch; the other side is a way out. */
enum line_follow { FOLLOW_NOT, FOLLOW_NEXT, FOLLOW_TAKEN };

struct line { /* one decoded instruction */
    struct insn in;
    struct ref_op op; /* the interpreter's */
    const uint8_t *bytes;
    uint8_t follow;   /* enum line_follow */
    uint16_t live;    /* flags live after it */
    uint16_t leaving; /* flags live on the way out */
    uint32_t off;     /* offset in the page */
    uint32_t start;   /* the same of the block that `op` counts from */
    uint32_t at;      /* of its code in the block's */
};

enum { SIDES = 12 };

struct side { /* a way out of the middle of a superblock */
    size_t from;
    const struct line *line;
    enum flags_place flags;
};

struct group { /* groups.c; offsets are from the register's value at some point in the block */
    uint8_t head, members;
    uint64_t lines; /* the members, as a set */
    bool write, head_write;
    int32_t min, max, own; /* own: of the head */
    size_t slot; /* offset in struct ref of what leads to the host, once the head is translated */
};

struct trans {
    struct ref *c;
    struct ref_block *b;
    struct jit_cache *k;
    struct emit e, cold; /* the block; its stubs */
    unsigned lines, current;
    unsigned used; /* of `bytes` */
    unsigned sides, stubs, groups;
    unsigned tier;      /* 1: counts how often it runs; 2: groups; 3: sites, too */
    unsigned code;      /* size of the block's code: 8, or 4 if it is flat 32-bit code */
    struct place place; /* host address of the operand, after its check */
    bool direct;        /* A is the address of `place`, which has no index */
    enum flags_place flags;
    uint16_t live_next, live_taken; /* behind the conditional jump that ends the block */
    unsigned bank;
    unsigned accesses[JIT_ACCESSES]; /* so far */
    uint64_t native;                 /* instructions without a handler's call, once that is known */
    bool vec_checked;
    bool faults; /* the block ends in front of an instruction that raises an exception for sure */
    /* From here on rubbish until filled: clearing it would cost more than a small block. */
    uint8_t bytes[REF_BLOCK_OPS * INSN_MAX_LEN]; /* of the instructions: a copy */
    struct line line[REF_BLOCK_OPS];
    struct side side[SIDES];
    struct stub stub[STUBS];
    struct group group[JIT_GROUPS];
    int8_t group_of[REF_BLOCK_OPS];
};

static inline bool is_evicted(unsigned reg) { return reg == 14 || reg == 15; }
/* Addresses, stack slots and instruction pointers are as wide as the code; 32-bit ones wrap. */
static inline unsigned wide(const struct trans *t) { return t->code == 8; }
static inline void put_add(struct trans *t, unsigned to, unsigned base, int32_t disp) {
    e_lea_w(&t->e, wide(t), to, base, disp);
}
static inline void put_mov(struct trans *t, unsigned to, unsigned from) {
    e_mov_w(&t->e, wide(t), to, from);
}
static inline bool in_page(int64_t off) { return off >= 0 && off < 4096; }
static inline int64_t branch_target(const struct line *l) { /* offset in the page */
    return (int64_t)l->off + l->in.len + (int64_t)l->in.imm;
}

/* ---- lines.c ---- */
bool lines_find(struct trans *t); /* false: nothing can be translated */

/* ---- stubs.c: `from` is the displacement of a jump that the stub belongs to ---- */
struct stub *stub_add(struct trans *t, enum stub_kind kind, size_t from, uint32_t off);
void stub_jump_common(struct trans *t, size_t target); /* to shared code */
void stub_put_all(struct trans *t);

/* ---- flags.c ---- */
uint16_t flags_read_by(const struct insn *in);
void flags_find_live(struct trans *t);
void flags_put_save(struct emit *e);
void flags_save(struct trans *t);    /* EFLAGS -> c->af unless it has them; uses B */
void flags_restore(struct trans *t); /* the reverse; uses B */
/* EFLAGS are about to be lost: keeps what is live into this instruction. Uses B. */
void flags_keep(struct trans *t, const struct line *l);
/* The same, unless the access leaves them alone. */
void flags_keep_for_access(struct trans *t, const struct line *l);
/* What the instruction reads, or leaves alone while it writes others, comes into EFLAGS. Uses B. */
void flags_need(struct trans *t, const struct line *l);
void flags_wrote(struct trans *t, const struct line *l);

/* ---- access.c: EFLAGS are lost ---- */
bool access_address(struct trans *t, const struct line *l); /* A = linear address of the operand */
void access_base(struct trans *t, unsigned base, int32_t disp); /* A = base + disp */
/* Checks the linear address in A; afterwards t->place is the operand, made of A, B and registers of
 * the guest. */
void access_check(struct trans *t, uint32_t off, unsigned size, bool write, bool align);
size_t access_tlb(const struct trans *t, size_t member);    /* offset of that of the first entry */
void access_op(struct trans *t, unsigned op, unsigned reg); /* op reg, operand; wide as the code */
void access_collapse(struct trans *t);                      /* B becomes free */

/* ---- groups.c: of the instruction being translated ---- */
void groups_find(struct trans *t);        /* t->native is known */
struct group *groups_of(struct trans *t); /* NULL: none */
/* Its access needs no check, and so leaves EFLAGS alone unless it must be aligned. */
bool groups_follows(struct trans *t);

/* ---- copy.c ---- */
bool copy_insn(struct trans *t, const struct line *l);
/* It makes EFLAGS and nothing else, and can do so again where all registers are as they were. */
bool copy_can_repeat(const struct line *l);
void copy_repeat(struct trans *t, struct emit *e, const struct line *l);
bool copy_lea(struct trans *t, const struct line *l);
/* STMXCSR and LDMXCSR: math libraries execute them in pairs around every call. */
bool copy_mxcsr(struct trans *t, const struct line *l, bool load);

/* ---- divide.c ---- */
bool divide(struct trans *t, const struct line *l);

/* ---- stack.c ---- */
bool stack_push(struct trans *t, const struct line *l);
bool stack_pop(struct trans *t, const struct line *l);
bool stack_leave(struct trans *t, const struct line *l);

/* ---- exits.c ---- */
/* To the instruction at offset `target` of this page (or another one). EFLAGS are free. */
void exit_direct(struct trans *t, int64_t target, bool backward);
bool exit_branch(struct trans *t, const struct line *l); /* ends the block */
/* A branch behind which the superblock goes on, and at its end the ways out. */
void exit_side(struct trans *t, const struct line *l);
void exit_put_sides(struct trans *t);

#endif
