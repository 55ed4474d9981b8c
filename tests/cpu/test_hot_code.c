/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Code that changes while it is translated: by its own stores, through other addresses, by devices,
 * by other threads, by new mappings. Source: SDM vol. 3A 8.1.3, 11.6 (self- and cross-modifying
 * code). */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/trace.h"
#include "cpu/twin.h"

enum { DATA = 0x100000, ALIAS = 0x180000, CR4_PGE = 1 << 7 };

/* Each store goes to R14: to data while it is hot, then onto the byte (or the bytes) in front of
 * which the label 1 stands, an immediate. The sum in RAX tells which immediates were executed. */
#define SMC(name, store, rest)                                                                     \
    GUEST(name, ".code64",                                                                         \
          "mov $1, %ecx\n lea 1f(%rip), %r15\n" store "\n mov $0x11111111, %eax\n1:" rest          \
          "\n inc %rcx")

SMC(smc_mov, "movb $0x77, -1(%r14)", "");
SMC(smc_add, "addl $0x01010101, -4(%r14)", "");
SMC(smc_xchg, "mov $0x55667788, %edx\n xchg %edx, -4(%r14)", "");
SMC(smc_vector, "movups -16(%r14), %xmm1\n pxor 0x100810, %xmm1\n movups %xmm1, -16(%r14)", "");
SMC(smc_push,
    "mov %rsp, %rbp\n mov %r14, %rsp\n push -8(%r14)\n notl (%rsp)\n notl (%rsp)\n"
    "notb 7(%rsp)\n mov %rbp, %rsp",
    "");
SMC(smc_stos, "lea -4(%r14), %rdi\n mov $4, %ecx\n mov $0x42, %al\n rep stosb", "");
SMC(smc_movs, "lea -4(%r14), %rdi\n lea 0x100800, %rsi\n movsl", "");
SMC(smc_locked, "mov -4(%r14), %eax\n mov $0x0badcafe, %edx\n lock cmpxchg %edx, -4(%r14)", "");
SMC(smc_setc, "stc\n setc -2(%r14)", "");
SMC(smc_jump, "movb $0x77, -1(%r14)\n jmp 2f\n nop\n2:", "");
SMC(smc_call, "movb $0x77, -1(%r14)\n call 2f\n2: pop %r13", "");
SMC(smc_bts, "btsl $7, -4(%r14)", "");
SMC(smc_fpu, "fldpi\n fstps -4(%r14)", "");

static int open_twin(void **state, bool eager) {
    static struct twin t;

    twin_new(&t, eager);
    t.heat[14] = DATA + 0x400;
    t.heat[X86_RSP] = BOX_STACK0;
    memcpy(t.s.gpr, t.heat, sizeof(t.heat));
    *state = &t;
    return 0;
}

static int setup(void **state) { return open_twin(state, false); }

static int setup_eager(void **state) { return open_twin(state, true); }

static int teardown(void **state) {
    twin_done(*state);
    return 0;
}

static void a_store_to_the_running_block_counts_from_the_next_instruction_on(void **state) {
    static const struct {
        const uint8_t *start, *end;
    } code[] = {
        {smc_mov, smc_mov_end},       {smc_add, smc_add_end},       {smc_xchg, smc_xchg_end},
        {smc_vector, smc_vector_end}, {smc_push, smc_push_end},     {smc_stos, smc_stos_end},
        {smc_movs, smc_movs_end},     {smc_locked, smc_locked_end}, {smc_setc, smc_setc_end},
        {smc_jump, smc_jump_end},     {smc_call, smc_call_end},     {smc_bts, smc_bts_end},
        {smc_fpu, smc_fpu_end}};
    struct twin *t = *state;

    twin_set(t, DATA + 0x800, 4, 0x13579bdf);
    twin_set(t, DATA + 0x810 + 12, 4, 0x01020304);
    for (unsigned i = 0; i < sizeof(code) / sizeof(code[0]); i++) {
        twin_heat_at(t, BOX_CODE, code[i].start, code[i].end);
        t->s.gpr[14] = t->box[1].s.gpr[15];
        twin_once(t);
        assert_true(t->box[1].s.gpr[X86_RAX] != 0x11111111);
        assert_int_equal(t->box[1].s.gpr[X86_RCX], code[i].start == smc_stos ? 1 : 2);
    }
}

/* The function at RBX + 0x800 (another block, or another page) returns an immediate; 20 calls make
 * it hot, then the immediate is counted up through R14. R8 sums up. */
GUEST(rewrite, ".code64",
      "mov $200, %r12d\n xor %r8d, %r8d\n"
      "1: mov $20, %r13d\n 2: call *%rbx\n add %rax, %r8\n dec %r13d\n jnz 2b\n"
      "incb (%r14)\n call *%rbx\n lea (%r8,%rax,2), %r8\n dec %r12d\n jnz 1b");
GUEST(returns, ".code64", "mov $1, %eax\n ret");
GUEST(falls_through, ".code64",
      "xor %eax, %eax\n jmp 1f\n .byte 0xcc, 0xcc\n 1: mov $1, %eax\n ret");

static uint64_t rewritten(void) {
    uint64_t sum = 0;

    for (unsigned i = 0; i < 200; i++)
        sum += 20 * ((1 + i) & 255) + 2 * ((2 + i) & 255);
    return sum;
}

static void rewrite_function(struct twin *t, gpa function, uint64_t through, const void *start,
                             const void *end, unsigned at) {
    gpa at_gpa = function >= ALIAS ? function - ALIAS + DATA : function;

    twin_put(t, at_gpa, start, (size_t)((const uint8_t *)end - (const uint8_t *)start));
    twin_put(t, BOX_CODE, rewrite, (size_t)(rewrite_end - rewrite));
    twin_set(t, BOX_CODE + (uint64_t)(rewrite_end - rewrite), 1, 0xf4);
    t->s.rip = BOX_CODE;
    t->s.gpr[X86_RBX] = function;
    t->s.gpr[14] = through + at;
    twin_once(t);
    assert_int_equal(t->box[1].s.gpr[8], rewritten());
}

static void stores_reach_other_blocks_and_other_pages(void **state) {
    struct twin *t = *state;

    rewrite_function(t, BOX_CODE + 0x800, BOX_CODE + 0x800, returns, returns_end, 1);
    rewrite_function(t, DATA + 0x800, DATA + 0x800, returns, returns_end, 1);
    /* The function crosses a page, in front of the immediate and in it. */
    for (unsigned i = 1; i < 6; i++)
        rewrite_function(t, DATA + 0x1000 - i, DATA + 0x1000 - i, returns, returns_end, 1);
    rewrite_function(t, DATA + 0x880, DATA + 0x880, falls_through, falls_through_end, 7);
}

static void stores_through_another_address_of_the_page_count(void **state) {
    struct twin *t = *state;

    twin_pte(t, ALIAS, DATA | 7);
    twin_pte(t, ALIAS + 0x1000, (DATA + 0x1000) | 7);
    rewrite_function(t, DATA + 0x800, ALIAS + 0x800, returns, returns_end, 1);
    for (unsigned i = 1; i < 6; i++)
        rewrite_function(t, DATA + 0x1000 - i, ALIAS + 0x1000 - i, returns, returns_end, 1);
    /* Executed at both addresses, written at either. */
    t->s.gpr[X86_RBX] = ALIAS + 0x800;
    rewrite_function(t, ALIAS + 0x800, DATA + 0x800, returns, returns_end, 1);
}

/* A page written through two addresses, which both are known then, before code of it runs. */
GUEST(
    write_then_run, ".code64",
    "movb $0xc3, 6(%rbx)\n movb $0xc3, 6(%r14)\n movb $5, 1(%rbx)\n movb $5, 1(%r14)\n call *%rbx\n"
    "mov %rax, %r8\n movb $6, 1(%rbx)\n call *%rbx\n add %rax, %r8\n movb $7, 1(%r14)\n call "
    "*%rbx\n"
    "add %rax, %r8");

static void writes_that_were_free_are_seen_once_a_page_holds_code(void **state) {
    struct twin *t = *state;

    twin_pte(t, ALIAS, DATA | 7);
    t->heat[X86_RBX] = t->s.gpr[X86_RBX] = DATA + 0x800;
    t->heat[14] = t->s.gpr[14] = ALIAS + 0x800;
    twin_put(t, DATA + 0x800, returns, (size_t)(returns_end - returns));
    TWIN_HEAT(t, write_then_run);
    /* Another page, that has never held code. */
    for (unsigned i = 1; i < 20; i++) {
        twin_pte(t, ALIAS, (DATA + 0x1000 * i) | 7);
        t->s.gpr[X86_RBX] = DATA + 0x1000 * i + 0x800;
        twin_put(t, DATA + 0x1000 * i + 0x800, returns, (size_t)(returns_end - returns));
        twin_once(t);
        assert_int_equal(t->box[1].s.gpr[8], 18);
    }
}

/* 0f at the end of a 64-byte chunk and 04 behind it is no instruction; then a store makes it one.
 */
GUEST(becomes_valid, ".code64", "call *%rbx\n movl $0x00c3001f, (%r14)\n call *%rbx\n hlt");
GUEST(skip_ud, ".code64", "incq 0x72008\n mov 24(%rsp), %rsp\n ret");

static void bytes_behind_an_undefined_opcode_belong_to_it(void **state) {
    static const uint8_t undefined[] = {0x66, 0x0f, 0x04};
    struct twin *t = *state;

    twin_put(t, 0x71000, skip_ud, (size_t)(skip_ud_end - skip_ud));
    for (unsigned i = 0; i < 2; i++)
        box_gate(&t->box[i], X86_UD, BOX_CS64, 0x71000, 14, 0, 1);
    for (unsigned split = 1; split < 3; split++) {
        twin_set(t, 0x72008, 8, 0);
        twin_put(t, DATA + 0x840 - split, undefined + 2 - split, split + 1);
        twin_put(t, BOX_CODE, becomes_valid, (size_t)(becomes_valid_end - becomes_valid));
        t->s.rip = BOX_CODE;
        t->s.gpr[X86_RBX] = DATA + 0x840 - split;
        t->s.gpr[14] = DATA + 0x840; /* the first byte of the next chunk */
        twin_once(t);
        assert_int_equal(box_get(&t->box[0], 0x72008, 8), 1);
    }
}

/* ---- mappings ---- */

/* At 0x100000, and in another page that gets mapped there while the code runs. The store of R8 is
 * the last thing before the jump, whose target the processor then looks up anew, because the code
 * at 0x200000 took the place of the page's translation. */
GUEST(moves_away, ".code64",
      "mov %r8, (%r9)\n cmp $0, %r10\n jne 1f\n ret\n .fill 64, 1, 0xcc\n 1: mov $1, %eax\n ret");
GUEST(mapped_there, ".code64",
      "mov %r8, (%r9)\n cmp $0, %r10\n jne 1f\n ret\n .fill 64, 1, 0xcc\n 1: mov $2, %eax\n ret");
GUEST(
    move_page, ".code64",
    "mov $0x100000, %ebx\n mov $0x72010, %r9d\n xor %r10d, %r10d\n mov $20, %r13d\n"
    "1: call *%rbx\n dec %r13\n jnz 1b\n"
    "mov $0x200000, %r11d\n call *%r11\n mov $0x110007, %r8d\n mov $0x4800, %r9d\n mov $1, %r10d\n"
    "call *%rbx\n mov %rax, %r14\n movq $0x100007, 0x4800\n invlpg 0x100000\n"
    "mov $0x72010, %r9d\n call *%rbx\n mov %rax, %r15\n movq $0x110007, 0x4800\n invlpg 0x100000\n"
    "call *%rbx\n hlt");

static void a_link_between_blocks_holds_for_physical_pages(void **state) {
    struct twin *t = *state;

    twin_put(t, 0x100000, moves_away, (size_t)(moves_away_end - moves_away));
    twin_put(t, 0x110000, mapped_there, (size_t)(mapped_there_end - mapped_there));
    twin_set(t, 0x200000, 1, 0xc3);
    twin_put(t, BOX_CODE, move_page, (size_t)(move_page_end - move_page));
    for (unsigned i = 0; i < 2; i++) {
        struct box *b = &t->box[i];
        b->s = t->s;
        b->s.rip = BOX_CODE;
        assert_int_equal(box_run(b), CPU_EXIT_HALT);
        assert_int_equal(b->s.gpr[15], 1);
        assert_int_equal(b->s.gpr[X86_RAX], 2);
    }
}

/* The function's jump leads to RET when it is translated, and to an instruction that goes on in the
 * next page when it is executed first; then another page is mapped behind it, and the old one is
 * written to. */
GUEST(jumps_to_the_end, ".code64", "cmp $0, %r10\n .byte 0x0f, 0x85\n .long 0x7fe - 10\n ret");
GUEST(remap_the_rest, ".code64",
      "mov $0x100800, %ebx\n xor %r10d, %r10d\n call *%rbx\n movw $0x11b8, 0x100ffe\n"
      "mov $1, %r10d\n mov $20, %r13d\n 1: call *%rbx\n dec %r13\n jnz 1b\n mov %rax, %r14\n"
      "movq $0x110007, 0x4808\n invlpg 0x101000\n call *%rbx\n mov %rax, %r15\n"
      "movq $0x101007, 0x4808\n invlpg 0x101000\n call *%rbx\n mov %rax, %r12\n"
      "movb $5, 0x101000\n call *%rbx\n hlt");

static void an_instruction_across_pages_is_of_what_is_mapped_now(void **state) {
    struct twin *t = *state;

    twin_put(t, 0x100800, jumps_to_the_end, (size_t)(jumps_to_the_end_end - jumps_to_the_end));
    twin_put(t, 0x100ffe, (const uint8_t[]){0xc3, 0xc3, 0, 0, 0, 0xc3}, 6);
    twin_put(t, 0x110000, (const uint8_t[]){1, 0, 0, 0xc3}, 4);
    twin_put(t, BOX_CODE, remap_the_rest, (size_t)(remap_the_rest_end - remap_the_rest));
    for (unsigned i = 0; i < 2; i++) {
        struct box *b = &t->box[i];
        b->s = t->s;
        b->s.rip = BOX_CODE;
        assert_int_equal(box_run(b), CPU_EXIT_HALT);
        assert_int_equal(b->s.gpr[14], 0x11);
        assert_int_equal(b->s.gpr[15], 0x111);
        assert_int_equal(b->s.gpr[12], 0x11);
        assert_int_equal(b->s.gpr[X86_RAX], 0x511);
    }
}

/* ---- devices and other threads ---- */

/* RBX: a function that another thread writes again and again, with the version that it returns in
 * it; afterwards the version goes to 0x72000. CPUID serializes: what is called then is not older.
 */
GUEST(watch_versions, ".code64",
      "mov %rbx, %r15\n 1: mov 0x72000, %r8d\n xor %eax, %eax\n cpuid\n call *%r15\n"
      "cmp %r8d, %eax\n jb 2f\n cmpl $0, 0x72008\n je 1b\n hlt\n 2: ud2");

struct writer {
    struct mem *mem;
    pthread_t thread;
};

enum { VERSIONS = 200000 };

/* mov $version, %eax; nop; nop; ret and mov $version, %rax; ret by turns: whoever takes a part of
 * one for a part of the other executes rubbish. */
static void *write_versions(void *opaque) {
    struct writer *w = opaque;

    for (uint32_t v = 1; v <= VERSIONS; v++) {
        _Alignas(8) uint8_t form[2][8] = {{0xb8, 0, 0, 0, 0, 0x90, 0x90, 0xc3},
                                          {0x48, 0xc7, 0xc0, 0, 0, 0, 0, 0xc3}};
        memcpy(form[0] + 1, &v, 4);
        memcpy(form[1] + 3, &v, 4);
        mem_write(w->mem, DATA + 0x800, form[v & 1], 8);
        mem_written(w->mem, DATA + 0x800, 8);
        mem_write(w->mem, 0x72000, &v, 4);
        for (unsigned i = 0; i < v % 31; i++)
            __builtin_ia32_pause();
    }
    mem_write(w->mem, 0x72008, "stop", 4);
    return NULL;
}

static void another_thread_may_write_code_at_any_time(void **state) {
    struct twin *t = *state;

    for (unsigned i = 0; i < 2; i++) {
        struct box *b = &t->box[i];
        struct writer w = {.mem = &b->mem};
        b->s = t->s;
        b->s.rip = BOX_CODE;
        b->s.gpr[X86_RBX] = DATA + 0x800;
        box_put(b, DATA + 0x800, (const uint8_t[]){0xb8, 0, 0, 0, 0, 0x90, 0x90, 0xc3}, 8);
        box_put(b, BOX_CODE, watch_versions, (size_t)(watch_versions_end - watch_versions));
        assert_int_equal(pthread_create(&w.thread, NULL, write_versions, &w), 0);
        assert_int_equal(box_run(b), CPU_EXIT_HALT);
        pthread_join(w.thread, NULL);
        if (!box_halted_quietly(b))
            fail_msg("vector %u: code of version %#lx ran after version %#lx was out",
                     box_fault(b).vector, (unsigned long)b->s.gpr[X86_RAX],
                     (unsigned long)b->s.gpr[8]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            a_store_to_the_running_block_counts_from_the_next_instruction_on, setup, teardown),
        cmocka_unit_test_setup_teardown(stores_reach_other_blocks_and_other_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(stores_through_another_address_of_the_page_count, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(writes_that_were_free_are_seen_once_a_page_holds_code,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_link_between_blocks_holds_for_physical_pages, setup_eager,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_instruction_across_pages_is_of_what_is_mapped_now,
                                        setup_eager, teardown),
        cmocka_unit_test_setup_teardown(another_thread_may_write_code_at_any_time, setup_eager,
                                        teardown),
        cmocka_unit_test_setup_teardown(bytes_behind_an_undefined_opcode_belong_to_it, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
