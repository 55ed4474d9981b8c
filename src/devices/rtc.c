/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Real-time clock and CMOS RAM. Source: Motorola MC146818A data sheet; the extended bank at port
 * 0x72 is that of the Intel ICH9 (datasheet 13.6); byte 0x32 holds the century, as the FADT says.
 *
 *   00 seconds 02 minutes 04 hours 06 day of week 07 day 08 month 09 year  01 03 05 alarm
 *   0a: UIP, divider, rate  0b: SET PIE AIE UIE SQWE DM 24/12 DSE  0c: IRQF PF AF UF  0d: VRT
 *
 * Theory of operation: the date is a number of seconds that follows the machine's clock. Flags of
 * register C are worked out for the time since they were last looked at; a host timer runs only for
 * an interrupt that is enabled and whose IRQ is not up already. While the guest holds SET or the
 * divider's reset, the date stands in the registers as it wrote it.
 *
 * UIP is 1 for the 244 + 1984 us before the second changes, as on the chip with a 32 kHz crystal.
 *
 * Departures: daylight saving (DSE) and the square wave do nothing; other time bases than 32 kHz
 * run as if they were 32 kHz; a change of format (DM, 24/12) on the run converts the date. The NMI
 * mask in port 0x70 is ignored.
 */
#include "devices/rtc.h"

#include <time.h>

#include "base/trace.h"
#include "devices/ticks.h"

enum {
    RTC_SEC,
    RTC_SEC_ALARM,
    RTC_MIN,
    RTC_MIN_ALARM,
    RTC_HOUR,
    RTC_HOUR_ALARM,
    RTC_DOW,
    RTC_DAY,
    RTC_MONTH,
    RTC_YEAR,
    RTC_A,
    RTC_B,
    RTC_C,
    RTC_D,
    RTC_RAM,
    RTC_CENTURY = 0x32,
    RTC_BANK = 128
};
enum { A_UIP = 0x80, A_DIVIDER = 0x70, A_STOPPED = 0x60 };
enum { B_SET = 0x80, B_PIE = 0x40, B_AIE = 0x20, B_UIE = 0x10, B_BINARY = 4, B_24H = 2 };
enum { C_IRQF = 0x80, C_PF = 0x40, C_AF = 0x20, C_UF = 0x10, C_FLAGS = 0x70 };
enum { UIP_NS = 244000 + 1984000, HOUR_PM = 0x80, CRYSTAL_HZ = 32768, DAY_S = 86400 };

struct rtc {
    struct device dev;
    struct clock_timer timer;
    uint8_t index, index2;
    uint8_t cmos[2 * RTC_BANK]; /* time registers: only while stopped */
    uint8_t dow_shift;          /* the day-of-week counter minus the day of week of the date */
    uint8_t flags;              /* register C without IRQF */
    int64_t base;               /* seconds since 1970 at ... */
    uint64_t phase;             /* ... clock time -phase; 0..999999999 ns */
    uint64_t looked;            /* clock time up to which flags are worked out */
    uint64_t deadline;          /* ns, 0 = nobody waits */
};

struct date {
    int64_t year;
    unsigned month, day, hour, min, sec, dow; /* month and day from 1, dow: Sunday = 0 */
};

/* ------------------------------------------------------------------ calendar */

/* 0000-01-01 and 9999-12-31T23:59:59: what four digits of a year can say. */
static const int64_t first_second = -62167219200, last_second = 253402300799;

/* Days since 1970-01-01 of a date in the proleptic Gregorian calendar; years start in March. */
static int64_t days_of(int64_t year, unsigned month, unsigned day) {
    int64_t y = month <= 2 ? year - 1 : year, era = (y >= 0 ? y : y - 399) / 400,
            in_era = y - era * 400;
    int64_t day_of_year = (153 * (int64_t)(month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

    return era * 146097 + in_era * 365 + in_era / 4 - in_era / 100 + day_of_year - 719468;
}

static struct date date_of(int64_t seconds) {
    int64_t utc = seconds < first_second  ? first_second
                  : seconds > last_second ? last_second
                                          : seconds;
    int64_t days = utc / DAY_S - (utc % DAY_S < 0), rest = utc - days * DAY_S;
    int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097, doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    struct date d = {
        .day = (unsigned)(doy - (153 * mp + 2) / 5 + 1),
        .month = (unsigned)(mp < 10 ? mp + 3 : mp - 9),
        .hour = (unsigned)(rest / 3600),
        .min = (unsigned)(rest / 60 % 60),
        .sec = (unsigned)(rest % 60),
        .dow = (unsigned)(((days + 4) % 7 + 7) % 7),
    };

    d.year = yoe + era * 400 + (d.month <= 2);
    return d;
}

/* ------------------------------------------------------------------ time */

static bool stopped(const struct rtc *r) {
    return (r->cmos[RTC_B] & B_SET) || (r->cmos[RTC_A] & A_STOPPED) == A_STOPPED;
}

static uint64_t clock_ns(const struct rtc *r) { return clock_now(r->dev.env.clock); }

static uint64_t seconds_at(const struct rtc *r, uint64_t ns) {
    return ticks_add(ns, r->phase) / TICKS_NS_PER_S;
}

static int64_t utc_at(const struct rtc *r, uint64_t ns) {
    return (int64_t)((uint64_t)r->base + seconds_at(r, ns));
}

static void set_base(struct rtc *r, int64_t utc, uint64_t ns) {
    r->base = (int64_t)((uint64_t)utc - seconds_at(r, ns));
}

static uint8_t encode(const struct rtc *r, unsigned v) {
    return (uint8_t)(r->cmos[RTC_B] & B_BINARY ? v : v / 10 % 10 << 4 | v % 10);
}

static unsigned decode(const struct rtc *r, uint8_t v) {
    return r->cmos[RTC_B] & B_BINARY ? v : (v >> 4) * 10u + (v & 15);
}

static uint8_t encode_hour(const struct rtc *r, unsigned hour) {
    if (r->cmos[RTC_B] & B_24H)
        return encode(r, hour);
    return encode(r, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0);
}

static unsigned decode_hour(const struct rtc *r, uint8_t v) {
    if (r->cmos[RTC_B] & B_24H)
        return decode(r, v);
    return decode(r, v & 0x7f) % 12 + (v & HOUR_PM ? 12 : 0);
}

/* The date at clock time ns, into the registers. */
static void fill_registers(struct rtc *r, uint64_t ns) {
    struct date d = date_of(utc_at(r, ns));

    r->cmos[RTC_SEC] = encode(r, d.sec);
    r->cmos[RTC_MIN] = encode(r, d.min);
    r->cmos[RTC_HOUR] = encode_hour(r, d.hour);
    r->cmos[RTC_DOW] = encode(r, (d.dow + r->dow_shift) % 7 + 1);
    r->cmos[RTC_DAY] = encode(r, d.day);
    r->cmos[RTC_MONTH] = encode(r, d.month);
    r->cmos[RTC_YEAR] = encode(r, (unsigned)(d.year % 100 + 100) % 100);
    r->cmos[RTC_CENTURY] = encode(r, (unsigned)(d.year / 100 % 100 + 100) % 100);
}

static unsigned within(unsigned v, unsigned min, unsigned max) {
    return v < min ? min : v > max ? max : v;
}

/* The registers become the date at clock time ns; what is no date becomes the nearest one. */
static void take_registers(struct rtc *r, uint64_t ns) {
    unsigned month = within(decode(r, r->cmos[RTC_MONTH]), 1, 12);
    unsigned day = within(decode(r, r->cmos[RTC_DAY]), 1, 31);
    int64_t year = decode(r, r->cmos[RTC_CENTURY]) * 100 + decode(r, r->cmos[RTC_YEAR]);
    int64_t days = days_of(year, month, day);
    unsigned dow = within(decode(r, r->cmos[RTC_DOW]), 1, 7) - 1;
    int64_t utc = days * DAY_S + within(decode_hour(r, r->cmos[RTC_HOUR]), 0, 23) * 3600 +
                  within(decode(r, r->cmos[RTC_MIN]), 0, 59) * 60 +
                  within(decode(r, r->cmos[RTC_SEC]), 0, 59);

    set_base(r, utc, ns);
    r->dow_shift = (uint8_t)((dow + 7 - date_of(utc).dow) % 7);
}

/* ------------------------------------------------------------------ flags */

/* Length of the periodic interrupt in crystal ticks, 0 = off (data sheet, table 5). */
static uint64_t rate_of(const struct rtc *r) {
    unsigned rs = r->cmos[RTC_A] & 15;

    if (!rs || (r->cmos[RTC_A] & A_STOPPED) == A_STOPPED)
        return 0;
    return 1u << (rs <= 2 ? rs + 6 : rs - 1);
}

static uint64_t periods_at(const struct rtc *r, uint64_t ns) {
    return ticks_from_ns(ticks_add(ns, r->phase), CRYSTAL_HZ) / rate_of(r);
}

static bool alarm_field(const struct rtc *r, unsigned reg, uint8_t encoded) {
    return r->cmos[reg] >= 0xc0 || r->cmos[reg] == encoded;
}

/* Seconds from `utc` to the next alarm after it, 0 if there is none within a day. */
static unsigned seconds_to_alarm(const struct rtc *r, int64_t utc) {
    unsigned start = (unsigned)(((utc % DAY_S) + DAY_S) % DAY_S), t;

    for (unsigned i = 1; i <= DAY_S;) {
        t = (start + i) % DAY_S;
        if (!alarm_field(r, RTC_HOUR_ALARM, encode_hour(r, t / 3600)))
            i += 3600 - t % 3600;
        else if (!alarm_field(r, RTC_MIN_ALARM, encode(r, t / 60 % 60)))
            i += 60 - t % 60;
        else if (!alarm_field(r, RTC_SEC_ALARM, encode(r, t % 60)))
            i++;
        else
            return i;
    }
    return 0;
}

/* Sets the flags of what has happened since last time. */
static void look(struct rtc *r) {
    uint64_t now = clock_ns(r), seconds;
    unsigned alarm;

    if (now <= r->looked)
        return;
    if (rate_of(r) && periods_at(r, now) != periods_at(r, r->looked))
        r->flags |= C_PF;
    seconds = seconds_at(r, now) - seconds_at(r, r->looked);
    if (!stopped(r) && seconds) {
        r->flags |= C_UF;
        alarm = seconds_to_alarm(r, utc_at(r, r->looked));
        if (alarm && alarm <= seconds)
            r->flags |= C_AF;
    }
    r->looked = now;
}

static bool irq_of(const struct rtc *r) { return r->flags & r->cmos[RTC_B] & C_FLAGS; }

/* Clock time at which second number n (as seconds_at counts) begins. */
static uint64_t second_start(const struct rtc *r, uint64_t n) {
    uint64_t ns;

    if (__builtin_mul_overflow(n, (uint64_t)TICKS_NS_PER_S, &ns))
        return UINT64_MAX;
    return ns - r->phase;
}

/* Clock time of the next enabled interrupt after r->looked, UINT64_MAX if there is none. */
static uint64_t next_interrupt(const struct rtc *r) {
    uint64_t second = seconds_at(r, r->looked), best = UINT64_MAX, when;
    uint8_t b = r->cmos[RTC_B];
    unsigned alarm;

    if ((b & B_PIE) && rate_of(r)) {
        when = ticks_to_ns((periods_at(r, r->looked) + 1) * rate_of(r), CRYSTAL_HZ) - r->phase;
        best = when < best ? when : best;
    }
    if (stopped(r))
        return best;
    if (b & B_UIE) {
        when = second_start(r, second + 1);
        best = when < best ? when : best;
    }
    alarm = b & B_AIE ? seconds_to_alarm(r, utc_at(r, r->looked)) : 0;
    if (alarm) {
        when = second_start(r, second + alarm);
        best = when < best ? when : best;
    }
    return best;
}

static void arm(struct rtc *r, uint64_t deadline) {
    r->deadline = deadline;
    if (deadline)
        clock_timer_arm(&r->timer, deadline);
    else
        clock_timer_disarm(&r->timer);
}

/* Drives the IRQ and waits for the next interrupt; call look first. */
static void update(struct rtc *r) {
    uint64_t next;

    irq_set(&r->dev.env.irq[0], irq_of(r));
    if (irq_of(r) || !(r->cmos[RTC_B] & C_FLAGS))
        return arm(r, 0);
    next = next_interrupt(r);
    /* A deadline that is not after now comes from a damaged snapshot only. */
    arm(r, next == UINT64_MAX ? 0 : next > r->looked ? next : ticks_add(r->looked, TICKS_NS_PER_S));
}

static void expire(void *opaque) {
    struct rtc *r = opaque;

    r->deadline = 0;
    look(r);
    if (irq_of(r))
        stat_inc(rtc_interrupts);
    update(r);
}

/* ------------------------------------------------------------------ registers */

static bool is_time(unsigned index) {
    return index == RTC_CENTURY || (index <= RTC_YEAR && (index == RTC_SEC || index == RTC_MIN ||
                                                          index == RTC_HOUR || index >= RTC_DOW));
}

static bool updating(const struct rtc *r, uint64_t now) {
    return !stopped(r) && ticks_add(now, r->phase) % TICKS_NS_PER_S >= TICKS_NS_PER_S - UIP_NS;
}

static uint8_t read_cmos(struct rtc *r, unsigned index) {
    uint64_t now = clock_ns(r);
    uint8_t flags;

    switch (index) {
    case RTC_A:
        return r->cmos[RTC_A] | (updating(r, now) ? A_UIP : 0);
    case RTC_C:
        look(r);
        flags = r->flags | (irq_of(r) ? C_IRQF : 0);
        r->flags = 0;
        update(r);
        return flags;
    case RTC_D:
        return 0x80; /* VRT: the battery is good */
    default:
        if (is_time(index) && !stopped(r))
            fill_registers(r, now);
        return r->cmos[index];
    }
}

/* Registers A and B start and stop the clock. */
static void write_control(struct rtc *r, unsigned index, uint8_t value) {
    uint64_t now = clock_ns(r);
    bool was_stopped = stopped(r), was_reset = (r->cmos[RTC_A] & A_STOPPED) == A_STOPPED;

    look(r);
    if (index == RTC_B && (value & B_SET))
        value &= (uint8_t)~B_UIE; /* data sheet: SET clears UIE */
    if (!was_stopped)
        fill_registers(r, now);
    r->cmos[index] = index == RTC_A ? value & 0x7f : value;
    if (was_reset &&
        (r->cmos[RTC_A] & A_STOPPED) != A_STOPPED) /* first update after half a second */
        r->phase = (TICKS_NS_PER_S + TICKS_NS_PER_S / 2 - now % TICKS_NS_PER_S) % TICKS_NS_PER_S;
    if (was_stopped && !stopped(r))
        take_registers(r, now);
    update(r);
}

static void write_cmos(struct rtc *r, unsigned index, uint8_t value) {
    uint64_t now = clock_ns(r);

    trace(rtc_write, index, value);
    switch (index) {
    case RTC_A:
    case RTC_B:
        write_control(r, index, value);
        break;
    case RTC_C:
    case RTC_D:
        break;
    default:
        look(r);
        if (is_time(index) && !stopped(r)) {
            fill_registers(r, now);
            r->cmos[index] = value;
            take_registers(r, now);
        } else {
            r->cmos[index] = value;
        }
        update(r);
        break;
    }
}

static uint64_t rtc_read(void *dev, uint64_t offset, unsigned size) {
    struct rtc *r = dev;
    uint8_t value;

    if (!offset)
        return 0xff; /* the index is write-only */
    value = read_cmos(r, r->index);
    trace(rtc_read, r->index, value);
    return value;
}

static void rtc_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct rtc *r = dev;

    if (offset)
        write_cmos(r, r->index, (uint8_t)value);
    else
        r->index = value & 0x7f;
}

static uint64_t bank_read(void *dev, uint64_t offset, unsigned size) {
    struct rtc *r = dev;

    return offset ? r->cmos[RTC_BANK + r->index2] : r->index2;
}

static void bank_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct rtc *r = dev;

    if (offset)
        r->cmos[RTC_BANK + r->index2] = (uint8_t)value;
    else
        r->index2 = value & 0x7f;
}

/* ------------------------------------------------------------------ the board's side */

uint8_t rtc_cmos_get(const struct device *dev, unsigned index) {
    return ((const struct rtc *)dev)->cmos[index % (2 * RTC_BANK)];
}

void rtc_cmos_set(struct device *dev, unsigned index, uint8_t value) {
    if (index >= RTC_RAM && index < 2 * RTC_BANK)
        ((struct rtc *)dev)->cmos[index] = value;
}

int64_t rtc_utc(const struct device *dev) {
    const struct rtc *r = (const struct rtc *)dev;

    return utc_at(r, clock_ns(r));
}

void rtc_set_utc(struct device *dev, int64_t utc) {
    struct rtc *r = (struct rtc *)dev;

    look(r);
    set_base(r, utc, clock_ns(r));
    update(r);
}

static void put16(struct rtc *r, unsigned index, uint64_t v) {
    uint16_t capped = v > 0xffff ? 0xffff : (uint16_t)v;

    r->cmos[index] = (uint8_t)capped;
    r->cmos[index + 1] = (uint8_t)(capped >> 8);
}

/* Sizes where firmware without any other source looks for them. */
static void set_memory_size(struct rtc *r, uint64_t low, uint64_t high) {
    uint64_t kib = low >> 10, above_1m = kib > 1024 ? kib - 1024 : 0;
    uint64_t above_16m = low > 16 << 20 ? (low - (16 << 20)) >> 16 : 0;
    uint16_t sum = 0;

    put16(r, 0x15, kib < 640 ? kib : 640);
    put16(r, 0x17, above_1m);
    put16(r, 0x30, above_1m);
    put16(r, 0x34, above_16m);
    r->cmos[0x5b] = (uint8_t)(high >> 16);
    r->cmos[0x5c] = (uint8_t)(high >> 24);
    r->cmos[0x5d] = (uint8_t)(high >> 32);
    for (unsigned i = 0x10; i < 0x2e; i++) /* the AT's checksum */
        sum += r->cmos[i];
    r->cmos[0x2e] = (uint8_t)(sum >> 8);
    r->cmos[0x2f] = (uint8_t)sum;
}

/* ------------------------------------------------------------------ life */

static int rtc_init(struct device *dev, struct error *err) {
    const struct rtc_config *config = dev->env.config;
    struct rtc *r = (struct rtc *)dev;
    uint64_t now = clock_ns(r);
    struct timespec host;

    clock_gettime(CLOCK_REALTIME, &host);
    if (config && config->utc_given)
        host = (struct timespec){.tv_sec = config->utc};
    r->phase = ((uint64_t)host.tv_nsec + TICKS_NS_PER_S - now % TICKS_NS_PER_S) % TICKS_NS_PER_S;
    set_base(r, host.tv_sec, now);
    r->looked = now;
    r->cmos[RTC_A] = 0x26;
    r->cmos[RTC_B] = B_24H;
    r->cmos[0x14] = 0x02; /* equipment: a coprocessor */
    set_memory_size(r, config ? config->memory_low : 0, config ? config->memory_high : 0);
    clock_timer_init(&r->timer, dev->env.clock, expire, r);
    return 0;
}

static void rtc_done(struct device *dev) {
    struct rtc *r = (struct rtc *)dev;

    if (r->timer.clock)
        clock_timer_disarm(&r->timer);
}

/* The RESET pin: the battery keeps the time, the RAM and the format. */
static void rtc_reset(struct device *dev) {
    struct rtc *r = (struct rtc *)dev;

    r->cmos[RTC_B] &= (uint8_t) ~(B_PIE | B_AIE | B_UIE | 8 /* SQWE */);
    r->looked = clock_ns(r);
    r->flags = 0;
    r->index = r->index2 = 0;
    update(r);
}

static void post_load(void *obj) {
    struct rtc *r = obj;

    arm(r, r->deadline);
}

static const struct state_desc rtc_state = {
    .name = "rtc",
    .version = 1,
    .struct_size = sizeof(struct rtc),
    .post_load = post_load,
    .fields =
        (const struct state_field[]){
            STATE_MAX(struct rtc, index, RTC_BANK - 1), STATE_MAX(struct rtc, index2, RTC_BANK - 1),
            STATE_BYTES(struct rtc, cmos), STATE_MAX(struct rtc, dow_shift, 6),
            STATE(struct rtc, flags), STATE(struct rtc, base),
            STATE_MAX(struct rtc, phase, TICKS_NS_PER_S - 1), STATE(struct rtc, looked),
            STATE(struct rtc, deadline), STATE_END},
};

static const struct io_ops rtc_ops = {rtc_read, rtc_write, 1, 1};
static const struct io_ops bank_ops = {bank_read, bank_write, 1, 1};

static const struct device_region rtc_regions[] = {
    {"rtc", DEVICE_PIO, 2, &rtc_ops}, {"cmos-bank", DEVICE_PIO, 2, &bank_ops}, {0}};

const struct device_class rtc_class = {
    .name = "rtc",
    .help = "real-time clock with CMOS RAM",
    .size = sizeof(struct rtc),
    .state = &rtc_state,
    .regions = rtc_regions,
    .init = rtc_init,
    .reset = rtc_reset,
    .done = rtc_done,
};
