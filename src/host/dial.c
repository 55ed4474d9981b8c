/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses of TCP, as people write them. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/network.h"

enum { BACKLOG = 256, LONGEST = 256 };

/* Brackets are those of an IPv6 address; no host, or '*': every address. */
static int split(const char *address, char host[LONGEST], const char **ret_port,
                 struct error *err) {
    const char *colon = strrchr(address, ':');
    size_t n = colon ? (size_t)(colon - address) : 0;
    char *end = NULL;
    long port = colon ? strtol(colon + 1, &end, 10) : -1;

    if (!colon || !colon[1] || *end || colon[1] == '-' || colon[1] == '+' || colon[1] == ' ' ||
        port < 0 || port > 65535 || n >= LONGEST)
        return error_set(err, -EINVAL,
                         "'%.100s' is no address to listen at: write it as 127.0.0.1:8443, "
                         "[::1]:8443 or *:8443",
                         address);
    if (n >= 2 && address[0] == '[' && address[n - 1] == ']') {
        address++;
        n -= 2;
    }
    snprintf(host, LONGEST, "%.*s", (int)n, address);
    if (!strcmp(host, "*"))
        *host = 0;
    *ret_port = colon + 1;
    return 0;
}

static int listen_at(const struct addrinfo *a) {
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, r;

    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    r = -errno;
    close(fd);
    return r;
}

int network_listen(const char *address, struct error *err) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV},
                    *all = NULL;
    char host[LONGEST];
    const char *port = NULL;
    int r = split(address, host, &port, err), fd = -EADDRNOTAVAIL;

    if (r < 0)
        return r;
    /* :: takes IPv4 as well, so it is tried first where every address is wanted. */
    hints.ai_family = *host ? AF_UNSPEC : AF_INET6;
    r = getaddrinfo(*host ? host : NULL, port, &hints, &all);
    if (r == 0)
        fd = listen_at(all);
    if (!*host && fd < 0 && fd != -EADDRINUSE) {
        if (r == 0)
            freeaddrinfo(all);
        all = NULL;
        hints.ai_family = AF_INET;
        r = getaddrinfo(NULL, port, &hints, &all);
        if (r == 0)
            fd = listen_at(all);
    }
    if (r != 0)
        return error_set(err, -EINVAL, "'%.100s' is no address of this host: %s", address,
                         gai_strerror(r));
    freeaddrinfo(all);
    if (fd >= 0)
        return fd;
    return error_set(err, fd, "the manager cannot listen at '%.100s': %s; choose another port",
                     address, strerror(-fd));
}

void network_address(int fd, char *out, unsigned size) {
    struct sockaddr_storage a = {0};
    socklen_t len = sizeof(a);
    char host[NI_MAXHOST] = "?", port[NI_MAXSERV] = "0";

    if (getsockname(fd, (struct sockaddr *)&a, &len) == 0)
        getnameinfo((struct sockaddr *)&a, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(out, size, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}
