/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Entropy device: fills what the driver gives it with random bytes.
 * Source: Virtual I/O Device (VIRTIO) Version 1.2, section 5.4.
 *
 * The smallest complete virtio device: a type, init, reset, done, a state table, the class.
 */
#include "devices/virtio/virtio_rng.h"

#include <errno.h>
#include <sys/random.h>

enum {
    FILL_MAX = 4096, /* per chain: 5.4.6.2 allows less than asked for; keeps one kick short */
};

struct virtio_rng {
    struct virtio virtio; /* first */
    struct virtio_rng_config source;
    struct virtio_chain chain; /* scratch: too big for the stack of a vCPU's thread */
};

static size_t fill_from_host(void *opaque, void *buf, size_t len) {
    size_t done = 0;

    while (done < len) {
        ssize_t n = getrandom((uint8_t *)buf + done, len - done, 0);

        if (n < 0 && errno != EINTR)
            break;
        done += n < 0 ? 0 : (size_t)n;
    }
    return done;
}

static void notify(struct virtio *v, unsigned queue) {
    struct virtio_rng *r = (struct virtio_rng *)v;
    struct virtio_chain *c = &r->chain;
    uint8_t bytes[FILL_MAX];

    while (virtio_pop(v, queue, c) > 0) {
        size_t n = c->in_len < sizeof(bytes) ? c->in_len : sizeof(bytes);

        n = r->source.fill(r->source.opaque, bytes, n);
        virtio_push(v, c, (uint32_t)iov_write(c->iov + c->out_count, c->in_count, 0, bytes, n));
    }
    virtio_interrupt(v, queue);
}

static const struct virtio_type type = {
    .id = VIRTIO_ID_RNG,
    .queues = 1,
    .queue_size = 64,
    .pci_class = 0x00ff0000, /* 00ff: none of the older classes */
    .notify = notify,
};

static int init(struct device *dev, struct error *err) {
    struct virtio_rng *r = (struct virtio_rng *)dev;
    const struct virtio_rng_config *config = dev->env.config;

    r->source = config ? *config : (struct virtio_rng_config){.fill = fill_from_host};
    return virtio_init(&r->virtio, &type, 0, err);
}

static void reset(struct device *dev) { virtio_reset((struct virtio *)dev); }

static void done(struct device *dev) { virtio_done((struct virtio *)dev); }

static void post_load(void *obj) { virtio_post_load(obj); }

// clang-format off
static const struct state_desc state = {
    .name = "virtio_rng",
    .version = 1,
    .struct_size = sizeof(struct virtio_rng),
    .post_load = post_load,
    .fields = (const struct state_field[]){
        STATE_SUB(struct virtio_rng, virtio, &virtio_state),
        STATE_END,
    },
};
// clang-format on

const struct device_class virtio_rng_class = {
    .name = "virtio_rng",
    .help = "virtio entropy source",
    .size = sizeof(struct virtio_rng),
    .state = &state,
    .init = init,
    .reset = reset,
    .done = done,
    .pci = true,
};
