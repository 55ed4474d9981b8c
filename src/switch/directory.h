/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who is who in a network: the machines by name, MAC address and IPv4 address. Members are told by
 * the configuration; where it allows guests, others who come get an address that depends on their
 * MAC address, so that they mostly have the same one again.
 *
 * Contract: one thread. Addresses are numbers in the host's byte order.
 */
#ifndef SWITCH_DIRECTORY_H
#define SWITCH_DIRECTORY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "proto/subnet.h"

enum { DIRECTORY_MOST = 4096, DIRECTORY_NAME = 64 };

struct member {
    char name[DIRECTORY_NAME]; /* lower case; "" none */
    uint8_t mac[6];
    uint32_t address; /* 0: none */
    bool guest;       /* not of the configuration */
};

struct directory {
    struct subnet subnet;
    struct member *member; /* by name, then guests as they came */
    unsigned members;
};

uint32_t directory_gateway(const struct directory *d);
uint32_t directory_dns(const struct directory *d);

/* Copies `m`. -EINVAL: a name, MAC or address that another one has, or an address that cannot be;
 * -ENOSPC: too many. */
int directory_add(struct directory *d, const struct member *m, struct error *err);
/* Somebody who is in no configuration; gives him an address that is free. */
const struct member *directory_add_guest(struct directory *d, const char *name,
                                         const uint8_t mac[6]);
void directory_done(struct directory *d);

const struct member *directory_by_mac(const struct directory *d, const uint8_t mac[6]);
const struct member *directory_by_name(const struct directory *d, const char *name);
const struct member *directory_by_address(const struct directory *d, uint32_t address);

#endif
