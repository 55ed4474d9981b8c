/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: the input is a driver of a SCSI unit, a disk or an optical drive, with any commands
 * in any order while media come and go. What the unit asks of its bus lies within the medium, and
 * no command writes where none may.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"
#include "block/block.h"
#include "devices/rig.h"
#include "devices/scsi.h"
#include "fuzz/memory_path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MEDIUM = 300 * 2048 + 512, STEPS = 300 }; /* a disc's last sector is not all there */

static struct block *writable, *readonly;
static struct choices input;

static void check(bool good) {
    if (!good)
        abort();
}

static struct block *open_medium(struct loop *loop, bool is_readonly) {
    char path[MEMORY_PATH];
    int fd = memory_path(NULL, 0, path);
    struct block_options o = {.path = path, .format = "raw", .readonly = is_readonly};
    struct block *b;

    check(ftruncate(fd, MEDIUM) == 0);
    b = block_open(loop, &o, NULL);
    close(fd);
    check(b);
    return b;
}

static void make_media(void) {
    struct loop *loop = loop_new(NULL, NULL);

    check(loop);
    writable = open_medium(loop, false);
    readonly = open_medium(loop, true);
}

/* ---- what the unit asks for ---- */

static bool may_write(const struct scsi_unit *u) {
    return u->block && !u->cdrom && !block_info(u->block)->readonly;
}

static bool lies_within(const struct scsi_unit *u, uint64_t offset, uint64_t length) {
    uint64_t size = u->block ? block_info(u->block)->size : 0;

    return offset % 512 == 0 && length % 512 == 0 && length && offset <= size &&
           length <= size - offset;
}

static void check_command(const struct scsi_unit *u, const struct scsi_command *c) {
    if (c->status != SCSI_GOOD) {
        check(c->status == SCSI_CHECK_CONDITION && c->kind == SCSI_REPLY && !c->reply_size &&
              u->key);
        return;
    }
    switch (c->kind) {
    case SCSI_REPLY:
        check(c->reply_size <= SCSI_REPLY_MAX);
        break;
    case SCSI_READ:
        check(lies_within(u, c->offset, c->length) && !u->open);
        break;
    case SCSI_WRITE:
    case SCSI_PATTERN:
        check(lies_within(u, c->offset, c->length) && may_write(u));
        break;
    case SCSI_FLUSH:
        check(u->block && !u->cdrom);
        break;
    case SCSI_DATA_OUT:
        check(c->length && c->length <= UINT16_MAX);
        break;
    case SCSI_DISCARD:
    case SCSI_ZERO:
        check(may_write(u) && c->ranges && c->ranges <= SCSI_RANGES);
        for (unsigned i = 0; i < c->ranges; i++)
            check(lies_within(u, c->range[i].offset, c->range[i].length));
        break;
    }
}

/* ---- the driver ---- */

/* What the bus has of a parameter list may be shorter than the command said. */
static void send_data(struct scsi_unit *u, const uint8_t *cdb, struct scsi_command *c) {
    size_t n = choices_draw(&input, 1) & 1 ? (size_t)c->length
                                           : (size_t)(choices_draw(&input, 1) % (c->length + 1));
    uint8_t *p = malloc(n + !n);

    check(p);
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)choices_draw(&input, 1);
    scsi_data(u, cdb, p, n, c);
    free(p);
    check(c->kind != SCSI_DATA_OUT);
    check_command(u, c);
}

static void send_command(struct scsi_unit *u) {
    uint8_t cdb[SCSI_CDB_SIZE], sense[SCSI_SENSE_SIZE];
    struct scsi_command *c = malloc(sizeof(*c));
    bool writes;

    check(c);
    for (unsigned i = 0; i < SCSI_CDB_SIZE; i++)
        cdb[i] = (uint8_t)choices_draw(&input, 1);
    scsi_begin(u, cdb, c);
    check_command(u, c);
    if (c->kind == SCSI_DATA_OUT)
        send_data(u, cdb, c);
    writes = c->kind == SCSI_WRITE || c->kind == SCSI_PATTERN;
    if (c->kind != SCSI_REPLY && choices_draw(&input, 1) % 8 == 0) {
        check(scsi_end(u, writes, -EIO) == SCSI_CHECK_CONDITION);
        check(u->key);
    } else if (c->kind != SCSI_REPLY) {
        check(scsi_end(u, writes, 0) == SCSI_GOOD);
    }
    scsi_sense(u, sense);
    check((sense[2] & 0xf) == u->key && sense[12] == u->asc && sense[13] == u->ascq);
    free(c);
}

static void step(struct scsi_unit *u) {
    static struct block *const none = NULL;

    switch (choices_draw(&input, 1) % 16) {
    case 0:
        if (u->cdrom)
            scsi_change_medium(u, choices_draw(&input, 1) & 1 ? readonly : none);
        break;
    case 1:
        scsi_reset(u);
        break;
    case 2:
        scsi_capacity_changed(u);
        break;
    default:
        send_command(u);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct scsi_unit u = {0};
    unsigned kind;

    if (!writable)
        make_media();
    input = (struct choices){.p = data, .left = size};
    kind = (unsigned)choices_draw(&input, 1);
    u.cdrom = kind & 1;
    u.block = kind & 2 ? (u.cdrom ? NULL : readonly) : u.cdrom ? readonly : writable;
    memcpy(u.serial, "01234567890123456789", kind & 4 ? 20 : 0);
    scsi_reset(&u);
    for (unsigned i = 0; i < STEPS && input.left; i++)
        step(&u);
    return 0;
}
