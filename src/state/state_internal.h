/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the readers of state tables share: element access by type. */
#ifndef STATE_STATE_INTERNAL_H
#define STATE_STATE_INTERNAL_H

#include "state/state.h"

struct state_type_info {
    const char *name;
    uint8_t size; /* 0: by the field (bytes, sub) */
    bool is_signed;
};

extern const struct state_type_info state_types[]; /* by enum state_type */

static inline void *state_element(const struct state_field *f, const void *obj, uint32_t i) {
    return (uint8_t *)obj + f->offset + (size_t)i * f->size;
}

/* A scalar element as 64 bits, sign-extended if signed; and the reverse. */
uint64_t state_get(const struct state_field *f, const void *element);
void state_put(const struct state_field *f, void *element, uint64_t v);

/* Bytes of the struct as far as the table reaches. */
size_t state_extent(const struct state_desc *d);

#endif
