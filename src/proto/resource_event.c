/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Events: what has happened, in order. host/event.c does the operations. */
#include "proto/resource.h"

#include <stddef.h>

static const struct field fields[] = {
    {.name = "seq",
     .type = FIELD_INT,
     .flags = FIELD_ALWAYS,
     .min = 1,
     .max = INT64_MAX,
     .help = "place in the order; never used again"},
    {.name = "time",
     .type = FIELD_TIME,
     .flags = FIELD_ALWAYS,
     .column = "TIME",
     .help = "when it happened"},
    {.name = "tenant", .type = FIELD_STRING, .flags = FIELD_ALWAYS, .max = 63, .help = "whose"},
    {.name = "kind",
     .type = FIELD_STRING,
     .flags = FIELD_ALWAYS | FIELD_FILTER,
     .max = 32,
     .column = "KIND",
     .help = "of the thing that it happened to"},
    {.name = "id", .type = FIELD_STRING, .flags = FIELD_ALWAYS, .max = 64, .help = "of the thing"},
    {.name = "name",
     .type = FIELD_STRING,
     .flags = FIELD_ALWAYS | FIELD_FILTER,
     .max = 63,
     .column = "NAME",
     .help = "of the thing"},
    {.name = "what",
     .type = FIELD_STRING,
     .flags = FIELD_ALWAYS | FIELD_FILTER,
     .max = 32,
     .column = "WHAT",
     .help = "one word for programs: created, starting, running, stopped, failed and so on"},
    {.name = "text",
     .type = FIELD_STRING,
     .flags = FIELD_ALWAYS,
     .max = 4000,
     .column = "TEXT",
     .help = "a sentence for people"},
    {0},
};

static const struct operation ops[] = {
    {.name = "list",
     .shape = OP_LIST,
     .answer = ANSWER_STREAM,
     .status = 200,
     .permission = "event.read",
     .help = "List events in their order. With 'Accept: text/event-stream' those that come are "
             "sent as they happen, after those behind `after` or Last-Event-ID",
     .args = {{.name = "newest",
               .type = FIELD_BOOL,
               .standard = "false",
               .help =
                   "the last `limit` of them instead of the first, in their order; a follower gets "
                   "them before those that come"}}},
    {0},
};

const struct resource resource_event = {.name = "event",
                                        .plural = "events",
                                        .noun = "event",
                                        .help = "what has happened",
                                        .plain = true,
                                        .fields = fields,
                                        .ops = ops};
