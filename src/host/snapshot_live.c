/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine is paused, its memory is written, its disk gets a new layer, and it goes on: so
 * neither can run ahead of the other. Without memory the guest's file systems are frozen instead,
 * where it has an agent.
 */
#include "host/snapshot_live.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "host/layers.h"
#include "host/tree.h"
#include "host/vm_job.h"
#include "proto/client.h"
#include "proto/guest.h"

enum { LOOK_NS = 20 * 1000 * 1000, FREEZE_SECONDS = 60, THAW_MS = 10000 };

static const char *word(const json_t *o, const char *name) {
    const char *s = json_string_value(json_object_get(o, name));

    return s ? s : "";
}

/* What a manager began that was ended meanwhile. */
static int finish_old(struct client *c, struct error *err) {
    static const struct timespec nap = {.tv_nsec = LOOK_NS};
    bool more = true;
    int r = 0;

    while (more && r == 0) {
        json_t *result = NULL, *job;
        size_t i;

        more = false;
        r = vm_job_call(c, "jobs", NULL, &result, err);
        json_array_foreach(json_object_get(result, "jobs"), i, job)
            more |= strstr(word(job, "kind"), "snapshot") && !strcmp(word(job, "state"), "running");
        json_decref(result);
        if (more)
            nanosleep(&nap, NULL);
    }
    return r;
}

/* Does it write the next file already? */
static int on_next(struct client *c, const struct snapshot_live *s, bool *ret, struct error *err) {
    json_t *status = NULL;
    const char *path, *slash;
    int r = vm_job_call(c, "status", NULL, &status, err);

    if (r < 0)
        return r;
    path = word(json_array_get(json_object_get(status, "disks"), 0), "path");
    slash = strrchr(path, '/');
    *ret = *s->next && !strcmp(slash ? slash + 1 : path, s->next);
    json_decref(status);
    return 0;
}

static int start_memory(struct client *c, const struct snapshot_live *s, const char *then,
                        json_int_t *ret_id, struct error *err) {
    char path[PATH_MAX + 100];
    int folder = open(s->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (folder >= 0) {
        tree_remove(folder, s->memory, NULL); /* of an attempt that was not finished */
        close(folder);
    }
    snprintf(path, sizeof(path), "%s/%s", s->folder, s->memory);
    return vm_job_start(c, "snapshot", json_pack("{s:s, s:s}", "folder", path, "then", then),
                        ret_id, err);
}

static int write_memory(struct client *c, struct snapshot_live *s, struct error *err) {
    json_int_t id;
    int r = start_memory(c, s, "pause", &id, err);

    if (r == 0)
        r = vm_job_wait(c, id, err);
    s->memory_done = r == 0;
    return r;
}

/* The machine stands still until its state is taken; then it goes on, and its memory as it was is
 * written. */
static int fork_memory(struct client *c, struct snapshot_live *s, struct error *err) {
    json_int_t id;
    int r = start_memory(c, s, "go-on", &id, err);

    if (r == 0 && s->runs)
        r = vm_job_call(c, "resume", NULL, NULL, err);
    if (r == 0)
        r = vm_job_wait(c, id, err);
    s->memory_done = r == 0;
    return r;
}

static int put_layer(struct client *c, const struct snapshot_live *s, struct error *err) {
    char path[PATH_MAX + 100];

    if (!*s->next)
        return 0;
    if (layers_check_room(s->folder, s->disk, err) < 0)
        return err->code;
    snprintf(path, sizeof(path), "%s/%s", s->folder, s->next);
    unlink(path); /* nobody uses it: that was asked */
    return vm_job_run(c, "disk-snapshot", json_pack("{s:i, s:s}", "disk", 0, "file", path), err);
}

static int take(struct client *c, struct snapshot_live *s, struct error *err) {
    int r = vm_job_call(c, "pause", NULL, NULL, err);

    if (r == 0 && s->with_memory && !s->go_on)
        r = write_memory(c, s, err);
    if (r == 0)
        r = put_layer(c, s, err);
    if (r == 0 && s->with_memory && s->go_on)
        r = fork_memory(c, s, err);
    return r;
}

/* The connection holds the freeze. A guest that does not want to is taken as it is: the disk is
 * then as after a power failure. */
static void freeze(struct snapshot_live *s, struct guest *g, const char *vsock) {
    if (s->with_memory || !s->agent || !s->runs)
        return;
    g->path = vsock;
    g->timeout_ms = THAW_MS;
    json_decref(
        guest_ask(g, json_pack("{s:s, s:i}", "do", "freeze", "seconds", FREEZE_SECONDS), NULL));
}

int snapshot_live(struct snapshot_live *s, struct error *err) {
    char control[PATH_MAX + 100], vsock[PATH_MAX + 100], memory[PATH_MAX + 100];
    struct guest g = {.reader = {.fd = -1}};
    struct client *c;
    bool done = false;
    int r;

    snprintf(control, sizeof(control), "%s/control", s->folder);
    snprintf(vsock, sizeof(vsock), "%s/vsock", s->folder);
    snprintf(memory, sizeof(memory), "%s/%s/state", s->folder, s->memory);
    c = client_open(control, NULL, NULL, err);
    if (!c)
        return -EIO;
    r = finish_old(c, err);
    if (r == 0)
        r = on_next(c, s, &done, err);
    if (r == 0 && done) {
        s->memory_done = s->with_memory && access(memory, F_OK) == 0;
    } else if (r == 0) {
        freeze(s, &g, vsock);
        r = take(c, s, err);
    }
    if (s->runs)
        vm_job_call(c, "resume", NULL, NULL, NULL);
    guest_done(&g);
    client_close(c);
    return r;
}

/* ------------------------------------------------------------------ to be gone on with */

static bool has_memory(const struct snapshot_live *s) {
    char path[PATH_MAX + 100];

    snprintf(path, sizeof(path), "%s/%s/state", s->folder, s->memory);
    return access(path, F_OK) == 0;
}

static int write_and_quit(const struct snapshot_live *s, struct client *c, struct error *err) {
    struct error e = {0};
    json_int_t id;
    int r = finish_old(c, &e);

    if (r == 0 && has_memory(s)) /* of the manager before, which did not see its end */
        return vm_job_call(c, "quit", NULL, NULL, &e) < 0 && !has_memory(s) ? -EIO : 0;
    if (r == 0)
        r = start_memory(c, s, "quit", &id, &e);
    if (r == 0)
        r = vm_job_wait(c, id, &e);
    /* It may be gone before it could say that it is done. */
    return r < 0 && !has_memory(s) ? error_set(err, r, "%s", e.text) : 0;
}

int snapshot_suspend(struct snapshot_live *s, bool process, struct error *err) {
    char control[PATH_MAX + 100];
    struct client *c;
    int r;

    snprintf(control, sizeof(control), "%s/control", s->folder);
    c = process ? client_open(control, NULL, NULL, err) : NULL;
    if (!c && has_memory(s)) {
        *err = (struct error){0};
        return 0;
    }
    if (!c)
        return err->code ? err->code : error_set(err, -ESRCH, "its process has ended");
    r = write_and_quit(s, c, err);
    client_close(c);
    return r;
}
