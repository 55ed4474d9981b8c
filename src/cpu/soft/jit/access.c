/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory operands: linear addresses and the software TLB's check. Source: SDM vol. 2A 2.1 and 2.2.
 */
#include "cpu/soft/jit/translate.h"

#include <assert.h>

/* A = the address of `m`; if nothing is added to it later, accesses may use `m` itself. In 32-bit
 * code only sites may, with the sum as it is: one that wraps is in no page that a site remembers.
 */
static void put_lea(struct trans *t, struct place m, unsigned w, bool direct) {
    const struct group *g = groups_of(t);
    struct emit *e = &t->e;

    t->place = m;
    t->direct = direct && m.base != H_NONE && m.index == H_NONE && !is_evicted(m.base);
    if (t->direct && !wide(t)) {
        t->direct = m.disp == (int16_t)m.disp;
        w = t->direct ? 8 : 0;
    }
    if (groups_follows(t))
        return;
    if (g && g->head == t->current) /* of the group's first byte */
        m.disp += g->min - g->own;
    e8(e, 0x40 | w | 4 | e_rex_xb(m));
    e8(e, 0x8d);
    e_place(e, H_A, m);
}

static bool may_have_site(const struct trans *t) {
    return t->tier >= 2 && !(t->b->plain_sites >> t->current & 1);
}

void access_base(struct trans *t, unsigned base, int32_t disp) {
    struct place m = {.base = (uint8_t)base, .index = H_NONE, .disp = disp};

    put_lea(t, m, wide(t) ? 8 : 0, wide(t) || may_have_site(t));
}

/* FS and GS of 32-bit code may be anything, however flat the others are. */
static void put_segment_base(struct trans *t, const struct line *l) {
    struct emit *e = &t->e;

    if (!wide(t)) { /* test byte gs:[open_segs], 1 << seg */
        e_gs(e, 0, 0xf6, 0, OFF(open_segs));
        e8(e, 1u << l->in.seg);
        stub_add(t, STUB_BAIL, e_jcc(e, 4), l->off);
    }
    e_gs(e, wide(t), 0x03, H_A,
         OFF(s.seg) + l->in.seg * sizeof(struct x86_segment) + offsetof(struct x86_segment, base));
}

bool access_address(struct trans *t, const struct line *l) {
    const struct insn *in = &l->in;
    struct emit *e = &t->e;
    struct place m = {.base = in->base == REG_NONE ? H_NONE : in->base,
                      .index = in->index == REG_NONE ? H_NONE : in->index,
                      .scale = in->scale,
                      .disp = (int32_t)in->disp};

    if (in->adsize == 2 || (!wide(t) && in->seg == SEG_CS)) /* CS may not be readable */
        return false;
    if (in->rip_relative) {
        int64_t d = (int64_t)l->off + in->len + in->disp;
        if (d != (int32_t)d || in->adsize != 8)
            return false;
        e_load(e, H_A, OFF(jit.page));
        e_lea(e, H_A, H_A, (int32_t)d);
        t->direct = false;
    } else {
        if (m.base != H_NONE && is_evicted(m.base)) {
            e_load(e, H_A, OFF_R(m.base));
            if (m.index == m.base)
                m.index = H_A;
            m.base = H_A;
        }
        if (m.index != H_NONE && is_evicted(m.index) &&
            !(m.index == H_A && m.base == H_A && in->index == in->base)) {
            e_load(e, H_B, OFF_R(m.index));
            m.index = H_B;
        }
        put_lea(t, m, in->adsize == 8 ? 8 : 0,
                in->seg < SEG_FS && (wide(t) ? in->adsize == 8 : may_have_site(t)));
    }
    if (in->seg >= SEG_FS)
        put_segment_base(t, l);
    return true;
}

static void check_alignment(struct trans *t, uint32_t off, unsigned size) {
    e_bytes(&t->e, "\x41\xf7\xc7", 3); /* test r15d, size - 1 */
    e32(&t->e, size - 1);
    stub_add(t, STUB_BAIL, e_jcc(&t->e, 5), off);
}

static unsigned slow_info(unsigned size, bool write, bool align) {
    return size | (write ? JIT_SLOW_WRITE : 0) | (align ? JIT_SLOW_ALIGN : 0);
}

/* By the page that this access found last. */
static bool check_by_site(struct trans *t, uint32_t off, unsigned size, bool write, bool align) {
    struct emit *e = &t->e;
    struct jit_site_info info = {.block = t->b,
                                 .line = (uint8_t)t->current,
                                 .off = (uint16_t)off,
                                 .slow = (uint16_t)slow_info(size, write, align)};
    int site;

    if (!may_have_site(t))
        return false;
    info.slow |= t->direct ? JIT_SLOW_DIRECT : JIT_SLOW_SITE;
    info.back = (uint32_t)e->n;
    site = sites_add(t->c, &info);
    if (site < 0)
        return false;
    if (!t->direct)
        e_mov(e, H_B, H_A);
    /* sub A or B, gs:[tag]; cmp with 4096 - size */
    e_gs(e, 1, 0x2b, t->direct ? H_A : H_B, sites_tag(site));
    e_bytes(e, t->direct ? "\x49\x81\xff" : "\x49\x81\xfe", 3);
    e32(e, 4096 - size);
    stub_add(t, t->direct ? STUB_SITE_DIRECT : STUB_SITE, e_jcc(e, 7), off)->info = (uint32_t)site;
    if (align)
        check_alignment(t, off, size);
    e_load(e, H_B, sites_addend(site));
    assert(align || e->n - info.back == (t->direct ? JIT_CHECK_DIRECT : JIT_CHECK_SITE));
    if (!t->direct)
        t->place = (struct place){.base = H_A};
    t->place.index = H_B;
    t->place.scale = 0;
    return true;
}

/* The first of a group checks for all of them; they differ in what they add to the register. */
static bool check_by_group(struct trans *t, uint32_t off, unsigned size, bool align) {
    struct group *g = groups_of(t);
    struct emit *e = &t->e;
    struct jit_site_info info = {
        .block = t->b, .line = (uint8_t)t->current, .off = (uint16_t)off, .back = (uint32_t)e->n};
    unsigned span;

    if (!g)
        return false;
    span = (unsigned)(g->max - g->min);
    if (g->head == t->current) {
        info.slow =
            (uint16_t)(span | JIT_SLOW_GROUP | JIT_SLOW_DIRECT | (g->write ? JIT_SLOW_WRITE : 0) |
                       (g->write && !g->head_write ? JIT_SLOW_LATER : 0));
        g->site = sites_add(t->c, &info);
        if (g->site < 0) { /* none left: this one for itself, from its own address */
            t->group_of[t->current] = -1;
            put_lea(t, t->place, 8, true); /* groups are of 64-bit addresses */
            return false;
        }
        e_gs(e, 1, 0x2b, H_A, sites_tag(g->site));
        e_bytes(e, "\x49\x81\xff", 3); /* cmp r15, 4096 - span */
        e32(e, 4096 - span);
        stub_add(t, STUB_SITE_DIRECT, e_jcc(e, 7), off)->info = (uint32_t)g->site;
        t->accesses[1]++;
    }
    if (g->site < 0)
        return false;
    if (align) {
        e_op(e, 1, 0x8d, H_A, t->place);
        check_alignment(t, off, size);
    }
    e_load(e, H_B, sites_addend(g->site));
    t->place.index = H_B;
    t->place.scale = 0;
    return true;
}

void access_check(struct trans *t, uint32_t off, unsigned size, bool write, bool align) {
    struct emit *e = &t->e;
    size_t tag = write ? offsetof(struct ref, jit.tag_w) : offsetof(struct ref, jit.tag_r), retry;
    struct stub *s;

    if (check_by_group(t, off, size, align))
        return;
    if (check_by_site(t, off, size, write, align)) {
        t->accesses[1]++;
        return;
    }
    t->accesses[0]++;
    if (!wide(t) && t->direct)
        e_mov_w(e, 0, H_A, H_A); /* it was the whole sum, for a site */
    retry = e->n;
    tag += t->bank * sizeof(t->c->jit.tag_r[0]);
    e_bytes(e, "\x65\xc4\x62\x82\xf5\x34\x25", 7); /* pext r14, r15, gs:[index_mask] */
    e32(e, (uint32_t)OFF(jit.index_mask));
    e_gs_index(e, 0x2b, H_A, H_B, tag); /* sub r15, gs:[r14*8 + tag] */
    e_bytes(e, "\x49\x81\xff", 3);      /* cmp r15, 4096 - size */
    e32(e, 4096 - size);
    s = stub_add(t, STUB_SLOW, e_jcc(e, 7), off);
    s->retry = retry;
    s->info = slow_info(size, write, align);
    if (align)
        check_alignment(t, off, size);
    e_gs_index(e, 0x8b, H_B, H_B,
               offsetof(struct ref, jit.host) + t->bank * sizeof(t->c->jit.host[0]));
    assert(align || e->n - retry == JIT_CHECK_TLB);
    t->place = (struct place){.base = H_A, .index = H_B};
}

void access_op(struct trans *t, unsigned op, unsigned reg) {
    e_op(&t->e, wide(t), op, reg, t->place);
}

void access_collapse(struct trans *t) {
    e_op(&t->e, 1, 0x8d, H_A, t->place);
    t->place = (struct place){.base = H_A, .index = H_NONE};
}
