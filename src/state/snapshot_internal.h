/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Layouts that reader and writer of a snapshot's folder share; offsets in bytes, numbers
 * little-endian. */
#ifndef STATE_SNAPSHOT_INTERNAL_H
#define STATE_SNAPSHOT_INTERNAL_H

#define SNAPSHOT_STATE_MAGIC "VIVSTATE"
#define SNAPSHOT_INDEX_MAGIC "VIVMEMIX"

/* Head of `state`; then the table: name (length u8, bytes), kind u8, size u64, crc32c u32; then the
 * sections' bytes in the same order. */
enum {
    STATE_VERSION = 8,
    STATE_SECTIONS = 12,
    STATE_TABLE_SIZE = 16,
    STATE_JSON_SIZE = 20,
    STATE_JSON_SUM = 24,
    STATE_INDEX_SIZE = 28,
    STATE_INDEX_SUM = 32,
    STATE_HEAD_SUM = 36, /* of the bytes before it and of the table */
    STATE_HEAD = 40,
};

/* `memory.index`; then the parent's path, two bits a page, a crc32c a chunk. */
enum {
    INDEX_VERSION = 8,
    INDEX_PATH_SIZE = 12,
    INDEX_PAGES = 16,
    INDEX_ID = 24,
    INDEX_PARENT_ID = 40,
    INDEX_HEAD = 56,
};

enum {
    STATE_FILE_MAX = 64 << 20,
    JSON_FILE_MAX = 1 << 20,
    INDEX_FILE_MAX = 64 << 20,
    INDEX_PATH_MAX = 4096,
    STATE_SECTIONS_MAX = 1024,
};

#define SNAPSHOT_PAGES_MAX (1ull << 27) /* 512 GiB */

static inline uint64_t snapshot_kinds_size(uint64_t pages) { return (pages + 3) / 4; }
static inline uint64_t snapshot_chunks(uint64_t pages) {
    return (pages + SNAPSHOT_CHUNK - 1) / SNAPSHOT_CHUNK;
}

#endif
