/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the host has and how much of it is in use, from /proc and the file system. */
#ifndef HOST_HOST_FIGURES_H
#define HOST_HOST_FIGURES_H

#include <stdint.h>

struct host_figures { /* -1: not known */
    int64_t cpus;
    int64_t cpu_busy_ms, cpu_idle_ms;
    int64_t memory, memory_available;
    int64_t disk, disk_free;
};

/* Never fails, and takes some ten microseconds. `folder` is one of the file system in question. */
void host_figures_read(const char *folder, struct host_figures *ret);

#endif
