/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A multiboot kernel that says on the serial line what its boot loader told it, and ends through the
 * debug-exit port with 0x21. VERSION is 1 or 2; ADDRESSES has it loaded by the header's addresses;
 * RELOCATABLE (version 2) asks for the top of memory; GRAPHICS for a picture of 800x600.
 */
#if VERSION == 1
#define MAGIC 0x2badb002
#else
#define MAGIC 0x36d76289
#endif
        .code32
        .section .text
        .globl start
begin:
#if VERSION == 1
#ifdef ADDRESSES
#define KIND 0x10000
#else
#define KIND 0
#endif
#ifdef GRAPHICS
#define FLAGS (KIND | 7)
#else
#define FLAGS (KIND | 3)
#endif
        .balign 4
header: .long 0x1badb002, FLAGS, -(0x1badb002 + FLAGS)
        .long header, begin, end, bss_end, start
        .long 0, 800, 600, 32
#else
        .balign 8
header: .long 0xe85250d6, 0, header_end - header, -(0xe85250d6 + (header_end - header))
#ifdef ADDRESSES
        .word 2, 0
        .long 24, header, begin, end, bss_end
        .word 3, 0
        .long 12, start, 0
#endif
#ifdef RELOCATABLE
        .word 10, 0
        .long 24, 0x200000, 0xffffffff, 0x1000, 2
#endif
#ifdef GRAPHICS
        .word 5, 1
        .long 20, 800, 600, 32, 0
#endif
        .word 1, 0 /* the map of memory, the line */
        .long 16, 6, 1
        .word 7, 1 /* EFI, if there is one */
        .long 8
        .word 0, 0
        .long 8
header_end:
#endif

/* Works wherever it lies: %ebp is the distance from where it was linked to. */
start:
        call 1f
1:      pop %ebp
        sub $1b, %ebp
        lea stack(%ebp), %esp
        mov %ebx, %esi /* the information */
        cmp $MAGIC, %eax
        jne fail
        cmpl $0, zeroes(%ebp)
        jne fail
#if VERSION == 1
        mov 16(%esi), %edi
        call line
        mov 64(%esi), %edi
        call line
        mov 20(%esi), %ecx
        mov 24(%esi), %ebx
2:      jecxz 3f
        mov 8(%ebx), %edi
        call line
        mov (%ebx), %edi /* the module itself is text, and aligned */
        test $0xfff, %edi
        jnz fail
        mov 4(%ebx), %edx
        movb $0, (%edx)
        call line
        add $16, %ebx
        dec %ecx
        jmp 2b
3:      testl $0x40, (%esi)
        jz fail
#ifdef GRAPHICS
        mov 88(%esi), %ebx
        mov 96(%esi), %edx
#endif
#else
        mov (%esi), %ecx
        add %esi, %ecx /* its end */
        lea 8(%esi), %ebx
2:      cmp %ecx, %ebx
        jae fail
        mov (%ebx), %eax
        lea 8(%ebx), %edi
        test %eax, %eax
        jz 3f
        cmp $1, %eax
        je 4f
        cmp $2, %eax
        je 4f
        cmp $3, %eax
        je 5f
        cmp $8, %eax
        je 7f
        cmp $21, %eax
        jne 6f
        mov 8(%ebx), %eax
        sub %ebp, %eax
        cmp $begin, %eax
        jne fail
        jmp 6f
7:      mov 8(%ebx), %eax
        mov %eax, address(%ebp)
        mov 16(%ebx), %eax
        mov %eax, pitch(%ebp)
        jmp 6f
5:      add $8, %edi
        call line
        mov 8(%ebx), %edi
        mov 12(%ebx), %edx
        movb $0, (%edx)
4:      call line
6:      mov 4(%ebx), %eax
        add $7, %eax
        and $~7, %eax
        add %eax, %ebx
        jmp 2b
3:
#ifdef RELOCATABLE
        test %ebp, %ebp
        jz fail
#endif
#ifdef GRAPHICS
        mov address(%ebp), %ebx
        mov pitch(%ebp), %edx
#endif
#endif
#ifdef GRAPHICS
        cmp $3200, %edx /* a red picture */
        jne fail
        mov %ebx, %edi
        mov $0xff0000, %eax
        mov $480000, %ecx
        rep stosl
        lea drawn(%ebp), %edi
        call line
8:      hlt
        jmp 8b
#endif
        mov $0x10, %eax
        jmp leave
fail:   mov $0x7f, %eax
leave:  mov $0xf4, %edx
        out %eax, %dx
        cli
        hlt

/* Prints %edi up to its zero, and a new line; keeps all registers. */
line:   pusha
1:      mov (%edi), %bl
        test %bl, %bl
        jz 2f
        call char
        inc %edi
        jmp 1b
2:      mov $10, %bl
        call char
        popa
        ret
char:   mov $0x3fd, %edx
1:      in %dx, %al
        test $0x20, %al
        jz 1b
        mov $0x3f8, %edx
        mov %bl, %al
        out %al, %dx
        ret

drawn:  .asciz "drawn"
        .balign 4
address: .long 0
pitch:  .long 0
end:
        .section .bss
        .balign 16
zeroes: .space 0x1000
stack:
bss_end:
