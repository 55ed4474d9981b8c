/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The helper: a child of the process in the jail, which stays outside of it. It does for it what
 * was granted (calls.c), and stands between it and the clients of the control socket (relay.c). It
 * reads no more of the process than the arguments of calls, and runs no program. It has a filter of
 * its own: a mistake in here is not to be worth more than what it does for the process.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/timer.h"
#include "jail/confine.h"
#include "jail/jail_internal.h"

enum { MAX_POLL = 2 + 1 + 2 * RELAY_PAIRS, LAST_WORDS_MS = 2000 };

struct helper {
    const struct jail_options *options;
    struct grants *grants;
    struct relay *relay;
    struct calls *calls; /* NULL until the door is closed */
    int channel, notify;
    pid_t machine;
    bool sealed, over;
};

static void take_message(struct helper *h) {
    static struct message m;
    int with;
    ssize_t n = channel_receive(h->channel, &m, sizeof(m), &with);

    if (n == -EINTR || n == -EAGAIN)
        return;
    if (n <= 0) {
        h->over = true;
        return;
    }
    ((char *)&m)[n - 1] = 0; /* the end of the path */
    if (h->sealed || n <= (ssize_t)offsetof(struct message, path)) {
        if (with >= 0)
            close(with);
        return;
    }
    if (m.op == MESSAGE_GRANT)
        grants_add(h->grants, m.path, m.rights);
    else if (m.op == MESSAGE_LISTENER && with >= 0)
        relay_listen(h->relay, with);
    else if (m.op == MESSAGE_SEAL) {
        h->sealed = true;
        h->notify = with;
        h->calls = with >= 0 ? calls_new(h->grants, with, h->machine) : NULL;
    }
}

static void round_of(struct helper *h, int timeout) {
    struct pollfd p[MAX_POLL];
    unsigned n;

    p[0] = (struct pollfd){.fd = h->over ? -1 : h->channel, .events = POLLIN};
    p[1] = (struct pollfd){.fd = h->calls && !h->over ? h->notify : -1, .events = POLLIN};
    n = relay_poll(h->relay, p + 2, MAX_POLL - 2);
    if (poll(p, n + 2, timeout) < 0) {
        if (errno != EINTR && errno != EAGAIN && errno != ENOMEM)
            _exit(1); /* it would say so for ever, as when a filter of somebody else's refuses it */
        return;
    }
    if (p[1].revents & POLLIN)
        calls_serve(h->calls);
    relay_polled(h->relay, p + 2, n);
    if (p[0].revents)
        take_message(h);
}

/* From here on strangers have their say. The filter is taken with a listener, which nothing ever
 * asks: Linux before 5.14 cannot hand over a descriptor in one step, and a container whose manager
 * listens to calls itself leaves no room for a second one. The process wants to know. */
static void install_filter(int channel) {
    struct seccomp_notif_addfd add = {.flags = SECCOMP_ADDFD_FLAG_SEND};
    struct filter f;
    struct error e = {0};
    sigset_t one;
    bool able;
    int fd;

    sigemptyset(&one);
    sigaddset(&one, SIGSYS);
    sigprocmask(SIG_UNBLOCK, &one, NULL);
    filter_make(&f, filter_helper_kind(), false, false);
    if (filter_watch(&e) < 0)
        _exit(1);
    fd = filter_install(&f, SECCOMP_FILTER_FLAG_NEW_LISTENER);
    add.srcfd = (uint32_t)fd;
    able = fd >= 0 && ioctl(fd, SECCOMP_IOCTL_NOTIF_ADDFD, &add) < 0 && errno == ENOENT;
    if (fd >= 0)
        close(fd);
    else if (filter_install(&f, 0) < 0)
        _exit(1);
    if (send(channel, able ? "y" : "n", 1, MSG_NOSIGNAL) < 0)
        _exit(1);
}

_Noreturn void helper_main(const struct jail_options *o, int channel, int clients, pid_t machine) {
    struct helper h = {.options = o, .channel = channel, .notify = -1, .machine = machine};
    int64_t end;
    sigset_t all;

    /* Signals are the machine's, and the helper's life is as long as its. */
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    prctl(PR_SET_NAME, "viv-helper");
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    confine_helper();
    install_filter(channel);
    h.grants = grants_new();
    h.relay = h.grants ? relay_new(o, h.grants, clients) : NULL;
    if (!h.relay)
        _exit(1);
    while (!h.over)
        round_of(&h, -1);
    relay_end(h.relay);
    for (end = timer_now_ms() + LAST_WORDS_MS; !relay_idle(h.relay) && timer_now_ms() < end;)
        round_of(&h, (int)(end - timer_now_ms()));
    _exit(0);
}
