/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One virtual machine: the board, its processors and their threads, its life from start to end.
 *
 * Contract: machine_new, machine_start and machine_free on the main thread, which then runs the
 * loop. Everything else with the machine lock held (loop callbacks have it). Each vCPU has a
 * thread; it takes the lock around every device access. `ended` is called at most once, on the
 * loop's thread, with all processors at rest. The files that the config names stay open for resets.
 */
#ifndef MACHINE_MACHINE_H
#define MACHINE_MACHINE_H

#include <pthread.h>
#include <stdio.h>

#include "base/error.h"
#include "bus/dirty.h"
#include "cpu/debug.h"
#include "devices/debugcon.h"
#include "devices/pflash.h"
#include "devices/pit.h"
#include "devices/uart16550.h"
#include "devices/virtio/virtio_console.h"
#include "devices/virtio/virtio_vsock.h"

struct block;
struct firmware;
struct loop;
struct machine;
struct machine_numa;
struct mem_backing;
struct net_port;
struct smbios_setting;
struct screen;
struct share;
struct vfio_function;
struct vfio_host;
struct x86_state;

enum {
    MACHINE_MAX_DISKS = 16,
    MACHINE_MAX_NICS = 8,
    MACHINE_MAX_CPUS = 32,
    MACHINE_MAX_CDROMS = 4,
    MACHINE_MAX_INITRDS = 32,
    MACHINE_MAX_SHARES = 8,
    MACHINE_MAX_SERIALS = 4,
    MACHINE_MAX_PASSED = 8,
    MACHINE_MAX_SITES = 32
};
enum machine_bus {
    MACHINE_BUS_VIRTIO,
    MACHINE_BUS_SATA,
    MACHINE_BUS_SCSI,
    MACHINE_BUS_NVME,
    MACHINE_BUS_IDE
};

enum machine_end {
    MACHINE_POWERED_OFF, /* the guest switched itself off */
    MACHINE_RESET,       /* the guest asked for a reset, and no_reboot is set */
    MACHINE_CRASHED,     /* no_reboot is set and: triple fault (code 0), panic notice (code 1) */
    MACHINE_DEBUG_EXIT,  /* debug-exit port; code says the exit status */
    MACHINE_FAILED,      /* our own failure; machine_error says what */
};

enum machine_nic_model { MACHINE_NIC_VIRTIO, MACHINE_NIC_E1000E };

/* Where a device of the PCI bus sits, so that a restored machine has it there. */
struct machine_site {
    char device[32]; /* virtio_blk0 */
    unsigned slot;
};

enum machine_part { MACHINE_DISK, MACHINE_NIC, MACHINE_PASSED, MACHINE_CPU };

struct machine_nic {
    struct net_port *port; /* the caller's, outlives the machine; NULL: none has this number */
    const char *device;    /* what it is called in a snapshot; NULL: the next name */
    uint8_t mac[6];
    enum machine_nic_model model;
    uint8_t *rom; /* of rom_size bytes, the caller's; 0: none */
    uint32_t rom_size;
};

struct machine_share {
    const char *tag;
    struct share *share; /* the caller's, outlives the machine */
};

enum machine_adapter { MACHINE_NO_SCREEN, MACHINE_VGA, MACHINE_VIRTIO_GPU };

struct machine_display { /* with an adapter come mouse, virtio keyboard and tablet */
    enum machine_adapter adapter;
    struct screen *screen;  /* the caller's, outlives the machine; NULL without display */
    const uint8_t *vga_rom; /* NULL: none; copied */
    uint32_t vga_rom_size;  /* a power of two, 2 KiB or more */
};

struct machine_config {
    const char *name;
    unsigned cpus;                     /* all that may ever be */
    unsigned cpus_present;             /* of them, at the start; 0: all, for good */
    uint64_t memory;                   /* bytes, multiple of 2 MiB */
    uint64_t memory_more;              /* that may be plugged by virtio-mem, the same; 0: none */
    const struct mem_backing *backing; /* what the host gives for it, but for sizes; NULL: as usual;
                                          copied, as is the next */
    const struct machine_numa *numa;   /* NULL: none */
    const char *cpu;                   /* backend: auto, ref */
    const char *cpu_model;             /* NULL = default */
    enum dirty_way dirty;              /* how it is known which pages are written */
    bool dirty_prove;                  /* for tests: increments compare the others, too */
    struct cpu_debug cpu_debug;
    /* A kernel is booted directly, or firmware finds what to boot (bios, uefi or the path of a ROM
     * image): one of the two is needed, all others may be NULL. Both are the caller's. */
    const char *kernel, *cmdline;
    const char *const *initrd; /* parts of the initial RAM disk, or modules: boot.h */
    unsigned initrds;
    const struct firmware *firmware;
    const struct smbios_setting *smbios; /* what SMBIOS tables say instead of the usual */
    unsigned smbios_settings;
    struct pflash_config flash;    /* below the firmware; size 0: none */
    const uint8_t *flash_contents; /* at the start */
    bool boot_menu;
    bool hpet;
    bool smm;                            /* system management mode */
    struct debugcon_config firmware_log; /* what firmware says at its debug port */
    /* machine_load follows: nothing is booted. Files of the kernel that cannot be opened then count
     * only at a reset. */
    bool restoring;
    struct block *disk[MACHINE_MAX_DISKS];      /* the caller's, outlive the machine; NULL: none has
                                                   this number */
    const char *disk_device[MACHINE_MAX_DISKS]; /* what it is called in a snapshot; NULL: the next
                                                   name */
    struct machine_site site[MACHINE_MAX_SITES]; /* others go where there is room */
    unsigned sites;
    unsigned disk_queues[MACHINE_MAX_DISKS]; /* 1 to 8; 0: 1 */
    enum machine_bus disk_bus[MACHINE_MAX_DISKS];
    unsigned disk_unit[MACHINE_MAX_DISKS]; /* SCSI: 1 + target * 8 + unit; 0: the next target */
    unsigned disk_boot[MACHINE_MAX_DISKS]; /* place in the order of booting; 0: by boot_order */
    const char
        *boot_order; /* letters: c disks, d optical drives, n network; NULL: all, in this order */
    const char *boot_first; /* the disk of this serial number comes before all; NULL: none does */
    struct block *cdrom[MACHINE_MAX_CDROMS];        /* the caller's; NULL: an empty drive */
    enum machine_bus cdrom_bus[MACHINE_MAX_CDROMS]; /* SATA, SCSI or IDE */
    const char *cdrom_device[MACHINE_MAX_CDROMS];   /* where it hangs, as of disks */
    unsigned cdroms;
    bool has_sata;    /* an adapter is there also if nothing hangs on it */
    bool sata_no_msi; /* it is one from before there was MSI */
    void (*ejected_port)(void *opaque, unsigned port); /* the guest opened the tray. NULL allowed */
    const char *disk_serial[MACHINE_MAX_DISKS];        /* NULL: disk0, disk1 ... */
    unsigned disks;
    struct machine_nic nic[MACHINE_MAX_NICS];
    unsigned nics;
    struct serial_port serial[MACHINE_MAX_SERIALS];
    unsigned serials;           /* COM1 is always there */
    struct pit_speaker speaker; /* who hears it */
    bool has_console;
    struct console_port console; /* virtio console, if has_console */
    bool has_balloon;
    bool has_vsock;
    struct virtio_vsock_config vsock; /* if has_vsock */
    struct machine_share share[MACHINE_MAX_SHARES];
    unsigned shares;
    /* Devices of the host, the caller's, which outlive the machine; NULL: none has this number. */
    struct vfio_function *passed[MACHINE_MAX_PASSED];
    struct vfio_host *vfio; /* whose they are; NULL: there are none */
    unsigned passed_count;
    struct machine_display display;
    bool no_reboot, debug_exit;
    void (*ended)(void *opaque, enum machine_end how, unsigned code);
    /* After a reset that did not end the machine, also one after a triple fault. NULL allowed. */
    void (*was_reset)(void *opaque, bool crashed);
    /* The guest says that it crashed (pvpanic), and the machine goes on. NULL allowed. */
    void (*panicked)(void *opaque);
    /* A disk, network interface or device of the host is gone, and its other side no longer used;
     * or the guest refuses to let it go (`refused`). On the loop's thread. NULL allowed. */
    void (*unplugged)(void *opaque, enum machine_part part, unsigned number, bool refused);
    /* Devices take input again, after a pause and at the start. NULL allowed. */
    void (*resumed)(void *opaque);
    void *opaque;
};

/* Builds the board and loads the kernel. The config's strings must outlive the machine. */
struct machine *machine_new(const struct machine_config *config, struct loop *loop,
                            pthread_mutex_t *lock, struct error *err);
/* Before the start and before a jail: memory to where it belongs, locked if it is to be. */
int machine_settle_memory(struct machine *m, struct error *err);
/* Memory is not for sharing with a snapshot's process, as the host has no more of its kind. */
bool machine_memory_is_scarce(const struct machine *m);
/* Starts the vCPU threads, and the clock unless the machine was paused before. */
int machine_start(struct machine *m, struct error *err);
/* Rests the processors and the clock for good; whatever the guest still asked for is ignored. Not
 * with the lock held. */
void machine_stop(struct machine *m);
void machine_free(struct machine *m); /* machine_stop, then frees everything. Accepts NULL. */

/*
 * Holds the machine still: no guest instruction is executed, the guest's clocks (TSC, timers, RTC)
 * stand, no request is left in a disk, devices take no input. The guest sees no time pass; its own
 * wall clock is behind by the length of the pause when it goes on. Idempotent both; on the loop's
 * thread, which waits for the disks. machine_pause gives the lock up while processors come to rest.
 * A reset asked for meanwhile is done at once and leaves the machine paused at its first
 * instruction; an ending ends it; a press of the power button waits for the guest.
 */
void machine_pause(struct machine *m);
void machine_resume(struct machine *m);
bool machine_is_paused(const struct machine *m);
uint64_t machine_now(const struct machine *m); /* the guest's clock: ns since its start */

/* What there is to look at: every device in the order in which it was made, then NULL. */
const struct device *machine_device(const struct machine *m, unsigned i);
/* The state of processor i, which is stopped for a moment; on the loop's thread. */
void machine_cpu_state(struct machine *m, unsigned i, struct x86_state *ret);
const char *machine_cpu_backend(const struct machine *m, const char **ret_why);

void machine_power_button(struct machine *m);
/* Pulls the network cables out for a moment: guests then ask for their addresses again. */
void machine_replug_nics(struct machine *m);
/* The order of booting from the next reset on, as boot_order and boot_first of the configuration;
 * the strings are to outlive the machine. Only with firmware. */
int machine_set_boot_order(struct machine *m, const char *order, const char *first,
                           struct error *err);
void machine_reset(struct machine *m); /* as by the reset button; takes effect soon */

/* Where a drive hangs, for a snapshot; "": nowhere in particular. */
const char *machine_drive_name(const struct machine *m, unsigned drive);
bool machine_has_sata(const struct machine *m);
/* Another medium into an optical drive, NULL: none. The one before is no longer used afterwards. */
void machine_change_medium(struct machine *m, unsigned drive, struct block *block);
bool machine_medium_locked(const struct machine *m, unsigned drive); /* by the guest */

/* COM1 and so on, for uart_receive and uart_writable. */
struct device *machine_serial(struct machine *m, unsigned i);
struct device *machine_console(struct machine *m); /* NULL without has_console */
struct device *machine_balloon(struct machine *m); /* NULL without has_balloon */
struct device *machine_vmem(struct machine *m);    /* NULL without memory_more */
struct device *machine_vsock(struct machine *m);   /* NULL without has_vsock */
struct device *machine_i8042(struct machine *m);
struct device *machine_keyboard(struct machine *m); /* virtio, NULL without a screen */
struct device *machine_tablet(struct machine *m);   /* the same */
const struct error *machine_error(const struct machine *m);
void machine_print_stats(struct machine *m,
                         FILE *f); /* after machine_stop: backend and why, counters */

#endif
