/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Small things that all parts of the manager need. */
#include "host/manager.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/process.h"
#include "proto/lines.h"
#include "proto/units.h"

int manager_event(struct manager *m, const struct store_row *row, const char *what,
                  struct error *err, const char *fmt, ...) {
    char text[1000];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return store_event_add(m->store,
                           &(struct store_event){.tenant = row->tenant,
                                                 .kind = row->kind,
                                                 .id = row->id,
                                                 .name = row->name,
                                                 .what = what,
                                                 .text = text},
                           err);
}

int64_t manager_resident(void) { return (int64_t)process_resident(); }

const char *row_text(const json_t *object, const char *name) {
    const char *s = json_string_value(json_object_get(object, name));

    return s ? s : "";
}

int64_t row_number(const json_t *object, const char *name) {
    return json_integer_value(json_object_get(object, name));
}

bool row_flag(const json_t *object, const char *name) {
    return json_is_true(json_object_get(object, name));
}

void row_set_text(json_t *object, const char *name, const char *value) {
    if (value)
        json_object_set_new(object, name, message_text(value));
    else
        json_object_del(object, name);
}

void row_set_number(json_t *object, const char *name, int64_t value) {
    json_object_set_new(object, name, json_integer(value));
}

void row_set_time(json_t *object, const char *name, int64_t ms) {
    char text[UNITS_TIME_SIZE];

    units_put_time(ms, text);
    json_object_set_new(object, name, json_string(text));
}

void row_unset(json_t *object, const char *name) { json_object_del(object, name); }

void row_set_state(struct store_row *row, const char *state, const char *reason) {
    if (strcmp(row_text(row->status, "state"), state) != 0)
        row_set_time(row->status, "since", units_now_ms());
    row_set_text(row->status, "state", state);
    row_set_text(row->status, "reason", reason);
}
