/* SPDX-License-Identifier: GPL-2.0-or-later */
/* viv-guest: asks the agent in a guest, over the guest's vsock (docs/agent.md). */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/man.h"
#include "base/version.h"
#include "proto/guest.h"

#define NS_PER_SEC 1000000000ll

static const struct {
    int code;
    const char *meaning;
} codes[] = {
    {0, "done; with exec and freeze, the command's own exit code"},
    {GUEST_NOT_FOUND, "exec: there is no such command in the guest"},
    {GUEST_NOT_RUN, "exec: it cannot be run: it is no program, or nobody may execute it"},
    {GUEST_FAILED, "viv-guest could not do it"},
    {GUEST_USAGE, "the command or its arguments are wrong; nothing was done"},
    {GUEST_NO_AGENT, "nobody answers: no such socket, or no agent in the guest"},
    {GUEST_LOST, "the connection broke off; whether it was done is not known"},
};

/* ---- small commands ---- */

static int show(const struct guest *g, json_t *result) {
    const char *key;
    json_t *value;

    if (g->json) {
        json_dumpf(result, stdout, JSON_COMPACT);
        putchar('\n');
    } else {
        json_object_foreach(result, key, value) {
            char *s = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

            printf("%s: %s\n", key, json_is_string(value) ? json_string_value(value) : s ? s : "");
            free(s);
        }
    }
    json_decref(result);
    return 0;
}

static int do_info(struct guest *g, int argc, char **argv, struct error *err) {
    json_t *result = guest_ask(g, json_pack("{s:s}", "do", "info"), err);

    return result ? show(g, result) : guest_code(err);
}

static int do_time(struct guest *g, int argc, char **argv, struct error *err) {
    struct timespec now;
    json_t *result;

    clock_gettime(CLOCK_REALTIME, &now);
    result = guest_ask(g,
                       json_pack("{s:s, s:I}", "do", "time", "ns",
                                 (json_int_t)(now.tv_sec * NS_PER_SEC + now.tv_nsec)),
                       err);
    return result ? show(g, result) : guest_code(err);
}

static int do_shutdown(struct guest *g, int argc, char **argv, struct error *err) {
    json_t *result = guest_ask(
        g, json_pack("{s:s, s:s}", "do", "shutdown", "how", argc ? argv[0] : "poweroff"), err);

    json_decref(result);
    return result ? 0 : guest_code(err);
}

/* The connection is what holds the guest frozen: it lives as long as the command. */
static int do_freeze(struct guest *g, int argc, char **argv, struct error *err) {
    json_t *result = guest_ask(
        g, json_pack("{s:s, s:i}", "do", "freeze", "seconds", g->seconds ? g->seconds : 30), err);
    int status = 0;
    pid_t pid;

    if (!result)
        return guest_code(err);
    json_decref(result);
    pid = fork();
    if (pid == 0) {
        execvp(argv[0], argv);
        fprintf(stderr, "viv-guest: '%s' cannot be run: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return error_set(err, -errno, "'%s' cannot be started: %s", argv[0], strerror(errno)),
               GUEST_FAILED;
    if (guest_thaw(g, err) < 0)
        return GUEST_LOST;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static const char *in_guest(const char *path) {
    return strncmp(path, "guest:", 6) ? NULL : path + 6;
}

static int do_copy(struct guest *g, int argc, char **argv, struct error *err) {
    const char *from = in_guest(argv[0]), *to = in_guest(argv[1]);

    if (!from == !to) {
        error_set(err, -EINVAL,
                  "copy: one of the two names must begin with guest:, as in copy "
                  "guest:/etc/hostname hostname");
        return GUEST_USAGE;
    }
    return from ? guest_copy_out(g, from, argv[1], err) : guest_copy_in(g, argv[0], to, err);
}

static const struct command {
    const char *name, *usage, *help, *example;
    int min, max; /* words behind it */
    int (*fn)(struct guest *g, int argc, char **argv, struct error *err);
} commands[] = {
    {"info", "", "what runs in the guest: system, kernel, addresses, memory", "info", 0, 0,
     do_info},
    {"exec", "[-t] [-u USER] [-w FOLDER] [-e NAME=VALUE]... -- COMMAND [ARGUMENT]...",
     "run a command in the guest with this input, output and errors; its exit code is ours. -t "
     "gives it a terminal",
     "exec -- uname -r", 1, 1 << 20, guest_exec},
    {"copy", "[-r] [guest:]FROM [guest:]TO",
     "copy a file out of the guest or into it; '-' is standard input or output. It appears whole "
     "or not at all, in TO by its name if that is a folder. -r copies folders, too",
     "copy guest:/etc/hostname hostname", 2, 2, do_copy},
    {"time", "", "set the guest's clock to this host's", "time", 0, 0, do_time},
    {"freeze", "[--seconds N] -- COMMAND [ARGUMENT]...",
     "keep the guest's file systems written out and quiet while a command runs on this host, for "
     "at most N seconds (default 30)",
     "freeze -- viv-ctl web.ctl snapshot /srv/web.monday", 1, 1 << 20, do_freeze},
    {"shutdown", "[poweroff|reboot|halt]", "shut the guest down as its own command would",
     "shutdown", 0, 1, do_shutdown},
};
enum {
    COMMANDS = sizeof(commands) / sizeof(commands[0]),
    CODES = sizeof(codes) / sizeof(codes[0])
};

static const char usage[] = "[--json] [--timeout SECONDS] SOCKET COMMAND [ARGUMENT]...";
static const char about[] = "ask the agent in a guest";

/* ---- texts ---- */

static void print_help(void) {
    printf("viv-guest: %s.\n\nusage: viv-guest %s\n\nSOCKET is the path given to viv-vm --vsock, "
           "with or without unix: before it.\n\nCommands:\n",
           about, usage);
    for (unsigned i = 0; i < COMMANDS; i++)
        printf("  %s %s\n      %s.\n      example: viv-guest web.vsock %s\n", commands[i].name,
               commands[i].usage, commands[i].help, commands[i].example);
    printf("\nExit codes:\n");
    for (unsigned i = 0; i < CODES; i++)
        printf("  %-4d%s\n", codes[i].code, codes[i].meaning);
}

static void print_man(void) {
    char code[8];

    man_begin(stdout, "viv-guest", about, usage);
    puts(".SH COMMANDS");
    for (unsigned i = 0; i < COMMANDS; i++)
        man_item(stdout, commands[i].name, commands[i].usage, commands[i].help);
    puts(".SH EXIT STATUS");
    for (unsigned i = 0; i < CODES; i++) {
        snprintf(code, sizeof(code), "%d", codes[i].code);
        man_item(stdout, code, NULL, codes[i].meaning);
    }
    puts(".SH SEE ALSO\n.BR viv\\-vm (1)");
}

/* ---- the command line ---- */

static const struct command *find(const char *name) {
    for (unsigned i = 0; i < COMMANDS; i++)
        if (!strcmp(commands[i].name, name))
            return &commands[i];
    return NULL;
}

static int wrong(struct error *err, const char *text, const char *what) {
    error_set(err, -EINVAL, text, what);
    return GUEST_USAGE;
}

static bool number(const char *s, int max, int *ret) {
    char *end;
    long v = s ? strtol(s, &end, 10) : -1;

    if (!s || end == s || *end || v < 1 || v > max)
        return false;
    *ret = (int)v;
    return true;
}

/* Options of all commands, up to the first word that is none. How many words, or -1. */
static int take_options(struct guest *g, int argc, char **argv) {
    int i = 0, seconds;

    for (; i < argc && argv[i][0] == '-' && argv[i][1]; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;

        if (!strcmp(argv[i], "--"))
            return i + 1;
        if (!strcmp(argv[i], "-t")) {
            g->tty = true;
            continue;
        }
        if (!strcmp(argv[i], "-r")) {
            g->tree = true;
            continue;
        }
        if (!value)
            return -1;
        if (!strcmp(argv[i], "-u"))
            g->user = value;
        else if (!strcmp(argv[i], "-w"))
            g->cwd = value;
        else if (!strcmp(argv[i], "-e") && strchr(value, '='))
            guest_setenv(g, value);
        else if (!strcmp(argv[i], "--seconds") && number(value, 600, &seconds))
            g->seconds = seconds;
        else
            return -1;
        i++;
    }
    return i;
}

static int run(struct guest *g, int argc, char **argv, struct error *err) {
    const struct command *c;
    int i = 1, n, seconds;

    for (; i < argc && !strncmp(argv[i], "--", 2); i++) {
        if (!strcmp(argv[i], "--json"))
            g->json = true;
        else if (!strcmp(argv[i], "--timeout") && i + 1 < argc &&
                 number(argv[i + 1], 86400, &seconds))
            g->timeout_ms = seconds * 1000, i++;
        else if (!strcmp(argv[i], "--help"))
            return print_help(), 0;
        else if (!strcmp(argv[i], "--help-man"))
            return print_man(), 0;
        else if (!strcmp(argv[i], "--version"))
            return puts("viv-guest " VIVARIUM_VERSION), 0;
        else
            return wrong(err,
                         "'%.60s' is no option, or lacks its value: 'viv-guest --help' lists them",
                         argv[i]);
    }
    if (argc - i < 2)
        return wrong(err, "usage: viv-guest %s; 'viv-guest --help' says more", usage);
    c = find(argv[i + 1]);
    if (!c)
        return wrong(err, "there is no command '%.60s': 'viv-guest --help' lists them",
                     argv[i + 1]);
    g->path = strncmp(argv[i], "unix:", 5) ? argv[i] : argv[i] + 5;
    i += 2;
    n = take_options(g, argc - i, argv + i);
    if (n < 0 || argc - i - n < c->min || argc - i - n > c->max)
        return wrong(err, "usage: viv-guest SOCKET %s", c->name);
    return c->fn(g, argc - i - n, argv + i + n, err);
}

int main(int argc, char **argv) {
    struct guest g = {.timeout_ms = 60000, .reader = {.fd = -1}};
    struct error err = {0};
    int code;

    signal(SIGPIPE, SIG_IGN);
    code = run(&g, argc, argv, &err);
    for (char *p = err.text; *p; p++) /* a guest chose some of it, and a terminal obeys */
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    if (err.code)
        fprintf(stderr, "viv-guest: %s\n", err.text);
    if (fflush(stdout) == EOF && code == 0)
        code = GUEST_FAILED;
    guest_done(&g);
    return code;
}
