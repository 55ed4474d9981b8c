/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Control and debug registers, mode switches, MSRs, system calls, ports, time, and what each
 * refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/box.h"
#include "cpu/cpuid.h"

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

/* ------------------------------------------------------------------ from reset to long mode */

/* GDT, 4-level tables for the first 2 MiB, then PE, PAE, LME, PG and a far jump, as a boot loader
 * does. */
GUEST(go_long, ".code16",
      "cli\n"
      "xor %ax, %ax\n mov %ax, %ds\n"
      "lgdtl 0x6000\n"
      "mov %cr0, %eax\n or $1, %al\n mov %eax, %cr0\n"
      "ljmpl $0x18, $0x10100\n"
      ".org go_long + 0x100\n.code32\n"
      "mov $0x10, %eax\n mov %eax, %ds\n mov %eax, %ss\n mov $0x20000, %esp\n"
      "movl $0x2007, 0x1000\n movl $0x3007, 0x2000\n movl $0x87, 0x3000\n"
      "mov $0x1000, %eax\n mov %eax, %cr3\n"
      "mov %cr4, %eax\n or $0x20, %eax\n mov %eax, %cr4\n"
      "mov $0xc0000080, %ecx\n rdmsr\n or $0x100, %eax\n wrmsr\n"
      "mov %cr0, %eax\n or $0x80000000, %eax\n mov %eax, %cr0\n"
      "rdmsr\n mov %eax, %ebx\n" /* LMA is on, in compatibility mode */
      "ljmp $0x08, $0x10200\n"
      ".org go_long + 0x200\n.code64\n"
      "movabs $0x1122334455667788, %r9\n push %r9\n pop %rdi\n hlt");

static void a_boot_loader_reaches_long_mode(void **state) {
    box_protected(&box, false); /* for its GDT */
    box_set(&box, 0x6000, 2, 0x7f);
    box_set(&box, 0x6002, 4, BOX_GDT);
    box_real(&box);
    BOX_EXEC(&box, go_long);
    assert_true(box_halted_quietly(&box));
    assert_int_equal(box.s.gpr[X86_RDI], 0x1122334455667788);
    assert_int_equal(box.s.gpr[X86_RBX], X86_EFER_LME | X86_EFER_LMA);
    assert_int_equal(box.s.efer, X86_EFER_LME | X86_EFER_LMA);
    assert_int_equal(box_get(&box, 0x3000, 1) & 0x60, 0x60); /* the stack made the page dirty */
}

GUEST(big_real, ".code16",
      "lgdtl %cs:0x80\n mov %cr0, %eax\n inc %ax\n mov %eax, %cr0\n mov $0x10, %bx\n mov %bx, %ds\n"
      "dec %ax\n mov %eax, %cr0\n xor %bx, %bx\n mov %bx, %ds\n"
      "mov $0x00123456, %ecx\n addr32 movl $0x600df00d, (%ecx)\n hlt\n"
      ".org big_real + 0x80\n .word 0x7f\n .long 0x5000");

static void limits_survive_the_return_to_real_mode(void **state) {
    box_protected(&box, false);
    box_real(&box);
    BOX_EXEC(&box, big_real);
    assert_true(box_halted_quietly(&box));
    assert_int_equal(box_get(&box, 0x123456, 4), 0x600df00d);
}

/* ------------------------------------------------------------------ control registers */

GUEST(set_cr0, ".code64", "mov %rax, %cr0\n hlt");
GUEST(set_cr3, ".code64", "mov %rax, %cr3\n hlt");
GUEST(set_cr4, ".code64", "mov %rax, %cr4\n hlt");
GUEST(set_cr8, ".code64", "mov %rax, %cr8\n mov %cr8, %rbx\n hlt");
GUEST(get_cr1, ".code64", ".byte 0x0f, 0x20, 0xc8\n hlt");
GUEST(get_cr0, ".code64", "mov %cr0, %rax\n hlt");
GUEST(lmsw, ".code32", "mov $0, %eax\n lmsw %ax\n smsw %ebx\n hlt");

static void set(const uint8_t *start, const uint8_t *end, uint64_t value) {
    box_long(&box);
    box.s.gpr[X86_RAX] = value;
    box_exec(&box, start, end);
}

#define SET(name, value) set(name, name##_end, value)

static void cr0_refuses_what_the_manual_says(void **state) {
    const uint64_t good = X86_CR0_PG | X86_CR0_PE | X86_CR0_WP | X86_CR0_NE;
    const uint64_t bad[] = {good | 1ull << 32, good & ~X86_CR0_PE, good | X86_CR0_NW,
                            good & ~X86_CR0_PG};

    SET(set_cr0, good);
    assert_true(box_halted_quietly(&box));
    assert_int_equal(box.s.cr0, good | X86_CR0_ET);
    SET(set_cr0, good | 1 << 8); /* reserved bits in the low half are ignored */
    assert_int_equal(box.s.cr0, good | X86_CR0_ET);
    for (unsigned i = 0; i < 4; i++) {
        SET(set_cr0, bad[i]);
        expect(X86_GP, 0);
    }
}

static void cr4_refuses_what_is_not_advertised(void **state) {
    const uint64_t good = X86_CR4_PAE;
    const uint64_t bad[] = {0,
                            good | X86_CR4_LA57,
                            good | X86_CR4_SMAP,
                            good | X86_CR4_VME,
                            good | X86_CR4_PVI,
                            good | 1ull << 33,
                            good | 1 << 22 /* PKE */,
                            good | 1 << 13 /* VMXE */};

    SET(set_cr4, good | X86_CR4_PCIDE | X86_CR4_UMIP | X86_CR4_FSGSBASE);
    assert_true(box_halted_quietly(&box));
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        SET(set_cr4, bad[i]);
        expect(X86_GP, 0);
    }
    box_long(&box);
    box.s.cr3 |= 8; /* PCD is bit 4, PWT bit 3: PCIDE wants bits 11:0 clear */
    box.s.gpr[X86_RAX] = good | X86_CR4_PCIDE;
    BOX_EXEC(&box, set_cr4);
    expect(X86_GP, 0);
}

static void osxsave_needs_a_model_with_xsave(void **state) {
    teardown(state);
    box_new(&box, "x86-64-v1");
    SET(set_cr4, X86_CR4_PAE | X86_CR4_OSXSAVE);
    expect(X86_GP, 0);
}

static void cr3_and_cr8_check_their_reserved_bits(void **state) {
    SET(set_cr3, BOX_PML4);
    assert_true(box_halted_quietly(&box));
    SET(set_cr3, 1ull << 40 | BOX_PML4);
    expect(X86_GP, 0);
    SET(set_cr3, 1ull << 63 | BOX_PML4); /* without PCIDE */
    expect(X86_GP, 0);
    box_long(&box);
    box.s.cr4 |= X86_CR4_PCIDE;
    box.s.gpr[X86_RAX] = 1ull << 63 | BOX_PML4 | 5;
    BOX_EXEC(&box, set_cr3);
    assert_true(box_halted_quietly(&box));
    assert_int_equal(box.s.cr3, BOX_PML4 | 5);
    SET(set_cr8, 9);
    assert_int_equal(box.s.gpr[X86_RBX], 9);
    assert_int_equal(box.tpr, 9);
    SET(set_cr8, 16);
    expect(X86_GP, 0);
    SET(get_cr1, 0);
    expect(X86_UD, 0);
}

static void control_registers_belong_to_level_0(void **state) {
    box_long(&box);
    box_ring3(&box);
    BOX_EXEC(&box, get_cr0);
    expect(X86_GP, 0);
}

static void lmsw_cannot_leave_protected_mode(void **state) {
    box_protected(&box, false);
    box.s.cr0 |= X86_CR0_TS;
    BOX_EXEC(&box, lmsw);
    assert_true(box_halted_quietly(&box));
    assert_int_equal(box.s.gpr[X86_RBX] & 0xf, 1);
}

GUEST(stale, ".code64",
      "mov (%rax), %rbx\n"      /* fills the TLB */
      "movq $0x80087, 0x3008\n" /* another large page in place of the second */
      "invlpg 0x1000(%rax)\n"
      "mov (%rax), %rcx\n hlt");

static void invlpg_in_a_large_page_forgets_all_of_it(void **state) {
    box_long(&box);
    box_set(&box, 0x200008, 8, 111);
    box_set(&box, 0x400008, 8, 222);
    box.s.gpr[X86_RAX] = 0x200008;
    box_put(&box, BOX_CODE, stale, (size_t)(stale_end - stale));
    /* movq's immediate: the third 2 MiB */
    box_set(&box, BOX_CODE + 3 + 8, 4, 0x400087);
    box_run(&box);
    assert_true(box_halted_quietly(&box));
    assert_int_equal(box.s.gpr[X86_RBX], 111);
    assert_int_equal(box.s.gpr[X86_RCX], 222);
}

GUEST(invpcid, ".code64", "invpcid 0x50000, %rax\n hlt");

static void invpcid_checks_its_descriptor(void **state) {
    const struct {
        uint64_t type, pcid, address;
        bool ok;
    } tries[] = {
        {0, 0, 0x1000, true}, {1, 0, 0, true},  {2, 7, 0, true},       {3, 7, 0, true},
        {4, 0, 0, false},     {0, 5, 0, false}, {2, 0x1000, 0, false}, {0, 0, 1ull << 47, false},
    };

    for (unsigned i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
        box_long(&box);
        box_set(&box, BOX_DATA, 8, tries[i].pcid);
        box_set(&box, BOX_DATA + 8, 8, tries[i].address);
        box.s.gpr[X86_RAX] = tries[i].type;
        BOX_EXEC(&box, invpcid);
        if (tries[i].ok)
            assert_true(box_halted_quietly(&box));
        else
            expect(X86_GP, 0);
    }
}

/* ------------------------------------------------------------------ user-mode instruction
 * prevention */

GUEST(sgdt64, ".code64", "sgdt 0x50000\n ud2");
GUEST(sldt64, ".code64", "mov $-1, %rax\n sldt %rax\n ud2");
GUEST(lgdt64, ".code64", "lgdt 0x50000\n sgdt 0x50010\n hlt");

static void umip_hides_the_tables_from_user_code(void **state) {
    box_long(&box);
    box_ring3(&box);
    BOX_EXEC(&box, sgdt64);
    expect(X86_UD, 0);
    assert_int_equal(box_get(&box, BOX_DATA, 2), 0x7f);
    assert_int_equal(box_get(&box, BOX_DATA + 2, 8), BOX_GDT);
    box_long(&box);
    box_ring3(&box);
    box.s.cr4 |= X86_CR4_UMIP;
    BOX_EXEC(&box, sgdt64);
    expect(X86_GP, 0);
    box_long(&box);
    box_ring3(&box);
    box.s.cr4 |= X86_CR4_UMIP;
    BOX_EXEC(&box, sldt64);
    expect(X86_GP, 0);
}

static void lgdt_refuses_a_base_that_is_not_canonical(void **state) {
    box_long(&box);
    box_set(&box, BOX_DATA, 2, 0x1234);
    box_set(&box, BOX_DATA + 2, 8, 0xffff800000001000);
    BOX_EXEC(&box, lgdt64);
    assert_int_equal(box_get(&box, BOX_DATA + 0x10, 2), 0x1234);
    assert_int_equal(box_get(&box, BOX_DATA + 0x12, 8), 0xffff800000001000);
    box_long(&box);
    box_set(&box, BOX_DATA + 2, 8, 0x0000800000001000);
    BOX_EXEC(&box, lgdt64);
    expect(X86_GP, 0);
}

/* ------------------------------------------------------------------ system calls */

GUEST(do_syscall, ".code64", "movq $0x8d7, %r11\n push %r11\n popfq\n syscall\n int $0x40");
GUEST(on_syscall, ".code64",
      "mov %cs, %eax\n mov %ss, %ebx\n pushfq\n pop %rdx\n mov %r11, %rsi\n sysretq");
GUEST(on_syscall_tf, ".code64", "or $0x100, %r11d\n sysretq");
GUEST(on_syscall32, ".code64", "sysretl");
GUEST(bad_sysret, ".code64", "movabs $0x800000000000, %rcx\n sysretq");
GUEST(syscall_32, ".code32", "syscall\n hlt");

static void prepare_syscall(const uint8_t *handler, const uint8_t *end) {
    box_long(&box);
    box_ring3(&box);
    /* SYSCALL: CS 8, SS 10h. SYSRET: 64-bit CS 30h and SS 28h are 20h + 16, + 8. */
    box.s.star = (uint64_t)BOX_CS64 << 32 | 0x20ull << 48;
    box.s.lstar = BOX_DATA;
    box.s.sfmask = X86_FLAG_IF | X86_FLAG_TF | X86_FLAG_DF | X86_FLAG_CF;
    box_put(&box, BOX_DATA, handler, (size_t)(end - handler));
    box_gate(&box, 0x40, BOX_CS64, BOX_STUBS + 0x40 * 16, 14, 3, 0);
}

static void syscall_and_sysret_make_a_round_trip(void **state) {
    struct box_frame f;

    prepare_syscall(on_syscall, on_syscall_end);
    BOX_EXEC(&box, do_syscall);
    f = box_fault(&box);
    assert_int_equal(f.vector, 0x40);
    assert_int_equal(f.cs, 0x33);
    assert_int_equal(f.ss, 0x2b);
    assert_int_equal(f.sp, BOX_STACK3);
    assert_int_equal(box.s.gpr[X86_RAX], BOX_CS64);
    assert_int_equal(box.s.gpr[X86_RBX], BOX_CS64 + 8);
    assert_int_equal(box.s.gpr[X86_RDX] & 0x8d5, 0x8d4); /* CF was masked */
    assert_int_equal(box.s.gpr[X86_RSI] & 0x8d5, 0x8d5);
    assert_int_equal(f.flags & 0x8d5, 0x8d5);
}

static void syscall_needs_sce_and_64_bit_code(void **state) {
    prepare_syscall(on_syscall, on_syscall_end);
    box.s.efer &= ~X86_EFER_SCE;
    BOX_EXEC(&box, do_syscall);
    expect(X86_UD, 0);
    prepare_syscall(on_syscall, on_syscall_end);
    box.s.seg[SEG_CS] = (struct x86_segment){.sel = BOX_CS32_3 | 3, .attr = 0xc0fb, .limit = ~0u};
    BOX_EXEC(&box, syscall_32);
    expect(X86_UD, 0);
}

static void sysret_to_a_bad_address_faults_at_level_0(void **state) {
    prepare_syscall(bad_sysret, bad_sysret_end);
    BOX_EXEC(&box, do_syscall);
    expect(X86_GP, 0);
    assert_int_equal(box_fault(&box).cs, BOX_CS64);
}

static void sysret_that_loads_tf_traps_in_front_of_the_next_instruction(void **state) {
    struct box_frame f;

    prepare_syscall(on_syscall_tf, on_syscall_tf_end);
    BOX_EXEC(&box, do_syscall);
    f = box_fault(&box);
    assert_int_equal(f.vector, X86_DB);
    assert_int_equal(f.cs, 0x33);
    assert_int_equal(f.rip, BOX_CODE + (unsigned)(do_syscall_end - do_syscall) - 2);
    assert_true(f.flags & X86_FLAG_TF);
    assert_true(box.s.dr6 & X86_DR6_BS);
}

static void sysret_can_return_to_32_bit_code(void **state) {
    prepare_syscall(on_syscall32, on_syscall32_end);
    box.s.star = (uint64_t)BOX_CS64 << 32 | (uint64_t)BOX_CS32_3 << 48;
    BOX_EXEC(&box, do_syscall); /* INT 40h reads the same in 32-bit code */
    assert_int_equal(box_fault(&box).vector, 0x40);
    assert_int_equal(box_fault(&box).cs, BOX_CS32_3 | 3);
}

GUEST(do_sysenter, ".code32", "mov %esp, %ecx\n mov $0x50100, %edx\n sysenter");
GUEST(on_sysenter, ".code64",
      "mov %cs, %eax\n mov %rsp, %rbx\n mov $0x50100, %edx\n mov $0x30000, %ecx\n sysexitl");
GUEST(after_sysexit, ".code32", "int $0x40");

static void sysenter_goes_to_64_bit_code_from_compatibility_mode(void **state) {
    box_long(&box);
    box_ring3(&box);
    box.s.seg[SEG_CS] = (struct x86_segment){.sel = BOX_CS32_3 | 3, .attr = 0xc0fb, .limit = ~0u};
    box.s.sysenter_cs = BOX_CS64;
    box.s.sysenter_esp = BOX_IST1;
    box.s.sysenter_eip = BOX_DATA;
    box_put(&box, BOX_DATA, on_sysenter, (size_t)(on_sysenter_end - on_sysenter));
    box_put(&box, BOX_DATA + 0x100, after_sysexit, (size_t)(after_sysexit_end - after_sysexit));
    box_gate(&box, 0x40, BOX_CS64, BOX_STUBS + 0x40 * 16, 14, 3, 0);
    BOX_EXEC(&box, do_sysenter);
    assert_int_equal(box_fault(&box).vector, 0x40);
    assert_int_equal(box.s.gpr[X86_RAX], BOX_CS64);
    assert_int_equal(box.s.gpr[X86_RBX], BOX_IST1);
    assert_int_equal(box_fault(&box).cs, (BOX_CS64 + 16) | 3);
    assert_int_equal(box_fault(&box).sp, 0x30000);
    box_long(&box);
    box_ring3(&box);
    box.s.sysenter_cs = 3;
    BOX_EXEC(&box, do_sysenter);
    expect(X86_GP, 0);
}

/* ------------------------------------------------------------------ MSRs */

GUEST(read_msr, ".code64", "rdmsr\n hlt");
GUEST(write_msr, ".code64", "wrmsr\n rdmsr\n hlt");

static bool try_write(uint32_t msr, uint64_t value) {
    box_long(&box);
    box.s.gpr[X86_RCX] = msr;
    box.s.gpr[X86_RAX] = (uint32_t)value;
    box.s.gpr[X86_RDX] = value >> 32;
    BOX_EXEC(&box, write_msr);
    if (box_halted_quietly(&box))
        return true;
    expect(X86_GP, 0);
    return false;
}

static uint64_t read_back(void) { return box.s.gpr[X86_RAX] | box.s.gpr[X86_RDX] << 32; }

static void msrs_keep_what_is_written(void **state) {
    const struct {
        uint32_t msr;
        uint64_t value;
    } pairs[] = {
        {0xc0000081, 0x0023001000000000},
        {0xc0000082, 0xffffffff81000000},
        {0xc0000083, 0x1234},
        {0xc0000084, 0x257fd5},
        {0xc0000100, 0x7f0000000000},
        {0xc0000101, 0xffff888000000000},
        {0xc0000102, 0x55},
        {0xc0000103, 0x12345678},
        {0x174, 0x10},
        {0x175, 0xfffffe0000003000},
        {0x176, 0xffffffff81234567},
        {0x277, 0x0407050600070106},
        {0x2ff, 0xc06},
        {0x200, 0xc0000000},
        {0x20f, 0xffc0000800},
        {0x250, 0x0606060606060606},
        {0x26f, 0x0505050505050505},
        {0x3b, 0x1000},
        {0x48, 1},
        {0xc0000080, 0xd01},
        {0x1a0, 0x1801},
    };

    for (unsigned i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        assert_true(try_write(pairs[i].msr, pairs[i].value));
        assert_int_equal(read_back(), pairs[i].value);
    }
}

static void msrs_refuse_what_cannot_be(void **state) {
    const struct {
        uint32_t msr;
        uint64_t value;
    } pairs[] = {
        {0xc0000082, 1ull << 47},
        {0xc0000100, 1ull << 63},
        {0xc0000102, 1ull << 48},
        {0xc0000084, 1ull << 32},
        {0xc0000103, 1ull << 32},
        {0x277, 2},
        {0x2ff, 7},
        {0x200, 0x2},
        {0x201, 1},
        {0x250, 2},
        {0x48, 8},
        {0x49, 2},
        {0xc0000080, 0x1d01},
        {0xc0000080, 0xc01},
        {0xfe, 0x508},
        {0x10a, 0},
        {0xda0, 1},
        {0x1b, 0},
        {0x8badf00d, 0},
        {0x3a, 5},
    };

    for (unsigned i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
        if (try_write(pairs[i].msr, pairs[i].value))
            fail_msg("MSR %x accepted %lx", pairs[i].msr, pairs[i].value);
}

static void the_apics_registers_are_the_boards(void **state) {
    assert_true(try_write(0x80b, 0x1234));
    assert_int_equal(read_back(), 0x1234 + 0x80b);
    assert_true(try_write(0x6e0, 7));
    assert_int_equal(box.msr_value, 7);
}

static void capabilities_tell_that_nothing_leaks(void **state) {
    box_long(&box);
    box.s.gpr[X86_RCX] = 0x10a;
    BOX_EXEC(&box, read_msr);
    assert_int_equal(read_back() & 0x1ff, 0x17b);
    assert_true(read_back() >> 62 & 1);
}

GUEST(fsgs, ".code64",
      "movabs $0x123456789abc, %rax\n wrfsbase %rax\n rdfsbase %rbx\n wrgsbase %eax\n"
      "rdgsbase %rcx\n swapgs\n rdgsbase %rdx\n hlt");

static void bases_of_fs_and_gs(void **state) {
    box_long(&box);
    box.s.kernel_gs_base = 0x77;
    BOX_EXEC(&box, fsgs);
    expect(X86_UD, 0); /* CR4.FSGSBASE is off */
    box_long(&box);
    box.s.kernel_gs_base = 0x77;
    box.s.cr4 |= X86_CR4_FSGSBASE;
    BOX_EXEC(&box, fsgs);
    assert_int_equal(box.s.gpr[X86_RBX], 0x123456789abc);
    assert_int_equal(box.s.gpr[X86_RCX], 0x56789abc);
    assert_int_equal(box.s.gpr[X86_RDX], 0x77);
    assert_int_equal(box.s.kernel_gs_base, 0x56789abc);
}

/* ------------------------------------------------------------------ time */

GUEST(tsc, ".code64",
      "rdtscp\n shl $32, %rdx\n or %rax, %rdx\n mov %rdx, %rbx\n mov %rcx, %rsi\n"
      "mov $0x10, %ecx\n rdmsr\n shl $32, %rdx\n or %rax, %rdx\n hlt");
GUEST(rdtsc3, ".code64", "rdtsc\n ud2");

static void the_tsc_follows_the_clock_and_its_adjustment(void **state) {
    box_long(&box);
    box.s.tsc_aux = 0x5a;
    clock_step(box.clock, 1000);
    BOX_EXEC(&box, tsc);
    assert_int_equal(box.s.gpr[X86_RBX], 1000);
    assert_int_equal(box.s.gpr[X86_RDX], 1000);
    assert_int_equal(box.s.gpr[X86_RSI], 0x5a);
    assert_true(try_write(0x10, 5000));
    assert_int_equal(read_back(), 5000);
    assert_int_equal(box.s.tsc_adjust, 4000);
}

static void tsd_keeps_the_tsc_from_user_code(void **state) {
    box_long(&box);
    box_ring3(&box);
    BOX_EXEC(&box, rdtsc3);
    expect(X86_UD, 0);
    box_long(&box);
    box_ring3(&box);
    box.s.cr4 |= X86_CR4_TSD;
    BOX_EXEC(&box, rdtsc3);
    expect(X86_GP, 0);
}

static void the_paravirtual_clock_page_describes_the_tsc(void **state) {
    uint32_t version, mul;
    uint64_t stamp, base, ns;
    int8_t shift;

    clock_step(box.clock, 123456789);
    assert_true(try_write(0x4b564d01, BOX_DATA | 1));
    version = (uint32_t)box_get(&box, BOX_DATA, 4);
    stamp = box_get(&box, BOX_DATA + 8, 8);
    base = box_get(&box, BOX_DATA + 16, 8);
    mul = (uint32_t)box_get(&box, BOX_DATA + 24, 4);
    shift = (int8_t)box_get(&box, BOX_DATA + 28, 1);
    assert_true(version && !(version & 1));
    assert_int_equal(stamp, 123456789);
    assert_true(box_get(&box, BOX_DATA + 29, 1) & 1);
    /* A second later by the TSC is a second later by the page. */
    ns = 1000000000;
    ns = shift < 0 ? ns >> -shift : ns << shift;
    ns = base + (uint64_t)((unsigned __int128)ns * mul >> 32);
    assert_in_range(ns, 1123456789 - 2, 1123456789 + 2);
    ref_pvclock_update(box.ref);
    assert_int_equal(box_get(&box, BOX_DATA, 4), version + 2);
    assert_true(try_write(0x4b564d01, 0xfffffffffff1)); /* nowhere: ignored */
}

static void the_wall_clock_is_the_hosts(void **state) {
    uint64_t seconds;

    assert_true(try_write(0x4b564d00, BOX_DATA));
    assert_int_equal(box_get(&box, BOX_DATA, 4) & 1, 0);
    seconds = box_get(&box, BOX_DATA + 4, 4);
    assert_true(seconds > 1700000000 && seconds <= (uint64_t)time(NULL));
    assert_true(box_get(&box, BOX_DATA + 8, 4) < 1000000000);
}

/* ------------------------------------------------------------------ ports */

GUEST(out_80, ".code64", "mov $0x12345678, %eax\n mov $0x1f0, %edx\n out %ax, %dx\n ud2");

static void ports_need_iopl_or_the_bitmap(void **state) {
    box_long(&box);
    box_ring3(&box);
    BOX_EXEC(&box, out_80);
    expect(X86_GP, 0);
    assert_int_equal(box.io_count, 0);

    box_long(&box);
    box_ring3(&box);
    box.s.rflags |= X86_FLAG_IOPL;
    BOX_EXEC(&box, out_80);
    expect(X86_UD, 0);
    assert_int_equal(box.io[0], 0x1f0);
    assert_int_equal(box.io[1], 2);
    assert_int_equal(box.io[2], 0x5678);

    box_long(&box);
    box_ring3(&box);
    box.s.tr.limit = 0x68 + 0x40; /* bitmap of 1f0h is byte 3eh */
    BOX_EXEC(&box, out_80);
    expect(X86_UD, 0);
    box_long(&box);
    box_ring3(&box);
    box.s.tr.limit = 0x68 + 0x40;
    box_set(&box, BOX_TSS + 0x68 + 0x3e, 1, 2); /* 1f1h forbidden: a word at 1f0h too */
    BOX_EXEC(&box, out_80);
    expect(X86_GP, 0);
    box_set(&box, BOX_TSS + 0x68 + 0x3e, 1, 0);
    box_long(&box);
    box_ring3(&box);
    box.s.tr.limit = 0x68 + 0x3e; /* the second byte is past the limit */
    BOX_EXEC(&box, out_80);
    expect(X86_GP, 0);
}

/* ------------------------------------------------------------------ debug registers */

GUEST(get_dr7, ".code64", "mov %dr7, %rax\n hlt");
GUEST(get_dr4, ".code64", "mov %dr4, %rax\n hlt");
GUEST(set_dr6, ".code64", "mov %rax, %dr6\n mov %dr6, %rbx\n hlt");
GUEST(watch, ".code64",
      "mov %rax, %dr0\n mov $0x00050002, %ebx\n mov %rbx, %dr7\n movb $1, 0x50003\n nop\n hlt");
GUEST(breakpoint, ".code64",
      "mov %rax, %dr1\n mov $0x00000008, %ebx\n mov %rbx, %dr7\n nop\n target: inc %rcx\n hlt");

static void debug_registers_have_fixed_bits(void **state) {
    SET(set_dr6, 0);
    assert_int_equal(box.s.gpr[X86_RBX], 0xffff0ff0);
    SET(set_dr6, 1ull << 32);
    expect(X86_GP, 0);
    SET(get_dr4, 0);
    assert_int_equal(box.s.gpr[X86_RAX], 0xffff0ff0);
    box_long(&box);
    box.s.cr4 |= X86_CR4_DE;
    BOX_EXEC(&box, get_dr4);
    expect(X86_UD, 0);
}

static void general_detect_traps_accesses_once(void **state) {
    box_long(&box);
    box.s.dr7 |= 1 << 13;
    BOX_EXEC(&box, get_dr7);
    expect(X86_DB, 0);
    assert_true(box.s.dr6 >> 13 & 1);
    assert_false(box.s.dr7 >> 13 & 1);
    assert_int_equal(box_fault(&box).rip, BOX_CODE);
}

static void a_watched_store_traps_behind_itself(void **state) {
    SET(watch, BOX_DATA + 3);
    expect(X86_DB, 0);
    assert_int_equal(box.s.dr6 & 0xf, 1);
    assert_int_equal(box_fault(&box).rip, BOX_CODE + (unsigned)(watch_end - watch) - 2);
    assert_int_equal(box_get(&box, BOX_DATA + 3, 1), 1);
}

GUEST(watch_port, ".code64",
      "mov $0x83, %eax\n mov %rax, %dr2\n mov $0x0e000020, %eax\n mov %rax, %dr7\n" /* 4 bytes */
      "out %al, $0x84\n in $0x81, %al\n nop\n hlt");

static void a_watched_port_traps_behind_the_access_when_de_is_set(void **state) {
    box_long(&box);
    box.s.cr4 |= X86_CR4_DE;
    BOX_EXEC(&box, watch_port);
    expect(X86_DB, 0);
    assert_int_equal(box.s.dr6 & 0xf, 4);
    assert_int_equal(box_fault(&box).rip, BOX_CODE + (unsigned)(watch_port_end - watch_port) - 2);
    box_long(&box);
    BOX_EXEC(&box, watch_port);
    assert_true(box_halted_quietly(&box)); /* the kind is undefined then */
}

static void an_instruction_breakpoint_faults_before_it(void **state) {
    SET(breakpoint, BOX_CODE + (unsigned)(breakpoint_end - breakpoint) - 4);
    expect(X86_DB, 0);
    assert_int_equal(box.s.dr6 & 0xf, 2);
    assert_int_equal(box_fault(&box).rip, BOX_CODE + (unsigned)(breakpoint_end - breakpoint) - 4);
    assert_int_equal(box.s.gpr[X86_RCX], 0);
}

/* ------------------------------------------------------------------ the rest */

GUEST(random, ".code64", "rdrand %rax\n setc %cl\n rdrand %rbx\n rdseed %edx\n rdpid %rsi\n hlt");
GUEST(xcr, ".code64", "xor %ecx, %ecx\n xor %edx, %edx\n xsetbv\n xgetbv\n hlt");
GUEST(call_kvm, ".code64",
      "mov $99, %eax\n vmcall\n mov %rax, %rbx\n mov $1, %eax\n vmmcall\n hlt");
GUEST(clflush, ".code64", "clflush (%rax)\n hlt");
GUEST(monitor, ".code64", "monitor\n hlt");
GUEST(stac, ".code64", "stac\n hlt");

static void random_numbers_differ(void **state) {
    box_long(&box);
    box.s.tsc_aux = 3;
    BOX_EXEC(&box, random);
    assert_true(box_halted_quietly(&box));
    assert_int_not_equal(box.s.gpr[X86_RAX], box.s.gpr[X86_RBX]);
    assert_int_equal(box.s.gpr[X86_RCX] & 0xff, 1);
    assert_int_equal(box.s.gpr[X86_RSI], 3);
}

static void xcr0_takes_only_what_the_model_has(void **state) {
    const struct {
        uint32_t value;
        bool ok;
    } tries[] = {{1, true},  {3, true},  {7, true},     {0, false},
                 {5, false}, {2, false}, {0xe7, false}, {0x207, false}};

    if (!(cpuid_word(&box.cpu->config, CPUID_1_ECX) >> 28 & 1))
        skip();
    for (unsigned i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
        box_long(&box);
        box.s.cr4 |= X86_CR4_OSXSAVE;
        box.s.gpr[X86_RAX] = tries[i].value;
        BOX_EXEC(&box, xcr);
        if (tries[i].ok)
            assert_int_equal(box.s.gpr[X86_RAX], tries[i].value);
        else
            expect(X86_GP, 0);
    }
    SET(xcr, 1);
    expect(X86_UD, 0); /* CR4.OSXSAVE is off */
}

static void a_board_without_hypercalls_says_so(void **state) {
    box_long(&box);
    box.ref->cpu.config.bus.hypercall = NULL;
    BOX_EXEC(&box, call_kvm);
    assert_int_equal(box.s.gpr[X86_RBX], (uint64_t)-1000); /* ENOSYS of KVM */
    assert_int_equal(box.s.gpr[X86_RAX], (uint64_t)-1000);
}

static void cache_line_flushes_look_at_the_page_rights(void **state) {
    SET(clflush, BOX_DATA);
    assert_true(box_halted_quietly(&box));
    SET(clflush, 0x12345000);
    expect(X86_PF, 0);
}

static void what_is_not_advertised_is_undefined(void **state) {
    SET(monitor, 0);
    expect(X86_UD, 0);
    SET(stac, 0);
    expect(X86_UD, 0);
}

/* ------------------------------------------------------------------ alignment check (SDM vol. 3A
 * 6.15, interrupt 17): RDI is the address */

GUEST(ac_word, ".code64", "mov (%rdi), %ax\n hlt");
GUEST(ac_dword, ".code64", "addl $1, (%rdi)\n hlt");
GUEST(ac_qword, ".code64", "mov %rax, (%rdi)\n hlt");
GUEST(ac_byte, ".code64", "mov (%rdi), %al\n hlt");
GUEST(ac_push, ".code64", "mov %rdi, %rsp\n push %rax\n hlt");
GUEST(ac_movups, ".code64", "movups (%rdi), %xmm0\n movups %xmm0, (%rdi)\n hlt");
GUEST(ac_movaps, ".code64", "movaps (%rdi), %xmm0\n hlt");
GUEST(ac_movsd, ".code64", "movsd (%rdi), %xmm0\n hlt");
GUEST(ac_paddq, ".code64", "paddq (%rdi), %mm0\n hlt");
GUEST(ac_fld80, ".code64", "fldt (%rdi)\n hlt");
GUEST(ac_fnstenv, ".code64", "fnstenv (%rdi)\n hlt");
GUEST(ac_fxsave, ".code64", "fxsave (%rdi)\n hlt");
GUEST(ac_gather, ".code64",
      "vpcmpeqd %ymm1, %ymm1, %ymm1\n vpxor %xmm2, %xmm2, %xmm2\n"
      "vpgatherdd %ymm1, (%rdi,%ymm2), %ymm0\n hlt");

static const struct ac_case {
    const uint8_t *code, *end;
    unsigned offset; /* from a multiple of 16 */
    int vector;      /* -1: none; HLT at level 3 ends it, with #GP */
} ac_cases[] = {
    {ac_word, ac_word_end, 1, X86_AC},       {ac_word, ac_word_end, 2, -1},
    {ac_dword, ac_dword_end, 2, X86_AC},     {ac_dword, ac_dword_end, 4, -1},
    {ac_qword, ac_qword_end, 4, X86_AC},     {ac_qword, ac_qword_end, 8, -1},
    {ac_byte, ac_byte_end, 1, -1},           {ac_push, ac_push_end, 4, X86_AC},
    {ac_push, ac_push_end, 8, -1},           {ac_movups, ac_movups_end, 1, -1},
    {ac_movaps, ac_movaps_end, 1, X86_GP},   {ac_movsd, ac_movsd_end, 4, X86_AC},
    {ac_movsd, ac_movsd_end, 8, -1},         {ac_paddq, ac_paddq_end, 1, X86_AC},
    {ac_fld80, ac_fld80_end, 4, X86_AC},     {ac_fld80, ac_fld80_end, 8, -1},
    {ac_fnstenv, ac_fnstenv_end, 2, X86_AC}, {ac_fnstenv, ac_fnstenv_end, 4, -1},
    {ac_fxsave, ac_fxsave_end, 1, X86_AC},   {ac_fxsave, ac_fxsave_end, 8, X86_GP},
    {ac_gather, ac_gather_end, 1, -1},
};

static void run_ac(const struct ac_case *k, bool am, bool ac, bool user) {
    box_long(&box);
    box.s.cr0 |= am ? X86_CR0_AM : 0;
    box.s.cr4 |= X86_CR4_OSFXSR | X86_CR4_OSXSAVE;
    box.s.xcr0 = 7;
    box.s.rflags |= ac ? X86_FLAG_AC : 0;
    if (user)
        box_ring3(&box);
    box.s.gpr[X86_RDI] = BOX_DATA + k->offset;
    box_exec(&box, k->code, k->end);
}

static void misaligned_user_accesses_raise_an_alignment_check(void **state) {
    for (unsigned i = 0; i < sizeof(ac_cases) / sizeof(ac_cases[0]); i++) {
        const struct ac_case *k = &ac_cases[i];
        struct box_frame f;

        run_ac(k, true, true, true);
        f = box_fault(&box);
        assert_int_equal(f.vector, k->vector < 0 ? X86_GP : k->vector);
        assert_int_equal(f.error, 0);
        if (k->vector < 0) /* the HLT */
            assert_int_equal(f.rip, BOX_CODE + (k->end - k->code) - 1);
        else
            assert_true(f.rip < BOX_CODE + (uint64_t)(k->end - k->code) - 1);
    }
}

static void alignment_needs_am_and_ac_and_level_3(void **state) {
    for (unsigned i = 0; i < sizeof(ac_cases) / sizeof(ac_cases[0]); i++) {
        const struct ac_case *k = &ac_cases[i];
        uint64_t last = BOX_CODE + (uint64_t)(k->end - k->code) - 1;

        if (k->vector != X86_AC || k->code == ac_fxsave)
            continue;
        run_ac(k, false, true, true);
        assert_int_equal(box_fault(&box).rip, last);
        run_ac(k, true, false, true);
        assert_int_equal(box_fault(&box).rip, last);
        run_ac(k, true, true, false);
        assert_true(box_halted_quietly(&box));
    }
}

/* The load before POPF may be misaligned, the same one behind it may not. */
GUEST(ac_popf, ".code64",
      "mov 1(%rdi), %rax\n pushf\n orl $0x40000, (%rsp)\n popf\n mov 1(%rdi), %rax\n hlt");

static void popf_switches_the_alignment_check_on(void **state) {
    struct box_frame f;

    box_long(&box);
    box.s.cr0 |= X86_CR0_AM;
    box_ring3(&box);
    box.s.gpr[X86_RDI] = BOX_DATA;
    BOX_EXEC(&box, ac_popf);
    f = box_fault(&box);
    assert_int_equal(f.vector, X86_AC);
    assert_int_equal(f.rip, BOX_CODE + (ac_popf_end - ac_popf) - 5);
    assert_true(f.flags & X86_FLAG_AC);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_boot_loader_reaches_long_mode),
        TEST(limits_survive_the_return_to_real_mode),
        TEST(cr0_refuses_what_the_manual_says),
        TEST(cr4_refuses_what_is_not_advertised),
        TEST(osxsave_needs_a_model_with_xsave),
        TEST(cr3_and_cr8_check_their_reserved_bits),
        TEST(control_registers_belong_to_level_0),
        TEST(lmsw_cannot_leave_protected_mode),
        TEST(invlpg_in_a_large_page_forgets_all_of_it),
        TEST(invpcid_checks_its_descriptor),
        TEST(umip_hides_the_tables_from_user_code),
        TEST(lgdt_refuses_a_base_that_is_not_canonical),
        TEST(syscall_and_sysret_make_a_round_trip),
        TEST(syscall_needs_sce_and_64_bit_code),
        TEST(sysret_to_a_bad_address_faults_at_level_0),
        TEST(sysret_that_loads_tf_traps_in_front_of_the_next_instruction),
        TEST(sysret_can_return_to_32_bit_code),
        TEST(sysenter_goes_to_64_bit_code_from_compatibility_mode),
        TEST(msrs_keep_what_is_written),
        TEST(msrs_refuse_what_cannot_be),
        TEST(the_apics_registers_are_the_boards),
        TEST(capabilities_tell_that_nothing_leaks),
        TEST(bases_of_fs_and_gs),
        TEST(the_tsc_follows_the_clock_and_its_adjustment),
        TEST(tsd_keeps_the_tsc_from_user_code),
        TEST(the_paravirtual_clock_page_describes_the_tsc),
        TEST(the_wall_clock_is_the_hosts),
        TEST(ports_need_iopl_or_the_bitmap),
        TEST(debug_registers_have_fixed_bits),
        TEST(general_detect_traps_accesses_once),
        TEST(a_watched_store_traps_behind_itself),
        TEST(a_watched_port_traps_behind_the_access_when_de_is_set),
        TEST(an_instruction_breakpoint_faults_before_it),
        TEST(random_numbers_differ),
        TEST(xcr0_takes_only_what_the_model_has),
        TEST(a_board_without_hypercalls_says_so),
        TEST(cache_line_flushes_look_at_the_page_rights),
        TEST(what_is_not_advertised_is_undefined),
        TEST(misaligned_user_accesses_raise_an_alignment_check),
        TEST(alignment_needs_am_and_ac_and_level_3),
        TEST(popf_switches_the_alignment_check_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
