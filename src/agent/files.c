/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files of the guest: {"do": "get", "path": path} and {"do": "put", "path": path, "mode": n,
 * "uid": n, "gid": n}; with "tree": true folders, too. With "name" what is put goes by that name
 * into the path if this is a folder. A file that is put appears whole or not at all, and all of it
 * is on the disk when the answer comes.
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
#include "proto/tree.h"

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

static bool is_tree(const struct agent_call *call) {
    return json_is_true(json_object_get(call->request, "tree"));
}

static int send_tree(struct agent_call *call, int fd, const char *path, struct error *err) {
    int r = agent_answer(call, json_pack("{s:b}", "folder", 1), err);

    return r < 0 ? r : tree_send(call->fd, fd, path, err);
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
    } else if (S_ISDIR(st.st_mode) && is_tree(call)) {
        r = send_tree(call, fd, path, err);
    } else if (!S_ISREG(st.st_mode)) {
        r = error_set(err, -EISDIR, "'%s' in the guest is no regular file: %s", path,
                      S_ISDIR(st.st_mode) ? "it is a folder, which is copied with -r"
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

static int put_whole(struct agent_call *call, const char *path, struct error *err) {
    char *temporary = NULL;
    int fd, r;

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

static int put_tree(struct agent_call *call, const char *path, struct error *err) {
    struct tree_count count;
    int fd, r;

    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return error_set(err, -errno, "'%s' in the guest cannot be made: %s", path,
                         strerror(errno));
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_set(err, -errno, "'%s' in the guest cannot be opened: %s", path,
                         strerror(errno));
    r = tree_receive(call->reader, PUT_MS, fd, path, &count, err);
    if (r == 0 && (syncfs(fd) < 0 || sync_folder(path) < 0))
        r = error_set(err, -errno, "'%s' in the guest cannot be written: %s", path,
                      strerror(errno));
    close(fd);
    if (r < 0)
        return r;
    return agent_answer(call,
                        json_pack("{s:I, s:I}", "files", (json_int_t)count.files, "left_out",
                                  (json_int_t)count.left_out),
                        err);
}

int agent_put(struct agent_call *call, struct error *err) {
    const char *path = path_of(call, err), *name = agent_text(call, "name");
    char *within = NULL;
    struct stat st;
    int r;

    if (!path)
        return -EINVAL;
    if (name && stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        if (strchr(name, '/') || !strcmp(name, ".."))
            return error_set(err, -EINVAL, "'name' must be a name, not a path");
        if (asprintf(&within, "%s/%s", path, name) < 0)
            return error_set(err, -ENOMEM, "the guest is out of memory");
        path = within;
    }
    r = is_tree(call) ? put_tree(call, path, err) : put_whole(call, path, err);
    free(within);
    return r;
}
