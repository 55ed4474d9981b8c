/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Network interfaces of a machine that runs: plugged in as its row wants, and let go of.
 *
 * An interface is known by its network. viv-vm does not say to which network a cable leads, but
 * the interface's address does (status.networks), or the id that it was plugged in with.
 *
 * Members of the row's `wanted`: nics (vm_nics.h); nic_force {NETWORK: true}: those that are pulled
 * out without asking the guest.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "host/vm_control.h"
#include "host/vm_impl.h"
#include "host/vm_pending.h"
#include "host/vnet.h"
#include "proto/nic_words.h"

enum { AGAIN_MS = 5000, TEXT = 400 };

/* ------------------------------------------------------------------ which it is */

/* "": nobody knows it. */
static const char *network_of(const struct store_row *row, const json_t *nic) {
    const char *id = row_text(nic, "id"), *mac = row_text(nic, "mac"), *name;
    json_t *one;

    if (*id)
        return id;
    if (!strcmp(row_text(nic, "network"), "user"))
        return "user";
    json_object_foreach(json_object_get(row->status, "networks"), name, one)
        if (!strcmp(row_text(one, "mac"), mac))
            return name;
    return "";
}

static const json_t *find_nic(const struct machine *v, const struct store_row *row,
                              const char *network) {
    const json_t *one;
    size_t i;

    json_array_foreach(v->nics, i, one)
        if (!strcmp(network_of(row, one), network))
            return one;
    return NULL;
}

int machine_user_nic(const struct machine *v, const struct store_row *row) {
    const json_t *nic = find_nic(v, row, "user");

    return nic ? (int)row_number(nic, "index") : -1;
}

bool machine_has_nic(const struct store_row *row, const char *network) {
    const json_t *one;
    size_t i;

    json_array_foreach(json_object_get(row->status, "nics"), i, one) {
        const char *word = json_string_value(one);
        struct nic_words nic;

        if (nic_words_next(&word, &nic) && !strcmp(nic.network, network))
            return true;
    }
    return false;
}

/* As nic_words_next reads them. */
static json_t *list_of(const struct machine *v, const struct store_row *row) {
    json_t *list = json_array();
    const json_t *one;
    size_t i;

    json_array_foreach(v->nics, i, one) {
        struct nic_words nic = {0};
        char text[NIC_TEXT];

        snprintf(nic.network, sizeof(nic.network), "%.63s", network_of(row, one));
        snprintf(nic.model, sizeof(nic.model), "%.15s", row_text(one, "model"));
        snprintf(nic.mac, sizeof(nic.mac), "%.17s", row_text(one, "mac"));
        nic_words_print(&nic, text);
        if (*nic.network)
            json_array_append_new(list, json_string(text));
    }
    return list;
}

/* ------------------------------------------------------------------ told by viv-vm */

static void tell(struct machine *v, const char *network, const char *error) {
    struct store_row row = {0};
    char text[TEXT];

    if (store_get(v->all->m->store, "vm", v->id, &row) == 0) {
        bool news = pending_note(&row, "nic_errors", network, error);

        snprintf(text, sizeof(text), "'%s': %.300s; it is tried again", network, error);
        if (news && json_object_get(json_object_get(row.status, "pending"), "network"))
            pending_note(&row, "pending", "network", text);
        if (news)
            machine_save_row(v, &row, STORE_NOTE, NULL, NULL);
    }
    store_row_done(&row);
}

void machine_nics_seen(struct machine *v, const json_t *status) {
    json_decref(v->nics);
    v->nics = json_incref(json_object_get(status, "nics"));
    *v->nic_asked = 0;
    machine_kick(v);
}

void machine_nics_lost(struct machine *v) {
    json_decref(v->nics);
    v->nics = NULL;
    *v->nic_asked = 0;
    v->nic_again = 0;
}

void machine_nics_answered(struct machine *v, const char *why) {
    char network[STORE_WORD];

    snprintf(network, sizeof(network), "%s", v->nic_asked);
    v->nic_again = timer_now_ms() + AGAIN_MS;
    if (why) {
        *v->nic_asked = 0;
        tell(v, network, why);
        machine_again_in(v, AGAIN_MS);
    } else if (v->control) {
        vm_control_send(v->control, "status"); /* which says what there is now */
    }
}

void machine_nics_event(struct machine *v, const json_t *data) {
    struct store_row row = {0};
    const json_t *one;
    size_t i;

    if (!strcmp(row_text(data, "what"), "refused") &&
        store_get(v->all->m->store, "vm", v->id, &row) == 0)
        json_array_foreach(v->nics, i, one) {
            char device[20];

            snprintf(device, sizeof(device), "nic%d", (int)row_number(one, "index"));
            if (!strcmp(device, row_text(data, "device")) && *network_of(&row, one))
                tell(v, network_of(&row, one), "the guest does not let go of it: say --force");
        }
    store_row_done(&row);
    v->nic_again = 0; /* one that has gone makes room at once */
    if (!strcmp(row_text(data, "what"), "refused"))
        v->nic_again = timer_now_ms() + AGAIN_MS;
    if (v->control)
        vm_control_send(v->control, "status");
}

/* ------------------------------------------------------------------ steps */

static void ask(struct machine *v, const char *network, const char *command, json_t *args) {
    snprintf(v->nic_asked, sizeof(v->nic_asked), "%s", *network ? network : "?");
    vm_control_send_args(v->control, command, args);
}

/* True: something is under way. */
static bool step_unplug(struct machine *v, struct store_row *row) {
    const char *wanted = row_text(row->spec, "network");
    bool waits = false;
    char text[TEXT];
    const json_t *one;
    struct nic_words nic;
    size_t i;

    json_array_foreach(v->nics, i, one) {
        const char *network = network_of(row, one);
        bool force = row_flag(json_object_get(row->wanted, "nic_force"), network);

        if (nic_words_find(wanted, network, &nic))
            continue;
        if (row_flag(one, "removing") && !force) {
            waits = true;
            snprintf(text, sizeof(text), "the guest has not let go of the interface in '%s' yet",
                     network);
            continue;
        }
        ask(v, network, "nic-remove",
            json_pack("{s:i, s:b}", "nic", (int)row_number(one, "index"), "force", (int)force));
        return true;
    }
    if (waits && pending_note(row, "pending", "network", text))
        machine_save_row(v, row, STORE_NOTE, NULL, NULL);
    return waits;
}

static bool step_plug(struct machine *v, struct store_row *row) {
    const char *at = row_text(row->spec, "network");
    struct manager *m = v->all->m;
    struct error e = {0};
    struct nic_words nic;

    while (nic_words_next(&at, &nic)) {
        char text[NIC_OPTION];
        int r;

        if (!strcmp(nic.network, "none") || find_nic(v, row, nic.network))
            continue;
        r = vnet_is_real(nic.network) ? vnet_join(m, row, nic.network, &e) : 0;
        if (r > 0) { /* it is known by its address before it is there */
            machine_save_row(v, row, STORE_PROMISE, NULL, NULL);
            return true;
        }
        if (r == 0)
            r = machine_nic_text(m, row, &nic, text, sizeof(text), &e);
        if (r < 0) {
            v->nic_again = timer_now_ms() + AGAIN_MS;
            machine_again_in(v, AGAIN_MS);
            tell(v, nic.network, e.text);
            return true;
        }
        ask(v, nic.network, "nic-add", json_pack("{s:s, s:s}", "nic", text, "id", nic.network));
        return true;
    }
    return false;
}

/* The first one that is not as it is wanted; "": all are. */
static void describe_difference(const struct machine *v, const struct store_row *row,
                                char out[TEXT]) {
    const char *at = row_text(row->spec, "network");
    struct nic_words nic;

    *out = 0;
    while (!*out && nic_words_next(&at, &nic)) {
        const json_t *one = find_nic(v, row, nic.network);
        const char *model = row_text(one, "model"), *mac = row_text(one, "mac");

        if (one && *model && *nic.model && strcmp(nic.model, model) != 0)
            snprintf(out, TEXT, "the interface in '%s' is %s " PENDING_START, nic.network,
                     nic.model);
        else if (one && *nic.mac && strcmp(nic.mac, mac) != 0)
            snprintf(out, TEXT, "the interface in '%s' has the address %s " PENDING_START,
                     nic.network, nic.mac);
    }
}

/* Who follows the events looks at the row again. That of a process that is new is written in a
 * moment anyway (step_running). */
static void save_list(struct machine *v, struct store_row *row, json_t *list) {
    char text[TEXT];

    snprintf(text, sizeof(text), "its network interfaces: %d", (int)json_array_size(list));
    json_object_set(row->wanted, "nics", list);
    json_object_set_new(row->status, "nics", list);
    if (row_number(row->wanted, "launched") == v->process.cycle)
        machine_save_row(v, row, STORE_NOTE, "nics", text);
}

/* All that is wanted is there, and nothing else. */
static void note(struct machine *v, struct store_row *row) {
    json_t *list = list_of(v, row), *networks = json_object_get(row->status, "networks"), *one;
    bool news = !json_equal(list, json_object_get(row->status, "nics"));
    const char *name;
    char text[TEXT];
    void *next;

    describe_difference(v, row, text);
    news |= pending_note(row, "pending", "network", *text ? text : NULL);
    news |= json_object_get(row->status, "nic_errors") != NULL;
    news |= json_object_get(row->wanted, "nic_force") != NULL;
    json_object_foreach_safe(networks, next, name, one) {
        if (find_nic(v, row, name))
            continue;
        json_object_del(networks, name);
        news = true;
    }
    if (networks && !json_object_size(networks))
        row_unset(row->status, "networks");
    row_unset(row->status, "nic_errors");
    row_unset(row->wanted, "nic_force");
    if (news)
        save_list(v, row, list);
    else
        json_decref(list);
}

/* What there is by now, before something comes or goes. */
static bool note_list(struct machine *v, struct store_row *row) {
    json_t *list = list_of(v, row);

    if (json_equal(list, json_object_get(row->status, "nics"))) {
        json_decref(list);
        return false;
    }
    save_list(v, row, list);
    return true;
}

void machine_step_nics(struct machine *v, struct store_row *row) {
    int64_t left = v->nic_again - timer_now_ms();

    if (!v->nics || *v->nic_asked || v->paused)
        return;
    if (v->nic_again && left > 0 && row->revision == v->nic_revision) {
        machine_again_in(v, left);
        return;
    }
    v->nic_revision = row->revision;
    if (note_list(v, row))
        return;
    if (step_unplug(v, row)) {
        machine_again_in(v, AGAIN_MS);
        return;
    }
    if (!step_plug(v, row))
        note(v, row);
}

void machine_unset_nics(struct store_row *row) {
    row_unset(row->status, "nics");
    row_unset(row->status, "nic_errors");
    row_unset(row->wanted, "nic_force");
}
