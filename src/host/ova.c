/* SPDX-License-Identifier: GPL-2.0-or-later */
/* OVA files (DSP0243, 5.3): ustar archives; the descriptor comes first, then the manifest with
 * checksums, then the disks in the order of the descriptor. */
#include "host/ova.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/tar.h"
#include "base/write.h"
#include "host/http.h"

enum { MOST_TEXT = 4 << 20, CHUNK = 1 << 20, MOST_DISKS = OVF_FILES };

struct contents {
    struct ova_disk disk[MOST_DISKS]; /* files that may be disks */
    unsigned disks;
    uint64_t ovf, ovf_size, mf, mf_size; /* 0: there is none */
};

static bool ends(const char *s, const char *end) {
    size_t n = strlen(s), e = strlen(end);

    return n >= e && !strcasecmp(s + n - e, end);
}

/* ------------------------------------------------------------------ looking */

static int take_member(void *opaque, const struct tar_member *m, struct error *err) {
    struct contents *c = opaque;
    const char *name = m->name + 2 * !strncmp(m->name, "./", 2);

    if (m->type != TAR_FILE || strlen(name) >= OVF_NAME)
        return 0;
    if (ends(name, ".ovf") && !c->ovf) {
        c->ovf = m->offset;
        c->ovf_size = m->size;
    } else if (ends(name, ".mf") && !c->mf) {
        c->mf = m->offset;
        c->mf_size = m->size;
    } else if (!ends(name, ".cert") && c->disks < MOST_DISKS) {
        struct ova_disk *d = &c->disk[c->disks++];

        *d = (struct ova_disk){.offset = m->offset, .size = m->size};
        snprintf(d->name, sizeof(d->name), "%.255s", name);
    }
    return 0;
}

static char *read_text(int fd, uint64_t at, uint64_t size, struct error *err) {
    char *text = size <= MOST_TEXT ? malloc(size + 1) : NULL;

    if (!text || pread(fd, text, size, (off_t)at) != (ssize_t)size) {
        free(text);
        error_set(err, -EINVAL, "the descriptor or manifest of the archive cannot be read");
        return NULL;
    }
    text[size] = 0;
    return text;
}

/* An archive without a descriptor, or one that tells of no disk: what is called like one. */
static void guess(const struct contents *c, struct ovf *o) {
    for (unsigned i = 0; i < c->disks; i++)
        if (ends(c->disk[i].name, ".vmdk") || ends(c->disk[i].name, ".vhd") ||
            ends(c->disk[i].name, ".vhdx"))
            memcpy(o->disk[o->disks++].file, c->disk[i].name, sizeof(c->disk[i].name));
}

static int read_descriptor(int fd, const struct contents *c, struct ovf *o, struct error *err) {
    char *text;
    int r;

    *o = (struct ovf){0};
    if (!c->ovf) {
        guess(c, o);
        return 0;
    }
    text = read_text(fd, c->ovf, c->ovf_size, err);
    r = text ? ovf_read(text, c->ovf_size, o, err) : -EINVAL;
    free(text);
    if (r == 0 && !o->disks)
        guess(c, o);
    return r;
}

/* ------------------------------------------------------------------ choosing */

static int refuse_several(const char *path, const struct ovf *o, const char *wanted,
                          struct error *err) {
    char names[400] = "";
    size_t at = 0;

    for (unsigned i = 0; i < o->disks && at < sizeof(names) - 1; i++)
        at += (size_t)snprintf(names + at, sizeof(names) - at, "%s%s", i ? ", " : "",
                               o->disk[i].file);
    if (*wanted)
        return error_set(err, -ENOENT, "'%s' holds no disk '%.100s'; there is %.400s", path, wanted,
                         names);
    return error_set(err, -EINVAL,
                     "'%s' holds several disks: import each as an image of its own, with "
                     "--reference NAME (%.400s)",
                     path, names);
}

static const struct ovf_disk *choose(const char *path, const struct ovf *o, const char *wanted,
                                     struct error *err) {
    const struct ovf_disk *found = NULL;

    if (!o->disks)
        error_set(err, -EINVAL, "the archive '%s' holds no disk (.vmdk)", path);
    for (unsigned i = 0; i < o->disks && !found; i++)
        if (*wanted ? !strcmp(o->disk[i].file, wanted) : o->disks == 1)
            found = &o->disk[i];
    if (o->disks && !found)
        refuse_several(path, o, wanted, err);
    if (found && (found->parts || found->delta)) {
        error_set(err, -EINVAL,
                  "the disk '%s' of '%s' %s: import it with what wrote it, and export "
                  "it again",
                  found->file, path,
                  found->parts ? "lies in several files" : "is only what differs from another one");
        found = NULL;
    }
    return found;
}

/* ------------------------------------------------------------------ checksums */

/* "SHA256(NAME)= HEX", also with blanks; false: the manifest tells none of it. */
static bool find_sum(const char *text, const char *name, char out[SHA256_TEXT]) {
    size_t n = strlen(name);

    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncasecmp(line, "SHA256", 6) != 0)
            continue;
        line += 6 + strspn(line + 6, " ");
        if (*line != '(' || strncmp(line + 1, name, n) != 0 || line[n + 1] != ')')
            continue;
        line += n + 2;
        line += strspn(line, " =");
        if (strspn(line, "0123456789abcdefABCDEF") < 64)
            return false;
        snprintf(out, SHA256_TEXT, "%.64s", line);
        return true;
    }
    return false;
}

static int sum_of(struct transfer *t, int fd, uint64_t at, uint64_t size, char out[SHA256_TEXT],
                  struct error *err) {
    uint8_t *data = malloc(CHUNK);
    uint64_t done = 0;
    struct sha256 s;
    int r = data ? 0 : error_set(err, -ENOMEM, "out of memory");

    sha256_begin(&s);
    __atomic_store_n(t->of, (int64_t)size, __ATOMIC_RELAXED);
    while (r == 0 && done < size) {
        ssize_t n = pread(fd, data, size - done < CHUNK ? size - done : CHUNK, (off_t)(at + done));

        if (__atomic_load_n(t->stop, __ATOMIC_RELAXED))
            r = error_set(err, -ECANCELED, "it was cancelled");
        else if (n <= 0)
            r = error_set(err, -EIO, "'%s' cannot be read: %s", t->file, strerror(n ? errno : EIO));
        else
            sha256_put(&s, data, (size_t)n);
        done += n > 0 ? (uint64_t)n : 0;
        __atomic_store_n(t->done, (int64_t)done, __ATOMIC_RELAXED);
    }
    free(data);
    if (r == 0)
        sha256_end_text(&s, out);
    return r;
}

static int check_sum(struct transfer *t, int fd, const struct contents *c, const struct ova_disk *d,
                     struct error *err) {
    char *text = c->mf ? read_text(fd, c->mf, c->mf_size, err) : NULL;
    char want[SHA256_TEXT], is[SHA256_TEXT];
    int r = c->mf && !text ? -EINVAL : 0;

    if (text && find_sum(text, d->name, want)) {
        r = sum_of(t, fd, d->offset, d->size, is, err);
        if (r == 0 && strcasecmp(want, is) != 0)
            r = error_set(err, -EINVAL,
                          "the disk '%s' of '%s' is damaged: its SHA-256 is %s, not %s", d->name,
                          t->file, is, want);
    }
    free(text);
    return r;
}

static const struct ova_disk *find_named(const struct contents *c, const char *name) {
    for (unsigned i = 0; i < c->disks; i++)
        if (!strcmp(c->disk[i].name, name))
            return &c->disk[i];
    return NULL;
}

/* References are URIs (7.1), but not everybody escapes them. */
static const struct ova_disk *find_file(const struct contents *c, const char *reference) {
    const struct ova_disk *d = find_named(c, reference);
    char name[OVF_NAME];

    snprintf(name, sizeof(name), "%s", reference);
    return d || !http_decode(name, false) ? d : find_named(c, name);
}

static int find_in(struct transfer *t, int fd, struct contents *c, struct ovf *o,
                   const char *wanted, struct ova_disk *ret, struct error *err) {
    const struct ovf_disk *d;
    const struct ova_disk *found;

    if (tar_walk(fd, t->file, take_member, c, err) < 0 || read_descriptor(fd, c, o, err) < 0 ||
        !(d = choose(t->file, o, wanted, err)))
        return -EINVAL;
    found = find_file(c, d->file);
    if (!found)
        return error_set(err, -EINVAL, "'%s' describes a disk '%s' that is not in it", t->file,
                         d->file);
    if (check_sum(t, fd, c, found, err) < 0)
        return -EINVAL;
    *ret = *found;
    ret->gzip = d->gzip;
    return 0;
}

int ova_find(struct transfer *t, const char *wanted, struct ova_disk *ret, struct error *err) {
    struct contents *c = calloc(1, sizeof(*c));
    struct ovf *o = calloc(1, sizeof(*o));
    int fd = open(t->file, O_RDONLY | O_CLOEXEC), r;

    if (fd < 0)
        r = error_set(err, -errno, "'%s' cannot be read: %s", t->file, strerror(errno));
    else if (!c || !o)
        r = error_set(err, -ENOMEM, "out of memory");
    else
        r = find_in(t, fd, c, o, wanted, ret, err);
    if (fd >= 0)
        close(fd);
    free(c);
    free(o);
    return r;
}

/* ------------------------------------------------------------------ writing */

static int write_padded(int fd, uint64_t size) {
    static const uint8_t zero[TAR_BLOCK];

    return write_all(fd, zero, -size & (TAR_BLOCK - 1));
}

static int put_text(int fd, const char *name, const struct buf *text) {
    uint8_t head[TAR_BLOCK];
    int r;

    tar_head(head, name, text->len, time(NULL));
    r = write_all(fd, head, sizeof(head));
    if (r == 0)
        r = write_all(fd, text->data, text->len);
    return r < 0 ? r : write_padded(fd, text->len);
}

static int put_disk(int fd, const char *name, int disk, uint64_t size) {
    uint8_t head[TAR_BLOCK], *data = malloc(CHUNK);
    int r = data ? 0 : -ENOMEM;
    uint64_t done = 0;

    tar_head(head, name, size, time(NULL));
    if (r == 0)
        r = write_all(fd, head, sizeof(head));
    while (r == 0 && done < size) {
        ssize_t n = pread(disk, data, CHUNK, (off_t)done);

        r = n > 0 ? write_all(fd, data, (size_t)n) : n < 0 ? -errno : -EIO;
        done += n > 0 ? (uint64_t)n : 0;
    }
    free(data);
    return r < 0 ? r : write_padded(fd, size);
}

/* Names within the archive: that of the file, of which tar and OVF take 90 bytes. */
static void base_name(const char *file, char out[96]) {
    const char *slash = strrchr(file, '/'), *name = slash ? slash + 1 : file;
    size_t n = strlen(name);

    if (ends(name, ".ova"))
        n -= 4;
    snprintf(out, 96, "%.*s", (int)(n < 80 ? n : 80), n ? name : "disk");
}

static int put_all(struct transfer *t, int disk, uint64_t size, const char *path,
                   struct error *err) {
    char name[96], ovf[112], mf[112], vmdk[112], sum[SHA256_TEXT];
    struct buf text = {0}, sums = {0};
    struct sha256 s;
    int fd = -1, r;

    base_name(t->file, name);
    snprintf(ovf, sizeof(ovf), "%s.ovf", name);
    snprintf(mf, sizeof(mf), "%s.mf", name);
    snprintf(vmdk, sizeof(vmdk), "%s-disk1.vmdk", name);
    ovf_write(&text, name, vmdk, (uint64_t)t->size, size);
    sha256_begin(&s);
    sha256_put(&s, text.data, text.len);
    sha256_end_text(&s, sum);
    buf_printf(&sums, "SHA256(%s)= %s\n", ovf, sum);
    r = sum_of(t, disk, 0, size, sum, err);
    buf_printf(&sums, "SHA256(%s)= %s\n", vmdk, sum);
    if (r == 0) {
        static const uint8_t end[2 * TAR_BLOCK];

        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        r = fd < 0 ? -errno : put_text(fd, ovf, &text);
        r = r < 0 ? r : put_text(fd, mf, &sums);
        r = r < 0 ? r : put_disk(fd, vmdk, disk, size);
        r = r < 0 ? r : write_all(fd, end, sizeof(end));
        if (r == 0 && fsync(fd) < 0)
            r = -errno;
        if (r < 0)
            error_set(err, r, "'%s' cannot be written: %s", path, strerror(-r));
    }
    if (fd >= 0)
        close(fd);
    buf_done(&text);
    buf_done(&sums);
    return r;
}

int ova_write(struct transfer *t, const char *path, struct error *err) {
    char vmdk[PATH_MAX];
    char *argv[] = {"qemu-img", "convert",
                    "-p",       "-f",
                    "raw",      "-O",
                    "vmdk",     "-osubformat=streamOptimized",
                    "--",       (char *)(uintptr_t)t->disk,
                    vmdk,       NULL};
    off_t size;
    int disk, r;

    if (snprintf(vmdk, sizeof(vmdk), "%s.vmdk", path) >= (int)sizeof(vmdk))
        return error_set(err, -ENAMETOOLONG, "the name of the file is too long");
    unlink(vmdk); /* of a manager that was ended in the middle of this */
    r = child_run(t, argv, NULL, err);
    disk = r < 0 ? -1 : open(vmdk, O_RDONLY | O_CLOEXEC);
    if (r == 0 && (disk < 0 || (size = lseek(disk, 0, SEEK_END)) < 0))
        r = error_set(err, -errno, "'%s' cannot be read: %s", vmdk, strerror(errno));
    else if (r == 0)
        r = put_all(t, disk, (uint64_t)size, path, err);
    if (disk >= 0)
        close(disk);
    unlink(vmdk);
    return r;
}
