/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Building blocks of the integer handlers: registers by size, arithmetic with the host's own flags.
 *
 * Handlers exist once per operand size (8, 16, 32, 64) and operand form; tables indexed by
 * [form][log2 of size] pick one. Flags come from the host: LAHF and SETO after the host's own
 * instruction give exactly what the guest's would have, undefined ones included.
 */
#ifndef CPU_SOFT_REF_INT_OPS_H
#define CPU_SOFT_REF_INT_OPS_H

#include "cpu/soft/ref/ref.h"

#define INT_GET_8(c, i)     REF_R8(c, i)
#define INT_GET_16(c, i)    REF_R16(c, i)
#define INT_GET_32(c, i)    ((uint32_t)(c)->r[i])
#define INT_GET_64(c, i)    ((c)->r[i])
#define INT_SET_8(c, i, v)  (REF_R8(c, i) = (v))
#define INT_SET_16(c, i, v) (REF_R16(c, i) = (v))
#define INT_SET_32(c, i, v) ((c)->r[i] = (uint32_t)(v))
#define INT_SET_64(c, i, v) ((c)->r[i] = (v))

/* Instruction suffix and register constraint (8-bit values need a byte register). */
#define INT_SUFFIX_8  "b"
#define INT_SUFFIX_16 "w"
#define INT_SUFFIX_32 "l"
#define INT_SUFFIX_64 "q"

#define INT_EACH_SIZE(M, ...)                                                                      \
    M(8, ##__VA_ARGS__) M(16, ##__VA_ARGS__) M(32, ##__VA_ARGS__) M(64, ##__VA_ARGS__)
#define INT_EACH_WIDE(M, ...) M(16, ##__VA_ARGS__) M(32, ##__VA_ARGS__) M(64, ##__VA_ARGS__)
#define INT_TYPE(bits)        uint##bits##_t

/* After an instruction: AH = SF ZF AF PF CF, AL = OF. `f` is a uint32_t in "=&a". */
#define INT_TAKE_FLAGS      "lahf\n\tseto %%al"
#define INT_SET_FLAGS(c, f) ((c)->af = (f)&0xffff)
/* Before one that reads CF. */
#define INT_GIVE_CF "btl $8, %k[af]\n\t"

#define INT_HANDLER(name) static void name(struct ref *c, const struct ref_op *o)

/* Operand forms of two-operand instructions: register/memory destination, register/memory/immediate
 * source. */
enum int_form { INT_RR, INT_RI, INT_RM, INT_MR, INT_MI, INT_LOCK_MR, INT_LOCK_MI, INT_FORMS };

static inline unsigned int_log2(unsigned size) {
    return size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : 3;
}

/* Register number or, for byte operands, byte offset into c->r. */
static inline uint8_t int_slot(const struct operand *p) {
    return p->size == 1 ? (uint8_t)(p->reg * 8 + p->high_byte) : p->reg;
}

/* Fills dst, src, imm, size and the memory operand for a two-operand form; returns the form, -1 if
 * it is none. */
int int_bind_form(struct ref *c, const struct insn *in, struct ref_op *o);

/* The 16 conditions over c->af (SDM vol. 1 appendix B). */
/* No layout of this table stays the same when it is laid out again. */
/* clang-format off */
#define INT_CONDITIONS(X)                                                                          \
    X(0, f & 1)                                                                                    \
    X(2, f & 0x100)                                                                                \
    X(4, f & 0x4000)                                                                               \
    X(6, f & 0x4100)                                                                               \
    X(8, f & 0x8000)                                                                               \
    X(10, f & 0x400)                                                                               \
    X(12, (f >> 15 ^ f) & 1)                                                                       \
    X(14, ((f >> 15 ^ f) & 1) | (f & 0x4000))
/* clang-format on */

/* int_shift.c, int_mul.c, int_mov.c, int_flow.c, int_string.c: groups tried in turn by
 * ref_bind_int. */
bool int_bind_alu(struct ref *c, const struct insn *in, struct ref_op *o);
bool int_bind_mov(struct ref *c, const struct insn *in, struct ref_op *o);
bool int_bind_exchange(struct ref *c, const struct insn *in, struct ref_op *o);
bool int_bind_shift(struct ref *c, const struct insn *in, struct ref_op *o);
bool int_bind_bits(struct ref *c, const struct insn *in, struct ref_op *o);
bool int_bind_mul(struct ref *c, const struct insn *in, struct ref_op *o);
bool int_bind_flow(struct ref *c, const struct insn *in, struct ref_op *o);
bool int_bind_stack(struct ref *c, const struct insn *in, struct ref_op *o);
bool int_bind_string(struct ref *c, const struct insn *in, struct ref_op *o);
bool int_bind_misc(struct ref *c, const struct insn *in, struct ref_op *o);

/* Stack access for any mode; the 64-bit fast paths have handlers of their own. */
uint64_t int_stack_pointer(const struct ref *c);
void int_set_stack_pointer(struct ref *c, uint64_t sp);
/* #SS for a stack pointer that is not canonical, where o->seg belongs to another operand. */
static inline void int_check_stack(struct ref *c, const struct ref_op *o, uint64_t sp) {
    if ((c->mode & REF_MODE_CODE) == 2 && (int64_t)(sp << 16) >> 16 != (int64_t)sp)
        ref_raise_error(c, o, X86_SS, 0);
}
void int_push(struct ref *c, const struct ref_op *o, unsigned size, uint64_t value);
uint64_t int_pop(struct ref *c, const struct ref_op *o, unsigned size); /* pops: pointer updated */

#endif
