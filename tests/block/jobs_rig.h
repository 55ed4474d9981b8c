/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A disk with a guest that writes at random and remembers what it wrote, while jobs work on it. */
#ifndef TESTS_BLOCK_JOBS_RIG_H
#define TESTS_BLOCK_JOBS_RIG_H

#include "block/block_help.h"
#include "block/blockjob.h"
#include "support/test.h"

enum { JOBS_SIZE = 8 << 20, JOBS_REQUESTS = 8 };

struct jobs_request {
    struct jobs_rig *rig;
    struct block_request io;
    struct iovec iov;
    uint8_t *data;
    bool busy;
};

struct jobs_rig {
    struct loop *loop;
    struct block *block;
    struct rng rng;
    uint8_t *model; /* what the guest must read: JOBS_SIZE bytes */
    struct jobs_request request[JOBS_REQUESTS];
    unsigned busy;
    uint64_t writes;
    bool quiet; /* the guest does nothing */
    /* the job */
    struct blockjob *job;
    bool began, ended, ready;
    struct error error;
};

/* Shell words with $D for the tests' folder; it must succeed. */
void jobs_shell(const char *words);
/* The same; returns the exit code. */
int jobs_shell_code(const char *words);
/* An image of JOBS_SIZE bytes in the tests' folder, filled with something in places. */
void jobs_fill(const char *name, const char *format, uint64_t seed);

void jobs_open(struct jobs_rig *r, const char *name, const char *format, uint64_t seed);
void jobs_close(struct jobs_rig *r); /* checks what the guest reads before */
void jobs_run(struct jobs_rig *r, unsigned steps);
void jobs_start(struct jobs_rig *r, const struct blockjob_spec *spec);
void jobs_until_ready(struct jobs_rig *r);
/* Until the job has ended: 0 or its negative errno. */
int jobs_until_ended(struct jobs_rig *r);
void jobs_idle(struct jobs_rig *r); /* nothing is in flight */
void jobs_check(struct jobs_rig *r);
/* What qemu-img reads from the image is the model (a copy of it if `saved`). */
void jobs_compare(struct jobs_rig *r, const char *name, const char *format, const uint8_t *model);
/* qemu-img check finds nothing; leaks are allowed if `leaks`. */
void jobs_image_is_clean(const char *name, bool leaks);

#endif
