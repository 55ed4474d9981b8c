/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images with their chains of backing files.
 *
 * The format of a file is never guessed where a guest could have written what is guessed from: a
 * backing file without a format in its overlay is looked at, as every program does, because guests
 * do not write backing files.
 */
#include "block/chain.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/block_internal.h"
#include "block/file.h"

/*
 * Calls (main, job): openat stat newfstatat readlink getcwd unlink fsync
 */

enum { TRY_PIECES = 64 };

/* ------------------------------------------------------------------ files of the engine */

struct engine_file {
    struct bytefile base;
    struct file *file;
};

static struct file *engine(struct bytefile *f) { return ((struct engine_file *)f)->file; }

static int engine_readv(struct bytefile *f, const struct iovec *iov, unsigned count,
                        uint64_t offset) {
    return offset > INT64_MAX ? -EFBIG : file_read(engine(f), offset, iov, count);
}

static int engine_writev(struct bytefile *f, const struct iovec *iov, unsigned count,
                         uint64_t offset) {
    return offset > INT64_MAX ? -EFBIG : file_write(engine(f), offset, iov, count);
}

static int engine_sync(struct bytefile *f) { return file_flush(engine(f)); }

static int engine_punch(struct bytefile *f, uint64_t offset, uint64_t length) {
    return file_discard(engine(f), offset, length); /* advice is enough for a format */
}

static int engine_truncate(struct bytefile *f, uint64_t size) {
    return file_truncate(engine(f), size);
}

static int engine_zero(struct bytefile *f, uint64_t offset, uint64_t length, bool unmap) {
    return file_zero(engine(f), offset, length, unmap);
}

static int engine_extent(struct bytefile *f, uint64_t offset, uint64_t *ret_data,
                         uint64_t *ret_hole) {
    return file_extent(engine(f), offset, ret_data, ret_hole);
}

static int engine_set_writable(struct bytefile *f, const char *path, bool writable,
                               struct error *err) {
    return file_set_writable(engine(f), path, writable, err);
}

static int engine_size(struct bytefile *f, uint64_t *ret_size) {
    *ret_size = file_size(engine(f));
    return 0;
}

static bool engine_try(struct bytefile *f, bool write, const struct iovec *iov, unsigned count,
                       uint64_t offset, uint64_t length) {
    struct block_request req = {.op = write ? BLOCK_WRITE : BLOCK_READ,
                                .offset = offset,
                                .length = length,
                                .iov = iov,
                                .iov_count = count};
    int result;

    return file_try(engine(f), &req, offset, &result) && result == 0;
}

static void engine_close(struct bytefile *f) {
    file_close(engine(f));
    free(f);
}

static const struct bytefile_ops engine_ops = {
    .readv = engine_readv,
    .writev = engine_writev,
    .sync = engine_sync,
    .punch = engine_punch,
    .truncate = engine_truncate,
    .size = engine_size,
    .try_rw = engine_try,
    .extent = engine_extent,
    .zero = engine_zero,
    .set_writable = engine_set_writable,
    .close = engine_close,
};

struct file *chain_engine_file(const struct chain *i) {
    struct bytefile *f = i->qcow2 ? qcow2_file(i->qcow2) : i->file;

    return f && f->ops == &engine_ops ? engine(f) : NULL;
}

static struct bytefile *open_engine_file(const struct chain_options *o, struct error *err) {
    struct engine_file *f = calloc(1, sizeof(*f));
    struct stat st;

    if (!f) {
        error_set(err, -ENOMEM, "disk image '%s': out of memory", o->path);
        return NULL;
    }
    f->base.ops = &engine_ops;
    f->base.grows = stat(o->path, &st) == 0 && S_ISREG(st.st_mode);
    f->file = file_open(o->block, o->engine, o->path, o->readonly, err);
    if (f->file)
        return &f->base;
    free(f);
    return NULL;
}

/* ------------------------------------------------------------------ open */

static struct bytefile *open_file(const struct chain_options *o, struct chain *i,
                                  struct error *err) {
    struct bytefile_options b = {.path = o->path,
                                 .readonly = o->readonly,
                                 .no_sync = o->no_sync,
                                 .lock = o->no_lock ? BYTEFILE_LOCK_NONE : BYTEFILE_LOCK_IMAGE};
    struct bytefile *f = o->file    ? o->file
                         : o->block ? open_engine_file(o, err)
                                    : bytefile_open(&b, err);
    struct stat st;

    if (f && stat(o->path, &st) == 0) {
        i->dev = st.st_dev;
        i->ino = st.st_ino;
    }
    return f;
}

static int open_raw(struct chain *i, struct bytefile *f, struct error *err) {
    int r = f->ops->size(f, &i->size);

    i->file = f;
    i->size = (i->size + 511) & ~511ull;
    return r < 0 ? error_set(err, r, "disk image '%s' tells no size: %s", i->path, strerror(-r))
                 : 0;
}

static int open_format(struct chain *i, const struct chain_options *o, struct error *err) {
    struct bytefile *f = open_file(o, i, err);
    struct qcow2_open q = {.path = o->path, .readonly = o->readonly, .no_repair = o->no_repair};
    struct qcow2_info info;
    bool qcow2;

    if (!f)
        return -EINVAL;
    qcow2 = o->format ? !strcmp(o->format, "qcow2") : qcow2_has_magic(f);
    if (!qcow2 && o->format && strcmp(o->format, "raw") != 0) {
        bytefile_close(f);
        return error_set(err, -ENOTSUP,
                         "disk image '%s': the format '%s' is not supported; convert it: viv-img "
                         "convert -f %s -O qcow2 '%s' new.qcow2",
                         o->path, o->format, o->format, o->path);
    }
    if (!qcow2)
        return open_raw(i, f, err);
    i->qcow2 = qcow2_open(f, &q, err);
    if (!i->qcow2)
        return -EINVAL;
    qcow2_info(i->qcow2, &info);
    i->size = info.size;
    return 0;
}

static struct chain *open_layer(const struct chain_options *o, struct error *err) {
    struct chain *i = calloc(1, sizeof(*i));

    if (!i || !(i->path = strdup(o->path))) {
        free(i);
        error_set(err, -ENOMEM, "disk image '%s': out of memory", o->path);
        return NULL;
    }
    i->readonly = o->readonly;
    if (open_format(i, o, err) == 0)
        return i;
    free(i->path);
    bytefile_close(i->file);
    free(i);
    return NULL;
}

char *chain_backing_path(const char *image, const char *name) {
    const char *slash = strrchr(image, '/');
    char *path = NULL;

    if (!strncmp(name, "file:", 5))
        name += 5;
    if (*name == '/' || !slash)
        return strdup(name);
    if (asprintf(&path, "%.*s/%s", (int)(slash - image), image, name) < 0)
        return NULL;
    return path;
}

static int below_read(void *opaque, const struct span *s, uint64_t offset, uint64_t length) {
    return chain_read(opaque, s, offset, length);
}

static int check_name(const struct chain *i, const char *name, struct error *err) {
    const char *colon = strchr(name, ':'), *slash = strchr(name, '/');

    if (!colon || (slash && slash < colon) || !strncmp(name, "file:", 5))
        return 0;
    return error_set(err, -ENOTSUP,
                     "disk image '%s' has the backing file '%s', which is no file of this host; "
                     "give it another: viv-img rebase -u -b FILE -F FORMAT",
                     i->path, name);
}

/* By its name alone, or as older versions wrote it, by its whole path. */
static bool is_beside(const char *image, const char *name) {
    const char *slash = strrchr(image, '/');
    char *here = slash ? strndup(image, (size_t)(slash - image + 1)) : strdup(".");
    char *there =
        strrchr(name, '/') ? strndup(name, (size_t)(strrchr(name, '/') - name + 1)) : NULL;
    const char *base = there ? strrchr(name, '/') + 1 : name;
    struct stat a, b;
    bool same = here && (there || !strchr(name, '/'));

    if (same && there)
        same = *name == '/' && stat(here, &a) == 0 && stat(there, &b) == 0 &&
               a.st_dev == b.st_dev && a.st_ino == b.st_ino;
    free(here);
    free(there);
    return same && *base && strcmp(base, ".") != 0 && strcmp(base, "..") != 0;
}

static int check_allowed(const struct chain *i, const char *name, const char *allowed,
                         struct error *err) {
    if (!allowed ||
        (strcmp(allowed, "none") != 0 && (is_beside(i->path, name) || !strcmp(allowed, name))))
        return 0;
    return error_set(err, -EPERM,
                     "disk image '%s' has the backing file '%s', which it is not to have: whoever "
                     "wrote to the image may have put that there (backing=%s)",
                     i->path, name, allowed);
}

/* Is the file of `below` one of those above it? */
static bool in_chain(const struct chain *top, const struct chain *below) {
    for (; top && top != below; top = top->backing)
        if (top->dev == below->dev && top->ino == below->ino)
            return true;
    return false;
}

/* The layer below `i`, of the chain that begins at top; *ret NULL: there is none. */
static int open_next(struct chain *top, struct chain *i, const struct chain_options *o,
                     struct chain **ret, struct error *err) {
    struct chain_options next = *o;
    struct qcow2_info info;
    struct chain *below;
    char *path;
    int r;

    *ret = NULL;
    if (!i->qcow2)
        return 0;
    qcow2_info(i->qcow2, &info);
    if (!*info.backing)
        return 0;
    r = check_name(i, info.backing, err);
    if (r == 0)
        r = check_allowed(i, info.backing, o->backing, err);
    if (r < 0)
        return r;
    path = chain_backing_path(i->path, info.backing);
    if (!path)
        return error_set(err, -ENOMEM, "disk image '%s': out of memory", i->path);
    next.path = path;
    next.file = NULL;
    next.readonly = true;
    next.format = *info.backing_format ? info.backing_format : NULL;
    below = open_layer(&next, err);
    free(path);
    if (!below) {
        if (err && err->code)
            error_prefix(err, "the backing file of '%s'", i->path);
        return -EINVAL;
    }
    i->backing = below;
    if (in_chain(top, below))
        return error_set(err, -ELOOP,
                         "disk image '%s': its chain of backing files comes back to '%s'; give it "
                         "another backing file: viv-img rebase -u",
                         top->path, below->path);
    qcow2_set_below(i->qcow2, below_read, below, below->size);
    *ret = below;
    return 0;
}

int chain_open_backing(struct chain *i, const struct chain_options *o, struct error *err) {
    struct chain *at = i;
    int r = 0;

    for (unsigned depth = 0; r == 0 && at; depth++) {
        if (depth == CHAIN_MAX_DEPTH)
            return error_set(err, -ELOOP,
                             "disk image '%s' has more than %d backing files; shorten the chain: "
                             "viv-img commit or convert",
                             i->path, CHAIN_MAX_DEPTH);
        r = open_next(i, at, o, &at, err);
    }
    return r;
}

struct chain *chain_open(const struct chain_options *o, struct error *err) {
    struct chain *i = open_layer(o, err);

    if (i && !o->no_backing && chain_open_backing(i, o, err) < 0) {
        chain_close(i);
        return NULL;
    }
    return i;
}

int chain_close(struct chain *i) {
    int r = 0;

    while (i) {
        struct chain *next = i->backing;
        int closed = qcow2_close(i->qcow2);

        r = r < 0 ? r : closed;
        if (i->file && !i->readonly && r == 0)
            r = i->file->ops->sync(i->file);
        bytefile_close(i->file);
        free(i->path);
        free(i);
        i = next;
    }
    return r;
}

/* ------------------------------------------------------------------ making and rearranging */

/* The name of a new file must survive a loss of power, too. */
static int sync_folder(const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder = slash == path ? strdup("/")
                   : slash       ? strndup(path, (size_t)(slash - path))
                                 : strdup(".");
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    int r = fd >= 0 && fsync(fd) < 0 && errno != EINVAL ? -errno : 0;

    if (fd >= 0)
        close(fd);
    free(folder);
    return r;
}

int chain_create(const struct chain_create *c, struct error *err) {
    struct bytefile_options o = {
        .path = c->path, .create = true, .exclusive = true, .lock = BYTEFILE_LOCK_IMAGE};
    struct qcow2_create q = {.size = c->size,
                             .cluster_bits = c->cluster_bits,
                             .backing = c->backing,
                             .backing_format = c->backing_format};
    struct bytefile *f = bytefile_open(&o, err);
    int r;

    if (!f)
        return err && err->code ? err->code : -EINVAL;
    if (!strcmp(c->format, "qcow2"))
        r = qcow2_create(f, c->path, &q, err);
    else if ((r = f->ops->truncate(f, c->size)) < 0 || (r = f->ops->sync(f)) < 0)
        error_set(err, r, "disk image '%s' cannot be made as large: %s; make room", c->path,
                  strerror(-r));
    if (r == 0 && (r = sync_folder(c->path)) < 0)
        error_set(err, r, "the folder of disk image '%s' cannot be flushed: %s", c->path,
                  strerror(-r));
    bytefile_close(f);
    if (r < 0)
        unlink(c->path);
    return r;
}

int chain_resize(struct chain *i, uint64_t size, struct error *err) {
    int r = i->qcow2 ? qcow2_resize(i->qcow2, size, err) : i->file->ops->truncate(i->file, size);

    if (r == 0)
        i->size = size;
    return r < 0 && !i->qcow2
               ? error_set(err, r, "disk image '%s' cannot be resized: %s", i->path, strerror(-r))
               : r;
}

static int set_file_writable(struct chain *i, bool writable, struct error *err) {
    struct bytefile *f = i->qcow2 ? qcow2_file(i->qcow2) : i->file;

    return f->ops->set_writable ? f->ops->set_writable(f, i->path, writable, err) : 0;
}

int chain_set_writable(struct chain *i, bool writable, struct error *err) {
    int r = writable ? set_file_writable(i, true, err) : 0;

    if (r == 0 && i->qcow2 && (r = qcow2_set_writable(i->qcow2, writable, err)) < 0 && writable)
        set_file_writable(i, false, NULL);
    if (r == 0 && !writable && !i->qcow2 && (r = i->file->ops->sync(i->file)) < 0)
        error_set(err, r, "disk image '%s' cannot be flushed: %s", i->path, strerror(-r));
    if (r == 0 && !writable)
        r = set_file_writable(i, false, err);
    if (r == 0)
        i->readonly = !writable;
    return r;
}

void chain_attach(struct chain *i, struct chain *backing) {
    i->backing = backing;
    qcow2_set_below(i->qcow2, backing ? below_read : NULL, backing, backing ? backing->size : 0);
}

char *chain_absolute_path(const struct chain *i) {
    char *path = realpath(i->path, NULL);

    return path ? path : strdup(i->path);
}

char *chain_name_for(const char *image, const struct chain *below) {
    char *path = chain_absolute_path(below), *name = path ? strrchr(path, '/') : NULL;
    const char *slash = strrchr(image, '/');
    char *folder = slash ? strndup(image, (size_t)(slash - image + 1)) : strdup(".");
    char *real = folder ? realpath(folder, NULL) : NULL;

    if (name && real && strlen(real) == (size_t)(name - path) &&
        !strncmp(real, path, (size_t)(name - path)))
        memmove(path, name + 1, strlen(name)); /* with its end */
    free(folder);
    free(real);
    return path;
}

struct chain *chain_find(struct chain *top, const char *path) {
    struct stat st;

    for (struct chain *i = top; i; i = i->backing)
        if (!strcmp(i->path, path))
            return i;
    if (stat(path, &st) < 0)
        return NULL;
    while (top && (top->dev != st.st_dev || top->ino != st.st_ino))
        top = top->backing;
    return top;
}

const char *chain_format(const struct chain *i) { return i->qcow2 ? "qcow2" : "raw"; }

/* ------------------------------------------------------------------ data */

static int in_disk(const struct chain *i, uint64_t offset, uint64_t length) {
    return offset <= i->size && length <= i->size - offset ? 0 : -EINVAL;
}

int chain_read(struct chain *i, const struct span *s, uint64_t offset, uint64_t length) {
    if (i->qcow2)
        return qcow2_read(i->qcow2, s, offset, length);
    return in_disk(i, offset, length) < 0 ? -EINVAL
                                          : bytefile_transfer(i->file, false, s, length, offset);
}

int chain_write(struct chain *i, const struct span *s, uint64_t offset, uint64_t length) {
    if (i->qcow2)
        return qcow2_write(i->qcow2, s, offset, length);
    return in_disk(i, offset, length) < 0 ? -EINVAL
                                          : bytefile_transfer(i->file, true, s, length, offset);
}

int chain_zero(struct chain *i, uint64_t offset, uint64_t length, bool unmap) {
    if (i->qcow2)
        return qcow2_zero(i->qcow2, offset, length, unmap);
    return in_disk(i, offset, length) < 0 ? -EINVAL : bytefile_zero(i->file, offset, length, unmap);
}

int chain_discard(struct chain *i, uint64_t offset, uint64_t length) {
    int r;

    if (i->qcow2)
        return qcow2_discard(i->qcow2, offset, length);
    r = in_disk(i, offset, length) < 0 ? -EINVAL : i->file->ops->punch(i->file, offset, length);
    return r == -EOPNOTSUPP ? 0 : r;
}

int chain_flush(struct chain *i) {
    return i->qcow2 ? qcow2_flush(i->qcow2) : i->file->ops->sync(i->file);
}

int chain_settle(struct chain *i) {
    return i->qcow2 ? qcow2_settle(i->qcow2) : i->file->ops->sync(i->file);
}

/* ------------------------------------------------------------------ map */

static int map_raw(struct chain *i, uint64_t offset, uint64_t length, struct chain_run *ret) {
    uint64_t end = offset + length, data = offset, hole = end;

    if (i->file->ops->extent && i->file->ops->extent(i->file, offset, &data, &hole) < 0) {
        data = offset;
        hole = end;
    }
    ret->present = true;
    ret->has_host = true;
    ret->host = offset;
    ret->data = data <= offset;
    ret->zero = !ret->data;
    ret->length = (ret->data ? hole : data) - offset;
    if (ret->length > length)
        ret->length = length;
    return 0;
}

static void from_qcow2(const struct qcow2_run *q, struct chain_run *ret) {
    ret->present = q->type != QCOW2_UNALLOCATED;
    ret->zero = q->type == QCOW2_ZERO || q->type == QCOW2_UNALLOCATED;
    ret->data = q->type == QCOW2_DATA || q->type == QCOW2_COMPRESSED;
    ret->compressed = q->type == QCOW2_COMPRESSED;
    ret->has_host = q->type == QCOW2_DATA || (q->type == QCOW2_ZERO && q->host);
    ret->host = q->host;
}

int chain_map(struct chain *i, uint64_t offset, uint64_t length, struct chain_run *ret_run) {
    struct chain_run run = {.length = length};
    struct qcow2_run q;
    int r = in_disk(i, offset, length);

    for (; r == 0; i = i->backing, run.depth++) {
        if (offset >= i->size) { /* behind the end of a shorter layer: zeroes */
            run.zero = true;
            run.present = true;
            break;
        }
        if (run.length > i->size - offset)
            run.length = i->size - offset;
        if (!i->qcow2) {
            r = map_raw(i, offset, run.length, &run);
            break;
        }
        r = qcow2_map(i->qcow2, offset, run.length, &q);
        if (r < 0)
            break;
        run.length = q.length;
        from_qcow2(&q, &run);
        if (run.present || !i->backing)
            break;
    }
    if (r == 0)
        *ret_run = run;
    return r;
}
