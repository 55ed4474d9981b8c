/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compressed clusters of qcow2 images: raw deflate with a window of 4 KiB (RFC 1951), or zstd (RFC
 * 8878) ("QCOW2 image format", section Standard and compressed cluster descriptors).
 *
 * The last cluster that was decompressed is kept: guests read in smaller pieces.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "block/qcow2_internal.h"

enum { WINDOW_BITS = -12, MEMORY_LEVEL = 9 };

static int inflate_zlib(const uint8_t *in, uint64_t in_length, uint8_t *out, uint64_t length) {
    z_stream z = {.next_in = (uint8_t *)(uintptr_t)in,
                  .avail_in = (unsigned)in_length,
                  .next_out = out,
                  .avail_out = (unsigned)length};
    int r = inflateInit2(&z, WINDOW_BITS);

    if (r != Z_OK)
        return -ENOMEM;
    r = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    /* Behind the data lies the rest of a sector: the buffer is full before the stream ends. */
    return (r == Z_STREAM_END || r == Z_BUF_ERROR) && z.avail_out == 0 ? 0 : -EUCLEAN;
}

static int inflate_zstd(const uint8_t *in, uint64_t in_length, uint8_t *out, uint64_t length) {
    ZSTD_DCtx *z = ZSTD_createDCtx();
    ZSTD_inBuffer from = {in, in_length, 0};
    ZSTD_outBuffer to = {out, length, 0};
    int r = z ? 0 : -ENOMEM;

    while (r == 0 && to.pos < length) {
        size_t before = to.pos + from.pos, n = ZSTD_decompressStream(z, &to, &from);

        if (ZSTD_isError(n) || to.pos + from.pos == before)
            r = -EUCLEAN;
    }
    ZSTD_freeDCtx(z);
    return r;
}

static int decompress(struct qcow2 *q, uint64_t entry) {
    uint64_t offset, length;
    int r;

    compressed_place(q, entry, &offset, &length);
    if (offset >= q->file_end)
        return corrupt(q, "compressed data lie past the end of the file");
    if (!q->inflated)
        q->inflated = malloc(q->cluster_size);
    if (!q->deflated) /* as long as a descriptor can say */
        q->deflated = malloc(q->cluster_size * 2 + 512);
    if (!q->inflated || !q->deflated)
        return -ENOMEM;
    q->inflated_entry = 0;
    r = bytefile_read(q->file, q->deflated, length, offset);
    if (r == 0)
        r = (q->zstd ? inflate_zstd : inflate_zlib)(q->deflated, length, q->inflated,
                                                    q->cluster_size);
    if (r == -EUCLEAN)
        return corrupt(q, "the compressed data at 0x%llx cannot be decompressed",
                       (unsigned long long)offset);
    if (r == 0)
        q->inflated_entry = entry;
    return r;
}

int compressed_read(struct qcow2 *q, uint64_t entry, const struct span *s, uint64_t at,
                    uint64_t length) {
    int r = 0;

    pthread_mutex_lock(&q->inflate_lock);
    if (q->inflated_entry != entry)
        r = decompress(q, entry);
    if (r == 0)
        span_put(s, q->inflated + at, length);
    pthread_mutex_unlock(&q->inflate_lock);
    return r;
}

/* ------------------------------------------------------------------ writing */

/* The length, or 0 if it does not become smaller. */
static uint64_t deflate_zlib(const uint8_t *in, uint64_t length, uint8_t *out) {
    z_stream z = {.next_in = (uint8_t *)(uintptr_t)in,
                  .avail_in = (unsigned)length,
                  .next_out = out,
                  .avail_out = (unsigned)length - 1};
    uint64_t n = 0;

    if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, WINDOW_BITS, MEMORY_LEVEL,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        return 0;
    if (deflate(&z, Z_FINISH) == Z_STREAM_END)
        n = length - 1 - z.avail_out;
    deflateEnd(&z);
    return n;
}

static uint64_t compress_cluster(const struct qcow2 *q, const uint8_t *in, uint8_t *out) {
    size_t n;

    if (!q->zstd)
        return deflate_zlib(in, q->cluster_size, out);
    n = ZSTD_compress(out, q->cluster_size - 1, in, q->cluster_size, 3);
    return ZSTD_isError(n) ? 0 : n;
}

/* Compressed clusters lie one behind the other, and each is a reference to every host cluster that
 * it touches. */
static int place_compressed_locked(struct qcow2 *q, uint64_t n, uint64_t *ret_offset) {
    uint64_t at = q->compressed_at, room = -at & (q->cluster_size - 1), first, count;
    bool virgin;
    int r;

    if (n <= room && refcount_add_locked(q, cluster_of(q, at), 1, 1) == 0) {
        *ret_offset = at;
        q->compressed_at = at + n;
        return 0;
    }
    r = alloc_locked(q, 1, &first, &count, &virgin);
    if (r < 0)
        return r;
    *ret_offset = first << q->cluster_bits;
    if (room && n > room && *ret_offset == at + room &&
        refcount_add_locked(q, cluster_of(q, at), 1, 1) == 0)
        *ret_offset = at;
    q->compressed_at = *ret_offset + n;
    return 0;
}

static int enter_compressed_locked(struct qcow2 *q, uint64_t cluster, uint64_t offset, uint64_t n) {
    unsigned x = 62 - (q->cluster_bits - 8);
    uint64_t sectors = (offset + n - 1) / 512 - offset / 512;
    struct table *t;
    int r = l2_get_locked(q, cluster, &t);

    if (r < 0)
        return r;
    entry_free_locked(q, l2_load(q, t, cluster));
    l2_store_locked(q, t, cluster, ENTRY_COMPRESSED | sectors << x | offset);
    return 0;
}

static int write_packed(struct qcow2 *q, const uint8_t *packed, uint64_t n, uint64_t offset) {
    uint64_t at, first, last;
    struct range range;
    int r;

    pthread_mutex_lock(&q->lock);
    r = make_room_locked(q);
    range_lock_locked(q, &range, cluster_of(q, offset), cluster_of(q, offset), true);
    if (r == 0 && (r = place_compressed_locked(q, n, &at)) == 0) {
        pthread_mutex_unlock(&q->lock);
        r = bytefile_write(q->file, packed, n, at);
        pthread_mutex_lock(&q->lock);
        if (r == 0)
            r = enter_compressed_locked(q, cluster_of(q, offset), at, n);
        first = cluster_of(q, at);
        last = cluster_of(q, at + n - 1);
        if (r < 0)
            refcount_add_locked(q, first, last - first + 1, -1);
    }
    range_unlock_locked(q, &range);
    pthread_mutex_unlock(&q->lock);
    return r;
}

int qcow2_write_compressed(struct qcow2 *q, const void *data, uint64_t offset, uint64_t length) {
    struct iovec v = {(void *)(uintptr_t)data, length};
    struct span s = {&v, 1, 0};
    uint8_t *whole, *packed;
    uint64_t n;
    int r;

    if (q->readonly || offset & (q->cluster_size - 1) || length > q->cluster_size || !length)
        return q->readonly ? -EROFS : -EINVAL;
    r = bitmaps_use(q);
    if (r < 0)
        return r;
    whole = calloc(1, q->cluster_size);
    packed = malloc(q->cluster_size);
    if (!whole || !packed) {
        free(whole);
        free(packed);
        return -ENOMEM;
    }
    memcpy(whole, data, length);
    n = compress_cluster(q, whole, packed);
    pthread_mutex_lock(&q->inflate_lock);
    q->inflated_entry = 0;
    pthread_mutex_unlock(&q->inflate_lock);
    r = n ? write_packed(q, packed, n, offset) : qcow2_write(q, &s, offset, length);
    bitmaps_mark(q, offset, length);
    free(whole);
    free(packed);
    return r;
}
