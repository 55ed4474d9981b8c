/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A PCI device of the host, passed to the guest.
 * Source: PCI Local Bus Specification 3.0, 6.1 (header), 6.2.5 (BARs); PCIe 3.0, 7.5 to 7.8; Linux
 * include/uapi/linux/vfio.h.
 *
 * Theory of operation. A byte of the configuration is ours or the host's (`through`). Ours are the
 * header but for the status register, and what says where interrupts go: the guest's values, kept
 * in config[] as of any other function. The host's are read when the guest reads, and written when
 * it writes; the kernel's vfio-pci watches over them once more. The command register is ours, and
 * what of it concerns the device is passed on. Accesses to BARs that come to the board are passed
 * on one by one, but for the MSI-X table and its pending bits, which are ours; where the processors
 * have windows to a BAR (vfio_pci_windows.c) they do not come.
 *
 * Departures: BARs that are too small or too large for a guest's bus are not there. On the root bus
 * an endpoint is one integrated into the root complex, which has no link.
 */
#include "devices/vfio_pci.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/trace.h"
#include "devices/pci_internal.h"
#include "devices/vfio_pci_internal.h"

enum {
    COMMAND_THROUGH = 0x0147, /* I/O, memory, master, parity, SERR */
    HEADER_END = 0x40,
    HEADER_KIND = 0x7f,
    BAR_IO = 1,
    BAR_64 = 4,
    BAR_PREFETCH = 8,
    BAR_MIN = 16,
    IO_BAR_MIN = 4,
    IO_BAR_MAX = 256,
    ROM_MIN = 2048,
    BAR_MAX_BITS = 38, /* a place for it that is aligned: machine/map.h */
    BAR_32_MAX_BITS = 31,
    PM_CONTROL = 4,
    PM_ASLEEP = 3,
};

/* ------------------------------------------------------------------ BARs */

static uint64_t all_ones(unsigned size) { return size >= 8 ? ~0ull : (1ull << (8 * size)) - 1; }

static uint64_t bar_read(struct vfio_pci *v, unsigned bar, uint64_t offset, unsigned size) {
    uint64_t value = 0;

    if (!v->f)
        return all_ones(size);
    if (vfio_msix_read(v, bar, offset, size, &value))
        return value;
    stat_inc(vfio_accesses);
    if (v->f->ops->read(v->f, bar, offset, &value, size) < 0)
        value = all_ones(size);
    trace(vfio_pci_read, v->f->name, bar, offset, size, value);
    if (bar != VFIO_ROM)
        vfio_irq_looked(v);
    return value;
}

static void bar_write(struct vfio_pci *v, unsigned bar, uint64_t offset, unsigned size,
                      uint64_t value) {
    if (!v->f || vfio_msix_write(v, bar, offset, size, value))
        return;
    stat_inc(vfio_accesses);
    trace(vfio_pci_write, v->f->name, bar, offset, size, value);
    v->f->ops->write(v->f, bar, offset, &value, size);
    vfio_irq_looked(v);
}

#define BAR_OPS(n)                                                                                 \
    static uint64_t read##n(void *dev, uint64_t offset, unsigned size) {                           \
        return bar_read(dev, n, offset, size);                                                     \
    }                                                                                              \
    static void write##n(void *dev, uint64_t offset, unsigned size, uint64_t value) {              \
        bar_write(dev, n, offset, size, value);                                                    \
    }
BAR_OPS(0)
BAR_OPS(1)
BAR_OPS(2)
BAR_OPS(3)
BAR_OPS(4)
BAR_OPS(5)

static uint64_t read_rom(void *dev, uint64_t offset, unsigned size) {
    return bar_read(dev, VFIO_ROM, offset, size);
}

static const struct io_ops bar_ops[PCI_BARS] = {{read0, write0, 1, 8}, {read1, write1, 1, 8},
                                                {read2, write2, 1, 8}, {read3, write3, 1, 8},
                                                {read4, write4, 1, 8}, {read5, write5, 1, 8}};
static const struct io_ops rom_ops = {read_rom, NULL, 1, 8};

static bool is_power(uint64_t size) { return size && !(size & (size - 1)); }

/* Takes the BAR over if the guest's bus can have it. */
static int init_bar(struct vfio_pci *v, unsigned i, uint32_t flags, struct error *err) {
    static const char *const names[PCI_BARS] = {"vfio-bar0", "vfio-bar1", "vfio-bar2",
                                                "vfio-bar3", "vfio-bar4", "vfio-bar5"};
    uint64_t size = v->f->region[i].size;
    bool io = flags & BAR_IO, is64 = !io && flags & BAR_64 && i + 1 < PCI_BARS;

    if (!is_power(size) || size < (io ? IO_BAR_MIN : BAR_MIN) || (io && size > IO_BAR_MAX))
        return 0;
    if (size > 1ull << (is64 ? BAR_MAX_BITS : BAR_32_MAX_BITS))
        return error_set(err, -ENOTSUP,
                         "device %s: its BAR %u of %u bits has %llu MiB, for which the guest's bus "
                         "has no place: devices of this kind cannot be given to a machine",
                         v->f->name, i, is64 ? 64 : 32, (unsigned long long)size >> 20);
    pci_init_bar(&v->pci, i, size, io, is64, &bar_ops[i], names[i]);
    if (!io)
        v->pci.config[PCI_BAR0 + 4 * i] |= flags & BAR_PREFETCH;
    return 0;
}

static int init_bars(struct vfio_pci *v, const uint8_t *host, struct error *err) {
    uint64_t rom = v->f->region[VFIO_ROM].size;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < PCI_BARS; i++) {
        r = init_bar(v, i, load_le32(host + PCI_BAR0 + 4 * i), err);
        i += v->pci.bar[i].is64; /* the next one is its upper half */
    }
    if (r == 0 && is_power(rom) && rom >= ROM_MIN && rom <= 1u << 24)
        pci_init_rom(&v->pci, (uint32_t)rom, &rom_ops, "vfio-rom");
    return r;
}

/* ------------------------------------------------------------------ configuration */

static bool all_through(const struct vfio_pci *v, unsigned offset, unsigned size) {
    for (unsigned i = 0; i < size; i++)
        if (!v->through[offset + i])
            return false;
    return true;
}

static void read_through(struct vfio_pci *v, unsigned offset, unsigned size) {
    uint8_t *to = v->pci.config + offset;

    if (v->f->ops->read(v->f, VFIO_CONFIG, offset, to, size) < 0)
        memset(to, 0xff, size);
    for (unsigned i = 0; i < size; i++)
        if (offset + i == PCI_STATUS) /* whether there is an interrupt is ours to say */
            to[i] &= (uint8_t)~PCI_STATUS_INTX;
}

static void config_reading(struct pci_device *d, unsigned offset, unsigned size) {
    struct vfio_pci *v = (struct vfio_pci *)d;

    if (!v->f)
        return;
    vfio_irq_reading(v, offset, size);
    if (all_through(v, offset, size)) {
        read_through(v, offset, size);
        return;
    }
    for (unsigned i = 0; i < size; i++)
        if (v->through[offset + i])
            read_through(v, offset + i, 1);
}

static void pass_command(struct vfio_pci *v) {
    uint8_t command[2];

    store_le16(command, load_le16(v->pci.config + PCI_COMMAND) & COMMAND_THROUGH);
    v->f->ops->write(v->f, VFIO_CONFIG, PCI_COMMAND, command, sizeof(command));
}

static void write_through(struct vfio_pci *v, unsigned offset, unsigned size) {
    const uint8_t *from = v->pci.config + offset;

    if (all_through(v, offset, size)) {
        v->f->ops->write(v->f, VFIO_CONFIG, offset, from, size);
        return;
    }
    for (unsigned i = 0; i < size; i++)
        if (v->through[offset + i])
            v->f->ops->write(v->f, VFIO_CONFIG, offset + i, from + i, 1);
}

static bool is_asleep(const struct vfio_pci *v) {
    return v->pm && v->pci.config[v->pm + PM_CONTROL] & PM_ASLEEP;
}

/* Windows are there only while the device answers: closed before, opened after. */
static void config_written(struct pci_device *d, unsigned offset, unsigned size) {
    struct vfio_pci *v = (struct vfio_pci *)d;
    bool decodes = load_le16(d->config + PCI_COMMAND) & PCI_COMMAND_MEM && !is_asleep(v);

    if (!v->f)
        return;
    v->decodes &= decodes;
    vfio_windows_update(v);
    write_through(v, offset, size);
    if (pci_overlaps(offset, size, PCI_COMMAND, 2))
        pass_command(v);
    vfio_irq_update(v);
    v->decodes = decodes;
    vfio_windows_update(v);
}

static void bar_moved(struct pci_device *d, unsigned bar) {
    vfio_windows_update((struct vfio_pci *)d);
}

static int read_config(struct vfio_pci *v, uint8_t *host, struct error *err) {
    uint64_t size = v->f->region[VFIO_CONFIG].size;
    unsigned end = size < PCI_CONFIG_SIZE ? PCI_HEADER_SIZE : PCI_CONFIG_SIZE;

    for (unsigned at = 0; at < end; at += 4)
        if (v->f->ops->read(v->f, VFIO_CONFIG, at, host + at, 4) < 0)
            return error_set(err, -EIO,
                             "device %s: its configuration cannot be read at offset 0x%x; look "
                             "into the host's kernel log",
                             v->f->name, at);
    if ((host[PCI_HEADER_TYPE] & HEADER_KIND) != 0)
        return error_set(err, -ENOTSUP,
                         "device %s: it has a header of kind %u, which is a bridge's: only "
                         "devices can be given to a machine",
                         v->f->name, host[PCI_HEADER_TYPE] & HEADER_KIND);
    for (unsigned at = HEADER_END; at < end; at++)
        v->through[at] = true;
    v->through[PCI_STATUS] = v->through[PCI_STATUS + 1] = true;
    return 0;
}

static int init_config(struct vfio_pci *v, struct error *err) {
    struct pci_device *d = &v->pci;
    uint8_t host[PCI_CONFIG_SIZE] = {0};
    int r = read_config(v, host, err);

    if (r < 0)
        return r;
    pci_init_header(d, load_le16(host + PCI_VENDOR), load_le16(host + PCI_DEVICE),
                    load_le32(host + PCI_CLASS_REV), load_le16(host + PCI_SUBSYS_VENDOR),
                    load_le16(host + PCI_SUBSYS));
    memcpy(d->config + HEADER_END, host + HEADER_END, PCI_CONFIG_SIZE - HEADER_END);
    memcpy(d->config + PCI_INT_PIN, host + PCI_INT_PIN, 3); /* with what it wishes of latency */
    d->config[PCI_CAP_PTR] = host[PCI_CAP_PTR];
    d->config[PCI_STATUS] = host[PCI_STATUS];
    if (!v->f->interrupts[VFIO_INTX] || d->config[PCI_INT_PIN] > 4)
        d->config[PCI_INT_PIN] = 0;
    r = init_bars(v, host, err);
    if (r == 0)
        r = vfio_caps_init(v, err);
    for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++)
        if (v->through[i])
            d->wmask[i] = 0xff; /* the device knows which of them it takes */
    return r;
}

/* ------------------------------------------------------------------ the device */

static int vfio_pci_init(struct device *dev, struct error *err) {
    struct vfio_pci *v = (struct vfio_pci *)dev;
    const struct vfio_pci_config *c = dev->env.config;
    int r;

    if (!c) {
        pci_init_header(&v->pci, 0xffff, 0xffff, 0xff000000, 0, 0);
        return 0;
    }
    v->f = c->function;
    r = init_config(v, err);
    if (r < 0)
        return r;
    v->pci.config_reading = config_reading;
    v->pci.config_written = config_written;
    v->pci.bar_moved = bar_moved;
    v->f->opaque = v;
    v->f->fired = vfio_irq_fired;
    return 0;
}

/* It does nothing more: no interrupt, no DMA, and awake, so that it can be reset. */
static void quiet(struct vfio_pci *v) {
    static const uint8_t nothing[2];

    v->decodes = false;
    vfio_windows_update(v);
    vfio_irq_quiet(v);
    v->f->ops->write(v->f, VFIO_CONFIG, PCI_COMMAND, nothing, sizeof(nothing));
    if (v->pm)
        v->f->ops->write(v->f, VFIO_CONFIG, v->pm + PM_CONTROL, nothing, sizeof(nothing));
}

static void reset_host(struct vfio_pci *v) {
    int r;

    quiet(v);
    r = v->f->ops->reset(v->f);
    trace(vfio_pci_reset, v->f->name, r);
    if (r < 0 && !v->warned)
        log_warning(
            "device %s: the host cannot reset it (%s), so the guest finds it as it was left",
            v->f->name, r == -ENOTSUP ? "it has no way to" : strerror(-r));
    v->warned |= r < 0;
}

static void vfio_pci_reset(struct device *dev) {
    struct vfio_pci *v = (struct vfio_pci *)dev;

    if (v->f)
        reset_host(v);
    pci_reset(&v->pci);
    vfio_irq_reset(v);
}

static void vfio_pci_abandon(struct device *dev) {
    struct vfio_pci *v = (struct vfio_pci *)dev;

    if (!v->f)
        return;
    reset_host(v);
    pci_set_intx(&v->pci, false);
    v->f->fired = NULL;
    v->f = NULL;
}

static void vfio_pci_done(struct device *dev) {
    struct vfio_pci *v = (struct vfio_pci *)dev;

    if (v->pci.config_written) /* it was wholly made */
        vfio_pci_abandon(dev);
    pci_bus_detach(&v->pci);
    pci_done_msix(&v->pci);
}

static void post_load(void *obj) {
    struct vfio_pci *v = obj;

    pci_post_load(&v->pci);
}

// clang-format off
static const struct state_desc vfio_pci_state = {
    .name = "vfio_pci",
    .version = 1,
    .struct_size = sizeof(struct vfio_pci),
    .post_load = post_load, /* of the device itself nothing can be saved: machines with one are not */
    .fields = (const struct state_field[]){
        STATE_SUB(struct vfio_pci, pci, &pci_device_state),
        STATE_END,
    },
};
// clang-format on

const struct device_class vfio_pci_class = {
    .name = "vfio_pci",
    .help = "PCI device of the host, through VFIO",
    .size = sizeof(struct vfio_pci),
    .state = &vfio_pci_state,
    .init = vfio_pci_init,
    .reset = vfio_pci_reset,
    .done = vfio_pci_done,
    .abandon = vfio_pci_abandon,
    .pci = true,
};
