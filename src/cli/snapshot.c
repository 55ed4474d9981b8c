/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands on snapshots. "web before" is the snapshot web.before of the machine web. */
#include <string.h>

#include "cli/cli.h"

enum { WAIT_SECONDS = 30 };

/* In pieces, so that a connection that breaks costs nothing. */
static int wait_ready(struct cli *c, json_t **ret) {
    const char *reason;
    int r;

    do
        r = remote_call(c->remote, "GET", NULL, ret, &c->failure,
                        "/v1/snapshots/%s.%s/wait?timeout=%d", c->name[0], c->name[1],
                        WAIT_SECONDS);
    while (r < 0 && c->failure.kind == FAILURE_TIMEOUT);
    if (r < 0)
        return r;
    reason = item_text(*ret, "status", "reason");
    return *reason ? remote_fail(&c->failure, FAILURE_FAILED, "", "%s", reason) : 0;
}

static int finish(struct cli *c, json_t *item, const char *word) {
    json_t *ready = NULL;
    int r = cli_true(c, "no_wait") ? 0 : wait_ready(c, &ready);

    if (r == 0 && c->json)
        show_json(ready ? ready : item);
    else if (r == 0 && ready)
        show_note(c, word, c->name[0], c->name[1]);
    if (r == 0 && !c->json && *item_text(ready ? ready : item, "status", "note"))
        show_note(c, "%s", item_text(ready ? ready : item, "status", "note"));
    json_decref(ready);
    json_decref(item);
    return r;
}

int do_snapshot_create(struct cli *c) {
    json_t *spec = cli_spec(c, resource_op(c->resource, "create")), *item = NULL;
    char name[160];

    snprintf(name, sizeof(name), "%.70s.%.70s", c->name[0], c->name[1]);
    json_object_set_new(spec, "vm", json_string(c->name[0]));
    if (remote_call(c->remote, "POST", json_pack("{s:s, s:o}", "name", name, "spec", spec), &item,
                    &c->failure, "/v1/snapshots") < 0)
        return -1;
    return finish(c, item, "'%s' is kept as '%s'");
}

int do_snapshot_revert(struct cli *c) {
    json_t *item = NULL, *vm = NULL;
    int r = remote_call(c->remote, "POST", NULL, &item, &c->failure, "/v1/snapshots/%s.%s/revert",
                        c->name[0], c->name[1]);

    if (r == 0)
        r = finish(c, item, "'%s' is as it was at '%s'");
    if (r == 0 && !cli_true(c, "no_wait"))
        r = cli_settle(c, c->name[0], WAIT_SECONDS * 10, &vm);
    json_decref(vm);
    return r;
}

int do_snapshot_rm(struct cli *c) {
    int r = remote_call(c->remote, "DELETE", NULL, NULL, &c->failure, "/v1/snapshots/%s.%s",
                        c->name[0], c->name[1]);

    if (r == 0)
        show_names(c, "deleted");
    if (r == 0)
        show_note(c, "'%s' of '%s' is forgotten", c->name[1], c->name[0]);
    return r;
}
