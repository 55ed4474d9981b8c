/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands to a machine's control socket that are waited for. */
#include "host/vm_job.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "host/manager.h"
#include "proto/client.h"

enum { CALL_MS = 30000, LOOK_NS = 20 * 1000 * 1000 };

int vm_job_call(struct client *c, const char *command, json_t *args, json_t **ret,
                struct error *err) {
    json_t *result = NULL;
    int r = client_call(c, command, args, CALL_MS, &result, err);

    if (r == 0 && ret)
        *ret = json_incref(result);
    json_decref(result);
    return r;
}

/* 1: it is over, and well. */
static int look_at_job(struct client *c, json_int_t id, struct error *err) {
    json_t *result = NULL, *job;
    int r = vm_job_call(c, "jobs", NULL, &result, err);
    bool known = false;
    size_t i;

    if (r < 0)
        return r;
    json_array_foreach(json_object_get(result, "jobs"), i, job) {
        if (json_integer_value(json_object_get(job, "id")) != id)
            continue;
        known = true;
        if (!strcmp(row_text(job, "state"), "done"))
            r = 1;
        else if (!strcmp(row_text(job, "state"), "failed") ||
                 !strcmp(row_text(job, "state"), "cancelled"))
            r = error_set(err, -EIO, "%s", row_text(job, "error"));
    }
    json_decref(result);
    /* It ended, and so many after it that the machine has forgotten how. */
    return known ? r : error_set(err, -ESRCH, "its machine does not know that job any more");
}

int vm_job_start(struct client *c, const char *command, json_t *args, json_int_t *ret_id,
                 struct error *err) {
    json_t *result = NULL;
    int r = vm_job_call(c, command, args, &result, err);

    *ret_id = json_integer_value(json_object_get(result, "job"));
    json_decref(result);
    return r;
}

int vm_job_wait_or_stop(struct client *c, json_int_t id, const int *stop, struct error *err) {
    static const struct timespec nap = {.tv_nsec = LOOK_NS};
    bool stopped = false;
    int r;

    while ((r = look_at_job(c, id, err)) == 0) {
        if (!stopped && __atomic_load_n(stop, __ATOMIC_RELAXED)) {
            stopped = true;
            vm_job_call(c, "job-cancel", json_pack("{s:I}", "id", id), NULL, NULL);
        }
        nanosleep(&nap, NULL);
    }
    return r == 1 ? 0 : stopped ? -ECANCELED : r;
}

int vm_job_wait(struct client *c, json_int_t id, struct error *err) {
    static const int never;

    return vm_job_wait_or_stop(c, id, &never, err);
}

int vm_job_run(struct client *c, const char *command, json_t *args, struct error *err) {
    json_int_t id;
    int r = vm_job_start(c, command, args, &id, err);

    return r < 0 ? r : vm_job_wait(c, id, err);
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static int find_disk(const json_t *status, const char *file) {
    const json_t *one;
    size_t i;

    json_array_foreach(json_object_get(status, "disks"), i, one)
        if (!strcmp(base_name(row_text(one, "path")), base_name(file)))
            return (int)row_number(one, "index");
    return -1;
}

int vm_resize_disk(const char *control, const char *file, int64_t size, struct error *err) {
    struct client *c = client_open(control, NULL, NULL, err);
    json_t *status = NULL;
    int r = c ? vm_job_call(c, "status", NULL, &status, err) : -EIO, disk;

    if (r == 0) {
        disk = find_disk(status, file);
        r = disk < 0
                ? error_set(err, -ENOENT, "its machine has no such disk")
                : vm_job_run(c, "disk-resize",
                             json_pack("{s:i, s:I}", "disk", disk, "size", (json_int_t)size), err);
    }
    json_decref(status);
    client_close(c);
    return r;
}
