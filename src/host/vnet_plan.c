/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a network is to be, out of the rows of machines; and the addresses of machines.
 *
 * MAC addresses are made of the machine's id and the network's name: the same after every restart,
 * another one for a copy of the machine, and locally administered (02:...).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/sha256.h"
#include "host/api.h"
#include "host/forward.h"
#include "host/snapshot.h"
#include "host/vm.h"
#include "host/vnet.h"
#include "proto/nic_words.h"
#include "proto/subnet.h"

enum { MAC_TEXT = 18 };

/* ------------------------------------------------------------------ names */

bool vnet_name(const json_t *spec, unsigned i, char name[STORE_WORD]) {
    struct nic_words nic;

    if (!nic_words_at(row_text(spec, "network"), i, &nic))
        return false;
    snprintf(name, STORE_WORD, "%.63s", nic.network);
    return true;
}

bool vnet_is_real(const char *name) {
    return strcmp(name, "user") != 0 && strcmp(name, "none") != 0;
}

static bool names_it(const json_t *spec, const char *network) {
    char name[STORE_WORD];

    for (unsigned i = 0; vnet_name(spec, i, name); i++)
        if (!strcmp(name, network))
            return true;
    return false;
}

static void mac_of(const struct store_row *vm, unsigned i, const char *network,
                   char out[MAC_TEXT]) {
    const char *given = row_text(vm->wanted, "mac");
    struct nic_words nic;
    char text[2 * STORE_WORD + 2], hex[SHA256_TEXT];
    struct sha256 s;
    int n = snprintf(text, sizeof(text), "%s/%s", vm->id, network);

    if (nic_words_find(row_text(vm->spec, "network"), network, &nic) && *nic.mac) {
        snprintf(out, MAC_TEXT, "%.17s", nic.mac);
        return;
    }
    if (i == 0 && *given) { /* of a clone, whose guest was told */
        snprintf(out, MAC_TEXT, "%.17s", given);
        return;
    }
    sha256_begin(&s);
    sha256_put(&s, text, (size_t)n);
    sha256_end_text(&s, hex);
    snprintf(out, MAC_TEXT, "02:%.2s:%.2s:%.2s:%.2s:%.2s", hex, hex + 2, hex + 4, hex + 6, hex + 8);
}

/* ------------------------------------------------------------------ the plan */

struct planning {
    const struct store_row *network;
    struct vnet_plan *plan;
    json_t *members, *forwards, *taken; /* taken: MAC and IP addresses, as keys */
};

static bool runs(const json_t *spec, const json_t *status) {
    return strcmp(row_text(spec, "power"), "off") != 0 || !vm_settled(row_text(status, "state"));
}

static void plan_forwards(struct planning *p, const struct store_text *t, const json_t *spec) {
    char first[STORE_WORD];
    json_t *list, *one;
    size_t i;

    if (!vnet_name(spec, 0, first) || strcmp(first, p->network->name) != 0)
        return;
    json_array_append_new(p->plan->ids, json_string(t->id));
    list = forward_list(spec);
    json_array_foreach(list, i, one)
        json_array_append_new(p->forwards, json_pack("{s:O, s:s}", "forward", one, "to", t->name));
    json_decref(list);
}

static void plan_machine(struct planning *p, const struct store_text *t, const json_t *spec,
                         const json_t *status, const json_t *nic) {
    const char *mac = row_text(nic, "mac"), *address = row_text(nic, "address");
    bool up = runs(spec, status);

    if (!up && !names_it(spec, p->network->name))
        return;
    if (json_object_get(p->taken, mac) || json_object_get(p->taken, address)) {
        log_warning("%s: '%s' has the addresses of another machine until its next start",
                    p->network->name, t->name);
        return;
    }
    json_object_set_new(p->taken, mac, json_true());
    json_object_set_new(p->taken, address, json_true());
    json_array_append_new(
        p->members, json_pack("{s:s, s:s, s:s}", "name", t->name, "mac", mac, "address", address));
    json_array_append_new(p->plan->machines, json_string(t->name));
    json_object_set_new(p->plan->addresses, t->name, json_string(address));
    p->plan->needed |= up;
    if (up)
        plan_forwards(p, t, spec);
}

static bool look_at_machine(void *opaque, const struct store_text *t) {
    struct planning *p = opaque;
    json_t *status, *spec;
    const json_t *nic;

    if (!strstr(t->status, "\"networks\":{")) /* compact JSON of ours may be looked at as text */
        return true;
    status = json_loads(t->status, 0, NULL);
    nic = json_object_get(json_object_get(status, "networks"), p->network->name);
    if (nic) {
        spec = json_loads(t->spec, 0, NULL);
        plan_machine(p, t, spec, status, nic);
        json_decref(spec);
    }
    json_decref(status);
    return true;
}

/* Networks of older versions do not say. */
static json_int_t connections_of(const json_t *spec) {
    int64_t n = row_number(spec, "connections");

    return n > 0 ? n : 4096;
}

int vnet_plan(struct manager *m, const struct store_row *network, struct vnet_plan *ret) {
    struct store_query q = {.kind = "vm", .tenant = network->tenant};
    const json_t *spec = network->spec;
    struct planning p = {.network = network,
                         .plan = ret,
                         .members = json_array(),
                         .forwards = json_array(),
                         .taken = json_object()};
    int r;

    *ret = (struct vnet_plan){
        .machines = json_array(), .addresses = json_object(), .ids = json_array()};
    r = store_list(m->store, &q, look_at_machine, &p);
    ret->config = json_pack(
        "{s:s, s:s, s:b, s:b, s:I, s:I, s:o, s:o}", "name", network->name, "subnet",
        row_text(spec, "subnet"), "isolated", (int)row_flag(spec, "isolated"), "spoofing",
        (int)row_flag(spec, "spoofing"), "mtu", (json_int_t)row_number(spec, "mtu"), "connections",
        connections_of(spec), "members", p.members, "forwards", p.forwards);
    json_decref(p.taken);
    return r < 0 ? r : ret->config ? 0 : -ENOMEM;
}

void vnet_plan_done(struct vnet_plan *p) {
    json_decref(p->config);
    json_decref(p->machines);
    json_decref(p->addresses);
    json_decref(p->ids);
}

/* ------------------------------------------------------------------ who uses it */

struct use {
    const char *network;
    char *user;
};

static bool look_for_use(void *opaque, const struct store_text *t) {
    struct use *u = opaque;
    json_t *spec, *status;

    if (strstr(t->spec, "\"network\":\"user\"") && !strstr(t->status, "\"networks\":{"))
        return true;
    spec = json_loads(t->spec, 0, NULL);
    status = json_loads(t->status, 0, NULL);
    if (names_it(spec, u->network) ||
        (runs(spec, status) && json_object_get(json_object_get(status, "networks"), u->network)))
        snprintf(u->user, STORE_WORD, "%s", t->name);
    json_decref(spec);
    json_decref(status);
    return !*u->user;
}

bool vnet_used(struct manager *m, const struct store_row *network, char user[STORE_WORD]) {
    struct store_query q = {.kind = "vm", .tenant = network->tenant};
    struct use u = {network->name, user};

    *user = 0;
    store_list(m->store, &q, look_for_use, &u);
    return *user;
}

/* ------------------------------------------------------------------ addresses */

struct taken {
    const char *network, *id;
    struct subnet subnet;
    uint8_t *bits; /* of the addresses of the subnet */
};

static bool look_at_address(void *opaque, const struct store_text *t) {
    struct taken *k = opaque;
    uint32_t address = 0;
    json_t *status;

    if (!strcmp(t->id, k->id) || !strstr(t->status, "\"networks\":{"))
        return true;
    status = json_loads(t->status, 0, NULL);
    if (address_parse(
            row_text(json_object_get(json_object_get(status, "networks"), k->network), "address"),
            &address) &&
        subnet_usable(&k->subnet, address)) {
        address -= k->subnet.network;
        k->bits[address / 8] |= (uint8_t)(1 << address % 8);
    }
    json_decref(status);
    return true;
}

static bool is_free(const struct taken *k, uint32_t address) {
    uint32_t at = address - k->subnet.network;

    return subnet_usable(&k->subnet, address) && !(k->bits[at / 8] & 1 << at % 8);
}

/* The one that it had, else the first that nobody has; 0: none is left. */
static uint32_t choose(struct manager *m, const struct store_row *vm, const char *network,
                       const struct subnet *subnet, uint32_t had) {
    struct store_query q = {.kind = "vm", .tenant = vm->tenant};
    struct taken k = {network, vm->id, *subnet, calloc(8192, 1)};
    uint32_t a = 0;

    if (!k.bits)
        return 0;
    store_list(m->store, &q, look_at_address, &k);
    if (had && is_free(&k, had))
        a = had;
    for (uint32_t i = subnet->network + SUBNET_FIRST; !a && i < subnet_last(subnet); i++)
        if (is_free(&k, i))
            a = i;
    free(k.bits);
    return a;
}

static int find_network(struct manager *m, const struct store_row *vm, const char *name,
                        struct store_row *ret, struct error *err) {
    if (store_find(m->store, "network", vm->tenant, name, ret) < 0)
        return error_set(err, -ENOENT, "there is no network '%s': make it (viv net create %s)",
                         name, name);
    if (!row_flag(ret->wanted, "deleting"))
        return 0;
    store_row_done(ret);
    return error_set(err, -EBUSY, "the network '%s' is being deleted", name);
}

static int assign_one(struct manager *m, struct store_row *vm, unsigned i, const char *name,
                      json_t *to, struct error *err) {
    const json_t *old = json_object_get(json_object_get(vm->status, "networks"), name);
    struct store_row network = {0};
    struct subnet subnet = {0};
    char mac[MAC_TEXT], text[ADDRESS_TEXT];
    uint32_t address = 0;
    int r;

    mac_of(vm, i, name, mac);
    r = find_network(m, vm, name, &network, err);
    if (r < 0)
        return r;
    r = subnet_parse(row_text(network.spec, "subnet"), &subnet, err);
    store_row_done(&network);
    if (r < 0)
        return r;
    if (!address_parse(row_text(old, "address"), &address))
        address = 0;
    if (!address || !subnet_usable(&subnet, address) || strcmp(row_text(old, "mac"), mac) != 0)
        address = choose(m, vm, name, &subnet, address);
    if (!address)
        return error_set(err, -ENOSPC,
                         "the network '%s' has no address left: make one with a larger subnet",
                         name);
    address_print(address, text);
    json_object_set_new(to, name, json_pack("{s:s, s:s}", "mac", mac, "address", text));
    return 0;
}

/* Those that the memory knows, which it goes on from. */
static int assign_kept(struct manager *m, struct store_row *vm, json_t *to, struct error *err) {
    const json_t *one;
    size_t i;
    int r = 0;

    json_array_foreach(json_object_get(vm->wanted, "nics"), i, one) {
        const char *word = json_string_value(one);
        struct nic_words nic;

        if (r == 0 && nic_words_next(&word, &nic) && vnet_is_real(nic.network) &&
            !json_object_get(to, nic.network))
            r = assign_one(m, vm, (unsigned)i, nic.network, to, err);
    }
    return r;
}

int vnet_join(struct manager *m, struct store_row *vm, const char *name, struct error *err) {
    json_t *nics = json_object_get(vm->status, "networks");

    if (json_object_get(nics, name))
        return 0;
    if (!nics) {
        nics = json_object();
        json_object_set_new(vm->status, "networks", nics);
    }
    return assign_one(m, vm, NIC_MOST, name, nics, err) < 0 ? err->code : 1;
}

int vnet_assign(struct manager *m, struct store_row *vm, struct error *err) {
    json_t *nics = json_object(), *old = json_object_get(vm->status, "networks");
    char name[STORE_WORD];
    int r = 0;

    for (unsigned i = 0; r == 0 && vnet_name(vm->spec, i, name); i++)
        if (vnet_is_real(name))
            r = assign_one(m, vm, i, name, nics, err);
    if (r == 0 && *snapshot_restore(vm))
        r = assign_kept(m, vm, nics, err);
    if (r == 0 && (json_object_size(nics) ? !json_equal(nics, old) : old != NULL)) {
        if (json_object_size(nics))
            json_object_set(vm->status, "networks", nics);
        else
            row_unset(vm->status, "networks");
        r = 1;
    }
    json_decref(nics);
    return r;
}

int vnet_nic(struct manager *m, const struct store_row *vm, const char *name, char *out,
             size_t size, struct error *err) {
    const json_t *nic = json_object_get(json_object_get(vm->status, "networks"), name);
    struct store_row network = {0};
    int r = find_network(m, vm, name, &network, err);

    if (r < 0)
        return r;
    snprintf(out, size, "link=../../networks/%s/ports,mac=%s,mtu=%lld", network.id,
             row_text(nic, "mac"), (long long)row_number(network.spec, "mtu"));
    store_row_done(&network);
    return 0;
}

int vnet_check(struct api_call *call, const json_t *spec) {
    struct store_row vm = {0}, network = {0};
    char name[STORE_WORD], other[STORE_WORD];
    struct error e = {0};

    snprintf(vm.tenant, sizeof(vm.tenant), "%s", call->tenant);
    for (unsigned i = 0; vnet_name(spec, i, name); i++) {
        if (!strcmp(name, "none") && (i || strchr(row_text(spec, "network"), ',')))
            return api_fail(call, FAILURE_INVALID, "spec.network", "leave 'none' out",
                            "a machine has networks or none");
        for (unsigned k = 0; k < i && vnet_name(spec, k, other); k++)
            if (!strcmp(name, other))
                return api_fail(call, FAILURE_INVALID, "spec.network", "name it once",
                                "a machine has one interface in a network, and '%s' is named twice",
                                name);
        if (!vnet_is_real(name))
            continue;
        if (find_network(call->m, &vm, name, &network, &e) < 0)
            return api_fail(call, FAILURE_CONFLICT, "spec.network", "", "%s", e.text);
        store_row_done(&network);
    }
    return 0;
}
