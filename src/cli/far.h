/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A manager on another host: where it is, what is shown to it, whom to believe. Flags become
 * variables of the environment, so that programs that viv starts (ssh, which starts viv) have them.
 *
 *   --url VIV_URL    --token-file VIV_TOKEN_FILE or VIV_TOKEN
 *   --cacert VIV_CACERT    --fingerprint VIV_FINGERPRINT
 */
#ifndef CLI_FAR_H
#define CLI_FAR_H

#include "proto/stream.h"

struct far {
    char host[256], port[8];
    char authority[280]; /* HOST:PORT as a header has it */
    char token[200];
    struct trust trust;
    struct tls *tls;
};

/* False: VIV_URL is not set, the manager is that of this host. With `err` set: it is wrong. */
bool far_find(struct far *f, struct error *err);
void far_done(struct far *f);
/* Connected, and known to be who it should be. */
int far_connect(struct far *f, struct stream *ret, struct error *err);
/* A plain socket in place of a stream under TLS, which is taken: a thread carries the bytes. */
int far_plain(struct stream *s, struct error *err);

#endif
