/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TLS inside of VNC: VeNCrypt 0.2 with certificates.
 * Source: the rfbproto community's description, section "VeNCrypt".
 *
 *   server 19 | client 19 | server 0.2 | client 0.2 | server 0 (good), n, n subtypes of 4 bytes
 *   client subtype | server 1 | TLS handshake | as the subtype says: nothing, the challenge of the
 *   VNC password, or u32 + u32 lengths, name and password
 *
 * Of the subtypes those with a certificate are offered (X509...): the anonymous ones protect
 * against nobody who sits in between. Nothing may follow the choice before we have agreed to it:
 * what came in the clear must not be taken for something that came under TLS.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "display/vnc_internal.h"

enum { X509_NONE = 260, X509_VNC = 261, X509_PLAIN = 262, PLAIN_HEADER = 8 };

int vnc_tls_open(struct vnc *v, struct error *err) {
    struct certificate c;

    if (!*v->options.tls)
        return 0;
    if (v->options.module->certificate_own(&c, v->options.tls, err) < 0)
        return error_prefix(err, "VNC");
    v->tls = v->options.module->tls_new(c.cert, c.key, err);
    if (!v->tls)
        return error_prefix(err, "VNC");
    log_notice("VNC under TLS: viewers trust '%s', with the SHA-256 fingerprint %s", c.cert,
               c.fingerprint);
    return 0;
}

ssize_t vnc_recv(struct vnc_client *c, void *p, size_t n) {
    ssize_t r;

    if (c->secure)
        return c->vnc->options.module->recv(&c->stream, p, n);
    r = recv(c->fd, p, n, MSG_DONTWAIT);
    return r >= 0 ? r : errno == EINTR || errno == EWOULDBLOCK ? -EAGAIN : -errno;
}

ssize_t vnc_send(struct vnc_client *c, const void *p, size_t n) {
    ssize_t r;

    if (c->secure)
        return c->vnc->options.module->send(&c->stream, p, n);
    do
        r = send(c->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (r < 0 && errno == EINTR);
    return r >= 0 ? r : errno == EWOULDBLOCK ? -EAGAIN : -errno;
}

bool vnc_pending(const struct vnc_client *c) {
    return c->secure && c->vnc->options.module->pending(&c->stream);
}

uint32_t vnc_events(const struct vnc_client *c, bool read, bool write) {
    if (c->secure)
        return c->vnc->options.module->events(&c->stream, read, write);
    return (read ? EPOLLIN : 0u) | (write ? EPOLLOUT : 0u);
}

void vnc_hang_up(struct vnc_client *c) {
    if (c->secure)
        c->vnc->options.module->done(&c->stream);
    else
        close(c->fd);
    c->secure = false;
    c->fd = -1;
}

/* A password that the challenge can prove is offered both ways. */
static unsigned offered(const struct vnc *v, uint32_t subtypes[2]) {
    unsigned n = 0;

    if (!v->has_password) {
        subtypes[n++] = X509_NONE;
        return n;
    }
    if (strlen(v->password) <= VNC_PASSWORD)
        subtypes[n++] = X509_VNC;
    subtypes[n++] = X509_PLAIN;
    return n;
}

static int take_version(struct vnc_client *c) {
    uint32_t subtypes[2];
    uint8_t bytes[2] = {0, (uint8_t)offered(c->vnc, subtypes)};

    if (c->in_len < 2)
        return 0;
    if (c->in[0] != 0 || c->in[1] != 2) {
        vnc_put(c, "\377", 1);
        c->leaving = true;
        vnc_flush(c);
        return -1;
    }
    vnc_put(c, bytes, sizeof(bytes));
    for (unsigned i = 0; i < bytes[1]; i++)
        vnc_put_be32(c, subtypes[i]);
    c->state = VNC_SUBTYPE;
    vnc_flush(c);
    return 2;
}

static int take_subtype(struct vnc_client *c) {
    uint32_t subtypes[2], n = offered(c->vnc, subtypes);

    if (c->in_len < 4)
        return 0;
    c->subtype = load_be32(c->in);
    for (unsigned i = 0; i < n; i++)
        if (subtypes[i] == c->subtype && c->in_len == 4) {
            vnc_put(c, "\1", 1);
            c->wants_tls = true;
            vnc_flush(c);
            return 4;
        }
    vnc_put(c, "", 1);
    c->leaving = true;
    vnc_flush(c);
    return -1;
}

void vnc_tls_begin(struct vnc_client *c) {
    c->wants_tls = false;
    c->state = VNC_TLS;
    if (c->vnc->options.module->be_secure(&c->stream, c->vnc->tls, NULL) < 0) {
        vnc_drop(c);
        return;
    }
    c->secure = true;
    loop_modify(c->watch, vnc_events(c, true, false));
}

void vnc_tls_go_on(struct vnc_client *c) {
    int r = c->vnc->options.module->handshake(&c->stream);

    if (r == -EAGAIN) {
        loop_modify(c->watch, vnc_events(c, true, false));
        return;
    }
    if (r < 0) {
        vnc_drop(c);
        return;
    }
    if (c->subtype == X509_PLAIN)
        c->state = VNC_PLAIN;
    else if (c->subtype == X509_NONE)
        vnc_let_in(c);
    else if (vnc_send_challenge(c) < 0)
        return;
    vnc_flush(c);
}

static bool equal(const char *wanted, const uint8_t *given, uint32_t n) {
    uint8_t differ = strlen(wanted) != n;

    for (uint32_t i = 0; i < n; i++)
        differ |= given[i] ^ (uint8_t)wanted[i];
    return !differ;
}

/* Whoever knows the password may call himself anything. */
static int take_plain(struct vnc_client *c) {
    uint32_t name, password;
    bool right;

    if (c->in_len < PLAIN_HEADER)
        return 0;
    name = load_be32(c->in);
    password = load_be32(c->in + 4);
    if (name > VNC_PASSWORD_MAX || password > VNC_PASSWORD_MAX) {
        vnc_send_away(c, "The name or the password is too long.");
        return -1;
    }
    if (c->in_len < PLAIN_HEADER + name + password)
        return 0;
    right = equal(c->vnc->password, c->in + PLAIN_HEADER + name, password);
    explicit_bzero(c->in + PLAIN_HEADER + name, password);
    if (vnc_judge(c, right) < 0)
        return -1;
    vnc_put_be32(c, 0);
    c->state = VNC_INIT;
    vnc_flush(c);
    return (int)(PLAIN_HEADER + name + password);
}

int vnc_vencrypt(struct vnc_client *c) {
    if (c->wants_tls) { /* it speaks before we have agreed */
        vnc_drop(c);
        return -1;
    }
    return c->state == VNC_VENCRYPT ? take_version(c)
           : c->state == VNC_PLAIN  ? take_plain(c)
                                    : take_subtype(c);
}
