/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Nothing that a guest does lets it reach host memory outside its RAM, or code that is not its own:
 * wild addresses and jumps against every comparison that translated code makes, and W^X. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/trace.h"
#include "cpu/soft/jit/jit_internal.h"
#include "cpu/twin.h"

enum { DATA = 0x100000, FUNCTION = 0x70000, CALLS = 0x72000, FAULTS = 0x72008 };

/* ---- wild jumps ---- */

/* The handler of #GP goes on at R12. */
GUEST(gp_handler, ".code64", "incq 0x72008\n mov %r12, 8(%rsp)\n add $8, %rsp\n iretq");
GUEST(function, ".code64", "incq 0x72000\n ret");
/* Every value of the upper 16 bits but the canonical ones, with the low bits in RBX: JMP and RET.
 */
GUEST(wild_jumps, ".code64",
      "lea 2f(%rip), %r12\n mov $1, %r13\n"
      "1: mov %r13, %r14\n shl $48, %r14\n or %rbx, %r14\n jmp *%r14\n"
      "2: add %r10, %r13\n cmp $0xffff, %r13\n jb 1b\n"
      "lea 4f(%rip), %r12\n mov $1, %r13\n"
      "3: mov %r13, %r14\n shl $48, %r14\n or %rbx, %r14\n mov %rsp, %rbp\n push %r14\n ret\n"
      "4: mov %rbp, %rsp\n add %r10, %r13\n cmp $0xffff, %r13\n jb 3b\n"
      "lea 6f(%rip), %r12\n mov $1, %r13\n"
      "5: mov %r13, %r14\n shl $48, %r14\n or %rbx, %r14\n mov %rsp, %rbp\n call *%r14\n"
      "6: mov %rbp, %rsp\n add %r10, %r13\n cmp $0xffff, %r13\n jb 5b\n hlt");
/* The function runs once; then, after each of R13 flushes, jumps whose address differs from the
 * function's in the upper bits alone. */
GUEST(stale_jumps, ".code64",
      "mov $0x70000, %ebx\n call *%rbx\n lea 2f(%rip), %r12\n movabs $0x2bd3000000000000, %r8\n"
      "movabs $0x904d000000000000, %r9\n movabs $0xbb9e000000000000, %r10\n"
      "or %rbx, %r8\n or %rbx, %r9\n or %rbx, %r10\n"
      "1: invlpg -0x1000\n mov %r8, %r14\n jmp 3f\n"
      "2: mov %r9, %r14\n cmp %r8, %r11\n je 3f\n mov %r10, %r14\n cmp %r9, %r11\n je 3f\n"
      "dec %r13\n jnz 1b\n hlt\n"
      "3: mov %r14, %r11\n jmp *%r14");

/* Faults and translations cost several times as much under the sanitizers. */
static unsigned stride(void) { return getenv("VIV_SANITIZED") ? 29 : 1; }

static void put_wild(struct box *b) {
    box_put(b, 0x71000, gp_handler, (size_t)(gp_handler_end - gp_handler));
    box_put(b, FUNCTION, function, (size_t)(function_end - function));
    box_gate(b, X86_GP, BOX_CS64, 0x71000, 14, 0, 0);
}

static int setup(void **state) {
    static struct box b;

    box_new(&b, NULL);
    box_long(&b);
    put_wild(&b);
    *state = &b;
    return 0;
}

static int teardown(void **state) {
    box_done(*state);
    return 0;
}

static void a_jump_with_wild_upper_bits_faults_whatever_they_are(void **state) {
    static const uint64_t low[] = {0, FUNCTION, 0x0000ffffffffffffull, 0x0000800000000000ull};
    struct box *b = *state;

    for (unsigned i = 0; i < sizeof(low) / sizeof(low[0]); i++) {
        box_set(b, FAULTS, 8, 0);
        b->s.rip = BOX_CODE;
        b->s.gpr[X86_RSP] = BOX_STACK0;
        b->s.gpr[X86_RBX] = low[i];
        b->s.gpr[10] = stride();
        assert_int_equal(BOX_EXEC(b, wild_jumps), CPU_EXIT_HALT);
        assert_true(box_halted_quietly(b));
        assert_int_equal(box_get(b, FAULTS, 8), 3 * ((0xfffe + stride() - 1) / stride()));
        assert_int_equal(box_get(b, CALLS, 8), 0);
        b->s.activity = X86_RUNNING;
    }
}

static void a_wild_jump_finds_no_code_of_an_earlier_generation(void **state) {
    struct box *b = *state;

    const unsigned generations = stride() > 1 ? 0x3000 : 0x9000;

    b->s.gpr[13] = generations;
    assert_int_equal(BOX_EXEC(b, stale_jumps), CPU_EXIT_HALT);
    assert_true(box_halted_quietly(b));
    assert_int_equal(box_get(b, CALLS, 8), 1);
    assert_int_equal(box_get(b, FAULTS, 8), 3 * generations);
}

/* ---- user code and the kernel's translations ---- */

/* Each round takes a new key for user mode, while the kernel, whose code is global, keeps its own.
 * User code jumps to a function that the kernel has just called. */
GUEST(kernel_page, ".code64",
      "1: mov %rbx, %cr3\n call *%r15\n push $0x2b\n push $0x30000\n push $2\n push $0x33\n"
      "push $0x70000\n iretq\n .org kernel_page + 0x400\n"
      "incq 0x72008\n mov $0x20000, %esp\n dec %r13\n jnz 1b\n hlt\n .org kernel_page + 0x800\n"
      "incq 0x72000\n ret");
GUEST(jumps_to_the_kernel, ".code64", "jmp *%r15");

static void user_code_never_enters_the_kernels_translations(void **state) {
    enum { TABLES = 0x140000, PAGE = 0x150000, ROUNDS = 2 * JIT_KEY_VALUES };
    const uint64_t kernel = 0xffffffff80000000ull;
    struct box *b = *state;

    box_set(b, BOX_PML4 + 511 * 8, 8, TABLES | 3);
    box_set(b, TABLES + 510 * 8, 8, (TABLES + 0x1000) | 3);
    box_set(b, TABLES + 0x1000, 8, (TABLES + 0x2000) | 3);
    box_set(b, TABLES + 0x2000, 8, PAGE | 0x103);
    box_put(b, PAGE, kernel_page, (size_t)(kernel_page_end - kernel_page));
    box_put(b, FUNCTION, jumps_to_the_kernel, 3);
    box_gate(b, X86_PF, BOX_CS64, kernel + 0x400, 14, 0, 0);
    box_set(b, CALLS, 8, 0);
    box_set(b, FAULTS, 8, 0);
    b->s.rip = kernel;
    b->s.gpr[X86_RBX] = b->s.cr3;
    b->s.gpr[13] = ROUNDS;
    b->s.gpr[15] = kernel + 0x800;
    assert_int_equal(box_run(b), CPU_EXIT_HALT);
    assert_true(box_halted_quietly(b));
    assert_int_equal(box_get(b, FAULTS, 8), ROUNDS);
    assert_int_equal(box_get(b, CALLS, 8), ROUNDS);
    assert_int_equal(b->s.cr2, kernel + 0x800);
}

/* ---- a wild stack pointer ---- */

/* The host's kernel interrupts the loop many times, with the guest's RSP in its own. */
GUEST(wild_stack, ".code64",
      "mov %rsp, %rbp\n movabs $0x1234567812345678, %rsp\n mov %rsp, %r9\n"
      "1: add %rsp, %r8\n imul $3, %r8, %r8\n dec %r13\n jnz 1b\n"
      "mov %rsp, %r10\n mov %rbp, %rsp\n hlt");

static void a_stack_pointer_that_is_no_address_stops_nobody(void **state) {
    static struct box box;
    struct box *b = &box;
    uint64_t sum = 0, rounds = stride() > 1 ? 10000000 : 100000000;

    for (uint64_t i = 0; i < rounds; i++)
        sum = 3 * (sum + 0x1234567812345678);
    box_new(b,
            NULL); /* here: the test's frame puts its handlers of signals before those of set-up */
    box_long(b);
    b->s.gpr[8] = 0;
    b->s.gpr[13] = rounds;
    assert_int_equal(BOX_EXEC(b, wild_stack), CPU_EXIT_HALT);
    assert_true(box_halted_quietly(b));
    assert_int_equal(b->s.gpr[8], sum);
    assert_int_equal(b->s.gpr[9], 0x1234567812345678);
    assert_int_equal(b->s.gpr[10], 0x1234567812345678);
    assert_int_equal(b->s.gpr[X86_RSP], BOX_STACK0);
    box_done(b);
}

/* ---- caches of code ---- */

enum { FUNCTIONS = 300, SPACING = 192, SMALL_CACHE = 512 << 10 };

GUEST(call_all, ".code64",
      "1: mov $0x200000, %ebx\n mov $300, %r12d\n 2: call *%rbx\n add $192, %rbx\n dec %r12\n"
      "jnz 2b\n"
      "dec %r13\n jnz 1b\n hlt");

/* Each function: as many x87 instructions as a block holds, then one that counts, and RET. */
static void put_functions(struct twin *t, bool x87) {
    static const uint8_t tail[] = {0x4d, 0x01, 0xe0, 0xc3}; /* add %r12, %r8; ret */

    for (unsigned i = 0; i < FUNCTIONS; i++) {
        uint8_t code[SPACING];
        for (unsigned k = 0; k < 60; k++)
            memcpy(code + 2 * k, x87 ? "\xd9\xd0" : "\x01\xc0", 2); /* fnop; add %eax, %eax */
        memcpy(code + 120, tail, sizeof(tail));
        code[1] = x87 ? code[1] : (uint8_t)(0xc0 | i % 4); /* no two alike */
        twin_put(t, 0x200000 + i * SPACING, code, 124);
    }
    twin_put(t, BOX_CODE, call_all, (size_t)(call_all_end - call_all));
    t->s.rip = BOX_CODE;
}

static void code_that_exceeds_a_cache_runs_right_all_the_same(void **state) {
    static struct twin t;
    uint64_t flushes = stat_counts[STAT_ref_cache_flushes], blocks = stat_counts[STAT_jit_blocks],
             again = stat_counts[STAT_ref_blocks_again];

    twin_new_with(&t, &(struct cpu_config){.cache_size = SMALL_CACHE});
    for (unsigned x87 = 0; x87 < 2; x87++) {
        put_functions(&t, x87);
        for (unsigned rounds = 2; rounds < 60; rounds += 19) {
            t.s.gpr[13] = rounds;
            t.s.gpr[8] = 0;
            twin_once(&t);
            assert_int_equal(t.box[1].s.gpr[8], rounds * FUNCTIONS * (FUNCTIONS + 1) / 2);
        }
    }
    assert_true(stat_counts[STAT_ref_cache_flushes] > flushes + 5);
    assert_true(stat_counts[STAT_jit_blocks] > blocks + FUNCTIONS);
    assert_true(stat_counts[STAT_ref_blocks_again] > again + FUNCTIONS);
    twin_done(&t);
}

/* What a flush leaves behind would be written to, or followed, when other code lies there. */
static void a_flush_forgets_all_that_names_code(void **state) {
    static struct twin t;
    struct jit *j;

    twin_new(&t, true); /* the functions get sites at once */
    j = &t.box[1].ref->jit;
    put_functions(&t, false);
    t.s.gpr[13] = 40;
    twin_once(&t);
    assert_true(j->cache->sites > 0);
    assert_true(j->cache->used > j->cache->start);
    assert_true(j->cache->cold > j->cache->cold_start);
    j->link = j->cache->rx;
    j->promote = BOX_CODE + 1;
    j->cache->fars = 7;
    ref_cache_flush(t.box[1].ref);
    assert_null(j->link);
    assert_int_equal(j->promote, 0);
    assert_int_equal(j->cache->sites, 0);
    assert_int_equal(j->cache->fars, 1);
    assert_int_equal(j->cache->used, j->cache->start);
    assert_int_equal(j->cache->cold, j->cache->cold_start);
    t.s.gpr[13] = 40;
    t.s.gpr[8] = 0;
    twin_once(&t);
    assert_int_equal(t.box[1].s.gpr[8], 40 * FUNCTIONS * (FUNCTIONS + 1) / 2);
    twin_done(&t);
}

/* Blocks that fill the interpreter's cache become hot all at once: their translations need memory
 * of the same cache. */
static void translations_stay_in_the_cache_of_their_operations(void **state) {
    static struct twin t;

    for (size_t size = 1 << 20; size < 4 << 20; size += 256 << 10) {
        twin_new_with(&t, &(struct cpu_config){.cache_size = size});
        put_functions(&t, true);
        t.s.gpr[13] = 12;
        twin_once(&t);
        assert_int_equal(t.box[1].s.gpr[8], 12 * FUNCTIONS * (FUNCTIONS + 1) / 2);
        twin_done(&t);
    }
}

/* ---- W^X ---- */

static unsigned maps_read;

static void no_mapping_is_writable_and_executable(void) {
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512], rights[8];

    assert_non_null(f);
    while (fgets(line, sizeof(line), f))
        if (sscanf(line, "%*s %7s", rights) == 1 && rights[1] == 'w' && rights[2] == 'x')
            fail_msg("writable and executable: %s", line);
    fclose(f);
    maps_read++;
}

static void look_at_maps(struct box *b) { no_mapping_is_writable_and_executable(); }

struct watcher {
    atomic_bool stop;
    unsigned bad, times;
};

/* Beside translations and thunks in the making. */
static void *watch_maps(void *opaque) {
    struct watcher *w = opaque;
    char line[512], rights[8];

    while (!atomic_load(&w->stop)) {
        FILE *f = fopen("/proc/self/maps", "r");
        while (f && fgets(line, sizeof(line), f))
            if (sscanf(line, "%*s %7s", rights) == 1 && rights[1] == 'w' && rights[2] == 'x')
                w->bad++;
        if (f)
            fclose(f);
        w->times++;
        usleep(200); /* a reader of maps holds up all that change them */
    }
    return NULL;
}

GUEST(writes_a_port, ".code64", "out %al, $0x80\n addps %xmm1, %xmm2\n out %al, $0x80");

static void no_page_is_ever_writable_and_executable(void **state) {
    static struct twin t;
    struct watcher w = {0};
    pthread_t thread;

    twin_new_with(&t, &(struct cpu_config){.cache_size = SMALL_CACHE});
    assert_int_equal(pthread_create(&thread, NULL, watch_maps, &w), 0);
    TWIN_HEAT(&t, writes_a_port);
    t.box[0].on_io = t.box[1].on_io = look_at_maps;
    twin_once(&t);
    put_functions(&t, true);
    t.s.gpr[13] = stride() > 1 ? 60 : 300;
    twin_once(&t);
    atomic_store(&w.stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(maps_read, 4);
    assert_int_equal(w.bad, 0);
    assert_true(w.times > 0);
    twin_done(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_wild_jump_finds_no_code_of_an_earlier_generation, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_jump_with_wild_upper_bits_faults_whatever_they_are, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(user_code_never_enters_the_kernels_translations, setup,
                                        teardown),
        cmocka_unit_test(a_stack_pointer_that_is_no_address_stops_nobody),
        cmocka_unit_test(code_that_exceeds_a_cache_runs_right_all_the_same),
        cmocka_unit_test(a_flush_forgets_all_that_names_code),
        cmocka_unit_test(translations_stay_in_the_cache_of_their_operations),
        cmocka_unit_test(no_page_is_ever_writable_and_executable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
