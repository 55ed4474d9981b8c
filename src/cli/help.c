/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tables say, for people: help, manual page, Markdown. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/man.h"
#include "cli/cli.h"
#include "proto/units.h"

static const char about[] = "virtual machines for everybody on this host";

static void flag_name(const struct field *f, char *out, size_t size) {
    size_t n = (size_t)snprintf(out, size, "--%s", f->name);

    for (size_t i = 2; i < n && i < size; i++)
        if (out[i] == '_')
            out[i] = '-';
}

/* "SIZE", "off|on", "" for a switch. */
static void flag_value(const struct field *f, char *out, size_t size) {
    const char *word = f->type == FIELD_SIZE   ? "SIZE"
                       : f->type == FIELD_INT  ? "NUMBER"
                       : f->type == FIELD_TEXT ? "FILE"
                                               : f->name;

    snprintf(out, size, "%s",
             f->type == FIELD_BOOL     ? ""
             : f->type == FIELD_CHOICE ? f->choices
                                       : word);
    if (f->type != FIELD_CHOICE)
        for (char *p = out; *p; p++)
            *p = *p == '_' ? '-' : (char)toupper((unsigned char)*p);
}

/* "16M to 128G, default 1G" */
static void flag_limits(const struct field *f, char *out, size_t size) {
    char limits[160] = "", standard[64] = "";
    json_t *v = f->standard ? json_loads(f->standard, JSON_DECODE_ANY, NULL) : NULL;

    if (f->type == FIELD_INT || f->type == FIELD_SIZE)
        field_limits(f, limits, sizeof(limits));
    if (json_is_string(v) && json_string_length(v))
        snprintf(standard, sizeof(standard), "default %s", json_string_value(v));
    else if (f->type == FIELD_SIZE && v)
        snprintf(standard, sizeof(standard), "default "),
            units_put_size(json_integer_value(v), standard + 8, 40);
    else if (json_is_integer(v))
        snprintf(standard, sizeof(standard), "default %lld", (long long)json_integer_value(v));
    snprintf(out, size, "%s%s%s%s%s", *limits || *standard ? " (" : "", limits,
             *limits && *standard ? ", " : "", standard, *limits || *standard ? ")" : "");
    json_decref(v);
}

static void usage(const struct cli_command *c, char *out, size_t size) {
    snprintf(out, size, "viv %s%s%s%s%s%s", c->words, c->names ? " " : "",
             c->operand ? c->operand : "", c->names == SOME_NAMES ? "..." : "",
             cli_flag(c, 0) ? " [FLAG]..." : "",
             c->names == NAME_AND_WORDS    ? " [--] WORD..."
             : c->names == NAME_THEN_WORDS ? " [-- WORD...]"
                                           : "");
}

void cli_help(FILE *f) {
    char line[160];

    fprintf(f,
            "viv: %s.\n\nusage: viv COMMAND [NAME]... [FLAG]...\n\nBegin with:  viv run debian\n"
            "\n'viv COMMAND --help' says more of a command.\n",
            about);
    for (const struct cli_command *c = cli_commands; c->words; c++) {
        size_t n = strcspn(c->help, ".:;");

        usage(c, line, sizeof(line));
        if (cli_heading(c))
            fprintf(f, "\n%s:\n", cli_heading(c));
        fprintf(f, "  %-34s  %.*s\n", line + 4, (int)n, c->help);
    }
    fprintf(f, "\nFlags of all commands:\n");
    for (const struct cli_common *k = cli_commons; k->flag; k++) {
        snprintf(line, sizeof(line), "%s%s%s", k->flag, k->value ? " " : "",
                 k->value ? k->value : "");
        fprintf(f, "  %-34s  %s\n", line, k->help);
    }
    fprintf(f, "  %-34s  %s\n  %-34s  %s\n", "--version", "print the version", "--help-man",
            "print the manual page");
    fprintf(f, "\nA manager (vivd) is started when it is needed. VIV_HOME names the folder where "
               "everything is kept;\nwithout it that is ~/.local/share/vivarium.\n\nExit codes:\n"
               "  0  done\n");
    for (int code = 1; code <= 7; code++) {
        bool first = true;

        for (enum failure k = FAILURE_INVALID; k <= FAILURE_TIMEOUT; k++)
            if (failure_exit_code(k) == code) {
                if (first)
                    fprintf(f, "  %d  ", code);
                fprintf(f, "%s%s", first ? "" : "; ", failure_help(k));
                first = false;
            }
        fputs(first ? "" : "\n", f);
    }
}

void cli_command_help(const struct cli_command *c, FILE *f) {
    char line[200], name[64], value[160], limits[240];
    const struct field *flag;

    usage(c, line, sizeof(line));
    fprintf(f, "usage: %s\n\n%s.\n", line, c->help);
    for (unsigned i = 0; (flag = cli_flag(c, i)); i++) {
        if (!i)
            fprintf(f, "\nFlags:\n");
        flag_name(flag, name, sizeof(name));
        flag_value(flag, value, sizeof(value));
        flag_limits(flag, limits, sizeof(limits));
        fprintf(f, "  %s%s%s\n      %s%s.\n", name, *value ? " " : "", value, flag->help, limits);
    }
    fprintf(f, "\nExample:\n  viv %s\n", c->example);
}

void cli_man(FILE *f) {
    char line[200], name[64], value[160];
    const struct field *flag;

    man_begin(f, "viv", about, "COMMAND [NAME]... [FLAG]...");
    fputs(".SH COMMANDS\n", f);
    for (const struct cli_command *c = cli_commands; c->words; c++) {
        usage(c, line, sizeof(line));
        if (cli_heading(c))
            fprintf(f, ".SS %s\n", cli_heading(c));
        man_item(f, line, NULL, c->help);
        fputs(".\n.RS\n", f);
        for (unsigned i = 0; (flag = cli_flag(c, i)); i++) {
            flag_name(flag, name, sizeof(name));
            flag_value(flag, value, sizeof(value));
            man_item(f, name, value, flag->help);
        }
        fputs(".RE\n", f);
    }
    fputs(".SH FLAGS OF ALL COMMANDS\n", f);
    for (const struct cli_common *k = cli_commons; k->flag; k++)
        man_item(f, k->flag, k->value, k->help);
    fputs(".SH EXIT STATUS\n", f);
    man_item(f, "0", NULL, "done");
    for (enum failure k = FAILURE_INVALID; k <= FAILURE_TIMEOUT; k++) {
        snprintf(line, sizeof(line), "%d", failure_exit_code(k));
        man_item(f, line, failure_word(k), failure_help(k));
    }
    fputs(".SH SEE ALSO\n.BR vivd (1),\n.BR viv\\-vm (1)\n", f);
}

static void put_cell(FILE *f, const char *s) {
    for (; *s; s++)
        fprintf(f, *s == '|' ? "\\|" : "%c", *s);
}

void cli_markdown(FILE *f) {
    char line[200], name[64], value[160], *flags;
    const struct field *flag;

    fputs("| command | what it does | flags |\n| --- | --- | --- |\n", f);
    for (const struct cli_command *c = cli_commands; c->words; c++) {
        usage(c, line, sizeof(line));
        flags = strstr(line, " [FLAG]...");
        if (flags)
            memmove(flags, flags + strlen(" [FLAG]..."), strlen(flags + strlen(" [FLAG]...")) + 1);
        fprintf(f, "| `%s` | ", line);
        put_cell(f, c->help);
        fputs(" | ", f);
        for (unsigned i = 0; (flag = cli_flag(c, i)); i++) {
            flag_name(flag, name, sizeof(name));
            flag_value(flag, value, sizeof(value));
            fprintf(f, "%s`%s%s", i ? ", " : "", name, *value ? " " : "");
            put_cell(f, value);
            fputs("`", f);
        }
        fputs(" |\n", f);
    }
    fputs("\n| `code` of a failure | HTTP | exit code of viv | meaning |\n| --- | --- | --- | --- "
          "|\n",
          f);
    for (enum failure k = FAILURE_INVALID; k <= FAILURE_TIMEOUT; k++)
        fprintf(f, "| `%s` | %d | %d | %s |\n", failure_word(k), failure_status(k),
                failure_exit_code(k), failure_help(k));
}
