/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The same machine on the interpreter and on the translator: see twin.h. */
#include "cpu/twin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/trace.h"

enum { COUNTER = 0x61400, CODE_AT = 0x61408 };

GUEST(driver, ".code64",
      "again: decq 0x61400\n js 1f\n mov $0x61080, %esp\n popfq\n"
      "mov 0x61008, %rcx\n mov 0x61010, %rdx\n mov 0x61018, %rbx\n mov 0x61028, %rbp\n"
      "mov 0x61030, %rsi\n mov 0x61038, %rdi\n mov 0x61040, %r8\n mov 0x61048, %r9\n"
      "mov 0x61050, %r10\n mov 0x61058, %r11\n mov 0x61060, %r12\n mov 0x61068, %r13\n"
      "mov 0x61070, %r14\n mov 0x61078, %r15\n mov 0x61000, %rax\n mov 0x61020, %rsp\n"
      "jmp *0x61408\n"
      "1: hlt");

unsigned twin_rounds(void) {
    const char *text = getenv("VIV_HOT_ROUNDS");

    return text && *text ? (unsigned)strtoul(text, NULL, 0) : 5000;
}

static void prepare(struct box *b) {
    box_long(b);
    b->s.cr4 |= X86_CR4_OSXSAVE;
    b->s.xcr0 = 7;
    b->s.fpu.fcw = 0x37f;
    for (unsigned v = 0; v < 0x80; v++) /* stubs must work whatever RSP is */
        box_gate(b, v, BOX_CS64, BOX_STUBS + v * 16, 14, 0, 1);
}

void twin_new(struct twin *t, bool eager) {
    twin_new_with(t, &(struct cpu_config){.eager = eager});
}

void twin_new_with(struct twin *t, const struct cpu_config *wanted) {
    memset(t, 0, sizeof(*t));
    box_new_config(&t->box[0], &cpu_ref_ops, *wanted);
    box_new_config(&t->box[1], &cpu_soft_ops, *wanted);
    for (unsigned i = 0; i < 2; i++)
        prepare(&t->box[i]);
    t->s = t->box[0].s;
    t->heat_flags = X86_FLAG_FIXED;
    t->heat[X86_RSP] = BOX_STACK0;
}

void twin_done(struct twin *t) {
    box_done(&t->box[0]);
    box_done(&t->box[1]);
}

void twin_put(struct twin *t, gpa at, const void *bytes, size_t n) {
    box_put(&t->box[0], at, bytes, n);
    box_put(&t->box[1], at, bytes, n);
}

void twin_set(struct twin *t, gpa at, unsigned size, uint64_t value) {
    twin_put(t, at, &value, size);
}

void twin_pte(struct twin *t, uint64_t page, uint64_t entry) {
    twin_set(t, TWIN_PTES + (page >> 12) * 8, 8, entry);
}

static const uint8_t jump_back[] = {0xff, 0x24, 0x25, 0x10, 0x14, 0x06, 0x00}; /* jmp *TWIN_BACK */

void twin_heat_at(struct twin *t, gpa at, const void *start, const void *end) {
    size_t n = (size_t)((const uint8_t *)end - (const uint8_t *)start);
    uint64_t before = stat_counts[STAT_jit_blocks];

    twin_put(t, at, start, n);
    twin_put(t, at + n, jump_back, sizeof(jump_back));
    twin_put(t, TWIN_DRIVER, driver, (size_t)(driver_end - driver));
    twin_put(t, TWIN_REGS, t->heat, sizeof(t->heat));
    twin_set(t, TWIN_REGS + 0x80, 8, t->heat_flags);
    twin_set(t, COUNTER, 8, twin_rounds());
    twin_set(t, CODE_AT, 8, at);
    twin_set(t, TWIN_BACK, 8, TWIN_DRIVER);
    for (unsigned i = 0; i < 2; i++) {
        struct box *b = &t->box[i];

        b->s = t->s;
        b->s.rip = TWIN_DRIVER;
        assert_int_equal(box_run(b), CPU_EXIT_HALT);
        if (!box_halted_quietly(b))
            fail_msg("vector %u at %#lx while the code was getting hot", box_fault(b).vector,
                     (unsigned long)box_fault(b).rip);
    }
    if (stat_counts[STAT_jit_blocks] == before)
        fail_msg("nothing was translated");
    twin_compare(t);
    twin_set(t, TWIN_BACK, 8, TWIN_DRIVER + (uint64_t)(driver_end - driver) - 1);
    t->s.rip = at;
}

/* The frame's image of RFLAGS, where flags that nobody reads may be stale. */
static void mask_dead(struct twin *t) {
    for (unsigned i = 0; i < 2; i++) {
        struct box *b = &t->box[i];
        bool error = (1u << 8 | 0x7c00 | 1u << 17) >> (t->fault.vector & 31) & 1;
        gpa at = b->s.gpr[X86_RSP] + 8 * (error ? 4 : 3);

        b->s.rflags &= ~t->dead_flags;
        if (t->fault.vector != ~0u)
            box_set(b, at, 8, box_get(b, at, 8) & ~t->dead_flags);
    }
}

static void compare_memory(struct twin *t) {
    const uint8_t *a = mem_ptr(&t->box[0].mem, 0, BOX_MEM, false);
    const uint8_t *b = mem_ptr(&t->box[1].mem, 0, BOX_MEM, false);

    if (memcmp(a, b, BOX_MEM) == 0)
        return;
    for (unsigned i = 0, n = 0; i < BOX_MEM && n < 16; i++)
        if (a[i] != b[i]) {
            print_error("memory at %#x: interpreter %02x, translator %02x\n", i, a[i], b[i]);
            n++;
        }
    fail_msg("interpreter and translator left different memory");
}

void twin_compare(struct twin *t) {
    struct buf text = {0};

    t->fault = box_fault(&t->box[0]);
    if (t->dead_flags)
        mask_dead(t);
    if (state_diff(&x86_state_desc, &t->box[0].s, &t->box[1].s, &text)) {
        print_error("interpreter != translator:\n%.*s", (int)text.len, (const char *)text.data);
        fail_msg("interpreter and translator differ");
    }
    buf_done(&text);
    compare_memory(t);
}

void twin_once(struct twin *t) {
    enum cpu_exit exit[2];

    for (unsigned i = 0; i < 2; i++) {
        t->box[i].s = t->s;
        exit[i] = box_run(&t->box[i]);
    }
    assert_int_equal(exit[0], exit[1]);
    twin_compare(t);
}
