/* SPDX-License-Identifier: GPL-2.0-or-later */
/* IPv4 addresses and subnets. */
#include "proto/subnet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

enum { PREFIX_MIN = 16, PREFIX_MAX = 28 };

void address_print(uint32_t address, char out[ADDRESS_TEXT]) {
    snprintf(out, ADDRESS_TEXT, "%u.%u.%u.%u", address >> 24, address >> 16 & 255,
             address >> 8 & 255, address & 255);
}

bool address_parse(const char *s, uint32_t *ret) {
    struct in_addr a;

    if (inet_pton(AF_INET, s, &a) != 1)
        return false;
    *ret = ntohl(a.s_addr);
    return true;
}

uint32_t subnet_mask(const struct subnet *s) { return UINT32_MAX << (32 - s->prefix); }
uint32_t subnet_last(const struct subnet *s) { return s->network | ~subnet_mask(s); }

bool subnet_usable(const struct subnet *s, uint32_t address) {
    return address > s->network + SUBNET_DNS && address < subnet_last(s);
}

bool subnet_overlap(const struct subnet *a, const struct subnet *b) {
    return a->network <= subnet_last(b) && b->network <= subnet_last(a);
}

int subnet_parse(const char *s, struct subnet *ret, struct error *err) {
    char text[ADDRESS_TEXT] = "", rest, first[ADDRESS_TEXT];
    struct subnet n = {0};

    if (sscanf(s, "%15[0-9.]/%2u%c", text, &n.prefix, &rest) != 2 ||
        !address_parse(text, &n.network))
        return error_set(err, -EINVAL, "'%.40s' is no subnet: write one like 10.77.0.0/24", s);
    if (n.prefix < PREFIX_MIN || n.prefix > PREFIX_MAX)
        return error_set(err, -EINVAL,
                         "the subnet '%s' has not the right size: use one of /%d to /%d", s,
                         PREFIX_MIN, PREFIX_MAX);
    address_print(n.network & subnet_mask(&n), first);
    if (n.network & ~subnet_mask(&n))
        return error_set(err, -EINVAL, "the subnet '%s' does not begin there: use %s/%u", s, first,
                         n.prefix);
    if (n.network >> 24 == 0 || n.network >> 24 == 127 || n.network >> 24 >= 224)
        return error_set(err, -EINVAL,
                         "no machine can have an address of '%s': use a private subnet, such as "
                         "10.77.0.0/24",
                         s);
    *ret = n;
    return 0;
}
