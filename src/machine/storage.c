/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Disks and optical drives on their buses, and the order of booting. */
#include "machine/storage.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "devices/ahci.h"
#include "devices/ide.h"
#include "devices/nvme.h"
#include "devices/virtio/virtio_blk.h"
#include "devices/virtio/virtio_scsi.h"

enum { DEVFN_AHCI = 0x1f << 3 | 2, DEVFN_IDE = 0x1f << 3 | 1 };
static const char default_order[] = "cdn";

/* What a unit of an adapter is called in a snapshot: number, for SCSI target and logical unit. */
#define SCSI_ADAPTER "virtio_scsi0"
#define SCSI_UNIT    SCSI_ADAPTER ":%u:%u:%u"
#define SATA_UNIT    "ahci0:%u"

/* ---- the order of booting ---- */

static const char *serial_of(const struct machine_config *m, unsigned i, char *buf, size_t n) {
    if (m->disk_serial[i])
        snprintf(buf, n, "%s", m->disk_serial[i]);
    else
        snprintf(buf, n, "disk%u", i);
    return buf;
}

enum { DRIVE = -1, NIC = -2 }; /* in the place of a disk's number */

/* What sits where another one was takes its entry. */
static void boot_entry(struct board *b, const struct machine_config *m, int disk,
                       const char *path) {
    unsigned i = 0;

    while (i < b->boots && strcmp(b->boot[i].path, path) != 0)
        i++;
    if (i == BOARD_MAX_BOOTS)
        return;
    b->boot[i] = (struct board_boot){.kind = disk == NIC ? 'n' : disk == DRIVE ? 'd' : 'c'};
    if (disk >= 0) {
        b->boot[i].index = m->disk_boot[disk];
        serial_of(m, (unsigned)disk, b->boot[i].serial, sizeof(b->boot[i].serial));
    }
    snprintf(b->boot[i].path, sizeof(b->boot[i].path), "%s", path);
    if (i == b->boots)
        b->boots++;
}

/* The disk that was named comes first, then what has a number, by it; then the kinds in their
 * order, each as it was given. */
static unsigned boot_rank(const struct board *b, const struct board_boot *e) {
    const char *order = b->boot_order ? b->boot_order : default_order, *at = strchr(order, e->kind);

    if (b->boot_first && e->kind == 'c' && !strcmp(e->serial, b->boot_first))
        return 0;
    if (e->index)
        return e->index;
    return at ? 1000000 + (unsigned)(at - order) : UINT_MAX;
}

void storage_boot_nic(struct board *b, unsigned slot) {
    char path[BOARD_BOOT_PATH];

    snprintf(path, sizeof(path), "/pci@i0cf8/ethernet@%x/ethernet-phy@0", slot);
    boot_entry(b, NULL, NIC, path);
}

void storage_boot_order(const struct board *b, struct buf *ret) {
    bool done[BOARD_MAX_BOOTS] = {false};

    for (unsigned n = 0; n < b->boots; n++) {
        unsigned best = BOARD_MAX_BOOTS, rank = UINT_MAX;

        for (unsigned i = 0; i < b->boots; i++)
            if (!done[i] && boot_rank(b, &b->boot[i]) < rank) {
                best = i;
                rank = boot_rank(b, &b->boot[i]);
            }
        if (best == BOARD_MAX_BOOTS)
            return; /* the others are not booted from */
        done[best] = true;
        buf_printf(ret, "%s%s", n ? "\n" : "", b->boot[best].path);
    }
}

/* ---- SATA ---- */

static void sata_boot(struct board *b, const struct machine_config *m, int disk, unsigned port) {
    char path[BOARD_BOOT_PATH];

    snprintf(path, sizeof(path), "/pci@i0cf8/pci8086,2922@1f,2/drive@%x/disk@0", port);
    boot_entry(b, m, disk, path);
}

/* A port of a restored machine, else the first that is free. AHCI_PORTS: none is. */
static unsigned sata_port(const struct ahci_config *c, const char *name) {
    unsigned port;

    if (name && sscanf(name, SATA_UNIT, &port) == 1 && port < AHCI_PORTS && !c->port[port].present)
        return port;
    for (port = 0; port < AHCI_PORTS && c->port[port].present; port++)
        ;
    return port;
}

static void sata_disk(struct board *b, const struct machine_config *m, unsigned i, unsigned port,
                      struct ahci_port_config *ret) {
    *ret = (struct ahci_port_config){.present = true, .block = m->disk[i]};
    serial_of(m, i, ret->serial, sizeof(ret->serial));
    sata_boot(b, m, (int)i, port);
    b->unit[i] = (struct board_unit){.unit = port, .remove = ahci_remove};
    snprintf(b->unit[i].name, sizeof(b->unit[i].name), SATA_UNIT, port);
}

static void sata_drive(struct board *b, const struct machine_config *m, unsigned i, unsigned port,
                       struct ahci_port_config *ret) {
    sata_boot(b, m, DRIVE, port);
    b->drive[i] = (struct board_drive){NULL, port, ahci_change_medium, ahci_medium_locked, ""};
    *ret = (struct ahci_port_config){.present = true, .cdrom = true, .block = m->cdrom[i]};
    snprintf(ret->serial, sizeof(ret->serial), "cdrom%u", i);
    snprintf(b->drive[i].name, sizeof(b->drive[i].name), SATA_UNIT, port);
}

/* Those whose place is known come first: the others go around them. */
static unsigned sata_fill(struct board *b, const struct machine_config *m, bool known,
                          struct ahci_config *c) {
    unsigned n = 0, port;

    for (unsigned i = 0; i < m->disks; i++)
        if (m->disk_bus[i] == MACHINE_BUS_SATA && m->disk[i] && !m->disk_device[i] != known &&
            (port = sata_port(c, m->disk_device[i])) < AHCI_PORTS) {
            sata_disk(b, m, i, port, &c->port[port]);
            n++;
        }
    for (unsigned i = 0; i < m->cdroms; i++)
        if (m->cdrom_bus[i] == MACHINE_BUS_SATA && !m->cdrom_device[i] != known &&
            (port = sata_port(c, m->cdrom_device[i])) < AHCI_PORTS) {
            sata_drive(b, m, i, port, &c->port[port]);
            n++;
        }
    return n;
}

static int add_sata(struct board *b, const struct machine_config *m, struct error *err) {
    struct ahci_config c = {
        .no_msi = m->sata_no_msi, .ejected = m->ejected_port, .opaque = m->opaque};
    unsigned n = sata_fill(b, m, true, &c);
    int r;

    n += sata_fill(b, m, false, &c);
    r = n || m->has_sata ? board_add_function(b, "ahci", &c, DEVFN_AHCI, &b->ahci, err) : 0;
    for (unsigned i = 0; i < m->cdroms; i++)
        if (m->cdrom_bus[i] == MACHINE_BUS_SATA)
            b->drive[i].dev = b->ahci;
    for (unsigned i = 0; i < m->disks; i++)
        if (m->disk_bus[i] == MACHINE_BUS_SATA)
            b->unit[i].dev = b->ahci;
    return r;
}

static int plug_sata(struct board *b, const struct machine_config *m, unsigned i,
                     struct error *err) {
    struct ahci_port_config c;
    unsigned port = 0;

    if (!b->ahci)
        return error_set(err, -EBUSY,
                         "the machine has no SATA adapter, which cannot be added while it runs: "
                         "start it with an optical drive or a disk on bus=sata, or use bus=virtio");
    while (port < AHCI_PORTS && ahci_is_used(b->ahci, port))
        port++;
    if (port == AHCI_PORTS)
        return error_set(
            err, -ENOSPC,
            "all %d ports of the SATA adapter are in use: remove what is there, or use "
            "bus=virtio",
            AHCI_PORTS);
    sata_disk(b, m, i, port, &c);
    b->unit[i].dev = b->ahci;
    ahci_add(b->ahci, port, &c);
    return 0;
}

/* ---- SCSI ---- */

static bool scsi_taken(const struct virtio_scsi_config *c, unsigned target, unsigned lun) {
    for (unsigned i = 0; i < VIRTIO_SCSI_UNITS; i++)
        if (c->unit[i].present && c->unit[i].target == target && c->unit[i].lun == lun)
            return true;
    return false;
}

/* A unit of the table with its place: that of a restored machine, the one that is wanted, or the
 * next target that has nothing at its first unit. */
static unsigned scsi_unit(struct virtio_scsi_config *c, const char *name, unsigned wanted) {
    unsigned u, target = 0, lun = 0;

    if (!name || sscanf(name, SCSI_UNIT, &u, &target, &lun) != 3 || u >= VIRTIO_SCSI_UNITS ||
        c->unit[u].present || target >= VIRTIO_SCSI_TARGETS || lun >= VIRTIO_SCSI_LUNS ||
        scsi_taken(c, target, lun)) {
        for (u = 0; u < VIRTIO_SCSI_UNITS - 1 && c->unit[u].present; u++)
            ;
        target = wanted ? (wanted - 1) / VIRTIO_SCSI_LUNS : 0;
        lun = wanted ? (wanted - 1) % VIRTIO_SCSI_LUNS : 0;
        while (!wanted && target < VIRTIO_SCSI_TARGETS - 1 && scsi_taken(c, target, lun))
            target++;
    }
    c->unit[u] = (struct virtio_scsi_unit_config){
        .present = true, .target = (uint8_t)target, .lun = (uint8_t)lun};
    return u;
}

static void scsi_boot(struct board *b, const struct machine_config *m, int disk,
                      const struct virtio_scsi_unit_config *u, unsigned slot) {
    char path[BOARD_BOOT_PATH];

    snprintf(path, sizeof(path), "/pci@i0cf8/scsi@%x/channel@0/disk@%x,%x", slot, u->target,
             u->lun);
    boot_entry(b, m, disk, path);
}

static void scsi_disk(struct board *b, const struct machine_config *m, unsigned i,
                      struct virtio_scsi_unit_config *u, unsigned slot) {
    u->block = m->disk[i];
    serial_of(m, i, u->serial, sizeof(u->serial));
    scsi_boot(b, m, (int)i, u, slot);
}

static void scsi_note(struct board *b, unsigned i, unsigned unit,
                      const struct virtio_scsi_unit_config *u) {
    b->unit[i] = (struct board_unit){.dev = b->scsi, .unit = unit, .remove = virtio_scsi_remove};
    snprintf(b->unit[i].name, sizeof(b->unit[i].name), SCSI_UNIT, unit, u->target, u->lun);
}

enum { SCSI_KNOWN, SCSI_CHOSEN, SCSI_OTHERS };

static unsigned scsi_round(const struct machine_config *m, unsigned i) {
    return m->disk_device[i] ? SCSI_KNOWN : m->disk_unit[i] ? SCSI_CHOSEN : SCSI_OTHERS;
}

/* Disks whose place is known or was chosen come first: the others go around them. */
static void scsi_disks(struct board *b, const struct machine_config *m, unsigned slot,
                       unsigned round, struct virtio_scsi_config *c) {
    for (unsigned i = 0; i < m->disks; i++) {
        unsigned u;

        if (!m->disk[i] || m->disk_bus[i] != MACHINE_BUS_SCSI || scsi_round(m, i) != round)
            continue;
        u = scsi_unit(c, m->disk_device[i], m->disk_unit[i]);
        scsi_disk(b, m, i, &c->unit[u], slot);
        scsi_note(b, i, u, &c->unit[u]);
        if (m->disk_queues[i] > c->queues)
            c->queues = m->disk_queues[i];
    }
}

static void scsi_drives(struct board *b, const struct machine_config *m, unsigned slot, bool known,
                        struct virtio_scsi_config *c) {
    for (unsigned i = 0; i < m->cdroms; i++) {
        struct board_drive *d = &b->drive[i];
        unsigned u;

        if (m->cdrom_bus[i] != MACHINE_BUS_SCSI || !m->cdrom_device[i] == known)
            continue;
        u = scsi_unit(c, m->cdrom_device[i], 0);
        c->unit[u].cdrom = true;
        c->unit[u].block = m->cdrom[i];
        snprintf(c->unit[u].serial, sizeof(c->unit[u].serial), "cdrom%u", i);
        *d =
            (struct board_drive){NULL, u, virtio_scsi_change_medium, virtio_scsi_medium_locked, ""};
        snprintf(d->name, sizeof(d->name), SCSI_UNIT, u, c->unit[u].target, c->unit[u].lun);
        scsi_boot(b, m, DRIVE, &c->unit[u], slot);
    }
}

/* A restored machine has an adapter also when all that hung there is gone. */
static bool has_scsi(const struct machine_config *m) {
    bool yes = false;

    for (unsigned i = 0; i < m->disks; i++)
        yes |= m->disk[i] && m->disk_bus[i] == MACHINE_BUS_SCSI;
    for (unsigned i = 0; i < m->cdroms; i++)
        yes |= m->cdrom_bus[i] == MACHINE_BUS_SCSI;
    for (unsigned i = 0; i < m->sites; i++)
        yes |= !strcmp(m->site[i].device, SCSI_ADAPTER);
    return yes;
}

static int add_scsi(struct board *b, const struct machine_config *m, struct error *err) {
    struct virtio_scsi_config c = {.queues = 1};
    struct machine_site at;
    int r;

    if (!has_scsi(m))
        return 0;
    r = board_choose_site(b, m, "virtio_scsi", NULL, &at, err);
    if (r < 0)
        return r;
    scsi_disks(b, m, at.slot, SCSI_KNOWN, &c);
    scsi_drives(b, m, at.slot, true, &c);
    scsi_disks(b, m, at.slot, SCSI_CHOSEN, &c);
    scsi_disks(b, m, at.slot, SCSI_OTHERS, &c);
    scsi_drives(b, m, at.slot, false, &c);
    if (c.queues > VIRTIO_SCSI_MAX_QUEUES)
        c.queues = VIRTIO_SCSI_MAX_QUEUES;
    r = board_add_at(b, "virtio_scsi", &c, &at, &b->scsi, err);
    for (unsigned i = 0; i < m->cdroms; i++)
        if (m->cdrom_bus[i] == MACHINE_BUS_SCSI)
            b->drive[i].dev = b->scsi;
    for (unsigned i = 0; i < m->disks; i++)
        if (m->disk_bus[i] == MACHINE_BUS_SCSI)
            b->unit[i].dev = b->scsi;
    return r;
}

static int plug_scsi(struct board *b, const struct machine_config *m, unsigned i,
                     struct error *err) {
    struct virtio_scsi_unit_config u = {.present = true};
    unsigned slot, unit, place = m->disk_unit[i] ? m->disk_unit[i] - 1 : 0;
    struct error why;
    int r;

    if (!b->scsi)
        return error_set(err, -EBUSY,
                         "the machine has no SCSI adapter: start it with a disk or an optical "
                         "drive on bus=scsi, or use bus=virtio");
    slot = ((const struct pci_device *)b->scsi)->devfn >> 3;
    u.block = m->disk[i];
    serial_of(m, i, u.serial, sizeof(u.serial));
    do {
        why = (struct error){0};
        u.target = (uint8_t)(place / VIRTIO_SCSI_LUNS);
        u.lun = (uint8_t)(place % VIRTIO_SCSI_LUNS);
        r = virtio_scsi_add(b->scsi, &u, &unit, &why);
        place += VIRTIO_SCSI_LUNS;
    } while (r == -EEXIST && !m->disk_unit[i] && place < VIRTIO_SCSI_TARGETS * VIRTIO_SCSI_LUNS);
    if (r < 0)
        return error_set(err, r, "%s", why.text);
    scsi_boot(b, m, (int)i, &u, slot);
    scsi_note(b, i, unit, &u);
    return 0;
}

/* ---- IDE ---- */

static void ide_boot(struct board *b, const struct machine_config *m, int disk, unsigned drive) {
    char path[BOARD_BOOT_PATH];

    snprintf(path, sizeof(path), "/pci@i0cf8/ide@1f,1/drive@%x/disk@%x", drive / 2, drive % 2);
    boot_entry(b, m, disk, path);
}

static int add_ide(struct board *b, const struct machine_config *m, struct error *err) {
    struct ide_config c = {.ejected = m->ejected_port, .opaque = m->opaque};
    struct device *ide = NULL;
    unsigned n = 0;
    int r;

    for (unsigned i = 0; i < m->disks; i++) {
        if (m->disk_bus[i] != MACHINE_BUS_IDE)
            continue;
        ide_boot(b, m, (int)i, n);
        c.drive[n] = (struct ide_drive_config){.present = true, .block = m->disk[i]};
        serial_of(m, i, c.drive[n].serial, sizeof(c.drive[n].serial));
        n++;
    }
    for (unsigned i = 0; i < m->cdroms; i++) {
        if (m->cdrom_bus[i] != MACHINE_BUS_IDE)
            continue;
        ide_boot(b, m, DRIVE, n);
        b->drive[i] = (struct board_drive){NULL, n, ide_change_medium, ide_medium_locked, ""};
        c.drive[n] =
            (struct ide_drive_config){.present = true, .cdrom = true, .block = m->cdrom[i]};
        snprintf(c.drive[n++].serial, sizeof(c.drive[0].serial), "cdrom%u", i);
    }
    r = n ? board_add_ide(b, &c, DEVFN_IDE, &ide, err) : 0;
    for (unsigned i = 0; i < m->cdroms; i++)
        if (m->cdrom_bus[i] == MACHINE_BUS_IDE)
            b->drive[i].dev = ide;
    return r;
}

static unsigned on_bus(const struct machine_config *m, enum machine_bus bus) {
    unsigned n = 0;

    for (unsigned i = 0; i < m->cdroms; i++)
        n += m->cdrom_bus[i] == bus;
    for (unsigned i = 0; i < m->disks; i++)
        n += m->disk_bus[i] == bus;
    return n;
}

int storage_check(const struct machine_config *m, struct error *err) {
    unsigned n = on_bus(m, MACHINE_BUS_SATA);

    if (n > AHCI_PORTS)
        return error_set(err, -EINVAL,
                         "the SATA adapter has %d ports, %u disks and optical drives are given: "
                         "put disks on another bus (bus=virtio, bus=scsi)",
                         AHCI_PORTS, n);
    if (on_bus(m, MACHINE_BUS_IDE) > IDE_DRIVES)
        return error_set(err, -EINVAL,
                         "the IDE adapter takes %d disks and optical drives, %u are given: put "
                         "disks on another bus (bus=sata)",
                         IDE_DRIVES, on_bus(m, MACHINE_BUS_IDE));
    return 0;
}

/* ---- the whole ---- */

static bool has_function(enum machine_bus bus) {
    return bus == MACHINE_BUS_VIRTIO || bus == MACHINE_BUS_NVME;
}

static int add_virtio_disk(struct board *b, const struct machine_config *m, unsigned i,
                           const struct machine_site *at, struct error *err) {
    struct virtio_blk_config c = {.block = m->disk[i], .queues = m->disk_queues[i]};
    char path[BOARD_BOOT_PATH];

    serial_of(m, i, c.serial, sizeof(c.serial));
    snprintf(path, sizeof(path), "/pci@i0cf8/scsi@%x/disk@0,0", at->slot);
    boot_entry(b, m, (int)i, path);
    return board_add_at(b, "virtio_blk", &c, at, &b->disk[i], err);
}

static int add_nvme_disk(struct board *b, const struct machine_config *m, unsigned i,
                         const struct machine_site *at, struct error *err) {
    struct nvme_config c = {.block = m->disk[i], .queues = m->disk_queues[i]};
    char path[BOARD_BOOT_PATH];

    serial_of(m, i, c.serial, sizeof(c.serial));
    snprintf(path, sizeof(path), "/pci@i0cf8/pci1af4,11f4@%x/namespace@1,0", at->slot);
    boot_entry(b, m, (int)i, path);
    return board_add_at(b, "nvme", &c, at, &b->disk[i], err);
}

static int add_disk(struct board *b, const struct machine_config *m, unsigned i,
                    struct error *err) {
    bool nvme = m->disk_bus[i] == MACHINE_BUS_NVME;
    struct machine_site at;
    int r = board_choose_site(b, m, nvme ? "nvme" : "virtio_blk", m->disk_device[i], &at, err);

    if (r < 0)
        return r;
    return nvme ? add_nvme_disk(b, m, i, &at, err) : add_virtio_disk(b, m, i, &at, err);
}

int storage_plug_disk(struct board *b, const struct machine_config *m, unsigned i,
                      struct error *err) {
    if (has_function(m->disk_bus[i]))
        return add_disk(b, m, i, err);
    if (m->disk_bus[i] == MACHINE_BUS_SCSI)
        return plug_scsi(b, m, i, err);
    if (m->disk_bus[i] == MACHINE_BUS_SATA)
        return plug_sata(b, m, i, err);
    return error_set(err, -EINVAL,
                     "a disk on bus=ide cannot be added while the machine runs, as that bus does "
                     "not tell the guest: use bus=virtio, nvme, scsi or sata");
}

int storage_add(struct board *b, const struct machine_config *m, struct error *err) {
    int r = 0;

    for (unsigned i = 0; r == 0 && i < m->disks; i++)
        if (m->disk[i] && has_function(m->disk_bus[i]))
            r = add_disk(b, m, i, err);
    if (r == 0)
        r = add_scsi(b, m, err);
    if (r == 0)
        r = add_ide(b, m, err);
    return r < 0 ? r : add_sata(b, m, err);
}
