/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What machines use, asked of them when somebody wants to know: never otherwise, and each at most
 * once a second, whoever asks and how often, so that an idle guest stays idle.
 *
 * Contract: the loop's thread.
 */
#ifndef HOST_USAGE_H
#define HOST_USAGE_H

#include <jansson.h>
#include <stdbool.h>

#include "host/cgroup.h"
#include "host/manager.h"

enum { USAGE_COUNTERS = 13, USAGE_LATENCIES = 3, USAGE_BUCKETS = 20 };

struct usage_latency { /* of requests: how many took up to 2^(first + n) us; the last: longer */
    int64_t count[USAGE_BUCKETS];
    int64_t sum_us;
};

struct usage { /* of a machine's process; zeroed: not known */
    bool known;
    int64_t time; /* when it said so, ms since 1970 */
    int64_t cpu_ms, resident;
    struct cgroup_usage group; /* of all its processes */
    int64_t usable;            /* memory that its balloon leaves to the guest; 0: there is none */
    int64_t counter[USAGE_COUNTERS];
    unsigned latency_first;
    struct usage_latency latency[USAGE_LATENCIES];
};

struct usage_row { /* a machine and what it uses */
    char name[STORE_WORD], id[STORE_WORD], tenant[STORE_WORD], state[STORE_WORD];
    int64_t cpus, memory, restarts;
    struct usage usage;
};

/* The name of a counter in the resource "usage" (proto/resource_usage.c). */
const char *usage_counter_field(unsigned i);
/* The name of a histogram: "disk_read". */
const char *usage_latency_field(unsigned i);
/* What is asked of a machine: the arguments of its command `stats`. */
json_t *usage_question(void);
/* From a machine's answer to `stats`. What is missing or no number is 0. */
void usage_read(struct usage *u, const json_t *result);

struct usages *usages_new(struct manager *m);
void usages_free(struct usages *u); /* accepts NULL; nobody is answered */

/* A machine that was asked in this round has answered, or will not. */
void usage_came(struct usages *u, unsigned round);

/* Machines by name, behind `after`, at most `limit` (0: all); for free. -1: the store failed. */
int usage_rows(struct manager *m, const char *tenant, const char *after, unsigned limit,
               struct usage_row **ret);
/* Adds to *rows, which has `count`, the next ones of all tenants, at most `limit`; how many, or -1.
 */
int usage_more_rows(struct manager *m, struct usage_row **rows, unsigned count, unsigned limit);

struct http_exchange;
struct api_call;
/* Who wants to know: answered by `answer` once the figures are fresh, now or later. */
struct usage_ask {
    void *opaque;
    void (*answer)(struct manager *m, struct http_exchange *x, const struct usage_ask *ask);
    char tenant[STORE_WORD], after[STORE_WORD * 2];
    char id[STORE_WORD]; /* of one machine */
    unsigned limit;
};
/* Takes the exchange (NULL: it is no caller of the API); false: no memory. */
bool usage_ask(struct manager *m, struct http_exchange *x, const struct usage_ask *ask);

/* GET /metrics: all of it in the text format of Prometheus (metrics.c). False: no memory. */
bool metrics_answer(struct manager *m, struct http_exchange *x);

#endif
