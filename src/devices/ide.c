/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IDE adapter: registers of the two channels, programmed and bus master transfers.
 * Source: 82371SB (PIIX3) datasheet, 2.3; Programming Interface for Bus Master IDE 1.0;
 * ATA/ATAPI-6.
 *
 *   command block  0 data  1 error, feature  2 count  3-5 address  6 device  7 status, command
 *   control        0 alternate status, device control (bit 1 no interrupts, 2 reset, 7 look back)
 *   bus master     8 c: 0 command  2 status  4 address of the table of buffers
 *
 * Theory of operation. A channel does one command at a time, by ata.c. Programmed transfers go
 * through a buffer of the channel: a long one is done as several commands of as many sectors as the
 * guest moves between two interrupts, so that what the guest has not fetched yet is part of the
 * state. A bus master transfer begins when both the command and the start bit are there, with all
 * buffers of the table.
 *
 * A command whose failure pauses the machine stays the channel's, and is begun again.
 *
 * Departures: timings are stored and mean nothing. A table with too few buffers ends a command with
 * an error, where a PIIX waits. No native mode.
 */
#include "devices/ide.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "devices/pci.h"

// clang-format off
enum {
    VENDOR_INTEL = 0x8086, DEVICE_PIIX3_IDE = 0x7010, CLASS_IDE = 0x01018000, SUBSYS = 0x1100,
    BAR = 4, BAR_SIZE = 16, TIMINGS = 0x40, TIMINGS_SIZE = 12, DECODE = 0x80,
    CONTROL_NO_IRQ = 2, CONTROL_RESET = 4, CONTROL_HOB = 0x80,
    BM_START = 1, BM_ACTIVE = 1, BM_ERROR = 2, BM_IRQ = 4, BM_CAPABLE = 0x60,
    SECTOR = 512, CD_SECTOR = 2048, BUFFER = 8192, PACKET_SIZE = 12, OK = ATA_DRDY | ATA_DSC, PRDS = 8192,
};
enum { /* commands */
    DEVICE_RESET = 0x08, DATA_SET_MANAGEMENT = 0x06, READ_DMA_EXT = 0x25, WRITE_DMA_EXT = 0x35, DIAGNOSTIC = 0x90,
    PACKET = 0xa0, IDENTIFY_PACKET = 0xa1, IDENTIFY = 0xec, READ_10 = 0x28, READ_12 = 0xa8,
};
enum phase {
    IDLE, EXECUTING, /* a command without data */
    IDENTIFYING, PIO_IN, PIO_OUT, PACKET_OUT, PACKET_IN, DMA, PHASES,
};
// clang-format on

struct ide;

struct drive_place {
    struct ide *ide;
    unsigned n;
};

struct channel {
    struct ide *ide;
    unsigned n;
    bool present[2];
    struct drive_place place[2];
    struct ata_device drive[2];
    struct ata_command c;
    uint32_t epoch, begun; /* `begun`: the epoch of the command that is executed */
    bool running;          /* it is */
    /* state: */
    uint8_t reg[8], hob[8]; /* as written; their values before */
    uint8_t status, error, control, command, phase;
    bool irq, kept, multiple;
    uint64_t next; /* sector of a programmed transfer, its sectors or bytes that are left */
    uint32_t left;
    uint32_t at, end, stop; /* in the buffer: where the guest is, where data and interrupt end */
    uint16_t limit;         /* bytes between two interrupts of a packet command */
    uint8_t cdb[PACKET_SIZE];
    uint8_t buffer[BUFFER];
    uint8_t bm_command, bm_status;
    uint32_t bm_table;
};

struct ide {
    struct pci_device pci; /* first */
    void (*ejected)(void *opaque, unsigned drive);
    void *opaque;
    struct channel channel[IDE_CHANNELS];
};

static unsigned selected(const struct channel *h) { return h->reg[6] >> 4 & 1; }

static struct ata_device *drive(struct channel *h) { return &h->drive[selected(h)]; }

/* ---- interrupts ---- */

static void update(struct channel *h) {
    struct irq *wire = &h->ide->pci.dev.env.irq[h->n];

    irq_set(wire, h->irq && !(h->control & CONTROL_NO_IRQ));
}

static void raise(struct channel *h) {
    h->irq = true;
    h->bm_status |= BM_IRQ;
    update(h);
}

/* ---- ends ---- */

static void finish(struct channel *h, uint8_t status, uint8_t error) {
    trace(ide_done, h->ide->pci.dev.name, h->n, h->command, status, error);
    h->phase = IDLE;
    h->at = h->end = h->stop = 0;
    h->status = status;
    h->error = error;
    h->bm_status &= (uint8_t)~BM_ACTIVE;
    if (drive(h)->cdrom)
        h->reg[2] = 3; /* interrupt reason: the end */
    raise(h);
}

static void fail(struct channel *h) { finish(h, OK | ATA_ERR, ATA_ABORT); }

static void signature(struct channel *h) {
    bool cdrom = drive(h)->cdrom;

    h->reg[2] = h->reg[3] = 1;
    h->reg[4] = cdrom ? 0x14 : 0;
    h->reg[5] = cdrom ? 0xeb : 0;
}

/* ---- execution by ata.c ---- */

static void start_in(struct channel *h);
static void next_packet_part(struct channel *h);

/* From the buffer to the guest, `n` bytes between two interrupts. */
static void offer(struct channel *h, uint32_t n) {
    h->stop = h->at + n;
    h->status = OK | ATA_DRQ;
    raise(h);
}

static void ask(struct channel *h, bool interrupt) {
    uint32_t block = h->multiple ? drive(h)->multiple : 1;

    h->at = 0;
    h->end = h->stop = SECTOR * (h->left < block ? h->left : block);
    h->status = OK | ATA_DRQ;
    if (interrupt)
        raise(h);
}

static void results(struct channel *h, const struct ata_command *c) {
    static const uint8_t of[] = {12, 4, 5, 6}, of_hob[] = {13, 8, 9, 10};

    for (unsigned i = 0; i < 4; i++) {
        h->reg[2 + i] = c->fis[of[i]];
        h->hob[2 + i] = c->fis[of_hob[i]];
    }
    h->reg[6] = (h->reg[6] & 0xf0) | (c->fis[7] & 15);
}

static void done(struct ata_command *c, uint8_t status, uint8_t error) {
    struct channel *h = (struct channel *)((uint8_t *)c - offsetof(struct channel, c));

    h->running = false;
    if (status & ATA_ERR || h->phase == DMA || h->phase == EXECUTING) {
        if (h->phase == EXECUTING)
            results(h, c);
        if ((h->command == IDENTIFY || h->command == IDENTIFY_PACKET) && drive(h)->cdrom)
            signature(h);
        finish(h, status, error);
    } else if (h->phase == PIO_OUT) {
        h->next += h->end / SECTOR;
        h->left -= h->end / SECTOR;
        if (h->left)
            ask(h, true);
        else
            finish(h, OK, 0);
    } else {
        h->at = h->stop = 0;
        h->end = (uint32_t)c->moved;
        if (h->phase == PACKET_IN)
            next_packet_part(h);
        else
            offer(h, h->end);
    }
}

static bool returned(struct ata_command *c, bool keep) {
    struct channel *h = (struct channel *)((uint8_t *)c - offsetof(struct channel, c));

    if (h->begun == h->epoch && !keep)
        return false;
    h->running = false;
    h->kept = h->begun == h->epoch;
    return true;
}

/* Gives the command whose registers are in c.fis to the device. */
static void execute(struct channel *h, bool to_device) {
    h->c.dev = drive(h);
    h->c.to_device = to_device;
    h->c.ncq = false;
    h->c.done = done;
    h->c.returned = returned;
    h->begun = h->epoch;
    h->running = true;
    h->status = ATA_BSY | OK;
    ata_execute(&h->c);
}

/* The registers as a frame. */
static void take_registers(struct channel *h) {
    uint8_t *f = h->c.fis;

    memset(f, 0, ATA_FIS_SIZE);
    f[2] = h->command;
    f[3] = h->reg[1];
    f[7] = h->reg[6];
    f[11] = h->hob[1];
    f[12] = h->reg[2];
    f[13] = h->hob[2];
    for (unsigned i = 0; i < 3; i++) {
        f[4 + i] = h->reg[3 + i];
        f[8 + i] = h->hob[3 + i];
    }
}

static void use_buffer(struct channel *h, uint32_t n) {
    dma_clear(&h->c.dma);
    h->c.mem = NULL;
    dma_own(&h->c.dma, h->buffer, n); /* without memory it stays empty, and the command fails */
}

/* `sectors` of them at h->next, to or from the buffer. */
static void move(struct channel *h, bool write, uint32_t sectors) {
    uint8_t *f = h->c.fis;

    take_registers(h);
    f[2] = write ? WRITE_DMA_EXT : READ_DMA_EXT;
    for (unsigned i = 0; i < 3; i++) {
        f[4 + i] = (uint8_t)(h->next >> (8 * i));
        f[8 + i] = (uint8_t)(h->next >> (24 + 8 * i));
    }
    store_le16(f + 12, (uint16_t)sectors);
    use_buffer(h, sectors * SECTOR);
    execute(h, write);
}

static void start_in(struct channel *h) {
    uint32_t block = h->multiple ? drive(h)->multiple : 1;

    move(h, false, h->left < block ? h->left : block);
}

/* ---- packet commands ---- */

static bool is_read(const struct channel *h) {
    return h->cdb[0] == READ_10 || h->cdb[0] == READ_12;
}

static void packet_registers(struct channel *h, bool dma) {
    take_registers(h);
    h->c.fis[2] = PACKET;
    h->c.fis[3] = dma;
    memset(h->c.cdb, 0, sizeof(h->c.cdb));
    memcpy(h->c.cdb, h->cdb, PACKET_SIZE);
}

/* As much of it as the buffer takes: reads in pieces. */
static void execute_packet(struct channel *h) {
    packet_registers(h, false);
    if (is_read(h) && h->left) {
        uint32_t n = h->left < BUFFER / CD_SECTOR ? h->left : BUFFER / CD_SECTOR;

        h->c.cdb[0] = READ_12;
        store_be32(h->c.cdb + 2, (uint32_t)h->next);
        store_be32(h->c.cdb + 6, n);
    }
    use_buffer(h, BUFFER);
    execute(h, false);
}

/* The next piece to the guest, or of the command, or its end. */
static void next_packet_part(struct channel *h) {
    uint32_t n = h->end - h->at;

    if (n) {
        n = n < h->limit ? n : h->limit;
        h->reg[2] = 2; /* interrupt reason: to the host */
        h->reg[4] = (uint8_t)n;
        h->reg[5] = (uint8_t)(n >> 8);
        offer(h, n);
        return;
    }
    if (is_read(h) && h->end) {
        h->next += h->end / CD_SECTOR;
        h->left -= h->end / CD_SECTOR;
        if (h->left) {
            execute_packet(h);
            return;
        }
    }
    finish(h, OK, 0);
}

static void begin_dma(struct channel *h);

static void packet_is_there(struct channel *h) {
    memcpy(h->cdb, h->buffer, PACKET_SIZE);
    if (h->reg[1] & 1) {
        h->phase = DMA;
        h->status = OK | ATA_DRQ;
        begin_dma(h);
        return;
    }
    h->limit = (uint16_t)((h->reg[4] | (unsigned)h->reg[5] << 8) & ~1u);
    if (!h->limit)
        h->limit = 0xfffe;
    h->phase = PACKET_IN;
    h->next = load_be32(h->cdb + 2);
    h->left = h->cdb[0] == READ_12 ? load_be32(h->cdb + 6) : load_be16(h->cdb + 7);
    execute_packet(h);
}

/* ---- bus master ---- */

/* All buffers of the table; false if it is not in memory. */
static bool map_table(struct channel *h, bool to_device) {
    struct mem *mem = h->ide->pci.dev.env.mem;
    gpa at = h->bm_table;

    dma_clear(&h->c.dma);
    h->c.mem = mem;
    for (unsigned i = 0; i < PRDS; i++, at += 8) {
        uint8_t prd[8];
        uint32_t n;

        if (mem_read(mem, at, prd, sizeof(prd)) < 0)
            return false;
        n = load_le16(prd + 4) & ~1u;
        if (!dma_add(&h->c.dma, mem, load_le32(prd) & ~1u, n ? n : 0x10000, !to_device))
            return false;
        if (prd[7] & 0x80)
            return true;
    }
    return false;
}

static bool writes(const struct channel *h) {
    return h->command == 0xca || h->command == 0x35 || h->command == 0x3d ||
           h->command == DATA_SET_MANAGEMENT;
}

/* If the guest has started the engine. */
static void begin_dma(struct channel *h) {
    if (h->phase != DMA || h->running || h->kept || !(h->bm_command & BM_START))
        return;
    h->bm_status |= BM_ACTIVE;
    if (!map_table(h, writes(h))) {
        h->bm_status |= BM_ERROR;
        fail(h);
        return;
    }
    if (h->command == PACKET)
        packet_registers(h, true);
    else
        take_registers(h);
    execute(h, writes(h));
}

/* ---- commands ---- */

static uint32_t sectors_of(const struct channel *h, bool wide) {
    uint32_t n = wide ? h->reg[2] | (uint32_t)h->hob[2] << 8 : h->reg[2];

    return n ? n : wide ? 65536 : 256;
}

static uint64_t address(const struct channel *h, bool wide) {
    const uint8_t *r = h->reg;
    uint64_t low = r[3] | (uint64_t)r[4] << 8 | (uint64_t)r[5] << 16;

    if (wide)
        return low | (uint64_t)h->hob[3] << 24 | (uint64_t)h->hob[4] << 32 |
               (uint64_t)h->hob[5] << 40;
    if (r[6] & 0x40)
        return low | (uint64_t)(r[6] & 15) << 24;
    return ((low >> 8) * 16 + (r[6] & 15)) * 63 + (r[3] ? r[3] - 1u : 0);
}

static void begin_pio(struct channel *h, bool write, bool wide, bool multiple) {
    if (drive(h)->cdrom || (multiple && !drive(h)->multiple)) {
        fail(h);
        return;
    }
    h->multiple = multiple;
    h->next = address(h, wide);
    h->left = sectors_of(h, wide);
    h->phase = write ? PIO_OUT : PIO_IN;
    if (write)
        ask(h, false);
    else
        start_in(h);
}

static void begin_other(struct channel *h) {
    h->phase = h->command == IDENTIFY || h->command == IDENTIFY_PACKET ? IDENTIFYING : EXECUTING;
    take_registers(h);
    use_buffer(h, SECTOR);
    execute(h, false);
}

static void reset_device(struct channel *h) {
    h->phase = IDLE;
    h->error = 1;
    signature(h);
    h->status = drive(h)->cdrom ? 0 : OK;
}

static void write_command(struct channel *h, uint8_t v) {
    if (!h->present[selected(h)] || h->status & ATA_BSY)
        return;
    trace(ide_command, h->ide->pci.dev.name, h->n, selected(h), v);
    h->irq = false;
    update(h);
    h->command = v;
    h->error = 0;
    switch (v) {
    case 0x20:
    case 0x21:
    case 0x24:
    case 0xc4:
    case 0x29:
        begin_pio(h, false, v == 0x24 || v == 0x29, v == 0xc4 || v == 0x29);
        break;
    case 0x30:
    case 0x31:
    case 0x34:
    case 0xc5:
    case 0x39:
        begin_pio(h, true, v == 0x34 || v == 0x39, v == 0xc5 || v == 0x39);
        break;
    case 0xc8:
    case 0xca:
    case READ_DMA_EXT:
    case WRITE_DMA_EXT:
    case 0x3d:
    case DATA_SET_MANAGEMENT:
        if (drive(h)->cdrom) {
            fail(h);
            break;
        }
        h->phase = DMA;
        h->status = OK | ATA_DRQ;
        begin_dma(h);
        break;
    case PACKET:
        if (!drive(h)->cdrom) {
            fail(h);
            break;
        }
        h->phase = PACKET_OUT;
        h->at = 0;
        h->end = h->stop = PACKET_SIZE;
        h->reg[2] = 1; /* interrupt reason: a command is wanted */
        h->status = OK | ATA_DRQ;
        break;
    case DEVICE_RESET:
        if (drive(h)->cdrom)
            reset_device(h);
        else
            fail(h);
        break;
    case DIAGNOSTIC:
        reset_device(h);
        raise(h);
        break;
    default:
        begin_other(h);
    }
}

/* ---- resets ---- */

/* Whatever is on its way to the image comes back first. */
static void abandon(struct channel *h) {
    h->epoch++;
    if (h->running && h->c.dev->block)
        block_drain(h->c.dev->block);
    h->running = h->kept = false;
    h->phase = IDLE;
    h->bm_status &= (uint8_t)~BM_ACTIVE;
}

static void reset_channel(struct channel *h) {
    abandon(h);
    for (unsigned i = 0; i < 2; i++)
        h->drive[i].multiple = 0;
    h->irq = false;
    h->reg[6] = 0;
    h->error = 1;
    signature(h);
    h->status = h->present[0] && h->drive[0].cdrom ? 0 : OK;
    update(h);
}

static void resume(struct channel *h) {
    if (!h->kept)
        return;
    h->kept = false;
    if (h->phase == DMA)
        begin_dma(h);
    else if (h->phase == PIO_IN)
        start_in(h);
    else if (h->phase == PIO_OUT)
        move(h, true, h->end / SECTOR);
    else if (h->phase == PACKET_IN)
        execute_packet(h);
    else
        begin_other(h);
}

/* ---- the data port ---- */

static void end_in_peace(struct channel *h) {
    h->phase = IDLE;
    h->status = OK;
}

static void block_is_through(struct channel *h) {
    switch (h->phase) {
    case PACKET_OUT:
        packet_is_there(h);
        break;
    case PACKET_IN:
        next_packet_part(h);
        break;
    case PIO_OUT:
        move(h, true, h->end / SECTOR);
        break;
    case PIO_IN:
        h->next += h->end / SECTOR;
        h->left -= h->end / SECTOR;
        if (h->left)
            start_in(h);
        else
            end_in_peace(h);
        break;
    default:
        end_in_peace(h);
    }
}

static bool wants(const struct channel *h, bool to_guest) {
    bool out = h->phase == PIO_OUT || h->phase == PACKET_OUT;

    return (h->status & (ATA_DRQ | ATA_BSY)) == ATA_DRQ && h->phase != DMA && out != to_guest &&
           h->at < h->stop;
}

static uint64_t read_data(struct channel *h, unsigned size) {
    uint64_t v = 0;

    for (unsigned i = 0; i < size && wants(h, true); i++) {
        v |= (uint64_t)h->buffer[h->at++] << (8 * i);
        if (h->at == h->stop) {
            block_is_through(h);
            break;
        }
    }
    return v;
}

static void write_data(struct channel *h, unsigned size, uint64_t v) {
    for (unsigned i = 0; i < size && wants(h, false); i++) {
        h->buffer[h->at++] = (uint8_t)(v >> (8 * i));
        if (h->at == h->stop) {
            block_is_through(h);
            break;
        }
    }
}

/* ---- registers ---- */

static uint8_t status(const struct channel *h) { return h->present[selected(h)] ? h->status : 0; }

static uint64_t read_block(struct channel *h, uint64_t reg, unsigned size) {
    const uint8_t *r = h->control & CONTROL_HOB ? h->hob : h->reg;

    if (!h->present[0] && !h->present[1])
        return 0;
    switch (reg) {
    case 0:
        return read_data(h, size);
    case 1:
        return h->error;
    case 6:
        return h->reg[6] | 0xa0;
    case 7:
        h->irq = false;
        update(h);
        return status(h);
    default:
        return r[reg & 7];
    }
}

static void write_block(struct channel *h, uint64_t reg, unsigned size, uint64_t v) {
    h->control &= (uint8_t)~CONTROL_HOB;
    if (reg == 0) {
        write_data(h, size, v);
    } else if (reg == 7) {
        write_command(h, (uint8_t)v);
    } else if (!(h->status & ATA_BSY)) {
        h->hob[reg & 7] = h->reg[reg & 7];
        h->reg[reg & 7] = (uint8_t)v;
    }
}

static void write_control(struct channel *h, uint8_t v) {
    bool was = h->control & CONTROL_RESET, is = v & CONTROL_RESET;

    h->control = v & (CONTROL_HOB | CONTROL_RESET | CONTROL_NO_IRQ);
    if (is && !was) {
        reset_channel(h);
        h->status = ATA_BSY;
    } else if (was && !is) {
        reset_channel(h);
    }
    update(h);
}

static struct channel *first(void *dev) { return &((struct ide *)dev)->channel[0]; }

static uint64_t read_first(void *dev, uint64_t reg, unsigned size) {
    return read_block(first(dev), reg, size);
}

static void write_first(void *dev, uint64_t reg, unsigned size, uint64_t v) {
    write_block(first(dev), reg, size, v);
}

static uint64_t read_second(void *dev, uint64_t reg, unsigned size) {
    return read_block(first(dev) + 1, reg, size);
}

static void write_second(void *dev, uint64_t reg, unsigned size, uint64_t v) {
    write_block(first(dev) + 1, reg, size, v);
}

static uint64_t read_first_control(void *dev, uint64_t reg, unsigned size) {
    return status(first(dev));
}

static void write_first_control(void *dev, uint64_t reg, unsigned size, uint64_t v) {
    write_control(first(dev), (uint8_t)v);
}

static uint64_t read_second_control(void *dev, uint64_t reg, unsigned size) {
    return status(first(dev) + 1);
}

static void write_second_control(void *dev, uint64_t reg, unsigned size, uint64_t v) {
    write_control(first(dev) + 1, (uint8_t)v);
}

static uint64_t read_master(void *dev, uint64_t reg, unsigned size) {
    const struct channel *h = first(dev) + (reg >> 3);
    uint64_t v = (uint64_t)h->bm_table << 32 | (uint64_t)h->bm_status << 16 | h->bm_command;

    return v >> (8 * (reg & 7));
}

static void write_master_command(struct channel *h, uint8_t v) {
    bool was = h->bm_command & BM_START;

    h->bm_command = v & 9;
    if (!(v & BM_START))
        h->bm_status &= (uint8_t)~BM_ACTIVE;
    else if (!was)
        begin_dma(h);
}

static void write_master(void *dev, uint64_t reg, unsigned size, uint64_t v) {
    struct channel *h = first(dev) + (reg >> 3);

    for (unsigned i = 0; i < size; i++, v >>= 8) {
        unsigned at = (unsigned)(reg & 7) + i, shift = 8 * (at - 4);

        if (at == 0)
            write_master_command(h, (uint8_t)v);
        else if (at == 2)
            h->bm_status = (uint8_t)((h->bm_status & ~(v & (BM_IRQ | BM_ERROR)) & ~BM_CAPABLE) |
                                     (v & BM_CAPABLE));
        else if (at >= 4 && at < 8)
            h->bm_table = ((h->bm_table & ~(0xffu << shift)) | (uint32_t)(v & 0xff) << shift) & ~3u;
    }
}

static const struct io_ops first_ops = {read_first, write_first, 1, 4},
                           second_ops = {read_second, write_second, 1, 4},
                           first_control_ops = {read_first_control, write_first_control, 1, 1},
                           second_control_ops = {read_second_control, write_second_control, 1, 1},
                           master_ops = {read_master, write_master, 1, 4};

static const struct device_region ide_regions[] = {
    {"ide0", DEVICE_PIO, 8, &first_ops},
    {"ide0-control", DEVICE_PIO, 1, &first_control_ops},
    {"ide1", DEVICE_PIO, 8, &second_ops},
    {"ide1-control", DEVICE_PIO, 1, &second_control_ops},
    {0}};

/* ---- media and life ---- */

static void resume_channel(void *opaque) { resume(opaque); }

static void use_block(struct channel *h, unsigned n, struct block *b) {
    struct ata_device *d = &h->drive[n];

    if (d->block)
        block_set_resume_fn(d->block, NULL, NULL);
    d->block = b;
    if (b)
        block_set_resume_fn(b, resume_channel, h);
}

static void tray_opened(void *opaque) {
    struct drive_place *p = opaque;

    if (p->ide->ejected)
        p->ide->ejected(p->ide->opaque, p->n);
}

void ide_change_medium(struct device *dev, unsigned n, struct block *b) {
    struct channel *h = first(dev) + n / 2;
    struct ata_device *d = &h->drive[n % 2];

    if (d->block && h->running)
        block_drain(d->block);
    use_block(h, n % 2, b);
    scsi_change_medium(&d->unit, b);
}

bool ide_medium_locked(const struct device *dev, unsigned n) {
    return ((const struct ide *)dev)->channel[n / 2].drive[n % 2].unit.locked;
}

static void init_drive(struct channel *h, unsigned n, const struct ide_drive_config *c) {
    struct ata_device *d = &h->drive[n];

    if (!c->present)
        return;
    h->present[n] = true;
    d->cdrom = c->cdrom;
    memcpy(d->serial, c->serial, sizeof(d->serial));
    h->place[n] = (struct drive_place){h->ide, 2 * h->n + n};
    d->unit = (struct scsi_unit){
        .block = c->block, .cdrom = true, .ejected = tray_opened, .opaque = &h->place[n]};
    memcpy(d->unit.serial, c->serial, sizeof(d->unit.serial));
    use_block(h, n, c->block);
}

static int ide_init(struct device *dev, struct error *err) {
    struct ide *ide = (struct ide *)dev;
    const struct ide_config *c = dev->env.config;

    pci_init_header(&ide->pci, VENDOR_INTEL, DEVICE_PIIX3_IDE, CLASS_IDE, VENDOR_INTEL, SUBSYS);
    memset(ide->pci.wmask + TIMINGS, 0xff, TIMINGS_SIZE);
    pci_init_bar(&ide->pci, BAR, BAR_SIZE, true, false, &master_ops, "ide-master");
    for (unsigned i = 0; i < IDE_CHANNELS; i++) {
        ide->channel[i].ide = ide;
        ide->channel[i].n = i;
        for (unsigned k = 0; c && k < 2; k++)
            init_drive(&ide->channel[i], k, &c->drive[2 * i + k]);
    }
    if (c) {
        ide->ejected = c->ejected;
        ide->opaque = c->opaque;
    }
    return 0;
}

static void ide_reset(struct device *dev) {
    struct ide *ide = (struct ide *)dev;

    pci_reset(&ide->pci);
    ide->pci.config[TIMINGS + 1] = ide->pci.config[TIMINGS + 3] = DECODE;
    for (unsigned i = 0; i < IDE_CHANNELS; i++) {
        struct channel *h = &ide->channel[i];

        abandon(h);
        memset(h->reg, 0, sizeof(h->reg));
        memset(h->hob, 0, sizeof(h->hob));
        memset(h->cdb, 0, sizeof(h->cdb));
        memset(h->buffer, 0, sizeof(h->buffer));
        h->control = h->command = h->bm_command = h->bm_status = 0;
        h->next = h->left = h->at = h->end = h->stop = h->bm_table = 0;
        h->limit = 0;
        h->multiple = false;
        for (unsigned k = 0; k < 2; k++) {
            h->drive[k].write_cache = true;
            scsi_reset(&h->drive[k].unit);
        }
        reset_channel(h);
    }
}

static void ide_done(struct device *dev) {
    struct ide *ide = (struct ide *)dev;

    for (unsigned i = 0; i < IDE_CHANNELS; i++) {
        struct channel *h = &ide->channel[i];

        if (!h->ide) /* init had not come so far */
            continue;
        abandon(h);
        use_block(h, 0, NULL);
        use_block(h, 1, NULL);
        dma_free(&h->c.dma);
    }
    pci_bus_detach(&ide->pci);
}

/* ---- state ---- */

static int check(const void *obj, struct error *err) {
    const struct channel *h = obj;

    if (h->at > h->stop || h->stop > h->end)
        return error_set(err, -EINVAL, "the place in the buffer is impossible");
    return 0;
}

static void post_load(void *obj) {
    struct ide *ide = obj;

    pci_post_load(&ide->pci);
    for (unsigned i = 0; i < IDE_CHANNELS; i++)
        update(&ide->channel[i]);
}

static const struct state_desc drive_state = {
    .name = "ide_drive",
    .version = 1,
    .struct_size = sizeof(struct ata_device),
    .fields = (const struct state_field[]){STATE_SUB(struct ata_device, unit, &scsi_unit_state),
                                           STATE(struct ata_device, write_cache),
                                           STATE_MAX(struct ata_device, multiple, ATA_MULTIPLE_MAX),
                                           STATE_END},
};

static const struct state_desc channel_state = {
    .name = "ide_channel",
    .version = 1,
    .struct_size = sizeof(struct channel),
    .validate = check,
    .fields = (const struct state_field[]){STATE_SUB_ARRAY(struct channel, drive, &drive_state),
                                           STATE_BYTES(struct channel, reg),
                                           STATE_BYTES(struct channel, hob),
                                           STATE(struct channel, status),
                                           STATE(struct channel, error),
                                           STATE(struct channel, control),
                                           STATE(struct channel, command),
                                           STATE_MAX(struct channel, phase, PHASES - 1),
                                           STATE(struct channel, irq),
                                           STATE(struct channel, kept),
                                           STATE(struct channel, multiple),
                                           STATE(struct channel, next),
                                           STATE(struct channel, left),
                                           STATE_MAX(struct channel, at, BUFFER),
                                           STATE_MAX(struct channel, end, BUFFER),
                                           STATE_MAX(struct channel, stop, BUFFER),
                                           STATE(struct channel, limit),
                                           STATE_BYTES(struct channel, cdb),
                                           STATE_BYTES(struct channel, buffer),
                                           STATE(struct channel, bm_command),
                                           STATE(struct channel, bm_status),
                                           STATE(struct channel, bm_table),
                                           STATE_END},
};

static const struct state_desc ide_state = {
    .name = "ide",
    .version = 1,
    .struct_size = sizeof(struct ide),
    .post_load = post_load,
    .fields = (const struct state_field[]){STATE_SUB(struct ide, pci, &pci_device_state),
                                           STATE_SUB_ARRAY(struct ide, channel, &channel_state),
                                           STATE_END},
};

const struct device_class ide_class = {
    .name = "ide",
    .help = "IDE adapter 8086:7010 (PIIX3)",
    .size = sizeof(struct ide),
    .state = &ide_state,
    .regions = ide_regions,
    .init = ide_init,
    .reset = ide_reset,
    .done = ide_done,
    .pci = true,
};
