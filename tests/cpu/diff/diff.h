/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The differential test of a software CPU: random instructions run by the host's own processor in a
 * child process and by the software CPU in a small machine, with the same registers and memory.
 *
 * Contract: one thread. A batch of cases lies in memory shared with the child: diff_generate fills
 * a case, native_start lets the child execute a batch, guest_run executes one case, diff_compare
 * says what differs.
 */
#ifndef TESTS_CPU_DIFF_DIFF_H
#define TESTS_CPU_DIFF_DIFF_H

#include <stdbool.h>
#include <stdint.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define DIFF_SANITIZED 1
#else
#define DIFF_SANITIZED 0
#endif

#include "cpu/soft/decode.h"
#include "support/test.h"

enum {
    DIFF_PAGE = 4096,
    DIFF_BATCH = 256,
    DIFF_MAX_INSNS = 8,
    DIFF_CODE_MAX = 160,
    DIFF_PATCHES = 6,
    DIFF_SECOND_END = 120
};

/* The same addresses in the child and in the guest. */
#define DIFF_CODE 0x10000000ull /* two pages to execute, then nothing */
#define DIFF_DATA 0x20000000ull /* see enum diff_page */
#define DIFF_STUB 0x70000000ull /* code ends with a jump here; below AddressSanitizer's shadow */
enum { DIFF_STUB_PAGES = 3 };

enum diff_page { /* of DIFF_DATA, in order */
                 DATA_RW0,
                 DATA_RW1,
                 DATA_HOLE,
                 DATA_RW2,
                 DATA_RO,
                 DATA_HOLE2,
                 DATA_PAGES,
};
enum { DIFF_RW_PAGES = 3 };

/* Of Linux's GDT, and of an LDT for 16-bit code: code with base DIFF_CODE; data, stack and
 * expand-down data with base DIFF_DATA. */
enum {
    SEL_CODE32 = 0x23,
    SEL_DATA = 0x2b,
    SEL_CODE64 = 0x33,
    SEL_CODE16 = 0x07,
    SEL_DATA16 = 0x0f,
    SEL_STACK16 = 0x17,
    SEL_DOWN16 = 0x1f,
};
enum { LIMIT_DATA16 = 0x57ff, LIMIT_STACK16 = 0x4fff, LIMIT_DOWN16 = 0x0fff, LDT_ENTRIES = 4 };

/* Extended state as XSAVE64 stores it in the standard format, components x87, SSE and AVX. */
struct diff_xsave {
    uint16_t fcw, fsw, ftw, fop;
    uint64_t fip, fdp;
    uint32_t mxcsr, mxcsr_mask;
    uint8_t st[8][16], xmm[16][16], reserved[96];
    uint64_t header[8];
    uint8_t ymm[16][16];
} __attribute__((aligned(64)));

struct diff_regs {
    struct diff_xsave x;
    uint64_t gpr[16], rip, rflags, fs_base, gs_base;
    uint16_t sel[6]; /* enum x86_seg order; CS and SS follow from the mode on input */
};

struct diff_patch {
    uint64_t addr;
    uint8_t len, bytes[64];
};

struct diff_case {
    struct diff_regs in;
    struct diff_patch patch[DIFF_PATCHES];
    uint8_t patches;
    uint8_t mode;                       /* 8: 64-bit code, 4: 32-bit, 2: 16-bit, all at level 3 */
    uint8_t insns, insns_len, code_len; /* code_len with what ends the case */
    uint16_t row[DIFF_MAX_INSNS];       /* indexes into insn_rows */
    uint8_t offset[DIFF_MAX_INSNS];
    uint64_t code_addr;
    uint8_t code[DIFF_CODE_MAX];
    uint32_t flags_ignored; /* undefined at the end if all instructions were executed */
    uint64_t xstate_bv; /* where the case writes XSTATE_BV, which every processor may compute in its
                           own way; or 0 */
};

enum { DIFF_COMPLETED = 0xff, DIFF_NOT_RUN = 0xfe, DIFF_TIMEOUT = 0xfd, DIFF_DIED = 0xfc };

struct diff_result {
    struct diff_regs out;
    uint8_t vector; /* of the exception that ended it, or one of the above */
    uint64_t error, cr2;
    uint8_t data[DIFF_RW_PAGES][DIFF_PAGE];
};

/* Shared with the child. */
struct diff_batch {
    uint32_t first, count;      /* the child runs the cases from `first` on */
    uint8_t data[4][DIFF_PAGE]; /* contents of RW0 RW1 RW2 RO before the patches */
    struct diff_case cases[DIFF_BATCH];
    struct diff_result native[DIFF_BATCH];
};

/* ---- memory.c ---- */
enum { DIFF_MODES = 3 };
unsigned diff_mode_index(unsigned mode); /* 8, 4, 2 -> 0, 1, 2 */
/* Base of the code segment of a mode, and its selector. */
uint64_t diff_code_base(unsigned mode);
uint16_t diff_code_selector(unsigned mode);
int diff_page_index(enum diff_page page); /* into diff_batch.data, -1 for holes */
/* Lays the contents of a case into the four data pages (pointers of the caller's own copies). */
void diff_apply_patches(const struct diff_case *k, uint8_t *const pages[4]);

/* First bytes of the code pages: a 64-bit jump to DIFF_STUB, where 32-bit code ends. */
void diff_write_trampoline(uint8_t *code_page);
/* Puts the end behind the instructions, and a second one at DIFF_SECOND_END for branches. */
void diff_finish_code(struct diff_case *k);

/* ---- generate.c ---- */
struct diff_gen;
struct diff_gen *diff_gen_new(uint64_t seed);
void diff_gen_free(struct diff_gen *g);
void diff_gen_data(struct diff_gen *g, struct diff_batch *b);
/* `max_insns` 1 or more. Counts the row of the first instruction as covered. */
void diff_generate(struct diff_gen *g, struct diff_case *k, unsigned mode, unsigned max_insns);
/* Why a row is left out, NULL if it is not. */
const char *diff_row_excluded(const struct insn_row *row);
/* Row names to restrict to (a mnemonic), or NULL. */
void diff_gen_only(struct diff_gen *g, const char *mnemonic);
void diff_gen_without(struct diff_gen *g, unsigned mode); /* this host runs no code of this mode */
bool diff_gen_has_rows(const struct diff_gen *g, unsigned mode);
/* Lists the rows that were not drawn, with the reason. */
void diff_gen_report(const struct diff_gen *g, unsigned *ret_covered, unsigned *ret_left_out);

/* ---- values.c ---- */
uint64_t value_int(struct rng *r);
void value_vector(struct rng *r, uint8_t *bytes, unsigned n);
void value_st(struct rng *r, uint8_t bytes[16]);
void value_x87_control(struct rng *r, struct diff_xsave *x);
uint32_t value_mxcsr(struct rng *r);

/* ---- native.c ---- */
int native_open(struct diff_batch **ret_batch); /* 0, or a negative errno if this host cannot */
bool native_has_mode(unsigned mode);            /* 8, 4, 2; kernels need not let programs run 32-bit
                                                   code, nor load an LDT */
bool native_keeps_pointers(
    void); /* does the host's XSAVE tell x87's last instruction at all times? */
void native_start(struct diff_batch *b); /* lets the child run the batch */
/* Waits for the end of the batch. A child that dies or hangs is replaced, and the case in which it
 * did has the result DIFF_DIED. 0, or a negative errno if there can be no new child. */
int native_wait(void);
void native_close(void);

/* ---- guest.c ---- */
int guest_open(void);
void guest_load(const struct diff_batch *b); /* after diff_gen_data */
void guest_run(const struct diff_case *k, struct diff_result *ret);
void guest_close(void);

/* ---- compare.c ---- */
/* Did the case fault on memory that only the child has: its stub, and what AddressSanitizer maps?
 * There, the host's processor faults on nothing, and may damage what the child needs. */
bool diff_in_machinery(const struct diff_result *guest);
/* True if the results agree; else prints the case, when `report`. */
bool diff_compare(const struct diff_batch *b, const struct diff_case *k,
                  const struct diff_result *native, const struct diff_result *guest, bool report);

#endif
