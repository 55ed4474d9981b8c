/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the speaker at OUT2 of the timer has to say: pieces in which its level is constant or a
 * square wave. Programs make tones with mode 3, and sounds of any shape with one-shots of mode 0
 * whose length they change some thousand times a second.
 *
 * Departures: the pulse of one tick of modes 4 and 5 is not heard.
 */
#include "base/trace.h"
#include "devices/pit_internal.h"
#include "devices/ticks.h"

static void say(struct pit *p, uint64_t to, uint64_t phase, uint32_t period, uint32_t high) {
    struct pit_sound s = {
        .from = p->heard, .to = to, .phase = phase, .period = period, .high = high};

    if (to <= p->heard)
        return;
    p->heard = to;
    p->speaker.sound(p->speaker.opaque, &s);
}

/* Until `to`, while nothing but time changes. */
static void say_channel(struct pit *p, const struct pit_channel *c, uint64_t to) {
    uint64_t turn = ticks_add(c->start, pit_count_of(c));
    uint32_t count = pit_count_of(c);

    if (!(p->port61 & 2)) {
        say(p, to, 0, 0, 0);
        return;
    }
    if (c->loaded && c->counting && (c->mode == 2 || c->mode == 3)) {
        say(p, c->start < to ? c->start : to, 0, 0, 1);
        say(p, to, c->start, count, c->mode == 3 ? (count + 1) / 2 : count - 1);
        return;
    }
    if (c->mode > 1) {
        say(p, to, 0, 0, 1);
        return;
    }
    if (c->loaded && c->counting && turn > p->heard) /* low up to the end of the count */
        say(p, turn < to ? turn : to, 0, 0, pit_out_at(c, p->heard));
    say(p, to, 0, 0, pit_out_at(c, to));
}

void pit_speaker_until(struct pit *p, uint64_t now) {
    struct pit_channel *c = &p->channel[2];
    uint64_t turn;

    if (!p->speaker.sound)
        return;
    turn = pit_take_over_tick(c, now);
    if (turn) {
        say_channel(p, c, turn);
        pit_take_over(c, now);
    }
    say_channel(p, c, now);
}

/* A tone begins, changes or ends. */
void pit_speaker_trace(const struct pit *p) {
    const struct pit_channel *c = &p->channel[2];
    bool on = (p->port61 & 3) == 3 && c->loaded && c->mode == 3;

    trace(pit_speaker, on ? PIT_HZ / pit_count_of(c) : 0);
}
