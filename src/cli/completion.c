/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Scripts that complete command lines, for three shells, from the table of commands. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static void put_flag(FILE *f, const struct field *flag) {
    fputs("--", f);
    for (const char *p = flag->name; *p; p++)
        fputc(*p == '_' ? '-' : *p, f);
}

static void put_flags(FILE *f, const struct cli_command *c) {
    const struct field *flag;

    for (unsigned i = 0; (flag = cli_flag(c, i)); i++) {
        put_flag(f, flag);
        fputc(' ', f);
    }
    fputs("--json --help", f);
}

/* The command that lists a resource by its names alone; NULL: there is none. */
static const char *list_command(const struct resource *r) {
    for (const struct cli_command *c = cli_commands; c->words; c++) {
        const struct field *f;

        if (c->run != do_list || !c->resource || strcmp(c->resource, r->name) != 0)
            continue;
        for (unsigned i = 0; (f = cli_flag(c, i)); i++)
            if (!strcmp(f->name, "quiet"))
                return c->words;
    }
    return NULL;
}

/* The command whose output are the names that an operand may be; false: there is none. */
static bool names_command(const struct cli_command *c, char *out, size_t size) {
    const struct resource *r = c->resource ? resource_find(c->resource) : NULL;
    const char *list = r ? list_command(r) : NULL;
    const struct operation *op = r && c->op ? resource_op(r, c->op) : NULL;

    if (c->names == NO_NAME || !r)
        return false;
    if (c->run == do_run || c->run == do_build)
        snprintf(out, size, "printf 'debian\\ntiny\\n'");
    else if (!list || (op && op->shape == OP_CREATE && c->names != TWO_NAMES))
        return false;
    else
        snprintf(out, size, "viv %s --quiet 2>/dev/null", list);
    return true;
}

/* Words of the first place; a group once. */
static void put_first_words(FILE *f) {
    const char *last = "";
    size_t len = 0;

    for (const struct cli_command *c = cli_commands; c->words; c++) {
        size_t n = strcspn(c->words, " ");

        if (n == len && !strncmp(c->words, last, n))
            continue;
        fprintf(f, "%s%.*s", c == cli_commands ? "" : " ", (int)n, c->words);
        last = c->words;
        len = n;
    }
}

static void put_second_words(FILE *f) {
    for (const struct cli_command *c = cli_commands; c->words; c++) {
        size_t n = strcspn(c->words, " ");

        if (!c->words[n] || (c > cli_commands && !strncmp(c[-1].words, c->words, n + 1)))
            continue;
        fprintf(f, "            %.*s) w='", (int)n, c->words);
        for (const struct cli_command *k = c; k->words && !strncmp(k->words, c->words, n + 1); k++)
            fprintf(f, "%s%s", k == c ? "" : " ", k->words + n + 1);
        fputs("' ;;\n", f);
    }
}

/* "image|job": words that others follow. */
static void put_groups(FILE *f) {
    const char *last = "";
    size_t len = 0;

    for (const struct cli_command *c = cli_commands; c->words; c++) {
        size_t n = strcspn(c->words, " ");

        if (!c->words[n] || (n == len && !strncmp(c->words, last, n)))
            continue;
        fprintf(f, "%s%.*s", len ? "|" : "", (int)n, c->words);
        last = c->words;
        len = n;
    }
}

static void bash(FILE *f) {
    const struct field *flag;
    char names[120];

    fputs(
        "# bash completion of viv: eval \"$(viv completion bash)\"\n"
        "_viv() {\n"
        "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} w= command=\n"
        "    local n=$COMP_CWORD\n"
        "    COMPREPLY=()\n"
        "    command=${COMP_WORDS[1]}\n"
        "    if [ \"$n\" -eq 1 ]; then\n"
        "        w='",
        f);
    put_first_words(f);
    fputs(" --help --version'\n"
          "        COMPREPLY=($(compgen -W \"$w\" -- \"$word\"))\n"
          "        return\n"
          "    fi\n"
          "    if [ \"$n\" -eq 2 ]; then\n"
          "        case $command in\n",
          f);
    put_second_words(f);
    fputs(
        "        esac\n"
        "        if [ -n \"$w\" ]; then COMPREPLY=($(compgen -W \"$w\" -- \"$word\")); return; fi\n"
        "    fi\n"
        "    case $command in ",
        f);
    put_groups(f);
    fputs(") command+=\" ${COMP_WORDS[2]}\" ;; esac\n"
          "    case \"$command $before\" in\n",
          f);
    for (const struct cli_command *c = cli_commands; c->words; c++)
        for (unsigned i = 0; (flag = cli_flag(c, i)); i++)
            if (flag->choices) {
                fprintf(f, "        '%s ", c->words);
                put_flag(f, flag);
                fputs("') w='", f);
                for (const char *p = flag->choices; *p; p++)
                    fputc(*p == '|' ? ' ' : *p, f);
                fputs("' ;;\n", f);
            }
    fputs("    esac\n"
          "    if [ -n \"$w\" ]; then COMPREPLY=($(compgen -W \"$w\" -- \"$word\")); return; fi\n"
          "    case $command in\n",
          f);
    for (const struct cli_command *c = cli_commands; c->words; c++) {
        fprintf(f, "        '%s') w='", c->words);
        put_flags(f, c);
        fputs("'", f);
        if (names_command(c, names, sizeof(names)))
            fprintf(f, "; [[ $word == -* ]] || w=$(%s)", names);
        else if (c->run == do_completion)
            fputs("; w='bash zsh fish'", f);
        fputs(" ;;\n", f);
    }
    fputs("    esac\n"
          "    COMPREPLY=($(compgen -W \"$w\" -- \"$word\"))\n"
          "}\n"
          "complete -F _viv viv\n",
          f);
}

static void zsh(FILE *f) {
    fputs("#compdef viv\n"
          "# zsh completion of viv: eval \"$(viv completion zsh)\"\n"
          "autoload -U +X bashcompinit && bashcompinit\n",
          f);
    bash(f);
}

/* In single quotes. */
static void put_quoted(FILE *f, const char *s, size_t n) {
    fputc('\'', f);
    for (size_t i = 0; i < n && s[i]; i++)
        fprintf(f, s[i] == '\'' ? "\\'" : "%c", s[i]);
    fputc('\'', f);
}

static void fish(FILE *f) {
    const struct field *flag;
    char names[120];

    fputs("# fish completion of viv: viv completion fish | source\n"
          "complete -c viv -f\n"
          "function __viv_is\n"
          "    set -l words (commandline -opc)\n"
          "    test \"$words[2..-1]\" = \"$argv\"; or string match -q -- \"$argv *\" "
          "\"$words[2..-1]\"\n"
          "end\n",
          f);
    for (const struct cli_command *c = cli_commands; c->words; c++) {
        size_t n = strcspn(c->words, " ");

        if (c->words[n])
            fprintf(f,
                    "complete -c viv -n '__fish_use_subcommand' -a %.*s\n"
                    "complete -c viv -n '__viv_is %.*s; and test (count (commandline -opc)) -eq "
                    "2' -a %s -d ",
                    (int)n, c->words, (int)n, c->words, c->words + n + 1);
        else
            fprintf(f, "complete -c viv -n '__fish_use_subcommand' -a %s -d ", c->words);
        put_quoted(f, c->help, strcspn(c->help, ".:;"));
        fputc('\n', f);
        if (names_command(c, names, sizeof(names)))
            fprintf(f, "complete -c viv -n '__viv_is %s' -a \"(%s)\"\n", c->words, names);
        for (unsigned i = 0; (flag = cli_flag(c, i)); i++) {
            fprintf(f, "complete -c viv -n '__viv_is %s' -l ", c->words);
            for (const char *p = flag->name; *p; p++)
                fputc(*p == '_' ? '-' : *p, f);
            if (flag->type == FIELD_TEXT || field_is_host_file(flag) || flag->flags & FIELD_REPEAT)
                fputs(" -r -F", f); /* names of files */
            else if (flag->type != FIELD_BOOL)
                fputs(" -x", f);
            if (flag->choices) {
                fputs(" -a '", f);
                for (const char *p = flag->choices; *p; p++)
                    fputc(*p == '|' ? ' ' : *p, f);
                fputs("'", f);
            }
            fputs(" -d ", f);
            put_quoted(f, flag->help, strcspn(flag->help, ";:("));
            fputc('\n', f);
        }
    }
}

bool cli_completion(const char *shell, FILE *f) {
    if (!strcmp(shell, "bash"))
        bash(f);
    else if (!strcmp(shell, "zsh"))
        zsh(f);
    else if (!strcmp(shell, "fish"))
        fish(f);
    else
        return false;
    return true;
}
