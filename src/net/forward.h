/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Port forwards as text: tcp:ADDRESS:PORT:GUESTPORT. */
#ifndef NET_FORWARD_H
#define NET_FORWARD_H

#include "net/net.h"

enum { NET_FORWARD_TEXT = 96 };

/* The address is an IPv4 one, an IPv6 one in brackets, or empty for all of the host; the sentence
 * quotes what is wrong. */
int net_forward_parse(const char *s, struct net_forward *f, struct error *err);
void net_forward_print(const struct net_forward *f, char out[NET_FORWARD_TEXT]);
/* The same port of the host. */
bool net_forward_clash(const struct net_forward *a, const struct net_forward *b);
/* The same altogether. */
bool net_forward_equal(const struct net_forward *a, const struct net_forward *b);

#endif
