/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Recording and loading the working set of a restored machine.
 *
 * Recording asks the host which pages of guest memory it has mapped for us (/proc/self/pagemap,
 * Documentation/admin-guide/mm/pagemap.rst in Linux). It maps more than is touched: what of the
 * file is in its cache already, 16 pages around each fault, and what it reads ahead. So the file's
 * cached pages are dropped first and nothing is read ahead. Where the host does not drop them
 * (other machines run from the same snapshot, or it lies in memory) the set is larger than it need
 * be.
 *
 * Loading asks for all of it to be read first, so that the disk is kept busy, and then has the
 * pages mapped: a fault each costs several times as much.
 */
#include "machine/working_set.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/jail.h"
#include "base/trace.h"
#include "machine/machine_internal.h"
#include "state/snapshot.h"
#include "state/working_set.h"

/*
 * Calls (main, aux): openat fadvise64 newfstatat madvise:MADV_WILLNEED madvise:MADV_POPULATE_READ
 *     madvise:MADV_RANDOM
 */

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14; older ones refuse it, and faults do the rest */
#endif

enum { ENTRIES = 4096, PREFETCH_PAGES = 512 };
#define PRESENT (1ull << 63)
#define SWAPPED (1ull << 62)

/* ------------------------------------------------------------------ recording */

void machine_watch_pages(struct machine *m, const struct snapshot *s) {
    const struct mem *mem = &machine_board(m)->mem;

    for (; s; s = s->parent)
        posix_fadvise(s->memory_fd, 0, 0, POSIX_FADV_DONTNEED);
    for (unsigned i = 0; i < mem->count; i++)
        madvise(mem->range[i].host, mem->range[i].size, MADV_RANDOM);
}

static void note(uint8_t *touched, const struct snapshot *s, uint64_t page) {
    if (page < s->pages && snapshot_page_layer(s, page)) /* the others are made, not loaded */
        touched[page / 8] |= (uint8_t)(1u << page % 8);
}

static int note_range(int fd, const struct mem_range *r, const struct snapshot *s,
                      uint8_t *touched) {
    uint64_t entry[ENTRIES], first = (uintptr_t)r->host / MEM_PAGE_SIZE,
                             pages = r->size / MEM_PAGE_SIZE, n;

    for (uint64_t at = 0; at < pages; at += n) {
        size_t want = (pages - at < ENTRIES ? pages - at : ENTRIES) * sizeof(entry[0]);
        ssize_t got = pread(fd, entry, want, (off_t)((first + at) * sizeof(entry[0])));

        if (got < (ssize_t)sizeof(entry[0]))
            return got < 0 ? -errno : -EIO;
        n = (uint64_t)got / sizeof(entry[0]);
        for (uint64_t i = 0; i < n; i++)
            if (entry[i] & (PRESENT | SWAPPED))
                note(touched, s, r->offset / SNAPSHOT_PAGE + at + i);
    }
    return 0;
}

int machine_note_pages(struct machine *m, const struct snapshot *s, struct error *err) {
    const struct mem *mem = &machine_board(m)->mem;
    uint8_t *touched = calloc(s->pages / 8 + 1, 1);
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), code = 0;

    if (!touched)
        code = -ENOMEM;
    else if (fd < 0)
        code = -errno;
    for (unsigned i = 0; i < mem->count && code == 0; i++)
        code = note_range(fd, &mem->range[i], s, touched);
    if (fd >= 0)
        close(fd);
    code = code < 0 ? error_set(err, code,
                                "the working set cannot be recorded: the host does not tell which "
                                "pages are in memory: %s",
                                strerror(-code))
                    : working_set_write(s, touched, err);
    free(touched);
    return code;
}

/* ------------------------------------------------------------------ loading */

struct piece {
    uint8_t *at;
    size_t size;
};

struct prefetch {
    pthread_t thread;
    bool stop; /* atomic */
    struct piece *piece;
    size_t pieces;
};

static void advise(struct prefetch *p, int advice) {
    for (size_t i = 0; i < p->pieces && !__atomic_load_n(&p->stop, __ATOMIC_RELAXED); i++)
        madvise(p->piece[i].at, p->piece[i].size, advice);
}

static void *thread_main(void *opaque) {
    struct prefetch *p = opaque;

    pthread_setname_np(pthread_self(), "viv-prefetch");
    jail_thread(JAIL_AUX);
    advise(p, MADV_WILLNEED);
    advise(p, MADV_POPULATE_READ);
    trace(machine_prefetched, p->pieces);
    return NULL;
}

/* Of these pages those that lie behind each other in the host's memory; 0 where no memory is. */
static uint64_t together(const struct mem *mem, uint64_t page, uint64_t count) {
    while (count && !mem_at_offset(mem, page * SNAPSHOT_PAGE, count * SNAPSHOT_PAGE))
        count /= 2;
    return count;
}

static void add_run(struct prefetch *p, const struct mem *mem, uint64_t page, uint64_t end) {
    uint64_t n;

    for (; page < end; page += n ? n : 1) {
        n = together(mem, page, end - page < PREFETCH_PAGES ? end - page : PREFETCH_PAGES);
        if (n)
            p->piece[p->pieces++] = (struct piece){
                mem_at_offset(mem, page * SNAPSHOT_PAGE, n * SNAPSHOT_PAGE), n * SNAPSHOT_PAGE};
    }
}

/* Small enough that the thread stops soon when it is to. */
static int add_pieces(struct prefetch *p, const struct mem *mem, const struct working_set *set) {
    size_t count = MEM_MAX_RANGES * 2 * 10; /* halves, where a run goes over the edge of a range */

    for (uint32_t i = 0; i < set->runs; i++)
        count += set->run[i].count / PREFETCH_PAGES + 1;
    p->piece = calloc(count ? count : 1, sizeof(*p->piece));
    if (!p->piece)
        return -ENOMEM;
    for (uint32_t i = 0; i < set->runs; i++)
        add_run(p, mem, set->run[i].first, set->run[i].first + (uint64_t)set->run[i].count);
    return 0;
}

static int start(struct prefetch *p) {
    sigset_t all, old;
    int r;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    r = pthread_create(&p->thread, NULL, thread_main, p);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -r;
}

struct prefetch *machine_prefetch(struct machine *m, const struct snapshot *s, struct error *err) {
    struct prefetch *p = NULL;
    struct working_set set;
    int code = working_set_read(s, &set, err);

    if (code < 0)
        return NULL;
    p = calloc(1, sizeof(*p));
    code = p ? add_pieces(p, &machine_board(m)->mem, &set) : -ENOMEM;
    working_set_done(&set);
    if (code == 0)
        code = start(p);
    if (code == 0)
        return p;
    error_set(err, code, "the working set cannot be loaded early: %s", strerror(-code));
    if (p)
        free(p->piece);
    free(p);
    return NULL;
}

void prefetch_stop(struct prefetch *p) {
    if (!p)
        return;
    __atomic_store_n(&p->stop, true, __ATOMIC_RELAXED);
    pthread_join(p->thread, NULL);
    free(p->piece);
    free(p);
}
