/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Images of optical media. Source: ECMA-119 8.4 (primary volume descriptor). */
#include "vm/cdrom.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "block/block.h"

/*
 * Calls (main): openat
 */

enum { SECTOR = 2048, DESCRIPTOR = 16 * SECTOR, VOLUME_SECTORS = 80, SECTOR_SIZE = 128 };

/* A download that was cut off is the usual case; firmware would only say that it cannot boot. */
static void warn_if_short(const char *path, uint64_t size) {
    uint8_t d[SECTOR];
    uint64_t wanted;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : pread(fd, d, sizeof(d), DESCRIPTOR);

    if (fd >= 0)
        close(fd);
    if (n != sizeof(d) || memcmp(d, "\1CD001", 6) != 0)
        return;
    wanted = (uint64_t)load_le32(d + VOLUME_SECTORS) * load_le16(d + SECTOR_SIZE);
    if (size < wanted)
        log_warning("the medium '%s' has %llu KiB, its contents say %llu: it is truncated, fetch "
                    "it again",
                    path, (unsigned long long)size >> 10, (unsigned long long)wanted >> 10);
}

struct block *cdrom_open(struct loop *loop, const char *path, struct error *err) {
    struct block_options o = {.path = path, .format = "raw", .readonly = true};
    struct block *b = block_open(loop, &o, err);

    if (!b) {
        error_prefix(err, "--cdrom");
        return NULL;
    }
    if (block_info(b)->size < SECTOR) {
        error_set(err, -22, "--cdrom: '%s' is shorter than a sector: it is no image of a medium",
                  path);
        block_close(b);
        return NULL;
    }
    warn_if_short(path, block_info(b)->size);
    return b;
}
