/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * viv run: from the name of an image to a machine that runs, and to its console or to one command
 * in it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "proto/guest.h"
#include "proto/oci_ref.h"

enum { SETTLE_SECONDS = 24 * 3600, READY_SECONDS = 300, PIECE_SECONDS = 5, MOST_NUMBERS = 1000 };

struct run {
    struct cli *c;
    char image[80], base[80], name[100]; /* base: for names of machines */
    bool oci, command;                   /* command: it is there for one */
};

/* ------------------------------------------------------------------ the machine */

/* "grub-2.06" of /srv/grub-2.06.iso: what a name may hold. */
static void name_of_medium(const char *path, char *out, size_t size) {
    const char *slash = strrchr(path, '/'), *s = slash ? slash + 1 : path;
    size_t n = 0;

    for (; *s && n + 1 < size && n < 40; s++) {
        char ch = *s >= 'A' && *s <= 'Z' ? (char)(*s | 0x20) : *s;
        bool plain = (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9');

        if (plain || (n && strchr("-.", ch)))
            out[n++] = ch;
    }
    out[n] = 0;
    if (n > 4 && !strcmp(out + n - 4, ".iso"))
        out[n -= 4] = 0;
    while (n && strchr("-.", out[n - 1]))
        out[--n] = 0;
    if (!n)
        snprintf(out, size, "machine");
}

static int find_image(struct run *r) {
    const char *word = r->c->name[0];
    const char *medium = cli_text(r->c, "cdrom");

    if (!r->c->names || !strcmp(word, "none")) {
        snprintf(r->image, sizeof(r->image), "none");
        name_of_medium(*medium == '/' ? medium : "", r->base, sizeof(r->base));
        return 0;
    }
    r->oci = oci_ref_is(word);
    return cli_find_image(r->c, word, r->image, r->base);
}

/* In a machine that is there for one command of ours, its image's own does not run. */
static json_t *spec_of(const struct run *r) {
    json_t *spec = cli_spec(r->c, resource_op(r->c->resource, "create"));
    const char *append = item_text(spec, NULL, "append");

    json_object_set_new(spec, "image", json_string(r->image));
    if (r->oci && r->command)
        json_object_set_new(spec, "append",
                            json_sprintf("%s%sviv.command=none", append, *append ? " " : ""));
    return spec;
}

/* The first name that is free: debian, debian-2, debian-3 ... */
static int create_numbered(struct run *r) {
    json_t *spec = spec_of(r);
    int code = -1;

    for (int i = 1; i <= MOST_NUMBERS; i++) {
        if (cli_given(r->c, "name"))
            snprintf(r->name, sizeof(r->name), "%s", cli_text(r->c, "name"));
        else if (i == 1)
            snprintf(r->name, sizeof(r->name), "%s", r->base);
        else
            snprintf(r->name, sizeof(r->name), "%.58s-%d", r->base, i);
        code = cli_create(r->c, r->name, json_deep_copy(spec), true, NULL);
        if (code == 0 || r->c->failure.kind != FAILURE_EXISTS || cli_given(r->c, "name"))
            break;
    }
    json_decref(spec);
    if (code == 0)
        r->c->failure = (struct remote_failure){0};
    return code;
}

static int remove_machine(struct run *r) {
    struct remote_failure first = r->c->failure;
    int code = remote_call(r->c->remote, "DELETE", NULL, NULL, &r->c->failure,
                           "/v1/vms/%s?force=true", r->name);

    if (code == 0)
        code = cli_gone(r->c, r->name);
    if (first.kind != FAILURE_NONE)
        r->c->failure = first; /* the one to be told */
    return code;
}

/* ------------------------------------------------------------------ one command */

/* Until its agent answers; a machine that ends first is a failure. */
static int await_agent(struct run *r) {
    struct cli *c = r->c;
    int code = -1;

    for (int s = 0; s < READY_SECONDS; s += PIECE_SECONDS) {
        json_t *vm = NULL;
        const char *state;

        c->failure = (struct remote_failure){0};
        code = remote_call(c->remote, "GET", NULL, NULL, &c->failure,
                           "/v1/vms/%s/wait?for=ready&timeout=%d", r->name, PIECE_SECONDS);
        if (code == 0 || c->failure.kind != FAILURE_TIMEOUT)
            return code;
        if (remote_call(c->remote, "GET", NULL, &vm, &c->failure, "/v1/vms/%s", r->name) < 0)
            return -1;
        state = item_text(vm, "status", "state");
        code = cli_check_started(c, vm);
        if (code == 0 && !strcmp(state, "stopped"))
            code = remote_fail(&c->failure, FAILURE_FAILED, "'viv run' without a command shows why",
                               "'%s' has ended before its agent answered", r->name);
        json_decref(vm);
        if (code < 0 && c->failure.kind != FAILURE_TIMEOUT)
            return code;
    }
    return remote_fail(&c->failure, FAILURE_TIMEOUT, "docs/agent.md tells how a guest gets one",
                       "no agent answers in '%s' after %d s", r->name, READY_SECONDS);
}

static void stop(struct run *r) {
    struct remote_failure f = {0};
    json_t *vm = NULL;

    if (remote_call(r->c->remote, "POST", NULL, &vm, &f, "/v1/vms/%s/stop", r->name) == 0) {
        json_decref(vm);
        vm = NULL;
        if (cli_settle(r->c, r->name, SETTLE_SECONDS, &vm) == 0)
            show_note(r->c, "'%s' is %s", r->name, item_text(vm, "status", "state"));
    }
    json_decref(vm);
}

static int run_command(struct run *r) {
    struct cli *c = r->c;
    int code;

    if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
        json_object_set_new(c->flags, "tty", json_true());
    code = await_agent(r);
    if (code < 0)
        c->code = GUEST_NO_AGENT;
    else
        code = cli_exec(c, r->name, r->oci);
    if (cli_true(c, "rm"))
        return remove_machine(r) < 0 ? -1 : code;
    stop(r);
    return code;
}

/* ------------------------------------------------------------------ its console */

static int attach(struct run *r) {
    struct cli *c = r->c;
    bool detach = cli_true(c, "detach");
    json_t *vm = NULL;
    int code;

    if (detach)
        show_note(c, "'%s' starts; 'viv console %s' attaches to it", r->name, r->name);
    else
        show_note(c, "'%s' starts; Ctrl-] and then q detaches from its console", r->name);
    code = cli_settle(c, r->name, SETTLE_SECONDS, &vm);
    if (code == 0)
        code = cli_check_started(c, vm);
    if (code == 0 && c->json && detach)
        show_json(vm);
    else if (code == 0 && detach)
        puts(r->name);
    json_decref(vm);
    if (code == 0 && !detach)
        code = cli_attach(c, r->name);
    /* One that the user has left may be wanted still. */
    if (cli_true(c, "rm") && code != 0 && remove_machine(r) < 0)
        code = -1;
    return code < 0 ? code : 0;
}

int do_run(struct cli *c) {
    struct run r = {.c = c, .oci = c->names && oci_ref_is(c->name[0])};
    bool detach = cli_true(c, "detach");
    int code;

    if (detach && c->rest_count)
        return remote_fail(&c->failure, FAILURE_INVALID, "use 'viv exec' for it afterwards",
                           "a machine that is left running cannot be told a command");
    r.command = c->rest_count || (r.oci && !detach);
    code = find_image(&r);
    if (code == 0)
        code = create_numbered(&r);
    if (code < 0)
        return code;
    return r.command ? run_command(&r) : attach(&r);
}
