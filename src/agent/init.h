/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How our init makes a machine ready (init_setup.c): modules, mounts, files, network. Functions
 * that fail name what failed, with errno; NULL: all is well. */
#ifndef AGENT_INIT_H
#define AGENT_INIT_H

struct dhcp_lease;

/* In the initramfs: mounts, modules, and the question for an address (*lease: see dhcp.h). */
const char *init_begin(int *lease);
/* The image's file system becomes the root, with all that belongs there. */
const char *init_change_root(const char *workdir);
/* /etc/hosts, hostname and, with a lease, resolv.conf: they are the machine's, not the image's. */
void init_write_files(const struct dhcp_lease *l, const char *hostname);
/* What has come of the lease; the descriptor is closed and becomes -1. */
void init_take_lease(int *lease, const char *hostname);

#endif
