/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of viv-vm: one table of options, from which parsing and --help come. */
#ifndef VM_OPTIONS_H
#define VM_OPTIONS_H

#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "block/block.h"
#include "bus/dirty.h"
#include "display/vnc.h"
#include "machine/machine.h"
#include "machine/smbios.h"
#include "net/net.h"
#include "vm/placement.h"

struct options_share {
    const char *tag, *path;
    bool readonly;
};

enum {
    OPTIONS_MAX_FORWARDS = 32,
    OPTIONS_MAX_TRACES = 16,
    OPTIONS_MAX_DISPLAYS = 2,
    OPTIONS_MAX_ONLY = 16
};

#define OPTIONS_MEMORY_MIN (16ll << 20)
#define OPTIONS_MEMORY_MAX (128ull << 30)

struct options_nic {
    uint8_t mac[6]; /* 52:54:00:12:34:56 and following if not given */
    bool mac_given;
    bool absent;             /* it was removed: none has this number */
    char *kept;              /* the text that its words are in */
    const char *id, *device; /* as of disks */
    const char *link;        /* path of a switch's socket, NULL: user-mode NAT */
    uint16_t mtu;            /* of the link */
    enum machine_nic_model model;
    const char *rom;             /* path; NULL: as nics.h says */
    bool no_rom;                 /* none in any case */
    const char *bootfile, *tftp; /* of the user-mode network */
    struct net_forward forward[OPTIONS_MAX_FORWARDS];
    unsigned forwards;
};

enum options_smm { SMM_AUTO, SMM_OFF, SMM_ON };

struct options {
    const char *name; /* empty if not given */
    const char *cpu, *cpu_model, *kernel, *append, *console;
    enum dirty_way dirty;
    bool dirty_prove;
    const char *serial[MACHINE_MAX_SERIALS];
    unsigned serials;
    const char *serial_log;                  /* path, NULL: none */
    const char *initrd[MACHINE_MAX_INITRDS]; /* each a path, arguments may follow */
    unsigned initrds;
    const char *firmware;  /* NULL: the kernel is booted directly */
    const char *uefi_vars; /* path, NULL: not kept */
    const char *firmware_log;
    const char *speaker; /* path of a WAV file, NULL: nobody hears it */
    bool boot_menu;
    bool hpet;
    enum options_smm smm; /* AUTO until the firmware is known */
    struct smbios_setting smbios[SMBIOS_SETTINGS];
    unsigned smbios_settings;
    const char *boot_order;                     /* letters, see --boot */
    const char *boot_first;                     /* the serial number of a disk, NULL = none */
    const char *control;                        /* path, NULL = none */
    const char *restore;                        /* folder of a snapshot, NULL = boot */
    const char *restore_only[OPTIONS_MAX_ONLY]; /* all that the snapshot may name; none: anything */
    unsigned restore_onlys;
    const char *vsock; /* path, NULL = none */
    uint64_t vsock_cid;
    struct options_share share[MACHINE_MAX_SHARES];
    unsigned shares;
    const char *display[OPTIONS_MAX_DISPLAYS]; /* as given */
    struct vnc_options vnc[OPTIONS_MAX_DISPLAYS];
    unsigned displays; /* 0: no screen unless vga says so */
    const char *vga;   /* "std", "virtio" or "none"; NULL = std with a display */
    bool paused;
    bool balloon;
    bool renew_identity; /* with restore: new MAC addresses */
    bool template;       /* fork machines from `restore` */
    bool prefetch;
    unsigned record_working_set; /* seconds, 0: not */
    struct cpu_debug cpu_debug;
    unsigned cpus;       /* at the start */
    unsigned cpus_max;   /* that may be plugged; 0: they stay as they are */
    uint64_t memory_max; /* with what virtio-mem may plug; 0: it stays as it is */
    uint64_t memory;
    bool memory_sized; /* --memory says how much, not only of which kind */
    struct placement placement;
    bool log_json;
    struct block_options disk[MACHINE_MAX_DISKS];
    unsigned disk_queues[MACHINE_MAX_DISKS];    /* 0: not given */
    const char *disk_serial[MACHINE_MAX_DISKS]; /* NULL: not given */
    enum machine_bus disk_bus[MACHINE_MAX_DISKS];
    unsigned disk_unit[MACHINE_MAX_DISKS];      /* unit=, 0: not given */
    unsigned disk_boot[MACHINE_MAX_DISKS];      /* bootindex=, 0: not given */
    const char *disk_text[MACHINE_MAX_DISKS];   /* as it was given */
    const char *disk_id[MACHINE_MAX_DISKS];     /* the name that disk-add gave it, or NULL */
    const char *disk_device[MACHINE_MAX_DISKS]; /* of a restored machine: struct machine_config */
    struct machine_site site[MACHINE_MAX_SITES];
    unsigned sites;
    unsigned disks;
    const char *cdrom[MACHINE_MAX_CDROMS]; /* path, NULL: an empty drive */
    enum machine_bus cdrom_bus[MACHINE_MAX_CDROMS];
    const char *cdrom_device[MACHINE_MAX_CDROMS]; /* of a restored machine: where it hangs */
    unsigned cdroms;
    bool has_sata;    /* the same: there is an adapter, perhaps with nothing on it */
    bool sata_no_msi; /* the same: from before it had MSI */
    struct options_nic nic[MACHINE_MAX_NICS];
    unsigned nics;
    const char
        *passed[MACHINE_MAX_PASSED]; /* devices of the host: vfio/group.h's names; NULL: none */
    const char *passed_id[MACHINE_MAX_PASSED]; /* as of disks */
    unsigned passed_count;
    const char *trace[OPTIONS_MAX_TRACES];
    unsigned traces;
    const char *jail_user; /* NULL: as jail/jail.h says */
    bool no_jail;
    bool no_reboot, debug_exit, stats, help, help_man, version;
    uint64_t given;    /* options by their place in the table */
    char *copies[512]; /* split option values, freed by options_done */
    unsigned copy_count;
};

/* 0, or -EINVAL with the sentence. Checks everything that needs no file. */
int options_parse(struct options *o, int argc, char **argv, struct error *err);
int options_add_disk(struct options *o, const char *text, struct error *err); /* as --disk */
/* While the machine runs: the number of the new one, which is the lowest that is free, or negative.
 * A disk that was removed has no path. `id` may be NULL. */
int options_plug_disk(struct options *o, const char *text, const char *id, struct error *err);
void options_unplug_disk(struct options *o, unsigned i);
int options_plug_nic(struct options *o, const char *text, const char *id, struct error *err);
void options_unplug_nic(struct options *o, unsigned i);
/* All processors that the machine may ever have. */
unsigned options_all_cpus(const struct options *o);
unsigned options_disk_queues(const struct options *o, unsigned disk);
/* What follows the path in it, "" if nothing does. */
const char *options_disk_properties(const char *text);
int options_add_share(struct options *o, const char *tag, const char *path, bool readonly,
                      struct error *err);
int options_set_boot_order(struct options *o, const char *text,
                           struct error *err); /* the letters */
bool options_vga_valid(const char *v);
bool options_has_screen(const struct options *o);
int options_set_display(struct options *o, const char *text, struct error *err); /* as --display */
bool options_given(const struct options *o, const char *name); /* on the command line */
/* A copy of the string that lives as long as the options; NULL: out of memory. */
char *options_keep(struct options *o, const char *s);
void options_drop(struct options *o, const char *s); /* of options_keep; accepts NULL */
void options_done(struct options *o);
void options_help(FILE *f);
void options_help_man(FILE *f); /* the same as a manual page, in roff */

#endif
