/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Folders and tar archives as sets of files.
 *
 * Theory of operation. An archive is walked once, by its heads alone: the list of members says
 * where each lies, so that a blob of gigabytes is read only where it is wanted. A compressed one is
 * unpacked to a file without a name first. Of two members with the same name the last counts.
 */
#include "oci/source.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/tar.h"
#include "base/write.h"

enum {
    BLOCK = 512,
    NAME = 256, /* members with longer names are none of ours */
    MOST_MEMBERS = 100000,
    MOST_LINKS = 8,
    CHUNK = 64 * 1024,
};
static const uint64_t most_unpacked = 256ull << 30;

struct member {
    char name[NAME], link[NAME]; /* link "": a file */
    uint64_t offset, size;
};

struct oci_source {
    const char *path;
    int fd;
    bool folder;
    struct member *member;
    unsigned members;
};

/* ------------------------------------------------------------------ names */

/* "./a//b" as "a/b"; false if it is none of ours. */
static bool clean_name(const char *in, char out[NAME]) {
    size_t n = 0;

    while (*in) {
        size_t len = strcspn(in, "/");

        if (len == 2 && !strncmp(in, "..", 2))
            return false;
        if (len && !(len == 1 && *in == '.')) {
            if (n + len + 2 > NAME)
                return false;
            if (n)
                out[n++] = '/';
            memcpy(out + n, in, len);
            n += len;
        }
        in += len + (in[len] == '/');
    }
    out[n] = 0;
    return n > 0;
}

/* What a link in the folder of `from` means, which may begin with "..". */
static bool clean_link(const char *from, const char *target, char out[NAME]) {
    char joined[2 * NAME];
    const char *slash = strrchr(from, '/');
    size_t depth = (size_t)(slash ? slash - from : 0);

    while (!strncmp(target, "../", 3)) {
        if (!depth)
            return false;
        while (depth && from[depth - 1] != '/')
            depth--;
        depth -= depth > 0;
        target += 3;
    }
    snprintf(joined, sizeof(joined), "%.*s/%s", (int)depth, from, target);
    return *target != '/' && clean_name(joined, out);
}

/* ------------------------------------------------------------------ tar */

static int take_member(void *opaque, const struct tar_member *t, struct error *err) {
    struct oci_source *s = opaque;
    struct member *m;

    if (s->members == MOST_MEMBERS)
        return error_set(err, -EINVAL, "'%s' holds too many files to be an image", s->path);
    if (s->members % 64 == 0) {
        m = realloc(s->member, (s->members + 64) * sizeof(*m));
        if (!m)
            return error_set(err, -ENOMEM, "'%s': out of memory", s->path);
        s->member = m;
    }
    m = &s->member[s->members];
    *m = (struct member){.offset = t->offset, .size = t->size};
    if (!clean_name(t->name, m->name))
        return 0;
    if (t->type == TAR_LINK ? !clean_name(t->link, m->link)
                            : t->type == TAR_SYMLINK && !clean_link(m->name, t->link, m->link))
        return 0;
    s->members += t->type == TAR_FILE || *m->link;
    return 0;
}

/* ------------------------------------------------------------------ compressed archives */

static int copy_out(struct oci_source *s, struct archive *a, int to, struct error *err) {
    static char data[CHUNK];
    uint64_t total = 0;
    ssize_t n;

    while ((n = archive_read_data(a, data, sizeof(data))) > 0) {
        total += (uint64_t)n;
        if (total > most_unpacked)
            return error_set(err, -EFBIG, "'%s' becomes too large when it is unpacked", s->path);
        if (write_all(to, data, (size_t)n) < 0)
            return error_set(err, -errno,
                             "'%s' cannot be unpacked: %s; TMPDIR names another folder "
                             "for that",
                             s->path, strerror(errno));
    }
    if (n < 0)
        return error_set(err, -EINVAL, "'%s' cannot be unpacked: %s", s->path,
                         archive_error_string(a));
    return 0;
}

static bool is_compressed(int fd) {
    uint8_t sign[6] = {0};

    if (pread(fd, sign, sizeof(sign), 0) != sizeof(sign))
        return false;
    return !memcmp(sign, "\x1f\x8b", 2) || !memcmp(sign, "\x28\xb5\x2f\xfd", 4) ||
           !memcmp(sign,
                   "\xfd"
                   "7zXZ",
                   5) ||
           !memcmp(sign, "BZh", 3);
}

static int unpack(struct oci_source *s, struct error *err) {
    const char *tmp = getenv("TMPDIR");
    struct archive *a = archive_read_new();
    struct archive_entry *e;
    int to = open(tmp && *tmp ? tmp : "/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), r = 0;

    if (to < 0)
        r = error_set(err, -errno, "no file to unpack '%s' into: %s; TMPDIR names another folder",
                      s->path, strerror(errno));
    archive_read_support_filter_gzip(a);
    archive_read_support_filter_zstd(a);
    archive_read_support_filter_xz(a);
    archive_read_support_filter_bzip2(a);
    archive_read_support_format_raw(a);
    if (r == 0 && (archive_read_open_fd(a, s->fd, CHUNK) != ARCHIVE_OK ||
                   archive_read_next_header(a, &e) != ARCHIVE_OK))
        r = error_set(err, -EINVAL, "'%s' cannot be unpacked: %s", s->path,
                      archive_error_string(a));
    if (r == 0)
        r = copy_out(s, a, to, err);
    archive_read_free(a);
    if (r == 0) {
        close(s->fd);
        s->fd = to;
    } else if (to >= 0) {
        close(to);
    }
    return r;
}

/* ------------------------------------------------------------------ both */

struct oci_source *oci_source_open(const char *path, struct error *err) {
    struct oci_source *s = calloc(1, sizeof(*s));
    struct stat st;
    int r = 0;

    if (!s) {
        error_set(err, -ENOMEM, "'%s': out of memory", path);
        return NULL;
    }
    s->path = path;
    s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (s->fd < 0 || fstat(s->fd, &st) < 0)
        r = error_set(err, -errno, "'%s' cannot be read: %s", path, strerror(errno));
    else if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
        r = error_set(err, -EINVAL, "'%s' is neither a file nor a folder", path);
    if (r == 0)
        s->folder = S_ISDIR(st.st_mode);
    if (r == 0 && !s->folder && is_compressed(s->fd))
        r = unpack(s, err);
    if (r == 0 && !s->folder)
        r = tar_walk(s->fd, s->path, take_member, s, err);
    if (r == 0)
        return s;
    oci_source_close(s);
    return NULL;
}

void oci_source_close(struct oci_source *s) {
    if (s && s->fd >= 0)
        close(s->fd);
    if (s)
        free(s->member);
    free(s);
}

const char *oci_source_path(const struct oci_source *s) { return s->path; }

static const struct member *find_member(const struct oci_source *s, const char *name) {
    for (unsigned i = s->members; i-- > 0;)
        if (!strcmp(s->member[i].name, name))
            return &s->member[i];
    return NULL;
}

static int open_member(struct oci_source *s, const char *name, struct oci_file *ret) {
    const struct member *m = find_member(s, name);

    for (unsigned i = 0; m && *m->link && i < MOST_LINKS; i++)
        m = find_member(s, m->link);
    if (!m || *m->link)
        return -ENOENT;
    *ret = (struct oci_file){.fd = s->fd, .offset = m->offset, .size = m->size};
    return 0;
}

/* Step by step, so that no link is followed. */
static int open_below(int folder, const char *name) {
    char part[NAME];
    int fd = dup(folder);

    while (fd >= 0) {
        size_t len = strcspn(name, "/");
        bool last = !name[len];
        int next;

        snprintf(part, sizeof(part), "%.*s", (int)len, name);
        next = openat(fd, part,
                      O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY |
                          (last ? 0 : O_DIRECTORY));
        close(fd);
        if (last)
            return next;
        fd = next;
        name += len + 1;
    }
    return -1;
}

static int open_file(struct oci_source *s, const char *name, struct oci_file *ret) {
    int fd = open_below(s->fd, name);
    struct stat st;

    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? -ENOENT : -errno;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return -ENOENT;
    }
    *ret = (struct oci_file){.fd = fd, .size = (uint64_t)st.st_size, .own = true};
    return 0;
}

int oci_file_open(struct oci_source *s, const char *given, struct oci_file *ret,
                  struct error *err) {
    char name[NAME];
    int r;

    if (!clean_name(given, name))
        return error_set(err, -EINVAL, "'%s' names a file '%.100s', which cannot be in it", s->path,
                         given);
    r = s->folder ? open_file(s, name, ret) : open_member(s, name, ret);
    return r < 0 ? error_set(err, r, "'%s' has no file '%s'%s%s", s->path, name,
                             r == -ENOENT ? "" : ": ", r == -ENOENT ? "" : strerror(-r))
                 : 0;
}

void oci_file_close(struct oci_file *f) {
    if (f->own)
        close(f->fd);
    f->own = false;
}

bool oci_source_has(struct oci_source *s, const char *name) {
    struct oci_file f;
    bool yes = oci_file_open(s, name, &f, NULL) == 0;

    if (yes)
        oci_file_close(&f);
    return yes;
}

int oci_source_text(struct oci_source *s, const char *name, uint64_t most, struct buf *ret,
                    struct error *err) {
    struct oci_file f;
    uint64_t done = 0;
    int r = oci_file_open(s, name, &f, err);
    char *p;

    if (r < 0)
        return r;
    if (f.size > most)
        r = error_set(err, -EFBIG, "'%s': its file '%s' is larger than the limit of %llu bytes",
                      s->path, name, (unsigned long long)most);
    if (r == 0) {
        p = buf_grow(ret, f.size + 1);
        while (r == 0 && done < f.size) {
            ssize_t n = pread(f.fd, p + done, f.size - done, (off_t)(f.offset + done));

            if (n <= 0)
                r = error_set(err, n < 0 ? -errno : -EINVAL, "'%s': its file '%s' cannot be read",
                              s->path, name);
            else
                done += (uint64_t)n;
        }
    }
    oci_file_close(&f);
    return r;
}
