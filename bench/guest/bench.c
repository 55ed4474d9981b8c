/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest-side half of the benchmarks: runs one kernel at a time, as the host's side (bench/run)
 * asks for it on standard input. The same program runs natively for the third column.
 *
 *   host: run NAME N ARG    the kernel runs a sixteenth of N first, so that code is translated,
 *                           caches are warm, programs are in the page cache
 *   here: START NAME        and waits: the host may take its time to read the machine's CPU clock
 *   host: go
 *   here: END NAME SUM NS   the checksum, and the CPU time this process and its children used
 *         FAIL NAME TEXT    instead, if it could not be done
 *   host: quit
 */
#include "bench.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <termios.h>
#include <unistd.h>

static int null_kernel(uint64_t n, const char *arg, uint64_t *sum) {
    *sum = n;
    return 0;
}

/* What the handshake itself costs; the host's side subtracts it from the others. */
static const struct kernel null_kernels[] = {{"null", null_kernel}, {NULL, NULL}};

static const struct kernel *const all_kernels[] = {
    null_kernels, integer_kernels, vector_kernels, system_kernels, disk_kernels, io_kernels,
};

static const struct kernel *find_kernel(const char *name) {
    for (size_t i = 0; i < sizeof(all_kernels) / sizeof(all_kernels[0]); i++)
        for (const struct kernel *k = all_kernels[i]; k->name; k++)
            if (strcmp(k->name, name) == 0)
                return k;
    return NULL;
}

static uint64_t ns_of(const struct rusage *r) {
    return (uint64_t)(r->ru_utime.tv_sec + r->ru_stime.tv_sec) * 1000000000u +
           (uint64_t)(r->ru_utime.tv_usec + r->ru_stime.tv_usec) * 1000u;
}

uint64_t cpu_ns(void) {
    struct rusage self, children;

    getrusage(RUSAGE_SELF, &self);
    getrusage(RUSAGE_CHILDREN, &children);
    return ns_of(&self) + ns_of(&children);
}

/* A line without its end; false at the end of input. */
static bool read_line(char *line, int size) {
    if (!fgets(line, size, stdin))
        return false;
    line[strcspn(line, "\r\n")] = '\0';
    return true;
}

static void run_kernel(const struct kernel *k, uint64_t n, const char *arg) {
    char line[16];
    uint64_t sum, before, used;
    int r = k->run(n / 16 + 1, arg, &sum);

    if (r == 0) {
        printf("START %s\n", k->name);
        fflush(stdout);
        if (!read_line(line, sizeof(line)))
            exit(1);
        before = cpu_ns();
        r = k->run(n, arg, &sum);
        used = cpu_ns() - before;
    }
    if (r == 0)
        printf("END %s %016" PRIx64 " %" PRIu64 "\n", k->name, sum, used);
    else
        printf("FAIL %s %s\n", k->name, strerror(-r));
    fflush(stdout);
}

/* The host talks to a guest over its serial console: no echo, no changing of line ends. */
static void make_raw(void) {
    struct termios t;

    if (tcgetattr(STDIN_FILENO, &t) == 0) {
        t.c_lflag &= ~(tcflag_t)(ECHO | ICANON | ISIG);
        t.c_oflag &= ~(tcflag_t)OPOST;
        t.c_cc[VMIN] = 1;
        t.c_cc[VTIME] = 0;
        tcsetattr(STDIN_FILENO, TCSANOW, &t);
    }
}

static int serve(void) {
    char line[256], name[32], arg[128];
    uint64_t n;

    make_raw();
    printf("BENCH READY\n");
    fflush(stdout);
    while (read_line(line, sizeof(line)) && strcmp(line, "quit") != 0) {
        const struct kernel *k;

        if (sscanf(line, "run %31s %" SCNu64 " %127s", name, &n, arg) != 3)
            printf("FAIL - this is no request: %s\n", line);
        else if (!(k = find_kernel(name)))
            printf("FAIL %s there is no such kernel\n", name);
        else
            run_kernel(k, n, arg);
        fflush(stdout);
    }
    return 0;
}

int main(int argc, char **argv) {
    int r;

    if (argc == 2 && strcmp(argv[1], "serve") == 0)
        return serve();
    if (argc == 2 && strcmp(argv[1], CHILD_ARG) == 0)
        return CHILD_STATUS;
    if (argc == 4 && strcmp(argv[1], "mkdisk") == 0) {
        r = io_make_disk(argv[2], strtoull(argv[3], NULL, 10));
        if (r == 0)
            return 0;
        fprintf(stderr, "bench: cannot write %s: %s\n", argv[2], strerror(-r));
        return 1;
    }
    if (argc == 3 && strcmp(argv[1], "cached") == 0) {
        r = io_cached(argv[2]);
        if (r == 0)
            return 0;
        fprintf(stderr, "bench: %s: %s\n", argv[2], strerror(-r));
        return 1;
    }
    fprintf(stderr, "usage: bench serve | bench mkdisk FILE MIB | bench cached FILE\n");
    return 2;
}
