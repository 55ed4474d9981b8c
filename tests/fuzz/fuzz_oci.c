/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * OCI layouts of any bytes: an archive as it comes, and, since digests would stop nearly all of
 * that, one whose configuration, list of layers and descriptor are the input's parts with digests
 * that fit.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sha256.h"
#include "base/tar.h"
#include "fuzz/memory_path.h"
#include "oci/config.h"
#include "oci/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good) {
    if (!good)
        abort();
}

static void use(const uint8_t *data, size_t size, const char *wanted) {
    char path[MEMORY_PATH];
    int fd = memory_path(data, size, path);
    struct error e = {0};
    struct oci_source *s = oci_source_open(path, &e);
    struct oci_image image = {0};

    check(s || (e.code < 0 && *e.text));
    if (s && oci_image_find(s, wanted, &image, &e) == 0) {
        check(image.layers && image.layers <= OCI_MOST_LAYERS && oci_is_digest(image.digest));
        json_decref(oci_run_config(image.config, NULL));
        oci_image_done(&image);
    } else {
        check(e.code < 0 && *e.text);
    }
    oci_source_close(s);
    close(fd);
}

/* ------------------------------------------------------------------ with digests that fit */

static void put(struct buf *out, const char *name, const void *data, size_t n) {
    tar_head(buf_grow(out, TAR_BLOCK), name, n, 0);
    buf_put(out, data, n);
    buf_grow(out, -n & (TAR_BLOCK - 1));
}

static void put_blob(struct buf *out, const void *data, size_t n, char sum[SHA256_TEXT]) {
    char name[100];
    struct sha256 s;

    sha256_begin(&s);
    sha256_put(&s, data, n);
    sha256_end_text(&s, sum);
    snprintf(name, sizeof(name), "blobs/sha256/%s", sum);
    put(out, name, data, n);
}

/* Parts end with a byte 0. */
static size_t part(const uint8_t **data, size_t *size, const char **ret) {
    const uint8_t *end = memchr(*data, 0, *size);
    size_t n = end ? (size_t)(end - *data) : *size;

    *ret = (const char *)*data;
    *data += n + (end != NULL);
    *size -= n + (end != NULL);
    return n;
}

static void make(const uint8_t *data, size_t size) {
    const char *config, *layers, *more;
    size_t a = part(&data, &size, &config), b = part(&data, &size, &layers),
           c = part(&data, &size, &more);
    char sum[SHA256_TEXT], empty[SHA256_TEXT];
    struct buf out = {0}, manifest = {0}, index = {0};

    put_blob(&out, "", 0, empty);
    put_blob(&out, config, a, sum);
    buf_printf(&manifest,
               "{\"schemaVersion\": 2, \"config\": {\"digest\": \"sha256:%s\", \"size\": %zu}, "
               "\"layers\": ",
               sum, a);
    if (b)
        buf_put(&manifest, layers, b);
    else
        buf_printf(&manifest, "[{\"digest\": \"sha256:%s\", \"size\": 0}]", empty);
    buf_printf(&manifest, "}");
    put_blob(&out, manifest.data, manifest.len, sum);
    buf_printf(&index, "{\"manifests\": [{\"digest\": \"sha256:%s\", \"size\": %zu%.*s}]}", sum,
               manifest.len, (int)c, more);
    put(&out, "index.json", index.data, index.len);
    put(&out, "manifest.json", config, a);
    use(out.data, out.len, "");
    buf_done(&out);
    buf_done(&manifest);
    buf_done(&index);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* What is compressed goes through libarchive to a disk: too slow here. */
    if (size > 2 && memcmp(data, "\x1f\x8b", 2) != 0 && memcmp(data, "\x28\xb5", 2) != 0 &&
        memcmp(data, "BZ", 2) != 0 && data[0] != 0xfd)
        use(data, size, "");
    make(data, size);
    return 0;
}
