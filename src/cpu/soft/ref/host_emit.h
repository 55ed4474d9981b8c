/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Builds the machine code that executes one guest instruction on the host's own CPU with the
 * guest's registers: the inside of host.c.
 *
 * Contract: pure; the caller copies the bytes to executable memory. The code depends on nothing but
 * the instruction, so that equal code may be shared.
 *
 * A "step" thunk is a handler of its own, void (struct ref *c, const struct ref_op *o), and goes on
 * with the next operation. A "call" thunk is unsigned (struct ref *c, void *mem, void
 * *fxsave_image): it returns 0; when the instruction faults the signal handler makes it return the
 * vector + 1.
 */
#ifndef CPU_SOFT_REF_HOST_EMIT_H
#define CPU_SOFT_REF_HOST_EMIT_H

#include "cpu/soft/ref/ref.h"

enum { HOST_CODE_MAX = 512 };

enum host_thunk_flags {
    HOST_STEP = 1,      /* step thunk, else call thunk */
    HOST_SAVED_RBX = 2, /* RBX lies on the stack while the instruction runs */
    HOST_X87 = 4,       /* runs with the guest's x87 state loaded */
    HOST_MMX = 8,
    HOST_WIDE = 16,  /* touches upper halves of YMM registers */
    HOST_MXCSR = 32, /* runs with the guest's MXCSR */
};

struct host_code {
    uint8_t bytes[HOST_CODE_MAX];
    unsigned len;
    unsigned flags;    /* enum host_thunk_flags */
    unsigned mem_size; /* of the memory operand, 0 if there is none */
    unsigned access;   /* its access: 1 read, 2 write, 3 both */
};

/* False if the instruction cannot be run this way (a memory operand without size, a row that hides
 * registers that cannot be moved). */
bool host_emit(const struct insn *in, struct host_code *ret);

#endif
