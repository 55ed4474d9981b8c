/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The port of a switch that leads out: user-mode NAT (net/user.h), which is the gateway. In front
 * of it live the services of the network: DHCP, and DNS for the names of its machines; what else
 * is asked of the name server goes on to those of the host.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "net/user.h"
#include "switch/dhcp.h"
#include "switch/dns.h"
#include "switch/network.h"
#include "switch/packet.h"

/* As libslirp makes them of its addresses. */
static void mac_of(uint32_t address, uint8_t mac[6]) {
    mac[0] = 0x52;
    mac[1] = 0x55;
    store_be32(mac + 2, address);
}

/* The payload lies in the frame already. */
static void reply(struct uplink *u, uint8_t *frame, const uint8_t *to, const uint8_t *from,
                  const struct packet_udp *p) {
    size_t len = packet_make_udp(frame, to, from, p);

    switch_input(&u->port, frame, len, timer_now_ms());
}

static void serve_dhcp(struct uplink *u, const uint8_t *frame, const struct packet_udp *asked) {
    const struct config *c = &u->network->config;
    uint8_t out[PACKET_UDP_HEADERS + DHCP_MAX];
    struct dhcp_reply r;

    dhcp_answer(&c->directory, !c->isolated, frame + 6, asked->data, asked->len, &r);
    trace(switch_dhcp, frame[10], frame[11], r.len ? r.type : 0);
    if (!r.len)
        return;
    u->dhcp_answers++;
    memcpy(out + PACKET_UDP_HEADERS, r.data, r.len);
    reply(u, out, frame + 6, u->gateway_mac,
          &(struct packet_udp){.src = directory_gateway(&c->directory),
                               .dst = r.to,
                               .src_port = DHCP_SERVER_PORT,
                               .dst_port = DHCP_CLIENT_PORT,
                               .len = r.len});
}

/* False: somebody else answers that. */
static bool serve_dns(struct uplink *u, const uint8_t *frame, const struct packet_udp *asked) {
    const struct config *c = &u->network->config;
    uint8_t out[PACKET_UDP_HEADERS + DNS_MAX];
    size_t len = 0;

    switch (dns_answer(&c->directory, c->isolated, asked->data, asked->len,
                       out + PACKET_UDP_HEADERS, &len)) {
    case DNS_PASS:
        return false;
    case DNS_DROP:
        return true;
    case DNS_ANSWER:
        break;
    }
    u->dns_answers++;
    reply(u, out, frame + 6, u->dns_mac,
          &(struct packet_udp){.src = asked->dst,
                               .dst = asked->src,
                               .src_port = DNS_PORT,
                               .dst_port = asked->src_port,
                               .len = len});
    return true;
}

static bool uplink_deliver(struct switch_port *port, const uint8_t *frame, size_t len) {
    struct uplink *u = (struct uplink *)port;
    struct iovec iov = {(void *)frame, len};
    struct packet_udp p;

    if (packet_udp(frame, len, &p)) {
        if (p.dst_port == DHCP_SERVER_PORT) {
            serve_dhcp(u, frame, &p);
            return true;
        }
        if (p.dst_port == DNS_PORT && p.dst == directory_dns(&u->network->config.directory) &&
            serve_dns(u, frame, &p))
            return true;
    }
    net_send(u->user, &iov, 1);
    u->unflushed = true;
    return true;
}

static bool from_outside(void *opaque, const uint8_t *frame, size_t len) {
    struct uplink *u = opaque;

    switch_input(&u->port, frame, len, timer_now_ms());
    return true; /* a machine that has no room has lost it */
}

void uplink_flush(struct network *n) {
    if (n->uplink.unflushed)
        net_flush(n->uplink.user);
    n->uplink.unflushed = false;
}

int uplink_open(struct network *n, struct error *err) {
    const struct directory *d = &n->config.directory;
    const struct net_user_config c = {.network = d->subnet.network,
                                      .prefix = d->subnet.prefix,
                                      .host = directory_gateway(d),
                                      .nameserver = directory_dns(d),
                                      .dhcp_start = d->subnet.network + SUBNET_FIRST,
                                      .isolated = n->config.isolated,
                                      .connections = n->config.connections};
    struct uplink *u = &n->uplink;

    u->network = n;
    u->port.deliver = uplink_deliver;
    /* A frame for a machine that has not come back yet is not for the gateway: libslirp would
     * answer in its name, and reset its connections. */
    u->port.reserved = true;
    mac_of(directory_gateway(d), u->gateway_mac);
    mac_of(directory_dns(d), u->dns_mac);
    if (switch_add(n->core, &u->port) < 0 || switch_reserve(&u->port, u->gateway_mac) < 0 ||
        switch_reserve(&u->port, u->dns_mac) < 0)
        return error_set(err, -ENOMEM, "out of memory");
    u->user = net_user_open_at(n->loop, &c, err);
    if (!u->user)
        return -EINVAL;
    u->user->guest_mtu = n->config.mtu;
    u->user->receive = from_outside;
    u->user->opaque = u;
    return 0;
}

void uplink_close(struct network *n) { net_close(n->uplink.user); }
