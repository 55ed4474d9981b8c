/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The helper's end of the control socket. A client is accepted here, and the process in the jail
 * gets one end of a pair in its place. Requests pass line by line, and what a line names is granted
 * before the process sees it; answers pass as they are. So the process cannot grant itself
 * anything: only who may connect to the socket can.
 *
 * Calls (helper): accept4 socketpair recvfrom sendto shutdown
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "jail/jail_internal.h"

enum { MANY_PAIRS = 32, ANSWERS = 65536, ROUND = 16 };

struct pair {
    int client, inner;
    char *in; /* of the client: whole lines up to `whole`, which may go on to the process */
    size_t in_len, whole, in_room;
    bool client_over, inner_over, told_over;
    bool long_line; /* the rest of a line that is longer than any request */
    char out[ANSWERS];
    size_t out_len;
};

struct relay {
    const struct jail_options *options;
    struct grants *grants;
    int clients, listener;
    struct pair *pair[RELAY_PAIRS];
    unsigned count;
    bool ending;
};

struct relay *relay_new(const struct jail_options *o, struct grants *g, int clients) {
    struct relay *r = calloc(1, sizeof(*r));

    if (r)
        *r = (struct relay){.options = o, .grants = g, .clients = clients, .listener = -1};
    return r;
}

void relay_listen(struct relay *r, int listener) { r->listener = listener; }

/* ------------------------------------------------------------------ a pair's life */

static void free_pair(struct pair *p) {
    close(p->client);
    close(p->inner);
    free(p->in);
    free(p);
}

static bool is_gone(const struct pair *p) {
    struct pollfd client = {.fd = p->client};

    return poll(&client, 1, 0) == 1 && client.revents & (POLLHUP | POLLERR);
}

/* Who came and went, and had much to say, does not take the place of others: the process could not
 * tell that they are gone, and would have somebody go who is there. */
static void forget_gone(struct relay *r) {
    unsigned kept = 0;

    for (unsigned i = 0; i < r->count; i++)
        if (is_gone(r->pair[i]))
            free_pair(r->pair[i]);
        else
            r->pair[kept++] = r->pair[i];
    r->count = kept;
}

static void accept_client(struct relay *r) {
    int fds[2], fd = accept4(r->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct pair *p;

    if (fd < 0)
        return;
    p = calloc(1, sizeof(*p));
    if (!p || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0) {
        free(p);
        close(fd);
        return;
    }
    p->client = fd;
    p->inner = fds[0];
    if (channel_send(r->clients, "c", 1, fds[1]) < 0) /* it does not look after its clients now */
        free_pair(p);
    else
        r->pair[r->count++] = p;
    close(fds[1]);
}

/* ------------------------------------------------------------------ to the process */

static void read_client(struct relay *r, struct pair *p) {
    size_t scanned = p->in_len;
    ssize_t n;

    if (p->in_len == p->in_room) {
        char *more = realloc(p->in, p->in_room * 2 + 4096);

        if (!more)
            return;
        p->in = more;
        p->in_room = p->in_room * 2 + 4096;
    }
    n = recv(p->client, p->in + p->in_len, p->in_room - p->in_len, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        p->client_over = true;
    if (n > 0)
        p->in_len += (size_t)n;
    for (; scanned < p->in_len; scanned++)
        if (p->in[scanned] == '\n') {
            if (!p->long_line)
                r->options->request(p->in + p->whole, scanned - p->whole, grants_add, r->grants);
            p->long_line = false;
            p->whole = scanned + 1;
        }
    /* Longer than the process takes: it is to say so. And the last words need no end. */
    if (p->client_over || p->in_len - p->whole > r->options->request_max) {
        p->long_line = true;
        p->whole = p->in_len;
    }
}

static void write_inner(struct pair *p) {
    ssize_t n = p->whole ? send(p->inner, p->in, p->whole, MSG_NOSIGNAL) : 0;

    if (n > 0) {
        memmove(p->in, p->in + n, p->in_len - (size_t)n);
        p->in_len -= (size_t)n;
        p->whole -= (size_t)n;
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        p->in_len = p->whole = 0; /* it listens no more; its last words still pass */
        p->client_over = true;
    }
    if (p->client_over && !p->whole && !p->told_over) {
        p->told_over = true;
        shutdown(p->inner, SHUT_WR);
    }
}

/* ------------------------------------------------------------------ to the client */

static void read_inner(struct pair *p) {
    ssize_t n = recv(p->inner, p->out + p->out_len, sizeof(p->out) - p->out_len, 0);

    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        p->inner_over = true;
    if (n > 0)
        p->out_len += (size_t)n;
}

static void write_client(struct pair *p) {
    ssize_t n = p->out_len ? send(p->client, p->out, p->out_len, MSG_NOSIGNAL) : 0;

    if (n > 0) {
        memmove(p->out, p->out + n, p->out_len - (size_t)n);
        p->out_len -= (size_t)n;
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        p->inner_over = true;
        p->out_len = 0;
    }
}

/* ------------------------------------------------------------------ waiting */

unsigned relay_poll(struct relay *r, struct pollfd *p, unsigned max) {
    unsigned n = 0;

    p[n++] = (struct pollfd){.fd = r->count < RELAY_PAIRS && !r->ending ? r->listener : -1,
                             .events = POLLIN};
    for (unsigned i = 0; i < r->count && n + 2 <= max; i++) {
        const struct pair *q = r->pair[i];
        bool reads = !q->client_over && !r->ending && !q->whole;
        short client = (short)((reads ? POLLIN : 0) | (q->out_len ? POLLOUT : 0));
        short inner = (short)((q->out_len < sizeof(q->out) && !q->inner_over ? POLLIN : 0) |
                              (q->whole ? POLLOUT : 0));

        p[n++] = (struct pollfd){.fd = client ? q->client : -1, .events = client};
        p[n++] = (struct pollfd){.fd = inner ? q->inner : -1, .events = inner};
    }
    return n;
}

static void pass(struct relay *r, struct pair *q, short client, short inner) {
    if (client & (POLLIN | POLLHUP | POLLERR) && !q->client_over && !r->ending && !q->whole)
        read_client(r, q);
    if (q->whole || q->client_over)
        write_inner(q);
    for (unsigned k = 0; k < ROUND && inner & (POLLIN | POLLHUP | POLLERR); k++) {
        size_t had = q->out_len;

        if (!q->inner_over && q->out_len < sizeof(q->out))
            read_inner(q);
        if (q->out_len == had)
            break;
        write_client(q);
    }
    if (q->out_len && client & (POLLOUT | POLLHUP | POLLERR))
        write_client(q);
}

void relay_polled(struct relay *r, const struct pollfd *p, unsigned n) {
    unsigned kept = 0, had = (n - 1) / 2;

    for (unsigned i = 0; i < r->count; i++) {
        struct pair *q = r->pair[i];

        if (i < had)
            pass(r, q, p[1 + 2 * i].revents, p[2 + 2 * i].revents);
        if (q->inner_over && !q->out_len)
            free_pair(q);
        else
            r->pair[kept++] = q;
    }
    r->count = kept;
    if (!(p[0].revents & POLLIN))
        return;
    if (r->count >= MANY_PAIRS)
        forget_gone(r);
    accept_client(r);
}

void relay_end(struct relay *r) { r->ending = true; }

bool relay_idle(const struct relay *r) { return !r->count; }
