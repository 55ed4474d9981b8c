/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Signs of formats, and the heads of tar archives (POSIX ustar). */
#include "block/foreign.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/*
 * Calls (main): openat
 */

const char *foreign_format(const char *path) {
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

uint64_t foreign_ova_disk(const char *path, uint64_t *ret_size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint64_t at = 0, found = 0;
    char head[512];

    while (fd >= 0 && !found && pread(fd, head, sizeof(head), (off_t)at) == sizeof(head) && *head) {
        char name[101], size[13];
        const char *dot;

        memcpy(name, head, 100);
        memcpy(size, head + 124, 12);
        name[100] = size[12] = 0;
        *ret_size = strtoull(size, NULL, 8);
        dot = strrchr(name, '.');
        if (dot && (!strcasecmp(dot, ".vmdk") || !strcasecmp(dot, ".vhd")))
            found = at + sizeof(head);
        if (*ret_size > INT64_MAX / 2 - at)
            break;
        at += sizeof(head) + ((*ret_size + 511) & ~511ull);
    }
    if (fd >= 0)
        close(fd);
    return found;
}

char *foreign_ova_source(const char *path) {
    uint64_t size, at = foreign_ova_disk(path, &size);
    json_t *source;
    char *text = NULL, *out = NULL;

    if (!at)
        return NULL;
    source = json_pack("{s:{s:s, s:I, s:I, s:{s:s, s:s}}}", "file", "driver", "raw", "offset",
                       (json_int_t)at, "size", (json_int_t)size, "file", "driver", "file",
                       "filename", path);
    if (source)
        text = json_dumps(source, JSON_COMPACT);
    if (text && asprintf(&out, "json:%s", text) < 0)
        out = NULL;
    free(text);
    json_decref(source);
    return out;
}
