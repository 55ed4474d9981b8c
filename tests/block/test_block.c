/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of the block engine and of raw images: against a model, at the edges, with failures. */
#include "block/block.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/loop.h"
#include "block/block_help.h"
#include "block/chain.h"
#include "block/fault_block.h"
#include "support/test.h"

#define KIB 1024u
#define MIB (1024u * KIB)

static struct loop *loop;

static int make(void **state) {
    signal(SIGXFSZ, SIG_IGN); /* as viv-vm does */
    loop = loop_new(NULL, NULL);
    return loop ? 0 : -1;
}

static int unmake(void **state) {
    fault_clear();
    loop_free(loop);
    block_help_clean();
    return 0;
}

static const char *fresh(const char *name, uint64_t size) {
    const char *path = image_path(name);

    image_make(path, size);
    return path;
}

/* ------------------------------------------------------------------ data */

static void what_is_written_reads_back(void **state) {
    struct block *b = image_open(loop, fresh("a.raw", MIB), false);
    uint8_t out[4096], in[4096];

    memset(out, 0xa5, sizeof(out));
    assert_int_equal(block_info(b)->size, MIB);
    assert_string_equal(block_info(b)->format, "raw");
    assert_int_equal(do_request(loop, b, BLOCK_WRITE, 512, out, sizeof(out)), 0);
    assert_int_equal(do_request(loop, b, BLOCK_FLUSH, 0, NULL, 0), 0);
    assert_int_equal(do_request(loop, b, BLOCK_READ, 512, in, sizeof(in)), 0);
    assert_memory_equal(in, out, sizeof(in));
    assert_int_equal(do_request(loop, b, BLOCK_READ, MIB - 512, in, 512), 0);
    assert_int_equal(in[0] | in[511], 0);
    block_close(b);
}

/* A random request on one slot of the disk; slots are disjoint, so requests of a batch may overlap
 * in time. */
enum {
    SLOTS = 8,
    SLOT_SECTORS = 300,
    DISK_SECTORS = SLOTS * SLOT_SECTORS,
    BATCHES = 1500,
    CUTS = 20
};

struct random_io {
    struct block_request req;
    struct iovec iov[CUTS + 1];
    uint8_t data[SLOT_SECTORS * 512];
    unsigned *left;
};

static void random_done(struct block_request *req, int result) {
    struct random_io *io = req->opaque;

    assert_int_equal(result, 0);
    (*io->left)--;
}

static void cut(struct random_io *io, struct rng *r) {
    uint64_t at = 0, length = io->req.length;
    unsigned n = 0;

    while (n < CUTS && at < length) {
        uint64_t part = 1 + rng_below(r, length - at);

        io->iov[n++] = (struct iovec){io->data + at, part};
        at += part;
    }
    if (at < length)
        io->iov[n++] = (struct iovec){io->data + at, length - at};
    io->req.iov = io->iov;
    io->req.iov_count = n;
}

static void random_request(struct random_io *io, unsigned slot, struct rng *r, uint8_t *model) {
    static const enum block_op ops[] = {BLOCK_READ,        BLOCK_READ,  BLOCK_WRITE,
                                        BLOCK_WRITE,       BLOCK_WRITE, BLOCK_WRITE_ZEROES,
                                        BLOCK_WRITE_ZEROES};
    uint64_t first = rng_below(r, SLOT_SECTORS), count = 1 + rng_below(r, SLOT_SECTORS - first);

    /* A flush in every second batch: more of them, and the test waits for the host's disk alone. */
    io->req.op = rng_below(r, 2 * SLOTS) ? ops[rng_below(r, 7)] : BLOCK_FLUSH;
    io->req.offset = (slot * SLOT_SECTORS + first) * 512;
    io->req.length = count * 512;
    io->req.unmap = rng_next(r) & 1;
    io->req.done = random_done;
    io->req.opaque = io;
    cut(io, r);
    if (io->req.op == BLOCK_WRITE) {
        for (uint64_t i = 0; i < io->req.length; i++)
            io->data[i] = (uint8_t)(rng_next(r) >> 56);
        memcpy(model + io->req.offset, io->data, io->req.length);
    } else if (io->req.op == BLOCK_WRITE_ZEROES) {
        memset(model + io->req.offset, 0, io->req.length);
    }
}

static void run_batch(struct block *b, struct random_io *io, struct rng *r, uint8_t *model) {
    unsigned left = SLOTS;

    for (unsigned slot = 0; slot < SLOTS; slot++) {
        int result = 0;

        io[slot].left = &left;
        random_request(&io[slot], slot, r, model);
        if ((rng_next(r) & 1) && block_try(b, &io[slot].req, &result))
            random_done(&io[slot].req, result);
        else
            block_submit(b, &io[slot].req);
    }
    if (rng_next(r) & 1)
        block_drain(b);
    for (int i = 0; i < 2000 && left; i++)
        loop_step(loop, 10);
    assert_int_equal(left, 0);
    for (unsigned slot = 0; slot < SLOTS; slot++)
        if (io[slot].req.op == BLOCK_READ)
            assert_memory_equal(io[slot].data, model + io[slot].req.offset, io[slot].req.length);
}

static void random_io_agrees_with_a_model(void **state) {
    /* The last sector exists in part only. */
    const char *path = fresh("model.raw", DISK_SECTORS * 512 - 200);
    struct block *b = image_open(loop, path, false);
    uint8_t *model = calloc(1, DISK_SECTORS * 512), *file = calloc(1, DISK_SECTORS * 512);
    struct random_io *io = calloc(SLOTS, sizeof(*io));
    struct rng r = rng_seed(4711);
    int fd;

    assert_int_equal(block_info(b)->size, DISK_SECTORS * 512);
    for (int i = 0; i < BATCHES; i++)
        run_batch(b, io, &r, model);
    block_close(b);
    fd = open(path, O_RDONLY);
    assert_true(read(fd, file, DISK_SECTORS * 512) >= DISK_SECTORS * 512 - 200);
    assert_memory_equal(file, model, DISK_SECTORS * 512);
    close(fd);
    free(io);
    free(model);
    free(file);
}

/* Some of it goes at once, some by a ring while the clusters are held, some needs new clusters. */
static void random_io_on_a_qcow2_image_agrees_with_a_model(void **state) {
    uint64_t size = DISK_SECTORS * 512;
    char path[600];
    struct chain_create c = {.path = path, .format = "qcow2", .size = size, .cluster_bits = 14};
    uint8_t *model = calloc(1, size), *back = calloc(1, size);
    struct random_io *io = calloc(SLOTS, sizeof(*io));
    struct rng r = rng_seed(4712);
    struct error err = {0};
    struct block *b;

    snprintf(path, sizeof(path), "%s", fresh("model.qcow2", 0));
    unlink(path);
    if (chain_create(&c, &err) < 0)
        fail_msg("%s", err.text);
    image_options.format = "qcow2";
    b = image_open(loop, path, false);
    for (int i = 0; i < BATCHES; i++)
        run_batch(b, io, &r, model);
    block_close(b);
    b = image_open(loop, path, true);
    image_options.format = NULL;
    assert_int_equal(do_request(loop, b, BLOCK_READ, 0, back, size), 0);
    assert_memory_equal(back, model, size);
    block_close(b);
    free(io);
    free(model);
    free(back);
}

static void a_request_may_have_more_buffers_than_a_system_call_takes(void **state) {
    enum { COUNT = 3000 };
    struct block *b = image_open(loop, fresh("iov.raw", COUNT * 512), false);
    static uint8_t data[COUNT * 512], back[COUNT * 512];
    static struct iovec iov[COUNT];
    struct block_request req = {
        .op = BLOCK_WRITE, .length = sizeof(data), .iov = iov, .iov_count = COUNT};
    unsigned left = 1;
    struct random_io io = {.left = &left};
    struct rng r = rng_seed(1);

    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)rng_next(&r);
    for (unsigned i = 0; i < COUNT; i++)
        iov[i] = (struct iovec){data + i * 512, 512};
    req.done = random_done;
    req.opaque = &io;
    block_submit(b, &req);
    block_drain(b);
    assert_int_equal(left, 0);
    assert_int_equal(do_request(loop, b, BLOCK_READ, 0, back, sizeof(back)), 0);
    assert_memory_equal(back, data, sizeof(data));
    for (unsigned i = 0; i < COUNT; i++)
        iov[i].iov_base = back + (COUNT - 1 - i) * 512;
    req.op = BLOCK_READ;
    left = 1;
    block_submit(b, &req);
    block_drain(b);
    assert_memory_equal(back + (COUNT - 1) * 512, data, 512);
    assert_memory_equal(back, data + (COUNT - 1) * 512, 512);
    block_close(b);
}

static void a_discarded_range_gives_its_room_back_or_is_left_alone(void **state) {
    const char *path = fresh("discard.raw", MIB);
    struct block *b = image_open(loop, path, false);
    static uint8_t data[MIB];
    struct stat full, holed;

    memset(data, 0x77, sizeof(data));
    assert_int_equal(do_request(loop, b, BLOCK_WRITE, 0, data, sizeof(data)), 0);
    assert_int_equal(do_request(loop, b, BLOCK_FLUSH, 0, NULL, 0), 0);
    stat(path, &full);
    assert_int_equal(do_request(loop, b, BLOCK_DISCARD, 64 * KIB, NULL, 512 * KIB), 0);
    assert_int_equal(do_request(loop, b, BLOCK_READ, 0, data, sizeof(data)), 0);
    stat(path, &holed);
    assert_int_equal(holed.st_size, MIB);
    assert_true(holed.st_blocks <= full.st_blocks);
    assert_int_equal(data[64 * KIB - 1], 0x77);
    assert_int_equal(data[576 * KIB], 0x77);
    assert_true(data[64 * KIB] == (holed.st_blocks < full.st_blocks ? 0 : 0x77));
    block_close(b);
}

static void what_is_discarded_stays_allocated_if_asked_for(void **state) {
    const char *path = fresh("keep.raw", MIB);
    struct block_options o = {.path = path, .keep_discarded = true};
    struct block *b = block_open(loop, &o, NULL);
    static uint8_t data[MIB];
    struct stat before, after;

    memset(data, 0x77, sizeof(data));
    assert_int_equal(do_request(loop, b, BLOCK_WRITE, 0, data, sizeof(data)), 0);
    assert_int_equal(do_request(loop, b, BLOCK_FLUSH, 0, NULL, 0), 0);
    stat(path, &before);
    assert_int_equal(do_request(loop, b, BLOCK_DISCARD, 0, NULL, MIB), 0);
    stat(path, &after);
    assert_int_equal(after.st_blocks, before.st_blocks);
    assert_int_equal(do_request(loop, b, BLOCK_READ, 0, data, sizeof(data)), 0);
    assert_int_equal(data[0] & data[MIB - 1], 0x77);
    assert_int_equal(do_request(loop, b, BLOCK_WRITE_ZEROES, 0, NULL, MIB), 0);
    assert_int_equal(do_request(loop, b, BLOCK_READ, 0, data, sizeof(data)), 0);
    assert_int_equal(data[0] | data[MIB - 1], 0);
    block_close(b);
}

/* ------------------------------------------------------------------ edges */

static void a_partial_last_sector_reads_as_zeroes_and_can_be_written(void **state) {
    const char *path = fresh("odd.raw", 1000);
    struct block *b = image_open(loop, path, false);
    uint8_t s[512];
    struct stat st;

    assert_int_equal(block_info(b)->size, 1024);
    memset(s, 0xff, sizeof(s));
    assert_int_equal(do_request(loop, b, BLOCK_READ, 512, s, 512), 0);
    assert_int_equal(s[0] | s[487] | s[488] | s[511], 0);
    memset(s, 0x11, sizeof(s));
    assert_int_equal(do_request(loop, b, BLOCK_WRITE, 512, s, 512), 0);
    block_close(b);
    stat(path, &st);
    assert_int_equal(st.st_size, 1024);
}

static void a_file_that_shrinks_reads_as_zeroes_behind_its_end(void **state) {
    const char *path = fresh("shrink.raw", MIB);
    struct block *b = image_open(loop, path, false);
    static uint8_t data[MIB];

    memset(data, 0x42, sizeof(data));
    assert_int_equal(do_request(loop, b, BLOCK_WRITE, 0, data, sizeof(data)), 0);
    assert_int_equal(truncate(path, 1536), 0);
    assert_int_equal(do_request(loop, b, BLOCK_READ, 0, data, sizeof(data)), 0);
    assert_int_equal(data[1535], 0x42);
    for (unsigned i = 1536; i < MIB; i++)
        assert_int_equal(data[i], 0);
    assert_int_equal(do_request(loop, b, BLOCK_READ, MIB - 512, data, 512), 0);
    block_close(b);
}

static void requests_outside_the_disk_or_off_its_sectors_are_refused(void **state) {
    struct block *b = image_open(loop, fresh("bounds.raw", 64 * KIB), false);
    static uint8_t data[128 * KIB];
    static const struct {
        uint64_t offset, length;
    } bad[] = {
        {64 * KIB, 512}, {64 * KIB - 512, 1024}, {0, 128 * KIB}, {UINT64_MAX - 511, 512}, {1, 512},
        {0, 100},        {1ull << 63, 512}};
    struct iovec iov = {data, 512};
    unsigned left = 0;
    struct random_io io = {.left = &left};
    struct block_request short_iov = {.op = BLOCK_READ,
                                      .length = 1024,
                                      .iov = &iov,
                                      .iov_count = 1,
                                      .done = random_done,
                                      .opaque = &io};
    int result;

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(do_request(loop, b, BLOCK_READ, bad[i].offset, data, bad[i].length),
                         -EINVAL);
        assert_int_equal(do_request(loop, b, BLOCK_WRITE, bad[i].offset, data, bad[i].length),
                         -EINVAL);
        assert_int_equal(do_request(loop, b, BLOCK_DISCARD, bad[i].offset, NULL, bad[i].length),
                         -EINVAL);
    }
    assert_false(block_try(b, &short_iov, &result));
    assert_int_equal(do_request(loop, b, BLOCK_READ, 64 * KIB, data, 0), 0);
    block_close(b);
}

static void store_result(struct block_request *req, int result) { *(int *)req->opaque = result; }

static void a_transfer_of_two_gib_or_more_is_refused(void **state) {
    enum { PIECES = 32 };
    struct block *b = image_open(loop, fresh("long.raw", 4096ull * MIB), false);
    uint8_t *data = calloc(1, 64 * MIB);
    struct iovec iov[PIECES];
    int result = 1;
    struct block_request req = {.op = BLOCK_WRITE,
                                .length = PIECES * 64ull * MIB,
                                .iov = iov,
                                .iov_count = PIECES,
                                .done = store_result,
                                .opaque = &result};

    assert_non_null(data);
    for (unsigned i = 0; i < PIECES; i++) /* a guest may name the same memory again and again */
        iov[i] = (struct iovec){data, 64 * MIB};
    block_submit(b, &req);
    block_drain(b);
    assert_int_equal(result, -EINVAL);
    free(data);
    block_close(b);
}

static void a_readonly_disk_takes_no_writes(void **state) {
    struct block *b = image_open(loop, fresh("ro.raw", 64 * KIB), true);
    uint8_t s[512] = {1};

    assert_true(block_info(b)->readonly);
    assert_int_equal(do_request(loop, b, BLOCK_WRITE, 0, s, 512), -EROFS);
    assert_int_equal(do_request(loop, b, BLOCK_WRITE_ZEROES, 0, NULL, 512), -EROFS);
    assert_int_equal(do_request(loop, b, BLOCK_DISCARD, 0, NULL, 512), -EROFS);
    assert_int_equal(do_request(loop, b, BLOCK_READ, 0, s, 512), 0);
    assert_int_equal(s[0], 0);
    assert_int_equal(do_request(loop, b, BLOCK_FLUSH, 0, NULL, 0), 0);
    block_close(b);
}

/* ------------------------------------------------------------------ opening */

static void expect_refusal(const char *path, bool readonly, int code, const char *words) {
    struct block_options o = {.path = path, .readonly = readonly};
    struct error err = {0};

    assert_null(block_open(loop, &o, &err));
    assert_int_equal(err.code, code);
    assert_non_null(strstr(err.text, path));
    if (!strstr(err.text, words))
        fail_msg("'%s' does not say '%s'", err.text, words);
}

static void what_is_no_disk_image_is_refused_with_a_remedy(void **state) {
    struct block_options o = {.path = "x", .format = "vmdk"};
    struct error err = {0};

    expect_refusal(image_path("none.raw"), false, -ENOENT, "does not exist");
    expect_refusal("/", false, -EISDIR, "is a directory");
    expect_refusal("/", true, -EISDIR, "is a directory");
    expect_refusal("/dev/null", false, -EINVAL, "neither a file nor a block device");
    expect_refusal(fresh("empty.raw", 0), false, -EINVAL, "is empty");
    assert_int_equal(mkfifo(image_path("fifo"), 0600), 0);
    expect_refusal(image_path("fifo"), true, -EINVAL, "neither a file nor a block device");
    expect_refusal(image_path("fifo"), false, -EINVAL, "neither a file nor a block device");
    assert_null(block_open(loop, &o, &err));
    assert_non_null(strstr(err.text, "'vmdk' is unknown"));
}

/* Runs fn in a child process; 0 if it returned true. */
static int in_child(bool (*fn)(const char *path), const char *path) {
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (!pid)
        _exit(fn(path) ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static bool refused_without_rights(const char *path) {
    struct block_options o = {.path = path};
    struct error err = {0};
    struct block *b;

    if (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0)
        return false;
    b = block_open(loop, &o, &err);
    if (b || err.code != -EACCES || !strstr(err.text, ",readonly"))
        return false;
    o.readonly = true;
    b = block_open(loop, &o, &err);
    return b != NULL;
}

static void a_file_that_may_only_be_read_opens_readonly(void **state) {
    const char *path = fresh("rights.raw", MIB);

    assert_int_equal(chmod(path, 0444), 0);
    assert_int_equal(in_child(refused_without_rights, path), 0);
}

/* ------------------------------------------------------------------ locks */

struct holder { /* a child process that holds an image */
    pid_t pid;
    int wait[2];
};

static bool hold_as_machine(const char *path, bool readonly) {
    struct block_options o = {.path = path, .readonly = readonly};
    struct error err = {0};

    return block_open(loop, &o, &err) != NULL;
}

static bool hold_byte(int fd, off_t byte) {
    struct flock l = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    return fcntl(fd, F_OFD_SETLK, &l) == 0;
}

/* What QEMU 7.2 holds (seen in /proc/locks). */
static bool hold_as_qemu(const char *path, bool readonly) {
    int fd = open(path, O_RDWR);

    return fd >= 0 && hold_byte(fd, 100) && (readonly || hold_byte(fd, 101)) && hold_byte(fd, 201);
}

static struct holder start_holder(bool (*hold)(const char *, bool), const char *path,
                                  bool readonly) {
    struct holder h;
    int ready[2];
    char c;

    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(h.wait), 0);
    h.pid = fork();
    if (!h.pid) {
        bool held = hold(path, readonly);

        close(h.wait[1]);
        if (!held || write(ready[1], "x", 1) != 1)
            _exit(1);
        _exit(read(h.wait[0], &c, 1) == 0 ? 0 : 1); /* until the test ends it or dies */
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &c, 1), 1);
    close(ready[0]);
    close(h.wait[0]);
    return h;
}

static void end_holder(struct holder *h) {
    int status;

    close(h->wait[1]);
    assert_int_equal(waitpid(h->pid, &status, 0), h->pid);
    assert_int_equal(status, 0);
}

static void an_image_in_use_is_refused_with_the_name_of_its_user(void **state) {
    bool (*const kinds[])(const char *, bool) = {hold_as_machine, hold_as_qemu};
    const char *path = fresh("lock.raw", MIB);
    char pid[32];

    for (unsigned i = 0; i < 2; i++) {
        struct holder h = start_holder(kinds[i], path, false);

        snprintf(pid, sizeof(pid), "process %d (", h.pid);
        expect_refusal(path, false, -EBUSY, "in use");
        expect_refusal(path, false, -EBUSY, pid);
        expect_refusal(path, true, -EBUSY, "in use");
        end_holder(&h);
        block_close(image_open(loop, path, false));
    }
}

static void readers_share_an_image_but_not_with_a_writer(void **state) {
    bool (*const kinds[])(const char *, bool) = {hold_as_machine, hold_as_qemu};
    const char *path = fresh("share.raw", MIB);

    for (unsigned i = 0; i < 2; i++) {
        struct holder h = start_holder(kinds[i], path, true);

        block_close(image_open(loop, path, true));
        expect_refusal(path, false, -EBUSY, "in use");
        end_holder(&h);
        block_close(image_open(loop, path, false));
    }
}

static void the_same_image_twice_in_one_machine_is_refused(void **state) {
    const char *path = fresh("twice.raw", MIB);
    struct block *b = image_open(loop, path, false);

    expect_refusal(path, false, -EBUSY, "in use");
    block_close(b);
}

static void our_lock_lies_where_others_look(void **state) {
    const char *path = fresh("bytes.raw", MIB);
    static const off_t held[] = {100, 101, 201}, is_free[] = {0, 99, 102, 103, 200, 202, 203};
    struct block *b = image_open(loop, path, false);
    int fd = open(path, O_RDWR);
    struct flock l;

    for (unsigned i = 0; i < 3; i++) {
        l = (struct flock){.l_type = F_WRLCK, .l_start = held[i], .l_len = 1};
        assert_int_equal(fcntl(fd, F_OFD_GETLK, &l), 0);
        assert_int_equal(l.l_type, F_RDLCK);
    }
    for (unsigned i = 0; i < 7; i++) {
        l = (struct flock){.l_type = F_WRLCK, .l_start = is_free[i], .l_len = 1};
        assert_int_equal(fcntl(fd, F_OFD_GETLK, &l), 0);
        assert_int_equal(l.l_type, F_UNLCK);
    }
    close(fd);
    block_close(b);
}

/* As qemu-img would be run by hand: 0 or its exit code, 77 without it. */
static int qemu_img(bool writes, const char *path) {
    char line[1400];
    int status;

    snprintf(line, sizeof(line),
             "command -v qemu-img >/dev/null || exit 77; qemu-img %s '%s' %s%s >/dev/null 2>&1",
             writes ? "resize -f raw" : "convert -f raw -O raw", path, writes ? "" : path,
             writes ? "2M" : ".copy");
    status = system(line);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void qemu_img_respects_our_lock(void **state) {
    const char *path = fresh("judge.raw", MIB);
    struct block *b;

    if (qemu_img(false, path) == 77) {
        print_message("# qemu-img (package qemu-utils) is missing\n");
        skip();
    }
    b = image_open(loop, path, false);
    assert_int_not_equal(qemu_img(false, path), 0);
    assert_int_not_equal(qemu_img(true, path), 0);
    block_close(b);
    b = image_open(loop, path, true);
    assert_int_equal(qemu_img(false, path), 0);
    assert_int_not_equal(qemu_img(true, path), 0);
    block_close(b);
    assert_int_equal(qemu_img(true, path), 0);
}

/* ------------------------------------------------------------------ a host without io_uring */

/* As a container's filter does it. */
static bool refuse_io_uring(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static bool works_without_io_uring(const char *path) {
    struct block_options o = {.path = path, .engine = BLOCK_ENGINE_URING};
    struct error err = {0};
    uint8_t out[1024], in[1024];
    struct block *b;

    if (!refuse_io_uring() || block_open(loop, &o, &err) || err.code != -EPERM ||
        !strstr(err.text, "aio=auto"))
        return false;
    o.engine = BLOCK_ENGINE_AUTO;
    b = block_open(loop, &o, NULL);
    memset(out, 0x2d, sizeof(out));
    return b && do_request(loop, b, BLOCK_WRITE, 512, out, sizeof(out)) == 0 &&
           do_request(loop, b, BLOCK_READ, 512, in, sizeof(in)) == 0 &&
           !memcmp(in, out, sizeof(in));
}

static void threads_do_the_work_where_io_uring_is_refused(void **state) {
    assert_int_equal(in_child(works_without_io_uring, fresh("refused.raw", MIB)), 0);
}

/* ------------------------------------------------------------------ failures */

static struct block *open_faulty(const char *path) {
    struct block_options o = {.path = path, .ops = &fault_block_ops};
    struct error err = {0};
    struct block *b = block_open(loop, &o, &err);

    assert_non_null(b);
    return b;
}

static unsigned sentences;
static struct error last_sentence;

static void count_sentence(void *opaque, const struct error *e) {
    assert_ptr_equal(opaque, &sentences);
    sentences++;
    last_sentence = *e;
}

static void a_failure_reaches_the_request_each_time_and_the_user_once(void **state) {
    const char *path = fresh("fault.raw", MIB);
    struct block *b = open_faulty(path);
    uint8_t s[512] = {0};

    sentences = 0;
    block_set_error_fn(b, count_sentence, &sentences);
    fault_inject(BLOCK_WRITE, 1, 3, -ENOSPC);
    assert_int_equal(do_request(loop, b, BLOCK_WRITE, 0, s, 512), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(do_request(loop, b, BLOCK_WRITE, 0, s, 512), -ENOSPC);
    assert_int_equal(do_request(loop, b, BLOCK_WRITE, 0, s, 512), 0);
    assert_int_equal(sentences, 1);
    assert_int_equal(last_sentence.code, -ENOSPC);
    assert_non_null(strstr(last_sentence.text, path));
    assert_non_null(strstr(last_sentence.text, "make room"));
    fault_inject(BLOCK_READ, 0, 2, -EIO);
    assert_int_equal(do_request(loop, b, BLOCK_READ, 0, s, 512), -EIO);
    assert_int_equal(do_request(loop, b, BLOCK_READ, 0, s, 512), -EIO);
    assert_int_equal(do_request(loop, b, BLOCK_READ, 0, s, 512), 0);
    assert_int_equal(sentences, 2);
    assert_int_equal(do_request(loop, b, BLOCK_READ, MIB, s, 512),
                     -EINVAL); /* the guest's mistake */
    assert_int_equal(sentences, 2);
    block_close(b);
}

static bool write_beyond_the_limit_fails(const char *path) {
    struct rlimit limit = {MIB, MIB};
    static uint8_t data[64 * KIB];
    struct block *b = image_open(loop, path, false);
    int past, across, before;

    if (setrlimit(RLIMIT_FSIZE, &limit) < 0)
        return false;
    past = do_request(loop, b, BLOCK_WRITE, MIB, data, sizeof(data));
    across = do_request(loop, b, BLOCK_WRITE, MIB - 512, data, 1024);
    before = do_request(loop, b, BLOCK_WRITE, MIB - 512, data, 512);
    return past == -EFBIG && across == -EFBIG && before == 0;
}

static void a_write_that_the_host_cuts_short_fails_with_the_hosts_reason(void **state) {
    assert_int_equal(in_child(write_beyond_the_limit_fails, fresh("limit.raw", 2 * MIB)), 0);
}

static unsigned pauses;

static void note_pause(void *opaque, const struct error *e) { pauses++; }

/* A writer that keeps what there was no room for, as a device does. */
struct writer {
    struct block_request req[32];
    struct iovec iov[32];
    bool kept[32];
    unsigned left;
    uint8_t data[32][64 * KIB];
};

static void written_or_kept(struct block_request *req, int result) {
    struct writer *w = req->opaque;
    unsigned i = (unsigned)(req - w->req);

    if (result < 0 && !req->keep)
        _exit(3);
    w->kept[i] = req->keep;
    w->left--;
}

static bool all_is_there(struct block *b, const struct writer *w) {
    static uint8_t in[64 * KIB];

    for (unsigned i = 0; i < 32; i++)
        if (do_request(loop, b, BLOCK_READ, i * sizeof(in), in, sizeof(in)) != 0 ||
            memcmp(in, w->data[i], sizeof(in)) != 0)
            return false;
    return true;
}

/* 2 MiB onto a filesystem of 3 MiB, of which something else has 2. */
static bool survives_a_full_disk(const char *folder) {
    static struct writer w;
    char path[600], ballast[600];
    struct block *b;
    unsigned kept = 0;
    int fd;

    snprintf(path, sizeof(path), "%s/disk.raw", folder);
    snprintf(ballast, sizeof(ballast), "%s/ballast", folder);
    image_make(path, 2 * MIB);
    fd = open(ballast, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || posix_fallocate(fd, 0, 2 * MIB) != 0)
        return false;
    close(fd);
    b = image_open(loop, path, false);
    block_set_pause_fn(b, note_pause, NULL);
    pauses = 0;
    w.left = 32;
    for (unsigned i = 0; i < 32; i++) {
        memset(w.data[i], (int)(i + 1), sizeof(w.data[i]));
        w.iov[i] = (struct iovec){w.data[i], sizeof(w.data[i])};
        w.req[i] = (struct block_request){.op = BLOCK_WRITE,
                                          .offset = i * sizeof(w.data[i]),
                                          .length = sizeof(w.data[i]),
                                          .iov = &w.iov[i],
                                          .iov_count = 1,
                                          .done = written_or_kept,
                                          .opaque = &w};
        block_submit(b, &w.req[i]);
    }
    block_drain(b);
    for (unsigned i = 0; i < 32; i++)
        kept += w.kept[i];
    if (w.left || pauses != 1 || !kept || kept == 32 || unlink(ballast) < 0)
        return false;
    block_resume(b);
    for (unsigned i = 0; i < 32; i++)
        if (w.kept[i]) {
            w.left++;
            block_submit(b, &w.req[i]);
        }
    block_drain(b);
    return pauses == 1 && all_is_there(b, &w);
}

static bool survives_on_a_filesystem_of_its_own(const char *folder) {
    if (unshare(geteuid() ? CLONE_NEWUSER | CLONE_NEWNS : CLONE_NEWNS) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", folder, "tmpfs", 0, "size=3m") < 0)
        _exit(77);
    return survives_a_full_disk(folder);
}

static void a_full_filesystem_costs_no_write(void **state) {
    int status;

    assert_int_equal(mkdir(image_path("full"), 0755), 0);
    status = in_child(survives_on_a_filesystem_of_its_own, image_path("full"));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("# no right to mount a filesystem\n");
        skip();
    }
    assert_int_equal(status, 0);
}

/* The descriptor by which this process has the file open. */
static int find_fd(const char *path) {
    struct stat want, st;

    stat(path, &want);
    for (int fd = 3; fd < 1000; fd++)
        if (fstat(fd, &st) == 0 && st.st_ino == want.st_ino && st.st_dev == want.st_dev)
            return fd;
    return -1;
}

static void after_a_failed_flush_no_flush_claims_success(void **state) {
    const char *path = fresh("flush.raw", MIB);
    struct block *b = image_open(loop, path, false);
    int fd = find_fd(path), kept = dup(fd), other[2];

    assert_true(fd > 0);
    assert_int_equal(pipe(other), 0);
    assert_int_equal(do_request(loop, b, BLOCK_FLUSH, 0, NULL, 0), 0);
    dup2(other[0], fd); /* a pipe cannot be synced */
    assert_int_equal(do_request(loop, b, BLOCK_FLUSH, 0, NULL, 0), -EINVAL);
    dup2(kept, fd);
    assert_int_equal(do_request(loop, b, BLOCK_FLUSH, 0, NULL, 0), -EINVAL);
    close(kept);
    close(other[0]);
    close(other[1]);
    block_close(b);
}

static void a_flush_of_an_unsafe_disk_does_nothing(void **state) {
    const char *path = fresh("unsafe.raw", MIB);
    struct block_options o = {.path = path, .cache = BLOCK_CACHE_UNSAFE};
    struct block *b = block_open(loop, &o, NULL);
    int fd = find_fd(path), other[2];

    assert_true(fd > 0);
    assert_int_equal(pipe(other), 0);
    dup2(other[0], fd); /* a pipe cannot be synced */
    assert_int_equal(do_request(loop, b, BLOCK_FLUSH, 0, NULL, 0), 0);
    close(other[0]);
    close(other[1]);
    block_close(b);
}

/* ------------------------------------------------------------------ engine */

static unsigned batches;

static void count_batch(void *opaque) { batches++; }

static void refused(struct block_request *req, int result) {
    struct random_io *io = req->opaque;

    assert_int_equal(result, -EINVAL);
    (*io->left)--;
}

static void many_completions_make_one_batch(void **state) {
    enum { COUNT = 20 };
    struct block *b = image_open(loop, fresh("batch.raw", MIB), false);
    struct block_request req[COUNT];
    unsigned left = COUNT;
    struct random_io io = {.left = &left};

    batches = 0;
    block_set_batch_fn(b, count_batch, NULL);
    for (int i = 0; i < COUNT; i++) { /* refused, thus finished before the loop runs */
        req[i] = (struct block_request){
            .op = BLOCK_DISCARD, .offset = MIB, .length = 512, .done = refused, .opaque = &io};
        block_submit(b, &req[i]);
    }
    assert_int_equal(left, COUNT);
    assert_int_equal(batches, 0);
    assert_true(loop_step(loop, 1000));
    assert_int_equal(left, 0);
    assert_int_equal(batches, 1);
    block_close(b);
}

static void requests_that_wait_do_not_stop_others(void **state) {
    struct block *b = open_faulty(fresh("hold.raw", MIB));
    uint8_t data[512];
    struct iovec iov = {data, 512};
    unsigned left = 1;
    struct random_io io = {.left = &left};
    struct block_request slow = {.op = BLOCK_READ,
                                 .length = 512,
                                 .iov = &iov,
                                 .iov_count = 1,
                                 .done = random_done,
                                 .opaque = &io};

    fault_hold(true);
    block_submit(b, &slow);
    fault_hold(false);
    assert_int_equal(do_request(loop, b, BLOCK_READ, 512, data, 512), 0);
    assert_int_equal(left, 1);
    assert_int_equal(fault_held(), 1);
    fault_release();
    block_drain(b);
    assert_int_equal(left, 0);
    block_close(b);
}

static void what_is_plugged_goes_out_when_the_plug_is_drawn(void **state) {
    enum { COUNT = 300 }; /* more than the ring has room for */
    struct block *b = image_open(loop, fresh("plug.raw", MIB), false);
    static uint8_t data[COUNT][512] __attribute__((aligned(4096)));
    struct block_request req[COUNT];
    struct iovec iov[COUNT];
    unsigned left = COUNT;
    struct random_io io = {.left = &left};

    block_plug(b);
    block_plug(b);
    for (unsigned i = 0; i < COUNT; i++) {
        memset(data[i], (int)(i + 1), 512);
        iov[i] = (struct iovec){data[i], 512};
        req[i] = (struct block_request){.op = BLOCK_WRITE,
                                        .offset = i * 512ull,
                                        .length = 512,
                                        .iov = &iov[i],
                                        .iov_count = 1,
                                        .done = random_done,
                                        .opaque = &io};
        block_submit(b, &req[i]);
    }
    block_unplug(b);
    block_unplug(b);
    for (int i = 0; i < 2000 && left; i++)
        loop_step(loop, 10);
    assert_int_equal(left, 0);
    for (unsigned i = 0; i < COUNT; i += 23) {
        uint8_t want[512], in[512];

        memset(want, (int)(i + 1), 512);
        assert_int_equal(do_request(loop, b, BLOCK_READ, i * 512ull, in, 512), 0);
        assert_memory_equal(in, want, 512);
    }
    block_close(b);
}

struct batch { /* of one thread */
    struct block *b;
    struct block_request req[64];
    struct iovec iov[64];
    unsigned left;
    struct random_io io;
    uint8_t data[64][4096] __attribute__((aligned(4096)));
};

static void *submit_and_end(void *opaque) {
    struct batch *t = opaque;

    block_plug(t->b);
    for (unsigned i = 0; i < 64; i++)
        block_submit(t->b, &t->req[i]);
    block_unplug(t->b);
    return NULL;
}

static void requests_whose_thread_has_ended_are_done_all_the_same(void **state) {
    static struct batch t;

    memset(&t, 0, sizeof(t));
    t.b = image_open(loop, fresh("thread.raw", MIB), false);
    t.io.left = &t.left;
    for (unsigned round = 0; round < 20; round++) {
        pthread_t thread;

        for (unsigned i = 0; i < 64; i++) {
            memset(t.data[i], (int)(round + i), 4096);
            t.iov[i] = (struct iovec){t.data[i], 4096};
            t.req[i] = (struct block_request){.op = BLOCK_WRITE,
                                              .offset = i * 4096ull,
                                              .length = 4096,
                                              .iov = &t.iov[i],
                                              .iov_count = 1,
                                              .done = random_done,
                                              .opaque = &t.io};
        }
        t.left = 64;
        assert_int_equal(pthread_create(&thread, NULL, submit_and_end, &t), 0);
        pthread_join(thread, NULL);
        block_drain(t.b);
        assert_int_equal(t.left, 0);
        for (unsigned i = 0; i < 64; i += 9) {
            uint8_t in[4096];

            assert_int_equal(do_request(loop, t.b, BLOCK_READ, i * 4096ull, in, 4096), 0);
            assert_memory_equal(in, t.data[i], 4096);
        }
    }
    block_close(t.b);
}

struct followers {
    struct block *b;
    struct block_request req;
    unsigned left;
};

static void submit_next(struct block_request *req, int result) {
    struct followers *c = req->opaque;

    assert_int_equal(result, 0);
    if (--c->left)
        block_submit(c->b, &c->req);
}

static void drain_waits_for_requests_that_callbacks_submit(void **state) {
    struct followers c = {.b = image_open(loop, fresh("chain.raw", MIB), false), .left = 50};

    c.req = (struct block_request){.op = BLOCK_FLUSH, .done = submit_next, .opaque = &c};
    block_submit(c.b, &c.req);
    block_drain(c.b);
    assert_int_equal(c.left, 0);
    c.left = 3;
    block_submit(c.b, &c.req);
    block_close(c.b); /* drains by itself */
    assert_int_equal(c.left, 0);
}

static void drain_in_callback(struct block_request *req, int result) {
    struct followers *c = req->opaque;

    c->left--;
    block_drain(c->b);
    assert_int_equal(c->left, 0);
}

static void a_callback_may_drain(void **state) {
    struct followers c = {.b = image_open(loop, fresh("nested.raw", MIB), false), .left = 3};
    struct block_request req[3];

    for (int i = 0; i < 3; i++) {
        req[i] = (struct block_request){.op = BLOCK_FLUSH, .done = drain_in_callback, .opaque = &c};
        block_submit(c.b, &req[i]);
    }
    for (int i = 0; i < 2000 && c.left; i++)
        loop_step(loop, 10);
    assert_int_equal(c.left, 0);
    block_close(c.b);
}

static void what_is_done_at_once_is_right(void **state) {
    struct block *b = image_open(loop, fresh("try.raw", MIB), false);
    static uint8_t out[64 * KIB], in[64 * KIB];
    struct iovec iov = {in, sizeof(in)};
    struct block_request req = {
        .op = BLOCK_READ, .length = sizeof(in), .iov = &iov, .iov_count = 1};
    int result = 1;

    memset(out, 0x3c, sizeof(out));
    assert_int_equal(do_request(loop, b, BLOCK_WRITE, 0, out, sizeof(out)), 0);
    if (!block_try(b, &req, &result)) {
        block_close(b);
        print_message("this filesystem does not say what is cached\n");
        skip();
    }
    assert_int_equal(result, 0);
    assert_memory_equal(in, out, sizeof(in));
    req.op = BLOCK_FLUSH;
    assert_false(block_try(b, &req, &result));
    block_close(b);
}

static void whole_pages_are_written_at_once_if_nothing_else_is_in_flight(void **state) {
    struct block *b = image_open(loop, fresh("eager.raw", MIB), false);
    static uint8_t data[8192], in[8192];
    struct iovec iov = {data, sizeof(data)};
    struct block_request req = {
        .op = BLOCK_WRITE, .offset = 4096, .length = sizeof(data), .iov = &iov, .iov_count = 1};
    unsigned left = 1;
    struct random_io io = {.left = &left};
    struct block_request flush = {.op = BLOCK_FLUSH, .done = random_done, .opaque = &io};
    int result = 1;

    memset(data, 0x6b, sizeof(data));
    block_try(b, &req, &result); /* finds out whether the filesystem says by itself what waits */
    memset(data, 0x6c, sizeof(data));
    if (!block_try(b, &req, &result)) {
        block_close(b);
        print_message("# this filesystem is not one of those that take writes at once\n");
        skip();
    }
    assert_int_equal(result, 0);
    assert_int_equal(do_request(loop, b, BLOCK_READ, 4096, in, sizeof(in)), 0);
    assert_memory_equal(in, data, sizeof(in));
    block_submit(b, &flush);
    result = 1;
    if (block_try(b, &req, &result)) /* only where the filesystem promises not to wait */
        assert_int_equal(result, 0);
    block_drain(b);
    assert_int_equal(left, 0);
    block_close(b);
}

/* ------------------------------------------------------------------ modes */

static const struct mode {
    const char *name;
    enum block_engine engine;
    enum block_cache cache;
} modes[] = {
    {"io_uring, writeback", BLOCK_ENGINE_URING, BLOCK_CACHE_WRITEBACK},
    {"threads, writeback", BLOCK_ENGINE_THREADS, BLOCK_CACHE_WRITEBACK},
    {"io_uring, none", BLOCK_ENGINE_URING, BLOCK_CACHE_NONE},
    {"threads, none", BLOCK_ENGINE_THREADS, BLOCK_CACHE_NONE},
    {"io_uring, unsafe", BLOCK_ENGINE_URING, BLOCK_CACHE_UNSAFE},
};

/* False with a word if this host cannot do it. */
static bool mode_works(const struct mode *m) {
    struct error err = {0};
    struct block *b;

    make(NULL);
    image_options = (struct block_options){
        .path = fresh("mode.raw", MIB), .engine = m->engine, .cache = m->cache};
    b = block_open(loop, &image_options, &err);
    if (!b)
        print_message("# not here: %s\n", err.text);
    block_close(b);
    unmake(NULL);
    return b != NULL;
}

int main(void) {
    const struct CMUnitTest each_mode[] = {
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(random_io_agrees_with_a_model),
        cmocka_unit_test(random_io_on_a_qcow2_image_agrees_with_a_model),
        cmocka_unit_test(a_request_may_have_more_buffers_than_a_system_call_takes),
        cmocka_unit_test(a_discarded_range_gives_its_room_back_or_is_left_alone),
        cmocka_unit_test(a_partial_last_sector_reads_as_zeroes_and_can_be_written),
        cmocka_unit_test(a_file_that_shrinks_reads_as_zeroes_behind_its_end),
        cmocka_unit_test(a_write_that_the_host_cuts_short_fails_with_the_hosts_reason),
        cmocka_unit_test(a_full_filesystem_costs_no_write),
        cmocka_unit_test(many_completions_make_one_batch),
        cmocka_unit_test(what_is_plugged_goes_out_when_the_plug_is_drawn),
        cmocka_unit_test(requests_that_wait_do_not_stop_others),
        cmocka_unit_test(drain_waits_for_requests_that_callbacks_submit),
        cmocka_unit_test(a_callback_may_drain),
        cmocka_unit_test(requests_whose_thread_has_ended_are_done_all_the_same),
    };
    const struct CMUnitTest once[] = {
        cmocka_unit_test(requests_outside_the_disk_or_off_its_sectors_are_refused),
        cmocka_unit_test(a_transfer_of_two_gib_or_more_is_refused),
        cmocka_unit_test(a_readonly_disk_takes_no_writes),
        cmocka_unit_test(what_is_no_disk_image_is_refused_with_a_remedy),
        cmocka_unit_test(a_file_that_may_only_be_read_opens_readonly),
        cmocka_unit_test(an_image_in_use_is_refused_with_the_name_of_its_user),
        cmocka_unit_test(readers_share_an_image_but_not_with_a_writer),
        cmocka_unit_test(the_same_image_twice_in_one_machine_is_refused),
        cmocka_unit_test(our_lock_lies_where_others_look),
        cmocka_unit_test(qemu_img_respects_our_lock),
        cmocka_unit_test(threads_do_the_work_where_io_uring_is_refused),
        cmocka_unit_test(a_failure_reaches_the_request_each_time_and_the_user_once),
        cmocka_unit_test(after_a_failed_flush_no_flush_claims_success),
        cmocka_unit_test(what_is_done_at_once_is_right),
        cmocka_unit_test(whole_pages_are_written_at_once_if_nothing_else_is_in_flight),
        cmocka_unit_test(what_is_discarded_stays_allocated_if_asked_for),
        cmocka_unit_test(a_flush_of_an_unsafe_disk_does_nothing),
    };
    int failed = 0;

    for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
        if (mode_works(&modes[i]))
            failed += cmocka_run_group_tests_name(modes[i].name, each_mode, make, unmake);
    image_options = (struct block_options){0};
    failed += cmocka_run_group_tests_name("all modes", once, make, unmake);
    return failed;
}
