/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of roles. */
#include "proto/role.h"

#include <string.h>

static const char *const words[] = {[ROLE_NONE] = "",
                                    [ROLE_VIEWER] = "viewer",
                                    [ROLE_OPERATOR] = "operator",
                                    [ROLE_ADMIN] = "admin"};

/* Who lets others in is an admin, and who hands out what is the host's. */
static const char *const of_admin[] = {"token.", "portal.", "vm.lend"};

enum role role_find(const char *word) {
    for (enum role r = ROLE_VIEWER; r <= ROLE_ADMIN; r++)
        if (!strcmp(words[r], word))
            return r;
    return ROLE_NONE;
}

const char *role_word(enum role r) { return words[r]; }

bool role_may(enum role r, const char *permission) {
    const char *verb = strchr(permission, '.');

    if (r == ROLE_ADMIN)
        return true;
    for (unsigned i = 0; i < sizeof(of_admin) / sizeof(of_admin[0]); i++)
        if (!strncmp(permission, of_admin[i], strlen(of_admin[i])))
            return false;
    return r == ROLE_OPERATOR || (r == ROLE_VIEWER && verb && !strcmp(verb, ".read"));
}

bool role_names_files(enum role r) { return r == ROLE_ADMIN; }
