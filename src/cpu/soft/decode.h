/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * x86 instruction decoder: bytes -> struct insn. Source: Intel SDM vol. 2, chapter 2, appendix A.
 *
 * Contract: pure functions, any thread, no allocation, never reads past the bytes given. One row of
 * opcodes.tab describes one instruction form; ids and tables are derived from it.
 */
#ifndef CPU_SOFT_DECODE_H
#define CPU_SOFT_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "insn_ids.h" /* generated: enum insn_id { INSN_INVALID, INSN_ADD, ... }, enum insn_feature */

enum { INSN_MAX_LEN = 15, INSN_MAX_OPERANDS = 6, REG_NONE = 16 };
/* Segment numbers as in the SDM's sreg encoding. */
enum x86_seg { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS };

enum insn_prefix {
    PFX_LOCK = 1,
    PFX_REPNE = 2, /* f2 */
    PFX_REP = 4,   /* f3 */
    PFX_OPSIZE = 8,
    PFX_ADSIZE = 16,
    PFX_SEG = 32,
    PFX_REX = 64,
    PFX_VEX = 128,
};

/* Arithmetic flags, bit positions of RFLAGS, for the flags_* masks of a row. */
enum { FL_CF = 1, FL_PF = 4, FL_AF = 16, FL_ZF = 64, FL_SF = 128, FL_DF = 1024, FL_OF = 2048 };

/* Attributes of a row. */
enum insn_attr {
    /* Touches only general registers, arithmetic flags, x87/MMX/SSE/AVX state and its explicit
     * memory operand: may be executed by the host's own CPU on the guest's registers. */
    INSN_HOST = 1 << 0,
    INSN_FPU = 1 << 1,      /* x87 or MMX: #NM on CR0.TS|EM, pending #MF first (see INSN_NOWAIT) */
    INSN_NOWAIT = 1 << 2,   /* x87 control instruction that ignores a pending exception */
    INSN_SSE = 1 << 3,      /* needs CR4.OSFXSR, CR0.EM=0; #NM on CR0.TS */
    INSN_AVX = 1 << 4,      /* needs CR4.OSXSAVE and XCR0[2:1]=3 */
    INSN_ALIGN = 1 << 5,    /* memory operand must be aligned to its size (else #GP) */
    INSN_LOCKABLE = 1 << 6, /* LOCK allowed with a memory destination */
    INSN_PRIV = 1 << 7,     /* CPL must be 0 */
    INSN_BRANCH = 1 << 8,   /* may write RIP: ends a block */
    INSN_SYSTEM = 1 << 9,   /* may change mode, translation or interrupt state: ends a block */
    INSN_STRING = 1 << 10,  /* accepts REP */
    INSN_NOMEM64 = 1 << 11, /* invalid in 64-bit mode */
    INSN_ONLY64 = 1 << 12,  /* invalid outside 64-bit mode */
    INSN_MMX = 1 << 13,     /* MMX (uses the x87 register file; sets TOP=0, tags) */
    INSN_MXCSR = 1 << 14,   /* SIMD floating point: reads the rounding mode, may set exceptions */
    INSN_REAL_UD = 1 << 15, /* #UD in real mode and v86 */
    INSN_VSIB = 1 << 16,    /* gather: `index` is the number of a vector register */
};

struct insn_row {
    uint16_t id;     /* enum insn_id */
    uint8_t feature; /* enum insn_feature: CPUID bit that must be advertised, FEAT_BASE = always */
    uint8_t nops;    /* operand count */
    uint8_t op[INSN_MAX_OPERANDS];     /* enum insn_opcode_operand: the manual's codes, Ev Gv .. */
    uint8_t access[INSN_MAX_OPERANDS]; /* 1 read, 2 write, 3 both, 0 none (LEA, NOP, prefetch) */
    uint8_t visible; /* operands before this are written in assembly text, the rest are implied */
    uint32_t attr;
    /* A flag that may survive (a shift by a count of 0, REP CMPS with rCX 0) is in read and in
     * written; undefined is a subset of written. */
    uint16_t flags_read, flags_written, flags_undefined;
    const char *mnemonic; /* lower case, as in the SDM */
};

struct insn {
    const struct insn_row *row; /* never NULL after success */
    /* First immediate, extended to 64 bits as the instruction uses it; branch displacement,
     * sign-extended; far pointer: the offset; 1 for the shifts by 1. */
    uint64_t imm;
    uint64_t imm2; /* ENTER's level, far pointer's selector; is4's register stays in imm bits 7:4 */
    int64_t disp;  /* sign-extended displacement; moffs: the zero-extended offset */
    uint8_t len;
    uint8_t mode;   /* 2, 4, 8: code size */
    uint8_t opsize; /* effective operand size of 'v' operands: 2, 4, 8 */
    uint8_t adsize; /* effective address size: 2, 4, 8 */
    uint8_t vl;     /* vector length in bytes for VEX rows: 16, 32; 0 else */
    uint8_t seg;    /* of the memory operand, defaults applied; in 64-bit mode only FS, GS matter */
    uint8_t prefixes;     /* enum insn_prefix */
    uint8_t rex;          /* W R X B in bits 3..0, VEX folded in, 0 if none */
    uint8_t opcode;       /* last opcode byte */
    uint8_t map;          /* 0 one-byte, 1 0F, 2 0F38, 3 0F3A */
    uint8_t pp;           /* mandatory prefix that selected the row: 0 none, 1 66, 2 F3, 3 F2 */
    uint8_t vvvv;         /* VEX.vvvv register number */
    bool vex_w;           /* VEX.W as written (rex drops it outside 64-bit mode) */
    uint8_t mod, reg, rm; /* reg and rm extended by REX/VEX; valid if modrm_at != 0 */
    bool mem;             /* modrm (or moffs) names memory */
    bool rip_relative;
    uint8_t base, index; /* register numbers or REG_NONE */
    uint8_t scale;       /* shift 0..3 */
    /* Offsets of the parts in the bytes (0 = absent): for re-encoding. */
    uint8_t opcode_at, modrm_at, sib_at, disp_at, disp_len, imm_at, imm_len;
};

enum operand_kind {
    OPK_NONE,
    OPK_GPR,
    OPK_MEM,
    OPK_IMM,
    OPK_REL,
    OPK_FARPTR,
    OPK_SREG,
    OPK_CREG,
    OPK_DREG,
    OPK_MMX,
    OPK_VEC,
    OPK_ST,
    OPK_FLAGS
};

/* A vector register that is written in less than 16 bytes keeps the rest. */
struct operand {
    uint8_t kind;   /* enum operand_kind */
    uint8_t reg;    /* register number; for AH CH DH BH 0..3 and high_byte is set */
    bool high_byte; /* of a byte register named 4..7 without REX */
    uint8_t access; /* 1 read, 2 write, 3 both, 0 none */
    uint16_t size;  /* bytes; 0 where the instruction defines its own (LEA, FXSAVE, INVLPG...) */
};

/* Decodes one instruction for code size `mode` (2, 4, 8). Returns its length (1..15), 0 if it is an
 * undefined opcode (the guest gets #UD; in->len holds the bytes consumed), -1 if `n` bytes are too
 * few, -2 if it is longer than 15 bytes (#GP). Does not check features, LOCK or privilege. */
int insn_decode(struct insn *in, const uint8_t *bytes, size_t n, unsigned mode);

/* True if LOCK is absent or legal here (lockable row, memory destination). */
bool insn_lock_ok(const struct insn *in);

/* Describes operand i, the implied ones after the written ones; kind OPK_NONE past the end. */
void insn_operand(const struct insn *in, unsigned i, struct operand *ret_op);

/* The manual's method letter of operand i: 'X', 'Y' (string source, destination: OPK_MEM although
 * insn.mem is false), 'O' moffs, 's' sign-extended immediate, 'E' ...; 0 for a fixed register. */
char insn_operand_method(const struct insn *in, unsigned i);

/* Human text in Intel syntax for dumps and traces; `ip` is the address of the instruction. Returns
 * length. */
size_t insn_format(const struct insn *in, uint64_t ip, char *buf, size_t size);

extern const struct insn_row insn_rows[];
extern const size_t insn_row_count;
const char *insn_feature_name(unsigned feature);

#endif
