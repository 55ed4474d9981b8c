/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hot-plug of PCI functions: the machine's side of devices/acpi_plug.h.
 *
 * An ejected function leaves the bus inside of the guest's access and is freed from the loop, where
 * it may be waited for its disk. The guest's driver has reset it before; of one that is pulled out
 * the requests in flight are finished first.
 */
#include "machine/plug.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/loop.h"
#include "block/block.h"
#include "machine/machine_internal.h"
#include "machine/map.h"
#include "machine/passed.h"
#include "machine/plug_internal.h"
#include "machine/storage.h"

enum { PLUG_SLOTS = 32 };

struct plug {
    struct machine *machine;
    struct machine_config *config;
    uint32_t cpus_gone, cpus_refused; /* not yet told */
    uint32_t ejected, refused;        /* slots, not yet dealt with */
    struct device *husk[PLUG_SLOTS];  /* pulled out, and the guest's driver still holds on to it */
};

static const char *const part_names[] = {"disk", "network interface", "device of the host"};

static unsigned slot_of(const struct device *d) {
    return ((const struct pci_device *)d)->devfn >> 3;
}

static struct device **find(struct machine *m, enum machine_part part, unsigned i) {
    struct board *b = machine_board(m);

    if (part == MACHINE_DISK)
        return i < MACHINE_MAX_DISKS ? &b->disk[i] : NULL;
    if (part == MACHINE_PASSED)
        return i < MACHINE_MAX_PASSED ? &b->passed[i] : NULL;
    return i < MACHINE_MAX_NICS ? &b->nic[i] : NULL;
}

/* ------------------------------------------------------------------ going */

static void flushed(struct block_request *req, int result) { *(int *)req->opaque = result; }

static void settle_disk(struct block *disk, unsigned i) {
    int result = -EIO;
    struct block_request flush = {.op = BLOCK_FLUSH, .done = flushed, .opaque = &result};

    block_drain(disk);
    if (block_info(disk)->readonly)
        return;
    block_submit(disk, &flush);
    block_drain(disk);
    if (result < 0)
        log_error("disk %u is removed, and could not be flushed: %s; check the storage that holds "
                  "it, what the guest wrote last may be lost",
                  i, strerror(-result));
}

static void forget(struct plug *p, enum machine_part part, unsigned i) {
    struct machine_config *c = p->config;

    *find(p->machine, part, i) = NULL;
    if (part == MACHINE_DISK)
        c->disk[i] = NULL;
    else if (part == MACHINE_PASSED)
        c->passed[i] = NULL;
    else
        c->nic[i].port = NULL;
    if (c->unplugged)
        c->unplugged(c->opaque, part, i, false);
}

static void take_away(struct plug *p, enum machine_part part, unsigned i) {
    struct device *d = *find(p->machine, part, i);
    unsigned slot = slot_of(d);

    if (part == MACHINE_DISK)
        settle_disk(p->config->disk[i], i);
    acpi_plug_gone(machine_board(p->machine)->plug, slot);
    board_remove(machine_board(p->machine), d);
    p->ejected &= ~(1u << slot);
    p->refused &= ~(1u << slot);
    forget(p, part, i);
}

static void bury(struct plug *p, unsigned slot) {
    struct device *d = p->husk[slot];

    p->husk[slot] = NULL;
    acpi_plug_gone(machine_board(p->machine)->plug, slot);
    board_remove(machine_board(p->machine), d);
}

/* The part in a slot out of `slots`; false: there is none. */
static bool find_in(struct plug *p, uint32_t slots, enum machine_part *part, unsigned *i) {
    for (*part = MACHINE_DISK; *part <= MACHINE_PASSED; (*part)++)
        for (*i = 0; find(p->machine, *part, *i); (*i)++) {
            struct device *d = *find(p->machine, *part, *i);

            if (d && slots & 1u << slot_of(d))
                return true;
        }
    return false;
}

static void cpu_ejected(void *opaque, unsigned cpu);

void plug_finish(struct plug *p) {
    struct machine_config *c = p->config;
    enum machine_part part;
    unsigned i;

    for (unsigned slot = 0; slot < PLUG_SLOTS; slot++)
        if (p->husk[slot] && p->ejected & 1u << slot)
            bury(p, slot);
    while (find_in(p, p->ejected, &part, &i))
        take_away(p, part, i);
    while (find_in(p, p->refused, &part, &i)) {
        p->refused &= ~(1u << slot_of(*find(p->machine, part, i)));
        if (c->unplugged)
            c->unplugged(c->opaque, part, i, true);
    }
    p->ejected = p->refused = 0;
}

void plug_reset(struct plug *p) {
    if (machine_board(p->machine)->cpu_plug)
        for (uint32_t asked = acpi_plug_asked(machine_board(p->machine)->cpu_plug); asked;
             asked &= asked - 1)
            cpu_ejected(p, (unsigned)__builtin_ctz(asked));
    if (machine_board(p->machine)->plug)
        p->ejected |= acpi_plug_asked(machine_board(p->machine)->plug);
    for (unsigned slot = 0; slot < PLUG_SLOTS; slot++)
        p->ejected |= p->husk[slot] ? 1u << slot : 0;
    plug_finish(p);
}

static void finish_later(void *opaque) { plug_finish(opaque); }

/* By the guest, which may do so unasked: a user of it has pressed "eject". */
static void ejected(void *opaque, unsigned slot) {
    struct plug *p = opaque;
    struct device *d = slot < PLUG_SLOTS ? p->husk[slot] : NULL;
    enum machine_part part;
    unsigned i;

    if (!d && find_in(p, 1u << slot, &part, &i))
        d = *find(p->machine, part, i);
    if (!d || p->ejected & 1u << slot)
        return;
    p->ejected |= 1u << slot;
    pci_bus_detach((struct pci_device *)d);
    loop_post(machine_loop(p->machine), finish_later, p);
}

static void refused(void *opaque, unsigned slot) {
    struct plug *p = opaque;

    p->refused |= 1u << slot;
    loop_post(machine_loop(p->machine), finish_later, p);
}

/* ------------------------------------------------------------------ processors */

static void cpus_changed(void *opaque) {
    struct plug *p = opaque;
    struct machine_config *c = p->config;

    for (unsigned i = 1; i < c->cpus; i++)
        if (c->unplugged && (p->cpus_gone | p->cpus_refused) >> i & 1)
            c->unplugged(c->opaque, MACHINE_CPU, i, p->cpus_refused >> i & 1);
    p->cpus_gone = p->cpus_refused = 0;
}

/* The guest has stopped it: it waits with interrupts off. */
static void cpu_ejected(void *opaque, unsigned cpu) {
    struct plug *p = opaque;
    struct device *d = machine_board(p->machine)->cpu_plug;

    if (!cpu || !(acpi_plug_present(d) >> cpu & 1))
        return;
    acpi_plug_gone(d, cpu);
    machine_silence_cpu(p->machine, cpu);
    p->cpus_gone |= 1u << cpu;
    loop_post(machine_loop(p->machine), cpus_changed, p);
}

static void cpu_refused(void *opaque, unsigned cpu) {
    struct plug *p = opaque;

    p->cpus_refused |= 1u << cpu;
    loop_post(machine_loop(p->machine), cpus_changed, p);
}

unsigned machine_cpus(const struct machine *m) {
    const struct board *b = machine_board((struct machine *)m); /* only looked at */

    return b->cpus - (unsigned)__builtin_popcount(board_absent_cpus(b));
}

bool machine_has_cpu(const struct machine *m, unsigned i) {
    const struct board *b = machine_board((struct machine *)m); /* only looked at */

    return i < b->cpus && !(board_absent_cpus(b) >> i & 1);
}

int machine_set_cpus(struct machine *m, unsigned count, struct error *err) {
    struct board *b = machine_board(m);
    unsigned have = machine_cpus(m);

    if (!b->cpu_plug)
        return error_set(
            err, -EBUSY,
            "the machine's processors are there for good: start it with --cpus N,max=M");
    if (count < 1 || count > b->cpus)
        return error_set(err, -EINVAL, "the machine may have 1 to %u processors", b->cpus);
    for (unsigned i = 0; i < b->cpus; i++) /* what was asked for before counts no more */
        acpi_plug_unask(b->cpu_plug, i);
    for (unsigned i = 0; have < count && i < b->cpus; i++)
        if (board_absent_cpus(b) >> i & 1) {
            acpi_plug_add(b->cpu_plug, i);
            have++;
        }
    for (unsigned i = b->cpus; have > count && --i > 0;)
        if (!(board_absent_cpus(b) >> i & 1)) {
            acpi_plug_ask(b->cpu_plug, i);
            have--;
        }
    return 0;
}

struct plug *plug_new(struct machine *m, struct machine_config *config,
                      struct acpi_plug_config *ret_unplug, struct acpi_plug_config *ret_unplug_cpu,
                      struct error *err) {
    struct plug *p = calloc(1, sizeof(*p));

    if (!p) {
        error_set(err, -ENOMEM, "the machine: out of memory");
        return NULL;
    }
    *p = (struct plug){.machine = m, .config = config};
    *ret_unplug = (struct acpi_plug_config){.ejected = ejected, .refused = refused, .opaque = p};
    *ret_unplug_cpu =
        (struct acpi_plug_config){.ejected = cpu_ejected, .refused = cpu_refused, .opaque = p};
    if (config->cpus_present)
        ret_unplug_cpu->present = (uint32_t)((1ull << config->cpus_present) - 1);
    return p;
}

void plug_free(struct plug *p) { free(p); }

/* On an adapter that it shares with others. */
static struct board_unit *unit_of(struct machine *m, enum machine_part part, unsigned i) {
    struct board_unit *u =
        part == MACHINE_DISK && i < MACHINE_MAX_DISKS ? &machine_board(m)->unit[i] : NULL;

    return u && u->dev ? u : NULL;
}

static struct device *present(struct machine *m, enum machine_part part, unsigned i,
                              struct error *err) {
    struct device **d = find(m, part, i);

    if (d && *d)
        return *d;
    error_set(err, -EBUSY,
              "%s %u hangs on a bus that does not tell the guest, so it stays while the machine "
              "runs: only those on bus=virtio, nvme, scsi and sata can be removed",
              part_names[part], i);
    return NULL;
}

int machine_unplug(struct machine *m, enum machine_part part, unsigned i, struct error *err) {
    struct device *d;

    if (unit_of(m, part, i))
        return error_set(err, -EBUSY,
                         "disk %u is on a bus by which a guest cannot be asked: unmount it there, "
                         "then remove it with force",
                         i);
    d = present(m, part, i, err);
    if (!d)
        return -EBUSY;
    acpi_plug_ask(machine_board(m)->plug, slot_of(d));
    return 0;
}

/* The function stays, without a disk or network, until the guest's driver has let go of it: Linux
 * waits forever for the reset of a virtio device that is no longer there. */
int machine_pull(struct machine *m, enum machine_part part, unsigned i, struct error *err) {
    struct board_unit *u = unit_of(m, part, i);
    struct plug *p = machine_plug(m);
    struct device *d;

    if (u) {
        settle_disk(p->config->disk[i], i);
        u->remove(u->dev, u->unit);
        *u = (struct board_unit){.dev = NULL};
        forget(p, part, i);
        return 0;
    }
    d = present(m, part, i, err);
    if (!d)
        return -EBUSY;
    if (!d->cls->abandon)
        return error_set(err, -EBUSY,
                         "%s %u cannot be pulled out: remove it without force, so that the guest "
                         "lets it go",
                         part_names[part], i);
    if (p->ejected & 1u << slot_of(d)) {
        plug_finish(p);
        return 0;
    }
    if (part == MACHINE_DISK)
        settle_disk(p->config->disk[i], i);
    d->cls->abandon(d);
    p->husk[slot_of(d)] = d;
    acpi_plug_ask(machine_board(m)->plug, slot_of(d));
    forget(p, part, i);
    return 0;
}

bool plug_is_husk(const struct plug *p, const struct device *d) {
    for (unsigned slot = 0; slot < PLUG_SLOTS; slot++)
        if (p->husk[slot] == d)
            return true;
    return false;
}

bool machine_unplugging(const struct machine *m, enum machine_part part, unsigned i) {
    struct machine *any = (struct machine *)m; /* only looked at */
    struct device **d = find(any, part, i);

    return d && *d && acpi_plug_asked(machine_board(any)->plug) & 1u << slot_of(*d);
}

/* ------------------------------------------------------------------ coming */

/* Its driver in the guest gives it addresses. */
static void announce(struct machine *m, const struct device *d) {
    acpi_plug_add(machine_board(m)->plug, slot_of(d));
}

int machine_plug_disk(struct machine *m, unsigned i, const struct machine_config *from,
                      struct error *err) {
    struct machine_config *c = machine_plug(m)->config;
    int r;

    c->disk[i] = from->disk[i];
    c->disk_bus[i] = from->disk_bus[i];
    c->disk_unit[i] = from->disk_unit[i];
    c->disk_boot[i] = from->disk_boot[i];
    c->disk_queues[i] = from->disk_queues[i];
    c->disk_serial[i] = from->disk_serial[i];
    c->disk_device[i] = NULL;
    r = storage_plug_disk(machine_board(m), c, i, err);
    if (r < 0) {
        c->disk[i] = NULL;
        return r;
    }
    if (i >= c->disks)
        c->disks = i + 1;
    if (machine_board(m)->disk[i])
        announce(m, machine_board(m)->disk[i]);
    return 0;
}

int machine_plug_nic(struct machine *m, unsigned i, const struct machine_config *from,
                     struct error *err) {
    struct machine_config *c = machine_plug(m)->config;
    int r;

    c->nic[i] = from->nic[i];
    c->nic[i].device = NULL;
    r = board_add_nic(machine_board(m), c, i, err);
    if (r < 0) {
        c->nic[i].port = NULL;
        return r;
    }
    if (i >= c->nics)
        c->nics = i + 1;
    announce(m, machine_board(m)->nic[i]);
    return 0;
}

int machine_plug_passed(struct machine *m, unsigned i, const struct machine_config *from,
                        struct error *err) {
    struct machine_config *c = machine_plug(m)->config;
    struct board *b = machine_board(m);
    int r;

    c->passed[i] = from->passed[i];
    r = passed_add(b, c, i, err);
    if (r == 0)
        r = passed_map(b, from->vfio, err);
    if (r < 0) {
        if (b->passed[i])
            board_remove(b, b->passed[i]);
        b->passed[i] = NULL;
        c->passed[i] = NULL;
        return r;
    }
    c->vfio = from->vfio;
    if (i >= c->passed_count)
        c->passed_count = i + 1;
    announce(m, b->passed[i]);
    return 0;
}

/* ------------------------------------------------------------------ where they are */

static void site(const struct device *d, struct machine_site *ret) {
    *ret = (struct machine_site){.slot = slot_of(d)};
    memcpy(ret->device, d->name, sizeof(ret->device));
}

bool machine_site_of(const struct machine *m, enum machine_part part, unsigned i,
                     struct machine_site *ret) {
    struct device **d = find((struct machine *)m, part, i); /* only looked at */

    const struct board_unit *u = unit_of((struct machine *)m, part, i);

    if (d && *d)
        site(*d, ret);
    else if (u)
        snprintf(ret->device, sizeof(ret->device), "%s", u->name);
    return u || (d && *d);
}

unsigned machine_sites(const struct machine *m, struct machine_site ret[MACHINE_MAX_SITES]) {
    const struct board *b = machine_board((struct machine *)m); /* only looked at */
    unsigned n = 0;

    for (unsigned i = 0; i < b->devices && n < MACHINE_MAX_SITES; i++)
        if (b->device[i]->cls->pci && ((struct pci_device *)b->device[i])->bus &&
            !plug_is_husk(machine_plug((struct machine *)m), b->device[i]) &&
            slot_of(b->device[i]) >= MAP_FIRST_SLOT && slot_of(b->device[i]) <= MAP_LAST_SLOT)
            site(b->device[i], &ret[n++]);
    return n;
}
