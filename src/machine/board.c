/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The board, a subset of a q35 PC: what is mounted where, and which wire goes to which pin.
 * Source: Intel ICH9 datasheet (fixed I/O ranges), ACPI 6.5 section 5.2.12 (interrupt model).
 */
#include "machine/board.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "devices/acpi_pm.h"
#include "devices/e1000e.h"
#include "devices/fw_cfg.h"
#include "devices/hpet.h"
#include "devices/i8042.h"
#include "devices/ioapic.h"
#include "devices/lpc.h"
#include "devices/pci_host.h"
#include "devices/pic.h"
#include "devices/rtc.h"
#include "devices/smi.h"
#include "devices/vga.h"
#include "devices/virtio/virtio_fs.h"
#include "devices/virtio/virtio_gpu.h"
#include "devices/virtio/virtio_mem.h"
#include "devices/virtio/virtio_net.h"
#include "machine/acpi.h"
#include "machine/firmware.h"
#include "machine/map.h"
#include "machine/mptable.h"
#include "machine/passed.h"
#include "machine/storage.h"

/* Disks, networks and the like from slot 1 on; what a screen adds goes to the other end, so that
 * it does not move them. */
enum {
    DEVFN_HOST = 0,
    DEVFN_LPC = 0x1f << 3,
    DEVFN_VGA = 0x1e << 3,
    DEVFN_KEYBOARD = 0x1d << 3,
    DEVFN_TABLET = 0x1c << 3
};

/* ISA interrupt n reaches PIC input n and the IOAPIC pin of the same number, but 0 goes to pin 2.
 */
static void isa_irq(void *opaque, unsigned n, bool level) {
    struct board *b = opaque;
    struct irq pic = pic_irq_wire(b->pic, n), ioapic = ioapic_irq_wire(b->ioapic, n == 0 ? 2 : n);

    irq_set(&pic, level);
    irq_set(&ioapic, level);
}

static struct irq isa_wire(struct board *b, unsigned n) {
    return (struct irq){.fn = isa_irq, .opaque = b, .n = n};
}

/* The same of the PIT and the RTC, which the HPET cuts off when it does their work. */
static void timer_irq(void *opaque, unsigned n, bool level) {
    struct board *b = opaque;

    if (!b->hpet || !hpet_is_legacy(b->hpet))
        isa_irq(b, n, level);
}

static struct irq timer_wire(struct board *b, unsigned n) {
    return (struct irq){.fn = timer_irq, .opaque = b, .n = n};
}

/* ---- memory of system management mode ---- */

static void place(struct board *b, int index, uint64_t base) {
    mem_place(&b->mem, (unsigned)index, base);
    if (b->common != &b->mem)
        mem_place(b->common, (unsigned)index, base);
}

static void place_smram(void *opaque, const struct pci_host_smram *now) {
    struct board *b = opaque;
    uint64_t tseg = now->open ? 0 : now->tseg;
    bool hole = now->legacy && !now->open;

    place(b, b->smram, now->legacy ? MAP_VGA_HOLE : MEM_NOWHERE);
    mem_hide(b->common, 0, map_low_size(b->memory) - tseg, tseg);
    mem_hide(b->common, 1, MAP_VGA_HOLE, hole ? MAP_SHADOW - MAP_VGA_HOLE : 0);
}

static void raise_smi(void *opaque, bool all) {
    struct board *b = opaque;

    for (unsigned i = 0; i < b->cpus; i++)
        if ((all || i == b->accessing) && b->pin[i].smi)
            b->pin[i].smi(b->pin[i].opaque);
}

static struct device_env make_env(struct board *b, const void *config) {
    return (struct device_env){
        .mem = b->common,
        .clock = b->clock,
        .msi = {.send = apic_bus_deliver_msi, .opaque = b->apics},
        .power = b->power,
        .config = config,
    };
}

/* The first number that no device of the class has. */
static void next_name(const struct board *b, const char *class, char name[32]) {
    for (unsigned n = 0, i = 0; i == 0 || i < b->devices; n++) {
        snprintf(name, 32, "%s%u", class, n);
        for (i = 0; i < b->devices && strcmp(b->device[i]->name, name) != 0; i++)
            ;
        if (i == b->devices)
            return;
    }
}

static struct device *add_named(struct board *b, const char *class, const char *name,
                                const struct device_env *env, struct error *err) {
    struct device *d;

    if (b->devices == BOARD_MAX_DEVICES) {
        error_set(err, -E2BIG, "the machine has more than %d devices: leave some out",
                  BOARD_MAX_DEVICES);
        return NULL;
    }
    d = device_new(device_class_find(class), name, env, err);
    if (d)
        b->device[b->devices++] = d;
    return d;
}

static struct device *add(struct board *b, const char *class, const struct device_env *env,
                          struct error *err) {
    char name[32];

    next_name(b, class, name);
    return add_named(b, class, name, env, err);
}

struct mount {
    unsigned region;
    uint64_t base;
    bool mmio;
};

/* Makes a device with one optional interrupt and mounts its regions (list ends with base 0). */
static struct device *add_isa(struct board *b, const char *class, const void *config,
                              struct irq irq, const struct mount *mounts, struct error *err) {
    struct device_env env = make_env(b, config);
    struct device *d;

    env.irq[0] = irq;
    d = add(b, class, &env, err);
    for (; d && mounts && mounts->base; mounts++)
        if (device_mount(d, mounts->region, mounts->mmio ? &b->mmio : &b->pio, mounts->base, err) <
            0)
            return NULL;
    return d;
}

/* ---- interrupt controllers ---- */

static void eoi_broadcast(void *opaque, uint8_t vector) {
    ioapic_eoi(((struct board *)opaque)->ioapic, vector);
}

static int external_ack(void *opaque) { return pic_ack(((struct board *)opaque)->pic); }

static bool apic_message(void *opaque, uint64_t addr, uint32_t data) {
    const struct board *b = opaque;

    return b->apic_message(b->apic_opaque, addr, data);
}

static int add_apics(struct board *b, const struct board_config *config, struct error *err) {
    struct apic_bus_sinks sinks = {.eoi = eoi_broadcast,
                                   .ext_ack = external_ack,
                                   .message = config->apic_message ? apic_message : NULL,
                                   .opaque = b};

    b->apic_message = config->apic_message;
    b->apic_opaque = config->apic_opaque;
    b->apics = apic_bus_new(&sinks);
    if (!b->apics)
        return error_set(err, -ENOMEM, "the machine's APIC bus: out of memory");
    for (unsigned i = 0; i < b->cpus; i++) {
        struct lapic_config lapic = {
            .bus = b->apics, .id = i, .bsp = i == 0, .x2apic = true, .cpu = config->cpu_pins[i]};
        struct device_env env = make_env(b, &lapic);
        b->lapic[i] = add(b, "lapic", &env, err);
        if (!b->lapic[i])
            return -ENOMEM;
    }
    return 0;
}

static int add_interrupt_controllers(struct board *b, struct error *err) {
    static const struct mount pic[] = {{0, 0x20, false}, {1, 0xa0, false}, {2, 0x4d0, false}, {0}};
    static const struct mount ioapic[] = {{0, MAP_IOAPIC, true}, {0}};

    b->pic = add_isa(b, "pic", NULL, lapic_lint_wire(b->lapic[0], 0), pic, err);
    b->ioapic = b->pic ? add_isa(b, "ioapic", NULL, (struct irq){0}, ioapic, err) : NULL;
    return b->ioapic ? 0 : -ENOMEM;
}

/* ---- the south bridge's old parts ---- */

/* Where there is something to read. */
static void plug_irq(void *opaque, unsigned n, bool level) {
    if (level)
        acpi_pm_gpe(((struct board *)opaque)->pm, n);
}

/* Two ports share a wire. */
static void serial_irq(void *opaque, unsigned n, bool level) {
    struct board *b = opaque;

    for (unsigned i = 0; i < MACHINE_MAX_SERIALS; i++)
        if (i != n && b->uart[i] && map_serial_irq(i) == map_serial_irq(n))
            level |= uart_wants_irq(b->uart[i]);
    isa_irq(b, map_serial_irq(n), level);
}

static int add_serials(struct board *b, const struct machine_config *m, struct error *err) {
    for (unsigned i = 0; i == 0 || i < m->serials; i++) {
        struct mount at[] = {{0, map_serial_port(i), false}, {0}};
        struct uart_config serial = {.port = m->serial[i]};

        b->uart[i] = add_isa(b, "uart16550", &serial, (struct irq){serial_irq, b, i}, at, err);
        if (!b->uart[i])
            return -ENOMEM;
    }
    return 0;
}

static int add_isa_devices(struct board *b, const struct machine_config *m, struct error *err) {
    static const struct mount pit[] = {{0, 0x40, false}, {1, 0x61, false}, {0}};
    static const struct mount rtc[] = {{0, 0x70, false}, {1, 0x72, false}, {0}};
    static const struct mount pm[] = {{0, MAP_PM1_EVENT, false},
                                      {1, MAP_PM1_CONTROL, false},
                                      {2, MAP_PM_TIMER, false},
                                      {3, MAP_GPE0, false},
                                      {0}};
    static const struct mount cpu_plug[] = {{0, MAP_CPU_PLUG, false}, {0}};
    static const struct mount plug[] = {{0, MAP_PLUG, false}, {0}};
    static const struct mount debugcon[] = {{0, 0x402, false}, {0}};
    static const struct mount postcode[] = {{0, 0x80, false}, {0}};
    static const struct mount pvpanic[] = {{0, MAP_PVPANIC, false}, {0}};
    static const struct mount debug_exit[] = {{0, 0xf4, false}, {0}};
    struct rtc_config clock = {.memory_low = map_low_size(b->memory),
                               .memory_high = map_high_size(b->memory)};

    b->pit = add_isa(b, "pit", &m->speaker, timer_wire(b, 0), pit, err);
    b->rtc = b->pit ? add_isa(b, "rtc", &clock, timer_wire(b, 8), rtc, err) : NULL;
    if (!b->rtc || add_serials(b, m, err) < 0)
        return -ENOMEM;
    b->pm = add_isa(b, "acpi_pm", NULL, isa_wire(b, MAP_SCI_IRQ), pm, err);
    b->plug = b->pm ? add_isa(b, "acpi_plug", b->unplug, (struct irq){plug_irq, b, MAP_GPE_PLUG},
                              plug, err)
                    : NULL;
    if (b->plug && b->unplug_cpu->present)
        b->cpu_plug = add_isa(b, "acpi_plug", b->unplug_cpu,
                              (struct irq){plug_irq, b, MAP_GPE_CPUS}, cpu_plug, err);
    if (!b->plug || (b->unplug_cpu->present && !b->cpu_plug))
        return -ENOMEM;
    /* Its port 0xcf9 lies inside the host bridge's 0xcf8, which passes accesses on. */
    b->reset_ctl = b->pm ? add_isa(b, "reset_ctl", NULL, (struct irq){0}, NULL, err) : NULL;
    if (!b->reset_ctl || !add_isa(b, "debugcon", &m->firmware_log, (struct irq){0}, debugcon, err))
        return -ENOMEM;
    if (!add_isa(b, "postcode", NULL, (struct irq){0}, postcode, err) ||
        !add_isa(b, "pvpanic", NULL, (struct irq){0}, pvpanic, err))
        return -ENOMEM;
    if (m->debug_exit && !add_isa(b, "debug_exit", NULL, (struct irq){0}, debug_exit, err))
        return -ENOMEM;
    return 0;
}

static int add_hpet(struct board *b, struct error *err) {
    struct device_env env = make_env(b, NULL);
    struct device *d;

    env.irq[HPET_IRQ_0] = isa_wire(b, 0);
    env.irq[HPET_IRQ_8] = isa_wire(b, 8);
    for (unsigned i = 0; i < HPET_PINS; i++)
        env.irq[HPET_IRQ_PINS + i] = ioapic_irq_wire(b->ioapic, HPET_FIRST_PIN + i);
    d = add(b, "hpet", &env, err);
    if (!d || device_mount(d, 0, &b->mmio, MAP_HPET, err) < 0)
        return -ENOMEM;
    b->hpet = d;
    return 0;
}

static int add_keyboard(struct board *b, bool mouse, struct error *err) {
    struct i8042_config config = {.mouse = mouse};
    struct device_env env = make_env(b, &config);
    struct device *d;

    env.irq[0] = isa_wire(b, 1);
    env.irq[1] = isa_wire(b, 12);
    b->i8042 = d = add(b, "i8042", &env, err);
    if (!d || device_mount(d, 0, &b->pio, 0x60, err) < 0 ||
        device_mount(d, 1, &b->pio, 0x64, err) < 0)
        return -ENOMEM;
    env = make_env(b, NULL);
    d = add(b, "port92", &env, err);
    return d && device_mount(d, 0, &b->pio, 0x92, err) == 0 ? 0 : -ENOMEM;
}

/* ---- firmware ---- */

static int add_firmware(struct board *b, const struct machine_config *m, struct error *err) {
    static const struct mount ports[] = {{0, 0x510, false}, {1, 0x514, false}, {0}};
    static const struct fw_cfg_config answer = {FIRMWARE_ANSWER};

    if (m->flash.size) {
        struct mount flash[] = {{0, MAP_HIGH - m->firmware->size - m->flash.size, true}, {0}};

        struct pflash_config config = m->flash;

        config.cells = MAP_FLASH_CELLS;
        config.unlocked = b->smi ? &b->in_smm : NULL;
        if (mem_load(&b->mem, MAP_FLASH_CELLS, m->flash_contents, m->flash.size) < 0)
            return -ENOMEM;
        b->flash = add_isa(b, "pflash", &config, (struct irq){0}, flash, err);
        if (!b->flash)
            return -ENOMEM;
    }
    b->fw_cfg = add_isa(b, "fw_cfg", &answer, (struct irq){0}, ports, err);
    if (!b->fw_cfg)
        return -ENOMEM;
    return b->smi ? smi_add_files(b->smi, b->fw_cfg, err) : 0;
}

/* ---- PCI ---- */

static int attach(struct board *b, struct device *d, unsigned devfn, struct error *err) {
    return d ? pci_bus_attach(b->pci, (struct pci_device *)d, devfn, err) : -ENOMEM;
}

static int add_chipset_functions(struct board *b, const struct machine_config *m,
                                 struct error *err) {
    struct pci_host_config host = {
        .reset_ctl = b->reset_ctl, .smram = m->smm ? place_smram : NULL, .opaque = b};
    struct device_env env = make_env(b, &host);
    struct irq wires[4];
    struct device *d;
    int r;

    b->pci = pci_bus_new(&b->pio, &b->mmio);
    if (!b->pci)
        return error_set(err, -ENOMEM, "the machine's PCI bus: out of memory");
    d = add(b, "pci_host", &env, err);
    r = attach(b, d, DEVFN_HOST, err);
    if (r == 0)
        r = device_mount(d, 0, &b->pio, 0xcf8, err);
    if (r == 0)
        r = device_mount(d, 1, &b->pio, 0xcfc, err);
    if (r < 0)
        return r;
    env = make_env(b, NULL);
    for (unsigned i = 3; i < 16; i++) /* 0, 1, 2, 8 and 13 cannot be chosen */
        if (i != 8 && i != 13)
            env.irq[i] = pic_irq_wire(b->pic, i);
    for (unsigned i = 0; i < LPC_PIRQS; i++)
        env.irq[16 + i] = ioapic_irq_wire(b->ioapic, MAP_GSI_PCI + i);
    b->lpc = add(b, "lpc", &env, err);
    r = attach(b, b->lpc, DEVFN_LPC, err);
    for (unsigned i = 0; r == 0 && i < 4; i++)
        wires[i] = lpc_pirq_wire(b->lpc, i);
    if (r == 0)
        pci_bus_set_intx(b->pci, wires);
    return r;
}

static int add_smi(struct board *b, struct error *err) {
    static const struct mount ports[] = {{0, MAP_SMI, false}, {1, 0xb2, false}, {0}};
    struct smi_config config = {.raise = raise_smi, .opaque = b, .lpc = b->lpc};

    b->smi = add_isa(b, "smi", &config, (struct irq){0}, ports, err);
    return b->smi ? 0 : -ENOMEM;
}

int board_add_function(struct board *b, const char *class, const void *config, unsigned devfn,
                       struct device **ret, struct error *err) {
    struct device_env env = make_env(b, config);
    struct device *d = add(b, class, &env, err);
    int r = attach(b, d, devfn, err);

    if (r == 0 && ret)
        *ret = d;
    return r;
}

int board_add_ide(struct board *b, const void *config, unsigned devfn, struct device **ret,
                  struct error *err) {
    static const uint16_t ports[] = {0x1f0, 0x3f6, 0x170, 0x376};
    struct device_env env = make_env(b, config);
    int r;

    env.irq[0] = isa_wire(b, 14);
    env.irq[1] = isa_wire(b, 15);
    *ret = add(b, "ide", &env, err);
    r = attach(b, *ret, devfn, err);
    for (unsigned i = 0; r == 0 && i < 4; i++)
        r = device_mount(*ret, i, &b->pio, ports[i], err);
    return r;
}

int board_add_at(struct board *b, const char *class, const void *config,
                 const struct machine_site *at, struct device **ret, struct error *err) {
    struct device_env env = make_env(b, config);
    struct device *d = add_named(b, class, at->device, &env, err);
    int r = attach(b, d, at->slot << 3, err);

    if (r == 0 && ret)
        *ret = d;
    return r;
}

static bool is_wanted(const struct machine_config *m, unsigned slot) {
    for (unsigned i = 0; i < m->sites; i++)
        if (m->site[i].slot == slot)
            return true;
    return false;
}

static bool is_empty(const struct board *b, unsigned slot) {
    for (unsigned fn = 0; fn < 8; fn++)
        if (pci_bus_find(b->pci, slot << 3 | fn))
            return false;
    return true;
}

int board_choose_site(const struct board *b, const struct machine_config *m, const char *class,
                      const char *name, struct machine_site *ret, struct error *err) {
    *ret = (struct machine_site){.slot = 0};
    if (name)
        snprintf(ret->device, sizeof(ret->device), "%s", name);
    else
        next_name(b, class, ret->device);
    for (unsigned i = 0; i < m->sites && !ret->slot; i++)
        if (!strcmp(m->site[i].device, ret->device))
            ret->slot = m->site[i].slot;
    for (unsigned slot = MAP_FIRST_SLOT; slot <= MAP_LAST_SLOT && !ret->slot; slot++)
        if (is_empty(b, slot) && !is_wanted(m, slot))
            ret->slot = slot;
    return ret->slot ? 0
                     : error_set(err, -ENOSPC,
                                 "all %d slots of the PCI bus are taken: leave a disk or network "
                                 "interface out",
                                 MAP_LAST_SLOT);
}

static int add_function(struct board *b, const struct machine_config *m, const char *class,
                        const void *config, struct device **ret, struct error *err) {
    struct machine_site at;
    int r = board_choose_site(b, m, class, NULL, &at, err);

    return r < 0 ? r : board_add_at(b, class, config, &at, ret, err);
}

int board_add_nic(struct board *b, const struct machine_config *m, unsigned i, struct error *err) {
    const struct machine_nic *nic = &m->nic[i];
    struct virtio_net_config c = {.port = nic->port, .rom = nic->rom, .rom_size = nic->rom_size};
    struct e1000e_config e = {.port = nic->port, .rom = nic->rom, .rom_size = nic->rom_size};
    bool virtio = nic->model == MACHINE_NIC_VIRTIO;
    const char *class = virtio ? "virtio_net" : "e1000e";
    struct machine_site at;
    int r = board_choose_site(b, m, class, nic->device, &at, err);

    if (r < 0)
        return r;
    memcpy(c.mac, nic->mac, sizeof(c.mac));
    memcpy(e.mac, nic->mac, sizeof(e.mac));
    storage_boot_nic(b, at.slot);
    return board_add_at(b, class, virtio ? (const void *)&c : &e, &at, &b->nic[i], err);
}

static void show_more(void *opaque, uint64_t bytes) {
    struct board *b = opaque;

    mem_show(&b->mem, map_plugged(b->memory), bytes);
    if (b->common != &b->mem)
        mem_show(b->common, map_plugged(b->memory), bytes);
    passed_show(b, bytes);
}

static int add_virtio(struct board *b, const struct machine_config *m, struct error *err) {
    int r = add_function(b, m, "virtio_rng", NULL, NULL, err);

    if (r == 0)
        r = storage_add(b, m, err);
    for (unsigned i = 0; r == 0 && i < m->nics; i++)
        if (m->nic[i].port)
            r = board_add_nic(b, m, i, err);
    if (r == 0 && m->has_console) {
        struct virtio_console_config c = {.port = m->console};
        r = add_function(b, m, "virtio_console", &c, &b->console, err);
    }
    if (r == 0 && m->has_vsock)
        r = add_function(b, m, "virtio_vsock", &m->vsock, &b->vsock, err);
    for (unsigned i = 0; r == 0 && i < m->shares; i++) {
        struct virtio_fs_config c = {m->share[i].tag, m->share[i].share};
        r = add_function(b, m, "virtio_fs", &c, NULL, err);
    }
    if (r == 0 && m->has_balloon)
        r = add_function(b, m, "virtio_balloon", NULL, &b->balloon, err);
    if (r == 0 && m->memory_more) {
        struct virtio_mem_config c = {
            .base = map_plugged(m->memory), .size = m->memory_more, .show = show_more, .opaque = b};
        r = add_function(b, m, "virtio_mem", &c, &b->vmem, err);
    }
    for (unsigned i = 0; r == 0 && i < m->passed_count; i++)
        r = passed_add(b, m, i, err);
    return r;
}

uint32_t board_absent_cpus(const struct board *b) {
    uint32_t all = (uint32_t)((1ull << b->cpus) - 1);

    return b->cpu_plug ? all & ~acpi_plug_present(b->cpu_plug) : 0;
}

static unsigned present_cpus(const struct board *b) {
    return b->cpus - (unsigned)__builtin_popcount(board_absent_cpus(b));
}

uint32_t board_plug_slots(const struct board *b) {
    uint32_t slots = 0;

    for (unsigned slot = MAP_FIRST_SLOT; slot <= MAP_LAST_SLOT; slot++)
        slots |= is_empty(b, slot) ? 1u << slot : 0;
    for (unsigned i = 0; i < MACHINE_MAX_DISKS; i++)
        if (b->disk[i])
            slots |= 1u << (((struct pci_device *)b->disk[i])->devfn >> 3);
    for (unsigned i = 0; i < MACHINE_MAX_NICS; i++)
        if (b->nic[i])
            slots |= 1u << (((struct pci_device *)b->nic[i])->devfn >> 3);
    for (unsigned i = 0; i < MACHINE_MAX_PASSED; i++)
        if (b->passed[i])
            slots |= 1u << (((struct pci_device *)b->passed[i])->devfn >> 3);
    return slots;
}

void board_remove(struct board *b, struct device *d) {
    unsigned i = 0;

    while (i < b->devices && b->device[i] != d)
        i++;
    if (i == b->devices)
        return;
    memmove(&b->device[i], &b->device[i + 1], (--b->devices - i) * sizeof(b->device[0]));
    pci_bus_detach((struct pci_device *)d);
    device_free(d);
}

/* ---- screen ---- */

static void place_vga_memory(void *opaque, uint64_t base) {
    struct board *b = opaque;

    place(b, b->adapter_memory, base);
}

static int add_vga(struct board *b, const struct machine_display *display, struct error *err) {
    struct vga_config config = {
        .memory = b->mem.range[b->adapter_memory].host,
        .place = place_vga_memory,
        .opaque = b,
        .screen = display->screen,
        .rom = display->vga_rom,
        .rom_size = display->vga_rom_size,
    };
    struct device_env env = make_env(b, &config);
    int r;

    b->vga = add(b, "vga", &env, err);
    r = attach(b, b->vga, DEVFN_VGA, err);
    if (r == 0)
        r = device_mount(b->vga, 0, &b->pio, 0x3b0, err);
    if (r == 0)
        r = device_mount(b->vga, 1, &b->pio, 0x1ce, err);
    return r < 0 ? r : device_mount(b->vga, 2, &b->mmio, MAP_VGA_HOLE, err);
}

static int add_at(struct board *b, const char *class, const void *config, unsigned devfn,
                  struct device **ret, struct error *err) {
    struct device_env env = make_env(b, config);

    *ret = add(b, class, &env, err);
    return attach(b, *ret, devfn, err);
}

static int add_screen(struct board *b, const struct machine_display *display, struct error *err) {
    struct virtio_gpu_config gpu = {.screen = display->screen};
    struct device *d;
    int r;

    if (display->adapter == MACHINE_VGA) {
        r = add_vga(b, display, err);
    } else {
        gpu.memory = b->mem.range[b->adapter_memory].host;
        r = add_at(b, "virtio_gpu", &gpu, DEVFN_VGA, &d, err);
    }
    if (r == 0)
        r = add_at(b, "virtio_keyboard", NULL, DEVFN_KEYBOARD, &b->keyboard, err);
    return r < 0 ? r : add_at(b, "virtio_tablet", NULL, DEVFN_TABLET, &b->tablet, err);
}

/* ---- the whole ---- */

static int add_memory(struct board *b, const struct board_config *config, struct error *err) {
    uint64_t low = map_low_size(b->memory), high = map_high_size(b->memory);
    int r = mem_init(&b->mem, err);

    if (r == 0 && config->machine->backing) {
        struct mem_backing backing = *config->machine->backing;

        backing.ram = b->memory;
        backing.low = low;
        backing.high = MAP_HIGH;
        r = mem_back(&b->mem, &backing, err);
    }
    if (r == 0)
        r = mem_add(&b->mem, 0, MAP_VGA_HOLE, false, err);
    if (r == 0)
        r = mem_add(&b->mem, MAP_SHADOW, MAP_1M - MAP_SHADOW, false, err);
    if (r == 0)
        r = mem_add(&b->mem, MAP_1M, low - MAP_1M, false, err);
    if (r == 0 && high)
        r = mem_add(&b->mem, MAP_HIGH, high, false, err);
    if (r == 0 && b->memory_more)
        r = mem_add_room(&b->mem, map_plugged(b->memory), b->memory_more, err);
    if (r == 0 && config->rom)
        r = mem_add(&b->mem, MAP_HIGH - config->rom, config->rom, true, err);
    if (r == 0 && config->machine->flash.size)
        r = mem_add(&b->mem, MAP_FLASH_CELLS, config->machine->flash.size, true, err);
    if (r == 0 && config->machine->smm)
        r = b->smram = mem_add_moving(&b->mem, MAP_SHADOW - MAP_VGA_HOLE, err);
    if (r >= 0 && config->machine->display.adapter == MACHINE_VGA)
        r = b->adapter_memory = mem_add_moving(&b->mem, VGA_MEMORY, err);
    if (r >= 0 && config->machine->display.adapter == MACHINE_VIRTIO_GPU)
        r = b->adapter_memory = mem_add_moving(&b->mem, VIRTIO_GPU_MEMORY, err);
    mem_view(&b->seen, &b->mem);
    b->common = config->machine->smm ? &b->seen : &b->mem;
    return r < 0 ? r : 0;
}

/* Anew at each reset: processors and disks may have come and gone. */
static int tell_firmware(struct board *b, struct error *err) {
    struct firmware_config told = {.cpus = b->cpus,
                                   .cpus_absent = board_absent_cpus(b),
                                   .cpus_plug = b->cpu_plug,
                                   .memory = b->memory,
                                   .memory_more = b->memory_more,
                                   .pci_large = pci_bus_large(b->pci),
                                   .numa = &b->numa,
                                   .boot_menu = b->boot_menu,
                                   .hpet = b->hpet,
                                   .smbios = &b->smbios,
                                   .screen = b->vga,
                                   .serials = board_serials(b),
                                   .plug_slots = board_plug_slots(b)};
    struct buf order = {0};
    int r;

    b->smbios.cpus = present_cpus(b);
    storage_boot_order(b, &order);
    buf_put(&order, "", 1);
    told.boot_order = (const char *)order.data;
    r = firmware_configure(b->fw_cfg, &told, err);
    buf_done(&order);
    return r;
}

int board_init(struct board *b, const struct board_config *config, struct error *err) {
    const struct machine_config *m = config->machine;
    int r;

    b->power = config->power;
    b->memory = m->memory;
    b->memory_more = m->memory_more;
    if (m->numa)
        b->numa = *m->numa;
    b->boot_menu = m->boot_menu;
    b->boot_order = m->boot_order;
    b->boot_first = m->boot_first;
    b->cpus = m->cpus;
    b->unplug = &config->unplug;
    b->unplug_cpu = &config->unplug_cpu;
    memcpy(b->pin, config->cpu_pins, m->cpus * sizeof(b->pin[0]));
    b->smbios = (struct smbios_config){.cpus = m->cpus, .memory = m->memory};
    for (unsigned i = 0; i < m->smbios_settings && i < SMBIOS_SETTINGS; i++)
        b->smbios.setting[b->smbios.settings++] = m->smbios[i];
    r = add_memory(b, config, err);
    if (r == 0) {
        b->clock =
            m->restoring ? clock_new_restored(config->loop, err) : clock_new(config->loop, err);
        r = b->clock ? 0 : -ENOMEM;
    }
    if (r == 0)
        r = add_apics(b, config, err);
    if (r == 0)
        r = add_interrupt_controllers(b, err);
    if (r == 0)
        r = add_isa_devices(b, m, err);
    if (r == 0 && m->hpet)
        r = add_hpet(b, err);
    if (r == 0)
        r = add_keyboard(b, m->display.adapter != MACHINE_NO_SCREEN, err);
    if (r == 0)
        r = add_chipset_functions(b, m, err);
    if (r == 0) {
        pci_bus_set_high(b->pci, map_pci64(b->memory, b->memory_more), MAP_PCI64_END);
        pci_bus_set_wires(b->pci, config->wires);
        pci_bus_set_windows(b->pci, config->windows);
    }
    if (r == 0 && m->smm)
        r = add_smi(b, err);
    if (r == 0)
        r = add_virtio(b, m, err);
    if (r == 0 && config->rom)
        r = add_firmware(b, m, err);
    if (r == 0 && m->display.adapter)
        r = add_screen(b, &m->display, err);
    return r < 0 || !b->fw_cfg ? r : tell_firmware(b, err);
}

void board_done(struct board *b) {
    while (b->devices) {
        struct device *d = b->device[--b->devices];
        if (d->cls->pci)
            pci_bus_detach((struct pci_device *)d);
        for (unsigned i = 0; i < DEVICE_MAX_REGIONS; i++) {
            io_unmap(&b->pio, &d->region[i]);
            io_unmap(&b->mmio, &d->region[i]);
        }
        device_free(d);
    }
    pci_bus_free(b->pci);
    apic_bus_free(b->apics);
    io_space_done(&b->pio);
    io_space_done(&b->mmio);
    clock_free(b->clock);
    mem_done(&b->mem);
}

/* The boot processor's APIC passes the 8259s' interrupt on, as firmware leaves it ("virtual wire
 * mode", MultiProcessor Specification 1.4, 3.6.2.2): a kernel that uses no APIC does not touch it.
 */
static void set_virtual_wire(struct board *b) {
    enum { SVR = 0xf0, LINT0 = 0x350, LINT1 = 0x360 };

    lapic_mmio_write(b->lapic[0], SVR, 0x1ff);
    lapic_mmio_write(b->lapic[0], LINT0, 0x700); /* ExtINT */
    lapic_mmio_write(b->lapic[0], LINT1, 0x400); /* NMI */
}

/* The 8259 inputs of the PCI wires, as firmware chooses them: in the LPC bridge's routing
 * registers, as level-triggered, and in each function's Interrupt Line, which drivers believe that
 * know neither ACPI nor the I/O APIC. */
static void route_pci_to_isa(struct board *b) {
    enum { PIRQ_A = 0x60, ELCR2 = 0x4d1 };
    unsigned level = 0;

    for (unsigned wire = 0; wire < 4; wire++) {
        pci_config_write(b->pci, DEVFN_LPC, PIRQ_A + wire, 1, map_pci_isa_irq(wire));
        level |= 1u << map_pci_isa_irq(wire);
    }
    io_write(&b->pio, ELCR2, 1, level >> 8);
    for (unsigned devfn = 0; devfn < PCI_MAX_DEVFN; devfn++) {
        unsigned pin = pci_config_read(b->pci, devfn, PCI_INT_PIN, 1);
        if (pci_bus_find(b->pci, devfn) && pin)
            pci_config_write(b->pci, devfn, PCI_INT_LINE, 1,
                             map_pci_isa_irq(((devfn >> 3) + pin - 1) % 4));
    }
}

/* Firmware has chosen the place, and may not have done so yet. */
static gpa generation_place(const struct board *b) {
    gpa page = b->fw_cfg ? load_le64(fw_cfg_answer(b->fw_cfg)) : 0;

    if (!b->fw_cfg)
        return MAP_GENERATION;
    return page ? page + FIRMWARE_GENERATION_OFFSET : 0;
}

int board_new_generation(struct board *b, struct error *err) {
    gpa place = generation_place(b);
    uint8_t id[16];

    if (!place)
        return 0;
    if (getrandom(id, sizeof(id), 0) != sizeof(id))
        return error_set(err, -EIO, "the machine's generation: no random numbers from the host");
    if (mem_write(b->common, place, id, sizeof(id)) < 0)
        return b->fw_cfg ? 0 : -EFAULT; /* the guest chose a place that is no RAM */
    return 0;
}

unsigned board_serials(const struct board *b) {
    unsigned n = 0;

    while (n < MACHINE_MAX_SERIALS && b->uart[n])
        n++;
    return n;
}

int board_reset(struct board *b, struct error *err) {
    struct acpi_config acpi = {.cpus = b->cpus,
                               .serials = board_serials(b),
                               .hpet = b->hpet,
                               .screen = b->tablet,
                               .cpus_absent = board_absent_cpus(b),
                               .cpus_plug = b->cpu_plug,
                               .memory = b->memory,
                               .memory_more = b->memory_more,
                               .pci64_base = map_pci64(b->memory, b->memory_more),
                               .pci64_end = MAP_PCI64_END,
                               .numa = &b->numa,
                               .plug_slots = board_plug_slots(b)};
    int r;

    for (unsigned i = 0; i < b->devices; i++)
        device_reset(b->device[i]);
    if (b->fw_cfg)
        return tell_firmware(b, err);
    b->smbios.cpus = present_cpus(b);
    set_virtual_wire(b);
    r = pci_bus_assign(b->pci, MAP_PCI_MMIO, MAP_PCI_MMIO_END, MAP_PCI_IO, err);
    if (r < 0)
        return r;
    route_pci_to_isa(b);
    if (b->vga)
        vga_boot_text(b->vga);
    r = acpi_write(&b->mem, &acpi, err);
    if (r == 0)
        r = board_new_generation(b, err);
    if (r == 0)
        r = smbios_write(&b->mem, &b->smbios, MAP_SMBIOS, MAP_1M - MAP_SMBIOS, err);
    return r < 0 ? r : mptable_write(&b->mem, present_cpus(b), DEVFN_LPC, err);
}

uint64_t board_read(struct board *b, const struct board_access *a) {
    b->in_smm = a->smm;
    if (a->port)
        return io_read(&b->pio, a->addr, a->size);
    if (lapic_claims(b->lapic[a->cpu], a->addr))
        return lapic_mmio_read(b->lapic[a->cpu], a->addr & 0xfff);
    return io_read(&b->mmio, a->addr, a->size);
}

void board_write(struct board *b, const struct board_access *a, uint64_t value) {
    b->accessing = a->cpu;
    b->in_smm = a->smm;
    if (a->port)
        io_write(&b->pio, a->addr, a->size, value);
    else if (lapic_claims(b->lapic[a->cpu], a->addr))
        lapic_mmio_write(b->lapic[a->cpu], a->addr & 0xfff, (uint32_t)value);
    else
        io_write(&b->mmio, a->addr, a->size, value);
}
