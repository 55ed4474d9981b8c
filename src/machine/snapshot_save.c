/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saving while the machine goes on: a forked child has guest memory as it was at the fork, copied
 * by the host page by page where the guest writes (guest memory is a private mapping), and writes
 * the snapshot; the machine stands still only for the fork.
 *
 * Why not userfaultfd: write protection of a running machine would make every first write a
 * message to another thread, needs a right on many hosts, and lets system calls into guest memory
 * (disk reads) fail. The child costs page tables and, at worst, a copy of what the guest writes
 * meanwhile.
 *
 * The child touches nothing but its own memory, the snapshot's folder and one end of a pipe,
 * through which it tells how far it is and how it ended.
 */
#include "machine/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/jail.h"
#include "base/loop.h"
#include "base/trace.h"
#include "block/block.h"
#include "machine/machine_internal.h"
#include "machine/snapshot_internal.h"

/*
 * Calls (main): clone:fork wait4 kill:child prctl:PR_SET_PDEATHSIG prctl:PR_SET_PTRACER dup2
 *     close_range openat
 */

struct message { /* shorter than PIPE_BUF: arrives whole */
    uint64_t pages;
    bool over;
    uint8_t id[SNAPSHOT_ID];
    struct error error;
};

struct machine_saving {
    struct machine *machine;
    struct machine_save how;
    struct loop_watch *watch;
    pid_t child;
    int pipe;
    uint64_t pages;
    struct dirty_taken dirty;
    struct message last;
};

/* ------------------------------------------------------------------ the child */

struct child {
    const struct mem *mem;
    const struct dirty_log *log; /* of what differs from the parent; NULL: who knows */
    int pipe;
};

static void tell(int fd, const struct message *m) {
    while (write(fd, m, sizeof(*m)) < 0 && errno == EINTR)
        ;
}

static void child_progress(void *opaque, uint64_t done) {
    struct child *c = opaque;
    struct message m = {.pages = done};

    if (done % (16 * SNAPSHOT_CHUNK) == 0)
        tell(c->pipe, &m);
}

/* Chunks are of the file: one may lie across two ranges, or in the gap before a huge page. */
static const uint8_t *child_pages(void *opaque, uint64_t page, unsigned count, uint8_t *buf,
                                  struct error *err) {
    struct child *c = opaque;
    uint64_t at = page * SNAPSHOT_PAGE, size = (uint64_t)count * SNAPSHOT_PAGE;
    const uint8_t *host = mem_at_offset(c->mem, at, size);

    if (host && !mem_is_hidden(c->mem, at, size))
        return host;
    memset(buf, 0, size);
    if (host)
        return buf;
    for (unsigned i = 0; i < count; i++) {
        host = mem_at_offset(c->mem, at + (uint64_t)i * SNAPSHOT_PAGE, SNAPSHOT_PAGE);
        if (host)
            memcpy(buf + (size_t)i * SNAPSHOT_PAGE, host, SNAPSHOT_PAGE);
    }
    return buf;
}

static bool child_may_differ(void *opaque, uint64_t page, uint64_t count) {
    const struct child *c = opaque;

    return !c->log || dirty_has(c->log, page, count);
}

/* Nothing of the machine's may stay open in here: listening sockets, locks on disk images. */
static int close_others(int pipe) {
    int null = open("/dev/null", O_RDWR);

    for (int fd = 0; fd < 2 && null >= 0; fd++)
        dup2(null, fd);
    if (pipe != 3)
        dup2(pipe, 3);
    close_range(4, ~0u, 0);
    return 3;
}

static void child_main(struct machine *m, const struct machine_save *how,
                       const struct snapshot_sections *sections, const struct dirty_taken *dirty,
                       int pipe) {
    struct child c = {.mem = &machine_board(m)->mem};
    struct message last = {.over = true};
    struct snapshot_image image = {.dir = how->dir,
                                   .sections = sections,
                                   .json = how->json,
                                   .pages = c.mem->file_size / SNAPSHOT_PAGE,
                                   .pages_at = child_pages,
                                   .opaque = &c,
                                   .may_differ = child_may_differ,
                                   .prove = machine_config(m)->dirty_prove,
                                   .ret_id = last.id,
                                   .progress = child_progress,
                                   .progress_opaque = &c};

    jail_forked();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "viv-snapshot");
    c.pipe = close_others(pipe);
    if (how->parent)
        image.parent = snapshot_open(how->parent, &last.error);
    if (image.parent && !memcmp(image.parent->id, dirty->since, SNAPSHOT_ID))
        c.log = dirty->log;
    if (!how->parent || image.parent)
        snapshot_write(&image, &last.error);
    tell(c.pipe, &last);
    _exit(0);
}

/* ------------------------------------------------------------------ the machine's side */

static void wait_child(const struct machine_saving *s) {
    while (waitpid(s->child, NULL, 0) < 0 && errno == EINTR)
        ;
}

static void saving_free(struct machine_saving *s) {
    loop_remove(s->watch);
    close(s->pipe);
    free(s);
}

static void finished(struct machine_saving *s, struct error *ret) {
    *ret = s->last.error;
    ret->text[sizeof(ret->text) - 1] = 0;
    if (!s->last.over)
        error_set(ret, -EIO,
                  "the snapshot was not written: the process that did it was killed; look whether "
                  "the host ran out of memory");
    wait_child(s);
    machine_dirty_taken(s->machine, &s->dirty, ret->code ? NULL : s->last.id);
}

/* False: that was the last one. */
static bool take_message(struct machine_saving *s) {
    struct message m;
    ssize_t n = read(s->pipe, &m, sizeof(m));

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return true;
    if (n != sizeof(m))
        return false;
    s->last = m;
    if (!m.over && s->how.progress)
        s->how.progress(s->how.opaque, m.pages * SNAPSHOT_PAGE, s->pages * SNAPSHOT_PAGE);
    return !m.over;
}

static void pipe_ready(void *opaque, int fd, uint32_t events) {
    struct machine_saving *s = opaque;
    struct machine_save how = s->how;
    struct error e;

    if (take_message(s))
        return;
    finished(s, &e);
    saving_free(s);
    trace(machine_saved, e.code);
    if (how.done)
        how.done(how.opaque, e.code ? &e : NULL);
}

static void flushed(struct block_request *req, int result) { *(int *)req->opaque = result; }

/* What the guest believes to be written must not be lost while the snapshot that saw it is not. And
 * an image that is closed later must not be another one than that which the snapshot knows. */
int machine_flush_disks(struct machine *m, struct error *err) {
    const struct machine_config *config = machine_config(m);

    for (unsigned i = 0; i < config->disks; i++) {
        int result = -EIO;
        struct block_request flush = {
            .op = BLOCK_FLUSH, .settle = true, .done = flushed, .opaque = &result};

        if (!config->disk[i] || block_info(config->disk[i])->readonly)
            continue;
        block_submit(config->disk[i], &flush);
        block_drain(config->disk[i]);
        if (result < 0)
            return error_set(err, result,
                             "the snapshot is not made: disk %u cannot be flushed: %s; check the "
                             "storage that holds it",
                             i, strerror(-result));
    }
    return 0;
}

static struct machine_saving *start(struct machine *m, const struct machine_save *how,
                                    struct error *err) {
    struct snapshot_sections sections = {0};
    struct machine_saving *s;
    int fds[2];

    if (!machine_is_paused(m)) {
        error_set(err, -EBUSY, "the machine runs: pause it before it is saved");
        return NULL;
    }
    if (machine_flush_disks(m, err) < 0)
        return NULL;
    s = calloc(1, sizeof(*s));
    if (!s || pipe2(fds, O_CLOEXEC) < 0) {
        error_set(err, s ? -errno : -ENOMEM, "the snapshot's process cannot be made: %s",
                  strerror(s ? errno : ENOMEM));
        free(s);
        return NULL;
    }
    machine_sections(m, &sections);
    if (how->add)
        how->add(how->opaque, &sections);
    s->how = *how;
    s->machine = m;
    s->pipe = fds[0];
    s->pages = machine_board(m)->mem.file_size / SNAPSHOT_PAGE;
    machine_dirty_take(m, how->parent, &s->dirty);
    s->child = fork();
    if (s->child == 0)
        child_main(m, how, &sections, &s->dirty, fds[1]);
    close(fds[1]);
    snapshot_sections_done(&sections);
    if (s->child < 0) {
        error_set(err, -errno,
                  "the snapshot's process cannot be made: %s; give the host more memory or allow "
                  "more processes",
                  strerror(errno));
        machine_dirty_taken(m, &s->dirty, NULL);
        close(s->pipe);
        free(s);
        return NULL;
    }
    return s;
}

struct machine_saving *machine_save_start(struct machine *m, const struct machine_save *how,
                                          struct error *err) {
    struct machine_saving *s = start(m, how, err);

    if (!s)
        return NULL;
    s->watch = loop_add(machine_loop(m), s->pipe, EPOLLIN, pipe_ready, s);
    if (!s->watch) {
        error_set(err, -EMFILE, "the snapshot: too many open files; raise the limit (ulimit -n)");
        machine_save_cancel(s);
        return NULL;
    }
    return s;
}

void machine_save_cancel(struct machine_saving *s) {
    if (!s)
        return;
    kill(s->child, SIGKILL);
    wait_child(s);
    machine_dirty_taken(s->machine, &s->dirty, NULL);
    saving_free(s);
}

int machine_save(struct machine *m, const struct machine_save *how, struct error *err) {
    struct machine_saving *s = start(m, how, err);
    struct error e;

    if (!s)
        return err ? err->code : -EIO;
    s->how.progress = NULL;
    while (take_message(s))
        ;
    finished(s, &e);
    saving_free(s);
    return e.code ? error_set(err, e.code, "%s", e.text) : 0;
}
