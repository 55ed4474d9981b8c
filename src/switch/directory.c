/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The machines of a network. No look-up is done for each frame, so a list will do. */
#include "switch/directory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

uint32_t directory_gateway(const struct directory *d) { return d->subnet.network + SUBNET_GATEWAY; }
uint32_t directory_dns(const struct directory *d) { return d->subnet.network + SUBNET_DNS; }

const struct member *directory_by_mac(const struct directory *d, const uint8_t mac[6]) {
    for (unsigned i = 0; i < d->members; i++)
        if (!memcmp(d->member[i].mac, mac, 6))
            return &d->member[i];
    return NULL;
}

const struct member *directory_by_name(const struct directory *d, const char *name) {
    for (unsigned i = 0; i < d->members; i++)
        if (*d->member[i].name && !strcasecmp(d->member[i].name, name))
            return &d->member[i];
    return NULL;
}

const struct member *directory_by_address(const struct directory *d, uint32_t address) {
    for (unsigned i = 0; i < d->members; i++)
        if (address && d->member[i].address == address)
            return &d->member[i];
    return NULL;
}

static struct member *append(struct directory *d, const struct member *m) {
    struct member *more;

    if (d->members >= DIRECTORY_MOST)
        return NULL;
    more = realloc(d->member, (d->members + 1) * sizeof(*more));
    if (!more)
        return NULL;
    d->member = more;
    more[d->members] = *m;
    return &more[d->members++];
}

int directory_add(struct directory *d, const struct member *m, struct error *err) {
    char text[ADDRESS_TEXT];

    address_print(m->address, text);
    if (directory_by_mac(d, m->mac))
        return error_set(err, -EINVAL, "'%s' has the MAC address of another machine", m->name);
    if (*m->name && directory_by_name(d, m->name))
        return error_set(err, -EINVAL, "two machines are called '%s'", m->name);
    if (m->address && !subnet_usable(&d->subnet, m->address))
        return error_set(err, -EINVAL, "'%s' cannot have the address %s in this subnet", m->name,
                         text);
    if (directory_by_address(d, m->address))
        return error_set(err, -EINVAL, "'%s' has the address %s, which is another machine's",
                         m->name, text);
    if (!append(d, m))
        return error_set(err, -ENOSPC, "a network has at most %d machines", DIRECTORY_MOST);
    return 0;
}

static uint32_t free_address(const struct directory *d, const uint8_t mac[6]) {
    uint32_t first = d->subnet.network + SUBNET_FIRST, room = subnet_last(&d->subnet) - first,
             h = 0x811c9dc5u;

    for (unsigned i = 0; i < 6; i++)
        h = (h ^ mac[i]) * 0x01000193u;
    for (uint32_t i = 0; i < room; i++) {
        uint32_t a = first + (h + i) % room;

        if (!directory_by_address(d, a))
            return a;
    }
    return 0;
}

const struct member *directory_add_guest(struct directory *d, const char *name,
                                         const uint8_t mac[6]) {
    struct member m = {.guest = true, .address = free_address(d, mac)};

    if (!directory_by_name(d, name))
        snprintf(m.name, sizeof(m.name), "%s", name);
    memcpy(m.mac, mac, 6);
    return m.address ? append(d, &m) : NULL;
}

void directory_done(struct directory *d) {
    free(d->member);
    d->member = NULL;
    d->members = 0;
}
