/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Comparing two states field by field, and filling one with random values: for tests and debugging.
 */
#include <inttypes.h>
#include <stdio.h>

#include "state/state.h"
#include "state/state_internal.h"

struct diff {
    struct buf *out; /* NULL: count only */
    unsigned count;
    char path[256];
};

static void put_value(struct diff *diff, const struct state_field *f, const void *element) {
    uint64_t v = state_get(f, element);

    if (state_types[f->type].is_signed)
        buf_printf(diff->out, "%" PRId64, (int64_t)v);
    else
        buf_printf(diff->out, v > 9 ? "0x%" PRIx64 : "%" PRIu64, v);
}

static void report(struct diff *diff, const struct state_field *f, const void *a, const void *b) {
    diff->count++;
    if (!diff->out)
        return;
    buf_printf(diff->out, "%s: ", diff->path);
    if (f->type == STATE_TYPE_BYTES) {
        buf_printf(diff->out, "0x%02x != 0x%02x\n", *(const uint8_t *)a, *(const uint8_t *)b);
        return;
    }
    put_value(diff, f, a);
    buf_printf(diff->out, " != ");
    put_value(diff, f, b);
    buf_printf(diff->out, "\n");
}

static void walk(struct diff *diff, size_t path_len, const struct state_desc *d, const void *a,
                 const void *b);

static void compare_element(struct diff *diff, size_t path_len, const struct state_field *f,
                            uint32_t i, const void *a, const void *b) {
    size_t room = sizeof(diff->path) - path_len;
    const char *dot = path_len ? "." : "";
    int n;

    if (f->type != STATE_TYPE_SUB && !memcmp(a, b, f->size))
        return;
    n = f->count == 1 ? snprintf(diff->path + path_len, room, "%s%s", dot, f->name)
                      : snprintf(diff->path + path_len, room, "%s%s[%u]", dot, f->name, i);
    if (f->type != STATE_TYPE_SUB)
        report(diff, f, a, b);
    else
        walk(diff, n > 0 && (size_t)n < room ? path_len + (size_t)n : path_len, f->sub, a, b);
    diff->path[path_len] = 0;
}

static void walk(struct diff *diff, size_t path_len, const struct state_desc *d, const void *a,
                 const void *b) {
    for (const struct state_field *f = d->fields; f->type != STATE_TYPE_END; f++)
        for (uint32_t i = 0; i < f->count; i++)
            compare_element(diff, path_len, f, i, state_element(f, a, i), state_element(f, b, i));
}

unsigned state_diff(const struct state_desc *d, const void *a, const void *b, struct buf *out) {
    struct diff diff = {.out = out};

    walk(&diff, 0, d, a, b);
    return diff.count;
}

bool state_equal(const struct state_desc *d, const void *a, const void *b) {
    return state_diff(d, a, b, NULL) == 0;
}

/* Edges are where the faults are: one value in four is one. */
static uint64_t pick(uint64_t max, uint64_t (*rng)(void *), void *rng_state) {
    uint64_t v = rng(rng_state);

    switch (rng(rng_state) % 8) {
    case 0:
        return v & 1 ? max : 0;
    case 1:
        return max < 16 ? v % (max + 1) : v % 16;
    default:
        return max == UINT64_MAX ? v : v % (max + 1);
    }
}

static uint64_t largest(const struct state_field *f) {
    if (f->type == STATE_TYPE_BOOL)
        return 1;
    if (f->max)
        return f->max;
    return UINT64_MAX >> (64 - 8 * f->size);
}

void state_random(const struct state_desc *d, void *obj, uint64_t (*rng)(void *), void *rng_state) {
    for (const struct state_field *f = d->fields; f->type != STATE_TYPE_END; f++) {
        for (uint32_t i = 0; i < f->count; i++) {
            if (f->type == STATE_TYPE_SUB)
                state_random(f->sub, state_element(f, obj, i), rng, rng_state);
            else if (f->type == STATE_TYPE_BYTES)
                *(uint8_t *)state_element(f, obj, i) = (uint8_t)rng(rng_state);
            else
                state_put(f, state_element(f, obj, i), pick(largest(f), rng, rng_state));
        }
    }
}
