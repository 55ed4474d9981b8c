/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The other half of the differential test: a machine of 2 MiB without devices, in long mode at CPL
 * 3, with descriptor tables as Linux has them. Every exception goes to a HLT of its own in the
 * kernel half; where the processor halted and the frame on the kernel stack tell how a case ended.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

#include "bus/clock.h"
#include "cpu/backend.h"
#include "cpu/cpu.h"
#include "cpu/diff/diff.h"

#define KERNEL   0xffff800000000000ull /* all memory, supervisor */
#define RAM_SIZE (2ull << 20)

enum { /* physical pages */
       PHYS_PML4 = 0x1000,
       PHYS_TABLES = 0x2000, /* the other tables, as needed */
       PHYS_TABLES_END = 0x10000,
       PHYS_GDT = 0x10000,
       PHYS_IDT = 0x11000,
       PHYS_TSS = 0x12000,
       PHYS_LDT = 0x12800,
       PHYS_STACK_TOP = 0x14000,
       PHYS_HANDLERS = 0x14000,
       PHYS_CODE0 = 0x20000, /* neighbours in virtual memory are none in physical memory */
       PHYS_CODE1 = 0x22000,
       PHYS_RW0 = 0x24000,
       PHYS_RW1 = 0x27000,
       PHYS_RW2 = 0x29000,
       PHYS_RO = 0x2b000,
       PHYS_STUB = 0x2d000,
};

enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_PS = 128 };
#define PTE_NX (1ull << 63)

static struct mem memory;
static struct cpu *cpu;
static struct clock *machine_clock;
static uint8_t *ram;
static gpa next_table = PHYS_TABLES;
static struct x86_state start;
static const struct diff_batch *contents;
static gpa written_from, written_to;
static volatile sig_atomic_t ticks;

enum { TICKS_ALLOWED = 10, TICK_MS = 100 };

/* ---- building the machine ---- */

static uint64_t *entry_of(gpa table, unsigned index) {
    return (uint64_t *)(void *)(ram + table) + index;
}

static gpa next_level(gpa table, unsigned index) {
    uint64_t *e = entry_of(table, index);

    if (!*e) {
        *e = next_table | PTE_P | PTE_W | PTE_U;
        next_table += 4096;
    }
    return *e & 0xffffffffff000;
}

static void map_page(uint64_t va, gpa pa, uint64_t flags) {
    gpa table = next_level(PHYS_PML4, va >> 39 & 511);

    table = next_level(table, va >> 30 & 511);
    table = next_level(table, va >> 21 & 511);
    *entry_of(table, va >> 12 & 511) = pa | flags | PTE_P;
}

static void map_memory(void) {
    gpa table = next_level(PHYS_PML4, KERNEL >> 39 & 511);

    table = next_level(table, 0);
    *entry_of(table, 0) = PTE_P | PTE_W | PTE_PS;
    map_page(DIFF_CODE, PHYS_CODE0, PTE_U);
    map_page(DIFF_CODE + DIFF_PAGE, PHYS_CODE1, PTE_U);
    map_page(DIFF_DATA + DATA_RW0 * DIFF_PAGE, PHYS_RW0, PTE_U | PTE_W | PTE_NX);
    map_page(DIFF_DATA + DATA_RW1 * DIFF_PAGE, PHYS_RW1, PTE_U | PTE_W | PTE_NX);
    map_page(DIFF_DATA + DATA_RW2 * DIFF_PAGE, PHYS_RW2, PTE_U | PTE_W | PTE_NX);
    map_page(DIFF_DATA + DATA_RO * DIFF_PAGE, PHYS_RO, PTE_U | PTE_NX);
    map_page(DIFF_STUB, PHYS_STUB, PTE_U);
    memset(ram + PHYS_CODE0, 0xcc, DIFF_PAGE);
    memset(ram + PHYS_CODE1, 0xcc, DIFF_PAGE);
    ram[PHYS_STUB] = 0xf4; /* HLT: #GP at CPL 3 */
}

static struct x86_segment segment(uint16_t sel, uint32_t attr) {
    return (struct x86_segment){.sel = sel, .attr = attr, .limit = 0xffffffff};
}

/* The segments that a case may start with. */
static struct x86_segment segment_of(uint16_t sel) {
    switch (sel) {
    case SEL_CODE64:
        return segment(sel, 0xa0fb);
    case SEL_CODE32:
        return segment(sel, 0xc0fb);
    case SEL_DATA:
        return segment(sel, 0xc0f3);
    case SEL_CODE16:
        return (struct x86_segment){sel, 0xfb, 0xffff, DIFF_CODE};
    case SEL_DATA16:
        return (struct x86_segment){sel, 0xf3, LIMIT_DATA16, DIFF_DATA};
    case SEL_STACK16:
        return (struct x86_segment){sel, 0xf3, LIMIT_STACK16, DIFF_DATA};
    case SEL_DOWN16:
        return (struct x86_segment){sel, 0xf7, LIMIT_DOWN16, DIFF_DATA};
    default:
        return (struct x86_segment){.sel = sel, .attr = X86_ATTR_UNUSABLE};
    }
}

/* What the host's kernel does not give a program, the guest does not find either. */
static bool has_ldt(void) { return native_has_mode(2); }

static void build_ldt(void) {
    uint64_t *ldt = (uint64_t *)(void *)(ram + PHYS_LDT);

    for (unsigned i = 0; i < LDT_ENTRIES && has_ldt(); i++) {
        struct x86_segment s = segment_of((uint16_t)(i << 3 | 7));
        ldt[i] = (s.limit & 0xffff) | (s.base & 0xffffff) << 16 | (uint64_t)s.attr << 40 |
                 (s.base >> 24) << 56;
    }
}

static void build_tables(void) {
    static const uint64_t gdt[16] = {
        [1] = 0x00cf9b000000ffff,  [2] = 0x00af9b000000ffff, [3] = 0x00cf93000000ffff,
        [4] = 0x00cffb000000ffff,  [5] = 0x00cff3000000ffff, [6] = 0x00affb000000ffff,
        [15] = 0x0040f50000000000,
    };
    const uint64_t tss = KERNEL + PHYS_TSS, rsp0 = KERNEL + PHYS_STACK_TOP;
    uint64_t *g = (uint64_t *)(void *)(ram + PHYS_GDT);

    memcpy(g, gdt, sizeof(gdt));
    if (!native_has_mode(4))
        g[SEL_CODE32 >> 3] = 0;
    g[8] = 103 | (tss & 0xffffff) << 16 | 0x8bull << 40 | (tss >> 24 & 0xff) << 56;
    g[9] = tss >> 32;
    memcpy(ram + PHYS_TSS + 4, &rsp0, 8);
    ram[PHYS_TSS + 102] = 104; /* no I/O permission map */
    memset(ram + PHYS_HANDLERS, 0xf4, 4096);
    for (unsigned v = 0; v < 256; v++) {
        uint64_t handler = KERNEL + PHYS_HANDLERS + 16 * v,
                 dpl = v == 3 || v == 4 || v == 0x80 ? 3 : 0;
        uint64_t *gate = (uint64_t *)(void *)(ram + PHYS_IDT) + 2 * v;
        gate[0] = (handler & 0xffff) | 0x10 << 16 | (0x8eull | dpl << 5) << 40 |
                  (handler >> 16 & 0xffff) << 48;
        gate[1] = handler >> 32;
    }
}

static void build_state(void) {
    x86_reset(&start, false);
    start.cr0 = 0x80050033;
    start.cr3 = PHYS_PML4;
    start.cr4 = X86_CR4_PAE | X86_CR4_PGE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE |
                X86_CR4_FSGSBASE;
    start.efer = X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
    start.xcr0 = 7;
    start.gdtr = (struct x86_table){KERNEL + PHYS_GDT, 127};
    start.idtr = (struct x86_table){KERNEL + PHYS_IDT, 4095};
    start.tr =
        (struct x86_segment){.sel = 0x40, .attr = 0x8b, .limit = 103, .base = KERNEL + PHYS_TSS};
    start.ldtr = (struct x86_segment){0x50, 0x82, 8 * LDT_ENTRIES - 1, KERNEL + PHYS_LDT};
    for (unsigned i = 0; i < 6; i++)
        start.seg[i] = segment(SEL_DATA, 0xc0f3);
    start.activity = X86_RUNNING;
}

static uint64_t no_read(void *opaque, bool port, uint64_t addr, unsigned size) { return ~0ull; }
static void no_write(void *opaque, bool port, uint64_t addr, unsigned size, uint64_t value) {}
static int no_vector(void *opaque, unsigned *eoi) { return -1; }
static uint8_t no_tpr(void *opaque) { return 0; }
static void drop_tpr(void *opaque, uint8_t cr8) {}
static int no_rdmsr(void *opaque, uint32_t msr, uint64_t *ret_value) { return -1; }
static int no_wrmsr(void *opaque, uint32_t msr, uint64_t value) { return -1; }

static void code_written(void *opaque, gpa page) {
    if (cpu)
        cpu->ops->code_written(cpu, page);
}

/* A case may run in a circle: the timer gets us out of it. */
static void on_tick(int sig) {
    ticks++;
    if (cpu)
        cpu->ops->kick(cpu);
}

static void set_timer(unsigned milliseconds) {
    struct itimerval t = {.it_value.tv_usec = 1000 * milliseconds,
                          .it_interval.tv_usec = 1000 * milliseconds};

    /* Generated code has the guest's stack pointer: the handler needs the thread's own stack. */
    struct sigaction sa = {.sa_handler = on_tick, .sa_flags = SA_ONSTACK | SA_RESTART};

    sigaction(SIGVTALRM, &sa, NULL);
    setitimer(ITIMER_VIRTUAL, &t, NULL);
}

int guest_open(void) {
    struct cpu_config config = {.count = 1, .model = "host", .no_hypervisor = true};
    struct error err = {0};

    if (mem_init(&memory, &err) < 0 || mem_add(&memory, 0, RAM_SIZE, false, &err) < 0) {
        fprintf(stderr, "test_diff: %s\n", err.text);
        return -1;
    }
    memory.code_written = code_written;
    ram = mem_ptr(&memory, 0, RAM_SIZE, true);
    machine_clock = clock_new_stepped();
    config.bus = (struct cpu_bus){.mem = &memory,
                                  .clock = machine_clock,
                                  .io_read = no_read,
                                  .io_write = no_write,
                                  .intr_ack = no_vector,
                                  .get_tpr = no_tpr,
                                  .set_tpr = drop_tpr,
                                  .msr_read = no_rdmsr,
                                  .msr_write = no_wrmsr};
    map_memory();
    build_tables();
    build_ldt();
    build_state();
    config.eager = true;
    config.debug = backend_debug();
    if (backend_ops()->create(&config, &cpu, &err) < 0) {
        fprintf(stderr, "test_diff: %s\n", err.text);
        return -1;
    }
    set_timer(TICK_MS);
    return 0;
}

void guest_close(void) {
    set_timer(0);
    cpu->ops->destroy(cpu);
    cpu = NULL;
    clock_free(machine_clock);
    mem_done(&memory);
}

/* ---- one case ---- */

void guest_load(const struct diff_batch *b) { contents = b; }

static uint8_t *code_byte(uint64_t offset) {
    return ram + (offset < DIFF_PAGE ? PHYS_CODE0 + offset : PHYS_CODE1 + offset - DIFF_PAGE);
}

static void load_code(const struct diff_case *k) {
    uint64_t from = k->code_addr - DIFF_CODE, to = from + k->code_len;

    for (uint64_t i = written_from; i < written_to; i++)
        *code_byte(i) = 0xcc;
    if (to > 2 * DIFF_PAGE)
        to = 2 * DIFF_PAGE;
    for (uint64_t i = from; i < to; i++)
        *code_byte(i) = k->code[i - from];
    diff_write_trampoline(ram + PHYS_CODE0);
    written_from = from;
    written_to = to;
    mem_written(&memory, PHYS_CODE0, DIFF_PAGE);
    mem_written(&memory, PHYS_CODE1, DIFF_PAGE);
}

static void load_data(const struct diff_case *k) {
    uint8_t *pages[4] = {ram + PHYS_RW0, ram + PHYS_RW1, ram + PHYS_RW2, ram + PHYS_RO};

    for (unsigned i = 0; i < 4; i++)
        memcpy(pages[i], contents->data[i], DIFF_PAGE);
    diff_apply_patches(k, pages);
}

static void fpu_in(struct x86_fpu *f, const struct diff_xsave *x) {
    f->fcw = x->fcw;
    f->fsw = x->fsw;
    f->ftw = (uint8_t)x->ftw;
    f->fop = x->fop;
    f->fip = x->fip;
    f->fdp = x->fdp;
    f->mxcsr = x->mxcsr;
    memcpy(f->st, x->st, sizeof(f->st));
    for (unsigned i = 0; i < 16; i++) {
        memcpy(f->vec[i], x->xmm[i], 16);
        memcpy(f->vec[i] + 16, x->ymm[i], 16);
    }
}

static void fpu_out(const struct x86_fpu *f, struct diff_xsave *x) {
    memset(x, 0, sizeof(*x));
    x->fcw = f->fcw;
    x->fsw = f->fsw;
    x->ftw = f->ftw;
    x->fop = f->fop;
    x->fip = f->fip;
    x->fdp = f->fdp;
    x->mxcsr = f->mxcsr;
    memcpy(x->st, f->st, sizeof(x->st));
    for (unsigned i = 0; i < 16; i++) {
        memcpy(x->xmm[i], f->vec[i], 16);
        memcpy(x->ymm[i], f->vec[i] + 16, 16);
    }
}

static void load_registers(const struct diff_case *k) {
    static struct x86_state s;
    struct error err = {0};

    s = start;
    memcpy(s.gpr, k->in.gpr, sizeof(s.gpr));
    s.rip = k->in.rip;
    s.rflags = k->in.rflags | X86_FLAG_IF;
    fpu_in(&s.fpu, &k->in.x);
    for (unsigned i = 0; i < 6; i++)
        s.seg[i] = segment_of(i == SEG_CS ? diff_code_selector(k->mode) : k->in.sel[i]);
    s.seg[SEG_FS].base = k->in.fs_base;
    s.seg[SEG_GS].base = k->in.gs_base;
    if (cpu->ops->set_state(cpu, &s, &err) < 0)
        fprintf(stderr, "test_diff: %s\n", err.text);
}

static bool has_error_code(unsigned vector) {
    return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

/* The processor has halted in the kernel: reads the frame of the exception. */
static void read_frame(const struct x86_state *s, struct diff_result *ret) {
    uint64_t handler = s->rip - 1 - (KERNEL + PHYS_HANDLERS);
    const uint64_t *frame =
        (const uint64_t *)(const void *)(ram + (s->gpr[X86_RSP] - KERNEL) % RAM_SIZE);

    ret->vector = (uint8_t)(handler / 16);
    ret->error = has_error_code(ret->vector) ? *frame++ : 0;
    ret->out.rip = frame[0];
    ret->out.sel[SEG_CS] = (uint16_t)frame[1];
    ret->out.rflags = frame[2];
    ret->out.gpr[X86_RSP] = frame[3];
    ret->out.sel[SEG_SS] = (uint16_t)frame[4];
    if (ret->vector == X86_GP && ret->out.rip == DIFF_STUB && ret->out.sel[SEG_CS] == SEL_CODE64)
        ret->vector = DIFF_COMPLETED;
}

static void store_results(enum cpu_exit how, struct diff_result *ret) {
    static struct x86_state s;

    cpu->ops->get_state(cpu, &s);
    memset(&ret->out, 0, sizeof(ret->out));
    memcpy(ret->out.gpr, s.gpr, sizeof(s.gpr));
    fpu_out(&s.fpu, &ret->out.x);
    ret->out.fs_base = s.seg[SEG_FS].base;
    ret->out.gs_base = s.seg[SEG_GS].base;
    for (unsigned i = 0; i < 6; i++)
        ret->out.sel[i] = s.seg[i].sel;
    ret->cr2 = s.cr2;
    if (how == CPU_EXIT_HALT && s.rip - 1 - (KERNEL + PHYS_HANDLERS) < 4096)
        read_frame(&s, ret);
    else
        ret->vector = DIFF_NOT_RUN;
    memcpy(ret->data[0], ram + PHYS_RW0, DIFF_PAGE);
    memcpy(ret->data[1], ram + PHYS_RW1, DIFF_PAGE);
    memcpy(ret->data[2], ram + PHYS_RW2, DIFF_PAGE);
}

void guest_run(const struct diff_case *k, struct diff_result *ret) {
    enum cpu_exit how;

    load_code(k);
    load_data(k);
    load_registers(k);
    ticks = 0;
    how = cpu->ops->run(cpu);
    while (how == CPU_EXIT_KICK && ticks < TICKS_ALLOWED)
        how = cpu->ops->run(cpu);
    store_results(how, ret);
    if (how == CPU_EXIT_KICK)
        ret->vector = DIFF_TIMEOUT;
    if (how == CPU_EXIT_ERROR)
        fprintf(stderr, "test_diff: the software CPU gave up: %s\n", cpu->error.text);
}
