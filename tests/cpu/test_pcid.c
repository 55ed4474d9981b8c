/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Process-context identifiers: what a load of CR3 keeps is the right space's, and every way to
 * invalidate reaches it. Source: Intel SDM vol. 3A 4.10.1, 4.10.4.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cpu/box.h"

/* Two address spaces that differ in one page, at WINDOW; page tables follow one another. */
enum { WINDOW = 1 << 30, SPACE_A = 0x100000, SPACE_B = 0x110000, PTE = 0x3000, RW = 7 };
enum { PAGE_A = 0x200000, PAGE_B = 0x201000, PAGE_C = 0x202000 };

static struct box box;

static int setup(void **state) {
    box_new(&box, NULL);
    return 0;
}

static int teardown(void **state) {
    box_done(&box);
    return 0;
}

static void make_space(gpa tables, gpa page) {
    uint64_t low = box_get(&box, box_get(&box, BOX_PML4, 8) & ~0xfffull, 8);

    box_set(&box, tables, 8, (tables + 0x1000) | RW);
    box_set(&box, tables + 0x1000, 8, low);
    box_set(&box, tables + 0x1008, 8, (tables + 0x2000) | RW);
    box_set(&box, tables + 0x2000, 8, (tables + 0x3000) | RW);
    box_set(&box, tables + PTE, 8, page | RW);
}

/* RBX and RCX load the spaces, RSI is the window. */
static void two_spaces(gpa page_b) {
    box_long(&box);
    make_space(SPACE_A, PAGE_A);
    make_space(SPACE_B, page_b);
    box_set(&box, PAGE_A, 8, 0xa);
    box_set(&box, PAGE_B, 8, 0xb);
    box_set(&box, PAGE_C, 8, 0xc);
    box.s.cr3 = SPACE_A;
    box.s.cr4 |= X86_CR4_PCIDE | X86_CR4_PGE;
    box.s.gpr[X86_RBX] = SPACE_A | 1;
    box.s.gpr[X86_RCX] = SPACE_B | 2;
    box.s.gpr[X86_RSI] = WINDOW;
}

#define KEEP_A "bts $63, %rbx\n mov %rbx, %cr3\n"
#define KEEP_B "bts $63, %rcx\n mov %rcx, %cr3\n"

GUEST(tour, ".code64",
      "mov %rbx, %cr3\n mov (%rsi), %r8\n movq $1, 8(%rsi)\n"
      "mov %rcx, %cr3\n mov (%rsi), %r9\n movq $2, 8(%rsi)\n" KEEP_A
      "mov (%rsi), %r10\n mov 8(%rsi), %r12\n movq $3, 16(%rsi)\n" KEEP_B
      "mov (%rsi), %r11\n mov 8(%rsi), %r13\n movq $4, 16(%rsi)\n hlt");

static void each_space_sees_its_own_page_whatever_is_kept(void **state) {
    two_spaces(PAGE_B);
    BOX_EXEC(&box, tour);
    assert_true(box_halted_quietly(&box));
    assert_int_equal(box.s.gpr[8], 0xa);
    assert_int_equal(box.s.gpr[9], 0xb);
    assert_int_equal(box.s.gpr[10], 0xa);
    assert_int_equal(box.s.gpr[11], 0xb);
    assert_int_equal(box.s.gpr[12], 1);
    assert_int_equal(box.s.gpr[13], 2);
    assert_int_equal(box_get(&box, PAGE_A + 16, 8), 3);
    assert_int_equal(box_get(&box, PAGE_B + 16, 8), 4);
}

/* A's page is read-only, and still is when A comes back. */
GUEST(write_when_back, ".code64",
      "mov %rbx, %cr3\n mov (%rsi), %r8\n mov %rcx, %cr3\n mov (%rsi), %r9\n" KEEP_A
      "mov (%rsi), %r10\n movq $5, (%rsi)\n hlt");

static void a_page_that_came_back_is_as_writable_as_it_was(void **state) {
    two_spaces(PAGE_B);
    box_set(&box, SPACE_A + PTE, 8, PAGE_A | 5);
    BOX_EXEC(&box, write_when_back);
    assert_int_equal(box_fault(&box).vector, X86_PF);
    assert_int_equal(box_fault(&box).error, 3);
    assert_int_equal(box.s.gpr[10], 0xa);
    assert_int_equal(box_get(&box, PAGE_A, 8), 0xa);
}

/* Space B is used, its entry changed while A is in force, invalidated, and B used again. */
#define CHANGED(name, how)                                                                         \
    GUEST(name, ".code64",                                                                         \
          "mov %rcx, %cr3\n mov (%rsi), %r9\n mov %rbx, %cr3\n mov (%rsi), %r8\n"                  \
          "mov %rdx, (%rdi)\n" how KEEP_B "mov (%rsi), %r11\n hlt")
#define BY_INVPCID(type) "mov $" #type ", %eax\n invpcid 0x50000, %rax\n"

CHANGED(by_load, "mov %rcx, %cr3\n" KEEP_A);
CHANGED(by_invlpg, KEEP_B "invlpg (%rsi)\n" KEEP_A);
CHANGED(by_address, BY_INVPCID(0));
CHANGED(by_context, BY_INVPCID(1));
CHANGED(by_all, BY_INVPCID(2));
CHANGED(by_all_local, BY_INVPCID(3));
CHANGED(by_pge, "mov %cr4, %rax\n xor $0x80, %al\n mov %rax, %cr4\n");

static void every_invalidation_reaches_a_space_that_is_not_in_force(void **state) {
    static const struct {
        const uint8_t *start, *end;
    } ways[] = {
        {by_load, by_load_end},       {by_invlpg, by_invlpg_end}, {by_address, by_address_end},
        {by_context, by_context_end}, {by_all, by_all_end},       {by_all_local, by_all_local_end},
        {by_pge, by_pge_end},
    };

    for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        two_spaces(PAGE_B);
        box_set(&box, BOX_DATA, 8, 2);
        box_set(&box, BOX_DATA + 8, 8, WINDOW);
        box.s.gpr[X86_RDX] = PAGE_C | RW;
        box.s.gpr[X86_RDI] = SPACE_B + PTE;
        box_exec(&box, ways[i].start, ways[i].end);
        assert_true(box_halted_quietly(&box));
        assert_int_equal(box.s.gpr[9], 0xb);
        assert_int_equal(box.s.gpr[8], 0xa);
        if (box.s.gpr[11] != 0xc)
            fail_msg("way %u: the old page was still there", i);
    }
}

/* B may write the page before A runs code in it, and afterwards must not without notice. */
GUEST(code_between, ".code64",
      "mov %rcx, %cr3\n movl $0x000001b8, (%rsi)\n movw $0xc300, 4(%rsi)\n" KEEP_A
      "call *%rdi\n mov %eax, %r8d\n" KEEP_B "movb $2, 1(%rsi)\n" KEEP_A
      "call *%rdi\n mov %eax, %r9d\n hlt");

static void a_page_that_became_code_meanwhile_is_watched_when_its_writer_returns(void **state) {
    two_spaces(PAGE_C);
    box.s.gpr[X86_RDI] = PAGE_C;
    BOX_EXEC(&box, code_between);
    assert_true(box_halted_quietly(&box));
    assert_int_equal(box.s.gpr[8], 1);
    assert_int_equal(box.s.gpr[9], 2);
}

#define SLOTS 4096ull
/* A page at the same place in the TLB, which is not put away: it is global. */
GUEST(shared_slot, ".code64",
      "mov %rcx, %cr3\n mov (%rsi), %r9\n" KEEP_A "movq $5, 8(%rdi)\n" KEEP_B
      "mov (%rsi), %r11\n movq $6, 8(%rdi)\n hlt");

static void a_global_page_in_the_same_place_keeps_its_writes(void **state) {
    uint64_t global = WINDOW + SLOTS * 4096;

    two_spaces(PAGE_B);
    for (unsigned i = 0; i < 2; i++) {
        gpa tables = i ? SPACE_B : SPACE_A;

        box_set(&box, tables + 0x2000 + (global >> 21 & 511) * 8, 8, (tables + 0x4000) | RW);
        box_set(&box, tables + 0x4000, 8, PAGE_C | RW | 1 << 8);
    }
    box.s.gpr[X86_RDI] = global;
    BOX_EXEC(&box, shared_slot);
    assert_true(box_halted_quietly(&box));
    assert_int_equal(box.s.gpr[11], 0xb);
    assert_int_equal(box_get(&box, PAGE_C + 8, 8), 6);
    assert_int_equal(box_get(&box, PAGE_B + 8, 8), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(each_space_sees_its_own_page_whatever_is_kept),
        TEST(a_page_that_came_back_is_as_writable_as_it_was),
        TEST(every_invalidation_reaches_a_space_that_is_not_in_force),
        TEST(a_page_that_became_code_meanwhile_is_watched_when_its_writer_returns),
        TEST(a_global_page_in_the_same_place_keeps_its_writes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
