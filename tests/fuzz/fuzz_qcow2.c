/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: a good qcow2 image with bytes changed as the input says is opened, read, checked,
 * repaired and written. Nothing may crash or hang; what repair calls clean must be clean. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/memory_file.h"
#include "block/qcow2.h"
#include "block/qcow2_bitmap.h"

enum { SIZE = 512 * 1024, PART = 48 * 1024, MOST = 8 * 1024 * 1024 };

static uint8_t buffer[PART];

static void write_part(struct qcow2 *q, uint64_t offset, uint64_t length, uint8_t value) {
    struct iovec v = {buffer, length};

    memset(buffer, value, length);
    qcow2_write(q, &(struct span){&v, 1, 0}, offset, length);
}

static struct qcow2 *open_image(struct memory_file *m, bool readonly, bool no_repair) {
    struct qcow2_open o = {
        .path = "fuzz", .readonly = readonly, .no_repair = no_repair, .cache = 1};

    return qcow2_open(&m->base, &o, NULL);
}

static void make_image(struct memory_file *m, uint8_t kind) {
    struct qcow2_create c = {.size = SIZE,
                             .cluster_bits = 9 + kind % 4,
                             .refcount_bits = kind & 16 ? 1u << (kind >> 5) % 7 : 16,
                             .version = kind & 4 && !(kind & 16) ? 2 : 3};
    struct qcow2 *q;

    if (qcow2_create(&m->base, "fuzz", &c, NULL) < 0)
        abort();
    q = open_image(m, false, false);
    if (!q)
        abort();
    if (kind & 8) { /* version 2 has none */
        qcow2_bitmap_add(q, "one", 512, true, NULL);
        qcow2_bitmap_add(q, "another", 8192, false, NULL);
    }
    write_part(q, 3 * 512, PART, 1);
    write_part(q, 300 * 1024, PART, 2);
    memset(buffer, 3, sizeof(buffer));
    qcow2_write_compressed(q, buffer, 200 * 1024, 512ull << kind % 4);
    qcow2_write_compressed(q, buffer, 204 * 1024, 512ull << kind % 4);
    qcow2_discard(q, 320 * 1024, 8 * 1024);
    qcow2_close(q);
}

/* Records of three bytes for the place (within the first 64 KiB mostly) and one for the value. */
static void damage(struct memory_file *m, const uint8_t *data, size_t size) {
    /* Behind the header of version 3: the extension's type, its length, and 16 bytes on: */
    uint64_t bitmaps = m->size >= 144 ? load_be64(m->data + 136) : 0;

    for (; size >= 4; data += 4, size -= 4) {
        uint64_t at = load_le16(data) | (uint64_t)(data[2] & 1) << 16;

        if (data[2] & 2)
            at &= 255; /* the header */
        else if (data[2] & 4)
            at = bitmaps + (at & 255);
        if (at < m->size)
            m->data[at] = data[3];
    }
    if (size == 3)
        m->size = m->size * data[0] / 256;
}

static void read_all(struct qcow2 *q) {
    struct qcow2_info info;
    struct iovec v = {buffer, PART};
    struct qcow2_run run;
    uint64_t at;

    qcow2_info(q, &info);
    for (at = 0; at + PART <= info.size && at < 2 * SIZE; at += PART) {
        qcow2_read(q, &(struct span){&v, 1, 0}, at, PART);
        qcow2_map(q, at, PART, &run);
    }
    if (info.size >= 512) {
        v.iov_len = 512;
        qcow2_read(q, &(struct span){&v, 1, 0}, (info.size & ~511ull) - 512, 512);
    }
}

static void look_at(void *opaque, const struct qcow2_bitmap_info *info) {
    ++*(unsigned *)opaque;
    if (!*info->name || !info->granularity)
        abort();
}

static void use_bitmaps(struct qcow2 *q) {
    struct dirty *bits;
    unsigned count = 0;

    qcow2_bitmap_each(q, look_at, &count);
    qcow2_bitmap_merge(q, "another", q, "one", NULL);
    if (qcow2_bitmap_take(q, "another", &bits, NULL) == 0)
        qcow2_bitmap_give(q, "another", count & 1);
    qcow2_bitmap_change(q, "one", QCOW2_BITMAP_REMOVE, NULL);
    qcow2_bitmap_add(q, "new", 0, true, NULL);
}

static void write_some(struct qcow2 *q) {
    for (uint64_t at = 0; at < SIZE - PART; at += 7 * 4096)
        write_part(q, at, 6000 / 512 * 512, 9);
    qcow2_zero(q, 8192, 100 * 1024, true);
    qcow2_discard(q, 150 * 1024, 90 * 1024);
    qcow2_flush(q);
    read_all(q);
    qcow2_resize(q, SIZE * 2, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct memory_file *made[256]; /* one a kind */
    struct memory_file *m;
    struct qcow2_check c, again;
    struct qcow2 *q;
    int r;

    if (!size || size > 4096)
        return 0;
    m = memory_file_new();
    m->most = MOST;
    if (!made[data[0]]) {
        made[data[0]] = memory_file_new();
        make_image(made[data[0]], data[0]);
    }
    memory_file_copy(m, made[data[0]]);
    damage(m, data + 1, size - 1);
    if ((q = open_image(m, true, false))) {
        read_all(q);
        qcow2_bitmap_each(q, look_at, &(unsigned){0});
        qcow2_check(q, QCOW2_REPAIR_NONE, NULL, &c, NULL);
        qcow2_close(q);
    }
    if (size & 1 && (q = open_image(m, false, true))) {
        r = qcow2_check(q, QCOW2_REPAIR_ALL, NULL, &c, NULL);
        if (qcow2_close(q) == 0 && r == 0 && !c.corruptions && !c.errors) {
            q = open_image(m, true, false);
            if (!q || qcow2_check(q, QCOW2_REPAIR_NONE, NULL, &again, NULL) < 0 ||
                again.corruptions)
                abort();
            qcow2_close(q);
        }
    }
    if ((q = open_image(m, false, false))) {
        use_bitmaps(q);
        write_some(q);
        qcow2_close(q);
    }
    memory_file_free(m);
    return 0;
}
