/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the classes need around them in the stub machine, and what other chips and the host do to
 * them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/loop.h"
#include "block/block.h"
#include "block/block_internal.h"
#include "devices/acpi_plug.h"
#include "devices/acpi_pm.h"
#include "devices/ahci.h"
#include "devices/e1000e.h"
#include "devices/fw_cfg.h"
#include "devices/i8042.h"
#include "devices/ide.h"
#include "devices/ioapic.h"
#include "devices/lapic.h"
#include "devices/lpc.h"
#include "devices/nvme.h"
#include "devices/pflash.h"
#include "devices/pic.h"
#include "devices/rig_internal.h"
#include "devices/rtc.h"
#include "devices/uart16550.h"
#include "devices/vga.h"
#include "devices/virtio/virtio_balloon.h"
#include "devices/virtio/virtio_blk.h"
#include "devices/virtio/virtio_console.h"
#include "devices/virtio/virtio_gpu.h"
#include "devices/virtio/virtio_input.h"
#include "devices/virtio/virtio_mem.h"
#include "devices/virtio/virtio_net.h"
#include "devices/virtio/virtio_rng.h"
#include "devices/virtio/virtio_scsi.h"
#include "devices/virtio/virtio_vsock.h"
#include "net/net.h"
#include "support/test.h"

static void set_wire(struct irq wire, uint64_t level) { irq_set(&wire, level & 1); }

/* ------------------------------------------------------------------ interrupt controllers */

static uint64_t poke_pic(struct rig *r, unsigned what, uint64_t value) {
    if (what % 4 == 0)
        return (uint64_t)pic_ack(r->dev);
    set_wire(pic_irq_wire(r->dev, what / 4 % 16), value);
    return pic_pending(r->dev);
}

static uint64_t poke_ioapic(struct rig *r, unsigned what, uint64_t value) {
    if (what % 4 == 0)
        ioapic_eoi(r->dev, (uint8_t)value);
    else
        set_wire(ioapic_irq_wire(r->dev, what / 4 % IOAPIC_PINS), value);
    return 0;
}

static void drive_ioapic(struct rig *r, uint64_t seed) {
    struct rng rng = rng_seed(seed);
    uint64_t base = r->window[0].base;

    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint32_t low = 0x10 + (uint32_t)rng_below(&rng, 0xf0); /* vector, fixed, not masked */

        low |= (uint32_t)rng_below(&rng, 2) << 15 | (uint32_t)rng_below(&rng, 2) << 13;
        io_write(&r->mmio, base, 4, 0x10 + 2 * pin);
        io_write(&r->mmio, base + 0x10, 4, low);
    }
}

static void drive_lapic(struct rig *r, uint64_t seed) {
    struct rng rng = rng_seed(seed);
    uint64_t base = r->window[0].base;

    lapic_msr_write(r->dev, 0x1b, 0xfee00900);
    io_write(&r->mmio, base + 0xf0, 4, 0x1ff);                           /* enabled */
    io_write(&r->mmio, base + 0xd0, 4, 1u << (24 + rng_below(&rng, 8))); /* logical id */
    io_write(&r->mmio, base + 0xe0, 4, 0xffffffff);
    io_write(&r->mmio, base + 0x80, 4, rng_below(&rng, 4) << 4);
    io_write(&r->mmio, base + 0x320, 4, 0x40 | rng_below(&rng, 3) << 17); /* timer, any mode */
    io_write(&r->mmio, base + 0x3e0, 4, rng_below(&rng, 16));
    io_write(&r->mmio, base + 0x380, 4, rng_below(&rng, 1u << rng_below(&rng, 25)));
    io_write(&r->mmio, base + 0x350, 4, 0x700); /* LINT0: the PIC */
    for (unsigned n = 0; n < 4; n++)
        io_write(&r->mmio, base + 0x300, 4, 0x40000 | (0x20 + rng_below(&rng, 0xe0))); /* self */
}

static void note_pin(void *opaque) { ((struct rig *)opaque)->cpu_signals++; }

static void note_intr(void *opaque, bool level) { ((struct rig *)opaque)->cpu_signals++; }

static void note_vector(void *opaque, uint8_t vector) { ((struct rig *)opaque)->cpu_signals++; }

static int answer_inta(void *opaque) { return ((struct rig *)opaque)->backend_full ? -1 : 0x31; }

static const void *config_lapic(struct rig *r) {
    struct apic_bus_sinks sinks = {.eoi = note_vector, .ext_ack = answer_inta, .opaque = r};
    static struct lapic_config config;

    r->apic_bus = apic_bus_new(&sinks);
    config = (struct lapic_config){.bus = r->apic_bus, .id = 3, .bsp = true, .x2apic = true};
    config.cpu = (struct lapic_cpu){.intr = note_intr,
                                    .nmi = note_pin,
                                    .smi = note_pin,
                                    .init = note_pin,
                                    .sipi = note_vector,
                                    .opaque = r};
    return &config;
}

static void done_lapic(struct rig *r) { apic_bus_free(r->apic_bus); }

/* Modes mostly go the allowed ways: off, xAPIC, x2APIC, off. */
static uint64_t poke_lapic_msr(struct rig *r, struct rng *rng) {
    static const uint32_t base[] = {0xfee00900, 0xfee00900, 0xfee00d00, 0xfee00d00, 0xfee00100};
    uint64_t value = rng_next(rng) >> rng_below(rng, 64), read = 0;
    uint32_t msr = 0x800 + (uint32_t)rng_below(rng, 0x40);

    switch (rng_below(rng, 8)) {
    case 0:
        return (uint64_t)lapic_msr_write(r->dev, 0x1b, rng_below(rng, 8) ? base[value % 5] : value);
    case 1:
        return (uint64_t)lapic_msr_write(r->dev, 0x6e0, clock_tsc(r->clock) + value % 2000000);
    case 2:
        return lapic_msr_read(r->dev, 0x6e0, &read) < 0 ? 1 : read;
    case 3:
        return lapic_msr_read(r->dev, 0x1b, &read) < 0 ? 1 : read;
    case 4:
        return lapic_msr_read(r->dev, msr, &read) < 0 ? 1 : read;
    case 5:
        return (uint64_t)lapic_msr_write(r->dev, 0x830, value & 0xfffff); /* interrupt command */
    default:
        return (uint64_t)lapic_msr_write(r->dev, msr, (uint32_t)value);
    }
}

static uint64_t poke_lapic(struct rig *r, unsigned what, uint64_t value) {
    struct rng rng = rng_seed(value ^ (uint64_t)what << 56);

    switch (what % 8) {
    case 0:
    case 1:
        return (uint64_t)lapic_ack(r->dev);
    case 2:
        set_wire(lapic_lint_wire(r->dev, what >> 3 & 1), value);
        return 0;
    case 3:
        apic_bus_deliver_msi(r->apic_bus, 0xfee00000 | (rng_next(&rng) & 0xff00f),
                             (uint32_t)rng_next(&rng) & 0xcfff);
        return (uint64_t)lapic_pending_vector(r->dev);
    case 4:
        lapic_set_tpr(r->dev, (unsigned)value & 0xf);
        return lapic_get_tpr(r->dev);
    case 5:
        if (what >> 3 == 0)
            lapic_init_signal(r->dev);
        return lapic_claims(r->dev, 0xfee00000 + (value & 0x3fff));
    default:
        return poke_lapic_msr(r, &rng);
    }
}

static uint64_t poke_lpc(struct rig *r, unsigned what, uint64_t value) {
    set_wire(lpc_pirq_wire(r->dev, what), value);
    return 0;
}

/* ------------------------------------------------------------------ timers and small chips */

static void drive_pic(struct rig *r, uint64_t seed) {
    for (unsigned i = 0; i < 2; i++) { /* ICW1 to ICW4, nothing masked */
        uint64_t base = r->window[i].base;

        io_write(&r->pio, base, 1, 0x11);
        io_write(&r->pio, base + 1, 1, 0x20 + 8 * i);
        io_write(&r->pio, base + 1, 1, i ? 2 : 4);
        io_write(&r->pio, base + 1, 1, 1 | (seed & 0x12));
        io_write(&r->pio, base + 1, 1, 0);
    }
}

static void drive_pit(struct rig *r, uint64_t seed) {
    uint64_t base = r->window[0].base, channel = seed % 3;

    io_write(&r->pio, base + 3, 1, channel << 6 | 0x30 | (seed & 0xf)); /* any mode, both bytes */
    io_write(&r->pio, base + channel, 1, seed >> 8 & 0xff);
    io_write(&r->pio, base + channel, 1, seed >> 16 & 0x1f);
}

static const void *config_rtc(struct rig *r) {
    static const struct rtc_config config = {
        .utc_given = true, .utc = 1709210000, .memory_low = 1u << 30, .memory_high = 1u << 30};

    return &config;
}

static void drive_rtc(struct rig *r, uint64_t seed) {
    static const uint8_t index[] = {0x0a, 0x0b, 0x01, 0x03, 0x05};
    uint64_t base = r->window[0].base;

    for (unsigned i = 0; i < sizeof(index); i++) {
        uint64_t v = seed >> (4 * i) & 0xff;

        /* Running, some rate; interrupts of all kinds; alarms that match often. */
        io_write(&r->pio, base, 1, index[i]);
        io_write(&r->pio, base + 1, 1, i == 0 ? 0x20 | (v & 15) : i == 1 ? v & 0x7f : 0xc0 | v);
    }
    (void)io_read(&r->pio, base + 1, 1);
}

static uint64_t poke_rtc(struct rig *r, unsigned what, uint64_t value) {
    if (what % 4 == 0)
        rtc_set_utc(r->dev, (int64_t)(value & 0xffffffff));
    else if (what % 4 == 1)
        rtc_cmos_set(r->dev, 0x0e + what % 0x70, (uint8_t)value);
    return (uint64_t)rtc_utc(r->dev);
}

static bool serial_can_write(void *opaque) { return !((struct rig *)opaque)->backend_full; }

static void serial_write(void *opaque, const uint8_t *p, size_t n) {
    struct rig *r = opaque;

    for (size_t i = 0; i < n; i++)
        r->entropy = r->entropy * 31 + p[i];
}

static const void *config_uart(struct rig *r) {
    static struct uart_config config;

    config =
        (struct uart_config){{.write = serial_write, .can_write = serial_can_write, .opaque = r}};
    return &config;
}

static void drive_uart(struct rig *r, uint64_t seed) {
    uint64_t base = r->window[0].base;

    io_write(&r->pio, base + 3, 1, 3); /* 8N1; FIFO, all interrupts, DTR RTS OUT2 */
    io_write(&r->pio, base + 2, 1, 1 | (seed & 0xc0));
    io_write(&r->pio, base + 1, 1, 0xf);
    io_write(&r->pio, base + 4, 1, 0xb | (seed >> 8 & 0x10));
}

static uint64_t poke_uart(struct rig *r, unsigned what, uint64_t value) {
    static const uint8_t text[40] = "what comes in over the line";

    switch (what % 4) {
    case 0:
        if (!r->backend_full)
            uart_writable(r->dev);
        return 0;
    case 1:
        uart_break(r->dev);
        return 0;
    default:
        return uart_receive(r->dev, text, value % sizeof(text));
    }
}

static uint64_t poke_i8042(struct rig *r, unsigned what, uint64_t value) {
    uint8_t codes[4];

    if (what >> 6 == 1)
        return i8042_key(r->dev, value & 0xff, what & 1);
    if (what >> 6 == 2) {
        i8042_mouse(r->dev, (int8_t)value, (int8_t)(value >> 8), (int8_t)(value >> 16) / 32,
                    what & 31);
        return i8042_mouse_ready(r->dev);
    }
    store_le32(codes, (uint32_t)value);
    return i8042_keys(r->dev, codes, what % 5);
}

static const void *config_i8042(struct rig *r) {
    static const struct i8042_config config = {.mouse = true};

    return &config;
}

static uint64_t poke_acpi_plug(struct rig *r, unsigned what, uint64_t value) {
    if (what % 3 == 0)
        acpi_plug_add(r->dev, value % 32);
    else if (what % 3 == 1)
        acpi_plug_ask(r->dev, value % 32);
    else
        acpi_plug_gone(r->dev, value % 32);
    return acpi_plug_asked(r->dev);
}

static uint64_t poke_acpi_pm(struct rig *r, unsigned what, uint64_t value) {
    if (what % 4 == 0)
        acpi_pm_power_button(r->dev);
    else if (what % 4 == 1)
        acpi_pm_sleep_button(r->dev);
    else
        acpi_pm_gpe(r->dev, (unsigned)value % ACPI_PM_GPE_BITS);
    return 0;
}

/* ------------------------------------------------------------------ disk */

static int disk_open(struct block *b, const struct block_options *o, struct error *err) {
    b->info.size = RIG_DISK_SIZE;
    return 0;
}

static void disk_close(struct block *b) {}

/* A disk in memory with one bad sector. */
static int transfer(struct block *b, const struct block_request *req) {
    uint8_t *at;

    if (req->op == BLOCK_FLUSH)
        return 0;
    if (req->offset == 512 * 77)
        return -EIO;
    at = ((struct rig *)b->state)->disk + req->offset;
    for (unsigned i = 0; i < req->iov_count && req->op <= BLOCK_WRITE; i++) {
        if (req->op == BLOCK_READ)
            memcpy(req->iov[i].iov_base, at, req->iov[i].iov_len);
        else
            memcpy(at, req->iov[i].iov_base, req->iov[i].iov_len);
        at += req->iov[i].iov_len;
    }
    if (req->op == BLOCK_WRITE_ZEROES)
        memset(at, 0, req->length);
    return 0;
}

static void disk_submit(struct block *b, struct block_request *req) {
    block_complete(req, transfer(b, req));
}

/* Half of the reads are in the host's cache, so to speak. */
static bool disk_try(struct block *b, struct block_request *req, int *ret_result) {
    if (req->op != BLOCK_READ || req->offset & 512)
        return false;
    *ret_result = transfer(b, req);
    return true;
}

static const struct block_ops disk_ops = {.name = "rig",
                                          .open = disk_open,
                                          .close = disk_close,
                                          .submit = disk_submit,
                                          .try_now = disk_try};

static const void *config_blk(struct rig *r) {
    static struct virtio_blk_config config;
    struct block_options o = {.path = "rig", .ops = &disk_ops};

    r->disk = calloc(1, RIG_DISK_SIZE);
    r->block = block_open(r->loop, &o, NULL);
    if (!r->disk || !r->block)
        abort();
    r->block->state = r;
    config = (struct virtio_blk_config){.block = r->block, .serial = "RIG"};
    return &config;
}

static void done_blk(struct rig *r) {
    block_close(r->block);
    free(r->disk);
}

static const void *config_scsi(struct rig *r) {
    const struct virtio_blk_config *disk = config_blk(r);
    static struct virtio_scsi_config config;

    config = (struct virtio_scsi_config){
        .queues = 2,
        .unit = {{.present = true, .block = disk->block, .serial = "RIG"},
                 {.present = true, .lun = 1, .cdrom = true, .serial = "DRIVE"},
                 {.present = true, .target = 2, .serial = "EMPTY"}}};
    return &config;
}

/* ------------------------------------------------------------------ SATA */

static const void *config_ahci(struct rig *r) {
    const struct virtio_blk_config *disk = config_blk(r);
    static struct ahci_config config;

    config = (struct ahci_config){.port = {{.present = true, .block = disk->block, .serial = "RIG"},
                                           {.present = true, .cdrom = true, .serial = "DRIVE"}}};
    return &config;
}

static void ahci_out(struct rig *r, unsigned reg, uint32_t v) {
    const struct pci_bar *bar = &((struct pci_device *)r->dev)->bar[5];

    bar->region.ops->write(r->dev, reg, 4, v);
}

/* Lists of commands, of which most are well formed, for both ports; all of them begin. */
static void drive_ahci(struct rig *r, uint64_t seed) {
    static const uint8_t commands[] = {0xec, 0xa1, 0x25, 0x35, 0x60, 0x61, 0xa0, 0xa0, 0xea,
                                       0x06, 0xef, 0xc8, 0xca, 0x20, 0x30, 0xf8, 0xc6, 0x90};
    struct rng rng = rng_seed(seed);

    for (unsigned port = 0; port < 2; port++) {
        unsigned base = 0x100 + 0x80 * port;
        uint32_t list = 0x4000 + 0x4000 * port;

        for (unsigned tag = 0; tag < 32; tag++) {
            uint8_t header[32] = {5}, table[0x80 + 2 * 16] = {0x27, 0x80};
            uint64_t at = list + 0x1000 + 0x100 * tag;

            store_le16(header + 2, (uint16_t)rng_below(&rng, 3));
            store_le64(header + 8, at);
            table[2] = commands[rng_below(&rng, sizeof(commands))];
            table[3] = (uint8_t)rng_below(&rng, 4);
            table[4] = (uint8_t)rng_next(&rng);
            table[7] = 0x40;
            table[12] = (uint8_t)rng_below(&rng, 9);
            for (unsigned i = 0; i < 12; i++)
                table[0x40 + i] = (uint8_t)(rng_next(&rng) & rng_next(&rng));
            for (unsigned i = 0; i < 2; i++) {
                store_le64(table + 0x80 + 16 * (size_t)i, rng_below(&rng, 0x10000));
                store_le32(table + 0x80 + 16 * (size_t)i + 12, (uint32_t)rng_below(&rng, 0x2000));
            }
            mem_write(&r->mem, list + 32 * tag, header, sizeof(header));
            mem_write(&r->mem, at, table, sizeof(table));
        }
        ahci_out(r, base + 0x00, list);
        ahci_out(r, base + 0x08, list + 0x800);
        ahci_out(r, base + 0x14, ~0u);
        ahci_out(r, base + 0x18, 0x10);
        ahci_out(r, base + 0x18, 0x11);
        ahci_out(r, base + 0x34, (uint32_t)rng_next(&rng));
        ahci_out(r, base + 0x38, (uint32_t)rng_next(&rng));
    }
    ahci_out(r, 4, 0x80000002);
}

/* ------------------------------------------------------------------ IDE */

static const void *config_ide(struct rig *r) {
    const struct virtio_blk_config *disk = config_blk(r);
    static struct ide_config config;

    config = (struct ide_config){.drive = {{.present = true, .block = disk->block, .serial = "RIG"},
                                           {.present = true, .cdrom = true, .serial = "DRIVE"}}};
    return &config;
}

static void ide_out(struct rig *r, unsigned region, unsigned reg, unsigned size, uint32_t v) {
    r->dev->region[region].ops->write(r->dev, reg, size, v);
}

static void master_out(struct rig *r, unsigned reg, unsigned size, uint32_t v) {
    ((struct pci_device *)r->dev)->bar[4].region.ops->write(r->dev, reg, size, v);
}

/* A command, mostly a good one, with a table of buffers, and some of its data. */
static void drive_ide(struct rig *r, uint64_t seed) {
    static const uint8_t commands[] = {0xec, 0xa1, 0x25, 0x35, 0x20, 0x30, 0xa0, 0xa0, 0xea, 0x06,
                                       0xef, 0xc8, 0xca, 0xc4, 0xc5, 0xf8, 0xc6, 0x90, 0x24, 0x34};
    struct rng rng = rng_seed(seed);
    uint8_t prd[8] = {0};

    ide_out(r, 1, 0, 1, (uint32_t)rng_below(&rng, 2) * 2);
    for (unsigned i = 0; i < 4; i++) {
        store_le32(prd, (uint32_t)rng_below(&rng, 0x10000));
        store_le32(prd + 4, (uint32_t)rng_below(&rng, 0x1000) | (i == 3 ? 0x80000000 : 0));
        mem_write(&r->mem, 0x4000 + 8 * i, prd, sizeof(prd));
    }
    master_out(r, 4, 4, 0x4000);
    ide_out(r, 0, 6, 1, 0x40 | (uint32_t)rng_below(&rng, 2) << 4);
    ide_out(r, 0, 1, 1, (uint32_t)rng_below(&rng, 2));
    for (unsigned i = 2; i < 6; i++)
        ide_out(r, 0, i, 1, (uint32_t)(i == 2 ? rng_below(&rng, 20) : rng_below(&rng, 3)));
    ide_out(r, 0, 7, 1, commands[rng_below(&rng, sizeof(commands))]);
    master_out(r, 0, 1, (uint32_t)rng_below(&rng, 2));
    for (uint64_t n = rng_below(&rng, 300); n; n--)
        if (rng_below(&rng, 2))
            ide_out(r, 0, 0, 2, (uint32_t)(rng_next(&rng) & rng_next(&rng) & 0x2828));
        else
            r->dev->region[0].ops->read(r->dev, 0, 2);
}

/* ------------------------------------------------------------------ NVMe */

static const void *config_nvme(struct rig *r) {
    const struct virtio_blk_config *disk = config_blk(r);
    static struct nvme_config config;

    config = (struct nvme_config){.block = disk->block, .queues = 2, .serial = "RIG"};
    return &config;
}

static void nvme_out(struct rig *r, unsigned reg, uint32_t v) {
    ((struct pci_device *)r->dev)->bar[0].region.ops->write(r->dev, reg, 4, v);
}

/* One command, mostly well formed; on the first queue one of those that make queues and ask. */
static void put_nvme(struct rig *r, struct rng *rng, unsigned queue, gpa at, unsigned n) {
    static const uint8_t admin[] = {0, 1, 1, 2, 4, 5, 5, 6, 6, 8, 9, 10, 12, 0x7c};
    static const uint8_t io[] = {0, 1, 1, 2, 2, 2, 8, 9, 0x55};
    uint8_t c[64] = {queue ? io[rng_below(rng, sizeof(io))] : admin[rng_below(rng, sizeof(admin))]};
    bool create = !queue && (c[0] == 1 || c[0] == 5);

    store_le16(c + 2, (uint16_t)n);
    store_le32(c + 4, rng_below(rng, 8) ? 1 : (uint32_t)rng_below(rng, 3));
    store_le64(c + 24, rng_below(rng, 0xff) << 12 | (rng_below(rng, 3) || create ? 0 : 512));
    store_le64(c + 32, rng_below(rng, 0xff) << 12);
    store_le32(c + 40, create ? (uint32_t)(1 + rng_below(rng, 2)) | 7u << 16
                              : (uint32_t)rng_below(rng, queue ? 520 : 13));
    store_le32(c + 44, create               ? 3u | (uint32_t)(1 + rng_below(rng, 2)) << 16
                       : queue && c[0] == 9 ? 4
                                            : 0);
    store_le32(c + 48, (uint32_t)rng_below(rng, 24));
    mem_write(&r->mem, at + 64 * n, c, sizeof(c));
}

static void drive_nvme(struct rig *r, uint64_t seed) {
    struct rng rng = rng_seed(seed);

    nvme_out(r, 0x14, 0);
    nvme_out(r, 0x24, 15 | 15 << 16);
    nvme_out(r, 0x28, 0x10000);
    nvme_out(r, 0x2c, 0);
    nvme_out(r, 0x30, 0x11000);
    nvme_out(r, 0x34, 0);
    nvme_out(r, 0x14, 0x00460001);
    for (unsigned id = 1; id < 3; id++)
        for (unsigned what = 0; what < 2; what++) {
            uint8_t c[64] = {what ? 1 : 5};

            store_le64(c + 24, 0x12000 + 0x2000 * id + 0x1000 * what);
            store_le32(c + 40, id | 15u << 16);
            store_le32(c + 44, (what ? 1u : 3u) | id << 16);
            mem_write(&r->mem, 0x10000 + 64 * (2 * (id - 1) + what), c, sizeof(c));
        }
    nvme_out(r, 0x1000, 4);
    for (unsigned n = 0; n < 8; n++) {
        put_nvme(r, &rng, 1, 0x15000, n);
        put_nvme(r, &rng, 2, 0x17000, n);
        put_nvme(r, &rng, 0, 0x10000, 4 + n);
    }
    nvme_out(r, 0x1008, (uint32_t)rng_below(&rng, 9));
    nvme_out(r, 0x1010, (uint32_t)rng_below(&rng, 9));
    nvme_out(r, 0x1000, (uint32_t)rng_below(&rng, 13));
    nvme_out(r, 0x1000 + 4 * (uint32_t)rng_below(&rng, 8), (uint32_t)rng_below(&rng, 17));
}

/* ------------------------------------------------------------------ network */

struct cable {
    struct net_port port; /* first */
    struct rig *rig;
    unsigned waiting; /* frames that the guest had no room for */
};

static void offer(struct cable *c, unsigned len) {
    uint8_t frame[2000];

    memset(frame, (int)len, sizeof(frame));
    if (c->port.receive && !c->port.receive(c->port.opaque, frame, len % sizeof(frame)))
        c->waiting++;
    if (c->port.received)
        c->port.received(c->port.opaque);
}

static void cable_send(struct net_port *p, const struct iovec *iov, unsigned count) {
    struct cable *c = (struct cable *)p;

    for (unsigned i = 0; i < count; i++) /* every byte must be ours to read */
        for (size_t j = 0; j < iov[i].iov_len; j++)
            c->rig->entropy = c->rig->entropy * 31 + ((const uint8_t *)iov[i].iov_base)[j];
}

static void cable_resume(struct net_port *p) {
    struct cable *c = (struct cable *)p;
    unsigned n = c->waiting;

    c->waiting = 0;
    for (; n; n--)
        offer(c, 60 + n);
}

static void cable_close(struct net_port *p) { free(p); }

static const struct net_ops cable_ops = {
    .send = cable_send, .resume = cable_resume, .close = cable_close};

static const void *config_net(struct rig *r) {
    static struct virtio_net_config config;
    struct cable *c = calloc(1, sizeof(*c));

    if (!c)
        abort();
    c->port.ops = &cable_ops;
    c->port.big_tcp = true;
    c->port.mtu = 1500;
    c->rig = r;
    r->port = &c->port;
    config = (struct virtio_net_config){.port = r->port, .mac = {2, 0, 0, 0, 0, 1}};
    return &config;
}

static const void *config_e1000e(struct rig *r) {
    static struct e1000e_config config;

    config_net(r);
    config = (struct e1000e_config){.port = r->port, .mac = {2, 0, 0, 0, 0, 1}};
    return &config;
}

static void done_net(struct rig *r) { net_close(r->port); }

static uint64_t poke_net(struct rig *r, unsigned what, uint64_t value) {
    struct cable *c = (struct cable *)r->port;

    if (c->waiting < 8)
        offer(c, (unsigned)value & 0xffff);
    return 0;
}

static void copy_net(struct rig *to, const struct rig *from) {
    ((struct cable *)to->port)->waiting = ((struct cable *)from->port)->waiting;
}

/* ------------------------------------------------------------------ console, entropy */

static size_t console_write(void *opaque, const uint8_t *p, size_t n) {
    struct rig *r = opaque;

    for (size_t i = 0; i < n; i++)
        r->entropy = r->entropy * 31 + p[i];
    return r->backend_full ? n / 2 : n;
}

static const void *config_console(struct rig *r) {
    static struct virtio_console_config config;

    r->console_size = 25 << 16 | 80;
    config = (struct virtio_console_config){
        .port = {.write = console_write, .opaque = r}, .cols = 80, .rows = 25};
    return &config;
}

static uint64_t poke_console(struct rig *r, unsigned what, uint64_t value) {
    static const uint8_t text[200] = "what the host types";

    if (what & 1)
        return virtio_console_receive(r->dev, text, value % sizeof(text));
    if (what & 2) {
        r->console_size = (uint32_t)value;
        virtio_console_resize(r->dev, (uint16_t)value, (uint16_t)(value >> 16));
    } else {
        virtio_console_writable(r->dev);
    }
    return 0;
}

static void copy_console(struct rig *to, const struct rig *from) {
    to->console_size = from->console_size;
    virtio_console_resize(to->dev, (uint16_t)to->console_size, (uint16_t)(to->console_size >> 16));
}

/* ------------------------------------------------------------------ flash memory */

static const void *config_pflash(struct rig *r) {
    static struct pflash_config config;

    config = (struct pflash_config){.cells = r->mem.range[0].base, .size = 2 * PFLASH_BLOCK};
    return &config;
}

/* ------------------------------------------------------------------ firmware configuration */

/* Requests of all kinds for items that are there and others, somewhere in memory. */
static uint64_t poke_fw_cfg(struct rig *r, unsigned what, uint64_t value) {
    struct rng rng = rng_seed(value);
    uint8_t request[16];
    gpa at = rng_below(&rng, 64) * 8;

    store_be32(request, (uint32_t)rng_below(&rng, 0x40) << 16 | (uint32_t)rng_below(&rng, 32));
    store_be32(request + 4, (uint32_t)(rng_next(&rng) >> rng_below(&rng, 64)));
    store_be64(request + 8, rng_next(&rng) >> (40 + rng_below(&rng, 24)));
    mem_write(&r->mem, at, request, sizeof(request));
    io_write(&r->pio, r->window[1].base, 4, 0);
    io_write(&r->pio, r->window[1].base + 4, 4, htobe32((uint32_t)at));
    return load_le64(fw_cfg_answer(r->dev));
}

static const void *config_fw_cfg(struct rig *r) {
    static const struct fw_cfg_config config = {"etc/answer"};

    return &config;
}

/* ------------------------------------------------------------------ vsock */

static void *sock_connect(void *opaque, struct vsock_conn *c, uint32_t port) {
    struct rig *r = opaque;

    for (unsigned i = 0; i < RIG_SOCKETS; i++)
        if (!r->sock[i].conn && !r->backend_full) {
            r->sock[i] = (struct rig_sock){r, c};
            return &r->sock[i];
        }
    return NULL;
}

static void sock_connected(void *end, uint32_t host_port) {
    ((struct rig_sock *)end)->rig->entropy += host_port;
}

static ssize_t sock_write(void *end, const void *p, size_t n) {
    struct rig *r = ((struct rig_sock *)end)->rig;

    for (size_t i = 0; i < n; i++)
        r->entropy = r->entropy * 31 + ((const uint8_t *)p)[i];
    if (r->entropy % 64 == 0)
        return -1;
    return (ssize_t)(r->backend_full ? n / 2 : n);
}

static ssize_t sock_read(void *end, void *p, size_t n) {
    struct rig *r = ((struct rig_sock *)end)->rig;
    uint64_t what = (r->entropy = r->entropy * 6364136223846793005ull + 1) >> 48;

    if (what % 16 < 4)
        return what % 16 ? -1 : 0;
    n = n < what ? n : what;
    memset(p, (int)what, n);
    return n ? (ssize_t)n : -1;
}

static void sock_finished(void *end) { ((struct rig_sock *)end)->rig->entropy++; }

static void sock_gone(void *end) { ((struct rig_sock *)end)->conn = NULL; }

static const void *config_vsock(struct rig *r) {
    static struct virtio_vsock_config config;

    config = (struct virtio_vsock_config){VSOCK_CID_DEFAULT,
                                          {.connect = sock_connect,
                                           .connected = sock_connected,
                                           .write = sock_write,
                                           .read = sock_read,
                                           .finished = sock_finished,
                                           .gone = sock_gone,
                                           .opaque = r}};
    return &config;
}

static uint64_t poke_vsock(struct rig *r, unsigned what, uint64_t value) {
    struct rig_sock *s = &r->sock[what / 4 % RIG_SOCKETS];

    if (!s->conn) {
        s->rig = r;
        s->conn = virtio_vsock_connect(r->dev, s, (uint32_t)value);
        return s->conn != NULL;
    }
    if (what % 4 == 0) {
        struct vsock_conn *c = s->conn;

        s->conn = NULL;
        virtio_vsock_drop(c);
    } else if (what % 4 == 1) {
        virtio_vsock_writable(s->conn);
    } else if (what % 4 == 2) {
        virtio_vsock_readable(s->conn);
    } else {
        virtio_vsock_resume(r->dev);
    }
    return 0;
}

static size_t fill(void *opaque, void *buf, size_t len) {
    struct rig *r = opaque;
    uint8_t *p = buf;

    for (size_t i = 0; i < len; i++) {
        r->entropy = r->entropy * 6364136223846793005ull + 1442695040888963407ull;
        p[i] = (uint8_t)(r->entropy >> 56);
    }
    return r->backend_full ? len / 2 : len;
}

static const void *config_rng(struct rig *r) {
    static struct virtio_rng_config config;

    config = (struct virtio_rng_config){fill, r};
    return &config;
}

/* ------------------------------------------------------------------ screen */

static const void *config_vga(struct rig *r) {
    static struct vga_config config;
    static uint8_t rom[4096] = {0x55, 0xaa};

    r->screen = screen_new();
    r->video = calloc(1, VGA_MEMORY);
    if (!r->screen || !r->video)
        abort();
    config = (struct vga_config){
        .memory = r->video, .screen = r->screen, .rom = rom, .rom_size = sizeof(rom)};
    return &config;
}

static void done_vga(struct rig *r) {
    screen_free(r->screen);
    free(r->video);
}

/* Most of it is zero, and is to stay memory that nobody touched. */
static void copy_screen(struct rig *to, const struct rig *from, size_t size) {
    for (size_t at = 0; at < size; at += 4096)
        if (memcmp(to->video + at, from->video + at, 4096) != 0)
            memcpy(to->video + at, from->video + at, 4096);
    screen_resize(to->screen, from->screen->width, from->screen->height);
    memcpy(to->screen->pixels, from->screen->pixels,
           (size_t)from->screen->width * from->screen->height * 4);
}

static void copy_vga(struct rig *to, const struct rig *from) { copy_screen(to, from, VGA_MEMORY); }

/* Some mode: text, planes, chained, or one of the display interface. */
static void drive_vga(struct rig *r, uint64_t seed) {
    struct rng rng = rng_seed(seed);
    uint64_t vga = r->window[0].base - 0x3b0, dispi = r->window[1].base;
    static const uint16_t depth[] = {4, 8, 15, 16, 24, 32, 7};

    vga_boot_text(r->dev);
    if (rng_below(&rng, 3) == 0)
        return;
    for (unsigned i = 1; i < 4; i++) {
        uint64_t value = i == 3 ? depth[rng_below(&rng, 7)] : rng_below(&rng, 200) + 1;

        io_write(&r->pio, dispi, 2, i);
        io_write(&r->pio, dispi + 1, 2, value);
    }
    io_write(&r->pio, dispi, 2, 4);
    io_write(&r->pio, dispi + 1, 2, rng_below(&rng, 2) ? 0x41 : 0);
    for (unsigned i = rng_below(&rng, 2) ? 0 : 9; i < 9; i++) {
        io_write(&r->pio, vga + 0x3ce, 1, i);
        io_write(&r->pio, vga + 0x3cf, 1, rng_next(&rng) & 0xff);
    }
    io_write(&r->pio, vga + 0x3c4, 2, (rng_next(&rng) & 0xe00) | 4);
    io_write(&r->pio, vga + 0x3d4, 2, 0x11); /* not write-protected */
    io_write(&r->pio, vga + 0x3d4, 2, (rng_next(&rng) & 0x3f00) | 1);
}

/* The picture is looked at. */
static uint64_t poke_vga(struct rig *r, unsigned what, uint64_t value) {
    uint64_t sum = 0;

    if (what % 8)
        return 0;
    screen_refresh(r->screen);
    for (size_t i = 0; i < (size_t)r->screen->width * r->screen->height; i++)
        sum = sum * 31 + r->screen->pixels[i];
    return sum + r->screen->width;
}

static const void *config_gpu(struct rig *r) {
    static struct virtio_gpu_config config;

    r->screen = screen_new();
    r->video = calloc(1, VIRTIO_GPU_MEMORY);
    if (!r->screen || !r->video)
        abort();
    config = (struct virtio_gpu_config){r->video, r->screen};
    return &config;
}

/* Random requests hardly make pictures; one that does is in the first megabyte. */
static void copy_gpu(struct rig *to, const struct rig *from) { copy_screen(to, from, 1 << 20); }

/* What was not flushed shows only after a load: the picture itself is not compared. */
static uint64_t poke_gpu(struct rig *r, unsigned what, uint64_t value) {
    if (what % 8 == 0)
        screen_refresh(r->screen);
    else if (what % 8 == 1)
        screen_wish(r->screen, value & 0xfff, value >> 16 & 0xfff);
    return 0;
}

static uint64_t poke_keyboard(struct rig *r, unsigned what, uint64_t value) {
    return virtio_keyboard_key(r->dev, value & 0xff, what & 1);
}

static uint64_t poke_balloon(struct rig *r, unsigned what, uint64_t value) {
    struct virtio_balloon_status s;

    if (what & 1)
        virtio_balloon_set(r->dev, value);
    virtio_balloon_status(r->dev, &s);
    return s.target ^ s.actual ^ s.stats;
}

static const void *config_mem(struct rig *r) {
    static const struct virtio_mem_config config = {.base = 1ull << 32, .size = 512ull << 20};

    return &config; /* there is no such memory, only what is said of it */
}

static uint64_t poke_mem(struct rig *r, unsigned what, uint64_t value) {
    struct virtio_mem_status s;

    if (what & 1)
        virtio_mem_set(r->dev, value % (600ull << 20));
    virtio_mem_status(r->dev, &s);
    return s.wanted ^ s.plugged << 1;
}

static uint64_t poke_tablet(struct rig *r, unsigned what, uint64_t value) {
    struct input_pointer p = {value & 0x7fff, value >> 16 & 0x7fff, what & 31,
                              (int8_t)(value >> 32), 0};

    virtio_tablet_pointer(r->dev, &p);
    return 0;
}

// clang-format off
const struct rig_kit rig_kits[] = {
    {.name = "acpi_plug", .poke = poke_acpi_plug},
    {.name = "acpi_pm", .poke = poke_acpi_pm},
    {.name = "ahci", .config = config_ahci, .done = done_blk, .drive = drive_ahci},
    {.name = "fw_cfg", .config = config_fw_cfg, .poke = poke_fw_cfg},
    {.name = "i8042", .config = config_i8042, .poke = poke_i8042},
    {.name = "ide", .config = config_ide, .done = done_blk, .drive = drive_ide},
    {.name = "ioapic", .drive = drive_ioapic, .poke = poke_ioapic},
    {.name = "lapic", .config = config_lapic, .done = done_lapic, .drive = drive_lapic, .poke = poke_lapic},
    {.name = "lpc", .poke = poke_lpc},
    {.name = "nvme", .config = config_nvme, .done = done_blk, .drive = drive_nvme},
    {.name = "pflash", .config = config_pflash},
    {.name = "pic", .drive = drive_pic, .poke = poke_pic},
    {.name = "pit", .drive = drive_pit},
    {.name = "rtc", .config = config_rtc, .drive = drive_rtc, .poke = poke_rtc},
    {.name = "uart16550", .config = config_uart, .drive = drive_uart, .poke = poke_uart},
    {.name = "vga", .config = config_vga, .done = done_vga, .copy = copy_vga, .drive = drive_vga, .poke = poke_vga},
    {.name = "virtio_balloon", .poke = poke_balloon},
    {.name = "virtio_blk", .config = config_blk, .done = done_blk},
    {.name = "virtio_console", .config = config_console, .copy = copy_console, .poke = poke_console},
    {.name = "virtio_mem", .config = config_mem, .poke = poke_mem},
    {.name = "virtio_gpu", .config = config_gpu, .done = done_vga, .copy = copy_gpu, .poke = poke_gpu},
    {.name = "virtio_keyboard", .poke = poke_keyboard},
    {.name = "e1000e", .config = config_e1000e, .done = done_net, .copy = copy_net, .poke = poke_net},
    {.name = "virtio_net", .config = config_net, .done = done_net, .copy = copy_net, .poke = poke_net},
    {.name = "virtio_rng", .config = config_rng},
    {.name = "virtio_scsi", .config = config_scsi, .done = done_blk},
    {.name = "virtio_tablet", .poke = poke_tablet},
    {.name = "virtio_vsock", .config = config_vsock, .poke = poke_vsock},
    {.name = NULL},
};
// clang-format on
