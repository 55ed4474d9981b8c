/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of failure.h as functions. */
#include "proto/failure.h"

#include <string.h>

static const struct {
    const char *word, *help;
    int status, exit_code;
} kinds[] = {[FAILURE_NONE] = {"", "done", 200, EXIT_CODE_OK},
#define X(name, word, status, code, help) [FAILURE_##name] = {word, help, status, code},
             FAILURES(X)
#undef X
};

const char *failure_word(enum failure f) { return kinds[f].word; }

int failure_status(enum failure f) { return kinds[f].status; }

int failure_exit_code(enum failure f) { return kinds[f].exit_code; }

const char *failure_help(enum failure f) { return kinds[f].help; }

enum failure failure_find(const char *word) {
    for (unsigned i = 1; word && i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (!strcmp(kinds[i].word, word))
            return (enum failure)i;
    return FAILURE_FAILED;
}
