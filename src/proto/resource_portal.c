/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The manager's door to the network: HTTPS for the API and the portal. host/network.c does the
 * operations. */
#include "proto/resource.h"

#include <stddef.h>

#define URL                                                                                        \
    {                                                                                              \
        .name = "url", .type = FIELD_STRING, .flags = FIELD_ALWAYS, .max = 400,                    \
        .help = "where it is"                                                                      \
    }
#define FINGERPRINT                                                                                \
    {                                                                                              \
        .name = "fingerprint", .type = FIELD_STRING, .max = 64,                                    \
        .help = "SHA-256 of the certificate, for viv --fingerprint"                                \
    }

static const struct field fields[] = {
    {.name = "name",
     .type = FIELD_STRING,
     .flags = FIELD_ALWAYS,
     .max = 64,
     .help = "local: the only one"},
    {.name = "state",
     .type = FIELD_CHOICE,
     .flags = FIELD_ALWAYS,
     .choices = "open|closed",
     .help = "open: the manager listens"},
    {.name = "reason", .type = FIELD_STRING, .max = 2000, .help = "why it is not open"},
    {.name = "address",
     .type = FIELD_STRING,
     .max = 300,
     .help = "ADDRESS:PORT that it listens at"},
    {.name = "url", .type = FIELD_STRING, .max = 400, .help = "where it is"},
    FINGERPRINT,
    {.name = "certificate",
     .type = FIELD_STRING,
     .max = 4096,
     .help = "file on the manager's host with the certificate, for viv --cacert"},
    {.name = "expires", .type = FIELD_TIME, .help = "when the certificate does"},
    {0},
};

static const struct field opened[] = {
    URL,
    FINGERPRINT,
    {.name = "address",
     .type = FIELD_STRING,
     .flags = FIELD_ALWAYS,
     .max = 300,
     .help = "ADDRESS:PORT that it listens at"},
    {.name = "code",
     .type = FIELD_STRING,
     .max = 64,
     .help = "signs one browser in, once, as whoever asked; the url has it behind #code="},
    {.name = "expires", .type = FIELD_TIME, .help = "when the code does"},
    {0},
};

static const struct operation ops[] = {
    {.name = "get",
     .shape = OP_GET,
     .status = 200,
     .permission = "portal.read",
     .help = "Whether the manager listens to the network, and where"},
    {.name = "open",
     .shape = OP_ACTION,
     .status = 200,
     .permission = "portal.open",
     .help =
         "Listen to the network, now and after each start, and make a code for one sign-in. One "
         "that listens already goes on where it is, unless another place is asked for",
     .args = {{.name = "listen",
               .type = FIELD_STRING,
               .min = 1,
               .max = 300,
               .help = "ADDRESS:PORT, by default 127.0.0.1:8443 or the next port that is free"}},
     .result = opened},
    {.name = "close",
     .shape = OP_ACTION,
     .status = 200,
     .permission = "portal.close",
     .help = "Listen to the network no more, until it is opened again"},
    {0},
};

const struct resource resource_portal = {.name = "portal",
                                         .plural = "portals",
                                         .noun = "portal",
                                         .help = "the door to the network",
                                         .plain = true,
                                         .fields = fields,
                                         .ops = ops};
