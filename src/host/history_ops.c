/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The operation `history`: reads a file on a worker and answers with a series for each field. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/api.h"
#include "host/history.h"
#include "host/worker.h"
#include "proto/units.h"

enum { WAITING = 128, LAST_HOUR = 3600 };

struct look {
    struct manager *m;
    struct http_exchange *x; /* NULL: the caller has gone */
    bool host;
    char id[STORE_WORD], name[STORE_WORD];
    bool field[HISTORY_FIELDS];
    struct history_range range;
    struct history_sample waiting[WAITING];
    unsigned waiting_count;
    struct history_point *points;
    struct buf out;
};

static void gone(void *opaque) { ((struct look *)opaque)->x = NULL; }

static void put_series(struct look *l, unsigned field, const char *name, size_t offset) {
    int64_t n = (l->range.to - l->range.from) / l->range.step;

    buf_printf(&l->out, "\"%s\":[", name);
    for (int64_t i = 0; i < n; i++) {
        const struct history_point *p = &l->points[i];
        const float *value = (const float *)((const char *)p + offset) + field;

        if (p->count)
            buf_printf(&l->out, "%s%.7g", i ? "," : "", (double)*value);
        else
            buf_printf(&l->out, "%snull", i ? "," : "");
    }
    buf_put(&l->out, "]", 1);
}

static void put_answer(struct look *l) {
    char from[UNITS_TIME_SIZE], to[UNITS_TIME_SIZE];
    bool first = true;

    units_put_time(l->range.from * 1000, from);
    units_put_time(l->range.to * 1000, to);
    buf_printf(&l->out, "{\"name\":\"%s\",\"from\":\"%s\",\"to\":\"%s\",\"step\":%lld,\"series\":{",
               l->name, from, to, (long long)l->range.step);
    for (unsigned i = 0; i < HISTORY_FIELDS; i++) {
        if (!l->field[i])
            continue;
        buf_printf(&l->out, "%s\"%s\":{", first ? "" : ",", history_field(l->host, i));
        first = false;
        put_series(l, i, "min", offsetof(struct history_point, min));
        buf_put(&l->out, ",", 1);
        put_series(l, i, "avg", offsetof(struct history_point, avg));
        buf_put(&l->out, ",", 1);
        put_series(l, i, "max", offsetof(struct history_point, max));
        buf_put(&l->out, "}", 1);
    }
    buf_printf(&l->out, "}}");
}

static void work(void *opaque) {
    struct look *l = opaque;
    int fd = history_open(l->m, l->id, O_RDONLY);

    if (fd >= 0) {
        history_read(fd, &l->range, l->points);
        close(fd);
    }
    for (unsigned i = 0; i < l->waiting_count; i++)
        history_point_add(&l->range, l->points, &l->waiting[i]);
    put_answer(l);
}

static void look_free(struct look *l) {
    free(l->points);
    buf_done(&l->out);
    free(l);
}

static void done(void *opaque) {
    struct look *l = opaque;

    if (l->x)
        http_answer_buf(l->x, 200, "application/json", &l->out);
    look_free(l);
}

/* ------------------------------------------------------------------ arguments */

static int read_time(struct api_call *call, const char *name, int64_t *ret) {
    const char *text = row_text(call->args, name);
    struct error e = {0};
    int64_t ms;

    if (!*text)
        return 0;
    if (units_read_time(text, &ms, &e) < 0)
        return api_fail(call, FAILURE_INVALID, name, "", "%s", e.text);
    *ret = ms / 1000;
    return 0;
}

static int read_range(struct api_call *call, struct history_range *r) {
    int64_t now = units_now_ms() / 1000, last = row_number(call->args, "last");

    *r = (struct history_range){.to = now + 1, .step = row_number(call->args, "step")};
    if (read_time(call, "to", &r->to) < 0)
        return -EINVAL;
    r->from = r->to - (last ? last : LAST_HOUR);
    if (read_time(call, "from", &r->from) < 0)
        return -EINVAL;
    if (r->from > r->to)
        return api_fail(call, FAILURE_INVALID, "from", "", "'from' is later than 'to'");
    if (history_fit(r, now) < 0)
        return api_fail(call, FAILURE_INVALID, "step", "ask for longer steps, or for less time",
                        "more than %d steps are not answered at a time", HISTORY_MOST_POINTS);
    return 0;
}

static int read_fields(struct api_call *call, struct look *l) {
    const json_t *list = json_object_get(call->args, "fields"), *one;
    size_t i;

    for (unsigned k = 0; k < HISTORY_FIELDS; k++)
        l->field[k] = !json_array_size(list);
    json_array_foreach(list, i, one) {
        unsigned k = 0;

        while (history_field(l->host, k) &&
               strcmp(history_field(l->host, k), json_string_value(one)) != 0)
            k++;
        if (!history_field(l->host, k))
            return api_fail(call, FAILURE_INVALID, "fields",
                            "leave it out to see all that there are",
                            "there is no history of '%.60s'", json_string_value(one));
        l->field[k] = true;
    }
    return 0;
}

static int answer(struct api_call *call, bool host, const char *id, const char *name) {
    struct look *l = calloc(1, sizeof(*l));
    int64_t n;

    if (!l)
        return api_fail(call, FAILURE_FAILED, "", "", "out of memory");
    l->m = call->m;
    l->x = call->x;
    l->host = host;
    snprintf(l->id, sizeof(l->id), "%s", id);
    snprintf(l->name, sizeof(l->name), "%s", name);
    if (read_range(call, &l->range) < 0 || read_fields(call, l) < 0) {
        look_free(l);
        return -EINVAL;
    }
    n = (l->range.to - l->range.from) / l->range.step;
    l->points = calloc((size_t)n + 1, sizeof(*l->points));
    if (!l->points) {
        look_free(l);
        return api_fail(call, FAILURE_FAILED, "", "", "out of memory");
    }
    l->waiting_count = history_waiting(call->m->histories, id, l->waiting, WAITING);
    http_set_gone(call->x, gone, l);
    workers_run(call->m->workers, work, done, l);
    return 1;
}

int history_of_vm(struct api_call *call) {
    return answer(call, false, call->row.id, call->row.name);
}

int history_of_host(struct api_call *call) {
    if (strcmp(call->name, "local") != 0)
        return api_fail(call, FAILURE_NOT_FOUND, "name", "ask for 'local'",
                        "there is no host '%.60s' here", call->name);
    return answer(call, true, "", "local");
}
