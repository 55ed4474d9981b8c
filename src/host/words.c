/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/words.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void words_add(struct words *w, const char *fmt, ...) {
    va_list ap;

    va_start(ap, fmt);
    if (w->count == WORDS_MOST || vasprintf(&w->word[w->count], fmt, ap) < 0)
        w->bad = true;
    else
        w->count++;
    va_end(ap);
}

char *words_escape(const char *text) {
    char *out = malloc(2 * strlen(text) + 1), *to = out;

    if (!out)
        abort();
    for (; *text; text++) {
        if (*text == ',')
            *to++ = ',';
        *to++ = *text;
    }
    *to = 0;
    return out;
}
