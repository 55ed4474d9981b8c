/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The words of a program's command line, as they are put together. */
#ifndef HOST_WORDS_H
#define HOST_WORDS_H

#include <stdbool.h>

enum { WORDS_MOST = 192 };

struct words {
    char *word[WORDS_MOST + 1]; /* what is added last is followed by NULL */
    unsigned count;
    bool bad; /* there were too many, or no memory */
};

void words_add(struct words *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Of an option whose parts are separated by commas: those of `text` are doubled. For free. */
char *words_escape(const char *text);

#endif
