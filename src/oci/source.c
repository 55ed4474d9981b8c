/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Folders and tar archives (POSIX.1-2017 pax, ustar, and GNU's long names) as sets of files.
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

#include "base/write.h"

enum {
    BLOCK = 512,
    NAME = 256, /* members with longer names are none of ours */
    MOST_MEMBERS = 100000,
    MOST_LINKS = 8,
    MOST_HEAD = 1 << 20, /* of pax */
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

/* Octal digits, or GNU's binary numbers. */
static bool read_number(const uint8_t *p, size_t n, uint64_t *ret) {
    uint64_t v = 0;

    if (*p & 0x80) {
        for (size_t i = 0; i < n; i++) {
            if (v >> 55)
                return false;
            v = v << 8 | (i ? p[i] : p[i] & 0x7f);
        }
        *ret = v;
        return v <= INT64_MAX;
    }
    while (n && *p == ' ')
        p++, n--;
    for (; n && *p >= '0' && *p <= '7'; p++, n--)
        v = v << 3 | (uint64_t)(*p - '0');
    *ret = v;
    return !n || !*p || *p == ' ';
}

static bool checksum_fits(const uint8_t head[BLOCK]) {
    uint64_t want, sum = 0;

    for (unsigned i = 0; i < BLOCK; i++)
        sum += i >= 148 && i < 156 ? ' ' : head[i];
    return read_number(head + 148, 8, &want) && want == sum;
}

struct pending { /* what heads before a member say of it */
    char name[NAME], link[NAME];
    uint64_t size;
    bool has_size, unfit;
};

static void take_text(char out[NAME], struct pending *p, const char *s, size_t n) {
    n = strnlen(s, n);
    if (n >= NAME) {
        p->unfit = true;
        return;
    }
    memcpy(out, s, n);
    out[n] = 0;
}

/* Records "LENGTH KEY=VALUE\n". */
static void read_pax(struct pending *p, const char *s, size_t n) {
    while (n) {
        char *end;
        unsigned long len = strtoul(s, &end, 10);
        const char *key = end + 1, *eq;
        size_t head = (size_t)(key - s), value;

        if (*end != ' ' || len > n || len <= head + 1 || s[len - 1] != '\n' ||
            !(eq = memchr(key, '=', len - head - 1)))
            return;
        value = len - 1 - (size_t)(eq + 1 - s);
        if (!strncmp(key, "path=", 5))
            take_text(p->name, p, eq + 1, value);
        else if (!strncmp(key, "linkpath=", 9))
            take_text(p->link, p, eq + 1, value);
        else if (!strncmp(key, "size=", 5)) {
            p->size = strtoull(eq + 1, NULL, 10);
            p->has_size = p->size <= INT64_MAX;
        }
        s += len;
        n -= len;
    }
}

static int read_text(struct oci_source *s, uint64_t at, uint64_t size, struct buf *out,
                     struct error *err) {
    uint64_t done = 0;
    char *p;

    if (size > MOST_HEAD)
        return error_set(err, -EINVAL, "'%s': a head of the archive is too large", s->path);
    p = buf_grow(out, size + 1);
    while (done < size) {
        ssize_t n = pread(s->fd, p + done, size - done, (off_t)(at + done));

        if (n <= 0)
            return error_set(err, -EINVAL, "'%s': the archive is cut off", s->path);
        done += (uint64_t)n;
    }
    p[size] = 0;
    return 0;
}

static int take_head(struct oci_source *s, struct pending *p, char type, uint64_t at, uint64_t size,
                     struct error *err) {
    struct buf text = {0};
    int r = read_text(s, at, size, &text, err);

    if (r == 0 && type == 'L')
        take_text(p->name, p, (char *)text.data, size);
    else if (r == 0 && type == 'K')
        take_text(p->link, p, (char *)text.data, size);
    else if (r == 0)
        read_pax(p, (char *)text.data, size);
    buf_done(&text);
    return r;
}

static int add_member(struct oci_source *s, const struct pending *p, const uint8_t *head,
                      uint64_t offset, uint64_t size, struct error *err) {
    char name[NAME + 8] = "", type = (char)head[156];
    struct member *m;

    if (p->unfit)
        return 0;
    if (*p->name)
        snprintf(name, sizeof(name), "%s", p->name);
    else if (!memcmp(head + 257, "ustar", 6) && head[345])
        snprintf(name, sizeof(name), "%.155s/%.100s", (const char *)head + 345, (const char *)head);
    else
        snprintf(name, sizeof(name), "%.100s", (const char *)head);
    if (s->members == MOST_MEMBERS)
        return error_set(err, -EINVAL, "'%s' holds too many files to be an image", s->path);
    if (s->members % 64 == 0) {
        m = realloc(s->member, (s->members + 64) * sizeof(*m));
        if (!m)
            return error_set(err, -ENOMEM, "'%s': out of memory", s->path);
        s->member = m;
    }
    m = &s->member[s->members];
    *m = (struct member){.offset = offset, .size = size};
    if (!clean_name(name, m->name))
        return 0;
    if (type == '1' || type == '2') {
        snprintf(name, sizeof(name), "%.100s", *p->link ? p->link : (const char *)head + 157);
        if (*p->link)
            snprintf(name, sizeof(name), "%s", p->link);
        if (type == '1' ? !clean_name(name, m->link) : !clean_link(m->name, name, m->link))
            return 0;
    }
    s->members += type == '0' || !type || type == '7' || *m->link;
    return 0;
}

static int read_archive(struct oci_source *s, struct error *err) {
    struct pending p = {0};
    uint8_t head[BLOCK];
    struct stat st;
    uint64_t at = 0, size;
    int r = 0;

    if (fstat(s->fd, &st) < 0)
        return error_set(err, -errno, "'%s': %s", s->path, strerror(errno));
    while (r == 0 && pread(s->fd, head, BLOCK, (off_t)at) == BLOCK && *head) {
        char type = (char)head[156];

        if (!checksum_fits(head) || !read_number(head + 124, 12, &size))
            return error_set(err, -EINVAL,
                             at ? "'%s': the archive is damaged at byte %llu"
                                : "'%s' is no tar archive",
                             s->path, (unsigned long long)at);
        if (p.has_size && type != 'x' && type != 'L' && type != 'K')
            size = p.size;
        if (type == '1' || type == '2' || type == '5')
            size = 0;
        at += BLOCK;
        if (size > (uint64_t)st.st_size || at > (uint64_t)st.st_size - size)
            return error_set(err, -EINVAL, "'%s': the archive is cut off", s->path);
        if (type == 'x' || type == 'L' || type == 'K') {
            r = take_head(s, &p, type, at, size, err);
        } else {
            if (type != 'g')
                r = add_member(s, &p, head, at, size, err);
            p = (struct pending){0};
        }
        at += (size + BLOCK - 1) & ~(uint64_t)(BLOCK - 1);
    }
    if (r == 0 && !at)
        r = error_set(err, -EINVAL, "'%s' is no tar archive", s->path);
    return r;
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
        r = read_archive(s, err);
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
