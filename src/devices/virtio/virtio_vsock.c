/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sockets between guest and host.
 * Source: Virtual I/O Device (VIRTIO) Version 1.2, section 5.10. Streams only.
 *
 *   packet  0 source cid u64, 8 destination cid u64, 16 source port u32, 20 destination port u32,
 *           24 length u32, 28 type u16, 30 operation u16, 32 flags u32, 36 buf_alloc u32,
 *           40 fwd_cnt u32, 44 bytes
 *
 * Theory of operation. What the guest sends goes to the host's side at once; what that does not
 * take waits in a buffer of the connection, whose size is the credit that the guest has. For the
 * other direction there is no buffer: bytes are read from the host's side when a receive buffer and
 * credit are there. A connection with something to send stands in the queue `ready`; `serve` gives
 * each a packet in turn. Resets for connections that are not there wait in a small ring, and while
 * that is full no more packets are taken from the guest.
 *
 * Connections are not saved: after a load the driver is told by an event that all are gone
 * (5.10.6.7), and reads its address anew. Listening sockets of the guest stay.
 */
#include "devices/virtio/virtio_vsock.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/trace.h"

enum { RX = 0, TX = 1, EVENT = 2 };
enum { HEADER = 44, CONFIG_SIZE = 8, TYPE_STREAM = 1, EVENT_TRANSPORT_RESET = 0 };
enum {
    OP_REQUEST = 1,
    OP_RESPONSE,
    OP_RST,
    OP_SHUTDOWN,
    OP_RW,
    OP_CREDIT_UPDATE,
    OP_CREDIT_REQUEST,
};
enum { SHUT_RECEIVE = 1, SHUT_SEND = 2, SHUT_ALL = 3 };
enum {
    BUFFER = 64 * 1024,
    CONNS_MAX = 512,
    BUCKETS = 256,
    REPLIES = 64,
    PACKETS_PER_ROUND = 256, /* then vCPUs and other descriptors get their turn */
    FIRST_PORT = 0x40000000, /* of ours; well-known ones lie below */
    LAST_PORT = 0x7fffffff,
};

struct packet {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port, len;
    uint16_t type, op;
    uint32_t flags, buf_alloc, fwd_cnt;
};

enum conn_state {
    ASKED,   /* the guest has not answered our request */
    OPEN,    /* both ways, as far as not shut */
    CLOSING, /* has no host's side; a reset must go to the guest */
    LINGERS, /* the guest is done with it; only the buffer is to be written out */
};

enum pending { /* bits: what is to be sent */
               SEND_REQUEST = 1,
               SEND_RESPONSE = 2,
               SEND_CREDIT = 4,   /* how far the buffer was emptied */
               SEND_BYTES = 8,    /* the host's side has some */
               ASKED_CREDIT = 16, /* nothing to send: the guest knows that its credit is used up */
};

struct link {
    struct link *next, *prev;
};

struct vsock_conn {
    struct link all, ready; /* ready.next NULL: not in the queue */
    struct vsock_conn *bucket_next;
    struct virtio_vsock *dev;
    void *end;
    enum conn_state state;
    uint32_t host_port, guest_port;
    unsigned pending;
    uint32_t guest_alloc, guest_fwd, sent;  /* the guest's buffer, and what went into it */
    uint32_t forwarded, forwarded_told;     /* of the guest's bytes, given to the host's side */
    bool guest_ended, told_ended, we_ended; /* sends no more */
    uint8_t *buffer;                        /* BUFFER bytes, or NULL while never needed */
    size_t head, used;
};

struct virtio_vsock {
    struct virtio virtio; /* first */
    struct vsock_host host;
    uint64_t cid;
    struct link all, ready;
    struct vsock_conn *bucket[BUCKETS];
    unsigned conns;
    uint32_t next_port;
    bool event_due, tx_stalled;
    struct packet reply[REPLIES];
    unsigned reply_head, replies;
    struct virtio_chain chain; /* scratch */
    uint8_t bytes[BUFFER];     /* scratch */
};

/* ---- lists ---- */

static void list_init(struct link *l) { l->next = l->prev = l; }

static void list_append(struct link *list, struct link *l) {
    l->next = list;
    l->prev = list->prev;
    l->prev->next = l;
    list->prev = l;
}

static void list_remove(struct link *l) {
    if (!l->next)
        return;
    l->next->prev = l->prev;
    l->prev->next = l->next;
    l->next = l->prev = NULL;
}

static struct vsock_conn *of_all(struct link *l) {
    return (struct vsock_conn *)((char *)l - offsetof(struct vsock_conn, all));
}

static struct vsock_conn *of_ready(struct link *l) {
    return (struct vsock_conn *)((char *)l - offsetof(struct vsock_conn, ready));
}

/* ---- connections ---- */

static struct vsock_conn **bucket_of(struct virtio_vsock *d, uint32_t host_port,
                                     uint32_t guest_port) {
    return &d->bucket[(host_port * 31 + guest_port) % BUCKETS];
}

static struct vsock_conn *find(struct virtio_vsock *d, uint32_t host_port, uint32_t guest_port) {
    struct vsock_conn *c = *bucket_of(d, host_port, guest_port);

    while (c && (c->host_port != host_port || c->guest_port != guest_port))
        c = c->bucket_next;
    return c;
}

static struct vsock_conn *conn_new(struct virtio_vsock *d, uint32_t host_port,
                                   uint32_t guest_port) {
    struct vsock_conn **bucket = bucket_of(d, host_port, guest_port);
    struct vsock_conn *c = d->conns < CONNS_MAX ? calloc(1, sizeof(*c)) : NULL;

    if (!c)
        return NULL;
    c->dev = d;
    c->host_port = host_port;
    c->guest_port = guest_port;
    c->bucket_next = *bucket;
    *bucket = c;
    list_append(&d->all, &c->all);
    d->conns++;
    return c;
}

/* Its ports may be used again. */
static void forget_ports(struct vsock_conn *c) {
    struct vsock_conn **at = bucket_of(c->dev, c->host_port, c->guest_port);

    while (*at && *at != c)
        at = &(*at)->bucket_next;
    if (*at)
        *at = c->bucket_next;
}

static void conn_free(struct vsock_conn *c) {
    forget_ports(c);
    list_remove(&c->all);
    list_remove(&c->ready);
    c->dev->conns--;
    free(c->buffer);
    free(c);
}

static void want(struct vsock_conn *c, unsigned pending) {
    c->pending |= pending;
    if (!c->ready.next)
        list_append(&c->dev->ready, &c->ready);
}

static void end_gone(struct vsock_conn *c) {
    void *end = c->end;

    c->end = NULL;
    if (end)
        c->dev->host.gone(end);
}

/* Nobody takes the guest's bytes any more: it must hear of that, unless it is done itself. */
static void close_conn(struct vsock_conn *c) {
    end_gone(c);
    c->used = 0;
    if (c->state == LINGERS)
        return;
    c->state = CLOSING;
    want(c, 0);
}

static void drop_all(struct virtio_vsock *d) {
    struct link *next;

    for (struct link *l = d->all.next; l != &d->all; l = next) {
        struct vsock_conn *c = of_all(l);

        next = l->next;
        end_gone(c);
        conn_free(c);
    }
    d->replies = 0;
    d->tx_stalled = false;
}

/* ---- from the guest ---- */

static void reply_reset(struct virtio_vsock *d, const struct packet *p) {
    d->reply[(d->reply_head + d->replies++) % REPLIES] = (struct packet){.src_cid = VSOCK_CID_HOST,
                                                                         .dst_cid = p->src_cid,
                                                                         .src_port = p->dst_port,
                                                                         .dst_port = p->src_port,
                                                                         .type = p->type,
                                                                         .op = OP_RST};
}

/* Gives the host's side what it takes of p; -1: nobody takes any more. */
static ssize_t give(struct vsock_conn *c, const uint8_t *p, size_t n) {
    ssize_t taken = c->dev->host.write(c->end, p, n);

    if (taken < 0) {
        close_conn(c);
        return -1;
    }
    c->forwarded += (uint32_t)taken;
    if (c->forwarded - c->forwarded_told >= BUFFER / 2 && c->state == OPEN)
        want(c, SEND_CREDIT);
    return taken;
}

static void end_if_empty(struct vsock_conn *c) {
    if (c->used || !c->guest_ended || c->told_ended || !c->end)
        return;
    c->told_ended = true;
    c->dev->host.finished(c->end);
}

/* Writes the buffer out. A connection that only lingers for that may be freed. */
static void flush(struct vsock_conn *c) {
    while (c->used) {
        size_t n = BUFFER - c->head < c->used ? BUFFER - c->head : c->used;
        ssize_t taken = give(c, c->buffer + c->head, n);

        if (taken < 0)
            break;
        c->head = (c->head + (size_t)taken) % BUFFER;
        c->used -= (size_t)taken;
        if ((size_t)taken < n)
            return;
    }
    end_if_empty(c);
    if (c->state == LINGERS) {
        end_gone(c);
        conn_free(c);
    }
}

static bool keep(struct vsock_conn *c, const uint8_t *p, size_t n) {
    if (!c->buffer && !(c->buffer = malloc(BUFFER)))
        return false;
    for (size_t i = 0, part; i < n; i += part) {
        size_t at = (c->head + c->used) % BUFFER;

        part = BUFFER - at < n - i ? BUFFER - at : n - i;
        memcpy(c->buffer + at, p + i, part);
        c->used += part;
    }
    return true;
}

/* A guest that sends more than its credit is no longer listened to. */
static void take_bytes(struct vsock_conn *c, const struct packet *p) {
    struct virtio_vsock *d = c->dev;
    ssize_t taken = 0;
    size_t n;

    if (c->state != OPEN || c->guest_ended || p->len > BUFFER - c->used) {
        close_conn(c);
        return;
    }
    n = iov_read(d->chain.iov, d->chain.out_count, HEADER, d->bytes, p->len);
    if (!c->used)
        taken = give(c, d->bytes, n);
    if (taken >= 0 && !keep(c, d->bytes + taken, n - (size_t)taken)) {
        close_conn(c);
    }
}

static void take_request(struct virtio_vsock *d, const struct packet *p) {
    struct vsock_conn *c = conn_new(d, p->dst_port, p->src_port);

    if (c && d->host.connect)
        c->end = d->host.connect(d->host.opaque, c, p->dst_port);
    if (!c || !c->end) {
        if (c)
            conn_free(c);
        stat_inc(vsock_refused);
        reply_reset(d, p);
        return;
    }
    stat_inc(vsock_connections);
    c->state = OPEN;
    c->guest_alloc = p->buf_alloc;
    c->guest_fwd = p->fwd_cnt;
    want(c, SEND_RESPONSE);
}

/* 5.10.6.5: who has shut both ways waits for a reset. */
static void take_shutdown(struct vsock_conn *c, const struct packet *p) {
    if (p->flags & SHUT_SEND)
        c->guest_ended = true;
    if ((p->flags & SHUT_ALL) == SHUT_ALL) {
        reply_reset(c->dev, p);
        forget_ports(c);
        list_remove(&c->ready);
        c->state = LINGERS;
        c->pending = 0;
        flush(c);
        return;
    }
    if (p->flags & SHUT_RECEIVE)
        c->we_ended = true;
    end_if_empty(c);
}

static void take_for(struct vsock_conn *c, const struct packet *p) {
    c->guest_alloc = p->buf_alloc;
    c->guest_fwd = p->fwd_cnt;
    if (c->pending)
        want(c, 0); /* there may be credit now */
    switch (p->op) {
    case OP_RST:
        end_gone(c);
        conn_free(c);
        break;
    case OP_RESPONSE:
        if (c->state != ASKED)
            break;
        c->state = OPEN;
        stat_inc(vsock_connections);
        c->dev->host.connected(c->end, c->host_port);
        break;
    case OP_SHUTDOWN:
        take_shutdown(c, p);
        break;
    case OP_RW:
        take_bytes(c, p);
        break;
    case OP_CREDIT_UPDATE:
        break;
    case OP_CREDIT_REQUEST:
        want(c, SEND_CREDIT);
        break;
    default: /* a second request, or nothing that is known */
        close_conn(c);
        break;
    }
}

static void take_packet(struct virtio_vsock *d, const struct packet *p) {
    struct vsock_conn *c;

    trace(vsock_packet, "in", p->op, p->dst_port, p->src_port, p->len, p->flags);
    if (p->src_cid != d->cid || p->dst_cid != VSOCK_CID_HOST)
        return; /* 5.10.6.4.1: nobody to tell */
    c = p->type == TYPE_STREAM ? find(d, p->dst_port, p->src_port) : NULL;
    if (c && c->state != CLOSING)
        take_for(c, p);
    else if (c && p->op == OP_RST)
        conn_free(c);
    else if (!c && p->op == OP_REQUEST && p->type == TYPE_STREAM)
        take_request(d, p);
    else if (p->op != OP_RST && !(c && p->op != OP_REQUEST))
        reply_reset(d, p);
}

static bool parse(const struct virtio_chain *chain, struct packet *p) {
    uint8_t h[HEADER];

    if (iov_read(chain->iov, chain->out_count, 0, h, HEADER) != HEADER)
        return false;
    *p = (struct packet){.src_cid = load_le64(h),
                         .dst_cid = load_le64(h + 8),
                         .src_port = load_le32(h + 16),
                         .dst_port = load_le32(h + 20),
                         .len = load_le32(h + 24),
                         .type = load_le16(h + 28),
                         .op = load_le16(h + 30),
                         .flags = load_le32(h + 32),
                         .buf_alloc = load_le32(h + 36),
                         .fwd_cnt = load_le32(h + 40)};
    return p->len <= chain->out_len - HEADER;
}

static void transmit(struct virtio_vsock *d) {
    struct virtio *v = &d->virtio;
    struct packet p;
    int r = 0;

    while (!(d->tx_stalled = d->replies == REPLIES) && (r = virtio_pop(v, TX, &d->chain)) == 1) {
        if (parse(&d->chain, &p))
            take_packet(d, &p);
        virtio_push(v, &d->chain, 0);
    }
    if (r >= 0)
        virtio_interrupt(v, TX);
}

/* ---- to the guest ---- */

static void put_packet(struct virtio_vsock *d, const struct packet *p) {
    const struct virtio_chain *chain = &d->chain;
    const struct iovec *in = chain->iov + chain->out_count;
    uint8_t h[HEADER];

    store_le64(h, p->src_cid);
    store_le64(h + 8, p->dst_cid);
    store_le32(h + 16, p->src_port);
    store_le32(h + 20, p->dst_port);
    store_le32(h + 24, p->len);
    store_le16(h + 28, p->type);
    store_le16(h + 30, p->op);
    store_le32(h + 32, p->flags);
    store_le32(h + 36, p->buf_alloc);
    store_le32(h + 40, p->fwd_cnt);
    trace(vsock_packet, "out", p->op, p->src_port, p->dst_port, p->len, p->flags);
    iov_write(in, chain->in_count, 0, h, HEADER);
    iov_write(in, chain->in_count, HEADER, d->bytes, p->len);
    virtio_push(&d->virtio, chain, HEADER + p->len);
}

static void put_for(struct vsock_conn *c, uint16_t op, uint32_t len, uint32_t flags) {
    struct virtio_vsock *d = c->dev;
    struct packet p = {.src_cid = VSOCK_CID_HOST,
                       .dst_cid = d->cid,
                       .src_port = c->host_port,
                       .dst_port = c->guest_port,
                       .len = len,
                       .type = TYPE_STREAM,
                       .op = op,
                       .flags = flags,
                       .buf_alloc = BUFFER,
                       .fwd_cnt = c->forwarded};

    c->forwarded_told = c->forwarded;
    c->pending &= ~(unsigned)SEND_CREDIT;
    put_packet(d, &p);
}

/* Bytes of the host's side into the buffer at hand; false: none, or no credit. */
static bool put_bytes(struct vsock_conn *c) {
    struct virtio_vsock *d = c->dev;
    uint32_t out = c->sent - c->guest_fwd, room = out < c->guest_alloc ? c->guest_alloc - out : 0;
    size_t n = d->chain.in_len - HEADER;
    ssize_t got;

    if (!room) {
        bool asked = c->pending & ASKED_CREDIT;

        c->pending |= ASKED_CREDIT;
        if (!asked)
            put_for(c, OP_CREDIT_REQUEST, 0, 0);
        return !asked;
    }
    c->pending &= ~(unsigned)ASKED_CREDIT;
    n = n < room ? n : room;
    n = n < sizeof(d->bytes) ? n : sizeof(d->bytes);
    if (!n) { /* buffers for headers only: what should carry bytes never comes */
        virtio_broken(&d->virtio, "a receive buffer has no room for data");
        return false;
    }
    got = d->host.read(c->end, d->bytes, n);
    if (got <= 0) {
        c->pending &= ~(unsigned)SEND_BYTES;
        c->we_ended = got == 0;
        if (got < 0)
            return false;
        put_for(c, OP_SHUTDOWN, 0, SHUT_SEND);
        return true;
    }
    c->sent += (uint32_t)got;
    put_for(c, OP_RW, (uint32_t)got, 0);
    return true;
}

/* One packet of the connection, which may be freed by it. True if one was sent. */
static bool send_for(struct vsock_conn *c) {
    bool sent = true;

    if (c->state == CLOSING) {
        put_for(c, OP_RST, 0, 0);
        conn_free(c);
        return true;
    }
    if (c->pending & SEND_REQUEST) {
        put_for(c, OP_REQUEST, 0, 0);
        c->pending &= ~(unsigned)SEND_REQUEST;
    } else if (c->pending & SEND_RESPONSE) {
        put_for(c, OP_RESPONSE, 0, 0);
        c->pending &= ~(unsigned)SEND_RESPONSE;
    } else if ((c->pending & SEND_BYTES) && c->state == OPEN && !c->we_ended && put_bytes(c)) {
        /* done */
    } else if (c->pending & SEND_CREDIT) {
        put_for(c, OP_CREDIT_UPDATE, 0, 0);
    } else {
        sent = false;
    }
    if (sent && c->pending)
        want(c, 0); /* behind the others */
    return sent;
}

static bool send_next(struct virtio_vsock *d) {
    struct link *first = d->ready.next;

    if (d->replies) {
        put_packet(d, &d->reply[d->reply_head]);
        d->reply_head = (d->reply_head + 1) % REPLIES;
        d->replies--;
        return true;
    }
    list_remove(first);
    return send_for(of_ready(first));
}

/* Fills the driver's buffers while there is something to send. */
static void serve(struct virtio_vsock *d) {
    struct virtio *v = &d->virtio;
    unsigned left = PACKETS_PER_ROUND;
    bool pushed = false;

    if (!clock_running(v->pci.dev.env.clock))
        return; /* virtio_vsock_resume */
    while (d->replies || d->ready.next != &d->ready) {
        if (!left--) {
            virtio_again(v, RX);
            break;
        }
        if (virtio_pop(v, RX, &d->chain) != 1)
            break;
        if (d->chain.in_len < HEADER) {
            virtio_broken(v, "a receive buffer is smaller than a packet's header");
            break;
        }
        if (send_next(d))
            pushed = true;
        else
            virtio_unpop(v, &d->chain);
    }
    if (pushed)
        virtio_interrupt(v, RX);
    if (d->tx_stalled && d->replies < REPLIES)
        virtio_again(v, TX);
}

static void tell_reset(struct virtio_vsock *d) {
    struct virtio *v = &d->virtio;
    uint8_t event[4];

    if (!d->event_due || virtio_pop(v, EVENT, &d->chain) != 1)
        return;
    d->event_due = false;
    store_le32(event, EVENT_TRANSPORT_RESET);
    virtio_push(v, &d->chain,
                (uint32_t)iov_write(d->chain.iov + d->chain.out_count, d->chain.in_count, 0, event,
                                    sizeof(event)));
    virtio_interrupt(v, EVENT);
}

/* ---- the host's side ---- */

static uint32_t next_port(const struct virtio_vsock *d) {
    return d->next_port < FIRST_PORT || d->next_port == LAST_PORT ? FIRST_PORT : d->next_port + 1;
}

struct vsock_conn *virtio_vsock_connect(struct device *dev, void *end, uint32_t port) {
    struct virtio_vsock *d = (struct virtio_vsock *)dev;
    struct vsock_conn *c;

    if (!virtio_live(&d->virtio))
        return NULL;
    while (find(d, d->next_port, port))
        d->next_port = next_port(d);
    c = conn_new(d, d->next_port, port);
    if (!c)
        return NULL;
    d->next_port = next_port(d);
    c->end = end;
    c->state = ASKED;
    want(c, SEND_REQUEST);
    serve(d);
    return c;
}

void virtio_vsock_readable(struct vsock_conn *c) {
    want(c, SEND_BYTES);
    serve(c->dev);
}

void virtio_vsock_writable(struct vsock_conn *c) {
    struct virtio_vsock *d = c->dev;

    flush(c);
    serve(d);
}

void virtio_vsock_drop(struct vsock_conn *c) {
    struct virtio_vsock *d = c->dev;

    c->end = NULL;
    close_conn(c);
    if (c->state == LINGERS)
        conn_free(c);
    serve(d);
}

void virtio_vsock_resume(struct device *dev) {
    struct virtio_vsock *d = (struct virtio_vsock *)dev;

    tell_reset(d);
    serve(d);
}

/* ---- configuration and life ---- */

static void notify(struct virtio *v, unsigned queue) {
    struct virtio_vsock *d = (struct virtio_vsock *)v;

    if (queue == TX)
        transmit(d);
    if (queue == EVENT)
        tell_reset(d);
    else
        serve(d);
}

static void config_read(struct virtio *v, unsigned offset, void *buf, unsigned len) {
    uint8_t bytes[CONFIG_SIZE];

    store_le64(bytes, ((struct virtio_vsock *)v)->cid);
    memcpy(buf, bytes + offset, len);
}

static void status(struct virtio *v, uint8_t old, uint8_t now) {
    if (!now)
        drop_all((struct virtio_vsock *)v);
}

static const struct virtio_type type = {
    .id = VIRTIO_ID_VSOCK,
    .queues = 3,
    .queue_size = 128,
    .config_size = CONFIG_SIZE,
    .pci_class = 0x07800000, /* other communication controller */
    .notify = notify,
    .status = status,
    .config_read = config_read,
};

static int init(struct device *dev, struct error *err) {
    struct virtio_vsock *d = (struct virtio_vsock *)dev;
    const struct virtio_vsock_config *config = dev->env.config;

    list_init(&d->all);
    list_init(&d->ready);
    d->cid = config ? config->cid : VSOCK_CID_DEFAULT;
    if (config)
        d->host = config->host;
    return virtio_init(&d->virtio, &type, 0, err);
}

static void reset(struct device *dev) {
    virtio_reset((struct virtio *)dev);
    ((struct virtio_vsock *)dev)->next_port = FIRST_PORT;
}

static void done(struct device *dev) {
    struct virtio_vsock *d = (struct virtio_vsock *)dev;

    if (d->all.next)
        drop_all(d);
    virtio_done(&d->virtio);
}

static void post_load(void *obj) {
    struct virtio_vsock *d = obj;

    drop_all(d);
    d->event_due = true;
    virtio_post_load(&d->virtio);
}

// clang-format off
static const struct state_desc state = {
    .name = "virtio_vsock",
    .version = 1,
    .struct_size = sizeof(struct virtio_vsock),
    .post_load = post_load,
    .fields = (const struct state_field[]){
        STATE_SUB(struct virtio_vsock, virtio, &virtio_state),
        STATE(struct virtio_vsock, next_port),
        STATE_END,
    },
};
// clang-format on

const struct device_class virtio_vsock_class = {
    .name = "virtio_vsock",
    .help = "sockets between guest and host (virtio)",
    .size = sizeof(struct virtio_vsock),
    .state = &state,
    .init = init,
    .reset = reset,
    .done = done,
    .pci = true,
};
