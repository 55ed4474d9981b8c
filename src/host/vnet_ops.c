/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Operations of networks. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "host/api.h"
#include "host/vnet.h"
#include "proto/subnet.h"

enum { SUBNETS = 256 };

/* ------------------------------------------------------------------ subnets */

struct overlap {
    struct subnet subnet;
    char name[STORE_WORD];
    const char *tenant;
};

static bool look_for_overlap(void *opaque, const struct store_text *t) {
    struct overlap *o = opaque;
    json_t *spec = json_loads(t->spec, 0, NULL);
    struct subnet s;

    if (subnet_parse(row_text(spec, "subnet"), &s, NULL) == 0 && subnet_overlap(&s, &o->subnet))
        snprintf(o->name, sizeof(o->name), "%s", t->name);
    json_decref(spec);
    return !*o->name;
}

/* The network that has addresses of the subnet; "" none. */
static void find_overlap(struct api_call *call, struct overlap *o) {
    struct store_query q = {.kind = "network", .tenant = call->tenant};

    *o->name = 0;
    store_list(call->m->store, &q, look_for_overlap, o);
}

static int choose_subnet(struct api_call *call) {
    struct overlap o = {.subnet.prefix = 24};
    char text[ADDRESS_TEXT], subnet[ADDRESS_TEXT + 4];

    for (unsigned i = 0; i < SUBNETS; i++) {
        o.subnet.network = 0x0a4d0000 | i << 8; /* 10.77.i.0 */
        find_overlap(call, &o);
        if (*o.name)
            continue;
        address_print(o.subnet.network, text);
        snprintf(subnet, sizeof(subnet), "%s/24", text);
        row_set_text(call->row.spec, "subnet", subnet);
        return 0;
    }
    return api_fail(call, FAILURE_LIMIT, "spec.subnet", "give it one",
                    "all of 10.77.0.0/16 is used by other networks");
}

static int check_subnet(struct api_call *call) {
    struct overlap o = {.subnet.prefix = 0};
    struct error e = {0};

    if (!*row_text(call->row.spec, "subnet"))
        return choose_subnet(call);
    if (subnet_parse(row_text(call->row.spec, "subnet"), &o.subnet, &e) < 0)
        return api_fail(call, FAILURE_INVALID, "spec.subnet", "", "%s", e.text);
    find_overlap(call, &o);
    if (!*o.name)
        return 0;
    return api_fail(call, FAILURE_CONFLICT, "spec.subnet", "choose another subnet, or leave it out",
                    "the network '%s' has addresses of the subnet '%s' already", o.name,
                    row_text(call->row.spec, "subnet"));
}

/* ------------------------------------------------------------------ operations */

static int create(struct api_call *call) {
    struct subnet s = {0};
    struct error e = {0};
    char gateway[ADDRESS_TEXT];

    call->row = (struct store_row){.kind = "network",
                                   .spec = json_deep_copy(json_object_get(call->body, "spec")),
                                   .status = json_object(),
                                   .wanted = json_object()};
    if (!call->row.spec)
        call->row.spec = json_object();
    snprintf(call->row.name, sizeof(call->row.name), "%s", row_text(call->body, "name"));
    snprintf(call->row.tenant, sizeof(call->row.tenant), "%s", call->tenant);
    resource_fill(call->resource, call->row.spec);
    if (!vnet_is_real(call->row.name))
        return api_fail(call, FAILURE_INVALID, "name", "choose another name",
                        "'%s' is no name for a network: machines mean something else by it",
                        call->row.name);
    if (check_subnet(call) < 0)
        return -EINVAL;
    subnet_parse(row_text(call->row.spec, "subnet"), &s, NULL);
    address_print(s.network + SUBNET_GATEWAY, gateway);
    row_set_text(call->row.status, "gateway", gateway);
    json_object_set_new(call->row.status, "machines", json_array());
    json_object_set_new(call->row.status, "addresses", json_object());
    row_set_state(&call->row, "idle", NULL);
    if (store_insert(call->m->store, &call->row, &e) < 0 ||
        manager_event(call->m, &call->row, "created", &e, "it is made (asked by %s)",
                      call->caller) < 0)
        return api_fail_error(call, &e);
    return 0;
}

static int delete_it(struct api_call *call) {
    char user[STORE_WORD];
    struct error e = {0};

    if (row_flag(call->row.wanted, "deleting"))
        return 0;
    if (vnet_used(call->m, &call->row, user))
        return api_fail(call, FAILURE_CONFLICT, "status.machines",
                        "delete the machine, or give it another network (viv edit --network)",
                        "the machine '%s' is in the network '%s'", user, call->row.name);
    json_object_set_new(call->row.wanted, "deleting", json_true());
    row_set_state(&call->row, "deleting", NULL);
    if (store_update(call->m->store, &call->row, &e) < 0 ||
        manager_event(call->m, &call->row, "deleting", &e, "it is to be deleted (asked by %s)",
                      call->caller) < 0)
        return api_fail_error(call, &e);
    return 0;
}

const struct api_handler network_handlers[] = {
    {"create", create},
    {"delete", delete_it},
    {NULL, NULL},
};
