/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The translator's run-time side: code cache, entry and exits, TLB fills, jump cache, links. */
#include "cpu/soft/jit/jit.h"

#include <asm/prctl.h>
#include <assert.h>
#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/huge.h"
#include "base/trace.h"
#include "base/zero.h"
#include "cpu/soft/jit/check.h"
#include "cpu/soft/jit/dump.h"
#include "cpu/soft/jit/emit.h"
#include "cpu/soft/jit/jit_internal.h"
#include "cpu/soft/jit/profile.h"
#include "cpu/soft/ref/ref.h"

/*
 * Calls (vcpu): arch_prctl:ARCH_SET_GS sigaltstack
 */

#define CACHE_SIZE   ((size_t)64 << 20)
#define SIGNAL_STACK ((size_t)65536)

/* ---- the code cache: mapped once for writing and once for running ---- */

/* perf looks names up for code that no file holds, and takes a memfd for a file. */
static void map_anonymous(struct jit_cache *k) {
    k->rw = mmap(NULL, k->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    k->rx = k->rw == MAP_FAILED ? MAP_FAILED : mremap(k->rw, 0, k->size, MREMAP_MAYMOVE);
    if (k->rx != MAP_FAILED && mprotect(k->rx, k->size, PROT_READ | PROT_EXEC) < 0) {
        munmap(k->rx, k->size);
        k->rx = MAP_FAILED;
    }
}

static void *map_aligned(size_t size, int protection, int fd) {
    void *p = huge_reserve(size);

    return p ? mmap(p, size, protection, MAP_SHARED | MAP_FIXED, fd, 0) : MAP_FAILED;
}

static int map_memfd(struct jit_cache *k, struct error *err) {
    int fd = memfd_create("vivarium-code", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, (off_t)k->size) < 0) {
        int code = -errno;
        if (fd >= 0)
            close(fd);
        return error_set(err, code, "the translator's code cache cannot be made: %s",
                         strerror(-code));
    }
    k->rw = map_aligned(k->size, PROT_READ | PROT_WRITE, fd);
    k->rx = map_aligned(k->size, PROT_READ | PROT_EXEC, fd);
    k->huge = true;
    close(fd);
    return 0;
}

static int map_cache(struct jit_cache *k, bool for_perf, struct error *err) {
    int r = 0;

    if (for_perf)
        map_anonymous(k);
    else
        r = map_memfd(k, err);
    if (r < 0)
        return r;
    if (k->rw == MAP_FAILED || k->rx == MAP_FAILED)
        return error_set(
            err, -ENOMEM,
            "the translator's code cache cannot be mapped executable: allow it, or use --cpu ref");
    return 0;
}

/* What is about to be written lies on huge pages from the start, once there is much of it. */
static void prepare(struct jit_cache *k, size_t *ready, size_t used) {
    for (; k->huge && *ready < used + JIT_BLOCK_MAX && *ready + HUGE_SIZE <= k->size;
         *ready += HUGE_SIZE)
        huge_collapse(k->rw + *ready, k->rx + *ready);
}

void jit_prepare(struct ref *c) {
    struct jit_cache *k = c->jit.cache;

    if (!c->warm)
        return;
    prepare(k, &k->ready, k->used);
    prepare(k, &k->cold_ready, k->cold);
}

const char *jit_missing(void) {
    unsigned a, b, c, d;

    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & 1u << 8))
        return "BMI2";
    if (!(b & 1u << 5) || !__builtin_cpu_supports("avx2"))
        return "AVX2";
    return NULL;
}

static void reset_heat(struct jit *j) { memset(j->heat, 0, sizeof(j->heat)); }

/* Empty: an entry that no key makes of any address is on top; below it nothing is read before it
 * has been written. */
static void forget_returns(struct jit *j) {
    memset(j->cache->returns + JIT_RETURNS_SIZE - 16, 0xff, 16);
    j->returns = j->returns_top = (uintptr_t)j->cache->returns + JIT_RETURNS_SIZE - 16;
}

static int new_debug(struct ref *c, const struct cpu_debug *d, struct error *err) {
    int r = 0;

    c->jit.off = d->off;
    if (d->check || d->dump || d->count || d->perf_map)
        r = dump_new(c, err);
    if (r == 0 && d->stats)
        r = profile_new(c, err);
    if (r == 0 && d->check)
        r = check_new(c, err);
    return r;
}

int jit_new(struct ref *c, struct error *err) {
    struct jit *j = &c->jit;
    int r;

    if (jit_missing())
        return error_set(
            err, -ENOTSUP,
            "the translator needs %s, which this host's processor lacks: use --cpu ref",
            jit_missing());
    j->cache = zero_alloc(sizeof(*j->cache));
    if (!j->cache)
        return error_set(err, -ENOMEM, "the translator: out of memory");
    j->cache->size = c->cpu.config.cache_size ? c->cpu.config.cache_size : CACHE_SIZE;
    r = map_cache(j->cache, c->cpu.config.debug.perf_map, err);
    if (r < 0)
        return r;
    j->enabled = true;
    if (getrandom(&j->cache->secret, sizeof(j->cache->secret), 0) != sizeof(j->cache->secret))
        return error_set(err, -EIO, "the translator: the host gives no random numbers");
    r = sites_new(c, err);
    if (r == 0)
        r = far_new(c, err);
    if (r < 0)
        return r;
    j->cache->returns = aligned_alloc(JIT_RETURNS_SIZE, JIT_RETURNS_SIZE);
    if (!j->cache->returns)
        return error_set(err, -ENOMEM, "the translator: out of memory");
    forget_returns(j);
    jit_emit_common(c);
    j->cache->used = j->cache->start;
    j->cache->cold = j->cache->cold_start = j->cache->size / 2;
    j->cache->cold_ready = j->cache->cold_start & ~(HUGE_SIZE - 1);
    jit_set_key(c);
    return new_debug(c, &c->cpu.config.debug, err);
}

static _Thread_local struct ref *running; /* the processor of this thread */

void jit_free(struct ref *c) {
    struct jit_cache *k = c->jit.cache;

    if (running == c)
        running = NULL; /* a fault of this thread is none of its code's any more */
    check_free(c);
    dump_free(c);
    profile_free(c);
    if (!k)
        return;
    if (k->rw && k->rw != MAP_FAILED)
        munmap(k->rw, k->size);
    if (k->rx && k->rx != MAP_FAILED)
        munmap(k->rx, k->size);
    sites_free(c);
    free(k->trans);
    far_free(c);
    free(k->returns);
    zero_free(k, sizeof(*k));
    c->jit.cache = NULL;
}

/* ---- the stack of signal handlers, as RSP is the guest's in generated code ---- */

static pthread_key_t stack_key;

static void free_stack(void *stack) {
    stack_t none = {.ss_flags = SS_DISABLE};

    sigaltstack(&none, NULL);
    munmap(stack, SIGNAL_STACK);
}

static int stack_key_code;

static void make_stack_key(void) { stack_key_code = pthread_key_create(&stack_key, free_stack); }

/* Lives as long as the thread. Not thread-local data: every thread of the process would pay for it,
 * as the C library fills that with zeroes. */
static int use_signal_stack(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    stack_t alt = {.ss_size = SIGNAL_STACK}, now;

    if (sigaltstack(NULL, &now) < 0)
        return -errno;
    if (!(now.ss_flags & SS_DISABLE)) /* somebody's is there */
        return 0;
    pthread_once(&once, make_stack_key);
    if (stack_key_code)
        return -stack_key_code;
    alt.ss_sp = mmap(NULL, SIGNAL_STACK, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (alt.ss_sp == MAP_FAILED)
        return -errno;
    if (pthread_setspecific(stack_key, alt.ss_sp) == 0 && sigaltstack(&alt, NULL) == 0)
        return 0;
    munmap(alt.ss_sp, SIGNAL_STACK);
    pthread_setspecific(stack_key, NULL);
    return -ENOMEM;
}

int jit_thread_init(struct ref *c, struct error *err) {
    int r;

    if (running == c)
        return 0;
    r = use_signal_stack();
    if (r == 0 && syscall(SYS_arch_prctl, ARCH_SET_GS, (unsigned long)c) < 0)
        r = -errno;
    if (r < 0)
        return error_set(err, r, "the translator's thread cannot be set up: %s", strerror(-r));
    running = c;
    return 0;
}

void jit_flush(struct ref *c) {
    c->jit.cache->used = c->jit.cache->start;
    c->jit.cache->cold = c->jit.cache->cold_start;
    c->jit.link = NULL;
    c->jit.promote = 0;
    reset_heat(&c->jit);
    sites_forget(c);
    far_forget(c);
    if (c->jit.check)
        check_forget(c);
    stat_inc(jit_flushes);
}

bool jit_full(const struct ref *c) {
    const struct jit_cache *k = c->jit.cache;

    return k->used + JIT_BLOCK_MAX > k->cold_start || k->cold + JIT_BLOCK_MAX > k->size;
}

/* ---- running ---- */

void jit_enter(struct ref *c, const struct ref_block *b) {
    struct jit_cache *k = c->jit.cache;

    c->jit.page = c->rip - (b->addr & 4095);
    c->jit.link = NULL;
    if (c->jit.profile)
        profile_enter(c);
    k->enter(c, b->code);
    if (c->jit.profile)
        profile_leave(c);
    if ((c->mode & REF_MODE_CODE) != 2) /* past the last page */
        c->rip = (uint32_t)c->rip;
}

static void lead_to(struct jit_cache *k, const struct jit_link *l, const uint8_t *code) {
    assert(l->at % 4 == 0);
    __atomic_store_n((int32_t *)(void *)(k->rw + l->at), (int32_t)(code - (k->rx + l->at + 4)),
                     __ATOMIC_RELEASE);
}

void jit_link(struct ref *c, struct ref_block *b) {
    const struct jit_link *l = c->jit.link;
    struct jit_cache *k = c->jit.cache;
    uint32_t offset;

    if (!l || (c->jit.off & JIT_NO_CHAIN))
        return;
    if ((uintptr_t)l < 2 * JIT_FARS) {
        far_link(c, (unsigned)((uintptr_t)l / 2), b);
        return;
    }
    if (l->page != (uint32_t)(b->addr >> 12)) /* the address was mapped elsewhere since the exit */
        return;
    if (b->crosses) /* where it goes on may be mapped elsewhere at any time */
        return;
    if (k->rx + l->at + 4 + *(const int32_t *)(const void *)(k->rx + l->at) == b->code)
        return; /* it is in the list already */
    lead_to(k, l, b->code);
    offset = (uint32_t)((const uint8_t *)l - k->rx);
    ((struct jit_link *)(void *)(k->rw + offset))->next = b->links;
    b->links = offset;
    stat_inc(jit_links);
}

/* What runs all the time, as loops do, is worth sites; where a block runs now and then, its pages
 * change too often meanwhile. Found by the time in which a block that is hot runs a few times more:
 * short, so that a busy host seldom takes the processor away meanwhile. 0: not known yet. */
static unsigned next_tier(struct ref_block *b) {
    uint16_t now = (uint16_t)(__builtin_ia32_rdtsc() >> 10) | 1;

    if (b->tier >= 2)
        return b->tier;
    if (b->hot)
        return (uint16_t)(now - b->hot) <= JIT_TIGHT ? 3 : 2;
    b->hot = now;
    return 0;
}

void jit_promote(struct ref *c, struct ref_block *b) {
    struct jit_cache *k = c->jit.cache;
    size_t old = (size_t)((const uint8_t *)b->code - k->rx);
    const uint8_t *code;
    unsigned tier;
    uint64_t jump;

    tier = next_tier(b);
    *(int32_t *)((uint8_t *)c + jit_heat_slot(old)) = tier ? JIT_HOT : JIT_MEASURED;
    if (!tier || (c->jit.off & JIT_NO_TIER2) || jit_full(c))
        return;
    code = jit_translate(c, b, tier);
    if (!code)
        return;
    /* Blocks begin at multiples of 16, so that one store of JIT_HEAD bytes makes the old one a
     * jump. */
    jump = 0x9090900000000000ull | (uint64_t)0xe9 |
           (uint64_t)(uint32_t)(code - (k->rx + old + 5)) << 8;
    __atomic_store_n((uint64_t *)(void *)(k->rw + old), jump, __ATOMIC_RELEASE);
    for (uint32_t offset = b->links; offset;) {
        const struct jit_link *l = (const void *)(k->rx + offset);
        lead_to(k, l, code);
        offset = l->next;
    }
    far_promoted(c, b, code);
    b->code = code;
    b->tier = (uint8_t)tier;
    stat_inc(jit_promotions);
}

/* ---- RSP that the host's kernel cannot return to ---- */

enum { LOST_MAX = 1000, JIT_RESUME_SIZE = 17 };

static bool canonical(uint64_t lin) { return (int64_t)(lin << 16) >> 16 == (int64_t)lin; }

/* RSP is whatever the guest made of it. Kernels of paravirtual machines return from interrupts by a
 * service of their hypervisor, and some of these refuse an RSP that is not canonical, as no
 * processor does: then every interrupt, signal and page fault ends with #GP or #UD at the next
 * instruction. Return to code that needs no stack instead, and let it load RSP. */
bool jit_resume(void *ucontext) {
    greg_t *r = ((ucontext_t *)ucontext)->uc_mcontext.gregs;
    struct ref *c = running;
    const struct jit_cache *k = c ? c->jit.cache : NULL;
    uint64_t rip = (uint64_t)r[REG_RIP], offset;

    if (!k || canonical((uint64_t)r[REG_RSP]))
        return false;
    offset = rip - (uintptr_t)k->rx;
    if (offset >= k->size)
        return false;
    c->jit.lost_times = rip == c->jit.lost_rip ? c->jit.lost_times + 1 : 0;
    if (c->jit.lost_times > LOST_MAX) /* it does not go on */
        return false;
    if (offset < k->resume || offset >= k->resume + JIT_RESUME_SIZE) /* else on its way there */
        c->jit.lost_rip = rip;
    c->jit.lost_rsp = (uint64_t)r[REG_RSP];
    r[REG_RSP] = (greg_t)c->jit.host_rsp;
    r[REG_RIP] = (greg_t)(uintptr_t)(k->rx + k->resume);
    return true;
}

/* ---- TLB ---- */

/* A read that crosses into another page is made from a copy of both halves: the code goes on behind
 * its check, with an operand that is in the copy. */
static bool read_crossing(struct ref *c) {
    struct jit *j = &c->jit;
    unsigned size = j->slow_info & 0xff, head = 4096 - (j->slow_lin & 4095), check;
    uint64_t lin = j->slow_lin;

    if (j->slow_info & (JIT_SLOW_WRITE | JIT_SLOW_ALIGN | JIT_SLOW_GROUP))
        return false;
    if ((c->mode & REF_MODE_FLAT) && lin + size > 1ull << 32) /* wraps */
        return false;
    if (!canonical(lin) || !canonical(lin + size - 1))
        return false;
    for (unsigned done = 0, n = head; done < size; done += n, n = size - done) {
        struct ref_xlat x;
        const uint8_t *p;
        uint32_t error;

        if (ref_mmu_translate(c, lin + done, REF_READ, c->cpl == 3, &x, &error) < 0)
            return false;
        p = mem_ptr(c->mem, x.pa, n, false);
        if (!p)
            return false;
        memcpy(j->bounce + done, p, n);
    }
    check = !(j->slow_info & JIT_SLOW_SITE)  ? JIT_CHECK_TLB
            : j->slow_info & JIT_SLOW_DIRECT ? JIT_CHECK_DIRECT
                                             : JIT_CHECK_SITE;
    j->slow_a = 0;
    j->slow_b = (uintptr_t)j->bounce - (j->slow_info & JIT_SLOW_DIRECT ? lin : 0);
    j->slow_return += check;
    return true;
}

static void read_record(struct jit *j, const struct jit_slow_record *r) {
    if (!r) /* a site's miss, which has told all */
        return;
    j->slow_record = NULL;
    j->slow_info = r->info & 0xffff;
    j->slow_off = r->info >> 16;
    j->slow_return = (uintptr_t)(j->cache->rx + r->retry);
}

static bool fill_for_access(struct ref *c) {
    struct jit *j = &c->jit;
    uint64_t lin = j->slow_lin, page = lin & ~4095ull;
    unsigned size, bank = c->cpl == 3;
    struct ref_xlat x;
    uint32_t error;
    bool write;

    size = j->slow_info & 0xff;
    write = j->slow_info & JIT_SLOW_WRITE;
    if (!(j->slow_info & JIT_SLOW_SITE))
        j->misses[j->slow_info & JIT_SLOW_GROUP ? JIT_BY_TLB_GROUP : JIT_BY_TLB]++;
    j->slow_a = lin;
    if ((c->mode & REF_MODE_FLAT) && lin >> 32) /* a site's sum that wraps */
        return false;
    if ((lin & 4095) + size > 4096)
        return read_crossing(c);
    if (!canonical(lin))
        return false;
    if (ref_mmu_translate(c, lin, write && !(j->slow_info & JIT_SLOW_LATER) ? REF_WRITE : REF_READ,
                          bank, &x, &error) < 0)
        return false;
    return ref_tlb_fill(c, lin, bank, &x) &&
           (!write || j->tlb[bank][ref_tlb_index(lin)].tag_w == page);
}

/* Called from generated code after a miss: true if the access may be tried again. */
static bool slow_fill(struct ref *c) {
    const struct jit_slow_record *r = c->jit.slow_record;

    stat_inc(jit_slow);
    read_record(&c->jit, r);
    if (fill_for_access(c))
        return true;
    if (r && (c->jit.slow_info & JIT_SLOW_GROUP))
        sites_group_failed(c, (const struct jit_group_record *)(const void *)r);
    return false;
}

/* ---- jump cache ---- */

static uint64_t jc_index(uint64_t rip) {
    uint64_t hash = 0;

    __asm__("crc32q %1, %0" : "+r"(hash) : "r"(rip));
    return hash & (JIT_JC_SIZE - 1);
}

/*
 * The key lies over the upper 16 bits of the address, and a guest may jump to any value of those.
 * What keeps its address from matching an entry with another key is the index: of two addresses
 * that differ by two keys (or a key and the poison) the CRC is never alike in the lower 14 bits, as
 * long as keys have 12 bits. For the same reason an empty entry holds an address of which no key
 * in use makes one of its index: zero, or JIT_UNREACHED where a key makes zero of its index.
 */
static void jc_spoil_zero(struct jit *j, uint64_t address) {
    struct jit_jc_entry *e = &j->jc[jc_index(address)];

    if (!e->key && !e->code)
        e->key = JIT_UNREACHED;
}

static void jc_admit_key(struct jit *j, uint64_t key) {
    jc_spoil_zero(j, key << 48);
    jc_spoil_zero(j, key << 48 | JIT_POISON);
}

/* The first one that is given out finds the jump cache as it was made, which is empty. Key 0 is not
 * given out, but what it would make is a poisoned address. */
static uint16_t new_key(struct ref *c) {
    struct jit *j = &c->jit;

    if (j->cache->next_key == JIT_KEY_VALUES) { /* used up: no old entry may be left */
        memset(j->jc, 0, sizeof(j->jc));
        forget_returns(j);
        far_forget_guards(c);
        memset(j->cache->key_for, 0, sizeof(j->cache->key_for));
        j->cache->next_key = 0;
    }
    if (!j->cache->next_key)
        jc_admit_key(j, j->cache->next_key++);
    jc_admit_key(j, j->cache->next_key);
    return (uint16_t)j->cache->next_key++;
}

void jit_forget_keys(struct ref *c) {
    if (c->jit.enabled)
        memset(c->jit.cache->key_for, 0, sizeof(c->jit.cache->key_for));
}

/* One to one, and no guest can tell from one result what another would be. */
static uint64_t mix(uint64_t v) {
    v = (v ^ v >> 33) * 0xff51afd7ed558ccdull;
    v = (v ^ v >> 29) * 0xc4ceb9fe1a85ec53ull;
    return v ^ v >> 32;
}

/* The slot of a mode and generation: one of two, so that user and supervisor, which take turns, do
 * not displace each other. */
static unsigned key_slot(struct ref *c, uint32_t want) {
    struct jit_cache *k = c->jit.cache;
    unsigned i = want * 0x9e3779b1u >> 26;

    if (k->key_for[i] != want)
        i ^= 1;
    if (k->key_for[i] == want)
        return i;
    if ((uint64_t)k->key_value[i] << 48 == c->jit.true_key) /* not the one that runs until now */
        i ^= 1;
    k->key_value[i] = new_key(c);
    k->key_for[i] = want; /* a key that was lost simply never comes back */
    return i;
}

/* A key a mode and generation: entries of another privilege or from before a flush never match. */
void jit_set_key(struct ref *c) {
    struct jit *j = &c->jit;
    struct jit_cache *k = j->cache;
    unsigned i;

    if (!j->enabled)
        return;
    i = key_slot(c, ref_jc_key(c, c->mode));
    j->true_key = (uint64_t)k->key_value[i] << 48;
    j->return_key = mix(k->secret ^ k->key_value[i]);
    /* A kick sets poll and poisons the key: the poison must outlive any change of mode until
     * the loop looks. Generated code runs on this thread, and so sees no key in between. */
    __atomic_store_n(&j->jc_key, j->true_key, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&j->poll, __ATOMIC_SEQ_CST))
        __atomic_store_n(&j->jc_key, JIT_POISON, __ATOMIC_SEQ_CST);
}

void jit_jc_add(struct ref *c, uint64_t rip, const void *code) {
    uint64_t hash = 0;
    struct jit_jc_entry *e;

    if (c->jit.off & JIT_NO_CHAIN)
        return;
    __asm__("crc32q %1, %0" : "+r"(hash) : "r"(rip));
    e = &c->jit.jc[hash & (JIT_JC_SIZE - 1)];

    e->key = rip ^ c->jit.true_key;
    e->code = code;
}

JIT_GENERAL_REGS void jit_kick(struct ref *c) {
    if (!c->jit.enabled)
        return;
    /* In this order: jit_set_key, which may run meanwhile, keeps the poison once it sees poll. */
    __atomic_store_n(&c->jit.poll, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&c->jit.jc_key, JIT_POISON, __ATOMIC_SEQ_CST);
}

/* Where a handler that ended the block went to, if translated code is known there and nobody wants
 * the loop; else NULL. */
static const void *successor(struct ref *c) {
    const struct jit_jc_entry *e = &c->jit.jc[jc_index(c->rip)];

    if (c->jit.dropped || c->jit.check || __atomic_load_n(&c->jit.poll, __ATOMIC_RELAXED) ||
        ref_wants_attention(c) || e->key != (c->rip ^ c->jit.true_key))
        return NULL;
    c->jit.page = c->rip & ~4095ull;
    return e->code;
}

/* ---- code shared by all blocks ---- */

#define OFF(m)   offsetof(struct ref, m)
#define OFF_R(n) (offsetof(struct ref, r) + 8 * (n))

static void common_vec(struct emit *e, bool load) {
    size_t clean = 0, done = 0;

    /* Upper halves that are all zero must come back clean: with dirty ones every change between SSE
     * and AVX code costs some 75 ns on processors of the Skylake line and after. */
    if (load) {
        e_bytes(e, "\x45\x31\xf6", 3); /* xor r14d, r14d; or in all halves */
        for (unsigned i = 0; i < 16; i++) {
            e_gs(e, 1, 0x0b, H_B, (uint32_t)(OFF(s.fpu.vec) + 32 * i + 16));
            e_gs(e, 1, 0x0b, H_B, (uint32_t)(OFF(s.fpu.vec) + 32 * i + 24));
        }
        e_bytes(e, "\x4d\x85\xf6", 3);
        clean = e_jcc(e, 4);
    }
    for (unsigned i = 0; i < 16; i++) { /* vmovdqu ymm */
        e8(e, 0x65);
        e8(e, 0xc5);
        e8(e, i & 8 ? 0x7e : 0xfe);
        e8(e, load ? 0x6f : 0x7f);
        e8(e, (i & 7) << 3 | 4);
        e8(e, 0x25);
        e32(e, (uint32_t)(OFF(s.fpu.vec) + 32 * i));
    }
    if (load) {
        done = e_jmp(e);
        e_patch(e, clean);
        e_bytes(e, "\xc5\xf8\x77", 3);      /* vzeroupper */
        for (unsigned i = 0; i < 16; i++) { /* vmovdqu xmm */
            e8(e, 0x65);
            e8(e, 0xc5);
            e8(e, i & 8 ? 0x7a : 0xfa);
            e8(e, 0x6f);
            e8(e, (i & 7) << 3 | 4);
            e8(e, 0x25);
            e32(e, (uint32_t)(OFF(s.fpu.vec) + 32 * i));
        }
        e_patch(e, done);
    }
    if (load) { /* ldmxcsr guest */
        e_bytes(e, "\x65\x0f\xae\x14\x25", 5);
        e32(e, (uint32_t)OFF(s.fpu.mxcsr));
    } else { /* stmxcsr guest; ldmxcsr host; vzeroupper */
        e_bytes(e, "\x65\x0f\xae\x1c\x25", 5);
        e32(e, (uint32_t)OFF(s.fpu.mxcsr));
        e_bytes(e, "\x65\x0f\xae\x14\x25", 5);
        e32(e, (uint32_t)OFF(jit.host_mxcsr));
        e_bytes(e, "\xc5\xf8\x77", 3);
    }
}

static void common_gprs(struct emit *e, bool load) {
    for (unsigned i = 0; i < 14; i++)
        e_gs(e, 1, load ? 0x8b : 0x89, i, OFF_R(i));
}

/* Saves or loads the vectors if they are the guest's. */
static void common_vec_if_live(struct emit *e, bool load) {
    size_t skip;

    e_gs_cmp8(e, OFF(jit.vec_live), 0);
    skip = e_jcc(e, 4);
    common_vec(e, load);
    e_patch(e, skip);
}

/* To C and back: guest registers are in struct ref meanwhile. `target`: absolute address, or 0 for
 * RAX. */
static void common_call(struct emit *e, const void *target) {
    e_load(e, H_RSP, OFF(jit.host_rsp));
    if (target) {
        e_bytes(e, "\x48\xb8", 2); /* mov rax, imm64 */
        e64(e, (uint64_t)(uintptr_t)target);
    }
    e_bytes(e, "\xff\xd0", 2); /* call rax */
}

static void load_rdi_c(struct emit *e, struct ref *c) {
    e_bytes(e, "\x48\xbf", 2); /* mov rdi, imm64 */
    e64(e, (uint64_t)(uintptr_t)c);
}

/* void enter(struct ref *c, const void *code) */
static void emit_enter(struct jit_cache *k, struct emit *e) {
    k->enter = (void *)(k->rx + e->n);
    e_bytes(e, "\x53\x55\x41\x54\x41\x55\x41\x56\x41\x57\x48\x83\xec\x08",
            14); /* push rbx rbp r12-r15; sub rsp, 8 */
    e_store(e, H_RSP, OFF(jit.host_rsp));
    e_mov(e, H_A, H_RSI);
    common_gprs(e, true);
    e_bytes(e, "\x41\xff\xe7", 3); /* jmp r15 */
}

/* Everything back to C; c->rip is set. */
static void emit_leave(struct jit_cache *k, struct emit *e) {
    k->leave = e->n;
    common_gprs(e, false);
    common_vec_if_live(e, false);
    e_gs_set8(e, OFF(jit.vec_live), 0);
    e_load(e, H_RSP, OFF(jit.host_rsp));
    e_bytes(e, "\x48\x83\xc4\x08\x41\x5f\x41\x5e\x41\x5d\x41\x5c\x5d\x5b\xc3", 15);
}

/* rip = page + slow_off, the interpreter goes on. Registers are still the guest's. */
static void emit_bail(struct jit_cache *k, struct emit *e) {
    k->bail = e->n;
    e_gs(e, 0, 0x8b, H_A, OFF(jit.slow_off)); /* mov r15d, */
    e_gs(e, 1, 0x03, H_A, OFF(jit.page));     /* add r15, */
    e_store(e, H_A, OFF(rip));
    e_gs_set8(e, OFF(jit.bail), 1);
    e_patch_to(e, e_jmp(e), k->leave);
}

/* A TLB miss: A = address, B = struct jit_slow_record; or, at k->slow, all of slow_* is set. */
static void emit_slow(struct ref *c, struct jit_cache *k, struct emit *e) {
    size_t fail;

    k->slow_record = e->n;
    e_store(e, H_A, OFF(jit.slow_lin));
    e_store(e, H_B, OFF(jit.slow_record));
    k->slow = e->n;
    common_gprs(e, false);
    common_vec_if_live(e, false);
    load_rdi_c(e, c);
    common_call(e, (const void *)slow_fill);
    e_bytes(e, "\x84\xc0", 2); /* test al, al */
    fail = e_jcc(e, 4);
    common_vec_if_live(e, true);
    common_gprs(e, true);
    e_load(e, H_A, OFF(jit.slow_a));
    e_load(e, H_B, OFF(jit.slow_b));
    e_gs(e, 0, 0xff, 4, OFF(jit.slow_return)); /* jmp gs:[slow_return] */
    e_patch(e, fail);
    e_gs_set8(e, OFF(jit.vec_live), 0); /* they were saved; the registers are C's now */
    common_gprs(e, true);
    e_patch_to(e, e_jmp(e), k->bail);
}

/* Calls helper_op->fn(c, helper_op), then goes to slow_return, or leaves if it did not complete. */
static void emit_helper(struct ref *c, struct jit_cache *k, struct emit *e) {
    size_t leave, dropped;

    k->helper = e->n;
    common_gprs(e, false);
    common_vec_if_live(e, false);
    e_gs_set8(e, OFF(jit.completed), 0);
    load_rdi_c(e, c);
    e_load(e, H_RSI, OFF(jit.helper_op));
    e_bytes(e, "\x48\x8b\x06", 3); /* mov rax, [rsi] (ref_op.fn is first) */
    common_call(e, NULL);
    e_gs_cmp8(e, OFF(jit.completed), 0);
    leave = e_jcc(e, 4);
    common_vec_if_live(e, true);
    common_gprs(e, true);
    e_gs_cmp8(e, OFF(jit.dropped), 0);
    dropped = e_jcc(e, 5);
    e_gs(e, 0, 0xff, 4, OFF(jit.slow_return));
    /* The handler changed code, or the machine's mode: c->rip is where to go on. */
    e_patch(e, dropped);
    e_gs(e, 0, 0x8b, H_A, OFF(jit.slow_off));
    e_gs(e, 1, 0x03, H_A, OFF(jit.page));
    e_store(e, H_A, OFF(rip));
    e_patch_to(e, e_jmp(e), k->leave);
    /* It ended the block: c->rip is where it went. */
    e_patch(e, leave);
    e_gs_set8(e, OFF(jit.vec_live), 0);
    load_rdi_c(e, c);
    common_call(e, (const void *)successor);
    e_mov(e, H_A, H_RAX);
    common_gprs(e, true);
    e_bytes(e, "\x4d\x85\xff", 3); /* test r15, r15 */
    e_patch_to(e, e_jcc(e, 4), k->leave);
    e_bytes(e, "\x41\xff\xe7", 3); /* jmp r15 */
}

/* Loads the guest's vectors and returns to slow_return. */
static void emit_vec_load(struct jit_cache *k, struct emit *e) {
    size_t unmasked;

    k->vec_load = e->n;
    e_gs(e, 0, 0x8b, H_B, OFF(s.fpu.mxcsr));       /* mov r14d, */
    e_bytes(e, "\x41\xf7\xd6", 3);                 /* not r14d */
    e_bytes(e, "\x41\xf7\xc6\x80\x1f\x00\x00", 7); /* test r14d, exception masks */
    unmasked = e_jcc(e, 5);
    e_patch_to(e, unmasked, k->bail); /* exceptions are the interpreter's to raise */
    common_vec(e, true);
    e_gs_set8(e, OFF(jit.vec_live), 1);
    e_gs(e, 0, 0xff, 4, OFF(jit.slow_return));
}

static void emit_resume(struct jit_cache *k, struct emit *e) {
    k->resume = e->n;
    e_load(e, H_RSP, OFF(jit.lost_rsp));
    e_gs(e, 0, 0xff, 4, OFF(jit.lost_rip)); /* jmp */
    assert(e->n == k->resume + JIT_RESUME_SIZE);
}

void jit_emit_common(struct ref *c) {
    struct jit_cache *k = c->jit.cache;
    struct emit e = {.p = k->rw, .cap = k->size};

    c->jit.host_mxcsr = 0x1f80;
    emit_enter(k, &e);
    emit_leave(k, &e);
    emit_bail(k, &e);
    emit_slow(c, k, &e);
    sites_emit_common(c, &e);
    far_emit_common(c, &e);
    emit_helper(c, k, &e);
    emit_vec_load(k, &e);
    emit_resume(k, &e);
    k->start = (e.n + 63) & ~(size_t)63;
}
