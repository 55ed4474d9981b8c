/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NOR flash memory with the Intel command set. Source: Intel StrataFlash P30 datasheet (commands,
 * status register); JEDEC JESD68.01 (CFI query structure).
 *
 * A write is a command, or what the command before it waits for. Reads give the array, the status
 * register, or the identification, by the last command. Programming clears bits; only the erasure
 * of a block sets them.
 *
 * Departures: operations take no time; blocks cannot be locked (the commands are taken); an access
 * of several bytes programs all of them. "Clear status" clears the ready bit as well, until the
 * next operation: by that OVMF recognizes flash memory of a virtual machine, and uses no other.
 */
#include "devices/pflash.h"

#include <errno.h>

#include "base/trace.h"

enum { /* commands */
       CMD_PROGRAM_ALT = 0x10,
       CMD_ERASE = 0x20,
       CMD_PROGRAM = 0x40,
       CMD_CLEAR_STATUS = 0x50,
       CMD_LOCK = 0x60,
       CMD_READ_STATUS = 0x70,
       CMD_READ_ID = 0x90,
       CMD_CFI_QUERY = 0x98,
       CMD_CONFIRM = 0xd0,
       CMD_BUFFER = 0xe8,
       CMD_READ_ARRAY = 0xff,
};
enum { STATUS_READY = 0x80, STATUS_ERASE_ERROR = 0x20, STATUS_PROGRAM_ERROR = 0x10 };
enum mode { MODE_ARRAY, MODE_STATUS, MODE_ID, MODE_CFI, MODES };
enum {
    DEFAULT_SIZE = 64 << 10,
    BUFFER_MAX = 32,
    BUFFER_SHIFT = 5,
    CFI_SIZE = 0x31,
    MANUFACTURER = 0x89,
    CHIP = 0x18
};

struct pflash {
    struct device dev;
    uint32_t size;
    gpa cells;
    void (*changed)(void *opaque, uint32_t offset, const uint8_t *p, uint32_t n);
    void *opaque;
    const bool *unlocked; /* NULL: always */
    uint8_t mode;
    uint8_t pending; /* the command that waits for more, 0: none */
    uint8_t status;  /* as it is read */
    uint8_t
        count; /* of a buffered write: bytes to come; 0: the count itself, or the confirmation */
    bool confirm;
    uint8_t buffered; /* bytes that came */
    uint32_t buffer_at[BUFFER_MAX];
    uint8_t buffer[BUFFER_MAX];
};

static void store(struct pflash *f, uint32_t offset, const uint8_t *p, uint32_t n) {
    if (mem_load(f->dev.env.mem, f->cells + offset, p, n) == 0 && f->changed)
        f->changed(f->opaque, offset, p, n);
}

void pflash_tell_all(struct device *dev) {
    struct pflash *f = (struct pflash *)dev;
    const uint8_t *p = mem_ptr(dev->env.mem, f->cells, f->size, false);

    if (p && f->changed)
        f->changed(f->opaque, 0, p, f->size);
}

/* ---- reading ---- */

/* The query structure: "QRY", Intel's command set, voltages, size, one region of equal blocks. */
static uint8_t cfi(const struct pflash *f, uint32_t at) {
    static const uint8_t head[] = {'Q',  'R', 'Y', 1, 0, 0x31, 0, 0, 0, 0, 0, 0x45,
                                   0x55, 0,   0,   7, 7, 10,   0, 4, 4, 4, 0};
    uint32_t blocks = f->size / PFLASH_BLOCK - 1;
    unsigned bits = 0;

    while ((1u << bits) < f->size)
        bits++;
    if (at >= 0x10 && at < 0x10 + sizeof(head))
        return head[at - 0x10];
    switch (at) {
    case 0x27:
        return (uint8_t)bits;
    case 0x2a:
        return BUFFER_SHIFT;
    case 0x2c:
        return 1;
    case 0x2d:
        return (uint8_t)blocks;
    case 0x2e:
        return (uint8_t)(blocks >> 8);
    case 0x2f:
        return (uint8_t)(PFLASH_BLOCK / 256);
    case 0x30:
        return PFLASH_BLOCK / 256 >> 8;
    default:
        return 0;
    }
}

static bool is_unlocked(const struct pflash *f) { return !f->unlocked || *f->unlocked; }

static uint8_t byte_at(const struct pflash *f, uint32_t at) {
    uint8_t cell = 0xff;

    switch (is_unlocked(f) ? f->mode : MODE_ARRAY) {
    case MODE_STATUS:
        return f->status;
    case MODE_ID:
        return (at & 0xff) == 0 ? MANUFACTURER : (at & 0xff) == 1 ? CHIP : 0;
    case MODE_CFI:
        return cfi(f, at & 0xff);
    default:
        mem_read(f->dev.env.mem, f->cells + at, &cell, 1);
        return cell;
    }
}

static uint64_t flash_read(void *dev, uint64_t offset, unsigned size) {
    struct pflash *f = dev;
    uint64_t v = 0;

    for (unsigned i = 0; i < size; i++)
        v |= (uint64_t)byte_at(f, (uint32_t)offset + i) << (8 * i);
    return v;
}

/* ---- writing ---- */

static void program(struct pflash *f, uint32_t at, unsigned size, uint64_t value) {
    uint8_t cell[8] = {0};

    mem_read(f->dev.env.mem, f->cells + at, cell, size);
    for (unsigned i = 0; i < size; i++)
        cell[i] &= (uint8_t)(value >> (8 * i));
    f->status |= STATUS_READY;
    store(f, at, cell, size);
}

static void erase(struct pflash *f, uint32_t at) {
    static uint8_t erased[PFLASH_BLOCK];

    memset(erased, 0xff, sizeof(erased));
    f->status |= STATUS_READY;
    store(f, at & ~(uint32_t)(PFLASH_BLOCK - 1), erased, PFLASH_BLOCK);
}

static void failed(struct pflash *f, uint8_t error) {
    f->status |= STATUS_READY | error;
    f->pending = 0;
}

/* Count minus one, that many bytes at any places, and a confirmation. */
static void buffered_write(struct pflash *f, uint32_t at, unsigned size, uint64_t value) {
    if (f->confirm) {
        if ((value & 0xff) != CMD_CONFIRM) {
            failed(f, STATUS_PROGRAM_ERROR | STATUS_ERASE_ERROR);
            return;
        }
        for (unsigned i = 0; i < f->buffered; i++)
            program(f, f->buffer_at[i], 1, f->buffer[i]);
        f->pending = 0;
    } else if (!f->count) {
        if ((value & 0xff) >= BUFFER_MAX) {
            failed(f, STATUS_PROGRAM_ERROR);
            return;
        }
        f->count = (uint8_t)(value + 1);
        f->buffered = 0;
    } else {
        for (unsigned i = 0; i < size && f->count; i++, f->count--) {
            f->buffer_at[f->buffered] = at + i;
            f->buffer[f->buffered++] = (uint8_t)(value >> (8 * i));
        }
        f->confirm = !f->count;
    }
}

static void command(struct pflash *f, uint8_t cmd) {
    f->pending = 0;
    f->mode = MODE_STATUS;
    switch (cmd) {
    case CMD_PROGRAM:
    case CMD_PROGRAM_ALT:
    case CMD_ERASE:
    case CMD_LOCK:
    case CMD_BUFFER:
        f->pending = cmd;
        f->count = 0;
        f->confirm = false;
        break;
    case CMD_READ_STATUS:
        break;
    case CMD_CLEAR_STATUS:
        f->status = 0;
        f->mode = MODE_ARRAY;
        break;
    case CMD_READ_ID:
        f->mode = MODE_ID;
        break;
    case CMD_CFI_QUERY:
        f->mode = MODE_CFI;
        break;
    default:
        f->mode = MODE_ARRAY;
        break;
    }
}

static void flash_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct pflash *f = dev;
    uint32_t at = (uint32_t)offset;

    trace(pflash_write, at, size, value, f->pending);
    if (!is_unlocked(f))
        return;
    switch (f->pending) {
    case CMD_PROGRAM:
    case CMD_PROGRAM_ALT:
        program(f, at, size, value);
        f->pending = 0;
        break;
    case CMD_ERASE:
        if ((value & 0xff) == CMD_CONFIRM)
            erase(f, at);
        else
            f->status |= STATUS_READY | STATUS_ERASE_ERROR | STATUS_PROGRAM_ERROR;
        f->pending = 0;
        break;
    case CMD_LOCK:
        f->pending = 0;
        break;
    case CMD_BUFFER:
        buffered_write(f, at, size, value);
        break;
    default:
        command(f, (uint8_t)value);
        break;
    }
}

/* ---- the device ---- */

static int pflash_init(struct device *dev, struct error *err) {
    struct pflash *f = (struct pflash *)dev;
    const struct pflash_config *c = dev->env.config;

    f->size = c ? c->size : DEFAULT_SIZE;
    if (!f->size || f->size > PFLASH_MAX_SIZE || f->size % PFLASH_BLOCK)
        return error_set(err, -EINVAL,
                         "device '%s': flash memory has a multiple of 4096 bytes, at most 1 MiB, "
                         "not %u",
                         dev->name, f->size);
    dev->region[0].size = f->size;
    if (c) {
        f->cells = c->cells;
        f->changed = c->changed;
        f->opaque = c->opaque;
        f->unlocked = c->unlocked;
    }
    return 0;
}

static void pflash_reset(struct device *dev) {
    struct pflash *f = (struct pflash *)dev;

    f->mode = MODE_ARRAY;
    f->status = STATUS_READY;
    f->pending = f->count = f->buffered = 0;
    f->confirm = false;
    memset(f->buffer, 0, sizeof(f->buffer));
    memset(f->buffer_at, 0, sizeof(f->buffer_at));
}

static int validate(const void *obj, struct error *err) {
    const struct pflash *f = obj;

    for (unsigned i = 0; i < BUFFER_MAX; i++)
        if (f->buffer_at[i] >= f->size)
            return error_set(err, -EINVAL, "device '%s': the saved state has a place outside",
                             f->dev.name);
    if (f->count + f->buffered > BUFFER_MAX)
        return error_set(err, -EINVAL, "device '%s': the saved state has too long a buffer",
                         f->dev.name);
    return 0;
}

static const struct state_desc pflash_state = {
    .name = "pflash",
    .version = 1,
    .struct_size = sizeof(struct pflash),
    .validate = validate,
    .fields =
        (const struct state_field[]){
            STATE_MAX(struct pflash, mode, MODES - 1), STATE(struct pflash, pending),
            STATE(struct pflash, status), STATE(struct pflash, count),
            STATE(struct pflash, confirm), STATE(struct pflash, buffered),
            STATE_ARRAY(struct pflash, buffer_at), STATE_BYTES(struct pflash, buffer), STATE_END},
};

static const struct io_ops flash_ops = {flash_read, flash_write, 1, 8};
static const struct device_region pflash_regions[] = {
    {"pflash", DEVICE_MMIO, DEFAULT_SIZE, &flash_ops}, {0}};

const struct device_class pflash_class = {
    .name = "pflash",
    .help = "flash memory for the variables of UEFI firmware",
    .size = sizeof(struct pflash),
    .state = &pflash_state,
    .regions = pflash_regions,
    .init = pflash_init,
    .reset = pflash_reset,
};
