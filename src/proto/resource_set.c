/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sets: what `viv apply` made of the same files, so that it can take away what they have no more.
 * host/set.c does the operations. */
#include "proto/resource.h"

#include <stddef.h>

static const struct field fields[] = {
    {.name = "source",
     .type = FIELD_STRING,
     .place = FIELD_SPEC,
     .flags = FIELD_CREATE | FIELD_UPDATE,
     .max = 4000,
     .column = "SOURCE",
     .help = "the files, as they were called last"},
    {.name = "members",
     .type = FIELD_STRINGS,
     .place = FIELD_SPEC,
     .flags = FIELD_CREATE | FIELD_UPDATE | FIELD_ALWAYS,
     .min = 1,
     .max = 20000,
     .pattern = "^[a-z]+/[a-z0-9.-]+/[a-z0-9-]*/(made|found)$",
     .standard = "[]",
     .help = "what is in it, each KIND/NAME/ID/made, or found: it was there before; without an ID "
             "it was being made"},
    {0},
};

static const struct operation ops[] = {
    {.name = "list",
     .shape = OP_LIST,
     .answer = ANSWER_LIST,
     .status = 200,
     .permission = "set.read",
     .help = "List sets by name"},
    {.name = "get", .shape = OP_GET, .status = 200, .permission = "set.read", .help = "One set"},
    {.name = "create",
     .shape = OP_CREATE,
     .status = 201,
     .permission = "set.create",
     .help = "Begin a set"},
    {.name = "update",
     .shape = OP_UPDATE,
     .status = 200,
     .permission = "set.update",
     .help = "Write down what is in a set; nothing is made or deleted by that"},
    {.name = "delete",
     .shape = OP_DELETE,
     .status = 200,
     .permission = "set.delete",
     .help = "Forget a set; what is in it stays"},
    {0},
};

const struct resource resource_set = {.name = "set",
                                      .plural = "sets",
                                      .noun = "set",
                                      .help = "what was made of the same files",
                                      .fields = fields,
                                      .ops = ops};
