/* SPDX-License-Identifier: GPL-2.0-or-later */
/* viv-img create, resize. */
#include "tools/img/create.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int bad_setting(const char *name, const char *value, struct error *err) {
    return error_set(err, -EINVAL, "-o %s=%s: the value is not possible; see viv-img create --help",
                     name, value);
}

/* Every name in -o must be one that we know. */
static int check_names(const char *settings, bool qcow2, struct error *err) {
    static const char *const known[] = {"size",          "preallocation",    "backing_file",
                                        "backing_fmt",   "cluster_size",     "compat",
                                        "refcount_bits", "compression_type", "lazy_refcounts"};
    const char *s = settings;

    while (s && *s) {
        size_t n = strcspn(s, "=,"), i = 0;

        while (i < sizeof(known) / sizeof(known[0]) &&
               (strlen(known[i]) != n || strncmp(known[i], s, n) != 0))
            i++;
        if (i == sizeof(known) / sizeof(known[0]) || (!qcow2 && i > 1))
            return error_set(err, -EINVAL, "-o %.*s: %s images have no such setting", (int)n, s,
                             qcow2 ? "qcow2" : "raw");
        s = strchrnul(s, ',');
        s += *s == ',';
    }
    return 0;
}

static int parse_qcow2(const char *o, struct qcow2_create *c, struct error *err) {
    char v[64];
    uint64_t n;

    if (img_setting(o, "cluster_size", v, sizeof(v))) {
        if (!img_parse_size(v, &n) || n < 512 || n > 2 << 20 || n & (n - 1))
            return bad_setting("cluster_size", v, err);
        c->cluster_bits = (unsigned)__builtin_ctzll(n);
    }
    if (img_setting(o, "refcount_bits", v, sizeof(v))) {
        if (!img_parse_size(v, &n) || !n || n > 64 || n & (n - 1))
            return bad_setting("refcount_bits", v, err);
        c->refcount_bits = (unsigned)n;
    }
    if (img_setting(o, "compat", v, sizeof(v))) {
        c->version = !strcmp(v, "0.10") || !strcmp(v, "v2") ? 2 : 3;
        if (c->version == 3 && strcmp(v, "1.1") != 0 && strcmp(v, "v3") != 0)
            return bad_setting("compat", v, err);
    }
    if (img_setting(o, "compression_type", v, sizeof(v))) {
        c->zstd = !strcmp(v, "zstd");
        if (!c->zstd && strcmp(v, "zlib") != 0)
            return bad_setting("compression_type", v, err);
    }
    if (img_setting(o, "lazy_refcounts", v, sizeof(v)))
        c->lazy_refcounts = !strcmp(v, "on");
    if (img_setting(o, "preallocation", v, sizeof(v)) && strcmp(v, "off") != 0)
        return error_set(err, -ENOTSUP,
                         "-o preallocation=%s: qcow2 images are made without their "
                         "clusters; leave it out",
                         v);
    return 0;
}

static int make_raw(const char *path, uint64_t size, struct error *err) {
    struct bytefile_options o = {.path = path, .create = true, .lock = BYTEFILE_LOCK_IMAGE};
    struct bytefile *f = bytefile_open(&o, err);
    int r = f ? 0 : -EINVAL;

    if (f && f->grows && (r = f->ops->truncate(f, size)) < 0)
        error_set(err, r, "disk image '%s' cannot be made as large: %s", path, strerror(-r));
    bytefile_close(f);
    return r;
}

static int make_qcow2(const char *path, const struct qcow2_create *c, struct error *err) {
    struct bytefile_options o = {.path = path, .create = true, .lock = BYTEFILE_LOCK_IMAGE};
    struct bytefile *f = bytefile_open(&o, err);
    int r = f ? qcow2_create(f, path, c, err) : -EINVAL;

    bytefile_close(f);
    return r;
}

int create_image(const char *path, const char *format, uint64_t size, const char *settings,
                 const char *backing, const char *backing_format, struct error *err) {
    struct qcow2_create c = {.size = size, .backing = backing, .backing_format = backing_format};
    bool qcow2 = !strcmp(format, "qcow2");
    int r = check_names(settings, qcow2, err);

    if (r < 0)
        return r;
    if (!qcow2 && backing)
        return error_set(err, -EINVAL, "a raw image has no backing file; use -f qcow2");
    if (!qcow2)
        return make_raw(path, size, err);
    r = parse_qcow2(settings, &c, err);
    return r < 0 ? r : make_qcow2(path, &c, err);
}

/* The size of the backing file, which must be there and readable (not with -u). */
static int look_at_backing(const struct img_args *a, const char *backing, const char *format,
                           uint64_t *size, struct error *err) {
    struct chain_options o = {.format = format, .readonly = true};
    struct chain *c;
    char *path;

    if (!format)
        return error_set(err, -EINVAL,
                         "-b %s: say its format, too, since it must not be guessed: -F raw or -F "
                         "qcow2",
                         backing);
    path = chain_backing_path(a->word[0], backing);
    o.path = path;
    c = path ? chain_open(&o, err) : NULL;
    free(path);
    if (!c)
        return -EINVAL;
    if (!*size)
        *size = c->size;
    chain_close(c);
    return 0;
}

int img_create(const struct img_args *a, struct error *err) {
    char backing[1024], backing_format[32], size_text[64];
    const char *b = a->backing, *F = a->other_format, *f = a->format ? a->format : "raw";
    uint64_t size = 0;

    if (img_foreign(a->word[0], f))
        return img_hand_over(a, f, err) < 0 ? IMG_EXIT_FAILED : 0;
    if (!b && img_setting(a->settings, "backing_file", backing, sizeof(backing)))
        b = backing;
    if (!F && img_setting(a->settings, "backing_fmt", backing_format, sizeof(backing_format)))
        F = backing_format;
    if (a->words > 1 || img_setting(a->settings, "size", size_text, sizeof(size_text))) {
        if (!img_parse_size(a->words > 1 ? a->word[1] : size_text, &size)) {
            error_set(err, -EINVAL, "'%s' is no size: write it as 10G or 512M",
                      a->words > 1 ? a->word[1] : size_text);
            return IMG_EXIT_FAILED;
        }
    } else if (!b) {
        error_set(err, -EINVAL, "how large is '%s' to be? Write it behind the name, as in 10G",
                  a->word[0]);
        return IMG_EXIT_FAILED;
    }
    if (b && !a->unsafe && look_at_backing(a, b, F, &size, err) < 0)
        return IMG_EXIT_FAILED;
    size = (size + 511) & ~511ull;
    if (create_image(a->word[0], f, size, a->settings, b, F, err) < 0)
        return IMG_EXIT_FAILED;
    if (!a->quiet)
        printf("Formatting '%s', fmt=%s size=%llu%s%s\n", a->word[0], f, (unsigned long long)size,
               b ? " backing_file=" : "", b ? b : "");
    return 0;
}

/* ------------------------------------------------------------------ resize */

int img_resize(const struct img_args *a, struct error *err) {
    const char *s = a->word[1];
    struct chain *c = img_open(a, a->word[0], a->format, IMG_WRITE, err);
    uint64_t size = 0, wanted;
    int r = c ? 0 : -EINVAL;

    if (r == 0 && !img_parse_size(s + (*s == '+' || *s == '-'), &size))
        r = error_set(err, -EINVAL, "'%s' is no size: write it as 10G, +1G or -512M", s);
    wanted = (size + 511) & ~511ull;
    if (r == 0 && *s == '+')
        wanted = c->size + wanted;
    else if (r == 0 && *s == '-')
        wanted = wanted > c->size ? 0 : c->size - wanted;
    if (r == 0 && (!wanted || wanted > INT64_MAX))
        r = error_set(err, -EINVAL, "'%s' leaves nothing of the disk", s);
    if (r == 0 && wanted < c->size && !a->shrink)
        r = error_set(err, -EINVAL,
                      "'%s' makes the disk smaller, which deletes what lies behind the new end; "
                      "say --shrink if that is meant",
                      s);
    if (r == 0)
        r = chain_resize(c, wanted, err);
    if (chain_close(c) < 0 && r == 0)
        r = error_set(err, -EIO, "disk image '%s' could not be closed", a->word[0]);
    if (r == 0 && !a->quiet)
        printf("Image resized.\n");
    return r < 0 ? IMG_EXIT_FAILED : 0;
}
