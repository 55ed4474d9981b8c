/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NVMe controller: registers, queues, interrupts, life.
 * Source: NVM Express Base Specification 1.4, sections 3 (registers), 4 (queues), 7 (reset,
 * shutdown).
 *
 *   00 CAP  08 VS  0c INTMS  10 INTMC  14 CC  1c CSTS  24 AQA  28 ASQ  30 ACQ
 *   1000 + 8 q: tail of submission queue q; 1004 + 8 q: head of completion queue q
 *
 * Theory of operation. A doorbell lets the controller take commands until the queue is empty, the
 * completion queue would have no room for all that were taken, or NVME_KEPT are in flight; the last
 * two go on with the next completion or doorbell. What the host has in its cache is answered within
 * the doorbell. All that completes together interrupts once.
 *
 * Commands whose failure pauses the machine are kept whole: the driver may use their entries in the
 * queue again as soon as they were taken.
 *
 * Shadow doorbells (5.7): the driver writes its indexes to memory, and to the registers only if
 * these pass what the controller says beside them. It asks for each new command, and not for the
 * heads of completion queues: those it looks at when it needs room.
 *
 * Departures: interrupt coalescing is stored and not done, since completions come in batches
 * anyway. Arbitration is round robin by doorbells. No NVM subsystem reset, no memory buffer, no
 * SGLs. Aborted commands are only those that a pause keeps: others are with the host.
 */
#include "devices/nvme.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "devices/nvme_internal.h"

// clang-format off
enum {
    VENDOR = 0x1af4, DEVICE = 0x11f4, SUBSYS = 0x1100, CLASS = 0x01080201, /* drivers match the class */
    BAR_SIZE = 0x4000, DOORBELLS = 0x1000, MSIX = 0x2000, PBA = 0x3000,
    CAP = 0x00, VS = 0x08, INTMS = 0x0c, INTMC = 0x10, CC = 0x14, CSTS = 0x1c, AQA = 0x24, ASQ = 0x28, ACQ = 0x30,
    CC_ENABLE = 1, CC_WMASK = 0x00fffff1, CSTS_READY = 1, CSTS_FAILED = 2, CSTS_SHUTTING = 4, CSTS_SHUT = 8,
    CSTS_SHUT_MASK = 0xc, CQE = 16, AGAIN_DELAY = 10000 /* ns: a vCPU gets the machine lock in between */, PAGE_SHIFTS = 4 /* up to 64 KiB */,
};
// clang-format on
/* Queues of 1024 entries, contiguous; 10 s to become ready; NVM commands; pages of 4 to 64 KiB. */
#define CAP_VALUE (1023ull | 1ull << 16 | 20ull << 24 | 1ull << 37 | (uint64_t)PAGE_SHIFTS << 52)

uint32_t nvme_dword(const struct nvme_job *j, unsigned n) { return load_le32(j->command + 4 * n); }

uint64_t nvme_qword(const struct nvme_job *j, unsigned n) { return load_le64(j->command + 4 * n); }

uint16_t nvme_cid(const struct nvme_job *j) { return load_le16(j->command + 2); }

uint64_t nvme_sectors(const struct nvme *n) {
    return n->block ? block_info(n->block)->size / NVME_SECTOR : 0;
}

/* ---- interrupts ---- */

static void update_intx(struct nvme *n) {
    bool level = false;

    for (unsigned i = 0; i < NVME_QUEUES; i++) {
        const struct nvme_cq *q = &n->cq[i];

        level |= q->used && q->interrupts && q->head != q->tail && !(n->intms >> q->vector & 1);
    }
    pci_set_intx(&n->pci, level); /* not driven while MSI-X is on */
}

static void interrupt(struct nvme *n) {
    for (unsigned i = 0; n->posted >> i; i++)
        if ((n->posted >> i & 1) && n->cq[i].used && n->cq[i].interrupts)
            pci_msix_notify(&n->pci, n->cq[i].vector);
    n->posted = 0;
    update_intx(n);
}

/* ---- shadow doorbells ---- */

static uint32_t load32(struct nvme *n, gpa at, uint32_t otherwise) {
    uint8_t b[4];

    return mem_read(n->pci.dev.env.mem, at, b, 4) < 0 ? otherwise : load_le32(b);
}

static void store32(struct nvme *n, gpa at, uint32_t v) {
    uint8_t b[4];

    store_le32(b, v);
    mem_write(n->pci.dev.env.mem, at, b, 4);
}

/* 5.7: not of the administrative queues. */
static bool shadowed(const struct nvme *n, unsigned id) { return n->shadow && id; }

/* Until what the driver is asked for is a word at the next command. */
static void look_at_tail(struct nvme *n, unsigned id) {
    struct nvme_sq *q = &n->sq[id];
    gpa at = 8 * (gpa)id;

    for (unsigned i = 0; shadowed(n, id) && i < 4; i++) {
        uint32_t tail = load32(n, n->shadow + at, q->tail);

        if (i && tail == q->tail)
            break;
        if (tail < q->size)
            q->tail = tail;
        store32(n, n->shadow_events + at, q->tail);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    }
}

/* The driver is asked for a word when the head moves on from where it is. */
static void look_at_head(struct nvme *n, unsigned id) {
    struct nvme_cq *q = &n->cq[id];

    for (unsigned i = 0; shadowed(n, id) && i < 2; i++) {
        uint32_t head = load32(n, n->shadow + 8 * (gpa)id + 4, q->head);

        if (head < q->size)
            q->head = head;
        if (i == 0)
            store32(n, n->shadow_events + 8 * (gpa)id + 4, q->head);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    }
}

/* ---- completion ---- */

static uint32_t taken(const struct nvme_cq *q) { return (q->tail + q->size - q->head) % q->size; }

/* Whether another command may be taken that will end in this queue. */
static bool has_room(struct nvme *n, unsigned id) {
    struct nvme_cq *q = &n->cq[id];

    if (taken(q) + q->owed + 1 >= q->size)
        look_at_head(n, id);
    return taken(q) + q->owed + 1 < q->size;
}

static void note_error(struct nvme *n, const struct nvme_job *j, unsigned status) {
    n->error[n->error_count++ % NVME_ERRORS] =
        (struct nvme_error){.count = n->error_count,
                            .lba = nvme_qword(j, 10),
                            .nsid = nvme_dword(j, 1),
                            .sq = j->sq,
                            .cid = nvme_cid(j),
                            .status = (uint16_t)(status << 1)};
}

static void post(struct nvme *n, unsigned sq, uint16_t cid, unsigned status, uint32_t value) {
    unsigned id = n->sq[sq].cq;
    struct nvme_cq *q = &n->cq[id];
    uint8_t e[CQE] = {0};

    store_le32(e, value);
    store_le16(e + 8, (uint16_t)n->sq[sq].head);
    store_le16(e + 10, (uint16_t)sq);
    store_le16(e + 12, cid);
    store_le16(e + 14, (uint16_t)(status << 1 | q->phase));
    /* The phase goes last: another processor may look at it at any time. */
    mem_write(n->pci.dev.env.mem, q->base + CQE * (gpa)q->tail, e, 14);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    mem_write(n->pci.dev.env.mem, q->base + CQE * (gpa)q->tail + 14, e + 14, 2);
    if (++q->tail == q->size) {
        q->tail = 0;
        q->phase = !q->phase;
    }
    n->posted |= 1u << id;
}

void nvme_free_job(struct nvme_job *j, bool owing) {
    struct nvme *n = j->dev;

    if (j->epoch == n->epoch && !owing)
        n->cq[n->sq[j->sq].cq].owed--;
    n->jobs--;
    free(j->ranges);
    j->ranges = NULL;
    j->next = n->spare;
    n->spare = j;
}

void nvme_finish(struct nvme_job *j, unsigned status, uint32_t value) {
    struct nvme *n = j->dev;

    trace(nvme_done, n->pci.dev.name, j->sq, nvme_cid(j), status, value);
    if (status)
        note_error(n, j, status);
    post(n, j->sq, nvme_cid(j), status, value);
    nvme_free_job(j, false);
}

/* ---- events (5.2) ---- */

void nvme_tell(struct nvme *n) {
    static const struct {
        uint8_t event;
        uint32_t value; /* type, information << 8, log page << 16 */
    } events[] = {{NVME_EVENT_DOORBELL, 0x010000},
                  {NVME_EVENT_VALUE, 0x010100},
                  {NVME_EVENT_NAMESPACE, 0x040002}};

    for (unsigned i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        unsigned bit = events[i].event, mask = bit | (bit & 3 ? 3 : 0); /* one log page */

        if (!(n->events & bit) || (n->events_masked & mask) || !n->event_cids || !has_room(n, 0))
            continue;
        n->events &= (uint8_t)~bit;
        n->events_masked |= (uint8_t)mask;
        post(n, 0, n->event_cid[--n->event_cids], NVME_OK, events[i].value);
    }
}

void nvme_raise(struct nvme *n, unsigned event) {
    if (!(n->csts & CSTS_READY))
        return;
    trace(nvme_event, n->pci.dev.name, event);
    n->events |= (uint8_t)event;
    nvme_tell(n);
}

/* ---- submission ---- */

struct nvme_job *nvme_get_job(struct nvme *n, unsigned sq) {
    struct nvme_job *j = n->spare;

    if (j)
        n->spare = j->next;
    else
        j = calloc(1, sizeof(*j));
    if (!j)
        return NULL;
    n->jobs++;
    n->cq[n->sq[sq].cq].owed++;
    j->dev = n;
    j->sq = (uint16_t)sq;
    j->epoch = n->epoch;
    j->flush = false;
    j->range = j->range_count = 0;
    return j;
}

void nvme_execute(struct nvme_job *j) {
    if (j->sq)
        nvme_io(j);
    else
        nvme_admin(j);
}

static void take_command(struct nvme *n, unsigned id) {
    struct nvme_sq *q = &n->sq[id];
    struct nvme_job *j = nvme_get_job(n, id);

    if (!j)
        return;
    if (mem_read(n->pci.dev.env.mem, q->base + NVME_COMMAND * (gpa)q->head, j->command,
                 NVME_COMMAND) < 0) {
        n->csts |= CSTS_FAILED; /* the queue is not in memory */
        nvme_free_job(j, false);
        return;
    }
    q->head = (q->head + 1) % q->size;
    trace(nvme_command, n->pci.dev.name, id, nvme_cid(j), j->command[0], nvme_qword(j, 10),
          nvme_dword(j, 12));
    nvme_execute(j);
}

static void arm_again(struct nvme *n) {
    if (!clock_timer_armed(&n->again))
        clock_timer_arm(&n->again, clock_now(n->pci.dev.env.clock) + AGAIN_DELAY);
}

static bool may_take(struct nvme *n, const struct nvme_sq *q) {
    return q->used && q->head != q->tail && !(n->csts & CSTS_FAILED) &&
           n->jobs + n->kept_count < NVME_KEPT && has_room(n, q->cq);
}

/* No more than a queue full: who refills it as fast as we take does not hold us. */
static void take_from(struct nvme *n, unsigned id) {
    struct nvme_sq *q = &n->sq[id];
    uint32_t left = q->size;

    look_at_tail(n, id);
    while (left && may_take(n, q)) {
        take_command(n, id);
        left--;
        if (q->head == q->tail)
            look_at_tail(n, id);
    }
    if (!left)
        arm_again(n);
}

/* What is waiting in the queues, after something has ended or room was made. */
static void look_again(struct nvme *n) {
    if (n->busy || !(n->csts & CSTS_READY))
        return;
    n->busy = true;
    if (n->block)
        block_plug(n->block);
    for (unsigned i = 0; i < NVME_QUEUES; i++)
        if (n->sq[i].used && (n->sq[i].head != n->sq[i].tail || shadowed(n, i)))
            take_from(n, i);
    if (n->block)
        block_unplug(n->block);
    n->busy = false;
}

static void batch_done(void *opaque) {
    struct nvme *n = opaque;

    look_again(n);
    interrupt(n);
}

/* ---- queues ---- */

void nvme_create_cq(struct nvme *n, unsigned id, const struct nvme_cq *q) {
    n->cq[id] = *q;
    n->cq[id].used = true;
    n->cq[id].phase = true;
}

unsigned nvme_delete_sq(struct nvme *n, unsigned id) {
    if (!id || id > n->queues || !n->sq[id].used)
        return NVME_BAD_QUEUE;
    if (n->block)
        block_drain(n->block);
    nvme_end_kept(n, id, NULL, NVME_SQ_DELETED);
    n->sq[id].used = false;
    return NVME_OK;
}

/* ---- reset and shutdown ---- */

uint32_t nvme_feature_default(enum nvme_feature f) {
    static const uint32_t value[NVME_FEATURES] = {
        [NVME_F_TEMPERATURE] = 0x157, /* 70 degrees */
        [NVME_F_CACHE] = 1,
    };

    return value[f];
}

/* Whatever is on its way to the image comes back first, and goes nowhere. */
static void abandon(struct nvme *n) {
    n->epoch++;
    if (n->block && n->jobs)
        block_drain(n->block);
}

static void reset_controller(struct nvme *n) {
    abandon(n);
    memset(n->sq, 0, sizeof(n->sq));
    memset(n->cq, 0, sizeof(n->cq));
    for (unsigned i = 0; i < NVME_FEATURES; i++)
        n->feature[i] = nvme_feature_default(i);
    n->vector_config = n->posted = 0;
    n->event_cids = n->events = n->events_masked = n->ns_changed = 0;
    n->shadow = n->shadow_events = 0;
    n->kept_count = 0;
    memset(n->kept, 0, sizeof(n->kept));
    memset(n->event_cid, 0, sizeof(n->event_cid));
    clock_timer_disarm(&n->again);
    n->csts = 0;
    n->intms = 0;
    update_intx(n);
}

static void enable(struct nvme *n) {
    uint32_t sq = (n->aqa & 0xfff) + 1, cq = (n->aqa >> 16 & 0xfff) + 1;
    unsigned shift = n->cc >> 7 & 15;
    uint64_t page = 4096ull << shift;

    if (shift > PAGE_SHIFTS || (n->cc >> 4 & 7) || (n->cc >> 11 & 7) || sq < 2 || cq < 2 ||
        n->asq & (page - 1) || n->acq & (page - 1)) {
        trace(nvme_refused, n->pci.dev.name, n->cc, n->aqa);
        n->csts = CSTS_FAILED;
        return;
    }
    n->sq[0] = (struct nvme_sq){.used = true, .base = n->asq, .size = sq};
    nvme_create_cq(n, 0,
                   &(struct nvme_cq){.interrupts = true, .base = n->acq, .size = cq, .vector = 0});
    n->csts = CSTS_READY;
}

static void shut(struct block_request *io, int result) {
    struct nvme *n = io->opaque;

    if ((n->csts & CSTS_SHUT_MASK) == CSTS_SHUTTING)
        n->csts = (n->csts & ~(uint32_t)CSTS_SHUT_MASK) | CSTS_SHUT;
    io->opaque = NULL;
}

static void begin_shutdown(struct nvme *n) {
    if (n->csts & CSTS_SHUT_MASK)
        return;
    if (!n->block || n->shutdown.opaque) {
        n->csts |= n->block ? CSTS_SHUTTING : CSTS_SHUT;
        return;
    }
    n->csts |= CSTS_SHUTTING;
    n->shutdown = (struct block_request){.op = BLOCK_FLUSH, .done = shut, .opaque = n};
    block_submit(n->block, &n->shutdown);
}

static void write_cc(struct nvme *n, uint32_t v) {
    uint32_t old = n->cc;

    n->cc = v & CC_WMASK;
    if ((old & CC_ENABLE) && !(v & CC_ENABLE))
        reset_controller(n);
    else if (!(old & CC_ENABLE) && (v & CC_ENABLE))
        enable(n);
    if (v >> 14 & 3)
        begin_shutdown(n);
    else if (!(n->csts & CSTS_SHUTTING))
        n->csts &= ~(uint32_t)CSTS_SHUT_MASK;
}

/* ---- registers ---- */

static void ring(struct nvme *n, unsigned at, uint32_t v) {
    unsigned id = at / 8;
    bool completion = at & 4;

    if (id >= NVME_QUEUES || !(completion ? n->cq[id].used : n->sq[id].used)) {
        nvme_raise(n, NVME_EVENT_DOORBELL);
    } else if (v >= (completion ? n->cq[id].size : n->sq[id].size)) {
        nvme_raise(n, NVME_EVENT_VALUE);
    } else if (completion) {
        bool was_full = taken(&n->cq[id]) + n->cq[id].owed + 1 >= n->cq[id].size;

        n->cq[id].head = v;
        if (!id)
            nvme_tell(n);
        if (was_full)
            look_again(n);
    } else {
        n->sq[id].tail = v;
        n->busy = true;
        if (n->block)
            block_plug(n->block);
        take_from(n, id);
        if (n->block)
            block_unplug(n->block);
        n->busy = false;
    }
    interrupt(n);
}

static uint32_t read_register(const struct nvme *n, unsigned reg) {
    switch (reg) {
    case CAP:
        return (uint32_t)CAP_VALUE;
    case CAP + 4:
        return (uint32_t)(CAP_VALUE >> 32);
    case VS:
        return 0x00010400;
    case INTMS:
    case INTMC:
        return n->intms;
    case CC:
        return n->cc;
    case CSTS:
        return n->csts;
    case AQA:
        return n->aqa;
    case ASQ:
        return (uint32_t)n->asq;
    case ASQ + 4:
        return (uint32_t)(n->asq >> 32);
    case ACQ:
        return (uint32_t)n->acq;
    case ACQ + 4:
        return (uint32_t)(n->acq >> 32);
    default:
        return 0;
    }
}

static void set_half(uint64_t *v, bool high, uint32_t half) {
    *v = high ? (*v & 0xffffffff) | (uint64_t)half << 32 : (*v & ~0xffffffffull) | half;
}

static void write_register(struct nvme *n, unsigned reg, uint32_t v) {
    switch (reg) {
    case INTMS:
    case INTMC:
        n->intms = reg == INTMS ? n->intms | v : n->intms & ~v;
        update_intx(n);
        break;
    case CC:
        write_cc(n, v);
        break;
    case AQA:
        n->aqa = v & 0x0fff0fff;
        break;
    case ASQ:
    case ASQ + 4:
        set_half(&n->asq, reg & 4, reg & 4 ? v : v & ~0xfffu);
        break;
    case ACQ:
    case ACQ + 4:
        set_half(&n->acq, reg & 4, reg & 4 ? v : v & ~0xfffu);
        break;
    }
}

static uint64_t bar_read(void *dev, uint64_t offset, unsigned size) {
    struct nvme *n = dev;
    uint64_t v;

    if (pci_msix_read(&n->pci, 0, offset, size, &v))
        return v;
    v = read_register(n, (unsigned)offset & ~3u);
    if (size == 8 && !(offset & 3))
        v |= (uint64_t)read_register(n, (unsigned)offset + 4) << 32;
    return v >> (8 * (offset & 3));
}

static void bar_write(void *dev, uint64_t offset, unsigned size, uint64_t v) {
    struct nvme *n = dev;

    if (pci_msix_write(&n->pci, 0, offset, size, v) || offset & 3 || size < 4)
        return;
    if (offset >= DOORBELLS) {
        if (n->csts & CSTS_READY && !(n->csts & CSTS_FAILED) && offset < MSIX)
            ring(n, (unsigned)offset - DOORBELLS, (uint32_t)v);
        return;
    }
    write_register(n, (unsigned)offset, (uint32_t)v);
    if (size == 8)
        write_register(n, (unsigned)offset + 4, (uint32_t)(v >> 32));
}

/* ---- the device ---- */

static const struct io_ops bar_ops = {bar_read, bar_write, 1, 8};

static void resized(void *opaque) {
    struct nvme *n = opaque;

    if (!(n->feature[NVME_F_EVENTS] & 0x100))
        return;
    n->ns_changed = 1;
    nvme_raise(n, NVME_EVENT_NAMESPACE);
    interrupt(n);
}

static void resume(void *opaque) {
    nvme_resume(opaque);
    batch_done(opaque);
}

static void again(void *opaque) { batch_done(opaque); }

static void set_callbacks(struct nvme *n, bool on) {
    block_set_batch_fn(n->block, on ? batch_done : NULL, n);
    block_set_resume_fn(n->block, on ? resume : NULL, n);
    block_set_resize_fn(n->block, on ? resized : NULL, n);
}

static int nvme_init(struct device *dev, struct error *err) {
    struct nvme *n = (struct nvme *)dev;
    const struct nvme_config *c = dev->env.config;

    n->queues = c && c->queues ? c->queues : 1;
    if (c) {
        n->block = c->block;
        memcpy(n->serial, c->serial, sizeof(n->serial) - 1);
    }
    if (n->block)
        set_callbacks(n, true);
    clock_timer_init(&n->again, dev->env.clock, again, n);
    pci_init_header(&n->pci, VENDOR, DEVICE, CLASS, VENDOR, SUBSYS);
    n->pci.config[PCI_INT_PIN] = 1;
    pci_init_bar(&n->pci, 0, BAR_SIZE, false, true, &bar_ops, "nvme");
    return pci_init_msix(&n->pci, n->queues + 1, 0, MSIX, PBA);
}

static void nvme_reset(struct device *dev) {
    struct nvme *n = (struct nvme *)dev;

    pci_reset(&n->pci);
    reset_controller(n);
    n->cc = n->aqa = 0;
    n->asq = n->acq = 0;
    n->error_count = n->sectors_read = n->sectors_written = n->reads = n->writes = 0;
    n->media_errors = 0;
    memset(n->error, 0, sizeof(n->error));
}

static void nvme_done(struct device *dev) {
    struct nvme *n = (struct nvme *)dev;
    struct nvme_job *j;

    n->epoch++;
    clock_timer_disarm(&n->again);
    if (n->block) {
        block_drain(n->block);
        set_callbacks(n, false);
    }
    while ((j = n->spare)) {
        n->spare = j->next;
        dma_free(&j->dma);
        free(j);
    }
    pci_bus_detach(&n->pci);
}

static int validate(const void *obj, struct error *err) {
    const struct nvme *n = obj;

    for (unsigned i = 0; i < NVME_QUEUES; i++) {
        const struct nvme_sq *s = &n->sq[i];
        const struct nvme_cq *c = &n->cq[i];

        if ((s->used &&
             (s->size < 2 || s->head >= s->size || s->tail >= s->size || !n->cq[s->cq].used)) ||
            (c->used && (c->size < 2 || c->head >= c->size || c->tail >= c->size)))
            return error_set(err, -EINVAL, "queue %u has an impossible size or index", i);
    }
    if ((n->csts & CSTS_READY) && !(n->sq[0].used && n->cq[0].used))
        return error_set(err, -EINVAL, "the controller is ready without queues");
    return 0;
}

static void post_load(void *obj) {
    struct nvme *n = obj;

    pci_post_load(&n->pci);
    for (unsigned i = 0; i < NVME_QUEUES; i++)
        n->cq[i].owed = 0;
    for (unsigned i = 0; i < n->kept_count; i++)
        n->cq[n->sq[n->kept[i].sq].cq].owed++;
    update_intx(n);
    arm_again(n); /* for what is in the queues */
}

static const struct state_desc sq_state = {
    .name = "nvme_sq",
    .version = 1,
    .struct_size = sizeof(struct nvme_sq),
    .fields =
        (const struct state_field[]){STATE(struct nvme_sq, used), STATE(struct nvme_sq, base),
                                     STATE(struct nvme_sq, size), STATE(struct nvme_sq, head),
                                     STATE(struct nvme_sq, tail),
                                     STATE_MAX(struct nvme_sq, cq, NVME_QUEUES - 1), STATE_END},
};

static const struct state_desc cq_state = {
    .name = "nvme_cq",
    .version = 1,
    .struct_size = sizeof(struct nvme_cq),
    .fields =
        (const struct state_field[]){
            STATE(struct nvme_cq, used), STATE(struct nvme_cq, interrupts),
            STATE(struct nvme_cq, phase), STATE(struct nvme_cq, base), STATE(struct nvme_cq, size),
            STATE(struct nvme_cq, head), STATE(struct nvme_cq, tail),
            STATE_MAX(struct nvme_cq, vector, PCI_MAX_VECTORS - 1), STATE_END},
};

static const struct state_desc error_state = {
    .name = "nvme_error",
    .version = 1,
    .struct_size = sizeof(struct nvme_error),
    .fields =
        (const struct state_field[]){STATE(struct nvme_error, count), STATE(struct nvme_error, lba),
                                     STATE(struct nvme_error, nsid), STATE(struct nvme_error, sq),
                                     STATE(struct nvme_error, cid),
                                     STATE(struct nvme_error, status), STATE_END},
};

static const struct state_desc kept_state = {
    .name = "nvme_kept",
    .version = 1,
    .struct_size = sizeof(struct nvme_kept),
    .fields =
        (const struct state_field[]){STATE_BYTES(struct nvme_kept, command),
                                     STATE_MAX(struct nvme_kept, sq, NVME_QUEUES - 1), STATE_END},
};

static const struct state_desc nvme_state = {
    .name = "nvme",
    .version = 1,
    .struct_size = sizeof(struct nvme),
    .validate = validate,
    .post_load = post_load,
    .fields = (const struct state_field[]){STATE_SUB(struct nvme, pci, &pci_device_state),
                                           STATE(struct nvme, cc),
                                           STATE(struct nvme, csts),
                                           STATE(struct nvme, intms),
                                           STATE(struct nvme, aqa),
                                           STATE(struct nvme, asq),
                                           STATE(struct nvme, acq),
                                           STATE_SUB_ARRAY(struct nvme, sq, &sq_state),
                                           STATE_SUB_ARRAY(struct nvme, cq, &cq_state),
                                           STATE_ARRAY(struct nvme, feature),
                                           STATE(struct nvme, vector_config),
                                           STATE_ARRAY(struct nvme, event_cid),
                                           STATE_MAX(struct nvme, event_cids, NVME_EVENTS_MAX),
                                           STATE(struct nvme, events),
                                           STATE(struct nvme, events_masked),
                                           STATE(struct nvme, ns_changed),
                                           STATE_SUB_ARRAY(struct nvme, error, &error_state),
                                           STATE(struct nvme, error_count),
                                           STATE(struct nvme, sectors_read),
                                           STATE(struct nvme, sectors_written),
                                           STATE(struct nvme, reads),
                                           STATE(struct nvme, writes),
                                           STATE(struct nvme, media_errors),
                                           STATE(struct nvme, shadow),
                                           STATE(struct nvme, shadow_events),
                                           STATE_MAX(struct nvme, kept_count, NVME_KEPT),
                                           STATE_SUB_ARRAY(struct nvme, kept, &kept_state),
                                           STATE_END},
};

const struct device_class nvme_class = {
    .name = "nvme",
    .help = "NVMe controller with a namespace (disk)",
    .size = sizeof(struct nvme),
    .state = &nvme_state,
    .init = nvme_init,
    .reset = nvme_reset,
    .done = nvme_done,
    .pci = true,
};
