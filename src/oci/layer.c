/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation. A layer's bytes pass three stations: they are read and summed up (digest),
 * unpacked by one archive reader of libarchive and summed up again (diff_id), and read as tar by a
 * second one. Nothing is kept: memory does not grow with the image.
 *
 * Departures: sockets are left out, since they mean nothing without their process. Entries that are
 * neither of POSIX nor of GNU's tar are left out as well.
 */
#include "oci/layer.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sha256.h"

enum { CHUNK = 128 * 1024 };
#define WHITEOUT ".wh."
#define OPAQUE   ".wh..wh..opq"

struct unpacker {
    struct oci_source *source;
    const struct oci_layer *layer;
    struct oci_fs *fs;
    const struct oci_limits *limits;
    const struct oci_progress *progress;
    uint64_t bytes, entries; /* so far, of all layers */
    uint64_t done, total;    /* of the layers' files */
    struct oci_file file;
    uint64_t at; /* in it */
    struct sha256 packed, unpacked;
    struct archive *inner; /* gives the tar archive */
    uint8_t in[CHUNK], out[CHUNK];
    struct error *err;
};

/* ------------------------------------------------------------------ the stations */

static la_ssize_t read_packed(struct archive *a, void *opaque, const void **ret) {
    struct unpacker *u = opaque;
    uint64_t left = u->file.size - u->at;
    ssize_t n =
        pread(u->file.fd, u->in, left < CHUNK ? left : CHUNK, (off_t)(u->file.offset + u->at));

    if (n < 0 || (n == 0 && left)) {
        error_set(u->err, -EIO, "the layer '%s' cannot be read: %s", u->layer->file,
                  n < 0 ? strerror(errno) : "it has become shorter");
        archive_set_error(a, EIO, "cannot be read");
        return -1;
    }
    sha256_put(&u->packed, u->in, (size_t)n);
    u->at += (uint64_t)n;
    u->done += (uint64_t)n;
    if (u->progress->fn)
        u->progress->fn(u->progress->opaque, u->done, u->total);
    *ret = u->in;
    return n;
}

static la_ssize_t read_unpacked(struct archive *a, void *opaque, const void **ret) {
    struct unpacker *u = opaque;
    la_ssize_t n = archive_read_data(u->inner, u->out, CHUNK);

    if (n < 0) {
        error_set(u->err, -EINVAL, "the layer '%s' cannot be unpacked: %s", u->layer->file,
                  archive_error_string(u->inner));
        archive_set_error(a, EINVAL, "cannot be unpacked");
        return -1;
    }
    u->bytes += (uint64_t)n;
    if (u->bytes > u->limits->bytes) {
        error_set(u->err, -EFBIG, "the image becomes larger than %llu MiB when it is unpacked",
                  (unsigned long long)(u->limits->bytes >> 20));
        archive_set_error(a, EFBIG, "too large");
        return -1;
    }
    sha256_put(&u->unpacked, u->out, (size_t)n);
    *ret = u->out;
    return n;
}

static int broken(struct unpacker *u, struct archive *a) {
    return error_set(u->err, -EINVAL, "the layer '%s' is damaged: %s", u->layer->file,
                     archive_error_string(a) ? archive_error_string(a) : "no archive");
}

/* ------------------------------------------------------------------ entries */

static int copy_data(struct unpacker *u, struct archive *a, int64_t size) {
    const void *data;
    la_int64_t offset;
    size_t n;
    int r;

    while ((r = archive_read_data_block(a, &data, &n, &offset)) == ARCHIVE_OK)
        if (n && (offset < 0 || offset > size || (int64_t)n > size - offset))
            return error_set(u->err, -EINVAL,
                             "the layer '%s' has a file with more bytes than it "
                             "tells",
                             u->layer->file);
        else if (n && fs_write(u->fs, (uint64_t)offset, data, n, u->err) < 0)
            return -EIO;
    return r == ARCHIVE_EOF ? fs_finish_file(u->fs, (uint64_t)size, u->err) : broken(u, a);
}

static int put_xattrs(struct unpacker *u, struct archive_entry *e) {
    const void *value;
    const char *name;
    size_t n;
    int r = 0;

    archive_entry_xattr_reset(e);
    while (r == 0 && archive_entry_xattr_next(e, &name, &value, &n) == ARCHIVE_OK)
        if (name && value && strlen(name) < 256)
            r = fs_xattr(u->fs, name, value, n, u->err);
    return r;
}

static uint32_t id_of(la_int64_t id) { return id < 0 || id > UINT32_MAX ? 0 : (uint32_t)id; }

static struct fs_meta meta_of(struct archive_entry *e) {
    return (struct fs_meta){.mode = archive_entry_filetype(e) | (archive_entry_perm(e) & 07777),
                            .uid = id_of(archive_entry_uid(e)),
                            .gid = id_of(archive_entry_gid(e)),
                            .mtime = archive_entry_mtime(e),
                            .mtime_ns = (uint32_t)archive_entry_mtime_nsec(e),
                            .major = (uint32_t)archive_entry_rdevmajor(e),
                            .minor = (uint32_t)archive_entry_rdevminor(e),
                            .size = archive_entry_sparse_count(e) ? -1 : archive_entry_size(e)};
}

static int put_file(struct unpacker *u, struct archive *a, struct archive_entry *e,
                    const char *path, const struct fs_meta *m) {
    int r;

    if (archive_entry_size(e) < 0)
        return broken(u, a);
    r = fs_make(u->fs, path, m, u->err);
    if (r == 0)
        r = put_xattrs(u, e);
    return r < 0 ? r : copy_data(u, a, archive_entry_size(e));
}

static int put_entry(struct unpacker *u, struct archive *a, struct archive_entry *e,
                     const char *path) {
    const char *target = archive_entry_hardlink(e);
    struct fs_meta m = meta_of(e);
    int r;

    if (target)
        return fs_link(u->fs, path, target, u->err);
    switch (archive_entry_filetype(e)) {
    case AE_IFREG:
        return put_file(u, a, e, path, &m);
    case AE_IFDIR:
    case AE_IFCHR:
    case AE_IFBLK:
    case AE_IFIFO:
        r = fs_make(u->fs, path, &m, u->err);
        break;
    case AE_IFLNK:
        target = archive_entry_symlink(e);
        r = fs_symlink(u->fs, path, target ? target : "", &m, u->err);
        break;
    default:
        return 0;
    }
    return r < 0 ? r : put_xattrs(u, e);
}

/* Whiteouts; 1: it is none. */
static int take_whiteout(struct unpacker *u, const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    int folder = (int)(name - path);
    char *where = NULL;
    int r;

    if (strncmp(name, WHITEOUT, sizeof(WHITEOUT) - 1) != 0)
        return 1;
    if (!strcmp(name, OPAQUE)) {
        r = asprintf(&where, "%.*s", folder, path);
        r = r < 0 ? -ENOMEM : fs_empty(u->fs, where, u->err);
    } else if (!strncmp(name, ".wh..wh.", 8)) {
        return 0; /* of aufs, for itself */
    } else if (!strcmp(name + 4, "") || !strcmp(name + 4, ".") || !strcmp(name + 4, "..")) {
        return error_set(u->err, -EINVAL, "the layer '%s' has a whiteout without a name: '%.200s'",
                         u->layer->file, path);
    } else {
        r = asprintf(&where, "%.*s%s", folder, path, name + 4);
        r = r < 0 ? -ENOMEM : fs_remove(u->fs, where, u->err);
    }
    free(where);
    return r;
}

static int take_entry(struct unpacker *u, struct archive *a, struct archive_entry *e) {
    const char *path = archive_entry_pathname(e);
    int r;

    if (!path)
        path = archive_entry_pathname_utf8(e);
    if (!path)
        return broken(u, a);
    if (++u->entries > u->limits->entries)
        return error_set(u->err, -EFBIG, "the image has more than %llu files",
                         (unsigned long long)u->limits->entries);
    r = take_whiteout(u, path);
    return r == 1 ? put_entry(u, a, e, path) : r;
}

/* ------------------------------------------------------------------ one layer */

/* The tar archive ends before its file, and sums are those of all bytes. */
static int read_rest(struct unpacker *u) {
    const void *unused;
    la_ssize_t n = 1;

    while (n > 0)
        n = read_unpacked(u->inner, u, &unused);
    while (n == 0 && u->at < u->file.size)
        if (read_packed(u->inner, u, &unused) < 0)
            return -EIO;
    return n < 0 ? -EINVAL : 0;
}

static int check_sum(const struct unpacker *u, struct sha256 *s, const char *digest,
                     const char *what) {
    char sum[SHA256_TEXT];

    if (!*digest)
        return 0;
    sha256_end_text(s, sum);
    return strcmp(sum, digest + 7)
               ? error_set(u->err, -EINVAL, "the layer '%s' is damaged: %s is %s, not %s",
                           u->layer->file, what, sum, digest + 7)
               : 0;
}

static int open_inner(struct unpacker *u) {
    struct archive_entry *e;

    archive_read_support_filter_gzip(u->inner);
    archive_read_support_filter_zstd(u->inner);
    archive_read_support_filter_xz(u->inner);
    archive_read_support_filter_bzip2(u->inner);
    archive_read_support_format_raw(u->inner);
    archive_read_support_format_empty(u->inner);
    if (archive_read_open(u->inner, u, NULL, read_packed, NULL) != ARCHIVE_OK)
        return broken(u, u->inner);
    return archive_read_next_header(u->inner, &e) == ARCHIVE_FATAL ? broken(u, u->inner) : 0;
}

static int read_entries(struct unpacker *u, struct archive *tar) {
    struct archive_entry *e;
    int r, done = 0;

    archive_read_support_format_tar(tar);
    archive_read_support_format_empty(tar);
    if (archive_read_open(tar, u, NULL, read_unpacked, NULL) != ARCHIVE_OK)
        return broken(u, tar);
    while (done == 0 && (r = archive_read_next_header(tar, &e)) != ARCHIVE_EOF)
        done = r == ARCHIVE_OK || r == ARCHIVE_WARN ? take_entry(u, tar, e) : broken(u, tar);
    return done;
}

static int unpack_layer(struct unpacker *u) {
    struct archive *tar = archive_read_new();
    int r = oci_file_open(u->source, u->layer->file, &u->file, u->err);

    if (r < 0) {
        archive_read_free(tar);
        return r;
    }
    u->inner = archive_read_new();
    u->at = 0;
    sha256_begin(&u->packed);
    sha256_begin(&u->unpacked);
    fs_begin_layer(u->fs);
    r = tar && u->inner ? open_inner(u) : error_set(u->err, -ENOMEM, "out of memory");
    if (r == 0)
        r = read_entries(u, tar);
    if (r == 0)
        r = read_rest(u);
    if (r == 0)
        r = check_sum(u, &u->packed, u->layer->digest, "its SHA-256");
    if (r == 0)
        r = check_sum(u, &u->unpacked, u->layer->diff_id, "that of what it holds");
    archive_read_free(tar);
    archive_read_free(u->inner);
    oci_file_close(&u->file);
    return r;
}

int oci_unpack(struct oci_source *s, const struct oci_image *image, struct oci_fs *fs,
               const struct oci_limits *limits, const struct oci_progress *progress,
               struct error *err) {
    struct unpacker *u = calloc(1, sizeof(*u));
    int r = u ? 0 : error_set(err, -ENOMEM, "the layers: out of memory");

    if (!u)
        return r;
    *u = (struct unpacker){
        .source = s, .fs = fs, .limits = limits, .progress = progress, .err = err};
    for (unsigned i = 0; i < image->layers; i++)
        u->total += image->layer[i].size;
    for (unsigned i = 0; i < image->layers && r == 0; i++) {
        u->layer = &image->layer[i];
        r = unpack_layer(u);
    }
    free(u);
    return r;
}
