/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A connection as a stream of bytes, plain or under TLS, that never waits. The files that know
 * OpenSSL are stream.c, trust.c and, for other things than TLS, certificate.c and host/ws.c.
 *
 * Contract: one thread at a time. Functions give a count, 0 for the end, or a negative errno; after
 * -EAGAIN, stream_events tells what to wait for beside what the caller waits for anyway.
 */
#ifndef PROTO_STREAM_H
#define PROTO_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct tls; /* a certificate with its key, or what is trusted: for any number of connections */

struct stream {
    int fd;
    struct ssl_st *ssl; /* NULL: plain */
    bool reads_by_writing, writes_by_reading;
    bool write_shut;
};

enum { STREAM_STEP = 16 * 1024 /* a record of TLS: whoever reads so much leaves nothing behind */ };

struct tls *tls_new(const char *cert_path, const char *key_path, struct error *err);
void tls_free(struct tls *t); /* accepts NULL; connections live on */

struct trust {           /* whom a client believes (trust.c) */
    const char *ca_file; /* NULL: the authorities of this host */
    const char
        *fingerprint; /* SHA-256 of the certificate in hexadecimal digits: it alone; or NULL */
};

/* For the asking side. */
struct tls *tls_new_client(const struct trust *t, struct error *err);
/* After the handshake: is it `host`, by a certificate that is trusted? */
int tls_check_peer(const struct stream *s, const struct trust *t, const char *host,
                   struct error *err);

/* Takes the descriptor, which does not block. */
int stream_init(struct stream *s, int fd, struct tls *tls, struct error *err);
/* Whom the stream of a client is to reach; before the handshake. */
int stream_aim(struct stream *s, const char *host, struct error *err);
/* Tells the end to the other side, if it can be told now, and closes. */
void stream_done(struct stream *s);
/* Gives the descriptor of a plain stream away. */
int stream_release(struct stream *s);

int stream_handshake(struct stream *s); /* 0: done */
/* From the next byte on under TLS; before the handshake. */
int stream_be_secure(struct stream *s, struct tls *tls, struct error *err);
void stream_be_plain(struct stream *s); /* before the handshake has begun */
ssize_t stream_recv(struct stream *s, void *data, size_t n);
/* Bytes that were taken from the socket and not read: no event tells of them. */
bool stream_pending(const struct stream *s);
ssize_t stream_send(struct stream *s, const void *data, size_t n);
/* Nothing more will be sent. Under TLS it is said within, and the connection stays whole. */
void stream_shut(struct stream *s);
/* The events to wait for, for one who wants to read or to write. */
uint32_t stream_events(const struct stream *s, bool read, bool write);

#endif
