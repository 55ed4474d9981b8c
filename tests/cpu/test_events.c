/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Delivery of exceptions and interrupts in all modes: frames, error codes, stacks, double and
 * triple faults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/box.h"

GUEST(ud, ".code64", "nop\n ud2\n hlt");
GUEST(load_far_away, ".code64", "mov $0x12345678, %eax\n mov (%rax), %rbx\n hlt");
GUEST(store_far_away, ".code64", "mov $0x12345678, %eax\n mov %rbx, (%rax)\n hlt");
GUEST(int_40, ".code64", "int $0x40\n hlt");
GUEST(int_3, ".code64", "int3\n hlt");
GUEST(icebp, ".code64", ".byte 0xf1\n hlt");
GUEST(non_canonical, ".code64", "mov $0x8000000000000000, %rax\n mov (%rax), %rbx\n hlt");
GUEST(sti_nop_hlt, ".code64", "sti\n inc %rax\n inc %rax\n hlt");
GUEST(idle, ".code64", "sti\n hlt\n inc %rbx\n cli\n hlt");
GUEST(round_trip, ".code64", "int $0x41\n inc %rbx\n hlt");
GUEST(returner, ".code64", "inc %rcx\n iretq");
GUEST(ud32, ".code32", "nop\n ud2\n hlt");
GUEST(int_40_32, ".code32", "int $0x40\n hlt");
GUEST(into_32, ".code32", "mov $0x7fffffff, %eax\n inc %eax\n into\n hlt");
GUEST(bound_32, ".code32", "mov $5, %eax\n bound %eax, 0x50000\n hlt");
GUEST(divide, ".code64", "xor %ecx, %ecx\n div %ecx\n hlt");
GUEST(watched_ss, ".code64",
      "mov $0x50000, %eax\n mov %rax, %dr0\n mov $0xf0001, %eax\n mov %rax, %dr7\n"
      "xor %edx, %edx\n mov 0x50000, %ss\n inc %rdx\n inc %rdx\n hlt");
GUEST(stepped_ss, ".code64",
      "xor %edx, %edx\n mov %ss, %eax\n pushfq\n orl $0x100, (%rsp)\n popfq\n mov %eax, %ss\n inc "
      "%rdx\n inc %rdx\n"
      "hlt");
GUEST(forbidden_behind, ".code64",
      "mov $0x50000, %ebx\n stc\n mov (%rbx), %rax\n addps %xmm1, %xmm1\n add $1, %rax\n add $1, "
      "%rbx\n hlt");
GUEST(changes_if, ".code64", "inc %rax\n cli\n inc %rax\n sti\n inc %rax\n int $0x40");
GUEST(changes_if_32, ".code32", "inc %eax\n cli\n inc %eax\n sti\n inc %eax\n int $0x40");
GUEST(sets_if, ".code64", "inc %rax\n sti\n inc %rax");
GUEST(watched_ss_real, ".code16", "mov 0, %ss\n inc %dx\n inc %dx\n hlt");
GUEST(step_int, ".code64", "pushfq\n orl $0x100, (%rsp)\n popfq\n int $0x40");
GUEST(step_syscall, ".code64", "pushfq\n orl $0x100, (%rsp)\n popfq\n syscall");
GUEST(step, ".code64", "pushfq\n orl $0x100, (%rsp)\n popfq\n inc %rax\n inc %rax\n hlt");
GUEST(real_int, ".code16", "int $0x21\n mov %bx, %ax\n hlt");
GUEST(real_iret, ".code16", "inc %bx\n iret");

static int setup(void **state) {
    static struct box b;

    box_new(&b, NULL);
    *state = &b;
    return 0;
}

static int teardown(void **state) {
    box_done(*state);
    return 0;
}

/* ------------------------------------------------------------------ long mode */

static void a_fault_saves_the_faulting_instruction_with_rf_set(void **state) {
    struct box *b = *state;
    struct box_frame f;

    box_long(b);
    assert_int_equal(BOX_EXEC(b, ud), CPU_EXIT_HALT);
    f = box_fault(b);
    assert_int_equal(f.vector, X86_UD);
    assert_int_equal(f.rip, BOX_CODE + 1);
    assert_int_equal(f.cs, BOX_CS64);
    assert_int_equal(f.ss, BOX_DS);
    assert_int_equal(f.sp, BOX_STACK0);
    assert_true(f.flags & X86_FLAG_RF);
    assert_false(b->s.rflags & X86_FLAG_RF);
}

/* Whatever the code behind, which nobody executes, overwrites. */
static void a_fault_for_sure_saves_all_flags(void **state) {
    struct box *b = *state;

    box_long(b);
    b->s.cr0 |= X86_CR0_TS;
    BOX_EXEC(b, forbidden_behind);
    assert_int_equal(box_fault(b).vector, X86_NM);
    assert_true(box_fault(b).flags & X86_FLAG_CF);
}

static void a_fault_in_user_code_switches_to_the_stack_of_the_tss(void **state) {
    struct box *b = *state;
    struct box_frame f;

    box_long(b);
    box_ring3(b);
    b->s.rflags |= X86_FLAG_IF;
    assert_int_equal(BOX_EXEC(b, ud), CPU_EXIT_HALT);
    f = box_fault(b);
    assert_int_equal(f.vector, X86_UD);
    assert_int_equal(f.cs, BOX_CS64_3 | 3);
    assert_int_equal(f.ss, BOX_DS3 | 3);
    assert_int_equal(f.sp, BOX_STACK3);
    assert_true(f.flags & X86_FLAG_IF);
    assert_false(b->s.rflags & X86_FLAG_IF);
    assert_int_equal(b->s.gpr[X86_RSP], BOX_STACK0 - 6 * 8);
    assert_int_equal(b->s.seg[SEG_SS].sel, 0);
    assert_true(b->s.seg[SEG_SS].attr & X86_ATTR_UNUSABLE);
    assert_int_equal(b->ref->cpl, 0);
}

static void an_ist_stack_is_taken_and_aligned_even_without_a_change_of_level(void **state) {
    struct box *b = *state;
    struct box_frame f;

    box_long(b);
    box_gate(b, X86_UD, BOX_CS64, BOX_STUBS + X86_UD * 16, 14, 0, 1);
    box_set(b, BOX_TSS + 36, 8, BOX_IST1 - 3);
    BOX_EXEC(b, ud);
    f = box_fault(b);
    assert_int_equal(f.vector, X86_UD);
    assert_int_equal(b->s.gpr[X86_RSP], BOX_IST1 - 16 - 6 * 8);
    assert_int_equal(f.sp, BOX_STACK0);
    assert_int_equal(b->s.seg[SEG_SS].sel, BOX_DS);
}

static void the_stack_is_aligned_to_sixteen_bytes(void **state) {
    struct box *b = *state;

    box_long(b);
    b->s.gpr[X86_RSP] = BOX_STACK0 - 5;
    BOX_EXEC(b, ud);
    assert_int_equal(box_fault(b).sp, BOX_STACK0 - 5);
    assert_int_equal(b->s.gpr[X86_RSP], BOX_STACK0 - 16 - 6 * 8);
}

static void page_faults_tell_address_and_reason(void **state) {
    struct box *b = *state;
    struct box_frame f;

    box_long(b);
    BOX_EXEC(b, load_far_away);
    f = box_fault(b);
    assert_int_equal(f.vector, X86_PF);
    assert_int_equal(f.error, 0);
    assert_int_equal(b->s.cr2, 0x12345678);
    assert_int_equal(f.rip, BOX_CODE + 5);

    box_long(b);
    box_ring3(b);
    BOX_EXEC(b, store_far_away);
    f = box_fault(b);
    assert_int_equal(f.vector, X86_PF);
    assert_int_equal(f.error, 6); /* user, write, not present */
}

static void a_write_to_a_read_only_page_is_a_protection_fault(void **state) {
    struct box *b = *state;

    box_long(b);
    box_set(b, 0x4000 + 0x50 * 8, 8, BOX_DATA | 5);
    box_set(b, BOX_CODE + 1, 4, BOX_DATA);
    box_put(b, BOX_CODE, store_far_away, (size_t)(store_far_away_end - store_far_away));
    box_set(b, BOX_CODE + 1, 4, BOX_DATA);
    box_run(b);
    assert_int_equal(box_fault(b).vector, X86_PF);
    assert_int_equal(box_fault(b).error, 3);
    assert_int_equal(b->s.cr2, BOX_DATA);
}

static void a_non_canonical_address_is_a_general_protection_fault(void **state) {
    struct box *b = *state;

    box_long(b);
    BOX_EXEC(b, non_canonical);
    assert_int_equal(box_fault(b).vector, X86_GP);
    assert_int_equal(box_fault(b).error, 0);
}

static void division_by_zero_has_no_error_code(void **state) {
    struct box *b = *state;

    box_long(b);
    BOX_EXEC(b, divide);
    assert_int_equal(box_fault(b).vector, X86_DE);
    assert_int_equal(box_fault(b).rip, BOX_CODE + 2);
}

static void int_n_saves_the_next_instruction(void **state) {
    struct box *b = *state;
    struct box_frame f;

    box_long(b);
    BOX_EXEC(b, int_40);
    f = box_fault(b);
    assert_int_equal(f.vector, 0x40);
    assert_int_equal(f.rip, BOX_CODE + 2);
    assert_false(f.flags & X86_FLAG_RF);
}

static void int_n_from_user_code_needs_the_gates_permission(void **state) {
    struct box *b = *state;
    struct box_frame f;

    box_long(b);
    box_ring3(b);
    BOX_EXEC(b, int_40);
    f = box_fault(b);
    assert_int_equal(f.vector, X86_GP);
    assert_int_equal(f.error, 0x40 << 3 | 2); /* IDT, not external */
    assert_int_equal(f.rip, BOX_CODE);

    box_long(b);
    box_ring3(b);
    box_gate(b, 0x40, BOX_CS64, BOX_STUBS + 0x40 * 16, 15, 3, 0);
    BOX_EXEC(b, int_40);
    assert_int_equal(box_fault(b).vector, 0x40);
}

static void int3_obeys_the_gates_permission_and_icebp_does_not(void **state) {
    struct box *b = *state;

    box_long(b);
    box_ring3(b);
    BOX_EXEC(b, int_3);
    assert_int_equal(box_fault(b).vector, X86_GP);
    assert_int_equal(box_fault(b).error, 3 << 3 | 2);

    box_long(b);
    box_ring3(b);
    BOX_EXEC(b, icebp);
    assert_int_equal(box_fault(b).vector, X86_DB);
    assert_int_equal(box_fault(b).rip, BOX_CODE + 1);
}

static void a_trap_gate_leaves_interrupts_on(void **state) {
    struct box *b = *state;

    box_long(b);
    box_gate(b, X86_UD, BOX_CS64, BOX_STUBS + X86_UD * 16, 15, 0, 0);
    b->s.rflags |= X86_FLAG_IF;
    BOX_EXEC(b, ud);
    assert_int_equal(box_fault(b).vector, X86_UD);
    assert_true(b->s.rflags & X86_FLAG_IF);
}

static void an_absent_gate_is_reported_with_its_vector(void **state) {
    struct box *b = *state;

    box_long(b);
    box_set(b, BOX_IDT + 0x40 * 16 + 5, 1, 0x0e);
    BOX_EXEC(b, int_40);
    assert_int_equal(box_fault(b).vector, X86_NP);
    assert_int_equal(box_fault(b).error, 0x40 << 3 | 2);
}

static void an_exception_without_a_gate_reports_itself_as_external(void **state) {
    struct box *b = *state;

    box_long(b);
    box_set(b, BOX_IDT + X86_UD * 16 + 5, 1, 0x0e);
    BOX_EXEC(b, ud);
    assert_int_equal(box_fault(b).vector, X86_NP);
    assert_int_equal(box_fault(b).error, X86_UD << 3 | 3);
    assert_int_equal(box_fault(b).rip, BOX_CODE + 1);
}

static void a_sixteen_bit_gate_is_refused_in_long_mode(void **state) {
    struct box *b = *state;

    box_long(b);
    box_gate(b, 0x40, BOX_CS64, BOX_STUBS, 6, 0, 0);
    BOX_EXEC(b, int_40);
    assert_int_equal(box_fault(b).vector, X86_GP);
    assert_int_equal(box_fault(b).error, 0x40 << 3 | 2);
}

static void two_contributory_faults_make_a_double_fault(void **state) {
    struct box *b = *state;
    struct box_frame f;

    box_long(b);
    box_set(b, BOX_IDT + X86_GP * 16 + 5, 1,
            0x0e); /* #GP's gate absent: #NP while delivering #GP */
    BOX_EXEC(b, non_canonical);
    f = box_fault(b);
    assert_int_equal(f.vector, X86_DF);
    assert_int_equal(f.error, 0);
}

static void a_fault_on_the_way_to_the_double_fault_handler_shuts_down(void **state) {
    struct box *b = *state;

    box_long(b);
    box_set(b, BOX_IDT + X86_GP * 16 + 5, 1, 0x0e);
    box_set(b, BOX_IDT + X86_DF * 16 + 5, 1, 0x0e);
    assert_int_equal(BOX_EXEC(b, non_canonical), CPU_EXIT_SHUTDOWN);
    assert_int_equal(b->s.activity, X86_SHUTDOWN);
}

static void a_page_fault_on_the_handlers_stack_is_a_double_fault(void **state) {
    struct box *b = *state;

    box_long(b);
    box_ring3(b);
    box_set(b, BOX_TSS + 4, 8, 0x12345678); /* not mapped */
    box_gate(b, X86_DF, BOX_CS64, BOX_STUBS + X86_DF * 16, 14, 0, 1);
    BOX_EXEC(b, load_far_away);
    assert_int_equal(box_fault(b).vector, X86_DF);
    assert_int_equal(box_fault(b).sp, BOX_STACK3);
}

static void the_table_of_double_faults(void **state) {
    struct box *b = *state;
    const unsigned contributory[] = {X86_DE, X86_TS, X86_NP, X86_SS, X86_GP};

    for (unsigned i = 0; i < 5; i++) {
        unsigned v = contributory[i];

        for (unsigned k = 0; k < 5; k++)
            assert_int_equal(ref_combine(b->ref, v, contributory[k]), X86_DF);
        assert_int_equal(ref_combine(b->ref, v, X86_PF), X86_PF);
        assert_int_equal(ref_combine(b->ref, X86_PF, v), X86_DF);
        assert_int_equal(ref_combine(b->ref, X86_DF, v), -1);
        assert_int_equal(ref_combine(b->ref, X86_UD, v), v);
        assert_int_equal(ref_combine(b->ref, v, X86_UD), X86_UD);
    }
    assert_int_equal(ref_combine(b->ref, X86_PF, X86_PF), X86_DF);
    assert_int_equal(ref_combine(b->ref, X86_DF, X86_PF), -1);
    assert_int_equal(ref_combine(b->ref, X86_DF, X86_UD), X86_UD);
}

static void sti_holds_interrupts_for_one_instruction(void **state) {
    struct box *b = *state;
    struct box_frame f;

    box_long(b);
    b->vector = 0x50;
    b->cpu->ops->signal(b->cpu, CPU_SIGNAL_INTR_ON, 0);
    BOX_EXEC(b, sti_nop_hlt);
    f = box_fault(b);
    assert_int_equal(f.vector, 0x50);
    assert_int_equal(f.rip, BOX_CODE + 4); /* after the first INC */
    assert_int_equal(b->s.gpr[X86_RAX], 1);
}

static void cli_and_sti_need_iopl(void **state) {
    struct box *b = *state;

    for (unsigned mode = 0; mode < 3; mode++)
        for (unsigned iopl = 0; iopl < 4; iopl++) {
            const uint8_t *code = mode == 1 ? changes_if_32 : mode ? sets_if : changes_if;
            const uint8_t *end = mode == 1 ? changes_if_32_end
                                 : mode    ? sets_if_end
                                           : changes_if_end;

            if (mode == 1)
                box_protected(b, true);
            else
                box_long(b);
            box_ring3(b);
            box_gate(b, 0x40, mode == 1 ? BOX_CS32 : BOX_CS64, BOX_STUBS + 0x40 * 16, 14, 3, 0);
            b->s.rflags |= iopl << 12;
            if (mode == 2 && iopl == 3)
                continue;
            box_exec(b, code, end);
            assert_int_equal(box_fault(b).vector, iopl == 3 ? 0x40 : X86_GP);
            assert_int_equal(b->s.gpr[X86_RAX], iopl == 3 ? 3 : 1);
            assert_int_equal(box_fault(b).flags & X86_FLAG_IF, iopl == 3 ? X86_FLAG_IF : 0);
        }
}

static void an_interrupt_ends_a_halt(void **state) {
    struct box *b = *state;

    box_long(b);
    box_put(b, BOX_DATA, returner, (size_t)(returner_end - returner));
    box_gate(b, 0x51, BOX_CS64, BOX_DATA, 14, 0, 0);
    assert_int_equal(BOX_EXEC(b, idle), CPU_EXIT_HALT);
    assert_int_equal(b->s.gpr[X86_RBX], 0);
    b->vector = 0x51;
    b->cpu->ops->signal(b->cpu, CPU_SIGNAL_INTR_ON, 0);
    assert_int_equal(box_go_on(b), CPU_EXIT_HALT);
    assert_int_equal(b->s.gpr[X86_RBX], 1);
    assert_int_equal(b->s.gpr[X86_RCX], 1);
    assert_int_equal(b->s.gpr[X86_RSP], BOX_STACK0);
}

static void iret_from_user_code_comes_back_to_it(void **state) {
    struct box *b = *state;

    box_long(b);
    box_ring3(b);
    b->s.gpr[X86_RBX] = 7;
    box_put(b, BOX_DATA, returner, (size_t)(returner_end - returner));
    box_gate(b, 0x41, BOX_CS64, BOX_DATA, 14, 3, 0);
    BOX_EXEC(b, round_trip); /* its HLT is a #GP at level 3 */
    assert_int_equal(box_fault(b).vector, X86_GP);
    assert_int_equal(box_fault(b).cs, BOX_CS64_3 | 3);
    assert_int_equal(box_fault(b).sp, BOX_STACK3);
    assert_int_equal(b->s.gpr[X86_RBX], 8);
    assert_int_equal(b->s.gpr[X86_RCX], 1);
}

static void an_nmi_is_delivered_once_and_blocks_the_next(void **state) {
    struct box *b = *state;

    box_long(b);
    b->s.nmi_pending = true;
    BOX_EXEC(b, ud);
    assert_int_equal(box_fault(b).vector, X86_NMI);
    assert_int_equal(box_fault(b).rip, BOX_CODE);
    assert_true(b->s.nmi_blocked);
    b->cpu->ops->signal(b->cpu, CPU_SIGNAL_NMI, 0);
    assert_int_equal(box_go_on(b), CPU_EXIT_HALT);
    assert_true(b->s.nmi_pending);
}

static void iret_lets_the_next_nmi_in(void **state) {
    struct box *b = *state;

    box_long(b);
    box_put(b, BOX_DATA, returner, (size_t)(returner_end - returner));
    box_gate(b, X86_NMI, BOX_CS64, BOX_DATA, 14, 0, 0);
    b->s.nmi_blocked = b->s.nmi_pending = true;
    box_gate(b, 0x41, BOX_CS64, BOX_DATA, 14, 0, 0);
    BOX_EXEC(b, round_trip);
    assert_true(box_halted_quietly(b));
    assert_int_equal(b->s.gpr[X86_RCX], 2); /* INT's handler and, after its IRET, the NMI's */
    assert_false(b->s.nmi_pending);
    assert_false(b->s.nmi_blocked);
}

static void single_step_traps_after_the_instruction_behind_popf(void **state) {
    struct box *b = *state;
    struct box_frame f;

    box_long(b);
    BOX_EXEC(b, step);
    f = box_fault(b);
    assert_int_equal(f.vector, X86_DB);
    assert_int_equal(b->s.gpr[X86_RAX], 1);
    assert_true(f.flags & X86_FLAG_TF);
    assert_false(b->s.rflags & X86_FLAG_TF);
    assert_true(b->s.dr6 & 1 << 14);
}

static void debug_exceptions_of_a_load_of_ss_come_after_the_next_instruction(void **state) {
    struct box *b = *state;

    box_long(b);
    box_set(b, BOX_DATA, 2, BOX_DS);
    BOX_EXEC(b, watched_ss);
    assert_int_equal(box_fault(b).vector, X86_DB);
    assert_int_equal(b->s.gpr[X86_RDX], 1);
    assert_int_equal(b->s.dr6 & 0x400f, 1);

    box_long(b);
    BOX_EXEC(b, stepped_ss);
    assert_int_equal(box_fault(b).vector, X86_DB);
    assert_int_equal(b->s.gpr[X86_RDX], 1);
    assert_int_equal(b->s.dr6 & 0x400f, 0x4000);
}

static void kick(struct box *b) { b->cpu->ops->kick(b->cpu); }

/* The selector comes from a device, which has the processor leave behind the load. */
static void a_save_behind_a_load_of_ss_keeps_its_debug_exceptions(void **state) {
    const gpa device = 0x1000000;
    struct box *b = *state;

    box_real(b);
    b->s.seg[SEG_DS].base = device;
    b->s.dr[0] = device;
    b->s.dr7 = 0x70401;
    box_set(b, X86_DB * 4, 4, 0x0200 | 0x1000 << 16);
    box_put(b, BOX_CODE + 0x200, "\xf4", 1);
    b->on_io = kick;
    b->s.gpr[X86_RDX] = 0;
    assert_int_equal(BOX_EXEC(b, watched_ss_real), CPU_EXIT_KICK);
    b->on_io = NULL;
    assert_int_equal(b->s.shadow, 1);
    assert_int_equal(b->s.debug_pending, 1);
    assert_int_equal(b->s.gpr[X86_RDX], 0);
    assert_int_equal(box_go_on(b), CPU_EXIT_HALT);
    assert_int_equal(b->s.rip, 0x201);
    assert_int_equal(b->s.gpr[X86_RDX], 1);
    assert_int_equal(b->s.dr6 & 0x400f, 1);
    assert_int_equal(b->s.debug_pending, 0);
}

static void an_nmi_that_a_shadow_held_comes_behind_it(void **state) {
    struct box *b = *state;

    box_long(b);
    b->s.shadow = 1;
    b->s.nmi_pending = true;
    BOX_EXEC(b, divide);
    assert_int_equal(box_fault(b).vector, X86_NMI);
    assert_int_equal(box_fault(b).rip, BOX_CODE + 2); /* behind the first */
}

static void single_step_does_not_enter_handlers_that_clear_tf(void **state) {
    struct box *b = *state;

    box_long(b);
    box_gate(b, 0x40, BOX_CS64, BOX_STUBS + 0x40 * 16, 14, 0, 0);
    BOX_EXEC(b, step_int);
    assert_int_equal(box_fault(b).vector, 0x40);
    assert_true(box_fault(b).flags & X86_FLAG_TF);
    assert_false(b->s.dr6 & 1 << 14);

    for (unsigned masked = 0; masked < 2; masked++) {
        box_long(b);
        b->s.efer |= X86_EFER_SCE;
        b->s.star = (uint64_t)BOX_CS64 << 32;
        b->s.lstar = BOX_DATA;
        b->s.sfmask = masked ? X86_FLAG_TF : 0;
        box_put(b, BOX_DATA, "\xcd\x40", 2);
        box_gate(b, 0x40, BOX_CS64, BOX_STUBS + 0x40 * 16, 14, 0, 0);
        BOX_EXEC(b, step_syscall);
        assert_int_equal(box_fault(b).vector, masked ? 0x40 : X86_DB);
    }
}

/* ------------------------------------------------------------------ protected and real mode */

static void protected_mode_pushes_doublewords(void **state) {
    struct box *b = *state;
    struct box_frame f;

    box_protected(b, true);
    BOX_EXEC(b, ud32);
    f = box_fault(b);
    assert_int_equal(f.vector, X86_UD);
    assert_int_equal(f.rip, BOX_CODE + 1);
    assert_int_equal(b->s.gpr[X86_RSP], BOX_STACK0 - 4 * 4); /* no SS:ESP at the same level */
}

static void user_code_in_protected_mode_goes_to_ss0_esp0(void **state) {
    struct box *b = *state;
    struct box_frame f;

    box_protected(b, true);
    box_ring3(b);
    BOX_EXEC(b, ud32);
    f = box_fault(b);
    assert_int_equal(f.vector, X86_UD);
    assert_int_equal(f.ss, BOX_DS3 | 3);
    assert_int_equal(f.sp, BOX_STACK3);
    assert_int_equal(b->s.seg[SEG_SS].sel, BOX_DS);
}

static void a_bad_ss0_is_an_invalid_tss(void **state) {
    struct box *b = *state;
    struct box_frame f;

    box_protected(b, true);
    box_ring3(b);
    box_gate(b, 0x40, BOX_CS32, BOX_STUBS + 0x40 * 16, 14, 3, 0);
    box_set(b, BOX_TSS + 8, 2, BOX_DS3); /* DPL 3 */
    box_gate(b, X86_TS, BOX_CS32_3 | 3, BOX_STUBS + X86_TS * 16, 14, 3, 0);
    BOX_EXEC(b,
             int_40_32); /* #TS is taken at level 3, where HLT faults: #TS again, #DF, shutdown */
    f = box_fault(b);
    assert_int_equal(f.vector, ~0u);
    assert_int_equal(b->s.activity, X86_SHUTDOWN);
    assert_int_equal(box_get(b, BOX_STACK3 - 4 * 4, 4), BOX_DS3);
}

static void into_and_bound(void **state) {
    struct box *b = *state;

    box_protected(b, false);
    BOX_EXEC(b, into_32);
    assert_int_equal(box_fault(b).vector, X86_OF);
    assert_int_equal(box_fault(b).rip, BOX_CODE + (unsigned)(into_32_end - into_32) - 1);

    box_protected(b, false);
    box_set(b, BOX_DATA, 8, 6ull << 32 | 5);
    BOX_EXEC(b, bound_32);
    assert_true(box_halted_quietly(b));
    box_protected(b, false);
    box_set(b, BOX_DATA, 8, 4ull << 32 | 0xffffffff);
    BOX_EXEC(b, bound_32);
    assert_int_equal(box_fault(b).vector, X86_BR);
    assert_int_equal(box_fault(b).rip, BOX_CODE + 5);
}

static void real_mode_uses_the_vector_table(void **state) {
    struct box *b = *state;

    box_real(b);
    box_set(b, 0x21 * 4, 4, 0x0200 | 0x1000 << 16);
    box_put(b, BOX_CODE + 0x200, real_iret, (size_t)(real_iret_end - real_iret));
    b->s.gpr[X86_RBX] = 41;
    b->s.rflags |= X86_FLAG_IF;
    assert_int_equal(BOX_EXEC(b, real_int), CPU_EXIT_HALT);
    assert_int_equal(b->s.gpr[X86_RAX] & 0xffff, 42);
    assert_int_equal(b->s.gpr[X86_RSP], 0x8000);
    assert_true(b->s.rflags & X86_FLAG_IF);
    assert_int_equal(box_get(b, 0x10000 + 0x7ffa, 2), 2); /* IP after INT */
}

static void a_vector_beyond_the_real_mode_table_ends_in_shutdown_at_last(void **state) {
    struct box *b = *state;

    box_real(b);
    b->s.idtr.limit = 0x10;
    assert_int_equal(BOX_EXEC(b, real_int), CPU_EXIT_SHUTDOWN);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_fault_saves_the_faulting_instruction_with_rf_set),
        TEST(a_fault_for_sure_saves_all_flags),
        TEST(a_fault_in_user_code_switches_to_the_stack_of_the_tss),
        TEST(an_ist_stack_is_taken_and_aligned_even_without_a_change_of_level),
        TEST(the_stack_is_aligned_to_sixteen_bytes),
        TEST(page_faults_tell_address_and_reason),
        TEST(a_write_to_a_read_only_page_is_a_protection_fault),
        TEST(a_non_canonical_address_is_a_general_protection_fault),
        TEST(division_by_zero_has_no_error_code),
        TEST(int_n_saves_the_next_instruction),
        TEST(int_n_from_user_code_needs_the_gates_permission),
        TEST(int3_obeys_the_gates_permission_and_icebp_does_not),
        TEST(a_trap_gate_leaves_interrupts_on),
        TEST(an_absent_gate_is_reported_with_its_vector),
        TEST(an_exception_without_a_gate_reports_itself_as_external),
        TEST(a_sixteen_bit_gate_is_refused_in_long_mode),
        TEST(two_contributory_faults_make_a_double_fault),
        TEST(a_fault_on_the_way_to_the_double_fault_handler_shuts_down),
        TEST(a_page_fault_on_the_handlers_stack_is_a_double_fault),
        TEST(the_table_of_double_faults),
        TEST(sti_holds_interrupts_for_one_instruction),
        TEST(cli_and_sti_need_iopl),
        TEST(an_interrupt_ends_a_halt),
        TEST(iret_from_user_code_comes_back_to_it),
        TEST(an_nmi_is_delivered_once_and_blocks_the_next),
        TEST(iret_lets_the_next_nmi_in),
        TEST(single_step_traps_after_the_instruction_behind_popf),
        TEST(debug_exceptions_of_a_load_of_ss_come_after_the_next_instruction),
        TEST(a_save_behind_a_load_of_ss_keeps_its_debug_exceptions),
        TEST(an_nmi_that_a_shadow_held_comes_behind_it),
        TEST(single_step_does_not_enter_handlers_that_clear_tf),
        TEST(protected_mode_pushes_doublewords),
        TEST(user_code_in_protected_mode_goes_to_ss0_esp0),
        TEST(a_bad_ss0_is_an_invalid_tss),
        TEST(into_and_bound),
        TEST(real_mode_uses_the_vector_table),
        TEST(a_vector_beyond_the_real_mode_table_ends_in_shutdown_at_last),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
