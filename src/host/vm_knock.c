/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Guests that say that somebody should ask them: a connection to a port of the host, without words.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/unix_socket.h"
#include "host/vm.h"
#include "host/vm_agent.h"
#include "proto/agent.h"

enum { DEAF_MS = 100, MODE = 0600 }; /* a guest that knocks all the time is heard so often */

struct vm_knock {
    struct manager *m;
    struct loop_watch *watch;
    struct timer timer;
    void (*fn)(void *opaque);
    void *opaque;
    int listener;
    char path[160];
};

static void hear_again(void *opaque) {
    struct vm_knock *k = opaque;

    loop_modify(k->watch, EPOLLIN);
}

static void knocked(void *opaque, int listener, uint32_t events) {
    struct vm_knock *k = opaque;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

    if (fd >= 0)
        close(fd);
    loop_modify(k->watch, 0);
    timer_start(k->m->timers, &k->timer, DEAF_MS, hear_again, k);
    if (fd >= 0)
        k->fn(k->opaque);
}

struct vm_knock *vm_knock_new(struct manager *m, const char *id, void (*fn)(void *opaque),
                              void *opaque) {
    struct vm_knock *k = calloc(1, sizeof(*k));
    char name[32];

    if (!k)
        abort();
    k->m = m;
    k->fn = fn;
    k->opaque = opaque;
    snprintf(name, sizeof(name), "vsock_%d", AGENT_KNOCK_PORT);
    machine_path(m, id, name, k->path, sizeof(k->path));
    k->listener = unix_socket_listen(k->path, MODE, "the guest's door", NULL);
    k->watch = k->listener < 0 ? NULL : loop_add(m->loop, k->listener, EPOLLIN, knocked, k);
    if (k->watch)
        return k;
    vm_knock_free(k); /* then it is asked at the times at which it is asked anyway */
    return NULL;
}

void vm_knock_free(struct vm_knock *k) {
    if (!k)
        return;
    timer_stop(&k->timer);
    loop_remove(k->watch);
    if (k->listener >= 0) {
        close(k->listener);
        unlink(k->path);
    }
    free(k);
}
