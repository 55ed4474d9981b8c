/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Kernels that read a disk and move data over TCP. */
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BLOCK = 4096, CHUNK = 65536 };

/* ---- disk ---- */

static void fill_block(uint64_t *block, uint64_t number) {
    uint64_t state = mix(number, 0x766976) | 1;

    for (size_t i = 0; i < BLOCK / sizeof(*block); i++)
        block[i] = next_random(&state);
}

int io_make_disk(const char *path, uint64_t mib) {
    uint64_t block[BLOCK / 8];
    FILE *f = fopen(path, "wb");

    if (!f)
        return -errno;
    for (uint64_t i = 0; i < mib * 1024 * 1024 / BLOCK; i++) {
        fill_block(block, i);
        if (fwrite(block, BLOCK, 1, f) != 1) {
            int r = -errno;

            fclose(f);
            return r;
        }
    }
    return fclose(f) ? -errno : 0;
}

/* n reads of 4 KiB at random places, one at a time, past the page cache. */
static int random_reads(uint64_t n, const char *path, uint64_t *sum) {
    uint64_t state = 99, s = 0, *block;
    off_t blocks;
    int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC), r = 0;

    if (fd < 0 && errno == EINVAL) /* the host's file system may know no O_DIRECT */
        fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    blocks = lseek(fd, 0, SEEK_END) / BLOCK;
    block = aligned_alloc(BLOCK, BLOCK);
    if (!block || blocks <= 0)
        r = -ENOMEM;
    for (uint64_t i = 0; i < n && r == 0; i++) {
        uint64_t number = next_random(&state) % (uint64_t)blocks;
        ssize_t got = pread(fd, block, BLOCK, (off_t)(number * BLOCK));

        if (got != BLOCK)
            r = got < 0 ? -errno : -EIO;
        for (size_t k = 0; k < BLOCK / 8; k += 37)
            s = mix(s, block[k]);
    }
    free(block);
    close(fd);
    *sum = s;
    return r;
}

/* ---- TCP: one line of request, then n KiB in one direction ---- */

/* Connects to ADDRESS:PORT and asks for what. A descriptor or a negative errno. */
static int ask(const char *address, const char *what, uint64_t n) {
    char host[64], line[64];
    struct sockaddr_in to = {.sin_family = AF_INET};
    unsigned port;
    int fd, size;

    if (sscanf(address, "%63[0-9.]:%u", host, &port) != 2 ||
        inet_pton(AF_INET, host, &to.sin_addr) != 1)
        return -EINVAL;
    to.sin_port = htons((uint16_t)port);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    size = snprintf(line, sizeof(line), "%s %llu\n", what, (unsigned long long)n * 1024);
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 ||
        write(fd, line, (size_t)size) != size) {
        int r = -errno;

        close(fd);
        return r;
    }
    return fd;
}

static int tcp_out(uint64_t n, const char *address, uint64_t *sum) {
    static uint8_t data[CHUNK];
    uint64_t left = n * 1024, total = 0;
    int fd = ask(address, "sink", n), r = 0;

    if (fd < 0)
        return fd;
    while (left && r == 0) {
        ssize_t done = write(fd, data, left < CHUNK ? left : CHUNK);

        if (done < 0)
            r = -errno;
        else
            left -= (uint64_t)done;
    }
    /* The host answers with the number of bytes when it has them all. */
    if (r == 0 && recv(fd, &total, sizeof(total), MSG_WAITALL) != sizeof(total))
        r = -EPIPE;
    close(fd);
    *sum = total;
    return r;
}

static int tcp_in(uint64_t n, const char *address, uint64_t *sum) {
    static uint8_t data[CHUNK];
    uint64_t total = 0, s = 0;
    int fd = ask(address, "source", n), r = 0;

    if (fd < 0)
        return fd;
    while (total < n * 1024 && r == 0) {
        ssize_t got = read(fd, data, CHUNK);

        if (got <= 0)
            r = got < 0 ? -errno : -EPIPE;
        for (ssize_t i = 0; i < got; i++) /* every 256th byte, wherever the pieces were cut */
            if ((total + (uint64_t)i) % 256 == 0) {
                s = mix(s, data[i]);
                i += 255;
            }
        total += got > 0 ? (uint64_t)got : 0;
    }
    close(fd);
    *sum = mix(s, total);
    return r;
}

const struct kernel io_kernels[] = {
    {"disk-read", random_reads}, {"tcp-out", tcp_out}, {"tcp-in", tcp_in}, {NULL, NULL}};
