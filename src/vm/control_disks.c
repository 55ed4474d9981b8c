/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands that work on the images of several disks at one instant, as one job. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "block/blockjob.h"
#include "vm/control.h"
#include "vm/options.h"

struct disks_job {
    struct job *job;
    struct blockjob_group *work;
    unsigned count, number[BLOCKJOB_GROUP_MAX];
    struct block *disk[BLOCKJOB_GROUP_MAX];
};

/* ------------------------------------------------------------------ the job's life */

static void began(void *opaque) { job_began(((struct disks_job *)opaque)->job); }

static void progress(void *opaque, uint64_t done, uint64_t total) {
    job_progress(((struct disks_job *)opaque)->job, done, total);
}

static json_t *result(const struct disks_job *j) {
    json_t *list = json_array();

    for (unsigned i = 0; i < j->count; i++) {
        const struct block_info *info = block_info(j->disk[i]);

        json_array_append_new(list, json_pack("{s:i, s:s, s:s, s:I}", "disk", (int)j->number[i],
                                              "path", info->path, "format", info->format, "size",
                                              (json_int_t)info->size));
    }
    return json_pack("{s:o}", "disks", list);
}

static void ended(void *opaque, const struct error *err) {
    struct disks_job *j = opaque;

    if (err)
        job_failed(j->job, err);
    else
        job_done(j->job, result(j));
    free(j);
}

static void cancel(void *opaque) { blockjob_group_cancel(((struct disks_job *)opaque)->work); }

static void set_speed(void *opaque, uint64_t bytes) {
    blockjob_group_set_speed(((struct disks_job *)opaque)->work, bytes);
}

static const struct job_ops snapshot_ops = {.kind = "disks-snapshot", .cancel = cancel};
static const struct job_ops backup_ops = {
    .kind = "disks-backup", .cancel = cancel, .prepares = true, .set_speed = set_speed};

/* ------------------------------------------------------------------ arguments */

static const char *text(const struct control_call *call, const char *name) {
    return json_string_value(json_object_get(call->args, name));
}

static int find_disks(const struct control_call *call, struct disks_job *j, struct error *err) {
    const json_t *list = json_object_get(call->args, "disks"), *one;
    size_t i;

    if (json_array_size(list) > BLOCKJOB_GROUP_MAX)
        return error_set(err, -EINVAL, "at most %d disks at a time", BLOCKJOB_GROUP_MAX);
    json_array_foreach(list, i, one) {
        uint64_t n = (uint64_t)json_integer_value(one);

        if (n >= call->vm->options->disks || !call->vm->disk[n])
            return error_set(err, -EINVAL, "there is no disk %llu: 'status' lists them",
                             (unsigned long long)n);
        j->number[i] = (unsigned)n;
        j->disk[i] = call->vm->disk[n];
    }
    j->count = (unsigned)i;
    return 0;
}

/* The pattern with the number in the place of "%d"; for free. */
static int path_for(const char *pattern, unsigned disk, char **ret, struct error *err) {
    const char *at = pattern ? strstr(pattern, "%d") : NULL;

    *ret = NULL;
    if (!pattern)
        return 0;
    if (!at || strstr(at + 2, "%d"))
        return error_set(err, -EINVAL,
                         "'%s' must have %%d in it, once, in the place of the number of the disk, "
                         "so that each disk has a file of its own",
                         pattern);
    if (asprintf(ret, "%.*s%u%s", (int)(at - pattern), pattern, disk, at + 2) < 0) {
        *ret = NULL;
        return error_set(err, -ENOMEM, "the jobs on disks: out of memory");
    }
    return 0;
}

/* Of all together: each gets its share. */
static uint64_t speed_of_each(const struct control_call *call, unsigned count) {
    uint64_t speed = (uint64_t)json_integer_value(json_object_get(call->args, "speed"));

    return speed && speed < count ? 1 : speed / count;
}

static int fill_specs(const struct control_call *call, const struct disks_job *j,
                      const struct blockjob_spec *common, struct blockjob_spec *spec,
                      struct error *err) {
    int r = 0;

    for (unsigned i = 0; r == 0 && i < j->count; i++) {
        char *path = NULL, *parent = NULL;

        r = path_for(text(call, "file"), j->number[i], &path, err);
        if (r == 0)
            r = path_for(text(call, "parent"), j->number[i], &parent, err);
        spec[i] = *common;
        spec[i].path = path;
        spec[i].parent = parent;
        spec[i].speed = speed_of_each(call, j->count);
    }
    return r;
}

/* ------------------------------------------------------------------ commands */

static int begin(struct control_call *call, struct disks_job *j, const struct job_ops *ops,
                 const struct blockjob_spec *spec, struct error *err) {
    struct blockjob_fns fns = {.began = began, .progress = progress, .ended = ended, .opaque = j};

    j->job = job_start(control_jobs(call->control), ops, j, err);
    if (!j->job)
        return err->code;
    json_object_set_new(call->result, "job", json_integer(job_id(j->job)));
    j->work = blockjob_start_group(j->disk, spec, j->count, &fns, err);
    if (!j->work) {
        job_failed(j->job, err);
        return err->code;
    }
    return 0;
}

static int start(struct control_call *call, const struct job_ops *ops,
                 const struct blockjob_spec *common, struct error *err) {
    struct blockjob_spec spec[BLOCKJOB_GROUP_MAX] = {0};
    struct disks_job *j = calloc(1, sizeof(*j));
    int r;

    if (!j)
        return error_set(err, -ENOMEM, "the job: out of memory");
    r = find_disks(call, j, err);
    if (r == 0)
        r = fill_specs(call, j, common, spec, err);
    if (r == 0)
        r = begin(call, j, ops, spec, err);
    for (unsigned i = 0; i < BLOCKJOB_GROUP_MAX; i++) {
        free((char *)spec[i].path);
        free((char *)spec[i].parent);
    }
    if (r < 0)
        free(j);
    return r;
}

static int do_disks_snapshot(struct control_call *call, struct error *err) {
    return start(call, &snapshot_ops, &(struct blockjob_spec){.kind = BLOCKJOB_SNAPSHOT}, err);
}

static int do_disks_backup(struct control_call *call, struct error *err) {
    struct blockjob_spec common = {.kind = BLOCKJOB_BACKUP,
                                   .format = text(call, "format"),
                                   .bitmap = text(call, "bitmap"),
                                   .begin = json_is_true(json_object_get(call->args, "begin"))};

    return start(call, &backup_ops, &common, err);
}

const struct control_handler control_disks_handlers[] = {
    {"disks-snapshot", do_disks_snapshot},
    {"disks-backup", do_disks_backup},
    {NULL, NULL},
};
