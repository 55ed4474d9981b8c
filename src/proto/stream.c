/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TLS 1.2 and 1.3 by OpenSSL, on descriptors that do not block. */
#include "proto/stream.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* What OpenSSL said last, for a sentence. */
static const char *why(void) {
    unsigned long code = ERR_peek_last_error();
    const char *text = code ? ERR_reason_error_string(code) : NULL;

    return text ? text : "unknown reason";
}

static int load(SSL_CTX *c, const char *cert_path, const char *key_path, struct error *err) {
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(c, cert_path) != 1)
        return error_set(err, -EINVAL, "the certificate '%s' cannot be used: %s", cert_path, why());
    if (SSL_CTX_use_PrivateKey_file(c, key_path, SSL_FILETYPE_PEM) != 1)
        return error_set(err, -EINVAL, "the key '%s' cannot be used: %s", key_path, why());
    if (SSL_CTX_check_private_key(c) != 1)
        return error_set(err, -EINVAL, "the key '%s' is not that of the certificate '%s'", key_path,
                         cert_path);
    return 0;
}

struct tls *tls_new(const char *cert_path, const char *key_path, struct error *err) {
    SSL_CTX *c = SSL_CTX_new(TLS_server_method());

    if (!c || SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION) != 1) {
        SSL_CTX_free(c);
        error_set(err, -ENOMEM, "TLS cannot be set up: %s", why());
        return NULL;
    }
    SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                               SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                            SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    if (load(c, cert_path, key_path, err) == 0)
        return (struct tls *)c;
    SSL_CTX_free(c);
    return NULL;
}

void tls_free(struct tls *t) { SSL_CTX_free((SSL_CTX *)t); }

int stream_init(struct stream *s, int fd, struct tls *tls, struct error *err) {
    *s = (struct stream){.fd = fd};
    return tls ? stream_be_secure(s, tls, err) : 0;
}

int stream_be_secure(struct stream *s, struct tls *tls, struct error *err) {
    s->ssl = SSL_new((SSL_CTX *)tls);
    if (s->ssl && SSL_set_fd(s->ssl, s->fd) == 1) {
        if (SSL_is_server(s->ssl))
            SSL_set_accept_state(s->ssl);
        else
            SSL_set_connect_state(s->ssl);
        return 0;
    }
    SSL_free(s->ssl);
    s->ssl = NULL;
    return error_set(err, -ENOMEM, "a connection: out of memory");
}

void stream_done(struct stream *s) {
    if (s->ssl) {
        stream_shut(s);
        SSL_free(s->ssl);
    }
    if (s->fd >= 0)
        close(s->fd);
    *s = (struct stream){.fd = -1};
}

int stream_release(struct stream *s) {
    int fd = s->fd;

    *s = (struct stream){.fd = -1};
    return fd;
}

/* The result of an OpenSSL call that gave `n`. */
static ssize_t result(struct stream *s, int n, bool *ret_crossed, int own) {
    int code = n > 0 ? SSL_ERROR_NONE : SSL_get_error(s->ssl, n);

    *ret_crossed = (code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE) && code != own;
    switch (code) {
    case SSL_ERROR_NONE:
        return n;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return -EAGAIN;
    default:
        s->write_shut = true; /* OpenSSL must not be asked again */
        return -ECONNRESET;
    }
}

int stream_handshake(struct stream *s) {
    ssize_t r;

    if (!s->ssl)
        return 0;
    ERR_clear_error();
    r = result(s, SSL_do_handshake(s->ssl), &s->reads_by_writing, SSL_ERROR_WANT_READ);
    return r > 0 ? 0 : r == 0 ? -ECONNRESET : (int)r;
}

void stream_be_plain(struct stream *s) {
    SSL_free(s->ssl);
    s->ssl = NULL;
}

ssize_t stream_recv(struct stream *s, void *data, size_t n) {
    if (!s->ssl) {
        ssize_t r = recv(s->fd, data, n, MSG_DONTWAIT);

        return r >= 0 ? r : errno == EINTR ? -EAGAIN : -errno;
    }
    ERR_clear_error();
    return result(s, SSL_read(s->ssl, data, n > INT32_MAX ? INT32_MAX : (int)n),
                  &s->reads_by_writing, SSL_ERROR_WANT_READ);
}

bool stream_pending(const struct stream *s) { return s->ssl && SSL_pending(s->ssl) > 0; }

ssize_t stream_send(struct stream *s, const void *data, size_t n) {
    if (!s->ssl) {
        ssize_t r = send(s->fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);

        return r >= 0 ? r : errno == EINTR ? -EAGAIN : -errno;
    }
    if (s->write_shut)
        return -EPIPE;
    ERR_clear_error();
    return result(s, SSL_write(s->ssl, data, n > INT32_MAX ? INT32_MAX : (int)n),
                  &s->writes_by_reading, SSL_ERROR_WANT_WRITE);
}

void stream_shut(struct stream *s) {
    if (s->ssl && !s->write_shut && SSL_is_init_finished(s->ssl)) {
        ERR_clear_error();
        SSL_shutdown(s->ssl);
    }
    s->write_shut = true;
    if (s->fd >= 0 && !s->ssl)
        shutdown(s->fd, SHUT_WR);
}

uint32_t stream_events(const struct stream *s, bool read, bool write) {
    uint32_t events = 0;

    if (read)
        events |= s->reads_by_writing ? EPOLLOUT : EPOLLIN;
    if (write)
        events |= s->writes_by_reading ? EPOLLIN : EPOLLOUT;
    return events;
}
