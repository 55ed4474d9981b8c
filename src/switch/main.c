/* SPDX-License-Identifier: GPL-2.0-or-later */
/* viv-net: one virtual network (docs/networks.md). */
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/man.h"
#include "base/trace.h"
#include "base/version.h"
#include "jail/jail.h"
#include "proto/control.h"
#include "proto/lines.h"
#include "proto/server.h"
#include "switch/network.h"

enum { FILES_WANTED = 65536, IDLE_MOST = 1000000 };
enum exit_code { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

static const struct {
    const char *name, *value, *help;
} options[] = {
    {"--config", "FILE", "what the network is, who belongs to it, which ports lead to whom (JSON)"},
    {"--ports", "unix:PATH", "listen there for machines: viv-vm --nic link=PATH"},
    {"--control", "unix:PATH", "listen there for programs that look after the network: viv-ctl"},
    {"--idle", "SECONDS", "end when for so long no machine was plugged in and nobody connected"},
    {"--no-jail", NULL, "without namespaces and filters around the network, for debugging"},
    {"--trace", "PATTERN", "print trace events whose names match"},
    {"--help", NULL, "print this text"},
    {"--help-man", NULL, "print the manual page"},
    {"--version", NULL, "print the version"},
};
enum { OPTIONS = sizeof(options) / sizeof(options[0]) };

static const char about[] = "be a virtual network: switch, DHCP, DNS and the way out";
static const char usage[] = "--config FILE --ports unix:PATH [OPTION]...";
static const char codes[] = "0 it was asked to end; 1 it failed; 2 wrong options or configuration";

struct settings {
    const char *config, *ports, *control;
    unsigned idle;
    bool help, man, version, no_jail;
};

static void print_help(void) {
    printf("viv-net: %s.\n\nusage: viv-net %s\n\nThe manager starts it when a machine needs it.\n\n"
           "Options:\n",
           about, usage);
    for (unsigned i = 0; i < OPTIONS; i++)
        printf("  %s%s%s\n      %s.\n", options[i].name, options[i].value ? " " : "",
               options[i].value ? options[i].value : "", options[i].help);
    printf("\nExample:\n  echo '{\"name\": \"lan\", \"subnet\": \"10.77.0.0/24\", \"open\": true}' "
           ">lan.json\n  viv-net --config lan.json --ports unix:lan --control unix:lan.ctl\n\nExit "
           "codes: %s.\n",
           codes);
}

static void print_man(void) {
    man_begin(stdout, "viv-net", about, usage);
    puts(".SH DESCRIPTION\nThe manager,\n.BR vivd (1),\nstarts it when a machine needs it.\n.SH "
         "OPTIONS");
    for (unsigned i = 0; i < OPTIONS; i++)
        man_item(stdout, options[i].name, options[i].value, options[i].help);
    puts(".SH EXIT STATUS");
    man_text(stdout, codes);
    puts(".\n.SH SEE ALSO\n.BR vivd (1),\n.BR viv\\-vm (1),\n.BR viv\\-ctl (1)");
}

static int take_value(const char *name, const char *value, bool socket, const char **ret,
                      struct error *err) {
    if (!value || !*value)
        return error_set(err, -EINVAL, "%s needs a value: 'viv-net --help' shows it", name);
    if (socket && strncmp(value, "unix:", 5) != 0)
        return error_set(err, -EINVAL, "'%.100s' is no place for %s: use unix:PATH", value, name);
    *ret = socket ? value + 5 : value;
    return 0;
}

static int take_idle(struct settings *s, const char *value, struct error *err) {
    char *end = NULL;
    unsigned long n = value ? strtoul(value, &end, 10) : 0;

    if (!value || *value < '0' || *value > '9' || *end || !n || n > IDLE_MOST)
        return error_set(err, -EINVAL, "--idle needs a number of seconds, as in --idle 60");
    s->idle = (unsigned)n;
    return 0;
}

static int parse(struct settings *s, int argc, char **argv, struct error *err) {
    const char *trace = NULL;
    int r = 0;

    for (int i = 1; r == 0 && i < argc; i++) {
        const char *w = argv[i];

        if (!strcmp(w, "--help") || !strcmp(w, "-h"))
            s->help = true;
        else if (!strcmp(w, "--help-man"))
            s->man = true;
        else if (!strcmp(w, "--version"))
            s->version = true;
        else if (!strcmp(w, "--no-jail"))
            s->no_jail = true;
        else if (!strcmp(w, "--config"))
            r = take_value(w, argv[++i], false, &s->config, err);
        else if (!strcmp(w, "--ports"))
            r = take_value(w, argv[++i], true, &s->ports, err);
        else if (!strcmp(w, "--control"))
            r = take_value(w, argv[++i], true, &s->control, err);
        else if (!strcmp(w, "--idle"))
            r = take_idle(s, argv[++i], err);
        else if (!strcmp(w, "--trace")) {
            r = take_value(w, argv[++i], false, &trace, err);
            if (r == 0 && !trace_enable(trace))
                r = error_set(err, -EINVAL, "--trace: no event matches '%s'", trace);
        } else
            r = error_set(err, -EINVAL, "'%.60s' is no option: 'viv-net --help' lists them", w);
    }
    if (r == 0 && !(s->help || s->man || s->version) && (!s->config || !s->ports))
        r = error_set(err, -EINVAL, "--config and --ports are needed: 'viv-net --help' shows how");
    return r;
}

static void on_signal(void *opaque) { loop_stop(((struct network *)opaque)->loop); }

static void quit(struct network *n) { loop_stop(n->loop); }

/* Every connection through the way out is a descriptor. */
static void raise_file_limit(void) {
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < FILES_WANTED) {
        files.rlim_cur = files.rlim_max < FILES_WANTED ? files.rlim_max : FILES_WANTED;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* A client asked for a capture: its file is named in the request. */
static void grant_request(const char *line, size_t len, jail_grant_fn *grant, void *opaque) {
    struct error e = {0};
    json_t *m = message_parse(line, len, &e);
    const char *command = json_string_value(json_object_get(m, "command"));
    const char *file = json_string_value(json_object_get(json_object_get(m, "arguments"), "file"));

    if (command && !strcmp(command, "capture") && file)
        grant(opaque, file, JAIL_READ | JAIL_WRITE);
    json_decref(m);
}

static int prepare_jail(struct network *n, const struct settings *s, struct error *err) {
    static const struct jail_options o = {
        .request = grant_request, .request_max = CONTROL_REQUEST_MAX, .network = true};

    if (jail_left_out(s->no_jail, "network"))
        return 0;
    n->jail = jail_prepare(&o, err);
    return n->jail ? 0 : err->code;
}

/* Before the first frame is read. */
static int enter_jail(struct network *n, const struct settings *s, struct error *err) {
    if (!n->jail)
        return 0;
    jail_grant(n->jail, "/etc/resolv.conf", JAIL_READ | JAIL_INTERNET);
    jail_grant(n->jail, "/dev/urandom", JAIL_READ);
    jail_grant(n->jail, "/etc/localtime", JAIL_READ);
    jail_grant(n->jail, s->config, JAIL_READ);
    jail_grant(n->jail, s->ports, JAIL_WRITE);
    jail_grant(n->jail, s->control, JAIL_WRITE);
    return jail_enter(n->jail, err);
}

static int run(struct network *n, const struct settings *s, struct error *err) {
    int r = prepare_jail(n, s, err);
    struct loop *loop = r == 0 ? loop_new(NULL, err) : NULL;

    r = loop ? 0 : r < 0 ? r : -ENOMEM;

    if (r == 0)
        r = loop_signal(loop, SIGTERM, on_signal, n, err);
    if (r == 0)
        r = loop_signal(loop, SIGINT, on_signal, n, err);
    if (r == 0)
        r = network_open(n, loop, s->config, s->ports, err);
    if (r == 0 && s->control)
        r = control_open(n, s->control, err);
    if (r == 0)
        r = enter_jail(n, s, err);
    if (r == 0) {
        n->quit = quit;
        n->idle_s = s->idle;
        control_watch_idle(n);
        loop_run(loop);
    }
    if (loop) {
        server_free(n->server);
        n->server = NULL;
        network_close(n);
        loop_free(loop);
    }
    jail_leave(n->jail);
    return r == 0 ? EXIT_FINE : err->code == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
}

int main(int argc, char **argv) {
    struct network *n = calloc(1, sizeof(*n));
    struct settings s = {0};
    struct error err = {0};
    int code = EXIT_FINE;

    jail_note_descriptors();
    log_init("viv-net", LOG_LEVEL_NOTICE);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); /* it starts nothing */
    if (!n || parse(&s, argc, argv, &err) < 0)
        code = EXIT_USAGE;
    else if (s.help)
        print_help();
    else if (s.man)
        print_man();
    else if (s.version)
        puts("viv-net " VIVARIUM_VERSION);
    else {
        raise_file_limit();
        n->listener = -1;
        code = run(n, &s, &err);
    }
    if (err.code)
        log_error("%s", err.text);
    free(n);
    return code;
}
