/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Windows to memory of devices of the host. */
#include "bus/windows.h"

#include <errno.h>
#include <stdlib.h>

#include "base/trace.h"

struct windows {
    window_fn *show; /* NULL: nobody does it for us */
    void *opaque;
    bool used[WINDOWS_MOST];
};

struct windows *windows_new(window_fn *show, void *opaque) {
    struct windows *w = calloc(1, sizeof(*w));

    if (w)
        *w = (struct windows){.show = show, .opaque = opaque};
    return w;
}

void windows_free(struct windows *w) { free(w); }

static int show(struct windows *w, unsigned n, uint64_t at, void *memory, uint64_t size) {
    int r = w->show(w->opaque, n, at, memory, size);

    trace(window, n, at, size, r);
    return r;
}

int window_open(struct windows *w, uint64_t at, void *memory, uint64_t size) {
    int n = 0, r;

    if (!w || !w->show)
        return -ENOTSUP;
    while (n < WINDOWS_MOST && w->used[n])
        n++;
    if (n == WINDOWS_MOST)
        return -ENOSPC;
    r = show(w, (unsigned)n, at, memory, size);
    if (r < 0)
        return r;
    stat_inc(windows);
    w->used[n] = true;
    return n;
}

void window_close(struct windows *w, int n) {
    if (n < 0)
        return;
    w->used[n] = false;
    if (w->show)
        show(w, (unsigned)n, 0, NULL, 0);
}

void windows_come_home(struct windows *w) {
    if (w)
        w->show = NULL;
}
