/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Exceptions in the middle of translated code are exact: registers, live flags, memory, and what
 * the processor tells about them. The interpreter, whose faults other tests check, is the measure.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/trace.h"
#include "cpu/twin.h"

enum { DATA = 0x100000, PAIRS = 0x2000, ALL_BUT_CF = 0x8d4, ARITHMETIC = 0x8d5 };

/* Each access has two pages of its own behind RBX and lies across them (page_crossing) or in the
 * first. CF lives through all of it. */
#define ALONE(n)    "0x2000*" #n "+0x100(%rbx)"
#define ACROSS(n)   "0x2000*" #n "+0xfff(%rbx)"
#define STACK(n, d) "lea 0x2000*" #n "+" #d "(%rbx), %rsp\n"

/* clang-format off */
#define ACCESSES(M) \
    "add %r9, %r8\n mov " M(0) ", %rax\n adc %rcx, " M(1) "\n mov %r14, " M(2) "\n" \
    "sbb " M(3) ", %r15\n inc %r12\n adc %rdx, " M(4) "\n xchg %r13, " M(5) "\n" \
    "rcl $1, %r10\n cmpxchg %r14, " M(6) "\n stc\n xadd %r15, " M(7) "\n adc $5, %rsi\n" \
    "incl " M(8) "\n adcb $3, " M(9) "\n movups %xmm3, " M(10) "\n" \
    "movups " M(11) ", %xmm4\n sbb %r8d, %r9d\n pushq $77\n adc %rax, %rdx\n" \
    "btsl $7, " M(12) "\n rclq $3, " M(13) "\n movzwl " M(14) ", %ebp\n" \
    "cmovc " M(15) ", %r11\n setc " M(16) "\n lock adc %rax, " M(17) "\n notq " M(18) "\n" \
    "adc $1, %rdi\n vaddps " M(19) ", %ymm5, %ymm6\n vmovups %ymm6, " M(20) "\n" \
    "sbb $0, %r14\n lock cmpxchg8b " M(21) "\n imul " M(22) ", %r12\n stc\n" \
    "movnti %r8, " M(23) "\n adc $0, %r8\n fldl " M(24) "\n fstpl " M(25) "\n" \
    "adc $0, %r8\n cvtsi2sdq " M(26) ", %xmm7\n adc $0, %r8"
/* clang-format on */

GUEST(accesses, ".code64", ACCESSES(ALONE));
GUEST(crossings, ".code64", ACCESSES(ACROSS));
/* The same with the first page of each pair in the TLB, for reading and writing. */
#define WARM                                                                                       \
    "mov %rbx, %r15\n mov $27, %r14d\n 9: incb 0x800(%r15)\n add $0x2000, %r15\n dec %r14\n"       \
    "jnz 9b\n"
GUEST(warm_crossings, ".code64", WARM ACCESSES(ACROSS));
enum {
    ACCESS_PAIRS = 27,
    ACCESS_WRITES = 18,
    BEHIND_IMUL = 23,
    WRITE_CF = 1 << 6 | 1 << 7 | 1 << 12 | 1 << 22
};

/* Stack instructions, those with two accesses, and strings; here the stack lies across pages. */
/* clang-format off */
#define STACKS \
    "add %r9, %r8\n" \
    STACK(0, 0x1004) "push %r14\n adc $1, %r8\n" \
    STACK(1, 0x1004) "push %rax\n adc $1, %r8\n" \
    STACK(2, 0x1004) "push $-9\n adc $1, %r8\n" \
    STACK(3, 0xffc) "pop %r15\n adc $1, %r8\n" \
    STACK(4, 0xffc) "pop %rcx\n adc $1, %r8\n" \
    STACK(5, 0x1004) "pushq 0x2000*6+0xffc(%rbx)\n adc $1, %r8\n" \
    STACK(7, 0xffc) "popq 0x2000*8+0xffc(%rbx)\n adc $1, %r8\n" \
    STACK(9, 0x1004) "call 1f\n 1: adc $1, %r8\n" \
    STACK(10, 0x1004) "lea 2f(%rip), %rax\n mov %rax, 0x2000*11+0xffc(%rbx)\n stc\n" \
    "call *0x2000*11+0xffc(%rbx)\n 2: adc $1, %r8\n" \
    "lea 3f(%rip), %r14\n mov %r14, 0x2000*12+0xffc(%rbx)\n" \
    STACK(12, 0xffc) "stc\n ret $16\n 3: adc $1, %r8\n" \
    "lea 0x2000*13+0xffc(%rbx), %rbp\n stc\n leave\n adc $1, %r8\n" \
    STACK(14, 0x1004) "enter $16, $0\n adc $1, %r8\n" \
    STACK(15, 0x1004) "pushfq\n popfq\n adc $1, %r8\n" \
    "lea 0x2000*16+0xffc(%rbx), %rsi\n lea 0x2000*17+0xffc(%rbx), %rdi\n stc\n movsq\n" \
    "adc $1, %r8\n" \
    "stosq\n adc $1, %r8\n" \
    "lodsq\n adc $1, %r8\n" \
    "lea 0x2000*18+0xff0(%rbx), %rsi\n lea 0x2000*19+0xff3(%rbx), %rdi\n mov $33, %ecx\n" \
    "stc\n rep movsb\n adc $1, %r8\n" \
    "lea 0x2000*20+0xff0(%rbx), %rdi\n mov $9, %ecx\n stc\n rep stosl\n adc $1, %r8\n" \
    "lea 0x2000*21+0xff0(%rbx), %rsi\n lea 0x2000*22+0xff8(%rbx), %rdi\n mov $5, %ecx\n" \
    "cmp %r8, %r8\n repe cmpsq\n adc $1, %r8\n" \
    "lea 0x2000*23+0x1004(%rbx), %r14\n mov %r14, %rsp\n push %rsp\n adc $1, %r8"
/* clang-format on */

GUEST(stacks, ".code64", STACKS);
GUEST(warm_stacks, ".code64", WARM STACKS);
enum { STACK_PAIRS = 24 };
#define EXACT UINT64_MAX

GUEST(divide_error, ".code64", "stc\n mov %rcx, (%rbx)\n adc $1, %r8\n div %r14\n adc $2, %r8");
GUEST(divide_signed, ".code64", "stc\n mov %rcx, (%rbx)\n adc $1, %r8\n idiv %r14\n adc $2, %r8");
GUEST(divide_memory, ".code64", "stc\n adc $1, %r8\n stc\n idivl 0x10(%rbx)\n adc $2, %r8");
GUEST(undefined, ".code64", "stc\n adc $1, %r8\n stc\n inc %r9\n jmp *%r14");
GUEST(load_anywhere, ".code64", "stc\n adc $1, %r8\n stc\n mov (%r14), %rax\n adc $2, %r8");
GUEST(store_anywhere, ".code64",
      "stc\n adc $1, %r8\n stc\n mov %r15, 8(%r14,%r13,2)\n adc $2, %r8");
GUEST(stack_anywhere, ".code64",
      "stc\n adc $1, %r8\n stc\n mov %r14, %rsp\n push %rax\n adc $2, %r8");
GUEST(pops_flags, ".code64", "stc\n mov (%rbx), %rax\n mov %r14, %rsp\n popfq");
GUEST(aligned_load, ".code64", "stc\n adc $1, %r8\n stc\n movaps (%r14), %xmm1\n adc $2, %r8");
GUEST(aligned_store, ".code64", "stc\n adc $1, %r8\n stc\n movntps %xmm1, (%r14)\n adc $2, %r8");
GUEST(aligned_add, ".code64", "stc\n adc $1, %r8\n stc\n addps (%r14), %xmm1\n adc $2, %r8");
GUEST(aligned_vex, ".code64", "stc\n adc $1, %r8\n stc\n vmovaps (%r14), %ymm1\n adc $2, %r8");
GUEST(aligned_exchange, ".code64",
      "stc\n adc $1, %r8\n stc\n lock cmpxchg16b (%r14)\n adc $2, %r8");
GUEST(unaligned_vex, ".code64", "stc\n adc $1, %r8\n vaddps (%r14), %xmm1, %xmm2\n adc $2, %r8");

static int setup_without(void **state, uint32_t off) {
    static struct twin t;

    twin_new_with(&t, &(struct cpu_config){.debug = {.off = off}});
    for (unsigned i = 0; i < 16; i++)
        t.heat[i] = 0x1111111111111111ull * i;
    for (unsigned i = 0; i < PAIRS * 32; i += 8)
        twin_set(&t, DATA + i, 8, i * 0x9e3779b97f4a7c15ull);
    t.heat[X86_RBX] = DATA;
    t.heat[X86_RSP] = BOX_STACK0;
    memcpy(t.s.gpr, t.heat, sizeof(t.heat));
    for (unsigned i = 0; i < 16; i++)
        memset(t.s.fpu.vec[i], 0x30 + (int)i, 32);
    *state = &t;
    return 0;
}

static int setup(void **state) { return setup_without(state, 0); }
static int setup_exact(void **state) { return setup_without(state, JIT_NO_LIVENESS); }

static int teardown(void **state) {
    twin_done(*state);
    return 0;
}

/* Takes one page after the other away, then makes it read-only; says how many of the runs faulted.
 * The instructions of the pairs in `writes_cf` overwrite CF unread; EXACT: compare all flags. */
static unsigned fault_everywhere(struct twin *t, unsigned pairs, uint64_t writes_cf) {
    static const uint64_t entries[2] = {0, 0x65}; /* absent; accessed, read-only */
    unsigned faults = 0;

    for (unsigned page = 0; page < pairs * 2; page++)
        for (unsigned k = 0; k < 2; k++) {
            uint64_t at = DATA + page * 0x1000ull;

            if (writes_cf == EXACT)
                t->dead_flags = page / 2 == BEHIND_IMUL ? ALL_BUT_CF & ~X86_FLAG_OF : 0;
            else
                t->dead_flags = writes_cf >> page / 2 & 1 ? ARITHMETIC : ALL_BUT_CF;
            twin_pte(t, at, entries[k] ? at | entries[k] : 0);
            twin_once(t);
            if (t->fault.vector != ~0u) {
                assert_int_equal(t->fault.vector, X86_PF);
                assert_int_equal(t->box[1].s.cr2 & ~0xfffull, at);
                faults++;
            }
            twin_pte(t, at, at | 7);
        }
    return faults;
}

static void any_access_of_a_hot_block_can_fault(void **state) {
    TWIN_HEAT(*state, accesses);
    assert_int_equal(fault_everywhere(*state, ACCESS_PAIRS, WRITE_CF),
                     ACCESS_PAIRS + ACCESS_WRITES);
}

static void without_liveness_every_frame_has_all_flags(void **state) {
    TWIN_HEAT(*state, accesses);
    assert_int_equal(fault_everywhere(*state, ACCESS_PAIRS, EXACT), ACCESS_PAIRS + ACCESS_WRITES);
}

static void an_access_across_pages_faults_on_either_and_leaves_nothing_half_done(void **state) {
    TWIN_HEAT(*state, crossings);
    assert_int_equal(fault_everywhere(*state, ACCESS_PAIRS, WRITE_CF),
                     2 * (ACCESS_PAIRS + ACCESS_WRITES) - 4 /* ADCB, SETC */);
}

static void an_access_across_pages_faults_though_its_first_page_is_well_known(void **state) {
    struct twin *t = *state;

    TWIN_HEAT(t, warm_crossings);
    fault_everywhere(t, ACCESS_PAIRS, WRITE_CF);
    TWIN_HEAT(t, warm_stacks);
    fault_everywhere(t, STACK_PAIRS, 0);
}

static void stack_and_string_instructions_can_fault_on_every_access(void **state) {
    struct twin *t = *state;

    TWIN_HEAT(t, stacks);
    assert_true(fault_everywhere(t, STACK_PAIRS, 0) > 2 * STACK_PAIRS + 10);
}

static void expect(struct twin *t, unsigned vector) {
    t->dead_flags = ALL_BUT_CF;
    twin_once(t);
    assert_int_equal(t->fault.vector, vector);
}

static void a_fault_of_popf_has_the_flags_from_before(void **state) {
    struct twin *t = *state;

    twin_set(t, DATA + 0x800, 8, X86_FLAG_FIXED);
    t->heat[14] = DATA + 0x800;
    TWIN_HEAT(t, pops_flags);
    t->s.gpr[14] = 0x7ffff000;
    expect(t, X86_PF);
    assert_true(t->fault.flags & X86_FLAG_CF);
}

static void divisions_fault_in_hot_code(void **state) {
    struct twin *t = *state;

    t->heat[X86_RDX] = 0;
    t->s.gpr[X86_RDX] = 0;
    twin_set(t, DATA + 0x10, 8, 3);
    TWIN_HEAT(t, divide_error);
    t->s.gpr[14] = 0;
    expect(t, X86_DE);
    t->s.gpr[14] = 1;
    t->s.gpr[X86_RDX] = 1;
    expect(t, X86_DE);
    t->s.gpr[X86_RDX] = 0;
    TWIN_HEAT(t, divide_signed);
    t->s.gpr[14] = 3;
    t->s.gpr[X86_RDX] = 5; /* a quotient of more than 64 bits */
    expect(t, X86_DE);
    t->s.gpr[14] = 0;
    t->s.gpr[X86_RDX] = 0;
    expect(t, X86_DE);
    TWIN_HEAT(t, divide_memory);
    twin_set(t, DATA + 0x10, 8, 0);
    expect(t, X86_DE);
}

static void a_jump_to_an_undefined_opcode_faults_there(void **state) {
    static const uint8_t ud2[] = {0x0f, 0x0b};
    struct twin *t = *state;

    t->heat[14] = BOX_CODE + (uint64_t)(undefined_end - undefined);
    TWIN_HEAT(t, undefined);
    twin_put(t, BOX_CODE + 0x800, ud2, 2);
    t->s.gpr[14] = BOX_CODE + 0x800;
    expect(t, X86_UD);
    assert_int_equal(t->fault.rip, BOX_CODE + 0x800);
}

static void addresses_that_are_not_canonical_fault(void **state) {
    static const uint64_t bad[] = {0x8000000000000000ull, 0x0000800000000000ull,
                                   0xffff7ffffffff000ull, 0x0001000000100000ull,
                                   0x4000000000100000ull, 0xfffe000000100000ull};
    struct twin *t = *state;

    t->heat[14] = DATA;
    t->heat[13] = 0;
    t->s.gpr[13] = 0;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        TWIN_HEAT(t, load_anywhere);
        t->s.gpr[14] = bad[i];
        expect(t, X86_GP);
    }
    TWIN_HEAT(t, store_anywhere);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        t->s.gpr[14] = bad[i];
        expect(t, X86_GP);
    }
    t->heat[14] = BOX_STACK0;
    TWIN_HEAT(t, stack_anywhere);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        t->s.gpr[14] = bad[i] + 0x100;
        expect(t, X86_SS);
    }
}

static void aligned_operands_fault_when_they_are_not(void **state) {
    static const struct {
        const uint8_t *start, *end;
        unsigned align;
    } insn[] = {
        {aligned_load, aligned_load_end, 16},         {aligned_store, aligned_store_end, 16},
        {aligned_add, aligned_add_end, 16},           {aligned_vex, aligned_vex_end, 32},
        {aligned_exchange, aligned_exchange_end, 16}, {unaligned_vex, unaligned_vex_end, 1}};
    struct twin *t = *state;

    for (unsigned i = 0; i < sizeof(insn) / sizeof(insn[0]); i++) {
        t->heat[14] = DATA;
        twin_heat_at(t, BOX_CODE, insn[i].start, insn[i].end);
        for (unsigned off = 0; off < 64; off++) {
            t->s.gpr[14] = DATA + off;
            expect(t, off % insn[i].align ? X86_GP : ~0u);
        }
        t->s.gpr[14] = DATA + 0xff8; /* across pages */
        expect(t, insn[i].align > 1 ? X86_GP : ~0u);
    }
}

/* The last page of the lower half: direct branches out of it lead nowhere. */
GUEST(top_call, ".code64", "cmp $0, %r13\n jne 1f\n call 1f+0x1000\n 1: add $3, %r8");
GUEST(top_jump, ".code64", "cmp $0, %r13\n jne 1f\n jmp 1f+0x1000\n 1: add $3, %r8");
GUEST(top_branch, ".code64", "cmp $0, %r13\n je 1f+0x1000\n 1: add $3, %r8");
GUEST(top_ret, ".code64", "push %r14\n cmp $0, %r13\n jne 1f\n ret $8\n 1: pop %r8");
GUEST(top_indirect, ".code64",
      "mov %r14, %r9\n cmp $0, %r13\n jne 1f\n call *%r9\n 1: add $3, %r8");

static void branches_out_of_the_address_space_fault(void **state) {
    static const struct {
        const uint8_t *start, *end;
    } code[] = {{top_call, top_call_end},
                {top_jump, top_jump_end},
                {top_branch, top_branch_end},
                {top_ret, top_ret_end},
                {top_indirect, top_indirect_end}};
    struct twin *t = *state;

    twin_set(t, BOX_PML4 + 255 * 8, 8, 0x2007);
    twin_set(t, 0x2000 + 511 * 8, 8, 0x3007);
    twin_set(t, 0x3000 + 511 * 8, 8, 0x4007);
    t->heat[14] = t->s.gpr[14] = 0x0000800000000010ull;
    for (unsigned i = 0; i < sizeof(code) / sizeof(code[0]); i++) {
        const uint64_t top = 0x00007ffffffff000ull;
        t->heat[13] = 1;
        twin_heat_at(t, 0x1ffe00, code[i].start, code[i].end);
        for (unsigned n = 0; n < 12; n++) { /* hot from the eighth time on */
            t->s.rip = top + 0xe00;
            t->s.gpr[13] = 0;
            expect(t, X86_GP);
        }
    }
}

static void a_read_across_the_end_of_the_lower_half_faults(void **state) {
    struct twin *t = *state;

    twin_set(t, BOX_PML4 + 255 * 8, 8, 0x2007);
    twin_set(t, BOX_PML4 + 256 * 8, 8, 0x2007); /* what it would read */
    twin_set(t, 0x2000 + 511 * 8, 8, 0x3007);
    twin_set(t, 0x3000 + 511 * 8, 8, 0x4007);
    t->heat[14] = DATA;
    TWIN_HEAT(t, load_anywhere);
    t->s.gpr[14] = 0x00007ffffffffffcull;
    expect(t, X86_GP);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(any_access_of_a_hot_block_can_fault, setup, teardown),
        cmocka_unit_test_setup_teardown(without_liveness_every_frame_has_all_flags, setup_exact,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            an_access_across_pages_faults_on_either_and_leaves_nothing_half_done, setup, teardown),
        cmocka_unit_test_setup_teardown(
            an_access_across_pages_faults_though_its_first_page_is_well_known, setup, teardown),
        cmocka_unit_test_setup_teardown(stack_and_string_instructions_can_fault_on_every_access,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_fault_of_popf_has_the_flags_from_before, setup, teardown),
        cmocka_unit_test_setup_teardown(divisions_fault_in_hot_code, setup, teardown),
        cmocka_unit_test_setup_teardown(a_jump_to_an_undefined_opcode_faults_there, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(addresses_that_are_not_canonical_fault, setup, teardown),
        cmocka_unit_test_setup_teardown(branches_out_of_the_address_space_fault, setup, teardown),
        cmocka_unit_test_setup_teardown(a_read_across_the_end_of_the_lower_half_faults, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(aligned_operands_fault_when_they_are_not, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
