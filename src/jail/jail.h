/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The jail around a process that does what strangers ask of it (docs/jail.md): namespaces, an empty
 * root, no capabilities, and a filter of system calls; and the helper outside, a child, which opens
 * for it what it was granted.
 *
 * Contract: jail_prepare comes first, while the process has one thread. Then the process opens what
 * it needs as ever and says with jail_grant what it will want again. jail_enter closes the door:
 * from there on paths, sockets and rings are opened by the helper or not at all, and a system call
 * that nobody declared ends the process. Main thread only.
 */
#ifndef JAIL_JAIL_H
#define JAIL_JAIL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum jail_right {
    JAIL_READ = 1,
    JAIL_WRITE = 2,   /* also make, rename, unlink */
    JAIL_FAMILY = 4,  /* also what lies below it, and names of it while it is written: PATH.part */
    JAIL_CONNECT = 8, /* connect to the unix socket */
    JAIL_PORTS = 16,  /* and to PATH_1, PATH_2 ... */
    JAIL_INTERNET = 32, /* sockets of IPv4 and IPv6, too */
    JAIL_IMAGE = 64,    /* a layer of a disk, */
    JAIL_COMMIT = 128   /* which may be written from now on, with those above it; no path: all */
};

/* The result is what could be done with the path before: who could write a file then may have said
 * in it what he liked. */
typedef unsigned jail_grant_fn(void *opaque, const char *path, unsigned rights);

struct jail_options {
    const char
        *user; /* NUMBER, NUMBER:NUMBER or a name; NULL: a number of its own. For root only */
    /* In the helper: a line came from a client of the control socket, and the process is to get it
     * next; what it allows the process to open is granted. */
    void (*request)(const char *line, size_t len, jail_grant_fn *grant, void *opaque);
    size_t request_max; /* bytes of a line */
    bool network;       /* viv-net: its calls, not those of viv-vm */
};

struct jail;

/* As the program begins: what is open now was left open by whoever started it, and is closed at the
 * door, but for standard descriptors and what somebody waits for. */
void jail_note_descriptors(void);
/* NULL with the sentence if it cannot be. */
struct jail *jail_prepare(const struct jail_options *o, struct error *err);
unsigned jail_grant(void *jail, const char *path, unsigned rights); /* accepts NULL for the jail */
/* The helper accepts clients on it from now on, and the result is where they are taken from, with
 * jail_accept. -1: it could not be. */
int jail_give_listener(struct jail *j, int listener);
int jail_accept(int fd); /* as accept4: -1 and errno */

int jail_enter(struct jail *j, struct error *err);
/* Before the process ends: what clients are to hear is on its way. Accepts NULL. */
void jail_leave(struct jail *j);

/* What it has, for people and programs. */
struct jail_facts {
    bool in; /* jail_enter was there */
    bool user, capabilities, user_namespace, mount_namespace, network_namespace, ipc_namespace,
        uts_namespace, empty_root, filter, helper;
    bool cgroup;         /* of its own: the manager made one */
    bool signals;        /* the kernel keeps them in, whatever the filter lets pass: Linux 6.12 */
    unsigned uid, calls; /* how many are allowed */
    char missing[200];   /* one line: what this host did not allow, and why; "" */
};
const struct jail_facts *jail_facts(const struct jail *j); /* accepts NULL: none */

/* Sanitizers and the like: why this build cannot be in one; NULL: it can. */
const char *jail_impossible(void);
/* For that reason, or since the user wants none: true, and a warning about this `noun`. */
bool jail_left_out(bool unwanted, const char *noun);

#endif
