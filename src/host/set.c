/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Operations of sets: they are only written down. */
#include <errno.h>
#include <stdio.h>

#include "host/api.h"

static int create(struct api_call *call) {
    struct error e = {0};

    call->row = (struct store_row){.kind = "set",
                                   .spec = json_deep_copy(json_object_get(call->body, "spec")),
                                   .status = json_object(),
                                   .wanted = json_object()};
    if (!call->row.spec)
        call->row.spec = json_object();
    snprintf(call->row.name, sizeof(call->row.name), "%s", row_text(call->body, "name"));
    snprintf(call->row.tenant, sizeof(call->row.tenant), "%s", call->tenant);
    resource_fill(call->resource, call->row.spec);
    return store_insert(call->m->store, &call->row, &e) < 0 ? api_fail_error(call, &e) : 0;
}

static int update(struct api_call *call) {
    struct error e = {0};

    json_object_update(call->row.spec, json_object_get(call->body, "spec"));
    return store_update(call->m->store, &call->row, &e) < 0 ? api_fail_error(call, &e) : 0;
}

static int delete_it(struct api_call *call) {
    struct error e = {0};

    return store_delete(call->m->store, "set", call->row.id, &e) < 0 ? api_fail_error(call, &e) : 0;
}

const struct api_handler set_handlers[] = {
    {"create", create}, {"update", update}, {"delete", delete_it}, {NULL, NULL}};
