/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands on what runs in a machine: its agent is asked through the manager. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "proto/forward_words.h"
#include "proto/guest.h"

enum { ANSWER_MS = 60000, MOST_WORDS = 1000 };

struct way {
    struct cli *c;
    const char *name;
};

static int try_agent(const struct way *w) {
    struct buf early = {0};
    int fd =
        remote_upgrade(w->c->remote, "agent", &early, &w->c->failure, "/v1/vms/%s/agent", w->name);

    buf_done(&early); /* an agent says nothing unasked */
    return fd;
}

static int connect_agent(struct guest *g, struct error *err) {
    const struct way *w = g->opaque;
    int fd = try_agent(w);

    if (fd < 0 && !strcmp(w->c->failure.field, "status.agent") &&
        cli_await_agent(w->c, w->name) == 0)
        fd = try_agent(w);
    return fd < 0 ? error_set(err, -ENOTCONN, "%s", w->c->failure.reason) : fd;
}

static struct guest guest_of(const struct way *w) {
    return (struct guest){.connect = connect_agent,
                          .opaque = (void *)w,
                          .timeout_ms = ANSWER_MS,
                          .reader = {.fd = -1}};
}

/* What the manager said is told as it is, what the agent said becomes a failure. */
static int failed(struct cli *c, const struct error *err) {
    if (c->failure.kind != FAILURE_NONE)
        return -1;
    return remote_fail(&c->failure, FAILURE_FAILED, "", "%s", err->text);
}

/* "NAME=VALUE", or "NAME" for the value that it has here. */
static void put_env(struct guest *g, const char *s) {
    const char *value = getenv(s);
    char *both = NULL;

    if (strchr(s, '='))
        guest_setenv(g, s);
    else if (value && asprintf(&both, "%s=%s", s, value) > 0)
        guest_setenv(g, both);
    free(both);
}

static void put_all_env(struct guest *g, const json_t *given) {
    const json_t *one;
    size_t i;

    if (json_is_string(given))
        put_env(g, json_string_value(given));
    json_array_foreach(given, i, one)
        put_env(g, json_string_value(one));
}

int cli_exec(struct cli *c, const char *name, bool image) {
    struct way w = {c, name};
    struct guest g = guest_of(&w);
    struct error err = {0};

    g.image = image;
    g.tty = cli_true(c, "tty");
    /* Of viv run it is the user whom cloud-init makes, if there is one. */
    g.user =
        cli_given(c, "user") && (image || c->command->run == do_exec) ? cli_text(c, "user") : NULL;
    g.cwd = cli_given(c, "workdir") ? cli_text(c, "workdir") : NULL;
    put_all_env(&g, json_object_get(c->flags, "env"));
    c->code = guest_exec(&g, c->rest_count, c->rest, &err);
    guest_done(&g);
    if (c->failure.kind != FAILURE_NONE && strcmp(c->failure.field, "status.agent") != 0)
        c->code = GUEST_FAILED;
    return err.code ? failed(c, &err) : 0;
}

int do_exec(struct cli *c) {
    if (!c->rest_count)
        return remote_fail(&c->failure, FAILURE_INVALID, "", "say what to run, as in 'viv %s'",
                           c->command->example);
    return cli_exec(c, c->name[0], false);
}

/* "web:/etc/hosts": the path, and its name; NULL: of this host. A path with a slash before the
 * colon is one. */
static const char *split(const char *word, char *name, size_t size) {
    size_t n = strcspn(word, ":/");

    if (word[n] != ':' || !n || n >= size)
        return NULL;
    memcpy(name, word, n);
    name[n] = 0;
    return word + n + 1;
}

int do_cp(struct cli *c) {
    char name[128];
    const char *from = split(c->name[0], name, sizeof(name));
    const char *to = split(c->name[1], from ? (char[128]){0} : name, sizeof(name));
    struct way w = {c, name};
    struct guest g = guest_of(&w);
    struct error err = {0};
    int code;

    if (!from == !to)
        return remote_fail(&c->failure, FAILURE_INVALID, "copy by a file of this host in between",
                           "one of the two must be in a guest, NAME:PATH, and the other one not");
    g.tree = cli_true(c, "recursive");
    code =
        from ? guest_copy_out(&g, from, c->name[1], &err) : guest_copy_in(&g, c->name[0], to, &err);
    guest_done(&g);
    return code ? failed(c, &err) : 0;
}

/* ------------------------------------------------------------------ ssh */

/* The port of this host that leads to the guest's port 22; 0: none that could be opened. */
static int forward_to_ssh(const json_t *vm, char *address, size_t size) {
    const json_t *errors = json_object_get(json_object_get(vm, "status"), "forward_errors"), *one;
    struct forward_words f;
    size_t i;

    json_array_foreach(json_object_get(json_object_get(vm, "spec"), "forward"), i, one) {
        const char *s = json_string_value(one);

        if (json_object_get(errors, s) || forward_parse(s, &f, NULL) < 0 || f.udp ||
            f.guest_port != 22)
            continue;
        snprintf(address, size, "%s", f.address);
        return f.host_port;
    }
    return 0;
}

static void add(char **argv, unsigned *n, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void add(char **argv, unsigned *n, const char *fmt, ...) {
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&argv[*n], fmt, ap) < 0)
        abort();
    va_end(ap);
    ++*n;
}

/* sshd on the input and output of a command: it needs no network of the guest. What leads to
 * another manager stands in the environment, but for --system. */
static void add_proxy(const struct cli *c, char **argv, unsigned *n) {
    char self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

    self[len > 0 ? len : 0] = 0;
    add(argv, n, "-o");
    add(argv, n,
        "ProxyCommand='%s' exec%s '%s' -- sh -c 'mkdir -p /run/sshd; exec $(command -v sshd || "
        "echo "
        "/usr/sbin/sshd) -i'",
        len > 0 ? self : "viv", c->system ? " --system" : "", c->name[0]);
}

/* The key that our images let in. */
static void add_key(struct cli *c, char **argv, unsigned *n, const json_t *vm) {
    json_t *host = NULL;
    char path[PATH_MAX];

    if (remote_call(c->remote, "GET", NULL, &host, &c->failure, "/v1/hosts/local") == 0 &&
        snprintf(path, sizeof(path), "%s/images/%s/id_ed25519", item_text(host, NULL, "folder"),
                 item_text(vm, "status", "image_id")) < (int)sizeof(path) &&
        access(path, R_OK) == 0) {
        add(argv, n, "-i");
        add(argv, n, "%s", path);
    }
    json_decref(host);
}

/* Who has the keys that came with the machine, or whom our images' key lets in. */
static void add_user(const struct cli *c, char **argv, unsigned *n, const json_t *vm) {
    const char *made = *item_text(vm, "spec", "ssh_key") ? item_text(vm, "spec", "user") : "";

    add(argv, n, "-l%s", cli_given(c, "user") ? cli_text(c, "user") : *made ? made : "root");
    if (cli_given(c, "identity")) {
        add(argv, n, "-i");
        add(argv, n, "%s", cli_text(c, "identity"));
    }
}

int do_ssh(struct cli *c) {
    char *argv[MOST_WORDS + 32] = {NULL}, address[ADDRESS_TEXT];
    json_t *vm = NULL;
    unsigned n = 0;
    int port;

    if (c->rest_count > MOST_WORDS)
        return remote_fail(&c->failure, FAILURE_INVALID, "", "the command has too many words");
    if (remote_call(c->remote, "GET", NULL, &vm, &c->failure, "/v1/vms/%s", c->name[0]) < 0)
        return -1;
    if (strcmp(item_text(vm, "status", "state"), "running") != 0) {
        remote_fail(&c->failure, FAILURE_CONFLICT, "start it first", "'%s' is %s", c->name[0],
                    item_text(vm, "status", "state"));
        json_decref(vm);
        return -1;
    }
    /* A forward is one of the manager's host, and mostly to that host alone. */
    port = remote_is_far(c->remote) ? 0 : forward_to_ssh(vm, address, sizeof(address));
    if (!port && !*item_text(vm, "status", "agent") && cli_await_agent(c, c->name[0]) < 0) {
        json_decref(vm);
        return remote_fail(&c->failure, FAILURE_CONFLICT,
                           "add a forward (viv edit NAME --forward 2222:22, viv restart NAME), or "
                           "wait for the agent (viv wait NAME --for ready)",
                           "there is no way to the guest's sshd: no forward to port 22, and no "
                           "agent answers");
    }
    add(argv, &n, "ssh");
    add_user(c, argv, &n, vm);
    add_key(c, argv, &n, vm);
    json_decref(vm);
    /* Guests come and go, and so do their keys; the way is this host's own. */
    add(argv, &n, "-oStrictHostKeyChecking=no");
    add(argv, &n, "-oUserKnownHostsFile=/dev/null");
    add(argv, &n, "-oLogLevel=ERROR");
    if (port)
        add(argv, &n, "-p%d", port);
    else
        add_proxy(c, argv, &n);
    add(argv, &n, "%s", port ? address : c->name[0]);
    for (int i = 0; i < c->rest_count; i++)
        add(argv, &n, "%s", c->rest[i]);
    execvp("ssh", argv);
    return remote_fail(&c->failure, FAILURE_FAILED, "install openssh-client",
                       "'ssh' cannot be run: %s", strerror(errno));
}
