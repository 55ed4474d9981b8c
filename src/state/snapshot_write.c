/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing a snapshot's folder so that a crash at any moment leaves either all of it or nothing
 * under its name: files into DIR.part, fsync of each, of the folder, rename, fsync of the parent.
 */
#include "state/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "state/snapshot_internal.h"

/*
 * Calls (main): openat lstat newfstatat readlink getcwd mkdir rmdir unlinkat renameat2 flock
 *     fsync fdatasync ftruncate
 */

static const char *const files[] = {"memory", "memory.index", "machine.json", "state"};
enum { FILES = sizeof(files) / sizeof(files[0]) };

/* ------------------------------------------------------------------ sections */

void snapshot_add(struct snapshot_sections *to, const char *name, enum snapshot_kind kind,
                  const void *data, size_t n) {
    size_t len = strlen(name);

    *(uint8_t *)buf_grow(&to->table, 1) = (uint8_t)len;
    buf_put(&to->table, name, len);
    *(uint8_t *)buf_grow(&to->table, 1) = (uint8_t)kind;
    buf_put_le64(&to->table, n);
    buf_put_le32(&to->table, crc32c(0, data, n));
    buf_put(&to->data, data, n);
    to->count++;
}

void snapshot_sections_done(struct snapshot_sections *s) {
    buf_done(&s->table);
    buf_done(&s->data);
    s->count = 0;
}

/* ------------------------------------------------------------------ files */

struct writing {
    const struct snapshot_image *image;
    char part[PATH_MAX];
    int dir_fd;
    uint8_t *index;
    size_t index_size;
    uint8_t *chunk, *theirs; /* a chunk of ours that is not in memory, and of the parent's */
};

static int failed(const struct writing *w, const char *what, int code, struct error *err) {
    const char *help = code == -ENOSPC || code == -EDQUOT ? "make room there and try again"
                                                          : "check the storage and try again";

    return error_set(err, code, "snapshot '%s': %s: %s; %s", w->image->dir, what, strerror(-code),
                     help);
}

static int write_at(const struct writing *w, int fd, const char *file, const void *bytes, size_t n,
                    uint64_t at, struct error *err) {
    const uint8_t *from = bytes;

    while (n) {
        ssize_t put = pwrite(fd, from, n, (off_t)at);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return failed(w, file, put < 0 ? -errno : -EIO, err);
        from += put;
        n -= (size_t)put;
        at += (uint64_t)put;
    }
    return 0;
}

static int create(const struct writing *w, const char *file, struct error *err) {
    int fd = openat(w->dir_fd, file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    return fd < 0 ? failed(w, file, -errno, err) : fd;
}

static int finish(const struct writing *w, int fd, const char *file, int code, struct error *err) {
    if (code == 0 && fsync(fd) < 0)
        code = failed(w, file, -errno, err);
    if (close(fd) < 0 && code == 0)
        code = failed(w, file, -errno, err);
    return code;
}

static int write_file(const struct writing *w, const char *file, const struct iovec *parts,
                      unsigned count, struct error *err) {
    int fd = create(w, file, err), code = 0;
    uint64_t at = 0;

    if (fd < 0)
        return fd;
    for (unsigned i = 0; i < count && code == 0; at += parts[i++].iov_len)
        code = write_at(w, fd, file, parts[i].iov_base, parts[i].iov_len, at, err);
    return finish(w, fd, file, code, err);
}

/* ------------------------------------------------------------------ `memory` and its index */

static uint8_t *kinds_of(const struct writing *w) {
    return w->index + INDEX_HEAD + load_le32(w->index + INDEX_PATH_SIZE);
}

static bool is_zero(const uint8_t *p) { return !*p && !memcmp(p, p + 1, SNAPSHOT_PAGE - 1); }

static bool may_differ(const struct writing *w, uint64_t page, uint64_t count) {
    const struct snapshot_image *im = w->image;

    return !im->parent || !im->may_differ || im->may_differ(im->opaque, page, count);
}

static enum snapshot_page kind_of(const struct writing *w, uint64_t number, const uint8_t *page,
                                  const uint8_t *theirs) {
    if (!w->image->prove && !may_differ(w, number, 1))
        return SNAPSHOT_PARENT;
    if (w->image->parent && !memcmp(page, theirs, SNAPSHOT_PAGE))
        return SNAPSHOT_PARENT;
    return is_zero(page) ? SNAPSHOT_ZERO : SNAPSHOT_HERE;
}

/* Notes what each page is, and writes runs of those that belong here. */
static int write_pages(const struct writing *w, int fd, uint64_t first, unsigned count,
                       const uint8_t *ours, uint32_t *ret_sum, struct error *err) {
    uint8_t *kinds = kinds_of(w);
    unsigned run = 0;
    int code = 0;

    for (unsigned i = 0; i <= count && code == 0; i++) {
        const uint8_t *page = ours + (size_t)i * SNAPSHOT_PAGE;
        uint64_t number = first + i;
        enum snapshot_page kind =
            i == count ? SNAPSHOT_ZERO
                       : kind_of(w, number, page, w->theirs + (size_t)i * SNAPSHOT_PAGE);

        if (i < count && kind != SNAPSHOT_PARENT && !may_differ(w, number, 1))
            return error_set(err, -EBADE,
                             "snapshot '%s': page %llu differs from its parent's, though nobody "
                             "is known to have written to it; this is a mistake of this program",
                             w->image->dir, (unsigned long long)number);
        if (i < count)
            kinds[number / 4] |= (uint8_t)(kind << number % 4 * 2);
        if (kind == SNAPSHOT_HERE) {
            *ret_sum = crc32c(*ret_sum, page, SNAPSHOT_PAGE);
            run++;
        } else if (run) {
            code = write_at(w, fd, "memory", page - (size_t)run * SNAPSHOT_PAGE,
                            (size_t)run * SNAPSHOT_PAGE, (first + i - run) * SNAPSHOT_PAGE, err);
            run = 0;
        }
    }
    return code;
}

/* Of the parent's pages those that ours may differ from. */
static int read_theirs(const struct writing *w, uint64_t first, unsigned count, struct error *err) {
    const struct snapshot_image *im = w->image;
    unsigned run = 0;
    int code = 0;

    for (unsigned i = 0; i <= count && code == 0; i++) {
        if (i < count && (im->prove || may_differ(w, first + i, 1))) {
            run++;
            continue;
        }
        if (run)
            code = snapshot_read(im->parent, first + i - run, run,
                                 w->theirs + (size_t)(i - run) * SNAPSHOT_PAGE, err);
        run = 0;
    }
    return code;
}

static int write_chunk(const struct writing *w, int fd, uint64_t chunk, struct error *err) {
    const struct snapshot_image *im = w->image;
    uint64_t first = chunk * SNAPSHOT_CHUNK, left = im->pages - first;
    unsigned count = left < SNAPSHOT_CHUNK ? (unsigned)left : SNAPSHOT_CHUNK;
    bool same = !im->prove && !may_differ(w, first, count);
    const uint8_t *ours = same ? w->chunk : im->pages_at(im->opaque, first, count, w->chunk, err);
    uint32_t sum = 0;
    int code = ours ? 0 : -EIO;

    if (code == 0 && im->parent && !same)
        code = read_theirs(w, first, count, err);
    if (code == 0)
        code = write_pages(w, fd, first, count, ours, &sum, err);
    store_le32(kinds_of(w) + snapshot_kinds_size(im->pages) + 4 * chunk, sum);
    if (code == 0 && im->progress)
        im->progress(im->progress_opaque, first + count);
    return code;
}

static int write_memory(const struct writing *w, struct error *err) {
    int fd = create(w, "memory", err), code = 0;

    if (fd < 0)
        return fd;
    if (ftruncate(fd, (off_t)(w->image->pages * SNAPSHOT_PAGE)) < 0)
        code = failed(w, "memory", -errno, err);
    for (uint64_t i = 0; code == 0 && i < snapshot_chunks(w->image->pages); i++)
        code = write_chunk(w, fd, i, err);
    return finish(w, fd, "memory", code, err);
}

/* The folder that holds `dir`. */
static void folder_of(const char *dir, char ret[static PATH_MAX]) {
    const char *slash = strrchr(dir, '/');

    if (slash)
        snprintf(ret, PATH_MAX, "%.*s", slash == dir ? 1 : (int)(slash - dir), dir);
    else
        snprintf(ret, PATH_MAX, ".");
}

/* Snapshots in one folder may move together: then only the parent's name is kept. */
static void parent_path(const struct snapshot_image *im, char ret[static PATH_MAX]) {
    char folder[PATH_MAX], here[PATH_MAX];
    size_t n;

    *ret = 0;
    if (!im->parent)
        return;
    if (!realpath(im->parent->dir, ret)) {
        snprintf(ret, PATH_MAX, "%s", im->parent->dir);
        return;
    }
    n = (size_t)(strrchr(ret, '/') - ret);
    folder_of(im->dir, folder);
    if (realpath(folder, here) && strlen(here) == n && !strncmp(here, ret, n))
        memmove(ret, ret + n + 1, strlen(ret + n + 1) + 1);
}

static int prepare(struct writing *w, struct error *err) {
    const struct snapshot_image *im = w->image;
    uint64_t tail = snapshot_kinds_size(im->pages) + 4 * snapshot_chunks(im->pages);
    char path[PATH_MAX];
    size_t path_size;

    parent_path(im, path);
    path_size = strlen(path);
    if (im->pages > SNAPSHOT_PAGES_MAX || path_size > INDEX_PATH_MAX)
        return error_set(err, -E2BIG, "snapshot '%s': the machine or its paths are too large",
                         im->dir);
    w->index_size = INDEX_HEAD + path_size + tail;
    w->index = calloc(1, w->index_size);
    w->chunk = malloc((size_t)SNAPSHOT_CHUNK * SNAPSHOT_PAGE);
    w->theirs = calloc(SNAPSHOT_CHUNK, SNAPSHOT_PAGE);
    if (!w->index || !w->chunk || !w->theirs)
        return error_set(err, -ENOMEM, "snapshot '%s': out of memory", im->dir);
    memcpy(w->index, SNAPSHOT_INDEX_MAGIC, 8);
    store_le32(w->index + INDEX_VERSION, SNAPSHOT_VERSION);
    store_le32(w->index + INDEX_PATH_SIZE, (uint32_t)path_size);
    store_le64(w->index + INDEX_PAGES, im->pages);
    if (getrandom(w->index + INDEX_ID, SNAPSHOT_ID, 0) != SNAPSHOT_ID)
        return failed(w, "random numbers", -EIO, err);
    if (im->parent)
        memcpy(w->index + INDEX_PARENT_ID, im->parent->id, SNAPSHOT_ID);
    memcpy(w->index + INDEX_HEAD, path, path_size);
    return 0;
}

/* ------------------------------------------------------------------ the others */

static int write_state(const struct writing *w, struct error *err) {
    const struct snapshot_sections *s = w->image->sections;
    size_t json_size = strlen(w->image->json);
    uint8_t head[STATE_HEAD] = SNAPSHOT_STATE_MAGIC;
    struct iovec parts[] = {
        {head, sizeof(head)}, {s->table.data, s->table.len}, {s->data.data, s->data.len}};

    if (json_size > JSON_FILE_MAX || s->data.len > STATE_FILE_MAX / 2 ||
        s->count > STATE_SECTIONS_MAX)
        return error_set(err, -E2BIG, "snapshot '%s': the machine's state is too large",
                         w->image->dir);
    store_le32(head + STATE_VERSION, SNAPSHOT_VERSION);
    store_le32(head + STATE_SECTIONS, s->count);
    store_le32(head + STATE_TABLE_SIZE, (uint32_t)s->table.len);
    store_le32(head + STATE_JSON_SIZE, (uint32_t)json_size);
    store_le32(head + STATE_JSON_SUM, crc32c(0, w->image->json, json_size));
    store_le32(head + STATE_INDEX_SIZE, (uint32_t)w->index_size);
    store_le32(head + STATE_INDEX_SUM, crc32c(0, w->index, w->index_size));
    store_le32(head + STATE_HEAD_SUM,
               crc32c(crc32c(0, head, STATE_HEAD_SUM), s->table.data, s->table.len));
    return write_file(w, "state", parts, 3, err);
}

/* ------------------------------------------------------------------ the folder */

/* A DIR.part that somebody is writing is locked; one that a crash left is emptied. */
static int make_part(struct writing *w, struct error *err) {
    struct stat st;
    int n = snprintf(w->part, sizeof(w->part), "%s.part", w->image->dir);

    if (n < 0 || (size_t)n >= sizeof(w->part))
        return error_set(err, -ENAMETOOLONG, "snapshot '%s': the path is too long", w->image->dir);
    if (lstat(w->image->dir, &st) == 0)
        return error_set(err, -EEXIST,
                         "snapshot '%s': there is already something of that name; choose another "
                         "or remove it",
                         w->image->dir);
    if (mkdir(w->part, 0700) < 0 && errno != EEXIST)
        return failed(w, "its folder cannot be made", -errno, err);
    w->dir_fd = open(w->part, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (w->dir_fd < 0)
        return failed(w, "its folder cannot be opened", -errno, err);
    if (flock(w->dir_fd, LOCK_EX | LOCK_NB) < 0)
        return error_set(err, -EBUSY,
                         "snapshot '%s': another one of that name is being written; wait for it "
                         "or choose another name",
                         w->image->dir);
    for (unsigned i = 0; i < FILES; i++)
        if (unlinkat(w->dir_fd, files[i], 0) < 0 && errno != ENOENT)
            return failed(w, files[i], -errno, err);
    return 0;
}

static int sync_folder(const struct writing *w, struct error *err) {
    char folder[PATH_MAX];
    int fd, code = 0;

    folder_of(w->image->dir, folder);
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        code = failed(w, "the folder around it", -errno, err);
    if (fd >= 0)
        close(fd);
    return code;
}

static int write_all(struct writing *w, struct error *err) {
    struct iovec index, json;
    int code = make_part(w, err);

    if (code == 0)
        code = prepare(w, err);
    if (code == 0)
        code = write_memory(w, err);
    index = (struct iovec){w->index, w->index_size};
    json = (struct iovec){(void *)w->image->json, strlen(w->image->json)};
    if (code == 0)
        code = write_file(w, "memory.index", &index, 1, err);
    if (code == 0)
        code = write_file(w, "machine.json", &json, 1, err);
    if (code == 0)
        code = write_state(w, err);
    if (code == 0 && fsync(w->dir_fd) < 0)
        code = failed(w, "its folder", -errno, err);
    if (code == 0 && renameat2(AT_FDCWD, w->part, AT_FDCWD, w->image->dir, RENAME_NOREPLACE) < 0)
        code = failed(w, "its folder cannot be renamed", -errno, err);
    return code;
}

/* What is half written goes: it may be what fills the disk. Only if it is ours (locked). */
static void remove_part(const struct writing *w) {
    for (unsigned i = 0; i < FILES; i++)
        unlinkat(w->dir_fd, files[i], 0);
    rmdir(w->part);
}

int snapshot_write(const struct snapshot_image *image, struct error *err) {
    struct writing w = {.image = image, .dir_fd = -1};
    int code = write_all(&w, err);

    if (code == 0)
        code = sync_folder(&w, err);
    else if (w.dir_fd >= 0 && code != -EBUSY)
        remove_part(&w);
    if (code == 0 && image->ret_id)
        memcpy(image->ret_id, w.index + INDEX_ID, SNAPSHOT_ID);
    if (w.dir_fd >= 0)
        close(w.dir_fd);
    free(w.index);
    free(w.chunk);
    free(w.theirs);
    return code;
}
