/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * viv: the command line of the manager. table.c declares every command once; what flags it has
 * comes from the resource's declaration (proto/resource.h). Parsing, help, manual page and
 * completion are derived from both.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "cli/remote.h"
#include "proto/resource.h"

enum { CLI_MAX_NAMES = 64 };

struct cli;

enum cli_names {
    NO_NAME,
    ONE_NAME,
    TWO_NAMES,
    ONE_OR_TWO_NAMES,
    THREE_NAMES,
    SOME_NAMES,
    NAME_AND_WORDS, /* the words behind the name are not looked at; flags have short forms */
    NAME_THEN_WORDS /* the same, but only behind "--", and they may be missing */
};

struct cli_command {
    const char *words;    /* "image build" */
    const char *resource; /* whose declaration gives the flags; NULL: none */
    const char *op;
    enum cli_names names;
    const char *operand;     /* what a name is called in usage lines */
    const char *help;        /* one or more sentences without the last full stop */
    const char *example;     /* words behind "viv" */
    const struct field *own; /* flags that only viv has */
    int (*run)(struct cli *c);
};

extern const struct cli_command cli_commands[]; /* ends with words NULL */

/* Of the commands from this one on; NULL: that of the one before. */
const char *cli_heading(const struct cli_command *c);

struct cli_common {           /* a flag that every command has */
    const char *flag, *value; /* value NULL: a switch */
    const char *variable;     /* of the environment, that it sets (far.h) */
    const char *help;
};

extern const struct cli_common cli_commons[]; /* ends with flag NULL */

struct cli {
    const struct cli_command *command;
    const struct resource *resource; /* of the command, or NULL */
    struct remote *remote;
    const char *name[CLI_MAX_NAMES];
    unsigned names;
    char **rest; /* of NAME_AND_WORDS and NAME_THEN_WORDS */
    int rest_count;
    int code;      /* if not 0: the exit code */
    json_t *flags; /* what was given, by the names of the fields */
    bool json, system, help;
    bool progress; /* on a terminal */
    struct remote_failure failure;
};

/* ---- flags ---- */

/* Every flag of a command in turn, NULL behind the last one. */
const struct field *cli_flag(const struct cli_command *c, unsigned i);
bool cli_given(const struct cli *c, const char *flag);
bool cli_true(const struct cli *c, const char *flag);
const char *cli_text(const struct cli *c, const char *flag); /* "" if not given */
int64_t cli_number(const struct cli *c, const char *flag, int64_t standard);

/* A path as the manager finds it, whose working folder is another one. */
json_t *cli_path(const char *path);

/* 0, or a sentence in err. */
int cli_parse(struct cli *c, int argc, char **argv, struct error *err);

/* ---- texts (help.c, completion.c) ---- */

void cli_help(FILE *f);
void cli_command_help(const struct cli_command *c, FILE *f);
void cli_man(FILE *f);
void cli_markdown(FILE *f);
/* false: no such shell */
bool cli_completion(const char *shell, FILE *f);

/* ---- results (show.c) ---- */

void show_json(const json_t *v);
/* With --json {word: [the names of the command]}, for what has no answer of its own. */
void show_names(const struct cli *c, const char *word);
void show_yaml(const struct resource *r, const json_t *items); /* what `viv apply` takes */
void show_value(const struct field *f, const json_t *v, char *out, size_t size);
void show_table(const struct resource *r, const json_t *items);
void show_item(const struct resource *r, const json_t *item);
/* The fields from the one called `first` on. */
void show_fields(const struct resource *r, const char *first, const json_t *item);
void show_event(const json_t *event);
/* A word for the state that a machine has come to, on standard error; nothing with --json. */
void show_note(const struct cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void show_progress(struct cli *c, const char *what, int percent, const char *stage);
void show_progress_end(struct cli *c);
/* Says why; returns the exit code. */
int show_failure(const struct cli *c);

/* ---- asking (ask.c) ---- */

/* Members of an item. */
const char *item_text(const json_t *item, const char *part, const char *name);
json_t *cli_spec(const struct cli *c, const struct operation *op); /* what flags say of a spec */
int cli_list(struct cli *c, json_t **ret); /* all pages of the command's resource as one array */
/* A table of what machines have, or the one of --vm: add_rows appends a machine's. */
int cli_list_parts(struct cli *c, const struct resource *table,
                   void (*add_rows)(json_t *rows, const json_t *vm));
json_t *cli_args(const struct cli *c, const char *op); /* of an operation */
/* Waits until the machine has settled; 0 with *ret (for json_decref), or -1. */
int cli_settle(struct cli *c, const char *name, int64_t seconds, json_t **ret);
/* Asks the operation `wait` of a resource until it answers; a state `failed` is a failure. */
int cli_wait_ready(struct cli *c, const struct resource *r, const char *name, json_t **ret);
/* After no agent answered in a machine, c->failure says why: waits for it if it may come yet, as
 * --wait-agent says. 0: it is there, and no failure any more. */
int cli_await_agent(struct cli *c, const char *name);
/* Waits for a job with a bar; -1 with the failure if it did not end well. */
int cli_wait_job(struct cli *c, const char *job, const char *what);
int cli_ensure_image(struct cli *c, const char *name);
/* Waits for the end of a deletion. */
int cli_gone(struct cli *c, const char *name);

/* (history.c) */
int cli_top_history(struct cli *c);
void cli_show_history(struct cli *c, const char *name, int width);

/* 0 detached, 1 the machine has ended, -1 a failure (console.c). */
int cli_console(struct cli *c, const char *name);

/* ---- machines (vm.c, guest.c, oci.c) ---- */

int cli_create(struct cli *c, const char *name, json_t *spec, bool on, json_t **ret);
/* A start that has failed is a failure of the command. */
int cli_check_started(struct cli *c, const json_t *vm);
/* Console until the end, or until it is left: 0, or -1; 1: the machine has ended. */
int cli_attach(struct cli *c, const char *name);
/* Runs the words of the command in a guest; `image`: as those of its OCI image. c->code gets the
 * exit code. */
int cli_exec(struct cli *c, const char *name, bool image);
/* The image of the library that an OCI image becomes, imported if need be, and a name for machines.
 */
int cli_ensure_oci(struct cli *c, const char *word, char image[80], char base[80]);
/* The same for what a user calls an image: debian, debian:13 or oci:FILE. */
int cli_find_image(struct cli *c, const char *word, char image[80], char base[80]);

/* ---- commands ---- */

int do_run(struct cli *c);
int do_create(struct cli *c);
int do_edit(struct cli *c);
int do_action(struct cli *c);
int do_rm(struct cli *c);
int do_list(struct cli *c);
int do_show(struct cli *c);
int do_top(struct cli *c);
int do_wait(struct cli *c);
int do_console(struct cli *c);
int do_exec(struct cli *c);
int do_cp(struct cli *c);
int do_ssh(struct cli *c);
int do_snapshot_create(struct cli *c);
int do_snapshot_revert(struct cli *c);
int do_snapshot_rm(struct cli *c);
int do_clone(struct cli *c);
int do_template_create(struct cli *c);
int do_template_list(struct cli *c);
int do_net_create(struct cli *c);
int do_net_rm(struct cli *c);
int do_forward_add(struct cli *c);
int do_forward_list(struct cli *c);
int do_forward_rm(struct cli *c);
int do_nic_add(struct cli *c);
int do_nic_rm(struct cli *c);
int do_nic_list(struct cli *c);
int do_device_add(struct cli *c);
int do_device_rm(struct cli *c);
int do_device_list(struct cli *c);
int do_logs(struct cli *c);
int do_build(struct cli *c);
int do_import(struct cli *c);
int do_export(struct cli *c);
int do_image_rm(struct cli *c);
int do_job_wait(struct cli *c);
int do_job_cancel(struct cli *c);
int do_events(struct cli *c);
int do_follow(struct cli *c);
int do_token_create(struct cli *c);
int do_token_rm(struct cli *c);
int do_portal(struct cli *c);
int do_vnc(struct cli *c);
int do_medium(struct cli *c);
int do_screenshot(struct cli *c);
int do_send_key(struct cli *c);
int do_type(struct cli *c);
int do_pointer(struct cli *c);
int do_doctor(struct cli *c);
int do_host_devices(struct cli *c);
int do_volume_create(struct cli *c);
int do_volume_resize(struct cli *c);
int do_volume_attach(struct cli *c);
int do_volume_detach(struct cli *c);
int do_volume_rm(struct cli *c);
int do_backup_create(struct cli *c);
int do_backup_list(struct cli *c);
int do_apply(struct cli *c);
int do_diff(struct cli *c);
int do_set_rm(struct cli *c);
int do_completion(struct cli *c);

#endif
