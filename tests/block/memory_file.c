/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A file in memory for tests of image formats: recording, faults, torn writes. */
#include "block/memory_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SECTOR = 512 };

static struct memory_file *memory(struct bytefile *f) { return (struct memory_file *)f; }

static void make_space(struct memory_file *m, uint64_t size) {
    if (size > m->cap) {
        uint64_t cap = size * 2;
        uint8_t *data =
            calloc(1, cap); /* of large ones the host gives zeros page by page, as touched */

        assert_non_null(data);
        if (m->size)
            memcpy(data, m->data, m->size);
        free(m->data);
        m->data = data;
        m->cap = cap;
    }
    if (size > m->size)
        m->size = size;
}

static void add_event(struct memory_file *m, struct memory_event event) {
    static uint64_t order;

    if (m->count == m->event_cap) {
        m->event_cap = m->event_cap ? m->event_cap * 2 : 1024;
        m->events = realloc(m->events, m->event_cap * sizeof(*m->events));
        assert_non_null(m->events);
    }
    event.order = __atomic_add_fetch(&order, 1, __ATOMIC_SEQ_CST);
    m->events[m->count++] = event;
}

static int memory_readv(struct bytefile *f, const struct iovec *iov, unsigned count,
                        uint64_t offset) {
    struct memory_file *m = memory(f);

    for (unsigned i = 0; i < count; i++) {
        uint64_t have = offset < m->size ? m->size - offset : 0;

        have = have < iov[i].iov_len ? have : iov[i].iov_len;
        if (have)
            memcpy(iov[i].iov_base, m->data + offset, have);
        memset((uint8_t *)iov[i].iov_base + have, 0, iov[i].iov_len - have);
        offset += iov[i].iov_len;
    }
    return 0;
}

static bool fails(struct memory_file *m) {
    if (!m->fail_after)
        return false;
    if (m->fail_after > 1) {
        m->fail_after--;
        return false;
    }
    return true;
}

static int memory_writev(struct bytefile *f, const struct iovec *iov, unsigned count,
                         uint64_t offset) {
    struct memory_file *m = memory(f);
    uint64_t length = 0, at = offset;

    for (unsigned i = 0; i < count; i++)
        length += iov[i].iov_len;
    if (fails(m))
        return m->fail_code;
    if (offset > m->most || length > m->most)
        return -EFBIG;
    make_space(m, offset + length);
    for (unsigned i = 0; i < count; at += iov[i++].iov_len)
        memcpy(m->data + at, iov[i].iov_base, iov[i].iov_len);
    if (m->record) {
        struct memory_event e = {MEMORY_WRITE, 0, offset, length, malloc(length + 1), 0, 0};

        memcpy(e.data, m->data + offset, length);
        add_event(m, e);
    }
    return 0;
}

static int memory_sync(struct bytefile *f) {
    struct memory_file *m = memory(f);

    if (m->fail_after == 1)
        return m->fail_code;
    if (m->record)
        add_event(m, (struct memory_event){.kind = MEMORY_SYNC});
    return 0;
}

static int memory_punch(struct bytefile *f, uint64_t offset, uint64_t length) {
    struct memory_file *m = memory(f);

    if (offset >= m->size)
        return 0;
    length = length < m->size - offset ? length : m->size - offset;
    memset(m->data + offset, 0, length);
    if (m->record)
        add_event(
            m, (struct memory_event){MEMORY_WRITE, 0, offset, length, calloc(1, length + 1), 0, 0});
    return 0;
}

static int memory_truncate(struct bytefile *f, uint64_t size) {
    struct memory_file *m = memory(f);

    if (size > m->most)
        return -EFBIG;
    make_space(m, size);
    memset(m->data + size, 0, m->size - size);
    m->size = size;
    return 0;
}

static int memory_size(struct bytefile *f, uint64_t *ret_size) {
    *ret_size = memory(f)->size;
    return 0;
}

static void memory_close(struct bytefile *f) {}

/* One operation at a time. */
#define LOCKED(call)                                                                               \
    do {                                                                                           \
        int result;                                                                                \
                                                                                                   \
        pthread_mutex_lock(&memory(f)->lock);                                                      \
        result = call;                                                                             \
        pthread_mutex_unlock(&memory(f)->lock);                                                    \
        return result;                                                                             \
    } while (0)

static int op_readv(struct bytefile *f, const struct iovec *iov, unsigned count, uint64_t offset) {
    LOCKED(memory_readv(f, iov, count, offset));
}

static int op_writev(struct bytefile *f, const struct iovec *iov, unsigned count, uint64_t offset) {
    LOCKED(memory_writev(f, iov, count, offset));
}

static int op_sync(struct bytefile *f) { LOCKED(memory_sync(f)); }

static int op_punch(struct bytefile *f, uint64_t offset, uint64_t length) {
    LOCKED(memory_punch(f, offset, length));
}

static const struct bytefile_ops ops = {
    .readv = op_readv,
    .writev = op_writev,
    .sync = op_sync,
    .punch = op_punch,
    .truncate = memory_truncate,
    .size = memory_size,
    .close = memory_close,
};

struct memory_file *memory_file_new(void) {
    struct memory_file *m = calloc(1, sizeof(*m));

    assert_non_null(m);
    m->base.ops = &ops;
    m->base.grows = true;
    m->most = 64ull << 20;
    pthread_mutex_init(&m->lock, NULL);
    return m;
}

void memory_file_free(struct memory_file *m) {
    for (unsigned i = 0; i < m->count; i++)
        free(m->events[i].data);
    free(m->events);
    free(m->data);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

void memory_file_mark(struct memory_file *m, uint64_t mark, uint64_t mark2) {
    pthread_mutex_lock(&m->lock);
    if (m->record)
        add_event(m, (struct memory_event){.kind = MEMORY_MARK, .mark = mark, .mark2 = mark2});
    pthread_mutex_unlock(&m->lock);
}

void memory_file_load(struct memory_file *m, const char *path) {
    FILE *f = fopen(path, "rb");
    uint8_t buf[65536];
    size_t n;

    assert_non_null(f);
    m->size = 0;
    while ((n = fread(buf, 1, sizeof(buf), f)) > 0) {
        uint64_t at = m->size;

        make_space(m, at + n);
        memcpy(m->data + at, buf, n);
    }
    fclose(f);
}

void memory_file_save(const struct memory_file *m, const char *path) {
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(m->data, 1, m->size, f), m->size);
    assert_int_equal(fclose(f), 0);
}

void memory_file_copy(struct memory_file *to, const struct memory_file *from) {
    uint64_t old = to->size;

    to->size = 0;
    make_space(to, from->size);
    memcpy(to->data, from->data, from->size);
    if (old > from->size)
        memset(to->data + from->size, 0, old - from->size);
}

static void put(struct memory_file *m, const struct memory_event *e, uint64_t from, uint64_t to) {
    make_space(m, e->offset + to);
    memcpy(m->data + e->offset + from, e->data + from, to - from);
}

void memory_file_apply(struct memory_file *m, const struct memory_event *e) {
    put(m, e, 0, e->length);
}

void memory_file_apply_torn(struct memory_file *m, const struct memory_event *e, struct rng *rng) {
    unsigned how = (unsigned)rng_below(rng, 4); /* none, all, or sector by sector */

    for (uint64_t at = 0; how && at < e->length;) {
        uint64_t n = SECTOR - ((e->offset + at) & (SECTOR - 1));

        n = n < e->length - at ? n : e->length - at;
        if (how == 1 || rng_next(rng) & 0x100)
            put(m, e, at, at + n);
        at += n;
    }
}
