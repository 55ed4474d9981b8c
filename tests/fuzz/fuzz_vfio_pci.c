/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: a guest against a device of the host that is made up, whose configuration is the
 * first part of the input. The rest are acts: accesses to configuration and BARs, interrupts,
 * resets, and that it is pulled out. Windows to its memory never overlap, show only what there is,
 * and are gone with it.
 */
#include "base/log.h"
#include "base/loop.h"
#include "bus/windows.h"
#include "bus/wires.h"
#include "devices/fake_vfio.h"

enum { SPACE = 256, DEVFN = 3 << 3, MMIO_BASE = 0xc0000000, IO_BASE = 0xc000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void message(void *opaque, uint64_t address, uint32_t data) {}

static struct fake_vfio host;
static struct { uint64_t at, size; } window[WINDOWS_MOST];

static int show(void *opaque, unsigned n, uint64_t at, void *memory, uint64_t size) {
    uint64_t from = (uint64_t)((uint8_t *)memory - host.bar[0]);

    if (!size != !!window[n].size)
        abort();
    for (unsigned i = 0; size && i < WINDOWS_MOST; i++)
        if (at < window[i].at + window[i].size && window[i].at < at + size)
            abort();
    if (size && (at % MEM_PAGE_SIZE || from > FAKE_BAR || size > FAKE_BAR - from))
        abort();
    window[n].at = at;
    window[n].size = size;
    return 0;
}

static uint64_t draw(const uint8_t **data, size_t *size, unsigned bytes) {
    uint64_t v = 0;

    for (; bytes && *size; bytes--, (*size)--)
        v = v << 8 | *(*data)++;
    return v;
}

static void act(struct device *dev, struct pci_bus *bus, struct io_space *mmio,
                struct io_space *pio, const uint8_t **data, size_t *size) {
    uint64_t kind = draw(data, size, 1), at = draw(data, size, 2), value = draw(data, size, 4);
    unsigned width = 1u << (kind >> 4 & 3), offset = (unsigned)at % PCI_CONFIG_SIZE;

    switch (kind & 15) {
    case 0:
    case 1:
        pci_config_write(bus, DEVFN, offset & ~3u, width > 4 ? 4 : width, (uint32_t)value);
        break;
    case 2:
        pci_config_write(bus, DEVFN, offset & (SPACE - 1), width > 4 ? 4 : width, (uint32_t)value);
        break;
    case 3:
        pci_config_read(bus, DEVFN, offset, width > 4 ? 4 : width);
        break;
    case 4:
    case 5:
        io_write(mmio, MMIO_BASE + at, width, value << 32 | value);
        break;
    case 6:
        io_read(mmio, MMIO_BASE + at, width);
        break;
    case 7:
        io_write(pio, IO_BASE + at % 512, width > 4 ? 4 : width, value);
        break;
    case 8:
        io_read(pio, IO_BASE + at % 512, width > 4 ? 4 : width);
        break;
    case 9:
    case 10:
        fake_fire(&host, (enum vfio_interrupt)(value % VFIO_INTERRUPTS), (unsigned)at % 160);
        break;
    case 11:
        host.most = (int)(at % (VFIO_VECTORS + 8)) - 8;
        host.broken = value % 4 == 0;
        break;
    case 12:
        device_reset(dev);
        break;
    case 13:
        pci_bus_assign(bus, MMIO_BASE, MMIO_BASE + (1 << 24), IO_BASE, NULL);
        break;
    case 14:
        if (value % 16 == 0)
            dev->cls->abandon(dev);
        break;
    default:
        host.config[offset] = (uint8_t)value;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct vfio_pci_config config = {&host.f};
    struct device_env env = {.msi = {message, NULL}, .config = &config};
    struct io_space pio = {0}, mmio = {0};
    struct error err = {0};
    struct windows *windows = windows_new(show, NULL);
    struct loop *loop = loop_new(NULL, NULL);
    struct wires *wires = wires_new(loop, NULL, NULL);
    struct pci_bus *bus = NULL;
    struct device *dev;

    log_init("fuzz", LOG_LEVEL_ERROR);
    fake_init(&host);
    for (unsigned n = (unsigned)draw(&data, &size, 1) % 64; n && size; n--)
        host.config[draw(&data, &size, 2) % PCI_CONFIG_SIZE] = (uint8_t)draw(&data, &size, 1);
    for (unsigned i = 0; i < VFIO_INTERRUPTS; i++)
        host.f.interrupts[i] = (unsigned)draw(&data, &size, 1) % (VFIO_VECTORS + 1);
    dev = device_new(device_class_find("vfio_pci"), "vfio0", &env, &err);
    if (!dev && !err.text[0])
        abort();
    if (!dev)
        goto out;
    bus = pci_bus_new(&pio, &mmio);
    pci_bus_set_wires(bus, wires);
    pci_bus_set_windows(bus, windows);
    if (pci_bus_attach(bus, (struct pci_device *)dev, DEVFN, NULL) < 0)
        abort();
    pci_bus_assign(bus, MMIO_BASE, MMIO_BASE + (1 << 24), IO_BASE, NULL);
    while (size) {
        act(dev, bus, &mmio, &pio, &data, &size);
        loop_step(loop, 0);
    }
    device_free(dev);
    pci_bus_free(bus);
    io_space_done(&pio);
    io_space_done(&mmio);
    for (unsigned i = 0; i < WINDOWS_MOST; i++)
        if (window[i].size)
            abort();
out:
    wires_free(wires);
    windows_free(windows);
    loop_free(loop);
    return 0;
}
