/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of the functions of TLS. */
#include "proto/tls_module.h"

const struct tls_module tls_module = {
    .certificate_own = certificate_own,
    .tls_new = tls_new,
    .tls_free = tls_free,
    .be_secure = stream_be_secure,
    .handshake = stream_handshake,
    .recv = stream_recv,
    .pending = stream_pending,
    .send = stream_send,
    .events = stream_events,
    .done = stream_done,
};
