/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A control group for the process of each machine, which bounds how many processes it can become
 * (docs/jail.md); where this host gives the manager none, machines stay in the manager's own.
 */
#ifndef HOST_CGROUP_H
#define HOST_CGROUP_H

#include <limits.h>
#include <stdbool.h>

/* The folder of the manager's group, in which others can be made; removes what is left there. */
bool cgroup_find(char ret[PATH_MAX]);
/* Between fork and exec: makes a group there, goes in, and writes down in `folder` which one it
 * is. Where one cannot be made, it stays where it is. */
void cgroup_enter(int folder, const char *base);
/* No process of the machine is there any more: removes the group of the last one, which may take
 * until what it left behind has ended. Does not wait. The loop's thread. */
void cgroup_clean(int folder);

#endif
