/* SPDX-License-Identifier: GPL-2.0-or-later */
/* x87, SSE and AVX state around everything that leaves translated code, and the exceptions of both.
 * Source: SDM vol. 1 chapters 8, 11, 14. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/twin.h"

enum { DATA = 0x100000, MMIO = 0x1f0000, XM = 19, MF = 16 };

/* Vectors in use before and after: a TLB miss, an access across pages, MMIO, interpreter's
 * instructions, an x87 one, a block's end, another page, a write to code. */
GUEST(
    exits, ".code64",
    "vaddps %ymm1, %ymm2, %ymm3\n mov 0x5000(%rbx), %rax\n vpaddd %ymm3, %ymm1, %ymm4\n"
    "vmovups 0x1ff0(%rbx), %ymm5\n vpxor %ymm5, %ymm4, %ymm6\n mov %eax, 0x1f0000\n"
    "paddq %xmm6, %xmm7\n mov 0x1f0008, %ecx\n vmovd %ecx, %xmm8\n vaddpd %ymm9, %ymm10, %ymm11\n"
    "pushfq\n popfq\n mulps %xmm11, %xmm12\n fldpi\n fstpl 0x10(%rbx)\n vmovq 0x10(%rbx), %xmm13\n"
    "vpermq $0x1b, %ymm14, %ymm14\n xlat\n jmp 1f\n .fill 4100, 1, 0x90\n"
    "1: vmovups %ymm14, 0x3ff8(%rbx)\n vcvtdq2ps %ymm4, %ymm15\n stmxcsr 0x20(%rbx)\n"
    "incb 2f(%rip)\n vminps %ymm15, %ymm0, %ymm0\n rdtscp\n mov $0, %eax\n mov $0, %edx\n"
    "mov $0, %ecx\n"
    "vpsubb %ymm0, %ymm1, %ymm2\n vextractf128 $1, %ymm2, 0x40(%rbx)\n jmp 3f\n 2: .byte 0\n 3:");
/* Legacy SSE instructions keep the upper halves, VEX ones clear them; then all of it once more
 * after VZEROUPPER and VZEROALL. */
GUEST(uppers, ".code64",
      "addps %xmm1, %xmm2\n vaddps %xmm3, %xmm4, %xmm5\n mov 0x6000(%rbx), %rax\n movaps %xmm2, "
      "%xmm6\n"
      "pushfq\n popfq\n cmp $0, %r14\n jne 1f\n vzeroupper\n 1: mov 0x1f0008, %ecx\n addps %xmm7, "
      "%xmm8\n"
      "cmp $0, %r13\n jne 2f\n vzeroall\n 2: mov %ecx, 0x1ffe(%rbx)\n vpaddd %ymm0, %ymm9, %ymm10\n"
      "movups %xmm10, 0x2ff9(%rbx)\n vmovups %ymm8, 0x200(%rbx)");
/* Control register loaded in the middle, from memory; its old value comes back at the end. */
#define MXCSR_BODY                                                                                 \
    "divps %xmm2, %xmm3\n stmxcsr 0x40(%rbx)\n mov $5, %r9d\n mulps %xmm4, %xmm5\n"                \
    "vsqrtpd %ymm6, %ymm7\n cvtps2dq %xmm8, %xmm9\n addpd %xmm10, %xmm11\n inc %r9\n"              \
    "cvtsd2sil %xmm12, %eax\n vcmpltps %ymm13, %ymm14, %ymm15\n comiss %xmm0, %xmm1\n setb "       \
    "%r10b\n"                                                                                      \
    "vldmxcsr 0x30(%rbx)\n"
GUEST(mxcsr, ".code64", "mov $4, %r9d\n ldmxcsr (%rbx)\n" MXCSR_BODY);
/* LDMXCSR 0x100000 with an address of 32 bits relative to RIP, vectors being in use. */
GUEST(mxcsr_addr32, ".code64",
      "xorps %xmm2, %xmm2\n .byte 0x67, 0x0f, 0xae, 0x15\n .long 0x100000 - 0x1000b\n mov $4, "
      "%r9d\n" MXCSR_BODY);
GUEST(mxcsr_fxrstor, ".code64", "mov $4, %r9d\n fxrstor64 0x800(%rbx)\n" MXCSR_BODY);
GUEST(mxcsr_xrstor, ".code64",
      "mov $2, %eax\n xor %edx, %edx\n mov $4, %r9d\n xrstor64 0x800(%rbx)\n" MXCSR_BODY);

/* Where the translator begins, and then leaves the instruction to its handler: memory operands with
 * an address of 32 bits relative to RIP. Flags and vectors live through them. */
#define EIP(at) "given_up + 0xf0000 + " #at "(%eip)" /* DATA + at, from BOX_CODE */
/* clang-format off */
GUEST(given_up, ".code64",
      "add %r14, %r13\n movups " EIP(0) ", %xmm3\n paddd %xmm3, %xmm4\n adc $0, %r8\n"
      "cmp %r14, %r13\n addl $0x01010101, " EIP(16) "\n adc $0, %r9\n pxor %xmm4, %xmm5\n"
      "add %r14, %r13\n movl " EIP(32) ", %r10d\n adc $0, %r8\n"
      "movups " EIP(20) ", %xmm6\n vpaddd %ymm6, %ymm5, %ymm7\n adc $0, %r9");
/* clang-format on */

/* x87: a division by zero waits for the next waiting instruction; the pointers name it. */
GUEST(x87, ".code64",
      "fninit\n fldcw (%rbx)\n fld1\n mov $1, %r9d\n fdivl 0x8(%rbx)\n mov $2, %r9d\n"
      "fnstenv 0x40(%rbx)\n fldenv 0x40(%rbx)\n inc %r9\n fnstsw %ax\n mov %rax, %r10\n fwait\n "
      "mov $7, %r9d\n"
      "fstpl 0x10(%rbx)\n fnstenv 0x80(%rbx)\n fninit");
GUEST(x87_rounding, ".code64",
      "fninit\n fldcw (%rbx)\n fldpi\n fldl2e\n fmulp\n fistl 0x10(%rbx)\n frndint\n fstps "
      "0x18(%rbx)\n"
      "fnsave 0x100(%rbx)\n frstor 0x100(%rbx)\n fninit");
GUEST(mmx, ".code64",
      "movq 0x8(%rbx), %mm1\n paddd %mm1, %mm1\n movq2dq %mm1, %xmm3\n mov 0x5000(%rbx), %rax\n"
      "movq %mm1, 0x18(%rbx)\n addps %xmm3, %xmm3\n cvtps2pi %xmm3, %mm2\n movq %mm2, 0x20(%rbx)\n"
      "emms\n fldpi\n fstpl 0x28(%rbx)\n movdqu %xmm3, 0x30(%rbx)");

/* In the test and not in a fixture: cmocka sets signal handlers of its own in between, and the
 * interpreter's are what turns SIGFPE into #XM. */
static struct twin *begin(void) {
    static struct twin t;

    twin_new(&t, false);
    t.heat[X86_RBX] = DATA;
    t.heat[X86_RSP] = BOX_STACK0;
    memcpy(t.s.gpr, t.heat, sizeof(t.heat));
    twin_pte(&t, MMIO, 0x1000000 | 7); /* no RAM there */
    for (unsigned i = 0; i < 0x8000; i += 4)
        twin_set(&t, DATA + i, 4, 0x3f800000 + i * 0x1357);
    for (unsigned i = 0; i < 16; i++)
        for (unsigned k = 0; k < 8; k++) {
            uint32_t v = 0x3f800000 + i * 0x10101 + k * 0x1111111;
            memcpy(&t.s.fpu.vec[i][4 * k], &v, 4);
        }
    return &t;
}

static void vectors_survive_every_exit(void **state) {
    struct twin *t = begin();

    t->dead_flags = 0x8d5;
    TWIN_HEAT(t, exits);
    for (unsigned i = 0; i < 3; i++)
        twin_once(t);
    twin_done(t);
}

static void upper_halves_stay_or_go_as_the_instruction_says(void **state) {
    struct twin *t = begin();

    TWIN_HEAT(t, uppers);
    for (unsigned i = 0; i < 4; i++) {
        t->s.gpr[13] = i & 1;
        t->s.gpr[14] = i & 2;
        t->dead_flags = 0x8d5;
        twin_once(t);
        /* With the upper halves gone, and some of them only. */
        for (unsigned k = 0; k < 16; k++)
            memset(&t->s.fpu.vec[k][16], k == 3 * i ? 0x41 : 0, 16);
        twin_once(t);
    }
    twin_done(t);
}

/* Each unmasked exception, flush modes and roundings on values that raise them all. */
static void run_mxcsr(struct twin *t) {
    static const uint64_t values[16] = {0x7f8000017f800001,
                                        1,
                                        0,
                                        0x3f8000003f800000,
                                        0x0000000100000001,
                                        0x7f7fffff7f7fffff,
                                        0xfff0000000000000,
                                        5,
                                        0x7fc000004f800000,
                                        0x3fc00000bfc00000,
                                        0x000fffffffffffff,
                                        0x3ff0000000000001,
                                        0x43e0000000000000,
                                        0xff8000010,
                                        77,
                                        99};
    static const uint32_t set[] = {0x1f80, 0x1f00, 0x1e80, 0x1d80, 0x1b80,  0x1780, 0x0f80,
                                   0x0000, 0x9f80, 0x1fc0, 0x9fc0, 0x3f80,  0x5f80, 0x7f80,
                                   0xffc0, 0xe040, 0x9f00, 0x1fbf, 0x10000, 0x1f80};
    unsigned faults = 0;

    for (unsigned rounds = 0; rounds < 2; rounds++) {
        for (unsigned i = 0; i < sizeof(set) / sizeof(set[0]); i++) {
            twin_set(t, DATA, 4, set[i]);
            twin_set(t, DATA + 0x800 + 24, 4, set[i]);
            t->dead_flags = 0x8d5;
            twin_once(t);
            faults += t->fault.vector == XM;
        }
        for (unsigned i = 0; i < 16; i++)
            for (unsigned k = 0; k < 4; k++) {
                memcpy(&t->s.fpu.vec[i][8 * k], &values[(i + k) % 16], 8);
                twin_set(t, DATA + 0x800 + 160 + 16 * i + 8 * (k & 1), 8, values[(i + k) % 16]);
            }
    }
    assert_true(faults >= 5);
    /* And unmasked from the start. */
    t->s.fpu.mxcsr = 0;
    twin_once(t);
    t->s.fpu.mxcsr = 0x1f80;
}

static void prepare_mxcsr(struct twin *t) {
    for (unsigned i = 0; i < 512 + 64; i += 8)
        twin_set(t, DATA + 0x800 + i, 8, 0);
    twin_set(t, DATA + 0x800, 2, 0x37f);
    twin_set(t, DATA + 0x800 + 24, 4, 0x1f80);
    twin_set(t, DATA + 0x800 + 512, 8, 3);
    twin_set(t, DATA, 4, 0x1f80);
    twin_set(t, DATA + 0x30, 4, 0x1f80);
}

static void an_instruction_that_is_given_up_leaves_nothing_behind(void **state) {
    struct twin *t = begin();

    t->heat[14] = 1ull << 63;
    t->s.gpr[14] = t->heat[14];
    TWIN_HEAT(t, given_up);
    for (unsigned i = 0; i < 4; i++) {
        t->s.gpr[13] = (uint64_t)i << 62;
        twin_once(t);
        t->s.gpr[14] = i ? ~0ull : 1;
        twin_once(t);
    }
    twin_done(t);
}

static void control_words_loaded_in_hot_code_rule_at_once(void **state) {
    struct twin *t = begin();

    prepare_mxcsr(t);
    TWIN_HEAT(t, mxcsr);
    run_mxcsr(t);
    twin_done(t);
}

static void unmasked_exceptions_arrive_however_mxcsr_was_loaded(void **state) {
    struct twin *t = begin();

    prepare_mxcsr(t);
    TWIN_HEAT(t, mxcsr_addr32);
    run_mxcsr(t);
    prepare_mxcsr(t);
    TWIN_HEAT(t, mxcsr_fxrstor);
    run_mxcsr(t);
    prepare_mxcsr(t);
    TWIN_HEAT(t, mxcsr_xrstor);
    run_mxcsr(t);
    twin_done(t);
}

static void x87_exceptions_wait_and_name_their_instruction(void **state) {
    static const uint16_t control[] = {0x37f, 0x37b, 0x340, 0x35f, 0x33f, 0xf7f, 0x77b, 0xb7f};
    struct twin *t = begin();

    twin_set(t, DATA, 2, 0x37f);
    twin_set(t, DATA + 8, 8, 0);
    for (unsigned ne = 0; ne < 2; ne++) {
        t->s.cr0 = (t->s.cr0 & ~X86_CR0_NE) | (ne ? 0 : X86_CR0_NE);
        TWIN_HEAT(t, x87);
        for (unsigned i = 0; i < sizeof(control) / sizeof(control[0]); i++) {
            twin_set(t, DATA, 2, control[i]);
            t->dead_flags = 0x8d5;
            twin_once(t);
            if (!ne)
                assert_int_equal(t->fault.vector, control[i] & 4 ? ~0u : MF);
            twin_set(t, DATA, 2, 0x37f);
        }
        TWIN_HEAT(t, x87_rounding);
        for (unsigned i = 0; i < sizeof(control) / sizeof(control[0]); i++) {
            twin_set(t, DATA, 2, control[i] | 0x3f);
            twin_once(t);
        }
        twin_set(t, DATA, 2, 0x37f);
    }
    twin_done(t);
}

static void mmx_and_sse_share_a_block(void **state) {
    struct twin *t = begin();

    TWIN_HEAT(t, mmx);
    twin_once(t);
    t->s.cr0 |= X86_CR0_TS;
    twin_once(t);
    assert_int_equal(t->fault.vector, X86_NM);
    t->s.cr0 = (t->s.cr0 & ~X86_CR0_TS) | X86_CR0_EM;
    twin_once(t);
    assert_int_equal(t->fault.vector, X86_UD);
    twin_done(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_survive_every_exit),
        cmocka_unit_test(upper_halves_stay_or_go_as_the_instruction_says),
        cmocka_unit_test(an_instruction_that_is_given_up_leaves_nothing_behind),
        cmocka_unit_test(control_words_loaded_in_hot_code_rule_at_once),
        cmocka_unit_test(unmasked_exceptions_arrive_however_mxcsr_was_loaded),
        cmocka_unit_test(x87_exceptions_wait_and_name_their_instruction),
        cmocka_unit_test(mmx_and_sse_share_a_block),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
