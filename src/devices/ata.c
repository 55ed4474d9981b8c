/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ATA and packet commands. Source: ATA/ATAPI Command Set 3 (ACS-3), Serial ATA 3.0 (NCQ).
 *
 * Transfers go between the guest's buffers and the image. What is not done at once ends in io_done.
 */
#include "devices/ata.h"

#include <string.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "base/trace.h"

// clang-format off
enum {
    NOP = 0x00, DATA_SET_MANAGEMENT = 0x06, READ_SECTORS = 0x20, READ_SECTORS_EXT = 0x24,
    READ_DMA_EXT = 0x25, READ_NATIVE_MAX_EXT = 0x27, READ_MULTIPLE_EXT = 0x29, WRITE_SECTORS = 0x30,
    WRITE_SECTORS_EXT = 0x34, WRITE_DMA_EXT = 0x35, WRITE_MULTIPLE_EXT = 0x39,
    WRITE_DMA_FUA_EXT = 0x3d, READ_VERIFY = 0x40, READ_VERIFY_EXT = 0x42, READ_FPDMA = 0x60,
    WRITE_FPDMA = 0x61, DIAGNOSTIC = 0x90, INITIALIZE = 0x91, PACKET = 0xa0, IDENTIFY_PACKET = 0xa1,
    READ_MULTIPLE = 0xc4, WRITE_MULTIPLE = 0xc5, SET_MULTIPLE = 0xc6, READ_DMA = 0xc8,
    WRITE_DMA = 0xca, STANDBY_NOW = 0xe0, IDLE_NOW = 0xe1, STANDBY = 0xe2, IDLE = 0xe3,
    CHECK_POWER = 0xe5, SLEEP = 0xe6, FLUSH_CACHE = 0xe7, FLUSH_CACHE_EXT = 0xea, IDENTIFY = 0xec,
    SET_FEATURES = 0xef, READ_NATIVE_MAX = 0xf8,
};
// clang-format on
enum { SECTOR = 512, OK = ATA_DRDY | ATA_DSC, TRIM = 1, MULTIPLE_MAX = 16 };

/* What was written to the guest's memory may be code. */
static void ata_end(struct ata_command *s, uint8_t status, uint8_t error) {
    if (s->mem && !s->to_device)
        dma_written(&s->dma, s->mem, s->moved);
    s->done(s, status, error);
}

static void good(struct ata_command *s) { ata_end(s, OK, 0); }

static void abort_command(struct ata_command *s) { ata_end(s, OK | ATA_ERR, ATA_ABORT); }

static struct block *block(const struct ata_command *s) { return s->dev->block; }

/* ---- identification ---- */

/* Text of ATA: two characters a word, the first in the high byte. */
static void put_text(uint8_t *id, unsigned word, unsigned words, const char *text) {
    size_t n = strlen(text);

    for (unsigned i = 0; i < 2 * words; i++)
        id[2 * word + (i ^ 1)] = (uint8_t)(i < n ? text[i] : ' ');
}

static void put(uint8_t *id, unsigned word, unsigned value) {
    store_le16(id + 2 * (size_t)word, (uint16_t)value);
}

static void finish_identify(uint8_t *id) {
    uint8_t sum = 0xa5;

    id[510] = 0xa5;
    for (unsigned i = 0; i < 510; i++)
        sum = (uint8_t)(sum + id[i]);
    id[511] = (uint8_t)-sum;
}

static void common_identity(const struct ata_command *s, uint8_t *id, const char *model) {
    put_text(id, 10, 10, s->dev->serial);
    put_text(id, 23, 4, "1.0");
    put_text(id, 27, 20, model);
    put(id, 49, 0x0f00); /* DMA, LBA, IORDY */
    put(id, 53, 7);
    put(id, 63, 7);
    put(id, 64, 3);
    for (unsigned i = 65; i <= 68; i++)
        put(id, i, 120);
    put(id, 80, 0x03f0); /* ATA-4 to ACS-2 */
    put(id, 88, 0x407f);
}

static void identify_disk(struct ata_command *s, uint8_t *id) {
    const struct ata_device *p = s->dev;
    uint64_t sectors = block(s) ? block_info(block(s))->size / SECTOR : 0;
    uint32_t lba28 = sectors > 0xfffffff ? 0xfffffff : (uint32_t)sectors;
    uint32_t cylinders = sectors / (16 * 63) > 16383 ? 16383 : (uint32_t)(sectors / (16 * 63));

    common_identity(s, id, "VIVARIUM DISK");
    put(id, 0, 0x0040);
    put(id, 1, cylinders);
    put(id, 3, 16);
    put(id, 6, 63);
    put(id, 47, 0x8000 | MULTIPLE_MAX);
    put(id, 50, 0x4000);
    put(id, 54, cylinders);
    put(id, 55, 16);
    put(id, 56, 63);
    store_le32(id + 2 * 57, cylinders * 16 * 63);
    put(id, 59, p->multiple ? 0x100u | p->multiple : 0);
    store_le32(id + 2 * 60, lba28);
    if (p->queued) {
        put(id, 75, 31);
        put(id, 76, 0x010e); /* NCQ, all speeds */
    }
    put(id, 82, 0x4020);
    put(id, 83, 0x7400);
    put(id, 84, 0x4040); /* FUA */
    put(id, 85, 0x4000 | (p->write_cache ? 0x20 : 0));
    put(id, 86, 0x3400);
    put(id, 87, 0x4040);
    store_le64(id + 2 * 100, sectors);
    put(id, 105, 1);
    put(id, 106, 0x6003); /* physical sectors of 4 KiB */
    put(id, 169, block(s) && !block_info(block(s))->readonly ? TRIM : 0);
    put(id, 217, 1); /* does not rotate */
    put(id, 222, p->queued ? 0x1020 : 0);
    finish_identify(id);
}

static void identify_drive(struct ata_command *s, uint8_t *id) {
    common_identity(s, id, "VIVARIUM CD-ROM");
    put(id, 0, 0x85c0); /* packet device, CD-ROM, removable, 12 bytes a packet */
    put(id, 76, s->dev->queued ? 0x000e : 0);
    put(id, 82, 0x4210);
    put(id, 83, 0x4000);
    put(id, 84, 0x4000);
    put(id, 85, 0x4210);
    put(id, 87, 0x4000);
    finish_identify(id);
}

static void identify(struct ata_command *s, bool drive) {
    uint8_t id[512] = {0};

    if (s->dev->cdrom != drive) {
        abort_command(s);
        return;
    }
    if (drive)
        identify_drive(s, id);
    else
        identify_disk(s, id);
    s->pio_in = true;
    s->moved = iov_write(s->dma.iov, s->dma.count, 0, id, sizeof(id));
    good(s);
}

/* ---- transfers ---- */

static void io_done(struct block_request *io, int result);

static void submit(struct ata_command *s, enum block_op op, uint64_t offset, uint64_t length) {
    int result;

    s->io = (struct block_request){.op = op,
                                   .offset = offset,
                                   .length = length,
                                   .iov = s->dma.iov,
                                   .iov_count = s->dma.count,
                                   .unmap = true,
                                   .done = io_done,
                                   .opaque = s};
    if (op == BLOCK_READ || op == BLOCK_WRITE)
        s->moved = length;
    if (block_try(block(s), &s->io, &result))
        io_done(&s->io, result);
    else
        block_submit(block(s), &s->io);
}

static void packet_end(struct ata_command *s, enum scsi_status status) {
    if (status == SCSI_GOOD)
        ata_end(s, OK, 0);
    else
        ata_end(s, OK | ATA_ERR, (uint8_t)(s->dev->unit.key << 4 | ATA_ABORT));
}

/* After a step: the next one, or the end. */
static void go_on(struct ata_command *s, enum block_op op, int result) {
    struct ata_device *p = s->dev;

    if (p->cdrom) {
        packet_end(s, scsi_end(&p->unit, false, result));
    } else if (result < 0) {
        ata_end(s, OK | ATA_ERR, op == BLOCK_READ ? 0x40 : ATA_ABORT);
    } else if (s->next_range < s->ranges) {
        unsigned i = s->next_range++;
        submit(s, s->range_op, s->range[i].offset, s->range[i].length);
    } else if (s->flush) {
        s->flush = false;
        submit(s, BLOCK_FLUSH, 0, 0);
    } else {
        good(s);
    }
}

static void io_done(struct block_request *io, int result) {
    struct ata_command *s = io->opaque;

    if (!s->returned(s, result < 0 && io->keep))
        go_on(s, io->op, result);
}

static uint64_t lba48(const uint8_t *f) {
    return f[4] | (uint64_t)f[5] << 8 | (uint64_t)f[6] << 16 | (uint64_t)f[8] << 24 |
           (uint64_t)f[9] << 32 | (uint64_t)f[10] << 40;
}

static uint64_t lba28(const struct ata_command *s) {
    const uint8_t *f = s->fis;
    uint64_t cylinder = f[5] | (unsigned)f[6] << 8;

    if (f[7] & 0x40)
        return f[4] | (uint64_t)f[5] << 8 | (uint64_t)f[6] << 16 | (uint64_t)(f[7] & 15) << 24;
    return (cylinder * 16 + (f[7] & 15)) * 63 + (f[4] ? f[4] - 1u : 0); /* cylinder, head, sector */
}

static void transfer(struct ata_command *s, bool write, uint64_t lba, uint64_t count, bool fua) {
    uint64_t sectors = block_info(block(s))->size / SECTOR;

    if (lba > sectors || count > sectors - lba) {
        ata_end(s, OK | ATA_ERR, 0x10); /* there is no such sector */
        return;
    }
    if ((write && block_info(block(s))->readonly) || !dma_cut(&s->dma, count * SECTOR)) {
        abort_command(s);
        return;
    }
    s->flush = write && (fua || !s->dev->write_cache);
    submit(s, write ? BLOCK_WRITE : BLOCK_READ, lba * SECTOR, count * SECTOR);
}

static void transfer28(struct ata_command *s, bool write) {
    transfer(s, write, lba28(s), s->fis[12] ? s->fis[12] : 256, false);
}

static void transfer48(struct ata_command *s, bool write, bool fua) {
    unsigned count = load_le16(s->fis + 12);

    transfer(s, write, lba48(s->fis), count ? count : 65536, fua);
}

static void transfer_ncq(struct ata_command *s, bool write) {
    unsigned count = s->fis[3] | (unsigned)s->fis[11] << 8;

    transfer(s, write, lba48(s->fis), count ? count : 65536, s->fis[7] & 0x80);
}

/* Ranges of sectors that hold nothing any more: first sector 47:0, count 63:48. */
static void trim(struct ata_command *s) {
    uint64_t sectors = block_info(block(s))->size / SECTOR;
    uint8_t list[ATA_RANGES * 8];

    if (!(s->fis[3] & TRIM) || load_le16(s->fis + 12) != 1 || !dma_cut(&s->dma, sizeof(list)) ||
        block_info(block(s))->readonly) {
        abort_command(s);
        return;
    }
    s->moved = iov_read(s->dma.iov, s->dma.count, 0, list, sizeof(list));
    for (unsigned i = 0; i < ATA_RANGES; i++) {
        uint64_t entry = load_le64(list + 8 * (size_t)i), at = entry & 0xffffffffffff;
        uint64_t n = entry >> 48;

        if (!n)
            continue;
        if (at > sectors || n > sectors - at) {
            abort_command(s);
            return;
        }
        s->range[s->ranges].offset = at * SECTOR;
        s->range[s->ranges++].length = n * SECTOR;
    }
    if (!s->ranges) {
        good(s);
        return;
    }
    s->range_op = BLOCK_DISCARD;
    s->next_range = 1;
    submit(s, BLOCK_DISCARD, s->range[0].offset, s->range[0].length);
}

/* ---- others ---- */

static void native_max(struct ata_command *s, bool wide) {
    uint64_t last = block_info(block(s))->size / SECTOR - 1;

    if (!wide && last > 0xffffffe)
        last = 0xffffffe;
    for (unsigned i = 0; i < 3; i++) {
        s->fis[4 + i] = (uint8_t)(last >> (8 * i));
        s->fis[8 + i] = (uint8_t)(wide ? last >> (24 + 8 * i) : 0);
    }
    if (!wide)
        s->fis[7] = (uint8_t)(0x40 | (last >> 24 & 15));
    good(s);
}

static void set_features(struct ata_command *s) {
    switch (s->fis[3]) {
    case 0x02:
    case 0x82:
        s->dev->write_cache = s->fis[3] == 2;
        good(s);
        break;
    case 0x03: /* transfer mode */
    case 0x05: /* power management */
    case 0x85:
    case 0x55: /* look-ahead */
    case 0xaa:
    case 0x66: /* what a software reset keeps */
    case 0xcc:
        good(s);
        break;
    default:
        abort_command(s);
    }
}

static void set_multiple(struct ata_command *s) {
    unsigned n = s->fis[12];

    if (n > MULTIPLE_MAX || (n & (n - 1))) {
        abort_command(s);
        return;
    }
    s->dev->multiple = (uint8_t)n;
    good(s);
}

static void disk_command(struct ata_command *s) {
    switch (s->fis[2]) {
    case READ_SECTORS:
    case READ_MULTIPLE:
        s->pio_in = true;
        transfer28(s, false);
        break;
    case READ_DMA:
        transfer28(s, false);
        break;
    case WRITE_SECTORS:
    case WRITE_MULTIPLE:
    case WRITE_DMA:
        transfer28(s, true);
        break;
    case READ_SECTORS_EXT:
    case READ_MULTIPLE_EXT:
        s->pio_in = true;
        transfer48(s, false, false);
        break;
    case READ_DMA_EXT:
        transfer48(s, false, false);
        break;
    case WRITE_SECTORS_EXT:
    case WRITE_MULTIPLE_EXT:
    case WRITE_DMA_EXT:
        transfer48(s, true, false);
        break;
    case WRITE_DMA_FUA_EXT:
        transfer48(s, true, true);
        break;
    case READ_FPDMA:
    case WRITE_FPDMA:
        if (s->ncq)
            transfer_ncq(s, s->fis[2] == WRITE_FPDMA);
        else
            abort_command(s);
        break;
    case FLUSH_CACHE:
    case FLUSH_CACHE_EXT:
        submit(s, BLOCK_FLUSH, 0, 0);
        break;
    case DATA_SET_MANAGEMENT:
        trim(s);
        break;
    case READ_NATIVE_MAX:
    case READ_NATIVE_MAX_EXT:
        native_max(s, s->fis[2] == READ_NATIVE_MAX_EXT);
        break;
    case SET_MULTIPLE:
        set_multiple(s);
        break;
    case READ_VERIFY:
    case READ_VERIFY_EXT:
    case INITIALIZE:
        good(s);
        break;
    default:
        abort_command(s);
    }
}

static void packet(struct ata_command *s) {
    struct scsi_command *c = &s->scsi;
    struct ata_device *p = s->dev;

    scsi_begin(&p->unit, s->cdb, c);
    trace(ata_packet, s->cdb[0], c->kind, c->status, c->length);
    s->pio_in = !(s->fis[3] & 1); /* a packet command without DMA */
    if (c->kind == SCSI_READ) {
        if (dma_cut(&s->dma, c->length))
            submit(s, BLOCK_READ, c->offset, c->length);
        else
            abort_command(s);
        return;
    }
    s->moved = iov_write(s->dma.iov, s->dma.count, 0, c->reply, c->reply_size);
    packet_end(s, c->status);
}

void ata_execute(struct ata_command *s) {
    s->ranges = s->next_range = 0;
    s->moved = 0;
    s->flush = s->pio_in = false;
    switch (s->fis[2]) {
    case IDENTIFY:
    case IDENTIFY_PACKET:
        identify(s, s->fis[2] == IDENTIFY_PACKET);
        break;
    case SET_FEATURES:
        set_features(s);
        break;
    case CHECK_POWER:
        s->fis[12] = 0xff;
        good(s);
        break;
    case DIAGNOSTIC:
        ata_end(s, OK, 1);
        break;
    case STANDBY_NOW:
    case IDLE_NOW:
    case STANDBY:
    case IDLE:
    case SLEEP:
        good(s);
        break;
    case PACKET:
        if (s->dev->cdrom)
            packet(s);
        else
            abort_command(s);
        break;
    default:
        if (s->dev->cdrom || !block(s))
            abort_command(s);
        else
            disk_command(s);
    }
}
