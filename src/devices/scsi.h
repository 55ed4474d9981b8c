/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SCSI units: a disk or a CD-ROM drive, without the bus that carries its commands.
 * Source: SPC-4, SBC-3 (disks), MMC-6 (optical drives).
 *
 * Contract: machine lock held. scsi_begin says what a command wants: bytes of an answer, or a
 * transfer that the bus does with the image; then scsi_end with its result. The unit keeps its
 * sense data; it never touches guest memory.
 */
#ifndef DEVICES_SCSI_H
#define DEVICES_SCSI_H

#include "state/state.h"

struct block;

enum {
    SCSI_CDB_SIZE = 16,
    SCSI_REPLY_MAX = 512 /* no less than a block */,
    SCSI_SENSE_SIZE = 18,
    SCSI_RANGES = 32
};
enum scsi_status { SCSI_GOOD = 0, SCSI_CHECK_CONDITION = 2 };

struct scsi_unit {
    struct block *block; /* NULL: no medium (a drive), or a disk without room */
    bool cdrom;
    char serial[21];
    void (*ejected)(void *opaque); /* the guest opened the tray. NULL allowed */
    void *opaque;
    /* state: */
    uint8_t key, asc, ascq; /* sense data of the last command that failed */
    uint8_t attention;      /* what has changed and nobody was told yet: an enum scsi_attention */
    bool locked, open;
    bool media_event, eject_event; /* for GET EVENT STATUS NOTIFICATION */
    bool write_cache;              /* off: each write is flushed */
};
extern const struct state_desc scsi_unit_state;

enum scsi_kind {
    SCSI_REPLY, /* `reply_size` bytes go to the guest; the command is done */
    SCSI_READ,  /* `length` bytes at `offset` of the image */
    SCSI_WRITE,
    SCSI_FLUSH,
    SCSI_DATA_OUT, /* `length` bytes come from the guest, then scsi_data */
    SCSI_DISCARD,  /* range by range */
    SCSI_ZERO,     /* likewise */
    SCSI_PATTERN,  /* the block in `reply` again and again, `length` bytes at `offset` */
};

struct scsi_command {
    enum scsi_kind kind;
    enum scsi_status status;
    uint64_t offset, length;
    bool flush; /* after a write */
    bool unmap; /* SCSI_ZERO: may deallocate */
    unsigned reply_size;
    uint8_t reply[SCSI_REPLY_MAX];
    unsigned ranges;
    struct {
        uint64_t offset, length;
    } range[SCSI_RANGES];
};

void scsi_begin(struct scsi_unit *u, const uint8_t cdb[SCSI_CDB_SIZE], struct scsi_command *ret);
/* A command to a unit that is not there, beside others that are. Sense data are in *scratch. */
void scsi_begin_absent(struct scsi_unit *scratch, const uint8_t *cdb, struct scsi_command *ret);
/* What the guest sent for it, as much of it as there was. The command then is of another kind. */
void scsi_data(struct scsi_unit *u, const uint8_t *cdb, const uint8_t *data, size_t n,
               struct scsi_command *c);
/* How the transfer ended: 0 or a negative errno. The command's status. */
enum scsi_status scsi_end(struct scsi_unit *u, bool write, int result);
void scsi_sense(const struct scsi_unit *u, uint8_t ret[SCSI_SENSE_SIZE]);
void scsi_reset(struct scsi_unit *u);
void scsi_capacity_changed(struct scsi_unit *u);
/* Another medium, NULL: none. A tray that was open closes. */
void scsi_change_medium(struct scsi_unit *u, struct block *block);

#endif
