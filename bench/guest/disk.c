/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Kernels that read and write a disk past the page cache, one request at a time or many. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BLOCK = 4096, LARGE = 1024 * 1024, DEPTH = 32 };

struct plan {
    bool write, random;
    bool cached;    /* through the page cache of whoever runs this */
    unsigned depth; /* requests at a time */
    size_t size;    /* of each */
};

struct disk {
    const struct plan *plan;
    int fd;
    uint64_t places; /* of plan->size */
    uint64_t state;  /* of the random places */
    uint64_t next;   /* of the others */
    uint64_t sum;
    uint8_t *buf[DEPTH];
    uint64_t place[DEPTH];
};

static void fill_block(uint64_t *block, uint64_t number) {
    uint64_t state = mix(number, 0x766976) | 1;

    for (size_t i = 0; i < BLOCK / sizeof(*block); i++)
        block[i] = next_random(&state);
}

int io_make_disk(const char *path, uint64_t mib) {
    static char buffer[LARGE];
    uint64_t block[BLOCK / 8];
    FILE *f = fopen(path, "wb");

    if (!f)
        return -errno;
    /* In large pieces, as tools write images: the host's page cache then holds them in large pages.
     */
    setvbuf(f, buffer, _IOFBF, sizeof(buffer));
    for (uint64_t i = 0; i < mib * 1024 * 1024 / BLOCK; i++) {
        fill_block(block, i);
        if (fwrite(block, BLOCK, 1, f) != 1) {
            int r = -errno;

            fclose(f);
            return r;
        }
    }
    return fclose(f) ? -errno : 0;
}

/* The first word of each block of a place says which it is; little to compute, enough to check. */
static void mark(const struct disk *d, unsigned slot) {
    for (size_t at = 0; at < d->plan->size; at += BLOCK) {
        uint64_t word = mix(d->place[slot] + 1, at);

        memcpy(d->buf[slot] + at, &word, sizeof(word));
    }
}

/* Takes what was read into the sum, in whichever order it comes; of what was written, the place. */
static void take(struct disk *d, unsigned slot) {
    uint64_t s = d->place[slot];

    for (size_t at = 0; at < d->plan->size && !d->plan->write; at += BLOCK) {
        uint64_t word;

        memcpy(&word, d->buf[slot] + at, sizeof(word));
        s = mix(s, word);
    }
    d->sum += mix(s, 1);
}

static void choose(struct disk *d, unsigned slot) {
    d->place[slot] = (d->plan->random ? next_random(&d->state) : d->next++) % d->places;
    if (d->plan->write)
        mark(d, slot);
}

static int one_by_one(struct disk *d, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        off_t at;
        ssize_t got;

        choose(d, 0);
        at = (off_t)(d->place[0] * d->plan->size);
        got = d->plan->write ? pwrite(d->fd, d->buf[0], d->plan->size, at)
                             : pread(d->fd, d->buf[0], d->plan->size, at);
        if (got != (ssize_t)d->plan->size)
            return got < 0 ? -errno : -EIO;
        take(d, 0);
    }
    return 0;
}

static int submit(aio_context_t aio, struct disk *d, const unsigned *slot, unsigned count) {
    struct iocb cb[DEPTH], *list[DEPTH];

    for (unsigned i = 0; i < count; i++) {
        choose(d, slot[i]);
        cb[i] = (struct iocb){
            .aio_data = slot[i],
            .aio_lio_opcode = d->plan->write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
            .aio_fildes = (uint32_t)d->fd,
            .aio_buf = (uintptr_t)d->buf[slot[i]],
            .aio_nbytes = d->plan->size,
            .aio_offset = (int64_t)(d->place[slot[i]] * d->plan->size),
        };
        list[i] = &cb[i];
    }
    return syscall(SYS_io_submit, aio, (long)count, list) == (long)count ? 0 : -EIO;
}

/* Keeps as many in flight as the plan says. */
static int many_at_once(struct disk *d, uint64_t n) {
    struct io_event event[DEPTH];
    unsigned slot[DEPTH], ready = d->plan->depth;
    uint64_t started = 0, finished = 0;
    aio_context_t aio = 0;
    int r = syscall(SYS_io_setup, (long)DEPTH, &aio) < 0 ? -errno : 0;

    for (unsigned i = 0; i < ready; i++)
        slot[i] = i;
    while (r == 0 && finished < n) {
        long got;

        if (ready > n - started)
            ready = (unsigned)(n - started);
        if (ready)
            r = submit(aio, d, slot, ready);
        started += ready;
        got = r == 0 ? syscall(SYS_io_getevents, aio, 1L, (long)DEPTH, event, NULL) : 0;
        if (got < 0)
            r = -errno;
        for (ready = 0; r == 0 && ready < got; ready++) {
            if (event[ready].res != (int64_t)d->plan->size)
                r = -EIO;
            slot[ready] = (unsigned)event[ready].data;
            take(d, slot[ready]);
        }
        finished += (uint64_t)(got > 0 ? got : 0);
    }
    syscall(SYS_io_destroy, aio);
    return r;
}

/* What was written last is there. */
static int check_written(struct disk *d) {
    uint64_t want, word;

    if (pread(d->fd, d->buf[0], BLOCK, (off_t)(d->place[0] * d->plan->size)) != BLOCK)
        return -EIO;
    memcpy(&word, d->buf[0], sizeof(word));
    want = mix(d->place[0] + 1, 0);
    return word == want ? 0 : -EBADMSG;
}

static int run(const struct plan *plan, uint64_t n, const char *path, uint64_t *sum) {
    struct disk d = {.plan = plan, .state = 99};
    int flags = (plan->write ? O_RDWR : O_RDONLY) | O_CLOEXEC, r = 0;
    off_t size;

    d.fd = open(path, plan->cached ? flags : flags | O_DIRECT);
    if (d.fd < 0 && errno == EINVAL) /* the host's file system may know no O_DIRECT */
        d.fd = open(path, flags);
    if (d.fd < 0)
        return -errno;
    size = lseek(d.fd, 0, SEEK_END);
    d.places = size > 0 ? (uint64_t)size / plan->size : 0;
    for (unsigned i = 0; i < plan->depth; i++)
        if (!(d.buf[i] = aligned_alloc(BLOCK, plan->size)))
            r = -ENOMEM;
    if (!d.places)
        r = -ENOSPC;
    for (unsigned i = 0; i < plan->depth && r == 0; i++)
        memset(d.buf[i], 0x5a, plan->size);
    if (r == 0)
        r = plan->depth > 1 ? many_at_once(&d, n) : one_by_one(&d, n);
    if (r == 0 && plan->write)
        r = check_written(&d);
    for (unsigned i = 0; i < plan->depth; i++)
        free(d.buf[i]);
    close(d.fd);
    *sum = d.sum;
    return r;
}

#define KERNEL(name, ...)                                                                          \
    static int name(uint64_t n, const char *path, uint64_t *sum) {                                 \
        static const struct plan plan = __VA_ARGS__;                                               \
                                                                                                   \
        return run(&plan, n, path, sum);                                                           \
    }

KERNEL(read_one, {.random = true, .depth = 1, .size = BLOCK})
KERNEL(read_many, {.random = true, .depth = DEPTH, .size = BLOCK})
KERNEL(read_large, {.depth = 1, .size = LARGE})
KERNEL(write_one, {.write = true, .random = true, .depth = 1, .size = BLOCK})
KERNEL(write_many, {.write = true, .random = true, .depth = DEPTH, .size = BLOCK})
KERNEL(write_large, {.write = true, .depth = 1, .size = LARGE})

/* What the kernel alone costs for the data of a guest's request: copies from and to its cache. */
KERNEL(cached_read, {.cached = true, .random = true, .depth = 1, .size = BLOCK})
KERNEL(cached_read_large, {.cached = true, .depth = 1, .size = LARGE})
KERNEL(cached_write, {.cached = true, .write = true, .random = true, .depth = 1, .size = BLOCK})
KERNEL(cached_write_large, {.cached = true, .write = true, .depth = 1, .size = LARGE})

int io_cached(const char *path) {
    static const struct {
        const char *title;
        int (*run)(uint64_t n, const char *path, uint64_t *sum);
        uint64_t n;
    } all[] = {{"4 KiB random reads", cached_read, 20000},
               {"1 MiB sequential reads", cached_read_large, 400},
               {"4 KiB random writes", cached_write, 20000},
               {"1 MiB sequential writes", cached_write_large, 400}};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        uint64_t sum, before;
        int r = all[i].run(all[i].n / 4, path, &sum); /* so that it is cached */

        before = cpu_ns();
        if (r == 0)
            r = all[i].run(all[i].n, path, &sum);
        if (r < 0)
            return r;
        printf("%-24s %8.2f us\n", all[i].title,
               (double)(cpu_ns() - before) / 1000 / (double)all[i].n);
    }
    return 0;
}

const struct kernel disk_kernels[] = {{"disk-read", read_one},
                                      {"disk-read-32", read_many},
                                      {"disk-read-seq", read_large},
                                      {"disk-write", write_one},
                                      {"disk-write-32", write_many},
                                      {"disk-write-seq", write_large},
                                      {"qcow2-read", read_one},
                                      {"qcow2-read-32", read_many},
                                      {"qcow2-read-seq", read_large},
                                      {"qcow2-write", write_one},
                                      {"qcow2-write-32", write_many},
                                      {"qcow2-write-seq", write_large},
                                      {NULL, NULL}};
