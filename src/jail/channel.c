/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets with a descriptor beside them: unix(7), SCM_RIGHTS.
 *
 * Calls (helper): sendmsg recvmsg
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "jail/jail_internal.h"

int channel_send(int fd, const void *p, size_t n, int with) {
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {.space = {0}};
    struct iovec iov = {(void *)(uintptr_t)p, n};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    struct cmsghdr *c;

    if (with >= 0) {
        m.msg_control = control.space;
        m.msg_controllen = sizeof(control.space);
        c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &with, sizeof(int));
    }
    return sendmsg(fd, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

ssize_t channel_receive(int fd, void *p, size_t n, int *ret_with) {
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {p, n};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.space,
                       /* without what fills the space up: a second one would fit into that */
                       .msg_controllen = CMSG_LEN(sizeof(int))};
    struct cmsghdr *c;
    ssize_t got = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);

    *ret_with = -1;
    if (got < 0)
        return -errno;
    c = CMSG_FIRSTHDR(&m);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
        memcpy(ret_with, CMSG_DATA(c), sizeof(int));
    return got;
}
