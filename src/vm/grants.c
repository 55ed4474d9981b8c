/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What options and requests name. */
#include "vm/grants.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/disk.h"
#include "proto/command.h"
#include "proto/control.h"
#include "proto/lines.h"
#include "state/snapshot.h"
#include "vfio/group.h"
#include "vm/nics.h"
#include "vm/options.h"

enum {
    QCOW2_MAGIC = 0x514649fb,
    HEADER = 4096, /* what of it is looked at: extensions follow soon */
    HEADER_V2 = 72,
    BACKING_FORMAT = 0xe2792aca,
    NAME_MAX_BYTES = 1023
};

/* ------------------------------------------------------------------ images */

/* docs/interop/qcow2.txt of QEMU, "Header extensions". */
static bool says_raw(const uint8_t *head, size_t n) {
    size_t at = load_be32(head + 4) < 3 ? HEADER_V2 : load_be32(head + 100);

    while (at <= n - 8) {
        uint32_t type = load_be32(head + at), length = load_be32(head + at + 4);

        if (!type || length > n - at - 8)
            return false;
        if (type == BACKING_FORMAT)
            return length == 3 && !memcmp(head + at + 8, "raw", 3);
        at += 8 + ((length + 7) & ~7u);
    }
    return false;
}

/* The path of what lies below, for free; NULL: nothing, or it cannot be told. *ret_raw: and nothing
 * lies below that, whatever it begins with. */
static char *layer_below(const char *path, bool *ret_raw) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    uint8_t head[HEADER];
    char name[NAME_MAX_BYTES + 1], *below = NULL;
    ssize_t got = fd < 0 ? -1 : pread(fd, head, sizeof(head), 0);

    if (got >= HEADER_V2 + 32 && load_be32(head) == QCOW2_MAGIC) {
        uint64_t at = load_be64(head + 8);
        uint32_t n = load_be32(head + 16);

        *ret_raw = says_raw(head, (size_t)got);
        if (at && at <= INT64_MAX && n && n <= NAME_MAX_BYTES &&
            pread(fd, name, n, (off_t)at) == (ssize_t)n) {
            name[n] = 0;
            below = chain_backing_path(path, name);
        }
    }
    if (fd >= 0)
        close(fd);
    return below;
}

void grants_of_image(const char *path, const char *format, bool writable, jail_grant_fn *grant,
                     void *opaque) {
    char *at = strdup(path);
    bool raw = format && !strcmp(format, "raw");

    for (unsigned i = 0; at && i < CHAIN_MAX_DEPTH; i++) {
        bool below_raw = false;
        char *next = raw ? NULL : layer_below(at, &below_raw);
        unsigned rights = JAIL_READ | (writable ? JAIL_IMAGE : 0);

        if (grant(opaque, at, rights | (writable && i == 0 ? JAIL_WRITE : 0)) & JAIL_WRITE) {
            free(next); /* the machine could have written this name itself */
            next = NULL;
        }
        free(at);
        at = next;
        raw = below_raw;
    }
    free(at);
}

void grants_of_disk(const struct block *b, bool writable, jail_grant_fn *grant, void *opaque) {
    struct disk *d = b ? disk_of(b) : NULL;

    for (const struct chain *i = d ? d->image : NULL; i; i = i->backing)
        grant(opaque, i->path,
              JAIL_READ | (writable ? JAIL_IMAGE : 0) |
                  (writable && i == d->image ? JAIL_WRITE : 0));
}

/* ------------------------------------------------------------------ snapshots */

void grants_of_snapshot(const char *dir, unsigned rights, jail_grant_fn *grant, void *opaque) {
    char *at = strdup(dir);

    for (unsigned i = 0; at && i < SNAPSHOT_CHAIN; i++) {
        bool own = grant(opaque, at, JAIL_READ | JAIL_FAMILY | (i == 0 ? rights : 0)) & JAIL_WRITE;
        char *next = own ? NULL : snapshot_parent(at);

        free(at);
        at = next;
    }
    free(at);
}

/* ------------------------------------------------------------------ options */

static void of_socket(const char *text, jail_grant_fn *grant, void *opaque) {
    if (text && !strncmp(text, "unix:", 5))
        grant(opaque, text + 5, JAIL_WRITE); /* it is removed at the end */
}

static void of_nic(const struct options *o, unsigned i, jail_grant_fn *grant, void *opaque) {
    const struct options_nic *n = &o->nic[i];

    if (n->absent)
        return;
    if (n->rom)
        grant(opaque, n->rom, JAIL_READ);
    if (n->link) {
        grant(opaque, n->link, JAIL_CONNECT);
        return;
    }
    grant(opaque, "/etc/resolv.conf", JAIL_READ | JAIL_INTERNET);
    if (n->tftp)
        grant(opaque, n->tftp, JAIL_READ | JAIL_FAMILY);
}

void grants_of_options(const struct options *o, jail_grant_fn *grant, void *opaque) {
    grant(opaque, "/dev/null", JAIL_READ | JAIL_WRITE);
    grant(opaque, "/dev/urandom", JAIL_READ); /* GLib, for libslirp */
    grant(opaque, "/etc/localtime", JAIL_READ);
    for (unsigned i = 0; i < o->cdroms; i++)
        if (o->cdrom[i])
            grants_of_image(o->cdrom[i], "raw", false, grant, opaque);
    for (unsigned i = 0; i < o->nics; i++)
        of_nic(o, i, grant, opaque);
    if (o->control)
        grant(opaque, o->control, JAIL_WRITE);
    for (unsigned i = 0; i < o->serials; i++)
        of_socket(o->serial[i], grant, opaque);
    of_socket(o->console, grant, opaque);
    if (o->vsock)
        grant(opaque, o->vsock, JAIL_WRITE | JAIL_PORTS);
    for (unsigned i = 0; i < o->displays; i++) {
        if (*o->vnc[i].path)
            grant(opaque, o->vnc[i].path, JAIL_WRITE);
        if (*o->vnc[i].password_file)
            grant(opaque, o->vnc[i].password_file, JAIL_READ);
    }
    if (o->restore)
        grants_of_snapshot(o->restore, o->record_working_set ? JAIL_WRITE : 0, grant, opaque);
}

/* ------------------------------------------------------------------ requests */

/* Parsed as the machine will: with options of nobody. */
static void of_plug(const char *disk, const char *nic, jail_grant_fn *grant, void *opaque) {
    struct options *o = calloc(1, sizeof(*o));
    struct error e = {0};
    int i;

    if (o && disk && (i = options_plug_disk(o, disk, NULL, &e)) >= 0 && o->disk[i].path)
        grants_of_image(o->disk[i].path, o->disk[i].format, !o->disk[i].readonly, grant, opaque);
    if (o && nic && (i = options_plug_nic(o, nic, NULL, &e)) >= 0)
        of_nic(o, (unsigned)i, grant, opaque);
    if (o)
        options_done(o);
    free(o);
}

/* What it shares a group with is asked of the host at that moment. Its group alone can be opened,
 * and the device's own rights decide who may. */
static void of_device(const char *device, jail_grant_fn *grant, void *opaque) {
    char name[VFIO_NAME], path[64];
    int group;

    if (!device || strncmp(device, "vfio=", 5) != 0 || !vfio_name(device + 5, name))
        return;
    grant(opaque, "/sys", JAIL_READ); /* the folder itself */
    grant(opaque, "/sys/bus", JAIL_READ | JAIL_FAMILY);
    grant(opaque, "/sys/kernel/iommu_groups", JAIL_READ | JAIL_FAMILY);
    grant(opaque, "/sys/devices", JAIL_READ | JAIL_FAMILY);
    group = vfio_group_of("/sys", name);
    if (group < 0)
        return;
    snprintf(path, sizeof(path), "/dev/vfio/%d", group);
    grant(opaque, "/dev/vfio/vfio", JAIL_READ | JAIL_WRITE);
    grant(opaque, path, JAIL_READ | JAIL_WRITE);
}

static void of_path(const char *command, const char *argument, const char *path, const char *format,
                    jail_grant_fn *grant, void *opaque) {
    bool reads =
        !strcmp(argument, "parent") || !strcmp(argument, "base") || !strcmp(argument, "top");

    if (!strcmp(command, "cdrom-change"))
        grants_of_image(path, "raw", false, grant, opaque);
    else if (!strncmp(command, "disk", 4))
        grants_of_image(path, reads ? NULL : format, !reads, grant, opaque);
    else if (reads)
        grants_of_snapshot(path, 0, grant, opaque);
    else
        grant(opaque, path, JAIL_READ | JAIL_FAMILY | JAIL_WRITE);
}

/* With the numbers of `disks` in the place of "%d", as vm/control_disks.c has it. */
static void of_pattern(const char *command, const char *argument, const char *path,
                       const json_t *args, jail_grant_fn *grant, void *opaque) {
    const json_t *disks = json_object_get(args, "disks");
    const char *format = json_string_value(json_object_get(args, "format"));
    const char *at = strstr(path, "%d");
    const json_t *one;
    char *each;
    size_t i;

    if (!disks || !at) {
        of_path(command, argument, path, format, grant, opaque);
        return;
    }
    json_array_foreach(disks, i, one) {
        if (asprintf(&each, "%.*s%lld%s", (int)(at - path), path, json_integer_value(one), at + 2) <
            0)
            return;
        of_path(command, argument, each, format, grant, opaque);
        free(each);
    }
}

void grants_of_request(const char *line, size_t len, jail_grant_fn *grant, void *opaque) {
    struct error e = {0};
    json_t *m = message_parse(line, len, &e), *args = json_object_get(m, "arguments");
    const char *name = json_string_value(json_object_get(m, "command"));
    const struct command *c = name ? command_find(control_commands, name) : NULL;

    if (c && command_check(c, args, &e) == 0) {
        for (const struct command_arg *a = c->args; a->type != COMMAND_END; a++) {
            const char *path = json_string_value(json_object_get(args, a->name));

            if (a->type == COMMAND_PATH && path)
                of_pattern(name, a->name, path, args, grant, opaque);
        }
        if (!strcmp(name, "disk-add"))
            of_plug(json_string_value(json_object_get(args, "disk")), NULL, grant, opaque);
        if (!strcmp(name, "nic-add"))
            of_plug(NULL, json_string_value(json_object_get(args, "nic")), grant, opaque);
        if (!strcmp(name, "device-add"))
            of_device(json_string_value(json_object_get(args, "device")), grant, opaque);
        if (!strcmp(name, "disk-commit"))
            grant(opaque, json_string_value(json_object_get(args, "base")), JAIL_COMMIT);
    }
    json_decref(m);
}
