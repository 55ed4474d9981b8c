/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sizes, settings, opening, progress and copying for the commands of viv-img. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/foreign.h"
#include "tools/img/img.h"

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

const char *img_foreign(const char *path, const char *format) {
    if (format)
        return strcmp(format, "raw") != 0 && strcmp(format, "qcow2") != 0 ? format : NULL;
    return foreign_format(path);
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
