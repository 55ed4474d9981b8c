/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Accesses off one register share a check in hot code, which must not be seen: where their range
 * crosses pages, where only some of them may write, where one in the middle faults, where the page
 * holds code. The interpreter is the measure. Every tier of the translator takes its turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/trace.h"
#include "cpu/twin.h"

enum { DATA = 0x100000, STACK = 0x110000, FAR = 0x120000, ARITHMETIC = 0x8d5, TIERS = 3 };
enum { ABSENT = 0, READ_ONLY = 0x65, FRESH = 0x7 }; /* the last: neither accessed nor dirty */

/* The first makes the page known for reading. */
GUEST(members, ".code64",
      "mov (%rbx,%r13), %r9\n mov (%rbx), %rax\n add %rcx, 8(%rbx)\n mov 16(%rbx), %rdx\n"
      "xor %edx, 20(%rbx)\n mov %r14, 24(%rbx)\n push %rax\n push %r14\n call 1f\n"
      "1: pop %r8\n pop %r15\n pop %rsi\n");
GUEST(write_behind_a_fault, ".code64", "mov (%rbx), %rax\n mov (%r12), %rcx\n mov %rdx, 8(%rbx)\n");
GUEST(read_read_write, ".code64", "mov (%rbx), %rax\n add %rcx, 8(%rbx)\n mov 16(%rbx), %rdx\n");
GUEST(loads, ".code64", "mov (%rbx), %rax\n mov 8(%rbx), %rcx\n mov (%rbx,%r13), %rdx\n");
/* Counts up the immediate of the instruction that it goes to: at RBX + 9. */
GUEST(
    write_to_code, ".code64",
    "mov 8(%rbx), %al\n lea 1(%r12), %r12\n mov %r12b, 9(%rbx)\n lea 8(%rbx), %rdi\n jmp *%rdi\n");
GUEST(immediate, ".code64", "mov $1, %eax\n add %rax, %r8\n jmp *0x61410\n");

/* In between the base of two accesses becomes another one. */
GUEST(other_bases, ".code64",
      "mov (%rdx), %r9\n mov 8(%rdx), %r10\n mov $0x11, %dh\n mov (%rdx), %r11\n"
      "mov 8(%rdx), %rsi\n mov (%rsp), %rax\n mov 8(%rsp), %rcx\n leave\n mov (%rsp), %rdi\n"
      "mov 8(%rsp), %r8\n pop %r15\n mov (%rsp), %r14\n");
/* The store is free for two rounds; then a function runs whose immediate it writes. */
GUEST(write_then_call, ".code64",
      "mov $4, %ecx\n 1: mov %r12b, (%rbx)\n lea 1(%r12), %r12\n cmp $2, %ecx\n ja 2f\n"
      "call *%rdi\n lea (%r8,%rax), %r8\n 2: dec %ecx\n jnz 1b\n hlt");
GUEST(gives_immediate, ".code64", "mov $1, %eax\n ret");

/* One access again and again, while its page table entry, at RDI, is now R14, now R15; R8 sums up.
 * The first round is a block of its own. */
#define READS_AGAIN(name, how)                                                                     \
    GUEST(name, ".code64",                                                                         \
          "mov $4, %ecx\n 1: mov (%rbx), %rax\n lea (%rax,%r8,2), %r8\n mov %r14, (%rdi)\n"        \
          "xchg %r14, %r15\n" how "\n dec %ecx\n jnz 1b\n hlt")
READS_AGAIN(again_after_cr3, "mov %cr3, %rdx\n mov %rdx, %cr3");
READS_AGAIN(again_after_invlpg, "invlpg (%rbx)");
READS_AGAIN(again_after_cr4, "mov %cr4, %rdx\n xor $0x80, %dl\n mov %rdx, %cr4");

/* Reads the page as supervisor, then as user. */
GUEST(to_user, ".code64",
      "mov (%rbx,%r13), %r9\n add (%rbx), %r9\n mov 8(%rbx), %rax\n push %r14\n push %rsp\n"
      "push $2\n push %r15\n lea 1f(%rip), %rax\n push %rax\n iretq\n .balign 16\n"
      "1: mov (%rbx), %rax\n mov 8(%rbx), %rcx\n mov (%rbx,%r13), %rdx\n hlt");

static int setup(void **state, bool eager) {
    static struct twin t;

    twin_new(&t, eager);
    for (unsigned i = 0; i < 0x4000; i += 8)
        twin_set(&t, DATA + i, 8, i * 0x9e3779b97f4a7c15ull);
    for (unsigned i = 0; i < 16; i++)
        t.heat[i] = 0x1111111111111111ull * i;
    t.heat[X86_RBX] = DATA + 0x100;
    t.heat[X86_RSP] = STACK + 0x800;
    t.heat[12] = FAR;
    t.heat[13] = 0;
    memcpy(t.s.gpr, t.heat, sizeof(t.heat));
    t.dead_flags = ARITHMETIC;
    *state = &t;
    return 0;
}

static int setup_eager(void **state) { return setup(state, true); }
static int setup_usual(void **state) { return setup(state, false); }

static int teardown(void **state) {
    twin_done(*state);
    return 0;
}

/* Where eager translation takes tier `n`, whichever it is. */
static void heat(struct twin *t, unsigned n, const uint8_t *start, const uint8_t *end) {
    twin_heat_at(t, BOX_CODE + 16 * n, start, end);
}

static void once(struct twin *t, unsigned vector) {
    twin_once(t);
    assert_int_equal(t->fault.vector, vector);
}

static void a_range_across_pages_is_taken_apart(void **state) {
    struct twin *t = *state;

    for (unsigned tier = 0; tier < TIERS; tier++) {
        twin_pte(t, DATA + 0x1000, (DATA + 0x3000) | FRESH); /* not what follows on the host */
        twin_pte(t, STACK + 0x1000, (STACK + 0x3000) | FRESH);
        heat(t, tier, members, members_end);
        for (unsigned off = 0xfc8; off < 0x1020; off++) {
            t->s.gpr[X86_RBX] = DATA + off;
            t->s.gpr[X86_RSP] = STACK + off;
            once(t, ~0u);
        }
        twin_pte(t, STACK + 0x1000, (STACK + 0x1000) | FRESH);
        t->s.gpr[X86_RBX] = DATA + 0xff4; /* of each its second page is missing */
        t->s.gpr[X86_RSP] = STACK + 0x800;
        twin_pte(t, DATA + 0x1000, ABSENT);
        once(t, X86_PF);
        assert_int_equal(t->box[1].s.cr2, DATA + 0x1000);
        twin_pte(t, DATA + 0x1000, (DATA + 0x1000) | FRESH);
        t->s.gpr[X86_RBX] = DATA;
        t->s.gpr[X86_RSP] = STACK + 0x1008;
        twin_pte(t, STACK, ABSENT);
        once(t, X86_PF);
        twin_pte(t, STACK, STACK | FRESH);
        t->s.gpr[X86_RSP] = STACK + 0x800;
    }
}

static void a_write_through_a_read_only_page_faults_behind_the_reads(void **state) {
    struct twin *t = *state;

    for (unsigned tier = 0; tier < TIERS; tier++) {
        heat(t, tier, members, members_end);
        twin_pte(t, DATA, DATA | READ_ONLY);
        once(t, X86_PF);
        assert_int_equal(t->fault.rip, BOX_CODE + 16 * tier + 4 + 3);
        assert_int_equal(t->box[1].s.cr2, DATA + 0x108);
        twin_pte(t, DATA, DATA | FRESH);
        once(t, ~0u);
    }
}

/* Memory is compared, and the page tables are in it. */
static void a_page_is_not_dirty_before_it_is_written_to(void **state) {
    struct twin *t = *state;

    for (unsigned tier = 0; tier < TIERS; tier++) {
        heat(t, tier, write_behind_a_fault, write_behind_a_fault_end);
        twin_pte(t, FAR, ABSENT);
        twin_pte(t, DATA, DATA | FRESH);
        once(t, X86_PF);
        assert_int_equal(box_get(&t->box[1], TWIN_PTES + (DATA >> 12) * 8, 8) & 0x60, 0x20);
        twin_pte(t, FAR, FAR | FRESH);
        once(t, ~0u);
        assert_int_equal(box_get(&t->box[1], TWIN_PTES + (DATA >> 12) * 8, 8) & 0x60, 0x60);
    }
}

static void an_empty_entry_matches_no_address(void **state) {
    static const unsigned offset[] = {0, 1, 0x800, 0xff0};
    struct twin *t = *state;

    for (unsigned tier = 0; tier < TIERS; tier++) {
        heat(t, tier, loads, loads_end);
        twin_set(t, 0x10, 8, 0x1234567812345678);
        t->s.gpr[X86_RBX] = 0x10;
        once(t, ~0u);
        for (unsigned page = 0; page < 4; page++) {
            uint64_t at = DATA + page * 0x1000ull;
            for (unsigned i = 0; i < sizeof(offset) / sizeof(offset[0]); i++) {
                t->s.gpr[X86_RBX] = at + offset[i];
                once(t, ~0u);
                twin_pte(t, at, ABSENT);
                once(t, X86_PF);
                twin_pte(t, at, at | FRESH);
            }
        }
    }
}

static void a_page_with_code_is_never_written_to_unseen(void **state) {
    struct twin *t = *state;

    t->heat[X86_RBX] = t->s.gpr[X86_RBX] = DATA + 0x100;
    for (unsigned tier = 0; tier < TIERS; tier++) {
        twin_put(t, DATA + 0x108, immediate, (size_t)(immediate_end - immediate));
        heat(t, tier, write_to_code, write_to_code_end);
        for (unsigned n = 0; n < 20; n++) {
            t->s.gpr[12] = 0x30 + 7 * n;
            once(t, ~0u);
            assert_int_equal(t->box[1].s.gpr[X86_RAX], 0x31 + 7 * n);
        }
    }
}

static void a_base_that_changes_ends_its_group(void **state) {
    struct twin *t = *state;

    twin_pte(t, DATA + 0x1000, (DATA + 0x3000) | FRESH);
    twin_pte(t, STACK + 0x1000, (STACK + 0x3000) | FRESH);
    for (unsigned i = 0; i < 0x4000; i += 8)
        twin_set(t, STACK + i, 8, i);
    t->heat[X86_RDX] = DATA + 0x100; /* then in the next page */
    t->heat[X86_RBP] = STACK + 0x1100;
    memcpy(t->s.gpr, t->heat, sizeof(t->heat));
    for (unsigned tier = 0; tier < TIERS; tier++) {
        heat(t, tier, other_bases, other_bases_end);
        once(t, ~0u);
        assert_int_equal(t->box[1].s.gpr[X86_RDI], 0x3108);
        assert_int_equal(t->box[1].s.gpr[14], 0x3110);
    }
}

static void a_page_that_gets_code_is_watched_by_those_who_wrote_to_it(void **state) {
    struct twin *t = *state;

    t->s.gpr[X86_RBX] = DATA + 0x101;
    t->s.gpr[X86_RDI] = DATA + 0x100;
    for (unsigned tier = 0; tier < TIERS; tier++) {
        twin_put(t, DATA + 0x100, gives_immediate, (size_t)(gives_immediate_end - gives_immediate));
        twin_put(t, BOX_CODE + 16 * tier, write_then_call,
                 (size_t)(write_then_call_end - write_then_call));
        for (unsigned i = 0; i < 2; i++) /* what was decoded there before is gone */
            t->box[i].cpu->ops->code_written(t->box[i].cpu, BOX_CODE);
        t->s.rip = BOX_CODE + 16 * tier;
        t->s.gpr[8] = 0;
        t->s.gpr[12] = 0x20;
        once(t, ~0u);
        assert_int_equal(t->box[1].s.gpr[8], 0x22 + 0x23);
    }
}

static void an_access_that_remembers_its_page_forgets_it_with_the_tlb(void **state) {
    static const struct {
        const uint8_t *start, *end;
    } way[] = {{again_after_cr3, again_after_cr3_end},
               {again_after_invlpg, again_after_invlpg_end},
               {again_after_cr4, again_after_cr4_end}};
    struct twin *t = *state;

    twin_set(t, DATA + 0x100, 8, 3);
    twin_set(t, DATA + 0x1100, 8, 5);
    t->s.gpr[X86_RDI] = TWIN_PTES + (DATA >> 12) * 8;
    t->s.gpr[14] = DATA | 0x67;
    t->s.gpr[15] = (DATA + 0x1000) | 0x67;
    for (unsigned i = 0; i < sizeof(way) / sizeof(way[0]); i++)
        for (unsigned tier = 0; tier < TIERS; tier++) {
            t->s.rip = BOX_CODE + 16 * tier;
            twin_put(t, t->s.rip, way[i].start, (size_t)(way[i].end - way[i].start));
            for (unsigned k = 0; k < 2; k++)
                t->box[k].cpu->ops->code_written(t->box[k].cpu, BOX_CODE);
            twin_pte(t, DATA, DATA | FRESH);
            t->s.gpr[8] = 0;
            once(t, ~0u);
            assert_int_equal(t->box[1].s.gpr[8], 8 * 3 + 4 * 3 + 2 * 5 + 3);
        }
}

static void what_the_kernel_found_is_not_there_for_user_code(void **state) {
    struct twin *t = *state;

    t->s.gpr[14] = BOX_DS3 | 3;
    t->s.gpr[15] = BOX_CS64_3 | 3;
    for (unsigned tier = 0; tier < TIERS; tier++) {
        twin_put(t, BOX_CODE + 16 * tier, to_user, (size_t)(to_user_end - to_user));
        t->s.rip = BOX_CODE + 16 * tier;
        once(t, X86_GP); /* HLT */
        twin_pte(t, DATA, DATA | 3);
        once(t, X86_PF);
        assert_int_equal(t->fault.error, 5);
        assert_int_equal(t->box[1].s.cr2, DATA + 0x100);
        twin_pte(t, DATA, DATA | FRESH);
        t->s.gpr[X86_RBX] = DATA + 0xffc; /* the second half is the kernel's */
        twin_pte(t, DATA + 0x1000, (DATA + 0x1000) | 3);
        once(t, X86_PF);
        assert_int_equal(t->fault.error, 5);
        assert_int_equal(t->box[1].s.cr2, DATA + 0x1000);
        twin_pte(t, DATA + 0x1000, (DATA + 0x1000) | FRESH);
        t->s.gpr[X86_RBX] = DATA + 0x100;
    }
}

/* None of the accesses crosses pages, but their range does: they are told apart soon. */
static void a_group_that_always_crosses_pages_is_given_up(void **state) {
    struct twin *t = *state;
    uint64_t before = stat_counts[STAT_jit_slow];

    if (twin_rounds() < 5000)
        skip();
    t->heat[X86_RBX] = DATA + 0xff0;
    TWIN_HEAT(t, read_read_write);
    assert_in_range(stat_counts[STAT_jit_slow] - before, 1, 1500);
}

int main(void) {
#define EAGER(name) cmocka_unit_test_setup_teardown(name, setup_eager, teardown)
    const struct CMUnitTest tests[] = {
        EAGER(a_range_across_pages_is_taken_apart),
        EAGER(a_write_through_a_read_only_page_faults_behind_the_reads),
        EAGER(a_page_is_not_dirty_before_it_is_written_to),
        EAGER(an_empty_entry_matches_no_address),
        EAGER(a_base_that_changes_ends_its_group),
        EAGER(a_page_that_gets_code_is_watched_by_those_who_wrote_to_it),
        EAGER(an_access_that_remembers_its_page_forgets_it_with_the_tlb),
        EAGER(what_the_kernel_found_is_not_there_for_user_code),
        EAGER(a_page_with_code_is_never_written_to_unseen),
        cmocka_unit_test_setup_teardown(a_group_that_always_crosses_pages_is_given_up, setup_usual,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
