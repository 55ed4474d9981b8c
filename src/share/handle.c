/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a guest has open: a table of handles, whose numbers are a place and how often it was used.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "share/share_internal.h"

uint64_t handle_id(const struct share *s, unsigned i) {
    return (uint64_t)s->handle[i]->generation << 32 | i;
}

/* Room for a handle at place i. */
static struct handle *place(struct share *s, unsigned i) {
    if (i >= s->handle_room) {
        unsigned room = i < 64 ? 64 : (i + 1) * 2;
        struct handle **p;

        if (room > SHARE_HANDLES)
            room = SHARE_HANDLES;
        p = realloc(s->handle, room * sizeof(struct handle *));
        if (!p)
            return NULL;
        for (unsigned k = s->handle_room; k < room; k++)
            p[k] = NULL;
        s->handle = p;
        s->handle_room = room;
    }
    if (!s->handle[i]) {
        s->handle[i] = calloc(1, sizeof(*s->handle[i]));
        if (s->handle[i])
            pthread_mutex_init(&s->handle[i]->position, NULL);
    }
    return s->handle[i];
}

static void fill(struct share *s, struct handle *h, int fd, struct node *n, uint32_t flags,
                 bool folder) {
    h->used = true;
    h->folder = folder;
    h->fd = fd;
    h->flags = flags;
    h->refs = 1;
    h->node = n;
    node_get(n);
    s->handles++;
}

int handle_add(struct share *s, int fd, struct node *n, uint32_t flags, bool folder,
               uint64_t *ret_id) {
    struct handle *h = NULL;
    unsigned i = 0;

    pthread_mutex_lock(&s->lock);
    while (i < s->handle_room && s->handle[i] && s->handle[i]->used)
        i++;
    if (s->handles < s->max_handles)
        h = place(s, i);
    if (h) {
        h->generation++;
        fill(s, h, fd, n, flags, folder);
        *ret_id = handle_id(s, i);
    }
    pthread_mutex_unlock(&s->lock);
    return h ? 0 : -ENFILE;
}

int handle_restore(struct share *s, uint64_t id, int fd, struct node *n, uint32_t flags,
                   bool folder) {
    struct handle *h = NULL;

    if ((uint32_t)id < SHARE_HANDLES && s->handles < s->max_handles)
        h = place(s, (uint32_t)id);
    if (!h || h->used)
        return -EINVAL;
    h->generation = (uint32_t)(id >> 32);
    fill(s, h, fd, n, flags, folder);
    return 0;
}

static struct handle *find(struct share *s, uint64_t id) {
    uint32_t i = (uint32_t)id;
    struct handle *h = i < s->handle_room ? s->handle[i] : NULL;

    return h && h->used && h->generation == id >> 32 ? h : NULL;
}

struct handle *handle_get(struct share *s, uint64_t id, bool folder) {
    struct handle *h;

    pthread_mutex_lock(&s->lock);
    h = find(s, id);
    if (h && h->folder != folder)
        h = NULL;
    if (h)
        h->refs++;
    pthread_mutex_unlock(&s->lock);
    return h;
}

/* With the lock held. A descriptor to be closed without it, or -1. */
static int unref(struct share *s, struct handle *h) {
    if (--h->refs)
        return -1;
    h->used = false;
    s->handles--;
    node_put(s, h->node);
    h->node = NULL;
    return h->fd;
}

void handle_put(struct share *s, struct handle *h) {
    int fd;

    pthread_mutex_lock(&s->lock);
    fd = unref(s, h);
    pthread_mutex_unlock(&s->lock);
    if (fd >= 0)
        close(fd);
}

/* Calls that still use it end first; its number means nothing from now on. */
void handle_release(struct share *s, uint64_t id) {
    struct handle *h;
    int fd = -1;

    pthread_mutex_lock(&s->lock);
    h = find(s, id);
    if (h) {
        h->generation++;
        fd = unref(s, h);
    }
    pthread_mutex_unlock(&s->lock);
    if (fd >= 0)
        close(fd);
}

void handle_clear(struct share *s) {
    for (unsigned i = 0; i < s->handle_room; i++) {
        struct handle *h = s->handle[i];

        if (!h)
            continue;
        if (h->used && h->fd >= 0)
            close(h->fd);
        pthread_mutex_destroy(&h->position);
        free(h);
    }
    free(s->handle);
    s->handle = NULL;
    s->handles = s->handle_room = 0;
}
