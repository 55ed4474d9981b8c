/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Display adapter, 2D: resources, one scanout, a cursor, EDID.
 * Source: Virtual I/O Device (VIRTIO) Version 1.2, section 5.7.
 *
 * Theory of operation. A resource is a picture in memory of the device; the driver copies into it
 * from pages of the guest (its backing) and says what is to be shown. That memory is the board's,
 * 128 MiB of which the pages that are used exist, so that a snapshot holds it as it holds RAM; the
 * list of a backing's pages lies there as well. The table of resources says what is where.
 *
 * Nothing is drawn before somebody looks; a flush only notes that there is something to see.
 *
 * Departures: at most 256 resources, 128 MiB in all. No blobs, no 3D, no UUIDs: not offered.
 */
#include "devices/virtio/virtio_gpu.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "base/zero.h"
#include "devices/edid.h"

// clang-format off
enum { QUEUE_CONTROL = 0, QUEUE_CURSOR = 1 };
enum { CONFIG_EVENTS = 0, CONFIG_CLEAR = 4, CONFIG_SCANOUTS = 8, CONFIG_CAPSETS = 12, CONFIG_BYTES = 16, EVENT_DISPLAY = 1 };
enum { F_EDID = 1 << 1 };
enum { /* requests */
    GET_DISPLAY_INFO = 0x100, RESOURCE_CREATE_2D, RESOURCE_UNREF, SET_SCANOUT, RESOURCE_FLUSH, TRANSFER_TO_HOST_2D,
    ATTACH_BACKING, DETACH_BACKING, GET_CAPSET_INFO, GET_CAPSET, GET_EDID, UPDATE_CURSOR = 0x300, MOVE_CURSOR,
};
enum { /* answers */
    OK_NODATA = 0x1100, OK_DISPLAY_INFO, OK_EDID = 0x1104, ERR_UNSPEC = 0x1200, ERR_MEMORY, ERR_SCANOUT, ERR_RESOURCE, ERR_CONTEXT, ERR_PARAMETER,
};
enum { HEADER = 24, FLAG_FENCE = 1, REQUEST_MAX = 96, ANSWER_MAX = HEADER + 1032 + 16, SCANOUTS_MAX = 16 };
enum { RESOURCES = 256, ENTRIES_MAX = 16384, ENTRY = 16, SIDE_MAX = 8192, CURSOR_SIDE = 64 };
enum { /* formats: bytes in memory order */
    B8G8R8A8 = 1, B8G8R8X8 = 2, A8R8G8B8 = 3, X8R8G8B8 = 4, R8G8B8A8 = 67, X8B8G8R8 = 68, A8B8G8R8 = 121, R8G8B8X8 = 134,
};
enum { START_W = 1024, START_H = 768 };
// clang-format on

struct gpu_resource {
    uint32_t id; /* 0: free */
    uint32_t format, width, height;
    uint32_t at, entries_at; /* in the device's memory, in pages */
    uint32_t entries;        /* of the backing */
};

struct virtio_gpu {
    struct virtio virtio; /* first */
    uint8_t *memory;
    bool own_memory;
    struct screen *screen;
    struct gpu_resource resource[RESOURCES];
    uint32_t events, wish_w, wish_h;
    uint32_t scanout; /* the id of its resource, 0: off */
    uint32_t scan_x, scan_y, scan_w, scan_h;
    uint8_t cursor[CURSOR_SIDE * CURSOR_SIDE * 4];
    bool cursor_on;
    uint32_t cursor_x, cursor_y, hot_x, hot_y;
    bool dirty;                /* something was flushed since the last look */
    struct virtio_chain chain; /* scratch */
    uint32_t line[SIDE_MAX];   /* the same */
};

struct request {
    const struct virtio_chain *chain;
    uint8_t bytes[REQUEST_MAX]; /* of its beginning; zeros behind its end */
    size_t len;
    uint8_t answer[ANSWER_MAX];
    size_t answer_len;
};

/* ------------------------------------------------------------------ resources */

static size_t pages(uint64_t bytes) { return (bytes + MEM_PAGE_SIZE - 1) >> MEM_PAGE_SHIFT; }

static size_t picture_pages(const struct gpu_resource *r) {
    return pages((uint64_t)r->width * r->height * 4);
}

static size_t list_pages(const struct gpu_resource *r) {
    return pages((uint64_t)r->entries * ENTRY);
}

static struct gpu_resource *find(struct virtio_gpu *g, uint32_t id) {
    for (unsigned i = 0; id && i < RESOURCES; i++)
        if (g->resource[i].id == id)
            return &g->resource[i];
    return NULL;
}

static bool overlaps(uint32_t at, size_t n, uint32_t other, size_t other_n) {
    return other_n && at < other + other_n && other < at + n;
}

/* The end of what lies in the way of [at, at + n), or at itself. */
static uint32_t behind(const struct virtio_gpu *g, uint32_t at, size_t n) {
    for (unsigned i = 0; i < RESOURCES; i++) {
        const struct gpu_resource *r = &g->resource[i];

        if (!r->id)
            continue;
        if (overlaps(at, n, r->at, picture_pages(r)))
            return r->at + (uint32_t)picture_pages(r);
        if (overlaps(at, n, r->entries_at, list_pages(r)))
            return r->entries_at + (uint32_t)list_pages(r);
    }
    return at;
}

/* The first place for n pages. False: none. */
static bool allocate(const struct virtio_gpu *g, size_t n, uint32_t *ret_at) {
    uint32_t at = 0, next;

    while (at + n <= VIRTIO_GPU_MEMORY >> MEM_PAGE_SHIFT) {
        next = behind(g, at, n);
        if (next == at) {
            *ret_at = at;
            return true;
        }
        at = next;
    }
    return false;
}

static uint8_t *at_page(const struct virtio_gpu *g, uint32_t page) {
    return g->memory + ((size_t)page << MEM_PAGE_SHIFT);
}

static bool is_format(uint32_t f) {
    return (f >= B8G8R8A8 && f <= X8R8G8B8) || f == R8G8B8A8 || f == X8B8G8R8 || f == A8B8G8R8 ||
           f == R8G8B8X8;
}

static uint32_t arg(const struct request *q, unsigned n) {
    return load_le32(q->bytes + HEADER + 4 * (size_t)n);
}

static uint32_t create(struct virtio_gpu *g, struct request *q) {
    struct gpu_resource new = {
        .id = arg(q, 0), .format = arg(q, 1), .width = arg(q, 2), .height = arg(q, 3)};
    struct gpu_resource *free_one = NULL;

    if (!new.id || find(g, new.id))
        return ERR_RESOURCE;
    if (!is_format(new.format) || !new.width || !new.height || new.width > SIDE_MAX ||
        new.height > SIDE_MAX)
        return ERR_PARAMETER;
    for (unsigned i = 0; i < RESOURCES && !free_one; i++)
        if (!g->resource[i].id)
            free_one = &g->resource[i];
    if (!free_one || !allocate(g, picture_pages(&new), &new.at))
        return ERR_MEMORY;
    memset(at_page(g, new.at), 0, picture_pages(&new) << MEM_PAGE_SHIFT);
    *free_one = new;
    return OK_NODATA;
}

static void show(struct virtio_gpu *g);

static uint32_t unref(struct virtio_gpu *g, struct request *q) {
    struct gpu_resource *r = find(g, arg(q, 0));

    if (!r)
        return ERR_RESOURCE;
    if (g->scanout == r->id) {
        g->scanout = 0;
        show(g);
    }
    *r = (struct gpu_resource){0};
    return OK_NODATA;
}

/* The list follows the request. Its addresses are checked when they are used. */
static uint32_t attach(struct virtio_gpu *g, struct request *q) {
    struct gpu_resource *r = find(g, arg(q, 0));
    uint32_t n = arg(q, 1);
    size_t bytes = (size_t)n * ENTRY;

    if (!r)
        return ERR_RESOURCE;
    if (r->entries || !n)
        return ERR_UNSPEC;
    if (n > ENTRIES_MAX || q->chain->out_len < HEADER + 8 + bytes)
        return ERR_PARAMETER;
    if (!allocate(g, pages(bytes), &r->entries_at))
        return ERR_MEMORY;
    iov_read(q->chain->iov, q->chain->out_count, HEADER + 8, at_page(g, r->entries_at), bytes);
    r->entries = n;
    return OK_NODATA;
}

static uint32_t detach(struct virtio_gpu *g, struct request *q) {
    struct gpu_resource *r = find(g, arg(q, 0));

    if (!r)
        return ERR_RESOURCE;
    r->entries = 0;
    return OK_NODATA;
}

/* Where reading of a backing has got to: it goes on from there. */
struct backing {
    const uint8_t *entry;
    uint32_t n, i;
    uint64_t start; /* of entry i in the whole */
};

/* Copies from the backing; what it lacks, or what is no memory, stays as it is. */
static void copy_backing(struct virtio_gpu *g, struct backing *b, uint64_t from, uint8_t *to,
                         size_t n) {
    while (n && b->i < b->n) {
        const uint8_t *e = b->entry + (size_t)b->i * ENTRY;
        uint32_t len = load_le32(e + 8);
        uint64_t inside = from - b->start;
        size_t part;

        if (inside >= len) {
            b->start += len;
            b->i++;
            continue;
        }
        part = len - inside < n ? (size_t)(len - inside) : n;
        mem_read(g->virtio.pci.dev.env.mem, load_le64(e) + inside, to, part);
        from += part;
        to += part;
        n -= part;
    }
}

static bool inside(const struct gpu_resource *r, uint32_t x, uint32_t y, uint32_t w, uint32_t h) {
    return x <= r->width && w <= r->width - x && y <= r->height && h <= r->height - y;
}

static uint32_t transfer(struct virtio_gpu *g, struct request *q) {
    uint32_t x = arg(q, 0), y = arg(q, 1), w = arg(q, 2), h = arg(q, 3);
    uint64_t offset = load_le64(q->bytes + HEADER + 16);
    struct gpu_resource *r = find(g, arg(q, 6));
    struct backing b = {0};

    if (!r)
        return ERR_RESOURCE;
    if (!inside(r, x, y, w, h) || offset > UINT32_MAX)
        return ERR_PARAMETER;
    if (!r->entries)
        return ERR_UNSPEC;
    b.entry = at_page(g, r->entries_at);
    b.n = r->entries;
    for (uint32_t row = 0; row < h; row++)
        copy_backing(g, &b, offset + (uint64_t)row * r->width * 4,
                     at_page(g, r->at) + ((size_t)(y + row) * r->width + x) * 4, (size_t)w * 4);
    return OK_NODATA;
}

/* ------------------------------------------------------------------ what is shown */

static uint32_t colour(uint32_t format, uint32_t v) {
    switch (format) {
    case A8R8G8B8:
    case X8R8G8B8:
        return __builtin_bswap32(v);
    case R8G8B8A8:
    case R8G8B8X8:
        return (v & 0xff00ff00) | (v >> 16 & 0xff) | (v & 0xff) << 16;
    case X8B8G8R8:
    case A8B8G8R8: /* bytes A B G R */
        return (v >> 24) | (v >> 8 & 0xff00) | (v << 8 & 0xff0000);
    default:
        return v;
    }
}

static unsigned mix(unsigned under, unsigned over, unsigned alpha) {
    return (over * alpha + under * (255 - alpha)) / 255;
}

static void blend_cursor(const struct virtio_gpu *g, uint32_t *line, uint32_t y) {
    int64_t left = (int64_t)g->cursor_x - g->hot_x, row = (int64_t)y - g->cursor_y + g->hot_y;

    if (!g->cursor_on || row < 0 || row >= CURSOR_SIDE)
        return;
    for (unsigned i = 0; i < CURSOR_SIDE; i++) {
        uint32_t c = load_le32(g->cursor + ((size_t)row * CURSOR_SIDE + i) * 4), mixed = 0;

        if (left + i < 0 || left + i >= g->scan_w || !(c >> 24))
            continue;
        for (int shift = 16; shift >= 0; shift -= 8)
            mixed |= mix(line[left + i] >> shift & 0xff, c >> shift & 0xff, c >> 24) << shift;
        line[left + i] = mixed;
    }
}

static void draw(void *opaque, struct screen *s, bool all) {
    struct virtio_gpu *g = opaque;
    struct gpu_resource *r = find(g, g->scanout);

    if (!all && !g->dirty)
        return;
    g->dirty = false;
    if (!r || !screen_resize(s, g->scan_w, g->scan_h)) {
        screen_fill(s, 0);
        return;
    }
    for (uint32_t y = 0; y < g->scan_h; y++) {
        const uint8_t *p = at_page(g, r->at) + ((size_t)(g->scan_y + y) * r->width + g->scan_x) * 4;

        for (uint32_t x = 0; x < g->scan_w; x++)
            g->line[x] = colour(r->format, load_le32(p + 4 * (size_t)x));
        blend_cursor(g, g->line, y);
        screen_put(s, 0, y, g->line, g->scan_w);
    }
}

static void wish(void *opaque, unsigned width, unsigned height) {
    struct virtio_gpu *g = opaque;

    if (width == g->wish_w && height == g->wish_h)
        return;
    g->wish_w = width;
    g->wish_h = height;
    g->events |= EVENT_DISPLAY;
    virtio_config_changed(&g->virtio);
}

/* The adapter is on the screen while it has something to show. */
static void show(struct virtio_gpu *g) {
    const struct screen_source source = {draw, wish, g};

    g->dirty = true;
    if (g->screen)
        screen_set_source(g->screen, 1, g->scanout ? &source : NULL);
}

static uint32_t set_scanout(struct virtio_gpu *g, struct request *q) {
    uint32_t x = arg(q, 0), y = arg(q, 1), w = arg(q, 2), h = arg(q, 3), id = arg(q, 5);
    const struct gpu_resource *r = find(g, id);

    if (arg(q, 4) != 0)
        return ERR_SCANOUT;
    if (!id) {
        g->scanout = 0;
        show(g);
        return OK_NODATA;
    }
    if (!r)
        return ERR_RESOURCE;
    if (!inside(r, x, y, w, h) || !w || !h)
        return ERR_PARAMETER;
    g->scanout = id;
    g->scan_x = x;
    g->scan_y = y;
    g->scan_w = w;
    g->scan_h = h;
    show(g);
    return OK_NODATA;
}

static uint32_t flush(struct virtio_gpu *g, struct request *q) {
    const struct gpu_resource *r = find(g, arg(q, 4));

    if (!r)
        return ERR_RESOURCE;
    if (!inside(r, arg(q, 0), arg(q, 1), arg(q, 2), arg(q, 3)))
        return ERR_PARAMETER;
    if (r->id == g->scanout)
        g->dirty = true;
    return OK_NODATA;
}

static uint32_t cursor(struct virtio_gpu *g, struct request *q, bool update) {
    uint32_t id = arg(q, 4);
    const struct gpu_resource *r = find(g, id);

    if (arg(q, 0) != 0)
        return ERR_SCANOUT;
    g->cursor_x = arg(q, 1);
    g->cursor_y = arg(q, 2);
    g->dirty = true;
    if (!update)
        return OK_NODATA;
    g->cursor_on = r && r->width == CURSOR_SIDE && r->height == CURSOR_SIDE;
    g->hot_x = arg(q, 5);
    g->hot_y = arg(q, 6);
    for (size_t i = 0; g->cursor_on && i < CURSOR_SIDE * CURSOR_SIDE; i++)
        store_le32(g->cursor + 4 * i, colour(r->format, load_le32(at_page(g, r->at) + 4 * i)) |
                                          (r->format == B8G8R8X8 ? 0xff000000 : 0));
    return OK_NODATA;
}

/* ------------------------------------------------------------------ requests */

static uint32_t display_info(struct virtio_gpu *g, struct request *q) {
    uint8_t *mode = q->answer + HEADER;

    store_le32(mode + 8, g->wish_w);
    store_le32(mode + 12, g->wish_h);
    store_le32(mode + 16, 1); /* enabled */
    q->answer_len = HEADER + SCANOUTS_MAX * 24;
    return OK_DISPLAY_INFO;
}

static uint32_t edid(struct virtio_gpu *g, struct request *q) {
    if (arg(q, 0) != 0)
        return ERR_SCANOUT;
    store_le32(q->answer + HEADER, EDID_SIZE);
    edid_make(q->answer + HEADER + 8, 1024, g->wish_w, g->wish_h);
    q->answer_len = HEADER + 8 + 1024;
    return OK_EDID;
}

static uint32_t execute(struct virtio_gpu *g, struct request *q) {
    switch (load_le32(q->bytes)) {
    case GET_DISPLAY_INFO:
        return display_info(g, q);
    case RESOURCE_CREATE_2D:
        return create(g, q);
    case RESOURCE_UNREF:
        return unref(g, q);
    case SET_SCANOUT:
        return set_scanout(g, q);
    case RESOURCE_FLUSH:
        return flush(g, q);
    case TRANSFER_TO_HOST_2D:
        return transfer(g, q);
    case ATTACH_BACKING:
        return attach(g, q);
    case DETACH_BACKING:
        return detach(g, q);
    case GET_EDID:
        return virtio_has(&g->virtio, F_EDID) ? edid(g, q) : ERR_UNSPEC;
    case UPDATE_CURSOR:
    case MOVE_CURSOR:
        return cursor(g, q, load_le32(q->bytes) == UPDATE_CURSOR);
    default:
        return ERR_UNSPEC;
    }
}

static void serve(struct virtio_gpu *g, struct virtio_chain *c) {
    struct request q = {.chain = c, .answer_len = HEADER};
    uint32_t code;

    q.len = iov_read(c->iov, c->out_count, 0, q.bytes, sizeof(q.bytes));
    code = q.len < HEADER ? ERR_UNSPEC : execute(g, &q);
    trace(virtio_gpu_request, load_le32(q.bytes), code);
    store_le32(q.answer, code);
    if (load_le32(q.bytes + 4) & FLAG_FENCE) { /* fence and context go back with it (5.7.6.7) */
        store_le32(q.answer + 4, FLAG_FENCE);
        memcpy(q.answer + 8, q.bytes + 8, 16);
    }
    virtio_push(&g->virtio, c,
                (uint32_t)iov_write(c->iov + c->out_count, c->in_count, 0, q.answer, q.answer_len));
}

static void notify(struct virtio *v, unsigned queue) {
    struct virtio_gpu *g = (struct virtio_gpu *)v;

    while (virtio_pop(v, queue, &g->chain) > 0)
        serve(g, &g->chain);
    virtio_interrupt(v, queue);
}

static void config_read(struct virtio *v, unsigned offset, void *buf, unsigned len) {
    uint8_t bytes[CONFIG_BYTES] = {0};

    store_le32(bytes + CONFIG_EVENTS, ((struct virtio_gpu *)v)->events);
    store_le32(bytes + CONFIG_SCANOUTS, 1);
    memcpy(buf, bytes + offset, len);
}

static void config_write(struct virtio *v, unsigned offset, const void *buf, unsigned len) {
    if (offset == CONFIG_CLEAR && len == 4)
        ((struct virtio_gpu *)v)->events &= ~load_le32(buf);
}

/* ------------------------------------------------------------------ life */

static void forget(struct virtio_gpu *g) {
    memset(g->resource, 0, sizeof(g->resource));
    memset(g->cursor, 0, sizeof(g->cursor));
    g->events = 0;
    g->scanout = g->scan_x = g->scan_y = g->scan_w = g->scan_h = 0;
    g->cursor_on = false;
    g->cursor_x = g->cursor_y = g->hot_x = g->hot_y = 0;
    show(g);
}

static void status(struct virtio *v, uint8_t old, uint8_t now) {
    if (!now)
        forget((struct virtio_gpu *)v);
}

static const struct virtio_type type = {
    .id = VIRTIO_ID_GPU,
    .features = F_EDID,
    .queues = 2,
    .queue_size = 256,
    .config_size = CONFIG_BYTES,
    .pci_class = 0x03800000, /* other display controller */
    .notify = notify,
    .status = status,
    .config_read = config_read,
    .config_write = config_write,
};

static int init(struct device *dev, struct error *err) {
    struct virtio_gpu *g = (struct virtio_gpu *)dev;
    const struct virtio_gpu_config *config = dev->env.config;

    if (config) {
        g->memory = config->memory;
        g->screen = config->screen;
    }
    if (!g->memory) {
        g->memory = zero_alloc(VIRTIO_GPU_MEMORY);
        g->own_memory = true;
    }
    if (!g->memory)
        return error_set(err, -ENOMEM, "device '%s': out of memory", dev->name);
    return virtio_init(&g->virtio, &type, F_EDID, err);
}

static void reset(struct device *dev) {
    struct virtio_gpu *g = (struct virtio_gpu *)dev;

    g->wish_w = START_W;
    g->wish_h = START_H;
    virtio_reset(&g->virtio);
}

static void done(struct device *dev) {
    struct virtio_gpu *g = (struct virtio_gpu *)dev;

    virtio_done(&g->virtio);
    if (g->screen)
        screen_set_source(g->screen, 1, NULL);
    if (g->own_memory)
        zero_free(g->memory, VIRTIO_GPU_MEMORY);
}

static int validate(const void *obj, struct error *err) {
    const struct virtio_gpu *g = obj;
    size_t all = VIRTIO_GPU_MEMORY >> MEM_PAGE_SHIFT;

    for (unsigned i = 0; i < RESOURCES; i++) {
        const struct gpu_resource *r = &g->resource[i];

        if (r->id && (r->at + picture_pages(r) > all || r->entries_at + list_pages(r) > all))
            return error_set(err, -EINVAL,
                             "device '%s': the saved picture %u lies outside of its memory",
                             g->virtio.pci.dev.name, r->id);
        if (r->id && r->id == g->scanout &&
            (!inside(r, g->scan_x, g->scan_y, g->scan_w, g->scan_h)))
            return error_set(err, -EINVAL, "device '%s': more is shown than the picture has",
                             g->virtio.pci.dev.name);
    }
    return 0;
}

static void post_load(void *obj) {
    struct virtio_gpu *g = obj;

    show(g);
    virtio_post_load(&g->virtio);
}

// clang-format off
static const struct state_desc resource_state = {
    .name = "gpu_resource",
    .version = 1,
    .struct_size = sizeof(struct gpu_resource),
    .fields = (const struct state_field[]){
        STATE(struct gpu_resource, id),
        STATE(struct gpu_resource, format),
        STATE_MAX(struct gpu_resource, width, SIDE_MAX),
        STATE_MAX(struct gpu_resource, height, SIDE_MAX),
        STATE_MAX(struct gpu_resource, at, VIRTIO_GPU_MEMORY >> MEM_PAGE_SHIFT),
        STATE_MAX(struct gpu_resource, entries_at, VIRTIO_GPU_MEMORY >> MEM_PAGE_SHIFT),
        STATE_MAX(struct gpu_resource, entries, ENTRIES_MAX),
        STATE_END,
    },
};

static const struct state_desc state = {
    .name = "virtio_gpu",
    .version = 1,
    .struct_size = sizeof(struct virtio_gpu),
    .validate = validate,
    .post_load = post_load,
    .fields = (const struct state_field[]){
        STATE_SUB(struct virtio_gpu, virtio, &virtio_state),
        STATE_SUB_ARRAY(struct virtio_gpu, resource, &resource_state),
        STATE(struct virtio_gpu, events),
        STATE_MAX(struct virtio_gpu, wish_w, SIDE_MAX),
        STATE_MAX(struct virtio_gpu, wish_h, SIDE_MAX),
        STATE(struct virtio_gpu, scanout),
        STATE_MAX(struct virtio_gpu, scan_x, SIDE_MAX),
        STATE_MAX(struct virtio_gpu, scan_y, SIDE_MAX),
        STATE_MAX(struct virtio_gpu, scan_w, SIDE_MAX),
        STATE_MAX(struct virtio_gpu, scan_h, SIDE_MAX),
        STATE_BYTES(struct virtio_gpu, cursor),
        STATE(struct virtio_gpu, cursor_on),
        STATE(struct virtio_gpu, cursor_x),
        STATE(struct virtio_gpu, cursor_y),
        STATE(struct virtio_gpu, hot_x),
        STATE(struct virtio_gpu, hot_y),
        STATE_END,
    },
};
// clang-format on

const struct device_class virtio_gpu_class = {
    .name = "virtio_gpu",
    .help = "virtio display adapter, 2D",
    .size = sizeof(struct virtio_gpu),
    .state = &state,
    .init = init,
    .reset = reset,
    .done = done,
    .pci = true,
};
