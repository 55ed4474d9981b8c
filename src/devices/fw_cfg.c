/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Firmware configuration. Source: QEMU docs/specs/fw_cfg.
 *
 * A DMA request is a structure in guest memory, all big-endian: control word (31:16 item if bit 3
 * selects one; 0 error, 1 read, 2 skip, 4 write), length, address. It is done when the low half of
 * its address is written, and the control word then holds 0, or the error bit. Reads past the end
 * of an item give zeros. A request that begins outside of RAM is dropped: there is no place for
 * the error.
 *
 * Departure: a write past the end of a writable file, or to another, is an error; the guest's
 * memory is not touched then.
 */
#include "devices/fw_cfg.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/trace.h"

enum {
    CONTROL_ERROR = 1,
    CONTROL_READ = 2,
    CONTROL_SKIP = 4,
    CONTROL_SELECT = 8,
    CONTROL_WRITE = 16
};
enum { ITEMS = 64, ID_TRADITIONAL = 1, ID_DMA = 2, DIR_ENTRY = 64, REQUEST_SIZE = 16 };

struct item {
    unsigned key;
    char name[FW_CFG_NAME_MAX + 1]; /* empty: not in the directory */
    uint8_t *data;                  /* NULL: shared.data */
    uint32_t size;
    struct fw_cfg_shared shared;
};

struct fw_cfg {
    struct device dev;
    uint16_t selected;
    uint32_t offset;
    uint32_t dma_high;
    uint8_t answer[FW_CFG_ANSWER_SIZE];
    struct item item[ITEMS];
    unsigned items, files;
};

/* ---- items ---- */

static struct item *find_key(struct fw_cfg *f, unsigned key) {
    for (unsigned i = 0; i < f->items; i++)
        if (f->item[i].key == key)
            return &f->item[i];
    return NULL;
}

static struct item *find_name(struct fw_cfg *f, const char *name) {
    for (unsigned i = 0; i < f->items; i++)
        if (*f->item[i].name && !strcmp(f->item[i].name, name))
            return &f->item[i];
    return NULL;
}

static int fill(struct item *it, const void *data, size_t size, struct error *err) {
    uint8_t *copy = malloc(size ? size : 1);

    if (!copy || size > UINT32_MAX) {
        free(copy);
        return error_set(err, -ENOMEM, "firmware configuration: out of memory");
    }
    memcpy(copy, data, size);
    free(it->data);
    it->data = copy;
    it->size = (uint32_t)size;
    return 0;
}

static struct item *new_item(struct fw_cfg *f, unsigned key, struct error *err) {
    if (f->items == ITEMS) {
        error_set(err, -ENOSPC, "firmware configuration: more than %d items", ITEMS);
        return NULL;
    }
    f->item[f->items] = (struct item){.key = key};
    return &f->item[f->items++];
}

int fw_cfg_set(struct device *dev, unsigned key, const void *data, size_t size, struct error *err) {
    struct fw_cfg *f = (struct fw_cfg *)dev;
    struct item *it = find_key(f, key);

    if (!it)
        it = new_item(f, key, err);
    return it ? fill(it, data, size, err) : -ENOSPC;
}

int fw_cfg_set_number(struct device *dev, unsigned key, unsigned bytes, uint64_t value,
                      struct error *err) {
    uint8_t le[8];

    store_le64(le, value);
    return fw_cfg_set(dev, key, le, bytes, err);
}

/* The directory has its entries in the order of names, as SeaBIOS expects of tables. */
static int update_directory(struct fw_cfg *f, struct error *err) {
    uint8_t dir[4 + DIR_ENTRY * FW_CFG_FILES] = {0};
    const struct item *sorted[FW_CFG_FILES];
    unsigned n = 0;

    for (unsigned i = 0; i < f->items; i++) {
        unsigned at = n;

        if (!*f->item[i].name)
            continue;
        for (; at && strcmp(sorted[at - 1]->name, f->item[i].name) > 0; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = &f->item[i];
        n++;
    }
    store_be32(dir, n);
    for (unsigned i = 0; i < n; i++) {
        uint8_t *e = dir + 4 + (size_t)DIR_ENTRY * i;

        store_be32(e, sorted[i]->size);
        store_be16(e + 4, (uint16_t)sorted[i]->key);
        memcpy(e + 8, sorted[i]->name, strlen(sorted[i]->name));
    }
    return fw_cfg_set(&f->dev, FW_CFG_FILE_DIR, dir, 4 + (size_t)DIR_ENTRY * n, err);
}

static struct item *file(struct fw_cfg *f, const char *name, struct error *err) {
    struct item *it = find_name(f, name);

    if (it)
        return it;
    if (strlen(name) > FW_CFG_NAME_MAX || f->files == FW_CFG_FILES) {
        error_set(err, -ENOSPC, "firmware configuration: no room for the file '%s'", name);
        return NULL;
    }
    it = new_item(f, FW_CFG_FILE_FIRST + f->files, err);
    if (!it)
        return NULL;
    f->files++;
    memcpy(it->name, name, strlen(name) + 1);
    return it;
}

int fw_cfg_set_file(struct device *dev, const char *name, const void *data, size_t size,
                    struct error *err) {
    struct fw_cfg *f = (struct fw_cfg *)dev;
    struct item *it = file(f, name, err);
    int r = it ? fill(it, data, size, err) : -ENOSPC;

    return r < 0 ? r : update_directory(f, err);
}

int fw_cfg_share_file(struct device *dev, const char *name, const struct fw_cfg_shared *shared,
                      struct error *err) {
    struct fw_cfg *f = (struct fw_cfg *)dev;
    struct item *it = file(f, name, err);

    if (!it)
        return -ENOSPC;
    it->shared = *shared;
    it->size = shared->size;
    return update_directory(f, err);
}

static int set_answer(struct fw_cfg *f, const char *name, struct error *err) {
    struct fw_cfg_shared answer = {f->answer, FW_CFG_ANSWER_SIZE, true, NULL, NULL};

    return fw_cfg_share_file(&f->dev, name, &answer, err);
}

const uint8_t *fw_cfg_answer(const struct device *dev) {
    return ((const struct fw_cfg *)dev)->answer;
}

/* ---- the guest's side ---- */

static void choose(struct fw_cfg *f, uint16_t key) {
    const struct item *it = find_key(f, key);

    trace(fw_cfg_select, key);
    f->selected = key;
    f->offset = 0;
    if (it && it->shared.chosen)
        it->shared.chosen(it->shared.opaque);
}

/* What is left of the selected item at the offset; NULL: nothing. */
static uint8_t *rest(struct fw_cfg *f, uint32_t *ret_left) {
    struct item *it = find_key(f, f->selected);

    if (!it || f->offset >= it->size)
        return NULL;
    *ret_left = it->size - f->offset;
    return (it->data ? it->data : it->shared.data) + f->offset;
}

static void advance(struct fw_cfg *f, uint32_t n) {
    f->offset = f->offset + n < f->offset ? UINT32_MAX : f->offset + n;
}

static uint64_t port_read(void *dev, uint64_t offset, unsigned size) {
    struct fw_cfg *f = dev;
    uint32_t left;
    const uint8_t *p;

    if (size != 1 || offset != 1)
        return ~0ull;
    p = rest(f, &left);
    advance(f, 1);
    return p ? *p : 0;
}

static void port_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    if (offset == 0 && size == 2)
        choose(dev, (uint16_t)value);
}

/* Into guest memory: the item, then zeros. */
static int dma_read(struct fw_cfg *f, gpa to, uint32_t n) {
    static const uint8_t zeros[4096];

    while (n) {
        uint32_t left, part;
        const uint8_t *p = rest(f, &left);

        part = p ? left : sizeof(zeros);
        part = part < n ? part : n;
        if (mem_write(f->dev.env.mem, to, p ? p : zeros, part) < 0)
            return -EFAULT;
        advance(f, part);
        to += part;
        n -= part;
    }
    return 0;
}

static int dma_write(struct fw_cfg *f, gpa from, uint32_t n) {
    struct item *it = find_key(f, f->selected);
    uint32_t left;
    uint8_t *p = rest(f, &left);

    if (!p || !it->shared.writable || n > left || mem_read(f->dev.env.mem, from, p, n) < 0)
        return -EFAULT;
    advance(f, n);
    return 0;
}

static void dma(struct fw_cfg *f, gpa at) {
    uint8_t request[REQUEST_SIZE];
    uint32_t control, length;
    gpa address;
    int r = 0;

    if (mem_read(f->dev.env.mem, at, request, sizeof(request)) < 0)
        return;
    control = load_be32(request);
    length = load_be32(request + 4);
    address = load_be64(request + 8);
    if (control & CONTROL_SELECT)
        choose(f, (uint16_t)(control >> 16));
    trace(fw_cfg_dma, f->selected, control & 0xffff, length, address);
    if (control & CONTROL_READ)
        r = dma_read(f, address, length);
    else if (control & CONTROL_WRITE)
        r = dma_write(f, address, length);
    else if (control & CONTROL_SKIP)
        advance(f, length);
    store_be32(request, r < 0 ? CONTROL_ERROR : 0);
    mem_write(f->dev.env.mem, at, request, 4);
}

static uint64_t dma_port_read(void *dev, uint64_t offset, unsigned size) {
    static const char signature[] = "QEMU CFG"; /* big-endian, as the whole register */
    uint64_t v = 0;

    for (unsigned i = 0; i < size && offset + i < 8; i++)
        v |= (uint64_t)(uint8_t)signature[offset + i] << (8 * i);
    return v;
}

static void dma_port_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct fw_cfg *f = dev;
    uint64_t at;

    if (size == 4 && offset == 0) {
        f->dma_high = be32toh((uint32_t)value);
    } else if (size == 4 && offset == 4) {
        at = (uint64_t)f->dma_high << 32 | be32toh((uint32_t)value);
        f->dma_high = 0;
        dma(f, at);
    } else if (size == 8 && offset == 0) {
        f->dma_high = 0;
        dma(f, be64toh(value));
    }
}

/* ---- the device ---- */

static int fw_cfg_init(struct device *dev, struct error *err) {
    const struct fw_cfg_config *config = dev->env.config;
    int r = fw_cfg_set(dev, FW_CFG_SIGNATURE, "QEMU", 4, err);

    if (r == 0)
        r = fw_cfg_set_number(dev, FW_CFG_ID, 4, ID_TRADITIONAL | ID_DMA, err);
    if (r == 0)
        r = update_directory((struct fw_cfg *)dev, err);
    return r == 0 && config ? set_answer((struct fw_cfg *)dev, config->answer, err) : r;
}

static void fw_cfg_reset(struct device *dev) {
    struct fw_cfg *f = (struct fw_cfg *)dev;

    choose(f, FW_CFG_SIGNATURE);
    f->dma_high = 0;
    memset(f->answer, 0, sizeof(f->answer));
}

static void fw_cfg_done(struct device *dev) {
    struct fw_cfg *f = (struct fw_cfg *)dev;

    for (unsigned i = 0; i < f->items; i++)
        free(f->item[i].data);
}

static const struct state_desc fw_cfg_state = {
    .name = "fw_cfg",
    .version = 1,
    .struct_size = sizeof(struct fw_cfg),
    .fields =
        (const struct state_field[]){STATE(struct fw_cfg, selected), STATE(struct fw_cfg, offset),
                                     STATE(struct fw_cfg, dma_high),
                                     STATE_BYTES(struct fw_cfg, answer), STATE_END},
};

static const struct io_ops port_ops = {port_read, port_write, 1, 2};
static const struct io_ops dma_ops = {dma_port_read, dma_port_write, 1, 8};

static const struct device_region fw_cfg_regions[] = {
    {"fw-cfg", DEVICE_PIO, 2, &port_ops}, {"fw-cfg-dma", DEVICE_PIO, 8, &dma_ops}, {0}};

const struct device_class fw_cfg_class = {
    .name = "fw_cfg",
    .help = "firmware configuration (ports 0x510 and 0x514)",
    .size = sizeof(struct fw_cfg),
    .state = &fw_cfg_state,
    .regions = fw_cfg_regions,
    .init = fw_cfg_init,
    .reset = fw_cfg_reset,
    .done = fw_cfg_done,
};
