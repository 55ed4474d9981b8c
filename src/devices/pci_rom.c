/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Expansion ROMs that a function only carries: their bytes, read-only. Source: PCI Firmware
 * Specification 3.3, 5.1 (header 55 aa, PCI data structure).
 */
#include "base/bytes.h"
#include "devices/pci.h"

static uint64_t rom_read(void *dev, uint64_t offset, unsigned size) {
    const struct pci_device *d = dev;
    uint64_t value = UINT64_MAX;

    if (offset < d->rom_size)
        memcpy(&value, d->rom + offset, d->rom_size - offset < size ? d->rom_size - offset : size);
    return value;
}

static const struct io_ops rom_ops = {rom_read, NULL, 1, 8};

bool pci_rom_valid(const uint8_t *rom, size_t size) {
    return size >= 26 && rom[0] == 0x55 && rom[1] == 0xaa &&
           (size_t)load_le16(rom + 24) + 24 <= size &&
           !memcmp(rom + load_le16(rom + 24), "PCIR", 4);
}

void pci_use_rom(struct pci_device *d, const uint8_t *rom, uint32_t size) {
    uint32_t room = 2048;

    if (!size)
        return;
    while (room < size)
        room *= 2;
    d->rom = rom;
    d->rom_size = size;
    pci_init_rom(d, room, &rom_ops, "option-rom");
}
