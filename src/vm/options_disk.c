/* SPDX-License-Identifier: GPL-2.0-or-later */
/* --disk and --cdrom. */
#include "vm/options_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "devices/virtio/virtio_blk.h"
#include "devices/virtio/virtio_scsi.h"

/* In the order of their enums. */
static const char *const cache_words[] = {"writeback", "none", "unsafe", NULL};
static const char *const engine_words[] = {"auto", "io_uring", "threads", NULL};
static const char *const bus_words[] = {"virtio", "sata", "scsi",
                                        "nvme",   "ide",  NULL}; /* enum machine_bus */
static const char *const discard_words[] = {"unmap", "ignore", NULL};
static const char *const error_words[] = {"enospc", "report", "pause", NULL};

/* iops=N, bps-read=SIZE and so on: where the limit stands, NULL if it is none. */
static uint64_t *find_limit(struct block_limits *l, const char *part, const char **ret_value) {
    static const char *const names[2][3] = {{"iops=", "iops-read=", "iops-write="},
                                            {"bps=", "bps-read=", "bps-write="}};

    for (unsigned what = 0; what < 2; what++)
        for (unsigned kind = 0; kind < 3; kind++)
            if (!strncmp(part, names[what][kind], strlen(names[what][kind]))) {
                *ret_value = part + strlen(names[what][kind]);
                return what ? &l->bps[kind] : &l->iops[kind];
            }
    return NULL;
}

static int set_limit(struct block_limits *l, const char *part, struct error *err) {
    const char *value = part;
    uint64_t *limit = find_limit(l, part, &value);
    unsigned long seconds;

    if (limit)
        return option_parse_size(value, limit, err);
    if (option_parse_number(part + strlen("burst="), 0, 3600, &seconds, err) < 0)
        return -EINVAL;
    l->burst_ns = seconds * 1000000000ull;
    return 0;
}

static bool is_limit(const char *part) {
    struct block_limits l;
    const char *value;

    return !strncmp(part, "burst=", 6) || find_limit(&l, part, &value);
}

static int set_queues(unsigned *queues, const char *value, struct error *err) {
    unsigned long n;

    if (option_parse_number(value, 1, VIRTIO_BLK_MAX_QUEUES, &n, err) < 0)
        return error_prefix(err, "queues=");
    *queues = (unsigned)n;
    return 0;
}

/* What udev makes the name of a link of, among others. */
static int set_disk_serial(struct options *o, const char *value, struct error *err) {
    size_t n = strlen(value);

    if (!n || n > VIRTIO_BLK_SERIAL ||
        strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != n)
        return error_set(err, -EINVAL,
                         "serial=: '%s' is no serial number: use 1 to %d letters, digits, '.', '_' "
                         "and '-'",
                         value, VIRTIO_BLK_SERIAL);
    o->disk_serial[o->disks] = value;
    return 0;
}

/* TARGET or TARGET:LUN */
static int set_unit(unsigned *unit, const char *value, struct error *err) {
    const char *colon = strchr(value, ':');
    char target[8] = "";
    unsigned long t, lun = 0;

    snprintf(target, sizeof(target), "%.*s", colon ? (int)(colon - value) : 7, value);
    if (option_parse_number(target, 0, VIRTIO_SCSI_TARGETS - 1, &t, err) < 0 ||
        (colon && option_parse_number(colon + 1, 0, VIRTIO_SCSI_LUNS - 1, &lun, err) < 0))
        return error_prefix(err, "unit=");
    *unit = (unsigned)(1 + t * VIRTIO_SCSI_LUNS + lun);
    return 0;
}

static int set_disk_part(struct options *o, const char *part, struct error *err) {
    struct block_options *d = &o->disk[o->disks];
    unsigned n;

    if (!strncmp(part, "format=", 7))
        d->format = part + 7;
    else if (!strncmp(part, "backing=", 8) && part[8])
        d->backing = strcmp(part + 8, "any") != 0 ? part + 8 : NULL;
    else if (!strcmp(part, "readonly"))
        d->readonly = true;
    else if (!strncmp(part, "readonly=", 9) &&
             option_parse_word(part + 9, option_switch_words, &n) == 0)
        d->readonly = n;
    else if (!strncmp(part, "cache=", 6) && option_parse_word(part + 6, cache_words, &n) == 0)
        d->cache = n;
    else if (!strncmp(part, "aio=", 4) && option_parse_word(part + 4, engine_words, &n) == 0)
        d->engine = n;
    else if (!strncmp(part, "discard=", 8) && option_parse_word(part + 8, discard_words, &n) == 0)
        d->keep_discarded = n;
    else if (!strncmp(part, "on-error=", 9) && option_parse_word(part + 9, error_words, &n) == 0)
        d->on_error = n;
    else if (!strncmp(part, "queues=", 7))
        return set_queues(&o->disk_queues[o->disks], part + 7, err);
    else if (!strncmp(part, "serial=", 7))
        return set_disk_serial(o, part + 7, err);
    else if (!strncmp(part, "bus=", 4) && option_parse_word(part + 4, bus_words, &n) == 0)
        o->disk_bus[o->disks] = n;
    else if (!strncmp(part, "unit=", 5))
        return set_unit(&o->disk_unit[o->disks], part + 5, err);
    else if (!strncmp(part, "bootindex=", 10))
        return option_bootindex(&o->disk_boot[o->disks], part + 10, err);
    else if (is_limit(part))
        return set_limit(&d->limits, part, err) < 0 ? error_prefix(err, "%s", part) : 0;
    else
        return error_set(
            err, -EINVAL,
            "'%s' is no property of a disk: use format=raw|qcow2, backing=any|none|beside|FILE, "
            "readonly, "
            "cache=writeback|none|unsafe, aio=auto|io_uring|threads, "
            "bus=virtio|sata|scsi|nvme|ide, unit=TARGET:LUN (of scsi), bootindex=N, "
            "discard=unmap|ignore, on-error=enospc|report|pause, queues=N, serial=TEXT, "
            "iops=N, bps=SIZE (or iops-read= and so on) or burst=SECONDS",
            part);
    return 0;
}

/* The user chose the name, a guest cannot: it may say the format, where the contents may not. */
static bool named_qcow2(const char *path) {
    size_t n = strlen(path);

    return n > 6 && !strcasecmp(path + n - 6, ".qcow2");
}

int option_disk(struct options *o, const char *v, struct error *err) {
    struct block_options *d = &o->disk[o->disks];
    char *rest, *part;

    if (o->disks == MACHINE_MAX_DISKS)
        return error_set(err, -EINVAL, "a machine has at most %d disks", MACHINE_MAX_DISKS);
    rest = options_keep(o, v);
    part = option_next_part(&rest);
    if (!part || !*part)
        return error_set(
            err, -EINVAL,
            "--disk needs the path of an image file first, as in --disk disk.raw,readonly");
    *d = (struct block_options){.path = part};
    o->disk_queues[o->disks] = o->disk_boot[o->disks] = o->disk_unit[o->disks] = 0;
    o->disk_bus[o->disks] = MACHINE_BUS_VIRTIO;
    o->disk_serial[o->disks] = o->disk_id[o->disks] = o->disk_device[o->disks] = NULL;
    o->disk_text[o->disks] = options_keep(o, v);
    if (!o->disk_text[o->disks])
        return error_set(err, -ENOMEM, "out of memory");
    while ((part = option_next_part(&rest)))
        if (set_disk_part(o, part, err) < 0)
            return -EINVAL;
    d->format_assumed = !d->format;
    if (!d->format)
        d->format = named_qcow2(d->path) ? "qcow2" : "raw";
    if (strcmp(d->format, "raw") != 0 && strcmp(d->format, "qcow2") != 0)
        return error_set(err, -EINVAL,
                         "disk '%s': the format '%s' is not supported: use format=raw or "
                         "format=qcow2; viv-img convert makes either of other formats",
                         d->path, d->format);
    if (o->disk_unit[o->disks] && o->disk_bus[o->disks] != MACHINE_BUS_SCSI)
        return error_set(err, -EINVAL, "disk '%s': unit= needs bus=scsi", d->path);
    o->disks++;
    return 0;
}

int options_add_disk(struct options *o, const char *text, struct error *err) {
    return option_disk(o, text, err);
}

void options_unplug_disk(struct options *o, unsigned i) {
    options_drop(o, o->disk[i].path); /* the start of the text that was taken apart */
    options_drop(o, o->disk_text[i]);
    options_drop(o, o->disk_id[i]);
    options_drop(o, o->disk_device[i]);
    o->disk[i] = (struct block_options){.path = NULL};
    o->disk_text[i] = o->disk_id[i] = o->disk_device[i] = NULL;
}

int options_plug_disk(struct options *o, const char *text, const char *id, struct error *err) {
    unsigned count = o->disks, i = 0;
    int r;

    while (i < count && o->disk[i].path)
        i++;
    o->disks = i;
    r = option_disk(o, text, err);
    o->disks = count;
    if (r == 0 && id && !(o->disk_id[i] = options_keep(o, id)))
        r = error_set(err, -ENOMEM, "out of memory");
    if (r < 0) {
        if (i < MACHINE_MAX_DISKS)
            options_unplug_disk(o, i);
        return r;
    }
    if (i == count)
        o->disks++;
    return (int)i;
}

/* What follows the last comma is the bus, if it is one: names of images may have commas. */
int option_cdrom(struct options *o, const char *v, struct error *err) {
    const char *comma = strrchr(v, ',');
    enum machine_bus bus = MACHINE_BUS_SATA;
    char *path = options_keep(o, v);
    unsigned word;

    if (o->cdroms == MACHINE_MAX_CDROMS)
        return error_set(err, -EINVAL, "a machine has at most %d optical drives",
                         MACHINE_MAX_CDROMS);
    if (!path)
        return error_set(err, -ENOMEM, "out of memory");
    if (comma && !strncmp(comma, ",bus=", 5) &&
        option_parse_word(comma + 5, bus_words, &word) == 0 &&
        (word == MACHINE_BUS_SATA || word == MACHINE_BUS_SCSI || word == MACHINE_BUS_IDE)) {
        bus = word;
        path[comma - v] = 0;
    }
    if (!*path)
        return error_set(err, -EINVAL, "give the path of an image, or none for an empty drive");
    o->cdrom_bus[o->cdroms] = bus;
    o->cdrom[o->cdroms++] = strcmp(path, "none") != 0 ? path : NULL;
    return 0;
}

const char *options_disk_properties(const char *text) {
    for (; *text; text++) {
        if (*text == ',' && text[1] != ',')
            return text + 1;
        text += *text == ',';
    }
    return text;
}
