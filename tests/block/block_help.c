/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Image files and waiting requests for tests of disks. */
#include "block/block_help.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/test.h"

static char folder[128];

const char *image_path(const char *name) {
    static char path[512];
    const char *tmp = getenv("TMPDIR");

    if (!folder[0]) {
        snprintf(folder, sizeof(folder), "%s/viv-test-XXXXXX",
                 tmp && strlen(tmp) < 100 ? tmp : "/tmp");
        assert_non_null(mkdtemp(folder));
        chmod(folder, 0755); /* tests that give up their rights look in too */
    }
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

void image_make(const char *path, uint64_t size) {
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    close(fd);
}

void block_help_clean(void) {
    DIR *d = folder[0] ? opendir(folder) : NULL;
    struct dirent *e;

    while (d && (e = readdir(d)))
        if (e->d_name[0] != '.' && unlinkat(dirfd(d), e->d_name, 0) < 0)
            unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR);
    if (d)
        closedir(d);
    rmdir(folder);
    folder[0] = 0;
}

struct block_options image_options;

struct block *image_open(struct loop *loop, const char *path, bool readonly) {
    struct block_options o = image_options;
    struct error err = {0};
    struct block *b;

    o.path = path;
    o.readonly = readonly;
    b = block_open(loop, &o, &err);
    if (!b)
        fail_msg("%s", err.text);
    return b;
}

struct waiting {
    bool done;
    int result;
};

static void answer(struct block_request *req, int result) {
    struct waiting *w = req->opaque;

    assert_false(w->done);
    w->done = true;
    w->result = result;
}

int do_request(struct loop *loop, struct block *b, enum block_op op, uint64_t offset, void *data,
               uint64_t length) {
    struct iovec iov = {data, length};
    struct waiting w = {0};
    struct block_request req = {.op = op,
                                .offset = offset,
                                .length = length,
                                .iov = &iov,
                                .iov_count = data ? 1 : 0,
                                .done = answer,
                                .opaque = &w};

    block_submit(b, &req);
    assert_false(w.done); /* never from inside submit */
    for (int i = 0; i < 2000 && !w.done; i++)
        loop_step(loop, 10);
    assert_true(w.done);
    return w.result;
}
