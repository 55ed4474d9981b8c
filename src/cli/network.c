/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands on networks, and on the forwards of machines. */
#include <string.h>
#include <time.h>

#include "cli/cli.h"

enum { NAP_MS = 20, GONE_TRIES = 1500, ERROR_TRIES = 5 };

static void nap(void) {
    static const struct timespec t = {.tv_nsec = NAP_MS * 1000 * 1000};

    nanosleep(&t, NULL);
}

int do_net_create(struct cli *c) {
    json_t *body = json_pack("{s:s, s:o}", "name", c->name[0], "spec",
                             cli_spec(c, resource_op(c->resource, "create")));
    json_t *network = NULL;
    int r = remote_call(c->remote, "POST", body, &network, &c->failure, "/v1/networks");

    if (r == 0 && c->json)
        show_json(network);
    else if (r == 0)
        show_note(c, "'%s' is made: %s", c->name[0], item_text(network, "spec", "subnet"));
    json_decref(network);
    return r;
}

/* Its folder goes after the answer. */
static void wait_gone(struct cli *c, const char *name) {
    struct remote_failure f = {0};

    for (unsigned i = 0; i < GONE_TRIES; i++) {
        if (remote_call(c->remote, "GET", NULL, NULL, &f, "/v1/networks/%s", name) < 0)
            return;
        nap();
    }
}

int do_net_rm(struct cli *c) {
    struct remote_failure first = {0};

    for (unsigned i = 0; i < c->names; i++) {
        if (remote_call(c->remote, "DELETE", NULL, NULL, &c->failure, "/v1/networks/%s",
                        c->name[i]) < 0) {
            if (first.kind != FAILURE_NONE)
                show_failure(c);
            else
                first = c->failure;
            continue;
        }
        wait_gone(c, c->name[i]);
        show_note(c, "'%s' is deleted", c->name[i]);
    }
    if (first.kind == FAILURE_NONE)
        show_names(c, "deleted");
    c->failure = first;
    return first.kind == FAILURE_NONE ? 0 : -1;
}

/* ------------------------------------------------------------------ forwards */

static const char *error_of(const json_t *vm, const char *forward) {
    const json_t *errors = json_object_get(json_object_get(vm, "status"), "forward_errors");
    const char *s = json_string_value(json_object_get(errors, forward));

    return s ? s : "";
}

/* A port that was taken in the last moment is known a little later. */
static void look_for_error(struct cli *c) {
    struct remote_failure f = {0};
    json_t *vm = NULL;

    for (unsigned i = 0; i < ERROR_TRIES; i++) {
        nap();
        if (remote_call(c->remote, "GET", NULL, &vm, &f, "/v1/vms/%s", c->name[0]) == 0 &&
            *error_of(vm, c->name[1])) {
            show_note(c, "it cannot be opened yet: %s", error_of(vm, c->name[1]));
            i = ERROR_TRIES;
        }
        json_decref(vm);
        vm = NULL;
    }
}

int do_forward_add(struct cli *c) {
    json_t *vm = NULL;
    int r = remote_call(c->remote, "POST", json_pack("{s:s}", "port", c->name[1]), &vm, &c->failure,
                        "/v1/vms/%s/forward", c->name[0]);

    if (r == 0 && c->json)
        show_json(vm);
    else if (r == 0 && !strcmp(item_text(vm, "status", "state"), "running"))
        look_for_error(c);
    json_decref(vm);
    return r;
}

int do_forward_rm(struct cli *c) {
    json_t *vm = NULL;
    int r = remote_call(c->remote, "POST", json_pack("{s:s}", "port", c->name[1]), &vm, &c->failure,
                        "/v1/vms/%s/unforward", c->name[0]);

    if (r == 0 && c->json)
        show_json(vm);
    json_decref(vm);
    return r;
}

static void add_rows(json_t *rows, const json_t *vm) {
    bool up = !strcmp(item_text(vm, "status", "state"), "running") ||
              !strcmp(item_text(vm, "status", "state"), "paused");
    const json_t *one;
    size_t i;

    json_array_foreach(json_object_get(json_object_get(vm, "spec"), "forward"), i, one) {
        const char *error = error_of(vm, json_string_value(one));

        json_array_append_new(rows, json_pack("{s:s, s:O, s:s, s:s}", "machine",
                                              item_text(vm, NULL, "name"), "forward", one, "state",
                                              !up      ? "closed"
                                              : *error ? "failed"
                                                       : "open",
                                              "reason", up ? error : ""));
    }
}

int do_forward_list(struct cli *c) {
    static const struct field columns[] = {
        {.name = "machine", .type = FIELD_STRING, .column = "MACHINE"},
        {.name = "forward", .type = FIELD_STRING, .column = "FORWARD"},
        {.name = "state", .type = FIELD_STRING, .column = "STATE"},
        {.name = "reason", .type = FIELD_STRING, .column = "REASON"},
        {0}};
    static const struct resource table = {.plain = true, .fields = columns};

    return cli_list_parts(c, &table, add_rows);
}
