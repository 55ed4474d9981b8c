/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Forwards as people write them. */
#include "proto/forward_words.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool read_port(const char *s, size_t n, uint16_t *ret) {
    unsigned long v = 0;

    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9' || v > 65535)
            return false;
        v = v * 10 + (unsigned long)(s[i] - '0');
    }
    *ret = (uint16_t)v;
    return n && v && v <= 65535;
}

int forward_parse(const char *s, struct forward_words *ret, struct error *err) {
    struct forward_words f = {.udp = !strncmp(s, "udp:", 4), .address = "127.0.0.1"};
    const char *at = f.udp || !strncmp(s, "tcp:", 4) ? s + 4 : s, *end = strchr(at, '/'), *colon;
    uint32_t address;
    size_t n;

    if (end && strcmp(end, "/udp") != 0 && strcmp(end, "/tcp") != 0)
        return error_set(err, -EINVAL, "the forward '%.60s' ends neither in /udp nor in /tcp", s);
    f.udp |= end && !strcmp(end, "/udp");
    if (!end)
        end = at + strlen(at);
    colon = strchr(at, ':');
    if (colon && colon < end && memchr(colon + 1, ':', (size_t)(end - colon - 1))) {
        n = (size_t)(colon - at);
        snprintf(f.address, sizeof(f.address), "%.*s", (int)(n < 15 ? n : 15), at);
        if (n > 15 || !address_parse(f.address, &address))
            return error_set(err, -EINVAL,
                             "the forward '%.60s' has no IPv4 address of this host in front: write "
                             "127.0.0.1:8080:80",
                             s);
        at = colon + 1;
        colon = strchr(at, ':');
    }
    if (!colon || colon >= end || !read_port(at, (size_t)(colon - at), &f.host_port) ||
        !read_port(colon + 1, (size_t)(end - colon - 1), &f.guest_port))
        return error_set(err, -EINVAL,
                         "the forward '%.60s' has a port that cannot be: write HOSTPORT:GUESTPORT, "
                         "each 1 to 65535",
                         s);
    *ret = f;
    return 0;
}

void forward_print(const struct forward_words *f, char out[FORWARD_TEXT]) {
    snprintf(out, FORWARD_TEXT, "%s:%s:%u:%u", f->udp ? "udp" : "tcp", f->address, f->host_port,
             f->guest_port);
}
