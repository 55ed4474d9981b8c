/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading a snapshot's folder (docs/snapshot.md): everything is checked before it is believed. */
#include "state/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "state/snapshot_internal.h"

/*
 * Calls (main): openat newfstatat fadvise64
 */

static const char remedy[] = "use another snapshot";

/* ------------------------------------------------------------------ files */

static int damaged(const char *dir, const char *file, const char *what, struct error *err) {
    return error_set(err, -EINVAL, "snapshot '%s': %s %s; %s", dir, file, what, remedy);
}

static int open_file(int dir_fd, const char *dir, const char *file, struct error *err) {
    int fd = openat(dir_fd, file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;

    if (fd < 0)
        return error_set(err, -errno,
                         "snapshot '%s': the file '%s' cannot be opened: %s; give the folder of a "
                         "complete snapshot",
                         dir, file, strerror(errno));
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return fd;
    close(fd);
    return error_set(err, -EINVAL, "snapshot '%s': '%s' is no regular file; %s", dir, file, remedy);
}

static int read_exactly(int fd, void *buf, size_t n, uint64_t at) {
    uint8_t *to = buf;

    while (n) {
        ssize_t got = pread(fd, to, n, (off_t)at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -ENODATA;
        to += got;
        n -= (size_t)got;
        at += (uint64_t)got;
    }
    return 0;
}

/* The whole file and a NUL behind it. */
static uint8_t *slurp(int dir_fd, const char *dir, const char *file, size_t max, size_t *ret_size,
                      struct error *err) {
    int fd = open_file(dir_fd, dir, file, err), code;
    uint8_t *bytes = NULL;
    struct stat st;

    if (fd < 0)
        return NULL;
    if (fstat(fd, &st) < 0 || st.st_size < 0 || (uint64_t)st.st_size > max) {
        damaged(dir, file, "is too large: it is damaged or no snapshot", err);
        goto out;
    }
    bytes = malloc((size_t)st.st_size + 1);
    if (!bytes) {
        error_set(err, -ENOMEM, "snapshot '%s': out of memory", dir);
        goto out;
    }
    code = read_exactly(fd, bytes, (size_t)st.st_size, 0);
    if (code < 0) {
        error_set(err, code, "snapshot '%s': '%s' cannot be read: %s; check the storage", dir, file,
                  strerror(-code));
        free(bytes);
        bytes = NULL;
        goto out;
    }
    bytes[st.st_size] = 0;
    *ret_size = (size_t)st.st_size;
out:
    close(fd);
    return bytes;
}

/* ------------------------------------------------------------------ `state` */

static int check_version(const char *dir, const char *file, uint32_t version, struct error *err) {
    if (version && version <= SNAPSHOT_VERSION)
        return 0;
    return error_set(
        err, -ENOTSUP,
        "snapshot '%s': '%s' has format version %u, this program knows 1 to %d; use a newer "
        "program",
        dir, file, version, SNAPSHOT_VERSION);
}

static bool read_entry(struct reader *r, struct snapshot_section *s) {
    uint8_t n = reader_u8(r);
    const uint8_t *name = reader_take(r, n);

    if (!name || !n || n >= SNAPSHOT_NAME)
        return false;
    for (unsigned i = 0; i < n; i++)
        if (name[i] <= ' ' || name[i] > '~')
            return false;
    memcpy(s->name, name, n);
    s->kind = reader_u8(r);
    s->size = reader_le64(r);
    s->sum = reader_le32(r);
    return !r->bad && (s->kind == SNAPSHOT_TYPED || s->kind == SNAPSHOT_RAW);
}

/* Sizes are held against the file before anything is added up, so no sum overflows. */
static int read_table(struct snapshot *s, struct reader *r, const uint8_t *data, size_t left,
                      struct error *err) {
    for (unsigned i = 0; i < s->sections; i++) {
        struct snapshot_section *e = &s->section[i];

        if (!read_entry(r, e))
            return damaged(s->dir, "state", "has an impossible table of sections", err);
        for (unsigned k = 0; k < i; k++)
            if (!strcmp(s->section[k].name, e->name))
                return damaged(s->dir, "state", "names a section twice", err);
        if (e->size > left)
            return damaged(s->dir, "state", "is cut off", err);
        e->data = data;
        data += e->size;
        left -= e->size;
        if (crc32c(0, e->data, e->size) != e->sum)
            return error_set(err, -EINVAL,
                             "snapshot '%s': section '%s' of 'state' is damaged (checksum); %s",
                             s->dir, e->name, remedy);
    }
    if (r->left || left)
        return damaged(s->dir, "state", "has bytes too many", err);
    return 0;
}

static int parse_state(struct snapshot *s, size_t size, struct error *err) {
    const uint8_t *p = s->state;
    struct reader table;
    uint32_t table_size;
    int code;

    if (size < STATE_HEAD || memcmp(p, SNAPSHOT_STATE_MAGIC, 8) != 0)
        return damaged(s->dir, "state", "is no saved state, or damaged", err);
    code = check_version(s->dir, "state", load_le32(p + STATE_VERSION), err);
    if (code < 0)
        return code;
    table_size = load_le32(p + STATE_TABLE_SIZE);
    s->sections = load_le32(p + STATE_SECTIONS);
    if (table_size > size - STATE_HEAD || s->sections > STATE_SECTIONS_MAX ||
        crc32c(crc32c(0, p, STATE_HEAD_SUM), p + STATE_HEAD, table_size) !=
            load_le32(p + STATE_HEAD_SUM)) {
        s->sections = 0;
        return damaged(s->dir, "state", "is damaged (checksum of its head)", err);
    }
    s->section = calloc(s->sections ? s->sections : 1, sizeof(*s->section));
    if (!s->section)
        return error_set(err, -ENOMEM, "snapshot '%s': out of memory", s->dir);
    table = (struct reader){.p = p + STATE_HEAD, .left = table_size};
    return read_table(s, &table, p + STATE_HEAD + table_size, size - STATE_HEAD - table_size, err);
}

/* ------------------------------------------------------------------ `memory.index` */

static struct snapshot *open_layer(const char *dir, unsigned depth, struct error *err);

static int open_parent(struct snapshot *s, const char *path, unsigned depth, struct error *err) {
    char full[PATH_MAX];
    int n = *path == '/' ? snprintf(full, sizeof(full), "%s", path)
                         : snprintf(full, sizeof(full), "%s/../%s", s->dir, path);

    if (n < 0 || (size_t)n >= sizeof(full))
        return damaged(s->dir, "memory.index", "names a parent with too long a path", err);
    s->parent = open_layer(full, depth + 1, err);
    if (!s->parent)
        return error_prefix(err, "snapshot '%s': its parent is needed", s->dir);
    if (memcmp(s->parent->id, s->index + INDEX_PARENT_ID, SNAPSHOT_ID) != 0)
        return error_set(err, -EINVAL,
                         "snapshot '%s': '%s' is not the parent that it was made on; put that one "
                         "back at this place",
                         s->dir, full);
    if (s->parent->pages != s->pages)
        return damaged(s->dir, "memory.index", "has another memory size than its parent's", err);
    return 0;
}

enum { WORD_PAGES = 32 }; /* of two bits */

static uint64_t word_at(const struct snapshot *s, uint64_t page) {
    uint64_t word;

    memcpy(&word, s->kinds + page / 4, sizeof(word));
    return word;
}

/* All but the last pages are looked at by words: a machine of gigabytes is restored in
 * milliseconds. */
static int check_kinds(const struct snapshot *s, struct error *err) {
    const uint64_t low = 0x5555555555555555ull;
    uint64_t page = 0, wrong = 0;

    for (; page + WORD_PAGES <= s->pages; page += WORD_PAGES) {
        uint64_t word = word_at(s, page);

        wrong |= s->parent ? word & word >> 1 & low : word & ~low;
    }
    for (; page < s->pages; page++)
        wrong |= snapshot_page_kind(s, page) > (s->parent ? SNAPSHOT_PARENT : SNAPSHOT_HERE);
    return wrong ? damaged(s->dir, "memory.index", "has a page of an impossible kind", err) : 0;
}

static int parse_index(struct snapshot *s, size_t size, unsigned depth, struct error *err) {
    char path[INDEX_PATH_MAX + 1];
    const uint8_t *p = s->index;
    uint32_t path_size;
    int code = 0;

    if (size < INDEX_HEAD || memcmp(p, SNAPSHOT_INDEX_MAGIC, 8) != 0)
        return damaged(s->dir, "memory.index", "is no index, or damaged", err);
    code = check_version(s->dir, "memory.index", load_le32(p + INDEX_VERSION), err);
    if (code < 0)
        return code;
    path_size = load_le32(p + INDEX_PATH_SIZE);
    s->pages = load_le64(p + INDEX_PAGES);
    memcpy(s->id, p + INDEX_ID, SNAPSHOT_ID);
    if (path_size > INDEX_PATH_MAX || s->pages > SNAPSHOT_PAGES_MAX ||
        size !=
            INDEX_HEAD + path_size + snapshot_kinds_size(s->pages) + 4 * snapshot_chunks(s->pages))
        return damaged(s->dir, "memory.index", "has an impossible size", err);
    s->kinds = p + INDEX_HEAD + path_size;
    s->sums = s->kinds + snapshot_kinds_size(s->pages);
    if (path_size) {
        memcpy(path, p + INDEX_HEAD, path_size);
        path[path_size] = 0;
        code = open_parent(s, path, depth, err);
    }
    return code < 0 ? code : check_kinds(s, err);
}

enum snapshot_page snapshot_page_kind(const struct snapshot *s, uint64_t page) {
    return s->kinds[page / 4] >> page % 4 * 2 & 3;
}

const struct snapshot *snapshot_page_layer(const struct snapshot *s, uint64_t page) {
    for (; s; s = s->parent) {
        enum snapshot_page kind = snapshot_page_kind(s, page);

        if (kind == SNAPSHOT_HERE)
            return s;
        if (kind == SNAPSHOT_ZERO)
            return NULL;
    }
    return NULL;
}

/* How many pages from here to `end` are of the same kind. */
static uint64_t kind_run(const struct snapshot *s, uint64_t page, uint64_t end) {
    enum snapshot_page kind = snapshot_page_kind(s, page);
    const uint64_t same = 0x5555555555555555ull * kind;
    uint64_t at = page + 1;

    while (at < end) {
        if (at % WORD_PAGES == 0 && at + WORD_PAGES <= end && word_at(s, at) == same)
            at += WORD_PAGES;
        else if (snapshot_page_kind(s, at) == kind)
            at++;
        else
            break;
    }
    return at - page;
}

uint64_t snapshot_page_run(const struct snapshot *s, uint64_t page, uint64_t end) {
    for (; s; s = s->parent) {
        end = page + kind_run(s, page, end);
        if (snapshot_page_kind(s, page) != SNAPSHOT_PARENT)
            break;
    }
    return end - page;
}

/* ------------------------------------------------------------------ the folder */

static int check_file(const struct snapshot *s, const char *file, const void *bytes, size_t size,
                      unsigned size_at, unsigned sum_at, struct error *err) {
    if (size == load_le32(s->state + size_at) &&
        crc32c(0, bytes, size) == load_le32(s->state + sum_at))
        return 0;
    return damaged(s->dir, file, "is damaged or was changed (checksum)", err);
}

static int open_memory(struct snapshot *s, int dir_fd, struct error *err) {
    struct stat st;

    s->memory_fd = open_file(dir_fd, s->dir, "memory", err);
    if (s->memory_fd < 0)
        return s->memory_fd;
    if (fstat(s->memory_fd, &st) == 0 && (uint64_t)st.st_size == s->pages * SNAPSHOT_PAGE)
        return 0;
    return damaged(s->dir, "memory", "has the wrong size: it was cut off", err);
}

static int load_files(struct snapshot *s, int dir_fd, unsigned depth, struct error *err) {
    size_t state_size, json_size, index_size;
    int code;

    s->state = slurp(dir_fd, s->dir, "state", STATE_FILE_MAX, &state_size, err);
    code = s->state ? parse_state(s, state_size, err) : -EINVAL;
    if (code < 0)
        return code;
    s->json = (char *)slurp(dir_fd, s->dir, "machine.json", JSON_FILE_MAX, &json_size, err);
    if (!s->json)
        return -EINVAL;
    code = check_file(s, "machine.json", s->json, json_size, STATE_JSON_SIZE, STATE_JSON_SUM, err);
    if (code < 0)
        return code;
    s->index = slurp(dir_fd, s->dir, "memory.index", INDEX_FILE_MAX, &index_size, err);
    if (!s->index)
        return -EINVAL;
    code =
        check_file(s, "memory.index", s->index, index_size, STATE_INDEX_SIZE, STATE_INDEX_SUM, err);
    if (code == 0)
        code = parse_index(s, index_size, depth, err);
    return code < 0 ? code : open_memory(s, dir_fd, err);
}

static struct snapshot *open_layer(const char *dir, unsigned depth, struct error *err) {
    struct snapshot *s = NULL;
    int dir_fd, code;

    if (depth == SNAPSHOT_CHAIN) {
        error_set(err, -ELOOP,
                  "snapshot '%s': the chain of its parents is longer than %d; merge some of them",
                  dir, SNAPSHOT_CHAIN);
        return NULL;
    }
    dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0) {
        error_set(err, -errno, "snapshot '%s' cannot be opened: %s; give the folder of a snapshot",
                  dir, strerror(errno));
        return NULL;
    }
    s = calloc(1, sizeof(*s));
    if (s)
        s->memory_fd = -1;
    if (!s || !(s->dir = strdup(dir)))
        code = error_set(err, -ENOMEM, "snapshot '%s': out of memory", dir);
    else
        code = load_files(s, dir_fd, depth, err);
    close(dir_fd);
    if (code == 0)
        return s;
    snapshot_close(s);
    return NULL;
}

struct snapshot *snapshot_open(const char *dir, struct error *err) {
    return open_layer(dir, 0, err);
}

void snapshot_close(struct snapshot *s) {
    while (s) {
        struct snapshot *parent = s->parent;

        if (s->memory_fd >= 0)
            close(s->memory_fd);
        free(s->dir);
        free(s->state);
        free(s->section);
        free(s->json);
        free(s->index);
        free(s);
        s = parent;
    }
}

const struct snapshot_section *snapshot_find(const struct snapshot *s, const char *name) {
    for (unsigned i = 0; i < s->sections; i++)
        if (!strcmp(s->section[i].name, name))
            return &s->section[i];
    return NULL;
}

/* ------------------------------------------------------------------ memory */

int snapshot_read(const struct snapshot *s, uint64_t page, unsigned count, void *buf,
                  struct error *err) {
    uint8_t *to = buf;

    while (count) {
        const struct snapshot *layer = snapshot_page_layer(s, page);
        unsigned n = 1;
        int code;

        while (n < count && snapshot_page_layer(s, page + n) == layer)
            n++;
        if (layer) {
            code =
                read_exactly(layer->memory_fd, to, (size_t)n * SNAPSHOT_PAGE, page * SNAPSHOT_PAGE);
            if (code < 0)
                return error_set(err, code,
                                 "snapshot '%s': 'memory' cannot be read: %s; check the storage",
                                 layer->dir, strerror(-code));
        } else {
            memset(to, 0, (size_t)n * SNAPSHOT_PAGE);
        }
        to += (size_t)n * SNAPSHOT_PAGE;
        page += n;
        count -= n;
    }
    return 0;
}

static bool is_zero(const uint8_t *p, size_t n) { return !*p && !memcmp(p, p + 1, n - 1); }

/* Restoring maps whole runs of the file, holes included: they must be zero, too. */
static int check_chunk(const struct snapshot *s, uint64_t chunk, uint8_t *buf, struct error *err) {
    uint64_t first = chunk * SNAPSHOT_CHUNK, at = first * SNAPSHOT_PAGE;
    uint64_t left = s->pages - first;
    unsigned count = left < SNAPSHOT_CHUNK ? (unsigned)left : SNAPSHOT_CHUNK;
    uint32_t sum = 0;
    int code = read_exactly(s->memory_fd, buf, (size_t)count * SNAPSHOT_PAGE, at);

    if (code < 0)
        return error_set(err, code, "snapshot '%s': 'memory' cannot be read: %s; check the storage",
                         s->dir, strerror(-code));
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *page = buf + (size_t)i * SNAPSHOT_PAGE;

        if (snapshot_page_kind(s, first + i) == SNAPSHOT_HERE)
            sum = crc32c(sum, page, SNAPSHOT_PAGE);
        else if (!is_zero(page, SNAPSHOT_PAGE))
            sum = ~load_le32(s->sums + 4 * chunk);
    }
    if (sum == load_le32(s->sums + 4 * chunk))
        return 0;
    return error_set(err, -EINVAL,
                     "snapshot '%s': 'memory' is damaged at 0x%llx (checksum of its megabyte); %s",
                     s->dir, (unsigned long long)at, remedy);
}

/* True if the file has no data in the chunk and the index knows that. */
static bool is_hole(const struct snapshot *s, uint64_t chunk, uint64_t *data_at) {
    uint64_t from = chunk * SNAPSHOT_CHUNK * SNAPSHOT_PAGE;

    if (*data_at <= from) {
        off_t at = lseek(s->memory_fd, (off_t)from, SEEK_DATA);
        *data_at = at >= 0 ? (uint64_t)at : errno == ENXIO ? UINT64_MAX : from;
    }
    return *data_at >= from + SNAPSHOT_CHUNK * SNAPSHOT_PAGE && !load_le32(s->sums + 4 * chunk);
}

int snapshot_check_memory(const struct snapshot *s, struct error *err) {
    uint8_t *buf = malloc((size_t)SNAPSHOT_CHUNK * SNAPSHOT_PAGE);
    int code = 0;

    if (!buf)
        return error_set(err, -ENOMEM, "snapshot '%s': out of memory", s->dir);
    for (; s && code == 0; s = s->parent) {
        uint64_t data_at = 0;

        for (uint64_t i = 0; code == 0 && i < snapshot_chunks(s->pages); i++)
            if (!is_hole(s, i, &data_at))
                code = check_chunk(s, i, buf, err);
    }
    free(buf);
    return code;
}
