/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The interpreter's software TLB: fills, flushes, and every memory access that is not one fast hit
 * (MMIO, page-crossing, pages with decoded code, watched pages, faults).
 * Source: SDM vol. 3A 4.10 (TLB), 17.2 (data breakpoints).
 */
#include "base/trace.h"
#include "bus/dirty.h"
#include "cpu/soft/jit/check.h"
#include "cpu/soft/jit/jit_internal.h"
#include "cpu/soft/ref/pv.h"
#include "cpu/soft/ref/ref.h"

enum { TLB_PART = JIT_TLB_SIZE / 32 }; /* entries that a bit of tlb_used stands for */

/* An address whose TLB index differs from i, so that no access of index i can match it. Page 0 is
 * that for all entries but the first, so that memory never written to is an empty TLB. */
static uint64_t invalid_tag(unsigned i) { return (uint64_t)(i ^ 1) << 12; }

void ref_tlb_invalidate(struct ref *c, unsigned bank, unsigned i) {
    c->jit.tlb[bank][i].tag_r = c->jit.tlb[bank][i].tag_w = invalid_tag(i);
}

/* For reading; ref_tlb_allow_write does the rest. */
void ref_tlb_set(struct ref *c, unsigned bank, unsigned i, uint64_t page, uint64_t host) {
    c->tlb_used[bank] |= 1u << i / TLB_PART;
    c->jit.tlb[bank][i] = (struct jit_tlb_entry){
        .tag_r = page, .tag_w = invalid_tag(i), .host = host, .addend = host - page};
}

/* ---- generations of cached code addresses ---- */

uint32_t ref_new_generation(struct ref *c) {
    c->next = NULL;
    if (++c->last_generation < 1u << (32 - REF_MODE_BITS))
        return c->last_generation;
    memset(c->jc, 0, sizeof(c->jc));
    memset(c->itlb, 0, sizeof(c->itlb));
    c->generation = c->user_generation = 1;
    jit_forget_keys(c);
    ref_space_drop_all(c);
    return c->last_generation = 2;
}

void ref_jc_flush(struct ref *c) {
    c->generation = ref_new_generation(c);
    c->user_generation = ref_new_generation(c);
    c->kernel_local = c->user_global = false;
    memset(c->code_seen, 0, sizeof(c->code_seen));
    ref_space_drop_code(c);
    jit_set_key(c);
}

/* Kernel code lies in global pages, so what it left may stay, unless some of it did not; the other
 * way round with user code. */
void ref_jc_flush_user(struct ref *c) {
    if (c->kernel_local || c->user_global) {
        ref_jc_flush(c);
        return;
    }
    c->user_generation = ref_new_generation(c);
    jit_set_key(c);
}

static unsigned hash_page(uint64_t page) {
    return (unsigned)(page * 0x9e3779b97f4a7c15ull >> 40) % (8 * JIT_TLB_SIZE);
}

void ref_jc_fetched(struct ref *c, uint64_t lin) {
    unsigned h = hash_page(lin >> 12);

    c->code_seen[h / 8] |= (uint8_t)(1u << h % 8);
}

/* ---- flushes ---- */

void ref_tlb_init(struct ref *c) {
    for (unsigned bank = 0; bank < 3; bank++)
        ref_tlb_invalidate(c, bank, 0);
}

/* Parts that nothing was filled into are left alone: a machine that has just been restored owns no
 * memory for them. */
static void flush_data(struct ref *c) {
    if (c->tlb_used[0] | c->tlb_used[1])
        memset(c->write_seen, 0, sizeof(c->write_seen));
    for (unsigned bank = 0; bank < 2; bank++) {
        for (uint32_t used = c->tlb_used[bank]; used; used &= used - 1) {
            unsigned first = (unsigned)__builtin_ctz(used) * TLB_PART;

            for (unsigned i = first; i < first + TLB_PART; i++)
                ref_tlb_invalidate(c, bank, i);
        }
        c->tlb_used[bank] = 0;
    }
    c->fill_count = 0;
    if (c->jit.enabled)
        sites_flush(c);
}

void ref_tlb_flush(struct ref *c) {
    flush_data(c);
    ref_space_drop_all(c);
    ref_jc_flush(c);
    stat_inc(ref_tlb_flushes);
}

void ref_tlb_flush_local(struct ref *c) {
    if (c->fill_count > REF_FILLED) {
        flush_data(c);
        stat_inc(ref_tlb_flushes);
    }
    for (unsigned n = 0; n < c->fill_count; n++)
        ref_tlb_invalidate(c, c->filled[n] / JIT_TLB_SIZE, c->filled[n] % JIT_TLB_SIZE);
    c->fill_count = 0;
    if (c->jit.enabled)
        sites_flush_local(c);
    ref_jc_flush_user(c);
    stat_inc(ref_tlb_flushes_local);
}

void ref_tlb_flush_page(struct ref *c, uint64_t lin) {
    unsigned i = ref_tlb_index(lin), h = hash_page(lin >> 12);

    ref_tlb_invalidate(c, 0, i);
    ref_tlb_invalidate(c, 1, i);
    if (c->jit.enabled)
        sites_flush_page(c, lin);
    if (!(c->code_seen[h / 8] >> h % 8 & 1))
        return;
    if (ref_upper_half(c, lin))
        ref_jc_flush(c);
    else
        ref_jc_flush_user(c);
}

void ref_tlb_forbid_write(struct ref *c, const uint8_t *host_page) {
    unsigned h = hash_page((uintptr_t)host_page >> 12);

    if (!host_page || !(c->write_seen[h / 8] >> h % 8 & 1))
        return;
    for (unsigned bank = 0; bank < 2; bank++)
        for (unsigned i = 0; i < JIT_TLB_SIZE; i++)
            if (c->jit.tlb[bank][i].host == (uintptr_t)host_page)
                c->jit.tlb[bank][i].tag_w = invalid_tag(i);
    if (c->jit.enabled)
        sites_forbid_write(c, host_page);
}

static uint64_t wrap(const struct ref *c, uint64_t lin) {
    return (c->mode & REF_MODE_CODE) == 2 || (c->s.efer & X86_EFER_LMA) ? lin : (uint32_t)lin;
}

/* ---- watchpoints (only looked at in REF_MODE_STEP, which DR7 switches on) ---- */

static void watch(struct ref *c, uint64_t lin, unsigned size, bool write) {
    for (unsigned i = 0; i < 4; i++) {
        unsigned kind = c->s.dr7 >> (16 + 4 * i) & 3, len = c->s.dr7 >> (18 + 4 * i) & 3;
        uint64_t bytes = len == 2 ? 8 : len + 1, at = c->s.dr[i] & ~(bytes - 1);

        if (!(c->s.dr7 >> (2 * i) & 3) || !(kind == 3 || (kind == 1 && write)))
            continue;
        if (lin < at + bytes && at < lin + size)
            c->db_hits |= (uint16_t)(1u << i);
    }
}

/* I/O breakpoints (SDM vol. 3A 17.2.4): with CR4.DE only. */
void ref_watch_io(struct ref *c, uint16_t port, unsigned size) {
    for (unsigned i = 0; i < 4; i++) {
        unsigned kind = c->s.dr7 >> (16 + 4 * i) & 3, len = c->s.dr7 >> (18 + 4 * i) & 3;
        uint64_t bytes = len + 1, at = c->s.dr[i] & ~(bytes - 1);

        if (kind == 2 && (c->s.dr7 >> (2 * i) & 3) && port < at + bytes && at < port + size)
            c->db_hits |= (uint16_t)(1u << i);
    }
}

static bool watching(const struct ref *c) { return c->s.dr7 & 0xff; }

/* ---- fills: what is not global is listed, for CR3 writes ---- */

void ref_tlb_note_fill(struct ref *c, unsigned bank, unsigned i) {
    if (c->fill_count < REF_FILLED)
        c->filled[c->fill_count] = (uint16_t)(bank * JIT_TLB_SIZE + i);
    c->fill_count++;
}

/* A page's stores may be fast hits: nobody has decoded it, and who does from now on asks first. */
static bool may_write(struct ref *c, uint64_t *flags) {
    uint64_t mine = MEM_PAGE_WRITER(c->cpu.config.index), old;

    old = __atomic_load_n(flags, __ATOMIC_RELAXED);
    if (old & MEM_PAGE_ANY_CODE)
        return false;
    if (!c->group.several || (old & mine))
        return true;
    old = __atomic_fetch_or(flags, mine, __ATOMIC_SEQ_CST);
    if (!(old & MEM_PAGE_ANY_CODE))
        return true;
    __atomic_fetch_and(flags, ~mine, __ATOMIC_SEQ_CST);
    return false;
}

void ref_tlb_allow_write(struct ref *c, unsigned bank, unsigned i, const struct mem_range *r) {
    struct jit_tlb_entry *t = &c->jit.tlb[bank][i];
    uint64_t offset = t->host - (uintptr_t)r->host;
    unsigned h = hash_page(t->host >> 12);

    if (r->readonly || !may_write(c, &r->page_flags[offset >> 12]))
        return;
    if (c->jit.check)
        check_grant(c, (const void *)t->host, &t->tag_w, t->tag_r);
    if (dirty_noted(c->mem))
        dirty_note_page(r, offset >> 12);
    t->tag_w = t->tag_r;
    c->write_seen[h / 8] |= (uint8_t)(1u << h % 8);
}

bool ref_tlb_fill(struct ref *c, uint64_t lin, unsigned bank, const struct ref_xlat *x) {
    const struct mem_range *r = mem_find(c->mem, x->pa);
    unsigned i = ref_tlb_index(lin);
    uint64_t page = lin & ~4095ull;

    if (!r || watching(c))
        return false;
    if (!x->global && (c->jit.tlb[bank][i].tag_r != page || c->jit.global[bank][i]))
        ref_tlb_note_fill(c, bank, i);
    c->jit.global[bank][i] = x->global;
    ref_tlb_set(c, bank, i, page, (uintptr_t)r->host + ((x->pa & ~(gpa)4095) - r->base));
    if (x->writable)
        ref_tlb_allow_write(c, bank, i, r);
    return true;
}

static void check_canonical(struct ref *c, const struct ref_op *o, uint64_t lin, unsigned size) {
    uint64_t last = lin + size - 1;

    if ((int64_t)(lin << 16) >> 16 == (int64_t)lin && (int64_t)(last << 16) >> 16 == (int64_t)last)
        return;
    ref_raise_error(c, o, o && o->seg == SEG_SS ? X86_SS : X86_GP, 0);
}

/* Translation of one byte for an access, or a fault. */
static gpa translate(struct ref *c, const struct ref_op *o, uint64_t lin, bool write, bool user) {
    struct ref_xlat x;
    uint32_t error;

    if (ref_mmu_translate(c, lin, write ? REF_WRITE : REF_READ, user, &x, &error) < 0)
        ref_page_fault(c, o, lin, error);
    ref_tlb_fill(c, lin, user, &x);
    stat_inc(ref_tlb_fills);
    return x.pa;
}

/* ---- physical accesses ---- */

/* The LAPIC's page, where it is after a reset; it offers nothing while it is elsewhere. */
static void settle_for(struct ref *c, gpa pa) {
    if (REF_UNLIKELY(pa >> 12 == 0xfee00))
        ref_pv_settle(c);
}

static void phys_read(struct ref *c, gpa pa, void *buf, unsigned size) {
    struct cpu_bus *bus = &c->cpu.config.bus;
    uint8_t *out = buf;

    if (mem_read(c->mem, pa, buf, size) == 0)
        return;
    while (size) {
        unsigned n = size >= 8 && !(pa & 7)   ? 8
                     : size >= 4 && !(pa & 3) ? 4
                     : size >= 2 && !(pa & 1) ? 2
                                              : 1;
        uint64_t v;

        settle_for(c, pa);
        ref_bus_begin(c);
        v = bus->io_read(bus->opaque, false, pa, n);
        ref_bus_end(c);
        memcpy(out, &v, n);
        pa += n;
        out += n;
        size -= n;
    }
}

/* Bytes have been written to a page whose blocks, if there are any, may have to go. */
static void code_written(struct ref *c, const uint64_t *flags, gpa pa, unsigned size) {
    uint64_t now;

    if (c->group.several)
        __atomic_thread_fence(__ATOMIC_SEQ_CST); /* bus/mem.h */
    now = __atomic_load_n(flags, __ATOMIC_RELAXED) & MEM_PAGE_ANY_CODE;
    if (now & MEM_PAGE_CODE(c->cpu.config.index))
        ref_cache_written(c, pa, size);
    if (now & ~MEM_PAGE_CODE(c->cpu.config.index))
        ref_group_written(c, pa & ~(gpa)4095, now);
}

static void phys_write(struct ref *c, gpa pa, const void *buf, unsigned size) {
    struct cpu_bus *bus = &c->cpu.config.bus;
    const struct mem_range *r = mem_find(c->mem, pa);
    const uint8_t *in = buf;

    if (r) {
        uint64_t offset = pa - r->base;
        if (r->readonly || offset + size > r->size)
            return;
        if (c->jit.check)
            check_store(c, r->host + offset);
        memcpy(r->host + offset, buf, size);
        if (dirty_noted(c->mem))
            dirty_note_page(r, offset >> 12);
        code_written(c, &r->page_flags[offset >> 12], pa, size);
        return;
    }
    while (size) {
        unsigned n = size >= 8 && !(pa & 7)   ? 8
                     : size >= 4 && !(pa & 3) ? 4
                     : size >= 2 && !(pa & 1) ? 2
                                              : 1;
        uint64_t v = 0;
        memcpy(&v, in, n);
        settle_for(c, pa);
        ref_bus_begin(c);
        bus->io_write(bus->opaque, false, pa, n, v);
        ref_bus_end(c);
        pa += n;
        in += n;
        size -= n;
    }
}

/* An access in at most two pages. */
struct span {
    gpa pa[2];
    unsigned size[2];
};

static void open_span(struct ref *c, const struct ref_op *o, uint64_t lin, unsigned size,
                      bool write, bool user, struct span *s) {
    unsigned first = 4096 - (lin & 4095);

    check_canonical(c, o, lin, size);
    if (watching(c))
        watch(c, lin, size, write);
    s->size[0] = size < first ? size : first;
    s->size[1] = size - s->size[0];
    s->pa[0] = translate(c, o, lin, write, user);
    if (s->size[1])
        s->pa[1] = translate(c, o, wrap(c, lin + s->size[0]), write, user);
}

static void read_span(struct ref *c, const struct span *s, void *buf) {
    phys_read(c, s->pa[0], buf, s->size[0]);
    if (s->size[1])
        phys_read(c, s->pa[1], (uint8_t *)buf + s->size[0], s->size[1]);
}

static void write_span(struct ref *c, const struct span *s, const void *buf) {
    phys_write(c, s->pa[0], buf, s->size[0]);
    if (s->size[1])
        phys_write(c, s->pa[1], (const uint8_t *)buf + s->size[0], s->size[1]);
}

/* SDM vol. 3A 6.15, interrupt 17, table 6-7. Exempt are accesses of the processor itself
 * (ref_load_sys), and what is wider than 8 bytes; the 80 bits of x87 are wanted at multiples of 8.
 * Processors look before they look for the page, and at no more than the beginning's being
 * canonical. */
void ref_check_alignment(struct ref *c, const struct ref_op *o, uint64_t lin, unsigned size) {
    if (REF_LIKELY(!(c->mode & REF_MODE_AC)))
        return;
    check_canonical(c, o, lin, 1);
    if (size == 10)
        size = 8;
    if (size <= 8 && (lin & (size - 1)))
        ref_raise_error(c, o, X86_AC, 0);
}

static bool user_mode(const struct ref *c) { return c->cpl == 3; }

uint64_t ref_load_slow(struct ref *c, const struct ref_op *o, uint64_t lin, unsigned size) {
    struct span s;
    uint64_t v = 0;

    ref_check_alignment(c, o, lin, size);
    open_span(c, o, lin, size, false, user_mode(c), &s);
    read_span(c, &s, &v);
    return v;
}

void ref_store_slow(struct ref *c, const struct ref_op *o, uint64_t lin, unsigned size,
                    uint64_t value) {
    struct span s;

    ref_check_alignment(c, o, lin, size);
    open_span(c, o, lin, size, true, user_mode(c), &s);
    write_span(c, &s, &value);
}

const void *ref_read_ptr_slow(struct ref *c, const struct ref_op *o, uint64_t lin, unsigned size) {
    struct span s;
    /* Same alignment as the guest's address: what checks alignment behaves the same on the copy. */
    uint8_t *copy = c->bounce + (lin & 63) % 64;

    ref_check_alignment(c, o, lin, size);
    open_span(c, o, lin, size, false, user_mode(c), &s);
    if (!s.size[1]) {
        void *p = mem_ptr(c->mem, s.pa[0], size, false);
        if (p)
            return p;
    }
    read_span(c, &s, copy);
    return copy;
}

void *ref_write_ptr_slow(struct ref *c, const struct ref_op *o, uint64_t lin, unsigned size,
                         bool read) {
    struct span s;
    uint8_t *copy = c->bounce + (lin & 63);

    ref_check_alignment(c, o, lin, size);
    open_span(c, o, lin, size, true, user_mode(c), &s);
    if (REF_LIKELY(!s.size[1])) {
        void *p;
        if (ref_tlb_write(c, c->tlb, lin, size, &p) && /* it was only missing */
            !(read && c->group.several && ref_splits_line(p, size)))
            return p;
    }
    if (read) { /* a locked instruction must not lose what others write until ref_write_commit */
        ref_group_exclude(c);
        read_span(c, &s, copy);
    }
    c->bounce_lin = lin;
    c->bounce_size = size;
    return copy;
}

void ref_write_commit(struct ref *c, const struct ref_op *o) {
    struct span s;

    open_span(c, o, c->bounce_lin, c->bounce_size, true, user_mode(c), &s);
    write_span(c, &s, c->bounce + (c->bounce_lin & 63));
    ref_group_include(c);
}

uint64_t ref_load_sys(struct ref *c, const struct ref_op *o, uint64_t lin, unsigned size) {
    struct span s;
    uint64_t v = 0;
    void *p;

    if (ref_tlb_read(c, 0, lin, size, &p)) {
        memcpy(&v, p, size);
        return v;
    }
    open_span(c, o, lin, size, false, false, &s);
    read_span(c, &s, &v);
    return v;
}

void ref_store_sys(struct ref *c, const struct ref_op *o, uint64_t lin, unsigned size,
                   uint64_t value) {
    struct span s;
    void *p;

    if (ref_tlb_write(c, 0, lin, size, &p)) {
        memcpy(p, &value, size);
        return;
    }
    open_span(c, o, lin, size, true, false, &s);
    write_span(c, &s, &value);
}

void ref_probe_write(struct ref *c, const struct ref_op *o, uint64_t lin, unsigned size,
                     bool user) {
    struct span s;

    open_span(c, o, lin, size, true, user, &s);
}

/* ---- segmentation ---- */

static bool outside_limit(const struct x86_segment *g, uint64_t offset, unsigned size) {
    uint64_t last = offset + size - 1;

    if ((g->attr & (X86_ATTR_S | 0xc)) == (X86_ATTR_S | 4)) /* expand-down data */
        return offset <= g->limit || last > (g->attr & X86_ATTR_DB ? 0xffffffffull : 0xffff);
    return last > g->limit && g->limit != 0xffffffff; /* nothing is outside 4 GiB: it wraps */
}

/* SDM vol. 3A 5.3, 5.4: limit and type of a data access outside 64-bit mode. */
static void check_segment(struct ref *c, const struct ref_op *o, unsigned seg, uint64_t offset,
                          unsigned size, bool write) {
    const struct x86_segment *g = &c->s.seg[seg];
    bool code = g->attr & 8;
    bool bad = (g->attr & X86_ATTR_UNUSABLE) || outside_limit(g, offset, size);

    if (!(c->mode & REF_MODE_REAL))
        bad |= write ? code || !(g->attr & 2) : code && !(g->attr & 2);
    if (bad)
        ref_raise_error(c, o, seg == SEG_SS ? X86_SS : X86_GP, 0);
}

uint64_t ref_seg_lin(struct ref *c, const struct ref_op *o, unsigned seg, uint64_t offset,
                     unsigned size, bool write) {
    if ((c->mode & REF_MODE_CODE) == 2)
        return seg >= SEG_FS ? offset + c->s.seg[seg].base : offset;
    check_segment(c, o, seg, offset, size, write);
    return (uint32_t)(offset + c->s.seg[seg].base);
}

uint64_t ref_lin_slow(struct ref *c, const struct ref_op *o, unsigned size, bool write) {
    uint64_t ea = ref_ea(c, o);

    if (o->eaf & REF_EA_32)
        ea = (uint32_t)ea;
    else if (o->eaf & REF_EA_16)
        ea = (uint16_t)ea;
    if (o->eaf & REF_EA_LEGACY)
        return ref_seg_lin(c, o, o->seg, ea, size ? size : 1, write);
    return o->eaf & REF_EA_SEG ? ea + c->s.seg[o->seg].base : ea;
}
