/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Kernels that move data over TCP. */
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNK = 65536 };

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

const struct kernel io_kernels[] = {{"tcp-out", tcp_out}, {"tcp-in", tcp_in}, {NULL, NULL}};
