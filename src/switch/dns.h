/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names of the machines of a network: NAME and NAME.viv.internal, and back from their addresses;
 * "gateway" is the gateway. Sources: RFC 1035, RFC 4343 (upper and lower case), RFC 6891 (what an
 * answer without OPT means).
 *
 * What is no name of this network is for the name servers of the host, if the network leads out.
 */
#ifndef SWITCH_DNS_H
#define SWITCH_DNS_H

#include <stddef.h>
#include <stdint.h>

#include "switch/directory.h"

#define DNS_DOMAIN "viv.internal"

enum { DNS_PORT = 53, DNS_NAME_MAX = 255, DNS_MAX = 600, DNS_TTL = 5 };

enum dns_result {
    DNS_ANSWER, /* *ret_len bytes of it */
    DNS_PASS,   /* not ours */
    DNS_DROP,   /* no question */
};

/* `out` has DNS_MAX bytes. With `alone` there is nobody to pass a question to. */
enum dns_result dns_answer(const struct directory *d, bool alone, const uint8_t *data, size_t len,
                           uint8_t *out, size_t *ret_len);

/* Labels and a root; returns the length, 0 if it is no name. `out` has DNS_NAME_MAX bytes. */
size_t dns_encode_name(const char *name, uint8_t *out);

#endif
