/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio network device: one pair of queues, no control queue.
 * Source: Virtual I/O Device (VIRTIO) Version 1.2, section 5.1.
 *
 *   header (12 bytes, before every frame)   0 flags (1 checksum to be completed, 2 checksum
 * verified) 1 segmentation type, 2 header length u16, 4 segment size u16, 6 checksum start u16, 8
 * checksum offset u16, 10 number of buffers u16
 *
 * Theory of operation: a frame from the guest is copied once into a buffer of ours, so that the
 * guest cannot change it while it is looked at; a checksum left to us is completed there. The port
 * takes TCP segments larger than the MTU or says that it does not (big_tcp), so nothing is
 * segmented here.
 *
 * A frame for the guest may take several buffers (VIRTIO_NET_F_MRG_RXBUF); the driver must see all
 * of them at once. So the chains are first counted, put back, and then taken again and filled. When
 * there are too few the port keeps the frame, and only then does the driver get asked to kick the
 * receive queue.
 *
 * The cable can be pulled out and put in again, after which guests ask for their addresses anew. A
 * driver looks at the link's status only when it gets round to it, and sees nothing of a change
 * that was undone before: so the cable stays out until the driver has seen it, and a little longer
 * for the programs that the driver tells.
 */
#include "devices/virtio/virtio_net.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "base/zero.h"
#include "devices/virtio/virtio.h"
#include "net/checksum.h"
#include "net/net.h"

#define F_CSUM       (1ull << 0)
#define F_GUEST_CSUM (1ull << 1)
#define F_MTU        (1ull << 3)
#define F_MAC        (1ull << 5)
#define F_HOST_TSO4  (1ull << 11)
#define F_HOST_TSO6  (1ull << 12)
#define F_HOST_ECN   (1ull << 13)
#define F_MRG_RXBUF  (1ull << 15)
#define F_STATUS     (1ull << 16)

enum { RX = 0, TX = 1 };
enum { HDR_NEEDS_CSUM = 1, HDR_DATA_VALID = 2 };
enum { GSO_NONE = 0, GSO_TCPV4 = 1, GSO_TCPV6 = 4, GSO_ECN = 0x80 };
enum { STATUS_LINK_UP = 1 };
enum { CONFIG_STATUS = 6 };
/* Once the driver has seen it: Linux tells its programs up to a second later, or not at all if that
 * was undone meanwhile, and a busy host makes a guest slow. */
#define UNPLUGGED_NS 5000000000ull
#define UNSEEN_NS    10000000000ull /* drivers that look never need not stay cut off */
enum {
    QUEUE_SIZE = 256,
    HEADER = 12,
    ETHERNET = 14,
    FRAME_MIN = 14,
    DEFAULT_MTU = 1500,
    CONFIG_SIZE = 12,
};

struct virtio_net {
    struct virtio virtio; /* first */
    struct net_port *port;
    uint8_t mac[6];
    bool unplugged, noticed; /* the cable is out; the driver has seen that */
    uint64_t plug_at;        /* until then, on the machine's clock */
    struct clock_timer plug;
    bool pushed;               /* to the receive queue, since its last interrupt */
    struct virtio_chain chain; /* the one at hand; only within a call */
    uint8_t *frame; /* NET_FRAME_MAX bytes; apart, as the struct is copied to check saved state */
};

/* ------------------------------------------------------------------ guest to network */

/*
 * 5.1.6.2: the field holds the sum of the pseudo header; what is to be stored there is the checksum
 * from csum_start to the end. The bytes stay in memory order throughout, so no swapping is needed.
 */
static bool complete_checksum(struct virtio_net *d, const uint8_t *header, size_t len) {
    size_t start = load_le16(header + 6), field = start + load_le16(header + 8);
    uint16_t sum;

    if (start >= len || field + 2 > len)
        return false;
    sum = checksum_end(checksum_add(0, d->frame + start, len - start));
    if (!sum)
        sum = 0xffff; /* in UDP 0 means "none"; in TCP both are the same number */
    memcpy(d->frame + field, &sum, sizeof(sum));
    return true;
}

static bool segmentation_negotiated(const struct virtio_net *d, uint8_t type) {
    if ((type & GSO_ECN) && !virtio_has(&d->virtio, F_HOST_ECN))
        return false;
    switch (type & ~GSO_ECN) {
    case GSO_NONE:
        return type == GSO_NONE;
    case GSO_TCPV4:
        return virtio_has(&d->virtio, F_HOST_TSO4);
    case GSO_TCPV6:
        return virtio_has(&d->virtio, F_HOST_TSO6);
    default:
        return false;
    }
}

/* Copies the frame out of the chain; its length, 0 if it cannot be sent. */
static size_t take_frame(struct virtio_net *d, const struct virtio_chain *c) {
    uint8_t header[HEADER];
    size_t len;

    if (c->out_len < HEADER + FRAME_MIN || c->out_len > HEADER + NET_FRAME_MAX)
        return 0;
    iov_read(c->iov, c->out_count, 0, header, HEADER);
    len = iov_read(c->iov, c->out_count, HEADER, d->frame, NET_FRAME_MAX);
    if (!segmentation_negotiated(d, header[1]))
        return 0;
    if (header[1] == GSO_NONE && len > ETHERNET + 4u + (d->port->mtu ? d->port->mtu : DEFAULT_MTU))
        return 0;
    if (!(header[0] & HDR_NEEDS_CSUM))
        return len;
    return virtio_has(&d->virtio, F_CSUM) && complete_checksum(d, header, len) ? len : 0;
}

static void transmit(struct virtio_net *d) {
    struct virtio *v = &d->virtio;
    struct virtio_chain *c = &d->chain;
    bool sent = false, pushed = false;

    while (virtio_pop(v, TX, c) == 1) {
        size_t len = d->port && !d->unplugged ? take_frame(d, c) : 0;
        struct iovec iov = {d->frame, len};

        if (len) {
            net_send(d->port, &iov, 1);
            sent = true;
        } else {
            stat_inc(virtio_net_tx_dropped);
            trace(virtio_net_tx_dropped, v->pci.dev.name, c->out_len);
        }
        virtio_push(v, c, 0);
        pushed = true;
    }
    if (pushed)
        virtio_interrupt(v, TX);
    if (sent)
        net_flush(d->port); /* replies arrive from here */
}

/* ------------------------------------------------------------------ network to guest */

/* The largest frame for a driver that gives one buffer a frame (5.1.6.3.1). */
static size_t one_buffer_max(const struct virtio_net *d) {
    bool told = d->port && virtio_has(&d->virtio, F_MTU);

    return ETHERNET + (size_t)(told ? d->port->mtu : DEFAULT_MTU);
}

enum { TOO_FEW = 0, NEVER = -1 }; /* answers of count_chains besides a count */

/* How many chains hold `len` bytes; TOO_FEW now, or NEVER (too large for the queue, or the ring is
 * broken). */
static int count_chains(struct virtio_net *d, size_t len) {
    struct virtio *v = &d->virtio;
    struct virtio_chain *c = &d->chain;
    bool merge = virtio_has(v, F_MRG_RXBUF);
    uint64_t room = 0;
    int n = 0, r = 1;

    while (room < len && n < v->queue[RX].size && (r = virtio_pop(v, RX, c)) == 1) {
        n++;
        room += c->in_len;
        if (c->in_len < HEADER || (!merge && c->in_len < len)) {
            virtio_broken(v, "a receive buffer is smaller than the driver's features demand");
            return NEVER;
        }
    }
    if (r < 0)
        return NEVER;
    for (int i = 0; i < n; i++)
        virtio_unpop(v, c); /* it looks only at the queue, which is the same for all of them */
    if (room >= len)
        return n;
    return n == v->queue[RX].size ? NEVER : TOO_FEW;
}

/* Fills `count` chains with header and frame and shows them to the driver in one step. */
static void fill_chains(struct virtio_net *d, const uint8_t *header, const uint8_t *frame,
                        size_t len, int count) {
    struct virtio *v = &d->virtio;
    struct virtio_chain *c = &d->chain;
    size_t done = 0;

    for (int i = 0; i < count; i++) {
        struct iovec *in = c->iov;
        size_t head = i ? 0 : HEADER, part;

        if (virtio_pop(v, RX, c) != 1 || c->in_len < head) {
            virtio_broken(v, "receive buffers changed while they were available");
            return;
        }
        in += c->out_count;
        iov_write(in, c->in_count, 0, header, head);
        part = iov_write(in, c->in_count, head, frame + done, len - done);
        done += part;
        if (i + 1 < count)
            virtio_push_later(v, c, (uint32_t)(head + part));
        else if (done == len)
            virtio_push(v, c, (uint32_t)(head + part));
        else
            virtio_broken(v, "receive buffers shrank while they were available");
    }
}

static void drop(struct virtio_net *d, size_t len) {
    stat_inc(virtio_net_rx_dropped);
    trace(virtio_net_rx_dropped, d->virtio.pci.dev.name, len);
}

/* True: taken or dropped for good. False: no room now. */
static bool receive(void *opaque, const uint8_t *frame, size_t len) {
    struct virtio_net *d = opaque;
    struct virtio *v = &d->virtio;
    uint8_t header[HEADER] = {0};
    int n;

    if (!clock_running(v->pci.dev.env.clock))
        return false; /* the machine is paused */
    if (!virtio_live(v) || d->unplugged || len < FRAME_MIN || len > NET_FRAME_MAX ||
        (!virtio_has(v, F_MRG_RXBUF) && len > one_buffer_max(d))) {
        drop(d, len);
        return true;
    }
    n = count_chains(d, HEADER + len);
    /* Only a driver that ran dry needs to say when it has buffers again. */
    if (n == TOO_FEW && virtio_want_kick(v, RX, true))
        n = count_chains(d, HEADER + len);
    if (n == TOO_FEW)
        return false;
    if (n == NEVER) {
        drop(d, len);
        return true;
    }
    if (d->port->checked && virtio_has(v, F_GUEST_CSUM))
        header[0] = HDR_DATA_VALID;
    store_le16(header + 10, (uint16_t)n);
    fill_chains(d, header, frame, len, n);
    d->pushed = true;
    return true;
}

static void received(void *opaque) {
    struct virtio_net *d = opaque;

    if (d->pushed)
        virtio_interrupt(&d->virtio, RX);
    d->pushed = false;
}

static void net_notify(struct virtio *v, unsigned queue) {
    struct virtio_net *d = (struct virtio_net *)v;

    if (queue == TX) {
        transmit(d);
        return;
    }
    virtio_want_kick(v, RX, false); /* until receive finds too few */
    if (d->port)
        net_resume(d->port);
}

/* ------------------------------------------------------------------ configuration and life */

static void plug_in(void *opaque) {
    struct virtio_net *d = opaque;

    d->unplugged = false;
    trace(virtio_net_link, d->virtio.pci.dev.name, 1);
    virtio_config_changed(&d->virtio);
}

static void unplug_until(struct virtio_net *d, uint64_t ns) {
    d->plug_at = clock_now(d->plug.clock) + ns;
    clock_timer_arm(&d->plug, d->plug_at);
}

void virtio_net_replug(struct device *dev) {
    struct virtio_net *d = (struct virtio_net *)dev;

    d->unplugged = true;
    d->noticed = false;
    trace(virtio_net_link, dev->name, 0);
    unplug_until(d, UNSEEN_NS);
    virtio_config_changed(&d->virtio);
}

static void look_at_status(struct virtio_net *d) {
    if (!d->unplugged || d->noticed)
        return;
    d->noticed = true;
    unplug_until(d, UNPLUGGED_NS);
}

static void net_config_read(struct virtio *v, unsigned offset, void *buf, unsigned len) {
    struct virtio_net *d = (struct virtio_net *)v;
    uint8_t c[CONFIG_SIZE] = {0};

    memcpy(c, d->mac, sizeof(d->mac));
    store_le16(c + CONFIG_STATUS, d->port && !d->unplugged ? STATUS_LINK_UP : 0);
    if (offset <= CONFIG_STATUS && offset + len > CONFIG_STATUS)
        look_at_status(d);
    store_le16(c + 8, 1); /* pairs of queues */
    store_le16(c + 10, d->port ? d->port->mtu : 0);
    memcpy(buf, c + offset, len);
}

static void tell_port(struct virtio_net *d) {
    if (d->port)
        d->port->guest_mtu = virtio_has(&d->virtio, F_MTU) ? d->port->mtu : 0;
}

static void net_status(struct virtio *v, uint8_t old, uint8_t now) {
    struct virtio_net *d = (struct virtio_net *)v;

    if (now) {
        tell_port(d);
        return;
    }
    d->pushed = false;
    if (d->port)
        d->port->guest_mtu = 0;
}

static const struct virtio_type net_type = {
    .id = VIRTIO_ID_NET,
    .features = F_CSUM | F_GUEST_CSUM | F_MTU | F_MAC | F_HOST_TSO4 | F_HOST_TSO6 | F_HOST_ECN |
                F_MRG_RXBUF | F_STATUS,
    .queues = 2,
    .queue_size = QUEUE_SIZE,
    .config_size = CONFIG_SIZE,
    .pci_class = 0x02000000, /* network, Ethernet */
    .notify = net_notify,
    .status = net_status,
    .config_read = net_config_read,
};

static uint64_t instance_features(const struct virtio_net *d) {
    uint64_t features = net_type.features;

    if (!d->port || !d->port->mtu)
        features &= ~F_MTU;
    if (!d->port || !d->port->big_tcp)
        features &= ~(F_HOST_TSO4 | F_HOST_TSO6 | F_HOST_ECN);
    return features;
}

static int net_init(struct device *dev, struct error *err) {
    struct virtio_net *d = (struct virtio_net *)dev;
    const struct virtio_net_config *config = dev->env.config;
    static const uint8_t default_mac[6] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
    int r;

    clock_timer_init(&d->plug, dev->env.clock, plug_in, d);
    d->frame = zero_alloc(NET_FRAME_MAX);
    if (!d->frame)
        return error_set(err, -ENOMEM, "device '%s': out of memory", dev->name);
    memcpy(d->mac, config ? config->mac : default_mac, sizeof(d->mac));
    d->port = config ? config->port : NULL;
    if (d->port) {
        d->port->receive = receive;
        d->port->received = received;
        d->port->opaque = d;
    }
    r = virtio_init(&d->virtio, &net_type, instance_features(d), err);
    if (r == 0 && config)
        pci_use_rom(&d->virtio.pci, config->rom, config->rom_size);
    return r;
}

static void net_reset(struct device *dev) {
    struct virtio_net *d = (struct virtio_net *)dev;

    clock_timer_disarm(&d->plug);
    d->unplugged = d->noticed = false;
    d->plug_at = 0;
    virtio_reset(&d->virtio);
}

static void let_go(struct virtio_net *d) {
    if (d->port) {
        d->port->receive = NULL;
        d->port->received = NULL;
    }
    d->port = NULL;
}

static void net_abandon(struct device *dev) {
    let_go((struct virtio_net *)dev);
    virtio_config_changed((struct virtio *)dev);
}

static void net_done(struct device *dev) {
    struct virtio_net *d = (struct virtio_net *)dev;

    clock_timer_disarm(&d->plug);
    zero_free(d->frame, NET_FRAME_MAX);
    let_go(d);
    virtio_done(&d->virtio);
}

static void net_post_load(void *obj) {
    struct virtio_net *d = obj;

    virtio_post_load(&d->virtio);
    tell_port(d);
    if (d->unplugged)
        clock_timer_arm(&d->plug, d->plug_at);
    else
        clock_timer_disarm(&d->plug);
}

static const struct state_desc net_state = {
    .name = "virtio_net",
    .version = 2,
    .struct_size = sizeof(struct virtio_net),
    .fields =
        (const struct state_field[]){
            STATE_SUB(struct virtio_net, virtio, &virtio_state),
            STATE_SINCE(struct virtio_net, unplugged, 2),
            STATE_SINCE(struct virtio_net, noticed, 2),
            STATE_SINCE(struct virtio_net, plug_at, 2),
            STATE_END,
        },
    .post_load = net_post_load,
};

const struct device_class virtio_net_class = {
    .name = "virtio_net",
    .help = "virtio network device",
    .size = sizeof(struct virtio_net),
    .state = &net_state,
    .init = net_init,
    .reset = net_reset,
    .done = net_done,
    .abandon = net_abandon,
    .pci = true,
};
