/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A processor in a box for tests: a few MiB of memory, a stepped clock, a bus that remembers, and
 * ready-made tables for each mode. Code is loaded at BOX_CODE and runs until it halts.
 *
 * Every vector of the IDT leads to a stub that pushes the vector and halts; box_fault() then tells
 * what came.
 */
#ifndef TESTS_CPU_BOX_H
#define TESTS_CPU_BOX_H

#include "cpu/cpu.h"
#include "cpu/soft/ref/ref.h"

enum {
    BOX_MEM = 8 << 20,
    BOX_PML4 = 0x1000, /* with the tables behind it up to 0x5000 */
    BOX_GDT = 0x5000,
    BOX_IDT = 0x6000,
    BOX_TSS = 0x7000, /* 104 bytes and the I/O bitmap */
    BOX_TSS2 = 0x7800,
    BOX_STUBS = 0x8000, /* 16 bytes a vector */
    BOX_LDT = 0xa000,
    BOX_CODE = 0x10000,
    BOX_STACK0 = 0x20000, /* tops of stacks for levels 0 and 3, and of an IST stack */
    BOX_STACK3 = 0x30000,
    BOX_IST1 = 0x40000,
    BOX_DATA = 0x50000,
};

/* Selectors in the GDT that every box has; RPL to be added. */
enum {
    BOX_CS64 = 0x08,
    BOX_DS = 0x10,
    BOX_CS32 = 0x18,
    BOX_DS3 = 0x28,
    BOX_CS64_3 = 0x30,
    BOX_CS32_3 = 0x38,
    BOX_CS16 = 0x40,
    BOX_DS16 = 0x48,
    BOX_TR = 0x50 /* two entries */,
    BOX_FREE = 0x60,
};

struct box {
    struct mem mem;
    struct clock *clock;
    struct cpu *cpu;
    struct ref *ref;    /* the same */
    struct x86_state s; /* to be loaded by box_run, and filled by it */
    uint8_t tpr;
    int vector;         /* what intr_ack gives, -1 none */
    unsigned eoi;       /* what it was told last */
    bool offer;         /* it grants what it is asked for */
    int settled;        /* last word of eoi_settle, -1 none */
    uint64_t stolen;    /* ns */
    uint64_t called[5]; /* the last hypercall: number and arguments; it returns 42 */
    uint64_t io[64];    /* last writes: port, size, value */
    unsigned io_count;
    void (*on_io)(struct box *b); /* called at each access to the bus, if set */
    uint64_t msr_value;           /* of the APIC's registers, all alike */
    bool loaded;                  /* s has been given to the processor */
};

struct box_frame { /* what box_fault found */
    unsigned vector;
    uint64_t error, rip, cs, flags, sp, ss;
};

void box_new(struct box *b, const char *model);
/* The same on a backend of the caller's choice; eager: translates at first sight. */
void box_new_on(struct box *b, const char *model, const struct cpu_ops *ops, bool eager);
void box_new_config(struct box *b, const struct cpu_ops *ops, struct cpu_config config);
void box_done(struct box *b);

/* States to start from: paging with 0..8 MiB mapped one to one, writable, user pages. CPL 0 on
 * BOX_STACK0. */
void box_long(struct box *b);
void box_protected(struct box *b, bool paging);
void box_real(struct box *b);
/* The same state at level 3, on BOX_STACK3. */
void box_ring3(struct box *b);

void box_put(struct box *b, gpa at, const void *bytes, size_t n);
uint64_t box_get(struct box *b, gpa at, unsigned size);
void box_set(struct box *b, gpa at, unsigned size, uint64_t value);
/* A descriptor: attr as in struct x86_segment, limit in bytes. */
void box_desc(struct box *b, unsigned sel, uint32_t base, uint32_t limit, uint32_t attr);
/* A gate of the IDT in the form of the mode that box_long or box_protected set up. */
void box_gate(struct box *b, unsigned vector, uint16_t sel, uint64_t offset, unsigned type,
              unsigned dpl, unsigned ist);

/* Runs from b->s until the processor leaves; then b->s holds the state. A run that does not end is
 * killed. */
enum cpu_exit box_run(struct box *b);
/* Runs on without loading b->s. */
enum cpu_exit box_go_on(struct box *b);
/* Loads code at BOX_CODE and runs it. */
enum cpu_exit box_exec(struct box *b, const void *start, const void *end);
/* After a halt in a stub: the frame. has_error: that kind of vector pushes an error code. */
struct box_frame box_fault(struct box *b);
/* Halted in code of its own, not in a stub. */
bool box_halted_quietly(const struct box *b);

/* Guest code in the test's own sections: GUEST(name, ".code64", "..."), then box_exec(b, name,
 * name_end). */
#define GUEST(name, mode, text)                                                                    \
    extern const uint8_t name[], name##_end[];                                                     \
    __asm__(".pushsection .rodata\n" mode "\n" #name ":\n" text "\n" #name                         \
            "_end:\n.code64\n.popsection\n")

#define BOX_EXEC(b, name) box_exec(b, name, name##_end)

#endif
