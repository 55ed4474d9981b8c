/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Import and export of disks.
 *
 * Images from elsewhere may name other files: a backing file, extents of a VMDK. Such a name could
 * be any file of this host, so these are refused, before anything of them is read.
 */
#include "host/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/convert.h"
#include "block/foreign.h"
#include "host/ova.h"
#include "host/tree.h"
#include "proto/place.h"

enum { SECTOR = 512, CHUNK = 1 << 20, SIGN = 32 };

static bool is(const char *a, const char *b) { return !strcmp(a, b); }

/* What qemu-img calls it. */
static const char *qemu_name(const char *format) { return is(format, "vhd") ? "vpc" : format; }

/* ------------------------------------------------------------------ what it is */

/* A file, not something that blocks or has no end. */
static int look_at_file(const char *path, struct stat *st, uint8_t sign[SIGN], struct error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int r = 0;

    memset(sign, 0, SIGN);
    if (fd < 0 || fstat(fd, st) < 0)
        r = error_set(err, -errno, "the file '%s' cannot be read: %s", path, strerror(errno));
    else if (!S_ISREG(st->st_mode))
        r = error_set(err, -EINVAL, "'%s' is no file", path);
    else if (st->st_size == 0)
        r = error_set(err, -EINVAL, "the file '%s' is empty", path);
    else if (pread(fd, sign, SIGN, 0) < 0)
        r = error_set(err, -errno, "the file '%s' cannot be read: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return r;
}

static const char *format_of(const char *path, const uint8_t sign[SIGN]) {
    const char *foreign = foreign_format(path);

    if (foreign)
        return is(foreign, "vpc") ? "vhd" : foreign;
    return memcmp(sign, "QFI\xfb", 4) ? "raw" : "qcow2";
}

/* ------------------------------------------------------------------ qcow2 */

static void note_progress(void *opaque, uint64_t done, uint64_t total) {
    struct transfer *t = opaque;

    __atomic_store_n(t->of, (int64_t)total, __ATOMIC_RELAXED);
    __atomic_store_n(t->done, (int64_t)done, __ATOMIC_RELAXED);
}

static int sync_file(const char *path, struct error *err) {
    int fd = open(path, O_RDWR | O_CLOEXEC), r = fd < 0 || fsync(fd) < 0 ? -errno : 0;

    if (fd >= 0)
        close(fd);
    return r < 0 ? error_set(err, r, "'%s' cannot be written: %s", path, strerror(-r)) : 0;
}

/* From a chain that is open to a new file. */
static int copy_chain(struct transfer *t, struct chain *from, const char *path, const char *format,
                      struct error *err) {
    const struct chain_create make = {.path = path, .format = format, .size = from->size};
    const struct chain_options o = {.path = path, .format = format, .no_sync = true};
    struct convert c = {
        .from = from, .threads = 1, .stop = t->stop, .progress = note_progress, .opaque = t};
    int r, closed;

    if (chain_create(&make, err) < 0 || !(c.to = chain_open(&o, err)))
        return -EIO;
    r = convert_all(&c);
    closed = chain_close(c.to);
    r = r < 0 ? r : closed;
    if (r == -ECANCELED)
        return error_set(err, r, "it was cancelled");
    return r < 0 ? error_set(err, r, "'%s' cannot be copied to '%s': %s", from->path, path,
                             strerror(-r))
                 : sync_file(path, err);
}

static int import_qcow2(struct transfer *t, struct error *err) {
    const struct chain_options o = {
        .path = t->file, .format = "qcow2", .readonly = true, .no_backing = true};
    struct chain *from = chain_open(&o, err);
    struct qcow2_info info;
    int r;

    if (!from)
        return -EINVAL;
    qcow2_info(from->qcow2, &info);
    if (*info.backing)
        r = error_set(err, -EINVAL,
                      "'%s' is only what differs from another image, '%.200s': join both first "
                      "(viv-img convert) and import the result",
                      t->file, info.backing);
    else
        r = copy_chain(t, from, t->disk, "raw", err);
    chain_close(from);
    return r;
}

/* ------------------------------------------------------------------ raw */

static int copy_raw(struct transfer *t, const char *from, const char *to, struct error *err) {
    char folder[PATH_MAX];
    const char *slash = strrchr(to, '/');
    int fd, r;

    snprintf(folder, sizeof(folder), "%.*s", (int)(slash - to + 1), to);
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_set(err, -errno, "the folder '%s': %s", folder, strerror(errno));
    r = tree_copy(from, fd, slash + 1, t->done, t->stop, err);
    close(fd);
    return r;
}

/* ------------------------------------------------------------------ by qemu-img */

/* Files that a VMDK consists of: only itself. */
static bool has_others(const json_t *info, const char *path) {
    const json_t *data = json_object_get(json_object_get(info, "format-specific"), "data"), *one;
    size_t i;

    if (json_object_get(info, "backing-filename") || json_object_get(info, "full-backing-filename"))
        return true;
    json_array_foreach(json_object_get(data, "extents"), i, one) {
        const char *name = json_string_value(json_object_get(one, "filename"));

        if (!name || !is(name, path))
            return true;
    }
    return false;
}

/* A sparse extent of one file has a size; descriptors name files, which would be opened. */
static bool is_whole_vmdk(const uint8_t sign[SIGN]) {
    return !memcmp(sign, "KDMV", 4) && load_le64(sign + 12) != 0;
}

static int refuse_parts(const char *path, struct error *err) {
    return error_set(
        err, -EINVAL,
        "'%s' refers to other files: join them first (qemu-img convert) and import the "
        "result",
        path);
}

static int check_foreign(struct transfer *t, const char *format, const char *source,
                         struct error *err) {
    char *argv[] = {"qemu-img",
                    "info",
                    "--output=json",
                    "-f",
                    (char *)(uintptr_t)format,
                    "--",
                    (char *)(uintptr_t)source,
                    NULL};
    char *output = NULL;
    json_t *info;
    int r = child_run(t, argv, &output, err);

    if (r < 0)
        return r;
    info = json_loads(output, 0, NULL);
    if (!info)
        r = error_set(err, -EIO, "qemu-img says nothing of '%s' that can be understood", t->file);
    else if (source == t->file && has_others(info, source))
        r = refuse_parts(t->file, err);
    else if (json_object_get(info, "backing-filename"))
        r = refuse_parts(t->file, err);
    json_decref(info);
    free(output);
    return r;
}

/* A file, or with a size what lies at an offset of it; first: the bytes there. */
static int convert_foreign(struct transfer *t, const char *format, const char *source,
                           const uint8_t first[SIGN], struct error *err) {
    const char *qemu = qemu_name(format);
    char *argv[] = {"qemu-img",
                    "convert",
                    "-p",
                    "-f",
                    (char *)(uintptr_t)qemu,
                    "-O",
                    "raw",
                    "--",
                    (char *)(uintptr_t)source,
                    (char *)(uintptr_t)t->disk,
                    NULL};
    int r = is(format, "vmdk") && !is_whole_vmdk(first) ? refuse_parts(t->file, err) : 0;

    if (r == 0)
        r = check_foreign(t, qemu, source, err);
    if (r == 0)
        r = child_run(t, argv, NULL, err);
    return r < 0 ? r : sync_file(t->disk, err);
}

/* ------------------------------------------------------------------ OVA */

/* The name by which qemu-img opens a part of a file. */
static char *part_of(const char *file, const struct ova_disk *d) {
    json_t *v = json_pack("{s:{s:s, s:I, s:I, s:{s:s, s:s}}}", "file", "driver", "raw", "offset",
                          (json_int_t)d->offset, "size", (json_int_t)d->size, "file", "driver",
                          "file", "filename", file);
    char *text = v ? json_dumps(v, JSON_COMPACT) : NULL, *out = NULL;

    if (text && asprintf(&out, "json:%s", text) < 0)
        out = NULL;
    free(text);
    json_decref(v);
    return out;
}

static int import(struct transfer *t, unsigned depth, struct error *err);

/* Unpacked to a file beside the disk, and imported from there. */
static int import_packed(struct transfer *t, uint64_t offset, uint64_t size, unsigned depth,
                         struct error *err) {
    char program[PATH_MAX], plain[PATH_MAX], at[24], length[24];
    char *argv[] = {program,      "expand",   (char *)(uintptr_t)t->file,
                    "--disk",     plain,      "--offset",
                    at,           "--length", length,
                    "--progress", NULL};
    struct transfer inner = *t;
    int r;

    place_program("viv-oci", program);
    snprintf(at, sizeof(at), "%llu", (unsigned long long)offset);
    snprintf(length, sizeof(length), "%llu", (unsigned long long)size);
    if (snprintf(plain, sizeof(plain), "%s.plain", t->disk) >= (int)sizeof(plain))
        return error_set(err, -ENAMETOOLONG, "the path of the images' folder is too long");
    unlink(plain);
    r = child_run(t, argv, NULL, err);
    inner.file = plain;
    if (size) /* of an OVA: the format was that of the archive */
        inner.format = "";
    if (r == 0)
        r = import(&inner, depth + 1, err);
    t->found = inner.found;
    unlink(plain);
    return r;
}

static int import_ova(struct transfer *t, unsigned depth, struct error *err) {
    uint8_t first[SIGN] = {0};
    struct ova_disk d;
    char *source;
    int fd, r = ova_find(t, t->reference ? t->reference : "", &d, err);

    if (r < 0)
        return r;
    if (d.gzip)
        return import_packed(t, d.offset, d.size, depth, err);
    fd = open(t->file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || pread(fd, first, SIGN, (off_t)d.offset) < SIGN)
        r = error_set(err, -EIO, "the disk '%s' of '%s' cannot be read", d.name, t->file);
    if (fd >= 0)
        close(fd);
    source = r == 0 ? part_of(t->file, &d) : NULL;
    if (r == 0 && !source)
        r = error_set(err, -EINVAL, "the name of '%s' is no UTF-8", t->file);
    if (r == 0)
        r = convert_foreign(
            t,
            memcmp(first, "vhdxfile", 8) ? memcmp(first, "conectix", 8) ? "vmdk" : "vhd" : "vhdx",
            source, first, err);
    free(source);
    return r;
}

/* ------------------------------------------------------------------ in */

static bool is_packed(const uint8_t sign[SIGN]) {
    return !memcmp(sign, "\x1f\x8b\x08", 3) || !memcmp(sign, "\x28\xb5\x2f\xfd", 4) ||
           !memcmp(sign, "\xfd\x37zXZ", 6) || !memcmp(sign, "BZh", 3);
}

static int import(struct transfer *t, unsigned depth, struct error *err) {
    uint8_t sign[SIGN];
    struct stat st;
    int r = look_at_file(t->file, &st, sign, err);

    if (r < 0)
        return r;
    if (!is(t->format, "raw") && is_packed(sign)) /* a raw one is what it says */
        return depth ? error_set(err, -EINVAL, "the file is compressed more than once")
                     : import_packed(t, 0, 0, depth, err);
    t->found = *t->format ? t->format : format_of(t->file, sign);
    __atomic_store_n(t->of, (int64_t)st.st_size, __ATOMIC_RELAXED);
    if (is(t->found, "qcow2"))
        return import_qcow2(t, err);
    if (is(t->found, "ova"))
        return import_ova(t, depth, err);
    if (!is(t->found, "raw"))
        return convert_foreign(t, t->found, t->file, sign, err);
    if (st.st_size % SECTOR)
        return error_set(err, -EINVAL,
                         "'%s' is no disk image that is known: a raw one would consist of whole "
                         "sectors of %d bytes",
                         t->file, SECTOR);
    return copy_raw(t, t->file, t->disk, err);
}

int transfer_import(struct transfer *t, struct error *err) {
    struct stat st;
    int r = import(t, 0, err);

    if (r == 0 && stat(t->disk, &st) < 0)
        r = error_set(err, -errno, "'%s': %s", t->disk, strerror(errno));
    if (r == 0)
        t->size = st.st_size;
    else
        unlink(t->disk);
    return r;
}

/* ------------------------------------------------------------------ out */

static int export(struct transfer *t, const char *path, struct error *err) {
    const char *format = *t->format ? t->format : "raw";
    const struct chain_options o = {.path = t->disk, .format = "raw", .readonly = true};
    bool vhd = is(format, "vhd");
    /* Without force_size the size of a VHD would become one that cylinders make up. */
    char *argv[] = {"qemu-img",
                    "convert",
                    "-p",
                    "-f",
                    "raw",
                    "-O",
                    (char *)(uintptr_t)qemu_name(format),
                    "-oforce_size=on",
                    "--",
                    (char *)(uintptr_t)t->disk,
                    (char *)(uintptr_t)path,
                    NULL};
    struct chain *from;
    int r;

    if (is(format, "raw"))
        return copy_raw(t, t->disk, path, err);
    if (is(format, "qcow2")) {
        from = chain_open(&o, err);
        r = from ? copy_chain(t, from, path, "qcow2", err) : -EIO;
        chain_close(from);
        return r;
    }
    if (is(format, "ova"))
        return ova_write(t, path, err);
    if (!vhd) {
        argv[7] = argv[8];
        memmove(argv + 8, argv + 9, 3 * sizeof(argv[0]));
    }
    r = child_run(t, argv, NULL, err);
    return r < 0 ? r : sync_file(path, err);
}

int transfer_export(struct transfer *t, struct error *err) {
    char part[PATH_MAX];
    struct stat st;
    int r;

    if (snprintf(part, sizeof(part), "%s.part", t->file) >= (int)sizeof(part))
        return error_set(err, -ENAMETOOLONG, "the name of the file is too long");
    if (stat(t->disk, &st) < 0)
        return error_set(err, -errno, "the disk of the image is gone: '%s'", t->disk);
    t->size = st.st_size;
    __atomic_store_n(t->of, (int64_t)st.st_size, __ATOMIC_RELAXED);
    unlink(part); /* of a manager that was ended in the middle of this */
    r = export(t, part, err);
    if (r == 0 && rename(part, t->file) < 0)
        r = error_set(err, -errno, "'%s' cannot be written: %s", t->file, strerror(errno));
    if (r < 0)
        unlink(part);
    return r;
}

/* ------------------------------------------------------------------ checksum */

int transfer_checksum(struct transfer *t, char out[SHA256_TEXT], struct error *err) {
    int fd = open(t->disk, O_RDONLY | O_CLOEXEC);
    uint8_t *data = malloc(CHUNK);
    struct sha256 s;
    ssize_t n = fd < 0 || !data ? -1 : 1;

    sha256_begin(&s);
    __atomic_store_n(t->done, 0, __ATOMIC_RELAXED);
    __atomic_store_n(t->of, t->size, __ATOMIC_RELAXED);
    while (n > 0 && !__atomic_load_n(t->stop, __ATOMIC_RELAXED)) {
        n = read(fd, data, CHUNK);
        if (n > 0) {
            sha256_put(&s, data, (size_t)n);
            __atomic_fetch_add(t->done, n, __ATOMIC_RELAXED);
        }
    }
    if (n < 0)
        error_set(err, -EIO, "'%s' cannot be read: %s", t->disk, strerror(errno));
    free(data);
    if (fd >= 0)
        close(fd);
    if (n > 0)
        return error_set(err, -ECANCELED, "it was cancelled");
    sha256_end_text(&s, out);
    return n < 0 ? -EIO : 0;
}
