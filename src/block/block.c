/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The block engine: opens images by format, checks requests, and brings completions from any thread
 * to the loop.
 *
 * Theory of operation: a format finishes a request by block_complete, which pushes it to a
 * lock-free stack; whoever finds the stack empty writes the eventfd. The loop (or a drain) takes
 * the whole stack, turns it round, and calls `done` of each, then the batch function once. The list
 * of taken requests belongs to the image, not to the call, so that a drain inside a callback goes
 * on with it.
 */
#include "block/block.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/trace.h"
#include "block/block_internal.h"
#include "block/blockjob.h"
#include "block/disk.h"
#include "block/file.h"
#include "block/latency.h"

static const struct block_ops *const formats[] = {&block_raw_ops, &block_qcow2_ops};

static const char *const op_names[] = {
    [BLOCK_READ] = "read",
    [BLOCK_WRITE] = "write",
    [BLOCK_FLUSH] = "flush",
    [BLOCK_DISCARD] = "discard",
    [BLOCK_WRITE_ZEROES] = "write of zeroes",
};

void block_complete(struct block_request *req, int result) {
    struct block *b = req->block;
    struct block_request *head = __atomic_load_n(&b->finished, __ATOMIC_RELAXED);
    uint64_t one = 1;

    req->result = result;
    do
        req->next = head;
    while (!__atomic_compare_exchange_n(&b->finished, &head, req, true, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED));
    if (head)
        return; /* whoever pushed onto the empty stack wakes the loop */
    if (write(b->event_fd, &one, sizeof(one)) < 0)
        assert(errno == EAGAIN); /* the counter is full: awake anyway */
}

static void append(struct block *b, struct block_request *req) {
    req->next = NULL;
    *b->ready_end = req;
    b->ready_end = &req->next;
}

void block_complete_locked(struct block_request *req, int result) {
    req->result = result;
    append(req->block, req);
}

static void take_finished(struct block *b) {
    struct block_request *list = __atomic_exchange_n(&b->finished, NULL, __ATOMIC_ACQUIRE);
    struct block_request *in_order = NULL, *next;

    for (; list; list = next) {
        next = list->next;
        list->next = in_order;
        in_order = list;
    }
    for (; in_order; in_order = next) {
        next = in_order->next;
        append(b, in_order);
    }
}

static bool no_room(int code) { return code == -ENOSPC || code == -EDQUOT; }

static const char *remedy(int code) {
    return no_room(code) ? "make room on the filesystem that holds it"
                         : "check the storage that holds it";
}

static void report(struct block *b, enum block_op op, int code) {
    struct error e = {0};

    for (unsigned i = 0; i < b->reported_count; i++)
        if (b->reported[i].op == op && b->reported[i].code == code)
            return;
    if (b->reported_count == BLOCK_ERROR_KINDS)
        return;
    b->reported[b->reported_count].op = op;
    b->reported[b->reported_count++].code = code;
    error_set(&e, code, "disk image '%s': a %s failed: %s; the guest got the error, %s", b->path,
              op_names[op], strerror(-code), remedy(code));
    if (b->error_fn)
        b->error_fn(b->error_opaque, &e);
}

static bool will_pause(const struct block *b, const struct block_request *req, int code) {
    if (!b->pause_fn || req->op == BLOCK_FLUSH)
        return false;
    return b->on_error == BLOCK_ON_ERROR_PAUSE ||
           (b->on_error == BLOCK_ON_ERROR_ENOSPC && no_room(code));
}

static void ask_for_pause(struct block *b, enum block_op op, int code) {
    struct error e = {0};

    if (b->pausing)
        return;
    b->pausing = true;
    error_set(
        &e, code,
        "disk image '%s': a %s failed: %s; the machine is paused and nothing is lost: %s, then "
        "resume the machine",
        b->path, op_names[op], strerror(-code), remedy(code));
    b->pause_fn(b->pause_opaque, &e);
}

static void look_at_failure(struct block *b, struct block_request *req, int result) {
    req->keep = false;
    if (result >= 0)
        return;
    stat_inc(block_errors);
    trace(block_error, b->path, op_names[req->op], req->offset, req->length, strerror(-result));
    /* A request that is out of bounds is the guest's mistake, not a failure of the storage. */
    if (result == -EINVAL || result == -EROFS || result == -EOPNOTSUPP)
        return;
    req->keep = will_pause(b, req, result);
    if (req->keep)
        ask_for_pause(b, req->op, result);
    else
        report(b, req->op, result);
}

bool block_wants_pause(const struct block *b) { return b->pausing; }

void block_resume(struct block *b) {
    b->pausing = false;
    if (b->resume_fn)
        b->resume_fn(b->resume_opaque);
}

static bool run_finished(struct block *b) {
    struct block_request *req;
    bool ran = false;

    file_reap_all(b);
    take_finished(b);
    block_plug(b); /* what the callbacks submit goes out together */
    while ((req = b->ready)) {
        int result = req->result;

        b->ready = req->next;
        if (!b->ready)
            b->ready_end = &b->ready;
        if (req->direct && !disk_end_direct(b->state, req))
            continue; /* it comes again */
        b->inflight--;
        latency_add(req->op, req->since);
        look_at_failure(b, req, result);
        req->done(req, result); /* may free req */
        ran = true;
    }
    block_unplug(b);
    if (ran && b->batch_fn)
        b->batch_fn(b->batch_opaque);
    return ran;
}

/* Edge-triggered: each write to the eventfd brings one more call, so nobody has to empty it. */
static void event_ready(void *opaque, int fd, uint32_t events) { run_finished(opaque); }

static unsigned lend(void *opaque, struct pollfd *fds, unsigned max) {
    struct block *b = opaque;

    return b->inflight && !b->ready ? file_lend_all(b, fds, max) : 0;
}

static void take_back(void *opaque) {
    file_take_back_all(opaque);
    run_finished(opaque);
}

void block_plug(struct block *b) { b->plugged++; }

void block_unplug(struct block *b) {
    if (--b->plugged == 0)
        file_kick_all(b);
}

void block_drain(struct block *b) {
    struct pollfd p = {.fd = b->event_fd, .events = POLLIN};
    bool was_draining = b->draining;
    unsigned plugged = b->plugged;
    uint64_t count;

    b->draining = true;
    b->plugged = 0; /* by a callback that drains */
    if (b->limit)
        limit_release(b->limit);
    file_take_back_all(b); /* a thread that waits for them could not take the lock */
    while (b->inflight) {
        file_kick_all(b);
        if (run_finished(b))
            continue;
        if (poll(&p, 1, -1) == 1 && read(b->event_fd, &count, sizeof(count)) < 0)
            assert(errno == EAGAIN);
    }
    b->plugged = plugged;
    b->draining = was_draining;
}

static int check(const struct block *b, const struct block_request *req) {
    uint64_t sum = 0;

    if (req->op == BLOCK_FLUSH)
        return 0;
    if ((req->offset | req->length) % BLOCK_SECTOR || req->offset > b->info.size ||
        req->length > b->info.size - req->offset)
        return -EINVAL;
    if (req->op != BLOCK_READ && b->info.readonly)
        return -EROFS;
    if (req->op != BLOCK_READ && req->op != BLOCK_WRITE)
        return 0;
    if (req->length > BLOCK_TRANSFER_MAX)
        return -EINVAL;
    for (unsigned i = 0; i < req->iov_count; i++)
        if (__builtin_add_overflow(sum, req->iov[i].iov_len, &sum))
            return -EINVAL;
    return sum == req->length ? 0 : -EINVAL;
}

static void count_request(const struct block_request *req) {
    switch (req->op) {
    case BLOCK_READ:
        stat_inc(block_reads);
        stat_add(block_read_bytes, req->length);
        break;
    case BLOCK_WRITE:
        stat_inc(block_writes);
        stat_add(block_written_bytes, req->length);
        break;
    case BLOCK_FLUSH:
        stat_inc(block_flushes);
        break;
    case BLOCK_DISCARD:
    case BLOCK_WRITE_ZEROES:
        stat_inc(block_discards);
        break;
    }
}

void block_submit(struct block *b, struct block_request *req) {
    int r = check(b, req);

    req->block = b;
    req->direct = false;
    req->held = NULL;
    req->since = latency_now();
    b->inflight++;
    count_request(req);
    if (r < 0 || (!req->length && req->op != BLOCK_FLUSH))
        block_complete(req, r);
    else if (!b->limit || b->draining || !limit_hold(b->limit, req))
        b->ops->submit(b, req);
}

bool block_try(struct block *b, struct block_request *req, int *ret_result) {
    uint64_t since;

    if (!b->ops->try_now || check(b, req) < 0 || !req->length)
        return false;
    if (b->limit && !limit_try(b->limit, req))
        return false;
    req->block = b;
    since = latency_now();
    if (!b->ops->try_now(b, req, ret_result))
        return false;
    if (b->limit)
        limit_tried(b->limit, req);
    count_request(req);
    stat_inc(block_done_at_once);
    latency_add(req->op, since);
    look_at_failure(b, req, *ret_result);
    return true;
}

const struct block_info *block_info(const struct block *b) { return &b->info; }

void block_set_batch_fn(struct block *b, void (*fn)(void *opaque), void *opaque) {
    b->batch_fn = fn;
    b->batch_opaque = opaque;
}

void block_set_error_fn(struct block *b, void (*fn)(void *opaque, const struct error *e),
                        void *opaque) {
    b->error_fn = fn;
    b->error_opaque = opaque;
}

void block_set_pause_fn(struct block *b, void (*fn)(void *opaque, const struct error *e),
                        void *opaque) {
    b->pause_fn = fn;
    b->pause_opaque = opaque;
}

void block_set_resume_fn(struct block *b, void (*fn)(void *opaque), void *opaque) {
    b->resume_fn = fn;
    b->resume_opaque = opaque;
}

int block_set_limits(struct block *b, const struct block_limits *limits, struct error *err) {
    static const struct block_limits none;

    if (!b->limit && !memcmp(limits, &none, sizeof(none)))
        return 0;
    if (!b->limit)
        b->limit = limit_new(b, err);
    if (!b->limit)
        return -EMFILE;
    limit_set(b->limit, limits);
    return 0;
}

void block_set_resize_fn(struct block *b, void (*fn)(void *opaque), void *opaque) {
    b->resize_fn = fn;
    b->resize_opaque = opaque;
}

static const struct block_ops *find_format(const char *name, struct error *err) {
    for (unsigned i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
        if (!name || !strcmp(formats[i]->name, name))
            return formats[i];
    error_set(err, -EINVAL, "disk format '%s' is unknown; the formats are: raw, qcow2", name);
    return NULL;
}

static int set_up_completion(struct block *b, struct error *err) {
    b->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (b->event_fd >= 0)
        b->watch = loop_add(b->loop, b->event_fd, EPOLLIN | EPOLLET, event_ready, b);
    b->lender = (struct loop_lender){.lend = lend, .take_back = take_back, .opaque = b};
    if (b->watch) {
        loop_add_lender(b->loop, &b->lender);
        return 0;
    }
    return error_set(err, -EMFILE,
                     "disk image '%s': no descriptor for its completions; raise the limit of open "
                     "files (ulimit -n)",
                     b->path);
}

struct block *block_open(struct loop *loop, const struct block_options *o, struct error *err) {
    const struct block_ops *ops = o->ops ? o->ops : find_format(o->format, err);
    struct block *b = ops ? calloc(1, sizeof(*b)) : NULL;

    if (!ops)
        return NULL;
    if (!b || !(b->path = strdup(o->path))) {
        free(b);
        error_set(err, -ENOMEM, "disk image '%s': out of memory", o->path);
        return NULL;
    }
    b->ops = ops;
    b->loop = loop;
    b->event_fd = -1;
    b->ready_end = &b->ready;
    pthread_mutex_init(&b->files_lock, NULL);
    b->info.path = b->path;
    b->info.readonly = o->readonly;
    strncpy(b->info.format, ops->name, sizeof(b->info.format) - 1);
    b->on_error = o->on_error;
    if (set_up_completion(b, err) < 0 || block_set_limits(b, &o->limits, err) < 0 ||
        ops->open(b, o, err) < 0) {
        block_close(b);
        return NULL;
    }
    assert(b->info.size % BLOCK_SECTOR == 0);
    return b;
}

void block_close(struct block *b) {
    if (!b)
        return;
    blockjob_stop(b);
    if (b->event_fd >= 0)
        block_drain(b);
    b->ops->close(b);
    limit_free(b->limit);
    loop_remove(b->watch);
    loop_remove_lender(b->loop, &b->lender);
    if (b->event_fd >= 0)
        close(b->event_fd);
    pthread_mutex_destroy(&b->files_lock);
    free(b->path);
    free(b);
}
