/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SCSI units. Source: SPC-4 (INQUIRY, sense data), SBC-3 (disks, UNMAP), MMC-6 (optical drives).
 *
 * A command either answers with bytes of its own, which the guest's buffer may cut short, or names
 * a transfer. After a reset and a change of the medium the first command (but INQUIRY, REQUEST
 * SENSE and the like) is refused with a unit attention.
 */
#include "devices/scsi.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "block/block.h"

// clang-format off
enum {
    TEST_UNIT_READY = 0x00, REQUEST_SENSE = 0x03, READ_6 = 0x08, WRITE_6 = 0x0a, INQUIRY = 0x12,
    MODE_SELECT_6 = 0x15, MODE_SENSE_6 = 0x1a, START_STOP = 0x1b, PREVENT_ALLOW = 0x1e,
    READ_CAPACITY_10 = 0x25, READ_10 = 0x28, WRITE_10 = 0x2a, SEEK_10 = 0x2b, VERIFY_10 = 0x2f,
    SYNCHRONIZE_10 = 0x35, WRITE_SAME_10 = 0x41, UNMAP = 0x42, READ_TOC = 0x43,
    GET_CONFIGURATION = 0x46, GET_EVENT_STATUS = 0x4a, READ_DISC_INFORMATION = 0x51,
    READ_TRACK_INFORMATION = 0x52, MODE_SENSE_10 = 0x5a, READ_16 = 0x88, WRITE_16 = 0x8a,
    SYNCHRONIZE_16 = 0x91, WRITE_SAME_16 = 0x93, SERVICE_IN_16 = 0x9e, REPORT_LUNS = 0xa0,
    READ_12 = 0xa8, WRITE_12 = 0xaa, SET_CD_SPEED = 0xbb, MECHANISM_STATUS = 0xbd,
};
enum { /* sense keys, and additional codes with their qualifiers */
    KEY_NONE = 0, KEY_NOT_READY = 2, KEY_MEDIUM_ERROR = 3, KEY_ILLEGAL = 5, KEY_ATTENTION = 6,
    KEY_PROTECT = 7,
    NO_MEDIUM = 0x3a00, NO_MEDIUM_OPEN = 0x3a02, BAD_OPCODE = 0x2000, BAD_ADDRESS = 0x2100,
    BAD_FIELD = 0x2400, BAD_LIST = 0x2600, WRITE_PROTECTED = 0x2700, MEDIUM_CHANGED = 0x2800,
    WAS_RESET = 0x2900, READ_ERROR = 0x1100, WRITE_ERROR = 0x0c00, LOCKED = 0x5302, CAPACITY = 0x2a09,
};
// clang-format on
enum scsi_attention { ATTENTION_NONE, ATTENTION_RESET, ATTENTION_MEDIUM, ATTENTIONS };
enum { SECTOR = 512, CD_SECTOR = 2048 };

static unsigned sector_size(const struct scsi_unit *u) { return u->cdrom ? CD_SECTOR : SECTOR; }

static bool ready(const struct scsi_unit *u) { return u->block && !u->open; }

/* A last block that is not all there can be read as far as it goes: it does not count. */
static uint64_t sectors(const struct scsi_unit *u) {
    return u->block ? block_info(u->block)->size / sector_size(u) : 0;
}

static void fail(struct scsi_unit *u, struct scsi_command *c, unsigned key, unsigned code) {
    u->key = (uint8_t)key;
    u->asc = (uint8_t)(code >> 8);
    u->ascq = (uint8_t)code;
    c->kind = SCSI_REPLY;
    c->reply_size = 0;
    c->status = SCSI_CHECK_CONDITION;
}

static void not_ready(struct scsi_unit *u, struct scsi_command *c) {
    fail(u, c, KEY_NOT_READY, u->open ? NO_MEDIUM_OPEN : NO_MEDIUM);
}

static void answer(struct scsi_command *c, unsigned size, unsigned room) {
    c->reply_size = size < room ? size : room;
}

void scsi_sense(const struct scsi_unit *u, uint8_t s[SCSI_SENSE_SIZE]) {
    memset(s, 0, SCSI_SENSE_SIZE);
    s[0] = 0x70;
    s[2] = u->key;
    s[7] = 10;
    s[12] = u->asc;
    s[13] = u->ascq;
}

/* ---- what the unit is ---- */

static void put_text(uint8_t *to, unsigned n, const char *text) {
    for (unsigned i = 0; i < n; i++)
        to[i] = (uint8_t)(*text ? *text++ : ' ');
}

static unsigned vital_product(struct scsi_unit *u, unsigned page, uint8_t *r) {
    unsigned n = (unsigned)strlen(u->serial);

    r[0] = u->cdrom ? 5 : 0;
    r[1] = (uint8_t)page;
    switch (page) {
    case 0x00:
        memcpy(r + 4, u->cdrom ? "\0\x80\x83" : "\0\x80\x83\xb0\xb2", u->cdrom ? 3 : 5);
        r[3] = u->cdrom ? 3 : 5;
        return 4u + r[3];
    case 0x80:
        put_text(r + 4, n, u->serial);
        r[3] = (uint8_t)n;
        return 4 + n;
    case 0x83: /* T10 vendor identification */
        r[4] = 2;
        r[5] = 1;
        r[7] = (uint8_t)(8 + n);
        put_text(r + 8, 8, "VIVARIUM");
        put_text(r + 16, n, u->serial);
        r[3] = (uint8_t)(12 + n);
        return 16 + n;
    case 0xb0: /* block limits */
        r[3] = 0x3c;
        store_be32(r + 8, 0x10000);      /* blocks a transfer */
        store_be32(r + 20, 0x3fffff);    /* blocks that UNMAP takes ... */
        store_be32(r + 24, SCSI_RANGES); /* ... in that many ranges */
        store_be32(r + 28, 8);           /* 4 KiB: smaller holes free nothing */
        store_be64(r + 36, 0x3fffff);    /* of WRITE SAME */
        return 64;
    case 0xb2: /* thin provisioning: UNMAP, WRITE SAME with UNMAP */
        r[3] = 4;
        r[5] = 0xe0;
        r[6] = 2;
        return 8;
    default:
        return 0;
    }
}

static void inquiry(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    unsigned room = load_be16(cdb + 3), n;
    uint8_t *r = c->reply;

    if (cdb[1] & 1) {
        if (u->cdrom && cdb[2] > 0x83)
            n = 0;
        else
            n = vital_product(u, cdb[2], r);
        if (n)
            answer(c, n, room);
        else
            fail(u, c, KEY_ILLEGAL, BAD_FIELD);
        return;
    }
    if (cdb[2]) {
        fail(u, c, KEY_ILLEGAL, BAD_FIELD);
        return;
    }
    r[0] = u->cdrom ? 5 : 0;
    r[1] = u->cdrom ? 0x80 : 0; /* removable */
    r[2] = 5;
    r[3] = u->cdrom ? 0x21 : 0x02; /* response data format 2 */
    r[4] = 31;
    r[7] = u->cdrom ? 0 : 2; /* command queueing */
    put_text(r + 8, 8, "VIVARIUM");
    put_text(r + 16, 16, u->cdrom ? "CD-ROM" : "DISK");
    put_text(r + 32, 4, "1.0");
    answer(c, 36, room);
}

static void read_capacity(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    uint64_t last = sectors(u) ? sectors(u) - 1 : 0;

    if (cdb[0] == READ_CAPACITY_10) {
        store_be32(c->reply, last > UINT32_MAX ? UINT32_MAX : (uint32_t)last);
        store_be32(c->reply + 4, sector_size(u));
        answer(c, 8, 8);
        return;
    }
    store_be64(c->reply, last);
    store_be32(c->reply + 8, sector_size(u));
    if (!u->cdrom) {
        c->reply[13] = 3;    /* physical blocks of 4 KiB */
        c->reply[14] = 0x80; /* thin */
    }
    answer(c, 32, load_be32(cdb + 10));
}

/* Pages that drivers ask for: caching (08), CD capabilities (2a). */
static unsigned mode_pages(const struct scsi_unit *u, unsigned page, uint8_t *r) {
    unsigned n = 0;

    if (!u->cdrom && (page == 8 || page == 0x3f)) {
        r[0] = 8;
        r[1] = 18;
        r[2] = 4; /* write cache */
        n = 20;
    }
    if (u->cdrom && (page == 0x2a || page == 0x3f)) {
        r[n] = 0x2a;
        r[n + 1] = 18;
        r[n + 2] = 0x3b; /* reads CD-R, CD-RW, DVD */
        r[n + 4] = 0x71;
        r[n + 6] = (uint8_t)(0x29 | (u->locked ? 2 : 0)); /* tray, can lock, can eject */
        store_be16(r + n + 8, 706 * 16);
        store_be16(r + n + 12, 512);
        store_be16(r + n + 14, 706 * 16);
        n += 20;
    }
    return n;
}

static void mode_sense(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    bool six = cdb[0] == MODE_SENSE_6;
    unsigned head = six ? 4 : 8, room = six ? cdb[4] : load_be16(cdb + 7);
    unsigned n = mode_pages(u, cdb[2] & 0x3f, c->reply + head);
    uint8_t protect = u->block && block_info(u->block)->readonly && !u->cdrom ? 0x80 : 0;

    if (!n) {
        fail(u, c, KEY_ILLEGAL, BAD_FIELD);
        return;
    }
    if (six) {
        c->reply[0] = (uint8_t)(head + n - 1);
        c->reply[2] = protect;
    } else {
        store_be16(c->reply, (uint16_t)(head + n - 2));
        c->reply[3] = protect;
    }
    answer(c, head + n, room);
}

/* ---- optical drives ---- */

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
        put_address(r + n + 4, msf, (uint32_t)sectors(u));
        n += 8;
    } else {
        fail(u, c, KEY_ILLEGAL, BAD_FIELD);
        return;
    }
    store_be16(r, (uint16_t)(n - 2));
    answer(c, n, room);
}

/* Profiles CD-ROM and DVD-ROM, of which the medium's size chooses one; core and morphing. */
static void get_configuration(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    static const uint8_t features[] = {
        0, 0,    3, 8, 0,    0x10, 0, 0, 0, 8, 0, 0, /* profile list */
        0, 1,    7, 4, 0,    0,    0, 2,             /* core: ATAPI */
        0, 3,    3, 4, 0x29, 0,    0, 0,             /* removable medium: tray */
        0, 0x10, 1, 8, 0,    0,    8, 0, 0, 1, 0, 0, /* random readable */
    };
    unsigned profile = !ready(u) ? 0 : sectors(u) > 450000 ? 0x10 : 8;
    uint8_t *r = c->reply;

    memcpy(r + 8, features, sizeof(features));
    store_be16(r + 6, (uint16_t)profile);
    r[8 + 6] = profile == 0x10;
    r[8 + 10] = profile == 8;
    store_be32(r, 4 + sizeof(features));
    answer(c, 8 + sizeof(features), load_be16(cdb + 7));
}

static void get_event_status(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    uint8_t *r = c->reply;

    if (!(cdb[1] & 1)) {
        fail(u, c, KEY_ILLEGAL, BAD_FIELD);
        return;
    }
    if (!(cdb[4] & 0x10)) {
        r[1] = 2;
        r[2] = 0x80; /* no event of a class that was asked for */
        r[3] = 0x10;
        answer(c, 4, load_be16(cdb + 7));
        return;
    }
    r[1] = 6;
    r[2] = 4;
    r[3] = 0x10;
    r[4] = u->eject_event ? 1 : u->media_event ? 2 : 0;
    r[5] = (uint8_t)((u->open ? 1 : 0) | (u->block && !u->open ? 2 : 0));
    u->eject_event = u->media_event = false;
    answer(c, 8, load_be16(cdb + 7));
}

static void read_disc_information(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    static const uint8_t info[34] = {0, 32, 0x0e, 1, 1, 1, 1, 0x20};

    if (cdb[1] & 7) {
        fail(u, c, KEY_ILLEGAL, BAD_FIELD);
        return;
    }
    memcpy(c->reply, info, sizeof(info));
    answer(c, sizeof(info), load_be16(cdb + 7));
}

static void start_stop(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    bool load_eject = cdb[4] & 2, start = cdb[4] & 1;

    if (!u->cdrom || !load_eject)
        return;
    if (start) {
        u->open = false;
        return;
    }
    if (u->locked) {
        fail(u, c, u->block ? KEY_ILLEGAL : KEY_NOT_READY, LOCKED);
        return;
    }
    if (!u->open && u->ejected)
        u->ejected(u->opaque);
    u->open = true;
}

/* ---- transfers ---- */

static bool decode(const uint8_t *cdb, uint64_t *ret_lba, uint64_t *ret_count) {
    switch (cdb[0]) {
    case READ_6:
    case WRITE_6:
        *ret_lba = load_be32(cdb) & 0x1fffff;
        *ret_count = cdb[4] ? cdb[4] : 256;
        return true;
    case READ_12:
    case WRITE_12:
        *ret_lba = load_be32(cdb + 2);
        *ret_count = load_be32(cdb + 6);
        return true;
    case READ_16:
    case WRITE_16:
    case WRITE_SAME_16:
        *ret_lba = load_be64(cdb + 2);
        *ret_count = load_be32(cdb + 10);
        return true;
    default:
        *ret_lba = load_be32(cdb + 2);
        *ret_count = load_be16(cdb + 7);
        return true;
    }
}

static bool in_range(const struct scsi_unit *u, uint64_t lba, uint64_t count) {
    return lba <= sectors(u) && count <= sectors(u) - lba;
}

static bool may_write(struct scsi_unit *u, struct scsi_command *c) {
    if (!u->cdrom && !block_info(u->block)->readonly)
        return true;
    fail(u, c, KEY_PROTECT, WRITE_PROTECTED);
    return false;
}

static void transfer(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c,
                     enum scsi_kind kind) {
    uint64_t lba, count;

    decode(cdb, &lba, &count);
    if (!in_range(u, lba, count)) {
        fail(u, c, KEY_ILLEGAL, BAD_ADDRESS);
        return;
    }
    if (kind == SCSI_WRITE && !may_write(u, c))
        return;
    if (!count)
        return;
    c->kind = kind;
    c->offset = lba * sector_size(u);
    c->length = count * sector_size(u);
    c->flush = kind == SCSI_WRITE && cdb[0] != WRITE_6 && (cdb[1] & 8); /* FUA */
}

/* Only zeros can be written: that is what it is used for. The data are not looked at if UNMAP or
 * "no data" is set; else they are refused. */
static void write_same(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    uint64_t lba, count;
    bool unmap = cdb[1] & 8, no_data = cdb[1] & 1;

    decode(cdb, &lba, &count);
    if (!count)
        count = sectors(u) - (lba < sectors(u) ? lba : sectors(u));
    if (!unmap && !no_data)
        fail(u, c, KEY_ILLEGAL, BAD_FIELD);
    else if (!in_range(u, lba, count))
        fail(u, c, KEY_ILLEGAL, BAD_ADDRESS);
    else if (may_write(u, c) && count) {
        c->kind = SCSI_ZERO;
        c->ranges = 1;
        c->range[0].offset = lba * SECTOR;
        c->range[0].length = count * SECTOR;
    }
}

static void unmap(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    if (u->cdrom)
        fail(u, c, KEY_ILLEGAL, BAD_OPCODE);
    else if (may_write(u, c) && load_be16(cdb + 7)) {
        c->kind = SCSI_RANGES_OUT;
        c->length = load_be16(cdb + 7);
    }
}

void scsi_ranges(struct scsi_unit *u, const uint8_t *list, size_t n, struct scsi_command *c) {
    size_t size = n >= 8 ? load_be16(list + 2) : 0;

    c->kind = SCSI_DISCARD;
    c->ranges = 0;
    if (n < 8 || size > n - 8 || size / 16 > SCSI_RANGES) {
        fail(u, c, KEY_ILLEGAL, BAD_LIST);
        return;
    }
    for (size_t at = 8; at + 16 <= 8 + size; at += 16) {
        uint64_t lba = load_be64(list + at), count = load_be32(list + at + 8);

        if (!in_range(u, lba, count)) {
            fail(u, c, KEY_ILLEGAL, BAD_ADDRESS);
            return;
        }
        if (!count)
            continue;
        c->range[c->ranges].offset = lba * SECTOR;
        c->range[c->ranges++].length = count * SECTOR;
    }
    if (!c->ranges)
        c->kind = SCSI_REPLY;
}

enum scsi_status scsi_end(struct scsi_unit *u, int result) {
    struct scsi_command ignored;

    if (result == 0)
        return SCSI_GOOD;
    fail(u, &ignored, KEY_MEDIUM_ERROR, READ_ERROR);
    return SCSI_CHECK_CONDITION;
}

/* ---- dispatch ---- */

/* Commands that work whatever has happened. */
static bool always(unsigned op) {
    return op == INQUIRY || op == REQUEST_SENSE || op == REPORT_LUNS || op == GET_EVENT_STATUS ||
           op == GET_CONFIGURATION;
}

static bool needs_medium(unsigned op) {
    return op == TEST_UNIT_READY || op == READ_CAPACITY_10 || op == SERVICE_IN_16 || op == READ_6 ||
           op == READ_10 || op == READ_12 || op == READ_16 || op == WRITE_6 || op == WRITE_10 ||
           op == WRITE_12 || op == WRITE_16 || op == READ_TOC || op == SEEK_10 ||
           op == READ_DISC_INFORMATION || op == SYNCHRONIZE_10 || op == SYNCHRONIZE_16 ||
           op == UNMAP || op == WRITE_SAME_10 || op == WRITE_SAME_16 || op == VERIFY_10;
}

static void mechanism_status(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    c->reply[1] = u->open ? 0x10 : 0;
    c->reply[5] = 1;
    answer(c, 8, load_be16(cdb + 8));
}

static void optical(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
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
        fail(u, c, KEY_ILLEGAL, BAD_OPCODE);
    }
}

static void execute(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    switch (cdb[0]) {
    case TEST_UNIT_READY:
    case SEEK_10:
    case VERIFY_10:
    case MODE_SELECT_6:
        break;
    case INQUIRY:
        inquiry(u, cdb, c);
        break;
    case MODE_SENSE_6:
    case MODE_SENSE_10:
        mode_sense(u, cdb, c);
        break;
    case START_STOP:
        start_stop(u, cdb, c);
        break;
    case PREVENT_ALLOW:
        u->locked = cdb[4] & 1;
        break;
    case READ_CAPACITY_10:
        read_capacity(u, cdb, c);
        break;
    case SERVICE_IN_16:
        if ((cdb[1] & 0x1f) == 0x10)
            read_capacity(u, cdb, c);
        else
            fail(u, c, KEY_ILLEGAL, BAD_FIELD);
        break;
    case READ_6:
    case READ_10:
    case READ_12:
    case READ_16:
        transfer(u, cdb, c, SCSI_READ);
        break;
    case WRITE_6:
    case WRITE_10:
    case WRITE_12:
    case WRITE_16:
        transfer(u, cdb, c, SCSI_WRITE);
        break;
    case SYNCHRONIZE_10:
    case SYNCHRONIZE_16:
        c->kind = u->cdrom ? SCSI_REPLY : SCSI_FLUSH;
        break;
    case UNMAP:
        unmap(u, cdb, c);
        break;
    case WRITE_SAME_10:
    case WRITE_SAME_16:
        write_same(u, cdb, c);
        break;
    default:
        optical(u, cdb, c);
    }
}

void scsi_begin(struct scsi_unit *u, const uint8_t cdb[SCSI_CDB_SIZE], struct scsi_command *c) {
    *c = (struct scsi_command){.kind = SCSI_REPLY};
    if (cdb[0] == REQUEST_SENSE) {
        scsi_sense(u, c->reply);
        u->key = u->asc = u->ascq = 0;
        answer(c, SCSI_SENSE_SIZE, cdb[4]);
        return;
    }
    if (u->attention && !always(cdb[0])) {
        fail(u, c, KEY_ATTENTION, u->attention == ATTENTION_RESET ? WAS_RESET : MEDIUM_CHANGED);
        u->attention = ATTENTION_NONE;
        return;
    }
    u->key = u->asc = u->ascq = 0;
    if (needs_medium(cdb[0]) && !ready(u))
        not_ready(u, c);
    else
        execute(u, cdb, c);
}

void scsi_reset(struct scsi_unit *u) {
    u->key = u->asc = u->ascq = 0;
    u->attention = ATTENTION_RESET;
    u->locked = u->open = false;
    u->media_event = u->eject_event = false;
}

void scsi_change_medium(struct scsi_unit *u, struct block *block) {
    u->block = block;
    u->open = false;
    if (block)
        u->attention = ATTENTION_MEDIUM;
    u->media_event = block != NULL;
    u->eject_event = block == NULL;
}

const struct state_desc scsi_unit_state = {
    .name = "scsi_unit",
    .version = 1,
    .struct_size = sizeof(struct scsi_unit),
    .fields =
        (const struct state_field[]){
            STATE(struct scsi_unit, key), STATE(struct scsi_unit, asc),
            STATE(struct scsi_unit, ascq), STATE_MAX(struct scsi_unit, attention, ATTENTIONS - 1),
            STATE(struct scsi_unit, locked), STATE(struct scsi_unit, open),
            STATE(struct scsi_unit, media_event), STATE(struct scsi_unit, eject_event), STATE_END},
};
