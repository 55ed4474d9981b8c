/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interrupts of a device of the host: INTx, MSI and MSI-X as the guest has set them up.
 * Source: PCI Local Bus Specification 3.0, 6.8 (MSI, MSI-X), 2.2.6 (INTx).
 *
 * The host has a vector for each of the guest's, on from when the guest switches the kind on. Each
 * message has a wire (bus/wires.h), which the kernel signals and, under KVM, also raises: then
 * nobody here hears of it. Masks of single messages are ours: what is signalled meanwhile stays in
 * the wire, pending. A vector of MSI-X gets its wire when the guest lets it through first; before,
 * the device itself holds its messages back, and its pending bits say so.
 *
 * INTx is a level that the kernel tells as an edge, masking it. The guest's handler looks into the
 * device, so with the next access to a BAR the level is lowered and the kernel told to look again:
 * if the device still wants it, it fires once more. So from the first one on accesses must be seen.
 */
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "bus/wires.h"
#include "devices/pci_internal.h"
#include "devices/vfio_pci_internal.h"

enum {
    CONTROL = 2,
    MSI_ENABLE = 1,
    MSI_LOW = 4,
    MSI_HIGH = 8,
    MSI_64 = 0x80,
    MSI_PENDING = 4, /* behind the mask */
};

static bool is_master(const struct vfio_pci *v) {
    return load_le16(v->pci.config + PCI_COMMAND) & PCI_COMMAND_MASTER;
}

static void warn(struct vfio_pci *v, unsigned wanted, unsigned given, const char *why) {
    if (!v->warned)
        log_warning("device %s: the guest wants %u interrupts of it, of which the host gives %u: "
                    "%s",
                    v->f->name, wanted, given, why);
    v->warned = true;
}

/* ------------------------------------------------------------------ MSI */

static uint16_t msi_control(const struct vfio_pci *v) {
    return v->msi.at ? load_le16(v->pci.config + v->msi.at + CONTROL) : 0;
}

static bool msi_on(const struct vfio_pci *v) { return msi_control(v) & MSI_ENABLE; }

static unsigned msi_count(const struct vfio_pci *v) {
    unsigned power = msi_control(v) >> 4 & 7;

    return 1u << (power < v->msi.most ? power : v->msi.most);
}

static uint32_t msi_masked(const struct vfio_pci *v) {
    return v->msi.mask ? load_le32(v->pci.config + v->msi.at + v->msi.mask) : 0;
}

static void set_msi_wires(struct vfio_pci *v) {
    const uint8_t *cap = v->pci.config + v->msi.at;
    bool on = msi_on(v) && is_master(v);
    uint64_t address = load_le32(cap + MSI_LOW);
    unsigned data = load_le16(cap + v->msi.data) & ~(msi_count(v) - 1);

    if (msi_control(v) & MSI_64)
        address |= (uint64_t)load_le32(cap + MSI_HIGH) << 32;
    for (unsigned n = 0; n < VFIO_PCI_MESSAGES; n++)
        if (v->msi.wire[n])
            msi_wire_set(v->msi.wire[n], on && !(msi_masked(v) >> n & 1), address, data | n);
}

/* The descriptors, and how many of `count` there are. */
static unsigned make_msi_wires(struct vfio_pci *v, unsigned count, int fd[VFIO_PCI_MESSAGES]) {
    struct wires *wires = v->pci.bus ? pci_bus_wires(v->pci.bus) : NULL;
    unsigned n = 0;

    while (n < count && (v->msi.wire[n] = msi_wire_new(wires, &v->pci.dev.env.msi))) {
        fd[n] = msi_wire_fd(v->msi.wire[n]);
        n++;
    }
    return n;
}

static void show_pending(struct vfio_pci *v) {
    uint32_t bits = 0;

    for (unsigned n = 0; n < VFIO_PCI_MESSAGES; n++)
        if (v->msi.wire[n] && msi_wire_pending(v->msi.wire[n]))
            bits |= 1u << n;
    store_le32(v->pci.config + v->msi.at + v->msi.mask + MSI_PENDING, bits);
}

void vfio_irq_reading(struct vfio_pci *v, unsigned offset, unsigned size) {
    if (v->msi.mask && pci_overlaps(offset, size, v->msi.at + v->msi.mask + MSI_PENDING, 4))
        show_pending(v);
}

/* ------------------------------------------------------------------ MSI-X */

static bool is_signalled(const struct vfio_pci *v, unsigned n) {
    return v->signalled[n / 32] >> n % 32 & 1;
}

static void connect(struct vfio_pci *v, unsigned n) {
    int fd = pci_msix_fd(&v->pci, n), r = fd < 0 ? -1 : v->f->ops->signal(v->f, n, fd);

    v->signalled[n / 32] |= 1u << n % 32;
    if (r < 0)
        warn(v, v->count, n, "no more descriptors (ulimit -n); it may wait for the others in vain");
}

static void connect_open(struct vfio_pci *v) {
    for (unsigned n = 0; n < v->given; n++)
        if (!is_signalled(v, n) && pci_msix_open(&v->pci, n))
            connect(v, n);
}

/* What the device itself still holds back. */
static uint64_t pending_there(struct vfio_pci *v, unsigned bar, uint64_t offset, unsigned size) {
    unsigned first = (unsigned)(offset - v->pci.msix_pba) * 8;
    uint64_t bits = 0;

    if (v->f->ops->read(v->f, bar, offset, &bits, size) < 0)
        return 0;
    for (unsigned i = 0; i < 8 * size; i++)
        if (first + i >= v->given || is_signalled(v, first + i))
            bits &= ~(1ull << i);
    return bits;
}

bool vfio_msix_read(struct vfio_pci *v, unsigned bar, uint64_t offset, unsigned size,
                    uint64_t *ret) {
    unsigned bytes = (v->pci.vectors + 63u) / 64 * 8;

    if (!pci_msix_read(&v->pci, bar, offset, size, ret))
        return false;
    if (v->listening && v->kind == VFIO_MSIX && bar == v->pci.pba_bar &&
        offset >= v->pci.msix_pba && offset - v->pci.msix_pba + size <= bytes)
        *ret |= pending_there(v, bar, offset, size);
    return true;
}

bool vfio_msix_write(struct vfio_pci *v, unsigned bar, uint64_t offset, unsigned size,
                     uint64_t value) {
    if (!pci_msix_write(&v->pci, bar, offset, size, value))
        return false;
    if (v->listening && v->kind == VFIO_MSIX)
        connect_open(v);
    return true;
}

/* ------------------------------------------------------------------ INTx, and which of them */

void vfio_irq_fired(void *opaque) {
    struct vfio_pci *v = opaque;

    if (!v->listening || v->kind != VFIO_INTX)
        return; /* it comes from before the guest changed its mind */
    v->intx_masked = v->intx_used = true;
    vfio_windows_update(v);
    pci_set_intx(&v->pci, true);
}

void vfio_irq_looked(struct vfio_pci *v) {
    if (!v->intx_masked)
        return;
    v->intx_masked = false;
    pci_set_intx(&v->pci, false);
    v->f->ops->unmask(v->f);
}

/* Wires go after the kernel's last signal. */
static void forget(struct vfio_pci *v) {
    pci_set_intx(&v->pci, false);
    pci_msix_unwire(&v->pci);
    for (unsigned n = 0; n < VFIO_PCI_MESSAGES; n++) {
        msi_wire_free(v->msi.wire[n]);
        v->msi.wire[n] = NULL;
    }
    memset(v->signalled, 0, sizeof(v->signalled));
    v->listening = v->intx_masked = v->intx_used = false;
}

void vfio_irq_quiet(struct vfio_pci *v) {
    v->f->ops->listen(v->f, VFIO_INTX, 0, NULL);
    forget(v);
}

static void listen_to(struct vfio_pci *v, enum vfio_interrupt kind, unsigned count) {
    int fd[VFIO_PCI_MESSAGES], r;
    unsigned some = count;

    if (v->listening && v->kind == kind && v->count == count)
        return;
    vfio_irq_quiet(v);
    if (kind == VFIO_MSI)
        some = make_msi_wires(v, count, fd);
    r = v->f->ops->listen(v->f, kind, some, kind == VFIO_MSI ? fd : NULL);
    if (r < 0 || (unsigned)r < count)
        warn(v, count, r < 0 ? 0 : (unsigned)r,
             r < 0 ? strerror(-r) : "it may wait for the others in vain");
    v->listening = true;
    v->kind = kind;
    v->count = count;
    v->given = r < 0 ? 0 : (unsigned)r;
}

void vfio_irq_update(struct vfio_pci *v) {
    if (pci_msix_enabled(&v->pci)) {
        listen_to(v, VFIO_MSIX, v->pci.vectors);
        connect_open(v);
    } else if (msi_on(v)) {
        listen_to(v, VFIO_MSI, msi_count(v));
        set_msi_wires(v);
    } else {
        listen_to(v, VFIO_INTX, v->pci.config[PCI_INT_PIN] ? 1 : 0);
    }
}

void vfio_irq_reset(struct vfio_pci *v) {
    if (v->f)
        vfio_irq_update(v);
}
