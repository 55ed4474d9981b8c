/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file of a history. Numbers are little-endian, values IEEE 754 of 32 bits.
 *
 *   tier 0  at 0          86400 records of a second    time u32, crc u32, 8 values
 *   tier 1  behind it     10080 records of a minute    time u32, crc u32, count u32,
 *   tier 2  behind it      8784 records of an hour       8 least, 8 mean, 8 greatest values
 *
 * 5.4 MB at most; a hole where nothing was written. The record of a time t lies at (t / step)
 * modulo the number of records. crc is CRC-32C of all other bytes. Minutes are made of the seconds
 * in the file, hours of the minutes, each time one of them has become more.
 */
#include "host/history_file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32c.h"

enum {
    FINE = 8 + 4 * HISTORY_FIELDS,
    COARSE = 12 + 12 * HISTORY_FIELDS,
    BATCH = 512, /* records that are read at a time */
    STANDARD_POINTS = 300
};

static const struct tier {
    int64_t step, slots, size, at;
} tiers[HISTORY_TIERS] = {
    {1, 86400, FINE, 0},
    {60, 10080, COARSE, 86400ll * FINE},
    {3600, 8784, COARSE, 86400ll * FINE + 10080ll * COARSE},
};

static off_t place(const struct tier *t, int64_t time) {
    return (off_t)(t->at + time / t->step % t->slots * t->size);
}

/* ------------------------------------------------------------------ records */

static uint32_t bits_of(float v) {
    uint32_t u;

    memcpy(&u, &v, sizeof(u));
    return u;
}

static float value_of(const uint8_t *p) {
    uint32_t u = load_le32(p);
    float v;

    memcpy(&v, &u, sizeof(v));
    return v == v && v - v == 0 ? v : 0; /* no NaN, no infinity: JSON has none */
}

static void put_values(uint8_t *p, const float *v) {
    for (unsigned i = 0; i < HISTORY_FIELDS; i++)
        store_le32(p + 4 * i, bits_of(v[i]));
}

static void get_values(const uint8_t *p, float *v) {
    for (unsigned i = 0; i < HISTORY_FIELDS; i++)
        v[i] = value_of(p + 4 * i);
}

static uint32_t checksum(const uint8_t *p, size_t size) {
    return crc32c(crc32c(0, p, 4), p + 8, size - 8);
}

static void put_fine(uint8_t *p, const struct history_sample *s) {
    store_le32(p, (uint32_t)s->time);
    put_values(p + 8, s->value);
    store_le32(p + 4, checksum(p, FINE));
}

static void put_coarse(uint8_t *p, int64_t time, const struct history_point *v) {
    store_le32(p, (uint32_t)time);
    store_le32(p + 8, v->count);
    put_values(p + 12, v->min);
    put_values(p + 12 + 4 * HISTORY_FIELDS, v->avg);
    put_values(p + 12 + 8 * HISTORY_FIELDS, v->max);
    store_le32(p + 4, checksum(p, COARSE));
}

/* False: there is none of this time. */
static bool get_record(const struct tier *t, const uint8_t *p, int64_t time,
                       struct history_point *ret) {
    if (load_le32(p) != (uint32_t)time || load_le32(p + 4) != checksum(p, (size_t)t->size))
        return false;
    if (t->size == FINE) {
        ret->count = 1;
        get_values(p + 8, ret->min);
        memcpy(ret->avg, ret->min, sizeof(ret->avg));
        memcpy(ret->max, ret->min, sizeof(ret->max));
        return true;
    }
    ret->count = load_le32(p + 8);
    get_values(p + 12, ret->min);
    get_values(p + 12 + 4 * HISTORY_FIELDS, ret->avg);
    get_values(p + 12 + 8 * HISTORY_FIELDS, ret->max);
    return ret->count;
}

static void merge(struct history_point *to, const struct history_point *more) {
    float share;

    if (!to->count) {
        *to = *more;
        return;
    }
    to->count += more->count;
    share = (float)more->count / (float)to->count;
    for (unsigned i = 0; i < HISTORY_FIELDS; i++) {
        to->min[i] = more->min[i] < to->min[i] ? more->min[i] : to->min[i];
        to->max[i] = more->max[i] > to->max[i] ? more->max[i] : to->max[i];
        to->avg[i] += (more->avg[i] - to->avg[i]) * share;
    }
}

/* ------------------------------------------------------------------ reading */

/* Calls of `merge` for what there is in a tier from `from` on. */
static int read_tier(int fd, const struct tier *t, const struct history_range *r,
                     struct history_point *points) {
    uint8_t *bytes = malloc((size_t)BATCH * COARSE);
    int result = bytes ? 0 : -ENOMEM;

    for (int64_t time = r->from; result == 0 && time < r->to;) {
        int64_t slot = time / t->step % t->slots, n = (r->to - time) / t->step;
        ssize_t got;

        n = n > BATCH ? BATCH : n < 1 ? 1 : n;
        n = n > t->slots - slot ? t->slots - slot : n;
        got = pread(fd, bytes, (size_t)(n * t->size), place(t, time));
        if (got < 0)
            result = -errno;
        for (int64_t i = 0; i < n; i++, time += t->step) {
            struct history_point p;

            if ((i + 1) * t->size <= got && get_record(t, bytes + i * t->size, time, &p))
                merge(&points[(time - r->from) / r->step], &p);
        }
    }
    free(bytes);
    return result;
}

static const struct tier *tier_of(int64_t step) {
    const struct tier *t = tiers;

    while (t + 1 < tiers + HISTORY_TIERS && step % t[1].step == 0)
        t++;
    return t;
}

int history_fit(struct history_range *r, int64_t now) {
    const struct tier *t = tiers;
    int64_t step = r->step;

    if (r->to > now + 1)
        r->to = now + 1;
    if (r->from < 0)
        r->from = 0;
    if (r->to < r->from)
        r->to = r->from;
    if (!step)
        step = (r->to - r->from) / STANDARD_POINTS;
    while (t + 1 < tiers + HISTORY_TIERS &&
           (r->from <= now - t->slots * t->step || step >= t[1].step))
        t++;
    r->step = step < t->step ? t->step : (step + t->step - 1) / t->step * t->step;
    r->from -= r->from % r->step;
    r->to += (r->step - r->to % r->step) % r->step;
    return (r->to - r->from) / r->step > HISTORY_MOST_POINTS ? -E2BIG : 0;
}

int history_read(int fd, const struct history_range *r, struct history_point *points) {
    return read_tier(fd, tier_of(r->step), r, points);
}

void history_point_add(const struct history_range *r, struct history_point *points,
                       const struct history_sample *s) {
    struct history_point p = {.count = 1};

    if (s->time < r->from || s->time >= r->to)
        return;
    memcpy(p.min, s->value, sizeof(p.min));
    memcpy(p.avg, s->value, sizeof(p.avg));
    memcpy(p.max, s->value, sizeof(p.max));
    merge(&points[(s->time - r->from) / r->step], &p);
}

/* ------------------------------------------------------------------ writing */

static int write_all_at(int fd, const uint8_t *p, size_t n, off_t at) {
    while (n) {
        ssize_t k = pwrite(fd, p, n, at);

        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return -errno;
        p += k;
        n -= (size_t)k;
        at += k;
    }
    return 0;
}

/* Seconds that follow each other lie beside each other: one write. */
static int write_fine(int fd, const struct history_sample *s, unsigned count) {
    uint8_t bytes[64 * FINE];
    unsigned n = 0;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < count; i++) {
        put_fine(bytes + n * FINE, &s[i]);
        n++;
        if (n < 64 && i + 1 < count && s[i + 1].time == s[i].time + 1 &&
            s[i + 1].time % tiers[0].slots)
            continue;
        r = write_all_at(fd, bytes, (size_t)n * FINE, place(&tiers[0], s[i].time - (n - 1)));
        n = 0;
    }
    return r;
}

/* The record of a tier at this time, anew from the tier below. */
static int write_coarse(int fd, unsigned tier, int64_t time) {
    const struct tier *t = &tiers[tier];
    struct history_range r = {time, time + t->step, t->step};
    struct history_point p = {0};
    uint8_t bytes[COARSE];
    int result = read_tier(fd, t - 1, &r, &p);

    if (result < 0 || !p.count)
        return result;
    put_coarse(bytes, time, &p);
    return write_all_at(fd, bytes, COARSE, place(t, time));
}

int history_write(int fd, const struct history_sample *s, unsigned count) {
    int r = write_fine(fd, s, count);

    for (unsigned tier = 1; tier < HISTORY_TIERS; tier++)
        for (unsigned i = 0; r == 0 && i < count; i++) {
            int64_t step = tiers[tier].step, time = s[i].time - s[i].time % step;

            if (i + 1 == count || s[i + 1].time / step != time / step)
                r = write_coarse(fd, tier, time);
        }
    return r;
}
