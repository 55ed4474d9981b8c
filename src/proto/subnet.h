/* SPDX-License-Identifier: GPL-2.0-or-later */
/* IPv4 addresses and subnets as the manager and viv-net mean them: numbers in the host's byte
 * order. */
#ifndef PROTO_SUBNET_H
#define PROTO_SUBNET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* In every subnet the gateway and the name server are the first two; machines begin behind the
 * others, so that there is room for what else a network may need. */
enum { SUBNET_GATEWAY = 1, SUBNET_DNS = 2, SUBNET_FIRST = 10 };

enum { ADDRESS_TEXT = 16 };

struct subnet {
    uint32_t network;
    unsigned prefix; /* bits, 16 to 28 */
};

void address_print(uint32_t address, char out[ADDRESS_TEXT]);
bool address_parse(const char *s, uint32_t *ret);

/* "10.77.0.0/24" */
int subnet_parse(const char *s, struct subnet *ret, struct error *err);
uint32_t subnet_mask(const struct subnet *s);
/* Its last address, which is everybody's. */
uint32_t subnet_last(const struct subnet *s);
/* May a machine have it? */
bool subnet_usable(const struct subnet *s, uint32_t address);
bool subnet_overlap(const struct subnet *a, const struct subnet *b);

#endif
