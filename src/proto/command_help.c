/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tables of commands as people read them: usage lines, help, manual page, Markdown. */
#include <inttypes.h>
#include <string.h>

#include "base/man.h"
#include "proto/command.h"

static const char *const class_names[] = {[COMMAND_READ] = "read", [COMMAND_OPERATE] = "operate"};

static const char *type_text(const struct command_arg *a, char *out, size_t size) {
    switch (a->type) {
    case COMMAND_BOOL:
        snprintf(out, size, "bool");
        break;
    case COMMAND_INT:
    case COMMAND_INTS:
        snprintf(out, size, "%" PRId64 "..%" PRId64 "%s", a->min, a->max,
                 a->type == COMMAND_INTS ? ", ..." : "");
        break;
    case COMMAND_STRING:
        snprintf(out, size, "string");
        break;
    case COMMAND_PATH:
        snprintf(out, size, "path");
        break;
    case COMMAND_CHOICE:
    case COMMAND_CHOICES:
        snprintf(out, size, "%s%s", a->choices, a->type == COMMAND_CHOICES ? ", ..." : "");
        break;
    case COMMAND_WORDS:
        snprintf(out, size, "strings");
        break;
    case COMMAND_END:
        break;
    }
    return out;
}

void command_value(const struct command_arg *a, char *out, size_t size) {
    type_text(a, out, size);
    if (a->type == COMMAND_STRING || a->type == COMMAND_PATH || a->type == COMMAND_INT ||
        a->type == COMMAND_INTS) {
        size_t n = 0;

        for (; a->name[n] && n + 1 < size; n++) /* NAME instead of a type */
            out[n] = a->name[n] >= 'a' && a->name[n] <= 'z' ? (char)(a->name[n] - 32) : a->name[n];
        out[n] = 0;
    }
}

void command_usage(const struct command *c, char *out, size_t size) {
    size_t at = (size_t)snprintf(out, size, "%s", c->name);
    char value[160];

    for (int required = 1; required >= 0; required--)
        for (const struct command_arg *a = c->args; a->type != COMMAND_END; a++) {
            const char *form = a->required ? " %2$s" : " [--%1$s %2$s]";

            if (a->required != required || at >= size)
                continue;
            command_value(a, value, sizeof(value));
            if (a->type == COMMAND_BOOL)
                form = " [--%1$s]";
            if (a->type == COMMAND_WORDS)
                form = " [-- %1$s...]";
            at += (size_t)snprintf(out + at, size - at, form, a->name, value);
        }
}

void command_list_help(const struct command *table, FILE *f) {
    char usage[256];

    for (; table->name; table++) {
        command_usage(table, usage, sizeof(usage));
        fprintf(f, "  %s\n      %s.\n", usage, table->help);
    }
}

void command_help(const struct command *c, const char *program, FILE *f) {
    char usage[256], type[160];

    command_usage(c, usage, sizeof(usage));
    fprintf(f, "usage: %s SOCKET %s\n\n%s.\nAnswer: %s.\n", program, usage, c->help, c->answer);
    if (c->args[0].type != COMMAND_END)
        fprintf(f, "\nArguments:\n");
    for (const struct command_arg *a = c->args; a->type != COMMAND_END; a++)
        fprintf(f, "  %-12s%s (%s%s).\n", a->name, a->help, type_text(a, type, sizeof(type)),
                a->required ? ", required" : "");
    fprintf(f, "\nExample:\n  %s machine.sock %s\n", program, c->example);
}

void command_list_man(const struct command *table, const char *program, FILE *f) {
    char usage[256], type[160], line[400];

    for (; table->name; table++) {
        command_usage(table, usage, sizeof(usage));
        man_item(f, usage, NULL, table->help);
        fputs(".\n", f);
        for (const struct command_arg *a = table->args; a->type != COMMAND_END; a++) {
            snprintf(line, sizeof(line), "%s: %s (%s).\n", a->name, a->help,
                     type_text(a, type, sizeof(type)));
            fputs(".br\n", f);
            man_text(f, line);
        }
        snprintf(line, sizeof(line), "%s machine.sock %s", program, table->example);
        fputs(".br\nExample: \n.B \"", f);
        man_text(f, line);
        fputs("\"\n", f);
    }
}

/* A '|' would end the cell of a table. */
static void put_cell(FILE *f, const char *s) {
    for (; *s; s++)
        fprintf(f, *s == '|' ? "\\|" : "%c", *s);
}

static void put_args(const struct command *c, FILE *f) {
    char type[160];

    for (const struct command_arg *a = c->args; a->type != COMMAND_END; a++) {
        fprintf(f, "%s`%s`%s: %s (", a == c->args ? "" : "; ", a->name,
                a->required ? ", required" : "", a->help);
        put_cell(f, type_text(a, type, sizeof(type)));
        fputs(")", f);
    }
}

void command_list_markdown(const struct command *table, const struct event *events, FILE *f) {
    fputs("| command | needs | what it does | arguments | result |\n| --- | --- | --- | --- | --- "
          "|\n",
          f);
    for (; table->name; table++) {
        fprintf(f, "| `%s` | %s | ", table->name, class_names[table->needs]);
        put_cell(f, table->help);
        fputs(" | ", f);
        put_args(table, f);
        fputs(" | ", f);
        put_cell(f, table->answer);
        fputs(" |\n", f);
    }
    fputs("\n| event | when | data |\n| --- | --- | --- |\n", f);
    for (; events->name; events++) {
        fprintf(f, "| `%s` | ", events->name);
        put_cell(f, events->help);
        fputs(" | ", f);
        put_cell(f, events->data);
        fputs(" |\n", f);
    }
}
