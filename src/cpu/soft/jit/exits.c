/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The end of a block: branches, direct links inside a page, the jump cache. */
#include "cpu/soft/jit/translate.h"

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
    return stub_add(t, STUB_LEAVE, miss, 0);
}

/* RET, CALL and indirect JMP to an address that is not canonical fault themselves: their stub takes
 * rSP's change back. */
static void undo_unless_canonical(struct trans *t, struct stub *s, const struct line *l,
                                  uint32_t popped) {
    s->undo = wide(t);
    s->info = popped;
    s->off = l->off;
}

/* Before a displacement that follows `opcode` bytes and will be patched with one aligned store. The
 * first bytes of a block are left out: they are a jump once it is translated again, and links of
 * the old translation are led elsewhere even then. */
static void align_link(struct trans *t, unsigned opcode) {
    struct emit *e = &t->e;
    size_t at = e->n + opcode, first = t->k->used + JIT_HEAD;
    size_t gap = at < first ? first - at : -at & 3;

    for (; gap > 3; gap -= 3)
        e_nop(e, 3);
    e_nop(e, gap);
}

/* Flags are saved, or free, or can be made again. */
static struct stub *put_far(struct trans *t, unsigned far, int64_t target,
                            const struct line *again) {
    struct emit *e = &t->e;
    struct stub *s;
    size_t jump;

    e_load(e, H_A, OFF(jit.page));
    put_add(t, H_A, H_A, (int32_t)(target & ~(int64_t)4095));
    e_store(e, H_A, OFF(jit.page));
    e_gs(e, 1, 0x33, H_A, OFF(jit.jc_key));
    e_gs(e, 1, 0x3b, H_A, OFF(jit.far) + far * sizeof(struct jit_far));
    align_link(t, 2);
    jump = e_jcc(e, 4);
    s = stub_add(t, STUB_FAR, e_jmp(e), 0);
    s->target = target;
    s->far = far;
    s->again = again;
    t->k->far_info[far].jump = (uint32_t)jump;
    return s;
}

static struct stub *exit_far(struct trans *t, int64_t target) {
    unsigned far = t->tier >= 2 ? far_add(t->c) : 0;

    if (far)
        return put_far(t, far, target, NULL);
    e_load(&t->e, H_A, OFF(jit.page));
    put_add(t, H_A, H_A, (int32_t)target);
    return put_jump_cache(t);
}

/* ---- calls of hot code: the host's CALL and RET predict the guest's ----
 *
 * A call pushes onto a stack of our own the guest's return address, xored with a key that is
 * secret and belongs to the mode and generation of mappings that made it, and the host's address
 * behind the call. A return that finds its address on top executes RET. Whatever makes the two
 * disagree (tasks switched, frames unwound) only costs the way through the jump cache. Nothing
 * looks for kicks here: no guest goes round in circles by returns to its own calls alone. */

static bool predicts_returns(const struct trans *t) {
    return t->tier >= 2 && !(t->c->jit.off & JIT_NO_RETURNS);
}

/* B = return address; A becomes free, and RSP is the guest's again at the end. */
static void put_call(struct trans *t, const struct line *l) {
    struct emit *e = &t->e;
    struct stub *s;
    size_t over;

    e_gs(e, 1, 0x33, H_B, OFF(jit.return_key));
    e_mov(e, H_A, H_RSP);
    e_load(e, H_RSP, OFF(jit.returns));
    e_bytes(e, "\xf7\xc4", 2); /* test esp, all but the last bits: 0 if full */
    e32(e, JIT_RETURNS_SIZE - 16);
    s = stub_add(t, STUB_RETURNS, e_jcc(e, 4), 0);
    s->retry = e->n;
    e_bytes(e, "\x41\x56\xe8", 3); /* push r14; call */
    e32(e, 0);
    over = e->n - 4;
    e_bytes(e, "\x41\x5f", 2); /* RET comes here: pop r15 */
    e_store(e, H_RSP, OFF(jit.returns));
    e_mov(e, H_RSP, H_B);
    e_load(e, H_A, OFF(rip));
    e_bytes(e, "\x49\x81\xe7\x00\xf0\xff\xff", 7); /* and r15, ~4095 */
    e_store(e, H_A, OFF(jit.page));
    /* The call may be the last of its page: then the page is already the next one. */
    if (in_page(l->off + l->in.len))
        exit_direct(t, l->off + l->in.len, false);
    else
        exit_far(t, (l->off + l->in.len) & 4095);
    e_patch(e, over);
    e_store(e, H_RSP, OFF(jit.returns));
    e_mov(e, H_RSP, H_A);
}

/* A = where to return to. */
static struct stub *put_return(struct trans *t) {
    struct emit *e = &t->e;
    size_t miss;

    if (predicts_returns(t)) {
        e_store(e, H_A, OFF(rip));
        e_mov(e, H_B, H_RSP);
        e_load(e, H_RSP, OFF(jit.returns));
        e_gs(e, 1, 0x33, H_A, OFF(jit.return_key));
        e_bytes(e, "\x4c\x3b\x7c\x24\x08", 5); /* cmp r15, [rsp + 8] */
        miss = e_jcc(e, 5);
        e8(e, 0xc3);
        e_patch(e, miss);
        e_mov(e, H_RSP, H_B);
        e_load(e, H_A, OFF(rip));
    }
    return put_jump_cache(t);
}

/* In this page, and not an instruction that goes on in another one: that may be entered only where
 * both are mapped. */
static bool is_here(const struct trans *t, int64_t target) {
    unsigned left = (unsigned)(4096 - target);
    uint8_t bytes[INSN_MAX_LEN];
    struct insn in;

    if (!in_page(target))
        return false;
    return left >= INSN_MAX_LEN ||
           mem_read(t->c->mem, (t->b->addr & ~(gpa)4095) + (gpa)target, bytes, left) < 0 ||
           insn_decode(&in, bytes, left, t->code) != -1;
}

/* A jump (cc 16: JMP) to the instruction at offset `target` of this page, which is led there once
 * that is translated. */
static void put_link(struct trans *t, unsigned cc, int64_t target) {
    struct emit *e = &t->e;
    struct stub *s;

    align_link(t, cc < 16 ? 2 : 1);
    s = stub_add(t, STUB_EXIT, cc < 16 ? e_jcc(e, cc) : e_jmp(e), 0);
    s->target = target;
    s->linkable = true;
}

/* To the instruction at offset `target` of this page (or another one). */
void exit_direct(struct trans *t, int64_t target, bool backward) {
    struct emit *e = &t->e;

    if (!is_here(t, target)) {
        exit_far(t, target);
        return;
    }
    if (backward) {
        e_gs_cmp32(e, OFF(jit.poll), 0);
        put_link(t, 4, target);
        stub_add(t, STUB_EXIT, e_jmp(e), 0)->target = target;
    } else {
        put_link(t, 16, target);
    }
}

/* The same from l, with EFLAGS if these are live there. */
static void put_edge(struct trans *t, const struct line *l, int64_t target, bool backward,
                     uint16_t live) {
    unsigned far = 0;

    if (!in_page(target) && live && t->flags == FLAGS_HOST && t->tier >= 2 && l != t->line &&
        copy_can_repeat(l - 1))
        far = far_add(t->c);
    if (far) {
        put_far(t, far, target, l - 1);
        return;
    }
    if (live)
        flags_save(t);
    exit_direct(t, target, backward);
}

/* Nothing but a jump that can be conditional. */
static bool is_plain(const struct trans *t, int64_t target, bool backward, uint16_t live) {
    return !backward && is_here(t, target) && !(live && t->flags == FLAGS_HOST);
}

static void put_jcc(struct trans *t, const struct line *l) {
    unsigned cc = l->in.opcode & 15;
    int64_t next = l->off + l->in.len, to = branch_target(l);
    bool backward = to <= l->off;
    enum flags_place flags;
    size_t taken;

    flags_restore(t);
    flags = t->flags;
    if (is_plain(t, to, backward, t->live_taken)) {
        put_link(t, cc, to);
        put_edge(t, l, next, false, t->live_next);
    } else if (is_plain(t, next, false, t->live_next)) {
        put_link(t, cc ^ 1, next);
        put_edge(t, l, to, backward, t->live_taken);
    } else {
        taken = e_jcc(&t->e, cc);
        put_edge(t, l, next, false, t->live_next);
        e_patch(&t->e, taken);
        t->flags = flags;
        put_edge(t, l, to, backward, t->live_taken);
    }
}

static void put_push_return(struct trans *t, const struct line *l) {
    struct emit *e = &t->e;

    access_base(t, H_RSP, -(int32_t)t->code);
    access_check(t, l->off, t->code, true, false);
    access_collapse(t);
    e_load(e, H_B, OFF(jit.page));
    put_add(t, H_B, H_B, (int32_t)(l->off + l->in.len));
    access_op(t, 0x89, H_B);
    put_add(t, H_RSP, H_RSP, -(int32_t)t->code);
    if (predicts_returns(t))
        put_call(t, l);
}

bool exit_branch(struct trans *t, const struct line *l) {
    struct emit *e = &t->e;
    const struct insn *in = &l->in;
    bool direct = in->imm_len != 0;
    uint32_t popped;

    if (!wide(t) && in->opsize != 4) /* the instruction pointer is cut to 16 bits */
        return false;
    switch (in->row->id) {
    case INSN_JCC:
        put_jcc(t, l);
        return true;
    case INSN_JMP:
        if (direct) {
            put_edge(t, l, branch_target(l), branch_target(l) <= l->off, l->live);
            return true;
        }
        break;
    case INSN_CALL:
        if (!direct)
            break;
        flags_keep(t, l);
        put_push_return(t, l);
        if (in_page(branch_target(l)))
            exit_direct(t, branch_target(l), branch_target(l) <= l->off);
        else
            undo_unless_canonical(t, exit_far(t, branch_target(l)), l, (uint32_t)-8);
        return true;
    case INSN_RET:
        popped = t->code + (in->imm_len ? (uint16_t)in->imm : 0);
        flags_keep(t, l);
        access_base(t, H_RSP, 0);
        access_check(t, l->off, t->code, false, false);
        access_op(t, 0x8b, H_A);
        put_add(t, H_RSP, H_RSP, (int32_t)popped);
        undo_unless_canonical(t, put_return(t), l, popped);
        return true;
    default:
        return false;
    }
    /* Indirect JMP or CALL: the target first (it may fault), then the push. */
    flags_keep(t, l);
    if (in->mem) {
        if (!access_address(t, l)) {
            return false;
        }
        access_check(t, l->off, t->code, false, false);
        access_op(t, 0x8b, H_A);
    } else if (is_evicted(in->rm)) {
        e_load(e, H_A, OFF_R(in->rm));
    } else {
        put_mov(t, H_A, in->rm);
    }
    if (in->row->id == INSN_CALL) { /* the target is looked at before anything is pushed */
        if (wide(t)) {
            e_mov(e, H_B, H_A);
            e_bytes(e, "\x49\xc1\xfe\x2f", 4); /* sar r14, 47: 0 or -1 if canonical */
            e_bytes(e, "\x49\xff\xc6", 3);     /* inc r14 */
            e_bytes(e, "\x49\x83\xfe\x01", 4); /* cmp r14, 1 */
            stub_add(t, STUB_BAIL, e_jcc(e, 7), l->off);
        }
        e_store(e, H_A, OFF(jit.target));
        put_push_return(t, l);
        e_load(e, H_A, OFF(jit.target));
        put_jump_cache(t);
        return true;
    }
    undo_unless_canonical(t, put_jump_cache(t), l, 0);
    return true;
}

static int64_t way_out(const struct line *l) {
    return l->follow == FOLLOW_NEXT ? branch_target(l) : (int64_t)l->off + l->in.len;
}

static bool goes_back(const struct line *l) {
    return l->follow == FOLLOW_NEXT && branch_target(l) <= l->off;
}

void exit_side(struct trans *t, const struct line *l) {
    unsigned cc = (l->in.opcode & 15) ^ (l->follow == FOLLOW_TAKEN);

    if (l->in.row->id == INSN_JMP)
        return;
    flags_restore(t);
    if (is_plain(t, way_out(l), goes_back(l), l->leaving))
        put_link(t, cc, way_out(l));
    else
        t->side[t->sides++] = (struct side){.from = e_jcc(&t->e, cc), .line = l, .flags = t->flags};
}

void exit_put_sides(struct trans *t) {
    for (unsigned i = 0; i < t->sides; i++) {
        const struct side *s = &t->side[i];
        e_patch(&t->e, s->from);
        t->flags = s->flags;
        put_edge(t, s->line, way_out(s->line), goes_back(s->line), s->line->leaving);
    }
}
