/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names of translated code for perf. */
#include "cpu/soft/jit/perfmap.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "cpu/soft/jit/jit_internal.h"

/* The name is foretold and /tmp is everybody's: never through somebody's link. */
FILE *perfmap_open(struct error *err) {
    char path[40];
    FILE *f = NULL;
    int fd;

    snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
    unlink(path);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0)
        f = fdopen(fd, "w");
    if (!f) {
        error_set(err, -errno, "--perf-map: '%s' cannot be made: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    setvbuf(f, NULL, _IOLBF, 4096); /* whoever looks while the machine runs sees whole lines */
    return f;
}

void perfmap_put_common(FILE *f, const struct jit_cache *k) {
    const struct {
        size_t at;
        const char *name;
    } parts[] = {{0, "enter"},
                 {k->leave, "leave"},
                 {k->bail, "bail"},
                 {k->slow, "tlb_miss"},
                 {k->site, "site_miss"},
                 {k->helper, "handler"},
                 {k->vec_load, "vector_load"}};
    unsigned n = sizeof(parts) / sizeof(parts[0]);

    for (unsigned i = 0; i < n; i++) {
        size_t end = k->start;
        for (unsigned j = 0; j < n; j++)
            if (parts[j].at > parts[i].at && parts[j].at < end)
                end = parts[j].at;
        fprintf(f, "%lx %zx viv_%s\n", (unsigned long)(uintptr_t)(k->rx + parts[i].at),
                end - parts[i].at, parts[i].name);
    }
}

void perfmap_put(FILE *f, const void *code, size_t size, uint64_t rip, bool user, unsigned tier) {
    fprintf(f, "%lx %zx guest_%llx[%s,tier%u]\n", (unsigned long)(uintptr_t)code, size,
            (unsigned long long)rip, user ? "user" : "kernel", tier);
}
