/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Landlock (landlock(7), Documentation/userspace-api/landlock.rst) for the calling thread and those
 * that it will make, as far as the kernel knows what is asked. */
#ifndef JAIL_LANDLOCK_H
#define JAIL_LANDLOCK_H

#include <stdint.h>

/* Newer than the headers of Debian 12. */
#define LANDLOCK_FS_TRUNCATE (1ull << 14)
#define LANDLOCK_FS_IOCTL    (1ull << 15)
enum landlock_since { /* which version of it has what */
                      LANDLOCK_HAS_REFER = 2,
                      LANDLOCK_HAS_TRUNCATE = 3,
                      LANDLOCK_HAS_NETWORK = 4,
                      LANDLOCK_HAS_IOCTL = 5,
                      LANDLOCK_HAS_SCOPES = 6
};
enum { LANDLOCK_NETWORK = 3, LANDLOCK_SCOPES = 3 /* abstract sockets, signals */ };

struct landlock_rules {
    uint64_t files, network, scoped; /* what is forbidden, */
    int folder;                      /* but below this one (-1: nowhere) */
    uint64_t allowed;                /* of `files` that */
};

int landlock_version(void);           /* negative errno: there is none */
uint64_t landlock_files(int version); /* all that it can forbid of them */
/* What the version does not know is left out. 0 or a negative errno. With no_new_privs. */
int landlock_forbid(struct landlock_rules rules, int version);

#endif
