/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Failing and waiting on purpose, in front of the raw format. One plan a process: tests run one by
 * one. */
#include "block/fault_block.h"

#include <pthread.h>
#include <stddef.h>

#include "block/block_internal.h"

static struct {
    pthread_mutex_t lock;
    enum block_op op;
    unsigned after, count;
    int code;
    bool hold;
    unsigned held;
    struct block_request *first, **end;
} plan = {.lock = PTHREAD_MUTEX_INITIALIZER, .end = &plan.first};

void fault_inject(enum block_op op, unsigned after, unsigned count, int code) {
    plan.op = op;
    plan.after = after;
    plan.count = count;
    plan.code = code;
}

void fault_clear(void) {
    plan.count = 0;
    plan.hold = false;
}

void fault_hold(bool hold) { plan.hold = hold; }

unsigned fault_held(void) { return plan.held; }

void fault_release(void) {
    struct block_request *list, *next;

    pthread_mutex_lock(&plan.lock);
    list = plan.first;
    plan.first = NULL;
    plan.end = &plan.first;
    plan.held = 0;
    pthread_mutex_unlock(&plan.lock);
    for (; list; list = next) {
        next = list->next;
        block_raw_ops.submit(list->block, list);
    }
}

static int next_fault(const struct block_request *req) {
    if (!plan.count || req->op != plan.op)
        return 0;
    if (plan.after) {
        plan.after--;
        return 0;
    }
    plan.count--;
    return plan.code;
}

static int fault_open(struct block *b, const struct block_options *o, struct error *err) {
    struct block_options threads = *o; /* fault_release may run without the machine lock */

    threads.engine = BLOCK_ENGINE_THREADS;
    return block_raw_ops.open(b, &threads, err);
}

static void fault_close(struct block *b) { block_raw_ops.close(b); }

static void fault_submit(struct block *b, struct block_request *req) {
    int code = next_fault(req);

    if (code < 0) {
        block_complete(req, code);
    } else if (plan.hold) {
        pthread_mutex_lock(&plan.lock);
        req->next = NULL;
        *plan.end = req;
        plan.end = &req->next;
        plan.held++;
        pthread_mutex_unlock(&plan.lock);
    } else {
        block_raw_ops.submit(b, req);
    }
}

const struct block_ops fault_block_ops = {
    .name = "fault", .open = fault_open, .close = fault_close, .submit = fault_submit};
