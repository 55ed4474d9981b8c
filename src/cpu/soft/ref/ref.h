/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reference interpreter: inside view. Blocks of decoded operations, a software TLB, exact
 * faults.
 *
 * Theory of operation: guest code is decoded into blocks (one page, straight line) keyed by
 * physical address and mode. Each instruction is bound to a handler `ref_fn`; handlers of a block
 * call each other in tail position, the last one returns to the loop in core.c. Arithmetic flags
 * are kept as the host gives them to LAHF/SETO (c->af). A fault leaves the handler by longjmp, so a
 * handler changes guest state only after its last memory access that can fault.
 *
 * Everything here runs on the vCPU's thread, except the fields marked atomic.
 */
#ifndef CPU_SOFT_REF_REF_H
#define CPU_SOFT_REF_REF_H

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>

#include "cpu/cpu.h"
#include "cpu/soft/decode.h"
#include "cpu/soft/jit/jit.h"

enum { REF_JC_SIZE = 4096, REF_BLOCK_OPS = 64, REF_FILLED = 1024, REF_SPACES = 8 };
enum {
    REF_ZERO = 16,
    REF_PC = 17
}; /* pseudo registers: always 0; virtual address of the block's start */

struct ref;
struct ref_op;
typedef void ref_fn(struct ref *c, const struct ref_op *o);

enum ref_ea_flags {
    REF_EA_LEGACY = 1, /* segment base, limit and type apply (not 64-bit mode) */
    REF_EA_SEG = 2,    /* 64-bit mode with FS or GS base */
    REF_EA_32 = 4,     /* address size 32 */
    REF_EA_16 = 8,
};

struct ref_op {
    ref_fn *fn;
    uint64_t imm;
    const void *ptr; /* handler's own: struct insn copy (ref_keep_insn), thunk, ... */
    int32_t disp;    /* RIP-relative: already relative to the block's start */
    uint16_t off;    /* of the instruction in the block */
    uint8_t len;
    uint8_t dst, src;           /* register numbers; byte registers: offset in bytes into c->r */
    uint8_t base, index, scale; /* REF_ZERO where absent */
    uint8_t seg, eaf;           /* enum x86_seg, enum ref_ea_flags */
    uint8_t size;               /* operand size in bytes */
    uint8_t aux;                /* handler's own */
};

/* Small, and what a search looks at comes first: a large guest has more blocks than the host's
 * caches hold. Blocks are named by pointers and by numbers, of which 0 is none (ref_block_at). */
struct ref_block {
    gpa addr;
    uint32_t hash_next;
    uint16_t mode, bytes;
    const void *code; /* translation, NULL if none */
    uint8_t n, heat;  /* heat: times run by the interpreter, 255 = cannot be translated */
    uint8_t tier;     /* of the translation */
    bool dead, crosses;
    bool reads_flags;  /* its translation, or what follows, may read flags from before it */
    uint16_t hot;      /* since when it has run often; 0: it has not (jit.c) */
    struct ref_op *op; /* NULL when their memory was needed: ref_block_ready */
    uint32_t link[2];  /* successors in the same page: fall-through, taken */
    uint32_t page_next;
    uint32_t links;        /* exits that lead to the translation: jit.c */
    uint64_t plain_sites;  /* instructions whose accesses do better without a page of their own */
    uint64_t plain_groups; /* ... and without a check for several */
    uint32_t fars;         /* exits of other pages that lead to the translation: far.c */
};

struct ref_crossing { /* a block that crosses; it takes two numbers */
    struct ref_block b;
    gpa page2;     /* physical page of the tail */
    uint32_t next; /* that crosses into it */
};

struct ref_jc_entry {
    uint64_t rip;
    uint32_t mode;
    struct ref_block *block;
};

/* c->mode: what decoded blocks depend on. CPL is in it for the jump cache's sake. */
#define REF_MODE_CODE   0x3u  /* 0: 16, 1: 32, 2: 64-bit code */
#define REF_MODE_STACK  0xcu  /* same codes << 2 */
#define REF_MODE_USER   0x10u /* CPL 3 */
#define REF_MODE_REAL   0x20u /* CR0.PE = 0 or v86 */
#define REF_MODE_FPU_NM 0x40u /* x87/MMX raise #NM */
#define REF_MODE_SSE_UD 0x80u
#define REF_MODE_SSE_NM 0x100u /* CR0.TS */
#define REF_MODE_AVX_UD 0x200u
#define REF_MODE_STEP   0x400u  /* one instruction a block */
#define REF_MODE_MMX_UD 0x800u  /* CR0.EM */
#define REF_MODE_RING12 0x1000u /* CPL 1 or 2 */
#define REF_MODE_AC     0x2000u /* alignment checks: no access is a fast hit, nothing is translated */
#define REF_MODE_FLAT                                                                              \
    0x4000u                   /* 32-bit code; CS, SS, DS and ES: base 0, 4 GiB, no checks needed   \
                               */
#define REF_MODE_SMM  0x8000u /* memory, and RSM, are not as outside of system management mode */
#define REF_MODE_BITS 16

/* For insn_decode: 2, 4 or 8. */
static inline unsigned ref_code_size(uint32_t mode) {
    return (mode & REF_MODE_CODE) == 2 ? 8 : (mode & REF_MODE_CODE) == 1 ? 4 : 2;
}

enum ref_attention { /* c->attention, atomic */
                     REF_ATT_INTR = 1,
                     REF_ATT_NMI = 2,
                     REF_ATT_INIT = 4,
                     REF_ATT_SIPI = 8,
                     REF_ATT_KICK = 16,
                     REF_ATT_CODE = 32,
                     REF_ATT_UNHALT = 64,
                     REF_ATT_SMI = 128,
};

enum ref_request_kind {
    REF_REQUEST_DROP,   /* the page was written to: its blocks are no good */
    REF_REQUEST_FORBID, /* the page holds code of another processor: write to it by the slow path */
    REF_REQUEST_HOLD,   /* stand still until group.exclusive is over */
};

struct ref_group {
    bool several; /* the machine has other processors */
    /* It runs no guest code, and looks at requests before it does again. */
    _Atomic bool outside;
    bool exclusive; /* it has made all others stand still */
    unsigned pauses;
    pthread_mutex_t lock;
    struct {
        gpa page;
        enum ref_request_kind kind;
    } request[64]; /* until the loop looks; above the array: everything */
    unsigned count;
    uint64_t posted;
    _Atomic uint64_t served;
    _Atomic(struct ref *) holder; /* of processor 0: who makes all others stand still */
};

enum ref_access { REF_READ, REF_WRITE, REF_FETCH };

struct ref {
    struct cpu cpu; /* first */
    /* Hot. */
    uint64_t r[18]; /* RAX..R15, REF_ZERO, REF_PC */
    uint32_t af;    /* arithmetic flags: SF ZF AF PF CF in bits 15..8 as LAHF, OF in bit 0 */
    uint32_t fl;    /* the other RFLAGS bits (IF TF DF IOPL NT RF VM AC VIF VIP ID) */
    uint64_t rip;   /* valid between blocks and in the loop */
    uint32_t mode;
    uint32_t att_mask;
    _Atomic uint32_t attention;
    struct mem *mem;          /* as this processor sees it now: smm.c */
    unsigned tlb;             /* bank in force */
    unsigned linger;          /* rounds of the loop until bus.settle, 0: not asked for */
    struct ref_block *block;  /* running */
    struct ref_block *next;   /* set by a branch handler when the successor is known, else NULL */
    uint32_t *link;           /* where the loop may note the successor */
    struct ref_block *blocks; /* all of them, by number */
    uint8_t cpl;
    uint8_t
        open_segs; /* in 32-bit code, bit set: segments whose accesses need no check, any base */
    bool halted;
    bool stop_block; /* leave the loop's fast path after this block */
    uint64_t insns;  /* executed, counted a block at a time */
    struct x86_state
        s; /* everything that is not cached above; gpr, rip, rflags only after ref_sync */
    /* Faults. */
    jmp_buf *jb;
    uint8_t exc_vector;
    bool exc_has_error;
    uint32_t exc_error;
    bool delivering; /* an event is being delivered */
    bool ext;        /* EXT bit for error codes raised meanwhile: the event is not INT n */
    uint8_t delivering_vector; /* for double-fault rules; soft interrupts do not count */
    bool entered;              /* the running instruction was INT n or SYSCALL */
    uint16_t db_hits;          /* DR6 bits of data breakpoints hit by the running instruction */
    /* Read-modify-write and vector operands that cannot be reached through one host pointer. */
    uint64_t bounce_lin;
    uint32_t bounce_size;
    uint8_t bounce[128] __attribute__((aligned(64)));
    _Atomic uint32_t sipi_vector;
    struct {              /* paravirtual pages: pv.c */
        bool offered;     /* the bit for the EOI was set, and nobody has looked since */
        bool asleep;      /* the guest was told so */
        bool first;       /* steal time goes on from what is written there */
        uint64_t offset;  /* ns */
        uint64_t updated; /* TSC */
    } pv;
    struct ref_group group;   /* what others ask of it: group.c */
    uint32_t generation;      /* of the jump cache and instruction TLB, above REF_MODE_BITS */
    uint32_t user_generation; /* the same for user mode: another one in every address space */
    uint32_t last_generation; /* that was given out */
    bool kernel_local;   /* since the last flush kernel code ran from a page that is not global, or
                            is in the lower half */
    bool user_global;    /* user code ran from pages that are */
    uint64_t cs_base;    /* the jump cache's keys are valid for this CS base */
    bool bounded_cs;     /* CS limit or base forbid cached successors */
    unsigned fill_count; /* TLB entries filled since the last flush; above the array: many */
    uint16_t filled[REF_FILLED];
    uint32_t tlb_used[2]; /* bits: parts of the TLB's banks filled into since they were emptied */
    uint8_t write_seen[JIT_TLB_SIZE]; /* bits: host pages that had a write tag, hashed */
    uint8_t code_seen[JIT_TLB_SIZE];  /* bits: pages that code was fetched from, hashed */
    struct ref_space *space;          /* REF_SPACES of them: space.c */
    uint64_t space_switches;
    struct ref_jc_entry jc[REF_JC_SIZE];
    struct {
        uint64_t lin;
        uint32_t key;
        gpa pa;
    } itlb[256];             /* page of code -> physical page */
    struct ref_cache *cache; /* blocks: cache.c */
    struct ref_host *host;   /* thunks: host.c */
    struct jit jit;          /* translator, when the backend is soft */
    bool warm;               /* has run enough to be worth huge pages */
    uint64_t features[4];    /* bit set of enum insn_feature advertised */
    uint64_t large_seen[8];  /* 1 GiB regions (modulo 512) with large pages since the last flush:
                                INVLPG asks */
};

static inline struct ref_block *ref_block_at(const struct ref *c, uint32_t number) {
    return number ? c->blocks + number : NULL;
}
/* ~0 unless the block crosses. */
static inline gpa ref_block_page2(const struct ref_block *b) {
    return b->crosses ? ((const struct ref_crossing *)b)->page2 : ~(gpa)0;
}
/* The running block goes on straight, or at its branch's target. */
static inline void ref_follow_link(struct ref *c, unsigned taken) {
    c->link = &c->block->link[taken];
    c->next = ref_block_at(c, *c->link);
}

static inline bool ref_has(const struct ref *c, unsigned feature) {
    return c->features[feature / 64] >> (feature % 64) & 1;
}

/* ---- faults (all leave by longjmp; `o` is the faulting operation, NULL when c->rip is right
 * already) ---- */
_Noreturn void ref_raise(struct ref *c, const struct ref_op *o,
                         unsigned vector); /* without error code */
_Noreturn void ref_raise_error(struct ref *c, const struct ref_op *o, unsigned vector,
                               uint32_t error);
_Noreturn void ref_page_fault(struct ref *c, const struct ref_op *o, uint64_t lin, uint32_t error);
_Noreturn void ref_fail(struct ref *c, const char *fmt, ...); /* our own failure: CPU_EXIT_ERROR */

/* ---- mmu.c: page walk (SDM vol. 3A chapter 4). 0, or -1 with the #PF error code; sets A, and D
 * for writes. ---- */
struct ref_xlat {
    gpa pa;        /* of the byte asked for */
    bool writable; /* this privilege may write and D is set: may enter a write tag */
    bool global;   /* survives CR3 writes */
    bool large;    /* 2 MiB, 4 MiB or 1 GiB leaf: INVLPG of it must flush everything */
};
int ref_mmu_translate(struct ref *c, uint64_t lin, enum ref_access access, bool user,
                      struct ref_xlat *ret, uint32_t *ret_error);

/* Where kernels live: bit 63 of addresses in long mode, else bit 31. */
static inline bool ref_upper_half(const struct ref *c, uint64_t lin) {
    return c->s.efer & X86_EFER_LMA ? lin >> 63 : lin >> 31 & 1;
}

/* Key of the jump cache and instruction TLB for the mode in force. */
static inline uint32_t ref_jc_key(const struct ref *c, uint32_t bits) {
    return (bits & REF_MODE_USER ? c->user_generation : c->generation) << REF_MODE_BITS | bits;
}

/* ---- tlb.c ---- */
void ref_tlb_init(struct ref *c);
void ref_tlb_flush(struct ref *c);       /* everything, with the jump cache and all spaces */
void ref_tlb_flush_local(struct ref *c); /* CR3 write: everything but global pages */
void ref_tlb_flush_page(struct ref *c, uint64_t lin);
void ref_jc_flush_user(struct ref *c);
void ref_jc_flush(struct ref *c);
void ref_jc_fetched(struct ref *c, uint64_t lin); /* code of this page may be entered from now on */
/* Enters a translation of `lin` if accesses may be fast hits: RAM, nobody watching. */
bool ref_tlb_fill(struct ref *c, uint64_t lin, unsigned bank, const struct ref_xlat *x);
/* The host's address of RAM that `lin`, of a valid entry of this index, may be written through. */
void ref_tlb_allow_write(struct ref *c, unsigned bank, unsigned i, const struct mem_range *r);
void ref_tlb_note_fill(struct ref *c, unsigned bank, unsigned i); /* it is not global */
void ref_tlb_invalidate(struct ref *c, unsigned bank, unsigned i);
void ref_tlb_set(struct ref *c, unsigned bank, unsigned i, uint64_t page, uint64_t host);
uint32_t ref_new_generation(struct ref *c);
uint64_t ref_load_slow(struct ref *c, const struct ref_op *o, uint64_t lin,
                       unsigned size); /* 1..8 bytes */
void ref_store_slow(struct ref *c, const struct ref_op *o, uint64_t lin, unsigned size,
                    uint64_t value);
/* Any size up to 64, for reading: a host pointer (RAM directly, or a copy in c->bounce). */
const void *ref_read_ptr_slow(struct ref *c, const struct ref_op *o, uint64_t lin, unsigned size);
/* For writing or read-modify-write: faults first; afterwards call ref_write_done. `read`: contents
 * are wanted. */
void *ref_write_ptr_slow(struct ref *c, const struct ref_op *o, uint64_t lin, unsigned size,
                         bool read);
void ref_write_commit(struct ref *c, const struct ref_op *o);
/* Supervisor accesses by the processor itself (descriptor tables, TSS, stacks of an inner ring). */
uint64_t ref_load_sys(struct ref *c, const struct ref_op *o, uint64_t lin, unsigned size);
void ref_store_sys(struct ref *c, const struct ref_op *o, uint64_t lin, unsigned size,
                   uint64_t value);
/* #AC unless `lin` is a multiple of size, where alignment is checked: the loads and stores above do
 * it by themselves, ref_probe_write does not. */
void ref_check_alignment(struct ref *c, const struct ref_op *o, uint64_t lin, unsigned size);
/* Faults (as a user- or supervisor-mode write would) unless [lin, lin+size) can be written. */
void ref_probe_write(struct ref *c, const struct ref_op *o, uint64_t lin, unsigned size, bool user);
uint64_t ref_lin_slow(struct ref *c, const struct ref_op *o, unsigned size, bool write);
/* Segment + offset with an explicit segment (stack, string destination): linear address, checks
 * done. */
uint64_t ref_seg_lin(struct ref *c, const struct ref_op *o, unsigned seg, uint64_t offset,
                     unsigned size, bool write);

/* ---- space.c: what CR3 writes under CR4.PCIDE keep ---- */
int ref_space_new(struct ref *c, struct error *err);
void ref_space_free(struct ref *c);
/* From one PCID to another; `keep`: bit 63, the other one's translations are still good. */
void ref_space_switch(struct ref *c, unsigned from, unsigned to, bool keep);
void ref_space_drop(struct ref *c, unsigned pcid); /* not the one in force */
void ref_space_drop_all(struct ref *c);
void ref_space_drop_code(struct ref *c); /* keeps what is data */

/* ---- cache.c ---- */
int ref_cache_new(struct ref *c, struct error *err);
void ref_cache_free(struct ref *c);
void ref_cache_flush(struct ref *c); /* every block; only while none runs */
bool ref_cache_full(const struct ref *c);
/* The block at c->rip in c->mode, decoding it if need be. May fault. */
struct ref_block *ref_cache_lookup(struct ref *c);
/* Before b->op is used: decodes the block once more if its operations are gone. False if nothing
 * but ref_cache_flush helps. */
bool ref_block_ready(struct ref *c, struct ref_block *b);
/* One instruction at c->rip (single step, interrupt shadow, end of the code segment), with its
 * operation. May fault. */
struct ref_block *ref_cache_one(struct ref *c);
/* Bytes [pa, pa+size) are about to be, or were, written: drops the blocks that overlap them. */
void ref_cache_written(struct ref *c, gpa pa, unsigned size);
void ref_cache_drop_page(struct ref *c, gpa page);
void ref_cache_drop_all(struct ref *c); /* as that; the running block may be among them */
struct ref_block *ref_cache_at(struct ref *c, gpa pa, uint32_t mode); /* NULL: none is known */
/* A translation of this page, which has blocks, depends on these bytes too. */
void ref_cache_depend(struct ref *c, gpa addr, unsigned size);
/* Copies the guest's bytes of the block as they are now; false if they are not in RAM. */
bool ref_block_bytes(const struct ref *c, const struct ref_block *b, uint8_t *to);
void ref_tlb_forbid_write(struct ref *c, const uint8_t *host_page);
void *ref_arena_alloc(struct ref *c, size_t n); /* lives until ref_cache_flush */

/* ---- group.c: what the processors of one machine, and devices, ask of each other ---- */
void ref_group_init(struct ref *c);
void ref_group_done(struct ref *c);
void ref_group_enter(struct ref *c); /* before guest code; then look at c->attention */
void ref_group_leave(struct ref *c);
void ref_group_serve(struct ref *c); /* does what was asked for */
/* Around calls of the board, which may wait for others. */
static inline void ref_bus_begin(struct ref *c) {
    if (c->group.several)
        atomic_store_explicit(&c->group.outside, true, memory_order_release);
}
void ref_bus_end(struct ref *c);
/* Other processors have blocks of this page, to which this one has written: returns when they are
 * gone. */
void ref_group_written(struct ref *c, gpa page, uint64_t flags);
/* Others may write to this page, of which this one is about to decode code: returns when not. */
void ref_group_forbid(struct ref *c, gpa page, uint64_t flags);
/* Between these no other processor executes guest code. */
void ref_group_exclude(struct ref *c);
void ref_group_include(struct ref *c);
/* From any thread, without waiting. */
void ref_group_code_written(struct ref *c, gpa page);

/* ---- core.c ---- */
/* After a data segment was loaded (ref_update_mode does the same). */
void ref_update_flat(struct ref *c);
void ref_update_mode(struct ref *c); /* after CS, SS, CPL, CR0, CR4, EFER, XCR0, TF, DR7 changed:
                                        mode, bank, masks */
uint64_t ref_rflags(const struct ref *c);
void ref_set_rflags(struct ref *c, uint64_t flags); /* all bits as given; updates masks */
void ref_halt(struct ref *c);   /* HLT, unless somebody has kicked the processor */
void ref_sync(struct ref *c);   /* hot copies -> c->s */
void ref_unsync(struct ref *c); /* c->s -> hot copies, mode, flushes */
/* Continue elsewhere: sets c->rip, no successor known. Last thing a block-ending handler does. */
static inline void ref_goto(struct ref *c, uint64_t rip) {
    c->rip = rip;
    c->next = NULL;
    c->link = NULL;
}
/* There is more to do than to execute the next block. */
static inline bool ref_wants_attention(const struct ref *c) {
    return (atomic_load_explicit(&c->attention, memory_order_relaxed) & c->att_mask) ||
           (c->halted | c->stop_block | c->s.shadow) || (c->mode & REF_MODE_STEP);
}
static inline uint64_t ref_op_rip(const struct ref *c, const struct ref_op *o) {
    return c->r[REF_PC] + o->off;
}
static inline uint64_t ref_next_rip(const struct ref *c, const struct ref_op *o) {
    return c->r[REF_PC] + o->off + o->len; /* 16/32-bit code: the caller wraps */
}

void ref_bind(struct ref *c, const struct insn *in,
              struct ref_op *o);                     /* bind.c; an undefined opcode binds a fault */
ref_fn ref_op_end, ref_op_ud, ref_op_nm, ref_op_gp0; /* end of block; faults */

/* ---- binding: fills o->fn (operands that ref_bind fills before: dst src base index scale seg eaf
 * size imm) ---- */
bool ref_bind_int(struct ref *c, const struct insn *in, struct ref_op *o); /* int_*.c */
bool ref_bind_sys(struct ref *c, const struct insn *in, struct ref_op *o); /* sys_*.c */
bool ref_bind_fpu(struct ref *c, const struct insn *in,
                  struct ref_op *o); /* fpu.c: FPU/SSE/AVX rows not INSN_HOST */
bool ref_bind_host(struct ref *c, const struct insn *in,
                   struct ref_op *o); /* host.c: INSN_HOST rows */
const struct insn *ref_keep_insn(struct ref *c,
                                 const struct insn *in); /* lives as long as the block */
void ref_set_mem(struct ref *c, const struct insn *in,
                 struct ref_op *o); /* base index scale disp seg eaf */

/* ---- event.c: delivery of exceptions and interrupts through IVT, IDT; seg.c: segment loads, far
 * transfers ---- */
enum ref_event_kind {
    REF_EVENT_EXCEPTION,
    REF_EVENT_EXTERNAL,
    REF_EVENT_NMI,
    REF_EVENT_SOFT,
    REF_EVENT_ICEBP
};
/* c->rip is the address to save. May itself fault (longjmp). */
void ref_deliver(struct ref *c, enum ref_event_kind kind, unsigned vector, bool has_error,
                 uint32_t error);
/* `second` was raised while exception `first` was being delivered: the vector to deliver, -1 for
 * shutdown. */
int ref_combine(const struct ref *c, unsigned first, unsigned second);

/* ---- smm.c: system management mode ---- */
void ref_smm_enter(struct ref *c); /* between two instructions */
/* After c->s.smm was set otherwise: c->mem. The caller flushes. */
void ref_smm_view(struct ref *c);
ref_fn ref_op_rsm;
/* All memory that there is, whatever the processor sees of it now (any thread). */
static inline struct mem *ref_all_mem(const struct ref *c) {
    const struct cpu_bus *bus = &c->cpu.config.bus;

    return bus->smm_mem ? bus->smm_mem : bus->mem;
}

/* ---- sys_*.c, msr.c ---- */
/* #GP(0) unless the guest may use ports [port, port+size) now: CPL, IOPL, the TSS's I/O bitmap. */
void ref_check_io(struct ref *c, const struct ref_op *o, uint16_t port, unsigned size);
/* Notes a hit of an I/O breakpoint; asked in REF_MODE_STEP, when CR4.DE is set. */
void ref_watch_io(struct ref *c, uint16_t port, unsigned size);
/* Writes the pvclock page again, if the guest has one: after the clock was paused or moved. */
void ref_pvclock_update(struct ref *c);

/* ---- host.c ---- */
int ref_host_new(struct ref *c, struct error *err);
void ref_host_free(struct ref *c);
void ref_host_flush(struct ref *c); /* blocks were flushed: thunks may be reused */
bool ref_host_full(
    const struct ref *c); /* before building a block: flush all blocks and ref_host_flush first */

#include "cpu/soft/ref/ref_mem.h"

#endif
