/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command that saves the machine, as a job. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "block/blockjob.h"
#include "machine/machine.h"
#include "machine/snapshot.h"
#include "vm/control.h"
#include "vm/options.h"
#include "vm/passed.h"
#include "vm/restore.h"

enum after { GO_ON, PAUSE, QUIT };

struct saving_job {
    struct control *control;
    const struct control_vm *vm;
    struct job *job;
    struct machine_saving *saving;
    enum after after;
    bool held; /* paused by this job, for as long as it takes */
    double pause_ms;
};

static void progress(void *opaque, uint64_t done, uint64_t total) {
    struct saving_job *s = opaque;

    job_progress(s->job, done, total);
}

static void add(void *opaque, struct snapshot_sections *out) {
    struct saving_job *s = opaque;

    s->vm->save(s->vm->opaque, out);
}

static void done(void *opaque, const struct error *err) {
    struct saving_job *s = opaque;

    if (err)
        job_failed(s->job, err);
    else
        job_done(s->job, json_pack("{s:f}", "pause_ms", s->pause_ms));
    if (s->after == QUIT && !err)
        s->vm->quit(s->vm->opaque);
    else if (s->after == QUIT || s->held)
        control_resume(s->control); /* it was to end only once it is safe */
    free(s);
}

static void cancel(void *opaque) {
    struct saving_job *s = opaque;
    struct error e = {.code = -ECANCELED, .text = "given up"};

    machine_save_cancel(s->saving);
    done(s, &e);
}

static const struct job_ops job_ops = {.kind = "snapshot", .cancel = cancel, .cancel_ends = true};

static double now_ms(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* The machine stands still for this call only, unless it is to stay so. */
static int start(struct saving_job *s, const char *dir, const char *parent, struct error *err) {
    bool paused = machine_is_paused(s->vm->machine);
    struct machine_save how = {
        .dir = dir, .parent = parent, .add = add, .progress = progress, .done = done, .opaque = s};
    double begin = now_ms();
    char *json;

    /* A page that was written to would be needed twice. And who is not to go on does not go on for
     * an instant either: what it wrote to a disk then would not fit what is saved. */
    s->held = !paused && (s->after != GO_ON || machine_memory_is_scarce(s->vm->machine));
    if (s->held)
        control_pause(s->control, "snapshot");
    machine_pause(s->vm->machine);
    /* First, as it may write to an image, and when that was last written is described. */
    json = machine_flush_disks(s->vm->machine, err) < 0
               ? NULL
               : restore_describe(s->vm->options, s->vm->machine, s->vm->disk, s->vm->cdrom, err);
    how.json = json;
    if (json)
        s->saving = machine_save_start(s->vm->machine, &how, err);
    free(json);
    if (s->held && !s->saving)
        control_resume(s->control);
    else if (!paused && !s->held)
        machine_resume(s->vm->machine);
    s->held &= s->after == GO_ON;
    s->pause_ms = now_ms() - begin;
    if (s->saving && s->after != GO_ON)
        control_pause(s->control, "snapshot");
    return s->saving ? 0 : err->code;
}

static enum after after_of(const char *word) {
    return word && !strcmp(word, "pause") ? PAUSE : word && !strcmp(word, "quit") ? QUIT : GO_ON;
}

/* The files of a disk that a job works on may not be its files any more when the job has ended. */
static int refuse_disk_jobs(const struct control_vm *vm, struct error *err) {
    for (unsigned i = 0; i < vm->options->disks; i++)
        if (vm->disk[i] && blockjob_running(vm->disk[i]))
            return error_set(err, -EBUSY,
                             "disk %u has a job (%s), which may change its files: wait for its end "
                             "or cancel it, then make the snapshot",
                             i, blockjob_running(vm->disk[i]));
    return 0;
}

static int do_snapshot(struct control_call *call, struct error *err) {
    const char *dir = json_string_value(json_object_get(call->args, "folder"));
    const char *parent = json_string_value(json_object_get(call->args, "parent"));
    struct saving_job *s;
    int r = options_refuse_devices(call->vm->options, "the snapshot", err);

    r = r < 0 ? r : refuse_disk_jobs(call->vm, err);

    if (r < 0)
        return r;
    s = calloc(1, sizeof(*s));
    if (!s)
        return error_set(err, -ENOMEM, "the snapshot: out of memory");
    *s = (struct saving_job){
        .control = call->control,
        .vm = call->vm,
        .after = after_of(json_string_value(json_object_get(call->args, "then"))),
    };
    s->job = job_start(control_jobs(call->control), &job_ops, s, err);
    if (!s->job) {
        free(s);
        return err->code;
    }
    json_object_set_new(call->result, "job", json_integer(job_id(s->job)));
    r = start(s, dir, parent, err);
    if (r < 0) {
        job_failed(s->job, err);
        free(s);
    }
    return r;
}

/* Templates answer by themselves (template.c). */
static int do_clone(struct control_call *call, struct error *err) {
    return error_set(err, -EBUSY,
                     "this machine runs and is no template: make a snapshot of it, and start a "
                     "template with viv-vm --restore FOLDER --template --control unix:PATH");
}

const struct control_handler control_snapshot_handlers[] = {
    {"clone", do_clone},
    {"snapshot", do_snapshot},
    {NULL, NULL},
};
