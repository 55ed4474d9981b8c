/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Folders from one end of a connection to the other. */
#include "proto/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/write.h"

enum { SLICE = 32 * 1024, NS = 1000000000 };

static const struct timespec never = {.tv_nsec = UTIME_OMIT};

const char *tree_last(const char *path, char out[256], struct error *err) {
    size_t end = strlen(path), start;

    while (end && path[end - 1] == '/')
        end--;
    for (start = end; start && path[start - 1] != '/';)
        start--;
    if (end - start > NAME_MAX || (end - start == 2 && !memcmp(path + start, "..", 2))) {
        error_set(err, -EINVAL, "'%s' says no name that a copy could have: end it with the name",
                  path);
        return NULL;
    }
    memcpy(out, path + start, end - start);
    out[end - start] = 0;
    return out;
}

/* ------------------------------------------------------------------ sending */

/* Nanoseconds since 1970, those of the year 2262 or 1677 if it is beyond. */
static int64_t nanoseconds(const struct timespec *t) {
    int64_t ns;

    if (__builtin_mul_overflow((int64_t)t->tv_sec, NS, &ns) ||
        __builtin_add_overflow(ns, (int64_t)t->tv_nsec, &ns))
        return t->tv_sec < 0 ? INT64_MIN : INT64_MAX;
    return ns;
}

static int send_entry(int fd, enum tree_kind kind, const struct stat *st, const char *name,
                      const char *target, struct error *err) {
    uint8_t bytes[TREE_HEAD + NAME_MAX + PATH_MAX];
    size_t n = strlen(name), t = strlen(target);

    bytes[0] = (uint8_t)kind;
    store_le32(bytes + 1, st ? st->st_mode & 0777 : 0);
    store_le64(bytes + 5, st ? (uint64_t)nanoseconds(&st->st_mtim) : 0);
    store_le16(bytes + 13, (uint16_t)n);
    memcpy(bytes + TREE_HEAD, name, n);
    memcpy(bytes + TREE_HEAD + n, target, t);
    return agent_send(fd, AGENT_ENTRY, bytes, TREE_HEAD + n + t, err);
}

static int cannot_read(const char *folder, const char *name, struct error *err) {
    return error_set(err, -errno, "'%s/%s' cannot be read: %s", folder, name, strerror(errno));
}

static int send_file(int fd, int folder, const char *within, const char *name, struct error *err) {
    int file = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    uint8_t *bytes = malloc(SLICE);
    struct stat st;
    ssize_t n = 0;
    int r = 0;

    if (!bytes || file < 0 || fstat(file, &st) < 0)
        r = cannot_read(within, name, err);
    else if (!S_ISREG(st.st_mode)) /* another one since it was looked at */
        r = send_entry(fd, TREE_OTHER, &st, name, "", err);
    else {
        r = send_entry(fd, TREE_FILE, &st, name, "", err);
        while (r == 0 && (n = read(file, bytes, SLICE)) > 0)
            r = agent_send(fd, AGENT_DATA, bytes, (size_t)n, err);
        if (r == 0)
            r = n < 0 ? cannot_read(within, name, err) : agent_send(fd, AGENT_DATA, NULL, 0, err);
    }
    if (file >= 0)
        close(file);
    free(bytes);
    return r;
}

static int send_folder(int fd, int folder, const char *within, unsigned depth, struct error *err);

static int send_subfolder(int fd, int folder, const char *within, const char *name, unsigned depth,
                          struct error *err) {
    int sub = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r;
    char *path = NULL;
    struct stat st;

    if (sub < 0 || fstat(sub, &st) < 0 || asprintf(&path, "%s/%s", within, name) < 0) {
        r = cannot_read(within, name, err);
    } else if (depth == TREE_DEEPEST) {
        r = error_set(err, -ELOOP, "'%s' lies %d folders deep: copy an archive of it", path,
                      TREE_DEEPEST);
    } else {
        r = send_entry(fd, TREE_FOLDER, &st, name, "", err);
        if (r == 0)
            r = send_folder(fd, sub, path, depth + 1, err);
    }
    free(path);
    if (sub >= 0)
        close(sub);
    return r;
}

static int send_one(int fd, int folder, const char *within, const char *name, unsigned depth,
                    struct error *err) {
    char target[PATH_MAX];
    struct stat st;
    ssize_t n;

    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : cannot_read(within, name, err); /* deleted meanwhile */
    if (S_ISREG(st.st_mode))
        return send_file(fd, folder, within, name, err);
    if (S_ISDIR(st.st_mode))
        return send_subfolder(fd, folder, within, name, depth, err);
    if (!S_ISLNK(st.st_mode))
        return send_entry(fd, TREE_OTHER, &st, name, "", err);
    n = readlinkat(folder, name, target, sizeof(target) - 1);
    if (n < 0)
        return cannot_read(within, name, err);
    target[n] = 0;
    return send_entry(fd, TREE_LINK, &st, name, target, err);
}

static int send_folder(int fd, int folder, const char *within, unsigned depth, struct error *err) {
    int again = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* fdopendir takes it */
    DIR *d = again < 0 ? NULL : fdopendir(again);
    struct dirent *e;
    int r = 0;

    if (!d) {
        r = error_set(err, -errno, "'%s' cannot be read: %s", within, strerror(errno));
        if (again >= 0)
            close(again);
        return r;
    }
    while (r == 0 && (errno = 0, e = readdir(d)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            r = send_one(fd, folder, within, e->d_name, depth, err);
    if (r == 0 && errno)
        r = error_set(err, -errno, "'%s' cannot be read: %s", within, strerror(errno));
    closedir(d);
    return r < 0 ? r : send_entry(fd, TREE_UP, NULL, "", "", err);
}

int tree_send(int fd, int folder, const char *name, struct error *err) {
    return send_folder(fd, folder, name, 1, err);
}

/* ------------------------------------------------------------------ receiving */

struct entry {
    enum tree_kind kind;
    mode_t mode;
    struct timespec changed;
    char name[NAME_MAX + 1], target[PATH_MAX];
};

struct level {
    int fd;
    mode_t mode;
    struct timespec changed;
    size_t path_len; /* of the path without this level */
};

struct receiver {
    struct agent_reader *from;
    int timeout_ms;
    struct tree_count count;
    struct buf path; /* for sentences */
    struct level levels[TREE_DEEPEST + 1];
    unsigned depth; /* the innermost is levels[depth] */
};

static int folder_of(const struct receiver *t) { return t->levels[t->depth].fd; }

static int cannot_write(const struct receiver *t, const char *name, struct error *err) {
    return error_set(err, -errno, "'%.*s/%s' cannot be written: %s", (int)t->path.len,
                     (const char *)t->path.data, name, strerror(errno));
}

static bool is_name(const char *s, size_t n) {
    return n && n <= NAME_MAX && !memchr(s, '/', n) && !memchr(s, 0, n) &&
           !(s[0] == '.' && (n == 1 || (n == 2 && s[1] == '.')));
}

static int parse(const uint8_t *p, size_t n, struct entry *ret, struct error *err) {
    size_t name = n < TREE_HEAD ? 0 : load_le16(p + 13), target = n - TREE_HEAD - name;
    const char *text = (const char *)p + TREE_HEAD;
    int64_t ns;

    if (n < TREE_HEAD || name > n - TREE_HEAD || p[0] > TREE_OTHER)
        return error_set(err, -EPROTO, "an entry of the copy is damaged");
    *ret = (struct entry){.kind = p[0], .mode = load_le32(p + 1) & 0777};
    ns = (int64_t)load_le64(p + 5);
    ret->changed.tv_nsec = ns % NS + (ns % NS < 0 ? NS : 0);
    ret->changed.tv_sec = ns / NS - (ns % NS < 0);
    if (ret->kind == TREE_UP)
        return 0;
    if (!is_name(text, name))
        return error_set(err, -EPROTO, "an entry of the copy has a name that none can have");
    if (target >= sizeof(ret->target) || memchr(text + name, 0, target) ||
        !target != (ret->kind != TREE_LINK))
        return error_set(err, -EPROTO, "an entry of the copy leads where none can lead");
    memcpy(ret->name, text, name);
    memcpy(ret->target, text + name, target);
    return 0;
}

/* The next frame, which must be of that type. */
static int next(struct receiver *t, enum agent_frame want, const uint8_t **ret, size_t *ret_len,
                struct error *err) {
    enum agent_frame type;
    int r = agent_receive(t->from, t->timeout_ms, &type, ret, ret_len, err);

    if (r == 0)
        return error_set(err, -ETIMEDOUT, "the other end of the copy sent no more in time");
    if (r < 0)
        return r;
    if (type == AGENT_RESULT) {
        json_t *v = agent_json(*ret, *ret_len, err);
        const char *text = json_string_value(json_object_get(v, "error"));

        error_set(err, -EIO, "%s", text ? text : "the other end gave up");
        json_decref(v);
        return -EIO;
    }
    return type == want ? 0
                        : error_set(err, -EPROTO, "a frame of type %u came within a copy", type);
}

/* A name that nothing has; of a file or link that gets its own when it is complete. */
static void temporary_name(char out[32]) {
    uint64_t n = 0;

    if (getrandom(&n, sizeof(n), 0) != sizeof(n))
        n = (uint64_t)getpid();
    snprintf(out, 32, ".viv-%016llx", (unsigned long long)n);
}

static int receive_bytes(struct receiver *t, const struct entry *e, int file, struct error *err) {
    const struct timespec times[2] = {never, e->changed};
    const uint8_t *p;
    size_t n;
    int r;

    while ((r = next(t, AGENT_DATA, &p, &n, err)) == 0 && n) {
        r = write_all(file, p, n);
        if (r < 0) {
            errno = -r;
            return cannot_write(t, e->name, err);
        }
        t->count.bytes += n;
    }
    if (r == 0 && (fchmod(file, e->mode) < 0 || futimens(file, times) < 0))
        r = cannot_write(t, e->name, err);
    return r;
}

static int receive_file(struct receiver *t, const struct entry *e, struct error *err) {
    int folder = folder_of(t), file, r;
    char temporary[32];

    temporary_name(temporary);
    file = openat(folder, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0)
        return cannot_write(t, e->name, err);
    r = receive_bytes(t, e, file, err);
    if (close(file) < 0 && r == 0)
        r = cannot_write(t, e->name, err);
    if (r == 0 && renameat(folder, temporary, folder, e->name) < 0)
        r = cannot_write(t, e->name, err);
    if (r < 0)
        unlinkat(folder, temporary, 0);
    return r;
}

static int receive_link(struct receiver *t, const struct entry *e, struct error *err) {
    const struct timespec times[2] = {never, e->changed};
    int folder = folder_of(t);
    char temporary[32];

    temporary_name(temporary);
    if (symlinkat(e->target, folder, temporary) < 0)
        return cannot_write(t, e->name, err);
    (void)utimensat(folder, temporary, times, AT_SYMLINK_NOFOLLOW); /* not every file system can */
    if (renameat(folder, temporary, folder, e->name) == 0)
        return 0;
    cannot_write(t, e->name, err);
    unlinkat(folder, temporary, 0);
    return err->code;
}

static int enter(struct receiver *t, const struct entry *e, struct error *err) {
    struct level *l = &t->levels[t->depth + 1];
    int folder = folder_of(t);

    if (t->depth == TREE_DEEPEST)
        return error_set(err, -ELOOP, "the copy is deeper than %d folders", TREE_DEEPEST);
    if (mkdirat(folder, e->name, 0700) < 0 && errno != EEXIST)
        return cannot_write(t, e->name, err);
    l->fd = openat(folder, e->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (l->fd < 0)
        return cannot_write(t, e->name, err);
    l->mode = e->mode;
    l->changed = e->changed;
    l->path_len = t->path.len;
    buf_printf(&t->path, "/%s", e->name);
    t->depth++;
    return 0;
}

/* Only now does it get its mode, which may forbid writing, and the time of its last change. */
static int leave(struct receiver *t, struct error *err) {
    struct level *l = &t->levels[t->depth];
    const struct timespec times[2] = {never, l->changed};
    bool done = fchmod(l->fd, l->mode) == 0 && futimens(l->fd, times) == 0;

    if (!done)
        cannot_write(t, ".", err);
    close(l->fd);
    t->path.len = l->path_len;
    t->depth--;
    return done ? 0 : err->code;
}

/* 1: the end of the whole. */
static int receive_entry(struct receiver *t, struct error *err) {
    struct entry e;
    const uint8_t *p;
    size_t n;
    int r = next(t, AGENT_ENTRY, &p, &n, err);

    if (r == 0)
        r = parse(p, n, &e, err);
    if (r < 0)
        return r;
    if (e.kind == TREE_UP)
        return t->depth ? leave(t, err) : 1;
    if (e.kind == TREE_OTHER) {
        t->count.left_out++;
        return 0;
    }
    t->count.files++;
    return e.kind == TREE_FILE   ? receive_file(t, &e, err)
           : e.kind == TREE_LINK ? receive_link(t, &e, err)
                                 : enter(t, &e, err);
}

int tree_receive(struct agent_reader *from, int timeout_ms, int folder, const char *name,
                 struct tree_count *ret, struct error *err) {
    struct receiver *t = calloc(1, sizeof(*t));
    int r;

    if (!t)
        return error_set(err, -ENOMEM, "out of memory");
    t->from = from;
    t->timeout_ms = timeout_ms;
    t->levels[0].fd = folder;
    buf_printf(&t->path, "%s", name);
    while ((r = receive_entry(t, err)) == 0)
        ;
    for (; t->depth; t->depth--)
        close(t->levels[t->depth].fd);
    *ret = t->count;
    buf_done(&t->path);
    free(t);
    return r < 0 ? r : 0;
}
