/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The three calls of Landlock. */
#include "jail/landlock.h"

#include <errno.h>
#include <linux/landlock.h>
#include <sys/syscall.h>
#include <unistd.h>

int landlock_version(void) {
    enum { VERSION = 1 };
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, VERSION);

    return version < 0 ? -errno : (int)version;
}

uint64_t landlock_files(int version) {
    uint64_t files = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1; /* of the first version */

    files |= version >= LANDLOCK_HAS_REFER ? LANDLOCK_ACCESS_FS_REFER : 0;
    files |= version >= LANDLOCK_HAS_TRUNCATE ? LANDLOCK_FS_TRUNCATE : 0;
    return files | (version >= LANDLOCK_HAS_IOCTL ? LANDLOCK_FS_IOCTL : 0);
}

int landlock_forbid(struct landlock_rules r, int version) {
    struct {
        uint64_t files, network, scoped;
    } rules = {.files = r.files};
    struct landlock_path_beneath_attr below = {.parent_fd = r.folder,
                                               .allowed_access = r.allowed & r.files};
    size_t size = version < LANDLOCK_HAS_NETWORK ? 8 : version < LANDLOCK_HAS_SCOPES ? 16 : 24;
    int fd, code = 0;

    rules.network = version >= LANDLOCK_HAS_NETWORK ? r.network : 0;
    rules.scoped = version >= LANDLOCK_HAS_SCOPES ? r.scoped : 0;
    fd = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    if (fd < 0)
        return -errno;
    if ((r.folder >= 0 &&
         syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &below, 0) < 0) ||
        syscall(SYS_landlock_restrict_self, fd, 0) < 0)
        code = -errno;
    close(fd);
    return code;
}
