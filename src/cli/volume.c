/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands on volumes. */
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "proto/units.h"

enum { LOOKS = 300, LOOK_NS = 100 * 1000 * 1000 };

/* What a request came to, once it has. */
static int finish(struct cli *c, int r, json_t *volume, const char *done) {
    json_t *ready = NULL;
    const char *reason;

    if (r == 0 && !cli_true(c, "no_wait"))
        r = cli_wait_ready(c, c->resource, c->name[0], &ready);
    reason = item_text(ready, "status", "reason");
    if (r == 0 && c->json)
        show_json(ready ? ready : volume);
    else if (r == 0)
        show_note(c, "'%s' %s%s%s", c->name[0], *reason ? "is not as wanted yet" : done,
                  *reason ? ": " : "", reason);
    json_decref(volume);
    json_decref(ready);
    return r;
}

int do_volume_create(struct cli *c) {
    json_t *body = json_pack("{s:s, s:o}", "name", c->name[0], "spec",
                             cli_spec(c, resource_op(c->resource, "create")));
    json_t *volume = NULL;
    int r = remote_call(c->remote, "POST", body, &volume, &c->failure, "/v1/volumes");

    return finish(c, r, volume, "is made");
}

int do_volume_resize(struct cli *c) {
    const struct field *f = field_find(c->resource->fields, "size");
    struct error err = {0};
    json_t *volume = NULL, *size = field_read(f, c->name[1], &err);
    int r;

    if (!size)
        return remote_fail(&c->failure, FAILURE_INVALID, "", "%s", err.text);
    r = remote_call(c->remote, "PATCH", json_pack("{s:{s:o}}", "spec", "size", size), &volume,
                    &c->failure, "/v1/volumes/%s", c->name[0]);
    return finish(c, r, volume, "is larger");
}

/* Until the machine tells why it cannot be plugged in or let go of, "" if all is well. */
static int look_for_error(struct cli *c, const char *vm_name, const char *remedy) {
    json_t *vm = NULL;
    const char *error;
    int r = 0;

    if (remote_call(c->remote, "GET", NULL, &vm, &c->failure, "/v1/vms/%s", vm_name) < 0)
        return -1;
    error = item_text(json_object_get(vm, "status"), "volume_errors", c->name[0]);
    if (*error)
        r = remote_fail(&c->failure, FAILURE_CONFLICT, remedy, "'%s': %s", c->name[0], error);
    json_decref(vm);
    return r;
}

/* Until its machine has let go of it. */
static int await_free(struct cli *c, json_t **volume) {
    static const struct timespec nap = {.tv_nsec = LOOK_NS};

    for (int i = 0; i < LOOKS; i++) {
        char vm[100];

        snprintf(vm, sizeof(vm), "%s", item_text(*volume, "status", "vm"));
        if (!*vm)
            return 0;
        if (i && look_for_error(c, vm, "unmount it in the guest, or say --force, or stop it") < 0)
            return -1;
        nanosleep(&nap, NULL);
        json_decref(*volume);
        *volume = NULL;
        if (remote_call(c->remote, "GET", NULL, volume, &c->failure, "/v1/volumes/%s", c->name[0]) <
            0)
            return -1;
    }
    return remote_fail(&c->failure, FAILURE_TIMEOUT,
                       "say --force, or stop it; it is taken away when the guest lets go of it",
                       "the guest has not let go of '%s' yet", c->name[0]);
}

int do_volume_attach(struct cli *c) {
    json_t *volume = NULL;
    int r = remote_call(c->remote, "POST", json_pack("{s:s}", "vm", c->name[1]), &volume,
                        &c->failure, "/v1/volumes/%s/attach", c->name[0]);

    if (r == 0 && c->json)
        show_json(volume);
    else if (r == 0)
        show_note(c, "'%s' is a disk of '%s': /dev/disk/by-id/virtio-%s", c->name[0], c->name[1],
                  c->name[0]);
    json_decref(volume);
    return r;
}

int do_volume_detach(struct cli *c) {
    json_t *volume = NULL;
    int r = remote_call(c->remote, "POST", cli_args(c, "detach"), &volume, &c->failure,
                        "/v1/volumes/%s/detach", c->name[0]);

    if (r == 0)
        r = await_free(c, &volume);
    if (r == 0 && c->json)
        show_json(volume);
    else if (r == 0)
        show_note(c, "'%s' is attached to nothing", c->name[0]);
    json_decref(volume);
    return r;
}

int do_volume_rm(struct cli *c) {
    for (unsigned i = 0; i < c->names; i++) {
        if (remote_call(c->remote, "DELETE", NULL, NULL, &c->failure, "/v1/volumes/%s",
                        c->name[i]) < 0)
            return -1;
        show_note(c, "'%s' is deleted", c->name[i]);
    }
    show_names(c, "deleted");
    return 0;
}
