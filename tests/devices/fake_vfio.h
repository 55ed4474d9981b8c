/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A device of the host that is made up: its configuration and BARs are memory, and what is asked of
 * it is noted. */
#ifndef TESTS_DEVICES_FAKE_VFIO_H
#define TESTS_DEVICES_FAKE_VFIO_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "devices/pci.h"
#include "devices/vfio_pci.h"
#include "vfio/function.h"

enum { FAKE_BAR = 0x4000, FAKE_TABLE = 0x2000, FAKE_PBA = 0x3000, FAKE_VECTORS = 70 };
enum { FAKE_PM = 0x40, FAKE_MSI = 0x50, FAKE_PCIE = 0x70, FAKE_MSIX = 0xb0, FAKE_EA = 0xc0 };

struct fake_vfio {
    struct vfio_function f; /* first */
    uint8_t config[PCI_CONFIG_SIZE];
    uint8_t bar[PCI_DECODERS][FAKE_BAR];
    bool broken; /* nothing can be read or written */
    bool resets;
    enum vfio_interrupt kind;
    unsigned count, listens, unmasks, reset_count, config_writes;
    int fd[VFIO_VECTORS]; /* of messages, -1: none */
    int most;             /* interrupts that the host gives; negative: an error */
};

static inline uint8_t *fake_at(struct fake_vfio *d, unsigned region, uint64_t offset,
                               unsigned size) {
    if (d->broken || region >= VFIO_REGIONS || !size || size > 8 ||
        offset > d->f.region[region].size || size > d->f.region[region].size - offset)
        return NULL;
    return region == VFIO_CONFIG ? d->config + offset : d->bar[region] + offset;
}

static inline int fake_read(struct vfio_function *f, unsigned region, uint64_t offset, void *buf,
                            unsigned size) {
    const uint8_t *at = fake_at((struct fake_vfio *)f, region, offset, size);

    if (at)
        memcpy(buf, at, size);
    return at ? 0 : -EIO;
}

static inline int fake_write(struct vfio_function *f, unsigned region, uint64_t offset,
                             const void *buf, unsigned size) {
    struct fake_vfio *d = (struct fake_vfio *)f;
    uint8_t *at = fake_at(d, region, offset, size);

    if (at)
        memcpy(at, buf, size);
    d->config_writes += region == VFIO_CONFIG;
    return at ? 0 : -EIO;
}

static inline int fake_listen(struct vfio_function *f, enum vfio_interrupt kind, unsigned count,
                              const int *fds) {
    struct fake_vfio *d = (struct fake_vfio *)f;

    d->listens++;
    d->kind = kind;
    d->count = 0;
    if (count > f->interrupts[kind])
        abort(); /* the device knows how many there are */
    if (d->most < 0)
        return d->most;
    d->count = count < (unsigned)d->most ? count : (unsigned)d->most;
    for (unsigned i = 0; i < d->count; i++)
        d->fd[i] = fds ? fds[i] : -1;
    return (int)d->count;
}

static inline void fake_write_fd(int fd) {
    const uint64_t one = 1;

    if (write(fd, &one, sizeof(one)) != sizeof(one))
        abort(); /* it was closed, and the kernel still has it */
}

/* What the device held back in its pending bits comes now. */
static inline int fake_signal(struct vfio_function *f, unsigned n, int fd) {
    struct fake_vfio *d = (struct fake_vfio *)f;
    uint8_t *pending = &d->bar[0][FAKE_PBA + n / 8];

    if (n >= d->count || d->kind != VFIO_MSIX)
        abort();
    d->fd[n] = fd;
    if (n < FAKE_VECTORS && *pending >> n % 8 & 1)
        fake_write_fd(fd);
    if (n < FAKE_VECTORS)
        *pending &= (uint8_t) ~(1u << n % 8);
    return 0;
}

static inline int fake_unmask(struct vfio_function *f) {
    ((struct fake_vfio *)f)->unmasks++;
    return 0;
}

static inline int fake_reset(struct vfio_function *f) {
    struct fake_vfio *d = (struct fake_vfio *)f;

    d->reset_count++;
    return d->resets ? 0 : -ENOTSUP;
}

static inline void fake_cap(struct fake_vfio *d, unsigned at, uint8_t id, unsigned next) {
    d->config[at] = id;
    d->config[at + 1] = (uint8_t)next;
}

/* An NVMe drive, say: BAR 0 of 64 bits with the table, BAR 2 of ports, a ROM, all capabilities. */
static inline void fake_init(struct fake_vfio *d) {
    static const struct vfio_function_ops ops = {fake_read,   fake_write,  fake_listen,
                                                 fake_signal, fake_unmask, fake_reset};
    uint8_t *c = d->config;

    memset(d, 0, sizeof(*d));
    d->f.ops = &ops;
    d->resets = true;
    d->most = VFIO_VECTORS;
    snprintf(d->f.name, sizeof(d->f.name), "0000:03:00.0");
    d->f.region[0] = (struct vfio_region){.size = FAKE_BAR, .read = true, .write = true};
    d->f.region[0].area[d->f.region[0].areas++] = (struct vfio_area){0, FAKE_BAR, d->bar[0]};
    d->f.region[2] = (struct vfio_region){.size = 0x20, .read = true, .write = true};
    d->f.region[VFIO_ROM] = (struct vfio_region){.size = 0x800, .read = true};
    d->f.region[VFIO_CONFIG] =
        (struct vfio_region){.size = PCI_CONFIG_SIZE, .read = true, .write = true};
    d->f.interrupts[VFIO_INTX] = 1;
    d->f.interrupts[VFIO_MSI] = 4;
    d->f.interrupts[VFIO_MSIX] = FAKE_VECTORS;
    store_le32(c, 0x00101b36);
    store_le32(c + PCI_CLASS_REV, 0x01080202);
    store_le32(c + PCI_SUBSYS_VENDOR, 0x11001af4);
    c[PCI_HEADER_TYPE] = 0x80;
    store_le32(c + PCI_BAR0, 0xfe00000c); /* 64 bits, prefetchable, where the host has it */
    store_le32(c + PCI_BAR0 + 8, 0xe001);
    c[PCI_INT_PIN] = 1;
    store_le16(c + PCI_STATUS, PCI_STATUS_CAPS);
    c[PCI_CAP_PTR] = FAKE_PM;
    fake_cap(d, FAKE_PM, 0x01, FAKE_MSI);
    fake_cap(d, FAKE_MSI, PCI_CAP_MSI, FAKE_EA);
    store_le16(c + FAKE_MSI + 2, 0x0180 | 5 << 1); /* 64 bits, masks, 32 messages */
    fake_cap(d, FAKE_EA, 0x14, FAKE_PCIE);
    fake_cap(d, FAKE_PCIE, 0x10, FAKE_MSIX);
    store_le16(c + FAKE_PCIE + 2, 0x0002); /* version 2, endpoint */
    store_le32(c + FAKE_PCIE + 0x0c, 0x00400843);
    fake_cap(d, FAKE_MSIX, PCI_CAP_MSIX, 0);
    store_le16(c + FAKE_MSIX + 2, FAKE_VECTORS - 1);
    store_le32(c + FAKE_MSIX + 4, FAKE_TABLE);
    store_le32(c + FAKE_MSIX + 8, FAKE_PBA);
    store_le32(c + 0x100,
               0x12010010); /* SR-IOV, then errors, then translation, then serial number */
    store_le32(c + 0x120, 0x16020001);
    store_le32(c + 0x160, 0x1a01000f);
    store_le32(c + 0x1a0, 0x00010003);
}

static inline void fake_fire(struct fake_vfio *d, enum vfio_interrupt kind, unsigned n) {
    if (kind == VFIO_INTX && d->f.fired)
        d->f.fired(d->f.opaque);
    if (kind == VFIO_INTX || kind != d->kind || n >= d->count)
        return;
    if (d->fd[n] >= 0)
        fake_write_fd(d->fd[n]);
    else if (n < FAKE_VECTORS)
        d->bar[0][FAKE_PBA + n / 8] |= (uint8_t)(1u << n % 8);
}

#endif
