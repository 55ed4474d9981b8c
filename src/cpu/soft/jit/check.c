/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lock-step of the translator with the interpreter: trials, their journal, the comparison. */
#include "cpu/soft/jit/check.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/trace.h"
#include "cpu/soft/jit/check_internal.h"
#include "cpu/soft/jit/translate.h"
#include "state/state.h"

enum {
    PAGES_MAX = 4096, /* 16 MiB in one trial; a longer REP is done once, by the interpreter */
    TAGS_MAX = 32768,
    WALKS_MAX = 65536,
    STEPS_MAX = 4096,
    RUNS_SIZE = 1 << 20, /* 16 bytes of code each */
    RUNS_FIRST = 64,
    RUNS_BETWEEN = 61,
    TRIALS_BETWEEN_LOOKS = 64,
    REST_EVERY = 5000000, /* ns */
};

/* ---- the bus: no trial reaches a device ---- */

static struct jit_check *reach(void *opaque) {
    struct ref *c = opaque;

    if (c->jit.check->armed)
        longjmp(*c->jb, CHECK_ESCAPED);
    return c->jit.check;
}

#define REAL(call, ...)                                                                            \
    struct jit_check *k = reach(opaque);                                                           \
    return k->bus.call(k->bus.opaque, ##__VA_ARGS__)

static uint64_t io_read(void *opaque, bool port, uint64_t addr, unsigned size) {
    REAL(io_read, port, addr, size);
}
static void io_write(void *opaque, bool port, uint64_t addr, unsigned size, uint64_t value) {
    REAL(io_write, port, addr, size, value);
}
static int intr_ack(void *opaque, unsigned *eoi) { REAL(intr_ack, eoi); }
static uint8_t get_tpr(void *opaque) { REAL(get_tpr); }
static void set_tpr(void *opaque, uint8_t cr8) { REAL(set_tpr, cr8); }
static int msr_read(void *opaque, uint32_t msr, uint64_t *ret_value) {
    REAL(msr_read, msr, ret_value);
}
static int msr_write(void *opaque, uint32_t msr, uint64_t value) { REAL(msr_write, msr, value); }

static int64_t hypercall(void *opaque, uint64_t nr, const uint64_t arg[4], bool code64) {
    REAL(hypercall, nr, arg, code64);
}

/* Done twice, with the old state put back between, a change of address space would have to flush
 * everything and hide what its own flush forgets. */
static bool writes_control_register(const struct insn *in) {
    struct operand op;

    insn_operand(in, 0, &op);
    return op.kind == OPK_CREG && (op.access & 2);
}

bool check_leaves(const struct insn *in) {
    switch (in->row->id) {
    case INSN_MOV:
        return writes_control_register(in);
    case INSN_RDTSC:
    case INSN_RDTSCP:
    case INSN_RDRAND:
    case INSN_RDSEED:
    case INSN_RDMSR: /* the TSC; others are rare enough */
    case INSN_WRMSR: /* clocks and pages that are written behind the TLBs */
        return true;
    default:
        return false;
    }
}

static void freeze(struct jit_check *k, bool on) {
    if (k->bus.freeze)
        k->bus.freeze(k->bus.opaque, on);
}

/* ---- life ---- */

int check_new(struct ref *c, struct error *err) {
    struct jit_check *k = calloc(1, sizeof(*k));
    struct cpu_bus *bus = &c->cpu.config.bus;

    if (k) {
        k->tag = calloc(TAGS_MAX, sizeof(*k->tag));
        k->walk = calloc(WALKS_MAX, sizeof(*k->walk));
        k->runs = calloc(RUNS_SIZE, sizeof(*k->runs));
    }
    c->jit.check = k;
    if (!k || !k->tag || !k->walk || !k->runs) {
        check_free(c);
        return error_set(err, -ENOMEM, "--check: out of memory");
    }
    k->bus = *bus;
    *bus = (struct cpu_bus){.opaque = c,
                            .mem = bus->mem,
                            .smm_mem = bus->smm_mem,
                            .clock = bus->clock,
                            .io_read = io_read,
                            .io_write = io_write,
                            .intr_ack = intr_ack,
                            .get_tpr = get_tpr,
                            .set_tpr = set_tpr,
                            .msr_read = msr_read,
                            .msr_write = msr_write,
                            .hypercall = bus->hypercall ? hypercall : NULL};
    c->jit.off |= JIT_NO_CHAIN;
    return 0;
}

void check_free(struct ref *c) {
    struct jit_check *k = c->jit.check;

    if (!k)
        return;
    free(k->page);
    free(k->tag);
    free(k->walk);
    free(k->runs);
    free(k);
    c->jit.check = NULL;
}

/* ---- the journal ---- */

static void touch(struct ref *c, const void *host) {
    struct jit_check *k = c->jit.check;
    uint8_t *page = (uint8_t *)((uintptr_t)host & ~(uintptr_t)4095);
    struct check_page *p;

    if (!k->armed)
        return;
    for (unsigned i = k->pages; i-- > 0;)
        if (k->page[i].host == page)
            return;
    if (k->pages == k->page_room) {
        unsigned room = k->page_room ? 2 * k->page_room : 16;

        p = room > PAGES_MAX ? NULL : realloc(k->page, room * sizeof(*p));
        if (!p)
            longjmp(*c->jb, CHECK_ESCAPED);
        k->page = p;
        k->page_room = room;
    }
    p = &k->page[k->pages++];
    p->host = page;
    p->soft = false;
    memcpy(p->before, page, sizeof(p->before));
}

void check_grant(struct ref *c, const void *host, uint64_t *tag, uint64_t page) {
    touch(c, host);
    check_grant_again(c, tag, page, page ^ 4096); /* no address of another index matches */
}

JIT_GENERAL_REGS void check_grant_again(struct ref *c, uint64_t *tag, uint64_t page,
                                        uint64_t none) {
    struct jit_check *k = c->jit.check;

    if (k->tags < TAGS_MAX) {
        k->tag[k->tags].tag = tag;
        k->tag[k->tags].page = page;
        k->tag[k->tags].none = none;
    }
    k->tags++;
}

void check_store(struct ref *c, const void *host) { touch(c, host); }

void check_walk(struct ref *c, const void *entry) {
    struct jit_check *k = c->jit.check;

    touch(c, entry);
    if (k->armed && k->walks < WALKS_MAX)
        k->walk[k->walks++] = (uintptr_t)entry;
}

/* From here on the first write to each page passes by check_grant again. */
static void take_grants_back(struct ref *c) {
    struct jit_check *k = c->jit.check;

    if (k->tags > TAGS_MAX)
        ref_tlb_flush(c);
    else
        for (unsigned i = 0; i < k->tags; i++)
            if (*k->tag[i].tag == k->tag[i].page)
                *k->tag[i].tag = k->tag[i].none;
    k->tags = 0;
}

/* Accessed and dirty bits that walks set stay: the TLB still has what these walks found. */
static void keep_walked(const struct jit_check *k) {
    for (unsigned n = 0; n < k->walks; n++)
        for (unsigned i = 0; i < k->pages; i++) {
            const struct check_page *p = &k->page[i];
            uintptr_t at = k->walk[n] - (uintptr_t)p->host;
            uint32_t old, set;

            if (at >= 4096)
                continue;
            memcpy(&old, p->before + at, 4);
            memcpy(&set, p->after + at, 4);
            if (!((old ^ set) & ~0x60u))
                __atomic_fetch_or((uint32_t *)k->walk[n], set & 0x60, __ATOMIC_RELAXED);
        }
}

/* Keeps what translated code wrote and puts back what was there. Only words that changed are
 * written: a disk may be filling the rest of the page. */
static void undo(struct jit_check *k) {
    for (unsigned i = 0; i < k->pages; i++) {
        struct check_page *p = &k->page[i];
        uint64_t *now = (uint64_t *)p->host, old[512];

        p->soft = true;
        memcpy(p->after, p->host, 4096);
        if (!memcmp(p->after, p->before, 4096))
            continue;
        memcpy(old, p->before, 4096);
        for (unsigned n = 0; n < 512; n++)
            if (now[n] != old[n])
                now[n] = old[n];
    }
    keep_walked(k);
}

static bool walked(const struct jit_check *k, const uint8_t *dword) {
    for (unsigned i = 0; i < k->walks; i++)
        if (k->walk[i] == (uintptr_t)dword)
            return true;
    return false;
}

int check_page_differs(const struct jit_check *k, const struct check_page *p) {
    const uint8_t *want = p->soft ? p->after : p->before;

    if (!memcmp(p->host, want, 4096))
        return -1;
    for (int i = 0; i < 4096; i += 4) {
        uint32_t a, b;

        memcpy(&a, p->host + i, 4);
        memcpy(&b, want + i, 4);
        if (a != b && ((a ^ b) & ~0x60u || !walked(k, p->host + i)))
            for (int n = i;; n++)
                if (p->host[n] != want[n])
                    return n;
    }
    return -1;
}

static bool same_memory(const struct jit_check *k) {
    for (unsigned i = 0; i < k->pages; i++)
        if (check_page_differs(k, &k->page[i]) >= 0)
            return false;
    return true;
}

/* ---- processor states ---- */

static void take(struct ref *c, struct check_image *i, enum check_outcome outcome) {
    ref_sync(c);
    i->s = c->s;
    i->s.rflags &= ~(uint64_t)CHECK_FLAGS;
    i->s.shadow = 0;
    i->shadow = c->s.shadow;
    i->af = c->af & CHECK_AF;
    i->fl = c->fl;
    i->mode = c->mode;
    i->att_mask = c->att_mask;
    i->cpl = c->cpl;
    i->halted = c->halted;
    i->stop_block = c->stop_block;
    i->outcome = outcome;
    i->vector = c->exc_vector;
    i->has_error = c->exc_has_error;
    i->error = c->exc_error;
}

static void put(struct ref *c, const struct check_image *i) {
    bool translation = (c->s.cr0 ^ i->s.cr0) & ~X86_CR0_TS || c->s.cr3 != i->s.cr3 ||
                       c->s.cr4 != i->s.cr4 || c->s.efer != i->s.efer || c->s.smm != i->s.smm;

    c->s = i->s;
    ref_smm_view(c);
    c->s.shadow = i->shadow;
    memcpy(c->r, i->s.gpr, sizeof(i->s.gpr));
    c->rip = i->s.rip;
    c->af = i->af;
    c->fl = i->fl;
    c->cpl = i->cpl;
    c->halted = i->halted;
    if (c->mode != i->mode)
        ref_update_mode(c);
    c->att_mask = i->att_mask;
    c->stop_block = i->stop_block;
    if (translation)
        ref_tlb_flush(c);
}

static bool same_fault(const struct check_image *a, const struct check_image *b) {
    return a->vector == b->vector && a->has_error == b->has_error &&
           (!a->has_error || a->error == b->error);
}

/* Mostly they are, padding included: both were copied from the same struct. */
static bool same_bytes(const void *a, const void *b, size_t n) { return !memcmp(a, b, n); }

/* What STI does to the next instruction is the loop's affair, which translated code leaves out when
 * no interrupt waits. */
static bool same_state(const struct check_image *a, const struct check_image *b) {
    if (a->outcome != b->outcome || a->s.rip != b->s.rip || a->cpl != b->cpl ||
        a->att_mask != b->att_mask)
        return false;
    if (a->outcome == CHECK_FAULTED && !same_fault(a, b))
        return false;
    return same_bytes(&a->s, &b->s, sizeof(a->s)) || state_equal(&x86_state_desc, &a->s, &b->s);
}

/* ---- a trial ---- */

typedef void run_fn(struct ref *c, const struct ref_block *b);

static enum check_outcome try_run(struct ref *c, run_fn *run, const struct ref_block *b) {
    jmp_buf jb, *outer = c->jb;
    int outcome;

    c->jb = &jb;
    outcome = _setjmp(jb);
    if (!outcome)
        run(c, b);
    c->jb = outer;
    c->jit.vec_live = 0;
    return (enum check_outcome)outcome;
}

static void step(struct ref *c, const struct ref_block *unused) {
    struct ref_block *b;

    c->s.shadow = 0;
    b = ref_cache_one(c);
    c->block = b;
    c->r[REF_PC] = c->rip;
    c->insns += b->n;
    b->op[0].fn(c, b->op);
}

struct code { /* of a block, which may go */
    uint8_t p[REF_BLOCK_OPS * INSN_MAX_LEN];
    unsigned bytes, size;
};

static void code_of(const struct ref *c, const struct ref_block *b, struct code *ret) {
    ret->bytes = ref_block_bytes(c, b, ret->p) ? b->bytes : 0;
    ret->size = ref_code_size(b->mode);
}

/* Flags that the block reads surely, and those that it writes; both in the layout of ref.af. */
static void flags_of(struct ref *c, const struct ref_block *b, uint32_t *ret_read,
                     uint32_t *ret_written) {
    uint16_t read = 0, written = 0;
    struct code code;
    struct insn in;

    code_of(c, b, &code);
    for (unsigned off = 0; off < code.bytes; off += in.len) {
        if (insn_decode(&in, code.p + off, code.bytes - off, code.size) <= 0)
            break;
        /* What is in both may just survive. */
        read |= flags_read_by(&in) & (uint16_t)~in.row->flags_written & (uint16_t)~written;
        written |= in.row->flags_written & (uint16_t)~flags_read_by(&in);
    }
    *ret_read = (uint32_t)(read & 0xd5) << 8 | (read >> 11 & 1);
    *ret_written = (uint32_t)(written & 0xd5) << 8 | (written >> 11 & 1);
}

/* Flags that the block leaves undefined when it has come to `rip`, in the layout of ref.af. */
static uint32_t undefined_flags(const struct code *code, uint64_t start, uint64_t rip) {
    uint16_t undefined = 0;
    struct insn in;

    for (unsigned off = 0; off < code->bytes && start + off != rip; off += in.len) {
        if (insn_decode(&in, code->p + off, code->bytes - off, code->size) <= 0)
            break;
        undefined &= (uint16_t) ~(in.row->flags_written & ~in.row->flags_read);
        undefined |= in.row->flags_undefined;
    }
    return (uint32_t)(undefined & 0xd5) << 8 | (undefined >> 11 & 1);
}

_Noreturn static void disagree(struct ref *c, const struct check_finding *f) {
    check_report(c, f);
    ref_fail(c, "translator and interpreter disagree about the block at %#llx",
             (unsigned long long)f->rip);
}

/* An interrupt or exception between two runs begins anew: its frame has the true flags, and what
 * the translator left in the others has been declared dead. */
static void look_for_event(struct ref *c) {
    if (c->rip != c->jit.check->next_rip)
        c->jit.check->stale = 0;
}

void check_interpret(struct ref *c, const struct ref_block *b) {
    struct jit_check *k = c->jit.check;
    uint32_t read, written;

    look_for_event(c);
    if (!k->stale)
        return;
    flags_of(c, b, &read, &written);
    if (read & k->stale) {
        struct check_finding f = {
            .what = "the interpreter is to read a flag that translated code left wrong",
            .rip = c->rip,
            .addr = b->addr,
        };
        take(c, &k->ref, CHECK_RAN);
        k->before = k->soft = k->ref;
        k->soft.af ^= k->stale;
        k->pages = 0;
        disagree(c, &f);
    }
    k->stale &= ~written;
    k->next_rip = c->rip + b->bytes; /* a branch is taken for an event: flags count as dead */
}

/* Is the interpreter where translated code came out? With nothing done only if that may have done
 * nothing either (`still`). */
static bool arrived(struct ref *c, unsigned steps, bool still, bool *ret_near) {
    struct jit_check *k = c->jit.check;

    *ret_near = false;
    if (k->soft.s.rip != c->rip || (!steps && !still))
        return false;
    take(c, &k->ref, CHECK_RAN);
    *ret_near = steps != 0;
    if (!same_state(&k->ref, &k->soft) || !same_memory(k))
        return false;
    return steps || k->soft.af == (k->ref.af ^ k->stale);
}

/* One instruction of the interpreter; false at a fault, or in front of a device. */
static bool follow_step(struct ref *c, enum check_outcome *ret_outcome) {
    *ret_outcome = try_run(c, step, NULL);
    c->next = NULL;
    c->link = NULL;
    return *ret_outcome == CHECK_RAN;
}

/* The interpreter follows. True: it arrived, and is there. Else f->steps says how far it was when
 * it stood at the same address for the first time. */
static bool follow(struct ref *c, bool still, struct check_finding *f) {
    struct jit_check *k = c->jit.check;
    enum check_outcome outcome = CHECK_RAN;
    unsigned steps, first = 0;
    bool near;

    for (steps = 0; steps < STEPS_MAX; steps++) {
        if (k->soft.outcome == CHECK_RAN && arrived(c, steps, still, &near))
            return true;
        if (k->soft.outcome == CHECK_RAN && near && !first)
            first = steps;
        if (!follow_step(c, &outcome))
            break;
    }
    take(c, &k->ref, outcome);
    if (outcome == CHECK_FAULTED && same_state(&k->ref, &k->soft) && same_memory(k))
        return true;
    f->what = first ? "they come to different results"
              : outcome == CHECK_ESCAPED
                  ? "the interpreter comes to a device, translated code does not"
                  : "the interpreter never comes to where translated code came out";
    f->steps = first ? first : steps < STEPS_MAX ? steps : f->steps;
    return false;
}

/* The interpreter once more, to where the report is to show it. */
static void follow_again(struct ref *c, const struct check_finding *f) {
    struct jit_check *k = c->jit.check;
    enum check_outcome outcome = CHECK_RAN;

    for (unsigned i = 0; i < k->pages; i++)
        memcpy(k->page[i].host, k->page[i].before, 4096);
    put(c, &k->before);
    for (unsigned i = 0; i < f->steps && follow_step(c, &outcome); i++)
        ;
    take(c, &k->ref, outcome);
}

/* Everything as before the trial; the interpreter does one instruction in earnest. */
static void give_up(struct ref *c) {
    undo(c->jit.check);
    put(c, &c->jit.check->before);
    c->jit.bail = 1;
    stat_inc(jit_check_left);
}

static void begin(struct ref *c) {
    struct jit_check *k = c->jit.check;

    look_for_event(c);
    take_grants_back(c);
    k->pages = k->walks = 0;
    take(c, &k->before, CHECK_RAN);
    c->af ^= k->stale;
    /* Loops inside a translation leave at their first backward branch. */
    __atomic_store_n(&c->jit.poll, 1, __ATOMIC_SEQ_CST);
    k->armed = true;
}

static void end(struct ref *c, const struct code *code, uint64_t rip) {
    struct jit_check *k = c->jit.check;
    uint32_t stale = (k->soft.af ^ k->ref.af) & CHECK_AF;

    if (stale) /* where an instruction leaves it open, the interpreter's are as good */
        stale &= ~undefined_flags(code, rip, c->rip);
    if (stale & ~k->stale)
        k->stale_rip = rip;
    k->stale = stale;
    k->next_rip = c->rip;
    c->s.shadow = k->soft.shadow;
    stat_inc(jit_checks);
}

static void trial(struct ref *c, const struct ref_block *b) {
    struct jit_check *k = c->jit.check;
    struct check_finding f = {.rip = c->rip, .addr = b->addr, .code = b->code, .steps = b->n};
    enum check_outcome outcome;
    struct code code;
    bool bailed;

    code_of(c, b, &code);
    begin(c);
    outcome = try_run(c, jit_enter, b);
    if (outcome == CHECK_ESCAPED) {
        give_up(c);
        return;
    }
    bailed = c->jit.bail;
    c->jit.bail = 0;
    take(c, &k->soft, outcome);
    undo(k);
    put(c, &k->before);
    if (outcome != CHECK_FAILED && !follow(c, bailed || c->jit.promote, &f)) {
        follow_again(c, &f);
        disagree(c, &f);
    }
    end(c, &code, f.rip);
    c->jit.bail = bailed;
    if (outcome != CHECK_RAN)
        longjmp(*c->jb, (int)outcome);
}

/* The freeze is a mutex, which is not fair: now and then whoever waits for the devices gets them.
 */
static void rest(struct jit_check *k) {
    struct timespec t;
    uint64_t now;

    clock_gettime(CLOCK_MONOTONIC, &t);
    now = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    if (now - k->rested < REST_EVERY)
        return;
    usleep(20);
    k->rested = now;
}

/* The first runs of every translation and some of the later ones, unless all are asked for. */
static bool due(struct ref *c, const void *code) {
    uint32_t *runs = &c->jit.check->runs[((uintptr_t)code >> 4) % RUNS_SIZE];

    return ++*runs <= RUNS_FIRST || c->cpu.config.debug.check_all || *runs % RUNS_BETWEEN == 0;
}

void check_forget(struct ref *c) {
    memset(c->jit.check->runs, 0, RUNS_SIZE * sizeof(*c->jit.check->runs));
}

void check_enter(struct ref *c, const struct ref_block *b) {
    struct jit_check *k = c->jit.check;
    enum check_outcome outcome;

    if (!due(c, b->code)) {
        look_for_event(c);
        c->af ^= k->stale;
        k->stale = 0;
        jit_enter(c, b);
        k->next_rip = c->rip;
        return;
    }
    freeze(k, true);
    outcome = try_run(c, trial, b);
    k->armed = false;
    freeze(k, false);
    if (++k->trials % TRIALS_BETWEEN_LOOKS == 0 && k->bus.freeze)
        rest(k);
    if (outcome != CHECK_RAN)
        longjmp(*c->jb, (int)outcome);
}
