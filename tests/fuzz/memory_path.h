/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bytes as a file that has a path, without a disk: for readers that open files themselves. */
#ifndef TESTS_FUZZ_MEMORY_PATH_H
#define TESTS_FUZZ_MEMORY_PATH_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MEMORY_PATH = 40 };

/* The descriptor, to be closed. */
static inline int memory_path(const uint8_t *data, size_t size, char path[MEMORY_PATH]) {
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    if (fd < 0 || (size && pwrite(fd, data, size, 0) != (ssize_t)size))
        abort();
    snprintf(path, MEMORY_PATH, "/proc/self/fd/%d", fd);
    return fd;
}

#endif
