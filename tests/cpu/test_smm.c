/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of system management mode: entry, RSM, what is held meanwhile, and memory that only it
 * sees. */
#include <errno.h>
#include <string.h>

#include "cpu/backend.h"
#include "cpu/box.h"
#include "support/test.h"

enum {
    HANDLER = X86_SMBASE_RESET + 0x8000,
    AREA = X86_SMBASE_RESET + 0xfe00,
    HALT = AREA + 0xc9,
    SMBASE = AREA + 0x100,
    CR0 = AREA + 0x158,
    RIP = AREA + 0x178,
    RAX = AREA + 0x1f8,
    COUNT = BOX_DATA,
    HIDDEN = BOX_MEM - 0x20000, /* memory that is there in system management mode only */
    HIDDEN_SIZE = 0x20000,
};

static struct box box;
static struct mem all;
static unsigned accesses;

static int open_box(void **state) {
    struct cpu_config config = {.eager = true, .debug = backend_debug(), .bus = {.smm_mem = &all}};

    box_new_config(&box, backend_ops(), config);
    mem_view(&all, &box.mem);
    box_long(&box);
    accesses = 0;
    return 0;
}

static int close_box(void **state) {
    box_done(&box);
    return 0;
}

#define HANDLE(name) box_put(&box, HANDLER, name, (size_t)(name##_end - name))

/* The handlers are 16-bit code with segments of 4 GiB. */
GUEST(count, ".code16", "addr32 incl 0x50000\n rsm\n hlt");
GUEST(stay, ".code16", "addr32 incl 0x50000\n hlt\n rsm\n hlt");
GUEST(two_halts, ".code64", "mov $1, %ecx\n hlt\n mov $2, %ecx\n hlt");
GUEST(plain, ".code64", "nop\n mov $7, %ecx\n hlt");

static void rsm_brings_everything_back(void **state) {
    struct x86_state before;

    HANDLE(count);
    for (unsigned i = 0; i < 16; i++)
        if (i != X86_RSP)
            box.s.gpr[i] = 0x1111222233330000ull + i;
    box.s.seg[SEG_FS].base = 0x7fff12345678;
    box.s.rflags |= X86_FLAG_CF | X86_FLAG_OF | X86_FLAG_DF;
    box.s.dr[1] = 0x1234;
    box.s.smi_pending = true;
    before = box.s;
    assert_int_equal(BOX_EXEC(&box, plain), CPU_EXIT_HALT);
    assert_true(box_halted_quietly(&box));
    assert_int_equal(box_get(&box, COUNT, 4), 1);
    before.gpr[X86_RCX] = 7;
    before.rip = box.s.rip;
    before.activity = X86_HALTED;
    before.smi_pending = false;
    assert_true(state_equal(&x86_state_desc, &before, &box.s));
}

static void the_saved_state_stands_where_firmware_looks(void **state) {
    HANDLE(count);
    box.s.gpr[X86_RAX] = 0x123456789abcdef0;
    box.s.gpr[15] = 15;
    box.s.smi_pending = true;
    BOX_EXEC(&box, plain);
    assert_int_equal(box_get(&box, AREA + 0xfc, 4), 0x20064);
    assert_int_equal(box_get(&box, SMBASE, 4), X86_SMBASE_RESET);
    assert_int_equal(box_get(&box, RAX, 8), 0x123456789abcdef0);
    assert_int_equal(box_get(&box, AREA + 0x180, 8), 15);
    assert_int_equal(box_get(&box, RIP, 8), BOX_CODE);
    assert_int_equal(box_get(&box, CR0, 8), box.s.cr0);
    assert_int_equal(box_get(&box, AREA + 0x150, 8), box.s.cr3);
    assert_int_equal(box_get(&box, AREA + 0x148, 8), box.s.cr4);
    assert_int_equal(box_get(&box, AREA + 0xd0, 8), box.s.efer);
    assert_int_equal(box_get(&box, AREA + 0x10, 2), BOX_CS64);
    assert_int_equal(box_get(&box, AREA + 0x12, 2), 0xa09b);
    assert_int_equal(box_get(&box, AREA + 0x14, 4), 0xffffffff);
    assert_int_equal(box_get(&box, AREA + 0x68, 8), BOX_GDT);
    assert_int_equal(box_get(&box, AREA + 0x84, 2), box.s.idtr.limit);
    assert_int_equal(box_get(&box, AREA + 0x98, 8), BOX_TSS);
    assert_int_equal(box_get(&box, HALT, 1), 0);
}

static void the_handler_begins_in_real_mode_with_large_segments(void **state) {
    HANDLE(stay);
    box.s.cr0 |= X86_CR0_TS | X86_CR0_EM;
    box.s.dr7 = 0x403;
    box.s.dr[0] = 0xffffffff00; /* nowhere */
    box.s.smi_pending = true;
    assert_int_equal(BOX_EXEC(&box, plain), CPU_EXIT_HALT);
    assert_true(box.s.smm);
    assert_int_equal(box.s.cr0, X86_CR0_ET | X86_CR0_NE | X86_CR0_WP);
    assert_true(box.s.cr4 == 0 && box.s.efer == 0 && box.s.dr7 == 0x400);
    assert_int_equal(box.s.seg[SEG_CS].sel, X86_SMBASE_RESET >> 4);
    assert_int_equal(box.s.seg[SEG_CS].base, X86_SMBASE_RESET);
    assert_int_equal(box.s.seg[SEG_SS].limit, 0xffffffff);
    assert_true(box.s.nmi_blocked && !box.s.nmi_blocked_outside);
    assert_int_equal(box.s.rflags & (X86_FLAG_IF | X86_FLAG_TF), 0);
    /* It goes on from its saved state: box_go_on has loaded that. */
    box.cpu->ops->signal(box.cpu, CPU_SIGNAL_UNHALT, 0);
    assert_int_equal(box_go_on(&box), CPU_EXIT_HALT);
    assert_false(box.s.smm);
}

static void sixteen_bit_code_goes_past_64_kib_in_such_a_segment(void **state) {
    /* As firmware does it: JMP EBP to where its own code is. */
    box_put(&box, HANDLER, "\x66\xbd\xf0\xef\x01\x00\x66\xff\xe5", 9); /* mov, jmp *%ebp */
    box_put(&box, X86_SMBASE_RESET + 0x1eff0,
            "\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\xb0\x01\xf8" /* ... clc */
            "\x66\x0f\x82\x10\x00\x00\x00"                                     /* jc, not taken */
            "\x67\x66\xff\x05\x00\x00\x05\x00\x0f\xaa",                        /* incl, rsm */
            33);
    box.s.smi_pending = true;
    BOX_EXEC(&box, plain);
    assert_int_equal(box_get(&box, COUNT, 4), 1);
}

static void rsm_is_undefined_outside(void **state) {
    GUEST(lone, ".code64", "rsm\n hlt");

    BOX_EXEC(&box, lone);
    assert_int_equal(box_fault(&box).vector, X86_UD);
}

static void without_such_memory_an_smi_does_nothing(void **state) {
    close_box(state);
    box_new(&box, NULL);
    box_long(&box);
    HANDLE(count);
    BOX_EXEC(&box, plain);
    box.s.rip = BOX_CODE;
    box.s.activity = X86_RUNNING;
    box.cpu->ops->signal(box.cpu, CPU_SIGNAL_SMI, 0);
    box_go_on(&box);
    assert_int_equal(box_get(&box, COUNT, 4), 0);
}

/* ------------------------------------------------------------------ when */

static void ask(struct box *b) { b->cpu->ops->signal(b->cpu, CPU_SIGNAL_SMI, 0); }

static void the_smi_of_a_port_comes_before_the_next_instruction(void **state) {
    /* Often enough for every kind of translation. */
    GUEST(asks, ".code64",
          "mov $3000, %ecx\n xor %ebx, %ebx\n"
          "1: mov 0x50000, %edx\n out %al, $0xb2\n mov 0x50000, %esi\n inc %edx\n cmp %edx, %esi\n"
          "je 2f\n inc %ebx\n 2: dec %ecx\n jnz 1b\n hlt");

    HANDLE(count);
    box.on_io = ask;
    BOX_EXEC(&box, asks);
    assert_int_equal(box.s.gpr[X86_RBX], 0);
    assert_int_equal(box_get(&box, COUNT, 4), 3000);
}

static void a_second_smi_waits_for_the_end_of_the_first(void **state) {
    GUEST(asks_again, ".code16",
          "addr32 incl 0x50000\n addr32 cmpl $1, 0x50000\n jne 1f\n out %al, $0xb2\n out %al, "
          "$0xb2\n 1: rsm");

    HANDLE(asks_again);
    box.on_io = ask;
    box.s.smi_pending = true;
    BOX_EXEC(&box, plain);
    assert_int_equal(box_get(&box, COUNT, 4), 2); /* one is remembered, not two */
    assert_false(box.s.smm);
}

static void a_halt_is_restarted_if_the_handler_leaves_it(void **state) {
    GUEST(ends_halt, ".code16", "addr32 incl 0x50000\n addr32 movb $0, 0x3fec9\n rsm");

    HANDLE(count);
    BOX_EXEC(&box, two_halts);
    assert_int_equal(box.s.gpr[X86_RCX], 1);
    ask(&box);
    assert_int_equal(box_go_on(&box), CPU_EXIT_HALT);
    assert_int_equal(box_get(&box, COUNT, 4), 1);
    assert_int_equal(box_get(&box, HALT, 1), 1);
    assert_int_equal(box.s.gpr[X86_RCX], 1);
    HANDLE(ends_halt);
    ask(&box);
    assert_int_equal(box_go_on(&box), CPU_EXIT_HALT);
    assert_int_equal(box_get(&box, COUNT, 4), 2);
    assert_int_equal(box.s.gpr[X86_RCX], 2);
}

static void ask_all(struct box *b) {
    b->on_io = NULL;
    b->cpu->ops->signal(b->cpu, CPU_SIGNAL_NMI, 0);
}

static void an_nmi_waits_for_rsm(void **state) {
    GUEST(asks_nmi, ".code16",
          "out %al, $0x80\n jmp 1f\n 1: addr32 incl 0x50000\n jmp 2f\n 2: rsm");

    HANDLE(asks_nmi);
    box.on_io = ask_all;
    box.s.smi_pending = true;
    BOX_EXEC(&box, plain);
    assert_int_equal(box_get(&box, COUNT, 4), 1);
    assert_int_equal(box_fault(&box).vector, X86_NMI);
    assert_int_equal(box_fault(&box).rip, BOX_CODE);
}

static void in_an_nmi_it_stays_blocked_behind_rsm(void **state) {
    GUEST(asks_nmi2, ".code16", "out %al, $0x80\n rsm");

    HANDLE(asks_nmi2);
    box.on_io = ask_all;
    box.s.smi_pending = true;
    box.s.nmi_blocked = true;
    BOX_EXEC(&box, plain);
    assert_true(box_halted_quietly(&box));
    assert_true(box.s.nmi_blocked && box.s.nmi_pending);
}

static void init_and_leave(struct box *b) {
    if (!accesses++)
        b->cpu->ops->signal(b->cpu, CPU_SIGNAL_INIT, 0);
    else
        b->cpu->ops->kick(b->cpu); /* outside of memory, where processors begin */
}

static void an_init_waits_for_rsm_and_keeps_smbase(void **state) {
    GUEST(asks_init, ".code16",
          "out %al, $0x80\n jmp 1f\n 1: addr32 incl 0x50000\n addr32 movl $0x40000, 0x3ff00\n rsm");

    HANDLE(asks_init);
    box.on_io = init_and_leave;
    box.s.smi_pending = true;
    assert_int_equal(BOX_EXEC(&box, plain), CPU_EXIT_KICK);
    assert_int_equal(box_get(&box, COUNT, 4), 1);
    assert_true(!box.s.smm && !box.s.init_pending);
    assert_int_equal(box.s.seg[SEG_CS].base, 0xffff0000);
    assert_int_equal(box.s.smbase, 0x40000);
}

/* ------------------------------------------------------------------ bad states */

static void a_state_that_cannot_be_shuts_the_processor_down(void **state) {
    static const struct {
        gpa at;
        uint64_t value;
    } bad[] = {
        {CR0, X86_CR0_PG},              /* without PE */
        {CR0, X86_CR0_PE | X86_CR0_NW}, /* without CD */
        {AREA + 0x148, 1ull << 40},     /* CR4 */
        {AREA + 0x150, 1ull << 60},     /* CR3 */
        {AREA + 0xd0, 1ull << 20},      /* EFER */
        {RIP, 1ull << 60},              /* not canonical */
        {AREA + 0x170, X86_FLAG_VM},    /* in long mode */
    };

    HANDLE(stay);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        box_long(&box);
        box.s.smi_pending = true;
        assert_int_equal(BOX_EXEC(&box, plain), CPU_EXIT_HALT);
        box_set(&box, bad[i].at, 8, bad[i].value);
        box.cpu->ops->signal(box.cpu, CPU_SIGNAL_UNHALT, 0);
        assert_int_equal(box_go_on(&box), CPU_EXIT_SHUTDOWN);
    }
}

/* ------------------------------------------------------------------ memory */

static void hide(void) {
    static const uint8_t erased[HIDDEN_SIZE];

    mem_write(&all, HIDDEN, erased, sizeof(erased));
    mem_hide(&box.mem, 0, HIDDEN, HIDDEN_SIZE);
}

static void hidden_memory_is_there_in_the_mode_only(void **state) {
    GUEST(writes, ".code16",
          "addr32 movl $0xabcdef, 0x7e0000\n addr32 mov 0x7e0000, %eax\n addr32 mov %eax, "
          "0x50004\n rsm");
    GUEST(reads, ".code64",
          "movl $0x5a5a, 0x7e0000\n mov 0x7e0000, %eax\n out %al, $0xb2\n mov 0x7e0000, %ebx\n "
          "movl $0x5a5a, 0x7e0000\n hlt");
    uint32_t word;

    hide();
    HANDLE(writes);
    box.on_io = ask;
    BOX_EXEC(&box, reads);
    assert_true(box_halted_quietly(&box));
    assert_int_equal(box.s.gpr[X86_RBX], 0x11223344); /* the bus, as before */
    assert_int_equal(box_get(&box, COUNT + 4, 4), 0xabcdef);
    assert_int_equal(mem_read(&all, HIDDEN, &word, 4), 0);
    assert_int_equal(word, 0xabcdef);
    assert_int_equal(mem_read(&box.mem, HIDDEN, &word, 4), -EFAULT);
    assert_int_equal(mem_write(&box.mem, HIDDEN - 2, &word, 4), -EFAULT);
    mem_hide(&box.mem, 0, HIDDEN, 0);
    assert_int_equal(box_get(&box, HIDDEN, 4), 0xabcdef);
}

static void leave_after_a_while(struct box *b) {
    if (++accesses > 1000)
        b->cpu->ops->kick(b->cpu);
}

static void code_of_hidden_memory_is_not_run_outside(void **state) {
    GUEST(hidden_code, ".code16", "addr32 incl 0x50000\n rsm");

    hide();
    /* The same physical address in both worlds. */
    mem_write(&all, HIDDEN + 0x8000, hidden_code, (size_t)(hidden_code_end - hidden_code));
    box.s.smbase = HIDDEN;
    box.s.smi_pending = true;
    BOX_EXEC(&box, plain);
    assert_int_equal(box_get(&box, COUNT, 4), 1);
    box.on_io = leave_after_a_while;
    box_real(&box);
    box.s.smbase = HIDDEN;
    box.s.seg[SEG_CS].base = HIDDEN;
    box.s.rip = 0x8000;
    assert_int_equal(box_run(&box), CPU_EXIT_KICK);
    assert_int_equal(box_get(&box, COUNT, 4), 1);
}

static void the_same_page_table_leads_to_other_memory(void **state) {
    /* A hot loop outside, and one inside, over the same addresses by turns. */
    GUEST(outside, ".code64",
          "mov $100, %ecx\n xor %ebx, %ebx\n 1: mov 0x7e0010, %eax\n add %rax, %rbx\n out %al, "
          "$0xb2\n dec %ecx\n jnz 1b\n hlt");
    GUEST(
        inside, ".code16",
        "addr32 incl 0x50000\n mov $20, %ecx\n 1: addr32 incl 0x7e0010\n dec %ecx\n jnz 1b\n rsm");
    uint32_t word;

    hide();
    HANDLE(inside);
    box.on_io = ask;
    BOX_EXEC(&box, outside);
    assert_int_equal(box.s.gpr[X86_RBX], 100 * 0x11223344ull);
    assert_int_equal(mem_read(&all, HIDDEN + 0x10, &word, 4), 0);
    assert_true(word >= 100 * 20 && word == box_get(&box, COUNT, 4) * 20);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_box, close_box)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(rsm_brings_everything_back),
        TEST(the_saved_state_stands_where_firmware_looks),
        TEST(the_handler_begins_in_real_mode_with_large_segments),
        TEST(sixteen_bit_code_goes_past_64_kib_in_such_a_segment),
        TEST(rsm_is_undefined_outside),
        TEST(without_such_memory_an_smi_does_nothing),
        TEST(the_smi_of_a_port_comes_before_the_next_instruction),
        TEST(a_second_smi_waits_for_the_end_of_the_first),
        TEST(a_halt_is_restarted_if_the_handler_leaves_it),
        TEST(an_nmi_waits_for_rsm),
        TEST(in_an_nmi_it_stays_blocked_behind_rsm),
        TEST(an_init_waits_for_rsm_and_keeps_smbase),
        TEST(a_state_that_cannot_be_shuts_the_processor_down),
        TEST(hidden_memory_is_there_in_the_mode_only),
        TEST(code_of_hidden_memory_is_not_run_outside),
        TEST(the_same_page_table_leads_to_other_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
