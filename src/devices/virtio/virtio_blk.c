/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio block device.
 * Source: Virtual I/O Device (VIRTIO) Version 1.2, section 5.2.
 *
 *   request   out: 0 type u32, 4 reserved, 8 sector u64, 16 data of a write or segments of a
 * discard in: data of a read or the serial number, then 1 byte status, wherever the cuts are
 * (2.7.4) segment   0 sector u64, 8 count of sectors u32, 12 flags u32 (bit 0: unmap)
 *
 * Theory of operation: a chain is popped into a job, whose buffers go to the image as they are.
 * What the host has in its cache is answered within the driver's kick (block_try); the rest
 * completes from the loop, with one interrupt for all that completed together. A discard or zeroing
 * of several segments does one after the other; a write without a write cache (5.2.6.2) is followed
 * by a flush.
 *
 * Reset: a new epoch, then a drain, so that no buffer is touched afterwards. Completions of an old
 * epoch end their job silently. State is saved only after the machine has drained the image.
 *
 * Several queues (VIRTIO_BLK_F_MQ) are for the driver's sake, which then needs no lock between its
 * processors and no scheduler; here all are served alike, under the machine lock.
 *
 * A request for whose failure the machine is paused (full disk) is kept: by the head of its chain,
 * which the driver leaves as it is until the request is answered, so that it is part of the state:
 * a bit for each head of each queue. After the pause its chain is taken again and the request done
 * from its beginning.
 */
#include "devices/virtio/virtio_blk.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "block/block.h"
#include "devices/virtio/virtio.h"

#define F_SEG_MAX      (1ull << 2)
#define F_RO           (1ull << 5)
#define F_BLK_SIZE     (1ull << 6)
#define F_FLUSH        (1ull << 9)
#define F_TOPOLOGY     (1ull << 10)
#define F_CONFIG_WCE   (1ull << 11)
#define F_MQ           (1ull << 12)
#define F_DISCARD      (1ull << 13)
#define F_WRITE_ZEROES (1ull << 14)

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };
enum {
    QUEUE_SIZE = 512,
    SEG_MAX = 256, /* 1 MiB in pages that lie anywhere is one request */
    SECTOR = 512,
    HEADER = 16,
    SERIAL = 20,
    SEGMENT = 16,
    SEGMENTS = 16,
    CONFIG_SIZE = 60,
    CONFIG_WCE = 32, /* offset of the write cache switch */
    KEPT_2 = 256,
    KEPT_WORDS = VIRTIO_BLK_MAX_QUEUES * QUEUE_SIZE / 64,
};

struct virtio_blk {
    struct virtio virtio; /* first */
    struct block *block;
    char serial[SERIAL];
    bool write_cache; /* the switch in the configuration */
    uint32_t pushed;  /* bit a queue: since the last interrupt */
    /* Version 2 of the state listed the heads of chains to be done again, of the only queue. */
    uint16_t kept[KEPT_2], kept_count;
    uint64_t kept_heads[KEPT_WORDS]; /* the same: QUEUE_SIZE bits a queue */
    struct job *spare;
};

struct job { /* one request */
    struct virtio_blk *dev;
    struct job *next; /* in dev->spare */
    struct block_request io;
    struct virtio_chain chain;
    struct iovec data[VIRTIO_CHAIN_MAX];
    uint32_t type;
    unsigned segment, segments;
    struct {
        uint64_t offset, length;
    } range[SEGMENTS];
};

static bool write_through(const struct virtio_blk *d) {
    if (virtio_has(&d->virtio, F_CONFIG_WCE))
        return !d->write_cache;
    return !virtio_has(&d->virtio, F_FLUSH);
}

/* ------------------------------------------------------------------ jobs */

static struct job *job_get(struct virtio_blk *d) {
    struct job *j = d->spare;

    if (j)
        d->spare = j->next;
    else
        j = malloc(sizeof(*j));
    if (j)
        j->dev = d;
    return j;
}

static void job_put(struct job *j) {
    j->next = j->dev->spare;
    j->dev->spare = j;
}

static void finish(struct job *j, uint8_t status) {
    struct virtio_chain *c = &j->chain;

    trace(virtio_blk_done, j->dev->virtio.pci.dev.name, c->head, status);
    iov_write(c->iov + c->out_count, c->in_count, c->in_len - 1, &status, 1);
    /* Counted up to the status byte, also when the data before it was not all written. */
    virtio_push(&j->dev->virtio, c, (uint32_t)c->in_len);
    j->dev->pushed |= 1u << c->queue;
    job_put(j);
}

static void set_data(struct job *j, const struct iovec *iov, unsigned count, uint64_t skip,
                     uint64_t len) {
    j->io.length = len;
    j->io.iov_count = iov_slice(iov, count, skip, len, j->data, &j->io.iov);
}

static void io_done(struct block_request *io, int result);

/* Hands the request to the image; within a kick the answer may come at once. */
static void start(struct job *j, enum block_op op) {
    int result;

    j->io.op = op;
    j->io.done = io_done;
    j->io.opaque = j;
    if (block_try(j->dev->block, &j->io, &result))
        io_done(&j->io, result);
    else
        block_submit(j->dev->block, &j->io);
}

static void start_segment(struct job *j) {
    j->io.offset = j->range[j->segment].offset;
    j->io.length = j->range[j->segment].length;
    j->segment++;
    start(j, j->type == T_DISCARD ? BLOCK_DISCARD : BLOCK_WRITE_ZEROES);
}

/* False if it is kept already, as a driver has it that uses a head twice. */
static bool keep(struct virtio_blk *d, unsigned queue, unsigned head) {
    unsigned n = queue * QUEUE_SIZE + head;
    uint64_t *word = &d->kept_heads[n / 64], bit = 1ull << n % 64;

    if (*word & bit)
        return false;
    *word |= bit;
    return true;
}

static void io_done(struct block_request *io, int result) {
    struct job *j = io->opaque;

    if (j->chain.epoch != j->dev->virtio.epoch) {
        job_put(j); /* the driver has reset the device: nobody waits for this */
        return;
    }
    if (result < 0 && io->keep && keep(j->dev, j->chain.queue, j->chain.head)) {
        job_put(j);
        return;
    }
    if (result < 0) {
        finish(j, result == -EOPNOTSUPP ? S_UNSUPP : S_IOERR);
        return;
    }
    if (j->segment < j->segments)
        start_segment(j);
    else if (j->type != T_IN && io->op != BLOCK_FLUSH && write_through(j->dev))
        start(j, BLOCK_FLUSH);
    else
        finish(j, S_OK);
}

/* ------------------------------------------------------------------ requests */

static bool in_range(const struct virtio_blk *d, uint64_t sector, uint64_t count) {
    uint64_t capacity = d->block ? block_info(d->block)->size / SECTOR : 0;

    return sector <= capacity && count <= capacity - sector;
}

static bool writable(const struct virtio_blk *d) {
    return d->block && !block_info(d->block)->readonly;
}

static void transfer(struct job *j, uint64_t sector) {
    struct virtio_chain *c = &j->chain;
    bool in = j->type == T_IN;
    uint64_t len = in ? c->in_len - 1 : c->out_len - HEADER;

    if (len % SECTOR || !in_range(j->dev, sector, len / SECTOR) || (!in && !writable(j->dev))) {
        finish(j, S_IOERR);
        return;
    }
    if (!len) {
        finish(j, S_OK);
        return;
    }
    j->io.offset = sector * SECTOR;
    if (in)
        set_data(j, c->iov + c->out_count, c->in_count, 0, len);
    else
        set_data(j, c->iov, c->out_count, HEADER, len);
    start(j, in ? BLOCK_READ : BLOCK_WRITE);
}

static void get_id(struct job *j) {
    struct virtio_chain *c = &j->chain;
    uint64_t room = c->in_len - 1;

    iov_write(c->iov + c->out_count, c->in_count, 0, j->dev->serial, room < SERIAL ? room : SERIAL);
    finish(j, S_OK);
}

static void flush(struct job *j) {
    if (j->dev->block)
        start(j, BLOCK_FLUSH);
    else
        finish(j, S_OK);
}

/* Reads one segment; the status that refuses it, or S_OK. */
static uint8_t parse_segment(struct job *j, const uint8_t *bytes) {
    uint64_t sector = load_le64(bytes);
    uint32_t count = load_le32(bytes + 8), flags = load_le32(bytes + 12);

    if ((flags & ~1u) || (j->type == T_DISCARD && flags)) /* 5.2.6.2 */
        return S_UNSUPP;
    if (!in_range(j->dev, sector, count))
        return S_IOERR;
    if (j->segments == 0)
        j->io.unmap = flags & 1;
    else
        j->io.unmap &= flags & 1; /* more allocated than asked for is allowed, less is not */
    j->range[j->segments].offset = sector * SECTOR;
    j->range[j->segments++].length = (uint64_t)count * SECTOR;
    return S_OK;
}

static void ranges(struct job *j) {
    struct virtio_chain *c = &j->chain;
    uint64_t len = c->out_len - HEADER;
    uint64_t feature = j->type == T_DISCARD ? F_DISCARD : F_WRITE_ZEROES;
    uint8_t bytes[SEGMENTS * SEGMENT], status = S_OK;

    if (!virtio_has(&j->dev->virtio, feature))
        status = S_UNSUPP;
    else if (!writable(j->dev) || !len || len % SEGMENT || len > sizeof(bytes))
        status = S_IOERR;
    else
        iov_read(c->iov, c->out_count, HEADER, bytes, len);
    for (unsigned i = 0; status == S_OK && i < len / SEGMENT; i++)
        status = parse_segment(j, bytes + i * SEGMENT);
    if (status == S_OK)
        start_segment(j);
    else
        finish(j, status);
}

static void handle(struct job *j) {
    struct virtio_chain *c = &j->chain;
    uint8_t header[HEADER];

    iov_read(c->iov, c->out_count, 0, header, HEADER);
    j->type = load_le32(header);
    j->segment = j->segments = 0;
    j->io.unmap = false;
    j->io.length = 0;
    trace(virtio_blk_request, j->dev->virtio.pci.dev.name, c->head, j->type, load_le64(header + 8),
          c->out_len, c->in_len);
    switch (j->type) {
    case T_IN:
    case T_OUT:
        transfer(j, load_le64(header + 8));
        break;
    case T_FLUSH:
        flush(j);
        break;
    case T_GET_ID:
        get_id(j);
        break;
    case T_DISCARD:
    case T_WRITE_ZEROES:
        ranges(j);
        break;
    default:
        finish(j, S_UNSUPP);
    }
}

static void interrupt(void *opaque) {
    struct virtio_blk *d = opaque;

    for (unsigned i = 0; d->pushed >> i; i++)
        if (d->pushed & 1u << i)
            virtio_interrupt(&d->virtio, i);
    d->pushed = 0;
}

/* A chain that was taken. */
static void begin(struct virtio_blk *d, struct job *j) {
    if (j->chain.out_len >= HEADER && j->chain.in_len && j->chain.in_len <= UINT32_MAX) {
        handle(j);
        return;
    }
    virtio_broken(&d->virtio,
                  "a block request has no header, no room for a status, or is too long");
    job_put(j);
}

static void do_again(struct virtio_blk *d, unsigned queue, unsigned head) {
    struct job *j = job_get(d);

    if (!j)
        virtio_broken(&d->virtio, "out of memory for a block request that was kept");
    else if (virtio_retake(&d->virtio, queue, (uint16_t)head, &j->chain) == 1)
        begin(d, j);
    else
        job_put(j);
}

static void again(struct virtio_blk *d, uint64_t heads[KEPT_WORDS]) {
    for (unsigned i = 0; i < KEPT_WORDS; i++)
        for (; heads[i]; heads[i] &= heads[i] - 1) {
            unsigned n = i * 64 + (unsigned)__builtin_ctzll(heads[i]);

            do_again(d, n / QUEUE_SIZE, n % QUEUE_SIZE);
        }
    interrupt(d);
}

static void resume(void *opaque) {
    struct virtio_blk *d = opaque;
    uint64_t heads[KEPT_WORDS];

    memcpy(heads, d->kept_heads, sizeof(heads));
    memset(d->kept_heads, 0, sizeof(heads)); /* one that fails at once is kept again */
    block_plug(d->block);
    again(d, heads);
    block_unplug(d->block);
}

static void blk_notify(struct virtio *v, unsigned queue) {
    struct virtio_blk *d = (struct virtio_blk *)v;
    struct job *j;

    if (d->block)
        block_plug(d->block);
    while ((j = job_get(d))) {
        if (virtio_pop(v, queue, &j->chain) != 1) {
            job_put(j);
            break;
        }
        begin(d, j);
    }
    if (d->block)
        block_unplug(d->block);
    if (!j)
        virtio_again(v, queue); /* out of memory: try again from the loop */
    interrupt(d);
}

/* ------------------------------------------------------------------ configuration */

static void blk_config_read(struct virtio *v, unsigned offset, void *buf, unsigned len) {
    struct virtio_blk *d = (struct virtio_blk *)v;
    uint8_t c[CONFIG_SIZE] = {0};

    store_le64(c + 0, d->block ? block_info(d->block)->size / SECTOR : 0);
    store_le32(c + 12, SEG_MAX); /* with header and status a chain is no longer than a queue */
    store_le32(c + 20, SECTOR);
    c[24] = 3;             /* physical blocks of 4096 bytes: the host's pages */
    store_le16(c + 26, 8); /* minimum good I/O size, in blocks */
    c[CONFIG_WCE] = d->write_cache;
    store_le16(c + 34, d->virtio.queue_count);
    store_le32(c + 36,
               UINT32_MAX / SECTOR); /* sectors a discard: 2 TiB would overflow some drivers */
    store_le32(c + 40, SEGMENTS);
    store_le32(c + 44, 8); /* discard alignment: smaller holes free nothing */
    store_le32(c + 48, UINT32_MAX / SECTOR);
    store_le32(c + 52, SEGMENTS);
    c[56] = 1; /* write zeroes may unmap */
    memcpy(buf, c + offset, len);
}

static void blk_config_write(struct virtio *v, unsigned offset, const void *buf, unsigned len) {
    struct virtio_blk *d = (struct virtio_blk *)v;
    const uint8_t *bytes = buf;

    if (virtio_has(v, F_CONFIG_WCE) && offset <= CONFIG_WCE && CONFIG_WCE - offset < len)
        d->write_cache = bytes[CONFIG_WCE - offset] & 1;
}

/* ------------------------------------------------------------------ life */

static void forget(struct virtio_blk *d) {
    d->pushed = 0;
    d->kept_count = 0;
    memset(d->kept_heads, 0, sizeof(d->kept_heads));
    d->write_cache = true;
}

static void blk_status(struct virtio *v, uint8_t old, uint8_t now) {
    struct virtio_blk *d = (struct virtio_blk *)v;

    if (now)
        return;
    if (d->block)
        block_drain(d->block);
    forget(d);
}

static const struct virtio_type blk_type = {
    .id = VIRTIO_ID_BLOCK,
    .features = F_SEG_MAX | F_RO | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY | F_CONFIG_WCE | F_MQ |
                F_DISCARD | F_WRITE_ZEROES,
    .queues = VIRTIO_BLK_MAX_QUEUES,
    .queue_size = QUEUE_SIZE,
    .config_size = CONFIG_SIZE,
    .pci_class = 0x01000000, /* mass storage, SCSI: as other hypervisors say it */
    .notify = blk_notify,
    .status = blk_status,
    .config_read = blk_config_read,
    .config_write = blk_config_write,
};

static void set_callbacks(struct virtio_blk *d, void (*batch)(void *), void (*again_fn)(void *),
                          void (*resize)(void *)) {
    block_set_batch_fn(d->block, batch, d);
    block_set_resume_fn(d->block, again_fn, d);
    block_set_resize_fn(d->block, resize, d);
}

/* 5.2.5.2: the driver reads the capacity again. */
static void resized(void *opaque) { virtio_config_changed(&((struct virtio_blk *)opaque)->virtio); }

static int blk_init(struct device *dev, struct error *err) {
    struct virtio_blk *d = (struct virtio_blk *)dev;
    const struct virtio_blk_config *config = dev->env.config;
    unsigned queues = config && config->queues ? config->queues : 1;
    uint64_t features = blk_type.features & ~F_RO;

    if (config) {
        d->block = config->block;
        memcpy(d->serial, config->serial, strnlen(config->serial, SERIAL));
    }
    if (d->block)
        set_callbacks(d, interrupt, resume, resized);
    if (!writable(d))
        features = (features & ~(F_DISCARD | F_WRITE_ZEROES)) | F_RO;
    if (queues == 1)
        features &= ~F_MQ;
    return virtio_init_queues(&d->virtio, &blk_type, queues, features, err);
}

static void blk_reset(struct device *dev) {
    struct virtio_blk *d = (struct virtio_blk *)dev;

    virtio_reset(&d->virtio);
    forget(d);
}

static void let_go(struct virtio_blk *d) {
    if (!d->block)
        return;
    block_drain(d->block);
    set_callbacks(d, NULL, NULL, NULL);
    d->block = NULL;
}

/* Requests that were kept for better times fail, as all later ones. */
static void blk_abandon(struct device *dev) {
    struct virtio_blk *d = (struct virtio_blk *)dev;
    uint64_t heads[KEPT_WORDS];

    let_go(d);
    memcpy(heads, d->kept_heads, sizeof(heads));
    memset(d->kept_heads, 0, sizeof(d->kept_heads));
    again(d, heads);
    virtio_config_changed(&d->virtio);
}

static void blk_done(struct device *dev) {
    struct virtio_blk *d = (struct virtio_blk *)dev;
    struct job *j;

    d->virtio.epoch++; /* what the drain brings goes nowhere */
    let_go(d);
    virtio_done(&d->virtio);
    while ((j = d->spare)) {
        d->spare = j->next;
        free(j);
    }
}

static void blk_post_load(void *obj) {
    struct virtio_blk *d = obj;

    for (unsigned i = 0; i < d->kept_count; i++)
        if (d->kept[i] < QUEUE_SIZE)
            keep(d, 0, d->kept[i]);
    d->kept_count = 0;
    virtio_post_load(&d->virtio);
}

static const struct state_desc blk_state = {
    .name = "virtio_blk",
    .version = 3,
    .struct_size = sizeof(struct virtio_blk),
    .fields =
        (const struct state_field[]){
            STATE_SUB(struct virtio_blk, virtio, &virtio_state),
            STATE(struct virtio_blk, write_cache), STATE_ARRAY_SINCE(struct virtio_blk, kept, 2),
            STATE_SINCE_MAX(struct virtio_blk, kept_count, 2, KEPT_2),
            STATE_ARRAY_SINCE(struct virtio_blk, kept_heads, 3), STATE_END},
    .post_load = blk_post_load,
};

const struct device_class virtio_blk_class = {
    .name = "virtio_blk",
    .help = "virtio block device (disk)",
    .size = sizeof(struct virtio_blk),
    .state = &blk_state,
    .init = blk_init,
    .reset = blk_reset,
    .done = blk_done,
    .abandon = blk_abandon,
    .pci = true,
};
