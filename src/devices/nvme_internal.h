/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the registers and queues of the NVMe controller (nvme.c), its administrative commands
 * (nvme_admin.c) and those for its namespace (nvme_io.c). */
#ifndef DEVICES_NVME_INTERNAL_H
#define DEVICES_NVME_INTERNAL_H

#include "block/block.h"
#include "devices/dma.h"
#include "devices/nvme.h"
#include "devices/pci.h"

// clang-format off
enum { NVME_QUEUES = 1 + NVME_MAX_QUEUES, NVME_COMMAND = 64, NVME_KEPT = 256, NVME_EVENTS_MAX = 4,
       NVME_ERRORS = 4, NVME_SECTOR = 512, NVME_DATA_MAX = 1 << 20, NVME_DATA_SHIFT = 8 /* in pages */ };
enum { /* status: code, type << 8, do not retry << 14 */
    NVME_DNR = 0x4000, NVME_OK = 0, NVME_BAD_OPCODE = 0x4001, NVME_BAD_FIELD = 0x4002, NVME_TRANSFER = 0x0004,
    NVME_INTERNAL = 0x0006, NVME_ABORTED = 0x0007, NVME_SQ_DELETED = 0x0008, NVME_BAD_NAMESPACE = 0x400b,
    NVME_BAD_SEQUENCE = 0x400c, NVME_BAD_PRP = 0x4013, NVME_LBA_RANGE = 0x4080, NVME_FULL = 0x4081,
    NVME_BAD_CQ = 0x4100, NVME_BAD_QUEUE = 0x4101, NVME_BAD_SIZE = 0x4102, NVME_TOO_MANY_EVENTS = 0x4105,
    NVME_BAD_VECTOR = 0x4108, NVME_BAD_LOG = 0x4109, NVME_BAD_DELETION = 0x410c, NVME_NOT_SAVEABLE = 0x410d,
    NVME_READONLY = 0x4182, NVME_WRITE_FAULT = 0x0280, NVME_READ_ERROR = 0x0281,
};
enum nvme_feature {
    NVME_F_ARBITRATION, NVME_F_POWER, NVME_F_TEMPERATURE, NVME_F_RECOVERY, NVME_F_CACHE, NVME_F_COALESCING,
    NVME_F_ATOMICITY, NVME_F_EVENTS, NVME_FEATURES,
};
enum { NVME_EVENT_DOORBELL = 1, NVME_EVENT_VALUE = 2, NVME_EVENT_NAMESPACE = 4 }; /* bits */
// clang-format on

struct nvme;

struct nvme_sq {
    bool used;
    uint64_t base;
    uint32_t size, head, tail;
    uint16_t cq;
};

struct nvme_cq {
    bool used, interrupts, phase;
    uint64_t base;
    uint32_t size, head, tail;
    uint16_t vector;
    uint32_t owed; /* no state: commands that were taken and will end here */
};

struct nvme_error {
    uint64_t count, lba;
    uint32_t nsid;
    uint16_t sq, cid, status;
};

struct nvme_kept { /* a command whose failure pauses the machine */
    uint8_t command[NVME_COMMAND];
    uint16_t sq;
};

struct nvme_job { /* a command while it is executed */
    struct nvme *dev;
    struct nvme_job *next;
    uint32_t epoch;
    uint16_t sq;
    uint8_t command[NVME_COMMAND];
    struct dma dma;
    struct block_request io;
    bool flush;      /* still to come */
    uint8_t *ranges; /* of a deallocation */
    unsigned range, range_count;
};

struct nvme {
    struct pci_device pci; /* first */
    struct block *block;
    char serial[NVME_SERIAL + 1];
    unsigned queues; /* pairs for I/O */
    uint32_t epoch;
    unsigned jobs; /* in flight */
    struct nvme_job *spare;
    uint32_t posted; /* bit a completion queue: since the last interrupt */
    bool busy;       /* queues are being looked at */
    struct block_request shutdown;
    struct clock_timer again; /* looks at the queues */
    /* state: */
    uint32_t cc, csts, intms, aqa;
    uint64_t asq, acq;
    struct nvme_sq sq[NVME_QUEUES];
    struct nvme_cq cq[NVME_QUEUES];
    uint32_t feature[NVME_FEATURES];
    uint32_t vector_config; /* bit a vector: not to be coalesced */
    uint16_t event_cid[NVME_EVENTS_MAX];
    uint8_t event_cids; /* commands that wait for events */
    uint8_t events, events_masked, ns_changed;
    struct nvme_error error[NVME_ERRORS]; /* ring: the newest at (error_count - 1) % NVME_ERRORS */
    uint64_t error_count, sectors_read, sectors_written, reads, writes, media_errors;
    uint64_t shadow, shadow_events; /* doorbells in memory, 0: none */
    uint16_t kept_count;
    struct nvme_kept kept[NVME_KEPT];
};

/* Fields of a command. */
uint32_t nvme_dword(const struct nvme_job *j, unsigned n);
uint64_t nvme_qword(const struct nvme_job *j, unsigned dword);
uint16_t nvme_cid(const struct nvme_job *j);

/* nvme.c: ends the command; `value` is dword 0 of the completion. Frees the job. */
void nvme_finish(struct nvme_job *j, unsigned status, uint32_t value);
/* For a command of this queue, which owes a completion from now on; NULL: out of memory. */
struct nvme_job *nvme_get_job(struct nvme *n, unsigned sq);
void nvme_execute(struct nvme_job *j);
void nvme_free_job(struct nvme_job *j, bool owing); /* without an end; `owing`: that is to come */
void nvme_create_cq(struct nvme *n, unsigned id, const struct nvme_cq *q);
unsigned nvme_delete_sq(struct nvme *n, unsigned id); /* a status */
void nvme_raise(struct nvme *n, unsigned event);      /* what a waiting command is told */
void nvme_tell(struct nvme *n);                       /* events to commands that wait for them */
uint32_t nvme_feature_default(enum nvme_feature f);
uint64_t nvme_sectors(const struct nvme *n);

/* nvme_admin.c */
void nvme_admin(struct nvme_job *j);

/* nvme_io.c */
void nvme_io(struct nvme_job *j);
/* The first `length` bytes that the command's PRPs name, into j->dma; a status. */
unsigned nvme_map(struct nvme_job *j, uint64_t length, bool write);
void nvme_resume(void *dev);
/* Ends a kept command of this queue (and with this identifier, if one is given); how many. */
unsigned nvme_end_kept(struct nvme *n, unsigned sq, const uint16_t *cid, unsigned status);

#endif
