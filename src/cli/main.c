/* SPDX-License-Identifier: GPL-2.0-or-later */
/* viv: machines from a shell. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/version.h"
#include "cli/cli.h"

/* What needs no command; true if that was all. */
static bool answer(int argc, char **argv) {
    const char *word = argc > 1 ? argv[1] : "--help";

    if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help"))
        cli_help(stdout);
    else if (!strcmp(word, "--help-man"))
        cli_man(stdout);
    else if (!strcmp(word, "--help-markdown"))
        cli_markdown(stdout);
    else if (!strcmp(word, "--version") || !strcmp(word, "version"))
        puts("viv " VIVARIUM_VERSION);
    else
        return false;
    return true;
}

static int run(struct cli *c) {
    int code = EXIT_CODE_OK;

    c->remote = remote_new(c->system);
    if (c->command->run(c) < 0)
        code = show_failure(c);
    if (c->code)
        code = c->code;
    remote_free(c->remote);
    return code;
}

int main(int argc, char **argv) {
    struct cli c = {.flags = json_object(), .progress = isatty(STDERR_FILENO)};
    struct error err = {0};
    int code = EXIT_CODE_OK;

    signal(SIGPIPE, SIG_IGN); /* found out by writing */
    if (answer(argc, argv))
        ;
    else if (cli_parse(&c, argc - 1, argv + 1, &err) < 0) {
        remote_fail(&c.failure, FAILURE_INVALID, "", "%s", err.text);
        code = show_failure(&c);
    } else if (c.help && !c.command)
        cli_help(stdout);
    else if (c.help)
        cli_command_help(c.command, stdout);
    else
        code = run(&c);
    if ((fflush(stdout) == EOF || ferror(stdout)) && code == EXIT_CODE_OK) {
        fprintf(stderr, "viv: the output cannot be written: %s\n", strerror(errno));
        code = EXIT_CODE_FAILED;
    }
    json_decref(c.flags);
    return code;
}
