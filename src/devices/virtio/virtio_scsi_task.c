/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control and event queue of the virtio SCSI host. Source: VIRTIO 1.2, 5.6.6.2 and 5.6.6.3.
 *
 *   control   out: 0 type u32, 4 subtype u32, 8 address, 16 id u64    in: response u8
 *   notice    out: 0 type u32, 4 address, 12 events u32               in: 0 events u32, 4 response
 *   event     in: 0 event u32, 4 address, 12 reason u32
 *
 * A task that is aborted has most often gone to the host, which does not take it back: it is waited
 * for, and answered before its abortion is. Requests that were kept for a pause are ended.
 */
#include <string.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "devices/virtio/virtio_scsi_internal.h"

enum { TASK = 0, NOTICE_QUERY = 1, NOTICE_SUBSCRIBE = 2 };
enum {
    ABORT_TASK = 0,
    ABORT_TASK_SET = 1,
    CLEAR_ACA = 2,
    CLEAR_TASK_SET = 3,
    NEXUS_RESET = 4,
    UNIT_RESET = 5,
    QUERY_TASK = 6,
    QUERY_TASK_SET = 7,
};
enum { TASK_SIZE = 24, NOTICE_SIZE = 16, NOTICE_ANSWER = 5, EVENT_SIZE = 16 };
#define EVENTS_MISSED 0x80000000u

static void drain(struct scsi_slot *s) {
    if (s->unit.block)
        block_drain(s->unit.block);
}

static bool in_flight(struct virtio_scsi *d, const struct scsi_slot *s, const uint64_t *id) {
    for (struct scsi_job *j = d->active; j; j = j->next)
        if (j->slot == s && (!id || j->id == *id))
            return true;
    return false;
}

static void reset_unit(struct virtio_scsi *d, struct scsi_slot *s) {
    drain(s);
    virtio_scsi_end_kept(d, s, NULL, S_RESET);
    scsi_reset(&s->unit);
}

static void reset_target(struct virtio_scsi *d, unsigned target) {
    for (unsigned i = 0; i < VIRTIO_SCSI_UNITS; i++)
        if (d->slot[i].present && d->slot[i].target == target)
            reset_unit(d, &d->slot[i]);
}

static uint8_t manage(struct virtio_scsi *d, uint32_t subtype, const uint8_t *lun, uint64_t id) {
    struct scsi_slot *s = virtio_scsi_find(d, lun);

    if (!virtio_scsi_target(d, lun))
        return S_BAD_TARGET;
    if (subtype == NEXUS_RESET) {
        reset_target(d, lun[1]);
        return S_OK;
    }
    if (!s)
        return S_INCORRECT_LUN;
    switch (subtype) {
    case ABORT_TASK:
        if (in_flight(d, s, &id))
            drain(s);
        virtio_scsi_end_kept(d, s, &id, S_ABORTED);
        return S_OK;
    case ABORT_TASK_SET:
    case CLEAR_TASK_SET:
        drain(s);
        virtio_scsi_end_kept(d, s, NULL, S_ABORTED);
        return S_OK;
    case UNIT_RESET:
        reset_unit(d, s);
        return S_OK;
    case QUERY_TASK:
        return in_flight(d, s, &id) ? S_FUNCTION_SUCCEEDED : S_OK;
    case QUERY_TASK_SET:
        return in_flight(d, s, NULL) ? S_FUNCTION_SUCCEEDED : S_OK;
    default: /* there is no ACA condition */
        return S_FUNCTION_REJECTED;
    }
}

static bool answer(struct virtio_scsi *d, struct virtio_chain *c) {
    const struct iovec *in = c->iov + c->out_count;
    uint8_t h[TASK_SIZE] = {0}, a[NOTICE_ANSWER] = {0};
    uint32_t type;

    if (iov_read(c->iov, c->out_count, 0, h, sizeof(h)) < 4)
        return false;
    type = load_le32(h);
    if (type == TASK) {
        if (c->out_len < TASK_SIZE || !c->in_len)
            return false;
        a[0] = manage(d, load_le32(h + 4), h + 8, load_le64(h + 16));
        trace(virtio_scsi_task, d->virtio.pci.dev.name, load_le32(h + 4), h[9], a[0]);
        virtio_push(&d->virtio, c, (uint32_t)iov_write(in, c->in_count, 0, a, 1));
        return true;
    }
    if ((type != NOTICE_QUERY && type != NOTICE_SUBSCRIBE) || c->out_len < NOTICE_SIZE ||
        c->in_len < NOTICE_ANSWER)
        return false;
    a[4] = virtio_scsi_find(d, h + 4) ? S_OK : S_BAD_TARGET; /* no notices are sent */
    virtio_push(&d->virtio, c, (uint32_t)iov_write(in, c->in_count, 0, a, sizeof(a)));
    return true;
}

void virtio_scsi_control(struct virtio_scsi *d) {
    struct virtio_chain c;

    while (virtio_pop(&d->virtio, CONTROL_QUEUE, &c) == 1) {
        if (!answer(d, &c)) {
            virtio_broken(&d->virtio, "a SCSI control request is too short or of no known type");
            return;
        }
        d->pushed |= 1u << CONTROL_QUEUE;
    }
}

void virtio_scsi_event(struct virtio_scsi *d, uint32_t event, const struct scsi_slot *s,
                       uint32_t reason) {
    uint64_t feature = event == EVENT_PARAM_CHANGE ? F_CHANGE : F_HOTPLUG;
    uint8_t e[EVENT_SIZE] = {0};
    struct virtio_chain c;

    if (!virtio_live(&d->virtio) || (event && !virtio_has(&d->virtio, feature)))
        return;
    if (virtio_pop(&d->virtio, EVENT_QUEUE, &c) != 1) {
        d->events_missed = true;
        return;
    }
    if (c.in_len < EVENT_SIZE) {
        virtio_broken(&d->virtio, "the buffer for a SCSI event is too short");
        return;
    }
    store_le32(e, event | (d->events_missed ? EVENTS_MISSED : 0));
    d->events_missed = false;
    if (s) {
        e[4] = 1;
        e[5] = s->target;
        store_be16(e + 6, s->lun); /* without 0x40: Linux takes the number as it is */
    }
    store_le32(e + 12, reason);
    virtio_push(&d->virtio, &c,
                (uint32_t)iov_write(c.iov + c.out_count, c.in_count, 0, e, sizeof(e)));
    virtio_interrupt(&d->virtio, EVENT_QUEUE);
}

void virtio_scsi_events(struct virtio_scsi *d) {
    if (d->events_missed)
        virtio_scsi_event(d, EVENT_NONE, NULL, 0);
}
