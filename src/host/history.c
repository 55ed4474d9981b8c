/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Taking samples. Each costs a question to each machine that is up and reading its answer, some
 * 100 us of ours; the time between two grows with what the last ones took, so that it stays below
 * BUDGET of a processor: a second for some fifty machines. Without a machine that is up the host
 * alone is looked at, every ten seconds.
 */
#include "host/history.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "host/host_figures.h"
#include "host/usage.h"
#include "host/vm.h"
#include "host/worker.h"
#include "proto/units.h"

enum {
    LEAST_MS = 1000,
    MOST_MS = 60000,
    ALONE_MS = 10000,
    BUDGET = 200, /* one part in so many of a processor */
    FLUSH_MS = 60000,
    WAITING = 128 /* samples of one: two minutes, should the disk be slow */
};

static const char *const vm_fields[HISTORY_FIELDS + 1] = {"cpu",
                                                          "resident",
                                                          "disk_reads",
                                                          "disk_writes",
                                                          "disk_read_bytes",
                                                          "disk_written_bytes",
                                                          "net_received_bytes",
                                                          "net_sent_bytes",
                                                          NULL};
static const char *const host_fields[HISTORY_FIELDS + 1] = {
    "cpu",      "memory_used", "memory_available", "disk_free",
    "machines", "manager_cpu", "manager_resident", "load",
    NULL};

struct history_series {
    struct history_series *next, **link;
    char id[STORE_WORD]; /* "": the host */
    bool seen;           /* `usage` is of the sample before, at `at` */
    struct usage usage;
    int64_t at;
    struct history_sample waiting[WAITING];
    unsigned count, flushing; /* of them: that the worker has */
};

struct histories {
    struct manager *m;
    struct history_series *first;
    struct history_series host;
    struct host_figures figures; /* of the sample before */
    int64_t manager_us, at;      /* likewise */
    struct timer timer;
    int64_t flushed, begun_us, cost_us;
    struct flush *flush; /* that is on its way; NULL: none */
    bool warned;
};

struct batch {
    char id[STORE_WORD];
    unsigned count;
    struct history_sample sample[WAITING];
};

struct flush {
    struct manager *m;
    unsigned count;
    int error;
    struct batch batch[];
};

const char *history_field(bool host, unsigned i) { return host ? host_fields[i] : vm_fields[i]; }

static int64_t own_us(clockid_t clock) {
    struct timespec t;

    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* ------------------------------------------------------------------ writing */

int history_open(struct manager *m, const char *id, int flags) {
    char path[PATH_MAX];

    if (*id)
        machine_path(m, id, "history", path, sizeof(path));
    else
        snprintf(path, sizeof(path), "%.4000s/history", m->home.place.data);
    return open(path, flags | O_CLOEXEC, 0600);
}

static int write_batch(struct manager *m, const struct batch *b) {
    int fd = history_open(m, b->id, O_RDWR | O_CREAT), r;

    if (fd < 0)
        return errno == ENOENT ? 0 : -errno; /* a machine that was deleted */
    r = history_write(fd, b->sample, b->count);
    close(fd);
    return r;
}

static void flush_work(void *opaque) {
    struct flush *f = opaque;

    for (unsigned i = 0; i < f->count; i++) {
        int r = write_batch(f->m, &f->batch[i]);

        f->error = r < 0 ? r : f->error;
    }
}

static struct history_series *find(const struct histories *h, const char *id) {
    for (struct history_series *s = h->first; s; s = s->next)
        if (!strcmp(s->id, id))
            return s;
    return NULL;
}

static void flush_done(void *opaque) {
    struct flush *f = opaque;
    struct histories *h = f->m->histories;

    for (struct history_series *s = h->first; s; s = s->next) {
        s->count -= s->flushing;
        memmove(s->waiting, s->waiting + s->flushing, s->count * sizeof(s->waiting[0]));
        s->flushing = 0;
    }
    if (f->error && !h->warned)
        log_warning("the history cannot be written: %s", strerror(-f->error));
    h->warned = f->error;
    h->flush = NULL;
    free(f);
}

static struct flush *gather(struct histories *h) {
    struct flush *f;
    unsigned n = 0;

    for (struct history_series *s = h->first; s; s = s->next)
        n += s->count > 0;
    f = calloc(1, sizeof(*f) + n * sizeof(f->batch[0]));
    if (!f)
        return NULL;
    f->m = h->m;
    for (struct history_series *s = h->first; s; s = s->next) {
        struct batch *b = &f->batch[f->count];

        if (!s->count)
            continue;
        f->count++;
        snprintf(b->id, sizeof(b->id), "%s", s->id);
        b->count = s->flushing = s->count;
        memcpy(b->sample, s->waiting, s->count * sizeof(s->waiting[0]));
    }
    return f;
}

static void flush(struct histories *h) {
    h->flushed = timer_now_ms();
    if (h->flush)
        return;
    h->flush = gather(h);
    if (h->flush)
        workers_run(h->m->workers, flush_work, flush_done, h->flush);
}

/* The oldest goes if there is no room; a second has one sample. */
static void put(struct history_series *s, const float *value) {
    int64_t time = units_now_ms() / 1000;

    if (s->count && s->waiting[s->count - 1].time == time)
        return;
    if (s->count == WAITING) {
        memmove(s->waiting, s->waiting + 1, (WAITING - 1) * sizeof(s->waiting[0]));
        s->count--;
        s->flushing -= s->flushing > 0;
    }
    s->waiting[s->count].time = time;
    memcpy(s->waiting[s->count++].value, value, sizeof(s->waiting[0].value));
}

unsigned history_waiting(const struct histories *h, const char *id, struct history_sample *ret,
                         unsigned room) {
    const struct history_series *s = find(h, id);
    unsigned n = s ? s->count : 0;

    n = n < room ? n : room;
    if (n)
        memcpy(ret, s->waiting, n * sizeof(*ret));
    return n;
}

/* ------------------------------------------------------------------ machines */

static struct history_series *series_new(struct histories *h, const char *id) {
    struct history_series *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    snprintf(s->id, sizeof(s->id), "%s", id);
    s->next = h->first;
    s->link = &h->first;
    if (s->next)
        s->next->link = &s->next;
    h->first = s;
    return s;
}

static int64_t counter(const struct usage *u, const char *field) {
    for (unsigned i = 0; i < USAGE_COUNTERS; i++)
        if (!strcmp(usage_counter_field(i), field))
            return u->counter[i];
    return 0;
}

/* Those from the third on are counters by the same name; less than before: another process. */
static void measure(const struct history_series *s, const struct usage *u, int64_t ms,
                    float value[HISTORY_FIELDS]) {
    int64_t cpu = u->cpu_ms - s->usage.cpu_ms;

    value[0] = cpu > 0 ? (float)cpu / (float)ms : 0;
    value[1] = (float)u->resident;
    for (unsigned i = 2; i < HISTORY_FIELDS; i++) {
        int64_t n = counter(u, vm_fields[i]) - counter(&s->usage, vm_fields[i]);

        value[i] = n > 0 ? (float)n * 1000 / (float)ms : 0;
    }
}

void history_saw(struct histories *h, const char *id, const struct usage *u,
                 struct history_series **series) {
    struct history_series *s = *series;
    int64_t now = timer_now_ms();
    float value[HISTORY_FIELDS];

    if (!s && u)
        s = *series = series_new(h, id);
    if (!s)
        return;
    if (u && s->seen && now > s->at && u->cpu_ms >= s->usage.cpu_ms) {
        measure(s, u, now - s->at, value);
        put(s, value);
    }
    s->seen = u && u->known;
    s->at = now;
    if (u)
        s->usage = *u;
}

void history_end(struct histories *h, struct history_series **series) {
    struct history_series *s = *series;
    struct flush *f;

    *series = NULL;
    if (!s)
        return;
    f = s->count > s->flushing ? calloc(1, sizeof(*f) + sizeof(f->batch[0])) : NULL;
    if (f) {
        struct batch *b = &f->batch[0];

        f->m = h->m;
        f->count = 1;
        snprintf(b->id, sizeof(b->id), "%s", s->id);
        b->count = s->count;
        memcpy(b->sample, s->waiting, s->count * sizeof(s->waiting[0]));
        workers_run(h->m->workers, flush_work, free, f);
    }
    *s->link = s->next;
    if (s->next)
        s->next->link = s->link;
    free(s);
}

/* ------------------------------------------------------------------ the host, and the clock */

static void see_host(struct histories *h) {
    const char *folder = h->m->home.place.data;
    int64_t now = timer_now_ms(), ms = now - h->at, us = own_us(CLOCK_PROCESS_CPUTIME_ID);
    struct host_figures f;
    double load = 0;

    host_figures_read(folder, &f);
    if (getloadavg(&load, 1) != 1)
        load = 0;
    if (h->at && ms > 0) {
        float busy = (float)(f.cpu_busy_ms - h->figures.cpu_busy_ms) / (float)ms;
        float value[HISTORY_FIELDS] = {busy > 0 ? busy : 0,
                                       (float)(f.memory - f.memory_available),
                                       (float)f.memory_available,
                                       (float)f.disk_free,
                                       (float)machines_active(h->m->machines),
                                       (float)(us - h->manager_us) / 1000 / (float)ms,
                                       (float)manager_resident(),
                                       (float)load};

        put(&h->host, value);
    }
    h->figures = f;
    h->manager_us = us;
    h->at = now;
}

static void tick(void *opaque);

static void came(struct manager *m, struct http_exchange *x, const struct usage_ask *ask) {
    struct histories *h = m->histories;
    unsigned up = machines_saw(m->machines, h);
    int64_t cost, wait = up ? LEAST_MS : ALONE_MS;

    see_host(h);
    if (timer_now_ms() - h->flushed >= FLUSH_MS)
        flush(h);
    cost = own_us(CLOCK_THREAD_CPUTIME_ID) - h->begun_us;
    h->cost_us = (7 * h->cost_us + cost) / 8;
    if (h->cost_us * BUDGET / 1000 > wait)
        wait = h->cost_us * BUDGET / 1000 < MOST_MS ? h->cost_us * BUDGET / 1000 : MOST_MS;
    timer_start(m->timers, &h->timer, wait, tick, h);
}

static void tick(void *opaque) {
    struct histories *h = opaque;

    h->begun_us = own_us(CLOCK_THREAD_CPUTIME_ID);
    if (!usage_ask(h->m, NULL, &(struct usage_ask){.answer = came}))
        timer_start(h->m->timers, &h->timer, MOST_MS, tick, h);
}

/* ------------------------------------------------------------------ beginning and end */

struct histories *histories_new(struct manager *m) {
    struct histories *h = calloc(1, sizeof(*h));

    if (!h)
        return NULL;
    h->m = m;
    h->first = &h->host;
    h->host.link = &h->first;
    return h;
}

void histories_begin(struct histories *h) {
    h->flushed = timer_now_ms();
    timer_start(h->m->timers, &h->timer, LEAST_MS, tick, h);
}

/* No worker runs any more: one that did has written or not, and writing it again is the same. */
void histories_free(struct histories *h) {
    struct history_series *next;
    struct flush *f;

    if (!h)
        return;
    timer_stop(&h->timer);
    free(h->flush);
    f = gather(h);
    if (f)
        flush_work(f);
    free(f);
    for (struct history_series *s = h->first; s; s = next) {
        next = s->next;
        if (s != &h->host)
            free(s);
    }
    free(h);
}
