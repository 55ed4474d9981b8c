/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Administrative NVMe commands. Source: NVM Express Base Specification 1.4, section 5.
 */
#include <string.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "base/sha256.h"
#include "devices/nvme_internal.h"

// clang-format off
enum { DELETE_SQ = 0x00, CREATE_SQ = 0x01, GET_LOG_PAGE = 0x02, DELETE_CQ = 0x04, CREATE_CQ = 0x05, IDENTIFY = 0x06,
       ABORT = 0x08, SET_FEATURES = 0x09, GET_FEATURES = 0x0a, ASYNC_EVENT = 0x0c, DOORBELL_BUFFER = 0x7c };
enum { LOG_ERRORS = 1, LOG_HEALTH = 2, LOG_FIRMWARE = 3, LOG_NAMESPACES = 4 };
enum { FID_QUEUES = 0x07, FID_VECTOR = 0x09, PAGE = 4096, ALL = 0xffffffff };
// clang-format on

/* Sends up to a page to the guest; the command ends. */
static void reply(struct nvme_job *j, const uint8_t *data, uint64_t n) {
    unsigned status = n ? nvme_map(j, n, true) : NVME_OK;

    if (!status && n) {
        iov_write(j->dma.iov, j->dma.count, 0, data, n);
        dma_written(&j->dma, j->dev->pci.dev.env.mem, n);
    }
    nvme_finish(j, status, 0);
}

/* ---- identify (5.15) ---- */

static void put_text(uint8_t *to, unsigned n, const char *text) {
    for (unsigned i = 0; i < n; i++)
        to[i] = (uint8_t)(*text ? *text++ : ' ');
}

static void identify_controller(const struct nvme *n, uint8_t *d) {
    store_le16(d, load_le16(n->pci.config + PCI_VENDOR));
    store_le16(d + 2, load_le16(n->pci.config + PCI_SUBSYS_VENDOR));
    put_text(d + 4, 20, n->serial);
    put_text(d + 24, 40, "VIVARIUM NVME DISK");
    put_text(d + 64, 8, "1.0");
    d[72] = 6; /* commands at once from a queue, 2^n */
    d[77] = NVME_DATA_SHIFT;
    store_le32(d + 80, 0x00010400);
    store_le32(d + 92, 0x100);  /* tells of changed namespaces */
    d[111] = 1;                 /* for I/O */
    store_le16(d + 256, 0x100); /* doorbell buffers */
    d[258] = 3;                 /* aborts, events at once: 4 */
    d[259] = NVME_EVENTS_MAX - 1;
    d[260] = 3; /* one firmware slot, read-only */
    d[261] = 4; /* parts of log pages */
    d[262] = NVME_ERRORS - 1;
    store_le16(d + 266, 0x157);
    store_le16(d + 268, 0x175);
    d[512] = 0x66; /* entries of 64 and 16 bytes */
    d[513] = 0x44;
    store_le16(d + 514, NVME_KEPT); /* commands that pay */
    store_le32(d + 516, 1);
    store_le16(d + 520, 0x1c); /* deallocation, write zeroes, select in features */
    d[525] = 7;                /* a write cache; a flush may be for all namespaces */
    /* 7.9, of controllers without a name that somebody registered. */
    memcpy(d + 768, "nqn.2014.08.org.nvmexpress:1af41af4", 35);
    put_text(d + 768 + 35, 20, n->serial);
    put_text(d + 768 + 55, 40, "VIVARIUM NVME DISK");
    store_le16(d + 2048, 0x9c4); /* power state 0: 25 W */
    store_le32(d + 2052, 16);
    store_le32(d + 2056, 4);
}

static void identify_namespace(const struct nvme *n, uint8_t *d) {
    uint64_t sectors = nvme_sectors(n);

    for (unsigned i = 0; i < 3; i++)
        store_le64(d + 8 * (size_t)i, sectors);
    d[24] = 0x11; /* thin; sizes that are good follow at 64 */
    d[33] = 8;    /* write zeroes may deallocate */
    store_le64(d + 48, sectors * NVME_SECTOR);
    for (unsigned i = 0; i < 4; i++)
        store_le16(d + 64 + 2 * (size_t)i, 7); /* 4 KiB for writes and deallocations */
    d[99] = n->block && block_info(n->block)->readonly;
    d[130] = 9; /* blocks of 512 bytes */
}

/* A UUID that follows from the serial number, version 8 (made by us). */
static void identify_descriptors(const struct nvme *n, uint8_t *d) {
    uint8_t hash[SHA256_BYTES];
    struct sha256 s;

    sha256_begin(&s);
    sha256_put(&s, "vivarium nvme ", 14);
    sha256_put(&s, n->serial, strlen(n->serial));
    sha256_end(&s, hash);
    d[0] = 3;
    d[1] = 16;
    memcpy(d + 4, hash, 16);
    d[4 + 6] = (uint8_t)(0x80 | (d[4 + 6] & 15));
    d[4 + 8] = (uint8_t)(0x80 | (d[4 + 8] & 0x3f));
}

static void identify(struct nvme_job *j) {
    uint32_t ns = nvme_dword(j, 1);
    unsigned what = nvme_dword(j, 10) & 0xff;
    uint8_t d[PAGE] = {0};

    if ((what == 0 && (ns == 0 || (ns > 1 && ns != ALL))) || (what == 3 && ns != 1) ||
        (what == 2 && ns >= 0xfffffffe)) {
        nvme_finish(j, NVME_BAD_NAMESPACE, 0);
        return;
    }
    switch (what) {
    case 0:
        identify_namespace(j->dev, d);
        break;
    case 1:
        identify_controller(j->dev, d);
        break;
    case 2: /* namespaces behind this one */
        store_le32(d, ns < 1);
        break;
    case 3:
        identify_descriptors(j->dev, d);
        break;
    default:
        nvme_finish(j, NVME_BAD_FIELD, 0);
        return;
    }
    reply(j, d, sizeof(d));
}

/* ---- log pages (5.14) ---- */

static void log_errors(const struct nvme *n, uint8_t *d) {
    for (uint64_t i = 0; i < NVME_ERRORS && i < n->error_count; i++) {
        const struct nvme_error *e = &n->error[(n->error_count - 1 - i) % NVME_ERRORS];
        uint8_t *p = d + 64 * i;

        store_le64(p, e->count);
        store_le16(p + 8, e->sq);
        store_le16(p + 10, e->cid);
        store_le16(p + 12, e->status);
        store_le16(p + 14, 0xffff); /* which field: not said */
        store_le64(p + 16, e->lba);
        store_le32(p + 24, e->nsid);
    }
}

static void log_health(const struct nvme *n, uint8_t *d) {
    const uint64_t unit = 1000; /* of 512 bytes */

    store_le16(d + 1, 303); /* 30 degrees */
    d[3] = 100;
    d[4] = 10;
    store_le64(d + 32, (n->sectors_read + unit - 1) / unit);
    store_le64(d + 48, (n->sectors_written + unit - 1) / unit);
    store_le64(d + 64, n->reads);
    store_le64(d + 80, n->writes);
    store_le64(d + 112, 1); /* power cycles */
    store_le64(d + 128, clock_now(n->pci.dev.env.clock) / 3600000000000);
    store_le64(d + 160, n->media_errors);
    store_le64(d + 176, n->error_count);
}

/* Its event may come again once the page was read. */
static void seen(struct nvme *n, unsigned page) {
    if (page == LOG_ERRORS)
        n->events_masked &= (uint8_t) ~(NVME_EVENT_DOORBELL | NVME_EVENT_VALUE);
    if (page == LOG_NAMESPACES) {
        n->events_masked &= (uint8_t)~NVME_EVENT_NAMESPACE;
        n->ns_changed = 0;
    }
}

static void get_log_page(struct nvme_job *j) {
    uint64_t n = ((uint64_t)(nvme_dword(j, 11) & 0xffff) << 16 | nvme_dword(j, 10) >> 16) + 1;
    uint64_t offset = nvme_qword(j, 12);
    unsigned page = nvme_dword(j, 10) & 0xff;
    struct nvme *nvme = j->dev;
    uint8_t d[PAGE] = {0};

    switch (page) {
    case LOG_ERRORS:
        log_errors(nvme, d);
        break;
    case LOG_HEALTH:
        log_health(nvme, d);
        break;
    case LOG_FIRMWARE:
        d[0] = 1;
        put_text(d + 8, 8, "1.0");
        break;
    case LOG_NAMESPACES:
        store_le32(d, nvme->ns_changed);
        break;
    default:
        nvme_finish(j, NVME_BAD_LOG, 0);
        return;
    }
    if (offset & 3 || offset > PAGE) {
        nvme_finish(j, NVME_BAD_FIELD, 0);
        return;
    }
    if (!(nvme_dword(j, 10) & 0x8000)) /* retain the event */
        seen(nvme, page);
    reply(j, d + offset, 4 * n < PAGE - offset ? 4 * n : PAGE - offset);
    nvme_tell(nvme);
}

/* ---- features (5.21) ---- */

static const struct feature {
    uint8_t id;
    enum nvme_feature place;
    uint32_t changeable;
} features[] = {
    {0x01, NVME_F_ARBITRATION, 0xffffff07},
    {0x02, NVME_F_POWER, 0xe0},
    {0x04, NVME_F_TEMPERATURE, 0x3fffff},
    {0x05, NVME_F_RECOVERY, 0xffff},
    {0x06, NVME_F_CACHE, 1},
    {0x08, NVME_F_COALESCING, 0xffff},
    {0x0a, NVME_F_ATOMICITY, 1},
    {0x0b, NVME_F_EVENTS, 0x1ff},
};

static const struct feature *find_feature(unsigned id) {
    for (unsigned i = 0; i < sizeof(features) / sizeof(features[0]); i++)
        if (features[i].id == id)
            return &features[i];
    return NULL;
}

static uint32_t queue_numbers(const struct nvme *n) { return (n->queues - 1) * 0x10001; }

static void get_features(struct nvme_job *j) {
    unsigned id = nvme_dword(j, 10) & 0xff, select = nvme_dword(j, 10) >> 8 & 7;
    const struct feature *f = find_feature(id);
    uint32_t vector = nvme_dword(j, 11) & 0xffff, value = 0;
    struct nvme *n = j->dev;

    if ((!f && id != FID_QUEUES && id != FID_VECTOR) || select > 3 ||
        (id == FID_VECTOR && vector > n->queues)) {
        nvme_finish(j, NVME_BAD_FIELD, 0);
        return;
    }
    if (select == 3)
        value = 4; /* can be changed, not saved */
    else if (id == FID_QUEUES)
        value = queue_numbers(n);
    else if (id == FID_VECTOR)
        value = vector | (!select && n->vector_config >> vector & 1 ? 1u << 16 : 0);
    else if (f)
        value = select ? nvme_feature_default(f->place) : n->feature[f->place];
    nvme_finish(j, NVME_OK, value);
}

static bool has_io_queues(const struct nvme *n) {
    for (unsigned i = 1; i < NVME_QUEUES; i++)
        if (n->sq[i].used || n->cq[i].used)
            return true;
    return false;
}

static void set_features(struct nvme_job *j) {
    unsigned id = nvme_dword(j, 10) & 0xff, vector = nvme_dword(j, 11) & 0xffff;
    const struct feature *f = find_feature(id);
    uint32_t v = nvme_dword(j, 11);
    struct nvme *n = j->dev;

    if (nvme_dword(j, 10) >> 31) {
        nvme_finish(j, NVME_NOT_SAVEABLE, 0);
    } else if (id == FID_QUEUES) {
        if ((v & 0xffff) == 0xffff || v >> 16 == 0xffff)
            nvme_finish(j, NVME_BAD_FIELD, 0);
        else if (has_io_queues(n))
            nvme_finish(j, NVME_BAD_SEQUENCE, 0);
        else
            nvme_finish(j, NVME_OK, queue_numbers(n));
    } else if (id == FID_VECTOR && vector <= n->queues) {
        n->vector_config &= ~(1u << vector);
        n->vector_config |= (v >> 16 & 1) << vector;
        nvme_finish(j, NVME_OK, 0);
    } else if (!f || (f->place == NVME_F_POWER && v & 0x1f)) {
        nvme_finish(j, NVME_BAD_FIELD, 0); /* there is one power state */
    } else {
        n->feature[f->place] = v & f->changeable;
        nvme_finish(j, NVME_OK, 0);
    }
}

/* ---- queues (5.3 to 5.6) ---- */

static unsigned create_cq(struct nvme_job *j) {
    unsigned id = nvme_dword(j, 10) & 0xffff, vector = nvme_dword(j, 11) >> 16;
    uint32_t size = (nvme_dword(j, 10) >> 16) + 1, flags = nvme_dword(j, 11);
    struct nvme *n = j->dev;

    if (!id || id > n->queues || n->cq[id].used)
        return NVME_BAD_QUEUE;
    if (size < 2 || size > 1024)
        return NVME_BAD_SIZE;
    if (!(flags & 1) || (n->cc >> 20 & 15) != 4)
        return NVME_BAD_FIELD; /* in pieces; entries of another size */
    if (nvme_qword(j, 6) & ((4096ull << (n->cc >> 7 & 15)) - 1))
        return NVME_BAD_PRP;
    if (vector > n->queues || (vector && !pci_msix_enabled(&n->pci)))
        return NVME_BAD_VECTOR;
    nvme_create_cq(n, id,
                   &(struct nvme_cq){.base = nvme_qword(j, 6),
                                     .size = size,
                                     .interrupts = flags & 2,
                                     .vector = (uint16_t)vector});
    return NVME_OK;
}

static unsigned create_sq(struct nvme_job *j) {
    unsigned id = nvme_dword(j, 10) & 0xffff, cq = nvme_dword(j, 11) >> 16;
    uint32_t size = (nvme_dword(j, 10) >> 16) + 1;
    struct nvme *n = j->dev;

    if (!id || id > n->queues || n->sq[id].used)
        return NVME_BAD_QUEUE;
    if (!cq || cq > n->queues || !n->cq[cq].used)
        return NVME_BAD_CQ;
    if (size < 2 || size > 1024)
        return NVME_BAD_SIZE;
    if (!(nvme_dword(j, 11) & 1) || (n->cc >> 16 & 15) != 6)
        return NVME_BAD_FIELD;
    if (nvme_qword(j, 6) & ((4096ull << (n->cc >> 7 & 15)) - 1))
        return NVME_BAD_PRP;
    n->sq[id] =
        (struct nvme_sq){.used = true, .base = nvme_qword(j, 6), .size = size, .cq = (uint16_t)cq};
    return NVME_OK;
}

static unsigned delete_cq(struct nvme_job *j) {
    unsigned id = nvme_dword(j, 10) & 0xffff;
    struct nvme *n = j->dev;

    if (!id || id > n->queues || !n->cq[id].used)
        return NVME_BAD_QUEUE;
    for (unsigned i = 1; i < NVME_QUEUES; i++)
        if (n->sq[i].used && n->sq[i].cq == id)
            return NVME_BAD_DELETION;
    n->cq[id].used = false;
    return NVME_OK;
}

/* Queues that are there already go on where they stand. */
static unsigned set_shadow(struct nvme_job *j) {
    uint64_t page = (4096ull << (j->dev->cc >> 7 & 15)) - 1;
    struct nvme *n = j->dev;

    if (!nvme_qword(j, 6) || !nvme_qword(j, 8))
        return NVME_BAD_FIELD;
    if (nvme_qword(j, 6) & page || nvme_qword(j, 8) & page)
        return NVME_BAD_PRP;
    n->shadow = nvme_qword(j, 6);
    n->shadow_events = nvme_qword(j, 8);
    for (unsigned i = 1; i < NVME_QUEUES; i++) {
        uint8_t now[8];

        if (!n->sq[i].used && !n->cq[i].used)
            continue;
        store_le32(now, n->sq[i].tail);
        store_le32(now + 4, n->cq[i].head);
        mem_write(n->pci.dev.env.mem, n->shadow + 8 * (gpa)i, now, sizeof(now));
    }
    return NVME_OK;
}

/* ---- others ---- */

/* 5.1: bit 0 of the answer: it was not aborted, since it is with the host, or has ended. */
static void abort_command(struct nvme_job *j) {
    uint16_t sq = (uint16_t)nvme_dword(j, 10), cid = (uint16_t)(nvme_dword(j, 10) >> 16);
    struct nvme *n = j->dev;
    bool done = sq < NVME_QUEUES && nvme_end_kept(n, sq, &cid, NVME_ABORTED);

    nvme_finish(j, NVME_OK, !done);
}

static void async_event(struct nvme_job *j) {
    struct nvme *n = j->dev;

    if (n->event_cids == NVME_EVENTS_MAX) {
        nvme_finish(j, NVME_TOO_MANY_EVENTS, 0);
        return;
    }
    n->event_cid[n->event_cids++] = nvme_cid(j);
    nvme_free_job(j, false);
    nvme_tell(n);
}

void nvme_admin(struct nvme_job *j) {
    if (j->command[1] & 0xc3) { /* fused, SGLs */
        nvme_finish(j, NVME_BAD_FIELD, 0);
        return;
    }
    switch (j->command[0]) {
    case DELETE_SQ:
        nvme_finish(j, nvme_delete_sq(j->dev, nvme_dword(j, 10) & 0xffff), 0);
        break;
    case CREATE_SQ:
        nvme_finish(j, create_sq(j), 0);
        break;
    case DELETE_CQ:
        nvme_finish(j, delete_cq(j), 0);
        break;
    case CREATE_CQ:
        nvme_finish(j, create_cq(j), 0);
        break;
    case GET_LOG_PAGE:
        get_log_page(j);
        break;
    case IDENTIFY:
        identify(j);
        break;
    case ABORT:
        abort_command(j);
        break;
    case SET_FEATURES:
        set_features(j);
        break;
    case GET_FEATURES:
        get_features(j);
        break;
    case ASYNC_EVENT:
        async_event(j);
        break;
    case DOORBELL_BUFFER:
        nvme_finish(j, set_shadow(j), 0);
        break;
    default:
        nvme_finish(j, NVME_BAD_OPCODE, 0);
    }
}
