/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Figures of the host: proc(5) for processors and memory, statvfs(3) for the disk. */
#include "host/host_figures.h"

#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

/* The first line: "cpu" user nice system idle iowait irq softirq steal; guest time is within user.
 */
static void read_cpu(struct host_figures *ret) {
    unsigned long long user, nice, system, idle, iowait, irq, softirq, steal;
    long hz = sysconf(_SC_CLK_TCK);
    FILE *f = fopen("/proc/stat", "re");

    if (!f)
        return;
    if (hz > 0 && fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system,
                         &idle, &iowait, &irq, &softirq, &steal) == 8) {
        ret->cpu_busy_ms =
            (int64_t)(user + nice + system + irq + softirq + steal) * 1000 / (int64_t)hz;
        ret->cpu_idle_ms = (int64_t)(idle + iowait) * 1000 / (int64_t)hz;
    }
    fclose(f);
}

static void read_memory(struct host_figures *ret) {
    char line[128];
    FILE *f = fopen("/proc/meminfo", "re");

    if (!f)
        return;
    while (fgets(line, sizeof(line), f)) {
        long long kib;

        if (sscanf(line, "MemTotal: %lld kB", &kib) == 1)
            ret->memory = kib << 10;
        else if (sscanf(line, "MemAvailable: %lld kB", &kib) == 1)
            ret->memory_available = kib << 10;
    }
    fclose(f);
}

void host_figures_read(const char *folder, struct host_figures *ret) {
    struct statvfs st;

    memset(ret, 0xff, sizeof(*ret)); /* -1 */
    ret->cpus = get_nprocs();
    read_cpu(ret);
    read_memory(ret);
    if (statvfs(folder, &st) < 0)
        return;
    ret->disk = (int64_t)st.f_blocks * (int64_t)st.f_frsize;
    ret->disk_free = (int64_t)st.f_bavail * (int64_t)st.f_frsize;
}
