/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sizes and times for people and messages. */
#include "proto/units.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char letters[] = "KMGTP";

int units_read_size(const char *s, int64_t *ret_bytes, struct error *err) {
    const char *letter;
    char *end;
    double v;

    v = isdigit((unsigned char)*s) ? strtod(s, &end) : (end = (char *)s, 0.0);
    /* strtod would take hexadecimal numbers and exponents, too. */
    if (end == s || strspn(s, "0123456789.") != (size_t)(end - s))
        return error_set(err, -EINVAL, "'%.60s' is no size: write it as in 512M or 1.5G", s);
    letter = *end ? strchr(letters, toupper((unsigned char)*end)) : NULL;
    if (letter) {
        v *= (double)(1ull << (10 * (letter - letters + 1)));
        end++;
        if (!strcasecmp(end, "iB") || !strcasecmp(end, "B"))
            end += strlen(end);
    }
    if (*end)
        return error_set(err, -EINVAL, "'%.60s' is no size: write it as in 512M or 1.5G", s);
    if (v > 9e18)
        return error_set(err, -EINVAL, "the size '%.60s' is more than anything can hold", s);
    *ret_bytes = (int64_t)v;
    return 0;
}

void units_put_size(int64_t bytes, char *out, size_t size) {
    double v = (double)bytes;
    int unit = -1;

    while (fabs(v) >= 1024 && letters[unit + 1]) {
        v /= 1024;
        unit++;
    }
    if (unit < 0)
        snprintf(out, size, "%" PRId64, bytes);
    else
        snprintf(out, size, "%.*f%c", v < 10 && fabs(v - floor(v + 0.5)) >= 0.05 ? 1 : 0, v,
                 letters[unit]);
}

void units_put_time(int64_t ms, char out[UNITS_TIME_SIZE]) {
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;

    if (!gmtime_r(&seconds, &tm))
        tm = (struct tm){.tm_year = 70, .tm_mday = 1};
    snprintf(out, UNITS_TIME_SIZE, "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ",
             (tm.tm_year + 1900) % 10000, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
             tm.tm_sec, (unsigned)(ms % 1000 + 1000) % 1000);
}

int units_read_time(const char *s, int64_t *ret_ms, struct error *err) {
    struct tm tm = {0};
    int ms = 0, n = 0;

    if (sscanf(s, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
               &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &ms, &n) != 7 ||
        s[n])
        return error_set(err, -EINVAL, "'%.60s' is no time: write it as 2026-11-29T23:04:05.678Z",
                         s);
    tm.tm_year -= 1900;
    tm.tm_mon--;
    *ret_ms = (int64_t)timegm(&tm) * 1000 + ms;
    return 0;
}

int units_read_span(const char *s, int64_t *ret_ms, struct error *err) {
    static const struct {
        const char *name;
        int64_t seconds;
    } units[] = {{"s", 1}, {"m", 60}, {"min", 60}, {"h", 3600}, {"d", 86400}, {"w", 7 * 86400}};
    size_t digits = strspn(s, "0123456789");

    for (unsigned i = 0; digits && digits < 8 && i < sizeof(units) / sizeof(units[0]); i++)
        if (!strcmp(s + digits, units[i].name)) {
            *ret_ms = strtoll(s, NULL, 10) * units[i].seconds * 1000;
            return 0;
        }
    return error_set(err, -EINVAL,
                     "'%.60s' is no span of time: write it as 45s, 30m, 12h, 30d or 4w", s);
}

void units_put_ago(int64_t ms, int64_t now_ms, char *out, size_t size) {
    static const struct {
        int64_t seconds;
        const char *name;
    } units[] = {{86400, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}};
    int64_t seconds = (now_ms - ms) / 1000;
    bool ahead = seconds < 0;

    seconds = ahead ? -seconds : seconds;
    for (unsigned i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (seconds < units[i].seconds * (units[i].seconds == 1 ? 1 : 2))
            continue; /* "90 min" says more than "1 h" */
        snprintf(out, size, ahead ? "in %" PRId64 " %s" : "%" PRId64 " %s ago",
                 seconds / units[i].seconds, units[i].name);
        return;
    }
    snprintf(out, size, "just now");
}

int64_t units_now_ms(void) {
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
