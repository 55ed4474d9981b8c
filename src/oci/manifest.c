/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * OCI image-spec 1.1: image-layout.md, image-index.md, manifest.md, config.md. Docker's media types
 * of version 2, schema 2 mean the same. Archives of "docker save" have a manifest.json, those of
 * newer versions an index.json as well, which is preferred.
 */
#include "oci/manifest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"

enum { MOST_JSON = 4 << 20, MOST_MANIFESTS = 1000, DEPTH = 4 };

#define REF_NAME  "org.opencontainers.image.ref.name"
#define FULL_NAME "io.containerd.image.name"

static const char *text(const json_t *v, const char *name) {
    const char *s = json_string_value(json_object_get(v, name));

    return s ? s : "";
}

/* ------------------------------------------------------------------ documents */

static json_t *parse(const char *what, const struct buf *b, struct error *err) {
    json_error_t e;
    json_t *v =
        json_loadb((const char *)b->data, b->len ? b->len - 1 : 0, JSON_REJECT_DUPLICATES, &e);

    if (!v)
        error_set(err, -EINVAL, "'%.100s' is no JSON: %s (line %d)", what, e.text, e.line);
    return v;
}

static json_t *read_json(struct oci_source *s, const char *name, struct error *err) {
    struct buf b = {0};
    json_t *v = oci_source_text(s, name, MOST_JSON, &b, err) < 0 ? NULL : parse(name, &b, err);

    buf_done(&b);
    return v;
}

static int file_of(const char *digest, char out[200], struct error *err) {
    if (!oci_is_digest(digest))
        return error_set(err, -EINVAL,
                         "'%.100s' is no digest that is known: that would be sha256: and 64 "
                         "hexadecimal digits",
                         digest);
    snprintf(out, 200, "blobs/sha256/%s", digest + 7);
    return 0;
}

static int check_sum(const char *name, const struct buf *b, const char *digest, struct error *err) {
    char sum[SHA256_TEXT];
    struct sha256 h;

    sha256_begin(&h);
    sha256_put(&h, b->data, b->len - 1);
    sha256_end_text(&h, sum);
    return strcmp(sum, digest + 7)
               ? error_set(err, -EINVAL, "'%s' is damaged: its SHA-256 is %s", name, sum)
               : 0;
}

/* What a descriptor names. */
static json_t *read_blob(struct oci_source *s, const json_t *descriptor, struct error *err) {
    const char *digest = text(descriptor, "digest");
    const json_t *size = json_object_get(descriptor, "size");
    struct buf b = {0};
    json_t *v = NULL;
    char name[200];

    if (file_of(digest, name, err) == 0 && oci_source_text(s, name, MOST_JSON, &b, err) == 0) {
        if (size && json_integer_value(size) != (json_int_t)b.len - 1)
            error_set(err, -EINVAL, "'%s' has %zu bytes, not the %lld that were promised", name,
                      b.len - 1, (long long)json_integer_value(size));
        else if (check_sum(name, &b, digest, err) == 0)
            v = parse(name, &b, err);
    }
    buf_done(&b);
    return v;
}

/* ------------------------------------------------------------------ choosing one */

/* Of a platform that we can run, or of one that is not told. */
static bool fits(const json_t *descriptor) {
    const json_t *p = json_object_get(descriptor, "platform");

    return !p || (!strcmp(text(p, "architecture"), "amd64") && !strcmp(text(p, "os"), "linux"));
}

static bool is_index(const json_t *v) {
    const char *type = text(v, "mediaType");

    return strstr(type, "image.index") || strstr(type, "manifest.list") ||
           (!*type && json_object_get(v, "manifests"));
}

/* "latest" is also the tag of "docker.io/library/alpine:latest". */
static bool is_called(const char *name, const char *wanted) {
    size_t n = strlen(name), w = strlen(wanted);

    return *wanted && n >= w && !strcmp(name + n - w, wanted) &&
           (n == w || name[n - w - 1] == ':' || name[n - w - 1] == '/');
}

static bool is_wanted(const json_t *descriptor, const char *wanted) {
    const json_t *notes = json_object_get(descriptor, "annotations");

    return oci_is_digest(wanted) ? !strcmp(text(descriptor, "digest"), wanted)
                                 : is_called(text(notes, REF_NAME), wanted) ||
                                       is_called(text(notes, FULL_NAME), wanted);
}

static int names_of(const json_t *list, char *out, size_t size) {
    const json_t *one;
    size_t i, at = 0;

    *out = 0;
    json_array_foreach(list, i, one) {
        const char *name = text(json_object_get(one, "annotations"), REF_NAME);

        if (!*name)
            name = text(one, "digest");
        if (at + strlen(name) + 3 < size)
            at += (size_t)snprintf(out + at, size - at, "%s%s", at ? ", " : "", name);
    }
    return 0;
}

/* The descriptor of a list that is meant, NULL with the sentence. */
static const json_t *choose(const json_t *list, const char *wanted, const char *path, bool top,
                            struct error *err) {
    const json_t *found = NULL, *one;
    unsigned count = 0;
    char names[300];
    size_t i;

    if (!json_is_array(list) || !json_array_size(list) || json_array_size(list) > MOST_MANIFESTS) {
        error_set(err, -EINVAL, "'%s' has an index without images", path);
        return NULL;
    }
    json_array_foreach(list, i, one) {
        if (*wanted ? !is_wanted(one, wanted) : !fits(one))
            continue;
        if (!found || strcmp(text(found, "digest"), text(one, "digest")))
            count++;
        found = found ? found : one;
    }
    names_of(list, names, sizeof(names));
    if (!count && *wanted)
        error_set(err, -ENOENT, "'%s' holds no image '%s'; there is %s", path, wanted, names);
    else if (!count)
        error_set(err, -ENOENT, "'%s' holds no image for linux on amd64", path);
    if (count > 1 && top && !*wanted) {
        error_set(err, -EINVAL, "'%s' holds several images: choose one with :TAG or @DIGEST of %s",
                  path, names);
        return NULL;
    }
    return found;
}

/* ------------------------------------------------------------------ what it consists of */

static int check_platform(const json_t *config, const char *path, struct error *err) {
    const char *arch = text(config, "architecture"), *os = text(config, "os");

    if ((*arch && strcmp(arch, "amd64")) || (*os && strcmp(os, "linux")))
        return error_set(err, -EINVAL,
                         "the image in '%s' is for %.40s on %.40s, not for linux on "
                         "amd64",
                         path, *os ? os : "linux", *arch ? arch : "amd64");
    return 0;
}

static int make_layers(struct oci_image *image, const json_t *list, const char *path,
                       struct error *err) {
    const json_t *ids = json_object_get(json_object_get(image->config, "rootfs"), "diff_ids");
    size_t n = json_array_size(list);

    if (!json_is_array(list) || !n || n > OCI_MOST_LAYERS)
        return error_set(err, -EINVAL, "the image in '%s' has no layers, or too many", path);
    if (ids && json_array_size(ids) != n)
        return error_set(err, -EINVAL,
                         "the image in '%s' has %zu layers, but its configuration tells of %zu",
                         path, n, json_array_size(ids));
    image->layer = calloc(n, sizeof(*image->layer));
    if (!image->layer)
        return error_set(err, -ENOMEM, "'%s': out of memory", path);
    image->layers = (unsigned)n;
    for (size_t i = 0; i < n; i++) {
        const char *id = json_string_value(json_array_get(ids, i));

        if (id && !oci_is_digest(id))
            return error_set(err, -EINVAL, "'%.100s' is no digest that is known", id);
        snprintf(image->layer[i].diff_id, OCI_DIGEST, "%s", id ? id : "");
    }
    return 0;
}

static int note_size(struct oci_source *s, struct oci_layer *l, struct error *err) {
    struct oci_file f;
    int r = oci_file_open(s, l->file, &f, err);

    if (r == 0) {
        l->size = f.size;
        oci_file_close(&f);
    }
    return r;
}

static int take_layers(struct oci_source *s, struct oci_image *image, const json_t *list,
                       const char *path, struct error *err) {
    const json_t *one;
    size_t i;

    if (make_layers(image, list, path, err) < 0)
        return -EINVAL;
    json_array_foreach(list, i, one) {
        struct oci_layer *l = &image->layer[i];
        const char *type = text(one, "mediaType");

        if (*type && !strstr(type, "layer") && !strstr(type, "rootfs"))
            return error_set(err, -EINVAL,
                             "'%s' holds no image of a file system: one of its layers is '%.100s'",
                             path, type);
        if (strstr(type, "encrypted"))
            return error_set(err, -EINVAL, "a layer of the image in '%s' is encrypted", path);
        if (file_of(text(one, "digest"), l->file, err) < 0 || note_size(s, l, err) < 0)
            return -EINVAL;
        snprintf(l->digest, sizeof(l->digest), "%s", text(one, "digest"));
        if (json_integer_value(json_object_get(one, "size")) != (json_int_t)l->size)
            return error_set(err, -EINVAL, "'%s' has %llu bytes, not the %lld that were promised",
                             l->file, (unsigned long long)l->size,
                             (long long)json_integer_value(json_object_get(one, "size")));
    }
    return 0;
}

static int take_manifest(struct oci_source *s, const json_t *m, const char *path,
                         struct oci_image *image, struct error *err) {
    const json_t *config = json_object_get(m, "config");

    if (json_integer_value(json_object_get(m, "schemaVersion")) != 2 || !json_is_object(config))
        return error_set(err, -EINVAL, "'%s' has a manifest of another kind than version 2", path);
    image->config = read_blob(s, config, err);
    if (!image->config)
        return -EINVAL;
    if (check_platform(image->config, path, err) < 0)
        return -EINVAL;
    return take_layers(s, image, json_object_get(m, "layers"), path, err);
}

/* ------------------------------------------------------------------ OCI */

/* A digest may be that of any manifest that is there, also of one that only a further index names:
 * then this stands for the index. */
static json_t *first_index(struct oci_source *s, const char *wanted, struct error *err) {
    json_t *index = read_json(s, "index.json", err);
    char name[200];

    if (!index || !oci_is_digest(wanted) || file_of(wanted, name, err) < 0 ||
        !oci_source_has(s, name))
        return index;
    json_decref(index);
    return json_pack("{s:[{s:s}]}", "manifests", "digest", wanted);
}

static int find_oci(struct oci_source *s, const char *wanted, const char *path,
                    struct oci_image *image, struct error *err) {
    json_t *index = first_index(s, wanted, err), *next;
    const char *choice = wanted;
    int r = index ? 0 : -EINVAL;

    for (unsigned depth = 0; r == 0; depth++) {
        const json_t *d =
            depth < DEPTH ? choose(json_object_get(index, "manifests"), choice, path, !depth, err)
                          : NULL;

        if (!d) {
            r = error_set(err, -EINVAL, "'%s' has indexes within indexes without end", path);
            break;
        }
        if (!*image->name)
            snprintf(image->name, sizeof(image->name), "%.*s", OCI_TAG - 1,
                     text(json_object_get(d, "annotations"), REF_NAME));
        snprintf(image->digest, sizeof(image->digest), "%.71s", text(d, "digest"));
        next = read_blob(s, d, err);
        json_decref(index);
        index = next;
        choice = "";
        if (!index)
            r = -EINVAL;
        else if (!is_index(index)) {
            r = take_manifest(s, index, path, image, err);
            break;
        }
    }
    json_decref(index);
    return r;
}

/* ------------------------------------------------------------------ docker save */

static bool has_tag(const json_t *one, const char *wanted) {
    const json_t *tags = json_object_get(one, "RepoTags"), *tag;
    const char *config = text(one, "Config");
    size_t i;

    if (oci_is_digest(wanted))
        return strstr(config, wanted + 7) != NULL;
    json_array_foreach(tags, i, tag)
        if (json_string_value(tag) && is_called(json_string_value(tag), wanted))
            return true;
    return false;
}

static int read_config(struct oci_source *s, const char *name, struct oci_image *image,
                       struct error *err) {
    struct buf b = {0};
    struct sha256 h;
    int r = oci_source_text(s, name, MOST_JSON, &b, err);

    if (r == 0) {
        strcpy(image->digest, "sha256:");
        sha256_begin(&h);
        sha256_put(&h, b.data, b.len - 1);
        sha256_end_text(&h, image->digest + 7);
        /* It is called like its digest, and this is all that there is to compare. */
        if (!strstr(name, image->digest + 7))
            r = error_set(err, -EINVAL, "'%.100s' is damaged: its SHA-256 is %s", name,
                          image->digest + 7);
        else
            image->config = parse(name, &b, err);
    }
    buf_done(&b);
    return image->config ? r : -EINVAL;
}

static int take_saved(struct oci_source *s, const json_t *one, const char *path,
                      struct oci_image *image, struct error *err) {
    const json_t *list = json_object_get(one, "Layers"), *name;
    size_t i;

    if (read_config(s, text(one, "Config"), image, err) < 0 ||
        check_platform(image->config, path, err) < 0 || make_layers(image, list, path, err) < 0)
        return -EINVAL;
    snprintf(image->name, sizeof(image->name), "%.*s", OCI_TAG - 1,
             json_string_value(json_array_get(json_object_get(one, "RepoTags"), 0))
                 ? json_string_value(json_array_get(json_object_get(one, "RepoTags"), 0))
                 : "");
    json_array_foreach(list, i, name) {
        struct oci_layer *l = &image->layer[i];

        if (!json_string_value(name) || strlen(json_string_value(name)) >= sizeof(l->file))
            return error_set(err, -EINVAL, "'%s' has a layer without a name", path);
        if (!*l->diff_id)
            return error_set(err, -EINVAL, "'%s' does not tell the digests of its layers", path);
        snprintf(l->file, sizeof(l->file), "%s", json_string_value(name));
        if (note_size(s, l, err) < 0)
            return -EINVAL;
    }
    return 0;
}

static int find_saved(struct oci_source *s, const char *wanted, const char *path,
                      struct oci_image *image, struct error *err) {
    json_t *list = read_json(s, "manifest.json", err);
    const json_t *found = NULL, *one;
    unsigned count = 0;
    size_t i;
    int r;

    if (!list)
        return -EINVAL;
    json_array_foreach(list, i, one)
        if (!*wanted || has_tag(one, wanted)) {
            found = found ? found : one;
            count++;
        }
    if (!count)
        r = error_set(err, -ENOENT, "'%s' holds no image '%s'", path, wanted);
    else if (count > 1)
        r = error_set(err, -EINVAL, "'%s' holds several images: choose one with :TAG", path);
    else
        r = take_saved(s, found, path, image, err);
    json_decref(list);
    return r;
}

/* ------------------------------------------------------------------ both */

int oci_image_find(struct oci_source *s, const char *wanted, struct oci_image *ret,
                   struct error *err) {
    struct oci_image image = {0};
    const char *path = oci_source_path(s);
    int r;

    if (oci_source_has(s, "index.json"))
        r = find_oci(s, wanted, path, &image, err);
    else if (oci_source_has(s, "manifest.json"))
        r = find_saved(s, wanted, path, &image, err);
    else
        r = error_set(err, -EINVAL,
                      "'%s' is no OCI image: it has neither an index.json nor, as 'docker save' "
                      "writes it, a manifest.json",
                      path);
    if (r < 0)
        oci_image_done(&image);
    else
        *ret = image;
    return r;
}

void oci_image_done(struct oci_image *image) {
    json_decref(image->config);
    free(image->layer);
    *image = (struct oci_image){0};
}
