/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What machines use, as they tell it when they are asked. host/usage.c does the operations. */
#include "proto/resource.h"

#include <stddef.h>

/* Counts since the process began; only while there is one that answers. */
#define COUNT(field, text)                                                                         \
    { .name = field, .type = FIELD_INT, .max = INT64_MAX, .help = text }
#define BYTES(field, text)                                                                         \
    { .name = field, .type = FIELD_SIZE, .max = INT64_MAX, .help = text }

#define LATENCY(field, text)                                                                       \
    {                                                                                              \
        .name = field, .type = FIELD_OBJECT,                                                       \
        .help = "how long " text " took: counts of those up to 2^first microseconds, 2^(first+1) " \
                "..., the last all others; sum_us of all"                                          \
    }

static const struct field fields[] = {
    {.name = "name",
     .type = FIELD_STRING,
     .flags = FIELD_ALWAYS,
     .max = 63,
     .column = "NAME",
     .help = "of the machine"},
    {.name = "id",
     .type = FIELD_STRING,
     .flags = FIELD_ALWAYS,
     .max = 64,
     .help = "of the machine"},
    {.name = "state",
     .type = FIELD_STRING,
     .flags = FIELD_ALWAYS,
     .max = 32,
     .column = "STATE",
     .help = "what it is doing"},
    {.name = "cpus",
     .type = FIELD_INT,
     .flags = FIELD_ALWAYS,
     .max = INT32_MAX,
     .column = "CPUS",
     .help = "its processors"},
    {.name = "memory",
     .type = FIELD_SIZE,
     .flags = FIELD_ALWAYS,
     .max = INT64_MAX,
     .column = "MEMORY",
     .help = "memory that the guest has"},
    {.name = "time", .type = FIELD_TIME, .help = "when the machine told what follows"},
    {.name = "resident",
     .type = FIELD_SIZE,
     .max = INT64_MAX,
     .column = "RESIDENT",
     .help = "memory of the host that its process takes"},
    BYTES("usable", "memory that the guest may use now, as its balloon leaves it"),
    COUNT("cpu_ms", "processor time of its process, in ms"),
    BYTES("group_memory", "memory of the host that all its processes take together, with the pages "
                          "of files that are kept for them, where their control group counts it"),
    COUNT("group_cpu_ms", "processor time of all its processes together, in ms, where their "
                          "control group counts it"),
    COUNT("disk_reads", "reads of its disks"),
    BYTES("disk_read_bytes", "bytes read from its disks"),
    COUNT("disk_writes", "writes to its disks"),
    BYTES("disk_written_bytes", "bytes written to its disks"),
    COUNT("disk_errors", "requests to its disks that failed"),
    COUNT("net_received_frames", "frames that the guest received"),
    BYTES("net_received_bytes", "bytes of frames that the guest received"),
    COUNT("net_sent_frames", "frames that the guest sent"),
    BYTES("net_sent_bytes", "bytes of frames that the guest sent"),
    COUNT("halts", "times a processor of the guest went to sleep"),
    COUNT("interrupts", "interrupts that the guest's processors were given"),
    COUNT("kicks", "exits of the guest to virtio devices"),
    COUNT("exits", "exits of the guest to ports and registers of devices"),
    LATENCY("disk_read_latency", "reads of its disks"),
    LATENCY("disk_write_latency", "writes to its disks"),
    LATENCY("disk_flush_latency", "flushes of its disks"),
    {0},
};

static const struct operation ops[] = {
    {.name = "list",
     .shape = OP_LIST,
     .answer = ANSWER_LIST,
     .status = 200,
     .permission = "usage.read",
     .help = "What each machine uses. Figures are at most a second old; those of a machine that "
             "does not answer within a second are left out"},
    {.name = "get",
     .shape = OP_GET,
     .status = 200,
     .permission = "usage.read",
     .help = "What one machine uses"},
    {0},
};

const struct resource resource_usage = {.name = "usage",
                                        .plural = "usage",
                                        .noun = "usage",
                                        .help = "what a machine uses",
                                        .plain = true,
                                        .fields = fields,
                                        .ops = ops};
