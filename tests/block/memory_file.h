/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A file in memory that remembers every write and sync, fails as a test wants it, and can be put
 * together again as a loss of power would leave it. */
#ifndef TESTS_BLOCK_MEMORY_FILE_H
#define TESTS_BLOCK_MEMORY_FILE_H

#include <pthread.h>

#include "block/bytefile.h"
#include "support/test.h"

struct memory_event {
    enum { MEMORY_WRITE, MEMORY_SYNC, MEMORY_MARK } kind;
    uint64_t order; /* among the events of all files */
    uint64_t offset, length;
    uint8_t *data;        /* WRITE */
    uint64_t mark, mark2; /* MARK: the test's */
};

struct memory_file {
    struct bytefile base;
    uint8_t *data;
    uint64_t size, cap;
    uint64_t most; /* what would make it larger fails with EFBIG */
    bool record;
    struct memory_event *events;
    unsigned count, event_cap;
    pthread_mutex_t lock; /* images are used by several threads */
    unsigned fail_after;  /* writes, then each fails with fail_code; 0: none */
    int fail_code;
};

struct memory_file *memory_file_new(void);
/* Closing the image does not free the file, so that a test can open it again. */
void memory_file_free(struct memory_file *m);
void memory_file_mark(struct memory_file *m, uint64_t mark, uint64_t mark2);
void memory_file_load(struct memory_file *m, const char *path);
void memory_file_save(const struct memory_file *m, const char *path);
void memory_file_copy(struct memory_file *to, const struct memory_file *from);
void memory_file_apply(struct memory_file *m, const struct memory_event *e);
/* Any subset of the write's sectors. */
void memory_file_apply_torn(struct memory_file *m, const struct memory_event *e, struct rng *rng);

#endif
