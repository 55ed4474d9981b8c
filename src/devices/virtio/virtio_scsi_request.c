/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests of the virtio SCSI host (virtio_scsi.c says how they look): from a chain of the driver's
 * to the image and back. Source: VIRTIO 1.2, 5.6.6.1. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "devices/virtio/virtio_scsi_internal.h"

enum { HEADER = 19, RESPONSE = 12, REPORT_LUNS = 0xa0, DATA_MAX = 4096 };
enum { PATTERN = 64 << 10, PATTERNS = 16 };

/* ------------------------------------------------------------------ jobs */

static struct scsi_job *job_get(struct virtio_scsi *d) {
    struct scsi_job *j = d->spare;

    if (j)
        d->spare = j->next;
    else
        j = malloc(sizeof(*j));
    if (!j)
        return NULL;
    j->dev = d;
    j->slot = NULL;
    j->pattern = NULL;
    j->moved = j->offset = j->next_range = 0;
    j->link = &d->active;
    j->next = d->active;
    if (j->next)
        j->next->link = &j->next;
    d->active = j;
    return j;
}

static void job_put(struct scsi_job *j) {
    free(j->pattern);
    *j->link = j->next;
    if (j->next)
        j->next->link = j->link;
    j->next = j->dev->spare;
    j->dev->spare = j;
}

static uint64_t out_room(const struct scsi_job *j) {
    uint64_t head = HEADER + (uint64_t)j->dev->cdb_size;

    return j->chain.out_len > head ? j->chain.out_len - head : 0;
}

static uint64_t in_room(const struct scsi_job *j) {
    uint64_t head = RESPONSE + (uint64_t)j->dev->sense_size;

    return j->chain.in_len > head ? j->chain.in_len - head : 0;
}

/* `u`: whose sense data say why, if the command failed. */
static void finish(struct scsi_job *j, uint8_t response, uint8_t status,
                   const struct scsi_unit *u) {
    const struct virtio_chain *c = &j->chain;
    uint8_t r[RESPONSE + SENSE_MAX] = {0};
    uint64_t room = out_room(j) ? out_room(j) : in_room(j), used = RESPONSE + j->dev->sense_size;

    if (status == SCSI_CHECK_CONDITION) {
        scsi_sense(u, r + RESPONSE);
        store_le32(r, j->dev->sense_size < SCSI_SENSE_SIZE ? j->dev->sense_size : SCSI_SENSE_SIZE);
    }
    store_le32(r + 4, (uint32_t)(room > j->moved ? room - j->moved : 0));
    r[10] = status;
    r[11] = response;
    trace(virtio_scsi_done, j->dev->virtio.pci.dev.name, c->head, response, status, u ? u->key : 0u,
          u ? u->asc : 0u);
    iov_write(c->iov + c->out_count, c->in_count, 0, r, used);
    virtio_push(&j->dev->virtio, c, (uint32_t)(used + (out_room(j) ? 0 : j->moved)));
    j->dev->pushed |= 1u << c->queue;
    job_put(j);
}

static void finish_good(struct scsi_job *j) { finish(j, S_OK, SCSI_GOOD, &j->slot->unit); }

/* ------------------------------------------------------------------ transfers */

static void io_done(struct block_request *io, int result);

/* Hands the request to the image; within a kick the answer may come at once. */
static void start(struct scsi_job *j, enum block_op op, uint64_t offset, uint64_t length) {
    struct block *b = j->slot->unit.block;
    int result;

    j->io.op = op;
    j->io.offset = offset;
    j->io.length = length;
    j->io.unmap = j->command.unmap;
    j->io.done = io_done;
    j->io.opaque = j;
    if (block_try(b, &j->io, &result))
        io_done(&j->io, result);
    else
        block_submit(b, &j->io);
}

static void start_range(struct scsi_job *j) {
    unsigned i = j->next_range++;

    start(j, j->command.kind == SCSI_DISCARD ? BLOCK_DISCARD : BLOCK_WRITE_ZEROES,
          j->command.range[i].offset, j->command.range[i].length);
}

static void start_pattern(struct scsi_job *j) {
    uint64_t left = j->command.length - j->offset, n = 0;
    unsigned count = 0;

    for (; count < PATTERNS && n < left; count++) {
        uint64_t part = left - n < PATTERN ? left - n : PATTERN;

        j->own[count] = (struct iovec){j->pattern, part};
        n += part;
    }
    j->io.iov = j->own;
    j->io.iov_count = count;
    j->offset += n;
    start(j, BLOCK_WRITE, j->command.offset + j->offset - n, n);
}

static void begin_pattern(struct scsi_job *j) {
    j->pattern = malloc(PATTERN);
    if (!j->pattern) {
        finish(j, S_FAILURE, 0, NULL);
        return;
    }
    for (unsigned i = 0; i < PATTERN; i += 512)
        memcpy(j->pattern + i, j->command.reply, 512);
    start_pattern(j);
}

static void keep(struct virtio_scsi *d, unsigned queue, unsigned head) {
    unsigned n = queue * QUEUE_SIZE + head;

    d->kept_heads[n / 64] |= 1ull << n % 64;
}

static void io_done(struct block_request *io, int result) {
    struct scsi_job *j = io->opaque;
    struct scsi_command *c = &j->command;

    if (j->chain.epoch != j->dev->virtio.epoch) {
        job_put(j); /* the driver has reset the device: nobody waits for this */
        return;
    }
    if (result < 0 && io->keep) {
        keep(j->dev, j->chain.queue, j->chain.head);
        job_put(j);
        return;
    }
    if (result < 0) {
        j->moved = 0;
        finish(j, S_OK, scsi_end(&j->slot->unit, io->op != BLOCK_READ, result), &j->slot->unit);
    } else if ((c->kind == SCSI_DISCARD || c->kind == SCSI_ZERO) && j->next_range < c->ranges) {
        start_range(j);
    } else if (c->kind == SCSI_PATTERN && j->offset < c->length) {
        start_pattern(j);
    } else if (c->flush) {
        c->flush = false;
        start(j, BLOCK_FLUSH, 0, 0);
    } else {
        finish_good(j);
    }
}

static void transfer(struct scsi_job *j, bool write) {
    const struct scsi_command *c = &j->command;
    uint64_t room = write ? out_room(j) : in_room(j), length = c->length;

    if (room < length) {
        finish(j, S_OVERRUN, 0, NULL);
        return;
    }
    j->moved = length;
    if (write)
        j->io.iov_count = iov_slice(j->chain.iov, j->chain.out_count, HEADER + j->dev->cdb_size,
                                    length, j->own, &j->io.iov);
    else
        j->io.iov_count = iov_slice(j->chain.iov + j->chain.out_count, j->chain.in_count,
                                    RESPONSE + j->dev->sense_size, length, j->own, &j->io.iov);
    start(j, write ? BLOCK_WRITE : BLOCK_READ, c->offset, length);
}

static void reply(struct scsi_job *j, const struct scsi_unit *u) {
    const struct virtio_chain *c = &j->chain;
    uint64_t n = j->command.reply_size, room = in_room(j);

    j->moved = n < room ? n : room;
    iov_write(c->iov + c->out_count, c->in_count, RESPONSE + j->dev->sense_size, j->command.reply,
              j->moved);
    finish(j, n > room ? S_OVERRUN : S_OK, (uint8_t)j->command.status, u);
}

static void carry_out(struct scsi_job *j);

/* A list of parameters, or a block to be repeated. */
static void take_data(struct scsi_job *j) {
    const struct virtio_chain *c = &j->chain;
    uint64_t length = j->command.length;
    uint8_t data[DATA_MAX];
    size_t n;

    if (out_room(j) < length) {
        finish(j, S_OVERRUN, 0, NULL);
        return;
    }
    j->moved = length;
    n = iov_read(c->iov, c->out_count, HEADER + j->dev->cdb_size, data,
                 length < sizeof(data) ? length : sizeof(data));
    scsi_data(&j->slot->unit, j->cdb, data, n, &j->command);
    if (j->command.kind == SCSI_REPLY)
        finish(j, S_OK, (uint8_t)j->command.status, &j->slot->unit);
    else
        carry_out(j);
}

static void carry_out(struct scsi_job *j) {
    switch (j->command.kind) {
    case SCSI_REPLY:
        reply(j, &j->slot->unit);
        break;
    case SCSI_READ:
    case SCSI_WRITE:
        transfer(j, j->command.kind == SCSI_WRITE);
        break;
    case SCSI_FLUSH:
        start(j, BLOCK_FLUSH, 0, 0);
        break;
    case SCSI_DATA_OUT:
        take_data(j);
        break;
    case SCSI_DISCARD:
    case SCSI_ZERO:
        start_range(j);
        break;
    case SCSI_PATTERN:
        begin_pattern(j);
        break;
    }
}

/* ------------------------------------------------------------------ requests */

/* Which units the target has. */
static void report_luns(struct scsi_job *j, unsigned target) {
    struct scsi_command *c = &j->command;
    struct scsi_unit scratch;
    unsigned n = 8;

    scsi_begin_absent(&scratch, j->cdb, c);
    if (j->cdb[2] > 2) { /* no such selection */
        scratch.asc = 0x24;
        reply(j, &scratch);
        return;
    }
    c->status = SCSI_GOOD;
    for (unsigned lun = 0; lun < VIRTIO_SCSI_LUNS; lun++)
        if (j->cdb[2] != 1 && virtio_scsi_at(j->dev, target, lun)) {
            c->reply[n + 1] = (uint8_t)lun;
            n += LUN_SIZE;
        }
    store_be32(c->reply, n - 8);
    c->reply_size = load_be32(j->cdb + 6) < n ? load_be32(j->cdb + 6) : n;
    reply(j, NULL);
}

static void handle(struct scsi_job *j) {
    const struct virtio_chain *c = &j->chain;
    struct virtio_scsi *d = j->dev;
    struct scsi_unit scratch;
    uint8_t h[HEADER];

    iov_read(c->iov, c->out_count, 0, h, sizeof(h));
    memset(j->cdb, 0, sizeof(j->cdb));
    iov_read(c->iov, c->out_count, HEADER, j->cdb,
             d->cdb_size < sizeof(j->cdb) ? d->cdb_size : sizeof(j->cdb));
    j->id = load_le64(h + 8);
    trace(virtio_scsi_command, d->virtio.pci.dev.name, c->head, h[1], h[3], j->cdb[0], c->out_len,
          c->in_len);
    if (!virtio_scsi_target(d, h)) {
        finish(j, S_BAD_TARGET, 0, NULL);
    } else if (out_room(j) && in_room(j)) {
        finish(j, S_FAILURE, 0, NULL); /* both directions */
    } else if (j->cdb[0] == REPORT_LUNS) {
        report_luns(j, h[1]);
    } else if (!(j->slot = virtio_scsi_find(d, h))) {
        scsi_begin_absent(&scratch, j->cdb, &j->command);
        reply(j, &scratch);
    } else {
        if (j->slot->unit.block && !j->slot->plugged) {
            block_plug(j->slot->unit.block);
            j->slot->plugged = true;
        }
        scsi_begin(&j->slot->unit, j->cdb, &j->command);
        carry_out(j);
    }
}

static void unplug(struct virtio_scsi *d) {
    for (unsigned i = 0; i < VIRTIO_SCSI_UNITS; i++)
        if (d->slot[i].plugged) {
            d->slot[i].plugged = false;
            block_unplug(d->slot[i].unit.block);
        }
}

void virtio_scsi_interrupt(void *dev) {
    struct virtio_scsi *d = dev;

    for (unsigned i = 0; d->pushed >> i; i++)
        if (d->pushed & 1u << i)
            virtio_interrupt(&d->virtio, i);
    d->pushed = 0;
}

/* A chain that was taken. */
static bool complete_enough(const struct scsi_job *j) {
    const struct virtio_chain *c = &j->chain;

    return c->out_len >= HEADER + (uint64_t)j->dev->cdb_size &&
           c->in_len >= RESPONSE + (uint64_t)j->dev->sense_size && c->in_len <= UINT32_MAX;
}

static void begin(struct scsi_job *j) {
    if (complete_enough(j)) {
        handle(j);
        return;
    }
    virtio_broken(&j->dev->virtio, "a SCSI request has no header, no room for an answer, or is "
                                   "too long");
    job_put(j);
}

void virtio_scsi_requests(struct virtio_scsi *d, unsigned queue) {
    struct scsi_job *j;

    while ((j = job_get(d))) {
        if (virtio_pop(&d->virtio, queue, &j->chain) != 1) {
            job_put(j);
            break;
        }
        begin(j);
    }
    if (!j)
        virtio_again(&d->virtio, queue); /* out of memory: try again from the loop */
    unplug(d);
}

/* ------------------------------------------------------------------ after a pause */

/* Takes a kept chain again; NULL if that cannot be, as when the driver has spoilt it. */
static struct scsi_job *retake(struct virtio_scsi *d, unsigned n) {
    struct scsi_job *j = job_get(d);

    if (!j)
        virtio_broken(&d->virtio, "out of memory for a SCSI request that was kept");
    else if (virtio_retake(&d->virtio, n / QUEUE_SIZE, (uint16_t)(n % QUEUE_SIZE), &j->chain) == 1)
        return j;
    else
        job_put(j);
    return NULL;
}

/* Calls fn for all that is kept and for this unit. */
static void each_kept(struct virtio_scsi *d, const struct scsi_slot *s,
                      void (*fn)(struct scsi_job *j, const void *arg), const void *arg) {
    uint64_t heads[KEPT_WORDS];

    memcpy(heads, d->kept_heads, sizeof(heads));
    memset(d->kept_heads, 0, sizeof(heads)); /* one that fails at once is kept again */
    for (unsigned i = 0; i < KEPT_WORDS; i++)
        for (; heads[i]; heads[i] &= heads[i] - 1) {
            unsigned n = i * 64 + (unsigned)__builtin_ctzll(heads[i]);
            struct scsi_job *j = retake(d, n);
            uint8_t lun[LUN_SIZE] = {0};

            if (!j)
                continue;
            iov_read(j->chain.iov, j->chain.out_count, 0, lun, sizeof(lun));
            if (virtio_scsi_find(d, lun) == s) {
                fn(j, arg);
            } else {
                job_put(j);
                keep(d, n / QUEUE_SIZE, n % QUEUE_SIZE);
            }
        }
}

static void again(struct scsi_job *j, const void *arg) { begin(j); }

void virtio_scsi_resume(void *slot) {
    struct scsi_slot *s = slot;

    each_kept(s->dev, s, again, NULL);
    unplug(s->dev);
    virtio_scsi_interrupt(s->dev);
}

struct ending {
    const uint64_t *id;
    uint8_t response;
};

static void end_kept(struct scsi_job *j, const void *arg) {
    const struct ending *e = arg;
    uint8_t id[8] = {0};

    iov_read(j->chain.iov, j->chain.out_count, LUN_SIZE, id, sizeof(id));
    if (e->id && load_le64(id) != *e->id) {
        keep(j->dev, j->chain.queue, j->chain.head);
        job_put(j);
    } else if (complete_enough(j)) {
        finish(j, e->response, 0, NULL);
    } else {
        job_put(j);
    }
}

void virtio_scsi_end_kept(struct virtio_scsi *d, const struct scsi_slot *s, const uint64_t *id,
                          uint8_t response) {
    struct ending e = {id, response};

    each_kept(d, s, end_kept, &e);
}
