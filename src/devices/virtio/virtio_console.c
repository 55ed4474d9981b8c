/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Console with one port: bytes both ways, the size of the terminal, emergency output.
 * Source: Virtual I/O Device (VIRTIO) Version 1.2, section 5.3.
 *
 *   configuration: 0 columns, 2 rows (with F_SIZE), 4 max_nr_ports (0: F_MULTIPORT is not offered),
 *                  8 emergency write (with F_EMERG_WRITE)
 *
 * Theory of operation. Output that the host's side does not take stays in its descriptor chain, put
 * back into the queue, with the count of bytes already written: that count is the only state, so a
 * snapshot needs no copy of guest data. Input is copied into the driver's buffers when it comes;
 * there is no buffer of our own.
 */
#include "devices/virtio/virtio_console.h"

#include <string.h>

#include "base/bytes.h"

enum { QUEUE_RX = 0, QUEUE_TX = 1 };
enum { CONFIG_COLS = 0, CONFIG_ROWS = 2, CONFIG_MAX_PORTS = 4, CONFIG_EMERG = 8, CONFIG_SIZE = 12 };
enum { F_SIZE = 1, F_EMERG_WRITE = 4 };
enum {
    SLICE = 4096,
    TX_BYTES_MAX = 256 * 1024, /* for one kick: a chain may describe gigabytes */
};

struct virtio_console {
    struct virtio virtio; /* first */
    struct console_port port;
    uint16_t cols, rows;
    uint64_t tx_done; /* bytes already written of the chain at the head of the output queue */
    bool rx_wanted;   /* the host's side has bytes that did not fit */
    bool tx_blocked;  /* the host's side took less than offered */
    struct virtio_chain chain; /* scratch */
};

static size_t write_port(struct virtio_console *c, const uint8_t *p, size_t n) {
    return c->port.write ? c->port.write(c->port.opaque, p, n) : n;
}

/* Writes the rest of the chain, at most *budget bytes. True if it is all out. */
static bool write_chain(struct virtio_console *c, size_t *budget) {
    uint8_t bytes[SLICE];

    while (c->tx_done < c->chain.out_len) {
        size_t n = *budget < sizeof(bytes) ? *budget : sizeof(bytes), taken;

        n = iov_read(c->chain.iov, c->chain.out_count, c->tx_done, bytes, n);
        if (!n)
            return false;
        taken = write_port(c, bytes, n);
        c->tx_done += taken;
        *budget -= taken;
        if (taken < n) {
            c->tx_blocked = true;
            return false;
        }
    }
    return true;
}

static void transmit(struct virtio_console *c) {
    struct virtio *v = &c->virtio;
    size_t budget = TX_BYTES_MAX;

    while (!c->tx_blocked && virtio_pop(v, QUEUE_TX, &c->chain) > 0) {
        if (!write_chain(c, &budget)) {
            virtio_unpop(v, &c->chain);
            if (!c->tx_blocked)
                virtio_again(v, QUEUE_TX);
            break;
        }
        c->tx_done = 0;
        virtio_push(v, &c->chain, 0);
    }
    virtio_interrupt(v, QUEUE_TX);
}

static void notify(struct virtio *v, unsigned queue) {
    struct virtio_console *c = (struct virtio_console *)v;

    if (queue == QUEUE_TX) {
        transmit(c);
    } else if (c->rx_wanted && c->port.can_receive) {
        c->rx_wanted = false;
        c->port.can_receive(c->port.opaque);
    }
}

size_t virtio_console_receive(struct device *dev, const uint8_t *p, size_t n) {
    struct virtio_console *c = (struct virtio_console *)dev;
    size_t done = 0;

    while (done < n && virtio_pop(&c->virtio, QUEUE_RX, &c->chain) > 0) {
        const struct virtio_chain *chain = &c->chain;
        size_t part =
            iov_write(chain->iov + chain->out_count, chain->in_count, 0, p + done, n - done);

        if (!part) { /* else a driver could keep this loop going for ever */
            virtio_broken(&c->virtio, "an input buffer is not writable");
            break;
        }
        virtio_push(&c->virtio, chain, (uint32_t)part);
        done += part;
    }
    c->rx_wanted = done < n;
    virtio_interrupt(&c->virtio, QUEUE_RX);
    return done;
}

void virtio_console_writable(struct device *dev) {
    struct virtio_console *c = (struct virtio_console *)dev;

    if (!c->tx_blocked)
        return;
    c->tx_blocked = false;
    virtio_again(&c->virtio, QUEUE_TX);
}

void virtio_console_resize(struct device *dev, uint16_t cols, uint16_t rows) {
    struct virtio_console *c = (struct virtio_console *)dev;

    if (!(c->virtio.offered & F_SIZE) || (c->cols == cols && c->rows == rows))
        return;
    c->cols = cols;
    c->rows = rows;
    virtio_config_changed(&c->virtio);
}

static void status(struct virtio *v, uint8_t old, uint8_t now) {
    struct virtio_console *c = (struct virtio_console *)v;

    if (!now)
        c->tx_done =
            0; /* bytes that the host's side still waits to give are wanted after the reset too */
}

static void config_read(struct virtio *v, unsigned offset, void *buf, unsigned len) {
    const struct virtio_console *c = (struct virtio_console *)v;
    uint8_t bytes[CONFIG_SIZE] = {0};

    store_le16(bytes + CONFIG_COLS, c->cols);
    store_le16(bytes + CONFIG_ROWS, c->rows);
    memcpy(buf, bytes + offset, len);
}

/* 5.3.4: the low byte is a character to print, at any time, even before the driver is ready. */
static void config_write(struct virtio *v, unsigned offset, const void *buf, unsigned len) {
    if (offset == CONFIG_EMERG)
        write_port((struct virtio_console *)v, buf, 1);
}

static const struct virtio_type type = {
    .id = VIRTIO_ID_CONSOLE,
    .features = F_SIZE | F_EMERG_WRITE,
    .queues = 2,
    .queue_size = 64,
    .config_size = CONFIG_SIZE,
    .pci_class = 0x07800000, /* other communication controller */
    .notify = notify,
    .status = status,
    .config_read = config_read,
    .config_write = config_write,
};

static int init(struct device *dev, struct error *err) {
    struct virtio_console *c = (struct virtio_console *)dev;
    const struct virtio_console_config *config = dev->env.config;
    uint64_t features = F_EMERG_WRITE;

    if (config) {
        c->port = config->port;
        c->cols = config->cols;
        c->rows = config->rows;
    }
    if (c->cols && c->rows)
        features |= F_SIZE;
    return virtio_init(&c->virtio, &type, features, err);
}

static void reset(struct device *dev) { virtio_reset((struct virtio *)dev); }

static void done(struct device *dev) { virtio_done((struct virtio *)dev); }

static void post_load(void *obj) {
    struct virtio_console *c = obj;

    c->tx_blocked = false;
    virtio_post_load(&c->virtio);
}

// clang-format off
static const struct state_desc state = {
    .name = "virtio_console",
    .version = 1,
    .struct_size = sizeof(struct virtio_console),
    .post_load = post_load,
    .fields = (const struct state_field[]){
        STATE_SUB(struct virtio_console, virtio, &virtio_state),
        STATE(struct virtio_console, tx_done),
        STATE_END,
    },
};
// clang-format on

const struct device_class virtio_console_class = {
    .name = "virtio_console",
    .help = "virtio console with one port",
    .size = sizeof(struct virtio_console),
    .state = &state,
    .init = init,
    .reset = reset,
    .done = done,
    .pci = true,
};
