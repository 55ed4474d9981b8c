/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A UEFI application without sections but one: says "efi application" on the serial line, and ends
 * through the debug-exit port with 0x21. Linked as flat bytes from 0. Source: PE/COFF 8.3. */
        .code64
        .section .text
        .globl start
base:   .ascii "MZ"
        .org 60
        .long pe - base
pe:     .ascii "PE\0\0"
        .word 0x8664, 1 /* one section */
        .long 0, 0, 0
        .word sections - optional
        .word 0x22e
optional:
        .word 0x20b
        .byte 2, 0
        .long 0x1000, 0, 0
        .long 0x1000, 0x1000 /* entry, base of code */
        .quad 0
        .long 0x1000, 0x1000
        .word 0, 0, 0, 0, 0, 0
        .long 0
        .long 0x2000, 0x1000, 0 /* size of image and headers */
        .word 10, 0             /* EFI application */
        .quad 0x10000, 0x10000, 0, 0
        .long 0, 6
        .fill 6, 8, 0
sections:
        .ascii ".text\0\0\0"
        .long 0x1000, 0x1000, 0x1000, 0x1000, 0, 0
        .word 0, 0
        .long 0x60000020
        .balign 4096, 0
start:  lea text(%rip), %rsi
1:      lodsb
        test %al, %al
        jz 3f
        mov %al, %bl
2:      mov $0x3fd, %edx
        in %dx, %al
        test $0x20, %al
        jz 2b
        mov $0x3f8, %edx
        mov %bl, %al
        out %al, %dx
        jmp 1b
3:      mov $0x10, %eax
        mov $0xf4, %edx
        out %eax, %dx
        hlt
text:   .asciz "efi application\n"
        .balign 4096, 0
