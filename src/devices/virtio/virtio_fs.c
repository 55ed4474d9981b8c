/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio file system device: carries requests of FUSE between the guest and a share.
 * Source: Virtual I/O Device (VIRTIO) Version 1.2, section 5.11.
 *
 * Queues: 0 for what must not wait (FORGET and the like), 1 for all other requests. Both are served
 * alike: a share has several threads, and none waits for the guest.
 *
 * Theory of operation: a chain goes to the share as it is, with its buffers in guest memory, and
 * comes back from the loop. What the guest knows and has open is the share's, and saved with it
 * (share_save). A reset of the device ends all that.
 *
 * Departures: no notifications (VIRTIO_FS_F_NOTIFICATION), no DAX window.
 */
#include "devices/virtio/virtio_fs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "devices/virtio/virtio.h"
#include "share/share.h"

enum { QUEUES = 2, QUEUE_SIZE = 256, CONFIG_QUEUES = SHARE_TAG_MAX, CONFIG_SIZE = 40 };
enum { IN_HEADER = 40, OUT_HEADER = 16 }; /* of FUSE */

struct virtio_fs {
    struct virtio virtio; /* first */
    struct share *share;
    char tag[SHARE_TAG_MAX];
    uint32_t pushed; /* bit a queue: since the last interrupt */
    struct job *spare;
};

struct job { /* one request */
    struct share_request request;
    struct virtio_fs *dev;
    struct job *next; /* in dev->spare */
    struct virtio_chain chain;
};

static struct job *job_get(struct virtio_fs *f) {
    struct job *j = f->spare;

    if (j)
        f->spare = j->next;
    else
        j = malloc(sizeof(*j));
    if (j)
        j->dev = f;
    return j;
}

static void job_put(struct job *j) {
    j->next = j->dev->spare;
    j->dev->spare = j;
}

static void finish(struct job *j, uint32_t written) {
    trace(virtio_fs_done, j->dev->virtio.pci.dev.name, j->chain.head, written);
    virtio_push(&j->dev->virtio, &j->chain, written);
    j->dev->pushed |= 1u << j->chain.queue;
    job_put(j);
}

static void done(struct share_request *r, uint32_t written) { finish((struct job *)r, written); }

static void interrupt(void *opaque) {
    struct virtio_fs *f = opaque;

    for (unsigned i = 0; f->pushed >> i; i++)
        if (f->pushed & 1u << i)
            virtio_interrupt(&f->virtio, i);
    f->pushed = 0;
}

/* Nobody is there to serve it. */
static void refuse(struct job *j) {
    struct virtio_chain *c = &j->chain;
    uint8_t in[IN_HEADER], out[OUT_HEADER];
    size_t n = c->in_len < OUT_HEADER ? 0 : OUT_HEADER;

    iov_read(c->iov, c->out_count, 0, in, sizeof(in));
    store_le32(out, OUT_HEADER);
    store_le32(out + 4, (uint32_t)-EIO);
    memcpy(out + 8, in + 8, 8);
    iov_write(c->iov + c->out_count, c->in_count, 0, out, n);
    finish(j, (uint32_t)n);
}

static void begin(struct job *j) {
    struct virtio_fs *f = j->dev;
    struct virtio_chain *c = &j->chain;

    trace(virtio_fs_request, f->virtio.pci.dev.name, c->queue, c->head, c->out_len, c->in_len);
    if (c->out_len < IN_HEADER || c->out_len > UINT32_MAX || c->in_len > UINT32_MAX) {
        virtio_broken(&f->virtio, "a file system request has no header, or is too long");
        job_put(j);
        return;
    }
    if (!f->share) {
        refuse(j);
        return;
    }
    j->request = (struct share_request){.out = c->iov,
                                        .out_count = c->out_count,
                                        .out_len = c->out_len,
                                        .in = c->iov + c->out_count,
                                        .in_count = c->in_count,
                                        .in_len = c->in_len,
                                        .done = done};
    share_submit(f->share, &j->request);
}

static void notify(struct virtio *v, unsigned queue) {
    struct virtio_fs *f = (struct virtio_fs *)v;
    struct job *j;

    while ((j = job_get(f))) {
        if (virtio_pop(v, queue, &j->chain) != 1) {
            job_put(j);
            break;
        }
        begin(j);
    }
    if (!j)
        virtio_again(v, queue); /* out of memory: try again from the loop */
    interrupt(f);
}

static void config_read(struct virtio *v, unsigned offset, void *buf, unsigned len) {
    const struct virtio_fs *f = (const struct virtio_fs *)v;
    uint8_t c[CONFIG_SIZE] = {0};

    memcpy(c, f->tag, SHARE_TAG_MAX);
    store_le32(c + CONFIG_QUEUES, QUEUES - 1);
    memcpy(buf, c + offset, len);
}

static void status(struct virtio *v, uint8_t old, uint8_t now) {
    struct virtio_fs *f = (struct virtio_fs *)v;

    if (!now && f->share)
        share_reset(f->share);
    if (!now)
        f->pushed = 0;
}

static const struct virtio_type type = {
    .id = VIRTIO_ID_FS,
    .queues = QUEUES,
    .queue_size = QUEUE_SIZE,
    .config_size = CONFIG_SIZE,
    .pci_class = 0x01800000, /* mass storage, other */
    .notify = notify,
    .status = status,
    .config_read = config_read,
};

static int init(struct device *dev, struct error *err) {
    struct virtio_fs *f = (struct virtio_fs *)dev;
    const struct virtio_fs_config *config = dev->env.config;

    if (config) {
        f->share = config->share;
        memcpy(f->tag, config->tag, strnlen(config->tag, SHARE_TAG_MAX));
    }
    if (f->share)
        share_set_batch_fn(f->share, interrupt, f);
    return virtio_init(&f->virtio, &type, 0, err);
}

static void reset(struct device *dev) { virtio_reset((struct virtio *)dev); }

static void free_all(struct device *dev) {
    struct virtio_fs *f = (struct virtio_fs *)dev;
    struct job *j;

    f->virtio.epoch++; /* what the drain brings goes nowhere */
    if (f->share) {
        share_drain(f->share);
        share_set_batch_fn(f->share, NULL, NULL);
    }
    virtio_done(&f->virtio);
    while ((j = f->spare)) {
        f->spare = j->next;
        free(j);
    }
}

static void post_load(void *obj) { virtio_post_load(obj); }

// clang-format off
static const struct state_desc state = {
    .name = "virtio_fs",
    .version = 1,
    .struct_size = sizeof(struct virtio_fs),
    .post_load = post_load,
    .fields = (const struct state_field[]){
        STATE_SUB(struct virtio_fs, virtio, &virtio_state),
        STATE_END,
    },
};
// clang-format on

const struct device_class virtio_fs_class = {
    .name = "virtio_fs",
    .help = "virtio file system device, a folder of the host",
    .size = sizeof(struct virtio_fs),
    .state = &state,
    .init = init,
    .reset = reset,
    .done = free_all,
    .pci = true,
};
