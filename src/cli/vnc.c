/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The screen of a machine at a port of this host, for any VNC viewer. Each connection is a process
 * of its own: viewers neither wait for each other nor for this one. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/write.h"
#include "cli/cli.h"

enum { CHUNK = 64 * 1024, BACKLOG = 8 };

static int connect_screen(struct cli *c, struct buf *early) {
    return remote_upgrade(c->remote, "rfb", early, &c->failure, "/v1/vms/%s/screen", c->name[0]);
}

/* False: the stream ends there. */
static bool pass(int from, int to) {
    char data[CHUNK];
    ssize_t n = read(from, data, sizeof(data));

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return true;
    return n > 0 && write_all(to, data, (size_t)n) == 0;
}

static void shuttle(int viewer, int screen) {
    struct pollfd p[2] = {{.fd = viewer, .events = POLLIN}, {.fd = screen, .events = POLLIN}};
    bool more = true;

    while (more && (poll(p, 2, -1) >= 0 || errno == EINTR)) {
        if (p[0].revents)
            more = pass(viewer, screen);
        if (more && p[1].revents)
            more = pass(screen, viewer);
    }
}

static int listen_here(struct cli *c, unsigned port, struct sockaddr_in *at) {
    socklen_t size = sizeof(*at);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    *at = (struct sockaddr_in){.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (fd >= 0 && bind(fd, (struct sockaddr *)at, sizeof(*at)) == 0 && listen(fd, BACKLOG) == 0 &&
        getsockname(fd, (struct sockaddr *)at, &size) == 0)
        return fd;
    remote_fail(&c->failure, FAILURE_FAILED, "give another one with --port",
                "port %u of this host cannot be opened: %s", port, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Serves one viewer; -1: the machine has no screen any more. */
static int serve(struct cli *c, int viewer) {
    struct buf early = {0};
    int screen = connect_screen(c, &early);

    if (screen >= 0 && fork() == 0) {
        if (write_all(viewer, early.data, early.len) == 0)
            shuttle(viewer, screen);
        _exit(0);
    }
    buf_done(&early);
    if (screen >= 0)
        close(screen);
    close(viewer);
    return screen < 0 ? -1 : 0;
}

int do_vnc(struct cli *c) {
    struct buf early = {0};
    struct sockaddr_in at;
    int fd = connect_screen(c, &early), r = 0; /* is there one at all? */
    unsigned port;

    buf_done(&early);
    if (fd < 0)
        return -1;
    close(fd);
    signal(SIGCHLD, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    fd = listen_here(c, (unsigned)cli_number(c, "port", 0), &at);
    if (fd < 0)
        return -1;
    port = ntohs(at.sin_port);
    printf("vnc://127.0.0.1:%u\n", port);
    fflush(stdout);
    show_note(c, "A viewer opens it with: vncviewer 127.0.0.1::%u. Ctrl-C ends it", port);
    while (r == 0) {
        int viewer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

        if (viewer >= 0)
            r = serve(c, viewer);
        else if (errno != EINTR && errno != ECONNABORTED)
            r = remote_fail(&c->failure, FAILURE_FAILED, "start it again",
                            "no viewer can be taken: %s", strerror(errno));
    }
    close(fd);
    return r;
}
