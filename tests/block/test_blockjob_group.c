/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs on two disks at one instant. A guest counts: it writes each number to the first disk, and
 * when that is done to the second. So at any instant the first holds the number of the second, or
 * the next one; two copies of different instants differ by more.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "block/jobs_rig.h"

enum { DISKS = 2, SIZE = 4 << 20, SECTOR = 512 };

struct counting {
    struct loop *loop;
    struct block *disk[DISKS];
    uint64_t number; /* what is being written */
    unsigned turn;
    bool busy, quiet;
    uint64_t data[SECTOR / 8];
    struct iovec iov;
    struct block_request io;
    /* the job */
    struct blockjob_group *group;
    bool ended;
    unsigned told;
    struct error error;
};

static const char *const names[DISKS] = {"one.qcow2", "two.raw"};
static const char *const formats[DISKS] = {"qcow2", "raw"};

/* ------------------------------------------------------------------ the guest */

static void written(struct block_request *io, int result) {
    struct counting *c = io->opaque;

    assert_int_equal(result, 0);
    c->busy = false;
    c->turn = (c->turn + 1) % DISKS;
    if (c->turn == 0)
        c->number++;
}

static void write_next(struct counting *c) {
    int result;

    c->data[0] = c->number;
    c->iov = (struct iovec){c->data, SECTOR};
    c->io = (struct block_request){.op = BLOCK_WRITE,
                                   .length = SECTOR,
                                   .iov = &c->iov,
                                   .iov_count = 1,
                                   .done = written,
                                   .opaque = c};
    c->busy = true;
    if (block_try(c->disk[c->turn], &c->io, &result))
        written(&c->io, result);
    else
        block_submit(c->disk[c->turn], &c->io);
}

static void run(struct counting *c, unsigned steps) {
    for (unsigned i = 0; i < steps; i++) {
        if (!c->busy && !c->quiet)
            write_next(c);
        loop_step(c->loop, c->busy ? 1 : 0);
    }
    while (c->busy)
        loop_step(c->loop, 10);
}

static void start(struct counting *c) {
    memset(c, 0, sizeof(*c));
    jobs_shell("rm -f $D/*; qemu-img create -q -f qcow2 $D/one.qcow2 4M; "
               "qemu-img create -q -f raw $D/two.raw 4M; "
               "qemu-io -f qcow2 -c 'write -P 7 64k 100k' $D/one.qcow2; "
               "qemu-io -f raw -c 'write -P 9 64k 3M' $D/two.raw");
    c->loop = loop_new(NULL, NULL);
    c->number = 1;
    for (unsigned i = 0; i < DISKS; i++) {
        image_options.format = formats[i];
        image_options.cache = BLOCK_CACHE_UNSAFE; /* nobody cuts the power here */
        c->disk[i] = image_open(c->loop, image_path(names[i]), false);
        image_options = (struct block_options){0};
    }
}

static void end(struct counting *c) {
    for (unsigned i = 0; i < DISKS; i++)
        block_close(c->disk[i]);
    loop_free(c->loop);
}

/* ------------------------------------------------------------------ the job */

static void progress(void *opaque, uint64_t done, uint64_t total) {
    struct counting *c = opaque;

    assert_true(done <= total);
    c->told++;
}

static void ended(void *opaque, const struct error *err) {
    struct counting *c = opaque;

    assert_false(c->ended);
    c->ended = true;
    c->group = NULL;
    if (err)
        c->error = *err;
}

/* Each disk's file is named by its number behind `file`; NULL: none. */
static bool begin(struct counting *c, const struct blockjob_spec *common, const char *file,
                  const char *parent, struct error *err) {
    struct blockjob_fns fns = {.progress = progress, .ended = ended, .opaque = c};
    struct blockjob_spec spec[DISKS];
    char path[DISKS][600], below[DISKS][600];

    for (unsigned i = 0; i < DISKS; i++) {
        spec[i] = *common;
        snprintf(path[i], sizeof(path[i]), "%s.%u", image_path(file), i);
        spec[i].path = path[i];
        if (!parent)
            continue;
        snprintf(below[i], sizeof(below[i]), "%s.%u", image_path(parent), i);
        spec[i].parent = below[i];
    }
    c->ended = false;
    c->error = (struct error){0};
    c->group = blockjob_start_group(c->disk, spec, DISKS, &fns, err);
    return c->group != NULL;
}

static int finish(struct counting *c) {
    while (!c->ended)
        run(c, 1);
    return c->error.code;
}

static int do_job(struct counting *c, const struct blockjob_spec *common, const char *file) {
    struct error err = {0};

    if (!begin(c, common, file, NULL, &err))
        fail_msg("%s", err.text);
    return finish(c);
}

/* The number in an image that may be in use. */
static uint64_t number_in(const char *file, const char *format) {
    char words[1000];
    uint64_t number = 0;
    int fd;

    snprintf(words, sizeof(words), "qemu-img convert -U -f %s -O raw $D/%s $D/plain", format, file);
    jobs_shell(words);
    fd = open(image_path("plain"), O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, &number, sizeof(number)), sizeof(number));
    close(fd);
    return number;
}

static void expect_one_instant(uint64_t first, uint64_t second) {
    assert_true(second > 0);
    assert_true(first == second || first == second + 1);
}

static bool exists(const char *name) { return access(image_path(name), F_OK) == 0; }

/* ------------------------------------------------------------------ tests */

static void backups_of_two_disks_show_one_instant(void **state) {
    struct counting c;

    start(&c);
    for (unsigned i = 0; i < 12; i++) {
        run(&c, 20 + i);
        assert_int_equal(do_job(&c, &(struct blockjob_spec){.kind = BLOCKJOB_BACKUP}, "copy"), 0);
        expect_one_instant(number_in("copy.0", "qcow2"), number_in("copy.1", "qcow2"));
        jobs_image_is_clean("copy.0", false);
        jobs_image_is_clean("copy.1", false);
        jobs_shell("rm $D/copy.*");
    }
    assert_true(c.told > 0);
    end(&c);
}

static void snapshots_of_two_disks_show_one_instant(void **state) {
    static const char *below[DISKS] = {"one.qcow2", "two.raw"};
    struct counting c;
    char file[16], layer[2][32];

    start(&c);
    for (unsigned i = 0; i < 8; i++) {
        const char *first = i ? layer[0] : below[0], *second = i ? layer[1] : below[1];

        run(&c, 20 + i);
        snprintf(file, sizeof(file), "layer%u", i);
        assert_int_equal(do_job(&c, &(struct blockjob_spec){.kind = BLOCKJOB_SNAPSHOT}, file), 0);
        run(&c, 20);
        expect_one_instant(number_in(first, "qcow2"), number_in(second, i ? "qcow2" : "raw"));
        for (unsigned d = 0; d < DISKS; d++) {
            snprintf(layer[d], sizeof(layer[d]), "%s.%u", file, d);
            assert_string_equal(block_info(c.disk[d])->path, image_path(layer[d]));
        }
    }
    end(&c);
    expect_one_instant(number_in(layer[0], "qcow2"), number_in(layer[1], "qcow2"));
}

static void what_fails_for_one_disk_is_done_to_none(void **state) {
    struct counting c;

    start(&c);
    run(&c, 20);
    jobs_shell("touch $D/new.1");
    assert_int_equal(do_job(&c, &(struct blockjob_spec){.kind = BLOCKJOB_SNAPSHOT}, "new"),
                     -EEXIST);
    assert_non_null(strstr(c.error.text, "new.1' is there already"));
    assert_false(exists("new.0"));
    for (unsigned i = 0; i < DISKS; i++) {
        assert_string_equal(block_info(c.disk[i])->path, image_path(names[i]));
        assert_null(blockjob_running(c.disk[i]));
    }
    assert_int_equal(do_job(&c, &(struct blockjob_spec){.kind = BLOCKJOB_BACKUP}, "new"), -EEXIST);
    assert_false(exists("new.0"));
    jobs_shell("rm $D/new.1");
    run(&c, 20);
    assert_int_equal(do_job(&c, &(struct blockjob_spec){.kind = BLOCKJOB_BACKUP}, "new"), 0);
    end(&c);
}

/* The first disk's backup is small and done long before the second's finds no room. */
static void a_backup_that_fails_late_takes_the_others_with_it(void **state) {
    struct rlimit old, now;
    struct counting c;

    start(&c);
    run(&c, 20);
    c.quiet = true; /* its own files may not grow either */
    getrlimit(RLIMIT_FSIZE, &old);
    now = (struct rlimit){2 << 20, old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &now);
    assert_int_equal(do_job(&c, &(struct blockjob_spec){.kind = BLOCKJOB_BACKUP}, "copy"), -EFBIG);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_non_null(strstr(c.error.text, "two.raw"));
    assert_false(exists("copy.0"));
    assert_false(exists("copy.1"));
    c.quiet = false;
    run(&c, 20);
    end(&c);
}

static void a_backup_of_two_disks_can_be_given_up(void **state) {
    struct blockjob_spec slow = {.kind = BLOCKJOB_BACKUP, .speed = 50000};
    struct error err = {0};
    struct counting c;

    for (unsigned how = 0; how < 2; how++) {
        start(&c);
        run(&c, 20);
        assert_true(begin(&c, &slow, "copy", NULL, &err));
        run(&c, 20);
        blockjob_group_set_speed(c.group, 80000);
        assert_false(c.ended);
        if (how == 0) {
            blockjob_group_cancel(c.group);
            assert_int_equal(finish(&c), -ECANCELED);
        }
        end(&c); /* with the machine: nobody waits for the other for ever */
        assert_true(c.ended);
        assert_int_equal(c.error.code, -ECANCELED);
        assert_false(exists("copy.0"));
        assert_false(exists("copy.1"));
    }
}

static void incremental_backups_of_two_disks_go_together(void **state) {
    struct blockjob_spec full = {.kind = BLOCKJOB_BACKUP, .bitmap = "day", .begin = true},
                         more = {.kind = BLOCKJOB_BACKUP, .bitmap = "day"};
    struct error err = {0};
    struct counting c;

    start(&c);
    run(&c, 20);
    /* The raw one has no bitmaps: nothing is backed up, and the other's has not begun. */
    assert_int_equal(do_job(&c, &full, "full"), -EINVAL);
    assert_false(exists("full.0"));
    assert_int_equal(do_job(&c, &(struct blockjob_spec){.kind = BLOCKJOB_SNAPSHOT}, "layer"), 0);
    assert_int_equal(do_job(&c, &full, "full"), 0);
    for (unsigned i = 0; i < 3; i++) {
        static const char *const name[] = {"full", "more0", "more1", "more2"};
        char first[16], second[16];

        run(&c, 30);
        assert_true(begin(&c, &more, name[i + 1], name[i], &err));
        assert_int_equal(finish(&c), 0);
        snprintf(first, sizeof(first), "%s.0", name[i + 1]);
        snprintf(second, sizeof(second), "%s.1", name[i + 1]);
        expect_one_instant(number_in(first, "qcow2"), number_in(second, "qcow2"));
    }
    end(&c);
}

static void what_cannot_be_done_together_is_refused_at_once(void **state) {
    struct blockjob_spec spec[DISKS] = {{.kind = BLOCKJOB_SNAPSHOT, .path = "/nowhere/0"},
                                        {.kind = BLOCKJOB_SNAPSHOT, .path = "/nowhere/1"}};
    struct blockjob_spec mirror = {.kind = BLOCKJOB_MIRROR, .speed = 1 << 20};
    struct blockjob_fns none = {0};
    struct block *twice[DISKS];
    struct error err = {0};
    struct counting c;
    char path[600];

    start(&c);
    twice[0] = twice[1] = c.disk[0];
    assert_null(blockjob_start_group(twice, spec, DISKS, &none, &err));
    assert_non_null(strstr(err.text, "is named twice"));
    snprintf(path, sizeof(path), "%s", image_path("mirror"));
    mirror.path = path;
    err = (struct error){0};
    assert_non_null(blockjob_start(c.disk[1], &mirror, &none, &err));
    assert_null(blockjob_start_group(c.disk, spec, DISKS, &none, &err));
    assert_int_equal(err.code, -EBUSY);
    while (blockjob_running(c.disk[0])) /* it was started, and gives up */
        run(&c, 1);
    run(&c, 20);
    end(&c);
}

static int clean_up(void **state) {
    block_help_clean();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(backups_of_two_disks_show_one_instant),
        cmocka_unit_test(snapshots_of_two_disks_show_one_instant),
        cmocka_unit_test(what_fails_for_one_disk_is_done_to_none),
        cmocka_unit_test(a_backup_that_fails_late_takes_the_others_with_it),
        cmocka_unit_test(a_backup_of_two_disks_can_be_given_up),
        cmocka_unit_test(incremental_backups_of_two_disks_go_together),
        cmocka_unit_test(what_cannot_be_done_together_is_refused_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, clean_up);
}
