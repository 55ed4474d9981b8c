/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Translations that go on behind branches: every way out of them, faults and changed code in the
 * parts that they took in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/trace.h"
#include "cpu/twin.h"

enum { DATA = 0x100000 };

/* R8..R11 are 0 while it gets hot: one way through everything. Each way out finds other flags,
 * which it keeps in AX; the stores tell which parts were executed. */
GUEST(ways, ".code64",
      "xor %eax, %eax\n cmp %r9, %r8\n jb 7f\n"
      "incl 0x100000\n test %r9, %r9\n jnz 8f\n"
      "incl 0x100004\n jmp 1f\n 2: incl 0x100008\n jmp 9f\n"
      "1: cmp $5, %r10\n jb 3f\n ud2\n"
      "3: incl 0x10000c\n neg %r10\n jc 8f\n"
      "fld1\n fstpl 0x100020\n"
      "add %r11, %r11\n jo 7f\n jc 8f\n js 2b\n"
      "incl 0x100010\n mov (%r12), %rdx\n div %rbx\n jmp 9f\n"
      "7: incl 0x100014\n jmp 9f\n"
      "8: lahf\n seto %al\n mov %ax, 0x100018\n"
      "9: lahf");

/* The store goes to data while it gets hot, then onto the immediate behind two branches. */
GUEST(
    changes, ".code64",
    "test %r8, %r8\n jnz 2f\n movb $0x77, -1(%r14)\n jmp 1f\n ud2\n"
    "1: test %r9, %r9\n jnz 2f\n lea 3f(%rip), %r15\n mov $0x11111111, %eax\n3: inc %rcx\n 2: nop");

static int setup_without(void **state, uint32_t off) {
    static struct twin t;

    twin_new_with(&t, &(struct cpu_config){.debug = {.off = off}});
    t.heat[12] = DATA + 0x800;
    t.heat[14] = DATA + 0x400;
    t.heat[X86_RBX] = 3;
    t.heat[X86_RSP] = BOX_STACK0;
    memcpy(t.s.gpr, t.heat, sizeof(t.heat));
    *state = &t;
    return 0;
}

static int setup(void **state) { return setup_without(state, 0); }

static int teardown(void **state) {
    twin_done(*state);
    return 0;
}

static void every_way_out_has_the_state_that_it_should(void **state) {
    static const uint64_t values[] = {0, 1, 4, 7, 1ull << 62, 1ull << 63, ~0ull};
    enum { VALUES = sizeof(values) / sizeof(values[0]) };
    uint64_t taken_in = stat_counts[STAT_jit_taken_in];
    struct twin *t = *state;

    TWIN_HEAT(t, ways);
    assert_true(stat_counts[STAT_jit_taken_in] >= taken_in + 4);
    for (unsigned i = 0; i < VALUES * VALUES * VALUES * VALUES; i++) {
        t->s.gpr[8] = values[i % VALUES];
        t->s.gpr[9] = values[i / VALUES % VALUES];
        t->s.gpr[10] = values[i / VALUES / VALUES % VALUES];
        t->s.gpr[11] = values[i / VALUES / VALUES / VALUES];
        twin_once(t);
    }
}

static void every_part_of_the_translator_can_be_left_out(void **state) {
#define PART(id, name, help) JIT_NO_##id,
    static const uint32_t off[] = {CPU_DEBUG_PARTS(PART)};
#undef PART

    for (unsigned i = 0; i < sizeof(off) / sizeof(off[0]); i++) {
        struct twin *t;

        setup_without(state, off[i]);
        t = *state;
        TWIN_HEAT(t, ways);
        t->s.gpr[8] = 1;
        twin_once(t);
        twin_done(t);
    }
}

static void faults_behind_branches_name_their_instruction(void **state) {
    struct twin *t = *state;
    uint64_t first;

    TWIN_HEAT(t, ways);
    t->s.gpr[12] = 1ull << 63; /* not canonical */
    twin_once(t);
    assert_int_equal(t->fault.vector, X86_GP);
    first = t->fault.rip;
    t->s.gpr[12] = 0x7ffff000; /* not mapped */
    twin_once(t);
    assert_int_equal(t->fault.vector, X86_PF);
    assert_int_equal(t->fault.rip, first);
    t->s.gpr[12] = t->heat[12];
    t->s.gpr[X86_RBX] = 0;
    twin_once(t);
    assert_int_equal(t->fault.vector, X86_DE);
    assert_int_equal(t->fault.rip, first + 4);
}

static void code_that_was_taken_in_may_change(void **state) {
    uint64_t taken_in = stat_counts[STAT_jit_taken_in];
    struct twin *t = *state;

    TWIN_HEAT(t, changes);
    assert_true(stat_counts[STAT_jit_taken_in] >= taken_in + 3);
    t->s.gpr[14] = t->box[1].s.gpr[15];
    twin_once(t);
    assert_int_equal(t->box[1].s.gpr[X86_RAX], 0x77111111);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_way_out_has_the_state_that_it_should, setup,
                                        teardown),
        cmocka_unit_test(every_part_of_the_translator_can_be_left_out),
        cmocka_unit_test_setup_teardown(faults_behind_branches_name_their_instruction, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(code_that_was_taken_in_may_change, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
