/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TLS as a table of functions, for a program that seldom needs it: OpenSSL's libraries cost a start
 * more than a millisecond. Who wants it loads tls-module.so, which has nothing but this table
 * (tls_module_load in vm/); who links OpenSSL anyway takes `tls_module` itself.
 */
#ifndef PROTO_TLS_MODULE_H
#define PROTO_TLS_MODULE_H

#include "proto/certificate.h"
#include "proto/stream.h"

#define TLS_MODULE_SYMBOL "tls_module"

struct tls_module { /* of certificate.h and stream.h */
    int (*certificate_own)(struct certificate *c, const char *folder, struct error *err);
    struct tls *(*tls_new)(const char *cert_path, const char *key_path, struct error *err);
    void (*tls_free)(struct tls *t);
    int (*be_secure)(struct stream *s, struct tls *tls, struct error *err);
    int (*handshake)(struct stream *s);
    ssize_t (*recv)(struct stream *s, void *data, size_t n);
    bool (*pending)(const struct stream *s);
    ssize_t (*send)(struct stream *s, const void *data, size_t n);
    uint32_t (*events)(const struct stream *s, bool read, bool write);
    void (*done)(struct stream *s);
};

extern const struct tls_module tls_module;

#endif
