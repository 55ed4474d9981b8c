/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GET /metrics: figures of the manager and its machines in the text format of Prometheus, version
 * 0.0.4 ("Exposition formats", prometheus.io). A family is one HELP, one TYPE and all its samples.
 * Names, ids and states are made of characters that label values take as they are.
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/loop.h"
#include "base/version.h"
#include "host/api.h"
#include "host/usage.h"
#include "host/vm.h"
#include "host/worker.h"

enum { SLICE = 64 /* rows, some two milliseconds */ };

static void family(struct buf *out, const char *name, const char *type, const char *help) {
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void figure(struct buf *out, const char *name, const char *type, const char *help,
                   int64_t value) {
    family(out, name, type, help);
    buf_printf(out, "%s %lld\n", name, (long long)value);
}

static void put_ms(struct buf *out, int64_t ms) {
    buf_printf(out, " %lld.%03lld\n", (long long)(ms / 1000), (long long)(ms % 1000));
}

/* ------------------------------------------------------------------ the manager */

static int64_t open_files(void) {
    DIR *d = opendir("/proc/self/fd");
    int64_t n = -3; /* ".", ".." and the one that reads */

    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n < 0 ? 0 : n;
}

static void put_process(struct buf *out, const struct manager *m) {
    struct rlimit files = {0};
    struct rusage u = {0};

    getrusage(RUSAGE_SELF, &u);
    getrlimit(RLIMIT_NOFILE, &files);
    family(out, "process_cpu_seconds_total", "counter", "Processor time of the manager.");
    buf_printf(out, "process_cpu_seconds_total");
    put_ms(out, (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000 +
                    (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000);
    figure(out, "process_resident_memory_bytes", "gauge", "Memory that the manager takes.",
           manager_resident());
    figure(out, "process_start_time_seconds", "gauge", "When the manager began, since 1970.",
           m->started / 1000);
    figure(out, "process_open_fds", "gauge", "Files that the manager has open.", open_files());
    figure(out, "process_max_fds", "gauge", "Files that the manager may have open.",
           (int64_t)files.rlim_cur);
}

static int64_t count(const struct manager *m, const char *kind) {
    int64_t n = store_count(m->store, &(struct store_query){.kind = kind});

    return n < 0 ? 0 : n;
}

static void put_manager(struct buf *out, const struct manager *m) {
    family(out, "viv_build_info", "gauge", "1; the version of the manager is its label.");
    buf_printf(out, "viv_build_info{version=\"%s\"} 1\n", VIVARIUM_VERSION);
    put_process(out, m);
    figure(out, "viv_api_requests_total", "counter", "Requests to the API.", (int64_t)m->requests);
    figure(out, "viv_api_failures_total", "counter", "Requests to the API that were refused.",
           (int64_t)m->refusals);
    figure(out, "viv_api_connections", "gauge", "Connections to the API.",
           http_server_connections(m->http));
    figure(out, "viv_api_followers", "gauge", "Callers that follow the events.",
           follows_count(m->follows));
    figure(out, "viv_api_waits", "gauge", "Callers that wait for a state.", waits_count(m->waits));
    figure(out, "viv_consoles", "gauge", "Clients of serial lines.", consoles_count(m->consoles));
    figure(out, "viv_events_total", "counter", "Events that have happened.",
           store_event_last(m->store));
    figure(out, "viv_images", "gauge", "Images in the library.", count(m, "image"));
    figure(out, "viv_jobs", "gauge", "Jobs that are remembered.", count(m, "job"));
}

/* ------------------------------------------------------------------ machines */

enum figure_of {
    F_STATE,
    F_RESTARTS,
    F_CPUS,
    F_MEMORY,
    F_RESIDENT,
    F_USABLE,
    F_CPU,
    F_GROUP_MEMORY,
    F_GROUP_CPU,
    F_COUNTER
};

static void put_sample(struct buf *out, const char *name, const struct usage_row *r,
                       enum figure_of which, unsigned counter) {
    const int64_t value[] = {
        [F_STATE] = 1,
        [F_RESTARTS] = r->restarts,
        [F_CPUS] = r->cpus,
        [F_MEMORY] = r->memory,
        [F_RESIDENT] = r->usage.resident,
        [F_USABLE] = r->usage.usable,
        [F_CPU] = r->usage.cpu_ms,
        [F_GROUP_MEMORY] = r->usage.group.memory,
        [F_GROUP_CPU] = r->usage.group.cpu_ms,
    };

    if ((which >= F_RESIDENT && !r->usage.known) || (which == F_USABLE && !r->usage.usable) ||
        ((which == F_GROUP_MEMORY || which == F_GROUP_CPU) && !value[which]))
        return;
    buf_printf(out, "%s{vm=\"%s\",id=\"%s\",tenant=\"%s\"", name, r->name, r->id, r->tenant);
    if (which == F_STATE)
        buf_printf(out, ",state=\"%s\"", r->state);
    buf_printf(out, "}");
    if (which == F_CPU || which == F_GROUP_CPU)
        put_ms(out, value[which]);
    else
        buf_printf(out, " %lld\n",
                   (long long)(which == F_COUNTER ? r->usage.counter[counter] : value[which]));
}

static void put_family(struct buf *out, const char *name, const char *type, const char *help,
                       const struct usage_row *rows, int n, enum figure_of which,
                       unsigned counter) {
    family(out, name, type, help);
    for (int i = 0; i < n; i++)
        put_sample(out, name, &rows[i], which, counter);
}

static void put_machines(struct buf *out, const struct usage_row *rows, int n) {
    put_family(out, "viv_vm_state", "gauge", "1; what the machine is doing is the label state.",
               rows, n, F_STATE, 0);
    put_family(out, "viv_vm_restarts", "gauge",
               "Starts by the restart policy since it was last asked to start.", rows, n,
               F_RESTARTS, 0);
    put_family(out, "viv_vm_cpus", "gauge", "Processors of the guest.", rows, n, F_CPUS, 0);
    put_family(out, "viv_vm_memory_bytes", "gauge", "Memory of the guest.", rows, n, F_MEMORY, 0);
    put_family(out, "viv_vm_usable_bytes", "gauge",
               "Memory that the guest may use now, as its balloon leaves it.", rows, n, F_USABLE,
               0);
    put_family(out, "viv_vm_resident_bytes", "gauge",
               "Memory of the host that the machine's process takes.", rows, n, F_RESIDENT, 0);
    put_family(out, "viv_vm_cpu_seconds_total", "counter",
               "Processor time of the machine's process.", rows, n, F_CPU, 0);
    put_family(out, "viv_vm_group_memory_bytes", "gauge",
               "Memory of the host that the machine's control group counts.", rows, n,
               F_GROUP_MEMORY, 0);
    put_family(out, "viv_vm_group_cpu_seconds_total", "counter",
               "Processor time that the machine's control group counts.", rows, n, F_GROUP_CPU, 0);
    for (unsigned i = 0; i < USAGE_COUNTERS; i++) {
        const char *field = usage_counter_field(i);
        char name[100], help[200];

        snprintf(name, sizeof(name), "viv_vm_%s_total", field);
        snprintf(help, sizeof(help), "Since its process began: %s.",
                 field_find(resource_find("usage")->fields, field)->help);
        put_family(out, name, "counter", help, rows, n, F_COUNTER, i);
    }
}

/* ------------------------------------------------------------------ how long requests took */

/* le is in seconds: a power of two of microseconds, written out. */
static void put_histogram(struct buf *out, const char *name, const struct usage_row *r,
                          unsigned which) {
    const struct usage_latency *l = &r->usage.latency[which];
    int64_t sum = 0;
    char labels[3 * STORE_WORD + 40];

    snprintf(labels, sizeof(labels), "vm=\"%s\",id=\"%s\",tenant=\"%s\"", r->name, r->id,
             r->tenant);
    for (unsigned k = 0; k + 1 < USAGE_BUCKETS; k++) {
        int64_t us = 1ll << (r->usage.latency_first + k);

        sum += l->count[k];
        buf_printf(out, "%s_bucket{%s,le=\"%lld.%06lld\"} %lld\n", name, labels,
                   (long long)(us / 1000000), (long long)(us % 1000000), (long long)sum);
    }
    sum += l->count[USAGE_BUCKETS - 1];
    buf_printf(out, "%s_bucket{%s,le=\"+Inf\"} %lld\n", name, labels, (long long)sum);
    buf_printf(out, "%s_sum{%s} %lld.%06lld\n", name, labels, (long long)(l->sum_us / 1000000),
               (long long)(l->sum_us % 1000000));
    buf_printf(out, "%s_count{%s} %lld\n", name, labels, (long long)sum);
}

static void put_histograms(struct buf *out, const struct usage_row *rows, unsigned n) {
    for (unsigned which = 0; which < USAGE_LATENCIES; which++) {
        char name[80], help[120];

        snprintf(name, sizeof(name), "viv_vm_%s_seconds", usage_latency_field(which));
        snprintf(help, sizeof(help), "How long requests took: %s.", usage_latency_field(which));
        family(out, name, "histogram", help);
        for (unsigned i = 0; i < n; i++)
            if (rows[i].usage.known)
                put_histogram(out, name, &rows[i], which);
    }
}

/* ------------------------------------------------------------------ an answer */

/* Rows are read some at a time, so that nobody waits for it, and written out by a worker. */
struct rendering {
    struct manager *m;
    struct http_exchange *x; /* NULL: the caller has gone */
    struct usage_row *rows;
    unsigned count;
    struct buf out;
};

static void gone(void *opaque) { ((struct rendering *)opaque)->x = NULL; }

static void render(void *opaque) {
    struct rendering *r = opaque;

    figure(&r->out, "viv_vms", "gauge", "Machines.", r->count);
    put_machines(&r->out, r->rows, (int)r->count);
    put_histograms(&r->out, r->rows, r->count);
}

static void rendered(void *opaque) {
    struct rendering *r = opaque;

    if (r->x)
        http_answer_buf(r->x, 200, "text/plain; version=0.0.4; charset=utf-8", &r->out);
    buf_done(&r->out);
    free(r->rows);
    free(r);
}

static void read_some(void *opaque) {
    struct rendering *r = opaque;
    int n = r->x ? usage_more_rows(r->m, &r->rows, r->count, SLICE) : 0;

    r->count += n > 0 ? (unsigned)n : 0;
    if (n == SLICE)
        loop_post(r->m->loop, read_some, r);
    else
        workers_run(r->m->workers, render, rendered, r);
}

static void answer(struct manager *m, struct http_exchange *x, const struct usage_ask *ask) {
    struct rendering *r = calloc(1, sizeof(*r));

    if (!r) {
        http_answer(x, 500, "text/plain", NULL, 0);
        return;
    }
    *r = (struct rendering){.m = m, .x = x};
    http_set_gone(x, gone, r);
    put_manager(&r->out, m);
    read_some(r);
}

bool metrics_answer(struct manager *m, struct http_exchange *x) {
    return usage_ask(m, x, &(struct usage_ask){.answer = answer});
}
