/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Secrets: random, shown once, and kept as what does not lead back to them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "host/auth.h"

void secret_new(const char *prefix, char out[AUTH_TEXT]) {
    uint8_t bytes[AUTH_SECRET];
    size_t at = strlen(prefix);

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        abort(); /* a kernel that cannot is none that we run on */
    memcpy(out, prefix, at);
    for (unsigned i = 0; i < AUTH_SECRET; i++, at += 2)
        snprintf(out + at, 3, "%02x", bytes[i]);
}

/* A secret of 256 random bits needs no salt and no slowness. */
void secret_hash(const char *secret, char out[SHA256_TEXT]) {
    struct sha256 s;

    sha256_begin(&s);
    sha256_put(&s, secret, strlen(secret));
    sha256_end_text(&s, out);
}

bool secret_same(const char *a, const char *b) {
    size_t n = strlen(a);
    unsigned char differ = 0;

    if (strlen(b) != n)
        return false;
    for (size_t i = 0; i < n; i++)
        differ |= (unsigned char)(a[i] ^ b[i]);
    return !differ;
}
