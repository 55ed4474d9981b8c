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

struct agent_call {
    int fd;
    struct agent_reader *reader;
    const json_t *request;
};

typedef int agent_fn(struct agent_call *call, struct error *err);

agent_fn agent_exec;                             /* exec.c */
agent_fn agent_get, agent_put;                   /* files.c */
agent_fn agent_freeze;                           /* freeze.c */
agent_fn agent_info, agent_time, agent_shutdown; /* system.c */

/* Answers with the object, which is taken. */
int agent_answer(struct agent_call *call, json_t *result, struct error *err);
/* A string of the request; NULL if it is missing. */
const char *agent_text(const struct agent_call *call, const char *key);
/* A number of the request within [min, max]; `otherwise` if it is missing. */
int agent_number(const struct agent_call *call, const char *key, int64_t min, int64_t max,
                 int64_t otherwise, int64_t *ret, struct error *err);

#endif
