/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What makes a Linux guest itself, and what takes it away: scripts for its /bin/sh. They need no
 * more than coreutils, and leave alone what is not there.
 */
#ifndef HOST_IDENTITY_H
#define HOST_IDENTITY_H

/* In a guest that runs, as root: $1 its new host name, $2 the new address of its first interface.
 * It gets a new machine-id, new ssh host keys, and asks DHCP anew. */
extern const char identity_renew[];

/* In a guest that runs, as root: what cloud-init would do, for guests without it. $1 its host name
 * (empty: it keeps its own), $2 a user (empty: root) who accepts the ssh keys of $3, one a line;
 * $4 is 1 if there is a seed disk that a cloud-init obeys, $5 what only cloud-init could do of it.
 * A second time changes nothing. Fails with a sentence. */
extern const char identity_introduce[];

/* As the first process of a guest, on its file systems: takes machine-id, ssh host keys, DHCP
 * leases and ids, state of cloud-init, logs, random seeds, names of interfaces and histories away.
 * Machines that boot it make their own. Prints IDENTITY_TAKEN in a line and waits for its end. */
extern const char identity_take[];
#define IDENTITY_TAKEN "vivarium: the identity is taken away"

#endif
