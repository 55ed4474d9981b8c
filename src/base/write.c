/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/write.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int write_all(int fd, const void *p, size_t n) {
    const char *at = p;

    while (n) {
        ssize_t done = write(fd, at, n);

        if (done < 0 && errno != EINTR)
            return -errno;
        at += done > 0 ? done : 0;
        n -= done > 0 ? (size_t)done : 0;
    }
    return 0;
}

bool write_setting(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC), code;
    bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    code = errno;
    if (fd >= 0)
        close(fd);
    errno = code;
    return good;
}
