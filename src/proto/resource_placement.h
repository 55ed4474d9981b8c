/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a machine is on its host, as declared to everybody: a part of resource_vm.c.
 * host/vm_hardware.c makes options of viv-vm of it (docs/placement.md).
 */
#ifndef PROTO_RESOURCE_PLACEMENT_H
#define PROTO_RESOURCE_PLACEMENT_H

/* Not FIELD_ALWAYS: machines that an older manager made do not have them. */
#define PLACEMENT_START (FIELD_CREATE | FIELD_UPDATE | FIELD_START)

#define RESOURCE_PLACEMENT                                                                         \
    {.name = "hugepages",                                                                          \
     .type = FIELD_CHOICE,                                                                         \
     .place = FIELD_SPEC,                                                                          \
     .flags = PLACEMENT_START | FIELD_ADMIN,                                                       \
     .choices = "thp|off|2M|1G",                                                                   \
     .standard = "\"thp\"",                                                                        \
     .help =                                                                                       \
         "pages of its memory: 2M and 1G are of the host's pools, all taken at its start; thp "    \
         "is huge where the kernel finds some; off never. But for thp, for admins"},               \
        {.name = "lock_memory",                                                                    \
         .type = FIELD_BOOL,                                                                       \
         .place = FIELD_SPEC,                                                                      \
         .flags = PLACEMENT_START | FIELD_ADMIN,                                                   \
         .standard = "false",                                                                      \
         .help = "its memory stays in the host's RAM; for admins"},                                \
        {.name = "numa",                                                                           \
         .type = FIELD_STRINGS,                                                                    \
         .place = FIELD_SPEC,                                                                      \
         .flags = PLACEMENT_START | FIELD_WHOLE,                                                   \
         .min = 6,                                                                                 \
         .max = 8,                                                                                 \
         .pattern = "^node=[0-7](,[a-z-]+=[a-zA-Z0-9.:+-]+){0,20}$",                               \
         .standard = "[]",                                                                         \
         .help = "its NUMA nodes, each node=N[,cpus=A-B][,memory=SIZE][,host-node=N]"              \
                 "[,distance=NODE:N]; host-node is for admins"},                                   \
        {.name = "pin",                                                                            \
         .type = FIELD_STRINGS,                                                                    \
         .place = FIELD_SPEC,                                                                      \
         .flags = PLACEMENT_START | FIELD_ADMIN,                                                   \
         .min = 4,                                                                                 \
         .max = 33,                                                                                \
         .pattern = "^(vcpu[0-9]{1,2}|vcpus|io)=[0-9]+([+-][0-9]+){0,50}$",                        \
         .standard = "[]",                                                                         \
         .help = "on which processors of the host its own may run (vcpuN=CPUS, vcpus=CPUS), and "  \
                 "all its other threads (io=CPUS); CPUS is 2, 0-3 or 0+2. For admins"},            \
    {                                                                                              \
        .name = "priority", .type = FIELD_STRINGS, .place = FIELD_SPEC,                            \
        .flags = PLACEMENT_START | FIELD_LOCAL, .min = 4, .max = 2,                                \
        .pattern = "^(io=)?((fifo|rr):[0-9]{1,2}|nice:-?[0-9]{1,2})$", .standard = "[]",           \
        .help = "of its processors' threads (fifo:N, rr:N or nice:N) and all others (io=...). "    \
                "Only a user of this host who is an admin may give one, and no caller from the "   \
                "network"                                                                          \
    }

#endif
