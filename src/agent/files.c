/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files of the guest: {"do": "get", "path": path} and {"do": "put", "path": path, "mode": n,
 * "uid": n, "gid": n}. A file that is put appears whole or not at all, and is on the disk when the
 * answer comes.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/write.h"

enum { SLICE = 32 * 1024, PUT_MS = 60000 };

static const char *path_of(struct agent_call *call, struct error *err) {
    const char *path = agent_text(call, "path");

    if (path && *path == '/')
        return path;
    error_set(err, -EINVAL, "'path' must be an absolute path in the guest");
    return NULL;
}

static int send_file(struct agent_call *call, int fd, const char *path, struct error *err) {
    static uint8_t bytes[SLICE];
    ssize_t n;
    int r = 0;

    while (r == 0 && (n = read(fd, bytes, sizeof(bytes))) != 0) {
        if (n < 0 && errno != EINTR)
            return error_set(err, -errno, "'%s' in the guest cannot be read: %s", path,
                             strerror(errno));
        if (n > 0)
            r = agent_send(call->fd, AGENT_DATA, bytes, (size_t)n, err);
    }
    return r < 0 ? r : agent_send(call->fd, AGENT_DATA, NULL, 0, err);
}

int agent_get(struct agent_call *call, struct error *err) {
    const char *path = path_of(call, err);
    struct stat st;
    int fd, r;

    if (!path)
        return -EINVAL;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) < 0) {
        r = error_set(err, -errno, "'%s' in the guest cannot be opened: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        r = error_set(err, -EISDIR, "'%s' in the guest is no regular file: %s", path,
                      S_ISDIR(st.st_mode) ? "it is a folder, copy its files or an archive of it"
                                          : "devices, pipes and sockets are not copied");
    } else {
        r = agent_answer(call,
                         json_pack("{s:I, s:i, s:I}", "size", (json_int_t)st.st_size, "mode",
                                   (int)(st.st_mode & 07777), "mtime",
                                   (json_int_t)st.st_mtim.tv_sec),
                         err);
        if (r == 0)
            r = send_file(call, fd, path, err);
    }
    if (fd >= 0)
        close(fd);
    return r;
}

/* Frames of data until the empty one, into the file. */
static int receive_file(struct agent_call *call, int fd, const char *path, struct error *err) {
    enum agent_frame type;
    const uint8_t *p;
    size_t n;
    int r;

    while ((r = agent_receive(call->reader, PUT_MS, &type, &p, &n, err)) > 0) {
        if (type != AGENT_DATA)
            return error_set(err, -EPROTO, "a file consists of data, not of frames of type %u",
                             type);
        if (!n)
            return 0;
        r = write_all(fd, p, n);
        if (r < 0)
            return error_set(err, r, "'%s' in the guest cannot be written: %s", path, strerror(-r));
    }
    return r < 0 ? r : error_set(err, -ETIMEDOUT, "the host sent no more of '%s'", path);
}

/* The folder's entry is what makes the file found after a power cut. */
static int sync_folder(const char *path) {
    char *copy = strdup(path);
    int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1, r = -1;

    if (fd >= 0) {
        r = fsync(fd);
        close(fd);
    }
    free(copy);
    return r;
}

static int put_file(struct agent_call *call, const char *path, const char *temporary, int fd,
                    struct error *err) {
    int64_t mode, uid, gid;
    int r = agent_number(call, "mode", 0, 07777, 0644, &mode, err);

    if (r == 0)
        r = agent_number(call, "uid", -1, UINT32_MAX, -1, &uid, err);
    if (r == 0)
        r = agent_number(call, "gid", -1, UINT32_MAX, -1, &gid, err);
    if (r == 0)
        r = receive_file(call, fd, path, err);
    if (r < 0)
        return r;
    if (fchown(fd, (uid_t)uid, (gid_t)gid) < 0 || fchmod(fd, (mode_t)mode) < 0 || fsync(fd) < 0 ||
        rename(temporary, path) < 0 || sync_folder(path) < 0)
        return error_set(err, -errno, "'%s' in the guest cannot be put in place: %s", path,
                         strerror(errno));
    return 0;
}

int agent_put(struct agent_call *call, struct error *err) {
    const char *path = path_of(call, err);
    char *temporary = NULL;
    int fd, r;

    if (!path)
        return -EINVAL;
    if (asprintf(&temporary, "%s.viv-XXXXXX", path) < 0)
        return error_set(err, -ENOMEM, "the guest is out of memory");
    fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) {
        r = error_set(err, -errno, "'%s' in the guest cannot be made: %s", path, strerror(errno));
    } else {
        r = put_file(call, path, temporary, fd, err);
        close(fd);
        if (r < 0)
            unlink(temporary);
    }
    free(temporary);
    return r < 0 ? r : agent_answer(call, json_object(), err);
}
