/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calls of the process in the jail that the helper does for it: seccomp_unotify(2).
 *
 * Theory of operation: the caller stands still in its call. What its arguments point to is copied
 * once, looked at, and what is done is done with the copy, here, in the helper's own namespaces;
 * the caller gets a descriptor or a result. Nothing is let through to be looked up again in its
 * memory. Folders that it holds are known by device and inode, so that names beside them are looked
 * at as whole paths, too.
 *
 * Names, by whichever of the calls the library takes:
 *
 * Calls (helper): open openat stat lstat newfstatat statx access faccessat faccessat2 readlink
 *     readlinkat getcwd rename renameat renameat2 unlink unlinkat rmdir mkdir mkdirat link linkat
 * Calls (helper): process_vm_readv process_vm_writev pidfd_open pidfd_getfd socket connect bind
 * getsockopt io_uring_setup io_uring_register:IORING_REGISTER_RESTRICTIONS
 *     io_uring_register:IORING_REGISTER_ENABLE_RINGS pidfd_send_signal:child openat2 getdents64
 *     ioctl:SECCOMP_IOCTL_NOTIF_RECV ioctl:SECCOMP_IOCTL_NOTIF_SEND
 *     ioctl:SECCOMP_IOCTL_NOTIF_ADDFD ioctl:SECCOMP_IOCTL_NOTIF_ID_VALID
 */
#include <asm/unistd.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "jail/jail_internal.h"

enum { MAX_FOLDERS = 64, MAX_REFUSALS = 10 };

struct folder { /* that the process was given a descriptor of */
    dev_t dev;
    ino_t ino;
    char *path;
};

struct calls {
    struct grants *grants;
    int notify;
    pid_t machine;
    struct folder folder[MAX_FOLDERS]; /* the oldest is forgotten */
    unsigned folders;
    unsigned refusals;
};

struct request {
    struct calls *calls;
    const struct seccomp_notif *n;
    int fd; /* to be given to the caller, or -1 */
    bool close_on_exec;
};

struct calls *calls_new(struct grants *g, int notify, pid_t machine) {
    struct calls *c = calloc(1, sizeof(*c));

    if (c)
        *c = (struct calls){.grants = g, .notify = notify, .machine = machine};
    return c;
}

/* ------------------------------------------------------------------ the caller's memory */

static uint64_t argument(const struct request *q, unsigned i) { return q->n->data.args[i]; }

/* The process is still the one that called: its number was not given to another one meanwhile. */
static bool is_valid(const struct request *q) {
    return ioctl(q->calls->notify, SECCOMP_IOCTL_NOTIF_ID_VALID, &q->n->id) == 0;
}

static ssize_t copy_in(const struct request *q, uint64_t from, void *to, size_t n) {
    struct iovec local = {to, n}, remote = {(void *)(uintptr_t)from, n};
    ssize_t got = process_vm_readv((pid_t)q->n->pid, &local, 1, &remote, 1, 0);

    return got < 0 ? -errno : is_valid(q) ? got : -ESRCH;
}

static int copy_out(const struct request *q, uint64_t to, const void *from, size_t n) {
    struct iovec local = {(void *)(uintptr_t)from, n}, remote = {(void *)(uintptr_t)to, n};

    if (!is_valid(q))
        return -ESRCH;
    return process_vm_writev((pid_t)q->n->pid, &local, 1, &remote, 1, 0) == (ssize_t)n ? 0
                                                                                       : -EFAULT;
}

static int copy_path(const struct request *q, uint64_t from, char ret[PATH_MAX]) {
    size_t got = 0;

    while (got < PATH_MAX) { /* up to the end of a page each, as the next one may not be there */
        size_t n = 4096 - (size_t)((from + got) & 4095);
        ssize_t r = copy_in(q, from + got, ret + got, n < PATH_MAX - got ? n : PATH_MAX - got);

        if (r <= 0)
            return r < 0 ? (int)r : -EFAULT;
        if (memchr(ret + got, 0, (size_t)r))
            return 0;
        got += (size_t)r;
    }
    return -ENAMETOOLONG;
}

/* Another descriptor of an open file of the caller's. */
static int borrow(const struct request *q, int fd) {
    int process = pidfd_open(q->calls->machine, 0), copy;

    /* A thread shares the descriptors; a child has its own, and its number is that of its process.
     */
    if (process >= 0 && (pid_t)q->n->pid != q->calls->machine) {
        int own = pidfd_open((pid_t)q->n->pid, 0); /* refused for what is no process but a thread */

        if (own >= 0) {
            close(process);
            process = own;
        }
    }
    copy = process < 0 ? -1 : pidfd_getfd(process, fd, 0);
    if (copy < 0)
        copy = -errno;
    if (process >= 0)
        close(process);
    return copy;
}

/* ------------------------------------------------------------------ names */

/* A name beside a folder that it holds, or in the folder it was started in. */
static int take_name(const struct request *q, int at, uint64_t from, char ret[PATH_MAX]) {
    char name[PATH_MAX];
    struct stat st;
    int r = copy_path(q, from, name), fd;

    if (r < 0)
        return r;
    if (!*name)
        return -ENOENT;
    if (*name == '/' || at == AT_FDCWD) {
        memcpy(ret, name, sizeof(name));
        return 0;
    }
    fd = borrow(q, at);
    if (fd < 0)
        return fd;
    r = fstat(fd, &st) < 0 ? -errno : -EACCES;
    close(fd);
    for (unsigned i = 0; r == -EACCES && i < MAX_FOLDERS; i++) {
        const struct folder *f = &q->calls->folder[i];

        if (f->path && f->dev == st.st_dev && f->ino == st.st_ino)
            r = snprintf(ret, PATH_MAX, "%s/%s", f->path, name) < PATH_MAX ? 0 : -ENAMETOOLONG;
    }
    return r;
}

static void note_folder(struct calls *c, int fd, const char *path) {
    struct folder *f = &c->folder[c->folders % MAX_FOLDERS];
    struct stat st;

    if (fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode))
        return;
    for (unsigned i = 0; i < MAX_FOLDERS; i++)
        if (c->folder[i].path && c->folder[i].dev == st.st_dev && c->folder[i].ino == st.st_ino)
            f = &c->folder[i]; /* it may have been renamed */
    c->folders += f == &c->folder[c->folders % MAX_FOLDERS];
    free(f->path);
    *f = (struct folder){st.st_dev, st.st_ino, strdup(path)};
}

static void say_refused(struct calls *c, const char *what, const char *path) {
    char shown[300];
    size_t n = 0;

    for (; path[n] && n < sizeof(shown) - 1; n++) /* it may be the guest's choice */
        shown[n] = (unsigned char)path[n] < 0x20 || path[n] == 0x7f ? '?' : path[n];
    shown[n] = 0;
    if (++c->refusals <= MAX_REFUSALS)
        log_warning("the jail refused to %s '%s': neither the command line nor a client of the "
                    "control socket named it%s",
                    what, shown,
                    c->refusals == MAX_REFUSALS ? "; further ones are not reported" : "");
}

/* ------------------------------------------------------------------ opening */

/* Of those that the process asks for. */
enum {
    OPEN_FLAGS = O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | O_SYNC | O_DIRECT |
                 O_DIRECTORY | O_LARGEFILE | O_NONBLOCK
};

/* What a process may read about itself. */
static int open_self(struct request *q, const char *name, int flags) {
    static const char *const allowed[] = {"statm", "pagemap", "schedstat", "status"};
    char path[80];

    if ((flags & O_ACCMODE) != O_RDONLY)
        return -EACCES;
    for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
        if (!strcmp(name, allowed[i])) {
            snprintf(path, sizeof(path), "/proc/%d/%s", (int)q->n->pid, name);
            q->fd = open(path, O_RDONLY | O_CLOEXEC);
            return q->fd < 0 ? -errno : 0;
        }
    return -ENOENT;
}

/* What is open, and what was granted of it by its name. Under a root that was changed (chroot) the
 * kernel tells other names of what was opened in another mount namespace. */
static unsigned rights_of_open(const struct request *q, int fd, char self[40],
                               char path[PATH_MAX]) {
    unsigned rights;
    ssize_t n;

    snprintf(self, 40, "/proc/self/fd/%d", fd);
    n = readlink(self, path, PATH_MAX - 1);
    path[n > 0 ? n : 0] = 0;
    rights = n > 0 ? grants_find(q->calls->grants, path) : 0;
    return rights ? rights : grants_find_open(q->calls->grants, fd);
}

/* The same file once more, with other rights: those of its own name count. */
static int open_again(struct request *q, const char *number, int flags) {
    int fd = borrow(q, atoi(number)), r = -EACCES;
    char self[40], path[PATH_MAX];
    unsigned rights, wanted;

    if (fd < 0)
        return fd;
    rights = rights_of_open(q, fd, self, path);
    if (*path) {
        wanted = (flags & O_ACCMODE) == O_RDONLY ? JAIL_READ : JAIL_WRITE;
        if (rights & wanted) {
            q->fd = open(self, (flags & OPEN_FLAGS & ~(O_CREAT | O_TRUNC)) | O_CLOEXEC | O_NOCTTY);
            r = q->fd < 0 ? -errno : 0;
        } else {
            say_refused(q->calls, "open again", path);
        }
    }
    close(fd);
    return r;
}

/* Nobody in the jail can make links, but another machine's guest can, in a folder that is shared
 * with it: a name that was looked up has none in it, and if there is one now it is no more that
 * name. A file that is made has no rights that a program could have: nor is it one of root's, which
 * the helper may be. */
static int open_canonical(const char *path, int flags, mode_t mode) {
    struct open_how how = {
        .flags = (uint64_t)((flags & OPEN_FLAGS) | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK),
        .mode = flags & O_CREAT ? mode & 0666 : 0,
        .resolve = RESOLVE_NO_SYMLINKS};
    int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));

    if (fd < 0 && (errno == ENOSYS || errno == EPERM)) /* containers that do not know it */
        fd = open(path, (int)how.flags, (mode_t)how.mode);
    return fd < 0 ? -errno : fd;
}

static int do_open(struct request *q, int at, uint64_t name, int flags, mode_t mode) {
    static const char self[] = "/proc/self/", thread[] = "/proc/thread-self/";
    char path[PATH_MAX], canonical[PATH_MAX];
    unsigned rights, wanted;
    int r = take_name(q, at, name, path);
    bool writes = (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);

    if (r < 0)
        return r;
    q->close_on_exec = flags & O_CLOEXEC;
    if (!strncmp(path, "/proc/self/fd/", 14))
        return open_again(q, path + 14, flags);
    if (!strncmp(path, self, sizeof(self) - 1))
        return open_self(q, path + sizeof(self) - 1, flags);
    if (!strncmp(path, thread, sizeof(thread) - 1))
        return open_self(q, path + sizeof(thread) - 1, flags);
    if (flags & O_PATH)
        return -EACCES;
    if (!grants_resolve(path, !(flags & O_NOFOLLOW), canonical))
        return grants_may_look(q->calls->grants, path) ? -errno : -EACCES;
    rights = grants_find(q->calls->grants, canonical);
    wanted = ((flags & O_ACCMODE) != O_WRONLY ? JAIL_READ : 0) | (writes ? JAIL_WRITE : 0);
    if ((wanted & ~rights) &&
        !(flags & O_DIRECTORY && !writes && grants_is_folder(q->calls->grants, canonical))) {
        say_refused(q->calls, writes ? "write" : "open", canonical);
        return -EACCES;
    }
    q->fd = open_canonical(canonical, flags, mode);
    if (q->fd < 0)
        return q->fd;
    if (!(flags & O_NONBLOCK)) /* asked for above, so that no pipe holds the helper up */
        fcntl(q->fd, F_SETFL, fcntl(q->fd, F_GETFL) & ~O_NONBLOCK);
    note_folder(q->calls, q->fd, canonical);
    return 0;
}

/* ------------------------------------------------------------------ looking */

static int take_visible(const struct request *q, int at, uint64_t name, char path[PATH_MAX]) {
    int r = take_name(q, at, name, path);

    if (r == 0 && !grants_may_look(q->calls->grants, path))
        return -EACCES;
    return r;
}

static int do_stat(struct request *q, int at, uint64_t name, uint64_t to, int flags) {
    char path[PATH_MAX];
    struct stat st;
    int r = take_visible(q, at, name, path);

    if (r == 0 && fstatat(AT_FDCWD, path, &st, flags & AT_SYMLINK_NOFOLLOW) < 0)
        r = -errno;
    return r < 0 ? r : copy_out(q, to, &st, sizeof(st));
}

static int do_statx(struct request *q) {
    char path[PATH_MAX];
    struct statx st;
    int r = take_visible(q, (int)argument(q, 0), argument(q, 1), path);

    if (r == 0 && statx(AT_FDCWD, path, (int)argument(q, 2) & ~AT_EMPTY_PATH,
                        (unsigned)argument(q, 3), &st) < 0)
        r = -errno;
    return r < 0 ? r : copy_out(q, argument(q, 4), &st, sizeof(st));
}

static int do_access(struct request *q, int at, uint64_t name, int mode) {
    char path[PATH_MAX];
    int r = take_visible(q, at, name, path);

    return r < 0 ? r : access(path, mode & 7) < 0 ? -errno : 0;
}

static int do_readlink(struct request *q, int at, uint64_t name, uint64_t to, uint64_t size) {
    char path[PATH_MAX], link[PATH_MAX];
    int r = take_visible(q, at, name, path);
    ssize_t n;

    if (r < 0)
        return r;
    n = readlink(path, link, sizeof(link));
    if (n < 0)
        return -errno;
    if ((uint64_t)n > size)
        n = (ssize_t)size;
    r = copy_out(q, to, link, (size_t)n);
    return r < 0 ? r : (int)n;
}

/* Folders around what is written are opened so that they can be flushed. What else lies in them is
 * not told. */
static int do_list(struct request *q) {
    static char entries[32768];
    char self[40], path[PATH_MAX];
    size_t size = argument(q, 2) < sizeof(entries) ? (size_t)argument(q, 2) : sizeof(entries);
    int fd = borrow(q, (int)argument(q, 0));
    ssize_t n;
    int r;

    if (fd < 0)
        return fd;
    if (!(rights_of_open(q, fd, self, path) & JAIL_READ)) {
        close(fd);
        say_refused(q->calls, "list", path);
        return -EACCES;
    }
    n = getdents64(fd, entries, size);
    r = n < 0 ? -errno : n ? copy_out(q, argument(q, 1), entries, (size_t)n) : 0;
    close(fd);
    return r < 0 ? r : (int)n;
}

static int do_getcwd(struct request *q) {
    char path[PATH_MAX];
    int r;

    if (!getcwd(path, sizeof(path)))
        return -errno;
    if (strlen(path) + 1 > argument(q, 1))
        return -ERANGE;
    r = copy_out(q, argument(q, 0), path, strlen(path) + 1);
    return r < 0 ? r : (int)strlen(path) + 1;
}

/* ------------------------------------------------------------------ changing */

static int take_own(const struct request *q, int at, uint64_t name, char canonical[PATH_MAX]) {
    char path[PATH_MAX];
    int r = take_name(q, at, name, path);

    if (r < 0)
        return r;
    if (!grants_resolve(path, false, canonical))
        return grants_may_look(q->calls->grants, path) ? -errno : -EACCES;
    if (grants_find(q->calls->grants, canonical) & JAIL_WRITE)
        return 0;
    say_refused(q->calls, "change", canonical);
    return -EACCES;
}

static int do_unlink(struct request *q, int at, uint64_t name, int flags) {
    char path[PATH_MAX];
    int r = take_own(q, at, name, path);

    return r < 0 ? r : unlinkat(AT_FDCWD, path, flags & AT_REMOVEDIR) < 0 ? -errno : 0;
}

static int do_mkdir(struct request *q, int at, uint64_t name, mode_t mode) {
    char path[PATH_MAX];
    int r = take_own(q, at, name, path);

    return r < 0 ? r : mkdir(path, mode & 0777) < 0 ? -errno : 0;
}

static int do_rename(struct request *q, int at, uint64_t name, int to_at, uint64_t to,
                     unsigned flags) {
    char path[PATH_MAX], new[PATH_MAX];
    int r = take_own(q, at, name, path);

    if (r == 0)
        r = take_own(q, to_at, to, new);
    return r < 0 ? r : renameat2(AT_FDCWD, path, AT_FDCWD, new, flags) < 0 ? -errno : 0;
}

static int do_link(struct request *q, int at, uint64_t name, int to_at, uint64_t to) {
    char path[PATH_MAX], new[PATH_MAX];
    int r = take_own(q, at, name, path);

    if (r == 0)
        r = take_own(q, to_at, to, new);
    return r < 0 ? r : link(path, new) < 0 ? -errno : 0;
}

/* ------------------------------------------------------------------ sockets */

static bool internet(const struct calls *c, int family) {
    return grants_internet(c->grants) && (family == AF_INET || family == AF_INET6);
}

static int do_socket(struct request *q) {
    int family = (int)argument(q, 0), type = (int)argument(q, 1), protocol = (int)argument(q, 2);
    int kind = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC);
    bool allowed = false;

    if (family == AF_UNIX) /* it can be connected by us alone */
        allowed = (kind == SOCK_STREAM || kind == SOCK_SEQPACKET) && protocol == 0;
    else if (internet(q->calls, family))
        allowed = (kind == SOCK_STREAM && (protocol == 0 || protocol == IPPROTO_TCP)) ||
                  (kind == SOCK_DGRAM && (protocol == 0 || protocol == IPPROTO_UDP ||
                                          protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6));
    if (!allowed)
        return -EACCES;
    q->close_on_exec = type & SOCK_CLOEXEC;
    q->fd = socket(family, type | SOCK_CLOEXEC, protocol);
    return q->fd < 0 ? -errno : 0;
}

/* The helper must not. */
static bool may_not_wait(int fd) {
    socklen_t size = sizeof(int);
    int type = 0;

    if (fcntl(fd, F_GETFL) & O_NONBLOCK)
        return true;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_DGRAM;
}

static int do_address(struct request *q, int (*fn)(int, const struct sockaddr *, socklen_t)) {
    struct sockaddr_storage a = {0};
    socklen_t size = (socklen_t)argument(q, 2);
    char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 1] = "";
    ssize_t got;
    int fd, r;

    /* The kernel takes 18 bytes more than the longest address has, for which `path` has no room. */
    if (size < sizeof(sa_family_t) || size > sizeof(struct sockaddr_un))
        return -EINVAL;
    got = copy_in(q, argument(q, 1), &a, size);
    if (got != (ssize_t)size)
        return got < 0 ? (int)got : -EFAULT;
    if (a.ss_family == AF_UNIX && fn == connect) {
        memcpy(path, (char *)&a + offsetof(struct sockaddr_un, sun_path),
               size - offsetof(struct sockaddr_un, sun_path));
        if (!*path || !grants_may_connect(q->calls->grants, path))
            return *path && grants_may_look(q->calls->grants, path) ? -ENOENT : -EACCES;
    } else if (!internet(q->calls, a.ss_family) &&
               !(a.ss_family == AF_UNSPEC && grants_internet(q->calls->grants))) {
        return -EACCES;
    }
    fd = borrow(q, (int)argument(q, 0));
    if (fd < 0)
        return fd;
    r = fn == bind || a.ss_family == AF_UNSPEC || may_not_wait(fd) ? 0 : -EACCES;
    if (r == 0 && fn(fd, (struct sockaddr *)&a, size) < 0)
        r = -errno;
    close(fd);
    return r;
}

/* ------------------------------------------------------------------ others */

/* A ring's requests are not seen by any filter, so it is made here, for transfers of open files and
 * nothing else, before the process gets it. */
static int do_ring(struct request *q) {
    static const uint8_t allowed[] = {IORING_OP_NOP,         IORING_OP_READV, IORING_OP_WRITEV,
                                      IORING_OP_READ,        IORING_OP_WRITE, IORING_OP_FSYNC,
                                      IORING_OP_ASYNC_CANCEL};
    enum { OPS = sizeof(allowed), ALL = OPS + 2 };
    struct io_uring_restriction rule[ALL] = {0};
    struct io_uring_params p;
    int r = 0;

    if (copy_in(q, argument(q, 1), &p, sizeof(p)) != sizeof(p))
        return -EFAULT;
    if (p.flags & ~(IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL))
        return -EINVAL;
    p.flags |= IORING_SETUP_R_DISABLED;
    q->close_on_exec = true;
    q->fd = (int)syscall(SYS_io_uring_setup, (unsigned)argument(q, 0), &p);
    if (q->fd < 0)
        return -errno;
    for (unsigned i = 0; i < OPS; i++) {
        rule[i].opcode = IORING_RESTRICTION_SQE_OP;
        rule[i].sqe_op = allowed[i];
    }
    rule[OPS].opcode = rule[OPS + 1].opcode = IORING_RESTRICTION_REGISTER_OP;
    rule[OPS].register_op = IORING_REGISTER_EVENTFD;
    rule[OPS + 1].register_op = IORING_UNREGISTER_EVENTFD;
    if (syscall(SYS_io_uring_register, q->fd, IORING_REGISTER_RESTRICTIONS, rule, ALL) < 0 ||
        syscall(SYS_io_uring_register, q->fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0)
        r = -errno;
    p.flags &= ~IORING_SETUP_R_DISABLED;
    return r < 0 ? r : copy_out(q, argument(q, 1), &p, sizeof(p));
}

/* -1: it is gone (a child that nobody waited for is not), or there is no /proc. */
static pid_t parent_of(pid_t pid) {
    char path[40], text[512], *p;
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    p = strrchr(text, ')');
    return p && strlen(p) > 4 ? (pid_t)strtol(p + 4, NULL, 10) : -1;
}

/* A child of the process alone, and to its end. Of others it is not told whether they are there.
 * The child is held before it is looked at: the process could wait for it meanwhile, and its number
 * be somebody else's. */
static int do_kill(struct request *q) {
    pid_t pid = (pid_t)argument(q, 0);
    int child, r = -EPERM;

    if ((int)argument(q, 1) != SIGKILL || pid <= 0 || pid == getpid())
        return -EPERM;
    child = pidfd_open(pid, 0);
    if (child < 0)
        return -EPERM;
    if (parent_of(pid) == q->calls->machine)
        r = pidfd_send_signal(child, SIGKILL, NULL, 0) < 0 ? -errno : 0;
    close(child);
    return r;
}

/* ------------------------------------------------------------------ one call */

#define A(i)  argument(q, i)
#define FD(i) ((int)argument(q, i))

static int dispatch(struct request *q) {
    switch (q->n->data.nr) {
    case __NR_open:
        return do_open(q, AT_FDCWD, A(0), FD(1), (mode_t)A(2));
    case __NR_openat:
        return do_open(q, FD(0), A(1), FD(2), (mode_t)A(3));
    case __NR_creat:
        return do_open(q, AT_FDCWD, A(0), O_CREAT | O_WRONLY | O_TRUNC, (mode_t)A(1));
    case __NR_stat:
        return do_stat(q, AT_FDCWD, A(0), A(1), 0);
    case __NR_lstat:
        return do_stat(q, AT_FDCWD, A(0), A(1), AT_SYMLINK_NOFOLLOW);
    case __NR_newfstatat:
        return do_stat(q, FD(0), A(1), A(2), FD(3));
    case __NR_statx:
        return do_statx(q);
    case __NR_access:
        return do_access(q, AT_FDCWD, A(0), FD(1));
    case __NR_faccessat:
    case __NR_faccessat2:
        return do_access(q, FD(0), A(1), FD(2));
    case __NR_readlink:
        return do_readlink(q, AT_FDCWD, A(0), A(1), A(2));
    case __NR_readlinkat:
        return do_readlink(q, FD(0), A(1), A(2), A(3));
    case __NR_getcwd:
        return do_getcwd(q);
    case __NR_getdents64:
        return do_list(q);
    case __NR_rename:
        return do_rename(q, AT_FDCWD, A(0), AT_FDCWD, A(1), 0);
    case __NR_renameat:
        return do_rename(q, FD(0), A(1), FD(2), A(3), 0);
    case __NR_renameat2:
        return do_rename(q, FD(0), A(1), FD(2), A(3), (unsigned)A(4));
    case __NR_unlink:
        return do_unlink(q, AT_FDCWD, A(0), 0);
    case __NR_unlinkat:
        return do_unlink(q, FD(0), A(1), FD(2));
    case __NR_rmdir:
        return do_unlink(q, AT_FDCWD, A(0), AT_REMOVEDIR);
    case __NR_mkdir:
        return do_mkdir(q, AT_FDCWD, A(0), (mode_t)A(1));
    case __NR_mkdirat:
        return do_mkdir(q, FD(0), A(1), (mode_t)A(2));
    case __NR_link:
        return do_link(q, AT_FDCWD, A(0), AT_FDCWD, A(1));
    case __NR_linkat:
        return do_link(q, FD(0), A(1), FD(2), A(3));
    case __NR_socket:
        return do_socket(q);
    case __NR_connect:
        return do_address(q, connect);
    case __NR_bind:
        return do_address(q, bind);
    case __NR_io_uring_setup:
        return do_ring(q);
    case __NR_kill:
        return do_kill(q);
    default:
        return -ENOSYS;
    }
}

static void answer(const struct request *q, int r) {
    struct seccomp_notif_resp resp = {.id = q->n->id, .error = r < 0 ? r : 0, .val = r < 0 ? 0 : r};
    struct seccomp_notif_addfd add = {.id = q->n->id,
                                      .flags = SECCOMP_ADDFD_FLAG_SEND,
                                      .srcfd = (uint32_t)q->fd,
                                      .newfd_flags = q->close_on_exec ? O_CLOEXEC : 0};

    if (r == 0 && q->fd >= 0) {
        if (ioctl(q->calls->notify, SECCOMP_IOCTL_NOTIF_ADDFD, &add) >= 0 || errno == ENOENT)
            return;
        resp.error = -errno; /* EMFILE of the process, say */
    }
    ioctl(q->calls->notify, SECCOMP_IOCTL_NOTIF_SEND, &resp);
}

void calls_serve(struct calls *c) {
    struct seccomp_notif n = {0};
    struct request q = {.calls = c, .n = &n, .fd = -1};
    int r;

    if (ioctl(c->notify, SECCOMP_IOCTL_NOTIF_RECV, &n) < 0)
        return;
    r = dispatch(&q);
    answer(&q, r);
    if (q.fd >= 0)
        close(q.fd);
}
