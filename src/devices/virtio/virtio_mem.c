/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory device. Source: Virtual I/O Device (VIRTIO) Version 1.2, section 5.15.
 *
 * Queue 0: requests of the driver, answered at once.
 *
 * The usable region (5.15.6) is what the driver may plug and touch: the requested size and some
 * more, so that it can choose. It grows with the request, and shrinks by a reset of the machine
 * only. Nothing behind its end is mapped, so a guest that breaks the rules uses no more of the
 * host's memory than it was granted once, and that little more.
 *
 * A reset of the driver changes nothing (5.15.4); one of the machine unplugs everything.
 */
#include "devices/virtio/virtio_mem.h"

#include <string.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "bus/release.h"
#include "devices/virtio/virtio.h"

enum { BLOCK_SIZE = 0, ADDR = 16, REGION = 24, USABLE = 32, PLUGGED = 40, REQUESTED = 48 };
enum { CONFIG_SIZE = 56, REQUEST_SIZE = 24, RESPONSE_SIZE = 10 };
enum { REQ_PLUG, REQ_UNPLUG, REQ_UNPLUG_ALL, REQ_STATE };
enum { RESP_ACK, RESP_NACK, RESP_BUSY, RESP_ERROR };
enum { STATE_PLUGGED, STATE_UNPLUGGED, STATE_MIXED };
enum { WORDS = VIRTIO_MEM_MAX / VIRTIO_MEM_BLOCK / 64 };

#define USABLE_MORE (256ull << 20)

struct virtio_mem {
    struct virtio virtio; /* first */
    gpa base;
    uint64_t size;
    void (*show)(void *opaque, uint64_t bytes);
    void *opaque;
    uint64_t requested, usable, plugged;
    uint64_t map[WORDS];       /* plugged blocks */
    struct virtio_chain chain; /* scratch: too big for the stack of a vCPU's thread */
};

struct request {
    unsigned type;
    uint64_t first, count; /* blocks */
    bool valid;            /* they lie in the usable region */
};

/* ------------------------------------------------------------------ blocks */

static bool is_plugged(const struct virtio_mem *v, uint64_t block) {
    return v->map[block / 64] >> block % 64 & 1;
}

static uint64_t count_plugged(const struct virtio_mem *v, uint64_t first, uint64_t count) {
    uint64_t n = 0;

    for (uint64_t i = first; i < first + count; i++)
        n += is_plugged(v, i);
    return n;
}

static void set_plugged(struct virtio_mem *v, uint64_t first, uint64_t count, bool yes) {
    for (uint64_t i = first; i < first + count; i++)
        if (yes)
            v->map[i / 64] |= 1ull << i % 64;
        else
            v->map[i / 64] &= ~(1ull << i % 64);
    v->plugged += (yes ? count : -count) * VIRTIO_MEM_BLOCK;
}

static void give_back(struct virtio_mem *v, uint64_t first, uint64_t count) {
    mem_release(v->virtio.pci.dev.env.mem, v->base + first * VIRTIO_MEM_BLOCK,
                count * VIRTIO_MEM_BLOCK);
}

/* By runs: it costs what is plugged. */
static void unplug_all(struct virtio_mem *v) {
    uint64_t end = v->usable / VIRTIO_MEM_BLOCK, next;

    for (uint64_t i = 0; v->plugged && i < end; i = next) {
        for (next = i + 1; next < end && is_plugged(v, next) == is_plugged(v, i); next++)
            ;
        if (is_plugged(v, i)) {
            give_back(v, i, next - i);
            set_plugged(v, i, next - i, false);
        }
    }
}

static void set_usable(struct virtio_mem *v, uint64_t bytes) {
    v->usable = bytes;
    if (v->show)
        v->show(v->opaque, bytes);
}

static uint64_t usable_for(const struct virtio_mem *v, uint64_t requested) {
    uint64_t more = requested ? USABLE_MORE : 0;

    return requested + more < v->size ? requested + more : v->size;
}

/* ------------------------------------------------------------------ requests */

static struct request read_request(const struct virtio_mem *v) {
    const struct virtio_chain *c = &v->chain;
    uint64_t end = v->usable / VIRTIO_MEM_BLOCK, offset;
    uint8_t raw[REQUEST_SIZE] = {0};
    struct request r;

    iov_read(c->iov, c->out_count, 0, raw,
             c->out_len < REQUEST_SIZE ? (size_t)c->out_len : REQUEST_SIZE);
    offset = load_le64(raw + 8) - v->base;
    r.type = load_le16(raw);
    r.first = offset / VIRTIO_MEM_BLOCK;
    r.count = load_le16(raw + 16);
    r.valid =
        offset % VIRTIO_MEM_BLOCK == 0 && r.count && r.first < end && r.count <= end - r.first;
    return r;
}

static unsigned plug(struct virtio_mem *v, const struct request *r) {
    if (!r->valid || count_plugged(v, r->first, r->count))
        return RESP_ERROR;
    if (v->plugged + r->count * VIRTIO_MEM_BLOCK > v->requested)
        return RESP_NACK;
    set_plugged(v, r->first, r->count, true);
    return RESP_ACK;
}

static unsigned unplug(struct virtio_mem *v, const struct request *r) {
    if (!r->valid || count_plugged(v, r->first, r->count) != r->count)
        return RESP_ERROR;
    give_back(v, r->first, r->count);
    set_plugged(v, r->first, r->count, false);
    return RESP_ACK;
}

static unsigned look(const struct virtio_mem *v, const struct request *r, unsigned *ret_state) {
    uint64_t n;

    if (!r->valid)
        return RESP_ERROR;
    n = count_plugged(v, r->first, r->count);
    *ret_state = n == r->count ? STATE_PLUGGED : n ? STATE_MIXED : STATE_UNPLUGGED;
    return RESP_ACK;
}

static void answer(struct virtio_mem *v) {
    struct virtio_chain *c = &v->chain;
    struct request r = read_request(v);
    uint8_t raw[RESPONSE_SIZE] = {0};
    unsigned result = RESP_ERROR, state = 0;
    size_t size = c->in_len < RESPONSE_SIZE ? (size_t)c->in_len : RESPONSE_SIZE;

    if (r.type == REQ_PLUG)
        result = plug(v, &r);
    else if (r.type == REQ_UNPLUG)
        result = unplug(v, &r);
    else if (r.type == REQ_UNPLUG_ALL)
        result = (unplug_all(v), RESP_ACK);
    else if (r.type == REQ_STATE)
        result = look(v, &r, &state);
    trace(virtio_mem_request, r.type, r.first, r.count, result);
    store_le16(raw, (uint16_t)result);
    store_le16(raw + 8, (uint16_t)state);
    iov_write(c->iov + c->out_count, c->in_count, 0, raw, size);
    virtio_push(&v->virtio, c, (uint32_t)size);
}

static void notify(struct virtio *virtio, unsigned queue) {
    struct virtio_mem *v = (struct virtio_mem *)virtio;

    while (virtio_pop(virtio, queue, &v->chain) == 1)
        answer(v);
    virtio_interrupt(virtio, queue);
}

static void config_read(struct virtio *virtio, unsigned offset, void *buf, unsigned len) {
    const struct virtio_mem *v = (const struct virtio_mem *)virtio;
    uint8_t c[CONFIG_SIZE] = {0};

    store_le64(c + BLOCK_SIZE, VIRTIO_MEM_BLOCK);
    store_le64(c + ADDR, v->base);
    store_le64(c + REGION, v->size);
    store_le64(c + USABLE, v->usable);
    store_le64(c + PLUGGED, v->plugged);
    store_le64(c + REQUESTED, v->requested);
    memcpy(buf, c + offset, len);
}

static const struct virtio_type type = {
    .id = VIRTIO_ID_MEM,
    .queues = 1,
    .queue_size = 128,
    .config_size = CONFIG_SIZE,
    .pci_class = 0x00ff0000,
    .notify = notify,
    .config_read = config_read,
};

/* ------------------------------------------------------------------ the host's side */

void virtio_mem_set(struct device *dev, uint64_t bytes) {
    struct virtio_mem *v = (struct virtio_mem *)dev;

    if (bytes > v->size)
        bytes = v->size;
    v->requested = (bytes + VIRTIO_MEM_BLOCK - 1) & ~(VIRTIO_MEM_BLOCK - 1);
    if (usable_for(v, v->requested) > v->usable)
        set_usable(v, usable_for(v, v->requested));
    virtio_config_changed(&v->virtio);
}

void virtio_mem_status(struct device *dev, struct virtio_mem_status *ret) {
    const struct virtio_mem *v = (const struct virtio_mem *)dev;

    *ret = (struct virtio_mem_status){.driver = virtio_live(&v->virtio),
                                      .wanted = v->requested,
                                      .plugged = v->plugged,
                                      .limit = v->size};
}

static int init(struct device *dev, struct error *err) {
    const struct virtio_mem_config *config = dev->env.config;
    struct virtio_mem *v = (struct virtio_mem *)dev;

    if (config) {
        v->base = config->base;
        v->size = config->size < VIRTIO_MEM_MAX ? config->size : VIRTIO_MEM_MAX;
        v->show = config->show;
        v->opaque = config->opaque;
    }
    return virtio_init(&v->virtio, &type, type.features, err);
}

/* The request is the host's, and stays. */
static void reset(struct device *dev) {
    struct virtio_mem *v = (struct virtio_mem *)dev;

    virtio_reset(&v->virtio);
    unplug_all(v);
    give_back(v, 0, v->usable / VIRTIO_MEM_BLOCK); /* what was written and not plugged */
    set_usable(v, usable_for(v, v->requested));
}

static void done(struct device *dev) { virtio_done((struct virtio *)dev); }

/* Of a snapshot that does not keep to the rules only what does is taken. */
static void post_load(void *obj) {
    struct virtio_mem *v = obj;
    uint64_t blocks = v->size / VIRTIO_MEM_BLOCK;

    v->requested &= ~(VIRTIO_MEM_BLOCK - 1);
    if (v->requested > v->size)
        v->requested = v->size;
    v->usable &= ~(VIRTIO_MEM_BLOCK - 1);
    if (v->usable > v->size)
        v->usable = v->size;
    if (v->usable < usable_for(v, v->requested))
        v->usable = usable_for(v, v->requested);
    for (uint64_t i = v->usable / VIRTIO_MEM_BLOCK; i < WORDS * 64ull; i++)
        v->map[i / 64] &= ~(1ull << i % 64);
    v->plugged = count_plugged(v, 0, blocks) * VIRTIO_MEM_BLOCK;
    set_usable(v, v->usable);
    virtio_post_load(&v->virtio);
}

// clang-format off
static const struct state_desc state = {
    .name = "virtio_mem",
    .version = 1,
    .struct_size = sizeof(struct virtio_mem),
    .post_load = post_load,
    .fields = (const struct state_field[]){
        STATE_SUB(struct virtio_mem, virtio, &virtio_state),
        STATE(struct virtio_mem, requested),
        STATE(struct virtio_mem, usable),
        STATE_ARRAY(struct virtio_mem, map),
        STATE_END,
    },
};
// clang-format on

const struct device_class virtio_mem_class = {
    .name = "virtio_mem",
    .help = "virtio memory that comes and goes by blocks of 2 MiB",
    .size = sizeof(struct virtio_mem),
    .state = &state,
    .init = init,
    .reset = reset,
    .done = done,
    .pci = true,
};
