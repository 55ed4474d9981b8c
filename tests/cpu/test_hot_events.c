/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Interrupts, kicks, single steps, breakpoints and changes of the page tables, while hot code runs.
 * Source: SDM vol. 3A 4.10 (invalidation), 6.8.3 (shadows), 17.2, 17.3 (debugging). */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cpu/twin.h"
#include "support/test.h"

enum {
    PAGE = 0x150000,
    PTE = 0x4000 + 0x150 * 8,
    HANDLER = 0x71000,
    COUNT = 0x72000,
    BAD = 0x72008
};

static int setup(void **state) {
    static struct twin t;

    twin_new(&t, false);
    t.heat[X86_RSP] = BOX_STACK0;
    memcpy(t.s.gpr, t.heat, sizeof(t.heat));
    *state = &t;
    return 0;
}

static int teardown(void **state) {
    twin_done(*state);
    return 0;
}

/* ---- interrupts ---- */

/* Counts, and counts apart what came at the address in R15. */
GUEST(counting_handler, ".code64",
      "incq 0x72000\n cmp %r15, (%rsp)\n jne 1f\n incq 0x72008\n 1: iretq");
/* CPUID makes a block of its own, which is never translated. */
GUEST(sti_shadow, ".code64",
      "lea 2f(%rip), %r15\n 1: cli\n mov $1, %ecx\n sti\n 2: cpuid\n cmpq $3000, 0x72000\n jb 1b\n"
      "cli\n hlt");
/* Into another page, where a link looks whether somebody wants the loop. */
GUEST(sti_at_the_end_of_a_page, ".code64",
      "lea 2f(%rip), %r15\n jmp 1f\n .org sti_at_the_end_of_a_page + 0xfe0, 0x90\n"
      "1: cli\n mov $1, %ecx\n .org sti_at_the_end_of_a_page + 0xfff, 0x90\n sti\n 2: inc %rbx\n"
      "cmpq $3000, 0x72000\n jb 1b\n cli\n hlt");
GUEST(mov_ss_shadow, ".code64",
      "lea 2f(%rip), %r15\n mov %ss, %r14d\n sti\n 1: mov $1, %ecx\n mov %r14d, %ss\n 2: cpuid\n"
      "cmpq $3000, 0x72000\n jb 1b\n cli\n hlt");

struct sender {
    struct box *box;
    pthread_t thread;
    atomic_bool stop;
    bool apart; /* each one a while after the last was taken, so that it comes at any instruction */
};

static void *send_interrupts(void *opaque) {
    struct sender *s = opaque;
    struct rng r = rng_seed(1);

    while (!atomic_load(&s->stop)) {
        if (!s->apart || __atomic_load_n(&s->box->vector, __ATOMIC_RELAXED) < 0) {
            unsigned pauses = s->apart ? (unsigned)rng_below(&r, 200) : 20;

            for (unsigned i = 0; i < pauses; i++)
                __builtin_ia32_pause();
            __atomic_store_n(&s->box->vector, 0x40, __ATOMIC_RELAXED);
        }
        s->box->cpu->ops->signal(s->box->cpu, CPU_SIGNAL_INTR_ON, 0);
    }
    return NULL;
}

static void run_under_interrupts(struct twin *t, const uint8_t *start, const uint8_t *end) {
    for (unsigned i = 0; i < 4; i++) {
        struct box *b = &t->box[i & 1];
        struct sender s = {.box = b, .apart = i & 2};

        b->s = t->s;
        b->s.rip = BOX_CODE;
        box_put(b, HANDLER, counting_handler, (size_t)(counting_handler_end - counting_handler));
        box_gate(b, 0x40, BOX_CS64, HANDLER, 14, 0, 0);
        box_set(b, COUNT, 8, 0);
        box_set(b, BAD, 8, 0);
        assert_int_equal(pthread_create(&s.thread, NULL, send_interrupts, &s), 0);
        assert_int_equal(box_exec(b, start, end), CPU_EXIT_HALT);
        atomic_store(&s.stop, true);
        pthread_join(s.thread, NULL);
        b->cpu->ops->signal(b->cpu, CPU_SIGNAL_INTR_OFF, 0);
        assert_true(box_get(b, COUNT, 8) >= 3000);
        assert_int_equal(box_get(b, BAD, 8), 0);
    }
}

static void no_interrupt_comes_between_sti_and_the_next_instruction(void **state) {
    run_under_interrupts(*state, sti_shadow, sti_shadow_end);
    run_under_interrupts(*state, sti_at_the_end_of_a_page, sti_at_the_end_of_a_page_end);
}

static void no_interrupt_comes_between_mov_ss_and_the_next_instruction(void **state) {
    run_under_interrupts(*state, mov_ss_shadow, mov_ss_shadow_end);
}

/* Endless loops of every kind; only an interrupt or a kick ends them. */
GUEST(loop_branch, ".code64",
      "sti\n 1: inc %rax\n jmp 2f\n nop\n 2: test %rax, %rax\n jne 1b\n jmp 1b");
GUEST(loop_calls, ".code64", "sti\n 1: call 2f\n jmp 1b\n 2: call 3f\n ret\n 3: inc %rax\n ret");
GUEST(loop_indirect, ".code64", "sti\n lea 1f(%rip), %r15\n 1: inc %rax\n jmp *%r15");
GUEST(loop_returns, ".code64", "sti\n lea 1f(%rip), %r15\n 1: inc %rax\n push %r15\n ret");
GUEST(loop_pages, ".code64", "sti\n 1: inc %rax\n jmp 2f\n .fill 5000, 1, 0x90\n 2: jmp 1b");
GUEST(loop_string, ".code64",
      "sti\n 1: mov $0x150000, %edi\n mov $4000, %ecx\n rep stosb\n jmp 1b");
GUEST(loop_counted, ".code64", "sti\n xor %ecx, %ecx\n 1: inc %rax\n loop 1b\n jmp 1b");

/* Endless by a way out of a superblock; and by blocks of which the later one gets hot first. */
GUEST(loop_by_the_side, ".code64",
      "mov $5000, %r9d\n 1: xor %ecx, %ecx\n 2: inc %rax\n test %rcx, %rcx\n jnz 2b\n"
      "sub $1, %r9\n jnz 1b\n sti\n mov $1, %ecx\n jmp 2b");
GUEST(loop_entered_behind, ".code64",
      "sti\n jmp 2f\n 1: inc %rax\n jmp 2f\n nop\n 2: test %rax, %rax\n jmp 1b");

static void *send_one_later(void *opaque) {
    struct sender *s = opaque;

    usleep(30000);
    if (atomic_load(&s->stop)) {
        s->box->cpu->ops->kick(s->box->cpu);
    } else {
        s->box->vector = 0x41; /* a stub that halts */
        s->box->cpu->ops->signal(s->box->cpu, CPU_SIGNAL_INTR_ON, 0);
    }
    return NULL;
}

static void interrupts_and_kicks_end_every_kind_of_loop(void **state) {
    static const struct {
        const uint8_t *start, *end;
    } code[] = {{loop_branch, loop_branch_end},
                {loop_calls, loop_calls_end},
                {loop_indirect, loop_indirect_end},
                {loop_returns, loop_returns_end},
                {loop_pages, loop_pages_end},
                {loop_string, loop_string_end},
                {loop_counted, loop_counted_end},
                {loop_by_the_side, loop_by_the_side_end},
                {loop_entered_behind, loop_entered_behind_end}};
    struct twin *t = *state;

    for (unsigned i = 0; i < sizeof(code) / sizeof(code[0]); i++)
        for (unsigned kick = 0; kick < 2; kick++) {
            struct box *b = &t->box[1];
            struct sender s = {.box = b, .stop = kick};

            b->s = t->s;
            b->s.rip = BOX_CODE;
            assert_int_equal(pthread_create(&s.thread, NULL, send_one_later, &s), 0);
            assert_int_equal(box_exec(b, code[i].start, code[i].end),
                             kick ? CPU_EXIT_KICK : CPU_EXIT_HALT);
            pthread_join(s.thread, NULL);
            if (!kick)
                assert_int_equal(box_fault(b).vector, 0x41);
        }
}

/* ---- debugging ---- */

GUEST(steps, ".code64",
      "incq 0x72000\n cmpq $20, 0x72000\n jb 1f\n andl $~0x100, 16(%rsp)\n 1: iretq");
GUEST(
    sets_tf, ".code64",
    "add %r8, %r9\n pushfq\n or %r14, (%rsp)\n popfq\n adc $1, %r8\n mov %r8, 0x150000\n call 1f\n"
    "1: pop %rax\n add 0x150000, %r9\n inc %r10\n jmp 2f\n 2: addps %xmm1, %xmm2\n lea 1(%r9), "
    "%r9");
GUEST(
    sets_dr7, ".code64",
    "mov 0x150008, %rax\n mov %rax, 0x150010\n mov %r13, %dr0\n mov %r14, %dr7\n inc %r8\n"
    "mov 0x150008, %rax\n inc %r8\n mov %rax, 0x150010\n inc %r8\n push %rax\n inc %r8\n pop %rax\n"
    "1: inc %r8\n xor %eax, %eax\n mov %rax, %dr7\n lea 1b(%rip), %r12");

static void hot_code_can_be_single_stepped(void **state) {
    struct twin *t = *state;

    twin_put(t, HANDLER, steps, (size_t)(steps_end - steps));
    TWIN_HEAT(t, sets_tf);
    for (unsigned i = 0; i < 2; i++)
        box_gate(&t->box[i], X86_DB, BOX_CS64, HANDLER, 14, 0, 1);
    t->s.gpr[14] = X86_FLAG_TF;
    twin_once(t);
    assert_true(box_get(&t->box[1], COUNT, 8) > 10);
}

static void breakpoints_stop_hot_code(void **state) {
    static const struct {
        uint64_t at, dr7;
    } point[] = {
        {0x150008, 0xf0001}, {0x15000f, 0x30001}, {0x150010, 0x10001}, {0x150014, 0x90002}};
    struct twin *t = *state;

    TWIN_HEAT(t, sets_dr7);
    for (unsigned i = 0; i < sizeof(point) / sizeof(point[0]); i++) {
        t->s.gpr[13] = point[i].at;
        t->s.gpr[14] = point[i].dr7;
        twin_once(t);
        assert_int_equal(t->fault.vector, X86_DB);
    }
    t->s.gpr[13] = t->heat[X86_RSP] - 8; /* the stack */
    twin_once(t);
    t->s.gpr[13] = t->s.gpr[14] = 0;
    twin_once(t);
    t->s.gpr[13] = t->box[1].s.gpr[12]; /* an instruction */
    t->s.gpr[14] = 1;
    twin_once(t);
    assert_int_equal(t->fault.vector, X86_DB);
    assert_int_equal(t->fault.rip, t->s.gpr[13]);
}

/* ---- page tables ---- */

/* R14 becomes the entry of a page that was read, written and executed just before; R8 says whether
 * it is invalidated by INVLPG or by a load of CR3. */
#define CHANGE                                                                                     \
    "mov 0x150000, %rax\n mov %rax, 0x150008\n call *%rbx\n mov %r14, 0x4a80\n"                    \
    "cmp $0, %r8\n jne 8f\n invlpg 0x150000\n jmp 9f\n 8: mov %cr3, %rax\n mov %rax, %cr3\n 9:\n"
#define RESTORE "\n movq $0x150007, 0x4a80\n invlpg 0x150000"
GUEST(then_read, ".code64", CHANGE "mov 0x150000, %rdx" RESTORE);
GUEST(then_write, ".code64", CHANGE "movq $7, 0x150018" RESTORE);
GUEST(then_execute, ".code64", CHANGE "call *%rbx" RESTORE);
GUEST(then_read_crossing, ".code64", CHANGE "mov 0x14fffc, %rdx" RESTORE);

static void changed_entries_hold_after_invlpg_and_after_cr3(void **state) {
    static const struct {
        const uint8_t *start, *end;
    } code[] = {{then_read, then_read_end},
                {then_write, then_write_end},
                {then_execute, then_execute_end},
                {then_read_crossing, then_read_crossing_end}};
    static const uint8_t body[2][6] = {{0xb8, 1, 0, 0, 0, 0xc3}, {0xb8, 2, 0, 0, 0, 0xc3}};
    static const uint64_t entry[] = {0x150007,
                                     0x151007,
                                     0,
                                     0x150005,
                                     0x8000000000150007ull,
                                     0x150003,
                                     0x1000007,
                                     0x151005,
                                     0x8000000000151007ull};
    struct twin *t = *state;
    unsigned faults = 0;

    twin_put(t, PAGE + 0x100, body[0], 6);
    twin_put(t, PAGE + 0x1100, body[1], 6);
    twin_set(t, PAGE + 0x1000, 8, 0x5151);
    t->heat[X86_RBX] = t->s.gpr[X86_RBX] = PAGE + 0x100;
    t->heat[14] = PAGE | 7;
    for (unsigned i = 0; i < sizeof(code) / sizeof(code[0]); i++) {
        t->s.cr4 &= ~X86_CR4_SMEP;
        twin_pte(t, PAGE, PAGE | 7);
        twin_heat_at(t, BOX_CODE, code[i].start, code[i].end);
        for (unsigned k = 0; k < sizeof(entry) / sizeof(entry[0]); k++)
            for (unsigned how = 0; how < 2; how++) {
                twin_pte(t, PAGE, PAGE | 7);
                t->s.gpr[14] = entry[k];
                t->s.gpr[8] = how;
                t->dead_flags = 0x8d5;
                twin_once(t);
                faults += t->fault.vector == X86_PF;
                if (k == 1 && i == 0)
                    assert_int_equal(t->box[1].s.gpr[X86_RDX], 0x5151);
                if (k == 1 && i == 2)
                    assert_int_equal(t->box[1].s.gpr[X86_RAX], 2);
            }
    }
    assert_int_equal(faults, 2 * (1 + 3 + 3 + 1));
}

/* CR0.WP, CR4.SMEP: both change what a page that is known allows. */
GUEST(toggles_wp, ".code64",
      "mov %cr0, %rax\n mov %rax, %r9\n xor %r14, %rax\n movq $1, 0x150000\n mov %rax, %cr0\n"
      "movq $2, 0x150008\n mov %r9, %cr0");
GUEST(toggles_smep, ".code64",
      "mov %cr4, %rax\n mov %rax, %r9\n xor %r14, %rax\n call *%rbx\n mov %rax, %r12\n"
      "mov %r9, %rax\n"
      "xor %r14, %rax\n mov %rax, %cr4\n call *%rbx\n mov %r9, %cr4");

static void wp_and_smep_hold_at_once(void **state) {
    static const uint8_t body[6] = {0xb8, 1, 0, 0, 0, 0xc3};
    struct twin *t = *state;

    t->s.cr0 &= ~X86_CR0_WP;
    twin_pte(t, PAGE, PAGE | 5);
    TWIN_HEAT(t, toggles_wp);
    t->s.gpr[14] = X86_CR0_WP;
    twin_once(t);
    assert_int_equal(t->fault.vector, X86_PF);
    /* All other code lies in pages of the supervisor. */
    t->s.gpr[14] = 0;
    twin_pte(t, PAGE, PAGE | 7);
    for (uint64_t at = 0; at < 0x100000; at += 0x1000)
        twin_pte(t, at, at | 3);
    twin_put(t, PAGE, body, 6);
    t->heat[X86_RBX] = t->s.gpr[X86_RBX] = PAGE;
    TWIN_HEAT(t, toggles_smep);
    t->s.gpr[14] = X86_CR4_SMEP;
    twin_once(t);
    assert_int_equal(t->fault.vector, X86_PF);
    assert_int_equal(t->box[1].s.cr2, PAGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_interrupt_comes_between_sti_and_the_next_instruction,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(no_interrupt_comes_between_mov_ss_and_the_next_instruction,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(interrupts_and_kicks_end_every_kind_of_loop, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(hot_code_can_be_single_stepped, setup, teardown),
        cmocka_unit_test_setup_teardown(breakpoints_stop_hot_code, setup, teardown),
        cmocka_unit_test_setup_teardown(changed_entries_hold_after_invlpg_and_after_cr3, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(wp_and_smep_hold_at_once, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
