/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the commands that all SCSI units know (scsi.c) and those of optical drives. */
#ifndef DEVICES_SCSI_INTERNAL_H
#define DEVICES_SCSI_INTERNAL_H

#include "devices/scsi.h"

// clang-format off
enum {
    TEST_UNIT_READY = 0x00, REQUEST_SENSE = 0x03, READ_6 = 0x08, WRITE_6 = 0x0a, INQUIRY = 0x12,
    MODE_SELECT_6 = 0x15, MODE_SENSE_6 = 0x1a, START_STOP = 0x1b, PREVENT_ALLOW = 0x1e,
    READ_CAPACITY_10 = 0x25, READ_10 = 0x28, WRITE_10 = 0x2a, SEEK_10 = 0x2b, VERIFY_10 = 0x2f,
    SYNCHRONIZE_10 = 0x35, WRITE_SAME_10 = 0x41, UNMAP = 0x42, READ_TOC = 0x43,
    GET_CONFIGURATION = 0x46, GET_EVENT_STATUS = 0x4a, READ_DISC_INFORMATION = 0x51,
    READ_TRACK_INFORMATION = 0x52, MODE_SELECT_10 = 0x55, MODE_SENSE_10 = 0x5a, READ_16 = 0x88, WRITE_16 = 0x8a, VERIFY_16 = 0x8f,
    SYNCHRONIZE_16 = 0x91, WRITE_SAME_16 = 0x93, SERVICE_IN_16 = 0x9e, REPORT_LUNS = 0xa0,
    READ_12 = 0xa8, WRITE_12 = 0xaa, SET_CD_SPEED = 0xbb, MECHANISM_STATUS = 0xbd,
};
enum { /* sense keys, and additional codes with their qualifiers */
    KEY_NONE = 0, KEY_NOT_READY = 2, KEY_MEDIUM_ERROR = 3, KEY_ILLEGAL = 5, KEY_ATTENTION = 6,
    KEY_PROTECT = 7,
    NO_MEDIUM = 0x3a00, NO_MEDIUM_OPEN = 0x3a02, BAD_OPCODE = 0x2000, BAD_ADDRESS = 0x2100,
    BAD_FIELD = 0x2400, BAD_LIST = 0x2600, WRITE_PROTECTED = 0x2700, MEDIUM_CHANGED = 0x2800,
    WAS_RESET = 0x2900, READ_ERROR = 0x1100, WRITE_ERROR = 0x0c00, LOCKED = 0x5302,
    CAPACITY_CHANGED = 0x2a09, BAD_LENGTH = 0x1a00, NO_SAVING = 0x3900, NO_SPACE = 0x2707, NO_UNIT = 0x2500,
};
// clang-format on
enum scsi_attention {
    ATTENTION_NONE,
    ATTENTION_RESET,
    ATTENTION_MEDIUM,
    ATTENTION_CAPACITY,
    ATTENTIONS
};
enum { SECTOR = 512, CD_SECTOR = 2048, SAME_MAX = 0x3fffff /* blocks */ };
enum { FUA = 8, SAME_UNMAP = 8, WRITE_CACHE = 4, DPO_FUA = 0x10 }; /* bits of commands and pages */

/* The command ends with this sense data. */
void scsi_fail(struct scsi_unit *u, struct scsi_command *c, unsigned key, unsigned code);
/* It ends with so many bytes of c->reply, if the guest said that it has room for them. */
void scsi_answer(struct scsi_command *c, unsigned size, unsigned room);
bool scsi_ready(const struct scsi_unit *u);
uint64_t scsi_sectors(const struct scsi_unit *u);

/* scsi_optical.c */
void scsi_optical(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c);
void scsi_start_stop(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c);

#endif
