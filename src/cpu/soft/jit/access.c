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
    return t->tier >= 3 && !(t->b->plain_sites >> t->current & 1);
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

size_t access_tlb(const struct trans *t, size_t member) {
    return offsetof(struct ref, jit.tlb) + t->bank * sizeof(t->c->jit.tlb[0]) + member;
}

/* B = offset of its entry, A = offset in its page if that is the one; `size` bytes are in the page
 * if EFLAGS say "not above". */
static void compare_tag(struct trans *t, unsigned size, bool write) {
    struct emit *e = &t->e;

    e_bytes(e, "\xc4\x43\xfb\xf0\xf7", 5); /* rorx r14, r15, 12 - JIT_TLB_SHIFT */
    e8(e, 12 - JIT_TLB_SHIFT);
    e_bytes(e, "\x41\x81\xe6", 3); /* and r14d, offset of the last entry */
    e32(e, (JIT_TLB_SIZE - 1) << JIT_TLB_SHIFT);
    e_gs_base(e, 0x2b, H_A, H_B, /* sub r15, gs:[r14 + tag] */
              access_tlb(t, write ? offsetof(struct jit_tlb_entry, tag_w)
                                  : offsetof(struct jit_tlb_entry, tag_r)));
    e_bytes(e, "\x49\x81\xff", 3); /* cmp r15, 4096 - size */
    e32(e, 4096 - size);
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
    info.slow |= JIT_SLOW_SITE | (t->direct ? JIT_SLOW_DIRECT : 0);
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

static unsigned group_info(const struct group *g) {
    return (unsigned)(g->max - g->min) | JIT_SLOW_GROUP | (g->write ? JIT_SLOW_WRITE : 0) |
           (g->write && !g->head_write ? JIT_SLOW_LATER : 0);
}

/* Checks the range of a group, which begins at A. B = what leads to the host. */
static void check_range(struct trans *t, struct group *g, uint32_t off) {
    struct emit *e = &t->e;
    size_t retry = e->n;
    struct stub *s;

    compare_tag(t, (unsigned)(g->max - g->min), g->write);
    s = stub_add(t, STUB_SLOW, e_jcc(e, 7), off);
    s->retry = retry;
    s->info = group_info(g);
    s->lines = g->lines;
    e_gs_base(e, 0x8b, H_B, H_B, access_tlb(t, offsetof(struct jit_tlb_entry, addend)));
    g->slot = OFF(jit.group) + 8 * (size_t)(g - t->group);
    e_store(e, H_B, g->slot);
    t->accesses[JIT_BY_TLB_GROUP]++;
}

static bool check_range_by_site(struct trans *t, struct group *g, uint32_t off) {
    struct emit *e = &t->e;
    struct jit_site_info info = {.block = t->b,
                                 .line = (uint8_t)t->current,
                                 .off = (uint16_t)off,
                                 .back = (uint32_t)e->n,
                                 .slow =
                                     (uint16_t)(group_info(g) | JIT_SLOW_SITE | JIT_SLOW_DIRECT)};
    int site = may_have_site(t) ? sites_add(t->c, &info) : -1;

    if (site < 0)
        return false;
    e_gs(e, 1, 0x2b, H_A, sites_tag(site));
    e_bytes(e, "\x49\x81\xff", 3); /* cmp r15, 4096 - span */
    e32(e, 4096 - (uint32_t)(g->max - g->min));
    stub_add(t, STUB_SITE_DIRECT, e_jcc(e, 7), off)->info = (uint32_t)site;
    g->slot = sites_addend(site);
    e_load(e, H_B, g->slot);
    t->accesses[JIT_BY_SITE_GROUP]++;
    return true;
}

/* The first of a group checks for all of them; they differ in what they add to the register. */
static bool check_by_group(struct trans *t, uint32_t off, unsigned size, bool align) {
    struct group *g = groups_of(t);
    struct emit *e = &t->e;

    if (!g)
        return false;
    if (g->head != t->current) {
        e_load(e, H_B, g->slot);
        t->accesses[JIT_BY_GROUP]++;
    } else if (!check_range_by_site(t, g, off)) {
        check_range(t, g, off);
    }
    if (align) {
        e_op(e, 1, 0x8d, H_A, t->place);
        check_alignment(t, off, size);
    }
    t->place.index = H_B;
    t->place.scale = 0;
    return true;
}

void access_check(struct trans *t, uint32_t off, unsigned size, bool write, bool align) {
    struct emit *e = &t->e;
    bool direct = t->direct && wide(t); /* addresses of 32 bits are sums that may wrap */
    size_t retry;
    struct stub *s;

    if (check_by_group(t, off, size, align))
        return;
    if (check_by_site(t, off, size, write, align)) {
        t->accesses[JIT_BY_SITE]++;
        return;
    }
    t->accesses[JIT_BY_TLB]++;
    if (!wide(t) && t->direct)
        e_mov_w(e, 0, H_A, H_A); /* it was the whole sum, for a site */
    retry = e->n;
    compare_tag(t, size, write);
    s = stub_add(t, STUB_SLOW, e_jcc(e, 7), off);
    s->retry = retry;
    s->info = slow_info(size, write, align) | (direct ? JIT_SLOW_DIRECT : 0);
    if (align)
        check_alignment(t, off, size);
    e_gs_base(e, 0x8b, H_B, H_B,
              access_tlb(t, direct ? offsetof(struct jit_tlb_entry, addend)
                                   : offsetof(struct jit_tlb_entry, host)));
    assert(align || e->n - retry == JIT_CHECK_TLB);
    if (!direct)
        t->place = (struct place){.base = H_A};
    t->place.index = H_B;
    t->place.scale = 0;
}

void access_op(struct trans *t, unsigned op, unsigned reg) {
    e_op(&t->e, wide(t), op, reg, t->place);
}

void access_collapse(struct trans *t) {
    e_op(&t->e, 1, 0x8d, H_A, t->place);
    t->place = (struct place){.base = H_A, .index = H_NONE};
}
