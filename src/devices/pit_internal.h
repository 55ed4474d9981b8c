/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the timer (pit.c) and its speaker (pit_speaker.c) share. */
#ifndef DEVICES_PIT_INTERNAL_H
#define DEVICES_PIT_INTERNAL_H

#include "devices/pit.h"

enum { PIT_CHANNELS = 3 };

struct pit_channel {
    uint8_t mode, access;
    bool bcd, gate;
    bool counting;              /* a count has been loaded and the gate or trigger lets it run */
    bool loaded;                /* a count was written since the control word */
    bool triggered;             /* modes 1 and 5: the gate has risen since */
    bool read_high, write_high; /* the next byte is the high one */
    uint8_t write_low;          /* low byte, waits for the high one */
    uint8_t count_latched;      /* bytes of `latch` left to read */
    uint16_t latch;
    bool status_latched;
    uint8_t status;
    uint16_t count; /* initial count, as a number; 0 is the largest */
    uint16_t next;  /* a count written while another one runs, if has_next */
    bool has_next;
    uint64_t start;   /* tick at which the counter was loaded */
    uint64_t elapsed; /* ticks counted when the gate stopped it */
    uint64_t turn;    /* tick at which `next` is taken over; 0: not known */
};

struct pit {
    struct device dev;
    struct clock_timer timer;
    struct pit_channel channel[PIT_CHANNELS];
    uint8_t port61;     /* bits 0-3 */
    uint64_t delivered; /* rising edges of OUT0 since channel[0].start that were given out */
    uint64_t deadline;  /* next one, ns; 0 = none */
    struct pit_speaker speaker; /* the host's; not state */
    uint64_t heard;             /* the speaker was told up to this tick */
};

static inline uint32_t pit_count_of(const struct pit_channel *c) {
    return c->count ? c->count : c->bcd ? 10000 : 65536;
}

uint64_t pit_elapsed_at(const struct pit_channel *c, uint64_t now);
/* Modes 2 and 3: a count written on the way is taken over where the running period ends (mode 3:
 * the half period): at this tick, or 0 if there is none to take over before `now`. */
uint64_t pit_take_over_tick(const struct pit_channel *c, uint64_t now);
void pit_take_over(struct pit_channel *c, uint64_t now);
bool pit_out_at(const struct pit_channel *c, uint64_t now);

/* Before something changes at tick `now`: tells the speaker what there was to hear until then. */
void pit_speaker_until(struct pit *p, uint64_t now);
void pit_speaker_trace(const struct pit *p);

#endif
