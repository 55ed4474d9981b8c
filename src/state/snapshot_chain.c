/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the parent of a snapshot lies, by the heads of `memory.index` alone (docs/snapshot.md). */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "state/snapshot.h"
#include "state/snapshot_internal.h"

/* True: it begins as an index does. The path is "" without a parent. */
static bool read_head(const char *dir, uint8_t head[INDEX_HEAD], char path[INDEX_PATH_MAX + 1]) {
    char file[PATH_MAX];
    int n = snprintf(file, sizeof(file), "%s/memory.index", dir), fd;
    bool good = false;
    uint32_t size;

    if (n < 0 || (size_t)n >= sizeof(file))
        return false;
    fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW);
    if (fd < 0)
        return false;
    if (pread(fd, head, INDEX_HEAD, 0) == INDEX_HEAD && !memcmp(head, SNAPSHOT_INDEX_MAGIC, 8) &&
        load_le32(head + INDEX_VERSION) <= SNAPSHOT_VERSION) {
        size = load_le32(head + INDEX_PATH_SIZE);
        good = size <= INDEX_PATH_MAX && pread(fd, path, size, INDEX_HEAD) == (ssize_t)size;
        path[good ? size : 0] = 0;
    }
    close(fd);
    return good;
}

char *snapshot_parent(const char *dir) {
    uint8_t own[INDEX_HEAD], parents[INDEX_HEAD];
    char path[INDEX_PATH_MAX + 1], unused[INDEX_PATH_MAX + 1], *full = NULL;

    if (!read_head(dir, own, path) || !*path)
        return NULL;
    if ((*path == '/' ? asprintf(&full, "%s", path) : asprintf(&full, "%s/../%s", dir, path)) < 0)
        return NULL;
    if (read_head(full, parents, unused) &&
        !memcmp(parents + INDEX_ID, own + INDEX_PARENT_ID, SNAPSHOT_ID))
        return full;
    free(full);
    return NULL;
}
