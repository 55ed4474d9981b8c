/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the 8254 and port 61h by the datasheet (Intel order 231164), with stepped time. */
#include "devices/pit.h"

#include "devices/chip.h"
#include "devices/ticks.h"

extern const struct device_class pit_class;

enum { CONTROL = 3 };
#define SECOND 1000000000ull

static void program(struct chip *c, unsigned channel, unsigned mode, uint16_t count) {
    chip_out(c, 0, CONTROL, (uint8_t)(channel << 6 | 0x30 | mode << 1));
    chip_out(c, 0, channel, (uint8_t)count);
    chip_out(c, 0, channel, (uint8_t)(count >> 8));
}

/* Moves to the first nanosecond of tick n. */
static void go_to_tick(struct chip *c, uint64_t n) {
    uint64_t ns = ticks_to_ns(n, PIT_HZ), now = clock_now(c->clock);

    if (ns > now)
        chip_step(c, ns - now);
}

static uint16_t latched(struct chip *c, unsigned channel) {
    uint8_t low;

    chip_out(c, 0, CONTROL, (uint8_t)(channel << 6));
    low = chip_in(c, 0, channel);
    return (uint16_t)(low | chip_in(c, 0, channel) << 8);
}

static uint8_t status_of(struct chip *c, unsigned channel) {
    chip_out(c, 0, CONTROL, (uint8_t)(0xe0 | 2 << channel));
    return chip_in(c, 0, channel);
}

static bool out2(struct chip *c) { return chip_in(c, 1, 0) >> 5 & 1; }

static void ten_thousand_ticks_do_not_drift(void **state) {
    enum { COUNT = 4773, TICKS = 10000 };
    struct chip c;

    chip_open(&c, &pit_class, NULL);
    program(&c, 0, 2, COUNT); /* starts with tick 1 */
    c.rises[0] = 0;
    for (uint64_t n = 1; n <= TICKS; n++) {
        uint64_t due = ticks_to_ns(1 + n * COUNT, PIT_HZ), now = clock_now(c.clock);

        chip_step(&c, due - 1 - now);
        assert_int_equal(c.rises[0], n - 1);
        chip_step(&c, 1);
        assert_int_equal(c.rises[0], n);
    }
    chip_close(&c);
}

static void a_second_has_the_right_number_of_ticks(void **state) {
    struct chip c;

    chip_open(&c, &pit_class, NULL);
    program(&c, 0, 3, 0); /* 65536: the BIOS's 18.2 Hz */
    c.rises[0] = 0;
    chip_step(&c, 3600 * SECOND);
    assert_int_equal(c.rises[0], 65543); /* 3600 * 1193182 / 65536 = 65543.3 */
    chip_close(&c);
}

static void the_periodic_timer_costs_one_wakeup_a_tick(void **state) {
    struct chip c;

    chip_open(&c, &pit_class, NULL);
    program(&c, 0, 3, 11932);
    c.rises[0] = c.falls[0] = 0;
    chip_step(&c, SECOND);
    assert_int_equal(c.rises[0], 99);
    assert_int_equal(c.falls[0], 99);
    assert_true(c.level[0]);
    chip_close(&c);
}

static void mode_0_interrupts_once_at_terminal_count(void **state) {
    struct chip c;

    chip_open(&c, &pit_class, NULL);
    program(&c, 0, 0, 1000);
    assert_false(c.level[0]);
    go_to_tick(&c, 1000);
    assert_false(c.level[0]);
    go_to_tick(&c, 1001);
    assert_true(c.level[0]);
    chip_step(&c, SECOND);
    assert_int_equal(c.rises[0], 1);
    program(&c, 0, 0, 1000); /* OUT falls with the control word */
    assert_false(c.level[0]);
    chip_close(&c);
}

static void mode_0_goes_on_counting_through_zero(void **state) {
    struct chip c;

    chip_open(&c, &pit_class, NULL);
    program(&c, 0, 0, 100);
    go_to_tick(&c, 1 + 40);
    assert_int_equal(latched(&c, 0), 60);
    go_to_tick(&c, 1 + 110);
    assert_int_equal(latched(&c, 0), 65536 - 10);
    chip_close(&c);
}

static void the_first_byte_of_a_new_count_stops_mode_0(void **state) {
    struct chip c;

    chip_open(&c, &pit_class, NULL);
    program(&c, 0, 0, 100);
    go_to_tick(&c, 50);
    chip_out(&c, 0, 0, 200);
    go_to_tick(&c, 1000);
    assert_false(c.level[0]);
    chip_out(&c, 0, 0, 0);
    go_to_tick(&c, 1200);
    assert_false(c.level[0]);
    go_to_tick(&c, 1201);
    assert_true(c.level[0]);
    chip_close(&c);
}

static void mode_2_is_low_for_the_last_tick_of_its_period(void **state) {
    struct chip c;

    chip_open(&c, &pit_class, NULL);
    chip_out(&c, 1, 0, 1);
    program(&c, 2, 2, 100);
    for (unsigned round = 0; round < 3; round++) {
        go_to_tick(&c, 1 + round * 100);
        assert_int_equal(latched(&c, 2), 100);
        assert_true(out2(&c));
        go_to_tick(&c, 1 + round * 100 + 98);
        assert_int_equal(latched(&c, 2), 2);
        assert_true(out2(&c));
        go_to_tick(&c, 1 + round * 100 + 99);
        assert_int_equal(latched(&c, 2), 1);
        assert_false(out2(&c));
    }
    chip_close(&c);
}

static void mode_3_is_a_square_wave_that_counts_by_two(void **state) {
    struct chip c;

    chip_open(&c, &pit_class, NULL);
    chip_out(&c, 1, 0, 1);
    program(&c, 2, 3, 10);
    for (uint64_t d = 0; d < 40; d++) {
        go_to_tick(&c, 1 + d);
        assert_int_equal(out2(&c), d % 10 < 5);
        assert_int_equal(latched(&c, 2), 10 - 2 * (d % 5));
    }
    program(&c, 2, 3, 5); /* odd: high a tick longer */
    uint64_t start = ticks_from_ns(clock_now(c.clock), PIT_HZ) + 1;
    for (uint64_t d = 0; d < 40; d++) {
        go_to_tick(&c, start + d);
        assert_int_equal(out2(&c), d % 5 < 3);
    }
    chip_close(&c);
}

static void a_count_written_on_the_way_waits_for_the_end_of_the_period(void **state) {
    struct chip c;

    chip_open(&c, &pit_class, NULL);
    program(&c, 0, 2, 10000);
    c.rises[0] = 0;
    go_to_tick(&c, 5000);
    chip_out(&c, 0, 0, 3000 & 0xff);
    chip_out(&c, 0, 0, 3000 >> 8);
    assert_int_equal(status_of(&c, 0) & 0x40, 0x40); /* null count */
    go_to_tick(&c, 10000);
    assert_int_equal(c.rises[0], 0);
    go_to_tick(&c, 10001);
    assert_int_equal(c.rises[0], 1);
    assert_int_equal(status_of(&c, 0) & 0x40, 0);
    go_to_tick(&c, 13000);
    assert_int_equal(c.rises[0], 1);
    go_to_tick(&c, 13001);
    assert_int_equal(c.rises[0], 2);
    go_to_tick(&c, 16001);
    assert_int_equal(c.rises[0], 3);
    chip_close(&c);
}

static void the_gate_stops_and_restarts_the_speaker_channel(void **state) {
    struct chip c;

    chip_open(&c, &pit_class, NULL);
    program(&c, 2, 3, 1000);
    go_to_tick(&c, 700);
    assert_true(out2(&c)); /* gate low: OUT is high */
    chip_out(&c, 1, 0, 1);
    uint64_t start = ticks_from_ns(clock_now(c.clock), PIT_HZ) + 1;
    go_to_tick(&c, start + 499);
    assert_true(out2(&c));
    go_to_tick(&c, start + 500);
    assert_false(out2(&c));
    chip_out(&c, 1, 0, 0);
    assert_true(out2(&c));
    chip_close(&c);
}

static void the_gate_pauses_mode_0(void **state) {
    struct chip c;

    chip_open(&c, &pit_class, NULL);
    chip_out(&c, 1, 0, 1);
    program(&c, 2, 0, 1000);
    go_to_tick(&c, 1 + 600);
    chip_out(&c, 1, 0, 0);
    go_to_tick(&c, 5000);
    assert_false(out2(&c));
    assert_int_equal(latched(&c, 2), 400);
    chip_out(&c, 1, 0, 1);
    go_to_tick(&c, 5399);
    assert_false(out2(&c));
    go_to_tick(&c, 5400);
    assert_true(out2(&c));
    chip_close(&c);
}

static void the_gate_triggers_modes_1_and_5(void **state) {
    struct chip c;

    chip_open(&c, &pit_class, NULL);
    program(&c, 2, 1, 100);
    go_to_tick(&c, 1000);
    assert_true(out2(&c));
    chip_out(&c, 1, 0, 1); /* at tick 1000: loaded at 1001 */
    assert_false(out2(&c));
    go_to_tick(&c, 1100);
    assert_false(out2(&c));
    chip_out(&c, 1, 0, 0);
    chip_out(&c, 1, 0, 1); /* retriggered: loaded at 1101 */
    go_to_tick(&c, 1200);
    assert_false(out2(&c));
    go_to_tick(&c, 1201);
    assert_true(out2(&c));

    chip_out(&c, 1, 0, 0);
    program(&c, 2, 5, 100);
    go_to_tick(&c, 2000);
    chip_out(&c, 1, 0, 1);
    go_to_tick(&c, 2100);
    assert_true(out2(&c));
    go_to_tick(&c, 2101);
    assert_false(out2(&c));
    go_to_tick(&c, 2102);
    assert_true(out2(&c));
    chip_close(&c);
}

static void mode_4_strobes_low_for_one_tick(void **state) {
    struct chip c;

    chip_open(&c, &pit_class, NULL);
    chip_out(&c, 1, 0, 1);
    program(&c, 2, 4, 100);
    go_to_tick(&c, 100);
    assert_true(out2(&c));
    go_to_tick(&c, 101);
    assert_false(out2(&c));
    go_to_tick(&c, 102);
    assert_true(out2(&c));
    program(&c, 0, 4, 100); /* the interrupt comes with the rising edge */
    unsigned before = c.rises[0];
    go_to_tick(&c, 103 + 100);
    assert_int_equal(c.rises[0], before);
    go_to_tick(&c, 103 + 101);
    assert_int_equal(c.rises[0], before + 1);
    chip_step(&c, SECOND);
    assert_int_equal(c.rises[0], before + 1);
    chip_close(&c);
}

static void a_latched_count_stands_still_until_it_is_read(void **state) {
    struct chip c;

    chip_open(&c, &pit_class, NULL);
    program(&c, 0, 2, 0x5678);
    go_to_tick(&c, 1 + 0x78);
    chip_out(&c, 0, CONTROL, 0x00);
    go_to_tick(&c, 3000);
    chip_out(&c, 0, CONTROL, 0x00); /* ignored, the first is still there */
    assert_int_equal(chip_in(&c, 0, 0), 0x00);
    assert_int_equal(chip_in(&c, 0, 0), 0x56);
    chip_close(&c);
}

static void read_back_latches_status_before_count(void **state) {
    struct chip c;

    chip_open(&c, &pit_class, NULL);
    chip_out(&c, 1, 0, 1);
    program(&c, 2, 3, 0x1000);
    go_to_tick(&c, 1 + 0x10);
    chip_out(&c, 0, CONTROL, 0xc8); /* both, of channel 2 */
    assert_int_equal(chip_in(&c, 0, 2), 0x80 | 0x30 | 3 << 1);
    assert_int_equal(chip_in(&c, 0, 2), 0xe0);
    assert_int_equal(chip_in(&c, 0, 2), 0x0f);
    chip_close(&c);
}

static void single_byte_access_loads_and_reads_one_half(void **state) {
    struct chip c;

    chip_open(&c, &pit_class, NULL);
    chip_out(&c, 0, CONTROL, 0x14); /* low byte, mode 2 */
    chip_out(&c, 0, 0, 200);
    go_to_tick(&c, 1 + 50);
    assert_int_equal(chip_in(&c, 0, 0), 150);
    chip_out(&c, 0, CONTROL, 0x24); /* high byte */
    chip_out(&c, 0, 0, 2);
    go_to_tick(&c, 52 + 0x100);
    assert_int_equal(chip_in(&c, 0, 0), 1);
    chip_close(&c);
}

static void bcd_counts_in_decimal(void **state) {
    struct chip c;

    chip_open(&c, &pit_class, NULL);
    chip_out(&c, 0, CONTROL, 0x31); /* mode 0, BCD */
    chip_out(&c, 0, 0, 0x00);
    chip_out(&c, 0, 0, 0x10); /* 1000 */
    go_to_tick(&c, 1 + 1);
    assert_int_equal(latched(&c, 0), 0x0999);
    go_to_tick(&c, 1 + 1000);
    assert_true(c.level[0]);
    go_to_tick(&c, 1 + 1001);
    assert_int_equal(latched(&c, 0), 0x9999);
    chip_close(&c);
}

static void a_count_of_one_in_mode_2_makes_no_storm(void **state) {
    struct chip c;

    chip_open(&c, &pit_class, NULL);
    program(&c, 0, 2, 1);
    c.rises[0] = 0;
    chip_step(&c, SECOND);
    assert_int_equal(c.rises[0], 0);
    program(&c, 0, 2, 2); /* 600 kHz asked for, 50 kHz given */
    c.rises[0] = 0;
    chip_step(&c, SECOND);
    assert_in_range(c.rises[0], 40000, 50001);
    chip_close(&c);
}

/* The host was away: its clock has jumped over many deadlines. */
static void ticks_missed_by_the_host_are_made_up_for(void **state) {
    struct chip c;
    struct buf saved = {0};
    struct error err = {0};
    unsigned rises;

    chip_open(&c, &pit_class, NULL);
    program(&c, 0, 2, 11932); /* 10 ms */
    chip_step(&c, SECOND);
    rises = c.rises[0];
    state_save(pit_class.state, c.dev, &saved);
    device_reset(c.dev);
    chip_step(&c, SECOND / 5);
    assert_int_equal(state_load(pit_class.state, c.dev, saved.data, saved.len, &err), 0);
    c.rises[0] = rises;
    chip_step(&c, SECOND);
    assert_in_range(c.rises[0], rises + 118, rises + 121);
    buf_done(&saved);
    chip_close(&c);
}

static void the_refresh_bit_toggles_every_15_microseconds(void **state) {
    unsigned toggles = 0;
    struct chip c;
    uint8_t last;

    chip_open(&c, &pit_class, NULL);
    last = chip_in(&c, 1, 0) & 0x10;
    for (unsigned us = 0; us < 15085; us++) {
        uint8_t bit;

        chip_step(&c, 1000);
        bit = chip_in(&c, 1, 0) & 0x10;
        toggles += bit != last;
        last = bit;
    }
    assert_int_equal(toggles, 1000);
    chip_close(&c);
}

static void port_61_keeps_its_low_bits(void **state) {
    struct chip c;

    chip_open(&c, &pit_class, NULL);
    chip_out(&c, 1, 0, 0xff);
    assert_int_equal(chip_in(&c, 1, 0) & 0xcf, 0x0f);
    chip_out(&c, 1, 0, 0x02);
    assert_int_equal(chip_in(&c, 1, 0) & 0xcf, 0x02);
    chip_close(&c);
}

/* ---- the speaker ---- */

static struct pit_sound heard[64];
static unsigned sounds;

static void hear(void *opaque, const struct pit_sound *s) {
    assert_true(s->from < s->to && sounds < 64);
    if (sounds)
        assert_int_equal(heard[sounds - 1].to, s->from); /* nothing is left out */
    heard[sounds++] = *s;
}

static const struct pit_speaker listener = {hear, NULL};

static void a_tone_is_heard_while_gate_and_speaker_are_on(void **state) {
    struct chip c;

    sounds = 0;
    chip_open(&c, &pit_class, &listener);
    program(&c, 2, 3, 1193); /* 1000 Hz */
    go_to_tick(&c, 100);
    chip_out(&c, 1, 0, 3);
    go_to_tick(&c, 50000);
    chip_out(&c, 1, 0, 1); /* the gate stays, the speaker is off */
    go_to_tick(&c, 60000);
    chip_out(&c, 1, 0, 0);
    chip_close(&c);
    assert_int_equal(heard[0].period, 0);
    assert_int_equal(heard[0].high, 0);
    for (unsigned i = 0; i < sounds; i++)
        if (heard[i].period) {
            assert_int_equal(heard[i].period, 1193);
            assert_int_equal(heard[i].high, 597);
            assert_true(heard[i].from >= 100 && heard[i].to <= 50000);
            assert_int_equal(heard[i].to, 50000);
            assert_int_equal(heard[i].phase, 101); /* the gate restarts the counter */
        }
    assert_int_equal(heard[sounds - 1].high, 0);
}

static void one_shots_make_pulses_of_their_length(void **state) {
    struct chip c;

    sounds = 0;
    chip_open(&c, &pit_class, &listener);
    chip_out(&c, 1, 0, 3);
    go_to_tick(&c, 1000);
    chip_out(&c, 0, CONTROL, 0x90); /* mode 0, low byte only */
    chip_out(&c, 0, 2, 72);
    go_to_tick(&c, 1500);
    chip_out(&c, 0, 2, 30);
    go_to_tick(&c, 1600);
    chip_out(&c, 1, 0, 0);
    chip_close(&c);
    assert_true(sounds >= 5);
    assert_int_equal(heard[sounds - 4].from, 1000);
    assert_int_equal(heard[sounds - 4].to, 1001 + 72);
    assert_int_equal(heard[sounds - 4].high, 0);
    assert_int_equal(heard[sounds - 3].to, 1500);
    assert_int_equal(heard[sounds - 3].high, 1);
    assert_int_equal(heard[sounds - 2].to, 1501 + 30);
    assert_int_equal(heard[sounds - 2].high, 0);
    assert_int_equal(heard[sounds - 1].to, 1600);
    assert_int_equal(heard[sounds - 1].high, 1);
}

static void a_tone_changes_at_the_end_of_its_half_period(void **state) {
    struct chip c;

    sounds = 0;
    chip_open(&c, &pit_class, &listener);
    chip_out(&c, 1, 0, 3);
    program(&c, 2, 3, 1000); /* counts from tick 1 */
    go_to_tick(&c, 1100);
    chip_out(&c, 0, 2, 200 & 255);
    chip_out(&c, 0, 2, 0);
    go_to_tick(&c, 4000);
    chip_out(&c, 1, 0, 0);
    chip_close(&c);
    assert_int_equal(heard[sounds - 2].period, 1000);
    assert_int_equal(heard[sounds - 2].to, 1501);
    assert_int_equal(heard[sounds - 1].period, 200);
    assert_int_equal(heard[sounds - 1].to, 4000);
}

/* As Linux' quick_pit_calibrate and boot loaders do it: OUT2 rises when the count is over. */
static void clocks_are_calibrated_by_port_61(void **state) {
    struct chip c;
    uint64_t start;

    chip_open(&c, &pit_class, NULL);
    chip_out(&c, 1, 0, (uint8_t)((chip_in(&c, 1, 0) & ~2) | 1));
    chip_out(&c, 0, CONTROL, 0xb0);
    chip_out(&c, 0, 2, 59659 & 255); /* 50 ms */
    chip_out(&c, 0, 2, 59659 >> 8);
    start = clock_now(c.clock);
    while (!out2(&c))
        chip_step(&c, 1000);
    assert_in_range(clock_now(c.clock) - start, 50000000, 50003000);
    for (int i = 0; i < 4; i++) { /* the refresh bit toggles every 15 us */
        uint8_t was = chip_in(&c, 1, 0) & 0x10;

        chip_step(&c, 15085);
        assert_int_equal(chip_in(&c, 1, 0) & 0x10, was ^ 0x10);
    }
    chip_close(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_thousand_ticks_do_not_drift),
        cmocka_unit_test(a_second_has_the_right_number_of_ticks),
        cmocka_unit_test(the_periodic_timer_costs_one_wakeup_a_tick),
        cmocka_unit_test(mode_0_interrupts_once_at_terminal_count),
        cmocka_unit_test(mode_0_goes_on_counting_through_zero),
        cmocka_unit_test(the_first_byte_of_a_new_count_stops_mode_0),
        cmocka_unit_test(mode_2_is_low_for_the_last_tick_of_its_period),
        cmocka_unit_test(mode_3_is_a_square_wave_that_counts_by_two),
        cmocka_unit_test(a_count_written_on_the_way_waits_for_the_end_of_the_period),
        cmocka_unit_test(the_gate_stops_and_restarts_the_speaker_channel),
        cmocka_unit_test(the_gate_pauses_mode_0),
        cmocka_unit_test(the_gate_triggers_modes_1_and_5),
        cmocka_unit_test(mode_4_strobes_low_for_one_tick),
        cmocka_unit_test(a_latched_count_stands_still_until_it_is_read),
        cmocka_unit_test(read_back_latches_status_before_count),
        cmocka_unit_test(single_byte_access_loads_and_reads_one_half),
        cmocka_unit_test(bcd_counts_in_decimal),
        cmocka_unit_test(a_count_of_one_in_mode_2_makes_no_storm),
        cmocka_unit_test(ticks_missed_by_the_host_are_made_up_for),
        cmocka_unit_test(the_refresh_bit_toggles_every_15_microseconds),
        cmocka_unit_test(port_61_keeps_its_low_bits),
        cmocka_unit_test(a_tone_is_heard_while_gate_and_speaker_are_on),
        cmocka_unit_test(one_shots_make_pulses_of_their_length),
        cmocka_unit_test(a_tone_changes_at_the_end_of_its_half_period),
        cmocka_unit_test(clocks_are_calibrated_by_port_61),
    };

    return chip_run(tests);
}
