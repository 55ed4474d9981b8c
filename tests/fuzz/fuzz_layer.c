/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Layers of any bytes, unpacked into a small file system: all that can be refused is, and what is
 * written is no larger than it may be. The first byte divides the rest into two layers. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/tar.h"
#include "fuzz/memory_path.h"
#include "oci/layer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SIZE = 24 << 20 };

static void put(struct buf *out, const char *name, const uint8_t *data, size_t n) {
    tar_head(buf_grow(out, TAR_BLOCK), name, n, 0);
    buf_put(out, data, n);
    buf_grow(out, -n & (TAR_BLOCK - 1));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const struct oci_limits limits = {SIZE, 1000};
    const struct oci_progress progress = {0};
    struct oci_layer layers[2] = {{.file = "a"}, {.file = "b"}};
    const struct oci_image image = {.layer = layers, .layers = 2};
    struct buf out = {0};
    struct error e = {0};
    char path[MEMORY_PATH], disk[60];
    size_t first = size ? (size - 1) * data[0] / 256 : 0;
    struct oci_source *s;
    struct oci_fs *fs;
    struct stat st;
    int fd;

    put(&out, "a", data + !!size, first);
    put(&out, "b", data + !!size + first, size - !!size - first);
    fd = memory_path(out.data, out.len, path);
    snprintf(disk, sizeof(disk), "/dev/shm/viv-fuzz-layer-%d", (int)getpid());
    unlink(disk);
    s = oci_source_open(path, &e);
    fs = fs_create(disk, SIZE, &e);
    if (!s || !fs)
        abort();
    oci_unpack(s, &image, fs, &limits, &progress, &e);
    fs_close(fs, &e);
    if (stat(disk, &st) < 0 || st.st_size != SIZE)
        abort();
    oci_source_close(s);
    unlink(disk);
    close(fd);
    buf_done(&out);
    return 0;
}
