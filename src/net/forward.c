/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Port forwards as text. */
#include "net/forward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int port_number(const char *text, const char *word, uint16_t *ret, struct error *err) {
    unsigned long n = 0;
    const char *p = word;

    for (; *p >= '0' && *p <= '9' && n <= 65535; p++)
        n = n * 10 + (unsigned long)(*p - '0');
    if (p == word || *p || !n || n > 65535)
        return error_set(err, -EINVAL, "the forward '%s': '%.20s' is no port; ports are 1 to 65535",
                         text, word);
    *ret = (uint16_t)n;
    return 0;
}

int net_forward_parse(const char *s, struct net_forward *f, struct error *err) {
    static const char form[] = "write it as tcp:127.0.0.1:2222:22";
    const char *address, *end, *colon;
    struct in6_addr six;
    struct in_addr four;
    char number[16];

    if (strlen(s) >= NET_FORWARD_TEXT)
        return error_set(err, -EINVAL, "the forward '%.60s...' is too long: %s", s, form);
    *f = (struct net_forward){.udp = !strncmp(s, "udp:", 4)};
    if (!f->udp && strncmp(s, "tcp:", 4) != 0)
        return error_set(err, -EINVAL, "the forward '%s' names neither tcp nor udp: %s", s, form);
    address = s + 4;
    end = *address == '[' ? strchr(address, ']') : strchr(address, ':');
    if (end && *address == '[')
        address++;
    if (!end || (size_t)(end - address) >= sizeof(f->host))
        return error_set(err, -EINVAL, "the forward '%s' has no address: %s", s, form);
    memcpy(f->host, address, (size_t)(end - address));
    if (!*f->host)
        strcpy(f->host, "0.0.0.0");
    if (!inet_pton(AF_INET, f->host, &four) && !inet_pton(AF_INET6, f->host, &six))
        return error_set(err, -EINVAL, "the forward's address '%s' is not numeric: %s", f->host,
                         form);
    if (*end == ']')
        end++;
    colon = *end == ':' ? strchr(end + 1, ':') : NULL;
    if (!colon || (size_t)(colon - end - 1) >= sizeof(number))
        return error_set(err, -EINVAL, "the forward '%s' lacks a port: %s", s, form);
    memcpy(number, end + 1, (size_t)(colon - end - 1));
    number[colon - end - 1] = 0;
    if (port_number(s, number, &f->host_port, err) < 0)
        return -EINVAL;
    return port_number(s, colon + 1, &f->guest_port, err);
}

static const char *address_of(const struct net_forward *f) {
    return *f->host ? f->host : "127.0.0.1";
}

void net_forward_print(const struct net_forward *f, char out[NET_FORWARD_TEXT]) {
    bool six = strchr(f->host, ':');

    snprintf(out, NET_FORWARD_TEXT, "%s:%s%s%s:%u:%u", f->udp ? "udp" : "tcp", six ? "[" : "",
             address_of(f), six ? "]" : "", f->host_port, f->guest_port);
}

bool net_forward_clash(const struct net_forward *a, const struct net_forward *b) {
    return a->udp == b->udp && a->host_port == b->host_port &&
           !strcmp(address_of(a), address_of(b));
}

bool net_forward_equal(const struct net_forward *a, const struct net_forward *b) {
    return net_forward_clash(a, b) && a->guest_port == b->guest_port && a->guest == b->guest;
}
