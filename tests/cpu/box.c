/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The processor in a box: see box.h. */
#include "cpu/box.h"
#include "cpu/backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { RUN_SECONDS = 300, STUB_SIZE = 16 }; /* sanitizers are slow */

static uint64_t io_read(void *opaque, bool port, uint64_t addr, unsigned size) {
    struct box *b = opaque;

    if (b->on_io)
        b->on_io(b);
    return size == 4 ? 0x11223344 : size == 2 ? 0x5566 : 0x77;
}

static void io_write(void *opaque, bool port, uint64_t addr, unsigned size, uint64_t value) {
    struct box *b = opaque;

    if (b->io_count + 3 <= sizeof(b->io) / sizeof(b->io[0])) {
        b->io[b->io_count++] = addr;
        b->io[b->io_count++] = size;
        b->io[b->io_count++] = value;
    }
    if (b->on_io)
        b->on_io(b);
}

static int intr_ack(void *opaque, unsigned *eoi) {
    struct box *b = opaque;
    int vector = b->vector;

    b->vector = -1;
    b->cpu->ops->signal(b->cpu, CPU_SIGNAL_INTR_OFF, 0);
    b->eoi = *eoi;
    if (b->offer && (*eoi & CPU_EOI_ASK))
        *eoi |= CPU_EOI_OFFERED;
    return vector;
}

static void eoi_settle(void *opaque, bool ended) { ((struct box *)opaque)->settled = ended; }

static uint64_t stolen(void *opaque) { return ((struct box *)opaque)->stolen; }

static int64_t hypercall(void *opaque, uint64_t nr, const uint64_t arg[4], bool code64) {
    struct box *b = opaque;

    b->called[0] = nr;
    memcpy(b->called + 1, arg, 4 * sizeof(*arg));
    return code64 ? 42 : -42;
}

static uint8_t get_tpr(void *opaque) { return ((struct box *)opaque)->tpr; }

static void set_tpr(void *opaque, uint8_t cr8) { ((struct box *)opaque)->tpr = cr8; }

static int msr_read(void *opaque, uint32_t msr, uint64_t *ret_value) {
    *ret_value = ((struct box *)opaque)->msr_value + msr;
    return 0;
}

static int msr_write(void *opaque, uint32_t msr, uint64_t value) {
    ((struct box *)opaque)->msr_value = value;
    return msr == 0x1b ? -1 : 0;
}

static void code_written(void *opaque, gpa page) {
    struct box *b = opaque;

    b->cpu->ops->code_written(b->cpu, page);
}

void box_new(struct box *b, const char *model) {
    struct cpu_config config = {.model = model, .eager = true, .debug = backend_debug()};

    box_new_config(b, backend_ops(), config);
}

void box_new_on(struct box *b, const char *model, const struct cpu_ops *ops, bool eager) {
    box_new_config(b, ops,
                   (struct cpu_config){.model = model, .eager = eager, .debug = backend_debug()});
}

void box_new_config(struct box *b, const struct cpu_ops *ops, struct cpu_config config) {
    struct error err = {0};

    memset(b, 0, sizeof(*b));
    b->vector = b->settled = -1;
    assert_int_equal(mem_init(&b->mem, &err), 0);
    assert_int_equal(mem_add(&b->mem, 0, BOX_MEM, false, &err), 0);
    b->clock = clock_new_stepped();
    config.count = 1;
    config.bus = (struct cpu_bus){.opaque = b,
                                  .mem = &b->mem,
                                  .smm_mem = config.bus.smm_mem,
                                  .clock = b->clock,
                                  .io_read = io_read,
                                  .io_write = io_write,
                                  .intr_ack = intr_ack,
                                  .get_tpr = get_tpr,
                                  .set_tpr = set_tpr,
                                  .msr_read = msr_read,
                                  .msr_write = msr_write,
                                  .eoi_settle = eoi_settle,
                                  .hypercall = hypercall,
                                  .stolen = stolen};
    assert_int_equal(ops->create(&config, &b->cpu, &err), 0);
    b->ref = (struct ref *)b->cpu;
    b->mem.code_written = code_written;
    b->mem.code_opaque = b;
    x86_reset(&b->s, false);
}

void box_done(struct box *b) {
    b->cpu->ops->destroy(b->cpu);
    clock_free(b->clock);
    mem_done(&b->mem);
}

/* ------------------------------------------------------------------ memory */

void box_put(struct box *b, gpa at, const void *bytes, size_t n) {
    assert_int_equal(mem_write(&b->mem, at, bytes, n), 0);
}

uint64_t box_get(struct box *b, gpa at, unsigned size) {
    uint64_t v = 0;

    assert_int_equal(mem_read(&b->mem, at, &v, size), 0);
    return v;
}

void box_set(struct box *b, gpa at, unsigned size, uint64_t value) { box_put(b, at, &value, size); }

void box_desc(struct box *b, unsigned sel, uint32_t base, uint32_t limit, uint32_t attr) {
    uint64_t d;

    if (attr & X86_ATTR_G)
        limit >>= 12;
    d = (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(attr & 0xf0ff) << 40 |
        (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)(base >> 24) << 56;
    box_set(b, (sel & 4 ? BOX_LDT : BOX_GDT) + (sel & ~7u), 8, d);
}

void box_gate(struct box *b, unsigned vector, uint16_t sel, uint64_t offset, unsigned type,
              unsigned dpl, unsigned ist) {
    bool wide = b->s.efer & X86_EFER_LMA;
    uint64_t low = (offset & 0xffff) | (uint64_t)sel << 16 | (uint64_t)ist << 32 |
                   (uint64_t)(0x80 | dpl << 5 | type) << 40 | (offset >> 16 & 0xffff) << 48;
    gpa at = BOX_IDT + vector * (wide ? 16 : 8);

    box_set(b, at, 8, low);
    if (wide)
        box_set(b, at + 8, 8, offset >> 32);
}

static void make_gdt(struct box *b) {
    box_desc(b, BOX_CS64, 0, 0xffffffff, 0xa09b);
    box_desc(b, BOX_DS, 0, 0xffffffff, 0xc093);
    box_desc(b, BOX_CS32, 0, 0xffffffff, 0xc09b);
    box_desc(b, BOX_DS3, 0, 0xffffffff, 0xc0f3);
    box_desc(b, BOX_CS64_3, 0, 0xffffffff, 0xa0fb);
    box_desc(b, BOX_CS32_3, 0, 0xffffffff, 0xc0fb);
    box_desc(b, BOX_CS16, 0, 0xffff, 0x009b);
    box_desc(b, BOX_DS16, 0, 0xffff, 0x0093);
    box_desc(b, BOX_TR, BOX_TSS, 0x67, 0x8b);
    b->s.gdtr = (struct x86_table){BOX_GDT, 0x7f};
    b->s.tr = (struct x86_segment){.sel = BOX_TR, .attr = 0x8b, .limit = 0x67, .base = BOX_TSS};
    b->s.ldtr = (struct x86_segment){.attr = X86_ATTR_UNUSABLE};
}

/* Each stub: push imm8 (sign-extended: vectors are below 80h here), hlt, jmp to itself. */
static void make_idt(struct box *b, uint16_t cs) {
    b->s.idtr = (struct x86_table){BOX_IDT, 0xfff};
    for (unsigned v = 0; v < 0x80; v++) {
        const uint8_t stub[] = {0x6a, (uint8_t)v, 0xf4, 0xeb, 0xfd};

        box_put(b, BOX_STUBS + v * STUB_SIZE, stub, sizeof(stub));
        box_gate(b, v, cs, BOX_STUBS + v * STUB_SIZE, 14, 0, 0);
    }
}

/* ------------------------------------------------------------------ modes */

static struct x86_segment flat(uint16_t sel, uint32_t attr) {
    return (struct x86_segment){.sel = sel, .attr = attr, .limit = 0xffffffff};
}

static void common(struct box *b) {
    x86_reset(&b->s, false);
    b->s.cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP;
    b->s.rip = BOX_CODE;
    b->s.gpr[X86_RSP] = BOX_STACK0;
    make_gdt(b);
    for (unsigned i = 0; i < 6; i++)
        b->s.seg[i] = flat(BOX_DS, 0xc093);
}

void box_long(struct box *b) {
    common(b);
    b->s.seg[SEG_CS] = flat(BOX_CS64, 0xa09b);
    b->s.efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE | X86_EFER_SCE;
    b->s.cr4 = X86_CR4_PAE | X86_CR4_PGE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
    b->s.cr0 |= X86_CR0_PG;
    b->s.cr3 = BOX_PML4;
    box_set(b, BOX_PML4, 8, 0x2007);
    box_set(b, 0x2000, 8, 0x3007);
    box_set(b, 0x3000, 8, 0x4007); /* the first 2 MiB in 4 KiB pages */
    for (unsigned i = 0; i < 512; i++)
        box_set(b, 0x4000 + i * 8, 8, i << 12 | 7);
    for (unsigned i = 1; i < 4; i++)
        box_set(b, 0x3000 + i * 8, 8, i << 21 | 0x87);
    box_set(b, BOX_TSS + 4, 8, BOX_STACK0);
    box_set(b, BOX_TSS + 36, 8, BOX_IST1);
    box_set(b, BOX_TSS + 0x66, 2, 0x68);
    make_idt(b, BOX_CS64);
}

void box_protected(struct box *b, bool paging) {
    common(b);
    b->s.seg[SEG_CS] = flat(BOX_CS32, 0xc09b);
    if (paging) {
        b->s.cr0 |= X86_CR0_PG;
        b->s.cr3 = BOX_PML4;
        box_set(b, BOX_PML4, 4, 0x2007);
        box_set(b, BOX_PML4 + 4, 4, 0x3007);
        for (unsigned i = 0; i < 2048; i++)
            box_set(b, 0x2000 + i * 4, 4, i << 12 | 7);
    }
    box_set(b, BOX_TSS + 4, 4, BOX_STACK0);
    box_set(b, BOX_TSS + 8, 2, BOX_DS);
    box_set(b, BOX_TSS + 28, 4, b->s.cr3);
    box_set(b, BOX_TSS + 0x66, 2, 0x68);
    make_idt(b, BOX_CS32);
}

void box_real(struct box *b) {
    x86_reset(&b->s, false);
    b->s.seg[SEG_CS] =
        (struct x86_segment){.sel = BOX_CODE >> 4, .attr = 0x9b, .limit = 0xffff, .base = BOX_CODE};
    b->s.rip = 0;
    b->s.gpr[X86_RSP] = 0x8000;
    b->s.seg[SEG_SS].sel = 0x1000;
    b->s.seg[SEG_SS].base = 0x10000;
}

void box_ring3(struct box *b) {
    bool wide = b->s.efer & X86_EFER_LMA;

    b->s.seg[SEG_CS] = wide ? flat(BOX_CS64_3 | 3, 0xa0fb) : flat(BOX_CS32_3 | 3, 0xc0fb);
    for (unsigned i = 0; i < 6; i++)
        if (i != SEG_CS)
            b->s.seg[i] = flat(BOX_DS3 | 3, 0xc0f3);
    b->s.gpr[X86_RSP] = BOX_STACK3;
}

/* ------------------------------------------------------------------ running */

/* Every state that a test reaches must survive saving, and the processor goes on from what was
 * loaded. */
static void save_and_restore(struct box *b) {
    struct x86_state loaded = {0};
    struct error err = {0};
    struct buf bytes = {0};

    state_save(&x86_state_desc, &b->s, &bytes);
    if (state_load(&x86_state_desc, &loaded, bytes.data, bytes.len, &err) < 0)
        fail_msg("%s", err.text);
    buf_done(&bytes);
    assert_true(state_equal(&x86_state_desc, &b->s, &loaded));
    assert_int_equal(b->cpu->ops->set_state(b->cpu, &loaded, &err), 0);
}

enum cpu_exit box_go_on(struct box *b) {
    enum cpu_exit exit;

    alarm(RUN_SECONDS); /* a guest that never halts ends the test program */
    exit = b->cpu->ops->run(b->cpu);
    alarm(0);
    if (exit == CPU_EXIT_ERROR)
        fail_msg("%s", b->cpu->error.text);
    b->cpu->ops->get_state(b->cpu, &b->s);
    save_and_restore(b);
    return exit;
}

enum cpu_exit box_run(struct box *b) {
    struct error err = {0};

    assert_int_equal(b->cpu->ops->set_state(b->cpu, &b->s, &err), 0);
    return box_go_on(b);
}

enum cpu_exit box_exec(struct box *b, const void *start, const void *end) {
    box_put(b, BOX_CODE, start, (size_t)((const uint8_t *)end - (const uint8_t *)start));
    return box_run(b);
}

bool box_halted_quietly(const struct box *b) {
    return b->s.activity == X86_HALTED &&
           (b->s.rip < BOX_STUBS || b->s.rip >= BOX_STUBS + 0x80 * STUB_SIZE);
}

struct box_frame box_fault(struct box *b) {
    const uint32_t with_error = 1u << 8 | 0x7c00 | 1u << 17;
    unsigned size = b->s.efer & X86_EFER_LMA ? 8 : 4;
    struct box_frame f = {.vector = ~0u};
    uint64_t sp = b->s.gpr[X86_RSP], v[7];

    if (b->s.activity != X86_HALTED || box_halted_quietly(b))
        return f;
    for (unsigned i = 0; i < 7; i++)
        v[i] = box_get(b, b->s.seg[SEG_SS].base + sp + i * size, size);
    f.vector = (unsigned)v[0];
    if (f.vector < 32 && (with_error >> f.vector & 1))
        f.error = v[1];
    else
        memmove(&v[1], &v[0], 6 * sizeof(v[0]));
    f.rip = v[2];
    f.cs = v[3] & 0xffff;
    f.flags = v[4];
    f.sp = v[5];
    f.ss = v[6] & 0xffff;
    return f;
}
