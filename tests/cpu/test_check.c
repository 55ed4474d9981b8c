/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The lock-step of --check: it is silent while the translator is right, and finds what was made
 * wrong in translated code. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/trace.h"
#include "cpu/box.h"
#include "cpu/soft/jit/jit_internal.h"

static struct box box;
static FILE *report; /* what went to standard error meanwhile */
static int real_stderr;

static int setup(void **state) {
    struct cpu_config config = {.eager = true, .debug = {.check = true, .check_all = true}};

    if (!jit_missing())
        box_new_config(&box, &cpu_soft_ops, config);
    return 0;
}

static int teardown(void **state) {
    if (!jit_missing())
        box_done(&box);
    return 0;
}

#define NEEDS_TRANSLATOR()                                                                         \
    if (jit_missing())                                                                             \
    skip()

static void listen(void) {
    report = tmpfile();
    assert_non_null(report);
    fflush(stderr);
    real_stderr = dup(STDERR_FILENO);
    dup2(fileno(report), STDERR_FILENO);
}

static const char *heard(void) {
    static char text[65536];
    size_t n;

    fflush(stderr);
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    rewind(report);
    n = fread(text, 1, sizeof(text) - 1, report);
    text[n] = 0;
    fclose(report);
    return text;
}

/* Replaces the only place in translated code where `from` stands. */
static void spoil(const void *from, const void *to, size_t n) {
    struct jit_cache *k = box.ref->jit.cache;
    uint8_t *found = NULL;

    for (size_t i = k->start; i + n <= k->used; i++)
        if (!memcmp(k->rw + i, from, n)) {
            assert_null(found);
            found = k->rw + i;
        }
    assert_non_null(found);
    memcpy(found, to, n);
}

static enum cpu_exit run_again(void) {
    struct error err = {0};

    box_long(&box);
    box.s.cr4 |= X86_CR4_OSXSAVE;
    box.s.gpr[X86_RDI] = BOX_DATA;
    assert_int_equal(box.cpu->ops->set_state(box.cpu, &box.s, &err), 0);
    return box.cpu->ops->run(box.cpu);
}

static uint64_t checks(void) { return stat_counts[STAT_jit_checks]; }

/* Runs the code twice: as it was translated, then spoilt. The report must contain `text`. */
static void finds(const uint8_t *code, const uint8_t *end, const char *from, const char *to,
                  size_t n, const char *text) {
    uint64_t before = checks();
    const char *said;
    enum cpu_exit exit;

    box_put(&box, BOX_CODE, code, (size_t)(end - code));
    assert_int_equal(run_again(), CPU_EXIT_HALT);
    assert_true(checks() > before);
    spoil(from, to, n);
    listen();
    exit = run_again();
    said = heard();
    if (exit != CPU_EXIT_ERROR)
        fail_msg("nothing was found");
    if (!strstr(said, text) || !strstr(said, "guest code, and what it became"))
        fail_msg("the report does not say '%s':\n%s", text, said);
    assert_non_null(strstr(box.cpu->error.text, "disagree about the block at 0x1"));
}

#define FINDS(name, from, to, text) finds(name, name##_end, from, to, sizeof(from) - 1, text)

/* ------------------------------------------------------------------ what is found */

GUEST(add, ".code64", "mov $5, %ebx\n add $0x11223344, %rbx\n mov %rbx, (%rdi)\n hlt");

static void a_wrong_register_is_found_and_marked(void **state) {
    NEEDS_TRANSLATOR();
    FINDS(add, "\x48\x81\xc3\x44\x33\x22\x11", "\x48\x81\xc3\x44\x33\x22\x12",
          "* rbx     0000000000000000  0000000011223349  0000000012223349");
}

GUEST(store, ".code64", "mov $0x77, %eax\n xor %ebx, %ebx\n mov %rax, 0x1230(%rdi,%rbx)\n hlt");

static void a_store_to_a_wrong_address_is_found(void **state) {
    NEEDS_TRANSLATOR();
    FINDS(store, "\x30\x12\x00\x00", "\x38\x12\x00\x00", "* memory at physical 0x51230");
}

static void a_store_to_a_wrong_page_is_found(void **state) {
    NEEDS_TRANSLATOR();
    FINDS(store, "\x30\x12\x00\x00", "\x30\x22\x00\x00", "* memory at physical 0x52230");
}

GUEST(branch, ".code64",
      "mov $0x1234, %eax\n cmp $0x1234, %eax\n je 1f\n mov $1, %ebx\n hlt\n 1: mov $2, %ebx\n hlt");

static void a_branch_that_goes_the_wrong_way_is_found(void **state) {
    NEEDS_TRANSLATOR();
    FINDS(branch, "\x3d\x34\x12\x00\x00", "\x3d\x35\x12\x00\x00", "never comes to where");
}

/* The flags of CMP are read behind a jump: what is found is the reader. */
GUEST(flags, ".code64",
      "mov $0x1234, %eax\n cmp $0x1234, %eax\n jmp 1f\n .skip 100\n"
      "1: sete %bl\n mov %rbx, (%rdi)\n hlt");

static void a_wrong_flag_is_found_where_it_is_read(void **state) {
    NEEDS_TRANSLATOR();
    FINDS(flags, "\x3d\x34\x12\x00\x00", "\x3d\x35\x12\x00\x00", "because of the block at 0x10000");
}

/* PUSHF is the interpreter's, in a block of its own. */
GUEST(pushed, ".code64", "mov $0x1234, %eax\n cmp $0x1234, %eax\n pushf\n pop %rcx\n hlt");

static void a_wrong_flag_is_found_when_the_interpreter_reads_it(void **state) {
    NEEDS_TRANSLATOR();
    FINDS(pushed, "\x3d\x34\x12\x00\x00", "\x3d\x35\x12\x00\x00", "rcx");
}

GUEST(
    vector, ".code64",
    "movdqu (%rdi), %xmm9\n paddd %xmm9, %xmm3\n pcmpeqd %xmm9, %xmm9\n psubd %xmm9, %xmm3\n hlt");

static void a_wrong_vector_register_is_found_and_named(void **state) {
    NEEDS_TRANSLATOR();
    FINDS(vector, "\x66\x41\x0f\xfa\xd9", "\x66\x41\x0f\xfe\xd9", "vec");
}

/* ------------------------------------------------------------------ what is none */

/* Flags that are dead may be anything. */
GUEST(dead, ".code64",
      "mov $0x1234, %eax\n cmp $0x1234, %eax\n jmp 1f\n .skip 100\n"
      "1: xor %ebx, %ebx\n mov %rbx, (%rdi)\n hlt");

static void a_flag_that_nobody_reads_may_be_wrong(void **state) {
    NEEDS_TRANSLATOR();
    box_put(&box, BOX_CODE, dead, (size_t)(dead_end - dead));
    assert_int_equal(run_again(), CPU_EXIT_HALT);
    spoil("\x3d\x34\x12\x00\x00", "\x3d\x35\x12\x00\x00", 5);
    assert_int_equal(run_again(), CPU_EXIT_HALT);
}

/* Flags after DIV are undefined: those from before are as good as others. */
GUEST(open_flags, ".code64",
      "xor %edx, %edx\n mov $7, %ebx\n mov $0x1234, %eax\n cmp $0x1234, %eax\n div %ebx\n"
      "jmp 1f\n .skip 100\n 1: pushf\n pop %rcx\n hlt");

static void a_flag_that_an_instruction_leaves_open_may_be_anything(void **state) {
    NEEDS_TRANSLATOR();
    box_put(&box, BOX_CODE, open_flags, (size_t)(open_flags_end - open_flags));
    assert_int_equal(run_again(), CPU_EXIT_HALT);
    spoil("\x3d\x34\x12\x00\x00", "\x3d\x35\x12\x00\x00", 5);
    assert_int_equal(run_again(), CPU_EXIT_HALT);
}

/* Ports, memory without RAM, the time: each is done once. */
GUEST(devices, ".code64",
      "mov $0xf4, %edx\n mov $3, %eax\n out %eax, %dx\n"
      "mov $0x700000, %esi\n movl $7, 0x10(%rsi)\n"
      "rdtsc\n mov %rdi, %rsi\n lea 64(%rdi), %rdi\n mov $40, %ecx\n rep movsb\n hlt");

static void what_goes_to_a_device_is_done_once(void **state) {
    NEEDS_TRANSLATOR();
    box_put(&box, BOX_CODE, devices, (size_t)(devices_end - devices));
    box_long(&box);
    box_set(&box, 0x3000 + 3 * 8, 8, 0x40000087); /* 6 MiB: where no RAM is */
    box.s.gpr[X86_RDI] = BOX_DATA;
    assert_int_equal(box_run(&box), CPU_EXIT_HALT);
    assert_int_equal(box.io_count, 6);
    assert_int_equal(box.io[3], 0x40100010);
    assert_int_equal(box.io[5], 7);
}

/* Code that writes over itself, faults, and goes on. */
GUEST(rewriting, ".code64",
      "mov $200, %ecx\n"
      "1: lea 2f(%rip), %rbx\n mov %ecx, 1(%rbx)\n"
      "2: mov $0, %eax\n add %rax, (%rdi)\n dec %ecx\n jnz 1b\n"
      "mov 0x40000000, %rax\n hlt");

static void code_that_rewrites_itself_and_faults_is_followed(void **state) {
    NEEDS_TRANSLATOR();
    box_put(&box, BOX_CODE, rewriting, (size_t)(rewriting_end - rewriting));
    box_set(&box, BOX_DATA, 8, 0);
    assert_int_equal(run_again(), CPU_EXIT_HALT);
    assert_int_equal(box_get(&box, BOX_DATA, 8), 200 * 201 / 2);
    box.cpu->ops->get_state(box.cpu, &box.s);
    assert_int_equal(box_fault(&box).vector, X86_PF);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_wrong_register_is_found_and_marked),
        TEST(a_store_to_a_wrong_address_is_found),
        TEST(a_store_to_a_wrong_page_is_found),
        TEST(a_branch_that_goes_the_wrong_way_is_found),
        TEST(a_wrong_flag_is_found_where_it_is_read),
        TEST(a_wrong_flag_is_found_when_the_interpreter_reads_it),
        TEST(a_wrong_vector_register_is_found_and_named),
        TEST(a_flag_that_nobody_reads_may_be_wrong),
        TEST(a_flag_that_an_instruction_leaves_open_may_be_anything),
        TEST(what_goes_to_a_device_is_done_once),
        TEST(code_that_rewrites_itself_and_faults_is_followed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
