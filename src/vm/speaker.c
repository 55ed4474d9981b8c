/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The PC speaker's WAV file.
 * Source: Multimedia Programming Interface and Data Specifications 1.0 (RIFF), 1991.
 *
 * A sample is the part of its time in which the speaker's level was high: so tones keep their pitch
 * whatever the sample rate, and pulses too short for a sample become its loudness.
 */
#include "vm/speaker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"

enum {
    RATE = 44100,
    HEADER = 44,
    LOUD = 16000,
    FILE_MAX = 2000000000,
    TONE_MAX = 10 * PIT_HZ, /* of one that does not change */
};

struct speaker {
    FILE *file; /* NULL: given up */
    char *path;
    uint64_t samples;
    uint64_t place, high; /* in the sample that is being filled, in 1/RATE ticks: it has PIT_HZ */
    uint64_t still;       /* ticks in the file since the level changed last */
    bool level;
};

static void give_up(struct speaker *s, const char *why) {
    log_warning("--speaker: '%s' is not written any more: %s; the machine runs on", s->path, why);
    fclose(s->file);
    s->file = NULL;
}

static void put_header(struct speaker *s) {
    uint32_t bytes = (uint32_t)(s->samples * 2);
    uint8_t h[HEADER] = "RIFF....WAVEfmt ";

    store_le32(h + 4, bytes + HEADER - 8);
    store_le32(h + 16, 16);
    store_le16(h + 20, 1); /* PCM */
    store_le16(h + 22, 1);
    store_le32(h + 24, RATE);
    store_le32(h + 28, RATE * 2);
    store_le16(h + 32, 2);
    store_le16(h + 34, 16);
    memcpy(h + 36, "data", 4);
    store_le32(h + 40, bytes);
    if (fflush(s->file) || fseek(s->file, 0, SEEK_SET) || fwrite(h, HEADER, 1, s->file) != 1 ||
        fflush(s->file) || fseek(s->file, 0, SEEK_END))
        give_up(s, strerror(errno));
}

static void put_sample(struct speaker *s) {
    uint8_t bytes[2];

    store_le16(bytes, (uint16_t)(s->high * LOUD / PIT_HZ));
    s->place = s->high = 0;
    if (!s->file)
        return;
    if (fwrite(bytes, 2, 1, s->file) != 1)
        give_up(s, strerror(errno));
    else if (++s->samples * 2 >= FILE_MAX)
        give_up(s, "it has two gigabytes");
}

/* How long the level was high in the first t of a wave, in 1/RATE ticks. */
static uint64_t high_in(const struct pit_sound *sound, uint64_t t) {
    uint64_t period = (uint64_t)sound->period * RATE, high = (uint64_t)sound->high * RATE, rest;

    if (!period)
        return sound->high ? t : 0;
    rest = t % period;
    return t / period * high + (rest < high ? rest : high);
}

static void put_sound(struct speaker *s, const struct pit_sound *sound, uint64_t ticks) {
    uint64_t left = ticks * RATE,
             t = sound->period ? (sound->from - sound->phase) % sound->period * RATE : 0;

    while (left) {
        uint64_t room = PIT_HZ - s->place, n = left < room ? left : room;

        s->high += high_in(sound, t + n) - high_in(sound, t);
        s->place += n;
        t += n;
        left -= n;
        if (s->place == PIT_HZ)
            put_sample(s);
    }
}

/* How much of it goes into the file. */
static uint64_t part_of(struct speaker *s, const struct pit_sound *sound) {
    uint64_t ticks = sound->to - sound->from;

    if (sound->period) {
        s->still = 0;
        return ticks < TONE_MAX ? ticks : TONE_MAX;
    }
    if (s->level != (sound->high != 0))
        s->still = 0;
    s->level = sound->high != 0;
    ticks = ticks < PIT_HZ - s->still ? ticks : PIT_HZ - s->still;
    s->still += ticks;
    return ticks;
}

static void heard(void *opaque, const struct pit_sound *sound) {
    struct speaker *s = opaque;

    if (!s->file)
        return;
    put_sound(s, sound, part_of(s, sound));
    if (sound->period && s->file) /* a tone is complete */
        put_header(s);
}

struct speaker *speaker_open(const char *path, struct error *err) {
    struct speaker *s = calloc(1, sizeof(*s));

    if (!s || !(s->path = strdup(path))) {
        free(s);
        error_set(err, -ENOMEM, "--speaker: out of memory");
        return NULL;
    }
    s->still = PIT_HZ; /* it begins with the first sound */
    s->file = fopen(path, "w+e");
    if (!s->file) {
        error_set(err, -errno, "--speaker: '%s' cannot be written: %s; choose another path", path,
                  strerror(errno));
        speaker_close(s);
        return NULL;
    }
    put_header(s);
    return s;
}

struct pit_speaker speaker_sink(struct speaker *s) {
    return (struct pit_speaker){heard, s};
}

void speaker_close(struct speaker *s) {
    if (!s)
        return;
    if (s->file)
        put_header(s);
    if (s->file && fclose(s->file) != 0)
        log_warning("--speaker: '%s' is not all written: %s", s->path, strerror(errno));
    free(s->path);
    free(s);
}
