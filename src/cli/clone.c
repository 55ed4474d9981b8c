/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copies of machines: clones and templates. */
#include <string.h>

#include "cli/cli.h"

enum { SETTLE_SECONDS = 24 * 3600 };

static const char *mode_of(struct cli *c) {
    static const char *const modes[] = {"linked", "full", "live"};
    const char *mode = NULL;

    for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
        if (cli_true(c, modes[i])) {
            if (mode) {
                remote_fail(&c->failure, FAILURE_INVALID, "leave one of them out",
                            "--%s and --%s cannot be both", mode, modes[i]);
                return NULL;
            }
            mode = modes[i];
        }
    return mode ? mode : "linked";
}

static int wait_made(struct cli *c, const json_t *clone, json_t **ret) {
    const char *job = item_text(clone, "status", "job");
    int r = *job ? cli_wait_job(c, job, c->name[1]) : 0;

    if (r == 0)
        r = cli_settle(c, c->name[1], SETTLE_SECONDS, ret);
    if (r == 0 && !strcmp(item_text(*ret, "status", "state"), "failed"))
        r = remote_fail(&c->failure, FAILURE_FAILED, "'viv rm' removes it", "'%s' failed: %s",
                        c->name[1], item_text(*ret, "status", "reason"));
    return r;
}

/* What belongs to one machine alone is not copied: that is said, before somebody misses it. */
static void tell_left(const struct cli *c, const json_t *vm) {
    static const struct {
        const char *field, *remedy;
    } left[] = {{"forward", "'viv forward add' gives it others"},
                {"volumes", "'viv volume attach' gives it others"}};
    char names[300];

    for (unsigned i = 0; i < sizeof(left) / sizeof(left[0]); i++) {
        const struct field *f = field_find(c->resource->fields, left[i].field);

        show_value(f, json_object_get(json_object_get(vm, "spec"), f->name), names, sizeof(names));
        if (*names)
            show_note(c, "'%s' has none of the %s of '%s' (%s): %s", c->name[1],
                      i ? "volumes" : "forwards", c->name[0], names, left[i].remedy);
    }
}

int do_clone(struct cli *c) {
    const char *mode = mode_of(c);
    json_t *clone = NULL, *made = NULL, *vm = NULL, *args;
    int r;

    if (!mode ||
        remote_call(c->remote, "GET", NULL, &vm, &c->failure, "/v1/vms/%s", c->name[0]) < 0)
        return -1;
    args = cli_args(c, "clone");
    json_object_set_new(args, "name", json_string(c->name[1]));
    json_object_set_new(args, "mode", json_string(mode));
    r = remote_call(c->remote, "POST", args, &clone, &c->failure, "/v1/vms/%s/clone", c->name[0]);
    if (r == 0 && !cli_true(c, "no_wait"))
        r = wait_made(c, clone, &made);
    if (r == 0 && c->json)
        show_json(made ? made : clone);
    else if (r == 0)
        show_note(c, "'%s' is %s", c->name[1], item_text(made ? made : clone, "status", "state"));
    if (r == 0)
        tell_left(c, vm);
    json_decref(vm);
    json_decref(made);
    json_decref(clone);
    return r;
}

/* ------------------------------------------------------------------ templates */

int do_template_create(struct cli *c) {
    json_t *image = NULL;
    int r;

    if (!cli_given(c, "from"))
        return remote_fail(&c->failure, FAILURE_INVALID, "add --from MACHINE",
                           "say which machine it is made of");
    r = remote_call(c->remote, "POST",
                    json_pack("{s:s, s:o}", "name", c->name[0], "spec",
                              cli_spec(c, resource_op(c->resource, "create"))),
                    &image, &c->failure, "/v1/images");
    if (r == 0 && !cli_true(c, "no_wait"))
        r = cli_wait_job(c, item_text(image, "status", "job"), c->name[0]);
    if (r == 0 && c->json)
        show_json(image);
    else if (r == 0)
        show_note(c, cli_true(c, "no_wait") ? "'%s' is being made" : "'%s' is ready", c->name[0]);
    json_decref(image);
    return r;
}

int do_template_list(struct cli *c) {
    json_object_set_new(c->flags, "kind", json_string("template"));
    return do_list(c);
}
