/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Segment loads, far transfers, call gates, returns between levels, virtual-8086 mode, hardware
 * tasks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/box.h"

static struct box box;

static int setup(void **state) {
    box_new(&box, NULL);
    *state = &box;
    return 0;
}

static int teardown(void **state) {
    box_done(&box);
    return 0;
}

static void expect(unsigned vector, uint64_t error) {
    struct box_frame f = box_fault(&box);

    assert_int_equal(f.vector, vector);
    assert_int_equal(f.error, error);
}

/* ------------------------------------------------------------------ MOV to segment registers */

GUEST(load_ds, ".code32", "mov %ax, %ds\n hlt");
GUEST(load_ss, ".code32", "mov %ax, %ss\n hlt");
GUEST(load_cs, ".code32", ".byte 0x8e, 0xc8\n hlt");
GUEST(use_ds, ".code32", "mov %ax, %ds\n mov 0x10, %ebx\n hlt");
GUEST(load_ss64, ".code64", "mov %ax, %ss\n hlt");
GUEST(load_ds64, ".code64", "mov %ax, %ds\n mov %ds, %rbx\n hlt");
GUEST(push_pop, ".code64", "push %fs\n pop %gs\n mov %gs, %eax\n hlt");
GUEST(lds_32, ".code32", "lds 0x50000, %ecx\n hlt");

static void try_load(const uint8_t *start, const uint8_t *end, uint16_t sel, bool ring3) {
    box.s.gpr[X86_RAX] = sel;
    if (ring3)
        box_ring3(&box);
    box_exec(&box, start, end);
}

#define LOAD(name, sel, ring3) try_load(name, name##_end, sel, ring3)

static void data_segments_are_checked_in_order(void **state) {
    box_protected(&box, false);
    LOAD(load_ds, 0x80, false); /* past the table */
    expect(X86_GP, 0x80);
    box_protected(&box, false);
    LOAD(load_ds, BOX_TR, false); /* a system descriptor */
    expect(X86_GP, BOX_TR);
    box_protected(&box, false);
    box_desc(&box, BOX_FREE, 0, 0xfff, 0x99); /* execute-only code */
    LOAD(load_ds, BOX_FREE, false);
    expect(X86_GP, BOX_FREE);
    box_protected(&box, false);
    LOAD(load_ds, BOX_DS | 3, false); /* RPL above DPL */
    expect(X86_GP, BOX_DS);
    box_protected(&box, false);
    LOAD(load_ds, BOX_DS, true); /* CPL above DPL */
    expect(X86_GP, BOX_DS);
    box_protected(&box, false);
    box_desc(&box, BOX_FREE, 0, 0xfff, 0x13); /* not present */
    LOAD(load_ds, BOX_FREE, false);
    expect(X86_NP, BOX_FREE);
    box_protected(&box, false);
    LOAD(load_ds, 0x0c, false); /* LDT without an LDT */
    expect(X86_GP, 0x0c);
}

static void a_load_sets_the_accessed_bit_and_the_hidden_part(void **state) {
    box_protected(&box, false);
    box_desc(&box, BOX_FREE, BOX_DATA, 0x12345fff, 0x8092);
    LOAD(load_ds, BOX_FREE, false);
    assert_true(box_halted_quietly(&box));
    assert_int_equal(box.s.seg[SEG_DS].base, BOX_DATA);
    assert_int_equal(box.s.seg[SEG_DS].limit, 0x12345fff);
    assert_int_equal(box_get(&box, BOX_GDT + BOX_FREE + 5, 1), 0x93);
}

static void a_null_data_segment_faults_when_used(void **state) {
    box_protected(&box, false);
    LOAD(use_ds, 3, false);
    expect(X86_GP, 0);
    assert_int_equal(box.s.seg[SEG_DS].sel, 3);
    assert_int_equal(box_fault(&box).rip, BOX_CODE + 2);
}

static void stack_segments_have_rules_of_their_own(void **state) {
    box_protected(&box, false);
    LOAD(load_ss, 0, false);
    expect(X86_GP, 0);
    box_protected(&box, false);
    LOAD(load_ss, BOX_DS3 | 3, false);
    expect(X86_GP, BOX_DS3);
    box_protected(&box, false);
    box_desc(&box, BOX_FREE, 0, 0xfff, 0x91); /* read-only */
    LOAD(load_ss, BOX_FREE, false);
    expect(X86_GP, BOX_FREE);
    box_protected(&box, false);
    box_desc(&box, BOX_FREE, 0, 0xfff, 0x13);
    LOAD(load_ss, BOX_FREE, false);
    expect(X86_SS, BOX_FREE);
    box_protected(&box, false);
    LOAD(load_cs, BOX_CS32, false);
    expect(X86_UD, 0);
}

static void a_null_stack_segment_is_allowed_in_inner_64_bit_code(void **state) {
    box_long(&box);
    LOAD(load_ss64, 0, false);
    assert_true(box_halted_quietly(&box));
    box_long(&box);
    LOAD(load_ss64, 3, false);
    expect(X86_GP, 0);
    box_long(&box);
    LOAD(load_ss64, 3, true);
    expect(X86_GP, 0);
    box_long(&box);
    LOAD(load_ds64, 0, false);
    assert_int_equal(box.s.gpr[X86_RBX], 0);
}

static void push_and_pop_move_selectors(void **state) {
    box_long(&box);
    box.s.seg[SEG_FS] =
        (struct x86_segment){.sel = BOX_DS3, .attr = 0xc0f3, .limit = ~0u, .base = 0x1234};
    BOX_EXEC(&box, push_pop);
    assert_int_equal(box.s.gpr[X86_RAX], BOX_DS3);
    assert_int_equal(box.s.gpr[X86_RSP], BOX_STACK0);
    assert_int_equal(box.s.seg[SEG_GS].base, 0);
}

static void lds_loads_both_or_nothing(void **state) {
    box_protected(&box, false);
    box_set(&box, BOX_DATA, 8, (uint64_t)BOX_DS16 << 32 | 0x89abcdef);
    BOX_EXEC(&box, lds_32);
    assert_int_equal(box.s.gpr[X86_RCX], 0x89abcdef);
    assert_int_equal(box.s.seg[SEG_DS].sel, BOX_DS16);
    box_protected(&box, false);
    box_set(&box, BOX_DATA, 8, 0x88ull << 32 | 0x89abcdef);
    BOX_EXEC(&box, lds_32);
    expect(X86_GP, 0x88);
    assert_int_equal(box.s.gpr[X86_RCX], 0);
}

/* ------------------------------------------------------------------ LAR, LSL, VERR, VERW, ARPL */

GUEST(look, ".code32",
      "lar %ax, %ebx\n setz %cl\n lsl %ax, %edx\n setz %ch\n"
      "verr %ax\n setz %al\n mov %al, %ah\n hlt");
GUEST(look_verw, ".code32", "verw %ax\n setz %bl\n hlt");
GUEST(arpl, ".code32",
      "mov $0x10, %eax\n mov $3, %ebx\n arpl %bx, %ax\n setz %cl\n arpl %bx, %ax\n setz %ch\n hlt");

static void lar_lsl_and_verr_tell_what_may_be_used(void **state) {
    box_protected(&box, false);
    box.s.gpr[X86_RAX] = BOX_DS;
    BOX_EXEC(&box, look);
    assert_int_equal(box.s.gpr[X86_RBX], 0xcf9300); /* the limit bits too, as processors do */
    assert_int_equal(box.s.gpr[X86_RDX], 0xffffffff);
    assert_int_equal(box.s.gpr[X86_RCX], 0x101);
    assert_int_equal(box.s.gpr[X86_RAX] & 0xff, 1);

    box_protected(&box, false);
    box.s.gpr[X86_RAX] = BOX_TR;
    BOX_EXEC(&box, look);
    assert_int_equal(box.s.gpr[X86_RBX], 0x8b00);
    assert_int_equal(box.s.gpr[X86_RDX], 0x67);
    assert_int_equal(box.s.gpr[X86_RAX] & 0xff, 0);

    box_protected(&box, false);
    box.s.gpr[X86_RAX] = 0x80; /* outside: no fault, ZF clear, registers kept */
    BOX_EXEC(&box, look);
    assert_int_equal(box.s.gpr[X86_RBX] | box.s.gpr[X86_RCX], 0);

    box_protected(&box, false);
    box_desc(&box, BOX_FREE, 0, 0xfff, 0x8e); /* an interrupt gate: neither */
    box.s.gpr[X86_RAX] = BOX_FREE;
    BOX_EXEC(&box, look);
    assert_int_equal(box.s.gpr[X86_RCX], 0);
}

static void verw_wants_writable_data(void **state) {
    const struct {
        uint16_t sel, ok;
    } tries[] = {{BOX_DS, 1}, {BOX_CS32, 0}, {BOX_DS | 3, 0}, {0, 0}};

    for (unsigned i = 0; i < 4; i++) {
        box_protected(&box, false);
        box.s.gpr[X86_RAX] = tries[i].sel;
        BOX_EXEC(&box, look_verw);
        assert_int_equal(box.s.gpr[X86_RBX] & 1, tries[i].ok);
    }
}

static void arpl_raises_the_rpl(void **state) {
    box_protected(&box, false);
    BOX_EXEC(&box, arpl);
    assert_int_equal(box.s.gpr[X86_RAX], 0x13);
    assert_int_equal(box.s.gpr[X86_RCX], 1); /* the second time nothing is left to do */
}

/* ------------------------------------------------------------------ far branches */

GUEST(jump_16, ".code32", "ljmp $0x40, $0x0010");
GUEST(in_16, ".code16", "mov $0x1234, %cx\n hlt");
GUEST(call_far_32, ".code32", "lcall $0x18, $0x50000\n mov %eax, %ebx\n hlt");
GUEST(called, ".code32", "mov $77, %eax\n lret");
GUEST(to_compat, ".code64", "push $0x18\n push $0x50000\n lretq");
GUEST(in_compat, ".code32", "mov $-1, %eax\n inc %eax\n ljmp $0x08, $0x50100");
GUEST(back_in_64, ".code64", "mov %rsp, %rbx\n movabs $0x123456789a, %rcx\n hlt");
GUEST(jump_bad, ".code32", "ljmp $0x10, $0x50000");
GUEST(jump_beyond, ".code32", "ljmp $0x40, $0x10000");

static void a_far_jump_changes_the_code_size(void **state) {
    box_protected(&box, false);
    box_desc(&box, BOX_CS16, BOX_DATA, 0xffff, 0x9b);
    box_put(&box, BOX_DATA + 0x10, in_16, (size_t)(in_16_end - in_16));
    BOX_EXEC(&box, jump_16);
    assert_int_equal(box.s.gpr[X86_RCX], 0x1234);
    assert_int_equal(box.s.seg[SEG_CS].sel, BOX_CS16);
}

static void a_far_call_comes_back(void **state) {
    box_protected(&box, true);
    box_put(&box, BOX_DATA, called, (size_t)(called_end - called));
    BOX_EXEC(&box, call_far_32);
    assert_true(box_halted_quietly(&box));
    assert_int_equal(box.s.gpr[X86_RBX], 77);
    assert_int_equal(box.s.gpr[X86_RSP], BOX_STACK0);
}

static void a_far_jump_to_data_or_past_the_limit_is_refused(void **state) {
    box_protected(&box, false);
    BOX_EXEC(&box, jump_bad);
    expect(X86_GP, BOX_DS);
    box_protected(&box, false);
    BOX_EXEC(&box, jump_beyond);
    expect(X86_GP, 0);
}

static void code_goes_to_compatibility_mode_and_back(void **state) {
    box_long(&box);
    box.s.gpr[X86_RAX] = 0xfff0000000000000;
    box_put(&box, BOX_DATA, in_compat, (size_t)(in_compat_end - in_compat));
    box_put(&box, BOX_DATA + 0x100, back_in_64, (size_t)(back_in_64_end - back_in_64));
    BOX_EXEC(&box, to_compat);
    assert_true(box_halted_quietly(&box));
    assert_int_equal(box.s.gpr[X86_RAX], 0);
    assert_int_equal(box.s.gpr[X86_RCX], 0x123456789a);
    assert_int_equal(box.s.gpr[X86_RBX], BOX_STACK0);
}

/* ------------------------------------------------------------------ call gates */

GUEST(through_gate, ".code32",
      "push $0x1111\n push $0x2222\n lcall $0x63, $0\n mov %esp, %ebx\n mov %ds, %ecx\n"
      "int $0x40");
GUEST(gated, ".code32", "mov 8(%esp), %eax\n mov 12(%esp), %edx\n mov %ss, %esi\n lret $8");
GUEST(through_gate64, ".code64",
      ".byte 0xff, 0x1c, 0x25, 0x00, 0x01, 0x05, 0x00\n mov %rsp, %rbx\n int $0x40");
GUEST(gated64, ".code64", "mov %cs, %eax\n mov 24(%rsp), %edx\n lretq");

static void make_gate(unsigned sel, uint16_t cs, uint32_t offset, unsigned type, unsigned dpl,
                      unsigned params) {
    box_set(&box, BOX_GDT + sel, 8,
            (offset & 0xffff) | (uint64_t)cs << 16 | (uint64_t)params << 32 |
                (uint64_t)(0x80 | dpl << 5 | type) << 40 | (uint64_t)(offset >> 16) << 48);
}

static void a_call_gate_copies_parameters_to_the_inner_stack(void **state) {
    box_protected(&box, true);
    box_ring3(&box);
    make_gate(BOX_FREE, BOX_CS32, BOX_DATA, 12, 3, 2);
    box_gate(&box, 0x40, BOX_CS32, BOX_STUBS + 0x40 * 16, 14, 3, 0);
    box_put(&box, BOX_DATA, gated, (size_t)(gated_end - gated));
    BOX_EXEC(&box, through_gate);
    assert_int_equal(box_fault(&box).vector, 0x40);
    assert_int_equal(box.s.gpr[X86_RAX], 0x2222);
    assert_int_equal(box.s.gpr[X86_RDX], 0x1111);
    assert_int_equal(box.s.gpr[X86_RSI], BOX_DS);
    assert_int_equal(box.s.gpr[X86_RBX], BOX_STACK3);
    assert_int_equal(box_fault(&box).cs, BOX_CS32_3 | 3);
}

static void a_call_gate_needs_its_dpl(void **state) {
    box_protected(&box, true);
    box_ring3(&box);
    make_gate(BOX_FREE, BOX_CS32, BOX_DATA, 12, 2, 0);
    BOX_EXEC(&box, through_gate);
    expect(X86_GP, BOX_FREE);
}

static void returning_outwards_drops_inner_data_segments(void **state) {
    box_protected(&box, true);
    box_ring3(&box);
    make_gate(BOX_FREE, BOX_CS32, BOX_DATA, 12, 3, 2);
    box_gate(&box, 0x40, BOX_CS32, BOX_STUBS + 0x40 * 16, 14, 3, 0);
    box_put(&box, BOX_DATA, "\xb8\x10\0\0\0\x8e\xd8\xca\x08\0",
            10); /* mov $10h, eax; mov ax, ds; lret 8 */
    BOX_EXEC(&box, through_gate);
    assert_int_equal(box_fault(&box).vector, 0x40);
    assert_int_equal(box.s.gpr[X86_RCX], 0);
    assert_true(box.s.seg[SEG_DS].attr & X86_ATTR_UNUSABLE);
    assert_false(box.s.seg[SEG_ES].attr & X86_ATTR_UNUSABLE);
}

static void a_64_bit_call_gate_has_sixteen_bytes_and_a_null_stack_segment(void **state) {
    box_long(&box);
    box_ring3(&box);
    make_gate(BOX_FREE, BOX_CS64, BOX_DATA, 12, 3, 0);
    box_set(&box, BOX_GDT + BOX_FREE + 8, 8, 0);
    box_gate(&box, 0x40, BOX_CS64, BOX_STUBS + 0x40 * 16, 14, 3, 0);
    box_set(&box, BOX_DATA + 0x100, 8, (uint64_t)(BOX_FREE | 3) << 32);
    box_put(&box, BOX_DATA, gated64, (size_t)(gated64_end - gated64));
    BOX_EXEC(&box, through_gate64);
    assert_int_equal(box_fault(&box).vector, 0x40);
    assert_int_equal(box.s.gpr[X86_RAX], BOX_CS64);
    assert_int_equal(box.s.gpr[X86_RDX], BOX_DS3 | 3);
    assert_int_equal(box.s.gpr[X86_RBX], BOX_STACK3);

    box_long(&box);
    box_ring3(&box);
    box_set(&box, BOX_GDT + BOX_FREE + 8, 8, 0x0a0000000000); /* a type in the upper half */
    BOX_EXEC(&box, through_gate64);
    expect(X86_GP, BOX_FREE);
}

/* ------------------------------------------------------------------ IRET */

GUEST(iret_bad_rpl, ".code64",
      "pushq $0x10\n pushq $0x20000\n pushfq\n pushq $0x31\n pushq $0x50000\n iretq");
GUEST(iret_user, ".code64",
      "pushq $0x2b\n pushq $0x30000\n pushq $0x3302\n pushq $0x33\n pushq $0x50000\n iretq");
GUEST(user_code, ".code64", "pushfq\n pop %rax\n int $0x40");
GUEST(user_selectors, ".code64", "mov %ds, %eax\n mov %es, %ecx\n mov %fs, %edx\n int $0x40");
GUEST(iret_away, ".code64",
      "pushq $0x2b\n pushq $0x30000\n pushq $2\n pushq $0x33\n"
      "mov $0x0000800000000000, %rax\n push %rax\n iretq");

static void iret_checks_the_code_segment(void **state) {
    box_long(&box);
    BOX_EXEC(&box, iret_bad_rpl); /* DPL 3, RPL 1 */
    expect(X86_GP, 0x30);
    box_long(&box);
    BOX_EXEC(&box, iret_away);
    expect(X86_GP, 0);
    assert_int_equal(box_fault(&box).cs, BOX_CS64);
}

static void iret_to_user_code_takes_flags_by_the_old_level(void **state) {
    box_long(&box);
    box_put(&box, BOX_DATA, user_code, (size_t)(user_code_end - user_code));
    box_gate(&box, 0x40, BOX_CS64, BOX_STUBS + 0x40 * 16, 14, 3, 0);
    box_set(&box, BOX_CODE, 1, 0);
    BOX_EXEC(&box, iret_user);
    assert_int_equal(box_fault(&box).vector, X86_DB); /* TF was in the image: after PUSHFQ */
    assert_int_equal(box_fault(&box).rip, BOX_DATA + 1);
    assert_int_equal(box_get(&box, BOX_STACK3 - 8, 8) & 0x3200, 0x3200);
}

GUEST(iret_with_nulls, ".code64",
      "mov $3, %eax\n mov %eax, %ds\n mov $2, %eax\n mov %eax, %fs\n mov $0x2b, %eax\n"
      "mov %eax, %es\n mov $0xc0000100, %ecx\n mov $0x1234, %eax\n xor %edx, %edx\n wrmsr\n"
      "pushq $0x2b\n pushq $0x30000\n pushq $2\n pushq $0x33\n pushq $0x50000\n iretq");

static void iret_to_an_outer_level_makes_null_selectors_zero(void **state) {
    box_long(&box);
    box_gate(&box, 0x40, BOX_CS64, BOX_STUBS + 0x40 * 16, 14, 3, 0);
    box_put(&box, BOX_DATA, user_selectors, (size_t)(user_selectors_end - user_selectors));
    BOX_EXEC(&box, iret_with_nulls);
    assert_int_equal(box_fault(&box).vector, 0x40);
    assert_int_equal(box.s.gpr[X86_RAX], 0);
    assert_int_equal(box.s.gpr[X86_RCX], 0x2b);
    assert_int_equal(box.s.gpr[X86_RDX], 0);
    assert_int_equal(box.s.seg[SEG_FS].base, 0x1234);
}

/* ------------------------------------------------------------------ virtual-8086 mode */

GUEST(to_v86, ".code32",
      "push $0x5000\n push $0x5100\n push $0x5200\n push $0x5300\n" /* GS FS DS ES */
      "push $0x3000\n push $0x100\n push $0x23002\n push $0x5000\n push $0\n iret");
GUEST(to_v86_iopl0, ".code32",
      "push $0\n push $0\n push $0\n push $0\n"
      "push $0x3000\n push $0x100\n push $0x20002\n push $0x5000\n push $0\n iret");
GUEST(v86_code, ".code16", "mov %ds, %ax\n push $0x1234\n pushf\n pop %bx\n int $0x40");
GUEST(v86_int, ".code16", "int $0x40");
GUEST(v86_hlt, ".code16", "hlt");

static void v86_code_runs_and_leaves_through_the_idt(void **state) {
    struct box_frame f;

    box_protected(&box, true);
    box_gate(&box, 0x40, BOX_CS32, BOX_STUBS + 0x40 * 16, 14, 3, 0);
    box_put(&box, BOX_DATA, v86_code, (size_t)(v86_code_end - v86_code));
    BOX_EXEC(&box, to_v86);
    f = box_fault(&box);
    assert_int_equal(f.vector, 0x40);
    assert_int_equal(f.cs, 0x5000);
    assert_int_equal(f.ss, 0x3000);
    assert_int_equal(f.sp, 0xfe);
    assert_true(f.flags & X86_FLAG_VM);
    assert_int_equal(box.s.gpr[X86_RAX] & 0xffff, 0x5200);
    assert_int_equal(box_get(&box, 0x300fe, 2), 0x1234);
    assert_int_equal(box_get(&box, box.s.gpr[X86_RSP] + 6 * 4, 4), 0x5300); /* ES */
    assert_int_equal(box_get(&box, box.s.gpr[X86_RSP] + 9 * 4, 4), 0x5000); /* GS */
    assert_true(box.s.seg[SEG_DS].attr & X86_ATTR_UNUSABLE);
    assert_false(box.s.rflags & X86_FLAG_VM);
    assert_int_equal(box.ref->cpl, 0);
}

static void v86_code_with_a_low_iopl_traps_to_its_monitor(void **state) {
    box_protected(&box, true);
    box_gate(&box, 0x40, BOX_CS32, BOX_STUBS + 0x40 * 16, 14, 3, 0);
    box_put(&box, BOX_DATA, v86_int, (size_t)(v86_int_end - v86_int));
    BOX_EXEC(&box, to_v86_iopl0);
    expect(X86_GP, 0);
    assert_int_equal(box_fault(&box).rip, 0);
    box_protected(&box, true);
    box_put(&box, BOX_DATA, v86_hlt, (size_t)(v86_hlt_end - v86_hlt));
    BOX_EXEC(&box, to_v86);
    expect(X86_GP, 0);
}

/* ------------------------------------------------------------------ tasks */

GUEST(jump_task, ".code32", "mov $5, %eax\n ljmp $0x60, $0\n hlt");
GUEST(call_task, ".code32", "mov $5, %eax\n lcall $0x60, $0\n mov %eax, %ebx\n hlt");
GUEST(task_code, ".code32", "inc %ecx\n hlt");
GUEST(task_return, ".code32", "inc %ecx\n iret");
GUEST(bad_stack, ".code32", "mov $0xfff00000, %esp\n push %eax\n hlt");

static void make_task(uint32_t eip, uint32_t flags) {
    struct {
        unsigned at;
        uint32_t value;
    } fields[] = {
        {28, BOX_PML4}, {32, eip},      {36, flags},     {44, 41},     {56, BOX_IST1},
        {72, BOX_DS},   {76, BOX_CS32}, {80, BOX_DS},    {84, BOX_DS}, {88, 0},
        {92, 0},        {96, 0},        {100, 0x680000},
    };

    for (unsigned i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        box_set(&box, BOX_TSS2 + fields[i].at, 4, fields[i].value);
    box_desc(&box, BOX_FREE, BOX_TSS2, 0x67, 0x89);
}

static void a_jump_to_a_task_saves_one_and_loads_the_other(void **state) {
    box_protected(&box, true);
    make_task(BOX_DATA, 2);
    box_put(&box, BOX_DATA, task_code, (size_t)(task_code_end - task_code));
    BOX_EXEC(&box, jump_task);
    assert_true(box_halted_quietly(&box));
    assert_int_equal(box.s.gpr[X86_RCX], 42);
    assert_int_equal(box.s.gpr[X86_RSP], BOX_IST1);
    assert_int_equal(box.s.tr.sel, BOX_FREE);
    assert_true(box.s.cr0 & X86_CR0_TS);
    assert_false(box.s.rflags & X86_FLAG_NT);
    assert_int_equal(box_get(&box, BOX_TSS + 40, 4), 5);             /* EAX */
    assert_int_equal(box_get(&box, BOX_TSS + 32, 4), BOX_CODE + 12); /* EIP after the jump */
    assert_int_equal(box_get(&box, BOX_GDT + BOX_FREE + 5, 1), 0x8b);
    assert_int_equal(box_get(&box, BOX_GDT + BOX_TR + 5, 1), 0x89);
}

static void a_called_task_returns_by_iret(void **state) {
    box_protected(&box, true);
    make_task(BOX_DATA, 2);
    box_put(&box, BOX_DATA, task_return, (size_t)(task_return_end - task_return));
    BOX_EXEC(&box, call_task);
    assert_true(box_halted_quietly(&box));
    assert_int_equal(box.s.gpr[X86_RBX], 5);
    assert_int_equal(box.s.tr.sel, BOX_TR);
    assert_int_equal(box_get(&box, BOX_TSS2, 2), BOX_TR);
    assert_int_equal(box_get(&box, BOX_TSS2 + 44, 4), 42);
    assert_int_equal(box_get(&box, BOX_GDT + BOX_FREE + 5, 1), 0x89);
    assert_int_equal(box_get(&box, BOX_GDT + BOX_TR + 5, 1), 0x8b);
}

static void a_busy_or_short_task_is_refused(void **state) {
    box_protected(&box, true);
    make_task(BOX_DATA, 2);
    box_desc(&box, BOX_FREE, BOX_TSS2, 0x67, 0x8b);
    BOX_EXEC(&box, jump_task);
    expect(X86_GP, BOX_FREE);
    box_protected(&box, true);
    box_desc(&box, BOX_FREE, BOX_TSS2, 0x66, 0x89);
    BOX_EXEC(&box, jump_task);
    expect(X86_TS, BOX_FREE);
}

static void a_task_gate_gives_the_double_fault_a_good_stack(void **state) {
    box_protected(&box, true);
    make_task(BOX_DATA, 2);
    box_set(&box, BOX_IDT + X86_DF * 8, 8, (uint64_t)BOX_FREE << 16 | 0x850000000000);
    box_put(&box, BOX_DATA, task_code, (size_t)(task_code_end - task_code));
    BOX_EXEC(&box, bad_stack);
    assert_true(box_halted_quietly(&box));
    assert_int_equal(box.s.gpr[X86_RCX], 42);
    assert_int_equal(box.s.gpr[X86_RSP], BOX_IST1 - 4);
    assert_int_equal(box_get(&box, BOX_IST1 - 4, 4), 0); /* the error code */
    assert_true(box.s.rflags & X86_FLAG_NT);
    assert_int_equal(box_get(&box, BOX_TSS + 56, 4), 0xfff00000);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(data_segments_are_checked_in_order),
        TEST(a_load_sets_the_accessed_bit_and_the_hidden_part),
        TEST(a_null_data_segment_faults_when_used),
        TEST(stack_segments_have_rules_of_their_own),
        TEST(a_null_stack_segment_is_allowed_in_inner_64_bit_code),
        TEST(push_and_pop_move_selectors),
        TEST(lds_loads_both_or_nothing),
        TEST(lar_lsl_and_verr_tell_what_may_be_used),
        TEST(verw_wants_writable_data),
        TEST(arpl_raises_the_rpl),
        TEST(a_far_jump_changes_the_code_size),
        TEST(a_far_call_comes_back),
        TEST(a_far_jump_to_data_or_past_the_limit_is_refused),
        TEST(code_goes_to_compatibility_mode_and_back),
        TEST(a_call_gate_copies_parameters_to_the_inner_stack),
        TEST(a_call_gate_needs_its_dpl),
        TEST(returning_outwards_drops_inner_data_segments),
        TEST(a_64_bit_call_gate_has_sixteen_bytes_and_a_null_stack_segment),
        TEST(iret_checks_the_code_segment),
        TEST(iret_to_user_code_takes_flags_by_the_old_level),
        TEST(iret_to_an_outer_level_makes_null_selectors_zero),
        TEST(v86_code_runs_and_leaves_through_the_idt),
        TEST(v86_code_with_a_low_iopl_traps_to_its_monitor),
        TEST(a_jump_to_a_task_saves_one_and_loads_the_other),
        TEST(a_called_task_returns_by_iret),
        TEST(a_busy_or_short_task_is_refused),
        TEST(a_task_gate_gives_the_double_fault_a_good_stack),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
