/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unix sockets (unix(7)). */
#include "base/unix_socket.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/*
 * Calls (main, vcpu): socket connect
 * Calls (main, net): unlink
 */

enum { BACKLOG = 16, NAP_MS = 10 };

static int make_address(struct sockaddr_un *a, const char *path, const char *what,
                        struct error *err) {
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (!*path || strlen(path) >= sizeof(a->sun_path))
        return error_set(err, -EINVAL, "%s's path '%s' must have 1 to %zu characters", what, path,
                         sizeof(a->sun_path) - 1);
    memcpy(a->sun_path, path, strlen(path) + 1);
    return 0;
}

static bool is_live(const struct sockaddr_un *a, int type) {
    int probe = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* EAGAIN: a live program that has not come to accept the last ones. EACCES: somebody else's. */
    bool live = probe >= 0 && (connect(probe, (const struct sockaddr *)a, sizeof(*a)) == 0 ||
                               errno == EAGAIN || errno == EACCES);

    if (probe >= 0)
        close(probe);
    return live;
}

static int listen_for(int type, const char *path, unsigned mode, const char *what,
                      struct error *err) {
    struct sockaddr_un a;
    struct stat st;
    int fd, r = make_address(&a, path, what, err);

    if (r < 0)
        return r;
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode)) {
        if (is_live(&a, type))
            return error_set(err, -EADDRINUSE,
                             "%s '%s' is in use by another program: choose another path", what,
                             path);
        unlink(path); /* left over from a program that has ended */
    }
    fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
        r = error_set(err, -errno, "%s '%s' cannot be made: %s; choose another path", what, path,
                      strerror(errno));
        if (fd >= 0)
            close(fd);
        return r;
    }
    if (chmod(path, mode) < 0 || listen(fd, BACKLOG) < 0) {
        r = error_set(err, -errno, "%s '%s' cannot listen: %s", what, path, strerror(errno));
        close(fd);
        unlink(path);
        return r;
    }
    return fd;
}

int unix_socket_listen(const char *path, unsigned mode, const char *what, struct error *err) {
    return listen_for(SOCK_STREAM, path, mode, what, err);
}

int unix_socket_listen_packets(const char *path, unsigned mode, const char *what,
                               struct error *err) {
    return listen_for(SOCK_SEQPACKET, path, mode, what, err);
}

/* A full queue of connections gives EAGAIN, and nothing tells when it has room. */
static int connect_patiently(int fd, const struct sockaddr_un *a, int timeout_ms) {
    static const struct timespec nap = {.tv_nsec = NAP_MS * 1000 * 1000};

    for (;;) {
        if (connect(fd, (const struct sockaddr *)a, sizeof(*a)) == 0)
            return 0;
        if (errno != EINTR && (errno != EAGAIN || timeout_ms <= 0))
            return -errno;
        nanosleep(&nap, NULL);
        timeout_ms -= NAP_MS;
    }
}

static int connect_to(int type, const char *path, int timeout_ms, struct error *err) {
    struct sockaddr_un a;
    int fd, r = make_address(&a, path, "the socket", err);

    if (r < 0)
        return r;
    fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    r = fd < 0 ? -errno : connect_patiently(fd, &a, timeout_ms);
    if (r == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    if (r == -ENOENT)
        return error_set(err, r, "there is no socket '%s': is its program running?", path);
    if (r == -ECONNREFUSED)
        return error_set(err, r, "nobody listens on the socket '%s': its program has ended", path);
    if (r == -EAGAIN)
        return error_set(err, r, "the socket '%s' accepts no connection: its program is stuck",
                         path);
    return error_set(err, r, "no connection to the socket '%s': %s", path, strerror(-r));
}

int unix_socket_connect(const char *path, int timeout_ms, struct error *err) {
    return connect_to(SOCK_STREAM, path, timeout_ms, err);
}

int unix_socket_connect_packets(const char *path, struct error *err) {
    return connect_to(SOCK_SEQPACKET, path, 0, err);
}
