/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A network's process: started, found again, told what is wanted, watched and ended. */
#include "host/vnet_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/write.h"
#include "host/cgroup.h"
#include "host/forward.h"
#include "host/vm_control.h"
#include "proto/place.h"

#define IDLE_S "10"

enum {
    QUIT_MS = 2000,    /* from `quit` to SIGKILL */
    LASTED_MS = 10000, /* what ran that long has not failed at once */
    BACKOFF_MS = 100,  /* after the second failure in a row; doubles */
    BACKOFF_MOST_MS = 5000,
};

/* What is known of a process that is there no more, or that the manager leaves. */
void vnet_forget_process(struct vnet *n) {
    vm_control_close(n->control);
    n->control = NULL;
    loop_remove(n->watch);
    n->watch = NULL;
    vm_process_close(&n->process);
    free(n->told);
    free(n->sent);
    json_decref(n->ids);
    n->told = n->sent = NULL;
    n->ids = NULL;
    n->up = n->reload_sent = n->unopened = false;
    n->quit = 0;
}

static void seen(void *opaque, bool paused, const char *reason) {
    struct vnet *n = opaque;

    n->up = true;
    vnet_kick(n);
}

static void happened(void *opaque, const char *name, const json_t *data) {}

static void answered(void *opaque, const char *command, const json_t *result) {
    struct vnet *n = opaque;
    const json_t *failed = json_object_get(result, "failed"), *id;
    size_t i;

    if (strcmp(command, "reload") != 0)
        return;
    n->reload_sent = false;
    free(n->told);
    n->told = n->sent;
    n->sent = NULL;
    n->unopened = json_array_size(failed);
    json_array_foreach(n->ids, i, id)
        forward_seen(n->all->m, json_string_value(id), failed);
    vnet_kick(n);
}

static void refused(void *opaque, const char *command, const char *text) {
    struct vnet *n = opaque;

    log_warning("%s: %s: %s", n->id, command, text);
    if (strcmp(command, "reload") != 0)
        return;
    n->reload_sent = false;
    vnet_again_in(n, AGAIN_MS);
}

static void closed(void *opaque, const char *why) {
    struct vnet *n = opaque;

    vm_control_close(n->control);
    n->control = NULL;
    n->up = n->reload_sent = false;
    vnet_kick(n); /* which finds the process ended, or connects again */
}

static void process_ended(void *opaque, int fd, uint32_t events) {
    struct vnet *n = opaque;
    bool lasted = timer_now_ms() - n->started > LASTED_MS, asked = n->quit;
    int64_t wait = BACKOFF_MS;

    n->last_cycle = n->process.cycle;
    vm_process_reap(&n->process, n->folder);
    vnet_forget_process(n);
    n->failures = asked ? 0 : lasted ? 1 : n->failures + 1;
    n->restarts += !asked;
    for (unsigned i = 2; i < n->failures && wait < BACKOFF_MOST_MS; i++)
        wait *= 2;
    n->not_before = n->failures > 1 ? timer_now_ms() + wait : 0;
    vnet_step(n);
}

static bool watch_process(struct vnet *n) {
    n->started = timer_now_ms();
    n->watch = loop_add(n->all->m->loop, n->process.pidfd, EPOLLIN, process_ended, n);
    if (!n->watch)
        log_error("%s: its process cannot be watched; raise the limit of open files", n->id);
    return n->watch;
}

bool vnet_open_folder(struct vnet *n, bool make) {
    int at = n->all->m->home.networks;

    if (n->folder < 0 && make && mkdirat(at, n->id, 0700) < 0 && errno != EEXIST)
        return false;
    if (n->folder < 0)
        n->folder = openat(at, n->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return n->folder >= 0;
}

/* What this manager does not know, it finds. False: later. */
bool vnet_find_process(struct vnet *n) {
    int r;

    if (n->looked)
        return true;
    r = vnet_open_folder(n, false) ? vm_process_find(n->folder, &n->process) : 0;
    if (r < 0 || (r == 1 && !watch_process(n))) {
        vm_process_close(&n->process);
        vnet_again_in(n, LOOK_AGAIN_MS);
        return false;
    }
    n->looked = true;
    if (r == 0) {
        n->last_cycle = n->process.cycle;
        n->process = (struct vm_process){.pidfd = -1};
    }
    return true;
}

int vnet_write_config(struct vnet *n, const char *text, struct error *err) {
    int fd = openat(n->folder, "config.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int r = fd < 0 ? -errno : write_all(fd, text, strlen(text));

    if (fd >= 0)
        close(fd);
    if (r == 0 && renameat(n->folder, "config.new", n->folder, "config") < 0)
        r = -errno;
    return r < 0 ? error_set(err, r, "its configuration cannot be written: %s", strerror(-r)) : 0;
}

int vnet_launch(struct vnet *n, const char *text, struct error *err) {
    const char *given = getenv("VIV_NET");
    char program[PATH_MAX];
    /* It outlives a manager, as machines do; but one whose manager does not come back is not to
     * stay when they have gone. */
    char *const argv[] = {program,     "--config",     "config", "--ports", "unix:ports",
                          "--control", "unix:control", "--idle", IDLE_S,    NULL};
    int r;

    if (given && *given)
        snprintf(program, sizeof(program), "%s", given);
    else
        place_program("viv-net", program);
    if (!vnet_open_folder(n, true))
        return error_set(err, -errno, "its folder cannot be made: %s", strerror(errno));
    r = vnet_write_config(n, text, err);
    if (r == 0)
        r = vm_process_start(n->folder, n->last_cycle + 1, argv,
                             &(struct vm_process_limits){.base = n->all->m->cgroup}, &n->process,
                             err);
    if (r == 0 && !watch_process(n)) { /* it is found again by its lock */
        vm_process_close(&n->process);
        n->looked = false;
        r = error_set(err, -EMFILE, "its process cannot be watched");
    }
    return r;
}

void vnet_connect_control(struct vnet *n) {
    const struct vm_control_user user = {seen, happened, answered, refused, closed, n};
    char path[160];

    snprintf(path, sizeof(path), "/proc/self/fd/%d/%s/control", n->all->m->home.networks, n->id);
    n->control = vm_control_open(n->all->m->loop, path, &user, NULL);
    if (!n->control)
        vnet_again_in(n, CONNECT_MS);
}

void vnet_end_process(struct vnet *n) {
    int64_t now = timer_now_ms();

    if (!n->quit) {
        n->quit = now;
        vm_process_signal(&n->process, SIGTERM);
    }
    if (now - n->quit >= QUIT_MS)
        vm_process_signal(&n->process, SIGKILL);
    else
        vnet_again_in(n, n->quit + QUIT_MS - now);
}
