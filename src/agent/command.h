/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who runs a command, with which environment and where. Users and groups are read from /etc/passwd
 * and /etc/group: a static program cannot load other sources.
 */
#ifndef AGENT_COMMAND_H
#define AGENT_COMMAND_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

enum { COMMAND_GROUPS = 256, COMMAND_ARGS = 4096, COMMAND_NOT_RUN = 126, COMMAND_NOT_FOUND = 127 };

struct command_user {
    char *name, *home, *shell;
    uid_t uid;
    gid_t group[COMMAND_GROUPS]; /* the first is its own */
    int groups;
};

/* What an image says of its commands (oci/config.h); NULL members: nothing. */
struct command_image {
    const json_t *entrypoint, *cmd, *env;
    const char *user, *workdir;
};

/* "NAME", "UID", each with ":GROUP" or ":GID" behind it. */
int command_find_user(struct command_user *ret, const char *name, struct error *err);
/* The words as argv, whose strings belong to the lists; `first` and `second` may be NULL. */
char **command_argv(const json_t *first, const json_t *second, struct error *err);
/* The environment of this process becomes that of a command. */
void command_environment(const struct command_user *u, const struct command_image *image,
                         const json_t *env, bool tty);
/* This process becomes the user's and goes to the folder (NULL: the user's own); -1 with errno. */
int command_become(const struct command_user *u, const char *folder);

#endif
