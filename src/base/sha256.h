/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SHA-256 (FIPS 180-4). */
#ifndef BASE_SHA256_H
#define BASE_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHA256_BYTES = 32, SHA256_TEXT = 65 };

struct sha256 {
    uint32_t h[8];
    uint64_t length;
    uint8_t block[64];
};

/* For tests: not by the processor's own instructions. */
extern bool sha256_plain;

void sha256_begin(struct sha256 *s);
void sha256_put(struct sha256 *s, const void *data, size_t n);
void sha256_end(struct sha256 *s, uint8_t out[SHA256_BYTES]);
/* The same as sha256sum prints it. */
void sha256_end_text(struct sha256 *s, char out[SHA256_TEXT]);

#endif
