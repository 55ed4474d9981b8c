/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ports of machines: packets on unix sockets. Each gives a few frames in a round of the loop, then
 * the others have their turn; what one does not take waits in its own bounded queue, and beyond
 * that is dropped. So none can hold up another one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/trace.h"
#include "base/unix_socket.h"
#include "net/link.h"
#include "proto/server.h"
#include "switch/guard.h"
#include "switch/network.h"

/*
 * Calls (net): accept4 sendmsg recvmsg sendto recvfrom shutdown unlink
 *     setsockopt:SOL_SOCKET/SO_SNDBUF
 */

enum {
    MAX_PLUGS = 1024,
    ROUND = 32, /* frames of a port in a round */
    QUEUE_FRAMES = 1024,
    QUEUE_BYTES = 4 << 20,
    BUFFER = 4 << 20, /* asked of the socket; the host gives what it allows */
    BACKLOG = 128,
};

static void plug_out(struct plug *p, const char *why) {
    struct network *n = p->network;
    struct plug **link = &n->plugs;

    trace(switch_unplug, p->name, why);
    while (*link != p)
        link = &(*link)->next;
    *link = p->next;
    n->plugs_count--;
    if (p->greeted) {
        switch_remove(&p->port);
        server_event(n->server, "port", json_pack("{s:s, s:b}", "name", p->name, "up", 0));
    }
    loop_remove(p->watch);
    close(p->fd);
    net_queue_done(&p->out);
    free(p);
}

/* ------------------------------------------------------------------ to the machine */

static void watch_for(struct plug *p) {
    loop_modify(p->watch, EPOLLIN | EPOLLRDHUP | (p->out.head ? EPOLLOUT : 0u));
}

/* False: not now. */
static bool send_packet(struct plug *p, const void *data, size_t len) {
    if (send(p->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return true;
    if (errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM)
        return false;
    if (errno != EMSGSIZE && !p->broken) {
        p->broken = true; /* it is closed where nobody is in the middle of using it */
        shutdown(p->fd, SHUT_RDWR);
    }
    return true;
}

static bool plug_deliver(struct switch_port *port, const uint8_t *frame, size_t len) {
    struct plug *p = (struct plug *)port;

    if (!p->out.head && send_packet(p, frame, len))
        return true;
    if (!net_queue_put(&p->out, frame, len))
        return false;
    watch_for(p);
    return true;
}

static void send_queued(struct plug *p) {
    while (p->out.head && send_packet(p, p->out.head->data, p->out.head->len))
        net_queue_pop(&p->out);
}

/* ------------------------------------------------------------------ from the machine */

static bool plug_allows(struct switch_port *port, const uint8_t *frame, size_t len) {
    const struct plug *p = (const struct plug *)port;

    return guard_allows(&p->network->config.directory, p->member, p->port.mac, frame, len);
}

static void refuse(struct plug *p, const char *why) {
    json_t *m = json_pack("{s:s}", "error", why);
    char *text = json_dumps(m, JSON_COMPACT);

    if (text)
        send_packet(p, text, strlen(text));
    free(text);
    json_decref(m);
    plug_out(p, why);
}

/* The machine's first packet, checked. False with a sentence. */
static bool read_hello(struct plug *p, const char *text, size_t len, struct error *err) {
    json_t *m = len <= LINK_HELLO_MAX ? json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL) : NULL;
    const char *name = json_string_value(json_object_get(m, "port"));
    const char *mac = json_string_value(json_object_get(m, "mac"));
    bool good = false;

    if (!name || !mac || strlen(name) > LINK_NAME_MAX)
        error_set(err, -EINVAL, "the first packet of a port says who it is: port, mac, protocol");
    else if (json_integer_value(json_object_get(m, "protocol")) != LINK_PROTOCOL)
        error_set(err, -EINVAL, "this switch speaks version %d of the protocol", LINK_PROTOCOL);
    else
        good = mac_parse(mac, p->port.mac, err) == 0;
    if (good)
        snprintf(p->name, sizeof(p->name), "%s", name);
    json_decref(m);
    return good;
}

/* A machine that comes again before its end was seen here: the older cable hangs in the air. */
static void pull_older(struct plug *p) {
    for (struct plug *o = p->network->plugs; o; o = o->next)
        if (o != p && o->greeted && !memcmp(o->port.mac, p->port.mac, 6)) {
            plug_out(o, "it came again");
            return;
        }
}

static const struct member *find_member(struct network *n, const char *name, const uint8_t mac[6]) {
    const struct member *m = directory_by_mac(&n->config.directory, mac);

    return !m && n->config.open ? directory_add_guest(&n->config.directory, name, mac) : m;
}

static void say_hello(struct plug *p, const char *text, size_t len) {
    static const char welcome[] = "{\"protocol\":1}";
    struct network *n = p->network;
    struct error e = {0};
    unsigned before = n->config.directory.members;

    if (!read_hello(p, text, len, &e)) {
        refuse(p, e.text);
        return;
    }
    pull_older(p);
    p->member = find_member(n, p->name, p->port.mac);
    if (n->config.directory.members != before)
        plugs_check(n); /* members may have moved */
    if (!p->member) {
        refuse(p, "no machine with this MAC address belongs to this network");
        return;
    }
    p->port.deliver = plug_deliver;
    p->port.owned = !n->config.spoofing;
    p->port.allows = n->config.spoofing ? NULL : plug_allows;
    if (switch_add(n->core, &p->port) < 0) {
        refuse(p, "the MAC address is another one's in this network");
        return;
    }
    p->greeted = true;
    p->since = timer_now_ms();
    send_packet(p, welcome, sizeof(welcome) - 1);
    trace(switch_plug, p->name, p->port.mac[4], p->port.mac[5]);
    server_event(n->server, "port", json_pack("{s:s, s:b}", "name", p->name, "up", 1));
}

static void plug_ready(void *opaque, int fd, uint32_t events) {
    struct plug *p = opaque;
    struct network *n = p->network;

    if (events & EPOLLOUT) {
        send_queued(p);
        watch_for(p);
    }
    for (unsigned i = 0; i < ROUND; i++) {
        ssize_t len = recv(fd, n->frame, sizeof(n->frame), MSG_DONTWAIT);

        if (len < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (len <= 0) {
            plug_out(p, "the machine has ended the connection");
            break;
        }
        if (p->greeted) {
            switch_input(&p->port, n->frame, (size_t)len, timer_now_ms());
            continue;
        }
        say_hello(p, (const char *)n->frame, (size_t)len);
        break; /* which may have closed it */
    }
    uplink_flush(n);
}

/* ------------------------------------------------------------------ coming and going */

static void plug_came(void *opaque, int listener, uint32_t events) {
    struct network *n = opaque;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), size = BUFFER;
    struct plug *p = fd < 0 || n->plugs_count == MAX_PLUGS ? NULL : calloc(1, sizeof(*p));

    if (!p || !(p->watch = loop_add(n->loop, fd, EPOLLIN | EPOLLRDHUP, plug_ready, p))) {
        if (fd >= 0)
            log_warning("a machine cannot be plugged in: there are %u already", n->plugs_count);
        free(p);
        if (fd >= 0)
            close(fd);
        return;
    }
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    p->network = n;
    p->fd = fd;
    net_queue_init(&p->out, QUEUE_FRAMES, QUEUE_BYTES);
    p->next = n->plugs;
    n->plugs = p;
    n->plugs_count++;
}

void plugs_check(struct network *n) {
    struct plug *next;

    for (struct plug *p = n->plugs; p; p = p->next)
        if (p->greeted)
            find_member(n, p->name, p->port.mac);
    for (struct plug *p = n->plugs; p; p = next) { /* from here on members stay where they are */
        next = p->next;
        p->member = directory_by_mac(&n->config.directory, p->port.mac);
        if (p->greeted && !p->member)
            plug_out(p, "it belongs to this network no more");
    }
}

int plugs_listen(struct network *n, const char *path, struct error *err) {
    n->listener = unix_socket_listen_packets(path, 0600, "the socket of ports", err);
    if (n->listener < 0)
        return n->listener;
    listen(n->listener, BACKLOG); /* all machines may come at the same moment */
    n->ports_path = strdup(path);
    n->listener_watch = loop_add(n->loop, n->listener, EPOLLIN, plug_came, n);
    return n->listener_watch && n->ports_path ? 0 : error_set(err, -ENOMEM, "out of memory");
}

void plugs_close(struct network *n) {
    for (struct plug *p = n->plugs, *next; p; p = next) {
        next = p->next;
        plug_out(p, "the network ends");
    }
    loop_remove(n->listener_watch);
    if (n->listener >= 0)
        close(n->listener);
    if (n->ports_path)
        unlink(n->ports_path);
    free(n->ports_path);
}
