/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a network is told to be: a file of JSON, which the manager writes and viv-net reads at its
 * start and whenever it is asked to. docs/networks.md describes it.
 */
#ifndef SWITCH_CONFIG_H
#define SWITCH_CONFIG_H

#include <jansson.h>

#include "net/net.h"
#include "switch/directory.h"

/* To the outside, of one machine. */
enum {
    CONFIG_CONNECTIONS = 4096,
    CONFIG_MIN_CONNECTIONS = 16,
    CONFIG_MAX_CONNECTIONS = 16384,
};

enum { CONFIG_MAX_FORWARDS = 2048, CONFIG_MAX_BYTES = 4 << 20 };

struct config {
    char name[DIRECTORY_NAME];
    bool isolated; /* no way out */
    bool spoofing; /* machines may send from any address */
    bool open;     /* machines that are not listed may come */
    uint16_t mtu;
    unsigned connections;       /* of one machine to the outside at most */
    struct directory directory; /* subnet and members */
    struct net_forward *forward;
    unsigned forwards;
};

int config_parse(const json_t *v, struct config *ret, struct error *err);
int config_read(const char *path, struct config *ret, struct error *err);
void config_done(struct config *c);

/* "tcp:127.0.0.1:8080:80" to a machine's name or address. */
int config_forward(const struct directory *d, const char *text, const char *to,
                   struct net_forward *ret, struct error *err);

#endif
