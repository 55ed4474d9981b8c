/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What this process takes of the host: proc(5). */
#include "base/process.h"

#include <stdio.h>
#include <unistd.h>

/*
 * Calls (main, net): openat
 */

uint64_t process_resident(void) {
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");

    if (f && fscanf(f, "%*u %llu", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}
