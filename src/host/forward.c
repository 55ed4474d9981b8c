/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Forwards of machines: their words, the operations on them, and what came of them. */
#include "host/forward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "host/api.h"

/* ------------------------------------------------------------------ words */

json_t *forward_list(const json_t *spec) {
    json_t *list = json_array();
    struct forward_words f;
    char text[FORWARD_TEXT];
    const json_t *one;
    size_t i;

    json_array_foreach(json_object_get(spec, "forward"), i, one)
        if (forward_parse(json_string_value(one), &f, NULL) == 0) {
            forward_print(&f, text);
            json_array_append_new(list, json_string(text));
        }
    return list;
}

/* ------------------------------------------------------------------ what stands against one */

static bool clash(const struct forward_words *a, const struct forward_words *b) {
    bool all = !strcmp(a->address, "0.0.0.0") || !strcmp(b->address, "0.0.0.0");

    return a->udp == b->udp && a->host_port == b->host_port &&
           (all || !strcmp(a->address, b->address));
}

int forward_check(struct api_call *call, const json_t *spec) {
    const json_t *list = json_object_get(spec, "forward"), *one, *other;
    struct forward_words f, g;
    struct error e = {0};
    size_t i, k;

    json_array_foreach(list, i, one) {
        if (forward_parse(json_string_value(one), &f, &e) < 0)
            return api_fail(call, FAILURE_INVALID, "spec.forward", "", "%s", e.text);
        json_array_foreach(list, k, other)
            if (k < i && forward_parse(json_string_value(other), &g, NULL) == 0 && clash(&f, &g))
                return api_fail(call, FAILURE_INVALID, "spec.forward", "choose another port",
                                "'%s' and '%s' have the same port of this host",
                                json_string_value(other), json_string_value(one));
    }
    return 0;
}

/* Why the host does not give the port; 0: it does. */
static int probe(const struct forward_words *f) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(f->host_port)};
    int fd = socket(AF_INET, (f->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0), one = 1;
    int code = 0;

    inet_pton(AF_INET, f->address, &a.sin_addr);
    if (fd < 0)
        return errno;
    /* Connections that have ended do not stand in the way of those who listen. */
    if (!f->udp)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || (!f->udp && listen(fd, 1) < 0))
        code = errno;
    close(fd);
    return code;
}

struct search {
    const struct forward_words *f;
    const char *id; /* of the machine that wants it */
    char name[STORE_WORD];
};

static bool has_port(void *opaque, const struct store_text *t) {
    struct search *s = opaque;
    struct forward_words g;
    json_t *spec;
    const json_t *one;
    size_t i;

    if (!strcmp(t->id, s->id) || strstr(t->spec, "\"forward\":[]") ||
        strstr(t->spec, "\"power\":\"off\""))
        return true;
    spec = json_loads(t->spec, 0, NULL);
    json_array_foreach(json_object_get(spec, "forward"), i, one)
        if (forward_parse(json_string_value(one), &g, NULL) == 0 && clash(s->f, &g))
            snprintf(s->name, sizeof(s->name), "%s", t->name);
    json_decref(spec);
    return !*s->name;
}

/* Now, while the machine runs: whoever has it. */
static int check_free(struct api_call *call, const struct forward_words *f) {
    struct search s = {.f = f, .id = call->row.id};
    struct store_query q = {.kind = "vm", .tenant = call->tenant};
    int code = probe(f);

    if (!code)
        return 0;
    store_list(call->m->store, &q, has_port, &s);
    if (*s.name)
        return api_fail(call, FAILURE_CONFLICT, "port", "choose another port",
                        "port %u of this host leads to the machine '%s' already", f->host_port,
                        s.name);
    return api_fail(call, FAILURE_CONFLICT, "port",
                    code == EACCES          ? "choose a port above 1023"
                    : code == EADDRNOTAVAIL ? "use an address of this host, 127.0.0.1 or 0.0.0.0"
                                            : "choose another port, or end the program that has it",
                    "port %u of %s cannot be used: %s", f->host_port, f->address, strerror(code));
}

/* ------------------------------------------------------------------ operations */

/* The one that is meant, by what it does; -1: there is none. */
static int find(const json_t *list, const struct forward_words *f) {
    struct forward_words g;
    const json_t *one;
    size_t i;

    json_array_foreach(list, i, one)
        if (forward_parse(json_string_value(one), &g, NULL) == 0 && clash(f, &g) &&
            f->guest_port == g.guest_port && !strcmp(f->address, g.address))
            return (int)i;
    return -1;
}

static int save(struct api_call *call, const char *what, const char *text) {
    struct error e = {0};

    if (store_update(call->m->store, &call->row, &e) < 0 ||
        manager_event(call->m, &call->row, what, &e, "%s (asked by %s)", text, call->caller) < 0)
        return api_fail_error(call, &e);
    return 0;
}

static int begin(struct api_call *call, struct forward_words *f) {
    struct error e = {0};

    if (forward_parse(row_text(call->args, "port"), f, &e) < 0)
        return api_fail(call, FAILURE_INVALID, "port", "", "%s", e.text);
    if (row_flag(call->row.wanted, "deleting"))
        return api_fail(call, FAILURE_CONFLICT, "status.state", "", "'%s' is being deleted",
                        call->row.name);
    return 0;
}

static json_t *list_of(struct api_call *call) {
    json_t *list = json_object_get(call->row.spec, "forward");

    if (json_is_array(list))
        return list;
    list = json_array();
    json_object_set_new(call->row.spec, "forward", list);
    return list;
}

int forward_add(struct api_call *call) {
    const char *text = row_text(call->args, "port");
    const struct field *f = field_find(call->resource->fields, "forward");
    struct forward_words w;
    json_t *list = list_of(call);
    char told[160];

    if (begin(call, &w) < 0)
        return -EINVAL;
    if (find(list, &w) >= 0)
        return 0;
    if (!strcmp(row_text(call->row.spec, "network"), "none"))
        return api_fail(call, FAILURE_CONFLICT, "spec.network", "give it a network first",
                        "'%s' has no network", call->row.name);
    if ((int64_t)json_array_size(list) >= f->max)
        return api_fail(call, FAILURE_LIMIT, "spec.forward", "take one away first",
                        "a machine has at most %lld forwards", (long long)f->max);
    json_array_append_new(list, json_string(text));
    if (forward_check(call, call->row.spec) < 0)
        return -EINVAL;
    if (strcmp(row_text(call->row.spec, "power"), "off") != 0 && check_free(call, &w) < 0)
        return -EINVAL;
    snprintf(told, sizeof(told), "port %u of this host leads to its port %u", w.host_port,
             w.guest_port);
    return save(call, "forwarded", told);
}

int forward_remove(struct api_call *call) {
    struct forward_words w;
    json_t *list = list_of(call);
    char told[160];
    int at;

    if (begin(call, &w) < 0)
        return -EINVAL;
    at = find(list, &w);
    if (at < 0)
        return api_fail(call, FAILURE_NOT_FOUND, "port", "'viv forward list' shows what there is",
                        "'%s' has no forward '%s'", call->row.name, row_text(call->args, "port"));
    json_array_remove(list, (size_t)at);
    snprintf(told, sizeof(told), "port %u of this host leads to it no more", w.host_port);
    return save(call, "unforwarded", told);
}

/* ------------------------------------------------------------------ what came of them */

static json_t *errors_of(const json_t *spec, const json_t *failed) {
    json_t *errors = json_object();
    struct forward_words f;
    char text[FORWARD_TEXT];
    const json_t *one, *bad;
    size_t i, k;

    json_array_foreach(json_object_get(spec, "forward"), i, one) {
        if (forward_parse(json_string_value(one), &f, NULL) < 0)
            continue;
        forward_print(&f, text);
        json_array_foreach(failed, k, bad)
            if (!strcmp(row_text(bad, "forward"), text))
                json_object_set_new(errors, json_string_value(one),
                                    json_string(row_text(bad, "error")));
    }
    return errors;
}

void forward_seen(struct manager *m, const char *vm_id, const json_t *failed) {
    struct store_row row = {0};
    struct error e = {0};
    json_t *errors, *old;

    if (store_get(m->store, "vm", vm_id, &row) < 0)
        return;
    errors = errors_of(row.spec, failed);
    old = json_object_get(row.status, "forward_errors");
    if (json_object_size(errors) ? !json_equal(errors, old) : old != NULL) {
        if (json_object_size(errors))
            json_object_set(row.status, "forward_errors", errors);
        else
            row_unset(row.status, "forward_errors");
        if (store_begin(m->store, STORE_NOTE, &e) == 0) {
            if (store_update(m->store, &row, &e) < 0)
                store_rollback(m->store);
            else
                store_commit(m->store, &e);
        }
        if (e.code)
            log_error("%s: %s", vm_id, e.text);
    }
    json_decref(errors);
    store_row_done(&row);
}
