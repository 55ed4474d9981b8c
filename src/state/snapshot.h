/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The folder that a saved machine is: files, checksums, crash-safe writing (docs/snapshot.md).
 *
 *   machine.json   configuration, for people and for programs
 *   state          named sections, most of them streams of state/state.h; checksums of all files
 *   memory         guest memory, page by page; zero pages and pages of the parent are holes
 *   memory.index   where each page is, and a checksum for each megabyte
 *
 * Contract: no lock, no thread; a snapshot never changes once it is there. Everything read is
 * hostile: snapshot_open checks all but the bytes of `memory`, snapshot_check_memory those.
 */
#ifndef STATE_SNAPSHOT_H
#define STATE_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

enum {
    SNAPSHOT_VERSION = 1,
    SNAPSHOT_PAGE = 4096,
    SNAPSHOT_CHUNK = 256, /* pages under one checksum */
    SNAPSHOT_ID = 16,
    SNAPSHOT_NAME = 64,
    SNAPSHOT_CHAIN = 64, /* longest chain of parents */
};

enum snapshot_page { SNAPSHOT_ZERO, SNAPSHOT_HERE, SNAPSHOT_PARENT };
enum snapshot_kind { SNAPSHOT_TYPED = 1, SNAPSHOT_RAW = 2 };

struct snapshot_section {
    char name[SNAPSHOT_NAME];
    enum snapshot_kind kind;
    uint32_t sum;
    size_t size;
    const uint8_t *data;
};

struct snapshot { /* an open one; read only */
    char *dir;
    uint8_t *state;
    struct snapshot_section *section;
    unsigned sections;
    char *json; /* machine.json, ends with a NUL */
    uint8_t *index;
    uint8_t id[SNAPSHOT_ID];
    uint64_t pages;
    const uint8_t *kinds; /* in `index`: two bits a page */
    const uint8_t *sums;  /* in `index`: a little-endian u32 a chunk */
    int memory_fd;
    struct snapshot *parent; /* opened with it; NULL: none */
};

struct snapshot *snapshot_open(const char *dir, struct error *err);
void snapshot_close(struct snapshot *s); /* accepts NULL; parents too */
/* Where the parent of the snapshot in that folder lies, for free; opens neither. NULL: it has none,
 * or what lies there is not the one that it was made on: who names a parent knows its identity,
 * which cannot be guessed. */
char *snapshot_parent(const char *dir);
const struct snapshot_section *snapshot_find(const struct snapshot *s, const char *name);

/* Of this layer alone. */
enum snapshot_page snapshot_page_kind(const struct snapshot *s, uint64_t page);
/* The layer that holds the page, NULL if it is zero. */
const struct snapshot *snapshot_page_layer(const struct snapshot *s, uint64_t page);
/* How many pages from here on, up to `end`, are told of in the same way, and so are in the same
 * layer; what follows may be, too. Looks at many pages in one step. */
uint64_t snapshot_page_run(const struct snapshot *s, uint64_t page, uint64_t end);
/* Pages as they were, from whatever layer. */
int snapshot_read(const struct snapshot *s, uint64_t page, unsigned count, void *buf,
                  struct error *err);
/* Reads all of `memory` and of the parents' and compares checksums. */
int snapshot_check_memory(const struct snapshot *s, struct error *err);

/* ---- writing ---- */

/* Sections are collected first, then everything is written at once. */
struct snapshot_sections {
    struct buf table, data;
    unsigned count;
};
void snapshot_add(struct snapshot_sections *to, const char *name, enum snapshot_kind kind,
                  const void *data, size_t n);
void snapshot_sections_done(struct snapshot_sections *s);

struct snapshot_image {
    const char *dir;
    const struct snapshot_sections *sections;
    const char *json;
    uint64_t pages;
    /* Pointer to `count` pages, valid until the next call; may use `buf`, which has room for a
     * chunk. NULL with a sentence on failure. */
    const uint8_t *(*pages_at)(void *opaque, uint64_t page, unsigned count, uint8_t *buf,
                               struct error *err);
    void *opaque;
    const struct snapshot *parent; /* NULL: all pages; else those that differ from its */
    /* With a parent: of `count` pages one may differ from its; the others are not even read. NULL:
     * all may. `prove`: they are, and one that differs is an error. */
    bool (*may_differ)(void *opaque, uint64_t page, uint64_t count);
    bool prove;
    uint8_t *ret_id; /* SNAPSHOT_ID bytes: what the parent of a later one is known by; or NULL */
    /* Told after each chunk, in pages. NULL allowed. */
    void (*progress)(void *opaque, uint64_t done);
    void *progress_opaque;
};

/*
 * Writes the folder: under the name DIR.part first, renamed to DIR when everything is on the disk.
 * A DIR.part that a crash left behind is replaced; an existing DIR is refused. Allocates little, so
 * that it can run in a forked child.
 */
int snapshot_write(const struct snapshot_image *image, struct error *err);

#endif
