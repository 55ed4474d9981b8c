/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of KVM's paravirtual interface as one processor has it: steal time, sleep, EOI in memory,
 * kicks, hypercalls. */
#include <string.h>

#include "cpu/box.h"
#include "cpu/soft/ref/pv.h"
#include "cpu/soft/ref/sys.h"
#include "support/test.h"

enum { MSR_STEAL = 0x4b564d03, MSR_EOI = 0x4b564d04 };
enum { STEAL = BOX_DATA, EOI_WORD = BOX_DATA + 0x100 };
enum { VERSION = 8, PREEMPTED = 16 };

static struct box box;

static int open_box(void **state) {
    box_new(&box, NULL);
    box_long(&box);
    return 0;
}

static int close_box(void **state) {
    box_done(&box);
    return 0;
}

static bool write_msr(uint32_t msr, uint64_t value) { return sys_write_msr(box.ref, msr, value); }

static void load(void) {
    struct error err = {0};

    assert_int_equal(box.cpu->ops->set_state(box.cpu, &box.s, &err), 0);
}

/* ------------------------------------------------------------------ steal time */

static void time_that_the_host_took_is_written_down(void **state) {
    uint64_t version;

    load();
    box.stolen = 5000;
    assert_true(write_msr(MSR_STEAL, STEAL | 1));
    assert_int_equal(box_get(&box, STEAL, 8), 0); /* counts from here */
    version = box_get(&box, STEAL + VERSION, 4);
    assert_int_equal(version & 1, 0);
    box.stolen = 7500;
    clock_step(box.clock, 10000000);
    box.vector = -1;
    ref_pv_ack(box.ref);
    assert_int_equal(box_get(&box, STEAL, 8), 2500);
    assert_int_equal(box_get(&box, STEAL + VERSION, 4), version + 2);
    box.stolen = 8000;
    ref_pv_ack(box.ref); /* too soon */
    assert_int_equal(box_get(&box, STEAL, 8), 2500);
}

static void stolen_time_does_not_go_back_in_another_process(void **state) {
    load();
    box.stolen = 0;
    assert_true(write_msr(MSR_STEAL, STEAL | 1));
    box.stolen = 900000;
    clock_step(box.clock, 10000000);
    ref_pv_ack(box.ref);
    assert_int_equal(box_get(&box, STEAL, 8), 900000);
    box.cpu->ops->get_state(box.cpu, &box.s);
    load();
    box.stolen = 100; /* the new thread's own */
    clock_step(box.clock, 10000000);
    ref_pv_ack(box.ref);
    box.stolen = 150;
    clock_step(box.clock, 10000000);
    ref_pv_ack(box.ref);
    assert_int_equal(box_get(&box, STEAL, 8), 900050);
}

static void bad_values_are_refused_and_bad_places_harmless(void **state) {
    load();
    assert_false(write_msr(MSR_STEAL, STEAL | 2));
    assert_false(write_msr(MSR_STEAL, STEAL | 0x20));
    assert_false(write_msr(MSR_EOI, EOI_WORD | 2));
    assert_true(write_msr(MSR_STEAL, 0xfffffffff000 | 1));
    assert_true(write_msr(MSR_EOI, 0xfffffffff000 | 1));
    box.offer = true;
    clock_step(box.clock, 10000000);
    ref_pv_ack(box.ref);
    assert_false(box.ref->pv.offered);
    assert_true(write_msr(MSR_STEAL, (BOX_MEM - 64) | 1)); /* the last there is */
    assert_true(write_msr(MSR_EOI, (BOX_MEM - 4) | 1));
    ref_pv_ack(box.ref);
    assert_true(box.ref->pv.offered);
}

/* ------------------------------------------------------------------ sleep */

static void who_sleeps_says_so_and_flushes_when_it_wakes(void **state) {
    load();
    box.ref->group.several = true;
    assert_true(write_msr(MSR_STEAL, STEAL | 1));
    ref_pv_leave(box.ref, CPU_EXIT_KICK);
    assert_int_equal(box_get(&box, STEAL + PREEMPTED, 1), 0);
    ref_pv_leave(box.ref, CPU_EXIT_HALT);
    assert_int_equal(box_get(&box, STEAL + PREEMPTED, 1), 1);
    box_set(&box, STEAL + PREEMPTED, 1, 1 | 2); /* another one wants its TLB flushed */
    ref_pv_enter(box.ref);
    assert_int_equal(box_get(&box, STEAL + PREEMPTED, 1), 0);
    box.ref->group.several = false;
}

GUEST(read_twice, ".code64", "mov 0x200000, %rax\n hlt\n mov 0x200000, %rbx\n hlt");

static void a_flush_that_was_asked_for_in_sleep_is_one(void **state) {
    enum { PT_OF_2M = 0x3000 }; /* the box's page directory */
    uint64_t entry;

    box_set(&box, 0x200000, 8, 0x1111);
    box_set(&box, 0x400000, 8, 0x2222);
    box.s.kvm_steal = STEAL | 1;
    BOX_EXEC(&box, read_twice);
    assert_int_equal(box.s.gpr[X86_RAX], 0x1111);
    box.ref->group.several = true;
    ref_pv_leave(box.ref, CPU_EXIT_HALT);
    entry = box_get(&box, PT_OF_2M + 8, 8);
    assert_int_equal(entry >> 21, 1); /* maps 2 MiB one to one */
    box_set(&box, PT_OF_2M + 8, 8, entry + (2 << 20));
    box_set(&box, STEAL + PREEMPTED, 1, 1 | 2);
    ref_pv_enter(box.ref);
    box.ref->group.several = false;
    box.ref->halted = false;
    box_go_on(&box);
    assert_int_equal(box.s.gpr[X86_RBX], 0x2222);
}

/* ------------------------------------------------------------------ EOI */

static void an_offer_is_a_bit_that_the_guest_clears(void **state) {
    load();
    box.offer = true;
    box_set(&box, EOI_WORD, 4, 0xfffffff0);
    assert_true(write_msr(MSR_EOI, EOI_WORD | 1));
    box.vector = 0x40;
    assert_int_equal(ref_pv_ack(box.ref), 0x40);
    assert_int_equal(box.eoi, CPU_EOI_ASK);
    assert_int_equal(box_get(&box, EOI_WORD, 4), 0xfffffff1);
    box_set(&box, EOI_WORD, 4, 0xfffffff0); /* the guest's EOI */
    box.vector = 0x41;
    ref_pv_ack(box.ref);
    assert_int_equal(box.eoi, CPU_EOI_ASK | CPU_EOI_ENDED);
    box.offer = false; /* the bit still stands: it has not ended */
    box.vector = 0x42;
    ref_pv_ack(box.ref);
    assert_int_equal(box.eoi, CPU_EOI_ASK | CPU_EOI_WITHDRAWN);
    assert_int_equal(box_get(&box, EOI_WORD, 4), 0xfffffff0);
    ref_pv_ack(box.ref);
    assert_int_equal(box.eoi, CPU_EOI_ASK);
}

static void no_offer_outlasts_the_run_or_an_access_to_the_lapic(void **state) {
    uint64_t value;

    load();
    box.offer = true;
    assert_true(write_msr(MSR_EOI, EOI_WORD | 1));
    ref_pv_ack(box.ref);
    assert_int_equal(box.settled, -1);
    ref_pv_leave(box.ref, CPU_EXIT_KICK);
    assert_int_equal(box.settled, 0);
    assert_int_equal(box_get(&box, EOI_WORD, 4), 0);

    ref_pv_ack(box.ref);
    box_set(&box, EOI_WORD, 4, 0);
    assert_true(sys_read_msr(box.ref, 0x80b, &value)); /* x2APIC */
    assert_int_equal(box.settled, 1);

    box.settled = -1;
    ref_pv_ack(box.ref);
    assert_true(write_msr(MSR_EOI, 0)); /* switched off */
    assert_int_equal(box.settled, 0);
    ref_pv_ack(box.ref);
    assert_int_equal(box.eoi, 0);
}

GUEST(lapic_write, ".code32", "mov $0xfee000b0, %ebx\n mov %eax, (%ebx)\n hlt");

static void an_eoi_the_old_way_counts_too(void **state) {
    box_protected(&box, false);
    box_put(&box, BOX_CODE, lapic_write, (size_t)(lapic_write_end - lapic_write));
    box.s.rip = BOX_CODE;
    load();
    box.offer = true;
    assert_true(write_msr(MSR_EOI, EOI_WORD | 1));
    ref_pv_ack(box.ref);
    assert_int_equal(box_get(&box, EOI_WORD, 4), 1);
    box_go_on(&box);
    assert_int_equal(box.settled, 0); /* before the write, which is the end */
    assert_int_equal(box.io[0], 0xfee000b0);
    assert_int_equal(box_get(&box, EOI_WORD, 4), 0);
}

/* ------------------------------------------------------------------ kicks and calls */

GUEST(halt_twice, ".code64", "cli\n hlt\n mov $1, %eax\n hlt\n mov $2, %eax\n ud2");

static void a_kick_ends_one_halt_even_without_interrupts(void **state) {
    BOX_EXEC(&box, halt_twice);
    assert_true(box_halted_quietly(&box));
    assert_false(box.cpu->ops->runnable(box.cpu));
    box.cpu->ops->signal(box.cpu, CPU_SIGNAL_UNHALT, 0);
    assert_true(box.cpu->ops->runnable(box.cpu));
    box_go_on(&box);
    assert_int_equal(box.s.gpr[X86_RAX], 1);
    assert_true(box_halted_quietly(&box));
}

static void a_kick_before_the_halt_is_remembered_and_saved(void **state) {
    box.s.rip = BOX_CODE;
    load();
    box.cpu->ops->signal(box.cpu, CPU_SIGNAL_UNHALT, 0);
    box.cpu->ops->get_state(box.cpu, &box.s);
    assert_true(box.s.unhalted);
    BOX_EXEC(&box, halt_twice); /* loads what was saved */
    assert_int_equal(box.s.gpr[X86_RAX], 1);
    assert_false(box.s.unhalted);
    box.s.unhalted = true; /* and of a state that halts */
    load();
    box.cpu->ops->get_state(box.cpu, &box.s);
    assert_int_equal(box.s.activity, X86_RUNNING);
    assert_false(box.s.unhalted);
}

GUEST(call_out, ".code64",
      "mov $0x500000005, %rax\n mov $-1, %rbx\n mov $2, %ecx\n mov $3, %edx\n mov $4, %esi\n"
      "vmcall\n hlt");
GUEST(call_out32, ".code32",
      "mov $5, %eax\n mov $-1, %ebx\n mov $2, %ecx\n mov $3, %edx\n mov $4, %esi\n"
      "vmmcall\n hlt");

static void calls_have_the_width_of_the_code(void **state) {
    BOX_EXEC(&box, call_out);
    assert_int_equal(box.s.gpr[X86_RAX], 42);
    assert_true(box.called[0] == 0x500000005 && box.called[1] == ~0ull);
    assert_true(box.called[2] == 2 && box.called[3] == 3 && box.called[4] == 4);
    box_protected(&box, true);
    BOX_EXEC(&box, call_out32);
    assert_int_equal(box.s.gpr[X86_RAX], (uint32_t)-42);
    assert_true(box.called[0] == 5 && box.called[1] == 0xffffffff);
}

static void user_code_may_not_call(void **state) {
    box_ring3(&box);
    memset(box.called, 0, sizeof(box.called));
    BOX_EXEC(&box, call_out); /* ends in #GP at HLT */
    assert_int_equal(box_fault(&box).vector, X86_GP);
    assert_int_equal(box.s.gpr[X86_RAX], (uint64_t)-1); /* EPERM */
    assert_int_equal(box.called[0], 0);
}

static void an_init_forgets_the_pages(void **state) {
    box.s.kvm_steal = STEAL | 1;
    box.s.kvm_eoi = EOI_WORD | 1;
    box.s.unhalted = true;
    x86_reset(&box.s, true);
    assert_true(!box.s.kvm_steal && !box.s.kvm_eoi && !box.s.unhalted);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_box, close_box)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(time_that_the_host_took_is_written_down),
        TEST(stolen_time_does_not_go_back_in_another_process),
        TEST(bad_values_are_refused_and_bad_places_harmless),
        TEST(who_sleeps_says_so_and_flushes_when_it_wakes),
        TEST(a_flush_that_was_asked_for_in_sleep_is_one),
        TEST(an_offer_is_a_bit_that_the_guest_clears),
        TEST(no_offer_outlasts_the_run_or_an_access_to_the_lapic),
        TEST(an_eoi_the_old_way_counts_too),
        TEST(a_kick_ends_one_halt_even_without_interrupts),
        TEST(a_kick_before_the_halt_is_remembered_and_saved),
        TEST(calls_have_the_width_of_the_code),
        TEST(user_code_may_not_call),
        TEST(an_init_forgets_the_pages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
