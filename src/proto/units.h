/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sizes and times as people write and read them, and as messages carry them. */
#ifndef PROTO_UNITS_H
#define PROTO_UNITS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* "512M", "1.5G", "4096"; powers of 1024. */
int units_read_size(const char *s, int64_t *ret_bytes, struct error *err);
/* "512M", "1.5G"; the shortest that is right to three digits. */
void units_put_size(int64_t bytes, char *out, size_t size);

enum { UNITS_TIME_SIZE = 80 /* more than any time, as the compiler sees it */ };

/* Milliseconds since 1970 as RFC 3339 in UTC, "2026-11-29T23:04:05.678Z", and back. */
void units_put_time(int64_t ms, char out[UNITS_TIME_SIZE]);
int units_read_time(const char *s, int64_t *ret_ms, struct error *err);
/* "45s", "30m", "12h", "30d", "4w" in milliseconds. */
int units_read_span(const char *s, int64_t *ret_ms, struct error *err);
/* "just now", "5 s ago", "3 h ago", "in 2 min". */
void units_put_ago(int64_t ms, int64_t now_ms, char *out, size_t size);

int64_t units_now_ms(void); /* by the wall clock */

#endif
