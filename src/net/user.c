/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * User-mode NAT: libslirp 4.7 behind the frame port, so that a machine has a network without any
 * right on the host.
 *
 * Theory of operation: libslirp owns no thread, clock or descriptor loop. It is asked which sockets
 * it waits for (slirp_pollfds_fill) and told which are ready (slirp_pollfds_poll). Its sockets live
 * in an epoll set of our own, and the machine's loop watches that set as one descriptor: all that
 * is ready is handled in one round, and changes of interest cost a system call only when they are
 * changes, from whatever thread holds the machine lock.
 *
 * Frames for the guest go to the NIC directly when they arise in a round of the loop; those that
 * arise inside net_send, or that the NIC has no room for, wait in a bounded queue.
 *
 * Between libslirp and the guest stand two repairs: frames to the guest are cut to what it takes
 * (segment.h), fragments from it are put together (reassemble.h).
 *
 * Sleep: libslirp asks for a round every 0.5 s as soon as any TCP socket exists, even one that only
 * listens for a port forward, and every second otherwise. Both are ignored while no connection
 * exists (idle), so that an idle machine does not wake up. Its clock advances only in a round, so a
 * round comes before a frame that follows a long sleep: else a new UDP association would expire at
 * once.
 */
#include "net/user.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <slirp/libslirp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/trace.h"
#include "net/forward.h"
#include "net/limit.h"
#include "net/queue.h"
#include "net/reassemble.h"
#include "net/segment.h"

/*
 * libslirp, which also looks at /etc/resolv.conf; the options of sockets are those of several
 * versions of it:
 *
 * Calls (main, vcpu, net): setsockopt:SOL_SOCKET/SO_REUSEADDR setsockopt:SOL_SOCKET/SO_OOBINLINE
 *     setsockopt:IPPROTO_TCP/TCP_NODELAY setsockopt:IPPROTO_IP/IP_TTL
 *     setsockopt:IPPROTO_IP/IP_RECVERR setsockopt:IPPROTO_IPV6/IPV6_V6ONLY
 *     setsockopt:IPPROTO_IPV6/IPV6_UNICAST_HOPS setsockopt:IPPROTO_IPV6/IPV6_RECVERR
 * Calls (main, vcpu, net): socket connect bind getsockopt getsockname getpeername sendto
 *     recvfrom sendmsg recvmsg shutdown ioctl:FIONBIO ioctl:FIONREAD openat newfstatat epoll_ctl
 *     timerfd_settime
 * Calls (main, net): listen accept accept4 epoll_create1 timerfd_create
 */

enum {
    USER_MTU = 65520, /* guests that take it need 40 times fewer frames for the same bytes */
    GUEST_MTU = 1500, /* of a guest whose NIC does not say */
    QUEUE_FRAMES = 1024,
    QUEUE_BYTES = 4 << 20, /* 32 connections with full windows */
    EVENTS = 64,
    STALE_NS = 100 * 1000 * 1000,
    NO_TIMEOUT_MS = 1000, /* what libslirp answers when it waits for nothing */
    NS_PER_MS = 1000 * 1000,
};

struct user_fd {     /* indexed by descriptor */
    uint32_t wanted; /* what the epoll set reports, 0 = not in it */
    uint32_t ready;  /* events of this round */
    uint32_t fill;   /* number of the last fill that asked for it */
    bool listed;     /* in watched[] */
};

struct user_timer {
    struct user_timer *next;
    struct net_user *user;
    SlirpTimerId id;
    void *opaque;
    uint64_t deadline; /* ns, 0 = off */
};

struct net_user {
    struct net_port port; /* first */
    struct loop *loop;
    struct loop_watch *watch;
    Slirp *slirp;
    int epoll, timer_fd;
    struct user_fd *fds;
    unsigned fds_count;
    int *watched;
    unsigned watched_count, watched_cap, forwards;
    uint32_t fill;
    struct user_timer *timers;
    uint64_t armed;     /* when the timer fires, 0 = never */
    uint64_t polled_at; /* time of the last round: libslirp's clock */
    struct net_queue queue;
    struct segment segment;
    struct reassemble reassemble;
    struct net_limit *limit;
    uint64_t limited; /* frames that it stopped */
    bool sending;     /* inside net_send */
    bool received;    /* the NIC took frames since its last `received` */
    uint8_t flat[NET_FRAME_MAX];
};

static uint64_t now_ns(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ------------------------------------------------------------------ frames to the guest */

static void end_burst(struct net_user *u) {
    if (!u->received)
        return;
    u->received = false;
    if (u->port.received)
        u->port.received(u->port.opaque);
}

static bool offer(struct net_user *u, const uint8_t *frame, size_t len) {
    if (u->port.receive && !u->port.receive(u->port.opaque, frame, len))
        return false;
    stat_inc(net_user_frames_in);
    stat_add(net_user_bytes_in, len);
    u->received = true;
    return true;
}

static void deliver(struct net_user *u) {
    while (u->queue.head && offer(u, u->queue.head->data, u->queue.head->len))
        net_queue_pop(&u->queue);
    end_burst(u);
}

static void put(void *opaque, const uint8_t *frame, size_t len) {
    struct net_user *u = opaque;

    if (!u->sending && !u->queue.head && offer(u, frame, len))
        return;
    if (net_queue_put(&u->queue, frame, len))
        return;
    stat_inc(net_user_dropped);
    trace(net_user_drop, len, u->queue.frames);
}

static ssize_t from_slirp(const void *frame, size_t len, void *opaque) {
    struct net_user *u = opaque;

    if (len > NET_FRAME_MAX)
        stat_inc(net_user_dropped);
    else
        segment_cut(&u->segment, frame, len, u->port.guest_mtu ? u->port.guest_mtu : GUEST_MTU, put,
                    u);
    return (ssize_t)len;
}

/* ------------------------------------------------------------------ descriptors */

static uint32_t to_epoll(int events) {
    return ((events & SLIRP_POLL_IN) ? EPOLLIN : 0u) | ((events & SLIRP_POLL_OUT) ? EPOLLOUT : 0u) |
           ((events & SLIRP_POLL_PRI) ? EPOLLPRI : 0u) |
           ((events & SLIRP_POLL_ERR) ? EPOLLERR : 0u) |
           ((events & SLIRP_POLL_HUP) ? EPOLLHUP : 0u);
}

static int from_epoll(uint32_t events) {
    return ((events & EPOLLIN) ? SLIRP_POLL_IN : 0) | ((events & EPOLLOUT) ? SLIRP_POLL_OUT : 0) |
           ((events & EPOLLPRI) ? SLIRP_POLL_PRI : 0) | ((events & EPOLLERR) ? SLIRP_POLL_ERR : 0) |
           ((events & EPOLLHUP) ? SLIRP_POLL_HUP : 0);
}

/* Grows *array to more than `index` elements of `size` bytes, the new ones zero. */
static bool grow(void *array, unsigned *count, unsigned index, size_t size) {
    void **p = array;
    unsigned wanted = index < 32 ? 64 : index * 2;
    uint8_t *bigger;

    if (index < *count)
        return true;
    bigger = realloc(*p, wanted * size);
    if (!bigger)
        return false;
    memset(bigger + *count * size, 0, (wanted - *count) * size);
    *p = bigger;
    *count = wanted;
    return true;
}

static int want_events(int fd, int events, void *opaque) {
    struct net_user *u = opaque;
    struct epoll_event ev = {.events = to_epoll(events), .data.fd = fd};
    struct user_fd *f;

    if (fd < 0 || !grow(&u->fds, &u->fds_count, (unsigned)fd, sizeof(*u->fds)) ||
        !grow(&u->watched, &u->watched_cap, u->watched_count, sizeof(*u->watched)))
        return -1; /* out of memory: the socket waits, nothing else does */
    f = &u->fds[fd];
    f->fill = u->fill;
    if (!f->listed) {
        u->watched[u->watched_count++] = fd;
        f->listed = true;
    }
    if (f->wanted != ev.events) {
        epoll_ctl(u->epoll, f->wanted ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev);
        f->wanted = ev.events;
    }
    return fd;
}

static int get_events(int fd, void *opaque) {
    struct net_user *u = opaque;

    return fd < 0 ? 0 : from_epoll(u->fds[fd].ready);
}

static void forget_fd(int fd,
                      void *opaque) { /* libslirp closes it next; the number may come again */
    struct net_user *u = opaque;

    if (fd < 0 || (unsigned)fd >= u->fds_count)
        return;
    if (u->fds[fd].wanted)
        epoll_ctl(u->epoll, EPOLL_CTL_DEL, fd, NULL);
    u->fds[fd].wanted = u->fds[fd].ready = 0;
}

static void drop_unwanted(struct net_user *u) {
    unsigned kept = 0;

    for (unsigned i = 0; i < u->watched_count; i++) {
        int fd = u->watched[i];

        if (u->fds[fd].fill == u->fill && u->fds[fd].wanted) {
            u->watched[kept++] = fd;
        } else {
            forget_fd(fd, u);
            u->fds[fd].listed = false;
        }
    }
    u->watched_count = kept;
}

/* ------------------------------------------------------------------ time */

static void arm(struct net_user *u, uint64_t deadline) {
    struct itimerspec t = {.it_value = {.tv_sec = (time_t)(deadline / 1000000000u),
                                        .tv_nsec = (long)(deadline % 1000000000u)}};

    /* A later deadline than the armed one is found out when that fires: once in 0.5 s at worst,
     * where arming each time would be a system call a frame. */
    if (!deadline || (u->armed && u->armed <= deadline))
        return;
    timerfd_settime(u->timer_fd, TFD_TIMER_ABSTIME, &t, NULL);
    u->armed = deadline;
}

/* No socket of libslirp but those that listen for forwards. It tells only by its report for humans.
 */
static bool idle(struct net_user *u) {
    char *report, *line;
    unsigned sockets = 0;

    if (u->watched_count > u->forwards)
        return false;
    report = slirp_connection_info(u->slirp);
    line = strchr(report, '\n'); /* the first line is the heading */
    while (line && *++line) {
        sockets += strncmp(line + strcspn(line, "["), "[HOST_FORWARD]", 14) != 0;
        line = strchr(line, '\n');
    }
    free(report);
    return sockets == 0;
}

static void refill(struct net_user *u) {
    uint32_t timeout = UINT32_MAX;
    uint64_t deadline = 0;

    u->fill++;
    slirp_pollfds_fill(u->slirp, &timeout, want_events, u);
    drop_unwanted(u);
    if (timeout < NO_TIMEOUT_MS && !idle(u))
        deadline = now_ns() + (uint64_t)timeout * NS_PER_MS;
    for (struct user_timer *t = u->timers; t; t = t->next)
        if (t->deadline && (!deadline || t->deadline < deadline))
            deadline = t->deadline;
    arm(u, deadline);
}

static void run_timers(struct net_user *u) {
    uint64_t now = now_ns();

    for (struct user_timer *t = u->timers; t; t = t->next) {
        if (!t->deadline || t->deadline > now)
            continue;
        t->deadline = 0;
        slirp_handle_timer(u->slirp, t->id, t->opaque); /* arms again, frees nothing */
    }
}

static int64_t slirp_now(void *opaque) { return (int64_t)now_ns(); }

static void *timer_new(SlirpTimerId id, void *timer_opaque, void *opaque) {
    struct net_user *u = opaque;
    struct user_timer *t = calloc(1, sizeof(*t));

    if (!t)
        abort(); /* libslirp cannot do without, and only start-up makes timers */
    *t = (struct user_timer){.next = u->timers, .user = u, .id = id, .opaque = timer_opaque};
    u->timers = t;
    return t;
}

static void timer_free(void *timer, void *opaque) {
    struct net_user *u = opaque;
    struct user_timer **link = &u->timers;

    while (*link && *link != timer)
        link = &(*link)->next;
    if (*link)
        *link = (*link)->next;
    free(timer);
}

static void timer_mod(void *timer, int64_t expire_ms, void *opaque) {
    struct user_timer *t = timer;

    t->deadline = expire_ms > 0 ? (uint64_t)expire_ms * NS_PER_MS : 1;
}

/* ------------------------------------------------------------------ rounds */

static void poll_slirp(struct net_user *u) {
    u->polled_at = now_ns();
    slirp_pollfds_poll(u->slirp, 0, get_events, u);
}

static void round_due(void *opaque, int epoll, uint32_t events) {
    struct net_user *u = opaque;
    struct epoll_event ev[EVENTS];
    int n = epoll_wait(u->epoll, ev, EVENTS, 0);
    uint64_t count;

    stat_inc(net_user_rounds);
    for (int i = 0; i < n; i++) {
        if (ev[i].data.fd != u->timer_fd)
            u->fds[ev[i].data.fd].ready = ev[i].events;
        else if (read(u->timer_fd, &count, sizeof(count)) == sizeof(count))
            u->armed = 0;
    }
    poll_slirp(u);
    for (int i = 0; i < n; i++)
        if (ev[i].data.fd != u->timer_fd)
            u->fds[ev[i].data.fd].ready = 0;
    run_timers(u);
    refill(u);
    deliver(u);
}

static void user_send(struct net_port *p, const struct iovec *iov, unsigned count) {
    struct net_user *u = (struct net_user *)p;
    const uint8_t *frame = count == 1 ? iov[0].iov_base : u->flat;
    size_t len = 0;

    for (unsigned i = 0; i < count; i++) {
        if (iov[i].iov_len > NET_FRAME_MAX - len)
            return;
        if (count > 1)
            memcpy(u->flat + len, iov[i].iov_base, iov[i].iov_len);
        len += iov[i].iov_len;
    }
    stat_inc(net_user_frames_out);
    stat_add(net_user_bytes_out, len);
    frame = reassemble_add(&u->reassemble, frame, len, &len);
    if (!frame)
        return;
    if (!net_limit_allows(u->limit, frame, len, (int64_t)(now_ns() / NS_PER_MS))) {
        u->limited++;
        return;
    }
    segment_learn(&u->segment, frame, len);
    u->sending = true;
    if (now_ns() - u->polled_at > STALE_NS)
        poll_slirp(u);
    slirp_input(u->slirp, frame, (int)len);
    u->sending = false;
}

static void user_flush(struct net_port *p) {
    struct net_user *u = (struct net_user *)p;

    refill(u);
    deliver(u);
}

static void user_resume(struct net_port *p) { deliver((struct net_user *)p); }

/* ------------------------------------------------------------------ life */

static void guest_error(const char *msg, void *opaque) { trace(net_user_guest_error, msg); }
static void ignore_fd(int fd, void *opaque) {} /* want_events finds it in the next fill */
static void ignore_notify(void *opaque) {}     /* every way into libslirp ends in a refill */

static const SlirpCb callbacks = {
    .send_packet = from_slirp,
    .guest_error = guest_error,
    .clock_get_ns = slirp_now,
    .timer_new_opaque = timer_new,
    .timer_free = timer_free,
    .timer_mod = timer_mod,
    .register_poll_fd = ignore_fd,
    .unregister_poll_fd = forget_fd,
    .notify = ignore_notify,
};

static void user_close(struct net_port *p) {
    struct net_user *u = (struct net_user *)p;
    loop_remove(u->watch);
    u->port.receive = NULL;
    if (u->slirp)
        slirp_cleanup(u->slirp);
    net_queue_done(&u->queue);
    if (u->epoll >= 0)
        close(u->epoll);
    if (u->timer_fd >= 0)
        close(u->timer_fd);
    reassemble_done(&u->reassemble);
    net_limit_free(u->limit);
    free(u->fds);
    free(u->watched);
    free(u);
}

/* ------------------------------------------------------------------ snapshots */

/*
 * u32 version of libslirp's state, then its bytes: leases, identifiers of packets. Connections to
 * the host's sockets are not in it, as these end with the process: after a restore libslirp answers
 * the guest's next segment of one with a reset, and the guest's program connects again.
 */
static ssize_t state_out(const void *bytes, size_t n, void *opaque) {
    buf_put(opaque, bytes, n);
    return (ssize_t)n;
}

static void user_save(struct net_port *p, struct buf *out) {
    buf_put_le32(out, (uint32_t)slirp_state_version());
    slirp_state_save(((struct net_user *)p)->slirp, state_out, out);
}

static ssize_t state_in(void *to, size_t n, void *opaque) {
    const void *bytes = reader_take(opaque, n);

    if (!bytes) {
        memset(to, 0, n); /* libslirp does not look at what it gets */
        return -1;
    }
    memcpy(to, bytes, n);
    return (ssize_t)n;
}

static int user_load(struct net_port *p, const void *bytes, size_t n, struct error *err) {
    struct reader r = {.p = bytes, .left = n};
    uint32_t version = reader_le32(&r);

    if (r.bad || version > (uint32_t)slirp_state_version())
        return error_set(err, -ENOTSUP,
                         "user-mode network: the snapshot's state is of version %u of libslirp, "
                         "this one knows up to %d; install a newer libslirp",
                         version, slirp_state_version());
    /* A byte that is not 0 announces a connection to a program inside of us, of which there are
     * none: that part of libslirp's reader need not see bytes of a stranger. */
    if (!r.left || *r.p ||
        slirp_state_load(((struct net_user *)p)->slirp, (int)version, state_in, &r) < 0 || r.bad ||
        r.left)
        return error_set(err, -EINVAL,
                         "user-mode network: libslirp refuses the snapshot's state; use another "
                         "snapshot");
    return 0;
}

static const struct net_ops user_ops = {.send = user_send,
                                        .flush = user_flush,
                                        .resume = user_resume,
                                        .save = user_save,
                                        .load = user_load,
                                        .close = user_close};

static const char *forward_remedy(int code) {
    switch (code) {
    case EADDRINUSE:
        return "choose another host port, or stop the program that has this one";
    case EACCES:
        return "choose a host port above 1023, or run as root";
    case EADDRNOTAVAIL:
        return "use an address of this host, 127.0.0.1 or 0.0.0.0";
    default:
        return "choose another host address or port";
    }
}

static int forward_failed(const struct net_forward *f, int code, struct error *err) {
    char text[NET_FORWARD_TEXT];

    net_forward_print(f, text);
    return error_set(err, -code, "port forward %s: %s; %s", text, strerror(code),
                     forward_remedy(code));
}

static int forward_address(const struct net_forward *f, struct in_addr *ret, struct error *err) {
    char text[NET_FORWARD_TEXT];

    net_forward_print(f, text);
    if (inet_pton(AF_INET, *f->host ? f->host : "127.0.0.1", ret) != 1)
        return error_set(err, -EINVAL,
                         "port forward %s: '%s' is no IPv4 address; write one like 127.0.0.1", text,
                         f->host);
    if (!f->host_port || !f->guest_port)
        return error_set(err, -EINVAL, "port forward %s: ports are 1 to 65535", text);
    return 0;
}

/* libslirp lets others have its UDP ports and takes theirs (SO_REUSEADDR), so it must not try. */
static int udp_taken(struct in_addr addr, uint16_t port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = addr, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), code = 0;

    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        code = errno;
    if (fd >= 0)
        close(fd);
    return code;
}

static int add_forward(struct net_user *u, const struct net_forward *f, struct error *err) {
    struct in_addr addr, guest = {htonl(f->guest)};
    int code = 0;

    if (forward_address(f, &addr, err) < 0)
        return -EINVAL;
    if (f->udp)
        code = udp_taken(addr, f->host_port);
    errno = 0;
    if (!code && slirp_add_hostfwd(u->slirp, f->udp, addr, f->host_port, guest, f->guest_port) < 0)
        code = errno ? errno : EADDRINUSE;
    if (code)
        return forward_failed(f, code, err);
    u->forwards++;
    return 0;
}

static const struct net_ops user_ops;

static struct net_user *user_of(struct net_port *p) {
    assert(p->ops == &user_ops);
    return (struct net_user *)p;
}

int net_user_add_forward(struct net_port *p, const struct net_forward *f, struct error *err) {
    struct net_user *u = user_of(p);
    int r = add_forward(u, f, err);

    refill(u);
    return r;
}

int net_user_remove_forward(struct net_port *p, const struct net_forward *f, struct error *err) {
    struct net_user *u = user_of(p);
    struct in_addr addr;
    char text[NET_FORWARD_TEXT];

    if (forward_address(f, &addr, err) < 0)
        return -EINVAL;
    net_forward_print(f, text);
    if (slirp_remove_hostfwd(u->slirp, f->udp, addr, f->host_port) < 0)
        return error_set(err, -ENOENT, "there is no port forward %s", text);
    u->forwards--;
    refill(u);
    return 0;
}

static void ignore_sigpipe(void) {
    struct sigaction old;

    if (!sigaction(SIGPIPE, NULL, &old) && !(old.sa_flags & SA_SIGINFO) &&
        old.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
}

static int set_up_events(struct net_user *u, struct error *err) {
    struct epoll_event ev = {.events = EPOLLIN};

    u->epoll = epoll_create1(EPOLL_CLOEXEC);
    u->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    ev.data.fd = u->timer_fd;
    if (u->epoll >= 0 && u->timer_fd >= 0 &&
        epoll_ctl(u->epoll, EPOLL_CTL_ADD, u->timer_fd, &ev) == 0)
        u->watch = loop_add(u->loop, u->epoll, EPOLLIN, round_due, u);
    if (u->watch)
        return 0;
    return error_set(
        err, -EMFILE,
        "user-mode network: no descriptors; raise the limit of open files (ulimit -n)");
}

/* ------------------------------------------------------------------ the limit of connections */

static char *tell_connections(void *opaque) {
    return slirp_connection_info(((struct net_user *)opaque)->slirp);
}

/* A quarter of the descriptors is left for everything else. */
static unsigned most_connections(void) {
    struct rlimit files = {0};
    rlim_t most = getrlimit(RLIMIT_NOFILE, &files) == 0 ? files.rlim_cur / 4 * 3 : 256;

    return most < NET_USER_CONNECTIONS ? (unsigned)most : NET_USER_CONNECTIONS;
}

static int set_limit(struct net_user *u, const struct net_user_config *c) {
    uint32_t mask = c->prefix ? UINT32_MAX << (32 - c->prefix) : 0;
    unsigned most = most_connections();

    u->limit = net_limit_new(most, c->connections ? c->connections : most, c->network & mask, mask,
                             tell_connections, u);
    return u->limit ? 0 : -ENOMEM;
}

void net_user_set_connections(struct net_port *p, unsigned each) {
    net_limit_set_each(((struct net_user *)p)->limit, each);
}

uint64_t net_user_limited(const struct net_port *p) {
    return ((const struct net_user *)p)->limited;
}

static struct in_addr address(uint32_t a) { return (struct in_addr){htonl(a)}; }

static Slirp *start_slirp(struct net_user *u, const struct net_user_config *user) {
    SlirpConfig c = {.version = 4,
                     .restricted = user->isolated,
                     .in_enabled = true,
                     .in6_enabled = user->ipv6,
                     .vnetwork = address(user->network),
                     .vnetmask = address(user->prefix ? UINT32_MAX << (32 - user->prefix) : 0),
                     .vhost = address(user->host),
                     .vdhcp_start = address(user->dhcp_start),
                     .vnameserver = address(user->nameserver),
                     .vprefix_len = 64,
                     .if_mtu = u->port.mtu,
                     .if_mru = u->port.mtu,
                     .disable_dhcp = !user->dhcp,
                     .bootfile = user->bootfile,
                     .tftp_path = user->tftp};

    inet_pton(AF_INET6, "fd00::", &c.vprefix_addr6);
    inet_pton(AF_INET6, "fd00::2", &c.vhost6);
    inet_pton(AF_INET6, "fd00::3", &c.vnameserver6);
    return slirp_new(&c, &callbacks, u);
}

struct net_port *net_user_open_at(struct loop *loop, const struct net_user_config *c,
                                  struct error *err) {
    struct net_user *u = calloc(1, sizeof(*u));

    if (!u) {
        error_set(err, -ENOMEM, "user-mode network: out of memory");
        return NULL;
    }
    u->port = (struct net_port){
        .ops = &user_ops, .mtu = c->mtu ? c->mtu : USER_MTU, .big_tcp = true, .checked = true};
    u->loop = loop;
    u->epoll = u->timer_fd = -1;
    net_queue_init(&u->queue, QUEUE_FRAMES, QUEUE_BYTES);
    ignore_sigpipe();
    if (set_limit(u, c) < 0)
        error_set(err, -ENOMEM, "user-mode network: out of memory");
    if (!u->limit || set_up_events(u, err) < 0)
        goto fail;
    u->slirp = start_slirp(u, c);
    if (!u->slirp) {
        error_set(err, -EINVAL,
                  "user-mode network: libslirp %s does not start; install version 4.7",
                  slirp_version_string());
        goto fail;
    }
    poll_slirp(u);
    refill(u);
    return &u->port;
fail:
    user_close(&u->port);
    return NULL;
}

const struct net_user_config net_user_standard = {
    .network = 0x0a000200, /* 10.0.2.0 */
    .prefix = 24,
    .host = 0x0a000202,
    .nameserver = 0x0a000203,
    .dhcp_start = 0x0a00020f,
    .ipv6 = true,
    .dhcp = true,
};

struct net_port *net_user_open_forwards(struct loop *loop, const struct net_user_config *c,
                                        const struct net_forward *fwd, unsigned count,
                                        struct error *err) {
    struct net_port *p = net_user_open_at(loop, c, err);

    for (unsigned i = 0; p && i < count; i++)
        if (net_user_add_forward(p, &fwd[i], err) < 0) {
            net_close(p);
            return NULL;
        }
    return p;
}

struct net_port *net_user_open(struct loop *loop, const struct net_forward *fwd, unsigned count,
                               struct error *err) {
    return net_user_open_forwards(loop, &net_user_standard, fwd, count, err);
}
