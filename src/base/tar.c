/* SPDX-License-Identifier: GPL-2.0-or-later */
/* POSIX.1-2017 pax and ustar, and what GNU's tar adds: long names and large numbers. */
#include "base/tar.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"

enum { MOST_HEAD = 1 << 20 };

struct walk {
    int fd;
    const char *path;
    int (*fn)(void *opaque, const struct tar_member *m, struct error *err);
    void *opaque;
};

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

/* Some old programs count bytes with a sign. */
static bool checksum_fits(const uint8_t head[TAR_BLOCK]) {
    int64_t sum = 0, with_sign = 0;
    uint64_t want;

    for (unsigned i = 0; i < TAR_BLOCK; i++) {
        uint8_t c = i >= 148 && i < 156 ? ' ' : head[i];

        sum += c;
        with_sign += (int8_t)c;
    }
    return read_number(head + 148, 8, &want) &&
           ((int64_t)want == sum || (int64_t)want == with_sign);
}

struct pending { /* what heads before a member say of it */
    char name[TAR_NAME], link[TAR_NAME];
    uint64_t size;
    bool has_size, unfit;
};

static void take_text(char out[TAR_NAME], struct pending *p, const char *s, size_t n) {
    n = strnlen(s, n);
    if (n >= TAR_NAME) {
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

static int read_text(const struct walk *w, uint64_t at, uint64_t size, struct buf *out,
                     struct error *err) {
    uint64_t done = 0;
    char *p;

    if (size > MOST_HEAD)
        return error_set(err, -EINVAL, "'%s': a head of the archive is too large", w->path);
    p = buf_grow(out, size + 1);
    while (done < size) {
        ssize_t n = pread(w->fd, p + done, size - done, (off_t)(at + done));

        if (n <= 0)
            return error_set(err, -EINVAL, "'%s': the archive is cut off", w->path);
        done += (uint64_t)n;
    }
    p[size] = 0;
    return 0;
}

static int take_head(const struct walk *w, struct pending *p, char type, uint64_t at, uint64_t size,
                     struct error *err) {
    struct buf text = {0};
    int r = read_text(w, at, size, &text, err);
    const char *s = (char *)text.data;

    assert(r < 0 || s);
    if (r == 0 && type == 'L')
        take_text(p->name, p, s, size);
    else if (r == 0 && type == 'K')
        take_text(p->link, p, s, size);
    else if (r == 0)
        read_pax(p, s, size);
    buf_done(&text);
    return r;
}

static enum tar_type type_of(char c) {
    switch (c) {
    case '0':
    case 0:
    case '7':
        return TAR_FILE;
    case '1':
        return TAR_LINK;
    case '2':
        return TAR_SYMLINK;
    case '5':
        return TAR_FOLDER;
    default:
        return TAR_OTHER;
    }
}

static int tell(const struct walk *w, const struct pending *p, const uint8_t *head, uint64_t offset,
                uint64_t size, struct error *err) {
    struct tar_member m = {.type = type_of((char)head[156]), .offset = offset, .size = size};

    if (p->unfit)
        return 0;
    if (*p->name)
        snprintf(m.name, sizeof(m.name), "%s", p->name);
    else if (!memcmp(head + 257, "ustar", 6) && head[345])
        snprintf(m.name, sizeof(m.name), "%.155s/%.100s", (const char *)head + 345,
                 (const char *)head);
    else
        snprintf(m.name, sizeof(m.name), "%.100s", (const char *)head);
    if (*p->link)
        snprintf(m.link, sizeof(m.link), "%s", p->link);
    else
        snprintf(m.link, sizeof(m.link), "%.100s", (const char *)head + 157);
    return w->fn(w->opaque, &m, err);
}

int tar_walk(int fd, const char *path,
             int (*fn)(void *opaque, const struct tar_member *m, struct error *err), void *opaque,
             struct error *err) {
    const struct walk w = {fd, path, fn, opaque};
    struct pending p = {0};
    uint8_t head[TAR_BLOCK];
    struct stat st;
    uint64_t at = 0, size;
    int r = 0;

    if (fstat(fd, &st) < 0)
        return error_set(err, -errno, "'%s': %s", path, strerror(errno));
    while (r == 0 && pread(fd, head, TAR_BLOCK, (off_t)at) == TAR_BLOCK && *head) {
        char type = (char)head[156];

        if (!checksum_fits(head) || !read_number(head + 124, 12, &size))
            return error_set(err, -EINVAL,
                             at ? "'%s': the archive is damaged at byte %llu"
                                : "'%s' is no tar archive",
                             path, (unsigned long long)at);
        if (p.has_size && type != 'x' && type != 'L' && type != 'K')
            size = p.size;
        if (type >= '1' && type <= '6') /* whatever it says: links, devices, folders, pipes */
            size = 0;
        at += TAR_BLOCK;
        if (size > (uint64_t)st.st_size || at > (uint64_t)st.st_size - size)
            return error_set(err, -EINVAL, "'%s': the archive is cut off", path);
        if (type == 'x' || type == 'L' || type == 'K') {
            r = take_head(&w, &p, type, at, size, err);
        } else {
            if (type != 'g')
                r = tell(&w, &p, head, at, size, err);
            p = (struct pending){0};
        }
        at += (size + TAR_BLOCK - 1) & ~(uint64_t)(TAR_BLOCK - 1);
    }
    if (r == 0 && !at)
        r = error_set(err, -EINVAL, "'%s' is no tar archive", path);
    return r;
}

void tar_head(uint8_t head[TAR_BLOCK], const char *name, uint64_t size, int64_t mtime) {
    unsigned sum = 0;

    memset(head, 0, TAR_BLOCK);
    snprintf((char *)head, 100, "%.99s", name);
    memcpy(head + 100, "0000644", 7);
    memcpy(head + 108, "0000000", 7);
    memcpy(head + 116, "0000000", 7);
    if (size >> 33) { /* does not fit into 11 octal digits */
        head[124] = 0x80;
        store_be64(head + 128, size);
    } else {
        snprintf((char *)head + 124, 12, "%011llo", (unsigned long long)size & 077777777777);
    }
    snprintf((char *)head + 136, 12, "%011llo", (unsigned long long)mtime & 077777777777);
    head[156] = '0';
    memcpy(head + 257, "ustar", 6);
    memcpy(head + 263, "00", 2);
    memset(head + 148, ' ', 8);
    for (unsigned i = 0; i < TAR_BLOCK; i++)
        sum += head[i];
    snprintf((char *)head + 148, 8, "%06o", sum);
}
