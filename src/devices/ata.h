/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ATA disks and packet devices, without the adapter that carries their commands (ahci.c, ide.c).
 * Source: ATA/ATAPI Command Set 3, Serial ATA 3.0 (NCQ).
 *
 * Contract: machine lock held. The adapter fills the registers of a command, in the order of a
 * frame (FIS) of Serial ATA, and its buffers, and calls ata_execute, which ends in `done`, at once
 * or later. The command must stay until then; with it the next one can begin.
 */
#ifndef DEVICES_ATA_H
#define DEVICES_ATA_H

#include "block/block.h"
#include "devices/dma.h"
#include "devices/scsi.h"

enum { ATA_FIS_SIZE = 20, ATA_RANGES = 64, ATA_SERIAL = 20, ATA_MULTIPLE_MAX = 16 };
enum {
    ATA_ERR = 0x01,
    ATA_DRQ = 0x08,
    ATA_DSC = 0x10,
    ATA_DRDY = 0x40,
    ATA_BSY = 0x80,
    ATA_ABORT = 0x04
};

struct ata_device {
    struct block *block; /* NULL: a drive without a medium */
    bool cdrom;
    bool queued; /* takes queued commands: Serial ATA */
    char serial[ATA_SERIAL + 1];
    /* state: */
    struct scsi_unit unit; /* of a drive */
    bool write_cache;
    uint8_t multiple;
};

struct ata_command {
    struct ata_device *dev;
    struct mem *mem; /* of the buffers; NULL: they are not the guest's */
    uint8_t fis[ATA_FIS_SIZE], cdb[SCSI_CDB_SIZE];
    struct dma dma; /* buffers */
    bool ncq, to_device;
    /* 2: command, 3: feature, 4 to 6 and 8 to 10: address, 7: device, 11: feature, 12, 13: count.
     * What the device changes of them is there at the end. */
    void (*done)(struct ata_command *c, uint8_t status, uint8_t error);
    /* A transfer came back; `keep`: it failed, and the machine will be paused for it. True: the
     * adapter does not want to go on with the command now. */
    bool (*returned)(struct ata_command *c, bool keep);
    /* results: */
    bool pio_in;    /* by programmed transfers to the guest */
    uint64_t moved; /* bytes of the buffers that were filled or emptied */
    /* the device's: */
    bool flush; /* still to come */
    unsigned ranges, next_range;
    struct {
        uint64_t offset, length;
    } range[ATA_RANGES];
    enum block_op range_op;
    struct scsi_command scsi;
    struct block_request io;
};

void ata_execute(struct ata_command *c);

#endif
