/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A disk with a guest that writes at random, and what must come of it. */
#include "block/jobs_rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SECTOR = 512, MOST = 256 };

int jobs_shell_code(const char *words) {
    char command[2000];
    int r;

    snprintf(command, sizeof(command), "D='%s'; { %s ; } >/dev/null", image_path(""), words);
    r = system(command);
    assert_true(WIFEXITED(r));
    return WEXITSTATUS(r);
}

void jobs_shell(const char *words) {
    if (jobs_shell_code(words) != 0)
        fail_msg("this failed: %s", words);
}

void jobs_fill(const char *name, const char *format, uint64_t seed) {
    struct rng rng = rng_seed(seed);
    char words[4000];
    int n = snprintf(words, sizeof(words), "qemu-io -f %s", format);

    for (unsigned i = 0; i < 12; i++)
        n += snprintf(words + n, sizeof(words) - (size_t)n, " -c 'write -P %u %lluk %lluk'",
                      1 + (unsigned)rng_below(&rng, 200), (unsigned long long)rng_below(&rng, 7000),
                      (unsigned long long)(1 + rng_below(&rng, 700)));
    snprintf(words + n, sizeof(words) - (size_t)n, " $D/%s", name);
    jobs_shell(words);
}

/* ------------------------------------------------------------------ the guest */

static void done(struct block_request *io, int result) {
    struct jobs_request *q = io->opaque;

    assert_int_equal(result, 0);
    q->busy = false;
    q->rig->busy--;
}

static bool overlaps(const struct jobs_rig *r, uint64_t offset, uint64_t length) {
    for (unsigned i = 0; i < JOBS_REQUESTS; i++)
        if (r->request[i].busy && offset < r->request[i].io.offset + r->request[i].io.length &&
            r->request[i].io.offset < offset + length)
            return true;
    return false;
}

static void start(struct jobs_rig *r, struct jobs_request *q) {
    uint64_t sectors = JOBS_SIZE / SECTOR, most = rng_below(&r->rng, 8) ? 24 : MOST;
    uint64_t first = rng_below(&r->rng, sectors), n = 1 + rng_below(&r->rng, most);
    unsigned what = (unsigned)rng_below(&r->rng, 16);
    int result;

    n = n < sectors - first ? n : sectors - first;
    if (overlaps(r, first * SECTOR, n * SECTOR))
        return;
    q->io = (struct block_request){.op = BLOCK_WRITE,
                                   .offset = first * SECTOR,
                                   .length = n * SECTOR,
                                   .iov = &q->iov,
                                   .iov_count = 1,
                                   .done = done,
                                   .opaque = q};
    q->iov = (struct iovec){q->data, n * SECTOR};
    if (what == 0) {
        q->io.op = BLOCK_FLUSH;
        q->io.length = 0;
    } else if (what <= 2) {
        q->io.op = BLOCK_WRITE_ZEROES;
        q->io.unmap = what == 1;
        memset(r->model + q->io.offset, 0, q->io.length);
    } else {
        for (uint64_t i = 0; i < n * SECTOR; i += 8)
            *(uint64_t *)(q->data + i) = rng_next(&r->rng);
        memcpy(r->model + q->io.offset, q->data, q->io.length);
    }
    r->writes++;
    q->rig = r;
    q->busy = true;
    r->busy++;
    if (block_try(r->block, &q->io, &result))
        done(&q->io, result);
    else
        block_submit(r->block, &q->io);
}

void jobs_run(struct jobs_rig *r, unsigned steps) {
    for (unsigned i = 0; i < steps; i++) {
        struct jobs_request *q = &r->request[rng_below(&r->rng, JOBS_REQUESTS)];

        if (!q->busy && !r->quiet)
            start(r, q);
        loop_step(r->loop, i % 8 == 0 || r->quiet);
    }
}

void jobs_idle(struct jobs_rig *r) {
    while (r->busy)
        loop_step(r->loop, 10);
}

/* ------------------------------------------------------------------ the job */

static void began(void *opaque) { ((struct jobs_rig *)opaque)->began = true; }

static void ready(void *opaque) { ((struct jobs_rig *)opaque)->ready = true; }

static void ended(void *opaque, const struct error *err) {
    struct jobs_rig *r = opaque;

    r->ended = true;
    r->job = NULL;
    if (err)
        r->error = *err;
}

void jobs_start(struct jobs_rig *r, const struct blockjob_spec *spec) {
    struct blockjob_fns fns = {.began = began, .ready = ready, .ended = ended, .opaque = r};
    struct error err = {0};

    r->began = r->ended = r->ready = false;
    r->error = (struct error){0};
    r->job = blockjob_start(r->block, spec, &fns, &err);
    if (!r->job)
        fail_msg("%s", err.text);
}

void jobs_until_ready(struct jobs_rig *r) {
    while (!r->ready && !r->ended)
        jobs_run(r, 20);
    if (r->ended)
        fail_msg("%s", r->error.text);
}

int jobs_until_ended(struct jobs_rig *r) {
    while (!r->ended)
        jobs_run(r, 20);
    return r->error.code;
}

/* ------------------------------------------------------------------ the disk */

static void read_all(struct jobs_rig *r, uint8_t *data) {
    for (uint64_t at = 0; at < JOBS_SIZE; at += 1 << 20)
        assert_int_equal(do_request(r->loop, r->block, BLOCK_READ, at, data + at, 1 << 20), 0);
}

void jobs_check(struct jobs_rig *r) {
    uint8_t *data = malloc(JOBS_SIZE);

    jobs_idle(r);
    read_all(r, data);
    for (uint64_t i = 0; i < JOBS_SIZE; i += SECTOR)
        if (memcmp(data + i, r->model + i, SECTOR) != 0)
            fail_msg("the guest reads something else at 0x%llx", (unsigned long long)i);
    free(data);
}

void jobs_open(struct jobs_rig *r, const char *name, const char *format, uint64_t seed) {
    struct error err = {0};

    memset(r, 0, sizeof(*r));
    r->loop = loop_new(NULL, &err);
    r->rng = rng_seed(seed);
    r->model = malloc(JOBS_SIZE);
    for (unsigned i = 0; i < JOBS_REQUESTS; i++)
        r->request[i].data = malloc(MOST * SECTOR);
    image_options.format = format;
    image_options.cache = BLOCK_CACHE_UNSAFE; /* nobody cuts the power here */
    r->block = image_open(r->loop, image_path(name), false);
    image_options = (struct block_options){0};
    assert_int_equal(block_info(r->block)->size, JOBS_SIZE);
    read_all(r, r->model);
}

void jobs_close(struct jobs_rig *r) {
    jobs_check(r);
    block_close(r->block);
    loop_free(r->loop);
    for (unsigned i = 0; i < JOBS_REQUESTS; i++)
        free(r->request[i].data);
}

void jobs_compare(struct jobs_rig *r, const char *name, const char *format, const uint8_t *model) {
    char words[400];
    FILE *f = fopen(image_path("model"), "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(model ? model : r->model, 1, JOBS_SIZE, f), JOBS_SIZE);
    assert_int_equal(fclose(f), 0);
    snprintf(words, sizeof(words), "qemu-img compare -U -f %s -F raw $D/%s $D/model", format, name);
    jobs_shell(words);
}

void jobs_image_is_clean(const char *name, bool leaks) {
    char words[200];
    int code;

    snprintf(words, sizeof(words), "qemu-img check -q $D/%s 2>&1", name);
    code = jobs_shell_code(words);
    if (code != 0 && !(leaks && code == 3))
        fail_msg("qemu-img check of %s says %d", name, code);
}
