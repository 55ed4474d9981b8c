/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands on the network interfaces of machines. */
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "proto/nic_words.h"

enum { LOOKS = 300, LOOK_NS = 100 * 1000 * 1000 };

static const json_t *status_of(const json_t *vm, const char *name) {
    return json_object_get(json_object_get(vm, "status"), name);
}

static bool is_up(const json_t *vm) { return !strcmp(item_text(vm, "status", "state"), "running"); }

static bool has_nic(const json_t *vm, const char *network, struct nic_words *ret) {
    const json_t *one;
    size_t i;

    json_array_foreach(status_of(vm, "nics"), i, one) {
        const char *word = json_string_value(one);

        if (nic_words_next(&word, ret) && !strcmp(ret->network, network))
            return true;
    }
    return false;
}

/* Until the machine has it, or has it no more, or says why not. */
static int await(struct cli *c, json_t **vm, bool there) {
    static const struct timespec nap = {.tv_nsec = LOOK_NS};
    struct nic_words nic;

    for (int i = 0; i < LOOKS && is_up(*vm); i++) {
        const char *error = item_text(status_of(*vm, "nic_errors"), NULL, c->name[1]);

        if (has_nic(*vm, c->name[1], &nic) == there)
            return 0;
        if (*error && i)
            return remote_fail(&c->failure, FAILURE_CONFLICT,
                               there ? "it is tried again, and it is there after the next restart"
                                     : "say --force, or stop it",
                               "the interface in '%s': %s", c->name[1], error);
        nanosleep(&nap, NULL);
        json_decref(*vm);
        *vm = NULL;
        if (remote_call(c->remote, "GET", NULL, vm, &c->failure, "/v1/vms/%s", c->name[0]) < 0)
            return -1;
    }
    if (!is_up(*vm))
        return 0;
    return remote_fail(&c->failure, FAILURE_TIMEOUT,
                       there ? "look at 'viv logs'" : "say --force, or stop it",
                       there ? "the interface in '%s' is not there yet"
                             : "the guest has not let go of the interface in '%s' yet",
                       c->name[1]);
}

static int change(struct cli *c, bool add) {
    json_t *args = cli_args(c, c->command->op), *vm = NULL;
    int r;

    json_object_set_new(args, "network", json_string(c->name[1]));
    r = remote_call(c->remote, "POST", args, &vm, &c->failure, "/v1/vms/%s/%s", c->name[0],
                    c->command->op);
    if (r == 0 && !cli_true(c, "no_wait"))
        r = await(c, &vm, add);
    if (r == 0 && c->json)
        show_json(vm);
    else if (r == 0)
        show_note(c, "'%s' has %s interface in '%s'%s", c->name[0], add ? "an" : "no", c->name[1],
                  is_up(vm) ? "" : " from its next start on");
    json_decref(vm);
    return r;
}

int do_nic_add(struct cli *c) { return change(c, true); }

int do_nic_rm(struct cli *c) { return change(c, false); }

static void add_row(json_t *rows, const json_t *vm, const struct nic_words *wanted) {
    const json_t *given = json_object_get(status_of(vm, "networks"), wanted->network);
    const char *error = item_text(status_of(vm, "nic_errors"), NULL, wanted->network);
    struct nic_words nic = *wanted;
    bool there = has_nic(vm, wanted->network, &nic);

    if (!*nic.model)
        snprintf(nic.model, sizeof(nic.model), "%.15s", item_text(vm, "spec", "nic_model"));
    if (!*nic.mac)
        snprintf(nic.mac, sizeof(nic.mac), "%.17s", item_text(given, NULL, "mac"));
    json_array_append_new(rows, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "machine",
                                          item_text(vm, NULL, "name"), "network", nic.network,
                                          "model", nic.model, "mac", nic.mac, "address",
                                          item_text(given, NULL, "address"), "state",
                                          there       ? "there"
                                          : *error    ? "failed"
                                          : is_up(vm) ? "coming"
                                                      : "off",
                                          "reason", error));
}

/* Those that are wanted, and those that the guest has not let go of. */
static void add_rows(json_t *rows, const json_t *vm) {
    const char *list = item_text(vm, "spec", "network"), *at = list, *word;
    struct nic_words nic, other;
    const json_t *one;
    size_t i;

    while (nic_words_next(&at, &nic))
        if (strcmp(nic.network, "none") != 0)
            add_row(rows, vm, &nic);
    json_array_foreach(status_of(vm, "nics"), i, one) {
        word = json_string_value(one);
        if (!nic_words_next(&word, &nic) || nic_words_find(list, nic.network, &other))
            continue;
        json_array_append_new(
            rows, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "machine",
                            item_text(vm, NULL, "name"), "network", nic.network, "model", nic.model,
                            "mac", nic.mac, "address", "", "state", "going", "reason",
                            item_text(status_of(vm, "nic_errors"), NULL, nic.network)));
    }
}

int do_nic_list(struct cli *c) {
    static const struct field columns[] = {
        {.name = "machine", .type = FIELD_STRING, .column = "MACHINE"},
        {.name = "network", .type = FIELD_STRING, .column = "NETWORK"},
        {.name = "model", .type = FIELD_STRING, .column = "MODEL"},
        {.name = "mac", .type = FIELD_STRING, .column = "MAC"},
        {.name = "address", .type = FIELD_STRING, .column = "ADDRESS"},
        {.name = "state", .type = FIELD_STRING, .column = "STATE"},
        {.name = "reason", .type = FIELD_STRING, .column = "REASON"},
        {0}};
    static const struct resource table = {.plain = true, .fields = columns};

    return cli_list_parts(c, &table, add_rows);
}
