/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads and writes of one file by io_uring.
 *
 * Theory of operation: requests are queued in the ring's memory and handed to the kernel together,
 * by one system call for all that a driver's kick brought (block_plug). The kernel signals the
 * image's eventfd for each completion; the loop then takes them out of the ring's memory without a
 * system call. Whatever ends in an unusual way (short, interrupted, cancelled because the thread
 * that submitted it has ended) is given back to be done again by plain system calls, which know
 * all the edges.
 *
 * Not used: registered buffers (they pin guest memory, which then can neither be shared with clones
 * nor given back), registered files (the kernel lets go of them some time after a process has
 * ended, and of the lock on the image only then) and a polling kernel thread (an idle disk would
 * use a processor). docs/performance.md has the figures.
 */
#include "block/uring.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/block_internal.h"

/*
 * Calls (main, job): io_uring_setup io_uring_register:IORING_REGISTER_EVENTFD
 *     io_uring_register:IORING_UNREGISTER_EVENTFD
 * Calls (main, vcpu, disk, job): io_uring_enter
 */

enum { ENTRIES = 256, BATCH = 32 };

struct uring {
    struct io_uring ring;
    int fd, event_fd;
    unsigned inflight;
};

struct uring *uring_new(int fd, int event_fd, int *ret_code) {
    struct uring *u = calloc(1, sizeof(*u));
    int r = u ? io_uring_queue_init(ENTRIES, &u->ring, 0) : -ENOMEM;

    if (r < 0) {
        free(u);
        *ret_code = r;
        return NULL;
    }
    u->fd = fd;
    u->event_fd = event_fd;
    r = u->ring.features & IORING_FEAT_NODROP ? io_uring_register_eventfd(&u->ring, event_fd)
                                              : -ENOSYS; /* before 5.5 completions could be lost */
    if (r == 0)
        return u;
    uring_free(u);
    *ret_code = r;
    return NULL;
}

void uring_free(struct uring *u) {
    if (!u)
        return;
    io_uring_queue_exit(&u->ring);
    free(u);
}

static struct io_uring_sqe *next_entry(struct uring *u) {
    struct io_uring_sqe *e = io_uring_get_sqe(&u->ring);

    if (e)
        return e;
    uring_kick(u);
    return io_uring_get_sqe(&u->ring);
}

bool uring_submit(struct uring *u, struct block_request *req) {
    struct io_uring_sqe *e = next_entry(u);
    bool one = req->iov_count == 1 && req->iov->iov_len <= UINT32_MAX;

    if (!e)
        return false;
    if (req->op == BLOCK_READ && one)
        io_uring_prep_read(e, u->fd, req->iov->iov_base, (unsigned)req->iov->iov_len, req->at);
    else if (req->op == BLOCK_READ)
        io_uring_prep_readv(e, u->fd, req->iov, req->iov_count, req->at);
    else if (one)
        io_uring_prep_write(e, u->fd, req->iov->iov_base, (unsigned)req->iov->iov_len, req->at);
    else
        io_uring_prep_writev(e, u->fd, req->iov, req->iov_count, req->at);
    io_uring_sqe_set_data(e, req);
    u->inflight++;
    return true;
}

int uring_set_quiet(struct uring *u, bool quiet) {
    if (quiet && !u->inflight)
        return -1;
    return io_uring_cq_eventfd_toggle(&u->ring, !quiet) == 0 ? u->ring.ring_fd : -1;
}

void uring_kick(struct uring *u) {
    uint64_t one = 1;
    int r;

    while (io_uring_sq_ready(&u->ring)) {
        r = io_uring_submit(&u->ring);
        if (r > 0 || r == -EINTR)
            continue;
        /* The kernel is short of memory, or of room for completions that we must take first: the
         * loop comes back to what is left. */
        if (write(u->event_fd, &one, sizeof(one)) < 0)
            return;
        return;
    }
}

void uring_reap(struct uring *u, void (*fn)(struct block_request *req, int result)) {
    struct io_uring_cqe *cqe[BATCH];
    unsigned n;

    while ((n = io_uring_peek_batch_cqe(&u->ring, cqe, BATCH))) {
        for (unsigned i = 0; i < n; i++)
            fn(io_uring_cqe_get_data(cqe[i]), cqe[i]->res);
        io_uring_cq_advance(&u->ring, n);
        u->inflight -= n;
    }
}
