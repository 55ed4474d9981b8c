/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What of a machine can change while it runs, and details of its hardware, as declared to
 * everybody: a part of resource_vm.c. host/vm_live.c and host/vm_hardware.c make it true.
 */
#ifndef PROTO_RESOURCE_LIVE_H
#define PROTO_RESOURCE_LIVE_H

/* Not FIELD_ALWAYS: machines that an older manager made do not have them. */
#define LIVE_START (FIELD_CREATE | FIELD_UPDATE | FIELD_START)
#define LIVE_NOW   (FIELD_CREATE | FIELD_UPDATE | FIELD_LIVE)

#define RESOURCE_LIVE                                                                              \
    {.name = "share",                                                                              \
     .type = FIELD_STRINGS,                                                                        \
     .place = FIELD_SPEC,                                                                          \
     .flags = LIVE_START | FIELD_LOCAL | FIELD_WHOLE,                                              \
     .min = 3,                                                                                     \
     .max = 8,                                                                                     \
     .pattern = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,34}=/[^,]*(,ro)?$",                                  \
     .standard = "[]",                                                                             \
     .help = "folders of this host that the guest gets, each TAG=PATH or TAG=PATH,ro, which "      \
             "cannot be changed from there: mount -t virtiofs TAG /mnt. Only a user of this "      \
             "host who is an admin may share something, and no caller from the network"},          \
        {.name = "cpus_max",                                                                       \
         .type = FIELD_INT,                                                                        \
         .place = FIELD_SPEC,                                                                      \
         .flags = LIVE_START,                                                                      \
         .max = 32,                                                                                \
         .standard = "0",                                                                          \
         .help = "how many processors it can be given while it runs (cpus); 0: none"},             \
        {.name = "memory_max",                                                                     \
         .type = FIELD_SIZE,                                                                       \
         .place = FIELD_SPEC,                                                                      \
         .flags = LIVE_START,                                                                      \
         .max = 128ll << 30,                                                                       \
         .standard = "0",                                                                          \
         .help =                                                                                   \
             "how much memory it can be given while it runs (memory), by virtio-mem; 0: none"},    \
        {.name = "balloon",                                                                        \
         .type = FIELD_SIZE,                                                                       \
         .place = FIELD_SPEC,                                                                      \
         .flags = LIVE_NOW,                                                                        \
         .max = 128ll << 30,                                                                       \
         .standard = "0",                                                                          \
         .help =                                                                                   \
             "how much of its memory the guest may use, by a balloon; the rest goes back to the "  \
             "host as the guest frees it; 0: all. One that runs follows at once"},                 \
        {.name = "cpu_model",                                                                      \
         .type = FIELD_STRING,                                                                     \
         .place = FIELD_SPEC,                                                                      \
         .flags = LIVE_START,                                                                      \
         .min = 1,                                                                                 \
         .max = 511,                                                                               \
         .pattern = "^(host|x86-64-v[123])(,[+-][a-z0-9_]+)*$",                                    \
         .choices = "host|x86-64-v1|x86-64-v2|x86-64-v3",                                          \
         .standard = "\"host\"",                                                                   \
         .help = "what its processors offer: all that this host can do (host), or the same on "    \
                 "every host (x86-64-v1, -v2, -v3); features more or less by their names in "      \
                 "/proc/cpuinfo, as x86-64-v2,+aes,-pcid"},                                        \
        {.name = "hpet",                                                                           \
         .type = FIELD_BOOL,                                                                       \
         .place = FIELD_SPEC,                                                                      \
         .flags = LIVE_START,                                                                      \
         .standard = "false",                                                                      \
         .help = "high precision event timers, for systems that want them; Linux keeps better "    \
                 "time without"},                                                                  \
        {.name = "boot_menu",                                                                      \
         .type = FIELD_BOOL,                                                                       \
         .place = FIELD_SPEC,                                                                      \
         .flags = LIVE_START,                                                                      \
         .standard = "false",                                                                      \
         .help = "the BIOS asks what to boot"},                                                    \
        {.name = "cdrom_bus",                                                                      \
         .type = FIELD_CHOICE,                                                                     \
         .place = FIELD_SPEC,                                                                      \
         .flags = LIVE_START,                                                                      \
         .choices = "sata|scsi|ide",                                                               \
         .standard = "\"sata\"",                                                                   \
         .help = "where its optical drive hangs; ide is for old systems"},                         \
        {.name = "nic_rom",                                                                        \
         .type = FIELD_STRING,                                                                     \
         .place = FIELD_SPEC,                                                                      \
         .flags = LIVE_START | FIELD_FILE,                                                         \
         .min = 1,                                                                                 \
         .max = 1000,                                                                              \
         .pattern = "^(auto|none|/.*)$",                                                           \
         .standard = "\"auto\"",                                                                   \
         .help = "the ROM by which its firmware boots from the network: auto takes one that the "  \
                 "host has; none; a file"},                                                        \
        {.name = "bootfile",                                                                       \
         .type = FIELD_STRING,                                                                     \
         .place = FIELD_SPEC,                                                                      \
         .flags = LIVE_START,                                                                      \
         .max = 127,                                                                               \
         .pattern = "^[^,]*$",                                                                     \
         .standard = "\"\"",                                                                       \
         .help = "what DHCP in the network 'user' tells firmware to load: an address such as "     \
                 "http://10.0.2.2/boot.ipxe, or a name in 'tftp'"},                                \
    {                                                                                              \
        .name = "tftp", .type = FIELD_STRING, .place = FIELD_SPEC,                                 \
        .flags = LIVE_START | FIELD_FILE, .min = 1, .max = 1000, .pattern = "^(none|/[^,]*)$",     \
        .standard = "\"none\"",                                                                    \
        .help = "folder of this host that TFTP in the network 'user' shows, for booting from it"   \
    }

#endif
