/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tokens, as declared to everybody: who comes by the network shows one. host/token.c does the
 * operations. */
#include "proto/resource.h"

#include <stddef.h>

#include "proto/role.h"

static const struct field fields[] = {
    {.name = "role",
     .type = FIELD_CHOICE,
     .place = FIELD_SPEC,
     .flags = FIELD_CREATE | FIELD_ALWAYS | FIELD_FILTER,
     .choices = ROLE_CHOICES,
     .standard = "\"viewer\"",
     .column = "ROLE",
     .help = ROLE_HELP},
    {.name = "expires",
     .type = FIELD_TIME,
     .place = FIELD_SPEC,
     .flags = FIELD_CREATE,
     .column = "EXPIRES",
     .help = "when it ceases to be good, on a command line also 12h, 30d or 4w from now; never, if "
             "none is given"},
    {.name = "last_used",
     .type = FIELD_TIME,
     .place = FIELD_STATUS,
     .column = "LAST USED",
     .help = "when somebody showed it last, to the minute"},
    {.name = "last_address",
     .type = FIELD_STRING,
     .place = FIELD_STATUS,
     .max = 64,
     .column = "FROM",
     .help = "where that was"},
    {.name = "secret",
     .type = FIELD_STRING,
     .place = FIELD_STATUS,
     .max = 100,
     .help = "what is to be shown, 'Authorization: Bearer SECRET': only in the answer to the "
             "creation, and kept nowhere"},
    {0},
};

static const struct operation ops[] = {
    {.name = "list",
     .shape = OP_LIST,
     .answer = ANSWER_LIST,
     .status = 200,
     .permission = "token.read",
     .help = "List tokens"},
    {.name = "get",
     .shape = OP_GET,
     .status = 200,
     .permission = "token.read",
     .help = "One token, without its secret"},
    {.name = "create",
     .shape = OP_CREATE,
     .status = 201,
     .permission = "token.create",
     .help = "Make a token. The answer has its secret, which cannot be seen again"},
    {.name = "delete",
     .shape = OP_DELETE,
     .status = 200,
     .permission = "token.delete",
     .help = "Forget a token: sessions and connections of who showed it end at once"},
    {0},
};

const struct resource resource_token = {.name = "token",
                                        .plural = "tokens",
                                        .noun = "token",
                                        .help = "what a caller from the network shows",
                                        .fields = fields,
                                        .ops = ops};
