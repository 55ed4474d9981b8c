/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Namespaces, root, user, capabilities, descriptors, limits: namespaces(7), user_namespaces(7),
 * pivot_root(2), capabilities(7).
 *
 * Root makes the namespaces as it is and then becomes another user. Others make them inside a user
 * namespace, in which they stay who they are. Where there is neither, as in most containers, an
 * empty folder that has been removed is the root, if root may do that, and else the filter alone
 * keeps files away.
 */
#include "jail/confine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "base/write.h"
#include "jail/landlock.h"

/* Above all that systemd gives to containers; one of its own for each process. */
#define OWN_USERS 0x70000000u
enum { NOBODY = 65534, MAX_PROCESSES = 4096 };

void confine_say(char *missing, size_t room, const char *what, int code) {
    size_t n = strlen(missing);

    snprintf(missing + n, room - n, "%s%s (%s)", n ? ", " : "", what, strerror(code));
}

void confine_missing(struct jail_facts *f, const char *what, int code) {
    confine_say(f->missing, sizeof(f->missing), what, code);
}

/* ------------------------------------------------------------------ the user */

int confine_choose_user(struct confine *c, const char *user, struct error *err) {
    struct passwd *known = user ? getpwnam(user) : NULL;
    char *end, *group_end;

    c->readable = prctl(PR_CAPBSET_READ, CAP_SYS_PTRACE) == 1;
    if (!user) {
        c->change_user = geteuid() == 0;
        c->uid = c->gid = OWN_USERS | ((uint32_t)getpid() & 0xffffff);
        return 0;
    }
    if (geteuid() != 0)
        return error_set(err, -EINVAL,
                         "--jail-user: only root can become another user; leave it out, the jail "
                         "keeps yours");
    c->change_user = c->exact = true;
    if (known) {
        c->uid = known->pw_uid;
        c->gid = known->pw_gid;
        return 0;
    }
    c->uid = c->gid = (uid_t)strtoul(user, &end, 10);
    group_end = end;
    if (*end == ':')
        c->gid = (gid_t)strtoul(end + 1, &group_end, 10);
    if (end == user || *group_end || !c->uid || !c->gid || *user < '0' || *user > '9')
        return error_set(err, -EINVAL,
                         "--jail-user: there is no user '%.60s', nor is it the number of one, or "
                         "UID:GID; and root it cannot be",
                         user);
    return 0;
}

void confine_drop_bounds(void) {
    for (int i = 0; prctl(PR_CAPBSET_DROP, i) == 0; i++)
        ;
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
}

int confine_change_user(const struct confine *c, struct jail_facts *f, struct error *err) {
    uid_t uid = c->uid;
    gid_t gid = c->gid;
    int r;

    if (f->user_namespace) /* in which the process had all of them anew */
        confine_drop_bounds();
    f->uid = geteuid();
    f->user = f->uid != 0;
    if (!c->change_user)
        return 0;
    /* The helper must be able to read the arguments of calls afterwards. */
    if (!c->readable) {
        errno = EPERM;
        r = -1;
    } else {
        r = setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0;
        if (r && errno == EINVAL && !c->exact) { /* numbers that a container was not given */
            uid = gid = NOBODY;
            r = setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 ||
                setresuid(uid, uid, uid) < 0;
        }
    }
    if (r && c->exact)
        return error_set(err, -errno, "--jail-user: the user cannot be changed: %s",
                         strerror(errno));
    if (r) {
        confine_missing(f, "no user of its own", errno);
        return 0;
    }
    f->uid = uid;
    f->user = true;
    return 0;
}

/* Only where nobody else's are counted: as a user of its own, or in a user namespace, on kernels
 * that have a helper and so count there (5.14). */
void confine_processes(const struct confine *c, const struct jail_facts *f) {
    bool own = c->change_user && !c->exact && f->uid == c->uid;
    struct rlimit l;

    if ((own || f->user_namespace) && getrlimit(RLIMIT_NPROC, &l) == 0 &&
        l.rlim_cur > MAX_PROCESSES) {
        l.rlim_cur = l.rlim_max = MAX_PROCESSES;
        setrlimit(RLIMIT_NPROC, &l);
    }
}

void confine_keep_capabilities(const unsigned *keep, unsigned count) {
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct d[2] = {{0}};
    unsigned bits = 0;

    if (syscall(SYS_capget, &h, d) < 0)
        return;
    for (unsigned i = 0; i < count; i++)
        bits |= 1u << keep[i];
    d[0].permitted &= bits;
    d[0].effective = d[0].permitted;
    d[1].permitted = d[1].effective = d[0].inheritable = d[1].inheritable = 0;
    syscall(SYS_capset, &h, d);
}

void confine_helper(void) {
    static const unsigned keep[] = {CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_SYS_PTRACE,
                                    CAP_NET_BIND_SERVICE, CAP_KILL};
    const struct rlimit none = {0, 0};

    setrlimit(RLIMIT_CORE, &none); /* what clients say is in its memory */
    confine_limits(true);
    confine_keep_capabilities(keep, sizeof(keep) / sizeof(keep[0]));
}

bool confine_drop_capabilities(void) {
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct d[2] = {{0}};

    return syscall(SYS_capset, &h, d) == 0;
}

/* ------------------------------------------------------------------ descriptors and limits */

/* Of the process, from before it did anything. */
static int *inherited;
static unsigned inherited_count;

static bool note_inherited(int fd) {
    int *more = realloc(inherited, (inherited_count + 1) * sizeof(*inherited));

    if (!more)
        return false;
    inherited = more;
    inherited[inherited_count++] = fd;
    return true;
}

/* Somebody waits for the end of the process by a lock on a file that it was given. */
static bool holds_lock(int fd) {
    char path[40], text[1024];
    ssize_t n = 0;
    int info;

    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
    info = open(path, O_RDONLY | O_CLOEXEC);
    if (info >= 0) {
        n = read(info, text, sizeof(text) - 1);
        close(info);
    }
    text[n > 0 ? n : 0] = 0;
    return strstr(text, "\nlock:");
}

void confine_note_descriptors(void) {
    DIR *d = opendir("/proc/self/fd");
    struct dirent *e;

    while (d && (e = readdir(d))) {
        int fd = *e->d_name == '.' ? -1 : atoi(e->d_name);

        if (fd > STDERR_FILENO && fd != dirfd(d) && !holds_lock(fd) && !note_inherited(fd))
            close(fd); /* rather than to keep it; there is no room for what it may be for */
    }
    if (d)
        closedir(d);
}

void confine_close_descriptors(void) {
    for (unsigned i = 0; i < inherited_count; i++)
        close(inherited[i]);
    free(inherited);
    inherited = NULL;
    inherited_count = 0;
}

void confine_limits(bool network) {
    static const struct {
        int what;
        rlim_t most;
    } limits[] = {
        {RLIMIT_MSGQUEUE, 0},
        {RLIMIT_NICE, 0},
        {RLIMIT_RTPRIO, 0},
        {RLIMIT_SIGPENDING, 256},
    };
    struct rlimit l;

    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
        if (getrlimit((__rlimit_resource_t)limits[i].what, &l) == 0 &&
            l.rlim_max > limits[i].most) {
            l = (struct rlimit){limits[i].most, limits[i].most};
            setrlimit((__rlimit_resource_t)limits[i].what, &l);
        }
    /* What it may have open it may have, and no more by a call of its own. */
    if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
        l.rlim_max = l.rlim_cur;
        setrlimit(RLIMIT_NOFILE, &l);
    }
    if (!network && getrlimit(RLIMIT_STACK, &l) == 0 && l.rlim_cur != RLIM_INFINITY) {
        l.rlim_max = l.rlim_cur;
        setrlimit(RLIMIT_STACK, &l);
    }
}

/* ------------------------------------------------------------------ the control group */

/* The manager makes it (host/cgroup.c). */
void confine_look_at_cgroup(struct jail_facts *f) {
    int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
    char text[4096];
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    f->cgroup = strstr(text, "/viv-machine-");
}

/* ------------------------------------------------------------------ signals */

/* Landlock's scopes (Documentation/userspace-api/landlock.rst): processes outside cannot be
 * signalled, nor their abstract sockets connected to. Files it forbids as well, once the root is
 * left, which it would not let happen, and where the helper opens what is opened: it is the second
 * thing that keeps them away, and the first where the root cannot be left. What is open stays as it
 * is. Older kernels have the filter alone. */
bool confine_signals(bool files) {
    int version = landlock_version();
    struct landlock_rules r = {.scoped = LANDLOCK_SCOPES, .folder = -1};

    if (files && version > 0) {
        r.files = landlock_files(version);
        r.network = LANDLOCK_NETWORK;
    }
    if (!r.files && version < LANDLOCK_HAS_SCOPES)
        return false;
    return landlock_forbid(r, version) == 0 && version >= LANDLOCK_HAS_SCOPES;
}

/* ------------------------------------------------------------------ namespaces */

/* Who it is inside is who it is outside. */
static bool map_user(uid_t uid, gid_t gid) {
    char text[64];

    write_setting("/proc/self/setgroups", "deny");
    snprintf(text, sizeof(text), "%u %u 1", gid, gid);
    if (!write_setting("/proc/self/gid_map", text))
        return false;
    snprintf(text, sizeof(text), "%u %u 1", uid, uid);
    return write_setting("/proc/self/uid_map", text);
}

void confine_namespaces(struct confine *c, struct jail_facts *f) {
    const int wanted = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS;
    uid_t uid = geteuid();
    gid_t gid = getegid();
    int r = uid == 0 ? unshare(wanted) : -1;

    if (r < 0) {
        r = unshare(CLONE_NEWUSER);
        if (r == 0 && !map_user(uid, gid)) {
            confine_missing(f, "the user namespace cannot be mapped", errno);
            r = -1;
        } else if (r == 0) {
            f->user_namespace = true;
            c->change_user &= c->exact; /* there is only one in there */
            r = unshare(wanted);
        }
    }
    if (r < 0) {
        confine_missing(f, "no namespaces", errno);
        return;
    }
    f->mount_namespace = f->ipc_namespace = f->uts_namespace = true;
    /* What is mounted in here stays in here; what comes and goes outside does so here. */
    mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL);
    if (sethostname("viv", 3) < 0)
        f->uts_namespace = false;
}

void confine_network(struct jail_facts *f) {
    if (unshare(CLONE_NEWNET) == 0)
        f->network_namespace = true;
    else if (f->mount_namespace)
        confine_missing(f, "no network namespace", errno);
}

/* The mounts that are there go as well; files that are open stay. */
static bool change_root(void) {
    static const char *const places[] = {"/tmp", "/proc", "/dev", "/mnt"};
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY;

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (mount("viv", places[i], "tmpfs", flags, "size=4k,nr_inodes=2,mode=0555") < 0)
            continue;
        if (chdir(places[i]) == 0 && syscall(SYS_pivot_root, ".", ".") == 0) {
            umount2(".", MNT_DETACH);
            return chdir("/") == 0;
        }
        umount2(places[i], MNT_DETACH);
    }
    return false;
}

/* Nothing can be made in a folder that has been removed. */
static bool use_removed_folder(void) {
    char path[] = "/tmp/viv-jail-XXXXXX";
    bool done = false;
    int fd;

    if (!mkdtemp(path))
        return false;
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    rmdir(path);
    if (fd >= 0) {
        done = fchdir(fd) == 0 && chroot(".") == 0;
        close(fd);
    }
    return done;
}

void confine_root(struct jail_facts *f) {
    f->empty_root = (f->mount_namespace && change_root()) || use_removed_folder();
    if (!f->empty_root)
        confine_missing(f, "the root cannot be left", errno);
}
