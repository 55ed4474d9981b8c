/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the operations `history` of machines and hosts have in common: a macro, so that each stands
 * in the table of its resource. */
#ifndef PROTO_RESOURCE_HISTORY_H
#define PROTO_RESOURCE_HISTORY_H

#include "proto/resource.h"

extern const struct field resource_history[]; /* of an answer */

#define RESOURCE_HISTORY(resource, of)                                                             \
    {                                                                                              \
        .name = "history", .shape = OP_LOOK, .status = 200, .permission = resource ".read",        \
        .help = "What " of " used in the past: a day by seconds, a week by minutes, a year by "    \
                "hours",                                                                           \
        .args = {{.name = "from",                                                                  \
                  .type = FIELD_TIME,                                                              \
                  .help = "the first moment; an hour before `to` without it"},                     \
                 {.name = "to", .type = FIELD_TIME, .help = "the last moment; now without it"},    \
                 {.name = "last",                                                                  \
                  .type = FIELD_INT,                                                               \
                  .min = 1,                                                                        \
                  .max = 400ll * 86400,                                                            \
                  .help = "so many seconds before `to`, instead of `from`"},                       \
                 {.name = "step",                                                                  \
                  .type = FIELD_INT,                                                               \
                  .max = 366ll * 86400,                                                            \
                  .standard = "0",                                                                 \
                  .help = "seconds that a point stands for; 0: so that there are some 300. The "   \
                          "answer says what it became: long ago only longer ones are kept"},       \
                 {.name = "fields",                                                                \
                  .type = FIELD_STRINGS,                                                           \
                  .min = 1,                                                                        \
                  .max = 8,                                                                        \
                  .pattern = "^[a-z_]+$",                                                          \
                  .help = "which ones; all without it"}},                                          \
        .result = resource_history                                                                 \
    }

#endif
