/* SPDX-License-Identifier: GPL-2.0-or-later */
/* viv-ctl: drives a machine by its control socket from a shell (docs/control.md), or a network
 * (docs/networks.md). */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/man.h"
#include "base/version.h"
#include "proto/client.h"
#include "proto/control.h"
#include "proto/network.h"
#include "tools/ctl/show.h"

enum exit_code {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_REFUSED = 3,
    EXIT_NO_MACHINE = 4,
    EXIT_LOST = 5
};

enum { REAL_DIGITS = 12 };

static const struct {
    int code;
    const char *meaning;
} codes[] = {
    {EXIT_OK, "done; with a job, it has ended well"},
    {EXIT_FAILED, "it was tried and failed, a job failed or was cancelled, or the output could not "
                  "be written"},
    {EXIT_USAGE, "the command or its arguments are wrong; nothing was done"},
    {EXIT_REFUSED, "not possible in this state of the machine; nothing was changed"},
    {EXIT_NO_MACHINE, "no machine listens on that socket, or it does not let this user in"},
    {EXIT_LOST, "the connection broke off, or no answer came in time; whether it was done is not "
                "known"},
};

static const struct {
    const char *name, *value, *help;
} options[] = {
    {"--json", NULL, "print answers and events as JSON, each on a line of its own"},
    {"--timeout", "SECONDS",
     "wait at most that long for an answer; default 60, 0 for ever. The end "
     "of a job is waited for in any case"},
    {"--no-wait", NULL, "do not wait for the end of a job: print its number when it has begun"},
    {"--help", NULL, "print this text; behind a command, what that command does"},
    {"--help-man", NULL, "print the manual page"},
    {"--help-markdown", NULL, "print the tables of docs/control.md"},
    {"--help-markdown-networks", NULL, "print those of docs/networks.md"},
    {"--completion", "bash", "print a script for bash that completes commands and arguments"},
    {"--version", NULL, "print the version"},
};

static const char usage[] = "[OPTION]... SOCKET COMMAND [ARGUMENT]...";
static const char about[] = "drive a machine or a network by its control socket";
enum { OPTIONS = sizeof(options) / sizeof(options[0]), CODES = sizeof(codes) / sizeof(codes[0]) };

struct ctl {
    bool json, no_wait, help;
    int timeout_ms;
    const char *socket, *text; /* text: of something that needs no machine */
    const struct command *command;
    int argc; /* the words behind the command */
    char **argv;
    /* A job that is waited for. */
    json_int_t job;
    bool job_over, progress;
    int exit_code;
};

/* Those of machines, then those that only networks have. NULL behind the last. */
static const struct command *nth_command(unsigned i) {
    for (const struct command *c = control_commands; c->name; c++)
        if (!i--)
            return c;
    for (const struct command *c = network_commands; c->name; c++)
        if (!command_find(control_commands, c->name) && !i--)
            return c;
    return NULL;
}

static const struct command *find_command(const char *name) {
    const struct command *c = command_find(control_commands, name);

    return c ? c : command_find(network_commands, name);
}

/* ------------------------------------------------------------------ texts */

static void print_help(void) {
    printf("viv-ctl: %s.\n\nusage: viv-ctl %s\n\nCommands:\n", about, usage);
    command_list_help(control_commands, stdout);
    printf("\nOptions:\n");
    for (unsigned i = 0; i < OPTIONS; i++)
        printf("  %s%s%s\n      %s.\n", options[i].name, options[i].value ? " " : "",
               options[i].value ? options[i].value : "", options[i].help);
    printf("\nCommands of networks (viv-net --control):\n");
    command_list_help(network_commands, stdout);
    printf("\nSOCKET is the path given to viv-vm --control, with or without unix: before it.\n\n"
           "Examples:\n  viv-vm --kernel vmlinuz --control unix:web.ctl ... &\n");
    for (const struct command *c = control_commands; c->name; c++)
        printf("  viv-ctl web.ctl %s\n", c->example);
    for (const struct command *c = network_commands; c->name; c++)
        printf("  viv-ctl lan.ctl %s\n", c->example);
    printf("\nExit codes:\n");
    for (unsigned i = 0; i < CODES; i++)
        printf("  %d  %s\n", codes[i].code, codes[i].meaning);
}

static void print_man(void) {
    char code[4];

    man_begin(stdout, "viv-ctl", about, usage);
    puts(".SH DESCRIPTION\nSOCKET is the path that was given to\n.B \"viv\\-vm "
         "\\-\\-control\"\nwith "
         "or without unix: before it.\n.SH COMMANDS");
    command_list_man(control_commands, "viv-ctl", stdout);
    puts(".SH COMMANDS OF NETWORKS\nSOCKET is the path that was given to\n.B \"viv\\-net "
         "\\-\\-control\"\n.");
    command_list_man(network_commands, "viv-ctl", stdout);
    puts(".SH OPTIONS");
    for (unsigned i = 0; i < OPTIONS; i++)
        man_item(stdout, options[i].name, options[i].value, options[i].help);
    puts(".SH EXIT STATUS");
    for (unsigned i = 0; i < CODES; i++) {
        snprintf(code, sizeof(code), "%d", codes[i].code);
        man_item(stdout, code, NULL, codes[i].meaning);
    }
    puts(".SH SEE ALSO\n.BR viv\\-vm (1)");
}

static void print_completion(void) {
    const struct command *c;

    printf("# bash completion of viv-ctl: eval \"$(viv-ctl --completion bash)\"\n"
           "_viv_ctl() {\n"
           "    local word=${COMP_WORDS[COMP_CWORD]} w seen=0 socket= command=\n"
           "    COMPREPLY=()\n"
           "    for w in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
           "        case $seen:$w in\n"
           "            0:--timeout|0:--completion) seen=skip ;;\n"
           "            skip:*) seen=0 ;;\n"
           "            0:-*) ;;\n"
           "            0:*) socket=$w seen=1 ;;\n"
           "            1:*) command=$w seen=2 ;;\n"
           "        esac\n"
           "    done\n"
           "    if [ -z \"$socket\" ] && [[ $word == -* ]]; then\n"
           "        COMPREPLY=($(compgen -W '");
    for (unsigned i = 0; i < OPTIONS; i++)
        printf("%s%s", i ? " " : "", options[i].name);
    printf("' -- \"$word\"))\n"
           "    elif [ -z \"$socket\" ]; then\n"
           "        COMPREPLY=($(compgen -f -- \"$word\"))\n"
           "    elif [ -z \"$command\" ]; then\n"
           "        COMPREPLY=($(compgen -W '");
    for (unsigned i = 0; (c = nth_command(i)); i++)
        printf("%s%s", i ? " " : "", c->name);
    printf("' -- \"$word\"))\n    else\n        case $command in\n");
    for (unsigned i = 0; (c = nth_command(i)); i++) {
        bool path = false;

        printf("            %s) w='", c->name);
        for (const struct command_arg *a = c->args; a->type != COMMAND_END; a++) {
            printf("%s--%s", a == c->args ? "" : " ", a->name);
            path |= a->type == COMMAND_PATH;
        }
        printf("'%s ;;\n",
               path ? "; [[ $word == -* ]] || COMPREPLY=($(compgen -f -- \"$word\"))" : "");
    }
    printf("            *) w= ;;\n        esac\n"
           "        COMPREPLY+=($(compgen -W \"$w --help\" -- \"$word\"))\n    fi\n}\n"
           "complete -o filenames -F _viv_ctl viv-ctl\n");
}

/* ------------------------------------------------------------------ the command line */

static int set_timeout(struct ctl *ctl, const char *value, struct error *err) {
    char *end;
    double seconds = value ? strtod(value, &end) : -1;

    if (!value || end == value || *end || !(seconds >= 0 && seconds <= 1e6))
        return error_set(err, -EINVAL, "--timeout needs a number of seconds, as in --timeout 10");
    ctl->timeout_ms = seconds == 0 ? -1 : (int)(seconds * 1000) + 1;
    return 0;
}

/* Options before the socket; how many words were taken, or negative. */
static int take_option(struct ctl *ctl, char **argv, struct error *err) {
    const char *word = argv[0], *value = strncmp(word, "--timeout=", 10) ? argv[1] : word + 10;

    if (!strcmp(word, "--json"))
        ctl->json = true;
    else if (!strcmp(word, "--no-wait"))
        ctl->no_wait = true;
    else if (!strcmp(word, "--timeout") || !strncmp(word, "--timeout=", 10))
        return set_timeout(ctl, value, err) < 0 ? -EINVAL : word[9] ? 1 : 2;
    else if (!strcmp(word, "--completion") && value && !strcmp(value, "bash"))
        return ctl->text = word, 2;
    else if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "--help-man") ||
             !strcmp(word, "--help-markdown") || !strcmp(word, "--help-markdown-networks") ||
             !strcmp(word, "--version"))
        ctl->text = word;
    else
        return error_set(err, -EINVAL, "'%.60s' is no option: 'viv-ctl --help' lists them", word);
    return 1;
}

static int parse(struct ctl *ctl, int argc, char **argv, struct error *err) {
    int i = 1;

    ctl->timeout_ms = 60000;
    while (i < argc && argv[i][0] == '-' && !ctl->text) {
        int n = take_option(ctl, argv + i, err);

        if (n < 0)
            return n;
        i += n;
    }
    if (ctl->text)
        return 0;
    if (i < argc && (ctl->command = find_command(argv[i])) && i + 1 < argc &&
        !strcmp(argv[i + 1], "--help"))
        return ctl->help = true, 0;
    if (argc - i < 2)
        return error_set(err, -EINVAL, "usage: viv-ctl %s; 'viv-ctl --help' says more", usage);
    ctl->socket = strncmp(argv[i], "unix:", 5) ? argv[i] : argv[i] + 5;
    ctl->command = find_command(argv[i + 1]);
    if (!ctl->command)
        return error_set(err, -EINVAL, "there is no command '%.60s': 'viv-ctl --help' lists them",
                         argv[i + 1]);
    ctl->argc = argc - i - 2;
    ctl->argv = argv + i + 2;
    for (int k = 0; k < ctl->argc; k++)
        ctl->help |= !strcmp(ctl->argv[k], "--help");
    return 0;
}

/* ------------------------------------------------------------------ asking */

static int exit_code_of(const struct error *err, const json_t *refusal) {
    const char *kind = json_string_value(json_object_get(refusal, "kind"));

    if (err->code != CLIENT_REFUSAL)
        return err->code == -EINVAL ? EXIT_USAGE : EXIT_LOST;
    if (kind && !strcmp(kind, CONTROL_REFUSED))
        return EXIT_REFUSED;
    return kind && !strcmp(kind, CONTROL_INVALID) ? EXIT_USAGE : EXIT_FAILED;
}

static void put_json(const json_t *v) {
    json_dumpf(v, stdout, JSON_COMPACT | JSON_REAL_PRECISION(REAL_DIGITS));
    putchar('\n');
}

static void job_event(struct ctl *ctl, const json_t *data) {
    const char *state = json_string_value(json_object_get(data, "state"));
    const json_t *result = json_object_get(data, "result");

    if (!ctl->job || json_integer_value(json_object_get(data, "id")) != ctl->job || !state)
        return;
    if (ctl->no_wait) { /* its end is nothing to us, only that its moment is over */
        ctl->job_over = strcmp(state, "preparing") != 0;
        return;
    }
    if (ctl->json)
        put_json(data);
    else if (ctl->progress)
        show_progress(data, stderr);
    if (!strcmp(state, "preparing") || !strcmp(state, "running") || !strcmp(state, "ready"))
        return;
    ctl->job_over = true;
    if (!strcmp(state, "done")) {
        if (!ctl->json && result)
            show_result(result, stdout);
        return;
    }
    ctl->exit_code = EXIT_FAILED;
    if (!ctl->json)
        fprintf(stderr, "viv-ctl: job %lld %s%s%s\n", (long long)ctl->job, state,
                json_object_get(data, "error") ? ": " : "",
                json_object_get(data, "error") ? json_string_value(json_object_get(data, "error"))
                                               : "");
}

static void on_event(void *opaque, const char *name, const json_t *data) {
    struct ctl *ctl = opaque;

    if (ctl->command->stream) {
        json_t *line = json_pack("{s:s, s:O}", "event", name, "data", data);

        if (ctl->json && line)
            put_json(line);
        else if (!ctl->json)
            show_event(name, data, stdout);
        json_decref(line);
        if (fflush(stdout) == EOF)
            ctl->job_over = true; /* nobody reads any more */
    } else if (!strcmp(name, "job")) {
        job_event(ctl, data);
    }
}

/* Until the job is over, or for a stream until the machine ends. */
static int follow(struct ctl *ctl, struct client *client, struct error *err) {
    while (!ctl->job_over) {
        json_t *m = NULL, *name;

        if (client_receive(client, -1, &m, err) < 0) {
            if (!ctl->command->stream || err->code != -ECONNRESET)
                return EXIT_LOST;
            err->code = 0; /* the machine has ended, and has said so */
            return EXIT_OK;
        }
        name = json_object_get(m, "event");
        if (json_is_string(name))
            on_event(ctl, json_string_value(name), json_object_get(m, "data"));
        json_decref(m);
    }
    return ctl->exit_code;
}

/* The job may be over before its number is known: what is missed is asked for. */
static int wait_for_job(struct ctl *ctl, struct client *client, json_t *result, struct error *err) {
    json_t *list = NULL, *one;
    size_t i;
    int r;

    ctl->job = json_integer_value(json_object_get(result, "job"));
    r = client_call(client, "jobs", NULL, ctl->timeout_ms, &list, err);
    if (r == 0)
        json_array_foreach(json_object_get(list, "jobs"), i, one) {
            const char *state = json_string_value(json_object_get(one, "state"));

            if (!ctl->job_over && state && (ctl->no_wait || strcmp(state, "running") != 0))
                job_event(ctl, one);
        }
    json_decref(list);
    return r < 0 ? EXIT_LOST : follow(ctl, client, err);
}

static void show_answer(const struct ctl *ctl, const json_t *result) {
    if (ctl->json)
        put_json(result);
    else if (!ctl->command->stream)
        show_result(result, stdout);
}

static int ask(struct ctl *ctl, struct client *client, json_t *args, struct error *err) {
    bool waits = ctl->command->job, has_job;
    json_t *result = NULL;
    int r = 0;

    if (waits)
        r = client_call(client, "events", json_pack("{s:[s]}", "only", "job"), ctl->timeout_ms,
                        &result, err);
    json_decref(result);
    result = NULL;
    if (r == 0)
        r = client_call(client, ctl->command->name, args, ctl->timeout_ms, &result, err);
    else
        json_decref(args);
    has_job = waits && r == 0 && json_object_get(result, "job");
    if (r < 0)
        r = exit_code_of(err, result);
    else if (has_job)
        r = wait_for_job(ctl, client, result, err);
    if (r == 0 && (!has_job || ctl->no_wait)) {
        show_answer(ctl, result);
        if (ctl->command->stream)
            r = fflush(stdout) == EOF ? EXIT_FAILED : follow(ctl, client, err);
    }
    json_decref(result);
    return r;
}

/* A command may mean something else to a network than to a machine: the one that fits the words,
 * until it is known who answers. */
static json_t *read_words(struct ctl *ctl, struct error *err) {
    const struct command *of_network = command_find(network_commands, ctl->command->name);
    json_t *args = command_parse(ctl->command, ctl->argc, ctl->argv, err);
    struct error e = {0};

    if (args || !of_network || of_network == ctl->command)
        return args;
    args = command_parse(of_network, ctl->argc, ctl->argv, &e);
    if (args) {
        ctl->command = of_network;
        *err = e;
    }
    return args;
}

/* The same for the program that answers; takes the arguments. */
static json_t *fit_words(struct ctl *ctl, const struct client *client, json_t *args,
                         struct error *err) {
    const char *program = json_string_value(json_object_get(client_greeting(client), "vivarium"));
    bool network = program && !strcmp(program, "viv-net");
    const struct command *c =
        command_find(network ? network_commands : control_commands, ctl->command->name);

    if (c == ctl->command)
        return args;
    json_decref(args);
    if (!c) {
        error_set(err, -EINVAL, "'%s' is no command of a %s: 'viv-ctl --help' lists them",
                  ctl->command->name, network ? "network" : "machine");
        return NULL;
    }
    ctl->command = c;
    return command_parse(c, ctl->argc, ctl->argv, err);
}

static int run(struct ctl *ctl, struct error *err) {
    json_t *args = read_words(ctl, err);
    struct client *client;
    int code;

    if (!args)
        return EXIT_USAGE;
    client = client_open(ctl->socket, on_event, ctl, err);
    if (!client) {
        json_decref(args);
        return err->code == -ECONNRESET || err->code == -ETIMEDOUT || err->code == -EPROTO
                   ? EXIT_LOST
                   : EXIT_NO_MACHINE;
    }
    args = fit_words(ctl, client, args, err);
    code = args ? ask(ctl, client, args, err) : EXIT_USAGE;
    client_close(client);
    return code;
}

static void answer(const struct ctl *ctl) {
    if (ctl->help)
        command_help(ctl->command, "viv-ctl", stdout);
    else if (!strcmp(ctl->text, "--help-man"))
        print_man();
    else if (!strcmp(ctl->text, "--help-markdown"))
        command_list_markdown(control_commands, control_events, stdout);
    else if (!strcmp(ctl->text, "--help-markdown-networks"))
        command_list_markdown(network_commands, network_events, stdout);
    else if (!strcmp(ctl->text, "--completion"))
        print_completion();
    else if (!strcmp(ctl->text, "--version"))
        puts("viv-ctl " VIVARIUM_VERSION);
    else
        print_help();
}

int main(int argc, char **argv) {
    struct ctl ctl = {0};
    struct error err = {0};
    int code = 0;

    signal(SIGPIPE, SIG_IGN); /* the output's end is found out by writing */
    ctl.progress = isatty(STDERR_FILENO);
    if (parse(&ctl, argc, argv, &err) < 0)
        code = EXIT_USAGE;
    else if (ctl.text || ctl.help)
        answer(&ctl);
    else {
        assert(ctl.command);
        code = run(&ctl, &err);
    }
    if (err.code)
        fprintf(stderr, "viv-ctl: %s\n", err.text);
    if (fflush(stdout) == EOF && code == EXIT_OK)
        code = EXIT_FAILED;
    return code;
}
