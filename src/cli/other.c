/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands that are the same for several resources, and those on images, jobs, events, the host. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "proto/oci_ref.h"
#include "proto/units.h"

enum { TARGET = 600, NEWEST = 20 };

/* ------------------------------------------------------------------ lists */

static bool wants_newest(const struct cli *c) {
    return cli_true(c, "newest") || cli_given(c, "number");
}

/* "&state=running" of what was given; values of these flags need no encoding. */
static void put_filters(const struct cli *c, char *out, size_t size) {
    size_t at = strlen(out);

    if (wants_newest(c))
        at += (size_t)snprintf(out + at, size - at, "&newest=true");
    for (const struct field *f = c->resource->fields; f->type != FIELD_END; f++)
        if (f->flags & FIELD_FILTER && cli_given(c, f->name) && at < size)
            at += (size_t)snprintf(out + at, size - at, "&%s=%s", f->name, cli_text(c, f->name));
}

/* All there are come page by page, the newest alone in one. */
static int page_size(const struct cli *c) {
    return wants_newest(c) ? (int)cli_number(c, "number", NEWEST) : 1000;
}

int cli_list(struct cli *c, json_t **ret) {
    char after[80] = "";

    *ret = json_array();
    do {
        char target[TARGET];
        json_t *page = NULL;

        snprintf(target, sizeof(target), "/v1/%s?limit=%d%s%s", c->resource->plural, page_size(c),
                 *after ? "&after=" : "", after);
        put_filters(c, target, sizeof(target));
        if (remote_call(c->remote, "GET", NULL, &page, &c->failure, "%s", target) < 0)
            return -1;
        json_array_extend(*ret, json_object_get(page, "items"));
        snprintf(after, sizeof(after), "%s", item_text(page, NULL, "next"));
        json_decref(page);
    } while (*after);
    return 0;
}

int cli_list_parts(struct cli *c, const struct resource *table,
                   void (*add_rows)(json_t *rows, const json_t *vm)) {
    json_t *vms = NULL, *rows = json_array();
    const json_t *vm;
    size_t i;
    int r = cli_list(c, &vms);

    json_array_foreach(vms, i, vm)
        if (!cli_given(c, "vm") || !strcmp(cli_text(c, "vm"), item_text(vm, NULL, "name")))
            add_rows(rows, vm);
    if (r == 0 && c->json)
        show_json(rows);
    else if (r == 0)
        show_table(table, rows);
    json_decref(rows);
    json_decref(vms);
    return r;
}

int do_list(struct cli *c) {
    json_t *items = NULL, *item;
    int r = cli_list(c, &items);
    size_t i;

    if (r == 0 && cli_true(c, "quiet")) {
        json_array_foreach(items, i, item)
            puts(item_text(item, NULL, "name"));
    } else if (r == 0 && c->json)
        show_json(items);
    else if (r == 0 && cli_true(c, "yaml"))
        show_yaml(c->resource, items);
    else if (r == 0 && !json_array_size(items))
        show_note(c, "there is no %s%s",
                  c->command->run == do_template_list ? "template" : c->resource->noun,
                  !strcmp(c->resource->name, "vm") ? "; 'viv run debian' makes one" : "");
    else if (r == 0)
        show_table(c->resource, items);
    json_decref(items);
    return r;
}

/* What a machine uses, below what it is. */
static int show_usage(struct cli *c, struct remote_failure *f) {
    const struct resource *usage = resource_find("usage");
    json_t *item = NULL;
    int r = remote_call(c->remote, "GET", NULL, &item, f, "/v1/usage/%s", c->name[0]);

    if (json_object_get(item, "time")) { /* there is a process that answers */
        putchar('\n');
        show_fields(usage, "time", item);
        cli_show_history(c, c->name[0], 19);
    }
    json_decref(item);
    return r;
}

static void show_one_yaml(const struct resource *r, json_t *item) {
    json_t *items = json_pack("[O]", item);

    show_yaml(r, items);
    json_decref(items);
}

int do_show(struct cli *c) {
    json_t *item = NULL;
    int r = remote_call(c->remote, "GET", NULL, &item, &c->failure, "/v1/%s/%s",
                        c->resource->plural, c->name[0]);

    bool yaml = cli_true(c, "yaml");

    if (r == 0 && c->json)
        show_json(item);
    else if (r == 0 && yaml)
        show_one_yaml(c->resource, item);
    else if (r == 0)
        show_item(c->resource, item);
    if (r == 0 && !c->json && !yaml && !strcmp(c->resource->name, "vm"))
        r = show_usage(c, &c->failure);
    json_decref(item);
    return r;
}

/* ------------------------------------------------------------------ images and jobs */

/* "debian:13,packages=vim,git": the image debian-13 with these packages as well. False: it is none.
 */
static bool read_build(const char *word, json_t *spec, char *base, size_t size) {
    const char *more = strchr(word, ','), *version = strchr(word, ':');
    json_t *list = json_object_get(spec, "packages");
    size_t n = more ? (size_t)(more - word) : strlen(word);

    if (n >= size)
        return false;
    snprintf(base, size, "%.*s", (int)n, word);
    if (version && (!more || version < more))
        base[version - word] = '-';
    if (!more)
        return true;
    if (strncmp(more, ",packages=", 10) != 0 || !more[10])
        return false;
    if (!list)
        json_object_set_new(spec, "packages", list = json_array());
    for (const char *s = more + 10; *s; s += n + (s[n] == ',')) {
        n = strcspn(s, ",");
        if (n)
            json_array_append_new(list, json_stringn(s, n));
    }
    return true;
}

int do_build(struct cli *c) {
    json_t *spec = cli_spec(c, resource_op(c->resource, "create")), *image = NULL;
    const char *name = cli_given(c, "name") ? cli_text(c, "name") : NULL;
    char base[80];
    int r;

    if (!read_build(c->name[0], spec, base, sizeof(base))) {
        json_decref(spec);
        return remote_fail(&c->failure, FAILURE_INVALID, "write it as debian:13,packages=vim,git",
                           "'%.80s' does not say what is to be built", c->name[0]);
    }
    if (name && !json_object_get(spec, "base"))
        json_object_set_new(spec, "base", json_string(base));
    name = name ? name : base;
    r = remote_call(c->remote, "POST", json_pack("{s:s, s:o}", "name", name, "spec", spec), &image,
                    &c->failure, "/v1/images");
    if (r == 0 && !cli_true(c, "no_wait"))
        r = cli_wait_job(c, item_text(image, "status", "job"), name);
    if (r == 0 && c->json)
        show_json(image);
    else if (r == 0)
        show_note(c, cli_true(c, "no_wait") ? "'%s' is being made" : "'%s' is ready", name);
    json_decref(image);
    return r;
}

static int image_job(struct cli *c, int r, json_t *image, const char *done) {
    if (r == 0 && !cli_true(c, "no_wait"))
        r = cli_wait_job(c, item_text(image, "status", "job"), c->name[0]);
    if (r == 0 && c->json)
        show_json(image);
    else if (r == 0)
        show_note(c, "'%s' %s", c->name[0], cli_true(c, "no_wait") ? "has a job" : done);
    json_decref(image);
    return r;
}

/* What file is meant, and of an OCI image which: "oci:FILE:TAG". Machines of such need a kernel. */
static int put_file(struct cli *c, json_t *spec) {
    struct error err = {0};
    struct oci_ref ref;
    int r;

    if (!oci_ref_is(c->name[1])) {
        json_object_set_new(spec, "file", cli_path(c->name[1]));
        return 0;
    }
    if (oci_ref_parse(c->name[1], &ref, &err) < 0)
        return remote_fail(&c->failure, FAILURE_INVALID, "", "%s", err.text);
    json_object_set_new(spec, "file", cli_path(ref.path));
    json_object_set_new(spec, "format", json_string("oci"));
    if (*ref.tag)
        json_object_set_new(spec, "reference", json_string(ref.tag));
    r = json_object_get(spec, "kernel") ? 0 : cli_ensure_image(c, "tiny");
    if (r == 0)
        c->failure = (struct remote_failure){0};
    return r;
}

int do_import(struct cli *c) {
    json_t *spec = cli_spec(c, resource_op(c->resource, "create")), *image = NULL;
    int r = put_file(c, spec);

    if (r < 0) {
        json_decref(spec);
        return r;
    }
    r = remote_call(c->remote, "POST", json_pack("{s:s, s:o}", "name", c->name[0], "spec", spec),
                    &image, &c->failure, "/v1/images");
    return image_job(c, r, image, "is ready");
}

int do_export(struct cli *c) {
    json_t *args = cli_args(c, "export"), *image = NULL;
    int r;

    json_object_set_new(args, "file", cli_path(c->name[1]));
    r = remote_call(c->remote, "POST", args, &image, &c->failure, "/v1/images/%s/export",
                    c->name[0]);
    return image_job(c, r, image, "is exported");
}

int do_image_rm(struct cli *c) {
    for (unsigned i = 0; i < c->names; i++) {
        if (remote_call(c->remote, "DELETE", NULL, NULL, &c->failure, "/v1/images/%s", c->name[i]) <
            0)
            return -1;
        show_note(c, "'%s' is deleted", c->name[i]);
    }
    show_names(c, "deleted");
    return 0;
}

int do_job_wait(struct cli *c) {
    json_t *job = NULL;
    int r = cli_wait_job(c, c->name[0], c->name[0]);

    if (r == 0 && c->json)
        r = remote_call(c->remote, "GET", NULL, &job, &c->failure, "/v1/jobs/%s", c->name[0]);
    if (job)
        show_json(job);
    json_decref(job);
    return r;
}

int do_job_cancel(struct cli *c) {
    json_t *job = NULL;
    int r =
        remote_call(c->remote, "POST", NULL, &job, &c->failure, "/v1/jobs/%s/cancel", c->name[0]);

    if (r == 0 && c->json)
        show_json(job);
    json_decref(job);
    return r;
}

/* ------------------------------------------------------------------ events */

int do_events(struct cli *c) {
    json_t *items = NULL, *item;
    int r = cli_list(c, &items);
    size_t i;

    if (r == 0 && c->json)
        show_json(items);
    else if (r == 0)
        json_array_foreach(items, i, item)
            show_event(item);
    json_decref(items);
    return r;
}

/* Goes on where it was when the manager is ended and started again. */
int do_follow(struct cli *c) {
    char target[TARGET], last[40] = "";

    snprintf(target, sizeof(target), "/v1/events?limit=%d", page_size(c));
    put_filters(c, target, sizeof(target));
    for (;;) {
        json_t *e;

        if (remote_follow(c->remote, target, last, &c->failure) < 0)
            return -1;
        while ((e = remote_next(c->remote, &c->failure))) {
            snprintf(last, sizeof(last), "%lld",
                     (long long)json_integer_value(json_object_get(e, "seq")));
            if (c->json) {
                json_dumpf(e, stdout, JSON_COMPACT);
                putchar('\n');
            } else {
                show_event(e);
            }
            json_decref(e);
            if (fflush(stdout) == EOF)
                return 0; /* nobody reads any more */
        }
    }
}

/* ------------------------------------------------------------------ the host */

int do_doctor(struct cli *c) {
    json_t *host = NULL, *checks, *one;
    const char *name;
    bool bad = false;
    int r = remote_call(c->remote, "GET", NULL, &host, &c->failure, "/v1/hosts/local/doctor");

    checks = json_object_get(host, "checks");
    if (r == 0 && c->json)
        show_json(host);
    json_object_foreach(checks, name, one) {
        const char *state = item_text(one, NULL, "state"), *remedy = item_text(one, NULL, "remedy");

        bad |= !strcmp(state, "bad");
        if (!c->json)
            printf("%-5s %-12s %s%s%s\n", state, name, item_text(one, NULL, "text"),
                   *remedy ? "; remedy: " : "", remedy);
    }
    if (r == 0 && !c->json)
        printf("      %-12s version %s, process %lld, looks after %s\n", "manager",
               item_text(host, NULL, "version"),
               (long long)json_integer_value(json_object_get(host, "pid")),
               item_text(host, NULL, "folder"));
    json_decref(host);
    if (r == 0 && bad)
        return remote_fail(&c->failure, FAILURE_FAILED, "the lines above say what to do",
                           "something is missing on this host");
    return r;
}

static void show_device(const json_t *d) {
    const json_t *group = json_object_get(d, "iommu_group");
    const char *driver = item_text(d, NULL, "driver"), *of = item_text(d, NULL, "function_of");
    char number[24] = "-", node[24] = "-";

    if (group)
        snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(group));
    if (json_integer_value(json_object_get(d, "numa_node")) >= 0)
        snprintf(node, sizeof(node), "%lld",
                 (long long)json_integer_value(json_object_get(d, "numa_node")));
    printf("%-13s %-6s %-5s %s:%s  %-12s %s%s%s\n", item_text(d, NULL, "address"), number, node,
           item_text(d, NULL, "vendor"), item_text(d, NULL, "device"), item_text(d, NULL, "kind"),
           *driver ? driver : "-", *of ? ", a function of " : "", of);
}

int do_host_devices(struct cli *c) {
    json_t *host = NULL;
    const json_t *hardware, *one;
    size_t i;
    char size[24];
    int r = remote_call(c->remote, "GET", NULL, &host, &c->failure, "/v1/hosts/local/devices");

    hardware = json_object_get(host, "hardware");
    if (r == 0 && c->json)
        show_json(hardware);
    if (r == 0 && !c->json) {
        printf("%-13s %-6s %-5s %-10s %-12s %s\n", "ADDRESS", "GROUP", "NODE", "ID", "KIND",
               "DRIVER");
        json_array_foreach(json_object_get(hardware, "devices"), i, one)
            show_device(one);
        json_array_foreach(json_object_get(hardware, "numa_nodes"), i, one) {
            units_put_size(json_integer_value(json_object_get(one, "memory")), size, sizeof(size));
            printf("NUMA node %lld: processors %s, memory %s\n",
                   (long long)json_integer_value(json_object_get(one, "node")),
                   item_text(one, NULL, "cpus"), size);
        }
    }
    json_decref(host);
    return r;
}

int do_completion(struct cli *c) {
    if (cli_completion(c->name[0], stdout))
        return 0;
    return remote_fail(&c->failure, FAILURE_INVALID, "choose bash, zsh or fish",
                       "there is no completion for the shell '%.40s'", c->name[0]);
}
