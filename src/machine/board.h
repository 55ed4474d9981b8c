/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The board: which devices there are, where they are mounted, and how their wires run. Inside of
 * machine/. */
#ifndef MACHINE_BOARD_H
#define MACHINE_BOARD_H

#include "devices/acpi_plug.h"
#include "devices/lapic.h"
#include "devices/pci.h"
#include "machine/machine.h"
#include "machine/numa.h"
#include "machine/smbios.h"

enum { BOARD_MAX_DEVICES = 96 }; /* 32 LAPICs, 26 PCI functions, and the fixed ones */

enum { BOARD_MAX_BOOTS = 128, BOARD_BOOT_PATH = 80, BOARD_SERIAL = 24 };
struct board_boot {            /* what firmware can boot from */
    char kind;                 /* a letter of the order */
    unsigned index;            /* 0: by the order of kinds */
    char serial[BOARD_SERIAL]; /* of a disk */
    char path[BOARD_BOOT_PATH];
};

enum { BOARD_UNIT_NAME = 32 };
struct board_unit { /* a disk that shares an adapter with others; dev NULL: none */
    struct device *dev;
    unsigned unit;
    void (*remove)(struct device *dev, unsigned unit);
    char name[BOARD_UNIT_NAME]; /* where it hangs, for a snapshot */
};

struct board_drive { /* an optical drive: where it hangs, and how its medium is changed there */
    struct device *dev;
    unsigned unit;
    void (*change)(struct device *dev, unsigned unit, struct block *block);
    bool (*locked)(const struct device *dev, unsigned unit);
    char name[BOARD_UNIT_NAME]; /* as of a disk */
};

struct board {
    struct mem mem;     /* all of it */
    struct mem seen;    /* with system management mode: what others than it see, devices too */
    struct mem *common; /* the map of everybody: one of these */
    struct clock *clock;
    struct io_space pio, mmio;
    struct pci_bus *pci;
    struct apic_bus *apics;
    struct device *device[BOARD_MAX_DEVICES]; /* every device in order of creation */
    unsigned devices;
    struct device *lapic[MACHINE_MAX_CPUS];
    struct device *pic, *pit, *rtc, *ioapic, *pm, *reset_ctl, *lpc, *console, *vsock, *i8042, *vga,
        *keyboard, *tablet;
    struct device *uart[MACHINE_MAX_SERIALS]; /* NULL: none */
    struct device *plug, *cpu_plug; /* the latter NULL: all processors are there for good */
    struct device *vmem;            /* memory that comes and goes; NULL: none */
    struct device *balloon;         /* NULL: none */
    struct device *disk[MACHINE_MAX_DISKS], *nic[MACHINE_MAX_NICS]; /* NULL: none, or no function */
    struct device *passed[MACHINE_MAX_PASSED]; /* devices of the host; NULL: none */
    struct vfio_host *vfio;                    /* has been told of the memory; NULL: nobody has */
    uint64_t passed_room;                      /* bytes of the memory that may come later */
    struct device *hpet;                       /* NULL: none */
    struct device *flash;                      /* NULL: none */
    bool boot_menu;
    struct device *smi;    /* NULL: no such mode */
    struct device *fw_cfg; /* NULL: no firmware, the kernel is booted directly */
    int adapter_memory;    /* index of the range in `mem` of the screen's adapter */
    int smram;             /* the same of the RAM behind the hole for VGA */
    struct lapic_cpu pin[MACHINE_MAX_CPUS];
    unsigned accessing;  /* the processor whose access is being done */
    bool in_smm;         /* it is in system management mode */
    struct device *ahci; /* NULL: none */
    struct device *scsi; /* the same */
    struct board_unit unit[MACHINE_MAX_DISKS];
    struct board_drive drive[MACHINE_MAX_CDROMS];
    struct board_boot boot[BOARD_MAX_BOOTS];
    unsigned boots;
    const char *boot_order; /* letters; NULL: the usual */
    const char *boot_first; /* serial number of a disk; NULL: none */
    struct power_sink power;
    const struct acpi_plug_config *unplug, *unplug_cpu; /* who is told what the guest does */
    bool (*apic_message)(void *opaque, uint64_t addr, uint32_t data); /* see board_config */
    void *apic_opaque;
    uint64_t memory, memory_more;
    struct machine_numa numa;
    struct smbios_config smbios;
    unsigned cpus;
};

struct board_config {
    const struct machine_config *machine;
    uint64_t rom; /* bytes of firmware that end at 4 GiB, 0: none */
    struct loop *loop;
    struct power_sink power;
    const struct lapic_cpu *cpu_pins; /* one per processor */
    struct acpi_plug_config unplug, unplug_cpu;
    /* Of processors that bring their LAPICs: see struct apic_bus_sinks. NULL: the board's. */
    bool (*apic_message)(void *opaque, uint64_t addr, uint32_t data);
    void *apic_opaque;
    struct wires *wires;     /* for functions of the PCI bus (bus/wires.h) */
    struct windows *windows; /* the same (bus/windows.h) */
};

int board_init(struct board *b, const struct board_config *config, struct error *err);
void board_done(struct board *b);
/* While it is built: a function of the PCI bus. */
int board_add_function(struct board *b, const char *class, const void *config, unsigned devfn,
                       struct device **ret, struct error *err);
/* A name and a slot for a device of that class: where the configuration says, or the first that is
 * free. `name` NULL: the next name. */
int board_choose_site(const struct board *b, const struct machine_config *m, const char *class,
                      const char *name, struct machine_site *ret, struct error *err);
int board_add_at(struct board *b, const char *class, const void *config,
                 const struct machine_site *at, struct device **ret, struct error *err);
int board_add_nic(struct board *b, const struct machine_config *m, unsigned i, struct error *err);
/* Takes a function off the bus and frees it. */
void board_remove(struct board *b, struct device *d);
uint32_t board_absent_cpus(const struct board *b);
/* Slots that are empty, or hold what can be unplugged. */
uint32_t board_plug_slots(const struct board *b);
/* The same for the IDE adapter, which has ports and interrupts of its own. */
int board_add_ide(struct board *b, const void *config, unsigned devfn, struct device **ret,
                  struct error *err);
unsigned board_serials(const struct board *b);
/* All devices to power-on, then, if there is none, APIC, PCI addresses and ACPI tables as firmware
 * would leave them. */
int board_reset(struct board *b, struct error *err);
/* A new identity of the guest's run, where the ACPI tables say. */
int board_new_generation(struct board *b, struct error *err);

struct board_access { /* a processor's */
    unsigned cpu;
    bool smm; /* in system management mode */
    bool port;
    uint64_t addr;
    unsigned size;
};
/* Machine lock held. */
uint64_t board_read(struct board *b, const struct board_access *a);
void board_write(struct board *b, const struct board_access *a, uint64_t value);

#endif
