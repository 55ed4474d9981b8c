/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a machine may take of its host at most, as declared to everybody: a part of resource_vm.c.
 * The processors' share is held by its control group (host/vm_limits.c), that of its disk by
 * viv-vm.
 */
#ifndef PROTO_RESOURCE_LIMITS_H
#define PROTO_RESOURCE_LIMITS_H

enum { LIMITS_IOPS_MOST = 10 * 1000 * 1000 };

#define DISK_IOPS(named, flagged)                                                                  \
    {                                                                                              \
        .name = named, .type = FIELD_INT, .place = FIELD_SPEC, .flags = flagged, .min = 0,         \
        .max = LIMITS_IOPS_MOST, .standard = "0",                                                  \
        .help = "requests a second to its disk at most; 0: no limit"                               \
    }
#define DISK_BPS(named, flagged)                                                                   \
    {                                                                                              \
        .name = named, .type = FIELD_SIZE, .place = FIELD_SPEC, .flags = flagged, .min = 0,        \
        .max = 1ll << 40, .standard = "0",                                                         \
        .help = "bytes a second from and to its disk at most; 0: no limit"                         \
    }

#define RESOURCE_LIMITS                                                                            \
    {.name = "cpu_limit",                                                                          \
     .type = FIELD_INT,                                                                            \
     .place = FIELD_SPEC,                                                                          \
     .flags = FIELD_CREATE | FIELD_UPDATE | FIELD_LIVE,                                            \
     .min = 0,                                                                                     \
     .max = 100 * 100,                                                                             \
     .standard = "0",                                                                              \
     .help = "processor time of the host that it may take at most, with all that works for it, "   \
             "in percent of one processor; 0: no limit. One that runs has it at once"},            \
        DISK_IOPS("disk_iops", FIELD_CREATE | FIELD_UPDATE | FIELD_START),                         \
        DISK_BPS("disk_bps", FIELD_CREATE | FIELD_UPDATE | FIELD_START)

#endif
