/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Connections to a manager on another host, under TLS. */
#include "cli/far.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECT_MS = 10000 };

static const char *given(const char *variable) {
    const char *v = getenv(variable);

    return v && *v ? v : NULL;
}

/* ------------------------------------------------------------------ what was said */

static int read_url(struct far *f, const char *url, struct error *err) {
    const char *rest = url + 8, *end, *colon;
    size_t host;

    if (strncmp(url, "https://", 8) != 0)
        return error_set(err, -EINVAL,
                         "'%.200s' is no address of a manager: write it as https://HOST:PORT", url);
    end = rest + strcspn(rest, "/");
    if (*end && strcmp(end, "/") != 0)
        return error_set(err, -EINVAL, "the address '%.200s' has a path: write https://HOST:PORT",
                         url);
    colon = memrchr(rest, ':', (size_t)(end - rest));
    if (*rest == '[' && memchr(rest, ']', (size_t)(end - rest)) > (void *)colon)
        colon = NULL; /* colons of the address itself */
    host = (size_t)((colon ? colon : end) - rest);
    snprintf(f->port, sizeof(f->port), "%.*s", colon ? (int)(end - colon - 1) : 3,
             colon ? colon + 1 : "443");
    snprintf(f->authority, sizeof(f->authority), "%.*s:%s", (int)(host < 256 ? host : 255), rest,
             f->port);
    if (*rest == '[' && host > 2 && rest[host - 1] == ']') {
        rest++;
        host -= 2;
    }
    snprintf(f->host, sizeof(f->host), "%.*s", (int)host, rest);
    if (!host || host >= sizeof(f->host) || !*f->port ||
        strspn(f->port, "0123456789") != strlen(f->port) || atoi(f->port) > 65535 ||
        strspn(f->host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:-_%") !=
            host)
        return error_set(err, -EINVAL,
                         "'%.200s' is no address of a manager: write it as https://HOST:PORT", url);
    return 0;
}

static int take_token(struct far *f, const char *text, const char *from, struct error *err) {
    size_t n = strcspn(text, " \t\r\n");

    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < 0x21 || (unsigned char)text[i] > 0x7e)
            n = 0;
    if (!n || n >= sizeof(f->token))
        return error_set(err, -EINVAL, "there is no token in %s: 'viv token create' makes one",
                         from);
    snprintf(f->token, sizeof(f->token), "%.*s", (int)n, text);
    return 0;
}

static int read_token(struct far *f, struct error *err) {
    const char *path = given("VIV_TOKEN_FILE"), *token = given("VIV_TOKEN");
    char text[sizeof(f->token) + 2], from[300];
    size_t n;
    FILE *in;

    if (!path)
        return token ? take_token(f, token, "VIV_TOKEN", err)
                     : error_set(err, -EINVAL,
                                 "a manager on another host wants a token: give a file with one by "
                                 "--token-file, or VIV_TOKEN");
    in = fopen(path, "re");
    if (!in)
        return error_set(err, -errno, "the token file '%s' cannot be read: %s", path,
                         strerror(errno));
    n = fread(text, 1, sizeof(text) - 1, in);
    text[n] = 0;
    fclose(in);
    snprintf(from, sizeof(from), "the file '%.200s'", path);
    return take_token(f, text + strspn(text, " \t\r\n"), from, err);
}

bool far_find(struct far *f, struct error *err) {
    const char *url = given("VIV_URL");

    *f = (struct far){.tls = NULL};
    if (!url)
        return false;
    f->trust = (struct trust){given("VIV_CACERT"), given("VIV_FINGERPRINT")};
    if (read_url(f, url, err) == 0 && read_token(f, err) == 0)
        f->tls = tls_new_client(&f->trust, err);
    return true;
}

void far_done(struct far *f) {
    tls_free(f->tls);
    f->tls = NULL;
}

/* ------------------------------------------------------------------ connecting */

static int wait_for(int fd, short events) {
    struct pollfd p = {.fd = fd, .events = events};
    int n;

    do
        n = poll(&p, 1, CONNECT_MS);
    while (n < 0 && errno == EINTR);
    return n > 0 ? 0 : -ETIMEDOUT;
}

static int connect_to(const struct addrinfo *a) {
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), code = 0, on = 1;
    socklen_t len = sizeof(code);

    if (fd < 0)
        return -errno;
    if (connect(fd, a->ai_addr, a->ai_addrlen) < 0)
        code = errno;
    if (code == EINPROGRESS) {
        code = -wait_for(fd, POLLOUT);
        if (code == 0)
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len);
    }
    if (code == 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
        return fd;
    }
    close(fd);
    return -code;
}

static int dial(const struct far *f, struct error *err) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *all = NULL;
    int r = getaddrinfo(f->host, f->port, &hints, &all), fd = -ECONNREFUSED;

    if (r != 0)
        return error_set(err, -EHOSTUNREACH, "the host '%s' is not known: %s", f->host,
                         gai_strerror(r));
    for (const struct addrinfo *a = all; a && fd < 0; a = a->ai_next)
        fd = connect_to(a);
    freeaddrinfo(all);
    return fd >= 0 ? fd
                   : error_set(err, fd,
                               "the manager at '%s' cannot be reached: %s; look whether it listens "
                               "there, with 'viv portal' on its host",
                               f->authority, strerror(-fd));
}

static int shake(struct stream *s) {
    int r;

    while ((r = stream_handshake(s)) == -EAGAIN)
        if (wait_for(s->fd, s->reads_by_writing ? POLLOUT : POLLIN) < 0)
            return -ETIMEDOUT;
    return r;
}

int far_connect(struct far *f, struct stream *ret, struct error *err) {
    struct stream s = {.fd = -1};
    int fd = dial(f, err), r;

    if (fd < 0)
        return fd;
    r = stream_init(&s, fd, f->tls, err);
    if (r < 0) {
        close(fd);
        return r;
    }
    r = stream_aim(&s, f->host, err);
    if (r == 0 && (r = shake(&s)) < 0)
        error_set(err, r, "what listens at '%s' does not speak TLS as it should: %s", f->authority,
                  strerror(-r));
    if (r == 0)
        r = tls_check_peer(&s, &f->trust, f->host, err);
    if (r == 0)
        *ret = s;
    else
        stream_done(&s);
    return r;
}

/* ------------------------------------------------------------------ as a plain socket */

struct way {
    struct stream far;
    int near;
    bool far_ended, near_ended;
    char out[STREAM_STEP]; /* to the manager */
    size_t out_at, out_len;
};

static bool send_near(int fd, const char *p, size_t n) {
    while (n) {
        ssize_t w = send(fd, p, n, MSG_NOSIGNAL);

        if (w < 0 && errno != EINTR)
            return false;
        if (w > 0) {
            p += w;
            n -= (size_t)w;
        }
    }
    return true;
}

static bool from_far(struct way *w) {
    char data[STREAM_STEP];
    ssize_t n;

    do {
        n = stream_recv(&w->far, data, sizeof(data));
        if (n == 0) {
            w->far_ended = true;
            shutdown(w->near, SHUT_WR);
        }
        if (n > 0 && !send_near(w->near, data, (size_t)n))
            return false;
    } while (n > 0);
    return n == 0 || n == -EAGAIN;
}

static bool to_far(struct way *w) {
    while (!w->near_ended || w->out_len) {
        ssize_t n;

        if (!w->out_len) {
            n = recv(w->near, w->out, sizeof(w->out), MSG_DONTWAIT);
            if (n < 0)
                return errno == EAGAIN || errno == EINTR;
            if (n == 0) {
                w->near_ended = true;
                stream_shut(&w->far);
                return true;
            }
            w->out_at = 0;
            w->out_len = (size_t)n;
        }
        n = stream_send(&w->far, w->out + w->out_at, w->out_len);
        if (n <= 0)
            return n == -EAGAIN;
        w->out_at += (size_t)n;
        w->out_len -= (size_t)n;
    }
    return true;
}

static void *carry(void *opaque) {
    struct way *w = opaque;
    bool good = true;

    while (good && !(w->far_ended && w->near_ended)) {
        uint32_t events = stream_events(&w->far, !w->far_ended, w->out_len != 0);
        struct pollfd p[2] = {{.fd = w->far.fd,
                               .events = (short)((events & EPOLLIN ? POLLIN : 0) |
                                                 (events & EPOLLOUT ? POLLOUT : 0))},
                              {.fd = w->near_ended || w->out_len ? -1 : w->near, .events = POLLIN}};

        if (poll(p, 2, -1) < 0 && errno != EINTR)
            break;
        if (p[0].revents & (POLLERR | POLLHUP) && w->far_ended)
            break;
        good = (w->far_ended || from_far(w)) && to_far(w);
    }
    stream_done(&w->far);
    close(w->near);
    free(w);
    return NULL;
}

int far_plain(struct stream *s, struct error *err) {
    struct way *w = calloc(1, sizeof(*w));
    int ends[2] = {-1, -1}, r;
    pthread_t thread;

    if (!w || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        r = error_set(err, -ENOMEM, "a connection: out of memory");
    } else {
        w->far = *s;
        w->near = ends[0];
        r = -pthread_create(&thread, NULL, carry, w);
        if (r == 0) {
            pthread_detach(thread);
            return ends[1];
        }
        error_set(err, r, "a thread cannot be started: %s", strerror(-r));
        close(ends[0]);
        close(ends[1]);
    }
    stream_done(s);
    free(w);
    return r;
}
