/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the server of a folder keeps: pivot_root(2), landlock(7), capabilities(7).
 *
 * Landlock looks at what is opened, made, renamed and removed, wherever the name came from. It does
 * not look at modes and times; with the folder as the root there is nothing else whose mode could
 * be changed, and an ordinary user's server changes what is the user's. Renaming between folders
 * needs the second version of it (Linux 5.19): without that it is left out, as `mv` would fail.
 */
#include "jail/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail/confine.h"
#include "jail/jail_internal.h"
#include "jail/landlock.h"

bool jail_folder_root(const char *path) {
    if (geteuid() != 0 || unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
        return false;
    /* What the host mounts below the folder comes in here as well; nothing goes out. */
    if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0 ||
        mount(path, path, NULL, MS_BIND | MS_REC, NULL) < 0)
        return false;
    if (chdir(path) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
        return false;
    umount2(".", MNT_DETACH);
    return chdir("/") == 0;
}

/* ---- Landlock ---- */

static uint64_t wanted_of(bool readonly) {
    uint64_t reads = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
    uint64_t writes = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
                      LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR |
                      LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |
                      LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SYM |
                      LANDLOCK_ACCESS_FS_REFER | LANDLOCK_FS_TRUNCATE;

    return readonly ? reads : reads | writes;
}

static int keep_to(int folder, bool readonly) {
    int version = landlock_version();

    if (version < LANDLOCK_HAS_REFER)
        return version < 0 ? version : -EOPNOTSUPP;
    return landlock_forbid((struct landlock_rules){.files = landlock_files(version),
                                                   .network = LANDLOCK_NETWORK,
                                                   .scoped = LANDLOCK_SCOPES,
                                                   .folder = folder,
                                                   .allowed = wanted_of(readonly)},
                           version);
}

void jail_folder_rights(int folder, bool readonly, char *missing, size_t room) {
    static const unsigned keep[] = {CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID};
    const struct rlimit none = {0, 0};
    int r;

    setrlimit(RLIMIT_CORE, &none); /* the guest's files are in its memory */
    confine_limits(true);
    confine_drop_bounds();
    confine_keep_capabilities(keep, sizeof(keep) / sizeof(keep[0]));
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        confine_say(missing, room, "no no_new_privs", errno);
    r = keep_to(folder, readonly);
    if (r < 0)
        confine_say(missing, room, "no Landlock, which keeps to the folder", -r);
}

void jail_folder_calls(char *missing, size_t room) {
    struct filter f;
    struct error e = {0};
    int r;

    filter_make(&f, filter_share_kind(), false, false);
    r = filter_watch(&e);
    if (r == 0)
        r = filter_install(&f, SECCOMP_FILTER_FLAG_TSYNC);
    if (r < 0)
        confine_say(missing, room, "no filter of calls", -r);
}
