/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Forwards as people write them in a machine's spec.forward. */
#ifndef PROTO_FORWARD_WORDS_H
#define PROTO_FORWARD_WORDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "proto/subnet.h"

enum { FORWARD_TEXT = 96 };

struct forward_words {
    bool udp;
    char address[ADDRESS_TEXT]; /* 127.0.0.1 if none was given */
    uint16_t host_port, guest_port;
};

/* "[udp:][ADDRESS:]PORT:GUESTPORT[/udp]"; a sentence says what cannot be. */
int forward_parse(const char *s, struct forward_words *ret, struct error *err);
/* As viv-vm and viv-net take it: tcp:127.0.0.1:8080:80. */
void forward_print(const struct forward_words *f, char out[FORWARD_TEXT]);

#endif
