/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Disks and optical drives on their buses, and the order of booting. */
#include "machine/storage.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "devices/ahci.h"
#include "devices/ide.h"
#include "devices/nvme.h"
#include "devices/virtio/virtio_blk.h"
#include "devices/virtio/virtio_scsi.h"

enum { DEVFN_AHCI = 0x1f << 3 | 2, DEVFN_IDE = 0x1f << 3 | 1 };
static const char default_order[] = "cdn";

/* ---- the order of booting ---- */

static void boot_entry(struct board *b, const struct machine_config *m, char kind, unsigned index,
                       const char *path) {
    const char *order = m->boot_order ? m->boot_order : default_order, *at = strchr(order, kind);
    struct board_boot *e = &b->boot[b->boots];

    if ((!at && !index) || b->boots == BOARD_MAX_BOOTS)
        return;
    /* What has a number comes first, by it; then the kinds in their order, each as it was given. */
    e->rank = index ? index : 1000000 + (unsigned)(at - order);
    snprintf(e->path, sizeof(e->path), "%s", path);
    b->boots++;
}

static unsigned disk_index(const struct machine_config *m, unsigned i) { return m->disk_boot[i]; }

void storage_boot_nic(struct board *b, const struct machine_config *m, unsigned slot) {
    char path[BOARD_BOOT_PATH];

    snprintf(path, sizeof(path), "/pci@i0cf8/ethernet@%x/ethernet-phy@0", slot);
    boot_entry(b, m, 'n', 0, path);
}

void storage_boot_order(const struct board *b, struct buf *ret) {
    bool done[BOARD_MAX_BOOTS] = {false};

    for (unsigned n = 0; n < b->boots; n++) {
        unsigned best = BOARD_MAX_BOOTS;

        for (unsigned i = 0; i < b->boots; i++)
            if (!done[i] && (best == BOARD_MAX_BOOTS || b->boot[i].rank < b->boot[best].rank))
                best = i;
        done[best] = true;
        buf_printf(ret, "%s%s", n ? "\n" : "", b->boot[best].path);
    }
}

/* ---- SATA ---- */

static const char *serial_of(const struct machine_config *m, unsigned i, char *buf, size_t n) {
    if (m->disk_serial[i])
        snprintf(buf, n, "%s", m->disk_serial[i]);
    else
        snprintf(buf, n, "disk%u", i);
    return buf;
}

static void sata_boot(struct board *b, const struct machine_config *m, char kind, unsigned index,
                      unsigned port) {
    char path[BOARD_BOOT_PATH];

    snprintf(path, sizeof(path), "/pci@i0cf8/pci8086,2922@1f,2/drive@%x/disk@0", port);
    boot_entry(b, m, kind, index, path);
}

static int add_sata(struct board *b, const struct machine_config *m, struct error *err) {
    struct ahci_config c = {.ejected = m->ejected_port, .opaque = m->opaque};
    unsigned n = 0;
    int r;

    for (unsigned i = 0; i < m->disks; i++) {
        if (m->disk_bus[i] != MACHINE_BUS_SATA || !m->disk[i])
            continue;
        sata_boot(b, m, 'c', disk_index(m, i), n);
        c.port[n].present = true;
        c.port[n].block = m->disk[i];
        serial_of(m, i, c.port[n].serial, sizeof(c.port[n].serial));
        n++;
    }
    for (unsigned i = 0; i < m->cdroms; i++) {
        if (m->cdrom_bus[i] != MACHINE_BUS_SATA)
            continue;
        sata_boot(b, m, 'd', 0, n);
        b->drive[i] = (struct board_drive){NULL, n, ahci_change_medium, ahci_medium_locked};
        c.port[n] = (struct ahci_port_config){.present = true, .cdrom = true, .block = m->cdrom[i]};
        snprintf(c.port[n++].serial, sizeof(c.port[0].serial), "cdrom%u", i);
    }
    r = n ? board_add_function(b, "ahci", &c, DEVFN_AHCI, &b->ahci, err) : 0;
    for (unsigned i = 0; i < m->cdroms; i++)
        if (m->cdrom_bus[i] == MACHINE_BUS_SATA)
            b->drive[i].dev = b->ahci;
    return r;
}

/* ---- SCSI ---- */

/* Where a disk is, or the next target that has nothing at its first unit. */
static void scsi_place(struct virtio_scsi_config *c, unsigned n, unsigned wanted) {
    struct virtio_scsi_unit_config *u = &c->unit[n];
    unsigned place = wanted ? wanted - 1 : 0, i;

    do {
        for (i = 0; i < n; i++)
            if (c->unit[i].target * VIRTIO_SCSI_LUNS + c->unit[i].lun == (int)place)
                break;
        if (wanted || i == n)
            break;
        place += VIRTIO_SCSI_LUNS;
    } while (place < VIRTIO_SCSI_TARGETS * VIRTIO_SCSI_LUNS);
    u->present = true;
    u->target = (uint8_t)(place / VIRTIO_SCSI_LUNS);
    u->lun = (uint8_t)(place % VIRTIO_SCSI_LUNS);
}

static void scsi_boot(struct board *b, const struct machine_config *m, char kind, unsigned index,
                      const struct virtio_scsi_unit_config *u, unsigned slot) {
    char path[BOARD_BOOT_PATH];

    snprintf(path, sizeof(path), "/pci@i0cf8/scsi@%x/channel@0/disk@%x,%x", slot, u->target,
             u->lun);
    boot_entry(b, m, kind, index, path);
}

/* Disks whose place was chosen come first in the table: the others go around them. */
static unsigned scsi_disks(struct board *b, const struct machine_config *m, unsigned slot,
                           bool chosen, struct virtio_scsi_config *c, unsigned n) {
    for (unsigned i = 0; i < m->disks; i++) {
        if (!m->disk[i] || m->disk_bus[i] != MACHINE_BUS_SCSI || (m->disk_unit[i] != 0) != chosen)
            continue;
        scsi_place(c, n, m->disk_unit[i]);
        c->unit[n].block = m->disk[i];
        serial_of(m, i, c->unit[n].serial, sizeof(c->unit[n].serial));
        if (m->disk_queues[i] > c->queues)
            c->queues = m->disk_queues[i];
        scsi_boot(b, m, 'c', disk_index(m, i), &c->unit[n++], slot);
    }
    return n;
}

static bool has_scsi(const struct machine_config *m) {
    bool yes = false;

    for (unsigned i = 0; i < m->disks; i++)
        yes |= m->disk[i] && m->disk_bus[i] == MACHINE_BUS_SCSI;
    for (unsigned i = 0; i < m->cdroms; i++)
        yes |= m->cdrom_bus[i] == MACHINE_BUS_SCSI;
    return yes;
}

static int add_scsi(struct board *b, const struct machine_config *m, struct error *err) {
    struct virtio_scsi_config c = {.queues = 1};
    struct machine_site at;
    unsigned n;
    int r;

    if (!has_scsi(m))
        return 0;
    r = board_choose_site(b, m, "virtio_scsi", NULL, &at, err);
    if (r < 0)
        return r;
    n = scsi_disks(b, m, at.slot, true, &c, 0);
    n = scsi_disks(b, m, at.slot, false, &c, n);
    for (unsigned i = 0; i < m->cdroms; i++) {
        if (m->cdrom_bus[i] != MACHINE_BUS_SCSI)
            continue;
        scsi_place(&c, n, 0);
        c.unit[n].cdrom = true;
        c.unit[n].block = m->cdrom[i];
        snprintf(c.unit[n].serial, sizeof(c.unit[n].serial), "cdrom%u", i);
        b->drive[i] =
            (struct board_drive){NULL, n, virtio_scsi_change_medium, virtio_scsi_medium_locked};
        scsi_boot(b, m, 'd', 0, &c.unit[n++], at.slot);
    }
    if (c.queues > VIRTIO_SCSI_MAX_QUEUES)
        c.queues = VIRTIO_SCSI_MAX_QUEUES;
    r = board_add_at(b, "virtio_scsi", &c, &at, &b->scsi, err);
    for (unsigned i = 0; i < m->cdroms; i++)
        if (m->cdrom_bus[i] == MACHINE_BUS_SCSI)
            b->drive[i].dev = b->scsi;
    return r;
}

/* ---- IDE ---- */

static void ide_boot(struct board *b, const struct machine_config *m, char kind, unsigned index,
                     unsigned drive) {
    char path[BOARD_BOOT_PATH];

    snprintf(path, sizeof(path), "/pci@i0cf8/ide@1f,1/drive@%x/disk@%x", drive / 2, drive % 2);
    boot_entry(b, m, kind, index, path);
}

static int add_ide(struct board *b, const struct machine_config *m, struct error *err) {
    struct ide_config c = {.ejected = m->ejected_port, .opaque = m->opaque};
    struct device *ide = NULL;
    unsigned n = 0;
    int r;

    for (unsigned i = 0; i < m->disks; i++) {
        if (m->disk_bus[i] != MACHINE_BUS_IDE)
            continue;
        ide_boot(b, m, 'c', disk_index(m, i), n);
        c.drive[n] = (struct ide_drive_config){.present = true, .block = m->disk[i]};
        serial_of(m, i, c.drive[n].serial, sizeof(c.drive[n].serial));
        n++;
    }
    for (unsigned i = 0; i < m->cdroms; i++) {
        if (m->cdrom_bus[i] != MACHINE_BUS_IDE)
            continue;
        ide_boot(b, m, 'd', 0, n);
        b->drive[i] = (struct board_drive){NULL, n, ide_change_medium, ide_medium_locked};
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

bool storage_can_plug(enum machine_bus bus) {
    return bus == MACHINE_BUS_VIRTIO || bus == MACHINE_BUS_NVME;
}

static int add_virtio_disk(struct board *b, const struct machine_config *m, unsigned i,
                           const struct machine_site *at, struct error *err) {
    struct virtio_blk_config c = {.block = m->disk[i], .queues = m->disk_queues[i]};
    char path[BOARD_BOOT_PATH];

    serial_of(m, i, c.serial, sizeof(c.serial));
    snprintf(path, sizeof(path), "/pci@i0cf8/scsi@%x/disk@0,0", at->slot);
    boot_entry(b, m, 'c', disk_index(m, i), path);
    return board_add_at(b, "virtio_blk", &c, at, &b->disk[i], err);
}

static int add_nvme_disk(struct board *b, const struct machine_config *m, unsigned i,
                         const struct machine_site *at, struct error *err) {
    struct nvme_config c = {.block = m->disk[i], .queues = m->disk_queues[i]};
    char path[BOARD_BOOT_PATH];

    serial_of(m, i, c.serial, sizeof(c.serial));
    snprintf(path, sizeof(path), "/pci@i0cf8/pci1af4,11f4@%x/namespace@1,0", at->slot);
    boot_entry(b, m, 'c', disk_index(m, i), path);
    return board_add_at(b, "nvme", &c, at, &b->disk[i], err);
}

int storage_add_disk(struct board *b, const struct machine_config *m, unsigned i,
                     struct error *err) {
    bool nvme = m->disk_bus[i] == MACHINE_BUS_NVME;
    struct machine_site at;
    int r = board_choose_site(b, m, nvme ? "nvme" : "virtio_blk", m->disk_device[i], &at, err);

    if (r < 0)
        return r;
    return nvme ? add_nvme_disk(b, m, i, &at, err) : add_virtio_disk(b, m, i, &at, err);
}

int storage_add(struct board *b, const struct machine_config *m, struct error *err) {
    int r = 0;

    for (unsigned i = 0; r == 0 && i < m->disks; i++)
        if (m->disk[i] && storage_can_plug(m->disk_bus[i]))
            r = storage_add_disk(b, m, i, err);
    if (r == 0)
        r = add_scsi(b, m, err);
    if (r == 0)
        r = add_ide(b, m, err);
    return r < 0 ? r : add_sata(b, m, err);
}
