/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Jobs on disks while a guest writes at random: what it reads is what it wrote, before, during and
 * after; qemu-img reads the same and finds the images clean. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/trace.h"
#include "block/jobs_rig.h"

enum { SPEED = 60 << 20 };

/* base (raw or qcow2), mid on it, top on that. Made once of each kind, since it takes a second. */
static void make_chain(const char *base, unsigned cluster) {
    char words[900];

    snprintf(words, sizeof(words), "rm -f $D/[!c]*; test -e $D/c-%s-%u-top", base, cluster);
    if (jobs_shell_code(words) != 0) {
        snprintf(words, sizeof(words),
                 "qemu-img create -q -f %s $D/base 8M; "
                 "qemu-img create -q -f qcow2 -b base -F %s -o cluster_size=%u $D/mid 8M; "
                 "qemu-img create -q -f qcow2 -b mid -F qcow2 -o cluster_size=%u $D/top 8M",
                 base, base, cluster / 2, cluster);
        jobs_shell(words);
        jobs_fill("base", base, 1);
        jobs_fill("mid", "qcow2", 2);
        jobs_fill("top", "qcow2", 3);
        snprintf(words, sizeof(words), "for f in base mid top; do cp $D/$f $D/c-%s-%u-$f; done",
                 base, cluster);
        jobs_shell(words);
    }
    snprintf(words, sizeof(words), "for f in base mid top; do cp $D/c-%s-%u-$f $D/$f; done", base,
             cluster);
    jobs_shell(words);
}

static char *path_of(const char *name) { return strdup(image_path(name)); }

/* ------------------------------------------------------------------ snapshot */

static void snapshot_of(const char *top, const char *format) {
    struct jobs_rig r;
    uint8_t *then = malloc(JOBS_SIZE);
    char *file = path_of("new");

    jobs_open(&r, top, format, 11);
    jobs_run(&r, 300);
    jobs_idle(&r);
    r.quiet = true; /* so that it is known what the snapshot holds */
    memcpy(then, r.model, JOBS_SIZE);
    jobs_start(&r, &(struct blockjob_spec){.kind = BLOCKJOB_SNAPSHOT, .path = file});
    assert_int_equal(jobs_until_ended(&r), 0);
    assert_string_equal(block_info(r.block)->path, file);
    assert_string_equal(block_info(r.block)->format, "qcow2");
    r.quiet = false;
    jobs_run(&r, 600);
    jobs_close(&r);
    jobs_image_is_clean("new", false);
    jobs_compare(&r, top, format, then);
    jobs_compare(&r, "new", "qcow2", NULL);
    free(then);
    free(r.model);
    free(file);
}

static void a_snapshot_keeps_the_disk_as_it_was(void **state) {
    make_chain("raw", 65536);
    snapshot_of("top", "qcow2");
    jobs_image_is_clean("top", false);
    make_chain("raw", 4096);
    snapshot_of("base", "raw");
}

static void snapshots_are_taken_while_the_guest_writes(void **state) {
    struct jobs_rig r;

    make_chain("qcow2", 65536);
    jobs_open(&r, "top", "qcow2", 12);
    for (unsigned i = 0; i < 8; i++) {
        char name[20];
        char *file;

        snprintf(name, sizeof(name), "s%u", i);
        file = path_of(name);
        jobs_run(&r, 100);
        jobs_start(&r, &(struct blockjob_spec){.kind = BLOCKJOB_SNAPSHOT, .path = file});
        assert_int_equal(jobs_until_ended(&r), 0);
        free(file);
    }
    jobs_run(&r, 100);
    jobs_close(&r);
    jobs_compare(&r, "s7", "qcow2", NULL);
    jobs_shell("for f in $D/top $D/s*; do qemu-img check -q $f || exit 1; done");
    free(r.model);
}

static void a_snapshot_never_overwrites_a_file(void **state) {
    struct jobs_rig r;
    char *file = path_of("base");

    make_chain("raw", 65536);
    jobs_open(&r, "top", "qcow2", 13);
    jobs_start(&r, &(struct blockjob_spec){.kind = BLOCKJOB_SNAPSHOT, .path = file});
    assert_int_equal(jobs_until_ended(&r), -EEXIST);
    assert_non_null(strstr(r.error.text, "is there already"));
    jobs_run(&r, 100);
    jobs_close(&r);
    jobs_compare(&r, "top", "qcow2", NULL);
    free(r.model);
    free(file);
}

/* ------------------------------------------------------------------ stream */

static void stream_to(const char *base, const char *kind, unsigned cluster, bool cancel) {
    struct jobs_rig r;
    char *path = base ? path_of(base) : NULL;

    make_chain(kind, cluster);
    jobs_open(&r, "top", "qcow2", 21 + cluster);
    jobs_start(&r, &(struct blockjob_spec){
                       .kind = BLOCKJOB_STREAM, .base = path, .speed = cancel ? 1 << 20 : SPEED});
    if (cancel) {
        jobs_run(&r, 40);
        blockjob_cancel(r.job);
    }
    assert_int_equal(jobs_until_ended(&r), cancel ? -ECANCELED : 0);
    jobs_run(&r, 200);
    jobs_close(&r);
    jobs_image_is_clean("top", false);
    jobs_compare(&r, "top", "qcow2", NULL);
    if (!cancel) {
        jobs_shell(base ? "qemu-img info $D/top | grep -q 'backing file:.*/base'"
                        : "! qemu-img info $D/top | grep -q backing");
        jobs_shell(base ? "rm $D/mid" : "rm $D/mid $D/base");
        jobs_compare(&r, "top", "qcow2", NULL);
    }
    free(r.model);
    free(path);
}

static void a_stream_makes_the_disk_stand_by_itself(void **state) {
    stream_to(NULL, "raw", 65536, false);
    stream_to(NULL, "qcow2", 4096, false);
    stream_to("base", "raw", 65536, false);
    stream_to("base", "qcow2", 4096, false);
    stream_to(NULL, "raw", 65536, true);
}

/* ------------------------------------------------------------------ commit */

static void commit_first(const char *base, const char *kind, unsigned cluster) {
    struct jobs_rig r;
    char *path = path_of(base);

    make_chain(kind, cluster);
    jobs_open(&r, "top", "qcow2", 31 + cluster);
    jobs_start(&r, &(struct blockjob_spec){.kind = BLOCKJOB_COMMIT, .base = path, .speed = SPEED});
    jobs_until_ready(&r);
    jobs_run(&r, 200);
    blockjob_complete(r.job);
    assert_int_equal(jobs_until_ended(&r), 0);
    assert_string_equal(block_info(r.block)->path, path);
    jobs_run(&r, 300);
    jobs_close(&r);
    jobs_compare(&r, base, !strcmp(base, "mid") ? "qcow2" : kind, NULL);
    jobs_compare(&r, "top", "qcow2", NULL); /* whoever starts with the old name finds everything */
    jobs_image_is_clean("top", false);
    jobs_image_is_clean("mid", false);
    free(r.model);
    free(path);
}

static void a_commit_of_the_first_layer_makes_the_base_the_disk(void **state) {
    commit_first("mid", "raw", 65536);
    commit_first("base", "raw", 65536);
    commit_first("base", "qcow2", 4096);
}

static void a_commit_that_is_given_up_leaves_the_disk(void **state) {
    struct jobs_rig r;

    for (unsigned when = 0; when < 2; when++) {
        make_chain("qcow2", 65536);
        jobs_open(&r, "top", "qcow2", 33);
        jobs_start(&r, &(struct blockjob_spec){.kind = BLOCKJOB_COMMIT, .speed = SPEED});
        if (when)
            jobs_until_ready(&r);
        jobs_run(&r, 50);
        blockjob_cancel(r.job);
        assert_int_equal(jobs_until_ended(&r), -ECANCELED);
        jobs_run(&r, 100);
        jobs_close(&r);
        jobs_compare(&r, "top", "qcow2", NULL);
        jobs_image_is_clean("mid", false);
        jobs_image_is_clean("top", false);
        free(r.model);
    }
}

static void a_layer_in_the_middle_is_committed(void **state) {
    struct jobs_rig r;
    char *mid, *file;

    make_chain("raw", 65536);
    mid = path_of("mid");
    file = path_of("new");
    jobs_open(&r, "top", "qcow2", 34);
    jobs_start(&r, &(struct blockjob_spec){.kind = BLOCKJOB_COMMIT, .top = mid, .speed = SPEED});
    assert_int_equal(jobs_until_ended(&r), 0);
    jobs_run(&r, 100);
    jobs_start(&r, &(struct blockjob_spec){.kind = BLOCKJOB_SNAPSHOT, .path = file});
    assert_int_equal(jobs_until_ended(&r), 0);
    jobs_run(&r, 100);
    jobs_shell("rm $D/mid");
    free(mid);
    mid = path_of("top"); /* in the middle now, and opened for writing once */
    jobs_start(&r, &(struct blockjob_spec){.kind = BLOCKJOB_COMMIT, .top = mid});
    assert_int_equal(jobs_until_ended(&r), 0);
    jobs_run(&r, 100);
    jobs_close(&r);
    jobs_compare(&r, "new", "qcow2", NULL);
    jobs_image_is_clean("new", false);
    jobs_shell("qemu-img info $D/new | grep -q 'backing file: .*/base'");
    free(r.model);
    free(mid);
    free(file);
}

static void a_base_that_somebody_else_reads_is_not_written(void **state) {
    struct block *other;
    struct jobs_rig r;

    make_chain("raw", 65536);
    jobs_open(&r, "top", "qcow2", 35);
    image_options.format = "qcow2";
    other = image_open(r.loop, image_path("mid"), true);
    image_options.format = NULL;
    jobs_start(&r, &(struct blockjob_spec){.kind = BLOCKJOB_COMMIT});
    assert_int_equal(jobs_until_ended(&r), -EBUSY);
    assert_non_null(strstr(r.error.text, "in use"));
    jobs_run(&r, 100);
    block_close(other);
    jobs_start(&r, &(struct blockjob_spec){.kind = BLOCKJOB_COMMIT});
    jobs_until_ready(&r);
    blockjob_complete(r.job);
    assert_int_equal(jobs_until_ended(&r), 0);
    jobs_close(&r);
    jobs_compare(&r, "mid", "qcow2", NULL);
    free(r.model);
}

/* ------------------------------------------------------------------ mirror */

static void mirror_to(const char *format, bool only_top, bool complete) {
    struct jobs_rig r;
    uint8_t *then = malloc(JOBS_SIZE);
    char *file = path_of("new");

    make_chain("raw", 65536);
    jobs_open(&r, "top", "qcow2", 41);
    jobs_start(&r, &(struct blockjob_spec){.kind = BLOCKJOB_MIRROR,
                                           .path = file,
                                           .format = format,
                                           .only_top = only_top,
                                           .speed = SPEED});
    jobs_until_ready(&r);
    jobs_run(&r, 200);
    jobs_idle(&r);
    memcpy(then, r.model, JOBS_SIZE);
    r.quiet = !complete;
    if (complete)
        blockjob_complete(r.job);
    else
        blockjob_cancel(r.job);
    assert_int_equal(jobs_until_ended(&r), complete ? 0 : -ECANCELED);
    r.quiet = false;
    jobs_run(&r, 200);
    jobs_close(&r);
    if (complete) {
        jobs_compare(&r, "new", format, NULL);
    } else {
        jobs_compare(&r, "new", format, then);
        jobs_compare(&r, "top", "qcow2", NULL);
    }
    if (!strcmp(format, "qcow2"))
        jobs_image_is_clean("new", false);
    jobs_image_is_clean("top", false);
    if (only_top)
        jobs_shell("qemu-img info $D/new | grep -q 'backing file: .*/mid'");
    free(then);
    free(r.model);
    free(file);
}

static void a_mirror_follows_the_disk_and_takes_its_place(void **state) {
    mirror_to("raw", false, true);
    mirror_to("qcow2", false, true);
    mirror_to("qcow2", true, true);
}

static void a_mirror_that_is_given_up_stays_as_it_was_at_that_moment(void **state) {
    mirror_to("raw", false, false);
    mirror_to("qcow2", true, false);
}

static void a_mirror_that_is_not_ready_goes_when_it_is_given_up(void **state) {
    struct jobs_rig r;
    char *file = path_of("new");

    make_chain("raw", 65536);
    jobs_open(&r, "top", "qcow2", 42);
    jobs_start(&r,
               &(struct blockjob_spec){.kind = BLOCKJOB_MIRROR, .path = file, .speed = 1 << 20});
    jobs_run(&r, 100);
    blockjob_cancel(r.job);
    assert_int_equal(jobs_until_ended(&r), -ECANCELED);
    assert_int_equal(access(file, F_OK), -1);
    /* And with the machine. */
    jobs_start(&r,
               &(struct blockjob_spec){.kind = BLOCKJOB_MIRROR, .path = file, .speed = 1 << 20});
    jobs_run(&r, 100);
    jobs_close(&r);
    assert_true(r.ended);
    assert_int_equal(access(file, F_OK), -1);
    jobs_compare(&r, "top", "qcow2", NULL);
    free(r.model);
    free(file);
}

static void a_raw_disk_is_mirrored_and_goes_on(void **state) {
    struct jobs_rig r;
    char *file = path_of("new");

    make_chain("raw", 65536);
    jobs_open(&r, "base", "raw", 43);
    jobs_start(&r, &(struct blockjob_spec){
                       .kind = BLOCKJOB_MIRROR, .path = file, .format = "raw", .speed = SPEED});
    jobs_until_ready(&r);
    blockjob_complete(r.job);
    assert_int_equal(jobs_until_ended(&r), 0);
    jobs_run(&r, 500);
    jobs_close(&r);
    jobs_compare(&r, "new", "raw", NULL);
    free(r.model);
    free(file);
}

/* Each pass takes a second, in which the guest writes nearly everywhere: without writing to both it
 * would never be caught up with. */
static void a_mirror_catches_up_with_a_guest_that_writes_faster(void **state) {
    static const struct {
        const char *name, *format, *to;
    } kinds[] = {{"top", "qcow2", "qcow2"}, {"base", "raw", "raw"}};

    for (unsigned i = 0; i < 2; i++) {
        uint64_t before = stat_counts[STAT_blockjob_followed];
        char *file = path_of("new");
        struct jobs_rig r;

        make_chain("raw", 65536);
        jobs_open(&r, kinds[i].name, kinds[i].format, 45);
        jobs_start(&r, &(struct blockjob_spec){.kind = BLOCKJOB_MIRROR,
                                               .path = file,
                                               .format = kinds[i].to,
                                               .speed = JOBS_SIZE});
        jobs_until_ready(&r);
        assert_int_equal(stat_counts[STAT_blockjob_followed], before + 1);
        jobs_run(&r, 300);
        blockjob_complete(r.job);
        assert_int_equal(jobs_until_ended(&r), 0);
        assert_string_equal(block_info(r.block)->path, file);
        jobs_run(&r, 200);
        jobs_close(&r);
        jobs_compare(&r, "new", kinds[i].to, NULL);
        free(r.model);
        free(file);
    }
}

static void one_job_at_a_time_works_on_a_disk(void **state) {
    struct jobs_rig r;
    struct error err = {0};
    char *file = path_of("new");
    struct blockjob_spec s = {.kind = BLOCKJOB_MIRROR, .path = file, .speed = 1 << 20};

    make_chain("raw", 65536);
    jobs_open(&r, "top", "qcow2", 44);
    jobs_start(&r, &s);
    assert_string_equal(blockjob_running(r.block), "disk-mirror");
    assert_null(blockjob_start(r.block, &s, &(struct blockjob_fns){0}, &err));
    assert_int_equal(err.code, -EBUSY);
    blockjob_set_speed(r.job, 0); /* quick now */
    jobs_until_ready(&r);
    blockjob_cancel(r.job);
    jobs_until_ended(&r);
    assert_null(blockjob_running(r.block));
    jobs_close(&r);
    free(r.model);
    free(file);
}

/* ------------------------------------------------------------------ backup */

/* Starts a backup of the disk as it is in `then`, and lets the guest write as soon as it has begun.
 */
static void start_backup(struct jobs_rig *r, const struct blockjob_spec *spec, uint8_t *then) {
    jobs_idle(r);
    memcpy(then, r->model, JOBS_SIZE);
    r->quiet = true;
    jobs_start(r, spec);
    while (!r->began && !r->ended)
        jobs_run(r, 1);
    r->quiet = false;
}

static void a_full_backup_is_the_disk_as_it_was(void **state) {
    static const char *const formats[] = {"raw", "qcow2"};

    for (unsigned i = 0; i < 2; i++) {
        struct jobs_rig r;
        uint8_t *then = malloc(JOBS_SIZE);
        char *file = path_of("full");

        make_chain("raw", 65536);
        jobs_open(&r, i ? "top" : "base", i ? "qcow2" : "raw", 61);
        start_backup(
            &r,
            &(struct blockjob_spec){
                .kind = BLOCKJOB_BACKUP, .path = file, .format = formats[i], .speed = SPEED},
            then);
        assert_int_equal(jobs_until_ended(&r), 0);
        jobs_run(&r, 100);
        jobs_close(&r);
        assert_true(r.writes > 100);
        jobs_compare(&r, "full", formats[i], then);
        if (i)
            jobs_image_is_clean("full", false);
        free(r.model);
        free(then);
        free(file);
    }
}

static void incremental_backups_are_the_disk_as_it_was_each_time(void **state) {
    struct jobs_rig r;
    uint8_t *then[5];
    char *file[5], name[8];

    make_chain("raw", 65536);
    jobs_open(&r, "top", "qcow2", 62);
    for (unsigned i = 0; i < 5; i++) {
        then[i] = malloc(JOBS_SIZE);
        snprintf(name, sizeof(name), "b%u", i);
        file[i] = path_of(name);
        jobs_run(&r, 60);
        if (i == 3) { /* one that is given up does not count */
            start_backup(&r,
                         &(struct blockjob_spec){.kind = BLOCKJOB_BACKUP,
                                                 .path = file[i],
                                                 .bitmap = "day",
                                                 .parent = file[i - 1],
                                                 .speed = 100000},
                         then[i]);
            blockjob_cancel(r.job);
            assert_int_equal(jobs_until_ended(&r), -ECANCELED);
        }
        start_backup(&r,
                     &(struct blockjob_spec){.kind = BLOCKJOB_BACKUP,
                                             .path = file[i],
                                             .bitmap = "day",
                                             .begin = i == 0,
                                             .parent = i ? file[i - 1] : NULL,
                                             .speed = SPEED / 2},
                     then[i]);
        assert_int_equal(jobs_until_ended(&r), 0);
        if (i == 1) { /* the bitmap goes on in the new layer */
            char *layer = path_of("layer");

            jobs_start(&r, &(struct blockjob_spec){.kind = BLOCKJOB_SNAPSHOT, .path = layer});
            assert_int_equal(jobs_until_ended(&r), 0);
            free(layer);
        }
        if (i == 2) { /* and back in the old one */
            jobs_start(&r, &(struct blockjob_spec){.kind = BLOCKJOB_COMMIT});
            jobs_until_ready(&r);
            blockjob_complete(r.job);
            assert_int_equal(jobs_until_ended(&r), 0);
        }
    }
    jobs_close(&r);
    for (unsigned i = 0; i < 5; i++) {
        snprintf(name, sizeof(name), "b%u", i);
        jobs_compare(&r, name, "qcow2", then[i]);
        jobs_image_is_clean(name, false);
        free(then[i]);
        free(file[i]);
    }
    jobs_image_is_clean("top", false);
    jobs_shell("qemu-img info $D/top | grep -A5 bitmaps: | grep -q 'name: day'");
    free(r.model);
}

static void a_bitmap_survives_the_end_of_the_machine(void **state) {
    struct jobs_rig r;
    uint8_t *then = malloc(JOBS_SIZE);
    char *full = path_of("full"), *more = path_of("more");

    make_chain("raw", 4096);
    jobs_open(&r, "top", "qcow2", 63);
    jobs_start(&r, &(struct blockjob_spec){
                       .kind = BLOCKJOB_BACKUP, .path = full, .bitmap = "day", .begin = true});
    assert_int_equal(jobs_until_ended(&r), 0);
    jobs_run(&r, 30);
    jobs_close(&r);
    free(r.model);
    jobs_image_is_clean("top", false);
    jobs_shell("qemu-io -c 'write -P 9 1M 50k' $D/top"); /* QEMU keeps it up to date, too */
    jobs_open(&r, "top", "qcow2", 64);
    jobs_run(&r, 30);
    start_backup(&r,
                 &(struct blockjob_spec){
                     .kind = BLOCKJOB_BACKUP, .path = more, .bitmap = "day", .parent = full},
                 then);
    assert_int_equal(jobs_until_ended(&r), 0);
    jobs_close(&r);
    jobs_compare(&r, "more", "qcow2", then);
    free(r.model);
    free(then);
    free(full);
    free(more);
}

static void what_cannot_be_backed_up_is_refused(void **state) {
    struct jobs_rig r;
    char *file = path_of("full"), *base = path_of("base");
    const struct {
        struct blockjob_spec spec;
        int code;
        const char *text;
    } all[] = {
        {{.bitmap = "none"}, -ENOENT, "has no bitmap 'none'"},
        {{.bitmap = "day", .format = "raw"}, -EINVAL, "must be a qcow2 image"},
        {{.begin = true}, -EINVAL, "Name it"},
        {{.parent = base}, -EINVAL, "no qcow2 image"},
    };

    make_chain("raw", 65536);
    jobs_open(&r, "top", "qcow2", 66);
    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct blockjob_spec s = all[i].spec;

        s.kind = BLOCKJOB_BACKUP;
        s.path = file;
        jobs_start(&r, &s);
        assert_int_equal(jobs_until_ended(&r), all[i].code);
        assert_non_null(strstr(r.error.text, all[i].text));
        assert_int_equal(access(file, F_OK), -1);
    }
    jobs_close(&r);
    free(r.model);
    free(file);
    free(base);
}

/* ------------------------------------------------------------------ no room */

/* Files may not become larger than `limit` meanwhile, the guest's neither: it is quiet. */
static void fails_beyond(uint64_t limit, const struct blockjob_spec *spec, const char *text) {
    struct rlimit old, now;
    struct jobs_rig r;

    make_chain("qcow2", 65536);
    jobs_open(&r, "top", "qcow2", 71);
    jobs_run(&r, 200);
    jobs_idle(&r);
    r.quiet = true;
    getrlimit(RLIMIT_FSIZE, &old);
    now = (struct rlimit){limit, old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &now);
    jobs_start(&r, spec);
    assert_int_equal(jobs_until_ended(&r), -EFBIG);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_non_null(strstr(r.error.text, text));
    if (spec->path)
        assert_int_equal(access(spec->path, F_OK), -1);
    jobs_check(&r);
    r.quiet = false;
    jobs_run(&r, 200);
    if (!spec->path) { /* and with room it works */
        jobs_start(&r, spec);
        if (spec->kind == BLOCKJOB_COMMIT && !spec->top) {
            jobs_until_ready(&r);
            blockjob_complete(r.job);
        }
        assert_int_equal(jobs_until_ended(&r), 0);
        jobs_run(&r, 50);
    }
    jobs_close(&r);
    jobs_compare(&r, "top", "qcow2", NULL);
    jobs_image_is_clean("top", true);
    jobs_image_is_clean("mid", true);
    jobs_image_is_clean("base", true);
    free(r.model);
}

static void a_job_that_finds_no_room_harms_nobody(void **state) {
    char *file = path_of("new"), *mid = path_of("mid"), *base = path_of("base");

    fails_beyond(2 << 20, &(struct blockjob_spec){.kind = BLOCKJOB_BACKUP, .path = file},
                 "has taken no harm");
    fails_beyond(2 << 20, &(struct blockjob_spec){.kind = BLOCKJOB_MIRROR, .path = file},
                 "nothing is lost");
    fails_beyond(100000, &(struct blockjob_spec){.kind = BLOCKJOB_SNAPSHOT, .path = file}, "room");
    fails_beyond(1 << 20, &(struct blockjob_spec){.kind = BLOCKJOB_STREAM}, "nothing is lost");
    fails_beyond(1 << 20, &(struct blockjob_spec){.kind = BLOCKJOB_COMMIT}, "nothing is lost");
    fails_beyond(1 << 20, &(struct blockjob_spec){.kind = BLOCKJOB_COMMIT, .top = mid},
                 "nothing is lost");
    fails_beyond(1 << 20, &(struct blockjob_spec){.kind = BLOCKJOB_COMMIT, .base = base},
                 "nothing is lost");
    free(file);
    free(mid);
    free(base);
}

/* ------------------------------------------------------------------ resize */

static void on_resize(void *opaque) { ++*(unsigned *)opaque; }

static void resize_disk(const char *name, const char *format) {
    uint64_t size = JOBS_SIZE + (3 << 20) + 512;
    struct jobs_rig r;
    unsigned told = 0;
    uint8_t data[512], back[512];

    make_chain("raw", 65536);
    jobs_open(&r, name, format, 51);
    block_set_resize_fn(r.block, on_resize, &told);
    jobs_start(&r, &(struct blockjob_spec){.kind = BLOCKJOB_RESIZE, .size = size});
    assert_int_equal(jobs_until_ended(&r), 0);
    assert_int_equal(block_info(r.block)->size, size);
    assert_int_equal(told, 1);
    memset(data, 5, sizeof(data));
    assert_int_equal(do_request(r.loop, r.block, BLOCK_READ, size - 512, back, 512), 0);
    assert_int_equal(back[0], 0);
    assert_int_equal(do_request(r.loop, r.block, BLOCK_WRITE, size - 512, data, 512), 0);
    assert_int_equal(do_request(r.loop, r.block, BLOCK_READ, size - 512, back, 512), 0);
    assert_memory_equal(data, back, 512);
    jobs_start(&r, &(struct blockjob_spec){.kind = BLOCKJOB_RESIZE, .size = 1 << 20});
    assert_int_equal(jobs_until_ended(&r), -EINVAL);
    jobs_close(&r);
    if (strcmp(format, "raw") != 0)
        jobs_image_is_clean(name, false);
    free(r.model);
}

static void a_disk_becomes_larger_while_it_is_used(void **state) {
    resize_disk("top", "qcow2");
    resize_disk("base", "raw");
}

static int clean_up(void **state) {
    block_help_clean();
    return 0;
}

int main(void) {
    signal(SIGXFSZ, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_snapshot_keeps_the_disk_as_it_was),
        cmocka_unit_test(snapshots_are_taken_while_the_guest_writes),
        cmocka_unit_test(a_snapshot_never_overwrites_a_file),
        cmocka_unit_test(a_stream_makes_the_disk_stand_by_itself),
        cmocka_unit_test(a_commit_of_the_first_layer_makes_the_base_the_disk),
        cmocka_unit_test(a_commit_that_is_given_up_leaves_the_disk),
        cmocka_unit_test(a_layer_in_the_middle_is_committed),
        cmocka_unit_test(a_base_that_somebody_else_reads_is_not_written),
        cmocka_unit_test(a_mirror_follows_the_disk_and_takes_its_place),
        cmocka_unit_test(a_mirror_that_is_given_up_stays_as_it_was_at_that_moment),
        cmocka_unit_test(a_mirror_that_is_not_ready_goes_when_it_is_given_up),
        cmocka_unit_test(a_raw_disk_is_mirrored_and_goes_on),
        cmocka_unit_test(a_mirror_catches_up_with_a_guest_that_writes_faster),
        cmocka_unit_test(one_job_at_a_time_works_on_a_disk),
        cmocka_unit_test(a_full_backup_is_the_disk_as_it_was),
        cmocka_unit_test(incremental_backups_are_the_disk_as_it_was_each_time),
        cmocka_unit_test(a_bitmap_survives_the_end_of_the_machine),
        cmocka_unit_test(a_job_that_finds_no_room_harms_nobody),
        cmocka_unit_test(what_cannot_be_backed_up_is_refused),
        cmocka_unit_test(a_disk_becomes_larger_while_it_is_used),
    };

    return cmocka_run_group_tests(tests, NULL, clean_up);
}
