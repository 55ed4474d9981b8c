/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instructions executed by the host's own CPU on the guest's registers: the arena of thunks, the
 * handlers that call them, and what happens when the host faults in one. Source: SDM vol. 1
 * chapters 8 to 14 (x87, MMX, SSE, AVX state), vol. 3A 6.15 (exceptions).
 *
 * The arena is one memfd mapped twice, writable and executable. Thunks (host_emit.c) lie in it one
 * after the other and are shared by content. A synchronous signal inside the arena is a guest
 * exception: the handler puts back what the thunk had saved and returns to its caller with the
 * vector.
 */
#include "cpu/soft/ref/host.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/zero.h"
#include "cpu/soft/ref/host_emit.h"

#define ARENA_SIZE ((size_t)16 << 20)
/* Room that one block may need: checked before it is built, so that no bind ever fails for want of
 * it. */
#define ARENA_RESERVE ((size_t)(REF_BLOCK_OPS + 2) * HOST_CODE_MAX)
enum { MAX_THUNKS = 1 << 18, HASH_SIZE = 1 << 14, MAX_ARENAS = 256 };

typedef unsigned thunk_fn(struct ref *c, void *mem, void *fxsave_image);

struct thunk {
    uint32_t offset; /* in the arena; ascending */
    uint16_t len;
    uint16_t flags; /* enum host_thunk_flags */
    uint32_t next;  /* in the hash chain: index + 1, 0 at the end */
};

struct ref_host {
    uint8_t fxsave_image[512] __attribute__((aligned(64)));
    uint8_t *rw;
    const uint8_t *rx;
    size_t used;
    struct thunk *thunks;
    uint32_t count;
    uint32_t hash[HASH_SIZE]; /* index + 1 */
};

/* For the signal handler, which serves all processors of the process. */
static struct ref_host *_Atomic arenas[MAX_ARENAS];

/* ---- host faults ---- */

static const int fault_signals[] = {SIGFPE, SIGSEGV, SIGILL, SIGBUS};
static struct sigaction previous[sizeof(fault_signals) / sizeof(fault_signals[0])];

static const struct thunk *thunk_at(const struct ref_host *h, uintptr_t rip) {
    uint32_t offset = (uint32_t)(rip - (uintptr_t)h->rx), low = 0, high = h->count;

    while (low < high) { /* first thunk beyond the address */
        uint32_t middle = low + (high - low) / 2;
        if (h->thunks[middle].offset <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? &h->thunks[low - 1] : NULL;
}

static const struct thunk *find_thunk(uintptr_t rip) {
    for (unsigned i = 0; i < MAX_ARENAS; i++) {
        const struct ref_host *h = atomic_load_explicit(&arenas[i], memory_order_acquire);
        if (h && rip - (uintptr_t)h->rx < h->used)
            return thunk_at(h, rip);
    }
    return NULL;
}

static _Noreturn void raise_fault(struct ref *c, const struct ref_op *o, unsigned vector) {
    if (vector == X86_XM && !(c->s.cr4 & X86_CR4_OSXMMEXCPT))
        vector = X86_UD;
    if (vector == X86_GP)
        ref_raise_error(c, o, X86_GP, 0);
    ref_raise(c, o, vector);
}

/* Makes the thunk end as if its instruction had not been there. */
static void leave_thunk(ucontext_t *uc, const struct thunk *t, unsigned vector) {
    greg_t *r = uc->uc_mcontext.gregs;
    struct ref *c = (struct ref *)r[REG_RDI];
    uint64_t *stack = (uint64_t *)r[REG_RSP];

    if (t->flags & HOST_MXCSR) {
        if (vector == X86_XM)
            c->s.fpu.mxcsr = uc->uc_mcontext.fpregs->mxcsr;
        uc->uc_mcontext.fpregs->mxcsr = MXCSR_DEFAULT;
    }
    if (t->flags & HOST_SAVED_RBX)
        r[REG_RBX] = (greg_t)*stack++;
    if (t->flags & HOST_STEP) { /* RSI is still the operation */
        r[REG_RDX] = vector;
        r[REG_RIP] = (greg_t)(uintptr_t)raise_fault;
    } else {
        r[REG_RAX] = vector + 1;
        r[REG_RIP] = (greg_t)*stack++;
    }
    r[REG_RSP] = (greg_t)(uintptr_t)stack;
}

static void chain(unsigned i, int sig, siginfo_t *info, void *uc) {
    if (previous[i].sa_flags & SA_SIGINFO)
        previous[i].sa_sigaction(sig, info, uc);
    else if (previous[i].sa_handler == SIG_DFL || previous[i].sa_handler == SIG_IGN) {
        signal(sig, SIG_DFL); /* the instruction runs again and ends the process */
        if (info->si_code <= 0)
            raise(sig); /* somebody sent it: there is no instruction */
    } else
        previous[i].sa_handler(sig);
}

static void on_fault(int sig, siginfo_t *info, void *opaque) {
    ucontext_t *uc = opaque;
    unsigned vector = (unsigned)uc->uc_mcontext.gregs[REG_TRAPNO];
    bool synchronous = vector == X86_DE || vector == X86_UD || vector == X86_GP || vector == X86_XM;
    const struct thunk *t = info->si_code > 0 && synchronous
                                ? find_thunk((uintptr_t)uc->uc_mcontext.gregs[REG_RIP])
                                : NULL;

    if (t) {
        leave_thunk(uc, t, vector);
        return;
    }
    if (info->si_code > 0 && jit_resume(opaque))
        return;
    for (unsigned i = 0; i < sizeof(fault_signals) / sizeof(fault_signals[0]); i++)
        if (fault_signals[i] == sig)
            chain(i, sig, info, opaque);
}

/* Also puts them back if somebody took their place; who was there before is called for the rest. */
static void install_handlers(void) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct sigaction sa = {.sa_sigaction = on_fault,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    struct sigaction now;

    sigemptyset(&sa.sa_mask);
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < sizeof(fault_signals) / sizeof(fault_signals[0]); i++) {
        sigaction(fault_signals[i], NULL, &now);
        if (now.sa_sigaction == on_fault)
            continue;
        previous[i] = now;
        sigaction(fault_signals[i], &sa, NULL);
    }
    pthread_mutex_unlock(&lock);
}

/* ---- the arena ---- */

static int map_arena(struct ref_host *h, struct error *err) {
    int fd = memfd_create("vivarium-thunks", MFD_CLOEXEC);

    if (fd < 0)
        return error_set(err, -errno, "memory for the interpreter's thunks: %s", strerror(errno));
    if (ftruncate(fd, (off_t)ARENA_SIZE) < 0) {
        int code = -errno;
        close(fd);
        return error_set(err, code,
                         "memory for the interpreter's thunks cannot be made: %s; 'ulimit -f' or "
                         "a limit of the control group may be too low",
                         strerror(-code));
    }
    h->rw = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    h->rx = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    close(fd);
    if (!h->rw || !h->rx || h->rw == MAP_FAILED || h->rx == MAP_FAILED)
        return error_set(err, -ENOMEM,
                         "memory for the interpreter's thunks cannot be mapped executable: %s; "
                         "a security policy may forbid it",
                         strerror(errno));
    return 0;
}

static void unmap_arena(struct ref_host *h) {
    if (h->rw && h->rw != MAP_FAILED)
        munmap(h->rw, ARENA_SIZE);
    if (h->rx && h->rx != MAP_FAILED)
        munmap((void *)(uintptr_t)h->rx, ARENA_SIZE);
}

static int publish(struct ref_host *h, struct error *err) {
    for (unsigned i = 0; i < MAX_ARENAS; i++) {
        struct ref_host *empty = NULL;
        if (atomic_compare_exchange_strong(&arenas[i], &empty, h))
            return 0;
    }
    return error_set(err, -ENOSPC, "more than %u processors in one process", (unsigned)MAX_ARENAS);
}

int ref_host_new(struct ref *c, struct error *err) {
    struct ref_host *h = zero_alloc(sizeof(*h));
    int ret;

    if (!h)
        return error_set(err, -ENOMEM, "the interpreter's thunks: out of memory");
    c->host = h;
    h->thunks = zero_alloc(MAX_THUNKS * sizeof(*h->thunks));
    ret = h->thunks ? map_arena(h, err)
                    : error_set(err, -ENOMEM, "the interpreter's thunks: out of memory");
    if (ret == 0)
        ret = publish(h, err);
    if (ret < 0) {
        ref_host_free(c);
        return ret;
    }
    install_handlers();
    return 0;
}

void ref_host_free(struct ref *c) {
    struct ref_host *h = c->host;

    if (!h)
        return;
    for (unsigned i = 0; i < MAX_ARENAS; i++) {
        struct ref_host *mine = h;
        atomic_compare_exchange_strong(&arenas[i], &mine, NULL);
    }
    unmap_arena(h);
    zero_free(h->thunks, MAX_THUNKS * sizeof(*h->thunks));
    zero_free(h, sizeof(*h));
    c->host = NULL;
}

void ref_host_flush(struct ref *c) {
    struct ref_host *h = c->host;

    h->used = 0;
    h->count = 0;
    memset(h->hash, 0, sizeof(h->hash));
}

bool ref_host_full(const struct ref *c) {
    const struct ref_host *h = c->host;

    return h->used + ARENA_RESERVE > ARENA_SIZE || h->count + REF_BLOCK_OPS + 2 > MAX_THUNKS;
}

static uint32_t hash_bytes(const uint8_t *p, unsigned len) {
    uint32_t hash = 2166136261u;

    for (unsigned i = 0; i < len; i++)
        hash = (hash ^ p[i]) * 16777619u;
    return (hash ^ hash >> 15) % HASH_SIZE;
}

/* Address of the code in the executable view. */
static const void *keep_code(struct ref *c, const struct host_code *code) {
    struct ref_host *h = c->host;
    uint32_t *slot = &h->hash[hash_bytes(code->bytes, code->len)];
    struct thunk *t;

    for (uint32_t i = *slot; i; i = h->thunks[i - 1].next) {
        t = &h->thunks[i - 1];
        if (t->len == code->len && t->flags == code->flags &&
            !memcmp(h->rw + t->offset, code->bytes, code->len))
            return h->rx + t->offset;
    }
    if (h->used + HOST_CODE_MAX > ARENA_SIZE || h->count == MAX_THUNKS)
        ref_fail(c, "the arena of thunks is full; the block cache must be flushed when "
                    "ref_host_full() says so");
    t = &h->thunks[h->count++];
    *t = (struct thunk){.offset = (uint32_t)h->used,
                        .len = (uint16_t)code->len,
                        .flags = (uint16_t)code->flags,
                        .next = *slot};
    *slot = h->count;
    memcpy(h->rw + h->used, code->bytes, code->len);
    h->used += (code->len + 15) & ~15u;
    return h->rx + t->offset;
}

/* ---- handlers ---- */

static inline __attribute__((always_inline)) void run(struct ref *c, const struct ref_op *o,
                                                      void *mem) {
    unsigned fault = ((thunk_fn *)(uintptr_t)o->ptr)(c, mem, NULL);

    if (REF_UNLIKELY(fault))
        raise_fault(c, o, fault - 1);
}

static inline __attribute__((always_inline)) void *operand(struct ref *c, const struct ref_op *o,
                                                           unsigned access, bool aligned) {
    uint64_t lin;

    if (aligned)
        host_check_aligned(c, o, o->size);
    lin = ref_lin(c, o, o->size, access & 2);
    if (access & 2)
        return ref_write_ptr(c, o, lin, o->size, access & 1);
    return (void *)(uintptr_t)ref_read_ptr(c, o, lin, o->size);
}

static void host_read(struct ref *c, const struct ref_op *o) {
    run(c, o, operand(c, o, 1, false));
    REF_NEXT(c, o);
}

static void host_read_aligned(struct ref *c, const struct ref_op *o) {
    run(c, o, operand(c, o, 1, true));
    REF_NEXT(c, o);
}

/* VCVTPH2PS and VCVTPS2PH need no alignment, whatever EFLAGS.AC says: byte by byte then. */
static void host_convert_load(struct ref *c, const struct ref_op *o) {
    uint64_t lin = ref_lin(c, o, o->size, false);
    uint8_t value[16];

    for (unsigned i = 0; i < o->size; i++)
        value[i] = ref_load8(c, o, lin + i);
    run(c, o, value);
    REF_NEXT(c, o);
}

/* MXCSR has its flags even if the store faults. */
static void host_convert_store(struct ref *c, const struct ref_op *o) {
    uint8_t value[16];
    uint64_t lin;

    run(c, o, value);
    lin = ref_lin(c, o, o->size, true);
    ref_probe_write(c, o, lin, o->size, c->cpl == 3);
    for (unsigned i = 0; i < o->size; i++)
        ref_store8(c, o, lin + i, value[i]);
    REF_NEXT(c, o);
}

static void host_write(struct ref *c, const struct ref_op *o) {
    void *mem = operand(c, o, o->aux, false);

    run(c, o, mem);
    ref_write_done(c, o, mem);
    REF_NEXT(c, o);
}

static void host_write_aligned(struct ref *c, const struct ref_op *o) {
    void *mem = operand(c, o, o->aux, true);

    run(c, o, mem);
    ref_write_done(c, o, mem);
    REF_NEXT(c, o);
}

/* ---- MMX ---- */

/* o->aux: enum host_aux. */
enum host_aux {
    AUX_READ = 1,
    AUX_WRITE = 2,
    AUX_ALIGNED = 4,
};

static void *any_operand(struct ref *c, const struct ref_op *o) {
    if (!(o->aux & (AUX_READ | AUX_WRITE)))
        return NULL;
    return operand(c, o, o->aux & (AUX_READ | AUX_WRITE), o->aux & AUX_ALIGNED);
}

/* What remains of a faulting instruction is what processors leave: a store has already set TOP, and
 * a floating-point exception comes after the change to MMX mode. */
static void host_mmx(struct ref *c, const struct ref_op *o) {
    unsigned fault;
    void *mem;

    host_check_pending(c, o);
    if (o->aux & AUX_WRITE)
        fpu_set_top(&c->s.fpu, 0);
    mem = any_operand(c, o);
    host_enter_mmx(c);
    fault = ((thunk_fn *)(uintptr_t)o->ptr)(c, mem, NULL);
    if (REF_UNLIKELY(fault)) {
        __asm__ volatile("emms");
        raise_fault(c, o, fault - 1);
    }
    if (o->aux & AUX_WRITE)
        ref_write_done(c, o, mem);
    REF_NEXT(c, o);
}

/* ---- x87 ---- */

struct fxsave {
    uint16_t fcw, fsw, ftw, fop;
    uint64_t fip, fdp;
    uint32_t mxcsr, mxcsr_mask;
    uint8_t st[8][16];
};

/* Values that the host's own pointers to the last instruction cannot have: what remains was not
 * updated. */
#define MARK_FIP 0x00007a5a5a5a5a5aull
#define MARK_FDP 0x00007a5a5a5a5a00ull

static void load_image(const struct x86_fpu *f, struct fxsave *x, uint16_t fop) {
    *x = (struct fxsave){.fcw = f->fcw,
                         .fsw = f->fsw,
                         .ftw = f->ftw,
                         .fop = (uint16_t)(~fop & 0x7ff),
                         .fip = MARK_FIP,
                         .fdp = MARK_FDP,
                         .mxcsr = MXCSR_DEFAULT};
    memcpy(x->st, f->st, sizeof(x->st));
}

static void store_image(struct x86_fpu *f, const struct fxsave *x) {
    f->fcw = x->fcw;
    f->fsw = x->fsw;
    f->ftw = (uint8_t)x->ftw;
    memcpy(f->st, x->st, sizeof(x->st));
}

static void run_x87(struct ref *c, const struct ref_op *o, void *mem, struct fxsave *x) {
    if (((thunk_fn *)(uintptr_t)o->ptr)(c, mem, x)) {
        __asm__ volatile("fninit");
        ref_raise(c, o, X86_UD);
    }
}

/* Takes over the state after the instruction. */
static void finish_x87(struct ref *c, const struct ref_op *o, const struct fxsave *x,
                       uint16_t ignored) {
    struct x86_fpu *f = &c->s.fpu;

    store_image(f, x);
    if (ignored) {
        f->fsw |= ignored;
        host_update_pending(f);
    }
    if (x->fip != MARK_FIP)
        f->fip = ref_op_rip(c, o);
    if (x->fdp != MARK_FDP)
        f->fdp = o->aux & (AUX_READ | AUX_WRITE) ? host_offset(c, o) : x->fdp;
    if (x->fop != (~o->imm & 0x7ff))
        f->fop = (uint16_t)o->imm;
}

/* Exceptions pending although CR0.NE = 0 (see host_check_pending) are taken out of the image. */
static uint16_t ignore_pending(const struct x86_fpu *f, struct fxsave *x) {
    uint16_t ignored = f->fsw & ~f->fcw & FSW_EXCEPTIONS;

    x->fsw &= (uint16_t) ~(ignored | FSW_ES | FSW_BUSY);
    return ignored;
}

/* o->imm: FOP of the guest's instruction. */
static void host_x87(struct ref *c, const struct ref_op *o) {
    struct fxsave *x = (struct fxsave *)c->host->fxsave_image;
    void *mem;

    host_check_pending(c, o);
    mem = any_operand(c, o);
    load_image(&c->s.fpu, x, (uint16_t)o->imm);
    uint16_t ignored = ignore_pending(&c->s.fpu, x);
    run_x87(c, o, mem, x);
    finish_x87(c, o, x, ignored);
    REF_NEXT(c, o);
}

static void store_bytes(struct ref *c, const struct ref_op *o, uint64_t lin, const uint8_t *from,
                        unsigned n) {
    void *mem = ref_write_ptr(c, o, lin, n, false);

    memcpy(mem, from, n);
    ref_write_done(c, o, mem);
}

/* A store: if it ends in an unmasked exception other than precision, memory is not touched at all.
 */
static void host_x87_store(struct ref *c, const struct ref_op *o) {
    struct fxsave *x = (struct fxsave *)c->host->fxsave_image;
    uint8_t value[16];

    host_check_pending(c, o);
    load_image(&c->s.fpu, x, (uint16_t)o->imm);
    uint16_t ignored = ignore_pending(&c->s.fpu, x);
    run_x87(c, o, value, x);
    if (!(x->fsw & ~x->fcw & (FSW_EXCEPTIONS & ~FSW_PRECISION))) {
        unsigned first = o->size == 10 ? 8 : o->size; /* 80 bits are two stores */
        store_bytes(c, o, ref_lin(c, o, first, true), value, first);
        if (o->size == 10)
            store_bytes(c, o, fpu_area_at(c, o, 8, 2, true), value + 8, 2);
    }
    finish_x87(c, o, x, ignored);
    REF_NEXT(c, o);
}

/* ---- binding ---- */

bool host_bind_unavailable(struct ref *c, const struct insn *in, struct ref_op *o) {
    uint32_t attr = in->row->attr, mode = c->mode;
    bool undefined = ((attr & INSN_SSE) && (mode & REF_MODE_SSE_UD)) ||
                     ((attr & INSN_AVX) && (mode & REF_MODE_AVX_UD)) ||
                     ((attr & INSN_MMX) && (mode & REF_MODE_MMX_UD));
    bool missing = ((attr & (INSN_SSE | INSN_AVX)) && (mode & REF_MODE_SSE_NM)) ||
                   ((attr & (INSN_FPU | INSN_MMX)) && (mode & REF_MODE_FPU_NM));

    if (undefined)
        o->fn = ref_op_ud;
    else if (missing)
        o->fn = ref_op_nm;
    return undefined || missing;
}

static void bind_x87_or_mmx(const struct insn *in, const struct host_code *code, struct ref_op *o) {
    uint32_t attr = in->row->attr;

    o->aux = (uint8_t)code->access;
    if (attr & INSN_ALIGN)
        o->aux |= AUX_ALIGNED;
    o->imm = (in->opcode & 7u) << 8 | (uint32_t)in->mod << 6 | (in->reg & 7u) << 3 | (in->rm & 7u);
    o->fn = attr & INSN_MMX ? host_mmx : code->access & AUX_WRITE ? host_x87_store : host_x87;
}

static ref_fn *memory_handler(const struct ref *c, const struct insn *in, unsigned access) {
    bool aligned = in->row->attr & INSN_ALIGN;

    if ((c->mode & REF_MODE_AC) && in->row->id == INSN_VCVTPH2PS)
        return host_convert_load;
    if ((access & 2) && (in->row->attr & INSN_MXCSR))
        return host_convert_store;
    if (access & 2)
        return aligned ? host_write_aligned : host_write;
    return aligned ? host_read_aligned : host_read;
}

bool ref_bind_host(struct ref *c, const struct insn *in, struct ref_op *o) {
    uint32_t attr = in->row->attr;
    struct host_code code;

    if (!(attr & INSN_HOST))
        return false;
    if (host_bind_unavailable(c, in, o) || ref_bind_fpu(c, in, o))
        return true;
    if (in->mem)
        ref_set_mem(c, in, o);
    if (host_bind_move(c, in, o))
        return true;
    if (!host_emit(in, &code))
        return false;
    o->ptr = keep_code(c, &code);
    o->size = (uint8_t)code.mem_size;
    if (attr & (INSN_FPU | INSN_MMX))
        bind_x87_or_mmx(in, &code, o);
    else if (in->mem) {
        o->aux = (uint8_t)code.access;
        o->fn = memory_handler(c, in, code.access);
    } else
        o->fn = (ref_fn *)(uintptr_t)o->ptr;
    return true;
}
