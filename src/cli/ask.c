/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What several commands ask the manager. */
#include <string.h>

#include "cli/cli.h"

enum { WAIT_SECONDS = 30 };

const char *item_text(const json_t *item, const char *part, const char *name) {
    const char *s =
        json_string_value(json_object_get(part ? json_object_get(item, part) : item, name));

    return s ? s : "";
}

json_t *cli_spec(const struct cli *c, const struct operation *op) {
    unsigned flag = op->shape == OP_CREATE ? FIELD_CREATE : FIELD_UPDATE;
    json_t *spec = json_object();

    for (const struct field *f = c->resource->fields; f->type != FIELD_END; f++)
        if (f->place == FIELD_SPEC && f->flags & flag && cli_given(c, f->name))
            json_object_set(spec, f->name, json_object_get(c->flags, f->name));
    return spec;
}

json_t *cli_args(const struct cli *c, const char *name) {
    const struct operation *op = resource_op(c->resource, name);
    json_t *args = json_object();

    for (const struct field *f = op->args; f->type != FIELD_END; f++)
        if (cli_given(c, f->name))
            json_object_set(args, f->name, json_object_get(c->flags, f->name));
    return args;
}

/* In pieces, so that a connection that breaks costs nothing. */
int cli_settle(struct cli *c, const char *name, int64_t seconds, json_t **ret) {
    for (; seconds > 0; seconds -= WAIT_SECONDS) {
        int r = remote_call(c->remote, "GET", NULL, ret, &c->failure,
                            "/v1/vms/%s/wait?for=settled&timeout=%d", name, WAIT_SECONDS);

        if (r == 0 || c->failure.kind != FAILURE_TIMEOUT)
            return r;
    }
    return -1;
}

int cli_wait_ready(struct cli *c, const struct resource *res, const char *name, json_t **ret) {
    json_t *item = NULL;
    int r;

    do
        r = remote_call(c->remote, "GET", NULL, &item, &c->failure, "/v1/%s/%s/wait?timeout=%d",
                        res->plural, name, WAIT_SECONDS);
    while (r < 0 && c->failure.kind == FAILURE_TIMEOUT);
    if (r == 0 && !strcmp(item_text(item, "status", "state"), "failed"))
        r = remote_fail(&c->failure, FAILURE_FAILED, "", "'%s' failed: %s", name,
                        item_text(item, "status", "reason"));
    if (r == 0 && ret)
        *ret = item;
    else
        json_decref(item);
    return r;
}

int cli_gone(struct cli *c, const char *name) {
    for (;;) {
        int r = remote_call(c->remote, "GET", NULL, NULL, &c->failure,
                            "/v1/vms/%s/wait?for=deleted&timeout=%d", name, WAIT_SECONDS);

        if (r == 0 || c->failure.kind == FAILURE_NOT_FOUND)
            return 0;
        if (c->failure.kind != FAILURE_TIMEOUT)
            return r;
    }
}

static int job_result(struct cli *c, const json_t *job) {
    const char *state = item_text(job, "status", "state");
    const char *reason = item_text(job, "status", "reason");

    if (!strcmp(state, "done"))
        return 0;
    return remote_fail(
        &c->failure, FAILURE_FAILED, "", "the job %s %s%s%s", item_text(job, NULL, "name"),
        strcmp(state, "failed") ? "was cancelled" : "failed", *reason ? ": " : "", reason);
}

int cli_wait_job(struct cli *c, const char *id, const char *what) {
    json_int_t revision = 1;

    for (;;) {
        json_t *job = NULL;
        int r = remote_call(c->remote, "GET", NULL, &job, &c->failure,
                            "/v1/jobs/%s/wait?revision=%lld&timeout=%d", id, (long long)revision,
                            WAIT_SECONDS);

        if (r < 0 && c->failure.kind == FAILURE_TIMEOUT)
            continue;
        if (r < 0)
            return r;
        revision = json_integer_value(json_object_get(job, "revision"));
        if (strcmp(item_text(job, "status", "state"), "running") != 0) {
            show_progress_end(c);
            r = job_result(c, job);
            json_decref(job);
            return r;
        }
        show_progress(
            c, what,
            (int)json_integer_value(json_object_get(json_object_get(job, "status"), "progress")),
            item_text(job, "status", "stage"));
        json_decref(job);
    }
}

static int build_image(struct cli *c, const char *name) {
    json_t *image = NULL;
    int r = remote_call(c->remote, "POST", json_pack("{s:s}", "name", name), &image, &c->failure,
                        "/v1/images");

    if (r == 0) {
        show_note(c, "the image '%s' is made first; that is done once", name);
        r = cli_wait_job(c, item_text(image, "status", "job"), name);
    }
    json_decref(image);
    return r;
}

int cli_ensure_image(struct cli *c, const char *name) {
    json_t *image = NULL;
    const char *state;
    int r = remote_call(c->remote, "GET", NULL, &image, &c->failure, "/v1/images/%s", name);

    if (r < 0)
        return c->failure.kind == FAILURE_NOT_FOUND ? build_image(c, name) : r;
    state = item_text(image, "status", "state");
    if (!strcmp(state, "building"))
        r = cli_wait_job(c, item_text(image, "status", "job"), name);
    else if (!strcmp(state, "failed"))
        r = build_image(c, name);
    json_decref(image);
    return r;
}
