/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Nothing that a guest does lets it reach host memory outside its RAM, or code that is not its own:
 * wild addresses and jumps against every comparison that translated code makes, and W^X. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/trace.h"
#include "cpu/twin.h"

enum { DATA = 0x100000, FUNCTION = 0x70000, CALLS = 0x72000, FAULTS = 0x72008 };

/* ---- wild jumps ---- */

/* The handler of #GP goes on at R12. */
GUEST(gp_handler, ".code64", "incq 0x72008\n mov %r12, 8(%rsp)\n add $8, %rsp\n iretq");
GUEST(function, ".code64", "incq 0x72000\n ret");
/* Every value of the upper 16 bits but the canonical ones, with the low bits in RBX: JMP and RET.
 */
GUEST(wild_jumps, ".code64",
      "lea 2f(%rip), %r12\n mov $1, %r13\n"
      "1: mov %r13, %r14\n shl $48, %r14\n or %rbx, %r14\n jmp *%r14\n"
      "2: inc %r13\n cmp $0xffff, %r13\n jne 1b\n"
      "lea 4f(%rip), %r12\n mov $1, %r13\n"
      "3: mov %r13, %r14\n shl $48, %r14\n or %rbx, %r14\n mov %rsp, %rbp\n push %r14\n ret\n"
      "4: mov %rbp, %rsp\n inc %r13\n cmp $0xffff, %r13\n jne 3b\n"
      "lea 6f(%rip), %r12\n mov $1, %r13\n"
      "5: mov %r13, %r14\n shl $48, %r14\n or %rbx, %r14\n mov %rsp, %rbp\n call *%r14\n"
      "6: mov %rbp, %rsp\n inc %r13\n cmp $0xffff, %r13\n jne 5b\n hlt");
/* The function runs once; then, after each of R13 flushes, jumps whose address differs from the
 * function's in the upper bits alone. */
GUEST(stale_jumps, ".code64",
      "mov $0x70000, %ebx\n call *%rbx\n lea 2f(%rip), %r12\n movabs $0x2bd3000000000000, %r8\n"
      "movabs $0x904d000000000000, %r9\n movabs $0xbb9e000000000000, %r10\n"
      "or %rbx, %r8\n or %rbx, %r9\n or %rbx, %r10\n"
      "1: invlpg -0x1000\n mov %r8, %r14\n jmp 3f\n"
      "2: mov %r9, %r14\n cmp %r8, %r11\n je 3f\n mov %r10, %r14\n cmp %r9, %r11\n je 3f\n"
      "dec %r13\n jnz 1b\n hlt\n"
      "3: mov %r14, %r11\n jmp *%r14");

static void put_wild(struct box *b) {
    box_put(b, 0x71000, gp_handler, (size_t)(gp_handler_end - gp_handler));
    box_put(b, FUNCTION, function, (size_t)(function_end - function));
    box_gate(b, X86_GP, BOX_CS64, 0x71000, 14, 0, 0);
}

static int setup(void **state) {
    static struct box b;

    box_new(&b, NULL);
    box_long(&b);
    put_wild(&b);
    *state = &b;
    return 0;
}

static int teardown(void **state) {
    box_done(*state);
    return 0;
}

static void a_jump_with_wild_upper_bits_faults_whatever_they_are(void **state) {
    static const uint64_t low[] = {0, FUNCTION, 0x0000ffffffffffffull, 0x0000800000000000ull};
    struct box *b = *state;

    for (unsigned i = 0; i < sizeof(low) / sizeof(low[0]); i++) {
        box_set(b, FAULTS, 8, 0);
        b->s.rip = BOX_CODE;
        b->s.gpr[X86_RSP] = BOX_STACK0;
        b->s.gpr[X86_RBX] = low[i];
        assert_int_equal(BOX_EXEC(b, wild_jumps), CPU_EXIT_HALT);
        assert_true(box_halted_quietly(b));
        assert_int_equal(box_get(b, FAULTS, 8), 3 * 0xfffe);
        assert_int_equal(box_get(b, CALLS, 8), 0);
        b->s.activity = X86_RUNNING;
    }
}

static void a_wild_jump_finds_no_code_of_an_earlier_generation(void **state) {
    struct box *b = *state;

    b->s.gpr[13] = 0x9000;
    assert_int_equal(BOX_EXEC(b, stale_jumps), CPU_EXIT_HALT);
    assert_true(box_halted_quietly(b));
    assert_int_equal(box_get(b, CALLS, 8), 1);
    assert_int_equal(box_get(b, FAULTS, 8), 3 * 0x9000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_wild_jump_finds_no_code_of_an_earlier_generation, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_jump_with_wild_upper_bits_faults_whatever_they_are, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
