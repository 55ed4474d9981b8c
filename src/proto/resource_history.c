/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The answer of the operations `history`. */
#include "proto/resource_history.h"

const struct field resource_history[] = {
    {.name = "name",
     .type = FIELD_STRING,
     .flags = FIELD_ALWAYS,
     .max = 63,
     .help = "of what it is"},
    {.name = "from",
     .type = FIELD_TIME,
     .flags = FIELD_ALWAYS,
     .help = "when the first point begins; the next ones follow by `step`"},
    {.name = "to", .type = FIELD_TIME, .flags = FIELD_ALWAYS, .help = "when the last point ends"},
    {.name = "step",
     .type = FIELD_INT,
     .flags = FIELD_ALWAYS,
     .min = 1,
     .max = INT32_MAX,
     .help = "seconds that a point stands for"},
    {.name = "series",
     .type = FIELD_OBJECT,
     .flags = FIELD_ALWAYS,
     .help =
         "for each field min, avg and max: arrays of a number a point, or null where nothing is "
         "known. cpu is in processors, what ends with _bytes, _reads or _writes a second"},
    {0},
};
