/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whom a client of TLS believes. The check comes after the handshake and before the first byte is
 * sent, so that a sentence can name the certificate that was shown.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/sha256.h"
#include "proto/stream.h"

static bool is_number(const char *host) {
    unsigned char a[sizeof(struct in6_addr)];

    return inet_pton(AF_INET, host, a) == 1 || inet_pton(AF_INET6, host, a) == 1;
}

struct tls *tls_new_client(const struct trust *t, struct error *err) {
    SSL_CTX *c = SSL_CTX_new(TLS_client_method());

    if (!c || SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION) != 1) {
        SSL_CTX_free(c);
        error_set(err, -ENOMEM, "TLS cannot be set up");
        return NULL;
    }
    SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(c, SSL_VERIFY_NONE, NULL); /* see tls_check_peer */
    if (t->ca_file ? SSL_CTX_load_verify_file(c, t->ca_file) != 1
                   : SSL_CTX_set_default_verify_paths(c) != 1) {
        if (t->ca_file) {
            error_set(err, -EINVAL, "'%s' cannot be read as certificates in PEM form", t->ca_file);
            SSL_CTX_free(c);
            return NULL;
        }
        ERR_clear_error(); /* a host without authorities */
    }
    return (struct tls *)c;
}

int stream_aim(struct stream *s, const char *host, struct error *err) {
    X509_VERIFY_PARAM *p = SSL_get0_param(s->ssl);
    bool good;

    if (is_number(host))
        good = X509_VERIFY_PARAM_set1_ip_asc(p, host) == 1;
    else
        good = SSL_set1_host(s->ssl, host) == 1 && SSL_set_tlsext_host_name(s->ssl, host) == 1;
    return good ? 0 : error_set(err, -EINVAL, "'%.200s' cannot be the name of a host", host);
}

static bool fingerprint_of(const struct stream *s, char out[SHA256_TEXT]) {
    X509 *x = SSL_get1_peer_certificate(s->ssl);
    unsigned char *der = NULL;
    struct sha256 sum;
    int n = x ? i2d_X509(x, &der) : -1;

    if (n > 0) {
        sha256_begin(&sum);
        sha256_put(&sum, der, (size_t)n);
        sha256_end_text(&sum, out);
    }
    OPENSSL_free(der);
    X509_free(x);
    return n > 0;
}

/* As people copy it: with colons, capitals, a word in front. */
static bool same_fingerprint(const char *given, const char *real) {
    if (!strncasecmp(given, "sha256:", 7) || !strncasecmp(given, "sha256=", 7))
        given += 7;
    for (;; given++) {
        if (*given == ':' || *given == ' ')
            continue;
        if (tolower((unsigned char)*given) != *real)
            return false;
        if (!*real++)
            return true;
    }
}

int tls_check_peer(const struct stream *s, const struct trust *t, const char *host,
                   struct error *err) {
    long verdict = SSL_get_verify_result(s->ssl);
    char real[SHA256_TEXT] = "";

    if (!fingerprint_of(s, real))
        return error_set(err, -EACCES, "'%.200s' showed no certificate", host);
    if (t->fingerprint && !same_fingerprint(t->fingerprint, real))
        return error_set(err, -EACCES,
                         "the certificate of '%.200s' is another one: its fingerprint is %s. Look "
                         "at its host with 'viv portal' whether it was changed",
                         host, real);
    if ((t->fingerprint && !t->ca_file) || verdict == X509_V_OK)
        return 0;
    return error_set(err, -EACCES,
                     "the certificate of '%.200s' is not trusted: %s. If 'viv portal' on its host "
                     "tells the fingerprint %s, give it with --fingerprint (or VIV_FINGERPRINT)",
                     host, X509_verify_cert_error_string(verdict), real);
}
