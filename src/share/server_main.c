/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The process that serves a folder. What the machine says is hostile: the lengths are checked, and
 * the memory may change while it is read, as a guest's may.
 *
 * Calls (share): openat newfstatat statx readlinkat fstatfs fchmodat utimensat mkdirat mknodat
 *     symlinkat linkat unlinkat renameat renameat2 getdents64 fgetxattr fsetxattr flistxattr
 *     fremovexattr ftruncate fallocate fsync fdatasync syncfs copy_file_range
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/write.h"
#include "share/server_internal.h"

enum { SERVER_STACK = 512 << 10 };

struct server {
    const struct server_place *place;
    struct share *share;
    pthread_rwlock_t whole; /* for writing: nothing is served */
};

struct worker {
    struct server *server;
    unsigned slot;
};

static void *work(void *opaque) {
    struct worker *w = opaque;
    struct server *s = w->server;
    struct server_slot *memory = &s->place->memory[w->slot];
    uint64_t words[2], written;

    while (server_receive(s->place->slot[w->slot], words, sizeof(words))) {
        struct iovec out = {memory->out, words[0] < SERVER_ROOM ? words[0] : SERVER_ROOM};
        struct iovec in = {memory->in, words[1] < SERVER_ROOM ? words[1] : SERVER_ROOM};
        struct share_request r = {.out = &out,
                                  .in = &in,
                                  .out_count = 1,
                                  .in_count = 1,
                                  .out_len = out.iov_len,
                                  .in_len = in.iov_len};

        pthread_rwlock_rdlock(&s->whole);
        written = share_serve(s->share, &r);
        pthread_rwlock_unlock(&s->whole);
        if (write_all(s->place->slot[w->slot], &written, sizeof(written)) < 0)
            break;
    }
    return NULL;
}

/* All of them before the filter, which lets nobody make one. */
static bool start_workers(struct server *s, struct worker worker[SERVER_SLOTS]) {
    pthread_attr_t attr;
    pthread_t t;
    bool good = true;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, SERVER_STACK);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    for (unsigned i = 0; good && i < SERVER_SLOTS; i++) {
        worker[i] = (struct worker){s, i};
        good = pthread_create(&t, &attr, work, &worker[i]) == 0;
    }
    pthread_attr_destroy(&attr);
    return good;
}

/* False: the machine is gone. */
static bool obey(struct server *s, uint32_t what, const struct buf *said) {
    struct error e = {0};
    struct buf b = {0};
    bool good;

    pthread_rwlock_wrlock(&s->whole);
    if (what == SERVER_RESET)
        share_reset(s->share);
    else if (what == SERVER_SAVE)
        share_save(s->share, &b);
    else if (what != SERVER_LOAD || share_load(s->share, said->data, said->len, &e) < 0)
        buf_put(&b, e.text, strlen(e.text));
    pthread_rwlock_unlock(&s->whole);
    good = server_say(s->place->control, e.code ? SERVER_FAILED : SERVER_READY, b.data, b.len);
    buf_done(&b);
    return good;
}

static _Noreturn void fail(const struct server_place *p, const struct error *e) {
    server_say(p->control, SERVER_FAILED, e->text, strlen(e->text));
    _exit(1);
}

/* Under its own name first, so that what is wrong with it is said with that. */
static struct share *open_folder(const struct share_options *o, const struct share_confine *c,
                                 struct error *err) {
    struct share_options inside = {.path = o->path, .readonly = o->readonly};
    struct share *s = share_open(NULL, &inside, err);

    if (!s || !c || !c->root)
        return s;
    inside.proc_fd = fcntl(s->proc_fd, F_DUPFD_CLOEXEC, 0);
    share_close(s);
    if (inside.proc_fd >= 0 && c->root(o->path))
        inside.path = "/";
    return share_open(NULL, &inside, err);
}

_Noreturn void server_main(const struct server_place *p, const struct share_options *o,
                           const struct share_confine *c) {
    struct server s = {.place = p};
    static struct worker worker[SERVER_SLOTS];
    char missing[SHARE_SAID] = "";
    struct error e = {0};
    struct buf said = {0};
    uint32_t what;

    prctl(PR_SET_NAME, "viv-share");
    pthread_rwlock_init(&s.whole, NULL);
    s.share = open_folder(o, c, &e);
    if (!s.share)
        fail(p, &e);
    if (c && c->rights)
        c->rights(s.share->root->fd, o->readonly, missing, sizeof(missing));
    if (!start_workers(&s, worker)) {
        error_set(&e, -EAGAIN, "the server of a shared folder has no threads; allow more");
        fail(p, &e);
    }
    if (c && c->calls)
        c->calls(missing, sizeof(missing));
    if (server_say(p->control, SERVER_READY, missing, strlen(missing)))
        while (server_hear(p->control, &what, &said) && obey(&s, what, &said))
            ;
    _exit(0);
}
