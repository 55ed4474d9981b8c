/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * viv-agent, the program in the guest: what it can be asked for.
 *
 * Contract: each connection has a process of its own that serves one request and ends. A request's
 * function reads further frames from `reader` and answers on `fd`; if it returns negative, `err` is
 * the answer.
 */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include "proto/agent.h"

#define AGENT_VERSION "0.1.0"

struct command_image;

/* A machine whose first process is ours (init.c). */
struct agent_box {
    const struct command_image *image;
    int ended;             /* a pipe that ends with the image's command */
    struct shared *shared; /* NULL: the host runs all commands */
};

struct agent_call {
    int fd;
    struct agent_reader *reader;
    const json_t *request;
    const struct agent_box *box;       /* NULL: a guest with an init of its own */
    const struct command_image *image; /* of the box */
};

typedef int agent_fn(struct agent_call *call, struct error *err);

agent_fn agent_exec;                             /* exec.c */
agent_fn agent_get, agent_put;                   /* files.c */
agent_fn agent_freeze;                           /* freeze.c */
agent_fn agent_info, agent_time, agent_shutdown; /* system.c */
agent_fn agent_main;                             /* init.c */

/* Serves for ever; box: NULL in a guest that has an init of its own. */
_Noreturn void agent_serve(const struct agent_box *box);
/* Tells the host that it should ask; false: nobody there listens. */
bool agent_knock(void);
/* As the first process. */
_Noreturn void init_main(void);

/* Answers with the object, which is taken. */
int agent_answer(struct agent_call *call, json_t *result, struct error *err);
/* A string of the request; NULL if it is missing. */
const char *agent_text(const struct agent_call *call, const char *key);
/* A number of the request within [min, max]; `otherwise` if it is missing. */
int agent_number(const struct agent_call *call, const char *key, int64_t min, int64_t max,
                 int64_t otherwise, int64_t *ret, struct error *err);

#endif
