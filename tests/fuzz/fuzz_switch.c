/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: what machines of a network send to the switch and its services, and configurations
 * of any content. What is answered must be whole: an answer of ours is read again by our own
 * reader.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "switch/config.h"
#include "switch/dhcp.h"
#include "switch/dns.h"
#include "switch/guard.h"
#include "switch/packet.h"
#include "switch/switch.h"

enum { PORTS = 3 };

static struct switch_port port[PORTS];
static struct directory directory = {.subnet = {0x0a4d0000, 24}};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(bool good) {
    if (!good)
        abort();
}

static bool deliver(struct switch_port *p, const uint8_t *frame, size_t len) {
    need(len >= SWITCH_FRAME_MIN && len <= SWITCH_FRAME_MAX);
    return frame[len - 1] != 0xfe; /* a port without room, now and then */
}

static bool allows(struct switch_port *p, const uint8_t *frame, size_t len) {
    return guard_allows(&directory, directory_by_mac(&directory, p->mac), p->mac, frame, len);
}

static void fill_directory(void) {
    struct member m = {.name = "web", .mac = {2, 0, 0, 0, 0, 1}, .address = 0x0a4d000a};

    if (directory.members)
        return;
    directory_add(&directory, &m, NULL);
    m = (struct member){.name = "db", .mac = {2, 0, 0, 0, 0, 2}, .address = 0x0a4d000b};
    directory_add(&directory, &m, NULL);
}

static void fuzz_frame(struct switch_core *s, const uint8_t *frame, size_t len, unsigned from,
                       int64_t now) {
    struct packet_udp p;

    switch_input(&port[from], frame, len, now);
    if (!packet_udp(frame, len, &p))
        return;
    need(p.data >= frame && p.data + p.len <= frame + len);
}

static void fuzz_dhcp(const uint8_t *data, size_t n) {
    const uint8_t *mac = n > 34 ? data + 28 : directory.member[0].mac;
    struct dhcp_reply r;

    dhcp_answer(&directory, n & 1, mac, data, n, &r);
    need(r.len <= DHCP_MAX);
    need(!r.len || (r.data[0] == 2 && load_be32(r.data + 236) == 0x63825363));
}

static void fuzz_dns(const uint8_t *data, size_t n) {
    uint8_t out[DNS_MAX], again[DNS_MAX];
    size_t len = 0, unused = 0;

    if (dns_answer(&directory, n & 1, data, n, out, &len) != DNS_ANSWER)
        return;
    need(len >= 12 && len <= DNS_MAX && (out[2] & 0x80));
    need(dns_answer(&directory, false, out, len, again, &unused) == DNS_DROP); /* no loops */
}

static void fuzz_config(const uint8_t *data, size_t n) {
    json_t *v = json_loadb((const char *)data, n, JSON_DECODE_ANY, NULL);
    struct error e = {0};
    struct config c;

    if (v && config_parse(v, &c, &e) == 0) {
        for (unsigned i = 0; i < c.forwards; i++)
            need(subnet_usable(&c.directory.subnet, c.forward[i].guest));
        config_done(&c);
    } else {
        need(!v || *e.text);
    }
    json_decref(v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct switch_core *s = switch_new();
    int64_t now = 0;

    fill_directory();
    for (unsigned i = 0; i < PORTS; i++) {
        port[i] = (struct switch_port){.deliver = deliver, .owned = i < 2};
        if (i < 2) {
            memcpy(port[i].mac, directory.member[i].mac, 6);
            port[i].allows = allows;
        }
        switch_add(s, &port[i]);
    }
    fuzz_config(data, size);
    while (size >= 4) {
        size_t n = load_le16(data) % 700;
        unsigned kind = data[2], from = data[3] % PORTS;
        uint8_t *exact;

        data += 4;
        size -= 4;
        n = n < size ? n : size;
        exact = malloc(n ? n : 1); /* so that the sanitizer sees the end */
        memcpy(exact, data, n);
        now += kind * 1000;
        if ((kind & 3) == 0 && n >= 12 && from < 2)
            memcpy(exact + 6, port[from].mac, 6); /* past the first gate */
        if ((kind & 3) < 2)
            fuzz_frame(s, exact, n, from, now);
        else if ((kind & 3) == 2)
            fuzz_dhcp(exact, n);
        else
            fuzz_dns(exact, n);
        free(exact);
        data += n;
        size -= n;
    }
    switch_free(s);
    return 0;
}
