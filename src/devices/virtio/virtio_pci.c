/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The PCI transport of virtio devices: one memory BAR with all register areas.
 * Source: Virtual I/O Device (VIRTIO) Version 1.2, section 4.1 (PCI), 2.1 (status), 2.2 (features),
 * 3.1.1 (initialisation order).
 *
 * BAR 0, 64-bit, 32 KiB:  0000 common configuration   1000 ISR   2000 device configuration
 *                         3000 notify, 4 bytes a queue   4000 MSI-X table   5000 MSI-X PBA
 *
 * Theory of operation. The common area is read by drawing it whole and cutting out the bytes asked
 * for, and written by drawing it, laying the bytes over it and applying each register that they
 * touch: so all widths work, and the 64-bit addresses are pairs of 32-bit registers.
 *
 * Where the host's kernel can tell us of kicks by itself, each queue has a doorbell at its place in
 * the notify area: a kick then comes on the loop's thread, while the processor goes on.
 *
 * Departures: status bits that the driver clears stay set until it writes 0 (2.1.1 forbids
 * clearing). Only queue_enable = 1 does something. Registers of a queue are fixed while it is
 * enabled. DRIVER_OK without FEATURES_OK is not taken (that is the legacy interface, which is not
 * offered).
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "bus/wires.h"
#include "devices/virtio/virtio_internal.h"

enum { VENDOR_VIRTIO = 0x1af4, DEVICE_BASE = 0x1040, REVISION = 1 };
// clang-format off
enum {
    AREA_SIZE = 0x1000, AREA_COMMON = 0x0000, AREA_ISR = 0x1000, AREA_DEVICE = 0x2000,
    AREA_NOTIFY = 0x3000,
    AREA_MSIX = 0x4000, AREA_PBA = 0x5000, BAR = 0, BAR_SIZE = 0x8000, NOTIFY_STRIDE = 4,
};
enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4, CAP_PCI = 5 };
enum { /* common configuration (4.1.4.3) */
    DEVICE_FEATURE_SEL = 0x00, DEVICE_FEATURE = 0x04, DRIVER_FEATURE_SEL = 0x08,
    DRIVER_FEATURE = 0x0c,
    CONFIG_VECTOR = 0x10, NUM_QUEUES = 0x12, DEVICE_STATUS = 0x14, CONFIG_GENERATION = 0x15,
    QUEUE_SEL = 0x16, QUEUE_SIZE = 0x18, QUEUE_VECTOR = 0x1a, QUEUE_ENABLE = 0x1c,
    QUEUE_NOTIFY_OFF = 0x1e,
    QUEUE_DESC = 0x20, QUEUE_AVAIL = 0x28, QUEUE_USED = 0x30, COMMON_SIZE = 0x38,
};
// clang-format on

void virtio_signal(struct virtio *v, uint16_t vector, uint8_t isr) {
    bool msix = pci_msix_enabled(&v->pci);

    if (!msix || isr == VIRTIO_ISR_CONFIG)
        v->isr |= isr;
    if (msix)
        pci_msix_notify(&v->pci, vector);
    else
        pci_set_intx(&v->pci, true);
}

void virtio_config_changed(struct virtio *v) {
    v->config_generation++;
    if (virtio_live(v))
        virtio_signal(v, v->config_vector, VIRTIO_ISR_CONFIG);
}

/* What the transport resets when the driver writes status 0: not the PCI side. */
static void reset_registers(struct virtio *v) {
    uint8_t old = v->status;

    v->epoch++;
    v->status = 0;
    virtio_again_stop(v);
    trace(virtio_reset, v->pci.dev.name, v->epoch);
    if (v->type->status)
        v->type->status(v, old, 0);
    v->driver_features = 0;
    v->device_feature_sel = v->driver_feature_sel = 0;
    v->config_vector = VIRTIO_NO_VECTOR;
    v->queue_sel = 0;
    v->isr = 0;
    for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
        virtqueue_reset(&v->queue[i], v->type->queue_size);
    pci_set_intx(&v->pci, false);
}

static bool features_acceptable(const struct virtio *v) {
    return !(v->driver_features & ~v->offered) && (v->driver_features & VIRTIO_F_VERSION_1);
}

static void write_status(struct virtio *v, uint8_t value) {
    uint8_t old = v->status, now = old | (value & (uint8_t)~VIRTIO_STATUS_NEEDS_RESET);

    if (!value) {
        reset_registers(v);
        return;
    }
    if ((now & ~old & VIRTIO_STATUS_FEATURES_OK) && !features_acceptable(v)) {
        trace(virtio_ignored, v->pci.dev.name, "FEATURES_OK for features that were not offered");
        now &= (uint8_t)~VIRTIO_STATUS_FEATURES_OK;
    }
    if ((now & ~old & VIRTIO_STATUS_DRIVER_OK) && !(now & VIRTIO_STATUS_FEATURES_OK)) {
        trace(virtio_ignored, v->pci.dev.name, "DRIVER_OK without FEATURES_OK");
        now &= (uint8_t)~VIRTIO_STATUS_DRIVER_OK;
    }
    v->status = now;
    if (now != old && v->type->status)
        v->type->status(v, old, now);
}

/* ---- common configuration ---- */

static void draw_queue(const struct virtio *v, uint8_t *c) {
    const struct virtqueue *q;

    if (v->queue_sel >= v->queue_count) /* size 0: there is no such queue */
        return;
    q = &v->queue[v->queue_sel];
    store_le16(c + QUEUE_SIZE, q->size);
    store_le16(c + QUEUE_VECTOR, q->vector);
    store_le16(c + QUEUE_ENABLE, q->enabled);
    store_le16(c + QUEUE_NOTIFY_OFF, v->queue_sel);
    store_le64(c + QUEUE_DESC, q->desc);
    store_le64(c + QUEUE_AVAIL, q->avail);
    store_le64(c + QUEUE_USED, q->used);
}

static void draw_common(const struct virtio *v, uint8_t *c) {
    memset(c, 0, COMMON_SIZE);
    store_le32(c + DEVICE_FEATURE_SEL, v->device_feature_sel);
    if (v->device_feature_sel < 2)
        store_le32(c + DEVICE_FEATURE, (uint32_t)(v->offered >> (32 * v->device_feature_sel)));
    store_le32(c + DRIVER_FEATURE_SEL, v->driver_feature_sel);
    if (v->driver_feature_sel < 2)
        store_le32(c + DRIVER_FEATURE,
                   (uint32_t)(v->driver_features >> (32 * v->driver_feature_sel)));
    store_le16(c + CONFIG_VECTOR, v->config_vector);
    store_le16(c + NUM_QUEUES, v->queue_count);
    c[DEVICE_STATUS] = v->status;
    c[CONFIG_GENERATION] = v->config_generation;
    store_le16(c + QUEUE_SEL, v->queue_sel);
    draw_queue(v, c);
}

static void write_driver_feature(struct virtio *v, uint32_t value) {
    unsigned shift = 32 * v->driver_feature_sel;

    if (v->driver_feature_sel >= 2 || (v->status & VIRTIO_STATUS_FEATURES_OK)) {
        trace(virtio_ignored, v->pci.dev.name, "driver features outside of negotiation");
        return;
    }
    v->driver_features = (v->driver_features & ~(0xffffffffull << shift)) | (uint64_t)value
                                                                                << shift;
}

/* A vector that the table lacks reads back as "none" (4.1.5.1.2). */
static uint16_t vector_or_none(const struct virtio *v, uint32_t value) {
    return value < v->pci.vectors ? (uint16_t)value : VIRTIO_NO_VECTOR;
}

static void set_half(uint64_t *addr, bool high, uint32_t value) {
    *addr = high ? (*addr & 0xffffffff) | (uint64_t)value << 32 : (*addr & ~0xffffffffull) | value;
}

static void write_queue(struct virtio *v, unsigned at, uint32_t value) {
    struct virtqueue *q = &v->queue[v->queue_sel < v->queue_count ? v->queue_sel : 0];

    if (v->queue_sel >= v->queue_count || (q->enabled && at != QUEUE_VECTOR)) {
        trace(virtio_ignored, v->pci.dev.name, "write to a queue that is absent or enabled");
        return;
    }
    switch (at) {
    case QUEUE_SIZE:
        if (value && value <= v->type->queue_size && !(value & (value - 1)))
            q->size = (uint16_t)value;
        else
            trace(virtio_ignored, v->pci.dev.name, "queue size that was not offered");
        break;
    case QUEUE_VECTOR:
        q->vector = vector_or_none(v, value);
        break;
    case QUEUE_ENABLE:
        q->enabled = value == 1;
        break;
    case QUEUE_DESC:
    case QUEUE_DESC + 4:
        set_half(&q->desc, at & 4, value);
        break;
    case QUEUE_AVAIL:
    case QUEUE_AVAIL + 4:
        set_half(&q->avail, at & 4, value);
        break;
    case QUEUE_USED:
    case QUEUE_USED + 4:
        set_half(&q->used, at & 4, value);
        break;
    }
}

static void write_register(struct virtio *v, unsigned at, uint32_t value) {
    switch (at) {
    case DEVICE_FEATURE_SEL:
        v->device_feature_sel = value;
        break;
    case DRIVER_FEATURE_SEL:
        v->driver_feature_sel = value;
        break;
    case DRIVER_FEATURE:
        write_driver_feature(v, value);
        break;
    case CONFIG_VECTOR:
        v->config_vector = vector_or_none(v, value);
        break;
    case DEVICE_STATUS:
        write_status(v, (uint8_t)value);
        break;
    case QUEUE_SEL:
        v->queue_sel = (uint16_t)value;
        break;
    default:
        write_queue(v, at, value);
        break;
    }
}

// clang-format off
static const struct {
    uint8_t at, size;
} writable[] = {
    {DEVICE_FEATURE_SEL, 4}, {DRIVER_FEATURE_SEL, 4}, {DRIVER_FEATURE, 4}, {CONFIG_VECTOR, 2},
    {DEVICE_STATUS, 1},
    {QUEUE_SEL, 2}, {QUEUE_SIZE, 2}, {QUEUE_VECTOR, 2}, {QUEUE_ENABLE, 2}, {QUEUE_DESC, 4},
    {QUEUE_DESC + 4, 4},
    {QUEUE_AVAIL, 4}, {QUEUE_AVAIL + 4, 4}, {QUEUE_USED, 4}, {QUEUE_USED + 4, 4},
};
// clang-format on

static uint64_t common_read(struct virtio *v, unsigned offset, unsigned size) {
    uint8_t area[COMMON_SIZE + 8] = {0};
    uint64_t value;

    if (offset >= COMMON_SIZE)
        return 0;
    draw_common(v, area);
    value = load_le64(area + offset) & (~0ull >> (64 - 8 * size));
    trace(virtio_common_read, v->pci.dev.name, offset, size, value);
    return value;
}

static void common_write(struct virtio *v, unsigned offset, unsigned size, uint64_t value) {
    uint8_t area[COMMON_SIZE + 8] = {0};

    trace(virtio_common_write, v->pci.dev.name, offset, size, value);
    if (offset >= COMMON_SIZE)
        return;
    draw_common(v, area);
    for (unsigned i = 0; i < size; i++)
        area[offset + i] = (uint8_t)(value >> (8 * i));
    for (unsigned i = 0; i < sizeof(writable) / sizeof(writable[0]); i++) {
        unsigned at = writable[i].at, n = writable[i].size;

        if (offset < at + n && at < offset + size)
            write_register(v, at, load_le32(area + at) & (uint32_t)(0xffffffff >> (32 - 8 * n)));
    }
}

/* ---- device configuration ---- */

static uint64_t device_read(struct virtio *v, unsigned offset, unsigned size) {
    uint8_t bytes[8] = {0};

    if (offset >= v->type->config_size)
        return 0;
    if (size > v->type->config_size - offset)
        size = v->type->config_size - offset;
    v->type->config_read(v, offset, bytes, size);
    return load_le64(bytes);
}

static void device_write(struct virtio *v, unsigned offset, unsigned size, uint64_t value) {
    uint8_t bytes[8];

    if (!v->type->config_write || offset >= v->type->config_size ||
        size > v->type->config_size - offset) {
        trace(virtio_ignored, v->pci.dev.name, "write to read-only configuration");
        return;
    }
    store_le64(bytes, value);
    v->type->config_write(v, offset, bytes, size);
}

/* ---- the BAR ---- */

/* Reading acknowledges (4.1.4.5). */
static uint8_t read_isr(struct virtio *v) {
    uint8_t isr = v->isr;

    v->isr = 0;
    pci_set_intx(&v->pci, false);
    return isr;
}

static uint64_t bar_read(void *opaque, uint64_t offset, unsigned size) {
    struct virtio *v = opaque;
    unsigned at = (unsigned)offset & (AREA_SIZE - 1);
    uint64_t value;

    switch (offset & ~(uint64_t)(AREA_SIZE - 1)) {
    case AREA_COMMON:
        return common_read(v, at, size);
    case AREA_ISR:
        return at ? 0 : read_isr(v);
    case AREA_DEVICE:
        return device_read(v, at, size);
    default:
        return pci_msix_read(&v->pci, BAR, offset, size, &value) ? value : 0;
    }
}

static void bar_write(void *opaque, uint64_t offset, unsigned size, uint64_t value) {
    struct virtio *v = opaque;
    unsigned at = (unsigned)offset & (AREA_SIZE - 1);

    switch (offset & ~(uint64_t)(AREA_SIZE - 1)) {
    case AREA_COMMON:
        common_write(v, at, size, value);
        break;
    case AREA_DEVICE:
        device_write(v, at, size, value);
        break;
    case AREA_NOTIFY: /* the place says which queue, as the driver was told by queue_notify_off */
        if (at % NOTIFY_STRIDE == 0)
            virtio_kick(v, at / NOTIFY_STRIDE);
        break;
    default:
        pci_msix_write(&v->pci, BAR, offset, size, value);
        break;
    }
}

static void rung(void *opaque, unsigned queue) { virtio_kick(opaque, queue); }

static void bar_moved(struct pci_device *d, unsigned bar) {
    struct virtio *v = (struct virtio *)d;
    const struct pci_bar *b = &d->bar[bar];

    for (unsigned i = 0; bar == BAR && i < v->queue_count; i++) {
        uint64_t place = b->region.base + AREA_NOTIFY + i * NOTIFY_STRIDE;

        if (!v->bell[i] && b->mapped)
            v->bell[i] = doorbell_new(pci_bus_wires(d->bus), rung, v, i);
        if (v->bell[i])
            doorbell_move(v->bell[i], b->mapped ? place : DOORBELL_NOWHERE);
    }
}

static const struct io_ops bar_ops = {bar_read, bar_write, 1, 8};

/* ---- PCI configuration ---- */

/* The window of the configuration access capability (4.1.4.9): which access do its registers
 * describe? */
static bool pci_cfg_access(const struct virtio *v, uint32_t *ret_offset, uint32_t *ret_len) {
    const uint8_t *cap = v->pci.config + v->pci_cfg_cap;
    uint32_t offset = load_le32(cap + 8), len = load_le32(cap + 12);

    if (cap[4] != BAR || (len != 1 && len != 2 && len != 4) || offset % len || offset >= BAR_SIZE)
        return false;
    *ret_offset = offset;
    *ret_len = len;
    return true;
}

static bool hits_pci_cfg_data(const struct virtio *v, unsigned offset, unsigned size) {
    unsigned at = v->pci_cfg_cap + 16;

    return offset < at + 4 && at < offset + size;
}

static void config_reading(struct pci_device *d, unsigned offset, unsigned size) {
    struct virtio *v = (struct virtio *)d;
    uint32_t at, len;

    if (hits_pci_cfg_data(v, offset, size) && pci_cfg_access(v, &at, &len))
        store_le32(d->config + v->pci_cfg_cap + 16, (uint32_t)bar_read(v, at, len));
}

static void config_written(struct pci_device *d, unsigned offset, unsigned size) {
    struct virtio *v = (struct virtio *)d;
    bool master = d->config[PCI_COMMAND] & PCI_COMMAND_MASTER;
    uint32_t at, len;

    if (hits_pci_cfg_data(v, offset, size) && pci_cfg_access(v, &at, &len)) {
        uint32_t value = load_le32(d->config + v->pci_cfg_cap + 16);

        bar_write(v, at, len, len == 4 ? value : value & ((1u << (8 * len)) - 1));
    }
    if (master && !v->was_master)
        virtio_kick_all(v);
    v->was_master = master;
}

static unsigned add_cap(struct virtio *v, uint8_t type, uint32_t offset, uint32_t len,
                        unsigned extra_len, uint32_t extra, const uint8_t *wmask) {
    uint8_t body[18] = {0}; /* from cap_len on: the PCI core puts id and next before it */

    body[0] = (uint8_t)(16 + extra_len);
    body[1] = type;
    body[2] = BAR;
    store_le32(body + 6, offset);
    store_le32(body + 10, len);
    store_le32(body + 14, extra);
    return pci_add_cap(&v->pci, PCI_CAP_VENDOR, body, 14 + extra_len, wmask);
}

static void add_caps(struct virtio *v) {
    /* cap.bar, cap.offset, cap.length and the data window are the driver's to write. */
    static const uint8_t window[18] = {[2] = 0xff, [6 ... 17] = 0xff};

    v->pci_cfg_cap = add_cap(v, CAP_PCI, 0, 0, 4, 0, window);
    if (v->type->config_size)
        add_cap(v, CAP_DEVICE, AREA_DEVICE, v->type->config_size, 0, 0, NULL);
    add_cap(v, CAP_ISR, AREA_ISR, 1, 0, 0, NULL);
    add_cap(v, CAP_NOTIFY, AREA_NOTIFY, v->queue_count * NOTIFY_STRIDE, 4, NOTIFY_STRIDE, NULL);
    add_cap(v, CAP_COMMON, AREA_COMMON, COMMON_SIZE, 0, 0, NULL);
}

/* ---- life ---- */

int virtio_init(struct virtio *v, const struct virtio_type *type, uint64_t features,
                struct error *err) {
    return virtio_init_queues(v, type, type->queues, features, err);
}

int virtio_init_queues(struct virtio *v, const struct virtio_type *type, unsigned queues,
                       uint64_t features, struct error *err) {
    struct pci_device *d = &v->pci;

    assert(type->queues <= VIRTIO_MAX_QUEUES && type->config_size <= AREA_SIZE);
    assert(queues && queues <= type->queues);
    assert(type->queue_size <= VIRTIO_QUEUE_SIZE_MAX && !(features & ~type->features));
    v->type = type;
    v->queue_count = (uint16_t)queues;
    v->offered = features | VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;
    clock_timer_init(&v->again, d->dev.env.clock, virtio_again_fired, v);
    pci_init_header(d, VENDOR_VIRTIO, (uint16_t)(DEVICE_BASE + type->id),
                    type->pci_class | REVISION, VENDOR_VIRTIO, (uint16_t)(DEVICE_BASE + type->id));
    d->config[PCI_INT_PIN] = 1;
    pci_init_bar(d, BAR, BAR_SIZE, false, true, &bar_ops, "virtio");
    add_caps(v);
    d->bar_moved = bar_moved;
    d->config_reading = config_reading;
    d->config_written = config_written;
    return pci_init_msix(d, queues + 1, BAR, AREA_MSIX, AREA_PBA);
}

void virtio_done(struct virtio *v) {
    if (!v->type) /* virtio_init was not reached */
        return;
    virtio_again_stop(v);
    pci_bus_detach(&v->pci);
    for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
        doorbell_free(v->bell[i]);
}

void virtio_reset(struct virtio *v) {
    reset_registers(v);
    v->config_generation = 0;
    pci_reset(&v->pci);
    v->was_master = false;
}

void virtio_post_load(struct virtio *v) {
    v->epoch++;
    for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
        virtqueue_loaded(&v->queue[i]);
    v->was_master = v->pci.config[PCI_COMMAND] & PCI_COMMAND_MASTER;
    pci_post_load(&v->pci);
    virtio_again_stop(v);
    virtio_kick_all(v);
}

static int validate(const void *obj, struct error *err) {
    const struct virtio *v = obj;

    if ((v->status & VIRTIO_STATUS_FEATURES_OK) && !features_acceptable(v))
        return error_set(err, -EINVAL,
                         "device '%s': the saved state uses features 0x%llx but only 0x%llx are "
                         "offered here; load "
                         "it into a machine with the same devices",
                         v->pci.dev.name, (unsigned long long)v->driver_features,
                         (unsigned long long)v->offered);
    for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++) {
        const struct virtqueue *q = &v->queue[i];

        if (!q->size || q->size > v->type->queue_size || (q->size & (q->size - 1)) ||
            (q->enabled && i >= v->queue_count))
            return error_set(err, -EINVAL,
                             "device '%s': the saved queue %u (size %u) does not exist here; load "
                             "the state into a "
                             "machine with the same devices",
                             v->pci.dev.name, i, q->size);
    }
    return 0;
}

// clang-format off
const struct state_desc virtio_state = {
    .name = "virtio",
    .version = 1,
    .struct_size = sizeof(struct virtio),
    .validate = validate,
    .fields = (const struct state_field[]){
        STATE_SUB(struct virtio, pci, &pci_device_state),
        STATE(struct virtio, driver_features),
        STATE(struct virtio, device_feature_sel),
        STATE(struct virtio, driver_feature_sel),
        STATE(struct virtio, config_vector),
        STATE(struct virtio, queue_sel),
        STATE(struct virtio, status),
        STATE(struct virtio, isr),
        STATE(struct virtio, config_generation),
        STATE_SUB_ARRAY(struct virtio, queue, &virtqueue_state),
        STATE_END,
    },
};
// clang-format on
