/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What all frame ports have in common. */
#include "net/net.h"

void net_close(struct net_port *p) {
    if (p)
        p->ops->close(p);
}
