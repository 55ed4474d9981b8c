/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Decoded blocks of the reference interpreter: building, finding, dropping when their bytes change.
 *
 * Theory of operation: a block covers straight-line code of one physical page and is keyed by
 * physical address and mode, so that all address spaces share it. An instruction that crosses into
 * another page makes a block of its own, which is checked against the second page's translation
 * when it is looked up and never linked: jump caches may lead to it, for their entries die with
 * either page's translation. Blocks come from one arena; when it is full everything is forgotten.
 * Their operations lie in a ring, whose oldest make room for new ones and are decoded again when
 * they are wanted: what has a translation seldom is.
 * Pages that hold blocks never get a TLB write tag: stores take the slow path, which compares
 * against a bitmap of the 64-byte chunks that were decoded. A block that drops itself goes on to
 * the end of its current instruction: its operations are overwritten by ref_op_end.
 */
#include <errno.h>

#include "base/huge.h"
#include "base/trace.h"
#include "cpu/soft/ref/ref.h"

enum { HASH_SIZE = 1 << 18, PAGE_HASH_SIZE = 1 << 13 };
enum { WARM_BYTES = 16384 * sizeof(struct ref_block) };
#define ARENA_SIZE ((size_t)20 << 20)
/* Of operations: the interpreter executes them, the translator only needs them for a while. */
#define RING_SIZE      ((size_t)32 << 20)
#define SOFT_RING_SIZE ((size_t)8 << 20)
/* What is allocated between two looks at ref_cache_full: some blocks and pages, the operations that
 * one block's translations call. */
#define SPARE                                                                                      \
    (8 * (2 * sizeof(struct ref_block) + 64) +                                                     \
     REF_BLOCK_OPS * (sizeof(struct insn) + 4 * sizeof(struct ref_op)))

struct ref_page {
    struct ref_page *hash_next;
    gpa page;
    uint64_t chunks;        /* decoded 64-byte chunks */
    uint32_t blocks, cross; /* first of those in it, and of those that end in it */
};

struct ops { /* in the ring: of one block */
    struct ref_block *owner;
    size_t size; /* of all of it */
    struct ref_op op[];
};

struct ref_cache {
    unsigned hash_mask; /* a sixteenth of the table serves while few blocks are there */
    uint32_t hash[HASH_SIZE];
    struct ref_page *pages[PAGE_HASH_SIZE];
    /* Blocks from the start up, what has no number from the end down: lives until a flush. */
    uint8_t *arena;
    size_t low, high, size;
    uint64_t drops; /* of pages: what was read of the guest's code before may have changed */
    /* Operations: written up to `at`; what was written before that lies from `oldest` to `end`. */
    uint8_t *ring;
    size_t at, oldest, end;
    struct ref_op op[REF_BLOCK_OPS + 2]; /* of the block that is being decoded */
};

static struct ref_block *allocate_block(struct ref *c, bool crosses) {
    struct ref_cache *k = c->cache;
    uint8_t *p = k->arena + k->low;

    _Static_assert(sizeof(struct ref_crossing) <= 2 * sizeof(struct ref_block), "two numbers");
    k->low += (crosses ? 2 : 1) * sizeof(struct ref_block);
    return (struct ref_block *)(void *)p;
}

void *ref_arena_alloc(struct ref *c, size_t n) {
    c->cache->high -= (n + 15) & ~(size_t)15;
    return c->cache->arena + c->cache->high;
}

bool ref_cache_full(const struct ref *c) { return c->cache->low + SPARE > c->cache->high; }

static void start(struct ref_cache *k) {
    k->low = sizeof(struct ref_block); /* number 0 is none */
    k->high = k->size;
    k->at = k->oldest = k->end = 0;
}

static void forget_all(struct ref_cache *k) {
    memset(k->hash, 0, sizeof(k->hash));
    memset(k->pages, 0, sizeof(k->pages));
    start(k);
}

static unsigned hash_of(const struct ref_cache *k, gpa addr, uint32_t mode) {
    return (unsigned)(addr * 0x9e3779b97f4a7c15ull >> 40 ^ mode * 0x9e37u) & k->hash_mask;
}

int ref_cache_new(struct ref *c, struct error *err) {
    struct ref_cache *k = huge_alloc(sizeof(*k));

    if (!k)
        return error_set(err, -ENOMEM, "the interpreter's block cache: out of memory");
    k->size = c->cpu.config.cache_size ? c->cpu.config.cache_size & ~(size_t)63 : ARENA_SIZE;
    k->arena = huge_alloc(k->size + RING_SIZE);
    if (!k->arena) {
        error_set(err, -ENOMEM, "the interpreter's block cache: cannot reserve %zu MiB",
                  (k->size + RING_SIZE) >> 20);
        huge_free(k, sizeof(*k));
        return -ENOMEM;
    }
    k->ring = k->arena + k->size;
    c->cache = k;
    c->blocks = (struct ref_block *)(void *)k->arena;
    k->hash_mask = HASH_SIZE / 16 - 1;
    start(k);
    return 0;
}

/* A chain of the small table is spread over those of the large one that are the same modulo the
 * small one's size. */
static void grow_hash(struct ref *c) {
    struct ref_cache *k = c->cache;
    unsigned old = k->hash_mask;

    k->hash_mask = HASH_SIZE - 1;
    for (unsigned i = 0; i <= old; i++) {
        uint32_t n = k->hash[i], next;

        for (k->hash[i] = 0; n; n = next) {
            uint32_t *to = &k->hash[hash_of(k, c->blocks[n].addr, c->blocks[n].mode)];

            next = c->blocks[n].hash_next;
            c->blocks[n].hash_next = *to;
            *to = n;
        }
    }
}

/* A machine that is forked to run a little, or sleeps, has no use for huge pages: ten MiB that it
 * would share with nobody. */
static void warm_up(struct ref *c) {
    struct ref_cache *k = c->cache;

    c->warm = true;
    grow_hash(c);
    huge_warm(c, sizeof(*c));
    huge_warm(k, sizeof(*k));
    huge_warm(k->arena, k->size + RING_SIZE);
}

void ref_cache_free(struct ref *c) {
    if (!c->cache)
        return;
    huge_free(c->cache->arena, c->cache->size + RING_SIZE);
    huge_free(c->cache, sizeof(*c->cache));
    c->cache = NULL;
}

/* ---- the ring of operations ---- */

static size_t ring_size(const struct ref *c) {
    if (c->cpu.config.cache_size) /* of a test: so little that blocks lose theirs all the time */
        return 64 << 10;
    return c->jit.enabled ? SOFT_RING_SIZE : RING_SIZE;
}

/* The oldest operations make room up to `to`. */
static void make_room(struct ref_cache *k, size_t to) {
    while (k->oldest < to && k->oldest < k->end) {
        const struct ops *o = (const void *)(k->ring + k->oldest);
        o->owner->op = NULL;
        k->oldest += o->size;
    }
}

static void keep_ops(struct ref *c, struct ref_block *b) {
    struct ref_cache *k = c->cache;
    size_t n = (b->n + 2u) * sizeof(b->op[0]), size = (sizeof(struct ops) + n + 15) & ~(size_t)15;
    struct ops *o;

    if (k->at + size > ring_size(c)) {
        make_room(k, k->end);
        k->end = k->at;
        k->at = k->oldest = 0;
    }
    make_room(k, k->at + size);
    o = (struct ops *)(void *)(k->ring + k->at);
    k->at += size;
    o->owner = b;
    o->size = size;
    memcpy(o->op, k->op, n);
    b->op = o->op;
}

/* ---- pages ---- */

/* Of all memory: what was decoded in system management mode may be dropped outside of it. */
static uint64_t *page_flags(struct ref *c, gpa page) {
    const struct mem_range *r = mem_find(ref_all_mem(c), page);

    return r ? r->page_flags + ((page - r->base) >> MEM_PAGE_SHIFT) : NULL;
}

static struct ref_page **page_slot(struct ref *c, gpa page) {
    struct ref_page **p = &c->cache->pages[(page >> 12) % PAGE_HASH_SIZE];

    while (*p && (*p)->page != page)
        p = &(*p)->hash_next;
    return p;
}

/* Others may ask for the page to be dropped while this one waits for them: then it is there no more
 * and all begins anew. */
static struct ref_page *page_get(struct ref *c, gpa page) {
    uint64_t mine = MEM_PAGE_CODE(c->cpu.config.index), *flags, old;
    struct ref_page **slot, *p;

    while (!*(slot = page_slot(c, page))) {
        p = ref_arena_alloc(c, sizeof(*p));
        *p = (struct ref_page){.page = page};
        *slot = p;
        flags = page_flags(c, page);
        if (!flags)
            break;
        old = __atomic_fetch_or(flags, mine, __ATOMIC_SEQ_CST);
        ref_tlb_forbid_write(c, mem_ptr(c->mem, page, MEM_PAGE_SIZE, false));
        if (old >> 32)
            ref_group_forbid(c, page, old);
    }
    return *slot;
}

void ref_cache_flush(struct ref *c) {
    struct ref_cache *k = c->cache;

    for (unsigned i = 0; i < PAGE_HASH_SIZE; i++)
        for (struct ref_page *p = k->pages[i]; p; p = p->hash_next) {
            uint64_t *flags = page_flags(c, p->page);
            if (flags)
                __atomic_fetch_and(flags, ~MEM_PAGE_CODE(c->cpu.config.index), __ATOMIC_SEQ_CST);
        }
    forget_all(k);
    c->block = c->next = NULL;
    c->link = NULL;
    ref_jc_flush(c);
    if (c->jit.enabled)
        jit_flush(c);
    ref_host_flush(c);
    stat_inc(ref_cache_flushes);
}

static void unhash(struct ref *c, const struct ref_block *b) {
    uint32_t *p = &c->cache->hash[hash_of(c->cache, b->addr, b->mode)];

    while (*p && c->blocks + *p != b)
        p = &c->blocks[*p].hash_next;
    if (*p)
        *p = b->hash_next;
}

static void kill_block(struct ref *c, struct ref_block *b) {
    if (b->dead)
        return;
    b->dead = true;
    b->link[0] = b->link[1] = 0;
    unhash(c, b);
    if (b == c->block && b->op) /* the running one leaves after its current instruction */
        for (unsigned i = 0; i < b->n; i++)
            b->op[i].fn = ref_op_end;
}

void ref_cache_drop_page(struct ref *c, gpa page) {
    struct ref_page **slot = page_slot(c, page), *p = *slot;
    uint64_t *flags = page_flags(c, page);

    if (!p)
        return;
    for (uint32_t i = p->blocks; i; i = c->blocks[i].page_next)
        kill_block(c, c->blocks + i);
    for (uint32_t i = p->cross; i; i = ((struct ref_crossing *)(c->blocks + i))->next)
        kill_block(c, c->blocks + i);
    *slot = p->hash_next;
    c->cache->drops++;
    if (flags)
        __atomic_fetch_and(flags, ~MEM_PAGE_CODE(c->cpu.config.index), __ATOMIC_SEQ_CST);
    c->jit.dropped = 1;
    c->next = NULL;
    ref_jc_flush(c);
    stat_inc(ref_code_drops);
}

void ref_cache_drop_all(struct ref *c) {
    for (unsigned i = 0; i < PAGE_HASH_SIZE; i++)
        while (c->cache->pages[i])
            ref_cache_drop_page(c, c->cache->pages[i]->page);
}

void ref_cache_written(struct ref *c, gpa pa, unsigned size) {
    struct ref_page *p = *page_slot(c, pa & ~(gpa)4095);
    unsigned first = pa >> 6 & 63, last = (pa + size - 1) >> 6 & 63;

    if (!p)
        return;
    for (unsigned i = first; i <= last; i++)
        if (p->chunks >> i & 1) {
            ref_cache_drop_page(c, p->page);
            return;
        }
}

static void mark_chunks(struct ref_page *p, unsigned offset, unsigned len) {
    for (unsigned i = offset >> 6; i <= (offset + len - 1) >> 6 && i < 64; i++)
        p->chunks |= 1ull << i;
}

void ref_cache_depend(struct ref *c, gpa addr, unsigned size) {
    struct ref_page *p = *page_slot(c, addr & ~(gpa)4095);

    if (p)
        mark_chunks(p, addr & 4095, size);
}

/* ---- fetching and decoding ---- */

static uint64_t code_lin(const struct ref *c) {
    return (c->mode & REF_MODE_CODE) == 2 ? c->rip : (uint32_t)(c->cs_base + c->rip);
}

/* Physical address of a byte of code, or a fault. */
static gpa fetch_translate(struct ref *c, uint64_t lin) {
    unsigned i = lin >> 12 & 255;
    uint32_t key = ref_jc_key(c, (c->mode & REF_MODE_USER) | 1);
    struct ref_xlat x;
    uint32_t error;

    if (c->itlb[i].lin == lin >> 12 && c->itlb[i].key == key)
        return c->itlb[i].pa | (lin & 4095);
    if ((int64_t)(lin << 16) >> 16 != (int64_t)lin)
        ref_raise_error(c, NULL, X86_GP, 0);
    if (ref_mmu_translate(c, lin, REF_FETCH, c->mode & REF_MODE_USER, &x, &error) < 0)
        ref_page_fault(c, NULL, lin, error);
    if (c->mode & REF_MODE_USER)
        c->user_global |= x.global;
    else
        c->kernel_local |= !x.global || !ref_upper_half(c, lin);
    ref_jc_fetched(c, lin);
    c->itlb[i].lin = lin >> 12;
    c->itlb[i].key = key;
    c->itlb[i].pa = x.pa & ~(gpa)4095;
    return x.pa;
}

/* A copy, so that the decoder sees each byte once though others write to it meanwhile. */
struct code_bytes {
    uint8_t p[REF_BLOCK_OPS * INSN_MAX_LEN];
    unsigned len; /* bytes available in this page, or as many as a block can have */
    bool cacheable;
};

static uint8_t bus_byte(struct ref *c, gpa pa) {
    uint8_t byte;

    ref_bus_begin(c);
    byte = (uint8_t)c->cpu.config.bus.io_read(c->cpu.config.bus.opaque, false, pa, 1);
    ref_bus_end(c);
    return byte;
}

static void code_open(struct ref *c, gpa pa, struct code_bytes *b) {
    b->len = 4096 - (pa & 4095);
    if (b->len > sizeof(b->p))
        b->len = sizeof(b->p);
    if (mem_find(c->mem, pa)) {
        page_get(c, pa & ~(gpa)4095); /* flags the page before its bytes are read: bus/mem.h */
        memcpy(b->p, mem_ptr(c->mem, pa, b->len, false), b->len);
        b->cacheable = true;
        return;
    }
    b->cacheable = false;
    if (b->len >
        INSN_MAX_LEN) /* code outside RAM: one instruction at a time, read as the bus gives it */
        b->len = INSN_MAX_LEN;
    for (unsigned i = 0; i < b->len; i++)
        b->p[i] = bus_byte(c, pa + i);
}

static void bind_at(struct ref *c, struct insn *in, int got, struct ref_op *o, unsigned off) {
    memset(o, 0, sizeof(*o));
    o->off = (uint16_t)off;
    o->base = o->index = REF_ZERO;
    o->len = in->len;
    if (got == -2)
        o->fn = ref_op_gp0;
    else if (got <= 0)
        o->fn = ref_op_ud;
    else
        ref_bind(c, in, o);
}

static bool ends_block(const struct insn *in, int got) {
    return got <= 0 || (in->row->attr & (INSN_BRANCH | INSN_SYSTEM));
}

/* Decodes up to `max` instructions from one page. Returns bytes used; 0 if the first one crosses
 * the page. */
static unsigned fill_block(struct ref *c, struct ref_block *b, const struct code_bytes *bytes,
                           unsigned max) {
    unsigned off = 0, n = 0;
    bool ended = false;
    struct insn in;

    while (n < max && off < bytes->len && !ended) {
        int got = insn_decode(&in, bytes->p + off, bytes->len - off, ref_code_size(c->mode));
        if (got == -1)
            break;
        bind_at(c, &in, got, &b->op[n], off);
        n++;
        off += got > 0 ? (unsigned)got : 1;
        ended = ends_block(&in, got);
    }
    if (n && !ended) {
        b->op[n] = (struct ref_op){.fn = ref_op_end, .off = (uint16_t)off};
        b->op[n + 1] = b->op[n];
    }
    b->n = (uint8_t)n;
    b->bytes = (uint16_t)off;
    return n ? off : 0;
}

/* The instruction crosses into the next page: a block of one, from a copy of both pages' bytes. */
static void fill_crossing(struct ref *c, struct ref_block *b, gpa page2,
                          const struct code_bytes *head) {
    struct code_bytes tail, whole;

    code_open(c, page2, &tail);
    memcpy(whole.p, head->p, head->len);
    memcpy(whole.p + head->len, tail.p, INSN_MAX_LEN);
    whole.len = head->len + INSN_MAX_LEN;
    fill_block(c, b, &whole, 1);
}

static gpa next_page(struct ref *c, uint64_t lin) {
    uint64_t next = (lin | 4095) + 1;

    return fetch_translate(c, (c->mode & REF_MODE_CODE) == 2 ? next : (uint32_t)next);
}

static struct ref_block *build(struct ref *c, uint64_t lin, gpa pa, unsigned max,
                               bool *ret_cacheable) {
    struct ref_block b, *made;
    struct code_bytes bytes;
    uint64_t drops;
    gpa page2 = 0;

    if (ref_cache_full(c) || ref_host_full(c))
        ref_cache_flush(c);
    do { /* again if others changed the code while this one waited for them */
        b = (struct ref_block){.addr = pa, .mode = (uint16_t)c->mode, .op = c->cache->op};
        drops = c->cache->drops;
        code_open(c, pa, &bytes);
        if (!fill_block(c, &b, &bytes, bytes.cacheable ? max : 1)) {
            b.crosses = true;
            page2 = next_page(c, lin);
            fill_crossing(c, &b, page2, &bytes);
        }
    } while (drops != c->cache->drops);
    if (!c->warm && c->cache->low > WARM_BYTES)
        warm_up(c);
    made = allocate_block(c, b.crosses);
    *made = b;
    if (b.crosses)
        ((struct ref_crossing *)made)->page2 = page2;
    keep_ops(c, made);
    *ret_cacheable = bytes.cacheable;
    stat_inc(ref_blocks_built);
    return made;
}

/* The pages that it lies in ask when these bytes are written. */
static void mark_block(struct ref *c, const struct ref_block *b) {
    unsigned off = b->addr & 4095, head = b->bytes;

    if (b->crosses) {
        head = 4096 - off;
        mark_chunks(page_get(c, ref_block_page2(b)), 0, b->bytes > head ? b->bytes - head : 1);
    }
    /* What is no instruction depends on all bytes that one may have. */
    if (b->op[b->n - 1].fn == ref_op_ud || b->op[b->n - 1].fn == ref_op_gp0)
        head += INSN_MAX_LEN;
    mark_chunks(page_get(c, b->addr & ~(gpa)4095), off, head);
}

static void enter(struct ref *c, struct ref_block *b) {
    struct ref_page *p = page_get(c, b->addr & ~(gpa)4095);
    uint32_t number = (uint32_t)(b - c->blocks),
             *hash = &c->cache->hash[hash_of(c->cache, b->addr, b->mode)];

    mark_block(c, b);
    if (b->crosses) {
        struct ref_page *q = page_get(c, ref_block_page2(b));
        ((struct ref_crossing *)b)->next = q->cross;
        q->cross = number;
    }
    b->page_next = p->blocks;
    p->blocks = number;
    b->hash_next = *hash;
    *hash = number;
}

bool ref_block_ready(struct ref *c, struct ref_block *b) {
    struct ref_block again = *b;
    uint32_t mode = c->mode;
    uint64_t drops = c->cache->drops;
    struct code_bytes bytes;

    if (b->op)
        return true;
    if (ref_cache_full(c) || ref_host_full(c))
        return false;
    again.op = c->cache->op;
    c->mode = b->mode;
    code_open(c, b->addr, &bytes);
    if (b->crosses)
        fill_crossing(c, &again, ref_block_page2(b), &bytes);
    else
        fill_block(c, &again, &bytes,
                   bytes.cacheable && !(b->mode & REF_MODE_STEP) ? REF_BLOCK_OPS : 1);
    c->mode = mode;
    /* A device has written to it, and it crosses now; or another processor has. */
    if (!again.n || drops != c->cache->drops)
        return false;
    b->n = again.n;
    b->bytes = again.bytes;
    keep_ops(c, b);
    if (bytes.cacheable)
        mark_block(c, b);
    stat_inc(ref_blocks_again);
    return true;
}

static bool crossing_valid(struct ref *c, const struct ref_block *b, uint64_t lin) {
    return !b->crosses || next_page(c, lin) == ref_block_page2(b);
}

static struct ref_block *find(struct ref *c, uint64_t lin, gpa pa) {
    struct ref_block *b = ref_block_at(c, c->cache->hash[hash_of(c->cache, pa, c->mode)]);

    while (b && (b->addr != pa || b->mode != c->mode || !crossing_valid(c, b, lin)))
        b = ref_block_at(c, b->hash_next);
    return b;
}

struct ref_block *ref_cache_at(struct ref *c, gpa pa, uint32_t mode) {
    struct ref_block *b = ref_block_at(c, c->cache->hash[hash_of(c->cache, pa, mode)]);

    while (b && (b->addr != pa || b->mode != mode))
        b = ref_block_at(c, b->hash_next);
    return b;
}

bool ref_block_bytes(const struct ref *c, const struct ref_block *b, uint8_t *to) {
    const struct mem *m = c->mem;
    unsigned head = 4096 - (b->addr & 4095);

    if (b->bytes <= head)
        return mem_read(m, b->addr, to, b->bytes) == 0;
    return mem_read(m, b->addr, to, head) == 0 &&
           mem_read(m, ref_block_page2(b), to + head, b->bytes - head) == 0;
}

static void check_cs_limit(struct ref *c, unsigned bytes) {
    const struct x86_segment *cs = &c->s.seg[SEG_CS];

    if ((c->mode & REF_MODE_CODE) != 2 && c->rip + bytes - 1 > cs->limit)
        ref_raise_error(c, NULL, X86_GP, 0);
}

static struct ref_block *find_or_build(struct ref *c, uint64_t lin, unsigned max) {
    gpa pa = fetch_translate(c, lin);
    struct ref_block *b = find(c, lin, pa);
    bool cacheable;

    if (b)
        return b;
    b = build(c, lin, pa, max, &cacheable);
    if (cacheable)
        enter(c, b);
    fetch_translate(c, lin); /* again: if there was a flush, it is noted for what comes after it */
    return b;
}

struct ref_block *ref_cache_one(struct ref *c) {
    uint32_t mode = c->mode;
    struct ref_block *b;

    check_cs_limit(c, 1);
    c->mode |= REF_MODE_STEP;
    b = find_or_build(c, code_lin(c), 1);
    if (!ref_block_ready(c, b)) {
        ref_cache_flush(c);
        b = find_or_build(c, code_lin(c), 1);
    }
    c->mode = mode;
    check_cs_limit(c, b->bytes);
    return b;
}

struct ref_block *ref_cache_lookup(struct ref *c) {
    struct ref_jc_entry *e = &c->jc[(c->rip ^ c->rip >> 12) % REF_JC_SIZE];
    uint32_t key = ref_jc_key(c, c->mode);
    struct ref_block *b;

    if (e->rip == c->rip && e->mode == key && e->block)
        return e->block;
    if (c->mode & REF_MODE_STEP)
        return ref_cache_one(c);
    check_cs_limit(c, 1);
    b = find_or_build(c, code_lin(c), REF_BLOCK_OPS);
    if (c->bounded_cs) {
        if (c->rip + b->bytes - 1 > c->s.seg[SEG_CS].limit)
            return ref_cache_one(c);
        return b;
    }
    e = &c->jc[(c->rip ^ c->rip >> 12) % REF_JC_SIZE];
    *e = (struct ref_jc_entry){.rip = c->rip, .mode = ref_jc_key(c, c->mode), .block = b};
    return b;
}
