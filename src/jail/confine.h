/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parts of the jail but the filter, each as far as this host allows it; what it does not goes
 * into the facts' line. */
#ifndef JAIL_CONFINE_H
#define JAIL_CONFINE_H

#include <stdbool.h>
#include <sys/types.h>

#include "jail/jail.h"

struct confine {
    bool change_user, exact; /* exact: asked for, so no other will do */
    bool readable;           /* its helper can read the memory of a process with another user */
    uid_t uid;
    gid_t gid;
};

void confine_missing(struct jail_facts *f, const char *what, int code);
void confine_say(char *missing, size_t room, const char *what, int code); /* into another line */

/* Before there are threads. */
int confine_choose_user(struct confine *c, const char *user, struct error *err);
void confine_note_descriptors(void); /* those that the starter left open */
/* What a program could get back; before the user changes, who may do that. Children inherit it. */
void confine_drop_bounds(void);
void confine_look_at_cgroup(struct jail_facts *f);
void confine_namespaces(struct confine *c, struct jail_facts *f);

/* At the door. */
void confine_close_descriptors(void);
void confine_network(struct jail_facts *f);
void confine_root(struct jail_facts *f);
void confine_limits(bool network);
/* Of the helper: no core file, and of root's capabilities those that files of others, ports below
 * 1024 and the memory of a process with another user need. */
void confine_helper(void);
void confine_keep_capabilities(const unsigned *keep, unsigned count); /* of those below 32 */
int confine_change_user(const struct confine *c, struct jail_facts *f, struct error *err);
/* As another user it may make so many threads and processes as it could ever want, and no more. */
void confine_processes(const struct confine *c, const struct jail_facts *f);
bool confine_drop_capabilities(void); /* of the calling thread; true if none is left */
/* Of the calling thread, with no_new_privs; true if the kernel keeps them in. Nor does it let the
 * thread look into other processes then. */
bool confine_signals(bool files); /* nor opens it any, or makes connections of TCP */

#endif
