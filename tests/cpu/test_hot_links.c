/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ways from one hot block to the next: what of the flags goes with them, and what they depend on.
 * Source: SDM vol. 3A 4.10 (invalidation), 6.8 (interrupts at every boundary). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/twin.h"

static int setup(void **state) {
    static struct twin t;

    twin_new(&t, false);
    t.heat[X86_RSP] = BOX_STACK0;
    t.heat_flags = X86_FLAG_FIXED | X86_FLAG_CF | X86_FLAG_ZF;
    memcpy(t.s.gpr, t.heat, sizeof(t.heat));
    *state = &t;
    return 0;
}

static int teardown(void **state) {
    twin_done(*state);
    return 0;
}

/* ---- flags that one side of a jump reads and the other does not ---- */

GUEST(taken_reads, ".code64",
      "cmp %r14, %r13\n jb 1f\n add $1, %r8\n jmp 2f\n 1: adc %r9, %r10\n 2: add $1, %r11");
GUEST(next_reads, ".code64",
      "cmp %r14, %r13\n jb 1f\n adc %r9, %r10\n jmp 2f\n 1: add $1, %r8\n 2: add $1, %r11");
GUEST(both_read, ".code64",
      "cmp %r14, %r13\n jb 1f\n adc %r9, %r10\n jmp 2f\n 1: sbb %r9, %r10\n 2: add $1, %r11");
GUEST(back_reads, ".code64",
      "mov $5, %ecx\n cmp %r14, %r13\n 1: adc %r9, %r10\n dec %rcx\n jnz 1b\n add $1, %r11");
GUEST(back_and_next_read, ".code64",
      "mov $5, %ecx\n cmp %r14, %r13\n 1: adc %r9, %r10\n dec %rcx\n jnz 1b\n adc $1, %r11");
GUEST(next_reads_and_back_does_not, ".code64",
      "mov %r14, %rcx\n 1: add %r9, %r10\n sub $1, %rcx\n ja 1b\n adc %r10, %r11");

static void flags_go_along_the_edge_that_wants_them(void **state) {
    static const struct {
        const uint8_t *start, *end;
    } code[] = {{taken_reads, taken_reads_end},
                {next_reads, next_reads_end},
                {both_read, both_read_end},
                {back_reads, back_reads_end},
                {back_and_next_read, back_and_next_read_end},
                {next_reads_and_back_does_not, next_reads_and_back_does_not_end}};
    static const uint64_t value[] = {0, 1, 2, 5};
    struct twin *t = *state;

    t->heat[9] = t->s.gpr[9] = 0x8000000000000003;
    t->heat[13] = t->s.gpr[13] = 2;
    for (unsigned i = 0; i < sizeof(code) / sizeof(code[0]); i++)
        for (unsigned hot = 1; hot < 4; hot++) {
            t->heat[14] = value[hot];
            twin_heat_at(t, BOX_CODE + hot * 0x200, code[i].start, code[i].end);
            for (unsigned k = 0; k < sizeof(value) / sizeof(value[0]); k++) {
                t->s.gpr[14] = value[k];
                twin_once(t);
            }
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(flags_go_along_the_edge_that_wants_them, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
