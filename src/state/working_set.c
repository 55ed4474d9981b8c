/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file `working-set` of a snapshot's folder. Numbers little-endian.
 *
 *   0 "VIVTOUCH"   8 version u32   12 number of runs u32   16 pages of the snapshot u64
 *   24 identity of the snapshot (16 bytes)   40 checksum u32 (CRC-32C) of what is before and behind
 *   44 the runs: first page u32, number of pages u32; ascending, with gaps between them
 */
#include "state/working_set.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "state/snapshot.h"

/*
 * Calls (main): openat unlink rename fsync
 */

#define MAGIC "VIVTOUCH"

enum { VERSION = 8, RUNS = 12, PAGES = 16, ID = 24, SUM = 40, HEAD = 44, RUN = 8, FORMAT = 1 };

static uint32_t sum_of(const uint8_t *p, size_t size) {
    return crc32c(crc32c(0, p, SUM), p + HEAD, size - HEAD);
}

static int path_of(const struct snapshot *s, const char *end, char path[PATH_MAX],
                   struct error *err) {
    int n = snprintf(path, PATH_MAX, "%s/working-set%s", s->dir, end);

    return n < PATH_MAX
               ? 0
               : error_set(err, -ENAMETOOLONG, "snapshot '%s': its path is too long", s->dir);
}

/* ------------------------------------------------------------------ reading */

static int wrong(const struct snapshot *s, const char *what, struct error *err) {
    return error_set(err, -EINVAL,
                     "snapshot '%s': its working set %s; record another one: --restore '%s' "
                     "--record-working-set SECONDS",
                     s->dir, what, s->dir);
}

/* The whole file, of which there is no more than a snapshot can have. */
static int slurp(const struct snapshot *s, const char *path, uint8_t **ret, size_t *ret_size,
                 struct error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), code = 0;
    uint8_t *p = NULL;
    struct stat st;

    if (fd < 0)
        return error_set(err, -errno,
                         "snapshot '%s': its working set cannot be read: %s; without one "
                         "nothing is loaded early, --record-working-set SECONDS makes it",
                         s->dir, strerror(errno));
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < HEAD ||
        (uint64_t)st.st_size > HEAD + RUN * (s->pages / 2 + 1))
        code = wrong(s, "has an impossible size", err);
    else if (!(p = malloc((size_t)st.st_size)))
        code = error_set(err, -ENOMEM, "snapshot '%s': out of memory", s->dir);
    else if (pread(fd, p, (size_t)st.st_size, 0) != st.st_size)
        code = wrong(s, "cannot be read to its end", err);
    close(fd);
    if (code < 0) {
        free(p);
        p = NULL;
    }
    *ret = p;
    *ret_size = (size_t)st.st_size;
    return p ? 0 : code;
}

static int check_head(const struct snapshot *s, const uint8_t *p, size_t size, struct error *err) {
    if (memcmp(p, MAGIC, 8) != 0)
        return wrong(s, "is none", err);
    if (load_le32(p + VERSION) != FORMAT)
        return wrong(s, "is of another version", err);
    if (size != HEAD + (size_t)RUN * load_le32(p + RUNS) || load_le32(p + SUM) != sum_of(p, size))
        return wrong(s, "is damaged", err);
    if (memcmp(p + ID, s->id, SNAPSHOT_ID) != 0 || load_le64(p + PAGES) != s->pages)
        return wrong(s, "is of another snapshot", err);
    return 0;
}

static int take_runs(const struct snapshot *s, const uint8_t *p, struct working_set *set,
                     struct error *err) {
    uint64_t end = 0;

    for (uint32_t i = 0; i < set->runs; i++) {
        struct working_set_run *r = &set->run[i];

        r->first = load_le32(p + HEAD + (size_t)RUN * i);
        r->count = load_le32(p + HEAD + (size_t)RUN * i + 4);
        if (!r->count || (i && r->first <= end) || r->first + (uint64_t)r->count > s->pages)
            return wrong(s, "names pages that cannot be", err);
        end = r->first + (uint64_t)r->count;
        set->pages += r->count;
    }
    return 0;
}

int working_set_read(const struct snapshot *s, struct working_set *ret_set, struct error *err) {
    struct working_set set = {0};
    char path[PATH_MAX];
    uint8_t *p = NULL;
    size_t size = 0;
    int code = path_of(s, "", path, err);

    if (code == 0)
        code = slurp(s, path, &p, &size, err);
    if (p)
        code = check_head(s, p, size, err);
    if (p && code == 0) {
        set.runs = load_le32(p + RUNS);
        set.run = calloc(set.runs ? set.runs : 1, sizeof(*set.run));
        code = set.run ? take_runs(s, p, &set, err)
                       : error_set(err, -ENOMEM, "snapshot '%s': out of memory", s->dir);
    }
    free(p);
    if (code < 0)
        working_set_done(&set);
    else
        *ret_set = set;
    return code;
}

void working_set_done(struct working_set *set) {
    free(set->run);
    *set = (struct working_set){0};
}

/* ------------------------------------------------------------------ writing */

static void put_runs(const struct snapshot *s, const uint8_t *touched, struct buf *out) {
    for (uint64_t page = 0, first; page < s->pages; page++) {
        if (!(touched[page / 8] >> page % 8 & 1))
            continue;
        first = page;
        while (page < s->pages && (touched[page / 8] >> page % 8 & 1))
            page++;
        buf_put_le32(out, (uint32_t)first);
        buf_put_le32(out, (uint32_t)(page - first));
    }
}

/* Not synced, for which a machine would wait: if a crash of the host damages it, its checksum
 * tells, and nothing but some speed is lost. */
static int save(const char *path, const struct buf *b) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600), code = 0;

    if (fd < 0)
        return -errno;
    for (size_t done = 0; done < b->len && code == 0;) {
        ssize_t n = write(fd, b->data + done, b->len - done);

        if (n > 0)
            done += (size_t)n;
        else if (errno != EINTR)
            code = -errno;
    }
    if (close(fd) < 0 && code == 0)
        code = -errno;
    return code;
}

int working_set_write(const struct snapshot *s, const uint8_t *touched, struct error *err) {
    char path[PATH_MAX], part[PATH_MAX];
    struct buf b = {0};
    int code = path_of(s, "", path, err);

    if (code == 0)
        code = path_of(s, ".part", part, err);
    if (code < 0)
        return code;
    buf_put(&b, MAGIC, 8);
    buf_put_le32(&b, FORMAT);
    buf_put_le32(&b, 0);
    buf_put_le64(&b, s->pages);
    buf_put(&b, s->id, SNAPSHOT_ID);
    buf_put_le32(&b, 0);
    put_runs(s, touched, &b);
    store_le32(b.data + RUNS, (uint32_t)((b.len - HEAD) / RUN));
    store_le32(b.data + SUM, sum_of(b.data, b.len));
    code = save(part, &b);
    buf_done(&b);
    if (code == 0 && rename(part, path) < 0)
        code = -errno;
    if (code == 0)
        return 0;
    unlink(part);
    return error_set(err, code,
                     "the working set cannot be written to '%s': %s; make room there, or allow it",
                     path, strerror(-code));
}
