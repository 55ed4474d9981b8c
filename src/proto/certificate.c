/* SPDX-License-Identifier: GPL-2.0-or-later */
/* X.509 (RFC 5280) by OpenSSL. A key is safe on the disk before its certificate is there, so that a
 * kill in between leaves nothing that would be used. */
#include "proto/certificate.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"

enum { DAYS = 3650, SERIAL_BITS = 127, NAME_ROOM = 256, NAMES_MAX = 8000 };

/* ------------------------------------------------------------------ names */

static void add_name(struct buf *names, const char *kind, const char *name) {
    char one[NAME_ROOM];

    snprintf(one, sizeof(one), "%s%s:%s", names->len ? "," : "", kind, name);
    if (names->len + strlen(one) < NAMES_MAX)
        buf_put(names, one, strlen(one));
}

/* What can be a name in a certificate; anything else would be read as syntax. */
static bool is_host_name(const char *s) {
    return *s && strlen(s) < 200 &&
           strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                     "0123456789.-") == strlen(s);
}

static void add_addresses(struct buf *names) {
    struct ifaddrs *all = NULL;
    char text[NI_MAXHOST];

    if (getifaddrs(&all) < 0)
        return;
    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        int family = i->ifa_addr ? i->ifa_addr->sa_family : AF_UNSPEC;
        socklen_t len =
            family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);

        if ((family != AF_INET && family != AF_INET6) || i->ifa_flags & IFF_LOOPBACK)
            continue;
        if (getnameinfo(i->ifa_addr, len, text, sizeof(text), NULL, 0, NI_NUMERICHOST) == 0 &&
            !strchr(text, '%')) /* link-local ones mean nothing to others */
            add_name(names, "IP", text);
    }
    freeifaddrs(all);
}

static void put_names(struct buf *names) {
    char host[HOST_NAME_MAX + 1] = "";

    add_name(names, "DNS", "localhost");
    if (gethostname(host, sizeof(host) - 1) == 0 && is_host_name(host) &&
        strcmp(host, "localhost") != 0)
        add_name(names, "DNS", host);
    add_name(names, "IP", "127.0.0.1");
    add_name(names, "IP", "::1");
    add_addresses(names);
    buf_put(names, "", 1);
}

/* ------------------------------------------------------------------ making */

static bool extend(X509 *x, int nid, const char *value) {
    X509V3_CTX context;
    X509_EXTENSION *e;
    bool good;

    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, x, x, NULL, NULL, 0);
    e = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    good = e && X509_add_ext(x, e, -1) == 1;
    X509_EXTENSION_free(e);
    return good;
}

static bool set_serial(X509 *x) {
    BIGNUM *n = BN_new();
    bool good = n && BN_rand(n, SERIAL_BITS, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1 &&
                BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x));

    BN_free(n);
    return good;
}

static bool set_subject(X509 *x) {
    X509_NAME *name = X509_get_subject_name(x);
    char host[HOST_NAME_MAX + 1] = "";

    if (gethostname(host, sizeof(host) - 1) < 0 || !is_host_name(host))
        snprintf(host, sizeof(host), "localhost");
    host[60] = 0; /* a common name has 64 characters at most */
    return X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const unsigned char *)"Vivarium",
                                      -1, -1, 0) == 1 &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)host, -1, -1,
                                      0) == 1 &&
           X509_set_issuer_name(x, name) == 1;
}

static X509 *make_certificate(EVP_PKEY *key) {
    struct buf names = {0};
    X509 *x = X509_new();
    bool good;

    put_names(&names);
    good = x && X509_set_version(x, X509_VERSION_3) == 1 && set_serial(x) && set_subject(x) &&
           X509_gmtime_adj(X509_getm_notBefore(x), -24L * 3600) && /* clocks differ */
           X509_time_adj_ex(X509_getm_notAfter(x), DAYS, 0, NULL) && X509_set_pubkey(x, key) == 1 &&
           extend(x, NID_basic_constraints, "critical,CA:FALSE") &&
           extend(x, NID_key_usage, "critical,digitalSignature") &&
           extend(x, NID_ext_key_usage, "serverAuth") &&
           extend(x, NID_subject_alt_name, (const char *)names.data) &&
           extend(x, NID_subject_key_identifier, "hash") &&
           extend(x, NID_authority_key_identifier, "keyid:always") &&
           X509_sign(x, key, EVP_sha256()) > 0;
    buf_done(&names);
    if (good)
        return x;
    X509_free(x);
    return NULL;
}

/* ------------------------------------------------------------------ files */

static int sync_folder(const char *folder) {
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = fd < 0 ? -errno : 0;

    if (fd >= 0 && fsync(fd) < 0)
        r = -errno;
    if (fd >= 0)
        close(fd);
    return r;
}

/* Appears whole and safe, or not at all. */
static int write_file(const char *folder, const char *path, bool (*put)(FILE *f, const void *what),
                      const void *what, struct error *err) {
    char part[PATH_MAX];
    FILE *f = NULL;
    int fd, r = 0;

    if (snprintf(part, sizeof(part), "%s.part", path) >= (int)sizeof(part))
        return error_set(err, -ENAMETOOLONG, "the name '%s' is too long", path);
    unlink(part);
    fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0)
        f = fdopen(fd, "w");
    if (!f || !put(f, what) || fflush(f) != 0 || fsync(fd) < 0)
        r = errno ? -errno : -EIO;
    if (f && fclose(f) != 0 && r == 0)
        r = -errno;
    if (!f && fd >= 0)
        close(fd);
    if (r == 0 && rename(part, path) < 0)
        r = -errno;
    if (r == 0)
        r = sync_folder(folder);
    return r == 0 ? 0 : error_set(err, r, "'%s' cannot be written: %s", path, strerror(-r));
}

static bool put_key(FILE *f, const void *key) {
    return PEM_write_PKCS8PrivateKey(f, (EVP_PKEY *)(uintptr_t)key, NULL, NULL, 0, NULL, NULL) == 1;
}

static bool put_certificate(FILE *f, const void *x) {
    return PEM_write_X509(f, (X509 *)(uintptr_t)x) == 1;
}

static int make(const struct certificate *c, const char *folder, struct error *err) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = key ? make_certificate(key) : NULL;
    int r;

    if (!x)
        r = error_set(err, -EIO, "a certificate cannot be made: %s",
                      ERR_reason_error_string(ERR_peek_last_error()));
    else if (unlink(c->cert) < 0 && errno != ENOENT)
        r = error_set(err, -errno, "'%s' cannot be replaced: %s", c->cert, strerror(errno));
    else if ((r = write_file(folder, c->key, put_key, key, err)) == 0)
        r = write_file(folder, c->cert, put_certificate, x, err);
    X509_free(x);
    EVP_PKEY_free(key);
    return r;
}

/* ------------------------------------------------------------------ reading */

static int64_t time_of(const ASN1_TIME *t) {
    struct tm tm;

    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) * 1000 : 0;
}

static int look_at(struct certificate *c, struct error *err) {
    FILE *f = fopen(c->cert, "re");
    X509 *x = f ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
    unsigned char *der = NULL;
    int n = x ? i2d_X509(x, &der) : -1, r = 0;

    if (!f)
        r = error_set(err, -errno, "the certificate '%s' cannot be read: %s", c->cert,
                      strerror(errno));
    else if (n < 0)
        r = error_set(err, -EINVAL, "'%s' is no certificate in PEM form", c->cert);
    else {
        struct sha256 sum;

        sha256_begin(&sum);
        sha256_put(&sum, der, (size_t)n);
        sha256_end_text(&sum, c->fingerprint);
        c->expires = time_of(X509_get0_notAfter(x));
    }
    OPENSSL_free(der);
    X509_free(x);
    if (f)
        fclose(f);
    return r;
}

int certificate_given(struct certificate *c, const char *cert, const char *key, struct error *err) {
    *c = (struct certificate){.expires = 0};
    snprintf(c->cert, sizeof(c->cert), "%s", cert);
    snprintf(c->key, sizeof(c->key), "%s", key);
    return look_at(c, err);
}

int certificate_own(struct certificate *c, const char *folder, struct error *err) {
    int r = 0;

    *c = (struct certificate){.expires = 0};
    snprintf(c->cert, sizeof(c->cert), "%.4000s/cert.pem", folder);
    snprintf(c->key, sizeof(c->key), "%.4000s/key.pem", folder);
    if (mkdir(folder, 0700) < 0 && errno != EEXIST)
        return error_set(err, -errno, "the folder '%s' cannot be made: %s", folder,
                         strerror(errno));
    if (access(c->cert, F_OK) < 0 || access(c->key, F_OK) < 0)
        r = make(c, folder, err);
    if (r == 0)
        r = look_at(c, err);
    if (r == 0 && c->expires < (int64_t)time(NULL) * 1000) {
        log_warning("the certificate '%s' has expired: a new one is made", c->cert);
        r = make(c, folder, err);
        if (r == 0)
            r = look_at(c, err);
    }
    return r;
}
