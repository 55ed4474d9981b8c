/* SPDX-License-Identifier: GPL-2.0-or-later */
/* viv cdrom: media of a machine's optical drive. */
#include <string.h>
#include <time.h>

#include "cli/cli.h"

enum { LOOKS = 100, LOOK_NS = 100 * 1000 * 1000 };

/* Until the drive of a machine that runs has it, or it is known why not. */
static int await(struct cli *c, const char *file, json_t **vm) {
    static const struct timespec nap = {.tv_nsec = LOOK_NS};

    for (int i = 0; i < LOOKS; i++) {
        const char *error = item_text(*vm, "status", "medium_error");

        if (!json_object_get(json_object_get(*vm, "status"), "pid") ||
            !strcmp(item_text(*vm, "status", "medium"), file))
            return 0;
        if (*error && i > 1) /* not that of an earlier try */
            return remote_fail(&c->failure, FAILURE_CONFLICT,
                               "unmount it in the guest, which is enough, or say --force",
                               "'%s': %s", c->name[0], error);
        nanosleep(&nap, NULL);
        json_decref(*vm);
        *vm = NULL;
        if (remote_call(c->remote, "GET", NULL, vm, &c->failure, "/v1/vms/%s", c->name[0]) < 0)
            return -1;
    }
    return remote_fail(&c->failure, FAILURE_TIMEOUT, "'viv show' tells its state",
                       "the drive of '%s' has not taken it yet", c->name[0]);
}

int do_medium(struct cli *c) {
    bool insert = !strcmp(c->command->op, "insert"), drive, runs;
    json_t *args = cli_args(c, c->command->op), *vm = NULL, *file = json_string("");
    int r = remote_call(c->remote, "GET", NULL, &vm, &c->failure, "/v1/vms/%s", c->name[0]);

    if (insert) {
        json_decref(file);
        file = cli_path(c->name[1]);
        json_object_set(args, "file", file);
    }
    drive = strcmp(item_text(vm, "spec", "cdrom"), "none") != 0;
    runs = json_object_get(json_object_get(vm, "status"), "pid");
    json_decref(vm);
    vm = NULL;
    if (r < 0)
        json_decref(args);
    else
        r = remote_call(c->remote, "POST", args, &vm, &c->failure, "/v1/vms/%s/%s", c->name[0],
                        c->command->op);
    if (r == 0 && drive)
        r = await(c, json_string_value(file), &vm);
    else if (r == 0 && runs)
        show_note(c, "'%s' has an optical drive from its next start", c->name[0]);
    if (r == 0 && c->json)
        show_json(vm);
    json_decref(vm);
    json_decref(file);
    return r;
}
