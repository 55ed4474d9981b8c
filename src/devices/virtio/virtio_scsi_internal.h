/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the requests of the SCSI adapter (virtio_scsi.c) and its control and event queues
 * (virtio_scsi_task.c). */
#ifndef DEVICES_VIRTIO_VIRTIO_SCSI_INTERNAL_H
#define DEVICES_VIRTIO_VIRTIO_SCSI_INTERNAL_H

#include "block/block.h"
#include "devices/scsi.h"
#include "devices/virtio/virtio.h"
#include "devices/virtio/virtio_scsi.h"

#define F_HOTPLUG (1ull << 1)
#define F_CHANGE  (1ull << 2)

// clang-format off
enum { CONTROL_QUEUE = 0, EVENT_QUEUE = 1, REQUEST_QUEUE = 2, QUEUE_SIZE = 512,
       KEPT_WORDS = VIRTIO_MAX_QUEUES * QUEUE_SIZE / 64, LUN_SIZE = 8, SENSE_MAX = 252 };
enum { /* responses */
    S_OK = 0, S_OVERRUN = 1, S_ABORTED = 2, S_BAD_TARGET = 3, S_RESET = 4, S_FAILURE = 9,
    S_FUNCTION_SUCCEEDED = 10, S_FUNCTION_REJECTED = 11, S_INCORRECT_LUN = 12,
};
enum { EVENT_NONE = 0, EVENT_TRANSPORT_RESET = 1, EVENT_PARAM_CHANGE = 3 };
enum { REASON_RESCAN = 1, REASON_REMOVED = 2, REASON_CAPACITY = 0x092a /* additional sense code and its qualifier */ };
// clang-format on

struct virtio_scsi;

struct scsi_slot { /* a unit and where it is */
    struct virtio_scsi *dev;
    bool present;
    uint8_t target, lun;
    bool plugged; /* requests are kept back for the end of the notification */
    struct scsi_unit unit;
};

struct scsi_job { /* one request */
    struct virtio_scsi *dev;
    struct scsi_slot *slot;
    struct scsi_job *next, **link; /* in dev->active, or dev->spare */
    uint64_t id;
    struct block_request io;
    struct scsi_command command;
    uint8_t cdb[SCSI_CDB_SIZE];
    unsigned next_range;
    uint64_t moved;   /* bytes for or from the guest */
    uint64_t offset;  /* SCSI_PATTERN: what is done */
    uint8_t *pattern; /* the same */
    struct virtio_chain chain;
    struct iovec own[VIRTIO_CHAIN_MAX];
};

struct virtio_scsi {
    struct virtio virtio; /* first */
    void (*ejected)(void *opaque, unsigned unit);
    void *opaque;
    struct scsi_slot slot[VIRTIO_SCSI_UNITS];
    struct scsi_job *active, *spare;
    uint32_t pushed; /* bit a queue: since the last interrupt */
    /* state: */
    uint32_t sense_size, cdb_size;
    bool events_missed;
    uint64_t kept_heads[KEPT_WORDS]; /* QUEUE_SIZE bits a queue: chains to be done again */
};

struct scsi_slot *virtio_scsi_at(struct virtio_scsi *d, unsigned target, unsigned lun);
/* The unit that the eight bytes of an address name; NULL: there is none. */
struct scsi_slot *virtio_scsi_find(struct virtio_scsi *d, const uint8_t *lun);
bool virtio_scsi_target(struct virtio_scsi *d, const uint8_t *lun); /* it has any unit */

/* virtio_scsi_request.c */
void virtio_scsi_requests(struct virtio_scsi *d, unsigned queue); /* takes what came */
void virtio_scsi_resume(void *slot); /* the pause for a failure of its image is over */
/* Ends with `response` what was kept for a pause and is for this unit, and, if `id` is given, is
 * that request. */
void virtio_scsi_end_kept(struct virtio_scsi *d, const struct scsi_slot *slot, const uint64_t *id,
                          uint8_t response);
void virtio_scsi_interrupt(void *dev);

/* virtio_scsi_task.c */
void virtio_scsi_control(struct virtio_scsi *d);
void virtio_scsi_events(struct virtio_scsi *d); /* buffers for events came */
void virtio_scsi_event(struct virtio_scsi *d, uint32_t event, const struct scsi_slot *slot,
                       uint32_t reason);

#endif
