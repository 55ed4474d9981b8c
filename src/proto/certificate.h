/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A program's own certificate (the manager's, a VNC server's): made once, signed by itself, for all
 * names and addresses that this host has then. Who connects trusts it by its fingerprint, or takes
 * the file as its authority.
 */
#ifndef PROTO_CERTIFICATE_H
#define PROTO_CERTIFICATE_H

#include <limits.h>
#include <stdint.h>

#include "base/error.h"
#include "base/sha256.h"

struct certificate {
    char cert[PATH_MAX], key[PATH_MAX];
    char fingerprint[SHA256_TEXT]; /* SHA-256 of the whole, in hexadecimal digits */
    int64_t expires;               /* ms since 1970 */
};

/* That in `folder`, cert.pem and key.pem (mode 0600): made if one of them is missing or it has
 * expired. */
int certificate_own(struct certificate *c, const char *folder, struct error *err);
/* One that somebody else made. */
int certificate_given(struct certificate *c, const char *cert, const char *key, struct error *err);

#endif
