/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio devices over PCI, modern interface only.
 * Source: Virtual I/O Device (VIRTIO) Version 1.2: 2 (basic facilities), 2.7 split virtqueues, 4.1
 * PCI transport.
 *
 * Contract: machine lock held. The transport (virtio_pci.c) owns feature negotiation, status, queue
 * registers, MSI-X vectors and the config window; a device type supplies struct virtio_type and
 * works on whole descriptor chains already checked against guest memory. A guest that breaks the
 * ring rules puts the device into needs-reset (2.1.2), never anything worse.
 *
 * Work per kick is bounded: inside one notify call virtio_pop gives at most as many chains as the
 * queue has entries, then says "empty", and the transport calls notify again from a timer that is
 * due at once, so that a driver that refills as fast as we take cannot hold the machine lock. What
 * one chain costs the type bounds itself: a chain may describe VIRTIO_CHAIN_MAX times the whole
 * guest memory.
 *
 * Reset with requests in flight: `status(v, old, 0)` must not return before the backend has stopped
 * touching guest memory (block_drain or cancel). Completions that arrive during or after it are
 * harmless: a chain carries the epoch it was taken in, and virtio_push drops chains of an earlier
 * epoch. State is saved only when nothing is in flight (the machine drains first); after a load
 * every live queue is notified once.
 *
 * While the driver has bus mastering off the device is not live; queues are notified when it comes
 * on.
 */
#ifndef DEVICES_VIRTIO_VIRTIO_H
#define DEVICES_VIRTIO_VIRTIO_H

#include "base/iov.h"
#include "devices/pci.h"

enum { VIRTIO_MAX_QUEUES = 8, VIRTIO_QUEUE_SIZE_MAX = 512, VIRTIO_CHAIN_MAX = 258 };
enum {
    VIRTIO_ID_NET = 1,
    VIRTIO_ID_BLOCK = 2,
    VIRTIO_ID_CONSOLE = 3,
    VIRTIO_ID_RNG = 4,
    VIRTIO_ID_BALLOON = 5,
    VIRTIO_ID_SCSI = 8,
    VIRTIO_ID_GPU = 16,
    VIRTIO_ID_INPUT = 18,
    VIRTIO_ID_VSOCK = 19,
    VIRTIO_ID_MEM = 24,
    VIRTIO_ID_FS = 26
};
#define VIRTIO_F_INDIRECT_DESC (1ull << 28)
#define VIRTIO_F_EVENT_IDX     (1ull << 29)
#define VIRTIO_F_VERSION_1     (1ull << 32)

struct virtio;

/* One request taken from a queue. Guest memory; out = readable by the device, in = writable. */
struct virtio_chain {
    uint16_t head;
    uint16_t queue;
    uint32_t epoch; /* of struct virtio when it was taken */
    unsigned out_count, in_count;
    uint64_t out_len, in_len;
    struct iovec iov[VIRTIO_CHAIN_MAX]; /* first out_count readable, then in_count writable */
    gpa addr[VIRTIO_CHAIN_MAX];         /* their guest addresses */
};

struct virtqueue {
    uint16_t size; /* as set by the driver */
    uint16_t vector;
    bool enabled;
    uint64_t desc, avail, used; /* guest addresses */
    uint16_t last_avail, used_idx;
    uint16_t signalled_used; /* for EVENT_IDX */
    bool signalled_valid;    /* false after a load */
    bool quiet;              /* the type asked for no kicks (virtio_want_kick) */
    bool starved;            /* budget used up with chains left */
    uint32_t budget;         /* chains left in this notify call */
};

struct virtio_type {
    uint16_t id;
    uint64_t features; /* offered besides VERSION_1, INDIRECT_DESC, EVENT_IDX */
    unsigned queues;
    uint16_t queue_size; /* offered size, power of two */
    unsigned config_size;
    uint32_t pci_class;                               /* class code << 8 */
    void (*notify)(struct virtio *v, unsigned queue); /* the driver kicked */
    /* Optional: DRIVER_OK set; reset (now 0). */
    void (*status)(struct virtio *v, uint8_t old, uint8_t now);
    /* [offset, offset + len) lies in config_size. Writing is optional. */
    void (*config_read)(struct virtio *v, unsigned offset, void *buf, unsigned len);
    void (*config_write)(struct virtio *v, unsigned offset, const void *buf, unsigned len);
};

struct virtio {
    struct pci_device pci; /* first */
    const struct virtio_type *type;
    uint64_t driver_features;
    uint32_t device_feature_sel, driver_feature_sel;
    uint16_t config_vector, queue_sel;
    uint8_t status, isr, config_generation;
    struct virtqueue queue[VIRTIO_MAX_QUEUES];
    uint64_t offered;      /* features of this instance */
    uint16_t queue_count;  /* of this instance */
    uint32_t epoch;        /* counts resets and loads */
    uint32_t again_queues; /* bit a queue: notify when `again` fires */
    struct clock_timer again;
    unsigned pci_cfg_cap; /* offset of the configuration access capability */
    bool was_master;      /* bus mastering before the last configuration write */
    struct doorbell *bell[VIRTIO_MAX_QUEUES]; /* NULL: kicks come as accesses to the BAR */
};

/* For STATE_SUB at the start of a device type's table. */
extern const struct state_desc virtio_state;

/* For the init, reset, done and post_load of a device type. `features` are those of this instance,
 * out of type->features, `queues` its queues, at most type->queues; virtio_init has all of them. */
int virtio_init_queues(struct virtio *v, const struct virtio_type *type, unsigned queues,
                       uint64_t features, struct error *err);
int virtio_init(struct virtio *v, const struct virtio_type *type, uint64_t features,
                struct error *err);
void virtio_done(struct virtio *v); /* accepts a half-initialised device; first drain as on reset */
/* Full reset: registers, queues, PCI; calls status(v, old, 0). */
void virtio_reset(struct virtio *v);
void virtio_post_load(struct virtio *v);

bool virtio_has(const struct virtio *v, uint64_t feature); /* negotiated */
bool virtio_live(const struct virtio *v);                  /* DRIVER_OK, not broken */

/* Takes the next chain: 1 taken, 0 nothing now (also when not live), -1 the ring is broken (device
 * now needs reset). */
int virtio_pop(struct virtio *v, unsigned queue, struct virtio_chain *ret_chain);
/* Takes a chain again that was popped before and never pushed, by its head: 1 taken, 0 not live, -1
 * broken. The same as it was, if the driver keeps to the rules. */
int virtio_retake(struct virtio *v, unsigned queue, uint16_t head, struct virtio_chain *ret_chain);
/* Puts back the chain that was popped last from this queue: the next pop gives it again. */
void virtio_unpop(struct virtio *v, const struct virtio_chain *chain);
/* Gives it back with `written` bytes written; marks guest pages written. Does not interrupt. */
void virtio_push(struct virtio *v, const struct virtio_chain *chain, uint32_t written);
/* The same, but the driver sees it only with the next virtio_push (a frame in several buffers); one
 * must follow. */
void virtio_push_later(struct virtio *v, const struct virtio_chain *chain, uint32_t written);
/* Interrupts if the driver wants it after the pushes so far. */
void virtio_interrupt(struct virtio *v, unsigned queue);
/* Tells the driver whether kicks are wanted (they are unless this says no). Returns true if chains
 * arrived meanwhile. */
bool virtio_want_kick(struct virtio *v, unsigned queue, bool want);
/* Notifies the type again, soon, from the loop. */
void virtio_again(struct virtio *v, unsigned queue);
void virtio_config_changed(struct virtio *v);
void virtio_broken(struct virtio *v, const char *why);

#endif
