/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SCSI units. Source: SPC-4 (INQUIRY, sense data), SBC-3 (disks, UNMAP), MMC-6 (optical drives).
 *
 * A command either answers with bytes of its own, which the guest's buffer may cut short, or names
 * a transfer. After a reset and a change of the medium the first command (but INQUIRY, REQUEST
 * SENSE and the like) is refused with a unit attention.
 */
#include "devices/scsi.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "block/block.h"
#include "devices/scsi_internal.h"

static unsigned sector_size(const struct scsi_unit *u) { return u->cdrom ? CD_SECTOR : SECTOR; }

bool scsi_ready(const struct scsi_unit *u) { return u->block && !u->open; }

/* A last block that is not all there can be read as far as it goes: it does not count. */
uint64_t scsi_sectors(const struct scsi_unit *u) {
    return u->block ? block_info(u->block)->size / sector_size(u) : 0;
}

void scsi_fail(struct scsi_unit *u, struct scsi_command *c, unsigned key, unsigned code) {
    u->key = (uint8_t)key;
    u->asc = (uint8_t)(code >> 8);
    u->ascq = (uint8_t)code;
    c->kind = SCSI_REPLY;
    c->reply_size = 0;
    c->status = SCSI_CHECK_CONDITION;
}

static void not_ready(struct scsi_unit *u, struct scsi_command *c) {
    scsi_fail(u, c, KEY_NOT_READY, u->open ? NO_MEDIUM_OPEN : NO_MEDIUM);
}

void scsi_answer(struct scsi_command *c, unsigned size, unsigned room) {
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
        memcpy(r + 4, "\0\x80\x83\xb0\xb1\xb2", 6);
        r[3] = u->cdrom ? 3 : 6;
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
    case 0xb1: /* does not rotate */
        r[3] = 0x3c;
        r[5] = 1;
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
            scsi_answer(c, n, room);
        else
            scsi_fail(u, c, KEY_ILLEGAL, BAD_FIELD);
        return;
    }
    if (cdb[2]) {
        scsi_fail(u, c, KEY_ILLEGAL, BAD_FIELD);
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
    scsi_answer(c, 36, room);
}

static void read_capacity(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    uint64_t last = scsi_sectors(u) ? scsi_sectors(u) - 1 : 0;

    if (cdb[0] == READ_CAPACITY_10) {
        store_be32(c->reply, last > UINT32_MAX ? UINT32_MAX : (uint32_t)last);
        store_be32(c->reply + 4, sector_size(u));
        scsi_answer(c, 8, 8);
        return;
    }
    store_be64(c->reply, last);
    store_be32(c->reply + 8, sector_size(u));
    if (!u->cdrom) {
        c->reply[13] = 3;    /* physical blocks of 4 KiB */
        c->reply[14] = 0x80; /* thin */
    }
    scsi_answer(c, 32, load_be32(cdb + 10));
}

/* Pages that drivers ask for: caching (08), CD capabilities (2a). What of them can be changed is
 * the write cache. */
static unsigned mode_pages(const struct scsi_unit *u, unsigned page, bool changeable, uint8_t *r) {
    unsigned n = 0;

    if (!u->cdrom && (page == 8 || page == 0x3f)) {
        r[0] = 8;
        r[1] = 18;
        r[2] = changeable || u->write_cache ? WRITE_CACHE : 0;
        n = 20;
    }
    if (u->cdrom && (page == 0x2a || page == 0x3f)) {
        r[n] = 0x2a;
        r[n + 1] = 18;
        if (!changeable) {
            r[n + 2] = 0x3b; /* reads CD-R, CD-RW, DVD */
            r[n + 4] = 0x71;
            r[n + 6] = (uint8_t)(0x29 | (u->locked ? 2 : 0)); /* tray, can lock, can eject */
            store_be16(r + n + 8, 706 * 16);
            store_be16(r + n + 12, 512);
            store_be16(r + n + 14, 706 * 16);
        }
        n += 20;
    }
    return n;
}

static void mode_sense(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    bool six = cdb[0] == MODE_SENSE_6;
    unsigned head = six ? 4 : 8, room = six ? cdb[4] : load_be16(cdb + 7);
    unsigned control = cdb[2] >> 6; /* current, changeable, default, saved values */
    unsigned n = mode_pages(u, cdb[2] & 0x3f, control == 1, c->reply + head);
    uint8_t device = u->cdrom ? 0 : DPO_FUA;

    if (!n || control == 3) {
        scsi_fail(u, c, KEY_ILLEGAL, n ? NO_SAVING : BAD_FIELD);
        return;
    }
    if (u->block && block_info(u->block)->readonly && !u->cdrom)
        device |= 0x80;
    if (six) {
        c->reply[0] = (uint8_t)(head + n - 1);
        c->reply[2] = device;
    } else {
        store_be16(c->reply, (uint16_t)(head + n - 2));
        c->reply[3] = device;
    }
    scsi_answer(c, head + n, room);
}

static void mode_select(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    unsigned length = cdb[0] == MODE_SELECT_6 ? cdb[4] : load_be16(cdb + 7);

    if (u->cdrom || !length)
        return; /* nothing of a drive can be changed */
    if (cdb[1] & 1) {
        scsi_fail(u, c, KEY_ILLEGAL, BAD_FIELD); /* saves nothing */
        return;
    }
    c->kind = SCSI_DATA_OUT;
    c->length = length;
}

/* Header, block descriptors, pages: only the caching page, only its write cache. */
static void mode_data(struct scsi_unit *u, bool six, const uint8_t *d, size_t n,
                      struct scsi_command *c) {
    size_t at = six ? 4 : 8;
    int write_cache = -1;

    if (n < at) {
        scsi_fail(u, c, KEY_ILLEGAL, BAD_LENGTH);
        return;
    }
    for (at += six ? d[3] : load_be16(d + 6); at < n; at += 2u + d[at + 1]) {
        uint8_t page[64] = {0};

        if (n - at < 2 || n - at < 2u + d[at + 1]) {
            scsi_fail(u, c, KEY_ILLEGAL, BAD_LENGTH);
            return;
        }
        if ((d[at] & 0x7f) != 8 || d[at + 1] != 18) {
            scsi_fail(u, c, KEY_ILLEGAL, BAD_LIST);
            return;
        }
        mode_pages(u, 8, false, page);
        if ((d[at + 2] | WRITE_CACHE) != (page[2] | WRITE_CACHE) ||
            memcmp(d + at + 3, page + 3, 17) != 0) {
            scsi_fail(u, c, KEY_ILLEGAL, BAD_LIST);
            return;
        }
        write_cache = (d[at + 2] & WRITE_CACHE) != 0;
    }
    if (write_cache >= 0)
        u->write_cache = write_cache;
}

/* ---- transfers ---- */

static void decode(const uint8_t *cdb, uint64_t *ret_lba, uint64_t *ret_count) {
    switch (cdb[0]) {
    case READ_6:
    case WRITE_6:
        *ret_lba = load_be32(cdb) & 0x1fffff;
        *ret_count = cdb[4] ? cdb[4] : 256;
        break;
    case READ_12:
    case WRITE_12:
        *ret_lba = load_be32(cdb + 2);
        *ret_count = load_be32(cdb + 6);
        break;
    case READ_16:
    case WRITE_16:
    case WRITE_SAME_16:
    case VERIFY_16:
        *ret_lba = load_be64(cdb + 2);
        *ret_count = load_be32(cdb + 10);
        break;
    default:
        *ret_lba = load_be32(cdb + 2);
        *ret_count = load_be16(cdb + 7);
    }
}

static bool in_range(const struct scsi_unit *u, uint64_t lba, uint64_t count) {
    return lba <= scsi_sectors(u) && count <= scsi_sectors(u) - lba;
}

static bool may_write(struct scsi_unit *u, struct scsi_command *c) {
    if (!u->cdrom && !block_info(u->block)->readonly)
        return true;
    scsi_fail(u, c, KEY_PROTECT, WRITE_PROTECTED);
    return false;
}

static void transfer(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c,
                     enum scsi_kind kind) {
    uint64_t lba, count;

    decode(cdb, &lba, &count);
    if (!in_range(u, lba, count)) {
        scsi_fail(u, c, KEY_ILLEGAL, BAD_ADDRESS);
        return;
    }
    if (kind == SCSI_WRITE && !may_write(u, c))
        return;
    if (!count)
        return;
    c->kind = kind;
    c->offset = lba * sector_size(u);
    c->length = count * sector_size(u);
    c->flush = kind == SCSI_WRITE && (!u->write_cache || (cdb[0] != WRITE_6 && (cdb[1] & FUA)));
}

/* Whether the medium can be read is not looked at; what the guest sends is not compared. */
static void verify(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    uint64_t lba, count;

    decode(cdb, &lba, &count);
    if (cdb[1] & 6)
        scsi_fail(u, c, KEY_ILLEGAL, BAD_FIELD);
    else if (!in_range(u, lba, count))
        scsi_fail(u, c, KEY_ILLEGAL, BAD_ADDRESS);
}

static void zero(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    c->kind = SCSI_ZERO;
    c->unmap = cdb[1] & SAME_UNMAP;
    c->flush = !u->write_cache;
    c->ranges = 1;
    c->range[0].offset = c->offset;
    c->range[0].length = c->length;
}

/* WRITE SAME: a block that the guest sends, unless it says that it is zero. */
static void write_same(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    bool no_data = cdb[0] == WRITE_SAME_16 && (cdb[1] & 1);
    uint64_t lba, count;

    decode(cdb, &lba, &count);
    if (!may_write(u, c))
        return;
    if (!count)
        count = scsi_sectors(u) - (lba < scsi_sectors(u) ? lba : scsi_sectors(u));
    if ((cdb[1] & ~(SAME_UNMAP | 1)) || (cdb[1] & 1 && cdb[0] == WRITE_SAME_10) || count > SAME_MAX)
        scsi_fail(u, c, KEY_ILLEGAL, BAD_FIELD);
    else if (!in_range(u, lba, count))
        scsi_fail(u, c, KEY_ILLEGAL, BAD_ADDRESS);
    else if (count) {
        c->offset = lba * SECTOR;
        c->length = count * SECTOR;
        if (no_data) {
            zero(u, cdb, c);
            return;
        }
        c->kind = SCSI_DATA_OUT;
        c->length = SECTOR;
    }
}

static void same_data(struct scsi_unit *u, const uint8_t *cdb, const uint8_t *block, size_t n,
                      struct scsi_command *c) {
    uint64_t lba, count;

    decode(cdb, &lba, &count);
    if (!count)
        count = scsi_sectors(u) - lba;
    c->offset = lba * SECTOR;
    c->length = count * SECTOR;
    if (n < SECTOR) {
        scsi_fail(u, c, KEY_ILLEGAL, BAD_LENGTH);
    } else if (!block[0] && !memcmp(block, block + 1, SECTOR - 1)) {
        zero(u, cdb, c);
    } else {
        c->kind = SCSI_PATTERN;
        c->flush = !u->write_cache;
        memcpy(c->reply, block, SECTOR);
    }
}

static void unmap(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    if (u->cdrom || cdb[1] & 1)
        scsi_fail(u, c, KEY_ILLEGAL, u->cdrom ? BAD_OPCODE : BAD_FIELD);
    else if (may_write(u, c) && load_be16(cdb + 7)) {
        c->kind = SCSI_DATA_OUT;
        c->length = load_be16(cdb + 7);
    }
}

static void unmap_ranges(struct scsi_unit *u, const uint8_t *list, size_t n,
                         struct scsi_command *c) {
    size_t size = n >= 8 ? load_be16(list + 2) : 0;

    c->kind = SCSI_DISCARD;
    c->ranges = 0;
    if (n < 8 || size > n - 8 || size / 16 > SCSI_RANGES) {
        scsi_fail(u, c, KEY_ILLEGAL, BAD_LIST);
        return;
    }
    for (size_t at = 8; at + 16 <= 8 + size; at += 16) {
        uint64_t lba = load_be64(list + at), count = load_be32(list + at + 8);

        if (!in_range(u, lba, count)) {
            scsi_fail(u, c, KEY_ILLEGAL, BAD_ADDRESS);
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

void scsi_data(struct scsi_unit *u, const uint8_t *cdb, const uint8_t *data, size_t n,
               struct scsi_command *c) {
    c->kind = SCSI_REPLY;
    switch (cdb[0]) {
    case UNMAP:
        unmap_ranges(u, data, n, c);
        break;
    case WRITE_SAME_10:
    case WRITE_SAME_16:
        same_data(u, cdb, data, n, c);
        break;
    default:
        mode_data(u, cdb[0] == MODE_SELECT_6, data, n, c);
    }
}

enum scsi_status scsi_end(struct scsi_unit *u, bool write, int result) {
    struct scsi_command ignored;

    if (result == 0)
        return SCSI_GOOD;
    if (result == -ENOSPC || result == -EDQUOT)
        scsi_fail(u, &ignored, KEY_PROTECT, NO_SPACE);
    else if (result == -EOPNOTSUPP)
        scsi_fail(u, &ignored, KEY_ILLEGAL, BAD_OPCODE);
    else
        scsi_fail(u, &ignored, KEY_MEDIUM_ERROR, write ? WRITE_ERROR : READ_ERROR);
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
           op == UNMAP || op == WRITE_SAME_10 || op == WRITE_SAME_16 || op == VERIFY_10 ||
           op == VERIFY_16;
}

static void execute(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    switch (cdb[0]) {
    case TEST_UNIT_READY:
    case SEEK_10:
        break;
    case VERIFY_10:
    case VERIFY_16:
        verify(u, cdb, c);
        break;
    case MODE_SELECT_6:
    case MODE_SELECT_10:
        mode_select(u, cdb, c);
        break;
    case INQUIRY:
        inquiry(u, cdb, c);
        break;
    case MODE_SENSE_6:
    case MODE_SENSE_10:
        mode_sense(u, cdb, c);
        break;
    case START_STOP:
        scsi_start_stop(u, cdb, c);
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
            scsi_fail(u, c, KEY_ILLEGAL, BAD_FIELD);
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
        scsi_optical(u, cdb, c);
    }
}

static const uint16_t attention_code[ATTENTIONS] = {[ATTENTION_RESET] = WAS_RESET,
                                                    [ATTENTION_MEDIUM] = MEDIUM_CHANGED,
                                                    [ATTENTION_CAPACITY] = CAPACITY_CHANGED};

void scsi_begin(struct scsi_unit *u, const uint8_t cdb[SCSI_CDB_SIZE], struct scsi_command *c) {
    *c = (struct scsi_command){.kind = SCSI_REPLY};
    if (cdb[0] == REQUEST_SENSE) {
        scsi_sense(u, c->reply);
        u->key = u->asc = u->ascq = 0;
        scsi_answer(c, SCSI_SENSE_SIZE, cdb[4]);
        return;
    }
    if (u->attention && !always(cdb[0])) {
        scsi_fail(u, c, KEY_ATTENTION, attention_code[u->attention]);
        u->attention = ATTENTION_NONE;
        return;
    }
    u->key = u->asc = u->ascq = 0;
    if (needs_medium(cdb[0]) && !scsi_ready(u))
        not_ready(u, c);
    else
        execute(u, cdb, c);
}

void scsi_begin_absent(struct scsi_unit *scratch, const uint8_t *cdb, struct scsi_command *c) {
    static const uint8_t nobody[36] = {0x7f, 0, 5, 2, 31};

    *scratch = (struct scsi_unit){0};
    *c = (struct scsi_command){.kind = SCSI_REPLY};
    if (cdb[0] != INQUIRY || cdb[1] & 1) {
        scsi_fail(scratch, c, KEY_ILLEGAL, NO_UNIT);
        return;
    }
    memcpy(c->reply, nobody, sizeof(nobody));
    scsi_answer(c, sizeof(nobody), load_be16(cdb + 3));
}

void scsi_reset(struct scsi_unit *u) {
    u->key = u->asc = u->ascq = 0;
    u->attention = ATTENTION_RESET;
    u->locked = u->open = false;
    u->write_cache = true;
    u->media_event = u->eject_event = false;
}

void scsi_capacity_changed(struct scsi_unit *u) {
    if (!u->attention)
        u->attention = ATTENTION_CAPACITY;
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
    .version = 2,
    .struct_size = sizeof(struct scsi_unit),
    .fields =
        (const struct state_field[]){
            STATE(struct scsi_unit, key), STATE(struct scsi_unit, asc),
            STATE(struct scsi_unit, ascq), STATE_MAX(struct scsi_unit, attention, ATTENTIONS - 1),
            STATE(struct scsi_unit, locked), STATE(struct scsi_unit, open),
            STATE(struct scsi_unit, media_event), STATE(struct scsi_unit, eject_event),
            STATE_SINCE(struct scsi_unit, write_cache, 2), STATE_END},
};
