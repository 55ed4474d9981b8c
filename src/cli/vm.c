/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands on machines. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"

enum { SETTLE_SECONDS = 24 * 3600, PENDING_LOOKS = 100, PENDING_NAP_NS = 100 * 1000 * 1000 };

/* ------------------------------------------------------------------ making */

int cli_create(struct cli *c, const char *name, json_t *spec, bool on, json_t **ret) {
    if (on)
        json_object_set_new(spec, "power", json_string("on"));
    return remote_call(c->remote, "POST", json_pack("{s:s, s:o}", "name", name, "spec", spec), ret,
                       &c->failure, "/v1/vms");
}

int cli_check_started(struct cli *c, const json_t *vm) {
    const char *state = item_text(vm, "status", "state");
    const char *reason = item_text(vm, "status", "reason");
    const char *words = item_text(vm, "status", "last_words"), *last = strrchr(words, '\n');

    if (strcmp(state, "failed") != 0)
        return 0;
    return remote_fail(&c->failure, FAILURE_FAILED, "", "'%s' failed: %s%s%s",
                       item_text(vm, NULL, "name"), reason, *words ? ": " : "",
                       last ? last + 1 : words);
}

/* The image is made first if it is not there, as by 'viv run'. */
static int find_image(struct cli *c, json_t *spec) {
    const char *word = item_text(spec, NULL, "image");
    char image[80], base[80];
    int r;

    if (!*word || !strcmp(word, "none"))
        return 0;
    r = cli_find_image(c, word, image, base);
    if (r == 0)
        json_object_set_new(spec, "image", json_string(image));
    return r;
}

int do_create(struct cli *c) {
    bool start = cli_true(c, "start");
    json_t *vm = NULL, *settled = NULL, *spec = cli_spec(c, resource_op(c->resource, "create"));
    int r = 0;

    if (cli_given(c, "template"))
        json_object_set_new(spec, "image", json_string(cli_text(c, "template")));
    else
        r = find_image(c, spec);
    if (r < 0) {
        json_decref(spec);
        return r;
    }
    r = cli_create(c, c->name[0], spec, start, &vm);
    if (r == 0 && !cli_true(c, "no_wait")) {
        r = cli_settle(c, c->name[0], SETTLE_SECONDS, &settled);
        if (r == 0)
            r = cli_check_started(c, settled);
    }
    if (r == 0 && c->json)
        show_json(settled ? settled : vm);
    else if (r == 0)
        show_note(c, "'%s' is %s", c->name[0],
                  item_text(settled ? settled : vm, "status", "state"));
    json_decref(vm);
    json_decref(settled);
    return r;
}

/* ------------------------------------------------------------------ the console */

/* After it: what became of the machine. */
static int look_at_end(struct cli *c, const char *name, bool detached) {
    json_t *vm = NULL;
    int r;

    if (detached) {
        show_note(c, "'%s' runs on: 'viv console %s' attaches again, 'viv stop %s' shuts it down",
                  name, name, name);
        return 0;
    }
    r = cli_settle(c, name, SETTLE_SECONDS, &vm);
    if (r == 0)
        r = cli_check_started(c, vm);
    if (r == 0)
        show_note(c, "'%s' is %s", name, item_text(vm, "status", "state"));
    json_decref(vm);
    return r;
}

int cli_attach(struct cli *c, const char *name) {
    int r = cli_console(c, name);

    return r < 0 ? r : look_at_end(c, name, r == 0) < 0 ? -1 : r;
}

int do_console(struct cli *c) {
    int r = cli_attach(c, c->name[0]);

    return r < 0 ? r : 0;
}

/* ------------------------------------------------------------------ one verb, some machines */

static int settle_one(struct cli *c, const char *name, json_t *all) {
    const char *verb = c->command->words;
    json_t *vm = NULL;
    int r = cli_settle(c, name, SETTLE_SECONDS, &vm);
    bool starts = !strcmp(verb, "start") || !strcmp(verb, "restart");

    if (r == 0 && starts)
        r = cli_check_started(c, vm);
    if (r == 0)
        show_note(c, "'%s' is %s", name, item_text(vm, "status", "state"));
    if (r == 0)
        json_array_append(all, vm);
    json_decref(vm);
    return r;
}

/* All are asked before any is waited for. The first failure is the exit code; all are told. */
int do_action(struct cli *c) {
    struct remote_failure first = {0};
    json_t *all = json_array();
    bool asked[CLI_MAX_NAMES];

    for (unsigned i = 0; i < c->names; i++) {
        json_t *vm = NULL;

        asked[i] = remote_call(c->remote, "POST", cli_args(c, c->command->op), &vm, &c->failure,
                               "/v1/vms/%s/%s", c->name[i], c->command->op) == 0;
        if (asked[i] && cli_true(c, "no_wait"))
            json_array_append(all, vm);
        json_decref(vm);
        if (!asked[i] && first.kind == FAILURE_NONE)
            first = c->failure;
        else if (!asked[i])
            show_failure(c);
    }
    for (unsigned i = 0; i < c->names && !cli_true(c, "no_wait"); i++)
        if (asked[i] && settle_one(c, c->name[i], all) < 0) {
            if (first.kind == FAILURE_NONE)
                first = c->failure;
            else
                show_failure(c);
        }
    if (c->json)
        show_json(c->names == 1 && json_array_size(all) ? json_array_get(all, 0) : all);
    json_decref(all);
    c->failure = first;
    return first.kind == FAILURE_NONE ? 0 : -1;
}

int do_rm(struct cli *c) {
    struct remote_failure first = {0};
    bool asked[CLI_MAX_NAMES];

    for (unsigned i = 0; i < c->names; i++) {
        asked[i] = remote_call(c->remote, "DELETE", NULL, NULL, &c->failure, "/v1/vms/%s%s",
                               c->name[i], cli_true(c, "force") ? "?force=true" : "") == 0;
        if (!asked[i] && first.kind == FAILURE_NONE)
            first = c->failure;
        else if (!asked[i])
            show_failure(c);
    }
    for (unsigned i = 0; i < c->names && !cli_true(c, "no_wait"); i++)
        if (asked[i] && cli_gone(c, c->name[i]) < 0 && first.kind == FAILURE_NONE)
            first = c->failure;
        else if (asked[i])
            show_note(c, "'%s' is deleted", c->name[i]);
    if (first.kind == FAILURE_NONE)
        show_names(c, "deleted");
    c->failure = first;
    return first.kind == FAILURE_NONE ? 0 : -1;
}

/* What a machine that runs has soon, it has by now; the rest is told. */
static int tell_pending(struct cli *c, json_t **vm) {
    static const struct timespec nap = {.tv_nsec = PENDING_NAP_NS};
    const char *field;
    json_t *why;
    bool soon = true;

    for (int i = 0; i < PENDING_LOOKS && soon; i++) {
        if (i) {
            nanosleep(&nap, NULL);
            json_decref(*vm);
            *vm = NULL;
            if (remote_call(c->remote, "GET", NULL, vm, &c->failure, "/v1/vms/%s", c->name[0]) < 0)
                return -1;
        }
        soon = false;
        json_object_foreach(json_object_get(json_object_get(*vm, "status"), "pending"), field, why)
            soon |= !strcmp(json_string_value(why), "it is on its way");
    }
    json_object_foreach(json_object_get(json_object_get(*vm, "status"), "pending"), field, why)
        show_note(c, "%s: %s", field, json_string_value(why));
    return 0;
}

int do_edit(struct cli *c) {
    json_t *spec = cli_spec(c, resource_op(c->resource, "update")), *vm = NULL;
    int r;

    if (!json_object_size(spec)) {
        json_decref(spec);
        return remote_fail(&c->failure, FAILURE_INVALID, "'viv edit --help' lists the flags",
                           "say what is to change");
    }
    r = remote_call(c->remote, "PATCH", json_pack("{s:o}", "spec", spec), &vm, &c->failure,
                    "/v1/vms/%s", c->name[0]);
    if (r == 0)
        r = tell_pending(c, &vm);
    if (r == 0 && c->json)
        show_json(vm);
    json_decref(vm);
    return r;
}

int do_logs(struct cli *c) {
    struct buf text = {0};
    bool old = cli_true(c, "old");
    int r = remote_get_text(c->remote, &text, &c->failure, "/v1/vms/%s/%s", c->name[0],
                            old                 ? "log?old=true"
                            : cli_true(c, "vm") ? "log"
                                                : "output");

    if (r == 0)
        fwrite(text.data, 1, text.len, stdout);
    buf_done(&text);
    return r;
}

int do_wait(struct cli *c) {
    const char *word = cli_given(c, "for") ? cli_text(c, "for") : "settled";
    json_t *vm = NULL;
    int r =
        remote_call(c->remote, "GET", NULL, &vm, &c->failure, "/v1/vms/%s/wait?for=%s&timeout=%lld",
                    c->name[0], word, (long long)cli_number(c, "timeout", 60));

    if (r == 0 && c->json)
        show_json(vm);
    json_decref(vm);
    return r;
}
