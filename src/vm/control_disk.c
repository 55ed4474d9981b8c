/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands that work on the images of disks, as jobs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "block/blockjob.h"
#include "vm/control.h"
#include "vm/options.h"

struct disk_job {
    struct job *job;
    struct blockjob *work;
    struct block *disk;
    bool complete; /* as soon as it is ready */
};

/* ------------------------------------------------------------------ arguments */

static const char *text(const struct control_call *call, const char *name) {
    return json_string_value(json_object_get(call->args, name));
}

static uint64_t number(const struct control_call *call, const char *name) {
    return (uint64_t)json_integer_value(json_object_get(call->args, name));
}

struct block *control_find_disk(const struct control_call *call, struct error *err) {
    uint64_t i = number(call, "disk");

    if (i < call->vm->options->disks && call->vm->disk[i])
        return call->vm->disk[i];
    error_set(err, -EINVAL, "there is no disk %llu: 'status' lists them", (unsigned long long)i);
    return NULL;
}

/* ------------------------------------------------------------------ the job's life */

static void began(void *opaque) { job_began(((struct disk_job *)opaque)->job); }

static void progress(void *opaque, uint64_t done, uint64_t total) {
    job_progress(((struct disk_job *)opaque)->job, done, total);
}

static void ready(void *opaque) {
    struct disk_job *j = opaque;

    job_ready(j->job);
    if (j->complete)
        blockjob_complete(j->work);
}

static void ended(void *opaque, const struct error *err) {
    struct disk_job *j = opaque;
    const struct block_info *info = block_info(j->disk);

    if (err)
        job_failed(j->job, err);
    else
        job_done(j->job, json_pack("{s:s, s:s, s:I}", "path", info->path, "format", info->format,
                                   "size", (json_int_t)info->size));
    free(j);
}

static void cancel(void *opaque) { blockjob_cancel(((struct disk_job *)opaque)->work); }

static void complete(void *opaque) { blockjob_complete(((struct disk_job *)opaque)->work); }

static void set_speed(void *opaque, uint64_t bytes) {
    blockjob_set_speed(((struct disk_job *)opaque)->work, bytes);
}

static const struct job_ops ops[BLOCKJOB_KINDS] = {
    [BLOCKJOB_SNAPSHOT] = {.kind = "disk-snapshot", .cancel = cancel},
    [BLOCKJOB_COMMIT] = {.kind = "disk-commit",
                         .cancel = cancel,
                         .complete = complete,
                         .set_speed = set_speed},
    [BLOCKJOB_STREAM] = {.kind = "disk-stream", .cancel = cancel, .set_speed = set_speed},
    [BLOCKJOB_MIRROR] = {.kind = "disk-mirror",
                         .cancel = cancel,
                         .complete = complete,
                         .set_speed = set_speed},
    [BLOCKJOB_BACKUP] = {.kind = "disk-backup",
                         .cancel = cancel,
                         .prepares = true,
                         .set_speed = set_speed},
    [BLOCKJOB_RESIZE] = {.kind = "disk-resize", .cancel = cancel},
};

static int start(struct control_call *call, const struct blockjob_spec *spec, struct error *err) {
    struct block *disk = control_find_disk(call, err);
    struct disk_job *j = disk ? calloc(1, sizeof(*j)) : NULL;
    struct blockjob_fns fns = {
        .began = began, .progress = progress, .ready = ready, .ended = ended, .opaque = j};

    if (!j)
        return disk ? error_set(err, -ENOMEM, "the job: out of memory") : err->code;
    j->disk = disk;
    j->complete = json_is_true(json_object_get(call->args, "complete"));
    j->job = job_start(control_jobs(call->control), &ops[spec->kind], j, err);
    if (!j->job) {
        free(j);
        return err->code;
    }
    json_object_set_new(call->result, "job", json_integer(job_id(j->job)));
    j->work = blockjob_start(disk, spec, &fns, err);
    if (j->work)
        return 0;
    job_failed(j->job, err);
    free(j);
    return err->code;
}

/* ------------------------------------------------------------------ commands */

static int do_disk_snapshot(struct control_call *call, struct error *err) {
    struct blockjob_spec s = {.kind = BLOCKJOB_SNAPSHOT, .path = text(call, "file")};

    return start(call, &s, err);
}

static int do_disk_commit(struct control_call *call, struct error *err) {
    struct blockjob_spec s = {.kind = BLOCKJOB_COMMIT,
                              .top = text(call, "top"),
                              .base = text(call, "base"),
                              .speed = number(call, "speed")};

    return start(call, &s, err);
}

static int do_disk_stream(struct control_call *call, struct error *err) {
    struct blockjob_spec s = {
        .kind = BLOCKJOB_STREAM, .base = text(call, "base"), .speed = number(call, "speed")};

    return start(call, &s, err);
}

static int do_disk_mirror(struct control_call *call, struct error *err) {
    const char *sync = text(call, "sync");
    struct blockjob_spec s = {.kind = BLOCKJOB_MIRROR,
                              .path = text(call, "file"),
                              .format = text(call, "format"),
                              .only_top = sync && !strcmp(sync, "top"),
                              .speed = number(call, "speed")};

    return start(call, &s, err);
}

static int do_disk_backup(struct control_call *call, struct error *err) {
    struct blockjob_spec s = {.kind = BLOCKJOB_BACKUP,
                              .path = text(call, "file"),
                              .format = text(call, "format"),
                              .bitmap = text(call, "bitmap"),
                              .begin = json_is_true(json_object_get(call->args, "begin")),
                              .parent = text(call, "parent"),
                              .speed = number(call, "speed")};

    return start(call, &s, err);
}

static int do_disk_resize(struct control_call *call, struct error *err) {
    struct blockjob_spec s = {.kind = BLOCKJOB_RESIZE, .size = number(call, "size")};

    return start(call, &s, err);
}

const struct control_handler control_disk_handlers[] = {
    {"disk-snapshot", do_disk_snapshot},
    {"disk-commit", do_disk_commit},
    {"disk-stream", do_disk_stream},
    {"disk-mirror", do_disk_mirror},
    {"disk-backup", do_disk_backup},
    {"disk-resize", do_disk_resize},
    {NULL, NULL},
};
