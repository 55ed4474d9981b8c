/* SPDX-License-Identifier: GPL-2.0-or-later */
/* 32-bit code that is hot: segments that stop being flat, addresses that wrap at 4 GiB, changes
 * between 64-bit and 32-bit code. Interpreter and translator run it side by side. Source: SDM
 * vol. 3A 3.2 (flat model), 3.4.5 (limits), vol. 1 3.3.4 (wrap), vol. 3A 9.8.5 (submodes). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/trace.h"
#include "cpu/twin.h"

enum { HIGH_PAGE = 0x90000, HIGH_TABLE = 0x4000, ROUNDS = 4000 };

static struct twin twin;

static int setup(void **state) {
    twin_new(&twin, false);
    for (unsigned i = 0; i < 2; i++)
        box_protected(&twin.box[i], true);
    twin.s = twin.box[0].s;
    /* The last page of 4 GiB, next to page 0. */
    twin_set(&twin, BOX_PML4 + 1023 * 4, 4, HIGH_TABLE | 7);
    twin_set(&twin, HIGH_TABLE + 1023 * 4, 4, HIGH_PAGE | 7);
    for (unsigned i = 0; i < 0x40; i++)
        twin_set(&twin, BOX_DATA + 0x1000 * i, 4, 0x01010101 * (i + 1));
    return 0;
}

static int setup_long(void **state) {
    twin_new(&twin, false);
    for (unsigned v = 0; v < 0x20; v++)
        for (unsigned i = 0; i < 2; i++)
            box_gate(&twin.box[i], v, BOX_CS64, BOX_STUBS + v * 16, 14, 0, 0);
    return 0;
}

static int teardown(void **state) {
    twin_done(&twin);
    return 0;
}

/* Runs code at `at` in both; says how many blocks of 32-bit code were translated. */
static uint64_t run(gpa at, uint64_t rip, const uint8_t *start, const uint8_t *end) {
    uint64_t before = stat_counts[STAT_jit_blocks32];

    twin_put(&twin, at, start, (size_t)(end - start));
    twin.s.rip = rip;
    twin_once(&twin);
    return stat_counts[STAT_jit_blocks32] - before;
}

#define RUN(name) run(BOX_CODE, BOX_CODE, name, name##_end)

static void expect(unsigned vector, uint64_t rip) {
    assert_int_equal(twin.fault.vector, vector);
    if (vector != ~0u)
        assert_int_equal(twin.fault.rip, rip);
}

static void descriptor(uint32_t base, uint32_t limit, uint32_t attr) {
    for (unsigned i = 0; i < 2; i++)
        box_desc(&twin.box[i], BOX_FREE, base, limit, attr);
}

/* ---- segments ---- */

/* Hot with the segments as they are, then DS, ES or SS becomes EDX, then what it was. */
#define SEGMENT(name, sreg, body)                                                                  \
    GUEST(name, ".code32",                                                                         \
          "mov $4000, %ecx\n 1: call 2f\n dec %ecx\n jnz 1b\n"                                     \
          "mov %" sreg ", %esi\n mov %edx, %" sreg "\n call 2f\n mov %esi, %" sreg "\n call 2f\n"  \
          "hlt\n .org " #name "+0x40, 0xcc\n 2:" body "\n ret")

SEGMENT(through_ds, "ds", "mov 0x50000, %eax\n add %eax, %ebx\n addl $3, 0x50010(%ecx)");
SEGMENT(through_es, "es", "mov %es:0x50000, %eax\n add %eax, %ebx\n addl $3, %es:0x50010");
SEGMENT(through_ss, "ss", "pushl 0x50000\n pop %eax\n add %eax, %ebx\n add %eax, 8(%esp)");
SEGMENT(moffs_ds, "ds", "mov 0x50000, %eax\n mov %al, 0x50020\n mov %eax, 0x50024\n inc %ebx");
enum { HOT_BODY = 0x40 }; /* of SEGMENT: where .org put it */

static void segment_case(const uint8_t *start, const uint8_t *end, uint16_t sel) {
    twin.s.gpr[X86_RDX] = sel;
    twin.s.gpr[X86_RBX] = 0;
    assert_true(run(BOX_CODE, BOX_CODE, start, end) > 0);
}

#define SEGMENT_CASE(name, sel) segment_case(name, name##_end, sel)

static void a_base_in_ds_es_or_ss_counts_from_the_next_access_on(void **state) {
    const uint32_t sum = (ROUNDS + 1) * 0x01010101u;

    descriptor(0x1000, 0xffffffff, 0xc093);
    SEGMENT_CASE(through_ds, BOX_FREE);
    expect(~0u, 0);
    assert_int_equal(twin.box[1].s.gpr[X86_RBX], (uint32_t)(sum + 0x02020202));
    SEGMENT_CASE(through_es, BOX_FREE);
    expect(~0u, 0);
    assert_int_equal(twin.box[1].s.gpr[X86_RBX], (uint32_t)(sum + 0x02020202));
    SEGMENT_CASE(through_ss, BOX_FREE);
    expect(~0u, 0);
    assert_int_equal(twin.box[1].s.gpr[X86_RBX], (uint32_t)(sum + 0x01010101));
    SEGMENT_CASE(moffs_ds, BOX_FREE);
    expect(~0u, 0);
}

static void limits_types_and_null_selectors_fault_in_hot_code(void **state) {
    descriptor(0, 0x4ffff, 0x4093); /* ends in front of the operand */
    SEGMENT_CASE(through_ds, BOX_FREE);
    expect(X86_GP, BOX_CODE + HOT_BODY);
    SEGMENT_CASE(through_es, BOX_FREE);
    expect(X86_GP, BOX_CODE + HOT_BODY);
    SEGMENT_CASE(moffs_ds, BOX_FREE);
    expect(X86_GP, BOX_CODE + HOT_BODY);
    descriptor(0, 0xffffffff, 0xc091); /* read-only: the load passes, the store does not */
    SEGMENT_CASE(through_ds, BOX_FREE);
    expect(X86_GP, BOX_CODE + HOT_BODY + 7);
    descriptor(0, 0xffffffff, 0xc09b); /* readable code */
    SEGMENT_CASE(through_ds, BOX_FREE);
    expect(X86_GP, BOX_CODE + HOT_BODY + 7);
    descriptor(0, 0x4ffff, 0x4097); /* expand-down: what is above is inside */
    SEGMENT_CASE(through_ds, BOX_FREE);
    expect(~0u, 0);
    descriptor(0, 0x50fff, 0x4097);
    SEGMENT_CASE(through_ds, BOX_FREE);
    expect(X86_GP, BOX_CODE + HOT_BODY);
    SEGMENT_CASE(through_ds, 0);
    expect(X86_GP, BOX_CODE + HOT_BODY);
    SEGMENT_CASE(through_es, 3);
    expect(X86_GP, BOX_CODE + HOT_BODY);
}

static void a_stack_of_16_bits_in_hot_code_moves_sp_alone(void **state) {
    descriptor(0, 0xfffff, 0x93);
    SEGMENT_CASE(through_ss, BOX_FREE);
    expect(~0u, 0);
}

GUEST(through_gs, ".code32",
      "mov %edx, %gs\n mov %edx, %fs\n mov $4000, %ecx\n 1: call 2f\n dec %ecx\n jnz 1b\n"
      "mov %esi, %gs\n call 2f\n mov %edi, %gs\n call 2f\n hlt\n .org through_gs+0x40, 0xcc\n"
      "2: mov %gs:0x1000, %eax\n add %eax, %ebx\n add %eax, %fs:-4\n"
      "push %ecx\n mov $-4, %ecx\n incl %gs:(%ecx)\n pop %ecx\n ret");

/* Linux keeps thread-local storage below a base in GS, and the kernel's own data behind FS. */
static void gs_and_fs_have_a_base_and_offsets_that_wrap(void **state) {
    descriptor(BOX_DATA, 0xffffffff, 0xc093);
    twin.s.gpr[X86_RDX] = BOX_FREE;
    twin.s.gpr[X86_RSI] = twin.s.gpr[X86_RDI] = BOX_FREE;
    assert_true(RUN(through_gs) > 0);
    expect(~0u, 0);
    assert_int_equal(box_get(&twin.box[1], BOX_DATA - 4, 4),
                     (uint32_t)((ROUNDS + 2) * (0x02020202u + 1)));
    twin.s.gpr[X86_RSI] = BOX_DS; /* flat: offset -4 is below 4 GiB */
    twin_set(&twin, 0x1000, 4, box_get(&twin.box[1], 0x1000, 4));
    RUN(through_gs);
    expect(~0u, 0);
    twin.s.gpr[X86_RSI] = 0; /* null */
    RUN(through_gs);
    expect(X86_GP, BOX_CODE + HOT_BODY);
    twin.s.gpr[X86_RSI] = BOX_DS16; /* 64 KiB: offset -4 is outside */
    RUN(through_gs);
    expect(X86_GP, BOX_CODE + HOT_BODY + 0x15);
}

/* The same code in a code segment with a base is the interpreter's. */
static void code_segments_with_a_base_are_not_translated(void **state) {
    descriptor(0x1000, 0xffffffff, 0xc093);
    twin.s.gpr[X86_RDX] = BOX_FREE;
    twin.s.seg[SEG_CS].base = 0x1000;
    assert_int_equal(run(BOX_CODE + 0x1000, BOX_CODE, through_ds, through_ds_end), 0);
    expect(~0u, 0);
    twin.s.seg[SEG_CS].base = 0;
    twin.s.seg[SEG_CS].limit = 0x7fffff;
    assert_int_equal(RUN(through_ds), 0);
}

/* ---- 4 GiB ---- */

/* Hot with ESI as given, then EDI. */
#define WRAP(name, body)                                                                           \
    GUEST(name, ".code32",                                                                         \
          "mov $4000, %ecx\n 1: call 2f\n dec %ecx\n jnz 1b\n mov %edi, %esi\n call 2f\n hlt\n"    \
          ".org " #name "+0x40, 0xcc\n 2:" body "\n ret")

WRAP(wrap_plus, "mov 0x50010(%esi), %eax\n lea 0x50010(%esi), %edx\n add %edx, 0x50020(%esi)");
WRAP(wrap_minus, "mov -0x10(%esi), %eax\n lea (%ebx,%eax), %ebx");
WRAP(wrap_index, "mov 0x50010(%esi,%esi,4), %eax\n add %eax, %ebx\n mov %ebx, 0x50020(,%esi,8)");
WRAP(wrap_read, "mov (%esi), %eax\n add %eax, %ebx\n movups (%esi), %xmm1");
WRAP(wrap_write, "add %ecx, (%esi)\n incw 2(%esi)");
WRAP(wrap_stack, "mov %esp, %ebp\n mov %esi, %esp\n push %ecx\n push $-7\n pop %eax\n pop %edx\n"
                 "add %eax, %ebx\n add %edx, %ebx\n mov %ebp, %esp");

static void wrap_case(const uint8_t *start, const uint8_t *end, uint32_t hot, uint32_t last) {
    twin.s.gpr[X86_RSI] = hot;
    twin.s.gpr[X86_RDI] = last;
    twin.s.gpr[X86_RBX] = 0;
    assert_true(run(BOX_CODE, BOX_CODE, start, end) > 0);
}

#define WRAP_CASE(name, hot, last) wrap_case(name, name##_end, hot, last)

static void effective_addresses_wrap_at_4_gib(void **state) {
    WRAP_CASE(wrap_plus, 0, 0xfffffff0);
    expect(~0u, 0);
    assert_int_equal(twin.box[1].s.gpr[X86_RAX], 0x01010101);
    assert_int_equal(twin.box[1].s.gpr[X86_RDX], 0x50000);
    WRAP_CASE(wrap_plus, 0xfffffff0, 0);
    expect(~0u, 0);
    WRAP_CASE(wrap_minus, 0x50010, 8);
    expect(~0u, 0);
    WRAP_CASE(wrap_minus, 8, 0x50010);
    expect(~0u, 0);
    WRAP_CASE(wrap_index, 0x100, 0xfffffffe);
    expect(~0u, 0);
    twin_set(&twin, HIGH_TABLE + 1023 * 4, 4, 0);
    WRAP_CASE(wrap_minus, 0x50010, 8);
    expect(X86_PF, BOX_CODE + HOT_BODY);
    assert_int_equal(twin.box[1].s.cr2, 0xfffffff8);
}

static void accesses_across_4_gib_go_on_at_0(void **state) {
    for (unsigned i = 0; i < 2; i++) {
        box_set(&twin.box[i], HIGH_PAGE + 0xffc, 4, 0x44332211);
        box_set(&twin.box[i], 0, 4, 0x88776655);
    }
    twin.s.cr4 |= X86_CR4_OSFXSR;
    for (uint32_t i = 1; i < 16; i += 2) {
        WRAP_CASE(wrap_read, BOX_DATA, 0u - i);
        expect(~0u, 0);
        WRAP_CASE(wrap_read, 0u - i, BOX_DATA);
        expect(~0u, 0);
        WRAP_CASE(wrap_write, BOX_DATA, 0u - i);
        expect(~0u, 0);
        WRAP_CASE(wrap_write, 0u - i, BOX_DATA);
        expect(~0u, 0);
    }
}

static void stacks_wrap_at_4_gib(void **state) {
    static const uint32_t top[] = {0, 4, 8, 2, 6, 0xfffffffe, 0xfffffffc};

    for (unsigned i = 0; i < sizeof(top) / sizeof(top[0]); i++) {
        WRAP_CASE(wrap_stack, BOX_STACK3, top[i]);
        expect(~0u, 0);
        WRAP_CASE(wrap_stack, top[i], BOX_STACK3);
        expect(~0u, 0);
    }
}

/* At the end of the last page: falls through, jumps and calls into page 0, and back. */
GUEST(high_end, ".code32", "inc %ebx\n nop\n .byte 0xe8\n .long 0x100"); /* call 0x100 */
GUEST(low_start, ".code32", "add $3, %ebx\n dec %ecx\n jz 1f\n .byte 0xe9\n .long -20\n 1: hlt");
GUEST(low_function, ".code32", "add (%esp), %edx\n inc %edx\n ret");

static void code_wraps_at_4_gib(void **state) {
    uint64_t before = stat_counts[STAT_jit_blocks32];

    twin_put(&twin, HIGH_PAGE + 0x1000 - 7, high_end, 7);
    twin_put(&twin, 0, low_start, (size_t)(low_start_end - low_start));
    twin_put(&twin, 0x100, low_function, (size_t)(low_function_end - low_function));
    twin_set(&twin, 7, 4, 0u - 11 - 7); /* the jump from page 0 backwards */
    twin.s.gpr[X86_RCX] = ROUNDS;
    twin.s.gpr[X86_RDX] = 0;
    twin.s.rip = 0xfffffff9;
    twin_once(&twin);
    expect(~0u, 0);
    assert_int_equal(twin.box[1].s.gpr[X86_RBX], 4 * ROUNDS);
    assert_int_equal(twin.box[1].s.gpr[X86_RDX], ROUNDS);
    assert_true(stat_counts[STAT_jit_blocks32] > before);
}

/* ---- kernels of 32 bits ---- */

GUEST(remap, ".code32",
      "mov $4000, %ecx\n 1: call *%edi\n dec %ecx\n jnz 1b\n"
      "mov %edx, 0x4ffc\n invlpg 0xfffff000\n call *%edi\n hlt");
GUEST(gives_1, ".code32", "add $1, %ebx\n ret");
GUEST(gives_100, ".code32", "add $100, %ebx\n ret");

static void invlpg_of_a_page_with_kernel_code_leads_to_the_new_page(void **state) {
    twin_put(&twin, HIGH_PAGE, gives_1, (size_t)(gives_1_end - gives_1));
    twin_put(&twin, HIGH_PAGE + 0x1000, gives_100, (size_t)(gives_100_end - gives_100));
    for (unsigned global = 0; global < 2; global++) {
        twin.s.cr4 = X86_CR4_PGE;
        twin_set(&twin, HIGH_TABLE + 1023 * 4, 4, HIGH_PAGE | 7 | global << 8);
        twin_set(&twin, 0x2000 + (BOX_CODE >> 12) * 4, 4, BOX_CODE | 7 | global << 8);
        twin.s.gpr[X86_RDX] = (HIGH_PAGE + 0x1000) | 7 | global << 8;
        twin.s.gpr[X86_RDI] = 0xfffff000;
        twin.s.gpr[X86_RBX] = 0;
        assert_true(RUN(remap) > 0);
        expect(~0u, 0);
        assert_int_equal(twin.box[1].s.gpr[X86_RBX], ROUNDS + 100);
    }
}

/* ---- long mode ---- */

/* One page holds a function that both submodes call: 40 C3 is RET with a prefix, or INC EAX; RET.
 * R12 is the far pointer to 32-bit code, which returns by another one. */
GUEST(submodes, ".code64",
      "mov $3000, %ecx\n"
      "1: xor %eax, %eax\n call 8f\n add %rax, %r8\n ljmpl *(%r12)\n"
      ".code32\n 2: xor %eax, %eax\n call 8f\n add %eax, %ebx\n add %eax, (%ebp)\n"
      "push $0x08\n push %edi\n lret\n"
      ".code64\n 3: inc %r9\n dec %ecx\n jnz 1b\n hlt\n"
      "8: .byte 0x40, 0xc3, 0xc3\n"
      ".globl submodes_32, submodes_64\n .set submodes_32, 2b\n .set submodes_64, 3b");
extern const uint8_t submodes_32[], submodes_64[];

static void the_same_bytes_run_as_64_bit_and_as_32_bit_code(void **state) {
    uint64_t before = stat_counts[STAT_jit_blocks32];
    uint64_t code32 = BOX_CODE + (uint64_t)(submodes_32 - submodes);

    twin_set(&twin, BOX_DATA, 8, code32 | (uint64_t)BOX_CS32 << 32);
    twin.s.gpr[12] = BOX_DATA;
    twin.s.gpr[X86_RBP] = BOX_DATA + 0x100;
    twin.s.gpr[X86_RDI] = BOX_CODE + (uint64_t)(submodes_64 - submodes);
    for (unsigned i = 10; i < 16; i++)
        if (i != 12)
            twin.s.gpr[i] = 0x1111111111111111ull * i;
    RUN(submodes);
    expect(~0u, 0);
    assert_int_equal(twin.box[1].s.gpr[8], 0);
    assert_int_equal(twin.box[1].s.gpr[9], 3000);
    assert_int_equal(twin.box[1].s.gpr[X86_RBX], 3000);
    assert_int_equal(box_get(&twin.box[1], BOX_DATA + 0x100, 4), 3000);
    for (unsigned i = 10; i < 16; i++)
        if (i != 12)
            assert_true(twin.box[1].s.gpr[i] == 0x1111111111111111ull * i);
    assert_true(stat_counts[STAT_jit_blocks32] > before);
}

/* 64-bit code reads at 4 GiB, so that the TLB has the page; then hot 32-bit code adds up to there.
 */
GUEST(above_4_gib, ".code64",
      "mov $0x100000010, %rax\n mov $4000, %ecx\n"
      "1: mov (%rax), %r8d\n dec %ecx\n jnz 1b\n ljmpl *(%r12)");
GUEST(below_4_gib, ".code32",
      "mov $4000, %ecx\n 1: call 2f\n dec %ecx\n jnz 1b\n mov %edi, %esi\n call 2f\n hlt\n"
      "2: mov 0x20(%esi), %ebx\n ret");

static void sums_above_4_gib_do_not_reach_what_64_bit_code_has_there(void **state) {
    enum { DIRECTORY = 0x91000, DIRECTORY3 = 0x92000, CODE32 = BOX_CODE + 0x1000 };
    uint64_t before = stat_counts[STAT_jit_blocks32];

    twin_set(&twin, 0x2000 + 4 * 8, 8, DIRECTORY | 7);
    twin_set(&twin, DIRECTORY, 8, 0x200087); /* a page of 2 MiB */
    twin_set(&twin, 0x200010, 4, 0xbad);
    twin_set(&twin, 0x10, 4, 0x600d);
    twin_set(&twin, 0x2000 + 3 * 8, 8, DIRECTORY3 | 7);
    twin_set(&twin, DIRECTORY3 + 511 * 8, 8, 0x400087); /* up to 4 GiB */
    twin_set(&twin, 0x5ffffe, 2, 0x2211);
    twin_set(&twin, 0x200000, 2, 0xbad);
    twin_set(&twin, BOX_DATA, 8, CODE32 | (uint64_t)BOX_CS32 << 32);
    twin_put(&twin, CODE32, below_4_gib, (size_t)(below_4_gib_end - below_4_gib));
    twin.s.gpr[12] = BOX_DATA;
    twin.s.gpr[X86_RSI] = BOX_DATA;
    twin.s.gpr[X86_RDI] = 0xfffffff0;
    RUN(above_4_gib);
    expect(~0u, 0);
    assert_int_equal(twin.box[1].s.gpr[8], 0xbad);
    assert_int_equal(twin.box[1].s.gpr[X86_RBX], 0x600d);
    twin.s.gpr[X86_RDI] = 0xffffffde; /* across, and on: in long mode nothing wraps there */
    RUN(above_4_gib);
    expect(~0u, 0);
    assert_int_equal(twin.box[1].s.gpr[X86_RBX], 0x0bad2211);
    assert_true(stat_counts[STAT_jit_blocks32] > before);
}

/* Level 3 in compatibility mode by SYSRET; INT 80h to a 64-bit handler, which counts in R8. */
GUEST(enter_user, ".code64", "sysretl");
GUEST(int80_user, ".code32",
      "mov $3000, %edx\n 1: mov %edx, %eax\n push %eax\n int $0x80\n pop %esi\n add %esi, %ebx\n"
      "cmp %eax, %esi\n jne 2f\n dec %edx\n jnz 1b\n 2: hlt");
GUEST(int80_kernel, ".code64", "inc %r8\n add %rax, %r9\n iretq");

static void int80_from_hot_compatibility_code_and_sysret_to_it(void **state) {
    enum { USER = BOX_CODE + 0x1000, KERNEL = BOX_CODE + 0x2000 };
    uint64_t before = stat_counts[STAT_jit_blocks32];

    for (unsigned i = 0; i < 2; i++) {
        box_desc(&twin.box[i], BOX_CS16, 0, 0xffffffff, 0xc0f3); /* SS of SYSRET: behind CS */
        box_gate(&twin.box[i], 0x80, BOX_CS64, KERNEL, 14, 3, 0);
    }
    twin_put(&twin, USER, int80_user, (size_t)(int80_user_end - int80_user));
    twin_put(&twin, KERNEL, int80_kernel, (size_t)(int80_kernel_end - int80_kernel));
    twin.s.star = (uint64_t)(BOX_CS32_3 | 3) << 48 | (uint64_t)BOX_CS64 << 32;
    twin.s.gpr[X86_RCX] = USER;
    twin.s.gpr[X86_RSP] = BOX_STACK3;
    twin.s.gpr[11] = X86_FLAG_FIXED;
    for (unsigned i = 0; i < 6; i++)
        if (i != SEG_CS && i != SEG_SS)
            twin.s.seg[i] = (struct x86_segment){BOX_DS3 | 3, 0xc0f3, 0xffffffff, 0};
    RUN(enter_user);
    expect(X86_GP, USER + (uint64_t)(int80_user_end - int80_user) - 1);
    assert_int_equal(twin.box[1].s.gpr[8], 3000);
    assert_int_equal(twin.box[1].s.gpr[9], 3000 * 3001 / 2);
    assert_int_equal(twin.box[1].s.gpr[X86_RBX], 3000 * 3001 / 2);
    assert_true(stat_counts[STAT_jit_blocks32] > before);
}

int main(void) {
#define TEST(name)      cmocka_unit_test_setup_teardown(name, setup, teardown)
#define LONG_TEST(name) cmocka_unit_test_setup_teardown(name, setup_long, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_base_in_ds_es_or_ss_counts_from_the_next_access_on),
        TEST(limits_types_and_null_selectors_fault_in_hot_code),
        TEST(a_stack_of_16_bits_in_hot_code_moves_sp_alone),
        TEST(gs_and_fs_have_a_base_and_offsets_that_wrap),
        TEST(code_segments_with_a_base_are_not_translated),
        TEST(effective_addresses_wrap_at_4_gib),
        TEST(accesses_across_4_gib_go_on_at_0),
        TEST(stacks_wrap_at_4_gib),
        TEST(code_wraps_at_4_gib),
        TEST(invlpg_of_a_page_with_kernel_code_leads_to_the_new_page),
        LONG_TEST(the_same_bytes_run_as_64_bit_and_as_32_bit_code),
        LONG_TEST(sums_above_4_gib_do_not_reach_what_64_bit_code_has_there),
        LONG_TEST(int80_from_hot_compatibility_code_and_sysret_to_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
