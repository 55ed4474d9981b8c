/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands on the devices of the host that machines have. */
#include <ctype.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"

enum { LOOKS = 600, LOOK_NS = 100 * 1000 * 1000, NAME = 48 };

/* As the manager calls it in status: 0000: in front, small letters. */
static void canonical(const char *text, char out[NAME]) {
    const char *from = strncmp(text, "vfio=", 5) ? text : text + 5, *colon = strchr(from, ':');

    snprintf(out, NAME, "%s%.40s", colon && !strchr(colon + 1, ':') ? "0000:" : "", from);
    for (char *c = out; *c; c++)
        *c = (char)tolower((unsigned char)*c);
}

static const json_t *status_of(const json_t *vm, const char *name) {
    return json_object_get(json_object_get(vm, "status"), name);
}

static bool is_up(const json_t *vm) { return !strcmp(item_text(vm, "status", "state"), "running"); }

static bool has(const json_t *list, const char *name) {
    char other[NAME];
    const json_t *one;
    size_t i;

    json_array_foreach(list, i, one) {
        canonical(json_string_value(one), other);
        if (!strcmp(other, name))
            return true;
    }
    return false;
}

/* Is it so? A machine that had it until now gives it back to the host's driver as well. */
static bool is_so(const json_t *vm, const char *name, bool there) {
    bool has_it = has(status_of(vm, "host_devices"), name);

    return there ? has_it : !has_it && !json_object_get(status_of(vm, "lent"), name);
}

static int await(struct cli *c, json_t **vm, const char *name, bool there) {
    static const struct timespec nap = {.tv_nsec = LOOK_NS};

    for (int i = 0; i < LOOKS && (is_up(*vm) || !there); i++) {
        const char *error = item_text(status_of(*vm, "device_errors"), NULL, name);

        if (is_so(*vm, name, there))
            return 0;
        if (*error && i)
            return remote_fail(&c->failure, FAILURE_CONFLICT,
                               there ? "it is tried again; 'viv device rm' gives it up"
                                     : "say --force, or stop it",
                               "the device %s: %s", name, error);
        nanosleep(&nap, NULL);
        json_decref(*vm);
        *vm = NULL;
        if (remote_call(c->remote, "GET", NULL, vm, &c->failure, "/v1/vms/%s", c->name[0]) < 0)
            return -1;
    }
    if (there && !is_up(*vm))
        return 0;
    return remote_fail(
        &c->failure, FAILURE_TIMEOUT, there ? "look at 'viv logs --vm'" : "say --force, or stop it",
        there ? "the device %s is not there yet" : "the guest has not let go of the device %s yet",
        name);
}

static int change(struct cli *c, bool add) {
    json_t *args = cli_args(c, c->command->op), *vm = NULL;
    char name[NAME];
    int r;

    canonical(c->name[1], name);
    json_object_set_new(args, "device", json_string(c->name[1]));
    r = remote_call(c->remote, "POST", args, &vm, &c->failure, "/v1/vms/%s/%s", c->name[0],
                    c->command->op);
    if (r == 0 && !cli_true(c, "no_wait"))
        r = await(c, &vm, name, add);
    if (r == 0 && c->json)
        show_json(vm);
    else if (r == 0)
        show_note(c, "'%s' has the device %s%s%s", c->name[0], name, add ? "" : " no more",
                  is_up(vm) || !add ? "" : " from its next start on");
    json_decref(vm);
    return r;
}

int do_device_add(struct cli *c) { return change(c, true); }

int do_device_rm(struct cli *c) { return change(c, false); }

static void add_row(json_t *rows, const json_t *vm, const char *name, const char *state) {
    json_array_append_new(rows, json_pack("{s:s, s:s, s:s, s:s, s:s}", "machine",
                                          item_text(vm, NULL, "name"), "device", name, "driver",
                                          item_text(status_of(vm, "lent"), NULL, name), "state",
                                          state, "reason",
                                          item_text(status_of(vm, "device_errors"), NULL, name)));
}

/* Those that are wanted, those that the guest has not let go of, and those on their way back. */
static void add_rows(json_t *rows, const json_t *vm) {
    const json_t *wanted = json_object_get(json_object_get(vm, "spec"), "devices");
    const json_t *there = status_of(vm, "host_devices"), *lent = status_of(vm, "lent"), *one;
    const char *key;
    char name[NAME];
    size_t i;

    json_array_foreach(wanted, i, one) {
        canonical(json_string_value(one), name);
        add_row(rows, vm, name,
                has(there, name)                                         ? "there"
                : *item_text(status_of(vm, "device_errors"), NULL, name) ? "failed"
                : is_up(vm)                                              ? "coming"
                                                                         : "off");
    }
    json_array_foreach(there, i, one)
        if (!has(wanted, json_string_value(one)))
            add_row(rows, vm, json_string_value(one), "going");
    json_object_foreach((json_t *)lent, key, one)
        if (!has(wanted, key) && !has(there, key))
            add_row(rows, vm, key, "going");
}

int do_device_list(struct cli *c) {
    static const struct field columns[] = {
        {.name = "machine", .type = FIELD_STRING, .column = "MACHINE"},
        {.name = "device", .type = FIELD_STRING, .column = "DEVICE"},
        {.name = "driver", .type = FIELD_STRING, .column = "TAKEN FROM"},
        {.name = "state", .type = FIELD_STRING, .column = "STATE"},
        {.name = "reason", .type = FIELD_STRING, .column = "REASON"},
        {0}};
    static const struct resource table = {.plain = true, .fields = columns};

    return cli_list_parts(c, &table, add_rows);
}
