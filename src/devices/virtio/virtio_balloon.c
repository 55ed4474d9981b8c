/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory balloon. Source: Virtual I/O Device (VIRTIO) Version 1.2, section 5.5.
 *
 * Queues: 0 inflate, 1 deflate, 2 statistics, 3 reports of free pages. Free page hints are not
 * offered, and drivers then count their queues without a gap (Linux, and as QEMU has it).
 *
 * The statistics: the driver gives a buffer, which is read at once and put back (virtio_unpop)
 * until somebody wants new ones; then the driver gets it, fills it and gives it again. So nothing
 * of it is state: after a load the same buffer is read again.
 *
 * Departures: a poison value other than 0 makes reports do nothing (5.5.6.7.2 lets the device keep
 * the contents). Of one chain to the inflate queue no more than PFNS_MAX pages go back to the host:
 * it bounds the time under the machine lock, and what stays costs only memory.
 */
#include "devices/virtio/virtio_balloon.h"

#include <string.h>

#include "base/bytes.h"
#include "bus/release.h"
#include "devices/virtio/virtio.h"

/*
 * Calls (main, vcpu): mmap madvise:MADV_DONTNEED
 */

#define F_STATS_VQ       (1ull << 1)
#define F_DEFLATE_ON_OOM (1ull << 2)
#define F_PAGE_POISON    (1ull << 4)
#define F_REPORTING      (1ull << 5)

enum { QUEUE_INFLATE, QUEUE_DEFLATE, QUEUE_STATS, QUEUE_REPORTS, QUEUES };
enum { NUM_PAGES = 0, ACTUAL = 4, POISON = 12, CONFIG_SIZE = 16 };
enum { STAT_SIZE = 10, STATS_READ = 64, PFNS_MAX = 1024 };

struct virtio_balloon {
    struct virtio virtio;    /* first */
    uint32_t target, actual; /* pages */
    uint32_t poison;
    uint32_t stats; /* tags that are known */
    uint64_t stat[VIRTIO_BALLOON_STATS];
    uint64_t returned;         /* bytes; not state: of this process */
    struct virtio_chain chain; /* scratch: too big for the stack of a vCPU's thread */
};

const char *virtio_balloon_stat_name(unsigned tag) {
    static const char *const names[VIRTIO_BALLOON_STATS] = {
        "swap_in",       "swap_out",    "major_faults", "minor_faults",        "free",
        "total",         "available",   "disk_caches",  "hugetlb_allocations", "hugetlb_failures",
        "oom_kill",      "alloc_stall", "async_scan",   "direct_scan",         "async_reclaim",
        "direct_reclaim"};

    return tag < VIRTIO_BALLOON_STATS ? names[tag] : NULL;
}

/* ------------------------------------------------------------------ pages that go */

static void give_back(struct virtio_balloon *b, gpa addr, uint64_t size) {
    b->returned += mem_release(b->virtio.pci.dev.env.mem, addr, size);
}

/* Numbers that follow each other, up or down, go together. */
static void inflate(struct virtio_balloon *b) {
    struct virtio_chain *c = &b->chain;
    uint64_t count = c->out_len / 4, first = 0, end = 0;
    uint8_t pfn[4];

    for (uint64_t i = 0; i < count && i < PFNS_MAX; i++) {
        uint64_t page;

        iov_read(c->iov, c->out_count, i * 4, pfn, sizeof(pfn));
        page = load_le32(pfn);
        if (page == end) {
            end++;
        } else if (page + 1 == first) {
            first--;
        } else {
            give_back(b, first << MEM_PAGE_SHIFT, (end - first) << MEM_PAGE_SHIFT);
            first = page;
            end = page + 1;
        }
    }
    give_back(b, first << MEM_PAGE_SHIFT, (end - first) << MEM_PAGE_SHIFT);
}

/* 5.5.6.7: each buffer is a range of free memory. */
static void report(struct virtio_balloon *b) {
    struct virtio_chain *c = &b->chain;

    if (virtio_has(&b->virtio, F_PAGE_POISON) && b->poison)
        return;
    for (unsigned i = c->out_count; i < c->out_count + c->in_count; i++)
        give_back(b, c->addr[i], c->iov[i].iov_len);
}

static void read_stats(struct virtio_balloon *b) {
    struct virtio_chain *c = &b->chain;
    uint8_t entry[STAT_SIZE];

    for (unsigned i = 0; i < STATS_READ && (i + 1) * STAT_SIZE <= c->out_len; i++) {
        unsigned tag;

        iov_read(c->iov, c->out_count, (size_t)i * STAT_SIZE, entry, STAT_SIZE);
        tag = load_le16(entry);
        if (tag >= VIRTIO_BALLOON_STATS)
            continue;
        b->stat[tag] = load_le64(entry + 2);
        b->stats |= 1u << tag;
    }
}

static void notify(struct virtio *v, unsigned queue) {
    struct virtio_balloon *b = (struct virtio_balloon *)v;

    if (queue == QUEUE_STATS) {
        if (virtio_pop(v, queue, &b->chain) == 1) {
            read_stats(b);
            virtio_unpop(v, &b->chain);
        }
        return;
    }
    while (virtio_pop(v, queue, &b->chain) == 1) {
        if (queue == QUEUE_INFLATE)
            inflate(b);
        else if (queue == QUEUE_REPORTS)
            report(b);
        virtio_push(v, &b->chain, 0);
    }
    virtio_interrupt(v, queue);
}

/* ------------------------------------------------------------------ configuration */

static void config_read(struct virtio *v, unsigned offset, void *buf, unsigned len) {
    const struct virtio_balloon *b = (const struct virtio_balloon *)v;
    uint8_t c[CONFIG_SIZE] = {0};

    store_le32(c + NUM_PAGES, b->target);
    store_le32(c + ACTUAL, b->actual);
    store_le32(c + POISON, b->poison);
    memcpy(buf, c + offset, len);
}

/* Only what the driver may write. */
static void config_write(struct virtio *v, unsigned offset, const void *buf, unsigned len) {
    struct virtio_balloon *b = (struct virtio_balloon *)v;
    uint8_t c[CONFIG_SIZE];

    config_read(v, 0, c, CONFIG_SIZE);
    memcpy(c + offset, buf, len);
    b->actual = load_le32(c + ACTUAL);
    b->poison = load_le32(c + POISON);
}

static void forget(struct virtio_balloon *b) {
    b->actual = b->poison = b->stats = 0;
    memset(b->stat, 0, sizeof(b->stat));
}

/* The pages of a driver that is reset are the guest's again. Linux gives its first statistics
 * before it says that it is ready, and never again unless it is asked. */
static void status(struct virtio *v, uint8_t old, uint8_t now) {
    if (!now)
        forget((struct virtio_balloon *)v);
    else if (virtio_live(v))
        virtio_again(v, QUEUE_STATS);
}

static const struct virtio_type type = {
    .id = VIRTIO_ID_BALLOON,
    .features = F_STATS_VQ | F_DEFLATE_ON_OOM | F_PAGE_POISON | F_REPORTING,
    .queues = QUEUES,
    .queue_size = 128,
    .config_size = CONFIG_SIZE,
    .pci_class = 0x00ff0000,
    .notify = notify,
    .status = status,
    .config_read = config_read,
    .config_write = config_write,
};

/* ------------------------------------------------------------------ the host's side */

void virtio_balloon_set(struct device *dev, uint64_t bytes) {
    struct virtio_balloon *b = (struct virtio_balloon *)dev;
    uint64_t pages = bytes >> MEM_PAGE_SHIFT;

    b->target = pages < UINT32_MAX ? (uint32_t)pages : UINT32_MAX;
    virtio_config_changed(&b->virtio);
}

static void ask_stats(struct virtio_balloon *b) {
    if (virtio_pop(&b->virtio, QUEUE_STATS, &b->chain) != 1)
        return;
    virtio_push(&b->virtio, &b->chain, 0);
    virtio_interrupt(&b->virtio, QUEUE_STATS);
    if (virtio_want_kick(&b->virtio, QUEUE_STATS, true))
        virtio_again(&b->virtio, QUEUE_STATS);
}

void virtio_balloon_status(struct device *dev, struct virtio_balloon_status *ret) {
    struct virtio_balloon *b = (struct virtio_balloon *)dev;

    *ret = (struct virtio_balloon_status){
        .driver = virtio_live(&b->virtio),
        .target = (uint64_t)b->target << MEM_PAGE_SHIFT,
        .actual = (uint64_t)b->actual << MEM_PAGE_SHIFT,
        .returned = b->returned,
        .stats = b->stats,
    };
    memcpy(ret->stat, b->stat, sizeof(ret->stat));
    if (virtio_has(&b->virtio, F_STATS_VQ))
        ask_stats(b);
}

static int init(struct device *dev, struct error *err) {
    return virtio_init((struct virtio *)dev, &type, type.features, err);
}

/* The target is the host's, and stays. */
static void reset(struct device *dev) { virtio_reset((struct virtio *)dev); }

static void done(struct device *dev) { virtio_done((struct virtio *)dev); }

static void post_load(void *obj) { virtio_post_load(obj); }

// clang-format off
static const struct state_desc state = {
    .name = "virtio_balloon",
    .version = 1,
    .struct_size = sizeof(struct virtio_balloon),
    .post_load = post_load,
    .fields = (const struct state_field[]){
        STATE_SUB(struct virtio_balloon, virtio, &virtio_state),
        STATE(struct virtio_balloon, target),
        STATE(struct virtio_balloon, actual),
        STATE(struct virtio_balloon, poison),
        STATE_MAX(struct virtio_balloon, stats, (1u << VIRTIO_BALLOON_STATS) - 1),
        STATE_ARRAY(struct virtio_balloon, stat),
        STATE_END,
    },
};
// clang-format on

const struct device_class virtio_balloon_class = {
    .name = "virtio_balloon",
    .help = "virtio memory balloon, with reports of free memory",
    .size = sizeof(struct virtio_balloon),
    .state = &state,
    .init = init,
    .reset = reset,
    .done = done,
    .pci = true,
};
