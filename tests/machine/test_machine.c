/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whole machines with guests of a few instructions: every way to end, resets, interrupts that wake
 * a halted processor, the buses as a guest sees them. Time is real here.
 */
#include "machine/machine.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/trace.h"
#include "block/block.h"
#include "cpu/cpu.h"
#include "machine/image.h"
#include "net/net.h"
#include "support/test.h"

enum { RUN_SECONDS = 60, OUTPUT_MAX = 4096 };

struct box {
    pthread_mutex_t lock;
    struct loop *loop;
    struct machine *machine;
    struct machine_config config;
    struct image image;
    struct error err;
    char output[OUTPUT_MAX];
    size_t output_len;
    unsigned ends, resets, crashes, code;
    enum machine_end how;
};

static void serial_write(void *opaque, const uint8_t *p, size_t n) {
    struct box *b = opaque;

    for (size_t i = 0; i < n && b->output_len < OUTPUT_MAX - 1; i++)
        b->output[b->output_len++] = (char)p[i];
}

static void ended(void *opaque, enum machine_end how, unsigned code) {
    struct box *b = opaque;

    b->ends++;
    b->how = how;
    b->code = code;
    loop_stop(b->loop);
}

static void was_reset(void *opaque, bool crashed) {
    struct box *b = opaque;

    b->resets++;
    b->crashes += crashed;
}

static void box_make(struct box *b, const void *code, size_t n) {
    memset(b, 0, sizeof(*b));
    pthread_mutex_init(&b->lock, NULL);
    b->loop = loop_new(&b->lock, &b->err);
    assert_non_null(b->loop);
    image_elf(&b->image, &(struct elf_shape){0}, code, n);
    b->config = (struct machine_config){.name = "box",
                                        .cpus = 1,
                                        .memory = 16 << 20,
                                        .cpu = "ref",
                                        .kernel = b->image.path,
                                        .serial[0] = {.write = serial_write, .opaque = b},
                                        .debug_exit = true,
                                        .ended = ended,
                                        .was_reset = was_reset,
                                        .opaque = b};
}

static void box_start(struct box *b) {
    b->machine = machine_new(&b->config, b->loop, &b->lock, &b->err);
    if (!b->machine || machine_start(b->machine, &b->err) < 0)
        fail_msg("%s", b->err.text);
}

static void box_run(struct box *b) {
    alarm(RUN_SECONDS); /* a guest that never ends kills the test program */
    box_start(b);
    loop_run(b->loop);
    alarm(0);
    assert_int_equal(b->ends, 1);
}

static void box_free(struct box *b) {
    machine_free(b->machine);
    loop_free(b->loop);
    image_done(&b->image);
    pthread_mutex_destroy(&b->lock);
}

#define BOX(b, name)                                                                               \
    struct box b;                                                                                  \
    box_make(&(b), name, (size_t)(name##_end - (name)))

static void ends_with(struct box *b, enum machine_end how, unsigned code) {
    box_run(b);
    if (b->how == MACHINE_FAILED)
        fail_msg("%s", machine_error(b->machine)->text);
    assert_int_equal(b->how, how);
    assert_int_equal(b->code, code);
}

/* ---- words of the guests' code ---- */

// clang-format off
#define HANG        "cli\n99: hlt\njmp 99b\n"
#define OUT8(p, v)  "mov $" #p ", %dx\nmov $" #v ", %al\nout %al, %dx\n"
#define OUT16(p, v) "mov $" #p ", %dx\nmov $" #v ", %ax\nout %ax, %dx\n"
#define STACK       "mov $0x200000, %esp\n"
#define EXIT_EBX    "mov $0xf4, %dx\nmov %ebx, %eax\nout %eax, %dx\n" HANG /* code 2 EBX + 1 */
#define EXIT(v)     "mov $" #v ", %ebx\n" EXIT_EBX
#define RESET       OUT8(0xcf9, 6) HANG
#define POWER_OFF   OUT16(0x604, 0x2000) HANG
#define SAY(c)      OUT8(0x3f8, c)

/* A table of gates at 1 MiB + 64 KiB; `label` is of the guest `name`. */
#define GATE(vector, label, name)                                                                  \
    "mov $(0x100000 + " label " - " name "), %eax\nmov %eax, %ebx\nand $0xffff, %eax\n"            \
    "or $0x100000, %eax\nmov %eax, 0x110000 + 8 * " #vector "\nand $0xffff0000, %ebx\n"            \
    "or $0x8e00, %ebx\nmov %ebx, 0x110004 + 8 * " #vector "\n"
#define LOAD_GATES  "movw $0x7ff, 0x10fff0\nmovl $0x110000, 0x10fff2\nlidt 0x10fff0\n"
#define APIC_ON     "movl $0x1ff, 0xfee000f0\n"
#define APIC_EOI    "movl $0, 0xfee000b0\n"

/* Both 8259s: vectors 20h and 28h, all but input 0 masked. */
#define PICS                                                                                       \
    OUT8(0x20, 0x11) OUT8(0x21, 0x20) OUT8(0x21, 4) OUT8(0x21, 1)                                  \
    OUT8(0xa0, 0x11) OUT8(0xa1, 0x28) OUT8(0xa1, 2) OUT8(0xa1, 1)                                  \
    OUT8(0x21, 0xfe) OUT8(0xa1, 0xff)
#define PIT_1_KHZ          OUT8(0x43, 0x34) OUT8(0x40, 0xa9) OUT8(0x40, 0x04)
#define IOAPIC(reg, value) "movl $" #reg ", 0xfec00000\nmovl $" #value ", 0xfec00010\n"
// clang-format on

/* ------------------------------------------------------------------ endings */

GUEST32(hello, SAY('h') SAY('i') SAY('\n') EXIT(21));
GUEST32(power_off, POWER_OFF);
GUEST32(reset, RESET);
GUEST32(triple, "movl $0, 0x200000\nmovl $0, 0x200004\nlidt 0x200000\nud2\n");
GUEST32(panic, OUT8(0x505, 1) SAY('p') HANG);
GUEST32(three_ends, EXIT(1) "mov $6, %al\nmov $0xcf9, %dx\nout %al, %dx\n");

static void the_debug_exit_port_ends_it_with_its_code(void **state) {
    BOX(b, hello);

    ends_with(&b, MACHINE_DEBUG_EXIT, 43);
    assert_string_equal(b.output, "hi\n");
    box_free(&b);
}

static void sleep_state_5_powers_it_off(void **state) {
    BOX(b, power_off);

    ends_with(&b, MACHINE_POWERED_OFF, 0);
    box_free(&b);
}

static void a_reset_under_no_reboot_ends_it(void **state) {
    BOX(b, reset);

    b.config.no_reboot = true;
    ends_with(&b, MACHINE_RESET, 0);
    assert_int_equal(b.resets, 0);
    box_free(&b);
}

static void a_triple_fault_under_no_reboot_is_a_crash(void **state) {
    BOX(b, triple);

    b.config.no_reboot = true;
    ends_with(&b, MACHINE_CRASHED, 0);
    box_free(&b);
}

static void a_panic_notice_under_no_reboot_is_a_crash(void **state) {
    BOX(b, panic);

    b.config.no_reboot = true;
    ends_with(&b, MACHINE_CRASHED, 1);
    box_free(&b);
}

static void whatever_comes_after_the_first_ending_does_not_count(void **state) {
    BOX(b, three_ends);

    ends_with(&b, MACHINE_DEBUG_EXIT, 3);
    for (unsigned i = 0; i < 20; i++)
        loop_step(b.loop, 1);
    assert_int_equal(b.ends, 1);
    box_free(&b);
}

/* ------------------------------------------------------------------ resets */

/* RAM keeps a count of the starts; the fourth ends it. Registers and devices must be as at the
 * first. */
#define COUNTED(how)                                                                               \
    "incl 0x300000\n"                                                                              \
    "mov $0x3fb, %dx\nin %dx, %al\ntest %al, %al\njnz 2f\n" /* LCR of the UART */                  \
    "cmpl $4, 0x300000\nje 1f\n" OUT8(0x3fb, 3) SAY('.') how "1:\n" EXIT(0) "2:\n" EXIT(1)
GUEST32(counted_cf9, COUNTED(RESET));
GUEST32(counted_kbd, COUNTED(OUT8(0x64, 0xfe) HANG));
GUEST32(counted_92, COUNTED(OUT8(0x92, 1) HANG));
GUEST32(counted_triple, COUNTED("movl $0, 0x200000\nmovl $0, 0x200004\nlidt 0x200000\nud2\n"));
/* The code changes itself; after a reset it must be the file's again, also where it was executed
 * before. */
GUEST32(patched, "incl 0x300000\ncmpl $4, 0x300000\nje 1f\n"
                 "mov $1, %ebx\n"
                 "2: mov $0, %eax\n" /* becomes 7 */
                 "test %eax, %eax\njnz 3f\n"
                 "movb $7, 0x100000 + 2b - patched + 1\n" RESET "1:\n" EXIT(0) "3:\n" EXIT(1));

static void comes_up_again(const uint8_t *code, const uint8_t *end, unsigned crashes) {
    struct box b;

    box_make(&b, code, (size_t)(end - code));
    ends_with(&b, MACHINE_DEBUG_EXIT, 1);
    assert_int_equal(b.resets, 3);
    assert_int_equal(b.crashes, crashes);
    box_free(&b);
}

static void every_kind_of_reset_starts_the_kernel_afresh(void **state) {
    comes_up_again(counted_cf9, counted_cf9_end, 0);
    comes_up_again(counted_kbd, counted_kbd_end, 0);
    comes_up_again(counted_92, counted_92_end, 0);
    comes_up_again(counted_triple, counted_triple_end, 3);
    comes_up_again(patched, patched_end, 0);
}

/* An NMI that was pending when the machine was reset must not reach the new start, which has no
 * table yet. */
GUEST32(nmi_reset, "incl 0x300000\ncmpl $4, 0x300000\nje 1f\n" STACK APIC_ON
                   "mov $0xcf9, %dx\nmov $6, %al\nmovl $0, 0xfee00310\n"
                   "movl $0x44400, 0xfee00300\nout %al, %dx\n" /* NMI to self, reset */
        HANG "1:\n" EXIT(0));

static void a_pending_nmi_does_not_survive_a_reset(void **state) {
    BOX(b, nmi_reset);

    /* The NMI may be taken before the reset's write: no gates, triple fault, reset as well. */
    ends_with(&b, MACHINE_DEBUG_EXIT, 1);
    assert_int_equal(b.resets, 3);
    box_free(&b);
}

GUEST32(asleep, SAY('z') HANG);

static size_t output_so_far(struct box *b) {
    size_t n;

    pthread_mutex_lock(&b->lock);
    n = b->output_len;
    pthread_mutex_unlock(&b->lock);
    return n;
}

static void a_machine_asleep_can_be_reset_from_outside(void **state) {
    BOX(b, asleep);

    alarm(RUN_SECONDS);
    box_start(&b);
    for (unsigned n = 1; n <= 3; n++) {
        while (output_so_far(&b) < n)
            loop_step(b.loop, 1);
        pthread_mutex_lock(&b.lock);
        assert_int_equal(b.resets, n - 1);
        machine_reset(b.machine);
        machine_reset(b.machine); /* twice is once */
        pthread_mutex_unlock(&b.lock);
        while (b.resets < n)
            loop_step(b.loop, 100);
    }
    alarm(0);
    box_free(&b);
}

/* ------------------------------------------------------------------ pauses */

/* A character for every 2^22 cycles of the TSC, and for every interrupt of the PIT another one. */
GUEST32(ticker, STACK PICS GATE(0x20, "7f", "ticker") LOAD_GATES APIC_ON
        "movl $0x700, 0xfee00350\n" PIT_1_KHZ "rdtsc\nmov %eax, %esi\nsti\n"
        "1: rdtsc\nsub %esi, %eax\ncmp $0x400000, %eax\njb 1b\nadd $0x400000, %esi\n"
        "mov $0x3f8, %dx\nmov $'t', %al\nout %al, %dx\njmp 1b\n"
        "7: pusha\nmov $0x3f8, %dx\nmov $'i', %al\nout %al, %dx\nmov $0x20, %al\n"
        "out %al, $0x20\npopa\niret\n");

static unsigned count_in_output(struct box *b, char c) {
    unsigned n = 0;

    for (size_t i = 0; i < b->output_len; i++)
        n += b->output[i] == c;
    return n;
}

static void steps(struct box *b, unsigned ms) {
    struct timespec begin, now;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        loop_step(b->loop, 1);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < ms);
}

static void pause_box(struct box *b) {
    pthread_mutex_lock(&b->lock);
    machine_pause(b->machine);
    pthread_mutex_unlock(&b->lock);
}

static void resume_box(struct box *b) {
    pthread_mutex_lock(&b->lock);
    machine_resume(b->machine);
    pthread_mutex_unlock(&b->lock);
}

static void a_paused_machine_stands_still_and_its_guest_sees_no_time_pass(void **state) {
    uint64_t now;
    BOX(b, ticker);

    alarm(RUN_SECONDS);
    box_start(&b);
    assert_false(machine_is_paused(b.machine));
    for (unsigned n = 1; n <= 3; n++) {
        size_t len;

        while (output_so_far(&b) < 20 * n)
            loop_step(b.loop, 1);
        pause_box(&b);
        pause_box(&b); /* twice is once */
        assert_true(machine_is_paused(b.machine));
        len = b.output_len;
        now = machine_now(b.machine);
        steps(&b, 200);
        assert_int_equal(b.output_len, len);
        assert_int_equal(machine_now(b.machine), now);
        resume_box(&b);
        resume_box(&b);
        assert_false(machine_is_paused(b.machine));
    }
    pause_box(&b);
    now = machine_now(b.machine);
    /* The TSC has at most 8 GHz; the 600 ms of the pauses would be 286 characters at 2 GHz. */
    assert_true(count_in_output(&b, 't') <= now * 8 / 0x400000 + 1);
    assert_true(count_in_output(&b, 'i') <= now / 990000 + 1);
    print_message("%u of the TSC, %u of the PIT in %lu ms\n", count_in_output(&b, 't'),
                  count_in_output(&b, 'i'), now / 1000000);
    alarm(0);
    box_free(&b);
}

static void a_machine_paused_before_its_start_waits_for_resume(void **state) {
    BOX(b, hello);

    alarm(RUN_SECONDS);
    b.machine = machine_new(&b.config, b.loop, &b.lock, &b.err);
    assert_non_null(b.machine);
    pause_box(&b);
    assert_int_equal(machine_start(b.machine, &b.err), 0);
    steps(&b, 20);
    assert_int_equal(b.output_len, 0);
    assert_int_equal(machine_now(b.machine), 0);
    resume_box(&b);
    loop_run(b.loop);
    alarm(0);
    assert_string_equal(b.output, "hi\n");
    assert_int_equal(b.how, MACHINE_DEBUG_EXIT);
    box_free(&b);
}

static void a_reset_while_paused_is_done_and_leaves_it_paused(void **state) {
    BOX(b, asleep);

    alarm(RUN_SECONDS);
    box_start(&b);
    while (!output_so_far(&b))
        loop_step(b.loop, 1);
    pause_box(&b);
    pthread_mutex_lock(&b.lock);
    machine_reset(b.machine);
    pthread_mutex_unlock(&b.lock);
    steps(&b, 20);
    assert_int_equal(b.resets, 1);
    assert_true(machine_is_paused(b.machine));
    assert_string_equal(b.output, "z");
    resume_box(&b);
    while (output_so_far(&b) < 2)
        loop_step(b.loop, 1);
    alarm(0);
    box_free(&b);
}

/* Paused and resumed at any moment of guests that reset, crash, end or talk: as without. */
static void pauses_at_any_moment_lose_no_reset_and_no_ending(void **state) {
    static const struct {
        const uint8_t *code, *end;
        unsigned resets;
    } guests[] = {{counted_cf9, counted_cf9_end, 3},
                  {counted_triple, counted_triple_end, 3},
                  {power_off, power_off_end, 0}};

    alarm(RUN_SECONDS);
    for (unsigned i = 0; i < 60; i++) {
        struct timespec nap = {.tv_nsec = i / 3 * 10 * 1000};
        struct box b;

        box_make(&b, guests[i % 3].code, (size_t)(guests[i % 3].end - guests[i % 3].code));
        box_start(&b);
        for (unsigned n = 0; !b.ends; n++) {
            pause_box(&b);
            if (n % 3 == 0)
                loop_step(b.loop, 0);
            resume_box(&b);
            nanosleep(&nap, NULL);
            loop_step(b.loop, 1);
        }
        assert_int_equal(b.how, i % 3 == 2 ? MACHINE_POWERED_OFF : MACHINE_DEBUG_EXIT);
        assert_int_equal(b.resets, guests[i % 3].resets);
        box_free(&b);
    }
    alarm(0);
}

/* ------------------------------------------------------------------ interrupts */

/* Each: EBX counts in the handler, the body halts until there were five. On a busy host a sixth may
 * come before the body has looked: it is not counted. */
#define COUNT "cmp $5, %ebx\nadc $0, %ebx\n"
GUEST32(pit_pic, STACK PICS GATE(0x20, "7f", "pit_pic") LOAD_GATES APIC_ON
        "movl $0x700, 0xfee00350\n" /* LINT0: ExtINT */
        PIT_1_KHZ "xor %ebx, %ebx\nsti\n1: hlt\ncmp $5, %ebx\njb 1b\n" EXIT_EBX "7: " COUNT
        "push %eax\nmov $0x20, %al\nout %al, $0x20\npop %eax\niret\n");
/* No word to the APIC: it passes the 8259s' interrupts on as firmware would have set it up. */
GUEST32(pit_plain, STACK PICS GATE(0x20, "7f", "pit_plain") LOAD_GATES PIT_1_KHZ
        "xor %ebx, %ebx\nsti\n1: hlt\ncmp $5, %ebx\njb 1b\n" EXIT_EBX "7: " COUNT
        "push %eax\nmov $0x20, %al\nout %al, $0x20\npop %eax\niret\n");
GUEST32(pit_ioapic, STACK OUT8(0x21, 0xff) OUT8(0xa1, 0xff) GATE(0x31, "7f", "pit_ioapic")
                        LOAD_GATES APIC_ON IOAPIC(0x15, 0) IOAPIC(0x14, 0x31) /* pin 2, edge */
        PIT_1_KHZ "xor %ebx, %ebx\nsti\n1: hlt\ncmp $5, %ebx\njb 1b\n" EXIT_EBX "7: " COUNT APIC_EOI
                  "iret\n");
GUEST32(apic_timer, STACK GATE(0x40, "7f", "apic_timer") LOAD_GATES APIC_ON
        "movl $3, 0xfee003e0\nmovl $0x20040, 0xfee00320\n" /* periodic */
        "movl $100000, 0xfee00380\nxor %ebx, %ebx\nsti\n1: hlt\ncmp $5, %ebx\njb 1b\n" EXIT_EBX
        "7: " COUNT APIC_EOI "iret\n");
/* TSC deadline, five times a millisecond ahead (2e6 cycles or so); early if the TSC says less. */
GUEST32(tsc_deadline, STACK GATE(0x41, "7f", "tsc_deadline") LOAD_GATES APIC_ON
        "movl $0x40041, 0xfee00320\nxor %ebx, %ebx\n"
        "1: rdtsc\nadd $2000000, %eax\nadc $0, %edx\nmov %eax, %esi\nmov %edx, %edi\n"
        "mov $0x6e0, %ecx\nwrmsr\nsti\nhlt\ncli\nrdtsc\nsub %esi, %eax\nsbb %edi, %edx\njc 2f\n"
        "cmp $5, %ebx\njb 1b\n" EXIT_EBX "2:\n" EXIT(77) "7: inc %ebx\n" APIC_EOI "iret\n");
/* STI holds interrupts for one instruction: HLT right behind it must be woken, for ever. */
GUEST32(sti_hlt, STACK GATE(0x40, "7f", "sti_hlt") LOAD_GATES APIC_ON
        "movl $3, 0xfee003e0\nmovl $0x40, 0xfee00320\nxor %ebx, %ebx\n"
        "1: cli\nmovl $1, 0xfee00380\n" /* due at once */
        "mov $50, %ecx\n3: dec %ecx\njnz 3b\nsti\nhlt\ncmp $200, %ebx\njb 1b\n" EXIT(
            5) "7: inc %ebx\n" APIC_EOI "iret\n");

/* The same and then it counts on, for the clock that a halted processor borrows is hot code's. */
GUEST32(many_deadlines, STACK GATE(0x41, "7f", "many_deadlines") LOAD_GATES APIC_ON
        "movl $0x40041, 0xfee00320\nxor %ebx, %ebx\n"
        "1: rdtsc\nadd $200000, %eax\nadc $0, %edx\nmov $0x6e0, %ecx\nwrmsr\nsti\nhlt\ncli\n"
        "cmp $500, %ebx\njb 1b\n" EXIT(5) "7: inc %ebx\n" APIC_EOI "iret\n");
/* It waits awake: nobody halts, and the timer must come all the same. */
GUEST32(busy_deadlines, STACK GATE(0x41, "7f", "busy_deadlines") LOAD_GATES APIC_ON
        "movl $0x40041, 0xfee00320\nxor %ebx, %ebx\nsti\n"
        "1: lea 1(%ebx), %esi\nrdtsc\nadd $200000, %eax\nadc $0, %edx\nmov $0x6e0, %ecx\nwrmsr\n"
        "2: cmp %esi, %ebx\njne 2b\ncmp $200, %ebx\njb 1b\n" EXIT(5) "7: inc %ebx\n" APIC_EOI
                                                                     "iret\n");

static void counts_to_five(const uint8_t *code, const uint8_t *end) {
    static const char *const backends[] = {"ref", "soft"};
    struct box b;

    for (unsigned i = 0; i < 2; i++) {
        if (!cpu_select(backends[i], NULL, NULL, 0, NULL))
            continue; /* this host lacks what it needs */
        box_make(&b, code, (size_t)(end - code));
        b.config.cpu = backends[i];
        ends_with(&b, MACHINE_DEBUG_EXIT, 11);
        box_free(&b);
    }
}

static void the_pit_wakes_a_halted_processor_through_the_pic(void **state) {
    counts_to_five(pit_pic, pit_pic_end);
}

static void it_does_so_for_a_kernel_that_knows_no_apic(void **state) {
    counts_to_five(pit_plain, pit_plain_end);
}

static void the_pit_wakes_it_through_the_ioapic(void **state) {
    counts_to_five(pit_ioapic, pit_ioapic_end);
}

static void the_local_timer_wakes_it(void **state) { counts_to_five(apic_timer, apic_timer_end); }

static void the_tsc_deadline_wakes_it_and_never_early(void **state) {
    counts_to_five(tsc_deadline, tsc_deadline_end);
}

static void a_halted_processor_waits_for_the_next_timer_itself(void **state) {
    uint64_t before = stat_counts[STAT_clock_borrowed];

    counts_to_five(many_deadlines, many_deadlines_end);
    assert_true(stat_counts[STAT_clock_borrowed] > before);
}

static void a_timer_comes_to_a_guest_that_does_not_halt(void **state) {
    counts_to_five(busy_deadlines, busy_deadlines_end);
}

static void an_interrupt_between_sti_and_hlt_is_not_slept_over(void **state) {
    counts_to_five(sti_hlt, sti_hlt_end);
}

/* Sleeps until a byte comes in; 'q' ends it (EBX of PUSHA), others are sent back. */
GUEST32(echo, STACK PICS OUT8(0x21, 0xef) GATE(0x24, "7f", "echo") LOAD_GATES APIC_ON
        "movl $0x700, 0xfee00350\n" OUT8(0x3fa, 0x07) OUT8(0x3fc, 0x0b) OUT8(0x3f9, 1)
            SAY('>') "xor %ebx, %ebx\nsti\n1: hlt\ntest %ebx, %ebx\njz 1b\n" EXIT(
                4) "7: pusha\n8: mov $0x3fd, %dx\nin %dx, %al\ntest $1, %al\njz 9f\n"
                   "mov $0x3f8, %dx\nin %dx, %al\ncmp $'q', %al\njne 6f\nincl 16(%esp)\n"
                   "6: out %al, %dx\njmp 8b\n9: mov $0x20, %al\nout %al, $0x20\npopa\niret\n");

static void input_on_the_serial_port_wakes_it(void **state) {
    static const char text[] = "some text that is longer than a FIFO, q";
    size_t sent = 0;
    BOX(b, echo);

    alarm(RUN_SECONDS);
    box_start(&b);
    while (!b.ends) {
        loop_step(b.loop, 1);
        pthread_mutex_lock(&b.lock);
        if (b.output_len) /* ready */
            sent += uart_receive(machine_serial(b.machine, 0), (const uint8_t *)text + sent,
                                 strlen(text) - sent);
        pthread_mutex_unlock(&b.lock);
    }
    alarm(0);
    assert_int_equal(b.code, 9);
    assert_int_equal(b.output[0], '>');
    assert_string_equal(b.output + 1, text);
    box_free(&b);
}

/* The power button: PM1 status and, with its bit enabled, the SCI (IOAPIC pin 9, level). */
GUEST32(button,
        STACK GATE(0x39, "7f", "button") LOAD_GATES APIC_ON IOAPIC(0x23, 0) IOAPIC(0x22, 0x8039)
            OUT16(0x602, 0x100)
                SAY('b') "xor %ebx, %ebx\nsti\n1: hlt\n"
                         "cmp $3, %ebx\njb 1b\n" EXIT(
                             6) "7: pusha\nmov $0x600, %dx\nin %dx, %ax\ntest $0x100, %ax\njz 8f\n"
                                "incl 16(%esp)\nmov $0x100, %ax\nout %ax, %dx\n" SAY(
                                    'b') "8:\n" APIC_EOI "popa\niret\n");

static void the_power_button_interrupts_once_a_press(void **state) {
    BOX(b, button);

    alarm(RUN_SECONDS);
    box_start(&b);
    for (size_t seen = 0; !b.ends;) {
        loop_step(b.loop, 1);
        pthread_mutex_lock(&b.lock);
        if (b.output_len > seen) {
            seen = b.output_len;
            machine_power_button(b.machine);
        }
        pthread_mutex_unlock(&b.lock);
    }
    alarm(0);
    assert_int_equal(b.code, 13);
    assert_string_equal(b.output, "bbbb");
    box_free(&b);
}

static double cpu_seconds(void) {
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void a_guest_that_halts_costs_nothing(void **state) {
    struct timespec nap = {.tv_nsec = 300 * 1000 * 1000};
    double before;
    BOX(b, asleep);

    alarm(RUN_SECONDS);
    box_start(&b);
    while (!output_so_far(&b))
        loop_step(b.loop, 1);
    nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
    before = cpu_seconds();
    nanosleep(&nap, NULL);
    assert_true(cpu_seconds() - before < 0.05);
    alarm(0);
    box_free(&b);
}

/* ------------------------------------------------------------------ buses */

/* Functions found by configuration ports and by the window must be the same, all registers of them.
 * EBX counts the functions; a difference ends with 100. */
GUEST32(scan,
        STACK "xor %ebx, %ebx\nxor %esi, %esi\n" /* ESI: bus 0, devfn */
              "1: xor %edi, %edi\n"              /* EDI: register */
              "2: mov %esi, %eax\nshl $8, %eax\nor %edi, %eax\nor $0x80000000, %eax\n"
              "mov $0xcf8, %dx\nout %eax, %dx\nmov $0xcfc, %dx\nin %dx, %eax\nmov %eax, %ecx\n"
              "mov %esi, %eax\nshl $12, %eax\nor %edi, %eax\nmov 0xb0000000(%eax), %eax\n"
              "cmp %eax, %ecx\njne 9f\n"
              "test %edi, %edi\njnz 3f\ncmp $-1, %ecx\nje 4f\ninc %ebx\n"
              "3: add $4, %edi\ncmp $256, %edi\njb 2b\n"
              "4: inc %esi\ncmp $256, %esi\njb 1b\n" EXIT_EBX "9:\n" EXIT(100));
/* Nothing answers: all ones, from a port and from memory, whatever the size. */
GUEST32(nothing,
        "mov $0x2f8, %dx\nin %dx, %eax\ncmp $-1, %eax\njne 9f\nin %dx, %al\ncmp $-1, %al\njne 9f\n"
        "mov 0xd0000000, %eax\ncmp $-1, %eax\njne 9f\ncmpb $-1, 0xfed40000\njne 9f\n"
        "cmpl $-1, 0x1000000\njne 9f\n" /* just behind the RAM */
        "movl $0, 0xd0000000\n" EXIT(3) "9:\n" EXIT(100));

static void both_ways_to_configuration_space_agree(void **state) {
    BOX(b, scan);

    ends_with(&b, MACHINE_DEBUG_EXIT, 7); /* host bridge, rng, LPC bridge */
    box_free(&b);
}

static void where_nothing_is_reads_as_ones(void **state) {
    BOX(b, nothing);

    ends_with(&b, MACHINE_DEBUG_EXIT, 7);
    box_free(&b);
}

/* ------------------------------------------------------------------ hostility */

/* Reads and writes at random for ever: ports (three in four below 1000h), configuration space, the
 * devices' windows, both kinds of APIC. The generator (xorshift32) is seeded by the command line;
 * it survives resets. */
GUEST32(garbage,
        "mov 24(%ebx), %edi\nmov (%edi), %edi\n"
        "1: mov 0x300000, %eax\ntest %eax, %eax\njnz 2f\nmov %edi, %eax\n"
        "2: mov %eax, %ecx\nshl $13, %ecx\nxor %ecx, %eax\nmov %eax, %ecx\nshr $17, %ecx\nxor "
        "%ecx, %eax\n"
        "mov %eax, %ecx\nshl $5, %ecx\nxor %ecx, %eax\nmov %eax, 0x300000\n"
        "mov %eax, %edx\nmov %eax, %esi\nrol $7, %esi\nbt $31, %eax\njc 5f\n"
        "test $0x60000000, %eax\njz 3f\nand $0xfff, %edx\n"
        "3: xchg %eax, %esi\nbt $30, %eax\njc 4f\nout %al, %dx\nbt $29, %eax\njc 1b\nout %ax, %dx\n"
        "bt $28, %eax\njc 1b\nout %eax, %dx\njmp 1b\n"
        "4: in %dx, %al\nin %dx, %ax\nin %dx, %eax\njmp 1b\n"
        "5: and $0xfffff, %edx\nbt $30, %eax\njc 7f\nbt $29, %eax\njc 6f\n"
        "or $0xb0000000, %edx\njmp 9f\n6: and $0x3ffff, %edx\nor $0xc0000000, %edx\njmp 9f\n"
        "7: and $0xfff, %edx\nbt $29, %eax\njc 8f\nor $0xfee00000, %edx\njmp 9f\n"
        "8: and $0x3f, %edx\nor $0xfec00000, %edx\n"
        "9: bt $28, %eax\njc 10f\nmov %esi, (%edx)\nmovw %si, 2(%edx)\njmp 1b\n"
        "10: mov (%edx), %eax\nmovb 1(%edx), %al\njmp 1b\n");

static size_t console_write(void *opaque, const uint8_t *p, size_t n) { return n; }

static void add_devices(struct box *b, struct image *disk) {
    static const uint8_t mac[6] = {0x52, 0x54, 0, 1, 2, 3};
    struct block_options o = {.path = disk->path};

    b->config.disk[0] = block_open(b->loop, &o, &b->err);
    b->config.nic[0].port = net_user_open(b->loop, NULL, 0, &b->err);
    if (!b->config.disk[0] || !b->config.nic[0].port)
        fail_msg("%s", b->err.text);
    memcpy(b->config.nic[0].mac, mac, sizeof(mac));
    b->config.disks = b->config.nics = 1;
    b->config.has_console = true;
    b->config.console = (struct console_port){.write = console_write};
    b->config.debug_exit = false;
}

/* VIV_SECONDS makes it longer. */
static void a_guest_that_writes_garbage_everywhere_harms_only_itself(void **state) {
    const char *wanted = getenv("VIV_SECONDS");
    int seconds = wanted ? atoi(wanted) : 2;
    struct timespec begin, now;
    struct image disk;
    uint8_t sector[512] = {0};
    unsigned seed = 0, resets = 0;

    image_raw(&disk, sector, sizeof(sector));
    clock_gettime(CLOCK_MONOTONIC, &begin);
    alarm(RUN_SECONDS + (unsigned)seconds);
    do {
        char line[16];
        BOX(b, garbage);

        snprintf(line, sizeof(line), "%04u", seed++ % 10000);
        b.config.cmdline = line;
        add_devices(&b, &disk);
        box_start(&b);
        for (unsigned rounds = 0; rounds < 40 && !b.ends && b.resets < 50; rounds++) {
            unsigned before = b.resets;

            for (unsigned i = 0; i < 20; i++) /* a twentieth of a second */
                loop_step(b.loop, 2);
            pthread_mutex_lock(&b.lock);
            if (b.resets == before) /* it may be running through zeroes */
                machine_reset(b.machine);
            pthread_mutex_unlock(&b.lock);
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (b.ends && b.how == MACHINE_FAILED)
            fail_msg("seed %s: %s", line, machine_error(b.machine)->text);
        resets += b.resets;
        machine_free(b.machine);
        b.machine = NULL;
        block_close(b.config.disk[0]);
        net_close(b.config.nic[0].port);
        box_free(&b);
    } while (seed < 2 || resets < 2 || now.tv_sec - begin.tv_sec < seconds);
    alarm(0);
    print_message("%u machines, %u resets\n", seed, resets);
    image_done(&disk);
}

/* ------------------------------------------------------------------ building and taking apart */

static unsigned open_descriptors(void) {
    unsigned n = 0;

    for (int fd = 0; fd < 200; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void fails(const char *text, void (*spoil)(struct machine_config *c)) {
    unsigned before;
    BOX(b, hello);

    spoil(&b.config);
    before = open_descriptors();
    assert_null(machine_new(&b.config, b.loop, &b.lock, &b.err));
    if (!strstr(b.err.text, text))
        fail_msg("'%s' says nothing of '%s'", b.err.text, text);
    assert_int_equal(open_descriptors(), before);
    box_free(&b);
}

static void spoil_cpu(struct machine_config *c) { c->cpu = "abacus"; }
static void spoil_model(struct machine_config *c) { c->cpu_model = "i8086"; }
static void spoil_kernel(struct machine_config *c) { c->kernel = "/nonexistent"; }
static void spoil_initrd(struct machine_config *c) {
    static const char *const nowhere[] = {"/nonexistent"};

    c->initrd = nowhere;
    c->initrds = 1;
}
static void spoil_memory(struct machine_config *c) { c->memory = 1ull << 62; }
static void spoil_cmdline(struct machine_config *c) {
    static char line[70000];

    memset(line, 'a', sizeof(line) - 1);
    c->cmdline = line;
}

static void what_cannot_be_built_leaves_nothing_open_and_nothing_closed(void **state) {
    fails("backend 'abacus'", spoil_cpu);
    fails("i8086", spoil_model);
    fails("/nonexistent", spoil_kernel);
    fails("/nonexistent", spoil_initrd);
    fails("memory", spoil_memory);
    fails("69999 characters", spoil_cmdline);
}

/* The machine is taken apart while its guest asks for an end or a reset at that very moment. */
GUEST32(restless, "mov $2000, %ecx\n1: dec %ecx\njnz 1b\n" RESET);
GUEST32(talkative, "1:\n" SAY('x') "jmp 1b\n");

static void taken_apart_at_any_moment_nothing_breaks(void **state) {
    static const struct {
        const uint8_t *code, *end;
    } guests[] = {{restless, restless_end},
                  {power_off, power_off_end},
                  {talkative, talkative_end},
                  {apic_timer, apic_timer_end},
                  {counted_triple, counted_triple_end}};

    alarm(RUN_SECONDS);
    for (unsigned i = 0; i < 60; i++) {
        struct timespec nap = {.tv_nsec = i / 5 * 400 * 1000};
        struct box b;

        box_make(&b, guests[i % 5].code, (size_t)(guests[i % 5].end - guests[i % 5].code));
        box_start(&b);
        nanosleep(&nap, NULL);
        for (unsigned steps = i % 7; steps; steps--)
            loop_step(b.loop, 0);
        box_free(&b);
    }
    alarm(0);
}

static void a_stopped_machine_calls_nobody_any_more(void **state) {
    BOX(b, restless);

    alarm(RUN_SECONDS);
    box_start(&b);
    while (b.resets < 3)
        loop_step(b.loop, 10);
    machine_stop(b.machine);
    b.resets = 0;
    for (unsigned i = 0; i < 10; i++)
        loop_step(b.loop, 2);
    assert_int_equal(b.resets + b.ends, 0);
    alarm(0);
    box_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_debug_exit_port_ends_it_with_its_code),
        cmocka_unit_test(sleep_state_5_powers_it_off),
        cmocka_unit_test(a_reset_under_no_reboot_ends_it),
        cmocka_unit_test(a_triple_fault_under_no_reboot_is_a_crash),
        cmocka_unit_test(a_panic_notice_under_no_reboot_is_a_crash),
        cmocka_unit_test(whatever_comes_after_the_first_ending_does_not_count),
        cmocka_unit_test(every_kind_of_reset_starts_the_kernel_afresh),
        cmocka_unit_test(a_pending_nmi_does_not_survive_a_reset),
        cmocka_unit_test(a_machine_asleep_can_be_reset_from_outside),
        cmocka_unit_test(a_paused_machine_stands_still_and_its_guest_sees_no_time_pass),
        cmocka_unit_test(a_machine_paused_before_its_start_waits_for_resume),
        cmocka_unit_test(a_reset_while_paused_is_done_and_leaves_it_paused),
        cmocka_unit_test(pauses_at_any_moment_lose_no_reset_and_no_ending),
        cmocka_unit_test(the_pit_wakes_a_halted_processor_through_the_pic),
        cmocka_unit_test(it_does_so_for_a_kernel_that_knows_no_apic),
        cmocka_unit_test(the_pit_wakes_it_through_the_ioapic),
        cmocka_unit_test(the_local_timer_wakes_it),
        cmocka_unit_test(the_tsc_deadline_wakes_it_and_never_early),
        cmocka_unit_test(a_halted_processor_waits_for_the_next_timer_itself),
        cmocka_unit_test(a_timer_comes_to_a_guest_that_does_not_halt),
        cmocka_unit_test(an_interrupt_between_sti_and_hlt_is_not_slept_over),
        cmocka_unit_test(input_on_the_serial_port_wakes_it),
        cmocka_unit_test(the_power_button_interrupts_once_a_press),
        cmocka_unit_test(a_guest_that_halts_costs_nothing),
        cmocka_unit_test(both_ways_to_configuration_space_agree),
        cmocka_unit_test(where_nothing_is_reads_as_ones),
        cmocka_unit_test(a_guest_that_writes_garbage_everywhere_harms_only_itself),
        cmocka_unit_test(what_cannot_be_built_leaves_nothing_open_and_nothing_closed),
        cmocka_unit_test(taken_apart_at_any_moment_nothing_breaks),
        cmocka_unit_test(a_stopped_machine_calls_nobody_any_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
