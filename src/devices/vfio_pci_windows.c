/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BARs of a device of the host that the guest's processors reach by themselves, where the backend
 * can do that (bus/windows.h).
 *
 * A BAR has windows while the guest has it decoded and the device answers there: not before the
 * device has been told so, not while it sleeps, not in a reset. An access to what does not answer
 * would be the end of the processor, where one that is passed on just reads ones. The pages with
 * the MSI-X table and its pending bits, which are ours, have none; nor has any BAR while INTx is in
 * use, whose end is seen by accesses.
 */
#include "base/trace.h"
#include "bus/windows.h"
#include "devices/vfio_pci_internal.h"

enum { PAGE = 4096, ENTRY_SIZE = 16 };

struct span {
    uint64_t from, to;
};

static struct windows *windows_of(const struct vfio_pci *v) {
    return v->pci.bus ? pci_bus_windows(v->pci.bus) : NULL;
}

static void close_bar(struct vfio_pci *v, unsigned bar) {
    struct vfio_windows *w = &v->windows[bar];

    while (w->count)
        window_close(windows_of(v), w->number[--w->count]);
    w->open = false;
}

static void open_span(struct vfio_pci *v, unsigned bar, const struct vfio_area *a, struct span s) {
    struct vfio_windows *w = &v->windows[bar];
    int n;

    if (s.from >= s.to || w->count == VFIO_PCI_PIECES)
        return;
    n = window_open(windows_of(v), v->pci.bar[bar].region.base + s.from,
                    a->memory + (s.from - a->offset), s.to - s.from);
    trace(vfio_pci_window, v->f->name, bar, s.from, s.to, n);
    if (n >= 0)
        w->number[w->count++] = n;
}

/* Whole pages; none, if it is in another BAR. */
static struct span ours(bool here, uint64_t at, uint64_t bytes) {
    struct span s = {at & ~(uint64_t)(PAGE - 1), (at + bytes + PAGE - 1) & ~(uint64_t)(PAGE - 1)};

    return here ? s : (struct span){UINT64_MAX, UINT64_MAX};
}

static void open_area(struct vfio_pci *v, unsigned bar, const struct vfio_area *a) {
    const struct pci_device *d = &v->pci;
    struct span table =
        ours(d->msix_cap && d->msix_bar == bar, d->msix_table, (uint64_t)d->vectors * ENTRY_SIZE);
    struct span pba =
        ours(d->msix_cap && d->pba_bar == bar, d->msix_pba, (d->vectors + 63u) / 64 * 8);
    struct span first = table.from < pba.from ? table : pba;
    struct span second = table.from < pba.from ? pba : table;
    uint64_t at = a->offset, end = a->offset + a->size;

    for (unsigned i = 0; i < 2; i++) {
        struct span cut = i ? second : first;

        if (cut.from >= end)
            break;
        open_span(v, bar, a, (struct span){at, cut.from});
        at = cut.to > at ? cut.to : at;
    }
    open_span(v, bar, a, (struct span){at, end});
}

static void open_bar(struct vfio_pci *v, unsigned bar) {
    const struct vfio_region *r = &v->f->region[bar];

    v->windows[bar].open = true;
    for (unsigned i = 0; i < r->areas; i++)
        open_area(v, bar, &r->area[i]);
}

void vfio_windows_update(struct vfio_pci *v) {
    for (unsigned bar = 0; bar < PCI_BARS; bar++) {
        const struct pci_bar *b = &v->pci.bar[bar];
        bool wanted =
            v->f && v->decodes && !v->intx_used && b->mapped && !b->io && !(b->region.base % PAGE);

        if (v->windows[bar].open && !wanted)
            close_bar(v, bar);
        if (!v->windows[bar].open && wanted)
            open_bar(v, bar);
    }
}
