/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/vm_nics.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "host/forward.h"
#include "host/snapshot.h"
#include "host/vm_impl.h"
#include "host/vm_pending.h"
#include "host/vnet.h"
#include "proto/nic_words.h"

/* ------------------------------------------------------------------ the command line */

static const char *model_of(const struct store_row *row, const struct nic_words *nic) {
    const char *model = *nic->model ? nic->model : row_text(row->spec, "nic_model");

    return *model ? model : "virtio";
}

/* How firmware boots through it. */
static void add_boot_words(const struct store_row *row, bool user, char *out, size_t size) {
    const char *rom = row_text(row->spec, "nic_rom"), *file = row_text(row->spec, "bootfile");
    const char *tftp = row_text(row->spec, "tftp");
    bool own = *rom && strcmp(rom, "auto") != 0, shows = user && *tftp == '/';

    if (!user)
        file = "";
    snprintf(out, size, "%s%s%s%s%s%s", own ? ",rom=" : "", own ? rom : "",
             *file ? ",bootfile=" : "", file, shows ? ",tftp=" : "", shows ? tftp : "");
}

int machine_nic_text(struct manager *m, const struct store_row *row, const struct nic_words *nic,
                     char *out, size_t size, struct error *err) {
    size_t n;

    if (strcmp(nic->network, "user") != 0) {
        if (vnet_nic(m, row, nic->network, out, size, err) < 0)
            return -EINVAL;
    } else {
        snprintf(out, size, "user%s%s", *nic->mac ? ",mac=" : "", nic->mac);
    }
    n = strlen(out);
    n += (size_t)snprintf(out + n, size - n, ",model=%s", model_of(row, nic));
    add_boot_words(row, !strcmp(nic->network, "user"), out + n, size - n);
    return 0;
}

/* Forwards lead through the first interface; those of a network are its viv-net's. */
static void add_forwards(struct buf *b, const struct store_row *row) {
    json_t *list = forward_list(row->spec), *one;
    size_t i;

    json_array_foreach(list, i, one)
        buf_printf(b, ",forward=%s", json_string_value(one));
    json_decref(list);
}

static int add_one(struct manager *m, struct words *w, const struct store_row *row,
                   const struct nic_words *nic, bool first, struct error *err) {
    struct nic_words own = *nic;
    struct buf b = {0};
    char text[NIC_OPTION];

    if (first && !*own.mac) /* of a clone */
        snprintf(own.mac, sizeof(own.mac), "%.17s", row_text(row->wanted, "mac"));
    if (machine_nic_text(m, row, &own, text, sizeof(text), err) < 0)
        return -EINVAL;
    buf_printf(&b, "%s", text);
    if (first && !strcmp(nic->network, "user"))
        add_forwards(&b, row);
    buf_put(&b, "", 1);
    words_add(w, "--nic");
    words_add(w, "%s", (const char *)b.data);
    buf_done(&b);
    return 0;
}

static int add_kept(struct manager *m, struct words *w, const struct store_row *row,
                    struct error *err) {
    const char *spec = row_text(row->spec, "network");
    const json_t *one;
    size_t i;

    json_array_foreach(json_object_get(row->wanted, "nics"), i, one) {
        const char *word = json_string_value(one);
        struct nic_words nic, first = {0};

        nic_words_at(spec, 0, &first);
        if (nic_words_next(&word, &nic) &&
            add_one(m, w, row, &nic, !strcmp(first.network, nic.network), err) < 0)
            return -EINVAL;
    }
    return 0;
}

int nics_words(struct manager *m, struct words *w, const struct store_row *row, struct error *err) {
    const char *at = row_text(row->spec, "network");
    const json_t *kept = json_object_get(row->wanted, "nics");
    bool none = !strcmp(at, "none");
    struct nic_words nic;
    bool first = true;

    if (*snapshot_restore(row) && kept) {
        none = !json_array_size(kept);
        if (add_kept(m, w, row, err) < 0)
            return -EINVAL;
    } else {
        for (; !none && nic_words_next(&at, &nic); first = false)
            if (add_one(m, w, row, &nic, first, err) < 0)
                return -EINVAL;
    }
    if (none) {
        words_add(w, "--nic");
        words_add(w, "none");
    }
    return 0;
}

/* ------------------------------------------------------------------ checks */

struct search {
    const char *network, *mac, *id;
    char name[STORE_WORD];
};

static bool has_mac(void *opaque, const struct store_text *t) {
    struct search *s = opaque;
    json_t *status;

    if (!strcmp(t->id, s->id) || !strstr(t->status, s->mac))
        return true;
    status = json_loads(t->status, 0, NULL);
    if (!strcmp(row_text(json_object_get(json_object_get(status, "networks"), s->network), "mac"),
                s->mac))
        snprintf(s->name, sizeof(s->name), "%s", t->name);
    json_decref(status);
    return !*s->name;
}

static int check_mac(struct api_call *call, const struct nic_words *nic, const char *id) {
    struct store_query q = {.kind = "vm", .tenant = call->tenant};
    struct search s = {.network = nic->network, .mac = nic->mac, .id = id};
    struct error e = {0};

    if (nic_mac_check(nic->mac, &e) < 0)
        return api_fail(call, FAILURE_INVALID, "spec.network", "write 02:00:5e:10:00:01", "%s",
                        e.text);
    store_list(call->m->store, &q, has_mac, &s);
    if (*s.name)
        return api_fail(call, FAILURE_CONFLICT, "spec.network", "choose another one",
                        "the machine '%s' has the address %s in the network '%s'", s.name, nic->mac,
                        nic->network);
    return 0;
}

int nics_check(struct api_call *call, const json_t *spec, const struct store_row *vm) {
    const char *list = row_text(spec, "network"), *at = list;
    struct nic_words nic, other;

    if (vnet_check(call, spec) < 0)
        return -EINVAL;
    for (unsigned i = 0; nic_words_next(&at, &nic); i++) {
        if (!strcmp(nic.network, "none") && (*nic.model || *nic.mac))
            return api_fail(call, FAILURE_INVALID, "spec.network", "write none alone",
                            "'none' is no interface, and has no model and no address");
        if (!*nic.mac)
            continue;
        for (unsigned k = 0; k < i && nic_words_at(list, k, &other); k++)
            if (!strcmp(other.mac, nic.mac))
                return api_fail(call, FAILURE_INVALID, "spec.network", "give each its own",
                                "the interfaces in '%s' and '%s' have the same address",
                                other.network, nic.network);
        if (check_mac(call, &nic, vm ? vm->id : "") < 0)
            return -EINVAL;
    }
    return 0;
}

static void forget(char *word, size_t size) {
    const char *at = word;
    struct nic_words nic;
    char text[NIC_TEXT];

    if (!nic_words_next(&at, &nic))
        return;
    *nic.mac = 0;
    nic_words_print(&nic, text);
    snprintf(word, size, "%s", text);
}

void nics_forget_addresses(struct store_row *row) {
    const char *at = row_text(row->spec, "network");
    json_t *kept = json_object_get(row->wanted, "nics"), *one;
    char all[NIC_MOST * NIC_TEXT] = "", word[NIC_TEXT];
    struct nic_words nic;
    size_t i;

    while (nic_words_next(&at, &nic)) {
        size_t n = strlen(all);

        *nic.mac = 0;
        nic_words_print(&nic, word);
        snprintf(all + n, sizeof(all) - n, "%s%s", n ? "," : "", word);
    }
    row_set_text(row->spec, "network", all);
    json_array_foreach(kept, i, one) {
        snprintf(word, sizeof(word), "%s", json_string_value(one));
        forget(word, sizeof(word));
        json_array_set_new(kept, i, json_string(word));
    }
}

/* ------------------------------------------------------------------ operations */

static int change(struct api_call *call, const char *list, const char *text) {
    json_t *patch = json_pack("{s:s}", "network", list);
    struct store_row *row = &call->row;
    struct error e = {0};
    int r;

    if (row_flag(row->wanted, "deleting"))
        r = api_fail(call, FAILURE_CONFLICT, "status.state", "", "'%s' is being deleted",
                     row->name);
    else if (*row_text(row->wanted, "suspended"))
        r = api_fail(call, FAILURE_CONFLICT, "status.state", "start it first",
                     "'%s' is suspended, and its memory knows its interfaces", row->name);
    else
        r = nics_check(call, patch, row);
    if (r == 0) {
        pending_change(row, patch);
        row_set_text(row->spec, "network", list);
        if (manager_event(call->m, row, "changed", &e, "%s (asked by %s)", text, call->caller) <
                0 ||
            store_update(call->m->store, row, &e) < 0)
            r = api_fail_error(call, &e);
    }
    json_decref(patch);
    return r;
}

int nics_add(struct api_call *call) {
    const char *list = row_text(call->row.spec, "network"), *network;
    struct nic_words nic = {0}, other;
    char all[NIC_MOST * NIC_TEXT], text[150], word[NIC_TEXT];
    const char *at;

    network = row_text(call->args, "network");
    if (!strcmp(network, "none"))
        return api_fail(call, FAILURE_INVALID, "network", "name user or a network",
                        "'none' is no network");
    if (nic_words_find(list, network, &other))
        return api_fail(call, FAILURE_CONFLICT, "spec.network", "a second network gives another",
                        "'%s' has an interface in '%s' already", call->row.name, network);
    if (nic_words_at(list, NIC_MOST - 1, &other))
        return api_fail(call, FAILURE_CONFLICT, "spec.network", "take another one away",
                        "a machine has at most %d interfaces", NIC_MOST);
    snprintf(word, sizeof(word), "%s%s%s%s%s", network, *row_text(call->args, "model") ? "/" : "",
             row_text(call->args, "model"), *row_text(call->args, "mac") ? "/" : "",
             row_text(call->args, "mac"));
    at = word;
    nic_words_next(&at, &nic); /* the address in small letters */
    nic_words_print(&nic, word);
    if (!strcmp(list, "none"))
        list = "";
    snprintf(all, sizeof(all), "%s%s%s", list, *list ? "," : "", word);
    snprintf(text, sizeof(text), "it gets an interface in '%s'", network);
    return change(call, all, text);
}

int nics_remove(struct api_call *call) {
    const char *at = row_text(call->row.spec, "network"),
               *network = row_text(call->args, "network");
    bool force = row_flag(call->args, "force"), found = false, waits;
    json_t *forced = json_object_get(call->row.wanted, "nic_force");
    char all[NIC_MOST * NIC_TEXT] = "", text[150], word[NIC_TEXT];
    struct nic_words nic;

    while (nic_words_next(&at, &nic)) {
        size_t n = strlen(all);

        if (!strcmp(nic.network, network)) {
            found = true;
            continue;
        }
        nic_words_print(&nic, word);
        snprintf(all + n, sizeof(all) - n, "%s%s", n ? "," : "", word);
    }
    waits = machine_has_nic(&call->row, network); /* it was asked for before, without force */
    if (!found && !waits)
        return api_fail(call, FAILURE_CONFLICT, "spec.network", "look at 'viv nic list'",
                        "'%s' has no interface in '%s'", call->row.name, network);
    if (force && !forced) {
        forced = json_object();
        json_object_set_new(call->row.wanted, "nic_force", forced);
    }
    if (force)
        json_object_set_new(forced, network, json_true());
    snprintf(text, sizeof(text), "its interface in '%s' goes", network);
    return change(call, *all ? all : "none", text);
}
