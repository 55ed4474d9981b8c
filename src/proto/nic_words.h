/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Network interfaces as people write them in a machine's spec.network, with commas between:
 * NETWORK[/MODEL][/MAC]. */
#ifndef PROTO_NIC_WORDS_H
#define PROTO_NIC_WORDS_H

#include <stdbool.h>

#include "base/error.h"

#define NIC_MODELS "virtio|e1000e"
#define NIC_MAC    "([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}"
/* One of them, as an extended expression. */
#define NIC_WORD                                                                                   \
    "[a-z0-9]([a-z0-9.-]*[a-z0-9])?(/(" NIC_MODELS "))?(/" NIC_MAC ")?" /* as nic_words_next */

enum { NIC_NAME = 64, NIC_MODEL = 16, NIC_MAC_TEXT = 18, NIC_TEXT = 120, NIC_MOST = 8 };

struct nic_words {
    char network[NIC_NAME];
    char model[NIC_MODEL];  /* "": none was given */
    char mac[NIC_MAC_TEXT]; /* the same; in small letters */
};

/* Takes the first of *at and goes on behind its comma; false: there is none. */
bool nic_words_next(const char **at, struct nic_words *ret);
/* The i-th of `list`, false: there are fewer. */
bool nic_words_at(const char *list, unsigned i, struct nic_words *ret);
/* The one of that network, false: there is none. */
bool nic_words_find(const char *list, const char *network, struct nic_words *ret);
void nic_words_print(const struct nic_words *w, char out[NIC_TEXT]);
/* Can an interface have it? A sentence says why not. */
int nic_mac_check(const char *mac, struct error *err);

#endif
