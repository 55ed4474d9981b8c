/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ways from one hot block to the next: what of the flags goes with them, and what they depend on.
 * Source: SDM vol. 3A 4.10 (invalidation), 6.8 (interrupts at every boundary). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/soft/jit/jit_internal.h"
#include "cpu/twin.h"

static int setup_twin(void **state, bool eager) {
    static struct twin t;

    twin_new(&t, eager);
    t.heat[X86_RSP] = BOX_STACK0;
    t.heat_flags = X86_FLAG_FIXED | X86_FLAG_CF | X86_FLAG_ZF;
    memcpy(t.s.gpr, t.heat, sizeof(t.heat));
    *state = &t;
    return 0;
}

static int setup(void **state) { return setup_twin(state, false); }
static int setup_eager(void **state) { return setup_twin(state, true); }

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

/* INC leaves the carry to whom the second jump leads. Backward: no superblock. */
GUEST(behind_two_jumps, ".code64",
      "jmp 9f\n 2: inc %rdx\n jz 1f\n add $1, %r8\n jmp 3f\n"
      "9: mov %r15, %rdx\n cmp %r14, %r13\n jmp 2b\n 1: adc $0, %r10\n 3: add $1, %r11");

static void flags_go_along_the_edge_that_wants_them(void **state) {
    static const struct {
        const uint8_t *start, *end;
    } code[] = {{taken_reads, taken_reads_end},
                {next_reads, next_reads_end},
                {both_read, both_read_end},
                {back_reads, back_reads_end},
                {back_and_next_read, back_and_next_read_end},
                {next_reads_and_back_does_not, next_reads_and_back_does_not_end},
                {behind_two_jumps, behind_two_jumps_end}};
    static const uint64_t value[] = {0, 1, 2, 5};
    struct twin *t = *state;

    t->heat[9] = t->s.gpr[9] = 0x8000000000000003;
    t->heat[13] = t->s.gpr[13] = 2;
    t->heat[15] = t->s.gpr[15] = ~0ull;
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

/* What follows a jump that was never taken is looked at, though no block: it becomes ADC. */
GUEST(seldom_taken, ".code64",
      "cmp %r14, %r13\n jb 1f\n add $1, %r8\n 3: add $1, %r11\n jmp *0x61410\n"
      ".org seldom_taken + 0x80\n 1: add $0, %r10\n jmp 3b");
GUEST(makes_it_adc, ".code64", "movb $0xd2, 0x10082\n hlt");

static void a_look_at_code_that_never_ran_is_repeated_when_it_changes(void **state) {
    struct twin *t = *state;

    t->heat[13] = t->s.gpr[13] = 2;
    t->heat[14] = 1;
    TWIN_HEAT(t, seldom_taken);
    twin_put(t, BOX_CODE + 0x2000, makes_it_adc, (size_t)(makes_it_adc_end - makes_it_adc));
    t->s.rip = BOX_CODE + 0x2000;
    twin_once(t);
    t->s.rip = BOX_CODE;
    t->s.gpr[14] = 3;
    t->s.gpr[10] = 0;
    twin_once(t);
    assert_int_equal(t->box[1].s.gpr[10], 1);
}

/* ---- links into other pages ---- */

/* A loop over the two pages at 0x100000: R12 rounds. What the second page does with the flags of
 * the comparison is the test's. */
enum { FIRST = 0x100000, SECOND = 0x101000, OTHER = 0x111000, ROUNDS = 4000 };

#define OVER_TWO_PAGES(compare, second)                                                            \
    "1: " compare "\n jb 2f\n .fill 4096 - (. - 1b), 1, 0x90\n 2: " second                         \
    "\n dec %r12\n jnz 1b\n hlt"
GUEST(far_reads, ".code64", OVER_TWO_PAGES("cmp %rsi, %r12", "adc %r9, %r10"));
GUEST(far_does_not, ".code64", OVER_TWO_PAGES("cmp %rsi, %r12", "add %r9, %r10"));
GUEST(far_of_memory, ".code64", OVER_TWO_PAGES("cmp 0x72000, %r12", "adc %r9, %r10"));
GUEST(far_of_sum, ".code64", OVER_TWO_PAGES("add %rsi, %r11", "adc %r9, %r10"));
GUEST(far_calls, ".code64",
      "1: call 2f\n add %rax, %r10\n dec %r12\n jnz 1b\n hlt\n .fill 4096 - (. - 1b), 1, 0x90\n"
      "2: mov $1, %eax\n ret");

static void run_from(struct twin *t, uint64_t at, uint64_t rounds) {
    t->s.rip = at;
    t->s.gpr[12] = rounds;
    t->s.gpr[10] = 0;
    twin_once(t);
    assert_true(box_halted_quietly(&t->box[1]));
}

static void flags_reach_another_page(void **state) {
    static const struct {
        const uint8_t *start, *end;
    } code[] = {{far_reads, far_reads_end},
                {far_does_not, far_does_not_end},
                {far_of_memory, far_of_memory_end},
                {far_of_sum, far_of_sum_end},
                {far_calls, far_calls_end}};
    struct twin *t = *state;

    for (unsigned i = 0; i < sizeof(code) / sizeof(code[0]); i++) {
        uint64_t at = FIRST + i * 0x4000;
        twin_put(t, at, code[i].start, (size_t)(code[i].end - code[i].start));
        t->s.gpr[9] = 0x8000000000000003;
        t->s.gpr[X86_RSI] = 0xfffffffffffff830;
        twin_set(t, 0x72000, 8, ROUNDS / 2);
        run_from(t, at, ROUNDS);
        t->s.gpr[X86_RSI] = ROUNDS / 2;
        run_from(t, at, ROUNDS);
    }
}

/* The second page without the flags of the first, and another one that wants them: what was linked
 * without saving them goes there as well. */
GUEST(first_compares, ".code64", "1: cmp %rsi, %r12\n jb 1b + 4096\n jmp 1b + 4096");
GUEST(then_adds, ".code64", "add %r9, %r10\n dec %r12\n 1: jnz then_adds - 4096\n hlt");
GUEST(then_adds_with_carry, ".code64",
      "adc %r9, %r10\n dec %r12\n 1: jnz then_adds_with_carry - 4096\n hlt");
GUEST(then_subtracts, ".code64", "sbb %r9, %r10\n dec %r12\n 1: jnz then_subtracts - 4096\n hlt");

static void put_second(struct twin *t, gpa at, const uint8_t *start, const uint8_t *end) {
    twin_put(t, at, start, (size_t)(end - start));
}

static void links_follow_the_mapping(void **state) {
    struct twin *t = *state;

    twin_put(t, FIRST, first_compares, (size_t)(first_compares_end - first_compares));
    put_second(t, SECOND, then_adds, then_adds_end);
    put_second(t, OTHER, then_adds_with_carry, then_adds_with_carry_end);
    put_second(t, OTHER + 0x1000, then_subtracts, then_subtracts_end);
    t->s.gpr[9] = 3;
    t->s.gpr[X86_RSI] = ROUNDS / 2;
    run_from(t, FIRST, ROUNDS);
    for (unsigned i = 0; i < 12; i++) { /* twin_once flushes all */
        static const gpa page[] = {SECOND, OTHER, OTHER + 0x1000};
        twin_pte(t, SECOND, page[i % 3] | 7);
        run_from(t, FIRST, i < 6 ? 40 : ROUNDS);
    }
}

static void links_follow_what_is_written(void **state) {
    struct twin *t = *state;

    twin_put(t, FIRST, first_compares, (size_t)(first_compares_end - first_compares));
    put_second(t, SECOND, then_adds, then_adds_end);
    t->s.gpr[9] = 3;
    t->s.gpr[X86_RSI] = ROUNDS / 2;
    for (unsigned i = 0; i < 12; i++) {
        run_from(t, FIRST, ROUNDS);
        if (i % 2)
            put_second(t, SECOND, then_adds, then_adds_end);
        else
            put_second(t, SECOND, then_adds_with_carry, then_adds_with_carry_end);
        for (unsigned k = 0; k < 2; k++)
            t->box[k].cpu->ops->code_written(t->box[k].cpu, SECOND);
    }
}

/* Two spaces by turns, in which the page behind the loop's is another one; none of the loads of CR3
 * touches what is known of the other (PCID), and then each makes a generation of its own, until all
 * keys have been used and come back. */
GUEST(in_two_spaces, ".code64",
      "1: mov $6, %r12d\n mov %rbx, %cr3\n call *%rdi\n mov $6, %r12d\n mov %rcx, %cr3\n"
      "call *%rdi\n dec %r13\n jnz 1b\n hlt");
GUEST(first_goes_on, ".code64", "1: cmp %rsi, %r12\n jb 1b + 4096\n jmp 1b + 4096");
GUEST(adds_one, ".code64", "adc $1, %r10\n dec %r12\n jnz adds_one - 4096\n ret");
GUEST(adds_many, ".code64", "adc $1000, %r10\n dec %r12\n jnz adds_many - 4096\n ret");

enum { TABLES_A = 0x140000, TABLES_B = 0x150000, WINDOW = 1 << 30, KEYS_MORE_THAN_ONCE = 5000 };

static void make_space(struct twin *t, gpa tables, gpa second) {
    uint64_t low = box_get(&t->box[0], box_get(&t->box[0], BOX_PML4, 8) & ~0xfffull, 8);

    twin_set(t, tables, 8, (tables + 0x1000) | 7);
    twin_set(t, tables + 0x1000, 8, low);
    twin_set(t, tables + 0x1008, 8, (tables + 0x2000) | 7);
    twin_set(t, tables + 0x2000, 8, (tables + 0x3000) | 7);
    twin_set(t, tables + 0x3000, 8, FIRST | 7);
    twin_set(t, tables + 0x3008, 8, second | 7);
}

/* A link that was made with a key, other mappings meanwhile, and so many keys that the same one
 * comes again: R13 of them. */
GUEST(until_the_key_comes_back, ".code64",
      "movq $0x101007, 0x143008\n mov %rbx, %cr3\n mov $6, %r12d\n call *%rdi\n"
      "movq $0x111007, 0x143008\n 1: mov %rbx, %cr3\n dec %r13\n jnz 1b\n mov $6, %r12d\n"
      "call *%rdi\n hlt");

static void come_back_to_the_key(struct twin *t) {
    twin_put(t, BOX_CODE, until_the_key_comes_back,
             (size_t)(until_the_key_comes_back_end - until_the_key_comes_back));
    t->s.cr4 &= ~X86_CR4_PCIDE;
    t->s.gpr[X86_RBX] = TABLES_A;
    for (unsigned n = JIT_KEY_VALUES - 12; n < JIT_KEY_VALUES + 4; n++) {
        t->s.gpr[13] = n;
        run_from(t, BOX_CODE, 0);
        assert_int_equal(t->box[1].s.gpr[10], 6 * 1001 + 4);
    }
}

/* The same for generations, of which each load of CR3 takes two. */
static void come_back_to_the_generation(struct twin *t) {
    enum { FLUSHES = (1 << (32 - REF_MODE_BITS)) / 2 };

    if (getenv("VIV_SANITIZED"))
        return;
    for (unsigned n = FLUSHES - 3; n < FLUSHES + 2; n++) {
        t->s.gpr[13] = n;
        run_from(t, BOX_CODE, 0);
        assert_int_equal(t->box[1].s.gpr[10], 6 * 1001 + 4);
    }
}

static void links_belong_to_an_address_space(void **state) {
    struct twin *t = *state;

    twin_put(t, BOX_CODE, in_two_spaces, (size_t)(in_two_spaces_end - in_two_spaces));
    twin_put(t, FIRST, first_goes_on, (size_t)(first_goes_on_end - first_goes_on));
    put_second(t, SECOND, adds_one, adds_one_end);
    put_second(t, OTHER, adds_many, adds_many_end);
    make_space(t, TABLES_A, SECOND);
    make_space(t, TABLES_B, OTHER);
    t->s.cr3 = TABLES_A;
    t->s.cr4 |= X86_CR4_PCIDE;
    t->s.gpr[X86_RDI] = WINDOW;
    t->s.gpr[X86_RSI] = 3;
    for (unsigned keep = 0; keep < 2; keep++) {
        t->s.gpr[X86_RBX] = TABLES_A | 1 | (uint64_t)keep << 63;
        t->s.gpr[X86_RCX] = TABLES_B | 2 | (uint64_t)keep << 63;
        t->s.gpr[13] = KEYS_MORE_THAN_ONCE;
        run_from(t, BOX_CODE, 0);
        assert_int_equal(t->box[1].s.gpr[10], KEYS_MORE_THAN_ONCE * (6 * 1001 + 4));
    }
    come_back_to_the_key(t);
    come_back_to_the_generation(t);
}

/* ---- returns ---- */

/* Calls whose returns are predicted. The last one does not return before the code behind it is
 * another one, and so many keys have been used that the same one comes again: R13 of them. */
GUEST(late_return, ".code64",
      "1: call 2f\n 3: mov $1, %eax\n dec %ecx\n jnz 1b\n hlt\n .org late_return + 0x30\n"
      "2: cmp $1, %ecx\n jne 5f\n movb $2, 3b-late_return+0x100001\n"
      "4: mov %rbx, %cr3\n dec %r13\n jnz 4b\n jmp 5f\n .org late_return + 0x60\n 5: ret");

static void a_return_finds_no_code_of_an_earlier_generation(void **state) {
    struct twin *t = *state;

    t->s.gpr[X86_RBX] = t->s.cr3;
    for (unsigned n = JIT_KEY_VALUES - 12; n < JIT_KEY_VALUES + 4; n++) {
        twin_put(t, FIRST, late_return, (size_t)(late_return_end - late_return));
        t->s.gpr[X86_RCX] = 5;
        t->s.gpr[13] = n;
        run_from(t, FIRST, 0);
        assert_int_equal(t->box[1].s.gpr[X86_RAX], 2);
    }
}

/* ---- links of a translation that another has replaced ---- */

/* The translation of 2: may patch the JZ within the bytes that become a jump to the next one. */
GUEST(short_head, ".code64",
      "1: mov %r12d, %eax\n and $7, %eax\n jmp *%rbx\n .org short_head + 0x40\n"
      "2: test %eax, %eax\n jz 4f\n add $1, %r8\n 3: sub $1, %r12\n jnz 1b\n hlt\n"
      ".org short_head + 0x80\n 4: add $1, %r9\n jmp 3b");

static struct ref_block *block_at(struct ref *c, uint64_t rip) {
    uint64_t old = c->rip;
    struct ref_block *b;

    c->rip = rip;
    b = ref_cache_lookup(c);
    c->rip = old;
    return b;
}

static const uint8_t *where_jump_leads(const uint8_t *code) {
    int32_t by;

    assert_int_equal(code[0], 0xe9);
    memcpy(&by, code + 1, 4);
    return code + 5 + by;
}

static void links_of_replaced_code_leave_its_jump_alone(void **state) {
    struct twin *t = *state;
    struct ref *c = t->box[1].ref;
    struct ref_block *head, *target;
    const uint8_t *old;

    twin_put(t, FIRST, short_head, (size_t)(short_head_end - short_head));
    t->s.gpr[X86_RBX] = FIRST + 0x40;
    run_from(t, FIRST, ROUNDS);
    head = block_at(c, FIRST + 0x40);
    target = block_at(c, FIRST + 0x80);
    assert_true(head->tier >= 2);
    assert_int_equal(target->tier, 1);
    old = head->code;
    jit_promote(c, head); /* as when its sites were no good */
    assert_ptr_equal(where_jump_leads(old), head->code);
    for (unsigned i = 0; i < 2; i++) /* the first time its speed is measured */
        jit_promote(c, target);
    assert_true(target->tier >= 2);
    assert_ptr_equal(where_jump_leads(old), head->code);
    run_from(t, FIRST, ROUNDS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(flags_go_along_the_edge_that_wants_them, setup, teardown),
        cmocka_unit_test_setup_teardown(a_look_at_code_that_never_ran_is_repeated_when_it_changes,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(flags_reach_another_page, setup, teardown),
        cmocka_unit_test_setup_teardown(links_follow_the_mapping, setup, teardown),
        cmocka_unit_test_setup_teardown(links_follow_what_is_written, setup, teardown),
        cmocka_unit_test_setup_teardown(links_belong_to_an_address_space, setup, teardown),
        cmocka_unit_test_setup_teardown(a_return_finds_no_code_of_an_earlier_generation,
                                        setup_eager, teardown),
        cmocka_unit_test_setup_teardown(links_of_replaced_code_leave_its_jump_alone, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
