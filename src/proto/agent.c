/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proto/agent.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/unix_socket.h"

static int wait_for(int fd, short events, int timeout_ms) {
    struct pollfd p = {.fd = fd, .events = events};
    int r;

    do
        r = poll(&p, 1, timeout_ms);
    while (r < 0 && errno == EINTR);
    return r;
}

static int write_all(int fd, const uint8_t *p, size_t n, struct error *err) {
    while (n) {
        ssize_t done = send(fd, p, n, MSG_NOSIGNAL);

        if (done < 0 && errno == EAGAIN) {
            wait_for(fd, POLLOUT, -1);
        } else if (done < 0 && errno != EINTR) {
            return error_set(err, -errno, "the connection to the guest's agent broke off: %s",
                             strerror(errno));
        } else if (done > 0) {
            p += done;
            n -= (size_t)done;
        }
    }
    return 0;
}

int agent_send(int fd, enum agent_frame type, const void *p, size_t n, struct error *err) {
    uint8_t frame[AGENT_HEADER + AGENT_FRAME_MAX];

    if (n > AGENT_FRAME_MAX)
        return error_set(err, -EMSGSIZE, "a message of %zu bytes is too long: at most %d", n,
                         AGENT_FRAME_MAX);
    store_le32(frame, (uint32_t)n);
    frame[4] = (uint8_t)type;
    if (n)
        memcpy(frame + AGENT_HEADER, p, n);
    return write_all(fd, frame, AGENT_HEADER + n, err);
}

int agent_send_json(int fd, enum agent_frame type, json_t *v, struct error *err) {
    char *s = v ? json_dumps(v, JSON_COMPACT) : NULL;
    int r = s ? agent_send(fd, type, s, strlen(s), err)
              : error_set(err, -ENOMEM, "a message to the guest's agent: out of memory");

    free(s);
    json_decref(v);
    return r;
}

static bool complete(const struct agent_reader *r) {
    return r->len >= AGENT_HEADER && r->len - AGENT_HEADER >= load_le32(r->bytes);
}

static int fill(struct agent_reader *r, struct error *err) {
    ssize_t n = recv(r->fd, r->bytes + r->len, sizeof(r->bytes) - r->len, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0)
        return error_set(err, n < 0 ? -errno : -ECONNRESET,
                         "the connection to the guest's agent broke off: %s",
                         n < 0 ? strerror(errno) : "the other end closed it");
    r->len += (size_t)n;
    return 0;
}

int agent_receive(struct agent_reader *r, int timeout_ms, enum agent_frame *ret_type,
                  const uint8_t **ret_bytes, size_t *ret_len, struct error *err) {
    int done;

    r->len -= r->taken;
    memmove(r->bytes, r->bytes + r->taken, r->len);
    r->taken = 0;
    while (!complete(r)) {
        if (r->len >= AGENT_HEADER &&
            (load_le32(r->bytes) > AGENT_FRAME_MAX || r->bytes[4] >= AGENT_FRAMES))
            return error_set(err, -EPROTO,
                             "what came from the guest's agent is no frame: is another program "
                             "listening on its port, or a newer version?");
        done = wait_for(r->fd, POLLIN, timeout_ms);
        if (done == 0)
            return 0;
        done = fill(r, err);
        if (done < 0)
            return done;
    }
    if (r->bytes[4] >= AGENT_FRAMES)
        return error_set(err, -EPROTO, "the guest's agent sent a frame of unknown type %u",
                         r->bytes[4]);
    *ret_type = (enum agent_frame)r->bytes[4];
    *ret_len = load_le32(r->bytes);
    *ret_bytes = r->bytes + AGENT_HEADER;
    r->taken = AGENT_HEADER + *ret_len;
    return 1;
}

json_t *agent_json(const uint8_t *p, size_t n, struct error *err) {
    json_error_t e;
    json_t *v = json_loadb((const char *)p, n, JSON_REJECT_DUPLICATES, &e);

    if (json_is_object(v))
        return v;
    error_set(err, -EPROTO, "a message of the guest's agent is no object of JSON: %s",
              v ? "something else" : e.text);
    json_decref(v);
    return NULL;
}

/* ---- the host's way in ---- */

/* The answer to the greeting, byte by byte, so that nothing of what follows is taken. */
static int read_answer(int fd, int timeout_ms, struct error *err) {
    char line[32];
    size_t n = 0;

    while (n < sizeof(line) - 1) {
        int r = wait_for(fd, POLLIN, timeout_ms);
        ssize_t got = r > 0 ? recv(fd, line + n, 1, 0) : -1;

        if (r == 0)
            return error_set(err, -ETIMEDOUT,
                             "the guest does not answer: is it still booting, or stopped?");
        if (got <= 0)
            return error_set(err, -ECONNREFUSED,
                             "nobody answers in the guest: viv-agent does not run there, or the "
                             "guest has not loaded its vsock driver yet");
        if (line[n++] == '\n')
            break;
    }
    if (n < 4 || strncmp(line, "OK ", 3) != 0)
        return error_set(err, -EPROTO, "the socket is no vsock of viv-vm: it does not answer OK");
    return 0;
}

int agent_connect(const char *path, int timeout_ms, struct error *err) {
    char greeting[32];
    int fd = unix_socket_connect(path, timeout_ms < 0 ? 10000 : timeout_ms, err);
    int n = snprintf(greeting, sizeof(greeting), "CONNECT %d\n", AGENT_PORT), r;

    if (fd < 0)
        return fd;
    r = write_all(fd, (const uint8_t *)greeting, (size_t)n, err);
    if (r == 0)
        r = read_answer(fd, timeout_ms, err);
    if (r == 0)
        return fd;
    close(fd);
    return r;
}
