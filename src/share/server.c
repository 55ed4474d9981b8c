/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The machine's side of a folder's server: starts it, and hands requests to it. */
#include "share/server.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "base/write.h"
#include "share/server_internal.h"

/*
 * Calls (main): wait4
 */

struct share_server {
    pid_t pid;
    int control, slot[SERVER_SLOTS];
    struct server_slot *memory;
    char missing[SHARE_SAID];
    pthread_mutex_t lock;
    pthread_cond_t freed;
    unsigned used; /* bit a slot */
};

/* ---- words ---- */

bool server_receive(int fd, void *p, size_t n) {
    uint8_t *to = p;

    while (n) {
        ssize_t r = read(fd, to, n);

        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return false;
        to += r;
        n -= (size_t)r;
    }
    return true;
}

bool server_say(int fd, uint32_t what, const void *p, size_t n) {
    uint32_t head[2] = {what, (uint32_t)n};

    return n <= SERVER_LONGEST && write_all(fd, head, sizeof(head)) == 0 &&
           write_all(fd, p, n) == 0;
}

bool server_hear(int fd, uint32_t *ret_what, struct buf *ret) {
    uint32_t head[2];

    buf_done(ret);
    if (!server_receive(fd, head, sizeof(head)) || head[1] > SERVER_LONGEST)
        return false;
    *ret_what = head[0];
    return !head[1] || server_receive(fd, buf_grow(ret, head[1]), head[1]);
}

/* ---- requests ---- */

static unsigned slot_take(struct share_server *s) {
    unsigned i;

    pthread_mutex_lock(&s->lock);
    while (s->used == (1u << SERVER_SLOTS) - 1)
        pthread_cond_wait(&s->freed, &s->lock);
    for (i = 0; s->used & 1u << i; i++)
        ;
    s->used |= 1u << i;
    pthread_mutex_unlock(&s->lock);
    return i;
}

static void slot_give(struct share_server *s, unsigned i) {
    pthread_mutex_lock(&s->lock);
    s->used &= ~(1u << i);
    pthread_cond_signal(&s->freed);
    pthread_mutex_unlock(&s->lock);
}

/* The server is gone: the guest gets an error for all that it asks. */
static uint32_t refuse(const struct share_request *r) {
    struct fuse_out_header out = {.len = sizeof(out), .error = -EIO};
    struct fuse_in_header in = {0};

    if (iov_read(r->out, r->out_count, 0, &in, sizeof(in)) < sizeof(in) || r->in_len < sizeof(out))
        return 0;
    if (in.opcode == FUSE_FORGET || in.opcode == FUSE_BATCH_FORGET)
        return 0;
    out.unique = in.unique;
    iov_write(r->in, r->in_count, 0, &out, sizeof(out));
    return sizeof(out);
}

uint32_t share_server_serve(struct share_server *s, const struct share_request *r) {
    unsigned i = slot_take(s);
    struct server_slot *slot = &s->memory[i];
    uint64_t room = r->in_len < SERVER_ROOM ? r->in_len : SERVER_ROOM, written = 0;
    uint64_t words[2] = {iov_read(r->out, r->out_count, 0, slot->out, SERVER_ROOM), room};
    bool there = write_all(s->slot[i], words, sizeof(words)) == 0 &&
                 server_receive(s->slot[i], &written, sizeof(written)) && written <= room;

    if (there)
        iov_write(r->in, r->in_count, 0, slot->in, written);
    slot_give(s, i);
    return there ? (uint32_t)written : refuse(r);
}

/* ---- the rest ---- */

void share_server_reset(struct share_server *s) {
    struct buf b = {0};
    uint32_t what;

    if (server_say(s->control, SERVER_RESET, NULL, 0))
        server_hear(s->control, &what, &b);
    buf_done(&b);
}

void share_server_save(struct share_server *s, struct buf *to) {
    struct buf b = {0};
    uint32_t what;

    if (server_say(s->control, SERVER_SAVE, NULL, 0) && server_hear(s->control, &what, &b) &&
        what == SERVER_READY)
        buf_put(to, b.data, b.len);
    buf_done(&b);
}

int share_server_load(struct share_server *s, const void *p, size_t n, struct error *err) {
    struct buf b = {0};
    uint32_t what;
    int r = -EIO;

    if (!server_say(s->control, SERVER_LOAD, p, n) || !server_hear(s->control, &what, &b))
        error_set(err, r, "the server of a shared folder ended; start the machine again");
    else if (what == SERVER_READY)
        r = 0;
    else
        r = error_set(err, -EINVAL, "%.*s", (int)b.len, (const char *)b.data);
    buf_done(&b);
    return r;
}

/* ---- life ---- */

/* With nothing open of what the machine has. */
static void become_server(struct server_place *p, const struct share_options *o,
                          const struct share_confine *c, pid_t machine) {
    int *ends[SERVER_SLOTS + 1], null = open("/dev/null", O_RDWR | O_CLOEXEC), lowest = 3;
    sigset_t all;

    sigfillset(&all);
    sigdelset(&all, SIGSYS); /* the filter's */
    sigprocmask(SIG_SETMASK, &all, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != machine)
        _exit(1);
    for (int fd = 0; fd < 2 && null >= 0; fd++)
        dup2(null, fd);
    for (unsigned i = 0; i < SERVER_SLOTS; i++)
        ends[i] = &p->slot[i];
    ends[SERVER_SLOTS] = &p->control;
    for (unsigned i = 0; i <= SERVER_SLOTS; i++) /* out of each other's way */
        *ends[i] = fcntl(*ends[i], F_DUPFD_CLOEXEC, 100);
    for (unsigned i = 0; i <= SERVER_SLOTS; i++, lowest++)
        if (*ends[i] < 0 || (*ends[i] = dup3(*ends[i], lowest, O_CLOEXEC)) < 0)
            _exit(1);
    close_range((unsigned)lowest, ~0u, 0);
    server_main(p, o, c);
}

static bool make_pairs(struct share_server *s, struct server_place *p) {
    int fds[2];

    for (unsigned i = 0; i <= SERVER_SLOTS; i++) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
            return false;
        *(i < SERVER_SLOTS ? &s->slot[i] : &s->control) = fds[0];
        *(i < SERVER_SLOTS ? &p->slot[i] : &p->control) = fds[1];
    }
    return true;
}

static void close_place(const struct server_place *p) {
    for (unsigned i = 0; i < SERVER_SLOTS; i++)
        if (p->slot[i] >= 0)
            close(p->slot[i]);
    if (p->control >= 0)
        close(p->control);
}

/* The sentence of the server, or that there is none. */
static int await(struct share_server *s, struct error *err) {
    struct buf b = {0};
    uint32_t what;
    int r = 0;

    if (!server_hear(s->control, &what, &b))
        r = error_set(err, -ECHILD, "the server of a shared folder ended as it started");
    else if (what != SERVER_READY)
        r = error_set(err, -EINVAL, "%.*s", (int)b.len, (const char *)b.data);
    else if (b.len)
        memcpy(s->missing, b.data, b.len < SHARE_SAID ? b.len : SHARE_SAID - 1);
    buf_done(&b);
    return r;
}

struct share_server *share_server_start(const struct share_options *o,
                                        const struct share_confine *confine, struct error *err) {
    struct share_server *s = calloc(1, sizeof(*s));
    struct server_place p = {.control = -1};
    pid_t machine = getpid();

    memset(p.slot, -1, sizeof(p.slot));
    if (!s) {
        error_set(err, -ENOMEM, "a shared folder: out of memory");
        return NULL;
    }
    memset(s->slot, -1, sizeof(s->slot));
    s->control = -1;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->freed, NULL);
    s->memory = mmap(NULL, SERVER_SLOTS * sizeof(*s->memory), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    p.memory = s->memory = s->memory == MAP_FAILED ? NULL : s->memory;
    if (!s->memory || !make_pairs(s, &p) || (s->pid = fork()) < 0) {
        error_set(err, -errno, "the server of a shared folder cannot be started: %s",
                  strerror(errno));
        s->pid = 0;
    } else if (s->pid == 0) {
        become_server(&p, o, confine, machine);
    } else {
        close_place(&p);
        if (await(s, err) == 0)
            return s;
        p = (struct server_place){.control = -1};
        memset(p.slot, -1, sizeof(p.slot));
    }
    close_place(&p);
    share_server_stop(s);
    return NULL;
}

void share_server_stop(struct share_server *s) {
    if (!s)
        return;
    for (unsigned i = 0; i < SERVER_SLOTS; i++)
        if (s->slot[i] >= 0)
            close(s->slot[i]);
    if (s->control >= 0)
        close(s->control); /* its end */
    while (s->pid > 0 && waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (s->memory)
        munmap(s->memory, SERVER_SLOTS * sizeof(*s->memory));
    pthread_cond_destroy(&s->freed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

const char *share_server_missing(const struct share_server *s) { return s->missing; }

int share_server_pid(const struct share_server *s) { return s->pid; }
