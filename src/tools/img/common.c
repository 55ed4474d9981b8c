/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sizes, settings, opening, progress and copying for the commands of viv-img. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tools/img/img.h"

enum { COPY = 1 << 20, GRAIN = 4096 };

bool img_parse_size(const char *s, uint64_t *ret) {
    static const char units[] = "bkMGTPE";
    char *end, *unit;
    double value;
    uint64_t whole;

    if (*s < '0' || *s > '9')
        return false;
    errno = 0;
    whole = strtoull(s, &end, 10);
    value = *end == '.' ? strtod(s, &end) : (double)whole;
    if (errno)
        return false;
    unit = *end ? strchr(units, *end == 'K' || *end == 'B' ? *end | 32 : *end) : NULL;
    if (*end && (!unit || end[1]))
        return false;
    for (long i = unit ? unit - units : 0; i > 0; i--) {
        value *= 1024;
        if (__builtin_mul_overflow(whole, 1024, &whole))
            return false;
    }
    if (value >= (double)INT64_MAX)
        return false;
    *ret = strchr(s, '.') ? (uint64_t)value : whole;
    return true;
}

const char *img_show_size(uint64_t bytes, char out[32]) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = (double)bytes;
    unsigned i = 0;

    for (; v >= 1000 && i < 6; i++)
        v /= 1024;
    snprintf(out, 32, "%.3g %s", v, units[i]);
    return out;
}

bool img_setting(const char *settings, const char *name, char *out, size_t size) {
    size_t n = strlen(name);
    const char *s = settings;

    while (s && *s) {
        const char *end = strchrnul(s, ',');

        if (!strncmp(s, name, n) && s[n] == '=') {
            snprintf(out, size, "%.*s", (int)(end - s - n - 1), s + n + 1);
            return true;
        }
        s = *end ? end + 1 : end;
    }
    return false;
}

/* ------------------------------------------------------------------ open */

static const char *look(const char *path) {
    static const struct {
        const char *format, *bytes;
        unsigned at, length;
    } magic[] = {
        {"vmdk", "KDMV", 0, 4},         {"vmdk", "COWD", 0, 4},
        {"vmdk", "# Disk Desc", 0, 11}, {"vhdx", "vhdxfile", 0, 8},
        {"vpc", "conectix", 0, 8},      {"vdi", "\x7f\x10\xda\xbe", 64, 4},
        {"luks", "LUKS\xba\xbe", 0, 6}, {"qed", "QED\0", 0, 4},
        {"ova", "ustar", 257, 5},
    };
    uint8_t start[512] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t n = fd >= 0 ? pread(fd, start, sizeof(start), 0) : -1;
    off_t end = fd >= 0 ? lseek(fd, 0, SEEK_END) : -1;
    const char *found = NULL;

    for (unsigned i = 0; n > 0 && !found && i < sizeof(magic) / sizeof(magic[0]); i++)
        if (!memcmp(start + magic[i].at, magic[i].bytes, magic[i].length))
            found = magic[i].format;
    if (!found && end > 512 && pread(fd, start, 8, end - 512) == 8 && !memcmp(start, "conectix", 8))
        found = "vpc"; /* a fixed one has its sign at the end only */
    if (fd >= 0)
        close(fd);
    return found;
}

const char *img_foreign(const char *path, const char *format) {
    if (format)
        return strcmp(format, "raw") != 0 && strcmp(format, "qcow2") != 0 ? format : NULL;
    return look(path);
}

int img_hand_over(const struct img_args *a, const char *why, struct error *err) {
    execvp("qemu-img", a->argv);
    return error_set(err, -errno,
                     "%s is read and written by qemu-img, which is not installed here: install the "
                     "package qemu-utils",
                     why);
}

struct chain *img_open(const struct img_args *a, const char *path, const char *format,
                       enum img_mode mode, struct error *err) {
    struct chain_options o = {
        .path = path, .format = format, .readonly = mode == IMG_READ, .no_lock = a->share};

    return chain_open(&o, err);
}

/* ------------------------------------------------------------------ progress */

void img_progress(const struct img_args *a, uint64_t done, uint64_t total) {
    if (!a->progress || a->quiet)
        return;
    printf("    (%.2f/100%%)\r", total ? 100.0 * (double)done / (double)total : 100.0);
    fflush(stdout);
}

void img_progress_end(const struct img_args *a) {
    if (a->progress && !a->quiet)
        printf("    (100.00/100%%)\n");
}

/* ------------------------------------------------------------------ copy */

static int put(struct chain *to, uint8_t *data, uint64_t offset, uint64_t length) {
    struct iovec v = {data, length};
    struct span s = {&v, 1, 0};

    return chain_write(to, &s, offset, length);
}

/* Writes the grains that are not zero, as runs. */
static int put_sparse(struct chain *to, uint8_t *data, uint64_t offset, uint64_t length,
                      bool fresh) {
    uint64_t at = 0;
    int r = 0;

    while (r == 0 && at < length) {
        uint64_t from = at, grain = length - at < GRAIN ? length - at : GRAIN;
        bool zero = bytes_are_zero(data + at, grain);

        while (at < length) {
            grain = length - at < GRAIN ? length - at : GRAIN;
            if (bytes_are_zero(data + at, grain) != zero)
                break;
            at += grain;
        }
        if (!zero)
            r = put(to, data + from, offset + from, at - from);
        else if (!fresh)
            r = chain_zero(to, offset + from, at - from, true);
    }
    return r;
}

int img_copy(struct chain *from, struct chain *to, uint64_t offset, uint64_t length, bool fresh) {
    uint8_t *data = malloc(COPY);
    int r = data ? 0 : -ENOMEM;

    while (r == 0 && length) {
        struct iovec v = {data, 0};
        struct span s = {&v, 1, 0};
        struct chain_run run;

        r = chain_map(from, offset, length, &run);
        if (r == 0 && !run.data) {
            r = fresh ? 0 : chain_zero(to, offset, run.length, true);
        } else if (r == 0) {
            run.length = run.length < COPY ? run.length : COPY;
            v.iov_len = run.length;
            r = chain_read(from, &s, offset, run.length);
            if (r == 0)
                r = put_sparse(to, data, offset, run.length, fresh);
        }
        offset += run.length;
        length -= run.length;
    }
    free(data);
    return r;
}
