/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands on volumes. */
#include <string.h>

#include "cli/cli.h"
#include "proto/units.h"

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

/* Does its machine run without it, or with it? */
static bool machine_runs(struct cli *c) {
    struct remote_failure f = {0};
    json_t *vm = NULL;
    bool runs = remote_call(c->remote, "GET", NULL, &vm, &f, "/v1/vms/%s", c->name[1]) == 0 &&
                strcmp(item_text(vm, "spec", "power"), "off") != 0;

    json_decref(vm);
    return runs;
}

int do_volume_attach(struct cli *c) {
    json_t *volume = NULL;
    int r = remote_call(c->remote, "POST", json_pack("{s:s}", "vm", c->name[1]), &volume,
                        &c->failure, "/v1/volumes/%s/attach", c->name[0]);

    if (r == 0 && c->json)
        show_json(volume);
    else if (r == 0)
        show_note(c, "'%s' is a disk of '%s'%s: /dev/disk/by-id/virtio-%s", c->name[0], c->name[1],
                  machine_runs(c) ? " from its next start" : "", c->name[0]);
    json_decref(volume);
    return r;
}

int do_volume_detach(struct cli *c) {
    json_t *volume = NULL;
    int r = remote_call(c->remote, "POST", NULL, &volume, &c->failure, "/v1/volumes/%s/detach",
                        c->name[0]);

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
    return 0;
}
