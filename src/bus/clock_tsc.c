/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding the host's TSC frequency: the kernel knows it exactly and tells it in the page of a perf
 * event (perf_event_open(2), cap_user_time); where that is not allowed, two readings 20 ms apart.
 * The frequency in CPUID 15h/16h is nominal, off by up to hundreds of ppm, and is not used.
 */
#include "bus/clock_tsc.h"

#include <cpuid.h>
#include <linux/perf_event.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

/* Around a reading of the clock lie about 50 ns: 20 ms give 5 ppm, 2 ms tell a lie of the kernel's
 * value. */
enum { SHORT_NS = 2000000, LONG_NS = 20000000, LIE_PPM = 300, KNOWN_PPM = 100 };

struct pair {
    uint64_t tsc, ns;
};

static bool tsc_is_invariant(void) {
    unsigned a, b, c, d;

    return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & (1u << 8));
}

/* One of the kernel's lists or choices names the TSC; `otherwise`: it does not say. */
static bool kernel_names_tsc(const char *what, bool otherwise) {
    char path[100], line[200] = "";
    bool listed;
    FILE *f;

    snprintf(path, sizeof(path), "/sys/devices/system/clocksource/clocksource0/%s", what);
    f = fopen(path, "re");
    if (!f)
        return otherwise;
    listed = fgets(line, sizeof(line), f) && strstr(line, "tsc");
    fclose(f);
    return listed;
}

/* It takes the TSC from its list when it finds it unsteady or different from CPU to CPU; and where
 * it was told that it is reliable, though the processor does not say so, it lives by it. */
static bool is_steady(void) {
    if (!tsc_is_invariant())
        return kernel_names_tsc("current_clocksource", false);
    return kernel_names_tsc("available_clocksource", true);
}

static uint64_t mono(void) {
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* The reading with the least time around it of several: the others met an interrupt or a cache
 * miss. */
static struct pair read_pair(void) {
    struct pair best = {0, 0};
    uint64_t width = UINT64_MAX;

    for (int i = 0; i < 32; i++) {
        uint64_t before = __rdtsc();
        uint64_t ns = mono();
        uint64_t after = __rdtsc();

        if (after - before < width) {
            width = after - before;
            best = (struct pair){before + (after - before) / 2, ns};
        }
    }
    return best;
}

static uint64_t measure(const struct pair *from, uint64_t ns) {
    struct timespec wait = {.tv_nsec = (long)ns};
    struct pair to;

    clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, NULL);
    to = read_pair();
    if (to.ns <= from->ns || to.tsc <= from->tsc)
        return 0;
    return (uint64_t)((unsigned __int128)(to.tsc - from->tsc) * 1000000000u / (to.ns - from->ns));
}

/* ns = tsc * time_mult >> time_shift, hence the frequency; 0 if the kernel does not tell. */
static uint64_t ask_kernel(void) {
    struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE,
                                   .size = sizeof(attr),
                                   .config = PERF_COUNT_SW_DUMMY,
                                   .exclude_kernel = 1,
                                   .exclude_hv = 1,
                                   .disabled = 1};
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    const struct perf_event_mmap_page *page;
    uint64_t hz = 0;
    int fd;

    fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd < 0)
        return 0;
    page = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (page != MAP_FAILED) {
        if (page->cap_user_time && page->time_mult && page->time_shift < 64)
            hz = (uint64_t)(((unsigned __int128)1000000000u << page->time_shift) / page->time_mult);
        munmap((void *)page, size);
    }
    close(fd);
    return hz;
}

static bool near(uint64_t a, uint64_t b, uint64_t ppm) {
    uint64_t diff = a > b ? a - b : b - a;

    return diff < b / 1000000 * ppm;
}

uint64_t clock_tsc_measure(uint64_t known) {
    struct pair start;
    uint64_t told, seen;

    if (!is_steady())
        return 0;
    start = read_pair();
    told = ask_kernel();
    if (told && known && near(told, known, 1)) /* what was measured once is no lie */
        return told;
    seen = measure(&start, SHORT_NS);
    if (told && near(told, seen, LIE_PPM))
        return told;
    if (known && near(known, seen, KNOWN_PPM))
        return known;
    return measure(&start, LONG_NS);
}
