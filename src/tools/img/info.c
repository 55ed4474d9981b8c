/* SPDX-License-Identifier: GPL-2.0-or-later */
/* viv-img info, check, map: in words, or in the JSON that qemu-img prints. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "block/qcow2_bitmap.h"
#include "tools/img/img.h"

enum { EXIT_CORRUPT = 2, EXIT_LEAKS = 3, EXIT_UNSUPPORTED = 63 };

static bool want_json(const struct img_args *a) { return a->output && !strcmp(a->output, "json"); }

static int print_json(json_t *j) {
    int r = json_dumpf(j, stdout, JSON_INDENT(4));

    putchar('\n');
    json_decref(j);
    return r < 0 ? IMG_EXIT_FAILED : 0;
}

static uint64_t used_bytes(const char *path) {
    struct stat st;

    return stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

/* ------------------------------------------------------------------ info */

static void add_bitmap(void *opaque, const struct qcow2_bitmap_info *b) {
    json_t *flags = json_array();

    if (b->inconsistent)
        json_array_append_new(flags, json_string("in-use"));
    if (b->enabled)
        json_array_append_new(flags, json_string("auto"));
    json_array_append_new(opaque, json_pack("{s:o, s:s, s:I}", "flags", flags, "name", b->name,
                                            "granularity", (json_int_t)b->granularity));
}

static void print_bitmap(void *opaque, const struct qcow2_bitmap_info *b) {
    printf("    bitmap: %s, granularity %llu, %s%s\n", b->name, (unsigned long long)b->granularity,
           b->enabled ? "enabled" : "disabled",
           b->inconsistent ? ", in use: of no value unless a program has the image open" : "");
}

static json_t *specific(struct qcow2 *image, const struct qcow2_info *q) {
    json_t *data =
        json_pack("{s:s, s:s, s:i}", "compat", q->version == 2 ? "0.10" : "1.1", "compression-type",
                  q->zstd ? "zstd" : "zlib", "refcount-bits", (int)q->refcount_bits);

    if (q->version >= 3) {
        json_object_set_new(data, "lazy-refcounts", json_boolean(q->lazy_refcounts));
        json_object_set_new(data, "corrupt", json_boolean(q->corrupt));
        json_object_set_new(data, "extended-l2", json_boolean(q->extended_l2));
        if (q->bitmaps) {
            json_object_set_new(data, "bitmaps", json_array());
            qcow2_bitmap_each(image, add_bitmap, json_object_get(data, "bitmaps"));
        }
    }
    return json_pack("{s:s, s:o}", "type", "qcow2", "data", data);
}

static json_t *info_json(const struct chain *c) {
    json_t *j =
        json_pack("{s:I, s:s, s:s, s:I}", "virtual-size", (json_int_t)c->size, "filename", c->path,
                  "format", chain_format(c), "actual-size", (json_int_t)used_bytes(c->path));
    struct qcow2_info q;
    char *full;

    if (!c->qcow2) {
        json_object_set_new(j, "dirty-flag", json_false());
        return j;
    }
    qcow2_info(c->qcow2, &q);
    json_object_set_new(j, "cluster-size", json_integer((json_int_t)q.cluster_size));
    json_object_set_new(j, "format-specific", specific(c->qcow2, &q));
    json_object_set_new(j, "dirty-flag", json_boolean(q.dirty));
    if (*q.backing && (full = chain_backing_path(c->path, q.backing))) {
        json_object_set_new(j, "backing-filename", json_string(q.backing));
        json_object_set_new(j, "full-backing-filename", json_string(full));
        if (*q.backing_format)
            json_object_set_new(j, "backing-filename-format", json_string(q.backing_format));
        free(full);
    }
    return j;
}

static void info_text(const struct chain *c) {
    char a[32], b[32];
    struct qcow2_info q;

    printf("image: %s\nfile format: %s\nvirtual size: %s (%llu bytes)\ndisk size: %s\n", c->path,
           chain_format(c), img_show_size(c->size, a), (unsigned long long)c->size,
           img_show_size(used_bytes(c->path), b));
    if (!c->qcow2)
        return;
    qcow2_info(c->qcow2, &q);
    printf("cluster_size: %llu\n", (unsigned long long)q.cluster_size);
    if (*q.backing)
        printf("backing file: %s\n", q.backing);
    if (*q.backing && *q.backing_format)
        printf("backing file format: %s\n", q.backing_format);
    if (q.snapshots)
        printf("internal snapshots: %llu\n", (unsigned long long)q.snapshots);
    if (q.dirty)
        printf("it was not closed: refcounts are repaired when it is written next\n");
    printf("Format specific information:\n    compat: %s\n    compression type: %s\n"
           "    lazy refcounts: %s\n    refcount bits: %u\n    corrupt: %s\n    extended l2: %s\n",
           q.version == 2 ? "0.10" : "1.1", q.zstd ? "zstd" : "zlib",
           q.lazy_refcounts ? "true" : "false", q.refcount_bits, q.corrupt ? "true" : "false",
           q.extended_l2 ? "true" : "false");
    qcow2_bitmap_each(c->qcow2, print_bitmap, NULL);
}

int img_info(const struct img_args *a, struct error *err) {
    struct chain_options o = {.path = a->word[0],
                              .format = a->format,
                              .readonly = true,
                              .no_backing = !a->chain,
                              .no_lock = a->share};
    struct chain *c;
    json_t *list;

    if (img_foreign(a->word[0], a->format))
        return img_hand_over(a, img_foreign(a->word[0], a->format), err) < 0 ? IMG_EXIT_FAILED : 0;
    c = chain_open(&o, err);
    if (!c)
        return IMG_EXIT_FAILED;
    list = json_array();
    for (const struct chain *i = c; i; i = i->backing) {
        if (want_json(a))
            json_array_append_new(list, info_json(i));
        else
            info_text(i);
        if (!want_json(a) && i->backing)
            putchar('\n');
    }
    if (!want_json(a))
        json_decref(list);
    else if (a->chain)
        print_json(list);
    else
        print_json(json_incref(json_array_get(list, 0))), json_decref(list);
    chain_close(c);
    return 0;
}

/* ------------------------------------------------------------------ check */

static void check_json(const char *path, const struct qcow2_check *r) {
    json_t *j = json_pack("{s:I, s:I, s:I, s:s, s:s}", "image-end-offset", (json_int_t)r->end,
                          "total-clusters", (json_int_t)r->total, "check-errors",
                          (json_int_t)r->errors, "filename", path, "format", "qcow2");
    const struct {
        const char *name;
        uint64_t value;
    } other[] = {
        {"allocated-clusters", r->allocated},
        {"fragmented-clusters", r->fragmented},
        {"compressed-clusters", r->compressed},
        {"corruptions", r->corruptions},
        {"leaks", r->leaks},
        {"corruptions-fixed", r->fixed_corruptions},
        {"leaks-fixed", r->fixed_leaks},
    };

    for (unsigned i = 0; i < sizeof(other) / sizeof(other[0]); i++)
        if (other[i].value)
            json_object_set_new(j, other[i].name, json_integer((json_int_t)other[i].value));
    print_json(j);
}

static void check_text(const struct qcow2_check *r) {
    if (r->fixed_corruptions || r->fixed_leaks)
        printf("%llu leaked clusters and %llu corruptions were repaired.\n",
               (unsigned long long)r->fixed_leaks, (unsigned long long)r->fixed_corruptions);
    if (r->corruptions)
        printf("\n%llu errors were found on the image.\nData may be corrupted, or further writes "
               "to the image may corrupt it.\n",
               (unsigned long long)r->corruptions);
    if (r->leaks)
        printf("\n%llu leaked clusters were found on the image.\nThis means waste of disk space, "
               "but no harm to data.\n",
               (unsigned long long)r->leaks);
    if (r->errors)
        printf("\n%llu places could not be checked.\n", (unsigned long long)r->errors);
    if (!r->corruptions && !r->leaks && !r->errors)
        printf("No errors were found on the image.\n");
    if (r->total)
        printf("%llu/%llu = %.2f%% allocated, %.2f%% fragmented, %.2f%% compressed clusters\n",
               (unsigned long long)r->allocated, (unsigned long long)r->total,
               100.0 * (double)r->allocated / (double)r->total,
               r->allocated ? 100.0 * (double)r->fragmented / (double)r->allocated : 0.0,
               r->allocated ? 100.0 * (double)r->compressed / (double)r->allocated : 0.0);
    printf("Image end offset: %llu\n", (unsigned long long)r->end);
}

static int check_code(const struct qcow2_check *r) {
    if (r->errors)
        return IMG_EXIT_FAILED;
    return r->corruptions ? EXIT_CORRUPT : r->leaks ? EXIT_LEAKS : 0;
}

int img_check(const struct img_args *a, struct error *err) {
    enum qcow2_repair repair = QCOW2_REPAIR_NONE;
    struct chain_options o = {.path = a->word[0],
                              .format = a->format,
                              .no_backing = true,
                              .no_repair = true,
                              .no_lock = a->share};
    struct qcow2_check found;
    struct chain *c;
    int code;

    if (a->repair && strcmp(a->repair, "leaks") != 0 && strcmp(a->repair, "all") != 0) {
        error_set(err, -EINVAL, "-r %s: say leaks or all", a->repair);
        return IMG_EXIT_FAILED;
    }
    if (a->repair)
        repair = !strcmp(a->repair, "all") ? QCOW2_REPAIR_ALL : QCOW2_REPAIR_LEAKS;
    if (img_foreign(a->word[0], a->format))
        return img_hand_over(a, img_foreign(a->word[0], a->format), err) < 0 ? IMG_EXIT_FAILED : 0;
    o.readonly = !a->repair;
    c = chain_open(&o, err);
    if (!c)
        return IMG_EXIT_FAILED;
    if (!c->qcow2) {
        error_set(err, -ENOTSUP, "'%s' is a raw image: there is nothing in it to check",
                  a->word[0]);
        chain_close(c);
        return EXIT_UNSUPPORTED;
    }
    code = qcow2_check(c->qcow2, repair, want_json(a) || a->quiet ? NULL : stdout, &found, err) < 0
               ? IMG_EXIT_FAILED
               : check_code(&found);
    if (chain_close(c) < 0 && !code) {
        error_set(err, -EIO, "disk image '%s' could not be closed", a->word[0]);
        code = IMG_EXIT_FAILED;
    }
    if (err->code < 0)
        return code;
    if (want_json(a))
        check_json(a->word[0], &found);
    else if (!a->quiet)
        check_text(&found);
    return code;
}

/* ------------------------------------------------------------------ map */

static bool same(const struct chain_run *a, const struct chain_run *b) {
    return a->depth == b->depth && a->present == b->present && a->zero == b->zero &&
           a->data == b->data && a->compressed == b->compressed && a->has_host == b->has_host &&
           (!a->has_host || b->host == a->host + a->length);
}

static const char *layer_path(const struct chain *c, unsigned depth) {
    for (; depth; depth--)
        c = c->backing;
    return c->path;
}

static void print_run(const struct chain *c, uint64_t start, const struct chain_run *r, bool json,
                      bool first) {
    if (json) {
        printf("%s{ \"start\": %llu, \"length\": %llu, \"depth\": %u, \"present\": %s, \"zero\": "
               "%s, \"data\": %s",
               first ? "[" : ",\n", (unsigned long long)start, (unsigned long long)r->length,
               r->depth, r->present ? "true" : "false", r->zero ? "true" : "false",
               r->data ? "true" : "false");
        if (r->has_host)
            printf(", \"offset\": %llu", (unsigned long long)r->host);
        putchar('}');
    } else if (r->data && r->has_host) {
        printf("%#-16llx%#-16llx%#-16llx%s\n", (unsigned long long)start,
               (unsigned long long)r->length, (unsigned long long)r->host, layer_path(c, r->depth));
    }
}

int img_map(const struct img_args *a, struct error *err) {
    struct chain *c = img_open(a, a->word[0], a->format, IMG_READ, err);
    struct chain_run run, all = {0};
    uint64_t at = 0, start = 0;
    bool json = want_json(a), first = true;
    int r = c ? 0 : -EINVAL;

    if (r == 0 && !json)
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    while (r == 0 && at < c->size) {
        r = chain_map(c, at, c->size - at, &run);
        if (r < 0) {
            error_set(err, r, "disk image '%s': the map at %llu cannot be read: %s", a->word[0],
                      (unsigned long long)at, strerror(-r));
            break;
        }
        if (!all.length || !same(&all, &run)) {
            if (all.length) {
                print_run(c, start, &all, json, first);
                first = false;
            }
            start = at;
            all = run;
        } else {
            all.length += run.length;
        }
        at += run.length;
    }
    if (r == 0 && all.length)
        print_run(c, start, &all, json, first);
    if (r == 0 && json)
        puts(all.length ? "]" : "[]");
    chain_close(c);
    return r < 0 ? IMG_EXIT_FAILED : 0;
}
