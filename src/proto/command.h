/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Declarations of commands: what there is to say to a program, in tables without behaviour.
 * Checking of arguments, the words of a command line, help, completion and the tables of the
 * documentation are all derived from them.
 */
#ifndef PROTO_COMMAND_H
#define PROTO_COMMAND_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

enum command_type {
    COMMAND_END, /* ends a list of arguments */
    COMMAND_BOOL,
    COMMAND_INT,     /* min .. max */
    COMMAND_STRING,  /* min .. max bytes */
    COMMAND_PATH,    /* the same: of a file on the host of the program, absolute in a message */
    COMMAND_CHOICE,  /* one of `choices`, which are separated by '|' */
    COMMAND_CHOICES, /* an array of them; on a command line separated by commas */
    COMMAND_WORDS,   /* an array of min .. max strings; on a command line all that follows "--" */
    COMMAND_INTS     /* the same of numbers, min .. max; at least one */
};

struct command_arg {
    const char *name; /* words joined by '-' */
    enum command_type type;
    bool required; /* on a command line these come first, in order, without their names */
    int64_t min, max;
    const char *choices;
    const char *help; /* half a sentence, no full stop */
};

enum command_class { COMMAND_READ, COMMAND_OPERATE }; /* the permission that it needs */

enum { COMMAND_MAX_ARGS = 8 };

struct command {
    const char *name; /* NULL ends a table */
    enum command_class needs;
    const char *help;    /* one or more sentences without the last full stop */
    const char *answer;  /* what the result holds, half a sentence */
    const char *example; /* the words of a command line behind the socket */
    bool stream;         /* its answer is only the beginning: events follow */
    bool job;            /* it answers with the number of a job that goes on */
    struct command_arg args[COMMAND_MAX_ARGS + 1];
};

struct event { /* what a program tells unasked */
    const char *name, *help, *data;
};

const struct command *command_find(const struct command *table, const char *name);

/* 0, or -EINVAL with a sentence: unknown or missing arguments, wrong types, limits. NULL = {}. */
int command_check(const struct command *c, const json_t *args, struct error *err);
/* The object of arguments that the words of a command line mean, checked. */
json_t *command_parse(const struct command *c, int argc, char **argv, struct error *err);

/* "NAME ARG [--other VALUE]": into `out`. */
void command_usage(const struct command *c, char *out, size_t size);
/* The value of an argument as help shows it: "1..16", "a|b", "PATH". */
void command_value(const struct command_arg *a, char *out, size_t size);

/* Lists for people: plain text, a manual page's section, Markdown. */
void command_list_help(const struct command *table, FILE *f);
void command_help(const struct command *c, const char *program, FILE *f);
void command_list_man(const struct command *table, const char *program, FILE *f);
void command_list_markdown(const struct command *table, const struct event *events, FILE *f);

#endif
