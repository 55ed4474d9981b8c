/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs on a chain of images after a loss of power: a guest writes while a job works; then for
 * moments of that, all files are made as the loss would leave them, each of what was synced and of
 * any part of what was not. The images must be clean, and the disk that is opened by the name that
 * it had in the beginning holds in every sector what the guest's last flush promised, or something
 * newer.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/block_help.h"
#include "block/blockjob.h"
#include "block/disk.h"
#include "block/memory_file.h"
#include "block/sectors.h"

enum { SIZE = 256 * 1024, SECTORS = SIZE / SECTOR, LAYERS = 3, MARK_FLUSHED = UINT32_MAX };

/* A layer is told by its name: the folder is not there, so that nothing else is found. */
#define BASE "/nowhere/base"
#define MID  "/nowhere/mid"
static const char *const names[LAYERS] = {BASE, MID, "/nowhere/top"};

struct scene {
    const char *name;
    struct blockjob_spec spec;
    bool raw_base;
    unsigned sample;          /* one moment of so many */
    unsigned cluster[LAYERS]; /* log2 */
};

static struct memory_file *files[LAYERS];
static uint32_t model[SECTORS], next_version;
static struct history history[SECTORS];
static uint64_t points;

/* ------------------------------------------------------------------ images */

static struct chain *open_layer(struct memory_file *m, unsigned layer, bool raw, bool readonly) {
    struct chain_options o = {.path = names[layer],
                              .format = raw ? "raw" : "qcow2",
                              .readonly = readonly,
                              .no_backing = true,
                              .file = &m->base};
    struct error err = {0};
    struct chain *c = chain_open(&o, &err);

    assert_string_equal(err.text, "");
    return c;
}

/* The layer with those below it, to be written. */
static struct chain *open_chain(unsigned layer, bool raw_base) {
    struct chain *below = NULL;

    for (unsigned i = 0; i <= layer; i++) {
        struct chain *c = open_layer(files[i], i, i == 0 && raw_base, i != layer);

        if (i)
            chain_attach(c, below);
        below = c;
    }
    return below;
}

static void write_version(struct chain *c, uint64_t first, uint64_t count) {
    uint8_t data[64 * SECTOR];
    struct iovec v = {data, count * SECTOR};

    for (uint64_t i = 0; i < count; i++) {
        model[first + i] = ++next_version;
        sector_fill(data + i * SECTOR, first + i, next_version);
    }
    assert_int_equal(chain_write(c, &(struct span){&v, 1, 0}, first * SECTOR, count * SECTOR), 0);
}

static void fill_layer(unsigned layer, bool raw_base, struct rng *rng) {
    struct chain *c = open_chain(layer, raw_base);

    for (unsigned i = 0; i < 9; i++) {
        uint64_t first = rng_below(rng, SECTORS), n = 1 + rng_below(rng, 60);

        write_version(c, first, n < SECTORS - first ? n : SECTORS - first);
    }
    assert_int_equal(chain_close(c), 0);
}

static void make_images(const struct scene *s, struct rng *rng) {
    memset(model, 0, sizeof(model));
    next_version = 0;
    for (unsigned i = 0; i < LAYERS; i++) {
        struct qcow2_create c = {.size = SIZE,
                                 .cluster_bits = s->cluster[i],
                                 .backing = i ? names[i - 1] : NULL,
                                 .backing_format = i == 1 && s->raw_base ? "raw" : "qcow2"};

        files[i] = memory_file_new();
        if (i == 0 && s->raw_base)
            files[0]->base.ops->truncate(&files[0]->base, SIZE);
        else
            assert_int_equal(qcow2_create(&files[i]->base, names[i], &c, NULL), 0);
        fill_layer(i, s->raw_base, rng);
    }
}

/* ------------------------------------------------------------------ the guest and the job */

struct play {
    struct loop *loop;
    struct block *block;
    struct rng *rng;
    bool ready, ended;
    int code;
};

static void on_ready(void *opaque) { ((struct play *)opaque)->ready = true; }

static void on_end(void *opaque, const struct error *err) {
    struct play *p = opaque;

    p->ended = true;
    p->code = err ? err->code : 0;
    if (err)
        print_message("# %s\n", err->text);
}

static void mark(uint64_t sector, uint32_t version) {
    model[sector] = version;
    memory_file_mark(files[2], sector, version);
}

static void guest_step(struct play *p) {
    uint64_t first = rng_below(p->rng, SECTORS), n = 1 + rng_below(p->rng, 20);
    unsigned what = (unsigned)rng_below(p->rng, 8);
    static uint8_t data[64 * SECTOR];

    n = n < SECTORS - first ? n : SECTORS - first;
    if (what == 0) {
        assert_int_equal(do_request(p->loop, p->block, BLOCK_FLUSH, 0, NULL, 0), 0);
        memory_file_mark(files[2], MARK_FLUSHED, 0);
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        uint32_t version = what == 1 ? 0 : ++next_version;

        sector_fill(data + i * SECTOR, first + i, version);
        mark(first + i, version);
    }
    if (what == 1)
        assert_int_equal(
            do_request(p->loop, p->block, BLOCK_WRITE_ZEROES, first * SECTOR, NULL, n * SECTOR), 0);
    else
        assert_int_equal(
            do_request(p->loop, p->block, BLOCK_WRITE, first * SECTOR, data, n * SECTOR), 0);
}

/* The disk of a real image is changed for one in memory. */
static void open_disk(struct play *p, const struct scene *s) {
    const char *path = image_path("disk");
    struct disk *d;

    image_make(path, SIZE);
    p->loop = loop_new(NULL, NULL);
    p->block = image_open(p->loop, path, false);
    d = disk_of(p->block);
    chain_close(d->image);
    d->image = open_chain(LAYERS - 1, s->raw_base);
    disk_changed(d);
}

static void compare_disk(struct play *p) {
    uint8_t *data = malloc(SIZE);

    assert_int_equal(do_request(p->loop, p->block, BLOCK_READ, 0, data, SIZE), 0);
    for (uint64_t i = 0; i < SECTORS; i++)
        assert_int_equal(sector_read(data + i * SECTOR, i), model[i]);
    free(data);
}

static void play(const struct scene *s, struct rng *rng) {
    struct blockjob_fns fns = {.ready = on_ready, .ended = on_end};
    struct blockjob_spec spec = s->spec;
    struct play p = {.rng = rng};
    struct error err = {0};
    struct blockjob *j;

    fns.opaque = &p;
    open_disk(&p, s);
    for (unsigned i = 0; i < LAYERS; i++)
        files[i]->record = true;
    for (unsigned i = 0; i < 20; i++)
        guest_step(&p);
    spec.speed = 4 << 20; /* some writes of the guest fall into it */
    j = blockjob_start(p.block, &spec, &fns, &err);
    assert_string_equal(err.text, "");
    for (unsigned i = 0; !p.ended; i++) {
        guest_step(&p);
        loop_step(p.loop, 1);
        if (p.ready && !p.ended && i > 30)
            blockjob_complete(j);
    }
    assert_int_equal(p.code, 0);
    for (unsigned i = 0; i < 20; i++)
        guest_step(&p);
    compare_disk(&p);
    block_close(p.block);
    memory_file_mark(files[2], MARK_FLUSHED, 0);
    loop_free(p.loop);
}

/* ------------------------------------------------------------------ the loss of power */

static void must_be_clean(struct chain *c) {
    struct qcow2_check found;

    if (!c->qcow2)
        return;
    assert_int_equal(qcow2_check(c->qcow2, QCOW2_REPAIR_NONE, NULL, &found, NULL), 0);
    if (found.corruptions) /* say which */
        qcow2_check(c->qcow2, QCOW2_REPAIR_NONE, stderr, &found, NULL);
    assert_int_equal(found.corruptions + found.errors, 0);
}

/* The chain that the headers say, from the first layer on. */
static struct chain *open_as_named(struct memory_file **f, bool raw_base) {
    struct chain *all[LAYERS], *top;
    struct qcow2_info info;

    for (unsigned i = 0; i < LAYERS; i++) {
        all[i] = open_layer(f[i], i, i == 0 && raw_base, true);
        must_be_clean(all[i]);
    }
    for (unsigned i = LAYERS - 1; i; i--) {
        qcow2_info(all[i]->qcow2, &info);
        for (unsigned k = 0; k < i; k++)
            if (!strcmp(info.backing, names[k])) {
                qcow2_set_below(all[i]->qcow2, NULL, NULL, 0);
                chain_attach(all[i], all[k]);
                all[k]->readonly = true;
            }
    }
    top = all[LAYERS - 1];
    for (unsigned i = 0; i < LAYERS - 1; i++) { /* those that nobody refers to */
        const struct chain *c = top;

        while (c && c != all[i])
            c = c->backing;
        if (!c) {
            all[i]->backing = NULL;
            chain_close(all[i]);
        }
    }
    return top;
}

static void disk_must_be_allowed(struct memory_file **f, const struct scene *s) {
    struct chain *c = open_as_named(f, s->raw_base);
    static uint8_t data[SIZE];
    struct iovec v = {data, SIZE};

    assert_int_equal(chain_read(c, &(struct span){&v, 1, 0}, 0, SIZE), 0);
    for (uint64_t i = 0; i < SECTORS; i++) {
        uint32_t version = sector_read(data + i * SECTOR, i);

        if (!history_allows(&history[i], version))
            fail_msg("%s: sector %llu holds version %u, older than the last flush or foreign",
                     s->name, (unsigned long long)i, version);
    }
    chain_close(c);
}

struct replay {
    struct memory_file *stable[LAYERS], *crashed[LAYERS];
    unsigned at[LAYERS], synced[LAYERS]; /* events: the next; those before are in `stable` */
};

static void crash_here(struct replay *r, const struct scene *s, struct rng *rng) {
    for (unsigned i = 0; i < LAYERS; i++) {
        memory_file_copy(r->crashed[i], r->stable[i]);
        for (unsigned k = r->synced[i]; k < r->at[i]; k++)
            if (files[i]->events[k].kind == MEMORY_WRITE)
                memory_file_apply_torn(r->crashed[i], &files[i]->events[k], rng);
    }
    points++;
    disk_must_be_allowed(r->crashed, s);
}

/* The file whose next event comes first; LAYERS: none. */
static unsigned next_file(const struct replay *r) {
    unsigned best = LAYERS;

    for (unsigned i = 0; i < LAYERS; i++)
        if (r->at[i] < files[i]->count &&
            (best == LAYERS ||
             files[i]->events[r->at[i]].order < files[best]->events[r->at[best]].order))
            best = i;
    return best;
}

static void replay_event(struct replay *r, unsigned i, const struct scene *s, struct rng *rng) {
    const struct memory_event *e = &files[i]->events[r->at[i]++];

    switch (e->kind) {
    case MEMORY_MARK:
        for (uint64_t k = 0; e->mark == MARK_FLUSHED && k < SECTORS; k++)
            history_flushed(&history[k]);
        if (e->mark != MARK_FLUSHED)
            history_add(&history[e->mark], (uint32_t)e->mark2);
        break;
    case MEMORY_SYNC:
        for (; r->synced[i] < r->at[i]; r->synced[i]++)
            if (files[i]->events[r->synced[i]].kind == MEMORY_WRITE)
                memory_file_apply(r->stable[i], &files[i]->events[r->synced[i]]);
        break;
    case MEMORY_WRITE:
        if (rng_below(rng, s->sample) == 0)
            crash_here(r, s, rng);
        break;
    }
}

static void run(const struct scene *s, uint64_t seed) {
    struct rng rng = rng_seed(seed);
    struct replay r = {0};
    unsigned i;

    make_images(s, &rng);
    for (i = 0; i < SECTORS; i++)
        history_begin(&history[i], model[i]);
    for (i = 0; i < LAYERS; i++) {
        r.stable[i] = memory_file_new();
        r.crashed[i] = memory_file_new();
        memory_file_copy(r.stable[i], files[i]);
    }
    play(s, &rng);
    while ((i = next_file(&r)) < LAYERS)
        replay_event(&r, i, s, &rng);
    crash_here(&r, s, &rng);
    print_message("# %s: %llu crash points so far\n", s->name, (unsigned long long)points);
    for (i = 0; i < LAYERS; i++) {
        memory_file_free(r.stable[i]);
        memory_file_free(r.crashed[i]);
        memory_file_free(files[i]);
    }
}

static const struct scene scenes[] = {
    {"commit of the first layer",
     {.kind = BLOCKJOB_COMMIT},
     true,
     .sample = 2,
     .cluster = {12, 12, 12}},
    {"commit of the first layer, other clusters",
     {.kind = BLOCKJOB_COMMIT},
     false,
     .sample = 4,
     .cluster = {9, 11, 10}},
    {"commit of two layers",
     {.kind = BLOCKJOB_COMMIT, .base = BASE},
     true,
     .sample = 2,
     .cluster = {12, 12, 12}},
    {"commit of two layers, qcow2",
     {.kind = BLOCKJOB_COMMIT, .base = BASE},
     false,
     .sample = 4,
     .cluster = {12, 10, 12}},
    {"commit of the middle",
     {.kind = BLOCKJOB_COMMIT, .top = MID},
     false,
     .sample = 2,
     .cluster = {12, 12, 12}},
    {"stream", {.kind = BLOCKJOB_STREAM}, true, .sample = 2, .cluster = {12, 12, 12}},
    {"stream, other clusters",
     {.kind = BLOCKJOB_STREAM},
     false,
     .sample = 4,
     .cluster = {12, 9, 10}},
    {"stream to a base",
     {.kind = BLOCKJOB_STREAM, .base = BASE},
     true,
     .sample = 2,
     .cluster = {12, 12, 12}},
};

static void every_moment_of_a_job_survives_a_loss_of_power(void **state) {
    bool quick = getenv("VIV_SANITIZED");

    for (unsigned i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++)
        for (uint64_t seed = 1; seed <= (quick ? 1 : 3); seed++)
            run(&scenes[i], seed);
    if (!quick)
        assert_true(points >= 1500); /* how many depends on how the threads run */
}

static int clean_up(void **state) {
    block_help_clean();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_moment_of_a_job_survives_a_loss_of_power),
    };

    return cmocka_run_group_tests(tests, NULL, clean_up);
}
