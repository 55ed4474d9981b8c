/* SPDX-License-Identifier: GPL-2.0-or-later */
/* FPU and vector instructions where the differential test cannot go: at level 0, in real mode, with
 * the units switched off, and how the machinery that runs them on the host copes with faults and
 * with being full. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/box.h"

static struct box box;

static int setup(void **state) {
    box_new(&box, "host");
    box_long(&box);
    box.s.cr0 |= X86_CR0_MP | X86_CR0_NE;
    box.s.cr4 |= X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE;
    box.s.xcr0 = 7;
    box.s.fpu.fcw = 0x37f;
    box.s.fpu.ftw = 0;
    box.s.fpu.mxcsr = 0x1f80;
    *state = &box;
    return 0;
}

static int teardown(void **state) {
    box_done(&box);
    return 0;
}

static void expect(unsigned vector, uint64_t rip) {
    struct box_frame f = box_fault(&box);

    assert_int_equal(f.vector, vector);
    assert_int_equal(f.rip, rip);
}

/* ------------------------------------------------------------------ what the model leaves out */

GUEST(counts_zeros, ".code64",
      "mov $77, %edx\n mov $0x50, %ebx\n lzcnt %ebx, %eax\n tzcnt %ebx, %ecx\n xor %ebx, %ebx\n"
      "tzcnt %ebx, %edx\n hlt");

static void lzcnt_and_tzcnt_are_bsr_and_bsf_where_the_model_lacks_them(void **state) {
    static struct box old;

    box_new(&old, "x86-64-v2");
    box_long(&old);
    BOX_EXEC(&old, counts_zeros);
    assert_int_equal(old.s.gpr[X86_RAX], 6);
    assert_int_equal(old.s.gpr[X86_RCX], 4);
    assert_int_equal(old.s.gpr[X86_RDX], 77);
    box_done(&old);
    BOX_EXEC(&box, counts_zeros);
    assert_int_equal(box.s.gpr[X86_RAX], 25);
    assert_int_equal(box.s.gpr[X86_RCX], 4);
    assert_int_equal(box.s.gpr[X86_RDX], 32);
}

/* ------------------------------------------------------------------ units switched off */

GUEST(one_sse, ".code64", "paddb %xmm1, %xmm2\n hlt");
GUEST(one_avx, ".code64", "vpaddb %xmm1, %xmm2, %xmm3\n hlt");
GUEST(one_x87, ".code64", "fld1\n hlt");
GUEST(one_mmx, ".code64", "paddb %mm1, %mm2\n hlt");
GUEST(one_wait, ".code64", "fwait\n hlt");
GUEST(one_fxsave, ".code64", "fxsave 0x50000\n hlt");
GUEST(one_xsave, ".code64", "mov $7, %eax\n xor %edx, %edx\n xsave 0x50000\n hlt");

static void sse_needs_osfxsr_and_no_emulation(void **state) {
    box.s.cr4 &= ~X86_CR4_OSFXSR;
    BOX_EXEC(&box, one_sse);
    expect(X86_UD, BOX_CODE);
}

static void sse_is_undefined_while_the_fpu_is_emulated(void **state) {
    box.s.cr0 |= X86_CR0_EM;
    BOX_EXEC(&box, one_sse);
    expect(X86_UD, BOX_CODE);
}

static void avx_needs_osxsave_and_its_bits_of_xcr0(void **state) {
    struct x86_state before = box.s;

    box.s.cr4 &= ~X86_CR4_OSXSAVE;
    BOX_EXEC(&box, one_avx);
    expect(X86_UD, BOX_CODE);
    box.s = before;
    box.s.xcr0 = 3;
    BOX_EXEC(&box, one_avx);
    expect(X86_UD, BOX_CODE);
}

static void a_task_switch_makes_every_unit_unavailable(void **state) {
    struct x86_state before = box.s;

    before.cr0 |= X86_CR0_TS;
    box.s = before;
    BOX_EXEC(&box, one_sse);
    expect(X86_NM, BOX_CODE);
    box.s = before;
    BOX_EXEC(&box, one_avx);
    expect(X86_NM, BOX_CODE);
    box.s = before;
    BOX_EXEC(&box, one_x87);
    expect(X86_NM, BOX_CODE);
    box.s = before;
    BOX_EXEC(&box, one_mmx);
    expect(X86_NM, BOX_CODE);
    box.s = before;
    BOX_EXEC(&box, one_wait);
    expect(X86_NM, BOX_CODE);
    box.s = before;
    BOX_EXEC(&box, one_fxsave);
    expect(X86_NM, BOX_CODE);
    box.s = before;
    BOX_EXEC(&box, one_xsave);
    expect(X86_NM, BOX_CODE + 7);
}

static void emulation_means_no_x87_and_undefined_mmx(void **state) {
    struct x86_state before = box.s;

    before.cr0 |= X86_CR0_EM;
    box.s = before;
    BOX_EXEC(&box, one_x87);
    expect(X86_NM, BOX_CODE);
    box.s = before;
    BOX_EXEC(&box, one_mmx);
    expect(X86_UD, BOX_CODE);
    box.s = before;
    BOX_EXEC(&box, one_wait); /* looks at MP and TS only */
    assert_true(box_halted_quietly(&box));
}

static void wait_ignores_a_task_switch_without_mp(void **state) {
    box.s.cr0 = (box.s.cr0 & ~X86_CR0_MP) | X86_CR0_TS;
    BOX_EXEC(&box, one_wait);
    assert_true(box_halted_quietly(&box));
}

static void xsave_is_undefined_without_osxsave(void **state) {
    box.s.cr4 &= ~X86_CR4_OSXSAVE;
    BOX_EXEC(&box, one_xsave);
    expect(X86_UD, BOX_CODE + 7);
}

/* The units change while the same code stays in the block cache. */
GUEST(clts_between, ".code64",
      "mov %cr0, %rax\n or $8, %al\n mov %rax, %cr0\n" /* TS */
      "clts\n paddb %xmm1, %xmm2\n"
      "mov %cr4, %rax\n and $~0x200, %eax\n mov %rax, %cr4\n" /* OSFXSR */
      "paddb %xmm1, %xmm2\n hlt");

static void control_registers_take_effect_at_once(void **state) {
    BOX_EXEC(&box, clts_between);
    assert_int_equal(box_fault(&box).vector, X86_UD);
    assert_int_equal(box_get(&box, BOX_CODE + (clts_between_end - clts_between) - 5, 4),
                     0xd1fc0f66);
    assert_int_equal(box_fault(&box).rip, BOX_CODE + (clts_between_end - clts_between) - 5);
}

/* ------------------------------------------------------------------ floating-point exceptions */

GUEST(divide_sse, ".code64", "divps %xmm1, %xmm0\n hlt");

/* cmocka takes the signals at the beginning of every test; a new processor takes them back. */
static void own_signals(void) {
    struct box other;

    box_new(&other, "host");
    box_done(&other);
}

static void divide_by_zero(void) {
    const float one = 1;

    own_signals();

    memcpy(box.s.fpu.vec[0], &one, 4);
    box.s.fpu.mxcsr = 0x1f80 & ~0x200u; /* divide by zero is unmasked */
    BOX_EXEC(&box, divide_sse);
}

static void an_unmasked_simd_exception_is_xm_with_its_flag(void **state) {
    const float one = 1;

    divide_by_zero();
    expect(X86_XM, BOX_CODE);
    assert_int_equal(box.s.fpu.mxcsr & 0x3f, 5); /* the upper elements are 0 by 0 */
    assert_memory_equal(box.s.fpu.vec[0], &one, 4);
}

static void without_osxmmexcpt_it_is_an_undefined_opcode(void **state) {
    box.s.cr4 &= ~X86_CR4_OSXMMEXCPT;
    divide_by_zero();
    expect(X86_UD, BOX_CODE);
}

GUEST(divide_x87, ".code64", "fld1\n fldz\n .byte 0xde, 0xf9\n fnstsw %ax\n fld1\n hlt");

static void an_unmasked_x87_exception_comes_with_the_next_instruction(void **state) {
    box.s.fpu.fcw = 0x37f & ~4;
    BOX_EXEC(&box, divide_x87);
    expect(X86_MF, BOX_CODE + 8);
    assert_int_equal(box.s.gpr[X86_RAX] & 0x80ff, 0x8084); /* B, ES, ZE */
    assert_int_equal(box.s.fpu.fip, BOX_CODE + 4);         /* of the guest, not of the thunk */
}

static void without_ne_a_pending_x87_exception_is_ignored(void **state) {
    box.s.cr0 &= ~X86_CR0_NE;
    box.s.fpu.fcw = 0x37f & ~4;
    BOX_EXEC(&box, divide_x87);
    assert_true(box_halted_quietly(&box));
    assert_int_equal(box.s.fpu.fsw & 0x80bf, 0x8084);
}

GUEST(divide_int, ".code64", "xor %ecx, %ecx\n div %ecx\n hlt");

static void dividing_by_zero_is_de(void **state) {
    BOX_EXEC(&box, divide_int);
    expect(X86_DE, BOX_CODE + 2);
}

/* The host's own signals stay what they are. */
static sigjmp_buf back;

static void caught(int sig) { siglongjmp(back, 1); }

static void faults_of_our_own_reach_the_handler_that_was_there(void **state) {
    struct sigaction sa = {.sa_handler = caught}, old;
    volatile bool reached = false;

    sigaction(SIGFPE, &sa, &old);
    if (sigsetjmp(back, 1))
        reached = true;
    else
        raise(SIGFPE);
    sigaction(SIGFPE, &old, NULL);
    assert_true(reached);
    divide_by_zero(); /* and the processor's own is back */
    expect(X86_XM, BOX_CODE);
}

/* ------------------------------------------------------------------ XSAVES, XRSTORS */

GUEST(supervisor_save, ".code64",
      "mov $7, %eax\n xor %edx, %edx\n xsaves 0x50000\n"
      "vpxor %ymm1, %ymm1, %ymm1\n fninit\n"
      "xrstors 0x50000\n hlt");

static void xsaves_and_xrstors_keep_everything(void **state) {
    struct x86_fpu before;

    for (unsigned i = 0; i < 16; i++)
        memset(box.s.fpu.vec[i], (int)(i + 1), 32);
    memset(box.s.fpu.st[3], 0x5a, 10);
    box.s.fpu.ftw = 0x18;
    before = box.s.fpu;
    BOX_EXEC(&box, supervisor_save);
    assert_true(box_halted_quietly(&box));
    assert_memory_equal(box.s.fpu.vec, before.vec, sizeof(before.vec));
    assert_memory_equal(box.s.fpu.st, before.st, sizeof(before.st));
    assert_int_equal(box.s.fpu.ftw, 0x18);
    assert_int_equal(box_get(&box, 0x50200, 8), 7);
    assert_int_equal(box_get(&box, 0x50208, 8), 7 | 1ull << 63);
}

GUEST(supervisor_restore, ".code64", "mov $7, %eax\n xor %edx, %edx\n xrstors 0x50000\n hlt");

static void xrstors_refuses_the_standard_format(void **state) {
    box_set(&box, 0x50200, 8, 7);
    box_set(&box, 0x50208, 8, 0);
    BOX_EXEC(&box, supervisor_restore);
    expect(X86_GP, BOX_CODE + 7);
}

static void xsaves_is_privileged(void **state) {
    box_ring3(&box);
    BOX_EXEC(&box, supervisor_save);
    expect(X86_GP, BOX_CODE + 7);
}

/* ------------------------------------------------------------------ real mode */

GUEST(real_env, ".code16",
      "fninit\n fldl 0x500\n fnstenv 0x600\n .byte 0x66\n fnstenv 0x620\n"
      "paddb %xmm1, %xmm2\n movd %eax, %xmm3\n hlt");

static void real_mode_has_x87_and_sse_with_its_own_environment(void **state) {
    const double number = 1.5;

    box_real(&box);
    box.s.cr4 |= X86_CR4_OSFXSR;
    box.s.gpr[X86_RAX] = 0x12345678;
    box_put(&box, 0x500, &number, 8);
    memset(box.s.fpu.vec[1], 3, 16);
    memset(box.s.fpu.vec[2], 4, 16);
    BOX_EXEC(&box, real_env);
    assert_true(box_halted_quietly(&box));
    assert_int_equal(box_get(&box, 0x600, 2), 0x37f);
    assert_int_equal(box_get(&box, 0x604, 2), 0x3fff); /* R7 is valid */
    assert_int_equal(box_get(&box, 0x620, 4), 0xffff037f | 0x3f);
    assert_int_equal(box.s.fpu.vec[2][5], 7);
    assert_int_equal(box.s.fpu.vec[3][0], 0x78);
    assert_int_equal(box.s.fpu.vec[3][3], 0x12);
}

GUEST(real_avx, ".code16", "vpaddb %xmm1, %xmm2, %xmm3\n .org real_avx + 0x100, 0xf4\n hlt");

static void real_mode_has_no_avx(void **state) {
    box_real(&box);
    box.s.cr4 |= X86_CR4_OSFXSR | X86_CR4_OSXSAVE;
    box.s.xcr0 = 7;
    box_set(&box, 4 * X86_UD, 4, BOX_CODE >> 4 << 16 | 0x100);
    BOX_EXEC(&box, real_avx);
    assert_int_equal(box.s.rip, 0x101);
}

/* ------------------------------------------------------------------ the arena */

/* Every form of one instruction: a thunk for each. */
static void any_number_of_different_instructions_can_be_run(void **state) {
    enum { PER_RUN = 3000, BYTES = 5, RUNS = 22 };
    static uint8_t code[PER_RUN * BYTES + 1];
    struct x86_state before;
    uint32_t serial = 0;

    memset(box.s.fpu.vec, 0x77, sizeof(box.s.fpu.vec));
    before = box.s;

    for (unsigned run = 0; run < RUNS; run++) {
        for (unsigned i = 0; i < PER_RUN; i++, serial++) {
            uint8_t *p = code + i * BYTES;
            p[0] = 0x66;
            p[1] = 0x0f;
            p[2] = 0x70;
            p[3] = (uint8_t)(0xc0 | (serial >> 8 & 63));
            p[4] = (uint8_t)serial;
        }
        code[PER_RUN * BYTES] = 0xf4;
        box.s = before;
        box_exec(&box, code, code + sizeof(code));
        assert_int_equal(box.s.rip, BOX_CODE + sizeof(code));
        assert_memory_equal(box.s.fpu.vec, before.fpu.vec, sizeof(before.fpu.vec));
    }
}

static void a_full_arena_is_emptied_with_the_blocks(void **state) {
    struct x86_state before = box.s;
    struct ref *c = box.ref;
    unsigned filled = 0;

    BOX_EXEC(&box, one_avx); /* loads the state */
    /* Instructions whose immediates make them all different, bound but not run. */
    while (!ref_host_full(c) && filled < 1u << 20) {
        uint8_t bytes[] = {0x66,           0x0f, 0x3a, 0x0f, (uint8_t)(0xc0 | (filled >> 8 & 63)),
                           (uint8_t)filled};
        uint8_t shuffle[] = {0xc4,
                             (uint8_t)(0xe3 ^ (filled >> 14 & 7) << 5),
                             0x79 ^ (filled >> 17 & 7) << 3,
                             0x0f,
                             bytes[4],
                             bytes[5]};
        struct ref_op o = {0};
        struct insn in;
        assert_true(insn_decode(&in, shuffle, sizeof(shuffle), 8) > 0);
        assert_true(ref_bind_host(c, &in, &o));
        filled++;
    }
    assert_true(ref_host_full(c));
    box.s = before;
    BOX_EXEC(&box, one_sse); /* builds a block: everything is forgotten first */
    assert_true(box_halted_quietly(&box));
    assert_false(ref_host_full(c));
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(lzcnt_and_tzcnt_are_bsr_and_bsf_where_the_model_lacks_them),
        TEST(sse_needs_osfxsr_and_no_emulation),
        TEST(sse_is_undefined_while_the_fpu_is_emulated),
        TEST(avx_needs_osxsave_and_its_bits_of_xcr0),
        TEST(a_task_switch_makes_every_unit_unavailable),
        TEST(emulation_means_no_x87_and_undefined_mmx),
        TEST(wait_ignores_a_task_switch_without_mp),
        TEST(xsave_is_undefined_without_osxsave),
        TEST(control_registers_take_effect_at_once),
        TEST(an_unmasked_simd_exception_is_xm_with_its_flag),
        TEST(without_osxmmexcpt_it_is_an_undefined_opcode),
        TEST(an_unmasked_x87_exception_comes_with_the_next_instruction),
        TEST(without_ne_a_pending_x87_exception_is_ignored),
        TEST(dividing_by_zero_is_de),
        TEST(faults_of_our_own_reach_the_handler_that_was_there),
        TEST(xsaves_and_xrstors_keep_everything),
        TEST(xrstors_refuses_the_standard_format),
        TEST(xsaves_is_privileged),
        TEST(real_mode_has_x87_and_sse_with_its_own_environment),
        TEST(real_mode_has_no_avx),
        TEST(any_number_of_different_instructions_can_be_run),
        TEST(a_full_arena_is_emptied_with_the_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
