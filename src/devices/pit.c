/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 8254 programmable interval timer and port 0x61 (system control port B) of a PC.
 * Source: Intel 8254 datasheet (order 231164), Intel ICH9 datasheet 13.7.1 (NMI_SC).
 *
 * Theory of operation: nothing counts. Ticks of the 1.193182 MHz crystal are numbered from the
 * start of the machine's clock, a channel remembers the tick at which its counter was loaded, and
 * count and OUT are functions of the difference; so they cost nothing while nobody looks, and
 * cannot drift. Only OUT0 needs a timer, one a period, because its rising edge is the tick
 * interrupt.
 *
 * Late ticks: edges are counted from the load. If the host wakes us late, the missed ones follow
 * half a period apart until the count is right again, at most one second's worth; more than that is
 * dropped, as a clock that far behind is set, not caught up. While the machine is paused nothing is
 * missed.
 *
 * Departures: edges of OUT0 are at least PIT_MIN_SPACING apart, whatever the guest asks for. The
 * low phase of OUT0 in modes 2 and 3 is not shown on the wire until just before the next rising
 * edge.
 */
#include "devices/pit.h"

#include "base/trace.h"
#include "devices/pit_internal.h"
#include "devices/ticks.h"

enum { PIT_MIN_SPACING = 20000 /* ns */, PIT_REFRESH_NS = 15085 };

enum { /* access: how bytes go in and out */
       PIT_LATCH_COMMAND,
       PIT_LSB,
       PIT_MSB,
       PIT_LSB_MSB
};

static uint64_t tick_now(const struct pit *p) {
    return ticks_from_ns(clock_now(p->dev.env.clock), PIT_HZ);
}

uint64_t pit_elapsed_at(const struct pit_channel *c, uint64_t now) {
    if (!c->counting)
        return c->elapsed;
    return now > c->start ? now - c->start : 0;
}

static bool periodic(const struct pit_channel *c) { return c->mode == 2 || c->mode == 3; }

static bool one_shot(const struct pit_channel *c) { return c->mode == 1 || c->mode == 5; }

static void use_next(struct pit_channel *c) {
    if (c->has_next)
        c->count = c->next;
    c->has_next = false;
    c->turn = 0;
}

uint64_t pit_take_over_tick(const struct pit_channel *c, uint64_t now) {
    uint64_t count = pit_count_of(c), d = pit_elapsed_at(c, now), end = d - d % count;

    if (!c->has_next || !c->counting || !periodic(c))
        return 0;
    if (c->turn)
        return c->turn <= now ? c->turn : 0;
    if (c->mode == 3 && d - end >= (count + 1) / 2)
        end += (count + 1) / 2;
    return end ? c->start + end : 0; /* 0: still in the part in which it was written */
}

/* Channel 0 does so in its timer, where the edges of the old count have been given out. */
void pit_take_over(struct pit_channel *c, uint64_t now) {
    uint64_t tick = pit_take_over_tick(c, now);

    if (!tick)
        return;
    c->start = tick;
    use_next(c);
}

static uint16_t to_bcd(uint32_t v) {
    return (uint16_t)(v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 | v / 1000 % 10 << 12);
}

static uint16_t counter_at(const struct pit_channel *c, uint64_t now) {
    uint64_t count = pit_count_of(c), d = pit_elapsed_at(c, now), modulus = c->bcd ? 10000 : 65536,
             left;

    if (c->mode == 2) {
        left = count - d % count;
    } else if (c->mode == 3) { /* counts down by two, twice a period */
        d %= count;
        if (d >= (count + 1) / 2)
            d -= (count + 1) / 2;
        left = (count & ~(uint64_t)1) - 2 * d;
    } else {
        left = count % modulus + modulus - d % modulus;
    }
    left %= modulus;
    return c->bcd ? to_bcd((uint32_t)left) : (uint16_t)left;
}

bool pit_out_at(const struct pit_channel *c, uint64_t now) {
    uint64_t count = pit_count_of(c), d = pit_elapsed_at(c, now);

    if (!c->loaded)
        return c->mode != 0;
    switch (c->mode) {
    case 0:
        return d >= count;
    case 1:
        return !c->triggered || d >= count;
    case 2:
        return !c->gate || d % count != count - 1;
    case 3:
        return !c->gate || d % count < (count + 1) / 2;
    case 4:
        return d != count;
    default:
        return !c->triggered || d != count;
    }
}

/* Rising edges of OUT0 that d ticks have brought. */
static uint64_t edges_of(const struct pit_channel *c, uint64_t d) {
    uint64_t count = pit_count_of(c);

    if (!c->loaded || !c->counting)
        return 0;
    switch (c->mode) {
    case 0:
        return d >= count;
    case 2:
    case 3: /* a count of 1 is illegal; OUT then never changes */
        return count > 1 ? d / count : 0;
    case 4:
        return d > count;
    default: /* gate 0 is tied high, nothing triggers modes 1 and 5 */
        return 0;
    }
}

/* The tick of edge number n (1..), or 0 if there is none. */
static uint64_t edge_tick(const struct pit_channel *c, uint64_t n) {
    uint64_t d;

    if (!c->loaded || !c->counting || one_shot(c) || (!periodic(c) && n > 1))
        return 0;
    if (periodic(c) && pit_count_of(c) < 2)
        return 0;
    if (__builtin_mul_overflow(n, (uint64_t)pit_count_of(c), &d))
        return 0;
    return ticks_add(c->start, ticks_add(d, c->mode == 4));
}

static void arm(struct pit *p, uint64_t deadline) {
    p->deadline = deadline;
    if (deadline)
        clock_timer_arm(&p->timer, deadline);
    else
        clock_timer_disarm(&p->timer);
}

static void schedule(struct pit *p, uint64_t earliest) {
    uint64_t tick = edge_tick(&p->channel[0], p->delivered + 1), when;

    if (!tick)
        return arm(p, 0);
    when = ticks_to_ns(tick, PIT_HZ);
    arm(p, when > earliest ? when : earliest);
}

/* Channel 0 was loaded or stopped: edges count from here. */
static void restart(struct pit *p) {
    p->delivered = 0;
    irq_set(&p->dev.env.irq[0], pit_out_at(&p->channel[0], tick_now(p)));
    schedule(p, 1);
}

static void expire(void *opaque) {
    struct pit *p = opaque;
    struct pit_channel *c = &p->channel[0];
    uint64_t now_ns = clock_now(p->dev.env.clock), now = ticks_from_ns(now_ns, PIT_HZ);
    uint64_t due = edges_of(c, pit_elapsed_at(c, now)), spacing = 0, old_start = c->start, most;

    p->deadline = 0;
    if (p->delivered > due)
        p->delivered = due;
    if (due > p->delivered) {
        irq_lower(&p->dev.env.irq[0]);
        irq_raise(&p->dev.env.irq[0]);
        stat_inc(pit_ticks);
        p->delivered++;
    }
    most = PIT_HZ / pit_count_of(c) + 1;
    if (due - p->delivered > most) {
        trace(pit_dropped, due - p->delivered - most);
        p->delivered = due - most;
    }
    if (due == p->delivered) {
        pit_take_over(c, now);
        if (c->start != old_start)
            p->delivered = edges_of(c, pit_elapsed_at(c, now));
    } else {
        spacing = ticks_to_ns(pit_count_of(c), PIT_HZ) / 2;
    }
    schedule(p, ticks_add(now_ns, spacing > PIT_MIN_SPACING ? spacing : PIT_MIN_SPACING));
}

/* Where the running period of modes 2 and 3 ends (mode 3: the half period). */
static uint64_t end_of_part(const struct pit_channel *c, uint64_t now) {
    uint64_t count = pit_count_of(c), half = (count + 1) / 2, d = pit_elapsed_at(c, now),
             in = d % count;

    return c->start + d - in + (c->mode == 3 && in < half ? half : count);
}

static void load(struct pit *p, unsigned n, uint16_t value) {
    struct pit_channel *c = &p->channel[n];
    uint64_t now = tick_now(p);
    uint16_t count = value;

    if (c->bcd)
        count = (uint16_t)((value >> 12) * 1000 + (value >> 8 & 15) * 100 + (value >> 4 & 15) * 10 +
                           (value & 15));
    if (n != 0)
        pit_take_over(c, now);
    c->next = count;
    c->has_next = true;
    /* A running periodic channel takes it over at the end of its period, a triggered one-shot at
     * the next trigger. */
    if (c->loaded && c->counting && (one_shot(c) || (periodic(c) && pit_count_of(c) > 1))) {
        if (n != 0 && periodic(c))
            c->turn = end_of_part(c, now);
        return;
    }
    use_next(c);
    c->loaded = true;
    c->elapsed = 0;
    if (!one_shot(c)) {
        c->counting = c->gate;
        c->start = now + 1; /* CR goes into the counter with the next pulse */
    }
    if (n == 0)
        restart(p);
}

static void write_count(struct pit *p, unsigned n, uint8_t value) {
    struct pit_channel *c = &p->channel[n];

    switch (c->access) {
    case PIT_LSB:
        load(p, n, value);
        break;
    case PIT_MSB:
        load(p, n, (uint16_t)(value << 8));
        break;
    default:
        c->write_high = !c->write_high;
        if (!c->write_high) {
            load(p, n, (uint16_t)(value << 8 | c->write_low));
            break;
        }
        c->write_low = value;
        if (c->mode == 0 && c->loaded) { /* the first byte stops the count and pulls OUT low */
            c->elapsed = 0;
            c->counting = c->loaded = false;
            if (n == 0)
                restart(p);
        }
    }
}

static void latch_count(struct pit_channel *c, uint64_t now) {
    if (c->count_latched)
        return;
    c->latch = counter_at(c, now);
    c->count_latched = c->access == PIT_LSB_MSB ? 2 : 1;
}

static void latch_status(struct pit_channel *c, uint64_t now) {
    bool null_count = !c->loaded || c->has_next || (c->counting && now < c->start) ||
                      (one_shot(c) && !c->counting);

    if (c->status_latched)
        return;
    c->status = (uint8_t)(pit_out_at(c, now) << 7 | null_count << 6 | c->access << 4 |
                          c->mode << 1 | c->bcd);
    c->status_latched = true;
}

static void read_back(struct pit *p, uint8_t command) {
    uint64_t now = tick_now(p);

    for (unsigned i = 0; i < PIT_CHANNELS; i++) {
        if (!(command & 2 << i))
            continue;
        if (i != 0)
            pit_take_over(&p->channel[i], now);
        if (!(command & 0x20))
            latch_count(&p->channel[i], now);
        if (!(command & 0x10))
            latch_status(&p->channel[i], now);
    }
}

static void write_control(struct pit *p, uint8_t value) {
    unsigned n = value >> 6, mode = value >> 1 & 7;
    struct pit_channel *c = &p->channel[n];
    bool gate;

    if (n == 3)
        return read_back(p, value);
    if ((value >> 4 & 3) == PIT_LATCH_COMMAND) {
        if (n != 0)
            pit_take_over(c, tick_now(p));
        return latch_count(c, tick_now(p));
    }
    gate = c->gate;
    *c = (struct pit_channel){.mode = mode > 5 ? mode - 4 : mode,
                              .access = value >> 4 & 3,
                              .bcd = value & 1,
                              .gate = gate};
    if (n == 0)
        restart(p);
}

static uint8_t read_count(struct pit *p, unsigned n) {
    struct pit_channel *c = &p->channel[n];
    uint64_t now = tick_now(p);
    uint16_t v;
    bool high;

    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    if (c->count_latched) {
        high = c->access == PIT_MSB || (c->access == PIT_LSB_MSB && c->count_latched == 1);
        c->count_latched--;
        return (uint8_t)(high ? c->latch >> 8 : c->latch);
    }
    if (n != 0)
        pit_take_over(c, now);
    v = counter_at(c, now);
    high = c->access == PIT_MSB;
    if (c->access == PIT_LSB_MSB) {
        high = c->read_high;
        c->read_high = !c->read_high;
    }
    return (uint8_t)(high ? v >> 8 : v);
}

static void set_gate(struct pit *p, unsigned n, bool level) {
    struct pit_channel *c = &p->channel[n];
    uint64_t now = tick_now(p);

    if (c->gate == level)
        return;
    pit_take_over(c, now);
    switch (c->mode) {
    case 0:
    case 4: /* the gate stops and resumes */
        c->elapsed = pit_elapsed_at(c, now);
        c->counting = level && c->loaded;
        c->start = now - c->elapsed;
        break;
    case 2:
    case 3: /* the gate stops and restarts */
        c->elapsed = pit_elapsed_at(c, now);
        c->counting = level && c->loaded;
        if (c->counting) {
            c->start = now + 1;
            c->elapsed = 0;
            use_next(c);
        }
        break;
    default: /* 1 and 5: the rising edge triggers */
        if (level && c->loaded) {
            use_next(c);
            c->triggered = c->counting = true;
            c->start = now + 1;
        }
        break;
    }
    c->gate = level;
}

/* A read may be what takes a new count over. */
static void before_read(struct pit *p, uint64_t now) {
    if (p->channel[2].has_next)
        pit_speaker_until(p, now);
}

static uint64_t pit_read(void *dev, uint64_t offset, unsigned size) {
    if (offset == 2)
        before_read(dev, tick_now(dev));
    return offset < PIT_CHANNELS ? read_count(dev, (unsigned)offset) : 0xff;
}

static void pit_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    trace(pit_write, (unsigned)offset, (unsigned)value);
    pit_speaker_until(dev, tick_now(dev));
    if (offset < PIT_CHANNELS)
        write_count(dev, (unsigned)offset, (uint8_t)value);
    else
        write_control(dev, (uint8_t)value);
    pit_speaker_trace(dev);
}

/* Guests poll this port tens of thousands of times to calibrate their clocks. */
static uint64_t port61_read(void *dev, uint64_t offset, unsigned size) {
    struct pit *p = dev;
    uint64_t now_ns = clock_now(p->dev.env.clock), now = ticks_from_ns(now_ns, PIT_HZ);

    before_read(p, now);
    pit_take_over(&p->channel[2], now);
    return p->port61 | (now_ns / PIT_REFRESH_NS & 1) << 4 |
           (uint64_t)pit_out_at(&p->channel[2], now) << 5;
}

static void port61_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct pit *p = dev;

    pit_speaker_until(p, tick_now(p));
    p->port61 = value & 15;
    set_gate(p, 2, value & 1);
    pit_speaker_trace(p);
}

static int pit_init(struct device *dev, struct error *err) {
    struct pit *p = (struct pit *)dev;
    const struct pit_speaker *speaker = dev->env.config;

    if (speaker)
        p->speaker = *speaker;
    clock_timer_init(&p->timer, dev->env.clock, expire, p);
    return 0;
}

static void pit_done(struct device *dev) {
    struct pit *p = (struct pit *)dev;

    pit_speaker_until(p, tick_now(p));
    clock_timer_disarm(&p->timer);
}

/* The chip has no reset and comes up undefined; ours is idle, in mode 0, until it is programmed. */
static void pit_reset(struct device *dev) {
    struct pit *p = (struct pit *)dev;

    pit_speaker_until(p, tick_now(p));
    for (unsigned i = 0; i < PIT_CHANNELS; i++)
        p->channel[i] = (struct pit_channel){.access = PIT_LSB_MSB, .gate = i < 2};
    p->port61 = 0;
    restart(p);
}

static void post_load(void *obj) {
    struct pit *p = obj;

    p->heard = tick_now(p);
    arm(p, p->deadline);
}

static const struct state_desc pit_channel_state = {
    .name = "pit_channel",
    .version = 2,
    .struct_size = sizeof(struct pit_channel),
    .fields = (const struct state_field[]){STATE_MAX(struct pit_channel, mode, 5),
                                           STATE_MAX(struct pit_channel, access, 3),
                                           STATE(struct pit_channel, bcd),
                                           STATE(struct pit_channel, gate),
                                           STATE(struct pit_channel, counting),
                                           STATE(struct pit_channel, loaded),
                                           STATE(struct pit_channel, triggered),
                                           STATE(struct pit_channel, read_high),
                                           STATE(struct pit_channel, write_high),
                                           STATE(struct pit_channel, write_low),
                                           STATE_MAX(struct pit_channel, count_latched, 2),
                                           STATE(struct pit_channel, latch),
                                           STATE(struct pit_channel, status_latched),
                                           STATE(struct pit_channel, status),
                                           STATE(struct pit_channel, count),
                                           STATE(struct pit_channel, next),
                                           STATE(struct pit_channel, has_next),
                                           STATE(struct pit_channel, start),
                                           STATE(struct pit_channel, elapsed),
                                           STATE_SINCE(struct pit_channel, turn, 2),
                                           STATE_END},
};

static const struct state_desc pit_state = {
    .name = "pit",
    .version = 1,
    .struct_size = sizeof(struct pit),
    .post_load = post_load,
    .fields = (const struct state_field[]){STATE_SUB_ARRAY(struct pit, channel, &pit_channel_state),
                                           STATE_MAX(struct pit, port61, 15),
                                           STATE(struct pit, delivered),
                                           STATE(struct pit, deadline), STATE_END},
};

static const struct io_ops pit_ops = {pit_read, pit_write, 1, 1};
static const struct io_ops port61_ops = {port61_read, port61_write, 1, 1};

static const struct device_region pit_regions[] = {
    {"pit", DEVICE_PIO, 4, &pit_ops}, {"port61", DEVICE_PIO, 1, &port61_ops}, {0}};

const struct device_class pit_class = {
    .name = "pit",
    .help = "8254 interval timer with port 61",
    .size = sizeof(struct pit),
    .state = &pit_state,
    .regions = pit_regions,
    .init = pit_init,
    .reset = pit_reset,
    .done = pit_done,
};
