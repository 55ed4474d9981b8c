/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio SCSI host: class `virtio_scsi`.
 * Source: Virtual I/O Device (VIRTIO) Version 1.2, section 5.6; SAM-5 for addresses.
 *
 *   request   out: 0 address, 8 id u64, 16 attribute, 17 priority, 18 crn, 19 command (cdb_size),
 * then data of a write; in: 0 sense length u32, 4 residual u32, 8 qualifier u16, 10 status, 11
 * response, 12 sense data (sense_size), then data of a read
 *
 * Theory of operation: as virtio_blk.c. A chain is popped into a job; devices/scsi.c says what its
 * command wants of the image; what the host has in its cache is answered within the driver's kick.
 * All request queues are served alike. Requests that a pause keeps are kept by the heads of their
 * chains.
 *
 * Addresses: 1, target, two bytes of unit (with or without 0x40), zeros.
 *
 * Departures: no bidirectional commands and no protection information (both are not offered), task
 * attributes are all taken as simple, asynchronous notices are not sent.
 */
#include "devices/virtio/virtio_scsi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "devices/virtio/virtio_scsi_internal.h"

enum { CONFIG_SIZE = 36, SEG_MAX = 256, MAX_SECTORS = 0x10000, CONFIG_SENSE = 20, CONFIG_CDB = 24 };
enum { SENSE_DEFAULT = 96, CDB_DEFAULT = 32, CDB_MAX = 255 };

/* ------------------------------------------------------------------ addresses */

static bool decode(const uint8_t *lun, unsigned *ret_target, unsigned *ret_lun) {
    unsigned unit = load_be16(lun + 2);

    if (lun[0] != 1 || unit >> 14 > 1 || load_be32(lun + 4))
        return false;
    *ret_target = lun[1];
    *ret_lun = unit & 0x3fff;
    return true;
}

struct scsi_slot *virtio_scsi_at(struct virtio_scsi *d, unsigned target, unsigned lun) {
    for (unsigned i = 0; i < VIRTIO_SCSI_UNITS; i++)
        if (d->slot[i].present && d->slot[i].target == target && d->slot[i].lun == lun)
            return &d->slot[i];
    return NULL;
}

struct scsi_slot *virtio_scsi_find(struct virtio_scsi *d, const uint8_t *lun) {
    unsigned target, unit;

    return decode(lun, &target, &unit) ? virtio_scsi_at(d, target, unit) : NULL;
}

bool virtio_scsi_target(struct virtio_scsi *d, const uint8_t *lun) {
    unsigned target, unit;

    if (decode(lun, &target, &unit))
        for (unsigned i = 0; i < VIRTIO_SCSI_UNITS; i++)
            if (d->slot[i].present && d->slot[i].target == target)
                return true;
    return false;
}

static void scsi_notify(struct virtio *v, unsigned queue) {
    struct virtio_scsi *d = (struct virtio_scsi *)v;

    if (queue == CONTROL_QUEUE)
        virtio_scsi_control(d);
    else if (queue == EVENT_QUEUE)
        virtio_scsi_events(d);
    else
        virtio_scsi_requests(d, queue);
    virtio_scsi_interrupt(d);
}

/* ------------------------------------------------------------------ configuration */

static void scsi_config_read(struct virtio *v, unsigned offset, void *buf, unsigned len) {
    struct virtio_scsi *d = (struct virtio_scsi *)v;
    uint8_t c[CONFIG_SIZE] = {0};

    store_le32(c + 0, v->queue_count - REQUEST_QUEUE);
    store_le32(c + 4, SEG_MAX); /* with header and answer a chain is no longer than it may be */
    store_le32(c + 8, MAX_SECTORS);
    store_le32(c + 12, 128); /* commands a unit */
    store_le32(c + 16, 16);  /* bytes of an event */
    store_le32(c + CONFIG_SENSE, d->sense_size);
    store_le32(c + CONFIG_CDB, d->cdb_size);
    store_le16(c + 30, VIRTIO_SCSI_TARGETS - 1);
    store_le32(c + 32, VIRTIO_SCSI_LUNS - 1);
    memcpy(buf, c + offset, len);
}

/* Only whole fields: a request is never seen with half a size. */
static void scsi_config_write(struct virtio *v, unsigned offset, const void *buf, unsigned len) {
    struct virtio_scsi *d = (struct virtio_scsi *)v;
    uint32_t value = len == 4 ? load_le32(buf) : UINT32_MAX;

    if (d->active)
        return;
    if (offset == CONFIG_SENSE && value <= SENSE_MAX)
        d->sense_size = value;
    else if (offset == CONFIG_CDB && value <= CDB_MAX)
        d->cdb_size = value;
}

/* ------------------------------------------------------------------ life */

static void forget(struct virtio_scsi *d) {
    d->pushed = 0;
    d->sense_size = SENSE_DEFAULT;
    d->cdb_size = CDB_DEFAULT;
    d->events_missed = false;
    memset(d->kept_heads, 0, sizeof(d->kept_heads));
    for (unsigned i = 0; i < VIRTIO_SCSI_UNITS; i++)
        scsi_reset(&d->slot[i].unit);
}

static void drain(struct virtio_scsi *d) {
    for (unsigned i = 0; i < VIRTIO_SCSI_UNITS; i++)
        if (d->slot[i].unit.block)
            block_drain(d->slot[i].unit.block);
}

static void scsi_status_changed(struct virtio *v, uint8_t old, uint8_t now) {
    struct virtio_scsi *d = (struct virtio_scsi *)v;

    if (now)
        return;
    drain(d);
    forget(d);
}

static const struct virtio_type scsi_type = {
    .id = VIRTIO_ID_SCSI,
    .features = F_HOTPLUG | F_CHANGE,
    .queues = REQUEST_QUEUE + VIRTIO_SCSI_MAX_QUEUES,
    .queue_size = QUEUE_SIZE,
    .config_size = CONFIG_SIZE,
    .pci_class = 0x01000000, /* mass storage, SCSI */
    .notify = scsi_notify,
    .status = scsi_status_changed,
    .config_read = scsi_config_read,
    .config_write = scsi_config_write,
};

static void resized(void *slot) {
    struct scsi_slot *s = slot;

    scsi_capacity_changed(&s->unit);
    virtio_scsi_event(s->dev, EVENT_PARAM_CHANGE, s, REASON_CAPACITY);
}

static void completed(void *slot) { virtio_scsi_interrupt(((struct scsi_slot *)slot)->dev); }

static void use_block(struct scsi_slot *s, struct block *b) {
    struct block *old = s->unit.block;

    if (old) {
        block_set_batch_fn(old, NULL, NULL);
        block_set_resume_fn(old, NULL, NULL);
        block_set_resize_fn(old, NULL, NULL);
    }
    s->unit.block = b;
    if (b) {
        block_set_batch_fn(b, completed, s);
        block_set_resume_fn(b, virtio_scsi_resume, s);
        block_set_resize_fn(b, resized, s);
    }
}

static void tray_opened(void *slot) {
    struct scsi_slot *s = slot;

    if (s->dev->ejected)
        s->dev->ejected(s->dev->opaque, (unsigned)(s - s->dev->slot));
}

static void make_unit(struct scsi_slot *s, const struct virtio_scsi_unit_config *c) {
    s->present = true;
    s->target = c->target;
    s->lun = c->lun;
    s->unit = (struct scsi_unit){.cdrom = c->cdrom, .ejected = tray_opened, .opaque = s};
    memcpy(s->unit.serial, c->serial, strnlen(c->serial, VIRTIO_SCSI_SERIAL));
    scsi_reset(&s->unit);
    use_block(s, c->block);
}

static int check_place(struct virtio_scsi *d, const struct virtio_scsi_unit_config *c,
                       struct error *err) {
    if (c->target >= VIRTIO_SCSI_TARGETS || c->lun >= VIRTIO_SCSI_LUNS)
        return error_set(err, -EINVAL,
                         "the SCSI adapter has targets 0 to %d with units 0 to %d, not %u:%u",
                         VIRTIO_SCSI_TARGETS - 1, VIRTIO_SCSI_LUNS - 1, c->target, c->lun);
    if (virtio_scsi_at(d, c->target, c->lun))
        return error_set(err, -EEXIST, "there is a SCSI unit at %u:%u already: give another place",
                         c->target, c->lun);
    return 0;
}

int virtio_scsi_add(struct device *dev, const struct virtio_scsi_unit_config *c, unsigned *ret_unit,
                    struct error *err) {
    struct virtio_scsi *d = (struct virtio_scsi *)dev;
    int r = check_place(d, c, err);
    unsigned i = 0;

    while (r == 0 && i < VIRTIO_SCSI_UNITS && d->slot[i].present)
        i++;
    if (i == VIRTIO_SCSI_UNITS)
        return error_set(err, -ENOSPC, "the SCSI adapter takes no more than %d units",
                         VIRTIO_SCSI_UNITS);
    if (r < 0)
        return r;
    make_unit(&d->slot[i], c);
    virtio_scsi_event(d, EVENT_TRANSPORT_RESET, &d->slot[i], REASON_RESCAN);
    *ret_unit = i;
    return 0;
}

static void let_go(struct scsi_slot *s) {
    if (s->unit.block)
        block_drain(s->unit.block);
    virtio_scsi_end_kept(s->dev, s, NULL, S_BAD_TARGET);
}

void virtio_scsi_remove(struct device *dev, unsigned unit) {
    struct scsi_slot *s = &((struct virtio_scsi *)dev)->slot[unit];

    let_go(s);
    use_block(s, NULL);
    s->present = false;
    virtio_scsi_event(s->dev, EVENT_TRANSPORT_RESET, s, REASON_REMOVED);
    virtio_scsi_interrupt(s->dev);
}

void virtio_scsi_change_medium(struct device *dev, unsigned unit, struct block *b) {
    struct scsi_slot *s = &((struct virtio_scsi *)dev)->slot[unit];

    let_go(s);
    use_block(s, b);
    scsi_change_medium(&s->unit, b);
    virtio_scsi_interrupt(s->dev);
}

bool virtio_scsi_medium_locked(const struct device *dev, unsigned unit) {
    return ((const struct virtio_scsi *)dev)->slot[unit].unit.locked;
}

static int scsi_init(struct device *dev, struct error *err) {
    struct virtio_scsi *d = (struct virtio_scsi *)dev;
    const struct virtio_scsi_config *c = dev->env.config;
    unsigned queues = c && c->queues ? c->queues : 1;

    for (unsigned i = 0; i < VIRTIO_SCSI_UNITS; i++)
        d->slot[i].dev = d;
    for (unsigned i = 0; c && i < VIRTIO_SCSI_UNITS; i++) {
        if (!c->unit[i].present)
            continue;
        if (check_place(d, &c->unit[i], err) < 0)
            return -EINVAL;
        make_unit(&d->slot[i], &c->unit[i]);
    }
    if (c) {
        d->ejected = c->ejected;
        d->opaque = c->opaque;
    }
    return virtio_init_queues(&d->virtio, &scsi_type, REQUEST_QUEUE + queues, scsi_type.features,
                              err);
}

static void scsi_device_reset(struct device *dev) {
    struct virtio_scsi *d = (struct virtio_scsi *)dev;

    virtio_reset(&d->virtio);
    forget(d);
}

static void scsi_done(struct device *dev) {
    struct virtio_scsi *d = (struct virtio_scsi *)dev;
    struct scsi_job *j;

    d->virtio.epoch++; /* what the drain brings goes nowhere */
    drain(d);
    for (unsigned i = 0; i < VIRTIO_SCSI_UNITS; i++)
        use_block(&d->slot[i], NULL);
    virtio_done(&d->virtio);
    while ((j = d->spare)) {
        d->spare = j->next;
        free(j);
    }
}

static void post_load(void *obj) { virtio_post_load(&((struct virtio_scsi *)obj)->virtio); }

static const struct state_desc slot_state = {
    .name = "virtio_scsi_slot",
    .version = 1,
    .struct_size = sizeof(struct scsi_slot),
    .fields = (const struct state_field[]){STATE_SUB(struct scsi_slot, unit, &scsi_unit_state),
                                           STATE_END},
};

static const struct state_desc scsi_state = {
    .name = "virtio_scsi",
    .version = 1,
    .struct_size = sizeof(struct virtio_scsi),
    .fields = (const struct state_field[]){STATE_SUB(struct virtio_scsi, virtio, &virtio_state),
                                           STATE_SUB_ARRAY(struct virtio_scsi, slot, &slot_state),
                                           STATE_MAX(struct virtio_scsi, sense_size, SENSE_MAX),
                                           STATE_MAX(struct virtio_scsi, cdb_size, CDB_MAX),
                                           STATE(struct virtio_scsi, events_missed),
                                           STATE_ARRAY(struct virtio_scsi, kept_heads), STATE_END},
    .post_load = post_load,
};

const struct device_class virtio_scsi_class = {
    .name = "virtio_scsi",
    .help = "virtio SCSI host adapter (disks, optical drives)",
    .size = sizeof(struct virtio_scsi),
    .state = &scsi_state,
    .init = scsi_init,
    .reset = scsi_device_reset,
    .done = scsi_done,
    .pci = true,
};
