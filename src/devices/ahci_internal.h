/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the registers of the adapter (ahci.c) and the commands of its devices (ahci_ata.c). */
#ifndef DEVICES_AHCI_INTERNAL_H
#define DEVICES_AHCI_INTERNAL_H

#include "block/block.h"
#include "devices/ahci.h"
#include "devices/scsi.h"

enum { AHCI_SLOTS = 32, AHCI_FIS_SIZE = 20, AHCI_TRIM_RANGES = 64 };
enum { ATA_ERR = 0x01, ATA_DRQ = 0x08, ATA_DSC = 0x10, ATA_DRDY = 0x40, ATA_ABORT = 0x04 };

struct ahci_port;

struct ahci_slot { /* a command while it is executed */
    struct ahci_port *port;
    unsigned tag;
    uint32_t epoch;
    uint8_t fis[AHCI_FIS_SIZE], cdb[SCSI_CDB_SIZE];
    struct iovec *iov; /* the guest's buffers */
    unsigned iov_count, iov_cap;
    uint64_t room;  /* their bytes */
    uint64_t moved; /* of them filled or emptied */
    bool ncq, pio_in, to_device;
    bool flush; /* still to come */
    unsigned ranges, next_range;
    struct {
        uint64_t offset, length;
    } range[AHCI_TRIM_RANGES];
    enum block_op range_op;
    struct scsi_command scsi;
    struct block_request io;
};

struct ahci_port { /* registers, and what hangs on them */
    struct ahci *ahci;
    unsigned n;
    struct ahci_port_config config;
    struct scsi_unit unit; /* of a drive */
    uint32_t epoch;
    uint32_t busy; /* slots that are executed */
    bool processing;
    struct ahci_slot *slot[AHCI_SLOTS];
    /* state: */
    uint32_t clb, clbu, fb, fbu, is, ie, cmd, tfd, sig, sctl, serr, sact, ci;
    uint32_t kept; /* commands whose failure pauses the machine */
    bool stopped;  /* by an error, until the guest stops the port */
    bool in_reset; /* a software reset has begun */
    bool write_cache;
    uint8_t multiple;
};

struct ahci {
    struct pci_device pci; /* first */
    void (*ejected)(void *opaque, unsigned port);
    void *opaque;
    uint32_t ghc, is;
    struct ahci_port port[AHCI_PORTS];
};

/* Executes the command in the slot's FIS; ends in ahci_complete, at once or later. */
void ahci_execute(struct ahci_slot *s);
/* After a command that ended: others may begin. */
void ahci_continue(struct ahci_port *p);
void ahci_complete(struct ahci_slot *s, uint8_t status, uint8_t error);

#endif
