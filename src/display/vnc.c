/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VNC server: its options, its socket, its clients' bytes, and when the picture is looked at.
 */
#include "display/vnc.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/trace.h"
#include "base/unix_socket.h"
#include "display/vnc_internal.h"

/*
 * Calls (main): accept4 recvfrom sendto sendmsg getsockname shutdown openat unlink
 *     setsockopt:IPPROTO_TCP/TCP_NODELAY setsockopt:SOL_SOCKET/SO_REUSEADDR
 */

enum { SOCKET_MODE = 0600, BACKLOG = 16, OUT_COMMANDS = 64 * 1024 };
/* How often the picture is looked at, in ms, by how long ago it changed. */
enum { FAST_MS = 30, SLOW_MS = 100, SLEEPY_MS = 250, SLOW_AFTER = 1000, SLEEPY_AFTER = 5000 };

/* ------------------------------------------------------------------ options */

static int take_place(const char *text, size_t n, struct vnc_options *o, struct error *err) {
    const char *colon = memrchr(text, ':', n);
    size_t host, port;
    char *end;

    if (n > 5 && !strncmp(text, "unix:", 5)) {
        if (n - 5 >= sizeof(o->path))
            return error_set(err, -EINVAL, "the path of the socket has more than %zu bytes",
                             sizeof(o->path) - 1);
        memcpy(o->path, text + 5, n - 5);
        return 0;
    }
    if (!colon || colon == text)
        return error_set(err, -EINVAL, "'%.*s' is no place for VNC: use ADDRESS:PORT or unix:PATH",
                         (int)n, text);
    host = (size_t)(colon - text);
    port = n - host - 1;
    if (*text == '[' && text[host - 1] == ']') { /* IPv6 */
        text++;
        host -= 2;
    }
    if (host >= sizeof(o->host) || port >= sizeof(o->port) || !port)
        return error_set(err, -EINVAL, "'%s' is no address and port", text);
    memcpy(o->host, text, host);
    memcpy(o->port, colon + 1, port);
    if (strtoul(o->port, &end, 10) > 65535 || *end || !strtoul(o->port, NULL, 10))
        return error_set(err, -EINVAL, "'%s' is no port: use a number from 1 to 65535", o->port);
    return 0;
}

static bool take_word(const char *text, size_t n, const char *key, char *to, size_t room) {
    size_t k = strlen(key);

    if (n <= k || strncmp(text, key, k) != 0 || n - k >= room)
        return false;
    memcpy(to, text + k, n - k);
    to[n - k] = 0;
    return true;
}

int vnc_options_parse(const char *text, struct vnc_options *ret, struct error *err) {
    struct vnc_options o = {0};
    size_t n;
    int r = 0;

    if (!strcmp(text, "none")) {
        *ret = o;
        return 0;
    }
    if (strncmp(text, "vnc=", 4) != 0)
        return error_set(err, -EINVAL,
                         "'%s' is no display: use vnc=ADDRESS:PORT, vnc=unix:PATH or none", text);
    text += 4;
    n = strcspn(text, ",");
    r = take_place(text, n, &o, err);
    while (r == 0 && *(text += n)) {
        n = strcspn(++text, ",");
        if (!take_word(text, n, "password-file=", o.password_file, sizeof(o.password_file)) &&
            !take_word(text, n, "tls=", o.tls, sizeof(o.tls)))
            r = error_set(err, -EINVAL,
                          "'%.*s' is no property of a display: use password-file= or tls=", (int)n,
                          text);
    }
    o.on = true;
    if (r == 0)
        *ret = o;
    return r;
}

static int read_password(struct vnc *v, struct error *err) {
    char line[VNC_PASSWORD_MAX + 3] = "";
    FILE *f;

    if (!*v->options.password_file)
        return 0;
    f = fopen(v->options.password_file, "re");
    if (!f || !fgets(line, sizeof(line), f)) {
        int code = f && !ferror(f) ? -EINVAL : -errno;

        if (f)
            fclose(f);
        return error_set(err, code, "the VNC password file '%s' cannot be read: %s",
                         v->options.password_file,
                         code == -EINVAL ? "it is empty" : strerror(-code));
    }
    fclose(f);
    line[strcspn(line, "\r\n")] = 0;
    if (!*line)
        return error_set(err, -EINVAL, "the VNC password file '%s' has an empty first line",
                         v->options.password_file);
    if (strlen(line) > (*v->options.tls ? VNC_PASSWORD_MAX : VNC_PASSWORD))
        return error_set(err, -EINVAL,
                         "the VNC password in '%s' is longer than the %d bytes that the protocol "
                         "looks at: shorten it%s",
                         v->options.password_file,
                         *v->options.tls ? VNC_PASSWORD_MAX : VNC_PASSWORD,
                         *v->options.tls ? "" : ", or use tls=");
    memcpy(v->password, line, strlen(line));
    explicit_bzero(line, sizeof(line));
    v->has_password = true;
    return 0;
}

/* ------------------------------------------------------------------ a client's end */

void vnc_drop(struct vnc_client *c) {
    if (c->fd < 0)
        return;
    trace(vnc_close, c->fd);
    vnc_release_keys(c);
    timer_stop(&c->deadline);
    timer_stop(&c->more);
    loop_remove(c->watch);
    c->watch = NULL;
    vnc_hang_up(c);
    c->vnc->count--;
    if (c->state == VNC_RUNNING)
        screen_watch_remove(c->vnc->screen, &c->look);
}

static void reap(struct vnc *v) {
    struct vnc_client **link = &v->clients, *c;

    if (v->inside)
        return;
    while ((c = *link)) {
        if (c->fd >= 0) {
            link = &c->next;
            continue;
        }
        *link = c->next;
        vnc_update_done(c);
        buf_done(&c->out);
        free(c);
    }
}

/* ------------------------------------------------------------------ bytes */

static size_t unsent(const struct vnc_client *c) { return c->out.len - c->sent; }

static bool takes_input(const struct vnc_client *c) {
    return !c->leaving && unsent(c) <= OUT_COMMANDS + VNC_OUT_HIGH;
}

static void watch(struct vnc_client *c) {
    loop_modify(c->watch, vnc_events(c, takes_input(c), unsent(c) > 0));
}

void vnc_put(struct vnc_client *c, const void *p, size_t n) {
    if (c->fd >= 0)
        buf_put(&c->out, p, n);
}

void vnc_flush(struct vnc_client *c) {
    while (c->fd >= 0 && unsent(c)) {
        ssize_t n = vnc_send(c, c->out.data + c->sent, unsent(c));

        if (n == -EAGAIN)
            break;
        if (n <= 0) {
            vnc_drop(c);
            return;
        }
        c->sent += (size_t)n;
    }
    if (c->fd < 0 || c->state == VNC_TLS)
        return;
    if (!unsent(c)) {
        c->out.len = c->sent = 0;
        if (c->wants_tls) {
            vnc_tls_begin(c);
            return;
        }
        if (c->leaving) {
            vnc_drop(c);
            return;
        }
    }
    watch(c);
}

/* Takes what has come apart into messages. */
static void take_input(struct vnc_client *c) {
    size_t at = 0;

    while (c->fd >= 0 && !c->leaving && at < c->in_len) {
        uint8_t *rest = c->in + at;
        size_t left = c->in_len - at;
        int used;

        if (c->skip) {
            size_t n = c->skip < left ? (size_t)c->skip : left;

            c->skip -= n;
            at += n;
            continue;
        }
        memmove(c->in, rest, left);
        c->in_len = left;
        at = 0;
        used = c->state == VNC_RUNNING ? vnc_message(c) : vnc_login(c);
        if (used <= 0)
            break;
        at = (size_t)used;
    }
    if (at) {
        memmove(c->in, c->in + at, c->in_len - at);
        c->in_len -= at;
    }
}

static void readable(struct vnc_client *c) {
    ssize_t n = vnc_recv(c, c->in + c->in_len, sizeof(c->in) - c->in_len);

    if (n == -EAGAIN)
        return;
    if (n <= 0) {
        vnc_drop(c);
        return;
    }
    c->in_len += (size_t)n;
    take_input(c);
    if (c->fd >= 0 && c->in_len == sizeof(c->in)) /* no message is so long */
        vnc_drop(c);
}

static void client_ready(void *opaque, int fd, uint32_t events) {
    struct vnc_client *c = opaque;
    struct vnc *v = c->vnc;

    v->inside++;
    if (c->state == VNC_TLS)
        vnc_tls_go_on(c);
    else if (events & EPOLLIN)
        readable(c);
    else if (events & (EPOLLHUP | EPOLLERR))
        vnc_drop(c);
    if (c->fd >= 0)
        vnc_pump(c);
    while (c->fd >= 0 && c->state != VNC_TLS && takes_input(c) && vnc_pending(c)) {
        readable(c);
        if (c->fd >= 0)
            vnc_pump(c);
    }
    v->inside--;
    reap(v);
}

static void too_slow(void *opaque) {
    struct vnc_client *c = opaque;
    struct vnc *v = c->vnc;

    vnc_drop(c);
    reap(v);
}

/* ------------------------------------------------------------------ when to look */

static void look(void *opaque);

static bool somebody_wants(const struct vnc *v) {
    for (const struct vnc_client *c = v->clients; c; c = c->next)
        if (c->fd >= 0 && c->wants && !c->rect)
            return true;
    return false;
}

static void start_looking(struct vnc *v) {
    int64_t now = timer_now_ms(), calm;

    if (timer_runs(&v->refresh) || !somebody_wants(v))
        return;
    calm = now - (v->changed > v->busy ? v->changed : v->busy);
    timer_start(v->timers, &v->refresh,
                calm < SLOW_AFTER     ? FAST_MS
                : calm < SLEEPY_AFTER ? SLOW_MS
                                      : SLEEPY_MS,
                look, v);
}

static void look(void *opaque) {
    struct vnc *v = opaque;

    v->inside++;
    if (screen_refresh(v->screen))
        v->changed = timer_now_ms();
    for (struct vnc_client *c = v->clients; c; c = c->next)
        if (c->fd >= 0 && c->wants && !c->rect)
            vnc_begin_update(c);
    v->inside--;
    reap(v);
    start_looking(v);
}

void vnc_wake(struct vnc *v) {
    int64_t now = timer_now_ms();

    if (now - v->busy > SLOW_AFTER && timer_runs(&v->refresh))
        timer_stop(&v->refresh); /* it may be a slow one */
    v->busy = now;
    start_looking(v);
}

void vnc_want(struct vnc_client *c) {
    struct vnc *v = c->vnc;

    /* What it has not been sent yet it gets at once, if the picture was looked at just now. */
    start_looking(v);
}

/* ------------------------------------------------------------------ clients come */

void vnc_adopt(struct vnc *v, int sock) {
    struct vnc_client *c;
    int one = 1;

    reap(v);
    c = v->count < VNC_MAX_CLIENTS ? calloc(1, sizeof(*c)) : NULL;
    if (!c) { /* more would only cost memory */
        close(sock);
        return;
    }
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* refused by unix sockets */
    *c = (struct vnc_client){
        .vnc = v, .fd = sock, .stream = {.fd = sock}, .next = v->clients, .level = 2};
    c->watch = loop_add(v->loop, sock, EPOLLIN, client_ready, c);
    v->clients = c;
    v->count++;
    timer_start(v->timers, &c->deadline, VNC_HANDSHAKE_MS, too_slow, c);
    trace(vnc_open, sock);
    vnc_greet(c);
    vnc_flush(c);
}

static void accept_client(void *opaque, int fd, uint32_t events) {
    int sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (sock >= 0)
        vnc_adopt(opaque, sock);
}

static int listen_tcp(const struct vnc_options *o, struct error *err) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV},
                    *list;
    int fd, one = 1, code = 0;

    if (!strcmp(o->host, "localhost"))
        hints.ai_flags &= ~AI_NUMERICHOST;
    if (getaddrinfo(o->host, o->port, &hints, &list) != 0)
        return error_set(err, -EINVAL, "VNC: '%s' is no numeric address of this host", o->host);
    fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (fd < 0 || bind(fd, list->ai_addr, list->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
        code = -errno;
    freeaddrinfo(list);
    if (code == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return error_set(err, code, "VNC cannot listen at %s:%s: %s", o->host, o->port,
                     code == -EADDRINUSE ? "the port is in use; give another one"
                                         : strerror(-code));
}

struct vnc *vnc_open(struct loop *loop, const struct vnc_options *options, const char *name,
                     struct screen *screen, const struct input_sink *input, struct error *err) {
    struct vnc *v = calloc(1, sizeof(*v));

    if (!v) {
        error_set(err, -ENOMEM, "VNC: out of memory");
        return NULL;
    }
    v->loop = loop;
    v->options = *options;
    v->screen = screen;
    v->input = *input;
    v->listener = -1;
    snprintf(v->name, sizeof(v->name), "%s", *name ? name : "viv-vm");
    v->timers = timers_new(loop, err);
    if (!v->timers || read_password(v, err) < 0 || vnc_tls_open(v, err) < 0)
        goto failed;
    v->listener = *options->path
                      ? unix_socket_listen(options->path, SOCKET_MODE, "the VNC socket", err)
                      : listen_tcp(options, err);
    if (v->listener < 0)
        goto failed;
    v->watch = loop_add(loop, v->listener, EPOLLIN, accept_client, v);
    return v;

failed:
    vnc_close(v);
    return NULL;
}

void vnc_close(struct vnc *v) {
    if (!v)
        return;
    loop_remove(v->watch);
    if (v->listener >= 0) {
        close(v->listener);
        if (*v->options.path)
            unlink(v->options.path);
    }
    for (struct vnc_client *c = v->clients; c; c = c->next)
        vnc_drop(c);
    reap(v);
    timer_stop(&v->refresh);
    timers_free(v->timers);
    if (v->tls)
        v->options.module->tls_free(v->tls);
    explicit_bzero(v->password, sizeof(v->password));
    free(v);
}

unsigned vnc_clients(const struct vnc *v) {
    unsigned n = 0;

    for (const struct vnc_client *c = v->clients; c; c = c->next)
        n += c->fd >= 0 && c->state == VNC_RUNNING;
    return n;
}

void vnc_bell(struct vnc *v) {
    for (struct vnc_client *c = v->clients; c; c = c->next)
        if (c->fd >= 0 && c->state == VNC_RUNNING && !c->rect) {
            vnc_put(c, "\2", 1);
            vnc_flush(c);
        }
}
