/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parts of viv-guest: a connection to the agent, commands, copies. */
#ifndef TOOLS_GUEST_GUEST_H
#define TOOLS_GUEST_GUEST_H

#include "proto/agent.h"

/* Codes that commands of the guest's rarely end with. */
enum { GUEST_FAILED = 125, GUEST_USAGE = 2, GUEST_NO_AGENT = 124, GUEST_LOST = 123 };

struct guest {
    const char *path; /* of the vsock */
    bool json, tty;
    int timeout_ms, seconds;
    const char *user, *cwd;
    json_t *env;                /* NULL: none */
    struct agent_reader reader; /* fd -1: not connected */
};

/* Connects and asks; the answer, or NULL with the sentence. Takes the request. */
json_t *guest_ask(struct guest *g, json_t *request, struct error *err);
/* The next result on the connection. */
json_t *guest_result(struct guest *g, struct error *err);
int guest_thaw(struct guest *g, struct error *err);
int guest_code(const struct error *err); /* our exit code for a failed guest_ask */
void guest_setenv(struct guest *g, const char *assignment); /* "NAME=VALUE" */
void guest_done(struct guest *g);

int guest_exec(struct guest *g, int argc, char **argv, struct error *err);
int guest_copy(struct guest *g, int argc, char **argv, struct error *err);

#endif
