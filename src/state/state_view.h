/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stream of saved state without the program that wrote it: the table is made from the schema at
 * its beginning, so that state_json and state_schema show it by field name.
 *
 * Contract: the bytes are hostile and must outlive the view. Memory is bounded by their number.
 */
#ifndef STATE_STATE_VIEW_H
#define STATE_STATE_VIEW_H

#include "state/state.h"

struct state_view {
    const struct state_desc *desc; /* not for loading: knows no limits, validates nothing */
    const void *obj;
    void *arena;
};

int state_view_open(struct state_view *v, const void *bytes, size_t n, struct error *err);
void state_view_close(struct state_view *v); /* idempotent; also after a failed open */

#endif
