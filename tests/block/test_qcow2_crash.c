/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2 images after a loss of power: a random workload is recorded write by write. Then for every
 * moment of it images are made of all that was synced and of any part of what was not, sector by
 * sector. Each must pass our check without a corruption, and each sector of its disk must hold what
 * it held at the last flush, or something newer. A sample is shown to qemu-img, too.
 *
 * Some workloads also pull clusters from the layer below, change the name of the backing file, or
 * keep dirty bitmaps: after a crash the name is the old or the new one, and a bitmap knows of every
 * sector that was written, or says itself that it is of no use.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/block_help.h"
#include "block/memory_file.h"
#include "block/qcow2.h"
#include "block/qcow2_bitmap.h"
#include "block/sectors.h"
#include "support/test.h"

enum { MARK_FLUSHED = UINT32_MAX, MARK_NAMING = UINT32_MAX - 1, MARK_NAMED = UINT32_MAX - 2 };

struct workload {
    const char *name;
    unsigned cluster_bits, refcount_bits, version;
    uint64_t size;
    unsigned operations;
    unsigned per_point; /* crash images a recorded write */
    bool backing, compressed, pull, bitmaps;
    const char *make; /* shell command that makes the first image as $F instead */
};

static struct history history[MAX_SECTORS]; /* while replaying */
static uint32_t model[MAX_SECTORS], next_version;
static uint64_t points;
static uint32_t name_now, name_then; /* while replaying: numbers of the backing file's name */
static uint64_t good_bitmaps, bad_bitmaps;

/* ------------------------------------------------------------------ contents */

static int below(void *opaque, const struct span *s, uint64_t offset, uint64_t length) {
    uint8_t p[SECTOR];
    struct span at = *s;

    for (uint64_t i = 0; i < length; i += SECTOR, at.skip += SECTOR) {
        sector_fill(p, (offset + i) / SECTOR, 1);
        span_put(&at, p, SECTOR);
    }
    return 0;
}

static struct qcow2 *open_image(struct memory_file *m, const struct workload *w, bool readonly) {
    struct qcow2_open o = {.path = w->name, .readonly = readonly, .cache = 1};
    struct error err = {0};
    struct qcow2 *q = qcow2_open(&m->base, &o, &err);

    assert_string_equal(err.text, "");
    if (w->backing)
        qcow2_set_below(q, below, NULL, w->size);
    return q;
}

static void read_disk(struct qcow2 *q, uint8_t *data, uint64_t offset, uint64_t length) {
    struct iovec v = {data, length};
    struct span s = {&v, 1, 0};

    assert_int_equal(qcow2_read(q, &s, offset, length), 0);
}

/* ------------------------------------------------------------------ the workload */

static void note(struct memory_file *m, uint64_t sector, uint32_t version) {
    model[sector] = version;
    memory_file_mark(m, sector, version);
}

static void write_some(struct qcow2 *q, struct memory_file *m, uint64_t first, uint64_t count,
                       bool zero) {
    uint8_t *data = malloc(count * SECTOR);
    struct iovec v[2] = {{data, SECTOR}, {data + SECTOR, (count - 1) * SECTOR}};
    struct span s = {v, 2, 0};

    for (uint64_t i = 0; i < count; i++) {
        uint32_t version = zero ? 0 : ++next_version;

        sector_fill(data + i * SECTOR, first + i, version);
        note(m, first + i, version);
    }
    assert_int_equal(qcow2_write(q, &s, first * SECTOR, count * SECTOR), 0);
    free(data);
}

static void write_compressed(struct qcow2 *q, struct memory_file *m, const struct workload *w,
                             uint64_t sector) {
    uint64_t per = (1u << w->cluster_bits) / SECTOR, first = sector / per * per;
    uint64_t count = first + per > w->size / SECTOR ? w->size / SECTOR - first : per;
    uint8_t *data = malloc(per * SECTOR);

    for (uint64_t i = 0; i < count; i++) {
        sector_fill(data + i * SECTOR, first + i, ++next_version);
        note(m, first + i, next_version);
    }
    assert_int_equal(qcow2_write_compressed(q, data, first * SECTOR, count * SECTOR), 0);
    free(data);
}

/* After a discard a sector holds what it held, or zeroes: what it is, the image says. */
static void discard_some(struct qcow2 *q, struct memory_file *m, uint64_t first, uint64_t count) {
    uint8_t *data = malloc(count * SECTOR);

    for (uint64_t i = 0; i < count; i++)
        memory_file_mark(m, first + i, 0);
    assert_int_equal(qcow2_discard(q, first * SECTOR, count * SECTOR), 0);
    read_disk(q, data, first * SECTOR, count * SECTOR);
    for (uint64_t i = 0; i < count; i++) {
        uint32_t version = sector_read(data + i * SECTOR, first + i);

        if (version)
            assert_int_equal(version, model[first + i]);
        note(m, first + i, version);
    }
    free(data);
}

static void pull_some(struct qcow2 *q, const struct workload *w, uint64_t first, uint64_t count) {
    uint64_t cluster = 1ull << w->cluster_bits, from = first * SECTOR & ~(cluster - 1);
    uint64_t to = (first + count) * SECTOR;

    to = (to + cluster - 1) & ~(cluster - 1);
    assert_int_equal(qcow2_pull(q, from, (to < w->size ? to : w->size) - from), 0);
}

/* Names of all lengths that fit, with their number in front. */
static void name_of(const struct workload *w, uint32_t number, char out[1024]) {
    unsigned most = w->cluster_bits == 9 ? 200 : w->cluster_bits == 10 ? 350 : 1000;
    int n = snprintf(out, 1024, "%u.", number);

    memset(out + n, 'x', 1023 - (size_t)n);
    out[n + (int)(number * 97 % (most - 20))] = 0;
}

static void change_name(struct qcow2 *q, struct memory_file *m, const struct workload *w) {
    static uint32_t last;
    struct error err = {0};
    char name[1024];

    last = last % 1000 + 1;
    name_of(w, last, name);
    memory_file_mark(m, MARK_NAMING, last);
    qcow2_set_backing(q, name, last % 2 ? "raw" : "qcow2", &err);
    assert_string_equal(err.text, "");
    memory_file_mark(m, MARK_NAMED, last);
}

static void change_bitmaps(struct qcow2 *q, struct rng *rng) {
    char name[16];

    snprintf(name, sizeof(name), "b%u", (unsigned)rng_below(rng, 4));
    if (rng_below(rng, 2))
        qcow2_bitmap_add(q, name, 512ull << rng_below(rng, 8), true, NULL);
    else
        qcow2_bitmap_change(q, name, QCOW2_BITMAP_REMOVE, NULL);
}

static void one_operation(struct qcow2 *q, struct memory_file *m, const struct workload *w,
                          struct rng *rng) {
    uint64_t sectors = w->size / SECTOR, first = rng_below(rng, sectors);
    uint64_t most = rng_below(rng, 4) ? 24 : 150, count = 1 + rng_below(rng, most);
    unsigned what = (unsigned)rng_below(rng, 20);

    count = count < sectors - first ? count : sectors - first;
    if (what < 9) {
        write_some(q, m, first, count, false);
    } else if (what < 10) {
        write_some(q, m, first, count, true);
    } else if (what < 13) {
        for (uint64_t i = 0; i < count; i++)
            note(m, first + i, 0);
        assert_int_equal(qcow2_zero(q, first * SECTOR, count * SECTOR, rng_next(rng) & 0x10), 0);
    } else if (what < 16) {
        discard_some(q, m, first, count);
    } else if (what < 17 && w->bitmaps && rng_below(rng, 2)) {
        change_bitmaps(q, rng);
    } else if (what < 17 && w->pull) {
        change_name(q, m, w);
    } else if (what < 18 && w->pull) {
        pull_some(q, w, first, count);
    } else if (what < 17 && w->compressed) {
        write_compressed(q, m, w, first);
    } else {
        assert_int_equal(qcow2_flush(q), 0);
        memory_file_mark(m, MARK_FLUSHED, 0);
    }
}

static void compare_with_model(struct qcow2 *q, const struct workload *w) {
    uint8_t *data = malloc(w->size);

    read_disk(q, data, 0, w->size);
    for (uint64_t i = 0; i < w->size / SECTOR; i++)
        assert_int_equal(sector_read(data + i * SECTOR, i), model[i]);
    free(data);
}

static void must_be_clean(struct memory_file *m, const struct workload *w, bool leaks) {
    struct qcow2 *q = open_image(m, w, true);
    struct qcow2_check c;

    assert_int_equal(qcow2_check(q, QCOW2_REPAIR_NONE, NULL, &c, NULL), 0);
    if (c.corruptions || (c.leaks && !leaks)) /* say which */
        qcow2_check(q, QCOW2_REPAIR_NONE, stderr, &c, NULL);
    assert_int_equal(c.corruptions, 0);
    assert_int_equal(c.errors, 0);
    if (!leaks)
        assert_int_equal(c.leaks, 0);
    qcow2_close(q);
}

static void make_first(struct memory_file *m, const struct workload *w) {
    struct qcow2_create c = {.size = w->size,
                             .cluster_bits = w->cluster_bits,
                             .refcount_bits = w->refcount_bits,
                             .version = w->version};
    char command[600];
    const char *path = image_path("first.qcow2");

    if (!w->make) {
        assert_int_equal(qcow2_create(&m->base, w->name, &c, NULL), 0);
        return;
    }
    snprintf(command, sizeof(command), "F='%s'; { %s; } >/dev/null", path, w->make);
    assert_int_equal(system(command), 0);
    memory_file_load(m, path);
    unlink(path);
}

static void record(struct memory_file *m, const struct workload *w, struct rng *rng) {
    struct qcow2 *q = open_image(m, w, false);

    if (w->bitmaps)
        assert_int_equal(qcow2_bitmap_add(q, "all", 4096, true, NULL), 0);
    m->record = true;
    for (unsigned i = 0; i < w->operations; i++) {
        one_operation(q, m, w, rng);
        if (i % (w->bitmaps ? 23 : 97) ==
            (w->bitmaps ? 22 : 96)) { /* close and open: everything is flushed, and nothing leaks */
            assert_int_equal(qcow2_close(q), 0);
            memory_file_mark(m, MARK_FLUSHED, 0);
            must_be_clean(m, w, false);
            q = open_image(m, w, false);
            compare_with_model(q, w);
        }
    }
    compare_with_model(q, w);
    assert_int_equal(qcow2_close(q), 0);
    memory_file_mark(m, MARK_FLUSHED, 0);
    must_be_clean(m, w, false);
}

/* ------------------------------------------------------------------ the crashes */

static void replay_mark(const struct memory_event *e, uint64_t sectors) {
    if (e->mark == MARK_NAMING || e->mark == MARK_NAMED) {
        name_then = e->mark == MARK_NAMED ? (uint32_t)e->mark2 : name_now;
        name_now = (uint32_t)e->mark2;
        return;
    }
    if (e->mark == MARK_FLUSHED) {
        for (uint64_t i = 0; i < sectors; i++)
            history_flushed(&history[i]);
        return;
    }
    history_add(&history[e->mark], (uint32_t)e->mark2);
}

static void disk_must_be_allowed(struct memory_file *m, const struct workload *w) {
    struct qcow2 *q = open_image(m, w, true);
    static uint8_t data[MAX_SECTORS * SECTOR];

    read_disk(q, data, 0, w->size);
    for (uint64_t i = 0; i < w->size / SECTOR; i++) {
        uint32_t version = sector_read(data + i * SECTOR, i);

        if (!history_allows(&history[i], version))
            fail_msg("%s: sector %llu holds version %u, older than the last flush or foreign",
                     w->name, (unsigned long long)i, version);
    }
    qcow2_close(q);
}

static void name_must_be_allowed(struct qcow2 *q, const struct workload *w) {
    char now[1024], then[1024];
    struct qcow2_info info;

    if (!name_now)
        return;
    qcow2_info(q, &info);
    name_of(w, name_now, now);
    name_of(w, name_then, then);
    if (strcmp(info.backing, now) != 0 && (strcmp(info.backing, then) != 0 || !name_then) &&
        (name_then || *info.backing))
        fail_msg("%s: the backing file is '%s'", w->name, info.backing);
}

static void look_at_bitmap(void *opaque, const struct qcow2_bitmap_info *b) {
    if (strcmp(b->name, "all") == 0)
        *(int *)opaque = b->inconsistent ? 0 : 1;
}

/* A sector that is not as it was in the beginning, when the bitmap was added. */
static void bitmap_must_know(struct memory_file *m, const struct workload *w) {
    struct qcow2 *q = open_image(m, w, true);
    static uint8_t data[MAX_SECTORS * SECTOR];
    struct dirty *bits;
    int state = -1;

    qcow2_bitmap_each(q, look_at_bitmap, &state);
    name_must_be_allowed(q, w);
    qcow2_close(q);
    if (state <= 0) {
        bad_bitmaps += state == 0;
        return;
    }
    good_bitmaps++;
    q = open_image(m, w, false);
    assert_int_equal(qcow2_bitmap_take(q, "all", &bits, NULL), 0);
    read_disk(q, data, 0, w->size);
    for (uint64_t i = 0; i < w->size / SECTOR; i++)
        if (sector_read(data + i * SECTOR, i) != w->backing && !dirty_any(bits, i * SECTOR, SECTOR))
            fail_msg("%s: a bitmap does not know of sector %llu", w->name, (unsigned long long)i);
    qcow2_bitmap_give(q, "all", false);
    qcow2_close(q);
    must_be_clean(m, w, true);
}

/* The image must also serve on. */
static void must_go_on(struct memory_file *m, const struct workload *w, struct rng *rng) {
    struct qcow2 *q = open_image(m, w, false);
    static uint8_t data[MAX_SECTORS * SECTOR];

    read_disk(q, data, 0, w->size);
    for (uint64_t i = 0; i < w->size / SECTOR; i++)
        model[i] = sector_read(data + i * SECTOR, i);
    for (unsigned i = 0; i < 10; i++)
        one_operation(q, m, w, rng);
    assert_int_equal(qcow2_close(q), 0);
    must_be_clean(m, w, true);
}

static void ask_qemu(const struct memory_file *m) {
    const char *path = image_path("crash.qcow2");
    char command[600];
    int r;

    memory_file_save(m, path);
    snprintf(command, sizeof(command),
             "qemu-img check -q 'json:{\"driver\": \"qcow2\", \"backing\": null, \"file\": "
             "{\"driver\": \"file\", \"filename\": \"%s\"}}' >/dev/null 2>&1",
             path);
    r = system(command);
    assert_true(WIFEXITED(r));
    assert_true(WEXITSTATUS(r) == 0 || WEXITSTATUS(r) == 3); /* 3: leaks */
    unlink(path);
}

struct replay {
    struct memory_file *stable, *crashed;
    unsigned pending[4096], pending_count;
};

static void crash_here(struct replay *r, const struct memory_file *m, const struct workload *w,
                       struct rng *rng) {
    memory_file_copy(r->crashed, r->stable);
    for (unsigned i = 0; i < r->pending_count; i++)
        memory_file_apply_torn(r->crashed, &m->events[r->pending[i]], rng);
    must_be_clean(r->crashed, w, true);
    disk_must_be_allowed(r->crashed, w);
    if (++points % 400 == 0 && !getenv("VIV_SANITIZED"))
        ask_qemu(r->crashed);
    if (w->pull || w->bitmaps)
        bitmap_must_know(r->crashed, w);
    if (points % 16 == 0)
        must_go_on(r->crashed, w, rng);
}

static void replay(const struct memory_file *m, const struct memory_file *first,
                   const struct workload *w, struct rng *rng) {
    struct replay r = {memory_file_new(), memory_file_new(), {0}, 0};
    uint32_t kept[MAX_SECTORS];

    memcpy(kept, model, sizeof(kept));
    memory_file_copy(r.stable, first);
    for (unsigned i = 0; i < m->count; i++) {
        const struct memory_event *e = &m->events[i];

        if (e->kind == MEMORY_MARK) {
            replay_mark(e, w->size / SECTOR);
        } else if (e->kind == MEMORY_SYNC) {
            for (unsigned k = 0; k < r.pending_count; k++)
                memory_file_apply(r.stable, &m->events[r.pending[k]]);
            r.pending_count = 0;
        } else {
            assert_in_range(r.pending_count, 0, 4095);
            r.pending[r.pending_count++] = i;
            for (unsigned k = 0; k < w->per_point; k++)
                crash_here(&r, m, w, rng);
        }
    }
    memcpy(model, kept, sizeof(kept));
    memory_file_free(r.stable);
    memory_file_free(r.crashed);
}

static void run(const struct workload *w) {
    struct memory_file *m = memory_file_new(), *first = memory_file_new();
    struct rng rng = rng_seed(w->cluster_bits * 1000 + w->operations);

    assert_in_range(w->size / SECTOR, 1, MAX_SECTORS);
    next_version = 1;
    name_now = name_then = 0;
    make_first(m, w);
    memory_file_copy(first, m);
    for (uint64_t i = 0; i < MAX_SECTORS; i++) {
        model[i] = w->backing;
        history_begin(&history[i], w->backing);
    }
    record(m, w, &rng);
    replay(m, first, w, &rng);
    print_message("# %s: %llu crash points so far\n", w->name, (unsigned long long)points);
    memory_file_free(m);
    memory_file_free(first);
}

static const struct workload workloads[] = {
    {"small clusters", 9, 16, 3, 256 * 1024, 330, 2, .compressed = true},
    {"4 KiB clusters", 12, 16, 3, 512 * 1024, 400, 4, .compressed = true},
    {"with a backing layer", 12, 16, 3, 512 * 1024, 400, 3, .backing = true},
    {"version 2", 10, 16, 2, 256 * 1024, 300, 2, .backing = false},
    {"version 2 with a backing layer", 11, 16, 2, 256 * 1024, 300, 2, .backing = true},
    {"refcounts of one bit", 9, 1, 3, 256 * 1024, 250, 2, .backing = false},
    {"refcounts of 64 bits", 10, 64, 3, 256 * 1024, 250, 2, .backing = false},
    {"64 KiB clusters", 16, 16, 3, 1024 * 1024, 250, 2, .backing = false},
    {"pulled from below", 12, 16, 3, 512 * 1024, 300, 2, .backing = true, .pull = true},
    {"pulled from below, small clusters", 9, 16, 3, 256 * 1024, 250, 1, .backing = true,
     .pull = true},
    {"pulled from below, version 2", 10, 16, 2, 256 * 1024, 250, 1, .backing = true, .pull = true},
    {"dirty bitmaps", 12, 16, 3, 512 * 1024, 300, 2, .bitmaps = true},
    {"dirty bitmaps, small clusters", 9, 16, 3, 256 * 1024, 250, 2, .bitmaps = true},
    {"dirty bitmaps and pulls", 16, 16, 3, 1024 * 1024, 250, 2, .backing = true, .pull = true,
     .bitmaps = true},
    {"an internal snapshot", 12, 16, 3, 256 * 1024, 250, 2,
     .make = "qemu-img create -q -f qcow2 -o cluster_size=4k $F 256k && "
             "qemu-io -c 'write -z 0 256k' $F && qemu-img snapshot -c one $F"},
};

static void every_moment_of_a_workload_survives_a_loss_of_power(void **state) {
    bool quick = getenv("VIV_SANITIZED");

    for (unsigned i = 0; i < sizeof(workloads) / sizeof(workloads[0]); i++) {
        struct workload w = workloads[i];

        if (quick) {
            w.operations /= 6;
            w.per_point = 1;
        }
        run(&w);
    }
    print_message("# %llu good bitmaps, %llu that say they are of no use\n",
                  (unsigned long long)good_bitmaps, (unsigned long long)bad_bitmaps);
    assert_true(good_bitmaps > 10 && bad_bitmaps > 10);
    if (!quick)
        assert_true(points >= 10000);
}

static int clean_up(void **state) {
    block_help_clean();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_moment_of_a_workload_survives_a_loss_of_power),
    };

    return cmocka_run_group_tests(tests, NULL, clean_up);
}
