/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Machine code of the differential test's child: loads the registers of a case, jumps into its
 * code, and stores the registers when the code or a signal comes back. It is copied to DIFF_STUB;
 * the state that it works on lies one page after its beginning (struct native_state), so that it
 * needs no register for it.
 */
#include "cpu/diff/native.h"

/* clang-format off */
#define STATE "native_stub+0x1000+"

__asm__(
    ".text\n"
    ".balign 64\n"
    ".globl native_stub_begin, native_stub_end, native_enter64, native_enter32, native_resume, native_signal\n"
    "native_stub_begin:\n"
    "native_stub:\n"
    /* The case is over. This must be at offset 0. */
    "    mov %rax, " STATE "0x880(%rip)\n"
    "    mov %rcx, " STATE "0x888(%rip)\n"
    "    mov %rdx, " STATE "0x890(%rip)\n"
    "    mov %rbx, " STATE "0x898(%rip)\n"
    "    mov %rsp, " STATE "0x8a0(%rip)\n"
    "    mov %rbp, " STATE "0x8a8(%rip)\n"
    "    mov %rsi, " STATE "0x8b0(%rip)\n"
    "    mov %rdi, " STATE "0x8b8(%rip)\n"
    "    mov %r8, " STATE "0x8c0(%rip)\n"
    "    mov %r9, " STATE "0x8c8(%rip)\n"
    "    mov %r10, " STATE "0x8d0(%rip)\n"
    "    mov %r11, " STATE "0x8d8(%rip)\n"
    "    mov %r12, " STATE "0x8e0(%rip)\n"
    "    mov %r13, " STATE "0x8e8(%rip)\n"
    "    mov %r14, " STATE "0x8f0(%rip)\n"
    "    mov %r15, " STATE "0x8f8(%rip)\n"
    "    lea " STATE "0x1800(%rip), %rsp\n"
    "    pushfq\n"
    "    popq " STATE "0x920(%rip)\n"
    "    pushq $0x202\n"
    "    popfq\n"
    "    rdfsbase %rax\n"
    "    mov %rax, " STATE "0x928(%rip)\n"
    "    rdgsbase %rax\n"
    "    mov %rax, " STATE "0x930(%rip)\n"
    "    mov %es, %eax\n"
    "    mov %ax, " STATE "0x938(%rip)\n"
    "    mov %ds, %eax\n"
    "    mov %ax, " STATE "0x93a(%rip)\n"
    "    mov %fs, %eax\n"
    "    mov %ax, " STATE "0x93c(%rip)\n"
    "    mov %gs, %eax\n"
    "    mov %ax, " STATE "0x93e(%rip)\n"
    "    mov %ss, %eax\n"
    "    mov %ax, " STATE "0x97a(%rip)\n"
    "    mov " STATE "0x948(%rip), %rax\n"
    "    wrfsbase %rax\n"
    "    mov $7, %eax\n"
    "    xor %edx, %edx\n"
    "    xsave64 " STATE "0x400(%rip)\n"
    "    xor %eax, %eax\n"
    "native_leave:\n"
    "    mov $0x2b, %ecx\n"
    "    mov %ecx, %ss\n"
    "    fninit\n"
    "    movl $0x1f80, " STATE "0x958(%rip)\n"
    "    ldmxcsr " STATE "0x958(%rip)\n"
    "    vzeroupper\n"
    "    mov " STATE "0x940(%rip), %rsp\n"
    "    pop %r15\n"
    "    pop %r14\n"
    "    pop %r13\n"
    "    pop %r12\n"
    "    pop %rbp\n"
    "    pop %rbx\n"
    "    ret\n"
    /* From the signal handler: does not return to it. */
    "native_resume:\n"
    "    lea " STATE "0x1800(%rip), %rsp\n"
    "    pushq $0x202\n"
    "    popfq\n"
    "    mov $1, %eax\n"
    "    jmp native_leave\n"
    /* FS is whatever the case made of it: C needs its own. */
    "native_signal:\n"
    "    pushq $0x202\n" /* Linux leaves AC alone */
    "    popfq\n"
    "    rdfsbase %rax\n"
    "    mov %rax, " STATE "0x980(%rip)\n"
    "    mov " STATE "0x948(%rip), %rax\n"
    "    wrfsbase %rax\n"
    "    sub $8, %rsp\n"
    "    call *" STATE "0x950(%rip)\n"
    "    add $8, %rsp\n" /* a tick while no case ran: on with what it interrupted */
    "    mov " STATE "0x980(%rip), %rax\n"
    "    wrfsbase %rax\n"
    "    ret\n"
    ".macro load_case\n"
    "    push %rbx\n"
    "    push %rbp\n"
    "    push %r12\n"
    "    push %r13\n"
    "    push %r14\n"
    "    push %r15\n"
    "    mov %rsp, " STATE "0x940(%rip)\n"
    "    movw " STATE "0x970(%rip), %ax\n"
    "    mov %eax, %es\n"
    "    movw " STATE "0x972(%rip), %ax\n"
    "    mov %eax, %ds\n"
    "    movw " STATE "0x974(%rip), %ax\n"
    "    mov %eax, %fs\n"
    "    movw " STATE "0x976(%rip), %ax\n"
    "    mov %eax, %gs\n"
    "    movw " STATE "0x978(%rip), %ax\n"
    "    mov %eax, %ss\n"
    "    mov $7, %eax\n"
    "    xor %edx, %edx\n"
    "    xrstor64 " STATE "0(%rip)\n"
    "    mov " STATE "0x910(%rip), %rax\n"
    "    wrfsbase %rax\n"
    "    mov " STATE "0x918(%rip), %rax\n"
    "    wrgsbase %rax\n"
    "    pushq " STATE "0x908(%rip)\n"
    "    popfq\n"
    "    mov " STATE "0x800(%rip), %rax\n"
    "    mov " STATE "0x808(%rip), %rcx\n"
    "    mov " STATE "0x810(%rip), %rdx\n"
    "    mov " STATE "0x818(%rip), %rbx\n"
    "    mov " STATE "0x820(%rip), %rsp\n"
    "    mov " STATE "0x828(%rip), %rbp\n"
    "    mov " STATE "0x830(%rip), %rsi\n"
    "    mov " STATE "0x838(%rip), %rdi\n"
    "    mov " STATE "0x840(%rip), %r8\n"
    "    mov " STATE "0x848(%rip), %r9\n"
    "    mov " STATE "0x850(%rip), %r10\n"
    "    mov " STATE "0x858(%rip), %r11\n"
    "    mov " STATE "0x860(%rip), %r12\n"
    "    mov " STATE "0x868(%rip), %r13\n"
    "    mov " STATE "0x870(%rip), %r14\n"
    "    mov " STATE "0x878(%rip), %r15\n"
    ".endm\n"
    "native_enter64:\n"
    "    load_case\n"
    "    jmp *" STATE "0x900(%rip)\n"
    "native_enter32:\n"
    "    load_case\n"
    "    ljmpl *" STATE "0x960(%rip)\n"
    "native_stub_end:\n"
);
/* clang-format on */

_Static_assert(offsetof(struct native_state, out_x) == 0x400 &&
                   offsetof(struct native_state, gpr) == 0x800 &&
                   offsetof(struct native_state, out_gpr) == 0x880 &&
                   offsetof(struct native_state, rip) == 0x900 &&
                   offsetof(struct native_state, out_rflags) == 0x920 &&
                   offsetof(struct native_state, out_sel) == 0x938 &&
                   offsetof(struct native_state, host_sp) == 0x940 &&
                   offsetof(struct native_state, on_signal) == 0x950 &&
                   offsetof(struct native_state, far_ip) == 0x960 &&
                   offsetof(struct native_state, sel) == 0x970 &&
                   offsetof(struct native_state, ss) == 0x978 &&
                   offsetof(struct native_state, signal_fs) == 0x980,
               "the offsets in the machine code above");
