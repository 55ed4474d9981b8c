/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the host's programs ask of the agent in a guest (docs/agent.md): commands, copies, the rest.
 * viv-guest and viv differ in the way to the agent: the guest's vsock, or the manager.
 *
 * Contract: calls wait; a struct guest is for one of them, and ends with guest_done.
 */
#ifndef PROTO_GUEST_H
#define PROTO_GUEST_H

#include "proto/agent.h"

/* Codes that commands of the guest's rarely end with. */
enum { GUEST_FAILED = 125, GUEST_USAGE = 2, GUEST_NO_AGENT = 124, GUEST_LOST = 123 };
/* As shells end where a command is not there, or is none. */
enum { GUEST_NOT_FOUND = 127, GUEST_NOT_RUN = 126 };

struct guest {
    const char *path;                                   /* of the vsock; or: */
    int (*connect)(struct guest *g, struct error *err); /* a descriptor, or negative */
    void *opaque;                                       /* for connect */
    bool json, tty;
    bool tree;  /* copies are of folders, too */
    bool image; /* what runs is the command of the guest's OCI image, with these words */
    int timeout_ms, seconds;
    const char *user, *cwd;
    json_t *env;                /* NULL: none */
    struct agent_reader reader; /* fd -1: not connected */
};

/* The code in an error that the agent itself told of, or that is not the connection's. */
enum { GUEST_REFUSED = -1000 };

int guest_connect(struct guest *g, struct error *err);
/* Connects and sends the request, which it takes. */
int guest_begin(struct guest *g, json_t *request, struct error *err);
/* Connects and asks; the answer, or NULL with the sentence. Takes the request. */
json_t *guest_ask(struct guest *g, json_t *request, struct error *err);
/* The next result on the connection. */
json_t *guest_result(struct guest *g, struct error *err);
int guest_thaw(struct guest *g, struct error *err);
int guest_code(const struct error *err); /* our exit code for a failed guest_ask */
void guest_setenv(struct guest *g, const char *assignment); /* "NAME=VALUE" */
void guest_done(struct guest *g);

/* These give exit codes: 0 or that of the command, or GUEST_... with the sentence. */
int guest_exec(struct guest *g, int argc, char **argv, struct error *err);
/* One file; "-" is standard input or output. It appears whole or not at all. With `tree` also a
 * folder and what is in it (proto/tree.h). If `to` is a folder, the copy goes into it by its name.
 */
int guest_copy_out(struct guest *g, const char *from, const char *to, struct error *err);
int guest_copy_in(struct guest *g, const char *from, const char *to, struct error *err);

#endif
