/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records the working set of a restored machine for some seconds, or has it loaded. */
#include "vm/working_set.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "machine/working_set.h"
#include "state/snapshot.h"
#include "vm/options.h"

struct vm_working_set {
    struct machine *machine;
    struct prefetch *prefetch;
    /* While it is recorded: */
    struct snapshot *snapshot;
    struct loop_watch *watch;
    int timer;
};

static void end_recording(struct vm_working_set *w) {
    struct error e = {0};

    if (w->snapshot && machine_note_pages(w->machine, w->snapshot, &e) < 0)
        log_warning("%s", e.text);
    snapshot_close(w->snapshot);
    w->snapshot = NULL;
    loop_remove(w->watch);
    w->watch = NULL;
    if (w->timer >= 0)
        close(w->timer);
    w->timer = -1;
}

static void time_is_over(void *opaque, int fd, uint32_t events) { end_recording(opaque); }

static void record(struct vm_working_set *w, struct loop *loop, const struct snapshot *s,
                   unsigned seconds) {
    struct itimerspec when = {.it_value.tv_sec = seconds};
    struct error e = {0};

    w->snapshot = snapshot_open(s->dir, &e); /* the caller closes its own */
    w->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (w->timer >= 0 && timerfd_settime(w->timer, 0, &when, NULL) == 0)
        w->watch = loop_add(loop, w->timer, EPOLLIN, time_is_over, w);
    if (w->snapshot && w->watch) {
        machine_watch_pages(w->machine, w->snapshot);
        return;
    }
    log_warning("the working set is not recorded: %s",
                w->snapshot ? "no timer from the host; raise the limit of open files" : e.text);
    snapshot_close(w->snapshot);
    w->snapshot = NULL;
    end_recording(w);
}

struct vm_working_set *vm_working_set_start(const struct options *o, struct loop *loop,
                                            struct machine *m, const struct snapshot *s) {
    struct vm_working_set *w;
    struct error e = {0};

    if (!o->prefetch && !o->record_working_set)
        return NULL;
    w = calloc(1, sizeof(*w));
    if (!w)
        return NULL;
    *w = (struct vm_working_set){.machine = m, .timer = -1};
    if (o->record_working_set) {
        record(w, loop, s, o->record_working_set);
        return w;
    }
    w->prefetch = machine_prefetch(m, s, &e);
    if (!w->prefetch)
        log_warning("%s", e.text);
    return w;
}

void vm_working_set_stop(struct vm_working_set *w) {
    if (!w)
        return;
    end_recording(w);
    prefetch_stop(w->prefetch);
    free(w);
}
