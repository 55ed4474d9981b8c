/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The local APIC, one per CPU (class `lapic`), and the bus that joins them.
 * Source: Intel SDM vol. 3, chapter "Advanced Programmable Interrupt Controller" (xAPIC and
 * x2APIC).
 *
 * The machine makes one apic_bus, then a lapic per CPU with the bus in its config. MSIs, the IOAPIC
 * and inter-processor interrupts all go through apic_bus_deliver_msi's routing. Machine lock held
 * for everything; the callbacks of struct lapic_cpu are called with it held, on whatever thread
 * caused them (they set flags and kick the vCPU; they must not call back into the lapic).
 *
 * Region 0 is the 4 KiB register page. It is private to each CPU, so it is not mounted in a shared
 * io_space: the machine asks lapic_claims on a vCPU's MMIO access and then calls lapic_mmio_*.
 */
#ifndef DEVICES_LAPIC_H
#define DEVICES_LAPIC_H

#include "devices/device.h"

enum {
    LAPIC_MAX = 255 /* ID 255 means all */,
    LAPIC_TIMER_HZ = 1000000000 /* before the divider; announce it in CPUID */
};

struct apic_bus;

struct apic_bus_sinks { /* what the bus needs from elsewhere; any may be NULL */
    void (*eoi)(void *opaque,
                uint8_t vector);  /* EOI broadcast of a level interrupt: to ioapic_eoi */
    int (*ext_ack)(void *opaque); /* INTA cycle for ExtINT: to pic_ack */
    /* Where the LAPICs are KVM's: messages go there. False: they are here for now (lapic_fetch). */
    bool (*message)(void *opaque, uint64_t addr, uint32_t data);
    void *opaque;
};

struct apic_bus *apic_bus_new(const struct apic_bus_sinks *sinks);
void apic_bus_free(struct apic_bus *bus); /* accepts NULL; after the LAPICs are freed */

/* A write to the message window fee00000..feefffff: from the IOAPIC and from MSI/MSI-X functions.
 * Its shape is msi_sink.send with the bus as opaque. Data that makes no sense is dropped. */
void apic_bus_deliver_msi(void *bus, uint64_t addr, uint32_t data);

/* A LAPIC's registers as the manual numbers them (SDM vol. 3A table 11-1: offset 16 n), IDs in bits
 * 31:24. */
struct lapic_image {
    uint64_t base, tsc_deadline;
    uint32_t reg[64];
};

struct lapic_cpu { /* the pins towards the CPU; any may be NULL */
    void (*intr)(void *opaque,
                 bool level); /* on change: lapic_ack has something (CPU still checks IF) */
    void (*nmi)(void *opaque);
    void (*smi)(void *opaque);
    void (*init)(void *opaque); /* the LAPIC has reset itself already */
    void (*sipi)(void *opaque,
                 uint8_t vector); /* CPU ignores it unless it waits for one after INIT */
    /* Both or none: the LAPIC is KVM's. This device is what of it is saved and shown, intr is
     * LINT0, and of the pins only nmi is used besides (LINT1). */
    void (*store)(void *opaque, const struct lapic_image *image);
    void (*fetch)(void *opaque, struct lapic_image *ret_image);
    void *opaque;
};

struct lapic_config { /* NULL: id 0, a bus of its own, boot CPU */
    struct apic_bus *bus;
    uint32_t id; /* initial APIC ID, < LAPIC_MAX; unique on the bus */
    bool bsp;    /* APIC_BASE.BSP: the boot CPU */
    bool x2apic; /* CPUID offers x2APIC: else setting APIC_BASE.EXTD is #GP */
    struct lapic_cpu cpu;
};

/* LINT0 (n = 0, from the PIC's INTR) and LINT1 (n = 1, NMI) input pins. */
struct irq lapic_lint_wire(struct device *dev, unsigned n);

/* Interrupt acknowledge: the vector to deliver now (IRR -> ISR, or ExtINT from the PIC), -1 if
 * none. */
int lapic_ack(struct device *dev);
/*
 * KVM's paravirtual EOI (Linux Documentation/virt/kvm/x86/msr.rst, MSR_KVM_EOI_EN). After an ack:
 * true if the guest may end this interrupt without a word; then it counts as possibly ended until
 * lapic_settle_eoi says what it was, before the next ack or access to a register.
 */
bool lapic_offer_eoi(struct device *dev);
void lapic_settle_eoi(struct device *dev, bool ended);
int lapic_pending_vector(const struct device *dev); /* peek: vector, 256 for ExtINT, -1 for none */
static inline bool lapic_has_intr(const struct device *dev) {
    return lapic_pending_vector(dev) >= 0;
}

/* CR8: bits 7:4 of the task priority register. */
unsigned lapic_get_tpr(const struct device *dev);
void lapic_set_tpr(struct device *dev, unsigned cr8);

/* MSRs 0x1b (APIC_BASE), 0x6e0 (TSC deadline), 0x800..0x8ff (x2APIC). -1 = #GP. */
bool lapic_has_msr(uint32_t msr);
int lapic_msr_read(struct device *dev, uint32_t msr, uint64_t *ret_value);
int lapic_msr_write(struct device *dev, uint32_t msr, uint64_t value);

/* True if a physical address belongs to this CPU's register page now (enabled, xAPIC mode). */
bool lapic_claims(const struct device *dev, uint64_t addr);
uint32_t lapic_mmio_read(struct device *dev, unsigned offset);
void lapic_mmio_write(struct device *dev, unsigned offset, uint32_t value);

/* An interrupt to one processor, as if the ICR's mode and vector (bits 10:0) had been written. */
void lapic_send(struct device *dev, uint32_t apic_id, uint32_t icr);
uint32_t lapic_id(const struct device *dev);  /* initial APIC ID, for CPUID */
bool lapic_enabled(const struct device *dev); /* APIC_BASE.EN: CPUID.1:EDX.APIC follows it */
void lapic_init_signal(
    struct device *dev); /* INIT pin of this CPU: resets the LAPIC but for its ID and base */
/* After a state load of everything: drives cpu.intr again, and stores what the device holds in the
 * LAPIC that is elsewhere. */
void lapic_sync(struct device *dev);
/* The device holds what the LAPIC elsewhere does; nothing if there is none. */
void lapic_fetch(struct device *dev);
/* From now on the LAPICs are these devices, with what they hold; lapic_sync follows. */
void apic_bus_come_home(struct apic_bus *bus);
void lapic_come_home(struct device *dev, const struct lapic_cpu *cpu);

#endif
