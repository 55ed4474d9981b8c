/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saved state: a table of typed fields next to each struct, read by a few generic functions
 * (binary save/load, JSON view, schema dump, diff, random filler).
 *
 * Contract: tables describe the chip, not the implementation; pointers and host handles cannot be
 * in them. Loading is two passes: state_validate checks everything and changes nothing, state_load
 * then commits; both refuse unknown versions, truncation and trailing bytes with a sentence. A
 * loaded struct keeps its fields outside the table. post_load touches nothing outside its struct.
 */
#ifndef STATE_STATE_H
#define STATE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

enum state_type {
    STATE_TYPE_END,
    STATE_TYPE_BOOL,
    STATE_TYPE_U8,
    STATE_TYPE_U16,
    STATE_TYPE_U32,
    STATE_TYPE_U64,
    STATE_TYPE_I8,
    STATE_TYPE_I16,
    STATE_TYPE_I32,
    STATE_TYPE_I64,
    STATE_TYPE_BYTES,
    STATE_TYPE_SUB,
};

struct state_desc;

struct state_field {
    const char *name;
    uint8_t type;                 /* enum state_type */
    uint16_t since;               /* first version of the table that has it */
    uint32_t offset, count, size; /* offset in the struct, array length, bytes an element */
    const struct state_desc *sub;
    /* Largest valid value (0: no limit), signed ones then are 0..max; for indexes of the chip. */
    uint64_t max;
};

struct state_desc {
    const char *name;
    uint16_t version; /* 1.. */
    const struct state_field *fields;
    /* Optional: refuses a combination of values; gets a scratch copy with the new values. */
    int (*validate)(const void *obj, struct error *err);
    void (*post_load)(void *obj); /* rebuilds what is derived (timers are re-armed here) */
    size_t struct_size;
};

// clang-format off
#define STATE_TYPE_OF(x)                                                                           \
    _Generic((x), bool: STATE_TYPE_BOOL, uint8_t: STATE_TYPE_U8, uint16_t: STATE_TYPE_U16,         \
             uint32_t: STATE_TYPE_U32, uint64_t: STATE_TYPE_U64, int8_t: STATE_TYPE_I8,            \
             int16_t: STATE_TYPE_I16, int32_t: STATE_TYPE_I32, int64_t: STATE_TYPE_I64)
#define STATE_MEMBER(s, m) (((s *)0)->m)

/* One scalar; one with an upper bound; one added in version v; an array of scalars; raw bytes; sub-structs. */
#define STATE(s, m)                                                                                \
    { #m, STATE_TYPE_OF(STATE_MEMBER(s, m)), 1, offsetof(s, m), 1, sizeof(STATE_MEMBER(s, m)), NULL, 0 }
#define STATE_MAX(s, m, mx)                                                                        \
    { #m, STATE_TYPE_OF(STATE_MEMBER(s, m)), 1, offsetof(s, m), 1, sizeof(STATE_MEMBER(s, m)), NULL, mx }
#define STATE_SINCE(s, m, v)                                                                       \
    { #m, STATE_TYPE_OF(STATE_MEMBER(s, m)), v, offsetof(s, m), 1, sizeof(STATE_MEMBER(s, m)), NULL, 0 }
#define STATE_ARRAY(s, m)                                                                          \
    { #m, STATE_TYPE_OF(STATE_MEMBER(s, m)[0]), 1, offsetof(s, m),                                 \
      sizeof(STATE_MEMBER(s, m)) / sizeof(STATE_MEMBER(s, m)[0]), sizeof(STATE_MEMBER(s, m)[0]), NULL, 0 }
#define STATE_ARRAY_MAX(s, m, mx)                                                                  \
    { #m, STATE_TYPE_OF(STATE_MEMBER(s, m)[0]), 1, offsetof(s, m),                                 \
      sizeof(STATE_MEMBER(s, m)) / sizeof(STATE_MEMBER(s, m)[0]), sizeof(STATE_MEMBER(s, m)[0]), NULL, mx }
#define STATE_SINCE_MAX(s, m, v, mx)                                                               \
    { #m, STATE_TYPE_OF(STATE_MEMBER(s, m)), v, offsetof(s, m), 1, sizeof(STATE_MEMBER(s, m)), NULL, mx }
#define STATE_ARRAY_SINCE(s, m, v)                                                                 \
    { #m, STATE_TYPE_OF(STATE_MEMBER(s, m)[0]), v, offsetof(s, m),                                 \
      sizeof(STATE_MEMBER(s, m)) / sizeof(STATE_MEMBER(s, m)[0]), sizeof(STATE_MEMBER(s, m)[0]), NULL, 0 }
#define STATE_BYTES(s, m)                                                                          \
    { #m, STATE_TYPE_BYTES, 1, offsetof(s, m), sizeof(STATE_MEMBER(s, m)), 1, NULL, 0 }
#define STATE_SUB(s, m, d)                                                                         \
    { #m, STATE_TYPE_SUB, 1, offsetof(s, m), 1, sizeof(STATE_MEMBER(s, m)), d, 0 }
#define STATE_SUB_ARRAY(s, m, d)                                                                   \
    { #m, STATE_TYPE_SUB, 1, offsetof(s, m),                                                       \
      sizeof(STATE_MEMBER(s, m)) / sizeof(STATE_MEMBER(s, m)[0]), sizeof(STATE_MEMBER(s, m)[0]), d, 0 }
#define STATE_END { NULL, STATE_TYPE_END, 0, 0, 0, 0, NULL, 0 }
// clang-format on

void state_save(const struct state_desc *d, const void *obj, struct buf *out);
int state_validate(const struct state_desc *d, const void *obj, const void *bytes, size_t n,
                   struct error *err);
int state_load(const struct state_desc *d, void *obj, const void *bytes, size_t n,
               struct error *err);
bool state_equal(const struct state_desc *d, const void *a, const void *b);
/* Appends "field: a != b" lines for every difference; returns their count. */
unsigned state_diff(const struct state_desc *d, const void *a, const void *b, struct buf *out);
void state_json(const struct state_desc *d, const void *obj, struct buf *out);
/* Stable text, for golden comparison. */
void state_schema(const struct state_desc *d, struct buf *out);
/* Fills every field with random values within its bounds, for tests. */
void state_random(const struct state_desc *d, void *obj, uint64_t (*rng)(void *), void *rng_state);

#endif
