/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands of optical drives. Source: MMC-6. */
#include <string.h>

#include "base/bytes.h"
#include "devices/scsi_internal.h"

static void put_address(uint8_t *p, bool msf, uint32_t lba) {
    if (!msf) {
        store_be32(p, lba);
        return;
    }
    lba += 150;
    p[0] = 0;
    p[1] = (uint8_t)(lba / 75 / 60);
    p[2] = (uint8_t)(lba / 75 % 60);
    p[3] = (uint8_t)(lba % 75);
}

/* One data track and the lead-out. */
static void read_toc(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    unsigned format = cdb[2] & 0xf ? cdb[2] & 0xf : cdb[9] >> 6, room = load_be16(cdb + 7), n = 4;
    bool msf = cdb[1] & 2;
    uint8_t *r = c->reply;

    r[2] = r[3] = 1;
    if (format == 1) {
        r[5] = 0x14;
        r[6] = 1;
        put_address(r + 8, msf, 0);
        n = 12;
    } else if (format == 0 && (cdb[6] <= 1 || cdb[6] == 0xaa)) {
        if (cdb[6] <= 1) {
            r[n + 1] = 0x14;
            r[n + 2] = 1;
            put_address(r + n + 4, msf, 0);
            n += 8;
        }
        r[n + 1] = 0x14;
        r[n + 2] = 0xaa;
        put_address(r + n + 4, msf, (uint32_t)scsi_sectors(u));
        n += 8;
    } else {
        scsi_fail(u, c, KEY_ILLEGAL, BAD_FIELD);
        return;
    }
    store_be16(r, (uint16_t)(n - 2));
    scsi_answer(c, n, room);
}

/* Profiles CD-ROM and DVD-ROM, of which the medium's size chooses one; core and morphing. */
static void get_configuration(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    static const uint8_t features[] = {
        0, 0,    3, 8, 0,    0x10, 0, 0, 0, 8, 0, 0, /* profile list */
        0, 1,    7, 4, 0,    0,    0, 2,             /* core: ATAPI */
        0, 3,    3, 4, 0x29, 0,    0, 0,             /* removable medium: tray */
        0, 0x10, 1, 8, 0,    0,    8, 0, 0, 1, 0, 0, /* random readable */
    };
    unsigned profile = !scsi_ready(u) ? 0 : scsi_sectors(u) > 450000 ? 0x10 : 8;
    uint8_t *r = c->reply;

    memcpy(r + 8, features, sizeof(features));
    store_be16(r + 6, (uint16_t)profile);
    r[8 + 6] = profile == 0x10;
    r[8 + 10] = profile == 8;
    store_be32(r, 4 + sizeof(features));
    scsi_answer(c, 8 + sizeof(features), load_be16(cdb + 7));
}

static void get_event_status(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    uint8_t *r = c->reply;

    if (!(cdb[1] & 1)) {
        scsi_fail(u, c, KEY_ILLEGAL, BAD_FIELD);
        return;
    }
    if (!(cdb[4] & 0x10)) {
        r[1] = 2;
        r[2] = 0x80; /* no event of a class that was asked for */
        r[3] = 0x10;
        scsi_answer(c, 4, load_be16(cdb + 7));
        return;
    }
    r[1] = 6;
    r[2] = 4;
    r[3] = 0x10;
    r[4] = u->eject_event ? 1 : u->media_event ? 2 : 0;
    r[5] = (uint8_t)((u->open ? 1 : 0) | (u->block && !u->open ? 2 : 0));
    u->eject_event = u->media_event = false;
    scsi_answer(c, 8, load_be16(cdb + 7));
}

static void read_disc_information(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    static const uint8_t info[34] = {0, 32, 0x0e, 1, 1, 1, 1, 0x20};

    if (cdb[1] & 7) {
        scsi_fail(u, c, KEY_ILLEGAL, BAD_FIELD);
        return;
    }
    memcpy(c->reply, info, sizeof(info));
    scsi_answer(c, sizeof(info), load_be16(cdb + 7));
}

void scsi_start_stop(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    bool load_eject = cdb[4] & 2, start = cdb[4] & 1;

    if (!u->cdrom || !load_eject)
        return;
    if (start) {
        u->open = false;
        return;
    }
    if (u->locked) {
        scsi_fail(u, c, u->block ? KEY_ILLEGAL : KEY_NOT_READY, LOCKED);
        return;
    }
    if (!u->open && u->ejected)
        u->ejected(u->opaque);
    u->open = true;
}

static void mechanism_status(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    c->reply[1] = u->open ? 0x10 : 0;
    c->reply[5] = 1;
    scsi_answer(c, 8, load_be16(cdb + 8));
}

void scsi_optical(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    switch (u->cdrom ? cdb[0] : 0xff) {
    case READ_TOC:
        read_toc(u, cdb, c);
        break;
    case GET_CONFIGURATION:
        get_configuration(u, cdb, c);
        break;
    case GET_EVENT_STATUS:
        get_event_status(u, cdb, c);
        break;
    case READ_DISC_INFORMATION:
        read_disc_information(u, cdb, c);
        break;
    case MECHANISM_STATUS:
        mechanism_status(u, cdb, c);
        break;
    case SET_CD_SPEED:
        break;
    default:
        scsi_fail(u, c, KEY_ILLEGAL, BAD_OPCODE);
    }
}
