/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the 16550A by the PC16550D data sheet. */
#include "devices/uart16550.h"

#include <string.h>

#include "devices/chip.h"

extern const struct device_class uart16550_class;

enum { RBR = 0, IER = 1, IIR = 2, FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };
enum { OUT2 = 8, LOOP = 16 };

struct cable {
    struct chip chip;
    char sent[200];
    size_t n, calls;
    bool full;
    unsigned room; /* calls of can_receive */
};

static void far_write(void *opaque, const uint8_t *p, size_t n) {
    struct cable *c = opaque;

    assert_true(c->n + n < sizeof(c->sent));
    memcpy(c->sent + c->n, p, n);
    c->n += n;
    c->calls++;
}

static bool far_can_write(void *opaque) { return !((struct cable *)opaque)->full; }

static void far_can_receive(void *opaque) {
    struct cable *c = opaque;

    c->room += !c->chip.muted;
}

/* With OUT2 set, as drivers do to let the interrupt through. */
static void plug(struct cable *c) {
    struct uart_config config = {.port = {far_write, far_can_write, far_can_receive, c}};

    memset(c, 0, sizeof(*c));
    chip_open(&c->chip, &uart16550_class, &config);
    chip_out(&c->chip, 0, MCR, OUT2 | 3);
    chip_in(&c->chip, 0, MSR);
}

static void out(struct cable *c, unsigned reg, uint8_t v) { chip_out(&c->chip, 0, reg, v); }
static uint8_t in(struct cable *c, unsigned reg) { return chip_in(&c->chip, 0, reg); }
static bool irq(struct cable *c) { return c->chip.level[0]; }

static size_t receive(struct cable *c, const char *text) {
    size_t n = uart_receive(c->chip.dev, (const uint8_t *)text, strlen(text));

    chip_refresh(&c->chip);
    return n;
}

static void it_comes_up_idle_and_empty(void **state) {
    struct cable c;

    memset(&c, 0, sizeof(c));
    chip_open(&c.chip, &uart16550_class, NULL);
    assert_int_equal(in(&c, IER), 0);
    assert_int_equal(in(&c, IIR), 0x01);
    assert_int_equal(in(&c, LCR), 0);
    assert_int_equal(in(&c, MCR), 0);
    assert_int_equal(in(&c, LSR), 0x60);
    assert_int_equal(in(&c, MSR), 0xb0);
    out(&c, RBR, 'x'); /* into nothing */
    assert_int_equal(in(&c, LSR), 0x60);
    chip_close(&c.chip);
}

static void a_driver_finds_a_16550a(void **state) {
    struct cable c;

    plug(&c);
    out(&c, IER, 0);
    assert_int_equal(in(&c, IER), 0);
    out(&c, IER, 0x0f);
    assert_int_equal(in(&c, IER), 0x0f);
    out(&c, IER, 0xf0);
    assert_int_equal(in(&c, IER), 0);
    out(&c, FCR, 1);
    assert_int_equal(in(&c, IIR) & 0xc0, 0xc0);
    out(&c, FCR, 0);
    assert_int_equal(in(&c, IIR) & 0xc0, 0);
    out(&c, SCR, 0xa5);
    assert_int_equal(in(&c, SCR), 0xa5);
    out(&c, MCR, 0xff);
    assert_int_equal(in(&c, MCR), 0x1f);
    chip_close(&c.chip);
}

static void dlab_opens_the_divisor(void **state) {
    struct cable c;

    plug(&c);
    out(&c, LCR, 0x83);
    out(&c, 0, 0x34);
    out(&c, 1, 0x12);
    assert_int_equal(in(&c, 0), 0x34);
    assert_int_equal(in(&c, 1), 0x12);
    assert_int_equal(c.n, 0);
    out(&c, LCR, 0x03);
    assert_int_equal(in(&c, IER), 0);
    chip_close(&c.chip);
}

static void bytes_written_are_sent_in_order(void **state) {
    struct cable c;

    plug(&c);
    for (const char *p = "hello"; *p; p++) {
        assert_int_equal(in(&c, LSR) & 0x60, 0x60);
        out(&c, RBR, (uint8_t)*p);
    }
    assert_int_equal(c.n, 5);
    assert_memory_equal(c.sent, "hello", 5);
    chip_close(&c.chip);
}

static void a_full_backend_holds_thre_at_zero_and_loses_nothing(void **state) {
    struct cable c;

    plug(&c);
    out(&c, FCR, 1);
    c.full = true;
    for (unsigned i = 0; i < 16; i++)
        out(&c, RBR, (uint8_t)('a' + i));
    assert_int_equal(in(&c, LSR) & 0x60, 0);
    out(&c, IER, 2);
    assert_false(irq(&c));
    c.full = false;
    uart_writable(c.chip.dev);
    chip_refresh(&c.chip);
    assert_true(irq(&c));
    assert_int_equal(in(&c, LSR) & 0x60, 0x60);
    assert_int_equal(c.n, 16);
    assert_memory_equal(c.sent, "abcdefghijklmnop", 16);
    assert_int_equal(c.calls, 1);
    chip_close(&c.chip);
}

static void without_fifos_one_byte_waits(void **state) {
    struct cable c;

    plug(&c);
    c.full = true;
    out(&c, RBR, 'a');
    assert_int_equal(in(&c, LSR) & 0x60, 0);
    c.full = false;
    uart_writable(c.chip.dev);
    assert_int_equal(in(&c, LSR) & 0x60, 0x60);
    assert_memory_equal(c.sent, "a", 1);
    chip_close(&c.chip);
}

static void thre_interrupts_when_enabled_and_reading_iir_clears_it(void **state) {
    struct cable c;

    plug(&c);
    out(&c, IER, 2); /* THR is empty already */
    assert_true(irq(&c));
    assert_int_equal(in(&c, IIR), 0x02);
    assert_false(irq(&c));
    assert_int_equal(in(&c, IIR), 0x01);
    out(&c, RBR, 'x');
    assert_true(irq(&c));
    assert_int_equal(in(&c, IIR), 0x02);
    assert_false(irq(&c));
    out(&c, IER, 0);
    out(&c, IER, 2); /* a driver's test for broken chips */
    assert_true(irq(&c));
    chip_close(&c.chip);
}

static void reading_iir_clears_thre_only_if_it_was_reported(void **state) {
    struct cable c;

    plug(&c);
    out(&c, IER, 3);
    receive(&c, "k");
    assert_int_equal(in(&c, IIR), 0x04);
    assert_int_equal(in(&c, RBR), 'k');
    assert_true(irq(&c));
    assert_int_equal(in(&c, IIR), 0x02);
    assert_false(irq(&c));
    chip_close(&c.chip);
}

static void sources_come_by_priority(void **state) {
    struct cable c;

    plug(&c);
    out(&c, MCR, LOOP); /* all inputs fall */
    out(&c, MCR, OUT2); /* and rise */
    out(&c, IER, 0x0f);
    receive(&c, "k");
    uart_break(c.chip.dev);
    assert_int_equal(in(&c, IIR), 0x04); /* one byte deep: the break waited for room in vain */
    in(&c, RBR);
    uart_break(c.chip.dev);
    chip_refresh(&c.chip);
    assert_int_equal(in(&c, IIR), 0x06);
    assert_int_equal(in(&c, LSR) & 0x1f, 0x11);
    assert_int_equal(in(&c, LSR) & 0x1f, 0x01);
    assert_int_equal(in(&c, IIR), 0x04);
    assert_int_equal(in(&c, RBR), 0);
    assert_int_equal(in(&c, IIR), 0x02);
    assert_int_equal(in(&c, IIR), 0x00);
    assert_true(irq(&c));
    assert_int_equal(in(&c, MSR) & 0x0f, 0x0b);
    assert_int_equal(in(&c, IIR), 0x01);
    assert_false(irq(&c));
    chip_close(&c.chip);
}

static void the_receive_fifo_interrupts_at_its_trigger_level(void **state) {
    static const struct {
        uint8_t fcr, level;
    } triggers[] = {{0x01, 1}, {0x41, 4}, {0x81, 8}, {0xc1, 14}};

    for (unsigned i = 0; i < 4; i++) {
        struct cable c;

        plug(&c);
        out(&c, FCR, triggers[i].fcr);
        out(&c, IER, 1);
        for (unsigned n = 1; n < triggers[i].level; n++) {
            receive(&c, "x");
            assert_false(irq(&c));
        }
        receive(&c, "x");
        assert_true(irq(&c));
        assert_int_equal(in(&c, IIR), 0xc4);
        in(&c, RBR);
        assert_false(irq(&c));
        chip_close(&c.chip);
    }
}

static void bytes_below_the_trigger_level_time_out_after_four_characters(void **state) {
    struct cable c;

    plug(&c);
    out(&c, LCR, 0x83);
    out(&c, 0, 12); /* 9600 baud: 10 bits are 1.0417 ms */
    out(&c, 1, 0);
    out(&c, LCR, 0x03);
    out(&c, FCR, 0xc1);
    out(&c, IER, 1);
    receive(&c, "ab");
    chip_step(&c.chip, 4100000);
    assert_false(irq(&c));
    chip_step(&c.chip, 100000);
    assert_true(irq(&c));
    assert_int_equal(in(&c, IIR), 0xcc);
    assert_int_equal(in(&c, RBR), 'a');
    assert_false(irq(&c)); /* reading starts it anew */
    chip_step(&c.chip, 4200000);
    assert_int_equal(in(&c, IIR), 0xcc);
    assert_int_equal(in(&c, RBR), 'b');
    chip_step(&c.chip, 1000000000);
    assert_false(irq(&c));
    chip_close(&c.chip);
}

static void what_does_not_fit_stays_with_the_host(void **state) {
    struct cable c;

    plug(&c);
    assert_int_equal(receive(&c, "ab"), 1);
    assert_int_equal(in(&c, RBR), 'a');
    assert_int_equal(c.room, 1);
    out(&c, FCR, 1);
    assert_int_equal(receive(&c, "0123456789abcdefXYZ"), 16);
    assert_int_equal(receive(&c, "X"), 0);
    c.room = 0;
    assert_int_equal(in(&c, RBR), '0');
    assert_int_equal(c.room, 1);
    in(&c, RBR);
    if (!chip_reload) /* after a load it tells once more */
        assert_int_equal(c.room, 1);
    assert_int_equal(receive(&c, "XYZ"), 2);
    for (const char *p = "23456789abcdefXY"; *p; p++) {
        assert_int_equal(in(&c, LSR) & 1, 1);
        assert_int_equal(in(&c, RBR), *p);
    }
    assert_int_equal(in(&c, LSR) & 1, 0);
    chip_close(&c.chip);
}

static void loopback_returns_bytes_and_modem_lines(void **state) {
    struct cable c;

    plug(&c);
    out(&c, MCR, LOOP | 0x0a); /* OUT2, RTS */
    assert_int_equal(in(&c, MSR) & 0xf0, 0x90);
    out(&c, MCR, LOOP | 0x0d);
    assert_int_equal(in(&c, MSR), 0xe0 | 0x03);
    out(&c, MCR, LOOP | 0x09); /* OUT1 falls: trailing edge of RI */
    assert_int_equal(in(&c, MSR) & 0x0f, 0x04);
    out(&c, RBR, 'z');
    assert_int_equal(c.n, 0);
    assert_int_equal(in(&c, LSR) & 0x61, 0x61);
    assert_int_equal(receive(&c, "q"), 0);
    assert_int_equal(in(&c, RBR), 'z');
    out(&c, RBR, 'a');
    out(&c, RBR, 'b');
    assert_int_equal(in(&c, LSR) & 0x03, 0x03); /* overrun: only here */
    assert_int_equal(in(&c, RBR), 'b');
    c.room = 0;
    out(&c, MCR, 0x0b);
    assert_int_equal(c.room, 1);
    assert_int_equal(receive(&c, "q"), 1);
    chip_close(&c.chip);
}

static void the_interrupt_goes_through_out2(void **state) {
    struct cable c;

    plug(&c);
    out(&c, MCR, 0x03);
    out(&c, IER, 2);
    assert_false(irq(&c));
    out(&c, MCR, 0x0b);
    assert_true(irq(&c));
    chip_close(&c.chip);
}

static void fcr_clears_the_fifos(void **state) {
    struct cable c;

    plug(&c);
    out(&c, FCR, 1);
    receive(&c, "abc");
    c.full = true;
    out(&c, RBR, 'x');
    out(&c, FCR, 3);
    assert_int_equal(in(&c, LSR), 0x00);
    out(&c, FCR, 5);
    assert_int_equal(in(&c, LSR), 0x60);
    receive(&c, "d");
    out(&c, FCR, 0); /* so does switching them off */
    assert_int_equal(in(&c, LSR), 0x60);
    assert_int_equal(c.n, 0);
    chip_close(&c.chip);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_comes_up_idle_and_empty),
        cmocka_unit_test(a_driver_finds_a_16550a),
        cmocka_unit_test(dlab_opens_the_divisor),
        cmocka_unit_test(bytes_written_are_sent_in_order),
        cmocka_unit_test(a_full_backend_holds_thre_at_zero_and_loses_nothing),
        cmocka_unit_test(without_fifos_one_byte_waits),
        cmocka_unit_test(thre_interrupts_when_enabled_and_reading_iir_clears_it),
        cmocka_unit_test(reading_iir_clears_thre_only_if_it_was_reported),
        cmocka_unit_test(sources_come_by_priority),
        cmocka_unit_test(the_receive_fifo_interrupts_at_its_trigger_level),
        cmocka_unit_test(bytes_below_the_trigger_level_time_out_after_four_characters),
        cmocka_unit_test(what_does_not_fit_stays_with_the_host),
        cmocka_unit_test(loopback_returns_bytes_and_modem_lines),
        cmocka_unit_test(the_interrupt_goes_through_out2),
        cmocka_unit_test(fcr_clears_the_fifos),
    };

    return chip_run(tests);
}
