/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a device is: a struct, a reset, register access functions, interrupt wires, a state table.
 *
 * Contract: everything is called with the machine lock held, on the loop's or a vCPU's thread.
 * Time, memory and interrupts are handed in through struct device_env; a device never sees a CPU,
 * never blocks, and knows no address of its own: the board mounts its regions.
 *
 * A new device is one file (devices/foo.c with `const struct device_class foo_class`) and one line,
 * DEVICE(foo), in devices.def.
 */
#ifndef DEVICES_DEVICE_H
#define DEVICES_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "bus/clock.h"
#include "bus/io.h"
#include "bus/irq.h"
#include "bus/mem.h"
#include "state/state.h"

enum { DEVICE_MAX_IRQS = 32, DEVICE_MAX_REGIONS = 8 };

enum power_event {            /* what a device may ask of the machine */
                   POWER_OFF, /* ACPI S5 and the like */
                   POWER_RESET,
                   POWER_PANIC, /* the guest says that it crashed */
                   POWER_EXIT,  /* debug-exit port: `code` is the process's exit code */
};

struct power_sink {
    void (*request)(void *opaque, enum power_event event, unsigned code);
    void *opaque;
};

struct device_env {
    struct mem *mem;
    struct clock *clock;
    struct msi_sink msi;
    struct power_sink power;
    struct irq irq[DEVICE_MAX_IRQS]; /* output wires; the class says what each index is */
    const void *config; /* the class's own config struct, read during init only; NULL = defaults */
};

enum device_space { DEVICE_PIO, DEVICE_MMIO };

struct device_region {
    const char *name; /* NULL ends the list */
    enum device_space space;
    uint32_t size;
    const struct io_ops *ops; /* called with the device struct */
};

struct device; /* first member of every device struct */

struct device_class {
    const char *name; /* stable: it is the name in snapshots */
    const char *help;
    size_t size; /* of the device struct */
    const struct state_desc *state;
    const struct device_region
        *regions; /* fixed regions; PCI devices describe BARs to devices/pci.h instead */
    int (*init)(struct device *dev,
                struct error *err);    /* dev->env is set, memory zeroed; NULL allowed */
    void (*reset)(struct device *dev); /* to the state after power-on; called once after init too */
    void (*done)(struct device *dev);  /* NULL allowed; must accept a half-initialised device */
    /* What it was given (a disk, a port) goes away for good: it finishes with it, and from now on
     * answers as if there were none. NULL allowed: it cannot. */
    void (*abandon)(struct device *dev);
    bool newer; /* older snapshots lack it, and it then stays as after its reset */
    bool pci;   /* the struct embeds struct pci_device first (which embeds struct device) */
};

struct device {
    const struct device_class *cls;
    struct device_env env;
    struct io_region
        region[DEVICE_MAX_REGIONS]; /* in the order of cls->regions, ready for io_map */
    char name[32];                  /* instance, "pit0" */
};

/* Allocates, initialises and resets. NULL with a sentence on failure. The env is copied. */
struct device *device_new(const struct device_class *cls, const char *name,
                          const struct device_env *env, struct error *err);
void device_free(struct device *dev); /* accepts NULL; the board unmaps regions first */
void device_reset(struct device *dev);
/* Maps region `i` of the device at base. */
int device_mount(struct device *dev, unsigned i, struct io_space *space, uint64_t base,
                 struct error *err);

/* All classes of devices.def, NULL-terminated, and by name (NULL if unknown). */
extern const struct device_class *const device_classes[];
const struct device_class *device_class_find(const char *name);

#endif
