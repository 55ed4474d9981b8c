/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the PC speaker's WAV file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "support/test.h"
#include "vm/speaker.h"

enum { HEADER = 44, RATE = 44100 };

static char path[64];
static struct speaker *speaker;
static struct pit_speaker sink;
static uint64_t now;
static uint8_t *file;
static unsigned samples;

static int make(void **state) {
    struct error err = {0};

    snprintf(path, sizeof(path), "/tmp/viv-speaker-%d", (int)getpid());
    now = 1000;
    speaker = speaker_open(path, &err);
    assert_non_null(speaker);
    sink = speaker_sink(speaker);
    return 0;
}

static int drop(void **state) {
    speaker_close(speaker);
    free(file);
    file = NULL;
    return unlink(path);
}

static void play(uint64_t ticks, uint32_t period, uint32_t high) {
    struct pit_sound s = {
        .from = now, .to = now + ticks, .phase = now, .period = period, .high = high};

    sink.sound(sink.opaque, &s);
    now += ticks;
}

static void read_file(void) {
    FILE *f = fopen(path, "r");
    size_t n;

    assert_non_null(f);
    free(file);
    file = malloc(8 << 20);
    n = fread(file, 1, 8 << 20, f);
    fclose(f);
    assert_true(n >= HEADER);
    assert_memory_equal(file, "RIFF", 4);
    assert_memory_equal(file + 8, "WAVEfmt ", 8);
    assert_int_equal(load_le32(file + 4), n - 8);
    assert_int_equal(load_le32(file + 24), RATE);
    assert_memory_equal(file + 36, "data", 4);
    assert_int_equal(load_le32(file + 40), n - HEADER);
    samples = (unsigned)(n - HEADER) / 2;
}

static int16_t sample(unsigned i) { return (int16_t)load_le16(file + HEADER + 2 * (size_t)i); }

static unsigned rises(void) {
    unsigned n = 0;

    for (unsigned i = 1; i < samples; i++)
        n += sample(i - 1) < 8000 && sample(i) >= 8000;
    return n;
}

static void a_second_of_a_tone_has_its_pitch(void **state) {
    play(PIT_HZ, 2712, 1356); /* 440 Hz */
    read_file();              /* complete before it is closed */
    assert_int_equal(samples, RATE);
    assert_in_range(rises(), 439, 441);
}

static void silence_is_cut_and_so_is_a_tone_without_end(void **state) {
    play(5ull * PIT_HZ, 0, 0); /* nothing at all yet */
    play(PIT_HZ / 2, 1193, 596);
    for (int i = 0; i < 100; i++)
        play(3600ull * PIT_HZ, 0, 0);
    play(PIT_HZ / 2, 1193, 596);
    play(100000ull * PIT_HZ, 1193, 596);
    read_file();
    assert_in_range(samples, RATE * 12 - 2, RATE * 12 + 2);
}

static void short_pulses_are_loudness(void **state) {
    for (int i = 0; i < 1000; i++) { /* 18 kHz, a quarter of the time high */
        play(16, 0, 1);
        play(48, 0, 0);
    }
    speaker_close(speaker);
    speaker = NULL;
    read_file();
    assert_in_range(samples, 2364, 2366);
    for (unsigned i = 0; i < samples; i++)
        assert_in_range(sample(i), 0, 16000 * 16 / 27 + 1); /* a sample has 27 ticks */
}

static void a_file_that_cannot_be_made_is_refused(void **state) {
    struct error err = {0};

    assert_null(speaker_open("/nowhere/beep.wav", &err));
    assert_non_null(strstr(err.text, "--speaker: '/nowhere/beep.wav' cannot be written: No such"));
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, make, drop)
    const struct CMUnitTest tests[] = {
        T(a_second_of_a_tone_has_its_pitch),
        T(silence_is_cut_and_so_is_a_tone_without_end),
        T(short_pulses_are_loudness),
        T(a_file_that_cannot_be_made_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
