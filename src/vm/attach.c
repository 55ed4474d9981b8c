/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening and closing disks and networks, at the start and later. */
#include "vm/attach.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "block/block.h"
#include "block/blockjob.h"
#include "machine/plug.h"
#include "net/net.h"
#include "vm/nics.h"
#include "vm/options.h"
#include "vm/passed.h"

/*
 * Calls (main): stat newfstatat
 */

/* The lock on an image would only say that somebody has it. */
static int check_disks_differ(const struct options *o, unsigned i, struct error *err) {
    struct stat a, b;

    if (stat(o->disk[i].path, &a) < 0)
        return 0; /* block_open says why */
    for (unsigned k = 0; k < o->disks; k++)
        if (k != i && o->disk[k].path && stat(o->disk[k].path, &b) == 0 && a.st_dev == b.st_dev &&
            a.st_ino == b.st_ino && !(o->disk[i].readonly && o->disk[k].readonly))
            return error_set(err, -EINVAL,
                             "--disk: '%s' is given twice: give each disk an image of its own",
                             o->disk[i].path);
    return 0;
}

int attach_open_disk(struct attach *a, unsigned i, struct machine_config *m, struct error *err) {
    const struct options *o = a->options;

    if (check_disks_differ(o, i, err) < 0)
        return -EINVAL;
    a->disk[i] = block_open(a->loop, &o->disk[i], err);
    if (!a->disk[i])
        return -EINVAL;
    block_set_error_fn(a->disk[i], a->disk_failed, a->opaque);
    block_set_pause_fn(a->disk[i], a->disk_wants_pause, a->opaque);
    m->disk_bus[i] = o->disk_bus[i];
    m->disk_unit[i] = o->disk_unit[i];
    m->disk_boot[i] = o->disk_boot[i];
    m->disk_queues[i] = options_disk_queues(o, i);
    m->disk_serial[i] = o->disk_serial[i];
    m->disk_device[i] = o->disk_device[i];
    m->disk[i] = a->disk[i];
    return 0;
}

int attach_open_nic(struct attach *a, unsigned i, struct machine_config *m, struct error *err) {
    struct machine_nic *to = &m->nic[i];
    int r = nics_open(a->options, i, a->loop, to, err);

    a->nic[i] = to->port;
    a->nic_rom[i] = to->rom;
    to->device = a->options->nic[i].device;
    return r;
}

int attach_open_device(struct attach *a, unsigned i, struct machine_config *m, struct error *err) {
    return passed_open(a->passed, a->loop, a->options, i, m, err);
}

void attach_close(struct attach *a, enum machine_part part, unsigned i) {
    if (part == MACHINE_DISK) {
        if (a->disk[i])
            blockjob_stop(a->disk[i]);
        block_close(a->disk[i]);
        a->disk[i] = NULL;
        options_unplug_disk(a->options, i);
    } else if (part == MACHINE_NIC) {
        net_close(a->nic[i]);
        free(a->nic_rom[i]);
        a->nic[i] = NULL;
        a->nic_rom[i] = NULL;
        options_unplug_nic(a->options, i);
    } else if (part == MACHINE_PASSED) {
        passed_close(a->passed, i);
        options_unplug_device(a->options, i);
    }
}

/* Two interfaces with one address would take each other's frames. */
static int check_mac(const struct options *o, unsigned i, struct error *err) {
    for (unsigned k = 0; k < o->nics; k++)
        if (k != i && !o->nic[k].absent && !memcmp(o->nic[k].mac, o->nic[i].mac, 6))
            return error_set(
                err, -EINVAL,
                "interface %u has this MAC address already: give another one with mac=", k);
    return 0;
}

/* Opened, and plugged in. */
static int bring(struct attach *a, enum machine_part part, unsigned i, struct error *err) {
    struct machine_config *m = calloc(1, sizeof(*m)); /* for this number only */
    int r;

    if (!m)
        return error_set(err, -ENOMEM, "out of memory");
    if (part == MACHINE_DISK)
        r = attach_open_disk(a, i, m, err);
    else if (part == MACHINE_PASSED) {
        r = attach_open_device(a, i, m, err);
        passed_opened(a->passed);
    } else
        r = check_mac(a->options, i, err) < 0 ? -EINVAL : attach_open_nic(a, i, m, err);
    if (r == 0)
        r = part == MACHINE_DISK     ? machine_plug_disk(a->machine, i, m, err)
            : part == MACHINE_PASSED ? machine_plug_passed(a->machine, i, m, err)
                                     : machine_plug_nic(a->machine, i, m, err);
    free(m);
    return r;
}

int attach_add(struct attach *a, enum machine_part part, const char *text, const char *id,
               struct error *err) {
    int i = part == MACHINE_DISK     ? options_plug_disk(a->options, text, id, err)
            : part == MACHINE_PASSED ? options_plug_device(a->options, text, id, err)
                                     : options_plug_nic(a->options, text, id, err);
    int r = i < 0 ? i : bring(a, part, (unsigned)i, err);

    if (i >= 0 && r < 0)
        attach_close(a, part, (unsigned)i);
    return r < 0 ? r : i;
}

json_t *attach_event(const struct attach *a, enum machine_part part, unsigned i, const char *what) {
    static const char *const kinds[] = {[MACHINE_DISK] = "disk",
                                        [MACHINE_NIC] = "nic",
                                        [MACHINE_PASSED] = "device",
                                        [MACHINE_CPU] = "cpu"};
    const char *id = part == MACHINE_DISK     ? a->options->disk_id[i]
                     : part == MACHINE_NIC    ? a->options->nic[i].id
                     : part == MACHINE_PASSED ? a->options->passed_id[i]
                                              : NULL;

    return json_pack("{s:o, s:s, s:s*}", "device", json_sprintf("%s%u", kinds[part], i), "what",
                     what, "id", id);
}
