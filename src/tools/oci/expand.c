/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Zeros become holes, so that a file of nothing takes nothing, however often it was compressed. */
#include "tools/oci/expand.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/write.h"

enum { CHUNK = 64 * 1024 };

struct input {
    int fd;
    uint64_t at, end, begin;
    unsigned shown;
    bool progress;
    uint8_t data[CHUNK];
};

static bool is_zero(const uint8_t *p, size_t n) { return !*p && !memcmp(p, p + 1, n - 1); }

static la_ssize_t read_input(struct archive *a, void *opaque, const void **ret) {
    struct input *in = opaque;
    uint64_t left = in->end - in->at;
    ssize_t n = pread(in->fd, in->data, left < CHUNK ? left : CHUNK, (off_t)in->at);
    unsigned part;

    if (n < 0) {
        archive_set_error(a, errno, "cannot be read");
        return -1;
    }
    in->at += (uint64_t)n;
    part = (unsigned)((double)(in->at - in->begin) * 1000 / (double)(in->end - in->begin + 1));
    if (in->progress && part != in->shown) {
        printf("    (%u.%u/100%%)\r", part / 10, part % 10);
        fflush(stdout);
        in->shown = part;
    }
    *ret = in->data;
    return n;
}

static int copy(struct archive *a, int to, const char *from, const char *path, uint64_t most,
                struct error *err) {
    static uint8_t data[CHUNK];
    uint64_t total = 0;
    la_ssize_t n;

    while ((n = archive_read_data(a, data, CHUNK)) > 0) {
        total += (uint64_t)n;
        if (total > most)
            return error_set(err, -EFBIG, "'%s' becomes larger than %llu GiB when it is unpacked",
                             from, (unsigned long long)(most >> 30));
        if (is_zero(data, (size_t)n) ? lseek(to, n, SEEK_CUR) < 0
                                     : write_all(to, data, (size_t)n) < 0)
            return error_set(err, -errno, "'%s' cannot be written: %s", path, strerror(errno));
    }
    if (n < 0)
        return error_set(err, -EINVAL, "'%s' cannot be unpacked: %s", from,
                         archive_error_string(a));
    if (ftruncate(to, (off_t)total) < 0 || fsync(to) < 0)
        return error_set(err, -errno, "'%s' cannot be written: %s", path, strerror(errno));
    return 0;
}

static int expand_into(struct input *in, const char *from, const char *to, uint64_t most,
                       struct error *err) {
    struct archive *a = archive_read_new();
    int out = open(to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600), r = 0;
    struct archive_entry *e;

    archive_read_support_filter_gzip(a);
    archive_read_support_filter_zstd(a);
    archive_read_support_filter_xz(a);
    archive_read_support_filter_bzip2(a);
    archive_read_support_format_raw(a);
    if (out < 0)
        r = error_set(err, -errno, "'%s' cannot be made: %s", to, strerror(errno));
    else if (archive_read_open(a, in, NULL, read_input, NULL) != ARCHIVE_OK ||
             archive_read_next_header(a, &e) != ARCHIVE_OK || archive_filter_count(a) < 2)
        r = error_set(err, -EINVAL, "'%s' is not compressed in a way that is known (%s)", from,
                      archive_error_string(a) ? archive_error_string(a)
                                              : "gzip, zstd, xz and bzip2 are");
    else
        r = copy(a, out, from, to, most, err);
    archive_read_free(a);
    if (out >= 0)
        close(out);
    if (r < 0 && out >= 0)
        unlink(to);
    return r;
}

int expand(const char *from, uint64_t offset, uint64_t size, const char *to, uint64_t most,
           bool progress, struct error *err) {
    struct input *in = calloc(1, sizeof(*in));
    struct stat st;
    int r;

    if (!in)
        return error_set(err, -ENOMEM, "out of memory");
    in->fd = open(from, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    in->begin = in->at = offset;
    in->progress = progress;
    if (in->fd < 0 || fstat(in->fd, &st) < 0)
        r = error_set(err, -errno, "'%s' cannot be read: %s", from, strerror(errno));
    else if (!S_ISREG(st.st_mode) || offset > (uint64_t)st.st_size ||
             size > (uint64_t)st.st_size - offset)
        r = error_set(err, -EINVAL, "'%s' is no file, or too short", from);
    else {
        in->end = size ? offset + size : (uint64_t)st.st_size;
        r = expand_into(in, from, to, most, err);
    }
    if (in->fd >= 0)
        close(in->fd);
    free(in);
    return r;
}
