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
#include "block/chain.h"
#include "proto/command.h"
#include "proto/control.h"
#include "proto/lines.h"
#include "vfio/group.h"
#include "vm/nics.h"
#include "vm/options.h"

enum { QCOW2_MAGIC = 0x514649fb, HEADER = 20, NAME_MAX_BYTES = 1023 };

/* ------------------------------------------------------------------ images */

/* The path of what lies below, for free; NULL: nothing, or it cannot be told. */
static char *layer_below(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    uint8_t head[HEADER];
    char name[NAME_MAX_BYTES + 1], *below = NULL;

    if (fd >= 0 && pread(fd, head, sizeof(head), 0) == sizeof(head) &&
        load_be32(head) == QCOW2_MAGIC) {
        uint64_t at = load_be64(head + 8);
        uint32_t n = load_be32(head + 16);

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

void grants_of_image(const char *path, bool writable, jail_grant_fn *grant, void *opaque) {
    char *below = strdup(path);

    for (unsigned i = 0; below && i < CHAIN_MAX_DEPTH; i++) {
        char *next = layer_below(below);

        grant(opaque, below, JAIL_READ | (writable && i == 0 ? JAIL_WRITE : 0) | JAIL_IMAGE);
        free(below);
        below = next;
    }
    free(below);
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
    for (unsigned i = 0; i < o->disks; i++)
        if (o->disk[i].path)
            grants_of_image(o->disk[i].path, !o->disk[i].readonly, grant, opaque);
    for (unsigned i = 0; i < o->cdroms; i++)
        if (o->cdrom[i])
            grants_of_image(o->cdrom[i], false, grant, opaque);
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
        grant(opaque, o->restore,
              JAIL_READ | JAIL_FAMILY | (o->record_working_set ? JAIL_WRITE : 0));
}

/* ------------------------------------------------------------------ requests */

/* Parsed as the machine will: with options of nobody. */
static void of_plug(const char *disk, const char *nic, jail_grant_fn *grant, void *opaque) {
    struct options *o = calloc(1, sizeof(*o));
    struct error e = {0};
    int i;

    if (o && disk && (i = options_plug_disk(o, disk, NULL, &e)) >= 0 && o->disk[i].path)
        grants_of_image(o->disk[i].path, !o->disk[i].readonly, grant, opaque);
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

static void of_path(const char *command, const char *argument, const char *path,
                    jail_grant_fn *grant, void *opaque) {
    bool reads = !strcmp(argument, "parent") || !strcmp(argument, "base") ||
                 !strcmp(argument, "top") || !strcmp(command, "cdrom-change");

    if (!strncmp(command, "disk", 4) || !strcmp(command, "cdrom-change"))
        grants_of_image(path, !reads, grant, opaque);
    else
        grant(opaque, path, JAIL_READ | JAIL_FAMILY | (reads ? 0 : JAIL_WRITE));
}

/* With the numbers of `disks` in the place of "%d", as vm/control_disks.c has it. */
static void of_pattern(const char *command, const char *argument, const char *path,
                       const json_t *disks, jail_grant_fn *grant, void *opaque) {
    const char *at = strstr(path, "%d");
    const json_t *one;
    char *each;
    size_t i;

    if (!disks || !at) {
        of_path(command, argument, path, grant, opaque);
        return;
    }
    json_array_foreach(disks, i, one) {
        if (asprintf(&each, "%.*s%lld%s", (int)(at - path), path, json_integer_value(one), at + 2) <
            0)
            return;
        of_path(command, argument, each, grant, opaque);
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
                of_pattern(name, a->name, path, json_object_get(args, "disks"), grant, opaque);
        }
        if (!strcmp(name, "disk-add"))
            of_plug(json_string_value(json_object_get(args, "disk")), NULL, grant, opaque);
        if (!strcmp(name, "nic-add"))
            of_plug(NULL, json_string_value(json_object_get(args, "nic")), grant, opaque);
        if (!strcmp(name, "device-add"))
            of_device(json_string_value(json_object_get(args, "device")), grant, opaque);
        if (!strcmp(name, "disk-commit"))
            grant(opaque, NULL, JAIL_COMMIT);
    }
    json_decref(m);
}
